//! Installed, upgraded and uninstalled by real helm, on a real apiserver. There is no node, so that
//! no pod ever starts: what a pod would run is run beside it.

use std::fs;
use std::path::PathBuf;

use cluster::{Cluster, Options};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::rbac::v1::ClusterRole;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use kube::core::ApiResource;
use message_contact_operator::api::{self, MessageContact, ResourceDirectory};
use serde_json::{Value, json};

use super::{HELMS, Helm, RELEASE, copy_of_chart, objects};
use crate::process::{Operator, run};
use crate::stand::{self, OPERATOR_NAMESPACE, Own, PATIENCE, Stand};

/// A cluster in which nothing is installed yet.
pub(super) async fn empty_cluster() -> Own {
    Own::new(Cluster::start(Options::default()).await.unwrap())
}

/// A kubeconfig with the rights of a service account of the release.
pub(super) fn kubeconfig_of(cluster: &Cluster, account: &str) -> PathBuf {
    let user = format!("system:serviceaccount:{OPERATOR_NAMESPACE}:{account}");
    let own = format!("system:serviceaccounts:{OPERATOR_NAMESPACE}");
    let groups = ["system:serviceaccounts", &own, "system:authenticated"];
    cluster.kubeconfig_as(&user, &groups).unwrap()
}

/// Installs the chart, or upgrades what is installed, and returns what helm says to the person.
pub(super) fn install(helm: &Helm, chart: &str, values: &[&str]) -> String {
    let install = ["upgrade", "--install", RELEASE, chart, "--create-namespace"];
    let place = ["--namespace", OPERATOR_NAMESPACE];
    tokio::task::block_in_place(|| helm.prints(&[&install[..], &place, values].concat()))
}

fn uninstall(helm: &Helm) {
    let uninstall = ["uninstall", RELEASE, "--namespace", OPERATOR_NAMESPACE, "--timeout", "2m"];
    tokio::task::block_in_place(|| helm.prints(&uninstall));
}

/// The manifests in what helm says to the person.
fn manifests_in(notes: &str) -> Vec<Value> {
    let blocks = notes.split("<<'EOF'\n").skip(1);
    let texts = blocks.map(|block| {
        let lines = block.lines().take_while(|line| line.trim() != "EOF");
        // Five blanks belong to the note.
        lines.map(|line| line.strip_prefix("     ").unwrap_or(line)).collect::<Vec<_>>().join("\n")
    });
    texts.flat_map(|text| objects(&text)).collect()
}

