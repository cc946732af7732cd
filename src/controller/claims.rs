//! Who holds which contact, and who wants which name: an index over all `MessageContact` objects.
//!
//! A contact belongs to the object whose status holds its id. The index answers in time that does
//! not depend on how many objects there are; whether an object *may* act is asked of the object.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;

use kube::runtime::reflector::ObjectRef;

use crate::api::MessageContact;
use crate::domain::contact::{ContactId, ContactName, DirectoryId, Uid};

/// An object, as the queue knows it.
pub(super) type Contact = ObjectRef<MessageContact>;

/// What one object holds and wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Claim {
    /// Which object.
    pub(super) object: Contact,
    /// The contact that its status holds, and in which directory.
    pub(super) holds: Option<(DirectoryId, ContactId)>,
    /// The name of the ResourceDirectory that it refers to.
    pub(super) directory: String,
    /// The name that it wants.
    pub(super) wants: ContactName,
    /// The name of an open intent.
    pub(super) intent: Option<ContactName>,
}

/// The index.
#[derive(Debug, Default)]
pub(super) struct Claims {
    by_uid: HashMap<Uid, Claim>,
    by_contact: HashMap<(DirectoryId, ContactId), BTreeSet<Uid>>,
    by_name: HashMap<(String, String), BTreeSet<Uid>>,
    by_directory: HashMap<String, BTreeSet<Uid>>,
    reserved: HashMap<(DirectoryId, ContactId), Uid>,
}

impl Claims {
    /// Takes in what an object holds and wants now. Returns the objects that may be concerned:
    /// those that want a name which this one has, took, wanted or set free. They may be concerned
    /// even if the claim is the same: whether it counts depends on the object.
    pub(super) fn set(&mut self, uid: &Uid, claim: Claim) -> Vec<Contact> {
        if self.by_uid.get(uid) == Some(&claim) {
            return self.wanting_names_of(&claim, uid);
        }
        let mut concerned = self.remove(uid);
        if let Some(held) = &claim.holds {
            self.by_contact.entry(held.clone()).or_default().insert(uid.clone());
            if self.reserved.get(held) == Some(uid) {
                self.reserved.remove(held);
            }
        }
        for key in name_keys(&claim) {
            self.by_name.entry(key).or_default().insert(uid.clone());
        }
        self.by_directory.entry(claim.directory.clone()).or_default().insert(uid.clone());
        concerned.extend(self.wanting_names_of(&claim, uid));
        self.by_uid.insert(uid.clone(), claim);
        concerned
    }

    /// Forgets an object. Returns the objects that may be concerned.
    pub(super) fn remove(&mut self, uid: &Uid) -> Vec<Contact> {
        let Some(claim) = self.by_uid.remove(uid) else { return Vec::new() };
        if let Some(held) = &claim.holds {
            take_out(&mut self.by_contact, held, uid);
        }
        for key in name_keys(&claim) {
            take_out(&mut self.by_name, &key, uid);
        }
        take_out(&mut self.by_directory, &claim.directory, uid);
        self.wanting_names_of(&claim, uid)
    }

    /// Forgets what was set aside for an object that is gone.
    pub(super) fn unreserve(&mut self, uid: &Uid) {
        self.reserved.retain(|_, holder| holder != uid);
    }

    /// The objects that hold a contact, `but` this one; a reserved contact counts as held.
    pub(super) fn holders(
        &self,
        directory: &DirectoryId,
        contact: &ContactId,
        but: &Uid,
    ) -> Vec<Contact> {
        let key = (directory.clone(), contact.clone());
        let stored = self.by_contact.get(&key).into_iter().flatten();
        let reserved = self.reserved.get(&key);
        let others: BTreeSet<&Uid> = stored.chain(reserved).filter(|uid| *uid != but).collect();
        others.into_iter().filter_map(|uid| self.object(uid)).collect()
    }

    /// Sets a contact aside for an object whose status is about to hold it. `false` if another
    /// object holds it or was faster.
    pub(super) fn reserve(
        &mut self,
        directory: &DirectoryId,
        contact: &ContactId,
        uid: &Uid,
    ) -> bool {
        if !self.holders(directory, contact, uid).is_empty() {
            return false;
        }
        self.reserved.insert((directory.clone(), contact.clone()), uid.clone());
        true
    }

    /// The objects that hold a contact, whoever they are.
    pub(super) fn holding(&self, contact: &ContactId, directories: &[DirectoryId]) -> Vec<Contact> {
        let sets = directories
            .iter()
            .filter_map(|directory| self.by_contact.get(&(directory.clone(), contact.clone())));
        sets.flatten().filter_map(|uid| self.object(uid)).collect()
    }

    /// The objects that want a name of a directory, or have an intent of that name open.
    pub(super) fn wanting(&self, directory: &str, folded_name: &str) -> Vec<(Uid, Contact)> {
        let uids = self.by_name.get(&(directory.to_owned(), folded_name.to_owned()));
        uids.into_iter()
            .flatten()
            .filter_map(|uid| Some((uid.clone(), self.object(uid)?)))
            .collect()
    }

    /// The objects that refer to a directory.
    pub(super) fn of_directory(&self, directory: &str) -> Vec<Contact> {
        let uids = self.by_directory.get(directory);
        uids.into_iter().flatten().filter_map(|uid| self.object(uid)).collect()
    }

    fn object(&self, uid: &Uid) -> Option<Contact> {
        self.by_uid.get(uid).map(|claim| claim.object.clone())
    }

    fn wanting_names_of(&self, claim: &Claim, but: &Uid) -> Vec<Contact> {
        let names = name_keys(claim);
        let wanting = names.iter().flat_map(|(directory, name)| self.wanting(directory, name));
        wanting.filter(|(uid, _)| uid != but).map(|(_, object)| object).collect()
    }
}

fn name_keys(claim: &Claim) -> BTreeSet<(String, String)> {
    let names = std::iter::once(&claim.wants).chain(&claim.intent);
    names.map(|name| (claim.directory.clone(), name.folded())).collect()
}

fn take_out<K: Eq + Hash + Clone>(index: &mut HashMap<K, BTreeSet<Uid>>, key: &K, uid: &Uid) {
    if let Some(uids) = index.get_mut(key) {
        uids.remove(uid);
        if uids.is_empty() {
            index.remove(key);
        }
    }
}
