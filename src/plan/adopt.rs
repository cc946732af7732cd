//! Taking over a contact that is in the cloud already and that no object holds.
//!
//! ```text
//!   unheld, and the name is the same to the letter
//!      |-- Never ----------------------------------> NameTaken
//!      |-- ReportOnly -----------------------------> Drifted
//!      `-- else --what waits and the contact itself are read-->
//!             |-- bound to what the directory does
//!             |   not allow, or IfIdentical and
//!             |   something would be written -------> AdoptionRefused
//!             `-- else --finalizer--> id recorded: held
//! ```
//! Until the id is recorded nothing of the contact is shown: it is somebody else's. Whoever writes a
//! spec may be guessing what it has, so everything is read before anything is compared, and nothing
//! is compared where nothing may be taken over: a right guess looks like a wrong one.

use jiff::{SignedDuration, Timestamp};

use super::{Input, Plan, Step, Urgency, View, create, forbidding, rest, step_on, verify};
use crate::domain::call::{Call, Target};
use crate::domain::contact::{Adoption, ContactStatus, DesiredContact, Mode, Recorded};
use crate::domain::snapshot::Entry;
use crate::domain::verdict::{Finding, Reason};
use crate::domain::verification::{
    ChannelRecord, ChannelState, Evidence, Verification, whole_second,
};

/// How long a contact counts as shown by a Get. A list may be late (A23): it may show a contact
/// that is gone, or that its owner has renamed since.
const SHOWN_FOR: SignedDuration = SignedDuration::from_secs(60);

/// No contact is held and none was begun, and these have the wanted name; at least one.
pub(super) fn consider(
    input: &Input<'_>,
    wanted: &DesiredContact,
    view: &View<'_>,
    candidates: &[&Entry],
    now: Timestamp,
) -> Plan {
    if wanted.adoption == Adoption::Never {
        return rest(input, never());
    }
    if wanted.mode == Mode::ReportOnly {
        return rest(input, reported(input));
    }
    let is_shown = |entry: &Entry| {
        let recent = |at: Timestamp| now.duration_since(at) <= SHOWN_FOR;
        !entry.unread && entry.read_at.is_some_and(recent)
    };
    let read = |entry: &Entry| read(input, Call::GetMessageContact(entry.contact.id.clone()));
    let [entry] = candidates else {
        // One of them may be gone, or have another name by now.
        let unsure = candidates.iter().find(|entry| !is_shown(entry));
        return unsure.map_or_else(|| rest(input, ambiguous()), |entry| read(entry));
    };
    if entry.unread {
        return read(entry);
    }
    let contact = entry.contact.as_ref();
    if contact.status == ContactStatus::Deleting {
        return rest(input, being_deleted());
    }
    if entry.pending.is_none() {
        // The cloud may show a value that waits as if it were in force (A12): `Active` would confirm
        // what nobody has confirmed.
        let id = contact.id.clone();
        return self::read(input, Call::ListMessageContactVerifications { id, page: 1 });
    }
    if !is_shown(entry) {
        return read(entry);
    }
    let allowed = view.allowed_members;
    if allowed.is_some_and(|allowed| !contact.members.is_subset(allowed)) {
        // Whoever bound it there may do so; whoever takes it over would get what is sent there.
        return rest(input, refused());
    }
    let record = Recorded {
        directory_id: Some(view.directory_id.clone()),
        contact_id: Some(contact.id.clone()),
        verification: verification(input, wanted, entry, now),
        ..Recorded::default()
    };
    let as_if_held = Input { finalizer: true, ..input.clone() };
    let next = create::replan(&as_if_held, view, &record, now);
    let is_identical = next.step.is_none() && next.verdict.synced.reason == Reason::InSync;
    if wanted.adoption == Adoption::IfIdentical && !is_identical {
        return rest(input, refused());
    }
    if !input.finalizer {
        return step_on(input, looking(), Step::TakeFinalizer);
    }
    Plan { adopts: true, ..create::replan(input, view, &record, now) }
}

