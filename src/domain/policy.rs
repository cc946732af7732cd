//! A ContactPolicy as its spec asks for it, checked; the contact that it judges; and the texts
//! that say what would be accepted. The apiserver's rules are made from the same texts.

use std::collections::BTreeSet;
use std::fmt;

use super::channel::EmailAddress;
use super::contact::{MemberId, MessageType, Mode, Title};
use super::directory::LabelSelector;

/// A policy, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// The name of the ContactPolicy.
    pub name: String,
    /// What happens to a contact that violates it.
    pub enforcement: Enforcement,
    /// Which contacts it speaks of.
    pub scope: Scope,
    /// What each of these contacts must be like.
    pub contact: ContactRules,
    /// What all of these contacts together must give.
    pub coverage: Vec<CoverageRule>,
    /// Most contacts in the cloud that no MessageContact holds; `None`: any number.
    pub unmanaged_max: Option<u32>,
}

/// What happens to a contact that violates a policy. The order is that of strictness.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Enforcement {
    /// It is reported.
    Audit,
    /// Whoever writes it is warned as well.
    Warn,
    /// It is refused by the apiserver, and nothing is created or updated for it in the cloud.
    Deny,
}

impl Enforcement {
    /// All of them, the mildest first.
    pub const ALL: [Self; 3] = [Self::Audit, Self::Warn, Self::Deny];

    /// The word as the spec spells it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Audit => "Audit",
            Self::Warn => "Warn",
            Self::Deny => "Deny",
        }
    }

    /// The one of that spelling, if it is one.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.as_str() == word)
    }
}

/// Which contacts a policy speaks of: those of these directories in these namespaces.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scope {
    /// The names of ResourceDirectories; empty: all.
    pub directories: BTreeSet<String>,
    /// The namespaces, by their labels; without words: all.
    pub namespaces: LabelSelector,
}

/// What a contact must be like. A list that is empty demands nothing.
///
/// Lists keep the order in which they were written, for the texts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ContactRules {
    /// The mailbox is of one of these domains.
    pub domains_allowed: Vec<DomainPattern>,
    /// The mailbox is of none of these domains, whatever is allowed.
    pub domains_denied: Vec<DomainPattern>,
    /// Whether there must be a phone.
    pub phone: PhoneRule,
    /// The title is one of these.
    pub titles_allowed: Vec<Title>,
    /// Every message type is one of these.
    pub message_types_allowed: Vec<MessageType>,
    /// These message types are there.
    pub message_types_required: Vec<MessageType>,
    /// Every member is one of these. A contact whose bindings are left alone asks for none.
    pub members_allowed: Vec<MemberId>,
}

/// Whether there must be a phone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PhoneRule {
    /// As people like.
    #[default]
    Optional,
    /// There must be one.
    Required,
    /// There must be none.
    Forbidden,
}

impl PhoneRule {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Optional, Self::Required, Self::Forbidden];

    /// The word as the spec spells it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Optional => "Optional",
            Self::Required => "Required",
            Self::Forbidden => "Forbidden",
        }
    }

    /// The one of that spelling, if it is one.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.as_str() == word)
    }
}

/// A domain of mailboxes: `example.com` is itself only, `*.example.com` is everything below it, at
/// any depth, and not itself. Letter case does not count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DomainPattern(String);

impl DomainPattern {
    /// Most characters of a pattern, as of a domain name.
    pub const CHARS_MAX: usize = 253;

    /// What a pattern must look like, as a regular expression for schemas and CEL. The domain of an
    /// address has a dot; behind `*.` one name is enough.
    pub const PATTERN: &'static str =
        "^([*][.][A-Za-z0-9-]+|[A-Za-z0-9-]+[.][A-Za-z0-9-]+)([.][A-Za-z0-9-]+)*$";

    /// What to write instead of a malformed pattern.
    pub const ADVICE: &'static str = "write domains such as example.com, or *.example.com for all \
                                      below it; names outside ASCII as xn--…";

