//! What helm makes of the values that people have, and what a real apiserver says to it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use kube::Client;
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::{Value, json};

use super::{HELMS, Helm, RELEASE, borrowed, chart, kind, name, objects, sets, template};
use crate::architecture::root;
use crate::policy_admission::{Answer, send};
use crate::process;
use crate::stand;

const APPLY: &str = "application/apply-patch+yaml";
const JSON: &str = "application/json";

/// Kinds that only the Prometheus operator knows.
const MONITORING: &str = "monitoring.coreos.com/v1";

#[test]
fn both_helms_make_the_same_of_all_values() {
    let [three, four] = HELMS.map(Helm::offline);
    for (set, values) in sets() {
        let values = borrowed(&values);
        let by_three = objects(&three.renders("message-contacts", &values));
        let by_four = objects(&four.renders("message-contacts", &values));
        assert_eq!(by_three, by_four, "{set}");
        assert!(by_four.len() > 3, "{set}");
    }
}

#[test]
fn helm_itself_has_nothing_to_say() {
    for name in HELMS {
        let helm = Helm::offline(name);
        for (set, values) in sets() {
            let chart = chart().to_str().unwrap();
            let lint = ["lint", "--strict", chart, "--kube-version", "1.37.2"];
            let said = helm.prints(&[&lint[..], &borrowed(&values)].concat());
            let complaints = said
                .lines()
                .filter(|line| line.starts_with("[WARNING]") || line.starts_with("[ERROR]"));
            assert_eq!(complaints.count(), 0, "{name}, {set}: {said}");
        }
        let chart = chart().to_str().unwrap();
        let old = helm.refuses(&["template", RELEASE, chart, "--kube-version", "1.32.9"]);
        assert!(old.contains(">=1.33.0-0"), "{old}");
    }
}

/// Where objects of that kind are.
fn uri(object: &Value, namespace: &str) -> String {
    let version = object["apiVersion"].as_str().unwrap();
    let (group, version) = version.split_once('/').unwrap_or(("", version));
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind(object)));
    let start = if group.is_empty() { "/api".to_owned() } else { format!("/apis/{group}") };
    let is_global = object["metadata"]["namespace"].is_null() && kind(object) != "Pod";
    let inside = if is_global { String::new() } else { format!("/namespaces/{namespace}") };
    format!("{start}/{version}{inside}/{}", resource.plural)
}

/// Applies an object without storing it.
async fn apply_dry(client: &Client, object: &Value) -> Answer {
    let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default();
    let uri = uri(object, namespace);
    let uri = format!("{uri}/{}?dryRun=All&fieldManager=helm&force=true", name(object));
    send(client, "PATCH", &uri, APPLY, object).await
}

/// Creates a pod without storing it.
async fn create_pod_dry(client: &Client, namespace: &str, pod: &Value) -> Answer {
    let uri = format!("/api/v1/namespaces/{namespace}/pods?dryRun=All");
    send(client, "POST", &uri, JSON, pod).await
}

/// The pods that an object asks for, as objects of their own.
pub(super) fn pod_of(object: &Value) -> Option<Value> {
    let template = match kind(object) {
        "Pod" => object,
        "Deployment" | "Job" => &object["spec"]["template"],
        _ => return None,
    };
    Some(json!({ "apiVersion": "v1", "kind": "Pod", "spec": template["spec"],
        "metadata": { "name": name(object), "labels": template["metadata"]["labels"] } }))
}

/// Makes a namespace in which only pods of the profile `restricted` may run.
async fn restricted_namespace(client: &Client) -> String {
    let namespace = stand::cluster().await.namespace("chart").await.unwrap();
    let restricted = "restricted";
    let labels = json!({ "pod-security.kubernetes.io/enforce": restricted,
        "pod-security.kubernetes.io/warn": restricted });
    let patch = json!({ "metadata": { "labels": labels } });
    let uri = format!("/api/v1/namespaces/{namespace}");
    let answer = send(client, "PATCH", &uri, "application/merge-patch+json", &patch).await;
    assert_eq!(answer.code, 200, "{}", answer.message);
    namespace
}

