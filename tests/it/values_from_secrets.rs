//! Addresses and numbers from Secrets of the contact's own namespace: read by name, noticed when
//! they change, told when they are missing, and shown nowhere.

use std::collections::BTreeSet;
use std::time::Duration;

use cluster::{AuditEvent, By, Mark};
use directory_simulator::ContactChange;
use futures::future::join_all;
use jiff::SignedDuration;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::Client;
use kube::api::{Api, DeleteParams, DynamicObject, PostParams};
use kube::core::ApiResource;
use message_contact_operator::clock::Clock;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::many::{name, operator_client, roomy};
use crate::privacy;
use crate::process::{Alone, alone};
use crate::proxy::Proxy;
use crate::stand::{PATIENCE, Stand, apply, assert_stalled, becomes, condition_of, message_of};

/// What the documentation promises: a change is noticed within this time.
const NOTICED_WITHIN: Duration = Duration::from_mins(1);

/// A contact's fields that take its address from the key `mail` of a Secret.
pub fn mail_from(secret: &str) -> Value {
    json!({ "emailAddress": null, "emailAddressFrom": place(secret, "mail") })
}

fn place(secret: &str, key: &str) -> Value {
    json!({ "secretKeyRef": { "name": secret, "key": key } })
}

impl Stand {
    fn secrets_in(&self, namespace: &str) -> Api<Secret> {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// Makes a Secret of the story's namespace hold exactly these values.
    pub async fn put(&self, name: &str, values: Value) {
        self.put_in(&self.namespace, name, values).await;
    }

    async fn put_in(&self, namespace: &str, name: &str, values: Value) {
        for value in values.as_object().unwrap().values().filter_map(Value::as_str) {
            self.private.add(value.trim_end());
        }
        let api = self.secrets_in(namespace);
        let metadata = json!({ "name": name });
        let secret = json!({ "metadata": metadata, "stringData": values });
        let secret: Secret = serde_json::from_value(secret).unwrap();
        if api.get_opt(name).await.unwrap().is_some() {
            api.replace(name, &PostParams::default(), &secret).await.unwrap();
        } else {
            api.create(&PostParams::default(), &secret).await.unwrap();
        }
    }

    async fn drop_secret(&self, name: &str) {
        let api = self.secrets_in(&self.namespace);
        api.delete(name, &DeleteParams::default()).await.unwrap();
    }

    /// The calls since then that change a contact, with what was sent.
    fn changes_since(&self, mark: u64) -> Vec<String> {
        let mut calls = self.calls_since(mark);
        let is_read = |call: &String| call.starts_with("Get") || call.starts_with("List");
        calls.retain(|call| !is_read(call));
        calls
    }

    /// Waits until the address that waits for its owner in the cloud is this one.
    async fn waits_for(&self, id: &str, address: &str) {
        self.cloud(&format!("{id} has the address"), |cloud| {
            let contact = cloud.state().contact(id)?.contact.clone();
            (contact.email.pending?.value == address).then_some(())
        })
        .await;
    }
}

/// An operator of the story's own, on a clock that the story moves.
struct Own {
    stand: Stand,
    clock: Clock,
    operator: JoinHandle<()>,
    alone: Alone,
}

impl Own {
    async fn new() -> Self {
        let alone = alone().await;
        let client = operator_client(alone.cluster);
        let stand = Stand::on(alone.cluster, roomy()).await;
        Self::with(alone, stand, client).await
    }

    async fn with(alone: Alone, stand: Stand, client: Client) -> Self {
        privacy::listen();
        let clock = Clock::system();
        let operator = tokio::spawn(crate::stand::run_operator(client, clock.clone()));
        // No poll comes by itself.
        stand.apply_directory(json!({ "pollInterval": "24h" })).await;
        stand.directory_becomes("Ready", "Connected").await;
        Self { stand, clock, operator, alone }
    }

