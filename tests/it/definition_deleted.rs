//! Deleting our definitions takes the operator out; the contacts in the cloud stay.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DeleteParams};
use message_contact_operator::clock::Clock;
use serde_json::json;

use crate::stand::{self, Own, PATIENCE, Stand};

const CONTACTS: &str = "messagecontacts.message-contacts.dev";
const DIRECTORIES: &str = "resourcedirectories.message-contacts.dev";

/// A story on a cluster of its own, whose definitions it may delete.
async fn own_stand() -> (Own, Stand, tokio::task::JoinHandle<()>) {
    let own = Own::new(stand::another_cluster().await);
    let cluster = own.cluster();
    let operator = tokio::spawn(stand::run_operator(cluster.client(), Clock::system()));
    let stand = Stand::on(cluster, directory_simulator::Options::default()).await;
    stand.apply_directory(json!({})).await;
    stand.apply("keeper", "Bleibt", json!({})).await;
    stand.becomes("keeper", "Ready", "InSync").await;
    (own, stand, operator)
}

async fn delete(stand: &Stand, name: &str) {
    let definitions: Api<CustomResourceDefinition> = Api::all(stand.client.clone());
    definitions.delete(name, &DeleteParams::default()).await.unwrap();
}

async fn is_gone(stand: &Stand, name: &str) {
    let definitions: Api<CustomResourceDefinition> = Api::all(stand.client.clone());
    cluster::wait_for(PATIENCE, &format!("the definition {name} is gone"), || async {
        match definitions.get_opt(name).await {
            Ok(None) => Ok(()),
            Ok(Some(_)) => Err("it is still there".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    })
    .await
    .unwrap();
}

fn nothing_was_deleted(stand: &Stand) {
    assert!(stand.simulator.state().named("Bleibt").is_some());
    assert_eq!(stand.simulator.counts().of("DeleteMessageContact"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn deleting_the_definition_deletes_no_contact_in_the_cloud() {
    let (_own, stand, operator) = own_stand().await;
    delete(&stand, CONTACTS).await;
    is_gone(&stand, CONTACTS).await;
    nothing_was_deleted(&stand);
    operator.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn all_definitions_can_be_deleted_at_once_and_one_after_the_other() {
    let (_own, stand, operator) = own_stand().await;
    delete(&stand, DIRECTORIES).await;
    delete(&stand, CONTACTS).await;
    is_gone(&stand, DIRECTORIES).await;
    is_gone(&stand, CONTACTS).await;
    nothing_was_deleted(&stand);
    operator.abort();

    // A directory that waits for its contacts does not hold its own definition up.
    let (_own, stand, operator) = own_stand().await;
    delete(&stand, DIRECTORIES).await;
    is_gone(&stand, DIRECTORIES).await;
    let left = stand.becomes("keeper", "Synced", "DirectoryNotFound").await;
    assert!(left.metadata.deletion_timestamp.is_none());
    delete(&stand, CONTACTS).await;
    is_gone(&stand, CONTACTS).await;
    nothing_was_deleted(&stand);
    operator.abort();
}
