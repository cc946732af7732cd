//! The only writer of status and Events. One write a pass, none if nothing changed.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::api::{Patch, PatchParams};
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::runtime::reflector::ObjectRef;
use kube::{Api, Resource, ResourceExt};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::claims::SetAside;
use super::gather::{Judgement, World, version};
use super::trail;
use crate::api::{
    self, ContactPolicy, MessageContact, MessageContactStatus, ResourceDirectory,
    ResourceDirectoryStatus, status,
};
use crate::domain::contact::{DirectoryId, Recorded};
use crate::domain::verdict::{Finding, Reason, Status};
use crate::plan::Send;
use crate::uptime;

/// What became of a write.
pub(super) enum Written {
    /// Stored, or nothing had to be.
    Stored,
    /// Somebody else was faster: look again.
    Conflict,
    /// The object is gone.
    Gone,
}

/// Why a pass could not be ended: the apiserver refused or did not answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Interrupted {
    /// It refused, or could not be reached.
    #[error("{}", kind_of(.0))]
    Refused(#[from] kube::Error),
    /// Somebody else was faster each time.
    #[error("somebody else writes the object at the same time")]
    Contended,
    /// It did not answer in time.
    #[error("the apiserver did not answer in time")]
    Unanswered,
    /// Nothing was sent, as another process may hold the lease.
    #[error("the lease is not surely held any more")]
    NotLeading,
}

/// Longest wait for the answer to one request; kube's client has no limit of its own.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Waits for one request to the apiserver, but not for ever.
pub(super) async fn within<T>(
    request: impl Future<Output = kube::Result<T>>,
) -> Result<T, Interrupted> {
    at_most(REQUEST_TIMEOUT, request).await
}

async fn at_most<T>(
    time: Duration,
    request: impl Future<Output = kube::Result<T>>,
) -> Result<T, Interrupted> {
    match tokio::time::timeout(time, request).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(Interrupted::Unanswered),
    }
}

/// What somebody has asked for by an annotation, and is answered with a status.
#[derive(Debug, Clone, Default)]
pub(super) struct Asked {
    /// The text that asked for a reconcile.
    pub(super) reconcile: Option<String>,
    /// The text that asked for one more verification message.
    pub(super) resend: Option<String>,
}

/// Stores what the judgement says, if the stored status differs. `record` is what the status is to
/// remember.
pub(super) async fn contact(
    world: &World,
    judgement: &Judgement,
    record: &Recorded,
    asked: &Asked,
) -> Result<Written, Interrupted> {
    let next = rendered(world, judgement, record, asked);
    store(world, judgement, record, next).await
}

/// Stores what is to be remembered, and says nothing new about the object.
pub(super) async fn record(
    world: &World,
    judgement: &Judgement,
    record: &Recorded,
    asked: &Asked,
) -> Result<Written, Interrupted> {
    let previous = status_of(&judgement.object);
    let next = MessageContactStatus {
        observed_generation: previous.observed_generation,
        conditions: previous.conditions,
        ..rendered(world, judgement, record, asked)
    };
    store(world, judgement, record, next).await
}

/// Whether the stored status says of this generation that it is in sync.
pub(super) fn says_in_sync(judgement: &Judgement) -> bool {
    let status = status_of(&judgement.object);
    let synced = status.conditions.iter().find(|condition| condition.type_ == "Synced");
    synced.is_some_and(|synced| {
        synced.status == "True"
            && synced.observed_generation == judgement.object.metadata.generation
    })
}

fn rendered(
    world: &World,
    judgement: &Judgement,
    record: &Recorded,
    asked: &Asked,
) -> MessageContactStatus {
    let Judgement { object, plan, .. } = judgement;
    let facts = status::Facts {
        generation: object.metadata.generation.unwrap_or(0),
        directory: Some(&judgement.directory_name),
        recorded: record,
        observed: judgement.observed.as_deref(),
        differences: &plan.drift,
        outlook: &plan.outlook,
        verdict: &plan.verdict,
        handled_requested_at: asked.reconcile.as_deref(),
        handled_resend_at: asked.resend.as_deref(),
    };
    status::contact(&status_of(object), &facts, world.clock.now())
}

