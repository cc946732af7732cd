//! What cannot be meant is refused at once, with what to write instead and nothing private.

use std::net::TcpListener;

use directory_simulator::Options;
use kube::api::{Api, DynamicObject, PostParams};
use serde_json::{Value, json};

use crate::stand::{Stand, apply, assert_stalled, condition_of, merge, message_of};

/// Parts of the private values in the table below. None of them may come back.
const PRIVATE: [&str; 4] = ["canary", "wren", "9077", "hunter"];

const NAME: &str = "spec.name: Invalid value: write 2 to 12 letters (A-Z, a-z) or Chinese";
const EMAIL: &str = "spec.emailAddress: Invalid value: write one mailbox of 3 to 254";
const PHONE: &str = "spec.phoneNumber: Invalid value: write the country code without";
const OBJECT: &str = "write the name of a Kubernetes object";
const DURATION: &str = "write numbers with their units, such as 5m, 90s or 1h30m";

/// The fields put over a valid spec, and what the refusal says.
#[expect(clippy::too_many_lines, reason = "a table")]
fn contacts() -> Vec<(Value, &'static str)> {
    let from = |name: &str, key: &str| json!({ "secretKeyRef": { "name": name, "key": key } });
    let long = |length: usize| "a".repeat(length);
    vec![
        (json!({ "name": null }), "spec.name: Required value"),
        (json!({ "name": "" }), NAME),
        (json!({ "name": "W" }), NAME),
        (json!({ "name": "wrenwrenwrenw" }), "spec.name: Too long: may not be more than 12"),
        (json!({ "name": "wren9077" }), NAME),
        (json!({ "name": "wren wren" }), NAME),
        (json!({ "name": "wren-wren" }), NAME),
        (json!({ "name": "wr\u{e9}n" }), NAME),
        (json!({ "name": 9077 }), "spec.name in body must be of type string"),
        (json!({ "title": null }), "spec.title: Required value"),
        (json!({ "title": "" }), "supported values: \"FinanceDirector\", \"TechnicalDirector\""),
        (
            json!({ "title": "Boss" }),
            "supported values: \"FinanceDirector\", \"TechnicalDirector\"",
        ),
        (json!({ "title": "ceo" }), "spec.title: Unsupported value"),
        (json!({ "title": ["CEO"] }), "spec.title in body must be of type string"),
        (
            json!({ "emailAddress": null }),
            "spec.emailAddress: Required value: write emailAddress, or",
        ),
        (json!({ "emailAddress": "" }), EMAIL),
        (json!({ "emailAddress": "canary" }), EMAIL),
        (json!({ "emailAddress": "canary@localhost" }), EMAIL),
        (json!({ "emailAddress": "canary@@example.com" }), EMAIL),
        (json!({ "emailAddress": "Canary Wren <canary@example.com>" }), EMAIL),
        (json!({ "emailAddress": "canary@example.com,wren@example.com" }), EMAIL),
        (json!({ "emailAddress": "canary@example.com " }), EMAIL),
        (json!({ "emailAddress": "canary@ex\u{e4}mple.com" }), EMAIL),
        (
            json!({ "emailAddress": format!("canary{}@example.com", long(240)) }),
            "spec.emailAddress: Too long: may not be more than 254",
        ),
        (json!({ "emailAddress": 9077 }), "spec.emailAddress in body must be of type string"),
        (
            json!({ "emailAddressFrom": from("desk", "email") }),
            "spec.emailAddressFrom: Invalid value: write either emailAddress or",
        ),
        (
            json!({ "emailAddress": null, "emailAddressFrom": {} }),
            "spec.emailAddressFrom.secretKeyRef: Required value",
        ),
        (
            json!({ "emailAddress": null, "emailAddressFrom": { "secretKeyRef": { "name": "desk" } } }),
            "spec.emailAddressFrom.secretKeyRef.key: Required value",
        ),
        (json!({ "emailAddress": null, "emailAddressFrom": from("", "email") }), OBJECT),
        (json!({ "emailAddress": null, "emailAddressFrom": from("Desk", "email") }), OBJECT),
        (
            json!({ "emailAddress": null, "emailAddressFrom": from("desk", "e mail") }),
            "write a key of the Secret: letters, digits, hyphens, underscores and dots",
        ),
        (json!({ "phoneNumber": "" }), PHONE),
        (json!({ "phoneNumber": "+86 139 0013 9077" }), PHONE),
        (json!({ "phoneNumber": "+86-13900139077" }), PHONE),
        (json!({ "phoneNumber": "8613900139077" }), PHONE),
        (json!({ "phoneNumber": "13900139077" }), PHONE),
        (json!({ "phoneNumber": "86-1390019077" }), PHONE),
        (json!({ "phoneNumber": "86-23900139077" }), PHONE),
        (json!({ "phoneNumber": "86-139-0013-9077" }), PHONE),
        (json!({ "phoneNumber": "0086-13900139077" }), PHONE),
        (
            json!({ "phoneNumber": "86-13900139077139001390771" }),
            "spec.phoneNumber: Too long: may not be more than 25",
        ),
        (
            json!({ "phoneNumber": 8_613_900_139_077_u64 }),
            "spec.phoneNumber in body must be of type",
        ),
        (
            json!({ "phoneNumber": "86-13900139077", "phoneNumberFrom": from("desk", "phone") }),
            "spec.phoneNumberFrom: Invalid value: write either phoneNumber or",
        ),
        (json!({ "phoneNumberFrom": from("desk", "") }), "write a key of the Secret"),
        (json!({ "messageTypes": null }), "spec.messageTypes: Required value"),
        (json!({ "messageTypes": [] }), "should have at least 1 items"),
        (
            json!({ "messageTypes": "FaultMessage" }),
            "spec.messageTypes in body must be of type array",
        ),
        (json!({ "messageTypes": ["Faults"] }), "supported values: \"ServiceMessage\""),
        (
            json!({ "messageTypes": ["FaultMessage", "FaultMessage"] }),
            "spec.messageTypes[1]: Duplicate value: \"FaultMessage\"",
        ),
        (json!({ "members": "rd-a1b2c3" }), "spec.members in body must be of type array"),
        (json!({ "members": [1_000_000] }), "spec.members[0] in body must be of type string"),
        (json!({ "members": [""] }), "write ids as the cloud spells them"),
        (json!({ "members": ["rd_a1b2c3"] }), "write ids as the cloud spells them"),
        (json!({ "members": ["rd-a1b2c3", "rd-a1b2c3"] }), "write each id once"),
        (json!({ "members": vec!["rd-a1b2c3"; 51] }), "must have at most 50 items"),
        (json!({ "members": [long(65)] }), "Too long: may not be more than 64"),
        (json!({ "reconcilePolicy": "Off" }), "supported values: \"Enforce\", \"ReportOnly\""),
        (
            json!({ "adoptionPolicy": "" }),
            "supported values: \"IfIdentical\", \"Always\", \"Never\"",
        ),
        (json!({ "deletionPolicy": "Orphan" }), "supported values: \"Delete\", \"Retain\""),
        (json!({ "readyWhen": "Now" }), "supported values: \"Verified\", \"Synced\""),
        (
            json!({ "retainInMembers": "yes" }),
            "spec.retainInMembers in body must be of type boolean",
        ),
        (json!({ "suspend": "true" }), "spec.suspend in body must be of type boolean"),
        (json!({ "verification": {} }), "should have at least 1 properties"),
        (
            json!({ "verification": { "send": "Auto" } }),
            "supported values: \"Automatic\", \"Never\"",
        ),
        (json!({ "verification": { "resendAfter": "5" } }), DURATION),
        (json!({ "verification": { "resendAfter": "" } }), DURATION),
        (json!({ "verification": { "resendAfter": "1d" } }), DURATION),
        (json!({ "verification": { "resendAfter": 24 } }), "must be of type string"),
        (json!({ "verification": { "resendAfter": "9m" } }), "write a duration of at least 10m"),
        (json!({ "verification": { "maxSends": 0 } }), "should be greater than or equal to 1"),
        (json!({ "verification": { "maxSends": 21 } }), "should be less than or equal to 20"),
        (json!({ "verification": { "maxSends": "3" } }), "must be of type integer"),
        (json!({ "directoryRef": {} }), "spec.directoryRef.name: Required value"),
        (json!({ "directoryRef": { "name": "" } }), OBJECT),
        (json!({ "directoryRef": { "name": "Main_Directory" } }), OBJECT),
        (json!({ "directoryRef": { "name": long(254) } }), "Too long: may not be more than 253"),
        (json!({ "directoryRef": "main" }), "spec.directoryRef in body must be of type object"),
    ]
}

