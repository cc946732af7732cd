//! Manifests: read from files, folders and the input, each object with its place in the file.
//!
//! A Secret may be among them, so nothing here is printed but places.

use std::fmt;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Number, Value};
use serde_saphyr::Spanned;

/// One object of a file.
pub struct Manifest {
    /// The object as JSON.
    pub value: Value,
    file: Arc<str>,
    line: u64,
    node: Node,
}

/// Where something stands, fit to be clicked on: `contacts/main.yaml:12`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The file as it was named or found; `<stdin>` for the input.
    pub file: Arc<str>,
    /// The line, from 1.
    pub line: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

impl fmt::Debug for Manifest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the object at {}", self.place())
    }
}

impl Manifest {
    /// Where the object begins.
    #[must_use]
    pub fn place(&self) -> Place {
        Place { file: Arc::clone(&self.file), line: self.line }
    }

    /// Where the field of that path stands, as the apiserver spells it (`spec.messageTypes[1]`), or
    /// the nearest one above it that is there.
    #[must_use]
    pub fn place_of(&self, field: &str) -> Place {
        Place { file: Arc::clone(&self.file), line: self.node.line_of(field, self.line) }
    }

    /// Whether it is of that API version and kind.
    #[must_use]
    pub fn is(&self, api_version: &str, kind: &str) -> bool {
        self.value["apiVersion"] == api_version && self.value["kind"] == kind
    }

    /// Its `metadata.name`; empty if there is none.
    #[must_use]
    pub fn name(&self) -> &str {
        self.value["metadata"]["name"].as_str().unwrap_or_default()
    }

    /// Its `metadata.namespace`, if it names one.
    #[must_use]
    pub fn namespace(&self) -> Option<&str> {
        self.value["metadata"]["namespace"].as_str().filter(|name| !name.is_empty())
    }
}

/// A file that cannot be read, or is not YAML. Says where and why, and quotes nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unreadable(String);

impl Unreadable {
    fn file(path: &Path, error: &io::Error) -> Self {
        Self(format!("{}: {}", path.display(), error.kind()))
    }
}

/// Everything in files, folders with all below them, and `-`, which is the input, in that order.
///
/// A file may hold several documents, and lists as `kubectl get -o yaml` prints them; empty
/// documents are left out. Of a folder the YAML and JSON files are read, by their names in order.
pub fn read(paths: &[PathBuf], input: &mut dyn Read) -> Vec<Result<Manifest, Unreadable>> {
    let mut found = Vec::new();
    for path in paths {
        if path.as_os_str() == "-" {
            let mut text = String::new();
            match input.read_to_string(&mut text) {
                Ok(_) => read_text("<stdin>", &text, &mut found),
                Err(error) => found.push(Err(Unreadable::file(path, &error))),
            }
            continue;
        }
        let mut files = Vec::new();
        if let Err(error) = collect(path, true, &mut files) {
            found.push(Err(Unreadable::file(path, &error)));
        }
        files.sort();
        for file in files {
            match fs::read_to_string(&file) {
                Ok(text) => read_text(&file.display().to_string(), &text, &mut found),
                Err(error) => found.push(Err(Unreadable::file(&file, &error))),
            }
        }
    }
    found
}

/// All objects, for whoever can do nothing without all of them and needs no places.
///
/// # Errors
/// The first file that cannot be read, or is not YAML.
pub fn values(paths: &[PathBuf], input: &mut dyn Read) -> anyhow::Result<Vec<Value>> {
    let all = read(paths, input).into_iter().map(|found| Ok(found?.value));
    all.collect::<Result<_, Unreadable>>().context("check it with `validate`")
}

