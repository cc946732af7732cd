//! Somebody wants to know why it does not work, and gets the one line that says it.

use std::path::Path;

use cluster::Cluster;
use directory_simulator::{
    ACCESS_KEY_ID, ACCESS_KEY_SECRET, Fault, FaultKind, Key, MANAGEMENT_ACCOUNT_ID, NewContact,
    Options, Role, Simulator,
};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use kube::Client;
use kube::api::{Api, DynamicObject};
use kube::core::ApiResource;
use message_contact_operator::api::{self, ResourceDirectory};
use message_contact_operator::clock::Clock;
use serde_json::{Value, json};

use crate::export::{manifests, run_with};
use crate::rights::{others, rule};
use crate::stand::{self, OPERATOR_NAMESPACE, Stand};

/// What doctor found, and how it ended.
struct Diagnosis {
    code: Option<i32>,
    checks: Vec<Value>,
    whole: String,
}

impl Diagnosis {
    /// Each check of that status, as `check: what was seen`.
    fn of(&self, status: &str) -> Vec<String> {
        let text = |check: &Value, field: &str| check[field].as_str().unwrap_or("").to_owned();
        self.checks
            .iter()
            .filter(|check| check["status"] == status)
            .map(|check| format!("{}: {}", text(check, "check"), text(check, "seen")))
            .collect()
    }

    /// Asserts that this has failed and nothing else, and that it was told by the exit code.
    #[track_caller]
    fn assert_failed(&self, check: &str, words: &[&str]) {
        let failed = self.of("failed");
        assert_eq!((self.code, failed.len()), (Some(1), 1), "{}", self.whole);
        assert!(failed[0].starts_with(&format!("{check}: ")), "{failed:?}");
        for word in words {
            assert!(self.whole.contains(word), "{word} in {}", self.whole);
        }
    }

    #[track_caller]
    fn assert_healthy(&self) {
        assert_eq!((self.code, self.of("failed")), (Some(0), Vec::new()), "{}", self.whole);
    }
}

async fn doctor(arguments: &[&str], variables: &[(&str, &str)]) -> Diagnosis {
    let mut all = vec!["doctor", "--output", "json"];
    all.extend(arguments);
    let ended = run_with(&all, variables).await;
    let checks = serde_json::from_str(&ended.out).unwrap_or_else(|_| panic!("{}", ended.errors));
    for secret in [ACCESS_KEY_ID, ACCESS_KEY_SECRET] {
        assert!(!ended.out.contains(secret) && !ended.errors.contains(secret));
    }
    Diagnosis { code: ended.code, checks, whole: ended.out }
}

