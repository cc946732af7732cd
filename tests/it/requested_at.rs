//! The annotation `message-contacts.dev/requestedAt` asks for another try, also of an object for
//! which waiting does not help.

use std::time::Duration;

use directory_simulator::{Fault, FaultKind, Simulator};
use kube::api::{DynamicObject, Patch, PatchParams};
use serde_json::json;

use crate::stand::{Stand, condition_of, request};

fn refuse_once(stand: &Stand) {
    let refused = FaultKind::error(400, "InvalidParameter.EmailAddress");
    stand.simulator.fault(Fault::on("AddMessageContact", refused));
}

fn adds(stand: &Stand) -> u64 {
    stand.simulator.counts().of("AddMessageContact")
}

/// Waits until that text stands in the status as handled.
async fn handled(stand: &Stand, object: &str, text: &str) -> DynamicObject {
    let is_handled =
        |found: &DynamicObject| found.data["status"]["lastHandledReconcileAt"] == json!(text);
    stand.sees(object, "the text is echoed", is_handled).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_text_tries_a_refused_contact_again_and_the_same_text_does_not() {
    let stand = Stand::new().await;
    refuse_once(&stand);
    stand.apply("stalled", "Ruanqi", json!({})).await;
    let object = stand.becomes("stalled", "Stalled", "InvalidContact").await;
    let error = &object.data["status"]["lastError"];
    assert_eq!(error["code"], "InvalidParameter.EmailAddress");
    assert_eq!(error["action"], "AddMessageContact");
    let message = condition_of(&object, "Ready")["message"].as_str().unwrap().to_owned();
    assert!(message.contains("`emailAddress`"), "{message}");
    assert!(object.data["status"].get("creation").is_none(), "nothing was made");
    stand.ask_directory().await;
    assert_eq!(adds(&stand), 1, "nothing is repeated by itself");

    refuse_once(&stand);
    request(&stand.contacts(), "stalled", "please").await;
    handled(&stand, "stalled", "please").await;
    let object = stand.becomes("stalled", "Stalled", "InvalidContact").await;
    assert_eq!(adds(&stand), 2);

    // The same text, with another change that is none of the spec.
    request(&stand.contacts(), "stalled", "please").await;
    let label = json!({ "metadata": { "labels": { "team": "blue" } } });
    let contacts = stand.contacts();
    contacts.patch("stalled", &PatchParams::default(), &Patch::Merge(&label)).await.unwrap();
    stand.settled("other", "Ruanqian", json!({})).await;
    stand.ask("other").await;
    assert_eq!(adds(&stand), 3, "the other contact");
    let now = contacts.get("stalled").await.unwrap();
    assert_eq!(now.data["status"], object.data["status"]);

    request(&stand.contacts(), "stalled", "please, once more").await;
    handled(&stand, "stalled", "please, once more").await;
    let object = stand.becomes("stalled", "Ready", "InSync").await;
    assert!(object.data["status"].get("lastError").is_none());
    assert_eq!(adds(&stand), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_change_is_tried_again_when_asked_for() {
    let stand = Stand::new().await;
    let id = stand.settled("refused", "Shixin", json!({})).await;
    let refused = FaultKind::error(400, "InvalidParameter.Title");
    stand.simulator.fault(Fault::on("UpdateMessageContact", refused));
    stand.apply("refused", "Shixin", json!({ "title": "CEO" })).await;
    let object = stand.becomes("refused", "Stalled", "InvalidContact").await;
    assert_eq!(object.data["status"]["contactId"], json!(id));
    let object = stand.ask("refused").await;
    assert_eq!(condition_of(&object, "Ready")["reason"], "InSync");
    assert_eq!(stand.in_cloud(&id).title, "CEO");
    assert_eq!(stand.simulator.counts().of("UpdateMessageContact"), 2);
    assert_eq!(adds(&stand), 1);
}

/// It once counted as handled by the pass in which it came, which had begun without it.
#[tokio::test(flavor = "multi_thread")]
async fn a_text_that_comes_during_a_refused_call_is_not_lost() {
    let stand = Stand::new().await;
    let id = stand.settled("timely", "Jinge", json!({})).await;
    stand.simulator.latency(Duration::from_secs(1));
    let refused = FaultKind::error(400, "InvalidParameter.Title");
    stand.simulator.fault(Fault::on("UpdateMessageContact", refused));
    stand.apply("timely", "Jinge", json!({ "title": "CEO" })).await;
    let in_flight = |sim: &Simulator| sim.faults().is_empty().then_some(());
    stand.cloud("the call that is refused is on its way", in_flight).await;
    request(&stand.contacts(), "timely", "just now").await;
    handled(&stand, "timely", "just now").await;
    stand.becomes("timely", "Ready", "InSync").await;
    assert_eq!(stand.in_cloud(&id).title, "CEO");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_128_bytes_of_a_text_are_echoed() {
    let stand = Stand::new().await;
    stand.settled("echo", "Weilai", json!({})).await;
    // Three bytes a character: the 43rd would end behind the 128th byte.
    let long = "时".repeat(200);
    request(&stand.contacts(), "echo", &long).await;
    let object = handled(&stand, "echo", &"时".repeat(42)).await;
    let lists = stand.simulator.counts().of("ListMessageContacts");
    assert_eq!(condition_of(&object, "Ready")["reason"], "InSync");

    // What differs behind them is the same text.
    request(&stand.contacts(), "echo", &"时".repeat(201)).await;
    stand.settled("later", "Weiran", json!({})).await;
    let polls = lists + 1;
    assert!(stand.simulator.counts().of("ListMessageContacts") <= polls, "no list was asked for");
    request(&stand.contacts(), "echo", "short").await;
    handled(&stand, "echo", "short").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_that_was_there_from_the_start_is_echoed_too() {
    let stand = Stand::new().await;
    let mut manifest = stand.manifest("born", "Yinuo", json!({}));
    manifest["metadata"]["annotations"] = json!({ "message-contacts.dev/requestedAt": "at birth" });
    crate::stand::apply(&stand.contacts(), &manifest).await.unwrap();
    let object = stand.becomes("born", "Ready", "InSync").await;
    assert_eq!(object.data["status"]["lastHandledReconcileAt"], "at birth");
    assert_eq!(adds(&stand), 1);
}
