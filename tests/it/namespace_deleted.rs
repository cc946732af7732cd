//! A whole namespace is deleted, as the real kube-controller-manager does it.

use std::path::Path;

use cluster::Cluster;
use directory_simulator::{ContactChange, DeletionPlan, Options};
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::api::{Api, DeleteParams, DynamicObject, PostParams};
use kube::core::ApiResource;
use message_contact_operator::clock::Clock;
use serde_json::json;

use crate::stand::{self, Own, Stand};

/// Assets made by `setup-envtest` have no kube-controller-manager.
pub fn has_controller_manager() -> bool {
    let assets = std::env::var_os("KUBEBUILDER_ASSETS");
    assets.is_none_or(|assets| Path::new(&assets).join("kube-controller-manager").is_file())
}

pub async fn with_controller_manager() -> Own {
    let options = cluster::Options { controller_manager: true, ..cluster::Options::default() };
    Own::new(Cluster::start(options).await.unwrap())
}

pub async fn delete_namespace(stand: &Stand) {
    let namespaces: Api<Namespace> = Api::all(stand.client.clone());
    namespaces.delete(&stand.namespace, &DeleteParams::default()).await.unwrap();
    let kind = ApiResource::erase::<Namespace>(&());
    let namespaces: Api<DynamicObject> = Api::all_with(stand.client.clone(), &kind);
    stand::is_gone(&namespaces, &stand.namespace).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_goes_with_its_contacts_and_no_other_contact_does() {
    if !has_controller_manager() {
        println!("left out: deletion of a namespace; KUBEBUILDER_ASSETS has no manager");
        return;
    }
    let own = with_controller_manager().await;
    let cluster = own.cluster();
    stand::prepare(cluster).await;
    let operator = tokio::spawn(stand::run_operator(cluster.client(), Clock::system()));
    let stand = Stand::on(cluster, Options::default()).await;
    stand.apply_directory(json!({})).await;
    let outside = cluster.namespace("outside").await.unwrap();
    let mut manifest = stand.manifest("outside", "Andersort", json!({}));
    manifest["metadata"]["namespace"] = json!(outside);
    stand::apply(&stand.contacts_in(&outside), &manifest).await.unwrap();
    stand::becomes(&stand.contacts_in(&outside), "outside", "Ready", "InSync").await;
    let bystander = stand.bystander("Zuschauer");

    for (object, name) in [("plain", "Eins"), ("asleep", "Zwei"), ("unreadable", "Drei")] {
        stand.settled(object, name, json!({})).await;
    }
    let slow = stand.settled("slow", "Vier", json!({})).await;
    let members = Some(vec!["2000000000000001".to_owned()]);
    assert!(stand.simulator.change_contact(&slow, ContactChange { members, ..Default::default() }));
    stand.simulator.deletion(DeletionPlan { after_ms: 3000, ..Default::default() });
    stand.settled("retained", "Bleibt", json!({ "deletionPolicy": "Retain" })).await;
    stand.apply("asleep", "Zwei", json!({ "suspend": true })).await;
    stand.becomes("asleep", "Synced", "Suspended").await;
    // Its address comes from a Secret of the namespace, which goes first.
    let secret = json!({ "metadata": { "name": "address" },
        "stringData": { "email": "unreadable@example.com" } });
    let secrets: Api<Secret> = Api::namespaced(stand.client.clone(), &stand.namespace);
    let secret = serde_json::from_value(secret).unwrap();
    secrets.create(&PostParams::default(), &secret).await.unwrap();
    let from = json!({ "secretKeyRef": { "name": "address", "key": "email" } });
    let fields = json!({ "emailAddress": null, "emailAddressFrom": from });
    stand.apply("unreadable", "Drei", fields).await;
    stand.apply("onlooker", "Niemand", json!({ "reconcilePolicy": "ReportOnly" })).await;
    stand.becomes("onlooker", "Synced", "Drifted").await;
    secrets.delete("address", &DeleteParams::default()).await.unwrap();

    delete_namespace(&stand).await;
    let state = stand.simulator.state();
    let mut left: Vec<_> = state.contacts.iter().map(|contact| contact.name.as_str()).collect();
    left.sort_unstable();
    assert_eq!(left, ["Andersort", "Bleibt", "Zuschauer"]);
    assert_eq!(stand.simulator.counts().of("DeleteMessageContact"), 4);
    stand.is_untouched(&bystander);
    operator.abort();
}
