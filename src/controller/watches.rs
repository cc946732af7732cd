//! The shell around the passes: watches, queues, and an orderly end.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, RwLock};
use std::time::Duration;

use futures::channel::{mpsc, oneshot};
use futures::{Stream, StreamExt};
use jiff::SignedDuration;
use k8s_openapi::api::core::v1::Namespace;
use kube::core::PartialObjectMeta;
use kube::runtime::WatchStreamExt;
use kube::runtime::controller::{self, applier};
use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{ObjectRef, store};
use kube::runtime::utils::Backoff;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, ResourceExt};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::claims::Contact;
use super::gather::{CLUSTER_WRITES_MAX, Environment, Term, World, uid_of};
use super::open_reports::OpenReports;
use super::policies::Policies;
use super::readiness::{Lack, Readiness};
use super::secrets::{self, Secrets};
use super::shown::{Change, Shown};
use super::standings::Standings;
use super::triggers::{Waker, requests};
use super::{contact_policy, message_contact, policies, report, resource_directory};
use crate::api::{ContactPolicy, MessageContact, ResourceDirectory};
use crate::clock::Clock;
use crate::directory::{Changes, Registry};
use crate::domain::contact::Uid;
use crate::domain::snapshot::Sight;
use crate::lease::Leadership;
use crate::plan::hash::HashKey;

/// The counts in a directory's status may be late by this much: they are not worth a write for
/// each contact of a backlog.
const COUNTS_LATE_BY: SignedDuration = SignedDuration::from_secs(5);

/// Runs the controllers until `shutdown` ends: then no new call begins, and calls in flight are
/// awaited and recorded.
///
/// Until `elected` has ended with the key of the hashes, only watches are followed. From then on
/// everything is done as after a start, as far as `leadership` allows.
pub async fn run(
    client: Client,
    environment: Environment,
    clock: Clock,
    readiness: Readiness,
    leadership: Leadership,
    elected: impl Future<Output = HashKey>,
    shutdown: impl Future<Output = ()>,
) {
    let (contacts, contact_writer) = store();
    let (directories, directory_writer) = store();
    let (namespaces, namespace_writer) = store();
    let (policy_objects, policy_writer) = store();
    let (contact_waker, contact_queue) = Waker::new();
    let (directory_waker, directory_queue) = Waker::new();
    let (policy_waker, policy_queue) = Waker::new();
    let (registry, changes) = Registry::new(clock.clone(), environment.metrics.clone(), {
        let leadership = leadership.clone();
        Arc::new(move || leadership.until())
    });
    let world = Arc::new(World {
        client,
        clock,
        environment,
        leadership,
        term: OnceLock::new(),
        registry,
        contacts: contacts.clone(),
        directories: directories.clone(),
        namespaces: namespaces.clone(),
        stopping: AtomicBool::new(false),
        cluster_writes: Semaphore::new(CLUSTER_WRITES_MAX),
        creates: Mutex::default(),
        definition: tokio::sync::Mutex::default(),
        claims: RwLock::default(),
        memory: Mutex::default(),
        secrets: Secrets::default(),
        policies: Policies::default(),
        policy_objects,
        standings: Standings::default(),
        open_reports: OpenReports::default(),
        policy_waker,
        contact_waker,
        directory_waker,
    });
    let watched = Arc::downgrade(&world);
    let look = move || watched.upgrade().map(|world| world.gauges()).unwrap_or_default();
    world.environment.metrics.show(look);

    let mut background = JoinSet::new();
    let (indexed, contacts_indexed) = oneshot::channel();
    let writers = (contact_writer, directory_writer, namespace_writer);
    let shared = (&world, &readiness);
    watch(&mut background, shared, writers, indexed, changes);
    let policies_indexed = watch_policies(&mut background, shared, policy_writer);

    // Nothing is decided before everything that could forbid it was seen once.
    let listed = async {
        // The store is filled a moment before the index is.
        let _ = contacts_indexed.await;
        let _ = policies_indexed.await;
        let _ = directories.wait_until_ready().await;
        let _ = namespaces.wait_until_ready().await;
    };
    let listed = async {
        listed.await;
        readiness.begin();
        tracing::info!(
            contacts = contacts.len(),
            directories = directories.len(),
            namespaces = namespaces.len(),
            "everything was listed"
        );
    };
    let mut queues = (contact_queue, directory_queue, policy_queue);
    let mut shutdown = std::pin::pin!(shutdown);
    let hash_key = tokio::select! {
        ((), hash_key) = async { tokio::join!(listed, elected) } => Some(hash_key),
        () = stand_by(&mut queues) => None,
        () = &mut shutdown => None,
    };
    if let Some(hash_key) = hash_key {
        tracing::info!("the controllers begin");
        let _ = world.term.set(Term::new(hash_key, world.clock.now()));
        let names: Vec<_> = world.policies.all().keys().cloned().collect();
        world.weigh_all(&names);
        wake_everybody(&world);
        walk(&world, queues, shutdown).await;
    }
    background.shutdown().await;
}

