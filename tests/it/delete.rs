//! Deleting an object deletes its contact, to the end, and nothing else.

use std::time::{Duration, Instant};

use directory_simulator::{ContactChange, DeletionPlan, FailReason, Options};
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::stand::{Stand, apply, assert_stalled, message_of};

pub const ACCOUNT: &str = "2000000000000001";

/// A contact in sync, its neighbour of a similar name, and the contact's id.
pub async fn two(stand: &Stand, object: &str, name: &str, fields: Value) -> String {
    stand.apply(object, name, fields).await;
    stand.apply("neighbour", &format!("{name}a"), json!({})).await;
    stand.becomes("neighbour", "Ready", "InSync").await;
    let synced = stand.becomes(object, "Ready", "InSync").await;
    synced.data["status"]["contactId"].as_str().unwrap().to_owned()
}

/// Binds a contact to an account: its deletion then runs in the background.
pub fn bind(stand: &Stand, id: &str) {
    let members = Some(vec![ACCOUNT.to_owned()]);
    assert!(stand.simulator.change_contact(id, ContactChange { members, ..Default::default() }));
}

pub fn names(stand: &Stand) -> Vec<String> {
    let state = stand.simulator.state();
    let mut names: Vec<_> = state.contacts.iter().map(|contact| contact.name.clone()).collect();
    names.sort();
    names
}

/// What every deletion so far said about the members.
pub fn retained(stand: &Stand) -> Vec<Value> {
    let calls = stand.simulator.calls();
    let deletions = calls.iter().filter(|call| call.action == "DeleteMessageContact");
    deletions.map(|call| call.parameters["RetainContactInMembers"].clone()).collect()
}

