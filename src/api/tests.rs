use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use serde_json::{Value, json};

use super::contact_policy::ContactPolicySpec;
use super::message_contact::{MessageContactSpec, MessageContactStatus};
use super::parse::{self, ContactProblem, DirectoryProblem};
use super::resource_directory::{ContactCounts, ResourceDirectorySpec, ResourceDirectoryStatus};
use super::status::{self, DirectoryFacts, Facts};
use super::values::{self, Value as Kept, Values};
use crate::domain::access::Endpoint;
use crate::domain::call::DirectoryIdentity;
use crate::domain::channel::{EmailAddress, PhoneNumber};
use crate::domain::contact::{
    AccountId, ContactId, ContactName, ContactStatus, Creation, Difference, DirectoryId, Field,
    LastError, LastWrite, MemberId, MessageType, Mode, ObservedContact, ReadyWhen, Recorded,
    Removal, Revert, Title,
};
use crate::domain::directory::{CredentialSource, LabelSelector, Management, NamespaceRule};
use crate::domain::policy::{
    ContactRules, DomainPattern, Enforcement, PhoneRule, Policy, RuleName, Scope,
};
use crate::domain::verdict::{Finding, Reason, Verdict};
use crate::domain::verification::{
    ChannelRecord, ChannelState, Evidence, Outlook, Verification, whole_second,
};

// --- The schema -------------------------------------------------------------------------------

/// Every schema of a kind with its path; the kind's own is first.
fn schemas() -> Vec<(String, Value)> {
    fn walk(path: String, schema: &Value, found: &mut Vec<(String, Value)>) {
        for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
            walk(format!("{path}.{name}"), inner, found);
        }
        for keyword in ["items", "additionalProperties"] {
            if schema[keyword].is_object() {
                walk(format!("{path}[]"), &schema[keyword], found);
            }
        }
        found.push((path, schema.clone()));
    }
    let mut found = Vec::new();
    for crd in super::crds() {
        let schema = crd.spec.versions[0].schema.clone().unwrap().open_api_v3_schema.unwrap();
        walk(crd.spec.names.kind.clone(), &serde_json::to_value(schema).unwrap(), &mut found);
    }
    found
}

/// Asserts that no schema is complained about.
fn check_schemas(complaint: impl Fn(&str, &Value) -> Option<String>) {
    let complaints: Vec<_> = schemas()
        .iter()
        .filter_map(|(path, schema)| complaint(path, schema).map(|text| format!("{path}: {text}")))
        .collect();
    assert!(complaints.is_empty(), "{complaints:#?}");
}

#[test]
fn every_field_is_described_with_an_example() {
    check_schemas(|path, schema| {
        let text = schema["description"].as_str().unwrap_or_default();
        let needs_example = path.matches('.').count() > 1 && !path.ends_with("[]");
        let missing = if path.ends_with("[]") && schema["type"] != "object" {
            false
        } else {
            text.is_empty() || text.contains('\n') || (needs_example && !text.contains("Example:"))
        };
        missing.then(|| text.to_owned())
    });
}

#[test]
fn every_list_has_a_type_and_everything_has_a_maximum() {
    check_schemas(|_, schema| {
        let needed: &[&str] = match schema["type"].as_str()? {
            "array" => &["x-kubernetes-list-type", "maxItems"],
            "string" if schema["enum"].is_null() && schema["format"].is_null() => &["maxLength"],
            "object" if schema["additionalProperties"].is_object() => &["maxProperties"],
            _ => &[],
        };
        needed.iter().find(|keyword| schema[**keyword].is_null()).map(ToString::to_string)
    });
}

#[test]
fn a_list_or_object_in_spec_is_not_empty_unless_empty_means_something() {
    check_schemas(|path, schema| {
        let empty_means_something = ["MessageContact.spec.members", "ResourceDirectory.spec"];
        let in_spec = path.contains(".spec.") && !path.ends_with("[]");
        let needed = match schema["type"].as_str()? {
            "array" => "minItems",
            "object" => "minProperties",
            _ => return None,
        };
        let selects = path.ends_with(".namespaces") || path.ends_with(".namespaceSelector");
        let excepted = empty_means_something.contains(&path) || selects;
        (in_spec && !excepted && schema[needed].is_null()).then(|| needed.to_owned())
    });
    check_schemas(|path, schema| {
        let atomic = schema["x-kubernetes-list-type"] == "atomic"
            || schema["x-kubernetes-map-type"] == "atomic";
        let selects = path.ends_with(".namespaces") || path.ends_with(".namespaceSelector");
        let expected = path == "MessageContact.spec.members" || selects;
        (expected && !atomic).then(|| "not atomic".to_owned())
    });
}

#[test]
fn every_rule_says_what_to_write_why_and_where() {
    let mut rules = 0;
    for (path, schema) in schemas() {
        for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
            rules += 1;
            let field = rule["fieldPath"].as_str().unwrap_or_default().trim_start_matches('.');
            assert!(!rule["message"].as_str().unwrap_or_default().is_empty(), "{path} {rule}");
            assert!(!rule["reason"].is_null(), "{path} {rule}");
            assert!(schema["properties"][field].is_object(), "{path} {rule}");
            // The apiserver repeats the value on which a rule stands, unless it is an object.
            assert_eq!(schema["type"], "object", "{path} {rule}");
            // With this reason the apiserver leaves the message out.
            assert_ne!(rule["reason"], "FieldValueDuplicate", "{path} {rule}");
        }
    }
    assert!(rules > 20, "{rules}");
}

#[test]
fn nothing_in_spec_has_a_default_a_pattern_or_may_be_null() {
    check_schemas(|path, schema| {
        let forbidden = ["default", "pattern", "minLength", "nullable", "format"];
        let found = forbidden.iter().find(|keyword| !schema[**keyword].is_null());
        found.filter(|_| path.contains(".spec")).map(ToString::to_string)
    });
}