/// Looks at all objects that there are.
fn wake_everybody(world: &World) {
    for object in world.directories.state() {
        world.directory_waker.wake(ObjectRef::from_obj(object.as_ref()));
    }
    let contacts = world.contacts.state();
    for object in &contacts {
        world.await_sync(object);
    }
    wake(world, contacts.iter().map(|object| ObjectRef::from_obj(object.as_ref())));
    for object in world.policy_objects.state() {
        world.policy_waker.wake(ObjectRef::from_obj(object.as_ref()));
    }
}

/// Takes out whom the watches wake, and looks at nobody. Never ends.
async fn stand_by((contacts, directories, policies): &mut Queues) {
    let mut woken = futures::stream::select(
        futures::stream::select(contacts.map(drop), directories.map(drop)),
        policies.map(drop),
    );
    while woken.next().await.is_some() {}
    // Nobody can wake anybody any more.
    std::future::pending::<()>().await;
}

/// Where the watches write what they see.
type Writers =
    (Writer<MessageContact>, Writer<ResourceDirectory>, Writer<PartialObjectMeta<Namespace>>);

/// Starts what fills the stores, the index and the queues.
fn watch(
    background: &mut JoinSet<()>,
    (world, readiness): (&Arc<World>, &Readiness),
    (contacts, directories, namespaces): Writers,
    indexed: oneshot::Sender<()>,
    changes: Changes,
) {
    let client = &world.client;
    let config = watcher::Config::default;
    let scope = &world.environment.scope;
    let watched = |api: Api<MessageContact>| {
        watcher(api, config()).backoff(Patience::default()).modify(report::slim)
    };
    let contact_events = scope.events(
        || watched(Api::all(client.clone())),
        |namespace| watched(Api::namespaced(client.clone(), namespace)),
    );
    let contact_events = contact_events.reflect(contacts);
    let contact_events = logged(contact_events, "MessageContact", readiness.clone());
    background.spawn(watch_contacts(Arc::clone(world), contact_events, indexed));
    let directory_events = watcher(Api::<ResourceDirectory>::all(client.clone()), config())
        .backoff(Patience::default())
        .modify(|object| object.metadata.managed_fields = None)
        .reflect(directories);
    let directory_events = logged(directory_events, "ResourceDirectory", readiness.clone());
    background.spawn(watch_directories(Arc::clone(world), directory_events));
    // Namespaces belong to none: those that are seen are watched each by its name.
    let watched = |config| {
        let all = Api::<PartialObjectMeta<Namespace>>::all(client.clone());
        let events = watcher(all, config).backoff(Patience::default());
        events.modify(|object| object.metadata.managed_fields = None)
    };
    let namespace_events = scope.events(
        || watched(config()),
        |namespace| watched(config().fields(&format!("metadata.name={namespace}"))),
    );
    let namespace_events = namespace_events.reflect(namespaces);
    let namespace_events = logged(namespace_events, "Namespace", readiness.clone());
    background.spawn(watch_namespaces(Arc::clone(world), namespace_events));
    background.spawn(watch_changes(Arc::clone(world), changes));
    background.spawn(secrets::keep(Arc::clone(world)));
    let ringing = Arc::clone(world);
    background.spawn(async move { ringing.contact_waker.ring(&ringing.clock).await });
    let ringing = Arc::clone(world);
    background.spawn(async move { ringing.directory_waker.ring(&ringing.clock).await });
    let ringing = Arc::clone(world);
    background.spawn(async move { ringing.policy_waker.ring(&ringing.clock).await });
}

