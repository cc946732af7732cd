//! What a running operator tells of itself: its metrics, and one line for each change that it asks
//! of the cloud.

use std::collections::BTreeMap;

use directory_simulator::{Click, ContactChange, Fault, FaultKind, Options};
use kube::api::{DynamicObject, Patch, PatchParams};
use message_contact_operator::telemetry::{Kind, METRICS};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::alerts::{run, said};
use crate::process::{Operator, alone};
use crate::stand::{PATIENCE, Stand};
use crate::walk::defaults;

/// The header of a client that wants OpenMetrics.
const OPEN_METRICS: &str = "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;q=0.3";

/// What an operator has told that has done everything once.
struct Told {
    /// The name of its ResourceDirectory.
    directory: String,
    /// The name of its ContactPolicy.
    policy: String,
    /// Its log, in JSON.
    log: String,
    /// Its metrics, in each form.
    plain: String,
    open: String,
    /// The operations by which the cloud was to be changed, and how they ended there.
    writes: Vec<(String, String)>,
    /// Where a private value is shown.
    shown: Vec<String>,
}

async fn told() -> &'static Told {
    static TOLD: OnceCell<Told> = OnceCell::const_new();
    TOLD.get_or_init(everything).await
}

/// Runs an operator of its own until everything has happened that is counted.
async fn everything() -> Told {
    let alone = alone().await;
    let stand = Stand::on(alone.cluster, Options::default()).await;
    let arguments = ["--log-format", "json"];
    let operator = Operator::start_with(alone.cluster.kubeconfig_path(), &[&stand], &arguments);
    stand.apply_directory(json!({})).await;
    stand.directory_becomes("Ready", "Connected").await;
    let rule = json!({ "name": "security", "messageTypes": ["SecurityMessage"], "minContacts": 2,
        "minVerified": 1 });
    let demands = json!({ "contact": { "phoneNumber": "Required" }, "coverage": [rule] });
    stand.apply_policy("two", demands).await;

    let (mail, phone) = ("desk@example.com", "86-13800138071");
    stand.apply("desk", "Pelinora", defaults(json!({ "phoneNumber": phone }))).await;
    stand.cloud("both messages", |it| (it.outbox().len() == 2).then_some(())).await;
    stand.becomes("desk", "PhoneVerified", "VerificationSent").await;
    assert_eq!(stand.simulator.confirm(mail), Click::Confirmed);
    assert_eq!(stand.simulator.confirm(phone), Click::Confirmed);
    stand.ask_directory().await;
    stand.becomes("desk", "PhoneVerified", "Verified").await;
    stand.becomes("desk", "EmailVerified", "Verified").await;
    stand.settled("mate", "Yastrela", json!({})).await;

    edit(&stand, json!({ "title": "CEO" })).await;
    let object = stand.becomes("desk", "Synced", "InSync").await;
    let id = object.data["status"]["contactId"].as_str().unwrap();
    let change = ContactChange { title: Some("Other".to_owned()), ..ContactChange::default() };
    assert!(stand.simulator.change_contact(id, change));
    stand.ask_directory().await;
    stand.cloud("put right", |_| (stand.in_cloud(id).title == "CEO").then_some(())).await;
    // An edit that comes before the answer would have it forgotten.
    let remembered = |found: &DynamicObject| {
        let reverts = &found.data["status"]["drift"][0]["reverts"];
        reverts.as_array().is_some_and(|times| times.len() == 1)
    };
    stand.sees("desk", "what was put right is remembered", remembered).await;
    for members in [vec!["2000000000000001".to_owned()], Vec::new()] {
        edit(&stand, json!({ "members": members })).await;
        stand.becomes("desk", "Bound", "InSync").await;
        assert_eq!(stand.in_cloud(id).members, members);
    }

    let quota = FaultKind::error(400, "LimitExceeded.Contacts");
    stand.simulator.fault(Fault::on("AddMessageContact", quota));
    stand.apply("third", "Quorimel", json!({})).await;
    stand.becomes("third", "Synced", "QuotaExceeded").await;
    stand.delete("mate").await;
    stand.is_gone("mate").await;

    // What policies have found is told by watches, a moment later.
    let covered = sample("policy_coverage", &[], "0.5");
    let plain = cluster::wait_for(PATIENCE, "the metrics know it", || async {
        let page = operator.scrape(None).await;
        if page.lines().any(&covered) { Ok(page) } else { Err(page) }
    })
    .await
    .unwrap();
    let open = operator.scrape(Some(OPEN_METRICS)).await;
    let log = operator.log();
    drop(operator);
    let is_write = |action: &str| !["Get", "List"].iter().any(|reads| action.starts_with(reads));
    let calls = stand.simulator.calls().into_iter();
    let calls = calls.map(|call| (call.action, call.outcome));
    let texts = [&log, &plain, &open];
    let shown = texts.into_iter().flat_map(|text| {
        let values = stand.private.shown_in(text);
        values.into_iter().chain(stand.private.names_shown_in(text))
    });
    Told {
        directory: stand.directory.clone(),
        policy: stand.policy("two"),
        shown: shown.collect(),
        writes: calls.filter(|(action, _)| is_write(action)).collect(),
        log,
        plain,
        open,
    }
}

