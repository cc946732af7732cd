//! One step: the only place that changes the cloud, writes an intent or drops the finalizer.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use jiff::Timestamp;

use super::claims::Contact;
use super::gather::{Judgement, World};
use super::report::{self, Happening, Written};
use crate::directory::{NotListed, Outcome, Priority};
use crate::domain::call::{Action, Call, CallError, Changes, DeletionState, Reply};
use crate::domain::contact::Recorded;
use crate::domain::snapshot::Snapshot;
use crate::plan::{AddFate, Step, Urgency, next_setback, record_after};

/// What a step left behind.
pub(super) enum Left {
    /// Look again: the world has changed. `carried` is what the status is to remember from now on.
    LookAgain {
        /// What the status is to remember, if that changed.
        carried: Option<Recorded>,
    },
    /// Nothing can be done now; look again at that time.
    Later(Option<Timestamp>),
    /// The object may be gone.
    Released,
}

/// Whether the plan wants something remembered that must be stored before its step is taken.
pub(super) fn must_store_first(judgement: &Judgement) -> bool {
    let Judgement { stored, plan, .. } = judgement;
    let record = &plan.record;
    let identity = |recorded: &Recorded| {
        (recorded.directory_id.clone(), recorded.contact_id.clone(), recorded.creation.clone())
    };
    matches!(plan.step, Some(Step::Call(..))) && identity(stored) != identity(record)
}

/// Stores identity and intent before the step that relies on them.
pub(super) async fn store_first(
    world: &World,
    judgement: &Judgement,
) -> Result<Left, kube::Error> {
    let Judgement { stored, plan, uid, .. } = judgement;
    let intent = plan.record.creation.as_ref();
    if let Some(intent) = intent.filter(|intent| stored.creation.as_ref() != Some(*intent)) {
        // Nobody but this process knows of the intent, and it has sent nothing under it.
        let add = Some((intent.hash.clone(), intent.at, AddFate::NotMade));
        world.remember(uid, |memory| memory.add = add);
    }
    // The write that is planned was not made yet, so it is not noted yet.
    let last_write = judgement.recorded.last_write.clone();
    let record = Recorded { last_write, ..plan.record.clone() };
    report::contact(world, judgement, &record, None).await?;
    Ok(Left::LookAgain { carried: None })
}

/// Takes the step.
pub(super) async fn step(
    world: &Arc<World>,
    key: &Contact,
    judgement: &Judgement,
    carried: Option<&Recorded>,
    step: &Step,
) -> Result<Left, kube::Error> {
    match step {
        Step::TakeFinalizer => {
            report::finalizer(world, judgement, true).await?;
            Ok(Left::LookAgain { carried: carried.cloned() })
        }
        Step::ReleaseFinalizer => match report::finalizer(world, judgement, false).await? {
            Written::Stored => Ok(Left::Released),
            Written::Conflict => Ok(Left::LookAgain { carried: carried.cloned() }),
        },
        Step::Relist => relist(world, judgement, carried).await,
        Step::Call(Call::DeleteMessageContact { .. }, _) if !definition_stands(world).await? => {
            Ok(Left::LookAgain { carried: carried.cloned() })
        }
        Step::Call(planned, urgency) => {
            let outcome = send(world, key, judgement, carried, planned, *urgency).await;
            after(world, judgement, carried, planned, outcome).await
        }
    }
}

/// Asked of the apiserver before each deletion in the cloud: deleting our definition deletes every
/// object, and must delete no contact.
async fn definition_stands(world: &World) -> Result<bool, kube::Error> {
    world.look_at_definition().await?;
    Ok(!world.definition_goes.load(Ordering::Acquire))
}

async fn relist(
    world: &World,
    judgement: &Judgement,
    carried: Option<&Recorded>,
) -> Result<Left, kube::Error> {
    let listed = match &judgement.directory {
        Some(directory) => directory.relist().await,
        None => Err(NotListed::Closed),
    };
    let error = match listed {
        Ok(()) => None,
        Err(NotListed::Failed(error)) => Some(error),
        Err(NotListed::Closed) => return Ok(Left::Later(None)),
    };
    note_setback(world, judgement, Action::ListMessageContacts, error.as_ref());
    Ok(Left::LookAgain { carried: carried.cloned() })
}

