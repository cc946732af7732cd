//! What somebody else changes in the cloud is put right, or only reported, and never fought over.

use std::time::Duration;

use directory_simulator::{Contact, ContactChange, Fault, FaultKind};
use kube::api::DynamicObject;
use serde_json::{Value, json};

use crate::stand::{Stand, condition_of};

fn reason(object: &DynamicObject) -> Value {
    condition_of(object, "Synced")["reason"].clone()
}

fn titled(title: &str) -> ContactChange {
    ContactChange { title: Some(title.to_owned()), ..ContactChange::default() }
}

/// The fields that were put right within the hour, and how often.
pub fn remembered(object: &DynamicObject) -> Vec<(String, usize)> {
    let entries = object.data["status"]["drift"].as_array().cloned().unwrap_or_default();
    let times = |entry: &Value| entry["reverts"].as_array().map_or(0, Vec::len);
    let known = |entry: &Value| (entry["field"].as_str().unwrap().to_owned(), times(entry));
    entries.iter().map(known).filter(|(_, times)| *times > 0).collect()
}

/// What the contact is told of a person, whether confirmed or not.
fn values(contact: &Contact) -> (String, Option<String>, Option<String>) {
    let newest = |channel: &directory_simulator::Channel| {
        let pending = channel.pending.as_ref().map(|pending| pending.value.clone());
        pending.or_else(|| channel.effective.clone())
    };
    (contact.name.clone(), newest(&contact.email), newest(&contact.phone))
}

#[tokio::test(flavor = "multi_thread")]
async fn each_field_that_an_outsider_changes_is_put_right_with_one_call() {
    let stand = Stand::new().await;
    let phone = json!({ "phoneNumber": "86-13800138011" });
    let id = stand.settled("drift", "Fengchao", phone).await;
    let bystander = stand.bystander("Fengchaoyu");
    let ours = stand.in_cloud(&id);
    let change = ContactChange::default;
    for (outsider, sent) in [
        (titled("Other"), "Title"),
        (
            ContactChange { message_types: Some(vec!["FaultMessage".into()]), ..change() },
            "MessageTypes",
        ),
        (ContactChange { name: Some("Fengchaolin".into()), ..change() }, "Name"),
        (ContactChange { email: Some("else@example.com".into()), ..change() }, "EmailAddress"),
        (ContactChange { phone: Some("86-13800138012".into()), ..change() }, "PhoneNumber"),
        (ContactChange { name: Some("Fengchaomin".into()), ..titled("CEO") }, "Name Title"),
    ] {
        let mark = stand.mark();
        assert!(stand.simulator.change_contact(&id, outsider));
        let object = stand.ask("drift").await;
        assert_eq!(reason(&object), "InSync", "{sent}");
        assert!(remembered(&object).iter().all(|(_, times)| *times <= 2), "{sent}");
        let calls = stand.calls_since(mark);
        let written: Vec<_> = calls.iter().filter(|call| call.starts_with("Update")).collect();
        assert_eq!(written, [&format!("UpdateMessageContact {sent}")]);
        let now = stand.in_cloud(&id);
        assert_eq!(values(&now), values(&ours), "{sent}");
        assert_eq!(
            (now.title, now.message_types),
            (ours.title.clone(), ours.message_types.clone())
        );
    }
    // What was put right is remembered for an hour, masked.
    let object = stand.object("drift").await;
    let mut counts = remembered(&object);
    counts.sort();
    let expected =
        [("emailAddress", 1), ("messageTypes", 1), ("name", 2), ("phoneNumber", 1), ("title", 2)];
    assert_eq!(counts, expected.map(|(field, times)| (field.to_owned(), times)));
    let drift = object.data["status"]["drift"].to_string();
    assert!(drift.contains("e***@example.com") && drift.contains("86-138****8012"), "{drift}");
    stand.is_untouched(&bystander);
}

