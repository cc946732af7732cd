//! Who has contacts in the cloud gets them into git, and nothing changes by it.

use directory_simulator::{
    ACCESS_KEY_ID, ACCESS_KEY_SECRET, ContactChange, NewContact, Options, Simulator,
};
use kube::api::{Api, DynamicObject};
use kube::core::ApiResource;
use serde_json::{Value, json};

use crate::process;
use crate::stand::{self, Stand};

/// What a command printed, and how it ended.
pub struct Ended {
    pub code: Option<i32>,
    pub out: String,
    pub errors: String,
}

/// Runs the program with the simulator's keys in its environment, and with its endpoint allowed.
pub async fn run(simulator: &Simulator, arguments: &[&str]) -> Ended {
    let endpoint = simulator.endpoint();
    let variables = [
        ("ALIBABA_CLOUD_ACCESS_KEY_ID", ACCESS_KEY_ID),
        ("ALIBABA_CLOUD_ACCESS_KEY_SECRET", ACCESS_KEY_SECRET),
        ("MCO_ALLOW_ENDPOINT", endpoint.as_str()),
        ("HOME", "/nonexistent"),
    ];
    run_with(arguments, &variables).await
}

/// Runs the program with these variables only.
pub async fn run_with(arguments: &[&str], variables: &[(&str, &str)]) -> Ended {
    let owned = |text: &&str| (*text).to_owned();
    let arguments: Vec<_> = arguments.iter().map(owned).collect();
    let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    let variables: Vec<_> = variables.iter().map(pair).collect();
    let run = move || {
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        let variables: Vec<_> =
            variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        process::run(&arguments, &variables)
    };
    let output = tokio::task::spawn_blocking(run).await.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ended { code: output.status.code(), out: text(output.stdout), errors: text(output.stderr) }
}

/// A file with these objects, one YAML document each.
pub fn manifests(objects: &[Value]) -> String {
    let path = process::scratch("yaml");
    let documents: Vec<_> =
        objects.iter().map(|object| serde_saphyr::to_string(object).unwrap()).collect();
    std::fs::write(&path, documents.join("---\n")).unwrap();
    path.to_str().unwrap().to_owned()
}

fn documents(yaml: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(yaml).unwrap()
}

/// Three contacts that are to come into git, one that is there, and one that no manifest can keep.
fn fill(stand: &Stand) -> [String; 3] {
    let of = |name: &str, email: &str| NewContact {
        title: "TechnicalDirector".to_owned(),
        message_types: vec!["SecurityMessage".to_owned(), "FaultMessage".to_owned()],
        ..NewContact::new(name, email)
    };
    let tree = stand.simulator.settings()["tree"].clone();
    let directory = tree["directory_id"].as_str().unwrap().to_owned();
    let desk = NewContact {
        members: vec![directory, "fd-sim0000001".to_owned(), "2000000000000004".to_owned()],
        ..of("SecurityDesk", "desk@example.com")
    };
    let chinese = NewContact { title: "CEO".to_owned(), ..of("李雷", "lilei@example.com") };
    let moving = of("Moving", "old@example.com");
    let ids = [desk, chinese, moving].map(|contact| stand.simulator.insert_contact(contact));
    let waits = ContactChange {
        pending_email: Some("new@example.com".to_owned()),
        ..ContactChange::default()
    };
    assert!(stand.simulator.change_contact(&ids[2], waits));
    stand.simulator.insert_contact(of("InGit", "ingit@example.com"));
    stand.simulator.insert_contact(NewContact {
        message_types: vec!["BillMessage".to_owned()],
        ..of("Old@Desk", "odd@example.com")
    });
    ids
}