async fn store(
    world: &World,
    judgement: &Judgement,
    record: &Recorded,
    next: MessageContactStatus,
) -> Result<Written, Interrupted> {
    let Judgement { object, uid, .. } = judgement;
    let previous = status_of(object);
    if next == previous {
        return Ok(Written::Stored);
    }
    let mut set_aside = None;
    if let (Some(directory), Some(contact)) = (&record.directory_id, &record.contact_id)
        && judgement.stored.contact_id.as_ref() != Some(contact)
    {
        match world.claims_mut().reserve(directory, contact, uid, version(object)) {
            SetAside::Now => set_aside = Some((directory, contact)),
            SetAside::Before => {}
            SetAside::Refused => return Ok(Written::Conflict),
        }
    }
    let api: Api<MessageContact> =
        Api::namespaced(world.client.clone(), &object.namespace().unwrap_or_default());
    let patch = status_patch(object.as_ref(), &previous, &next);
    let name = object.name_any();
    let written = write(world, api.patch_status(&name, &parameters(), &Patch::Merge(&patch))).await;
    if written.is_ok() {
        log(&next, &previous, object);
        world.count(object, &previous, &next);
    }
    // After a conflict the version that is stored tells.
    if let Some((directory, contact)) = set_aside.filter(|_| was_refused(&written)) {
        let concerned = world.claims_mut().unreserve(directory, contact, uid);
        for object in concerned {
            world.contact_waker.wake(object);
        }
    }
    written_now(world, judgement, written).await
}

/// Whether the apiserver has said that it does not take this; a version that is outdated aside. After
/// any other failure it may be stored.
fn was_refused<T>(written: &Result<T, Interrupted>) -> bool {
    match written {
        Err(Interrupted::Refused(kube::Error::Api(refusal))) => {
            (400..500).contains(&refusal.code) && refusal.code != 409
        }
        // It never heard of it.
        Err(Interrupted::NotLeading) => true,
        Err(Interrupted::Refused(_) | Interrupted::Contended | Interrupted::Unanswered) | Ok(_) => {
            false
        }
    }
}

/// One request that changes something. Only so many are made at once, and none that could end after
/// the lease.
pub(super) async fn write<T>(
    world: &World,
    request: impl Future<Output = kube::Result<T>>,
) -> Result<T, Interrupted> {
    let _slot = world.cluster_writes.acquire().await;
    let until = world.leadership.until().ok_or(Interrupted::NotLeading)?;
    at_most(until.saturating_sub(uptime::now()).min(REQUEST_TIMEOUT), request).await
}

async fn written_now(
    world: &World,
    judgement: &Judgement,
    written: Result<MessageContact, Interrupted>,
) -> Result<Written, Interrupted> {
    match written {
        Ok(stored) => {
            stored_now(world, judgement, stored);
            Ok(Written::Stored)
        }
        Err(Interrupted::Refused(kube::Error::Api(refusal))) if refusal.code == 409 => {
            refresh(world, judgement).await
        }
        Err(Interrupted::Refused(kube::Error::Api(refusal))) if refusal.code == 404 => {
            Ok(Written::Gone)
        }
        Err(error) => Err(error),
    }
}

/// One line when it changes how an object stands, and none per retry.
fn log(next: &MessageContactStatus, previous: &MessageContactStatus, object: &MessageContact) {
    let synced = |status: &MessageContactStatus| {
        status.conditions.iter().find(|condition| condition.type_ == "Synced").cloned()
    };
    let (Some(now), before) = (synced(next), synced(previous)) else { return };
    if before.is_some_and(|before| before.reason == now.reason) {
        return;
    }
    let object = ObjectRef::from_obj(object);
    let (reason, message) = (now.reason, now.message);
    let usual = [Reason::Creating, Reason::Updating, Reason::Deleting, Reason::Suspended];
    if now.status == "True" || usual.iter().any(|usual| usual.as_str() == reason) {
        tracing::info!(%object, reason, message);
    } else {
        tracing::warn!(%object, reason, message);
    }
}

/// Puts our finalizer on the object, or takes it off.
pub(super) async fn finalizer(
    world: &World,
    judgement: &Judgement,
    wanted: bool,
) -> Result<Written, Interrupted> {
    let Judgement { object, .. } = judgement;
    let patch = finalizer_patch(object.as_ref(), api::FINALIZER, wanted);
    let api: Api<MessageContact> =
        Api::namespaced(world.client.clone(), &object.namespace().unwrap_or_default());
    let name = object.name_any();
    let written = write(world, api.patch(&name, &parameters(), &Patch::Merge(&patch))).await;
    written_now(world, judgement, written).await
}

/// Puts our finalizer on a directory, or takes it off. Only that one entry of the list changes, and
/// nothing if somebody else has written the object meanwhile.
pub(super) async fn directory_finalizer(
    world: &World,
    object: &ResourceDirectory,
    wanted: bool,
) -> Result<Written, Interrupted> {
    let patch = finalizer_patch(object, api::DIRECTORY_FINALIZER, wanted);
    let api: Api<ResourceDirectory> = Api::all(world.client.clone());
    let name = object.name_any();
    outcome(write(world, api.patch(&name, &parameters(), &Patch::Merge(&patch))).await)
}

