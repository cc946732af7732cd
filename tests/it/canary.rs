//! What is private stays private, whatever the cloud and the apiserver answer. Every other story
//! looks for its own values as well: see `Drop` of `Stand`.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use axum::http::{Method, StatusCode};
use cluster::{By, Cluster};
use directory_simulator::{
    ACCESS_KEY_ID, ACCESS_KEY_SECRET, ContactChange, DeletionPlan, FailReason, Fault, FaultKind,
    Key, Options, Session,
};
use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
};
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::events::v1::Event;
use kube::api::{Api, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::ApiResource;
use message_contact_operator::api::REQUESTED_AT;
use serde_json::{Value, json};

use crate::privacy;
use crate::process;
use crate::stand::{self, OPERATOR_NAMESPACE, PATIENCE, Stand, condition_of};

/// An answer that the operator reads as JSON and that is made to be shown.
fn hostile(status: u16, code: &str, request_id: &str, message: &str) -> FaultKind {
    let body = json!({ "RequestId": request_id, "Code": code, "Message": message,
        "HostId": message, "Recommend": message, "AccessDeniedDetail": { "AuthAction": message } });
    FaultKind::Raw {
        status,
        headers: vec![("Content-Type".to_owned(), "application/json".to_owned())],
        body: body.to_string(),
        repeat: 1,
        executed: false,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_answers_show_nothing_private() {
    let stand = Stand::new().await;
    let address = |object: &str| format!("{object}.mailbox@example.com");
    let phone = "86-13800138061";
    let all_of_it = format!(
        "{} {phone} {ACCESS_KEY_SECRET} server string to sign is:POST&%2F&\
        AccessKeyId%3D{ACCESS_KEY_ID}%26EmailAddress%3Dcodefirst.mailbox%2540example.com",
        address("codefirst")
    );
    let cases = [
        // The code is the address; the id is the number.
        ("codefirst", "Kabuleo", hostile(400, &address("codefirst"), "86-13800138061", &all_of_it)),
        // They look like a code and like an id.
        ("codelocal", "Tirasen", hostile(400, "codelocal.mailbox", "8613800138061", &all_of_it)),
        ("codenumber", "Velhosa", hostile(400, "InvalidParameter.13800138061", "13800138061", "")),
        ("codename", "Quorinta", hostile(400, "InvalidParameter.Quorinta", "", "Quorinta")),
        ("codesecret", "Mibrado", hostile(400, ACCESS_KEY_SECRET, ACCESS_KEY_SECRET, "")),
        // A documented code with private neighbours.
        ("codequota", "Sufelan", hostile(400, "LimitExceeded.Contacts", "13800138061", &all_of_it)),
    ];
    for (object, name, kind) in cases {
        stand.private.add(&format!("{object}.mailbox"));
        stand.simulator.fault(Fault::on("AddMessageContact", kind));
        let fields = json!({ "emailAddress": address(object), "phoneNumber": phone });
        stand.apply(object, name, fields).await;
        let refused = stopped(&stand, object).await;
        // It did hear of it, and says so without those words.
        assert_eq!(refused["status"], "False", "{object}: {refused}");
        assert_eq!(stand.shown().await, [""; 0]);
    }

    // A deletion that fails, for reasons made to be shown.
    stand.private.add("kept.mailbox");
    stand.apply("kept", "Dulferan", json!({ "emailAddress": address("kept") })).await;
    let kept = stand.becomes("kept", "Synced", "InSync").await;
    // Bound, so that its deletion runs in the background.
    let members = Some(vec!["2000000000000001".to_owned()]);
    let change = ContactChange { members, ..ContactChange::default() };
    let id = kept.data["status"]["contactId"].as_str().unwrap();
    assert!(stand.simulator.change_contact(id, change));
    let forged = "\n2026-01-01T00:00:00Z ERROR a forged line";
    let reason = |account: &str| FailReason {
        account_id: account.to_owned(),
        message_types: vec![address("kept"), forged.to_owned(), "FaultMessage".to_owned()],
    };
    let reasons = [&address("kept"), "8613800138061", forged, "1000000000000001"].map(reason);
    let reasons = reasons.to_vec();
    stand.simulator.deletion(DeletionPlan { after_ms: 100, reasons, times: Some(1) });
    stand.delete("kept").await;
    let kept = stand.becomes("kept", "Synced", "DeletionFailed").await;
    let message = condition_of(&kept, "Synced")["message"].to_string();
    let accounts = "an account (FaultMessage); account 1000000000000001 (FaultMessage); give";
    assert!(message.contains(accounts), "{message}");
    assert_eq!(stand.shown().await, [""; 0]);
    let told = stand.told().await;
    assert!(told.events.contains(accounts), "{}", told.events);
    for text in [&told.log, &told.events, &told.conditions] {
        assert!(!text.contains("forged") && !text.contains("8613800138061"), "{text}");
    }
    stand.simulator.deletion(DeletionPlan { after_ms: 100, ..DeletionPlan::default() });
    let asked = json!({ "metadata": { "annotations": { REQUESTED_AT: "now" } } });
    let parameters = PatchParams::default();
    stand.contacts().patch("kept", &parameters, &Patch::Merge(&asked)).await.unwrap();
    stand.is_gone("kept").await;

    // What is no JSON, and what never comes.
    let page = FaultKind::Raw {
        status: 502,
        headers: vec![("Content-Type".to_owned(), "text/html".to_owned())],
        body: format!("<html><Error><Code>{phone}</Code></Error>{all_of_it}</html>"),
        repeat: 1,
        executed: true,
    };
    let lost = [
        ("lostpage", "Nordeva", page),
        ("lostdrop", "Ibelson", FaultKind::Drop { executed: true }),
        ("lostreset", "Wakimer", FaultKind::Reset { executed: true }),
        ("lostbody", "Zuliken", FaultKind::CutBody { bytes: 40 }),
    ];
    for (object, name, kind) in lost {
        stand.simulator.fault(Fault::on("AddMessageContact", kind));
        stand.apply(object, name, json!({ "emailAddress": address(object) })).await;
        stand.becomes(object, "Synced", "InSync").await;
    }
}

/// The `Synced` condition once a call for the object was refused.
async fn stopped(stand: &Stand, object: &str) -> Value {
    let contacts = stand.contacts();
    cluster::wait_for(PATIENCE, &format!("{object} is refused"), || async {
        let found = contacts.get(object).await.map_err(|error| error.to_string())?;
        let synced = condition_of(&found, "Synced");
        let refused = synced["message"].to_string().contains("AddMessageContact");
        if refused { Ok(synced) } else { Err(found.data["status"].to_string()) }
    })
    .await
    .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_signature_does_not_show_the_text_that_was_signed() {
    let stand = Stand::unconnected(Options::default()).await;
    let (secret, token) = ("CanarySecretOfARole", "CanaryToken/with+odd=characters");
    let key = Key {
        session: Some(Session {
            token: token.to_owned(),
            expires_at: stand.simulator.now() + Duration::from_hours(10),
        }),
        ..Key::new("STS.CanaryKeyId", secret)
    };
    stand.private.add(secret);
    stand.private.add(token);
    stand.simulator.add_key(key.clone());
    let secrets: Api<Secret> = Api::namespaced(stand.client.clone(), OPERATOR_NAMESPACE);
    let name = format!("keys-{}", stand.namespace);
    let manifest = json!({ "metadata": { "name": name }, "stringData": {
        "accessKeyId": key.id, "accessKeySecret": secret, "securityToken": token } });
    let manifest: Secret = serde_json::from_value(manifest).unwrap();
    secrets.create(&PostParams::default(), &manifest).await.unwrap();
    let credentials = json!({ "source": "Secret", "secretRef": { "name": name } });
    stand.apply_directory(json!({ "credentials": credentials })).await;
    stand.directory_becomes("Ready", "Connected").await;

    // From here the cloud checks with another secret, and its answers repeat what was signed.
    stand.simulator.add_key(Key { secret: "CanaryOfTheCloud".to_owned(), ..key.clone() });
    let fields = json!({ "emailAddress": "signed+canary@example.com",
        "phoneNumber": "86-13800138062" });
    stand.apply("signed", "Bertolan", fields).await;
    let refused = stopped(&stand, "signed").await;
    assert_eq!(refused["reason"], "Unauthorized", "{refused}");
    assert_eq!(stand.simulator.counts().ended("OK"), 2, "identity and list only");
    assert!(stand.simulator.counts().ended("SignatureDoesNotMatch") > 0);
    assert_eq!(stand.shown().await, [""; 0]);
}

/// An admission policy of the cluster, in this story's namespace, refuses the operator's write
/// with a text that quotes the object.
#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_of_the_apiserver_shows_no_value_it_quotes() {
    let stand = Stand::new().await;
    let policy = format!("quoting-{}", stand.namespace);
    let rules = json!([{ "apiGroups": ["message-contacts.dev"], "apiVersions": ["*"],
        "operations": ["UPDATE"], "resources": ["messagecontacts", "messagecontacts/status"] }]);
    let namespace = json!({ "matchLabels": { "kubernetes.io/metadata.name": stand.namespace } });
    let quoting = json!({
        "metadata": { "name": policy },
        "spec": {
            "matchConstraints": { "resourceRules": rules, "namespaceSelector": namespace },
            "validations": [{ "expression": "false", "message": "refused",
                "messageExpression": "'refused: ' + object.spec.emailAddress + object.spec.name" }],
        },
    });
    let binding = json!({
        "metadata": { "name": policy },
        "spec": { "policyName": policy, "validationActions": ["Deny"] },
    });
    let policies: Api<ValidatingAdmissionPolicy> = Api::all(stand.client.clone());
    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(stand.client.clone());
    create(&policies, quoting).await;
    create(&bindings, binding).await;
    // A probe of our own tells when it is in force. No operator touches it: it is suspended.
    let probe = json!({ "suspend": true, "emailAddress": "probe.canary@example.com" });
    stand.apply("probe", "Harumin", probe).await;
    let contacts = stand.contacts();
    let dry = PatchParams { dry_run: true, ..PatchParams::default() };
    let touch = json!({ "metadata": { "labels": { "touched": "yes" } } });
    let quoted = cluster::wait_for(PATIENCE, "the policy is in force", || async {
        match contacts.patch("probe", &dry, &Patch::Merge(&touch)).await {
            Err(kube::Error::Api(refusal)) => Ok(refusal.message),
            other => Err(format!("{other:?}")),
        }
    })
    .await
    .unwrap();
    assert!(privacy::find(&quoted, "probe.canary@example.com").is_some(), "{quoted}");

    let mark = stand.cluster.audit().mark().unwrap();
    let fields = json!({ "emailAddress": "quoted.canary@example.com" });
    stand.apply("quoted", "Olmeira", fields).await;
    cluster::wait_for(PATIENCE, "the operator's write is refused", || async {
        let writes = stand.cluster.audit().writes(mark, By::UserAgent("message-contact-operator"));
        let mut writes = writes.map_err(|error| error.to_string())?;
        writes.retain(|write| write.namespace == stand.namespace && write.name == "quoted");
        let refused = writes.iter().any(|write| write.code == 422);
        if refused { Ok(()) } else { Err(format!("{writes:?}")) }
    })
    .await
    .unwrap();

    bindings.delete(&policy, &kube::api::DeleteParams::default()).await.unwrap();
    policies.delete(&policy, &kube::api::DeleteParams::default()).await.unwrap();
    stand.becomes("quoted", "Synced", "InSync").await;
    // Told that it was interrupted, and no more.
    let log = stand.told().await.log;
    assert!(log.lines().any(|line| line.contains("interrupted") && line.contains("422")), "{log}");
}

async fn create<K>(api: &Api<K>, object: Value)
where
    K: Clone + std::fmt::Debug + serde::Serialize + serde::de::DeserializeOwned,
{
    let object: K = serde_json::from_value(object).unwrap();
    api.create(&PostParams::default(), &object).await.unwrap();
}

/// The scan can fail: it reads what it should read, and finds what is planted there.
#[tokio::test(flavor = "multi_thread")]
async fn a_planted_value_is_found_wherever_people_read() {
    let stand = Stand::new().await;
    stand.apply("planted", "Gravoni", json!({})).await;
    stand.becomes("planted", "Synced", "InSync").await;
    assert_eq!(stand.shown().await, [""; 0]);
    let told = stand.told().await;
    // The calls of this directory, the Event of the creation, the words of the condition.
    let span = format!("directory=\"{}\"", stand.directory);
    let is_call = |line: &str| {
        line.contains("DEBUG") && line.contains(&span) && line.contains("\"AddMessageContact\"")
    };
    assert!(told.log.lines().any(is_call), "{}", told.log);
    let is_change = |line: &str| {
        line.contains("INFO")
            && line.contains("a change was asked of the cloud")
            && line.contains("name=\"planted\"")
            && line.contains("changed_by=\"a-person\" outcome=\"ok\"")
    };
    assert_eq!(told.log.lines().filter(|line| is_change(line)).count(), 1, "{}", told.log);
    assert!(told.events.contains("the contact was created in the directory"), "{}", told.events);
    assert!(told.conditions.contains("the directory answers"), "{}", told.conditions);
    assert!(told.statuses.contains("p***@example.com"), "{}", told.statuses);

    // The values are not this stand's, so that only the look below finds them.
    let address = "plant+canary@example.com";
    let encoded = "plant%2Bcanary%40example.com";
    let in_library = "library.canary@example.com";
    tracing::info!(target: "message_contact_operator::canary", "one {address} two {encoded}");
    tracing::error!(target: "kube_client::client", "{in_library}");
    let event = json!({
        "metadata": { "name": "planted", "namespace": stand.namespace },
        "eventTime": "2026-01-01T00:00:00.000000Z", "action": "Plant", "reason": "Planted",
        "type": "Normal", "reportingController": "canary", "reportingInstance": "canary",
        "note": format!("sent to 86-13800138063 and {address} for Tosabelle"),
        "regarding": { "kind": "MessageContact", "name": "planted", "namespace": stand.namespace },
    });
    let events: Api<Event> = Api::namespaced(stand.client.clone(), &stand.namespace);
    create(&events, event).await;
    let told = stand.told().await;
    let found = |text: &str, value: &str| privacy::find(text, value).unwrap_or_default();
    assert!(found(&told.log, address).contains("one plant+canary"));
    assert!(privacy::find(&told.log, in_library).is_none(), "libraries are not logged");
    assert!(found(&told.events, "1-13800138063").contains("86-13800138063"));
    assert!(found(&told.events, address).contains(address));
    assert!(privacy::find_word(&told.events, "Tosabelle").is_some());
    assert!(privacy::find_word(&told.events, "Tosabell").is_none(), "a part of a word");
    // Each form by itself: as it is sent, as it is signed, as a Secret holds it.
    for form in [encoded, "plant%252Bcanary%2540example.com", "cGxhbnQrY2FuYXJ5QGV4YW1wbGUuY29t"] {
        assert_eq!(found(&format!("before\n{form}\nafter"), address), form);
    }
}

/// The binary itself, with everything switched on.
#[tokio::test(flavor = "multi_thread")]
async fn the_program_at_log_level_trace_shows_nothing_private() {
    let cluster = Cluster::start(cluster::Options::default()).await.unwrap();
    stand::prepare(&cluster).await;
    let simulator = stand::simulator(Options::default()).await;
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let path = folder.join(format!("canary-{}.log", std::process::id()));
    let mut operator = Running(
        Command::new(env!("CARGO_BIN_EXE_message-contact-operator"))
            .args([
                "run",
                "--log",
                "trace",
                "--health-addr",
                "127.0.0.1:0",
                "--metrics-addr",
                "127.0.0.1:0",
            ])
            .args(["--allow-endpoint", &simulator.endpoint()])
            .env_clear()
            .env("KUBECONFIG", cluster.kubeconfig_path())
            .env("ALIBABA_CLOUD_ACCESS_KEY_ID", ACCESS_KEY_ID)
            .env("ALIBABA_CLOUD_ACCESS_KEY_SECRET", ACCESS_KEY_SECRET)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&path).unwrap())
            .spawn()
            .unwrap(),
    );
    let client = cluster.client();
    let kind = ApiResource::erase::<message_contact_operator::api::ResourceDirectory>(&());
    let directories: Api<DynamicObject> = Api::all_with(client.clone(), &kind);
    let directory = json!({ "apiVersion": "message-contacts.dev/v1alpha1",
        "kind": "ResourceDirectory", "metadata": { "name": "default" },
        "spec": { "endpoint": simulator.endpoint(), "namespaces": {} } });
    stand::apply(&directories, &directory).await.unwrap();
    let kind = ApiResource::erase::<message_contact_operator::api::MessageContact>(&());
    let contacts: Api<DynamicObject> = Api::namespaced_with(client, "default", &kind);
    let (address, phone) = ("binary+canary@example.com", "86-13800138064");
    let refused = hostile(400, address, phone, address);
    simulator.fault(Fault::on("AddMessageContact", refused));
    for (object, name) in [("first", "Pelorine"), ("second", "Yastredo")] {
        let contact = json!({ "apiVersion": "message-contacts.dev/v1alpha1",
            "kind": "MessageContact", "metadata": { "name": object },
            "spec": { "name": name, "title": "CEO", "emailAddress": address, "phoneNumber": phone,
                "messageTypes": ["FaultMessage"], "readyWhen": "Synced" } });
        stand::apply(&contacts, &contact).await.unwrap();
        let reason = if object == "first" { "CloudUnavailable" } else { "InSync" };
        stand::becomes(&contacts, object, "Synced", reason).await;
    }
    operator.0.kill().unwrap();
    operator.0.wait().unwrap();

    let log = fs::read_to_string(&path).unwrap();
    fs::remove_file(&path).unwrap();
    let is_call = |line: &str| {
        line.contains("DEBUG") && line.contains(" message_contact_operator::cloud: call ")
    };
    assert!(log.lines().any(is_call), "{log}");
    let kubeconfig = fs::read_to_string(cluster.kubeconfig_path()).unwrap();
    let token = kubeconfig.split("token").nth(1).unwrap();
    let token = token.split(|c: char| !c.is_ascii_alphanumeric()).find(|part| part.len() > 20);
    for value in [address, phone, ACCESS_KEY_SECRET, token.unwrap()] {
        assert_eq!(privacy::find(&log, value), None);
    }
    for name in ["Pelorine", "Yastredo"] {
        assert_eq!(privacy::find_word(&log, name), None);
    }
}

/// What kube says of a kubeconfig quotes the lines around a mistake.
#[test]
fn a_broken_kubeconfig_shows_no_token() {
    let token = "CanaryTokenOfAKubeconfig";
    let with = |user: &str, rest: &str| {
        format!("apiVersion: v1\nkind: Config\nusers:\n- name: a\n  user: {{{user}}}\n{rest}\n")
    };
    let clusters = "clusters: [{name: a, cluster: {server: 'https://127.0.0.1:1'}}]\n\
                    contexts: [{name: a, context: {cluster: a, user: a}}]\ncurrent-context: a";
    let plain = format!("token: {token}, password: {token}");
    let certificate = format!("client-certificate-data: {token}, client-key-data: '%{token}'");
    let program = format!(
        "exec: {{apiVersion: client.authentication.k8s.io/v1, command: sh, \
         interactiveMode: Never, args: ['-c', 'echo {token}; echo {token} >&2; exit 1']}}"
    );
    let cases = [
        (with(&plain, "  token: ["), "cannot be read as a kubeconfig"),
        (with(&plain, &format!("clusters: {token}")), "cannot be read as a kubeconfig"),
        (with(&plain, ""), "selects no cluster"),
        (with(&plain, &format!("current-context: {token}")), "selects no cluster"),
        (with(&certificate, clusters), "no usable way to log in"),
        (with(&program, clusters), "no usable way to log in"),
    ];
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let path = folder.join(format!("canary-{}.kubeconfig", std::process::id()));
    for (content, expected) in cases {
        fs::write(&path, &content).unwrap();
        let paths = std::env::var("PATH").unwrap();
        let variables = [("KUBECONFIG", path.to_str().unwrap()), ("PATH", &paths)];
        let arguments = [
            "run",
            "--log",
            "trace",
            "--health-addr",
            "127.0.0.1:0",
            "--metrics-addr",
            "127.0.0.1:0",
        ];
        let output = process::run(&arguments, &variables);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && said.contains(expected), "{content}\n{said}");
        assert_eq!(privacy::find(&said, token), None, "{content}");
    }
    fs::remove_file(&path).unwrap();
}

