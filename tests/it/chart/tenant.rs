//! A tenant who has the chart's role `…-edit` in one namespace, and nothing else. Whatever he tries,
//! he reads and changes nothing outside of it.

use directory_simulator::Options;
use k8s_openapi::api::rbac::v1::{ClusterRole, RoleBinding};
use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject};
use message_contact_operator::api::MessageContact;
use serde_json::{Value, json};

use super::{Helm, kind, name, objects};
use crate::policy_admission::{Answer, send};
use crate::stand::{self, OPERATOR_NAMESPACE, Stand};
use crate::values_from_secrets::mail_from;
use crate::watch_namespace::grant_in;

const JSON: &str = "application/json";
const MERGE: &str = "application/merge-patch+json";
const APPLY: &str = "application/apply-patch+yaml";
const GROUP: &str = "/apis/message-contacts.dev/v1alpha1";
const ALLOWED_ACCOUNT: &str = "2000000000000001";

/// What only the neighbour may know: a mailbox, and what stands in a Secret.
const TREASURES: [&str; 3] = ["treasurer", "13800138077", "hoard@"];

/// A tenant of the story's namespace, and a neighbour in another one.
struct Tenant<'a> {
    stand: &'a Stand,
    client: Client,
    neighbour: String,
    /// The neighbour's contact in the cloud.
    held: String,
    attempts: usize,
}

impl<'a> Tenant<'a> {
    async fn of(stand: &'a Stand) -> Self {
        let helm = tokio::task::block_in_place(|| Helm::offline("helm4"));
        let all = objects(&helm.renders(OPERATOR_NAMESPACE, &[]));
        let is_edit = |it: &&Value| kind(it) == "ClusterRole" && name(it).ends_with("-edit");
        let rules = all.iter().find(is_edit).unwrap()["rules"].clone();
        let user = format!("tenant-of-{}", stand.namespace);
        let group = "rbac.authorization.k8s.io";
        let role = json!({ "apiVersion": format!("{group}/v1"), "kind": "ClusterRole",
            "metadata": { "name": user }, "rules": rules });
        let binding = json!({ "apiVersion": format!("{group}/v1"), "kind": "RoleBinding",
            "metadata": { "name": "tenant", "namespace": stand.namespace },
            "subjects": [{ "apiGroup": group, "kind": "User", "name": user }],
            "roleRef": { "apiGroup": group, "kind": "ClusterRole", "name": user } });
        let client = stand.client.clone();
        let roles = ApiResource::erase::<ClusterRole>(&());
        stand::apply(&Api::all_with(client.clone(), &roles), &role).await.unwrap();
        let bindings = ApiResource::erase::<RoleBinding>(&());
        let bindings = Api::namespaced_with(client, &stand.namespace, &bindings);
        stand::apply(&bindings, &binding).await.unwrap();

        let neighbour = stand.cluster.namespace("neighbour").await.unwrap();
        let fields = json!({ "emailAddress": "treasurer@example.com",
            "phoneNumber": "86-13800138077" });
        let mut manifest = stand.manifest("treasure", "Schatz", fields);
        manifest["metadata"]["namespace"] = json!(neighbour);
        let contacts = stand.contacts_in(&neighbour);
        stand::apply(&contacts, &manifest).await.unwrap();
        let object = stand::becomes(&contacts, "treasure", "Synced", "InSync").await;
        let held = object.data["status"]["contactId"].as_str().unwrap().to_owned();
        let secret = json!({ "metadata": { "name": "hoard-mail" },
            "stringData": { "mail": "hoard@example.com" } });
        let uri = format!("/api/v1/namespaces/{neighbour}/secrets");
        assert_eq!(send(&stand.client, "POST", &uri, JSON, &secret).await.code, 201);
        let client = stand.cluster.client_as(&user, &["system:authenticated"]);
        Self { stand, client, neighbour, held, attempts: 0 }
    }

