//! What a tenant tries who wants out of a policy. He may write contacts and Secrets in his namespace
//! and nothing else, and whatever he does, the cloud hears of nothing that the policy forbids.

use directory_simulator::Options;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject};
use serde_json::{Value, json};

use crate::policy_admission::{Answer, send};
use crate::rights::rule;
use crate::stand::{self, Stand};

const ALLOWED_ACCOUNT: &str = "2000000000000001";
const MERGE: &str = "application/merge-patch+json";
const APPLY: &str = "application/apply-patch+yaml";

/// A tenant of the story's namespace.
struct Tenant<'a> {
    stand: &'a Stand,
    client: Client,
    attempts: usize,
}

impl<'a> Tenant<'a> {
    async fn of(stand: &'a Stand) -> Self {
        let user = format!("tenant-of-{}", stand.namespace);
        let group = "rbac.authorization.k8s.io";
        let all = ["get", "list", "watch", "create", "update", "patch", "delete"];
        let rules = json!([
            rule("message-contacts.dev", "messagecontacts", &all),
            rule("", "secrets", &all),
        ]);
        let metadata = json!({ "name": "tenant", "namespace": stand.namespace });
        let role = json!({ "apiVersion": format!("{group}/v1"), "kind": "Role",
            "metadata": metadata, "rules": rules });
        let binding = json!({ "apiVersion": format!("{group}/v1"), "kind": "RoleBinding",
            "metadata": metadata, "subjects": [{ "apiGroup": group, "kind": "User", "name": user }],
            "roleRef": { "apiGroup": group, "kind": "Role", "name": "tenant" } });
        let api = |kind: ApiResource| {
            Api::<DynamicObject>::namespaced_with(stand.client.clone(), &stand.namespace, &kind)
        };
        stand::apply(&api(ApiResource::erase::<Role>(&())), &role).await.unwrap();
        stand::apply(&api(ApiResource::erase::<RoleBinding>(&())), &binding).await.unwrap();
        let client = stand.cluster.client_as(&user, &["system:authenticated"]);
        Self { stand, client, attempts: 0 }
    }

    fn contacts(&self, object: &str) -> String {
        let namespace = &self.stand.namespace;
        let contacts = "/apis/message-contacts.dev/v1alpha1/namespaces";
        format!("{contacts}/{namespace}/messagecontacts{object}")
    }

    async fn asks(&self, method: &str, uri: &str, kind: &str, body: &Value) -> Answer {
        send(&self.client, method, uri, kind, body).await
    }

    /// Asks for it, and is refused.
    async fn is_refused(&mut self, what: &str, method: &str, uri: &str, kind: &str, body: &Value) {
        self.attempts += 1;
        let Answer { code, message, .. } = self.asks(method, uri, kind, body).await;
        println!("{:>2}. {what}: {code}", self.attempts);
        assert!([403, 422].contains(&code), "{what}: {code} {message}");
        assert!(!message.contains("outsider"), "{what}: {message}");
    }

    /// Creates a contact that has these fields, and is refused.
    async fn may_not_create(&mut self, what: &str, fields: Value) {
        let manifest = self.stand.manifest("new", "Xunzi", whole(fields));
        let contacts = self.contacts("");
        self.is_refused(what, "POST", &contacts, "application/json", &manifest).await;
    }

    /// Writes a contact with what it takes from Secrets: it is taken, and the operator stops it.
    async fn is_stopped(&mut self, what: &str, object: &str, name: &str, from: Value, by: &str) {
        self.attempts += 1;
        let manifest = self.stand.manifest(object, name, whole(from));
        let uri = self.contacts(&format!("/{object}?fieldManager=tenant"));
        let Answer { code, message, .. } = self.asks("PATCH", &uri, APPLY, &manifest).await;
        assert!([200, 201].contains(&code), "{what}: {code} {message}");
        self.stand.becomes(object, "Synced", by).await;
        println!("{:>2}. {what}: {by}", self.attempts);
    }
}

/// A contact that complies, with these fields put over it.
fn whole(fields: Value) -> Value {
    let mut whole = json!({ "phoneNumber": "86-13800138000", "members": [ALLOWED_ACCOUNT],
        "title": "TechnicalDirector", "messageTypes": ["SecurityMessage"] });
    let without_address = fields.get("emailAddress").is_some_and(Value::is_null);
    stand::merge(&mut whole, fields);
    if without_address {
        // Or the manifest would have its usual one.
        whole["emailAddress"] = Value::Null;
    }
    whole
}