/// How a Secret is encrypted, in words, if one of its values is: where its field `sops` stands, SOPS has
/// done it. Such a value is cipher text, and MUST be neither used nor shown.
#[must_use]
pub fn encryption(secret: &Value) -> Option<&'static str> {
    let fields = ["data", "stringData"].into_iter().filter_map(|name| secret[name].as_object());
    let mut values = fields.flat_map(|fields| fields.values()).filter_map(Value::as_str);
    let is_encrypted = values.any(is_cipher_text);
    let by_sops = secret["sops"].is_object();
    is_encrypted.then_some(if by_sops { "encrypted by SOPS" } else { "encrypted" })
}

/// Whether a value is what SOPS leaves in its place: `ENC[AES256_GCM,data:…]`.
#[must_use]
pub fn is_cipher_text(value: &str) -> bool {
    value.trim_start().starts_with("ENC[")
}

fn read_text(file: &str, text: &str, found: &mut Vec<Result<Manifest, Unreadable>>) {
    let documents: Vec<Spanned<Node>> = match serde_saphyr::from_multiple(text) {
        Ok(documents) => documents,
        Err(error) => {
            // The error's own text may quote the file.
            let line = error.location().map_or(0, |location| location.line());
            let what = match error.without_snippet() {
                serde_saphyr::Error::DuplicateMappingKey { .. } => "a key is written twice",
                _ => "this is not YAML, or too large",
            };
            return found.push(Err(Unreadable(format!("{file}:{line}: {what}"))));
        }
    };
    let file: Arc<str> = file.into();
    let objects = documents.into_iter().flat_map(objects).map(|object| Manifest {
        value: object.value.to_json(),
        file: Arc::clone(&file),
        line: object.referenced.line(),
        node: object.value,
    });
    found.extend(objects.filter(|object| !object.value.is_null()).map(Ok));
}

/// The document itself, or the items of a list such as `kubectl get -o yaml` prints.
fn objects(document: Spanned<Node>) -> Vec<Spanned<Node>> {
    let is_list = matches!(document.value.field("kind").map(|kind| &kind.1.value),
        Some(Node::Leaf(Value::String(kind))) if kind.ends_with("List"));
    let has_items =
        matches!(document.value.field("items"), Some((_, Spanned { value: Node::List(_), .. })));
    match document.value {
        Node::Map(fields) if is_list && has_items => {
            let items = fields.into_iter().filter(|(name, _)| name.value == "items");
            let lists = items.map(|(_, items)| items.value);
            lists.flat_map(Node::into_items).flat_map(objects).collect()
        }
        _ => vec![document],
    }
}

/// The file itself, or all YAML and JSON files below a folder. Hidden entries and links to
/// folders inside it are left out.
fn collect(path: &Path, named: bool, files: &mut Vec<PathBuf>) -> io::Result<()> {
    let is_folder = if named { path.is_dir() } else { fs::symlink_metadata(path)?.is_dir() };
    if !is_folder {
        let extension = path.extension().and_then(|extension| extension.to_str());
        if named || matches!(extension, Some("yaml" | "yml" | "json")) {
            files.push(path.to_owned());
        }
        return Ok(());
    }
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if !entry.file_name().to_string_lossy().starts_with('.') {
            collect(&entry.path(), false, files)?;
        }
    }
    Ok(())
}

/// A YAML value that knows where its parts stand.
enum Node {
    Leaf(Value),
    List(Vec<Spanned<Node>>),
    Map(Vec<(Spanned<String>, Spanned<Node>)>),
}

impl Node {
    fn to_json(&self) -> Value {
        match self {
            Self::Leaf(value) => value.clone(),
            Self::List(items) => items.iter().map(|item| item.value.to_json()).collect(),
            Self::Map(fields) => fields
                .iter()
                .map(|(name, value)| (name.value.clone(), value.value.to_json()))
                .collect(),
        }
    }

    fn into_items(self) -> Vec<Spanned<Self>> {
        match self {
            Self::List(items) => items,
            Self::Leaf(_) | Self::Map(_) => Vec::new(),
        }
    }

    fn field(&self, name: &str) -> Option<&(Spanned<String>, Spanned<Node>)> {
        match self {
            Self::Map(fields) => fields.iter().find(|(key, _)| key.value == name),
            _ => None,
        }
    }

