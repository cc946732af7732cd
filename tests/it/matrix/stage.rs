//! A cluster, one operator and the clouds of many stories, on clocks that are moved together.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use cluster::{AuditEvent, By, Cluster, Mark};
use directory_simulator::{Options, Simulator};
use futures::StreamExt as _;
use jiff::SignedDuration;
use kube::Client;
use kube::api::{Api, DynamicObject};
use kube::client::ClientBuilder;
use kube::core::ApiResource;
use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::{reflector, watcher};
use message_contact_operator::api::{MessageContact, ResourceDirectory};
use message_contact_operator::clock::Clock;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::many::operator_config;
use crate::stand::{self, PATIENCE};

/// How often a directory is read.
pub const POLL: Duration = Duration::from_secs(10);

/// Polls are spread by a twentieth: after so long each directory was read once more.
pub const STEP: Duration = Duration::from_millis(10_600);

/// So many looks in a row must find nothing under way. Between two looks everything that can run in
/// this process runs, so that it does not matter how busy the machine is.
const QUIET_LOOKS: u32 = 8;
const LOOK_EVERY: Duration = Duration::from_millis(8);

/// A cluster and an operator in this process.
pub struct Stage {
    pub cluster: Cluster,
    pub client: Client,
    clock: Clock,
    /// How many requests of the operator the apiserver has not answered.
    asking: Arc<AtomicU64>,
    /// The contacts as the apiserver shows them, and how often that has changed.
    seen: Store<DynamicObject>,
    events: Arc<AtomicU64>,
    tasks: [JoinHandle<()>; 2],
}

/// One cloud, with the directory and the namespace that belong to it.
pub struct Place {
    pub simulator: Simulator,
    /// The name of the namespace and of the `ResourceDirectory`.
    pub name: String,
    pub contacts: Api<DynamicObject>,
}

impl Stage {
    pub async fn new() -> Self {
        let cluster = Cluster::start(cluster::Options::default()).await.unwrap();
        stand::prepare(&cluster).await;
        let clock = Clock::system();
        let asking = Arc::new(AtomicU64::new(0));
        let client = counting(operator_config(&cluster), &asking);
        let operator = tokio::spawn(stand::run_operator(client, clock.clone()));
        let client = cluster.client();
        let writer = Writer::new(kind());
        let (seen, events) = (writer.as_reader(), Arc::default());
        let contacts = Api::all_with(client.clone(), &kind());
        let watch = tokio::spawn(watch(contacts, writer, Arc::clone(&events)));
        Self { cluster, client, clock, asking, seen, events, tasks: [operator, watch] }
    }

    /// A cloud with its directory, which is connected.
    pub async fn place(&self, options: Options) -> Place {
        let simulator = stand::simulator(options).await;
        let name = self.cluster.namespace("matrix").await.unwrap();
        let directory = json!({ "apiVersion": "message-contacts.dev/v1alpha1",
            "kind": "ResourceDirectory", "metadata": { "name": name },
            "spec": { "endpoint": simulator.endpoint(), "namespaces": {},
                "pollInterval": format!("{}s", POLL.as_secs()), "requestsPerSecond": 100 } });
        let directories = self.directories();
        stand::apply(&directories, &directory).await.unwrap();
        stand::becomes(&directories, &name, "Ready", "Connected").await;
        let contacts = Api::namespaced_with(self.client.clone(), &name, &kind());
        Place { simulator, name, contacts }
    }

    pub fn directories(&self) -> Api<DynamicObject> {
        Api::all_with(self.client.clone(), &ApiResource::erase::<ResourceDirectory>(&()))
    }

    /// The contact of a place as it was last seen.
    pub fn object(&self, place: &Place, name: &str) -> Option<Arc<DynamicObject>> {
        self.seen.get(&ObjectRef::new_with(name, kind()).within(&place.name))
    }

    /// What the operator has written since then, by namespace; directories stand under their name.
    pub fn writes(&self, since: Mark) -> HashMap<String, Vec<AuditEvent>> {
        let by_us = By::UserAgent("message-contact-operator");
        let mut writes: HashMap<String, Vec<AuditEvent>> = HashMap::new();
        for write in self.cluster.audit().writes(since, by_us).unwrap() {
            let of_directory = write.resource == "resourcedirectories";
            let place = if of_directory { &write.name } else { &write.namespace };
            writes.entry(place.clone()).or_default().push(write);
        }
        writes
    }

