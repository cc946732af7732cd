//! A contact that is in the cloud already: who may take it over, and what is told of it.

use directory_simulator::{ContactChange, Fault, FaultKind, NewContact, Options};
use jiff::{SignedDuration, Timestamp};
use kube::api::{DynamicObject, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::gate::{Gate, Mishap, Point, Side, Which};
use crate::process::{Operator, alone};
use crate::same_name::a_second_later;
use crate::stand::{
    Stand, apply, assert_stalled, becomes, cluster, condition_of, message_of, request,
};
use crate::walk::{Walk, defaults};

/// The fields of a contact as [`Stand::manifest`] writes them for that object, confirmed.
fn alike(object: &str, name: &str) -> NewContact {
    NewContact {
        title: "TechnicalDirector".to_owned(),
        message_types: vec!["FaultMessage".to_owned(), "SecurityMessage".to_owned()],
        ..NewContact::new(name, &format!("{object}@example.com"))
    }
}

/// Puts a contact into the cloud and has it listed.
async fn listed(stand: &Stand, contact: NewContact) -> String {
    let id = stand.simulator.insert_contact(contact);
    stand.ask_directory().await;
    id
}

fn writes(stand: &Stand) -> (u64, usize) {
    (stand.simulator.counts().writes, stand.simulator.outbox().len())
}

fn contact_id(object: &DynamicObject) -> &str {
    object.data["status"]["contactId"].as_str().unwrap_or_default()
}

fn titled(title: &str) -> ContactChange {
    ContactChange { title: Some(title.to_owned()), ..ContactChange::default() }
}

/// The status of an object that holds nothing says nothing of the contact, in whatever form.
fn tells_nothing(object: &DynamicObject, foreign: &[&str]) {
    let status = &object.data["status"];
    for field in ["contactId", "creation", "observed", "drift", "verification", "lastWrite"] {
        assert!(status.get(field).is_none(), "{field} in {status}");
    }
    for foreign in foreign {
        assert!(!status.to_string().contains(foreign), "{foreign} in {status}");
    }
}

impl Stand {
    /// Changes an object as somebody with every right would.
    async fn patch(&self, object: &str, part: &str, patch: Value) {
        let (api, parameters) = (self.contacts(), PatchParams::default());
        let patch = Patch::Merge(&patch);
        match part {
            "status" => api.patch_status(object, &parameters, &patch).await.map(drop).unwrap(),
            _ => api.patch(object, &parameters, &patch).await.map(drop).unwrap(),
        }
    }

    /// Takes objects out of the cluster behind the operator's back: nothing happens in the cloud.
    async fn lose(&self, objects: &[&str]) {
        self.apply_directory(json!({ "suspend": true })).await;
        for object in objects {
            self.becomes(object, "Synced", "DirectoryNotReady").await;
            self.delete(object).await;
            self.patch(object, "metadata", json!({ "metadata": { "finalizers": null } })).await;
            self.is_gone(object).await;
        }
        self.apply_directory(json!({ "suspend": false })).await;
        self.directory_becomes("Ready", "Connected").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_is_restored_from_git_finds_all_its_contacts_and_writes_nothing() {
    let stand = Stand::new().await;
    // Never confirmed; confirmed long ago; and one whose new address waits while the old one holds.
    let phone = || defaults(json!({ "phoneNumber": "86-13800138051" }));
    let moved = || defaults(json!({ "emailAddress": "newcomer@example.com" }));
    let plain = || defaults(json!({}));
    let never = stand.settled("never", "Chenping", phone()).await;
    listed(&stand, alike("long", "Zhoubo")).await;
    let long = stand.settled("long", "Zhoubo", plain()).await;
    listed(&stand, alike("moved", "Xiaohe")).await;
    stand.settled("moved", "Xiaohe", plain()).await;
    let changed = stand.settled("moved", "Xiaohe", moved()).await;
    assert!(stand.in_cloud(&changed).email.pending.is_some());
    // The owner's day has begun: two messages to the first one, and one to the new address.
    stand.cloud("all were asked", |it| (it.outbox().len() == 3).then_some(())).await;
    // Somebody else has created this one, and nobody has confirmed it.
    let unconfirmed = NewContact { confirmed: false, ..alike("foreign", "Lujia") };
    let foreign = listed(&stand, unconfirmed).await;
    let bystander = stand.bystander("Zhouboyi");

    stand.lose(&["never", "long", "moved"]).await;
    let (before, contacts) = (writes(&stand), stand.simulator.state().contacts);
    let mails = stand.simulator.outbox();
    let restored = [
        stand.settled("never", "Chenping", phone()).await,
        stand.settled("long", "Zhoubo", plain()).await,
        stand.settled("moved", "Xiaohe", moved()).await,
        stand.settled("foreign", "Lujia", plain()).await,
    ];
    assert_eq!(restored, [never, long, changed, foreign]);
    for object in ["never", "long", "moved", "foreign"] {
        let object = stand.ask(object).await;
        assert_eq!(condition_of(&object, "Synced")["reason"], "InSync");
        assert!(object.metadata.finalizers.is_some());
    }
    assert_eq!(writes(&stand), before, "no write, no mail");
    assert_eq!(stand.simulator.outbox(), mails);
    assert_eq!(stand.simulator.state().contacts, contacts);
    stand.is_untouched(&bystander);

    // Sending is automatic, and still nobody is asked before a whole slot is over.
    for (object, channel, condition) in [
        ("never", "email", "EmailVerified"),
        ("never", "phone", "PhoneVerified"),
        ("moved", "email", "EmailVerified"),
        ("foreign", "email", "EmailVerified"),
    ] {
        let found = stand.object(object).await;
        let recorded = &found.data["status"]["verification"][channel];
        assert_eq!((&recorded["state"], &recorded["sends"]), (&json!("Sent"), &json!(0)));
        let time =
            |field: &str| -> Timestamp { recorded[field].as_str().unwrap().parse().unwrap() };
        let slot = time("nextSendTime").duration_since(time("lastSentTime"));
        assert_eq!(slot, SignedDuration::from_hours(24), "{object} {channel}");
        assert_eq!(condition_of(&found, condition)["reason"], "VerificationSent");
    }
    let object = stand.object("long").await;
    let email = &object.data["status"]["verification"]["email"];
    assert_eq!(
        (&email["state"], &email["evidence"], &email["sends"]),
        (&json!("Verified"), &json!("Active"), &json!(0))
    );
    assert!(stand.told().await.events.contains("Adopted"));
}

/// That a phone is confirmed the cloud does not show. It is asked for a message in the next slot,
/// says that there is nothing to confirm, and sends none.
#[tokio::test(flavor = "multi_thread")]
async fn the_confirmed_phone_of_a_contact_that_is_taken_over_is_verified_a_day_later() {
    let walk = Walk::new(Options::default()).await;
    let stand = &walk.stand;
    let phone = || Some("86-13800138055".to_owned());
    let id = listed(stand, NewContact { phone: phone(), ..alike("desk", "Kefu") }).await;
    let fields = defaults(json!({ "phoneNumber": "86-13800138055" }));
    assert_eq!(stand.settled("desk", "Kefu", fields).await, id);
    let object = stand.ask("desk").await;
    let reasons = |object: &DynamicObject| {
        ["EmailVerified", "PhoneVerified"].map(|it| condition_of(object, it)["reason"].clone())
    };
    assert_eq!(reasons(&object), [json!("Verified"), json!("VerificationSent")]);
    assert_eq!(object.data["status"]["verification"]["phone"]["sends"], 0);

    // An hour too early nothing is asked.
    let send = "SendPhoneVerificationForMessageContact";
    walk.later(SignedDuration::from_hours(23));
    let object = stand.ask("desk").await;
    assert_eq!(reasons(&object)[1], json!("VerificationSent"));
    assert_eq!(stand.simulator.counts().of(send), 0);

    walk.later(SignedDuration::from_hours(1));
    let object = stand.becomes("desk", "PhoneVerified", "Verified").await;
    assert_eq!(object.data["status"]["verification"]["phone"]["evidence"], "NothingPending");
    assert_eq!(condition_of(&object, "Ready")["status"], "True");
    assert_eq!((stand.simulator.counts().of(send), stand.simulator.outbox().len()), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_differs_the_refusal_reads_alike_and_tells_nothing() {
    let stand = Stand::new().await;
    let foreign = NewContact {
        phone: Some("86-13800138052".to_owned()),
        members: vec!["fd-sim0000001".to_owned()],
        ..alike("theirs", "Lishiji")
    };
    let id = listed(&stand, foreign).await;
    let before = stand.simulator.state().contact(&id).cloned();
    let theirs = json!({ "emailAddress": "theirs@example.com", "phoneNumber": "86-13800138052" });
    let wrong = [
        json!({ "emailAddress": "guess@example.com" }),
        json!({ "phoneNumber": "86-13800138053" }),
        json!({ "phoneNumber": null }),
        json!({ "title": "CEO" }),
        json!({ "messageTypes": ["FaultMessage"] }),
        json!({ "members": [] }),
        json!({ "members": ["fd-sim0000002"] }),
    ];
    let mut told = Vec::new();
    for fields in wrong {
        let mut spec = theirs.clone();
        crate::stand::merge(&mut spec, fields);
        let applied = stand.apply("guess", "Lishiji", spec).await;
        let object = stand.becomes("guess", "Synced", "AdoptionRefused").await;
        assert_eq!(object.metadata.generation, applied.metadata.generation);
        assert_stalled(&object, true);
        assert!(object.metadata.finalizers.is_none(), "nothing is held");
        tells_nothing(&object, &["theirs", "t***", "8052", &id, "fd-sim0000001"]);
        told.push(["Synced", "Ready", "Stalled"].map(|condition| message_of(&object, condition)));
    }
    told.dedup();
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(stand.simulator.state().contact(&id).cloned(), before);
    assert_eq!(writes(&stand), (0, 0));

    // When somebody makes the contact as the object wants it, nobody has to touch the object.
    let change =
        ContactChange { email: Some("guess@example.com".to_owned()), ..ContactChange::default() };
    stand.apply("guess", "Lishiji", json!({ "phoneNumber": "86-13800138052" })).await;
    stand.becomes("guess", "Synced", "AdoptionRefused").await;
    assert!(stand.simulator.change_contact(&id, change));
    stand.ask_directory().await;
    let object = stand.becomes("guess", "Synced", "InSync").await;
    assert_eq!((contact_id(&object), writes(&stand)), (&*id, (0, 0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn bindings_must_be_equal_only_where_the_spec_has_them() {
    let stand = Stand::new().await;
    let bound = |object: &str, name: &str| NewContact {
        members: vec!["fd-sim0000001".to_owned(), "2000000000000001".to_owned()],
        ..alike(object, name)
    };
    let equal = listed(&stand, bound("equal", "Zhangcang")).await;
    let silent = listed(&stand, bound("silent", "Shentuj")).await;
    let members = json!({ "members": ["2000000000000001", "fd-sim0000001"] });
    assert_eq!(stand.settled("equal", "Zhangcang", members).await, equal);
    assert_eq!(stand.settled("silent", "Shentuj", json!({})).await, silent);
    assert_eq!(writes(&stand), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn always_takes_over_and_puts_right_and_never_does_nothing() {
    let stand = Stand::with(Options::default(), json!({ "adoption": "Always" })).await;
    let id =
        listed(&stand, NewContact { title: "CEO".to_owned(), ..alike("greedy", "Fankuai") }).await;
    let other = listed(&stand, alike("shy", "Guanying")).await;
    let bystander = stand.bystander("Fankuaier");
    let always = json!({ "adoptionPolicy": "Always", "messageTypes": ["FaultMessage"] });
    assert_eq!(stand.settled("greedy", "Fankuai", always).await, id);
    let contact = stand.in_cloud(&id);
    assert_eq!(contact.title, "TechnicalDirector");
    assert_eq!(contact.message_types, ["FaultMessage"]);
    assert_eq!(stand.simulator.counts().of("UpdateMessageContact"), 1);
    assert_eq!(stand.simulator.counts().of("AddMessageContact"), 0);

    let before = stand.simulator.state().contact(&other).cloned();
    stand.apply("shy", "Guanying", json!({ "adoptionPolicy": "Never" })).await;
    let object = stand.becomes("shy", "Synced", "NameTaken").await;
    assert_stalled(&object, true);
    tells_nothing(&object, &[&other, "s***"]);
    assert_eq!(stand.simulator.state().contact(&other).cloned(), before);
    // The policy may be changed, and then it is taken.
    assert_eq!(stand.settled("shy", "Guanying", json!({})).await, other);
    assert_eq!(stand.simulator.state().contact(&other).cloned(), before);
    stand.is_untouched(&bystander);
    assert_eq!(stand.simulator.counts().writes, 1);

    // What was taken over is deleted like any other.
    stand.delete("greedy").await;
    stand.is_gone("greedy").await;
    assert!(stand.simulator.state().contact(&id).is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_directory_caps_what_its_contacts_ask_for() {
    let stand = Stand::with(Options::default(), json!({ "adoption": "Never" })).await;
    let id =
        listed(&stand, NewContact { title: "CEO".to_owned(), ..alike("eager", "Jixin") }).await;
    let twin = listed(&stand, alike("twin", "Caocan")).await;
    let always = json!({ "adoptionPolicy": "Always" });
    stand.apply("eager", "Jixin", always.clone()).await;
    stand.apply("twin", "Caocan", always).await;
    stand.becomes("eager", "Synced", "NameTaken").await;
    stand.becomes("twin", "Synced", "NameTaken").await;

    // Left out it is `IfIdentical`.
    stand.apply_directory(json!({})).await;
    stand.becomes("eager", "Synced", "AdoptionRefused").await;
    let object = stand.becomes("twin", "Synced", "InSync").await;
    assert_eq!((contact_id(&object), writes(&stand)), (&*twin, (0, 0)));
    stand.apply_directory(json!({ "adoption": "Always" })).await;
    let object = stand.becomes("eager", "Synced", "InSync").await;
    assert_eq!((contact_id(&object), stand.simulator.counts().writes), (&*id, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_differs_in_case_alone_is_never_taken_over() {
    let stand = Stand::with(Options::default(), json!({ "adoption": "Always" })).await;
    let id = listed(&stand, alike("case", "zhangLIANG")).await;
    stand.apply("case", "Zhangliang", json!({ "adoptionPolicy": "Always" })).await;
    let object = stand.becomes("case", "Synced", "NameTaken").await;
    assert_stalled(&object, true);
    tells_nothing(&object, &[&id]);
    assert_eq!(writes(&stand), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_objects_the_older_takes_over() {
    let stand = Stand::unconnected(Options::default()).await;
    let id = stand.simulator.insert_contact(alike("same", "Jiayi"));
    let email = json!({ "emailAddress": "same@example.com" });
    let older = stand.apply("zeta", "Jiayi", email.clone()).await;
    a_second_later(&older).await;
    stand.apply("alpha", "Jiayi", email).await;
    stand.apply_directory(json!({})).await;
    let object = stand.becomes("zeta", "Synced", "InSync").await;
    assert_eq!(contact_id(&object), id);
    stand.becomes("alpha", "Synced", "NameClaimed").await;
    let object = stand.ask("alpha").await;
    assert_stalled(&object, true);
    tells_nothing(&object, &[&id]);
    assert_eq!(writes(&stand), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn report_only_takes_nothing_over_and_says_so() {
    let stand = Stand::new().await;
    let same = listed(&stand, alike("looks", "Chaocuo")).await;
    let other = listed(&stand, alike("elsewhere", "Yuanang")).await;
    let report = json!({ "reconcilePolicy": "ReportOnly" });
    for (object, name) in [("looks", "Chaocuo"), ("peeks", "Yuanang")] {
        stand.apply(object, name, report.clone()).await;
        let found = stand.becomes(object, "Synced", "Drifted").await;
        let message = message_of(&found, "Synced");
        assert!(message.contains("ReportOnly` forbids to take it over"), "{message}");
        assert!(found.metadata.finalizers.is_none());
        tells_nothing(&found, &[&same, &other, "elsewhere", "e***"]);
    }
    // Whoever only looks keeps nobody else from it.
    stand.apply("acts", "Chaocuo", json!({ "emailAddress": "looks@example.com" })).await;
    let object = stand.becomes("acts", "Synced", "InSync").await;
    assert_eq!(contact_id(&object), same);
    stand.becomes("looks", "Synced", "NameClaimed").await;
    assert_eq!(writes(&stand), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_contacts_that_match_none_is_taken_over() {
    let stand = Stand::with(Options::default(), json!({ "adoption": "Always" })).await;
    let first = listed(&stand, alike("choice", "Weiqing")).await;
    let second = listed(&stand, alike("choice", "Weiqing")).await;
    stand.apply("choice", "Weiqing", json!({ "adoptionPolicy": "Always" })).await;
    let object = stand.becomes("choice", "Synced", "Ambiguous").await;
    assert_stalled(&object, true);
    tells_nothing(&object, &[&first, &second]);
    assert_eq!(writes(&stand), (0, 0));
    assert!(stand.simulator.remove_contact(&first));
    stand.ask_directory().await;
    let object = stand.becomes("choice", "Synced", "InSync").await;
    assert_eq!((contact_id(&object), writes(&stand)), (&*second, (0, 0)));
}

/// A list may be late: what it shows may be gone, or have another name by now (A23).
#[tokio::test(flavor = "multi_thread")]
async fn a_contact_is_read_before_it_is_taken_over() {
    let stand = Stand::with(Options::default(), json!({ "pollInterval": "1h" })).await;
    let gone = listed(&stand, alike("gone", "Huoguang")).await;
    let renamed = listed(&stand, alike("renamed", "Jinmidi")).await;
    assert!(stand.simulator.remove_contact(&gone));
    let name = ContactChange { name: Some("Shangguan".to_owned()), ..ContactChange::default() };
    assert!(stand.simulator.change_contact(&renamed, name));
    let new = stand.settled("gone", "Huoguang", json!({})).await;
    assert_ne!(new, gone);
    let new = stand.settled("renamed", "Jinmidi", json!({})).await;
    assert_ne!(new, renamed);
    assert_eq!(stand.in_cloud(&renamed).name, "Shangguan", "left as its owner wants it");
    assert_eq!(stand.simulator.counts().of("UpdateMessageContact"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_that_points_to_another_directory_stops_every_write() {
    let stand = Stand::new().await;
    let id = stand.settled("astray", "Zhonghang", json!({})).await;
    // The trap: a contact of that id is in this directory too.
    stand.patch("astray", "status", json!({ "status": { "directoryId": "rd-elsewh" } })).await;
    stand.becomes("astray", "Synced", "WrongDirectory").await;
    let before = writes(&stand);
    stand.apply("astray", "Zhonghang", json!({ "title": "CEO" })).await;
    let object = stand.becomes("astray", "Synced", "WrongDirectory").await;
    assert_stalled(&object, true);
    stand.ask("astray").await;
    assert_eq!(writes(&stand), before);
    stand.delete("astray").await;
    stand.becomes("astray", "Synced", "DeletionFailed").await;
    assert_eq!(writes(&stand), before);
    stand.patch("astray", "spec", json!({ "spec": { "deletionPolicy": "Retain" } })).await;
    stand.is_gone("astray").await;
    assert!(stand.simulator.state().contact(&id).is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_that_points_to_a_held_contact_is_put_aside() {
    let stand = Stand::new().await;
    let id = stand.settled("holder", "Sangho", json!({})).await;
    let holder = stand.object("holder").await;
    a_second_later(&holder).await;
    // A backup tool restores the status of a copy; the copy wants other things.
    let copy = json!({ "title": "CEO", "suspend": true });
    stand.apply("copy", "Sangho", copy).await;
    stand.becomes("copy", "Synced", "Suspended").await;
    let status = json!({ "status": { "contactId": id,
        "directoryId": holder.data["status"]["directoryId"] } });
    stand.patch("copy", "status", status.clone()).await;
    stand.apply("copy", "Sangho", json!({ "title": "CEO" })).await;
    stand.becomes("copy", "Synced", "NameClaimed").await;
    let object = stand.sees("copy", "the id is forgotten", |object| contact_id(object).is_empty());
    tells_nothing(&object.await, &[&id]);
    assert_eq!(stand.in_cloud(&id).title, "TechnicalDirector");
    let holder = stand.ask("holder").await;
    assert_eq!(
        (contact_id(&holder), &condition_of(&holder, "Synced")["reason"]),
        (&*id, &json!("InSync"))
    );
    assert_eq!(stand.simulator.counts().of("UpdateMessageContact"), 0);

    // Deleting such a copy deletes nothing of the holder's, even if it comes at once.
    stand.apply("copy", "Sangho", json!({ "suspend": true })).await;
    stand.becomes("copy", "Synced", "Suspended").await;
    let finalizer = json!({ "metadata": { "finalizers": ["message-contacts.dev/contact"] } });
    stand.patch("copy", "metadata", finalizer).await;
    stand.patch("copy", "status", status).await;
    stand.delete("copy").await;
    stand.is_gone("copy").await;
    assert!(stand.simulator.state().contact(&id).is_some());
    assert_eq!(stand.simulator.counts().of("DeleteMessageContact"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_intent_is_settled_under_its_own_name_after_the_spec_was_renamed() {
    let stand = Stand::new().await;
    // The Add was done, and its answer is lost; meanwhile the spec gets another name.
    stand.simulator.fault(Fault::on("AddMessageContact", FaultKind::Drop { executed: true }));
    let slow = FaultKind::Delay { before_ms: 1500, after_ms: 0 };
    stand.simulator.fault(Fault::on("ListMessageContacts", slow));
    stand.apply("made", "Zhufuyan", json!({})).await;
    let id = stand
        .cloud("the call was made", |sim| sim.state().named("Zhufuyan").map(|it| it.id.clone()))
        .await;
    let trap = listed(&stand, alike("made", "Zhufuyanli")).await;
    stand.apply("made", "Zhufuyanli", json!({})).await;
    // It holds the contact that it has made, so that it takes over no second one.
    let object = stand.becomes("made", "Synced", "NameTaken").await;
    assert_eq!(contact_id(&object), id);
    assert!(stand.simulator.remove_contact(&trap));
    stand.ask_directory().await;
    stand.becomes("made", "Synced", "InSync").await;
    assert_eq!(stand.in_cloud(&id).name, "Zhufuyanli");

    // The Add was refused, and nothing was made: the contact of the new name is taken over.
    stand.simulator.hold();
    stand.apply("unmade", "Dongzhong", json!({})).await;
    stand.becomes("unmade", "Synced", "CloudBusy").await;
    let other = stand.simulator.insert_contact(alike("unmade", "Gongsun"));
    stand.apply("unmade", "Gongsun", json!({})).await;
    stand.ask_directory().await;
    let object = stand.becomes("unmade", "Synced", "InSync").await;
    stand.simulator.release();
    assert_eq!(contact_id(&object), other);
    let state = stand.simulator.state();
    assert!(state.named("Dongzhong").is_none() && state.contacts.len() == 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_replace_changes_nothing_in_the_cloud() {
    let stand = Stand::new().await;
    let id = stand.settled("replaced", "Sushi", json!({})).await;
    let before = writes(&stand);
    // As `kubectl replace` sends it: the manifest, without status, finalizers or annotations.
    let manifest = stand.manifest("replaced", "Sushi", json!({}));
    let object: DynamicObject = serde_json::from_value(manifest).unwrap();
    let version = stand.object("replaced").await.metadata.resource_version;
    let mut replaced = object;
    replaced.metadata.resource_version = version;
    stand.contacts().replace("replaced", &PostParams::default(), &replaced).await.unwrap();
    let held = |object: &DynamicObject| {
        object.metadata.finalizers.as_ref().is_some_and(|finalizers| !finalizers.is_empty())
    };
    let object = stand.sees("replaced", "it has its finalizer again", held).await;
    assert_eq!(contact_id(&object), id);
    let object = stand.ask("replaced").await;
    assert_eq!(condition_of(&object, "Synced")["reason"], "InSync");
    assert_eq!(writes(&stand), before);

    // With `--force` it is deleted and created: under `Retain` the contact is found again.
    stand.settled("replaced", "Sushi", json!({ "deletionPolicy": "Retain" })).await;
    stand.delete("replaced").await;
    stand.is_gone("replaced").await;
    let again = stand.settled("replaced", "Sushi", json!({ "deletionPolicy": "Retain" })).await;
    assert_eq!((again, writes(&stand)), (id, before));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copied_manifest_gets_the_contact_only_when_the_first_object_lets_go() {
    let stand = Stand::new().await;
    let elsewhere = cluster().await.namespace("copies").await.unwrap();
    let retain = json!({ "deletionPolicy": "Retain", "emailAddress": "zhuyun@example.com" });
    let id = stand.settled("first", "Zhuyun", retain.clone()).await;
    let before = writes(&stand);
    // Under another name, and in another namespace.
    stand.apply("second", "Zhuyun", retain.clone()).await;
    let mut third = stand.manifest("first", "Zhuyun", retain);
    third["metadata"]["namespace"] = json!(elsewhere);
    let there = stand.contacts_in(&elsewhere);
    apply(&there, &third).await.unwrap();
    stand.becomes("second", "Synced", "NameClaimed").await;
    let object = becomes(&there, "first", "Synced", "NameClaimed").await;
    tells_nothing(&object, &[&id]);
    assert!(!message_of(&object, "Synced").contains(&stand.namespace));

    stand.delete("second").await;
    stand.is_gone("second").await;
    stand.delete("first").await;
    stand.is_gone("first").await;
    let object = becomes(&there, "first", "Synced", "InSync").await;
    assert_eq!((contact_id(&object), writes(&stand)), (&*id, before));
    there.delete("first", &kube::api::DeleteParams::default()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_who_writes_a_held_name_learns_nothing_by_guessing() {
    let stand = Stand::new().await;
    let tenant = cluster().await.namespace("tenant").await.unwrap();
    let fields = json!({ "emailAddress": "zhang.qian@example.com",
        "phoneNumber": "86-13800138054" });
    let id = stand.settled("victim", "Zhangqian", fields).await;
    let before = (stand.simulator.state().contact(&id).cloned(), writes(&stand));
    let there = stand.contacts_in(&tenant);
    let right = json!({ "emailAddress": "zhang.qian@example.com",
        "phoneNumber": "86-13800138054" });
    let guesses = [
        right.clone(),
        json!({ "emailAddress": "zhang.qian@example.org", "phoneNumber": "86-13800138054" }),
        json!({ "emailAddress": "zhang.qian@example.com" }),
        json!({ "emailAddress": "other@example.com", "adoptionPolicy": "Always" }),
        json!({ "emailAddress": "zhang.qian@example.com", "adoptionPolicy": "Never" }),
        json!({ "emailAddress": "other@example.com", "reconcilePolicy": "ReportOnly" }),
    ];
    let mut told = Vec::new();
    for guess in guesses {
        // Whoever guesses would have messages sent, too.
        let mut manifest = stand.manifest("guess", "Zhangqian", defaults(guess));
        manifest["metadata"]["namespace"] = json!(tenant);
        apply(&there, &manifest).await.unwrap();
        let object = becomes(&there, "guess", "Synced", "NameClaimed").await;
        tells_nothing(&object, &[&id, "z***", "8054"]);
        told.push(["Synced", "Ready", "Stalled"].map(|condition| message_of(&object, condition)));
    }
    told.dedup();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(!told[0].concat().contains(&stand.namespace), "{told:?}");
    let now = (stand.simulator.state().contact(&id).cloned(), writes(&stand));
    assert_eq!(now, before);
}

/// A status without its times.
fn timeless(object: &DynamicObject) -> Value {
    let mut status = object.data["status"].clone();
    for condition in status["conditions"].as_array_mut().unwrap() {
        condition.as_object_mut().unwrap().remove("lastTransitionTime");
    }
    status
}

/// Whether the address of a guess was right showed in whether what waits was asked for, and under
/// `ReportOnly` in what was said.
#[tokio::test(flavor = "multi_thread")]
async fn a_guess_at_a_contact_that_nobody_holds_shows_nothing_in_status_or_calls() {
    let stand = Stand::new().await;
    let right = |number: usize| {
        let fields = json!({ "emailAddress": format!("secret.{number}@example.com"),
            "phoneNumber": "86-13800138056" });
        defaults(fields)
    };
    let guesses = [
        json!({ "title": "CEO" }),
        json!({ "title": "CEO", "emailAddress": "wrong@example.com" }),
        json!({ "title": "CEO", "phoneNumber": "86-13800138057" }),
        json!({ "title": "CEO", "phoneNumber": null }),
        json!({ "emailAddress": "wrong@example.com" }),
        json!({ "messageTypes": ["FaultMessage"] }),
    ];
    let all_right = json!({});
    let report = json!({ "reconcilePolicy": "ReportOnly" });
    let mut number = 0;
    for (management, policy) in [("Full", json!({})), ("Full", report), ("ReportOnly", json!({}))] {
        stand.apply_directory(json!({ "management": management })).await;
        stand.directory_becomes("Ready", "Connected").await;
        let enforced = management == "Full" && policy == json!({});
        let guesses = guesses.iter().chain((!enforced).then_some(&all_right));
        let mut shown = Vec::new();
        for guess in guesses {
            let name = format!("Guess{}", char::from(b'a' + u8::try_from(number).unwrap()));
            let contact = NewContact {
                phone: Some("86-13800138056".to_owned()),
                ..alike(&format!("secret.{number}"), &name)
            };
            // Each guess is the first one at its contact: nothing of it is known but the list.
            let id = listed(&stand, contact).await;
            let before = stand.simulator.state().contact(&id).cloned();
            let mut fields = right(number);
            crate::stand::merge(&mut fields, guess.clone());
            crate::stand::merge(&mut fields, policy.clone());
            let mark = stand.mark();
            let object = format!("guess-{number}");
            stand.apply(&object, &name, fields).await;
            let reason = if enforced { "AdoptionRefused" } else { "Drifted" };
            stand.becomes(&object, "Synced", reason).await;
            let found = stand.ask(&object).await;
            tells_nothing(&found, &[&id, "secret", "s***", "8056"]);
            assert!(found.metadata.finalizers.is_none());
            let mut status = timeless(&found);
            status.as_object_mut().unwrap().remove("lastHandledReconcileAt");
            // It is there if the guess has a phone, whatever the contact has.
            let conditions = status["conditions"].as_array_mut().unwrap();
            conditions.retain(|condition| condition["type"] != "PhoneVerified");
            shown.push((status, stand.calls_since(mark)));
            assert_eq!(stand.simulator.state().contact(&id).cloned(), before);
            number += 1;
        }
        shown.dedup();
        assert_eq!(shown.len(), 1, "{management} {policy}: {shown:#?}");
        let looks = ["ListMessageContactVerifications", "GetMessageContact"];
        let looks = if enforced { &looks[..] } else { &[] };
        assert_eq!(shown[0].1, looks);
    }
    assert_eq!(writes(&stand), (0, 0));
}

/// A tenant took over a contact that was bound to another team's account, left its bindings alone,
/// and changed the address to his own.
#[tokio::test(flavor = "multi_thread")]
async fn a_contact_that_is_bound_to_what_is_not_allowed_is_not_taken_over() {
    let spec = json!({ "adoption": "Always", "allowedMembers": ["fd-sim0000001"] });
    let stand = Stand::with(Options::default(), spec).await;
    let bound = |object: &str, name: &str, members: &[&str]| NewContact {
        members: members.iter().map(|id| (*id).to_owned()).collect(),
        ..alike(object, name)
    };
    let both = ["fd-sim0000001", "fd-sim0000002"];
    let theirs = listed(&stand, bound("theirs", "Yuefei", &both)).await;
    let ours = listed(&stand, bound("near", "Yueyun", &["fd-sim0000001"])).await;
    let before = stand.simulator.state().contact(&theirs).cloned();
    let always = json!({ "adoptionPolicy": "Always" });
    let mut told = Vec::new();
    for fields in [
        always.clone(),
        json!({ "emailAddress": "theirs@example.com" }),
        json!({ "adoptionPolicy": "Always", "members": ["fd-sim0000001"] }),
        json!({ "adoptionPolicy": "Always", "members": [] }),
    ] {
        stand.apply("thief", "Yuefei", defaults(fields)).await;
        let object = stand.becomes("thief", "Synced", "AdoptionRefused").await;
        assert_stalled(&object, true);
        assert!(object.metadata.finalizers.is_none());
        tells_nothing(&object, &["theirs", &theirs, "fd-sim0000002"]);
        told.push(message_of(&object, "Synced"));
    }
    // Another spec that is refused reads the same.
    listed(&stand, NewContact { title: "CEO".to_owned(), ..alike("other", "Yuelei") }).await;
    stand.apply("other", "Yuelei", json!({})).await;
    told.push(message_of(&stand.becomes("other", "Synced", "AdoptionRefused").await, "Synced"));
    told.dedup();
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(stand.simulator.state().contact(&theirs).cloned(), before);
    assert_eq!(writes(&stand), (0, 0));

    // Bound to what is allowed it is taken over; and so is the other one once it may be.
    assert_eq!(stand.settled("near", "Yueyun", json!({})).await, ours);
    let fields = json!({ "adoption": "Always", "allowedMembers": both });
    stand.apply("thief", "Yuefei", always).await;
    stand.apply_directory(fields).await;
    let object = stand.becomes("thief", "Synced", "InSync").await;
    assert_eq!(contact_id(&object), theirs);
}

/// The status that was to hold the contact was never stored, and nobody else got the contact before
/// the operator was started again.
#[tokio::test(flavor = "multi_thread")]
async fn a_contact_whose_adoption_was_not_stored_is_free_for_another_object() {
    let alone = alone().await;
    let stand = Stand::on(alone.cluster, Options::default()).await;
    let gate = Gate::start(&stand).await;
    let operator = Operator::start(&gate.kubeconfig(), &[&stand]);
    stand.apply_directory(json!({})).await;
    stand.directory_becomes("Ready", "Connected").await;
    let id = listed(&stand, alike("first", "Xinqiji")).await;
    let write = "PATCH messagecontacts/status";
    let (side, mishap) = (Side::Before, Mishap::Lost);
    gate.arm(Some(Point { write: Which::First(write.to_owned()), side, mishap }));
    stand.apply("first", "Xinqiji", json!({})).await;
    gate.wrote(write).await;
    // Before it is tried again, its owner wants something else.
    gate.cut();
    let object = stand.object("first").await;
    assert!(object.metadata.finalizers.is_some(), "it was about to be taken over");
    assert_eq!(contact_id(&object), "");
    stand.apply("first", "Xinqiji", json!({ "suspend": true })).await;
    gate.mend();
    let object = stand.becomes("first", "Synced", "Suspended").await;
    assert_eq!(contact_id(&object), "");
    assert_eq!(gate.reached().as_deref(), Some(write), "{:?}", gate.writes());
    let same = json!({ "emailAddress": "first@example.com" });
    assert_eq!(stand.settled("second", "Xinqiji", same).await, id);
    assert_eq!(writes(&stand), (0, 0));
    operator.kill();
}

/// `contactId` in a status is trusted (the tenants' role does not hold `/status`): the object has
/// that contact from then on, and the one that it had is nobody's.
#[tokio::test(flavor = "multi_thread")]
async fn a_status_that_points_to_another_contact_that_nobody_holds_is_followed() {
    let stand = Stand::new().await;
    let old = stand.settled("pointed", "Luyou", json!({})).await;
    let contact = NewContact { title: "CEO".to_owned(), ..alike("elsewhere", "Luyoua") };
    let new = listed(&stand, contact).await;
    let bystander = stand.bystander("Luyouan");
    let before = writes(&stand);
    stand.patch("pointed", "status", json!({ "status": { "contactId": new } })).await;
    // It may not be renamed as long as the old one has the name, and nothing else is written.
    let object = stand.becomes("pointed", "Synced", "NameTaken").await;
    assert_eq!(contact_id(&object), new);
    stand.ask("pointed").await;
    assert_eq!(writes(&stand), before);
    let kept = stand.simulator.state().contact(&old).cloned();
    let unmanaged = |directory: &DynamicObject| {
        let listed = directory.data["status"]["unmanaged"].as_array().cloned().unwrap_or_default();
        let mut ids: Vec<_> =
            listed.iter().map(|it| it["contactId"].as_str().unwrap().to_owned()).collect();
        ids.sort();
        ids
    };
    let mut free = vec![old.clone(), bystander.id.clone()];
    free.sort();
    stand.directory_sees("the old one is unmanaged", |found| unmanaged(found) == free).await;
    // Nobody is kept from it.
    let fields = json!({ "emailAddress": "pointed@example.com" });
    assert_eq!(stand.settled("heir", "Luyou", fields).await, old);
    assert_eq!(stand.simulator.state().contact(&old).cloned(), kept);
    stand.becomes("pointed", "Synced", "NameClaimed").await;

    // Under a name of its own it is made as the spec says, and deleted with the object.
    assert_eq!(stand.settled("pointed", "Luyoub", json!({})).await, new);
    let contact = stand.in_cloud(&new);
    assert_eq!((&*contact.name, &*contact.title), ("Luyoub", "TechnicalDirector"));
    stand.delete("pointed").await;
    stand.is_gone("pointed").await;
    assert!(stand.simulator.state().contact(&new).is_none());
    assert_eq!(stand.simulator.state().contact(&old).cloned(), kept);
    stand.is_untouched(&bystander);
}

/// The gateway carries out one Add twice. The name is unique, so that the second one is refused, and
/// that is the answer which comes back.
#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_adds_twice_leaves_one_contact_which_is_found() {
    let stand = Stand::new().await;
    let twice = || FaultKind::Duplicate { noticed: false };
    stand.simulator.fault(Fault::on("AddMessageContact", twice()));
    let id = stand.settled("twice", "Limu", json!({})).await;
    let state = stand.simulator.state();
    assert_eq!((state.contacts.len(), state.contacts[0].id.as_str()), (1, &*id));

    // Where nothing may be taken over nobody holds it, as nobody can tell whose it is: the directory
    // names it, and it is found once it may be.
    stand.simulator.fault(Fault::on("AddMessageContact", twice()));
    stand.apply("never", "Lixin", json!({ "adoptionPolicy": "Never" })).await;
    stand.becomes("never", "Synced", "NameTaken").await;
    let orphan = stand.simulator.state().named("Lixin").unwrap().id.clone();
    request(&stand.directories(), &stand.directory, "count").await;
    cluster::wait_for(crate::stand::PATIENCE, "the directory names it", || async {
        let directory = stand.object_of_directory().await;
        let unmanaged = directory.data["status"]["unmanaged"].to_string();
        if unmanaged.contains(&orphan) { Ok(()) } else { Err(unmanaged) }
    })
    .await
    .unwrap();
    assert_eq!(stand.settled("never", "Lixin", json!({})).await, orphan);
    assert_eq!(stand.simulator.state().contacts.len(), 2);
    assert_eq!(stand.simulator.counts().of("UpdateMessageContact"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_contact_that_is_held_is_not_given_up_for_another_policy() {
    let stand = Stand::new().await;
    let id = listed(&stand, alike("kept", "Bianque")).await;
    assert_eq!(stand.settled("kept", "Bianque", json!({})).await, id);
    stand.apply_directory(json!({ "adoption": "Never" })).await;
    stand.settled("kept", "Bianque", json!({ "adoptionPolicy": "Never" })).await;
    assert!(stand.simulator.change_contact(&id, titled("CEO")));
    stand.ask("kept").await;
    assert_eq!(stand.in_cloud(&id).title, "TechnicalDirector");
}