fn finalizer_patch<K: Resource>(object: &K, ours: &str, wanted: bool) -> Value {
    let others = object.finalizers().iter().filter(|finalizer| *finalizer != ours);
    let mut finalizers: Vec<&str> = others.map(String::as_str).collect();
    if wanted {
        finalizers.push(ours);
    }
    json!({ "metadata": {
        "resourceVersion": object.meta().resource_version,
        "finalizers": finalizers,
    }})
}

/// What became of a write to a directory or a policy: what was stored comes back with the watch.
fn outcome<K>(written: Result<K, Interrupted>) -> Result<Written, Interrupted> {
    match written {
        Ok(_) => Ok(Written::Stored),
        Err(Interrupted::Refused(kube::Error::Api(refusal))) if refusal.code == 409 => {
            Ok(Written::Conflict)
        }
        Err(Interrupted::Refused(kube::Error::Api(refusal))) if refusal.code == 404 => {
            Ok(Written::Gone)
        }
        Err(error) => Err(error),
    }
}

/// Stores the status of a directory, if it differs.
pub(super) async fn directory(
    world: &World,
    object: &ResourceDirectory,
    facts: &status::DirectoryFacts<'_>,
) -> Result<Written, Interrupted> {
    let previous = object.status.clone().unwrap_or_default();
    let next = status::directory(&previous, facts, world.clock.now());
    if next == previous {
        return Ok(Written::Stored);
    }
    let api: Api<ResourceDirectory> = Api::all(world.client.clone());
    let (name, patch) = (object.name_any(), status_patch(object, &previous, &next));
    outcome(write(world, api.patch_status(&name, &parameters(), &Patch::Merge(&patch))).await)
}

/// What became of counting a message.
pub(super) enum Counted {
    /// The ledger has it.
    Written,
    /// The directory has no message left.
    Refused,
    /// The object of the directory is gone.
    Gone,
}

/// How often the ledger is tried to be written while others write the object, too.
const LEDGER_TRIES: u32 = 5;

/// Counts a message in the ledger of the directory, before it is sent.
///
/// It is counted in memory first: a pass over the directory writes what it finds there, and would
/// take the message out of the status again.
pub(super) async fn count_send(
    world: &World,
    judgement: &Judgement,
    send: &Send,
) -> Result<Counted, Interrupted> {
    let Some(directory_id) = &judgement.plan.record.directory_id else { return Ok(Counted::Gone) };
    let Send { target, contact, at: _ } = send;
    let now = world.clock.now();
    if world.term().ledgers.of(directory_id).may_send(target, contact, now).is_err() {
        return Ok(Counted::Refused);
    }
    world.term().ledgers.change(directory_id, |ledger| ledger.with_send(target, contact, now));
    let counted = store_ledger(world, &judgement.directory_name, directory_id).await;
    if !matches!(counted, Ok(Counted::Written)) {
        world.term().ledgers.change(directory_id, |ledger| ledger.taken_back(target, contact, now));
    }
    counted
}

/// One at a time: whoever comes next finds what was counted meanwhile written with the last.
async fn store_ledger(
    world: &World,
    name: &str,
    directory_id: &DirectoryId,
) -> Result<Counted, Interrupted> {
    let _storing = world.term().ledgers.storing.lock().await;
    let api: Api<ResourceDirectory> = Api::all(world.client.clone());
    for _ in 0..LEDGER_TRIES {
        let Some(object) = within(api.get_opt(name)).await? else { return Ok(Counted::Gone) };
        let previous = object.status.clone().unwrap_or_default();
        let verification_sends = status::sends(&world.term().ledgers.of(directory_id));
        if verification_sends == previous.verification_sends {
            return Ok(Counted::Written);
        }
        let next = ResourceDirectoryStatus { verification_sends, ..previous.clone() };
        let patch = status_patch(&object, &previous, &next);
        match write(world, api.patch_status(name, &parameters(), &Patch::Merge(&patch))).await {
            Ok(_) => return Ok(Counted::Written),
            Err(Interrupted::Refused(kube::Error::Api(refusal))) if refusal.code == 409 => {}
            Err(error) => return Err(error),
        }
    }
    Err(Interrupted::Contended)
}

