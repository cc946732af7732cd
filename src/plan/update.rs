//! Making a contact agree with its spec: only what differs is sent, and what was sent is read back.

use super::{Input, Plan, Step, View, create, forbidding, rest, step_on, updating, urgency};
use crate::domain::call::{Call, Changes, PhoneChange, Target};
use crate::domain::contact::{
    DesiredContact, Difference, Field, LastWrite, Mode, ObservedContact, Recorded,
};
use crate::domain::snapshot::Entry;
use crate::domain::verdict::{Finding, Reason};

/// How often the same fields are written before a cloud that keeps other values is reported.
const WRITES_MAX: u32 = 2;

/// The contact is there and was read: put right what differs.
pub(super) fn converge(
    input: &Input<'_>,
    wanted: &DesiredContact,
    view: &View<'_>,
    entry: &Entry,
) -> Plan {
    if !input.finalizer && wanted.mode == Mode::Enforce {
        return step_on(input, updating("the contact is held again"), Step::TakeFinalizer);
    }
    let contact = entry.contact.as_ref();
    let mut changes = changes(wanted, contact);
    let sets_phone = matches!(changes.phone, Some(PhoneChange::Set(_)));
    if changes.email.is_some() || sets_phone {
        // What was written may wait for its owner while the old value is still shown (A12). That
        // holds for an earlier spec and an earlier process too, so it is always asked for.
        let Some(pending) = &entry.pending else {
            let call = Call::ListMessageContactVerifications { id: contact.id.clone(), page: 1 };
            let finding = updating("the values that wait for confirmation are read");
            return step_on(input, finding, Step::Call(call, urgency(input)));
        };
        leave_out_pending(&mut changes, pending);
    }
    if changes == Changes::default() {
        return in_sync(input, view, input.hash_key.of_write(&contact.id, wanted));
    }
    let drift = differences(wanted, contact, &changes);
    if wanted.mode == Mode::ReportOnly {
        return Plan { drift, ..rest(input, drifted(input)) };
    }
    if changes.name.is_some()
        && let Some(conflict) = create::name_conflict(view)
    {
        return Plan { drift, ..rest(input, conflict) };
    }
    changes = what_may_be_refused_last(changes);
    let hash = match changes.phone {
        Some(PhoneChange::Clear) => input.hash_key.of_clearing(&contact.id, wanted),
        Some(PhoneChange::Set(_)) | None => input.hash_key.of_write(&contact.id, wanted),
    };
    let written = input.recorded.last_write.as_ref().filter(|write| write.hash == hash);
    let writes = written.map_or(0, |write| write.mismatches);
    if writes >= WRITES_MAX {
        return Plan { drift, ..rest(input, contested(&changes)) };
    }
    let last_write = Some(LastWrite { hash, mismatches: writes + 1 });
    let record = Recorded { last_write, ..input.recorded.clone() };
    let call = Call::UpdateMessageContact(contact.id.clone(), changes);
    Plan {
        record,
        ..step_on(input, updating("a difference is put right"), Step::Call(call, urgency(input)))
    }
}

fn in_sync(input: &Input<'_>, view: &View<'_>, hash: String) -> Plan {
    let finding = Finding::met(Reason::InSync, "the directory has what the spec says");
    let record = Recorded {
        directory_id: Some(view.directory_id.clone()),
        last_write: Some(LastWrite { hash, mismatches: 0 }),
        last_error: None,
        ..input.recorded.clone()
    };
    Plan { record, ..rest(input, finding) }
}

/// What has to be written for the contact to be as wanted.
fn changes(wanted: &DesiredContact, contact: &ObservedContact) -> Changes {
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
    } = wanted;
    let same_email = contact.email.as_ref().is_some_and(|shown| shown.same_mailbox(email));
    let same_types = message_types.len() == contact.message_types.len()
        && message_types.iter().all(|word| contact.message_types.contains(word.as_str()));
    Changes {
        name: (contact.name != *name).then(|| name.clone()),
        title: (contact.title != title.as_str()).then_some(*title),
        email: (!same_email).then(|| email.clone()),
        phone: match (phone, &contact.phone) {
            (wanted, shown) if wanted == shown => None,
            (Some(number), _) => Some(PhoneChange::Set(number.clone())),
            (None, _) => Some(PhoneChange::Clear),
        },
        message_types: (!same_types).then(|| message_types.clone()),
    }
}