    /// The line of the field at that path, or of the nearest one above it that is there.
    fn line_of(&self, path: &str, line: u64) -> u64 {
        let (step, rest) = match self {
            Self::Map(fields) => {
                let longest = fields
                    .iter()
                    .filter_map(|(name, value)| {
                        let rest = path.strip_prefix(name.value.as_str())?;
                        let rest = rest.strip_prefix('.').or_else(|| {
                            (rest.is_empty() || rest.starts_with('[')).then_some(rest)
                        })?;
                        Some(((name.referenced.line(), &value.value), rest))
                    })
                    .min_by_key(|(_, rest)| rest.len());
                let Some(found) = longest else { return line };
                found
            }
            Self::List(items) => {
                let found = path.strip_prefix('[').and_then(|path| {
                    let (index, rest) = path.split_once(']')?;
                    let item = items.get(index.parse::<usize>().ok()?)?;
                    let rest = rest.strip_prefix('.').unwrap_or(rest);
                    Some(((item.referenced.line(), &item.value), rest))
                });
                let Some(found) = found else { return line };
                found
            }
            Self::Leaf(_) => return line,
        };
        step.1.line_of(rest, step.0)
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value that JSON can hold")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Leaf(Value::Bool(value)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Leaf(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Leaf(value.into()))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Node, E> {
        let number = Number::from_f64(value).ok_or_else(|| E::custom("not a number of JSON"))?;
        Ok(Node::Leaf(Value::Number(number)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Node, E> {
        Ok(Node::Leaf(text.into()))
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Leaf(Value::Null))
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Leaf(Value::Null))
    }

    fn visit_some<D: Deserializer<'de>>(self, inner: D) -> Result<Node, D::Error> {
        Node::deserialize(inner)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Node::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Node, A::Error> {
        let mut map = Vec::new();
        while let Some(field) = fields.next_entry()? {
            map.push(field);
        }
        Ok(Node::Map(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_input(text: &str) -> Vec<Result<Manifest, Unreadable>> {
        read(&["-".into()], &mut text.as_bytes())
    }

    #[test]
    fn every_object_knows_where_it_and_its_fields_stand() {
        let text = "# a comment\nkind: One\nspec:\n  a: 1\n---\n---\nkind: List\nitems:\n\
                    - kind: Two\n  metadata: {name: two, namespace: team}\n- kind: ThreeList\n  \
                    items:\n  - kind: Three\n    spec:\n      list:\n      - one\n      - two\n";
        let found: Vec<_> = read_input(text).into_iter().map(Result::unwrap).collect();
        let place = |index: usize, field: &str| found[index].place_of(field).to_string();
        assert_eq!(found.len(), 3, "{found:?}");
        assert_eq!(place(0, "spec.a"), "<stdin>:4");
        assert_eq!(place(0, "spec.missing"), "<stdin>:3");
        assert_eq!((found[1].name(), found[1].namespace()), ("two", Some("team")));
        assert_eq!(place(1, ""), "<stdin>:9");
        assert_eq!(place(2, "spec.list[1]"), "<stdin>:17");
        assert_eq!(found[2].value["spec"]["list"][1], "two");
    }

    #[test]
    fn what_cannot_be_read_says_where_and_quotes_nothing() {
        let told = |text: &str| {
            let mut found = read_input(text);
            assert_eq!(found.len(), 1, "{found:?}");
            found.remove(0).unwrap_err().to_string()
        };
        assert_eq!(told("a: 1\nsecret: [\n"), "<stdin>:2: this is not YAML, or too large");
        assert_eq!(told("a: 1\na: secret\n"), "<stdin>:2: a key is written twice");
        let missing = read(&["no-such-file.yaml".into()], &mut io::empty()).remove(0).unwrap_err();
        assert_eq!(missing.to_string(), "no-such-file.yaml: entity not found");
    }
}
