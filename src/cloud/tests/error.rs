use jiff::{SignedDuration, Timestamp};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};

use super::super::{error, wire};
use super::{add, fixture, keys};
use crate::cloud::transport::Answer;
use crate::domain::call::{
    Action, CallError, ErrorCode, FailureClass, KeyCause, KeyFailure, KeyStep, RequestId, Skew,
};

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    pairs
        .iter()
        .map(|(name, value)| {
            (name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap())
        })
        .collect()
}

fn answer(status: u16, pairs: &[(&str, &str)], body: &str) -> Answer {
    Answer { status, headers: headers(pairs), body: Some(body.as_bytes().to_vec()) }
}

fn now() -> Timestamp {
    "2026-01-15T08:30:00Z".parse().unwrap()
}

fn refused(action: Action, status: u16, pairs: &[(&str, &str)], body: &str) -> CallError {
    let private = wire::Private::of(&wire::encode(&add()), Some(&keys()));
    error::refused(action, &answer(status, pairs, body), &private, now())
}

/// The class that a name of `examples.json` stands for.
fn class_of(name: &str, code: &str, action: Action) -> FailureClass {
    match name {
        "invalid-input" => FailureClass::InvalidInput,
        "invalid-input/name-taken" => FailureClass::NameTaken,
        "invalid-input/unknown-member" => FailureClass::UnknownMember,
        "client-bug" => FailureClass::ClientBug,
        "conflict/wrong-state" => FailureClass::WrongState,
        "conflict-retry" => FailureClass::Conflict,
        "throttled" => FailureClass::Throttled,
        "quota" => FailureClass::Quota,
        "quota/sends" => FailureClass::SendsExhausted,
        "not-found" if code == "EntityNotExists.Contact" => FailureClass::ContactNotFound,
        "not-found" => FailureClass::NotFound,
        "not-found/nothing-pending" => FailureClass::NothingPending,
        "not-found/no-directory" => FailureClass::NoDirectory,
        "auth/credentials" => FailureClass::Credentials,
        "auth/token-expired" => FailureClass::TokenExpired,
        "auth/clock" => FailureClass::Clock(Skew(None)),
        "auth/permission" => FailureClass::Permission,
        "server" | "unknown-outcome" | "unknown-outcome/nonce" => {
            if action.is_read() {
                FailureClass::Unavailable
            } else {
                FailureClass::OutcomeUnknown
            }
        }
        other => unreachable!("class {other}"),
    }
}

fn check_example(example: &Value) {
    let body = match &example["body_text"] {
        Value::String(text) => text.clone(),
        _ => example["body"].to_string(),
    };
    let code = example["body"]["Code"].as_str().unwrap_or_default();
    let given: Vec<_> = example["headers"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, value)| (name.as_str(), value.as_str().unwrap()))
        .collect();
    let status = u16::try_from(example["status"].as_u64().unwrap()).unwrap();
    for action in [Action::ListMessageContacts, Action::UpdateMessageContact] {
        let class = if status < 400 {
            wire::decode(Action::AddMessageContact, body.as_bytes()).unwrap_err();
            error::unanswered(action).class
        } else {
            let error = refused(action, status, &given, &body);
            assert_eq!(error.code, ErrorCode::parse(code).or(error.code.clone()), "{example}");
            assert_eq!(
                error.request_id.as_ref().map(RequestId::as_str),
                example["body"]["RequestId"]
                    .as_str()
                    .or(error.request_id.as_ref().map(RequestId::as_str)),
            );
            error.class
        };
        assert_eq!(class, class_of(example["class"].as_str().unwrap(), code, action), "{example}");
    }
}

#[test]
fn every_error_of_the_examples_has_the_class_named_there() {
    let examples = fixture("examples.json");
    let operations = examples["operations"].as_object().unwrap().values();
    let mut errors: Vec<_> =
        operations.flat_map(|operation| operation["errors"].as_array().unwrap()).collect();
    errors.extend(examples["common_errors"].as_array().unwrap());
    errors.extend(examples["non_json_answers"].as_array().unwrap());
    assert!(errors.len() > 120, "only {} examples", errors.len());
    errors.into_iter().for_each(check_example);
}

fn class(status: u16, code: &str) -> FailureClass {
    let body = json!({ "Code": code }).to_string();
    refused(Action::UpdateMessageContact, status, &[], &body).class
}

