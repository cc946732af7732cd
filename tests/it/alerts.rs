//! What people are woken for and what they look at: every query asks for something that the operator
//! tells, every alert fires where it should and has a runbook.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use message_contact_operator::controller::ContactState;
use message_contact_operator::directory::Priority;
use message_contact_operator::domain::call::FailureClass;
use message_contact_operator::domain::verdict::Reason;
use message_contact_operator::telemetry::{Kind, METRICS};
use serde_json::{Value, json};

use crate::architecture::root;

const ALERTS: &str = "charts/message-contact-operator/files/alerts.yaml";
const DASHBOARD: &str = "charts/message-contact-operator/files/dashboard.json";
const CASES: &str = "tests/alerts/alerts.yaml";

/// What Prometheus puts on every series by itself, or because a `ServiceMonitor` says so.
const OF_THE_TARGET: [&str; 4] = ["namespace", "job", "instance", "pod"];

/// Runs a tool, which is built if it is not there yet, with this as its input.
pub(crate) fn run(tool: &str, arguments: &[&str], input: &str) -> Output {
    use std::io::Write as _;
    let program = cluster::tool(tool).unwrap();
    let mut command = Command::new(program);
    command.args(arguments).current_dir(root()).stdin(Stdio::piped());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

/// What a tool has said, on both of its outputs.
pub(crate) fn said(output: &Output) -> String {
    let [out, err] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
    format!("{out}{err}")
}

fn yaml(name: &str) -> Value {
    serde_saphyr::from_str(&fs::read_to_string(root().join(name)).unwrap()).unwrap()
}

/// The alerts, in their order.
fn alerts() -> Vec<Value> {
    let groups = yaml(ALERTS)["groups"].as_array().unwrap().clone();
    groups.iter().flat_map(|group| group["rules"].as_array().unwrap().clone()).collect()
}

fn name_of(alert: &Value) -> &str {
    alert["alert"].as_str().unwrap()
}

/// The queries of the dashboard, each with the panel or the variable that asks it.
fn queries() -> Vec<(String, String)> {
    let dashboard: Value =
        serde_json::from_str(&fs::read_to_string(root().join(DASHBOARD)).unwrap()).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let mut queries = Vec::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            queries.push((text(&panel["title"]), text(&target["expr"])));
        }
    }
    for variable in dashboard["templating"]["list"].as_array().unwrap() {
        if variable["type"] == "query" {
            queries.push((text(&variable["name"]), text(&variable["definition"])));
        }
    }
    queries
}

#[test]
fn every_query_asks_for_what_the_operator_tells() {
    let queries = queries();
    assert!(queries.len() > 20, "the queries were not found");
    let alerts = alerts()
        .into_iter()
        .map(|alert| (name_of(&alert).to_owned(), alert["expr"].as_str().unwrap().to_owned()));
    let examples = METRICS.iter().map(|metric| (metric.name.to_owned(), metric.example.to_owned()));
    for (place, query) in queries.into_iter().chain(alerts).chain(examples) {
        assert_eq!(mistakes(&query), [""; 0], "{place}: {query}");
    }
}

/// Prometheus reads every query of the dashboard and every example of the manual.
#[test]
fn prometheus_understands_every_query() {
    let of_variables = |query: &String| !query.starts_with("label_values(");
    let queries = queries().into_iter().map(|(_, query)| query).filter(of_variables);
    let queries = queries.chain(METRICS.iter().map(|metric| metric.example.to_owned()));
    let rules = queries.enumerate().map(|(number, query)| {
        let query = query.replace("$__rate_interval", "5m");
        json!({ "record": format!("query:number{number}"), "expr": query })
    });
    let rules: Vec<_> = rules.collect();
    let check = |rules: Value| {
        let file = json!({ "groups": [{ "name": "queries", "rules": rules }] });
        run("promtool", &["check", "rules"], &file.to_string())
    };
    let output = check(json!(rules));
    assert!(output.status.success(), "{}", said(&output));
    assert!(said(&output).contains(&format!("{} rules found", rules.len())), "{}", said(&output));
    let broken = check(json!([{ "record": "query:broken", "expr": "sum by (a) (b" }]));
    assert!(!broken.status.success(), "{}", said(&broken));
}

