//! `plan` tells on a pull request what the operator would do, needs no cluster, and is held to it.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use directory_simulator::{
    ACCESS_KEY_ID, ACCESS_KEY_SECRET, Fault, FaultKind, NewContact, Options, Simulator, Tree,
};
use kube::api::DynamicObject;
use serde_json::{Value, json};

use crate::privacy;
use crate::process::PROGRAM;
use crate::stand::{self, Stand};
use crate::walk::defaults;

/// A directory in the cloud and a folder with manifests.
struct Desk {
    simulator: Simulator,
    folder: PathBuf,
    secret: &'static str,
}

/// What the program said.
struct Said {
    code: i32,
    out: String,
    errors: String,
}

impl Said {
    /// The plan as programs read it.
    #[track_caller]
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|_| panic!("{}{}", self.out, self.errors))
    }

    /// What becomes of each object.
    #[track_caller]
    fn actions(&self) -> BTreeMap<String, String> {
        let plan = self.json();
        let contacts = plan["contacts"].as_array().unwrap().iter();
        let word = |value: &Value| value.as_str().unwrap().to_owned();
        contacts.map(|it| (word(&it["name"]), word(&it["action"]))).collect()
    }

    #[track_caller]
    fn contact(&self, name: &str) -> Value {
        let plan = self.json();
        let mut contacts = plan["contacts"].as_array().unwrap().iter();
        contacts.find(|it| it["name"] == name).unwrap_or_else(|| panic!("{name}: {plan}")).clone()
    }
}

