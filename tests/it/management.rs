//! `management` of a directory caps what is done for every contact in it.

use directory_simulator::{ContactChange, DeletionPlan, Options};
use serde_json::{Value, json};

use crate::stand::{Stand, assert_stalled, condition_of, message_of};

/// The member account to which a contact is bound, so that its deletion runs in the background.
const ACCOUNT: &str = "2000000000000001";

/// How often the cloud was asked to change anything, whether it did or not.
fn writes(stand: &Stand) -> u64 {
    let reads = ["GetResourceDirectory", "ListMessageContacts", "ListMessageContactVerifications"];
    let more = ["GetMessageContact", "GetMessageContactDeletionStatus"];
    let calls = stand.simulator.calls();
    let is_read = |action: &str| reads.contains(&action) || more.contains(&action);
    calls.iter().filter(|call| !is_read(&call.action)).count() as u64
}

fn edit(title: &str) -> ContactChange {
    ContactChange { title: Some(title.to_owned()), ..ContactChange::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_only_reports_writes_nothing_until_it_may() {
    let spec = json!({ "management": "ReportOnly" });
    let stand = Stand::with(Options::default(), spec).await;
    let bystander = stand.bystander("Zhugejin");
    // The near match: the object itself would allow everything.
    let fields = json!({ "reconcilePolicy": "Enforce", "adoptionPolicy": "Always" });
    stand.apply("reported", "Zhugeliang", fields.clone()).await;
    let object = stand.becomes("reported", "Ready", "Drifted").await;
    assert_stalled(&object, false);
    let message = message_of(&object, "Synced");
    assert!(message.contains("`management: ReportOnly` of the ResourceDirectory"), "{message}");
    assert!(!message.contains("reconcilePolicy"), "{message}");
    assert!(object.metadata.finalizers.clone().unwrap_or_default().is_empty());
    let directory = stand.object_of_directory().await;
    assert!(message_of(&directory, "Ready").contains("`management: ReportOnly` forbids to write"));

    // Nobody can claim a name: the younger one is not kept from it by the older one.
    stand.apply("second", "Zhugeliang", json!({})).await;
    stand.becomes("second", "Ready", "Drifted").await;
    stand.ask("second").await;
    stand.delete("second").await;
    stand.is_gone("second").await;
    stand.ask("reported").await;
    assert_eq!(writes(&stand), 0);

    stand.apply_directory(json!({})).await;
    let object = stand.becomes("reported", "Ready", "InSync").await;
    let id = object.data["status"]["contactId"].as_str().unwrap().to_owned();
    assert_eq!(writes(&stand), 1);

    // Back again: what differs is shown, whoever made it differ.
    stand.apply_directory(json!({ "management": "ReportOnly" })).await;
    stand.directory_becomes("Ready", "Connected").await;
    assert!(stand.simulator.change_contact(&id, edit("Other")));
    stand.apply("reported", "Zhugeliang", json!({ "emailAddress": "kongming@example.com" })).await;
    stand.ask_directory().await;
    let differs = |object: &kube::api::DynamicObject| {
        let drift = object.data["status"]["drift"].as_array().cloned().unwrap_or_default();
        let fields: Vec<_> = drift.iter().map(|it| it["field"].clone()).collect();
        fields == [json!("title"), json!("emailAddress")]
    };
    stand.sees("reported", "both fields are in status.drift", differs).await;
    stand.becomes("reported", "Ready", "Drifted").await;
    stand.delete("reported").await;
    stand.is_gone("reported").await;
    stand.ask_directory().await;
    assert_eq!(writes(&stand), 1);
    assert_eq!(stand.in_cloud(&id).title, "Other");
    stand.is_untouched(&bystander);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_waits_for_its_turn_is_not_made_once_the_directory_only_reports() {
    let stand = Stand::new().await;
    let id = stand.settled("stopped", "Simayi", json!({})).await;
    stand.simulator.hold();
    stand.apply("stopped", "Simayi", json!({ "title": "CEO" })).await;
    let refused = |sim: &directory_simulator::Simulator| {
        (sim.counts().ended("ConcurrentCallNotSupported") > 0).then_some(())
    };
    stand.cloud("the write is refused while somebody else holds the directory", refused).await;
    stand.apply_directory(json!({ "management": "ReportOnly" })).await;
    stand.becomes("stopped", "Ready", "Drifted").await;
    stand.simulator.release();
    stand.ask("stopped").await;
    assert_eq!(stand.in_cloud(&id).title, "TechnicalDirector");
    stand.apply_directory(json!({})).await;
    stand.becomes("stopped", "Ready", "InSync").await;
    assert_eq!(stand.in_cloud(&id).title, "CEO");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_may_forbid_to_delete_and_nothing_else() {
    let stand = Stand::with(Options::default(), json!({ "management": "NoDelete" })).await;
    assert!(message_of(&stand.object_of_directory().await, "Ready").contains("NoDelete"));
    let id = stand.settled("pruned", "Zhouyu", json!({ "deletionPolicy": "Delete" })).await;
    let other = stand.settled("edited", "Zhouyua", json!({})).await;
    stand.delete("pruned").await;
    stand.is_gone("pruned").await;
    stand.apply("edited", "Zhouyua", json!({ "title": "CEO" })).await;
    stand.becomes("edited", "Ready", "InSync").await;
    assert_eq!(stand.in_cloud(&other).title, "CEO");
    assert_eq!(stand.in_cloud(&id).name, "Zhouyu");
    assert_eq!(stand.simulator.counts().of("DeleteMessageContact"), 0);
    // What was let go is nobody's.
    let directory = stand.ask_directory().await;
    let unmanaged = &directory.data["status"]["unmanaged"];
    assert_eq!(unmanaged, &json!([{ "contactId": id, "name": "Zhouyu" }]));

    // It may delete again.
    stand.apply_directory(json!({})).await;
    stand.delete("edited").await;
    stand.is_gone("edited").await;
    assert!(stand.simulator.state().contact(&other).is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_that_does_not_come_to_an_end_is_given_up_with_no_delete() {
    let stand = Stand::new().await;
    let id = stand.settled("running", "Lusu", json!({})).await;
    let members = Some(vec![ACCOUNT.to_owned()]);
    assert!(stand.simulator.change_contact(&id, ContactChange { members, ..Default::default() }));
    stand.simulator.deletion(DeletionPlan { after_ms: 3_600_000, ..Default::default() });
    stand.delete("running").await;
    let polled = |sim: &directory_simulator::Simulator| {
        (sim.counts().of("GetMessageContactDeletionStatus") > 0).then_some(())
    };
    stand.cloud("the deletion is polled", polled).await;
    stand.apply_directory(json!({ "management": "NoDelete" })).await;
    stand.is_gone("running").await;
    assert_eq!(stand.simulator.counts().of("DeleteMessageContact"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_a_directory_only_reports_objects_go_even_if_it_is_suspended() {
    let stand = Stand::new().await;
    let id = stand.settled("held", "Huanggai", json!({})).await;
    stand.apply_directory(json!({ "management": "ReportOnly", "suspend": true })).await;
    stand.directory_becomes("Ready", "Suspended").await;
    let calls = stand.simulator.counts().calls;
    stand.delete("held").await;
    stand.is_gone("held").await;
    assert_eq!(stand.simulator.counts().calls, calls);
    assert_eq!(stand.in_cloud(&id).name, "Huanggai");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_only_reports_is_named_itself() {
    let stand = Stand::with(Options::default(), json!({ "management": "NoDelete" })).await;
    stand.apply("own", "Ganning", json!({ "reconcilePolicy": "ReportOnly" })).await;
    let object = stand.becomes("own", "Ready", "Drifted").await;
    assert!(message_of(&object, "Ready").contains("`reconcilePolicy: ReportOnly`"));
    assert_ne!(condition_of(&object, "Stalled")["status"], Value::from("True"));
}