/// Somebody edits the spec of the desk as `kubectl edit` does.
async fn edit(stand: &Stand, spec: Value) {
    let parameters =
        PatchParams { field_manager: Some("an-editor".to_owned()), ..PatchParams::default() };
    let patch = Patch::Merge(json!({ "spec": spec }));
    stand.contacts().patch("desk", &parameters, &patch).await.unwrap();
}

/// Whether a line is the sample of a metric with these labels among others, and that value.
fn sample<'a>(
    name: &'a str,
    labels: &'a [(&'a str, &'a str)],
    value: &'a str,
) -> impl Fn(&str) -> bool + 'a {
    move |line| {
        let Some((series, found)) = line.rsplit_once(' ') else { return false };
        let named = series.split('{').next().unwrap_or_default();
        let has = |(label, value): &(&str, &str)| series.contains(&format!("{label}=\"{value}\""));
        named == format!("message_contact_{name}") && labels.iter().all(has) && found == value
    }
}

/// The names and the labels of DESIGN's contract with whoever queries them.
const PROMISED: [(&str, Kind, &[&str]); 15] = [
    ("cloud_requests_total", Kind::Counter, &["directory", "action", "outcome"]),
    ("cloud_request_duration_seconds", Kind::Histogram, &["directory", "action"]),
    ("lane_queue_length", Kind::Gauge, &["directory", "priority"]),
    ("lane_wait_seconds", Kind::Histogram, &["priority"]),
    ("rate_limit", Kind::Gauge, &["directory"]),
    ("contacts", Kind::Gauge, &["directory", "state"]),
    ("unmanaged_contacts", Kind::Gauge, &["directory"]),
    ("drift_total", Kind::Counter, &["directory", "field"]),
    ("verification_sends_total", Kind::Counter, &["directory", "channel", "outcome"]),
    ("verification_sends_remaining", Kind::Gauge, &["directory"]),
    ("time_to_synced_seconds", Kind::Histogram, &[]),
    ("time_to_verified_seconds", Kind::Histogram, &[]),
    ("policy_violations", Kind::Gauge, &["policy", "enforcement"]),
    ("policy_coverage", Kind::Gauge, &["policy", "rule", "message_type"]),
    ("leader", Kind::Gauge, &[]),
];

