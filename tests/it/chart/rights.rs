//! The rights that the chart grants are those that the operator uses: none too many, none too few.

use std::collections::BTreeSet;

use cluster::By;
use directory_simulator::{ACCESS_KEY_ID, ACCESS_KEY_SECRET, Options};
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value, json};

use super::install::{empty_cluster, install, kubeconfig_of};
use super::{Helm, RELEASE, chart, kind, name, objects};
use crate::policy_reports::{counts, summary};
use crate::process::Operator;
use crate::stand::{OPERATOR_NAMESPACE, Stand, message_of};

/// A right: in which namespace (none: in all, and for what belongs to none), what, which verb, and
/// for which name (none: for all).
type Right = (Option<String>, String, String, Option<String>);

/// All rights that objects of the chart give a service account.
fn granted(all: &[Value], account: &str) -> BTreeSet<Right> {
    let bindings = all.iter().filter(|it| kind(it).ends_with("RoleBinding"));
    let of_account = |binding: &&Value| {
        let subjects = binding["subjects"].as_array().unwrap();
        subjects
            .iter()
            .any(|subject| subject["name"] == account && subject["namespace"] == OPERATOR_NAMESPACE)
    };
    let mut rights = BTreeSet::new();
    for binding in bindings.filter(of_account) {
        let namespace = binding["metadata"]["namespace"].as_str().map(str::to_owned);
        let role = all.iter().find(|it| {
            it["kind"] == binding["roleRef"]["kind"]
                && it["metadata"]["name"] == binding["roleRef"]["name"]
                && it["metadata"]["namespace"] == binding["metadata"]["namespace"]
        });
        for rule in role.unwrap()["rules"].as_array().unwrap() {
            let texts = |key: &str| -> Vec<String> {
                let all = rule[key].as_array().into_iter().flatten();
                all.map(|it| it.as_str().unwrap().to_owned()).collect()
            };
            let mut names: Vec<_> = texts("resourceNames").into_iter().map(Some).collect();
            if names.is_empty() {
                names.push(None);
            }
            for group in texts("apiGroups") {
                for resource in texts("resources") {
                    let what = format!("{resource}.{group}");
                    assert!(!what.contains('*'), "{what}");
                    for verb in texts("verbs") {
                        for name in &names {
                            let right =
                                (namespace.clone(), what.clone(), verb.clone(), name.clone());
                            rights.insert(right);
                        }
                    }
                }
            }
        }
    }
    rights
}

/// The verbs that a request needs: who creates an object by applying it needs two.
fn verbs(event: &cluster::AuditEvent) -> Vec<&str> {
    let creates = event.verb == "patch" && event.code == 201;
    std::iter::once(&*event.verb).chain(creates.then_some("create")).collect()
}

/// Whether a right gives that request one of the verbs that it needs.
fn allows(right: &Right, event: &cluster::AuditEvent, needed: &str) -> bool {
    let (namespace, what, verb, name) = right;
    let subresource = match event.subresource.as_str() {
        "" => event.resource.clone(),
        subresource => format!("{}/{subresource}", event.resource),
    };
    namespace.as_ref().is_none_or(|namespace| *namespace == event.namespace)
        && *what == format!("{subresource}.{}", event.group)
        && *verb == needed
        && name.as_ref().is_none_or(|name| *name == event.name)
}

