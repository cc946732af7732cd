//! What every story stands on: the cluster and the operator that all share, and a simulator, a
//! `ResourceDirectory` and a namespace of its own.

use std::net::SocketAddr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use cluster::Cluster;
use directory_simulator::{
    ACCESS_KEY_ID, ACCESS_KEY_SECRET, NewContact, Options, Simulator, Tree,
};
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::ApiResource;
use kube::{Client, ResourceExt};
use message_contact_operator::api::{self, MessageContact, ResourceDirectory};
use message_contact_operator::clock::Clock;
use message_contact_operator::controller::{self, Environment, Readiness};
use message_contact_operator::plan::hash::HashKey;
use serde_json::{Value, json};

/// How long a story waits for anything. Generous: it only bounds a failure.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The namespace of the operator that all stories share.
pub const OPERATOR_NAMESPACE: &str = "message-contacts";

/// Simulators listen below the ports that the system gives away, as the operator's allow list is
/// fixed when it starts.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// So many of them belong to one process.
const PORTS_EACH: u16 = 800;

/// The ports of this process, which it never gives back: the operator of another one still asks at
/// those where that one's stories have ended, with the same keys, and would work in our directories.
fn ports() -> std::ops::Range<u16> {
    static OURS: OnceLock<(u16, std::net::TcpListener)> = OnceLock::new();
    let claim = |port: u16| Some((port, std::net::TcpListener::bind(("127.0.0.1", port)).ok()?));
    let take = || PORTS.step_by(PORTS_EACH.into()).find_map(claim).expect("too many test processes");
    let (claimed, _) = OURS.get_or_init(take);
    claimed + 1..claimed + PORTS_EACH
}

/// The cluster with our definitions and the operator's namespace in it; one a process.
pub async fn cluster() -> &'static Cluster {
    static PREPARED: tokio::sync::OnceCell<()> = tokio::sync::OnceCell::const_new();
    let cluster = cluster::shared().await.unwrap();
    PREPARED.get_or_init(|| prepare(cluster)).await;
    cluster
}

/// Puts our definitions and the operator's namespace into a cluster.
pub async fn prepare(cluster: &Cluster) {
    cluster.apply_crds(&api::crds()).await.unwrap();
    let namespaces: Api<DynamicObject> = Api::all_with(
        cluster.client(),
        &ApiResource::erase::<k8s_openapi::api::core::v1::Namespace>(&()),
    );
    let namespace = json!({ "apiVersion": "v1", "kind": "Namespace",
        "metadata": { "name": OPERATOR_NAMESPACE } });
    apply(&namespaces, &namespace).await.unwrap();
}

/// The operator that all stories share: in this process, on a thread of its own.
fn operator(cluster: &'static Cluster) {
    static RUNNING: OnceLock<()> = OnceLock::new();
    RUNNING.get_or_init(|| {
        let (ready, started) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let mut config = cluster.config();
                config.headers.push((
                    http::header::USER_AGENT,
                    http::HeaderValue::from_static("message-contact-operator/test"),
                ));
                ready.send(()).unwrap();
                run_operator(Client::try_from(config).unwrap(), Clock::system()).await;
            });
        });
        started.recv().unwrap();
    });
}

/// Runs the controllers in this process until the future is dropped.
pub async fn run_operator(client: Client, clock: Clock) {
    let allow_list = ports().map(|port| format!("http://127.0.0.1:{port}")).collect();
    let environment = Environment::new(OPERATOR_NAMESPACE.to_owned(), allow_list, environment);
    let hash_key = HashKey::new([7; HashKey::BYTES]);
    let never = std::future::pending();
    controller::run(client, environment, hash_key, clock, Readiness::default(), never).await;
}

pub fn environment(name: &str) -> Option<String> {
    match name {
        "ALIBABA_CLOUD_ACCESS_KEY_ID" => Some(ACCESS_KEY_ID.to_owned()),
        "ALIBABA_CLOUD_ACCESS_KEY_SECRET" => Some(ACCESS_KEY_SECRET.to_owned()),
        _ => None,
    }
}

/// A simulator whose endpoint is on the operators' allow list.
pub async fn simulator(options: Options) -> Simulator {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let mut options = options;
    let ports = ports();
    for _ in ports.clone() {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        if options.tree == Tree::default() {
            // Contacts of two directories may have the same id, two directories never.
            options.tree.directory_id = format!("rd-story{number}");
        }
        let port = ports.start + number % (PORTS_EACH - 1);
        let listen = SocketAddr::from(([127, 0, 0, 1], port));
        if let Ok(simulator) = Simulator::start(Options { listen, ..options.clone() }).await {
            return simulator;
        }
    }
    panic!("no port is free for a simulator")
}

