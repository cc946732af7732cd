//! One pass over a `ResourceDirectory`: which keys, which endpoint, does it answer.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use kube::runtime::controller::Action;
use kube::runtime::reflector::ObjectRef;

use super::claims::Needing;
use super::gather::{World, new_text};
use super::keys;
use super::report::{self, Interrupted, Written};
use crate::api::resource_directory::{ContactCounts, ResourceDirectoryStatus};
use crate::api::{self, ResourceDirectory, parse, status};
use crate::directory::{Config, Connection, Directory};
use crate::domain::contact::{ContactId, ContactName, ContactStatus, DirectoryId, Uid};
use crate::domain::directory::{DesiredDirectory, Management};
use crate::domain::snapshot::Snapshot;
use crate::domain::verdict::{Finding, Reason, Status};
use crate::plan::Definition;

/// Longest time until a changed Secret is noticed that does not lead to a refused call before.
const SECRET_READ_EVERY: SignedDuration = SignedDuration::from_secs(60);

/// Shortest time until the Secret is read again while its keys are missing or refused.
const SECRET_READ_AGAIN_AFTER: SignedDuration = SignedDuration::from_secs(2);

/// So long after a start an older `ResourceDirectory` of the same directory goes first.
const ELDERS_FIRST_FOR: SignedDuration = SignedDuration::from_secs(30);

/// Pause until a younger one looks again whether the older one has connected.
const ELDER_PAUSE: Duration = Duration::from_secs(1);

/// Backstop after somebody else was faster; the watch is to bring what they wrote much sooner.
const CONFLICT_PAUSE: SignedDuration = SignedDuration::from_secs(1);

/// What is done about a failure that may pass by itself.
const AGAIN: &str = "it is tried again with growing pauses";

/// Pause after a pass that the apiserver interrupted.
const PAUSE: Duration = Duration::from_secs(5);

/// Connects one directory as its spec says, and reports whether it answers.
pub(super) async fn reconcile(
    object: Arc<ResourceDirectory>,
    world: Arc<World>,
) -> Result<Action, Interrupted> {
    let name = object.name_any();
    let key = ObjectRef::from_obj(object.as_ref());
    let waits_for = match leaving(&world, &object).await? {
        Leaving::No => None,
        Leaving::WaitsFor(needing) => Some(needing),
        Leaving::Unheld => {
            world.registry.remove(&name);
            return Ok(Action::await_change());
        }
        // It is disconnected once it is gone.
        Leaving::Unneeded => {
            let written = report::directory_finalizer(&world, &object, false).await?;
            return Ok(after(&world, key, &written));
        }
    };
    load_ledger(&world, &object);
    let desired = parse::directory(&object.spec, &world.environment.allow_list);
    if desired.as_ref().is_ok_and(|desired| !desired.suspended) && awaits_elder(&world, &object) {
        return Ok(Action::requeue(ELDER_PAUSE));
    }
    let (mut ready, directory) = match &desired {
        Err(problem) => (Finding::unmet(problem.reason(), problem.to_string()), None),
        Ok(desired) if desired.suspended => {
            let message = "`suspend` is set; nothing is read or written for this directory";
            (Finding::unmet(Reason::Suspended, message), None)
        }
        Ok(desired) => {
            let home = home(&world, &object);
            match connect(&world, &name, desired, home.clone()).await? {
                Err(finding) => (finding, None),
                Ok(directory) => {
                    relist_if_asked(&object, &directory).await;
                    let mut ready = readiness(&world, desired, home, &directory);
                    ready.message += &sends_used_up(&world, &directory);
                    (ready, Some(directory))
                }
            }
        }
    };
    if let Some(needing) = waits_for {
        ready.message += &waits(needing);
    }
    let stored = world.directories.get(&key);
    let deleted = stored.is_none_or(|stored| stored.metadata.uid != object.metadata.uid);
    if directory.is_none() || deleted {
        world.registry.remove(&name);
    }
    if deleted || directory.as_ref().is_some_and(Directory::is_closed) {
        // Nobody is left to tell, or what is known is no longer the whole truth.
        return Ok(Action::await_change());
    }
    let settles_until = world.settles_until(Some(&object), directory.as_ref(), world.clock.now());
    if let Some(until) = settles_until.filter(|_| directory.is_some() && !is_asked(&object)) {
        // What was true before is not taken back because nothing is known yet. The directory tells
        // when it is.
        world.directory_waker.wake_at(key, Some(until));
        return Ok(Action::await_change());
    }
    if ready.status == Status::True && waits_for.is_none() && !is_held(&object) {
        match report::directory_finalizer(&world, &object, true).await {
            // The watch brings the object back as it is then.
            Ok(written) => return Ok(after(&world, key, &written)),
            Err(Interrupted::Refused(kube::Error::Api(refusal))) if refusal.code == 403 => {
                ready.message += UNHELD;
            }
            Err(error) => return Err(error),
        }
    }
    match report(&world, &object, &ready, directory.as_ref()).await? {
        Written::Stored => {}
        written @ (Written::Conflict | Written::Gone) => return Ok(after(&world, key, &written)),
    }
    if ready_reason(&object) != Some(ready.reason.as_str()) {
        // What its contacts say depends on it.
        let contacts = world.claims().of_directory(&name);
        for contact in contacts {
            world.contact_waker.wake(contact);
        }
    }
    let now = world.clock.now();
    let pause = secret_read_pause(object.status.as_ref(), &ready, now);
    world.directory_waker.wake_at(key, now.saturating_add(pause).ok());
    Ok(Action::await_change())
}