#[test]
fn nothing_that_the_cloud_said_can_make_a_status_unwritable() {
    check_schemas(|path, schema| {
        let forbidden = ["enum", "pattern", "minLength", "minItems", "minimum", "maximum"];
        let found = forbidden.iter().find(|keyword| !schema[**keyword].is_null());
        let ours = path.contains(".conditions") || !path.contains(".status");
        let set = schema["x-kubernetes-list-type"] == "set";
        found.filter(|_| !ours).map(ToString::to_string).or((set && !ours).then(|| "set".into()))
    });
}

#[test]
fn a_new_object_is_pending_for_everybody_who_waits() {
    for (path, schema) in schemas() {
        if path.matches('.').count() == 1 && path.ends_with(".status") {
            assert_eq!(schema["default"]["observedGeneration"], -1);
            let status: MessageContactStatus =
                serde_json::from_value(schema["default"].clone()).unwrap();
            let condition = &status.conditions[0];
            assert_eq!(
                (condition.type_.as_str(), condition.status.as_str(), condition.reason.as_str()),
                ("Ready", "Unknown", Reason::Pending.as_str()),
            );
        }
    }
}

#[test]
fn an_object_prints_nothing_private() {
    let mut spec = spec();
    spec.phone_number = Some("86-13812345678".into());
    let shown = format!("{:?}", super::MessageContact::new("x", spec));
    for private in ["Firewall", "mailbox", "13812345678"] {
        assert!(!shown.contains(private), "{shown}");
    }
}

#[test]
fn a_strange_object_can_still_be_read() {
    let strange = json!({
        "apiVersion": "message-contacts.dev/v1alpha1", "kind": "MessageContact", "metadata": {},
        "spec": { "title": "Boss", "later": 1 }, "status": { "creation": { "name": "X" } },
    });
    let read: super::MessageContact = serde_json::from_value(strange).unwrap();
    assert!(parse::contact(&read.spec, &Values::default()).is_err());
}

// --- Parsing ----------------------------------------------------------------------------------

fn spec() -> MessageContactSpec {
    MessageContactSpec {
        name: "Firewall".into(),
        title: "TechnicalDirector".into(),
        email_address: Some("mailbox@example.com".into()),
        message_types: vec!["SecurityMessage".into(), "FaultMessage".into()],
        ..MessageContactSpec::default()
    }
}

/// The spec after one change.
fn changed(change: Value) -> MessageContactSpec {
    let mut spec = serde_json::to_value(spec()).unwrap();
    for (field, value) in change.as_object().unwrap() {
        spec[field] = value.clone();
    }
    serde_json::from_value(spec).unwrap()
}

/// What is refused after one change: the field, without `spec.`. A refusal needs no Secret.
fn refused(change: Value) -> String {
    let problem = match parse::contact(&changed(change), &Values::default()) {
        Err(ContactProblem::Invalid(problem)) => problem,
        other => panic!("{other:?}"),
    };
    assert!(!problem.message.is_empty());
    problem.field_path.strip_prefix("spec.").unwrap().to_owned()
}

#[test]
fn a_contact_is_parsed_with_what_absence_means() {
    let desired = parse::contact(&spec(), &Values::default()).unwrap();
    assert_eq!(desired.name.as_str(), "Firewall");
    assert_eq!(desired.title, Title::TechnicalDirector);
    assert_eq!(desired.email, EmailAddress::observed("mailbox@example.com".into()));
    assert_eq!(desired.phone, None);
    let types = BTreeSet::from([MessageType::FaultMessage, MessageType::SecurityMessage]);
    assert_eq!(desired.message_types, types);
    assert_eq!((desired.mode, desired.ready_when), (Mode::Enforce, ReadyWhen::Verified));
    assert_eq!(desired.members, None);
    assert_eq!(parse::directory_name(&spec()), "default");
}

#[test]
fn bound_to_nothing_is_not_the_same_as_left_alone() {
    let members = |ids: &[&str]| {
        let ids = ids.iter().map(|id| (*id).to_owned()).collect();
        let spec = MessageContactSpec { members: Some(ids), ..spec() };
        parse::contact(&spec, &Values::default()).unwrap().members
    };
    assert_eq!(members(&[]), Some(BTreeSet::new()));
    assert_eq!(members(&["rd-a1b2c3"]), Some(BTreeSet::from([MemberId::from("rd-a1b2c3")])));
}

/// A spec that takes both values from the Secret `desk`.
fn from_secret() -> MessageContactSpec {
    let at = |key: &str| json!({ "secretKeyRef": { "name": "desk", "key": key } });
    changed(json!({ "emailAddress": null, "emailAddressFrom": at("mail"),
        "phoneNumberFrom": at("tel") }))
}

#[test]
fn values_of_a_secret_become_the_contact_s() {
    let spec = from_secret();
    let places = values::places(&spec);
    let keys = [places.email, places.phone].map(|place| place.unwrap().key.clone());
    assert_eq!(keys, ["mail", "tel"]);
    let known = Values {
        email: values::email(Some(b"desk@example.com\n")),
        phone: values::phone(Some(b"86-13800138000\r\n")),
    };
    let desired = parse::contact(&spec, &known).unwrap();
    assert_eq!(desired.email, EmailAddress::observed("desk@example.com".into()));
    assert_eq!(desired.phone, Some(PhoneNumber::observed("86-13800138000".into())));
    // What the spec says itself is not taken from anywhere else.
    let desired = parse::contact(&self::spec(), &known).unwrap();
    assert_eq!(desired.email, EmailAddress::observed("mailbox@example.com".into()));
    assert_eq!(desired.phone, None);
    assert!(!format!("{known:?}").contains("desk@"));
}

#[test]
fn one_line_end_is_no_part_of_a_value_and_anything_else_is() {
    let good: [&[u8]; 3] = [b"a@example.com", b"a@example.com\n", b"a@example.com\r\n"];
    for bytes in good {
        let expected = Kept::Known(EmailAddress::observed("a@example.com".into()));
        assert_eq!(values::email(Some(bytes)), expected);
    }
    let bad: [&[u8]; 8] = [
        b"",
        b"\n",
        b"a@example.com\n\n",
        b"a@example.com\r",
        b" a@example.com",
        b"a@example.com \n",
        b"\xef\xbb\xbfa@example.com",
        b"a@example.com\xff",
    ];
    for bytes in bad {
        assert!(matches!(values::email(Some(bytes)), Kept::Malformed(_)), "{bytes:?}");
    }
    assert!(matches!(values::phone(Some(b"13800138000")), Kept::Malformed(_)));
    assert_eq!(values::phone(None), Kept::NoKey);
}

