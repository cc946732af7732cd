use std::{env, fs};

use serde_json::json;

use super::*;

fn contact() -> Value {
    json!({
        "apiVersion": "message-contacts.dev/v1alpha1",
        "kind": "MessageContact",
        "metadata": { "name": "firewall" },
        "spec": {
            "name": "Firewall",
            "title": "TechnicalDirector",
            "emailAddress": "mailbox@example.com",
            "messageTypes": ["SecurityMessage"],
        },
    })
}

/// What is refused after one change of the spec, as `field kind`.
fn refused(change: Value) -> Vec<String> {
    let mut object = contact();
    for (field, value) in change.as_object().unwrap() {
        object["spec"][field] = value.clone();
    }
    told(&object)
}

fn told(object: &Value) -> Vec<String> {
    let told = |refusal: Refusal| {
        let kind = refusal.kind.as_str();
        format!("{} {}", refusal.field, kind.strip_prefix("FieldValue").unwrap_or(kind))
    };
    check(object).into_iter().map(told).collect()
}

#[test]
fn a_good_object_is_not_refused() {
    assert_eq!(told(&contact()), [""; 0]);
    assert_eq!(refused(json!({ "verification": { "resendAfter": "1h30m" } })), [""; 0]);
    assert_eq!(refused(json!({ "members": [], "phoneNumber": null })), [""; 0]);
}

// What the apiserver of Kubernetes 1.37.2 answered to the same objects.
#[test]
fn one_mutation_is_refused_for_one_reason() {
    let one = |change: Value| refused(change).join(", ");
    assert_eq!(one(json!({ "name": "Fire wall" })), "spec.name Invalid");
    assert_eq!(one(json!({ "name": "Firewallwatch" })), "spec.name TooLong");
    assert_eq!(one(json!({ "title": 5 })), "spec.title TypeInvalid, spec.title NotSupported");
    assert_eq!(one(json!({ "title": null })), "spec.title Required");
    assert_eq!(one(json!({ "emailAddress": null })), "spec.emailAddress Required");
    assert_eq!(one(json!({ "emailAddress": "nobody" })), "spec.emailAddress Invalid");
    assert_eq!(one(json!({ "emailAddress": 5 })), "spec.emailAddress TypeInvalid");
    assert_eq!(one(json!({ "messageTypes": [] })), "spec.messageTypes Invalid");
    let three_times = ["SecurityMessage"; 3];
    let seven_times = ["SecurityMessage"; 7];
    assert_eq!(one(json!({ "messageTypes": three_times })), "spec.messageTypes[1] Duplicate");
    assert_eq!(
        one(json!({ "messageTypes": seven_times })),
        "spec.messageTypes TooMany, spec.messageTypes[1] Duplicate"
    );
    assert_eq!(one(json!({ "verification": {} })), "spec.verification Invalid");
    assert_eq!(one(json!({ "verification": { "send": null } })), "spec.verification Invalid");
    let wait = |text: &str| one(json!({ "verification": { "resendAfter": text } }));
    assert_eq!(wait("15"), "spec.verification.resendAfter Invalid");
    assert_eq!(wait("9m"), "spec.verification.resendAfter Invalid");
    assert_eq!(one(json!({ "emial": "x" })), "spec.emial UnknownField");
    let foreign_key = json!({ "verification": [{ "a": 1 }] });
    assert_eq!(
        one(foreign_key),
        "spec.verification[0].a UnknownField, spec.verification TypeInvalid"
    );
    // A key that would be known if it were not in a list.
    let known_key = json!({ "verification": [{ "send": "Never" }] });
    assert_eq!(
        one(known_key),
        "spec.verification[0].send UnknownField, spec.verification TypeInvalid"
    );
}

#[test]
fn rules_speak_with_the_words_of_the_definition() {
    let mut object = contact();
    object["spec"]["emailAddress"] = "nobody".into();
    let refusals = check(&object);
    assert_eq!(refusals[0].message, crate::domain::channel::EmailAddress::ADVICE);
}