/// Whether the object is being deleted, and what stands against it.
enum Leaving {
    /// It is not being deleted.
    No,
    /// Without our finalizer: nobody is asked.
    Unheld,
    /// Nobody needs it any more.
    Unneeded,
    /// These objects need it, so that their contacts can be deleted.
    WaitsFor(Needing),
}

async fn leaving(world: &World, object: &ResourceDirectory) -> Result<Leaving, Interrupted> {
    if object.metadata.deletion_timestamp.is_none() {
        return Ok(Leaving::No);
    }
    if !is_held(object) {
        return Ok(Leaving::Unheld);
    }
    let needing = world.claims().needing(&object.name_any());
    if needing.all == 0 {
        return Ok(Leaving::Unneeded);
    }
    // Whoever takes the operator out takes nothing out of the cloud, and need not wait for it.
    Ok(match world.definition::<ResourceDirectory>().await? {
        Definition::BeingDeleted => Leaving::Unneeded,
        Definition::Unasked | Definition::Stands { .. } | Definition::Unreadable { .. } => {
            Leaving::WaitsFor(needing)
        }
    })
}

/// Whether our finalizer stands on the object. It is put on once the directory answers: before,
/// nothing can have been made in it.
fn is_held(object: &ResourceDirectory) -> bool {
    object.finalizers().iter().any(|finalizer| finalizer == api::DIRECTORY_FINALIZER)
}

/// Said when the finalizer may not be put on.
const UNHELD: &str = "; deleting it would not wait for the contacts in it, as the operator may not \
                      put its finalizer on: grant its service account `patch` on \
                      resourcedirectories";

/// Names no object: they are of namespaces that not everybody may see.
fn waits(needing: Needing) -> String {
    let Needing { all, deleting } = needing;
    format!(
        "; it is being deleted, and waits for {all} MessageContacts that need it ({deleting} of \
         them are being deleted); delete them, with `deletionPolicy: Retain` where the contact is \
         to stay in the cloud"
    )
}

/// The end of a pass after a write to the object.
fn after(world: &World, key: ObjectRef<ResourceDirectory>, written: &Written) -> Action {
    if matches!(written, Written::Conflict) {
        let at = world.clock.now().saturating_add(CONFLICT_PAUSE).ok();
        world.directory_waker.wake_at(key, at);
    }
    Action::await_change()
}

/// The directory in which contacts of this object live. Without a pin it is the only one that is
/// worked on: behind other keys or another endpoint may be another one.
fn home(world: &World, object: &ResourceDirectory) -> Option<DirectoryId> {
    let known = directory_id_of(object).map(DirectoryId::from)?;
    world.claims().live_in(&object.name_any(), &known).then_some(known)
}

/// What was sent before this process began.
fn load_ledger(world: &World, object: &ResourceDirectory) {
    let stored = || {
        let status = object.status.as_ref()?;
        let directory = DirectoryId::from(status.directory_id.as_deref()?);
        Some((directory, parse::ledger(status.verification_sends.as_ref()?)))
    };
    world.term().ledgers.load(Uid(object.uid().unwrap_or_default()), stored, world.clock.now());
}

pub(super) fn interrupted(
    object: Arc<ResourceDirectory>,
    error: &Interrupted,
    _: Arc<World>,
) -> Action {
    tracing::warn!(directory = object.name_any(), %error, "a pass was interrupted; it is begun again");
    Action::requeue(PAUSE)
}

fn ready_reason(object: &ResourceDirectory) -> Option<&str> {
    let conditions = &object.status.as_ref()?.conditions;
    let ready = conditions.iter().find(|condition| condition.type_ == "Ready")?;
    Some(ready.reason.as_str())
}