#[test]
fn what_a_secret_lacks_is_told_with_its_name_and_key() {
    let known = || values::email(Some(b"desk@example.com"));
    let check = |phone: Kept<PhoneNumber>| {
        let values = Values { email: known(), phone };
        parse::contact(&from_secret(), &values).expect_err("it is not known")
    };
    let missing = |phone| match check(phone) {
        ContactProblem::SecretNotFound(problem) => problem.to_string(),
        other => panic!("{other:?}"),
    };
    assert_eq!(
        missing(Kept::NoSecret),
        "spec.phoneNumberFrom: there is no Secret `desk` in this namespace; create it, with the \
         key `tel`"
    );
    assert_eq!(
        missing(Kept::NoKey),
        "spec.phoneNumberFrom: the Secret `desk` has no key `tel`; add it"
    );
    assert_eq!(
        missing(Kept::Forbidden),
        "spec.phoneNumberFrom: the operator may not read the Secret `desk` of this namespace; \
         grant its service account `get` on it"
    );
    let malformed = check(values::phone(Some(b"private"))).to_string();
    assert!(
        malformed
            .starts_with("spec.phoneNumberFrom: the value of `tel` in the Secret `desk`: write"),
        "{malformed}"
    );
    assert!(!malformed.contains("private"));
    assert_eq!(check(Kept::Unread), ContactProblem::Unread);

    // Whoever waits for a Secret has nothing else to put right.
    let mut spec = from_secret();
    spec.message_types = Vec::new();
    let problem = parse::contact(&spec, &Values::default());
    assert!(matches!(problem, Err(ContactProblem::Invalid(_))), "{problem:?}");
    let values = Values { email: Kept::Unread, phone: values::phone(Some(b"private")) };
    let problem = parse::contact(&from_secret(), &values);
    assert!(matches!(problem, Err(ContactProblem::Invalid(_))), "{problem:?}");
}

#[test]
fn a_contact_is_refused_for_one_field() {
    let secret = json!({ "secretKeyRef": { "name": "a", "key": "b" } });
    assert_eq!(refused(json!({ "name": "F" })), "name");
    assert_eq!(refused(json!({ "name": "Firewall7" })), "name");
    assert_eq!(refused(json!({ "title": "Boss" })), "title");
    assert_eq!(refused(json!({ "emailAddress": "Owner <o@example.com>" })), "emailAddress");
    assert_eq!(refused(json!({ "emailAddress": null })), "emailAddress");
    assert_eq!(refused(json!({ "emailAddressFrom": secret })), "emailAddressFrom");
    assert_eq!(refused(json!({ "phoneNumber": "13812345678" })), "phoneNumber");
    let both = json!({ "phoneNumber": "86-13800138000", "phoneNumberFrom": secret });
    assert_eq!(refused(both), "phoneNumberFrom");
    let named = |name: &str, key: &str| {
        let secret = json!({ "secretKeyRef": { "name": name, "key": key } });
        json!({ "phoneNumberFrom": secret })
    };
    for name in ["", "../pods", "a/b", "A"] {
        assert_eq!(refused(named(name, "b")), "phoneNumberFrom.secretKeyRef.name", "{name}");
    }
    for key in ["", "a b", "a/b", &"k".repeat(254)] {
        assert_eq!(refused(named("a", key)), "phoneNumberFrom.secretKeyRef.key", "{key}");
    }
    assert_eq!(refused(json!({ "messageTypes": [] })), "messageTypes");
    assert_eq!(refused(json!({ "messageTypes": ["Gossip"] })), "messageTypes");
    assert_eq!(refused(json!({ "directoryRef": { "name": "A b" } })), "directoryRef.name");
    assert_eq!(refused(json!({ "reconcilePolicy": "Maybe" })), "reconcilePolicy");
    assert_eq!(refused(json!({ "adoptionPolicy": "Maybe" })), "adoptionPolicy");
    assert_eq!(refused(json!({ "deletionPolicy": "Maybe" })), "deletionPolicy");
    assert_eq!(refused(json!({ "readyWhen": "Maybe" })), "readyWhen");
    assert_eq!(refused(json!({ "members": ["a b"] })), "members");
    assert_eq!(refused(json!({ "members": ["rd-a", "rd-a"] })), "members");
    assert_eq!(refused(json!({ "verification": { "send": "Maybe" } })), "verification.send");
    let wait = |text: &str| refused(json!({ "verification": { "resendAfter": text } }));
    assert_eq!(wait("15"), "verification.resendAfter");
    assert_eq!(wait("9m59s"), "verification.resendAfter");
    assert_eq!(refused(json!({ "verification": { "maxSends": 21 } })), "verification.maxSends");
}

#[test]
fn a_duration_needs_its_units() {
    let seconds = |text: &str| parse::duration(text).map(|duration| duration.as_secs());
    assert_eq!(seconds("24h"), Some(86_400));
    assert_eq!(seconds("1h30m5s"), Some(5405));
    assert_eq!(seconds("90s"), Some(90));
    for text in ["", "5", "h", "5s1m", "1.5h", "-5m", "5 m", "5d", "100000h"] {
        assert_eq!(seconds(text), None, "{text}");
    }
}