/// Starts what keeps the policies. What is returned is told once all that were listed are known.
fn watch_policies(
    background: &mut JoinSet<()>,
    (world, readiness): (&Arc<World>, &Readiness),
    policies: Writer<ContactPolicy>,
) -> oneshot::Receiver<()> {
    let (indexed, policies_indexed) = oneshot::channel();
    let all = Api::<ContactPolicy>::all(world.client.clone());
    let events = watcher(all, watcher::Config::default())
        .backoff(Patience::default())
        .modify(|object| object.metadata.managed_fields = None)
        .reflect(policies);
    let events = logged(events, "ContactPolicy", readiness.clone());
    background.spawn(policies::watch(Arc::clone(world), events, indexed));
    policies_indexed
}

/// Whom to look at, one queue a kind.
type Queues = (
    mpsc::UnboundedReceiver<Contact>,
    mpsc::UnboundedReceiver<ObjectRef<ResourceDirectory>>,
    mpsc::UnboundedReceiver<ObjectRef<ContactPolicy>>,
);

/// Drives the passes until `shutdown` ends, and those that have begun to their end.
async fn walk(
    world: &Arc<World>,
    (contact_queue, directory_queue, policy_queue): Queues,
    shutdown: impl Future<Output = ()>,
) {
    let passes = futures::future::join3(
        drain(applier(
            |object, world| Box::pin(contact_policy::reconcile(object, world)),
            contact_policy::interrupted,
            Arc::clone(world),
            world.policy_objects.clone(),
            requests(policy_queue),
            controller::Config::default(),
        )),
        drain(applier(
            |object, world| Box::pin(resource_directory::reconcile(object, world)),
            resource_directory::interrupted,
            Arc::clone(world),
            world.directories.clone(),
            requests(directory_queue),
            controller::Config::default(),
        )),
        drain(applier(
            |object, world| Box::pin(message_contact::reconcile(object, world)),
            message_contact::interrupted,
            Arc::clone(world),
            world.contacts.clone(),
            requests(contact_queue),
            controller::Config::default(),
        )),
    );
    let mut passes = std::pin::pin!(passes);
    tokio::select! {
        _ = &mut passes => {}
        () = shutdown => {
            tracing::info!("stopping: calls in flight are awaited, no other begins");
            world.stopping.store(true, Ordering::Release);
            world.contact_waker.close();
            world.directory_waker.close();
            world.policy_waker.close();
            // Jobs that wait in a lane are told, so that the passes come to their end.
            tokio::join!(world.registry.close(), passes);
        }
    }
}

/// Drives the passes; how each one ended was reported already.
async fn drain<T, E>(ended: impl Stream<Item = Result<T, E>>) {
    ended.for_each(|_| futures::future::ready(())).await;
}

/// Keeps the index of claims, and wakes an object when it, or one that it competes with, changes.
/// `indexed` is told once the index holds all that was listed.
async fn watch_contacts(
    world: Arc<World>,
    events: impl Stream<Item = Event<MessageContact>>,
    indexed: oneshot::Sender<()>,
) {
    let mut shown = Shown::default();
    let mut indexed = Some(indexed);
    let mut events = std::pin::pin!(events);
    while let Some(event) = events.next().await {
        let is_listed = matches!(event, Event::InitDone);
        for change in shown.changes(&event) {
            let (directory, concerned) = match &change {
                Change::Gone(key, uid) => {
                    world.weigh(key);
                    let uid = Uid(uid.clone());
                    let directory = world.claims().directory_of(&uid);
                    (directory, world.forget(&uid))
                }
                Change::Seen(key) => {
                    let concerned = world.index(key);
                    let object = world.object(key);
                    if let Some(object) = &object {
                        world.await_sync(object);
                    }
                    let uid = object.map(|object| uid_of(&object));
                    (uid.and_then(|uid| world.claims().directory_of(&uid)), concerned)
                }
            };
            wake(&world, concerned);
            if let Some(directory) = directory {
                wake_if_it_waits(&world, &directory);
            }
            if let Change::Seen(key) = change {
                world.contact_waker.wake(key);
            }
        }
        if is_listed && let Some(indexed) = indexed.take() {
            // Fails only if nobody waits any more.
            let _ = indexed.send(());
        }
    }
}

