//! Three processes, of which one leads: asked to end, killed, or stopped and continued, again and again,
//! while contacts change all the time. No two ever call the cloud at the same time, and none calls
//! after another one has.
//!
//! `MCO_TEST=full` hands over a hundred times.

use std::collections::BTreeMap;
use std::time::Duration;

use directory_simulator::{Key, Options};
use jiff::SignedDuration;
use serde_json::json;

use crate::process::{Alone, Operator, alone};
use crate::stand::{OPERATOR_NAMESPACE, PATIENCE, Stand};

/// Hand-overs by default, and for `MCO_TEST=full`.
const TIMES: [usize; 2] = [30, 100];

/// Short, so that the story is; long enough for a busy machine.
const LEASE: [&str; 4] = ["--lease-duration", "3s", "--renew-deadline", "2s"];

const CONTACTS: [(&str, &str); 6] = [
    ("one", "Jia"),
    ("two", "Yiyi"),
    ("three", "Bing"),
    ("four", "Ding"),
    ("five", "Wuwu"),
    ("six", "Jiji"),
];

/// A process, and the key that nobody else signs with.
pub struct Replica {
    pub operator: Operator,
    pub key: String,
}

impl Replica {
    /// Starts one in that namespace.
    pub fn start(stand: &Stand, kubeconfig: &std::path::Path, namespace: &str) -> Self {
        Self::start_with(stand, kubeconfig, namespace, &LEASE)
    }

    /// As [`Self::start`], with these arguments about its lease.
    pub fn start_with(
        stand: &Stand,
        kubeconfig: &std::path::Path,
        namespace: &str,
        lease: &[&str],
    ) -> Self {
        static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let (key, secret) = (format!("StoryKeyIdOf{number}"), format!("StorySecretOf{number}"));
        stand.private.add(&secret);
        stand.simulator.add_key(Key::new(&key, &secret));
        let endpoints = [stand.simulator.endpoint()];
        let keys = (key.as_str(), secret.as_str());
        let operator = Operator::start_with_keys(namespace, kubeconfig, &endpoints, lease, keys);
        Self { operator, key }
    }

    pub fn leads(&self) -> bool {
        self.operator.log().contains("this process leads")
    }

    /// It was a leader, and ends by itself because it is none any more.
    pub async fn ends_as_loser(mut self) {
        let ended = self.operator.ends_within(PATIENCE).await;
        let log = self.operator.log();
        assert_eq!(ended.code(), Some(1), "{log}");
        assert!(log.contains("was lost: "), "{log}");
    }

    /// Asked to end, it does so in order, and a leader gives back what it held.
    pub async fn ends_in_order(mut self) {
        let led = self.leads();
        self.operator.terminate();
        let ended = self.operator.ends_within(PATIENCE).await;
        let log = self.operator.log();
        assert_eq!(ended.code(), Some(0), "{log}");
        // Who waits for the second of the two leases has the first one to give back, too.
        assert!(log.contains("the lease is released") || !led, "{log}");
    }
}

/// Who has called, in the order in which the calls arrived.
#[derive(Default)]
pub struct Callers(BTreeMap<u64, String>);

impl Callers {
    /// Takes in what was called since; what has ended late is still found.
    pub fn look(&mut self, stand: &Stand) {
        let last = self.0.last_key_value().map_or(0, |(number, _)| *number);
        for call in stand.simulator.calls_since(last.saturating_sub(50)) {
            self.0.insert(call.number, call.key_id);
        }
    }

