//! The only loop of a directory.
//!
//! ```text
//!   commands --> lane --> decide on the snapshot --> call --> record --> tell who waits
//!     polls -----^                                              |
//!                                                               +--> Changes, Health
//! ```

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tracing::Instrument as _;

use super::lane::{Granted, Lane, Next, Priority, Refusal};
use super::polls::{Identity, Poll, Polls};
use super::{Busy, Config, Connection, NotListed, Outcome, Shared};
use crate::clock::Clock;
use crate::cloud::Client;
use crate::domain::call::{self, Action, Call, CallError, FailureClass, Reply};
use crate::domain::contact::DirectoryId;
use crate::domain::snapshot::{Changed, Snapshot};
use crate::telemetry::DirectoryMetrics;
use crate::uptime::Moment;

/// What the handles ask of the worker.
#[derive(Debug)]
pub(super) enum Command {
    Perform(Job),
    Relist(ListWaiter),
    Configure(Settings),
    Retry,
    /// Wakes the worker up, so that it sees that it is closed.
    Close,
}

/// Says, on what is known at that moment, what to call.
type Decide = Box<dyn FnMut(&Snapshot, Timestamp) -> Option<Call> + Send>;

/// Is told of the call that was sent and how it ended.
type Ended = Box<dyn FnOnce(&Call, &Result<Reply, CallError>) + Send>;

/// One call that somebody wants made.
pub(super) struct Job {
    pub(super) priority: Priority,
    pub(super) decide: Decide,
    pub(super) ended: Ended,
    pub(super) reply: oneshot::Sender<Outcome>,
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job").field("priority", &self.priority).finish_non_exhaustive()
    }
}

/// How a directory is called from now on.
#[derive(Debug)]
pub(super) struct Settings {
    /// The client, if the endpoint or the keys changed.
    pub(super) client: Option<Client>,
    /// The endpoint changed: nothing that is known holds there.
    pub(super) elsewhere: bool,
    pub(super) pin: Option<DirectoryId>,
    pub(super) poll_interval: SignedDuration,
    pub(super) requests_per_second: u32,
}

/// When a call that begins now must have ended; `None`: none may begin any more, which is final. It
/// MUST be quick.
pub type MayCall = Arc<dyn Fn() -> Option<Moment> + Send + Sync>;

type ListWaiter = oneshot::Sender<Result<(), NotListed>>;

/// What takes turns in the lane.
#[derive(Debug)]
enum Work {
    Job(Job),
    Poll(Poll),
}

impl Work {
    fn priority(&self) -> Priority {
        match self {
            Self::Job(job) => job.priority,
            Self::Poll(_) => Priority::Poll,
        }
    }
}

/// Work in the lane.
#[derive(Debug)]
struct Queued {
    work: Work,
    /// Since when it waits for its first call.
    since: Option<Instant>,
}

/// One task per directory.
#[expect(clippy::struct_excessive_bools, reason = "they change independently of each other")]
pub(super) struct Worker {
    shared: Arc<Shared>,
    clock: Clock,
    metrics: DirectoryMetrics,
    may_call: MayCall,
    client: Client,
    commands: mpsc::UnboundedReceiver<Command>,
    lane: Lane<Queued>,
    polls: Polls,
    /// Wait for the list under way, and for the one after it.
    list_waiters: Vec<ListWaiter>,
    next_list_waiters: Vec<ListWaiter>,
    /// The last turn was a page's. While the first list is under way it takes every other turn.
    page_was_last: bool,
    /// Calls were not made, or failed, for want of an identity: when it is told, all try again.
    wake_all: bool,
    /// The only directory that may be worked on.
    pin: Option<DirectoryId>,
    /// The keys reach another one than the pinned.
    mispinned: bool,
    /// The last call was refused because its keys had ended, and goes again with new ones.
    goes_with_new_keys: bool,
}

