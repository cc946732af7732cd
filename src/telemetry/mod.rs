//! What the operator tells of itself: log lines and metrics. Nothing private is in either.

mod logs;

mod catalogue;

mod metrics;

mod process;

mod page;

pub use catalogue::{ALL as METRICS, Described, Kind};
pub use logs::{LogFormat, start, subscriber};
pub use metrics::{DirectoryGauges, DirectoryMetrics, Gauges, Metrics, PolicyGauges};
pub use page::Page;
