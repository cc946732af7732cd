//! What is served as `/metrics`: OpenMetrics for whoever asks for it, else the older text of
//! Prometheus.

use std::collections::BTreeMap;
use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeMetric as _, NoLabelSet, prometheus_text, text,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::catalogue::{self, Described, Kind};
use super::metrics::{Counts, DirectoryGauges, Gauges, Metrics, PolicyGauges};
use super::process::Process;

/// One page of metrics.
#[derive(Debug)]
pub struct Page {
    /// Its form, as a header says it.
    pub content_type: &'static str,
    /// Its text.
    pub body: String,
}

/// Source: OpenMetrics 1.0.0, "Protocol Negotiation".
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

impl Metrics {
    /// All metrics now, in the form that the header `Accept` of a request asks for.
    #[must_use]
    pub fn page(&self, accept: Option<&str>) -> Page {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(self.clone()));
        let mut body = String::new();
        // Writing to a text cannot fail, and so nothing is lost with these results.
        if accept.is_some_and(prefers_open_metrics) {
            let _ = text::encode(&mut body, &registry);
            Page { content_type: OPEN_METRICS, body }
        } else {
            let _ = prometheus_text::encode(&mut body, &registry);
            Page { content_type: prometheus_text::CONTENT_TYPE, body }
        }
    }
}

/// Whether a header asks for OpenMetrics at least as much as for plain text.
/// Source: RFC 9110, 12.5.1.
fn prefers_open_metrics(accept: &str) -> bool {
    let (mut open, mut plain) = (0.0_f64, 0.0_f64);
    for range in accept.split(',') {
        let mut parts = range.split(';').map(str::trim);
        let kind = parts.next().unwrap_or_default().to_ascii_lowercase();
        let parameters: Vec<_> = parts.filter_map(|part| part.split_once('=')).collect();
        let parameter = |wanted: &str| {
            let found = parameters.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted));
            found.map(|(_, value)| value.trim_matches('"'))
        };
        let weight = parameter("q").and_then(|weight| weight.parse().ok()).unwrap_or(1.0);
        match kind.as_str() {
            "application/openmetrics-text" => {
                if matches!(parameter("version"), None | Some("1.0.0" | "0.0.1")) {
                    open = open.max(weight);
                }
            }
            "text/plain" | "text/*" | "*/*" => plain = plain.max(weight),
            _ => {}
        }
    }
    open > 0.0 && open >= plain
}

impl Collector for Metrics {
    fn encode(&self, encoder: DescriptorEncoder) -> fmt::Result {
        let gauges = self.gauges().unwrap_or_default();
        let Gauges { directories, homeless, policies } = &gauges;
        let counts = self.counts();
        let mut page = Families(encoder);
        page.calls(&counts)?;
        page.lanes(self, directories)?;
        page.contacts(directories, homeless)?;
        page.messages(&counts, directories)?;
        page.spread(&catalogue::TIME_TO_SYNCED, self.time_to_synced())?;
        page.spread(&catalogue::TIME_TO_VERIFIED, self.time_to_verified())?;
        page.policies(policies)?;
        page.one(&catalogue::LEADER, Some(if self.leads() { 1.0 } else { 0.0 }))?;
        page.process(&Process::now())
    }
}

/// One series: the values of its labels, and its value.
type Series = (Vec<String>, Value);

enum Value {
    Count(u64),
    Number(f64),
    Spread(Histogram),
}

/// Writes families one after the other.
struct Families<'a>(DescriptorEncoder<'a>);

