//! What only shows over real connections: overlap, faults, keep-alive, the control port.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

use super::client::{Caller, Line, Place, Received, answered, owned, send, v3};
use crate::switches::{Lane, Overlap};
use crate::wire::Request;
use crate::{Click, ContactChange, Fault, FaultKind, MessageState, NewContact, Options, Simulator};

async fn simulator() -> Simulator {
    Simulator::start(Options::default()).await.expect("two free ports")
}

fn call(it: &Simulator, action: &str, parameters: &[(&str, &str)]) -> Request {
    v3(&Caller::default(), action, parameters, Place::Form, it.now())
}

fn add(it: &Simulator, name: &str) -> Request {
    let email = format!("{name}@example.com");
    let parameters = [
        ("Name", name),
        ("EmailAddress", &*email),
        ("Title", "Other"),
        ("MessageTypes.1", "SecurityMessage"),
    ];
    call(it, "AddMessageContact", &parameters)
}

fn list(it: &Simulator) -> Request {
    call(it, "ListMessageContacts", &[])
}

async fn outcome(it: &Simulator, request: &Request) -> String {
    answered(&it.endpoint(), request).await.outcome()
}

/// One request while another is in flight.
async fn beside(it: &Simulator, first: &Request, second: &Request) -> (String, String) {
    it.latency(Duration::from_millis(300));
    let endpoint = it.endpoint();
    let slow = async { answered(&endpoint, first).await.outcome() };
    let fast = async {
        until(|| it.calls_in_flight() == 1).await;
        answered(&endpoint, second).await.outcome()
    };
    tokio::join!(slow, fast)
}

/// Waits for a condition, for ten seconds at most.
async fn until(condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < deadline, "the condition was never met");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn the_second_of_two_writes_is_refused_and_not_done() {
    let it = simulator().await;
    let (first, second) = beside(&it, &add(&it, "aa"), &add(&it, "bb")).await;
    assert_eq!((&*first, &*second), ("OK", "429 ConcurrentCallNotSupported"));
    assert_eq!(it.state().contacts.len(), 1);
    let counts = it.counts();
    assert_eq!((counts.calls, counts.writes, counts.overlaps, counts.in_flight_max), (2, 1, 1, 2));
    assert_eq!(counts.ended("429 ConcurrentCallNotSupported"), 0);
    assert_eq!(counts.ended("ConcurrentCallNotSupported"), 1);
    assert_eq!(outcome(&it, &add(&it, "bb")).await, "OK", "the lane is free again");
}

#[tokio::test]
async fn reads_and_writes_pass_each_other_unless_a_switch_says_no() {
    let refused = "429 ConcurrentCallNotSupported";
    for (overlap, read_then_write, write_then_read) in [
        (Overlap::Writes, "OK", "OK"),
        (Overlap::WritesBehindAnything, refused, "OK"),
        (Overlap::AllCalls, refused, refused),
        (Overlap::Off, "OK", "OK"),
    ] {
        let it = simulator().await;
        it.switches(|switches| switches.overlap = overlap);
        let outcomes = beside(&it, &list(&it), &add(&it, "aa")).await;
        assert_eq!((&*outcomes.0, &*outcomes.1), ("OK", read_then_write), "{overlap:?}");
        let outcomes = beside(&it, &add(&it, "bb"), &list(&it)).await;
        assert_eq!((&*outcomes.0, &*outcomes.1), ("OK", write_then_read), "{overlap:?}");
    }
}

#[tokio::test]
async fn writes_of_two_contacts_may_have_a_lane_each() {
    let it = simulator().await;
    let one = it.insert_contact(NewContact::new("one", "one@example.com"));
    let two = it.insert_contact(NewContact::new("two", "two@example.com"));
    let update =
        |id: &str| call(&it, "UpdateMessageContact", &[("ContactId", id), ("Title", "CEO")]);
    let (_, second) = beside(&it, &update(&one), &update(&two)).await;
    assert_eq!(second, "429 ConcurrentCallNotSupported");
    it.switches(|switches| switches.lane = Lane::Contact);
    let (_, second) = beside(&it, &update(&one), &update(&two)).await;
    assert_eq!(second, "OK");
    let (_, second) = beside(&it, &update(&one), &update(&one)).await;
    assert_eq!(second, "429 ConcurrentCallNotSupported");
}

