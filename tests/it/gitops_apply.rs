//! Tools that apply from git never fight with the operator: each applies as it does in real life,
//! with its own name, again and again while the operator writes finalizers and status. There is no
//! conflict, the spec stays as applied, and a dry run finds nothing to do.

use std::fs;
use std::path::Path;

use kube::ResourceExt as _;
use kube::api::{Api, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::{Value, json};

use crate::architecture::root;
use crate::stand::{self, Stand};

/// How a tool brings a manifest into the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Applier {
    /// Server-side apply, as this manager, with or without force.
    Server { manager: &'static str, force: bool },
    /// `kubectl apply` without `--server-side`, and Argo CD by default: what was applied last stands
    /// in an annotation, and a merge patch is computed from it.
    Client { manager: &'static str },
    /// Helm 3: creates, then sends a merge patch from the last release to the next one.
    Helm,
}

const APPLIERS: [Applier; 8] = [
    Applier::Server { manager: "argocd-controller", force: true },
    Applier::Server { manager: "argocd-controller", force: false },
    Applier::Server { manager: "kustomize-controller", force: true },
    Applier::Server { manager: "kubectl", force: false },
    Applier::Server { manager: "helm", force: false },
    Applier::Client { manager: "kubectl-client-side-apply" },
    Applier::Client { manager: "argocd-controller" },
    Applier::Helm,
];

const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// The labels and annotations that such a tool puts on what it owns.
const TRACKING: &str = "example.com/tracked-by";

impl Applier {
    /// Applies; `before` is what this tool applied last time.
    async fn apply(
        self,
        api: &Api<DynamicObject>,
        manifest: &Value,
        before: Option<&Value>,
        dry_run: bool,
    ) -> kube::Result<DynamicObject> {
        let name = manifest["metadata"]["name"].as_str().unwrap();
        let mut manifest = manifest.clone();
        manifest["metadata"]["annotations"][TRACKING] = json!(format!("{self:?}"));
        let (Self::Server { manager, .. } | Self::Client { manager }) = self else {
            return Self::merge("Helm", api, &manifest, before, dry_run).await;
        };
        if let Self::Server { force, .. } = self {
            let params = PatchParams { force, dry_run, ..PatchParams::apply(manager) };
            return api.patch(name, &params, &Patch::Apply(&manifest)).await;
        }
        let text = format!("{manifest}\n");
        manifest["metadata"]["annotations"][LAST_APPLIED] = json!(text);
        let stored = api.get_opt(name).await?;
        // An object that somebody else has made is taken as it is, with a warning.
        let applied = stored.map(|it| it.annotations().get(LAST_APPLIED).cloned());
        let before = applied.map(|text| serde_json::from_str(&text.unwrap_or("{}".to_owned())));
        let before: Option<Value> = before.map(Result::unwrap);
        Self::merge(manager, api, &manifest, before.as_ref(), dry_run).await
    }

    /// Creates, or sends what is different from the last time as a merge patch: also where the
    /// object in the cluster has something else.
    async fn merge(
        manager: &str,
        api: &Api<DynamicObject>,
        manifest: &Value,
        before: Option<&Value>,
        dry_run: bool,
    ) -> kube::Result<DynamicObject> {
        let name = manifest["metadata"]["name"].as_str().unwrap();
        let field_manager = Some(manager.to_owned());
        let Some(before) = before else {
            let object = serde_json::from_value(manifest.clone()).unwrap();
            let params = PostParams { dry_run, field_manager };
            return api.create(&params, &object).await;
        };
        let mut patch = manifest.clone();
        remove_missing(&mut patch, before, manifest);
        let params = PatchParams { dry_run, field_manager, ..PatchParams::default() };
        api.patch(name, &params, &Patch::Merge(&patch)).await
    }
}

/// What was there the last time, and is not now, is taken out.
fn remove_missing(patch: &mut Value, before: &Value, now: &Value) {
    for (key, old) in before.as_object().into_iter().flatten() {
        match now.get(key) {
            None => patch[key] = Value::Null,
            Some(new) if old.is_object() && new.is_object() => {
                remove_missing(&mut patch[key], old, new);
            }
            Some(_) => {}
        }
    }
}

/// What may not differ between a dry run and what is stored: all but the bookkeeping of the
/// apiserver, which a dry run does as well.
fn without_bookkeeping(object: &DynamicObject) -> Value {
    let mut value = serde_json::to_value(object).unwrap();
    for field in ["managedFields", "resourceVersion"] {
        value["metadata"].as_object_mut().unwrap().remove(field);
    }
    value
}

/// The spec is the applied one, and the operator owns nothing in it.
fn is_as_applied(object: &DynamicObject, manifest: &Value) {
    assert_eq!(object.data["spec"], manifest["spec"]);
    assert_eq!(object.data["spec"].to_string(), manifest["spec"].to_string(), "to the byte");
    for entry in object.metadata.managed_fields.iter().flatten() {
        if entry.manager.as_deref() == Some("message-contact-operator") {
            let owned = serde_json::to_value(&entry.fields_v1).unwrap();
            assert!(owned.get("f:spec").is_none(), "{owned}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_tool_that_applies_meets_a_conflict_or_a_difference() {
    const NAMES: [&str; 8] = [
        "Qinqiong",
        "Weichi",
        "Chengyaojin",
        "Xushiji",
        "Lijing",
        "Houjunji",
        "Duruhui",
        "Fangxuan",
    ];
    let stand = Stand::new().await;
    let contacts = stand.contacts();
    for (number, (applier, name)) in APPLIERS.into_iter().zip(NAMES).enumerate() {
        let object = format!("tool-{number}");
        let mut manifest = stand.manifest(&object, name, json!({ "members": [] }));
        let first = applier.apply(&contacts, &manifest, None, false).await.unwrap();
        is_as_applied(&first, &manifest);
        let done = stand.becomes(&object, "Ready", "InSync").await;
        assert!(!done.finalizers().is_empty(), "the operator has written");
        is_as_applied(&done, &manifest);

        // Nothing to do, however often; and nothing that the operator would answer with a write.
        for dry_run in [true, false, true] {
            let again = applier.apply(&contacts, &manifest, Some(&manifest), dry_run).await;
            let again = again.unwrap_or_else(|error| panic!("{applier:?}: {error}"));
            assert_eq!(without_bookkeeping(&again), without_bookkeeping(&done), "{applier:?}");
        }
        let before = manifest.clone();
        manifest["spec"]["title"] = json!("ProjectDirector");
        manifest["spec"].as_object_mut().unwrap().remove("verification");
        let changed = applier.apply(&contacts, &manifest, Some(&before), false).await.unwrap();
        is_as_applied(&changed, &manifest);
        let done = stand.becomes(&object, "Ready", "InSync").await;
        is_as_applied(&done, &manifest);
        // Also when the operator writes the status of a suspended or an asked object.
        let asked = stand.ask(&object).await;
        let again = applier.apply(&contacts, &manifest, Some(&manifest), true).await.unwrap();
        assert_eq!(without_bookkeeping(&again), without_bookkeeping(&asked), "{applier:?}");
        println!("{applier:?}: 6 times applied, 0 conflicts, 0 differences");
    }
}

/// Taking over from one tool to another, as people do when they begin to apply from git.
#[tokio::test(flavor = "multi_thread")]
async fn a_contact_of_kubectl_is_taken_over_by_a_tool_that_forces() {
    let stand = Stand::new().await;
    let contacts = stand.contacts();
    let manifest = stand.manifest("moves", "Zhangxun", json!({}));
    let by_hand = Applier::Client { manager: "kubectl-client-side-apply" };
    by_hand.apply(&contacts, &manifest, None, false).await.unwrap();
    stand.becomes("moves", "Ready", "InSync").await;
    let mut changed = manifest.clone();
    changed["spec"]["title"] = json!("CEO");
    let flux = |force| Applier::Server { manager: "kustomize-controller", force };
    let refused = flux(false).apply(&contacts, &changed, None, false).await.unwrap_err();
    let refused = refused.to_string();
    assert!(refused.contains("kubectl-client-side-apply"), "{refused}");
    assert!(!refused.contains("message-contact-operator"), "it is none with us: {refused}");
    let forced = flux(true).apply(&contacts, &changed, None, false).await.unwrap();
    is_as_applied(&forced, &changed);
    is_as_applied(&stand.becomes("moves", "Ready", "InSync").await, &changed);
}

/// The manifests of `examples`, each with its file; those of the sample repository have a story of
/// their own.
fn examples() -> Vec<(String, Value)> {
    let mut found = Vec::new();
    collect(&root().join("examples"), &mut found);
    found.retain(|(file, _)| !file.contains("examples/gitops/"));
    found
}

fn collect(path: &Path, found: &mut Vec<(String, Value)>) {
    if path.is_dir() {
        let mut entries: Vec<_> =
            fs::read_dir(path).unwrap().map(|it| it.unwrap().path()).collect();
        entries.sort();
        for entry in &entries {
            collect(entry, found);
        }
    } else if path.extension().is_some_and(|it| it == "yaml") {
        let text = fs::read_to_string(path).unwrap();
        for value in serde_saphyr::from_multiple::<Value>(&text).unwrap() {
            found.push((path.display().to_string(), value));
        }
    }
}

/// Each example of ours, applied twice by two tools: the second time finds nothing to do, although
/// the operator has looked meanwhile. Alone in its cluster, as the examples' directory is `default`.
#[tokio::test(flavor = "multi_thread")]
async fn every_example_is_applied_again_without_a_difference() {
    let cluster = stand::another_cluster().await;
    let client = crate::many::operator_client(&cluster);
    let operator = tokio::spawn(stand::run_operator(
        client.clone(),
        message_contact_operator::clock::Clock::system(),
    ));
    let tools = [
        Applier::Server { manager: "kustomize-controller", force: true },
        Applier::Client { manager: "kubectl-client-side-apply" },
    ];
    let mut applied = 0;
    // Namespaces first, as these tools do.
    let order = |manifest: &Value| manifest["kind"] != "Namespace";
    let mut ours = examples();
    ours.sort_by_key(|(_, manifest)| order(manifest));
    for tool in tools {
        for (file, manifest) in &ours {
            let api = api_of(&client, manifest);
            tool.apply(&api, manifest, None, false)
                .await
                .unwrap_or_else(|error| panic!("{file}: {error}"));
            applied += 1;
        }
        for (file, manifest) in &ours {
            if manifest["kind"] == "Namespace" {
                continue;
            }
            let api = api_of(&client, manifest);
            let name = manifest["metadata"]["name"].as_str().unwrap();
            let seen = stand::sees(&api, name, "the operator has looked", |it| {
                it.data["status"]["observedGeneration"] == json!(it.metadata.generation)
            })
            .await;
            is_as_applied(&seen, manifest);
            let again = tool.apply(&api, manifest, Some(manifest), true).await.unwrap();
            let again = without_status(&again);
            assert_eq!(again, without_status(&api.get(name).await.unwrap()), "{file}");
        }
    }
    println!("{} manifests, applied {applied} times, 0 differences", ours.len());
    operator.abort();
}

/// The operator may write it between two looks.
fn without_status(object: &DynamicObject) -> Value {
    let mut value = without_bookkeeping(object);
    value.as_object_mut().unwrap().remove("status");
    value
}

/// The API for such objects.
pub fn api_of(client: &kube::Client, manifest: &Value) -> Api<DynamicObject> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let version = text(&manifest["apiVersion"]);
    let (group, version) = version.split_once('/').unwrap_or(("", &version));
    let kind = GroupVersionKind::gvk(group, version, &text(&manifest["kind"]));
    let plural = match kind.kind.as_str() {
        "ResourceDirectory" => "resourcedirectories".to_owned(),
        "ContactPolicy" => "contactpolicies".to_owned(),
        other => format!("{}s", other.to_lowercase()),
    };
    let resource = ApiResource::from_gvk_with_plural(&kind, &plural);
    match manifest["metadata"]["namespace"].as_str() {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    }
}
