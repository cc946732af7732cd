//! The cloud as it would be after each call that is planned: every call does its work, and a new
//! address or number waits for its owner. Nobody clicks.

use std::collections::BTreeMap;

use crate::domain::call::{
    Call, CallError, Changes, DeletionState, FailureClass, NewContact, Page, PhoneChange, Reply,
    Target,
};
use crate::domain::contact::{ContactId, ContactStatus, ObservedContact};
use crate::domain::snapshot::{Sight, Snapshot};

/// A contact that is or would be in the cloud.
#[derive(Debug, Clone)]
pub(super) struct Contact {
    pub(super) observed: ObservedContact,
    /// The values that wait for their owners; `None`: only the cloud can tell.
    pub(super) waiting: Option<Vec<Target>>,
}

/// The contacts of a directory.
#[derive(Debug, Default)]
pub(super) struct Imagined {
    contacts: BTreeMap<ContactId, Contact>,
    created: usize,
}

/// What becomes of a call.
pub(super) enum Answer {
    /// It is answered so.
    Told(Result<Reply, CallError>),
    /// Only the cloud can tell.
    Unknown,
}

/// What ids of contacts begin with that are not in the cloud yet. Those of the cloud never do.
const NEW: &str = "(new";

impl Imagined {
    /// As it is now.
    pub(super) fn of(snapshot: &Snapshot) -> Self {
        let contacts = snapshot.contacts().map(|observed| {
            let waiting = match snapshot.sight(&observed.id) {
                Sight::Known(entry) => entry.pending.map(|pending| pending.targets),
                Sight::Unlisted | Sight::Gone { .. } => None,
            };
            (observed.id.clone(), Contact { observed: observed.clone(), waiting })
        });
        Self { contacts: contacts.collect(), created: 0 }
    }

    /// The contact of that id.
    pub(super) fn contact(&self, id: &ContactId) -> Option<&Contact> {
        self.contacts.get(id)
    }

    /// All contacts.
    pub(super) fn contacts(&self) -> impl Iterator<Item = &Contact> {
        self.contacts.values()
    }

    /// Whether the contact of that id is only imagined.
    pub(super) fn is_new(id: &ContactId) -> bool {
        id.as_str().starts_with(NEW)
    }

    /// Does what a call asks for.
    pub(super) fn answer(&mut self, call: &Call) -> Answer {
        if let Call::AddMessageContact(new) = call {
            return Answer::Told(Ok(Reply::Added(self.add(new))));
        }
        if let Call::ListMessageContacts { .. } = call {
            let items: Vec<_> = self.contacts().map(|contact| contact.observed.clone()).collect();
            let total = u32::try_from(items.len()).unwrap_or(u32::MAX);
            return Answer::Told(Ok(Reply::Contacts(Page { items, total })));
        }
        let Some(id) = call.contact_id() else { return Answer::Unknown };
        let Some(contact) = self.contacts.get_mut(id) else {
            return Answer::Told(Err(not_found(call)));
        };
        let reply = match call {
            Call::GetMessageContact(_) => Reply::Contact(contact.observed.clone()),
            Call::ListMessageContactVerifications { .. } => {
                let Some(items) = contact.waiting.clone() else { return Answer::Unknown };
                let total = u32::try_from(items.len()).unwrap_or(u32::MAX);
                Reply::Verifications(Page { items, total })
            }
            Call::UpdateMessageContact(_, changes) => {
                update(contact, changes);
                Reply::Done
            }
            Call::CancelMessageContactUpdate { id: _, email, phone } => {
                let values = email.clone().map(Target::Email);
                let values: Vec<_> =
                    values.into_iter().chain(phone.clone().map(Target::Phone)).collect();
                contact.waiting.iter_mut().for_each(|it| it.retain(|it| !values.contains(it)));
                Reply::Done
            }
            Call::AssociateMembers(_, ids) => {
                contact.observed.members.extend(ids.iter().cloned());
                Reply::Done
            }
            Call::DisassociateMembers(_, ids) => {
                contact.observed.members.retain(|id| !ids.contains(id));
                Reply::Done
            }
            Call::SendEmailVerificationForMessageContact(..)
            | Call::SendPhoneVerificationForMessageContact(..) => Reply::Done,
            Call::DeleteMessageContact { .. } => {
                self.contacts.remove(id);
                Reply::Deletion(DeletionState::Deleted)
            }
            Call::GetMessageContactDeletionStatus(_) => Reply::Deletion(DeletionState::Deleting),
            Call::AddMessageContact(_)
            | Call::ListMessageContacts { .. }
            | Call::GetResourceDirectory
            | Call::ListAccounts { .. } => return Answer::Unknown,
        };
        Answer::Told(Ok(reply))
    }

    fn add(&mut self, new: &NewContact) -> ContactId {
        let NewContact { name, title, email, phone, message_types } = new;
        self.created += 1;
        let id = ContactId(format!("{NEW} {})", self.created));
        let observed = ObservedContact {
            id: id.clone(),
            name: name.clone(),
            email: Some(email.clone()),
            phone: phone.clone(),
            title: title.as_str().to_owned(),
            message_types: message_types.iter().map(|word| word.as_str().to_owned()).collect(),
            members: std::iter::empty().collect(),
            status: ContactStatus::Verifying,
        };
        let phone = phone.clone().map(Target::Phone);
        let waiting = std::iter::once(Target::Email(email.clone())).chain(phone).collect();
        self.contacts.insert(id.clone(), Contact { observed, waiting: Some(waiting) });
        id
    }
}

fn update(contact: &mut Contact, changes: &Changes) {
    let Changes { name, title, email, phone, message_types } = changes;
    let Contact { observed, waiting } = contact;
    if let Some(name) = name {
        observed.name = name.clone();
    }
    if let Some(title) = title {
        title.as_str().clone_into(&mut observed.title);
    }
    if let Some(types) = message_types {
        observed.message_types = types.iter().map(|word| word.as_str().to_owned()).collect();
    }
    if let Some(email) = email {
        let waiting = waiting.get_or_insert_default();
        waiting.retain(|waits| !matches!(waits, Target::Email(_)));
        waiting.push(Target::Email(email.clone()));
    }
    if let Some(change) = phone {
        let waiting = waiting.get_or_insert_default();
        waiting.retain(|waits| !matches!(waits, Target::Phone(_)));
        match change {
            PhoneChange::Set(number) => waiting.push(Target::Phone(number.clone())),
            PhoneChange::Clear => observed.phone = None,
        }
    }
}

fn not_found(call: &Call) -> CallError {
    CallError {
        action: call.action(),
        class: FailureClass::ContactNotFound,
        code: None,
        request_id: None,
        retry_after: None,
    }
}