#[tokio::test(flavor = "multi_thread")]
async fn under_report_only_the_differences_stand_masked_in_the_status() {
    let stand = Stand::new().await;
    let report = json!({ "reconcilePolicy": "ReportOnly", "phoneNumber": "86-13800138013" });
    let id = stand.settled("watched", "Jiangnan", json!({ "phoneNumber": "86-13800138013" })).await;
    stand.apply("watched", "Jiangnan", report).await;
    stand.becomes("watched", "Ready", "InSync").await;
    let outsider = ContactChange {
        email: Some("intruder@example.com".to_owned()),
        phone: Some("86-13900139014".to_owned()),
        message_types: Some(vec!["ServiceMessage".to_owned()]),
        ..titled("Other")
    };
    let mark = stand.mark();
    assert!(stand.simulator.change_contact(&id, outsider));
    stand.ask_directory().await;
    let object = stand.becomes("watched", "Ready", "Drifted").await;
    let entries = object.data["status"]["drift"].as_array().unwrap();
    let shown: Vec<_> = entries
        .iter()
        .map(|entry| {
            assert!(entry["since"].is_string());
            [&entry["field"], &entry["desired"], &entry["observed"]]
                .map(|text| text.as_str().unwrap())
        })
        .collect();
    let expected = [
        ["title", "TechnicalDirector", "Other"],
        ["emailAddress", "w***@example.com", "i***@example.com"],
        ["phoneNumber", "86-138****8013", "86-139****9014"],
        ["messageTypes", "FaultMessage, SecurityMessage", "ServiceMessage"],
    ];
    assert_eq!(shown, expected);
    let text = object.data["status"].to_string();
    assert!(!text.contains("intruder@") && !text.contains("13900139014"), "{text}");
    let asked = stand.ask("watched").await;
    assert_eq!(asked.data["status"]["drift"], object.data["status"]["drift"], "`since` stays");
    let reads = ["List", "Get"];
    let read = |call: &String| reads.iter().any(|read| call.starts_with(read));
    assert!(stand.calls_since(mark).iter().all(read));

    stand.apply("watched", "Jiangnan", json!({ "phoneNumber": "86-13800138013" })).await;
    let object = stand.becomes("watched", "Ready", "InSync").await;
    assert_eq!(remembered(&object).len(), 4, "put right, as nobody wants it in the spec");
    let update = "UpdateMessageContact EmailAddress MessageTypes PhoneNumber Title";
    let mut calls = stand.calls_since(mark);
    calls.retain(|call| call.starts_with("Update"));
    assert_eq!(calls, [update]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cloud_that_takes_a_change_and_keeps_its_value_is_reported_and_not_asked_again() {
    let stand = Stand::new().await;
    let id = stand.settled("stubborn", "Heqian", json!({})).await;
    let nothing = FaultKind::Raw {
        status: 200,
        headers: Vec::new(),
        body: r#"{"RequestId":"51A00000-0000-4000-8000-00000000000F"}"#.to_owned(),
        repeat: 1,
        executed: false,
    };
    stand.simulator.fault(Fault::on("UpdateMessageContact", nothing).times(100));
    let mark = stand.mark();
    assert!(stand.simulator.change_contact(&id, titled("CEO")));
    stand.ask_directory().await;
    let object = stand.becomes("stubborn", "Ready", "DriftContested").await;
    assert_eq!(object.data["status"]["drift"][0]["field"], "title");
    // Read before it is believed, as the list may be late, and after each write.
    let twice = ["GetMessageContact", "UpdateMessageContact Title"].repeat(2);
    assert_eq!(stand.calls_since(mark), [twice, vec!["GetMessageContact"]].concat());
    for _ in 0..2 {
        stand.ask_directory().await;
    }
    // Something new in the cloud wakes the object, and is nothing else to write.
    assert!(stand.simulator.change_contact(&id, titled("Other")));
    stand.ask_directory().await;
    stand
        .sees("stubborn", "the new title is seen", |object| {
            object.data["status"]["drift"][0]["observed"] == "Other"
        })
        .await;
    assert_eq!(stand.simulator.counts().of("UpdateMessageContact"), 2);

    // Somebody has found out why, and asks for another try.
    stand.simulator.clear_faults();
    let object = stand.ask("stubborn").await;
    assert_eq!(reason(&object), "InSync");
    assert_eq!(stand.in_cloud(&id).title, "TechnicalDirector");
    assert_eq!(stand.simulator.counts().of("UpdateMessageContact"), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_who_changes_a_field_back_at_once_is_reported_and_not_fought() {
    let stand = Stand::new().await;
    let id = stand.settled("fought", "Nieyun", json!({})).await;
    let slowly = FaultKind::Delay { before_ms: 600, after_ms: 0 };
    stand.simulator.fault(Fault::on("GetMessageContact", slowly).times(3));
    assert!(stand.simulator.change_contact(&id, titled("CEO")));
    let outsider = async {
        for round in 1..=2 {
            let written = "a write that is changed back before it is read";
            let updates = |count| {
                move |sim: &directory_simulator::Simulator| {
                    (sim.counts().of("UpdateMessageContact") == count).then_some(())
                }
            };
            stand.cloud(written, updates(round)).await;
            assert!(stand.simulator.change_contact(&id, titled("CEO")));
        }
    };
    let contested = async {
        stand.ask_directory().await;
        stand.becomes("fought", "Ready", "DriftContested").await;
    };
    tokio::time::timeout(Duration::from_mins(1), async { tokio::join!(outsider, contested) })
        .await
        .unwrap();
    stand.ask_directory().await;
    assert_eq!(stand.simulator.counts().of("UpdateMessageContact"), 2);

    // The other side gives in.
    assert!(stand.simulator.change_contact(&id, titled("TechnicalDirector")));
    stand.ask_directory().await;
    let object = stand.becomes("fought", "Ready", "InSync").await;
    assert_eq!(remembered(&object), [("title".to_owned(), 2)]);
    assert_eq!(stand.simulator.counts().of("UpdateMessageContact"), 2);
}