impl Worker {
    pub(super) fn new(
        shared: Arc<Shared>,
        clock: Clock,
        metrics: DirectoryMetrics,
        may_call: MayCall,
        client: Client,
        commands: mpsc::UnboundedReceiver<Command>,
        config: &Config,
    ) -> Self {
        let now = clock.now();
        Self {
            shared,
            clock,
            metrics,
            may_call,
            client,
            commands,
            lane: Lane::new(config.requests_per_second, now),
            polls: Polls::new(config.poll_interval, now),
            list_waiters: Vec::new(),
            next_list_waiters: Vec::new(),
            page_was_last: false,
            wake_all: false,
            pin: config.pin.clone(),
            mispinned: false,
            goes_with_new_keys: false,
        }
    }

    /// Runs until the directory is closed or nobody holds it. Whoever still waits then is told so
    /// by the end of their channel.
    pub(super) async fn run(mut self) {
        loop {
            while let Ok(command) = self.commands.try_recv() {
                self.obey(command);
            }
            if self.may_call().is_none() {
                return;
            }
            let now = self.clock.now();
            self.queue_polls(now);
            self.publish(now);
            let next = if self.polls.is_confirmed() {
                self.lane.next(now)
            } else {
                self.lane.next_of_first(now)
            };
            self.show_load();
            let until = match next {
                Next::Grant(granted) => {
                    self.take_turn(granted, now).await;
                    continue;
                }
                Next::Wait(until) => Some(until),
                Next::Idle => None,
            };
            let wake_at = [until, self.poll_due_at(now), self.lane.rate().recovered_at()];
            let wake_at = wake_at.into_iter().flatten().filter(|at| *at > now).min();
            tokio::select! {
                command = self.commands.recv() => match command {
                    Some(command) => self.obey(command),
                    None => return,
                },
                () = self.clock.sleep_until(wake_at.unwrap_or(Timestamp::MAX)) => {}
            }
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Perform(job) => match self.polls.identity() {
                Identity::Refused(error) => {
                    let _ = job.reply.send(Outcome::NotConnected(error.clone()));
                }
                Identity::Unknown | Identity::Confirmed { .. } => {
                    self.lane.push(job.priority, queued(Work::Job(job)));
                }
            },
            Command::Relist(waiter) => match self.polls.identity() {
                Identity::Refused(error) => {
                    let _ = waiter.send(Err(NotListed::Failed(error.clone())));
                }
                Identity::Unknown | Identity::Confirmed { .. } => {
                    self.next_list_waiters.push(waiter);
                }
            },
            Command::Configure(settings) => self.configure(settings),
            Command::Retry => self.polls.retry(self.clock.now()),
            Command::Close => {}
        }
    }

    fn configure(&mut self, settings: Settings) {
        let Settings { client, elsewhere, pin, poll_interval, requests_per_second } = settings;
        let now = self.clock.now();
        self.polls.set_interval(poll_interval, now);
        self.lane.set_ceiling(requests_per_second, now);
        // A pin that the directory meets which is worked on changes nothing for it.
        let meets_pin = self.polls.is_confirmed() && {
            let snapshot = self.shared.snapshot();
            let known = snapshot.identity().map(|identity| &identity.directory_id);
            pin.is_none() || pin.as_ref() == known
        };
        if client.is_none() && (pin == self.pin || meets_pin) {
            self.pin = pin;
            return;
        }
        self.pin = pin;
        self.client = client.unwrap_or_else(|| self.client.clone());
        self.polls.reconnect(elsewhere, now);
        self.next_list_waiters.append(&mut self.list_waiters);
        let mut snapshot = self.shared.snapshot_mut();
        snapshot.abandon_list();
        if elsewhere {
            *snapshot = Snapshot::default();
        }
        drop(snapshot);
        self.connect(Connection::Connecting);
    }

    fn poll_due_at(&self, now: Timestamp) -> Option<Timestamp> {
        self.polls.due_at(!self.next_list_waiters.is_empty(), now)
    }

    /// The identity goes before all else, as nothing may be sent to a directory that is not known
    /// to be the right one. The first list takes every other turn, later ones that of a poll.
    fn queue_polls(&mut self, now: Timestamp) {
        let first_list = self.polls.is_confirmed() && !self.polls.listed();
        if first_list && self.page_was_last && !self.lane.is_empty() {
            return;
        }
        match self.polls.next(!self.next_list_waiters.is_empty(), now) {
            Some(Poll::Page) if !first_list => {
                self.lane.push(Priority::Poll, queued(Work::Poll(Poll::Page)));
            }
            Some(poll) => self.lane.push_first(queued(Work::Poll(poll))),
            None => {}
        }
    }