impl Desk {
    async fn new(name: &str) -> Self {
        let simulator = Simulator::start(Options::default()).await.unwrap();
        simulator.quotas(|quotas| quotas.contacts = 1_000);
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("plan-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        Self { simulator, folder, secret: ACCESS_KEY_SECRET }
    }

    /// Writes a file of several documents and returns its path.
    fn write(&self, file: &str, objects: &[Value]) -> String {
        self.write_text(file, &documents(objects))
    }

    fn write_text(&self, file: &str, text: &str) -> String {
        let path = self.folder.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// The ResourceDirectory; it admits every namespace.
    fn directory(&self, fields: Value) -> Value {
        let mut spec = json!({ "endpoint": self.simulator.endpoint(), "namespaces": {},
            "requestsPerSecond": 100 });
        stand::merge(&mut spec, fields);
        json!({ "apiVersion": "message-contacts.dev/v1alpha1", "kind": "ResourceDirectory",
            "metadata": { "name": "main" }, "spec": spec })
    }

    fn plan(&self, arguments: &[&str]) -> Said {
        self.plan_of(arguments, "")
    }

    /// Runs the program in an environment with nothing but the access keys.
    fn plan_of(&self, arguments: &[&str], input: &str) -> Said {
        tokio::task::block_in_place(|| {
            let mut child = Command::new(PROGRAM)
                .arg("plan")
                .args(arguments)
                .args(["--allow-endpoint", &self.simulator.endpoint()])
                .env_clear()
                .env("ALIBABA_CLOUD_ACCESS_KEY_ID", ACCESS_KEY_ID)
                .env("ALIBABA_CLOUD_ACCESS_KEY_SECRET", self.secret)
                .current_dir(&self.folder)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
            let output = child.wait_with_output().unwrap();
            Said {
                code: output.status.code().unwrap(),
                out: String::from_utf8(output.stdout).unwrap(),
                errors: String::from_utf8(output.stderr).unwrap(),
            }
        })
    }

    /// How often each operation was called.
    fn calls(&self) -> BTreeMap<String, usize> {
        let mut calls = BTreeMap::new();
        for call in self.simulator.calls() {
            *calls.entry(call.action).or_default() += 1;
        }
        calls
    }

    /// A confirmed contact that is told of security messages; returns its id.
    fn in_cloud(&self, name: &str, change: impl FnOnce(&mut NewContact)) -> String {
        let mut contact = NewContact::new(name, &address(name));
        change(&mut contact);
        self.simulator.insert_contact(contact)
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
        if !std::thread::panicking() {
            let writes: Vec<_> =
                self.simulator.calls().into_iter().filter(|call| is_write(&call.action)).collect();
            assert!(writes.is_empty(), "a plan writes nothing: {writes:?}");
        }
    }
}

fn is_write(action: &str) -> bool {
    !["Get", "List"].iter().any(|prefix| action.starts_with(prefix))
}

fn documents(objects: &[Value]) -> String {
    let yaml = objects.iter().map(|object| serde_saphyr::to_string(object).unwrap());
    let documents = yaml.map(|text| text.trim_end().to_owned());
    documents.flat_map(|text| ["---\n".to_owned(), text, "\n".to_owned()]).collect()
}

/// The private address of a contact of that name.
fn address(name: &str) -> String {
    format!("canary-{}@example.com", name.to_lowercase())
}

/// The manifest of a contact as [`Desk::in_cloud`] puts it there, with these fields put over it.
fn contact(object: &str, name: &str, fields: Value) -> Value {
    let mut spec = json!({ "directoryRef": { "name": "main" }, "name": name, "title": "Other",
        "emailAddress": address(name), "messageTypes": ["SecurityMessage"] });
    stand::merge(&mut spec, fields);
    json!({ "apiVersion": "message-contacts.dev/v1alpha1", "kind": "MessageContact",
        "metadata": { "name": object, "namespace": "team" }, "spec": spec })
}

fn policy(name: &str, spec: Value) -> Value {
    json!({ "apiVersion": "message-contacts.dev/v1alpha1", "kind": "ContactPolicy",
        "metadata": { "name": name }, "spec": spec })
}

#[track_caller]
fn nothing_private(said: &Said) {
    for text in [&said.out, &said.errors] {
        for value in ["canary-", "13800138", ACCESS_KEY_SECRET, ACCESS_KEY_ID] {
            let found = text
                .find(value)
                .or_else(|| privacy::find(text, value).and_then(|shown| text.find(&shown)));
            assert_eq!(found, None, "{value} is shown:\n{text}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_as_the_manifests_say_ends_with_0_and_costs_one_list() {
    let desk = Desk::new("same").await;
    desk.in_cloud("Alice", |it| it.phone = Some("86-13800138000".to_owned()));
    desk.in_cloud("Bernd", |it| it.members = vec!["2000000000000001".to_owned()]);
    let file = desk.write(
        "all.yaml",
        &[
            desk.directory(json!({})),
            contact("alice", "Alice", json!({ "phoneNumber": "86-13800138000" })),
            contact("bernd", "Bernd", json!({ "members": ["2000000000000001"] })),
            json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "x" } }),
        ],
    );
    let said = desk.plan(&["-f", &file]);
    assert_eq!((said.code, said.errors.as_str()), (0, ""), "{}", said.out);
    assert_eq!(
        said.out,
        "ResourceDirectory main (rd-sim001): 2 contacts\n\n\
         Plan: 0 to create, 0 to update, 0 to delete, 2 unchanged.\n"
    );
    let expected = [("GetResourceDirectory", 1), ("ListMessageContacts", 1)];
    assert_eq!(desk.calls(), expected.map(|(name, count)| (name.to_owned(), count)).into());
}

#[tokio::test(flavor = "multi_thread")]
async fn each_change_is_told_with_its_fields_and_ends_with_2() {
    let desk = Desk::new("changes").await;
    let edited = desk.in_cloud("Edited", |_| {});
    let renamed = desk.in_cloud("Before", |_| {});
    let leaving = desk.in_cloud("Leaving", |_| {});
    desk.in_cloud("Staying", |_| {});
    desk.in_cloud("Stranger", |_| {});
    let directory = desk.directory(json!({}));
    let base = desk.write(
        "base/all.yaml",
        &[
            directory.clone(),
            contact("edited", "Edited", json!({})),
            contact("renamed", "Before", json!({})),
            contact("leaving", "Leaving", json!({})),
            contact("staying", "Staying", json!({ "deletionPolicy": "Retain" })),
            contact("never-there", "Nowhere", json!({})),
        ],
    );
    let next = desk.write(
        "next/all.yaml",
        &[
            directory,
            contact(
                "edited",
                "Edited",
                json!({ "title": "CEO", "emailAddress": "canary-new@example.org",
                    "phoneNumber": "86-13800138001" }),
            ),
            contact("renamed", "After", json!({ "emailAddress": address("Before") })),
            contact("fresh", "Fresh", json!({ "members": ["2000000000000001"] })),
            contact("reported", "Fremd", json!({ "reconcilePolicy": "ReportOnly" })),
            contact("resting", "Rast", json!({ "suspend": true })),
        ],
    );
    let arguments = ["-f", &next, "--base", &base];
    let said = desk.plan(&arguments);
    assert_eq!((said.code, said.errors.as_str()), (2, ""), "{}", said.out);
    nothing_private(&said);
    let place = |object: &str, file: &str, index: usize| {
        let text = fs::read_to_string(desk.folder.join(file)).unwrap();
        let starts = text.lines().enumerate().filter(|(_, line)| *line == "---");
        let line = starts.map(|(number, _)| number + 2).nth(index).unwrap();
        format!("{object} {}:{line}", desk.folder.join(file).display())
    };
    let expected = format!(
        "ResourceDirectory main (rd-sim001): 5 contacts; 2 that no manifest here manages: \
         Staying, Stranger\n\
         \n\
         ~ update: {}\n    \
             ~ UpdateMessageContact\n        \
                 title: Other -> CEO\n        \
                 emailAddress: c***@example.com -> c***@example.org\n        \
                 phoneNumber: - -> 86-138****8001\n    \
             > SendEmailVerificationForMessageContact\n        \
                 to: c***@example.org\n    \
             > SendPhoneVerificationForMessageContact\n        \
                 to: 86-138****8001\n\
         \n\
         + create: {}\n    \
             + AddMessageContact\n        \
                 name: Fresh\n        \
                 title: Other\n        \
                 emailAddress: c***@example.com\n        \
                 messageTypes: SecurityMessage\n    \
             ~ AssociateMembers\n        \
                 member: 2000000000000001\n    \
             > SendEmailVerificationForMessageContact\n        \
                 to: c***@example.com\n\
         \n\
         - delete: {}\n    \
             - DeleteMessageContact\n        \
                 the accounts that it is bound to lose it too\n\
         \n\
         ~ update: {}\n    \
             ~ UpdateMessageContact\n        \
                 name: Before -> After\n\
         \n\
         = only report: {}\n    \
             differs  name: - -> Fremd\n    \
             Drifted: the contact is not in the directory, and `reconcilePolicy: ReportOnly` forbids \
             to create it\n\
         \n\
         = only report: {}\n    \
             Suspended: `suspend` is set; nothing is read or written for this object\n\
         \n\
         - let go: {}\n    \
             the contact stays in the cloud, and nothing manages it any more\n\
         \n\
         Plan: 1 to create, 2 to update, 1 to delete, 1 unchanged, 1 to let go, 2 only reported.\n",
        place("team/edited (Edited)", "next/all.yaml", 1),
        place("team/fresh (Fresh)", "next/all.yaml", 3),
        place("team/leaving (Leaving)", "base/all.yaml", 3),
        place("team/renamed (After)", "next/all.yaml", 2),
        place("team/reported (Fremd)", "next/all.yaml", 4),
        place("team/resting (Rast)", "next/all.yaml", 5),
        place("team/staying (Staying)", "base/all.yaml", 4),
    );
    assert_eq!(said.out, expected);

    // Of the one contact whose address changes it is asked what waits, and of nobody else.
    let asked = desk
        .simulator
        .calls()
        .into_iter()
        .filter(|call| call.action == "ListMessageContactVerifications");
    let asked: Vec<_> = asked.map(|call| call.parameters["ContactId"].clone()).collect();
    assert_eq!(asked, std::slice::from_ref(&edited));

    let json = desk.plan(&[&arguments[..], &["-o", "json"]].concat());
    assert_eq!(json.code, 2);
    nothing_private(&json);
    for (object, id) in [("edited", &edited), ("renamed", &renamed), ("leaving", &leaving)] {
        assert_eq!(json.contact(object)["contactId"], **id);
    }
    assert_eq!(json.contact("fresh")["contactId"], Value::Null);
    assert_eq!(json.contact("never-there")["action"], "NoChange");
    assert_eq!(json.json()["summary"]["release"], 1);
    // Without the target branch a rename is a contact more, and nothing is deleted.
    let alone = desk.plan(&["-f", &next, "-o", "json"]);
    let expected = [
        ("edited", "Update"),
        ("fresh", "Create"),
        ("renamed", "Create"),
        ("reported", "Report"),
        ("resting", "Report"),
    ];
    assert_eq!(alone.actions(), expected.map(|(a, b)| (a.to_owned(), b.to_owned())).into());
}

#[tokio::test(flavor = "multi_thread")]
async fn names_go_from_hand_to_hand_as_they_would() {
    let desk = Desk::new("names").await;
    desk.in_cloud("Eins", |_| {});
    desk.in_cloud("Zwei", |_| {});
    desk.in_cloud("Taken", |_| {});
    let directory = desk.directory(json!({}));
    let base = desk.write(
        "base.yaml",
        &[contact("one", "Eins", json!({})), contact("two", "Zwei", json!({}))],
    );
    let plan = |objects: &[Value]| {
        let next = desk.write("next.yaml", &[std::slice::from_ref(&directory), objects].concat());
        desk.plan(&["-f", &next, "--base", &base, "-o", "json"])
    };
    let of = |name: &str| json!({ "emailAddress": address(name) });
    // Who goes sets the name free, for a rename and for another object.
    let said = plan(&[contact("two", "Eins", of("Zwei"))]);
    assert_eq!((said.contact("one")["action"].clone(), said.code), (json!("Delete"), 2));
    assert_eq!(said.contact("two")["calls"][0]["fields"][0]["before"], "Zwei");
    let said = plan(&[contact("two", "Zwei", json!({})), contact("other", "Eins", json!({}))]);
    assert_eq!(said.contact("other")["action"], "Create");
    // A chain of renames works in any order, a swap does not.
    let said = plan(&[contact("one", "Zwei", of("Eins")), contact("two", "Drei", of("Zwei"))]);
    assert_eq!((said.contact("one")["action"].clone(), said.code), (json!("Update"), 2));
    let said = plan(&[contact("one", "Zwei", of("Eins")), contact("two", "Eins", of("Zwei"))]);
    assert_eq!(said.contact("one")["reason"], "NameClaimed");
    assert_eq!(said.code, 1);
    // A name that a contact of nobody has.
    let both = [contact("one", "Taken", of("Eins")), contact("two", "Zwei", json!({}))];
    let said = plan(&both);
    assert_eq!((said.contact("one")["reason"].clone(), said.code), (json!("NameTaken"), 1));
    // Two that want the same: the one that the target branch has comes first.
    let said = plan(&[
        contact("newer", "Eins", json!({})),
        contact("one", "Eins", json!({})),
        contact("two", "Zwei", json!({})),
    ]);
    assert_eq!(said.contact("newer")["reason"], "NameClaimed");
    assert_eq!(said.contact("one")["action"], "NoChange");
}

#[tokio::test(flavor = "multi_thread")]
async fn adoption_is_judged_when_that_is_asked_for() {
    let desk = Desk::new("adoption").await;
    for name in ["Same", "Other", "Always", "Never"] {
        desk.in_cloud(name, |_| {});
    }
    let differs = json!({ "title": "CEO" });
    let always = json!({ "title": "CEO", "adoptionPolicy": "Always" });
    let file = desk.write(
        "all.yaml",
        &[
            desk.directory(json!({ "adoption": "Always" })),
            contact("same", "Same", json!({})),
            contact("other", "Other", differs),
            contact("always", "Always", always),
            contact("never", "Never", json!({ "adoptionPolicy": "Never" })),
        ],
    );
    let ours = desk.plan(&["-f", &file, "-o", "json"]);
    assert_eq!(ours.code, 2);
    let words = |said: &Said| said.actions().into_values().collect::<Vec<_>>();
    assert_eq!(words(&ours), ["Update", "NoChange", "Update", "NoChange"]);
    let judged = desk.plan(&["-f", &file, "-o", "json", "--judge-adoption"]);
    assert_eq!(judged.code, 1, "{}", judged.out);
    assert_eq!(words(&judged), ["Adopt", "Refuse", "Refuse", "Adopt"]);
    assert_eq!(judged.contact("other")["reason"], "AdoptionRefused");
    assert_eq!(judged.contact("never")["reason"], "NameTaken");
    assert_eq!(judged.contact("always")["calls"][0]["action"], "UpdateMessageContact");
    assert_eq!(judged.contact("same")["calls"], json!([]));
    nothing_private(&judged);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_under_deny_makes_it_an_error_unless_nothing_was_changed() {
    let desk = Desk::new("policies").await;
    desk.in_cloud("Old", |it| it.title = "CEO".to_owned());
    let domains = json!({ "emailDomains": { "allowed": ["example.org"] } });
    let titles = json!({ "titles": { "allowed": ["Other"] } });
    let namespace = |labels: Value| {
        json!({ "apiVersion": "v1", "kind": "Namespace",
            "metadata": { "name": "team", "labels": labels } })
    };
    let selector = json!({ "namespaceSelector": { "matchLabels": { "tier": "one" } } });
    let policies = [
        desk.directory(json!({})),
        policy("domains", json!({ "enforcement": "Deny", "contact": domains, "match": selector })),
        policy("titles", json!({ "enforcement": "Warn", "contact": titles })),
    ];
    let old = contact("old", "Old", json!({ "title": "CEO" }));
    let base = desk.write("base.yaml", &[&policies[..1], std::slice::from_ref(&old)].concat());
    let plan = |objects: &[Value]| {
        let next = desk.write("next.yaml", &[&policies, objects].concat());
        desk.plan(&["-f", &next, "--base", &base, "-o", "json"])
    };
    let tier = |tier: &str| namespace(json!({ "tier": tier }));
    let fresh = || contact("fresh", "Fresh", json!({}));

    let said = plan(&[tier("one"), old.clone(), fresh()]);
    assert_eq!(said.code, 1, "{}", said.out);
    assert_eq!(said.contact("fresh")["reason"], "PolicyViolation");
    assert_eq!(said.contact("fresh")["violations"][0]["policy"], "domains");
    assert_eq!(said.contact("old")["error"], false, "it was so before");
    assert_eq!(said.json()["summary"]["errors"], 1);
    // Of another namespace the policy does not speak, and the milder one stops nothing.
    let said = plan(&[tier("two"), old.clone(), fresh()]);
    assert_eq!((said.code, said.contact("fresh")["action"].clone()), (2, json!("Create")));
    assert_eq!(said.contact("old")["violations"][0]["enforcement"], "Warn");
    let table = desk.plan(&["-f", desk.folder.join("next.yaml").to_str().unwrap()]);
    let line =
        "ContactPolicy `titles` (Warn): contact.titles.allowed: write one of these titles: Other";
    assert!(table.out.contains(line), "{}", table.out);
    // What the labels are is not guessed.
    let said = plan(&[old, fresh()]);
    let notes = said.json()["notes"].to_string();
    assert!(notes.contains("goes by the labels of the namespace `team`"), "{notes}");
}

#[tokio::test(flavor = "multi_thread")]
async fn coverage_is_told_as_it_is_as_it_would_be_and_once_everybody_has_clicked() {
    let desk = Desk::new("coverage").await;
    for name in ["Alice", "Bernd"] {
        desk.in_cloud(name, |it| it.members = vec!["fd-sim0000001".to_owned()]);
    }
    let accounts = Tree::default().accounts;
    let account = &accounts.iter().find(|it| it.folder == "fd-sim0000001").unwrap().id;
    let rule = json!({ "name": "two", "messageTypes": ["SecurityMessage"], "members": [account],
        "minVerified": 2, "distinctMailboxes": true });
    let members = json!({ "members": ["fd-sim0000001"] });
    let base = desk.write(
        "base.yaml",
        &[contact("alice", "Alice", members.clone()), contact("bernd", "Bernd", members.clone())],
    );
    let plan = |enforcement: &str, objects: &[Value]| {
        let policy = policy("both", json!({ "enforcement": enforcement, "coverage": [rule] }));
        let all = [&[desk.directory(json!({})), policy], objects].concat();
        let next = desk.write("next.yaml", &all);
        desk.plan(&["-f", &next, "--base", &base, "-o", "json"])
    };
    let alice = contact("alice", "Alice", members.clone());
    let carla = contact("carla", "Carla", members.clone());
    let figures = |said: &Said| {
        let row = said.json()["policies"][0]["coverage"][0].clone();
        ["before", "after", "confirmed"].map(|when| row[when].as_u64().unwrap())
    };
    let lost = plan("Deny", &[alice.clone(), carla.clone()]);
    assert_eq!((lost.code, figures(&lost)), (1, [2, 1, 2]), "{}", lost.out);
    let told = plan("Audit", &[alice.clone(), carla.clone()]);
    assert_eq!((told.code, figures(&told)), (2, [2, 1, 2]));
    assert_eq!(told.json()["policies"][0]["coverage"][0]["lost"], true);
    let bernd = contact("bernd", "Bernd", members);
    let kept = plan("Deny", &[alice.clone(), bernd.clone(), carla]);
    assert_eq!((kept.code, figures(&kept)), (2, [2, 2, 3]));
    // Whoever is unbound hears no more.
    let unbound = contact("bernd", "Bernd", json!({ "members": [] }));
    assert_eq!(figures(&plan("Deny", &[alice, unbound])), [2, 1, 1]);
    assert_eq!(desk.calls()["ListAccounts"], 4, "once a plan");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_would_be_refused_is_told_with_its_place_and_the_cloud_is_not_asked() {
    let desk = Desk::new("invalid").await;
    let good = contact("alice", "Alice", json!({}));
    let base = desk.write("base.yaml", std::slice::from_ref(&good));
    let check = |text: &str, expected: &str| {
        let file = desk.write_text("next.yaml", text);
        let said = desk.plan(&["-f", &file, "--base", &base]);
        assert_eq!((said.code, said.out.as_str()), (1, ""), "{expected}");
        assert!(said.errors.contains(&format!("{file}:{expected}")), "{}", said.errors);
        nothing_private(&said);
    };
    let bad = contact("alice", "Alice", json!({ "title": "Chief", "emailAddress": "canary-x" }));
    let text = documents(&[bad]);
    let line = |word: &str| text.lines().position(|line| line.contains(word)).unwrap() + 1;
    check(&text, &format!("{}: MessageContact alice: spec.title", line("title:")));
    check("a: [canary-", "1: this is not YAML");
    let twice = documents(&[good.clone(), good]);
    let line = twice.lines().count() / 2 + 2;
    check(&twice, &format!("{line}: MessageContact alice: it stands at"));
    let elsewhere = contact("alice", "Alice", json!({ "directoryRef": { "name": "other" } }));
    let text = documents(&[elsewhere]);
    let line = text.lines().position(|line| line.contains("directoryRef")).unwrap() + 1;
    check(&text, &format!("{line}: MessageContact alice: spec.directoryRef"));
    let missing = desk.plan(&["-f", "no-such-file.yaml"]);
    assert_eq!(missing.code, 1);
    assert!(missing.errors.contains("no-such-file.yaml: entity not found"), "{}", missing.errors);
    let wrong = desk.plan(&["--no-such-flag"]);
    assert_eq!(wrong.code, 1, "2 would say that something changes");
    assert_eq!(desk.simulator.counts().calls, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_cloud_there_is_no_plan_but_advice() {
    let mut desk = Desk::new("unreachable").await;
    let objects = [desk.directory(json!({})), contact("alice", "Alice", json!({}))];
    let file = desk.write("all.yaml", &objects);
    let failed = |desk: &Desk, words: &[&str]| {
        let said = desk.plan(&["-f", &file]);
        assert_eq!((said.code, said.out.as_str()), (1, ""), "{}", said.errors);
        for word in words {
            assert!(said.errors.contains(word), "{word}: {}", said.errors);
        }
        nothing_private(&said);
        assert!(!said.errors.contains("http://"), "{}", said.errors);
    };
    let forbidden = FaultKind::error(403, "NoPermission");
    desk.simulator.fault(Fault::on("ListMessageContacts", forbidden).times(5));
    failed(&desk, &["`main` cannot be listed", "grant resourcemanager:ListMessageContacts"]);
    desk.simulator.clear_faults();
    desk.secret = "wrong";
    failed(&desk, &["`main` cannot be listed", "SignatureDoesNotMatch"]);
    desk.secret = ACCESS_KEY_SECRET;
    desk.simulator
        .fault(Fault::on("GetResourceDirectory", FaultKind::Drop { executed: false }).times(50));
    failed(&desk, &["`main` cannot be listed", "`validate` needs no connection"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn manifests_come_from_folders_lists_and_the_input() {
    let desk = Desk::new("sources").await;
    desk.in_cloud("Known", |_| {});
    desk.write("tree/directory.yaml", &[desk.directory(json!({}))]);
    let list = json!({ "apiVersion": "v1", "kind": "List",
        "items": [contact("listed", "Listed", json!({}))] });
    desk.write_text("tree/deep/list.json", &list.to_string());
    desk.write_text("tree/notes.txt", "no: [manifest");
    let from = |name: &str, key: &str| {
        json!({ "emailAddress": null,
            "emailAddressFrom": { "secretKeyRef": { "name": name, "key": key } } })
    };
    let encoded = BASE64_STANDARD.encode("canary-given@example.net\n");
    let input = documents(&[
        contact("given", "Given", from("given", "mail")),
        contact("absent", "Absent", from("not-in-git", "mail")),
        contact("sealed", "Sealed", from("sealed", "mail")),
        contact("keyless", "Keyless", from("given", "fax")),
        contact("known", "Known", from("not-in-git", "mail")),
        json!({ "apiVersion": "v1", "kind": "Secret",
            "metadata": { "name": "given", "namespace": "team" }, "data": { "mail": encoded } }),
        json!({ "apiVersion": "v1", "kind": "Secret",
            "metadata": { "name": "sealed", "namespace": "team" },
            "stringData": { "mail": "ENC[AES256_GCM,data:abc,type:str]" } }),
        json!({ "apiVersion": "v1", "kind": "Secret",
            "metadata": { "name": "not-in-git", "namespace": "elsewhere" },
            "stringData": { "mail": "canary-wrong@example.net" } }),
    ]);
    let said = desk.plan_of(&["-f", "tree", "-f", "-", "-o", "json"], &input);
    assert_eq!(said.code, 1, "{}{}", said.out, said.errors);
    nothing_private(&said);
    let mail = |object: &str| said.contact(object)["calls"][0]["fields"][2]["after"].clone();
    assert_eq!(mail("listed"), "c***@example.com");
    assert_eq!(mail("given"), "c***@example.net");
    assert_eq!((mail("absent"), mail("sealed")), (json!("unknown"), json!("unknown")));
    assert_eq!(said.contact("absent")["unknown"], json!(["emailAddress"]));
    assert_eq!(said.contact("keyless")["reason"], "SecretNotFound");
    assert_eq!(said.contact("known")["action"], "NoChange", "it counts as unchanged");
    assert_eq!(said.contact("given")["file"], "<stdin>");
    assert!(said.contact("listed")["file"].as_str().unwrap().ends_with("tree/deep/list.json"));
}

#[tokio::test(flavor = "multi_thread")]
async fn under_a_suspended_directory_it_is_told_what_happens_once_it_is_resumed() {
    let desk = Desk::new("suspended").await;
    for name in ["Alice", "Leaving", "Stranger"] {
        desk.in_cloud(name, |_| {});
    }
    let base = desk.write(
        "base.yaml",
        &[
            desk.directory(json!({})),
            contact("alice", "Alice", json!({})),
            contact("leaving", "Leaving", json!({})),
        ],
    );
    let suspended = desk.directory(json!({ "suspend": true }));
    let plan = |objects: &[Value], form: &str| {
        let next = desk.write("next.yaml", &[std::slice::from_ref(&suspended), objects].concat());
        desk.plan(&["-f", &next, "--base", &base, "-o", form])
    };
    let alice = contact("alice", "Alice", json!({ "title": "CEO" }));
    let fresh = contact("fresh", "Fresh", json!({}));
    let objects = [alice, fresh];
    let said = plan(&objects, "json");
    assert_eq!(said.code, 2, "what waits is a change: {}{}", said.out, said.errors);
    let expected = [("alice", "Update"), ("fresh", "Create"), ("leaving", "Delete")];
    assert_eq!(said.actions(), expected.map(|(a, b)| (a.to_owned(), b.to_owned())).into());
    for (object, _) in expected {
        assert_eq!(said.contact(object)["waitsForResume"], true, "{object}");
    }
    let json = said.json();
    assert_eq!(json["summary"]["directoriesSuspended"], 1);
    let directory = &json["directories"][0];
    assert_eq!((&directory["suspended"], &directory["contacts"]), (&json!(true), &json!(3)));
    assert_eq!(directory["unmanaged"][0]["name"], "Stranger");

    let heading = "it is suspended: nothing is done in it until it is resumed";
    let conclusion = "1 directory is suspended, and nothing is done in it until it is resumed.";
    let table = plan(&objects, "table");
    for words in [heading, conclusion, "1 that no manifest here manages: Stranger"] {
        assert!(table.out.contains(words), "{words}: {}", table.out);
    }
    let each = "    not before the ResourceDirectory `main` is resumed\n";
    assert_eq!(table.out.matches(each).count(), 3, "{}", table.out);
    let markdown = plan(&objects, "markdown");
    for words in [conclusion, &heading.replace(':', "&#58;"), each] {
        assert!(markdown.out.contains(words), "{words}: {}", markdown.out);
    }
    // Without a change it is said as well, and what is refused is refused.
    let same = [contact("alice", "Alice", json!({})), contact("leaving", "Leaving", json!({}))];
    let said = plan(&same, "table");
    assert_eq!(said.code, 0, "{}", said.out);
    assert!(said.out.contains(heading) && !said.out.contains(each), "{}", said.out);
    let taken = contact("alice", "Stranger", json!({}));
    assert_eq!(plan(&[taken], "table").code, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_sops_has_encrypted_is_there_and_not_readable() {
    const CIPHER: &str = "ENC[AES256_GCM,data:cipherText4711=,iv:x=,tag:y=,type:str]";
    let desk = Desk::new("sops").await;
    desk.in_cloud("Known", |_| {});
    let from = |key: &str| {
        json!({ "emailAddress": null,
            "emailAddressFrom": { "secretKeyRef": { "name": "sealed", "key": key } } })
    };
    let secret = |fields: Value| {
        let mut object = json!({ "apiVersion": "v1", "kind": "Secret",
            "metadata": { "name": "sealed", "namespace": "team" } });
        stand::merge(&mut object, fields);
        object
    };
    let of_sops = |fields: Value| {
        let mut object = secret(fields);
        object["sops"] = json!({ "mac": CIPHER, "version": "3.9.0" });
        object
    };
    let keys = json!({ "source": "Secret", "secretRef": { "name": "keys" } });
    let mut of_keys = of_sops(json!({ "stringData": { "accessKeyId": CIPHER,
        "accessKeySecret": CIPHER } }));
    of_keys["metadata"] = json!({ "name": "keys", "namespace": "message-contacts" });
    let objects = [
        desk.directory(json!({ "credentials": keys })),
        of_keys,
        contact("fresh", "Fresh", from("mail")),
        contact("known", "Known", from("mail")),
        contact("keyless", "Keyless", from("fax")),
    ];
    for values in
        [json!({ "data": { "mail": CIPHER } }), json!({ "stringData": { "mail": CIPHER } })]
    {
        let file = desk.write("all.yaml", &[&objects[..], &[of_sops(values)]].concat());
        let said = desk.plan(&["-f", &file, "-o", "json"]);
        assert_eq!(said.code, 1, "`keyless` is refused: {}{}", said.out, said.errors);
        let encrypted =
            json!([{ "field": "emailAddress", "secret": "sealed", "how": "encrypted by SOPS" }]);
        for (object, action) in [("fresh", "Create"), ("known", "NoChange")] {
            assert_eq!(said.contact(object)["action"], action);
            assert_eq!(said.contact(object)["encrypted"], encrypted);
        }
        assert_eq!(said.contact("fresh")["calls"][0]["fields"][2]["after"], "unknown");
        assert_eq!(said.contact("keyless")["reason"], "SecretNotFound", "keys are in the clear");
        let notes = said.json()["notes"].to_string();
        for words in [
            "the Secret `team/sealed` is encrypted by SOPS",
            "sops --decrypt",
            "the Secret `keys` with the access keys is encrypted by SOPS: the access keys of the \
             environment are used",
        ] {
            assert!(notes.contains(words), "{words}: {notes}");
        }
        for form in ["json", "table", "markdown"] {
            let said = desk.plan(&["-f", &file, "-o", form]);
            for text in [&said.out, &said.errors] {
                assert!(!text.contains("cipherText"), "{text}");
            }
            let line = "emailAddress: unknown, it stands in the Secret `sealed`, which is encrypted \
                        by SOPS: decrypt it for the plan";
            assert!(form == "json" || said.out.contains(line), "{}", said.out);
        }
    }
    // Decrypted by the input, beside the file that is encrypted.
    let plain = secret(json!({ "stringData": { "mail": "canary-plain@example.net" } }));
    let file = desk.folder.join("all.yaml");
    let said = desk
        .plan_of(&["-f", file.to_str().unwrap(), "-f", "-", "-o", "json"], &documents(&[plain]));
    assert_eq!(said.contact("fresh")["calls"][0]["fields"][2]["after"], "c***@example.net");
    assert_eq!(said.contact("fresh")["encrypted"], json!([]));
    nothing_private(&said);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_is_removed_is_told_and_nothing_is_made_in_it() {
    let desk = Desk::new("removed").await;
    for name in ["Alice", "Leaving", "Staying"] {
        desk.in_cloud(name, |_| {});
    }
    let retained = json!({ "deletionPolicy": "Retain" });
    let base = desk.write(
        "base.yaml",
        &[
            desk.directory(json!({})),
            contact("alice", "Alice", json!({})),
            contact("leaving", "Leaving", json!({})),
            contact("staying", "Staying", retained),
        ],
    );
    let few = policy("few", json!({ "enforcement": "Deny", "unmanagedContacts": { "max": 0 } }));
    let plan = |objects: &[Value], form: &str| {
        let next = desk.write("next.yaml", &[std::slice::from_ref(&few), objects].concat());
        desk.plan(&["-f", &next, "--base", &base, "-o", form])
    };
    // Who leaves with it is deleted through it, or let go; who stays has no directory any more.
    let objects = [contact("alice", "Alice", json!({})), contact("fresh", "Fresh", json!({}))];
    let said = plan(&objects, "json");
    assert_eq!(said.code, 1, "{}{}", said.out, said.errors);
    let expected =
        [("alice", "Refuse"), ("fresh", "Refuse"), ("leaving", "Delete"), ("staying", "Release")];
    assert_eq!(said.actions(), expected.map(|(a, b)| (a.to_owned(), b.to_owned())).into());
    for object in ["alice", "fresh"] {
        assert_eq!(said.contact(object)["reason"], "DirectoryNotFound");
        assert_eq!(said.contact(object)["calls"], json!([]));
        assert_eq!(said.contact(object)["error"], true, "the directory has changed");
    }
    assert_eq!(said.json()["removedDirectories"], json!(["main"]));
    let line = "ResourceDirectory main is removed: contacts that leave with it";
    for form in ["table", "markdown"] {
        let told = plan(&objects, form).out;
        assert!(told.contains(&line.replace(':', if form == "table" { ":" } else { "&#58;" })));
        assert!(told.contains("; 1 directory removed"), "{told}");
    }
    // Everything leaves: nobody counts unmanaged contacts in it any more.
    let said = plan(&[], "json");
    assert_eq!(
        (said.code, said.json()["summary"]["delete"].clone()),
        (2, json!(2)),
        "{}",
        said.out
    );

    // Without any contact it is told, and the cloud is not asked.
    let base = desk.write("base.yaml", &[desk.directory(json!({}))]);
    let next = desk.write("next.yaml", &[]);
    let before = desk.simulator.counts().calls;
    let said = desk.plan(&["-f", &next, "--base", &base]);
    assert_eq!((said.code, said.errors.as_str()), (2, ""), "{}", said.out);
    assert!(said.out.contains(line), "{}", said.out);
    assert_eq!(desk.simulator.counts().calls, before);
    // One that both have is not removed.
    let both = desk.plan(&["-f", &base, "--base", &base]);
    assert_eq!((both.code, both.out.contains("removed")), (0, false), "{}", both.out);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_of_several_directories_is_listed_once() {
    let desk = Desk::new("several").await;
    let other = Desk::new("other").await;
    other.simulator.tree(|tree| tree.directory_id = "rd-other1".to_owned());
    let mut second = other.directory(json!({}));
    second["metadata"]["name"] = json!("second");
    let there = json!({ "directoryRef": { "name": "second" } });
    let nowhere = json!({ "directoryRef": { "name": "missing" } });
    let file = desk.write(
        "all.yaml",
        &[
            desk.directory(json!({})),
            second,
            contact("here", "Here", json!({})),
            contact("there", "There", there),
            contact("lost", "Lost", nowhere),
        ],
    );
    let allow = other.simulator.endpoint();
    let said = desk.plan(&["-f", &file, "-o", "json", "--allow-endpoint", &allow]);
    assert_eq!(said.code, 1, "{}{}", said.out, said.errors);
    assert_eq!(said.contact("lost")["reason"], "DirectoryNotFound");
    let ids: Vec<_> = said.json()["directories"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["directoryId"].clone())
        .collect();
    assert_eq!(ids, [json!("rd-sim001"), json!("rd-other1")]);
    for desk in [&desk, &other] {
        assert_eq!(desk.calls()["ListMessageContacts"], 1);
    }
    // One alone, for whoever has the keys of one only.
    let one = desk.plan(&["-f", &file, "-o", "json", "--directory", "main"]);
    assert_eq!((one.code, one.actions().len()), (2, 1));
    // The same directory twice: the operator would work for one of them.
    other.simulator.tree(|tree| tree.directory_id = directory_simulator::DIRECTORY_ID.to_owned());
    let twice = desk.plan(&["-f", &file, "--allow-endpoint", &allow]);
    assert_eq!(twice.code, 1);
    assert!(twice.errors.contains("reach the same directory"), "{}", twice.errors);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_comment_holds_nothing_that_others_could_write_it_with() {
    let desk = Desk::new("markdown").await;
    desk.in_cloud("<b>`|@all\n# Hi", |_| {});
    desk.in_cloud("Alice", |it| it.title = "```\n\n@all".to_owned());
    let file =
        desk.write("all.yaml", &[desk.directory(json!({})), contact("alice", "Alice", json!({}))]);
    let said = desk.plan(&["-f", &file, "-o", "markdown"]);
    assert_eq!(said.code, 2, "{}{}", said.out, said.errors);
    nothing_private(&said);
    let text = fs::read_to_string(&file).unwrap();
    let place = format!("{file}:{}", text[..text.rfind("---").unwrap()].lines().count() + 2);
    let shown = place.replace(':', "&#58;").replace('_', "&#95;");
    let expected = format!(
        "### Message contacts\n\
         \n\
         **Plan: 0 to create, 1 to update, 0 to delete, 0 unchanged.**\n\
         \n\
         - <code>ResourceDirectory main (rd-sim001)&#58; 2 contacts; 1 that no manifest here \
         manages&#58; &#60;b&#62;&#96;&#124;&#64;all\u{fffd}&#35; Hi</code>\n\
         \n\
         | | object | contact | place |\n\
         | --- | --- | --- | --- |\n\
         | update | <code>team/alice</code> | <code>Alice</code> | <code>{shown}</code> |\n\
         \n\
         <details open><summary>Details</summary>\n\
         \n\
         ````diff\n\
         ~ update: team/alice (Alice) {place}\n    \
             ~ UpdateMessageContact\n        \
                 title: ```\u{fffd}\u{fffd}@all -> Other\n\
         ````\n\
         \n\
         </details>\n"
    );
    assert_eq!(said.out, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_comment_has_room_for_all_that_is_said_or_tells_how_much_is_left_out() {
    /// Source: GitHub's answer to a longer one, "Body is too long (maximum is 65536 characters)".
    const COMMENT_MAX: usize = 65_536;
    const POLICIES: usize = 150;
    const CONTACTS: usize = 40;
    let desk = Desk::new("room").await;
    let rule = |number: usize| {
        json!({ "name": format!("rule-{number}"), "messageTypes": ["SecurityMessage"],
            "minContacts": 1 })
    };
    let rules: Vec<_> = (0..5).map(rule).collect();
    let selector = json!({ "namespaceSelector": { "matchLabels": { "tier": "one" } } });
    let mut objects = vec![desk.directory(json!({}))];
    objects.extend((0..POLICIES).map(|number| {
        policy(&format!("policy-{number}"), json!({ "coverage": rules, "match": selector }))
    }));
    for number in 0..CONTACTS {
        let letters =
            [number / 26, number % 26].map(|it| char::from(b'a' + u8::try_from(it).unwrap()));
        let name: String = "Room".chars().chain(letters).collect();
        let mut object = contact(&format!("contact-{number}"), &name, json!({}));
        object["metadata"]["namespace"] = json!(format!("team-{number}"));
        objects.push(object);
    }
    let file = desk.write("all.yaml", &objects);
    let said = desk.plan(&["-f", &file, "-o", "markdown"]);
    assert_eq!(said.code, 2, "{}", said.errors);
    let length = said.out.chars().count();
    assert!(length <= COMMENT_MAX, "{length} characters");
    assert!(length > COMMENT_MAX / 3, "what there is room for is shown: {length} characters");
    let told = said.out.lines().last().unwrap();
    let left_out = |what: &str, all: usize| {
        let (before, _) = told.split_once(&format!(" of {all} {what}")).unwrap_or_else(|| {
            panic!("{what} in {told}");
        });
        before.rsplit(' ').next().unwrap().parse::<usize>().unwrap()
    };
    let shown = |words: &str| said.out.lines().filter(|line| line.contains(words)).count();
    let policies = shown("<code>ContactPolicy policy-");
    assert!(policies > 0);
    assert_eq!(left_out("policies", POLICIES), POLICIES - policies);
    let rows = shown("| <code>rule-");
    assert_eq!(left_out("rows of coverage", POLICIES * 5), POLICIES * 5 - rows);
    let notes = shown("goes by the labels");
    assert!(notes > 0);
    assert_eq!(left_out("notes", POLICIES * CONTACTS), POLICIES * CONTACTS - notes);
    assert!(!told.contains("of 40 contacts"), "for these there is room: {told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn five_hundred_manifests_cost_the_pages_of_one_list() {
    const CONTACTS: usize = 500;
    let desk = Desk::new("many").await;
    let letters = |number: usize| {
        [number / 26, number % 26].map(|index| char::from(b'a' + u8::try_from(index).unwrap()))
    };
    let names: Vec<String> =
        (0..CONTACTS).map(|number| "Many".chars().chain(letters(number)).collect()).collect();
    let mut objects = vec![desk.directory(json!({}))];
    for (number, name) in names.iter().enumerate() {
        if number > 0 {
            desk.in_cloud(name, |_| {});
        }
        let fields = if number % 100 == 1 { json!({ "title": "CEO" }) } else { json!({}) };
        objects.push(contact(&format!("contact-{number}"), name, fields));
    }
    let alone = desk.write("directory.yaml", &objects[..1]);
    let all = desk.write("all.yaml", &objects);
    let timed = |file: &str| {
        let begun = Instant::now();
        (desk.plan(&["-f", file, "-o", "json"]), begun.elapsed())
    };
    let (listing, listed) = timed(&alone);
    assert_eq!(listing.code, 0, "{}", listing.errors);
    let before = desk.calls();
    let (said, planned) = timed(&all);
    assert_eq!(said.code, 2, "{}", said.errors);
    let summary = said.json()["summary"].clone();
    let counted = ["create", "update", "unchanged"].map(|it| summary[it].as_u64().unwrap());
    assert_eq!(counted, [1, 5, 494]);
    let mut calls = desk.calls();
    for (action, count) in before {
        *calls.get_mut(&action).unwrap() -= count;
    }
    let expected = [("GetResourceDirectory", 1), ("ListMessageContacts", 5)];
    assert_eq!(calls, expected.map(|(name, count)| (name.to_owned(), count)).into());
    println!(
        "plan of {CONTACTS} manifests: 5 pages, {:.1} times the listing alone ({planned:?}, {listed:?})",
        planned.as_secs_f64() / listed.as_secs_f64()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_plan_told_is_the_plan_done() {
    let stand = Stand::new().await;
    let trap = stand.bystander("Fremder");
    for (object, name) in
        [("kept", "Kept"), ("edited", "Edited"), ("renamed", "Before"), ("gone", "Gone")]
    {
        stand.settled(object, name, json!({})).await;
    }
    stand.settled("let-go", "Letgo", json!({ "deletionPolicy": "Retain" })).await;
    let desk_folder = Desk::new("told").await;
    let directory = json!({ "apiVersion": "message-contacts.dev/v1alpha1",
        "kind": "ResourceDirectory", "metadata": { "name": stand.directory },
        "spec": { "endpoint": stand.simulator.endpoint(), "namespaces": {} } });
    let of = |object: &str, name: &str, fields: Value| stand.manifest(object, name, fields);
    let base = desk_folder.write(
        "base.yaml",
        &[
            of("kept", "Kept", json!({})),
            of("edited", "Edited", json!({})),
            of("renamed", "Before", json!({})),
            of("gone", "Gone", json!({})),
            of("let-go", "Letgo", json!({ "deletionPolicy": "Retain" })),
        ],
    );
    let member = json!(["2000000000000001"]);
    let edit = json!({ "title": "CEO", "phoneNumber": "86-13800138022", "members": member });
    let next = [
        of("kept", "Kept", json!({})),
        of("edited", "Edited", edit),
        of("renamed", "After", json!({})),
        of("fresh", "Fresh", defaults(json!({ "members": member }))),
    ];
    let file = desk_folder.write("next.yaml", &[&[directory], &next[..]].concat());
    let endpoint = stand.simulator.endpoint();
    let arguments = ["-f", &file, "--base", &base, "--allow-endpoint", &endpoint, "-o", "json"];
    let mark = stand.mark();
    let said = desk_folder.plan(&arguments);
    assert_eq!(said.code, 2, "{}{}", said.out, said.errors);
    assert!(!stand.actions_since(mark).iter().any(|it| is_write(it)), "a plan writes nothing");
    let plan = said.json();
    let calls = plan["contacts"].as_array().unwrap().iter().flat_map(|contact| {
        contact["calls"].as_array().unwrap().iter().map(|call| call["action"].clone())
    });
    let mut told: Vec<_> = calls.map(|call| call.as_str().unwrap().to_owned()).collect();

    let mark = stand.mark();
    for object in ["gone", "let-go"] {
        stand.delete(object).await;
    }
    for manifest in &next {
        stand::apply(&stand.contacts(), manifest).await.unwrap();
    }
    for object in ["gone", "let-go"] {
        stand.is_gone(object).await;
    }
    for object in ["kept", "edited", "renamed", "fresh"] {
        stand.becomes(object, "Synced", "InSync").await;
    }
    stand.becomes("fresh", "EmailVerified", "VerificationSent").await;
    let bound = |object: &DynamicObject| stand::condition_of(object, "Bound")["status"] == "True";
    for object in ["edited", "fresh"] {
        stand.sees(object, "is bound", bound).await;
    }
    // Whatever else there were to do would be done by now.
    stand.ask_directory().await;
    for object in ["kept", "edited", "renamed", "fresh"] {
        stand.ask(object).await;
    }
    let mut done: Vec<_> =
        stand.actions_since(mark).into_iter().filter(|action| is_write(action)).collect();
    told.sort();
    done.sort();
    assert_eq!(told, done, "{plan:#}");
    println!("told and done: {told:?}");
    stand.is_untouched(&trap);
    let after = desk_folder.plan(&["-f", &file, "--allow-endpoint", &endpoint]);
    assert_eq!(after.code, 0, "{}", after.out);
}
