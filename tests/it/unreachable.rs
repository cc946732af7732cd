//! The directory does not answer, or not as it should: said on it, and over when it is over.

use directory_simulator::{ACCESS_KEY_ID, ACCESS_KEY_SECRET, Fault, FaultKind, Key, Options};
use kube::api::DeleteParams;
use serde_json::json;

use crate::stand::{Stand, assert_stalled, deaf_endpoint, message_of};

const READS: [&str; 5] = [
    "GetResourceDirectory",
    "ListMessageContacts",
    "GetMessageContact",
    "ListMessageContactVerifications",
    "GetMessageContactDeletionStatus",
];

/// The operator's key may call all of these but one.
pub fn forbid(stand: &Stand, action: &str) {
    let writes = ["AddMessageContact", "UpdateMessageContact", "DeleteMessageContact"];
    let all = READS.iter().chain(&writes).copied();
    let others: Vec<_> = all.filter(|known| *known != action).collect();
    stand.simulator.add_key(Key::new(ACCESS_KEY_ID, ACCESS_KEY_SECRET).only(&others));
}

pub fn permit_all(stand: &Stand) {
    stand.simulator.add_key(Key::new(ACCESS_KEY_ID, ACCESS_KEY_SECRET));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_connection_is_told_by_what_changed_alone_and_recovers() {
    let stand = Stand::new().await;
    stand.apply("changed", "Jingke", json!({})).await;
    stand.apply("resting", "Gaojianli", json!({})).await;
    stand.becomes("changed", "Ready", "InSync").await;
    let resting = stand.becomes("resting", "Ready", "InSync").await;

    let cut = FaultKind::Reset { executed: false };
    stand.simulator.fault(Fault::any(cut).times(u32::MAX));
    stand.ask_directory().await;
    stand.directory_becomes("Ready", "Unreachable").await;
    stand.apply("changed", "Jingke", json!({ "title": "CEO" })).await;
    let object = stand.becomes("changed", "Synced", "CloudUnavailable").await;
    assert_stalled(&object, false);

    stand.simulator.clear_faults();
    stand.directory_becomes("Ready", "Connected").await;
    stand.becomes("changed", "Ready", "InSync").await;
    let after = stand.object("resting").await;
    assert_eq!(after.metadata.resource_version, resting.metadata.resource_version);
    assert_eq!(stand.simulator.state().contacts.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_at_which_nobody_listens_is_unreachable() {
    let stand = Stand::unconnected(Options::default()).await;
    let (_socket, endpoint) = deaf_endpoint();
    stand.apply_directory(json!({ "endpoint": endpoint })).await;
    stand.apply("early", "Nieyinian", json!({})).await;
    let directory = stand.directory_becomes("Ready", "Unreachable").await;
    assert_stalled(&directory, false);
    let object = stand.becomes("early", "Synced", "DirectoryNotReady").await;
    assert_stalled(&object, false);
    assert_eq!(stand.simulator.counts().calls, 0);

    stand.apply_directory(json!({})).await;
    stand.directory_becomes("Ready", "Connected").await;
    stand.becomes("early", "Ready", "InSync").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_permission_to_read_is_named_on_the_directory() {
    for action in ["GetResourceDirectory", "ListMessageContacts"] {
        let stand = Stand::unconnected(Options::default()).await;
        forbid(&stand, action);
        stand.apply_directory(json!({})).await;
        let directory = stand.directory_becomes("Ready", "Forbidden").await;
        let message = message_of(&directory, "Ready");
        assert!(message.contains(&format!("resourcemanager:{action}")), "{message}");
        stand.apply("reader", "Yurang", json!({})).await;
        stand.becomes("reader", "Synced", "DirectoryNotReady").await;

        permit_all(&stand);
        stand.ask_directory().await;
        stand.directory_becomes("Ready", "Connected").await;
        stand.becomes("reader", "Ready", "InSync").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_permission_to_write_is_named_on_the_contact() {
    let stand = Stand::new().await;
    stand.apply("there", "Caomozi", json!({})).await;
    stand.becomes("there", "Ready", "InSync").await;
    let check = async |action: &str, object: &str| {
        let found = stand.becomes(object, "Synced", "Unauthorized").await;
        let message = message_of(&found, "Synced");
        assert!(message.contains(&format!("resourcemanager:{action}")), "{message}");
        assert!(found.data["status"].get("creation").is_none(), "nothing was made");
        permit_all(&stand);
        stand.ask(object).await;
        stand.becomes(object, "Ready", "InSync").await;
    };
    forbid(&stand, "AddMessageContact");
    stand.apply("added", "Zhuanzhu", json!({})).await;
    check("AddMessageContact", "added").await;
    forbid(&stand, "UpdateMessageContact");
    stand.apply("there", "Caomozi", json!({ "title": "CEO" })).await;
    check("UpdateMessageContact", "there").await;
    stand.directory_becomes("Ready", "Connected").await;

    forbid(&stand, "DeleteMessageContact");
    stand.delete("added").await;
    let found = stand.becomes("added", "Synced", "Unauthorized").await;
    assert!(message_of(&found, "Synced").contains("resourcemanager:DeleteMessageContact"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_clock_is_told_and_its_correction_noticed() {
    let stand = Stand::unconnected(Options::default()).await;
    let skew = FaultKind::ClockSkew { seconds: 3600 };
    stand.simulator.fault(Fault::any(skew).times(u32::MAX));
    stand.apply_directory(json!({})).await;
    stand.directory_becomes("Ready", "ClockSkewed").await;
    stand.simulator.clear_faults();
    stand.directory_becomes("Ready", "Connected").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_without_a_directory_is_told_and_enabling_it_noticed() {
    let stand = Stand::unconnected(Options::default()).await;
    stand.simulator.in_use(false);
    stand.apply_directory(json!({})).await;
    stand.directory_becomes("Ready", "NoDirectory").await;
    stand.apply("waiting", "Yaoliwu", json!({})).await;
    stand.becomes("waiting", "Synced", "DirectoryNotReady").await;
    stand.simulator.in_use(true);
    stand.directory_becomes("Ready", "Connected").await;
    stand.becomes("waiting", "Ready", "InSync").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_written_to_another_directory_than_the_pinned_one() {
    let mut stand = Stand::new().await;
    stand.apply("pinned", "Mengtian", json!({})).await;
    stand.becomes("pinned", "Ready", "InSync").await;
    let writes = stand.simulator.counts().writes;
    let reached = stand.object_of_directory().await.data["status"]["directoryId"].clone();

    // The near match: the id that is reached, and one letter more.
    let pin = format!("{}x", reached.as_str().unwrap());
    stand.apply_directory(json!({ "directoryId": pin })).await;
    stand.directory_becomes("Ready", "DirectoryChanged").await;
    stand.apply("pinned", "Mengtian", json!({ "title": "CEO" })).await;
    stand.apply("fresh", "Fusuyan", json!({})).await;
    for object in ["pinned", "fresh"] {
        stand.becomes(object, "Synced", "DirectoryNotReady").await;
        stand.ask(object).await;
    }
    assert_eq!(stand.simulator.counts().of("AddMessageContact"), 1);
    assert_eq!(stand.simulator.counts().writes, writes);

    // It does not keep the directory from another object either.
    let mispinned = stand.directory.clone();
    stand.directory = format!("{mispinned}-second");
    stand.apply_directory(json!({ "directoryId": reached })).await;
    stand.directory_becomes("Ready", "Connected").await;
    stand.directories().delete(&stand.directory, &DeleteParams::default()).await.unwrap();
    stand.directory = mispinned;

    stand.apply_directory(json!({ "directoryId": reached })).await;
    stand.directory_becomes("Ready", "Connected").await;
    for object in ["pinned", "fresh"] {
        stand.becomes(object, "Ready", "InSync").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_directory_is_neither_read_nor_written() {
    let stand = Stand::new().await;
    stand.apply("paused", "Zhanghan", json!({})).await;
    stand.becomes("paused", "Ready", "InSync").await;
    stand.apply_directory(json!({ "suspend": true })).await;
    let directory = stand.directory_becomes("Ready", "Suspended").await;
    assert_eq!(directory.data["status"]["conditions"].as_array().map(Vec::len), Some(1));
    stand.apply("paused", "Zhanghan", json!({ "title": "CEO" })).await;
    stand.becomes("paused", "Synced", "DirectoryNotReady").await;
    let calls = stand.simulator.counts().calls;
    stand.ask("paused").await;
    stand.ask_directory().await;
    assert_eq!(stand.simulator.counts().calls, calls);

    stand.apply_directory(json!({})).await;
    stand.directory_becomes("Ready", "Connected").await;
    stand.becomes("paused", "Ready", "InSync").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_goes_on_awaits_the_call_that_was_in_flight() {
    let stand = Stand::with(Options::default(), json!({ "pollInterval": "5m" })).await;
    stand.simulator.fault(Fault::on("AddMessageContact", FaultKind::Hang { executed: true }));
    stand.apply("flying", "Zhongwuyan", json!({})).await;
    let in_flight = |it: &directory_simulator::Simulator| (it.calls_in_flight() == 1).then_some(());
    stand.cloud("an Add hangs", |it| in_flight(it).filter(|()| it.faults().is_empty())).await;
    let calls = stand.simulator.counts().calls;
    for _ in 0..2 {
        stand.apply_directory(json!({ "suspend": true })).await;
        stand.directory_becomes("Ready", "Suspended").await;
        stand.apply_directory(json!({ "pollInterval": "5m" })).await;
        stand.directory_becomes("Ready", "Pending").await;
    }
    assert_eq!(stand.simulator.calls_in_flight(), 1);
    assert_eq!(stand.simulator.counts().calls, calls);
    stand.simulator.release_hanging();
    stand.directory_becomes("Ready", "Connected").await;
    stand.becomes("flying", "Ready", "InSync").await;
    assert_eq!(stand.simulator.counts().of("AddMessageContact"), 1);
    assert_eq!(stand.simulator.counts().in_flight_max, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_objects_for_one_directory_the_second_waits_for_the_first() {
    let mut stand = Stand::with(Options::default(), json!({ "pollInterval": "5m" })).await;
    stand.settled("first", "Ximenbao", json!({})).await;
    let of_first = stand.object_of_directory().await;
    let first = stand.directory.clone();
    stand.directory = format!("{first}-second");
    stand.apply_directory(json!({})).await;
    let object = stand.directory_becomes("Ready", "DuplicateDirectory").await;
    let message = message_of(&object, "Ready");
    assert!(message.contains(&format!("`{first}`")), "{message}");
    assert_eq!(object.data["status"]["directoryId"], of_first.data["status"]["directoryId"]);
    stand.apply("second", "Liangqiu", json!({})).await;
    stand.becomes("second", "Synced", "DirectoryNotReady").await;
    stand.ask("second").await;
    stand.ask_directory().await;
    assert_eq!(stand.simulator.counts().of("AddMessageContact"), 1);
    let to_first = json!({ "directoryRef": { "name": first }, "title": "CEO" });
    stand.apply("first", "Ximenbao", to_first).await;
    stand.becomes("first", "Ready", "InSync").await;
    assert_eq!(stand.simulator.counts().of("UpdateMessageContact"), 1);

    // It keeps the directory as long as its contact needs it.
    stand.directories().delete(&first, &DeleteParams::default()).await.unwrap();
    stand.becomes("first", "Synced", "DirectoryNotReady").await;
    stand.ask_directory().await;
    stand.directory_becomes("Ready", "DuplicateDirectory").await;
    stand.delete("first").await;
    stand.is_gone("first").await;
    stand.directory_becomes("Ready", "Connected").await;
    stand.becomes("second", "Ready", "InSync").await;
    let left = stand.simulator.state();
    assert!(left.named("Liangqiu").is_some() && left.contacts.len() == 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_is_admitted_by_its_labels() {
    let stand = Stand::unconnected(Options::default()).await;
    // Without a selector only the operator's own namespace is.
    stand.apply_directory(json!({ "namespaces": null })).await;
    stand.directory_becomes("Ready", "Connected").await;
    stand.apply("guest", "Xiangbo", json!({})).await;
    stand.becomes("guest", "Synced", "NamespaceNotAllowed").await;

    // The near match: another value of the label.
    stand.label_namespace(json!({ "team": "blueish" })).await;
    stand.apply_directory(json!({ "namespaces": { "matchLabels": { "team": "blue" } } })).await;
    let object = stand.ask("guest").await;
    assert_stalled(&object, true);
    assert_eq!(stand.simulator.counts().of("AddMessageContact"), 0);
    stand.label_namespace(json!({ "team": "blue" })).await;
    stand.becomes("guest", "Ready", "InSync").await;

    // What was made while it was admitted can still be deleted, and nothing else be done.
    stand.label_namespace(json!({ "team": null })).await;
    stand.becomes("guest", "Synced", "NamespaceNotAllowed").await;
    stand.apply("guest", "Xiangbo", json!({ "title": "CEO" })).await;
    stand.ask("guest").await;
    assert_eq!(stand.simulator.counts().of("UpdateMessageContact"), 0);
    stand.delete("guest").await;
    stand.is_gone("guest").await;
    assert!(stand.simulator.state().contacts.is_empty());
}