#[test]
fn only_a_clear_wish_to_delete_deletes() {
    let removal = |change: Value| {
        let spec: MessageContactSpec = serde_json::from_value(change).unwrap();
        parse::removal(&spec)
    };
    let deleted = |retain_in_members| Removal::Delete { retain_in_members };
    assert_eq!(removal(json!({})), deleted(false));
    assert_eq!(removal(json!({ "deletionPolicy": "Delete" })), deleted(false));
    assert_eq!(removal(json!({ "retainInMembers": true })), deleted(true));
    assert_eq!(removal(json!({ "deletionPolicy": "Retain" })), Removal::Retain);
    assert_eq!(removal(json!({ "deletionPolicy": "Later" })), Removal::Retain);
    assert_eq!(removal(json!({ "reconcilePolicy": "ReportOnly" })), Removal::Retain);
    assert_eq!(removal(json!({ "reconcilePolicy": "Later" })), Removal::Retain);
}

#[test]
fn an_echo_ends_where_a_character_ends() {
    assert_eq!(parse::echo("soon"), "soon");
    assert_eq!(parse::echo(&"x".repeat(200)).len(), 128);
    assert_eq!(parse::echo(&"語".repeat(60)).len(), 126);
}

fn directory_of(
    spec: Value,
) -> Result<crate::domain::directory::DesiredDirectory, DirectoryProblem> {
    let spec: ResourceDirectorySpec = serde_json::from_value(spec).unwrap();
    parse::directory(&spec, &["http://127.0.0.1:8443".to_owned()])
}

#[test]
fn a_directory_is_parsed_with_what_absence_means() {
    let desired = directory_of(json!({})).unwrap();
    assert_eq!(desired.endpoint.as_str(), Endpoint::CHINA);
    assert_eq!((desired.pin, desired.credentials.source), (None, CredentialSource::Ambient));
    assert_eq!(desired.credentials.assume_role, None);
    assert_eq!(desired.namespaces, NamespaceRule::OwnOnly);
    assert_eq!(desired.management, Management::Full);
    assert_eq!(desired.poll_interval, SignedDuration::from_mins(5));
    assert_eq!((desired.requests_per_second, desired.suspended), (10, false));

    let desired = directory_of(json!({
        "endpoint": "http://127.0.0.1:8443", "directoryId": "rd-a1b2c3", "pollInterval": "10s",
        "credentials": { "source": "Secret", "secretRef": { "name": "keys" } }, "namespaces": {},
    }))
    .unwrap();
    assert_eq!(desired.endpoint.as_str(), "http://127.0.0.1:8443");
    assert_eq!(desired.pin, Some(DirectoryId::from("rd-a1b2c3")));
    assert_eq!(desired.credentials.source, CredentialSource::Secret { name: "keys".into() });
    assert_eq!(desired.namespaces, NamespaceRule::Selector(LabelSelector::default()));
}

#[test]
fn a_site_or_a_built_in_endpoint_is_the_host_that_the_documentation_names() {
    for (spec, origin) in [
        (json!({}), "https://resourcedirectory.aliyuncs.com"),
        (json!({ "site": "China" }), "https://resourcedirectory.aliyuncs.com"),
        (json!({ "site": "International" }), "https://resourcedirectory-intl.aliyuncs.com"),
        (
            json!({ "endpoint": "https://resourcedirectory.aliyuncs.com" }),
            "https://resourcedirectory.aliyuncs.com",
        ),
        (
            json!({ "endpoint": "https://resourcedirectory-intl.aliyuncs.com" }),
            "https://resourcedirectory-intl.aliyuncs.com",
        ),
        (
            json!({ "endpoint": "https://resourcedirectory.vpc-proxy.aliyuncs.com" }),
            "https://resourcedirectory.vpc-proxy.aliyuncs.com",
        ),
    ] {
        let desired = directory_of(spec.clone());
        assert_eq!(desired.unwrap().endpoint.as_str(), origin, "{spec}");
    }
}

#[test]
fn the_words_of_management_are_all_known() {
    let management = |word: &str| directory_of(json!({ "management": word })).unwrap().management;
    assert_eq!(management("Full"), Management::Full);
    assert_eq!(management("NoDelete"), Management::NoDelete);
    assert_eq!(management("ReportOnly"), Management::ReportOnly);
}

/// A spec may be older than the schema: what cannot be followed is told under the reason that comes
/// closest, and the message names the field.
#[test]
fn a_spec_that_got_past_the_schema_has_a_reason() {
    let cases = [
        (json!({ "endpoint": "ftp://127.0.0.1" }), Reason::EndpointNotAllowed),
        (json!({ "endpoint": "http://127.0.0.1:8444" }), Reason::EndpointNotAllowed),
        (json!({ "site": "Moon" }), Reason::EndpointNotAllowed),
        (json!({ "credentials": { "source": "Hat" } }), Reason::Unauthorized),
        (json!({ "directoryId": "a1b2c3" }), Reason::Unreachable),
        (json!({ "management": "Some" }), Reason::Unreachable),
        (json!({ "pollInterval": "1s" }), Reason::Unreachable),
        (json!({ "requestsPerSecond": 0 }), Reason::Unreachable),
        (json!({ "namespaces": { "matchLabels": { "-": "x" } } }), Reason::Unreachable),
    ];
    for (spec, reason) in cases {
        let problem = directory_of(spec.clone()).expect_err("is accepted");
        let field = format!("spec.{}", spec.as_object().unwrap().keys().next().unwrap());
        assert_eq!(problem.reason(), reason, "{spec}");
        assert!(problem.to_string().starts_with(&field), "{problem}");
    }
}

#[test]
fn every_source_of_keys_and_a_role_on_top_of_any_are_parsed() {
    let longest = "长".repeat(1224);
    for (source, expected) in [
        (None, CredentialSource::Ambient),
        (Some("Environment"), CredentialSource::Environment),
        (Some("RRSA"), CredentialSource::Rrsa),
        (Some("InstanceRole"), CredentialSource::InstanceRole),
        (Some("Secret"), CredentialSource::Secret { name: "keys".into() }),
    ] {
        let mut credentials = json!({ "assumeRole": { "roleArn": "acs:ram::12:role/a", "sessionName":
            "a@b", "externalId": longest, "durationSeconds": 900 } });
        if let Some(source) = source {
            credentials["source"] = json!(source);
        }
        if source == Some("Secret") {
            credentials["secretRef"] = json!({ "name": "keys" });
        }
        let parsed = directory_of(json!({ "credentials": credentials })).unwrap().credentials;
        assert_eq!(parsed.source, expected);
        let role = parsed.assume_role.unwrap();
        assert_eq!(
            (role.role_arn.as_str(), role.duration_seconds),
            ("acs:ram::12:role/a", Some(900))
        );
        assert_eq!(role.session_name.as_deref(), Some("a@b"));
        assert_eq!(role.external_id.unwrap().reveal(), longest);
    }
}

