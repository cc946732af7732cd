//! Who of several processes may act: a Lease by client-go's rules.
//!
//! ```text
//!             wins                    renews every fifth of the deadline
//!   standby ---------> holds ---------------------------------------------> holds
//!      ^  follows                |  not renewed for the deadline, or taken
//!      |  the record             v
//!      |                        lost: the process ends
//!      +---- released: nobody holds it, and the next one takes it at once
//! ```
//!
//! - Each write is checked by the record's `resourceVersion`: of two that want it, one gets it.
//! - The record's times are for people. Whether its holder is gone is judged by how long this
//!   process has seen it unchanged, by a clock that goes on while the machine is suspended.
//! - A holder counts its own time from before it *sent* the write that was taken, others from after
//!   they saw it: it knows that it no longer holds the lease before anybody else can.
//!
//! Source: client-go, `tools/leaderelection`, and its package documentation.

mod candidate;

mod election;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub use candidate::{Lost, Terms, Unfit};
pub use election::{Election, Place};

use crate::uptime::{self, Moment};

/// Whether this process may act, and for how long it surely may. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Leadership {
    /// All of them must be held. None: nobody else is there to act.
    leases: Vec<Held>,
}

impl Leadership {
    /// That of a process beside which there is no other one.
    #[must_use]
    pub fn unshared() -> Self {
        Self::default()
    }

    /// That of a process that must hold each of these.
    #[must_use]
    pub fn of<'a>(elections: impl IntoIterator<Item = &'a Election>) -> Self {
        Self { leases: elections.into_iter().map(Election::held).collect() }
    }

    /// When what begins now must have ended, so that the lease is surely held till then. `None`:
    /// nothing may begin. Once that was said of a lease that was held, it stays so.
    #[must_use]
    pub fn until(&self) -> Option<Moment> {
        let now = uptime::now();
        self.leases.iter().try_fold(Moment::MAX, |until, held| Some(until.min(held.until(now)?)))
    }
}

/// How long one lease is held; written by its election, read by everybody.
#[derive(Debug, Clone)]
struct Held {
    terms: Terms,
    /// When the renewal was sent that counts, in nanoseconds, or one of the two below.
    renewed_at: Arc<AtomicU64>,
}

impl Held {
    const NOT_YET: u64 = 0;
    const NO_MORE: u64 = u64::MAX;

    fn new(terms: Terms) -> Self {
        Self { terms, renewed_at: Arc::new(AtomicU64::new(Self::NOT_YET)) }
    }

    /// A renewal was taken that was sent at that moment.
    fn renewed(&self, at: Moment) {
        let at = u64::try_from(at.as_nanos()).unwrap_or(Self::NO_MORE);
        let if_held = |known| (known != Self::NO_MORE).then_some(at);
        // Fails if it is held no more: that is final.
        let _ = self.renewed_at.fetch_update(Ordering::AcqRel, Ordering::Acquire, if_held);
    }

    /// From now on nothing begins.
    fn end(&self) {
        self.renewed_at.store(Self::NO_MORE, Ordering::Release);
    }

    fn is_over(&self) -> bool {
        self.renewed_at.load(Ordering::Acquire) == Self::NO_MORE
    }

    fn until(&self, now: Moment) -> Option<Moment> {
        let renewed_at = match self.renewed_at.load(Ordering::Acquire) {
            Self::NOT_YET | Self::NO_MORE => return None,
            nanoseconds => Moment::from_nanos(nanoseconds),
        };
        let until = self.terms.until(renewed_at, now);
        if until.is_none() {
            // Whoever was told so may have given up: a renewal that is answered now comes too late.
            self.end();
        }
        until
    }
}