/// Stores the status of a policy, if it differs.
pub(super) async fn policy(
    world: &World,
    object: &ContactPolicy,
    facts: status::PolicyFacts<'_>,
) -> Result<Written, Interrupted> {
    let previous = object.status.clone().unwrap_or_default();
    let next = status::policy(&previous, facts, world.clock.now());
    if next == previous {
        return Ok(Written::Stored);
    }
    let api: Api<ContactPolicy> = Api::all(world.client.clone());
    let (name, patch) = (object.name_any(), status_patch(object, &previous, &next));
    outcome(write(world, api.patch_status(&name, &parameters(), &Patch::Merge(&patch))).await)
}

/// Tells people of something that happened to a contact.
pub(super) async fn event(world: &World, judgement: &Judgement, what: Happening) {
    publish(world, &judgement.object.object_ref(&()), what).await;
}

/// Tells people of something that happened. A failure to tell is logged, and nothing more: the
/// status has the truth.
pub(super) async fn publish(world: &World, reference: &ObjectReference, what: Happening) {
    let Happening { type_, reason, note, action } = what;
    let reporter = Reporter { controller: api::FIELD_MANAGER.to_owned(), instance: None };
    // A new one each time: what one recorder tells twice it counts up in the first Event, and the
    // second note, which may say something else, is lost.
    let recorder = Recorder::new(world.client.clone(), reporter);
    let event = Event {
        type_,
        reason: reason.to_owned(),
        note: Some(shortened(note)),
        action: action.to_owned(),
        secondary: None,
    };
    if let Err(error) = write(world, recorder.publish(&event, reference)).await {
        tracing::warn!(%error, "an event could not be written");
    }
}

/// Longest note of an Event, in bytes. Source: Kubernetes, `events.k8s.io/v1`, `note`: "should be
/// less than 1kB", refused above.
const NOTE_BYTES_MAX: usize = 1024;

/// The note as far as the apiserver takes it.
fn shortened(mut note: String) -> String {
    note.truncate(note.floor_char_boundary(NOTE_BYTES_MAX));
    note
}

/// Something that a person would want to know.
pub(super) struct Happening {
    pub(super) type_: EventType,
    pub(super) reason: &'static str,
    pub(super) note: String,
    pub(super) action: &'static str,
}

impl Happening {
    /// A change that was made in the cloud.
    pub(super) fn done(reason: &'static str, action: &'static str, note: String) -> Self {
        Self { type_: EventType::Normal, reason, note, action }
    }

    /// The object has taken over a contact that was in the cloud already.
    pub(super) fn adopted(judgement: &Judgement) -> Option<Self> {
        let note = || "the contact was in the directory already, and was taken over".to_owned();
        judgement.plan.adopts.then(|| Self::done("Adopted", "Adopt", note()))
    }

    /// What people are told of how the object stands now: what was confirmed, and where somebody may
    /// have to act. Nothing that was so before.
    pub(super) fn news(judgement: &Judgement) -> Vec<Self> {
        let verdict = &judgement.plan.verdict;
        // Under `Deny`, `Synced` tells already.
        let is_told = verdict.synced.reason == Reason::PolicyViolation;
        let conditions =
            judgement.object.status.as_ref().map(|status| status.conditions.as_slice());
        let known = |type_: &str, finding: &Finding| {
            let mut conditions = conditions.unwrap_or_default().iter();
            let before = conditions.find(|condition| condition.type_ == type_);
            before.is_some_and(|before| before.reason == finding.reason.as_str())
        };
        let was_said = |(type_, finding): &(&str, &Finding)| {
            known(type_, finding) || is_told && *type_ == "PolicyCompliant"
        };
        let news = verdict.findings().filter(|finding| !was_said(finding));
        news.filter_map(|(_, finding)| Self::of(finding)).collect()
    }

    /// What a finding is worth telling.
    fn of(finding: &Finding) -> Option<Self> {
        let Finding { status, reason, message } = finding;
        let confirmed = *reason == Reason::Verified && *status == Status::True;
        let trouble = reason.stalls()
            || matches!(
                reason,
                Reason::DeletionFailed
                    | Reason::DriftContested
                    | Reason::NotRemovable
                    | Reason::QuotaExceeded
                    | Reason::SecretNotFound
                    | Reason::UnknownMember
                    | Reason::Unauthorized
                    | Reason::Drifted
                    | Reason::VerificationQuotaExhausted
            );
        let type_ = if confirmed { EventType::Normal } else { EventType::Warning };
        (confirmed || trouble).then(|| Self {
            type_,
            reason: reason.as_str(),
            note: message.clone(),
            action: "Reconcile",
        })
    }
}

/// What kind of failure it was, without any text of the other side.
#[must_use]
pub fn kind_of(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(refusal) => format!("the apiserver answered {}", refusal.code),
        _ => "the apiserver could not be reached".to_owned(),
    }
}

