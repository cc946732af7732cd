//! A contact is bound to exactly the members that its spec names, and to nothing that it does not.

use std::collections::BTreeSet;

use directory_simulator::switches::{BindAgain, EmptyPhone, Members, Switches, Tolerance};
use directory_simulator::{Account, ContactChange, Fault, FaultKind, Options, Tree};
use futures::future::join_all;
use kube::api::{DynamicObject, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::lost_answers::{lost, never_came, reads_and_writes};
use crate::same_name::a_second_later;
use crate::stand::{Stand, assert_stalled, condition_of, message_of};

/// Two accounts are in it.
const FOLDER: &str = "fd-sim0000001";
const UNKNOWN: &str = "2999999999999999";

fn account(number: u32) -> String {
    format!("20000000000000{number:02}")
}

fn accounts(numbers: impl IntoIterator<Item = u32>) -> Vec<String> {
    numbers.into_iter().map(account).collect()
}

/// A directory with accounts 1 to 40; from the sixth on they are in no folder.
async fn many_accounts() -> Stand {
    let stand = Stand::new().await;
    (6..=40).for_each(|number| joins(&stand, &account(number)));
    stand
}

fn joins(stand: &Stand, id: &str) {
    stand.simulator.tree(|tree| {
        let folder = tree.root_folder_id.clone();
        let name = format!("joined-{id}");
        tree.accounts.push(Account { id: id.to_owned(), name, folder, tags: Vec::new() });
    });
}

/// What the contact is bound to in the cloud.
fn bound(stand: &Stand, id: &str) -> Vec<String> {
    let members: BTreeSet<_> = stand.in_cloud(id).members.into_iter().collect();
    members.into_iter().collect()
}

/// Somebody else binds the contact to exactly these.
fn outsider_binds(stand: &Stand, id: &str, members: &[String]) {
    let members = Some(members.to_vec());
    assert!(stand.simulator.change_contact(id, ContactChange { members, ..Default::default() }));
}

/// One call for bindings.
#[derive(Debug, PartialEq)]
struct Binding {
    binds: bool,
    ids: Vec<String>,
    outcome: String,
}

/// The calls for bindings since then, in their order.
fn bindings_since(stand: &Stand, mark: u64) -> Vec<Binding> {
    let calls = stand.simulator.calls_since(mark).into_iter();
    let calls = calls.filter(|call| call.action.ends_with("associateMembers") || is_bind(call));
    calls
        .map(|call| {
            let named = call.parameters.iter().filter(|(name, _)| name.starts_with("Members."));
            let mut ids: Vec<_> = named.map(|(_, id)| id.as_str().unwrap().to_owned()).collect();
            ids.sort();
            Binding { binds: is_bind(&call), ids, outcome: call.outcome }
        })
        .collect()
}

fn is_bind(call: &directory_simulator::CallRecord) -> bool {
    call.action == "AssociateMembers"
}

/// Two polls go by without a call for bindings.
async fn is_quiet(stand: &Stand) {
    let mark = stand.mark();
    stand.ask_directory().await;
    stand.ask_directory().await;
    stand.all_seen().await;
    assert_eq!(bindings_since(stand, mark), []);
}

/// How a person applies a manifest.
#[derive(Debug, Clone, Copy)]
enum Way {
    /// `kubectl apply --server-side`
    Server,
    /// `kubectl apply`
    Client,
}

const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

async fn apply(stand: &Stand, way: Way, name: &str, fields: Value) -> DynamicObject {
    match way {
        Way::Server => stand.apply("person", name, fields).await,
        Way::Client => apply_as_client(stand, &stand.manifest("person", name, fields)).await,
    }
}

/// What `kubectl apply` does with objects of a definition: it creates the object with the manifest
/// in an annotation, or sends the difference between that manifest, the new one and the object.
async fn apply_as_client(stand: &Stand, manifest: &Value) -> DynamicObject {
    let contacts = stand.contacts();
    let mut wanted = manifest.clone();
    wanted["metadata"]["annotations"] = json!({ LAST_APPLIED: manifest.to_string() });
    let name = manifest["metadata"]["name"].as_str().unwrap();
    let Some(live) = contacts.get_opt(name).await.unwrap() else {
        let object = serde_json::from_value(wanted).unwrap();
        return contacts.create(&PostParams::default(), &object).await.unwrap();
    };
    let last = live.metadata.annotations.clone().unwrap_or_default();
    let last: Value = serde_json::from_str(&last[LAST_APPLIED]).unwrap();
    let live = serde_json::to_value(&live).unwrap();
    let patch = three_way(&last, &wanted, &live);
    let parameters = PatchParams { field_manager: Some("kubectl".into()), ..Default::default() };
    contacts.patch(name, &parameters, &Patch::Merge(&patch)).await.unwrap()
}

/// A merge patch (RFC 7386): what was applied and is not wanted any more goes, what is wanted and
/// not so is put there. Lists are put there whole.
fn three_way(last: &Value, wanted: &Value, live: &Value) -> Value {
    let (Some(last), Some(wanted)) = (last.as_object(), wanted.as_object()) else {
        return wanted.clone();
    };
    let gone = last.keys().filter(|key| !wanted.contains_key(*key));
    let mut patch: serde_json::Map<_, _> = gone.map(|key| (key.clone(), Value::Null)).collect();
    for (key, value) in wanted {
        match live.get(key) {
            Some(live) if live == value => {}
            Some(live) if live.is_object() && value.is_object() => {
                let last = last.get(key).cloned().unwrap_or_else(|| json!({}));
                patch.insert(key.clone(), three_way(&last, value, live));
            }
            Some(_) | None => {
                patch.insert(key.clone(), value.clone());
            }
        }
    }
    Value::Object(patch)
}

#[tokio::test(flavor = "multi_thread")]
async fn absent_empty_and_named_mean_three_things_by_server_side_apply() {
    three_meanings(Way::Server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn absent_empty_and_named_mean_three_things_by_client_side_apply() {
    three_meanings(Way::Client).await;
}

async fn three_meanings(way: Way) {
    let stand = Stand::new().await;
    let bystander = stand.bystander("Wuqiang");
    let is_bound_to = async |members: Option<&[String]>, bound_now: &[String]| {
        let fields = members.map_or(json!({}), |members| json!({ "members": members }));
        let stored = apply(&stand, way, "Wuqi", fields).await;
        let expected = members.map(|members| json!(members));
        assert_eq!(stored.data["spec"].get("members"), expected.as_ref(), "{way:?}");
        let object = stand.becomes("person", "Ready", "InSync").await;
        let id = object.data["status"]["contactId"].as_str().unwrap().to_owned();
        assert_eq!(bound(&stand, &id), bound_now, "{way:?} {members:?}");
        let condition = condition_of(&object, "Bound");
        match members {
            Some(_) => {
                assert_eq!(
                    (&condition["status"], &condition["reason"]),
                    (&json!("True"), &json!("InSync"))
                );
                assert_eq!(object.data["status"]["observed"]["members"], json!(bound_now));
            }
            None => assert!(condition.is_null(), "{condition}"),
        }
        id
    };
    let [one, two] = [accounts([1]), accounts([2])];
    let id = is_bound_to(None, &[]).await;
    // Nobody's business: it is left as an outsider makes it.
    let others = [account(3), FOLDER.to_owned()];
    outsider_binds(&stand, &id, &others);
    let mark = stand.mark();
    stand.ask_directory().await;
    stand.ask("person").await;
    is_bound_to(None, &others).await;
    assert_eq!(bindings_since(&stand, mark), []);

    is_bound_to(Some(&[]), &[]).await;
    is_bound_to(Some(&one), &one).await;
    is_bound_to(Some(&[]), &[]).await;
    is_bound_to(Some(&two), &two).await;
    let mark = stand.mark();
    is_bound_to(None, &two).await;
    is_bound_to(Some(&two), &two).await;
    assert_eq!(bindings_since(&stand, mark), []);
    is_bound_to(Some(&one), &one).await;
    is_bound_to(None, &one).await;
    is_bound_to(Some(&[]), &[]).await;
    is_bound_to(None, &[]).await;
    stand.is_untouched(&bystander);
}

#[tokio::test(flavor = "multi_thread")]
async fn twelve_members_are_three_calls_and_each_is_read_back() {
    let stand = many_accounts().await;
    stand.simulator.quotas(|quotas| quotas.members_per_contact = 20);
    let members = accounts(1..=12);
    let mark = stand.mark();
    let id = stand.settled("many", "Lukun", json!({ "members": members })).await;
    assert_eq!(bound(&stand, &id), members);
    let sizes: Vec<_> = bindings_since(&stand, mark).iter().map(|call| call.ids.len()).collect();
    assert_eq!(sizes, [5, 5, 2]);
    // What was just added is known; each change of it is read.
    let mut expected = ["AssociateMembers", "GetMessageContact"].repeat(3);
    expected.push("ListMessageContactVerifications");
    assert_eq!(stand.calls_since(mark)[1..], expected);

    let mark = stand.mark();
    stand.settled("many", "Lukun", json!({ "members": [] })).await;
    let sizes: Vec<_> = bindings_since(&stand, mark).iter().map(|call| call.ids.len()).collect();
    assert_eq!((sizes, bound(&stand, &id)), (vec![5, 5, 2], Vec::new()));
    let events = stand.told().await.events;
    assert!(events.contains("AssociateMembers") && events.contains("DisassociateMembers"));
}

/// Whoever takes everything out first keeps the person from hearing of anything for a while.
#[tokio::test(flavor = "multi_thread")]
async fn a_set_at_the_limit_is_replaced_without_being_refused_or_left_empty() {
    let stand = many_accounts().await;
    let (old, new) = (accounts(11..=20), accounts(21..=30));
    let id = stand.settled("swap", "Fengyi", json!({ "members": old })).await;
    let mark = stand.mark();
    stand.settled("swap", "Fengyi", json!({ "members": new })).await;
    assert_eq!(bound(&stand, &id), new);
    let mut now: BTreeSet<_> = old.into_iter().collect();
    for Binding { binds, ids, outcome } in bindings_since(&stand, mark) {
        assert_eq!(outcome, "OK");
        for id in ids {
            assert!(if binds { now.insert(id) } else { now.remove(&id) });
        }
        assert!((5..=10).contains(&now.len()), "{now:?}");
    }
    // With room, what is added goes first.
    let mark = stand.mark();
    stand.settled("swap", "Fengyi", json!({ "members": accounts(21..=22) })).await;
    stand.settled("swap", "Fengyi", json!({ "members": accounts(31..=32) })).await;
    let kinds: Vec<_> = bindings_since(&stand, mark).iter().map(|call| call.binds).collect();
    assert_eq!(kinds, [false, false, true, false]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_limit_is_the_clouds_and_what_it_has_no_room_for_is_named() {
    let stand = many_accounts().await;
    let members = accounts(1..=12);
    let mark = stand.mark();
    stand.apply("full", "Xuanzi", json!({ "members": members })).await;
    let object = stand.becomes("full", "Bound", "QuotaExceeded").await;
    assert_stalled(&object, false);
    let id = object.data["status"]["contactId"].as_str().unwrap().to_owned();
    assert_eq!(bound(&stand, &id), accounts(1..=10));
    let message = message_of(&object, "Ready");
    assert!(message.contains("LimitExceeded.ContactMembers"), "{message}");
    assert!(message.contains(&account(11)) && message.contains(&account(12)), "{message}");
    assert!(!message.contains(&account(10)), "{message}");
    assert_eq!(object.data["status"]["drift"][0]["field"], "members");
    // Two were too many, and so was one.
    let refused = bindings_since(&stand, mark);
    let refused = refused.iter().filter(|call| call.outcome != "OK").map(|call| call.ids.len());
    assert_eq!(refused.collect::<Vec<_>>(), [2, 1]);
    is_quiet(&stand).await;

    // It keeps nothing else from being done.
    let fields = json!({ "members": members, "title": "CEO" });
    stand.apply("full", "Xuanzi", fields.clone()).await;
    stand
        .cloud("the title is written", |_| (stand.in_cloud(&id).title == "CEO").then_some(()))
        .await;
    stand.becomes("full", "Synced", "QuotaExceeded").await;
    // The limit was raised.
    stand.simulator.quotas(|quotas| quotas.members_per_contact = 20);
    stand.ask("full").await;
    stand.becomes("full", "Ready", "InSync").await;
    assert_eq!(bound(&stand, &id), members);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_is_not_in_the_directory_is_named_and_all_others_are_bound() {
    let stand = many_accounts().await;
    let mut members = accounts([1, 2, 6, 7]);
    members.push(UNKNOWN.to_owned());
    stand.apply("guest", "Zhizhuang", json!({ "members": members })).await;
    let object = stand.becomes("guest", "Bound", "UnknownMember").await;
    assert_stalled(&object, false);
    assert_eq!(condition_of(&object, "Synced")["reason"], "UnknownMember");
    let id = object.data["status"]["contactId"].as_str().unwrap().to_owned();
    assert_eq!(bound(&stand, &id), accounts([1, 2, 6, 7]));
    for condition in ["Bound", "Synced", "Ready"] {
        let message = message_of(&object, condition);
        assert!(message.contains(UNKNOWN) && !message.contains(&account(1)), "{message}");
    }
    // What is known is not asked for at each poll.
    is_quiet(&stand).await;
    // Drift beside it is put right, with one call each.
    let mark = stand.mark();
    outsider_binds(&stand, &id, &accounts([1, 2, 6, 8]));
    stand.ask_directory().await;
    let settled = |_: &_| (bound(&stand, &id) == accounts([1, 2, 6, 7])).then_some(());
    stand.cloud("the drift is put right", settled).await;
    let calls = bindings_since(&stand, mark);
    let expected = [(true, accounts([7])), (false, accounts([8]))];
    let calls: Vec<_> = calls.into_iter().map(|call| (call.binds, call.ids)).collect();
    assert_eq!(calls, expected);

    // The fields go on, and another spec is tried at once.
    let fields = json!({ "members": members, "title": "CEO" });
    let mark = stand.mark();
    stand.apply("guest", "Zhizhuang", fields.clone()).await;
    stand.becomes("guest", "Bound", "UnknownMember").await;
    assert_eq!(stand.in_cloud(&id).title, "CEO");
    assert_eq!(bindings_since(&stand, mark).len(), 1);
    // The account joins; a person who knows asks.
    joins(&stand, UNKNOWN);
    stand.ask("guest").await;
    stand.becomes("guest", "Ready", "InSync").await;
    assert_eq!(bound(&stand, &id), members);
}

/// Something that looks like an id and is none to the cloud.
#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_the_cloud_takes_for_no_id_stops_the_contact_alone() {
    let stand = Stand::new().await;
    let members = [account(1), "nonsense".to_owned(), account(2)];
    stand.apply("odd", "Gongsun", json!({ "members": members })).await;
    let object = stand.becomes("odd", "Bound", "InvalidContact").await;
    assert_stalled(&object, true);
    assert!(message_of(&object, "Stalled").contains("nonsense"));
    let id = object.data["status"]["contactId"].as_str().unwrap().to_owned();
    assert_eq!(bound(&stand, &id), accounts([1, 2]));
    is_quiet(&stand).await;
    stand.settled("odd", "Gongsun", json!({ "members": accounts([2]) })).await;
    assert_eq!(bound(&stand, &id), accounts([2]));
}

/// A17: the cloud may bind nothing before the owner has confirmed.
#[tokio::test(flavor = "multi_thread")]
async fn a_contact_that_cannot_be_bound_yet_waits_and_then_goes_on_by_itself() {
    let stand = Stand::new().await;
    stand.simulator.switches(|switches| switches.bind_while_verifying = Tolerance::Reject);
    let members = accounts([1, 2]);
    stand.apply("waiting", "Lingyi", json!({ "members": members })).await;
    let object = stand.becomes("waiting", "Bound", "VerificationPending").await;
    assert_stalled(&object, false);
    assert_eq!(condition_of(&object, "Synced")["reason"], "Updating");
    assert!(message_of(&object, "Ready").contains("its owner has confirmed"));
    is_quiet(&stand).await;
    // Everything else goes on.
    let fields = json!({ "members": members, "title": "CEO" });
    stand.apply("waiting", "Lingyi", fields).await;
    let object = stand.becomes("waiting", "Bound", "VerificationPending").await;
    let id = object.data["status"]["contactId"].as_str().unwrap().to_owned();
    assert_eq!(stand.in_cloud(&id).title, "CEO");

    let email = Some("waiting@example.com".to_owned());
    assert!(stand.simulator.change_contact(&id, ContactChange { email, ..Default::default() }));
    stand.ask_directory().await;
    stand.becomes("waiting", "Ready", "InSync").await;
    assert_eq!(bound(&stand, &id), members);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_field_that_cannot_be_written_keeps_no_binding_from_it() {
    let stand = Stand::new().await;
    stand.simulator.switches(|switches| switches.empty_phone = EmptyPhone::Reject);
    let phone = json!({ "phoneNumber": "86-13800138071" });
    let id = stand.settled("stuck", "Jianshi", phone).await;
    stand.apply("stuck", "Jianshi", json!({ "members": accounts([1]) })).await;
    let object = stand.becomes("stuck", "Synced", "NotRemovable").await;
    stand.sees("stuck", "it is bound", |it| condition_of(it, "Bound")["status"] == "True").await;
    assert_eq!(condition_of(&object, "Ready")["status"], "False");
    assert_eq!(bound(&stand, &id), accounts([1]));

    stand.apply("stuck", "Jianshi", json!({ "members": [UNKNOWN] })).await;
    let object = stand.becomes("stuck", "Bound", "UnknownMember").await;
    assert_eq!(condition_of(&object, "Synced")["reason"], "NotRemovable");
    let drift = object.data["status"]["drift"].as_array().unwrap();
    assert!(drift.iter().any(|entry| entry["field"] == "members"), "{drift:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn folders_and_the_whole_directory_can_be_members() {
    let directory = "rd-broad1".to_owned();
    let tree = Tree { directory_id: directory.clone(), ..Tree::default() };
    let stand = Stand::with(Options { tree, ..Options::default() }, json!({})).await;
    let root = directory_simulator::ROOT_FOLDER_ID.to_owned();
    let mut members = vec![account(1), FOLDER.to_owned(), root, directory.clone()];
    members.sort();
    let id = stand.settled("broad", "Kuangheng", json!({ "members": members })).await;
    assert_eq!(bound(&stand, &id), members);
    stand.settled("broad", "Kuangheng", json!({ "members": [directory] })).await;
    assert_eq!(bound(&stand, &id), [directory]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_directory_does_not_allow_stops_a_contact_until_it_is_allowed() {
    let spec = json!({ "allowedMembers": [account(1), FOLDER] });
    let stand = Stand::with(Options::default(), spec).await;
    let id = stand.settled("held", "Panyun", json!({ "members": [FOLDER] })).await;
    // In the folder, but not named: an allowed folder does not let it in.
    let fields = json!({ "members": [FOLDER, account(2)], "title": "CEO" });
    stand.apply("held", "Panyun", fields).await;
    let older = stand.apply("new", "Shenshi", json!({ "members": accounts([1, 3]) })).await;
    let mark = stand.mark();
    for (object, refused) in [("held", account(2)), ("new", account(3))] {
        stand.becomes(object, "Synced", "MemberNotAllowed").await;
        let object = stand.ask(object).await;
        assert_stalled(&object, true);
        let message = message_of(&object, "Ready");
        assert!(message.contains(&refused) && !message.contains(&account(1)), "{message}");
        assert!(!message.contains(FOLDER), "{message}");
    }
    assert_eq!(stand.calls_since(mark), [""; 0]);
    assert_eq!(
        (stand.in_cloud(&id).title.as_str(), bound(&stand, &id)),
        ("TechnicalDirector", vec![FOLDER.to_owned()])
    );
    // Who is stopped can keep no name from others.
    a_second_later(&older).await;
    stand.settled("younger", "Shenshi", json!({ "members": accounts([1]) })).await;

    stand.apply_directory(json!({ "allowedMembers": accounts([2]) })).await;
    stand.becomes("held", "Synced", "MemberNotAllowed").await;
    stand.becomes("younger", "Synced", "MemberNotAllowed").await;
    stand.apply_directory(json!({ "allowedMembers": [FOLDER, account(2)] })).await;
    stand.becomes("held", "Ready", "InSync").await;
    assert_eq!(bound(&stand, &id), [account(2), FOLDER.to_owned()]);
    stand.apply_directory(json!({})).await;
    stand.becomes("younger", "Ready", "InSync").await;
    stand.becomes("new", "Synced", "NameClaimed").await;
    // It says what may be named, and takes nothing out of the cloud.
    stand.apply_directory(json!({ "allowedMembers": accounts([3]) })).await;
    stand.becomes("held", "Synced", "MemberNotAllowed").await;
    assert_eq!(bound(&stand, &id), [account(2), FOLDER.to_owned()]);
    stand.delete("held").await;
    stand.is_gone("held").await;
    assert!(stand.simulator.state().contact(&id).is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn bindings_that_an_outsider_changes_are_put_right() {
    let stand = Stand::new().await;
    let members = [account(1), account(2), FOLDER.to_owned()];
    let id = stand.settled("drift", "Boren", json!({ "members": members })).await;
    let bystander = stand.bystander("Borenli");
    outsider_binds(&stand, &bystander.id, &accounts([4]));
    for (outsider, calls) in [
        (vec![account(1), account(2)], vec![(true, vec![FOLDER.to_owned()])]),
        (vec![], vec![(true, members.to_vec())]),
        (
            vec![account(1), account(3), account(4), FOLDER.to_owned()],
            vec![(true, accounts([2])), (false, accounts([3, 4]))],
        ),
    ] {
        let mark = stand.mark();
        outsider_binds(&stand, &id, &outsider);
        stand.ask_directory().await;
        let settled = |_: &_| (bound(&stand, &id) == members).then_some(());
        stand.cloud("the drift is put right", settled).await;
        // Every time anew: what was tried before is not counted together.
        is_quiet(&stand).await;
        stand.becomes("drift", "Ready", "InSync").await;
        let made = bindings_since(&stand, mark).into_iter();
        assert_eq!(made.map(|call| (call.binds, call.ids)).collect::<Vec<_>>(), calls);
    }
    assert_eq!(bound(&stand, &bystander.id), accounts([4]));
    // It is remembered, however many calls it took.
    let drift = stand.object("drift").await.data["status"]["drift"].clone();
    assert_eq!(drift[0]["field"], "members");
    assert_eq!(drift[0]["reverts"].as_array().unwrap().len(), 3, "{drift}");

    let put_right = |_: &_| (bound(&stand, &id) == members).then_some(());
    for _ in 0..2 {
        outsider_binds(&stand, &id, &accounts([5]));
        stand.ask_directory().await;
        stand.cloud("the drift is put right", put_right).await;
        is_quiet(&stand).await;
    }
    outsider_binds(&stand, &id, &accounts([5]));
    stand.ask_directory().await;
    let object = stand.becomes("drift", "Bound", "DriftContested").await;
    assert_eq!(condition_of(&object, "Ready")["reason"], "DriftContested");
    is_quiet(&stand).await;
    assert_eq!(bound(&stand, &id), accounts([5]));
    // A person asks for one more try.
    stand.ask("drift").await;
    stand.cloud("the drift is put right", put_right).await;
    stand.becomes("drift", "Ready", "InSync").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn under_report_only_other_bindings_are_shown_and_nothing_is_written() {
    let stand = Stand::new().await;
    let fields = |mode| json!({ "members": accounts([1, 2]), "reconcilePolicy": mode });
    let id = stand.settled("watched", "Yanzi", fields("Enforce")).await;
    stand.settled("watched", "Yanzi", fields("ReportOnly")).await;
    let mark = stand.mark();
    outsider_binds(&stand, &id, &accounts([2, 3]));
    stand.ask_directory().await;
    let object = stand.becomes("watched", "Ready", "Drifted").await;
    assert_eq!(condition_of(&object, "Bound")["reason"], "Drifted");
    let drift = &object.data["status"]["drift"];
    let expected =
        [json!("members"), json!(accounts([1, 2]).join(", ")), json!(accounts([2, 3]).join(", "))];
    assert_eq!(
        [&drift[0]["field"], &drift[0]["desired"], &drift[0]["observed"]],
        expected.each_ref()
    );
    is_quiet(&stand).await;
    assert_eq!(bindings_since(&stand, mark), []);
    stand.settled("watched", "Yanzi", fields("Enforce")).await;
    assert_eq!(bound(&stand, &id), accounts([1, 2]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_binding_whose_answer_is_lost_is_read_before_anything_is_repeated() {
    for binds in [true, false] {
        join_all(lost().into_iter().map(|kind| bound_once(kind, true, binds))).await;
        join_all(never_came().into_iter().map(|kind| bound_once(kind, false, binds))).await;
    }
}

/// A call for bindings that is done or not, and answered like this.
pub(crate) async fn bound_once(kind: FaultKind, executed: bool, binds: bool) {
    let case = format!("{kind:?} {binds}");
    let stand = Stand::new().await;
    let (before, after) = if binds { ([1, 2], vec![1, 2, 3]) } else { ([1, 2], vec![2]) };
    let id = stand.settled("uncertain", "Ruanyu", json!({ "members": accounts(before) })).await;
    let near = stand.bystander("Ruanyuli");

    let calls = stand.simulator.counts().calls;
    let action = if binds { "AssociateMembers" } else { "DisassociateMembers" };
    stand.simulator.fault(Fault::on(action, kind));
    stand.settled("uncertain", "Ruanyu", json!({ "members": accounts(after.clone()) })).await;
    let expected = if executed { &[true, false][..] } else { &[true, false, true, false][..] };
    assert_eq!(reads_and_writes(&stand, calls, action), expected, "{case}");
    assert_eq!(bound(&stand, &id), accounts(after), "{case}");
    stand.is_untouched(&near);
}

/// A18: binding what is bound, and unbinding what is not, is harmless or refused. It happens when
/// somebody else is faster.
#[tokio::test(flavor = "multi_thread")]
async fn who_is_slower_than_somebody_else_reads_again_and_goes_on() {
    for again in [BindAgain::Ok, BindAgain::Duplicate] {
        for binds in [true, false] {
            let stand = Stand::new().await;
            stand.simulator.switches(|switches| switches.bind_again = again);
            let before = if binds { vec![1] } else { vec![1, 2, 3] };
            let after = if binds { vec![1, 2, 3] } else { vec![1] };
            let fields = json!({ "members": accounts(before) });
            let id = stand.settled("raced", "Fanli", fields).await;
            let action = if binds { "AssociateMembers" } else { "DisassociateMembers" };
            stand.simulator.fault(Fault::on(action, FaultKind::Hang { executed: false }));
            let fields = json!({ "members": accounts(after.clone()) });
            let mark = stand.mark();
            stand.apply("raced", "Fanli", fields).await;
            stand.cloud("the call is under way", |sim| sim.faults().is_empty().then_some(())).await;
            outsider_binds(&stand, &id, &accounts([1, 2]));
            stand.simulator.release_hanging();
            let object = stand.becomes("raced", "Ready", "InSync").await;
            assert!(object.data["status"].get("lastError").is_none());
            assert_eq!(bound(&stand, &id), accounts(after), "{again:?} {binds}");
            // It is read again after a refusal, so that only what is left is sent.
            let calls = bindings_since(&stand, mark).into_iter().map(|call| call.ids);
            let mut expected = vec![accounts([2, 3])];
            if again == BindAgain::Duplicate {
                expected.push(accounts([if binds { 3 } else { 2 }]));
            }
            assert_eq!(calls.collect::<Vec<_>>(), expected, "{again:?} {binds}");
        }
    }
}

/// A26: `Members` may also show what follows from a folder. It cannot be told apart from what was
/// bound, so that it is unbound, which has no effect, and then left alone.
#[tokio::test(flavor = "multi_thread")]
async fn what_follows_from_a_folder_is_not_fought_over() {
    for again in [BindAgain::Ok, BindAgain::Duplicate] {
        let stand = Stand::new().await;
        let expanded = |switches: &mut Switches| {
            switches.members_shown = Members::Inherited;
            switches.bind_again = again;
        };
        stand.simulator.switches(expanded);
        let members = [account(1), FOLDER.to_owned()];
        let mark = stand.mark();
        let id = stand.settled("covered", "Wenzhong", json!({ "members": members })).await;
        assert_eq!(bound(&stand, &id), members, "{again:?}");
        let object = stand.object("covered").await;
        let observed = object.data["status"]["observed"]["members"].as_array().unwrap();
        assert!(observed.len() > members.len(), "the story has a point: {observed:?}");
        assert!(message_of(&object, "Bound").contains("follow"), "{}", object.data["status"]);
        assert!(bindings_since(&stand, mark).len() < 12);
        is_quiet(&stand).await;
        // The folder goes, and what followed from it.
        stand.settled("covered", "Wenzhong", json!({ "members": accounts([1, 4]) })).await;
        assert_eq!(bound(&stand, &id), accounts([1, 4]), "{again:?}");
        stand.settled("covered", "Wenzhong", json!({ "members": [] })).await;
        assert_eq!(bound(&stand, &id), [""; 0]);
    }
}
