//! The answer is lost: nobody knows whether the call was made, until somebody looks.

use std::time::Duration;

use cluster::Cluster;
use directory_simulator::{Fault, FaultKind, Options};
use futures::future::join_all;
use jiff::SignedDuration;
use kube::Client;
use message_contact_operator::clock::Clock;
use serde_json::{Value, json};

use crate::stand::{self, Stand, condition_of};

/// Answers that are lost on the way back.
pub(crate) fn lost() -> Vec<FaultKind> {
    vec![
        FaultKind::Drop { executed: true },
        FaultKind::Reset { executed: true },
        FaultKind::CutBody { bytes: 0 },
        FaultKind::CutBody { bytes: 25 },
    ]
}

/// Calls that are lost on the way there.
pub(crate) fn never_came() -> Vec<FaultKind> {
    vec![FaultKind::Drop { executed: false }, FaultKind::Reset { executed: false }]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_create_whose_answer_is_lost_is_found_and_not_repeated() {
    join_all(lost().into_iter().map(created_once)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_whose_answer_is_lost_is_read_before_anything_is_repeated() {
    join_all(lost().into_iter().map(|kind| changed_once(kind, true))).await;
    join_all(never_came().into_iter().map(|kind| changed_once(kind, false))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_whose_answer_is_lost_is_read_before_anything_is_repeated() {
    join_all(lost().into_iter().map(|kind| deleted_once(kind, true))).await;
    join_all(never_came().into_iter().map(|kind| deleted_once(kind, false))).await;
}

/// Something on the way sends a call twice, and the gateway refuses the second copy.
#[tokio::test(flavor = "multi_thread")]
async fn a_create_that_arrives_twice_is_found_and_not_repeated() {
    created_once(FaultKind::Duplicate { noticed: true }).await;
}

/// An Add that is done, and answered like this.
pub(crate) async fn created_once(kind: FaultKind) {
    let case = format!("{kind:?}");
    let stand = Stand::new().await;
    let near = stand.stranger("Xinyi");
    stand.simulator.fault(Fault::on("AddMessageContact", kind));
    stand.apply("uncertain", "Xin", json!({})).await;
    let object = stand.becomes("uncertain", "Ready", "InSync").await;

    let counts = stand.simulator.counts();
    assert_eq!((counts.of("AddMessageContact"), counts.writes), (1, 1), "{case}");
    let state = stand.simulator.state();
    assert_eq!(state.contacts.len(), 2, "{case}");
    let ours = &state.named("Xin").unwrap().id;
    assert_eq!(object.data["status"]["contactId"], json!(ours), "{case}");
    assert_ne!(*ours, near);
    assert_eq!(object.data["status"]["creation"], Value::Null, "{case}");
}

/// An Update that is done or not, and answered like this: the contact is read first, and written
/// again only if it was not.
pub(crate) async fn changed_once(kind: FaultKind, executed: bool) {
    let case = format!("{kind:?}");
    let stand = Stand::new().await;
    let near = stand.stranger("Yanmei");
    stand.apply("uncertain", "Yan", json!({})).await;
    let before = stand.becomes("uncertain", "Ready", "InSync").await;

    let calls = stand.simulator.counts().calls;
    stand.simulator.fault(Fault::on("UpdateMessageContact", kind));
    stand.apply("uncertain", "Yan", json!({ "title": "CEO", "name": "Yanli" })).await;
    let object = stand.becomes("uncertain", "Ready", "InSync").await;

    let expected = if executed { &[true, false][..] } else { &[true, false, true, false][..] };
    assert_eq!(reads_and_writes(&stand, calls, "UpdateMessageContact"), expected, "{case}");
    let state = stand.simulator.state();
    let ours = state.named("Yanli").unwrap();
    assert_eq!((state.contacts.len(), &*ours.title), (2, "CEO"), "{case}");
    assert_eq!(object.data["status"]["contactId"], before.data["status"]["contactId"], "{case}");
    assert_eq!(state.contact(&near).unwrap().title, "Other");
}

/// A Delete that is done or not, and answered like this.
pub(crate) async fn deleted_once(kind: FaultKind, executed: bool) {
    let case = format!("{kind:?}");
    let stand = Stand::new().await;
    let near = stand.stranger("Boyang");
    stand.apply("uncertain", "Boy", json!({})).await;
    stand.becomes("uncertain", "Ready", "InSync").await;

    let calls = stand.simulator.counts().calls;
    stand.simulator.fault(Fault::on("DeleteMessageContact", kind));
    stand.delete("uncertain").await;
    stand.is_gone("uncertain").await;

    // Once it is answered that it is gone, nothing is left to be read.
    let expected = if executed { &[true, false][..] } else { &[true, false, true, false][..] };
    assert_eq!(reads_and_writes(&stand, calls, "DeleteMessageContact"), expected, "{case}");
    let left: Vec<_> = stand.simulator.state().contacts.iter().map(|it| it.id.clone()).collect();
    assert_eq!(left, [near], "{case}");
}

/// The calls of a write, `true`, and of the contact's reads, `false`, in their order.
pub(crate) fn reads_and_writes(stand: &Stand, since: u64, write: &str) -> Vec<bool> {
    let actions = stand.actions_since(since);
    let known = |action: &String| match action.as_str() {
        "GetMessageContact" => Some(false),
        action if action == write => Some(true),
        _ => None,
    };
    actions.iter().filter_map(known).collect()
}

/// What became of an Add is unknown, and it was not done. A late gateway could still do it, so that
/// it is made again only after a minute, which this operator's own clock walks.
#[tokio::test(flavor = "multi_thread")]
async fn a_create_that_never_came_is_repeated_once_after_a_minute() {
    static CLUSTER: tokio::sync::OnceCell<Cluster> = tokio::sync::OnceCell::const_new();
    let start = async || Cluster::start(cluster::Options::default()).await.unwrap();
    let cluster = CLUSTER.get_or_init(start).await;
    stand::prepare(cluster).await;
    let clock = Clock::system();
    let client = Client::try_from(cluster.config()).unwrap();
    let operator = tokio::spawn(stand::run_operator(client, clock.clone()));

    let mut kinds = never_came();
    kinds.push(FaultKind::empty_500(false));
    kinds.push(FaultKind::html_502(false));
    kinds.push(FaultKind::error(503, "ServiceUnavailable"));
    let new_stand = || async {
        let stand = Stand::on(cluster, Options::default()).await;
        stand.apply_directory(json!({})).await;
        stand.directory_becomes("Ready", "Connected").await;
        stand
    };
    let lose = |kind: FaultKind| async move {
        let stand = new_stand().await;
        stand.simulator.fault(Fault::on("AddMessageContact", kind));
        stand.apply("uncertain", "Kai", json!({})).await;
        let object = stand.becomes("uncertain", "Synced", "OutcomeUnknown").await;
        assert_eq!(condition_of(&object, "Reconciling")["status"], "True");
        stand
    };
    let stands = join_all(kinds.into_iter().map(lose)).await;
    let leaving = lose(FaultKind::Drop { executed: false }).await;
    leaving.delete("uncertain").await;
    let renamed = lose(FaultKind::Reset { executed: false }).await;
    renamed.apply("uncertain", "Kaiping", json!({})).await;
    let near = renamed.stranger("Kais");
    let late = lose(FaultKind::Drop { executed: false }).await;

    let adds = |stand: &Stand| stand.simulator.counts().of("AddMessageContact");
    let quiet = async |seconds: u64, stand: &Stand| {
        let object = stand.ask("uncertain").await;
        assert_eq!(adds(stand), 1, "repeated after {seconds} s: {}", object.data["status"]);
    };
    let all = || stands.iter().chain([&leaving, &renamed, &late]);
    join_all(all().map(|stand| quiet(0, stand))).await;
    clock.advance(SignedDuration::from_secs(40));
    join_all(all().map(|stand| quiet(40, stand))).await;
    // What a late gateway made meanwhile is found.
    let id = late.stranger("Kai");
    let object = late.ask("uncertain").await;
    assert_eq!(object.data["status"]["contactId"], json!(id));

    clock.advance(SignedDuration::from_secs(25));
    for stand in &stands {
        let object = stand.becomes("uncertain", "Ready", "InSync").await;
        let state = stand.simulator.state();
        assert_eq!((adds(stand), state.contacts.len()), (2, 1));
        assert_eq!(object.data["status"]["contactId"], json!(state.contacts[0].id));
    }
    leaving.is_gone("uncertain").await;
    assert_eq!((adds(&leaving), leaving.simulator.counts().writes), (1, 0));
    renamed.becomes("uncertain", "Ready", "InSync").await;
    let mut names: Vec<_> =
        renamed.simulator.state().contacts.iter().map(|it| it.name.clone()).collect();
    names.sort();
    assert_eq!(names, ["Kaiping", "Kais"]);
    assert_eq!(renamed.simulator.state().contact(&near).unwrap().title, "Other");
    late.becomes("uncertain", "Ready", "InSync").await;
    assert_eq!((adds(&late), late.simulator.state().contacts.len()), (1, 1));
    operator.abort();
    let _ = tokio::time::timeout(Duration::from_secs(5), operator).await;
}
