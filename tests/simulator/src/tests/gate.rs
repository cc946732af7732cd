//! Who gets in, and which check comes first. No sockets: requests are values.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::client::{
    Caller, Place, encoded, owned, v1, v1_common, v1_sealed, v3, v3_headers, v3_sealed,
};
use crate::handle::Handle;
use crate::keys::{Key, Owner, Session};
use crate::switches::{FormBody, MemberAccountCode, PermissionCode};
use crate::wire::Request;
use crate::world::Ending;
use crate::{
    ACCESS_KEY_ID, Fault, FaultKind, MANAGEMENT_ACCOUNT_ID, Options, ROLE_NAME, RetryAfter, Role,
    Throttle,
};

fn simulator() -> Handle {
    Handle::new(Options::default())
}

/// Walks a call through the world at once.
fn outcome_and_body(handle: &Handle, request: &Request) -> (String, Value) {
    let ending = handle.with(|world, now| {
        let mut call = world.arrive(request, now);
        let answer = world.execute(&mut call, now);
        world.end(call, answer, now)
    });
    let Ending::Whole(answer) = ending else { return ("nothing".to_owned(), Value::Null) };
    let body = serde_json::from_slice(&answer.body).unwrap_or(Value::Null);
    let outcome = match answer.status {
        200 => "OK".to_owned(),
        status => format!("{status} {}", answer.outcome),
    };
    (outcome, body)
}

fn outcome(handle: &Handle, request: &Request) -> String {
    outcome_and_body(handle, request).0
}

pub(super) fn answer(handle: &Handle, request: &Request) -> Value {
    let (outcome, body) = outcome_and_body(handle, request);
    assert_eq!(outcome, "OK", "{body:#}");
    body
}

fn list(caller: &Caller, now: Timestamp) -> Request {
    v3(caller, "ListMessageContacts", &[], Place::Query, now)
}

#[test]
fn both_signatures_and_both_places_get_in() {
    let it = simulator();
    let caller = Caller::default();
    for place in [Place::Query, Place::Form] {
        for make in [v1, v3] {
            let request =
                make(&caller, "ListMessageContacts", &[("PageSize", "7")], place, it.now());
            assert_eq!(answer(&it, &request)["PageSize"], 7);
        }
    }
    it.switches(|switches| switches.form_body = FormBody::Ignored);
    let request = v3(&caller, "ListMessageContacts", &[("PageSize", "7")], Place::Form, it.now());
    assert_eq!(answer(&it, &request)["PageSize"], 10);
}

#[test]
fn the_checks_of_v1_come_in_order() {
    let it = simulator();
    let now = it.now();
    // From the last check to the first: each request has this fault and all earlier ones.
    let faults: [(&str, &str, &str); 7] = [
        ("Timestamp", "2020-01-01T00:00:00Z", "400 InvalidTimeStamp.Expired"),
        ("Timestamp", "yesterday", "400 InvalidTimeStamp.Format"),
        ("Action", "ListEverything", "404 InvalidAction.NotFound"),
        ("Version", "2020-01-01", "400 InvalidVersion"),
        ("SignatureMethod", "HMAC-MD5", "400 InvalidSignatureMethod"),
        ("SignatureNonce", "", "400 MissingParameter"),
        ("Action", "", "400 MissingParameter"),
    ];
    let stranger = Caller { id: "Nobody".to_owned(), ..Caller::default() };
    let mut query = v1_common(&stranger, "ListMessageContacts", now);
    let request = v1_sealed(&stranger, query.clone(), &[]);
    assert_eq!(outcome(&it, &request), "404 InvalidAccessKeyId.NotFound");
    for (name, value, expected) in faults {
        for pair in &mut query {
            if pair.0 == name {
                value.clone_into(&mut pair.1);
            }
        }
        let request = v1_sealed(&stranger, query.clone(), &[]);
        assert_eq!(outcome(&it, &request), expected, "{name}={value}");
    }
}

#[test]
fn a_request_without_any_signature_lacks_a_parameter() {
    let it = simulator();
    let query = v1_common(&Caller::default(), "ListMessageContacts", it.now());
    let target = format!("/?{}", encoded(&query));
    let request = Request { method: "POST".to_owned(), target, ..Request::default() };
    assert_eq!(outcome(&it, &request), "400 MissingParameter");
}

