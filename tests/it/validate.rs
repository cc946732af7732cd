//! `validate` says before the merge what the apiserver would say after it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use futures::{StreamExt as _, stream};
use kube::Client;
use message_contact_operator::api;
use message_contact_operator::cli::validate::{Refusal, RefusalKind, check};
use serde_json::{Map, Value, json};

use crate::dice::Dice;
use crate::stand;

/// Objects that are compared: enough that every rule is broken by some of them.
const OBJECTS: usize = 1_500;
/// The same for `MCO_TEST=full`.
const OBJECTS_FULL: usize = 7_500;

#[tokio::test(flavor = "multi_thread")]
async fn it_agrees_with_the_apiserver_on_generated_objects() {
    let cluster = stand::cluster().await;
    let client = cluster.client();
    let namespace = cluster.namespace("validate").await.unwrap();
    let seed = std::env::var("MCO_SEED").map_or(1, |seed| seed.parse().unwrap());
    let full = std::env::var("MCO_TEST").is_ok_and(|level| level == "full");
    let mut dice = Dice(seed);
    let count = if full { OBJECTS_FULL } else { OBJECTS };
    let generated = (0..count).map(|_| object(&mut dice, &namespace));
    let objects: Vec<Value> = generated.chain(seldom(&namespace)).collect();

    let told: Vec<(Value, Told)> = stream::iter(objects)
        .map(|object| {
            let (client, namespace) = (client.clone(), namespace.clone());
            async move {
                let told = create_dry(&client, &namespace, &object).await;
                (object, told)
            }
        })
        .buffered(20)
        .collect()
        .await;

    let rules = rule_texts();
    let (mut codes, mut kinds, mut texts) = (BTreeMap::new(), BTreeSet::new(), BTreeSet::new());
    let mut disagreements = Vec::new();
    for (object, told) in &told {
        *codes.entry(told.code).or_insert(0) += 1;
        let ours = check(object);
        kinds.extend(ours.iter().map(|refusal| refusal.kind));
        texts.extend(
            ours.iter()
                .filter(|ours| rules.contains(&ours.message))
                .map(|ours| ours.message.clone()),
        );
        disagreements
            .extend(difference(told, &ours, &rules).map(|what| format!("{object}\n   {what}")));
    }
    println!(
        "seed {seed}: {} pairs tried, {} disagreements; answers of the apiserver: {codes:?}",
        told.len(),
        disagreements.len()
    );
    assert!(disagreements.is_empty(), "seed {seed}:\n{}", disagreements.join("\n"));

    // What was compared is worth comparing: all answers, all kinds of reasons, all rules.
    assert!(codes.get(&201) > Some(&50) && codes.get(&400) > Some(&20), "{codes:?}");
    assert!(codes.get(&422) > Some(&200), "{codes:?}");
    // Nothing that is created is forbidden: that is said of changes.
    let unseen: Vec<_> = KINDS.iter().filter(|kind| !kinds.contains(kind)).collect();
    assert!(unseen.is_empty(), "seed {seed}: no object was refused for {unseen:?}");
    let unbroken: Vec<_> = rules.difference(&texts).collect();
    assert!(unbroken.is_empty(), "seed {seed}: no object broke the rules {unbroken:#?}");
}

const KINDS: [RefusalKind; 8] = [
    RefusalKind::Required,
    RefusalKind::Invalid,
    RefusalKind::NotSupported,
    RefusalKind::Duplicate,
    RefusalKind::TooLong,
    RefusalKind::TooMany,
    RefusalKind::TypeInvalid,
    RefusalKind::UnknownField,
];

/// What the apiserver said to a create.
struct Told {
    code: u16,
    message: String,
    /// Field, reason and text of each cause.
    causes: Vec<(String, String, String)>,
}

async fn create_dry(client: &Client, namespace: &str, object: &Value) -> Told {
    let plural = match object["kind"].as_str().unwrap() {
        "MessageContact" => format!("namespaces/{namespace}/messagecontacts"),
        "ContactPolicy" => "contactpolicies".to_owned(),
        _ => "resourcedirectories".to_owned(),
    };
    let uri =
        format!("/apis/message-contacts.dev/v1alpha1/{plural}?dryRun=All&fieldValidation=Strict");
    let request = http::Request::post(uri)
        .header("content-type", "application/json")
        .body(serde_json::to_vec(object).unwrap().into())
        .unwrap();
    let answer = client.send(request).await.unwrap();
    let code = answer.status().as_u16();
    let body = answer.into_body().collect_bytes().await.unwrap();
    let body: Value = serde_json::from_slice(&body).unwrap();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let causes = body["details"]["causes"].as_array().cloned().unwrap_or_default();
    Told {
        code,
        message: text(&body["message"]),
        causes: causes
            .iter()
            .map(|cause| (text(&cause["field"]), text(&cause["reason"]), text(&cause["message"])))
            // "Some validation rules were not checked": says nothing about the object.
            .filter(|(field, ..)| field != "<nil>")
            .collect(),
    }
}

