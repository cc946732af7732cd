//! One runtime per resource directory: what is known of it, and the one lane of calls to it.
//!
//! The controllers ask for a call and say, when its turn has come, what it is to be: the worker
//! shows them the snapshot of that moment. The runtime talks upwards only by [`Changes`].

mod registry;

mod worker;

mod polls;

mod lane;

mod rate;

#[cfg(test)]
mod tests;

pub use crate::cloud::credentials::ambient::{Ambient, Unusable};
pub use crate::cloud::{Credentials, Roots};
pub use lane::Priority;
pub use registry::{Changes, Config, Registry};
pub use worker::MayCall;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot, watch};

use crate::domain::call::{Call, CallError, DirectoryIdentity, Reply};
use crate::domain::contact::ContactId;
use crate::domain::snapshot::{Changed, Snapshot};
use rate::Limit;
use registry::{Outbox, Owners};
use worker::{Command, Job};

/// One resource directory. Clones share it.
#[derive(Debug, Clone)]
pub struct Directory {
    shared: Arc<Shared>,
    commands: mpsc::UnboundedSender<Command>,
}

impl Directory {
    /// Makes a call when its turn has come.
    ///
    /// `decide` is asked at that moment what to call, with all that is known then; `None` makes no
    /// call. It MUST be quick and MUST NOT block or call back into the directory, as a lock is held
    /// meanwhile. It is asked again when the API refused the call for a conflict or for its rate
    /// and the worker tries once more. What only holds for a moment, such as the lease, is
    /// best checked in it: the call is made right after.
    ///
    /// When the returned future is dropped, a call that was not sent never is; one that was sent is
    /// awaited and recorded all the same.
    pub async fn perform(
        &self,
        priority: Priority,
        decide: impl FnMut(&Snapshot, Timestamp) -> Option<Call> + Send + 'static,
    ) -> Outcome {
        self.perform_and_tell(priority, decide, |_, _| {}).await
    }

    /// As [`Self::perform`]. `ended` is told of the call that was sent and how it ended, once, also
    /// when nobody waits for it any more; a refusal after which it goes again is no end. It MUST be
    /// quick and MUST NOT call back into the directory.
    pub async fn perform_and_tell(
        &self,
        priority: Priority,
        decide: impl FnMut(&Snapshot, Timestamp) -> Option<Call> + Send + 'static,
        ended: impl FnOnce(&Call, &Result<Reply, CallError>) + Send + 'static,
    ) -> Outcome {
        let (reply, answer) = oneshot::channel();
        let (decide, ended) = (Box::new(decide), Box::new(ended));
        let job = Job { priority, decide, ended, reply };
        if self.commands.send(Command::Perform(job)).is_err() {
            return Outcome::Closed;
        }
        answer.await.unwrap_or(Outcome::Closed)
    }

    /// Lists all contacts out of turn. Returns when a list that began after this was called is
    /// complete; requests that come together share one list.
    ///
    /// # Errors
    /// The list failed, or the directory closes.
    pub async fn relist(&self) -> Result<(), NotListed> {
        let (reply, answer) = oneshot::channel();
        if self.commands.send(Command::Relist(reply)).is_err() {
            return Err(NotListed::Closed);
        }
        answer.await.unwrap_or(Err(NotListed::Closed))
    }

    /// Tries at once what waits after a failure, for somebody who asks for it.
    pub fn retry(&self) {
        // A worker that is gone tries nothing.
        let _ = self.commands.send(Command::Retry);
    }

    /// Lets a deletion that failed be tried again at once, for somebody who asks for it.
    pub fn retry_failed_deletion(&self, contact: &ContactId) {
        self.shared.snapshot_mut().retry_failed_deletion(contact);
    }

    /// Reads what is known. `read` MUST be quick and MUST NOT block or call back into the
    /// directory: the worker waits for it.
    pub fn with_snapshot<T>(&self, read: impl FnOnce(&Snapshot) -> T) -> T {
        read(&self.shared.snapshot())
    }

