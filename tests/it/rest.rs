//! At rest nothing is written, however many contacts there are, and one change costs one call.

use std::time::Duration;

use cluster::{AuditEvent, By, Cluster, Mark};
use directory_simulator::{Fault, FaultKind, Options, Simulator};
use jiff::SignedDuration;
use kube::api::{Patch, PatchParams};
use message_contact_operator::clock::Clock;
use serde_json::json;

use crate::many::{self, bring_in, counted, name, roomy};
use crate::privacy;
use crate::stand::{self, PATIENCE, Stand, condition_of};
use crate::walk::Walk;

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_contacts_at_rest_cost_two_pages_a_poll_and_not_one_write() {
    static CLUSTER: tokio::sync::OnceCell<Cluster> = tokio::sync::OnceCell::const_new();
    privacy::listen();
    // An operator of its own, on a clock that is moved from poll to poll.
    let start = || Cluster::start(cluster::Options::default());
    let cluster = CLUSTER.get_or_try_init(start).await.unwrap();
    stand::prepare(cluster).await;
    let clock = Clock::system();
    let operator = tokio::spawn(stand::run_operator(many::operator_client(cluster), clock.clone()));
    let stand = Stand::on(cluster, roomy()).await;
    // Long enough for no poll to come by itself while the story takes its time.
    bring_in(&stand, 200, "1h").await;
    clock.advance(SignedDuration::from_secs(6));
    counted(&stand, 200).await;

    let mark = cluster.audit().mark().unwrap();
    stand.simulator.reset_counts();
    for _ in 0..3 {
        many::next_poll(&stand, &clock, Duration::from_mins(5), 2).await;
    }
    // Something to do at last, for one of them: whatever was still to come has come before it.
    let asked = json!({ "metadata": { "annotations": {
        "message-contacts.dev/requestedAt": "after three polls" } } });
    let contacts = stand.contacts();
    contacts.patch("rest-7", &PatchParams::default(), &Patch::Merge(&asked)).await.unwrap();
    cluster::wait_for(PATIENCE, "the request is handled", || async {
        let found = contacts.get("rest-7").await.map_err(|error| error.to_string())?;
        let status = &found.data["status"];
        let handled = status["lastHandledReconcileAt"] == "after three polls";
        if handled { Ok(()) } else { Err(status.to_string()) }
    })
    .await
    .unwrap();

    let counts = stand.simulator.counts();
    println!("three polls of 200 contacts, and one list for the request: {counts:?}");
    assert_eq!(counts.of("ListMessageContacts"), 3 * 2 + 2, "{counts:?}");
    assert_eq!((counts.calls, counts.writes), (3 * 2 + 2, 0), "{counts:?}");
    let writes = writes_of_ours(cluster, mark).await;
    let written: Vec<_> = writes.iter().map(|it| (&*it.resource, &*it.name)).collect();
    assert_eq!(written, [("messagecontacts", "rest-7")], "{writes:#?}");

    // An operator that begins anew takes nothing back, and asks for what it needs to know alone.
    operator.abort();
    let _ = operator.await;
    let mark = cluster.audit().mark().unwrap();
    stand.simulator.reset_counts();
    let operator = tokio::spawn(stand::run_operator(many::operator_client(cluster), clock.clone()));
    stand::request(&contacts, "rest-8", "after a restart").await;
    stand
        .sees("rest-8", "the request is handled", |found| {
            found.data["status"]["lastHandledReconcileAt"] == "after a restart"
        })
        .await;
    let counts = stand.simulator.counts();
    let once = |action: &str| counts.of(action) == 1;
    assert!(once("GetResourceDirectory") && counts.writes == 0, "{counts:?}");
    let writes = writes_of_ours(cluster, mark).await;
    let written: Vec<_> = writes.iter().map(|it| (&*it.resource, &*it.name)).collect();
    assert_eq!(written, [("messagecontacts", "rest-8")], "{writes:#?}");
    operator.abort();
}

/// What the operators have written since the mark. The line of a write may come a moment after what it
/// wrote.
async fn writes_of_ours(cluster: &Cluster, mark: Mark) -> Vec<AuditEvent> {
    let written = || async {
        let by_us = By::UserAgent("message-contact-operator");
        let writes = cluster.audit().writes(mark, by_us).unwrap();
        if writes.is_empty() { Err("none yet".to_owned()) } else { Ok(writes) }
    };
    cluster::wait_for(PATIENCE, "the write is in the audit log", written).await.unwrap()
}