#[test]
fn what_people_query_keeps_its_name_and_its_labels() {
    for (name, kind, labels) in PROMISED {
        let whole = format!("message_contact_{name}");
        let found = METRICS.iter().find(|metric| metric.name == whole);
        let found = found.map(|metric| (metric.kind, metric.labels));
        assert_eq!(found, Some((kind, labels)), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_metric_has_a_value_and_tells_what_has_happened() {
    let Told { directory, policy, plain, .. } = told().await;
    let lines: Vec<_> = plain.lines().filter(|line| !line.starts_with('#')).collect();
    for metric in METRICS {
        let has_value = lines.iter().any(|line| {
            let name = line.split(['{', ' ']).next().unwrap_or_default();
            let suffix = name.strip_prefix(metric.name);
            suffix.is_some_and(|it| matches!(it, "" | "_bucket" | "_sum" | "_count"))
        });
        assert!(has_value, "{} has no value: {plain}", metric.name);
    }
    let here = ("directory", directory.as_str());
    let called = |action, outcome| vec![here, ("action", action), ("outcome", outcome)];
    let state = |state| vec![here, ("state", state)];
    let sent = |channel| vec![here, ("channel", channel), ("outcome", "ok")];
    let ours = ("policy", policy.as_str());
    for (name, labels, value) in [
        ("cloud_requests_total", called("AddMessageContact", "ok"), "2"),
        ("cloud_requests_total", called("AddMessageContact", "quota"), "1"),
        ("cloud_requests_total", called("UpdateMessageContact", "ok"), "2"),
        ("cloud_requests_total", called("DeleteMessageContact", "ok"), "1"),
        ("cloud_request_duration_seconds_count", vec![here, ("action", "AddMessageContact")], "3"),
        ("lane_queue_length", vec![here, ("priority", "create")], "0.0"),
        ("rate_limit", vec![here], "100.0"),
        ("directory_ready", vec![here, ("reason", "Connected")], "1.0"),
        ("contacts", state("verified"), "1.0"),
        ("contacts", state("waiting"), "1.0"),
        ("contacts", state("drift_contested"), "0.0"),
        ("unmanaged_contacts", vec![here], "0.0"),
        ("drift_total", vec![here, ("field", "title")], "1"),
        ("verification_sends_total", sent("email"), "1"),
        ("verification_sends_total", sent("phone"), "1"),
        ("verification_sends_remaining", vec![here], "88.0"),
        // The desk's first spec and its three changes, and the mate's.
        ("time_to_synced_seconds_count", vec![], "5"),
        ("time_to_verified_seconds_count", vec![], "2"),
        ("policy_violations", vec![ours, ("enforcement", "Audit")], "1.0"),
        (
            "policy_coverage",
            vec![ours, ("rule", "security"), ("message_type", "SecurityMessage")],
            "0.5",
        ),
        ("leader", vec![], "1.0"),
    ] {
        let found = lines.iter().any(|line| sample(name, &labels, value)(line));
        assert!(found, "no {name}{labels:?} {value}: {plain}");
    }
}

/// The official linter has nothing to say, and a strict reader takes the other form.
#[tokio::test(flavor = "multi_thread")]
async fn both_forms_are_as_their_readers_want_them() {
    let Told { plain, open, .. } = told().await;
    tokio::task::spawn_blocking(|| {
        let silent = |tool: &str, arguments: &[&str], page: &str| {
            let output = run(tool, arguments, page);
            (output.status.success(), said(&output))
        };
        let nothing = || (true, String::new());
        assert_eq!(silent("promtool", &["check", "metrics"], plain), nothing());
        assert_eq!(silent("openmetrics", &[], open), nothing());

        // Both can find something.
        let without_help = plain.replace("# HELP message_contact_leader", "# It was");
        let (clean, said) = silent("promtool", &["check", "metrics"], &without_help);
        assert!(!clean && said.contains("message_contact_leader"), "{said}");
        let twice = open.replace(
            "message_contact_leader 1",
            "message_contact_leader 1.0\nmessage_contact_leader 1",
        );
        for (broken, expected) in [
            (open.replace("# EOF\n", ""), "EOF"),
            (open.replace("_requests_total{", "_requests{"), "no sample of a counter"),
            (open.replace("# TYPE message_contact_leader gauge\n", ""), "TYPE is missing"),
            (twice, "twice"),
            (
                open.replace("_to_verified_seconds_count 2", "_to_verified_seconds_count 3"),
                "do not agree",
            ),
        ] {
            let (clean, said) = silent("openmetrics", &[], &broken);
            assert!(!clean && said.contains(expected), "{expected}: {said}");
        }
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn each_change_of_the_cloud_leaves_one_line_that_says_who_asked_for_it() {
    let Told { directory, log, writes, .. } = told().await;
    let lines: Vec<BTreeMap<String, Value>> =
        log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let lines: Vec<_> = lines
        .into_iter()
        .filter(|line| line["message"] == "a change was asked of the cloud")
        .collect();
    for line in &lines {
        let of = |key: &str| line[key].as_str().unwrap();
        assert_eq!(
            (of("level"), of("kind"), of("directory")),
            ("INFO", "MessageContact", directory.as_str())
        );
        assert_eq!(of("namespace"), directory);
    }
    let in_cloud: Vec<_> = writes.iter().map(|(action, _)| action.as_str()).collect();
    let told: Vec<_> = lines.iter().map(|line| line["action"].as_str().unwrap()).collect();
    assert_eq!(told, in_cloud);
    let told = lines.iter().map(|line| {
        let keys = ["name", "action", "fields", "cause", "changed_by", "outcome"];
        keys.map(|key| line[key].as_str().unwrap()).join(" ")
    });
    let told: Vec<_> = told.collect();
    let whole = "name,title,emailAddress,phoneNumber,messageTypes";
    assert_eq!(
        told,
        [
            &format!("desk AddMessageContact {whole} create a-person ok"),
            "desk SendEmailVerificationForMessageContact emailAddress create a-person ok",
            "desk SendPhoneVerificationForMessageContact phoneNumber create a-person ok",
            "mate AddMessageContact name,title,emailAddress,messageTypes create a-person ok",
            "desk UpdateMessageContact title change an-editor ok",
            "desk UpdateMessageContact title repair an-editor ok",
            "desk AssociateMembers members change an-editor ok",
            "desk DisassociateMembers members change an-editor ok",
            "third AddMessageContact name,title,emailAddress,messageTypes create a-person quota",
            "mate DeleteMessageContact  change a-person ok",
        ]
    );
    let refused = lines.iter().find(|line| line["outcome"] == "quota").unwrap();
    assert_eq!(refused["code"], "LimitExceeded.Contacts");
    assert!(refused["request_id"].as_str().is_some_and(|id| id.len() > 7), "{refused:?}");
    assert_eq!(refused["generation"], 1);
}

/// The pass that asked for a call is over as soon as somebody edits its object; the call is not.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_nobody_waits_for_any_more_leaves_its_line() {
    let stand = Stand::new().await;
    stand.settled("desk", "Pelinora", json!({})).await;
    let hangs = FaultKind::Hang { executed: true };
    stand.simulator.fault(Fault::on("UpdateMessageContact", hangs));
    edit(&stand, json!({ "title": "CEO" })).await;
    stand.cloud("the call hangs", |it| (it.calls_in_flight() == 1).then_some(())).await;
    edit(&stand, json!({ "suspend": true })).await;
    stand.becomes("desk", "Synced", "Suspended").await;
    let place = format!("namespace=\"{}\" name=\"desk\"", stand.namespace);
    let line = |line: &str| {
        line.contains(&place) && line.contains("action=\"UpdateMessageContact\" fields=\"title\"")
    };
    let trail = || stand.private.log().lines().filter(|it| line(it)).collect::<Vec<_>>().join("\n");
    assert_eq!(trail(), "");
    stand.simulator.release_hanging();
    cluster::wait_for(PATIENCE, "the line of the call", || {
        let trail = trail();
        let is_whole = trail.contains("changed_by=\"an-editor\" outcome=\"ok\"");
        async move { if is_whole { Ok(()) } else { Err(trail) } }
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn neither_the_metrics_nor_the_trail_show_anything_private() {
    let Told { shown, log, plain, open, .. } = told().await;
    assert_eq!(*shown, [""; 0]);
    // The looks above can find something: what may be shown is there.
    assert!(
        log.contains("desk") && plain.contains("message_contact_") && open.ends_with("# EOF\n")
    );
}
