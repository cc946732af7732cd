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
use message_contact_operator::controller::{Environment, Scope};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::many::operator_client;
use crate::namespace_deleted::{has_controller_manager, with_controller_manager};
use crate::rights;
use crate::secrets::{all_but_secrets, grant};
use crate::stand::{
    self, OPERATOR_NAMESPACE, Own, PATIENCE, Stand, becomes, condition_of, is_gone,
};
use crate::values_from_secrets::mail_from;
use crate::watch_namespace::grant_in;

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

/// Installs them.
pub async fn install(cluster: &Cluster) {
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
    pub fn reports_in(&self, namespace: &str) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), namespace, &open_report::resource(true))
    }

    pub fn cluster_reports(&self) -> Api<DynamicObject> {
        Api::all_with(self.client.clone(), &open_report::resource(false))
    }

    /// The name of the reports of a policy.
    pub fn report(&self, policy: &str) -> String {
        format!("contactpolicy-{}", self.policy(policy))
    }

    /// A contact in that namespace, without a phone number, once it is in the cloud.
    async fn settled_in(&self, namespace: &str, name: &str) {
        let mut contact = self.manifest("desk", name, json!({}));
        contact["metadata"]["namespace"] = json!(namespace);
        let contacts = self.contacts_in(namespace);
        stand::apply(&contacts, &contact).await.unwrap();
        becomes(&contacts, "desk", "Synced", "InSync").await;
    }

    /// Waits until a policy was looked at because somebody asked for it.
    pub async fn ask_policy(&self, policy: &str, text: &str) {
        let (api, name) = (self.policies(), self.policy(policy));
        stand::request(&api, &name, text).await;
        let handled =
            |found: &DynamicObject| found.data["status"]["lastHandledReconcileAt"] == text;
        stand::sees(&api, &name, "the request is handled", handled).await;
    }
}

/// Waits until a report has that summary.
pub async fn counts(api: &Api<DynamicObject>, name: &str, summary: Value) -> DynamicObject {
    cluster::wait_for(PATIENCE, &format!("{name} says {summary}"), || async {
        let found = api.get(name).await.map_err(|error| error.to_string())?;
        if found.data["summary"] == summary { Ok(found) } else { Err(found.data.to_string()) }
    })
    .await
    .unwrap()
}

