//! The command `validate`: the apiserver's verdict on manifests, without a cluster.
//!
//! The same objects are refused, for the same fields and the same kinds of reason; the rules of
//! the definitions speak with the same words. Other texts are our own, and none holds a value.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::sync::LazyLock;

use kube::core::cel::{CompiledSchema, ErrorKind, compile_schema, validate_compiled};
use serde_json::{Map, Value};

use super::manifests::{self, Manifest, Place};
use super::terminal::printable_lines;
use crate::api;
use crate::api::names::{is_label_value, is_object_name, is_qualified_name};

/// Why an object is refused.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Refusal {
    /// The field, as the apiserver spells it: `spec.messageTypes[1]`.
    pub field: String,
    /// What kind of reason it is.
    pub kind: RefusalKind,
    /// What is wrong, or what to write instead. Never holds the value.
    pub message: String,
}

/// The kinds of reasons, as causes in the apiserver's answer have them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RefusalKind {
    /// The field is missing.
    Required,
    /// The value is not acceptable.
    Invalid,
    /// The value is not one of those allowed.
    NotSupported,
    /// The value stands in the list already.
    Duplicate,
    /// The text is too long.
    TooLong,
    /// The list or map has too many entries.
    TooMany,
    /// The value has the wrong type.
    TypeInvalid,
    /// The change is not allowed.
    Forbidden,
    /// There is no such field. The apiserver's answer has no cause for it, only a text.
    UnknownField,
}

impl RefusalKind {
    /// The kind as the apiserver spells it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Required => "FieldValueRequired",
            Self::Invalid => "FieldValueInvalid",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Duplicate => "FieldValueDuplicate",
            Self::TooLong => "FieldValueTooLong",
            Self::TooMany => "FieldValueTooMany",
            Self::TypeInvalid => "FieldValueTypeInvalid",
            Self::Forbidden => "FieldValueForbidden",
            Self::UnknownField => "UnknownField",
        }
    }

    /// The apiserver's words for the kind.
    fn words(self) -> &'static str {
        match self {
            Self::Required => "Required value",
            Self::Invalid | Self::TypeInvalid => "Invalid value",
            Self::NotSupported => "Unsupported value",
            Self::Duplicate => "Duplicate value",
            Self::TooLong => "Too long",
            Self::TooMany => "Too many",
            Self::Forbidden => "Forbidden",
            Self::UnknownField => "Unknown field",
        }
    }

    /// Whether the apiserver leaves the rules out after a refusal of this kind.
    fn blocks_rules(self) -> bool {
        matches!(
            self,
            Self::Required | Self::NotSupported | Self::TooLong | Self::TooMany | Self::TypeInvalid
        )
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { field, kind, message } = self;
        write!(f, "{}: {}", shown_path(field), kind.words())?;
        if message.is_empty() { Ok(()) } else { write!(f, ": {message}") }
    }
}

/// What was found in all files.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// Objects of our kinds.
    pub checked: usize,
    /// Those of them that are refused.
    pub refused: usize,
    /// Objects of other kinds, which nothing is said about.
    pub ignored: usize,
    /// Files that cannot be read, or are not YAML.
    pub unreadable: usize,
}

impl Summary {
    /// Whether there is nothing to complain about.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.refused == 0 && self.unreadable == 0
    }
}

/// Checks files, folders with all below them, and `-`, which is the input. Writes a line for each
/// refusal, and a last one with the counts.
///
/// # Errors
/// The output cannot be written. What cannot be read is counted and told.
pub fn run(paths: &[PathBuf], input: &mut dyn Read, out: &mut dyn Write) -> io::Result<Summary> {
    let mut summary = Summary::default();
    for found in manifests::read(paths, input) {
        let refusals = match found.as_ref().map(|manifest| judge(manifest, None)) {
            Ok(Some(refusals)) => refusals,
            Ok(None) => {
                summary.ignored += 1;
                continue;
            }
            Err(unreadable) => {
                summary.unreadable += 1;
                writeln!(out, "{}", printable_lines(&unreadable.to_string()))?;
                continue;
            }
        };
        summary.checked += 1;
        summary.refused += usize::from(!refusals.is_empty());
        for refusal in refusals {
            writeln!(out, "{}", printable_lines(&refusal))?;
        }
    }
    let Summary { checked, refused, ignored, unreadable } = summary;
    write!(out, "{checked} checked, {refused} refused, {ignored} of other kinds ignored")?;
    if unreadable > 0 {
        write!(out, ", {unreadable} unreadable")?;
    }
    writeln!(out)?;
    Ok(summary)
}

