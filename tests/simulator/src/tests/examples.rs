//! Answers have the shape of the documented ones: the same fields, of the same types.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::client::{Caller, Place, v1};
use super::script::Stage;
use super::{facts, text_pairs};
use crate::handle::Handle;
use crate::switches::{AddWithoutPhone, Switches, UnbindOfTooMany};
use crate::wire::{self, Action, Parameters};
use crate::{Options, ROLE_NAME};

#[test]
fn every_operation_answers_in_the_documented_shape() {
    let examples = facts("examples.json");
    let documented = |action: &str| {
        let responses = &examples["operations"][action]["responses"];
        shapes(responses.as_array().expect("responses").iter().map(|response| &response["body"]))
    };
    let answers = answers();
    let operations = examples["operations"].as_object().expect("operations");
    for action in operations.keys() {
        let ours = answers.iter().filter(|(name, _)| name == action).map(|(_, body)| body);
        assert_eq!(shapes(ours), documented(action), "{action}");
    }
    assert_eq!(operations.len(), 16);
}

#[test]
fn every_documented_request_is_understood() {
    let examples = facts("examples.json");
    for (name, operation) in examples["operations"].as_object().expect("operations") {
        let action = Action::find(name).expect("a known operation");
        let parameters = Parameters(text_pairs(&operation["request"]["wire"]));
        let understood = wire::operation(action, &parameters).expect("a good request");
        assert!(understood.is_some(), "{name}");
    }
}

#[test]
fn refusals_have_the_documented_envelope() {
    let examples = facts("examples.json");
    let documented = &examples["operations"]["GetMessageContact"]["errors"][0]["body"];
    let refusal = crate::model::Refusal::new(400, "InvalidParameter.ContactId", "x");
    let ours = wire::error_body(&refusal, "host", "ResourceDirectoryMaster", "an id");
    assert_eq!(shapes([&ours].into_iter()), shapes([documented].into_iter()));
    for error in examples["common_errors"].as_array().expect("errors") {
        let code = error["body"]["Code"].as_str().expect("a code");
        let refusal = crate::model::Refusal::new(400, code, "resourcemanager:ListAccounts");
        let ours = wire::error_body(&refusal, "host", "ResourceDirectoryMaster", "an id");
        assert_eq!(shapes([&ours].into_iter()), shapes([&error["body"]].into_iter()), "{code}");
    }
}

#[test]
fn the_token_service_answers_in_the_documented_shape() {
    let examples = facts("examples.json");
    let handle = Handle::new(Options::default());
    let role = format!("acs:ram::1000000000000001:role/{ROLE_NAME}");
    let provider = "acs:ram::1000000000000001:oidc-provider/ack-rrsa-fake";
    let calls: [(&str, Vec<(&str, &str)>); 2] = [
        ("AssumeRole", vec![("RoleArn", &role), ("RoleSessionName", "operator")]),
        (
            "AssumeRoleWithOIDC",
            vec![
                ("RoleArn", &role),
                ("RoleSessionName", "operator"),
                ("OIDCProviderArn", provider),
                ("OIDCToken", "eyJhbGciOiJub25lIn0.eyJpc3MiOiJmYWtlIn0."),
            ],
        ),
    ];
    for (action, parameters) in calls {
        let request = v1(&Caller::default(), action, &parameters, Place::Form, handle.now());
        let ours = super::gate::answer(&handle, &request);
        let documented = &examples["sts"][action]["responses"][0]["body"];
        assert_eq!(shapes([&ours].into_iter()), shapes([documented].into_iter()), "{action}");
    }
}

#[test]
fn every_documented_refusal_can_be_had() {
    let examples = facts("examples.json");
    for (action, operation) in examples["operations"].as_object().expect("operations") {
        let had: BTreeSet<_> =
            ATTEMPTS.iter().flat_map(|attempt| refusals(action, attempt)).collect();
        for error in operation["errors"].as_array().expect("errors") {
            let code = error["body"]["Code"].as_str().expect("a code");
            // Two calls at once are tested over sockets.
            if code != "ConcurrentCallNotSupported" {
                let refusal = format!("{} {code}", error["status"]);
                assert!(had.contains(&refusal), "{action}: {refusal} is not among {had:?}");
            }
        }
    }
}