/// A walk in which the operator does all that it ever does.
async fn walk(stand: &Stand, user: &str) {
    let keys = json!({ "accessKeyId": ACCESS_KEY_ID, "accessKeySecret": ACCESS_KEY_SECRET });
    stand.apply_secret("alibaba-cloud", keys).await;
    let from = json!({ "source": "Secret", "secretRef": { "name": "alibaba-cloud" } });
    stand.apply_directory(json!({ "credentials": from })).await;
    stand.directory_becomes("Ready", "Connected").await;
    let coverage = json!([{ "name": "heard", "messageTypes": ["SecurityMessage"],
        "minContacts": 1 }]);
    let demands = json!({ "enforcement": "Warn", "coverage": coverage,
        "contact": { "phoneNumber": "Required" } });
    stand.apply_policy("heard", demands).await;
    // Created, and its owner is asked.
    stand.apply("asked", "Kongzi", json!({ "verification": null, "readyWhen": null })).await;
    stand.cloud("a mail", |it| (!it.outbox().is_empty()).then_some(())).await;
    stand.becomes("asked", "Synced", "InSync").await;
    // Its address stands in a Secret.
    stand.put("security-desk", json!({ "mail": "desk@example.com" })).await;
    let from = json!({ "secretKeyRef": { "name": "security-desk", "key": "mail" } });
    let hidden = json!({ "emailAddress": null, "emailAddressFrom": from });
    stand.settled("hidden", "Mengzi", hidden).await;
    // Changed, asked for, deleted.
    stand.apply("asked", "Kongzi", json!({ "title": "CEO" })).await;
    stand
        .cloud("the title", |it| {
            it.state().named("Kongzi").is_some_and(|it| it.contact.title == "CEO").then_some(())
        })
        .await;
    stand.ask("asked").await;
    crate::stand::sees(&stand.policies(), &stand.policy("heard"), "it was evaluated", |it| {
        it.data["status"]["conditions"].to_string().contains("Compliant")
    })
    .await;
    meets_a_conflict(stand, user).await;
    // Its reports: written, changed, and deleted when they have nothing to say.
    let (reports, of_all, report) =
        (stand.reports_in(&stand.namespace), stand.cluster_reports(), stand.report("heard"));
    counts(&reports, &report, summary(0, 0, 2, 0)).await;
    counts(&of_all, &report, summary(1, 0, 0, 0)).await;
    stand.apply_policy("heard", json!({ "contact": { "phoneNumber": "Required" } })).await;
    crate::stand::is_gone(&of_all, &report).await;
    // The directory is deleted, and waits for its contacts.
    let directory = stand.ask_directory().await;
    assert_eq!(message_of(&directory, "Ready"), "the directory answers");
    stand.delete_directory().await;
    stand.directory_sees("it waits", |it| message_of(it, "Ready").contains("waits for 2")).await;
    for object in ["asked", "hidden"] {
        stand.delete(object).await;
        stand.is_gone(object).await;
    }
    crate::stand::is_gone(&reports, &report).await;
    stand.directory_is_gone().await;
}

/// People write an object at the same time as the operator, until it has had to read it anew.
async fn meets_a_conflict(stand: &Stand, user: &str) {
    let contacts = stand.contacts();
    let audit = stand.cluster.audit();
    let mark = audit.mark().unwrap();
    let mut round = 0;
    cluster::wait_for(crate::stand::PATIENCE, "the operator meets a conflict", || {
        round += 1;
        let (contacts, audit) = (contacts.clone(), audit.clone());
        async move {
            crate::stand::request(&contacts, "asked", &format!("round {round}")).await;
            for number in 0..20 {
                let labels = json!({ "metadata": { "labels": { "number": number.to_string() } } });
                let patch = Patch::Merge(&labels);
                contacts.patch("asked", &PatchParams::default(), &patch).await.unwrap();
            }
            let events = audit.since(mark).unwrap();
            let read = events.iter().any(|it| {
                it.is_by(By::User(user)) && it.resource == "messagecontacts" && it.verb == "get"
            });
            if read { Ok(()) } else { Err(format!("{} requests", events.len())) }
        }
    })
    .await
    .unwrap();
}

/// Starts an operator, kills it, and lets another installation have the cluster for a moment: the one
/// that is started then has to wait for both leases.
async fn lead(stand: &Stand, flags: &[&str]) -> Operator {
    let kubeconfig = kubeconfig_of(stand.cluster, RELEASE);
    let endpoints = [stand.simulator.endpoint()];
    let keys = (ACCESS_KEY_ID, ACCESS_KEY_SECRET);
    let start = |lease: &[&str]| {
        let flags = [&["--leader-election=true"], lease, flags].concat();
        Operator::start_with_keys(OPERATOR_NAMESPACE, &kubeconfig, &endpoints, &flags, keys)
    };
    let first = start(&["--lease-duration=2s", "--renew-deadline=1s"]);
    first.says("this process leads").await;
    first.kill();
    let leases: Api<Lease> = Api::namespaced(stand.client.clone(), "kube-system");
    let patch = Patch::Merge(json!({ "spec": { "holderIdentity": "another" } }));
    leases.patch("message-contacts.dev", &PatchParams::default(), &patch).await.unwrap();
    // What it waits for is as short as the first one's lease; its own one lasts on a busy machine, too.
    let second = start(&[]);
    second.says("this process leads").await;
    second
}