#[test]
fn each_alert_fires_where_it_should_and_is_silent_beside_it() {
    let lint = ["check", "rules", "--lint=all", "--lint-fatal", ALERTS];
    let output = run("promtool", &lint, "");
    assert!(output.status.success(), "{}", said(&output));
    let output = run("promtool", &["test", "rules", CASES], "");
    assert!(output.status.success(), "{}", said(&output));

    // Of each alert there is at least one case of both kinds.
    let cases = yaml(CASES)["tests"].as_array().unwrap().clone();
    let mut tried: BTreeMap<String, BTreeSet<bool>> = BTreeMap::new();
    for case in cases.iter().flat_map(|case| case["alert_rule_test"].as_array().unwrap()) {
        let fires = !case["exp_alerts"].as_array().unwrap().is_empty();
        let name = case["alertname"].as_str().unwrap().to_owned();
        tried.entry(name).or_default().insert(fires);
    }
    let alerts = alerts();
    assert!(alerts.len() >= 8, "{}", alerts.len());
    let names: BTreeSet<_> = alerts.iter().map(|alert| name_of(alert).to_owned()).collect();
    assert_eq!(tried.keys().cloned().collect::<BTreeSet<_>>(), names);
    let half: Vec<_> = tried.iter().filter(|(_, kinds)| kinds.len() < 2).collect();
    assert!(half.is_empty(), "tried in one way only: {half:?}");
}

/// A threshold that is moved is noticed by the cases.
#[test]
fn a_case_fails_when_its_alert_is_another() {
    let folder =
        PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("alerts-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let rules = fs::read_to_string(root().join(ALERTS)).unwrap();
    let moved = rules.replace("sends_remaining) < 10", "sends_remaining) < 9");
    assert_ne!(rules, moved);
    let (rules, cases) = (folder.join("alerts.yaml"), folder.join("cases.yaml"));
    fs::write(&rules, moved).unwrap();
    let here = fs::read_to_string(root().join(CASES)).unwrap();
    fs::write(&cases, here.replace(&format!("../../{ALERTS}"), "alerts.yaml")).unwrap();
    let output = run("promtool", &["test", "rules", cases.to_str().unwrap()], "");
    let said = said(&output);
    fs::remove_dir_all(&folder).unwrap();
    assert!(!output.status.success(), "{said}");
    assert!(said.contains("MessageContactVerificationQuotaNearlySpent fires"), "{said}");
}

#[test]
fn each_alert_has_a_runbook() {
    let page = fs::read_to_string(root().join("docs/alerts.md")).unwrap();
    let sections: BTreeMap<&str, &str> =
        page.split("\n## ").skip(1).filter_map(|section| section.split_once('\n')).collect();
    let alerts = alerts();
    for alert in &alerts {
        let name = name_of(alert);
        let section = sections.get(name).unwrap_or_else(|| panic!("docs/alerts.md lacks {name}"));
        for part in ["**Meaning.**", "**Look at**", "**Do.**"] {
            assert!(section.contains(part), "{name}: no {part}");
        }
        let annotations = &alert["annotations"];
        let anchor = format!("docs/alerts.md#{}", name.to_lowercase());
        assert_eq!(annotations["runbook"], anchor.as_str());
        assert!(annotations.get("runbook_url").is_none(), "{name}: nobody can click on a path");
        for text in ["summary", "description"] {
            assert!(annotations[text].as_str().is_some_and(|it| it.len() > 20), "{name}: {text}");
        }
        let severity = alert["labels"]["severity"].as_str().unwrap();
        assert!(["critical", "warning"].contains(&severity), "{name}: {severity}");
    }
    assert_eq!(sections.len(), alerts.len(), "{:?}", sections.keys());
}

/// The closed lists of labels that have one.
fn words_of(label: &str) -> Option<Vec<&'static str>> {
    let classes = FailureClass::ALL.map(FailureClass::word);
    Some(match label {
        "outcome" => classes.into_iter().chain(["ok"]).collect(),
        "state" => ContactState::ALL.map(ContactState::as_str).to_vec(),
        "priority" => Priority::ALL.map(Priority::as_str).to_vec(),
        "reason" => Reason::ALL.iter().map(|reason| reason.as_str()).collect(),
        "channel" => vec!["email", "phone"],
        _ => return None,
    })
}