    async fn take_turn(&mut self, mut granted: Granted<Queued>, now: Timestamp) {
        let span = tracing::debug_span!("call", directory = self.shared.name);
        // Before the decision, which is to be followed by its call at once.
        let keys = match self.client.keys(now).instrument(span.clone()).await {
            Ok(keys) => keys,
            Err(error) => return self.without_keys(granted, error),
        };
        let now = self.clock.now();
        self.page_was_last = matches!(granted.item.work, Work::Poll(Poll::Page));
        let call = match &mut granted.item.work {
            Work::Job(job) if job.reply.is_closed() => None,
            Work::Job(job) => (job.decide)(&self.shared.snapshot(), now),
            Work::Poll(Poll::Identity) => Some(Call::GetResourceDirectory),
            // Put into the lane before the keys changed.
            Work::Poll(Poll::Page) if !self.polls.is_confirmed() => None,
            Work::Poll(Poll::Page) => Some(self.next_page(now)),
        };
        // Asked last of all: what is decided is sent at once, or never.
        let until = self.may_call();
        let Some((call, until)) = call.zip(until) else {
            self.lane.unsent();
            match granted.into_item().work {
                Work::Job(job) => {
                    let closed = self.shared.is_closed();
                    // Nobody may be listening any more.
                    let _ =
                        job.reply.send(if closed { Outcome::Closed } else { Outcome::Overtaken });
                }
                Work::Poll(poll) => self.polls.unqueued(poll),
            }
            return;
        };

        if let Some(since) = granted.item.since.take() {
            self.metrics.waited(granted.item.work.priority().as_str(), since.elapsed());
        }
        let sent = Instant::now();
        let result = self.client.send(&call, &keys, now, until).instrument(span).await;
        let (action, outcome) = (call.action().as_str(), call::outcome(&result));
        self.metrics.called(action, outcome, sent.elapsed());
        let now = self.clock.now();
        let class = result.as_ref().err().map(|error| error.class);
        let renewable = class.is_some_and(|class| self.client.refused(&keys, class));
        // Refused because its keys had ended, so that it was not executed; and not twice in a row.
        self.goes_with_new_keys =
            renewable && class == Some(FailureClass::TokenExpired) && !self.goes_with_new_keys;
        if self.goes_with_new_keys {
            self.lane.goes_again(granted);
            return;
        }
        let result = self.ours(result, now);

        let another = self.is_another_directory(&result);
        let changed = self.shared.snapshot_mut().record(&call, &result, now);
        self.shared.emit(changed);
        let work = if let Some(refusal) = refusal(&result) {
            self.lane.refused(granted, refusal, now, random()).map(|given_up| given_up.work)
        } else {
            self.lane.ended(was_answered(&result), now);
            Some(granted.into_item().work)
        };
        match work {
            // Refused: it goes again.
            None => {}
            Some(Work::Job(job)) => {
                if let Err(error) = &result
                    && is_about_keys(error)
                {
                    self.wake_all |= self.polls.doubt_identity(now);
                }
                if let Some(channel) = channel(call.action()) {
                    self.metrics.asked_to_confirm(channel, call::outcome(&result));
                }
                (job.ended)(&call, &result);
                // Nobody may be listening any more.
                let _ = job.reply.send(Outcome::Done(result));
            }
            Some(Work::Poll(poll)) => {
                self.polls.unqueued(poll);
                match (poll, result) {
                    (Poll::Identity, Ok(_)) => self.identity_told(another, now),
                    (Poll::Page, Ok(_)) => self.page_came(now),
                    (_, Err(error)) => self.poll_failed(poll, error, now),
                }
            }
        }
    }

    /// When a call that begins now must have ended. `None`: the directory is closed, or closes by this.
    fn may_call(&self) -> Option<Moment> {
        let until = (self.may_call)();
        if until.is_none() {
            self.shared.closed.store(true, Ordering::Release);
        }
        until.filter(|_| !self.shared.is_closed())
    }

