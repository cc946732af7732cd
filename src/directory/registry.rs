//! All directories, by the name of their `ResourceDirectory` object.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::SignedDuration;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;

use super::rate::Rate;
use super::worker::{Command, MayCall, Settings, Worker};
use super::{Directory, Shared};
use crate::clock::Clock;
use crate::cloud::{BuildError, Client, Credentials, Roots};
use crate::domain::access::Endpoint;
use crate::domain::contact::DirectoryId;
use crate::domain::snapshot::Changed;
use crate::telemetry::Metrics;

/// How a directory is reached and how hard it is worked.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Where the API is.
    pub endpoint: Endpoint,
    /// Where the keys come from.
    pub credentials: Credentials,
    /// Whose certificates are trusted.
    pub roots: Roots,
    /// The only directory that may be worked on; `None`: whichever the keys reach.
    pub pin: Option<DirectoryId>,
    /// Wait between two lists.
    pub poll_interval: SignedDuration,
    /// Calls per second that are never exceeded; at least 1.
    pub requests_per_second: u32,
}

/// The directories that this process works on. Clones share them. [`Registry::close`] before the last
/// one is dropped, or calls in flight are cut off.
#[derive(Debug, Clone)]
pub struct Registry {
    inner: Arc<Inner>,
}

struct Inner {
    clock: Clock,
    metrics: Metrics,
    may_call: MayCall,
    outbox: Arc<Outbox>,
    owners: Arc<Owners>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    entries: HashMap<String, Entry>,
    workers: JoinSet<()>,
    /// Held by the worker of that name while it may call.
    turns: HashMap<String, Arc<tokio::sync::Mutex<()>>>,
    closed: bool,
}

#[derive(Debug)]
struct Entry {
    directory: Directory,
    config: Config,
}

/// Shows the directories.
impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inner").field("state", &self.state).finish_non_exhaustive()
    }
}

impl Registry {
    /// No directory yet, and the one stream of what changes in any of them. Calls are counted in
    /// `metrics`; `may_call` is asked right before each call of each directory.
    #[must_use]
    pub fn new(clock: Clock, metrics: Metrics, may_call: MayCall) -> (Self, Changes) {
        let outbox = Arc::new(Outbox::default());
        let changes = Changes { outbox: Arc::clone(&outbox), taken: VecDeque::new() };
        let (owners, state) = (Arc::default(), Mutex::default());
        (
            Self { inner: Arc::new(Inner { clock, metrics, may_call, outbox, owners, state }) },
            changes,
        )
    }

    /// Starts the directory, or gives the running one its new configuration; with the same
    /// configuration nothing happens. MUST be called within a tokio runtime.
    ///
    /// After other credentials, another endpoint or another pin no job's call is made before the API has told
    /// which directory they reach. What was known is forgotten if that is another one.
    /// One that was removed before and still has a call in flight is awaited before the first call.
    /// After [`Self::close`] the directory is a closed one.
    ///
    /// # Errors
    /// No client can be made of the configuration; a running directory goes on as it was.
    pub fn ensure(&self, name: &str, config: Config) -> Result<Directory, BuildError> {
        let mut state = self.state();
        while state.workers.try_join_next().is_some() {}
        let closed = state.closed;
        if let Some(entry) = state.entries.get_mut(name)
            && (closed || !entry.directory.commands.is_closed())
        {
            if entry.config != config && !closed {
                entry.configure(config)?;
            }
            return Ok(entry.directory.clone());
        }

        let client =
            Client::new(config.endpoint.clone(), config.credentials.clone(), config.roots)?;
        let Inner { outbox, owners, .. } = self.inner.as_ref();
        let limit = Rate::new(config.requests_per_second, self.inner.clock.now()).limit();
        let shared = Shared::new(name.to_owned(), Arc::clone(outbox), Arc::clone(owners), limit);
        let shared = Arc::new(shared);
        let (commands, received) = mpsc::unbounded_channel();
        let directory = Directory { shared: Arc::clone(&shared), commands };
        if closed {
            directory.shared.closed.store(true, Ordering::Release);
        } else {
            let (clock, may_call) = (self.inner.clock.clone(), Arc::clone(&self.inner.may_call));
            let metrics = self.inner.metrics.directory(name);
            let worker = Worker::new(shared, clock, metrics, may_call, client, received, &config);
            state.turns.retain(|_, turn| Arc::strong_count(turn) > 1);
            let turn = Arc::clone(state.turns.entry(name.to_owned()).or_default());
            state.workers.spawn(async move {
                let _turn = turn.lock().await;
                worker.run().await;
            });
            let entry = Entry { directory: directory.clone(), config };
            state.entries.insert(name.to_owned(), entry);
        }
        Ok(directory)
    }