    /// The pattern, if it is one: see [`Self::PATTERN`].
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let names = text.strip_prefix("*.").unwrap_or(text);
        let is_name = |name: &str| {
            !name.is_empty()
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        };
        let well_formed = text.len() <= Self::CHARS_MAX
            && names.split('.').all(is_name)
            && (names.len() < text.len() || names.contains('.'));
        well_formed.then(|| Self(text.to_owned()))
    }

    /// Whether a domain is of this pattern.
    #[must_use]
    pub fn covers(&self, domain: &str) -> bool {
        let (pattern, domain) = (self.0.to_ascii_lowercase(), domain.to_ascii_lowercase());
        match pattern.strip_prefix('*') {
            Some(end) => domain.ends_with(end),
            None => domain == pattern,
        }
    }

    /// The pattern as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What all contacts of a policy together must give.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CoverageRule {
    /// Its name, unique in the policy.
    pub name: String,
    /// For each of these message types there must be as many; never empty.
    pub message_types: BTreeSet<MessageType>,
    /// Contacts with these titles count; empty: all.
    pub titles: BTreeSet<Title>,
    /// Each of these must be covered; empty: what contacts are bound to does not count.
    pub members: BTreeSet<MemberId>,
    /// Fewest contacts.
    pub min_contacts: u32,
    /// Fewest contacts whose mailbox was confirmed.
    pub min_verified: u32,
    /// Contacts with the same mailbox count once.
    pub distinct_mailboxes: bool,
}

/// A contact as policies judge it: what its spec asks for, as far as it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The mailbox; `None` as long as it stands in a Secret that is not known.
    pub email: Option<EmailAddress>,
    /// Whether there is a phone.
    pub has_phone: bool,
    /// The title.
    pub title: Title,
    /// What it is told about.
    pub message_types: BTreeSet<MessageType>,
    /// What it is to be bound to; `None` leaves bindings alone.
    pub members: Option<BTreeSet<MemberId>>,
    /// Who writes nothing to the cloud is not judged.
    pub mode: Mode,
}

/// A rule of a policy about single contacts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RuleName {
    /// `emailDomains.allowed`
    DomainsAllowed,
    /// `emailDomains.denied`
    DomainsDenied,
    /// `phoneNumber: Required`
    PhoneRequired,
    /// `phoneNumber: Forbidden`
    PhoneForbidden,
    /// `titles.allowed`
    TitlesAllowed,
    /// `messageTypes.allowed`
    MessageTypesAllowed,
    /// `messageTypes.required`
    MessageTypesRequired,
    /// `members.allowed`
    MembersAllowed,
}

impl RuleName {
    /// All of them, in the order in which they are told.
    pub const ALL: [Self; 8] = [
        Self::DomainsAllowed,
        Self::DomainsDenied,
        Self::PhoneRequired,
        Self::PhoneForbidden,
        Self::TitlesAllowed,
        Self::MessageTypesAllowed,
        Self::MessageTypesRequired,
        Self::MembersAllowed,
    ];

    /// The field of the policy's spec that demands it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::DomainsAllowed => "contact.emailDomains.allowed",
            Self::DomainsDenied => "contact.emailDomains.denied",
            Self::PhoneRequired | Self::PhoneForbidden => "contact.phoneNumber",
            Self::TitlesAllowed => "contact.titles.allowed",
            Self::MessageTypesAllowed => "contact.messageTypes.allowed",
            Self::MessageTypesRequired => "contact.messageTypes.required",
            Self::MembersAllowed => "contact.members.allowed",
        }
    }

    /// What would be accepted; where it ends with a colon, the list of the rule comes behind it.
    #[must_use]
    pub fn advice(self) -> &'static str {
        match self {
            Self::DomainsAllowed => "write an address of one of these domains:",
            Self::DomainsDenied => "write an address of none of these domains:",
            Self::PhoneRequired => "write phoneNumber or phoneNumberFrom",
            Self::PhoneForbidden => "leave phoneNumber and phoneNumberFrom out",
            Self::TitlesAllowed => "write one of these titles:",
            Self::MessageTypesAllowed => "write only these message types:",
            Self::MessageTypesRequired => "write all of these message types:",
            Self::MembersAllowed => "write only these members:",
        }
    }

    /// Most entries of its list that are told: the apiserver drops a text of more than 5 KiB.
    #[must_use]
    pub fn told_max(self) -> usize {
        match self {
            Self::DomainsAllowed | Self::DomainsDenied => 5,
            Self::PhoneRequired | Self::PhoneForbidden => 0,
            Self::TitlesAllowed | Self::MessageTypesAllowed | Self::MessageTypesRequired => 6,
            Self::MembersAllowed => 10,
        }
    }
}

impl fmt::Display for RuleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
