//! How Kubernetes spells names, label keys and label values.

use super::schema::OBJECT_NAME_CHARS_MAX;

/// Longest label value, and longest name in a key, in characters.
pub(super) const LABEL_CHARS_MAX: usize = 63;

/// Whether an object may have that name.
#[must_use]
pub fn is_object_name(text: &str) -> bool {
    text.len() <= OBJECT_NAME_CHARS_MAX && text.split('.').all(|part| is_word(part, is_lower, b"-"))
}

/// Whether a label or an annotation may have that key.
#[must_use]
pub fn is_qualified_name(text: &str) -> bool {
    let (prefix, name) = match text.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, text),
    };
    prefix.is_none_or(is_object_name)
        && name.len() <= LABEL_CHARS_MAX
        && is_word(name, is_alphanumeric, b"-_.")
}

/// Whether a label may have that value.
#[must_use]
pub fn is_label_value(text: &str) -> bool {
    text.is_empty() || (text.len() <= LABEL_CHARS_MAX && is_word(text, is_alphanumeric, b"-_."))
}

/// `outer` at both ends, `outer` and `inner` between them.
fn is_word(text: &str, outer: fn(u8) -> bool, inner: &[u8]) -> bool {
    let bytes = text.as_bytes();
    bytes.first().is_some_and(|byte| outer(*byte))
        && bytes.last().is_some_and(|byte| outer(*byte))
        && bytes.iter().all(|byte| outer(*byte) || inner.contains(byte))
}

fn is_lower(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

fn is_alphanumeric(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
}
