//! The real parts: control plane, simulated cloud, operator; and the manifests.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use cluster::Cluster;
use directory_simulator::{ACCESS_KEY_ID, ACCESS_KEY_SECRET, Options, Simulator};
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::discovery::{self, Scope};
use kube::{Client, ResourceExt as _};
use message_contact_operator::api::{
    ContactPolicy, CustomResourceDefinition, MessageContact, ResourceDirectory,
};
use serde_json::{Value, json};

use crate::operator::{Operator, Program};
use crate::screen::{Screen, seconds};

/// The operator's own namespace.
pub(crate) const OPERATOR_NAMESPACE: &str = "message-contacts";

/// The namespace of the contacts in `examples/`.
pub(crate) const TEAM_NAMESPACE: &str = "team-platform";

/// How long each call of the cloud takes: long enough to be seen, short enough to wait for.
const LATENCY: Duration = Duration::from_millis(60);

/// Everything that runs.
pub(crate) struct Parts {
    pub operator: Operator,
    pub program: Program,
    pub simulator: Simulator,
    pub client: Client,
    pub cluster: Cluster,
}

impl Parts {
    /// Builds what is missing and starts everything.
    ///
    /// # Errors
    /// Something does not build or does not start.
    pub(crate) async fn start(screen: &Screen) -> Result<Self> {
        screen.heading("The parts")?;
        let program = screen.step("the operator: cargo build", Program::build()).await?;
        let options = cluster::Options::default();
        let build = cluster::prepare(&options);
        screen.step("etcd and kube-apiserver: built once with Go, then kept", build).await?;
        let start = Cluster::start(options);
        let cluster = screen.step("a control plane of them, for this demo only", start).await?;
        let simulator = Simulator::start(Options { latency: LATENCY, ..Options::default() });
        let simulator = simulator.await.context("cannot start the simulator")?;
        let (endpoint, control) = (simulator.endpoint(), simulator.control());
        screen.note(&format!("the cloud is a simulator at {endpoint}; its outbox: {control}/"))?;

        screen.command("message-contact-operator crds | kubectl apply --server-side -f -")?;
        let (_, crds) = program.output(&["crds"]).await?;
        let crds: Vec<CustomResourceDefinition> = serde_saphyr::from_multiple(&crds)?;
        cluster.apply_crds(&crds).await?;
        let client = cluster.client();
        let command =
            "message-contact-operator crds --admission | kubectl apply --server-side -f -";
        screen.command(command)?;
        let (_, rules) = program.output(&["crds", "--admission"]).await?;
        let rules: Vec<Value> = serde_saphyr::from_multiple(&rules)?;
        for rule in rules {
            apply(&client, &rule).await?;
        }
        screen.command(&format!("kubectl create namespace {OPERATOR_NAMESPACE}"))?;
        apply(&client, &namespace()).await?;
        screen.command(&format!(
            "kubectl -n {OPERATOR_NAMESPACE} create secret generic alibaba-cloud \
             --from-literal=accessKeyId=… --from-literal=accessKeySecret=…"
        ))?;
        apply(&client, &access_key()).await?;

        screen.command(&format!(
            "message-contact-operator run --namespace {OPERATOR_NAMESPACE} \
             --allow-endpoint {endpoint}"
        ))?;
        let start = program.run(cluster.kubeconfig_path(), &endpoint);
        let operator = screen.step("until /readyz says ok", start).await?;
        Ok(Self { operator, program, simulator, client, cluster })
    }

    /// Ends everything: the operator as its users end it, then the rest.
    ///
    /// # Errors
    /// The operator does not end well.
    pub(crate) async fn stop(self, screen: &Screen) -> Result<()> {
        let Self { operator, program: _, simulator, client, cluster } = self;
        let begun = std::time::Instant::now();
        let log = operator.log().to_path_buf();
        operator.stop().await.with_context(|| format!("its log is {}", log.display()))?;
        drop((client, simulator, cluster));
        screen.note(&format!("everything has ended, in {}", seconds(begun.elapsed())))
    }

    /// The contacts of `examples/`.
    pub(crate) fn contacts(&self) -> Api<DynamicObject> {
        let kind = ApiResource::erase::<MessageContact>(&());
        Api::namespaced_with(self.client.clone(), TEAM_NAMESPACE, &kind)
    }

    /// The policies.
    pub(crate) fn policies(&self) -> Api<DynamicObject> {
        Api::all_with(self.client.clone(), &ApiResource::erase::<ContactPolicy>(&()))
    }

    /// The resource directories.
    pub(crate) fn directories(&self) -> Api<DynamicObject> {
        Api::all_with(self.client.clone(), &ApiResource::erase::<ResourceDirectory>(&()))
    }
}

/// The objects of `examples/`, in the order in which kubectl takes them: file by file.
///
/// # Errors
/// A file cannot be read.
pub(crate) fn examples() -> Result<Vec<Value>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let entries = fs::read_dir(&folder).with_context(|| folder.display().to_string())?;
    let mut files = Vec::new();
    for entry in entries {
        files.push(entry?.path());
    }
    files.retain(|file| file.extension().is_some_and(|extension| extension == "yaml"));
    files.sort();
    let mut objects = Vec::new();
    for file in files {
        objects.extend(manifests(&file)?);
    }
    Ok(objects)
}

/// The objects of a file.
///
/// # Errors
/// It cannot be read.
pub(crate) fn manifests(file: &Path) -> Result<Vec<Value>> {
    let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
    serde_saphyr::from_multiple(&text).with_context(|| file.display().to_string())
}

/// Puts the simulator in the place of the real cloud, if the object is a directory. It is read
/// often, so that nobody waits for minutes.
pub(crate) fn point_to_simulator(object: &mut Value, endpoint: &str) {
    if object["kind"] == "ResourceDirectory"
        && let Some(spec) = object["spec"].as_object_mut()
    {
        spec.remove("site");
        spec.insert("endpoint".to_owned(), json!(endpoint));
        spec.insert("pollInterval".to_owned(), json!("10s"));
    }
}

/// Applies an object of any kind as `kubectl apply --server-side` does. Returns what kubectl says.
///
/// # Errors
/// The apiserver does not know the kind, or refuses the object.
pub(crate) async fn apply(client: &Client, object: &Value) -> Result<String> {
    let object: DynamicObject = serde_json::from_value(object.clone())?;
    let types = object.types.clone().context("an object without apiVersion and kind")?;
    let kind = GroupVersionKind::try_from(&types)?;
    let (resource, capabilities) = discovery::pinned_kind(client, &kind).await?;
    let api: Api<DynamicObject> = match (capabilities.scope, object.namespace()) {
        (Scope::Namespaced, Some(namespace)) => {
            Api::namespaced_with(client.clone(), &namespace, &resource)
        }
        _ => Api::all_with(client.clone(), &resource),
    };
    let name = object.name_any();
    api.patch(&name, &PatchParams::apply("kubectl"), &Patch::Apply(&object)).await?;
    let group = if kind.group.is_empty() { String::new() } else { format!(".{}", kind.group) };
    Ok(format!("{}{group}/{name} serverside-applied", kind.kind.to_lowercase()))
}

fn namespace() -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": OPERATOR_NAMESPACE}})
}

fn access_key() -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "alibaba-cloud", "namespace": OPERATOR_NAMESPACE},
        "stringData": {"accessKeyId": ACCESS_KEY_ID, "accessKeySecret": ACCESS_KEY_SECRET},
    })
}