/// A line for each reason for which the apiserver would refuse an object, with its place in the
/// file; none if it would be taken. `old` is what it is to replace. `None`: it is of another group, and
/// nothing is said about it.
#[must_use]
pub fn judge(manifest: &Manifest, old: Option<&Value>) -> Option<Vec<String>> {
    let value = &manifest.value;
    if matches!(kind_of(value), Kind::Foreign) {
        return None;
    }
    let place = |refusal: Refusal| (manifest.place_of(&refusal.field), refusal);
    let refusals: BTreeSet<(Place, Refusal)> =
        check_change(value, old).into_iter().map(place).collect();
    let kind = value["kind"].as_str().filter(|kind| KINDS.contains_key(*kind)).unwrap_or("object");
    let name = value["metadata"]["name"].as_str().filter(|name| is_object_name(name));
    let name = name.unwrap_or("without a name");
    let lines =
        refusals.iter().map(|(place, refusal)| format!("{place}: {kind} {name}: {refusal}"));
    Some(lines.collect())
}

/// The apiserver's verdict on one object of our group that is to be created, in no order.
/// An object of another group is nobody's business here: nothing is said about it.
#[must_use]
pub fn check(object: &Value) -> Vec<Refusal> {
    check_change(object, None)
}

/// As [`check`], of an object that is to be put in the place of `old`, if that is there: some fields
/// may not be changed.
#[must_use]
pub fn check_change(object: &Value, old: Option<&Value>) -> Vec<Refusal> {
    let mut refusals = Refusals::default();
    let kind = match kind_of(object) {
        Kind::Foreign => return Vec::new(),
        Kind::Unknown => {
            let known: Vec<_> = KINDS.keys().map(String::as_str).collect();
            let message = format!("this version knows {} in {VERSION}", known.join(", "));
            refusals.add("kind", RefusalKind::NotSupported, message);
            return refusals.0;
        }
        Kind::Ours(kind) => kind,
    };
    unknown_fields(&kind.schema, object, "", &mut refusals);
    let mut object = object.clone();
    if let Value::Object(fields) = &mut object {
        // A create cannot set the status: the apiserver takes it out before it looks.
        fields.remove("status");
    }
    prune(&kind.schema, &mut object);
    metadata(&object["metadata"], &mut refusals);
    structure(&kind.schema, &object, "", &mut refusals);
    sets(&kind.schema, &object, "", &mut refusals);
    if !refusals.0.iter().any(|refusal| refusal.kind.blocks_rules()) {
        rules(&kind.rules, &object, old, &mut refusals);
    }
    refusals.0
}

const VERSION: &str = "message-contacts.dev/v1alpha1";

/// What is known of one of our kinds.
struct Known {
    schema: Value,
    rules: CompiledSchema,
}

static KINDS: LazyLock<BTreeMap<String, Known>> = LazyLock::new(|| {
    let known = |crd: api::CustomResourceDefinition| {
        let schema = crd.spec.versions.into_iter().next()?.schema?.open_api_v3_schema?;
        let schema = serde_json::to_value(schema).ok()?;
        let rules = compile_schema(&schema);
        Some((crd.spec.names.kind, Known { schema, rules }))
    };
    api::crds().into_iter().filter_map(known).collect()
});