#[test]
fn an_unknown_code_is_decided_by_its_prefix_then_by_the_status() {
    assert_eq!(class(500, "InvalidParameter.New"), FailureClass::InvalidInput);
    assert_eq!(class(409, "MissingParameter.New"), FailureClass::InvalidInput);
    assert_eq!(class(400, "MissingTimestamp"), FailureClass::ClientBug);
    assert_eq!(class(400, "EntityNotExists.New"), FailureClass::NotFound);
    assert_eq!(class(400, "EntityNotExists.Contact"), FailureClass::ContactNotFound);
    assert_eq!(class(409, "LimitExceeded.New"), FailureClass::Quota);
    assert_eq!(class(400, "QuotaExceeded.New"), FailureClass::Quota);
    assert_eq!(class(400, "QuotaExceeded.Members"), FailureClass::InvalidInput);
    assert_eq!(class(400, "Throttling.New"), FailureClass::Throttled);

    assert_eq!(class(429, "New"), FailureClass::Throttled);
    assert_eq!(class(500, "New"), FailureClass::OutcomeUnknown);
    assert_eq!(class(599, "New"), FailureClass::OutcomeUnknown);
    assert_eq!(class(401, "New"), FailureClass::Permission);
    assert_eq!(class(403, "New"), FailureClass::Permission);
    assert_eq!(class(404, "EntityNotExist.Role"), FailureClass::NotFound);
    assert_eq!(class(404, "New"), FailureClass::ClientBug);
    assert_eq!(class(400, "New"), FailureClass::InvalidInput);
    assert_eq!(class(418, "New"), FailureClass::InvalidInput);
}