    /// Moves all clocks, and waits until each directory was read at its new time and nothing is
    /// left to do.
    pub async fn step(&self, places: &[&Place], by: Duration) {
        let lists = |place: &Place| place.simulator.counts().of("ListMessageContacts");
        let before: Vec<u64> = places.iter().map(|place| lists(place)).collect();
        // The clouds first: what is signed by a clock that is late is taken for a quarter of an hour.
        for place in places {
            place.simulator.advance(by);
        }
        self.clock.advance(SignedDuration::try_from(by).unwrap());
        cluster::wait_for(PATIENCE, "every directory is read", || {
            let unread = places.iter().zip(&before).filter(|(it, before)| lists(it) <= **before);
            let unread: Vec<_> = unread.map(|(place, _)| place.name.clone()).collect();
            std::future::ready(if unread.is_empty() { Ok(()) } else { Err(unread.join(", ")) })
        })
        .await
        .unwrap();
        self.settles(places).await;
    }

    /// Waits until the operator has nothing more to do at this time: no call and no request is under
    /// way, and none has come nor has any contact changed for some looks.
    pub async fn settles(&self, places: &[&Place]) {
        let look = || {
            let calls: u64 = places.iter().map(|place| place.simulator.counts().calls).sum();
            let in_flight: u64 = places.iter().map(|it| it.simulator.calls_in_flight()).sum();
            let in_flight = in_flight + self.asking.load(Ordering::Relaxed);
            (in_flight, calls, self.events.load(Ordering::Relaxed))
        };
        let (mut before, mut quiet) = (look(), 0);
        let begun = Instant::now();
        while quiet < QUIET_LOOKS {
            assert!(begun.elapsed() < PATIENCE, "the operator is never done: {before:?}");
            tokio::time::sleep(LOOK_EVERY).await;
            let now = look();
            let is_quiet = now == before && now.0 == 0;
            quiet = if is_quiet { quiet + 1 } else { 0 };
            before = now;
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Place {
    /// Applies a contact as `kubectl apply --server-side` does.
    pub async fn apply(&self, name: &str, spec: &Value) -> DynamicObject {
        let mut spec = spec.clone();
        spec["directoryRef"] = json!({ "name": self.name });
        let manifest = json!({ "apiVersion": "message-contacts.dev/v1alpha1",
            "kind": "MessageContact", "metadata": { "name": name, "namespace": self.name },
            "spec": spec });
        stand::apply(&self.contacts, &manifest).await.unwrap()
    }
}

/// A client whose requests are counted while they are not answered.
fn counting(config: kube::Config, asking: &Arc<AtomicU64>) -> Client {
    let asking = Arc::clone(asking);
    let counted = tower::layer::layer_fn(move |service| {
        let asking = Arc::clone(&asking);
        tower::util::MapFuture::new(service, move |answer| {
            let asking = Arc::clone(&asking);
            async move {
                let _counted = Counted::new(asking);
                answer.await
            }
        })
    });
    ClientBuilder::try_from(config).unwrap().with_layer(&counted).build()
}

/// One request, until it is answered or given up.
struct Counted(Arc<AtomicU64>);

impl Counted {
    fn new(asking: Arc<AtomicU64>) -> Self {
        asking.fetch_add(1, Ordering::Relaxed);
        Self(asking)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn kind() -> ApiResource {
    ApiResource::erase::<MessageContact>(&())
}

/// Keeps the store as the apiserver has it, and counts what changes.
async fn watch(
    contacts: Api<DynamicObject>,
    writer: Writer<DynamicObject>,
    events: Arc<AtomicU64>,
) {
    let watched = reflector(writer, watcher(contacts, watcher::Config::default()));
    // A watch that fails is begun anew by itself.
    let counted = watched.for_each(|_| {
        events.fetch_add(1, Ordering::Relaxed);
        std::future::ready(())
    });
    counted.await;
}
