//! `docs/moving.md`, word by word: the story reads the guide and does what its steps say. A command
//! that it does not know fails it, so that guide and story cannot drift apart.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use directory_simulator::{NewContact, Options};
use kube::Client;
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams};
use kube::core::ApiResource;
use message_contact_operator::api::{MessageContact, ResourceDirectory};
use message_contact_operator::clock::Clock;
use serde_json::{Value, json};

use crate::stand::{self, PATIENCE, Stand, apply, becomes, cluster, condition_of, message_of};

/// One section of the guide.
struct Section {
    /// The commands of each numbered step.
    steps: Vec<Vec<String>>,
    /// The manifests, by the name of their file.
    files: BTreeMap<String, Value>,
}

impl Section {
    /// The section of that title. Steps are numbered from 1, and none is without a command.
    fn of_guide(title: &str) -> Self {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/moving.md");
        let text = fs::read_to_string(file).unwrap();
        let begin = format!("\n## {title}\n");
        let (_, rest) = text.split_once(&begin).unwrap_or_else(|| panic!("no section {title}"));
        let body = rest.split("\n## ").next().unwrap();
        let mut section = Self { steps: Vec::new(), files: BTreeMap::new() };
        let mut block: Option<(String, Vec<String>)> = None;
        for line in body.lines() {
            match (&mut block, line.trim().strip_prefix("```")) {
                (None, Some(language)) => block = Some((language.to_owned(), Vec::new())),
                (None, None) => section.take_prose(line),
                (Some((_, lines)), None) => lines.push(line.to_owned()),
                (Some(_), Some(_)) => {
                    let (language, lines) = block.take().unwrap();
                    section.take_block(&language, &lines);
                }
            }
        }
        assert!(block.is_none(), "a block does not end");
        assert!(!section.steps.is_empty(), "no steps under {title}");
        for (index, commands) in section.steps.iter().enumerate() {
            assert!(!commands.is_empty(), "step {} of {title} has no command", index + 1);
        }
        section
    }

    fn take_prose(&mut self, line: &str) {
        let numbered = line.split_once(". ").and_then(|(number, _)| number.parse::<usize>().ok());
        if let Some(number) = numbered {
            assert_eq!(number, self.steps.len() + 1, "steps are counted: {line}");
            self.steps.push(Vec::new());
        }
    }

    fn take_block(&mut self, language: &str, lines: &[String]) {
        match language {
            "sh" => {
                let commands = lines.iter().map(|line| line.trim().to_owned());
                self.steps.last_mut().expect("a command belongs to a step").extend(commands);
            }
            "yaml" => {
                let name = lines[0].strip_prefix("# ").expect("a manifest begins with its name");
                let manifest: Value = serde_saphyr::from_str(&lines.join("\n")).unwrap();
                self.files.insert(name.to_owned(), manifest);
            }
            other => panic!("what is a block of {other}?"),
        }
    }
}

/// A command as a shell takes it apart: single quotes keep what is in them.
fn words(command: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted) = (Vec::new(), None::<String>, false);
    for letter in command.chars() {
        match letter {
            '\'' => quoted = !quoted,
            ' ' if !quoted => words.extend(word.take()),
            letter => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    words
}

/// Where the guide's names are in this story.
struct Place<'a> {
    stand: &'a Stand,
    /// The cluster of each `--context`; without one it is that under the empty name.
    clusters: BTreeMap<&'a str, Client>,
    namespaces: BTreeMap<&'a str, String>,
    files: &'a BTreeMap<String, Value>,
}

