//! The command `doctor`: what stands in the way, looked for without changing anything.
//!
//! **Invariant:** nothing but reads is called, in the cloud and in the cluster. (A review of one's own
//! rights is a `create` by its form, and stores nothing.)

use std::io;
use std::path::PathBuf;

use serde::Serialize;

use super::cloud;
use super::manifests;
use super::terminal::{DOUBT, FINE, Line, Paint, WRONG, table};

mod assumptions;

mod cluster;

mod directory;

/// Options of `doctor`.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Manifests with a ResourceDirectory, and the Secret with its keys. Without them, and without
    /// --site, --endpoint and --credentials, every ResourceDirectory of the cluster is checked. May be
    /// given several times.
    #[arg(short = 'f', long = "filename", value_name = "PATH")]
    filename: Vec<PathBuf>,

    /// The operator's own namespace.
    #[arg(long, env = "MCO_NAMESPACE", default_value = "message-contacts")]
    namespace: String,

    /// A namespace whose contacts the operator follows, as `run` has it. May be given several times.
    #[arg(long, env = "MCO_WATCH_NAMESPACE", value_name = "NS", value_delimiter = ',')]
    watch_namespace: Vec<String>,

    /// Looks at the cloud only.
    #[arg(long)]
    no_cluster: bool,

    /// In which form the findings are printed.
    #[arg(long, short = 'o', value_enum, default_value = "table")]
    output: Form,

    #[command(flatten)]
    cloud: cloud::Options,
}

/// In which form the findings are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Form {
    /// For people.
    Table,
    /// For programs.
    Json,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Check {
    /// What it belongs to, such as `cluster`.
    area: String,
    /// What was looked at.
    #[serde(rename = "check")]
    what: String,
    status: Outcome,
    /// What was seen. Holds no private value.
    seen: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<String>,
}

/// What came of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Outcome {
    /// As it should be.
    Ok,
    /// It works, and somebody should look at it.
    Warning,
    /// It does not work.
    Failed,
    /// It could not be looked at, or need not be.
    Skipped,
}

impl Outcome {
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
        }
    }

    fn mark(self) -> char {
        match self {
            Self::Ok => FINE,
            Self::Warning => DOUBT,
            Self::Failed => WRONG,
            Self::Skipped => '-',
        }
    }
}

/// The checks of one area, in the order in which they were made.
#[derive(Debug)]
pub(super) struct Findings {
    area: String,
    checks: Vec<Check>,
}

impl Findings {
    fn of(area: impl Into<String>) -> Self {
        Self { area: area.into(), checks: Vec::new() }
    }

    fn add(
        &mut self,
        check: &str,
        status: Outcome,
        seen: impl Into<String>,
        advice: Option<String>,
    ) {
        let (area, what, seen) = (self.area.clone(), check.to_owned(), seen.into());
        self.checks.push(Check { area, what, status, seen, advice });
    }

    fn ok(&mut self, check: &str, seen: impl Into<String>) {
        self.add(check, Outcome::Ok, seen, None);
    }

    fn warning(&mut self, check: &str, seen: impl Into<String>, advice: impl Into<String>) {
        self.add(check, Outcome::Warning, seen, Some(advice.into()));
    }

    fn failed(&mut self, check: &str, seen: impl Into<String>, advice: impl Into<String>) {
        self.add(check, Outcome::Failed, seen, Some(advice.into()));
    }

    fn skipped(&mut self, check: &str, seen: impl Into<String>) {
        self.add(check, Outcome::Skipped, seen, None);
    }
}

/// What the command prints, and whether nothing has failed.
#[derive(Debug)]
pub struct Diagnosis {
    /// The findings in the form that was asked for.
    pub text: String,
    /// Nothing has failed.
    pub healthy: bool,
}

/// Looks at everything that can be looked at.
///
/// # Errors
/// The manifests cannot be read.
pub fn run(
    options: &Options,
    lookup: impl Fn(&str) -> Option<String> + Copy,
    input: &mut dyn io::Read,
) -> anyhow::Result<Diagnosis> {
    let objects = manifests::values(&options.filename, input)?;
    let checks = {
        let progress = Line::of_errors(lookup);
        super::block_on(look(options, &objects, lookup, &progress))?
    };
    let healthy = checks.iter().all(|check| check.status != Outcome::Failed);
    let text = match options.output {
        Form::Json => serde_json::to_string_pretty(&checks)? + "\n",
        Form::Table => rendered(&checks, Paint::of_output(lookup)),
    };
    Ok(Diagnosis { text, healthy })
}

async fn look(
    options: &Options,
    objects: &[serde_json::Value],
    lookup: impl Fn(&str) -> Option<String> + Copy,
    progress: &Line,
) -> Vec<Check> {
    let is_named = !options.filename.is_empty()
        || options.cloud.site.is_some()
        || options.cloud.endpoint.is_some()
        || options.cloud.credentials.is_some();
    let mut checks = Vec::new();
    let mut found = None;
    if !options.no_cluster {
        let (of_cluster, client) = cluster::look(options, lookup, progress).await;
        checks.extend(of_cluster.checks);
        found = client;
    }
    if let Some(client) = found.filter(|_| !is_named) {
        checks.extend(cluster::directories(&client, options, lookup, progress).await);
    } else {
        let target = options.cloud.target(objects, lookup);
        checks.extend(directory::look("directory", target, progress).await);
    }
    checks
}

fn rendered(checks: &[Check], paint: Paint) -> String {
    let rows = checks.iter().map(|check| {
        let Check { area, what, status, seen, advice } = check;
        let advice = advice.as_ref().map_or(String::new(), |advice| format!("\n→ {advice}"));
        let status = format!("{} {}", status.mark(), status.word());
        vec![area.clone(), what.clone(), status, format!("{seen}{advice}")]
    });
    let count = |wanted: Outcome| checks.iter().filter(|check| check.status == wanted).count();
    let all = [Outcome::Ok, Outcome::Warning, Outcome::Failed, Outcome::Skipped];
    let counts: Vec<_> =
        all.iter().map(|outcome| format!("{} {}", count(*outcome), outcome.word())).collect();
    let table = table(&["Area", "Check", "Status", "Seen"], rows.collect(), paint);
    format!("{table}\n{}\n", counts.join(", "))
}
