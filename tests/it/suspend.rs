//! `suspend` stops everything for one object and forgets nothing.

use directory_simulator::ContactChange;
use serde_json::json;

use crate::stand::{Stand, condition_of};

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_begins_suspended_is_created_when_it_goes_on() {
    let stand = Stand::new().await;
    stand.apply("asleep", "Haoran", json!({ "suspend": true })).await;
    stand.apply("awake", "Haoming", json!({})).await;
    let object = stand.becomes("asleep", "Synced", "Suspended").await;
    assert_ne!(condition_of(&object, "Ready")["status"], "True");
    assert!(object.metadata.finalizers.unwrap_or_default().is_empty());
    stand.becomes("awake", "Ready", "InSync").await;
    stand.ask("asleep").await;
    assert_eq!(stand.simulator.counts().writes, 1, "only the other one is created");
    stand.apply("asleep", "Haoran", json!({ "suspend": false })).await;
    stand.becomes("asleep", "Ready", "InSync").await;
    assert!(stand.simulator.state().named("Haoran").is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn while_suspended_nothing_is_read_or_written_and_only_synced_says_so() {
    let stand = Stand::new().await;
    let phone = "86-13800138031";
    let id = stand.settled("paused", "Kangle", json!({ "phoneNumber": phone })).await;
    let before = stand.becomes("paused", "Ready", "InSync").await;
    let mark = stand.mark();
    let edited = |suspend: bool| json!({ "suspend": suspend, "phoneNumber": phone, "emailAddress": "later@example.com" });
    stand.apply("paused", "Kangle", edited(true)).await;
    stand.becomes("paused", "Synced", "Suspended").await;
    let outsider = ContactChange { title: Some("Other".to_owned()), ..ContactChange::default() };
    assert!(stand.simulator.change_contact(&id, outsider));
    stand.ask_directory().await;
    let now = stand.ask("paused").await;
    assert_eq!(stand.calls_since(mark), [""; 0]);
    for condition in ["Ready", "EmailVerified", "PhoneVerified"] {
        let said = |object| {
            let found = condition_of(object, condition);
            (found["status"].clone(), found["reason"].clone(), found["message"].clone())
        };
        assert_eq!(said(&now), said(&before), "{condition}");
    }
    for absent in ["Reconciling", "Stalled"] {
        assert!(condition_of(&now, absent).is_null(), "{absent}");
    }
    for field in ["contactId", "observed", "lastWrite"] {
        assert_eq!(now.data["status"][field], before.data["status"][field], "{field}");
    }

    stand.apply("paused", "Kangle", edited(false)).await;
    stand.becomes("paused", "Ready", "InSync").await;
    let mut calls = stand.calls_since(mark);
    calls.retain(|call| call.starts_with("Update"));
    assert_eq!(calls, ["UpdateMessageContact EmailAddress Title"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_reported_before_stands_while_suspended() {
    let stand = Stand::new().await;
    let fields = json!({ "reconcilePolicy": "ReportOnly", "title": "CEO" });
    stand.settled("reported", "Shaoyu", json!({})).await;
    stand.apply("reported", "Shaoyu", fields.clone()).await;
    let before = stand.becomes("reported", "Ready", "Drifted").await;
    let mut suspended = fields;
    suspended["suspend"] = json!(true);
    stand.apply("reported", "Shaoyu", suspended).await;
    let now = stand.becomes("reported", "Synced", "Suspended").await;
    assert_eq!(now.data["status"]["drift"], before.data["status"]["drift"]);
    assert_eq!(condition_of(&now, "Ready")["reason"], "Drifted");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_waits_for_its_turn_is_not_made_while_suspended() {
    let stand = Stand::new().await;
    let id = stand.settled("stopped", "Luocheng", json!({})).await;
    stand.simulator.hold();
    stand.apply("stopped", "Luocheng", json!({ "title": "CEO" })).await;
    let refused = "the write is refused while somebody else holds the directory";
    stand
        .cloud(refused, |sim| (sim.counts().ended("ConcurrentCallNotSupported") > 0).then_some(()))
        .await;
    stand.apply("stopped", "Luocheng", json!({ "title": "CEO", "suspend": true })).await;
    stand.all_seen().await;
    stand.simulator.release();
    stand.becomes("stopped", "Synced", "Suspended").await;
    stand.ask("stopped").await;
    assert_eq!(stand.in_cloud(&id).title, "TechnicalDirector");
    stand.apply("stopped", "Luocheng", json!({ "title": "CEO" })).await;
    stand.becomes("stopped", "Ready", "InSync").await;
    assert_eq!(stand.in_cloud(&id).title, "CEO");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_object_can_be_deleted_with_its_contact() {
    let stand = Stand::new().await;
    let id = stand.settled("leaving", "Maoyi", json!({})).await;
    let bystander = stand.bystander("Maoyifan");
    stand.apply("leaving", "Maoyi", json!({ "suspend": true })).await;
    stand.becomes("leaving", "Synced", "Suspended").await;
    stand.delete("leaving").await;
    stand.is_gone("leaving").await;
    assert!(stand.simulator.state().contact(&id).is_none());
    assert_eq!(stand.simulator.counts().of("DeleteMessageContact"), 1);
    stand.is_untouched(&bystander);
}
