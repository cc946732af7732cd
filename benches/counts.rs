//! What the operator costs others: calls and bytes to the cloud, writes and bytes to the
//! apiserver, for each scenario and number of contacts, on real parts.
//!
//! The figures are compared with `benches/accepted.tsv`; one that rose by more than a tenth fails
//! the bench. `MCO_ACCEPT=1` writes the file anew. Time is printed and never compared.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a bench that cannot go on has failed")]
#![allow(clippy::disallowed_methods, reason = "benches read the clock and the environment")]
#![allow(clippy::print_stdout, reason = "the table is what a bench is for")]
#![allow(dead_code, unreachable_pub, reason = "the helpers of the stories, of which some are used")]

#[path = "../tests/it/many.rs"]
mod many;
#[path = "../tests/it/privacy.rs"]
mod privacy;
#[path = "../tests/it/stand.rs"]
mod stand;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use cluster::Cluster;
use message_contact_operator::clock::Clock;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::many::{bring_in, counted, name, next_poll, operator_client, roomy};
use crate::stand::Stand;

const NUMBERS: [usize; 3] = [20, 200, 1_000];
const SCENARIOS: [&str; 4] = ["create", "change", "rest", "restart"];

/// Polls in the scenario `rest`.
const POLLS: u64 = 3;

/// The figures of one scenario, by name.
type Figures = BTreeMap<String, u64>;

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let mut all = BTreeMap::new();
    println!("{:>5} {:<8} {:>8}  figures", "N", "scenario", "seconds");
    for number in NUMBERS {
        for (scenario, seconds, figures) in runtime.block_on(run(number)) {
            let text = figures.iter().map(|(figure, count)| format!("{figure} {count}"));
            let text = text.collect::<Vec<_>>().join(", ");
            println!("{number:>5} {scenario:<8} {seconds:>8.1}  {text}");
            all.extend(figures.into_iter().map(|(it, count)| ((number, scenario, it), count)));
        }
    }
    compare(&all)
}

/// All scenarios with that many contacts, on a cluster of their own.
async fn run(number: usize) -> Vec<(&'static str, f64, Figures)> {
    let cluster = Cluster::start(options()).await.unwrap();
    // Lives as long as the process; its servers end with it.
    let cluster: &'static Cluster = Box::leak(Box::new(cluster));
    stand::prepare(cluster).await;
    let clock = Clock::system();
    let mut operator = start(cluster, &clock);
    let stand = Stand::on(cluster, roomy()).await;
    let pages = u64::try_from(number.div_ceil(100)).unwrap();
    let mut lines = Vec::new();
    for scenario in SCENARIOS {
        stand.simulator.reset_counts();
        let mark = fs::metadata(audit_log(cluster)).unwrap().len();
        let began = Instant::now();
        match scenario {
            "create" => {
                bring_in(&stand, number, "1h").await;
                counted(&stand, number).await;
            }
            "change" => change(&stand, "CEO").await,
            "rest" => {
                for _ in 0..POLLS {
                    next_poll(&stand, &clock, Duration::from_mins(5), pages).await;
                }
            }
            // Everything is looked at anew; that it works is seen by a first change.
            _ => {
                operator.abort();
                let _ = operator.await;
                operator = start(cluster, &clock);
                let listed = |counts: u64| (counts >= pages).then_some(());
                stand.cloud("the list", |it| listed(it.counts().of("ListMessageContacts"))).await;
                quiet(cluster).await;
                change(&stand, "Other").await;
            }
        }
        let seconds = began.elapsed().as_secs_f64();
        quiet(cluster).await;
        lines.push((scenario, seconds, figures(&stand, mark)));
    }
    operator.abort();
    let _ = operator.await;
    lines
}

fn start(cluster: &'static Cluster, clock: &Clock) -> JoinHandle<()> {
    tokio::spawn(stand::run_operator(operator_client(cluster), clock.clone()))
}

/// Waits until nobody has asked the apiserver for anything for a while: Events come last, and no
/// story tells when.
async fn quiet(cluster: &Cluster) {
    const WHILE: Duration = Duration::from_millis(700);
    let length = || fs::metadata(audit_log(cluster)).unwrap().len();
    loop {
        let before = length();
        tokio::time::sleep(WHILE).await;
        if length() == before {
            return;
        }
    }
}