    /// Where his own contacts are, or one of them, or a part of it.
    fn own(&self, below: &str) -> String {
        format!("{GROUP}/namespaces/{}/messagecontacts{below}", self.stand.namespace)
    }

    /// Where the neighbour's are.
    fn foreign(&self, below: &str) -> String {
        format!("{GROUP}/namespaces/{}/messagecontacts{below}", self.neighbour)
    }

    fn tells(&mut self, what: &str, answer: &str) {
        self.attempts += 1;
        println!("{:>2}. {what}: {answer}", self.attempts);
    }

    /// Asks for it, and the apiserver refuses with that code. It tells nothing that he may not know.
    async fn is_refused(
        &mut self,
        (what, code): (&str, u16),
        (method, uri): (&str, &str),
        content: &str,
        body: &Value,
    ) {
        let answer = send(&self.client, method, uri, content, body).await;
        let Answer { code: found, message, .. } = answer;
        self.tells(what, &found.to_string());
        assert_eq!(found, code, "{what}: {message}");
        self.tells_nothing(what, &message);
    }

    fn tells_nothing(&self, what: &str, text: &str) {
        for treasure in TREASURES.iter().chain([&self.held.as_str()]) {
            assert!(!text.contains(treasure), "{what}: {treasure} in {text}");
        }
    }

    /// Writes a contact of his own; the apiserver takes it, and the operator stops it for that
    /// reason.
    async fn is_stopped(&mut self, what: &str, object: &str, name: &str, spec: Value, by: &str) {
        let manifest = self.stand.manifest(object, name, spec);
        self.is_taken(what, object, &manifest).await;
        let object = self.stand.becomes(object, "Synced", by).await;
        let status = &object.data["status"];
        assert!(status.get("contactId").is_none() || by == "NameClaimed", "{what}: {status}");
        self.tells(what, by);
    }

    async fn is_taken(&self, what: &str, object: &str, manifest: &Value) {
        let uri = self.own(&format!("/{object}?fieldManager=tenant&force=true"));
        let Answer { code, message, .. } = send(&self.client, "PATCH", &uri, APPLY, manifest).await;
        assert!([200, 201].contains(&code), "{what}: {code} {message}");
    }

    /// Everything that he can read once he has tried all of it.
    async fn all_that_he_sees(&self) -> String {
        let contacts = self.stand.contacts();
        let objects = contacts.list(&kube::api::ListParams::default()).await.unwrap();
        objects.items.iter().map(|it| it.data["status"].to_string()).collect()
    }
}