async fn round_trip(secrets: bool) {
    let stand = Stand::unconnected(Options::default()).await;
    let ids = fill(&stand);
    let before = ids.clone().map(|id| stand.simulator.state().contact(&id).unwrap().clone());
    let in_git = stand.manifest("in-git", "InGit", json!({ "emailAddress": "ingit@example.com" }));
    let path = manifests(&[in_git]);
    let endpoint = stand.simulator.endpoint();
    let mut arguments = vec!["export", "-f", &path, "--endpoint", &endpoint];
    arguments.extend(["--directory", &stand.directory, "--namespace", &stand.namespace]);
    if secrets {
        arguments.push("--values-in-secrets");
    }
    let exported = run(&stand.simulator, &arguments).await;
    assert_eq!(exported.code, Some(0), "{}", exported.errors);
    let again = run(&stand.simulator, &arguments).await;
    assert_eq!(exported.out, again.out, "the same cloud gives the same text");

    // What no manifest can keep is told twice, and neither is what is in git exported.
    for text in [&exported.out, &exported.errors] {
        assert!(text.contains("`Old@Desk`") && text.contains("is not exported"), "{text}");
    }
    assert!(!exported.out.contains("InGit") && !exported.errors.contains("@example.com"));
    assert_eq!(exported.errors.contains("--values-in-secrets"), !secrets, "{}", exported.errors);
    let objects = documents(&exported.out);
    let (contacts, others): (Vec<_>, Vec<_>) =
        objects.into_iter().partition(|object| object["kind"] == "MessageContact");
    let names: Vec<_> =
        contacts.iter().map(|object| object["metadata"]["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["moving", "security-desk", "u674e-u96f7"]);
    assert_eq!(others.len(), if secrets { 3 } else { 0 });
    let in_clear = contacts.iter().any(|object| object.to_string().contains("@example.com"));
    assert_eq!(in_clear, !secrets);

    let validated = manifests(&contacts);
    let verdict = run(&stand.simulator, &["validate", "-f", &validated]).await;
    assert_eq!(verdict.code, Some(0), "{}", verdict.out);

    // From here on the operator is there.
    stand.apply_directory(json!({})).await;
    stand.directory_becomes("Ready", "Connected").await;
    let mark = stand.mark();
    let kind = ApiResource::erase::<k8s_openapi::api::core::v1::Secret>(&());
    let api: Api<DynamicObject> =
        Api::namespaced_with(stand.client.clone(), &stand.namespace, &kind);
    for secret in &others {
        for value in secret["stringData"].as_object().unwrap().values() {
            stand.private.add(value.as_str().unwrap());
        }
        stand::apply(&api, secret).await.unwrap();
    }
    for contact in &contacts {
        stand.private.add_manifest(contact);
        stand::apply(&stand.contacts(), contact).await.unwrap();
    }
    for (object, id) in [("security-desk", &ids[0]), ("u674e-u96f7", &ids[1])] {
        let ready = stand.becomes(object, "Ready", "InSync").await;
        assert_eq!(ready.data["status"]["contactId"], **id);
    }
    // The address that waits is the wanted one: nothing has to be taken back for it.
    let moving = stand.becomes("moving", "Synced", "InSync").await;
    assert_eq!(moving.data["status"]["contactId"], *ids[2]);

    let reads = ["GetResourceDirectory", "ListMessageContacts", "GetMessageContact"];
    let mut actions = stand.actions_since(mark);
    actions.retain(|action| {
        action != "ListMessageContactVerifications" && !reads.contains(&action.as_str())
    });
    assert!(actions.is_empty(), "nothing is written: {actions:?}");
    let after = ids.map(|id| stand.simulator.state().contact(&id).unwrap().clone());
    assert_eq!(before, after);
    assert!(stand.simulator.outbox().is_empty(), "and nobody gets a message");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_exported_and_applied_is_taken_over_without_a_write() {
    round_trip(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn so_it_is_with_values_in_secrets() {
    round_trip(true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_of_objects_never_meet() {
    let simulator = stand::simulator(Options::default()).await;
    let endpoint = simulator.endpoint();
    let ids = ["SecurityDesk", "Securitydesk", "securitydesk", "Plain"].map(|name| {
        simulator.insert_contact(NewContact::new(name, &format!("{name}@example.com")))
    });
    let taken = json!({ "apiVersion": "message-contacts.dev/v1alpha1", "kind": "MessageContact",
        "metadata": { "name": "plain", "namespace": "other" },
        "spec": { "name": "Elsewhere", "title": "Other", "messageTypes": ["FaultMessage"],
            "emailAddress": "elsewhere@example.com" } });
    let path = manifests(&[taken]);
    let exported = run(&simulator, &["export", "-f", &path, "--endpoint", &endpoint]).await;
    let names: Vec<_> = documents(&exported.out)
        .iter()
        .map(|object| object["metadata"]["name"].as_str().unwrap().to_owned())
        .collect();
    let [_, second, third, plain] = ids;
    let expected = [
        format!("plain-{plain}"),
        "security-desk".to_owned(),
        format!("securitydesk-{second}"),
        format!("securitydesk-{third}"),
    ];
    assert_eq!(names, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_is_told_with_what_to_do_and_prints_nothing() {
    let simulator = stand::simulator(Options::default()).await;
    let endpoint = simulator.endpoint();
    let refused = run_with(&["export", "--endpoint", &endpoint], &[]).await;
    assert!(refused.errors.contains("--allow-endpoint"), "{}", refused.errors);
    let variables = [("MCO_ALLOW_ENDPOINT", endpoint.as_str())];
    let keyless = run_with(&["export", "--endpoint", &endpoint], &variables).await;
    assert!(keyless.errors.contains("set ALIBABA_CLOUD_ACCESS_KEY_ID"), "{}", keyless.errors);
    simulator.disable_key(ACCESS_KEY_ID);
    let disabled = run(&simulator, &["export", "--endpoint", &endpoint]).await;
    assert!(disabled.errors.contains("the access keys were not accepted"), "{}", disabled.errors);
    for ended in [refused, keyless, disabled] {
        assert_eq!((ended.code, ended.out.as_str()), (Some(1), ""));
        assert!(!ended.errors.contains(ACCESS_KEY_ID), "{}", ended.errors);
    }
}
