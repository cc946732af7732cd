//! What the kinds' schemas have in common: rules, conditions, and the shape around them.

use kube::core::{Reason as FieldReason, Rule};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

/// Longest echo of an annotation, in bytes.
pub(super) const ECHO_BYTES_MAX: usize = 128;
/// Most characters of a condition's message. Source: `meta/v1` `Condition`.
pub(super) const MESSAGE_CHARS_MAX: usize = 32_768;
/// Most characters of anything that the cloud said, where no other maximum stands.
pub(super) const WORD_CHARS_MAX: usize = 256;
/// Most characters of an id.
pub(super) const ID_CHARS_MAX: usize = 64;
/// Most characters of the name of a Kubernetes object.
pub(super) const OBJECT_NAME_CHARS_MAX: usize = 253;

/// The name of a Kubernetes object, as a regular expression.
pub(super) const OBJECT_NAME: &str =
    "^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";
/// What to write instead of a malformed name of an object.
pub(super) const OBJECT_NAME_ADVICE: &str = "write the name of a Kubernetes object: up to 253 \
     lower case letters, digits, hyphens and dots, with a letter or digit at both ends";

/// A duration, as a regular expression; the empty text is refused beside it. Bounded so that no
/// arithmetic on it can overflow.
pub(super) const DURATION: &str = "^([0-9]{1,5}h)?([0-9]{1,6}m)?([0-9]{1,7}s)?$";
/// What to write instead of a malformed duration.
pub(super) const DURATION_ADVICE: &str =
    "write numbers with their units, such as 5m, 90s or 1h30m; \"5\" is \"5m\" or \"5s\"";

/// An id of a directory, a folder or an account, as a regular expression.
pub(super) const MEMBER: &str = "^[A-Za-z0-9][A-Za-z0-9-]*$";

/// A CEL rule with everything a refusal needs.
pub(super) fn rule(rule: impl Into<String>, message: &str, reason: FieldReason, at: &str) -> Rule {
    Rule::new(rule).message(message).reason(reason).field_path(at)
}

/// A rule that an optional text, when it is there, matches a pattern.
pub(super) fn shape(field: &str, pattern: &str, advice: &str) -> Rule {
    let test = format!("!has(self.{field}) || self.{field}.matches(r\"{pattern}\")");
    rule(test, advice, FieldReason::FieldValueInvalid, &format!(".{field}"))
}

/// A rule that every text of an optional list matches a pattern.
pub(super) fn each(field: &str, pattern: &str, advice: &str) -> Rule {
    let test = format!("!has(self.{field}) || self.{field}.all(t, t.matches(r\"{pattern}\"))");
    rule(test, advice, FieldReason::FieldValueInvalid, &format!(".{field}"))
}

/// The rules of an optional duration with a minimum.
pub(super) fn duration(field: &str, min: &str) -> [Rule; 2] {
    let absent = format!("!has(self.{field})");
    let formed = format!("self.{field} != '' && self.{field}.matches(r\"{DURATION}\")");
    let enough = format!("duration(self.{field}) >= duration('{min}')");
    let at = format!(".{field}");
    let invalid = FieldReason::FieldValueInvalid;
    [
        rule(format!("{absent} || ({formed})"), DURATION_ADVICE, invalid.clone(), &at),
        rule(
            format!("{absent} || !({formed}) || {enough}"),
            &format!("write a duration of at least {min}"),
            invalid,
            &at,
        ),
    ]
}

/// The schema of a text of at most so many characters.
pub(super) fn text(chars_max: usize) -> Value {
    json!({ "type": "string", "maxLength": chars_max })
}

/// The schema of one of a closed list of words.
pub(super) fn words(words: &[&str]) -> Value {
    json!({ "type": "string", "enum": words })
}

