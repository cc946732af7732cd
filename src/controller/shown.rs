//! What a watch has shown of one kind: what an event changes, told once the store shows it.
//!
//! A list comes object by object, and the store takes it in as a whole when it ends. An object that
//! is woken before would be looked at as it was, or not be found at all, and then rest for ever. So
//! a list is compared with what was shown before when it ends, and only what differs is told: a
//! watch that the apiserver makes us begin again costs as much as has changed.

use std::collections::HashMap;
use std::mem;

use kube::runtime::reflector::ObjectRef;
use kube::runtime::watcher::Event;
use kube::{Resource, ResourceExt};

/// What became of an object.
#[derive(Debug, PartialEq)]
pub(super) enum Change<K: Resource<DynamicType = ()>> {
    /// The object of that uid has left the store; another one may have the same name.
    Gone(ObjectRef<K>, String),
    /// The object is in the store, and is new or not as it was.
    Seen(ObjectRef<K>),
}

/// The objects of one kind.
pub(super) struct Shown<K: Resource<DynamicType = ()>> {
    now: HashMap<ObjectRef<K>, Version>,
    listed: HashMap<ObjectRef<K>, Version>,
}

/// An object as it was shown.
#[derive(Debug, PartialEq, Eq)]
struct Version {
    uid: String,
    resource_version: Option<String>,
}

impl<K: Resource<DynamicType = ()>> Default for Shown<K> {
    fn default() -> Self {
        Self { now: HashMap::new(), listed: HashMap::new() }
    }
}

impl<K: Resource<DynamicType = ()> + Clone> Shown<K> {
    /// What an event changes. The store MUST have taken it in already. What is gone comes first.
    pub(super) fn changes(&mut self, event: &Event<K>) -> Vec<Change<K>> {
        match event {
            Event::Init => self.listed.clear(),
            Event::InitApply(object) => {
                self.listed.insert(ObjectRef::from_obj(object), version(object));
            }
            Event::InitDone => {
                let before = mem::replace(&mut self.now, mem::take(&mut self.listed));
                return self.since(before);
            }
            Event::Apply(object) => {
                let key = ObjectRef::from_obj(object);
                let before = self.now.insert(key.clone(), version(object));
                return match before {
                    Some(before) if before.uid != uid(object) => {
                        vec![Change::Gone(key.clone(), before.uid), Change::Seen(key)]
                    }
                    _ => vec![Change::Seen(key)],
                };
            }
            Event::Delete(object) => {
                let key = ObjectRef::from_obj(object);
                return self
                    .now
                    .remove(&key)
                    .map(|before| Change::Gone(key, before.uid))
                    .into_iter()
                    .collect();
            }
        }
        Vec::new()
    }

    fn since(&self, before: HashMap<ObjectRef<K>, Version>) -> Vec<Change<K>> {
        let differs = |(key, now): &(&ObjectRef<K>, &Version)| before.get(key) != Some(now);
        let seen: Vec<_> = self.now.iter().filter(differs).map(|(key, _)| key.clone()).collect();
        let gone = before
            .into_iter()
            .filter(|(key, before)| self.now.get(key).is_none_or(|now| now.uid != before.uid));
        let gone = gone.map(|(key, before)| Change::Gone(key, before.uid));
        gone.chain(seen.into_iter().map(Change::Seen)).collect()
    }
}

fn version<K: Resource>(object: &K) -> Version {
    Version { uid: uid(object), resource_version: object.resource_version() }
}

fn uid<K: Resource>(object: &K) -> String {
    object.uid().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Namespace;
    use serde_json::json;

    use super::*;

    fn object(name: &str, uid: &str, version: u32) -> Namespace {
        let metadata = json!({ "name": name, "uid": uid, "resourceVersion": version.to_string() });
        serde_json::from_value(json!({ "metadata": metadata })).expect("it is a namespace")
    }

    fn seen(name: &str) -> Change<Namespace> {
        Change::Seen(ObjectRef::new(name))
    }

    fn gone(name: &str, uid: &str) -> Change<Namespace> {
        Change::Gone(ObjectRef::new(name), uid.to_owned())
    }

    /// Lists objects; nothing may be told before the list ends.
    fn list(shown: &mut Shown<Namespace>, objects: &[Namespace]) -> Vec<Change<Namespace>> {
        assert_eq!(shown.changes(&Event::Init), []);
        for object in objects {
            assert_eq!(shown.changes(&Event::InitApply(object.clone())), []);
        }
        let mut changes = shown.changes(&Event::InitDone);
        let is_seen = |change: &Change<_>| matches!(change, Change::Seen(_));
        assert!(changes.is_sorted_by_key(is_seen), "what is gone comes first: {changes:?}");
        changes.sort_by_key(|change| format!("{change:?}"));
        changes
    }

    #[test]
    fn a_list_tells_what_differs_and_only_at_its_end() {
        let mut shown = Shown::default();
        let [same, edited, lost, again] = [("same", 1), ("edited", 2), ("lost", 3), ("again", 4)]
            .map(|(name, version)| object(name, &format!("{name}-uid"), version));
        let first = [same.clone(), edited, lost, again];
        let all = ["again", "edited", "lost", "same"].map(seen);
        assert_eq!(list(&mut shown, &first), all);
        assert_eq!(list(&mut shown, &first), []);

        let edited = object("edited", "edited-uid", 9);
        let again = object("again", "another-uid", 8);
        let new = object("new", "new-uid", 7);
        let told = list(&mut shown, &[same, edited, again, new]);
        let expected = [
            gone("again", "again-uid"),
            gone("lost", "lost-uid"),
            seen("again"),
            seen("edited"),
            seen("new"),
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn a_list_that_broke_off_is_forgotten() {
        let mut shown = Shown::default();
        list(&mut shown, &[object("one", "one-uid", 1)]);
        shown.changes(&Event::Init);
        shown.changes(&Event::InitApply(object("two", "two-uid", 2)));
        assert_eq!(list(&mut shown, &[]), [gone("one", "one-uid")]);
    }

    #[test]
    fn a_watch_tells_each_change_at_once() {
        let mut shown = Shown::default();
        assert_eq!(shown.changes(&Event::Apply(object("one", "a", 1))), [seen("one")]);
        assert_eq!(shown.changes(&Event::Apply(object("one", "a", 2))), [seen("one")]);
        let another = shown.changes(&Event::Apply(object("one", "b", 3)));
        assert_eq!(another, [gone("one", "a"), seen("one")]);
        assert_eq!(shown.changes(&Event::Delete(object("one", "b", 4))), [gone("one", "b")]);
        assert_eq!(shown.changes(&Event::Delete(object("one", "b", 4))), []);
    }
}
