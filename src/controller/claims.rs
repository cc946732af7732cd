//! Who holds which contact, and who wants which name: an index over all `MessageContact` objects.
//!
//! A contact belongs to the object whose status holds its id. The index answers in time that does
//! not depend on how many objects there are; whether an object *may* act is asked of the object.

use std::collections::{BTreeSet, HashMap, HashSet};
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
    /// The directory in which it holds a contact or has an intent open.
    pub(super) lives_in: Option<DirectoryId>,
    /// Whether our finalizer stands on it.
    pub(super) finalizer: bool,
    /// The name of the ResourceDirectory that it refers to.
    pub(super) directory: String,
    /// The name that it wants.
    pub(super) wants: ContactName,
    /// The name of an open intent.
    pub(super) intent: Option<ContactName>,
    /// Which spec it has: whether its claim counts depends on more of it than the name.
    pub(super) generation: Option<i64>,
    /// It is on its way out, and a name that it holds will be free.
    pub(super) deleting: bool,
    /// The owner of its mailbox has confirmed it.
    pub(super) verified: bool,
}

/// The objects that need a directory: those with our finalizer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Needing {
    /// How many.
    pub(super) all: usize,
    /// How many of them are being deleted.
    pub(super) deleting: usize,
}

/// The index.
#[derive(Debug, Default)]
pub(super) struct Claims {
    by_uid: HashMap<Uid, Claim>,
    by_contact: HashMap<(DirectoryId, ContactId), BTreeSet<Uid>>,
    by_name: HashMap<(String, String), BTreeSet<Uid>>,
    by_directory: HashMap<String, BTreeSet<Uid>>,
    by_namespace: HashMap<String, BTreeSet<Uid>>,
    reserved: HashMap<(DirectoryId, ContactId), Reservation>,
}

/// A contact that is set aside for an object whose status is about to hold it.
#[derive(Debug)]
struct Reservation {
    uid: Uid,
    /// The version that the status is written over. Nothing is stored over any other, so that a
    /// newer one which does not hold the contact ends the reservation.
    version: u64,
}

/// Whether a contact was set aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SetAside {
    /// Now.
    Now,
    /// Before, for a write that was not answered: it may be stored yet.
    Before,
    /// Not at all: another object holds it or was faster, or this one is gone.
    Refused,
}

impl Claims {
    /// Takes in what an object holds and wants now. Returns the objects that may be concerned:
    /// those that want a name which this one has, took, wanted or set free, also if all that
    /// changed is whether its claim counts. Nobody is concerned if nothing changed.
    pub(super) fn set(&mut self, uid: &Uid, claim: Claim) -> Vec<Contact> {
        if self.by_uid.get(uid) == Some(&claim) {
            return Vec::new();
        }
        let mut concerned = self.take(uid);
        if let Some(held) = &claim.holds {
            self.by_contact.entry(held.clone()).or_default().insert(uid.clone());
            if self.reserved.get(held).is_some_and(|reserved| reserved.uid == *uid) {
                self.reserved.remove(held);
            }
        }
        for key in name_keys(&claim) {
            self.by_name.entry(key).or_default().insert(uid.clone());
        }
        self.by_directory.entry(claim.directory.clone()).or_default().insert(uid.clone());
        self.by_namespace.entry(namespace(&claim)).or_default().insert(uid.clone());
        concerned.extend(self.wanting_names_of(&claim, uid));
        self.by_uid.insert(uid.clone(), claim);
        concerned
    }

    /// Whether somebody has edited or deleted an object since it was taken in.
    pub(super) fn has_other_spec(&self, uid: &Uid, claim: &Claim) -> bool {
        let known = self.by_uid.get(uid);
        known.is_none_or(|known| {
            (known.generation, known.deleting) != (claim.generation, claim.deleting)
        })
    }

    /// Forgets an object that is gone, and what was set aside for it. Returns the objects that may
    /// be concerned.
    pub(super) fn remove(&mut self, uid: &Uid) -> Vec<Contact> {
        self.reserved.retain(|_, reserved| reserved.uid != *uid);
        self.take(uid)
    }