#[test]
fn a_directory_is_refused_for_one_field() {
    let refused = |spec: Value| match directory_of(spec).expect_err("is accepted") {
        DirectoryProblem::EndpointNotAllowed(_) => "not allowed".to_owned(),
        DirectoryProblem::Invalid(problem) => problem.field_path,
    };
    assert_eq!(refused(json!({ "endpoint": "http://127.0.0.1:8444" })), "not allowed");
    assert_eq!(refused(json!({ "endpoint": "https://evil.aliyuncs.com" })), "not allowed");
    assert_eq!(refused(json!({ "endpoint": "https://a@127.0.0.1" })), "spec.endpoint");
    assert_eq!(refused(json!({ "endpoint": Endpoint::CHINA, "site": "China" })), "spec.endpoint");
    assert_eq!(refused(json!({ "site": "Moon" })), "spec.site");
    assert_eq!(refused(json!({ "directoryId": "a1b2c3" })), "spec.directoryId");
    assert_eq!(refused(json!({ "pollInterval": "9s" })), "spec.pollInterval");
    assert_eq!(refused(json!({ "requestsPerSecond": 101 })), "spec.requestsPerSecond");
    assert_eq!(refused(json!({ "management": "Some" })), "spec.management");
    let credentials = |value: Value| refused(json!({ "credentials": value }));
    assert_eq!(credentials(json!({ "source": "Secret" })), "spec.credentials.secretRef");
    assert_eq!(credentials(json!({ "source": "Hat" })), "spec.credentials.source");
    assert_eq!(
        credentials(json!({ "secretRef": { "name": "keys" } })),
        "spec.credentials.secretRef"
    );
    let unused = json!({ "source": "RRSA", "secretRef": { "name": "keys" } });
    assert_eq!(credentials(unused), "spec.credentials.secretRef");
    let role = |field: &str, value: Value| {
        let mut role = json!({ "roleArn": "acs:ram::1:role/a" });
        role[field] = value;
        let refused = credentials(json!({ "assumeRole": role }));
        assert_eq!(refused, format!("spec.credentials.assumeRole.{field}"), "{role}");
    };
    for arn in
        ["", "acs:ram::role/a", "acs:ram::1a:role/a", "acs:ram::1:role/", "acs:ram::1:role/a b"]
    {
        role("roleArn", json!(arn));
    }
    role("roleArn", json!(format!("acs:ram::1:role/{}", "a".repeat(250))));
    role("sessionName", json!("a"));
    role("sessionName", json!("a".repeat(65)));
    role("sessionName", json!("a b"));
    role("externalId", json!("a"));
    role("externalId", json!("长".repeat(1225)));
    for seconds in [-1, 899, 43_201, 4_294_968_196_i64] {
        role("durationSeconds", json!(seconds));
    }
    let expression =
        |value: Value| refused(json!({ "namespaces": { "matchExpressions": [value] } }));
    assert_eq!(
        expression(json!({ "key": "team", "operator": "In" })),
        "spec.namespaces.matchExpressions[0].values"
    );
    assert_eq!(
        expression(json!({ "key": "team", "operator": "Likes" })),
        "spec.namespaces.matchExpressions[0].operator"
    );
}

// --- Status -----------------------------------------------------------------------------------

fn at(second: i64) -> Timestamp {
    // With a fraction, as a clock has it.
    Timestamp::new(1_800_000_000 + second, 123_456_789).unwrap()
}

fn recorded() -> Recorded {
    Recorded {
        directory_id: Some("rd-a1b2c3".into()),
        contact_id: Some("c-1".into()),
        creation: Some(Creation {
            name: ContactName::observed("Firewall".into()),
            hash: "5f".into(),
            at: at(-5),
        }),
        last_write: Some(LastWrite { hash: "6f".into(), mismatches: 1 }),
        last_error: Some(LastError {
            code: "InvalidParameter.Name".into(),
            action: "AddMessageContact".into(),
            generation: 3,
        }),
        verification: Verification {
            email: Some(ChannelRecord {
                target: "7f".into(),
                state: ChannelState::Sent,
                sends: 2,
                last_sent: Some(whole_second(at(-4))),
                evidence: Some(Evidence::SeenPending),
                verified_target: Some("8f".into()),
            }),
            phone: None,
        },
        reverts: vec![Revert {
            difference: Difference {
                field: Field::Title,
                desired: "CEO".into(),
                observed: "Other".into(),
            },
            since: whole_second(at(-60)),
            times: vec![whole_second(at(-50)), whole_second(at(-3))],
        }],
    }
}

fn observed() -> ObservedContact {
    ObservedContact {
        id: "c-1".into(),
        name: ContactName::observed("Firewall".into()),
        email: Some(EmailAddress::observed("mailbox@example.com".into())),
        phone: Some(PhoneNumber::observed("86-13812345678".into())),
        title: "TechnicalDirector".into(),
        message_types: BTreeSet::from(["SecurityMessage".into()]),
        members: BTreeSet::from([MemberId::from("rd-a1b2c3")]),
        status: ContactStatus::Active,
    }
}

fn verdict(synced: Finding) -> Verdict {
    Verdict {
        synced,
        email_verified: Finding::met(Reason::Verified, "confirmed"),
        phone_verified: None,
        bound: None,
        policy_compliant: None,
        ready_waits_for_verification: true,
    }
}

/// The status as it comes back from the apiserver.
fn stored<T: serde::Serialize + serde::de::DeserializeOwned>(status: &T) -> T {
    serde_json::from_value(serde_json::to_value(status).unwrap()).unwrap()
}