/// A backlog of contacts to take over waits behind what people change, as one of creates does.
fn read(input: &Input<'_>, call: Call) -> Plan {
    step_on(input, looking(), Step::Call(call, Urgency::Create))
}

/// What is known of the confirmation of a contact that is taken over. A value that is not in force
/// counts as sent now: whoever had the contact before has most likely sent it.
fn verification(
    input: &Input<'_>,
    wanted: &DesiredContact,
    entry: &Entry,
    now: Timestamp,
) -> Verification {
    let contact = entry.contact.as_ref();
    let hash = |target: &Target| input.hash_key.of_target(target);
    let waits = |value: &Target| {
        let mut pending = entry.pending.iter().flat_map(|pending| &pending.targets);
        pending.any(|target| verify::is_same(target, value))
    };
    let email = |address: &_| Target::Email(Clone::clone(address));
    let phone = |number: &_| Target::Phone(Clone::clone(number));
    // The record is about the wanted value where the cloud has it, else about the one it shows.
    let current = |wanted: Option<Target>, shown: Option<Target>| {
        wanted.filter(|wanted| waits(wanted)).or(shown)
    };
    let sent = |target: &Target| ChannelRecord {
        target: hash(target),
        state: ChannelState::Sent,
        sends: 0,
        last_sent: Some(whole_second(now)),
        evidence: None,
        verified_target: None,
    };
    let shown_email = contact.email.as_ref().map(email);
    let in_force = shown_email
        .clone()
        .filter(|shown| contact.status == ContactStatus::Active && !waits(shown))
        .map(|shown| hash(&shown));
    let mailbox = current(Some(email(&wanted.email)), shown_email).map(|target| {
        let record = sent(&target);
        if in_force.as_ref() == Some(&record.target) {
            ChannelRecord {
                state: ChannelState::Verified,
                last_sent: None,
                evidence: Some(Evidence::Active),
                verified_target: in_force.clone(),
                ..record
            }
        } else {
            ChannelRecord { verified_target: in_force.clone(), ..record }
        }
    });
    let number = wanted.phone.as_ref().and_then(|wanted| {
        current(Some(phone(wanted)), contact.phone.as_ref().map(phone)).as_ref().map(sent)
    });
    Verification { email: mailbox, phone: number }
}

fn looking() -> Finding {
    Finding::unmet(
        Reason::Creating,
        "a contact of this name is in the directory; whether it may be taken over is looked at",
    )
}

fn being_deleted() -> Finding {
    Finding::unmet(
        Reason::Creating,
        "a contact of this name is being deleted in the cloud; this one is created once it is gone",
    )
}

fn never() -> Finding {
    Finding::unmet(
        Reason::NameTaken,
        "a contact of this name is in the directory already, and `adoptionPolicy: Never`, or \
         `adoption` of the ResourceDirectory, forbids to take it over; choose another name, or \
         delete that contact",
    )
}

/// Whatever keeps it from being taken over, the text is the same: it must not help to guess what the
/// contact has.
fn refused() -> Finding {
    Finding::unmet(
        Reason::AdoptionRefused,
        "a contact of this name is in the directory already, and it is not taken over: something \
         would have to be written, which `IfIdentical` forbids, or it is bound to what \
         `allowedMembers` of the ResourceDirectory does not have; make the spec equal to it, allow \
         `Always` in `adoptionPolicy` and in `adoption` of the ResourceDirectory, have it unbound, \
         or choose another name",
    )
}

/// Nothing is compared: see above.
fn reported(input: &Input<'_>) -> Finding {
    Finding::unmet(
        Reason::Drifted,
        format!(
            "a contact of this name is in the directory already, and {} forbids to take it over; \
             whether it is as the spec says is not told before that may be done",
            forbidding(input)
        ),
    )
}

fn ambiguous() -> Finding {
    Finding::unmet(
        Reason::Ambiguous,
        "two contacts of the directory have this name; delete or rename one of them",
    )
}
