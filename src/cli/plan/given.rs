//! What the manifests hold that a plan is made from.

use std::collections::{BTreeMap, HashMap, HashSet};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;

use super::super::manifests::{self, Manifest, Place};
use super::super::validate;
use crate::api::values::{self, Places, Values};
use crate::api::{self, ContactPolicySpec, MessageContactSpec, parse};
use crate::domain::policy::Policy;

/// Namespace and name of a MessageContact.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) namespace: String,
    pub(super) name: String,
}

/// A MessageContact of the manifests.
#[derive(Debug)]
pub(super) struct Object {
    pub(super) key: Key,
    pub(super) place: Place,
    pub(super) spec: MessageContactSpec,
    /// The spec as the target branch has it, if it has the object.
    pub(super) before: Option<MessageContactSpec>,
    /// Only the target branch has it: it would be deleted.
    pub(super) removed: bool,
}

impl Object {
    /// The name of its ResourceDirectory.
    pub(super) fn directory(&self) -> &str {
        parse::directory_name(&self.spec)
    }

    /// Whether the target branch has it just so.
    pub(super) fn is_as_before(&self) -> bool {
        self.before.as_ref() == Some(&self.spec)
    }
}

/// What a key of a Secret holds; `None`: that cannot be told from the manifest.
type SecretValue = Option<Vec<u8>>;

/// A Secret of the manifests.
struct Secret {
    values: BTreeMap<String, SecretValue>,
    /// How it is encrypted, in words, if it is.
    encryption: Option<&'static str>,
}

/// A Secret with a value that an object takes from it, and that cannot be read.
pub(super) struct Encrypted<'a> {
    /// The field that it would give.
    pub(super) field: &'static str,
    /// Its name; it stands in the namespace of the object.
    pub(super) secret: &'a str,
    /// In words, how it is encrypted.
    pub(super) how: &'static str,
}

/// What the manifests hold. Objects of other kinds are left out.
#[derive(Default)]
pub(super) struct Given {
    /// First those that the target branch has: whoever came first has the name.
    pub(super) contacts: Vec<Object>,
    pub(super) policies: Vec<Policy>,
    /// By namespace and name of the Secret.
    secrets: HashMap<(String, String), Secret>,
    /// The labels of the namespaces.
    namespaces: BTreeMap<String, BTreeMap<String, String>>,
}

/// Which label names a namespace, on every apiserver.
const NAMESPACE_LABEL: &str = "kubernetes.io/metadata.name";

impl Given {
    /// What is in the manifests, beside those of the target branch if these are given. `namespace` is
    /// that of objects that name none.
    ///
    /// # Errors
    /// A line for each thing that the apiserver would refuse, and for each object that is there twice.
    pub(super) fn read(
        manifests: &[Manifest],
        base: Option<&[Manifest]>,
        namespace: &str,
    ) -> Result<Self, Vec<String>> {
        let before: HashMap<_, _> = base
            .into_iter()
            .flatten()
            .filter(|manifest| is_contact(manifest))
            .map(|manifest| (key_of(manifest, namespace), manifest))
            .collect();
        let mut wrong = Vec::new();
        // The same Secret may be there encrypted and, from the input, decrypted.
        let mut seen: HashMap<(String, Key, bool), Place> = HashMap::new();
        let mut given = Self::default();
        for manifest in manifests {
            let key = key_of(manifest, namespace);
            let old = before.get(&key).filter(|_| is_contact(manifest));
            let refusals = validate::judge(manifest, old.map(|old| &old.value)).unwrap_or_default();
            if !refusals.is_empty() {
                wrong.extend(refusals);
                continue;
            }
            let kind = manifest.value["kind"].as_str().unwrap_or_default().to_owned();
            if !key.name.is_empty() && is_known(manifest) {
                let place = manifest.place();
                let is_encrypted = is_encrypted(manifest);
                let it = (kind.clone(), key.clone(), is_encrypted);
                if let Some(first) = seen.insert(it, place.clone()) {
                    let name = &key.name;
                    let text = format!("{place}: {kind} {name}: it stands at {first} already");
                    wrong.push(text);
                    continue;
                }
            }
            given.take_in(manifest, key, old.map(|old| &old.value), &mut wrong);
        }
        given.take_in_removed(&before, namespace);
        given.policies.sort_by(|one, other| one.name.cmp(&other.name));
        given.contacts.sort_by_key(|object| object.before.is_none());
        if wrong.is_empty() { Ok(given) } else { Err(wrong) }
    }