/// The runtime of the directory, started or reconfigured; or why it cannot be.
async fn connect(
    world: &World,
    name: &str,
    desired: &DesiredDirectory,
    home: Option<DirectoryId>,
) -> Result<Result<Directory, Finding>, Interrupted> {
    let credentials = match keys::credentials(world, name, &desired.credentials).await? {
        Ok(credentials) => credentials,
        Err(finding) => return Ok(Err(finding)),
    };
    let config = Config {
        endpoint: desired.endpoint.clone(),
        credentials,
        roots: world.environment.roots,
        pin: desired.pin.clone().or(home),
        poll_interval: desired.poll_interval,
        requests_per_second: desired.requests_per_second,
    };
    Ok(world.registry.ensure(name, config).map_err(|error| {
        Finding::unmet(Reason::Unreachable, format!("the connection could not be made: {error}"))
    }))
}

/// How long until the Secret is read again. While its keys are missing or refused somebody is
/// about to correct them: then it is a quarter of the time that this has lasted.
fn secret_read_pause(
    status: Option<&ResourceDirectoryStatus>,
    ready: &Finding,
    now: Timestamp,
) -> SignedDuration {
    match ready.reason {
        Reason::Unauthorized | Reason::SecretNotFound | Reason::Forbidden | Reason::Unreachable => {
        }
        _ => return SECRET_READ_EVERY,
    }
    let conditions = status.map(|status| status.conditions.as_slice()).unwrap_or_default();
    let known = conditions.iter().find(|known| known.type_ == "Ready" && known.status == "False");
    let lasted = known.map(|known| now.duration_since(known.last_transition_time.0) / 4);
    lasted.unwrap_or_default().clamp(SECRET_READ_AGAIN_AFTER, SECRET_READ_EVERY)
}

/// Whether an object that goes first in the same directory has not connected yet: the one that was
/// working on it, or else the oldest. Without this, chance would decide at each start which of the
/// two works.
fn awaits_elder(world: &World, object: &ResourceDirectory) -> bool {
    let until = world.term().began_at.saturating_add(ELDERS_FIRST_FOR);
    let directory = directory_id_of(object);
    if directory.is_none() || until.is_ok_and(|until| world.clock.now() >= until) {
        return false;
    }
    let age = |object: &ResourceDirectory| {
        let created = object.metadata.creation_timestamp.as_ref().map(|time| time.0);
        let waited = ready_reason(object) == Some(Reason::DuplicateDirectory.as_str());
        (waited, created, object.metadata.uid.clone())
    };
    let elders = world
        .directories
        .state_filter(|other| directory_id_of(other) == directory && age(other) < age(object));
    elders.iter().any(|elder| {
        let spec = parse::directory(&elder.spec, &world.environment.allow_list);
        let runtime = world.registry.get(&elder.name_any());
        (elder.metadata.deletion_timestamp.is_none() || is_held(elder))
            && spec.is_ok_and(|spec| !spec.suspended)
            && runtime.is_none_or(|runtime| {
                let unasked = runtime.with_snapshot(|snapshot| snapshot.identity().is_none());
                unasked && runtime.health().connection == Connection::Connecting
            })
    })
}

fn directory_id_of(object: &ResourceDirectory) -> Option<&str> {
    object.status.as_ref()?.directory_id.as_deref()
}

/// Whether the directory answers, and is the one that was meant.
fn readiness(
    world: &World,
    desired: &DesiredDirectory,
    home: Option<DirectoryId>,
    directory: &Directory,
) -> Finding {
    let duplicate = directory.duplicate();
    let reached = match &duplicate {
        Some((identity, _)) => Some(identity.directory_id.clone()),
        None => directory.with_snapshot(|snapshot| {
            snapshot.identity().map(|identity| identity.directory_id.clone())
        }),
    };
    if let (Some(pin), Some(reached)) = (&desired.pin, &reached)
        && pin != reached
    {
        return Finding::unmet(
            Reason::DirectoryChanged,
            format!(
                "the credentials reach the directory {reached}, and `directoryId` says {pin}; \
                 nothing is written"
            ),
        );
    }
    if let (None, Some(home), Some(reached)) = (&desired.pin, &home, &reached)
        && home != reached
    {
        return Finding::unmet(
            Reason::DirectoryChanged,
            format!(
                "the credentials reach the directory {reached}, and the contacts of this object \
                 live in {home}; nothing is written. Correct `endpoint` or the credentials, or \
                 write `directoryId: {reached}` to leave those contacts behind on purpose"
            ),
        );
    }
    if let Some((identity, owner)) = duplicate {
        let reached = &identity.directory_id;
        return Finding::unmet(
            Reason::DuplicateDirectory,
            format!("the ResourceDirectory `{owner}` works on the directory {reached} already"),
        );
    }
    match &directory.health().connection {
        Connection::Connecting => {
            Finding::unknown(Reason::Pending, "the directory is being read for the first time")
        }
        Connection::Connected => Finding::met(
            Reason::Connected,
            match desired.management {
                Management::Full => "the directory answers",
                Management::NoDelete => {
                    "the directory answers; `management: NoDelete` forbids to delete contacts"
                }
                Management::ReportOnly => {
                    "the directory answers; `management: ReportOnly` forbids to write"
                }
            },
        ),
        Connection::Failed(error) => {
            keys::not_connected(error, world.environment.keys.token_file(), AGAIN)
        }
    }
}

