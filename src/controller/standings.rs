//! What each policy has found, contact by contact, kept up to date as contacts change: one that
//! changes costs the policies that speak of it, however many other contacts there are.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt as _;
use kube::runtime::reflector::ObjectRef;

use super::claims::Contact;
use super::gather::{World, uid_of};
use crate::api::values::Value;
use crate::api::{ContactPolicy, MessageContact, parse};
use crate::domain::call::CallError;
use crate::domain::contact::{MessageType, Title};
use crate::domain::policy::{Candidate, Policy};
use crate::plan::coverage::{Covering, Tally, Tree, needs_tree};
use crate::plan::policy::{self, Place, Violation};

/// How much later than a contact its policies are looked at.
const LATE_BY: SignedDuration = SignedDuration::from_secs(2);

/// The standings of all policies that can be followed.
#[derive(Debug, Default)]
pub(super) struct Standings {
    inner: Mutex<Inner>,
    /// Held while accounts are listed: several policies may need the same.
    pub(super) listing: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Inner {
    by_policy: BTreeMap<String, Standing>,
    /// What is known of the accounts of each ResourceDirectory, by its name.
    accounts: HashMap<String, Accounts>,
    /// How often a contact was judged by a policy.
    judged: u64,
}

/// What is known of the accounts of a directory.
#[derive(Debug, Default)]
struct Accounts {
    /// Where they stand; nothing as long as that was not told.
    tree: Tree,
    asked: Asked,
}

/// What became of asking where accounts stand.
#[derive(Debug, Clone, Default)]
pub(super) struct Asked {
    /// When it was told.
    pub(super) told: Option<Timestamp>,
    /// When it was asked in vain since, and why it was not told.
    pub(super) failed: Option<(Timestamp, CallError)>,
}

/// Namespace and name of a MessageContact.
pub(super) type Key = (String, String);

/// What one policy has found.
#[derive(Debug)]
pub(super) struct Standing {
    /// The policy.
    pub(super) policy: Arc<Policy>,
    /// The contacts that it speaks of.
    pub(super) found: BTreeMap<Key, Found>,
    /// What they give together.
    pub(super) tally: Tally,
}

/// What a policy has found of one contact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    /// The ResourceDirectory of the contact.
    pub(super) directory: Arc<str>,
    /// What is not as demanded; `None`: it is not judged.
    pub(super) violations: Option<Vec<Violation>>,
    /// It speaks of the address, and that stands in a Secret and is not known.
    pub(super) unknown: bool,
    /// The address is still being read: it will be known in a moment.
    pub(super) unread: bool,
    /// What it gives, once it is in the cloud.
    pub(super) covering: Option<Arc<Covering>>,
}

impl Standings {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at the standing of a policy.
    pub(super) fn with<T>(&self, policy: &str, look: impl FnOnce(&Standing) -> T) -> Option<T> {
        self.inner().by_policy.get(policy).map(look)
    }

    /// What became of asking where the accounts of a ResourceDirectory stand.
    pub(super) fn asked(&self, directory: &str) -> Asked {
        let inner = self.inner();
        inner.accounts.get(directory).map(|known| known.asked.clone()).unwrap_or_default()
    }

    /// Notes that the API has refused to tell it.
    pub(super) fn note_failure(&self, directory: &str, error: CallError, now: Timestamp) {
        let mut inner = self.inner();
        let known = inner.accounts.entry(directory.to_owned()).or_default();
        known.asked.failed = Some((now, error));
    }

    /// Takes in where the accounts of a ResourceDirectory stand. Returns the policies that are
    /// concerned.
    pub(super) fn set_tree(&self, directory: &str, tree: Tree, now: Timestamp) -> Vec<String> {
        let mut inner = self.inner();
        let Inner { by_policy, accounts, judged: _ } = &mut *inner;
        let next = Accounts { tree, asked: Asked { told: Some(now), failed: None } };
        let before = accounts.insert(directory.to_owned(), next);
        if before.is_some_and(|before| before.tree == accounts[directory].tree) {
            return Vec::new();
        }
        let needing = by_policy.iter_mut();
        let needing = needing.filter(|(_, standing)| needs_tree(&standing.policy.coverage));
        needing
            .map(|(name, standing)| {
                standing.count_anew(accounts);
                name.clone()
            })
            .collect()
    }

    /// How often a contact was judged by a policy.
    #[cfg(test)]
    pub(super) fn judged(&self) -> u64 {
        self.inner().judged
    }
}

impl Standing {
    /// Takes in what is found of a contact now. Returns whether that is news.
    fn set(
        &mut self,
        accounts: &HashMap<String, Accounts>,
        key: &Key,
        found: Option<Found>,
    ) -> bool {
        let before = match &found {
            Some(found) => self.found.insert(key.clone(), found.clone()),
            None => self.found.remove(key),
        };
        if before == found {
            return false;
        }
        let rules = &self.policy.coverage;
        if let Some((directory, covering)) = before.as_ref().and_then(gives) {
            self.tally.take(rules, &tree_of(accounts, directory), covering);
        }
        if let Some((directory, covering)) = found.as_ref().and_then(gives) {
            self.tally.add(rules, &tree_of(accounts, directory), covering);
        }
        true
    }

    fn count_anew(&mut self, accounts: &HashMap<String, Accounts>) {
        self.tally = Tally::default();
        for (directory, covering) in self.found.values().filter_map(gives) {
            self.tally.add(&self.policy.coverage, &tree_of(accounts, directory), covering);
        }
    }
}

