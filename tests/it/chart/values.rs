//! Values: each is described, and none that is misspelt is taken.

use std::fs;

use serde_json::{Value, json};

use super::{HELMS, Helm, chart, chart_source, template};
use crate::process::scratch;

/// A value of the chart.
pub(super) struct Described {
    /// The keys that lead to it.
    pub(super) path: Vec<String>,
    pub(super) description: String,
    pub(super) default: Value,
    /// Whether there are values below it.
    pub(super) is_group: bool,
}

impl Described {
    /// As one writes it after `--set`.
    pub(super) fn name(&self) -> String {
        self.path.join(".")
    }
}

/// All values with what `values.yaml` says of them, in its order. What has `properties` in the
/// schema is a group; whatever stands below another key is part of its default.
pub(super) fn described() -> Vec<Described> {
    let text = fs::read_to_string(chart_source().join("values.yaml")).unwrap();
    let whole: Value = serde_saphyr::from_str(&text).unwrap();
    let schema = schema();
    let mut found: Vec<Described> = Vec::new();
    let mut path: Vec<String> = Vec::new();
    let mut description = None;
    // Lines that are indented deeper than this belong to the default of the value above.
    let mut inside = usize::MAX;
    for line in text.lines().filter(|line| !line.is_empty()) {
        let trimmed = line.trim_start();
        let depth = (line.len() - trimmed.len()) / 2;
        if depth > inside {
            continue;
        }
        inside = usize::MAX;
        if let Some(text) = trimmed.strip_prefix("# -- ") {
            description = Some(text.to_owned());
        } else if !trimmed.starts_with('#') {
            let key = trimmed.split(':').next().unwrap().to_owned();
            path.truncate(depth);
            path.push(key);
            let default = at(&whole, &path).clone();
            let is_group = of_schema(&schema, &path).get("properties").is_some();
            let description = description.take();
            let description = description.unwrap_or_else(|| panic!("{path:?} is not described"));
            if !is_group {
                inside = depth;
            }
            found.push(Described { path: path.clone(), description, default, is_group });
        }
    }
    found
}

pub(super) fn schema() -> Value {
    let text = fs::read_to_string(chart_source().join("values.schema.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn at<'a>(whole: &'a Value, path: &[String]) -> &'a Value {
    path.iter().fold(whole, |value, key| value.get(key).unwrap_or_else(|| panic!("no {path:?}")))
}

fn of_schema<'a>(schema: &'a Value, path: &[String]) -> &'a Value {
    path.iter().fold(schema, |node, key| {
        node["properties"].get(key).unwrap_or_else(|| panic!("the schema lacks {path:?}"))
    })
}

/// Writes values into a file and asks whether they are refused, by which words.
fn refusal(helm: &Helm, values: &Value) -> Option<String> {
    let file = scratch("values.yaml");
    fs::write(&file, values.to_string()).unwrap();
    let chart = chart().to_str().unwrap();
    let only = ["--show-only", "templates/serviceaccount.yaml"];
    let values = ["--values", file.to_str().unwrap()];
    let output = helm.run(&[&template(chart, "typo")[..], &only, &values].concat());
    fs::remove_file(&file).unwrap();
    (!output.status.success()).then(|| String::from_utf8(output.stderr).unwrap())
}

/// A value at the end of a path, and nothing beside it.
fn nested(path: &[String], value: Value) -> Value {
    path.iter().rev().fold(value, |inner, key| json!({ key: inner }))
}

#[test]
fn a_typo_in_any_value_is_refused() {
    let described = described();
    for name in HELMS {
        let helm = Helm::offline(name);
        let mut taken = Vec::new();
        for value in &described {
            let mut path = value.path.clone();
            let key = path.last_mut().unwrap();
            // One letter is left out, as people do.
            key.remove(key.len() / 2);
            match refusal(&helm, &nested(&path, value.default.clone())) {
                Some(said) if said.contains(&path[path.len() - 1]) => {}
                Some(said) => panic!("{}: {said}", value.name()),
                None => taken.push(path.join(".")),
            }
        }
        println!("{name}: {} typos tried, {} taken", described.len(), taken.len());
        assert!(taken.is_empty(), "{name} takes {taken:?}");
    }
}

/// The places in the schema at which keys are listed: the path, `[]` for the item of a list.
fn lists_of_keys(node: &Value, path: &[String], found: &mut Vec<Vec<String>>) {
    if let Some(properties) = node["properties"].as_object() {
        found.push(path.to_vec());
        for (key, below) in properties {
            lists_of_keys(below, &[path, std::slice::from_ref(key)].concat(), found);
        }
    }
    if node["items"].is_object() {
        lists_of_keys(&node["items"], &[path, &["[]".to_owned()]].concat(), found);
    }
}

#[test]
fn a_key_that_nobody_knows_is_refused_at_every_level() {
    let mut places = Vec::new();
    lists_of_keys(&schema(), &[], &mut places);
    assert!(places.len() > 30, "{}", places.len());
    let helm = Helm::offline("helm4");
    for place in &places {
        let unknown = json!({ "thatNobodyKnows": true });
        let values = place.iter().rev().fold(unknown, |inner, key| match key.as_str() {
            "[]" => json!([inner]),
            key => json!({ key: inner }),
        });
        let said = refusal(&helm, &values).unwrap_or_else(|| panic!("{place:?} takes any key"));
        assert!(said.contains("thatNobodyKnows"), "{place:?}: {said}");
    }
    println!("{} places, an unknown key refused at each", places.len());
}

#[test]
fn every_value_is_described_in_the_schema() {
    fn missing(node: &Value, path: &str, found: &mut Vec<String>) {
        for (key, below) in node["properties"].as_object().into_iter().flatten() {
            let path = format!("{path}.{key}");
            if !below["description"].as_str().is_some_and(|text| text.ends_with('.')) {
                found.push(path.clone());
            }
            missing(below, &path, found);
        }
        if node["items"].is_object() {
            missing(&node["items"], &format!("{path}[]"), found);
        }
    }
    let mut found = Vec::new();
    missing(&schema(), "", &mut found);
    assert!(found.is_empty(), "without a description: {found:?}");
}

#[test]
fn values_that_cannot_be_right_are_refused() {
    let helm = Helm::offline("helm4");
    for (what, values) in [
        ("a digest of another length", json!({ "image": { "digest": "sha256:abc" } })),
        ("an endpoint with a path", json!({ "allowEndpoints": ["https://x.example.com/api"] })),
        ("an endpoint with a password", json!({ "allowEndpoints": ["https://a:b@example.com"] })),
        ("a role of another kind", json!({ "rrsa": { "enabled": true, "roleArn": "role/x" } })),
        ("root", json!({ "podSecurity": { "runAsUser": 0 } })),
        ("a namespace in capitals", json!({ "watchNamespaces": ["Team"] })),
        ("a namespace twice", json!({ "watchNamespaces": ["team", "team"] })),
        ("a text for a number", json!({ "replicas": "2" })),
        ("a text for a switch", json!({ "crds": { "keep": "false" } })),
        ("less time than it takes to end", json!({ "terminationGracePeriodSeconds": 5 })),
        ("a policy of pulling that there is not", json!({ "image": { "pullPolicy": "Maybe" } })),
    ] {
        assert!(refusal(&helm, &values).is_some(), "{what} is taken");
    }
    assert_eq!(refusal(&helm, &json!({})), None);
}