impl Place<'_> {
    async fn run(&self, command: &str) {
        println!("$ {command}");
        let words = words(command);
        let mut words = words.iter().map(String::as_str);
        assert_eq!(words.next(), Some("kubectl"), "{command}");
        let (mut context, mut namespace, mut plain, mut flags) = ("", "", Vec::new(), Vec::new());
        while let Some(word) = words.next() {
            match word {
                "--context" => context = words.next().unwrap(),
                "-n" => namespace = words.next().unwrap(),
                "-f" | "-o" | "-p" | "--type" => flags.push((word, words.next().unwrap())),
                flag if flag.starts_with("--") => flags.push(flag.split_once('=').unwrap()),
                word => plain.push(word),
            }
        }
        let (client, namespace) = (&self.clusters[context], self.namespaces.get(namespace));
        match (&*plain, &*flags) {
            (["patch", kind, name], [("--type", "merge"), ("-p", patch)]) => {
                let patch: Value = serde_json::from_str(patch).unwrap();
                let (api, name) = self.of_kind(client, kind, namespace, name);
                api.patch(&name, &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
            }
            (["apply"], [("-f", file)]) => self.apply(client, &self.files[*file]).await,
            (["delete", kind, name], []) => {
                let (api, name) = self.of_kind(client, kind, namespace, name);
                api.delete(&name, &DeleteParams::default()).await.unwrap();
                is_gone(&api, &name).await;
            }
            (["wait", object], [("--for", what), ("--timeout", "2m")]) => {
                let (kind, name) = object.split_once('/').unwrap();
                let (api, name) = self.of_kind(client, kind, namespace, name);
                let condition = what.strip_prefix("condition=").expect(command);
                is_true(&api, &name, condition).await;
            }
            (["get", kind, name], [("-o", shown)]) => {
                let synced = "jsonpath={.status.conditions[?(@.type==\"Synced\")].message}";
                assert_eq!(*shown, synced);
                let (api, name) = self.of_kind(client, kind, namespace, name);
                let object = becomes(&api, &name, "Synced", "Drifted").await;
                let message = message_of(&object, "Synced");
                assert!(message.contains("is in the directory already"), "{message}");
                assert!(object.data["status"].get("contactId").is_none(), "nothing is held yet");
            }
            _ => panic!("the story does not know this command: {command}"),
        }
    }

    fn of_kind(
        &self,
        client: &Client,
        kind: &str,
        namespace: Option<&String>,
        name: &str,
    ) -> (Api<DynamicObject>, String) {
        match (kind, namespace) {
            ("messagecontact", Some(namespace)) => {
                let kind = ApiResource::erase::<MessageContact>(&());
                (Api::namespaced_with(client.clone(), namespace, &kind), name.to_owned())
            }
            ("resourcedirectory", None) => {
                assert_eq!(name, "default");
                let kind = ApiResource::erase::<ResourceDirectory>(&());
                (Api::all_with(client.clone(), &kind), self.stand.directory.clone())
            }
            _ => panic!("which {kind}?"),
        }
    }

    /// Applies a manifest of the guide, with the names of this story.
    async fn apply(&self, client: &Client, manifest: &Value) {
        let mut manifest = manifest.clone();
        let kind = manifest["kind"].as_str().unwrap().to_lowercase();
        let name = manifest["metadata"]["name"].as_str().unwrap().to_owned();
        let namespace = manifest["metadata"]["namespace"].as_str();
        let namespace = namespace.map(|namespace| &self.namespaces[namespace]);
        let (api, name) = self.of_kind(client, &kind, namespace, &name);
        manifest["metadata"]["name"] = json!(name);
        if let Some(namespace) = namespace {
            manifest["metadata"]["namespace"] = json!(namespace);
            manifest["spec"]["directoryRef"] = json!({ "name": self.stand.directory });
            self.stand.private.add_manifest(&manifest);
        } else {
            let here = json!({ "credentials": null, "endpoint": self.stand.simulator.endpoint(),
                "pollInterval": "24h", "namespaces": {} });
            stand::merge(&mut manifest["spec"], here);
        }
        apply(&api, &manifest).await.unwrap();
    }
}

async fn is_gone(api: &Api<DynamicObject>, name: &str) {
    cluster::wait_for(PATIENCE, &format!("{name} is gone"), || async {
        match api.get_opt(name).await {
            Ok(None) => Ok(()),
            Ok(Some(found)) => Err(found.data["status"].to_string()),
            Err(error) => Err(error.to_string()),
        }
    })
    .await
    .unwrap();
}

/// As `kubectl wait --for=condition=…` judges.
async fn is_true(api: &Api<DynamicObject>, name: &str, condition: &str) {
    cluster::wait_for(PATIENCE, &format!("{name}: {condition}"), || async {
        let found = api.get(name).await.map_err(|error| error.to_string())?;
        let known = condition_of(&found, condition);
        let current = known["observedGeneration"] == json!(found.metadata.generation);
        if current && known["status"] == "True" { Ok(()) } else { Err(known.to_string()) }
    })
    .await
    .unwrap();
}

