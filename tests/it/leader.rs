//! Who may act: what a standby does and does not, and what a leader does that cannot renew its lease.

use std::time::Duration;

use directory_simulator::Options;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, DeleteParams, PostParams};
use serde_json::json;

use crate::gate::Gate;
use crate::hand_over::{Callers, Replica};
use crate::process::alone;
use crate::rights::{others, rule};
use crate::secrets::grant;
use crate::stand::{OPERATOR_NAMESPACE, PATIENCE, Stand};
use crate::watch_namespace::grant_in;

/// As somebody has them who holds the lease by hand.
const SHORT: [&str; 4] = ["--lease-duration", "3s", "--renew-deadline", "2s"];

fn leases(stand: &Stand, namespace: &str) -> Api<Lease> {
    Api::namespaced(stand.client.clone(), namespace)
}

/// Takes the lease by hand, whoever has it, with times that no clock can be right about.
async fn hold(stand: &Stand, holder: &str, renewed_at: &str) {
    let leases = leases(stand, OPERATOR_NAMESPACE);
    let known = leases.get_opt("message-contact-operator").await.unwrap();
    let version = known.as_ref().and_then(|lease| lease.metadata.resource_version.clone());
    let lease = json!({ "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": { "name": "message-contact-operator", "resourceVersion": version },
        "spec": { "holderIdentity": holder, "leaseDurationSeconds": 3, "renewTime": renewed_at,
            "leaseTransitions": 7 } });
    let lease: Lease = serde_json::from_value(lease).unwrap();
    let parameters = PostParams::default();
    match known {
        Some(_) => {
            drop(leases.replace("message-contact-operator", &parameters, &lease).await.unwrap());
        }
        None => drop(leases.create(&parameters, &lease).await.unwrap()),
    }
}

