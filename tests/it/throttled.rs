//! The cloud asks to slow down, in each of its forms.

use directory_simulator::{CallRecord, Fault, FaultKind, Options, Simulator, Throttle};
use futures::future::join_all;
use jiff::SignedDuration;
use serde_json::{Value, json};

use crate::stand::{Stand, condition_of};

/// A stand that does not poll by itself, so that every list is one that somebody asked for.
async fn quiet(spec: Value) -> Stand {
    let mut fields = json!({ "pollInterval": "5m" });
    crate::stand::merge(&mut fields, spec);
    Stand::with(Options::default(), fields).await
}

fn throttling(status: u16, code: &str, header: Option<(&str, &str)>) -> FaultKind {
    let headers = header.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let headers = headers.into_iter().collect();
    FaultKind::Error { status, code: code.to_owned(), headers, executed: false }
}

/// A form in which the cloud asks to slow down, and how long it asks to wait at least.
struct Form {
    status: u16,
    code: &'static str,
    header: Option<(&'static str, &'static str)>,
    wait_ms: i64,
}

const FORMS: &[Form] = &[
    Form { status: 400, code: "Throttling", header: None, wait_ms: 0 },
    Form { status: 400, code: "Throttling.User", header: None, wait_ms: 0 },
    Form { status: 400, code: "Throttling.Api", header: None, wait_ms: 0 },
    Form { status: 503, code: "Throttling.User.Flow", header: None, wait_ms: 0 },
    Form { status: 429, code: "Rejected.Throttling", header: None, wait_ms: 0 },
    Form { status: 429, code: "NeverHeardOf", header: None, wait_ms: 0 },
    Form {
        status: 400,
        code: "Throttling.User",
        header: Some(("x-acs-retry-after", "2200")),
        wait_ms: 2200,
    },
    // A hint is worth more than the code beside it: this spec is not refused.
    Form {
        status: 400,
        code: "InvalidParameter.Name",
        header: Some(("x-acs-retry-after", "1300")),
        wait_ms: 1300,
    },
    // What is no number of milliseconds says nothing.
    Form {
        status: 429,
        code: "Throttling",
        header: Some(("x-acs-retry-after", "soon")),
        wait_ms: 0,
    },
    Form {
        status: 400,
        code: "Throttling.Api",
        header: Some(("x-ratelimit-user-api", "Limit:10,Remain:0,TimeLeft:1700")),
        wait_ms: 1700,
    },
    Form {
        status: 503,
        code: "Throttling",
        header: Some(("x-ratelimit-user", "Limit:100,TimeLeft:1100")),
        wait_ms: 1100,
    },
];

#[tokio::test(flavor = "multi_thread")]
async fn every_form_of_throttling_is_waited_out_and_nothing_is_done_twice() {
    join_all(FORMS.iter().map(|form| async move {
        let Form { status, code, header, wait_ms } = *form;
        let case = format!("{status} {code} {header:?}");
        let stand = quiet(json!({})).await;
        let lists = stand.simulator.counts().of("ListMessageContacts");
        stand.simulator.fault(Fault::on("AddMessageContact", throttling(status, code, header)));
        stand.apply("slow", "Fang", json!({})).await;
        stand.directory_becomes("Throttled", "Throttled").await;
        stand.becomes("slow", "Ready", "InSync").await;

        let counts = stand.simulator.counts();
        assert_eq!((counts.of("AddMessageContact"), counts.writes), (2, 1), "{case}");
        // It is certain that nothing was done: there was nothing to look for.
        assert_eq!(counts.of("ListMessageContacts"), lists, "{case}");
        let adds = calls_of(&stand, "AddMessageContact");
        let pause = adds[1].at.duration_since(adds[0].at);
        assert!(pause >= SignedDuration::from_millis(wait_ms), "{case}: only {pause:#}");
    }))
    .await;
}