async fn exists(client: &Client, object: Value) {
    let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default().to_owned();
    let answer = send(client, "POST", &uri(&object, &namespace), JSON, &object).await;
    assert!([201, 409].contains(&answer.code), "{}", answer.message);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_apiserver_takes_all_of_it_in_a_restricted_namespace() {
    let cluster = stand::cluster().await;
    let client = cluster.client();
    let namespace = restricted_namespace(&client).await;
    for team in ["team-a", "team-b"] {
        let metadata = json!({ "name": team });
        exists(&client, json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": metadata }))
            .await;
    }
    let helm = tokio::task::block_in_place(|| Helm::offline("helm4"));
    let (mut taken, mut pods) = (0, 0);
    let mut unknown = BTreeMap::<String, BTreeSet<String>>::new();
    for (set, values) in sets() {
        for object in objects(&helm.renders(&namespace, &borrowed(&values))) {
            let what = format!("{set}: {} {}", kind(&object), name(&object));
            if object["apiVersion"] == MONITORING {
                unknown.entry(set.clone()).or_default().insert(kind(&object).to_owned());
                continue;
            }
            let Answer { code, message, warnings } = apply_dry(&client, &object).await;
            assert!([200, 201].contains(&code), "{what}: {code} {message}");
            assert!(warnings.is_empty(), "{what}: {warnings:?}");
            taken += 1;
            let Some(pod) = pod_of(&object) else { continue };
            let account = pod["spec"]["serviceAccountName"].as_str().unwrap();
            let metadata = json!({ "name": account, "namespace": namespace });
            let account =
                json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata });
            exists(&client, account).await;
            let Answer { code, message, warnings } =
                create_pod_dry(&client, &namespace, &pod).await;
            assert_eq!(code, 201, "{what}: {message}");
            assert!(warnings.is_empty(), "{what}: {warnings:?}");
            pods += 1;
            // The trap: the same pod with a little more is refused.
            let mut more = pod.clone();
            more["spec"]["containers"][0]["securityContext"]["capabilities"]["drop"] = json!([]);
            let Answer { code, message, .. } = create_pod_dry(&client, &namespace, &more).await;
            assert!(code == 403 && message.contains("restricted"), "{what}: {code} {message}");
        }
    }
    println!("{} sets of values: {taken} objects and {pods} pods taken", sets().len());
    assert!(taken > 100 && pods > 10);
    let kinds = |kinds: &[&str]| kinds.iter().map(|kind| (*kind).to_owned()).collect();
    let expected = BTreeMap::from([
        ("everything".to_owned(), kinds(&["PodMonitor", "PrometheusRule"])),
        ("metrics".to_owned(), kinds(&["PrometheusRule", "ServiceMonitor"])),
    ]);
    assert_eq!(unknown, expected);
}

/// Whether all of these labels are among those.
fn selects(selector: &Value, labels: &Value) -> bool {
    selector.as_object().is_some_and(|all| {
        !all.is_empty() && all.iter().all(|(key, value)| labels.get(key) == Some(value))
    })
}

#[test]
fn every_selector_finds_what_it_is_for() {
    let helm = Helm::offline("helm4");
    for (set, values) in sets() {
        let all = objects(&helm.renders("message-contacts", &borrowed(&values)));
        let deployment = all.iter().find(|it| kind(it) == "Deployment").unwrap();
        let labels = &deployment["spec"]["template"]["metadata"]["labels"];
        let ports = &deployment["spec"]["template"]["spec"]["containers"][0]["ports"];
        for object in &all {
            let spec = &object["spec"];
            let what = format!("{set}: {} {}", kind(object), name(object));
            match kind(object) {
                "Deployment" | "PodDisruptionBudget" | "PodMonitor" => {
                    assert!(selects(&spec["selector"]["matchLabels"], labels), "{what}");
                }
                "NetworkPolicy" => {
                    let selector = &spec["podSelector"]["matchLabels"];
                    for pod in all.iter().filter_map(pod_of) {
                        assert!(selects(selector, &pod["metadata"]["labels"]), "{what}");
                    }
                }
                "Service" => {
                    assert!(selects(&spec["selector"], labels), "{what}");
                    let target = &spec["ports"][0]["targetPort"];
                    let has = ports.as_array().unwrap().iter().any(|it| it["name"] == *target);
                    assert!(has, "{what}");
                }
                "ServiceMonitor" => {
                    let service = all.iter().find(|it| kind(it) == "Service").unwrap();
                    let selector = &spec["selector"]["matchLabels"];
                    assert!(selects(selector, &service["metadata"]["labels"]), "{what}");
                    assert!(!selects(selector, labels), "{what} finds pods as well");
                    assert_eq!(spec["endpoints"][0]["port"], service["spec"]["ports"][0]["name"]);
                }
                _ => {}
            }
        }
        // Only the operator, and neither `helm test` nor a Job, is counted as a replica.
        for pod in all.iter().filter(|it| kind(it) != "Deployment").filter_map(pod_of) {
            let selector = &deployment["spec"]["selector"]["matchLabels"];
            assert!(!selects(selector, &pod["metadata"]["labels"]), "{set}: {}", name(&pod));
        }
    }
}

