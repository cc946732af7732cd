//! What a story of the node stands on: the node, the cloud, and what a person does in the cluster.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use cluster::Node;
use directory_simulator::{ACCESS_KEY_ID, ACCESS_KEY_SECRET, Options, Simulator};
use k8s_openapi::api::core::v1::{Namespace, Pod, Secret};
use kube::Client;
use kube::api::{
    Api, DynamicObject, ListParams, LogParams, ObjectMeta, Patch, PatchParams, PostParams,
};
use kube::core::ApiResource;
use message_contact_operator::api::{MessageContact, ResourceDirectory};
use serde_json::{Value, json};

use crate::image;

/// How long a story waits for anything. Generous: it only bounds a failure.
pub const PATIENCE: Duration = Duration::from_mins(3);

/// Where the operator is installed, and the contacts are, too.
pub const NAMESPACE: &str = "message-contacts";

/// A node with a namespace that takes only what the standard `restricted` allows, and a cloud that
/// its pods reach.
pub struct Stand {
    pub node: Node,
    pub simulator: Simulator,
    pub client: Client,
}

impl Stand {
    /// `None` where no node can run; a line then says so.
    pub async fn new() -> Option<Self> {
        if let Some(missing) = Node::missing_here().or_else(image::missing_here) {
            left_out("the installation on a node", &missing);
            return None;
        }
        let node = Node::start().await.unwrap();
        let listen = SocketAddr::from((node.gateway(), 0));
        let simulator = Simulator::start(Options { listen, ..Options::default() }).await.unwrap();
        let client = node.cluster().client();
        let stand = Self { node, simulator, client };
        stand.make_namespace().await;
        Some(stand)
    }

    async fn make_namespace(&self) {
        let standard = ("pod-security.kubernetes.io/enforce".to_owned(), "restricted".to_owned());
        let namespace = Namespace {
            metadata: ObjectMeta {
                name: Some(NAMESPACE.to_owned()),
                labels: Some(BTreeMap::from([standard])),
                ..ObjectMeta::default()
            },
            ..Namespace::default()
        };
        let namespaces = Api::<Namespace>::all(self.client.clone());
        namespaces.create(&PostParams::default(), &namespace).await.unwrap();
    }

    /// The keys of the cloud, in a Secret, and the directory that they open.
    pub async fn connect(&self) {
        let secret: Secret = serde_json::from_value(json!({
            "metadata": { "name": "alibaba-cloud" },
            "stringData": { "accessKeyId": ACCESS_KEY_ID, "accessKeySecret": ACCESS_KEY_SECRET },
        }))
        .unwrap();
        let secrets = Api::<Secret>::namespaced(self.client.clone(), NAMESPACE);
        secrets.create(&PostParams::default(), &secret).await.unwrap();
        let directories =
            Api::all_with(self.client.clone(), &ApiResource::erase::<ResourceDirectory>(&()));
        let directory = json!({ "apiVersion": "message-contacts.dev/v1alpha1",
            "kind": "ResourceDirectory", "metadata": { "name": "default" },
            "spec": { "endpoint": self.simulator.endpoint(), "requestsPerSecond": 100,
                "pollInterval": "10s",
                "credentials": { "source": "Secret", "secretRef": { "name": "alibaba-cloud" } } } });
        apply(&directories, &directory).await;
        self.becomes_ready(&directories, "default").await;
    }

    pub fn contacts(&self) -> Api<DynamicObject> {
        let kind = ApiResource::erase::<MessageContact>(&());
        Api::namespaced_with(self.client.clone(), NAMESPACE, &kind)
    }

    /// Applies a contact with these fields.
    pub async fn apply_contact(&self, object: &str, spec: Value) {
        let manifest = json!({ "apiVersion": "message-contacts.dev/v1alpha1",
            "kind": "MessageContact",
            "metadata": { "name": object, "namespace": NAMESPACE }, "spec": spec });
        apply(&self.contacts(), &manifest).await;
    }

    /// Waits until an object is `Ready` as it is written now.
    pub async fn becomes_ready(&self, api: &Api<DynamicObject>, object: &str) {
        let found = cluster::wait_for(PATIENCE, &format!("{object} becomes Ready"), || async {
            let found = api.get(object).await.map_err(|error| error.to_string())?;
            let status = &found.data["status"];
            let current = status["observedGeneration"] == json!(found.metadata.generation);
            let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
            let ready = conditions.iter().any(|it| it["type"] == "Ready" && it["status"] == "True");
            if current && ready { Ok(()) } else { Err(format!("{status:#}")) }
        })
        .await;
        if let Err(error) = found {
            panic!("{error}\n{}\n{}", self.logs().await, self.node.last_lines());
        }
    }

    fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), NAMESPACE)
    }

    /// The names of the operator's pods.
    pub async fn operators(&self) -> Vec<String> {
        let params = ListParams::default().labels("app.kubernetes.io/component=operator");
        let pods = self.pods().list(&params).await.unwrap();
        pods.iter().map(kube::ResourceExt::name_any).collect()
    }

    /// What the operator's pods have logged.
    pub async fn logs(&self) -> String {
        let mut all = Vec::new();
        for pod in self.operators().await {
            let log = self.pods().logs(&pod, &LogParams::default()).await;
            all.push(format!("{pod}:\n{}", log.unwrap_or_else(|error| error.to_string())));
        }
        all.join("\n")
    }

    /// Tries to start a pod that asks for nothing special, and gets no other rights for it.
    pub async fn try_careless_pod(&self, image: &str) -> kube::Result<Pod> {
        let pod = json!({ "metadata": { "name": "careless" },
            "spec": { "containers": [{ "name": "careless", "image": image }] } });
        self.pods().create(&PostParams::default(), &serde_json::from_value(pod).unwrap()).await
    }
}

/// Server-side apply as a person.
async fn apply(api: &Api<DynamicObject>, manifest: &Value) {
    let name = manifest["metadata"]["name"].as_str().unwrap();
    api.patch(name, &PatchParams::apply("a-person").force(), &Patch::Apply(manifest))
        .await
        .unwrap();
}

/// Says in one line what was not tested, and why.
///
/// # Panics
///
/// If `MCO_NODE=required`.
pub fn left_out(what: &str, missing: &str) {
    let line = format!("left out: {what}; on this machine {missing}");
    assert!(std::env::var_os("MCO_NODE").is_none_or(|value| value != "required"), "{line}");
    tell(&line);
}

/// Says something although the test harness swallows what passing tests print.
pub fn tell(line: &str) {
    let _ = writeln!(std::io::stderr(), "node: {line}");
}