fn directories() -> Vec<(Value, &'static str)> {
    const ENDPOINT: &str = "spec.endpoint: Invalid value: write scheme, host and port only";
    const PIN: &str = "write the id of the directory, such as rd-a1b2c3";
    let secret = |source: Value, reference: Value| json!({ "credentials": { "source": source, "secretRef": reference } });
    let role = |fields: Value| {
        let mut role = json!({ "roleArn": "acs:ram::1234567890123456:role/contacts" });
        merge(&mut role, fields);
        json!({ "credentials": { "assumeRole": role } })
    };
    let labels = |labels: Value| json!({ "namespaces": { "matchLabels": labels } });
    let expression =
        |expression: Value| json!({ "namespaces": { "matchExpressions": [expression] } });
    vec![
        (json!({ "site": "Mars" }), "supported values: \"China\", \"International\""),
        (
            json!({ "site": "China", "endpoint": "https://resourcedirectory.aliyuncs.com" }),
            "write either site or endpoint, not both",
        ),
        (json!({ "endpoint": "" }), ENDPOINT),
        (json!({ "endpoint": "resourcedirectory.aliyuncs.com" }), ENDPOINT),
        (json!({ "endpoint": "ftp://resourcedirectory.aliyuncs.com" }), ENDPOINT),
        (json!({ "endpoint": "https://wren:hunter@resourcedirectory.aliyuncs.com" }), ENDPOINT),
        (json!({ "endpoint": "https://resourcedirectory.aliyuncs.com/?key=hunter" }), ENDPOINT),
        (json!({ "endpoint": format!("https://{}", "a".repeat(270)) }), "may not be more than 270"),
        (json!({ "directoryId": "" }), PIN),
        (json!({ "directoryId": "a1b2c3" }), PIN),
        (json!({ "directoryId": "rd-" }), PIN),
        (json!({ "directoryId": 12 }), "spec.directoryId in body must be of type string"),
        (json!({ "credentials": {} }), "should have at least 1 properties"),
        (
            json!({ "credentials": { "source": "Vault" } }),
            "supported values: \"Environment\", \"RRSA\"",
        ),
        (
            json!({ "credentials": { "source": "Secret" } }),
            "spec.credentials.secretRef: Required value: write secretRef, the Secret that holds",
        ),
        (
            secret(json!("RRSA"), json!({ "name": "keys" })),
            "write source: Secret, or leave secretRef out",
        ),
        (secret(json!("Secret"), json!({})), "spec.credentials.secretRef.name: Required value"),
        (secret(json!("Secret"), json!({ "name": "My Keys" })), OBJECT),
        (role(json!({ "roleArn": null })), "should have at least 1 properties"),
        (role(json!({ "roleArn": "arn:aws:iam::1:role/x" })), "write the ARN of the role"),
        (role(json!({ "sessionName": "x" })), "write 2 to 64 letters, digits, dots"),
        (role(json!({ "externalId": "9" })), "write 2 to 1224 characters"),
        (role(json!({ "durationSeconds": 899 })), "should be greater than or equal to 900"),
        (role(json!({ "durationSeconds": 43_201 })), "should be less than or equal to 43200"),
        (labels(json!({ "-team": "red" })), "write the key of a label"),
        (labels(json!({ "team": "red!" })), "write values of labels"),
        (labels(json!({ "team": 5 })), "must be of type string"),
        (expression(json!({ "key": "team", "operator": "In" })), "write values, at least one"),
        (
            expression(json!({ "key": "team", "operator": "Exists", "values": ["red"] })),
            "leave values out: Exists and DoesNotExist take none",
        ),
        (
            expression(json!({ "key": "team", "operator": "Is" })),
            "supported values: \"In\", \"NotIn\"",
        ),
        (json!({ "allowedMembers": [] }), "should have at least 1 items"),
        (json!({ "allowedMembers": ["fd-a", "fd-a"] }), "spec.allowedMembers[1]: Duplicate value"),
        (json!({ "adoption": "Sometimes" }), "supported values: \"IfIdentical\", \"Always\""),
        (
            json!({ "management": "None" }),
            "supported values: \"Full\", \"NoDelete\", \"ReportOnly\"",
        ),
        (json!({ "pollInterval": "5" }), DURATION),
        (json!({ "pollInterval": "5 m" }), DURATION),
        (json!({ "pollInterval": "5s" }), "write a duration of at least 10s"),
        (json!({ "pollInterval": 300 }), "spec.pollInterval in body must be of type string"),
        (json!({ "requestsPerSecond": 0 }), "should be greater than or equal to 1"),
        (json!({ "requestsPerSecond": 101 }), "should be less than or equal to 100"),
        (json!({ "requestsPerSecond": "10" }), "must be of type integer"),
        (json!({ "suspend": "no" }), "spec.suspend in body must be of type boolean"),
    ]
}

