//! One variant per operation of the API, what comes back, and what went wrong.

use std::collections::BTreeSet;
use std::fmt;

use jiff::SignedDuration;

use super::channel::{EmailAddress, PhoneNumber};
use super::contact::{
    AccountId, ContactId, ContactName, DesiredContact, DirectoryId, MemberId, MessageType,
    ObservedContact, Title,
};

/// One call of `ResourceDirectoryMaster` 2022-04-19.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    /// Creates a contact. Sends no verification.
    AddMessageContact(NewContact),
    /// Changes the fields that are set.
    UpdateMessageContact(ContactId, Changes),
    /// Reads one contact.
    GetMessageContact(ContactId),
    /// Reads one page of all contacts. Pages count from 1.
    ListMessageContacts {
        /// Which page.
        page: u32,
    },
    /// Deletes a contact.
    ///
    /// Unverified (A20): whether one that is bound to nothing is gone at once.
    DeleteMessageContact {
        /// Which contact.
        id: ContactId,
        /// Whether the member accounts keep their copy; always sent, the API's default is true.
        retain_in_members: bool,
    },
    /// Asks how a deletion in the background stands.
    GetMessageContactDeletionStatus(ContactId),
    /// Sends a mail; not idempotent.
    SendEmailVerificationForMessageContact(ContactId, EmailAddress),
    /// Sends a text message; not idempotent.
    SendPhoneVerificationForMessageContact(ContactId, PhoneNumber),
    /// Reads one page of the values of a contact that wait for confirmation.
    ///
    /// Unverified (A24): what it tells without an id. It is never asked so.
    ListMessageContactVerifications {
        /// Which contact.
        id: ContactId,
        /// Which page, from 1.
        page: u32,
    },
    /// Drops changes of address or phone that were not confirmed yet.
    ///
    /// Unverified (A15): whether it is refused if nothing is confirmed, or the value does not wait.
    CancelMessageContactUpdate {
        /// Which contact.
        id: ContactId,
        /// The pending address to drop.
        email: Option<EmailAddress>,
        /// The pending number to drop.
        phone: Option<PhoneNumber>,
    },
    /// Binds a contact to at most five members.
    ///
    /// Unverified (A17): whether one can be bound before its owner has confirmed.
    /// Unverified (A18): whether binding what is bound, and unbinding what is not, is refused.
    AssociateMembers(ContactId, BTreeSet<MemberId>),
    /// Unbinds a contact from at most five members.
    DisassociateMembers(ContactId, BTreeSet<MemberId>),
    /// Reads which directory the keys belong to.
    GetResourceDirectory,
    /// Reads one page of the member accounts, and where each stands. Pages count from 1.
    ListAccounts {
        /// Which page.
        page: u32,
    },
}

impl Call {
    /// How many contacts or verifications a page has.
    ///
    /// Unverified (A5): that the API takes page sizes from 1 to 100.
    pub const PAGE_SIZE: u32 = 100;

    /// Which operation this is.
    #[must_use]
    pub fn action(&self) -> Action {
        match self {
            Self::AddMessageContact(_) => Action::AddMessageContact,
            Self::UpdateMessageContact(..) => Action::UpdateMessageContact,
            Self::GetMessageContact(_) => Action::GetMessageContact,
            Self::ListMessageContacts { .. } => Action::ListMessageContacts,
            Self::DeleteMessageContact { .. } => Action::DeleteMessageContact,
            Self::GetMessageContactDeletionStatus(_) => Action::GetMessageContactDeletionStatus,
            Self::SendEmailVerificationForMessageContact(..) => {
                Action::SendEmailVerificationForMessageContact
            }
            Self::SendPhoneVerificationForMessageContact(..) => {
                Action::SendPhoneVerificationForMessageContact
            }
            Self::ListMessageContactVerifications { .. } => Action::ListMessageContactVerifications,
            Self::CancelMessageContactUpdate { .. } => Action::CancelMessageContactUpdate,
            Self::AssociateMembers(..) => Action::AssociateMembers,
            Self::DisassociateMembers(..) => Action::DisassociateMembers,
            Self::GetResourceDirectory => Action::GetResourceDirectory,
            Self::ListAccounts { .. } => Action::ListAccounts,
        }
    }

