//! What is counted, and by whom it is asked for. How it is written stands in `page`.
//!
//! - Counters and histograms grow where something happens.
//! - Gauges are computed when somebody looks, from what is known then: nothing ticks, and what is
//!   gone is not shown any more.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use prometheus_client::metrics::histogram::Histogram;

/// Bounds for the answers of the API, in seconds. A call is given up after 10 s.
const CALL_BOUNDS: [f64; 10] = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Bounds for waiting in a lane, in seconds: from a turn at once to a backlog of a thousand.
const WAIT_BOUNDS: [f64; 11] = [0.001, 0.005, 0.02, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 1800.0];

/// Bounds for a change to arrive, in seconds: from milliseconds to an hour.
const SYNC_BOUNDS: [f64; 12] =
    [0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0];

/// Bounds for a person to confirm, in seconds: from a minute to a month.
const CONFIRM_BOUNDS: [f64; 9] =
    [60.0, 600.0, 3600.0, 14_400.0, 43_200.0, 86_400.0, 259_200.0, 604_800.0, 2_592_000.0];

/// The metrics of one operator. Clones share them.
#[derive(Clone)]
pub struct Metrics(Arc<Shared>);

struct Shared {
    leads: AtomicBool,
    directories: Mutex<BTreeMap<String, Arc<Mutex<Counts>>>>,
    lane_waits: Mutex<BTreeMap<&'static str, Histogram>>,
    time_to_synced: Histogram,
    time_to_verified: Histogram,
    look: RwLock<Option<Look>>,
}

/// Tells what is true at that moment.
type Look = Arc<dyn Fn() -> Gauges + Send + Sync>;

/// What is counted of one directory.
#[derive(Debug, Clone, Default)]
pub(super) struct Counts {
    /// By operation and outcome.
    pub(super) requests: BTreeMap<(&'static str, &'static str), u64>,
    /// By operation.
    pub(super) durations: BTreeMap<&'static str, Histogram>,
    /// By channel and outcome.
    pub(super) sends: BTreeMap<(&'static str, &'static str), u64>,
    /// By field.
    pub(super) drift: BTreeMap<String, u64>,
}

/// What is true when somebody looks.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Gauges {
    /// The directories that there are. What was counted of others is not shown any more.
    pub directories: Vec<DirectoryGauges>,
    /// How many MessageContacts name a directory that is not there, by their state.
    pub homeless: Vec<(&'static str, u32)>,
    /// The policies that can be followed.
    pub policies: Vec<PolicyGauges>,
}