/// How the two verdicts differ.
fn difference(told: &Told, ours: &[Refusal], rules: &BTreeSet<String>) -> Option<String> {
    let pairs = |refusals: &[&Refusal]| -> BTreeSet<(String, String)> {
        let pair = |refusal: &&Refusal| (refusal.field.clone(), refusal.kind.as_str().to_owned());
        refusals.iter().map(pair).collect()
    };
    let all: Vec<&Refusal> = ours.iter().collect();
    let (theirs, mine) = match told.code {
        201 => (BTreeSet::new(), pairs(&all)),
        // Unknown fields are told before anything else is looked at.
        400 if told.message.contains("unknown field") => {
            let unknown: Vec<_> =
                all.into_iter().filter(|ours| ours.kind == RefusalKind::UnknownField).collect();
            let theirs = unknown_fields(&told.message)
                .map(|field| (field, RefusalKind::UnknownField.as_str().to_owned()));
            (theirs.collect(), pairs(&unknown))
        }
        // Metadata of a wrong type cannot even be decoded, and the answer names no field.
        400 => {
            let told_too = all.iter().any(|ours| {
                ours.kind == RefusalKind::TypeInvalid && ours.field.starts_with("metadata")
            });
            return (!told_too).then(|| format!("only the apiserver refuses it: {}", told.message));
        }
        422 => {
            let theirs =
                told.causes.iter().map(|(field, reason, _)| (field.clone(), reason.clone()));
            (theirs.collect(), pairs(&all))
        }
        code => return Some(format!("an answer {code}: {}", told.message)),
    };
    if theirs != mine {
        return Some(format!("the apiserver ({}): {theirs:?}\n   ours: {mine:?}", told.code));
    }
    if told.code != 422 {
        return None;
    }
    let theirs: BTreeSet<(&str, &str)> = told
        .causes
        .iter()
        .map(|(field, _, message)| (field.as_str(), without_kind(message)))
        .filter(|(_, message)| rules.contains(*message))
        .collect();
    let mine: BTreeSet<(&str, &str)> = ours
        .iter()
        .map(|refusal| (refusal.field.as_str(), refusal.message.as_str()))
        .filter(|(_, message)| rules.contains(*message))
        .collect();
    (theirs != mine).then(|| format!("texts of the apiserver: {theirs:?}\n   ours: {mine:?}"))
}

/// The text of a cause without its kind: `Invalid value: write …`.
fn without_kind(message: &str) -> &str {
    let kinds = ["Invalid value: ", "Required value: ", "Duplicate value: ", "Forbidden: "];
    kinds.iter().find_map(|kind| message.strip_prefix(kind)).unwrap_or(message)
}

/// The fields in `strict decoding error: unknown field "spec.a", unknown field "spec.b"`.
fn unknown_fields(message: &str) -> impl Iterator<Item = String> {
    message
        .split("unknown field \"")
        .skip(1)
        .filter_map(|rest| rest.split('"').next().map(str::to_owned))
}

/// The texts of all rules in our definitions, those aside that compare with an older object.
fn rule_texts() -> BTreeSet<String> {
    fn collect(schema: &Value, texts: &mut BTreeSet<String>) {
        match schema {
            Value::Object(fields) => {
                let rules = fields.get("x-kubernetes-validations").and_then(Value::as_array);
                for rule in rules.into_iter().flatten() {
                    if !rule["rule"].as_str().unwrap().contains("oldSelf") {
                        texts.insert(rule["message"].as_str().unwrap().trim_end().to_owned());
                    }
                }
                fields.values().for_each(|inner| collect(inner, texts));
            }
            Value::Array(items) => items.iter().for_each(|inner| collect(inner, texts)),
            _ => {}
        }
    }
    let mut texts = BTreeSet::new();
    for crd in api::crds() {
        collect(&serde_json::to_value(&crd).unwrap(), &mut texts);
    }
    assert!(texts.len() > 20, "{texts:?}");
    texts
}