/// A refusal of the Secret with the key of the hashes may quote the key.
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_hash_key_is_not_shown() {
    let quoted = "CanaryOfAQuotedHashKey";
    let answer = move |method: Method| async move {
        let (code, reason) =
            if method == Method::GET { (404, "NotFound") } else { (422, "Invalid") };
        let status = json!({ "kind": "Status", "apiVersion": "v1", "metadata": {},
            "status": "Failure", "message": quoted, "reason": reason, "code": code });
        let code = StatusCode::from_u16(code).unwrap();
        (code, [("Content-Type", "application/json")], status.to_string())
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = format!("http://{}", listener.local_addr().unwrap());
    let router = axum::Router::new().fallback(answer);
    tokio::spawn(async move { axum::serve(listener, router).await });
    let path = process::kubeconfig(&server);
    let output = tokio::task::spawn_blocking(move || {
        let arguments = [
            "run",
            "--leader-election=false",
            "--log",
            "trace",
            "--health-addr",
            "127.0.0.1:0",
            "--metrics-addr",
            "127.0.0.1:0",
        ];
        let output = process::run(&arguments, &[("KUBECONFIG", path.to_str().unwrap())]);
        fs::remove_file(&path).unwrap();
        output
    });
    let output = output.await.unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && said.contains("the apiserver answered 422"), "{said}");
    assert_eq!(privacy::find(&said, quoted), None);
}

/// Ends the program also when the story fails.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