/// Says that the API sends no more messages today, if it has said so.
fn sends_used_up(world: &World, directory: &Directory) -> String {
    let identity = directory.with_snapshot(|snapshot| snapshot.identity().cloned());
    let until =
        identity.and_then(|known| world.term().ledgers.of(&known.directory_id).exhausted_until);
    match until.filter(|until| *until > world.clock.now()) {
        Some(until) => format!(
            "; the verification messages of the account are used up, and none is sent before {until}"
        ),
        None => String::new(),
    }
}

/// Whether there is a new text in the annotation that asks for a reconcile.
fn is_asked(object: &ResourceDirectory) -> bool {
    let status = object.status.as_ref();
    let handled = status.and_then(|status| status.last_handled_reconcile_at.as_deref());
    new_text(object, api::REQUESTED_AT, handled).is_some()
}

/// A new text in the annotation asks for a list now.
async fn relist_if_asked(object: &ResourceDirectory, directory: &Directory) {
    if is_asked(object) {
        directory.retry();
        // A list that fails shows in the health of the directory.
        let _ = directory.relist().await;
    }
}

async fn report(
    world: &World,
    object: &ResourceDirectory,
    ready: &Finding,
    directory: Option<&Directory>,
) -> Result<Written, Interrupted> {
    let known = directory.map(|directory| {
        directory.with_snapshot(|snapshot| {
            let listed = snapshot.lists().last.is_some();
            (snapshot.identity().cloned(), listed.then(|| inventory(world, snapshot)))
        })
    });
    let (identity, inventory) = known.unwrap_or_default();
    let ledger = identity.as_ref().map(|known| world.term().ledgers.of(&known.directory_id));
    let duplicate = directory.and_then(Directory::duplicate).map(|(identity, _)| identity);
    // One that was not meant does not replace the one that was.
    let identity = identity.or(duplicate).filter(|_| ready.reason != Reason::DirectoryChanged);
    let throttled = directory.map(|directory| directory.health().throttled);
    let was_throttled = object.status.as_ref().is_some_and(|status| {
        status.conditions.iter().any(|condition| condition.type_ == "Throttled")
    });
    let throttled = match throttled {
        Some(true) => Some(Finding::met(Reason::Throttled, "the API asked to slow down")),
        Some(false) | None if was_throttled => {
            Some(Finding::unmet(Reason::Connected, "the calls are as fast as the spec allows"))
        }
        Some(false) | None => None,
    };
    let facts = status::DirectoryFacts {
        generation: object.metadata.generation.unwrap_or(0),
        identity: identity.as_ref(),
        contacts: inventory.as_ref().map(|inventory| inventory.0),
        unmanaged: inventory.as_ref().map(|inventory| inventory.1.as_slice()),
        ledger: ledger.as_deref(),
        ready,
        throttled: throttled.as_ref(),
        handled_requested_at: object.annotations().get(api::REQUESTED_AT).map(String::as_str),
    };
    report::directory(world, object, &facts).await
}

/// How many contacts there are, and which of them no object holds.
fn inventory(world: &World, snapshot: &Snapshot) -> (ContactCounts, Vec<(ContactId, ContactName)>) {
    let claims = world.claims();
    let mut unmanaged = Vec::new();
    let mut verified = 0;
    for contact in snapshot.contacts() {
        let held = snapshot
            .identity()
            .is_some_and(|identity| claims.is_held(&identity.directory_id, &contact.id));
        if !held {
            unmanaged.push((contact.id.clone(), contact.name.clone()));
        }
        // Whoever holds it knows better than the one word of the cloud.
        let confirmed = snapshot
            .identity()
            .and_then(|identity| claims.is_verified(&identity.directory_id, &contact.id));
        let confirmed = confirmed.unwrap_or(contact.status == ContactStatus::Active);
        verified += i64::from(confirmed);
    }
    let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    let observed = count(snapshot.contacts().len());
    let counts = ContactCounts {
        observed,
        managed: observed - count(unmanaged.len()),
        unmanaged: count(unmanaged.len()),
        verified,
    };
    (counts, unmanaged)
}