#[test]
fn definitions_are_kept_unless_they_are_not() {
    let helm = Helm::offline("helm4");
    for keep in [true, false] {
        let keep_set = format!("crds.keep={keep}");
        let all = objects(&helm.renders("message-contacts", &["--set", &keep_set]));
        let definitions: Vec<_> =
            all.iter().filter(|it| kind(it) == "CustomResourceDefinition").collect();
        assert_eq!(definitions.len(), 3);
        for definition in definitions {
            let policy = &definition["metadata"]["annotations"]["helm.sh/resource-policy"];
            assert_eq!(policy == "keep", keep, "{policy}");
            let plural = name(definition).split('.').next().unwrap();
            let stored = fs::read_to_string(root().join(format!("crds/{plural}.yaml"))).unwrap();
            let stored: Value = serde_saphyr::from_str(&stored).unwrap();
            assert_eq!(definition["spec"], stored["spec"]);
        }
        let jobs: Vec<_> = all.iter().filter(|it| kind(it) == "Job").collect();
        assert_eq!(jobs.is_empty(), keep);
        // It can change nothing in the cloud: there is no key in it, and no token but that for the
        // apiserver.
        for job in jobs {
            let spec = &job["spec"]["template"]["spec"];
            assert!(spec["containers"][0]["env"].is_null());
            assert_eq!(spec["volumes"].as_array().unwrap().len(), 1);
        }
    }
}

#[test]
fn the_program_knows_all_that_the_chart_sets() {
    let help = |arguments: &[&str]| String::from_utf8(process::run(arguments, &[]).stdout).unwrap();
    let run = help(&["run", "--help"]);
    let helm = Helm::offline("helm4");
    let mut seen = BTreeSet::new();
    for (_, values) in sets() {
        for object in objects(&helm.renders("message-contacts", &borrowed(&values))) {
            if kind(&object) != "Deployment" {
                continue;
            }
            let pod = pod_of(&object).unwrap();
            for variable in pod["spec"]["containers"][0]["env"].as_array().unwrap() {
                let variable = variable["name"].as_str().unwrap();
                if variable.starts_with("MCO_") {
                    seen.insert(variable.to_owned());
                }
            }
        }
    }
    assert!(seen.len() > 8, "{seen:?}");
    let unknown: Vec<_> = seen.iter().filter(|it| !run.contains(&format!("[env: {it}="))).collect();
    assert!(unknown.is_empty(), "`run` does not know {unknown:?}");
    for command in ["delete-definitions", "doctor"] {
        assert!(help(&["--help"]).contains(command), "{command}");
    }
}

/// Nothing else keeps two apart.
#[test]
fn without_leader_election_the_old_pod_goes_before_the_new_one_comes() {
    let helm = Helm::offline("helm4");
    let strategy = |values: &[&str]| {
        let all = objects(&helm.renders("message-contacts", values));
        let deployment = all.iter().find(|it| kind(it) == "Deployment").unwrap();
        deployment["spec"]["strategy"].clone()
    };
    assert_eq!(strategy(&[])["rollingUpdate"]["maxUnavailable"], 0);
    let alone = ["--set", "leaderElection.enabled=false,replicas=1"];
    assert_eq!(strategy(&alone), json!({ "type": "Recreate" }));
}