/// Doctor's look at a simulator with these keys.
async fn look_at(simulator: &Simulator, id: &str, secret: &str) -> Diagnosis {
    let endpoint = simulator.endpoint();
    let variables = [
        ("ALIBABA_CLOUD_ACCESS_KEY_ID", id),
        ("ALIBABA_CLOUD_ACCESS_KEY_SECRET", secret),
        ("MCO_ALLOW_ENDPOINT", endpoint.as_str()),
    ];
    doctor(&["--no-cluster", "--endpoint", &endpoint], &variables).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_works_is_told_and_nothing_is_changed() {
    let simulator = stand::simulator(Options::default()).await;
    let contact = NewContact {
        members: vec!["fd-sim0000001".to_owned()],
        ..NewContact::new("Somebody", "somebody@example.com")
    };
    let id = simulator.insert_contact(contact);
    let before = simulator.state().contact(&id).unwrap().clone();
    let found = look_at(&simulator, ACCESS_KEY_ID, ACCESS_KEY_SECRET).await;
    found.assert_healthy();
    let ok = found.of("ok").join("\n");
    let parts = [
        "reachable",
        "clock",
        "credentials",
        "GetMessageContact is allowed",
        "quota",
        "A5 ",
        "A26 ",
    ];
    for part in parts {
        assert!(ok.contains(part), "{part} in {ok}");
    }
    // Every assumption is told of exactly once.
    let numbers: std::collections::BTreeSet<_> = found
        .whole
        .split(|char: char| !char.is_ascii_alphanumeric())
        .filter(|word| word.starts_with('A') && word[1..].parse::<u32>().is_ok())
        .collect();
    assert_eq!(numbers.len(), 33, "{numbers:?}");
    assert!(!found.whole.contains("somebody@example.com"));
    assert_eq!(simulator.state().contact(&id), Some(&before));
    let calls = simulator.calls().into_iter().map(|call| call.action);
    let writes: Vec<_> =
        calls.filter(|it| !it.starts_with("Get") && !it.starts_with("List")).collect();
    assert!(writes.is_empty(), "{writes:?}");
    assert_eq!(simulator.counts().in_flight_max, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn assumptions_are_told_as_the_directory_shows_them() {
    let simulator = stand::simulator(Options::default()).await;
    let id = simulator.insert_contact(NewContact::new("Moving", "old@example.com"));
    let change = directory_simulator::ContactChange {
        pending_email: Some("new@example.com".to_owned()),
        ..directory_simulator::ContactChange::default()
    };
    assert!(simulator.change_contact(&id, change));
    let seen = async |number: &str| {
        let found = look_at(&simulator, ACCESS_KEY_ID, ACCESS_KEY_SECRET).await;
        let ok = found.of("ok");
        ok.into_iter().find(|line| line.starts_with(&format!("{number} "))).unwrap_or(found.whole)
    };
    assert!(seen("A12").await.ends_with(": the one in force is shown"));
    assert!(seen("A31").await.ends_with(": it is answered"));
    let each = directory_simulator::Switches::each();
    let other = |number: &str| {
        let found = each.iter().find(|(name, _)| name.starts_with(number));
        let (_, switches) = found.unwrap_or_else(|| panic!("{number} is no switch"));
        switches.clone()
    };
    let (a12, a31) = (other("A12"), other("A31"));
    simulator.switches(|switches| *switches = a12);
    assert!(seen("A12").await.contains("otherwise than assumed"));
    simulator.switches(|switches| *switches = a31);
    assert!(seen("A31").await.contains("otherwise than assumed"));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_way_to_fail_in_the_cloud_is_one_line_with_advice() {
    let simulator = stand::simulator(Options::default()).await;
    let endpoint = simulator.endpoint();

    let found = look_at(&simulator, ACCESS_KEY_ID, "WrongSecret").await;
    found.assert_failed("credentials", &["were not accepted", "SignatureDoesNotMatch"]);

    let few = ["GetResourceDirectory", "ListMessageContacts"];
    simulator.add_key(Key::new("Few", "FewSecret").only(&few[..1]));
    let found = look_at(&simulator, "Few", "FewSecret").await;
    found.assert_failed("permissions", &["grant resourcemanager:ListMessageContacts"]);
    simulator.add_key(Key::new("More", "MoreSecret").only(&few));
    let found = look_at(&simulator, "More", "MoreSecret").await;
    assert_eq!(found.of("failed").len(), 3, "each call that is not allowed: {}", found.whole);
    assert!(found.whole.contains("grant resourcemanager:GetMessageContactDeletionStatus"));
    assert!(found.of("warning").iter().any(|line| line.contains("ListAccounts")));

    let skewed = FaultKind::ClockSkew { seconds: 3600 };
    simulator.fault(Fault::on("GetResourceDirectory", skewed).times(9));
    let found = look_at(&simulator, ACCESS_KEY_ID, ACCESS_KEY_SECRET).await;
    found.assert_failed("clock", &["60 minutes behind the cloud's"]);
    simulator.clear_faults();

    simulator.in_use(false);
    let found = look_at(&simulator, ACCESS_KEY_ID, ACCESS_KEY_SECRET).await;
    found.assert_failed("identity", &["has no resource directory"]);
    simulator.in_use(true);

    let (_socket, deaf) = stand::deaf_endpoint();
    let keys = [
        ("ALIBABA_CLOUD_ACCESS_KEY_ID", ACCESS_KEY_ID),
        ("ALIBABA_CLOUD_ACCESS_KEY_SECRET", ACCESS_KEY_SECRET),
        ("MCO_ALLOW_ENDPOINT", deaf.as_str()),
    ];
    let found = doctor(&["--no-cluster", "--endpoint", &deaf], &keys).await;
    found.assert_failed("reachable", &["egress rules"]);

    // What is not allowed is not asked.
    let before = simulator.counts().of("GetResourceDirectory");
    let found = doctor(&["--no-cluster", "--endpoint", &endpoint], &keys).await;
    found.assert_failed("settings", &["--allow-endpoint"]);
    assert_eq!(simulator.counts().of("GetResourceDirectory"), before);

    let pinned = json!({ "apiVersion": "message-contacts.dev/v1alpha1",
        "kind": "ResourceDirectory", "metadata": { "name": "main" },
        "spec": { "endpoint": endpoint, "directoryId": "rd-other1" } });
    let path = manifests(&[pinned]);
    let keys = [keys[0], keys[1], ("MCO_ALLOW_ENDPOINT", endpoint.as_str())];
    let found = doctor(&["--no-cluster", "-f", &path], &keys).await;
    found.assert_failed("identity", &["rd-other1"]);
}

/// Doctor's look at a cluster with that login, and at its directories with these keys.
async fn look_into(kubeconfig: &Path, endpoint: &str) -> Diagnosis {
    let variables = [
        ("KUBECONFIG", kubeconfig.to_str().unwrap()),
        ("ALIBABA_CLOUD_ACCESS_KEY_ID", ACCESS_KEY_ID),
        ("ALIBABA_CLOUD_ACCESS_KEY_SECRET", ACCESS_KEY_SECRET),
        ("MCO_ALLOW_ENDPOINT", endpoint),
    ];
    doctor(&[], &variables).await
}

async fn grant(client: &Client, user: &str, rules: Vec<Value>) {
    let api = |kind| Api::<DynamicObject>::all_with(client.clone(), &kind);
    let role = json!({ "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": { "name": user }, "rules": rules });
    stand::apply(&api(ApiResource::erase::<ClusterRole>(&())), &role).await.unwrap();
    let group = "rbac.authorization.k8s.io";
    let binding = json!({ "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding", "metadata": { "name": user },
        "subjects": [{ "apiGroup": group, "kind": "User", "name": user }],
        "roleRef": { "apiGroup": group, "kind": "ClusterRole", "name": user } });
    stand::apply(&api(ApiResource::erase::<ClusterRoleBinding>(&())), &binding).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn each_way_to_fail_in_the_cluster_is_one_line_with_advice() {
    let cluster = Cluster::start(cluster::Options::default()).await.unwrap();
    let simulator = stand::simulator(Options::default()).await;
    let endpoint = simulator.endpoint();
    let admin = cluster.kubeconfig_path().to_owned();

    // An empty cluster.
    let found = look_into(&admin, &endpoint).await;
    let failed = found.of("failed").join("\n");
    for kind in ["MessageContact", "ResourceDirectory", "ContactPolicy"] {
        assert!(failed.contains(&format!("definitions: there is no kind {kind}")), "{failed}");
    }
    assert!(found.whole.contains("message-contact-operator crds | kubectl apply"));

    // Definitions of another version.
    let mut old = api::crds();
    let schema = old[0].spec.versions[0].schema.as_mut().unwrap();
    let schema = schema.open_api_v3_schema.as_mut().unwrap().properties.as_mut().unwrap();
    schema.get_mut("spec").unwrap().properties.as_mut().unwrap().remove("suspend").unwrap();
    cluster.apply_crds(&old).await.unwrap();
    let found = look_into(&admin, &endpoint).await;
    let message =
        "it differs at spec.versions[0].schema.openAPIV3Schema.properties.spec.properties";
    found.assert_failed("definitions", &[message, "suspend"]);

    // Everything is there, rules of admission and directories aside.
    cluster.apply_crds(&api::crds()).await.unwrap();
    let found = look_into(&admin, &endpoint).await;
    found.assert_healthy();
    let warnings = found.of("warning");
    let admission = warnings.iter().filter(|line| line.starts_with("admission: there is no"));
    assert_eq!(admission.count(), 6, "{warnings:?}");
    assert!(warnings.iter().any(|line| line.contains("there is no ResourceDirectory")));
    stand::prepare(&cluster).await;
    let found = look_into(&admin, &endpoint).await;
    found.assert_healthy();
    assert_eq!(found.of("ok").iter().filter(|line| line.starts_with("admission: ")).count(), 6);

    // A directory at which no operator has looked.
    let directories: Api<DynamicObject> =
        Api::all_with(cluster.client(), &ApiResource::erase::<ResourceDirectory>(&()));
    let object = json!({ "apiVersion": "message-contacts.dev/v1alpha1",
        "kind": "ResourceDirectory", "metadata": { "name": "main" },
        "spec": { "endpoint": endpoint, "namespaces": {},
            "credentials": { "source": "Secret", "secretRef": { "name": "keys" } } } });
    stand::apply(&directories, &object).await.unwrap();
    let found = look_into(&admin, &endpoint).await;
    let failed = found.of("failed").join("\n");
    assert!(failed.contains("status: the operator has not looked at it"), "{failed}");
    assert!(failed.contains("credentials: there is no Secret `keys`"), "{failed}");

    // The operator runs, with its own rights, and doctor with the same ones.
    let kind = ApiResource::erase::<k8s_openapi::api::core::v1::Secret>(&());
    let secrets: Api<DynamicObject> =
        Api::namespaced_with(cluster.client(), OPERATOR_NAMESPACE, &kind);
    let secret = json!({ "apiVersion": "v1", "kind": "Secret",
        "metadata": { "name": "keys", "namespace": OPERATOR_NAMESPACE },
        "stringData": { "accessKeyId": ACCESS_KEY_ID, "accessKeySecret": ACCESS_KEY_SECRET } });
    stand::apply(&secrets, &secret).await.unwrap();
    let names = ["messagecontacts", "resourcedirectories"]
        .map(|plural| format!("{plural}.message-contacts.dev"));
    let definitions = json!({ "apiGroups": ["apiextensions.k8s.io"],
        "resources": ["customresourcedefinitions"], "resourceNames": names, "verbs": ["get"] });
    let patch = rule("message-contacts.dev", "resourcedirectories", &["patch"]);
    let own = rule("", "secrets", &["get", "create"]);
    let leases = rule("coordination.k8s.io", "leases", &["create", "get", "update", "watch"]);
    let mut rules = others();
    rules.extend([definitions, patch.clone(), own, leases]);
    grant(&cluster.client(), "operator", rules.clone()).await;
    let client = cluster.client_as("operator", &[]);
    let operator = tokio::spawn(stand::run_operator(client, Clock::system()));
    stand::becomes(&directories, "main", "Ready", "Connected").await;
    let login = cluster.kubeconfig_as("operator", &["system:authenticated"]).unwrap();
    let found = look_into(&login, &endpoint).await;
    found.assert_healthy();
    let told = [found.of("ok"), found.of("skipped")].concat().join("\n");
    for part in ["status: Ready is True", "28 rights", "ContactPolicy is there", "credentials: "] {
        assert!(told.contains(part), "{part} in {told}");
    }

    // One right too few.
    rules.retain(|granted| *granted != patch);
    grant(&cluster.client(), "operator", rules).await;
    let found = look_into(&login, &endpoint).await;
    found.assert_failed("rights", &["may not `patch` on resourcedirectories"]);
    operator.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_role_that_is_asked_for_is_taken_for_each_directory_of_the_cluster() {
    let stand = Stand::new().await;
    stand.simulator.roles(vec![Role::new("desk")]);
    let endpoint = stand.simulator.endpoint();
    let variables = [
        ("KUBECONFIG", stand.cluster.kubeconfig_path().to_str().unwrap()),
        ("ALIBABA_CLOUD_ACCESS_KEY_ID", ACCESS_KEY_ID),
        ("ALIBABA_CLOUD_ACCESS_KEY_SECRET", ACCESS_KEY_SECRET),
        ("ALIBABA_CLOUD_STS_ENDPOINT", endpoint.as_str()),
        ("MCO_ALLOW_ENDPOINT", endpoint.as_str()),
    ];
    let look = async |role: &str| {
        let arn = format!("acs:ram::{MANAGEMENT_ACCOUNT_ID}:role/{role}");
        doctor(&["--directory", &stand.directory, "--assume-role", &arn], &variables).await
    };
    let found = look("desk").await;
    let ok = found.of("ok").join("\n");
    assert!(ok.contains("credentials: the access keys are accepted"), "{}", found.whole);
    assert_eq!(stand.simulator.counts().of("AssumeRole"), 1);
    // One that is not there is not passed over for the keys that would do.
    let found = look("nobody").await;
    let failed = found.of("failed").join("\n");
    assert!(failed.contains("EntityNotExist.Role"), "{}", found.whole);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_is_not_there_is_told_apart_from_none() {
    let simulator = stand::simulator(Options::default()).await;
    let endpoint = simulator.endpoint();
    let (_socket, deaf) = stand::deaf_endpoint();
    let kubeconfig = crate::process::kubeconfig(&deaf);
    let found = look_into(&kubeconfig, &endpoint).await;
    let failed = found.of("failed").join("\n");
    assert!(failed.contains("connection: the apiserver could not be reached"), "{failed}");
    let variables = [
        ("HOME", "/nonexistent"),
        ("ALIBABA_CLOUD_ACCESS_KEY_ID", ACCESS_KEY_ID),
        ("ALIBABA_CLOUD_ACCESS_KEY_SECRET", ACCESS_KEY_SECRET),
        ("MCO_ALLOW_ENDPOINT", endpoint.as_str()),
    ];
    let found = doctor(&["--endpoint", &endpoint], &variables).await;
    found.assert_healthy();
    let skipped = found.of("skipped").join("\n");
    assert!(skipped.contains("connection: no cluster: set KUBECONFIG"), "{skipped}");
}
