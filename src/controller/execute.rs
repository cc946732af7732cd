//! One step: the only place that changes the cloud, writes an intent or drops the finalizer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use jiff::Timestamp;
use kube::runtime::reflector::ObjectRef;

use super::claims::Contact;
use super::gather::{Judgement, World};
use super::message_contact::Pass;
use super::report::{self, Asked, Counted, Happening, Interrupted, Written};
use super::trail;
use crate::api::MessageContact;
use crate::directory::{NotListed, Outcome, Priority};
use crate::domain::call::{Action, Call, CallError, DeletionState, FailureClass, Reply};
use crate::domain::contact::{Recorded, Uid};
use crate::domain::snapshot::Snapshot;
use crate::domain::verification::{ChannelRecord, Verification};
use crate::plan::{AddFate, Definition, Send, Step, Unsent, Urgency, ledger_after, record_after};

/// What a step left behind.
pub(super) enum Left {
    /// Look again: the world has changed.
    LookAgain,
    /// Somebody else wrote the object meanwhile.
    Conflict,
    /// The directory takes no calls any more.
    Closed,
    /// The object is gone, or may go.
    Released,
}

impl From<Written> for Left {
    fn from(written: Written) -> Self {
        match written {
            Written::Stored => Self::LookAgain,
            Written::Conflict => Self::Conflict,
            Written::Gone => Self::Released,
        }
    }
}

/// Whether the step creates a contact.
pub(super) fn is_add(step: &Step) -> bool {
    matches!(step, Step::Call(Call::AddMessageContact(_), _))
}

/// Whether the plan wants something remembered that must be stored before its step is taken: the
/// identity and the intent before each call that changes something; which value a message is owed
/// for before it is written, and that it was sent before it is sent.
pub(super) fn must_store_first(judgement: &Judgement) -> bool {
    let Judgement { stored, plan, .. } = judgement;
    let Some(Step::Call(call, _)) = &plan.step else { return false };
    let identity = |recorded: &Recorded| {
        (recorded.directory_id.clone(), recorded.contact_id.clone(), recorded.creation.clone())
    };
    let channel = |record: &Option<ChannelRecord>| {
        record.as_ref().map(|record| {
            let ChannelRecord { target, sends, last_sent, verified_target, .. } = record.clone();
            (target, sends, last_sent, verified_target)
        })
    };
    let owed = |recorded: &Recorded| {
        let Verification { email, phone } = &recorded.verification;
        (channel(email), channel(phone))
    };
    let concerns_channels = match call {
        Call::UpdateMessageContact(_, changes) => {
            changes.email.is_some() || changes.phone.is_some()
        }
        _ => plan.send.is_some(),
    };
    !call.action().is_read()
        && (identity(stored) != identity(&plan.record)
            || concerns_channels && owed(stored) != owed(&plan.record))
}

/// Stores identity and intent before the step that relies on them.
pub(super) async fn store_first(
    world: &World,
    judgement: &Judgement,
    pass: &mut Pass,
) -> Result<Left, Interrupted> {
    let Judgement { stored, plan, uid, .. } = judgement;
    let memory = world.remembered(uid);
    let intent = plan.record.creation.as_ref();
    if let Some(intent) = intent.filter(|intent| stored.creation.as_ref() != Some(*intent)) {
        // Nobody but this process knows of the intent, and it has sent nothing under it.
        let add = Some((intent.hash.clone(), intent.at, AddFate::NotMade));
        world.remember(uid, |memory| memory.add = add);
    }
    // The write that is planned was not made yet, so it is not noted yet.
    let (last_write, reverts) = match &plan.send {
        Some(_) => (plan.record.last_write.clone(), plan.record.reverts.clone()),
        None => (judgement.recorded.last_write.clone(), judgement.recorded.reverts.clone()),
    };
    let record = Recorded { last_write, reverts, ..plan.record.clone() };
    let generation = judgement.object.metadata.generation.unwrap_or(0);
    let action = match &plan.step {
        Some(Step::Call(call, _)) => Some(call.action()),
        Some(Step::TakeFinalizer | Step::ReleaseFinalizer | Step::Relist | Step::AskDefinition)
        | None => None,
    };
    let setback = action.and_then(|action| memory.setbacks.of(action));
    let retries = setback.is_some_and(|setback| setback.generation == generation);
    // That a list is fresh is said with what it shows.
    let asked = Asked { reconcile: None, resend: pass.asked.resend.clone() };
    let written = if retries {
        // What failed before stands until this try has ended, or every retry would be news.
        report::record(world, judgement, &record, &asked).await?
    } else {
        report::contact(world, judgement, &record, &asked).await?
    };
    if matches!(written, Written::Stored) {
        if let Some(send) = plan.send.clone() {
            let recorded = |unsent: &Unsent| unsent.is_recorded(&plan.record.verification);
            let overtaken = memory.unsent.iter().filter(|it| it.counted && !recorded(it));
            overtaken.for_each(|unsent| take_back(world, judgement, &unsent.send));
            world.remember(uid, |memory| {
                memory.unsent.retain(recorded);
                memory.unsent.push(Unsent { send, counted: false });
            });
        }
        // What the status remembers now is what the rest of the pass is made from.
        pass.carried = None;
    } else {
        world.remember_if_known(uid, |known| known.add = memory.add);
    }
    Ok(written.into())
}

