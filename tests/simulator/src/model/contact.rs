//! What the directory keeps: contacts, verification messages, limits.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::switches::Shown;

/// Mail or phone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChannelKind {
    /// By mail.
    Email,
    /// By text message.
    Phone,
}

impl ChannelKind {
    pub(super) fn parameter(self) -> &'static str {
        match self {
            Self::Email => "EmailAddress",
            Self::Phone => "PhoneNumber",
        }
    }
}

/// Limits of the directory. All can be set.
///
/// Source: Resource Management documentation, "Limits" and "Manage contacts for a member". What it
/// does not print: a limit of text messages, the length of a mail address, the page sizes of
/// contacts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Quotas {
    /// Contacts in the directory: 20.
    pub contacts: usize,
    /// Targets bound to one contact: 10.
    pub members_per_contact: usize,
    /// Ids in one `AssociateMembers` or `DisassociateMembers`: 5.
    pub members_per_call: usize,
    /// Verification messages of the account in a day: 100.
    pub sends_per_day: usize,
    /// Verification messages to one address in a minute: 10.
    ///
    /// Unverified: that the next one gets `409 SendValidateCodeExceedsLimitForAccount` too.
    pub sends_per_minute_and_target: usize,
    /// Bytes of a mail address: 254 (A3).
    pub email_length_max: usize,
    /// Country codes that the site takes; none: any. `86` on the China site.
    pub country_codes: Vec<String>,
    /// Items in a page when the request does not say: 10 (A5).
    pub page_size_default: i64,
    /// Items in a page at most: 100 (A5).
    pub page_size_max: i64,
}

impl Default for Quotas {
    fn default() -> Self {
        Self {
            contacts: 20,
            members_per_contact: 10,
            members_per_call: 5,
            sends_per_day: 100,
            sends_per_minute_and_target: 10,
            email_length_max: 254,
            country_codes: vec!["86".to_owned()],
            page_size_default: 10,
            page_size_max: 100,
        }
    }
}

/// How deletions in the background end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DeletionPlan {
    /// How long they take, in milliseconds.
    pub after_ms: u64,
    /// Why they fail; empty: they do not.
    pub reasons: Vec<FailReason>,
    /// How many of the next ones fail; absent: all.
    pub times: Option<u32>,
}

impl Default for DeletionPlan {
    fn default() -> Self {
        Self { after_ms: 1000, reasons: Vec::new(), times: None }
    }
}

/// A member account whose messages still depend on the contact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FailReason {
    /// The member account.
    pub account_id: String,
    /// The message types that have nobody else.
    pub message_types: Vec<String>,
}

/// A contact with everything that is known of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contact {
    /// `ContactId`.
    pub id: String,
    /// Unique in the directory.
    pub name: String,
    /// The mail address.
    pub email: Channel,
    /// The phone number.
    pub phone: Channel,
    /// One of [`crate::TITLES`].
    pub title: String,
    /// Some of [`crate::MESSAGE_TYPES`].
    pub message_types: Vec<String>,
    /// Directory, folders and accounts that it is bound to.
    pub members: Vec<String>,
    /// When it was added.
    pub created_at: Timestamp,
    /// When it was last bound.
    pub associated_at: Option<Timestamp>,
    /// Is it being deleted.
    pub deletion: Deletion,
}

/// A way to reach a person.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Channel {
    /// The confirmed value.
    pub effective: Option<String>,
    /// The value that waits for confirmation.
    pub pending: Option<Pending>,
}

/// A value that waits for confirmation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// The address or number.
    pub value: String,
    /// Which write made it; messages of an older one are dead.
    pub generation: u64,
    /// Verification messages sent for it.
    pub sends: u32,
}

impl Channel {
    pub(super) fn values(&self) -> [Option<&str>; 2] {
        let pending = self.pending.as_ref().map(|pending| pending.value.as_str());
        [self.effective.as_deref(), pending]
    }

    pub(super) fn is_given(&self) -> bool {
        self.effective.is_some() || self.pending.is_some()
    }

