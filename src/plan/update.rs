//! Making a contact agree with its spec: only what differs is sent, and what was sent is read back.

use jiff::Timestamp;

use super::{
    Input, Plan, Step, View, create, forbidding, look, rest, reverts, step_on, updating, urgency,
    verify,
};
use crate::domain::call::{Action, Call, Changes, FailureClass, PhoneChange, Target};
use crate::domain::contact::{
    DesiredContact, Difference, Field, LastWrite, Mode, ObservedContact, Recorded,
};
use crate::domain::snapshot::{Entry, Pending};
use crate::domain::verdict::{Finding, Reason};

/// How often the same fields are written before a cloud that keeps other values is reported.
const WRITES_MAX: u32 = 2;

/// The contact is there and was read: put right what differs.
pub(super) fn converge(
    input: &Input<'_>,
    wanted: &DesiredContact,
    view: &View<'_>,
    entry: &Entry,
    now: Timestamp,
) -> Plan {
    if !input.finalizer && wanted.mode == Mode::Enforce {
        return step_on(
            input,
            updating("the finalizer is put on the object again"),
            Step::TakeFinalizer,
        );
    }
    let contact = entry.contact.as_ref();
    let mut changes = changes(wanted, contact);
    if sets_a_channel(&changes) {
        // What was written may wait for its owner while the old value is still shown (A12). That
        // holds for an earlier spec and an earlier process too, so it is always asked for.
        let Some(pending) = &entry.pending else {
            let call = Call::ListMessageContactVerifications { id: contact.id.clone(), page: 1 };
            let finding = updating("the values that wait for confirmation are read");
            return step_on(input, finding, Step::Call(call, urgency(input)));
        };
        leave_out_pending(&mut changes, pending);
        if wanted.mode == Mode::Enforce
            && let Some(again_at) = verify::other_shows_at(input, wanted, &changes, pending)
        {
            // Written again, a value that is in force would have to be confirmed again (A11).
            let finding = updating("a change that was not confirmed is about to be taken back");
            if now < again_at {
                return Plan { recheck_at: Some(again_at), ..rest(input, finding) };
            }
            let call = Call::ListMessageContactVerifications { id: contact.id.clone(), page: 1 };
            return step_on(input, finding, Step::Call(call, urgency(input)));
        }
        leave_out_on_its_way(input, &mut changes, pending);
        if sets_a_channel(&changes) && verify::is_outdated(input, entry) {
            return look(input, view);
        }
    }
    let drift = differences(wanted, contact, &changes);
    if wanted.mode == Mode::ReportOnly && changes != Changes::default() {
        return Plan { drift, ..rest(input, drifted(input)) };
    }
    if wanted.mode == Mode::Enforce
        && let Some(dropped) = values_to_drop(input, wanted, entry, &changes)
    {
        let finding = updating("a change that was not confirmed is taken back");
        return step_on(input, finding, Step::Call(dropped, urgency(input)));
    }
    if changes == Changes::default() {
        return in_sync(input, view, input.hash_key.of_write(&contact.id, wanted));
    }
    if changes.name.is_some()
        && let Some(conflict) = create::name_conflict(view)
    {
        return Plan { drift, ..rest(input, conflict) };
    }
    let is_left = |field| {
        is_revert(input, wanted, contact, field)
            && reverts::is_contested(&input.recorded.reverts, field, now)
    };
    let changes = without(changes, is_left);
    if changes == Changes::default() {
        // All else reads back as it should.
        let hash = input.hash_key.of_write(&contact.id, wanted);
        let last_write = Some(LastWrite { hash, mismatches: 0 });
        let record = Recorded { last_write, ..input.recorded.clone() };
        let finding = reverts::contested(drift.iter().map(|difference| difference.field));
        return Plan { record, drift, ..rest(input, finding) };
    }
    let changes = what_may_be_refused_last(changes);
    let hash = write_hash(input, wanted, contact, &changes);
    let writes = writes_of(input, &hash);
    if writes >= WRITES_MAX {
        return Plan { drift, ..rest(input, contested(&changes)) };
    }
    let put_right = differences(wanted, contact, &changes)
        .into_iter()
        .filter(|difference| is_revert(input, wanted, contact, difference.field));
    let email = changes.email.clone().map(Target::Email);
    let phone = match &changes.phone {
        Some(PhoneChange::Set(number)) => Some(Target::Phone(number.clone())),
        Some(PhoneChange::Clear) | None => None,
    };
    let before = &input.recorded.verification;
    let record = Recorded {
        last_write: Some(LastWrite { hash, mismatches: writes + 1 }),
        reverts: reverts::noted(input.recorded.reverts.clone(), put_right, now),
        verification: verify::owed(input.hash_key, before, email.as_ref(), phone.as_ref()),
        ..input.recorded.clone()
    };
    let call = Call::UpdateMessageContact(contact.id.clone(), changes);
    Plan {
        record,
        ..step_on(input, updating("a difference is put right"), Step::Call(call, urgency(input)))
    }
}

