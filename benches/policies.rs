//! What policies cost: the operator with 2,000 contacts, without and with 20 policies, and the
//! apiserver with 0, 20 and 200 of them, side by side.
//!
//! What is counted is asserted: who is judged when one contact changes, and writes to the apiserver.
//! Times and memory are printed as ratios, and never compared.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a bench that cannot go on has failed")]
#![allow(clippy::disallowed_methods, reason = "benches read the clock and the environment")]
#![allow(clippy::print_stdout, reason = "the table is what a bench is for")]
#![allow(dead_code, unreachable_pub, reason = "the helpers of the stories, of which some are used")]

#[path = "../tests/it/many.rs"]
mod many;
#[path = "../tests/it/privacy.rs"]
mod privacy;
#[path = "../tests/it/process.rs"]
mod process;
#[path = "../tests/it/stand.rs"]
mod stand;

use std::fs;
use std::time::{Duration, Instant};

use cluster::{By, Cluster, Mark};
use directory_simulator::NewContact;
use futures::{StreamExt as _, stream};
use kube::api::{DynamicObject, ListParams, PostParams};
use serde_json::{Value, json};

use crate::many::{counted, name, roomy};
use crate::process::Operator;
use crate::stand::{PATIENCE, Stand, condition_of};

const CONTACTS: usize = 2_000;
/// Policies of the operator's part: these speak of the contacts, and as many speak of others.
const SPEAKING: usize = 10;
const POLICIES: usize = 2 * SPEAKING;
/// Policies of the apiserver's part.
const IN_FORCE: [usize; 3] = [0, 20, 200];
/// Requests of each kind to each apiserver.
const ROUNDS: usize = 100;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(admission());
    runtime.block_on(operator());
}

/// How long the apiserver takes for a contact, with so many policies in force. One apiserver for each
/// number, asked in turn, so that whatever else the machine does hits all of them.
async fn admission() {
    let mut stands = Vec::new();
    for policies in IN_FORCE {
        let cluster = leaked().await;
        let stand = Stand::on(cluster, roomy()).await;
        for number in 0..policies {
            stand.apply_policy(&format!("policy-{number}"), demanding("Deny")).await;
        }
        stand.apply("there", "Daheim", complying()).await;
        refuses_if_any(&stand, policies).await;
        stands.push(stand);
    }
    let mut times = vec![(Vec::new(), Vec::new()); stands.len()];
    for round in 0..ROUNDS {
        for (stand, (creates, updates)) in stands.iter().zip(&mut times) {
            creates.push(create(stand, complying()).await.0);
            updates.push(update(stand, round).await);
        }
    }
    println!(
        "{:>8} {:>10} {:>6} {:>10} {:>6}",
        "policies", "create ms", "ratio", "update ms", "ratio"
    );
    let medians = times.into_iter().map(|(creates, updates)| (median(creates), median(updates)));
    let medians: Vec<_> = medians.collect();
    for (policies, (create, update)) in IN_FORCE.iter().zip(&medians) {
        let (ratio, other) = (create / medians[0].0, update / medians[0].1);
        println!("{policies:>8} {create:>10.2} {ratio:>6.2} {update:>10.2} {other:>6.2}");
    }
}

/// Demands that a contact of [`complying`] meets.
fn demanding(enforcement: &str) -> Value {
    json!({ "enforcement": enforcement, "contact": { "phoneNumber": "Required",
        "emailDomains": { "allowed": ["example.com", "*.example.com"] },
        "messageTypes": { "required": ["SecurityMessage"] } } })
}

fn complying() -> Value {
    json!({ "phoneNumber": "86-13800138000" })
}

/// Waits until the apiserver has taken the policies in.
async fn refuses_if_any(stand: &Stand, policies: usize) {
    cluster::wait_for(PATIENCE, "the policies are in force", || async {
        match create(stand, json!({})).await {
            (_, Ok(_)) if policies == 0 => Ok(()),
            (_, Err(_)) if policies > 0 => Ok(()),
            (_, other) => Err(format!("{other:?}")),
        }
    })
    .await
    .unwrap();
}

