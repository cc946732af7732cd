//! One pass over a `MessageContact`: gather, parse, plan, execute, report.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::runtime::controller::Action;
use kube::runtime::reflector::ObjectRef;

use super::claims::Contact;
use super::execute::{self, Left};
use super::gather::{Judgement, World};
use super::report::{self, Happening, Written};
use crate::api::{MessageContact, parse};
use crate::domain::contact::Recorded;
use crate::domain::verdict::Status;

/// Most steps of one pass; more is a loop, and the object waits a little before it goes on.
const STEPS_MAX: u32 = 40;

/// Pause after a pass that did not come to an end.
const PAUSE: Duration = Duration::from_secs(5);

/// Why a pass could not be ended: the apiserver refused or did not answer.
#[derive(Debug, thiserror::Error)]
#[error("{}", report::kind_of(.0))]
pub(super) struct Interrupted(#[from] kube::Error);

/// Brings one contact a step nearer to its spec, until nothing is left to do now.
pub(super) async fn reconcile(
    object: Arc<MessageContact>,
    world: Arc<World>,
) -> Result<Action, Interrupted> {
    let key = ObjectRef::from_obj(object.as_ref());
    let (asked, mut carried) = asked_anew(&world, &key).await;
    let asked = asked.as_deref();
    for _ in 0..STEPS_MAX {
        let Some(judgement) = judge(&world, &key, carried.as_ref()) else {
            return Ok(Action::await_change());
        };
        let left = match &judgement.plan.step {
            None => {
                let recheck_at = judgement.plan.recheck_at;
                return report_and_rest(&world, &key, &judgement, asked, recheck_at).await;
            }
            Some(_) if execute::must_store_first(&judgement) => {
                execute::store_first(&world, &judgement).await?
            }
            Some(step) => execute::step(&world, &key, &judgement, carried.as_ref(), step).await?,
        };
        match left {
            Left::LookAgain { carried: next } => carried = next,
            Left::Later(at) => {
                return report_and_rest(&world, &key, &judgement, asked, at).await;
            }
            Left::Released => return Ok(Action::await_change()),
        }
    }
    tracing::warn!(object = %key, "a pass took too many steps; it goes on in a moment");
    Ok(Action::requeue(PAUSE))
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

/// A new text in the annotation asks for a fresh start: what failed before is forgotten, also that
/// a write read back differently, and the directory is listed again. Returns the text that this
/// pass answers, and what the status is to remember; a text that comes later is for the next pass.
async fn asked_anew(world: &World, key: &Contact) -> (Option<String>, Option<Recorded>) {
    let Some(object) = world.object(key) else { return (None, None) };
    let status = report::status_of(&object);
    let annotations = object.metadata.annotations.as_ref();
    let Some(asked) = annotations.and_then(|all| all.get(crate::api::REQUESTED_AT)) else {
        return (None, None);
    };
    if status.last_handled_reconcile_at.as_deref() == Some(parse::echo(asked)) {
        return (None, None);
    }
    world.remember(&super::gather::uid_of(&object), |memory| memory.setback = None);
    if object.spec.suspend != Some(true)
        && let Some(directory) = world.directory(parse::directory_name(&object.spec))
    {
        directory.retry();
        // A list that fails says so on the directory; this object goes on with what is known.
        let _ = directory.relist().await;
        if let Some(contact) = &parse::recorded(&status).contact_id {
            directory.forget_failed_deletion(contact);
        }
    }
    let mut recorded = parse::recorded(&status);
    recorded.last_error = None;
    if let Some(write) = &mut recorded.last_write {
        write.mismatches = 0;
    }
    (Some(asked.clone()), Some(recorded))
}

async fn report_and_rest(
    world: &World,
    key: &Contact,
    judgement: &Judgement,
    asked: Option<&str>,
    recheck_at: Option<Timestamp>,
) -> Result<Action, Interrupted> {
    match report::contact(world, judgement, &judgement.plan.record, asked).await? {
        Written::Stored => {
            if judgement.plan.verdict.synced.status == Status::True {
                // What failed once must not hold back a repair later.
                world.remember(&judgement.uid, |memory| memory.setback = None);
            }
            world.contact_waker.wake_at(key.clone(), recheck_at);
            if let Some(trouble) = Happening::trouble(judgement) {
                report::event(world, judgement, trouble).await;
            }
        }
        Written::Conflict => world.contact_waker.wake(key.clone()),
    }
    Ok(Action::await_change())
}

/// The apiserver did not take what was to be written: everything is judged anew in a moment.
pub(super) fn interrupted(
    object: Arc<MessageContact>,
    error: &Interrupted,
    _: Arc<World>,
) -> Action {
    let key = ObjectRef::from_obj(object.as_ref());
    tracing::warn!(object = %key, %error, "a pass was interrupted; it is begun again");
    Action::requeue(PAUSE)
}