/// Asks the lane for the call. Right before it is sent everything is judged once more, and it is
/// sent only if it is still the next step.
async fn send(
    world: &Arc<World>,
    key: &Contact,
    judgement: &Judgement,
    carried: Option<&Recorded>,
    planned: &Call,
    urgency: Urgency,
) -> Outcome {
    let Some(directory) = &judgement.directory else { return Outcome::Closed };
    let priority = match urgency {
        Urgency::Change => Priority::Change,
        Urgency::Create => Priority::Create,
        Urgency::Repair => Priority::Repair,
    };
    let decide = {
        let (world, key, planned) = (Arc::clone(world), key.clone(), planned.clone());
        let (uid, carried) = (judgement.uid.clone(), carried.cloned());
        let is_add = matches!(planned, Call::AddMessageContact(_));
        move |snapshot: &Snapshot, now: Timestamp| {
            if is_add {
                // Asked again only after a clear refusal of the call before.
                set_add_fate(&world, &uid, AddFate::NotMade);
            }
            let judgement = world.judge(&key, carried.as_ref(), Some(snapshot), now)?;
            let unchanged = judgement.uid == uid
                && !must_store_first(&judgement)
                && matches!(&judgement.plan.step, Some(Step::Call(call, _)) if *call == planned);
            if unchanged && is_add {
                set_add_fate(&world, &uid, AddFate::Unanswered { since: now });
            }
            unchanged.then(|| planned.clone())
        }
    };
    directory.perform(priority, decide).await
}

async fn after(
    world: &World,
    judgement: &Judgement,
    carried: Option<&Recorded>,
    call: &Call,
    outcome: Outcome,
) -> Result<Left, kube::Error> {
    let result = match outcome {
        Outcome::Done(result) => result,
        Outcome::Overtaken => return Ok(Left::LookAgain { carried: carried.cloned() }),
        Outcome::NotConnected(error) => Err(error),
        Outcome::Closed => return Ok(Left::Later(None)),
    };
    let error = result.as_ref().err();
    note_setback(world, judgement, call.action(), error);
    let refused = error.is_some_and(|error: &CallError| error.class.not_executed());
    if refused && matches!(call, Call::AddMessageContact(_)) {
        set_add_fate(world, &judgement.uid, AddFate::NotMade);
    }
    if let Ok(reply) = &result
        && let Some(happening) = happening(call, reply)
    {
        report::event(world, judgement, happening).await;
    }
    let record = record_after(&judgement.recorded, judgement.plan.record.clone(), error);
    Ok(Left::LookAgain { carried: Some(record) })
}

/// Remembers that a call failed, or that one of that operation worked.
fn note_setback(
    world: &World,
    judgement: &Judgement,
    action: Action,
    error: Option<&CallError>,
) {
    let generation = judgement.object.metadata.generation.unwrap_or(0);
    let now = world.clock.now();
    world.remember(&judgement.uid, |memory| {
        memory.setback = next_setback(memory.setback.as_ref(), action, error, generation, now);
    });
}

/// Refines what is known of the Add under the open intent.
fn set_add_fate(world: &World, uid: &crate::domain::contact::Uid, fate: AddFate) {
    world.remember(uid, |memory| {
        if let Some((_, _, known)) = &mut memory.add {
            *known = fate;
        }
    });
}

/// What people are told of a call that worked.
fn happening(call: &Call, reply: &Reply) -> Option<Happening> {
    match (call, reply) {
        (Call::AddMessageContact(_), Reply::Added(_)) => {
            let note = "the contact was created in the directory".to_owned();
            Some(Happening::done("Created", "AddMessageContact", note))
        }
        (Call::UpdateMessageContact(_, changes), _) => {
            let note = format!("changed in the directory: {}", fields(changes).join(", "));
            Some(Happening::done("Updated", "UpdateMessageContact", note))
        }
        (Call::DeleteMessageContact { .. }, Reply::Deletion(DeletionState::Deleted)) => {
            let note = "the contact was deleted from the directory".to_owned();
            Some(Happening::done("Deleted", "DeleteMessageContact", note))
        }
        (Call::DeleteMessageContact { .. }, _) => {
            let note = "the deletion of the contact runs in the directory".to_owned();
            Some(Happening::done("Deleting", "DeleteMessageContact", note))
        }
        _ => None,
    }
}

fn fields(changes: &Changes) -> Vec<&'static str> {
    let Changes { name, title, email, phone, message_types } = changes;
    [
        ("name", name.is_some()),
        ("title", title.is_some()),
        ("emailAddress", email.is_some()),
        ("phoneNumber", phone.is_some()),
        ("messageTypes", message_types.is_some()),
    ]
    .into_iter()
    .filter_map(|(field, changed)| changed.then_some(field))
    .collect()
}