    /// Lets so much time pass, for the operator and for the cloud.
    fn pass(&self, time: Duration) {
        self.stand.simulator.advance(time);
        self.clock.advance(SignedDuration::try_from(time).unwrap());
    }

    /// What the operator has asked the apiserver about Secrets, wherever they are.
    fn asked_for_secrets(&self, mark: Mark) -> Vec<AuditEvent> {
        let mut asked = self.alone.cluster.audit().since(mark).unwrap();
        asked.retain(|it| it.is_by(By::UserAgent("message-contact-operator")));
        asked.retain(|it| it.resource == "secrets");
        asked
    }

    /// As before, of those of the story's namespace.
    fn asked_for_ours(&self, mark: Mark) -> Vec<AuditEvent> {
        let mut asked = self.asked_for_secrets(mark);
        asked.retain(|it| it.namespace == self.stand.namespace);
        asked
    }

    async fn end(self) {
        self.operator.abort();
        let _ = self.operator.await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_secret_is_one_ordinary_change_within_the_stated_time() {
    let own = Own::new().await;
    let stand = &own.stand;
    // A line end as `echo` leaves it.
    stand.put("desk", json!({ "mail": "old.desk@example.com\n", "tel": "86-13800138041" })).await;
    let mut fields = mail_from("desk");
    fields["phoneNumberFrom"] = place("desk", "tel");
    let id = stand.settled("desk", "Zilu", fields.clone()).await;
    let bystander = stand.bystander("Ziluan");
    let contact = stand.in_cloud(&id);
    assert_eq!(contact.email.pending.unwrap().value, "old.desk@example.com");
    assert_eq!(contact.phone.pending.unwrap().value, "86-13800138041");

    for (values, sent) in [
        (json!({ "mail": "new.desk@example.com", "tel": "86-13800138041" }), "EmailAddress"),
        (json!({ "mail": "new.desk@example.com", "tel": "86-13800138042" }), "PhoneNumber"),
    ] {
        let mark = stand.mark();
        stand.put("desk", values).await;
        own.pass(NOTICED_WITHIN);
        let made = |_: &_| (!stand.changes_since(mark).is_empty()).then_some(());
        stand.cloud("the change is made", made).await;
        stand.ask("desk").await;
        stand.becomes("desk", "Ready", "InSync").await;
        assert_eq!(stand.changes_since(mark), [format!("UpdateMessageContact {sent}")]);
    }
    let contact = stand.in_cloud(&id);
    assert_eq!(contact.email.pending.unwrap().value, "new.desk@example.com");
    assert_eq!(contact.phone.pending.unwrap().value, "86-13800138042");

    // Whoever edits the Secret and then the object, or asks, does not wait for that time.
    let mark = stand.mark();
    stand.put("desk", json!({ "mail": "third.desk@example.com", "tel": "86-13800138042" })).await;
    fields["title"] = json!("CEO");
    stand.apply("desk", "Zilu", fields).await;
    stand.becomes("desk", "Ready", "InSync").await;
    assert_eq!(stand.changes_since(mark), ["UpdateMessageContact EmailAddress Title"]);
    stand.put("desk", json!({ "mail": "fourth.desk@example.com", "tel": "86-13800138042" })).await;
    stand.ask("desk").await;
    assert_eq!(
        stand.in_cloud(&id).email.pending.unwrap().value,
        "fourth.desk@example.com",
        "it was asked for"
    );
    stand.is_untouched(&bystander);
    own.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_or_malformed_is_told_and_noticed_when_it_comes() {
    let stand = Stand::new().await;
    stand.apply("early", "Yanhui", mail_from("late")).await;
    let told = async |reason: &str, words: &[&str]| {
        let look = |object: &DynamicObject| {
            let message = message_of(object, "Synced");
            condition_of(object, "Synced")["reason"] == reason
                && words.iter().all(|word| message.contains(word))
        };
        stand.sees("early", &format!("{reason} {words:?}"), look).await
    };
    let missing = "there is no Secret `late` in this namespace; create it, with the key `mail`";
    let object = told("SecretNotFound", &["spec.emailAddressFrom", missing]).await;
    assert_stalled(&object, false);
    assert!(stand.told().await.events.contains("SecretNotFound"), "a person would want to know");

    stand.put("late", json!({ "email": "late.desk@example.com" })).await;
    let object = told("SecretNotFound", &["the Secret `late` has no key `mail`"]).await;
    assert_stalled(&object, false);

    stand.put("late", json!({ "mail": "late.desk@example.com, other@example.com" })).await;
    let words = ["spec.emailAddressFrom", "`mail` in the Secret `late`", "write one mailbox"];
    let object = told("InvalidContact", &words).await;
    assert_stalled(&object, true);
    stand.put("late", json!({ "mail": "late.desk@example.com" })).await;
    stand.becomes("early", "Ready", "InSync").await;
    assert_eq!(stand.simulator.counts().writes, 1, "nothing was sent before");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_the_cloud_refused_is_tried_again_when_the_secret_changes() {
    let own = Own::new().await;
    let stand = &own.stand;
    stand.put("abroad", json!({ "tel": "999-13800138043" })).await;
    let fields = json!({ "phoneNumberFrom": place("abroad", "tel") });
    stand.apply("abroad", "Zigong", fields).await;
    let object = stand.becomes("abroad", "Synced", "InvalidContact").await;
    assert_stalled(&object, true);
    assert_eq!(object.data["status"]["lastError"]["action"], "AddMessageContact");
    own.pass(NOTICED_WITHIN);
    own.pass(NOTICED_WITHIN);
    stand.ask_directory().await;
    assert_eq!(stand.simulator.counts().of("AddMessageContact"), 1, "it is not sent again");

    stand.put("abroad", json!({ "tel": "86-13800138043" })).await;
    own.pass(NOTICED_WITHIN);
    let object = stand.becomes("abroad", "Ready", "InSync").await;
    assert!(object.data["status"].get("lastError").is_none());
    assert_eq!(object.metadata.generation, Some(1));

    // Nobody saw this Secret change: the operator was away.
    stand.put("away", json!({ "tel": "999-13800138045" })).await;
    let fields = json!({ "phoneNumberFrom": place("away", "tel") });
    stand.apply("away", "Zixia", fields).await;
    stand.becomes("away", "Synced", "InvalidContact").await;
    own.operator.abort();
    stand.put("away", json!({ "tel": "86-13800138045" })).await;
    let client = operator_client(own.alone.cluster);
    let second = tokio::spawn(crate::stand::run_operator(client, own.clock.clone()));
    stand.becomes("away", "Ready", "InSync").await;
    second.abort();
    let _ = second.await;
    own.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_goes_takes_nothing_with_it() {
    let own = Own::new().await;
    let stand = &own.stand;
    stand.put("leaving", json!({ "mail": "leaving.desk@example.com" })).await;
    let id = stand.settled("leaving", "Ranyou", mail_from("leaving")).await;
    let contact = stand.in_cloud(&id);
    let mark = stand.mark();

    stand.drop_secret("leaving").await;
    own.pass(NOTICED_WITHIN);
    let object = stand.becomes("leaving", "Synced", "SecretNotFound").await;
    assert_eq!(object.data["status"]["contactId"], json!(id));
    assert_eq!((stand.in_cloud(&id), stand.calls_since(mark).len()), (contact.clone(), 0));
    // It comes back as it was: nothing is left to do.
    stand.put("leaving", json!({ "mail": "leaving.desk@example.com" })).await;
    own.pass(Duration::from_secs(2));
    stand.becomes("leaving", "Ready", "InSync").await;
    assert_eq!((stand.in_cloud(&id), stand.calls_since(mark).len()), (contact, 0));

    // Deleting the object needs no Secret.
    stand.drop_secret("leaving").await;
    own.pass(NOTICED_WITHIN);
    stand.becomes("leaving", "Synced", "SecretNotFound").await;
    stand.delete("leaving").await;
    stand.is_gone("leaving").await;
    assert!(stand.simulator.state().contact(&id).is_none());
    own.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_of_one_name_in_two_namespaces_do_not_see_each_other() {
    let own = Own::new().await;
    let stand = &own.stand;
    let there = own.alone.cluster.namespace("neighbour").await.unwrap();
    stand.put("desk", json!({ "mail": "here.desk@example.com" })).await;
    stand.put_in(&there, "desk", json!({ "mail": "there.desk@example.com" })).await;
    stand.put_in(&there, "theirs", json!({ "mail": "theirs.desk@example.com" })).await;
    let here_id = stand.settled("here", "Zengzi", mail_from("desk")).await;
    let mut manifest = stand.manifest("there", "Zisi", mail_from("desk"));
    manifest["metadata"]["namespace"] = json!(there);
    apply(&stand.contacts_in(&there), &manifest).await.unwrap();
    let object = becomes(&stand.contacts_in(&there), "there", "Ready", "InSync").await;
    let there_id = object.data["status"]["contactId"].as_str().unwrap().to_owned();
    stand.waits_for(&here_id, "here.desk@example.com").await;
    stand.waits_for(&there_id, "there.desk@example.com").await;

    stand.put_in(&there, "desk", json!({ "mail": "moved.desk@example.com" })).await;
    own.pass(NOTICED_WITHIN);
    stand.waits_for(&there_id, "moved.desk@example.com").await;
    stand.waits_for(&here_id, "here.desk@example.com").await;
    assert_eq!(stand.simulator.counts().of("UpdateMessageContact"), 1);
    // A Secret that only the neighbour has is none of ours.
    stand.apply("thief", "Zhuangzi", mail_from("theirs")).await;
    stand.becomes("thief", "Synced", "SecretNotFound").await;
    own.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_secret_is_read_by_name_once_a_minute_however_many_use_it() {
    let own = Own::new().await;
    let stand = &own.stand;
    let began = own.alone.cluster.audit().mark().unwrap();
    stand.put("shared", json!({ "mail": "shared.desk@example.com" })).await;
    stand.put("single", json!({ "mail": "single.desk@example.com" })).await;
    join_all((0..20).map(async |number| {
        let object = format!("shared-{number}");
        stand.apply(&object, &name(number), mail_from("shared")).await;
    }))
    .await;
    stand.apply("single", "Single", mail_from("single")).await;
    // Nobody reads for whoever is not followed.
    let asleep = json!({ "suspend": true, "emailAddress": null,
        "emailAddressFrom": place("asleep", "mail") });
    stand.apply("asleep", "Asleep", asleep).await;
    let mut wrong = mail_from("wrong");
    wrong["phoneNumber"] = json!("86-13800138044");
    wrong["directoryRef"] = json!({ "name": "nowhere" });
    stand.apply("wrong", "Wrong", wrong).await;
    for number in 0..20 {
        stand.becomes(&format!("shared-{number}"), "Ready", "InSync").await;
    }
    stand.becomes("single", "Ready", "InSync").await;
    stand.becomes("asleep", "Synced", "Suspended").await;
    stand.becomes("wrong", "Synced", "DirectoryNotFound").await;

    // At rest: a minute is one read of each Secret, no write and no call.
    stand.ask("single").await;
    let (audit, calls) = (own.alone.cluster.audit(), stand.mark());
    let count = |mark: Mark| own.asked_for_ours(mark).len();
    let mark = audit.mark().unwrap();
    for minute in 1..=5 {
        own.pass(NOTICED_WITHIN);
        cluster::wait_for(PATIENCE, "both are read", || {
            let read = count(mark);
            std::future::ready(if read >= 2 * minute { Ok(()) } else { Err(read.to_string()) })
        })
        .await
        .unwrap();
    }
    // Whatever else was to be read has had its turn before this.
    stand.ask("shared-7").await;
    let reads = own.asked_for_ours(mark);
    let of = |name: &str| reads.iter().filter(|it| it.name == name).count();
    println!(
        "five minutes and a request, 20 objects with one Secret and 1 with another: {} and {} reads",
        of("shared"),
        of("single")
    );
    assert_eq!((of("shared"), of("single"), reads.len()), (5 + 1, 5, 11), "{reads:#?}");
    let mut writes = audit.writes(mark, By::UserAgent("message-contact-operator")).unwrap();
    writes.retain(|it| it.namespace == stand.namespace && it.name != "shared-7");
    assert_eq!(writes, [], "{writes:#?}");
    assert_eq!(stand.calls_since(calls), [""; 0]);

    for request in own.asked_for_secrets(began) {
        let AuditEvent { verb, name, .. } = &request;
        assert!(verb == "get" && !name.is_empty(), "{request:#?}");
    }
    let read = own.asked_for_ours(began).into_iter().map(|it| it.name);
    assert_eq!(read.collect::<BTreeSet<_>>(), ["shared", "single"].map(str::to_owned).into());
    own.end().await;
}

/// Lets a user read that one Secret of a namespace, as the README says.
async fn grant(stand: &Stand, user: &str, secret: &str) {
    let api =
        |kind| Api::<DynamicObject>::namespaced_with(stand.client.clone(), &stand.namespace, &kind);
    let group = "rbac.authorization.k8s.io";
    let role = json!({ "apiVersion": format!("{group}/v1"), "kind": "Role",
        "metadata": { "name": "read" }, "rules": [{ "apiGroups": [""], "resources": ["secrets"],
            "resourceNames": [secret], "verbs": ["get"] }] });
    apply(&api(ApiResource::erase::<Role>(&())), &role).await.unwrap();
    let binding = json!({ "apiVersion": format!("{group}/v1"), "kind": "RoleBinding",
        "metadata": { "name": "read" },
        "subjects": [{ "apiGroup": group, "kind": "User", "name": user }],
        "roleRef": { "apiGroup": group, "kind": "Role", "name": "read" } });
    apply(&api(ApiResource::erase::<RoleBinding>(&())), &binding).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn that_a_secret_may_not_be_read_is_told_with_the_right_to_grant() {
    let alone = alone().await;
    let user = "operator-without-values";
    let stand = Stand::on(alone.cluster, roomy()).await;
    crate::secrets::grant(&stand, user, user, crate::secrets::all_but_secrets()).await;
    let client = alone.cluster.client_as(user, &[]);
    let own = Own::with(alone, stand, client).await;
    let stand = &own.stand;
    stand.put("closed", json!({ "mail": "closed.desk@example.com" })).await;
    stand.apply("closed", "Mozi", mail_from("closed")).await;
    let object = stand.becomes("closed", "Synced", "SecretNotFound").await;
    assert_stalled(&object, false);
    let message = message_of(&object, "Synced");
    for word in ["spec.emailAddressFrom", "may not read", "`closed`", "`get`"] {
        assert!(message.contains(word), "no {word} in {message}");
    }
    assert_eq!(stand.simulator.counts().writes, 0);

    grant(stand, user, "closed").await;
    let object = stand.becomes("closed", "Ready", "InSync").await;
    // Taken back while in sync: told, and nothing is changed.
    let mark = stand.mark();
    let kind = ApiResource::erase::<RoleBinding>(&());
    let bindings: Api<DynamicObject> =
        Api::namespaced_with(stand.client.clone(), &stand.namespace, &kind);
    bindings.delete("read", &DeleteParams::default()).await.unwrap();
    own.pass(NOTICED_WITHIN);
    let after = stand.becomes("closed", "Synced", "SecretNotFound").await;
    assert_eq!(after.data["status"]["contactId"], object.data["status"]["contactId"]);
    assert_eq!(stand.calls_since(mark), [""; 0]);
    own.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_restart_nothing_is_written_while_the_secret_cannot_be_read() {
    let first = Own::new().await;
    let stand = &first.stand;
    stand.put("silent", json!({ "mail": "silent.desk@example.com" })).await;
    let id = stand.settled("silent", "Hanfeizi", mail_from("silent")).await;
    stand.settled("plain", "Shangyang", json!({})).await;
    first.operator.abort();
    let before = stand.object("silent").await;
    // Something to do as soon as the value is known, which must wait for it.
    let title = Some("Other".to_owned());
    assert!(stand.simulator.change_contact(&id, ContactChange { title, ..Default::default() }));

    let proxy = Proxy::start(first.alone.cluster).await;
    proxy.expire(&["/secrets/silent"]);
    let second = crate::stand::run_operator(proxy.client(), first.clock.clone());
    let second = tokio::spawn(second);
    let mark = stand.mark();
    // The operator is at work, and has had a pass of this object and a list of the directory.
    stand.ask("plain").await;
    stand.ask_directory().await;
    stand.apply("newcomer", "Lisi", mail_from("silent")).await;
    stand.apply("plain", "Shangyang", json!({ "title": "CEO" })).await;
    stand.becomes("plain", "Ready", "InSync").await;
    // The apiserver has not answered for so long that the read was given up and begun again.
    let log = || async {
        let log = stand.told().await.log;
        let told = log.contains("a Secret could not be read");
        if told { Ok(()) } else { Err(log) }
    };
    cluster::wait_for(PATIENCE, "it is told that there is no answer", log).await.unwrap();
    let object = stand.object("silent").await;
    assert_eq!(object.metadata.resource_version, before.metadata.resource_version);
    let written = |object: &str| proxy.writes().iter().any(|path| path.contains(object));
    assert!(!written("silent") && !written("newcomer"), "{:?}", proxy.writes());
    let about = |id: &str| {
        let calls = stand.simulator.calls_since(mark);
        calls
            .iter()
            .filter(|call| call.parameters.get("ContactId").is_some_and(|it| it == id))
            .count()
    };
    assert_eq!(about(&id), 0);

    proxy.resume();
    first.pass(NOTICED_WITHIN);
    stand.becomes("newcomer", "Ready", "InSync").await;
    let titled = |_: &_| (stand.in_cloud(&id).title == "TechnicalDirector").then_some(());
    stand.cloud("the drift is put right", titled).await;
    second.abort();
    let _ = second.await;
    first.end().await;
}

/// A restart at rest costs a read, and nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_an_operator_whose_contacts_are_in_sync_writes_nothing() {
    let first = Own::new().await;
    let stand = &first.stand;
    stand.put("kept", json!({ "mail": "kept.desk@example.com" })).await;
    stand.settled("kept", "Xunzi", mail_from("kept")).await;
    first.operator.abort();
    let before = stand.object("kept").await;
    let (mark, calls) = (first.alone.cluster.audit().mark().unwrap(), stand.mark());
    let client = operator_client(first.alone.cluster);
    let second = tokio::spawn(crate::stand::run_operator(client, first.clock.clone()));
    cluster::wait_for(PATIENCE, "the Secret is read", || {
        let read = first.asked_for_ours(mark).len();
        std::future::ready(if read > 0 { Ok(()) } else { Err("not yet") })
    })
    .await
    .unwrap();
    stand.settled("later", "Mengzi", json!({})).await;
    let after = stand.object("kept").await;
    assert_eq!(after.metadata.resource_version, before.metadata.resource_version);
    let added = "AddMessageContact EmailAddress MessageTypes Name Title";
    assert_eq!(stand.changes_since(calls), [added]);
    second.abort();
    let _ = second.await;
    first.end().await;
}