    /// Whether the call may change which values wait for their owners.
    #[must_use]
    pub fn sets_channels(&self) -> bool {
        match self {
            Self::UpdateMessageContact(_, changes) => {
                changes.email.is_some() || changes.phone.is_some()
            }
            Self::AddMessageContact(_)
            | Self::DeleteMessageContact { .. }
            | Self::CancelMessageContactUpdate { .. } => true,
            Self::GetMessageContact(_)
            | Self::ListMessageContacts { .. }
            | Self::GetMessageContactDeletionStatus(_)
            | Self::SendEmailVerificationForMessageContact(..)
            | Self::SendPhoneVerificationForMessageContact(..)
            | Self::ListMessageContactVerifications { .. }
            | Self::AssociateMembers(..)
            | Self::DisassociateMembers(..)
            | Self::GetResourceDirectory
            | Self::ListAccounts { .. } => false,
        }
    }

    /// The contact that the call is about, if it is about a known one.
    #[must_use]
    pub fn contact_id(&self) -> Option<&ContactId> {
        match self {
            Self::AddMessageContact(_)
            | Self::ListMessageContacts { .. }
            | Self::GetResourceDirectory
            | Self::ListAccounts { .. } => None,
            Self::UpdateMessageContact(id, _)
            | Self::GetMessageContact(id)
            | Self::DeleteMessageContact { id, .. }
            | Self::GetMessageContactDeletionStatus(id)
            | Self::SendEmailVerificationForMessageContact(id, _)
            | Self::SendPhoneVerificationForMessageContact(id, _)
            | Self::ListMessageContactVerifications { id, .. }
            | Self::CancelMessageContactUpdate { id, .. }
            | Self::AssociateMembers(id, _)
            | Self::DisassociateMembers(id, _) => Some(id),
        }
    }

    /// The ids that are to be bound or unbound; `None` for every other operation.
    #[must_use]
    pub fn members(&self) -> Option<&BTreeSet<MemberId>> {
        match self {
            Self::AssociateMembers(_, ids) | Self::DisassociateMembers(_, ids) => Some(ids),
            Self::AddMessageContact(_)
            | Self::UpdateMessageContact(..)
            | Self::GetMessageContact(_)
            | Self::ListMessageContacts { .. }
            | Self::DeleteMessageContact { .. }
            | Self::GetMessageContactDeletionStatus(_)
            | Self::SendEmailVerificationForMessageContact(..)
            | Self::SendPhoneVerificationForMessageContact(..)
            | Self::ListMessageContactVerifications { .. }
            | Self::CancelMessageContactUpdate { .. }
            | Self::GetResourceDirectory
            | Self::ListAccounts { .. } => None,
        }
    }
}

/// The name of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Action {
    /// See [`Call::AddMessageContact`].
    AddMessageContact,
    /// See [`Call::UpdateMessageContact`].
    UpdateMessageContact,
    /// See [`Call::GetMessageContact`].
    GetMessageContact,
    /// See [`Call::ListMessageContacts`].
    ListMessageContacts,
    /// See [`Call::DeleteMessageContact`].
    DeleteMessageContact,
    /// See [`Call::GetMessageContactDeletionStatus`].
    GetMessageContactDeletionStatus,
    /// See [`Call::SendEmailVerificationForMessageContact`].
    SendEmailVerificationForMessageContact,
    /// See [`Call::SendPhoneVerificationForMessageContact`].
    SendPhoneVerificationForMessageContact,
    /// See [`Call::ListMessageContactVerifications`].
    ListMessageContactVerifications,
    /// See [`Call::CancelMessageContactUpdate`].
    CancelMessageContactUpdate,
    /// See [`Call::AssociateMembers`].
    AssociateMembers,
    /// See [`Call::DisassociateMembers`].
    DisassociateMembers,
    /// See [`Call::GetResourceDirectory`].
    GetResourceDirectory,
    /// See [`Call::ListAccounts`].
    ListAccounts,
}