/// A valid object of one of the kinds, with some fields put over it, or taken out.
fn object(dice: &mut Dice, namespace: &str) -> Value {
    let contact = dice.percent(55);
    let (mut object, fields) = if contact {
        let spec = json!({ "name": "值班Desk", "title": "CEO", "emailAddress": "desk@example.com",
            "messageTypes": ["SecurityMessage", "FaultMessage"] });
        (json!({ "kind": "MessageContact", "spec": spec }), CONTACT_FIELDS)
    } else if dice.percent(50) {
        (json!({ "kind": "ResourceDirectory", "spec": {} }), DIRECTORY_FIELDS)
    } else {
        let spec = json!({ "unmanagedContacts": { "max": 0 } });
        (json!({ "kind": "ContactPolicy", "spec": spec }), POLICY_FIELDS)
    };
    object["apiVersion"] = json!("message-contacts.dev/v1alpha1");
    object["metadata"] = json!({ "name": "generated" });
    for _ in 0..dice.pick(&[0, 1, 1, 1, 1, 1, 2, 2, 3]) {
        let field = dice.pick(fields);
        if dice.percent(10) {
            object["spec"].as_object_mut().unwrap().remove(field);
            continue;
        }
        let fitting = dice.percent(75).then(|| fitting(field, dice)).flatten();
        object["spec"][field] = fitting.unwrap_or_else(|| anything(dice));
    }
    if dice.percent(5) {
        let (one, other) = dice.pick(&BOTH_OF);
        for field in [one, other].into_iter().filter(|field| fields.contains(field)) {
            object["spec"][field] = good(field);
        }
    }
    if dice.percent(2) {
        object["spec"] = anything(dice);
    }
    if dice.percent(15) {
        around(&mut object, dice);
    }
    if contact && object["metadata"].is_object() {
        object["metadata"]["namespace"] = json!(namespace);
    }
    object
}

/// Objects that break rules which a generated one seldom comes to, as others stand before them.
fn seldom(namespace: &str) -> Vec<Value> {
    let role = |field: &str, value: &str| {
        let mut role = json!({ "roleArn": "acs:ram::1234567890123456:role/contacts" });
        role[field] = json!(value);
        json!({ "credentials": { "assumeRole": role } })
    };
    let selecting =
        |requirement: Value| json!({ "namespaces": { "matchExpressions": [requirement] } });
    let directories = [
        role("externalId", "x"),
        role("sessionName", "a/b"),
        role("roleArn", "contacts"),
        json!({ "credentials": { "source": "Secret" } }),
        selecting(json!({ "key": "team", "operator": "In" })),
        selecting(json!({ "key": "team", "operator": "Exists", "values": ["x"] })),
        selecting(json!({ "key": "a b", "operator": "Exists" })),
    ];
    let directory = |spec: Value| {
        json!({ "apiVersion": "message-contacts.dev/v1alpha1", "kind": "ResourceDirectory",
            "metadata": { "name": "generated" }, "spec": spec })
    };
    let policies = [
        json!({}),
        json!({ "contact": { "titles": {} } }),
        json!({ "match": { "directories": ["-a"] }, "contact": { "phoneNumber": "Required" } }),
        json!({ "contact": { "emailDomains": { "allowed": ["com"], "denied": ["*."] } } }),
        json!({ "contact": { "messageTypes":
            { "allowed": ["FaultMessage"], "required": ["SecurityMessage"] } } }),
        json!({ "contact": { "members": { "allowed": ["a b"] } } }),
        json!({ "coverage": [{ "name": "a", "minContacts": 1 }, { "name": "a", "minContacts": 1 }] }),
        json!({ "coverage": [{ "name": "A", "minContacts": 1 }] }),
        json!({ "coverage": [{ "name": "a", "members": ["a b"], "minVerified": 1 }] }),
        json!({ "coverage": [{ "name": "a" }] }),
    ];
    let policy = |spec: Value| {
        json!({ "apiVersion": "message-contacts.dev/v1alpha1", "kind": "ContactPolicy",
            "metadata": { "name": "generated" }, "spec": spec })
    };
    let waits = ["5m", "5"].map(|wait| {
        json!({ "apiVersion": "message-contacts.dev/v1alpha1", "kind": "MessageContact",
            "metadata": { "name": "generated", "namespace": namespace },
            "spec": { "name": "值班Desk", "title": "CEO", "emailAddress": "desk@example.com",
                "messageTypes": ["FaultMessage"], "verification": { "resendAfter": wait } } })
    });
    let directories = directories.map(directory).into_iter();
    directories.chain(policies.map(policy)).chain(waits).collect()
}

/// Good alone, bad together.
const BOTH_OF: [(&str, &str); 3] = [
    ("emailAddress", "emailAddressFrom"),
    ("phoneNumber", "phoneNumberFrom"),
    ("site", "endpoint"),
];

fn good(field: &str) -> Value {
    match field {
        "emailAddress" => json!("desk@example.com"),
        "phoneNumber" => json!("86-13800138055"),
        "site" => json!("International"),
        "endpoint" => json!("https://resourcedirectory.aliyuncs.com"),
        _ => json!({ "secretKeyRef": { "name": "mailboxes", "key": "desk.mail" } }),
    }
}

const CONTACT_FIELDS: &[&str] = &[
    "name",
    "title",
    "emailAddress",
    "phoneNumber",
    "messageTypes",
    "members",
    "directoryRef",
    "emailAddressFrom",
    "phoneNumberFrom",
    "reconcilePolicy",
    "adoptionPolicy",
    "deletionPolicy",
    "retainInMembers",
    "verification",
    "readyWhen",
    "suspend",
    "emial",
];

const DIRECTORY_FIELDS: &[&str] = &[
    "site",
    "endpoint",
    "directoryId",
    "credentials",
    "credentials",
    "namespaces",
    "namespaces",
    "allowedMembers",
    "adoption",
    "management",
    "pollInterval",
    "requestsPerSecond",
    "suspend",
    "contacts",
];

