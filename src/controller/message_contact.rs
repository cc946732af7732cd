//! One pass over a `MessageContact`: gather, parse, plan, execute, report.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use kube::runtime::controller::Action;
use kube::runtime::reflector::ObjectRef;
use tokio::sync::OwnedSemaphorePermit;

use super::claims::Contact;
use super::execute::{self, Left};
use super::gather::{Judgement, Memory, World, new_text, uid_of};
use super::report::{self, Asked, Happening, Interrupted, Written};
use crate::api::{self, MessageContact, parse};
use crate::domain::contact::{Recorded, Uid};
use crate::domain::verdict::Status;
use crate::plan::{self, Step, asked_again};

/// Most steps of one pass; more is a loop, and the object waits a little before it goes on.
const STEPS_MAX: u32 = 40;

/// Pause after a pass that did not come to an end.
const PAUSE: Duration = Duration::from_secs(5);

/// How long an object waits for its turn to be created before its status says so: long enough for a
/// backlog of a thousand at the default rate to cost no write more.
const WAITS_QUIETLY: SignedDuration = SignedDuration::from_mins(2);

/// Pause after somebody else has written the object at the same time.
const CONFLICT_PAUSE: Duration = Duration::from_millis(250);

/// Shortest and longest pause after the apiserver did not take or answer something.
const INTERRUPTED_PAUSE: [Duration; 2] = [Duration::from_secs(1), Duration::from_mins(5)];

/// What one pass knows beside the cluster and the cloud.
pub(super) struct Pass {
    /// The object that the pass is about. One of the same name that comes after it is another.
    pub(super) uid: Uid,
    /// What was asked for by annotations, which this pass answers.
    pub(super) asked: Asked,
    /// What the status is to remember, after a step of this pass.
    pub(super) carried: Option<Recorded>,
    /// What people are to be told of when the status is stored.
    pub(super) happened: Vec<Happening>,
    /// The right to have an intent open.
    creating: Option<OwnedSemaphorePermit>,
}

/// Brings one contact a step nearer to its spec, until nothing is left to do now.
pub(super) async fn reconcile(
    object: Arc<MessageContact>,
    world: Arc<World>,
) -> Result<Action, Interrupted> {
    let key = ObjectRef::from_obj(object.as_ref());
    let mut pass = begin(&world, &key, uid_of(&object)).await;
    world.weigh(&key);
    let ended = Box::pin(walk(&world, &key, &mut pass)).await;
    if ended.is_ok() {
        world.remember_if_known(&pass.uid, |memory| memory.interruptions = 0);
    }
    ended
}

async fn walk(world: &Arc<World>, key: &Contact, pass: &mut Pass) -> Result<Action, Interrupted> {
    for _ in 0..STEPS_MAX {
        let Some(judgement) = judge(world, key, pass.carried.as_ref()) else {
            return Ok(Action::await_change());
        };
        if judgement.uid != pass.uid {
            // Another object of the same name: nothing of this pass is about it.
            world.contact_waker.wake(key.clone());
            return Ok(Action::await_change());
        }
        if judgement.unread {
            // The object is woken when the value is known.
            return store_and_rest(world, &judgement, pass).await;
        }
        let adds = matches!(&judgement.plan.step, Some(step) if execute::is_add(step));
        if !adds {
            pass.creating = None;
        } else if pass.creating.is_none() {
            await_turn(world, &judgement, pass).await?;
            if world.stopping.load(Ordering::Acquire) {
                return Ok(Action::await_change());
            }
            continue;
        }
        let left = match &judgement.plan.step {
            None => {
                let recheck_at = judgement.plan.recheck_at;
                return report_and_rest(world, key, &judgement, pass, recheck_at).await;
            }
            Some(_) if execute::must_store_first(&judgement) => {
                let left = execute::store_first(world, &judgement, pass).await?;
                if matches!(left, Left::LookAgain) {
                    pass.happened.extend(Happening::adopted(&judgement));
                }
                left
            }
            Some(step) => execute::step(world, key, &judgement, pass, step).await?,
        };
        match left {
            Left::LookAgain => {}
            Left::Conflict => return Ok(Action::requeue(CONFLICT_PAUSE)),
            Left::Closed => return store_and_rest(world, &judgement, pass).await,
            Left::Released => {
                tell(world, &judgement, pass).await;
                return Ok(Action::await_change());
            }
        }
    }
    tracing::warn!(object = %key, "a pass took too many steps; it goes on in a moment");
    Ok(Action::requeue(PAUSE))
}

/// Waits until an intent may be open, or until the object changes. Whoever waits long says so.
async fn await_turn(
    world: &World,
    judgement: &Judgement,
    pass: &mut Pass,
) -> Result<(), Interrupted> {
    let changed = world.told_of_changes(&judgement.uid);
    let patience = world.clock.now().saturating_add(WAITS_QUIETLY).unwrap_or(Timestamp::MAX);
    let mut turn = std::pin::pin!(world.may_create(&judgement.directory_name));
    let looks_again = tokio::select! {
        biased;
        turn = &mut turn => Some(Some(turn)),
        () = changed.notified() => Some(None),
        () = world.clock.sleep_until(patience) => None,
    };
    pass.creating = if let Some(turn) = looks_again {
        turn
    } else {
        report::contact(world, judgement, &judgement.recorded, &Asked::default()).await?;
        tokio::select! {
            turn = &mut turn => Some(turn),
            () = changed.notified() => None,
        }
    };
    world.remember_if_known(&judgement.uid, |memory| memory.waiting = None);
    Ok(())
}