/// A Job gives its name to its pods as a label, and a label has 63 characters at most.
#[test]
fn a_release_with_the_longest_name_can_be_uninstalled() {
    let helm = Helm::offline("helm4");
    let chart = chart().to_str().unwrap();
    let mut arguments = template(chart, "message-contacts");
    let release = "r".repeat(53);
    arguments[1] = &release;
    arguments.extend(["--set", "crds.keep=false"]);
    let all = objects(&helm.prints(&arguments));
    let job = all.iter().find(|it| kind(it) == "Job").unwrap();
    assert!(name(job).len() <= 63 && name(job).ends_with("-delete-definitions"), "{}", name(job));
    let account = &job["spec"]["template"]["spec"]["serviceAccountName"];
    assert!(
        all.iter().any(|it| kind(it) == "ServiceAccount" && it["metadata"]["name"] == *account)
    );
}

#[test]
fn combinations_that_cannot_work_are_refused_with_advice() {
    const DIGEST: &str = "rrsa.roleArn=acs:ram::1:role/a";
    const PROVIDER: &str = "rrsa.oidcProviderArn=acs:ram::1:oidc-provider/a";
    let cases: &[(&[&str], &str, &str)] = &[
        (&["leaderElection.enabled=false"], "replicas", "`replicas: 1`"),
        (&["leaderElection.renewDeadlineSeconds=13"], "renewDeadlineSeconds", "10 and 15"),
        (&["serviceAccount.create=false"], "serviceAccount.name", "`serviceAccount.create: true`"),
        (&["rrsa.enabled=true"], "rrsa", "`webhookRoleName`"),
        (&["rrsa.enabled=true", DIGEST], "rrsa", "`oidcProviderArn`"),
        (&[DIGEST, PROVIDER], "rrsa.enabled", "`rrsa.enabled: true`"),
        (&["rrsa.enabled=true", "rrsa.webhookRoleName=a", DIGEST], "rrsa", "leave `roleArn`"),
        (
            &[
                "rrsa.enabled=true",
                "rrsa.webhookRoleName=a",
                "serviceAccount.create=false",
                "serviceAccount.name=a",
            ],
            "rrsa.webhookRoleName",
            "pod-identity.alibabacloud.com/role-name",
        ),
        (&["podDisruptionBudget.minAvailable=1"], "podDisruptionBudget", "`maxUnavailable: null`"),
        (&["podDisruptionBudget.maxUnavailable=null"], "podDisruptionBudget", "`enabled: false`"),
        (
            &["podDisruptionBudget.maxUnavailable=null", "podDisruptionBudget.minAvailable=2"],
            "podDisruptionBudget.minAvailable",
            "less than `replicas`",
        ),
        // Rounded up, that is both.
        (
            &["podDisruptionBudget.maxUnavailable=null", "podDisruptionBudget.minAvailable=51%"],
            "podDisruptionBudget.minAvailable",
            "less than `replicas`",
        ),
        (
            &["podDisruptionBudget.maxUnavailable=0%"],
            "podDisruptionBudget.maxUnavailable",
            "write 1",
        ),
        (&["crds.enabled=false", "crds.keep=false"], "crds.keep", "`crds.enabled: true`"),
        (
            &["metrics.enabled=false", "metrics.podMonitor.enabled=true"],
            "metrics.enabled",
            "`metrics.enabled: true`",
        ),
        (
            &["metrics.serviceMonitor.enabled=true", "metrics.podMonitor.enabled=true"],
            "metrics",
            "turn one of them off",
        ),
        (
            &["metrics.serviceMonitor.enabled=true", "metrics.service.enabled=false"],
            "metrics.serviceMonitor",
            "`metrics.podMonitor`",
        ),
        (
            &["contactSecrets.allNamespaces=true", "contactSecrets.namespaces[0].namespace=a"],
            "contactSecrets",
            "leave one of them out",
        ),
        (
            &["watchNamespaces={b}", "contactSecrets.namespaces[0].namespace=a"],
            "contactSecrets.namespaces",
            "add it to `watchNamespaces`",
        ),
        (
            &["extraEnv[0].name=MCO_LOG", "extraEnv[0].value=debug"],
            "extraEnv",
            "write that value instead",
        ),
        (&["extraArgs={--log=debug}"], "extraArgs", "write that value instead"),
    ];
    for name in HELMS {
        let helm = Helm::offline(name);
        for (values, about, advice) in cases {
            let chart = chart().to_str().unwrap();
            let mut arguments = template(chart, "message-contacts");
            arguments.extend(values.iter().flat_map(|value| ["--set", value]));
            let said = helm.refuses(&arguments);
            assert!(said.contains(&format!("{about}: ")), "{values:?}: {said}");
            assert!(said.contains(advice), "{values:?}: {said}");
        }
    }
    println!("{} combinations refused with advice", cases.len());
}

