//! Deleting meets everything else: what is missing, what is unsure, what the cloud leaves open.

use std::time::Duration;

use cluster::Cluster;
use directory_simulator::switches::{
    AfterFailedDeletion, DeleteUnbound, DeletionEnd, DeletionStatusWithoutDeletion,
};
use directory_simulator::{
    DeletionPlan, FailReason, Fault, FaultKind, Options, Simulator, Switches,
};
use futures::future::join_all;
use jiff::SignedDuration;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use message_contact_operator::clock::Clock;
use serde_json::json;

use crate::delete::{ACCOUNT, bind, names, retained, set, two};
use crate::stand::{self, OPERATOR_NAMESPACE, Stand, message_of, request};

fn switched(change: impl FnOnce(&mut Switches)) -> Options {
    let mut switches = Switches::default();
    change(&mut switches);
    Options { switches, ..Options::default() }
}

/// The operations since then, without the polls of the directory that came before the first write.
fn since_deletion(stand: &Stand, mark: u64) -> Vec<String> {
    let calls = stand.actions_since(mark);
    let first = calls.iter().position(|action| action == "DeleteMessageContact").unwrap();
    calls[first..].to_vec()
}

/// A6 and A20, each way: a deletion in the background ends with "not found" or with an answer that
/// lacks a word, and a Get and a list have both said that the contact is gone.
#[tokio::test(flavor = "multi_thread")]
async fn that_a_deletion_has_ended_is_confirmed_by_a_get_and_by_a_list() {
    let ends = [DeletionEnd::NotFound, DeletionEnd::EmptyStatus];
    let ways = [DeleteUnbound::Deleted, DeleteUnbound::Deleting];
    let cases = ends.into_iter().flat_map(|end| ways.map(|way| (end, way)));
    join_all(cases.map(async |(end, way)| {
        let options = switched(|switches| {
            switches.deletion_end = end;
            switches.delete_unbound = way;
        });
        // No poll of its own lists in between.
        let stand = Stand::with(options, json!({ "pollInterval": "1h" })).await;
        two(&stand, "ending", "Fanzhongyan", json!({})).await;
        stand.simulator.deletion(DeletionPlan { after_ms: 100, ..Default::default() });
        let mark = stand.mark();
        stand.delete("ending").await;
        stand.is_gone("ending").await;
        let calls = since_deletion(&stand, mark);
        let last = calls.len() - 1;
        match way {
            // The cloud's own word and a Get.
            DeleteUnbound::Deleted => {
                assert_eq!(calls, ["DeleteMessageContact", "GetMessageContact"], "{end:?}");
            }
            DeleteUnbound::Deleting => {
                let (polls, seen) = calls[1..].split_at(last - 2);
                assert!(
                    polls.iter().all(|it| it == "GetMessageContactDeletionStatus"),
                    "{calls:?}"
                );
                assert!(!polls.is_empty(), "{calls:?}");
                assert_eq!(seen, ["GetMessageContact", "ListMessageContacts"], "{end:?}");
            }
        }
        assert_eq!(names(&stand), ["Fanzhongyana"], "{end:?} {way:?}");
    }))
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_contact_is_not_believed_gone_while_a_list_shows_it() {
    let stand = Stand::with(Options::default(), json!({ "pollInterval": "1h" })).await;
    let id = two(&stand, "doubted", "Ouyangxun", json!({})).await;
    bind(&stand, &id);
    stand.simulator.deletion(DeletionPlan { after_ms: 4000, ..Default::default() });
    // Both witnesses of one kind are wrong, once.
    let absent = || FaultKind::error(404, "EntityNotExists.Contact");
    stand.simulator.fault(Fault::on("GetMessageContactDeletionStatus", absent()));
    stand.simulator.fault(Fault::on("GetMessageContact", absent()));
    let mark = stand.mark();
    stand.delete("doubted").await;
    stand.is_gone("doubted").await;
    assert!(stand.simulator.state().contact(&id).is_none(), "the object waits for the contact");
    let calls = since_deletion(&stand, mark);
    let begin = ["DeleteMessageContact", "GetMessageContactDeletionStatus", "GetMessageContact"];
    assert_eq!(calls[..3], begin, "{calls:?}");
    assert_eq!(stand.simulator.counts().of("DeleteMessageContact"), 1);
    assert_eq!(names(&stand), ["Ouyangxuna"]);
}

/// A31, each way: what is said where no deletion runs, and of a contact whose deletion failed.
#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_that_failed_is_told_and_tried_again_whatever_the_cloud_says_of_it() {
    let after = [AfterFailedDeletion::Active, AfterFailedDeletion::Deleting];
    let without = [DeletionStatusWithoutDeletion::Empty, DeletionStatusWithoutDeletion::NotFound];
    let cases = after.into_iter().flat_map(|after| without.map(|without| (after, without)));
    join_all(cases.map(async |(after, without)| {
        let options = switched(|switches| {
            switches.after_failed_deletion = after;
            switches.deletion_status_without_deletion = without;
        });
        let stand = Stand::with(options, json!({})).await;
        let case = format!("{after:?} {without:?}");
        let id = two(&stand, "failing", "Wanganshi", json!({})).await;
        bind(&stand, &id);
        let message_types = vec!["SecurityMessage".to_owned()];
        let reasons = vec![FailReason { account_id: ACCOUNT.to_owned(), message_types }];
        stand.simulator.deletion(DeletionPlan { after_ms: 100, reasons, times: Some(1) });
        stand.delete("failing").await;
        let object = stand.becomes("failing", "Synced", "DeletionFailed").await;
        let message = message_of(&object, "Synced");
        assert!(message.contains(&format!("account {ACCOUNT} (SecurityMessage)")), "{message}");
        assert_eq!(names(&stand), ["Wanganshi", "Wanganshia"], "{case}");

        stand.simulator.deletion(DeletionPlan { after_ms: 100, ..Default::default() });
        let asked = std::time::Instant::now();
        request(&stand.contacts(), "failing", "again").await;
        stand.is_gone("failing").await;
        assert!(asked.elapsed() < Duration::from_secs(25), "{case}: {:?}", asked.elapsed());
        assert_eq!(names(&stand), ["Wanganshia"], "{case}");
        assert_eq!(stand.simulator.counts().of("DeleteMessageContact"), 2, "{case}");
    }))
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_may_stay_in_the_members_is_deleted_although_they_depend_on_it() {
    let stand = Stand::new().await;
    let id = two(&stand, "needed", "Sunsimiao", json!({})).await;
    bind(&stand, &id);
    let reasons = vec![FailReason { account_id: ACCOUNT.to_owned(), message_types: Vec::new() }];
    stand.simulator.deletion(DeletionPlan { after_ms: 100, reasons, times: None });
    stand.delete("needed").await;
    stand.becomes("needed", "Synced", "DeletionFailed").await;
    set(&stand, "needed", json!({ "retainInMembers": true })).await;
    request(&stand.contacts(), "needed", "again").await;
    stand.is_gone("needed").await;
    assert_eq!(retained(&stand), ["false", "true"]);
    assert_eq!(names(&stand), ["Sunsimiaoa"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_add_without_an_answer_has_made_is_deleted_too() {
    let stand = Stand::new().await;
    let near = stand.bystander("Zhangheng");
    stand.simulator.hold();
    stand.apply("unsure", "Zhanghenga", json!({})).await;
    let tried =
        |sim: &Simulator| (sim.counts().ended("ConcurrentCallNotSupported") > 0).then_some(());
    stand.cloud("the Add is refused while somebody else holds the directory", tried).await;
    stand.simulator.fault(Fault::on("AddMessageContact", FaultKind::Reset { executed: true }));
    // Nobody looks before the object is deleted.
    let lists = Fault::on("ListMessageContacts", FaultKind::Hang { executed: false });
    stand.simulator.fault(lists.times(u32::MAX));
    stand.simulator.release();
    let made = |sim: &Simulator| sim.state().named("Zhanghenga").map(|_| ());
    stand.cloud("the contact is there", made).await;
    stand.delete("unsure").await;
    stand.simulator.clear_faults();
    stand.is_gone("unsure").await;
    assert!(stand.simulator.state().named("Zhanghenga").is_none());
    assert_eq!(stand.simulator.counts().of("DeleteMessageContact"), 1);
    stand.is_untouched(&near);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_add_that_was_never_made_holds_the_object_for_a_minute_and_deletes_nothing() {
    static CLUSTER: tokio::sync::OnceCell<Cluster> = tokio::sync::OnceCell::const_new();
    crate::privacy::listen();
    let start = || Cluster::start(cluster::Options::default());
    let cluster = CLUSTER.get_or_try_init(start).await.unwrap();
    stand::prepare(cluster).await;
    let clock = Clock::system();
    let operator = tokio::spawn(stand::run_operator(cluster.client(), clock.clone()));
    let stand = Stand::on(cluster, Options::default()).await;
    stand.apply_directory(json!({ "pollInterval": "1h" })).await;
    stand.directory_becomes("Ready", "Connected").await;
    let near = stand.bystander("Guoshoujinga");
    stand.simulator.fault(Fault::on("AddMessageContact", FaultKind::Reset { executed: false }));
    stand.apply("unsure", "Guoshoujing", json!({})).await;
    stand.becomes("unsure", "Synced", "OutcomeUnknown").await;
    stand.delete("unsure").await;
    // It may still come: the object waits.
    let waiting = stand.becomes("unsure", "Synced", "Deleting").await;
    assert!(waiting.data["status"]["creation"].is_object(), "the intent is remembered");
    clock.advance(SignedDuration::from_secs(65));
    stand.is_gone("unsure").await;
    assert_eq!(stand.simulator.counts().of("DeleteMessageContact"), 0);
    stand.is_untouched(&near);
    operator.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_waits_for_the_secret_of_the_directory_or_is_let_go() {
    let stand = Stand::unconnected(Options::default()).await;
    let keys = json!({ "accessKeyId": directory_simulator::ACCESS_KEY_ID,
        "accessKeySecret": directory_simulator::ACCESS_KEY_SECRET });
    stand.apply_secret(&stand.directory, keys.clone()).await;
    let source = json!({ "source": "Secret", "secretRef": { "name": stand.directory } });
    let spec = json!({ "credentials": source });
    stand.apply_directory(spec.clone()).await;
    stand.directory_becomes("Ready", "Connected").await;
    two(&stand, "waiting", "Shenkuo", json!({})).await;
    let secrets: Api<Secret> = Api::namespaced(stand.client.clone(), OPERATOR_NAMESPACE);
    secrets.delete(&stand.directory, &DeleteParams::default()).await.unwrap();
    stand.ask_directory().await;
    stand.directory_becomes("Ready", "SecretNotFound").await;
    for object in ["waiting", "neighbour"] {
        stand.delete(object).await;
        let found = stand.becomes(object, "Synced", "DeletionFailed").await;
        assert!(message_of(&found, "Synced").contains("deletionPolicy: Retain"));
    }
    set(&stand, "neighbour", json!({ "deletionPolicy": "Retain" })).await;
    stand.is_gone("neighbour").await;
    assert_eq!(names(&stand), ["Shenkuo", "Shenkuoa"]);
    stand.apply_secret(&stand.directory, keys).await;
    stand.is_gone("waiting").await;
    assert_eq!(names(&stand), ["Shenkuoa"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_contact_of_another_directory_is_let_go_and_not_deleted() {
    let stand = Stand::new().await;
    let other = Stand::unconnected(Options::default()).await;
    let id = two(&stand, "elsewhere", "Zhuxi", json!({})).await;
    // A contact of that very id, which is somebody else's.
    let twin = other.bystander("Zhuxi");
    stand.apply_directory(json!({ "endpoint": other.simulator.endpoint() })).await;
    stand.becomes("elsewhere", "Synced", "WrongDirectory").await;
    stand.delete("elsewhere").await;
    let object = stand.becomes("elsewhere", "Synced", "DeletionFailed").await;
    let message = message_of(&object, "Synced");
    assert!(message.contains("another resource directory"), "{message}");
    set(&stand, "elsewhere", json!({ "deletionPolicy": "Retain" })).await;
    stand.is_gone("elsewhere").await;
    other.is_untouched(&twin);
    assert_eq!(stand.in_cloud(&id).name, "Zhuxi");
    assert_eq!(other.simulator.counts().writes, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_object_with_an_open_intent_is_deleted_with_what_it_made() {
    let stand = Stand::new().await;
    stand.simulator.fault(Fault::on("AddMessageContact", FaultKind::Reset { executed: true }));
    let lists = Fault::on("ListMessageContacts", FaultKind::Hang { executed: false });
    stand.simulator.fault(lists.times(u32::MAX));
    stand.apply("asleep", "Songyingxing", json!({})).await;
    let made = |sim: &Simulator| sim.state().named("Songyingxing").map(|_| ());
    stand.cloud("the contact is there", made).await;
    set(&stand, "asleep", json!({ "suspend": true })).await;
    stand.simulator.clear_faults();
    let object = stand.becomes("asleep", "Synced", "Suspended").await;
    assert!(object.data["status"]["creation"].is_object(), "nothing is looked at");
    stand.delete("asleep").await;
    stand.is_gone("asleep").await;
    assert!(stand.simulator.state().contacts.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_contacts_that_may_be_the_one_neither_is_deleted_until_a_person_decides() {
    let stand = Stand::new().await;
    stand.simulator.fault(Fault::on("AddMessageContact", FaultKind::Reset { executed: true }));
    let lists = Fault::on("ListMessageContacts", FaultKind::Hang { executed: false });
    stand.simulator.fault(lists.times(u32::MAX));
    stand.apply("twin", "Lishizhen", json!({})).await;
    let made = |sim: &Simulator| sim.state().named("Lishizhen").map(|it| it.id.clone());
    let ours = stand.cloud("the contact is there", made).await;
    let other = stand.bystander("Lishizhen");
    stand.simulator.clear_faults();
    let object = stand.becomes("twin", "Synced", "Ambiguous").await;
    stand::assert_stalled(&object, true);
    stand.delete("twin").await;
    let object = stand.becomes("twin", "Synced", "DeletionFailed").await;
    assert!(message_of(&object, "Synced").contains("two contacts"));
    stand.is_untouched(&other);
    assert_eq!(stand.simulator.counts().of("DeleteMessageContact"), 0);
    // A person renames or deletes the one that is not meant.
    assert!(stand.simulator.remove_contact(&other.id));
    stand.is_gone("twin").await;
    assert!(stand.simulator.state().contact(&ours).is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_operator_the_finalizers_can_be_taken_off_by_hand() {
    let alone = crate::process::alone().await;
    let stand = Stand::on(alone.cluster, Options::default()).await;
    let operator = tokio::spawn(stand::run_operator(alone.cluster.client(), Clock::system()));
    stand.apply_directory(json!({})).await;
    let id = stand.settled("left", "Xuguangqi", json!({})).await;
    operator.abort();
    assert!(operator.await.unwrap_err().is_cancelled());
    stand.delete("left").await;
    stand.delete_directory().await;
    let off = Patch::Merge(json!({ "metadata": { "finalizers": null } }));
    let parameters = PatchParams::default();
    stand.contacts().patch("left", &parameters, &off).await.unwrap();
    stand.directories().patch(&stand.directory, &parameters, &off).await.unwrap();
    stand.is_gone("left").await;
    stand.directory_is_gone().await;
    assert_eq!(stand.in_cloud(&id).name, "Xuguangqi");
}
