//! How fast a directory is called: a token bucket whose rate gives way when the API says so.
//!
//! ```text
//!  rate
//!  ceiling ........................................./----
//!                                                 _/
//!  peak  ----+              ______-------_______-/
//!            |          _--
//!            |       _-
//!  0.7 peak  +------
//!            refused                    15 s            -> time
//! ```
//! The curve is CUBIC's (RFC 9438) made free of scale: steep at first, flat around the rate that
//! was refused last, steep again when that rate turns out to be fine.

use std::collections::VecDeque;

use jiff::{SignedDuration, Timestamp};

/// Most that a pause or a debt of tokens may lie ahead: the longest hint the API gives. More can
/// only come from a clock that was set back.
pub(super) const AHEAD_MAX: SignedDuration = SignedDuration::from_secs(120);

/// How many calls may go, and when the next one may.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Rate {
    limit: Limit,
    tokens: f64,
    /// Up to when tokens were filled in; ahead of now during a pause, in which none come.
    filled_at: Timestamp,
    /// When calls of the last second were accepted.
    accepted: VecDeque<Timestamp>,
}

/// Calls per second, as they go up and down over time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Limit {
    /// Calls per second that are never exceeded.
    ceiling: f64,
    reduction: Option<Reduction>,
}

/// The rate was refused and is on its way back.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Reduction {
    began_at: Timestamp,
    /// What seems to be too fast, in calls per second.
    peak: f64,
    /// A call was accepted since, so that another refusal is news about the rate.
    proven: bool,
}

impl Limit {
    /// Calls per second at this time.
    #[must_use]
    pub(super) fn per_second(&self, now: Timestamp) -> f64 {
        let Some(Reduction { began_at, peak, .. }) = self.reduction else { return self.ceiling };
        let seconds = now.duration_since(began_at).as_secs_f64().max(0.0);
        let from_peak = seconds / Rate::RECOVERY_SECONDS - 1.0;
        let rate = peak * (1.0 + (1.0 - Rate::DECREASE) * from_peak.powi(3));
        rate.max(Rate::SLOWEST).min(self.ceiling)
    }
}

impl Rate {
    /// What is left of the rate after a refusal. Source: RFC 9438, section 4.6.
    const DECREASE: f64 = 0.7;
    /// Seconds until the refused rate is tried again. At 5 calls a second a refusal then comes once
    /// in about a hundred calls; a third of it costs more for refusals than the steeper way up gains.
    const RECOVERY_SECONDS: f64 = 15.0;
    /// What was too fast is taken to be what was accepted in the last second: a rate that was far
    /// above the limit comes down to it at once. It is not taken to be less than this share of the
    /// rate, as a limit may be used up by others while next to nothing was called here.
    const PEAK_MIN: f64 = 0.5;
    /// Slowest rate, in calls per second: below it nobody could tell slow from stuck.
    const SLOWEST: f64 = 0.2;
    /// Calls that may go at once after a rest: a change, its read-back and its verification.
    const BURST_MIN: f64 = 3.0;
    /// The same in seconds of the rate, so that an outsider who holds the directory for a moment
    /// costs no throughput at high rates.
    const BURST_SECONDS: f64 = 0.3;
    /// Tokens that only a user's change may take, so that a backlog never makes it wait for one.
    pub(super) const RESERVE: f64 = 1.0;

    /// A full bucket at the ceiling, which is at least one call per second.
    #[must_use]
    pub(super) fn new(ceiling: u32, now: Timestamp) -> Self {
        let ceiling = f64::from(ceiling.max(1));
        Self {
            limit: Limit { ceiling, reduction: None },
            tokens: burst(ceiling),
            filled_at: now,
            accepted: VecDeque::new(),
        }
    }

    /// Changes the ceiling.
    pub(super) fn set_ceiling(&mut self, ceiling: u32, now: Timestamp) {
        self.fill(now);
        self.limit.ceiling = f64::from(ceiling.max(1));
    }

    /// Calls per second at this time.
    #[must_use]
    pub(super) fn per_second(&self, now: Timestamp) -> f64 {
        self.limit.per_second(now)
    }

