//! A real `helm install --wait` waits for our objects as long as it should, and tells why it failed.

use std::fs;
use std::process::{Command, Output, Stdio};

use kube::api::DynamicObject;
use serde_json::{Value, json};

use crate::process::scratch;
use crate::stand::{self, Own, Stand};
use crate::walk::defaults;

/// Installs or upgrades a chart that has this object alone, and waits for so long.
async fn installed(stand: &Stand, release: &str, manifest: &Value, timeout: &str) -> Output {
    let chart = scratch("helm-wait");
    fs::create_dir_all(chart.join("templates")).unwrap();
    let head = json!({ "apiVersion": "v2", "name": release, "version": "1.0.0" });
    fs::write(chart.join("Chart.yaml"), head.to_string()).unwrap();
    fs::write(chart.join("templates/object.yaml"), manifest.to_string()).unwrap();
    let (release, timeout) = (release.to_owned(), timeout.to_owned());
    let (kubeconfig, namespace) =
        (stand.cluster.kubeconfig_path().to_owned(), stand.namespace.clone());
    tokio::task::spawn_blocking(move || {
        let mut command = Command::new(cluster::tool("helm4").unwrap());
        let output = command
            .args(["upgrade", "--install", "--wait", "--timeout", &timeout, &release])
            .arg(&chart)
            .args(["--namespace", &namespace])
            .env("KUBECONFIG", kubeconfig)
            .env("HELM_CACHE_HOME", chart.join("cache"))
            .env("HELM_CONFIG_HOME", chart.join("config"))
            .env("HELM_DATA_HOME", chart.join("data"))
            .stdin(Stdio::null())
            .output()
            .unwrap();
        fs::remove_dir_all(&chart).unwrap();
        output
    })
    .await
    .unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// Long enough for what ends by itself.
const PATIENT: &str = "5m";
/// As long as it is waited for what does not.
const SHORT: &str = "8s";

#[tokio::test(flavor = "multi_thread")]
async fn helm_goes_on_when_an_object_is_ready_and_not_before() {
    let stand = Stand::new().await;
    let ready =
        installed(&stand, "desk", &stand.manifest("desk", "Bianque", json!({})), PATIENT).await;
    assert!(ready.status.success(), "{}", said(&ready));
    let object = stand.object("desk").await;
    assert_eq!(stand::condition_of(&object, "Ready")["status"], "True", "it has waited");
    is_managed_by_helm(&object);

    let suspended = json!({ "suspend": true });
    let suspended = stand.manifest("desk", "Bianque", suspended);
    let suspended = installed(&stand, "desk", &suspended, PATIENT).await;
    assert!(suspended.status.success(), "{}", said(&suspended));

    let person = stand.manifest("person", "Huatuo", defaults(json!({})));
    let person = installed(&stand, "person", &person, SHORT).await;
    assert!(!person.status.success() && said(&person).contains("InProgress"), "{}", said(&person));
    stand.becomes("person", "EmailVerified", "VerificationSent").await;
}

fn is_managed_by_helm(object: &DynamicObject) {
    let managers = object.metadata.managed_fields.iter().flatten();
    let managers: Vec<_> = managers.filter_map(|it| it.manager.as_deref()).collect();
    assert!(managers.contains(&"helm"), "{managers:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn helm_fails_at_once_with_our_message_where_waiting_does_not_help() {
    let stand = Stand::new().await;
    stand.stranger("Zhongjing");
    stand.ask_directory().await;
    let manifest = stand.manifest("taken", "Zhongjing", json!({ "adoptionPolicy": "Never" }));
    // It would wait for minutes: that it ends is the test.
    let failed = installed(&stand, "taken", &manifest, "30m").await;
    let stalled = stand.becomes("taken", "Synced", "NameTaken").await;
    let message = stand::message_of(&stalled, "Stalled");
    assert!(!failed.status.success(), "{}", said(&failed));
    assert!(said(&failed).contains(&message), "{message:?} is not in {}", said(&failed));
}

#[tokio::test(flavor = "multi_thread")]
async fn helm_waits_as_long_as_no_operator_has_looked() {
    let own = Own::new(stand::another_cluster().await);
    let cluster = own.cluster();
    let stand = Stand::on(cluster, directory_simulator::Options::default()).await;
    let alone =
        installed(&stand, "alone", &stand.manifest("alone", "Qianyi", json!({})), SHORT).await;
    assert!(!alone.status.success(), "{}", said(&alone));
    assert!(said(&alone).contains("observed generation is -1"), "{}", said(&alone));
}
