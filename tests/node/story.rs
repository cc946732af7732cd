//! The life of an installation.

use std::time::Duration;

use directory_simulator::{CallRecord, Click};
use jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::helm::Helm;
use crate::image;
use crate::stand::{NAMESPACE, PATIENCE, Stand, tell};

/// Longest time in which no write reaches the cloud while there is something to write, over a
/// rolling upgrade, on a machine that does nothing else.
const GAP_MAX: Duration = Duration::from_secs(2);

/// For what else the machine does, so many of the longest gaps that it has without an upgrade are
/// added: a hand-over has some more steps than a write.
const TIMES_USUAL: u32 = 3;

/// Contacts that change all the time.
const BUSY: [&str; 8] = ["Amber", "Birch", "Cedar", "Drift", "Ember", "Flint", "Grove", "Heath"];

/// The six types of messages.
const MESSAGE_TYPES: [&str; 6] = [
    "AccountExpenses",
    "ProductMessage",
    "SecurityMessage",
    "FaultMessage",
    "ActivityMessage",
    "ServiceMessage",
];

#[tokio::test(flavor = "multi_thread")]
async fn installed_upgraded_while_contacts_change_and_removed_without_a_trace_in_the_cloud() {
    let Some(stand) = Stand::new().await else { return };
    let [first, second] = push(&stand, ["0.1.0", "0.1.1"]);
    assert_ne!(first, second);
    let refused = stand.try_careless_pod(&format!("registry.test/operator@{first}")).await;
    let reason = refused.unwrap_err().to_string();
    assert!(reason.contains("violates PodSecurity \"restricted"), "{reason}");

    let helm = Helm::new(stand.node.cluster().kubeconfig_path(), NAMESPACE).await;
    let took = helm.upgrade(&values(&stand, &first)).await;
    tell(&format!("helm install --wait of two replicas: {} ms", took.as_millis()));
    let installed = stand.operators().await;
    assert_eq!(installed.len(), 2, "{installed:?}");

    stand.connect().await;
    somebody_clicks(&stand).await;
    let (said, took) = helm.test().await;
    tell(&format!("helm test: {} ms", took.as_millis()));
    assert!(said.contains("Succeeded"), "{said}");

    upgrade(&stand, &helm, &second, &installed).await;

    let logs = stand.logs().await;
    assert!(logs.contains('{') && !logs.contains("@example.com"), "{logs}");
    remove(&stand, &helm).await;
}

/// Puts images of these versions into the registry; their digests.
fn push<const N: usize>(stand: &Stand, versions: [&str; N]) -> [String; N] {
    image::assemble(versions).map(|(layout, image)| {
        let name = format!("operator:{}", image.digest.trim_start_matches("sha256:"));
        stand.node.push(&layout, &name).unwrap();
        assert_eq!(stand.node.digest(&name).unwrap(), image.digest, "crane sees another image");
        tell(&format!("image {}: {} bytes compressed", image.digest, image.size()));
        image.digest
    })
}

fn values(stand: &Stand, digest: &str) -> Value {
    json!({
        "image": { "registry": "registry.test", "repository": "operator", "digest": digest },
        "allowEndpoints": [stand.simulator.endpoint()],
    })
}

