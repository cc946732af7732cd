//! Policies in the operator: for what was there before, and for addresses out of Secrets.

use cluster::By;
use directory_simulator::{ContactChange, NewContact, Options};
use kube::ResourceExt as _;
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams};
use serde_json::{Value, json};

use crate::same_name::a_second_later;
use crate::stand::{self, Own, Stand, assert_stalled, condition_of, message_of};
use crate::values_from_secrets::mail_from;

const PHONE: &str = "contact.phoneNumber: write phoneNumber or phoneNumberFrom";

/// A policy that asks for a phone.
fn phones(enforcement: &str) -> Value {
    json!({ "enforcement": enforcement, "contact": { "phoneNumber": "Required" } })
}

/// A policy that allows one domain.
fn domain(enforcement: &str, domain: &str) -> Value {
    json!({ "enforcement": enforcement, "contact": { "emailDomains": { "allowed": [domain] } } })
}

fn reason(object: &DynamicObject, condition: &str) -> Value {
    condition_of(object, condition)["reason"].clone()
}

impl Stand {
    /// Waits until the operator knows the policy. Each kind has its own watch: a contact that is made
    /// later may be seen earlier.
    async fn policy_is_seen(&self, name: &str) {
        self.ask_policy(name, "seen").await;
    }

    async fn delete_policy(&self, name: &str) {
        let name = self.policy(name);
        self.policies().delete(&name, &DeleteParams::default()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_out_of_a_secret_is_judged_before_anything_is_created() {
    let stand = Stand::new().await;
    stand.put("mailboxes", json!({ "mail": "outside@example.org" })).await;
    stand.apply_policy("ours", domain("Deny", "example.com")).await;
    stand.policy_is_seen("ours").await;
    let ours = stand.policy("ours");
    stand.apply("hidden", "Wangxizhi", mail_from("mailboxes")).await;
    let object = stand.becomes("hidden", "Synced", "PolicyViolation").await;
    assert_stalled(&object, true);
    assert_eq!(reason(&object, "PolicyCompliant"), "PolicyViolation");
    assert_eq!(reason(&object, "Ready"), "PolicyViolation");
    let rule = "contact.emailDomains.allowed: write an address of one of these domains: \
                example.com";
    let expected = format!("ContactPolicy `{ours}` (Deny): {rule}");
    assert_eq!(message_of(&object, "PolicyCompliant"), expected);
    let message = message_of(&object, "Synced");
    assert_eq!(
        message,
        format!("{expected}; nothing is created or updated in the cloud until then")
    );
    stand.ask_directory().await;
    stand.ask("hidden").await;
    assert_eq!(stand.simulator.counts().of("AddMessageContact"), 0);

    // Whoever mends the Secret mends the contact.
    stand.put("mailboxes", json!({ "mail": "inside@example.com" })).await;
    stand.ask("hidden").await;
    let object = stand.becomes("hidden", "Ready", "InSync").await;
    assert_eq!(reason(&object, "PolicyCompliant"), "Compliant");

    // And the other way round: what is in the cloud stays as it is.
    let mark = stand.mark();
    stand.put("mailboxes", json!({ "mail": "outside@example.org" })).await;
    stand.ask("hidden").await;
    let object = stand.becomes("hidden", "Synced", "PolicyViolation").await;
    let id = object.data["status"]["contactId"].as_str().unwrap().to_owned();
    assert_eq!(stand.in_cloud(&id).email.pending.unwrap().value, "inside@example.com");
    let changes = stand.calls_since(mark);
    assert!(
        changes.iter().all(|call| call.starts_with("Get") || call.starts_with("List")),
        "{changes:?}"
    );
    stand.delete("hidden").await;
    stand.is_gone("hidden").await;
    assert!(stand.simulator.state().contact(&id).is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn as_long_as_an_address_is_not_known_nobody_is_called_compliant() {
    let stand = Stand::new().await;
    stand.apply_policy("ours", domain("Warn", "example.com")).await;
    stand.policy_is_seen("ours").await;
    stand.apply("waiting", "Ruanji", mail_from("absent")).await;
    let object = stand.becomes("waiting", "Synced", "SecretNotFound").await;
    let compliant = condition_of(&object, "PolicyCompliant");
    assert_eq!(
        (&compliant["status"], &compliant["reason"]),
        (&json!("Unknown"), &json!("SecretNotFound"))
    );
    stand.put("absent", json!({ "mail": "outside@example.org" })).await;
    stand.ask("waiting").await;
    let object = stand.becomes("waiting", "Ready", "InSync").await;
    assert_eq!(reason(&object, "PolicyCompliant"), "PolicyViolation");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_violator_older_than_its_policy_is_told_left_as_it_is_and_can_be_deleted() {
    let stand = Stand::new().await;
    let id = stand.settled("older", "Xikang", json!({})).await;
    let bystander = stand.bystander("Liuling");
    let before = stand.object("older").await;
    assert_eq!(condition_of(&before, "PolicyCompliant"), Value::Null);

    stand.apply_policy("phones", phones("Deny")).await;
    let object = stand.becomes("older", "Synced", "PolicyViolation").await;
    assert_stalled(&object, true);
    assert!(message_of(&object, "PolicyCompliant").ends_with(PHONE));
    assert_eq!(object.data["status"]["contactId"], json!(id));
    // Not even drift is put right.
    let drifted = ContactChange { title: Some("CEO".to_owned()), ..ContactChange::default() };
    assert!(stand.simulator.change_contact(&id, drifted));
    stand.ask_directory().await;
    stand.ask("older").await;
    assert_eq!(stand.in_cloud(&id).title, "CEO");
    let events = stand.told().await.events;
    assert_eq!(events.matches("\"PolicyViolation\"").count(), 1, "{events}");

    // Who is told and only warned is put right.
    stand.apply_policy("phones", phones("Warn")).await;
    let object = stand.becomes("older", "Ready", "InSync").await;
    assert_eq!(reason(&object, "PolicyCompliant"), "PolicyViolation");
    assert_eq!(stand.in_cloud(&id).title, "TechnicalDirector");

    stand.delete_policy("phones").await;
    let gone = |object: &DynamicObject| condition_of(object, "PolicyCompliant").is_null();
    stand.sees("older", "no policy speaks of it", gone).await;

    stand.apply_policy("phones", phones("Deny")).await;
    stand.becomes("older", "Synced", "PolicyViolation").await;
    stand.delete("older").await;
    stand.is_gone("older").await;
    assert!(stand.simulator.state().contact(&id).is_none());
    stand.is_untouched(&bystander);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_several_policies_all_count_the_strictest_decides_and_each_is_named() {
    let stand = Stand::new().await;
    stand.settled("desk", "Shantao", json!({})).await;
    stand.apply_policy("met", domain("Deny", "example.com")).await;
    let object = stand.becomes("desk", "PolicyCompliant", "Compliant").await;
    assert_eq!(reason(&object, "Ready"), "InSync");

    stand.apply_policy("noting", phones("Audit")).await;
    stand.becomes("desk", "PolicyCompliant", "PolicyViolation").await;
    let titles = json!({ "enforcement": "Warn", "contact": { "titles": { "allowed": ["CEO"] } } });
    stand.apply_policy("warning", titles).await;
    let [noting, warning, denying] =
        ["noting", "warning", "denying"].map(|name| stand.policy(name));
    let mild = format!(
        "ContactPolicy `{warning}` (Warn): contact.titles.allowed: write one of these titles: CEO; \
         ContactPolicy `{noting}` (Audit): {PHONE}"
    );
    let says = |expected: String| {
        move |object: &DynamicObject| message_of(object, "PolicyCompliant") == expected
    };
    let object = stand.sees("desk", "both are named", says(mild.clone())).await;
    assert_eq!(
        (reason(&object, "Synced"), reason(&object, "Ready")),
        (json!("InSync"), json!("InSync"))
    );

    let required = json!({ "enforcement": "Deny",
        "contact": { "messageTypes": { "required": ["ProductMessage"] } } });
    stand.apply_policy("denying", required).await;
    let denied = format!(
        "ContactPolicy `{denying}` (Deny): contact.messageTypes.required: write all of these \
         message types: ProductMessage"
    );
    let object = stand.sees("desk", "all are named", says(format!("{denied}; {mild}"))).await;
    let object = if reason(&object, "Synced") == "PolicyViolation" {
        object
    } else {
        stand.becomes("desk", "Synced", "PolicyViolation").await
    };
    // What stops it is only what may stop it.
    assert!(message_of(&object, "Synced").starts_with(&format!("{denied}; nothing is created")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_violator_keeps_its_name_from_nobody() {
    let stand = Stand::new().await;
    stand.put("mailboxes", json!({ "mail": "outside@example.org" })).await;
    stand.apply_policy("ours", domain("Deny", "example.com")).await;
    stand.policy_is_seen("ours").await;
    let older = stand.apply("older", "Xiangxiu", mail_from("mailboxes")).await;
    stand.becomes("older", "Synced", "PolicyViolation").await;
    a_second_later(&older).await;
    stand.settled("younger", "Xiangxiu", json!({})).await;
    // A policy that goes gives nobody a name that is held.
    stand.delete_policy("ours").await;
    stand.becomes("older", "Synced", "NameClaimed").await;
    stand.ask("younger").await;
    stand.becomes("younger", "Ready", "InSync").await;
    assert_eq!(stand.simulator.counts().of("AddMessageContact"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claimant_goes_on_when_a_policy_stops_the_older_one() {
    let stand = Stand::new().await;
    // The cloud refuses it, and it keeps its turn.
    let refused =
        json!({ "phoneNumber": "999-13800138072", "emailAddress": "outside@example.org" });
    let older = stand.apply("stuck", "Zhanghua", refused).await;
    stand.becomes("stuck", "Synced", "InvalidContact").await;
    a_second_later(&older).await;
    stand.apply("next", "Zhanghua", json!({})).await;
    stand.becomes("next", "Synced", "NameClaimed").await;
    // It speaks of both, says nothing new to the second, and stops the first.
    stand.apply_policy("ours", domain("Deny", "example.com")).await;
    stand.becomes("next", "Ready", "InSync").await;
    stand.becomes("stuck", "Synced", "PolicyViolation").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_labels_of_the_namespace_bring_a_contact_under_a_policy_and_out_of_it() {
    let stand = Stand::new().await;
    stand.settled("desk", "Wangrong", json!({})).await;
    stand.apply("looking", "Ruanxian", json!({ "reconcilePolicy": "ReportOnly" })).await;
    stand.becomes("looking", "Synced", "Drifted").await;
    let selector = json!({ "matchExpressions":
        [{ "key": "tier", "operator": "In", "values": ["one"] }] });
    let mut spec = phones("Audit");
    spec["match"] = json!({ "directories": [stand.directory], "namespaceSelector": selector });
    stand.apply_policy("phones", spec).await;
    let none = |object: &DynamicObject| condition_of(object, "PolicyCompliant").is_null();
    stand.all_seen().await;
    assert!(none(&stand.ask("desk").await));
    stand.label_namespace(json!({ "tier": "one" })).await;
    stand.becomes("desk", "PolicyCompliant", "PolicyViolation").await;
    // Who writes nothing to the cloud is not judged.
    assert!(none(&stand.ask("looking").await));
    stand.label_namespace(json!({ "tier": "two" })).await;
    stand.sees("desk", "no policy speaks of it", none).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_concerns_whom_it_speaks_of_and_at_rest_nothing_is_written() {
    let stand = Stand::new().await;
    let phone = json!({ "phoneNumber": "86-13800138071" });
    stand.settled("inside", "Liuyiqing", json!({})).await;
    let other = Stand::new().await;
    other.settled("outside", "Liuyiqing", json!({})).await;
    let untouched = other.object("outside").await.resource_version();
    for index in 0..20 {
        stand.apply_policy(&format!("met-{index}"), domain("Deny", "example.com")).await;
    }
    stand.becomes("inside", "PolicyCompliant", "Compliant").await;
    stand.apply_policy("phones", phones("Warn")).await;
    let object = stand.becomes("inside", "PolicyCompliant", "PolicyViolation").await;

    // What says nothing new of any contact: labels, and what all together must give.
    let mark = stand.cluster.audit().mark().unwrap();
    let labels = json!({ "metadata": { "labels": { "a": "b" } } });
    let name = stand.policy("met-3");
    let merge = Patch::Merge(&labels);
    stand.policies().patch(&name, &PatchParams::default(), &merge).await.unwrap();
    let mut covering = domain("Deny", "example.com");
    covering["coverage"] = json!([{ "name": "any", "minContacts": 1 }]);
    stand.apply_policy("met-4", covering).await;
    stand.apply_policy("met-5", domain("Warn", "EXAMPLE.com")).await;
    // Something to do at last: whatever was still to come has come before it.
    assert_eq!(
        stand.merge_phone("inside", phone).await,
        object.metadata.generation.map(|it| it + 1)
    );
    stand.becomes("inside", "PolicyCompliant", "Compliant").await;
    let writes = stand.cluster.audit().writes(mark, By::UserAgent("message-contact-operator"));
    let ours = [&stand.namespace, &other.namespace];
    let writes: Vec<_> = writes
        .unwrap()
        .into_iter()
        .filter(|write| ours.contains(&&write.namespace) && write.resource == "messagecontacts")
        .map(|write| write.name)
        .collect();
    assert!(writes.iter().all(|name| name == "inside") && writes.len() <= 3, "{writes:?}");
    assert_eq!(other.object("outside").await.resource_version(), untouched);
}

impl Stand {
    /// Edits a contact and returns its new generation.
    async fn merge_phone(&self, object: &str, spec: Value) -> Option<i64> {
        self.private.add("86-13800138071");
        let patch = json!({ "spec": spec });
        let contacts = self.contacts();
        let patch = Patch::Merge(&patch);
        let edited = contacts.patch(object, &PatchParams::default(), &patch).await.unwrap();
        edited.metadata.generation
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_written_before_the_policies_were_listed() {
    let own = Own::new(stand::another_cluster().await);
    let cluster = own.cluster();
    let stand = Stand::on(cluster, Options::default()).await;
    stand.apply_directory(json!({})).await;
    stand.put("mailboxes", json!({ "mail": "outside@example.org" })).await;
    stand.apply("hidden", "Zhongkui", mail_from("mailboxes")).await;
    // The operator may see everything but policies.
    let user = "operator-without-policies";
    let mut rules = crate::rights::others();
    rules.retain(|rule| rule["resources"] != json!(["contactpolicies"]));
    rules.push(crate::rights::rule("", "secrets", &["get"]));
    crate::secrets::grant(&stand, user, user, json!(rules)).await;
    let client = cluster.client_as(user, &[]);
    let clock = message_contact_operator::clock::Clock::system();
    let operator = tokio::spawn(stand::run_operator(client, clock));
    let mark = cluster.audit().mark().unwrap();
    let asked = || async {
        let events = cluster.audit().since(mark).unwrap();
        let refused = events.iter().filter(|event| {
            event.resource == "contactpolicies" && event.code == 403 && event.user == user
        });
        if refused.count() >= 2 { Ok(()) } else { Err("not yet".to_owned()) }
    };
    cluster::wait_for(stand::PATIENCE, "it asks for policies again", asked).await.unwrap();
    assert_eq!(stand.simulator.counts().calls, 0);
    let writes = cluster.audit().writes(mark, By::User(user)).unwrap();
    assert!(writes.is_empty(), "{writes:#?}");

    stand.apply_policy("ours", domain("Deny", "example.com")).await;
    let policies =
        json!([crate::rights::rule("message-contacts.dev", "contactpolicies", &["list", "watch"])]);
    crate::secrets::grant(&stand, user, "operator-with-policies", policies).await;
    stand.becomes("hidden", "Synced", "PolicyViolation").await;
    assert_eq!(stand.simulator.counts().of("AddMessageContact"), 0);
    operator.abort();
    let _ = operator.await;
}

/// Rules judge what the spec asks for; bindings that it leaves alone are the cloud's.
#[tokio::test(flavor = "multi_thread")]
async fn who_is_taken_over_keeps_bindings_that_a_policy_would_not_let_it_ask_for() {
    let stand = Stand::new().await;
    let account = "2000000000000003".to_owned();
    let allowed = json!({ "members": { "allowed": ["fd-sim0000001"] } });
    stand.apply_policy("members", json!({ "enforcement": "Deny", "contact": allowed })).await;
    let there = NewContact {
        title: "TechnicalDirector".to_owned(),
        message_types: vec!["FaultMessage".to_owned(), "SecurityMessage".to_owned()],
        members: vec![account.clone()],
        ..NewContact::new("Xunyou", "taken@example.com")
    };
    let id = stand.simulator.insert_contact(there);
    stand.ask_directory().await;
    assert_eq!(stand.settled("taken", "Xunyou", json!({})).await, id);
    let object = stand.becomes("taken", "PolicyCompliant", "Compliant").await;
    assert_eq!(object.data["status"]["observed"]["members"], json!([account]));
    assert_eq!(stand.in_cloud(&id).members, [account]);
    assert_eq!(stand.simulator.counts().writes, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nothing_is_written_anyhow_a_violator_shows_what_differs() {
    let stand = Stand::new().await;
    let id = stand.settled("seen", "Luzhi", json!({})).await;
    stand.apply_policy("phones", phones("Deny")).await;
    stand.becomes("seen", "Synced", "PolicyViolation").await;

    // The directory only reports: the contact is judged, and its differences are shown.
    stand.apply_directory(json!({ "management": "ReportOnly" })).await;
    let change = ContactChange { title: Some("CEO".to_owned()), ..ContactChange::default() };
    assert!(stand.simulator.change_contact(&id, change));
    stand.ask_directory().await;
    let object = stand.becomes("seen", "Synced", "Drifted").await;
    assert_eq!(object.data["status"]["drift"][0]["observed"], "CEO");
    assert_eq!(reason(&object, "Ready"), "Drifted");
    assert_eq!(reason(&object, "PolicyCompliant"), "PolicyViolation");
    assert_stalled(&object, false);
    stand.apply_directory(json!({})).await;
    stand.becomes("seen", "Synced", "PolicyViolation").await;

    // The object itself only reports: it may, and is not judged.
    let fields = json!({ "reconcilePolicy": "ReportOnly" });
    stand.apply("seen", "Luzhi", fields).await;
    let object = stand.becomes("seen", "Synced", "Drifted").await;
    assert_eq!(object.data["status"]["drift"][0]["observed"], "CEO");
    assert_eq!(reason(&object, "PolicyCompliant"), Value::Null);
    assert_eq!(stand.simulator.counts().of("UpdateMessageContact"), 0);
}