#[test]
fn v3_must_cover_what_matters() {
    let it = simulator();
    let caller = Caller::default();
    let whole = v3_headers(&caller, "ListMessageContacts", b"", it.now());
    for left_out in
        ["host", "x-acs-action", "x-acs-date", "x-acs-signature-nonce", "x-acs-content-sha256"]
    {
        let (left_out, signed): (Vec<_>, Vec<_>) =
            whole.iter().cloned().partition(|(name, _)| name == left_out);
        let mut request = v3_sealed(&caller, &[], signed, Vec::new());
        request.headers.extend(left_out.clone());
        assert_eq!(outcome(&it, &request), "400 IncompleteSignature", "{left_out:?}");
    }
    for (from, to, expected) in [
        ("ACS3-HMAC-SHA256", "ACS3-HMAC-SM3", "400 InvalidSignatureMethod"),
        ("Credential=", "", "400 IncompleteSignature"),
        ("Signature=", "Signature=0", "400 SignatureDoesNotMatch"),
    ] {
        let mut request = v3_sealed(&caller, &[], whole.clone(), Vec::new());
        for (_, value) in request.headers.iter_mut().filter(|(name, _)| name == "Authorization") {
            *value = value.replace(from, to);
        }
        assert_eq!(outcome(&it, &request), expected, "{from}");
    }
    let mut request = list(&caller, it.now());
    request.headers.retain(|(name, _)| name != "x-acs-date");
    assert_eq!(outcome(&it, &request), "400 MissingParameter");
}

#[test]
fn the_time_stamp_may_be_fifteen_minutes_off() {
    let it = simulator();
    let caller = Caller::default();
    for (minutes, expected) in [
        (-14, "OK"),
        (14, "OK"),
        (-16, "400 InvalidTimeStamp.Expired"),
        (16, "400 InvalidTimeStamp.Expired"),
    ] {
        let at = it.now() + SignedDuration::from_mins(minutes);
        assert_eq!(outcome(&it, &list(&caller, at)), expected, "{minutes} minutes");
    }
}

#[test]
fn a_skewed_clock_refuses_good_time_stamps() {
    let it = simulator();
    it.fault(Fault::any(FaultKind::ClockSkew { seconds: 3600 }));
    let caller = Caller::default();
    assert_eq!(outcome(&it, &list(&caller, it.now())), "400 InvalidTimeStamp.Expired");
    assert_eq!(outcome(&it, &list(&caller, it.now())), "OK");
}

#[test]
fn a_nonce_works_once_in_fifteen_minutes_and_only_a_good_request_uses_it_up() {
    let it = simulator();
    let caller = Caller::default();
    let good = list(&caller, it.now());
    let mut bad = good.clone();
    bad.target = "/?PageSize=1".to_owned();
    assert_eq!(outcome(&it, &bad), "400 SignatureDoesNotMatch");
    assert_eq!(outcome(&it, &good), "OK");
    assert_eq!(outcome(&it, &good), "400 SignatureNonceUsed");
}

#[test]
fn a_wrong_signature_is_answered_with_what_was_signed() {
    let it = simulator();
    let thief = Caller { secret: "guessed".to_owned(), ..Caller::default() };
    let pairs = [("EmailAddress", "z@example.com")];
    let message = |request| {
        let (outcome, body) = outcome_and_body(&it, request);
        assert_eq!(outcome, "400 SignatureDoesNotMatch");
        body["Message"].as_str().expect("a text").to_owned()
    };
    let v1 = v1(&thief, "AddMessageContact", &pairs, Place::Form, it.now());
    assert!(message(&v1).contains("z%2540example.com"), "V1 repeats private values");
    let v3 = v3(&thief, "AddMessageContact", &pairs, Place::Form, it.now());
    assert!(!message(&v3).contains("example.com"), "V3 repeats a hash only");
}