fn parameters() -> PatchParams {
    PatchParams { field_manager: Some(api::FIELD_MANAGER.to_owned()), ..PatchParams::default() }
}

/// Our own write is known at once, without waiting for the watch.
fn stored_now(world: &World, judgement: &Judgement, mut stored: MessageContact) {
    slim(&mut stored);
    take_in(world, judgement, stored);
}

/// Remembers a version that the watch may not have brought yet.
fn take_in(world: &World, judgement: &Judgement, newest: MessageContact) {
    let key = ObjectRef::from_obj(&newest);
    // The index takes the newest version that is remembered, so this one is remembered first.
    world.remember(&judgement.uid, |memory| memory.written = Some(Arc::new(newest)));
    for object in world.index(&key) {
        world.contact_waker.wake(object);
    }
}

/// Reads the object itself after a conflict: the watch may be late.
async fn refresh(world: &World, judgement: &Judgement) -> Result<Written, Interrupted> {
    let Judgement { object, uid, .. } = judgement;
    let api: Api<MessageContact> =
        Api::namespaced(world.client.clone(), &object.namespace().unwrap_or_default());
    let current = within(api.get_opt(&object.name_any())).await?;
    let Some(mut current) = current.filter(|current| super::gather::uid_of(current) == *uid) else {
        return Ok(Written::Gone);
    };
    slim(&mut current);
    take_in(world, judgement, current);
    Ok(Written::Conflict)
}

/// Drops what is never read: it is three quarters of an object's memory.
pub(super) fn slim(object: &mut MessageContact) {
    trail::keep_author(object);
    if let Some(annotations) = &mut object.metadata.annotations {
        annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
    }
}

/// A merge patch that makes the stored status the next one, and nothing more.
fn status_patch<K: Resource, S: Serialize>(object: &K, previous: &S, next: &S) -> Value {
    let as_value = |status: &S| serde_json::to_value(status).unwrap_or(Value::Null);
    json!({
        "metadata": { "resourceVersion": object.meta().resource_version },
        "status": difference(&as_value(previous), &as_value(next)),
    })
}

/// The merge patch (RFC 7386) from one value to another.
fn difference(from: &Value, to: &Value) -> Value {
    let (Value::Object(from), Value::Object(to)) = (from, to) else { return to.clone() };
    let gone = from.keys().filter(|key| !to.contains_key(*key));
    let mut patch: Map<String, Value> = gone.map(|key| (key.clone(), Value::Null)).collect();
    for (key, value) in to {
        match from.get(key) {
            Some(before) if before == value => {}
            Some(before) => {
                patch.insert(key.clone(), difference(before, value));
            }
            None => {
                patch.insert(key.clone(), value.clone());
            }
        }
    }
    Value::Object(patch)
}

/// The status of an object that has none yet.
pub(super) fn status_of(object: &MessageContact) -> MessageContactStatus {
    object.status.clone().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_holds_what_changed_and_takes_out_what_is_gone() {
        let from = json!({ "a": 1, "b": { "c": 2, "d": 3 }, "e": [1], "f": 6 });
        let to = json!({ "a": 1, "b": { "c": 2, "d": 4 }, "e": [1, 2], "g": 7 });
        let patch = json!({ "b": { "d": 4 }, "e": [1, 2], "f": null, "g": 7 });
        assert_eq!(difference(&from, &to), patch);
    }

    #[test]
    fn only_an_answer_that_refuses_says_that_nothing_was_stored() {
        let answered = |code| -> Result<(), Interrupted> {
            let status = kube::core::Status { code, ..kube::core::Status::default() };
            Err(Interrupted::Refused(kube::Error::Api(Box::new(status))))
        };
        let refused = [400, 403, 404, 422, 429].map(answered);
        assert!(refused.iter().all(was_refused));
        // What is stored after a conflict may be what was written before without an answer.
        let unsure = [409, 500, 503, 504].map(answered);
        assert!(!unsure.iter().any(was_refused));
        assert!(!was_refused::<()>(&Err(Interrupted::Unanswered)) && !was_refused(&Ok(())));
    }

    #[test]
    fn a_note_is_cut_between_characters() {
        let fits = "x".repeat(1024);
        assert_eq!(shortened(fits.clone()), fits);
        assert_eq!(shortened(format!("{fits}x")), fits);
        // Three bytes each: 341 of them fit, and one byte stays unused.
        assert_eq!(shortened("語".repeat(400)), "語".repeat(341));
        assert_eq!(shortened(String::new()), "");
    }
}
