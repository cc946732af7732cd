//! Creating a contact, safe against a crash at any point and without a person's help.
//!
//! ```text
//!   nothing --finalizer--> intent written --Add--> answered: id recorded
//!                              |   ^
//!          crash, or no answer |   | refused: nothing was made
//!                              v   |
//!                       fate unknown: look under the intent's name
//!                        found, unheld, and a Get shows it -> ours
//!                        absent from two fresh lists, the later 60 s after the Add -> begin again
//! ```

use jiff::{SignedDuration, Timestamp};

use super::{
    AddFate, Connection, Holder, Input, Plan, Step, Urgency, View, adopt, forbidding, get, plan,
    rest, step_on, verify,
};
use crate::domain::call::{Call, NewContact, Target};
use crate::domain::contact::{
    ContactId, Creation, DesiredContact, Difference, Field, Mode, Recorded,
};
use crate::domain::snapshot::{Entry, Sight};
use crate::domain::verdict::{Finding, Reason};
use crate::domain::verification::Verification;

/// How long after an unanswered Add the contact may still appear that it has made.
///
/// Unverified: a gateway that executes a call later than this is a documented limit.
pub(super) const ADD_SETTLES_AFTER: SignedDuration = SignedDuration::from_secs(60);

/// No contact is held, and no Add is open.
pub(super) fn begin(
    input: &Input<'_>,
    wanted: &DesiredContact,
    view: &View<'_>,
    now: Timestamp,
) -> Plan {
    if input.recorded.creation.is_some() && (view.rival || !view.namesakes.is_empty()) {
        // An intent that is known to have led to nothing must not outlive this process: after a
        // restart the contact of somebody else would pass for the one that it made.
        let record = Recorded { creation: None, ..input.recorded.clone() };
        return replan(input, view, &record, now);
    }
    if let Some(finding) = name_claimed(view) {
        return rest(input, finding);
    }
    let exact: Vec<&Entry> = unheld(view).collect();
    if !exact.is_empty() {
        return adopt::consider(input, wanted, view, &exact, now);
    }
    if let Some(finding) = name_taken(view) {
        return rest(input, finding);
    }
    if wanted.mode == Mode::ReportOnly {
        return report_absence(input, wanted);
    }
    if !input.finalizer {
        return step_on(input, creating(), Step::TakeFinalizer);
    }
    let hash = input.hash_key.of_creation(input.uid, view.directory_id, wanted);
    let creation = match &input.recorded.creation {
        Some(intent) if intent.hash == hash => intent.clone(),
        _ => Creation { name: wanted.name.clone(), hash, at: now },
    };
    let record = Recorded {
        directory_id: Some(view.directory_id.clone()),
        contact_id: None,
        creation: Some(creation),
        last_write: None,
        last_error: input.recorded.last_error.clone(),
        verification: verify::owed(
            input.hash_key,
            &input.recorded.verification,
            Some(&Target::Email(wanted.email.clone())),
            wanted.phone.clone().map(Target::Phone).as_ref(),
        ),
        ..Recorded::default()
    };
    let add = Call::AddMessageContact(NewContact::from(wanted));
    Plan { record, ..step_on(input, creating(), Step::Call(add, Urgency::Create)) }
}

/// The contact that this object held is gone: its id is forgotten, whatever comes next. Kept, it
/// would be read again whenever the snapshot has forgotten that it is gone.
pub(super) fn again(input: &Input<'_>, view: &View<'_>, now: Timestamp) -> Plan {
    let record = Recorded {
        contact_id: None,
        last_write: None,
        verification: Verification::default(),
        ..input.recorded.clone()
    };
    replan(input, view, &record, now)
}

/// The contact belongs to another object, whose status has the same id: it is forgotten here, and
/// left as it is. The view is not that of an object that holds nothing, so everything is looked at
/// anew.
pub(super) fn give_up(input: &Input<'_>, now: Timestamp) -> Plan {
    let Recorded { directory_id, creation, .. } = input.recorded.clone();
    let record = Recorded { directory_id, creation, ..Recorded::default() };
    Plan { record, recheck_at: Some(now), ..rest(input, name_is_claimed()) }
}

