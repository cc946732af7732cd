//! Policies in the apiserver: whoever writes a contact, by whatever way, hears at once what would be
//! accepted; and nothing but writing a spec is ever in the way.

use std::collections::BTreeMap;

use cluster::{AuditEvent, By, Mark};
use directory_simulator::Options;
use k8s_openapi::api::admissionregistration::v1::{ValidatingAdmissionPolicy, Validation};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, DeleteParams, PostParams};
use kube::{Client, ResourceExt as _};
use message_contact_operator::api;
use message_contact_operator::clock::Clock;
use serde_json::{Value, json};

use crate::namespace_deleted::{delete_namespace, has_controller_manager, with_controller_manager};
use crate::stand::{self, PATIENCE, Stand};

/// What the apiserver answered.
pub struct Answer {
    pub code: u16,
    /// The message of a refusal.
    pub message: String,
    /// The texts of the warning headers.
    pub warnings: Vec<String>,
}

/// Sends a request as kubectl does, and shows the headers as well.
pub async fn send(client: &Client, method: &str, uri: &str, kind: &str, body: &Value) -> Answer {
    let request = http::Request::builder()
        .method(method)
        .uri(uri)
        .header("content-type", kind)
        .body(serde_json::to_vec(body).unwrap().into())
        .unwrap();
    let answer = client.send(request).await.unwrap();
    let code = answer.status().as_u16();
    let warnings = answer.headers().get_all("warning").iter().map(|warning| {
        let text = String::from_utf8_lossy(warning.as_bytes()).into_owned();
        // `299 - "text"`, with quotes and backslashes in the text escaped.
        let text = text.trim_start_matches("299 - \"").trim_end_matches('"');
        text.replace("\\\"", "\"").replace("\\\\", "\\")
    });
    let warnings = warnings.collect();
    let body = answer.into_body().collect_bytes().await.unwrap();
    let body: Value = serde_json::from_slice(&body).unwrap();
    let message = body["message"].as_str().unwrap_or_default().to_owned();
    Answer { code, message, warnings }
}

const JSON: &str = "application/json";

impl Stand {
    fn uri(&self, object: Option<&str>, query: &str) -> String {
        let namespace = &self.namespace;
        let contacts =
            format!("/apis/message-contacts.dev/v1alpha1/namespaces/{namespace}/messagecontacts");
        object.map_or(format!("{contacts}{query}"), |name| format!("{contacts}/{name}{query}"))
    }

    async fn create_dry(&self, manifest: &Value) -> Answer {
        send(&self.client, "POST", &self.uri(None, "?dryRun=All"), JSON, manifest).await
    }

    async fn sent_patch(&self, object: &str, kind: &str, body: Value) -> Answer {
        let kind = format!("application/{kind}-patch+json");
        send(&self.client, "PATCH", &self.uri(Some(object), ""), &kind, &body).await
    }

    async fn merge_spec(&self, object: &str, spec: Value) -> Answer {
        self.sent_patch(object, "merge", json!({ "spec": spec })).await
    }

    /// Waits until the apiserver answers a create like that, and returns the answer.
    async fn answers(&self, manifest: &Value, what: &str, is: impl Fn(&Answer) -> bool) -> Answer {
        cluster::wait_for(PATIENCE, what, || async {
            let answer = self.create_dry(manifest).await;
            if is(&answer) {
                Ok(answer)
            } else {
                Err(format!("{}: {} {:?}", answer.code, answer.message, answer.warnings))
            }
        })
        .await
        .unwrap()
    }

    /// Waits until such a contact is refused.
    async fn is_refused(&self, manifest: &Value) -> Answer {
        self.answers(manifest, "the policy is in force", |answer| answer.code == 403).await
    }

    /// Waits until such a contact is accepted.
    async fn is_accepted(&self, manifest: &Value) -> Answer {
        self.answers(manifest, "the policy is not in force", |answer| answer.code == 201).await
    }
}

/// What a refusal must say, and what it must not.
#[track_caller]
fn refuses(answer: &Answer, policy: &str, rule: &str) {
    let Answer { code, message, .. } = answer;
    assert_eq!(*code, 403, "{message}");
    let expected = format!("ContactPolicy `{policy}`: {rule}");
    assert!(message.contains(&expected), "{expected} is not in {message}");
    nothing_private(message);
}