/// Wakes a directory when it changes, and its contacts when its spec does.
async fn watch_directories(
    world: Arc<World>,
    events: impl Stream<Item = Event<ResourceDirectory>>,
) {
    let mut shown = Shown::default();
    let mut generations: HashMap<String, Option<i64>> = HashMap::new();
    let mut events = std::pin::pin!(events);
    while let Some(event) = events.next().await {
        for change in shown.changes(&event) {
            match change {
                Change::Gone(key, _) => {
                    world.registry.remove(&key.name);
                    world.wake_policies_of_directories();
                    generations.remove(&key.name);
                    wake_contacts_of(&world, &key.name);
                }
                Change::Seen(key) => {
                    let name = key.name.clone();
                    let object = world.directories.get(&key);
                    let generation = object.and_then(|object| object.metadata.generation);
                    world.directory_waker.wake(key);
                    world.wake_policies_of_directories();
                    if generations.insert(name.clone(), generation) != Some(generation) {
                        wake_contacts_of(&world, &name);
                    }
                }
            }
        }
    }
}

/// Wakes whom a namespace concerns when its labels change.
async fn watch_namespaces(
    world: Arc<World>,
    events: impl Stream<Item = Event<PartialObjectMeta<Namespace>>>,
) {
    let mut shown = Shown::default();
    let mut labels: HashMap<String, BTreeMap<String, String>> = HashMap::new();
    let mut events = std::pin::pin!(events);
    while let Some(event) = events.next().await {
        for change in shown.changes(&event) {
            let (Change::Gone(key, _) | Change::Seen(key)) = change;
            let after = world.namespaces.get(&key).map(|namespace| namespace.labels().clone());
            let before = match after.clone() {
                Some(labelled) => labels.insert(key.name.clone(), labelled),
                None => labels.remove(&key.name),
            };
            if before != after {
                let concerned = world.claims().concerned_by_namespace(&key.name);
                wake(&world, concerned);
            }
        }
    }
}

/// Wakes a directory that is being deleted: it waits for objects that need it. At once when none is
/// left; how many are left may be told a little later.
fn wake_if_it_waits(world: &World, directory: &str) {
    let key = ObjectRef::new(directory);
    let object = world.directories.get(&key);
    if object.is_none_or(|object| object.metadata.deletion_timestamp.is_none()) {
        return;
    }
    if !world.claims().is_needed(directory) {
        world.directory_waker.wake(key);
    } else if let Ok(late) = world.clock.now().saturating_add(COUNTS_LATE_BY) {
        world.directory_waker.wake_by(key, late);
    }
}

fn wake_contacts_of(world: &World, directory: &str) {
    let contacts = world.claims().of_directory(directory);
    wake(world, contacts);
}

fn wake(world: &World, contacts: impl IntoIterator<Item = Contact>) {
    for contact in contacts {
        world.contact_waker.wake(contact);
    }
}