/// Keeps the lease by hand, by a clock that is years late.
async fn hold_for_ever(stand: &Stand) {
    let mut at: Timestamp = "2001-01-01T00:00:00Z".parse().unwrap();
    loop {
        at += Duration::from_secs(1);
        hold(stand, "somebody", &format!("{at:.6}")).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_is_ready_and_writes_nothing_and_takes_over_at_once_and_makes_the_key() {
    let alone = alone().await;
    let stand = Stand::on(alone.cluster, Options::default()).await;
    let secrets: Api<Secret> = Api::namespaced(stand.client.clone(), OPERATOR_NAMESPACE);
    let key = "message-contact-operator-hash-key";
    if secrets.get_opt(key).await.unwrap().is_some() {
        secrets.delete(key, &DeleteParams::default()).await.unwrap();
    }
    hold(&stand, "somebody", "2001-01-01T00:00:00.000000Z").await;
    let gate = Gate::start(&stand).await;
    gate.arm(None);
    let held = async {
        let replica = Replica::start(&stand, &gate.kubeconfig(), OPERATOR_NAMESPACE);
        replica.operator.says("another process leads").await;
        replica.operator.is_ready().await;
        stand.apply_directory(json!({})).await;
        stand.apply("early", "Zisi", json!({})).await;
        // By the wall clock the lease has ended long ago, and by ours twice if it were not renewed.
        for _ in 0..8 {
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert!(!replica.leads(), "{}", replica.operator.log());
        }
        assert_eq!(gate.writes(), Vec::<String>::new());
        assert_eq!(stand.simulator.counts().calls, 0);
        assert!(secrets.get_opt(key).await.unwrap().is_none());
        replica
    };
    let replica = tokio::select! {
        replica = held => replica,
        () = hold_for_ever(&stand) => unreachable!(),
    };
    hold(&stand, "", "2001-01-01T00:00:00.000000Z").await;
    stand.becomes("early", "Ready", "InSync").await;
    assert!(secrets.get_opt(key).await.unwrap().is_some());
    let lease = leases(&stand, OPERATOR_NAMESPACE).get("message-contact-operator").await.unwrap();
    let spec = lease.spec.unwrap();
    assert_eq!((spec.lease_transitions, spec.lease_duration_seconds), (Some(8), Some(3)));
    replica.ends_in_order().await;
    let lease = leases(&stand, OPERATOR_NAMESPACE).get("message-contact-operator").await.unwrap();
    let spec = lease.spec.unwrap();
    assert_eq!((spec.holder_identity.as_deref(), spec.lease_duration_seconds), (Some(""), Some(1)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_holder_that_renews_no_more_is_followed_whatever_its_clock_has_said() {
    let alone = alone().await;
    let stand = Stand::on(alone.cluster, Options::default()).await;
    hold(&stand, "somebody", "2199-01-01T00:00:00.000000Z").await;
    let replica = Replica::start(&stand, alone.cluster.kubeconfig_path(), OPERATOR_NAMESPACE);
    replica.operator.says("another process leads").await;
    replica.operator.says("this process leads").await;
    replica.ends_in_order().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_does_not_reach_the_apiserver_ends_and_calls_nobody_after_its_lease() {
    let alone = alone().await;
    let stand = Stand::on(alone.cluster, Options::default()).await;
    let gate = Gate::start(&stand).await;
    let first = Replica::start(&stand, &gate.kubeconfig(), OPERATOR_NAMESPACE);
    first.operator.says("this process leads").await;
    stand.apply_directory(json!({})).await;
    stand.settled("cut-off", "Zengzi", json!({})).await;
    let kubeconfig = alone.cluster.kubeconfig_path();
    let second = Replica::start(&stand, kubeconfig, OPERATOR_NAMESPACE);
    second.operator.says("another process leads").await;
    gate.cut();
    stand.apply("cut-off", "Zengzi", json!({ "title": "CEO" })).await;
    first.ends_as_loser().await;
    let changed = |it: &directory_simulator::Simulator| {
        (it.state().named("Zengzi")?.title == "CEO").then_some(())
    };
    stand.cloud("the other one goes on", changed).await;
    assert!(second.leads());
    let mut callers = Callers::default();
    callers.look(&stand);
    assert_eq!(callers.in_turn().len(), 2);
    second.ends_in_order().await;
}

/// What the chart has to grant, and no more: without the second Lease it does not act, and says so.
#[tokio::test(flavor = "multi_thread")]
async fn two_leases_by_their_names_are_all_that_it_needs_to_lead() {
    let alone = alone().await;
    let stand = Stand::on(alone.cluster, Options::default()).await;
    let user = "operator-that-leads";
    let mut rules = others();
    rules.push(rule("", "secrets", &["get", "create"]));
    grant(&stand, user, user, json!(rules)).await;
    let lease = |name: &str| {
        json!([
            { "apiGroups": ["coordination.k8s.io"], "resources": ["leases"],
                "resourceNames": [name], "verbs": ["get", "update", "watch"] },
            rule("coordination.k8s.io", "leases", &["create"]),
        ])
    };
    let own = lease("message-contact-operator");
    grant_in(&stand.client, OPERATOR_NAMESPACE, user, &own).await;
    hold(&stand, "somebody", "2001-01-01T00:00:00.000000Z").await;
    let kubeconfig = alone.cluster.kubeconfig_as(user, &[]).unwrap();
    let replica = Replica::start(&stand, &kubeconfig, OPERATOR_NAMESPACE);
    replica.operator.says("another process leads").await;
    replica.operator.says("answered 403: grant its service account `get` on leases").await;
    let log = replica.operator.log();
    let of_the_cluster = "the Lease `message-contacts.dev` in the namespace `kube-system`";
    assert!(log.contains(of_the_cluster) && !log.contains("`watch`"), "{log}");
    assert!(!replica.leads());
    grant_in(&stand.client, "kube-system", user, &lease("message-contacts.dev")).await;
    stand.apply_directory(json!({})).await;
    stand.settled("granted", "Zizhang", json!({})).await;
    replica.ends_in_order().await;
}

/// Who takes the lease by force is believed: the leader ends, and nothing goes on beside it.
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_finds_another_one_in_the_lease_ends() {
    let alone = alone().await;
    let stand = Stand::on(alone.cluster, Options::default()).await;
    let kubeconfig = alone.cluster.kubeconfig_path();
    let replica = Replica::start(&stand, kubeconfig, OPERATOR_NAMESPACE);
    replica.operator.says("this process leads").await;
    hold(&stand, "somebody", "2001-01-01T00:00:00.000000Z").await;
    let mut operator = replica.operator;
    assert_eq!(operator.ends_within(PATIENCE).await.code(), Some(1));
    let log = operator.log();
    assert!(log.contains("`somebody` holds it now"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_installations_one_serves_and_the_other_says_why_it_does_not() {
    let alone = alone().await;
    let stand = Stand::on(alone.cluster, Options::default()).await;
    let elsewhere = alone.cluster.namespace("installation").await.unwrap();
    let kubeconfig = alone.cluster.kubeconfig_path();
    let first = Replica::start_with(&stand, kubeconfig, OPERATOR_NAMESPACE, &SHORT);
    first.operator.says("this process leads").await;
    stand.apply_directory(json!({})).await;
    stand.settled("served", "Yanhui", json!({})).await;
    let gate = Gate::start(&stand).await;
    gate.arm(None);
    let second = Replica::start_with(&stand, &gate.kubeconfig(), &elsewhere, &SHORT);
    second.operator.is_ready().await;
    let served = format!("another installation, in the namespace `{OPERATOR_NAMESPACE}`, serves");
    second.operator.says(&served).await;
    stand.apply("served", "Yanhui", json!({ "title": "CEO" })).await;
    stand.becomes("served", "Ready", "InSync").await;
    // It has the lease of its own namespace, and nothing else.
    let writes = gate.writes();
    assert!(writes.iter().all(|write| write.ends_with(" leases")), "{writes:?}");

    // A restart of the first one gives nothing away: that of the cluster is not released.
    first.ends_in_order().await;
    let again = Replica::start_with(&stand, kubeconfig, OPERATOR_NAMESPACE, &SHORT);
    again.operator.says("this process leads").await;
    stand.apply("served", "Yanhui", json!({ "title": "Other" })).await;
    stand.becomes("served", "Ready", "InSync").await;
    assert!(!second.leads());

    // Taken out for good, it is followed.
    again.ends_in_order().await;
    second.operator.says("this process leads").await;
    stand.apply("served", "Yanhui", json!({ "title": "ProjectDirector" })).await;
    let changed = |it: &directory_simulator::Simulator| {
        (it.state().named("Yanhui")?.title == "ProjectDirector").then_some(())
    };
    stand.cloud("the second one goes on", changed).await;
    let mut callers = Callers::default();
    callers.look(&stand);
    assert_eq!(callers.in_turn().len(), 3);
    second.ends_in_order().await;
}
