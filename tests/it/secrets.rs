//! Access keys from a Secret: used, exchanged and corrected without a restart.

use std::time::{Duration, Instant};

use directory_simulator::{Key, Options};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use kube::api::{Api, DynamicObject};
use kube::core::ApiResource;
use message_contact_operator::clock::Clock;
use serde_json::{Value, json};

use crate::process::alone;
use crate::rights::rule;
use crate::stand::{self, Stand, message_of};

const FIRST: (&str, &str) = ("StoryKeyIdFirst", "StorySecretFirst");
const SECOND: (&str, &str) = ("StoryKeyIdSecond", "StorySecretSecond");

/// A simulator that knows only the first key, and a directory that takes its keys from a Secret of
/// the directory's name.
async fn stand(keys: Value) -> Stand {
    let (access_key_id, access_key_secret) = (FIRST.0.to_owned(), FIRST.1.to_owned());
    let options = Options { access_key_id, access_key_secret, ..Options::default() };
    let stand = Stand::unconnected(options).await;
    for hidden in [FIRST.0, FIRST.1, SECOND.0, SECOND.1] {
        stand.private.add(hidden);
    }
    stand.apply_secret(&stand.directory, keys).await;
    let secret_ref = json!({ "name": stand.directory });
    let credentials = json!({ "source": "Secret", "secretRef": secret_ref });
    stand.apply_directory(json!({ "credentials": credentials })).await;
    stand
}

fn keys((id, secret): (&str, &str)) -> Value {
    json!({ "accessKeyId": id, "accessKeySecret": secret })
}