    /// No call is made for want of keys: nobody can be asked for the identity, and so nothing else.
    fn without_keys(&mut self, granted: Granted<Queued>, error: CallError) {
        self.lane.unsent();
        let now = self.clock.now();
        match granted.into_item().work {
            Work::Job(job) => {
                // Nobody may be listening any more.
                let _ = job.reply.send(Outcome::NotConnected(error.clone()));
            }
            Work::Poll(poll) => self.polls.unqueued(poll),
        }
        self.poll_failed(Poll::Identity, error, now);
    }

    /// The call for the next page. A list begins when its first page is asked for.
    fn next_page(&mut self, now: Timestamp) -> Call {
        let mut snapshot = self.shared.snapshot_mut();
        if let Some(page @ 2..) = snapshot.next_page().filter(|_| self.polls.listing()) {
            return Call::ListMessageContacts { page };
        }
        snapshot.begin_list(now);
        drop(snapshot);
        self.polls.list_begun();
        self.list_waiters.append(&mut self.next_list_waiters);
        Call::ListMessageContacts { page: 1 }
    }

    /// That the keys reach another directory than the pinned one, or one on which another
    /// `ResourceDirectory` works, counts as if they reached none: two lanes must not work on one
    /// directory. It is asked again with pauses.
    fn ours(
        &mut self,
        result: Result<Reply, CallError>,
        now: Timestamp,
    ) -> Result<Reply, CallError> {
        let Ok(Reply::Directory(told)) = &result else { return result };
        let Shared { name, owners, duplicate, .. } = self.shared.as_ref();
        let mispinned = self.pin.as_ref().is_some_and(|pin| *pin != told.directory_id);
        let taken = if mispinned {
            owners.release(name);
            None
        } else {
            owners.take(&told.directory_id, name).err()
        };
        let other = taken.map(|owner| (told.clone(), owner));
        let is_ours = !mispinned && other.is_none();
        let mut duplicate = duplicate.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let changed = *duplicate != other || self.mispinned != mispinned;
        *duplicate = other;
        drop(duplicate);
        self.mispinned = mispinned;
        if changed {
            // What is known may be of another directory, and this one is not worked on.
            if !is_ours {
                *self.shared.snapshot_mut() = Snapshot::default();
                self.polls.reconnect(true, now);
            }
            let (everything, health) = (true, true);
            self.shared.emit(Changed { everything, health, ..Changed::default() });
        }
        if is_ours {
            return result;
        }
        if mispinned {
            // Only which one it is, so that it can be told.
            let identity = Call::GetResourceDirectory;
            let changed = self.shared.snapshot_mut().record(&identity, &result, now);
            self.shared.emit(changed);
        }
        Err(CallError {
            action: Action::GetResourceDirectory,
            class: FailureClass::NoDirectory,
            code: None,
            request_id: None,
            retry_after: None,
        })
    }

    fn is_another_directory(&self, result: &Result<Reply, CallError>) -> bool {
        let Ok(Reply::Directory(told)) = result else { return false };
        let snapshot = self.shared.snapshot();
        snapshot.identity().is_some_and(|known| known.directory_id != told.directory_id)
    }

    fn identity_told(&mut self, another: bool, now: Timestamp) {
        self.polls.identity_told(another, now);
        if std::mem::take(&mut self.wake_all) {
            self.shared.emit(Changed { everything: true, ..Changed::default() });
        }
        // A list that failed is not put right by an identity that is told.
        let list_failed = matches!(
            &self.shared.health.borrow().connection,
            Connection::Failed(error) if error.action == Action::ListMessageContacts
        );
        if another || !list_failed {
            let listed = self.polls.listed();
            self.connect(if listed { Connection::Connected } else { Connection::Connecting });
        }
    }

    fn page_came(&mut self, now: Timestamp) {
        let snapshot = self.shared.snapshot();
        let under_way = snapshot.next_page().is_some();
        let complete = snapshot.last_list_was_complete();
        drop(snapshot);
        if under_way {
            return;
        }
        if !complete {
            // It says nothing of what it lacks: those who wait get the next one.
            self.next_list_waiters.append(&mut self.list_waiters);
            self.polls.failed(now, random());
            return;
        }
        if self.polls.list_complete(now, random()) {
            let in_doubt = self.shared.snapshot_mut().doubt_pending();
            self.shared.emit(in_doubt);
        }
        for waiter in self.list_waiters.drain(..) {
            let _ = waiter.send(Ok(()));
        }
        self.connect(Connection::Connected);
    }

