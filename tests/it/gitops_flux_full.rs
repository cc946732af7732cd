//! The kustomize-controller of Flux applies a directory, a policy and contacts, again and again: it
//! waits for the owner's click, writes nothing where nothing has changed, and never fights with the
//! operator; what waiting does not help fails at once, and what is taken out of git is gone in the
//! cloud. The story is Flux's source-controller: it serves what "git" has, as an archive.
//!
//! For `MCO_TEST=full` only: building that controller takes minutes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use axum::Router;
use axum::http::{StatusCode, Uri};
use cluster::{AuditEvent, By, Cluster, Mark};
use directory_simulator::{Click, Options};
use jiff::Timestamp;
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use message_contact_operator::clock::Clock;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::judges;
use crate::many::operator_client;
use crate::privacy;
use crate::process::scratch;
use crate::stand::{self, Own, Stand, condition_of, message_of, sees};
use crate::walk::defaults;

/// How Flux names itself to the apiserver, and what it owns.
const FLUX: &str = "kustomize-controller";

/// The name of the Kustomization, of its source, and of the policy's object.
const NAME: &str = "message-contacts";

/// How often Flux is asked for one more look while everything rests.
const LOOKS: usize = 6;

/// What a contact that waits for its owner makes Flux wait for: longer than the operator needs.
const SHORT: &str = "15s";
/// Longer than the story waits for anything: what fails before it did not wait for it.
const LONG: &str = "10m";

type Archives = Arc<Mutex<BTreeMap<String, Vec<u8>>>>;

/// A repository as Flux sees it: a `GitRepository`, and an archive of each revision over HTTP.
struct Repository {
    api: Api<DynamicObject>,
    folder: PathBuf,
    /// By their paths.
    archives: Archives,
    server: String,
    revisions: u32,
}

impl Repository {
    async fn new(stand: &Stand) -> Self {
        let api = api(stand, "source.toolkit.fluxcd.io", "GitRepository", "gitrepositories");
        let object = json!({ "apiVersion": "source.toolkit.fluxcd.io/v1", "kind": "GitRepository",
            "metadata": { "name": NAME, "namespace": stand.namespace },
            "spec": { "interval": "10m", "url": "https://git.example.com/contacts.git" } });
        stand::apply(&api, &object).await.unwrap();
        let archives = Archives::default();
        let server = serve(archives.clone()).await;
        Self { api, folder: scratch("repository"), archives, server, revisions: 0 }
    }

    /// Pushes these manifests, and nothing else; returns the revision.
    async fn push(&mut self, manifests: &[&Value]) -> String {
        self.revisions += 1;
        let archive = self.pack(manifests);
        let digest = hex(&Sha256::digest(&archive));
        let revision = format!("main@sha1:{:040x}", self.revisions);
        let path = format!("/{}.tar.gz", self.revisions);
        self.archives.lock().unwrap().insert(path.clone(), archive);
        let generation = self.api.get(NAME).await.unwrap().metadata.generation;
        let now = Timestamp::now().to_string();
        let ready = json!({ "type": "Ready", "status": "True", "reason": "Succeeded",
            "message": "stored artifact", "lastTransitionTime": now });
        let artifact = json!({ "path": path, "url": format!("{}{path}", self.server),
            "revision": revision, "digest": format!("sha256:{digest}"), "lastUpdateTime": now });
        let status = json!({ "status": { "observedGeneration": generation,
            "conditions": [ready], "artifact": artifact } });
        let params = PatchParams::default();
        self.api.patch_status(NAME, &params, &Patch::Merge(&status)).await.unwrap();
        revision
    }

    fn pack(&self, manifests: &[&Value]) -> Vec<u8> {
        let files = self.folder.join(self.revisions.to_string());
        fs::create_dir_all(&files).unwrap();
        for (number, manifest) in manifests.iter().enumerate() {
            fs::write(files.join(format!("{number}.yaml")), manifest.to_string()).unwrap();
        }
        let archive = self.folder.join("archive.tar.gz");
        let mut tar = Command::new("tar");
        tar.arg("-czf").arg(&archive).arg("-C").arg(&files).arg(".");
        assert!(tar.status().unwrap().success());
        fs::read(archive).unwrap()
    }
}

impl Drop for Repository {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Serves the archives; returns where.
async fn serve(archives: Archives) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = format!("http://{}", listener.local_addr().unwrap());
    let answer = move |uri: Uri| {
        let found = archives.lock().unwrap().get(uri.path()).cloned();
        async move { found.ok_or(StatusCode::NOT_FOUND) }
    };
    let router = Router::new().fallback(answer);
    tokio::spawn(async move { axum::serve(listener, router).await });
    server
}

fn digit(value: u8) -> char {
    char::from_digit(value.into(), 16).unwrap()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]).map(digit).collect()
}

