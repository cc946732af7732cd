//! What one process does about a lease, decided from what it saw of it: pure, the time is an
//! argument.

use std::time::Duration;

use crate::uptime::Moment;

/// How long a lease lasts without being renewed, and when its holder gives up before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    lease: Duration,
    renew_deadline: Duration,
}

/// Why two durations are no terms, with what to write instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// The Lease object counts in whole seconds.
    #[error("the lease must last from 1s to 10m; write for instance 15s")]
    Lease,
    /// What is left between the two is the shortest time that a call gets.
    #[error(
        "the renew deadline must be more than nothing and at most four fifths of the lease, as what \
         begins right before it must end before the lease does; write at most {at_most:?} for a \
         lease of {lease:?}, or a longer lease"
    )]
    RenewDeadline {
        /// The longest one for that lease.
        at_most: Duration,
        /// That lease.
        lease: Duration,
    },
}

impl Terms {
    /// Longest lease: so long nobody acts after the holder was killed.
    const LEASE_MAX: Duration = Duration::from_mins(10);

    /// Another process waits for `lease` after the last renewal that it has seen; the holder gives up
    /// `renew_deadline` after the last one that it has made.
    ///
    /// # Errors
    /// The lease is no whole number of seconds from 1 s to 10 min, or the deadline is none or more
    /// than four fifths of it.
    pub fn new(lease: Duration, renew_deadline: Duration) -> Result<Self, Unfit> {
        let whole = lease.subsec_nanos() == 0 && !lease.is_zero() && lease <= Self::LEASE_MAX;
        if !whole {
            return Err(Unfit::Lease);
        }
        let at_most = lease * 4 / 5;
        if renew_deadline.is_zero() || renew_deadline > at_most {
            return Err(Unfit::RenewDeadline { at_most, lease });
        }
        Ok(Self { lease, renew_deadline })
    }

    /// How long the lease lasts, in seconds.
    pub(super) fn lease_seconds(&self) -> i32 {
        i32::try_from(self.lease.as_secs()).unwrap_or(i32::MAX)
    }

    #[cfg(test)]
    pub(super) fn lease(&self) -> Duration {
        self.lease
    }

    pub(super) fn renew_deadline(&self) -> Duration {
        self.renew_deadline
    }

    /// Longest wait for the answer to one request, so that a second one has a chance.
    pub(super) fn patience(&self) -> Duration {
        self.renew_deadline / 2
    }

    /// Pause between two renewals, and between two tries.
    pub(super) fn pause(&self) -> Duration {
        self.renew_deadline / 5
    }

    /// How long the holder is sure of it. Two clocks that are kept right differ by less than a
    /// thousandth in their speed; this is twenty times as much.
    pub(super) fn sure_for(&self) -> Duration {
        self.lease.saturating_sub(self.lease / 50)
    }

    /// When what begins now must have ended, after a renewal that was sent at that moment; `None`:
    /// nothing may begin any more.
    pub(super) fn until(&self, renewed_at: Moment, now: Moment) -> Option<Moment> {
        let may_begin = now < renewed_at + self.renew_deadline;
        may_begin.then(|| renewed_at + self.sure_for())
    }
}

/// What stands in the Lease object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    /// Empty: nobody holds it.
    pub(super) holder: String,
    /// How long it lasts after a renewal, as its holder has promised.
    pub(super) lasts: Option<Duration>,
    /// The object's `resourceVersion`.
    pub(super) version: String,
}

/// What to do now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Move {
    /// Make the object with us as its holder, unless somebody has.
    Create,
    /// Write us as the holder, unless the object has changed.
    Replace,
    /// Nothing before that moment, unless the record changes.
    Wait(Moment),
    /// It was ours, and is no more.
    End(Lost),
}

/// Why a process holds the lease no longer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Lost {
    /// The apiserver has taken no renewal in time.
    #[error("it could not be renewed within {0:?}")]
    NotRenewed(Duration),
    /// Somebody else stands in it.
    #[error("`{0}` holds it now")]
    Taken(String),
}

/// One process that wants a lease, or holds it.
#[derive(Debug)]
pub(super) struct Candidate {
    identity: String,
    terms: Terms,
    seen: Option<Seen>,
    /// When the last renewal was sent that was taken.
    renewed_at: Option<Moment>,
}

/// What was last seen of the object.
#[derive(Debug)]
struct Seen {
    record: Record,
    /// When it was first seen so.
    since: Moment,
    /// The object was not there any more.
    vanished: bool,
}

impl Candidate {
    pub(super) fn new(identity: String, terms: Terms) -> Self {
        Self { identity, terms, seen: None, renewed_at: None }
    }

    /// The record as it was read, and when the answer was there; `None`: there is no object.
    pub(super) fn sees(&mut self, record: Option<Record>, now: Moment) {
        match (record, &mut self.seen) {
            (Some(record), Some(seen)) if seen.record == record => seen.vanished = false,
            (Some(record), seen) => *seen = Some(Seen { record, since: now, vanished: false }),
            // Its holder does not know yet: what was promised to it is kept.
            (None, Some(seen)) => seen.vanished = true,
            (None, None) => {}
        }
    }

    /// Our write was taken: what it stored, when it was sent, and when the answer was there.
    pub(super) fn stored(&mut self, record: Record, sent_at: Moment, now: Moment) {
        let since = self.renewed_at.unwrap_or(sent_at);
        let in_time = self.terms.until(since, now).is_some();
        self.sees(Some(record), now);
        if in_time {
            self.renewed_at = Some(sent_at);
        }
    }

    /// When the last renewal was sent that counts, if the lease is held.
    pub(super) fn renewed_at(&self) -> Option<Moment> {
        self.renewed_at
    }

    /// What was last seen of the object.
    #[cfg(test)]
    pub(super) fn seen(&self) -> Option<&Record> {
        self.seen.as_ref().map(|seen| &seen.record)
    }

    /// Who holds it, if that is somebody else.
    pub(super) fn other_holder(&self) -> Option<&str> {
        let seen = self.seen.as_ref().filter(|seen| !seen.vanished)?;
        let holder = seen.record.holder.as_str();
        (!holder.is_empty() && holder != self.identity).then_some(holder)
    }

    /// What to do now.
    pub(super) fn next(&self, now: Moment) -> Move {
        match self.renewed_at {
            Some(renewed_at) => self.next_of_holder(renewed_at, now),
            None => self.next_of_standby(now),
        }
    }

    fn next_of_holder(&self, renewed_at: Moment, now: Moment) -> Move {
        if self.terms.until(renewed_at, now).is_none() {
            return Move::End(Lost::NotRenewed(self.terms.renew_deadline));
        }
        let due_at = renewed_at + self.terms.pause();
        match &self.seen {
            None => Move::Create,
            Some(seen) if seen.vanished => Move::Create,
            Some(seen) if seen.record.holder != self.identity => {
                Move::End(Lost::Taken(seen.record.holder.clone()))
            }
            Some(_) if now < due_at => Move::Wait(due_at),
            Some(_) => Move::Replace,
        }
    }

    fn next_of_standby(&self, now: Moment) -> Move {
        let Some(Seen { record, since, vanished }) = &self.seen else { return Move::Create };
        // One that is ours was written without an answer to be heard: it counts from a write that is
        // answered.
        let is_free = record.holder.is_empty() || record.holder == self.identity;
        let ends_at = *since + record.lasts.unwrap_or(self.terms.lease);
        match (is_free || now >= ends_at, vanished) {
            (false, _) => Move::Wait(ends_at),
            (true, true) => Move::Create,
            (true, false) => Move::Replace,
        }
    }
}
