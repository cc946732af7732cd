//! What policies find, told as reports of `openreports.io` where its definitions are installed: the
//! real ones.

use cluster::{AuditEvent, By, Cluster, Mark};
use directory_simulator::Options;
use kube::api::{
    Api, DeleteParams, DynamicObject, Patch, PatchParams, PostParams, ValidationDirective,
};
use kube::{ResourceExt as _, core::ApiResource};
use message_contact_operator::api::{CustomResourceDefinition, open_report};
use message_contact_operator::clock::Clock;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::many::operator_client;
use crate::namespace_deleted::{has_controller_manager, with_controller_manager};
use crate::rights;
use crate::secrets::{all_but_secrets, grant};
use crate::stand::{self, Own, PATIENCE, Stand, condition_of, is_gone};
use crate::values_from_secrets::mail_from;

/// The definitions as the project of that name releases them.
async fn definitions() -> Vec<CustomResourceDefinition> {
    let module = "github.com/openreports/reports-api";
    let folder = cluster::files_of_module("openreports", module, "config/crd").await.unwrap();
    let files = ["openreports.io_reports.yaml", "openreports.io_clusterreports.yaml"];
    let read = |file: &str| {
        let text = std::fs::read_to_string(folder.join(file)).unwrap();
        let object: Value = serde_saphyr::from_str(&text).unwrap();
        serde_json::from_value(object).unwrap()
    };
    files.map(read).into()
}

async fn install(cluster: &Cluster) {
    cluster.apply_crds(&definitions().await).await.unwrap();
}

async fn uninstall(cluster: &Cluster) {
    let api: Api<CustomResourceDefinition> = Api::all(cluster.client());
    for definition in definitions().await {
        api.delete(&definition.name_any(), &DeleteParams::default()).await.unwrap();
        let kind = ApiResource::erase::<CustomResourceDefinition>(&());
        is_gone(&Api::all_with(cluster.client(), &kind), &definition.name_any()).await;
    }
}

impl Stand {
    fn reports_in(&self, namespace: &str) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), namespace, &open_report::resource(true))
    }

    fn cluster_reports(&self) -> Api<DynamicObject> {
        Api::all_with(self.client.clone(), &open_report::resource(false))
    }

    /// The name of the reports of a policy.
    fn report(&self, policy: &str) -> String {
        format!("contactpolicy-{}", self.policy(policy))
    }

    /// Waits until a policy was looked at because somebody asked for it.
    async fn ask_policy(&self, policy: &str, text: &str) {
        let (api, name) = (self.policies(), self.policy(policy));
        stand::request(&api, &name, text).await;
        let handled =
            |found: &DynamicObject| found.data["status"]["lastHandledReconcileAt"] == text;
        stand::sees(&api, &name, "the request is handled", handled).await;
    }
}

/// Waits until a report has that summary.
async fn counts(api: &Api<DynamicObject>, name: &str, summary: Value) -> DynamicObject {
    cluster::wait_for(PATIENCE, &format!("{name} says {summary}"), || async {
        let found = api.get(name).await.map_err(|error| error.to_string())?;
        if found.data["summary"] == summary { Ok(found) } else { Err(found.data.to_string()) }
    })
    .await
    .unwrap()
}

fn summary(pass: u32, fail: u32, warn: u32, error: u32) -> Value {
    json!({ "pass": pass, "fail": fail, "warn": warn, "error": error, "skip": 0 })
}

/// What the operator has done with reports since then, beside looking them up.
fn writes(cluster: &Cluster, mark: Mark) -> Vec<AuditEvent> {
    let by = By::UserAgent("message-contact-operator");
    let writes = cluster.audit().writes(mark, by).unwrap();
    writes.into_iter().filter(|write| write.group == "openreports.io").collect()
}

/// The apiserver finds no field that its schema does not have, and none that it lacks.
async fn is_valid(api: &Api<DynamicObject>, report: &DynamicObject) {
    let name = format!("copy-of-{}", report.name_any());
    let metadata = kube::api::ObjectMeta { name: Some(name.clone()), ..Default::default() };
    let copy = DynamicObject { metadata, ..report.clone() };
    let field_validation = Some(ValidationDirective::Strict);
    let strict = PatchParams { dry_run: true, field_validation, ..PatchParams::apply("a-person") };
    api.patch(&name, &strict, &Patch::Apply(&copy)).await.unwrap();
}

fn start(cluster: &'static Cluster) -> JoinHandle<()> {
    tokio::spawn(stand::run_operator(operator_client(cluster), Clock::system()))
}

