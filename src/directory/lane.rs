//! Who is next in the one lane of a directory, and when.
//!
//! ```text
//!   first ------------------------+   the worker's own urgent calls, before all others
//!   Change  [3][2][1] --+         |
//!   Create  [3][2][1] --+- turn --+-- pause, rate -->  one call in flight
//!   Repair  [3][2][1] --+                                |        |
//!   Poll    [3][2][1] --+         refused: head of its class  answered
//! ```

use std::collections::VecDeque;

use jiff::{SignedDuration, Timestamp};

use super::rate::{AHEAD_MAX, Rate, after};

/// Why a call is made. Earlier ones go first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// A user changed something and waits.
    Change,
    /// One of a backlog of objects without a contact.
    Create,
    /// The cloud differs from a spec that did not change.
    Repair,
    /// A look at the cloud that nobody waits for.
    Poll,
}

impl Priority {
    /// All of them, first to last.
    pub const ALL: [Self; 4] = [Self::Change, Self::Create, Self::Repair, Self::Poll];

    /// The value of the metrics' label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Change => "change",
            Self::Create => "create",
            Self::Repair => "repair",
            Self::Poll => "poll",
        }
    }

    const fn index(self) -> usize {
        self as usize
    }
}

/// The queue of one directory, its pauses and its rate. Pure: the time and the random number
/// (`jitter`, from 0 to 1) are arguments.
///
/// - First in, first out within a class; a higher class goes first.
/// - Nothing starves: every [`Lane::AGED_TURN`]th turn goes to the job that has waited longest
///   below the highest waiting class. A job that has `n` older ones in the queue when it comes is
///   granted within `(n + 1) * AGED_TURN` grants that are not refused, urgent ones aside.
/// - A refused job keeps its place, and its turn.
#[derive(Debug)]
pub(super) struct Lane<T> {
    first: VecDeque<Waiting<T>>,
    classes: [VecDeque<Waiting<T>>; 4],
    /// How many jobs came so far: the place of the next one in the order of arrival.
    arrivals: u64,
    /// How many grants in a row went past a job of a lower class.
    passed_over: u32,
    in_flight: bool,
    paused_until: Option<Timestamp>,
    /// Somebody else held the directory against a job's call. Until then only polls go: they are
    /// reads, which are not refused for that as a rule, and nobody is to wait for the truth as long
    /// as for the directory.
    ///
    /// Unverified (A21, A32): which calls are refused beside which. Ours never overlap.
    held_until: Option<Timestamp>,
    /// Conflicts in a row.
    conflicts: u32,
    /// Refusals for the rate in a row.
    throttles: u32,
    rate: Rate,
}

#[derive(Debug)]
struct Waiting<T> {
    item: T,
    arrival: u64,
    refused_since: Option<Timestamp>,
}

/// What the worker does now.
#[derive(Debug)]
pub(super) enum Next<T> {
    /// This one's call; the lane is shut until it is told how the call ended.
    Grant(Granted<T>),
    /// Nothing before this time.
    Wait(Timestamp),
    /// Nothing waits, or a call is in flight.
    Idle,
}

/// A job whose turn it is.
#[derive(Debug)]
pub(super) struct Granted<T> {
    /// The job.
    pub(super) item: T,
    place: Place,
}

impl<T> Granted<T> {
    /// Takes the job out, once the lane was told how its turn ended.
    pub(super) fn into_item(self) -> T {
        self.item
    }
}

#[derive(Debug)]
struct Place {
    /// `None`: before all classes.
    class: Option<Priority>,
    arrival: u64,
    refused_since: Option<Timestamp>,
    passed_over: u32,
}

/// The API did not execute a call and says: later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Somebody else holds the directory.
    Conflict,
    /// Too fast.
    Throttled {
        /// How long the API asked to wait.
        hint: Option<SignedDuration>,
    },
}

/// A job whose class and turn were picked.
struct Pick {
    class: Option<Priority>,
    aged: bool,
    /// The count after this grant.
    passed_over: u32,
}

impl<T> Lane<T> {
    /// Every so many grants one goes to a class that is not the highest waiting one. A backlog
    /// then loses an eighth, and a poll of ten pages ends within eighty calls.
    pub(super) const AGED_TURN: u32 = 8;

    /// How long a job is refused before its requester is told; until then it is tried again.
    pub(super) const PATIENCE: SignedDuration = SignedDuration::from_secs(10);

    /// Shortest pause after a conflict, in seconds.
    const CONFLICT_PAUSE_MIN: f64 = 0.1;
    /// Longest pause after the first conflict, in seconds. Short, and growing slowly: an outsider
    /// holds the directory for one call as a rule, and what is slept past its end is lost.
    const CONFLICT_PAUSE_FIRST: f64 = 0.2;
    /// Growth of the longest pause with each conflict in a row: 3 s after eight of them.
    const CONFLICT_PAUSE_GROWTH: f64 = 1.5;
    /// Longest pause after many conflicts, in seconds.
    const CONFLICT_PAUSE_MAX: f64 = 30.0;
    /// Longest pause without a hint, in seconds. Source: limits count in windows of 1 s or 60 s.
    const WINDOW_MAX: f64 = 60.0;
    /// Share by which pauses for the rate are spread, so that several callers part.
    const SPREAD: f64 = 0.05;

