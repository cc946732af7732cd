//! What goes through: counts, a log of recent calls, the directory's lane, throttling.

use std::collections::{BTreeMap, VecDeque};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::keys::Signature;
use crate::model::Refusal;
use crate::switches::{Lane, Overlap, Switches};
use crate::wire::Action;

/// What was counted since the start or the last reset.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counts {
    /// Calls in all.
    pub calls: u64,
    /// Calls by operation.
    pub by_action: BTreeMap<String, u64>,
    /// Calls by how they ended: `OK`, an error code, or `dropped`, `reset`, `cut`, `raw`.
    pub by_outcome: BTreeMap<String, u64>,
    /// Operations that changed or sent something and were done.
    pub writes: u64,
    /// Calls of the directory in flight at once, at most. From the request's last byte to the
    /// answer's first. The token service is another one, and not counted here.
    pub in_flight_max: u64,
    /// Calls of the directory that arrived while another was in flight.
    pub overlaps: u64,
    /// Requests to the metadata service: `token`, `role`, `credentials`; and `without a token` for
    /// each that should have brought one.
    #[serde(default)]
    pub metadata: BTreeMap<String, u64>,
    /// Bytes read.
    pub bytes_in: u64,
    /// Bytes written.
    pub bytes_out: u64,
}

impl Counts {
    /// Calls of one operation.
    #[must_use]
    pub fn of(&self, action: &str) -> u64 {
        self.by_action.get(action).copied().unwrap_or(0)
    }

    /// Requests to the metadata service of that kind.
    #[must_use]
    pub fn of_metadata(&self, kind: &str) -> u64 {
        self.metadata.get(kind).copied().unwrap_or(0)
    }

    /// Calls that ended so.
    #[must_use]
    pub fn ended(&self, outcome: &str) -> u64 {
        self.by_outcome.get(outcome).copied().unwrap_or(0)
    }
}

/// One call, for showing. Private values are masked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CallRecord {
    /// From 1.
    pub number: u64,
    /// When it had arrived, by the simulator's clock.
    pub at: Timestamp,
    /// The operation, or what was sent in its place.
    pub action: String,
    /// Which key signed.
    pub key_id: String,
    /// How it was signed.
    pub signature: Signature,
    /// Its parameters, masked.
    pub parameters: Map<String, Value>,
    /// The names of all parameters that stood in the URL.
    #[serde(default)]
    pub in_url: Vec<String>,
    /// The HTTP status, unless no answer was given.
    pub status: Option<u16>,
    /// As in [`Counts::by_outcome`].
    pub outcome: String,
    /// Was the operation done.
    pub executed: bool,
    /// From its arrival to its answer, in milliseconds.
    pub millis: u64,
}

/// The last calls.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log {
    records: VecDeque<CallRecord>,
}

const RECORDS_MAX: usize = 10_000;

impl Log {
    /// Adds one.
    pub(crate) fn push(&mut self, record: CallRecord) {
        if self.records.len() == RECORDS_MAX {
            self.records.pop_front();
        }
        self.records.push_back(record);
    }

    /// Those after a number, in the order in which they ended.
    #[must_use]
    pub(crate) fn since(&self, number: u64) -> Vec<CallRecord> {
        self.records.iter().filter(|record| record.number > number).cloned().collect()
    }
}

/// Somebody else's use of the directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Hold {
    /// Nobody else is there.
    #[default]
    Free,
    /// Held until released.
    Held,
    /// Held and free in turn, beginning with held.
    Cycle {
        /// How long it is held.
        hold_ms: u64,
        /// How long it is free.
        free_ms: u64,
    },
}

/// Which operations are in progress, and whether another may begin.
#[derive(Clone, Debug, Default)]
pub(crate) struct DirectoryLane {
    in_progress: BTreeMap<u64, Rider>,
    hold: Hold,
    hold_since: Timestamp,
}

#[derive(Clone, Debug)]
struct Rider {
    action: Action,
    contact_id: Option<String>,
}

impl DirectoryLane {
    /// Lets an outsider hold the lane.
    pub(crate) fn set_hold(&mut self, hold: Hold, now: Timestamp) {
        self.hold = hold;
        self.hold_since = now;
    }