/// The schema of a kind: its spec, and its status with what stands there before the operator has
/// looked: an object without status would count as ready.
pub(super) fn kind<Spec: JsonSchema, Status: JsonSchema>(
    generator: &mut SchemaGenerator,
    description: &str,
) -> Schema {
    let mut spec = generator.subschema_for::<Spec>().to_value();
    let mut status = generator.subschema_for::<Status>().to_value();
    tidy(&mut spec);
    tidy(&mut status);
    status["default"] = json!({
        "observedGeneration": -1,
        "conditions": [{
            "type": "Ready",
            "status": "Unknown",
            "reason": "Pending",
            "message": "The operator has not looked at this object yet",
            "lastTransitionTime": "1970-01-01T00:00:00Z",
        }],
    });
    let schema = json!({
        "description": description,
        "type": "object",
        "required": ["spec"],
        "properties": { "spec": spec, "status": status },
    });
    Schema::try_from(schema).unwrap_or_default()
}

/// Makes a derived schema structural and quiet: no null where a field may be left out, no
/// default (a default in spec would leave `GitOps` tools out of sync for ever), no title, no format
/// of numbers, descriptions without line breaks.
fn tidy(schema: &mut Value) {
    let Some(keywords) = schema.as_object_mut() else { return };
    unwrap_option(keywords);
    keywords.retain(|keyword, _| !matches!(keyword.as_str(), "default" | "title" | "nullable"));
    // With a number's format, the apiserver checks twice and its second text has no field.
    if keywords.get("format").is_some_and(|format| format != "date-time") {
        keywords.remove("format");
    }
    if let Some(Value::String(description)) = keywords.get_mut("description") {
        let paragraphs = description.split("\n\n").map(|part| part.replace('\n', " "));
        *description = paragraphs.collect::<Vec<_>>().join("\n\n");
    }
    if let Some(Value::Object(properties)) = keywords.get_mut("properties") {
        properties.values_mut().for_each(tidy);
    }
    for keyword in ["items", "additionalProperties"] {
        if let Some(inner) = keywords.get_mut(keyword) {
            tidy(inner);
        }
    }
}

/// Turns "this or null" into "this".
fn unwrap_option(keywords: &mut Map<String, Value>) {
    if let Some(Value::Array(types)) = keywords.get_mut("type") {
        types.retain(|name| name != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            keywords.insert("type".to_owned(), only);
        }
    }
    if let Some(Value::Array(choices)) = keywords.remove("anyOf") {
        let inner = choices.into_iter().find(|choice| choice["type"] != "null");
        if let Some(Value::Object(inner)) = inner {
            for (keyword, value) in inner {
                // What is said at the field is closer than what is said at its type.
                keywords.entry(keyword).or_insert(value);
            }
        }
    }
}

/// The schema of a list of conditions, as `meta/v1` has it, with examples.
pub(super) fn conditions(_: &mut SchemaGenerator) -> Schema {
    let schema = json!({
        "type": "array",
        "maxItems": 16,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "items": {
            "description": "One condition.",
            "type": "object",
            "required": ["type", "status", "reason", "message", "lastTransitionTime"],
            "properties": {
                "type": {
                    "description": "What is judged. Example: `Ready`.",
                    "type": "string",
                    "maxLength": 316,
                    "pattern": "^[A-Za-z][A-Za-z0-9]*$",
                },
                "status": {
                    "description": "Whether it is met. Example: `True`.",
                    "type": "string",
                    "enum": ["True", "False", "Unknown"],
                },
                "reason": {
                    "description": "Why, from a closed list. Example: `InSync`.",
                    "type": "string",
                    "minLength": 1,
                    "maxLength": 1024,
                    "pattern": "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$",
                },
                "message": {
                    "description": "What, why, and what comes next, for people. \
                                    Example: `The cloud has what the spec says`.",
                    "type": "string",
                    "maxLength": MESSAGE_CHARS_MAX,
                },
                "lastTransitionTime": {
                    "description": "When `status` last changed. \
                                    Example: `2026-01-15T09:30:00Z`.",
                    "type": "string",
                    "format": "date-time",
                },
                "observedGeneration": {
                    "description": "The generation of the spec that was judged. Example: `3`.",
                    "type": "integer",
                },
            },
        },
    });
    Schema::try_from(schema).unwrap_or_default()
}