impl Families<'_> {
    fn calls(&mut self, counts: &BTreeMap<String, Counts>) -> fmt::Result {
        self.family(
            &catalogue::CLOUD_REQUESTS,
            each(counts, |name, counts| {
                let requests = counts.requests.iter();
                let series = requests.map(|((action, outcome), count)| {
                    (labels([name, action, outcome]), Value::Count(*count))
                });
                series.collect()
            }),
        )?;
        self.family(
            &catalogue::CLOUD_REQUEST_DURATION,
            each(counts, |name, counts| {
                let durations = counts.durations.iter();
                let series = durations.map(|(action, spread)| {
                    (labels([name, action]), Value::Spread(spread.clone()))
                });
                series.collect()
            }),
        )
    }

    fn lanes(&mut self, metrics: &Metrics, directories: &[DirectoryGauges]) -> fmt::Result {
        let waiting = directories.iter().flat_map(|directory| {
            let waiting = directory.waiting.iter();
            waiting.map(|(priority, count)| {
                (labels([&directory.name, priority]), Value::Number((*count).into()))
            })
        });
        self.family(&catalogue::LANE_QUEUE_LENGTH, waiting.collect())?;
        let waits = metrics.lane_waits().into_iter();
        let waits = waits.map(|(priority, spread)| (labels([priority]), Value::Spread(spread)));
        self.family(&catalogue::LANE_WAIT, waits.collect())?;
        self.family(&catalogue::RATE_LIMIT, known(directories, |it| it.rate_limit))
    }

    fn contacts(
        &mut self,
        directories: &[DirectoryGauges],
        homeless: &[(&'static str, u32)],
    ) -> fmt::Result {
        let ready = directories.iter().filter_map(|directory| {
            let (ready, reason) = directory.ready.as_ref()?;
            let value = Value::Number(if *ready { 1.0 } else { 0.0 });
            Some((labels([&directory.name, reason]), value))
        });
        self.family(&catalogue::DIRECTORY_READY, ready.collect())?;
        let at_home = directories.iter().map(|it| (it.name.as_str(), it.contacts.as_slice()));
        let contacts = at_home.chain([("", homeless)]).flat_map(|(directory, contacts)| {
            let contacts = contacts.iter();
            contacts.map(move |(state, count)| {
                (labels([directory, state]), Value::Number((*count).into()))
            })
        });
        self.family(&catalogue::CONTACTS, contacts.collect())?;
        let unmanaged = known(directories, |it| it.unmanaged.map(f64::from));
        self.family(&catalogue::UNMANAGED_CONTACTS, unmanaged)
    }

    fn messages(
        &mut self,
        counts: &BTreeMap<String, Counts>,
        directories: &[DirectoryGauges],
    ) -> fmt::Result {
        self.family(
            &catalogue::DRIFT,
            each(counts, |name, counts| {
                let drift = counts.drift.iter();
                let series =
                    drift.map(|(field, count)| (labels([name, field]), Value::Count(*count)));
                series.collect()
            }),
        )?;
        self.family(
            &catalogue::VERIFICATION_SENDS,
            each(counts, |name, counts| {
                let sends = counts.sends.iter();
                let series = sends.map(|((channel, outcome), count)| {
                    (labels([name, channel, outcome]), Value::Count(*count))
                });
                series.collect()
            }),
        )?;
        let remaining = known(directories, |it| it.sends_remaining.map(f64::from));
        self.family(&catalogue::VERIFICATION_SENDS_REMAINING, remaining)
    }

    fn policies(&mut self, policies: &[PolicyGauges]) -> fmt::Result {
        let violations = policies.iter().map(|policy| {
            (labels([&policy.name, policy.enforcement]), Value::Number(policy.violations.into()))
        });
        self.family(&catalogue::POLICY_VIOLATIONS, violations.collect())?;
        let coverage = policies.iter().flat_map(|policy| {
            let coverage = policy.coverage.iter();
            coverage.map(|(rule, message_type, share)| {
                (labels([&policy.name, rule, message_type]), Value::Number(*share))
            })
        });
        self.family(&catalogue::POLICY_COVERAGE, coverage.collect())
    }

    fn process(&mut self, process: &Process) -> fmt::Result {
        let Process {
            cpu_seconds,
            resident_bytes,
            virtual_bytes,
            open_fds,
            max_fds,
            start_time_seconds,
        } = process;
        self.one(&catalogue::PROCESS_CPU, *cpu_seconds)?;
        self.one(&catalogue::PROCESS_RESIDENT_MEMORY, *resident_bytes)?;
        self.one(&catalogue::PROCESS_VIRTUAL_MEMORY, *virtual_bytes)?;
        self.one(&catalogue::PROCESS_OPEN_FDS, *open_fds)?;
        self.one(&catalogue::PROCESS_MAX_FDS, *max_fds)?;
        self.one(&catalogue::PROCESS_START_TIME, *start_time_seconds)
    }

    /// A family with one series, if its value is known.
    fn one(&mut self, what: &Described, value: Option<f64>) -> fmt::Result {
        let series = value.map(|value| (Vec::new(), Value::Number(value)));
        self.family(what, series.into_iter().collect())
    }

    fn spread(&mut self, what: &Described, spread: Histogram) -> fmt::Result {
        self.family(what, vec![(Vec::new(), Value::Spread(spread))])
    }

    /// Writes a family. One without series is left out.
    fn family(&mut self, what: &Described, series: Vec<Series>) -> fmt::Result {
        if series.is_empty() {
            return Ok(());
        }
        let kind = match what.kind {
            Kind::Counter => MetricType::Counter,
            Kind::Gauge => MetricType::Gauge,
            Kind::Histogram => MetricType::Histogram,
        };
        let (stem, unit) = (what.stem(), what.unit.as_ref());
        let mut family = self.0.encode_descriptor(stem, what.meaning, unit, kind)?;
        for (values, value) in series {
            let names = what.labels.iter().copied();
            let labels: Vec<(&str, &str)> = names.zip(values.iter().map(String::as_str)).collect();
            let mut one = family.encode_family(&labels)?;
            match (value, what.kind) {
                (Value::Count(count), _) => {
                    one.encode_counter::<NoLabelSet, _, f64>(&count, None)?;
                }
                (Value::Number(number), Kind::Counter) => {
                    one.encode_counter::<NoLabelSet, _, f64>(&number, None)?;
                }
                (Value::Number(number), Kind::Gauge | Kind::Histogram) => {
                    one.encode_gauge(&number)?;
                }
                (Value::Spread(spread), _) => spread.encode(one)?,
            }
        }
        Ok(())
    }
}

/// The series of each directory, one after the other.
fn each(
    counts: &BTreeMap<String, Counts>,
    series: impl Fn(&str, &Counts) -> Vec<Series>,
) -> Vec<Series> {
    counts.iter().flat_map(|(name, counts)| series(name, counts)).collect()
}

/// A value of each directory for which it is known.
fn known(
    directories: &[DirectoryGauges],
    value: impl Fn(&DirectoryGauges) -> Option<f64>,
) -> Vec<Series> {
    let series = directories.iter().filter_map(|directory| {
        Some((labels([&directory.name]), Value::Number(value(directory)?)))
    });
    series.collect()
}

fn labels<const N: usize>(values: [&str; N]) -> Vec<String> {
    values.map(str::to_owned).to_vec()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// The lines of a page that are about this operator.
    fn lines(metrics: &Metrics, accept: Option<&str>) -> Vec<String> {
        let body = metrics.page(accept).body;
        let ours = body.lines().filter(|line| line.contains("message_contact_"));
        ours.map(str::to_owned).collect()
    }

    #[test]
    fn each_form_has_its_names_and_its_end() {
        let metrics = Metrics::default();
        metrics.lead(true);
        metrics.directory("main").called("GetResourceDirectory", "ok", Duration::from_millis(30));
        let open =
            metrics.page(Some("application/openmetrics-text;version=1.0.0,text/plain;q=0.5"));
        assert_eq!(open.content_type, OPEN_METRICS);
        assert!(open.body.ends_with("\n# EOF\n"), "{}", open.body);
        for line in [
            "# TYPE message_contact_cloud_requests counter",
            r#"message_contact_cloud_requests_total{directory="main",action="GetResourceDirectory",outcome="ok"} 1"#,
            "# UNIT message_contact_cloud_request_duration_seconds seconds",
            "message_contact_leader 1.0",
        ] {
            assert!(open.body.lines().any(|found| found == line), "{line}: {}", open.body);
        }
        let plain = metrics.page(None);
        assert_eq!(plain.content_type, "text/plain; version=0.0.4; charset=utf-8");
        for line in [
            "# TYPE message_contact_cloud_requests_total counter",
            "# TYPE message_contact_time_to_synced_seconds histogram",
        ] {
            assert!(plain.body.lines().any(|found| found == line), "{line}: {}", plain.body);
        }
        assert!(!plain.body.contains("# EOF") && !plain.body.contains("{}"), "{}", plain.body);
    }

    #[test]
    fn what_a_client_prefers_is_served() {
        for (accept, open) in [
            ("application/openmetrics-text", true),
            ("Application/OpenMetrics-Text; version=\"1.0.0\"; q=0.5, text/plain;q=0.4", true),
            (
                "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
                true,
            ),
            (
                "application/vnd.google.protobuf;q=0.7,application/openmetrics-text;q=0.6,text/plain;q=0.3",
                true,
            ),
            ("application/openmetrics-text;version=2.0.0,text/plain;q=0.3", false),
            ("application/openmetrics-text;q=0,*/*", false),
            ("application/openmetrics-text;q=0.3,text/plain;q=0.4", false),
            ("text/html,application/xhtml+xml,*/*;q=0.8", false),
            ("", false),
        ] {
            assert_eq!(prefers_open_metrics(accept), open, "{accept}");
        }
    }

    #[test]
    fn what_is_gone_is_shown_no_more_and_begins_anew() {
        let metrics = Metrics::default();
        let gone = metrics.directory("gone");
        gone.called("ListAccounts", "ok", Duration::ZERO);
        metrics.directory("stays").drifted("title", 2);
        let directory = |name: &str| DirectoryGauges {
            name: name.to_owned(),
            contacts: vec![("verified", 3)],
            ..DirectoryGauges::default()
        };
        let stays = directory("stays");
        let policy = PolicyGauges {
            name: "two".to_owned(),
            enforcement: "Audit",
            violations: 1,
            coverage: vec![("security".to_owned(), "SecurityMessage", 0.5)],
        };
        let both = Gauges {
            directories: vec![stays.clone(), directory("gone")],
            policies: vec![policy],
            ..Gauges::default()
        };
        let shows = |text: &str| lines(&metrics, None).iter().any(|line| line.contains(text));
        metrics.show(move || both.clone());
        assert!(shows(r#"directory="gone""#) && shows(r#"policy="two""#));
        let one = Gauges { directories: vec![stays], ..Gauges::default() };
        metrics.show(move || one.clone());
        gone.called("ListAccounts", "ok", Duration::ZERO);
        assert!(!shows(r#"directory="gone""#) && !shows(r#"policy="two""#));
        assert!(shows(r#"message_contact_drift_total{directory="stays",field="title"} 2"#));
        // A call that was in flight when the directory went is nobody's.
        gone.called("ListAccounts", "ok", Duration::ZERO);
        assert!(!shows(r#"directory="gone""#));
        let again = metrics.directory("gone");
        again.called("ListAccounts", "ok", Duration::ZERO);
        assert_eq!(metrics.counts()["gone"].requests[&("ListAccounts", "ok")], 1);
    }
}