/// Takes the step.
pub(super) async fn step(
    world: &Arc<World>,
    key: &Contact,
    judgement: &Judgement,
    pass: &mut Pass,
    step: &Step,
) -> Result<Left, Interrupted> {
    match step {
        Step::TakeFinalizer => Ok(report::finalizer(world, judgement, true).await?.into()),
        Step::ReleaseFinalizer => match report::finalizer(world, judgement, false).await? {
            Written::Stored | Written::Gone => Ok(Left::Released),
            Written::Conflict => Ok(Left::Conflict),
        },
        Step::Relist => Ok(relist(world, judgement).await),
        Step::AskDefinition => {
            let definition = world.definition_lately().await?;
            world.remember(&judgement.uid, |memory| memory.definition = definition);
            Ok(Left::LookAgain)
        }
        Step::Call(planned @ Call::DeleteMessageContact { .. }, urgency) => {
            let definition = world.definition::<MessageContact>().await?;
            world.remember(&judgement.uid, |memory| memory.definition = definition);
            match definition {
                Definition::Stands { .. } | Definition::Unasked => {
                    Ok(call(world, key, judgement, pass, planned, *urgency).await)
                }
                Definition::BeingDeleted | Definition::Unreadable { .. } => Ok(Left::LookAgain),
            }
        }
        Step::Call(planned, urgency) => {
            if let Some(send) = &judgement.plan.send {
                match count_first(world, judgement, send).await? {
                    Counted::Written => {}
                    Counted::Refused => return Ok(refused(world, judgement, pass, planned, send)),
                    Counted::Gone => return Ok(Left::Closed),
                }
            }
            Ok(call(world, key, judgement, pass, planned, *urgency).await)
        }
    }
}

/// Counts a message that is about to be sent, unless it was counted before.
async fn count_first(
    world: &World,
    judgement: &Judgement,
    send: &Send,
) -> Result<Counted, Interrupted> {
    let known = world.remembered(&judgement.uid).unsent;
    if known.iter().any(|unsent| unsent.counted && unsent.send == *send) {
        return Ok(Counted::Written);
    }
    let counted = report::count_send(world, judgement, send).await?;
    if matches!(counted, Counted::Written) {
        still_to_send(world, &judgement.uid, send);
    }
    Ok(counted)
}

/// The directory has no message left: to this object it is as if the API had said so.
fn refused(
    world: &World,
    judgement: &Judgement,
    pass: &mut Pass,
    call: &Call,
    send: &Send,
) -> Left {
    let (action, class) = (call.action(), FailureClass::SendsExhausted);
    let error = CallError { action, class, code: None, request_id: None, retry_after: None };
    no_longer_to_send(world, &judgement.uid, send);
    let planned = judgement.plan.record.clone();
    let now = world.clock.now();
    pass.carried = Some(record_after(&judgement.recorded, planned, call, Some(&error), now));
    Left::LookAgain
}

async fn call(
    world: &Arc<World>,
    key: &Contact,
    judgement: &Judgement,
    pass: &mut Pass,
    planned: &Call,
    urgency: Urgency,
) -> Left {
    let outcome = send(world, key, judgement, pass, planned, urgency).await;
    after(world, judgement, pass, planned, outcome)
}