#[tokio::test]
async fn an_outsider_holds_the_directory_until_it_lets_go() {
    let it = simulator().await;
    it.hold();
    assert_eq!(outcome(&it, &add(&it, "aa")).await, "429 ConcurrentCallNotSupported");
    assert_eq!(outcome(&it, &list(&it)).await, "OK");
    it.release();
    assert_eq!(outcome(&it, &add(&it, "aa")).await, "OK");
    let hour = Duration::from_hours(1);
    it.hold_cycle(hour, hour);
    assert_eq!(outcome(&it, &add(&it, "bb")).await, "429 ConcurrentCallNotSupported");
    it.advance(hour);
    assert_eq!(outcome(&it, &add(&it, "bb")).await, "OK");
    it.advance(hour);
    assert_eq!(outcome(&it, &add(&it, "cc")).await, "429 ConcurrentCallNotSupported");
}

#[tokio::test]
async fn a_serial_client_never_overlaps_itself() {
    let it = simulator().await;
    let mut lines = [Line::open(&it.endpoint()).await, Line::open(&it.endpoint()).await];
    for round in 0..50 {
        let request = call(&it, "GetResourceDirectory", &[]);
        let answer = lines[round % 2].call(&request).await.expect("the connection holds");
        assert_eq!(answer.expect("an answer").outcome(), "OK");
    }
    assert_eq!((it.counts().overlaps, it.counts().in_flight_max), (0, 1));
}

#[tokio::test]
async fn a_connection_carries_many_calls_and_bytes_are_counted() {
    let it = simulator().await;
    let mut line = Line::open(&it.endpoint()).await;
    let mut received = 0;
    for name in ["aa", "bb", "cc"] {
        let answer = line.call(&add(&it, name)).await.expect("a connection").expect("an answer");
        assert_eq!(answer.outcome(), "OK");
        assert_eq!(answer.header("connection").as_deref(), Some("keep-alive"));
        assert!(answer.header("date").expect("a date").ends_with("GMT"));
        received += answer.head.len() + answer.body.len();
    }
    until(|| it.counts().bytes_out == received as u64).await;
    assert!(it.counts().bytes_in > 1000);
}

#[tokio::test]
async fn latency_is_spent_on_both_sides_of_the_operation() {
    let it = simulator().await;
    it.latency(Duration::from_millis(400));
    let started = Instant::now();
    let endpoint = it.endpoint();
    let request = add(&it, "aa");
    let answer = answered(&endpoint, &request);
    let seen = async {
        until(|| !it.state().contacts.is_empty()).await;
        started.elapsed()
    };
    let (answer, seen) = tokio::join!(answer, seen);
    assert_eq!(answer.outcome(), "OK");
    assert!(seen >= Duration::from_millis(200), "{seen:?}");
    assert!(started.elapsed() >= seen + Duration::from_millis(150));
}

#[tokio::test]
async fn an_operation_is_done_even_if_the_client_leaves() {
    let it = simulator().await;
    it.latency(Duration::from_millis(200));
    let mut line = Line::open(&it.endpoint()).await;
    line.write(&add(&it, "aa")).await.expect("the connection holds");
    until(|| it.calls_in_flight() == 1).await;
    drop(line);
    until(|| it.counts().calls == 1).await;
    assert_eq!(it.state().contacts.len(), 1);
}

async fn nothing_comes(it: &Simulator, request: &Request) -> bool {
    !matches!(send(&it.endpoint(), request).await, Ok(Some(_)))
}

