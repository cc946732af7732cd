//! Deleting a contact, polled to the end, and letting go of an object.

use jiff::{SignedDuration, Timestamp};

use super::{Definition, Input, Plan, Step, Urgency, View, create, get, rest, step_on};
use crate::domain::call::{Call, DeletionBlocker, DeletionState};
use crate::domain::contact::{ContactStatus, Recorded};
use crate::domain::snapshot::{Deletion, Entry};
use crate::domain::verdict::{Finding, Reason};

/// Nothing is left to do in the cloud: the object may go.
pub(super) fn release(input: &Input<'_>) -> Plan {
    let step = input.finalizer.then_some(Step::ReleaseFinalizer);
    Plan { step, ..rest(input, released()) }
}

/// The contact cannot be deleted now.
pub(super) fn wait(input: &Input<'_>, why: &Finding) -> Plan {
    let message = format!(
        "the contact cannot be deleted: {}; `deletionPolicy: Retain` lets go of it",
        why.message
    );
    rest(input, Finding::unmet(Reason::DeletionFailed, message))
}

/// An intent is open: what it may have made must be deleted too.
pub(super) fn settle(input: &Input<'_>, view: &View<'_>, now: Timestamp) -> Plan {
    match create::outcome(view, &input.recorded.verification, now) {
        create::Outcome::NotMade | create::Outcome::Absent => {
            let record = Recorded { creation: None, ..input.recorded.clone() };
            Plan { record, ..release(input) }
        }
        create::Outcome::Made(record) => create::replan(input, view, &record, now),
        create::Outcome::Two => wait(
            input,
            &Finding::unmet(
                Reason::Ambiguous,
                "two contacts have the name under which this one was being created",
            ),
        ),
        create::Outcome::Unsure(id) => step_on(input, deleting(), get(input, id)),
        create::Outcome::LookAgain => step_on(input, deleting(), Step::Relist),
        create::Outcome::Wait(until) => Plan { recheck_at: Some(until), ..rest(input, deleting()) },
    }
}

/// The contact is there and was read.
pub(super) fn remove(
    input: &Input<'_>,
    entry: &Entry,
    retain_in_members: bool,
    since: Timestamp,
    now: Timestamp,
) -> Plan {
    let id = &entry.contact.id;
    let delete = || {
        let call = Call::DeleteMessageContact { id: id.clone(), retain_in_members };
        let step = || step_on(input, deleting(), Step::Call(call.clone(), Urgency::Change));
        match input.definition {
            Definition::Unasked | Definition::Stands { .. } | Definition::BeingDeleted => step(),
            Definition::Unreadable { at } => {
                after(input, at, DEFINITION_PAUSE, now, definition_unreadable(), step)
            }
        }
    };
    let poll = || {
        let call = Call::GetMessageContactDeletionStatus(id.clone());
        step_on(input, deleting(), Step::Call(call, Urgency::Change))
    };
    let runs = entry.contact.status == ContactStatus::Deleting;
    // Polled often at first and then less: every quarter of the time it has taken so far.
    let elapsed = now.duration_since(since);
    let pause = (elapsed / 4).clamp(POLL_PAUSE_MIN, POLL_PAUSE_MAX);
    match &entry.deletion {
        None if runs => poll(),
        None => delete(),
        Some(Deletion { state: DeletionState::Deleting, at }) => {
            after(input, *at, pause, now, deleting(), poll)
        }
        Some(Deletion { state: DeletionState::Unclear, at }) if runs => {
            after(input, *at, pause, now, deleting(), poll)
        }
        // Said to be done and still shown: a directory that answers late (A23).
        Some(Deletion { state: DeletionState::Unclear | DeletionState::Deleted, at }) => {
            after(input, *at, pause, now, deleting(), delete)
        }
        Some(Deletion { state: DeletionState::Failed(blockers), at }) => {
            let pause = (elapsed / 4).clamp(RETRY_PAUSE_MIN, RETRY_PAUSE_MAX);
            after(input, *at, pause, now, failed(blockers), delete)
        }
    }
}

/// Shortest and longest time between two looks at a deletion in the background.
///
/// Unverified: how long the cloud takes; no figure is printed.
const POLL_PAUSE_MIN: SignedDuration = SignedDuration::from_secs(2);
const POLL_PAUSE_MAX: SignedDuration = SignedDuration::from_secs(60);

/// Shortest and longest time between two tries of a deletion that failed (A31).
const RETRY_PAUSE_MIN: SignedDuration = SignedDuration::from_secs(30);
const RETRY_PAUSE_MAX: SignedDuration = SignedDuration::from_mins(10);

/// The deletion waits for something. If somebody takes the operator out meanwhile, that may never
/// come, and the object must go all the same.
pub(super) fn meanwhile(input: &Input<'_>, plan: Plan, now: Timestamp) -> Plan {
    let asked_at = match input.definition {
        Definition::Unasked | Definition::BeingDeleted => None,
        Definition::Stands { at } | Definition::Unreadable { at } => Some(at),
    };
    let due = asked_at.map(|at| at.saturating_add(DEFINITION_PAUSE).unwrap_or(Timestamp::MAX));
    match due {
        Some(due) if now < due => {
            let recheck_at = plan.recheck_at.map_or(due, |at| at.min(due));
            Plan { recheck_at: Some(recheck_at), ..plan }
        }
        Some(_) | None => Plan { step: Some(Step::AskDefinition), ..plan },
    }
}

/// Pause until the definition of our kind is asked for again.
const DEFINITION_PAUSE: SignedDuration = SignedDuration::from_secs(60);

fn after(
    input: &Input<'_>,
    last: Timestamp,
    pause: SignedDuration,
    now: Timestamp,
    finding: Finding,
    step: impl Fn() -> Plan,
) -> Plan {
    let due = last.saturating_add(pause).unwrap_or(Timestamp::MAX);
    if now >= due { step() } else { Plan { recheck_at: Some(due), ..rest(input, finding) } }
}

pub(super) fn deleting() -> Finding {
    Finding::unmet(Reason::Deleting, "the contact is being deleted in the cloud")
}

fn released() -> Finding {
    Finding::unmet(
        Reason::Deleting,
        "nothing is left to do in the cloud; the operator lets go of this object",
    )
}

fn definition_unreadable() -> Finding {
    Finding::unmet(
        Reason::DeletionFailed,
        "the operator may not read the definition of its own kind, and deletes nothing in the cloud \
         without having looked whether the definition itself is being deleted; grant its service \
         account `get` on the CustomResourceDefinition messagecontacts.message-contacts.dev, or set \
         `deletionPolicy: Retain`",
    )
}

fn failed(blockers: &[DeletionBlocker]) -> Finding {
    let shown = blockers.iter().take(BLOCKERS_SHOWN).map(|blocker| {
        let DeletionBlocker { account, message_types } = blocker;
        let account = match account.as_str() {
            "" => "an account".to_owned(),
            id => format!("account {id}"),
        };
        match message_types.join(", ") {
            types if types.is_empty() => account,
            types => format!("{account} ({types})"),
        }
    });
    let accounts = shown.collect::<Vec<_>>().join("; ");
    let rest = blockers.len().saturating_sub(BLOCKERS_SHOWN);
    let more = if rest > 0 { format!("; and {rest} more") } else { String::new() };
    Finding::unmet(
        Reason::DeletionFailed,
        format!(
            "the cloud could not delete the contact because members still depend on it: \
             {accounts}{more}; give them another contact for these messages, it is tried again, or \
             set `deletionPolicy: Retain`"
        ),
    )
}

/// Accounts named in a message; the rest is counted.
const BLOCKERS_SHOWN: usize = 10;