/// Wakes the objects that a change in the cloud concerns.
async fn watch_changes(world: Arc<World>, mut changes: Changes) {
    while let Some((name, changed)) = changes.next().await {
        let late = world.clock.now().saturating_add(COUNTS_LATE_BY);
        let directory: ObjectRef<ResourceDirectory> = ObjectRef::new(&name);
        if changed.everything || changed.health {
            world.directory_waker.wake(directory);
        } else if let Ok(late) = late {
            world.directory_waker.wake_by(directory, late);
        }
        if changed.everything {
            world.forget_setbacks(&world.claims().of_directory(&name));
            wake_contacts_of(&world, &name);
            continue;
        }
        let Some(runtime) = world.directory(&name) else { continue };
        let (identity, names) = runtime.with_snapshot(|snapshot| {
            let identity = snapshot.identity().cloned();
            // Whoever wants the name of a contact that nobody holds waits for it to be as wanted.
            let named = changed.ids.iter().filter_map(|id| match snapshot.sight(id) {
                Sight::Known(entry) => Some(entry.contact.name.folded()),
                Sight::Unlisted | Sight::Gone { .. } => None,
            });
            (identity, changed.names.iter().cloned().chain(named).collect::<BTreeSet<_>>())
        });
        let directories: Vec<_> =
            identity.into_iter().map(|identity| identity.directory_id).collect();
        let concerned: BTreeSet<_> = {
            let claims = world.claims();
            let holding = changed.ids.iter().flat_map(|id| claims.holding(id, &directories));
            let wanting = names.iter().flat_map(|folded| claims.wanting(&name, folded));
            let wanting = wanting.map(|(_, object)| object);
            holding.chain(wanting).map(|object| (object.namespace.clone(), object.name)).collect()
        };
        for (namespace, name) in concerned {
            let object = ObjectRef::new(&name).within(&namespace.unwrap_or_default());
            world.contact_waker.wake(object);
        }
    }
}

/// What a watch shows. One that broke is begun again by kube; it is only told, once for each reason.
fn logged<K>(
    events: impl Stream<Item = Result<Event<K>, watcher::Error>>,
    kind: &'static str,
    readiness: Readiness,
) -> impl Stream<Item = Event<K>> {
    readiness.awaits(kind);
    events.filter_map(move |event| {
        match &event {
            Ok(Event::InitDone) => readiness.listed(kind),
            Ok(_) => {}
            Err(error) => {
                let lack = Lack::of(error);
                if readiness.failed(kind, lack) {
                    tracing::warn!(kind, why = lack.in_words(), "a watch ended; it is begun again");
                }
            }
        }
        futures::future::ready(event.ok())
    })
}

/// Pauses between two tries of a watch: short at first, so that a forced relist is not felt.
struct Patience {
    next: Duration,
}

impl Patience {
    const FIRST: Duration = Duration::from_millis(50);
    const LONGEST: Duration = Duration::from_secs(15);
}

impl Default for Patience {
    fn default() -> Self {
        Self { next: Self::FIRST }
    }
}

impl Iterator for Patience {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let pause = self.next;
        self.next = (pause * 2).min(Self::LONGEST);
        Some(pause)
    }
}

impl Backoff for Patience {
    fn reset(&mut self) {
        self.next = Self::FIRST;
    }
}

#[cfg(test)]
mod tests {
    use kube::runtime::reflector::store::Writer;
    use serde_json::json;

    use super::report::Interrupted;
    use super::*;
    use crate::domain::contact::{ContactId, DirectoryId};
    use crate::lease::{Election, Place, Terms};
    use crate::telemetry::Metrics;

    /// A world without a cluster, and the store of its contacts.
    fn world() -> (World, Writer<MessageContact>) {
        let nowhere = kube::Config::new(http::Uri::from_static("http://127.0.0.1:1"));
        let clock = Clock::system();
        let (contacts, writer) = store();
        let world = World {
            client: Client::try_from(nowhere).expect("it is a client"),
            registry: Registry::new(clock.clone(), Metrics::default(), Arc::new(|| None)).0,
            leadership: Leadership::unshared(),
            term: Term::new(HashKey::new([7; HashKey::BYTES]), clock.now()).into(),
            clock,
            environment: Environment::new("operator".to_owned(), Vec::new(), |_| None),
            contacts,
            directories: store().0,
            namespaces: store().0,
            stopping: AtomicBool::new(false),
            cluster_writes: Semaphore::new(CLUSTER_WRITES_MAX),
            creates: Mutex::default(),
            definition: tokio::sync::Mutex::default(),
            claims: RwLock::default(),
            memory: Mutex::default(),
            secrets: Secrets::default(),
            policies: Policies::default(),
            policy_objects: store().0,
            standings: Standings::default(),
            open_reports: OpenReports::default(),
            policy_waker: Waker::new().0,
            contact_waker: Waker::new().0,
            directory_waker: Waker::new().0,
        };
        (world, writer)
    }