/// What is true of one directory.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DirectoryGauges {
    /// The name of its ResourceDirectory.
    pub name: String,
    /// Whether it is ready, and the reason.
    pub ready: Option<(bool, String)>,
    /// How many calls wait, by their priority; none while it is not connected.
    pub waiting: Vec<(&'static str, u32)>,
    /// Calls a second that may be sent; `None` while it is not connected.
    pub rate_limit: Option<f64>,
    /// How many MessageContacts there are, by their state.
    pub contacts: Vec<(&'static str, u32)>,
    /// How many contacts nobody holds; `None` before they were counted.
    pub unmanaged: Option<u32>,
    /// How many messages are left for today; `None` before it is known which directory this is.
    pub sends_remaining: Option<u32>,
}

/// What is true of one policy.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PolicyGauges {
    /// The name of the ContactPolicy.
    pub name: String,
    /// Its enforcement.
    pub enforcement: &'static str,
    /// How many contacts are not as it demands.
    pub violations: u32,
    /// The name of a rule, a message type, and the share of what is demanded that there is.
    pub coverage: Vec<(String, &'static str, f64)>,
}

impl Metrics {
    /// Whether this process is the one that works.
    pub fn lead(&self, leads: bool) {
        self.0.leads.store(leads, Ordering::Release);
    }

    /// What is counted of the directory of that name.
    #[must_use]
    pub fn directory(&self, name: &str) -> DirectoryMetrics {
        let mut directories = locked(&self.0.directories);
        let counts = Arc::clone(directories.entry(name.to_owned()).or_default());
        DirectoryMetrics { counts, metrics: self.clone() }
    }

    /// A directory has what a spec asks for, so long after the spec was changed.
    pub fn synced_after(&self, time: Duration) {
        self.0.time_to_synced.observe(time.as_secs_f64());
    }

    /// An owner has confirmed a value that has waited so long for it.
    pub fn verified_after(&self, time: Duration) {
        self.0.time_to_verified.observe(time.as_secs_f64());
    }

    /// Asks `look` from now on what gauges show. It MUST NOT block for long, and MAY be asked from
    /// any thread.
    pub fn show(&self, look: impl Fn() -> Gauges + Send + Sync + 'static) {
        *self.0.look.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(look));
    }

    /// What is true now; `None` before anybody can tell. What was counted of directories that are
    /// gone is forgotten.
    pub(super) fn gauges(&self) -> Option<Gauges> {
        let look = self.0.look.read().unwrap_or_else(PoisonError::into_inner).clone()?;
        let gauges = look();
        let exists = |name: &String| gauges.directories.iter().any(|known| known.name == *name);
        locked(&self.0.directories).retain(|name, _| exists(name));
        Some(gauges)
    }

    pub(super) fn leads(&self) -> bool {
        self.0.leads.load(Ordering::Acquire)
    }

    /// What was counted, by the names of directories.
    pub(super) fn counts(&self) -> BTreeMap<String, Counts> {
        let directories = locked(&self.0.directories);
        directories.iter().map(|(name, counts)| (name.clone(), locked(counts).clone())).collect()
    }

    pub(super) fn lane_waits(&self) -> BTreeMap<&'static str, Histogram> {
        locked(&self.0.lane_waits).clone()
    }

    pub(super) fn time_to_synced(&self) -> Histogram {
        self.0.time_to_synced.clone()
    }

    pub(super) fn time_to_verified(&self) -> Histogram {
        self.0.time_to_verified.clone()
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self(Arc::new(Shared {
            leads: AtomicBool::new(false),
            directories: Mutex::default(),
            lane_waits: Mutex::default(),
            time_to_synced: Histogram::new(SYNC_BOUNDS),
            time_to_verified: Histogram::new(CONFIRM_BOUNDS),
            look: RwLock::default(),
        }))
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

/// What is counted of one directory. Once the directory is gone it may still be counted, and nobody
/// sees it.
#[derive(Debug, Clone)]
pub struct DirectoryMetrics {
    counts: Arc<Mutex<Counts>>,
    metrics: Metrics,
}

impl DirectoryMetrics {
    /// A call was sent and has ended.
    pub fn called(&self, action: &'static str, outcome: &'static str, took: Duration) {
        let mut counts = locked(&self.counts);
        *counts.requests.entry((action, outcome)).or_default() += 1;
        let durations = counts.durations.entry(action);
        let duration = durations.or_insert_with(|| Histogram::new(CALL_BOUNDS));
        duration.observe(took.as_secs_f64());
    }

    /// A call was sent that had waited so long for its turn.
    pub fn waited(&self, priority: &'static str, time: Duration) {
        let mut waits = locked(&self.metrics.0.lane_waits);
        let wait = waits.entry(priority).or_insert_with(|| Histogram::new(WAIT_BOUNDS));
        wait.observe(time.as_secs_f64());
    }

    /// The API was asked to send a verification message.
    pub fn asked_to_confirm(&self, channel: &'static str, outcome: &'static str) {
        *locked(&self.counts).sends.entry((channel, outcome)).or_default() += 1;
    }

    /// A field was found other than the spec asks for, so many times.
    pub fn drifted(&self, field: &str, times: u64) {
        *locked(&self.counts).drift.entry(field.to_owned()).or_default() += times;
    }
}

/// Nothing is left half done in them, so that a poisoned lock is fine.
fn locked<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
