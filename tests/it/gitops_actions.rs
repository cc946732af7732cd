//! The buttons of Argo CD: each is offered when it is of use, changes nothing but what it says, and
//! the operator does what it promises.

use directory_simulator::{Click, ContactChange};
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use serde_json::{Value, json};

use crate::judges::{judge_one, press};
use crate::stand::{self, Stand};
use crate::walk::{channel, defaults, sent};

/// Presses a button and stores what it leaves, as Argo CD does: the difference as a merge patch.
async fn pressed(api: &Api<DynamicObject>, name: &str, action: &str) -> DynamicObject {
    let before = api.get(name).await.unwrap();
    let after = press(action, &before).await.unwrap();
    let patch = difference(&serde_json::to_value(&before).unwrap(), &after);
    let params =
        PatchParams { field_manager: Some("argocd-server".to_owned()), ..Default::default() };
    api.patch(name, &params, &Patch::Merge(patch)).await.unwrap()
}

/// A merge patch from one value to the other.
fn difference(before: &Value, after: &Value) -> Value {
    let empty = serde_json::Map::new();
    let (old, new) = (before.as_object().unwrap(), after.as_object().unwrap_or(&empty));
    let mut patch = serde_json::Map::new();
    for (key, value) in new {
        match old.get(key) {
            Some(known) if known == value => {}
            Some(known) if known.is_object() && value.is_object() => {
                patch.insert(key.clone(), difference(known, value));
            }
            _ => drop(patch.insert(key.clone(), value.clone())),
        }
    }
    patch.extend(
        old.keys().filter(|key| !new.contains_key(*key)).map(|key| (key.clone(), Value::Null)),
    );
    Value::Object(patch)
}

/// The buttons that can be pressed.
async fn offered(object: &DynamicObject) -> Vec<String> {
    let actions = judge_one(object).await.actions;
    actions.into_iter().filter(|(_, enabled)| *enabled).map(|(name, _)| name).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn resend_verification_asks_the_owner_once_more_and_is_offered_while_the_owner_has_not_confirmed()
 {
    let stand = Stand::new().await;
    let contacts = stand.contacts();
    stand.apply("desk", "Xunfei", defaults(json!({ "members": [] }))).await;
    let waiting = stand.becomes("desk", "EmailVerified", "VerificationSent").await;
    assert_eq!(offered(&waiting).await, ["reconcile", "resend-verification", "suspend"]);
    let after = pressed(&contacts, "desk", "resend-verification").await;
    assert_eq!(after.data["spec"], waiting.data["spec"], "the empty list is still a list");
    let asked =
        after.metadata.annotations.unwrap()["message-contacts.dev/resendRequestedAt"].clone();
    let object = stand
        .sees("desk", "it is handled", |it| {
            it.data["status"]["lastHandledResendAt"] == json!(asked)
        })
        .await;
    assert_eq!(channel(&object, "email")["sends"], 2);
    // It is written down before it is sent.
    stand.cloud("it is sent", |it| (it.outbox().len() == 2).then_some(())).await;
    assert_eq!(sent(&stand), ["desk@example.com"; 2]);
    asked.parse::<jiff::Timestamp>().unwrap();

    assert_eq!(stand.simulator.confirm("desk@example.com"), Click::Confirmed);
    stand.ask_directory().await;
    let ready = stand.becomes("desk", "Ready", "InSync").await;
    assert_eq!(offered(&ready).await, ["reconcile", "suspend"]);
    press("resend-verification", &ready).await.unwrap_err();
}

#[tokio::test(flavor = "multi_thread")]
async fn suspend_stops_a_contact_and_resume_leaves_it_as_git_has_it() {
    let stand = Stand::new().await;
    let contacts = stand.contacts();
    let id = stand.settled("desk", "Zhangfei", json!({})).await;
    let before = stand.object("desk").await;
    pressed(&contacts, "desk", "suspend").await;
    let suspended = stand.becomes("desk", "Synced", "Suspended").await;
    assert_eq!(offered(&suspended).await, ["resume"]);
    assert_eq!(judge_one(&suspended).await.argocd.status, "Suspended");
    let title = Some("CEO".to_owned());
    stand.simulator.change_contact(&id, ContactChange { title, ..Default::default() });
    stand.ask_directory().await;
    assert_eq!(stand.in_cloud(&id).title, "CEO", "nothing is put right meanwhile");

    pressed(&contacts, "desk", "resume").await;
    let resumed = stand.becomes("desk", "Ready", "InSync").await;
    assert_eq!(resumed.data["spec"], before.data["spec"]);
    stand.cloud("it is put right", |_| (stand.in_cloud(&id).title != "CEO").then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reconcile_gives_a_contact_that_was_given_up_another_try() {
    let stand = Stand::new().await;
    stand.stranger("Zhaoyun");
    stand.ask_directory().await;
    stand.apply("desk", "Zhaoyun", json!({ "adoptionPolicy": "Never" })).await;
    let stalled = stand.becomes("desk", "Synced", "NameTaken").await;
    assert_eq!(offered(&stalled).await, ["reconcile", "suspend"]);
    pressed(&stand.contacts(), "desk", "reconcile").await;
    stand
        .sees("desk", "it is handled", |it| {
            let asked = it.metadata.annotations.iter().flatten().next().map(|(_, text)| text);
            asked.is_some_and(|asked| it.data["status"]["lastHandledReconcileAt"] == json!(asked))
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_and_a_policy_have_their_buttons_as_well() {
    let stand = Stand::new().await;
    let (directories, policies) = (stand.directories(), stand.policies());
    let before = stand.object_of_directory().await;
    assert_eq!(offered(&before).await, ["reconcile", "suspend"]);
    pressed(&directories, &stand.directory, "suspend").await;
    let suspended = stand.directory_becomes("Ready", "Suspended").await;
    assert_eq!(offered(&suspended).await, ["resume"]);
    let resumed = pressed(&directories, &stand.directory, "resume").await;
    // The empty selector would come back from Lua as a list.
    assert_eq!(resumed.data["spec"], before.data["spec"]);
    stand.directory_becomes("Ready", "Connected").await;
    let lists = stand.simulator.counts().of("ListMessageContacts");
    pressed(&directories, &stand.directory, "reconcile").await;
    stand
        .directory_sees("it is handled", |it| {
            it.data["status"]["lastHandledReconcileAt"].is_string()
        })
        .await;
    assert!(stand.simulator.counts().of("ListMessageContacts") > lists);

    stand.apply_policy("phones", json!({ "contact": { "phoneNumber": "Required" } })).await;
    let name = stand.policy("phones");
    let policy = stand::becomes(&policies, &name, "Ready", "Evaluated").await;
    assert_eq!(offered(&policy).await, ["reconcile"]);
    pressed(&policies, &name, "reconcile").await;
    stand::sees(&policies, &name, "it is handled", |it| {
        it.data["status"]["lastHandledReconcileAt"].is_string()
    })
    .await;
}