impl Action {
    /// The operation as the API spells it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AddMessageContact => "AddMessageContact",
            Self::UpdateMessageContact => "UpdateMessageContact",
            Self::GetMessageContact => "GetMessageContact",
            Self::ListMessageContacts => "ListMessageContacts",
            Self::DeleteMessageContact => "DeleteMessageContact",
            Self::GetMessageContactDeletionStatus => "GetMessageContactDeletionStatus",
            Self::SendEmailVerificationForMessageContact => {
                "SendEmailVerificationForMessageContact"
            }
            Self::SendPhoneVerificationForMessageContact => {
                "SendPhoneVerificationForMessageContact"
            }
            Self::ListMessageContactVerifications => "ListMessageContactVerifications",
            Self::CancelMessageContactUpdate => "CancelMessageContactUpdate",
            Self::AssociateMembers => "AssociateMembers",
            Self::DisassociateMembers => "DisassociateMembers",
            Self::GetResourceDirectory => "GetResourceDirectory",
            Self::ListAccounts => "ListAccounts",
        }
    }

    /// Whether the operation only reads. An unanswered read is harmless; anything else may have
    /// happened.
    #[must_use]
    pub fn is_read(self) -> bool {
        match self {
            Self::GetMessageContact
            | Self::ListMessageContacts
            | Self::GetMessageContactDeletionStatus
            | Self::ListMessageContactVerifications
            | Self::GetResourceDirectory
            | Self::ListAccounts => true,
            Self::AddMessageContact
            | Self::UpdateMessageContact
            | Self::DeleteMessageContact
            | Self::SendEmailVerificationForMessageContact
            | Self::SendPhoneVerificationForMessageContact
            | Self::CancelMessageContactUpdate
            | Self::AssociateMembers
            | Self::DisassociateMembers => false,
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What `AddMessageContact` sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewContact {
    /// The contact's name.
    pub name: ContactName,
    /// Its title.
    pub title: Title,
    /// Its mailbox.
    pub email: EmailAddress,
    /// Its phone; left out of the call when absent.
    pub phone: Option<PhoneNumber>,
    /// Its message types.
    pub message_types: BTreeSet<MessageType>,
}

impl From<&DesiredContact> for NewContact {
    fn from(desired: &DesiredContact) -> Self {
        let DesiredContact {
            name,
            title,
            email,
            phone,
            message_types,
            members: _,
            mode: _,
            adoption: _,
            verification: _,
            ready_when: _,
        } = desired;
        Self {
            name: name.clone(),
            title: *title,
            email: email.clone(),
            phone: phone.clone(),
            message_types: message_types.clone(),
        }
    }
}

/// What `UpdateMessageContact` changes. A field that is `None` is left out of the call.
///
/// Unverified (A4): that it keeps its value then. What is lost by it is written again.
/// Unverified (A11): whether a value that is sent again must be confirmed again. None is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// The new name.
    pub name: Option<ContactName>,
    /// The new title.
    pub title: Option<Title>,
    /// The new mailbox.
    pub email: Option<EmailAddress>,
    /// The new phone, or that it is to be taken out.
    pub phone: Option<PhoneChange>,
    /// The whole new list of message types.
    pub message_types: Option<BTreeSet<MessageType>>,
}

/// How a phone changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PhoneChange {
    /// Another number.
    Set(PhoneNumber),
    /// No number: `PhoneNumber=` is sent empty.
    ///
    /// Unverified (A14): whether the API clears it, refuses it or ignores it.
    Clear,
}

/// What a call gave back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// The contact was created.
    Added(ContactId),
    /// Done; the new state must be read.
    Done,
    /// One contact.
    Contact(ObservedContact),
    /// One page of contacts.
    Contacts(Page<ObservedContact>),
    /// The deletion is done or runs in the background.
    Deletion(DeletionState),
    /// One page of values that wait for confirmation.
    Verifications(Page<Target>),
    /// The directory of the keys.
    Directory(DirectoryIdentity),
    /// One page of accounts: of each the way down to it, as [`AccountPath`].
    Accounts(Page<AccountPath>),
}

/// One page of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// The entries of this page.
    pub items: Vec<T>,
    /// How many entries all pages have together, as the API says.
    pub total: u32,
}

/// A value that waits for confirmation: a text with `@` is a mail address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// An address.
    Email(EmailAddress),
    /// A number.
    Phone(PhoneNumber),
}

/// Where an account stands: the directory, the root folder, the folders below it, the account.
/// Source: `ResourceDirectoryPath` of `ListAccounts`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountPath(pub Vec<MemberId>);

/// How a deletion stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeletionState {
    /// Done at once.
    Deleted,
    /// It runs in the background.
    Deleting,
    /// It failed; the contact is still there.
    Failed(Vec<DeletionBlocker>),
    /// The answer has no word, or one that this version does not know.
    ///
    /// Unverified (A6, A31): whether that, or that there is no contact, is said of a deletion that
    /// is over and of one that never was. A Get tells which.
    Unclear,
}

/// Why a deletion failed for one account.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DeletionBlocker {
    /// The member account.
    pub account: AccountId,
    /// The message types that still depend on the contact there.
    pub message_types: Vec<String>,
}