/// What a contact gives, and in which directory.
fn gives(found: &Found) -> Option<(&str, &Covering)> {
    found.covering.as_deref().map(|covering| (&*found.directory, covering))
}

fn tree_of<'a>(accounts: &'a HashMap<String, Accounts>, directory: &str) -> Cow<'a, Tree> {
    accounts.get(directory).map_or_else(Cow::default, |known| Cow::Borrowed(&known.tree))
}

impl World {
    /// Has the policies look at a contact as it is now, and wakes those for which that is news.
    pub(super) fn weigh(&self, contact: &Contact) {
        let policies = self.policies.all();
        if policies.is_empty() {
            return;
        }
        let key = key_of(contact);
        // From before the contact is looked at: another look may be under way.
        let mut inner = self.standings.inner();
        let seen = self.object(contact).map(|object| Seen::of(self, &object));
        let Inner { by_policy, accounts, judged } = &mut *inner;
        let mut news = Vec::new();
        for (name, standing) in by_policy {
            let found = seen.as_ref().and_then(|seen| seen.by(&standing.policy, judged));
            if standing.set(accounts, &key, found) {
                news.push(name.clone());
            }
        }
        drop(inner);
        self.wake_policies(news);
    }

    /// Has a policy look at every contact, as both are now. One that is gone, or cannot be followed,
    /// is forgotten.
    pub(super) fn weigh_all(&self, name: &str) {
        // From before anything is looked at: what it has become since comes after.
        let mut inner = self.standings.inner();
        let Inner { by_policy, accounts, judged } = &mut *inner;
        let policies = self.policies.all();
        let Some(policy) = policies.get(name) else {
            by_policy.remove(name);
            return;
        };
        let found = self.contacts.state().into_iter().filter_map(|object| {
            let key = key_of(&ObjectRef::from_obj(object.as_ref()));
            Some((key, Seen::of(self, &object).by(policy, judged)?))
        });
        let (policy, found) = (Arc::clone(policy), found.collect());
        let mut standing = Standing { policy, found, tally: Tally::default() };
        standing.count_anew(accounts);
        by_policy.insert(name.to_owned(), standing);
    }

    /// Looks at policies in a moment: many contacts change together.
    pub(super) fn wake_policies(&self, names: impl IntoIterator<Item = String>) {
        let Ok(late) = self.clock.now().saturating_add(LATE_BY) else { return };
        for name in names {
            self.policy_waker.wake_by(ObjectRef::<ContactPolicy>::new(&name), late);
        }
    }
}

fn key_of(contact: &Contact) -> Key {
    (contact.namespace.clone().unwrap_or_default(), contact.name.clone())
}

/// A contact, as policies look at it.
struct Seen {
    /// What its spec asks for; `None`: it is not acceptable, and says so itself.
    candidate: Option<Candidate>,
    unread: bool,
    directory: Arc<str>,
    labels: BTreeMap<String, String>,
    covering: Option<Arc<Covering>>,
}

impl Seen {
    fn of(world: &World, object: &MessageContact) -> Self {
        let values = world.values(object, &uid_of(object));
        let unread = object.spec.email_address_from.is_some()
            && values.email == Value::Unread
            && world.needs_values(object);
        let leaves = object.metadata.deletion_timestamp.is_some();
        Self {
            candidate: parse::candidate(&object.spec, &values).ok().filter(|_| !leaves),
            unread,
            directory: parse::directory_name(&object.spec).into(),
            labels: world.namespace_labels(&object.namespace().unwrap_or_default()),
            covering: covering_of(object).filter(|_| !leaves).map(Arc::new),
        }
    }

    /// What a policy finds; `None` if it does not speak of the contact.
    fn by(&self, policy: &Policy, judged: &mut u64) -> Option<Found> {
        let place = Place { directory: &self.directory, namespace_labels: &self.labels };
        if !policy::concerns(policy, place) {
            return None;
        }
        *judged += 1;
        // Whoever writes nothing is not judged, but hears of messages all the same.
        let candidate = self.candidate.as_ref();
        let opinion = candidate.and_then(|it| policy::judge([policy], it, place).pop());
        let unknown =
            opinion.as_ref().is_some_and(|it| it.waits_for_email && it.violations.is_empty());
        let violations = opinion.map(|opinion| opinion.violations);
        let covering = self.covering.clone();
        let unread = self.unread;
        Some(Found {
            directory: Arc::clone(&self.directory),
            violations,
            unknown,
            unread,
            covering,
        })
    }
}

/// What a contact gives, as our status has it from the cloud; `None` while it is not there.
fn covering_of(object: &MessageContact) -> Option<Covering> {
    let status = object.status.as_ref()?;
    let observed = status.observed.as_ref()?;
    let id = status.contact_id.as_ref()?;
    let email = status.verification.as_ref().and_then(|known| known.email.as_ref());
    let target = email.and_then(|email| email.target.clone());
    let in_force = email.and_then(|email| email.verified_target.clone());
    let in_force_is_known = in_force.is_some();
    let words = observed.message_types.iter();
    Some(Covering {
        title: Title::from_word(&observed.title),
        message_types: words.filter_map(|word| MessageType::from_word(word)).collect(),
        members: observed.members.iter().map(|id| id.as_str().into()).collect(),
        // The one in force, also while another waits. One of which nothing is recorded is nobody
        // else.
        mailbox: in_force.or(target).unwrap_or_else(|| id.clone()),
        verified: in_force_is_known,
    })
}
