//! What each policy has found, contact by contact, kept up to date as contacts change: one that
//! changes costs the policies that speak of it, however many other contacts there are.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt as _;
use kube::runtime::reflector::ObjectRef;

use super::claims::Contact;
use super::gather::{World, uid_of};
use crate::api::values::Value;
use crate::api::{ContactPolicy, MessageContact, parse};
use crate::domain::call::CallError;
use crate::domain::contact::{ContactId, DirectoryId, MessageType, Title, Uid};
use crate::domain::policy::{Candidate, Policy};
use crate::domain::snapshot::Sight;
use crate::plan::coverage::{Covering, Tally, Tree, needs_tree};
use crate::plan::policy::{self, Judged, Place};

/// How much later than a contact its policies are looked at.
const LATE_BY: SignedDuration = SignedDuration::from_secs(2);

/// The standings of all policies that can be followed.
#[derive(Debug, Default)]
pub(super) struct Standings {
    inner: Mutex<Inner>,
    /// One a directory, held while its accounts are listed: several policies may need the same.
    listing: Mutex<HashMap<DirectoryId, Arc<tokio::sync::Mutex<()>>>>,
}

#[derive(Debug, Default)]
struct Inner {
    by_policy: BTreeMap<String, Standing>,
    /// What is known of the accounts of each directory. By its identity: another directory under
    /// the same name has other accounts.
    accounts: HashMap<DirectoryId, Accounts>,
    /// How many looks at every contact are under way.
    looks: u32,
    /// The contacts that were looked at since the first of these looks began.
    looked_at_meanwhile: HashSet<Key>,
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

/// Namespace and name of a MessageContact; shared by all policies that speak of it.
pub(super) type Key = Arc<(String, String)>;

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
    /// What every policy finds.
    pub(super) contact: Arc<Known>,
    /// What is not as this one demands; `None`: it is not judged.
    pub(super) judged: Option<Judged>,
}

impl Found {
    /// Whether the policy speaks of the address, which is not known, and nothing else is violated.
    pub(super) fn is_unknown(&self) -> bool {
        self.judged.as_ref().is_some_and(|it| it.waits_for_email && it.violated.is_empty())
    }
}

/// What is the same of a contact for every policy.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Known {
    /// Which object it is.
    pub(super) uid: Uid,
    /// Its ResourceDirectory.
    pub(super) directory: String,
    /// The address is still being read: it will be known in a moment.
    pub(super) unread: bool,
    /// What it gives, once it is in the cloud.
    pub(super) given: Option<Given>,
}

/// What a contact gives.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Given {
    /// The directory in which it is.
    pub(super) directory: DirectoryId,
    /// As far as coverage is concerned.
    pub(super) covering: Covering,
}

/// A look of some policies at every contact.
pub(super) struct Look {
    found: Vec<(Arc<Policy>, BTreeMap<Key, Found>)>,
    /// How often a contact was judged.
    judged: u64,
}

impl Standings {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at the standing of a policy.
    pub(super) fn with<T>(&self, policy: &str, look: impl FnOnce(&Standing) -> T) -> Option<T> {
        self.inner().by_policy.get(policy).map(look)
    }

    /// Held by whoever lists the accounts of a directory.
    pub(super) fn listing(&self, directory: &DirectoryId) -> Arc<tokio::sync::Mutex<()>> {
        let mut listing = self.listing.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(listing.entry(directory.clone()).or_default())
    }

    /// What became of asking where the accounts of a directory stand.
    pub(super) fn asked(&self, directory: &DirectoryId) -> Asked {
        let inner = self.inner();
        inner.accounts.get(directory).map(|known| known.asked.clone()).unwrap_or_default()
    }

    /// Notes that the API has refused to tell it.
    pub(super) fn note_failure(&self, directory: &DirectoryId, error: CallError, now: Timestamp) {
        let mut inner = self.inner();
        let known = inner.accounts.entry(directory.clone()).or_default();
        known.asked.failed = Some((now, error));
    }