#[tokio::test]
async fn an_answer_is_dropped_before_or_after_the_operation() {
    for kind in [|executed| FaultKind::Drop { executed }, |executed| FaultKind::Reset { executed }]
    {
        let it = simulator().await;
        it.fault(Fault::on("AddMessageContact", kind(false)));
        it.fault(Fault::on("AddMessageContact", kind(true)));
        assert_eq!(outcome(&it, &list(&it)).await, "OK", "another operation is not hit");
        assert!(nothing_comes(&it, &add(&it, "aa")).await);
        assert_eq!(it.state().contacts.len(), 0);
        assert!(nothing_comes(&it, &add(&it, "aa")).await);
        assert_eq!(it.state().contacts.len(), 1);
        assert_eq!(outcome(&it, &add(&it, "bb")).await, "OK", "the faults are used up");
        assert_eq!(it.counts().writes, 2);
        let executed: Vec<_> = it.calls().iter().map(|call| call.executed).collect();
        assert_eq!(executed, [true, false, true, true]);
    }
}

#[tokio::test]
async fn a_reset_is_seen_as_one() {
    let it = simulator().await;
    it.fault(Fault::any(FaultKind::Reset { executed: false }));
    let error = send(&it.endpoint(), &list(&it)).await.expect_err("no answer");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn an_answer_breaks_off() {
    let it = simulator().await;
    it.fault(Fault::any(FaultKind::CutBody { bytes: 20 }));
    let answer = answered(&it.endpoint(), &add(&it, "aa")).await;
    assert_eq!((answer.status, answer.body.len()), (200, 20));
    assert!(answer.announced > 20);
    assert_eq!(it.state().contacts.len(), 1);
    assert_eq!(it.counts().ended("cut"), 1);
}

#[tokio::test]
async fn proxies_and_gateways_answer_for_the_service() {
    let it = simulator().await;
    let header = ("x-acs-retry-after".to_owned(), "1500".to_owned());
    for kind in [
        FaultKind::html_502(true),
        FaultKind::empty_500(false),
        FaultKind::redirect("http://127.0.0.1:1/"),
        FaultKind::Error {
            status: 400,
            code: "Throttling.Api".to_owned(),
            headers: vec![header],
            executed: false,
        },
        FaultKind::Raw {
            status: 200,
            headers: Vec::new(),
            body: "x".repeat(1024),
            repeat: 2048,
            executed: false,
        },
    ] {
        it.fault(Fault::any(kind));
    }
    let mut answers: Vec<Received> = Vec::new();
    for _ in 0..5 {
        answers.push(answered(&it.endpoint(), &add(&it, "aa")).await);
    }
    let statuses: Vec<_> = answers.iter().map(|answer| answer.status).collect();
    assert_eq!(statuses, [502, 500, 307, 400, 200]);
    assert_eq!(answers[0].header("content-type").as_deref(), Some("text/html"));
    assert!(answers[1].body.is_empty());
    assert_eq!(answers[2].header("location").as_deref(), Some("http://127.0.0.1:1/"));
    assert_eq!(answers[3].header("x-acs-retry-after").as_deref(), Some("1500"));
    assert_eq!(answers[3].outcome(), "400 Throttling.Api");
    assert_eq!(answers[4].body.len(), 2 * 1024 * 1024);
    assert_eq!(it.state().contacts.len(), 1, "only the first was done");
}

#[tokio::test]
async fn a_call_is_delivered_twice() {
    let it = simulator().await;
    it.fault(Fault::any(FaultKind::Duplicate { noticed: false }));
    assert_eq!(outcome(&it, &add(&it, "aa")).await, "400 InvalidParameter.Name.AlreadyUsed");
    it.fault(Fault::any(FaultKind::Duplicate { noticed: true }));
    assert_eq!(outcome(&it, &add(&it, "bb")).await, "400 SignatureNonceUsed");
    assert_eq!(it.state().contacts.len(), 2);
}

#[tokio::test]
async fn a_call_hangs_until_it_is_released() {
    let it = simulator().await;
    it.fault(Fault::any(FaultKind::Hang { executed: false }));
    let endpoint = it.endpoint();
    let request = add(&it, "aa");
    let hanging = answered(&endpoint, &request);
    let release = async {
        until(|| it.calls_in_flight() == 1).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(it.state().contacts.is_empty());
        assert_eq!(outcome(&it, &add(&it, "bb")).await, "429 ConcurrentCallNotSupported");
        it.release_hanging();
    };
    let (answer, ()) = tokio::join!(hanging, release);
    assert_eq!(answer.outcome(), "OK");
}

#[tokio::test]
async fn a_fault_skips_calls_and_hits_some() {
    let it = simulator().await;
    let fault = Fault::on("ListMessageContacts", FaultKind::error(503, "ServiceUnavailable"));
    it.fault(fault.skip(1).times(2));
    let mut outcomes = Vec::new();
    for _ in 0..4 {
        outcomes.push(outcome(&it, &list(&it)).await);
    }
    let unavailable = "503 ServiceUnavailable";
    assert_eq!(outcomes, ["OK", unavailable, unavailable, "OK"]);
    assert!(it.faults().is_empty());
}

#[tokio::test]
async fn a_delayed_call_takes_its_time() {
    let it = simulator().await;
    it.fault(Fault::any(FaultKind::Delay { before_ms: 100, after_ms: 100 }));
    let started = Instant::now();
    assert_eq!(outcome(&it, &list(&it)).await, "OK");
    assert!(started.elapsed() >= Duration::from_millis(200));
}

#[tokio::test]
async fn everything_ends_with_the_simulator() {
    let it = simulator().await;
    let mut line = Line::open(&it.endpoint()).await;
    line.call(&list(&it)).await.expect("a connection").expect("an answer");
    let endpoint = it.endpoint();
    drop(it);
    let closed = timeout(Duration::from_secs(10), line.read()).await.expect("in time");
    assert!(!matches!(closed, Ok(Some(_))));
    let again = tokio::net::TcpStream::connect(endpoint.trim_start_matches("http://")).await;
    assert!(again.is_err());
}

/// A call of the control port.
async fn control(it: &Simulator, method: &str, path: &str, body: &Value) -> (u16, Value) {
    let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    let request = Request {
        method: method.to_owned(),
        target: path.to_owned(),
        headers: owned(&[("host", "127.0.0.1"), ("content-type", "application/json")]),
        body,
    };
    let answer = answered(&it.control(), &request).await;
    let text = || Value::String(String::from_utf8_lossy(&answer.body).into_owned());
    let body = serde_json::from_slice(&answer.body).unwrap_or_else(|_| text());
    (answer.status, body)
}

#[tokio::test]
async fn the_control_port_shows_and_confirms() {
    let it = simulator().await;
    let id = answered(&it.endpoint(), &add(&it, "aa")).await.json()["Contact"]["ContactId"].take();
    let id = id.as_str().expect("an id");
    let parameters = [("ContactId", id), ("EmailAddress", "aa@example.com")];
    let sent = call(&it, "SendEmailVerificationForMessageContact", &parameters);
    assert_eq!(outcome(&it, &sent).await, "OK");
    let target = json!({"target": "aa@example.com"});
    let (_, outbox) = control(&it, "GET", "/outbox", &Value::Null).await;
    assert_eq!((&outbox[0]["target"], &outbox[0]["state"]), (&target["target"], &json!("live")));
    let (_, page) = control(&it, "GET", "/", &Value::Null).await;
    assert!(page.as_str().expect("a page").contains("<td>aa@example.com<td>"));
    let (_, state) = control(&it, "GET", "/state", &Value::Null).await;
    assert_eq!(state["contacts"][0]["email"]["pending"]["value"], "aa@example.com");
    assert_eq!(state["contacts"][0]["status"], "Verifying");

    let (status, _) = control(&it, "POST", "/confirm", &json!({"target": "x@example.com"})).await;
    assert_eq!(status, 404);
    let (status, _) = control(&it, "POST", "/confirm", &target).await;
    assert_eq!(status, 200);
    let (status, _) = control(&it, "POST", "/confirm", &target).await;
    assert_eq!(status, 410);
    let (_, state) = control(&it, "GET", "/state", &Value::Null).await;
    assert_eq!(state["contacts"][0]["status"], "Active");
    let (_, counts) = control(&it, "GET", "/counts", &Value::Null).await;
    assert_eq!(counts["calls"], 2);
    let (_, calls) = control(&it, "GET", "/calls?since=1", &Value::Null).await;
    assert_eq!(calls[0]["action"], "SendEmailVerificationForMessageContact");
    assert_eq!(calls.as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn a_person_clicks_in_the_page() {
    let it = simulator().await;
    let id = it.insert_contact(NewContact { confirmed: false, ..NewContact::new("aa", "<b>@x.y") });
    it.change_contact(
        &id,
        ContactChange { pending_email: Some("<b>@x.y".to_owned()), ..ContactChange::default() },
    );
    let parameters = [("ContactId", &*id), ("EmailAddress", "<b>@x.y")];
    let sent = call(&it, "SendEmailVerificationForMessageContact", &parameters);
    assert_eq!(outcome(&it, &sent).await, "OK");
    let (_, page) = control(&it, "GET", "/", &Value::Null).await;
    let page = page.as_str().expect("a page");
    assert!(page.contains("&lt;b&gt;@x.y") && !page.contains("<b>@"), "values are escaped");
    let request = Request {
        method: "POST".to_owned(),
        target: "/confirm".to_owned(),
        headers: owned(&[
            ("host", "127.0.0.1"),
            ("content-type", "application/x-www-form-urlencoded"),
        ]),
        body: b"message=1".to_vec(),
    };
    let answer = answered(&it.control(), &request).await;
    assert_eq!((answer.status, answer.header("location").as_deref()), (303, Some("/")));
    assert_eq!(it.outbox()[0].state, MessageState::Confirmed);
    assert_eq!(it.confirm("<b>@x.y"), Click::DeadLink);
}

#[tokio::test]
async fn the_control_port_sets_everything() {
    let it = simulator().await;
    for (method, path, body) in [
        ("PUT", "/switches", json!({"overlap": "all-calls", "link_seconds": null})),
        ("PUT", "/quotas", json!({"contacts": 1})),
        ("PUT", "/deletion", json!({"after_ms": 5})),
        ("PUT", "/throttle", json!({"calls": 1000, "status": 429, "retry_after": "window-end"})),
        ("PUT", "/latency", json!({"ms": 1})),
        ("PUT", "/clock", json!({"ms": 1000})),
        ("PUT", "/roles", json!([{"name": "other"}])),
        ("PUT", "/keys", json!({"add": [{"id": "k", "secret": "s"}], "disable": ["k"]})),
        ("POST", "/faults", json!({"kind": {"type": "drop", "executed": true}, "skip": 9})),
        ("POST", "/faults", json!([{"kind": {"type": "hang", "executed": false}, "skip": 9}])),
        ("POST", "/faults/release", Value::Null),
        ("POST", "/hold", json!({"hold_ms": 30, "free_ms": 70})),
        ("POST", "/hold", Value::Null),
        ("DELETE", "/hold", Value::Null),
        ("POST", "/counts/reset", Value::Null),
        ("POST", "/expire", json!({"target": "nobody"})),
    ] {
        let (status, answer) = control(&it, method, path, &body).await;
        assert_eq!(status, 200, "{method} {path}: {answer}");
    }
    let (_, settings) = control(&it, "GET", "/settings", &Value::Null).await;
    assert_eq!(settings["switches"]["overlap"], "all-calls");
    assert_eq!(settings["switches"]["link_seconds"], Value::Null);
    assert_eq!(settings["quotas"]["contacts"], 1);
    assert_eq!(settings["faults"].as_array().map(Vec::len), Some(2));
    let (status, _) = control(&it, "DELETE", "/faults", &Value::Null).await;
    assert_eq!(status, 200);

    let contact = json!({"name": "aa", "email": "aa@example.com"});
    let (_, answer) = control(&it, "POST", "/contacts", &contact).await;
    let id = answer["id"].as_str().expect("an id");
    let path = format!("/contacts/{id}");
    let change = json!({"title": "CEO", "phone": "86-13800138000"});
    assert_eq!(control(&it, "PATCH", &path, &change).await.0, 200);
    assert_eq!(it.state().named("aa").map(|contact| &*contact.title), Some("CEO"));
    assert_eq!(control(&it, "DELETE", &path, &Value::Null).await.0, 200);
    assert_eq!(control(&it, "DELETE", &path, &Value::Null).await.0, 404);
    assert_eq!(control(&it, "PUT", "/switches", &json!({"overlap": "maybe"})).await.0, 400);
    assert_eq!(it.counts().calls, 0, "none of this was a call");

    let (status, _) = control(&it, "POST", "/reset", &Value::Null).await;
    assert_eq!(status, 200);
    let (_, settings) = control(&it, "GET", "/settings", &Value::Null).await;
    assert_eq!(settings["quotas"]["contacts"], 20);
}

#[tokio::test]
async fn the_metadata_service_gives_keys_for_a_token_only() {
    let it = simulator().await;
    let get = async |path: &str, token: Option<&str>| {
        let mut headers = owned(&[("host", "127.0.0.1")]);
        let token = token.map(|token| ("X-aliyun-ecs-metadata-token".to_owned(), token.to_owned()));
        headers.extend(token);
        let (method, target) = ("GET".to_owned(), format!("/latest/meta-data/ram/{path}"));
        answered(&it.control(), &Request { method, target, headers, body: Vec::new() }).await
    };
    let put = async |extra: &[(&str, &str)]| {
        let mut headers = owned(&[("host", "127.0.0.1")]);
        headers.extend(owned(extra));
        let (method, target) = ("PUT".to_owned(), "/latest/api/token".to_owned());
        answered(&it.control(), &Request { method, target, headers, body: Vec::new() }).await
    };
    let seconds = ("X-aliyun-ecs-metadata-token-ttl-seconds", "21600");
    assert_eq!(put(&[]).await.status, 400);
    assert_eq!(put(&[seconds, ("X-Forwarded-For", "10.0.0.1")]).await.status, 403);
    let token = String::from_utf8(put(&[seconds]).await.body).expect("a text");
    assert_eq!(get("security-credentials/", None).await.status, 403);
    let role = String::from_utf8(get("security-credentials/", Some(&token)).await.body);
    let path = format!("security-credentials/{}", role.expect("a text"));
    let credentials = get(&path, Some(&token)).await.json();
    assert_eq!(credentials["Code"], "Success");
    let text = |name: &str| credentials[name].as_str().expect("a text").to_owned();
    let caller = Caller {
        id: text("AccessKeyId"),
        secret: text("AccessKeySecret"),
        token: Some(text("SecurityToken")),
    };
    let request = v3(&caller, "ListMessageContacts", &[], Place::Form, it.now());
    assert_eq!(outcome(&it, &request).await, "OK");
    it.metadata_token_required(false);
    assert_eq!(get("security-credentials/", None).await.status, 200);

    let seen = it.counts();
    assert_eq!((seen.of_metadata("token"), seen.of_metadata("role")), (3, 3));
    assert_eq!((seen.of_metadata("credentials"), seen.of_metadata("without a token")), (1, 2));
    it.fault(Fault::any(FaultKind::error(400, "NotForMetadata")));
    it.fault(Fault::on("MetadataToken", FaultKind::error(404, "NoToken")));
    assert_eq!(put(&[seconds]).await.status, 404);
    assert_eq!(put(&[seconds]).await.status, 200);
    assert_eq!(it.faults().len(), 1);
}

#[tokio::test]
async fn the_token_service_is_no_call_of_the_directory_and_what_came_in_the_url_is_told() {
    let it = simulator().await;
    let form = "application/x-www-form-urlencoded";
    let exchange = Request {
        method: "POST".to_owned(),
        target: "/?Action=AssumeRoleWithOIDC&Version=2015-04-01".to_owned(),
        headers: owned(&[("host", "127.0.0.1"), ("content-type", form)]),
        body: b"OIDCToken=none".to_vec(),
    };
    let (list, refusal) = beside(&it, &list(&it), &exchange).await;
    assert_eq!((&*list, &*refusal), ("OK", "400 InvalidParameter.RoleArn"));
    assert_eq!((it.counts().overlaps, it.counts().in_flight_max), (0, 1));
    let calls = it.calls();
    let of =
        |action: &str| &calls.iter().find(|call| call.action == action).expect("a call").in_url;
    assert_eq!(of("AssumeRoleWithOIDC"), &["Action", "Version"]);
    assert!(of("ListMessageContacts").is_empty());
}