    pub(super) fn shown(&self, shown: Shown) -> Option<String> {
        let [effective, pending] = self.values();
        let value = match shown {
            Shown::Effective => effective.or(pending),
            Shown::Pending => pending.or(effective),
        };
        value.map(str::to_owned)
    }
}

/// Where the deletion of a contact is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Deletion {
    /// Nobody has asked for it.
    None,
    /// It runs in the background.
    Running {
        /// When it ends.
        until: Timestamp,
        /// Why it will fail; empty: the contact will be gone.
        reasons: Vec<FailReason>,
    },
    /// It ended, and the contact is still there.
    Failed {
        /// Why.
        reasons: Vec<FailReason>,
    },
}

/// A verification message in somebody's mailbox or phone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// From 1.
    pub id: u64,
    /// By mail or text message.
    pub channel: ChannelKind,
    /// The address or number.
    pub target: String,
    /// Whose contact it is.
    pub contact_id: String,
    /// When it was sent.
    pub sent_at: Timestamp,
    /// What its link does.
    pub state: MessageState,
    /// Which pending value it belongs to.
    pub generation: u64,
}

/// What the link of a [`Message`] does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MessageState {
    /// A click confirms the value.
    Live,
    /// It was clicked.
    Confirmed,
    /// It is too old.
    Expired,
    /// The value does not wait any more: another write, a cancel, a deletion.
    Superseded,
}

/// What came of a click.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Click {
    /// The value is effective now.
    Confirmed,
    /// No message was ever sent there.
    NoMessage,
    /// The newest message there is expired, superseded or was clicked before.
    DeadLink,
}

/// A contact that somebody else made, for instance in the console.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewContact {
    /// `Name`.
    pub name: String,
    /// `EmailAddress`.
    pub email: String,
    /// `PhoneNumber`.
    #[serde(default)]
    pub phone: Option<String>,
    /// `Title`.
    #[serde(default = "other_title")]
    pub title: String,
    /// `MessageTypes`.
    #[serde(default = "security_message")]
    pub message_types: Vec<String>,
    /// `Members`.
    #[serde(default)]
    pub members: Vec<String>,
    /// Are mail and phone confirmed.
    #[serde(default = "yes")]
    pub confirmed: bool,
}

fn other_title() -> String {
    "Other".to_owned()
}

fn security_message() -> Vec<String> {
    vec!["SecurityMessage".to_owned()]
}

fn yes() -> bool {
    true
}

impl NewContact {
    /// A confirmed contact without a phone, title `Other`, told of `SecurityMessage`.
    #[must_use]
    pub fn new(name: &str, email: &str) -> Self {
        Self {
            name: name.to_owned(),
            email: email.to_owned(),
            phone: None,
            title: other_title(),
            message_types: security_message(),
            members: Vec::new(),
            confirmed: true,
        }
    }
}

/// What somebody else changes in a contact. Nothing is checked.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ContactChange {
    /// Its name.
    pub name: Option<String>,
    /// Its title.
    pub title: Option<String>,
    /// All its message types.
    pub message_types: Option<Vec<String>>,
    /// All its bindings.
    pub members: Option<Vec<String>>,
    /// A confirmed mail address; nothing pends any more.
    pub email: Option<String>,
    /// A confirmed phone number, none if empty; nothing pends any more.
    pub phone: Option<String>,
    /// A mail address that waits for confirmation.
    pub pending_email: Option<String>,
    /// A phone number that waits for confirmation.
    pub pending_phone: Option<String>,
}

impl Contact {
    pub(super) fn channel(&self, kind: ChannelKind) -> &Channel {
        match kind {
            ChannelKind::Email => &self.email,
            ChannelKind::Phone => &self.phone,
        }
    }

    pub(super) fn channel_mut(&mut self, kind: ChannelKind) -> &mut Channel {
        match kind {
            ChannelKind::Email => &mut self.email,
            ChannelKind::Phone => &mut self.phone,
        }
    }
}
