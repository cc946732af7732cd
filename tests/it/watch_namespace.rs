//! An operator that sees some namespaces only, with the rights for those and no others.

use directory_simulator::Options;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::Client;
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use kube::core::ApiResource;
use message_contact_operator::clock::Clock;
use message_contact_operator::controller::{Environment, Scope};
use serde_json::{Value, json};

use crate::process::alone;
use crate::rights::rule;
use crate::secrets::grant;
use crate::stand::{self, OPERATOR_NAMESPACE, Stand};

/// What belongs to no namespace: the one small `ClusterRole`. Namespaces are read by name.
fn cluster_wide(namespaces: &[&str]) -> Value {
    json!([
        rule("message-contacts.dev", "resourcedirectories", &["get", "list", "watch", "patch"]),
        rule("message-contacts.dev", "resourcedirectories/status", &["patch"]),
        rule("message-contacts.dev", "contactpolicies", &["list", "watch"]),
        rule("message-contacts.dev", "contactpolicies/status", &["patch"]),
        { "apiGroups": [""], "resources": ["namespaces"], "verbs": ["list", "watch"],
            "resourceNames": namespaces },
        { "apiGroups": ["apiextensions.k8s.io"], "resources": ["customresourcedefinitions"],
            "verbs": ["get"], "resourceNames": ["messagecontacts.message-contacts.dev",
                "resourcedirectories.message-contacts.dev"] },
    ])
}

/// What is needed in each namespace that is seen.
fn in_each() -> Value {
    json!([
        rule("message-contacts.dev", "messagecontacts", &["get", "list", "watch", "patch"]),
        rule("message-contacts.dev", "messagecontacts/status", &["patch"]),
        rule("", "secrets", &["get"]),
        rule("events.k8s.io", "events", &["create"]),
    ])
}

/// Grants a user a Role of that namespace.
pub async fn grant_in(client: &Client, namespace: &str, user: &str, rules: &Value) {
    let params = PatchParams::apply("a-person").force();
    let role = json!({ "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
        "metadata": { "name": user, "namespace": namespace }, "rules": rules });
    let roles: Api<Role> = Api::namespaced(client.clone(), namespace);
    roles.patch(user, &params, &Patch::Apply(role)).await.unwrap();
    let binding = json!({ "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": { "name": user, "namespace": namespace },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": user },
        "subjects": [{ "kind": "User", "name": user }] });
    let bindings: Api<RoleBinding> = Api::namespaced(client.clone(), namespace);
    bindings.patch(user, &params, &Patch::Apply(binding)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_other_namespaces_is_not_seen_and_needs_no_right() {
    let alone = alone().await;
    let stand = Stand::on(alone.cluster, Options::default()).await;
    let other = alone.cluster.namespace("seen").await.unwrap();
    let unseen = alone.cluster.namespace("unseen").await.unwrap();
    let user = "operator-of-two-namespaces";
    let seen = [stand.namespace.as_str(), &other];
    grant(&stand, user, user, cluster_wide(&seen)).await;
    for namespace in seen {
        grant_in(&stand.client, namespace, user, &in_each()).await;
    }
    grant_in(
        &stand.client,
        "default",
        user,
        &json!([rule("events.k8s.io", "events", &["create"])]),
    )
    .await;
    let allowed = vec![stand.simulator.endpoint()];
    let mut environment =
        Environment::new(OPERATOR_NAMESPACE.to_owned(), allowed, stand::environment);
    environment.scope = Scope::of(seen.map(str::to_owned));
    let client = alone.cluster.client_as(user, &[]);
    let operator = tokio::spawn(stand::run_operator_in(client, environment, Clock::system()));
    stand.apply_directory(json!({})).await;
    stand.directory_becomes("Ready", "Connected").await;

    stand.apply("here", "Youruo", json!({})).await;
    stand.becomes("here", "Ready", "InSync").await;
    let in_other = |object: &str, name: &str, namespace: &str| {
        let mut manifest = stand.manifest(object, name, json!({}));
        manifest["metadata"]["namespace"] = json!(namespace);
        manifest
    };
    let contacts = stand.contacts_in(&unseen);
    stand::apply(&contacts, &in_other("hidden", "Zilu", &unseen)).await.unwrap();
    let seen_there = stand.contacts_in(&other);
    stand::apply(&seen_there, &in_other("there", "Zigong", &other)).await.unwrap();
    stand::becomes(&seen_there, "there", "Ready", "InSync").await;
    // A deletion is seen, too.
    stand.delete("here").await;
    stand.is_gone("here").await;
    // A value from a Secret of a namespace that is seen.
    let secret = json!({ "apiVersion": "v1", "kind": "Secret",
        "metadata": { "name": "mail", "namespace": stand.namespace },
        "stringData": { "address": "secretly@example.com" } });
    stand.private.add("secretly@example.com");
    let secrets: Api<DynamicObject> = Api::namespaced_with(
        stand.client.clone(),
        &stand.namespace,
        &ApiResource::erase::<Secret>(&()),
    );
    stand::apply(&secrets, &secret).await.unwrap();
    let from = json!({ "emailAddress": null,
        "emailAddressFrom": { "secretKeyRef": { "name": "mail", "key": "address" } } });
    stand.apply("secretive", "Ziyou", from).await;
    stand.becomes("secretive", "Ready", "InSync").await;

    let hidden = contacts.get("hidden").await.unwrap();
    assert_eq!(hidden.metadata.finalizers, None);
    assert_eq!(hidden.data["status"]["observedGeneration"], -1, "{}", hidden.data);
    assert!(stand.simulator.state().named("Zilu").is_none());
    stand.delete("secretive").await;
    stand.is_gone("secretive").await;
    operator.abort();
    let _ = operator.await;
}