/// What nobody who has the role may ask for at all.
#[expect(clippy::too_many_lines, reason = "one row an attempt")]
async fn asks_for_what_is_not_his(tenant: &mut Tenant<'_>) {
    let Tenant { stand, neighbour, .. } = &*tenant;
    let nothing = json!({});
    let contact = stand.manifest("new", "Xunzi", json!({}));
    let status = json!({ "status": { "contactId": tenant.held } });
    let spec = json!({ "spec": { "suspend": true } });
    let directory = format!("{GROUP}/resourcedirectories/{}", stand.directory);
    let own_directory = json!({ "apiVersion": "message-contacts.dev/v1alpha1",
        "kind": "ResourceDirectory", "metadata": { "name": "mine" },
        "spec": { "site": "China", "namespaces": {} } });
    let directories = format!("{GROUP}/resourcedirectories");
    let policies = format!("{GROUP}/contactpolicies");
    let policy = format!("{policies}/{}", stand.policy("neighbours"));
    let policy_status = format!("{policy}/status");
    let lease = format!("/apis/coordination.k8s.io/v1/namespaces/{OPERATOR_NAMESPACE}/leases");
    let one_lease = format!("{lease}/message-contact-operator");
    let secrets = |namespace: &str| format!("/api/v1/namespaces/{namespace}/secrets");
    let [own_secrets, foreign_secrets, operators_secrets] =
        [&stand.namespace, neighbour.as_str(), OPERATOR_NAMESPACE].map(secrets);
    let hash_key = format!("{operators_secrets}/message-contact-operator-hash-key");
    let hoard = format!("{foreign_secrets}/hoard-mail");
    let crds = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let crd = format!("{crds}/messagecontacts.message-contacts.dev");
    let rules = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies";
    let rule = format!("{rules}/deny.contactpolicies.message-contacts.dev");
    let binding = rule.replace("policies/", "policybindings/");
    let own_namespace = format!("/api/v1/namespaces/{}", stand.namespace);
    let bindings =
        format!("/apis/rbac.authorization.k8s.io/v1/namespaces/{}/rolebindings", stand.namespace);
    let role =
        format!("/apis/rbac.authorization.k8s.io/v1/clusterroles/tenant-of-{}", stand.namespace);
    let events = |namespace: &str| format!("/apis/events.k8s.io/v1/namespaces/{namespace}/events");
    let token = format!(
        "/api/v1/namespaces/{OPERATOR_NAMESPACE}/serviceaccounts/message-contact-operator/token"
    );
    let pods = format!("/api/v1/namespaces/{OPERATOR_NAMESPACE}/pods");
    let deployment = format!(
        "/apis/apps/v1/namespaces/{OPERATOR_NAMESPACE}/deployments/message-contact-operator"
    );
    let (own, foreign) = (|below: &str| tenant.own(below), |below: &str| tenant.foreign(below));
    let rows: Vec<(&str, &str, String, &str, &Value)> = vec![
        ("the neighbour's contacts", "GET", foreign(""), JSON, &nothing),
        ("the neighbour's contact", "GET", foreign("/treasure"), JSON, &nothing),
        ("its table", "GET", foreign("?limit=1"), JSON, &nothing),
        ("a watch next door", "GET", foreign("?watch=1"), JSON, &nothing),
        ("a contact next door", "POST", foreign(""), JSON, &contact),
        ("the same, for a try", "POST", foreign("?dryRun=All"), JSON, &contact),
        ("an edit next door", "PATCH", foreign("/treasure"), MERGE, &spec),
        ("an apply next door", "PATCH", foreign("/treasure?fieldManager=x"), APPLY, &contact),
        ("a deletion next door", "DELETE", foreign("/treasure"), JSON, &nothing),
        ("all next door deleted", "DELETE", foreign(""), JSON, &nothing),
        ("a status next door", "PATCH", foreign("/treasure/status"), MERGE, &status),
        ("contacts of all namespaces", "GET", format!("{GROUP}/messagecontacts"), JSON, &nothing),
        ("a watch on all", "GET", format!("{GROUP}/messagecontacts?watch=1"), JSON, &nothing),
        (
            "all by a field",
            "GET",
            format!("{GROUP}/messagecontacts?fieldSelector=metadata.name%3Dtreasure"),
            JSON,
            &nothing,
        ),
        ("his own status", "PATCH", own("/good/status"), MERGE, &status),
        ("his own status, applied", "PATCH", own("/good/status?fieldManager=x"), APPLY, &contact),
        ("his own status, replaced", "PUT", own("/good/status"), JSON, &contact),
        ("a part that there is not", "PUT", own("/good/finalizers"), JSON, &contact),
        ("a scale", "PATCH", own("/good/scale"), MERGE, &spec),
        ("Secrets of his namespace", "GET", own_secrets, JSON, &nothing),
        ("Secrets next door", "GET", foreign_secrets.clone(), JSON, &nothing),
        ("the hoard", "GET", hoard, JSON, &nothing),
        ("access keys", "GET", format!("{operators_secrets}/alibaba-cloud"), JSON, &nothing),
        ("the key of the hashes", "GET", hash_key.clone(), JSON, &nothing),
        ("the key of the hashes, deleted", "DELETE", hash_key, JSON, &nothing),
        ("keys of his own", "POST", operators_secrets, JSON, &nothing),
        ("directories", "GET", directories.clone(), JSON, &nothing),
        ("the directory", "GET", directory.clone(), JSON, &nothing),
        ("a directory of his own", "POST", directories, JSON, &own_directory),
        ("the directory, changed", "PATCH", directory.clone(), MERGE, &spec),
        ("the directory, deleted", "DELETE", directory.clone(), JSON, &nothing),
        ("the directory's status", "PATCH", format!("{directory}/status"), MERGE, &status),
        ("policies", "GET", policies.clone(), JSON, &nothing),
        ("the policy, whose status names all", "GET", policy.clone(), JSON, &nothing),
        ("a policy of his own", "POST", policies, JSON, &nothing),
        ("the policy, changed", "PATCH", policy.clone(), MERGE, &spec),
        ("the policy, deleted", "DELETE", policy, JSON, &nothing),
        ("the policy's status", "PATCH", policy_status, MERGE, &status),
        ("who leads", "GET", one_lease.clone(), JSON, &nothing),
        ("a lease taken over", "PATCH", one_lease.clone(), MERGE, &spec),
        ("a lease deleted", "DELETE", one_lease, JSON, &nothing),
        ("a lease made", "POST", lease, JSON, &nothing),
        ("the definition", "GET", crd.clone(), JSON, &nothing),
        ("the definition, changed", "PATCH", crd.clone(), MERGE, &spec),
        ("the definition, deleted", "DELETE", crd, JSON, &nothing),
        ("the rules of admission", "DELETE", rule, JSON, &nothing),
        ("their binding", "DELETE", binding, JSON, &nothing),
        ("the labels of his namespace", "PATCH", own_namespace, MERGE, &nothing),
        ("a namespace", "POST", "/api/v1/namespaces".to_owned(), JSON, &nothing),
        ("a right for himself", "POST", bindings, JSON, &nothing),
        ("his role, widened", "PATCH", role, MERGE, &nothing),
        ("Events next door", "GET", events(neighbour), JSON, &nothing),
        ("an Event in the operator's name", "POST", events(&stand.namespace), JSON, &nothing),
        ("a token of the operator", "POST", token, JSON, &nothing),
        ("a pod beside the operator", "POST", pods, JSON, &nothing),
        ("the operator without a replica", "PATCH", deployment, MERGE, &nothing),
    ];
    for (what, method, uri, content, body) in rows {
        tenant.is_refused((what, 403), (method, &uri), content, body).await;
    }
}