    fn take_in(
        &mut self,
        manifest: &Manifest,
        key: Key,
        old: Option<&Value>,
        wrong: &mut Vec<String>,
    ) {
        let mut cannot_be_followed = |why: String| {
            wrong.push(format!("{}: {}: {why}", manifest.place(), key.name));
        };
        if is_contact(manifest) {
            match spec_of(&manifest.value) {
                Some(spec) => self.contacts.push(Object {
                    key,
                    place: manifest.place(),
                    spec,
                    before: old.and_then(spec_of),
                    removed: false,
                }),
                None => cannot_be_followed("the spec cannot be read".to_owned()),
            }
        } else if is_ours(manifest, "ContactPolicy") {
            let spec = serde_json::from_value::<ContactPolicySpec>(manifest.value["spec"].clone());
            match spec.map(|spec| parse::policy(&key.name, &spec)) {
                Ok(Ok(policy)) => self.policies.push(policy),
                Ok(Err(problem)) => cannot_be_followed(problem.to_string()),
                Err(_) => cannot_be_followed("the spec cannot be read".to_owned()),
            }
        } else if manifest.is("v1", "Secret") {
            self.take_in_secret((key.namespace, key.name), &manifest.value);
        } else if manifest.is("v1", "Namespace") {
            let labels = serde_json::from_value(manifest.value["metadata"]["labels"].clone());
            self.namespaces.insert(key.name, labels.unwrap_or_default());
        }
    }

    /// One that is encrypted stands back behind the same one decrypted.
    fn take_in_secret(&mut self, key: (String, String), value: &Value) {
        let secret =
            Secret { values: secret_data(value), encryption: manifests::encryption(value) };
        let known = self.secrets.get(&key).filter(|known| known.encryption.is_none());
        if known.is_none() || secret.encryption.is_none() {
            self.secrets.insert(key, secret);
        }
    }

    fn take_in_removed(&mut self, before: &HashMap<Key, &Manifest>, namespace: &str) {
        let kept: HashSet<_> = self.contacts.iter().map(|object| object.key.clone()).collect();
        let mut gone: Vec<_> = before.iter().filter(|(key, _)| !kept.contains(key)).collect();
        gone.sort_by_key(|(key, _)| *key);
        for (_, manifest) in gone {
            if let Some(spec) = spec_of(&manifest.value) {
                self.contacts.push(Object {
                    key: key_of(manifest, namespace),
                    place: manifest.place(),
                    before: Some(spec.clone()),
                    spec,
                    removed: true,
                });
            }
        }
    }

    /// The labels of a namespace, as far as they are known.
    pub(super) fn labels(&self, namespace: &str) -> BTreeMap<String, String> {
        let mut labels = self.namespaces.get(namespace).cloned().unwrap_or_default();
        labels.insert(NAMESPACE_LABEL.to_owned(), namespace.to_owned());
        labels
    }

    /// Whether all labels of a namespace are known.
    pub(super) fn knows_namespace(&self, namespace: &str) -> bool {
        self.namespaces.contains_key(namespace)
    }

