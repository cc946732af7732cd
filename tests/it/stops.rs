//! The operator starts, says whether it is ready, and ends in order.

use std::time::Duration;

use directory_simulator::{Fault, FaultKind, Options, Simulator};
use serde_json::{Value, json};

use crate::process::{Operator, alone, kubeconfig, run};
use crate::proxy::Proxy;
use crate::stand::{Stand, condition_of};

/// The promise of the manual.
const STOP_WITHIN: Duration = Duration::from_secs(20);

async fn connected(stand: &Stand) {
    stand.apply_directory(json!({ "pollInterval": "5m" })).await;
    stand.directory_becomes("Ready", "Connected").await;
}

fn one_hangs(simulator: &Simulator) -> Option<()> {
    (simulator.calls_in_flight() == 1 && simulator.faults().is_empty()).then_some(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_in_flight_is_awaited_and_recorded_and_no_other_begins() {
    let alone = alone().await;
    let stand = Stand::on(alone.cluster, Options::default()).await;
    let mut operator = Operator::start(alone.cluster.kubeconfig_path(), &[&stand]);
    connected(&stand).await;
    stand.simulator.fault(Fault::on("AddMessageContact", FaultKind::Hang { executed: true }));
    stand.apply("flying", "Lei", json!({})).await;
    stand.cloud("an Add is in flight", one_hangs).await;
    stand.apply("waiting", "Leis", json!({})).await;
    stand.becomes("waiting", "Synced", "Creating").await;
    let calls = stand.simulator.counts().calls;

    operator.terminate();
    operator.says("stopping").await;
    stand.apply("unseen", "Leim", json!({})).await;
    stand.simulator.release_hanging();
    let status = operator.ends_within(STOP_WITHIN).await;
    assert_eq!(status.code(), Some(0), "{}", operator.log());

    let state = stand.simulator.state();
    assert_eq!(state.contacts.len(), 1);
    assert_eq!(stand.simulator.counts().calls, calls + 1, "{:?}", stand.simulator.counts());
    let object = stand.contacts().get("flying").await.unwrap();
    assert_eq!(object.data["status"]["contactId"], json!(state.contacts[0].id));
    assert_eq!(object.data["status"]["creation"], Value::Null, "{}", object.data["status"]);
    let unseen = stand.contacts().get("unseen").await.unwrap();
    assert_eq!(unseen.metadata.finalizers, None);

    // The next one has nothing to repair, and goes on.
    let next = Operator::start(alone.cluster.kubeconfig_path(), &[&stand]);
    stand.becomes("unseen", "Ready", "InSync").await;
    stand.becomes("flying", "Ready", "InSync").await;
    stand.becomes("waiting", "Synced", "OutcomeUnknown").await;
    assert_eq!(stand.simulator.counts().of("AddMessageContact"), 2);
    next.kill();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_is_never_answered_does_not_keep_it_from_ending() {
    let alone = alone().await;
    let stand = Stand::on(alone.cluster, Options::default()).await;
    let mut operator = Operator::start(alone.cluster.kubeconfig_path(), &[&stand]);
    connected(&stand).await;
    stand.simulator.fault(Fault::on("AddMessageContact", FaultKind::Hang { executed: true }));
    stand.apply("silent", "Peng", json!({})).await;
    stand.cloud("an Add is in flight", one_hangs).await;
    operator.terminate();
    let status = operator.ends_within(STOP_WITHIN).await;
    assert_eq!(status.code(), Some(0), "{}", operator.log());
    let object = stand.contacts().get("silent").await.unwrap();
    assert_eq!(object.data["status"]["creation"]["name"], "Peng", "{}", object.data["status"]);

    stand.simulator.release_hanging();
    let next = Operator::start(alone.cluster.kubeconfig_path(), &[&stand]);
    let object = stand.becomes("silent", "Ready", "InSync").await;
    assert_eq!(object.data["status"]["contactId"], json!(stand.simulator.state().contacts[0].id));
    assert_eq!(stand.simulator.counts().of("AddMessageContact"), 1);
    next.kill();
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_ready_once_everything_was_listed_and_alive_before() {
    let alone = alone().await;
    let stand = Stand::on(alone.cluster, Options::default()).await;
    let proxy = Proxy::start(alone.cluster).await;
    stand.apply_directory(json!({})).await;
    stand.apply("early", "Yun", json!({})).await;
    proxy.hold_read("/messagecontacts");
    let mut operator = Operator::start(&proxy.kubeconfig(), &[&stand]);
    proxy.reached().await;
    assert_eq!(operator.health("/livez").await, Some((200, "ok\n".to_owned())));
    let (status, said) = operator.health("/readyz").await.unwrap();
    assert_eq!(status, 503);
    assert!(said.contains("\nMessageContact: being listed\n"), "{said}");
    assert_eq!(operator.health("/metrics-of-another").await.map(|(status, _)| status), Some(404));
    assert_eq!(stand.simulator.counts().calls, 0, "no call before everything was listed");
    proxy.open();
    operator.is_ready().await;
    stand.becomes("early", "Ready", "InSync").await;
    operator.terminate();
    assert_eq!(operator.ends_within(STOP_WITHIN).await.code(), Some(0), "{}", operator.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_before_everything_was_listed_ends_it_too() {
    let alone = alone().await;
    let proxy = Proxy::start(alone.cluster).await;
    proxy.hold_read("/resourcedirectories");
    let mut operator = Operator::start(&proxy.kubeconfig(), &[]);
    proxy.reached().await;
    operator.terminate();
    assert_eq!(operator.ends_within(STOP_WITHIN).await.code(), Some(0), "{}", operator.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_while_the_apiserver_does_not_answer_ends_it_at_once() {
    // Connections are taken, and nothing is ever answered.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let server = format!("http://{}", silent.local_addr().unwrap());
    let mut operator = Operator::start(&kubeconfig(&server), &[]);
    operator.says("health is served").await;
    assert_eq!(operator.health("/readyz").await.map(|(status, _)| status), Some(503));
    operator.terminate();
    let status = operator.ends_within(Duration::from_secs(5)).await;
    assert_eq!(status.code(), Some(0), "{}", operator.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn every_line_of_a_json_log_is_an_object_without_anything_private() {
    let alone = alone().await;
    let stand = Stand::on(alone.cluster, Options::default()).await;
    let arguments = ["--log-format", "json", "--log", "debug,hyper=info,kube=info"];
    let kubeconfig = alone.cluster.kubeconfig_path();
    let mut operator = Operator::start_with(kubeconfig, &[&stand], &arguments);
    connected(&stand).await;
    stand.simulator.fault(Fault::on("AddMessageContact", FaultKind::error(400, "Throttling")));
    stand.simulator.fault(Fault::on("UpdateMessageContact", FaultKind::html_502(true)));
    let phone = "86-13800138041";
    stand.apply("logged", "Qwzx", json!({ "phoneNumber": phone })).await;
    stand.becomes("logged", "Ready", "InSync").await;
    let fields = json!({ "phoneNumber": phone, "emailAddress": "vbnm@example.com" });
    stand.apply("logged", "Qwzxk", fields).await;
    stand
        .cloud("an Update is sent", |it| (it.counts().of("UpdateMessageContact") > 0).then_some(()))
        .await;
    let object = stand.becomes("logged", "Synced", "InSync").await;
    assert_eq!(condition_of(&object, "Synced")["status"], "True");
    operator.terminate();
    assert_eq!(operator.ends_within(STOP_WITHIN).await.code(), Some(0));

    let log = operator.log();
    for line in log.lines() {
        let entry: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}"));
        for field in ["timestamp", "level", "target", "message"] {
            assert!(entry[field].is_string(), "no {field}: {line}");
        }
    }
    assert!(log.contains("call failed") && log.contains("the operator has ended"), "{log}");
    for private in ["Qwzx", "13800138041", "vbnm", "logged@example", "FakeAccessKey"] {
        assert!(!log.contains(private), "{private} in {log}");
    }
}

#[test]
fn a_start_that_cannot_work_says_why() {
    let check = |arguments: &[&str], variables: &[(&str, &str)], code: i32, words: &[&str]| {
        let output = run(arguments, variables);
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {text}");
        for word in words {
            assert!(text.contains(word), "{arguments:?}: no `{word}` in {text}");
        }
        assert!(output.stdout.is_empty(), "{arguments:?}");
        assert!(!text.contains("panicked"), "{text}");
    };
    let health = ["run", "--health-addr", "127.0.0.1:0", "--metrics-addr", "127.0.0.1:0"];
    let nowhere = [("HOME", "/nonexistent")];
    check(&health, &nowhere, 1, &["no cluster", "KUBECONFIG"]);
    let missing = [("KUBECONFIG", "/nonexistent/config")];
    check(&health, &missing, 1, &["KUBECONFIG", "/nonexistent/config"]);
    check(&["run", "--no-such-flag"], &nowhere, 2, &["--no-such-flag"]);
    check(&["run", "--health-addr", "somewhere"], &nowhere, 2, &["--health-addr", "somewhere"]);
    check(&["run", "--log-format", "xml"], &nowhere, 2, &["--log-format", "text", "json"]);
    check(&["run", "--log", "a=b=c"], &nowhere, 1, &["--log", "MCO_LOG", "info"]);
    check(&["run"], &[("MCO_LOG_FORMAT", "xml")], 2, &["xml", "text", "json"]);
    let lease = ["run", "--lease-duration"];
    check(&[lease[0], lease[1], "15"], &nowhere, 2, &["--lease-duration", "15s or 1m30s"]);
    check(&[lease[0], lease[1], "1h"], &nowhere, 1, &["--lease-duration", "from 1s to 10m"]);
    check(&[lease[0], lease[1], "8s"], &nowhere, 1, &["--renew-deadline", "6.4s", "longer lease"]);
    check(&["run", "--renew-deadline", "0s"], &nowhere, 1, &["--renew-deadline", "at most 12s"]);
    check(&["run"], &[("MCO_LEADER_ELECTION", "maybe")], 2, &["true", "false"]);
    let watch = ["run", "--watch-namespace", "Team A"];
    check(&watch, &nowhere, 1, &["--watch-namespace", "lower-case"]);
    check(&["sprint"], &nowhere, 2, &["sprint"]);
    // A password in the value is not repeated.
    let origin = "https://user:Canary@directory.example.com/path?x";
    let refused = run(&["run", "--allow-endpoint", origin], &nowhere);
    assert!(!String::from_utf8_lossy(&refused.stderr).contains("Canary"));
    check(&["run", "--allow-endpoint", origin], &nowhere, 1, &["--allow-endpoint", "without user"]);
    check(&["run"], &[("MCO_ALLOW_ENDPOINT", origin)], 1, &["MCO_ALLOW_ENDPOINT"]);
    let none = [("MCO_ALLOW_ENDPOINT", ""), nowhere[0]];
    check(&health, &none, 1, &["no cluster"]);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let advice = ["another program listens there", "give a free address with"];
    check(&["run", "--health-addr", &address], &nowhere, 1, &["--health-addr", &address]);
    check(&["run", "--health-addr", &address], &nowhere, 1, &advice);
    let metrics = ["run", "--health-addr", "127.0.0.1:0", "--metrics-addr", &address];
    check(&metrics, &nowhere, 1, &["--metrics-addr", &address, "MCO_METRICS_ADDR"]);
    check(&metrics, &nowhere, 1, &advice);
    // An address of the documentation (RFC 5737), which no machine has.
    let foreign = ["run", "--health-addr", "127.0.0.1:0", "--metrics-addr", "192.0.2.1:8080"];
    check(&foreign, &nowhere, 1, &["this machine does not have that address"]);
}
