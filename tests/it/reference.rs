//! `docs/reference.md`: every field of every kind, as the definitions describe it.

use std::fmt::Write as _;

use message_contact_operator::api;
use serde_json::Value;

use crate::generated::check;

const INTRODUCTION: &str = "\
# Reference

<!-- Made from src/api by tests/it/reference.rs; MCO_REWRITE=1 writes it anew. -->

All kinds are of `message-contacts.dev/v1alpha1` and of the category `message-contacts`. `kubectl explain` shows the same. What a condition says: [conditions.md](conditions.md).
A field in **bold** is required where the one above it is given. The operator never writes a `spec`, and no default is put into one.

## Annotations

| annotation | of | asks for |
| --- | --- | --- |
| `message-contacts.dev/requestedAt` | all | a look now, also of an object that was given up |
| `message-contacts.dev/resendRequestedAt` | MessageContact | one more verification message, within the limits of the directory |

The text is yours: a new one is a new request. Its first 128 bytes stand in the status once it is handled.
";

#[test]
fn the_reference_is_what_the_definitions_say() {
    let mut page = INTRODUCTION.to_owned();
    for crd in api::crds() {
        kind(&mut page, &serde_json::to_value(&crd).unwrap());
    }
    check("docs/reference.md", &page);
    for word in ["emailAddressFrom.secretKeyRef.key", "coverage[].minVerified", "86-13800000000"] {
        assert!(page.contains(word), "{word}");
    }
}

fn kind(page: &mut String, crd: &Value) {
    let spec = &crd["spec"];
    let names = &spec["names"];
    let scope = if spec["scope"] == "Cluster" { "cluster-scoped" } else { "namespaced" };
    let version = &spec["versions"][0];
    let schema = &version["schema"]["openAPIV3Schema"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let short = names["shortNames"][0].as_str().unwrap();
    writeln!(page, "\n## {}\n\n{}", text(&names["kind"]), text(&schema["description"])).unwrap();
    writeln!(page, "It is {scope}; `kubectl get {short}`.").unwrap();
    for part in ["spec", "status"] {
        writeln!(page, "\n### {} `{part}`\n", text(&names["kind"])).unwrap();
        page.push_str("| field | type | what it is |\n| --- | --- | --- |\n");
        fields(page, "", &schema["properties"][part]);
    }
    let mut rules = Vec::new();
    collect_rules(&mut rules, "", &schema["properties"]["spec"]);
    rules.dedup();
    if !rules.is_empty() {
        writeln!(page, "\n### {} rules\n", text(&names["kind"])).unwrap();
        page.push_str("What the apiserver says to a spec that breaks one.\n\n");
        for rule in &rules {
            writeln!(page, "- {rule}").unwrap();
        }
    }
    writeln!(page, "\n### {} columns\n", text(&names["kind"])).unwrap();
    page.push_str("| column | shows |\n| --- | --- |\n");
    for column in version["additionalPrinterColumns"].as_array().unwrap() {
        let wide = if column["priority"].as_i64().unwrap_or(0) > 0 { " (`-o wide`)" } else { "" };
        let (name, shows) = (text(&column["name"]), text(&column["description"]));
        writeln!(page, "| {name}{wide} | {shows} |").unwrap();
    }
}

/// A row for each field below `schema`, those of lists and maps included.
fn fields(page: &mut String, path: &str, schema: &Value) {
    let required = schema["required"].as_array().cloned().unwrap_or_default();
    let Some(properties) = schema["properties"].as_object() else { return };
    for (name, field) in properties {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        let shown = if required.contains(&Value::from(name.as_str())) {
            format!("**`{path}`**")
        } else {
            format!("`{path}`")
        };
        let description = field["description"].as_str().unwrap_or_default();
        assert!(!description.is_empty(), "{path} is not described");
        let description = description.replace('|', "\\|").replace('\n', " ");
        writeln!(page, "| {shown} | {} | {description} |", type_of(field)).unwrap();
        if is_of_kubernetes(&path) {
            continue;
        }
        let below = if field["type"] == "array" { format!("{path}[]") } else { path };
        fields(page, &below, if field["type"] == "array" { &field["items"] } else { field });
    }
}

/// Known to everybody, and described at length elsewhere.
fn is_of_kubernetes(path: &str) -> bool {
    path == "conditions" || path.ends_with("amespaceSelector") || path == "namespaces"
}

fn type_of(field: &Value) -> String {
    let of = |field: &Value| {
        let mut words = vec![field["type"].as_str().unwrap_or("value").to_owned()];
        if let Some(format) = field["format"].as_str() {
            format.clone_into(&mut words[0]);
        }
        if let Some(values) = field["enum"].as_array() {
            let values: Vec<_> =
                values.iter().map(|it| format!("`{}`", it.as_str().unwrap())).collect();
            words[0] = values.join(", ");
        }
        for (key, before, after) in [
            ("minimum", "at least ", ""),
            ("maximum", "at most ", ""),
            ("maxLength", "at most ", " characters"),
        ] {
            if let Some(limit) = field[key].as_i64() {
                words.push(format!("{before}{limit}{after}"));
            }
        }
        words.join(", ")
    };
    if field["type"] != "array" {
        return of(field);
    }
    let limits = match (field["minItems"].as_i64(), field["maxItems"].as_i64()) {
        (Some(least), Some(most)) => format!("{least} to {most} of "),
        (None, Some(most)) => format!("at most {most} of "),
        _ => "list of ".to_owned(),
    };
    format!("{limits}{}", of(&field["items"]))
}

/// The messages of all rules, each with the field that it speaks of.
fn collect_rules(found: &mut Vec<String>, path: &str, schema: &Value) {
    for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
        let message = rule["message"].as_str().unwrap().replace('|', "\\|");
        let at = path.to_owned() + rule["fieldPath"].as_str().unwrap_or_default();
        let at = at.trim_start_matches('.');
        let at = if at.is_empty() { "spec" } else { at };
        found.push(format!("`{at}`: {message}"));
    }
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        collect_rules(found, &format!("{path}.{name}"), field);
    }
    if !schema["items"].is_null() {
        collect_rules(found, &format!("{path}[]"), &schema["items"]);
    }
}