    fn take(&mut self, uid: &Uid) -> Vec<Contact> {
        let Some(claim) = self.by_uid.remove(uid) else { return Vec::new() };
        if let Some(held) = &claim.holds {
            take_out(&mut self.by_contact, held, uid);
        }
        for key in name_keys(&claim) {
            take_out(&mut self.by_name, &key, uid);
        }
        take_out(&mut self.by_directory, &claim.directory, uid);
        take_out(&mut self.by_namespace, &namespace(&claim), uid);
        self.wanting_names_of(&claim, uid)
    }

    /// Whether the object is in the index: seen, and not gone.
    pub(super) fn knows(&self, uid: &Uid) -> bool {
        self.by_uid.contains_key(uid)
    }

    /// Whether an object holds the contact; a reserved contact counts as held.
    pub(super) fn is_held(&self, directory: &DirectoryId, contact: &ContactId) -> bool {
        let key = (directory.clone(), contact.clone());
        self.by_contact.contains_key(&key) || self.reserved.contains_key(&key)
    }

    /// Whether the mailbox of a contact was confirmed, as the object that holds it says; `None` if
    /// none does.
    pub(super) fn is_verified(&self, directory: &DirectoryId, contact: &ContactId) -> Option<bool> {
        let uids = self.by_contact.get(&(directory.clone(), contact.clone()))?;
        Some(uids.iter().filter_map(|uid| self.by_uid.get(uid)).any(|claim| claim.verified))
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
        let reserved = self.reserved.get(&key).map(|reserved| &reserved.uid);
        let others: BTreeSet<&Uid> = stored.chain(reserved).filter(|uid| *uid != but).collect();
        others.into_iter().filter_map(|uid| self.object(uid)).collect()
    }

    /// Sets a contact aside for an object whose status is about to hold it, written over that
    /// version of the object.
    pub(super) fn reserve(
        &mut self,
        directory: &DirectoryId,
        contact: &ContactId,
        uid: &Uid,
        version: u64,
    ) -> SetAside {
        if !self.knows(uid) || !self.holders(directory, contact, uid).is_empty() {
            return SetAside::Refused;
        }
        let reservation = Reservation { uid: uid.clone(), version };
        match self.reserved.insert((directory.clone(), contact.clone()), reservation) {
            None => SetAside::Now,
            Some(_) => SetAside::Before,
        }
    }

    /// The status that was to hold the contact was not stored, and will not be. Returns the objects
    /// that may be concerned.
    pub(super) fn unreserve(
        &mut self,
        directory: &DirectoryId,
        contact: &ContactId,
        uid: &Uid,
    ) -> Vec<Contact> {
        self.release(|key, reserved| {
            reserved.uid == *uid && *key == (directory.clone(), contact.clone())
        })
    }

    /// That version of an object was taken in: what was set aside for writes over an older one, and
    /// is not held by it, is set free. Returns the objects that may be concerned.
    pub(super) fn unreserve_before(&mut self, uid: &Uid, version: u64) -> Vec<Contact> {
        self.release(|_, reserved| reserved.uid == *uid && reserved.version < version)
    }

