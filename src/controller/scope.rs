//! Which namespaces the operator sees, and one stream of events of all of them.

use std::collections::{BTreeSet, HashMap, HashSet};

use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::watcher::{Error, Event};
use kube::{Resource, ResourceExt};

/// The namespaces whose objects are seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// All of them.
    All,
    /// These only; at least one.
    Namespaces(BTreeSet<String>),
}

impl Scope {
    /// These namespaces, or all if none is named.
    #[must_use]
    pub fn of(namespaces: impl IntoIterator<Item = String>) -> Self {
        let named: BTreeSet<_> = namespaces.into_iter().filter(|name| !name.is_empty()).collect();
        if named.is_empty() { Self::All } else { Self::Namespaces(named) }
    }

    /// The events of all that is seen. `all` watches everything, `one` what belongs to a namespace.
    pub(super) fn events<K, S>(
        &self,
        all: impl FnOnce() -> S,
        one: impl Fn(&str) -> S,
    ) -> BoxStream<'static, Result<Event<K>, Error>>
    where
        K: Resource<DynamicType = ()> + Clone + Send + 'static,
        S: Stream<Item = Result<Event<K>, Error>> + Send + 'static,
    {
        match self {
            Self::All => all().boxed(),
            Self::Namespaces(namespaces) => {
                together(namespaces.iter().map(|namespace| one(namespace).boxed()).collect())
            }
        }
    }
}

/// A watch among others, by its number.
type Watch = usize;

/// Several watches as one. The first list of all comes as one list, once each has its own; a later
/// list of one of them as the changes that it shows, as a list would replace what others have.
struct Together<K: Resource<DynamicType = ()>> {
    /// What each watch has shown last.
    known: HashMap<ObjectRef<K>, (Watch, K)>,
    /// What the list under way has shown, by watch.
    lists: HashMap<Watch, HashSet<ObjectRef<K>>>,
    /// The watches whose first list is awaited.
    awaited: BTreeSet<Watch>,
}

fn together<K>(
    watches: Vec<BoxStream<'static, Result<Event<K>, Error>>>,
) -> BoxStream<'static, Result<Event<K>, Error>>
where
    K: Resource<DynamicType = ()> + Clone + Send + 'static,
{
    let mut state = Together::<K>::of(watches.len());
    let numbered = watches.into_iter().enumerate();
    let numbered = numbered.map(|(watch, events)| events.map(move |event| (watch, event)));
    stream::select_all(numbered)
        .flat_map(move |(watch, event)| {
            stream::iter(match event {
                Ok(event) => state.take(watch, event).into_iter().map(Ok).collect(),
                Err(error) => vec![Err(error)],
            })
        })
        .boxed()
}

impl<K: Resource<DynamicType = ()> + Clone> Together<K> {
    fn of(watches: usize) -> Self {
        let (known, lists) = (HashMap::new(), HashMap::new());
        Self { known, lists, awaited: (0..watches).collect() }
    }

    /// What all of them show now that one has shown this.
    fn take(&mut self, watch: Watch, event: Event<K>) -> Vec<Event<K>> {
        let shown = match event {
            Event::Init => {
                self.lists.insert(watch, HashSet::new());
                return Vec::new();
            }
            Event::InitApply(object) => {
                let key = ObjectRef::from_obj(&object);
                self.lists.entry(watch).or_default().insert(key.clone());
                let version = object.resource_version();
                let before = self.known.insert(key, (watch, object.clone()));
                // What a list repeats is no news.
                if before.is_some_and(|(_, before)| before.resource_version() == version) {
                    return Vec::new();
                }
                vec![Event::Apply(object)]
            }
            Event::InitDone => {
                let listed = self.lists.remove(&watch).unwrap_or_default();
                let is_gone = |key: &ObjectRef<K>, (of, _): &mut (Watch, K)| {
                    *of == watch && !listed.contains(key)
                };
                let gone: Vec<_> = self.known.extract_if(is_gone).collect();
                if self.awaited.remove(&watch) && self.awaited.is_empty() {
                    return self.first_list();
                }
                gone.into_iter().map(|(_, (_, object))| Event::Delete(object)).collect()
            }
            Event::Apply(object) => {
                self.known.insert(ObjectRef::from_obj(&object), (watch, object.clone()));
                vec![Event::Apply(object)]
            }
            Event::Delete(object) => {
                self.known.remove(&ObjectRef::from_obj(&object));
                vec![Event::Delete(object)]
            }
        };
        // What is told before the first list would be lost with it.
        if self.awaited.is_empty() { shown } else { Vec::new() }
    }