/// An intent is open: it is settled under its own name before the spec is looked at.
pub(super) fn settle(
    input: &Input<'_>,
    wanted: &DesiredContact,
    view: &View<'_>,
    intent: &Creation,
    now: Timestamp,
) -> Plan {
    // The view is that of the intent's name: under another one everything is looked at anew.
    let renamed = intent.name != wanted.name;
    match outcome(view, &input.recorded.verification, now) {
        Outcome::NotMade if renamed => drop_intent(input, now),
        Outcome::NotMade => begin(input, wanted, view, now),
        Outcome::Made(record) if renamed => remember(input, *record, now),
        Outcome::Made(record) => replan(input, view, &record, now),
        Outcome::Absent => drop_intent(input, now),
        Outcome::Two => rest(input, ambiguous()),
        Outcome::Unsure(id) => step_on(input, unknown(), get(input, id)),
        Outcome::LookAgain => step_on(input, unknown(), Step::Relist),
        Outcome::Wait(until) => Plan { recheck_at: Some(until), ..rest(input, unknown()) },
    }
}

/// What became of an Add under an open intent.
pub(super) enum Outcome {
    /// None was made.
    NotMade,
    /// The contact is there and ours.
    Made(Box<Recorded>),
    /// It may have been made, and is believed not to be there.
    Absent,
    /// Two contacts have the name.
    Two,
    /// A list shows this contact under the name; only a Get can tell that it is still there (A23).
    Unsure(ContactId),
    /// The directory must be listed again.
    LookAgain,
    /// It may still appear until then.
    Wait(Timestamp),
}

pub(super) fn outcome(view: &View<'_>, verification: &Verification, now: Timestamp) -> Outcome {
    let AddFate::Unanswered { since } = view.add else { return Outcome::NotMade };
    if now < since {
        // Written by a process whose clock was ahead: nothing that is seen before counts.
        return Outcome::Wait(since);
    }
    // A held contact of that name says nothing: a late list may show a name that its holder has
    // given up, while the contact that was made under it is not listed yet (A23).
    let candidates: Vec<&Entry> = unheld(view).collect();
    let read_since = |entry: &Entry| !entry.unread && entry.read_at.is_some_and(|at| at >= since);
    if let Some(unsure) = candidates.iter().find(|entry| !read_since(entry)) {
        return Outcome::Unsure(unsure.contact.id.clone());
    }
    match candidates.as_slice() {
        [] => {}
        [only] => {
            return Outcome::Made(Box::new(Recorded {
                directory_id: Some(view.directory_id.clone()),
                contact_id: Some(only.contact.id.clone()),
                verification: verification.clone(),
                ..Recorded::default()
            }));
        }
        [_, _, ..] => return Outcome::Two,
    }
    let settled_at = since.saturating_add(ADD_SETTLES_AFTER).unwrap_or(Timestamp::MAX);
    let looked_since = view.lists.last.is_some_and(|last| last > since);
    let looked_late = view.lists.last.is_some_and(|last| last >= settled_at);
    let looked_twice = view.lists.before.is_some_and(|before| before > since);
    if looked_late && looked_twice && looked_since {
        Outcome::Absent
    } else if !looked_since || now >= settled_at {
        Outcome::LookAgain
    } else {
        Outcome::Wait(settled_at)
    }
}

/// Decides again as if `record` had been read from the status.
pub(super) fn replan(
    input: &Input<'_>,
    view: &View<'_>,
    record: &Recorded,
    now: Timestamp,
) -> Plan {
    let own = record.contact_id.as_ref().and_then(|id| {
        let ours = view.namesakes.iter().find(|namesake| namesake.entry.contact.id == *id);
        ours.map(|namesake| Sight::Known(namesake.entry.clone()))
    });
    let others = view
        .namesakes
        .iter()
        .filter(|namesake| record.contact_id.as_ref() != Some(&namesake.entry.contact.id));
    let view = View { own, namesakes: others.cloned().collect(), ..view.clone() };
    let input = Input { recorded: record, connection: Connection::Open(view), ..input.clone() };
    plan(&input, now)
}