/// What a rule demands of a contact, and what became of it.
fn result(stand: &Stand, contact: &DynamicObject, result: &str, message: Option<&str>) -> Value {
    let mut expected = json!({ "policy": stand.policy("phones"), "rule": "contact.phoneNumber",
        "category": "Message contacts", "result": result, "severity": "high", "scored": true,
        "resources": [{ "apiVersion": "message-contacts.dev/v1alpha1", "kind": "MessageContact",
            "namespace": contact.namespace(), "name": contact.name_any(), "uid": contact.uid() }] });
    if let Some(message) = message {
        expected["message"] = json!(message);
    }
    expected
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_come_with_their_api_stay_in_their_namespace_and_go_with_their_policy() {
    if !has_controller_manager() {
        println!("left out: reports go with their policy; KUBEBUILDER_ASSETS has no manager");
        return;
    }
    let own = with_controller_manager().await;
    let cluster = own.cluster();
    stand::prepare(cluster).await;
    let operator = start(cluster);
    let stand = Stand::on(cluster, Options::default()).await;
    stand.apply_directory(json!({ "pollInterval": "1h" })).await;
    let elsewhere = cluster.namespace("elsewhere").await.unwrap();
    stand.stranger("Fremder");
    stand.settled("with", "Zhangfei", json!({ "phoneNumber": "86-13800138000" })).await;
    stand.settled("without", "Guanyu", json!({})).await;
    stand.apply("exempt", "Liubei", json!({ "reconcilePolicy": "ReportOnly" })).await;
    let mut foreign = stand.manifest("foreign", "Zhaoyun", json!({}));
    foreign["metadata"]["namespace"] = json!(elsewhere);
    let foreign = stand::apply(&stand.contacts_in(&elsewhere), &foreign).await.unwrap();
    stand::becomes(&stand.contacts_in(&elsewhere), "foreign", "Synced", "InSync").await;
    stand.ask_directory().await;
    let spec = json!({ "enforcement": "Deny", "contact": { "phoneNumber": "Required" },
        "coverage": [{ "name": "faults", "minContacts": 4, "messageTypes": ["FaultMessage"] }],
        "unmanagedContacts": { "max": 0 } });
    stand.apply_policy("phones", spec).await;
    let (policies, policy) = (stand.policies(), stand.policy("phones"));
    stand::becomes(&policies, &policy, "Compliant", "PolicyViolation").await;

    // Nothing happens without the API, and what comes later is found.
    let mark = cluster.audit().mark().unwrap();
    install(cluster).await;
    stand.ask_policy("phones", "look").await;
    let (reports, name) = (stand.reports_in(&stand.namespace), stand.report("phones"));
    let report = counts(&reports, &name, summary(1, 1, 0, 0)).await;
    let advice = "contact.phoneNumber: write phoneNumber or phoneNumberFrom";
    let results = json!([
        result(&stand, &stand.object("without").await, "fail", Some(advice)),
        result(&stand, &stand.object("with").await, "pass", None),
    ]);
    assert_eq!(report.data["results"], results);
    assert_eq!(report.data["source"], "message-contact-operator");
    assert_eq!(report.data["configuration"]["limits"]["maxResults"], 500);
    is_valid(&reports, &report).await;

    // Each namespace has its own, and the cluster what belongs to nobody.
    let others = stand.reports_in(&elsewhere);
    let report = counts(&others, &name, summary(0, 1, 0, 0)).await;
    assert_eq!(report.data["results"], json!([result(&stand, &foreign, "fail", Some(advice))]));
    let cluster_reports = stand.cluster_reports();
    let report = counts(&cluster_reports, &name, summary(0, 2, 0, 0)).await;
    let told = |index: usize| report.data["results"][index]["message"].as_str().unwrap().to_owned();
    assert_eq!(told(0), "`faults`: 3 of 4 contacts hear of FaultMessage");
    let unmanaged = "has 1 contacts that no MessageContact holds, and at most 0 are allowed";
    assert_eq!(told(1), format!("`{}` {unmanaged}", stand.directory));
    assert_eq!(report.data["results"][0]["rule"], "coverage.faults");
    assert_eq!(report.data["results"][0]["properties"]["actual"], "3");
    assert_eq!(report.data["scope"]["name"], json!(policy));
    is_valid(&cluster_reports, &report).await;
    assert_eq!(writes(cluster, mark).len(), 3, "each was written once");

    // At rest, when somebody asks, and after a restart nothing is written.
    let mark = cluster.audit().mark().unwrap();
    stand.ask("without").await;
    stand.ask_policy("phones", "again").await;
    operator.abort();
    let _ = operator.await;
    let operator = start(cluster);
    stand.ask("without").await;
    stand.ask_policy("phones", "after a restart").await;
    // What comes behind it in the policy's queue tells that it was looked at to its end.
    stand.ask_policy("phones", "and again").await;
    assert_eq!(writes(cluster, mark), []);

    // Whoever changes or deletes a report has it back when somebody asks, also beside a foreign one
    // that has our label.
    let forged = Patch::Merge(json!({ "summary": { "fail": 0 } }));
    reports.patch(&name, &PatchParams::default(), &forged).await.unwrap();
    others.delete(&name, &DeleteParams::default()).await.unwrap();
    let mut copy = report.clone();
    copy.metadata = kube::api::ObjectMeta {
        name: Some("another".to_owned()),
        labels: Some(report.labels().clone()),
        ..Default::default()
    };
    cluster_reports.create(&PostParams::default(), &copy).await.unwrap();
    stand.ask_policy("phones", "mend").await;
    counts(&reports, &name, summary(1, 1, 0, 0)).await;
    counts(&others, &name, summary(0, 1, 0, 0)).await;

    // Only what changes is written.
    let mark = cluster.audit().mark().unwrap();
    stand.apply("without", "Guanyu", json!({ "phoneNumber": "86-13800138001" })).await;
    counts(&reports, &name, summary(2, 0, 0, 0)).await;
    let written: Vec<_> = writes(cluster, mark).into_iter().map(|it| it.namespace).collect();
    assert_eq!(written, std::slice::from_ref(&stand.namespace));

    // A namespace without contacts has no report, and the rest goes with the policy.
    stand.contacts_in(&elsewhere).delete("foreign", &DeleteParams::default()).await.unwrap();
    is_gone(&others, &name).await;
    let kept = cluster_reports.get("another").await;
    assert!(kept.is_ok(), "nobody's report is touched: {kept:?}");
    policies.delete(&policy, &DeleteParams::default()).await.unwrap();
    is_gone(&reports, &name).await;
    is_gone(&cluster_reports, &name).await;
    operator.abort();
    let _ = operator.await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_right_to_write_reports_policies_are_followed_and_it_is_said_once() {
    const SAID: &str = "reports of policies may not be written: grant `list`, `create`, `patch` \
                        and `delete` on `reports` and `clusterreports` of `openreports.io`";
    crate::privacy::listen();
    let own = Own::new(stand::another_cluster().await);
    let cluster = own.cluster();
    install(cluster).await;
    let stand = Stand::on(cluster, Options::default()).await;
    let user = "operator-without-reports";
    grant(&stand, user, user, all_but_secrets()).await;
    let secrets = json!([rights::rule("", "secrets", &["get"])]);
    grant(&stand, user, "and-secrets", secrets).await;
    let client = cluster.client_as(user, &[]);
    let operator = tokio::spawn(stand::run_operator(client, Clock::system()));
    stand.apply_directory(json!({})).await;
    stand.settled("desk", "Sunshang", json!({})).await;
    let domains = json!({ "unmanagedContacts": { "max": 0 }, "contact": {
        "phoneNumber": "Required", "emailDomains": { "allowed": ["example.org"] } } });
    stand.apply_policy("domains", domains).await;
    let (policies, policy) = (stand.policies(), stand.policy("domains"));
    stand::becomes(&policies, &policy, "Compliant", "PolicyViolation").await;
    for text in ["once", "twice", "thrice"] {
        stand.ask_policy("domains", text).await;
    }
    assert_eq!(stand.told().await.log.matches(SAID).count(), 1);

    let group = "openreports.io";
    let rules = json!([
        rights::rule(group, "reports", &["list", "create", "patch", "delete"]),
        rights::rule(group, "clusterreports", &["list", "create", "patch", "delete"]),
    ]);
    grant(&stand, user, "and-reports", rules).await;
    // The right is noticed the next time that anything changes.
    stand.put("mailboxes", json!({ "another": "nobody@example.org" })).await;
    let mut hidden = mail_from("mailboxes");
    hidden["phoneNumber"] = json!("86-13800138000");
    stand.apply("hidden", "Daqiao", hidden).await;
    stand.becomes("hidden", "Synced", "SecretNotFound").await;
    let (reports, name) = (stand.reports_in(&stand.namespace), stand.report("domains"));
    // `desk` violates both rules; of `hidden` only the number is known.
    let report = counts(&reports, &name, summary(1, 0, 2, 1)).await;
    let outcomes = report.data["results"].as_array().unwrap().iter();
    let outcomes: Vec<_> = outcomes.map(|it| it["result"].as_str().unwrap()).collect();
    assert_eq!(outcomes, ["warn", "warn", "error", "pass"]);
    assert_eq!(report.data["results"][0]["severity"], "low");
    assert_eq!(report.data["results"][0]["scored"], false);
    is_valid(&reports, &report).await;

    // The API goes, and comes again.
    uninstall(cluster).await;
    stand.put("mailboxes", json!({ "mail": "hidden@example.com" })).await;
    stand.becomes("hidden", "Synced", "InSync").await;
    let two_are_known = json!({ "matched": 2, "compliant": 0, "violating": 2 });
    let known = |found: &DynamicObject| found.data["status"]["contacts"] == two_are_known;
    let found = stand::sees(&policies, &policy, "it is still followed", known).await;
    assert_eq!(condition_of(&found, "Ready")["status"], "True");
    install(cluster).await;
    let mut without = mail_from("mailboxes");
    without["phoneNumber"] = json!(null);
    stand.apply("hidden", "Daqiao", without).await;
    counts(&reports, &name, summary(0, 0, 4, 0)).await;
    // Also what says the same as before.
    counts(&stand.cluster_reports(), &name, summary(1, 0, 0, 0)).await;
    operator.abort();
    let _ = operator.await;
}