const POLICY_FIELDS: &[&str] = &[
    "enforcement",
    "match",
    "contact",
    "contact",
    "contact",
    "coverage",
    "coverage",
    "unmanagedContacts",
    "rules",
];

/// A value that nearly belongs there: of the right shape, and good or just past a limit.
fn fitting(field: &str, dice: &mut Dice) -> Option<Value> {
    let texts = |dice: &mut Dice, texts: &[&str]| Some(json!(dice.pick(texts)));
    match field {
        "name" => texts(dice, &NAMES),
        "emailAddress" => match dice.roll(8) {
            0 => Some(json!(format!("{}@example.com", "l".repeat(dice.pick(&[242, 243]))))),
            _ => texts(dice, &ADDRESSES),
        },
        "phoneNumber" => texts(dice, &NUMBERS),
        "title" => texts(dice, &["CEO", "Other", "FinanceDirector", "Boss", "ceo", ""]),
        "messageTypes" => Some(list(dice, 8, &MESSAGE_TYPES)),
        "members" if dice.percent(10) => {
            let count = dice.pick(&[50, 51]);
            Some((0..count).map(|number| json!(format!("fd-{number}"))).collect())
        }
        "members" | "allowedMembers" => Some(list(dice, 4, &MEMBERS)),
        "directoryRef" => Some(some_of(dice, &["name"], 85)),
        "emailAddressFrom" | "phoneNumberFrom" => Some(match dice.roll(4) {
            0 => json!({ "secretKeyRef": { "name": "mailboxes", "key": "desk.mail" } }),
            1 => json!({ "secretKeyRef": null }),
            _ => json!({ "secretKeyRef": some_of(dice, &["name", "key"], 85) }),
        }),
        "verification" => Some(some_of(dice, &["send", "resendAfter", "maxSends"], 50)),
        "resendAfter" | "pollInterval" => texts(dice, &DURATIONS),
        "maxSends" => Some(dice.pick(&[json!(0), json!(1), json!(20), json!(21), json!(2.5)])),
        "requestsPerSecond" => {
            Some(dice.pick(&[json!(0), json!(1), json!(100), json!(101), json!(5.5), json!("5")]))
        }
        "durationSeconds" => {
            Some(dice.pick(&[json!(899), json!(900), json!(43200), json!(43201), json!(1800.0)]))
        }
        "reconcilePolicy" => texts(dice, &["Enforce", "ReportOnly", "Report"]),
        "adoptionPolicy" | "adoption" => texts(dice, &["IfIdentical", "Always", "Never", "No"]),
        "deletionPolicy" => texts(dice, &["Delete", "Retain", "Orphan"]),
        "readyWhen" => texts(dice, &["Verified", "Synced", "Active"]),
        "send" => texts(dice, &["Automatic", "Never", "Manual"]),
        "management" => texts(dice, &["Full", "NoDelete", "ReportOnly", "Some"]),
        "site" => texts(dice, &["China", "International", "Europe"]),
        "suspend" | "retainInMembers" | "distinctMailboxes" => Some(json!(dice.percent(50))),
        "endpoint" => texts(dice, &ENDPOINTS),
        "directoryId" => texts(dice, &["rd-a1b2c3", "rd-", "r-a1b2c3", "rd-a_b", ""]),
        "credentials" => Some(credentials(dice)),
        "namespaces" | "namespaceSelector" => Some(selector(dice)),
        "enforcement" => texts(dice, &["Audit", "Warn", "Deny", "Block"]),
        "match" => Some(some_of(dice, &["directories", "namespaceSelector"], 60)),
        "directories" => Some(list(dice, 3, &["default", "a.b-c", "Default", "-a", ""])),
        "contact" => Some(contact_rules(dice)),
        "titles" => Some(list(dice, 3, &["CEO", "Other", "Boss"])),
        "coverage" => {
            let rules = (0..dice.roll(3)).map(|_| some_of(dice, &COVERAGE_FIELDS, 45));
            Some(rules.collect())
        }
        "minContacts" | "minVerified" | "max" => Some(dice.pick(&[
            json!(0),
            json!(1),
            json!(1000),
            json!(1001),
            json!(10_001),
            json!(-1),
        ])),
        "unmanagedContacts" => Some(some_of(dice, &["max"], 85)),
        _ => None,
    }
}

const COVERAGE_FIELDS: [&str; 7] =
    ["name", "name", "messageTypes", "members", "minContacts", "minVerified", "distinctMailboxes"];