#[test]
fn an_answer_without_a_code_is_decided_by_its_status_and_never_blames_the_spec() {
    let bodies =
        ["", "{", "null", "[]", "{}", "\"text\"", "<html><code>x</code></html>", "\0\u{1}"];
    let more = [r#"{"Code":null}"#, r#"{"Code":7}"#, r#"{"Code":"a b"}"#, r#"{"Code":""}"#];
    for body in bodies.into_iter().chain(more) {
        let class = |status| refused(Action::UpdateMessageContact, status, &[], body).class;
        assert_eq!(class(400), FailureClass::ClientBug, "{body}");
        assert_eq!(class(404), FailureClass::ClientBug, "{body}");
        assert_eq!(class(408), FailureClass::OutcomeUnknown, "{body}");
        assert_eq!(class(403), FailureClass::Permission, "{body}");
        assert_eq!(class(429), FailureClass::Throttled, "{body}");
        assert_eq!(class(502), FailureClass::OutcomeUnknown, "{body}");
        let read = refused(Action::ListMessageContacts, 502, &[], body);
        assert_eq!(read.class, FailureClass::Unavailable, "{body}");
    }
}

#[test]
fn an_envelope_is_read_in_every_form_that_was_seen() {
    let id = "0FA4E000-0000-4000-8000-000000000001";
    let forms = [
        format!(r#"{{"RequestId":"{id}","Code":"InvalidMember"}}"#),
        format!(r#"{{"requestId":"{id}","code":"InvalidMember","new":[{{}}]}}"#),
        format!("\u{FEFF} {{\"requestid\":\"{id}\",\"CODE\":\"InvalidMember\"}}\n"),
        format!("<Error><RequestId>{id}</RequestId><Code>InvalidMember</Code></Error>"),
        format!("<?xml?>\n<Error a='b'>\n <Code> InvalidMember </Code><RequestId>{id}</RequestId>"),
    ];
    for form in forms {
        let error = refused(Action::AssociateMembers, 400, &[], &form);
        assert_eq!(error.class, FailureClass::UnknownMember, "{form}");
        let shown = format!(
            "AssociateMembers: a member is not in the directory, code InvalidMember, request {id}"
        );
        assert_eq!(error.to_string(), shown, "{form}");
    }
}

fn retry_after(code: &str, pairs: &[(&str, &str)]) -> (FailureClass, Option<i128>) {
    let error =
        refused(Action::AddMessageContact, 400, pairs, &json!({ "Code": code }).to_string());
    (error.class, error.retry_after.map(|wait| wait.as_millis()))
}

#[test]
fn a_valid_hint_of_the_gateway_makes_any_error_a_throttled_one() {
    use FailureClass::{Conflict, InvalidInput, Throttled};
    let acs = |value: &str| retry_after("InvalidParameter.Name", &[("X-Acs-Retry-After", value)]);
    assert_eq!(acs("1500"), (Throttled, Some(1500)));
    assert_eq!(acs(" 1 "), (Throttled, Some(1)));
    assert_eq!(acs("120001"), (Throttled, Some(120_000)));
    assert_eq!(acs("99999999999999999999"), (Throttled, Some(120_000)));
    for ignored in ["0", "-1", "+1", "1.5", "1e3", "", "soon", "0x10", "１５"] {
        let value = HeaderValue::from_bytes(ignored.as_bytes()).unwrap();
        let headers = HeaderMap::from_iter([(HeaderName::from_static("x-acs-retry-after"), value)]);
        let private = wire::Private::of(&[], Some(&keys()));
        let body = br#"{"Code":"ConcurrentCallNotSupported"}"#;
        let answer = Answer { status: 429, headers, body: Some(body.to_vec()) };
        let error = error::refused(Action::AddMessageContact, &answer, &private, now());
        assert_eq!((error.class, error.retry_after), (Conflict, None), "{ignored}");
    }

    let user = ("x-ratelimit-user", "Limit:20, Remain:0, TimeLeft: 300, Reset:1");
    let api = ("x-ratelimit-user-api", "TimeLeft:700,Limit:5");
    assert_eq!(retry_after("Throttling.Api", &[user]), (Throttled, Some(300)));
    assert_eq!(retry_after("Throttling.Api", &[user, api]), (Throttled, Some(700)));
    assert_eq!(
        retry_after("Throttling", &[("x-ratelimit-user", "TimeLeft:-5")]),
        (Throttled, None)
    );
    assert_eq!(retry_after("InvalidParameter.Name", &[user, api]), (InvalidInput, None));
    let acs = ("x-acs-retry-after", "900");
    assert_eq!(
        retry_after("Throttling", &[api, acs, ("retry-after", "3")]),
        (Throttled, Some(900))
    );

    assert_eq!(retry_after("Throttling", &[("Retry-After", "3")]), (Throttled, Some(3000)));
    assert_eq!(retry_after("Throttling", &[("Retry-After", "9000")]), (Throttled, Some(120_000)));
    assert_eq!(retry_after("InvalidMember", &[("Retry-After", "Wed, 21 Oct 2026")]).1, None);
}

#[test]
fn a_standard_hint_does_not_change_the_class() {
    let error = refused(Action::AddMessageContact, 503, &[("retry-after", "7")], "");
    assert_eq!(error.class, FailureClass::OutcomeUnknown);
    assert_eq!(error.retry_after, Some(SignedDuration::from_secs(7)));
}

/// What must never be seen of [`add`], of [`keys`] and of other people's contacts.
const CANARIES: [&str; 12] = [
    "canaryname",
    "canarymail@example.com",
    "canarymail",
    "86-13800100500",
    "13800100500",
    "CanaryKeyId",
    "CanarySecret",
    "Canary+Token/with==signs",
    "86-13900111222",
    "13900111222",
    "other.person@example.org",
    "CANARYKEYID",
];

#[test]
fn an_answer_that_repeats_private_values_shows_none_of_them() {
    for canary in CANARIES {
        let texts = [
            canary.to_owned(),
            format!("InvalidParameter.{canary}"),
            format!("Unknown{canary}"),
            format!("{canary}-0000-4000"),
        ];
        for text in texts {
            let body = json!({ "Code": text, "RequestId": text, "Message": text, "HostId": text });
            let xml = format!(
                "<Error><Code>{text}</Code><RequestId>{text}</RequestId><Message>{text}</Message>"
            );
            for body in [body.to_string(), xml, text.clone()] {
                for status in [400, 403, 404, 429, 500] {
                    let error = refused(Action::AddMessageContact, status, &[], &body);
                    let shown = format!("{error} {error:?}").to_lowercase();
                    assert!(!shown.contains(&canary.to_lowercase()), "{canary} in {shown}");
                }
            }
        }
    }
}

#[test]
fn a_request_id_is_a_uuid_and_a_documented_code_is_always_shown() {
    let body = r#"{"Code":"InvalidParameter.Name","RequestId":"86-1380010050"}"#;
    let error = refused(Action::AddMessageContact, 400, &[], body);
    assert_eq!(error.code, ErrorCode::parse("InvalidParameter.Name"));
    assert_eq!(error.request_id, None);
    // The private text `Name` is a word of the code, and a legal name of a contact.
    let operation = [("Name".to_owned(), "Name".to_owned())];
    let private = wire::Private::of(&operation, Some(&keys()));
    let refused =
        |body| error::refused(Action::AddMessageContact, &answer(400, &[], body), &private, now());
    let error = refused(body);
    assert_eq!(error.code, ErrorCode::parse("InvalidParameter.Name"));
    let error = refused(r#"{"Code":"InvalidParameter.Name.New"}"#);
    assert_eq!((error.class, error.code), (FailureClass::InvalidInput, None));
}

#[test]
fn every_refusal_of_sts_is_told_apart() {
    let examples = fixture("examples.json");
    let mut seen = 0;
    for (name, step) in
        [("AssumeRole", KeyStep::AssumeRole), ("AssumeRoleWithOIDC", KeyStep::AssumeRoleWithOidc)]
    {
        for example in examples["sts"][name]["errors"].as_array().unwrap() {
            let code = example["body"]["Code"].as_str().unwrap();
            let expected = match (code, example["class"].as_str().unwrap()) {
                ("EntityNotExist.Role", _) => KeyCause::NoRole,
                ("AuthenticationFail.NoPermission", _) | (_, "auth/permission") => {
                    KeyCause::Forbidden
                }
                (_, "server" | "throttled") => KeyCause::Unanswered,
                _ => KeyCause::Refused,
            };
            let status = u16::try_from(example["status"].as_u64().unwrap()).unwrap();
            let error = keys_refused(step, status, &[], &example["body"].to_string());
            let failure = KeyFailure { step, cause: expected };
            assert_eq!(error.class, FailureClass::NoKeys(failure), "{code}");
            assert_eq!(error.code, ErrorCode::parse(code));
            assert!(error.request_id.is_some() && error.class.not_executed());
            seen += 1;
        }
    }
    assert!(seen >= 15, "{seen}");
}

fn keys_refused(step: KeyStep, status: u16, pairs: &[(&str, &str)], body: &str) -> CallError {
    let sent = [("OIDCToken".to_owned(), "canary.token.text".to_owned())];
    let private = wire::Private::of(&sent, None);
    error::keys_refused(step, &answer(status, pairs, body), &private, now())
}

#[test]
fn what_sts_did_not_write_is_no_refusal_of_keys() {
    let cause = |status, pairs: &[(&str, &str)], body: &str| match keys_refused(
        KeyStep::AssumeRole,
        status,
        pairs,
        body,
    )
    .class
    {
        FailureClass::NoKeys(failure) => failure.cause,
        other => unreachable!("{other:?}"),
    };
    let code = |code: &str| format!(r#"{{"Code":"{code}"}}"#);
    for status in [400, 401, 403, 404, 407, 429, 502] {
        assert_eq!(cause(status, &[], "<html>"), KeyCause::Unanswered, "{status}");
    }
    assert_eq!(cause(503, &[], &code("ServiceUnavailable")), KeyCause::Unanswered);
    assert_eq!(cause(429, &[], &code("Something.New")), KeyCause::Unanswered);
    let hint = ("x-acs-retry-after", "1500");
    assert_eq!(cause(403, &[hint], &code("NoPermission")), KeyCause::Unanswered);
    assert_eq!(cause(400, &[], &code("Something.New")), KeyCause::Refused);
    assert_eq!(cause(400, &[], &code("InvalidAccessKeyId.NotFound")), KeyCause::Refused);
    assert_eq!(cause(400, &[], &code("InvalidSecurityToken.Expired")), KeyCause::Refused);
    let late = ("date", "Thu, 15 Jan 2026 09:30:00 GMT");
    let behind = KeyCause::Clock(Skew(Some(-60)));
    assert_eq!(cause(400, &[late], &code("InvalidTimeStamp.Expired")), behind);
    let shown = keys_refused(KeyStep::AssumeRoleWithOidc, 400, &[], &code("canary.token.text"));
    assert_eq!(shown.code, None);
}

#[test]
fn the_date_of_a_refusal_says_by_how_much_the_clock_is_wrong() {
    let skew = |date: &str| {
        let body = r#"{"Code":"InvalidTimeStamp.Expired"}"#;
        match refused(Action::AddMessageContact, 400, &[("date", date)], body).class {
            FailureClass::Clock(Skew(minutes)) => minutes,
            other => unreachable!("{other:?}"),
        }
    };
    assert_eq!(skew("Thu, 15 Jan 2026 08:10:00 GMT"), Some(20));
    assert_eq!(skew("Thu, 15 Jan 2026 08:09:31 GMT"), Some(20));
    assert_eq!(skew("Thu, 15 Jan 2026 08:09:29 GMT"), Some(21));
    assert_eq!(skew("Sat, 17 Jan 2026 08:30:00 GMT"), Some(-2880));
    // Stamped by somebody whose clock agrees with ours, or by nobody.
    for nothing in ["Thu, 15 Jan 2026 08:30:20 GMT", "yesterday", ""] {
        assert_eq!(skew(nothing), None, "{nothing}");
    }
}