    /// An operation begins, unless one that excludes it is in progress.
    ///
    /// # Errors
    /// 429 `ConcurrentCallNotSupported`.
    pub(crate) fn enter(
        &mut self,
        number: u64,
        action: Action,
        contact_id: Option<String>,
        switches: &Switches,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        let rider = Rider { action, contact_id };
        let held = self.is_held(now) && (action.excludes || switches.overlap == Overlap::AllCalls);
        let mut others = self.in_progress.values();
        if held || others.any(|other| rider.excluded_by(other, switches)) {
            return Err(Refusal::new(429, "ConcurrentCallNotSupported", action.name));
        }
        self.in_progress.insert(number, rider);
        Ok(())
    }

    /// The operation has ended.
    pub(crate) fn leave(&mut self, number: u64) {
        self.in_progress.remove(&number);
    }

    fn is_held(&self, now: Timestamp) -> bool {
        match self.hold {
            Hold::Free => false,
            Hold::Held => true,
            Hold::Cycle { hold_ms, free_ms } => {
                let since = now.duration_since(self.hold_since).as_millis().max(0).unsigned_abs();
                let cycle = u128::from(hold_ms + free_ms).max(1);
                since % cycle < u128::from(hold_ms)
            }
        }
    }
}

impl Rider {
    /// A21 and A32.
    fn excluded_by(&self, other: &Self, switches: &Switches) -> bool {
        let same_lane = switches.lane == Lane::Directory || self.contact_id == other.contact_id;
        same_lane
            && match switches.overlap {
                Overlap::Writes => self.action.excludes && other.action.writes,
                Overlap::WritesBehindAnything => self.action.excludes,
                Overlap::AllCalls => true,
                Overlap::Off => false,
            }
    }
}

/// How many calls are let through.
///
/// Source: "API throttling" of other products: per account and operation, in fixed windows.
/// Unverified for this one, which prints no figure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Throttle {
    /// Calls of each operation in a window; absent: no limit.
    pub calls: Option<u32>,
    /// Other figures for some operations.
    pub by_action: BTreeMap<String, u32>,
    /// How long a window is, in milliseconds.
    pub window_ms: u64,
    /// The HTTP status of a refusal: 400, 429 or 503.
    pub status: u16,
    /// Its code.
    pub code: String,
    /// The header `x-acs-retry-after`.
    pub retry_after: RetryAfter,
}

impl Default for Throttle {
    fn default() -> Self {
        Self {
            calls: None,
            by_action: BTreeMap::new(),
            window_ms: 1000,
            status: 400,
            code: "Throttling.User".to_owned(),
            retry_after: RetryAfter::Absent,
        }
    }
}

impl Throttle {
    /// So many calls of each operation a second.
    #[must_use]
    pub fn per_second(calls: u32) -> Self {
        Self { calls: Some(calls), ..Self::default() }
    }
}

/// What `x-acs-retry-after` says.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RetryAfter {
    /// The header is not there.
    #[default]
    Absent,
    /// The milliseconds until the window ends.
    WindowEnd,
    /// This text, sensible or not.
    Text(String),
}

/// Counts calls in the current window.
#[derive(Clone, Debug, Default)]
pub(crate) struct Meter {
    window: i128,
    calls: BTreeMap<&'static str, u32>,
}

impl Meter {
    /// Lets a call through or not. Refused calls do not count.
    ///
    /// # Errors
    /// As the throttle says.
    pub(crate) fn admit(
        &mut self,
        action: Action,
        throttle: &Throttle,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        let Some(limit) = throttle.by_action.get(action.name).copied().or(throttle.calls) else {
            return Ok(());
        };
        let length = i128::from(throttle.window_ms.max(1));
        let millis = i128::from(now.as_millisecond());
        let window = millis.div_euclid(length);
        if window != self.window {
            *self = Self { window, calls: BTreeMap::new() };
        }
        let calls = self.calls.entry(action.name).or_default();
        if *calls < limit {
            *calls += 1;
            return Ok(());
        }
        let mut refusal = Refusal::new(throttle.status, &*throttle.code, action.name);
        let hint = match &throttle.retry_after {
            RetryAfter::Absent => None,
            RetryAfter::WindowEnd => Some((length - millis.rem_euclid(length)).to_string()),
            RetryAfter::Text(text) => Some(text.clone()),
        };
        refusal.headers.extend(hint.map(|hint| ("x-acs-retry-after".to_owned(), hint)));
        Err(refusal)
    }
}
