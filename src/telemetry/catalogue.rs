//! Every metric: its name, its labels, and what it means. What is served and `docs/metrics.md` are
//! both made from here, so that neither can say what the other does not.

use prometheus_client::registry::Unit;

/// A metric, as its head and the manual describe it.
#[derive(Debug)]
pub struct Described {
    /// The whole name, as people query it; without `_bucket`, `_sum` and `_count`.
    pub name: &'static str,
    /// What it does over time.
    pub kind: Kind,
    /// What it counts in; the name ends with it.
    pub unit: Option<Unit>,
    /// The names of its labels, in order.
    pub labels: &'static [&'static str],
    /// What it says, in a sentence without its full stop.
    pub meaning: &'static str,
    /// A query that somebody would ask.
    pub example: &'static str,
}

impl Described {
    /// The name without what the forms of exposition add by themselves: the unit and `_total`.
    pub(super) fn stem(&self) -> &'static str {
        let name = self.name.strip_suffix("_total").unwrap_or(self.name);
        let without_unit = self.unit.as_ref().and_then(|unit| name.strip_suffix(unit.as_str()));
        without_unit.and_then(|stem| stem.strip_suffix('_')).unwrap_or(name)
    }
}

/// What a metric does over time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It only grows, and begins anew when the process does.
    Counter,
    /// It goes up and down.
    Gauge,
    /// It tells how often values up to some bounds occurred.
    Histogram,
}