/// Contacts that the schema or the apiserver refuses.
async fn writes_what_is_not_valid(tenant: &mut Tenant<'_>) {
    let stand = tenant.stand;
    let own = tenant.own("");
    let with = |fields: Value| stand.manifest("new", "Xunzi", fields);
    let from = |name: &str| {
        json!({ "emailAddress": null,
            "emailAddressFrom": { "secretKeyRef": { "name": name, "key": "mail" } } })
    };
    let mut elsewhere = with(json!({}));
    elsewhere["metadata"]["namespace"] = json!(tenant.neighbour);
    let mut long = with(json!({}));
    long["metadata"]["annotations"] = json!({ "note": "x".repeat(300_000) });
    let many: Vec<_> = (0..5_000).map(|number| format!("{number}")).collect();
    let rows = [
        ("another namespace in the body", 400, elsewhere),
        (
            "a Secret next door, by a path",
            422,
            with(from(&format!("{}/hoard-mail", tenant.neighbour))),
        ),
        ("a Secret above", 422, with(from("../hoard-mail"))),
        ("an annotation of 300 kB", 422, long),
        ("5000 members", 422, with(json!({ "members": many }))),
        (
            "an address of 10 kB",
            422,
            with(json!({ "emailAddress": format!("{}@example.com", "x".repeat(10_000)) })),
        ),
        (
            "a line break in an address",
            422,
            with(json!({ "emailAddress": "a@example.com\nb@example.com" })),
        ),
        ("a title of his own", 422, with(json!({ "title": "Owner" }))),
        ("a name with a slash", 422, with(json!({ "name": "Xun/zi" }))),
    ];
    for (what, code, manifest) in rows {
        tenant.is_refused((what, code), ("POST", &own), JSON, &manifest).await;
    }
    let moved = json!({ "spec": { "directoryRef": { "name": "another" } } });
    let good = tenant.own("/good");
    tenant.is_refused(("another directory", 422), ("PATCH", &good), MERGE, &moved).await;
    let renamed = with(json!({}));
    tenant.is_refused(("another name in the body", 400), ("PUT", &good), JSON, &renamed).await;
    let big = json!({ "metadata": { "labels": { "note": "x".repeat(4_000_000) } } });
    tenant.is_refused(("a request of 4 MB", 413), ("PATCH", &good), MERGE, &big).await;
}