fn render(
    previous: &MessageContactStatus,
    verdict: &Verdict,
    differences: &[Difference],
    second: i64,
) -> MessageContactStatus {
    let (recorded, observed) = (recorded(), observed());
    let facts = Facts {
        generation: 3,
        directory: Some("default"),
        recorded: &recorded,
        observed: Some(&observed),
        differences,
        outlook: &Outlook::default(),
        verdict,
        handled_requested_at: None,
        handled_resend_at: None,
    };
    status::contact(previous, &facts, at(second))
}

fn shown(conditions: &[Condition]) -> String {
    let words: Vec<_> = conditions
        .iter()
        .map(|condition| format!("{}={}/{}", condition.type_, condition.status, condition.reason))
        .collect();
    words.join(" ")
}

#[test]
fn what_is_remembered_survives_the_status() {
    let in_sync = verdict(Finding::met(Reason::InSync, "in sync"));
    let rendered = stored(&render(&MessageContactStatus::default(), &in_sync, &[], 0));
    assert_eq!(parse::recorded(&rendered), recorded());
    assert_eq!(rendered.directory.as_deref(), Some("default"));
    let text = serde_json::to_string(&rendered).unwrap();
    assert!(!text.contains("mailbox") && !text.contains("13812345678"), "{text}");
}

#[test]
fn nothing_ticks_while_nothing_happens() {
    let difference =
        Difference { field: Field::Title, desired: "CEO".into(), observed: "Other".into() };
    let drifted = verdict(Finding::unmet(Reason::Drifted, "title differs"));
    let first =
        render(&MessageContactStatus::default(), &drifted, std::slice::from_ref(&difference), 0);
    assert_eq!(stored(&first), first);
    assert_eq!(render(&first, &drifted, &[difference], 3600), first);
}

#[test]
fn a_transition_is_a_change_of_status_and_nothing_else() {
    let times = |status: &MessageContactStatus| -> Vec<i64> {
        let second = |condition: &Condition| {
            condition.last_transition_time.0.as_second() - at(0).as_second()
        };
        status.conditions.iter().map(second).collect()
    };
    let updating = verdict(Finding::unmet(Reason::Updating, "title"));
    let first = render(&MessageContactStatus::default(), &updating, &[], 0);
    assert_eq!(
        shown(&first.conditions),
        "Synced=False/Updating EmailVerified=True/Verified Ready=False/Updating \
         Reconciling=True/Updating"
    );
    let busy = render(&first, &verdict(Finding::unmet(Reason::CloudBusy, "later")), &[], 10);
    assert_eq!(times(&busy), [0, 0, 0, 0]);
    let done = render(&busy, &verdict(Finding::met(Reason::InSync, "done")), &[], 20);
    assert_eq!(
        shown(&done.conditions),
        "Synced=True/InSync EmailVerified=True/Verified Ready=True/InSync"
    );
    assert_eq!(times(&done), [20, 0, 20]);
    assert!(done.conditions.iter().all(|condition| condition.observed_generation == Some(3)));
}

#[test]
fn stalled_stands_for_the_reasons_that_waiting_does_not_help() {
    for reason in Reason::ALL.iter().copied().filter(|reason| *reason != Reason::Suspended) {
        let unmet = verdict(Finding::unmet(reason, "why"));
        let rendered = render(&MessageContactStatus::default(), &unmet, &[], 0);
        let types: Vec<_> = rendered.conditions.iter().map(|c| c.type_.as_str()).collect();
        assert_eq!(types.contains(&"Stalled"), reason.stalls(), "{reason}");
        assert_eq!(types.contains(&"Reconciling"), !reason.stalls(), "{reason}");
    }
}

#[test]
fn ready_keeps_its_last_word_while_suspended() {
    let in_sync = verdict(Finding::met(Reason::InSync, "in sync"));
    let before = render(&MessageContactStatus::default(), &in_sync, &[], 0);
    let suspended = verdict(Finding::unknown(Reason::Suspended, "suspended"));
    let after = render(&before, &suspended, &[], 10);
    assert_eq!(
        shown(&after.conditions),
        "Synced=Unknown/Suspended EmailVerified=True/Verified Ready=True/InSync"
    );
}

#[test]
fn a_difference_keeps_the_time_since_when_it_is_there() {
    let difference = |field, observed: &str| Difference {
        field,
        desired: "wanted".into(),
        observed: observed.into(),
    };
    let drifted = verdict(Finding::unmet(Reason::Drifted, "differs"));
    let none = MessageContactStatus::default();
    let first = render(&none, &drifted, &[difference(Field::Title, "Other")], 0);
    let now = [difference(Field::Name, "Old"), difference(Field::Title, "CEO")];
    let second = render(&first, &drifted, &now, 60);
    let since: Vec<_> = second
        .drift
        .iter()
        .map(|drift| (drift.field.as_str(), drift.since.0.as_second() - at(0).as_second()))
        .collect();
    assert_eq!(since, [("name", 60), ("title", 0)]);
}

#[test]
fn what_was_seen_of_a_held_contact_stays_when_it_is_out_of_sight() {
    let in_sync = verdict(Finding::met(Reason::InSync, "in sync"));
    let before = render(&MessageContactStatus::default(), &in_sync, &[], 0);
    let unavailable = verdict(Finding::unknown(Reason::CloudUnavailable, "no answer"));
    let unseen = |recorded: &Recorded| {
        let facts = Facts {
            generation: 4,
            directory: None,
            recorded,
            observed: None,
            differences: &[],
            outlook: &Outlook::default(),
            verdict: &unavailable,
            handled_requested_at: Some("now"),
            handled_resend_at: None,
        };
        status::contact(&before, &facts, at(10))
    };
    let after = unseen(&recorded());
    assert_eq!(
        (after.observed, after.directory),
        (before.observed.clone(), before.directory.clone())
    );
    assert_eq!(after.last_handled_reconcile_at.as_deref(), Some("now"));
    assert_eq!(unseen(&Recorded::default()).observed, None);
}

