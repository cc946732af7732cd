//! A contact in git becomes a contact in the cloud.

use cluster::By;
use serde_json::json;

use crate::stand::Stand;

#[tokio::test(flavor = "multi_thread")]
async fn an_applied_contact_is_created_and_reported() {
    let stand = Stand::new().await;
    let mark = stand.cluster.audit().mark().unwrap();
    stand.apply("oncall", "Zhang", json!({ "phoneNumber": "86-13800138000" })).await;
    let object = stand.becomes("oncall", "Ready", "InSync").await;

    let state = stand.simulator.state();
    let contact = state.named("Zhang").unwrap();
    let status = &object.data["status"];
    assert_eq!(status["contactId"], json!(contact.id));
    assert_eq!(status["observed"]["emailAddress"], "o***@example.com");
    assert_eq!(status["observed"]["phoneNumber"], "86-138****8000");
    assert!(status.get("creation").is_none(), "the intent is settled: {status}");
    assert_eq!(stand.simulator.counts().of("AddMessageContact"), 1);

    let writes = stand.cluster.audit().writes(mark, By::UserAgent("message-contact-operator"));
    let ours: Vec<_> = writes
        .unwrap()
        .into_iter()
        .filter(|write| write.namespace == stand.namespace && write.resource == "messagecontacts")
        .collect();
    assert!(ours.len() <= 4, "{} writes: {ours:#?}", ours.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_order_of_message_types_is_no_difference() {
    let stand = Stand::new().await;
    stand.apply("order", "Order", json!({})).await;
    stand.becomes("order", "Ready", "InSync").await;
    let fields = json!({ "messageTypes": ["FaultMessage", "SecurityMessage"] });
    stand.apply("order", "Order", fields).await;
    stand.becomes("order", "Ready", "InSync").await;
    assert_eq!(stand.simulator.counts().of("UpdateMessageContact"), 0);
}