/// A story's own simulator, directory and namespace.
pub struct Stand {
    pub cluster: &'static Cluster,
    pub simulator: Simulator,
    pub client: Client,
    pub namespace: String,
    /// The name of the `ResourceDirectory`.
    pub directory: String,
}

impl Stand {
    /// On the shared cluster and under the shared operator, connected.
    pub async fn new() -> Self {
        Self::with(Options::default(), json!({})).await
    }

    /// As [`Self::new`], with a simulator of those options and these fields in the directory's
    /// spec.
    pub async fn with(options: Options, spec: Value) -> Self {
        let stand = Self::unconnected(options).await;
        stand.apply_directory(spec).await;
        stand.directory_becomes("Ready", "Connected").await;
        stand
    }

    /// As [`Self::new`], without a `ResourceDirectory`.
    pub async fn unconnected(options: Options) -> Self {
        let cluster = cluster().await;
        operator(cluster);
        Self::on(cluster, options).await
    }

    /// On a cluster of the story's own, under no operator; without a `ResourceDirectory`.
    pub async fn on(cluster: &'static Cluster, options: Options) -> Self {
        let simulator = simulator(options).await;
        let namespace = cluster.namespace("story").await.unwrap();
        let directory = namespace.clone();
        Self { cluster, simulator, client: cluster.client(), namespace, directory }
    }

    pub fn contacts(&self) -> Api<DynamicObject> {
        self.contacts_in(&self.namespace)
    }

    pub fn contacts_in(&self, namespace: &str) -> Api<DynamicObject> {
        let kind = ApiResource::erase::<MessageContact>(&());
        Api::namespaced_with(self.client.clone(), namespace, &kind)
    }

    pub fn directories(&self) -> Api<DynamicObject> {
        Api::all_with(self.client.clone(), &ApiResource::erase::<ResourceDirectory>(&()))
    }

    /// Applies the story's directory; it admits every namespace.
    pub async fn apply_directory(&self, spec: Value) {
        let mut whole = json!({ "endpoint": self.simulator.endpoint(), "namespaces": {},
            "pollInterval": "10s", "requestsPerSecond": 100 });
        merge(&mut whole, spec);
        let object = json!({ "apiVersion": "message-contacts.dev/v1alpha1",
            "kind": "ResourceDirectory", "metadata": { "name": self.directory }, "spec": whole });
        apply(&self.directories(), &object).await.unwrap();
    }

    /// The manifest of a contact: a valid one with these fields put over it.
    pub fn manifest(&self, object: &str, name: &str, fields: Value) -> Value {
        let mut spec = json!({
            "directoryRef": { "name": self.directory },
            "name": name,
            "title": "TechnicalDirector",
            "emailAddress": format!("{object}@example.com"),
            "messageTypes": ["SecurityMessage", "FaultMessage"],
            "readyWhen": "Synced",
        });
        merge(&mut spec, fields);
        json!({ "apiVersion": "message-contacts.dev/v1alpha1", "kind": "MessageContact",
            "metadata": { "name": object, "namespace": self.namespace }, "spec": spec })
    }

    /// Applies a contact as `kubectl apply --server-side` does.
    pub async fn apply(&self, object: &str, name: &str, fields: Value) -> DynamicObject {
        let manifest = self.manifest(object, name, fields);
        apply(&self.contacts(), &manifest).await.unwrap()
    }

    /// Creates a contact and expects the apiserver to refuse it; returns its text.
    pub async fn refused(&self, manifest: &Value) -> String {
        let object: DynamicObject = serde_json::from_value(manifest.clone()).unwrap();
        match self.contacts().create(&PostParams::default(), &object).await {
            Err(kube::Error::Api(status)) => status.message,
            other => panic!("the apiserver should refuse it: {other:?}"),
        }
    }

    /// Waits until a condition of a contact has that reason, and returns the object.
    pub async fn becomes(&self, object: &str, condition: &str, reason: &str) -> DynamicObject {
        becomes(&self.contacts(), object, condition, reason).await
    }

    pub async fn directory_becomes(&self, condition: &str, reason: &str) -> DynamicObject {
        becomes(&self.directories(), &self.directory, condition, reason).await
    }