    /// The directory of that name, if it was started.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Directory> {
        self.state().entries.get(name).map(|entry| entry.directory.clone())
    }

    /// Stops the directory. A call in flight ends and is recorded; no other begins.
    pub fn remove(&self, name: &str) {
        if let Some(entry) = self.state().entries.remove(name) {
            entry.close();
        }
    }

    /// Stops all directories. No call begins after this was called; returns when the calls in
    /// flight have ended and are recorded, and [`Changes`] ends then. What is known can still be
    /// read, so that the answers of these calls can be written down.
    pub async fn close(&self) {
        let mut workers = {
            let mut state = self.state();
            state.closed = true;
            state.entries.values().for_each(Entry::close);
            std::mem::take(&mut state.workers)
        };
        while workers.join_next().await.is_some() {}
        self.inner.outbox.close();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn configure(&mut self, config: Config) -> Result<(), BuildError> {
        let elsewhere = self.config.endpoint != config.endpoint;
        let reconnect = elsewhere || self.config.credentials != config.credentials;
        let client = if reconnect {
            let Config { endpoint, credentials, roots, .. } = config.clone();
            Some(Client::new(endpoint, credentials, roots)?)
        } else {
            None
        };
        let settings = Settings {
            client,
            elsewhere,
            pin: config.pin.clone(),
            poll_interval: config.poll_interval,
            requests_per_second: config.requests_per_second,
        };
        // A worker that is gone is replaced by the next `ensure`.
        let _ = self.directory.commands.send(Command::Configure(settings));
        self.config = config;
        Ok(())
    }

    fn close(&self) {
        self.directory.shared.closed.store(true, Ordering::Release);
        // A worker that is gone needs no waking.
        let _ = self.directory.commands.send(Command::Close);
    }
}

/// Which `ResourceDirectory` works on which directory: never two on one, as each has a lane of its
/// own.
#[derive(Debug, Default)]
pub(super) struct Owners(Mutex<HashMap<DirectoryId, String>>);

impl Owners {
    /// Takes the directory for the object of that name, which gives up any other.
    ///
    /// # Errors
    /// The name of the object that has it.
    pub(super) fn take(&self, directory: &DirectoryId, name: &str) -> Result<(), String> {
        let mut owners = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        owners.retain(|taken, owner| owner != name || taken == directory);
        let owner = owners.entry(directory.clone()).or_insert_with(|| name.to_owned());
        if owner == name { Ok(()) } else { Err(owner.clone()) }
    }

    /// The worker of that name calls no more.
    pub(super) fn release(&self, name: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|_, owner| owner != name);
    }
}

/// What changed in any directory: nothing is lost, and who changes something never waits. What
/// changes in one directory before it is taken is put together.
#[derive(Debug)]
pub struct Changes {
    outbox: Arc<Outbox>,
    taken: VecDeque<(String, Changed)>,
}

impl Changes {
    /// The name of a directory and what changed in it; waits until there is something. `None` after
    /// [`Registry::close`]. Nothing is lost if the future is dropped.
    pub async fn next(&mut self) -> Option<(String, Changed)> {
        loop {
            if let Some(change) = self.taken.pop_front() {
                return Some(change);
            }
            let closed = {
                let mut waiting = self.outbox.waiting();
                self.taken.extend(waiting.changed.drain());
                waiting.closed
            };
            if self.taken.is_empty() {
                if closed {
                    return None;
                }
                self.outbox.filled.notified().await;
            }
        }
    }
}

/// Changes that wait to be taken.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    waiting: Mutex<Letters>,
    filled: Notify,
}

#[derive(Debug, Default)]
struct Letters {
    changed: HashMap<String, Changed>,
    closed: bool,
}

impl Outbox {
    pub(super) fn put(&self, name: &str, changed: Changed) {
        if changed.is_empty() {
            return;
        }
        let mut waiting = self.waiting();
        match waiting.changed.get_mut(name) {
            Some(known) => {
                let Changed { ids, names, everything, health } = changed;
                known.ids.extend(ids);
                known.names.extend(names);
                known.everything |= everything;
                known.health |= health;
            }
            None => {
                waiting.changed.insert(name.to_owned(), changed);
            }
        }
        drop(waiting);
        self.filled.notify_one();
    }

    fn close(&self) {
        self.waiting().closed = true;
        self.filled.notify_one();
    }

    fn waiting(&self) -> MutexGuard<'_, Letters> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
