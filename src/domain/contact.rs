//! A message contact in its three forms: desired, recorded, observed.

use std::collections::BTreeSet;
use std::fmt;

use jiff::Timestamp;

use super::channel::{EmailAddress, Malformed, PhoneNumber};
use super::verification::{Verification, VerificationPolicy};

/// Declares a newtype for an identifier that the cloud or the cluster makes. Any text is kept.
macro_rules! identifier {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub String);

        impl $name {
            /// The identifier as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.to_owned())
            }
        }
    };
}

identifier!(
    /// The id of a contact, made by the cloud: `c-` and 16 letters or digits.
    ContactId
);
identifier!(
    /// The id of a resource directory: `rd-` and 6 letters or digits.
    DirectoryId
);

impl DirectoryId {
    /// Longest id that is taken for one.
    const CHARS_MAX: usize = 64;

    /// Whether the text looks like an id: it may be shown to people then.
    #[must_use]
    pub fn is_formed(text: &str) -> bool {
        let rest = text.strip_prefix("rd-").filter(|_| text.len() <= Self::CHARS_MAX);
        rest.is_some_and(|rest| {
            !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_alphanumeric())
        })
    }
}

identifier!(
    /// What a contact can be bound to: a directory (`rd-`), a folder (`r-`, `fd-`) or an account.
    MemberId
);
identifier!(
    /// The id of an account: 16 digits as text.
    AccountId
);
identifier!(
    /// The uid of a Kubernetes object.
    Uid
);

/// The name of a contact in the cloud, unique in its directory. `Debug` does not show it.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ContactName(String);

impl ContactName {
    /// Fewest characters of a name. Source: RPC reference of `AddMessageContact`, `Name`.
    pub const CHARS_MIN: usize = 2;
    /// Most characters of a name, counted in code points. Source: as [`Self::CHARS_MIN`].
    pub const CHARS_MAX: usize = 12;

    /// What a name must look like, as a regular expression for schemas and CEL.
    ///
    /// Unverified (A29): that letters are `A-Z a-z` and Han characters, mixed freely.
    pub const PATTERN: &'static str = "^[A-Za-z\u{3007}\u{3400}-\u{4DBF}\u{4E00}-\u{9FFF}\
                                       \u{F900}-\u{FAFF}\u{20000}-\u{323AF}]{2,12}$";

    /// What to write instead of a malformed name.
    pub const ADVICE: &'static str =
        "write 2 to 12 letters (A-Z, a-z) or Chinese characters, without digits, spaces or hyphens";

    /// # Errors
    /// The text is not of the form in [`Self::PATTERN`].
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        let letter = |c: char| {
            c.is_ascii_alphabetic()
                || matches!(c, '\u{3007}' | '\u{3400}'..='\u{4DBF}' | '\u{4E00}'..='\u{9FFF}'
                    | '\u{F900}'..='\u{FAFF}' | '\u{20000}'..='\u{323AF}')
        };
        let chars = text.chars().count();
        let well_formed =
            (Self::CHARS_MIN..=Self::CHARS_MAX).contains(&chars) && text.chars().all(letter);
        if well_formed { Ok(Self(text.to_owned())) } else { Err(Malformed(Self::ADVICE)) }
    }

    /// A name as the cloud shows it or as our status holds it, whatever it looks like.
    #[must_use]
    pub fn observed(text: String) -> Self {
        Self(text)
    }

    /// The name. It may stand in a status and in a plan, never in a log, an event or a metric.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The form under which names that differ only in case are the same.
    ///
    /// Unverified (A22): whether the cloud compares names with case. Two names that fold alike
    /// are never both created, and only the exact name is ever taken for ours.
    #[must_use]
    pub fn folded(&self) -> String {
        self.0.to_lowercase()
    }
}

impl fmt::Debug for ContactName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[name]")
    }
}

/// Declares one of the API's closed lists of words.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name { $($(#[$variant_doc])* $variant),+ }

        impl $name {
            /// All words of the list.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The word as the API spells it.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => stringify!($variant)),+ }
            }

            /// The word of that spelling, if it is on the list.
            #[must_use]
            pub fn from_word(word: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|known| known.as_str() == word)
            }
        }
    };
}

words!(
    /// What a contact is in the organisation. Source: RPC reference of `AddMessageContact`.
    Title {
        /// Finance director.
        FinanceDirector,
        /// Technical director.
        TechnicalDirector,
        /// Maintenance director.
        MaintenanceDirector,
        /// Chief executive officer.
        CEO,
        /// Project director.
        ProjectDirector,
        /// Anything else.
        Other,
    }
);

words!(
    /// What a contact is told about. Source: RPC reference of `AddMessageContact`.
    MessageType {
        /// Notices about services.
        ServiceMessage,
        /// Faults and outages.
        FaultMessage,
        /// The account and its money.
        AccountExpenses,
        /// Security notices.
        SecurityMessage,
        /// Campaigns and events.
        ActivityMessage,
        /// News of products.
        ProductMessage,
    }
);

/// What a spec asks for, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DesiredContact {
    /// The contact's name in the cloud.
    pub name: ContactName,
    /// The contact's title.
    pub title: Title,
    /// Its mailbox.
    pub email: EmailAddress,
    /// Its phone, if it has one.
    pub phone: Option<PhoneNumber>,
    /// What it is told about; one to six types.
    pub message_types: BTreeSet<MessageType>,
    /// What it is to be bound to; `None` leaves bindings alone, empty binds to nothing.
    pub members: Option<BTreeSet<MemberId>>,
    /// Whether differences are put right or only reported.
    pub mode: Mode,
    /// Which contact that is there already may be taken over.
    pub adoption: Adoption,
    /// How the owner is asked to confirm.
    pub verification: VerificationPolicy,
    /// `Ready` waits for the verification, or only for the cloud's data.
    pub ready_when: ReadyWhen,
}