const DOMAINS: [&str; 12] = [
    "example.com",
    "*.example.com",
    "*.cn",
    "com",
    "*",
    "*.",
    "a..b",
    "A.B",
    "例子.cn",
    "a.b.",
    "",
    "a_b.cn",
];
const NAMES: [&str; 14] = [
    "王",
    "王小明",
    "Ab",
    "A",
    "Abcdefghijkl",
    "Abcdefghijklm",
    "𠀀𠀀",
    "Zoë",
    "a b",
    "A-b",
    "Ab1",
    "",
    " Ab",
    "〇一",
];
const ADDRESSES: [&str; 14] = [
    "a@example.com",
    "A+b'c@x-y.example.com",
    "a@b",
    "a@example..com",
    "ä@example.com",
    "a@example.com\n",
    "a b@example.com",
    "@example.com",
    "a@",
    "Desk <a@example.com>",
    "",
    "a@@example.com",
    "a,b@example.com",
    "a_b%c@example.com",
];
const NUMBERS: [&str; 16] = [
    "86-13800138000",
    "8613800138000",
    "+86-13800138000",
    "86-12800138000",
    "86-1380013800",
    "1-55555",
    "1-5555",
    "852-12345678",
    "0-12345",
    "86-1",
    "861-12345",
    "8-12345678901234567890",
    "8-123456789012345678901",
    "88-12345",
    "86-13800138000 ",
    "",
];
const MESSAGE_TYPES: [&str; 8] = [
    "ServiceMessage",
    "FaultMessage",
    "AccountExpenses",
    "SecurityMessage",
    "ActivityMessage",
    "ProductMessage",
    "securityMessage",
    "SecurityMessage",
];
const MEMBERS: [&str; 8] =
    ["rd-a1b2c3", "fd-bEaXfC0000", "1234567890123456", "r-a1b2c3", "a b", "", "-a", "值"];
const DURATIONS: [&str; 18] = [
    "5", "5m", "10m", "1h30m", "24h", "9s", "10s", "9m59s", "9m60s", "600s", "0h", "", "1.5h",
    "99999h", "100000h", "10s10m", "-10m", "10M",
];
const ENDPOINTS: [&str; 15] = [
    "https://resourcedirectory.aliyuncs.com",
    "http://127.0.0.1:8080",
    "https://[::1]:8443/",
    "https://example.com/path",
    "https://user@example.com",
    "https://example.com:123456",
    "ftp://example.com",
    "https://",
    "https://example.com?query",
    "https://-example.com",
    "https://example.",
    "example.com",
    "HTTPS://example.com",
    "https://exa mple.com",
    "",
];

fn list(dice: &mut Dice, most: usize, from: &[&str]) -> Value {
    let count = dice.roll(most + 1);
    let item = |dice: &mut Dice| match dice.roll(20) {
        0 => dice.pick(&[json!(null), json!(1), json!("x".repeat(65)), json!(["x"])]),
        _ => json!(dice.pick(from)),
    };
    (0..count).map(|_| item(dice)).collect()
}

/// An object with each of these fields at that chance, and now and then one that nobody knows.
fn some_of(dice: &mut Dice, fields: &[&str], percent: usize) -> Value {
    let mut chosen = Map::new();
    for (field, percent) in fields.iter().map(|field| (field, percent)).chain([(&"foo", 8)]) {
        if dice.percent(percent) {
            let fitting = dice.percent(90).then(|| match *field {
                "name" => {
                    Some(json!(dice.pick(&["default", "a.b-c", "Default", "-a", "a..b", ""])))
                }
                "key" => Some(json!(dice.pick(&["desk.mail", "a/b", "a b", "é", "..", ""]))),
                "roleArn" => Some(json!(dice.pick(&[
                    "acs:ram::1234567890123456:role/contacts",
                    "acs:ram::1:role/",
                    "acs:ram::x:role/contacts",
                ]))),
                "sessionName" => Some(json!(dice.pick(&["a.b@c_d-e", "a", "a/b", ""]))),
                "externalId" => Some(json!(dice.pick(&["值值", "x", "\n\n", ""]))),
                other => fitting(other, dice),
            });
            chosen.insert((*field).to_owned(), fitting.flatten().unwrap_or_else(|| anything(dice)));
        }
    }
    Value::Object(chosen)
}

fn credentials(dice: &mut Dice) -> Value {
    let mut chosen = Map::new();
    if dice.percent(75) {
        let source =
            dice.pick(&["Secret", "Secret", "Environment", "RRSA", "InstanceRole", "Keys"]);
        chosen.insert("source".to_owned(), json!(source));
    }
    if dice.percent(50) {
        chosen.insert("secretRef".to_owned(), some_of(dice, &["name"], 85));
    }
    if dice.percent(40) {
        let fields = ["roleArn", "sessionName", "externalId", "durationSeconds"];
        chosen.insert("assumeRole".to_owned(), some_of(dice, &fields, 65));
    }
    Value::Object(chosen)
}