enum Kind {
    Ours(&'static Known),
    /// Of our group, but no kind or version that this program has.
    Unknown,
    Foreign,
}

fn kind_of(object: &Value) -> Kind {
    let version = object["apiVersion"].as_str().unwrap_or_default();
    if version.split('/').next() != Some(api::GROUP) {
        return Kind::Foreign;
    }
    let kind = object["kind"].as_str().and_then(|kind| KINDS.get(kind));
    kind.filter(|_| version == VERSION).map_or(Kind::Unknown, Kind::Ours)
}

#[derive(Default)]
struct Refusals(Vec<Refusal>);

impl Refusals {
    fn add(&mut self, field: impl Into<String>, kind: RefusalKind, message: impl Into<String>) {
        self.0.push(Refusal { field: field.into(), kind, message: message.into() });
    }
}

/// The fields that the apiserver sets or that clients may set; anything else is unknown.
const METADATA: [&str; 15] = [
    "annotations",
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "finalizers",
    "generateName",
    "generation",
    "labels",
    "managedFields",
    "name",
    "namespace",
    "ownerReferences",
    "resourceVersion",
    "selfLink",
    "uid",
];

fn unknown_fields(schema: &Value, value: &Value, path: &str, refusals: &mut Refusals) {
    match value {
        Value::Object(fields) => {
            let properties = schema["properties"].as_object();
            for (name, value) in fields {
                let path = below(path, name);
                let known = properties.and_then(|properties| properties.get(name));
                match (known, &schema["additionalProperties"]) {
                    (Some(schema), _) | (None, schema @ Value::Object(_)) => {
                        unknown_fields(schema, value, &path, refusals);
                    }
                    _ if path == "metadata" => unknown_metadata(value, refusals),
                    _ if matches!(path.as_str(), "apiVersion" | "kind") => {}
                    _ => refusals.add(path, RefusalKind::UnknownField, ""),
                }
            }
        }
        Value::Array(items) => {
            // Where no list belongs, nothing in it is known.
            for (index, item) in items.iter().enumerate() {
                unknown_fields(&schema["items"], item, &format!("{path}[{index}]"), refusals);
            }
        }
        _ => {}
    }
}

fn unknown_metadata(metadata: &Value, refusals: &mut Refusals) {
    for name in metadata.as_object().into_iter().flat_map(Map::keys) {
        if !METADATA.contains(&name.as_str()) {
            refusals.add(below("metadata", name), RefusalKind::UnknownField, "");
        }
    }
}

/// Takes out what the apiserver takes out before it looks: null means left out, except in a list.
fn prune(schema: &Value, value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, value| !value.is_null());
            for (name, value) in fields {
                let known = &schema["properties"][name];
                let schema = if known.is_null() { &schema["additionalProperties"] } else { known };
                prune(schema, value);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| prune(&schema["items"], item)),
        _ => {}
    }
}