/// What may be written to the cloud for a contact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Differences are put right.
    Enforce,
    /// Nothing is written; differences are reported.
    ReportOnly,
}

/// Which contact may be taken over that is in the cloud and that no object holds. The order is that
/// of what is allowed, so that the smaller of two is the cap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Adoption {
    /// None.
    Never,
    /// One in which nothing would have to be written.
    IfIdentical,
    /// Any of the wanted name.
    Always,
}

/// What `Ready` waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadyWhen {
    /// For the person who has to confirm the channels.
    Verified,
    /// Only for the cloud to hold what the spec says.
    Synced,
}

/// What deleting an object does in the cloud.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removal {
    /// Nothing: the object is let go and the contact stays.
    Retain,
    /// The contact is deleted.
    Delete {
        /// Whether the person keeps getting the members' messages.
        retain_in_members: bool,
    },
}

/// What our own status says about a contact: what must be remembered across restarts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recorded {
    /// The directory in which the contact lives.
    pub directory_id: Option<DirectoryId>,
    /// The contact that this object holds.
    pub contact_id: Option<ContactId>,
    /// An open intent to create.
    pub creation: Option<Creation>,
    /// The last write of fields, for noticing a write that reads back differently.
    pub last_write: Option<LastWrite>,
    /// The cloud's answer that stopped this object.
    pub last_error: Option<LastError>,
    /// How the confirmation of the channels stands.
    pub verification: Verification,
    /// When which field was put right again after somebody had changed it; of the last hour only.
    pub reverts: Vec<Revert>,
}

/// How often a field was put right that nobody had changed in the spec.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revert {
    /// Which field, and both sides as they were when it was put right last, fit to be shown.
    pub difference: Difference,
    /// Since when the field differed.
    pub since: Timestamp,
    /// When it was put right, oldest first.
    pub times: Vec<Timestamp>,
}

/// An open intent to create a contact: written before `AddMessageContact`, gone when settled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Creation {
    /// The name under which the intent is settled, whatever the spec says by then.
    pub name: ContactName,
    /// Covers the object's uid, the directory and what is sent. Not reversible.
    pub hash: String,
    /// When the intent was written.
    pub at: Timestamp,
}

/// A write of fields and how often it has read back differently.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastWrite {
    /// Covers the contact and all fields that were wanted. Not reversible.
    pub hash: String,
    /// How often the fields were written and then still differed.
    pub mismatches: u32,
}

/// The cloud's answer that stopped an object until its spec changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastError {
    /// The error code.
    pub code: String,
    /// The API operation that got it.
    pub action: String,
    /// The generation of the spec for which it was got.
    pub generation: i64,
}

/// A contact as the cloud shows it. Words that this version does not know are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedContact {
    /// The contact's id.
    pub id: ContactId,
    /// Its name.
    pub name: ContactName,
    /// Its mailbox; `None` when the cloud shows none.
    ///
    /// Unverified (A12): which one it is while another waits. The one in force is expected.
    pub email: Option<EmailAddress>,
    /// Its phone; missing, null and empty are all `None`.
    pub phone: Option<PhoneNumber>,
    /// Its title, an open word.
    pub title: String,
    /// Its message types, open words, compared as a set.
    pub message_types: BTreeSet<String>,
    /// What it is bound to.
    pub members: BTreeSet<MemberId>,
    /// Where it stands.
    pub status: ContactStatus,
}

/// Where a contact stands in the cloud.
///
/// Unverified (A10, A13): which of the first two it is while a channel is confirmed and another is
/// not, or while a confirmed one is to be replaced. It is evidence in one case only, of adoption.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContactStatus {
    /// A channel waits for confirmation.
    Verifying,
    /// In force.
    Active,
    /// A deletion runs in the background.
    Deleting,
    /// A word that this version does not know.
    Other(String),
}

impl ContactStatus {
    /// The word as the API spells it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Verifying => "Verifying",
            Self::Active => "Active",
            Self::Deleting => "Deleting",
            Self::Other(word) => word,
        }
    }
}

/// A field of a contact that can differ between spec and cloud.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Field {
    /// `name`
    Name,
    /// `title`
    Title,
    /// `emailAddress`
    EmailAddress,
    /// `phoneNumber`
    PhoneNumber,
    /// `messageTypes`
    MessageTypes,
    /// `members`
    Members,
}

impl Field {
    /// All fields.
    pub const ALL: [Self; 6] = [
        Self::Name,
        Self::Title,
        Self::EmailAddress,
        Self::PhoneNumber,
        Self::MessageTypes,
        Self::Members,
    ];

    /// The field of that spelling, if it is one.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|field| field.as_str() == word)
    }

    /// The field as the spec spells it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Title => "title",
            Self::EmailAddress => "emailAddress",
            Self::PhoneNumber => "phoneNumber",
            Self::MessageTypes => "messageTypes",
            Self::Members => "members",
        }
    }
}

/// One field that differs, both sides fit to be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Which field.
    pub field: Field,
    /// What the spec wants; private values are masked.
    pub desired: String,
    /// What the cloud has; private values are masked.
    pub observed: String,
}
