//! The cloud is ill: answers without sense, from the service or from something before it.

use directory_simulator::{Fault, FaultKind};
use futures::future::join_all;
use serde_json::{Value, json};

use crate::lost_answers::{changed_once, created_once, deleted_once};
use crate::stand::{Stand, condition_of};

/// Answers that do not tell whether the call was done.
fn answers(executed: bool) -> Vec<FaultKind> {
    let hint = ("x-acs-retry-after".to_owned(), "400".to_owned());
    let error = |status, code: &str, headers| FaultKind::Error {
        status,
        code: code.to_owned(),
        headers,
        executed,
    };
    vec![
        FaultKind::empty_500(executed),
        FaultKind::html_502(executed),
        error(503, "ServiceUnavailable", Vec::new()),
        error(500, "InternalError", Vec::new()),
        // A hint to slow down does not say that nothing was done.
        error(503, "ServiceUnavailable", vec![hint]),
    ]
}

/// That an Add which was not done is repeated after a minute is a story of `lost_answers`.
#[tokio::test(flavor = "multi_thread")]
async fn a_create_that_was_done_and_answered_with_an_error_is_found_and_not_repeated() {
    join_all(answers(true).into_iter().map(created_once)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_was_answered_with_an_error_is_read_before_anything_is_repeated() {
    join_all(answers(true).into_iter().map(|kind| changed_once(kind, true))).await;
    join_all(answers(false).into_iter().map(|kind| changed_once(kind, false))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_that_was_answered_with_an_error_is_read_before_anything_is_repeated() {
    join_all(answers(true).into_iter().map(|kind| deleted_once(kind, true))).await;
    join_all(answers(false).into_iter().map(|kind| deleted_once(kind, false))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_that_fails_is_read_again_and_nothing_is_written_meanwhile() {
    let stand = Stand::new().await;
    stand.apply("read", "Rui", json!({})).await;
    stand.becomes("read", "Ready", "InSync").await;
    let calls = stand.simulator.counts().calls;
    for kind in answers(false).into_iter().take(2) {
        stand.simulator.fault(Fault::on("GetMessageContact", kind));
    }
    stand.apply("read", "Rui", json!({ "title": "CEO" })).await;
    let object = stand.becomes("read", "Synced", "CloudUnavailable").await;
    assert_eq!(condition_of(&object, "Reconciling")["status"], "True");
    stand.becomes("read", "Ready", "InSync").await;
    let actions = stand.actions_since(calls);
    let count = |action: &str| actions.iter().filter(|it| *it == action).count();
    assert_eq!((count("UpdateMessageContact"), count("GetMessageContact")), (1, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_fails_makes_no_contact_gone() {
    let stand = Stand::new().await;
    stand.apply("listed", "Shan", json!({})).await;
    let before = stand.becomes("listed", "Ready", "InSync").await;
    // Longer than the directory's first tries.
    stand.simulator.fault(Fault::on("ListMessageContacts", FaultKind::html_502(false)).times(3));
    stand.ask_directory().await;
    stand.directory_becomes("Ready", "Unreachable").await;
    let during = stand.contacts().get("listed").await.unwrap();
    assert_eq!(during.data["status"]["contactId"], before.data["status"]["contactId"]);
    stand.directory_becomes("Ready", "Connected").await;
    let after = stand.ask("listed").await;
    assert_eq!(condition_of(&after, "Ready")["reason"], "InSync");
    assert_eq!(stand.simulator.counts().writes, 1);
    assert_eq!(stand.simulator.state().contacts.len(), 1);
}

/// The page of a proxy says 404 and is not the cloud's word that a contact does not exist.
#[tokio::test(flavor = "multi_thread")]
async fn a_404_of_a_proxy_makes_no_contact_gone() {
    let stand = Stand::new().await;
    stand.apply("proxied", "Tian", json!({})).await;
    let before = stand.becomes("proxied", "Ready", "InSync").await;
    let page = FaultKind::Raw {
        status: 404,
        headers: vec![("Content-Type".to_owned(), "text/html".to_owned())],
        body: "<html><h1>404 Not Found</h1></html>".to_owned(),
        repeat: 1,
        executed: false,
    };
    stand.simulator.fault(Fault::on("GetMessageContact", page));
    stand.apply("proxied", "Tian", json!({ "title": "CEO" })).await;
    stand.becomes("proxied", "Synced", "CloudUnavailable").await;
    let object = stand.ask("proxied").await;
    assert_eq!(condition_of(&object, "Ready")["reason"], "InSync");
    assert_eq!(object.data["status"]["contactId"], before.data["status"]["contactId"]);
    assert_eq!(stand.simulator.counts().of("AddMessageContact"), 1);
    assert_eq!(stand.simulator.state().contacts.len(), 1);
    assert_eq!(condition_of(&object, "Stalled"), Value::Null);
}
