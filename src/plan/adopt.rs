//! Taking over a contact that is in the cloud already and that no object holds.
//!
//! ```text
//!   unheld, and the name is the same to the letter
//!      |-- Never ----------------------------------> NameTaken
//!      |-- IfIdentical, and something would have to
//!      |   be written -----------------------------> AdoptionRefused
//!      `-- else --what waits is read--> --a Get shows it--> --finalizer--> id recorded: held
//! ```
//! Until the id is recorded nothing of the contact is shown: it is somebody else's.

use jiff::{SignedDuration, Timestamp};

use super::update::{changes, leave_out_pending};
use super::{Input, Plan, Step, Urgency, View, create, rest, step_on};
use crate::domain::call::{Call, Changes, Target};
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
    match fits(wanted, entry) {
        Fit::Differs => return rest(input, refused(wanted.mode)),
        Fit::Unknown => {
            let id = contact.id.clone();
            return self::read(input, Call::ListMessageContactVerifications { id, page: 1 });
        }
        Fit::Fits => {}
    }
    if wanted.mode == Mode::ReportOnly {
        return rest(input, would_be_taken());
    }
    if !is_shown(entry) {
        return read(entry);
    }
    if !input.finalizer {
        return step_on(input, looking(), Step::TakeFinalizer);
    }
    let record = Recorded {
        directory_id: Some(view.directory_id.clone()),
        contact_id: Some(contact.id.clone()),
        verification: verification(input, wanted, entry, now),
        ..Recorded::default()
    };
    Plan { adopts: true, ..create::replan(input, view, &record, now) }
}

/// A backlog of contacts to take over waits behind what people change, as one of creates does.
fn read(input: &Input<'_>, call: Call) -> Plan {
    step_on(input, looking(), Step::Call(call, Urgency::Create))
}

/// Whether a contact may be taken over, as far as its fields matter.
enum Fit {
    Fits,
    Differs,
    /// Only the values that wait for their owner can tell.
    Unknown,
}

/// What waits is asked for before any contact is taken over: the cloud may show it as if it were in
/// force (A12), and then `Active` would confirm a value that nobody has confirmed.
fn fits(wanted: &DesiredContact, entry: &Entry) -> Fit {
    let identical = wanted.adoption == Adoption::IfIdentical;
    let mut changes = changes(wanted, &entry.contact);
    let Changes { name, title, email: _, phone: _, message_types } = &changes;
    let bound_alike =
        wanted.members.as_ref().is_none_or(|members| *members == entry.contact.members);
    let alike = name.is_none() && title.is_none() && message_types.is_none() && bound_alike;
    if identical && !alike {
        return Fit::Differs;
    }
    let Some(pending) = &entry.pending else { return Fit::Unknown };
    leave_out_pending(&mut changes, pending);
    if identical && changes != Changes::default() { Fit::Differs } else { Fit::Fits }
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
    let waits = |target: &Target| {
        entry.pending.iter().flatten().any(|pending| hash(pending) == hash(target))
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

/// Whatever differs, the text is the same: it must not help to guess what the contact has.
fn refused(mode: Mode) -> Finding {
    match mode {
        Mode::Enforce => Finding::unmet(
            Reason::AdoptionRefused,
            "a contact of this name is in the directory already, and it is taken over only if \
             nothing would have to be written (`IfIdentical`); make the spec equal to it, allow \
             `Always` in `adoptionPolicy` and in `adoption` of the ResourceDirectory, or choose \
             another name",
        ),
        Mode::ReportOnly => Finding::unmet(
            Reason::Drifted,
            "a contact of this name is in the directory already, and it would not be taken over: \
             something would have to be written (`IfIdentical`)",
        ),
    }
}

fn would_be_taken() -> Finding {
    Finding::unmet(
        Reason::Drifted,
        "a contact of this name is in the directory already, and it would be taken over; \
         `reconcilePolicy: ReportOnly` forbids that",
    )
}

fn ambiguous() -> Finding {
    Finding::unmet(
        Reason::Ambiguous,
        "two contacts of the directory have this name; delete or rename one of them",
    )
}
