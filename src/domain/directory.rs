//! A resource directory as its spec asks for it, checked.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use jiff::SignedDuration;

use super::access::{Endpoint, Hidden};
use super::contact::{Adoption, DesiredContact, DirectoryId, MemberId};

/// What the spec of a ResourceDirectory asks for, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DesiredDirectory {
    /// Where the API is reached.
    pub endpoint: Endpoint,
    /// The directory that must answer; `None` accepts any.
    pub pin: Option<DirectoryId>,
    /// Where the access keys come from.
    pub credentials: DesiredCredentials,
    /// Which namespaces may hold contacts of the directory.
    pub namespaces: NamespaceRule,
    /// What contacts may be bound to; `None`: anything.
    pub allowed_members: Option<BTreeSet<MemberId>>,
    /// Caps what a contact may take over.
    pub adoption: Adoption,
    /// Caps what may be done for any contact.
    pub management: Management,
    /// How often all contacts are read; at least [`Self::POLL_INTERVAL_MIN`].
    pub poll_interval: SignedDuration,
    /// Ceiling of calls per second, from 1 to [`Self::REQUESTS_PER_SECOND_MAX`].
    pub requests_per_second: u32,
    /// Nothing is read or written for the directory.
    pub suspended: bool,
}

impl DesiredDirectory {
    /// How often all contacts are read when the spec does not say.
    pub const POLL_INTERVAL: SignedDuration = SignedDuration::from_mins(5);
    /// The shortest allowed [`Self::poll_interval`].
    pub const POLL_INTERVAL_MIN: SignedDuration = SignedDuration::from_secs(10);
    /// Calls per second when the spec does not say.
    ///
    /// Unverified (A8): that the API takes as many; a sibling API takes 20.
    pub const REQUESTS_PER_SECOND: u32 = 10;
    /// The highest allowed [`Self::requests_per_second`].
    pub const REQUESTS_PER_SECOND_MAX: u32 = 100;

    /// What a contact asks for, as far as the directory allows it.
    #[must_use]
    pub fn capped(&self, wanted: DesiredContact) -> DesiredContact {
        DesiredContact { adoption: wanted.adoption.min(self.adoption), ..wanted }
    }
}

/// What may be done in a directory, whatever its contacts ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Management {
    /// Everything.
    Full,
    /// Everything but deleting contacts: their objects are let go, as under `Retain`.
    NoDelete,
    /// Nothing is written.
    ReportOnly,
}

/// Where the access keys of a directory come from, and what is done with them before they are used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DesiredCredentials {
    /// Where the first keys are.
    pub source: CredentialSource,
    /// The role that is taken with them; `None`: they are used as they are.
    pub assume_role: Option<AssumedRole>,
}

/// Where the access keys of a directory come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CredentialSource {
    /// From the environment's variables with keys; without them, in exchange for the token of the
    /// operator's service account. Never from the node.
    Ambient,
    /// From the operator's environment variables only.
    Environment,
    /// In exchange for the token of the operator's service account (RRSA).
    Rrsa,
    /// From the metadata service of the node. Only if named: a pod must not get the node's rights by
    /// accident.
    InstanceRole,
    /// From a Secret of the operator's own namespace.
    Secret {
        /// The name of the Secret.
        name: String,
    },
}

/// A role that is taken with keys, by `AssumeRole` of STS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssumedRole {
    /// The role.
    pub role_arn: String,
    /// The name of the session; `None`: the operator's own.
    pub session_name: Option<String>,
    /// What the role asks for.
    pub external_id: Option<Hidden>,
    /// Life of the keys in seconds; `None`: as STS has it, 3600.
    pub duration_seconds: Option<u32>,
}

impl AssumedRole {
    /// Characters of a session's name, at least and at most. Source: `AssumeRole` of STS 2015-04-01.
    pub const SESSION_NAME_CHARS: RangeInclusive<usize> = 2..=64;
    /// Characters of an external id, at least and at most. Source: as above.
    pub const EXTERNAL_ID_CHARS: RangeInclusive<usize> = 2..=1224;
    /// Life of keys in seconds, at least and at most; a role may allow less. Source: as above, and
    /// the longest session that a role can be given.
    pub const DURATION_SECONDS: RangeInclusive<u32> = 900..=43_200;

    /// Whether a session may have that name. Source: as above.
    #[must_use]
    pub fn is_session_name(name: &str) -> bool {
        Self::SESSION_NAME_CHARS.contains(&name.len())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".@_-".contains(&byte))
    }
}

/// Which namespaces may hold contacts of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NamespaceRule {
    /// Only the operator's own.
    OwnOnly,
    /// All whose labels match. A selector without words matches every namespace.
    Selector(LabelSelector),
}

/// A label selector: all of its words must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LabelSelector {
    /// Labels that must have exactly this value.
    pub match_labels: BTreeMap<String, String>,
    /// Further demands.
    pub match_expressions: Vec<LabelExpression>,
}

/// One demand of a selector on one label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelExpression {
    /// The label's key.
    pub key: String,
    /// What is demanded of it.
    pub operator: LabelOperator,
}

/// What is demanded of a label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LabelOperator {
    /// The label is there with one of these values.
    In(BTreeSet<String>),
    /// The label is missing or has none of these values.
    NotIn(BTreeSet<String>),
    /// The label is there.
    Exists,
    /// The label is missing.
    DoesNotExist,
}

impl LabelSelector {
    /// Whether an object with these labels is selected, by the rules of Kubernetes.
    ///
    /// Source: `LabelSelectorRequirement` of `meta/v1`; `NotIn` holds for a missing label.
    #[must_use]
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        let Self { match_labels, match_expressions } = self;
        let equal = |(key, value): (&String, &String)| labels.get(key) == Some(value);
        let holds = |expression: &LabelExpression| {
            let value = labels.get(&expression.key);
            match &expression.operator {
                LabelOperator::In(values) => value.is_some_and(|value| values.contains(value)),
                LabelOperator::NotIn(values) => !value.is_some_and(|value| values.contains(value)),
                LabelOperator::Exists => value.is_some(),
                LabelOperator::DoesNotExist => value.is_none(),
            }
        };
        match_labels.iter().all(equal) && match_expressions.iter().all(holds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_of_a_selector_must_hold() {
        let words = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect()
        };
        let values = |texts: &[&str]| texts.iter().map(|text| (*text).into()).collect();
        let with = |operator| LabelSelector {
            match_labels: BTreeMap::new(),
            match_expressions: vec![LabelExpression { key: "team".into(), operator }],
        };
        let red = words(&[("team", "red"), ("tier", "one")]);
        let none = BTreeMap::new();
        let check = |selector: LabelSelector, on_red: bool, on_none: bool| {
            let got = (selector.matches(&red), selector.matches(&none));
            assert_eq!(got, (on_red, on_none), "{selector:?}");
        };
        check(LabelSelector::default(), true, true);
        check(with(LabelOperator::In(values(&["red", "blue"]))), true, false);
        check(with(LabelOperator::In(values(&["blue"]))), false, false);
        check(with(LabelOperator::NotIn(values(&["red"]))), false, true);
        check(with(LabelOperator::NotIn(values(&["blue"]))), true, true);
        check(with(LabelOperator::Exists), true, false);
        check(with(LabelOperator::DoesNotExist), false, true);
        let labelled = |pairs| LabelSelector { match_labels: words(pairs), ..Default::default() };
        check(labelled(&[("team", "red"), ("tier", "one")]), true, false);
        check(labelled(&[("team", "red"), ("tier", "two")]), false, false);
    }
}
