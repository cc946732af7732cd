//! Logs: text for people, JSON for machines, the same fields in both.
//!
//! **Invariant:** at every level only what this crate says is written, and the spans that name the
//! object it is said of. Other crates print what went through them: kube whole bodies and refusals
//! that quote values, at the level `warn` even, HTTP crates headers with tokens.

use tracing::Dispatch;
use tracing_subscriber::filter::FilterFn;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, fmt, registry};

/// Whose lines and spans are written: those of targets that are one of these or below it.
///
/// kube's controller has a span with the kind, the namespace and the name of the object, and lines
/// of fixed texts.
const WRITTEN: [&str; 2] = ["message_contact_operator", "kube_runtime::controller"];

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// One line a message, coloured on a terminal.
    Text,
    /// One JSON object a line.
    Json,
}

/// Starts to log to standard error. `filter` is a list of `target=level`, or a level.
///
/// # Errors
/// The filter cannot be read, or logging was started already.
pub fn start(format: LogFormat, filter: &str) -> anyhow::Result<()> {
    let colour = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let started = subscriber(format, filter, colour, std::io::stderr)?.try_init();
    started.map_err(|error| anyhow::anyhow!("logging was started already: {error}"))
}

/// What [`start`] starts, for any writer.
///
/// # Errors
/// The filter cannot be read.
pub fn subscriber<W>(
    format: LogFormat,
    filter: &str,
    colour: bool,
    writer: W,
) -> anyhow::Result<Dispatch>
where
    W: for<'writer> MakeWriter<'writer> + Send + Sync + 'static,
{
    let filter = EnvFilter::try_new(filter)?;
    let written = FilterFn::new(|metadata| is_written(metadata.target()));
    let lines = fmt::layer().with_writer(writer);
    let lines = match format {
        LogFormat::Text => lines.with_ansi(colour).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    Ok(registry().with(filter).with(written).with(lines).into())
}

fn is_written(target: &str) -> bool {
    WRITTEN.into_iter().any(|written| {
        target.strip_prefix(written).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_crates_write_nothing_whatever_the_filter_asks_for() {
        let is = |target: &str| is_written(target);
        assert!(is("message_contact_operator") && is("message_contact_operator::cloud"));
        assert!(is("kube_runtime::controller"));
        assert!(!is("message_contact_operators") && !is("kube_client::client") && !is(""));
        assert!(!is("kube_runtime::watcher") && !is("hyper_util::client"));
    }
}