#[test]
fn no_word_of_the_cloud_makes_a_status_unwritable() {
    let long = "語".repeat(5000);
    let mut seen = observed();
    seen.title.clone_from(&long);
    seen.name = ContactName::observed(long.clone());
    seen.email = Some(EmailAddress::observed(format!("x@{long}")));
    seen.status = ContactStatus::Other(long.clone());
    seen.members = (0..500).map(|n| MemberId(format!("{n}{long}"))).collect();
    let mut remembered = recorded();
    remembered.last_error =
        Some(LastError { code: long.clone(), action: "A".into(), generation: 1 });
    let difference =
        Difference { field: Field::Title, desired: "CEO".into(), observed: long.clone() };
    let unmet = verdict(Finding::unmet(Reason::Drifted, long.repeat(10)));
    let facts = Facts {
        generation: 1,
        directory: Some("default"),
        recorded: &remembered,
        observed: Some(&seen),
        differences: &[difference],
        outlook: &Outlook::default(),
        verdict: &unmet,
        handled_requested_at: Some(&long),
        handled_resend_at: None,
    };
    let rendered = status::contact(&MessageContactStatus::default(), &facts, at(0));
    let schemas = schemas();
    let (_, schema) =
        schemas.iter().find(|(path, _)| path == "MessageContact.status").expect("there is one");
    fits(schema, &serde_json::to_value(&rendered).unwrap(), "status");
}

/// Asserts that a value keeps to the maxima of its schema.
fn fits(schema: &Value, value: &Value, path: &str) {
    let max = |keyword: &str| schema[keyword].as_u64().map(|max| usize::try_from(max).unwrap());
    match value {
        Value::String(text) => {
            let length = text.chars().count();
            assert!(max("maxLength").is_none_or(|max| length <= max), "{path}: {length}");
        }
        Value::Array(items) => {
            assert!(max("maxItems").is_none_or(|max| items.len() <= max), "{path}");
            for item in items {
                fits(&schema["items"], item, path);
            }
        }
        Value::Object(fields) => {
            for (name, value) in fields {
                let schema = &schema["properties"][name];
                assert!(schema.is_object(), "{path}.{name} is not in the schema");
                fits(schema, value, &format!("{path}.{name}"));
            }
        }
        _ => {}
    }
}

#[test]
fn the_status_of_a_directory_tells_who_answers_and_what_nobody_manages() {
    let identity = DirectoryIdentity {
        directory_id: "rd-a1b2c3".into(),
        root_folder_id: "r-a1b2c3".into(),
        management_account_id: AccountId::from("1234567890123456"),
    };
    let unmanaged: Vec<_> = (0..60)
        .map(|n| (ContactId(format!("c-{n}")), ContactName::observed("Old".into())))
        .collect();
    let connected = Finding::met(Reason::Connected, "answers");
    let facts = DirectoryFacts {
        ledger: None,
        generation: 2,
        identity: Some(&identity),
        contacts: Some(ContactCounts { observed: 70, managed: 10, unmanaged: 60, verified: 9 }),
        unmanaged: Some(&unmanaged),
        ready: &connected,
        throttled: None,
        handled_requested_at: None,
    };
    let first = status::directory(&ResourceDirectoryStatus::default(), &facts, at(0));
    assert_eq!(first.directory_id.as_deref(), Some("rd-a1b2c3"));
    assert_eq!(first.unmanaged.len(), 50);
    assert_eq!(shown(&first.conditions), "Ready=True/Connected");
    assert_eq!(stored(&first), first);
    assert_eq!(status::directory(&first, &facts, at(60)), first);

    let gone = Finding::unmet(Reason::Unreachable, "no answer");
    let nothing =
        DirectoryFacts { identity: None, contacts: None, unmanaged: None, ready: &gone, ..facts };
    let second = status::directory(&first, &nothing, at(120));
    assert_eq!(shown(&second.conditions), "Ready=False/Unreachable Reconciling=True/Unreachable");
    assert_eq!((second.contacts, &second.unmanaged), (first.contacts, &first.unmanaged));
}

// --- Policies ---------------------------------------------------------------------------------

fn parsed_policy(spec: Value) -> Result<Policy, String> {
    let spec: ContactPolicySpec = serde_json::from_value(spec).unwrap();
    parse::policy("ours", &spec).map_err(|problem| problem.field_path)
}

#[test]
fn a_policy_is_parsed_with_what_absence_means() {
    let policy = parsed_policy(json!({ "unmanagedContacts": { "max": 0 } })).unwrap();
    let nothing_else = Policy {
        name: "ours".into(),
        enforcement: Enforcement::Audit,
        scope: Scope::default(),
        contact: ContactRules::default(),
        coverage: Vec::new(),
        unmanaged_max: Some(0),
    };
    assert_eq!(policy, nothing_else);

    let policy = parsed_policy(json!({
        "enforcement": "Deny",
        "match": { "directories": ["main"], "namespaceSelector": { "matchLabels": { "a": "b" } } },
        "contact": {
            "emailDomains": { "allowed": ["b.cn", "a.cn"], "denied": ["*.c.cn"] },
            "phoneNumber": "Forbidden",
            "titles": { "allowed": ["Other", "CEO"] },
            "messageTypes": { "allowed": ["FaultMessage", "SecurityMessage"],
                "required": ["FaultMessage"] },
            "members": { "allowed": ["fd-b", "fd-a"] },
        },
        "coverage": [{ "name": "all", "minVerified": 2 },
            { "name": "desk", "messageTypes": ["FaultMessage"], "titles": ["CEO"],
                "members": ["fd-a"], "minContacts": 1, "distinctMailboxes": true }],
    }));
    let Policy { enforcement, scope, contact, coverage, unmanaged_max, name: _ } = policy.unwrap();
    assert_eq!((enforcement, unmanaged_max), (Enforcement::Deny, None));
    assert_eq!(scope.directories, BTreeSet::from(["main".to_owned()]));
    assert_eq!(scope.namespaces.match_labels.len(), 1);
    // Lists keep their order: people read it in texts.
    let domains = |patterns: &[&str]| -> Vec<_> {
        patterns.iter().map(|pattern| DomainPattern::parse(pattern).unwrap()).collect()
    };
    let expected = ContactRules {
        domains_allowed: domains(&["b.cn", "a.cn"]),
        domains_denied: domains(&["*.c.cn"]),
        phone: PhoneRule::Forbidden,
        titles_allowed: vec![Title::Other, Title::CEO],
        message_types_allowed: vec![MessageType::FaultMessage, MessageType::SecurityMessage],
        message_types_required: vec![MessageType::FaultMessage],
        members_allowed: vec![MemberId::from("fd-b"), MemberId::from("fd-a")],
    };
    assert_eq!(contact, expected);
    let [all, desk] = coverage.as_slice() else { panic!("{coverage:?}") };
    assert_eq!((all.message_types.len(), all.min_contacts, all.min_verified), (6, 0, 2));
    assert_eq!((desk.message_types.len(), desk.min_contacts, desk.min_verified), (1, 1, 0));
    assert!(desk.distinct_mailboxes && !all.distinct_mailboxes);
    assert_eq!((desk.titles.len(), desk.members.len()), (1, 1));
}