fn selector(dice: &mut Dice) -> Value {
    let keys = ["team", "a b", "example.com/team", "/a", "a/", "A.b/c", "", "é", "a/b/c"];
    let mut chosen = Map::new();
    if dice.percent(60) {
        let values = [
            json!("x"),
            json!(""),
            json!("-"),
            json!("x".repeat(63)),
            json!("x".repeat(64)),
            json!(1),
            json!(null),
            json!("é"),
            json!({ "a": 1 }),
            json!([{ "a": 1 }]),
        ];
        let pairs = (0..dice.roll(3)).map(|_| (dice.pick(&keys).to_owned(), dice.pick(&values)));
        chosen.insert("matchLabels".to_owned(), Value::Object(pairs.collect()));
    }
    if dice.percent(60) {
        let keys = [json!("team"), json!("team"), json!("team"), json!("a b"), json!(1)];
        let operators = ["In", "NotIn", "Exists", "DoesNotExist", "In", "Exists", "Near"];
        let values = [json!(["x"]), json!(["x", "y"]), json!(null), json!([]), json!(["-"])];
        let requirement = |dice: &mut Dice| {
            let mut requirement = json!({
                "key": dice.pick(&keys),
                "operator": dice.pick(&operators),
                "values": dice.pick(&values),
            });
            if dice.percent(15) {
                let part = dice.pick(&["key", "operator", "values"]);
                requirement[part] = anything(dice);
            }
            requirement
        };
        let requirements = (0..dice.roll(3)).map(|_| requirement(dice)).collect();
        chosen.insert("matchExpressions".to_owned(), requirements);
    }
    Value::Object(chosen)
}

/// What a policy may demand of contacts.
fn contact_rules(dice: &mut Dice) -> Value {
    let mut chosen = Map::new();
    let lists: [(&str, &[&str], &[&str]); 4] = [
        ("emailDomains", &["allowed", "denied"], &DOMAINS),
        ("titles", &["allowed"], &["CEO", "Other", "Boss"]),
        ("messageTypes", &["allowed", "required"], &MESSAGE_TYPES),
        ("members", &["allowed"], &MEMBERS),
    ];
    for (field, words, from) in lists {
        if dice.percent(40) {
            let mut rules = Map::new();
            for word in words {
                if dice.percent(75) {
                    rules.insert((*word).to_owned(), list(dice, 3, from));
                }
            }
            let rules = if dice.percent(5) { anything(dice) } else { Value::Object(rules) };
            chosen.insert(field.to_owned(), rules);
        }
    }
    if dice.percent(40) {
        let word = dice.pick(&["Optional", "Required", "Forbidden", "None"]);
        chosen.insert("phoneNumber".to_owned(), json!(word));
    }
    Value::Object(chosen)
}

/// A value of any kind, mostly out of place.
fn anything(dice: &mut Dice) -> Value {
    match dice.roll(24) {
        0 => json!(null),
        1 => json!(true),
        2 => json!(0),
        3 => json!(-1),
        4 => json!(1.5),
        5 => json!(3.0),
        6 => json!(9_007_199_254_740_993_i64),
        7 => json!(""),
        8 => json!("a b"),
        9 => json!("é"),
        10 => json!("x".repeat(300)),
        11 => json!("5"),
        12 => json!([]),
        13 => json!(["x"]),
        14 => json!(["x", "x"]),
        15 => json!([null]),
        16 => json!([1]),
        17 => json!({}),
        18 => json!({ "a": 1 }),
        19 => json!({ "name": "ok" }),
        20 => json!({ "": {} }),
        21 => json!([{ "name": [{}] }]),
        22 => (0..40).fold(json!("deep"), |inner, _| json!({ "deep": [inner] })),
        _ => json!("SecurityMessage"),
    }
}

/// What may be wrong outside the spec.
fn around(object: &mut Value, dice: &mut Dice) {
    let labels = |dice: &mut Dice| {
        let key = dice.pick(&["team", "a b", "A.b/c", "x.y/z"]);
        json!({ key: dice.pick(&["x", "-", "", "a b"]) })
    };
    let metadata = &mut object["metadata"];
    match dice.roll(14) {
        0 | 1 => metadata["name"] = json!(dice.pick(&["A", "a.b", "-a", "", "a_b", "a..b"])),
        2 => metadata["name"] = json!("a".repeat(dice.pick(&[253, 254]))),
        3 => _ = metadata.as_object_mut().unwrap().remove("name"),
        4 => metadata["labels"] = labels(dice),
        5 => metadata["annotations"] = labels(dice),
        6 => metadata["label"] = labels(dice),
        7 => {
            _ = metadata.as_object_mut().unwrap().remove("name");
            metadata["generateName"] = json!(dice.pick(&["a-", "A", "a", "-", "a_"]));
        }
        8 => metadata["finalizers"] = json!([dice.pick(&["example.com/a", "a b", "example.com/"])]),
        9 => metadata["labels"] = json!({ "team": 1 }),
        10 => metadata["annotations"] = dice.pick(&[json!([]), json!({ "a": {} }), json!("x")]),
        11 => *metadata = dice.pick(&[json!({}), json!(null), json!([]), json!("x")]),
        12 => object["status"] = json!({ dice.pick(&["contactId", "contact"]): "c-1" }),
        _ => object["sepc"] = json!({ "name": "x" }),
    }
}

