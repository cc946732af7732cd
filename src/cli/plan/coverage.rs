//! What policies demand of all contacts together: as it is, and as it would be.

use std::collections::HashSet;

use super::forecast::{self, Accounts, Forecast, Outlook};
use super::given::Given;
use super::imagined::Contact;
use super::report::{self, UnmanagedCount};
use crate::domain::call::Target;
use crate::domain::contact::{ContactStatus, DirectoryId, MessageType, Title};
use crate::domain::policy::{Enforcement, Policy};
use crate::domain::snapshot::Snapshot;
use crate::domain::verdict::Finding;
use crate::plan::compliance::{self, Found};
use crate::plan::coverage::{Covering, Row, Tally, Tree, needs_tree};
use crate::plan::hash::HashKey;
use crate::plan::policy::{self, Place};

/// A directory with everything that is known of it.
pub(super) struct Known<'a> {
    pub(super) name: &'a str,
    /// Which directory answered; `None`: it was not listed.
    pub(super) id: Option<DirectoryId>,
    pub(super) snapshot: Snapshot,
    pub(super) accounts: Accounts,
    pub(super) forecast: Forecast<'a>,
    /// Nothing is done in it until it is resumed; the forecast is that of the time after.
    pub(super) suspended: bool,
    /// Its ResourceDirectory would be deleted.
    pub(super) removed: bool,
}

/// When contacts are counted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum When {
    Before,
    After,
    Confirmed,
}