pub async fn set(stand: &Stand, object: &str, spec: Value) {
    let patch = json!({ "spec": spec });
    let parameters = PatchParams::default();
    stand.contacts().patch(object, &parameters, &Patch::Merge(&patch)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_contact_is_deleted_from_the_members_too() {
    let stand = Stand::new().await;
    two(&stand, "leaver", "Jiayi", json!({})).await;
    stand.delete("leaver").await;
    stand.is_gone("leaver").await;
    assert_eq!(retained(&stand), ["false"]);
    assert_eq!(names(&stand), ["Jiayia"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_contact_stays_in_the_members_if_its_spec_says_so() {
    let stand = Stand::new().await;
    let id = two(&stand, "stayer", "Chaocuo", json!({ "retainInMembers": true })).await;
    bind(&stand, &id);
    stand.delete("stayer").await;
    stand.is_gone("stayer").await;
    assert_eq!(retained(&stand), ["true"]);
    assert_eq!(names(&stand), ["Chaocuoa"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_in_the_background_is_awaited() {
    let stand = Stand::new().await;
    let id = two(&stand, "slow", "Yuanang", json!({})).await;
    bind(&stand, &id);
    stand.simulator.deletion(DeletionPlan { after_ms: 3000, ..Default::default() });
    stand.delete("slow").await;
    let object = stand.becomes("slow", "Synced", "Deleting").await;
    assert_stalled(&object, false);
    stand.is_gone("slow").await;
    assert_eq!(names(&stand), ["Yuananga"], "the object waits for the contact");
    assert_eq!(stand.simulator.counts().of("DeleteMessageContact"), 1);
    assert!(stand.simulator.counts().of("GetMessageContactDeletionStatus") >= 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_that_failed_names_the_accounts_and_is_tried_again() {
    let stand = Stand::new().await;
    let id = two(&stand, "needed", "Zhufuyan", json!({})).await;
    bind(&stand, &id);
    let reason = FailReason {
        account_id: ACCOUNT.to_owned(),
        message_types: vec!["FaultMessage".to_owned(), "ProductMessage".to_owned()],
    };
    stand.simulator.deletion(DeletionPlan { after_ms: 100, reasons: vec![reason], times: Some(1) });
    stand.delete("needed").await;
    let object = stand.becomes("needed", "Synced", "DeletionFailed").await;
    assert_stalled(&object, false);
    let message = message_of(&object, "Ready");
    for word in [ACCOUNT, "FaultMessage", "ProductMessage", "deletionPolicy: Retain"] {
        assert!(message.contains(word), "{word} in {message}");
    }
    assert_eq!(names(&stand), ["Zhufuyan", "Zhufuyana"]);

    // Whoever has helped asks for another try, and need not wait for the next one.
    stand.simulator.deletion(DeletionPlan { after_ms: 100, ..Default::default() });
    let patch =
        json!({ "metadata": { "annotations": { "message-contacts.dev/requestedAt": "go" } } });
    let parameters = PatchParams::default();
    stand.contacts().patch("needed", &parameters, &Patch::Merge(&patch)).await.unwrap();
    let asked = Instant::now();
    stand.is_gone("needed").await;
    assert!(asked.elapsed() < Duration::from_secs(20), "{:?}", asked.elapsed());
    assert_eq!(names(&stand), ["Zhufuyana"]);
    assert_eq!(stand.simulator.counts().of("DeleteMessageContact"), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn retain_lets_go_of_a_deletion_that_fails() {
    let stand = Stand::new().await;
    let id = two(&stand, "stuck", "Huoguang", json!({})).await;
    bind(&stand, &id);
    let message_types = vec!["ActivityMessage".to_owned()];
    let reason = FailReason { account_id: ACCOUNT.to_owned(), message_types };
    stand.simulator.deletion(DeletionPlan { after_ms: 100, reasons: vec![reason], times: None });
    stand.delete("stuck").await;
    stand.becomes("stuck", "Synced", "DeletionFailed").await;
    set(&stand, "stuck", json!({ "deletionPolicy": "Retain" })).await;
    stand.is_gone("stuck").await;
    assert_eq!(names(&stand), ["Huoguang", "Huoguanga"]);
    assert_eq!(stand.simulator.counts().of("DeleteMessageContact"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retained_contact_is_not_written_to() {
    let stand = Stand::new().await;
    two(&stand, "keeper", "Subutai", json!({ "deletionPolicy": "Retain" })).await;
    let before = stand.simulator.counts();
    stand.delete("keeper").await;
    stand.is_gone("keeper").await;
    stand.ask("neighbour").await;
    assert_eq!(stand.simulator.counts().writes, before.writes);
    assert_eq!(names(&stand).len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_that_was_not_made_yet_can_be_called_off() {
    let stand = Stand::new().await;
    two(&stand, "regret", "Zhangqian", json!({})).await;
    stand.simulator.hold();
    stand.delete("regret").await;
    stand
        .cloud("a refused deletion", |cloud| {
            (cloud.counts().ended("ConcurrentCallNotSupported") > 0).then_some(())
        })
        .await;
    set(&stand, "regret", json!({ "deletionPolicy": "Retain" })).await;
    stand.is_gone("regret").await;
    stand.simulator.release();
    stand.ask("neighbour").await;
    assert_eq!(names(&stand), ["Zhangqian", "Zhangqiana"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_only_reports_is_released() {
    let stand = Stand::new().await;
    two(&stand, "watcher", "Banchaoa", json!({})).await;
    set(&stand, "watcher", json!({ "reconcilePolicy": "ReportOnly" })).await;
    stand.becomes("watcher", "Synced", "InSync").await;
    let before = stand.simulator.counts();
    stand.delete("watcher").await;
    stand.is_gone("watcher").await;
    stand.ask("neighbour").await;
    assert_eq!(stand.simulator.counts().writes, before.writes);
    assert_eq!(names(&stand).len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_object_is_deleted_with_its_contact() {
    let stand = Stand::new().await;
    two(&stand, "asleep", "Weiqing", json!({})).await;
    set(&stand, "asleep", json!({ "suspend": true })).await;
    stand.becomes("asleep", "Synced", "Suspended").await;
    stand.delete("asleep").await;
    stand.is_gone("asleep").await;
    assert_eq!(names(&stand), ["Weiqinga"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_contact_that_is_gone_already_is_no_obstacle() {
    let stand = Stand::new().await;
    let id = two(&stand, "missing", "Liling", json!({})).await;
    set(&stand, "missing", json!({ "suspend": true })).await;
    stand.becomes("missing", "Synced", "Suspended").await;
    assert!(stand.simulator.remove_contact(&id));
    stand.ask_directory().await;
    stand.delete("missing").await;
    stand.is_gone("missing").await;
    assert_eq!(stand.simulator.counts().of("DeleteMessageContact"), 0, "the list lacks it");
    assert_eq!(names(&stand), ["Lilinga"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_contact_that_went_unnoticed_is_no_obstacle() {
    let stand = Stand::new().await;
    let id = two(&stand, "unnoticed", "Simaqian", json!({})).await;
    assert!(stand.simulator.remove_contact(&id));
    stand.delete("unnoticed").await;
    stand.is_gone("unnoticed").await;
    assert_eq!(names(&stand), ["Simaqiana"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_directory_a_contact_waits_or_is_let_go() {
    let stand = Stand::new().await;
    two(&stand, "orphan", "Dongzhuo", json!({})).await;
    stand.tear_out_directory().await;
    stand.becomes("orphan", "Synced", "DirectoryNotFound").await;
    stand.delete("orphan").await;
    let object = stand.becomes("orphan", "Synced", "DeletionFailed").await;
    let message = message_of(&object, "Synced");
    assert!(message.contains("deletionPolicy: Retain"), "{message}");
    set(&stand, "orphan", json!({ "deletionPolicy": "Retain" })).await;
    stand.is_gone("orphan").await;
    assert_eq!(names(&stand).len(), 2);
    assert_eq!(stand.simulator.counts().of("DeleteMessageContact"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_holds_nothing_goes_at_once() {
    let stand = Stand::unconnected(Options::default()).await;
    let mut manifest = stand.manifest("nobody", "Luzhiqian", json!({}));
    manifest["spec"]["directoryRef"]["name"] = json!("no-such-directory");
    manifest["metadata"]["finalizers"] = json!(["message-contacts.dev/contact"]);
    apply(&stand.contacts(), &manifest).await.unwrap();
    stand.becomes("nobody", "Synced", "DirectoryNotFound").await;
    stand.delete("nobody").await;
    stand.is_gone("nobody").await;
    assert_eq!(stand.simulator.counts().calls, 0);
}