    /// Takes in where the accounts of a directory stand. Returns the policies that are concerned.
    pub(super) fn set_tree(
        &self,
        directory: &DirectoryId,
        tree: Tree,
        now: Timestamp,
    ) -> Vec<String> {
        let mut inner = self.inner();
        let Inner { by_policy, accounts, .. } = &mut *inner;
        let next = Accounts { tree, asked: Asked { told: Some(now), failed: None } };
        let before = accounts.insert(directory.clone(), next);
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

impl Inner {
    /// Takes in what is known of a contact now; `None`: it is gone. Returns the policies for which
    /// that is news.
    fn take_in(&mut self, key: &Key, seen: Option<&Seen>) -> Vec<String> {
        let Self { by_policy, accounts, judged, .. } = self;
        let mut news = Vec::new();
        for (name, standing) in by_policy {
            let found = seen.and_then(|seen| seen.by(&standing.policy));
            *judged += u64::from(found.is_some());
            if standing.set(accounts, key, found) {
                news.push(name.clone());
            }
        }
        news
    }
}

impl Standing {
    /// What every contact gives that is found, counted.
    fn new(
        policy: Arc<Policy>,
        found: BTreeMap<Key, Found>,
        accounts: &HashMap<DirectoryId, Accounts>,
    ) -> Self {
        let mut standing = Self { policy, found, tally: Tally::default() };
        standing.count_anew(accounts);
        standing
    }

    /// Takes in what is found of a contact now. Returns whether that is news.
    fn set(
        &mut self,
        accounts: &HashMap<DirectoryId, Accounts>,
        key: &Key,
        found: Option<Found>,
    ) -> bool {
        let before = match &found {
            Some(found) => self.found.insert(Arc::clone(key), found.clone()),
            None => self.found.remove(key),
        };
        if before == found {
            return false;
        }
        let rules = &self.policy.coverage;
        if let Some(Given { directory, covering }) = before.as_ref().and_then(given) {
            self.tally.take(rules, &tree_of(accounts, directory), covering);
        }
        if let Some(Given { directory, covering }) = found.as_ref().and_then(given) {
            self.tally.add(rules, &tree_of(accounts, directory), covering);
        }
        true
    }

    fn count_anew(&mut self, accounts: &HashMap<DirectoryId, Accounts>) {
        self.tally = Tally::default();
        for Given { directory, covering } in self.found.values().filter_map(given) {
            self.tally.add(&self.policy.coverage, &tree_of(accounts, directory), covering);
        }
    }
}

fn given(found: &Found) -> Option<&Given> {
    found.contact.given.as_ref()
}

fn tree_of<'a>(
    accounts: &'a HashMap<DirectoryId, Accounts>,
    directory: &DirectoryId,
) -> Cow<'a, Tree> {
    accounts.get(directory).map_or_else(Cow::default, |known| Cow::Borrowed(&known.tree))
}

impl World {
    /// Has the policies look at a contact as it is now, and wakes those for which that is news.
    pub(super) fn weigh(&self, contact: &Contact) {
        if self.policies.all().is_empty() {
            return;
        }
        let key = key_of(contact);
        // From before the contact is looked at: another look may be under way.
        let mut inner = self.standings.inner();
        if inner.looks > 0 {
            inner.looked_at_meanwhile.insert(Arc::clone(&key));
        }
        let seen = self.object(contact).map(|object| Seen::of(self, &object));
        let before = inner.judged;
        let news = inner.take_in(&key, seen.as_ref());
        let judged = inner.judged - before;
        drop(inner);
        tracing::trace!(judged, "policies have looked at a contact");
        self.wake_policies(news);
    }

    /// Has these policies look at every contact, as all are now. One that is gone, or cannot be
    /// followed, is forgotten. Single contacts may be looked at meanwhile.
    pub(super) fn weigh_all(&self, names: &[String]) {
        let look = self.look_at_all(names);
        self.take_over(look);
    }

    /// Looks at every contact, as all are now. It MUST be taken over, whatever happens meanwhile.
    pub(super) fn look_at_all(&self, names: &[String]) -> Look {
        self.standings.inner().looks += 1;
        let all = self.policies.all();
        let followed = names.iter().filter_map(|name| all.get(name));
        let mut look = Look {
            found: followed.map(|policy| (Arc::clone(policy), BTreeMap::new())).collect(),
            judged: 0,
        };
        for object in self.contacts.state() {
            let key = key_of(&ObjectRef::from_obj(object.as_ref()));
            let seen = Seen::of(self, &object);
            for (policy, found) in &mut look.found {
                if let Some(it) = seen.by(policy) {
                    look.judged += 1;
                    found.insert(Arc::clone(&key), it);
                }
            }
        }
        look
    }

    /// Takes over what was found, as far as it still holds.
    pub(super) fn take_over(&self, look: Look) {
        tracing::trace!(judged = look.judged, "policies have looked at every contact");
        let mut inner = self.standings.inner();
        inner.judged += look.judged;
        let now = self.policies.all();
        inner.by_policy.retain(|name, _| now.contains_key(name));
        for (policy, found) in look.found {
            // Of one that was changed meanwhile, whoever changed it looks as well.
            if now.get(&policy.name).is_some_and(|current| Arc::ptr_eq(current, &policy)) {
                let standing = Standing::new(policy, found, &inner.accounts);
                inner.by_policy.insert(standing.policy.name.clone(), standing);
            }
        }
        let news = self.look_once_more(&mut inner);
        drop(inner);
        self.wake_policies(news);
    }

