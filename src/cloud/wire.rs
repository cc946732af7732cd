//! Calls as parameters, answers as replies. Pure.
//!
//! Reading is tolerant where a surprise is harmless (unknown members and words, missing or null
//! lists and texts) and strict where it is not. Anything that is wrong makes the *whole* answer
//! unreadable: a page with one broken entry would otherwise look like a directory in which a
//! contact is gone, or like a value that nobody has to confirm any more.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::domain::access::{AccessKeys, Hidden};
use crate::domain::call::{
    AccountPath, Action, Call, Changes, DeletionBlocker, DeletionState, DirectoryIdentity,
    NewContact, Page, PhoneChange, Reply, Target,
};
use crate::domain::channel::{EmailAddress, PhoneNumber};
use crate::domain::contact::{
    AccountId, ContactId, ContactName, ContactStatus, DirectoryId, MemberId, MessageType,
    ObservedContact, Title,
};

/// Longest id, word or name that is kept of an answer, in characters. Longer ones are cut.
const WORD_CHARS_MAX: usize = 256;

/// Longest account id; they have 16 digits.
const ACCOUNT_DIGITS_MAX: usize = 32;

/// Most steps of the way to an account: folders are at most a few levels deep.
const PATH_MAX: usize = 64;

/// Longest address or phone number that is kept of an answer, in characters.
const ADDRESS_CHARS_MAX: usize = 320;

/// The operation's own parameters, in clear. What is not set is left out, also an empty list:
/// the API cannot be told of one.
pub(super) fn encode(call: &Call) -> Vec<(String, String)> {
    let mut pairs = Pairs::default();
    match call {
        Call::AddMessageContact(contact) => {
            let NewContact { name, title, email, phone, message_types } = contact;
            pairs.put("Name", name.as_str());
            pairs.put("EmailAddress", email.reveal());
            pairs.put_some("PhoneNumber", phone.as_ref().map(PhoneNumber::reveal));
            pairs.put("Title", title.as_str());
            pairs.put_list("MessageTypes", words(message_types));
        }
        Call::UpdateMessageContact(id, changes) => {
            let Changes { name, title, email, phone, message_types } = changes;
            pairs.put("ContactId", id.as_str());
            pairs.put_some("Name", name.as_ref().map(ContactName::as_str));
            pairs.put_some("EmailAddress", email.as_ref().map(EmailAddress::reveal));
            pairs.put_some("PhoneNumber", phone.as_ref().map(phone_change));
            pairs.put_some("Title", title.map(Title::as_str));
            pairs.put_list("MessageTypes", message_types.iter().flat_map(words));
        }
        Call::GetMessageContact(id) | Call::GetMessageContactDeletionStatus(id) => {
            pairs.put("ContactId", id.as_str());
        }
        Call::ListMessageContacts { page } | Call::ListAccounts { page } => pairs.put_page(*page),
        Call::DeleteMessageContact { id, retain_in_members } => {
            pairs.put("ContactId", id.as_str());
            pairs.put("RetainContactInMembers", if *retain_in_members { "true" } else { "false" });
        }
        Call::SendEmailVerificationForMessageContact(id, email) => {
            pairs.put("ContactId", id.as_str());
            pairs.put("EmailAddress", email.reveal());
        }
        Call::SendPhoneVerificationForMessageContact(id, phone) => {
            pairs.put("ContactId", id.as_str());
            pairs.put("PhoneNumber", phone.reveal());
        }
        Call::ListMessageContactVerifications { id, page } => {
            pairs.put("ContactId", id.as_str());
            pairs.put_page(*page);
        }
        Call::CancelMessageContactUpdate { id, email, phone } => {
            pairs.put("ContactId", id.as_str());
            pairs.put_some("EmailAddress", email.as_ref().map(EmailAddress::reveal));
            pairs.put_some("PhoneNumber", phone.as_ref().map(PhoneNumber::reveal));
        }
        Call::AssociateMembers(id, members) | Call::DisassociateMembers(id, members) => {
            pairs.put("ContactId", id.as_str());
            pairs.put_list("Members", members.iter().map(MemberId::as_str));
        }
        Call::GetResourceDirectory => {}
    }
    pairs.0
}