fn api(stand: &Stand, group: &str, kind: &str, plural: &str) -> Api<DynamicObject> {
    let kind = GroupVersionKind::gvk(group, "v1", kind);
    let resource = ApiResource::from_gvk_with_plural(&kind, plural);
    Api::namespaced_with(stand.client.clone(), &stand.namespace, &resource)
}

/// Puts Flux's definitions into the cluster, as the modules bring them: those of sources that are not
/// used as well, for which the controller waits.
async fn install(cluster: &Cluster) {
    for tool in [FLUX, "source-controller"] {
        let module = format!("github.com/fluxcd/{tool}");
        let folder = cluster::files_of_module(tool, &module, "config/crd/bases").await.unwrap();
        for file in fs::read_dir(folder).unwrap() {
            let text = fs::read_to_string(file.unwrap().path()).unwrap();
            let definition: Value = serde_saphyr::from_str(&text).unwrap();
            cluster.apply_crds(&[serde_json::from_value(definition).unwrap()]).await.unwrap();
        }
    }
}

/// The controller as a process. Killed when dropped.
struct Controller {
    shell: Child,
    leash: Option<ChildStdin>,
    /// Its files.
    home: PathBuf,
}

impl Controller {
    async fn start(kubeconfig: &Path, namespace: &str) -> Self {
        let program = tokio::task::spawn_blocking(|| cluster::tool(FLUX)).await.unwrap().unwrap();
        let home = scratch("flux");
        fs::create_dir_all(&home).unwrap();
        let log = File::create(home.join("log")).unwrap();
        let mut command = cluster::watched(&program, &home.join("pid"));
        // It listens nowhere and leads alone.
        command.args(["--metrics-addr=0", "--health-addr=0", "--enable-leader-election=false"]);
        command.stdout(log.try_clone().unwrap()).stderr(log).current_dir(&home);
        command.env_clear().envs(std::env::vars_os().filter(|(key, _)| key == "PATH"));
        command.env("KUBECONFIG", kubeconfig).env("RUNTIME_NAMESPACE", namespace);
        command.env("TMPDIR", &home).env("HOME", &home);
        let mut shell = command.spawn().unwrap();
        let leash = shell.stdin.take();
        Self { shell, leash, home }
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        drop(self.leash.take());
        let _ = self.shell.wait();
        if std::thread::panicking() {
            let log = fs::read_to_string(self.home.join("log")).unwrap_or_default();
            let lines: Vec<_> = log.lines().collect();
            println!("{}", lines[lines.len().saturating_sub(30)..].join("\n"));
        }
        let _ = fs::remove_dir_all(&self.home);
    }
}

/// The Kustomization that the chart brings, with the story's names and times.
fn kustomization(stand: &Stand, timeout: &str) -> Value {
    let file = judges::folder().join("flux/kustomization.yaml");
    let text = fs::read_to_string(file).unwrap();
    let mut whole: Value = serde_saphyr::from_str(&text).unwrap();
    let spec = &whole["spec"];
    assert_eq!((&spec["prune"], &spec["wait"]), (&json!(true), &json!(true)));
    assert_eq!(spec["healthCheckExprs"].as_array().map(Vec::len), Some(3));
    whole["metadata"] = json!({ "name": NAME, "namespace": stand.namespace });
    let ours = json!({ "path": "./", "interval": "30s", "retryInterval": "5s",
        "timeout": timeout, "sourceRef": { "kind": "GitRepository", "name": NAME } });
    stand::merge(&mut whole["spec"], ours);
    whole
}

struct Flux {
    kustomizations: Api<DynamicObject>,
    repository: Repository,
}

impl Flux {
    /// Waits until Flux says that all of that revision is as it should be.
    async fn is_ready(&self, revision: &str) -> DynamicObject {
        self.says("it is ready", |found| {
            let ready = condition_of(found, "Ready");
            ready["status"] == "True" && found.data["status"]["lastAppliedRevision"] == revision
        })
        .await
    }

    /// Waits until Flux says that this revision is not as it should be, and that this object alone is
    /// in the way; returns what it says.
    async fn fails(&self, revision: &str, object: &str, status: &str) -> String {
        let blamed = format!("/{object} status: '{status}'");
        let what = format!("it fails: {blamed}");
        let failed = self.says(&what, |found| {
            let ready = condition_of(found, "Ready");
            let said = ready["message"].as_str().unwrap_or_default();
            ready["reason"] == "HealthCheckFailed"
                && found.data["status"]["lastAttemptedRevision"] == revision
                && said.contains(&blamed)
                && said.matches(" status: '").count() == 1
        });
        let failed = failed.await;
        assert_ne!(failed.data["status"]["lastAppliedRevision"], revision, "it was never ready");
        message_of(&failed, "Ready")
    }

