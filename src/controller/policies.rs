//! The policies of the cluster as they were last seen, and whom a change of one concerns.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock};

use futures::channel::oneshot;
use futures::{Stream, StreamExt};
use kube::ResourceExt as _;
use kube::runtime::reflector::ObjectRef;
use kube::runtime::watcher::Event;

use super::claims::Contact;
use super::gather::{World, uid_of};
use super::shown::{Change, Shown};
use crate::api::{ContactPolicy, MessageContact, parse};
use crate::domain::contact::Mode;
use crate::domain::policy::Policy;
use crate::plan::policy::{Place, concerns};

/// The policies that can be followed, by name. One that cannot, as its spec is of a later version,
/// demands nothing.
#[derive(Debug, Default)]
pub(super) struct Policies(RwLock<All>);

/// All policies at one moment.
pub(super) type All = Arc<BTreeMap<String, Arc<Policy>>>;

impl Policies {
    /// All of them now.
    pub(super) fn all(&self) -> All {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes a policy in, or forgets it. Returns what was known of that name before.
    pub(super) fn set(&self, name: &str, policy: Option<Arc<Policy>>) -> Option<Arc<Policy>> {
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let all = Arc::make_mut(&mut all);
        match policy {
            Some(policy) => all.insert(name.to_owned(), policy),
            None => all.remove(name),
        }
    }
}

/// Keeps the policies, and wakes the contacts that a change of one concerns. `indexed` is told once
/// all that were listed are known: before, no pass has begun, and every contact is woken anyhow.
pub(super) async fn watch(
    world: Arc<World>,
    events: impl Stream<Item = Event<ContactPolicy>>,
    indexed: oneshot::Sender<()>,
) {
    let mut shown = Shown::default();
    let mut indexed = Some(indexed);
    let mut events = std::pin::pin!(events);
    while let Some(event) = events.next().await {
        let is_listed = matches!(event, Event::InitDone);
        for change in shown.changes(&event) {
            if let Change::Gone(_, uid) = &change {
                world.open_reports.forget(uid);
            }
            let (Change::Gone(key, _) | Change::Seen(key)) = change;
            let object = world.policy_objects.get(&key);
            let after = object.and_then(|object| followed(&object));
            let before = world.policies.set(&key.name, after.clone());
            // Those that are listed at the start look at every contact together, once all are known.
            if before != after && indexed.is_none() {
                world.weigh_all(std::slice::from_ref(&key.name));
            }
            world.policy_waker.wake(key.clone());
            if indexed.is_none() {
                for contact in concerned(&world, before.as_deref(), after.as_deref()) {
                    world.contact_waker.wake(contact);
                }
            }
        }
        if is_listed && let Some(indexed) = indexed.take() {
            // Fails only if nobody waits any more.
            let _ = indexed.send(());
        }
    }
}

fn followed(object: &ContactPolicy) -> Option<Arc<Policy>> {
    let name = object.name_any();
    match parse::policy(&name, &object.spec) {
        Ok(policy) => Some(Arc::new(policy)),
        Err(problem) => {
            tracing::warn!(policy = name, %problem, "a policy cannot be followed");
            None
        }
    }
}

/// Whether both say the same of every single contact.
fn says_the_same(before: Option<&Policy>, after: Option<&Policy>) -> bool {
    let of_contacts = |policy: &Policy| {
        let Policy { name: _, enforcement, scope, contact, coverage: _, unmanaged_max: _ } = policy;
        (*enforcement, scope.clone(), contact.clone())
    };
    before.map(of_contacts) == after.map(of_contacts)
}

/// The contacts of which a policy speaks, or spoke, and those that compete with one of them: whether
/// its claim counts depends on policies. Nobody, if it says the same of every single contact.
pub(super) fn concerned(
    world: &World,
    before: Option<&Policy>,
    after: Option<&Policy>,
) -> HashSet<Contact> {
    if says_the_same(before, after) {
        return HashSet::new();
    }
    let policies = [before, after];
    let contacts = world.contacts.state();
    let spoken_of = contacts.iter().filter(|object| is_spoken_of(world, object, &policies));
    let concerned = spoken_of.flat_map(|object| {
        let rivals = world.claims().rivals(&uid_of(object));
        rivals.into_iter().chain([ObjectRef::from_obj(object.as_ref())])
    });
    concerned.collect()
}

fn is_spoken_of(world: &World, object: &MessageContact, policies: &[Option<&Policy>]) -> bool {
    let labels = world.namespace_labels(&object.namespace().unwrap_or_default());
    let place = Place { directory: parse::directory_name(&object.spec), namespace_labels: &labels };
    // One whose mode is not acceptable says so whatever policies say.
    parse::mode(&object.spec) == Ok(Mode::Enforce)
        && policies.iter().flatten().any(|policy| concerns(policy, place))
}