impl Kind {
    /// The word of the exposition formats.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// All metrics, in the order in which they are served.
pub const ALL: &[&Described] = &[
    &CLOUD_REQUESTS,
    &CLOUD_REQUEST_DURATION,
    &LANE_QUEUE_LENGTH,
    &LANE_WAIT,
    &RATE_LIMIT,
    &DIRECTORY_READY,
    &CONTACTS,
    &UNMANAGED_CONTACTS,
    &DRIFT,
    &VERIFICATION_SENDS,
    &VERIFICATION_SENDS_REMAINING,
    &TIME_TO_SYNCED,
    &TIME_TO_VERIFIED,
    &POLICY_VIOLATIONS,
    &POLICY_COVERAGE,
    &LEADER,
    &PROCESS_CPU,
    &PROCESS_RESIDENT_MEMORY,
    &PROCESS_VIRTUAL_MEMORY,
    &PROCESS_OPEN_FDS,
    &PROCESS_MAX_FDS,
    &PROCESS_START_TIME,
];

pub(super) const CLOUD_REQUESTS: Described = Described {
    name: "message_contact_cloud_requests_total",
    kind: Kind::Counter,
    unit: None,
    labels: &["directory", "action", "outcome"],
    meaning: "Calls that were sent to the directory, by operation and by how they ended",
    example: r#"sum by (directory, outcome) (rate(message_contact_cloud_requests_total{outcome!="ok"}[5m]))"#,
};

pub(super) const CLOUD_REQUEST_DURATION: Described = Described {
    name: "message_contact_cloud_request_duration_seconds",
    kind: Kind::Histogram,
    unit: Some(Unit::Seconds),
    labels: &["directory", "action"],
    meaning: "How long the directory took to answer a call, or until none was awaited any more",
    example: "histogram_quantile(0.99, sum by (directory, le) \
              (rate(message_contact_cloud_request_duration_seconds_bucket[5m])))",
};

pub(super) const LANE_QUEUE_LENGTH: Described = Described {
    name: "message_contact_lane_queue_length",
    kind: Kind::Gauge,
    unit: None,
    labels: &["directory", "priority"],
    meaning: "Calls that wait for their turn in the one lane of the directory",
    example: "sum by (directory) (message_contact_lane_queue_length)",
};

pub(super) const LANE_WAIT: Described = Described {
    name: "message_contact_lane_wait_seconds",
    kind: Kind::Histogram,
    unit: Some(Unit::Seconds),
    labels: &["priority"],
    meaning: "How long a call that was sent had waited for its turn",
    example: r#"histogram_quantile(0.99, sum by (le) (rate(message_contact_lane_wait_seconds_bucket{priority="change"}[5m])))"#,
};

pub(super) const RATE_LIMIT: Described = Described {
    name: "message_contact_rate_limit",
    kind: Kind::Gauge,
    unit: None,
    labels: &["directory"],
    meaning: "Calls per second that may be sent now: `requestsPerSecond`, or less after the API asked to slow down",
    example: "min by (directory) (message_contact_rate_limit)",
};

pub(super) const DIRECTORY_READY: Described = Described {
    name: "message_contact_directory_ready",
    kind: Kind::Gauge,
    unit: None,
    labels: &["directory", "reason"],
    meaning: "Whether the condition Ready of the ResourceDirectory is True (1) or not (0), and its reason",
    example: "message_contact_directory_ready == 0",
};

pub(super) const CONTACTS: Described = Described {
    name: "message_contact_contacts",
    kind: Kind::Gauge,
    unit: None,
    labels: &["directory", "state"],
    meaning: "MessageContacts of the directory, each in exactly one state; without a directory those whose ResourceDirectory is not there",
    example: r#"sum by (directory) (message_contact_contacts{state="stalled"})"#,
};

pub(super) const UNMANAGED_CONTACTS: Described = Described {
    name: "message_contact_unmanaged_contacts",
    kind: Kind::Gauge,
    unit: None,
    labels: &["directory"],
    meaning: "Contacts in the directory that no MessageContact holds",
    example: "max by (directory) (message_contact_unmanaged_contacts) > 0",
};

pub(super) const DRIFT: Described = Described {
    name: "message_contact_drift_total",
    kind: Kind::Counter,
    unit: None,
    labels: &["directory", "field"],
    meaning: "Times at which a field was found other than the spec asks for: each time it was put right, and once where it is only reported",
    example: "sum by (directory, field) (increase(message_contact_drift_total[1d]))",
};

pub(super) const VERIFICATION_SENDS: Described = Described {
    name: "message_contact_verification_sends_total",
    kind: Kind::Counter,
    unit: None,
    labels: &["directory", "channel", "outcome"],
    meaning: "Verification messages that the API was asked to send, by how that ended",
    example: r#"sum by (directory) (increase(message_contact_verification_sends_total{outcome="ok"}[1d]))"#,
};

pub(super) const VERIFICATION_SENDS_REMAINING: Described = Described {
    name: "message_contact_verification_sends_remaining",
    kind: Kind::Gauge,
    unit: None,
    labels: &["directory"],
    meaning: "Verification messages that the operator may still have sent in the directory today",
    example: "min by (directory) (message_contact_verification_sends_remaining)",
};

pub(super) const TIME_TO_SYNCED: Described = Described {
    name: "message_contact_time_to_synced_seconds",
    kind: Kind::Histogram,
    unit: Some(Unit::Seconds),
    labels: &[],
    meaning: "From a change of a spec until the directory had it",
    example: "histogram_quantile(0.95, sum by (le) (rate(message_contact_time_to_synced_seconds_bucket[1h])))",
};

pub(super) const TIME_TO_VERIFIED: Described = Described {
    name: "message_contact_time_to_verified_seconds",
    kind: Kind::Histogram,
    unit: Some(Unit::Seconds),
    labels: &[],
    meaning: "How long an address or a number waited for its owner until it was confirmed",
    example: "histogram_quantile(0.5, sum by (le) (increase(message_contact_time_to_verified_seconds_bucket[30d])))",
};

pub(super) const POLICY_VIOLATIONS: Described = Described {
    name: "message_contact_policy_violations",
    kind: Kind::Gauge,
    unit: None,
    labels: &["policy", "enforcement"],
    meaning: "MessageContacts that are not as the ContactPolicy demands of each",
    example: "max by (policy) (message_contact_policy_violations) > 0",
};

pub(super) const POLICY_COVERAGE: Described = Described {
    name: "message_contact_policy_coverage",
    kind: Kind::Gauge,
    unit: None,
    labels: &["policy", "rule", "message_type"],
    meaning: "How much of what a rule of coverage demands there is: 1 is just enough, 0.5 half of it; the lower one of contacts and verified contacts",
    example: "min by (policy, rule, message_type) (message_contact_policy_coverage) < 1",
};

pub(super) const LEADER: Described = Described {
    name: "message_contact_leader",
    kind: Kind::Gauge,
    unit: None,
    labels: &[],
    meaning: "Whether this process is the one that works (1) or stands by (0)",
    example: "sum(message_contact_leader)",
};

pub(super) const PROCESS_CPU: Described = Described {
    name: "process_cpu_seconds_total",
    kind: Kind::Counter,
    unit: Some(Unit::Seconds),
    labels: &[],
    meaning: "Processor time that the process has used",
    example: "rate(process_cpu_seconds_total[5m])",
};

pub(super) const PROCESS_RESIDENT_MEMORY: Described = Described {
    name: "process_resident_memory_bytes",
    kind: Kind::Gauge,
    unit: Some(Unit::Bytes),
    labels: &[],
    meaning: "Memory of the process that stands in RAM",
    example: "process_resident_memory_bytes",
};

pub(super) const PROCESS_VIRTUAL_MEMORY: Described = Described {
    name: "process_virtual_memory_bytes",
    kind: Kind::Gauge,
    unit: Some(Unit::Bytes),
    labels: &[],
    meaning: "Address space of the process",
    example: "process_virtual_memory_bytes",
};

pub(super) const PROCESS_OPEN_FDS: Described = Described {
    name: "process_open_fds",
    kind: Kind::Gauge,
    unit: None,
    labels: &[],
    meaning: "Files and sockets that the process has open",
    example: "process_open_fds / process_max_fds",
};

pub(super) const PROCESS_MAX_FDS: Described = Described {
    name: "process_max_fds",
    kind: Kind::Gauge,
    unit: None,
    labels: &[],
    meaning: "Files and sockets that the process may have open",
    example: "process_max_fds",
};

pub(super) const PROCESS_START_TIME: Described = Described {
    name: "process_start_time_seconds",
    kind: Kind::Gauge,
    unit: Some(Unit::Seconds),
    labels: &[],
    meaning: "When the process began, in seconds since 1970",
    example: "time() - process_start_time_seconds",
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stem_of_a_name_has_neither_unit_nor_total() {
        assert_eq!(CLOUD_REQUESTS.stem(), "message_contact_cloud_requests");
        assert_eq!(CLOUD_REQUEST_DURATION.stem(), "message_contact_cloud_request_duration");
        assert_eq!(PROCESS_CPU.stem(), "process_cpu");
        assert_eq!(LEADER.stem(), "message_contact_leader");
    }
}