/// Creates a contact without storing it. Returns the milliseconds.
async fn create(stand: &Stand, fields: Value) -> (f64, kube::Result<DynamicObject>) {
    let manifest = stand.manifest("new", "Neu", fields);
    let object = serde_json::from_value(manifest).unwrap();
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    let began = Instant::now();
    let answer = stand.contacts().create(&dry, &object).await;
    (began.elapsed().as_secs_f64() * 1000.0, answer)
}

/// Changes the spec of a contact without storing it. Returns the milliseconds.
async fn update(stand: &Stand, round: usize) -> f64 {
    let mut object = stand.object("there").await;
    object.data["spec"]["name"] = json!(name(round));
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    let began = Instant::now();
    stand.contacts().replace("there", &dry, &object).await.unwrap();
    began.elapsed().as_secs_f64() * 1000.0
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

async fn leaked() -> &'static Cluster {
    let cluster = Cluster::start(cluster::Options::default()).await.unwrap();
    // Lives as long as the process; its servers end with it.
    let cluster: &'static Cluster = Box::leak(Box::new(cluster));
    stand::prepare(cluster).await;
    cluster
}

/// What the operator needs for a start, without policies and with them, and what one contact costs
/// that changes.
async fn operator() {
    let cluster = leaked().await;
    let stand = Stand::on(cluster, roomy()).await;
    bring_in(&stand).await;
    let first = start(&stand).await;
    counted(&stand, CONTACTS).await;
    let without = settled(first, &stand).await;
    for number in 0..POLICIES {
        let mut spec = json!({ "enforcement": "Warn", "contact": { "phoneNumber": "Forbidden" },
            "coverage": [{ "name": "all", "minContacts": 2, "messageTypes": ["SecurityMessage"] }] });
        if number >= SPEAKING {
            spec["match"] = json!({ "directories": ["another"] });
        }
        stand.apply_policy(&format!("policy-{number}"), spec).await;
    }
    let second = start(&stand).await;
    evaluated(&stand, 0).await;
    let with = settled(second, &stand).await;
    println!("{CONTACTS} contacts       without  {POLICIES} policies  ratio");
    for (figure, (before, after)) in ["s of CPU to be at rest", "MiB of memory"]
        .iter()
        .zip([(without.cpu, with.cpu), (without.memory, with.memory)])
    {
        println!("{figure:<22} {before:>8.2} {after:>12.2} {:>6.2}", after / before);
    }

    let operator = start(&stand).await;
    quiet(cluster).await;
    let judged = judged_by(&operator);
    assert_eq!(judged.first(), Some(&(CONTACTS * SPEAKING)), "all of them, once, at the start");
    let (mark, looks) = (cluster.audit().mark().unwrap(), judged.len());
    stand.ask_directory().await;
    quiet(cluster).await;
    let at_rest = writes(cluster, mark);
    println!("writes of policies and contacts at rest: {}", at_rest.len());
    assert!(at_rest.is_empty(), "{at_rest:?}");

    stand.apply("rest-7", &name(7), complying()).await;
    evaluated(&stand, 1).await;
    quiet(cluster).await;
    let judged = &judged_by(&operator)[looks..];
    let of_policies = writes(cluster, mark).iter().filter(|it| *it == "contactpolicies").count();
    println!(
        "one contact of {CONTACTS} changes: judged {judged:?}, {of_policies} writes of policies"
    );
    assert!(judged.iter().all(|judged| *judged <= SPEAKING), "nobody else is judged: {judged:?}");
    assert_eq!(of_policies, SPEAKING, "one for each policy for which it is news");
}

/// Objects for contacts that are in the cloud as they are wanted: they are taken over without a write.
async fn bring_in(stand: &Stand) {
    stand.apply_directory(json!({ "pollInterval": "1h" })).await;
    for number in 0..CONTACTS {
        let email = format!("rest-{number}@example.com");
        let types = ["FaultMessage", "SecurityMessage"].map(str::to_owned);
        stand.simulator.insert_contact(NewContact {
            title: "TechnicalDirector".to_owned(),
            message_types: types.into(),
            ..NewContact::new(&name(number), &email)
        });
    }
    stream::iter(0..CONTACTS)
        .for_each_concurrent(50, |number| async move {
            stand.apply(&format!("rest-{number}"), &name(number), json!({})).await;
        })
        .await;
}

