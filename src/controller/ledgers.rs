//! The verification messages of each directory, as this process knows them.
//!
//! A ledger belongs to the directory, whichever object reaches it. What the status of each such object
//! holds is taken in once; from then on this process is the only one that changes it.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

use crate::domain::contact::{DirectoryId, Uid};
use crate::domain::ledger::Ledger;
use crate::plan::hash::HashKey;

/// The ledgers, by directory.
#[derive(Debug)]
pub(super) struct Ledgers {
    /// Tells the key of the hashes.
    key: String,
    known: Mutex<Known>,
    /// Held while a ledger is stored: many messages are counted at once, and the object is one.
    pub(super) storing: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Known {
    ledgers: HashMap<DirectoryId, Arc<Ledger>>,
    /// Whose status was taken in.
    loaded: HashSet<Uid>,
}

impl Ledgers {
    /// None yet; their hashes are made with this key.
    pub(super) fn new(key: &HashKey) -> Self {
        let (known, storing) = (Mutex::default(), tokio::sync::Mutex::default());
        Self { key: key.fingerprint(), known, storing }
    }

    /// The ledger of a directory; empty if nothing was ever sent.
    pub(super) fn of(&self, directory: &DirectoryId) -> Arc<Ledger> {
        self.known().ledgers.get(directory).cloned().unwrap_or_else(|| Arc::new(self.empty()))
    }

    /// Takes in what the status of an object holds, the first time that it is seen, whether it holds
    /// something or not: whatever it holds later was stored by this process, and may be older than
    /// what is known. Two objects may have reached a directory, one after the other.
    pub(super) fn load(
        &self,
        object: Uid,
        stored: impl FnOnce() -> Option<(DirectoryId, Ledger)>,
        now: Timestamp,
    ) {
        let mut known = self.known();
        if known.loaded.insert(object)
            && let Some((directory, stored)) = stored()
        {
            let ledger = known.ledgers.entry(directory).or_insert_with(|| self.empty().into());
            *ledger = Arc::new(ledger.merged(&stored.read_with(&self.key, now)));
        }
    }

    /// Changes a ledger.
    pub(super) fn change(&self, directory: &DirectoryId, change: impl FnOnce(&Ledger) -> Ledger) {
        let mut known = self.known();
        let ledger = known.ledgers.entry(directory.clone()).or_insert_with(|| self.empty().into());
        *ledger = Arc::new(change(ledger));
    }

    fn empty(&self) -> Ledger {
        Ledger { key: Some(self.key.clone()), ..Ledger::default() }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_two_objects_hold_of_one_directory_counts_together_and_once() {
        let key = HashKey::new([7; HashKey::BYTES]);
        let ledgers = Ledgers::new(&key);
        let directory = DirectoryId::from("rd-1");
        let at = |seconds: i64| Timestamp::from_second(1_800_000_000 + seconds).unwrap();
        let stored = |targets: &[&str]| {
            let empty = Ledger { key: Some(key.fingerprint()), ..Ledger::default() };
            targets.iter().fold(empty, |ledger, target| ledger.with_send(target, "one", at(0)))
        };
        let holds = |targets: &[&str]| Some((directory.clone(), stored(targets)));
        ledgers.load("first".into(), || holds(&["a"]), at(10));
        ledgers.load("second".into(), || holds(&["a", "b", "c"]), at(10));
        let together = ledgers.of(&directory);
        assert_eq!((together.count, together.recent.len()), (3, 3));
        // The status comes back as it was stored before a message was taken back.
        ledgers.change(&directory, |ledger| ledger.taken_back("c", "one", at(0)));
        ledgers.load("second".into(), || holds(&["a", "b", "c"]), at(20));
        assert_eq!(ledgers.of(&directory).count, 2);
        assert_eq!(ledgers.of(&directory).last_sent("d", "one"), None);
        // Made with a key that is lost.
        let foreign = Ledger { key: Some("another".to_owned()), ..stored(&["d"]) };
        ledgers.load("third".into(), || Some((directory.clone(), foreign)), at(30));
        assert_eq!(ledgers.of(&directory).last_sent("d", "one"), Some(at(30)));
    }

    /// A message was counted, stored and taken back; the status with it comes only then.
    #[test]
    fn what_an_object_without_messages_holds_later_is_older_than_what_is_known() {
        let ledgers = Ledgers::new(&HashKey::new([7; HashKey::BYTES]));
        let directory = DirectoryId::from("rd-1");
        let at = Timestamp::from_second(1_800_000_000).unwrap();
        ledgers.load("first".into(), || None, at);
        ledgers.change(&directory, |ledger| ledger.with_send("a", "one", at));
        let stored = ledgers.of(&directory);
        ledgers.change(&directory, |ledger| ledger.taken_back("a", "one", at));
        ledgers.load("first".into(), || Some((directory.clone(), (*stored).clone())), at);
        let known = ledgers.of(&directory);
        assert_eq!((known.count, known.last_sent("a", "one")), (0, None));
    }
}