/// The intent led to nothing: it is forgotten, and the object looked at anew.
fn drop_intent(input: &Input<'_>, now: Timestamp) -> Plan {
    remember(input, Recorded { creation: None, ..input.recorded.clone() }, now)
}

/// Nothing but the record changes; then everything is looked at anew.
fn remember(input: &Input<'_>, record: Recorded, now: Timestamp) -> Plan {
    Plan { record, recheck_at: Some(now), ..rest(input, creating()) }
}

/// The contacts that have the name in question to the letter and that no object holds.
fn unheld<'a>(view: &'a View<'_>) -> impl Iterator<Item = &'a Entry> {
    let namesakes = view.namesakes.iter();
    namesakes
        .filter(|namesake| namesake.exact && namesake.holder == Holder::Nobody)
        .map(|namesake| &namesake.entry)
}

/// Why a contact may not be renamed to the wanted name, if so.
pub(super) fn name_conflict(view: &View<'_>) -> Option<Finding> {
    name_claimed(view).or_else(|| name_taken(view))
}

/// Another object has the name, or comes first for it.
fn name_claimed(view: &View<'_>) -> Option<Finding> {
    let claimed = view.namesakes.iter().find_map(|namesake| match namesake.holder {
        Holder::Other { deleting } => Some(deleting),
        Holder::Nobody => None,
    });
    match (claimed, view.rival) {
        (Some(true), _) => Some(Finding::unmet(
            if view.own.is_some() { Reason::Updating } else { Reason::Creating },
            "the contact of this name is being deleted with the MessageContact that holds it; this \
             one gets the name afterwards",
        )),
        // A rival that has just created the contact does not hold it yet.
        (Some(false), _) | (None, true) => Some(name_is_claimed()),
        (None, false) => None,
    }
}

/// A contact that no object holds has the name, or one that differs in letter case alone.
fn name_taken(view: &View<'_>) -> Option<Finding> {
    let message = if unheld(view).next().is_some() {
        "a contact of this name is in the directory already; choose another name, or delete that \
         contact"
    } else {
        "a contact is in the directory whose name differs from this one in letter case alone; \
         choose another name"
    };
    let taken = !view.namesakes.is_empty();
    taken.then(|| Finding::unmet(Reason::NameTaken, message))
}

fn report_absence(input: &Input<'_>, wanted: &DesiredContact) -> Plan {
    let finding = Finding::unmet(
        Reason::Drifted,
        format!(
            "the contact is not in the directory, and {} forbids to create it",
            forbidding(input)
        ),
    );
    let absent = Difference {
        field: Field::Name,
        desired: wanted.name.as_str().to_owned(),
        observed: String::new(),
    };
    let record = Recorded { contact_id: None, creation: None, ..input.recorded.clone() };
    Plan { record, drift: vec![absent], ..rest(input, finding) }
}

fn name_is_claimed() -> Finding {
    Finding::unmet(
        Reason::NameClaimed,
        "another MessageContact of this directory holds this name, or comes first for it; choose \
         another name, or delete the other object",
    )
}

fn creating() -> Finding {
    Finding::unmet(Reason::Creating, "the contact is being created")
}

fn unknown() -> Finding {
    Finding::unmet(
        Reason::OutcomeUnknown,
        "the call that creates the contact may have got no answer; the directory is listed until it \
         is clear, at most about a minute",
    )
}

fn ambiguous() -> Finding {
    Finding::unmet(
        Reason::Ambiguous,
        "two contacts of the directory have the name under which this one was being created; \
         delete or rename one of them",
    )
}