fn metadata(metadata: &Value, refusals: &mut Refusals) {
    let wrong_type = |field: &str, type_: &str, refusals: &mut Refusals| {
        let message = format!("must be of type {type_}");
        refusals.add(below("metadata", field), RefusalKind::TypeInvalid, message);
    };
    let empty = Map::new();
    let fields = match metadata {
        Value::Object(fields) => fields,
        Value::Null => &empty,
        _ => return refusals.add("metadata", RefusalKind::TypeInvalid, "must be of type object"),
    };
    let mut texts = BTreeMap::new();
    for field in ["name", "generateName", "namespace", "resourceVersion", "uid"] {
        match fields.get(field) {
            Some(Value::String(text)) => _ = texts.insert(field, text.as_str()),
            Some(_) => wrong_type(field, "string", refusals),
            None => {}
        }
    }
    let text = |field: &str| texts.get(field).copied().filter(|text| !text.is_empty());
    let advice = "write lower case letters, digits, hyphens and dots, with a letter or digit at \
                  both ends, at most 253 of them";
    match (text("name"), text("generateName")) {
        (None, None) if !fields.contains_key("name") || texts.contains_key("name") => {
            let message = "name or generateName is required";
            refusals.add("metadata.name", RefusalKind::Required, message);
        }
        (Some(name), _) if !is_object_name(name) => {
            refusals.add("metadata.name", RefusalKind::Invalid, advice);
        }
        _ => {}
    }
    if let Some(prefix) = text("generateName") {
        // What is appended begins with a letter or digit.
        if !is_object_name(&format!("{prefix}x")) {
            refusals.add("metadata.generateName", RefusalKind::Invalid, advice);
            if text("name").is_none() {
                refusals.add("metadata.name", RefusalKind::Invalid, advice);
            }
        }
    }
    for field in ["labels", "annotations"] {
        let Some(given) = fields.get(field) else { continue };
        let Some(pairs) = given.as_object() else {
            wrong_type(field, "object", refusals);
            continue;
        };
        for (key, value) in pairs {
            let Some(value) = value.as_str() else {
                wrong_type(field, "object with texts as values", refusals);
                continue;
            };
            // Unlike a label's, the key of an annotation is looked at in lower case.
            let folded = key.to_lowercase();
            if !is_qualified_name(if field == "labels" { key } else { &folded }) {
                let message = "write keys such as team or example.com/team";
                refusals.add(below("metadata", field), RefusalKind::Invalid, message);
            }
            if field == "labels" && !is_label_value(value) {
                let message = "write values of up to 63 letters, digits, hyphens, underscores \
                               and dots";
                refusals.add("metadata.labels", RefusalKind::Invalid, message);
            }
        }
    }
    match fields.get("finalizers") {
        Some(Value::Array(names)) => {
            for name in names {
                match name.as_str() {
                    None => wrong_type("finalizers", "array of strings", refusals),
                    Some(name) if is_qualified_name(name) => {}
                    Some(_) => {
                        let message = "write names such as example.com/cleanup";
                        refusals.add("metadata.finalizers", RefusalKind::Invalid, message);
                    }
                }
            }
        }
        Some(_) => wrong_type("finalizers", "array", refusals),
        None => {}
    }
}

/// What the schema says of types, bounds and required fields.
fn structure(schema: &Value, value: &Value, path: &str, refusals: &mut Refusals) {
    let limit = |keyword: &str| schema[keyword].as_u64().and_then(|max| usize::try_from(max).ok());
    if let Some(type_) = schema["type"].as_str()
        && !is_of_type(value, type_)
    {
        refusals.add(path, RefusalKind::TypeInvalid, format!("must be of type {type_}"));
    }
    if let Some(words) = schema["enum"].as_array()
        && !words.contains(value)
    {
        let words: Vec<_> = words.iter().filter_map(Value::as_str).collect();
        let message = format!("write one of {}", words.join(", "));
        refusals.add(path, RefusalKind::NotSupported, message);
    }
    match value {
        Value::String(text) => {
            if limit("maxLength").is_some_and(|max| text.chars().count() > max) {
                let message = format!("write at most {} characters", schema["maxLength"]);
                refusals.add(path, RefusalKind::TooLong, message);
            }
        }
        Value::Number(number) => {
            let number = number.as_f64().unwrap_or(f64::NAN);
            if schema["minimum"].as_f64().is_some_and(|min| number < min) {
                let message = format!("write a number of at least {}", bare(&schema["minimum"]));
                refusals.add(path, RefusalKind::Invalid, message);
            }
            if schema["maximum"].as_f64().is_some_and(|max| number > max) {
                let message = format!("write a number of at most {}", bare(&schema["maximum"]));
                refusals.add(path, RefusalKind::Invalid, message);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                structure(&schema["items"], item, &format!("{path}[{index}]"), refusals);
            }
            if limit("minItems").is_some_and(|min| items.len() < min) {
                let message = format!("write at least {} entries", schema["minItems"]);
                refusals.add(path, RefusalKind::Invalid, message);
            }
            if limit("maxItems").is_some_and(|max| items.len() > max) {
                let message = format!("write at most {} entries", schema["maxItems"]);
                refusals.add(path, RefusalKind::TooMany, message);
            }
        }
        Value::Object(fields) => {
            if limit("minProperties").is_some_and(|min| fields.len() < min) {
                let message = format!("write at least {} entries", schema["minProperties"]);
                refusals.add(path, RefusalKind::Invalid, message);
            }
            if limit("maxProperties").is_some_and(|max| fields.len() > max) {
                let message = format!("write at most {} entries", schema["maxProperties"]);
                refusals.add(path, RefusalKind::TooMany, message);
            }
            for (name, value) in fields {
                let known = &schema["properties"][name];
                let schema = if known.is_null() { &schema["additionalProperties"] } else { known };
                structure(schema, value, &below(path, name), refusals);
            }
            let required = schema["required"].as_array();
            for name in required.into_iter().flatten().filter_map(Value::as_str) {
                if !fields.contains_key(name) {
                    refusals.add(below(path, name), RefusalKind::Required, "");
                }
            }
        }
        Value::Null | Value::Bool(_) => {}
    }
}