/// Which directory the keys belong to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectoryIdentity {
    /// The directory.
    pub directory_id: DirectoryId,
    /// Its root folder.
    pub root_folder_id: MemberId,
    /// The management account.
    pub management_account_id: AccountId,
}

/// Why a call did not do its work: what the caller does about it, and what to show.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{action}: {}{}", .class.as_str(), Shown(.code, .request_id))]
pub struct CallError {
    /// The operation.
    pub action: Action,
    /// What the caller does.
    pub class: FailureClass,
    /// The API's code, if the answer had one.
    pub code: Option<ErrorCode>,
    /// The request's id, if the answer had one.
    pub request_id: Option<RequestId>,
    /// Earliest time for another try that the answer asked for, from its arrival.
    pub retry_after: Option<SignedDuration>,
}

struct Shown<'a>(&'a Option<ErrorCode>, &'a Option<RequestId>);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(code) = self.0 {
            write!(f, ", code {}", code.as_str())?;
        }
        if let Some(request_id) = self.1 {
            write!(f, ", request {}", request_id.as_str())?;
        }
        Ok(())
    }
}

/// How a call ended, in one word: `ok`, or the [`FailureClass::word`].
#[must_use]
pub fn outcome(result: &Result<Reply, CallError>) -> &'static str {
    result.as_ref().err().map_or("ok", |error| error.class.word())
}

/// The classes of failure; each has its own behaviour in `plan` or `directory`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FailureClass {
    /// Final for this generation of the spec.
    InvalidInput,
    /// Another contact of the directory has the name.
    NameTaken,
    /// A member is not in the directory.
    UnknownMember,
    /// The request itself is wrong: a fault of this program.
    ClientBug,
    /// The contact's present status does not allow it: read again.
    WrongState,
    /// Another operation runs in the directory; not executed.
    Conflict,
    /// Too fast; not executed.
    Throttled,
    /// A limit of the directory is reached.
    Quota,
    /// The day's verification messages are used up.
    SendsExhausted,
    /// The contact is not there.
    ContactNotFound,
    /// Nothing of that value waits for confirmation.
    NothingPending,
    /// The account has no resource directory.
    NoDirectory,
    /// Something else is not there.
    NotFound,
    /// The keys were not accepted.
    Credentials,
    /// The temporary keys are too old.
    TokenExpired,
    /// The clocks differ too much.
    Clock(Skew),
    /// The keys may not do this.
    Permission,
    /// There are no keys to sign with: getting them failed, and nothing was sent.
    NoKeys(KeyFailure),
    /// No usable answer to a read; it can simply be read again.
    Unavailable,
    /// No usable answer to a write: it may have happened, look before doing it again.
    OutcomeUnknown,
}

impl FailureClass {
    /// Each class once, with nothing told of its details.
    pub const ALL: [Self; 20] = [
        Self::InvalidInput,
        Self::NameTaken,
        Self::UnknownMember,
        Self::ClientBug,
        Self::WrongState,
        Self::Conflict,
        Self::Throttled,
        Self::Quota,
        Self::SendsExhausted,
        Self::ContactNotFound,
        Self::NothingPending,
        Self::NoDirectory,
        Self::NotFound,
        Self::Credentials,
        Self::TokenExpired,
        Self::Clock(Skew(None)),
        Self::Permission,
        Self::NoKeys(KeyFailure { step: KeyStep::TokenFile, cause: KeyCause::Refused }),
        Self::Unavailable,
        Self::OutcomeUnknown,
    ];