    /// Calls per second at any time, as far as is known now.
    #[must_use]
    pub(super) fn limit(&self) -> Limit {
        self.limit
    }

    /// When the rate is back at its ceiling; `None` if it is there.
    #[must_use]
    pub(super) fn recovered_at(&self) -> Option<Timestamp> {
        let Reduction { began_at, peak, .. } = self.limit.reduction?;
        let above_peak = (self.limit.ceiling / peak - 1.0) / (1.0 - Self::DECREASE);
        let seconds = Self::RECOVERY_SECONDS * (1.0 + above_peak.cbrt());
        Some(after(began_at, seconds.max(0.0)))
    }

    /// When a call may go that leaves `reserve` tokens behind.
    #[must_use]
    pub(super) fn ready_at(&self, reserve: f64, now: Timestamp) -> Timestamp {
        let (tokens, filled_at) = self.filled(now);
        let missing = 1.0 + reserve - tokens;
        // A sum of parts of tokens may lack a little of a whole one.
        if missing <= 1e-9 {
            return now;
        }
        after(filled_at.max(now), missing / self.per_second(now))
    }

    /// A call goes.
    pub(super) fn take(&mut self, now: Timestamp) {
        self.fill(now);
        self.tokens -= 1.0;
    }

    /// A call that was let go was not made.
    pub(super) fn give_back(&mut self) {
        self.tokens += 1.0;
    }

    /// A call was not refused for its rate.
    pub(super) fn accepted(&mut self, now: Timestamp) {
        if self.recovered_at().is_some_and(|at| at <= now) {
            self.limit.reduction = None;
        }
        if let Some(reduction) = &mut self.limit.reduction {
            reduction.proven = true;
        }
        self.forget_before_the_last_second(now);
        self.accepted.push_back(now);
    }

    /// A call was refused for its rate, and none goes before `until`.
    ///
    /// The rate is lowered once: refusals in a row, without an accepted call between them, say that
    /// the window is still shut and nothing new about the rate.
    pub(super) fn refused(&mut self, now: Timestamp, until: Timestamp) {
        self.fill(now);
        if self.limit.reduction.is_none_or(|reduction| reduction.proven) {
            self.forget_before_the_last_second(now);
            let accepted = u32::try_from(self.accepted.len()).unwrap_or(u32::MAX);
            let rate = self.per_second(now);
            let peak = f64::from(accepted).clamp(rate * Self::PEAK_MIN, rate);
            self.limit.reduction = Some(Reduction { began_at: now, peak, proven: false });
        }
        // The job that was refused goes again, and the reserve stays.
        self.tokens = 1.0 + Self::RESERVE;
        self.filled_at = until.max(now);
    }

    fn forget_before_the_last_second(&mut self, now: Timestamp) {
        let second = SignedDuration::from_secs(1);
        let is_past = |at: &mut Timestamp| now.duration_since(*at).abs() > second;
        while self.accepted.pop_front_if(is_past).is_some() {}
    }

    fn fill(&mut self, now: Timestamp) {
        (self.tokens, self.filled_at) = self.filled(now);
    }

    /// The tokens at this time, and up to when they are counted: later than now during a pause.
    fn filled(&self, now: Timestamp) -> (f64, Timestamp) {
        let since = self.filled_at;
        let since = if since.duration_since(now) > AHEAD_MAX { now } else { since };
        let seconds = now.duration_since(since).as_secs_f64();
        if seconds <= 0.0 {
            return (self.tokens, since);
        }
        let rate = self.per_second(now);
        ((self.tokens + seconds * rate).min(burst(rate)), now)
    }
}

/// Most tokens at that rate.
fn burst(per_second: f64) -> f64 {
    (per_second * Rate::BURST_SECONDS).max(Rate::BURST_MIN)
}

/// That many seconds later.
pub(super) fn after(time: Timestamp, seconds: f64) -> Timestamp {
    let by = SignedDuration::try_from_secs_f64(seconds).unwrap_or(AHEAD_MAX);
    time.saturating_add(by).unwrap_or(Timestamp::MAX)
}