    /// What is known of the values that an object takes from Secrets.
    pub(super) fn values(&self, object: &Object) -> Values {
        let Places { email, phone } = values::places(&object.spec);
        let mut known = Values::default();
        if let Some(Ok(bytes)) = email.map(|place| self.secret_value(object, place)) {
            known.email = values::email(bytes);
        }
        if let Some(Ok(bytes)) = phone.map(|place| self.secret_value(object, place)) {
            known.phone = values::phone(bytes);
        }
        known
    }

    /// What a Secret has under a key, if it has the key.
    fn secret_value(
        &self,
        object: &Object,
        place: &api::message_contact::SecretKeyRef,
    ) -> Result<Option<&[u8]>, NotTold> {
        let secret = (object.key.namespace.clone(), place.name.clone());
        match self.secrets.get(&secret).ok_or(NotTold)?.values.get(&place.key) {
            None => Ok(None),
            Some(Some(bytes)) => Ok(Some(bytes)),
            Some(None) => Err(NotTold),
        }
    }

    /// The Secrets that are there, and whose values for this object are encrypted.
    pub(super) fn encrypted<'o>(&self, object: &'o Object) -> Vec<Encrypted<'o>> {
        let Places { email, phone } = values::places(&object.spec);
        let fields = [("emailAddress", email), ("phoneNumber", phone)].into_iter();
        let encrypted = fields.filter_map(|(field, place)| {
            let place = place?;
            let key = (object.key.namespace.clone(), place.name.clone());
            let secret = self.secrets.get(&key)?;
            let how = secret.encryption.filter(|_| secret.values.get(&place.key) == Some(&None))?;
            Some(Encrypted { field, secret: &place.name, how })
        });
        encrypted.collect()
    }
}

/// The manifests do not tell it.
struct NotTold;

fn is_ours(manifest: &Manifest, kind: &str) -> bool {
    manifest.is(&format!("{}/v1alpha1", api::GROUP), kind)
}

pub(super) fn is_contact(manifest: &Manifest) -> bool {
    is_ours(manifest, "MessageContact")
}

pub(super) fn is_directory(manifest: &Manifest) -> bool {
    is_ours(manifest, "ResourceDirectory")
}

/// Whether anything is made of an object of that kind.
fn is_known(manifest: &Manifest) -> bool {
    let cores = ["Secret", "Namespace"].into_iter();
    let ours = ["MessageContact", "ResourceDirectory", "ContactPolicy"].into_iter();
    cores.into_iter().any(|kind| manifest.is("v1", kind))
        || ours.into_iter().any(|kind| is_ours(manifest, kind))
}

fn is_encrypted(manifest: &Manifest) -> bool {
    manifest.is("v1", "Secret") && manifests::encryption(&manifest.value).is_some()
}

fn key_of(manifest: &Manifest, namespace: &str) -> Key {
    let is_namespaced = is_contact(manifest) || manifest.is("v1", "Secret");
    let namespace = manifest.namespace().unwrap_or(namespace);
    let namespace = if is_namespaced { namespace } else { "" }.to_owned();
    Key { namespace, name: manifest.name().to_owned() }
}

fn spec_of(object: &Value) -> Option<MessageContactSpec> {
    serde_json::from_value(object["spec"].clone()).ok()
}

/// What a Secret holds. A value that is encrypted, or not base64, is not known.
fn secret_data(secret: &Value) -> BTreeMap<String, SecretValue> {
    let decoded = |value: &Value| {
        let text: String = value.as_str()?.split_whitespace().collect();
        BASE64_STANDARD.decode(text).ok()
    };
    let plain = |value: &Value| {
        let text = value.as_str().filter(|text| !manifests::is_cipher_text(text))?;
        Some(text.as_bytes().to_vec())
    };
    let fields = |name: &str| secret[name].as_object().cloned().unwrap_or_default();
    let data = fields("data").into_iter().map(|(key, value)| (key, decoded(&value)));
    let texts = fields("stringData").into_iter().map(|(key, value)| (key, plain(&value)));
    data.chain(texts).collect()
}