    fn release(
        &mut self,
        is_over: impl Fn(&(DirectoryId, ContactId), &Reservation) -> bool,
    ) -> Vec<Contact> {
        let over = self.reserved.extract_if(|key, reserved| is_over(key, reserved));
        let uids: BTreeSet<Uid> = over.map(|(_, reserved)| reserved.uid).collect();
        uids.iter().flat_map(|uid| self.rivals(uid)).collect()
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

    /// The objects that a directory must wait for when it is deleted.
    pub(super) fn needing(&self, directory: &str) -> Needing {
        let needing = || self.claims_of(directory).filter(|claim| claim.finalizer);
        Needing {
            all: needing().count(),
            deleting: needing().filter(|claim| claim.deleting).count(),
        }
    }

    /// Whether a directory must wait for any object when it is deleted.
    pub(super) fn is_needed(&self, directory: &str) -> bool {
        self.claims_of(directory).any(|claim| claim.finalizer)
    }

    /// Whether an object that refers to `directory` holds a contact, or has an intent open, in the
    /// directory of that id.
    pub(super) fn live_in(&self, directory: &str, id: &DirectoryId) -> bool {
        self.claims_of(directory).any(|claim| claim.lives_in.as_ref() == Some(id))
    }

    /// The name of the ResourceDirectory that an object refers to.
    pub(super) fn directory_of(&self, uid: &Uid) -> Option<String> {
        self.by_uid.get(uid).map(|claim| claim.directory.clone())
    }

    fn claims_of(&self, directory: &str) -> impl Iterator<Item = &Claim> {
        let uids = self.by_directory.get(directory);
        uids.into_iter().flatten().filter_map(|uid| self.by_uid.get(uid))
    }

    /// The objects in a namespace, and those that want a name which one of these has or wants:
    /// whether its claim counts depends on the namespace.
    pub(super) fn concerned_by_namespace(&self, namespace: &str) -> HashSet<Contact> {
        let uids = self.by_namespace.get(namespace).into_iter().flatten();
        let inside = uids.filter_map(|uid| Some((uid, self.by_uid.get(uid)?)));
        inside
            .flat_map(|(uid, claim)| {
                std::iter::once(claim.object.clone()).chain(self.wanting_names_of(claim, uid))
            })
            .collect()
    }

    /// The objects that want a name which this one has or wants.
    pub(super) fn rivals(&self, uid: &Uid) -> Vec<Contact> {
        self.by_uid.get(uid).map(|claim| self.wanting_names_of(claim, uid)).unwrap_or_default()
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

fn namespace(claim: &Claim) -> String {
    claim.object.namespace.clone().unwrap_or_default()
}

fn take_out<K: Eq + Hash + Clone>(index: &mut HashMap<K, BTreeSet<Uid>>, key: &K, uid: &Uid) {
    if let Some(uids) = index.get_mut(key) {
        uids.remove(uid);
        if uids.is_empty() {
            index.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uid(name: &str) -> Uid {
        Uid(format!("{name}-uid"))
    }

    fn object(name: &str) -> Contact {
        ObjectRef::new(name).within("team-a")
    }

    fn claim(name: &str, wants: &str) -> Claim {
        Claim {
            object: object(name),
            holds: None,
            lives_in: None,
            finalizer: false,
            directory: "main".to_owned(),
            wants: ContactName::parse(wants).expect("it is a name"),
            intent: None,
            generation: Some(1),
            deleting: false,
            verified: false,
        }
    }

    fn held() -> (DirectoryId, ContactId) {
        (DirectoryId("rd-3G".to_owned()), ContactId("c-8".to_owned()))
    }

    /// Two that want one name, and one that wants another.
    fn rivals() -> Claims {
        let mut claims = Claims::default();
        claims.set(&uid("older"), claim("older", "Baiqi"));
        claims.set(&uid("younger"), claim("younger", "BAIQI"));
        claims.set(&uid("near"), claim("near", "Baiqia"));
        claims
    }

    #[test]
    fn a_rival_is_told_when_a_claim_may_count_no_longer() {
        let same = claim("older", "Baiqi");
        assert_eq!(rivals().set(&uid("older"), same.clone()), []);
        let changed = [
            Claim { generation: Some(2), ..same.clone() },
            Claim { deleting: true, ..same.clone() },
            Claim { holds: Some(held()), ..same.clone() },
            claim("older", "Lianpo"),
        ];
        for changed in changed {
            let told = rivals().set(&uid("older"), changed.clone());
            assert!(told.contains(&object("younger")), "{changed:?}");
            assert!(
                !told.contains(&object("near")) && !told.contains(&object("older")),
                "{told:?}"
            );
        }
        assert_eq!(rivals().remove(&uid("older")), [object("younger")]);
    }

    #[test]
    fn a_namespace_concerns_who_is_in_it_and_their_rivals() {
        let mut claims = rivals();
        let elsewhere = ObjectRef::new("older").within("team-b");
        claims.set(&uid("older"), Claim { object: elsewhere.clone(), ..claim("older", "Baiqi") });
        let concerned = claims.concerned_by_namespace("team-b");
        assert_eq!(concerned, HashSet::from([elsewhere.clone(), object("younger")]));
        claims.remove(&uid("near"));
        let concerned = claims.concerned_by_namespace("team-a");
        assert_eq!(concerned, HashSet::from([elsewhere, object("younger")]));
        assert!(claims.concerned_by_namespace("team-c").is_empty());
    }

    #[test]
    fn a_directory_is_needed_by_whoever_has_our_finalizer_and_by_nobody_else() {
        let mut claims = rivals();
        let nobody = Needing { all: 0, deleting: 0 };
        assert_eq!((claims.needing("main"), claims.is_needed("main")), (nobody, false));
        let with = |deleting| Claim { finalizer: true, deleting, ..claim("older", "Baiqi") };
        claims.set(&uid("older"), with(false));
        claims.set(&uid("leaving"), Claim { object: object("leaving"), ..with(true) });
        let elsewhere = Claim { directory: "other".to_owned(), ..with(true) };
        claims.set(&uid("elsewhere"), Claim { object: object("elsewhere"), ..elsewhere });
        assert_eq!(claims.needing("main"), Needing { all: 2, deleting: 1 });
        claims.remove(&uid("leaving"));
        assert!(claims.is_needed("main"));
        claims.set(&uid("older"), claim("older", "Baiqi"));
        assert!(!claims.is_needed("main") && claims.is_needed("other"));
    }

    #[test]
    fn objects_live_in_the_directory_of_their_contact_or_intent() {
        let mut claims = rivals();
        let (here, there) = (DirectoryId("rd-3G".to_owned()), DirectoryId("rd-3Gx".to_owned()));
        assert!(!claims.live_in("main", &here));
        let living = Claim { lives_in: Some(here.clone()), ..claim("older", "Baiqi") };
        claims.set(&uid("older"), living);
        assert!(claims.live_in("main", &here));
        assert!(!claims.live_in("main", &there) && !claims.live_in("other", &here));
    }

    #[test]
    fn a_contact_is_held_once_it_is_set_aside_and_until_its_object_is_gone() {
        let ((directory, contact), mut claims) = (held(), rivals());
        let reserve =
            |claims: &mut Claims, name: &str| claims.reserve(&directory, &contact, &uid(name), 5);
        assert!(!claims.is_held(&directory, &contact));
        assert_eq!(reserve(&mut claims, "older"), SetAside::Now);
        assert_eq!(reserve(&mut claims, "older"), SetAside::Before);
        assert_eq!(reserve(&mut claims, "younger"), SetAside::Refused);
        assert!(claims.is_held(&directory, &contact));
        claims.set(&uid("older"), Claim { generation: Some(2), ..claim("older", "Baiqi") });
        assert!(claims.is_held(&directory, &contact), "it stays set aside");
        claims.remove(&uid("older"));
        assert!(!claims.is_held(&directory, &contact));
        // A pass may come to its end after its object.
        assert_eq!(reserve(&mut claims, "older"), SetAside::Refused);
        assert!(!claims.is_held(&directory, &contact));

        let holding = Claim { holds: Some(held()), ..claim("younger", "Baiqi") };
        claims.set(&uid("younger"), holding);
        assert!(claims.is_held(&directory, &contact));
        assert!(!claims.is_held(&directory, &ContactId("c-9".to_owned())));
        claims.remove(&uid("younger"));
        assert!(!claims.is_held(&directory, &contact) && !claims.knows(&uid("younger")));
    }

    /// It outlived what it was made for, and whoever else wanted the contact waited for a restart.
    #[test]
    fn what_was_set_aside_is_free_once_it_is_certain_that_it_is_not_held() {
        let ((directory, contact), other) = (held(), ContactId("c-9".to_owned()));
        let set_aside = || {
            let mut claims = rivals();
            claims.reserve(&directory, &contact, &uid("older"), 5);
            claims.reserve(&directory, &other, &uid("younger"), 5);
            claims
        };
        let mut claims = set_aside();
        let concerned = claims.unreserve(&directory, &contact, &uid("older"));
        assert_eq!(concerned, [object("younger")]);
        assert!(!claims.is_held(&directory, &contact) && claims.is_held(&directory, &other));
        assert_eq!(claims.unreserve(&directory, &other, &uid("older")), []);
        assert!(claims.is_held(&directory, &other), "it is another one's");

        // Of a write that was not answered a newer version tells.
        let mut claims = set_aside();
        assert_eq!(claims.unreserve_before(&uid("older"), 5), []);
        assert!(claims.is_held(&directory, &contact));
        assert_eq!(claims.unreserve_before(&uid("older"), 6), [object("younger")]);
        assert!(!claims.is_held(&directory, &contact) && claims.is_held(&directory, &other));

        // It was stored after all.
        let mut claims = set_aside();
        claims.set(&uid("older"), Claim { holds: Some(held()), ..claim("older", "Baiqi") });
        assert_eq!(claims.unreserve_before(&uid("older"), 6), []);
        assert!(claims.is_held(&directory, &contact));
    }
}