const GOOD: &str = "\
apiVersion: message-contacts.dev/v1alpha1
kind: MessageContact
metadata:
  name: night-desk
spec:
  name: 值夜
  title: MaintenanceDirector
  emailAddress: night@example.com
  messageTypes: [FaultMessage]
";

/// The second document is refused twice, once for a value that slipped to where a name belongs.
const BAD: &str = "\
apiVersion: v1
kind: Secret
metadata:
  name: not-ours
stringData:
  mail: hidden-in-secret@example.com
---
apiVersion: message-contacts.dev/v1alpha1
kind: MessageContact
metadata:
  name: day-desk
spec:
  name: DayDesk
  title: CEO
  emailAddress: 'Day Desk <private-day@example.com>'
  phoneNumber: '+86-13800138077'
  messageTypes:
  - FaultMessage
  - private-type@example.com
  private-key@example.com: 13800138078
---
apiVersion: message-contacts.dev/v1alpha1
kind: ResourceDirectory
metadata: { name: default }
spec: { pollInterval: '5' }
";

const SAID_OF_BAD: [&str; 5] = [
    "15: MessageContact day-desk: spec.emailAddress: Invalid value",
    "16: MessageContact day-desk: spec.phoneNumber: Invalid value",
    "19: MessageContact day-desk: spec.messageTypes[1]: Unsupported value",
    "20: MessageContact day-desk: spec.***: Unknown field",
    "25: ResourceDirectory default: spec.pollInterval: Invalid value",
];

#[test]
fn each_refusal_names_its_place_and_no_private_value_in_a_file_and_in_the_input() {
    let folder = Folder::new("places");
    let file = folder.write("all.yaml", BAD);
    let from_file = program(&["validate", "-f", &file], "");
    let from_input = program(&["validate", "-f", "-"], BAD);
    for (output, place) in [(from_file, file.as_str()), (from_input, "<stdin>")] {
        let said = said(&output, 1);
        // Rules are not looked at where the schema is broken, as in the apiserver.
        let expected: Vec<_> = SAID_OF_BAD.iter().filter(|line| !line.contains("phone")).collect();
        for line in expected.iter().filter(|line| !line.contains("emailAddress")) {
            assert!(said.contains(&format!("{place}:{line}")), "{line} is missing:\n{said}");
        }
        assert!(said.ends_with("2 checked, 2 refused, 1 of other kinds ignored\n"), "{said}");
        nothing_private(&said);
    }

    // With the schema kept, the rules speak.
    let rules_only = BAD.replace("  - private-type@example.com\n", "");
    let rules_only = rules_only.replace("  private-key@example.com: 13800138078\n", "");
    let output = program(&["validate", "-f", "-"], &rules_only);
    let said = said(&output, 1);
    for line in &SAID_OF_BAD[..2] {
        assert!(said.contains(&format!("<stdin>:{line}")), "{line} is missing:\n{said}");
    }
    nothing_private(&said);
}

#[test]
fn a_folder_is_read_to_the_bottom_and_one_bad_file_fails_all() {
    let folder = Folder::new("folder");
    folder.write("team/deep/contact.yaml", GOOD);
    folder.write("list.json", &list_of(GOOD).to_string());
    folder.write("notes.txt", "kind: MessageContact\nprivate-note@example.com: 1\n");
    folder.write(".hidden/bad.yaml", BAD);
    let path = folder.0.to_str().unwrap().to_owned();
    let output = program(&["validate", "-f", &path], "");
    assert_eq!(said(&output, 0), "2 checked, 0 refused, 0 of other kinds ignored\n");

    let bad = folder.write("team/bad.yml", BAD);
    let said = said(&program(&["validate", "--filename", &path], ""), 1);
    assert!(said.contains(&format!("{bad}:25: ResourceDirectory default")), "{said}");
    assert!(said.ends_with("4 checked, 2 refused, 1 of other kinds ignored\n"), "{said}");
    nothing_private(&said);
}

#[test]
fn what_cannot_be_read_fails_without_being_quoted() {
    let folder = Folder::new("unreadable");
    let torn = folder.write("torn.yaml", "spec:\n  private-torn@example.com: [\n");
    let twice = folder.write("twice.yaml", "a: private-twice@example.com\na: 1\n");
    let missing = folder.0.join("missing.yaml").to_str().unwrap().to_owned();
    let good = folder.write("good.yaml", GOOD);
    let arguments = ["validate", "-f", &torn, "-f", &twice, "-f", &missing, "-f", &good];
    let said = said(&program(&arguments, ""), 1);
    assert!(said.contains(&format!("{twice}:2: a key is written twice")), "{said}");
    assert!(said.contains(&format!("{missing}: entity not found")), "{said}");
    assert!(
        said.ends_with("1 checked, 0 refused, 0 of other kinds ignored, 3 unreadable\n"),
        "{said}"
    );
    nothing_private(&said);
    // Nothing but other kinds, nothing at all: there is nothing to complain about.
    let others = said_of(&["validate", "-f", "-"], "apiVersion: v1\nkind: ConfigMap\n");
    assert_eq!(others, "0 checked, 0 refused, 1 of other kinds ignored\n");
    assert_eq!(
        said_of(&["validate", "-f", "-"], ""),
        "0 checked, 0 refused, 0 of other kinds ignored\n"
    );
}