/// Whether a field that differs was as wanted before, so that writing it takes somebody's change
/// back: the same values were written or seen once, and read back.
///
/// The generation of the last spec in sync does not tell: it is not known while something else is
/// not in sync, and a fight would go on uncounted. Nor is every spec of another generation an edit
/// of the contact.
fn is_revert(
    input: &Input<'_>,
    wanted: &DesiredContact,
    contact: &ObservedContact,
    field: Field,
) -> bool {
    let Recorded { last_write, reverts, .. } = input.recorded;
    let Some(LastWrite { hash, mismatches }) = last_write else { return false };
    if *hash == input.hash_key.of_write(&contact.id, wanted) {
        // Not read back yet: the write is an edit, unless something is being taken back already.
        *mismatches == 0 || !reverts.is_empty()
    } else {
        // The number goes last: all else was as wanted.
        let clearing = *hash == input.hash_key.of_clearing(&contact.id, wanted);
        clearing && (field != Field::PhoneNumber || !reverts.is_empty())
    }
}

/// The fields are as wanted, or wait for their owners.
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

fn sets_a_channel(changes: &Changes) -> bool {
    changes.email.is_some() || matches!(changes.phone, Some(PhoneChange::Set(_)))
}

fn write_hash(
    input: &Input<'_>,
    wanted: &DesiredContact,
    contact: &ObservedContact,
    changes: &Changes,
) -> String {
    match changes.phone {
        Some(PhoneChange::Clear) => input.hash_key.of_clearing(&contact.id, wanted),
        Some(PhoneChange::Set(_)) | None => input.hash_key.of_write(&contact.id, wanted),
    }
}

/// How often the same was written and then still differed.
fn writes_of(input: &Input<'_>, hash: &str) -> u32 {
    let written = input.recorded.last_write.as_ref().filter(|write| write.hash == hash);
    written.map_or(0, |write| write.mismatches)
}

/// The call that takes back changes which wait for their owners and are not wanted any more, while
/// the wanted value is in force: writing that one again would ask its owner again. Where nothing is
/// in force yet, the wanted value is simply written over the one that waits.
///
/// Which value is in force cannot always be seen (A12): then the wanted one is written first, and
/// what waits is taken back if that changed nothing. A cancel that was refused is not repeated: the
/// wanted value is written instead (A15).
fn values_to_drop(
    input: &Input<'_>,
    wanted: &DesiredContact,
    entry: &Entry,
    changes: &Changes,
) -> Option<Call> {
    let pending = entry.pending.as_ref()?;
    let refused = input.setbacks.of(Action::CancelMessageContactUpdate).is_some_and(|setback| {
        setback.error.action == Action::CancelMessageContactUpdate
            && setback.error.class == FailureClass::WrongState
            && setback.generation == input.generation
    });
    if refused {
        return None;
    }
    let next = what_may_be_refused_last(changes.clone());
    let hash = write_hash(input, wanted, &entry.contact, &next);
    let written_in_vain = writes_of(input, &hash) > 0;
    let is_in_force = |value: &Target, differs: bool| {
        !differs || written_in_vain || verify::was_verified(input, value)
    };
    let of_channel = |value: Option<Target>, differs: bool| {
        let value = value?;
        let unwanted = pending.targets.iter().find(|target| {
            std::mem::discriminant(*target) == std::mem::discriminant(&value)
                && !verify::is_same(target, &value)
        })?;
        is_in_force(&value, differs).then(|| unwanted.clone())
    };
    let phone_differs = matches!(changes.phone, Some(PhoneChange::Set(_)));
    let email = of_channel(Some(Target::Email(wanted.email.clone())), changes.email.is_some());
    let phone = of_channel(wanted.phone.clone().map(Target::Phone), phone_differs);
    let email = match email {
        Some(Target::Email(email)) => Some(email),
        Some(Target::Phone(_)) | None => None,
    };
    let phone = match phone {
        Some(Target::Phone(phone)) => Some(phone),
        Some(Target::Email(_)) | None => None,
    };
    let id = entry.contact.id.clone();
    (email.is_some() || phone.is_some()).then_some(Call::CancelMessageContactUpdate {
        id,
        email,
        phone,
    })
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
fn leave_out_pending(changes: &mut Changes, pending: &Pending) {
    let waits =
        |wanted: &Target| pending.targets.iter().any(|target| verify::is_same(target, wanted));
    changes.email.take_if(|email| waits(&Target::Email(email.clone())));
    changes.phone.take_if(|change| match change {
        PhoneChange::Set(number) => waits(&Target::Phone(number.clone())),
        PhoneChange::Clear => false,
    });
}

/// A value that was written may not be listed yet, nor be shown: it is left out as well until its
/// owner was asked and a look since then could tell.
fn leave_out_on_its_way(input: &Input<'_>, changes: &mut Changes, pending: &Pending) {
    let is_on_its_way = |value: &Target| verify::is_on_its_way(input, value, pending);
    changes.email.take_if(|email| is_on_its_way(&Target::Email(email.clone())));
    changes.phone.take_if(|change| match change {
        PhoneChange::Set(number) => is_on_its_way(&Target::Phone(number.clone())),
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

/// The changes, but for those fields.
fn without(changes: Changes, is_left: impl Fn(Field) -> bool) -> Changes {
    let Changes { name, title, email, phone, message_types } = changes;
    Changes {
        name: name.filter(|_| !is_left(Field::Name)),
        title: title.filter(|_| !is_left(Field::Title)),
        email: email.filter(|_| !is_left(Field::EmailAddress)),
        phone: phone.filter(|_| !is_left(Field::PhoneNumber)),
        message_types: message_types.filter(|_| !is_left(Field::MessageTypes)),
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
