//! `reconcilePolicy: ReportOnly` writes nothing to the cloud, ever.

use directory_simulator::{Fault, FaultKind};
use serde_json::json;

use crate::stand::{Stand, condition_of};

const WRITES: [&str; 3] = ["AddMessageContact", "UpdateMessageContact", "DeleteMessageContact"];

/// How often each write was called, whether it was done or not.
fn writes(stand: &Stand) -> [u64; 3] {
    WRITES.map(|action| stand.simulator.counts().of(action))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_contact_that_is_not_there_is_reported_and_neither_created_nor_deleted() {
    let stand = Stand::new().await;
    let bystander = stand.bystander("Baijuan");
    stand.apply("absent", "Baijie", json!({ "reconcilePolicy": "ReportOnly" })).await;
    let object = stand.becomes("absent", "Ready", "Drifted").await;
    let drift = &object.data["status"]["drift"];
    assert_eq!((&drift[0]["field"], &drift[0]["desired"]), (&json!("name"), &json!("Baijie")));
    assert!(object.metadata.finalizers.unwrap_or_default().is_empty(), "nothing is held");
    let object = stand.ask("absent").await;
    assert_eq!(condition_of(&object, "Ready")["reason"], "Drifted");
    stand.delete("absent").await;
    stand.is_gone("absent").await;
    stand.ask_directory().await;
    assert_eq!(writes(&stand), [0, 0, 0]);
    stand.is_untouched(&bystander);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_contact_that_is_held_is_neither_changed_nor_deleted() {
    let stand = Stand::new().await;
    let id = stand.settled("held", "Tangmei", json!({})).await;
    let before = stand.in_cloud(&id);
    let fields = json!({ "reconcilePolicy": "ReportOnly", "title": "CEO",
        "emailAddress": "other@example.com", "phoneNumber": "86-13800138021" });
    stand.apply("held", "Tangmeili", fields).await;
    let object = stand.becomes("held", "Ready", "Drifted").await;
    let drift = object.data["status"]["drift"].as_array().unwrap();
    let names: Vec<_> = drift.iter().map(|entry| entry["field"].as_str().unwrap()).collect();
    assert_eq!(names, ["name", "title", "emailAddress", "phoneNumber"]);
    stand.ask("held").await;
    stand.delete("held").await;
    stand.is_gone("held").await;
    stand.ask_directory().await;
    assert_eq!(writes(&stand), [1, 0, 0]);
    assert_eq!(stand.in_cloud(&id), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_contact_that_somebody_deletes_is_not_created_again() {
    let stand = Stand::new().await;
    let id = stand.settled("vanished", "Yujia", json!({})).await;
    stand.apply("vanished", "Yujia", json!({ "reconcilePolicy": "ReportOnly" })).await;
    stand.becomes("vanished", "Ready", "InSync").await;
    assert!(stand.simulator.remove_contact(&id));
    stand.ask_directory().await;
    let object = stand.becomes("vanished", "Ready", "Drifted").await;
    assert_eq!(object.data["status"]["drift"][0]["field"], "name");
    stand.ask("vanished").await;
    assert_eq!(writes(&stand), [1, 0, 0]);

    stand.apply("vanished", "Yujia", json!({})).await;
    stand.becomes("vanished", "Ready", "InSync").await;
    assert_eq!(writes(&stand), [2, 0, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_waits_for_its_turn_is_not_made_any_more() {
    let stand = Stand::new().await;
    let id = stand.settled("waiting", "Xiebin", json!({})).await;
    stand.simulator.hold();
    stand.apply("waiting", "Xiebin", json!({ "title": "CEO" })).await;
    let refused = "the write is refused while somebody else holds the directory";
    stand
        .cloud(refused, |sim| (sim.counts().ended("ConcurrentCallNotSupported") > 0).then_some(()))
        .await;
    let fields = json!({ "title": "CEO", "reconcilePolicy": "ReportOnly" });
    stand.apply("waiting", "Xiebin", fields).await;
    stand.all_seen().await;
    stand.simulator.release();
    stand.becomes("waiting", "Ready", "Drifted").await;
    stand.ask("waiting").await;
    assert_eq!(stand.simulator.counts().writes, 1, "the contact was created, and no more");
    assert_eq!(stand.in_cloud(&id).title, "TechnicalDirector");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_creation_without_an_answer_is_found_and_then_left_alone() {
    let stand = Stand::new().await;
    stand.simulator.fault(Fault::on("AddMessageContact", FaultKind::Drop { executed: true }));
    let list = FaultKind::Delay { before_ms: 1500, after_ms: 0 };
    stand.simulator.fault(Fault::on("ListMessageContacts", list));
    stand.apply("unsure", "Duanlan", json!({})).await;
    stand.cloud("the call was made", |sim| sim.state().named("Duanlan").map(drop)).await;
    let fields = json!({ "reconcilePolicy": "ReportOnly", "title": "CEO" });
    stand.apply("unsure", "Duanlan", fields).await;
    let object = stand.becomes("unsure", "Ready", "Drifted").await;
    let contact = stand.simulator.state().named("Duanlan").unwrap().clone();
    assert_eq!(object.data["status"]["contactId"], json!(contact.id), "it is held");
    assert_eq!(object.data["status"]["drift"][0]["field"], "title");
    assert_eq!(writes(&stand), [1, 0, 0]);
}