fn words(types: &BTreeSet<MessageType>) -> impl Iterator<Item = &'static str> {
    types.iter().map(|message_type| message_type.as_str())
}

fn phone_change(change: &PhoneChange) -> &str {
    match change {
        PhoneChange::Set(phone) => phone.reveal(),
        PhoneChange::Clear => "",
    }
}

#[derive(Default)]
struct Pairs(Vec<(String, String)>);

impl Pairs {
    fn put(&mut self, name: &str, value: &str) {
        self.0.push((name.to_owned(), value.to_owned()));
    }

    fn put_some(&mut self, name: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.put(name, value);
        }
    }

    /// Lists count from 1, without gaps.
    fn put_list<'a>(&mut self, name: &str, values: impl Iterator<Item = &'a str>) {
        for (number, value) in (1..).zip(values) {
            self.put(&format!("{name}.{number}"), value);
        }
    }

    fn put_page(&mut self, page: u32) {
        self.put("PageNumber", &page.to_string());
        self.put("PageSize", &Call::PAGE_SIZE.to_string());
    }
}

/// The texts of one call that must not come back in an error: what it sends of a person, and the
/// keys. Case aside, and without the parts that say nothing alone.
pub(super) struct Private(Vec<String>);

impl Private {
    /// Shorter texts stand in many words by chance: they only count as a whole word.
    const CHARS_MIN: usize = 4;

    /// The parameters with private texts.
    const PARAMETERS: [&'static str; 5] =
        ["Name", "EmailAddress", "PhoneNumber", "OIDCToken", "ExternalId"];

    /// The private texts among the parameters of an operation, and of the keys that sign it.
    pub(super) fn of(operation: &[(String, String)], keys: Option<&AccessKeys>) -> Self {
        let keys = keys.into_iter().flat_map(|keys| {
            let AccessKeys { id, secret, token } = keys;
            [Some(id), Some(secret), token.as_ref()].into_iter().flatten()
        });
        let values = operation
            .iter()
            .filter(|(name, _)| Self::PARAMETERS.contains(&name.as_str()))
            .flat_map(|(_, value)| {
                // Without the domain, and without the country code.
                let parts = value.split_once('@').map(|(user, _)| user);
                let parts = parts.or_else(|| value.split_once('-').map(|(_, number)| number));
                [Some(value.as_str()), parts].into_iter().flatten()
            });
        let texts = keys.map(Hidden::reveal).chain(values).filter(|text| !text.is_empty());
        Self(texts.map(str::to_lowercase).collect())
    }

    /// Whether the text holds one of them.
    pub(super) fn appears_in(&self, text: &str) -> bool {
        let text = text.to_lowercase();
        self.0.iter().any(|private| {
            text.split(['.', '-', '_']).any(|word| word == private)
                || (private.chars().count() >= Self::CHARS_MIN && text.contains(private.as_str()))
        })
    }
}

/// The body of a success was not what the API documents. Holds nothing of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unreadable;

/// Reads the body of a success.
///
/// # Errors
/// It is not the documented JSON, lacks something that cannot be done without, or has another type
/// somewhere. Where nothing but `RequestId` is documented, a body without it is no answer of this
/// API; a list without `TotalCount` would end the walk over the pages too early.
pub(super) fn decode(action: Action, body: &[u8]) -> Result<Reply, Unreadable> {
    match action {
        Action::AddMessageContact => {
            let AddedBody { contact } = read(body)?;
            Ok(Reply::Added(ContactId(essential(contact.contact_id)?)))
        }
        Action::UpdateMessageContact
        | Action::SendEmailVerificationForMessageContact
        | Action::SendPhoneVerificationForMessageContact
        | Action::CancelMessageContactUpdate
        | Action::AssociateMembers
        | Action::DisassociateMembers => {
            let DoneBody { request_id } = read(body)?;
            essential(Some(request_id)).map(|_| Reply::Done)
        }
        Action::GetMessageContact => {
            let ContactBody { contact } = read(body)?;
            contact.observed().map(Reply::Contact)
        }
        Action::ListMessageContacts => {
            let ContactsBody { total_count, contacts } = read(body)?;
            page(total_count, contacts, WireContact::observed).map(Reply::Contacts)
        }
        Action::DeleteMessageContact => {
            let DeleteBody { status } = read(body)?;
            Ok(Reply::Deletion(deletion(status, None)))
        }
        Action::GetMessageContactDeletionStatus => {
            let DeletionStatusBody { contact_deletion_status } = read(body)?;
            let WireDeletion { status, fail_reason_list } =
                contact_deletion_status.unwrap_or_default();
            Ok(Reply::Deletion(deletion(status, fail_reason_list)))
        }
        Action::ListMessageContactVerifications => {
            let VerificationsBody { total_count, contact_verifications } = read(body)?;
            page(total_count, contact_verifications, WireVerification::target)
                .map(Reply::Verifications)
        }
        Action::GetResourceDirectory => {
            let DirectoryBody { resource_directory } = read(body)?;
            resource_directory.identity().map(Reply::Directory)
        }
        Action::ListAccounts => {
            let AccountsBody { total_count, accounts } = read(body)?;
            let accounts = accounts.and_then(|accounts| accounts.account);
            page(total_count, accounts, WireAccount::path).map(Reply::Accounts)
        }
    }
}

/// Whether the reply is about the contact that the call asked for. One that is not was mixed up on
/// the way, and acting on it would change another person's contact.
pub(super) fn answers(call: &Call, reply: &Reply) -> bool {
    match (call, reply) {
        (Call::GetMessageContact(id), Reply::Contact(contact)) => contact.id == *id,
        _ => true,
    }
}

/// An object, in UTF-8 throughout: `serde_json` alone would take an array for a struct, and would
/// not look into texts that it skips.
fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Unreadable> {
    let text = std::str::from_utf8(body).map_err(|_| Unreadable)?;
    if !text.trim_start().starts_with('{') {
        return Err(Unreadable);
    }
    serde_json::from_str(text).map_err(|_| Unreadable)
}

/// A text that is there and is not empty.
fn essential(text: Option<String>) -> Result<String, Unreadable> {
    text.filter(|text| !text.is_empty()).map(word).ok_or(Unreadable)
}

fn word(text: String) -> String {
    cut(text, WORD_CHARS_MAX)
}

/// Missing, null and empty are the same.
///
/// Unverified (A28): in which of these forms an address is absent.
fn address(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty()).map(|text| cut(text, ADDRESS_CHARS_MAX))
}