/// The guide's contact as it was before the move: its mailbox is confirmed, and an object of that
/// namespace holds it. Returns its id.
async fn settled(stand: &Stand, manifest: &Value, namespace: &str) -> String {
    let mut manifest = manifest.clone();
    manifest["metadata"]["namespace"] = json!(namespace);
    manifest["spec"]["directoryRef"] = json!({ "name": stand.directory });
    stand.private.add_manifest(&manifest);
    let spec = &manifest["spec"];
    let text = |field: &str| spec[field].as_str().unwrap();
    let types = spec["messageTypes"].as_array().unwrap();
    let id = stand.simulator.insert_contact(NewContact {
        title: text("title").to_owned(),
        message_types: types.iter().map(|word| word.as_str().unwrap().to_owned()).collect(),
        ..NewContact::new(text("name"), text("emailAddress"))
    });
    stand.ask_directory().await;
    let api = stand.contacts_in(namespace);
    apply(&api, &manifest).await.unwrap();
    let object = becomes(&api, "on-call", "Ready", "InSync").await;
    assert_eq!(object.data["status"]["contactId"], json!(id));
    id
}

#[tokio::test(flavor = "multi_thread")]
async fn the_guide_moves_an_object_to_another_namespace() {
    let guide = Section::of_guide("To another namespace");
    let stand = Stand::new().await;
    let target = cluster().await.namespace("moved").await.unwrap();
    let place = Place {
        stand: &stand,
        clusters: BTreeMap::from([("", stand.client.clone())]),
        namespaces: BTreeMap::from([
            ("team-a", stand.namespace.clone()),
            ("team-b", target.clone()),
        ]),
        files: &guide.files,
    };
    let id = settled(&stand, &guide.files["on-call.yaml"], &stand.namespace).await;
    let bystander = stand.bystander("OnCaller");
    let (before, writes) = (stand.simulator.state().contacts, stand.simulator.counts().writes);

    for command in guide.steps.iter().flatten() {
        place.run(command).await;
    }
    let there = stand.contacts_in(&target);
    let object = becomes(&there, "on-call", "Ready", "InSync").await;
    assert_eq!(object.data["status"]["contactId"], json!(id));
    assert_eq!(condition_of(&object, "EmailVerified")["status"], "True");
    assert_eq!(stand.simulator.state().contacts, before, "the contact is as it was");
    assert_eq!((stand.simulator.counts().writes, stand.simulator.outbox().len()), (writes, 0));
    stand.is_untouched(&bystander);

    // Deleting it there deletes the contact, as the guide says.
    there.delete("on-call", &DeleteParams::default()).await.unwrap();
    is_gone(&there, "on-call").await;
    assert!(stand.simulator.state().contact(&id).is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_guide_moves_an_object_to_another_cluster() {
    let guide = Section::of_guide("To another cluster");
    // Each operator looks only when it has to, so that the two do not call at the same time.
    let stand = Stand::with(Options::default(), json!({ "pollInterval": "24h" })).await;
    let new = stand::another_cluster().await;
    let client = Client::try_from(new.config()).unwrap();
    let running = tokio::spawn(stand::run_operator(client.clone(), Clock::system()));
    let there = new.namespace("moved").await.unwrap();
    let id = settled(&stand, &guide.files["on-call.yaml"], &stand.namespace).await;
    let bystander = stand.bystander("OnCaller");
    let (before, writes) = (stand.simulator.state().contacts, stand.simulator.counts().writes);

    // The namespace has one name in both clusters; here each has a name of its own.
    let mut place = Place {
        stand: &stand,
        clusters: BTreeMap::from([("old", stand.client.clone()), ("new", client.clone())]),
        namespaces: BTreeMap::new(),
        files: &guide.files,
    };
    for command in guide.steps.iter().flatten() {
        let namespace = if command.contains("--context old") { &stand.namespace } else { &there };
        place.namespaces = BTreeMap::from([("team-a", namespace.clone())]);
        place.run(command).await;
        assert_eq!(stand.simulator.counts().writes, writes, "{command}");
    }
    let kind = ApiResource::erase::<MessageContact>(&());
    let api: Api<DynamicObject> = Api::namespaced_with(client, &there, &kind);
    let object = becomes(&api, "on-call", "Ready", "InSync").await;
    assert_eq!(object.data["status"]["contactId"], json!(id));
    assert_eq!(condition_of(&object, "EmailVerified")["status"], "True");
    assert_eq!(stand.simulator.state().contacts, before, "the contact is as it was");
    assert_eq!((stand.simulator.counts().writes, stand.simulator.outbox().len()), (writes, 0));
    assert!(stand.contacts().get_opt("on-call").await.unwrap().is_none());
    stand.is_untouched(&bystander);
    running.abort();
    let _ = running.await;
}