async fn relist(world: &World, judgement: &Judgement) -> Left {
    let listed = match &judgement.directory {
        Some(directory) => directory.relist().await,
        None => Err(NotListed::Closed),
    };
    let action = Action::ListMessageContacts;
    let error = match listed {
        Ok(()) => None,
        Err(NotListed::Failed(error)) => Some(CallError { action, ..error }),
        Err(NotListed::Closed) => return Left::Closed,
    };
    note_setback(world, judgement, action, error.as_ref());
    Left::LookAgain
}

/// Asks the lane for the call. Right before it is sent everything is judged once more, and it is
/// sent only if it is still the next step.
async fn send(
    world: &Arc<World>,
    key: &Contact,
    judgement: &Judgement,
    pass: &Pass,
    planned: &Call,
    urgency: Urgency,
) -> Outcome {
    let Some(directory) = &judgement.directory else { return Outcome::Closed };
    let priority = match urgency {
        Urgency::Change => Priority::Change,
        Urgency::Create => Priority::Create,
        Urgency::Repair => Priority::Repair,
    };
    // Of a message, once and for all: the lane has begun to send it, or nobody waits for it.
    let decided = Arc::new(AtomicBool::new(false));
    let decide = {
        let (world, key, planned) = (Arc::clone(world), key.clone(), planned.clone());
        let (uid, carried) = (pass.uid.clone(), pass.carried.clone());
        let is_add = matches!(planned, Call::AddMessageContact(_));
        let send = judgement.plan.send.clone();
        let (decided, mut is_ours) = (Arc::clone(&decided), false);
        move |snapshot: &Snapshot, now: Timestamp| {
            if is_add {
                // Asked again only after a clear refusal of the call before.
                set_add_fate(&world, &uid, AddFate::NotMade);
            }
            if let Some(send) = &send {
                still_to_send(&world, &uid, send);
            }
            let judgement = world.judge(&key, carried.as_ref(), Some(snapshot), now)?;
            let unchanged = judgement.uid == uid
                && !must_store_first(&judgement)
                && matches!(&judgement.plan.step, Some(Step::Call(call, _)) if *call == planned);
            if unchanged && is_add {
                set_add_fate(&world, &uid, AddFate::Unanswered { since: now });
            }
            if let Some(send) = send.as_ref().filter(|_| unchanged) {
                if !is_ours && decided.swap(true, Ordering::AcqRel) {
                    // Nobody waits for it any more.
                    return None;
                }
                is_ours = true;
                // From here on it counts as sent.
                no_longer_to_send(&world, &uid, send);
            }
            unchanged.then(|| planned.clone())
        }
    };
    let ended = trail::line(judgement, priority);
    if matches!(planned, Call::AddMessageContact(_)) {
        // Whether it was sent must be known for certain; few wait here, and the lane asks again.
        return directory.perform_and_tell(priority, decide, ended).await;
    }
    let changed = world.told_of_changes(&pass.uid);
    let mut performed = std::pin::pin!(directory.perform_and_tell(priority, decide, ended));
    let is_message = judgement.plan.send.is_some();
    let outcome = tokio::select! {
        outcome = &mut performed => outcome,
        () = changed.notified() => {
            if is_message && decided.swap(true, Ordering::AcqRel) {
                // How it ends must be known: it counts as sent, and may still be refused.
                performed.await
            } else {
                // What was not sent is not sent any more; what was sent is recorded by the directory.
                Outcome::Overtaken
            }
        }
    };
    world.remember_if_known(&pass.uid, |memory| memory.waiting = None);
    outcome
}

fn after(
    world: &World,
    judgement: &Judgement,
    pass: &mut Pass,
    call: &Call,
    outcome: Outcome,
) -> Left {
    let result = match outcome {
        Outcome::Done(result) => result,
        Outcome::Overtaken => return Left::LookAgain,
        // Nothing was sent: to this object it is as if its own call had been refused.
        Outcome::NotConnected(error) => Err(CallError { action: call.action(), ..error }),
        Outcome::Closed => return Left::Closed,
    };
    let error = result.as_ref().err();
    match (&judgement.plan.send, error) {
        (Some(send), Some(error)) => after_unsent(world, judgement, send, error),
        (Some(_), None) => after_sent(world, judgement, call.action()),
        (None, _) if call.members().is_some() => {
            let attempts = judgement.plan.attempts.after(call, error, world.clock.now());
            world.remember(&judgement.uid, |memory| memory.attempts = attempts);
        }
        (None, _) => note_setback(world, judgement, call.action(), error),
    }
    if error.is_some_and(|error| error.class.not_executed())
        && matches!(call, Call::AddMessageContact(_))
    {
        set_add_fate(world, &judgement.uid, AddFate::NotMade);
    }
    if let Ok(reply) = &result {
        pass.happened.extend(happening(call, reply));
    }
    let planned = judgement.plan.record.clone();
    pass.carried = Some(record_after(&judgement.recorded, planned, call, error, world.clock.now()));
    Left::LookAgain
}