    /// Nobody calls after somebody else has. Returns who has called, in that order.
    pub fn in_turn(&self) -> Vec<&str> {
        let mut turns: Vec<&str> = Vec::new();
        for (number, key) in &self.0 {
            if turns.last() == Some(&key.as_str()) {
                continue;
            }
            assert!(
                !turns.contains(&key.as_str()),
                "{key} calls again as number {number}: {turns:?}"
            );
            turns.push(key);
        }
        turns
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    /// SIGTERM.
    Asked,
    /// SIGKILL.
    Killed,
    /// SIGSTOP, and SIGCONT when another one leads.
    Stopped,
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lead_changes_hands_and_no_two_ever_call() {
    let full = std::env::var("MCO_TEST").is_ok_and(|level| level == "full");
    let times = TIMES[usize::from(full)];
    let alone = alone().await;
    let stand = Stand::on(alone.cluster, Options::default()).await;
    // So long that a signal often comes while a call is under way.
    stand.simulator.latency(Duration::from_millis(20));
    let mut replicas = vec![start(&stand, &alone)];
    leader(&mut replicas).await;
    stand.apply_directory(json!({})).await;
    stand.directory_becomes("Ready", "Connected").await;
    replicas.extend([start(&stand, &alone), start(&stand, &alone)]);

    let mut callers = Callers::default();
    let mut gaps: BTreeMap<Kind, Vec<SignedDuration>> = BTreeMap::new();
    let handing_over = async {
        for time in 0..times {
            let kind = [Kind::Asked, Kind::Killed, Kind::Stopped][time % 3];
            let gap = hand_over(kind, &stand, &mut replicas, &mut callers).await;
            gaps.entry(kind).or_default().push(gap);
            replicas.push(start(&stand, &alone));
        }
    };
    tokio::select! {
        () = handing_over => {}
        () = change_for_ever(&stand) => unreachable!(),
    }
    for (object, name) in CONTACTS {
        stand.apply(object, name, json!({ "title": "ProjectDirector" })).await;
        let synced = stand.becomes(object, "Ready", "InSync").await;
        let id = synced.data["status"]["contactId"].as_str().unwrap();
        stand
            .cloud("what was wanted last", |it| {
                (it.state().contact(id)?.title == "ProjectDirector").then_some(())
            })
            .await;
    }
    for replica in replicas {
        replica.ends_in_order().await;
    }
    callers.look(&stand);
    let turns = callers.in_turn().len();
    assert!(turns > times, "{turns}");
    let counts = stand.simulator.counts();
    assert_eq!(counts.overlaps, 0);
    println!(
        "{times} hand-overs, {} calls, {} of them writes, 0 overlapping",
        counts.calls, counts.writes
    );
    for (kind, mut gaps) in gaps {
        gaps.sort();
        let (median, worst) = (gaps[gaps.len() / 2], gaps[gaps.len() - 1]);
        println!("{kind:?}: next write after {median:.3?} (median), {worst:.3?} (worst)");
    }
}

fn start(stand: &Stand, alone: &Alone) -> Replica {
    Replica::start(stand, alone.cluster.kubeconfig_path(), OPERATOR_NAMESPACE)
}

/// Takes the one that leads out, once the others follow it.
async fn leader(replicas: &mut [Replica]) -> usize {
    cluster::wait_for(PATIENCE, "one leads and the others follow", || {
        let leaders: Vec<_> = (0..replicas.len()).filter(|it| replicas[*it].leads()).collect();
        let follow = replicas
            .iter()
            .all(|it| it.leads() || it.operator.log().contains("another process leads"));
        let logs: String = replicas.iter().map(|it| it.operator.log()).collect();
        async move { if follow && leaders.len() == 1 { Ok(leaders[0]) } else { Err(logs) } }
    })
    .await
    .unwrap()
}

/// Something happens to the leader. Returns how long nobody wrote to the cloud then.
async fn hand_over(
    kind: Kind,
    stand: &Stand,
    replicas: &mut Vec<Replica>,
    callers: &mut Callers,
) -> SignedDuration {
    let at = leader(replicas).await;
    for replica in &*replicas {
        replica.operator.is_ready().await;
    }
    let old = replicas.remove(at);
    written_by(stand, callers, |key| key == old.key).await;
    let key = old.key.clone();
    let began_at = stand.simulator.now();
    let stopped = match kind {
        Kind::Asked => {
            old.ends_in_order().await;
            None
        }
        Kind::Killed => {
            old.operator.kill();
            None
        }
        Kind::Stopped => {
            old.operator.signal("STOP");
            Some(old)
        }
    };
    let written_at = written_by(stand, callers, |by| by != key).await;
    if let Some(old) = stopped {
        // It has work to do, and a lease that it knows nothing else of.
        old.operator.signal("CONT");
        old.ends_as_loser().await;
    }
    callers.look(stand);
    callers.in_turn();
    written_at.duration_since(began_at)
}

/// Waits for another change in the cloud by such a key. Returns when it arrived.
async fn written_by(
    stand: &Stand,
    callers: &mut Callers,
    is_meant: impl Fn(&str) -> bool,
) -> jiff::Timestamp {
    callers.look(stand);
    let last = callers.0.last_key_value().map_or(0, |(number, _)| *number);
    let found = stand.cloud("another change", |it| {
        let mut calls = it.calls_since(last).into_iter();
        calls.find(|call| call.action == "UpdateMessageContact" && is_meant(&call.key_id))
    });
    let at = found.await.at;
    callers.look(stand);
    at
}

/// People edit contacts all the time.
async fn change_for_ever(stand: &Stand) {
    const TITLES: [&str; 3] = ["CEO", "Other", "TechnicalDirector"];
    const PACE: Duration = Duration::from_millis(100);
    for title in TITLES.iter().cycle() {
        for (object, name) in CONTACTS {
            stand.apply(object, name, json!({ "title": title })).await;
            tokio::time::sleep(PACE).await;
        }
    }
}