#[test]
fn what_only_the_prometheus_operator_knows_can_be_left_out_where_it_is_not() {
    let helm = Helm::offline("helm4");
    let on = ["metrics.podMonitor.enabled=true", "metrics.prometheusRule.enabled=true"];
    let asked: Vec<_> = on.iter().flat_map(|it| ["--set", it]).collect();
    let skip = ["--set", "metrics.renderMode=SkipIfMissing"];
    let there = ["--api-versions", MONITORING];
    let count = |values: &[&str]| {
        let all = objects(&helm.renders("message-contacts", values));
        all.iter().filter(|it| it["apiVersion"] == MONITORING).count()
    };
    assert_eq!(count(&asked), 2);
    assert_eq!(count(&[&asked[..], &skip].concat()), 0);
    assert_eq!(count(&[&asked[..], &skip, &there].concat()), 2);
}

/// Where the repository is shown, as people write it, with and without a slash at the end.
const SHOWN_AT: &str = "https://git.example.com/platform/message-contact-operator/blob/v0.1.0";

#[test]
fn an_alert_links_to_its_runbook_where_it_is_known_where_that_is_shown() {
    let on = "metrics.prometheusRule.enabled=true";
    let annotations = |helm: &Helm, base: &str| -> Vec<Value> {
        let base = format!("metrics.prometheusRule.runbookUrlBase={base}");
        let all = objects(&helm.renders("message-contacts", &["--set", on, "--set", &base]));
        let rule = all.iter().find(|it| kind(it) == "PrometheusRule").unwrap();
        let alerts = rule["spec"]["groups"][0]["rules"].as_array().unwrap();
        alerts.iter().map(|alert| alert["annotations"].clone()).collect()
    };
    let page = fs::read_to_string(root().join("docs/alerts.md")).unwrap().to_lowercase();
    for helm in HELMS.map(Helm::offline) {
        let linked = annotations(&helm, SHOWN_AT);
        assert!(linked.len() >= 8, "{}", linked.len());
        for of_one in &linked {
            let link = of_one["runbook_url"].as_str().unwrap();
            let place = link.strip_prefix(SHOWN_AT).unwrap();
            let anchor = place.strip_prefix("/docs/alerts.md#").unwrap();
            assert!(page.contains(&format!("\n## {anchor}\n")), "{link}");
            assert!(of_one.get("runbook").is_none(), "{of_one}");
        }
        assert_eq!(annotations(&helm, &format!("{SHOWN_AT}/")), linked);
        for of_one in annotations(&helm, "") {
            assert!(of_one.get("runbook_url").is_none(), "nobody can click on a path: {of_one}");
            assert!(of_one["runbook"].as_str().unwrap().starts_with("docs/alerts.md#"));
        }
        // What is no address, and what would end the text of the annotation.
        for wrong in ["docs", "git.example.com/platform", "https://git.example.com/a b", "https://"]
        {
            let base = format!("metrics.prometheusRule.runbookUrlBase={wrong}");
            let chart = chart().to_str().unwrap();
            let values = ["--set", on, "--set", &base];
            let said = helm.refuses(&[&template(chart, "message-contacts")[..], &values].concat());
            assert!(said.contains("runbookUrlBase"), "{wrong}: {said}");
        }
    }
}

/// Whoever gives the repository an address is told that the alerts can link to it.
#[test]
fn runbooks_are_looked_for_in_the_repository_that_the_program_names() {
    let values: Value =
        serde_saphyr::from_str(&fs::read_to_string(chart().join("values.yaml")).unwrap()).unwrap();
    let base = values["metrics"]["prometheusRule"]["runbookUrlBase"].as_str().unwrap();
    let repository = env!("CARGO_PKG_REPOSITORY");
    assert_eq!(base.is_empty(), repository.is_empty(), "{base}: {repository}");
    assert!(base.starts_with(repository), "{base}: {repository}");
}