fn judge(world: &World, key: &Contact, carried: Option<&Recorded>) -> Option<Judgement> {
    let name = parse::directory_name(&world.object(key)?.spec).to_owned();
    let now = world.clock.now();
    match world.directory(&name) {
        Some(directory) => {
            directory.with_snapshot(|snapshot| world.judge(key, carried, Some(snapshot), now))
        }
        None => world.judge(key, carried, None, now),
    }
}

/// Takes in what annotations ask for; a text that comes later is for the next pass.
async fn begin(world: &World, key: &Contact, uid: Uid) -> Pass {
    let mut pass =
        Pass { uid, asked: Asked::default(), carried: None, happened: Vec::new(), creating: None };
    let Some(object) = world.object(key).filter(|object| uid_of(object) == pass.uid) else {
        return pass;
    };
    let status = report::status_of(&object);
    let new = |annotation: &str, handled: &Option<String>| {
        new_text(object.as_ref(), annotation, handled.as_deref()).map(str::to_owned)
    };
    let reconcile = new(api::REQUESTED_AT, &status.last_handled_reconcile_at);
    let resend = new(api::RESEND_REQUESTED_AT, &status.last_handled_resend_at);
    world.declare_values(key, &object, reconcile.as_deref());
    if reconcile.is_none() && resend.is_none() {
        return pass;
    }
    if judge(world, key, None).is_some_and(|judgement| judgement.unread) {
        // Both are answered with what the Secrets hold.
        return pass;
    }
    let mut recorded = parse::recorded(&status);
    if reconcile.is_some() {
        begin_anew(world, key, &object, &mut recorded).await;
    }
    if resend.is_some() {
        recorded.verification = asked_again(&recorded.verification);
    }
    pass.asked = Asked { reconcile, resend };
    pass.carried = Some(recorded);
    pass
}

/// Somebody asks for a fresh start: what failed before is forgotten, also that a write read back
/// differently, and the directory is listed again.
async fn begin_anew(
    world: &World,
    key: &Contact,
    object: &MessageContact,
    recorded: &mut Recorded,
) {
    world.remember_if_known(&uid_of(object), Memory::forget_failures);
    // Who may not act has no say in how the directory is called.
    let blocked = judge(world, key, None).is_none_or(|judgement| judgement.blocked);
    if !blocked && let Some(directory) = world.directory(parse::directory_name(&object.spec)) {
        directory.retry();
        // A list that fails says so on the directory; this object goes on with what is known.
        let _ = directory.relist().await;
        if let Some(contact) = &recorded.contact_id {
            directory.retry_failed_deletion(contact);
        }
    }
    plan::try_once_more(recorded);
}

async fn report_and_rest(
    world: &World,
    key: &Contact,
    judgement: &Judgement,
    pass: &mut Pass,
    recheck_at: Option<Timestamp>,
) -> Result<Action, Interrupted> {
    let stands = report::says_in_sync(judgement) && pass.asked.reconcile.is_none();
    if let Some(until) = judgement.settling.filter(|_| stands) {
        // After a restart nothing is known yet; what was true before is not taken back for that.
        world.contact_waker.wake_by(key.clone(), until);
        return Ok(Action::await_change());
    }
    let record = &judgement.plan.record;
    match report::contact(world, judgement, record, &pass.asked).await? {
        Written::Stored => {
            let in_sync = judgement.plan.verdict.synced.status == Status::True;
            world.remember_if_known(&judgement.uid, |memory| {
                // What failed once must not hold back a repair later.
                if in_sync {
                    memory.setbacks.settle();
                }
                memory.attempts = judgement.plan.attempts.clone();
            });
            world.contact_waker.wake_at(key.clone(), recheck_at);
            pass.happened.extend(Happening::adopted(judgement));
            pass.happened.extend(Happening::news(judgement));
            tell(world, judgement, pass).await;
            Ok(Action::await_change())
        }
        Written::Conflict => Ok(Action::requeue(CONFLICT_PAUSE)),
        Written::Gone => Ok(Action::await_change()),
    }
}

/// Nothing can be said now: what was done is stored, and the status stays as it is otherwise.
async fn store_and_rest(
    world: &World,
    judgement: &Judgement,
    pass: &mut Pass,
) -> Result<Action, Interrupted> {
    let reads =
        matches!(&judgement.plan.step, Some(Step::Call(call, _)) if call.action().is_read());
    // What a read was planned with is known already; what a write was planned with is not done.
    let record = if reads { Some(&judgement.plan.record) } else { pass.carried.as_ref() };
    if let Some(record) = record {
        let asked = Asked { reconcile: None, resend: pass.asked.resend.clone() };
        report::record(world, judgement, record, &asked).await?;
    }
    tell(world, judgement, pass).await;
    Ok(Action::await_change())
}

async fn tell(world: &World, judgement: &Judgement, pass: &mut Pass) {
    for happening in pass.happened.drain(..) {
        report::event(world, judgement, happening).await;
    }
}

/// The apiserver did not take what was to be written: everything is judged anew, after a pause that
/// grows from time to time.
pub(super) fn interrupted(
    object: Arc<MessageContact>,
    error: &Interrupted,
    world: Arc<World>,
) -> Action {
    let key = ObjectRef::from_obj(object.as_ref());
    let mut pause = INTERRUPTED_PAUSE[0];
    world.remember_if_known(&uid_of(&object), |memory| {
        pause *= 1 << memory.interruptions.min(10);
        memory.interruptions += 1;
    });
    let pause = pause.min(INTERRUPTED_PAUSE[1]);
    tracing::warn!(object = %key, %error, ?pause, "a pass was interrupted; it is begun again");
    Action::requeue(pause)
}