fn calls_of(stand: &Stand, action: &str) -> Vec<CallRecord> {
    stand.simulator.calls().into_iter().filter(|call| call.action == action).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_throttled_update_read_and_deletion_are_made_once() {
    let stand = quiet(json!({})).await;
    let near = stand.stranger("Qiangs");
    stand.apply("often", "Qiang", json!({})).await;
    stand.becomes("often", "Ready", "InSync").await;

    let slow = || throttling(400, "Throttling.Api", None);
    stand.simulator.fault(Fault::on("UpdateMessageContact", slow()));
    stand.simulator.fault(Fault::on("GetMessageContact", slow()));
    stand.simulator.fault(Fault::on("DeleteMessageContact", slow()));
    stand.apply("often", "Qiang", json!({ "messageTypes": ["ProductMessage"] })).await;
    stand.becomes("often", "Ready", "InSync").await;
    let counts = stand.simulator.counts();
    assert_eq!((counts.of("UpdateMessageContact"), counts.writes), (2, 2));
    assert_eq!(counts.of("GetMessageContact"), 2, "read back once, after one refusal");

    stand.delete("often").await;
    stand.is_gone("often").await;
    let counts = stand.simulator.counts();
    assert_eq!((counts.of("DeleteMessageContact"), counts.writes), (2, 3));
    let left: Vec<_> = stand.simulator.state().contacts.iter().map(|it| it.id.clone()).collect();
    assert_eq!(left, [near]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_is_found_with_few_refusals() {
    const BATCH: usize = 50;
    let stand = quiet(json!({})).await;
    stand.simulator.quotas(|quotas| quotas.contacts = 100);
    stand.simulator.throttle(Throttle::per_second(5));
    for number in 0..BATCH {
        let letter = char::from(b'a' + u8::try_from(number % 26).unwrap());
        let name = format!("Flood{letter}{}", if number < 26 { "x" } else { "y" });
        stand.apply(&format!("flood-{number}"), &name, json!({})).await;
    }
    stand.directory_becomes("Throttled", "Throttled").await;
    for number in 0..BATCH {
        stand.becomes(&format!("flood-{number}"), "Ready", "InSync").await;
    }
    let counts = stand.simulator.counts();
    let refused = counts.ended("Throttling.User");
    eprintln!("{refused} of {} calls were refused", counts.calls);
    assert_eq!(counts.writes, BATCH as u64);
    assert!(refused >= 1, "the limit was never reached");
    assert!(refused * 10 <= BATCH as u64, "{refused} refusals for {BATCH} contacts");
    assert_eq!(stand.simulator.state().contacts.len(), BATCH);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_is_fast_again_says_so() {
    let stand = quiet(json!({ "requestsPerSecond": 5 })).await;
    // The rate is full when the refusal comes, so that it is back soon.
    let slow = throttling(400, "Throttling.User", None);
    stand.simulator.fault(Fault::on("AddMessageContact", slow).skip(8));
    for letter in 'a'..='j' {
        stand.apply(&format!("again-{letter}"), &format!("Again{letter}"), json!({})).await;
    }
    let directory = stand.directory_becomes("Throttled", "Throttled").await;
    assert_eq!(condition_of(&directory, "Throttled")["status"], "True");
    assert_eq!(condition_of(&directory, "Ready")["status"], "True", "slow is not unreachable");
    let directory = stand.directory_becomes("Throttled", "Connected").await;
    assert_eq!(condition_of(&directory, "Throttled")["status"], "False");
    assert_eq!(stand.simulator.counts().writes, 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn others_go_on_while_one_operation_is_throttled() {
    let stand = quiet(json!({})).await;
    let elsewhere = quiet(json!({})).await;
    stand.apply("there", "Jun", json!({})).await;
    stand.becomes("there", "Ready", "InSync").await;
    let by_action = [("AddMessageContact".to_owned(), 0)].into();
    stand.simulator.throttle(Throttle { by_action, ..Throttle::default() });

    stand.apply("never", "Juns", json!({})).await;
    let refused = |it: &Simulator| (it.counts().ended("Throttling.User") > 0).then_some(());
    stand.cloud("an Add is refused", refused).await;
    elsewhere.apply("other", "Jun", json!({})).await;
    elsewhere.becomes("other", "Ready", "InSync").await;
    stand.apply("there", "Jun", json!({ "title": "CEO" })).await;
    stand.becomes("there", "Ready", "InSync").await;
    assert_eq!(stand.simulator.state().named("Jun").unwrap().title, "CEO");

    let object = stand.becomes("never", "Synced", "Throttled").await;
    assert_eq!(condition_of(&object, "Reconciling")["status"], "True");
    assert_eq!(condition_of(&object, "Stalled"), Value::Null);
    stand.simulator.throttle(Throttle::default());
    stand.becomes("never", "Ready", "InSync").await;
    assert_eq!(stand.simulator.counts().writes, 3);
}