#[test]
fn a_policy_that_the_schema_would_refuse_is_refused_by_the_parser_too() {
    let contact = |field: &str, value: Value| json!({ "contact": { field: value } });
    let covering = |rule: Value| json!({ "coverage": [rule] });
    for (spec, field) in [
        (json!({}), "spec.contact"),
        (json!({ "enforcement": "Block", "contact": {} }), "spec.enforcement"),
        (json!({ "match": { "directories": ["A"] }, "contact": {} }), "spec.match.directories"),
        (
            json!({ "contact": {},
                "match": { "namespaceSelector": { "matchLabels": { "-a": "b" } } } }),
            "spec.match.namespaceSelector.matchLabels",
        ),
        (
            contact("emailDomains", json!({ "allowed": ["com"] })),
            "spec.contact.emailDomains.allowed",
        ),
        (contact("emailDomains", json!({ "denied": ["*"] })), "spec.contact.emailDomains.denied"),
        (contact("phoneNumber", json!("Maybe")), "spec.contact.phoneNumber"),
        (contact("titles", json!({ "allowed": ["Boss"] })), "spec.contact.titles.allowed"),
        (
            contact("messageTypes", json!({ "allowed": ["Faults"] })),
            "spec.contact.messageTypes.allowed",
        ),
        (
            contact("messageTypes", json!({ "required": ["Faults"] })),
            "spec.contact.messageTypes.required",
        ),
        (
            contact(
                "messageTypes",
                json!({ "allowed": ["FaultMessage"], "required": ["SecurityMessage"] }),
            ),
            "spec.contact.messageTypes.required",
        ),
        (contact("members", json!({ "allowed": ["a b"] })), "spec.contact.members.allowed"),
        (covering(json!({ "name": "A", "minContacts": 1 })), "spec.coverage[0].name"),
        (covering(json!({ "name": "a" })), "spec.coverage[0].minContacts"),
        (covering(json!({ "name": "a", "minContacts": 0 })), "spec.coverage[0].minContacts"),
        (covering(json!({ "name": "a", "minVerified": 1001 })), "spec.coverage[0].minVerified"),
        (
            json!({ "coverage": [{ "name": "a", "minVerified": 1 },
                { "name": "a", "minVerified": 1 }] }),
            "spec.coverage",
        ),
        (json!({ "unmanagedContacts": { "max": -1 } }), "spec.unmanagedContacts.max"),
    ] {
        assert_eq!(parsed_policy(spec.clone()), Err(field.to_owned()), "{spec}");
    }
}

#[test]
fn a_candidate_is_known_as_far_as_its_secrets_are() {
    let from = json!({ "secretKeyRef": { "name": "desk", "key": "mail" } });
    let spec = changed(json!({ "emailAddress": null, "emailAddressFrom": from.clone(),
        "phoneNumberFrom": from }));
    let unread = parse::candidate(&spec, &Values::default()).unwrap();
    assert_eq!((unread.email, unread.has_phone), (None, true));
    let mailbox = EmailAddress::observed("desk@example.com".into());
    let values = Values { email: Kept::Known(mailbox.clone()), ..Values::default() };
    let known = parse::candidate(&spec, &values).unwrap();
    assert_eq!((known.email, known.has_phone), (Some(mailbox), true));

    let plain = parse::candidate(&super::tests::spec(), &values).unwrap();
    assert_eq!(plain.email, Some(EmailAddress::observed("mailbox@example.com".into())));
    assert!(!plain.has_phone);
    let malformed = changed(json!({ "emailAddress": "nobody" }));
    let problem = parse::candidate(&malformed, &values).unwrap_err();
    assert_eq!(problem.field_path, "spec.emailAddress");
}

#[test]
fn the_rules_of_admission_name_every_rule_and_let_through_what_they_cannot_judge() {
    let rules = super::admission::rules();
    let names: Vec<_> =
        rules.iter().map(|(policy, _)| policy.metadata.name.as_deref().unwrap()).collect();
    let expected = ["audit", "warn", "deny"]
        .map(|word| format!("{word}.contactpolicies.message-contacts.dev"));
    assert_eq!(names, expected);
    for (policy, binding) in &rules {
        let name = &policy.metadata.name;
        let text = serde_json::to_string(policy).unwrap();
        for rule in RuleName::ALL {
            assert!(text.contains(&format!("{rule}: {}", rule.advice())), "{name:?}: {rule}");
        }
        let (policy, binding) = (policy.spec.as_ref().unwrap(), binding.spec.as_ref().unwrap());
        assert_eq!(policy.failure_policy.as_deref(), Some("Ignore"), "{name:?}");
        assert_eq!(binding.policy_name, *name);
        let not_found = &binding.param_ref.as_ref().unwrap().parameter_not_found_action;
        assert_eq!(not_found.as_deref(), Some("Allow"), "{name:?}");
    }
}