fn from_secret(secret: &str) -> Value {
    json!({ "emailAddress": null,
        "emailAddressFrom": { "secretKeyRef": { "name": secret, "key": "mail" } } })
}

#[expect(clippy::too_many_lines, reason = "one tenant tries one thing after the other")]
#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_cannot_step_out_of_a_policy() {
    let stand = Stand::with(Options::default(), json!({})).await;
    let mut tenant = Tenant::of(&stand).await;
    // Before it is production he writes what he likes.
    let older = json!({ "emailAddress": "outsider@older.org", "suspend": true });
    stand.apply("older", "Mengzi", whole(older)).await;
    // A label of this story only: the policy speaks of every directory.
    let production = json!({ "tier": stand.namespace });
    stand.label_namespace(production.clone()).await;
    let rules = json!({
        "emailDomains": { "allowed": ["example.com"], "denied": ["legacy.example.com"] },
        "phoneNumber": "Required",
        "titles": { "allowed": ["TechnicalDirector"] },
        "messageTypes": { "allowed": ["SecurityMessage"], "required": ["SecurityMessage"] },
        "members": { "allowed": [ALLOWED_ACCOUNT] },
    });
    let selector = json!({ "matchLabels": production });
    let policy = json!({ "enforcement": "Deny", "contact": rules,
        "match": { "namespaceSelector": selector } });
    stand.apply_policy("production", policy).await;
    let outside = stand.manifest("new", "Xunzi", whole(json!({ "emailAddress": "o@example.org" })));
    cluster::wait_for(stand::PATIENCE, "the policy is in force", || async {
        let uri = tenant.contacts("?dryRun=All");
        match tenant.asks("POST", &uri, "application/json", &outside).await.code {
            403 => Ok(()),
            code => Err(code.to_string()),
        }
    })
    .await
    .unwrap();
    stand.settled("good", "Kongzi", whole(json!({}))).await;

    for (what, address) in [
        ("another domain", "outsider@example.org"),
        ("a domain that ends alike", "outsider@evil-example.com"),
        ("a domain that begins alike", "outsider@example.com.evil.org"),
        ("a domain below", "outsider@sub.example.com"),
        ("a denied domain", "outsider@legacy.example.com"),
        ("upper case", "OUTSIDER@EXAMPLE.ORG"),
        ("a dot at the end", "outsider@example.com."),
        ("two at signs", "outsider@evil.org@example.com"),
        ("a letter that looks alike", "outsider@ex\u{430}mple.com"),
        ("a line break", "outsider@evil.org\n@example.com"),
        ("a blank", "outsider@evil.org @example.com"),
        ("a null byte's escape", "outsider@evil.org\u{1}@example.com"),
    ] {
        tenant.may_not_create(what, json!({ "emailAddress": address })).await;
    }
    for (what, fields) in [
        ("no phone", json!({ "phoneNumber": null })),
        ("an empty phone", json!({ "phoneNumber": "" })),
        ("another title", json!({ "title": "CEO" })),
        ("one message type more", json!({ "messageTypes": ["SecurityMessage", "FaultMessage"] })),
        ("not the required type", json!({ "messageTypes": ["FaultMessage"] })),
        ("the whole directory as a member", json!({ "members": ["rd-sim001"] })),
        ("a folder above", json!({ "members": ["fd-sim0000001"] })),
        ("one member more", json!({ "members": [ALLOWED_ACCOUNT, "2000000000000002"] })),
        ("suspended", json!({ "emailAddress": "outsider@example.org", "suspend": true })),
        ("to be kept", json!({ "emailAddress": "o@example.org", "deletionPolicy": "Retain" })),
    ] {
        tenant.may_not_create(what, fields).await;
    }
    let mut labelled = stand.manifest("new", "Xunzi", whole(json!({ "title": "CEO" })));
    labelled["metadata"]["labels"] = json!({ "tier": "none" });
    labelled["metadata"]["annotations"] = json!({ "message-contacts.dev/exempt": "true" });
    let contacts = tenant.contacts("");
    let json_type = "application/json";
    tenant.is_refused("labels of his own", "POST", &contacts, json_type, &labelled).await;

    let good = tenant.contacts("/good");
    let outside = json!({ "spec": { "emailAddress": "outsider@example.org" } });
    tenant.is_refused("an edit", "PATCH", &good, MERGE, &outside).await;
    let operations =
        json!([{ "op": "replace", "path": "/spec/emailAddress", "value": "outsider@evil.org" }]);
    let json_patch = "application/json-patch+json";
    tenant.is_refused("a JSON patch", "PATCH", &good, json_patch, &operations).await;
    let forced = format!("{good}?fieldManager=another&force=true");
    let whole_outside = whole(json!({ "emailAddress": "outsider@example.org" }));
    let manifest = stand.manifest("good", "Kongzi", whole_outside);
    tenant.is_refused("a forced apply", "PATCH", &forced, APPLY, &manifest).await;
    let dry = json!({ "spec": { "members": ["rd-sim001"], "reconcilePolicy": "Enforce" } });
    tenant.is_refused("wider bindings", "PATCH", &good, MERGE, &dry).await;
    let elsewhere = json!({ "spec": { "directoryRef": { "name": "another" } } });
    tenant.is_refused("another directory", "PATCH", &good, MERGE, &elsewhere).await;
    let older = tenant.contacts("/older");
    let awake = json!({ "spec": { "suspend": false } });
    tenant.is_refused("what is older, woken up", "PATCH", &older, MERGE, &awake).await;
    // Who writes nothing is exempt, until he wants to write.
    let reports = whole(json!({ "emailAddress": "outsider@example.org",
        "reconcilePolicy": "ReportOnly" }));
    let manifest = stand.manifest("reports", "Laozi", reports);
    assert_eq!(tenant.asks("POST", &contacts, json_type, &manifest).await.code, 201);
    let reports = tenant.contacts("/reports");
    let enforce = json!({ "spec": { "reconcilePolicy": "Enforce" } });
    tenant.is_refused("first only reported on", "PATCH", &reports, MERGE, &enforce).await;

    // What is not his to write.
    let namespace = format!("/api/v1/namespaces/{}", stand.namespace);
    let bare = json!({ "metadata": { "labels": { "tier": null } } });
    tenant.is_refused("his namespace's label", "PATCH", &namespace, MERGE, &bare).await;
    let other = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "free" } });
    tenant.is_refused("a namespace", "POST", "/api/v1/namespaces", json_type, &other).await;
    let policies = "/apis/message-contacts.dev/v1alpha1/contactpolicies";
    let policy = format!("{policies}/{}", stand.policy("production"));
    let audit = json!({ "spec": { "enforcement": "Audit" } });
    tenant.is_refused("the policy", "PATCH", &policy, MERGE, &audit).await;
    tenant.is_refused("its end", "DELETE", &policy, json_type, &json!({})).await;
    let binding = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings/\
                   deny.contactpolicies.message-contacts.dev";
    tenant.is_refused("the rules of admission", "DELETE", binding, json_type, &json!({})).await;
    let status = tenant.contacts("/good/status");
    let id = json!({ "status": { "contactId": "c-sim0000000000099" } });
    tenant.is_refused("a status", "PATCH", &status, MERGE, &id).await;

    // Admission cannot see into Secrets: the operator does.
    stand.put("outside", json!({ "mail": "outsider@example.org" })).await;
    stand.put("two-lines", json!({ "mail": "good@example.com\noutsider@evil.org" })).await;
    stand.put("changing", json!({ "mail": "good@example.com" })).await;
    let violation = "PolicyViolation";
    tenant.is_stopped("a Secret", "secret", "Zhuangzi", from_secret("outside"), violation).await;
    let two_lines = from_secret("two-lines");
    tenant.is_stopped("two lines", "lines", "Hanfei", two_lines, "InvalidContact").await;
    let absent = from_secret("absent");
    tenant.is_stopped("no Secret", "absent", "Liezi", absent, "SecretNotFound").await;
    let from_changing = whole(from_secret("changing"));
    stand.settled("changing", "Guanzhong", from_changing).await;
    stand.put("changing", json!({ "mail": "outsider@later.org" })).await;
    stand.ask("changing").await;
    stand.becomes("changing", "Synced", violation).await;
    tenant.attempts += 1;
    println!("{:>2}. a Secret that changes: {violation}", tenant.attempts);

    println!("{} attempts", tenant.attempts);
    assert!(tenant.attempts >= 25);
    // And the cloud has heard of nothing.
    stand.ask_directory().await;
    let named: Vec<_> = stand.simulator.state().contacts.iter().map(|it| it.name.clone()).collect();
    assert_eq!(named, ["Kongzi", "Guanzhong"]);
    for call in stand.simulator.calls() {
        let said = Value::Object(call.parameters).to_string().to_lowercase();
        let forbidden = [".org", "evil", "sub.example", "legacy", "2000000000000002", "rd-sim"];
        assert!(!forbidden.iter().any(|it| said.contains(it)), "{} {said}", call.action);
    }
    assert!(stand.simulator.outbox().is_empty());
}