async fn start(stand: &Stand) -> Operator {
    let log = "info,message_contact_operator::controller::standings=trace";
    let kubeconfig = stand.cluster.kubeconfig_path();
    let operator = Operator::start_with(kubeconfig, &[stand], &["--log", log]);
    operator.is_ready().await;
    operator
}

/// What a process has needed until it was at rest.
struct Needed {
    /// Seconds.
    cpu: f64,
    /// MiB that are resident.
    memory: f64,
}

/// Starts the operator anew and waits until it rests: what the first one needed was also for what
/// had to be written.
async fn settled(mut before: Operator, stand: &Stand) -> Needed {
    quiet(stand.cluster).await;
    before.terminate();
    before.ends_within(PATIENCE).await;
    let lists = stand.simulator.counts().of("ListMessageContacts");
    let operator = start(stand).await;
    let pages = u64::try_from(CONTACTS / 100).unwrap();
    let listed = |counts: u64| (counts >= lists + pages).then_some(());
    stand.cloud("the list", |it| listed(it.counts().of("ListMessageContacts"))).await;
    quiet(stand.cluster).await;
    needed(operator.pid())
}

/// Source: proc(5). A tick of the clock is a hundredth of a second.
fn needed(pid: u32) -> Needed {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    let field = |index: usize| fields.split(' ').nth(index).unwrap().parse::<f64>().unwrap();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let kib: f64 = resident.trim().trim_end_matches(" kB").parse().unwrap();
    Needed { cpu: (field(11) + field(12)) / 100.0, memory: kib / 1024.0 }
}

/// Waits until every policy was evaluated, and those that speak of the contacts found so many that
/// violate them.
async fn evaluated(stand: &Stand, violating: usize) {
    cluster::wait_for(PATIENCE, "the policies are evaluated", || async {
        let found = stand.policies().list(&ListParams::default()).await.unwrap().items;
        let is_done = |it: &&DynamicObject| {
            let counts = &it.data["status"]["contacts"];
            let speaks = it.data["spec"]["match"]["directories"][0] == json!(stand.directory);
            condition_of(it, "Ready")["status"] == "True"
                && (!speaks
                    || *counts
                        == json!({ "matched": CONTACTS,
                    "compliant": CONTACTS - violating, "violating": violating }))
        };
        let done = found.iter().filter(is_done).count();
        if done == POLICIES { Ok(()) } else { Err(format!("{done}")) }
    })
    .await
    .unwrap();
}

/// How many were judged, look by look.
fn judged_by(operator: &Operator) -> Vec<usize> {
    let log = operator.log();
    let lines = log.lines().filter_map(|line| line.split_once("judged=").map(|(_, rest)| rest));
    let number = |rest: &str| rest.split(' ').next().unwrap().trim().parse().unwrap();
    lines.map(number).collect()
}

/// What the operator has written since then, but for the status of directories, which tells when it
/// was asked, and Events.
fn writes(cluster: &Cluster, mark: Mark) -> Vec<String> {
    let writes = cluster.audit().writes(mark, By::UserAgent("message-contact-operator")).unwrap();
    let kinds = writes.into_iter().map(|it| it.resource);
    kinds.filter(|it| it != "resourcedirectories" && it != "events").collect()
}

/// Waits until nobody has asked the apiserver for anything for a while, policies included, which are
/// looked at two seconds late.
async fn quiet(cluster: &Cluster) {
    const WHILE: Duration = Duration::from_secs(3);
    let by = By::UserAgent("message-contact-operator");
    loop {
        let before = cluster.audit().mark().unwrap();
        tokio::time::sleep(WHILE).await;
        if cluster.audit().since(before).unwrap().iter().all(|event| !event.is_by(by)) {
            return;
        }
    }
}
