//! What a policy finds, told in its own status: counts, violations, coverage and unmanaged contacts.

use cluster::By;
use directory_simulator::{Click, Fault, FaultKind, Options, Tree};
use kube::Api;
use kube::ResourceExt as _;
use kube::api::{DeleteParams, DynamicObject, ListParams};
use kube::core::ApiResource;
use serde_json::{Value, json};

use crate::many::operator_client;
use crate::process::alone;
use crate::stand::{self, Own, Stand, assert_stalled, condition_of, message_of};
use crate::unreachable::{forbid, permit_all};
use crate::values_from_secrets::mail_from;
use crate::walk::defaults;

impl Stand {
    /// Waits until a policy gives this reason for a condition.
    async fn policy_becomes(&self, name: &str, condition: &str, reason: &str) -> DynamicObject {
        stand::becomes(&self.policies(), &self.policy(name), condition, reason).await
    }
}

fn counts(policy: &DynamicObject) -> Value {
    policy.data["status"]["contacts"].clone()
}

/// What there is of what is demanded: `actual/required`, row by row.
fn coverage(policy: &DynamicObject) -> Vec<String> {
    let rows = policy.data["status"]["coverage"].as_array().cloned().unwrap_or_default();
    let row = |row: &Value| {
        let word = |field: &str| row[field].as_str().unwrap().to_owned();
        let (rule, type_, counted) = (word("rule"), word("messageType"), word("counted"));
        let enough = if row["satisfied"] == true { "" } else { " short" };
        format!("{rule} {type_} {counted} {}/{}{enough}", row["actual"], row["required"])
    };
    rows.iter().map(row).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_counts_its_contacts_and_names_those_that_violate_it() {
    let stand = Stand::new().await;
    let phones = json!({ "enforcement": "Warn", "contact": { "phoneNumber": "Required" } });
    stand.apply_policy("phones", phones).await;
    let policy = stand.policy_becomes("phones", "Compliant", "NothingMatches").await;
    assert_eq!(condition_of(&policy, "Compliant")["status"], "Unknown");
    assert_eq!(condition_of(&policy, "Ready")["reason"], "Evaluated");
    assert_eq!(policy.data["status"]["observedGeneration"], json!(policy.metadata.generation));

    stand.settled("with", "Zhangfei", json!({ "phoneNumber": "86-13800138000" })).await;
    let policy = stand.policy_becomes("phones", "Compliant", "Compliant").await;
    assert_eq!(counts(&policy), json!({ "matched": 1, "compliant": 1, "violating": 0 }));

    stand.settled("without", "Guanyu", json!({})).await;
    let only_told = json!({ "reconcilePolicy": "ReportOnly" });
    stand.apply("exempt", "Liubei", only_told).await;
    let policy = stand.policy_becomes("phones", "Compliant", "PolicyViolation").await;
    assert_eq!(counts(&policy), json!({ "matched": 2, "compliant": 1, "violating": 1 }));
    let expected = json!([{ "namespace": stand.namespace, "name": "without",
        "rule": "contact.phoneNumber",
        "message": "contact.phoneNumber: write phoneNumber or phoneNumberFrom" }]);
    assert_eq!(policy.data["status"]["violations"], expected);
    let message = message_of(&policy, "Compliant");
    assert_eq!(message, "1 of 2 contacts are not as `contact` demands");

    // It goes with its contact.
    stand.delete("without").await;
    stand.is_gone("without").await;
    let policy = stand.policy_becomes("phones", "Compliant", "Compliant").await;
    assert_eq!(policy.data["status"]["violations"], Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_click_gives_what_a_rule_of_coverage_lacks() {
    let stand = Stand::new().await;
    let security = json!({ "coverage": [{ "name": "security", "minContacts": 2, "minVerified": 2,
        "messageTypes": ["SecurityMessage"], "distinctMailboxes": true }] });
    stand.apply_policy("heard", security).await;
    let fields =
        |mail: &str| defaults(json!({ "emailAddress": mail, "messageTypes": ["SecurityMessage"] }));
    stand.apply("one", "Caocao", fields("one@example.com")).await;
    stand.apply("two", "Sunquan", fields("two@example.com")).await;
    // The same person under another name.
    stand.apply("again", "Zhouyu", fields("one@example.com")).await;
    for object in ["one", "two", "again"] {
        stand.becomes(object, "EmailVerified", "VerificationSent").await;
    }
    stand.cloud("the mails", |it| (it.outbox().len() == 3).then_some(())).await;
    assert_eq!(stand.simulator.confirm("one@example.com"), Click::Confirmed);
    stand.ask_directory().await;
    stand.becomes("one", "EmailVerified", "Verified").await;
    let short = "security SecurityMessage Verified 1/2 short";
    let one_is_verified =
        |found: &DynamicObject| coverage(found).last().is_some_and(|last| last == short);
    let name = stand.policy("heard");
    let policy = stand::sees(&stand.policies(), &name, "one is verified", one_is_verified).await;
    assert_eq!(coverage(&policy), ["security SecurityMessage Contacts 2/2", short]);
    let message = message_of(&policy, "Compliant");
    let expected = "`security`: 1 of 2 verified contacts hear of SecurityMessage";
    assert_eq!(message, expected);

    assert_eq!(stand.simulator.confirm("two@example.com"), Click::Confirmed);
    stand.ask_directory().await;
    let policy = stand.policy_becomes("heard", "Compliant", "Compliant").await;
    let enough = "security SecurityMessage Verified 2/2";
    assert_eq!(coverage(&policy).last().unwrap(), enough);
    assert_eq!(condition_of(&policy, "Ready")["status"], "True");

    // Who is stopped by another policy hears all the same, and nobody hears at a new address before
    // its owner has clicked.
    let phones = json!({ "enforcement": "Deny", "contact": { "phoneNumber": "Required" } });
    stand.apply_policy("phones", phones).await;
    stand.becomes("two", "Synced", "PolicyViolation").await;
    stand.policy_becomes("phones", "Compliant", "PolicyViolation").await;
    for object in ["one", "two", "again"] {
        stand.ask(object).await;
    }
    stand::request(&stand.policies(), &name, "after that").await;
    let is_handled =
        |found: &DynamicObject| found.data["status"]["lastHandledReconcileAt"] == "after that";
    let policy = stand::sees(&stand.policies(), &name, "it is looked at", is_handled).await;
    assert_eq!(coverage(&policy).last().unwrap(), enough);
    let mut moved = fields("three@example.com");
    moved["phoneNumber"] = json!("86-13800138000");
    stand.apply("again", "Zhouyu", moved).await;
    stand.becomes("again", "EmailVerified", "VerificationSent").await;
    stand.delete("two").await;
    stand.is_gone("two").await;
    let one_is_left =
        |found: &DynamicObject| coverage(found).last().is_some_and(|last| last == short);
    stand::sees(&stand.policies(), &name, "one person is left", one_is_left).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_covers_the_accounts_below_it_and_they_are_listed_once_an_hour() {
    let stand = Stand::new().await;
    let below = "2000000000000003";
    let rule = json!({ "coverage": [{ "name": "ops", "minContacts": 1, "members": [below],
        "messageTypes": ["FaultMessage"] }] });
    let bound = json!({ "messageTypes": ["FaultMessage"], "members": ["fd-sim0000001"] });
    stand.settled("folder", "Simayi", bound).await;
    stand.apply_policy("ops", rule.clone()).await;
    let policy = stand.policy_becomes("ops", "Compliant", "Compliant").await;
    assert_eq!(coverage(&policy), ["ops FaultMessage Contacts 1/1"]);
    assert_eq!(stand.simulator.counts().of("ListAccounts"), 1);
    // Elsewhere it is bound in vain.
    let moved = json!({ "messageTypes": ["FaultMessage"], "members": ["2000000000000001"] });
    stand.apply("folder", "Simayi", moved).await;
    let policy = stand.policy_becomes("ops", "Compliant", "CoverageMissing").await;
    let message = message_of(&policy, "Compliant");
    assert_eq!(message, format!("`ops`: 0 of 1 contacts hear of FaultMessage in {below}"));
    // Accounts are asked for once an hour, however many policies need them.
    stand.apply_policy("others", rule.clone()).await;
    stand.policy_becomes("others", "Compliant", "CoverageMissing").await;
    assert_eq!(stand.simulator.counts().of("ListAccounts"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_directory_under_the_same_name_has_accounts_of_its_own() {
    let stand = Stand::new().await;
    let account = "2000000000000003";
    let rule = json!({ "coverage": [{ "name": "ops", "minContacts": 1, "members": [account],
        "messageTypes": ["FaultMessage"] }] });
    let bound = json!({ "messageTypes": ["FaultMessage"], "members": ["fd-sim0000001"] });
    stand.settled("folder", "Jiaxu", bound.clone()).await;
    stand.apply_policy("ops", rule).await;
    stand.policy_becomes("ops", "Compliant", "Compliant").await;
    stand.delete("folder").await;
    stand.is_gone("folder").await;
    stand.delete_directory().await;
    stand.directory_is_gone().await;

    // There the account stands below another folder.
    let mut tree = Tree { directory_id: "rd-fremd7".to_owned(), ..Tree::default() };
    tree.accounts.iter_mut().find(|it| it.id == account).unwrap().folder = "fd-sim0000002".into();
    let other = stand::simulator(Options { tree, ..Options::default() }).await;
    stand.apply_directory(json!({ "endpoint": other.endpoint() })).await;
    stand.directory_becomes("Ready", "Connected").await;
    stand.settled("folder", "Jiaxu", bound).await;
    cluster::wait_for(stand::PATIENCE, "its accounts are listed", || {
        let lists = other.counts().of("ListAccounts");
        std::future::ready(if lists == 1 { Ok(()) } else { Err(format!("{lists} lists")) })
    })
    .await
    .unwrap();
    stand::request(&stand.policies(), &stand.policy("ops"), "look").await;
    let handled = |found: &DynamicObject| found.data["status"]["lastHandledReconcileAt"] == "look";
    let name = stand.policy("ops");
    let policy = stand::sees(&stand.policies(), &name, "it is looked at", handled).await;
    assert_eq!(coverage(&policy), ["ops FaultMessage Contacts 0/1 short"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_stopped_and_gone_from_the_cloud_gives_nothing() {
    let stand = Stand::new().await;
    let heard = json!({ "coverage": [{ "name": "heard", "minContacts": 1,
        "messageTypes": ["FaultMessage"] }] });
    stand.apply_policy("heard", heard).await;
    let id = stand.settled("lost", "Fajia", json!({})).await;
    stand.policy_becomes("heard", "Compliant", "Compliant").await;
    let phones = json!({ "enforcement": "Deny", "contact": { "phoneNumber": "Required" } });
    stand.apply_policy("phones", phones).await;
    stand.becomes("lost", "Synced", "PolicyViolation").await;
    assert!(stand.simulator.remove_contact(&id));
    stand.ask_directory().await;
    let policy = stand.policy_becomes("heard", "Compliant", "CoverageMissing").await;
    assert_eq!(coverage(&policy), ["heard FaultMessage Contacts 0/1 short"]);
    // What was seen last is still shown, and nothing is created.
    let object = stand.object("lost").await;
    assert_eq!(object.data["status"]["contactId"], json!(id));
    assert_eq!(stand.simulator.counts().of("AddMessageContact"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_list_accounts_is_told_what_to_grant_and_nobody_is_called_compliant() {
    let stand = Stand::new().await;
    let rule = json!({ "coverage": [{ "name": "ops", "minContacts": 1,
        "members": ["2000000000000003"], "messageTypes": ["FaultMessage"] }] });
    let bound = json!({ "messageTypes": ["FaultMessage"], "members": ["fd-sim0000001"] });
    stand.settled("folder", "Pangtong", bound).await;
    forbid(&stand, "ListAccounts");
    stand.apply_policy("ops", rule).await;
    let policy = stand.policy_becomes("ops", "Ready", "Forbidden").await;
    let message = message_of(&policy, "Ready");
    assert!(message.contains("grant resourcemanager:ListAccounts"), "{message}");
    assert_eq!(condition_of(&policy, "Compliant")["status"], "Unknown");

    permit_all(&stand);
    stand::request(&stand.policies(), &stand.policy("ops"), "granted").await;
    let policy = stand.policy_becomes("ops", "Compliant", "Compliant").await;
    assert_eq!(policy.data["status"]["lastHandledReconcileAt"], "granted");
    assert_eq!(condition_of(&policy, "Ready")["status"], "True");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_manages_is_counted_against_the_policy() {
    let stand = Stand::new().await;
    stand.bystander("Luxun");
    stand.apply_policy("managed", json!({ "unmanagedContacts": { "max": 0 } })).await;
    stand.ask_directory().await;
    let policy = stand.policy_becomes("managed", "Compliant", "TooManyUnmanaged").await;
    let expected = format!(
        "`{}` has 1 contacts that no MessageContact holds, and at most 0 are allowed",
        stand.directory
    );
    assert_eq!(message_of(&policy, "Compliant"), expected);
    let always = json!({ "adoptionPolicy": "Always", "phoneNumber": "86-13800138001" });
    stand.apply_directory(json!({ "adoption": "Always" })).await;
    stand.settled("taken", "Luxun", always).await;
    stand.policy_becomes("managed", "Compliant", "Compliant").await;

    // A second object for the same directory is counted with the first.
    let twin = format!("{}-twin", stand.directory);
    let object = json!({ "apiVersion": "message-contacts.dev/v1alpha1",
        "kind": "ResourceDirectory", "metadata": { "name": twin },
        "spec": { "endpoint": stand.simulator.endpoint() } });
    stand::apply(&stand.directories(), &object).await.unwrap();
    stand::becomes(&stand.directories(), &twin, "Ready", "DuplicateDirectory").await;
    let both = json!({ "match": { "directories": [stand.directory, twin] },
        "unmanagedContacts": { "max": 0 } });
    stand.apply_policy("managed", both).await;
    let policy = stand.policy_becomes("managed", "Ready", "Evaluated").await;
    assert_eq!(condition_of(&policy, "Compliant")["reason"], "Compliant");
    let deleted = stand.directories().delete(&twin, &DeleteParams::default()).await;
    assert!(deleted.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_at_rest_is_not_written_and_a_restart_takes_nothing_back() {
    let alone = alone().await;
    let clock = message_contact_operator::clock::Clock::system();
    let operator = tokio::spawn(stand::run_operator(operator_client(alone.cluster), clock.clone()));
    let stand = Stand::on(alone.cluster, Options::default()).await;
    stand.apply_directory(json!({ "pollInterval": "1h" })).await;
    stand.put("mailboxes", json!({ "mail": "hidden@example.com" })).await;
    stand.settled("desk", "Huatuo", mail_from("mailboxes")).await;
    // Nobody reads a Secret for it, so that nobody waits for that.
    let mut asleep = mail_from("mailboxes");
    asleep["suspend"] = json!(true);
    stand.apply("asleep", "Zhangjiao", asleep).await;
    stand.becomes("asleep", "Synced", "Suspended").await;
    let spec = json!({ "contact": { "emailDomains": { "allowed": ["example.com"] } },
        "coverage": [{ "name": "all", "minContacts": 1, "members": ["2000000000000003"] }] });
    stand.apply_policy("rest", spec).await;
    stand.policy_becomes("rest", "Compliant", "CoverageMissing").await;
    stand.ask_directory().await;
    let before = stand.policies().get(&stand.policy("rest")).await.unwrap();
    let domains = json!({ "contact": { "emailDomains": { "allowed": ["example.com"] } } });
    stand.apply_policy("hidden", domains).await;
    // The address of the one that is asleep is not known.
    stand.policy_becomes("hidden", "Compliant", "SecretNotFound").await;
    operator.abort();
    let _ = operator.await;
    let mark = alone.cluster.audit().mark().unwrap();
    stand.simulator.fault(Fault::any(FaultKind::Reset { executed: false }).times(u32::MAX));
    let lost = stand.simulator.counts().calls;
    let operator = tokio::spawn(stand::run_operator(operator_client(alone.cluster), clock));
    stand.cloud("tries", |it| (it.counts().calls > lost + 2).then_some(())).await;
    stand.simulator.clear_faults();
    stand.ask("desk").await;
    stand.ask_directory().await;
    let writes = alone.cluster.audit().writes(mark, By::UserAgent("message-contact-operator"));
    let writes: Vec<_> = writes.unwrap().into_iter().map(|it| it.resource).collect();
    assert!(!writes.iter().any(|it| it == "contactpolicies"), "{writes:?}");
    let after = stand.policies().get(&stand.policy("rest")).await.unwrap();
    assert_eq!(before.resource_version(), after.resource_version());
    // And it goes on, also beside somebody whose number alone stands in a Secret.
    let number =
        json!({ "phoneNumberFrom": { "secretKeyRef": { "name": "mailboxes", "key": "no" } } });
    stand.apply("number", "Zhangjue", number).await;
    stand.becomes("number", "Synced", "SecretNotFound").await;
    let outside = json!({ "emailAddress": "outside@example.org" });
    stand.settled("outside", "Bianque", outside).await;
    let policy = stand.policy_becomes("rest", "Compliant", "PolicyViolation").await;
    assert_eq!(counts(&policy), json!({ "matched": 4, "compliant": 2, "violating": 1 }));
    // It was told once that it is not met, however often that was found.
    let kind = ApiResource::erase::<k8s_openapi::api::events::v1::Event>(&());
    let events: Api<DynamicObject> = Api::all_with(stand.client.clone(), &kind);
    let events = events.list(&ListParams::default()).await.unwrap().items;
    let of_policy = |event: &&DynamicObject| {
        event.data["regarding"]["name"] == json!(stand.policy("rest"))
            && event.data["reason"] == "NotCompliant"
    };
    assert_eq!(events.iter().filter(of_policy).count(), 1);
    let gone = stand.policies().delete(&stand.policy("rest"), &DeleteParams::default()).await;
    assert!(gone.is_ok());
    operator.abort();
}

/// An object may be older than the schema, or newer than the operator.
#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_cannot_be_followed_says_so_and_demands_nothing() {
    let own = Own::new(stand::another_cluster().await);
    let cluster = own.cluster();
    stand::take_any_enforcement(cluster).await;
    let clock = message_contact_operator::clock::Clock::system();
    let operator = tokio::spawn(stand::run_operator(operator_client(cluster), clock));
    let stand = Stand::on(cluster, Options::default()).await;
    stand.apply_directory(json!({})).await;
    stand.settled("desk", "Xunyu", json!({})).await;
    let later = json!({ "enforcement": "Punish", "contact": { "phoneNumber": "Required" } });
    let accepted = || async {
        let object = json!({ "apiVersion": "message-contacts.dev/v1alpha1",
            "kind": "ContactPolicy", "metadata": { "name": "later" }, "spec": later });
        stand::apply(&stand.policies(), &object).await.map_err(|error| error.to_string())
    };
    cluster::wait_for(stand::PATIENCE, "the schema is taken in", accepted).await.unwrap();
    let policy = stand::becomes(&stand.policies(), "later", "Ready", "InvalidPolicy").await;
    assert!(message_of(&policy, "Ready").starts_with("spec.enforcement: "), "{policy:?}");
    assert_stalled(&policy, true);
    assert_eq!(condition_of(&policy, "Compliant")["status"], "Unknown");
    let object = stand.ask("desk").await;
    assert_eq!(condition_of(&object, "PolicyCompliant"), Value::Null);
    operator.abort();
}