#[test]
fn the_object_around_the_spec_is_checked() {
    let with = |change: Value| {
        let mut object = contact();
        for (field, value) in change.as_object().unwrap() {
            object[field] = value.clone();
        }
        told(&object).join(", ")
    };
    assert_eq!(with(json!({ "metadata": null })), "metadata.name Required");
    assert_eq!(with(json!({ "metadata": { "name": "A" } })), "metadata.name Invalid");
    assert_eq!(with(json!({ "metadata": { "generateName": "a-" } })), "");
    assert_eq!(
        with(json!({ "metadata": { "name": "a", "label": {} } })),
        "metadata.label UnknownField"
    );
    assert_eq!(
        with(json!({ "metadata": { "name": "a", "labels": { "a b": "c" } } })),
        "metadata.labels Invalid"
    );
    assert_eq!(with(json!({ "spec": null })), "spec Required");
    assert_eq!(with(json!({ "status": { "contactId": 5 } })), "");
    assert_eq!(with(json!({ "status": { "id": 5 } })), "status.id UnknownField");
    assert_eq!(with(json!({ "kind": "MessageContakt" })), "kind NotSupported");
    assert_eq!(with(json!({ "apiVersion": "message-contacts.dev/v1" })), "kind NotSupported");
    assert_eq!(with(json!({ "apiVersion": "v1" })), "");
}

const MANIFESTS: &str = r"
apiVersion: v1
kind: ConfigMap
---
# A comment, and then an object.
apiVersion: message-contacts.dev/v1alpha1
kind: MessageContact
metadata:
  name: firewall
spec:
  name: Firewall
  title: TechnicalDirector
  emailAddress: mailbox at example.com
  phoneNumber: 13812345678
  messageTypes:
  - SecurityMessage
  - Gossip
  mailbox@example.com: x
---
apiVersion: v1
kind: List
items:
- apiVersion: message-contacts.dev/v1alpha1
  kind: ResourceDirectory
  metadata: {name: default}
  spec:
    endpoint: https://example.com/path
";

#[test]
fn a_refusal_names_file_and_line_and_no_private_value() {
    let mut out = Vec::new();
    let summary = run(&["-".into()], &mut MANIFESTS.as_bytes(), &mut out).unwrap();
    expect_test::expect![[r"
        <stdin>:14: MessageContact firewall: spec.phoneNumber: Invalid value: must be of type string
        <stdin>:17: MessageContact firewall: spec.messageTypes[1]: Unsupported value: write one of ServiceMessage, FaultMessage, AccountExpenses, SecurityMessage, ActivityMessage, ProductMessage
        <stdin>:18: MessageContact firewall: spec.***: Unknown field
        <stdin>:27: ResourceDirectory default: spec.endpoint: Invalid value: write scheme, host and port only, such as https://resourcedirectory.aliyuncs.com, without user, path or query
        2 checked, 2 refused, 1 of other kinds ignored
    "]]
    .assert_eq(&String::from_utf8(out).unwrap());
    assert!(!summary.is_clean());
}

#[test]
fn what_is_not_yaml_is_told_without_quoting_it() {
    let check = |text: &str, expected: &str| {
        let mut out = Vec::new();
        let summary = run(&["-".into()], &mut text.as_bytes(), &mut out).unwrap();
        let out = String::from_utf8(out).unwrap();
        assert_eq!(out.lines().next(), Some(expected));
        assert_eq!(summary.unreadable, 1);
    };
    check("a: 1\nmailbox: [\n", "<stdin>:2: this is not YAML, or too large");
    check("a: mailbox\nb: 1\na: mailbox\n", "<stdin>:3: a key is written twice");
}

#[test]
fn a_folder_is_read_to_the_bottom() {
    let folder = env::temp_dir().join(format!("mco-validate-{}", std::process::id()));
    let deep = folder.join("a/b");
    fs::create_dir_all(&deep).unwrap();
    fs::create_dir_all(folder.join(".git")).unwrap();
    let good = serde_json::to_string(&contact()).unwrap();
    for file in ["a/b/one.yaml", "a/two.yml", "three.json", ".git/four.yaml", "five.txt"] {
        fs::write(folder.join(file), &good).unwrap();
    }
    let mut out = Vec::new();
    let missing = folder.join("missing.yaml");
    let summary = run(&[folder.clone(), missing], &mut io::empty(), &mut out).unwrap();
    fs::remove_dir_all(&folder).unwrap();
    assert_eq!(summary, Summary { checked: 3, unreadable: 1, ..Summary::default() });
}