/// Parameters that somebody or other refuses.
const ATTEMPTS: [&str; 41] = [
    "",
    "Name=li",
    "Name=li EmailAddress=x",
    "Name=li EmailAddress=l@example.com Title=x",
    "Name=li EmailAddress=l@example.com Title=Other MessageTypes.1=FaultMessage",
    "Name=1 EmailAddress=x Title=x MessageTypes.1=x",
    "Name=1 ContactId=$zhang",
    "Name=l EmailAddress=x Title=x MessageTypes.1=x",
    "Name=l ContactId=$zhang",
    "Name=gone EmailAddress=x@example.com Title=Other MessageTypes.1=FaultMessage",
    "Name=gone ContactId=$zhang",
    "Name=li EmailAddress=x Title=x MessageTypes.1=x",
    "Name=li EmailAddress=@LONG Title=x MessageTypes.1=x",
    "Name=li EmailAddress=l@example.com PhoneNumber=x Title=x MessageTypes.1=x",
    "Name=li EmailAddress=l@example.com PhoneNumber=49-151123456 Title=x MessageTypes.1=x",
    "Name=li EmailAddress=l@example.com Title=x MessageTypes.1=x",
    "Name=li EmailAddress=l@example.com Title=CEO MessageTypes.1=x",
    "Title=x ContactId=$zhang",
    "MessageTypes.1=x ContactId=$zhang",
    "EmailAddress=x ContactId=$zhang",
    "EmailAddress=@LONG ContactId=$zhang",
    "EmailAddress=l@example.com ContactId=$zhang",
    "EmailAddress=z@example.com ContactId=$zhang",
    "PhoneNumber=x ContactId=$zhang",
    "PhoneNumber=49-151123456 ContactId=$zhang",
    "PhoneNumber=86-13800138001 ContactId=$zhang",
    "PhoneNumber=86-13800138000 ContactId=$zhang",
    "ContactId=$zhang",
    "ContactId=x",
    "ContactId=x EmailAddress=z@example.com PhoneNumber=86-13800138000",
    "ContactId=$gone",
    "ContactId=c-0000000000000000",
    "ContactId=c-0000000000000000 EmailAddress=z@example.com PhoneNumber=86-13800138000",
    "ContactId=c-0000000000000000 Members.1=rd-sim001",
    "ContactId=$gone Members.1=rd-sim001",
    "ContactId=$zhang Members.1=x Member=x ParentFolderId=x",
    "ContactId=$zhang Members.1=rd-sim001 Members.2=rd-sim001",
    "ContactId=$zhang Members.1=rd-other1 Member=rd-other1 ParentFolderId=fd-0000000000",
    "ContactId=$zhang Members.1=rd-sim001 Members.2=r-sim001",
    "Member=rd-other1 ParentFolderId=fd-0000000000",
    "ContactId=$zhang Members.1=a Members.2=a Members.3=a Members.4=a Members.5=a Members.6=a",
];

/// How an operation refuses an attempt: in a roomy directory, in a full one, in none.
fn refusals(action: &str, attempt: &str) -> BTreeSet<String> {
    let attempt = attempt.replace("@LONG", &format!("{}@example.com", "a".repeat(243)));
    let roomy = || {
        let mut stage = Stage::new(Switches::default());
        for line in [
            "new zhang z@example.com 86-13800138000",
            "new gone g@example.com",
            "Bind ContactId=$gone Members.1=rd-sim001",
            "Delete ContactId=$gone RetainContactInMembers=false",
        ] {
            assert_eq!(stage.call(line).0, 200, "{line}");
        }
        stage
    };
    let full = || {
        let mut stage = roomy();
        stage.directory.quotas.contacts = 2;
        stage.directory.quotas.sends_per_day = 0;
        stage.directory.quotas.members_per_contact = 1;
        stage
    };
    let other = || {
        let mut stage = roomy();
        stage.directory.set_switches(Switches {
            add_without_phone: AddWithoutPhone::Missing,
            unbind_of_too_many: UnbindOfTooMany::Quota,
            ..Switches::default()
        });
        stage.directory.in_use = false;
        stage
    };
    let mut refusals = BTreeSet::new();
    for mut stage in [roomy(), full(), other()] {
        let (status, body) = stage.call(&format!("{action} {attempt}"));
        if status != 200 {
            refusals.insert(format!("{status} {}", body["Code"].as_str().unwrap_or("?")));
        }
    }
    refusals
}