/// Installs, walks, and compares what was granted with what was used.
async fn granted_is_used(mode: &str, values: impl Fn(&Stand) -> Vec<String>, flags: &[&str]) {
    let own = empty_cluster().await;
    let cluster = own.cluster();
    let helm = tokio::task::block_in_place(|| Helm::of("helm4", cluster.kubeconfig_path()));
    let stand = Stand::on(cluster, Options::default()).await;
    let mut values = values(&stand);
    values.push(format!("contactSecrets.namespaces[0].namespace={}", stand.namespace));
    values.push("contactSecrets.namespaces[0].names={security-desk}".to_owned());
    values.push("openReports.enabled=true".to_owned());
    let set: Vec<_> = values.iter().flat_map(|value| ["--set", value]).collect();
    crate::policy_reports::install(cluster).await;
    install(&helm, chart().to_str().unwrap(), &set);
    let granted_with =
        |values: &[&str]| granted(&objects(&helm.renders(OPERATOR_NAMESPACE, values)), RELEASE);
    let granted = granted_with(&set);
    let of_reports = |(_, what, ..): &&Right| what.ends_with(".openreports.io");
    assert_eq!(granted.iter().filter(of_reports).count(), 8, "{granted:#?}");
    // Who does not want reports grants all but these.
    let others: BTreeSet<_> = granted.iter().filter(|it| !of_reports(it)).cloned().collect();
    let off = [&set[..], &["--set", "openReports.enabled=false"]].concat();
    assert_eq!(granted_with(&off), others);

    let mark = cluster.audit().mark().unwrap();
    let flags: Vec<_> =
        flags.iter().map(|flag| flag.replace("NAMESPACE", &stand.namespace)).collect();
    let flags: Vec<_> = flags.iter().map(String::as_str).collect();
    let mut operator = lead(&stand, &flags).await;
    let user = format!("system:serviceaccount:{OPERATOR_NAMESPACE}:{RELEASE}");
    walk(&stand, &user).await;
    operator.terminate();
    operator.ends_within(crate::stand::PATIENCE).await;

    let mut events = cluster.audit().since(mark).unwrap();
    events.retain(|event| event.is_by(By::User(&user)) && !event.resource.is_empty());
    let is_used = |right: &Right, event: &cluster::AuditEvent| {
        verbs(event).into_iter().any(|verb| allows(right, event, verb))
    };
    let unused: Vec<_> =
        granted.iter().filter(|right| !events.iter().any(|event| is_used(right, event))).collect();
    let is_granted = |event: &cluster::AuditEvent| {
        let is_given = |verb| granted.iter().any(|right| allows(right, event, verb));
        event.code != 403 && verbs(event).into_iter().all(is_given)
    };
    let not_granted: BTreeSet<_> = events
        .iter()
        .filter(|event| !is_granted(event))
        .map(|event| format!("{} {} {}: {}", event.verb, event.resource, event.name, event.code))
        .collect();
    println!(
        "{mode}: {} rights granted, {} requests; granted minus used = {}, used minus granted = {}",
        granted.len(),
        events.len(),
        unused.len(),
        not_granted.len()
    );
    assert!(events.len() > 20, "{events:#?}");
    assert!(unused.is_empty(), "granted and never used: {unused:#?}");
    assert!(not_granted.is_empty(), "used and not granted: {not_granted:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_granted_for_all_namespaces_is_what_is_used() {
    granted_is_used("all namespaces", |_| Vec::new(), &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_granted_for_some_namespaces_is_what_is_used() {
    let watched = |stand: &Stand| vec![format!("watchNamespaces={{{}}}", stand.namespace)];
    granted_is_used("some namespaces", watched, &["--watch-namespace", "NAMESPACE"]).await;
}

#[test]
fn roles_for_people_never_hold_what_the_operator_trusts() {
    let helm = Helm::offline("helm4");
    let all = objects(&helm.renders(OPERATOR_NAMESPACE, &[]));
    let roles: Vec<_> = all.iter().filter(|it| kind(it) == "ClusterRole").collect();
    assert_eq!(roles.len(), 4);
    for role in roles.iter().filter(|role| name(role) != format!("{OPERATOR_NAMESPACE}-{RELEASE}"))
    {
        let rules = role["rules"].to_string();
        assert!(!rules.contains("/status") && !rules.contains('*'), "{rules}");
        let labels = role["metadata"]["labels"].to_string();
        let is_aggregated = labels.contains("aggregate-to-");
        // What belongs to no namespace tells of all of them.
        assert_eq!(is_aggregated, !rules.contains("contactpolicies"), "{}", name(role));
        assert!(!is_aggregated || !rules.contains("resourcedirectories"), "{}", name(role));
    }
}