    async fn says(&self, what: &str, look: impl Fn(&DynamicObject) -> bool) -> DynamicObject {
        // The status as a whole tells its generation only once all is well.
        sees(&self.kustomizations, NAME, what, |found| {
            let seen = &condition_of(found, "Ready")["observedGeneration"];
            *seen == json!(found.metadata.generation) && look(found)
        })
        .await
    }

    /// Has it reconcile once more, as `flux reconcile` does.
    async fn reconcile(&self, text: &str, revision: &str) {
        let patch = json!({ "metadata": { "annotations": {
            "reconcile.fluxcd.io/requestedAt": text } } });
        let params = PatchParams::default();
        self.kustomizations.patch(NAME, &params, &Patch::Merge(&patch)).await.unwrap();
        self.says("the request is handled", |found| {
            let ready = condition_of(found, "Ready")["status"] == "True";
            ready && found.data["status"]["lastHandledReconcileAt"] == text
        })
        .await;
        self.is_ready(revision).await;
    }
}

/// Flux owns the spec, and the operator its status and the finalizer.
fn is_shared_out(object: &DynamicObject, manifest: &Value) {
    assert_eq!(object.data["spec"].to_string(), manifest["spec"].to_string(), "to the byte");
    assert!(object.data["status"]["conditions"].is_array(), "{}", object.data);
    let roots = |manager: &str| {
        let entries = object.metadata.managed_fields.iter().flatten();
        let owned = entries.filter(|entry| entry.manager.as_deref() == Some(manager));
        let owned = owned.map(|entry| serde_json::to_value(&entry.fields_v1).unwrap());
        owned
            .flat_map(|owned| owned.as_object().unwrap().keys().cloned().collect::<Vec<_>>())
            .collect::<BTreeSet<_>>()
    };
    assert!(roots(FLUX).contains("f:spec"), "{:?}", object.metadata.managed_fields);
    assert!(!roots(FLUX).contains("f:status"), "{:?}", object.metadata.managed_fields);
    let ours = roots("message-contact-operator");
    assert!(ours.contains("f:status") && !ours.contains("f:spec"), "{ours:?}");
    let kind = object.types.as_ref().map(|types| types.kind.as_str());
    assert_eq!(object.finalizers().is_empty(), kind == Some("ContactPolicy"), "{kind:?}");
}

/// The writes since then that concern our kinds, whoever made them.
fn writes_to_ours(cluster: &Cluster, mark: Mark) -> Vec<AuditEvent> {
    let mut writes = cluster.audit().writes(mark, By::Anyone).unwrap();
    writes.retain(|write| write.group == "message-contacts.dev");
    writes
}

/// How often Flux has asked what applying this object would change.
fn dry_runs(cluster: &Cluster, mark: Mark, resource: &str) -> usize {
    let asked = |event: &AuditEvent| {
        let uri = &event.uri;
        event.resource == resource && uri.contains("dryRun=All") && uri.contains(FLUX)
    };
    cluster.audit().since(mark).unwrap().into_iter().filter(asked).count()
}

/// The calls since then that are no looks.
fn changes(stand: &Stand, mark: u64) -> Vec<String> {
    let mut calls = stand.calls_since(mark);
    calls.retain(|call| !call.starts_with("Get") && !call.starts_with("List"));
    calls
}

#[tokio::test(flavor = "multi_thread")]
async fn flux_applies_waits_rests_fails_and_prunes() {
    if std::env::var("MCO_TEST").is_ok_and(|level| level == "full") {
        story().await;
    } else {
        println!("left out: a real kustomize-controller of Flux; MCO_TEST=full runs it");
    }
}