/// Answers to calls that show every field.
fn answers() -> Vec<(String, Value)> {
    let mut stage = Stage::new(Switches::default());
    let mut answers = Vec::new();
    let mut call = |stage: &mut Stage, line: &str| {
        let (status, body) = stage.call(line);
        assert_eq!(status, 200, "{line}: {body}");
        answers.push((line.split(' ').next().unwrap_or("").to_owned(), body));
    };
    let add = "AddMessageContact Title=Other MessageTypes.1=FaultMessage";
    call(
        &mut stage,
        &format!("{add} Name=zhang EmailAddress=z@example.com PhoneNumber=86-13800138000"),
    );
    for line in [
        "UpdateMessageContact ContactId=$zhang Title=CEO",
        "AssociateMembers ContactId=$zhang Members.1=rd-sim001 Members.2=r-sim001",
        "DisassociateMembers ContactId=$zhang Members.1=r-sim001",
        "GetMessageContact ContactId=$zhang",
        "ListMessageContacts",
        "ListMessageContactVerifications ContactId=$zhang",
        "SendEmailVerificationForMessageContact ContactId=$zhang EmailAddress=z@example.com",
        "SendPhoneVerificationForMessageContact ContactId=$zhang PhoneNumber=86-13800138000",
    ] {
        call(&mut stage, line);
    }
    for target in ["z@example.com", "86-13800138000"] {
        assert_eq!(stage.directory.confirm(target, stage.now), crate::Click::Confirmed);
    }
    stage.directory.deletion.reasons = vec![crate::FailReason {
        account_id: "2000000000000001".to_owned(),
        message_types: vec!["FaultMessage".to_owned()],
    }];
    for line in [
        "UpdateMessageContact ContactId=$zhang EmailAddress=y@example.com",
        "CancelMessageContactUpdate ContactId=$zhang EmailAddress=y@example.com",
        "DeleteMessageContact ContactId=$zhang RetainContactInMembers=false",
        "GetMessageContactDeletionStatus ContactId=$zhang",
    ] {
        call(&mut stage, line);
    }
    stage.now += jiff::SignedDuration::from_secs(1);
    for line in [
        "GetMessageContactDeletionStatus ContactId=$zhang",
        "GetResourceDirectory",
        "ListFoldersForParent",
        "ListAccounts MaxResults=2 IncludeTags=true",
        "ListAccountsForParent ParentFolderId=fd-sim0000001 IncludeTags=true",
    ] {
        call(&mut stage, line);
    }
    answers
}

/// Every path in these values with its type; items of lists count as one.
fn shapes<'a>(values: impl Iterator<Item = &'a Value>) -> BTreeSet<String> {
    let mut shapes = BTreeSet::new();
    for value in values {
        shape(value, String::new(), &mut shapes);
    }
    shapes
}

fn shape(value: &Value, path: String, shapes: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                shape(value, format!("{path}/{name}"), shapes);
            }
        }
        Value::Array(items) => {
            shapes.insert(format!("{path}: list"));
            for value in items {
                shape(value, format!("{path}/*"), shapes);
            }
        }
        Value::String(_) => drop(shapes.insert(format!("{path}: text"))),
        Value::Number(_) => drop(shapes.insert(format!("{path}: number"))),
        other => drop(shapes.insert(format!("{path}: {}", json!(other)))),
    }
}
