//! The operator with the rights that the README lists, and with one too few.

use directory_simulator::Options;
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams};
use message_contact_operator::api::CustomResourceDefinition;
use message_contact_operator::clock::Clock;
use serde_json::{Value, json};

use crate::process::{Operator, alone};
use crate::secrets::grant;
use crate::stand::{self, Own, Stand, message_of};

pub fn rule(group: &str, resource: &str, verbs: &[&str]) -> Value {
    json!({ "apiGroups": [group], "resources": [resource], "verbs": verbs })
}

/// What is needed beside the two rights that the story is about.
pub fn others() -> Vec<Value> {
    vec![
        rule("message-contacts.dev", "messagecontacts", &["list", "watch", "get", "patch"]),
        rule("message-contacts.dev", "resourcedirectories", &["get", "list", "watch"]),
        rule("message-contacts.dev", "contactpolicies", &["list", "watch"]),
        rule("message-contacts.dev", "contactpolicies/status", &["patch"]),
        rule("message-contacts.dev", "messagecontacts/status", &["patch"]),
        rule("message-contacts.dev", "resourcedirectories/status", &["patch"]),
        rule("", "namespaces", &["list", "watch"]),
        rule("events.k8s.io", "events", &["create"]),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_right_that_is_missing_is_told_and_nothing_goes_wrong_without_it() {
    let alone = alone().await;
    let stand = Stand::on(alone.cluster, Options::default()).await;
    let user = "operator-with-few-rights";
    grant(&stand, user, user, json!(others())).await;
    let client = alone.cluster.client_as(user, &[]);
    let operator = tokio::spawn(stand::run_operator(client, Clock::system()));
    stand.apply_directory(json!({})).await;
    // Without `patch` it works, and is held by nothing.
    let directory = stand.directory_becomes("Ready", "Connected").await;
    let message = message_of(&directory, "Ready");
    assert!(message.contains("`patch` on resourcedirectories"), "{message}");
    assert!(directory.finalizers().is_empty());
    let id = stand.settled("held", "Mozi", json!({ "verification": null })).await;
    stand.cloud("a mail", |it| (it.outbox().len() == 1).then_some(())).await;

    // Without a look at the definition nothing is deleted in the cloud.
    stand.delete("held").await;
    let object = stand.becomes("held", "Synced", "DeletionFailed").await;
    let message = message_of(&object, "Synced");
    for word in ["`get`", "messagecontacts.message-contacts.dev", "deletionPolicy: Retain"] {
        assert!(message.contains(word), "{word} in {message}");
    }
    assert_eq!(stand.in_cloud(&id).name, "Mozi");

    let definitions = |names: &[&str]| {
        json!({ "apiGroups": ["apiextensions.k8s.io"], "resources": ["customresourcedefinitions"],
            "resourceNames": names, "verbs": ["get"] })
    };
    let names = ["messagecontacts", "resourcedirectories"]
        .map(|plural| format!("{plural}.message-contacts.dev"));
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let rules = json!([
        definitions(&names),
        rule("message-contacts.dev", "resourcedirectories", &["patch"]),
    ]);
    grant(&stand, user, "operator-with-all-rights", rules).await;
    stand::request(&stand.contacts(), "held", "granted").await;
    stand.is_gone("held").await;
    assert!(stand.simulator.state().contact(&id).is_none());
    let directory = stand.ask_directory().await;
    assert_eq!(directory.finalizers(), ["message-contacts.dev/directory"]);
    assert_eq!(message_of(&directory, "Ready"), "the directory answers");
    stand.delete_directory().await;
    stand.directory_is_gone().await;
    operator.abort();
    let _ = operator.await;
}

/// What `/readyz` says while a kind is not there, or must not be listed: no controller has begun.
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_listed_is_named_until_it_can() {
    let own = Own::new(stand::another_cluster().await);
    let cluster = own.cluster();
    let stand = Stand::on(cluster, Options::default()).await;
    let definitions: Api<CustomResourceDefinition> = Api::all(cluster.client());
    let policies = "contactpolicies.message-contacts.dev";
    definitions.delete(policies, &DeleteParams::default()).await.unwrap();
    let user = "operator-before-policies";
    let most = others().into_iter().filter(|rule| rule["resources"] != json!(["namespaces"]));
    let more = rule("", "secrets", &["get", "create"]);
    grant(&stand, user, user, most.chain([more]).collect()).await;
    let kubeconfig = cluster.kubeconfig_as(user, &[]).unwrap();
    let operator = Operator::start(&kubeconfig, &[&stand]);
    let says = async |expected: &str| {
        cluster::wait_for(stand::PATIENCE, expected, || async {
            match operator.health("/readyz").await {
                Some((503, said)) if said.contains(expected) => Ok(said),
                other => Err(format!("{other:?}: {}", operator.log())),
            }
        })
        .await
        .unwrap()
    };
    says("\nNamespace: not allowed: grant `list` and `watch` on it\n").await;
    let missing =
        "ContactPolicy: not installed: apply the output of `message-contact-operator crds`";
    let said = says(missing).await;
    assert!(!said.contains("MessageContact:"), "{said}");
    grant(&stand, user, "and-namespaces", json!([rule("", "namespaces", &["list", "watch"])]))
        .await;
    cluster.apply_crds(&message_contact_operator::api::crds()).await.unwrap();
    operator.is_ready().await;
    operator.kill();
}
