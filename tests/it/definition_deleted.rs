//! Deleting our definitions takes the operator out; the contacts in the cloud stay.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DeleteParams};
use message_contact_operator::clock::Clock;
use serde_json::json;

use crate::stand::{self, PATIENCE, Stand};

#[tokio::test(flavor = "multi_thread")]
async fn deleting_the_definition_deletes_no_contact_in_the_cloud() {
    let own = cluster::Cluster::start(cluster::Options::default()).await.unwrap();
    let own: &'static cluster::Cluster = Box::leak(Box::new(own));
    stand::prepare(own).await;
    let operator = tokio::spawn(stand::run_operator(own.client(), Clock::system()));
    let stand = Stand::on(own, directory_simulator::Options::default()).await;
    stand.apply_directory(json!({})).await;
    stand.apply("keeper", "Bleibt", json!({})).await;
    stand.becomes("keeper", "Ready", "InSync").await;

    let definitions: Api<CustomResourceDefinition> = Api::all(own.client());
    let name = "messagecontacts.message-contacts.dev";
    definitions.delete(name, &DeleteParams::default()).await.unwrap();
    cluster::wait_for(PATIENCE, "the definition is gone", || async {
        match definitions.get_opt(name).await {
            Ok(None) => Ok(()),
            Ok(Some(_)) => Err("it is still there".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    })
    .await
    .unwrap();
    assert!(stand.simulator.state().named("Bleibt").is_some());
    assert_eq!(stand.simulator.counts().of("DeleteMessageContact"), 0);
    operator.abort();
}