#[test]
fn keys_can_be_disabled_removed_and_rotated() {
    let it = simulator();
    let caller = Caller::default();
    assert!(it.disable_key(ACCESS_KEY_ID));
    assert_eq!(outcome(&it, &list(&caller, it.now())), "400 InvalidAccessKeyId.Inactive");
    it.add_key(Key::new(ACCESS_KEY_ID, "another secret"));
    assert_eq!(outcome(&it, &list(&caller, it.now())), "400 SignatureDoesNotMatch");
    let rotated = Caller { secret: "another secret".to_owned(), ..caller };
    assert_eq!(outcome(&it, &list(&rotated, it.now())), "OK");
    assert!(it.remove_key(ACCESS_KEY_ID));
    assert_eq!(outcome(&it, &list(&rotated, it.now())), "404 InvalidAccessKeyId.NotFound");
}

#[test]
fn a_key_may_do_only_what_it_was_given() {
    let it = simulator();
    it.add_key(Key::new("reader", "secret").only(&["ListMessageContacts"]));
    let reader = Caller { id: "reader".to_owned(), secret: "secret".to_owned(), token: None };
    assert_eq!(outcome(&it, &list(&reader, it.now())), "OK");
    let add = v3(&reader, "AddMessageContact", &[], Place::Form, it.now());
    let (outcome_, body) = outcome_and_body(&it, &add);
    assert_eq!(outcome_, "403 NoPermission");
    assert_eq!(body["AccessDeniedDetail"]["AuthAction"], "resourcemanager:AddMessageContact");
    it.switches(|switches| switches.permission_code = PermissionCode::ForbiddenRam);
    let add = v3(&reader, "AddMessageContact", &[], Place::Form, it.now());
    assert_eq!(outcome(&it, &add), "403 Forbidden.RAM");
    let identity = v3(&reader, "GetCallerIdentity", &[], Place::Form, it.now());
    assert_eq!(answer(&it, &identity)["IdentityType"], "RAMUser");
}

#[test]
fn a_member_account_is_turned_away() {
    let it = simulator();
    let mut key = Key::new("member", "secret");
    key.owner = Owner::Member { account_id: "2000000000000001".to_owned() };
    it.add_key(key);
    let member = Caller { id: "member".to_owned(), secret: "secret".to_owned(), token: None };
    assert_eq!(outcome(&it, &list(&member, it.now())), "403 MemberAccountAccessDenied");
    it.switches(|switches| switches.member_account_code = MemberAccountCode::NotAllowed);
    assert_eq!(outcome(&it, &list(&member, it.now())), "403 MemberAccountOperationNotAllowed");
    let identity = v3(&member, "GetCallerIdentity", &[], Place::Form, it.now());
    assert_eq!(answer(&it, &identity)["AccountId"], "2000000000000001");
}

#[test]
fn temporary_keys_need_their_own_living_token() {
    let it = simulator();
    let until = it.now() + SignedDuration::from_mins(10);
    for (id, token) in [("STS.one", "token+one="), ("STS.two", "token/two&")] {
        let mut key = Key::new(id, "secret");
        key.session = Some(Session { token: token.to_owned(), expires_at: until });
        it.add_key(key);
    }
    let caller = |token: Option<&str>| Caller {
        id: "STS.one".to_owned(),
        secret: "secret".to_owned(),
        token: token.map(str::to_owned),
    };
    for (token, expected) in [
        (Some("token+one="), "OK"),
        (None, "400 MissingSecurityToken"),
        (Some("token/two&"), "400 InvalidSecurityToken.MismatchWithAccessKey"),
        (Some("rubbish"), "400 InvalidSecurityToken.Malformed"),
    ] {
        let request = list(&caller(token), it.now());
        assert_eq!(outcome(&it, &request), expected, "V3 {token:?}");
        let request = v1(&caller(token), "ListMessageContacts", &[], Place::Query, it.now());
        assert_eq!(outcome(&it, &request), expected, "V1 {token:?}");
    }
    it.advance(Duration::from_mins(10));
    let request = list(&caller(Some("token+one=")), it.now());
    assert_eq!(outcome(&it, &request), "400 InvalidSecurityToken.Expired");
}

#[test]
fn a_parameter_that_comes_twice_is_refused() {
    let it = simulator();
    let caller = Caller::default();
    let query = owned(&[("PageSize", "1"), ("PageSize", "2")]);
    let headers = v3_headers(&caller, "ListMessageContacts", b"", it.now());
    let request = v3_sealed(&caller, &query, headers, Vec::new());
    assert_eq!(outcome(&it, &request), "400 InvalidParameter");
}