fn cut(mut text: String, chars_max: usize) -> String {
    if let Some((end, _)) = text.char_indices().nth(chars_max) {
        text.truncate(end);
    }
    text
}

fn page<W, T>(
    total: u32,
    entries: Option<Vec<W>>,
    entry: impl Fn(W) -> Result<T, Unreadable>,
) -> Result<Page<T>, Unreadable> {
    let items = entries.unwrap_or_default().into_iter().map(entry).collect::<Result<_, _>>()?;
    Ok(Page { items, total })
}

fn deletion(status: Option<String>, reasons: Option<Vec<WireFailReason>>) -> DeletionState {
    match status.as_deref() {
        Some("Deleted") => DeletionState::Deleted,
        Some("Deleting") => DeletionState::Deleting,
        Some("Failed") => DeletionState::Failed(
            reasons.unwrap_or_default().into_iter().map(WireFailReason::blocker).collect(),
        ),
        _ => DeletionState::Unclear,
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DoneBody {
    request_id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct AddedBody {
    contact: WireContact,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ContactBody {
    contact: WireContact,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ContactsBody {
    total_count: u32,
    contacts: Option<Vec<WireContact>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DeleteBody {
    status: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DeletionStatusBody {
    contact_deletion_status: Option<WireDeletion>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct VerificationsBody {
    total_count: u32,
    contact_verifications: Option<Vec<WireVerification>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DirectoryBody {
    resource_directory: WireDirectory,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct AccountsBody {
    total_count: u32,
    accounts: Option<WireAccounts>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct WireAccounts {
    account: Option<Vec<WireAccount>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct WireAccount {
    resource_directory_path: Option<String>,
}

impl WireAccount {
    fn path(self) -> Result<AccountPath, Unreadable> {
        let path = self.resource_directory_path.ok_or(Unreadable)?;
        let ids: Vec<_> = path.split('/').collect();
        let last = ids.last().is_some_and(|id| is_account(id));
        if !last || ids.len() > PATH_MAX || !ids.iter().all(|id| is_folder(id)) {
            return Err(Unreadable);
        }
        Ok(AccountPath(ids.into_iter().map(MemberId::from).collect()))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct WireContact {
    contact_id: Option<String>,
    name: Option<String>,
    email_address: Option<String>,
    phone_number: Option<String>,
    title: Option<String>,
    message_types: Option<Vec<String>>,
    members: Option<Vec<String>>,
    status: Option<String>,
}

impl WireContact {
    fn observed(self) -> Result<ObservedContact, Unreadable> {
        let Self {
            contact_id,
            name,
            email_address,
            phone_number,
            title,
            message_types,
            members,
            status,
        } = self;
        Ok(ObservedContact {
            id: ContactId(essential(contact_id)?),
            name: ContactName::observed(word(name.unwrap_or_default())),
            email: address(email_address).map(EmailAddress::observed),
            phone: address(phone_number).map(PhoneNumber::observed),
            title: word(title.unwrap_or_default()),
            message_types: message_types.unwrap_or_default().into_iter().map(word).collect(),
            members: members.unwrap_or_default().into_iter().map(word).map(MemberId).collect(),
            status: contact_status(status.unwrap_or_default()),
        })
    }
}

fn contact_status(text: String) -> ContactStatus {
    match text.as_str() {
        "Verifying" => ContactStatus::Verifying,
        "Active" => ContactStatus::Active,
        "Deleting" => ContactStatus::Deleting,
        _ => ContactStatus::Other(word(text)),
    }
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase")]
struct WireDeletion {
    status: Option<String>,
    fail_reason_list: Option<Vec<WireFailReason>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct WireFailReason {
    account_id: Option<String>,
    message_types: Option<Vec<String>>,
}

impl WireFailReason {
    /// People read it: what does not look like an account and the types that are not known are left
    /// out. An account that is not named stays as an empty text: that the deletion failed counts
    /// more.
    fn blocker(self) -> DeletionBlocker {
        let Self { account_id, message_types } = self;
        let message_types = message_types.unwrap_or_default();
        let known = message_types.iter().filter_map(|word| MessageType::from_word(word));
        DeletionBlocker {
            account: AccountId(account_id.filter(|id| is_blockers_account(id)).unwrap_or_default()),
            message_types: known.map(|known| known.as_str().to_owned()).collect(),
        }
    }
}

/// Digits only, and more of them than any phone number has (15, E.164).
fn is_blockers_account(id: &str) -> bool {
    is_account(id) && id.len() > 15
}

fn is_folder(id: &str) -> bool {
    (1..=WORD_CHARS_MAX).contains(&id.len())
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

fn is_account(id: &str) -> bool {
    (1..=ACCOUNT_DIGITS_MAX).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_digit())
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct WireVerification {
    target: Option<String>,
}

impl WireVerification {
    fn target(self) -> Result<Target, Unreadable> {
        let Self { target } = self;
        let target = address(target).ok_or(Unreadable)?;
        Ok(if target.contains('@') {
            Target::Email(EmailAddress::observed(target))
        } else {
            Target::Phone(PhoneNumber::observed(target))
        })
    }
}

#[derive(Deserialize)]
struct WireDirectory {
    #[serde(rename = "ResourceDirectoryId")]
    directory: Option<String>,
    #[serde(rename = "RootFolderId")]
    root_folder: Option<String>,
    #[serde(rename = "MasterAccountId")]
    management_account: Option<String>,
}

impl WireDirectory {
    fn identity(self) -> Result<DirectoryIdentity, Unreadable> {
        let Self { directory, root_folder, management_account } = self;
        let directory = directory.filter(|id| DirectoryId::is_formed(id)).ok_or(Unreadable)?;
        let account = management_account.filter(|id| is_account(id)).ok_or(Unreadable)?;
        let folder = root_folder.filter(|id| is_folder(id)).ok_or(Unreadable)?;
        Ok(DirectoryIdentity {
            directory_id: DirectoryId(directory),
            root_folder_id: MemberId(folder),
            management_account_id: AccountId(account),
        })
    }
}