/// It stayed `Ready`, and deaf: it read no Secret and answered nobody who asked.
#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_does_not_connect_after_a_restart_says_so_after_a_minute() {
    let mut walk = Walk::new(Options::default()).await;
    let id = walk.stand.settled("desk", "Kefu", json!({})).await;
    // Neither is a failure of the connection. Of the second one nothing else is told.
    for (status, code) in [(400, "Throttling.User"), (429, "ConcurrentCallNotSupported")] {
        for asked in [false, true] {
            let refusal = Fault::on("GetResourceDirectory", FaultKind::error(status, code));
            walk.stand.simulator.fault(refusal.times(u32::MAX));
            walk.stand.simulator.reset_counts();
            walk.restart().await;
            let stand = &walk.stand;
            let refused = |it: &Simulator| (it.counts().ended(code) > 1).then_some(());
            stand.cloud("it is refused", refused).await;
            // What was said before stands for a moment.
            let directory = stand.object_of_directory().await;
            assert_eq!(condition_of(&directory, "Ready")["status"], "True", "{code}");
            if asked {
                // Whoever asks is told how things stand.
                let text = format!("after {code}");
                stand::request(&stand.directories(), &stand.directory, &text).await;
                stand
                    .directory_sees("it is answered", |found| {
                        found.data["status"]["lastHandledReconcileAt"] == json!(text)
                    })
                    .await;
            } else {
                walk.later(SignedDuration::from_secs(60));
            }
            let directory = stand.directory_becomes("Ready", "Pending").await;
            assert_eq!(condition_of(&directory, "Ready")["status"], "Unknown", "{code}");
            let object = stand.becomes("desk", "Synced", "DirectoryNotReady").await;
            assert_eq!(object.data["status"]["contactId"], json!(id));
            assert_eq!(stand.simulator.counts().of("ListMessageContacts"), 0);

            stand.simulator.clear_faults();
            walk.later(SignedDuration::from_mins(5));
            stand.directory_becomes("Ready", "Connected").await;
            let object = stand.becomes("desk", "Synced", "InSync").await;
            assert_eq!(object.data["status"]["contactId"], json!(id));
            assert_eq!(stand.simulator.counts().writes, 0);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn among_a_thousand_contacts_one_change_is_one_write_and_a_new_contact_one_add() {
    let stand = Stand::unconnected(roomy()).await;
    bring_in(&stand, 1_000, "24h").await;
    counted(&stand, 1_000).await;
    let before = stand.simulator.state().contacts;

    stand.simulator.reset_counts();
    let mark = stand.cluster.audit().mark().unwrap();
    stand.apply("rest-500", &name(500), json!({ "title": "CEO" })).await;
    stand.becomes("rest-500", "Synced", "InSync").await;
    let counts = stand.simulator.counts();
    let writes = ours(&stand, mark);
    println!("one change among 1,000: {counts:?}; {} writes to the apiserver", writes.len());
    assert_eq!((counts.of("UpdateMessageContact"), counts.writes), (1, 1), "{counts:?}");
    assert!(counts.calls <= 2, "{counts:?}");
    assert!(of_object(&writes) <= 2, "{writes:#?}");
    let after = stand.simulator.state().contacts;
    let changed: Vec<_> =
        before.iter().zip(&after).filter(|(before, after)| before != after).collect();
    assert_eq!(changed.len(), 1, "{changed:#?}");
    assert_eq!((&*changed[0].1.name, &*changed[0].1.title), (&*name(500), "CEO"));

    stand.simulator.reset_counts();
    let mark = stand.cluster.audit().mark().unwrap();
    stand.apply("newcomer", "Newcomer", json!({ "phoneNumber": "86-13800138071" })).await;
    stand.becomes("newcomer", "Synced", "InSync").await;
    let counts = stand.simulator.counts();
    let mut writes = ours(&stand, mark);
    // The change before is told of after its status is stored.
    writes.retain(|write| !write.name.starts_with("rest-500."));
    println!(
        "a new contact among 1,000: {counts:?}; {} writes to the apiserver, {} of them to the object",
        writes.len(),
        of_object(&writes)
    );
    assert_eq!((counts.of("AddMessageContact"), counts.writes), (1, 1), "{counts:?}");
    assert!(of_object(&writes) <= 3, "{writes:#?}");
    assert!(writes.len() <= 4, "{writes:#?}");
}

/// What the operator has written since then for this story.
fn ours(stand: &Stand, mark: Mark) -> Vec<AuditEvent> {
    let writes = stand.cluster.audit().writes(mark, By::UserAgent("message-contact-operator"));
    let mut writes = writes.unwrap();
    writes.retain(|it| it.namespace == stand.namespace || it.name == stand.directory);
    writes
}

fn of_object(writes: &[AuditEvent]) -> usize {
    writes.iter().filter(|write| write.resource == "messagecontacts").count()
}
