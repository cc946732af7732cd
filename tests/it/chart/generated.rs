//! Files of the chart that are made from others; `MCO_REWRITE=1` writes them anew.

use std::fmt::Write as _;
use std::fs;

use message_contact_operator::api;
use message_contact_operator::cli::{crds, validate};
use serde_json::Value;

use super::values::{described, schema};
use super::{RELEASE, chart_source};
use crate::generated::check;

fn in_chart(file: &str) -> String {
    format!("charts/{RELEASE}/{file}")
}

#[test]
fn the_definitions_and_rules_in_the_chart_are_those_of_the_repository() {
    let definitions = crds::render().unwrap();
    for (name, text) in &definitions {
        check(&in_chart(&format!("files/crds/{name}")), text);
    }
    let stored = fs::read_dir(chart_source().join("files/crds")).unwrap().count();
    assert_eq!(stored, definitions.len(), "a file too many");
    check(&in_chart("files/admission.yaml"), &crds::render_admission().unwrap());
}

const BEGIN: &str = "<!-- Made from values.yaml by tests/it/chart/generated.rs: -->\n";
const END: &str = "<!-- Until here. -->\n";

#[test]
fn the_table_of_values_is_what_the_values_say() {
    let name = in_chart("README.md");
    let readme = fs::read_to_string(chart_source().join("README.md")).unwrap();
    let (before, rest) = readme.split_once(BEGIN).unwrap();
    let (_, after) = rest.split_once(END).unwrap();
    let mut table = "\n| value | default | what it is |\n| --- | --- | --- |\n".to_owned();
    for value in described().iter().filter(|value| !value.is_group) {
        let text = value.description.replace('|', "\\|");
        writeln!(table, "| `{}` | `{}` | {text} |", value.name(), value.default).unwrap();
    }
    check(&name, &format!("{before}{BEGIN}{table}\n{END}{after}"));
}

#[test]
fn the_schema_describes_values_as_they_do_themselves() {
    let mut schema = schema();
    for value in described() {
        let node = value.path.iter().fold(&mut schema, |node, key| &mut node["properties"][key]);
        node["description"] = Value::String(value.description);
    }
    let text = serde_json::to_string_pretty(&schema).unwrap() + "\n";
    check(&in_chart("values.schema.json"), &text);
}

fn metadata() -> Value {
    let text = fs::read_to_string(chart_source().join("Chart.yaml")).unwrap();
    serde_saphyr::from_str(&text).unwrap()
}

fn annotation(name: &str) -> String {
    let metadata = metadata();
    metadata["annotations"][format!("artifacthub.io/{name}")].as_str().unwrap().to_owned()
}

#[test]
fn the_chart_has_the_version_of_the_program() {
    let metadata = metadata();
    for key in ["version", "appVersion"] {
        assert_eq!(metadata[key], env!("CARGO_PKG_VERSION"), "{key}");
    }
    let images: Vec<Value> = serde_saphyr::from_str(&annotation("images")).unwrap();
    assert_eq!(images[0]["image"], format!("{RELEASE}:{}", env!("CARGO_PKG_VERSION")));
}

#[test]
fn what_the_hub_shows_is_true() {
    let shown: Vec<Value> = serde_saphyr::from_str(&annotation("crds")).unwrap();
    let shown: Vec<_> = shown.iter().map(|it| it["name"].as_str().unwrap().to_owned()).collect();
    let definitions = api::crds().into_iter().map(|crd| crd.metadata.name.unwrap());
    assert_eq!(shown, definitions.collect::<Vec<_>>());

    let examples: Vec<Value> = serde_saphyr::from_str(&annotation("crdsExamples")).unwrap();
    assert_eq!(examples.len(), shown.len());
    let examples: Vec<_> = examples.iter().map(ToString::to_string).collect();
    let mut told = Vec::new();
    let text = examples.join("\n---\n");
    let summary = validate::run(&["-".into()], &mut text.as_bytes(), &mut told).unwrap();
    assert!(summary.is_clean() && summary.checked == 3, "{}", String::from_utf8_lossy(&told));
    let changes: Vec<Value> = serde_saphyr::from_str(&annotation("changes")).unwrap();
    assert!(!changes.is_empty());
}