/// A value that waits for its owner is in the cloud: only its owner can do more.
fn leave_out_pending(changes: &mut Changes, pending: &[Target]) {
    let waits = |wanted: &Target| {
        pending.iter().any(|target| match (target, wanted) {
            (Target::Email(shown), Target::Email(wanted)) => shown.same_mailbox(wanted),
            (Target::Phone(shown), Target::Phone(wanted)) => shown == wanted,
            (Target::Email(_), Target::Phone(_)) | (Target::Phone(_), Target::Email(_)) => false,
        })
    };
    changes.email.take_if(|email| waits(&Target::Email(email.clone())));
    changes.phone.take_if(|change| match change {
        PhoneChange::Set(number) => waits(&Target::Phone(number.clone())),
        PhoneChange::Clear => false,
    });
}

/// The cloud may refuse to take a number out (A14), and with it the whole call: that goes alone,
/// after everything else.
fn what_may_be_refused_last(changes: Changes) -> Changes {
    let phone_only = Changes { phone: changes.phone.clone(), ..Changes::default() };
    match changes.phone {
        Some(PhoneChange::Clear) if changes != phone_only => Changes { phone: None, ..changes },
        Some(PhoneChange::Clear | PhoneChange::Set(_)) | None => changes,
    }
}

/// The fields of `changes`, both sides fit to be shown.
fn differences(
    wanted: &DesiredContact,
    contact: &ObservedContact,
    changes: &Changes,
) -> Vec<Difference> {
    let Changes { name, title, email, phone, message_types } = changes;
    let words = |words: Vec<&str>| words.join(", ");
    let mut list = Vec::new();
    let mut differs = |field, desired: String, observed: String| {
        list.push(Difference { field, desired, observed });
    };
    if name.is_some() {
        differs(Field::Name, wanted.name.as_str().to_owned(), contact.name.as_str().to_owned());
    }
    if title.is_some() {
        differs(Field::Title, wanted.title.as_str().to_owned(), contact.title.clone());
    }
    if email.is_some() {
        let shown = contact.email.as_ref().map(ToString::to_string).unwrap_or_default();
        differs(Field::EmailAddress, wanted.email.to_string(), shown);
    }
    if phone.is_some() {
        let masked = |phone: &Option<_>| {
            phone.as_ref().map(|phone: &crate::domain::channel::PhoneNumber| phone.to_string())
        };
        let (desired, observed) = (masked(&wanted.phone), masked(&contact.phone));
        differs(Field::PhoneNumber, desired.unwrap_or_default(), observed.unwrap_or_default());
    }
    if message_types.is_some() {
        let desired = words(wanted.message_types.iter().map(|word| word.as_str()).collect());
        let observed = words(contact.message_types.iter().map(String::as_str).collect());
        differs(Field::MessageTypes, desired, observed);
    }
    list
}

fn drifted(input: &Input<'_>) -> Finding {
    Finding::unmet(
        Reason::Drifted,
        format!(
            "the directory differs in the fields of `status.drift`, and {} forbids to write",
            forbidding(input)
        ),
    )
}

/// The same write was made [`WRITES_MAX`] times and still reads back differently.
fn contested(changes: &Changes) -> Finding {
    let phone_only = Changes { phone: Some(PhoneChange::Clear), ..Changes::default() };
    if *changes == phone_only {
        return not_removable();
    }
    Finding::unmet(
        Reason::DriftContested,
        "the cloud took the change and still shows other values in the fields of `status.drift`; it \
         is not repeated",
    )
}

/// The cloud keeps the number, or refuses to take it out (A14).
pub(super) fn not_removable() -> Finding {
    Finding::unmet(
        Reason::NotRemovable,
        "the cloud keeps the phone number that the spec no longer has; take it out in the console, \
         or create the contact anew",
    )
}
