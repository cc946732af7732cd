//! What every story stands on: the cluster and the operator that all share, and a simulator, a
//! `ResourceDirectory` and a namespace of its own.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use cluster::Cluster;
use directory_simulator::{
    ACCESS_KEY_ID, ACCESS_KEY_SECRET, Contact, ContactState, NewContact, Options, Simulator, Tree,
};
use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
};
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams};
use kube::core::ApiResource;
use kube::{Client, ResourceExt};
use message_contact_operator::api::{
    self, ContactPolicy, CustomResourceDefinition, MessageContact, ResourceDirectory,
};
use message_contact_operator::clock::Clock;
use message_contact_operator::controller::{self, Environment, Readiness};
use message_contact_operator::lease::Leadership;
use message_contact_operator::plan::hash::HashKey;
use serde_json::{Value, json};

use crate::privacy::{self, Private};

/// How long a story waits for anything. Generous: it only bounds a failure.
pub const PATIENCE: Duration = Duration::from_mins(2);

/// The namespace of the operator that all stories share.
pub const OPERATOR_NAMESPACE: &str = "message-contacts";

/// Simulators listen below the ports that the system gives away, as the operator's allow list is
/// fixed when it starts.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// So many of them belong to one process. None is used twice: the `ResourceDirectory` of a story that
/// has ended still stands, and its operator would go on with it in the next one's cloud.
const PORTS_EACH: u16 = 2000;

