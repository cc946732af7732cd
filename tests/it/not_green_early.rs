//! Nobody who waits for an object goes on too early, or waits for what will not come.

use directory_simulator::NewContact;
use kube::Api;
use kube::api::DynamicObject;
use kube::core::ApiResource;
use message_contact_operator::api::{MessageContact, ResourceDirectory};
use serde_json::json;

use crate::stand::{self, Stand, condition_of};

/// What kstatus computes of a custom resource, as Flux, Argo CD and `helm --wait` do.
///
/// Source: `GetStatusWithConditionsFn` of `sigs.k8s.io/cli-utils/pkg/kstatus/status`.
fn kstatus(object: &DynamicObject) -> &'static str {
    let is = |condition, status| condition_of(object, condition)["status"] == status;
    let observed = &object.data["status"]["observedGeneration"];
    if object.metadata.deletion_timestamp.is_some() {
        "Terminating"
    } else if is("Reconciling", "True")
        || (observed.is_i64() && *observed != json!(object.metadata.generation))
    {
        "InProgress"
    } else if is("Stalled", "True") {
        "Failed"
    } else if is("Ready", "False") || is("Ready", "Unknown") {
        "InProgress"
    } else {
        "Current"
    }
}

/// Nobody has looked at it, and it says so.
fn is_pending(object: &DynamicObject) {
    assert_eq!(object.data["status"]["observedGeneration"], -1);
    let ready = condition_of(object, "Ready");
    assert_eq!((&ready["status"], &ready["reason"]), (&json!("Unknown"), &json!("Pending")));
    assert_eq!(kstatus(object), "InProgress");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_operator_nothing_is_ready() {
    let cluster = cluster::Cluster::start(cluster::Options::default()).await.unwrap();
    stand::prepare(&cluster).await;
    let namespace = cluster.namespace("alone").await.unwrap();
    let kind = ApiResource::erase::<MessageContact>(&());
    let contacts = Api::namespaced_with(cluster.client(), &namespace, &kind);
    let kind = ApiResource::erase::<ResourceDirectory>(&());
    let directories = Api::all_with(cluster.client(), &kind);

    let mut contact = json!({
        "apiVersion": "message-contacts.dev/v1alpha1",
        "kind": "MessageContact",
        "metadata": { "name": "lonely", "namespace": namespace },
        "spec": { "name": "Sulinjun", "title": "Other", "emailAddress": "lonely@example.com",
            "messageTypes": ["FaultMessage"] },
    });
    let mut directory = json!({
        "apiVersion": "message-contacts.dev/v1alpha1",
        "kind": "ResourceDirectory",
        "metadata": { "name": "default" },
        "spec": {},
    });
    // Created, and changed once more.
    for _ in 0..2 {
        is_pending(&stand::apply(&contacts, &contact).await.unwrap());
        is_pending(&stand::apply(&directories, &directory).await.unwrap());
        is_pending(&contacts.get("lonely").await.unwrap());
        is_pending(&directories.get("default").await.unwrap());
        contact["spec"]["title"] = json!("CEO");
        directory["spec"]["pollInterval"] = json!("1m");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tools_that_wait_see_what_is_there_what_waits_and_what_is_stuck() {
    let stand = Stand::new().await;
    assert_eq!(kstatus(&stand.object_of_directory().await), "Current");
    stand.apply("there", "Xunzikuang", json!({})).await;
    assert_eq!(kstatus(&stand.becomes("there", "Ready", "InSync").await), "Current");

    stand.simulator.insert_contact(NewContact::new("Hanfeizi", "hanfei@example.com"));
    stand.ask_directory().await;
    stand.apply("taken", "Hanfeizi", json!({ "adoptionPolicy": "Never" })).await;
    assert_eq!(kstatus(&stand.becomes("taken", "Synced", "NameTaken").await), "Failed");

    // Not `Current` for a moment after a change, whoever looks in between.
    stand.simulator.hold();
    let changed = stand.apply("there", "Xunzikuang", json!({ "title": "Other" })).await;
    assert_eq!(kstatus(&changed), "InProgress");
    is_held_up(&stand, 1).await;
    assert_eq!(kstatus(&stand.object("there").await), "InProgress");
    stand.simulator.release();
    assert_eq!(kstatus(&stand.becomes("there", "Ready", "InSync").await), "Current");

    // A person who has to click is waited for.
    stand.apply("person", "Lisitong", json!({ "readyWhen": "Verified" })).await;
    assert_eq!(kstatus(&stand.becomes("person", "Synced", "InSync").await), "InProgress");

    stand.simulator.hold();
    stand.delete("there").await;
    is_held_up(&stand, stand.simulator.counts().ended(BUSY) + 1).await;
    assert_eq!(kstatus(&stand.object("there").await), "Terminating");
    stand.simulator.release();
    stand.is_gone("there").await;
}

const BUSY: &str = "ConcurrentCallNotSupported";

/// An outsider has held up so many calls.
async fn is_held_up(stand: &Stand, calls: u64) {
    stand
        .cloud("a call is held up", |cloud| (cloud.counts().ended(BUSY) >= calls).then_some(()))
        .await;
}