    /// Whether the directory can be reached, now.
    #[must_use]
    pub fn health(&self) -> Health {
        self.shared.health.borrow().clone()
    }

    /// How hard the directory is worked, at this time.
    #[must_use]
    pub fn load(&self, now: Timestamp) -> Load {
        let busy = *self.shared.busy.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = Priority::ALL.map(|priority| (priority, busy.waiting[priority as usize]));
        Load { waiting, calls_per_second_max: busy.limit.per_second(now) }
    }

    /// The directory that the keys reach and the `ResourceDirectory` that works on it already. While
    /// there is one, nothing but the identity is called.
    #[must_use]
    pub fn duplicate(&self) -> Option<(DirectoryIdentity, String)> {
        self.shared.duplicate.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The directory was removed, or all were closed: it makes no further call.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.shared.is_closed()
    }
}

/// What became of a request for a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The call was sent; this is how it ended, and the snapshot has it.
    Done(Result<Reply, CallError>),
    /// There was nothing to call any more when the turn had come. Nothing was sent.
    Overtaken,
    /// Nothing was sent, as it is not certain which directory would get it: this is why asking for
    /// its identity failed. [`Changes`] tells everybody when it is certain again.
    NotConnected(CallError),
    /// The directory is closed or removed. Nothing was sent.
    Closed,
}

/// How hard a directory is worked.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Load {
    /// How many calls wait for their turn, by their priority.
    pub waiting: [(Priority, usize); 4],
    /// How many calls may be sent in a second.
    pub calls_per_second_max: f64,
}

/// What [`Load`] is made from.
#[derive(Debug, Clone, Copy)]
struct Busy {
    waiting: [usize; 4],
    limit: Limit,
}

/// Why a list was not completed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotListed {
    /// A call of it failed.
    #[error("listing all contacts failed")]
    Failed(#[source] CallError),
    /// The directory is closed or removed.
    #[error("the directory is closed")]
    Closed,
}

/// Whether a directory can be reached. Changes only when one of its fields does: it does not tick.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// Where the connection stands.
    pub connection: Connection,
    /// The API asked to slow down, and the rate is not back at its ceiling.
    pub throttled: bool,
    /// It was connected once since the operator started.
    pub connected_once: bool,
}

/// Where the connection to a directory stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Connection {
    /// Its identity or its first list is still awaited.
    Connecting,
    /// Its identity is certain and the last list succeeded.
    Connected,
    /// Its identity or its list got no good answer. A repetition of the same failure keeps the
    /// first request id.
    Failed(CallError),
}

/// What the worker and the handles share.
#[derive(Debug)]
struct Shared {
    name: String,
    snapshot: RwLock<Snapshot>,
    health: watch::Sender<Health>,
    outbox: Arc<Outbox>,
    owners: Arc<Owners>,
    duplicate: Mutex<Option<(DirectoryIdentity, String)>>,
    closed: AtomicBool,
    busy: Mutex<Busy>,
}

impl Shared {
    fn new(name: String, outbox: Arc<Outbox>, owners: Arc<Owners>, limit: Limit) -> Self {
        let health =
            Health { connection: Connection::Connecting, throttled: false, connected_once: false };
        Self {
            name,
            snapshot: RwLock::default(),
            health: watch::Sender::new(health),
            outbox,
            owners,
            duplicate: Mutex::default(),
            closed: AtomicBool::new(false),
            busy: Mutex::new(Busy { waiting: [0; 4], limit }),
        }
    }

    /// A panic of somebody who reads leaves the snapshot as it was, so that a poisoned lock is fine.
    fn snapshot(&self) -> RwLockReadGuard<'_, Snapshot> {
        self.snapshot.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn snapshot_mut(&self) -> RwLockWriteGuard<'_, Snapshot> {
        self.snapshot.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn emit(&self, changed: Changed) {
        self.outbox.put(&self.name, changed);
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }
}