    /// One word for metrics and for the lines of the audit trail.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::InvalidInput => "invalid_input",
            Self::NameTaken => "name_taken",
            Self::UnknownMember => "unknown_member",
            Self::ClientBug => "client_bug",
            Self::WrongState => "wrong_state",
            Self::Conflict => "conflict",
            Self::Throttled => "throttled",
            Self::Quota => "quota",
            Self::SendsExhausted => "sends_exhausted",
            Self::ContactNotFound => "contact_not_found",
            Self::NothingPending => "nothing_pending",
            Self::NoDirectory => "no_directory",
            Self::NotFound => "not_found",
            Self::Credentials => "credentials",
            Self::TokenExpired => "token_expired",
            Self::Clock(_) => "clock",
            Self::Permission => "permission",
            Self::NoKeys(_) => "no_keys",
            Self::Unavailable => "unavailable",
            Self::OutcomeUnknown => "unknown",
        }
    }

    /// A sentence part for error texts.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidInput => "the value was refused",
            Self::NameTaken => "the name is taken",
            Self::UnknownMember => "a member is not in the directory",
            Self::ClientBug => "the request was not understood",
            Self::WrongState => "the contact's status does not allow it now",
            Self::Conflict => "another operation is running in the directory",
            Self::Throttled => "the API asked to slow down",
            Self::Quota => "a limit of the directory is reached",
            Self::SendsExhausted => "the day's verification messages are used up",
            Self::ContactNotFound => "the contact is not there",
            Self::NothingPending => "nothing of that value waits for confirmation",
            Self::NoDirectory => "the account has no resource directory",
            Self::NotFound => "it is not there",
            Self::Credentials => "the access keys were not accepted",
            Self::TokenExpired => "the security token has expired",
            Self::Clock(_) => "the clocks differ too much",
            Self::Permission => "the access keys may not do this",
            Self::NoKeys(_) => "there are no access keys to sign with",
            Self::Unavailable => "no usable answer",
            Self::OutcomeUnknown => "no usable answer, so the outcome is unknown",
        }
    }

    /// Whether both say the same, apart from what changes by rounding.
    #[must_use]
    pub fn is_alike(self, other: Self) -> bool {
        match (self, other) {
            (Self::Clock(one), Self::Clock(other)) => one.is_alike(other),
            (Self::NoKeys(one), Self::NoKeys(other)) => {
                let alike = match (one.cause, other.cause) {
                    (KeyCause::Clock(one), KeyCause::Clock(other)) => one.is_alike(other),
                    (one, other) => one == other,
                };
                alike && one.step == other.step
            }
            (one, other) => one == other,
        }
    }

    /// Whether the call certainly changed nothing.
    #[must_use]
    pub fn not_executed(self) -> bool {
        !matches!(self, Self::OutcomeUnknown)
    }
}

/// By how many whole minutes this machine's clock is ahead of the one that answered; `None` if the
/// answer does not tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Skew(pub Option<i64>);

impl Skew {
    /// Whether both say the same. A minute more or less comes from rounding.
    #[must_use]
    pub fn is_alike(self, other: Self) -> bool {
        match (self.0, other.0) {
            (Some(one), Some(other)) => one.abs_diff(other) <= 1,
            (one, other) => one == other,
        }
    }
}

/// Why there are no keys: where they were asked for, and what came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyFailure {
    /// The step that failed.
    pub step: KeyStep,
    /// What was wrong.
    pub cause: KeyCause,
}

/// The steps by which keys are had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyStep {
    /// Reading the token of the service account.
    TokenFile,
    /// Exchanging that token at STS.
    AssumeRoleWithOidc,
    /// Taking a role at STS.
    AssumeRole,
    /// Asking the metadata service of the node.
    InstanceMetadata,
}

impl KeyStep {
    /// The step in a text: an operation by its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TokenFile => "the token file",
            Self::AssumeRoleWithOidc => "AssumeRoleWithOIDC",
            Self::AssumeRole => "AssumeRole",
            Self::InstanceMetadata => "the instance metadata",
        }
    }
}

/// What went wrong in such a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyCause {
    /// The token, the keys or a parameter was not accepted, or there was nothing to give.
    Refused,
    /// Taking the role is not allowed.
    Forbidden,
    /// There is no such role.
    NoRole,
    /// The clocks differ too much.
    Clock(Skew),
    /// No usable answer; it can be asked again.
    Unanswered,
}

/// An error code of the API. Only characters that codes are made of are kept, so that an odd
/// answer cannot carry anything else into a text.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ErrorCode(String);

impl ErrorCode {
    /// Longest code that is kept, in characters.
    pub const CHARS_MAX: usize = 96;

    /// The code, if the text looks like one: letters, digits, dots and hyphens.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        let fits = (1..=Self::CHARS_MAX).contains(&text.len()) && text.chars().all(plain);
        fits.then(|| Self(text.to_owned()))
    }

    /// The code as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The id of a request, for the vendor's support: hexadecimal digits and hyphens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestId(String);

impl RequestId {
    /// The id, if the text looks like one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let plain = |c: char| c.is_ascii_hexdigit() || c == '-';
        let fits = (8..=64).contains(&text.len()) && text.chars().all(plain);
        fits.then(|| Self(text.to_owned()))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