fn policies() -> Vec<(Value, &'static str)> {
    const DOMAIN: &str = "write domains such as example.com, or *.example.com for all";
    const MEMBER: &str = "write ids as the cloud spells them";
    let contact = |rules: Value| json!({ "contact": rules });
    let domains =
        |rule: &str, domains: Value| json!({ "contact": { "emailDomains": { rule: domains } } });
    let types = |rules: Value| json!({ "contact": { "messageTypes": rules } });
    let selecting = |selector: Value| json!({ "match": { "namespaceSelector": selector } });
    let covering = |fields: Value| {
        let mut rule = json!({ "name": "security", "minContacts": 1 });
        merge(&mut rule, fields);
        json!({ "coverage": [rule] })
    };
    vec![
        (
            json!({ "contact": null }),
            "spec.contact: Required value: write contact, coverage or unmanagedContacts",
        ),
        (json!({ "enforcement": "Block" }), "supported values: \"Audit\", \"Warn\", \"Deny\""),
        (json!({ "enforcement": true }), "spec.enforcement in body must be of type string"),
        (json!({ "match": {} }), "spec.match in body should have at least 1 properties"),
        (json!({ "match": { "directories": [] } }), "should have at least 1 items"),
        (json!({ "match": { "directories": ["Main_Directory"] } }), OBJECT),
        (json!({ "match": { "directories": vec!["main"; 65] } }), "must have at most 64 items"),
        (selecting(json!({ "matchLabels": { "-tier": "one" } })), "write the key of a label"),
        (selecting(json!({ "matchLabels": { "tier": "one!" } })), "write values of labels"),
        (
            selecting(json!({ "matchExpressions": [{ "key": "tier", "operator": "In" }] })),
            "write values, at least one",
        ),
        (contact(json!({})), "spec.contact in body should have at least 1 properties"),
        (contact(json!({ "emailDomains": {} })), "should have at least 1 properties"),
        (domains("allowed", json!([])), "should have at least 1 items"),
        (domains("allowed", json!(["com"])), DOMAIN),
        (domains("allowed", json!(["*example.com"])), DOMAIN),
        (domains("allowed", json!(["example.com."])), DOMAIN),
        (domains("allowed", json!(["\u{4f8b}\u{5b50}.cn"])), "names outside ASCII as xn--"),
        (domains("denied", json!(["canary@example.com"])), DOMAIN),
        (domains("denied", json!(["*"])), DOMAIN),
        (domains("denied", json!(["a.".repeat(130)])), "Too long: may not be more than 253"),
        (domains("denied", json!(vec!["example.com"; 65])), "must have at most 64 items"),
        (
            contact(json!({ "phoneNumber": "Needed" })),
            "supported values: \"Optional\", \"Required\", \"Forbidden\"",
        ),
        (contact(json!({ "titles": {} })), "spec.contact.titles.allowed: Required value"),
        (contact(json!({ "titles": { "allowed": ["Boss"] } })), "supported values: \"Finance"),
        (types(json!({ "allowed": ["Faults"] })), "supported values: \"ServiceMessage\""),
        (
            types(json!({ "allowed": ["FaultMessage"], "required": ["SecurityMessage"] })),
            "write only message types in required that stand in allowed, or leave allowed out",
        ),
        (contact(json!({ "members": { "allowed": ["rd_a"] } })), MEMBER),
        (covering(json!({ "name": "Security" })), "write up to 63 lower case letters, digits and"),
        (covering(json!({ "name": null })), "spec.coverage[0].name: Required value"),
        (covering(json!({ "minContacts": null })), "write minContacts or minVerified, or both"),
        (covering(json!({ "minContacts": 0 })), "should be greater than or equal to 1"),
        (covering(json!({ "minVerified": 1001 })), "should be less than or equal to 1000"),
        (covering(json!({ "members": ["a b"] })), MEMBER),
        (
            json!({ "coverage": [{ "name": "a", "minContacts": 1 },
                { "name": "a", "minVerified": 1 }] }),
            "write each name once",
        ),
        (json!({ "unmanagedContacts": {} }), "spec.unmanagedContacts.max: Required value"),
        (json!({ "unmanagedContacts": { "max": -1 } }), "should be greater than or equal to 0"),
    ]
}