/// Which keys signed the calls after a number.
fn signers(stand: &Stand, after: u64) -> Vec<String> {
    let mut ids: Vec<_> =
        stand.simulator.calls_since(after).into_iter().map(|call| call.key_id).collect();
    ids.sort();
    ids.dedup();
    ids
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_a_secret_are_used_and_exchanged_without_a_restart() {
    // A line end behind a value, as editors leave it, is no part of the key.
    let stand =
        stand(json!({ "accessKeyId": FIRST.0, "accessKeySecret": "StorySecretFirst\n" })).await;
    stand.directory_becomes("Ready", "Connected").await;
    stand.apply("rotated", "Fusuo", json!({})).await;
    stand.becomes("rotated", "Ready", "InSync").await;
    assert_eq!(signers(&stand, 0), [FIRST.0]);

    stand.simulator.add_key(Key::new(SECOND.0, SECOND.1));
    stand.apply_secret(&stand.directory, keys(SECOND)).await;
    stand.simulator.disable_key(FIRST.0);
    let last = stand.simulator.counts().calls;
    // Nobody touches the directory: the first refused call shows it.
    stand.apply("rotated", "Fusuo", json!({ "title": "CEO" })).await;
    stand.becomes("rotated", "Ready", "InSync").await;
    stand.directory_becomes("Ready", "Connected").await;
    assert!(signers(&stand, last).contains(&SECOND.0.to_owned()));
    let now = stand.simulator.counts().calls;
    stand.ask_directory().await;
    assert_eq!(signers(&stand, now), [SECOND.0]);
    let titles: Vec<_> =
        stand.simulator.state().contacts.into_iter().map(|c| c.title.clone()).collect();
    assert_eq!(titles, ["CEO"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_keys_are_told_and_corrected_ones_noticed() {
    let stand = stand(keys((FIRST.0, "StorySecretWrong"))).await;
    let object = stand.directory_becomes("Ready", "Unauthorized").await;
    let message = message_of(&object, "Ready");
    assert!(message.contains("SignatureDoesNotMatch"), "{message}");
    stand.apply("locked", "Fuxianyi", json!({})).await;
    let contact = stand.becomes("locked", "Synced", "DirectoryNotReady").await;
    assert!(message_of(&contact, "Synced").contains(&stand.directory));
    for text in [object.data.to_string(), contact.data["status"].to_string()] {
        for hidden in ["StorySecret", FIRST.0] {
            assert!(!text.contains(hidden), "{hidden} in {text}");
        }
    }
    assert_eq!(stand.simulator.counts().of("AddMessageContact"), 0);

    stand.apply_secret(&stand.directory, keys(FIRST)).await;
    let corrected = Instant::now();
    stand.directory_becomes("Ready", "Connected").await;
    assert!(corrected.elapsed() < Duration::from_secs(20), "{:?}", corrected.elapsed());
    stand.becomes("locked", "Ready", "InSync").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_contact_says_when_its_keys_are_refused_and_goes_on_with_others() {
    let stand = stand(keys(FIRST)).await;
    stand.directory_becomes("Ready", "Connected").await;
    stand.apply("changed", "Gongsunyan", json!({})).await;
    stand.apply("resting", "Zhangyixi", json!({})).await;
    stand.becomes("changed", "Ready", "InSync").await;
    let resting = stand.becomes("resting", "Ready", "InSync").await;

    stand.simulator.disable_key(FIRST.0);
    stand.ask_directory().await;
    stand.directory_becomes("Ready", "Unauthorized").await;
    stand.apply("changed", "Gongsunyan", json!({ "title": "Other" })).await;
    stand.becomes("changed", "Synced", "Unauthorized").await;

    stand.simulator.add_key(Key::new(SECOND.0, SECOND.1));
    stand.apply_secret(&stand.directory, keys(SECOND)).await;
    stand.directory_becomes("Ready", "Connected").await;
    stand.becomes("changed", "Ready", "InSync").await;
    let after = stand.object("resting").await;
    assert_eq!(after.metadata.resource_version, resting.metadata.resource_version);
}

/// Lets a user do that with some resources of all namespaces.
pub async fn grant(stand: &Stand, user: &str, name: &str, rules: Value) {
    let api = |kind: ApiResource| Api::<DynamicObject>::all_with(stand.client.clone(), &kind);
    let role = json!({ "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": { "name": name }, "rules": rules });
    stand::apply(&api(ApiResource::erase::<ClusterRole>(&())), &role).await.unwrap();
    let group = "rbac.authorization.k8s.io";
    let binding = json!({ "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding", "metadata": { "name": name },
        "subjects": [{ "apiGroup": group, "kind": "User", "name": user }],
        "roleRef": { "apiGroup": group, "kind": "ClusterRole", "name": name } });
    stand::apply(&api(ApiResource::erase::<ClusterRoleBinding>(&())), &binding).await.unwrap();
}

/// What the operator may do that may not read a Secret.
pub fn all_but_secrets() -> Value {
    json!([
        rule("message-contacts.dev", "*", &["*"]),
        rule("", "namespaces", &["get", "list", "watch"]),
        rule("apiextensions.k8s.io", "customresourcedefinitions", &["get"]),
        rule("events.k8s.io", "events", &["create", "patch"]),
    ])
}

#[tokio::test(flavor = "multi_thread")]
async fn that_a_secret_may_not_be_read_is_told_and_the_right_noticed() {
    let alone = alone().await;
    let (access_key_id, access_key_secret) = (FIRST.0.to_owned(), FIRST.1.to_owned());
    let options = Options { access_key_id, access_key_secret, ..Options::default() };
    let stand = Stand::on(alone.cluster, options).await;
    let user = "operator-without-secrets";
    grant(&stand, user, user, all_but_secrets()).await;
    let client = alone.cluster.client_as(user, &[]);
    let operator = tokio::spawn(stand::run_operator(client, Clock::system()));
    stand.apply_secret(&stand.directory, keys(FIRST)).await;
    let secret_ref = json!({ "name": stand.directory });
    let credentials = json!({ "source": "Secret", "secretRef": secret_ref });
    stand.apply_directory(json!({ "credentials": credentials })).await;
    let object = stand.directory_becomes("Ready", "Forbidden").await;
    let message = message_of(&object, "Ready");
    for word in [&stand.directory, stand::OPERATOR_NAMESPACE, "`get`"] {
        assert!(message.contains(word), "no {word} in {message}");
    }
    assert_eq!(stand.simulator.counts().calls, 0);

    let rules = json!([rule("", "secrets", &["get"])]);
    grant(&stand, user, "operator-reads-secrets", rules).await;
    stand.directory_becomes("Ready", "Connected").await;
    operator.abort();
    let _ = operator.await;
}