#[test]
fn the_examples_are_valid() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let said = said_of(&["validate", "-f", examples.to_str().unwrap()], "");
    assert!(said.contains(" 0 refused"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_printed_definitions_are_what_the_apiserver_takes() {
    let printed = said_of(&["crds"], "");
    let crds: Vec<api::CustomResourceDefinition> = serde_saphyr::from_multiple(&printed).unwrap();
    let as_values = |crds: &[api::CustomResourceDefinition]| -> Vec<Value> {
        crds.iter().map(|crd| serde_json::to_value(crd).unwrap()).collect()
    };
    assert_eq!(as_values(&crds), as_values(&api::crds()));
    stand::cluster().await.apply_crds(&crds).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_printed_rules_of_admission_are_what_the_apiserver_takes() {
    let printed = said_of(&["crds", "--admission"], "");
    let client = stand::cluster().await.client();
    let documents: Vec<_> = printed.split("---\n").skip(1).collect();
    let rules = api::admission::rules();
    let objects = rules.iter().flat_map(|(policy, binding)| {
        [serde_json::to_value(policy).unwrap(), serde_json::to_value(binding).unwrap()]
    });
    let objects: Vec<Value> = objects.collect();
    assert_eq!(documents.len(), objects.len());
    for (document, object) in documents.into_iter().zip(&objects) {
        let plural = match object["kind"].as_str().unwrap() {
            "ValidatingAdmissionPolicy" => "validatingadmissionpolicies",
            _ => "validatingadmissionpolicybindings",
        };
        let name = object["metadata"]["name"].as_str().unwrap();
        // As text, so that the apiserver reads the YAML.
        let uri = format!(
            "/apis/admissionregistration.k8s.io/v1/{plural}/{name}?fieldManager=a-person&force=true"
        );
        let request = http::Request::patch(uri)
            .header("content-type", "application/apply-patch+yaml")
            .body(document.as_bytes().to_vec())
            .unwrap();
        let stored: Value = client.request(request).await.unwrap();
        for (field, value) in object["spec"].as_object().unwrap() {
            let mut stored = stored["spec"][field].clone();
            if field == "matchConstraints" {
                // What the apiserver fills in.
                stored.as_object_mut().unwrap().retain(|name, _| !value[name].is_null());
            }
            assert_eq!(stored, *value, "{name}: {field}");
        }
    }
}

#[test]
fn every_shell_gets_a_script_and_every_command_explains_itself() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = said_of(&["completions", shell], "");
        for word in ["validate", "message-contact-operator"] {
            assert!(script.contains(word), "{shell}: {word} is missing");
        }
    }
    let explained = [
        (vec!["--help"], "message contacts"),
        (vec!["run", "--help"], "--allow-endpoint"),
        (vec!["crds", "--help"], "custom resource definitions"),
        (vec!["crds", "--help"], "--admission"),
        (vec!["validate", "--help"], "Exit code 0"),
        (vec!["completions", "--help"], "zsh"),
        (vec!["--version"], env!("CARGO_PKG_VERSION")),
    ];
    for (arguments, word) in explained {
        let said = said_of(&arguments, "");
        assert!(said.contains(word), "{arguments:?} does not speak of {word}:\n{said}");
    }
    for arguments in [&["validate"][..], &["completions", "dos"], &["no-such-command"], &[]] {
        let output = program(arguments, "");
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{arguments:?}");
    }
}

/// Runs the program with this input and waits for its end.
fn program(arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_message-contact-operator"))
        .args(arguments)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

/// What it said, if it ended with that code.
#[track_caller]
fn said(output: &Output, code: i32) -> String {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{errors}");
    assert_eq!(errors, "");
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[track_caller]
fn said_of(arguments: &[&str], input: &str) -> String {
    said(&program(arguments, input), 0)
}

#[track_caller]
fn nothing_private(said: &str) {
    for word in ["private", "Day Desk", "hidden", "13800138", "@example.com", "DayDesk"] {
        // An advice may show how an address looks.
        let said = said.replace("user@example.com", "");
        assert!(!said.contains(word), "{word} is shown:\n{said}");
    }
}

/// What `kubectl get -o json` prints.
fn list_of(manifest: &str) -> Value {
    let item: Value = serde_saphyr::from_str(manifest).unwrap();
    json!({ "apiVersion": "v1", "kind": "List", "items": [item] })
}

/// A folder for one test below the target directory.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("validate-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