fn is_of_type(value: &Value, type_: &str) -> bool {
    match (type_, value) {
        ("integer", Value::Number(number)) => {
            number.is_i64() || number.as_f64().is_some_and(|number| number.fract() == 0.0)
        }
        ("string", Value::String(_))
        | ("boolean", Value::Bool(_))
        | ("array", Value::Array(_))
        | ("object", Value::Object(_))
        | ("number", Value::Number(_)) => true,
        _ => false,
    }
}

/// A bound as people write it; the definitions hold bounds as floating-point numbers.
fn bare(bound: &Value) -> String {
    bound.as_f64().map(|bound| format!("{bound}")).unwrap_or_default()
}

/// What the schema says of lists without repetitions. A value is told at its second place only.
fn sets(schema: &Value, value: &Value, path: &str, refusals: &mut Refusals) {
    match value {
        Value::Array(items) => {
            if schema["x-kubernetes-list-type"] == "set" {
                let (mut seen, mut told) = (HashSet::new(), HashSet::new());
                for (index, item) in items.iter().enumerate() {
                    let text = item.to_string();
                    if !seen.insert(text.clone()) && told.insert(text) {
                        let path = format!("{path}[{index}]");
                        refusals.add(path, RefusalKind::Duplicate, "write each entry once");
                    }
                }
            }
            for (index, item) in items.iter().enumerate() {
                sets(&schema["items"], item, &format!("{path}[{index}]"), refusals);
            }
        }
        Value::Object(fields) => {
            for (name, value) in fields {
                sets(&schema["properties"][name], value, &below(path, name), refusals);
            }
        }
        _ => {}
    }
}

/// The rules of the definitions, in the apiserver's words.
fn rules(compiled: &CompiledSchema, object: &Value, old: Option<&Value>, refusals: &mut Refusals) {
    let Err(errors) = validate_compiled(compiled, object, old) else { return };
    for error in errors {
        let kind = match error.reason.as_deref() {
            Some("FieldValueRequired") => RefusalKind::Required,
            Some("FieldValueForbidden") => RefusalKind::Forbidden,
            Some("FieldValueDuplicate") => RefusalKind::Duplicate,
            _ => RefusalKind::Invalid,
        };
        // Any other error may quote the value.
        let message = match error.kind {
            ErrorKind::ValidationFailure => error.message,
            _ => "a rule of the definition could not be evaluated".to_owned(),
        };
        refusals.add(error.field_path, kind, message);
    }
}

fn below(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// A path fit to be printed: a name in it may be a value that slipped to where a name belongs, so
/// it ends before the first name that does not look like one.
fn shown_path(path: &str) -> String {
    let looks_like_a_name = |part: &&str| {
        let name = part.split('[').next().unwrap_or_default();
        let mut digits = 0;
        name.bytes().all(|byte| {
            digits = if byte.is_ascii_digit() { digits + 1 } else { 0 };
            digits < 5 && (byte.is_ascii_alphanumeric() || b"-_/".contains(&byte))
        })
    };
    let parts = path.split('.').count();
    let mut shown: Vec<_> = path.split('.').take_while(looks_like_a_name).collect();
    if shown.len() < parts {
        shown.push("***");
    }
    shown.join(".")
}

#[cfg(test)]
mod tests;
