//! `delete-definitions`: takes our definitions and all their objects out of the cluster, and changes
//! nothing in the cloud. For an uninstallation, when no operator may be left to let go of objects.

use std::fmt::Debug;
use std::io;
use std::time::Duration;

use anyhow::bail;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams};
use kube::{Client, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::api::{
    self, CustomResourceDefinition, DIRECTORY_FINALIZER, FINALIZER, MessageContact,
    ResourceDirectory,
};
use crate::controller;

/// How long it may take. Less than what the Job of the chart may take in all.
const ENDED_WITHIN: Duration = Duration::from_mins(2);

/// Between two looks at what is left.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Objects that one request lists.
const PAGE: u32 = 500;

/// Deletes the definitions of all our kinds, lets go of their objects, and waits until all are gone.
///
/// The definitions come first. From then on a running operator lets go of everything as well: before
/// each deletion in the cloud it looks at whether its definition stands. This program knows no key,
/// and could not reach the cloud.
///
/// # Errors
/// The cluster cannot be found, a right is missing, or something else holds an object.
pub fn run(out: &mut dyn io::Write) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let released = runtime.block_on(async {
        let client = super::run::client().await?;
        delete(&client).await?;
        tokio::time::timeout(ENDED_WITHIN, until_gone(&client)).await.unwrap_or_else(|_| {
            bail!(
                "not everything is gone after {ENDED_WITHIN:?}: somebody else's finalizer holds an \
                 object; look at `kubectl get message-contacts --all-namespaces`, and try again"
            )
        })
    })?;
    writeln!(out, "the definitions are deleted, {released} objects were let go")?;
    Ok(())
}

async fn delete(client: &Client) -> anyhow::Result<()> {
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    let mut refused = Ok(());
    for definition in api::crds() {
        let name = definition.name_any();
        match definitions.delete(&name, &DeleteParams::background()).await {
            // The others go all the same: what hangs is less.
            Err(error) if !is_gone(&error) => {
                refused = refused.and_then(|()| Err(why(&error, &name)));
            }
            _ => {}
        }
    }
    refused
}

/// Lets go of objects until no definition is left; how many were held.
async fn until_gone(client: &Client) -> anyhow::Result<usize> {
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    let mut released = 0;
    loop {
        released += release::<MessageContact>(client, FINALIZER).await?;
        released += release::<ResourceDirectory>(client, DIRECTORY_FINALIZER).await?;
        let mut left = false;
        for definition in api::crds() {
            let name = definition.name_any();
            left |= definitions.get_opt(&name).await.map_err(|error| why(&error, &name))?.is_some();
        }
        if !left {
            return Ok(released);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Takes our finalizer off all objects of a kind; of how many.
async fn release<K>(client: &Client, ours: &str) -> anyhow::Result<usize>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let plural = K::plural(&());
    let all: Api<K> = Api::all(client.clone());
    let mut page = ListParams::default().limit(PAGE);
    let mut released = 0;
    loop {
        let found = match all.list_metadata(&page).await {
            Ok(found) => found,
            Err(error) if is_gone(&error) => return Ok(released),
            Err(error) => return Err(why(&error, &plural)),
        };
        for object in found.items.iter().filter(|it| it.finalizers().iter().any(|it| it == ours)) {
            released += usize::from(let_go(client, object, ours).await?);
        }
        match found.metadata.continue_ {
            Some(token) if !token.is_empty() => page = page.continue_token(&token),
            _ => return Ok(released),
        }
    }
}

/// Takes our finalizer off one object; whether it was there to be taken. Who else writes it at the
/// same time makes it be tried again.
async fn let_go<K>(
    client: &Client,
    object: &kube::core::PartialObjectMeta<K>,
    ours: &str,
) -> anyhow::Result<bool>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let others = object.finalizers().iter().filter(|it| *it != ours).collect::<Vec<_>>();
    let patch = json!({ "metadata": {
        "resourceVersion": object.resource_version(),
        "finalizers": others,
    }});
    let kind = kube::core::ApiResource::erase::<K>(&());
    let name = object.name_any();
    let api: Api<kube::core::DynamicObject> = match object.namespace() {
        Some(namespace) => Api::namespaced_with(client.clone(), &namespace, &kind),
        None => Api::all_with(client.clone(), &kind),
    };
    match api.patch_metadata(&name, &PatchParams::default(), &Patch::Merge(&patch)).await {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(refusal)) if [404, 409].contains(&refusal.code) => Ok(false),
        Err(error) => Err(why(&error, &kind.plural)),
    }
}

fn is_gone(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(refusal) if refusal.code == 404)
}

/// What went wrong, without the apiserver's own text: it may quote an object.
fn why(error: &kube::Error, what: &str) -> anyhow::Error {
    anyhow::anyhow!("{what}: {}", controller::kind_of(error))
        .context("the definitions could not be deleted")
}