/// From an applied manifest to `Ready`: the person who owns the address clicks.
async fn somebody_clicks(stand: &Stand) {
    let address = "desk@example.com";
    let spec = json!({ "name": "SecurityDesk", "title": "TechnicalDirector",
        "emailAddress": address, "messageTypes": ["SecurityMessage"] });
    stand.apply_contact("security-desk", spec).await;
    cluster::wait_for(PATIENCE, "the message arrives, and its link works", || async {
        match stand.simulator.confirm(address) {
            Click::Confirmed => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await
    .unwrap();
    stand.becomes_ready(&stand.contacts(), "security-desk").await;
}

/// A rolling upgrade while there is always something to write.
async fn upgrade(stand: &Stand, helm: &Helm, digest: &str, installed: &[String]) {
    for name in BUSY {
        let object = name.to_lowercase();
        let spec = json!({ "name": name, "title": "Other", "readyWhen": "Synced",
            "emailAddress": format!("{object}@example.com"), "messageTypes": ["FaultMessage"],
            "verification": { "send": "Never" } });
        stand.apply_contact(&object, spec).await;
        stand.becomes_ready(&stand.contacts(), &object).await;
    }
    let (stop, stopped) = watch::channel(false);
    let working = tokio::spawn(change_all_the_time(stand.contacts(), stopped));

    // What is usual on this machine today.
    let quiet = Timestamp::now();
    let updates = stand.simulator.counts().of("UpdateMessageContact");
    cluster::wait_for(PATIENCE, "a hundred writes before the upgrade", || async {
        let seen = stand.simulator.counts().of("UpdateMessageContact") - updates;
        if seen >= 100 { Ok(()) } else { Err(format!("{seen} writes")) }
    })
    .await
    .unwrap();
    let begun = Timestamp::now();
    let took = helm.upgrade(&values(stand, digest)).await;
    // The old pods may still be ending.
    cluster::wait_for(PATIENCE, "only new pods are left", || async {
        let pods = stand.operators().await;
        let new = pods.iter().all(|pod| !installed.contains(pod));
        if new && pods.len() == 2 { Ok(()) } else { Err(format!("{pods:?}")) }
    })
    .await
    .unwrap();
    let ended = Timestamp::now();
    stop.send(true).unwrap();
    working.await.unwrap();

    let calls = stand.simulator.calls();
    let (usual, _) = gap(&calls, quiet, begun);
    let (longest, inside) = gap(&calls, begun, ended);
    tell(&format!(
        "rolling upgrade: {} ms, longest time without a write {} ms (before it: {} ms)",
        took.as_millis(),
        longest.as_millis(),
        usual.as_millis()
    ));
    let most = GAP_MAX + usual * TIMES_USUAL;
    assert!(
        longest <= most,
        "{longest:?} without a write, usual are {usual:?}; in it: {inside:#?}\n{}",
        stand.logs().await
    );
    let most = stand.simulator.counts().in_flight_max;
    assert_eq!(most, 1, "calls of two replicas overlapped");
    for name in BUSY {
        stand.becomes_ready(&stand.contacts(), &name.to_lowercase()).await;
    }
}

/// Changes one contact after the other. Each value differs from the 60 before it, so that what is
/// not written yet stays to be written.
async fn change_all_the_time(
    contacts: kube::Api<kube::api::DynamicObject>,
    mut stopped: watch::Receiver<bool>,
) {
    const PAUSE: Duration = Duration::from_millis(25);
    let mut number = 0_usize;
    while !*stopped.borrow() {
        let object = BUSY[number % BUSY.len()].to_lowercase();
        let bits = number / BUSY.len() % 63 + 1;
        let types = MESSAGE_TYPES.iter().enumerate();
        let types: Vec<_> =
            types.filter(|(place, _)| bits >> place & 1 == 1).map(|(_, kind)| kind).collect();
        let patch = Patch::Merge(json!({ "spec": { "messageTypes": types } }));
        contacts.patch(&object, &PatchParams::default(), &patch).await.unwrap();
        number += 1;
        // Slower than the operator, or it would never be done with any of them.
        let _ = tokio::time::timeout(PAUSE, stopped.changed()).await;
    }
}

/// The longest time between two writes that were done, of those that lie between these moments,
/// and the other calls in it, each with its milliseconds since the first of the two.
fn gap(calls: &[CallRecord], from: Timestamp, to: Timestamp) -> (Duration, Vec<String>) {
    let is_write = |call: &&CallRecord| call.action == "UpdateMessageContact" && call.executed;
    let times = calls.iter().filter(is_write).map(|call| call.at);
    let mut times: Vec<_> = times.filter(|at| (from..to).contains(at)).collect();
    times.insert(0, from);
    times.push(to);
    let length = |pair: &[Timestamp]| pair[1].duration_since(pair[0]).unsigned_abs();
    let longest = times.windows(2).max_by_key(|pair| length(pair)).unwrap();
    let inside = calls.iter().filter(|call| (longest[0]..longest[1]).contains(&call.at));
    let told = inside.map(|call| {
        let since = call.at.duration_since(longest[0]).as_millis();
        format!("{since} ms {} {}", call.action, call.outcome)
    });
    (length(longest), told.collect())
}

/// Nothing happens in the cloud when the operator goes, and people keep what they have written.
async fn remove(stand: &Stand, helm: &Helm) {
    let before = stand.simulator.state();
    let writes = stand.simulator.counts().writes;
    let took = helm.uninstall().await;
    tell(&format!("helm uninstall --wait: {} ms", took.as_millis()));
    cluster::wait_for(PATIENCE, "no operator is left", || async {
        let pods = stand.operators().await;
        if pods.is_empty() { Ok(()) } else { Err(format!("{pods:?}")) }
    })
    .await
    .unwrap();
    let after = stand.simulator.state();
    assert_eq!(after.contacts.len(), BUSY.len() + 1);
    assert_eq!(before.contacts, after.contacts);
    assert_eq!(stand.simulator.counts().writes, writes, "uninstalling has written in the cloud");
    assert_eq!(stand.simulator.counts().of("DeleteMessageContact"), 0);
    let left = stand.contacts().list(&kube::api::ListParams::default()).await.unwrap();
    assert_eq!(left.items.len(), BUSY.len() + 1, "objects are gone");
}