    fn contact(version: u32, holds: Option<&str>) -> MessageContact {
        let status = holds.map(|id| json!({ "directoryId": "rd-3G", "contactId": id }));
        let object = json!({
            "apiVersion": "message-contacts.dev/v1alpha1", "kind": "MessageContact",
            "metadata": { "name": "on-call", "namespace": "team-a", "uid": "uid-1",
                "resourceVersion": version.to_string() },
            "spec": { "directoryRef": { "name": "main" }, "name": "Baiqi", "title": "CEO",
                "emailAddress": "on-call@example.com", "messageTypes": ["FaultMessage"] },
            "status": status,
        });
        serde_json::from_value(object).expect("it is a contact")
    }

    fn is_held(world: &World, id: &str) -> bool {
        world.claims().is_held(&DirectoryId("rd-3G".to_owned()), &ContactId(id.to_owned()))
    }

    /// A process that was stopped meanwhile knows nothing of it yet.
    #[tokio::test]
    async fn nothing_is_written_to_the_apiserver_while_the_lease_is_not_held() {
        let (mut world, _) = world();
        let answered = std::cell::Cell::new(0);
        let request = || async {
            answered.set(answered.get() + 1);
            kube::Result::Ok(())
        };
        report::write(&world, request()).await.expect("nobody else is there");
        assert_eq!(answered.get(), 1);
        let place = Place { namespace: "operator".to_owned(), name: "lease".to_owned() };
        let terms = Terms::new(Duration::from_secs(15), Duration::from_secs(10)).expect("they fit");
        let clock = world.clock.clone();
        let never_won =
            Election::new(world.client.clone(), place, "we".to_owned(), terms, move || clock.now());
        world.leadership = Leadership::of([&never_won]);
        let refused = report::write(&world, request()).await;
        assert!(matches!(refused, Err(Interrupted::NotLeading)));
        assert_eq!(answered.get(), 1);
    }

    #[tokio::test]
    async fn a_late_event_takes_no_claim_back() {
        let (world, mut writer) = world();
        let key = ObjectRef::from_obj(&contact(1, None));
        let uid = Uid("uid-1".to_owned());
        writer.apply_watcher_event(&Event::Apply(contact(1, None)));
        world.index(&key);
        let written = Arc::new(contact(3, Some("c-8")));
        world.remember(&uid, |memory| memory.written = Some(written));
        world.index(&key);
        assert!(is_held(&world, "c-8"));
        writer.apply_watcher_event(&Event::Apply(contact(2, None)));
        world.index(&key);
        assert!(is_held(&world, "c-8"));
        // The trap: a newer version without it is no late one.
        writer.apply_watcher_event(&Event::Apply(contact(4, None)));
        world.index(&key);
        assert!(!is_held(&world, "c-8"));
    }

    #[tokio::test]
    async fn an_object_that_is_gone_comes_back_by_no_answer_of_ours() {
        let (world, mut writer) = world();
        let key = ObjectRef::from_obj(&contact(1, Some("c-8")));
        let uid = Uid("uid-1".to_owned());
        writer.apply_watcher_event(&Event::Apply(contact(1, Some("c-8"))));
        world.index(&key);
        world.remember(&uid, |memory| memory.written = Some(Arc::new(contact(1, Some("c-8")))));
        assert!(is_held(&world, "c-8") && world.remembered(&uid).written.is_some());
        // The watch is faster than the answer to the write that let the object go.
        writer.apply_watcher_event(&Event::Delete(contact(2, Some("c-8"))));
        world.forget(&uid);
        world.remember(&uid, |memory| memory.written = Some(Arc::new(contact(2, Some("c-8")))));
        world.index(&key);
        assert!(!is_held(&world, "c-8") && !world.claims().knows(&uid));
        assert!(world.remembered(&uid).written.is_none());
    }