async fn definition(cluster: &Cluster, name: &str) -> Option<CustomResourceDefinition> {
    Api::all(cluster.client()).get_opt(name).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_helm_installs_it_upgrades_and_what_people_wrote_it_keeps() {
    let own = empty_cluster().await;
    let cluster = own.cluster();
    for name in HELMS {
        let helm = tokio::task::block_in_place(|| Helm::of(name, cluster.kubeconfig_path()));
        let chart = copy_of_chart();
        let notes = install(&helm, chart.to_str().unwrap(), &[]);
        let deployments = Api::<Deployment>::namespaced(cluster.client(), OPERATOR_NAMESPACE);
        assert!(deployments.get_opt(RELEASE).await.unwrap().is_some());

        // The person does what the note says.
        let manifests = manifests_in(&notes);
        assert_eq!(manifests.len(), 2, "{notes}");
        for manifest in &manifests {
            let (kind, namespace) = match super::kind(manifest) {
                "ResourceDirectory" => (ApiResource::erase::<ResourceDirectory>(&()), None),
                _ => (
                    ApiResource::erase::<MessageContact>(&()),
                    manifest["metadata"]["namespace"].as_str(),
                ),
            };
            let all: Api<DynamicObject> = match namespace {
                Some(namespace) => Api::namespaced_with(cluster.client(), namespace, &kind),
                None => Api::all_with(cluster.client(), &kind),
            };
            // A definition that is new is served a little later.
            cluster::wait_for(PATIENCE, "the note can be followed", || async {
                stand::apply(&all, manifest).await.map_err(|error| error.to_string())
            })
            .await
            .unwrap();
        }

        // The next version of the chart says something else of a field.
        let file = chart.join("files/crds/messagecontacts.yaml");
        let text = fs::read_to_string(&file).unwrap();
        let (now, next) = ("The mailbox, in clear text.", "The mailbox of the next version.");
        assert!(text.contains(now));
        fs::write(&file, text.replace(now, next)).unwrap();
        install(&helm, chart.to_str().unwrap(), &["--set", "log.filter=debug"]);
        let contacts = "messagecontacts.message-contacts.dev";
        let upgraded = definition(cluster, contacts).await.unwrap();
        assert!(serde_json::to_string(&upgraded).unwrap().contains(next));
        let deployment = deployments.get(RELEASE).await.unwrap();
        assert!(serde_json::to_string(&deployment).unwrap().contains("debug"));

        uninstall(&helm);
        assert!(deployments.get_opt(RELEASE).await.unwrap().is_none());
        let roles = Api::<ClusterRole>::all(cluster.client());
        let roles = roles.list(&kube::api::ListParams::default()).await.unwrap();
        let of_ours = |role: &ClusterRole| {
            role.metadata.name.as_deref().is_some_and(|name| name.contains(RELEASE))
        };
        assert!(!roles.items.iter().any(of_ours));
        for crd in api::crds() {
            let left = definition(cluster, crd.metadata.name.as_deref().unwrap()).await.unwrap();
            assert!(left.metadata.deletion_timestamp.is_none(), "{name}");
        }
        let contacts: Api<MessageContact> = Api::namespaced(cluster.client(), OPERATOR_NAMESPACE);
        let left = contacts.get("security-desk").await.unwrap();
        assert!(left.metadata.deletion_timestamp.is_none(), "{name}");
        let directories: Api<ResourceDirectory> = Api::all(cluster.client());
        assert!(directories.get("default").await.unwrap().metadata.deletion_timestamp.is_none());
        fs::remove_dir_all(chart).unwrap();
    }
}

/// Does what a node would do with the Job: runs its program as its account, and says how it ended.
async fn run_job(cluster: &Cluster) -> String {
    let jobs: Api<Job> = Api::namespaced(cluster.client(), OPERATOR_NAMESPACE);
    let name = format!("{RELEASE}-delete-definitions");
    let job = cluster::wait_for(PATIENCE, "helm makes the Job", || async {
        jobs.get(&name).await.map_err(|error| error.to_string())
    })
    .await
    .unwrap();
    let pod = job.spec.unwrap().template.spec.unwrap();
    let account = pod.service_account_name.unwrap();
    let arguments = pod.containers[0].args.clone().unwrap();
    let kubeconfig = kubeconfig_of(cluster, &account);
    let output = tokio::task::block_in_place(|| {
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        run(&arguments, &[("KUBECONFIG", kubeconfig.to_str().unwrap())])
    });
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let condition = |name: &str| {
        json!({ "type": name, "status": "True", "lastTransitionTime": now,
            "lastProbeTime": now, "reason": "CompletionsReached" })
    };
    let status = json!({ "status": { "startTime": now, "completionTime": now, "succeeded": 1,
        "conditions": [condition("SuccessCriteriaMet"), condition("Complete")] } });
    jobs.patch_status(&name, &PatchParams::default(), &Patch::Merge(&status)).await.unwrap();
    said
}

async fn without_keep(operator_runs: bool) {
    let own = empty_cluster().await;
    let cluster = own.cluster();
    let helm = tokio::task::block_in_place(|| Helm::of("helm4", cluster.kubeconfig_path()));
    let chart = copy_of_chart();
    let values = ["--set", "crds.keep=false"];
    install(&helm, chart.to_str().unwrap(), &values);
    let stand = Stand::on(cluster, directory_simulator::Options::default()).await;
    let kubeconfig = kubeconfig_of(cluster, RELEASE);
    let operator = Operator::start(&kubeconfig, &[&stand]);
    stand.apply_directory(json!({})).await;
    stand.directory_becomes("Ready", "Connected").await;
    stand.settled("keeper", "Bleibt", json!({})).await;
    stand.settled("another", "Auch", json!({})).await;
    let contact = json!({ "phoneNumber": "Optional" });
    stand.apply_policy("calm", json!({ "enforcement": "Audit", "contact": contact })).await;
    let operator = if operator_runs {
        Some(operator)
    } else {
        operator.kill();
        None
    };
    let (said, ()) = tokio::join!(run_job(cluster), async {
        let uninstalled = tokio::task::spawn_blocking(move || {
            let release = ["uninstall", RELEASE, "--namespace", OPERATOR_NAMESPACE];
            helm.prints(&[&release[..], &["--timeout", "2m"]].concat());
        });
        uninstalled.await.unwrap();
    });
    println!("operator runs: {operator_runs}; {said}");
    for crd in api::crds() {
        let name = crd.metadata.name.unwrap();
        assert!(definition(cluster, &name).await.is_none(), "{name}");
    }
    let roles = Api::<ClusterRole>::all(cluster.client());
    let hook = format!("{OPERATOR_NAMESPACE}-{RELEASE}-delete-definitions");
    assert!(roles.get_opt(&hook).await.unwrap().is_none());
    for name in ["Bleibt", "Auch"] {
        assert!(stand.simulator.state().named(name).is_some(), "{name}");
    }
    assert_eq!(stand.simulator.counts().of("DeleteMessageContact"), 0);
    drop(operator);
    fs::remove_dir_all(chart).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_stays_and_nothing_is_deleted_in_the_cloud_while_the_operator_runs() {
    without_keep(true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_stays_and_nothing_is_deleted_in_the_cloud_without_an_operator() {
    without_keep(false).await;
}