/// What a policy comes to in these directories.
pub(super) fn judge(policy: &Policy, given: &Given, directories: &[Known<'_>]) -> report::Policy {
    let is_meant =
        |name: &str| policy.scope.directories.is_empty() || policy.scope.directories.contains(name);
    let directories: Vec<_> = directories.iter().filter(|known| is_meant(known.name)).collect();
    let [before, after, confirmed] = [When::Before, When::After, When::Confirmed]
        .map(|when| tally(policy, given, &directories, when));
    let rules = &policy.coverage;
    let rows = after.rows(rules);
    let rows_before = before.rows(rules);
    let rows_confirmed = confirmed.rows(rules);
    let coverage: Vec<_> = rows
        .iter()
        .zip(&rows_before)
        .zip(&rows_confirmed)
        .map(|((after, before), confirmed)| row(after, before, confirmed))
        .collect();
    let no_tree = no_tree(&directories).filter(|_| needs_tree(rules));
    let unmanaged = unmanaged(policy, &directories);
    let counts: Vec<_> = unmanaged
        .iter()
        .map(|it| (it.directory.clone(), Some(i64::try_from(it.after).unwrap_or(i64::MAX))))
        .collect();
    let concerned = || {
        let all = directories
            .iter()
            .flat_map(|known| known.forecast.outlooks.iter().map(|outlook| (known.name, outlook)));
        all.filter(|(name, outlook)| {
            !outlook.object.removed && concerns(policy, given, name, outlook)
        })
    };
    let opinions = || {
        let all = concerned().flat_map(|(_, outlook)| &outlook.opinions);
        all.filter(|opinion| opinion.policy == policy.name)
    };
    let found = Found {
        looked_at: concerned().count(),
        matched: opinions().count(),
        violating: opinions().filter(|opinion| !opinion.violations.is_empty()).count(),
        unknown: opinions()
            .filter(|opinion| opinion.waits_for_email && opinion.violations.is_empty())
            .count(),
        rows: &rows,
        no_tree: no_tree.clone(),
        unmanaged: &counts,
    };
    let compliant = compliance::evaluate(policy, &found).compliant;
    let is_lost = no_tree.is_none() && coverage.iter().any(|row| row.lost);
    let is_exceeded = unmanaged.iter().any(|it| it.after > it.max as usize && it.after > it.before);
    report::Policy {
        name: policy.name.clone(),
        enforcement: policy.enforcement.as_str(),
        compliant: compliant.status.as_str(),
        reason: compliant.reason.as_str(),
        message: compliant.message,
        coverage,
        unmanaged,
        error: policy.enforcement == Enforcement::Deny && (is_lost || is_exceeded),
    }
}

fn row(after: &Row<'_>, before: &Row<'_>, confirmed: &Row<'_>) -> report::Coverage {
    report::Coverage {
        rule: after.rule.to_owned(),
        message_type: after.message_type.as_str(),
        counted: after.among.in_words(),
        member: after.member.map(ToString::to_string),
        required: after.required,
        before: before.actual,
        after: after.actual,
        confirmed: confirmed.actual,
        lost: before.is_satisfied() && !after.is_satisfied(),
    }
}

fn concerns(policy: &Policy, given: &Given, directory: &str, outlook: &Outlook<'_>) -> bool {
    let labels = given.labels(&outlook.object.key.namespace);
    policy::concerns(policy, Place { directory, namespace_labels: &labels })
}

fn tally(policy: &Policy, given: &Given, directories: &[&Known<'_>], when: When) -> Tally {
    // Mailboxes are compared, and shown nowhere.
    let key = HashKey::new([0; HashKey::BYTES]);
    let none = Tree::default();
    let mut tally = Tally::default();
    for known in directories {
        let tree = known.accounts.as_ref().and_then(|told| told.as_ref().ok()).unwrap_or(&none);
        let after = forecast::by_id(&known.forecast.after);
        let outlooks = known.forecast.outlooks.iter();
        for outlook in outlooks.filter(|it| concerns(policy, given, known.name, it)) {
            let contact = match when {
                When::Before => outlook
                    .held
                    .as_ref()
                    .and_then(|id| forecast::shown_at_first(&known.snapshot, id)),
                When::After | When::Confirmed => {
                    let held = outlook.holds.as_ref().and_then(|id| after.get(id));
                    held.map(|contact| (*contact).clone())
                }
            };
            if let Some(contact) = contact {
                let covering = covering(&contact, outlook, when, &key);
                tally.add(&policy.coverage, tree, &covering);
            }
        }
    }
    tally
}

/// What a contact gives.
fn covering(contact: &Contact, outlook: &Outlook<'_>, when: When, key: &HashKey) -> Covering {
    let Contact { observed, waiting } = contact;
    let waits = |email: &Target| waiting.iter().flatten().any(|waits| waits == email);
    let shown = observed.email.clone().map(Target::Email);
    let next = outlook.wanted.as_ref().map(|wanted| Target::Email(wanted.email.clone()));
    let in_force = if when == When::Confirmed { next.or(shown.clone()) } else { shown.clone() };
    let is_new_and_unknown = outlook.unknown.email && outlook.held.is_none();
    let mailbox = in_force.filter(|_| !is_new_and_unknown).map(|email| key.of_target(&email));
    let is_confirmed =
        observed.status == ContactStatus::Active && !shown.as_ref().is_some_and(waits);
    Covering {
        title: Title::from_word(&observed.title),
        message_types: observed
            .message_types
            .iter()
            .filter_map(|word| MessageType::from_word(word))
            .collect(),
        members: observed.members.clone(),
        mailbox: mailbox.unwrap_or_else(|| observed.id.to_string()),
        verified: is_confirmed || when == When::Confirmed,
    }
}

fn no_tree(directories: &[&Known<'_>]) -> Option<Finding> {
    directories.iter().find_map(|known| {
        let failure = known.accounts.as_ref()?.as_ref().err()?;
        Some(Finding::unmet(failure.reason, &*failure.message))
    })
}

/// How many contacts of each directory nobody holds, if the policy asks.
fn unmanaged(policy: &Policy, directories: &[&Known<'_>]) -> Vec<UnmanagedCount> {
    let Some(max) = policy.unmanaged_max else { return Vec::new() };
    // Nobody counts in a directory that is no more.
    let counted = directories.iter().filter(|known| !known.removed).map(|known| {
        let Known { name, snapshot, forecast, .. } = known;
        let held: HashSet<_> = forecast.outlooks.iter().filter_map(|it| it.held.as_ref()).collect();
        let before = snapshot.contacts().filter(|it| !held.contains(&it.id)).count();
        let after = left_alone(forecast).len();
        UnmanagedCount { directory: (*name).to_owned(), max, before, after }
    });
    counted.collect()
}

/// The contacts that nobody holds in the end.
pub(super) fn left_alone<'a>(forecast: &'a Forecast<'_>) -> Vec<&'a Contact> {
    let held: HashSet<_> = forecast.outlooks.iter().filter_map(|it| it.holds.as_ref()).collect();
    forecast.after.iter().filter(|contact| !held.contains(&contact.observed.id)).collect()
}