#[test]
fn other_methods_and_paths_are_refused() {
    let it = simulator();
    let mut request = list(&Caller::default(), it.now());
    request.method = "PUT".to_owned();
    assert_eq!(outcome(&it, &request), "400 UnsupportedHTTPMethod");
    request.method = "POST".to_owned();
    request.target = "/contacts".to_owned();
    assert_eq!(outcome(&it, &request), "404 InvalidApi.NotFound");
}

#[test]
fn throttling_counts_per_operation_and_window() {
    let it = simulator();
    let caller = Caller::default();
    // An hour for a window: it cannot end while the test runs, but for once in a thousand hours.
    let hour = 3_600_000;
    it.throttle(Throttle { window_ms: hour, ..Throttle::per_second(2) });
    let get = |it: &Handle| v3(&caller, "GetResourceDirectory", &[], Place::Form, it.now());
    let outcomes: Vec<_> = (0..3).map(|_| outcome(&it, &list(&caller, it.now()))).collect();
    assert_eq!(outcomes, ["OK", "OK", "400 Throttling.User"]);
    assert_eq!(outcome(&it, &get(&it)), "OK");
    it.advance(Duration::from_millis(hour));
    assert_eq!(outcome(&it, &list(&caller, it.now())), "OK");
    it.throttle(Throttle {
        window_ms: hour,
        status: 503,
        code: "Throttling".to_owned(),
        retry_after: RetryAfter::Text("1500".to_owned()),
        ..Throttle::per_second(0)
    });
    let ending = it.with(|world, now| {
        let mut call = world.arrive(&list(&caller, now), now);
        let answer = world.execute(&mut call, now);
        world.end(call, answer, now)
    });
    let Ending::Whole(answer) = ending else { unreachable!("no fault was set") };
    assert_eq!((answer.status, answer.outcome.as_str()), (503, "Throttling"));
    let hint = ("x-acs-retry-after".to_owned(), "1500".to_owned());
    assert!(answer.headers.contains(&hint), "{:?}", answer.headers);
}

#[test]
fn a_role_can_be_taken_and_used() {
    let it = simulator();
    let arn = format!("acs:ram::{MANAGEMENT_ACCOUNT_ID}:role/{ROLE_NAME}");
    let parameters = [("RoleArn", &*arn), ("RoleSessionName", "operator")];
    let request = v1(&Caller::default(), "AssumeRole", &parameters, Place::Query, it.now());
    let credentials = answer(&it, &request)["Credentials"].take();
    let text = |name: &str| credentials[name].as_str().expect("a text").to_owned();
    let caller = Caller {
        id: text("AccessKeyId"),
        secret: text("AccessKeySecret"),
        token: Some(text("SecurityToken")),
    };
    for make in [v1, v3] {
        let request = make(&caller, "GetCallerIdentity", &[], Place::Query, it.now());
        let identity = answer(&it, &request);
        assert_eq!(identity["IdentityType"], "AssumedRoleUser");
        assert_eq!(identity["PrincipalId"], "300000000000000001:operator");
    }
    it.advance(Duration::from_hours(1));
    assert_eq!(outcome(&it, &list(&caller, it.now())), "400 InvalidSecurityToken.Expired");
}