    /// An empty lane.
    #[must_use]
    pub(super) fn new(requests_per_second: u32, now: Timestamp) -> Self {
        Self {
            first: VecDeque::new(),
            classes: [const { VecDeque::new() }; 4],
            arrivals: 0,
            passed_over: 0,
            in_flight: false,
            paused_until: None,
            held_until: None,
            conflicts: 0,
            throttles: 0,
            rate: Rate::new(requests_per_second, now),
        }
    }

    /// The rate, for showing it.
    #[must_use]
    pub(super) fn rate(&self) -> &Rate {
        &self.rate
    }

    /// Changes the ceiling of the rate.
    pub(super) fn set_ceiling(&mut self, requests_per_second: u32, now: Timestamp) {
        self.rate.set_ceiling(requests_per_second, now);
    }

    /// How many jobs wait in each class, in the order of [`Priority::ALL`].
    #[must_use]
    pub(super) fn waiting(&self) -> [usize; 4] {
        self.classes.each_ref().map(VecDeque::len)
    }

    /// Whether nothing waits.
    #[must_use]
    pub(super) fn is_empty(&self) -> bool {
        self.first.is_empty() && self.classes.iter().all(VecDeque::is_empty)
    }

    /// A job takes its place at the end of its class.
    pub(super) fn push(&mut self, priority: Priority, item: T) {
        let waiting = Waiting { item, arrival: self.arrivals, refused_since: None };
        self.arrivals += 1;
        self.classes[priority.index()].push_back(waiting);
    }

    /// A job goes before all others. The caller sees to it that these are few.
    pub(super) fn push_first(&mut self, item: T) {
        let waiting = Waiting { item, arrival: self.arrivals, refused_since: None };
        self.arrivals += 1;
        self.first.push_back(waiting);
    }

