//! The verification messages of each directory, as this process knows them.
//!
//! A ledger belongs to the directory, whichever object reaches it. What its object's status holds is
//! taken in once; from then on this process is the only one that changes it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::domain::contact::DirectoryId;
use crate::domain::ledger::Ledger;

/// The ledgers, by directory.
#[derive(Debug, Default)]
pub(super) struct Ledgers(Mutex<HashMap<DirectoryId, Arc<Ledger>>>);

impl Ledgers {
    /// The ledger of a directory; empty if nothing was ever sent.
    pub(super) fn of(&self, directory: &DirectoryId) -> Arc<Ledger> {
        self.all().get(directory).cloned().unwrap_or_default()
    }

    /// Takes in what a status holds, if nothing is known yet.
    pub(super) fn load(&self, directory: &DirectoryId, stored: impl FnOnce() -> Ledger) {
        self.all().entry(directory.clone()).or_insert_with(|| Arc::new(stored()));
    }

    /// Changes a ledger.
    pub(super) fn change(&self, directory: &DirectoryId, change: impl FnOnce(&Ledger) -> Ledger) {
        let mut all = self.all();
        let ledger = all.entry(directory.clone()).or_default();
        *ledger = Arc::new(change(ledger));
    }

    fn all(&self) -> MutexGuard<'_, HashMap<DirectoryId, Arc<Ledger>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