#[test]
fn a_role_is_refused_for_many_reasons() {
    let it = simulator();
    let mut guarded = Role::new("guarded");
    guarded.external_id = Some("agreed".to_owned());
    it.roles(vec![Role::new(ROLE_NAME), guarded]);
    let good = format!("acs:ram::{MANAGEMENT_ACCOUNT_ID}:role/{ROLE_NAME}");
    let guarded = format!("acs:ram::{MANAGEMENT_ACCOUNT_ID}:role/guarded");
    let unknown = format!("acs:ram::{MANAGEMENT_ACCOUNT_ID}:role/unknown");
    let check = |name: &str, value: &str, expected: &str| {
        let mut parameters = vec![("RoleArn", good.as_str()), ("RoleSessionName", "operator")];
        parameters.retain(|(other, _)| *other != name);
        parameters.push((name, value));
        let request = v1(&Caller::default(), "AssumeRole", &parameters, Place::Query, it.now());
        assert_eq!(outcome(&it, &request), expected, "{name}={value}");
    };
    check("RoleArn", &unknown, "404 EntityNotExist.Role");
    check("RoleArn", "role", "400 InvalidParameter.RoleArn");
    check("RoleArn", &guarded, "403 NoPermission");
    check("RoleSessionName", "a b", "400 InvalidParameter.RoleSessionName");
    check("DurationSeconds", "899", "400 InvalidParameter.DurationSeconds");
    check("DurationSeconds", "3601", "400 InvalidParameter.DurationSeconds");
    check("DurationSeconds", "900", "OK");
    check("ExternalId", "x", "400 InvalidParameter.ExternalId");
    it.add_key(Key { owner: Owner::Root, ..Key::new(ACCESS_KEY_ID, crate::ACCESS_KEY_SECRET) });
    check("DurationSeconds", "900", "403 NoPermission");
}

#[test]
fn an_oidc_token_is_exchanged_unsigned_from_the_query_or_the_form() {
    let it = simulator();
    let token = |claims: &str| {
        use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
        format!("e30.{}.c2ln", BASE64_URL_SAFE_NO_PAD.encode(claims))
    };
    let request = |token: &str, place: Place| {
        let arn = format!("acs:ram::{MANAGEMENT_ACCOUNT_ID}:role/{ROLE_NAME}");
        let provider = format!("acs:ram::{MANAGEMENT_ACCOUNT_ID}:oidc-provider/ack-rrsa-sim");
        let common = owned(&[
            ("Action", "AssumeRoleWithOIDC"),
            ("Version", "2015-04-01"),
            ("Format", "JSON"),
        ]);
        let own = owned(&[
            ("RoleArn", &arn),
            ("OIDCProviderArn", &provider),
            ("OIDCToken", token),
            ("RoleSessionName", "operator"),
        ]);
        let kind = owned(&[("content-type", "application/x-www-form-urlencoded")]);
        match place {
            Place::Query => Request {
                method: "GET".to_owned(),
                target: format!("/?{}&{}", encoded(&common), encoded(&own)),
                ..Request::default()
            },
            Place::Form => Request {
                method: "POST".to_owned(),
                target: format!("/?{}", encoded(&common)),
                headers: kind,
                body: encoded(&own).into_bytes(),
            },
        }
    };
    let living =
        token(r#"{"iss":"https://issuer","sub":"me","aud":["sts.aliyuncs.com"],"exp":4102444800}"#);
    for place in [Place::Query, Place::Form] {
        assert_eq!(answer(&it, &request(&living, place))["OIDCTokenInfo"]["Subject"], "me");
        for (token, expected) in [
            (token(r#"{"exp":1}"#), "401 AuthenticationFail.OIDCToken.Expired"),
            (token(r#"{"aud":"x"}"#), "401 AuthenticationFail.OIDCToken.AudienceNotMatch"),
            ("rubbish".to_owned(), "401 AuthenticationFail.OIDCToken.Invalid"),
        ] {
            assert_eq!(outcome(&it, &request(&token, place)), expected);
        }
    }
    let calls = serde_json::to_string(&it.calls()).expect("JSON");
    assert!(!calls.contains(&living), "the log masks tokens");
}

#[test]
fn the_log_masks_private_values() {
    let it = simulator();
    let parameters = [
        ("Name", "zhang"),
        ("EmailAddress", "zhang.san@example.com"),
        ("PhoneNumber", "86-13800138000"),
        ("Title", "Other"),
        ("MessageTypes.1", "FaultMessage"),
    ];
    let add = v3(&Caller::default(), "AddMessageContact", &parameters, Place::Form, it.now());
    answer(&it, &add);
    let log = it.calls();
    assert_eq!(log.len(), 1);
    assert_eq!(log[0].parameters["EmailAddress"], "z***@example.com");
    assert_eq!(log[0].parameters["PhoneNumber"], "86-138****");
    assert_eq!(log[0].parameters["Name"], "z***");
    assert_eq!(log[0].parameters["Title"], "Other");
    assert_eq!((log[0].status, log[0].executed), (Some(200), true));
}