/// Why the apiserver refuses an object; `None` if it does not.
async fn refusal(api: &Api<DynamicObject>, manifest: &Value) -> Option<String> {
    let object: DynamicObject = serde_json::from_value(manifest.clone()).unwrap();
    let dry_run = PostParams { dry_run: true, ..PostParams::default() };
    match api.create(&dry_run, &object).await {
        Ok(_) => None,
        Err(kube::Error::Api(status)) => Some(status.message),
        Err(error) => panic!("{error}"),
    }
}

/// Every row is refused with its text, and with nothing private.
async fn check(api: &Api<DynamicObject>, valid: &Value, rows: Vec<(Value, &'static str)>) {
    assert_eq!(refusal(api, valid).await, None, "the table stands on a valid spec");
    let mut wrong = Vec::new();
    for (fields, expected) in rows {
        let mut manifest = valid.clone();
        merge(&mut manifest["spec"], fields.clone());
        match refusal(api, &manifest).await {
            None => wrong.push(format!("{fields} is accepted")),
            Some(text) => {
                let lower = text.to_lowercase();
                let leaked: Vec<_> = PRIVATE.iter().filter(|part| lower.contains(**part)).collect();
                if !text.contains(expected) || !leaked.is_empty() {
                    wrong.push(format!("{fields}: leaks {leaked:?}: {text}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_bad_field_of_a_contact_is_refused_with_what_to_write_instead() {
    let stand = Stand::unconnected(Options::default()).await;
    let valid = stand.manifest("good", "Ouyangxiu", json!({}));
    check(&stand.contacts(), &valid, contacts()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_bad_field_of_a_directory_is_refused_with_what_to_write_instead() {
    let stand = Stand::unconnected(Options::default()).await;
    let valid = json!({ "apiVersion": "message-contacts.dev/v1alpha1",
        "kind": "ResourceDirectory", "metadata": { "name": stand.directory }, "spec": {} });
    check(&stand.directories(), &valid, directories()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_bad_field_of_a_policy_is_refused_with_what_to_write_instead() {
    let stand = Stand::unconnected(Options::default()).await;
    // It speaks of nobody in this cluster: other stories go on beside it.
    let valid = json!({ "apiVersion": "message-contacts.dev/v1alpha1", "kind": "ContactPolicy",
        "metadata": { "name": stand.directory },
        "spec": { "contact": { "phoneNumber": "Required" } } });
    check(&stand.policies(), &valid, policies()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_contact_cannot_be_moved_to_another_directory() {
    let stand = Stand::unconnected(Options::default()).await;
    stand.apply("fixed", "Suxunqin", json!({})).await;
    for fields in [json!({ "directoryRef": { "name": "other" } }), json!({ "directoryRef": null })]
    {
        let manifest = stand.manifest("fixed", "Suxunqin", fields);
        match apply(&stand.contacts(), &manifest).await {
            Err(kube::Error::Api(status)) => {
                let advice = "delete this object and create a new one";
                assert!(status.message.contains(advice), "{}", status.message);
            }
            other => panic!("it should be refused: {other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_a_look_can_tell_holds_the_contact_without_a_call() {
    let stand = Stand::new().await;
    let from = json!({ "secretKeyRef": { "name": "absent", "key": "email" } });
    let fields = json!({ "emailAddress": null, "emailAddressFrom": from });
    stand.apply("unmet", "Zengguoyi", fields).await;
    let object = stand.ask("unmet").await;
    assert_eq!(condition_of(&object, "Synced")["reason"], "SecretNotFound");
    assert!(object.data["status"].get("creation").is_none());
    let asked = stand.simulator.counts();
    assert_eq!(asked.calls, asked.of("GetResourceDirectory") + asked.of("ListMessageContacts"));

    stand.apply("unmet", "Zengguoyi", json!({})).await;
    stand.becomes("unmet", "Ready", "InSync").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_the_cloud_refuses_is_named_and_not_sent_again() {
    let stand = Stand::new().await;
    stand.apply("abroad", "Wanganshi", json!({ "phoneNumber": "999-13800138031" })).await;
    let object = stand.becomes("abroad", "Synced", "InvalidContact").await;
    assert_stalled(&object, true);
    let message = message_of(&object, "Synced");
    assert!(message.contains("the country code of `phoneNumber`"), "{message}");
    assert!(!object.data["status"].to_string().contains("8031"));
    // Two more lists change nothing.
    stand.ask_directory().await;
    stand.ask_directory().await;
    assert_eq!(stand.simulator.counts().of("AddMessageContact"), 1);
    assert!(stand.simulator.state().contacts.is_empty());

    stand.apply("abroad", "Wanganshi", json!({ "phoneNumber": "86-13800138031" })).await;
    let object = stand.becomes("abroad", "Ready", "InSync").await;
    assert!(object.data["status"].get("lastError").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_is_not_allowed_is_not_connected_to() {
    let stand = Stand::unconnected(Options::default()).await;
    let stranger = TcpListener::bind("127.0.0.1:0").unwrap();
    stranger.set_nonblocking(true).unwrap();
    let port = stranger.local_addr().unwrap().port();
    stand.apply("careful", "Simaguang", json!({})).await;
    let own = stand.simulator.endpoint();
    // The near matches: another port, a longer host, http where https is built in, and back.
    for endpoint in [
        format!("http://127.0.0.1:{port}"),
        format!("https://127.0.0.1:{port}"),
        own.replace("http:", "https:"),
        own.replace("127.0.0.1", "localhost"),
        "https://resourcedirectory.aliyuncs.com.example.com".to_owned(),
        "http://resourcedirectory.aliyuncs.com".to_owned(),
    ] {
        stand.apply_directory(json!({ "endpoint": endpoint })).await;
        let directory = stand.directory_becomes("Ready", "EndpointNotAllowed").await;
        let message = message_of(&directory, "Ready");
        assert!(message.contains("--allow-endpoint"), "{message}");
        stand.ask("careful").await;
    }
    stand.becomes("careful", "Synced", "DirectoryNotReady").await;
    let nobody = stranger.accept().map(|_| ()).unwrap_err().kind();
    assert_eq!(nobody, std::io::ErrorKind::WouldBlock, "nobody has connected");
    assert_eq!(stand.simulator.counts().calls, 0);

    stand.apply_directory(json!({})).await;
    stand.directory_becomes("Ready", "Connected").await;
    stand.becomes("careful", "Ready", "InSync").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_directory_is_told_and_its_creation_noticed() {
    let stand = Stand::unconnected(Options::default()).await;
    stand.apply("early", "Fanzhongyan", json!({})).await;
    let object = stand.becomes("early", "Synced", "DirectoryNotFound").await;
    assert_stalled(&object, false);
    assert!(message_of(&object, "Synced").contains(&stand.directory));
    stand.apply_directory(json!({})).await;
    stand.becomes("early", "Ready", "InSync").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_secret_or_key_is_named_and_its_creation_noticed() {
    let stand = Stand::unconnected(Options::default()).await;
    let credentials = json!({ "source": "Secret", "secretRef": { "name": stand.directory } });
    stand.apply_directory(json!({ "credentials": credentials })).await;
    let said = async |expected: &str| {
        let what = format!("the directory says {expected}");
        cluster::wait_for(crate::stand::PATIENCE, &what, || async {
            let directory = stand.object_of_directory().await;
            let reason = condition_of(&directory, "Ready")["reason"] == "SecretNotFound";
            let message = message_of(&directory, "Ready");
            if reason && message.contains(expected) { Ok(()) } else { Err(message) }
        })
        .await
        .unwrap();
    };
    said(&format!("no Secret `{}` in the namespace `message-contacts`", stand.directory)).await;
    stand.apply_secret(&stand.directory, json!({ "accessKeyId": "FakeAccessKeyId0001" })).await;
    said("the key accessKeySecret is missing or empty").await;
    let blank = json!({ "accessKeyId": "FakeAccessKeyId0001", "accessKeySecret": "\n" });
    stand.apply_secret(&stand.directory, blank).await;
    stand.ask_directory().await;
    said("the key accessKeySecret is missing or empty").await;
    assert_eq!(stand.simulator.counts().calls, 0);

    let whole = json!({ "accessKeyId": "FakeAccessKeyId0001",
        "accessKeySecret": "FakeAccessKeySecret0001" });
    stand.apply_secret(&stand.directory, whole).await;
    stand.directory_becomes("Ready", "Connected").await;
}