async fn story() {
    privacy::listen();
    let own = Own::new(stand::another_cluster().await);
    let cluster = own.cluster();
    install(cluster).await;
    let operator = tokio::spawn(stand::run_operator(operator_client(cluster), Clock::system()));
    let stand = Stand::on(cluster, Options::default()).await;
    let stranger = stand.stranger("Wusong");
    let controller = Controller::start(cluster.kubeconfig_path(), &stand.namespace).await;
    let kustomizations =
        api(&stand, "kustomize.toolkit.fluxcd.io", "Kustomization", "kustomizations");
    let mut flux = Flux { kustomizations, repository: Repository::new(&stand).await };

    let of_cluster = |kind: &str, name: &str, spec: Value| {
        json!({ "apiVersion": "message-contacts.dev/v1alpha1", "kind": kind,
            "metadata": { "name": name }, "spec": spec })
    };
    let directory = json!({ "endpoint": stand.simulator.endpoint(), "namespaces": {},
        "pollInterval": "10s", "requestsPerSecond": 100 });
    let directory = of_cluster("ResourceDirectory", &stand.directory, directory);
    let domains = json!({ "match": { "directories": [stand.directory] },
        "contact": { "emailDomains": { "allowed": ["example.com"] } } });
    let policy = of_cluster("ContactPolicy", NAME, domains);
    let mut desk = stand.manifest("desk", "Luzhishen", defaults(json!({})));

    // Nobody clicks: Flux waits for as long as it may, says for whom, and tries again.
    let revision = flux.repository.push(&[&directory, &policy, &desk]).await;
    stand::apply(&flux.kustomizations, &kustomization(&stand, SHORT)).await.unwrap();
    let said = flux.fails(&revision, "desk", "InProgress").await;
    println!("nobody has clicked: {said}");
    assert!(said.contains("timeout waiting for"), "{said}");
    stand.becomes("desk", "EmailVerified", "VerificationSent").await;

    // The owner clicks.
    stand::apply(&flux.kustomizations, &kustomization(&stand, LONG)).await.unwrap();
    assert_eq!(stand.simulator.confirm("desk@example.com"), Click::Confirmed);
    flux.is_ready(&revision).await;
    stand.becomes("desk", "Ready", "InSync").await;
    stand
        .directory_sees("the click is counted", |it| {
            let contacts = &it.data["status"]["contacts"];
            (&contacts["managed"], &contacts["verified"]) == (&json!(1), &json!(2))
        })
        .await;
    flux.reconcile("before the rest", &revision).await;

    // At rest: both look again and again, and nobody writes.
    let all = async || {
        [
            stand.object_of_directory().await,
            stand.policies().get(NAME).await.unwrap(),
            stand.object("desk").await,
        ]
    };
    let (before, mark, calls) = (all().await, cluster.audit().mark().unwrap(), stand.mark());
    let manifests = [&directory, &policy, &desk];
    before.iter().zip(manifests).for_each(|(object, manifest)| is_shared_out(object, manifest));
    for look in 0..LOOKS {
        flux.reconcile(&format!("look {look}"), &revision).await;
    }
    stand
        .cloud("two polls", |_| {
            let actions = stand.actions_since(calls);
            let lists = actions.iter().filter(|action| *action == "ListMessageContacts");
            (lists.count() >= 2).then_some(())
        })
        .await;
    assert_eq!(all().await, before, "to the last byte, the resourceVersion among them");
    let ours = cluster.audit().writes(mark, By::UserAgent("message-contact-operator")).unwrap();
    assert_eq!((ours, writes_to_ours(cluster, mark)), (vec![], vec![]));
    assert_eq!(changes(&stand, calls), Vec::<String>::new());
    let asked = ["resourcedirectories", "contactpolicies", "messagecontacts"]
        .map(|resource| dry_runs(cluster, mark, resource));
    assert!(asked.iter().all(|asked| *asked >= LOOKS), "{asked:?}");
    println!("at rest: {LOOKS} reconciliations, dry runs of each kind {asked:?}, 0 writes");

    // A change is one call.
    let calls = stand.mark();
    desk["spec"]["title"] = json!("CEO");
    let revision = flux.repository.push(&[&directory, &policy, &desk]).await;
    flux.is_ready(&revision).await;
    let object = stand.becomes("desk", "Ready", "InSync").await;
    is_shared_out(&object, &desk);
    flux.reconcile("after the change", &revision).await;
    assert_eq!(changes(&stand, calls), ["UpdateMessageContact Title"]);

    // What waiting does not help.
    let fields = defaults(json!({ "adoptionPolicy": "Never" }));
    let taken = stand.manifest("taken", "Wusong", fields);
    let begun = Instant::now();
    let revision = flux.repository.push(&[&directory, &policy, &desk, &taken]).await;
    let said = flux.fails(&revision, "taken", "Failed").await;
    let took = begun.elapsed();
    println!("failed after {} s of {LONG}: {said}", took.as_secs());
    assert!(said.contains("failed early due to stalled resources"), "{said}");
    let object = stand.becomes("taken", "Synced", "NameTaken").await;
    stand::assert_stalled(&object, true);

    // What is taken out of git is gone in the cloud, and nothing else.
    let id = stand.object("desk").await.data["status"]["contactId"].clone();
    let calls = stand.mark();
    let revision = flux.repository.push(&[&directory, &policy]).await;
    flux.is_ready(&revision).await;
    stand.is_gone("desk").await;
    stand.is_gone("taken").await;
    assert_eq!(changes(&stand, calls), ["DeleteMessageContact"]);
    let state = stand.simulator.state();
    assert!(state.contact(id.as_str().unwrap()).is_none());
    assert!(state.contact(&stranger).is_some());

    // All of it goes with the Kustomization.
    flux.kustomizations.delete(NAME, &DeleteParams::default()).await.unwrap();
    stand.directory_is_gone().await;
    stand::is_gone(&stand.policies(), NAME).await;
    stand::is_gone(&flux.kustomizations, NAME).await;
    drop(controller);
    operator.abort();
}