/// A message that was counted was never sent, and another one takes its place.
fn take_back(world: &World, judgement: &Judgement, never_sent: &Send) {
    let Send { target, contact, at } = never_sent;
    if let Some(directory) = &judgement.plan.record.directory_id {
        world.term().ledgers.change(directory, |ledger| ledger.taken_back(target, contact, *at));
    }
}

/// The message stands in all books, and was not sent yet.
fn still_to_send(world: &World, uid: &Uid, send: &Send) {
    world.remember_if_known(uid, |memory| {
        memory.unsent.retain(|unsent| unsent.send != *send);
        memory.unsent.push(Unsent { send: send.clone(), counted: true });
    });
}

/// The message was sent, or is none any more.
fn no_longer_to_send(world: &World, uid: &Uid, send: &Send) {
    world.remember_if_known(uid, |memory| memory.unsent.retain(|unsent| unsent.send != *send));
}

/// A message was sent.
fn after_sent(world: &World, judgement: &Judgement, action: Action) {
    let now = world.clock.now();
    if let Some(directory) = &judgement.plan.record.directory_id {
        world.term().ledgers.change(directory, |ledger| ledger.answered(now));
    }
    note_setback(world, judgement, action, None);
}

/// A message was not sent, or nobody knows.
fn after_unsent(world: &World, judgement: &Judgement, send: &Send, error: &CallError) {
    let Some(directory) = &judgement.plan.record.directory_id else { return };
    let now = world.clock.now();
    let mut is_over = true;
    world.term().ledgers.change(directory, |ledger| {
        let next = ledger_after(ledger, send, error, now);
        is_over = next.is_some();
        next.unwrap_or_else(|| ledger.clone())
    });
    if is_over {
        world.directory_waker.wake(ObjectRef::new(&judgement.directory_name));
    } else {
        still_to_send(world, &judgement.uid, send);
        note_setback(world, judgement, error.action, Some(error));
    }
}

/// Remembers that a call failed, or that one of that operation worked.
fn note_setback(world: &World, judgement: &Judgement, action: Action, error: Option<&CallError>) {
    let generation = judgement.object.metadata.generation.unwrap_or(0);
    let now = world.clock.now();
    let note = |memory: &mut super::gather::Memory| {
        memory.setbacks.note(action, error, generation, now);
    };
    match error {
        Some(_) => world.remember(&judgement.uid, note),
        None => world.remember_if_known(&judgement.uid, note),
    }
}

/// Refines what is known of the Add under the open intent.
fn set_add_fate(world: &World, uid: &Uid, fate: AddFate) {
    world.remember_if_known(uid, |memory| {
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
            let note = format!("changed in the directory: {}", trail::fields(changes).join(", "));
            Some(Happening::done("Updated", "UpdateMessageContact", note))
        }
        (Call::SendEmailVerificationForMessageContact(..), _) => {
            let note = "a verification message was sent to the mailbox".to_owned();
            Some(Happening::done("VerificationSent", "SendEmailVerification", note))
        }
        (Call::SendPhoneVerificationForMessageContact(..), _) => {
            let note = "a verification message was sent to the phone".to_owned();
            Some(Happening::done("VerificationSent", "SendPhoneVerification", note))
        }
        (Call::CancelMessageContactUpdate { .. }, _) => {
            let note = "a change that was not confirmed was taken back".to_owned();
            Some(Happening::done("Cancelled", "CancelMessageContactUpdate", note))
        }
        (Call::AssociateMembers(_, ids), _) => {
            let note = format!("bound in the directory to {} members", ids.len());
            Some(Happening::done("Bound", "AssociateMembers", note))
        }
        (Call::DisassociateMembers(_, ids), _) => {
            let note = format!("unbound in the directory from {} members", ids.len());
            Some(Happening::done("Unbound", "DisassociateMembers", note))
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