async fn change(stand: &Stand, title: &str) {
    stand.apply("rest-7", &name(7), json!({ "title": title })).await;
    stand.becomes("rest-7", "Synced", "InSync").await;
}

/// An apiserver whose audit log has the bodies of writes.
fn options() -> cluster::Options {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("counts-audit-policy.yaml");
    let policy = json!({ "apiVersion": "audit.k8s.io/v1", "kind": "Policy",
        "omitStages": ["RequestReceived"], "rules": [{ "level": "Request" }] });
    fs::write(&path, policy.to_string()).unwrap();
    let argument = format!("--audit-policy-file={}", path.display());
    cluster::Options { apiserver_args: vec![argument], ..cluster::Options::default() }
}

fn audit_log(cluster: &Cluster) -> std::path::PathBuf {
    cluster.dir().join("audit.log")
}

/// What was counted since the simulator's reset and that place in the audit log.
///
/// The bytes of a write are those of its body as the apiserver has read it. How often the status
/// of the directory is written depends on how long a scenario takes: it is left out. Leases are not
/// among them: the operator here is the only one, and takes none.
fn figures(stand: &Stand, mark: u64) -> Figures {
    let counts = stand.simulator.counts();
    let mut figures: Figures = counts.by_action.clone();
    figures.insert("bytes to the cloud".to_owned(), counts.bytes_in);
    figures.insert("bytes from the cloud".to_owned(), counts.bytes_out);
    let log = fs::read(audit_log(stand.cluster)).unwrap();
    let new = String::from_utf8_lossy(&log[usize::try_from(mark).unwrap()..]).into_owned();
    let (mut writes, mut events, mut bytes) = (0, 0, 0);
    for line in new.lines() {
        let request: Value = serde_json::from_str(line).unwrap();
        let agent = request["userAgent"].as_str().unwrap_or_default();
        let verb = request["verb"].as_str().unwrap_or_default();
        let is_write = ["create", "update", "patch", "delete"].contains(&verb);
        if !is_write || !agent.starts_with("message-contact-operator") {
            continue;
        }
        match request["objectRef"]["resource"].as_str().unwrap_or_default() {
            "resourcedirectories" => continue,
            "events" => events += 1,
            _ => writes += 1,
        }
        bytes += u64::try_from(request["requestObject"].to_string().len()).unwrap();
    }
    figures.insert("writes to objects".to_owned(), writes);
    figures.insert("events".to_owned(), events);
    figures.insert("bytes to the apiserver".to_owned(), bytes);
    figures
}

/// Compares with the accepted figures, or accepts these.
fn compare(all: &BTreeMap<(usize, &'static str, String), u64>) -> ExitCode {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/accepted.tsv");
    let key = |(number, scenario, figure): &(usize, &str, String)| {
        format!("{number}\t{scenario}\t{figure}")
    };
    if std::env::var_os("MCO_ACCEPT").is_some() {
        let lines = all.iter().map(|(it, count)| format!("{}\t{count}\n", key(it)));
        fs::write(&path, lines.collect::<String>()).unwrap();
        println!("accepted: {}", path.display());
        return ExitCode::SUCCESS;
    }
    let accepted = fs::read_to_string(&path).unwrap_or_default();
    let accepted: BTreeMap<&str, u64> = accepted
        .lines()
        .filter_map(|line| line.rsplit_once('\t'))
        .map(|(key, count)| (key, count.parse().unwrap()))
        .collect();
    let mut rose = false;
    for (it, &count) in all {
        let before = accepted.get(&*key(it)).copied().unwrap_or(0);
        let name = key(it).replace('\t', " ");
        // In whole numbers: more than eleven tenths.
        if count * 10 > before * 11 {
            println!("rose: {name}: {before} were accepted, {count} now");
            rose = true;
        } else if count * 10 < before * 9 {
            println!("fell: {name}: {before} were accepted, {count} now; accept it");
        }
    }
    if rose {
        println!("MCO_ACCEPT=1 accepts these figures");
        return ExitCode::FAILURE;
    }
    println!("no figure rose by more than a tenth");
    ExitCode::SUCCESS
}
