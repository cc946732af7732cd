//! What a person applied is what is stored: tools that compare see no difference, ever.

use directory_simulator::ContactChange;
use kube::api::DynamicObject;
use serde_json::{Value, json};

use crate::stand::{Stand, apply};

/// The stored spec is the applied one, and the operator owns nothing outside of status and its
/// finalizer.
fn is_untouched(object: &DynamicObject, applied: &Value) {
    assert_eq!(object.data["spec"], applied["spec"]);
    let managed = object.metadata.managed_fields.clone().unwrap_or_default();
    let ours = managed
        .into_iter()
        .filter(|entry| entry.manager.as_deref() == Some("message-contact-operator"));
    let mut fields = 0;
    for entry in ours {
        let owned = serde_json::to_value(&entry.fields_v1).unwrap();
        let roots: Vec<_> = owned.as_object().into_iter().flatten().map(|(key, _)| key).collect();
        let allowed = |root: &&String| ["f:status", "f:metadata"].contains(&root.as_str());
        assert!(roots.iter().all(allowed), "{owned}");
        if let Some(metadata) = owned["f:metadata"].as_object() {
            assert_eq!(metadata.keys().collect::<Vec<_>>(), ["f:finalizers"], "{owned}");
        }
        fields += roots.len();
    }
    assert!(fields > 0, "the operator has written something");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_operation_writes_into_a_contacts_spec() {
    let stand = Stand::new().await;
    // The least that may be written, and everything that may: no default appears.
    let least = stand.manifest("least", "Guanzhong", json!({ "readyWhen": null }));
    let most = json!({
        "phoneNumber": "86-13800138021",
        "messageTypes": ["ServiceMessage", "FaultMessage", "AccountExpenses"],
        "members": [],
        "reconcilePolicy": "Enforce",
        "adoptionPolicy": "Never",
        "deletionPolicy": "Delete",
        "retainInMembers": false,
        "verification": { "send": "Never", "resendAfter": "48h", "maxSends": 3 },
        "suspend": false,
    });
    let mut most = stand.manifest("most", "Baoshuya", most);
    let check = async |least: &Value, most: &Value| {
        for (object, manifest) in [("least", least), ("most", most)] {
            stand.becomes(object, "Synced", "InSync").await;
            is_untouched(&stand.ask(object).await, manifest);
        }
    };
    apply(&stand.contacts(), &least).await.unwrap();
    apply(&stand.contacts(), &most).await.unwrap();
    check(&least, &most).await;

    // Changed by its owner, then by somebody else in the cloud.
    most["spec"]["messageTypes"] = json!(["ProductMessage", "ActivityMessage"]);
    most["spec"]["name"] = json!("Baoshu");
    apply(&stand.contacts(), &most).await.unwrap();
    check(&least, &most).await;
    let id = stand.simulator.state().named("Guanzhong").unwrap().id.clone();
    let title = Some("CEO".to_owned());
    stand.simulator.change_contact(&id, ContactChange { title, ..Default::default() });
    stand.ask_directory().await;
    stand
        .cloud("the title is put right", |cloud| {
            (cloud.state().contact(&id)?.title == "TechnicalDirector").then_some(())
        })
        .await;
    check(&least, &most).await;

    most["spec"]["suspend"] = json!(true);
    apply(&stand.contacts(), &most).await.unwrap();
    is_untouched(&stand.becomes("most", "Synced", "Suspended").await, &most);

    // Being deleted changes nothing either.
    stand.simulator.hold();
    stand.delete("least").await;
    stand
        .cloud("the deletion is held up", |cloud| {
            (cloud.counts().ended("ConcurrentCallNotSupported") > 0).then_some(())
        })
        .await;
    is_untouched(&stand.object("least").await, &least);
    stand.simulator.release();
    stand.is_gone("least").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_operation_writes_into_a_directorys_spec() {
    let stand = Stand::new().await;
    let applied = stand.object_of_directory().await.data["spec"].clone();
    stand.apply("other", "Yanying", json!({})).await;
    stand.becomes("other", "Ready", "InSync").await;
    let object = stand.ask_directory().await;
    is_untouched(&object, &json!({ "spec": applied }));
    let keys: Vec<_> = object.data["spec"].as_object().unwrap().keys().collect();
    assert_eq!(keys, ["endpoint", "namespaces", "pollInterval", "requestsPerSecond"]);
}