    /// Takes all waiting jobs out, those of the classes only.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = T> {
        self.classes.iter_mut().flat_map(|class| class.drain(..)).map(|waiting| waiting.item)
    }

    /// What to do now. At most one call is in flight.
    pub(super) fn next(&mut self, now: Timestamp) -> Next<T> {
        let poll_waits = !self.classes[Priority::Poll.index()].is_empty();
        if self.first.is_empty() && poll_waits && self.held_end(now) > now {
            let class = Some(Priority::Poll);
            return self
                .grant(Some(Pick { class, aged: true, passed_over: self.passed_over }), now);
        }
        self.grant(self.pick(), now)
    }

    /// The same when only those may go that go before all others.
    pub(super) fn next_of_first(&mut self, now: Timestamp) -> Next<T> {
        let pick = Pick { class: None, aged: false, passed_over: self.passed_over };
        self.grant((!self.first.is_empty()).then_some(pick), now)
    }

    fn grant(&mut self, pick: Option<Pick>, now: Timestamp) -> Next<T> {
        let Some(pick) = pick.filter(|_| !self.in_flight) else { return Next::Idle };
        let change = matches!(pick.class, None | Some(Priority::Change)) || pick.aged;
        let reserve = if change { 0.0 } else { Rate::RESERVE };
        let reads = matches!(pick.class, None | Some(Priority::Poll));
        let held_end = if reads { now } else { self.held_end(now) };
        let go_at = self.rate.ready_at(reserve, now).max(self.pause_end(now)).max(held_end);
        if go_at > now {
            return Next::Wait(go_at);
        }
        let queue = match pick.class {
            None => &mut self.first,
            Some(class) => &mut self.classes[class.index()],
        };
        let Some(Waiting { item, arrival, refused_since }) = queue.pop_front() else {
            return Next::Idle;
        };
        let place =
            Place { class: pick.class, arrival, refused_since, passed_over: self.passed_over };
        self.passed_over = pick.passed_over;
        self.in_flight = true;
        self.rate.take(now);
        Next::Grant(Granted { item, place })
    }

    fn pick(&self) -> Option<Pick> {
        if !self.first.is_empty() {
            return Some(Pick { class: None, aged: false, passed_over: self.passed_over });
        }
        let heads = |class: Priority| Some((class, self.classes[class.index()].front()?.arrival));
        let mut heads = Priority::ALL.into_iter().filter_map(heads);
        let (highest, _) = heads.next()?;
        let oldest_below = heads.min_by_key(|(_, arrival)| *arrival);
        Some(match oldest_below {
            None => Pick { class: Some(highest), aged: false, passed_over: 0 },
            Some((class, _)) if self.passed_over + 1 >= Self::AGED_TURN => {
                Pick { class: Some(class), aged: true, passed_over: 0 }
            }
            Some(_) => {
                Pick { class: Some(highest), aged: false, passed_over: self.passed_over + 1 }
            }
        })
    }

    /// The granted job made no call.
    pub(super) fn unsent(&mut self) {
        self.in_flight = false;
        self.rate.give_back();
    }

    /// The call ended, whatever the answer, and was not refused. `answered`: the API was heard, so
    /// that the directory was free.
    pub(super) fn ended(&mut self, answered: bool, now: Timestamp) {
        self.in_flight = false;
        if answered {
            // A poll that went while the directory was held says nothing of that.
            if self.held_end(now) == now {
                self.conflicts = 0;
            }
            self.throttles = 0;
            self.rate.accepted(now);
        }
    }

    /// The call was refused. The job keeps its place and its turn, unless that went on for
    /// [`Self::PATIENCE`] or would before its next try: then it is given back, to be answered.
    pub(super) fn refused(
        &mut self,
        granted: Granted<T>,
        refusal: Refusal,
        now: Timestamp,
        jitter: f64,
    ) -> Option<T> {
        self.in_flight = false;
        let until = match refusal {
            Refusal::Conflict => self.pause_for_conflict(now, jitter),
            Refusal::Throttled { hint } => self.pause_for_rate(hint, now, jitter),
        };
        let Granted { item, place } = granted;
        let by_holder =
            refusal == Refusal::Conflict && !matches!(place.class, None | Some(Priority::Poll));
        if by_holder {
            self.held_until = Some(until.max(self.held_end(now)));
        } else {
            self.paused_until = Some(until.max(self.pause_end(now)));
        }
        // A time of refusal in the future comes from a clock that was set back.
        let since = place.refused_since.filter(|since| *since <= now).unwrap_or(now);
        if until.duration_since(since) > Self::PATIENCE {
            return Some(item);
        }
        self.put_back(item, Place { refused_since: Some(since), ..place });
        None
    }

    /// The call was refused for a reason that is gone: the job keeps its place and its turn, and goes
    /// without a pause.
    pub(super) fn goes_again(&mut self, granted: Granted<T>) {
        self.in_flight = false;
        let Granted { item, place } = granted;
        self.put_back(item, place);
    }

    fn put_back(&mut self, item: T, place: Place) {
        let Place { class, arrival, refused_since, passed_over } = place;
        self.passed_over = passed_over;
        let waiting = Waiting { item, arrival, refused_since };
        match class {
            None => self.first.push_front(waiting),
            Some(class) => self.classes[class.index()].push_front(waiting),
        }
    }

    fn pause_for_conflict(&mut self, now: Timestamp, jitter: f64) -> Timestamp {
        let exponent = i32::try_from(self.conflicts.min(64)).unwrap_or(64);
        let longest = (Self::CONFLICT_PAUSE_FIRST * Self::CONFLICT_PAUSE_GROWTH.powi(exponent))
            .min(Self::CONFLICT_PAUSE_MAX);
        self.conflicts = self.conflicts.saturating_add(1);
        self.throttles = 0;
        self.rate.accepted(now);
        let spread = longest - Self::CONFLICT_PAUSE_MIN;
        after(now, Self::CONFLICT_PAUSE_MIN + spread * jitter.clamp(0.0, 1.0))
    }

    /// To the edge of the window, which is a whole second if the clocks agree; if that was too
    /// early, half a second, 1 s, 2 s and so on up to the longest window.
    fn pause_for_rate(
        &mut self,
        hint: Option<SignedDuration>,
        now: Timestamp,
        jitter: f64,
    ) -> Timestamp {
        let to_the_edge = 1.0 - f64::from(now.subsec_nanosecond().max(0)) / 1e9;
        let exponent = i32::try_from(self.throttles.min(64)).unwrap_or(64);
        let window = match self.throttles {
            0 => to_the_edge,
            _ => 2_f64.powi(exponent - 2).min(Self::WINDOW_MAX),
        };
        self.throttles = self.throttles.saturating_add(1);
        let hint = hint.unwrap_or_default().min(AHEAD_MAX).as_secs_f64();
        let spread = Self::SPREAD * jitter.clamp(0.0, 1.0);
        let until = after(now, window.max(hint) * (1.0 + spread));
        self.rate.refused(now, until);
        until
    }

    fn pause_end(&self, now: Timestamp) -> Timestamp {
        Self::end(self.paused_until, now)
    }

    fn held_end(&self, now: Timestamp) -> Timestamp {
        Self::end(self.held_until, now)
    }

    /// More than the longest pause ahead can only come from a clock that was set back.
    fn end(until: Option<Timestamp>, now: Timestamp) -> Timestamp {
        let longest = after(now, AHEAD_MAX.as_secs_f64() * (1.0 + Self::SPREAD));
        until.filter(|until| *until <= longest).unwrap_or(now).max(now)
    }
}