pub fn summary(pass: u32, fail: u32, warn: u32, error: u32) -> Value {
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
    let log = stand.told().await.log;
    // Of this policy: the log is that of all stories.
    let said = log.lines().filter(|line| line.contains(SAID) && line.contains(&policy));
    assert_eq!(said.count(), 1);

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

/// A policy speaks of contacts in three namespaces, and in the second of them reports are refused.
async fn one_of_three_is_refused(is_scoped: bool) {
    crate::privacy::listen();
    let own = Own::new(stand::another_cluster().await);
    let cluster = own.cluster();
    install(cluster).await;
    let stand = Stand::on(cluster, Options::default()).await;
    // In the order in which they are written. The log is that of all stories, so each has its own.
    let prefixes =
        if is_scoped { ["after", "barred", "coming"] } else { ["before", "closed", "desks"] };
    let mut namespaces = Vec::new();
    for prefix in prefixes {
        namespaces.push(cluster.namespace(prefix).await.unwrap());
    }
    let [before, closed, behind] = &namespaces[..] else { unreachable!() };
    let (user, group) = ("operator-of-some-reports", "openreports.io");
    let all_verbs = ["list", "create", "patch", "delete"];
    let in_one = json!([rights::rule(group, "reports", &all_verbs)]);
    grant(&stand, user, user, all_but_secrets()).await;
    let mut of_all = vec![rights::rule(group, "clusterreports", &all_verbs)];
    of_all.extend((!is_scoped).then(|| rights::rule(group, "reports", &["list"])));
    grant(&stand, user, "and-reports", json!(of_all)).await;
    for namespace in [before, behind] {
        grant_in(&stand.client, namespace, user, &in_one).await;
    }
    let allowed = vec![stand.simulator.endpoint()];
    let mut environment =
        Environment::new(OPERATOR_NAMESPACE.to_owned(), allowed, stand::environment);
    if is_scoped {
        environment.scope = Scope::of(namespaces.clone());
    }
    let client = cluster.client_as(user, &[]);
    let operator = tokio::spawn(stand::run_operator_in(client, environment, Clock::system()));
    stand.apply_directory(json!({ "pollInterval": "1h" })).await;
    for (namespace, name) in namespaces.iter().zip(["Sunce", "Sunjian", "Lusu"]) {
        stand.settled_in(namespace, name).await;
    }
    let spec = json!({ "enforcement": "Deny", "contact": { "phoneNumber": "Required" },
        "unmanagedContacts": { "max": 0 } });
    for policy in ["phones", "numbers"] {
        stand.apply_policy(policy, spec.clone()).await;
    }

    // The others have theirs, of each policy, and each tells of its own contacts alone.
    let [phones, numbers] = ["phones", "numbers"].map(|policy| stand.report(policy));
    for report in [&phones, &numbers] {
        for namespace in [before, behind] {
            let report = counts(&stand.reports_in(namespace), report, summary(0, 1, 0, 0)).await;
            assert_eq!(report.data["results"][0]["resources"][0]["namespace"], json!(namespace));
        }
        counts(&stand.cluster_reports(), report, summary(1, 0, 0, 0)).await;
    }
    let refusing = stand.reports_in(closed);
    for text in ["once", "twice"] {
        stand.ask_policy("phones", text).await;
        stand.ask_policy("numbers", text).await;
    }
    assert!(refusing.get_opt(&phones).await.unwrap().is_none());
    // It is said once, of that namespace, and not of all.
    let said = |log: &str| -> usize {
        let of_closed = format!("namespace=\"{closed}\" code=403");
        let is_ours = |line: &&str| namespaces.iter().any(|it| line.contains(&format!("\"{it}\"")));
        let lines = log.lines().filter(|line| line.contains("reports are refused there alone"));
        let lines = lines.filter(is_ours);
        lines.inspect(|line| assert!(line.contains(&of_closed), "{line}")).count()
    };
    let log = stand.told().await.log;
    assert_eq!(said(&log), 1, "{log}");
    let of_ours = |line: &str| line.contains("/phones.") || line.contains("/numbers.");
    let all = |line: &str| line.contains("reports of policies may not be written");
    assert!(!log.lines().any(|line| all(line) && of_ours(line)));

    // With the right they come there as well, and when it ends that is said once more.
    grant_in(&stand.client, closed, user, &in_one).await;
    stand.ask_policy("phones", "now").await;
    counts(&refusing, &phones, summary(0, 1, 0, 0)).await;
    grant_in(&stand.client, closed, user, &json!([])).await;
    let as_operator = cluster.client_as(user, &[]);
    let as_operator: Api<DynamicObject> =
        Api::namespaced_with(as_operator, closed, &open_report::resource(true));
    cluster::wait_for(PATIENCE, "the right has ended", || async {
        let dry = DeleteParams { dry_run: true, ..DeleteParams::default() };
        match as_operator.delete(&phones, &dry).await {
            Err(kube::Error::Api(refusal)) if refusal.code == 403 => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await
    .unwrap();
    let number = json!({ "spec": { "phoneNumber": "86-13800138003" } });
    let params = PatchParams::default();
    stand.private.add("13800138003");
    stand.contacts_in(closed).patch("desk", &params, &Patch::Merge(&number)).await.unwrap();
    cluster::wait_for(PATIENCE, "it is said again", || async {
        let said = said(&stand.told().await.log);
        if said == 2 { Ok(()) } else { Err(said.to_string()) }
    })
    .await
    .unwrap();
    // What was refused is as it was, and the others are not.
    counts(&refusing, &phones, summary(0, 1, 0, 0)).await;
    counts(&stand.reports_in(behind), &phones, summary(0, 1, 0, 0)).await;
    operator.abort();
    let _ = operator.await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_that_refuses_reports_keeps_no_other_from_its_own_and_that_is_said_once() {
    one_of_three_is_refused(false).await;
}

/// As above, and the operator may not even list the reports there.
#[tokio::test(flavor = "multi_thread")]
async fn so_does_one_of_the_namespaces_that_are_watched() {
    one_of_three_is_refused(true).await;
}

/// Waits until nothing is told of what a policy has found.
async fn says_nothing_any_more(stand: &Stand, policy: &str, namespaces: [&str; 2]) {
    let name = stand.policy(policy);
    let object = becomes(&stand.policies(), &name, "Ready", "InvalidPolicy").await;
    for found in ["contacts", "violations", "coverage"] {
        assert_eq!(object.data["status"][found], Value::Null, "{}", object.data["status"]);
    }
    for namespace in namespaces {
        is_gone(&stand.reports_in(namespace), &stand.report(policy)).await;
    }
    is_gone(&stand.cluster_reports(), &stand.report(policy)).await;
}

/// The definition is one of a later version that knows another word; the apiserver takes no policy
/// that its own operator could not follow.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_policy_found_goes_when_it_cannot_be_followed_any_more_and_comes_again_with_it() {
    let own = Own::new(stand::another_cluster().await);
    let cluster = own.cluster();
    install(cluster).await;
    stand::take_any_enforcement(cluster).await;
    let operator = start(cluster);
    let stand = Stand::on(cluster, Options::default()).await;
    stand.apply_directory(json!({ "pollInterval": "1h" })).await;
    let elsewhere = cluster.namespace("elsewhere").await.unwrap();
    stand.settled_in(&stand.namespace, "Zhouyu").await;
    stand.settled_in(&elsewhere, "Xiaoqiao").await;
    let spec = |enforcement: &str| {
        json!({ "enforcement": enforcement, "contact": { "phoneNumber": "Required" },
            "coverage": [{ "name": "faults", "minContacts": 1, "messageTypes": ["FaultMessage"] }] })
    };
    let namespaces = [&*stand.namespace, &*elsewhere];
    let all_are_told = async |enforcement: &str, violations: Value| {
        stand.apply_policy("phones", spec(enforcement)).await;
        let name = stand.report("phones");
        for namespace in namespaces {
            counts(&stand.reports_in(namespace), &name, violations.clone()).await;
        }
        counts(&stand.cluster_reports(), &name, summary(1, 0, 0, 0)).await;
    };
    all_are_told("Deny", summary(0, 1, 0, 0)).await;
    let is_accepted = || async {
        let mut later = json!({ "match": { "directories": [stand.directory] } });
        stand::merge(&mut later, spec("Punish"));
        let later = json!({ "apiVersion": "message-contacts.dev/v1alpha1",
            "kind": "ContactPolicy", "metadata": { "name": stand.policy("phones") },
            "spec": later });
        stand::apply(&stand.policies(), &later).await.map_err(|error| error.to_string())
    };
    cluster::wait_for(PATIENCE, "the schema is taken in", is_accepted).await.unwrap();
    says_nothing_any_more(&stand, "phones", namespaces).await;
    let mark = cluster.audit().mark().unwrap();
    stand.ask_policy("phones", "look").await;
    stand.ask_policy("phones", "and again").await;
    assert_eq!(writes(cluster, mark), [], "it is done once");

    // It can be followed again.
    all_are_told("Warn", summary(0, 0, 1, 0)).await;

    // It cannot be followed while nobody works.
    operator.abort();
    let _ = operator.await;
    stand.apply_policy("phones", spec("Punish")).await;
    let operator = start(cluster);
    says_nothing_any_more(&stand, "phones", namespaces).await;
    operator.abort();
    let _ = operator.await;
}
