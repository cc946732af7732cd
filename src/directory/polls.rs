//! When the worker looks at the cloud by itself. Pure: the time and the random number (`jitter`,
//! from 0 to 1) are arguments.
//!
//! ```text
//!            +--------- keys changed, not accepted ---------+
//!            v                                              |
//!   identity asked --- ok ---> list, page by page --- ok ---+--> poll interval --> list
//!      ^     |                      |
//!      |     +------ failed --------+--> 1 s, 2 s .. 60 s --> the same again
//!      +------------------------------------------+
//! ```

use jiff::{SignedDuration, Timestamp};

use super::rate::after;
use crate::domain::call::CallError;

/// The worker's own looks at the cloud.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "they change independently of each other")]
pub(super) struct Polls {
    interval: SignedDuration,
    identity: Identity,
    identity_queued: bool,
    page_queued: bool,
    /// A list is under way: its next page is due.
    listing: bool,
    /// The directory was listed once.
    listed: bool,
    /// When the identity is asked next, while it is not certain.
    identity_due_at: Timestamp,
    /// When the next list begins, unless one is under way or wanted.
    list_due_at: Timestamp,
    /// When what waits for confirmation is to be asked again.
    pending_due_at: Timestamp,
    failures: u32,
}

/// Whether it is certain which directory the keys reach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Identity {
    /// Not asked with these keys.
    Unknown,
    /// The API told.
    Confirmed {
        /// When.
        at: Timestamp,
    },
    /// The API did not tell.
    Refused(CallError),
}

/// One look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Poll {
    /// Which directory the keys reach.
    Identity,
    /// One page of the list.
    Page,
}

impl Polls {
    /// Longest wait after failures.
    const BACKOFF_MAX: SignedDuration = SignedDuration::from_secs(60);
    /// Share of the interval by which polls are spread, so that directories part.
    const SPREAD: f64 = 0.05;
    /// An identity that was told this short ago is not doubted: if one odd call gets an answer about
    /// keys, it must not cost all others theirs again and again.
    const CERTAIN_FOR: SignedDuration = SignedDuration::from_secs(60);

    pub(super) fn new(interval: SignedDuration, now: Timestamp) -> Self {
        Self {
            interval,
            identity: Identity::Unknown,
            identity_queued: false,
            page_queued: false,
            listing: false,
            listed: false,
            identity_due_at: now,
            list_due_at: now,
            pending_due_at: after(now, interval.as_secs_f64()),
            failures: 0,
        }
    }

    pub(super) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Whether it is certain which directory is called.
    pub(super) fn is_confirmed(&self) -> bool {
        matches!(self.identity, Identity::Confirmed { .. })
    }

    pub(super) fn listed(&self) -> bool {
        self.listed
    }

    pub(super) fn listing(&self) -> bool {
        self.listing
    }

    /// When the next look is to be put into the lane; `None` while one is in it.
    pub(super) fn due_at(&self, list_wanted: bool, now: Timestamp) -> Option<Timestamp> {
        // A time further ahead than any wait can only come from a clock that was set back.
        let longest = after(now, self.interval.max(Self::BACKOFF_MAX).as_secs_f64() * 1.5);
        let sane = |at: Timestamp| if at > longest { now } else { at };
        match self.identity {
            Identity::Confirmed { .. } => {
                let at_once = self.listing || (list_wanted && self.failures == 0);
                let due_at = if at_once { now } else { sane(self.list_due_at) };
                (!self.page_queued).then_some(due_at)
            }
            Identity::Unknown | Identity::Refused(_) => {
                (!self.identity_queued).then_some(sane(self.identity_due_at))
            }
        }
    }

    /// The look that is due now; it counts as put into the lane.
    pub(super) fn next(&mut self, list_wanted: bool, now: Timestamp) -> Option<Poll> {
        self.due_at(list_wanted, now).filter(|at| *at <= now)?;
        if self.is_confirmed() {
            self.page_queued = true;
            return Some(Poll::Page);
        }
        self.identity_queued = true;
        Some(Poll::Identity)
    }

    /// A page's turn has come.
    pub(super) fn list_begun(&mut self) {
        self.listing = true;
    }

    /// The look is no longer in the lane.
    pub(super) fn unqueued(&mut self, poll: Poll) {
        match poll {
            Poll::Identity => self.identity_queued = false,
            Poll::Page => self.page_queued = false,
        }
    }

    /// The API told the identity. The list is due at once if there is none or the last one failed.
    pub(super) fn identity_told(&mut self, another: bool, now: Timestamp) {
        self.identity = Identity::Confirmed { at: now };
        if another {
            self.listing = false;
            self.listed = false;
        }
        if !self.listed || self.failures > 0 {
            self.list_due_at = now;
        }
    }

    /// The list is complete. Returns whether what waits for confirmation is in doubt again: once an
    /// interval, however many lists were wanted in it.
    pub(super) fn list_complete(&mut self, now: Timestamp, jitter: f64) -> bool {
        self.listing = false;
        self.listed = true;
        self.failures = 0;
        let interval = self.interval.as_secs_f64();
        self.list_due_at = after(now, interval * (1.0 + Self::SPREAD * jitter));
        let pending_due = self.pending_due_at <= now;
        // A time further ahead can only come from a clock that was set back.
        let next = after(now, interval);
        self.pending_due_at = if pending_due { next } else { self.pending_due_at.min(next) };
        pending_due
    }

    /// A look failed, or its list saw the directory shrink.
    pub(super) fn failed(&mut self, now: Timestamp, jitter: f64) {
        self.listing = false;
        self.failures = self.failures.saturating_add(1);
        let longest = self.interval.min(Self::BACKOFF_MAX).as_secs_f64();
        let exponent = i32::try_from(self.failures.min(32)).unwrap_or(32) - 1;
        let seconds = 2_f64.powi(exponent).min(longest);
        self.list_due_at = after(now, seconds * (0.75 + 0.5 * jitter));
        self.identity_due_at = self.list_due_at;
    }

    /// The API did not tell the identity; until it does, nothing else is called.
    pub(super) fn identity_refused(&mut self, error: CallError) {
        self.identity = Identity::Refused(error);
    }

    /// A call got an answer about its keys: asks for the identity before anything else is called.
    /// Returns whether that is so.
    pub(super) fn doubt_identity(&mut self, now: Timestamp) -> bool {
        let doubtful = match self.identity {
            Identity::Confirmed { at } => at > now || now.duration_since(at) >= Self::CERTAIN_FOR,
            Identity::Unknown | Identity::Refused(_) => false,
        };
        if doubtful {
            self.identity = Identity::Unknown;
            self.identity_due_at = now;
        }
        doubtful
    }

    /// Somebody asks not to wait any longer after failures.
    pub(super) fn retry(&mut self, now: Timestamp) {
        if self.failures > 0 {
            self.identity_due_at = now;
            self.list_due_at = now;
        }
    }

    /// Other keys, or another endpoint if `elsewhere`.
    pub(super) fn reconnect(&mut self, elsewhere: bool, now: Timestamp) {
        self.identity = Identity::Unknown;
        self.listing = false;
        self.listed &= !elsewhere;
        self.failures = 0;
        self.identity_due_at = now;
        self.list_due_at = now;
    }

    pub(super) fn set_interval(&mut self, interval: SignedDuration, now: Timestamp) {
        self.interval = interval;
        if self.failures == 0 {
            self.list_due_at = self.list_due_at.min(after(now, interval.as_secs_f64()));
        }
    }
}