    /// Twenty policies, of which one contact that changes concerns as many as speak of it.
    #[tokio::test]
    async fn one_contact_that_changes_is_judged_alone_and_only_by_those_that_speak_of_it() {
        let (world, mut writer) = world();
        for number in 0..2000 {
            let mut object = contact(1, None);
            object.metadata.name = Some(format!("contact-{number}"));
            object.metadata.uid = Some(format!("uid-{number}"));
            object.spec.directory_ref.as_mut().expect("it has one").name =
                if number % 2 == 0 { "even" } else { "odd" }.to_owned();
            writer.apply_watcher_event(&Event::Apply(object));
        }
        let policies: Vec<_> = (0..20)
            .map(|number| {
                let directory = if number < 5 { "even" } else { "odd" };
                let spec = json!({ "match": { "directories": [directory] },
                    "contact": { "phoneNumber": "Required" },
                    "coverage": [{ "name": "all", "minContacts": 1 }] });
                let spec = serde_json::from_value(spec).expect("it is a spec");
                let name = format!("policy-{number}");
                let policy = crate::api::parse::policy(&name, &spec);
                Arc::new(policy.expect("it can be followed"))
            })
            .collect();
        for policy in &policies {
            world.policies.set(&policy.name, Some(Arc::clone(policy)));
            world.weigh_all(std::slice::from_ref(&policy.name));
        }
        let all = world.standings.judged();
        assert_eq!(all, 20 * 1000);
        for (number, by) in [(4, 5), (5, 15)] {
            let before = world.standings.judged();
            let key = ObjectRef::new(&format!("contact-{number}")).within("team-a");
            world.weigh(&key);
            assert_eq!(world.standings.judged() - before, by);
        }
    }

    #[tokio::test]
    async fn what_changes_while_all_are_looked_at_is_not_lost() {
        let (world, mut writer) = world();
        let phones = |enforcement: &str| {
            let spec =
                json!({ "enforcement": enforcement, "contact": { "phoneNumber": "Required" } });
            let spec = serde_json::from_value(spec).expect("it is a spec");
            Arc::new(crate::api::parse::policy("phones", &spec).expect("it can be followed"))
        };
        let names = ["phones".to_owned()];
        let violating = |world: &World| {
            let count = |standing: &super::super::standings::Standing| {
                let judged = standing.found.values().filter_map(|found| found.judged.as_ref());
                let violating = judged.filter(|judged| !judged.violated.is_empty()).count();
                (standing.policy.enforcement.as_str(), violating)
            };
            world.standings.with("phones", count)
        };
        let mut apply = |phone: Option<&str>| {
            let mut object = contact(1, None);
            object.spec.phone_number = phone.map(Into::into);
            let key = ObjectRef::from_obj(&object);
            writer.apply_watcher_event(&Event::Apply(object));
            world.weigh(&key);
        };
        world.policies.set("phones", Some(phones("Warn")));
        apply(None);
        let look = world.look_at_all(&names);
        apply(Some("86-13800138000"));
        world.take_over(look);
        assert_eq!(violating(&world), Some(("Warn", 0)));

        // A look at what the policy was before tells nothing of what it is.
        let late = world.look_at_all(&names);
        world.policies.set("phones", Some(phones("Deny")));
        world.weigh_all(&names);
        apply(None);
        world.take_over(late);
        assert_eq!(violating(&world), Some(("Deny", 1)));
        world.policies.set("phones", None);
        world.weigh_all(&names);
        assert_eq!(violating(&world), None);
    }