    /// Waits until an object is gone.
    pub async fn is_gone(&self, object: &str) {
        let contacts = self.contacts();
        cluster::wait_for(PATIENCE, &format!("{object} is gone"), || async {
            match contacts.get_opt(object).await {
                Ok(None) => Ok(()),
                Ok(Some(left)) => Err(seen(&left)),
                Err(error) => Err(error.to_string()),
            }
        })
        .await
        .unwrap();
    }

    /// Waits for something about the simulator.
    pub async fn cloud<T>(&self, what: &str, mut look: impl FnMut(&Simulator) -> Option<T>) -> T {
        cluster::wait_for(PATIENCE, what, || {
            let found = look(&self.simulator);
            let counts = format!("{:?}", self.simulator.counts());
            async move { found.ok_or(counts) }
        })
        .await
        .unwrap()
    }

    /// Asks for a look at the object now, and waits until it was handled.
    pub async fn handled(&self, object: &str) -> DynamicObject {
        handled(&self.contacts(), object).await
    }

    /// Asks for a list of the directory now, and waits until it was handled.
    pub async fn relisted(&self) -> DynamicObject {
        handled(&self.directories(), &self.directory).await
    }

    /// Deletes an object as a user; its finalizer keeps it for a while.
    pub async fn delete(&self, object: &str) {
        self.contacts().delete(object, &DeleteParams::default()).await.unwrap();
    }

    /// Somebody else's contact, which nothing may touch. Returns its id.
    pub fn stranger(&self, name: &str) -> String {
        self.simulator.insert_contact(NewContact {
            name: name.to_owned(),
            email: format!("{}@example.com", name.to_lowercase()),
            phone: None,
            title: "Other".to_owned(),
            message_types: vec!["BillMessage".to_owned()],
            members: Vec::new(),
            confirmed: true,
        })
    }

    /// The operations that were called after a number of calls, in the order in which they ended.
    pub fn actions_since(&self, number: u64) -> Vec<String> {
        let calls = self.simulator.calls_since(number);
        calls.into_iter().map(|call| call.action).collect()
    }
}

impl Drop for Stand {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let most = self.simulator.counts().in_flight_max;
            assert!(most <= 1, "{most} calls were in flight at once in one directory");
        }
    }
}

/// Server-side apply as a user.
pub async fn apply(api: &Api<DynamicObject>, manifest: &Value) -> kube::Result<DynamicObject> {
    let name = manifest["metadata"]["name"].as_str().unwrap();
    api.patch(name, &PatchParams::apply("a-person").force(), &Patch::Apply(manifest)).await
}

/// Waits until a condition has that reason for the newest generation.
pub async fn becomes(
    api: &Api<DynamicObject>,
    object: &str,
    condition: &str,
    reason: &str,
) -> DynamicObject {
    let what = format!("{object}: {condition} becomes {reason}");
    cluster::wait_for(PATIENCE, &what, || async {
        let found = api.get(object).await.map_err(|error| error.to_string())?;
        let known = condition_of(&found, condition);
        let current = found.data["status"]["observedGeneration"] == json!(found.metadata.generation);
        if current && known["reason"] == reason { Ok(found) } else { Err(seen(&found)) }
    })
    .await
    .unwrap()
}

/// One condition of an object, or null.
pub fn condition_of(object: &DynamicObject, condition: &str) -> Value {
    let conditions = object.data["status"]["conditions"].as_array().cloned().unwrap_or_default();
    conditions.into_iter().find(|known| known["type"] == condition).unwrap_or(Value::Null)
}

fn seen(object: &DynamicObject) -> String {
    format!("{} generation {:?}: {}", object.name_any(), object.metadata.generation, object.data["status"])
}

/// Puts fields over an object; null takes a field out.
pub fn merge(into: &mut Value, fields: Value) {
    for (key, value) in fields.as_object().unwrap() {
        if value.is_null() {
            into.as_object_mut().unwrap().remove(key);
        } else {
            into[key] = value.clone();
        }
    }
}


/// Asks for a look at an object now, and waits until it was handled.
pub async fn handled(api: &Api<DynamicObject>, object: &str) -> DynamicObject {
    static ASKED: AtomicU16 = AtomicU16::new(0);
    let text = format!("now-{}", ASKED.fetch_add(1, Ordering::Relaxed));
    let patch = json!({ "metadata": { "annotations": { api::REQUESTED_AT: text } } });
    api.patch(object, &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    cluster::wait_for(PATIENCE, &format!("{object} is looked at"), || async {
        let found = api.get(object).await.map_err(|error| error.to_string())?;
        let done = found.data["status"]["lastHandledReconcileAt"] == json!(text);
        if done { Ok(found) } else { Err(seen(&found)) }
    })
    .await
    .unwrap()
}