    fn first_list(&self) -> Vec<Event<K>> {
        let objects = self.known.values().map(|(_, object)| Event::InitApply(object.clone()));
        [Event::Init].into_iter().chain(objects).chain([Event::InitDone]).collect()
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::api::ObjectMeta;

    use super::*;

    fn object(namespace: &str, name: &str, version: u32) -> ConfigMap {
        let metadata = ObjectMeta {
            namespace: Some(namespace.to_owned()),
            name: Some(name.to_owned()),
            resource_version: Some(version.to_string()),
            ..ObjectMeta::default()
        };
        ConfigMap { metadata, ..ConfigMap::default() }
    }

    /// What all of them show, in one line.
    fn shown(events: &[Event<ConfigMap>]) -> String {
        let named = |what: &str, it: &ConfigMap| {
            let version = it.resource_version().unwrap_or_default();
            format!("{what} {}/{}@{version}", it.namespace().unwrap_or_default(), it.name_any())
        };
        let mut words: Vec<_> = events
            .iter()
            .map(|event| match event {
                Event::Init => "begins".to_owned(),
                Event::InitApply(it) => named("lists", it),
                Event::InitDone => "ends".to_owned(),
                Event::Apply(it) => named("has", it),
                Event::Delete(it) => named("lost", it),
            })
            .collect();
        if let [_, between @ .., _] = words.as_mut_slice() {
            between.sort();
        }
        words.join(", ")
    }

    #[test]
    fn the_first_lists_come_as_one_and_later_ones_as_what_they_change() {
        let mut all = Together::of(2);
        let mut check = |watch, events: &[Event<ConfigMap>], expected: &str| {
            let taken = events.iter().flat_map(|event| all.take(watch, event.clone()));
            assert_eq!(shown(&taken.collect::<Vec<_>>()), expected);
        };
        let lists = |objects: &[ConfigMap]| {
            let objects = objects.iter().cloned().map(Event::InitApply);
            [Event::Init].into_iter().chain(objects).chain([Event::InitDone]).collect::<Vec<_>>()
        };
        check(0, &lists(&[object("a", "one", 1), object("a", "two", 2)]), "");
        // Meanwhile, and not lost.
        check(
            0,
            &[Event::Apply(object("a", "three", 3)), Event::Delete(object("a", "one", 4))],
            "",
        );
        check(
            1,
            &lists(&[object("b", "one", 5)]),
            "begins, lists a/three@3, lists a/two@2, lists b/one@5, ends",
        );
        check(1, &[Event::Apply(object("b", "one", 6))], "has b/one@6");
        // One watch begins again: nothing is said of the other's.
        check(
            0,
            &lists(&[object("a", "two", 7), object("a", "four", 8)]),
            "has a/two@7, has a/four@8, lost a/three@3",
        );
        check(0, &lists(&[object("a", "two", 7), object("a", "four", 8)]), "");
        check(1, &lists(&[]), "lost b/one@6");
    }

    #[test]
    fn a_first_list_that_is_begun_again_counts_as_it_was_last() {
        let mut all = Together::of(2);
        for event in [
            Event::Init,
            Event::InitApply(object("a", "old", 1)),
            Event::Init,
            Event::InitApply(object("a", "new", 2)),
            Event::InitDone,
        ] {
            assert!(all.take(0, event).is_empty());
        }
        assert!(all.take(1, Event::Init).is_empty());
        assert_eq!(shown(&all.take(1, Event::InitDone)), "begins, lists a/new@2, ends");
    }

    #[test]
    fn no_namespace_is_all_of_them() {
        assert_eq!(Scope::of([String::new()]), Scope::All);
        let two = ["b", "a", "b"].map(str::to_owned);
        let named = BTreeSet::from(["a", "b"].map(str::to_owned));
        assert_eq!(Scope::of(two), Scope::Namespaces(named));
    }
}