    /// At the end of a look at every contact: those that changed meanwhile may have been looked at
    /// before.
    fn look_once_more(&self, inner: &mut Inner) -> Vec<String> {
        inner.looks -= 1;
        let changed = if inner.looks == 0 {
            std::mem::take(&mut inner.looked_at_meanwhile)
        } else {
            inner.looked_at_meanwhile.clone()
        };
        let news = changed.iter().flat_map(|key| {
            let contact = ObjectRef::new(&key.1).within(&key.0);
            let seen = self.object(&contact).map(|object| Seen::of(self, &object));
            inner.take_in(key, seen.as_ref())
        });
        news.collect()
    }

    /// Looks at policies in a moment: many contacts change together.
    pub(super) fn wake_policies(&self, names: impl IntoIterator<Item = String>) {
        let Ok(late) = self.clock.now().saturating_add(LATE_BY) else { return };
        for name in names {
            self.policy_waker.wake_by(ObjectRef::<ContactPolicy>::new(&name), late);
        }
    }

    /// Whether the directory, which was listed, shows no such contact any more.
    fn misses(&self, name: &str, directory: &DirectoryId, contact: &ContactId) -> bool {
        let Some(runtime) = self.directory(name) else { return false };
        runtime.with_snapshot(|snapshot| {
            let is_it = snapshot.identity().is_some_and(|it| it.directory_id == *directory);
            let is_listed = snapshot.lists().last.is_some();
            is_it && is_listed && !matches!(snapshot.sight(contact), Sight::Known(_))
        })
    }
}

fn key_of(contact: &Contact) -> Key {
    Arc::new((contact.namespace.clone().unwrap_or_default(), contact.name.clone()))
}

/// A contact, as policies look at it.
struct Seen {
    /// What its spec asks for; `None`: it is not acceptable, and says so itself.
    candidate: Option<Candidate>,
    labels: BTreeMap<String, String>,
    known: Arc<Known>,
}

impl Seen {
    fn of(world: &World, object: &MessageContact) -> Self {
        let uid = uid_of(object);
        let values = world.values(object, &uid);
        let unread = object.spec.email_address_from.is_some()
            && values.email == Value::Unread
            && world.needs_values(object);
        let leaves = object.metadata.deletion_timestamp.is_some();
        let known = Known {
            uid,
            directory: parse::directory_name(&object.spec).to_owned(),
            unread,
            given: given_by(world, object).filter(|_| !leaves),
        };
        Self {
            candidate: parse::candidate(&object.spec, &values).ok().filter(|_| !leaves),
            labels: world.namespace_labels(&object.namespace().unwrap_or_default()),
            known: Arc::new(known),
        }
    }

    /// What a policy finds; `None` if it does not speak of the contact.
    fn by(&self, policy: &Policy) -> Option<Found> {
        let place = Place { directory: &self.known.directory, namespace_labels: &self.labels };
        // Whoever writes nothing is not judged, but hears of messages all the same.
        policy::concerns(policy, place).then(|| Found {
            contact: Arc::clone(&self.known),
            judged: self.candidate.as_ref().and_then(|it| policy::judged_by(policy, it, place)),
        })
    }
}

/// What a contact gives, as our status has it from the cloud; `None` while it is not there. Where
/// nothing may be done for it, the status keeps what was seen last: the directory tells whether it
/// is still there.
fn given_by(world: &World, object: &MessageContact) -> Option<Given> {
    let status = object.status.as_ref()?;
    let observed = status.observed.as_ref()?;
    let id = status.contact_id.as_ref()?;
    let directory = DirectoryId(status.directory_id.clone()?);
    if world.misses(parse::directory_name(&object.spec), &directory, &ContactId(id.clone())) {
        return None;
    }
    let email = status.verification.as_ref().and_then(|known| known.email.as_ref());
    let target = email.and_then(|email| email.target.clone());
    let in_force = email.and_then(|email| email.verified_target.clone());
    let in_force_is_known = in_force.is_some();
    let words = observed.message_types.iter();
    let covering = Covering {
        title: Title::from_word(&observed.title),
        message_types: words.filter_map(|word| MessageType::from_word(word)).collect(),
        members: observed.members.iter().map(|id| id.as_str().into()).collect(),
        // The one in force, also while another waits. One of which nothing is recorded is nobody
        // else.
        mailbox: in_force.or(target).unwrap_or_else(|| id.clone()),
        verified: in_force_is_known,
    };
    Some(Given { directory, covering })
}