/// Contacts that the apiserver takes and the operator stops.
async fn claims_what_is_not_his(tenant: &mut Tenant<'_>, closed: &Stand, stranger: &str) {
    let from = json!({ "emailAddress": null,
        "emailAddressFrom": { "secretKeyRef": { "name": "hoard-mail", "key": "mail" } } });
    for (what, object, name, spec, by) in [
        ("the neighbour's name", "claimant", "Schatz", json!({}), "NameClaimed"),
        (
            "and to adopt it",
            "adopter",
            "Schatz",
            json!({ "adoptionPolicy": "Always" }),
            "NameClaimed",
        ),
        (
            "all that it has",
            "guesser",
            "Schatz",
            json!({ "emailAddress": "treasure@example.com", "adoptionPolicy": "Always" }),
            "NameClaimed",
        ),
        ("a name that nobody holds", "taker", "Fremd", json!({}), "AdoptionRefused"),
        ("the name alone", "namesake", "Namen", json!({ "adoptionPolicy": "Never" }), "NameTaken"),
        (
            "to adopt it whatever it has",
            "greedy",
            "Gast",
            json!({ "adoptionPolicy": "Always" }),
            "AdoptionRefused",
        ),
        ("a Secret of that name next door", "reader", "Liezi", from, "SecretNotFound"),
        (
            "to be bound to all",
            "binder",
            "Hanfei",
            json!({ "members": ["rd-sim001"] }),
            "MemberNotAllowed",
        ),
        (
            "a directory that is not open to him",
            "guest",
            "Laozi",
            json!({ "directoryRef": { "name": closed.directory } }),
            "NamespaceNotAllowed",
        ),
        (
            "a directory that there is not",
            "lost",
            "Laozi",
            json!({ "directoryRef": { "name": "nowhere" } }),
            "DirectoryNotFound",
        ),
    ] {
        tenant.is_stopped(what, object, name, spec, by).await;
    }
    // Asleep first, and then awake.
    let asleep = json!({ "suspend": true });
    tenant.is_taken("asleep", "sleeper", &tenant.stand.manifest("sleeper", "Schatz", asleep)).await;
    tenant.is_stopped("asleep first", "sleeper", "Schatz", json!({}), "NameClaimed").await;
    // Renamed: his own contact keeps its name.
    tenant.is_stopped("his own, renamed", "good", "Schatz", json!({}), "NameClaimed").await;
    let good = tenant.stand.simulator.state().named("Kongzi").is_some();
    assert!(good, "his own contact was renamed");
    // To delete an object is not to delete what it wanted to hold.
    for object in ["claimant", "adopter", "sleeper", "taker"] {
        let uri = tenant.own(&format!("/{object}"));
        assert_eq!(send(&tenant.client, "DELETE", &uri, JSON, &json!({})).await.code, 200);
        tenant.stand.is_gone(object).await;
        tenant.tells(&format!("{object} deleted"), "nothing in the cloud");
    }
    assert!(tenant.stand.simulator.state().contact(stranger).is_some());
}