    #[tokio::test]
    async fn who_is_in_the_cloud_gives_coverage_and_who_is_being_deleted_does_not() {
        let (world, mut writer) = world();
        let spec = json!({ "coverage": [{ "name": "all", "minContacts": 1, "minVerified": 1,
            "messageTypes": ["FaultMessage"] }] });
        let spec = serde_json::from_value(spec).expect("it is a spec");
        let policy = crate::api::parse::policy("all", &spec).expect("it can be followed");
        world.policies.set("all", Some(Arc::new(policy)));
        world.weigh_all(&["all".to_owned()]);
        let mut gives = |verified: Option<&str>, leaves: bool| {
            let mut object = contact(1, None);
            let status = json!({ "contactId": "c-1", "directoryId": "rd-3G",
                "observed": { "name": "Baiqi", "title": "CEO", "messageTypes": ["FaultMessage"] },
                "verification": { "email": { "state": "Sent", "sends": 1, "target": "new",
                    "verifiedTarget": verified } } });
            object.status = Some(serde_json::from_value(status).expect("it is a status"));
            let now = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(world.clock.now());
            object.metadata.deletion_timestamp = leaves.then_some(now);
            let key = ObjectRef::from_obj(&object);
            writer.apply_watcher_event(&Event::Apply(object));
            world.weigh(&key);
            let rows = |found: &super::super::standings::Standing| {
                let rows = found.tally.rows(&found.policy.coverage);
                rows.iter().map(|row| row.actual).collect::<Vec<_>>()
            };
            world.standings.with("all", rows).expect("it is known")
        };
        assert_eq!(gives(None, false), [1, 0]);
        // The mailbox in force, while another one waits for its owner.
        assert_eq!(gives(Some("old"), false), [1, 1]);
        assert_eq!(gives(Some("old"), true), [0, 0]);
    }

    #[tokio::test]
    async fn a_policy_concerns_whom_it_speaks_of_and_their_rivals_and_only_if_it_says_something_new()
     {
        let (world, mut writer) = world();
        let objects = [
            ("inside", "team-a", "main", "Baiqi"),
            ("elsewhere", "team-a", "other", "Lianpo"),
            ("rival", "team-b", "main", "BAIQI"),
            ("near", "team-b", "main", "Baiqia"),
        ];
        for (name, namespace, directory, wants) in objects {
            let mut object = contact(1, None);
            object.metadata.name = Some(name.to_owned());
            object.metadata.namespace = Some(namespace.to_owned());
            object.metadata.uid = Some(format!("{name}-uid"));
            object.spec.directory_ref.as_mut().expect("it has one").name = directory.to_owned();
            object.spec.name = wants.into();
            // No policy speaks of it, and it competes with one of which some do.
            object.spec.reconcile_policy = (name == "rival").then(|| "ReportOnly".to_owned());
            let key = ObjectRef::from_obj(&object);
            writer.apply_watcher_event(&Event::Apply(object));
            world.index(&key);
        }
        let policy = |spec: serde_json::Value| {
            let spec = serde_json::from_value(spec).expect("it is a spec");
            crate::api::parse::policy("phones", &spec).expect("it can be followed")
        };
        let phones = |directory: &str, enforcement: &str| {
            policy(json!({ "enforcement": enforcement, "match": { "directories": [directory] },
                "contact": { "phoneNumber": "Required" } }))
        };
        let check = |before, after, expected: &[&str]| {
            let found = policies::concerned(&world, before, after);
            let found: BTreeSet<_> = found.into_iter().map(|object| object.name).collect();
            assert_eq!(found, expected.iter().map(ToString::to_string).collect());
        };
        let (main, other) = (phones("main", "Deny"), phones("other", "Deny"));
        let warning = phones("main", "Warn");
        let all_of_main = ["inside", "rival", "near"];
        check(None, Some(&main), &all_of_main);
        check(Some(&main), None, &all_of_main);
        check(Some(&main), Some(&main), &[]);
        check(None, Some(&other), &["elsewhere"]);
        check(Some(&other), Some(&main), &["elsewhere", "inside", "near", "rival"]);
        check(Some(&main), Some(&warning), &all_of_main);
        let labelled = json!({ "matchLabels": { "tier": "one" } });
        let nobody = policy(json!({ "match": { "namespaceSelector": labelled },
            "contact": { "phoneNumber": "Required" } }));
        check(None, Some(&nobody), &[]);
        let mut covering = main.clone();
        covering.unmanaged_max = Some(0);
        check(Some(&main), Some(&covering), &[]);
    }
}
