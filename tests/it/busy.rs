//! Somebody else holds the directory: `429 ConcurrentCallNotSupported` is waited out.

use std::time::Duration;

use directory_simulator::Options;
use directory_simulator::switches::{Overlap, Tolerance};
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::stand::{PATIENCE, Stand, condition_of};

const REFUSED: &str = "ConcurrentCallNotSupported";

/// Waits until so many calls more were refused.
async fn refused_again(stand: &Stand, times: u64) {
    let before = stand.simulator.counts().ended(REFUSED);
    let what = format!("{times} calls are refused");
    let look = |it: &directory_simulator::Simulator| {
        (it.counts().ended(REFUSED) >= before + times).then_some(())
    };
    stand.cloud(&what, look).await;
}

/// What a person sees while the directory is held: work goes on, nobody has to act.
fn says_busy(object: &kube::api::DynamicObject) {
    assert_eq!(condition_of(object, "Reconciling")["status"], "True", "{:?}", object.data);
    assert_eq!(condition_of(object, "Stalled"), Value::Null, "{:?}", object.data);
    assert_eq!(condition_of(object, "Ready")["status"], "False", "{:?}", object.data);
}

/// A field and a binding are owed at once: both are refused in turn, and the person is told all the
/// same.
#[tokio::test(flavor = "multi_thread")]
async fn who_owes_two_calls_says_that_the_directory_is_busy() {
    let stand = Stand::new().await;
    stand.simulator.switches(|it| it.bind_while_verifying = Tolerance::Reject);
    let fields = json!({ "members": ["fd-sim0000001"] });
    stand.apply("bound", "Zichan", fields).await;
    stand.becomes("bound", "Bound", "VerificationPending").await;

    stand.simulator.hold();
    let changed = json!({ "members": ["fd-sim0000001"], "title": "CEO" });
    stand.apply("bound", "Zichan", changed).await;
    says_busy(&stand.becomes("bound", "Synced", "CloudBusy").await);
    stand.simulator.release();
    stand.becomes("bound", "Bound", "VerificationPending").await;
    assert_eq!(stand.simulator.state().named("Zichan").unwrap().title, "CEO");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_directory_is_waited_for_and_each_change_is_made_once() {
    let stand = Stand::new().await;
    let near = stand.stranger("Weii");

    stand.simulator.hold();
    stand.apply("patient", "Wei", json!({})).await;
    refused_again(&stand, 2).await;
    assert_eq!(stand.simulator.counts().writes, 0);
    stand.simulator.release();
    stand.becomes("patient", "Ready", "InSync").await;
    assert_eq!(stand.simulator.counts().writes, 1);

    stand.simulator.hold();
    stand.apply("patient", "Wei", json!({ "title": "CEO" })).await;
    refused_again(&stand, 2).await;
    assert_eq!(stand.simulator.state().named("Wei").unwrap().title, "TechnicalDirector");
    stand.simulator.release();
    stand.becomes("patient", "Ready", "InSync").await;
    assert_eq!(stand.simulator.state().named("Wei").unwrap().title, "CEO");
    assert_eq!(stand.simulator.counts().writes, 2);

    stand.simulator.hold();
    stand.delete("patient").await;
    refused_again(&stand, 2).await;
    assert!(stand.simulator.state().named("Wei").is_some());
    stand.simulator.release();
    stand.is_gone("patient").await;
    assert_eq!(stand.simulator.counts().writes, 3);
    let left: Vec<_> = stand.simulator.state().contacts.iter().map(|it| it.id.clone()).collect();
    assert_eq!(left, [near]);

    let directory = stand.ask_directory().await;
    let throttled = condition_of(&directory, "Throttled");
    assert_eq!(throttled, Value::Null, "a held directory says nothing of the rate");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_create_that_waits_for_long_says_that_the_cloud_is_busy() {
    let stand = Stand::new().await;
    stand.simulator.hold();
    stand.apply("creating", "Ling", json!({})).await;
    let object = stand.becomes("creating", "Synced", "CloudBusy").await;
    says_busy(&object);
    assert_eq!(object.data["status"]["creation"]["name"], "Ling", "the intent stays for the retry");
    assert_eq!(stand.simulator.counts().writes, 0);
    stand.simulator.release();
    let object = stand.becomes("creating", "Ready", "InSync").await;
    assert_eq!(condition_of(&object, "Reconciling"), Value::Null);
    assert_eq!(stand.simulator.counts().writes, 1);
    assert_eq!(stand.simulator.state().contacts.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_that_waits_for_long_says_that_the_cloud_is_busy() {
    let stand = Stand::new().await;
    stand.apply("updating", "Tao", json!({})).await;
    stand.apply("bystander", "Taos", json!({})).await;
    stand.becomes("updating", "Ready", "InSync").await;
    stand.becomes("bystander", "Ready", "InSync").await;
    stand.simulator.hold();
    stand.apply("updating", "Tao", json!({ "title": "FinanceDirector" })).await;
    let object = stand.becomes("updating", "Synced", "CloudBusy").await;
    says_busy(&object);
    // Reads are not refused: who asks for a look gets one, however long the directory is held.
    let bystander = stand.ask("bystander").await;
    assert_eq!(condition_of(&bystander, "Ready")["status"], "True");
    assert!(stand.simulator.counts().writes < 3, "it was held meanwhile");
    stand.simulator.release();
    stand.becomes("updating", "Ready", "InSync").await;
    assert_eq!(stand.simulator.counts().writes, 3);
    assert_eq!(stand.simulator.state().named("Tao").unwrap().title, "FinanceDirector");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_that_waits_for_long_says_that_the_cloud_is_busy() {
    let stand = Stand::new().await;
    stand.apply("leaving", "Hua", json!({})).await;
    stand.becomes("leaving", "Ready", "InSync").await;
    stand.simulator.hold();
    stand.delete("leaving").await;
    let object = stand.becomes("leaving", "Synced", "CloudBusy").await;
    says_busy(&object);
    stand.simulator.release();
    stand.is_gone("leaving").await;
    assert!(stand.simulator.state().contacts.is_empty());
    assert_eq!(stand.simulator.counts().writes, 2);
}

/// A21: a directory that refuses reads as well.
#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_is_refused_as_busy_does_not_make_the_directory_unreachable() {
    let mut options = Options::default();
    options.switches.overlap = Overlap::AllCalls;
    let stand = Stand::with(options, json!({})).await;
    stand.apply("steady", "Ning", json!({})).await;
    let before = stand.becomes("steady", "Ready", "InSync").await;
    stand.simulator.hold();
    let lists = stand.simulator.counts().of("ListMessageContacts");
    let ask = json!({ "metadata": { "annotations": { "message-contacts.dev/requestedAt": "a" } } });
    let patch = Patch::Merge(&ask);
    let directories = stand.directories();
    directories.patch(&stand.directory, &PatchParams::default(), &patch).await.unwrap();
    let look = |it: &directory_simulator::Simulator| {
        (it.counts().of("ListMessageContacts") >= lists + 3).then_some(())
    };
    stand.cloud("the list is refused again and again", look).await;
    stand.simulator.release();
    let directory = stand.ask_directory().await;
    let ready = condition_of(&directory, "Ready");
    assert_eq!(ready["reason"], "Connected");
    let known = stand.directories().get(&stand.directory).await.unwrap();
    assert_eq!(condition_of(&known, "Ready")["lastTransitionTime"], ready["lastTransitionTime"]);
    let after = stand.ask("steady").await;
    assert_eq!(condition_of(&after, "Ready"), condition_of(&before, "Ready"), "never in doubt");
    assert_eq!(stand.simulator.counts().writes, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_gets_through_a_directory_that_is_held_a_third_of_the_time() {
    const BATCH: usize = 60;
    let mut options = Options { latency: Duration::from_millis(10), ..Options::default() };
    options.quotas.contacts = 100;
    let stand = Stand::with(options, json!({})).await;
    stand.simulator.hold_cycle(Duration::from_millis(300), Duration::from_millis(700));
    let name = |number: usize| {
        let letter = |n: usize| char::from(b'a' + u8::try_from(n % 26).unwrap());
        format!("Batch{}{}", letter(number / 26), letter(number))
    };
    for number in 0..BATCH {
        stand.apply(&format!("batch-{number}"), &name(number), json!({})).await;
    }
    for number in 0..BATCH {
        stand.becomes(&format!("batch-{number}"), "Ready", "InSync").await;
    }
    let counts = stand.simulator.counts();
    let refused = counts.ended(REFUSED);
    eprintln!("{refused} of {} calls were refused", counts.calls);
    assert_eq!(counts.writes, BATCH as u64);
    assert_eq!(counts.of("AddMessageContact"), BATCH as u64 + refused);
    assert!(refused * 4 <= BATCH as u64, "{refused} refusals for {BATCH} contacts");
    let directory = stand.ask_directory().await;
    assert_eq!(condition_of(&directory, "Throttled"), Value::Null);
}

/// Only a few creations are begun at once; the others waited with their eyes shut.
#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_waits_to_be_created_can_be_deleted_meanwhile() {
    let stand = Stand::new().await;
    stand.simulator.hold();
    let names = ["Queyi", "Queer", "Quesan", "Quesi", "Quewu", "Queliu", "Queqi", "Queba"];
    for (number, name) in names.iter().enumerate() {
        stand.apply(&format!("queued-{number}"), name, json!({})).await;
    }
    let refused = |it: &directory_simulator::Simulator| {
        (it.counts().ended("ConcurrentCallNotSupported") > 0).then_some(())
    };
    stand.cloud("the directory is held", refused).await;
    for number in 0..8 {
        stand.delete(&format!("queued-{number}")).await;
    }
    // Half of them had not begun, and go although nothing can be done in the directory.
    let contacts = stand.contacts();
    cluster::wait_for(PATIENCE, "those that wait are gone", || async {
        let left = contacts.list(&ListParams::default()).await.map_err(|it| it.to_string())?;
        let left = left.items.len();
        if left <= 4 { Ok(()) } else { Err(format!("{left} are left")) }
    })
    .await
    .unwrap();
    assert!(stand.simulator.state().contacts.is_empty());
    stand.simulator.release();
    for number in 0..8 {
        stand.is_gone(&format!("queued-{number}")).await;
    }
    assert!(stand.simulator.state().contacts.is_empty());
}
