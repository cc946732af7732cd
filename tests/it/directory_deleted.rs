//! A `ResourceDirectory` that is deleted waits for the contacts that need it, and for nothing else.

use directory_simulator::{ContactChange, DeletionPlan, Options};
use kube::ResourceExt as _;
use kube::api::{Api, DynamicObject, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::process::{Operator, alone};
use crate::stand::{self, Stand, condition_of, deaf_endpoint, message_of};

const FINALIZER: &str = "message-contacts.dev/directory";
const ACCOUNT: &str = "2000000000000001";

fn is_held(object: &DynamicObject) -> bool {
    object.finalizers().iter().any(|finalizer| finalizer == FINALIZER)
}

/// Waits until the directory's own message says that.
async fn directory_says(stand: &Stand, words: &str) -> DynamicObject {
    let directories = stand.directories();
    cluster::wait_for(stand::PATIENCE, &format!("the directory says {words}"), || async {
        let found = directories.get(&stand.directory).await.map_err(|error| error.to_string())?;
        let message = message_of(&found, "Ready");
        if message.contains(words) { Ok(found) } else { Err(message) }
    })
    .await
    .unwrap()
}

async fn set(stand: &Stand, object: &str, spec: Value) {
    let patch = Patch::Merge(json!({ "spec": spec }));
    stand.contacts().patch(object, &PatchParams::default(), &patch).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_waits_until_the_contacts_in_it_are_deleted_to_the_end() {
    let stand = Stand::new().await;
    // Who holds nothing does not count, and neither does who needs another directory.
    stand.apply("onlooker", "Caomeng", json!({ "reconcilePolicy": "ReportOnly" })).await;
    stand.becomes("onlooker", "Ready", "Drifted").await;
    let slow = stand.settled("slow", "Caocao", json!({})).await;
    let stays = stand.settled("stays", "Caoren", json!({})).await;
    assert!(is_held(&stand.object_of_directory().await));
    let members = Some(vec![ACCOUNT.to_owned()]);
    assert!(stand.simulator.change_contact(&slow, ContactChange { members, ..Default::default() }));
    // Long enough for the directory to tell of it: counts may be some seconds late.
    stand.simulator.deletion(DeletionPlan { after_ms: 12_000, ..Default::default() });

    stand.delete_directory().await;
    let directory = directory_says(&stand, "waits for 2 MessageContacts").await;
    let message = message_of(&directory, "Ready");
    assert!(message.contains("(0 of them are being deleted)"), "{message}");
    assert!(message.contains("deletionPolicy: Retain"), "{message}");
    for private in ["slow", "stays", &stand.namespace, "Caocao"] {
        assert!(!message.contains(&format!("`{private}`")), "{message}");
    }
    assert_eq!(condition_of(&directory, "Ready")["reason"], "Connected");

    // Nothing new is begun and nothing is changed meanwhile.
    stand.apply("late", "Caopi", json!({})).await;
    stand.apply("stays", "Caoren", json!({ "title": "CEO" })).await;
    for object in ["late", "stays"] {
        let found = stand.becomes(object, "Synced", "DirectoryNotReady").await;
        assert!(message_of(&found, "Synced").contains("is being deleted"));
    }
    assert!(stand.object("late").await.finalizers().is_empty());
    assert_eq!(stand.in_cloud(&stays).title, "TechnicalDirector");

    stand.delete("slow").await;
    directory_says(&stand, "(1 of them are being deleted)").await;
    stand.is_gone("slow").await;
    assert!(stand.simulator.state().contact(&slow).is_none());
    directory_says(&stand, "waits for 1 MessageContacts").await;
    set(&stand, "stays", json!({ "deletionPolicy": "Retain" })).await;
    stand.delete("stays").await;
    stand.is_gone("stays").await;
    stand.directory_is_gone().await;
    assert_eq!(stand.in_cloud(&stays).name, "Caoren");
    stand.becomes("late", "Synced", "DirectoryNotFound").await;
    assert_eq!(stand.simulator.counts().of("AddMessageContact"), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_nobody_needs_goes_at_once() {
    // Never connected: it is not held at all.
    let (_socket, endpoint) = deaf_endpoint();
    let stand = Stand::unconnected(Options::default()).await;
    stand.apply_directory(json!({ "endpoint": endpoint })).await;
    let directory = stand.directory_becomes("Ready", "Unreachable").await;
    assert!(!is_held(&directory));
    stand.delete_directory().await;
    stand.directory_is_gone().await;

    // Connected, with contacts that hold nothing.
    stand.apply_directory(json!({})).await;
    stand.directory_becomes("Ready", "Connected").await;
    stand.apply("onlooker", "Sunquan", json!({ "reconcilePolicy": "ReportOnly" })).await;
    stand.becomes("onlooker", "Ready", "Drifted").await;
    stand.delete_directory().await;
    stand.directory_is_gone().await;
    stand.becomes("onlooker", "Synced", "DirectoryNotFound").await;

    // Suspended, and out of reach, after it was connected.
    for spec in [json!({ "suspend": true }), json!({ "endpoint": endpoint })] {
        stand.apply_directory(json!({})).await;
        stand.directory_becomes("Ready", "Connected").await;
        let away = if spec["suspend"] == true { "Suspended" } else { "Unreachable" };
        stand.apply_directory(spec).await;
        assert!(is_held(&stand.directory_becomes("Ready", away).await));
        stand.delete_directory().await;
        stand.directory_is_gone().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_out_of_reach_waits_and_retain_is_the_way_out() {
    let stand = Stand::new().await;
    let id = stand.settled("stuck", "Liubei", json!({})).await;
    let (_socket, endpoint) = deaf_endpoint();
    stand.apply_directory(json!({ "endpoint": endpoint })).await;
    stand.directory_becomes("Ready", "Unreachable").await;
    stand.delete_directory().await;
    let directory = directory_says(&stand, "waits for 1 MessageContacts").await;
    assert_eq!(condition_of(&directory, "Ready")["reason"], "Unreachable");
    stand.delete("stuck").await;
    stand.becomes("stuck", "Synced", "DeletionFailed").await;
    set(&stand, "stuck", json!({ "deletionPolicy": "Retain" })).await;
    stand.is_gone("stuck").await;
    stand.directory_is_gone().await;
    assert_eq!(stand.in_cloud(&id).name, "Liubei");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_whose_object_is_gone_can_come_back_for_its_contacts() {
    let stand = Stand::new().await;
    let id = stand.settled("waiting", "Zhangfei", json!({})).await;
    stand.tear_out_directory().await;
    stand.becomes("waiting", "Synced", "DirectoryNotFound").await;
    stand.delete("waiting").await;
    stand.becomes("waiting", "Synced", "DeletionFailed").await;
    assert!(stand.simulator.state().contact(&id).is_some());
    stand.apply_directory(json!({})).await;
    stand.is_gone("waiting").await;
    assert!(stand.simulator.state().contact(&id).is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_finalizer_is_in_nobodys_way() {
    let stand = Stand::new().await;
    let directories = stand.directories();
    // Somebody else's finalizer is kept in its place, and applying from git writes nothing of ours.
    let theirs = json!({ "metadata": { "finalizers": ["example.com/theirs", FINALIZER] } });
    let patch = Patch::Merge(theirs);
    directories.patch(&stand.directory, &PatchParams::default(), &patch).await.unwrap();
    let mark = stand.cluster.audit().mark().unwrap();
    stand.apply_directory(json!({})).await;
    stand.ask_directory().await;
    let finalizers = stand.object_of_directory().await.finalizers().to_vec();
    assert_eq!(finalizers, ["example.com/theirs", FINALIZER]);
    let by_us = cluster::By::UserAgent("message-contact-operator");
    let writes = stand.cluster.audit().writes(mark, by_us).unwrap();
    let ours = writes.iter().filter(|it| it.name == stand.directory && it.subresource.is_empty());
    assert_eq!(ours.count(), 0, "{writes:#?}");

    // `kubectl replace` takes ours off; it comes back beside theirs.
    let mut object = stand.object_of_directory().await;
    object.metadata.finalizers = Some(vec!["example.com/theirs".to_owned()]);
    object.metadata.managed_fields = None;
    directories.replace(&stand.directory, &PostParams::default(), &object).await.unwrap();
    let held = |object: &DynamicObject| object.finalizers() == ["example.com/theirs", FINALIZER];
    sees(&directories, &stand.directory, held).await;
    // And theirs stays when ours goes.
    stand.delete_directory().await;
    let left = |object: &DynamicObject| object.finalizers() == ["example.com/theirs"];
    sees(&directories, &stand.directory, left).await;
    let off = Patch::Merge(json!({ "metadata": { "finalizers": null } }));
    directories.patch(&stand.directory, &PatchParams::default(), &off).await.unwrap();
    stand.directory_is_gone().await;
}

async fn sees(api: &Api<DynamicObject>, name: &str, look: impl Fn(&DynamicObject) -> bool) {
    cluster::wait_for(stand::PATIENCE, "the finalizers are as they should", || async {
        let found = api.get(name).await.map_err(|error| error.to_string())?;
        if look(&found) { Ok(()) } else { Err(format!("{:?}", found.finalizers())) }
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_while_a_directory_waits_is_an_ordinary_start() {
    let alone = alone().await;
    let stand = Stand::on(alone.cluster, Options::default()).await;
    let start = || Operator::start(alone.cluster.kubeconfig_path(), &[&stand]);
    let operator = start();
    stand.apply_directory(json!({})).await;
    let id = stand.settled("needs-it", "Guanyu", json!({})).await;
    stand.delete_directory().await;
    directory_says(&stand, "waits for 1 MessageContacts").await;
    operator.kill();
    stand.delete("needs-it").await;
    let operator = start();
    stand.is_gone("needs-it").await;
    stand.directory_is_gone().await;
    assert!(stand.simulator.state().contact(&id).is_none());
    drop(operator);
}