/// Parts of the private values that the stories below write. A domain alone is no address.
const PRIVATE: [&str; 4] = ["outsider", "13900139071", "desk-secret", "Zhugeliang"];

#[track_caller]
fn nothing_private(text: &str) {
    for private in PRIVATE {
        assert!(!text.contains(private), "{private} is shown: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_is_in_force_when_it_is_applied_edited_and_deleted() {
    let stand = Stand::unconnected(Options::default()).await;
    let outsider =
        stand.manifest("desk", "Zhugeliang", json!({ "emailAddress": "outsider@example.org" }));
    assert_eq!(stand.create_dry(&outsider).await.code, 201);
    let domains = |domains: &[&str]| json!({ "enforcement": "Deny", "contact": { "emailDomains": { "allowed": domains } } });
    stand.apply_policy("ours", domains(&["example.com", "*.example.com"])).await;
    let rule = "contact.emailDomains.allowed: write an address of one of these domains: \
                example.com, *.example.com";
    refuses(&stand.is_refused(&outsider).await, &stand.policy("ours"), rule);
    let insider = stand.manifest("desk", "Zhugeliang", json!({}));
    assert_eq!(stand.create_dry(&insider).await.code, 201);

    stand.apply_policy("ours", domains(&["example.org"])).await;
    stand.is_accepted(&outsider).await;
    let rule = "contact.emailDomains.allowed: write an address of one of these domains: \
                example.org";
    refuses(&stand.create_dry(&insider).await, &stand.policy("ours"), rule);

    let ours = stand.policy("ours");
    stand.policies().delete(&ours, &DeleteParams::default()).await.unwrap();
    stand.is_accepted(&insider).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_way_to_write_a_spec_is_judged_and_every_rule_is_told() {
    let stand = Stand::unconnected(Options::default()).await;
    let good = json!({ "phoneNumber": "86-13800138071", "title": "Other",
        "members": ["fd-allowed"], "messageTypes": ["SecurityMessage"] });
    stand.apply("good", "Zhugeliang", good.clone()).await;
    let rules = json!({
        "emailDomains": { "denied": ["*.org"] },
        "phoneNumber": "Required",
        "titles": { "allowed": ["Other"] },
        "messageTypes": { "allowed": ["SecurityMessage"], "required": ["SecurityMessage"] },
        "members": { "allowed": ["fd-allowed"] },
    });
    stand.apply_policy("strict", json!({ "enforcement": "Deny", "contact": rules })).await;
    let bad = json!({ "emailAddress": "outsider@example.org", "title": "CEO",
        "messageTypes": ["FaultMessage"], "members": ["fd-allowed", "fd-other"],
        "phoneNumber": null });
    let manifest = stand.manifest("good", "Zhugeliang", bad.clone());
    let expected = "\
        contact.emailDomains.denied: write an address of none of these domains: *.org; \
        contact.phoneNumber: write phoneNumber or phoneNumberFrom; \
        contact.titles.allowed: write one of these titles: Other; \
        contact.messageTypes.allowed: write only these message types: SecurityMessage; \
        contact.messageTypes.required: write all of these message types: SecurityMessage; \
        contact.members.allowed: write only these members: fd-allowed";
    let policy = stand.policy("strict");
    let client = &stand.client;
    let mut new = manifest.clone();
    new["metadata"]["name"] = json!("new");
    stand.is_refused(&new).await;

    // Settled: nobody else writes it while it is to be replaced.
    stand.becomes("good", "PolicyCompliant", "Compliant").await;
    let before = stand.object("good").await;
    let mut replacing = manifest.clone();
    replacing["metadata"]["resourceVersion"] = json!(before.resource_version().unwrap());
    let one = |query: &str| stand.uri(Some("good"), query);
    let apply = "application/apply-patch+yaml";
    let forced = one("?fieldManager=a-person&force=true");
    let spec_only = json!({ "spec": manifest["spec"].clone() });
    let mut spec_merged = spec_only.clone();
    spec_merged["spec"]["phoneNumber"] = json!(null);
    let fields = [
        ("emailAddress", &manifest["spec"]["emailAddress"]),
        ("title", &manifest["spec"]["title"]),
        ("messageTypes", &manifest["spec"]["messageTypes"]),
        ("members", &manifest["spec"]["members"]),
    ];
    let mut operations: Vec<_> = fields
        .iter()
        .map(|(field, value)| json!({ "op": "replace", "path": format!("/spec/{field}"), "value": value }))
        .collect();
    operations.push(json!({ "op": "remove", "path": "/spec/phoneNumber" }));
    let operations = Value::Array(operations);
    for (way, answer) in [
        ("create", send(client, "POST", &stand.uri(None, ""), JSON, &new).await),
        ("dry create", stand.create_dry(&new).await),
        ("replace", send(client, "PUT", &one(""), JSON, &replacing).await),
        ("dry replace", send(client, "PUT", &one("?dryRun=All"), JSON, &replacing).await),
        ("merge patch", stand.sent_patch("good", "merge", spec_merged).await),
        ("JSON patch", stand.sent_patch("good", "json", operations).await),
        ("apply", send(client, "PATCH", &forced, apply, &manifest).await),
        (
            "dry apply",
            send(client, "PATCH", &format!("{forced}&dryRun=All"), apply, &manifest).await,
        ),
        (
            "apply of a new one",
            send(client, "PATCH", &stand.uri(Some("new"), "?fieldManager=a-person"), apply, &new)
                .await,
        ),
    ] {
        println!("{way}: {}", answer.code);
        refuses(&answer, &policy, expected);
    }
    assert_eq!(stand.object("good").await.metadata.generation, before.metadata.generation);
    assert!(stand.contacts().get_opt("new").await.unwrap().is_none());

    // One wrong thing, one rule; a Secret's number is a number, and its address is not judged here.
    let refused = stand.merge_spec("good", json!({ "title": "CEO" })).await;
    refuses(&refused, &policy, "contact.titles.allowed: write one of these titles: Other");
    assert!(!refused.message.contains("contact.phoneNumber"), "{}", refused.message);
    let from = json!({ "secretKeyRef": { "name": "desk-secret", "key": "value" } });
    let mut hidden = good;
    // Null takes a field out of the manifest.
    hidden["emailAddress"] = json!(null);
    hidden["emailAddressFrom"] = from.clone();
    hidden["phoneNumber"] = json!(null);
    hidden["phoneNumberFrom"] = from;
    let hidden = stand.manifest("hidden", "Zhugeliang", hidden);
    assert_eq!(stand.create_dry(&hidden).await.code, 201);
    let phoneless = json!({ "enforcement": "Deny", "contact": { "phoneNumber": "Forbidden" } });
    stand.apply_policy("strict", phoneless).await;
    let rule = "contact.phoneNumber: leave phoneNumber and phoneNumberFrom out";
    refuses(&stand.is_refused(&hidden).await, &policy, rule);
}

#[tokio::test(flavor = "multi_thread")]
async fn warn_warns_and_audit_notes_and_both_store_the_contact() {
    let stand = Stand::unconnected(Options::default()).await;
    let requiring = |enforcement: Value, kind: &str| {
        json!({ "enforcement": enforcement,
            "contact": { "messageTypes": { "required": [kind] } } })
    };
    // The first two are Audit: left out, and by name.
    stand.apply_policy("quiet", requiring(json!(null), "ProductMessage")).await;
    stand.apply_policy("noting", requiring(json!("Audit"), "ActivityMessage")).await;
    stand.apply_policy("warning", requiring(json!("Warn"), "ServiceMessage")).await;
    stand.apply_policy("loud", requiring(json!("Warn"), "AccountExpenses")).await;
    let manifest = stand.manifest("desk", "Zhugeliang", json!({}));
    let both = |answer: &Answer| answer.warnings.len() == 2;
    stand.answers(&manifest, "both warn", both).await;

    let mark = stand.cluster.audit().mark().unwrap();
    let answer = send(&stand.client, "POST", &stand.uri(None, ""), JSON, &manifest).await;
    assert_eq!(answer.code, 201, "{}", answer.message);
    let mut warnings = answer.warnings;
    warnings.sort();
    let expected = |policy: &str, kind: &str| {
        format!(
            "ContactPolicy `{}`: contact.messageTypes.required: write all of these message types: \
             {kind}",
            stand.policy(policy)
        )
    };
    let begin = "Validation failed for ValidatingAdmissionPolicy \
                 'warn.contactpolicies.message-contacts.dev' with binding \
                 'warn.contactpolicies.message-contacts.dev': ";
    let told = ["loud", "warning"].into_iter().zip(["AccountExpenses", "ServiceMessage"]);
    let told: Vec<_> =
        told.map(|(policy, kind)| format!("{begin}{}", expected(policy, kind))).collect();
    assert_eq!(warnings, told);

    let created = audited(&stand, mark, |event| {
        event.verb == "create"
            && event.namespace == stand.namespace
            && event.resource == "messagecontacts"
    });
    let annotations = &created.await.annotations;
    let noted = &annotations["audit.contactpolicies.message-contacts.dev/violation"];
    for (policy, kind) in [("quiet", "ProductMessage"), ("noting", "ActivityMessage")] {
        assert!(noted.contains(&expected(policy, kind)), "{noted}");
    }
    assert!(annotations.contains_key("validation.policy.admission.k8s.io/validation_failure"));
    assert!(!noted.contains(&stand.policy("loud")), "{noted}");
    nothing_private(&format!("{annotations:?}"));

    // Who gives all, hears nothing.
    let all = json!([
        "ServiceMessage",
        "FaultMessage",
        "AccountExpenses",
        "SecurityMessage",
        "ActivityMessage",
        "ProductMessage"
    ]);
    let mark = stand.cluster.audit().mark().unwrap();
    let answer = stand.merge_spec("desk", json!({ "messageTypes": all })).await;
    assert_eq!((answer.code, answer.warnings), (200, vec![]));
    let patched = audited(&stand, mark, |event| {
        event.is_by(By::Anyone)
            && event.verb == "patch"
            && event.namespace == stand.namespace
            && event.subresource.is_empty()
    });
    assert_eq!(patched.await.annotations, BTreeMap::new());
}

/// The line of the audit log about such a request: it may come a moment after the answer.
async fn audited(stand: &Stand, mark: Mark, is_meant: impl Fn(&AuditEvent) -> bool) -> AuditEvent {
    cluster::wait_for(PATIENCE, "the request is in the audit log", || {
        let events = stand.cluster.audit().since(mark).unwrap();
        let found = events.into_iter().find(&is_meant);
        async move { found.ok_or("it is not yet") }
    })
    .await
    .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_labels_of_the_namespace_count_and_those_of_the_contact_do_not() {
    let stand = Stand::unconnected(Options::default()).await;
    let selector = json!({ "matchExpressions":
        [{ "key": "tier", "operator": "In", "values": ["one", "two"] }] });
    let policy = |directory: &str| {
        json!({ "enforcement": "Deny", "contact": { "phoneNumber": "Required" },
            "match": { "directories": [directory], "namespaceSelector": selector } })
    };
    // The near match: the same in another directory.
    stand.apply_policy("elsewhere", policy("another-directory")).await;
    stand.apply_policy("here", policy(&stand.directory)).await;
    let mut manifest = stand.manifest("desk", "Zhugeliang", json!({}));
    manifest["metadata"]["labels"] = json!({ "tier": "one" });
    assert_eq!(stand.create_dry(&manifest).await.code, 201);
    stand.label_namespace(json!({ "tier": "one" })).await;
    manifest["metadata"]["labels"] = json!({ "tier": "none" });
    let rule = "contact.phoneNumber: write phoneNumber or phoneNumberFrom";
    refuses(&stand.is_refused(&manifest).await, &stand.policy("here"), rule);
    stand.label_namespace(json!({ "tier": "three" })).await;
    stand.is_accepted(&manifest).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_writes_nothing_to_the_cloud_is_exempt_as_long_as_it_is_so() {
    let stand = Stand::unconnected(Options::default()).await;
    stand.apply_policy("phones", deny_phoneless()).await;
    stand.is_refused(&stand.manifest("loud", "Zhugeliang", json!({}))).await;
    let looking = json!({ "reconcilePolicy": "ReportOnly" });
    stand.apply("looking", "Zhugeliang", looking).await;
    let answer = stand.merge_spec("looking", json!({ "title": "CEO" })).await;
    assert_eq!(answer.code, 200, "{}", answer.message);
    for word in [json!("Enforce"), json!(null)] {
        let answer = stand.merge_spec("looking", json!({ "reconcilePolicy": word })).await;
        refuses(&answer, &stand.policy("phones"), PHONE);
    }
    let phone = json!({ "reconcilePolicy": null, "phoneNumber": "86-13800138071" });
    assert_eq!(stand.merge_spec("looking", phone).await.code, 200);
    // Suspended is not exempt: it would be created when that ends.
    let asleep = stand.manifest("asleep", "Zhugeliang", json!({ "suspend": true }));
    refuses(&stand.create_dry(&asleep).await, &stand.policy("phones"), PHONE);
}

const PHONE: &str = "contact.phoneNumber: write phoneNumber or phoneNumberFrom";

fn deny_phoneless() -> Value {
    json!({ "enforcement": "Deny", "contact": { "phoneNumber": "Required" } })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_violator_that_is_older_than_the_policy_is_left_alone_until_its_spec_is_edited() {
    let stand = Stand::new().await;
    stand.settled("older", "Zhugeliang", json!({})).await;
    stand.apply_policy("phones", deny_phoneless()).await;
    let manifest = stand.manifest("older", "Zhugeliang", json!({}));
    let mut another = manifest.clone();
    another["metadata"]["name"] = json!("another");
    stand.is_refused(&another).await;
    let policy = stand.policy("phones");

    // Anything in the spec, also what the policy does not speak of.
    for spec in [json!({ "title": "CEO" }), json!({ "suspend": true }), json!({ "members": [] })] {
        refuses(&stand.merge_spec("older", spec).await, &policy, PHONE);
    }
    // All else: nothing new, labels, annotations, finalizers, status.
    let status = stand.uri(Some("older/status"), "");
    let merge = "application/merge-patch+json";
    let untouched = stand.object("older").await;
    let meta = |fields: Value| json!({ "metadata": fields });
    for (what, answer) in [
        (
            "the same again",
            stand.merge_spec("older", json!({ "title": "TechnicalDirector" })).await,
        ),
        (
            "labels",
            stand.sent_patch("older", "merge", meta(json!({ "labels": { "a": "b" } }))).await,
        ),
        (
            "annotations",
            stand.sent_patch("older", "merge", meta(json!({ "annotations": { "a": "b" } }))).await,
        ),
        (
            "a finalizer",
            stand
                .sent_patch(
                    "older",
                    "merge",
                    meta(json!({ "finalizers":
                    [api::FINALIZER, "example.com/other"] })),
                )
                .await,
        ),
        (
            "no other finalizer",
            stand
                .sent_patch("older", "merge", meta(json!({ "finalizers": [api::FINALIZER] })))
                .await,
        ),
        (
            "status",
            send(
                &stand.client,
                "PATCH",
                &status,
                merge,
                &json!({ "status": { "contactId":
                untouched.data["status"]["contactId"] } }),
            )
            .await,
        ),
    ] {
        assert_eq!(answer.code, 200, "{what}: {}", answer.message);
    }
    assert_eq!(stand.object("older").await.metadata.generation, untouched.metadata.generation);
    // To mend it is allowed, and so is to delete it.
    assert_eq!(
        stand.merge_spec("older", json!({ "phoneNumber": "86-13800138071" })).await.code,
        200
    );
    stand.delete("older").await;
    stand.is_gone("older").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_violator_that_is_being_deleted_may_change_its_mind_about_the_cloud() {
    let stand = Stand::new().await;
    let id = stand.settled("older", "Zhugeliang", json!({})).await;
    stand.apply_policy("phones", deny_phoneless()).await;
    stand.is_refused(&stand.manifest("another", "Zhugeliang", json!({}))).await;
    // Somebody else is at work in the cloud: the deletion waits.
    stand.simulator.hold();
    stand.delete("older").await;
    let retain = json!({ "deletionPolicy": "Retain" });
    let answer = stand.merge_spec("older", retain).await;
    assert_eq!(answer.code, 200, "{}", answer.message);
    stand.is_gone("older").await;
    stand.simulator.release();
    assert_eq!(stand.in_cloud(&id).name, "Zhugeliang");
}

/// The same with everything in it as a validation, and bound to nothing: the types of variables and
/// of conditions are not looked at otherwise.
fn spelt_out(policy: &ValidatingAdmissionPolicy) -> ValidatingAdmissionPolicy {
    let mut policy = policy.clone();
    policy.metadata.name = Some(format!("spelt-out.{}", policy.name_any()));
    let spec = policy.spec.as_mut().unwrap();
    let variables = spec.variables.iter().flatten().map(|variable| &variable.expression);
    let conditions = spec.match_conditions.iter().flatten().map(|condition| &condition.expression);
    let spelt_out = variables.chain(conditions).map(|expression| Validation {
        expression: format!("[{expression}].size() == 1"),
        ..Validation::default()
    });
    let spelt_out: Vec<_> = spelt_out.collect();
    assert!(spelt_out.len() > 20);
    spec.validations.as_mut().unwrap().extend(spelt_out);
    policy
}

#[tokio::test(flavor = "multi_thread")]
async fn the_apiserver_finds_no_fault_and_a_violator_goes_with_its_namespace() {
    if !has_controller_manager() {
        println!(
            "left out: types of the rules, and a namespace; KUBEBUILDER_ASSETS has no manager"
        );
        return;
    }
    let own = with_controller_manager().await;
    let cluster = own.cluster();
    stand::prepare(cluster).await;
    let operator = tokio::spawn(stand::run_operator(cluster.client(), Clock::system()));
    let stand = Stand::on(cluster, Options::default()).await;
    stand.apply_directory(json!({})).await;
    stand.settled("older", "Zhugeliang", json!({})).await;
    stand.apply_policy("phones", deny_phoneless()).await;
    stand.is_refused(&stand.manifest("another", "Zhugeliang", json!({}))).await;

    // The types of both kinds are checked by the controller manager.
    let policies: Api<ValidatingAdmissionPolicy> = Api::all(stand.client.clone());
    let mut all: Vec<_> = api::admission::rules().into_iter().map(|(policy, _)| policy).collect();
    let spelt_out: Vec<_> = all.iter().map(spelt_out).collect();
    for policy in &spelt_out {
        policies.create(&PostParams::default(), policy).await.unwrap();
    }
    all.extend(spelt_out);
    for policy in all {
        let what = format!("{} was checked", policy.name_any());
        let types = cluster::wait_for(PATIENCE, &what, || async {
            let found = policies.get(&policy.name_any()).await.unwrap();
            let status = found.status.unwrap_or_default();
            let current = status.observed_generation == found.metadata.generation;
            status.type_checking.filter(|_| current).ok_or("not yet")
        })
        .await
        .unwrap();
        assert_eq!(types.expression_warnings.unwrap_or_default(), vec![], "{what}");
    }

    delete_namespace(&stand).await;
    assert!(stand.simulator.state().contacts.is_empty());
    let namespaces: Api<Namespace> = Api::all(stand.client.clone());
    assert!(namespaces.get_opt(&stand.namespace).await.unwrap().is_none());
    operator.abort();
    let _ = operator.await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_largest_policy_that_can_be_written_is_judged_and_told() {
    let stand = Stand::unconnected(Options::default()).await;
    let long = |n: usize, length: usize| format!("{n:0length$}");
    let key = |n: usize| format!("k{}", long(n, 60));
    let labels: BTreeMap<_, _> = (0..64).map(|n| (key(n), long(n, 63))).collect();
    stand.label_namespace(json!(labels)).await;
    // Every word holds, and none before its last value.
    let words: Vec<_> = (0..64)
        .map(|n| {
            let mut values: Vec<_> = (100..163).map(|other| long(other, 63)).collect();
            values.push(long(n, 63));
            json!({ "key": key(n), "operator": "In", "values": values })
        })
        .collect();
    let mut directories: Vec<_> = (0..63).map(|n| format!("{}.x", long(n, 251))).collect();
    directories.push(stand.directory.clone());
    let domain = |n: usize| format!("*.{}.com", long(n, 247));
    let member = |n: usize| long(n, 64);
    let all = [
        "ServiceMessage",
        "FaultMessage",
        "AccountExpenses",
        "SecurityMessage",
        "ActivityMessage",
        "ProductMessage",
    ];
    let titles =
        ["FinanceDirector", "TechnicalDirector", "MaintenanceDirector", "CEO", "ProjectDirector"];
    let spec = json!({
        "enforcement": "Deny",
        "match": { "directories": directories,
            "namespaceSelector": { "matchLabels": labels, "matchExpressions": words } },
        "contact": {
            "emailDomains": {
                "allowed": (0..64).map(domain).collect::<Vec<_>>(),
                "denied": (64..127).map(domain).chain(["example.com".to_owned()])
                    .collect::<Vec<_>>(),
            },
            "phoneNumber": "Required",
            "titles": { "allowed": titles },
            "messageTypes": { "allowed": all, "required": all },
            "members": { "allowed": (0..500).map(member).collect::<Vec<_>>() },
        },
    });
    stand.apply_policy("largest", spec).await;
    let mut members: Vec<_> = (451..500).map(member).collect();
    members.push(member(500));
    let manifest =
        stand.manifest("desk", "Zhugeliang", json!({ "members": members, "title": "Other" }));
    let answer = stand.is_refused(&manifest).await;
    refuses(&answer, &stand.policy("largest"), "contact.emailDomains.allowed: write an address of");
    for part in [
        format!("{}, and 59 more; contact.emailDomains.denied", domain(4)),
        format!("{}, and 59 more; contact.phoneNumber", domain(68)),
        format!("these titles: {}; contact.messageTypes", titles.join(", ")),
        format!("all of these message types: {}; contact.members", all.join(", ")),
        format!("{}, and 490 more", member(9)),
    ] {
        assert!(answer.message.contains(&part), "{part} is not in {}", answer.message);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_that_came_before_their_kind_are_in_nobody_s_way() {
    let cluster = cluster::Cluster::start(cluster::Options::default()).await.unwrap();
    stand::apply_admission(&cluster).await;
    let (policies, others): (Vec<_>, Vec<_>) =
        api::crds().into_iter().partition(|crd| crd.spec.names.kind == "ContactPolicy");
    cluster.apply_crds(&others).await.unwrap();
    let namespace = cluster.namespace("early").await.unwrap();
    let client = cluster.client();
    let manifest = json!({ "apiVersion": "message-contacts.dev/v1alpha1", "kind": "MessageContact",
        "metadata": { "name": "desk", "namespace": namespace },
        "spec": { "name": "Zhugeliang", "title": "CEO", "emailAddress": "outsider@example.org",
            "messageTypes": ["FaultMessage"] } });
    let contacts =
        format!("/apis/message-contacts.dev/v1alpha1/namespaces/{namespace}/messagecontacts");
    let created = send(&client, "POST", &contacts, JSON, &manifest).await;
    assert_eq!(created.code, 201, "{}", created.message);

    cluster.apply_crds(&policies).await.unwrap();
    let policy = json!({ "apiVersion": "message-contacts.dev/v1alpha1", "kind": "ContactPolicy",
        "metadata": { "name": "phones" }, "spec": deny_phoneless() });
    let all = "/apis/message-contacts.dev/v1alpha1/contactpolicies";
    assert_eq!(send(&client, "POST", all, JSON, &policy).await.code, 201);
    // Until the apiserver has found the kind it lets everything through, and then it refuses.
    let edit = json!({ "spec": { "title": "Other" } });
    let (one, dry) = (format!("{contacts}/desk"), format!("{contacts}/desk?dryRun=All"));
    let merge = "application/merge-patch+json";
    let refused = cluster::wait_for(PATIENCE, "the policy is in force", || async {
        let finalizer = json!({ "metadata": { "finalizers": ["example.com/other"] } });
        let answer = send(&client, "PATCH", &dry, merge, &finalizer).await;
        assert_eq!(answer.code, 200, "a finalizer: {}", answer.message);
        let answer = send(&client, "PATCH", &dry, merge, &edit).await;
        match answer.code {
            200 => Err("accepted".to_owned()),
            _ => Ok(answer),
        }
    })
    .await
    .unwrap();
    refuses(&refused, "phones", PHONE);
    let deleted = send(&client, "DELETE", &one, JSON, &json!({})).await;
    assert_eq!(deleted.code, 200, "{}", deleted.message);
}