    fn poll_failed(&mut self, poll: Poll, error: CallError, now: Timestamp) {
        self.shared.snapshot_mut().abandon_list();
        if poll == Poll::Page && is_about_keys(&error) {
            self.polls.doubt_identity(now);
        }
        self.polls.failed(now, random());
        for waiter in self.list_waiters.drain(..).chain(self.next_list_waiters.drain(..)) {
            let _ = waiter.send(Err(NotListed::Failed(error.clone())));
        }
        if poll == Poll::Identity {
            self.wake_all = true;
            self.polls.identity_refused(error.clone());
            for queued in self.lane.drain() {
                match queued.work {
                    Work::Job(job) => {
                        let _ = job.reply.send(Outcome::NotConnected(error.clone()));
                    }
                    Work::Poll(poll) => self.polls.unqueued(poll),
                }
            }
        }
        // That others use the directory, or that it is slow, is no failure of the connection.
        if !matches!(error.class, FailureClass::Conflict | FailureClass::Throttled) {
            self.connect(Connection::Failed(error));
        }
    }

    /// Tells where the connection stands; everybody is told to try again once it is there.
    fn connect(&self, connection: Connection) {
        let now_connected = connection == Connection::Connected;
        let changed = self.shared.health.send_if_modified(|health| {
            let changed = !is_alike(&health.connection, &connection);
            if changed {
                health.connection = connection;
                health.connected_once |= now_connected;
            }
            changed
        });
        if changed {
            let everything = now_connected;
            self.shared.emit(Changed { everything, health: true, ..Changed::default() });
        }
    }

    /// For whoever looks at the metrics.
    fn show_load(&self) {
        let busy = Busy { waiting: self.lane.waiting(), limit: self.lane.rate().limit() };
        *self.shared.busy.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = busy;
    }

    fn publish(&self, now: Timestamp) {
        let throttled = self.lane.rate().recovered_at().is_some_and(|at| at > now);
        let changed = self.shared.health.send_if_modified(|health| {
            let changed = health.throttled != throttled;
            health.throttled = throttled;
            changed
        });
        self.shared.emit(Changed { health: changed, ..Changed::default() });
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.shared.owners.release(&self.shared.name);
    }
}

/// Work that waits from now on.
fn queued(work: Work) -> Queued {
    Queued { work, since: Some(Instant::now()) }
}

/// Over which channel an operation sends a message, if it does.
fn channel(action: Action) -> Option<&'static str> {
    match action {
        Action::SendEmailVerificationForMessageContact => Some("email"),
        Action::SendPhoneVerificationForMessageContact => Some("phone"),
        _ => None,
    }
}

/// A number from 0 to 1.
fn random() -> f64 {
    // The first 32 bits of a version 4 uuid are all random.
    f64::from(uuid::Uuid::new_v4().as_fields().0) / f64::from(u32::MAX)
}

/// Whether the call was not executed and is to be tried again.
fn refusal(result: &Result<Reply, CallError>) -> Option<Refusal> {
    let error = result.as_ref().err()?;
    match error.class {
        FailureClass::Conflict => Some(Refusal::Conflict),
        FailureClass::Throttled => Some(Refusal::Throttled { hint: error.retry_after }),
        _ => None,
    }
}

/// Whether the API was heard at all.
fn was_answered(result: &Result<Reply, CallError>) -> bool {
    let class = result.as_ref().err().map(|error| error.class);
    !matches!(class, Some(FailureClass::Unavailable | FailureClass::OutcomeUnknown))
}

fn is_about_keys(error: &CallError) -> bool {
    matches!(
        error.class,
        FailureClass::Credentials | FailureClass::TokenExpired | FailureClass::Clock(_)
    )
}

/// Whether both say the same; two requests that failed alike do.
fn is_alike(one: &Connection, other: &Connection) -> bool {
    match (one, other) {
        (Connection::Failed(one), Connection::Failed(other)) => {
            (one.action, &one.code) == (other.action, &other.code)
                && one.class.is_alike(other.class)
        }
        (one, other) => one == other,
    }
}