/// The metrics that a query names, and what is wrong with them and their labels.
fn mistakes(query: &str) -> Vec<String> {
    let words = words(query);
    let mut wrong = Vec::new();
    // What the metrics of the query have together: aggregations name these.
    let mut labels: BTreeSet<&str> = OF_THE_TARGET.into();
    labels.insert("le");
    let is_name =
        |word: &str| ["message_contact_", "process_"].iter().any(|prefix| word.starts_with(prefix));
    let (mut index, mut metrics) = (0, 0);
    while index < words.len() {
        let word = words[index].as_str();
        index += 1;
        if !is_name(word) {
            continue;
        }
        metrics += 1;
        let Some(known) = labels_of(word) else {
            wrong.push(format!("there is no metric {word}"));
            continue;
        };
        labels.extend(&known);
        if words.get(index).is_none_or(|next| next != "{") {
            continue;
        }
        let end = words[index..].iter().position(|word| word == "}").unwrap() + index;
        for matcher in words[index + 1..end].split(|word| word == ",") {
            let [label, _, value] = matcher else { panic!("{matcher:?} in {query}") };
            if !known.contains(label.as_str()) && !OF_THE_TARGET.contains(&label.as_str()) {
                wrong.push(format!("{word} has no label {label}"));
            }
            let value = value.trim_matches('"');
            for one in value.split('|').filter(|one| !one.starts_with('$')) {
                if words_of(label).is_some_and(|words| !words.contains(&one)) {
                    wrong.push(format!("{label} is never {one}"));
                }
            }
        }
        index = end;
    }
    for (index, _) in
        words.iter().enumerate().filter(|(_, word)| *word == "by" || *word == "without")
    {
        let end = words[index..].iter().position(|word| word == ")").unwrap() + index;
        let named = words[index + 2..end].iter().filter(|word| *word != ",");
        wrong.extend(
            named
                .filter(|label| !labels.contains(label.as_str()))
                .map(|label| format!("nothing here has a label {label}")),
        );
    }
    if let ["label_values", "(", _, ",", label, ")"] =
        words.iter().map(String::as_str).collect::<Vec<_>>()[..]
        && !labels.contains(label)
    {
        wrong.push(format!("nothing here has a label {label}"));
    }
    if metrics == 0 {
        wrong.push("it asks for no metric of the operator".to_owned());
    }
    wrong
}

/// The labels of a metric, as a query names it; `None` if there is no such metric.
fn labels_of(name: &str) -> Option<BTreeSet<&'static str>> {
    METRICS.iter().find_map(|metric| {
        let suffix = name.strip_prefix(metric.name)?;
        let is_part = match metric.kind {
            Kind::Histogram => matches!(suffix, "_bucket" | "_sum" | "_count"),
            Kind::Counter | Kind::Gauge => suffix.is_empty(),
        };
        let mut labels: BTreeSet<_> = metric.labels.iter().copied().collect();
        labels.extend((suffix == "_bucket").then_some("le"));
        is_part.then_some(labels)
    })
}

/// The words, texts and signs of a query.
fn words(query: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = query.trim_start();
    while let Some(first) = rest.chars().next() {
        let is_word = |char: char| char.is_alphanumeric() || "_$.:".contains(char);
        let length = if first == '"' {
            rest[1..].find('"').unwrap() + 2
        } else if is_word(first) {
            rest.find(|char| !is_word(char)).unwrap_or(rest.len())
        } else if ["=~", "!~", "!=", "=="].iter().any(|sign| rest.starts_with(sign)) {
            2
        } else {
            first.len_utf8()
        };
        found.push(rest[..length].to_owned());
        rest = rest[length..].trim_start();
    }
    found
}

#[test]
fn a_query_for_something_else_is_found() {
    let check = |query: &str, expected: &[&str]| assert_eq!(mistakes(query), expected, "{query}");
    check(
        r#"sum by (directory) (rate(message_contact_cloud_requests_total{outcome!="ok"}[5m]))"#,
        &[],
    );
    check(r#"message_contact_contacts{state=~"stalled|waiting",namespace="a"}"#, &[]);
    check("message_contact_contact", &["there is no metric message_contact_contact"]);
    check(
        "message_contact_time_to_synced_seconds",
        &["there is no metric message_contact_time_to_synced_seconds"],
    );
    check(
        r#"message_contact_leader{directory="a"}"#,
        &["message_contact_leader has no label directory"],
    );
    check(r#"message_contact_contacts{state=~"stalled|asleep"}"#, &["state is never asleep"]);
    check("max by (policy) (message_contact_contacts)", &["nothing here has a label policy"]);
    check(
        "label_values(message_contact_leader, directory)",
        &["nothing here has a label directory"],
    );
    check("up", &["it asks for no metric of the operator"]);
}