/// Objects that pretend: a status, an owner, an id, finalizers and labels of their own.
async fn pretends(tenant: &mut Tenant<'_>) {
    let stand = tenant.stand;
    let treasure = stand.contacts_in(&tenant.neighbour).get("treasure").await.unwrap();
    let uid = treasure.metadata.uid.clone().unwrap();
    let mut created = stand.manifest("pretender", "Zhuangzi", json!({}));
    created["status"] = json!({ "contactId": tenant.held, "directoryId": "rd-sim001",
        "directory": stand.directory });
    created["metadata"]["uid"] = json!(uid);
    created["metadata"]["creationTimestamp"] = json!("2001-01-01T00:00:00Z");
    created["metadata"]["finalizers"] = json!(["message-contacts.dev/contact"]);
    created["metadata"]["ownerReferences"] = json!([{ "uid": uid, "name": "treasure",
        "apiVersion": "message-contacts.dev/v1alpha1", "kind": "MessageContact",
        "controller": true, "blockOwnerDeletion": true }]);
    created["metadata"]["labels"] = json!({ "message-contacts.dev/exempt": "true" });
    created["metadata"]["annotations"] = json!({ "message-contacts.dev/contactId": tenant.held,
        "message-contacts.dev/namespace": tenant.neighbour });
    let own = tenant.own("");
    let Answer { code, message, .. } = send(&tenant.client, "POST", &own, JSON, &created).await;
    assert_eq!(code, 201, "{message}");
    let object = stand.becomes("pretender", "Synced", "InSync").await;
    assert_ne!(object.data["status"]["contactId"], tenant.held);
    tenant.tells("a status in a new object", "not stored");
    assert_ne!(object.metadata.uid, Some(uid));
    tenant.tells("the uid of the neighbour's", "not stored");
    assert_ne!(object.metadata.creation_timestamp, treasure.metadata.creation_timestamp);
    assert!(!format!("{:?}", object.metadata.creation_timestamp).contains("2001"));
    tenant.tells("an age that would win", "not stored");
    tenant.tells("an owner next door, labels and annotations", "without effect");

    let mut whole = stand.manifest("pretender", "Zhuangzi", json!({ "title": "CEO" }));
    whole["status"] = json!({ "contactId": tenant.held });
    tenant.is_taken("a status in an apply", "pretender", &whole).await;
    let object = stand.ask("pretender").await;
    assert_ne!(object.data["status"]["contactId"], tenant.held);
    tenant.tells("a status in an apply", "not stored");

    // Without its finalizer his own contact goes, and nobody else's.
    let uri = tenant.own("/pretender");
    let bare = json!({ "metadata": { "finalizers": null } });
    assert_eq!(send(&tenant.client, "PATCH", &uri, MERGE, &bare).await.code, 200);
    tenant.tells("his finalizer taken off", "his own alone");
    let again = json!({ "metadata": { "annotations": {
        "message-contacts.dev/resendRequestedAt": "now",
        "message-contacts.dev/requestedAt": "\u{1b}[31m".repeat(40) } } });
    assert_eq!(send(&tenant.client, "PATCH", &uri, MERGE, &again).await.code, 200);
    stand
        .sees("pretender", "it was handled", |it| {
            it.data["status"]["lastHandledReconcileAt"].is_string()
        })
        .await;
    tenant.tells("annotations of any text", "his own alone");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_reads_and_changes_nothing_outside_of_his_namespace() {
    let options = || Options::default();
    let closed = json!({ "namespaces": { "matchLabels": { "open-to": "nobody" } } });
    let closed = Stand::with(options(), closed).await;
    let allowed = json!({ "allowedMembers": [ALLOWED_ACCOUNT] });
    let stand = Stand::with(options(), allowed).await;
    let mut tenant = Tenant::of(&stand).await;
    let rule = json!({ "contact": { "phoneNumber": "Optional" }, "enforcement": "Audit" });
    stand.apply_policy("neighbours", rule).await;
    let stranger = stand.stranger("Fremd");
    let guest = stand.stranger("Gast");
    // Of two objects that want one name the older comes first, and within a second chance decides.
    stand.stranger("Namen");
    stand.ask_directory().await;
    // What he may do works.
    let good = stand.manifest("good", "Kongzi", json!({}));
    tenant.is_taken("his own contact", "good", &good).await;
    stand.becomes("good", "Synced", "InSync").await;
    let neighbours = stand.contacts_in(&tenant.neighbour);
    let before = neighbours.get("treasure").await.unwrap();
    let in_cloud = |id: &str| stand.simulator.state().contact(id).cloned().unwrap();
    let in_cloud_before = [stranger.as_str(), &guest, &tenant.held].map(in_cloud);
    let of_directory = stand.object_of_directory().await.data["spec"].clone();

    asks_for_what_is_not_his(&mut tenant).await;
    writes_what_is_not_valid(&mut tenant).await;
    claims_what_is_not_his(&mut tenant, &closed, &stranger).await;
    pretends(&mut tenant).await;

    println!("{} attempts, none with an effect outside", tenant.attempts);
    assert!(tenant.attempts >= 50);
    stand.ask_directory().await;
    let after = neighbours.get("treasure").await.unwrap();
    assert_eq!(after.data, before.data);
    assert_eq!(after.metadata.generation, before.metadata.generation);
    assert!(after.metadata.deletion_timestamp.is_none());
    let held = tenant.held.as_str();
    assert_eq!([stranger.as_str(), &guest, held].map(in_cloud), in_cloud_before);
    assert_eq!(stand.object_of_directory().await.data["spec"], of_directory);
    assert_eq!(stand.simulator.counts().of("DeleteMessageContact"), 0);
    assert_eq!(closed.simulator.counts().writes, 0);
    let seen = tenant.all_that_he_sees().await;
    tenant.tells_nothing("what he sees", &seen);
    assert!(!seen.contains(&tenant.neighbour), "{seen}");
    let _: &Api<DynamicObject> = &neighbours;
}

/// Kubernetes' own role `view` gets the same rights, which a controller manager would fill in.
#[tokio::test(flavor = "multi_thread")]
async fn who_may_view_contacts_sees_what_stands_in_specs_and_nothing_from_secrets() {
    let stand = Stand::new().await;
    let helm = tokio::task::block_in_place(|| Helm::offline("helm4"));
    let all = objects(&helm.renders(OPERATOR_NAMESPACE, &[]));
    let is_view = |it: &&Value| kind(it) == "ClusterRole" && name(it).ends_with("-view");
    let role = all.iter().find(is_view).unwrap();
    let to_view = "rbac.authorization.k8s.io/aggregate-to-view";
    assert_eq!(role["metadata"]["labels"][to_view], "true");
    let user = format!("viewer-of-{}", stand.namespace);
    grant_in(&stand.client, &stand.namespace, &user, &role["rules"]).await;
    stand.apply_directory(json!({})).await;
    stand.settled("open", "Offen", json!({ "emailAddress": "seen@example.com" })).await;
    stand.put("mailboxes", json!({ "mail": "unseen@example.com" })).await;
    stand.settled("hidden", "Versteckt", mail_from("mailboxes")).await;

    let viewer = stand.cluster.client_as(&user, &["system:authenticated"]);
    let kind = ApiResource::erase::<MessageContact>(&());
    let contacts: Api<DynamicObject> =
        Api::namespaced_with(viewer.clone(), &stand.namespace, &kind);
    let read = |object: &'static str| {
        let contacts = contacts.clone();
        async move { contacts.get(object).await.unwrap().data.to_string() }
    };
    let (open, hidden) = (read("open").await, read("hidden").await);
    assert!(open.contains("\"seen@example.com\""), "{open}");
    assert!(!hidden.contains("unseen@example.com"), "{hidden}");
    assert!(hidden.contains("u***@example.com"), "{hidden}");
    let secret = format!("/api/v1/namespaces/{}/secrets/mailboxes", stand.namespace);
    assert_eq!(send(&viewer, "GET", &secret, JSON, &Value::Null).await.code, 403);
}