/// The ports of this process, which it never gives back: the operator of another one still asks at
/// those where that one's stories have ended, with the same keys, and would work in our directories.
fn ports() -> std::ops::Range<u16> {
    static OURS: OnceLock<(u16, std::net::TcpListener)> = OnceLock::new();
    let claim = |port: u16| Some((port, std::net::TcpListener::bind(("127.0.0.1", port)).ok()?));
    let take =
        || PORTS.step_by(PORTS_EACH.into()).find_map(claim).expect("too many test processes");
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

/// A cluster of a story's own, whose servers end with this value: dozens of idle ones would slow down
/// all stories that come after. It MUST be made before what uses the cluster, to be dropped after it.
pub struct Own(&'static Cluster);

impl Own {
    pub fn new(cluster: Cluster) -> Self {
        Self(Box::leak(Box::new(cluster)))
    }

    /// The cluster, for as long as this value is there.
    pub fn cluster(&self) -> &'static Cluster {
        self.0
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// A cluster beside the shared one, prepared like it, whose operators the story runs.
pub async fn another_cluster() -> Cluster {
    let cluster = Cluster::start(cluster::Options::default()).await.unwrap();
    prepare(&cluster).await;
    cluster
}

/// Makes the definition of policies one of a later version, which knows other words of `enforcement`:
/// with that of this version no policy is stored that cannot be followed.
pub async fn take_any_enforcement(cluster: &Cluster) {
    let words =
        "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/enforcement/enum";
    let patch = serde_json::from_value(json!([{ "op": "remove", "path": words }])).unwrap();
    let definitions: Api<CustomResourceDefinition> = Api::all(cluster.client());
    let policies = "contactpolicies.message-contacts.dev";
    let patch = Patch::<()>::Json(patch);
    definitions.patch(policies, &PatchParams::default(), &patch).await.unwrap();
}

/// Puts our definitions, the rules of admission and the operator's namespace into a cluster.
pub async fn prepare(cluster: &Cluster) {
    cluster.apply_crds(&api::crds()).await.unwrap();
    apply_admission(cluster).await;
    let namespaces: Api<DynamicObject> = Api::all_with(
        cluster.client(),
        &ApiResource::erase::<k8s_openapi::api::core::v1::Namespace>(&()),
    );
    let namespace = json!({ "apiVersion": "v1", "kind": "Namespace",
        "metadata": { "name": OPERATOR_NAMESPACE } });
    apply(&namespaces, &namespace).await.unwrap();
}

/// Applies the rules of admission as people do. The apiserver takes them up within some seconds.
pub async fn apply_admission(cluster: &Cluster) {
    let client = cluster.client();
    let params = PatchParams::apply("a-person").force();
    for (policy, binding) in api::admission::rules() {
        let policies = Api::<ValidatingAdmissionPolicy>::all(client.clone());
        policies.patch(&policy.name_any(), &params, &Patch::Apply(&policy)).await.unwrap();
        let bindings = Api::<ValidatingAdmissionPolicyBinding>::all(client.clone());
        bindings.patch(&binding.name_any(), &params, &Patch::Apply(&binding)).await.unwrap();
    }
}

/// The operator that all stories share: in this process, on a thread of its own.
fn operator(cluster: &'static Cluster) {
    static RUNNING: OnceLock<()> = OnceLock::new();
    privacy::listen();
    RUNNING.get_or_init(|| {
        let (ready, started) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            runtime().block_on(async move {
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

/// The key of the hashes of the operators in this process.
fn hash_key() -> HashKey {
    HashKey::new([7; HashKey::BYTES])
}

/// Runs the controllers in this process until the future is dropped.
pub async fn run_operator(client: Client, clock: Clock) {
    run_operator_with_key(client, clock, hash_key()).await;
}

/// As [`run_operator`], with a key of its own.
pub async fn run_operator_with_key(client: Client, clock: Clock, hash_key: HashKey) {
    let allow_list = ports().map(|port| format!("http://127.0.0.1:{port}")).collect();
    let environment = Environment::new(OPERATOR_NAMESPACE.to_owned(), allow_list, environment);
    controllers(client, environment, hash_key, clock).await;
}

/// As [`run_operator`], in an environment of its own.
pub async fn run_operator_in(client: Client, environment: Environment, clock: Clock) {
    controllers(client, environment, hash_key(), clock).await;
}

async fn controllers(client: Client, environment: Environment, hash_key: HashKey, clock: Clock) {
    let (readiness, leadership) = (Readiness::default(), Leadership::unshared());
    let (elected, never) = (std::future::ready(hash_key), std::future::pending());
    controller::run(client, environment, clock, readiness, leadership, elected, never).await;
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
    loop {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = ports.start + number;
        assert!(ports.contains(&port), "the stories need more ports: raise PORTS_EACH");
        if options.tree == Tree::default() {
            // Contacts of two directories may have the same id, two directories never.
            options.tree.directory_id = format!("rd-story{number}");
        }
        let listen = SocketAddr::from(([127, 0, 0, 1], port));
        if let Ok(simulator) = Simulator::start(Options { listen, ..options.clone() }).await {
            return simulator;
        }
    }
}

/// A story's own simulator, directory and namespace.
pub struct Stand {
    pub cluster: &'static Cluster,
    pub simulator: Simulator,
    pub client: Client,
    pub namespace: String,
    /// The name of the `ResourceDirectory`.
    pub directory: String,
    /// What must not be shown; values that go another way than [`Self::manifest`] are added here.
    pub private: Private,
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

    /// As [`Self::unconnected`], on a cluster that is prepared and whose operator the story runs.
    pub async fn on(cluster: &'static Cluster, options: Options) -> Self {
        let private = Private::new();
        let simulator = simulator(options).await;
        let namespace = cluster.namespace("story").await.unwrap();
        let directory = namespace.clone();
        Self { cluster, simulator, client: cluster.client(), namespace, directory, private }
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

    pub fn policies(&self) -> Api<DynamicObject> {
        Api::all_with(self.client.clone(), &ApiResource::erase::<ContactPolicy>(&()))
    }

    /// Applies a policy of the story; unless `spec` says otherwise, it speaks of the contacts of the
    /// story's directory.
    pub async fn apply_policy(&self, name: &str, spec: Value) -> DynamicObject {
        let mut whole = json!({ "match": { "directories": [self.directory] } });
        merge(&mut whole, spec);
        let object = json!({ "apiVersion": "message-contacts.dev/v1alpha1",
            "kind": "ContactPolicy", "metadata": { "name": self.policy(name) }, "spec": whole });
        apply(&self.policies(), &object).await.unwrap()
    }

    /// The name of a policy's object: policies belong to no namespace.
    pub fn policy(&self, name: &str) -> String {
        format!("{name}.{}", self.namespace)
    }

    /// Applies the story's directory; it admits every namespace.
    pub async fn apply_directory(&self, spec: Value) -> DynamicObject {
        let mut whole = json!({ "endpoint": self.simulator.endpoint(), "namespaces": {},
            "pollInterval": "10s", "requestsPerSecond": 100 });
        merge(&mut whole, spec);
        let object = json!({ "apiVersion": "message-contacts.dev/v1alpha1",
            "kind": "ResourceDirectory", "metadata": { "name": self.directory }, "spec": whole });
        apply(&self.directories(), &object).await.unwrap()
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
            // Stories of other things send no messages.
            "verification": { "send": "Never" },
        });
        merge(&mut spec, fields);
        let manifest = json!({ "apiVersion": "message-contacts.dev/v1alpha1",
            "kind": "MessageContact",
            "metadata": { "name": object, "namespace": self.namespace }, "spec": spec });
        self.private.add_manifest(&manifest);
        manifest
    }

    /// Applies a contact as `kubectl apply --server-side` does.
    pub async fn apply(&self, object: &str, name: &str, fields: Value) -> DynamicObject {
        let manifest = self.manifest(object, name, fields);
        apply(&self.contacts(), &manifest).await.unwrap()
    }

    /// Waits until a condition of a contact has that reason, and returns the object.
    pub async fn becomes(&self, object: &str, condition: &str, reason: &str) -> DynamicObject {
        becomes(&self.contacts(), object, condition, reason).await
    }

    pub async fn directory_becomes(&self, condition: &str, reason: &str) -> DynamicObject {
        becomes(&self.directories(), &self.directory, condition, reason).await
    }

    /// Waits until the directory looks so.
    pub async fn directory_sees(
        &self,
        what: &str,
        holds: impl Fn(&DynamicObject) -> bool,
    ) -> DynamicObject {
        sees(&self.directories(), &self.directory, what, holds).await
    }

    /// Waits until an object is gone.
    pub async fn is_gone(&self, object: &str) {
        is_gone(&self.contacts(), object).await;
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

    /// Deletes the story's directory as a user; its finalizer may keep it for a while.
    pub async fn delete_directory(&self) {
        self.directories().delete(&self.directory, &DeleteParams::default()).await.unwrap();
    }

    /// The story's directory goes although contacts need it: somebody takes its finalizers off.
    pub async fn tear_out_directory(&self) {
        self.delete_directory().await;
        let patch = Patch::Merge(json!({ "metadata": { "finalizers": null } }));
        let directories = self.directories();
        match directories.patch(&self.directory, &PatchParams::default(), &patch).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(error) => panic!("{error}"),
        }
        self.directory_is_gone().await;
    }

    /// Waits until the story's directory is gone.
    pub async fn directory_is_gone(&self) {
        is_gone(&self.directories(), &self.directory).await;
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
            // A runtime of its own: the test's may be about to end.
            let look = || runtime().block_on(self.shown());
            let shown = std::thread::scope(|scope| scope.spawn(look).join()).unwrap();
            assert!(shown.is_empty(), "private values are shown:\n{}", shown.join("\n"));
        }
    }
}

/// Server-side apply as a user.
pub async fn apply(api: &Api<DynamicObject>, manifest: &Value) -> kube::Result<DynamicObject> {
    let name = manifest["metadata"]["name"].as_str().unwrap();
    api.patch(name, &PatchParams::apply("a-person").force(), &Patch::Apply(manifest)).await
}

/// Waits until an object is gone.
pub async fn is_gone(api: &Api<DynamicObject>, object: &str) {
    cluster::wait_for(PATIENCE, &format!("{object} is gone"), || async {
        match api.get_opt(object).await {
            Ok(None) => Ok(()),
            Ok(Some(left)) => Err(seen(&left)),
            Err(error) => Err(error.to_string()),
        }
    })
    .await
    .unwrap();
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
        let current =
            found.data["status"]["observedGeneration"] == json!(found.metadata.generation);
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
    format!(
        "{} generation {:?}: {}",
        object.name_any(),
        object.metadata.generation,
        object.data["status"]
    )
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

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap()
}

/// What people can read of a story.
pub struct Told {
    /// The lines of all operators in this process since the story began, at the level trace.
    pub log: String,
    /// The Events of the story's namespace.
    pub events: String,
    /// The messages of all conditions.
    pub conditions: String,
    /// The statuses as a whole.
    pub statuses: String,
}

impl Stand {
    /// What people can read of this story now.
    pub async fn told(&self) -> Told {
        let client = self.cluster.client();
        let of_kind = |kind| Api::namespaced_with(client.clone(), &self.namespace, &kind);
        let events: Api<DynamicObject> =
            of_kind(ApiResource::erase::<k8s_openapi::api::events::v1::Event>(&()));
        let contacts: Api<DynamicObject> = of_kind(ApiResource::erase::<MessageContact>(&()));
        let kind = ApiResource::erase::<ResourceDirectory>(&());
        let directories: Api<DynamicObject> = Api::all_with(client, &kind);
        let all = ListParams::default();
        let events = events.list(&all).await.unwrap().items;
        // A story may have taken the definitions out: nothing is left to be read then.
        let mut objects = contacts.list(&all).await.map(|list| list.items).unwrap_or_default();
        objects.extend(directories.get_opt(&self.directory).await.ok().flatten());
        let lines = |values: Vec<String>| values.join("\n");
        let conditions = objects.iter().flat_map(|object| {
            let conditions = object.data["status"]["conditions"].as_array().cloned();
            conditions.unwrap_or_default().into_iter().map(|it| it["message"].to_string())
        });
        Told {
            log: self.private.log(),
            events: lines(events.iter().map(|event| event.data.to_string()).collect()),
            conditions: lines(conditions.collect()),
            statuses: lines(objects.iter().map(|it| it.data["status"].to_string()).collect()),
        }
    }

    /// The places at which a private value of this story is shown.
    pub async fn shown(&self) -> Vec<String> {
        let Told { log, events, conditions, statuses } = self.told().await;
        let for_nothing = [("log", &log), ("event", &events), ("status", &statuses)];
        let for_names = [("log", &log), ("event", &events), ("condition", &conditions)];
        let values = for_nothing.map(|(place, text)| (place, self.private.shown_in(text)));
        let names = for_names.map(|(place, text)| (place, self.private.names_shown_in(text)));
        let found = values.into_iter().chain(names);
        found
            .flat_map(|(place, lines)| {
                lines.into_iter().map(move |line| format!("{place}: {line}"))
            })
            .collect()
    }
}

impl Stand {
    /// Asks for a reconcile of a contact now and waits until it was handled: everything that was
    /// to happen has happened.
    pub async fn ask(&self, object: &str) -> DynamicObject {
        ask(&self.contacts(), object).await
    }

    /// As [`Self::ask`], of the directory: all contacts are listed again.
    pub async fn ask_directory(&self) -> DynamicObject {
        ask(&self.directories(), &self.directory).await
    }

    /// The fields of a contact's object as they are now.
    pub async fn object(&self, object: &str) -> DynamicObject {
        self.contacts().get(object).await.unwrap()
    }
}

async fn ask(api: &Api<DynamicObject>, object: &str) -> DynamicObject {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let text = format!("asked-{}", NEXT.fetch_add(1, Ordering::Relaxed));
    request(api, object, &text).await;
    let handled =
        |found: &DynamicObject| found.data["status"]["lastHandledReconcileAt"] == json!(text);
    sees(api, object, "the request is handled", handled).await
}

/// What a condition says to people.
pub fn message_of(object: &DynamicObject, condition: &str) -> String {
    condition_of(object, condition)["message"].as_str().unwrap_or_default().to_owned()
}

/// Asserts that an object is stalled (`true`) or on its way (`false`), and not ready.
pub fn assert_stalled(object: &DynamicObject, stalled: bool) {
    let is = |condition| condition_of(object, condition)["status"] == "True";
    let found = (is("Ready"), is("Stalled"), is("Reconciling"));
    assert_eq!(found, (false, stalled, !stalled), "{}", seen(object));
}

impl Stand {
    /// Applies a Secret of the operator's namespace; keys that it has and that are not given stay.
    pub async fn apply_secret(&self, name: &str, keys: Value) {
        let kind = ApiResource::erase::<k8s_openapi::api::core::v1::Secret>(&());
        let api = Api::namespaced_with(self.client.clone(), OPERATOR_NAMESPACE, &kind);
        let secret = json!({ "apiVersion": "v1", "kind": "Secret",
            "metadata": { "name": name, "namespace": OPERATOR_NAMESPACE }, "stringData": keys });
        apply(&api, &secret).await.unwrap();
    }

    /// Labels the story's namespace.
    pub async fn label_namespace(&self, labels: Value) {
        let kind = ApiResource::erase::<k8s_openapi::api::core::v1::Namespace>(&());
        let api: Api<DynamicObject> = Api::all_with(self.client.clone(), &kind);
        let patch = json!({ "metadata": { "labels": labels } });
        api.patch(&self.namespace, &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    }
}

/// An endpoint on the operators' allow list at which nobody listens while the socket is kept.
pub fn deaf_endpoint() -> (tokio::net::TcpSocket, String) {
    for port in ports().rev() {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        if socket.bind(SocketAddr::from(([127, 0, 0, 1], port))).is_ok() {
            return (socket, format!("http://127.0.0.1:{port}"));
        }
    }
    panic!("no port is free")
}

impl Stand {
    /// The story's `ResourceDirectory` as it is now.
    pub async fn object_of_directory(&self) -> DynamicObject {
        self.directories().get(&self.directory).await.unwrap()
    }
}

/// What stories about changes look at.
impl Stand {
    /// Applies a contact, waits until it is in sync, and returns its id in the cloud.
    pub async fn settled(&self, object: &str, name: &str, fields: Value) -> String {
        self.apply(object, name, fields).await;
        let object = self.becomes(object, "Synced", "InSync").await;
        object.data["status"]["contactId"].as_str().unwrap().to_owned()
    }

    /// Waits until the operator has seen every change of contacts so far: a suspended object asks it
    /// something behind them.
    pub async fn all_seen(&self) {
        self.apply("marker", "Markstein", json!({ "suspend": true })).await;
        self.ask("marker").await;
    }

    /// Waits until a contact looks so.
    pub async fn sees(
        &self,
        object: &str,
        what: &str,
        look: impl Fn(&DynamicObject) -> bool,
    ) -> DynamicObject {
        sees(&self.contacts(), object, what, look).await
    }

    /// The number of the last call that has ended, for [`Self::calls_since`].
    pub fn mark(&self) -> u64 {
        self.simulator.calls().iter().map(|call| call.number).max().unwrap_or(0)
    }

    /// The calls for single contacts since then: the operation and what was sent beside the id, as
    /// in `UpdateMessageContact Title`. The directory's own looks are left out.
    pub fn calls_since(&self, mark: u64) -> Vec<String> {
        let own = ["GetResourceDirectory", "ListMessageContacts"];
        let mut calls = self.simulator.calls_since(mark);
        calls.retain(|call| !own.contains(&call.action.as_str()));
        let sent = |name: &String| {
            let name = name.split('.').next().unwrap().to_owned();
            SENT.contains(&name.as_str()).then_some(name)
        };
        calls
            .iter()
            .map(|call| {
                let names: BTreeSet<_> = call.parameters.keys().filter_map(sent).collect();
                std::iter::once(call.action.clone()).chain(names).collect::<Vec<_>>().join(" ")
            })
            .collect()
    }

    /// A contact as the cloud has it.
    #[track_caller]
    pub fn in_cloud(&self, id: &str) -> Contact {
        self.simulator.state().contact(id).unwrap().contact.clone()
    }

    /// A contact that nobody has in git, as a trap; see [`Self::is_untouched`].
    pub fn bystander(&self, name: &str) -> ContactState {
        let contact = NewContact {
            phone: Some("86-13800138099".to_owned()),
            title: "ProjectDirector".to_owned(),
            message_types: vec!["ActivityMessage".to_owned()],
            ..NewContact::new(name, "bystander@example.com")
        };
        let id = self.simulator.insert_contact(contact);
        self.simulator.state().contact(&id).unwrap().clone()
    }

    /// The contact is as it was.
    #[track_caller]
    pub fn is_untouched(&self, bystander: &ContactState) {
        assert_eq!(self.simulator.state().contact(&bystander.id), Some(bystander));
    }
}

/// The fields of a contact, as parameters of a call.
const SENT: [&str; 5] = ["EmailAddress", "MessageTypes", "Name", "PhoneNumber", "Title"];

/// Puts a text into the annotation that asks for a reconcile.
pub async fn request(api: &Api<DynamicObject>, object: &str, text: &str) {
    let patch = json!({ "metadata": { "annotations": { api::REQUESTED_AT: text } } });
    api.patch(object, &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
}

pub async fn sees(
    api: &Api<DynamicObject>,
    object: &str,
    what: &str,
    look: impl Fn(&DynamicObject) -> bool,
) -> DynamicObject {
    cluster::wait_for(PATIENCE, &format!("{object}: {what}"), || async {
        let found = api.get(object).await.map_err(|error| error.to_string())?;
        if look(&found) { Ok(found) } else { Err(seen(&found)) }
    })
    .await
    .unwrap()
}
