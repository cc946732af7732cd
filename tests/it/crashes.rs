//! The operator is killed before and after each of its writes, to the apiserver and to the cloud;
//! and each write's answer is lost, done or not. Nobody helps: the next operator, or the same one,
//! brings everything to the end that it has where nothing happens.
//!
//! One point by itself: `MCO_POINT=update/3/before cargo test --test it -- crashes`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cluster::Cluster;
use directory_simulator::{Click, ContactChange, MessageState, Options};
use futures::future::join_all;
use jiff::{SignedDuration, Timestamp};
use kube::api::DynamicObject;
use serde_json::{Value, json};
use tokio::sync::{OnceCell, Semaphore};

use crate::gate::{Gate, Mishap, Point, Side, Which};
use crate::process::Operator;
use crate::stand::{self, PATIENCE, Stand, condition_of};

/// What somebody wants of the operator, and what it finds.
struct Journey {
    name: &'static str,
    /// The fields of the contact that is there before; `None`: the operator is started for the
    /// first time, and nothing is there.
    before: Option<Value>,
    wish: Wish,
}

enum Wish {
    /// The contact is to be there, with these fields.
    Apply(Value),
    /// It is to be gone.
    Delete,
}

fn journeys() -> Vec<Journey> {
    let journey = |name, before, wish| Journey { name, before, wish };
    let nothing = || Some(json!({}));
    let asked = |fields| {
        let mut whole = json!({ "readyWhen": null, "verification": { "resendAfter": "10m" } });
        stand::merge(&mut whole, fields);
        whole
    };
    let update = json!({ "title": "CEO", "messageTypes": ["ServiceMessage"] });
    let bound = |members: [&str; 2]| json!({ "members": members });
    vec![
        journey("create", None, Wish::Apply(asked(json!({})))),
        journey("update", nothing(), Wish::Apply(update)),
        journey(
            "address",
            Some(asked(json!({}))),
            Wish::Apply(asked(json!({ "emailAddress": "elsewhere@example.com" }))),
        ),
        journey("verify", nothing(), Wish::Apply(asked(json!({})))),
        journey(
            "bind",
            Some(bound(["2000000000000001", "2000000000000002"])),
            Wish::Apply(bound(["2000000000000002", "fd-sim0000001"])),
        ),
        journey("rename", nothing(), Wish::Apply(json!({ "name": "Mingming" }))),
        journey("delete", nothing(), Wish::Delete),
    ]
}

/// How long nobody gets a second message.
const RESEND_AFTER: SignedDuration = SignedDuration::from_mins(10);

/// The object of every journey, and its contact's name unless it is renamed.
const OBJECT: &str = "traveller";
const NAME: &str = "Mingyue";

/// Somebody else's contact, of nearly the same name.
const STRANGER: &str = "Mingyues";

/// So many lives at once: most of a life is waiting.
const AT_ONCE: usize = 32;

/// At least so many points are reached in all journeys together: fewer would mean that the gate
/// misses writes.
const POINTS_MIN: usize = 80;

/// Longest time until everything is as it was without a mishap, once the object is.
const SETTLES_WITHIN: Duration = Duration::from_secs(30);

/// An operator in a cluster of its own, as far as it can see, from its first start to its last end.
pub(crate) struct Life {
    case: String,
    pub(crate) stand: Stand,
    pub(crate) gate: Gate,
    kubeconfig: PathBuf,
    operator: Mutex<Option<Operator>>,
    /// What the operators before have logged.
    log: Mutex<String>,
}

/// How a journey has ended.
struct Lived {
    ending: Ending,
    end: Value,
    writes: Vec<String>,
    reached: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Whole,
    /// A message was written down and not sent. The next one goes in the next slot, which this test
    /// does not live to see.
    MailIsLost,
}

impl Life {
    pub(crate) async fn new(case: String) -> Self {
        let stand = Stand::on(cluster().await, Options::default()).await;
        stand.stranger(STRANGER);
        let gate = Gate::start(&stand).await;
        let kubeconfig = gate.kubeconfig();
        let (operator, log) = (Mutex::default(), Mutex::default());
        Self { case, stand, gate, kubeconfig, operator, log }
    }

    pub(crate) fn start(&self) {
        let (namespace, endpoints) = (&self.stand.namespace, [self.gate.endpoint()]);
        let arguments = ["--log", "debug"];
        let operator = Operator::start_in(namespace, &self.kubeconfig, &endpoints, &arguments);
        *self.operator.lock().unwrap() = Some(operator);
    }

    pub(crate) fn kill(&self) {
        if let Some(operator) = self.operator.lock().unwrap().take() {
            self.log.lock().unwrap().push_str(&operator.log());
            operator.kill();
        }
    }

    /// Starts an operator again that has ended by itself, as a kubelet does.
    async fn keep_running(&self) {
        loop {
            let ended = self.operator.lock().unwrap().as_mut().is_some_and(Operator::has_ended);
            if ended {
                self.kill();
                self.start();
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// One journey, during which the owners of addresses click what they get.
    async fn live(&self, journey: &Journey, point: Option<Point>) -> Lived {
        tokio::select! {
            lived = self.travel(journey, point) => lived,
            () = self.keep_running() => unreachable!("a kubelet never ends"),
            () = self.click() => unreachable!("nor do people"),
        }
    }

    async fn travel(&self, journey: &Journey, point: Option<Point>) -> Lived {
        if let Some(fields) = &journey.before {
            self.gate.arm(None);
            self.start();
            self.connect().await;
            self.stand.apply(OBJECT, NAME, fields.clone()).await;
            self.stand.becomes(OBJECT, "Ready", "InSync").await;
            // What would come late.
            self.gate.wrote("POST events").await;
            self.stand.ask_directory().await;
        }
        self.gate.arm(point);
        if journey.before.is_none() {
            self.start();
            self.connect().await;
        }
        match &journey.wish {
            Wish::Apply(fields) => drop(self.stand.apply(OBJECT, NAME, fields.clone()).await),
            Wish::Delete => self.stand.delete(OBJECT).await,
        }
        let undisturbed = async {
            let ending = self.ends(journey).await;
            // The last thing to be done. Where an answer was lost, there may be nothing to tell.
            self.gate.wrote("POST events").await;
            ending
        };
        let ending = tokio::select! {
            ending = undisturbed => (!self.gate.disarm()).then_some(ending),
            () = self.gate.stands_still() => None,
        };
        let ending = if let Some(ending) = ending {
            ending
        } else {
            self.gate.stands_still().await;
            self.kill();
            self.gate.thaw();
            self.start();
            self.ends(journey).await
        };
        let (writes, reached) = (self.gate.writes(), self.gate.reached());
        Lived { ending, end: self.end().await, writes, reached }
    }

    /// People click each message that they get, once.
    async fn click(&self) {
        loop {
            for message in self.stand.simulator.outbox() {
                if message.state == MessageState::Live {
                    assert_eq!(self.stand.simulator.click(message.id), Click::Confirmed);
                }
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Nothing is left to be done: asking changes nothing.
    async fn is_at_rest(&self, journey: &Journey, end: &Value) {
        let is_same = async || {
            let same = || async {
                let differences = differences(end, &self.end().await);
                if differences.is_empty() { Ok(()) } else { Err(differences.join("\n")) }
            };
            cluster::wait_for(SETTLES_WITHIN, "it is as without a mishap", same).await.unwrap();
        };
        is_same().await;
        match journey.wish {
            Wish::Apply(_) => drop(self.stand.ask(OBJECT).await),
            Wish::Delete => drop(self.stand.ask_directory().await),
        }
        is_same().await;
    }

    /// The message is lost, and the owner confirms without it, from the console. All is then as
    /// without the mishap, but that nobody got a mail.
    async fn is_whole_without_a_mail(&self, journey: &Journey, whole: &Value) {
        let simulator = &self.stand.simulator;
        let state = simulator.state();
        let waiting = state.contacts.iter().find_map(|contact| {
            let pending = contact.email.pending.clone()?;
            Some((contact.id.clone(), pending.value))
        });
        let (id, address) = waiting.expect("an address that waits");
        let confirmed = ContactChange { email: Some(address), ..ContactChange::default() };
        assert!(simulator.change_contact(&id, confirmed));
        assert_eq!(self.ends(journey).await, Ending::Whole);
        let mut whole = whole.clone();
        whole["mails"].as_array_mut().unwrap().pop();
        let writes = whole["writes"].as_object_mut().unwrap();
        match &mut writes["SendEmailVerificationForMessageContact"] {
            sends if *sends == 1 => drop(writes.remove("SendEmailVerificationForMessageContact")),
            sends => *sends = json!(sends.as_u64().unwrap() - 1),
        }
        // Before the message is written down there, or after.
        let directory = self.directory().await;
        whole["directory"]["verificationSends"] =
            plain(directory.data["status"]["verificationSends"].clone());
        self.is_at_rest(journey, &whole).await;
    }

    pub(crate) async fn connect(&self) {
        self.stand.apply_directory(json!({ "endpoint": self.gate.endpoint() })).await;
    }

    async fn ends(&self, journey: &Journey) -> Ending {
        let held = match journey.wish {
            Wish::Delete => {
                self.stand.is_gone(OBJECT).await;
                0
            }
            Wish::Apply(_) => {
                if !self.gets_ready().await {
                    return Ending::MailIsLost;
                }
                1
            }
        };
        self.counts_contacts(held).await;
        Ending::Whole
    }

    /// Waits until the contact is ready, or until it is certain that the message is lost which was
    /// written down right before the mishap.
    async fn gets_ready(&self) -> bool {
        loop {
            let ready = cluster::wait_for(PATIENCE, "it is ready, or a mail is lost", || async {
                let found = self.stand.contacts().get(OBJECT).await.unwrap();
                let known = condition_of(&found, "Ready");
                let generation = json!(found.metadata.generation);
                if known["reason"] == "InSync" && known["observedGeneration"] == generation {
                    return Ok(true);
                }
                let lost = self.gate.reached().is_some() && self.lacks_mail(&found);
                if lost { Ok(false) } else { Err(found.data["status"].to_string()) }
            });
            if ready.await.unwrap() {
                return true;
            }
            // It may be on its way. After a whole pass it is not.
            if self.lacks_mail(&self.stand.ask(OBJECT).await) {
                return false;
            }
        }
    }

    /// A message was written down for this slot, and nobody got any.
    fn lacks_mail(&self, object: &DynamicObject) -> bool {
        let email = &object.data["status"]["verification"]["email"];
        let time = |field: &str| email[field].as_str()?.parse::<Timestamp>().ok();
        let Some((last, next)) = time("lastSentTime").zip(time("nextSendTime")) else {
            return false;
        };
        email["state"] == "Sent"
            && next.duration_since(last) <= RESEND_AFTER
            && !self.stand.simulator.outbox().iter().any(|mail| mail.sent_at >= last)
    }

    async fn directory(&self) -> DynamicObject {
        self.stand.directories().get(&self.stand.directory).await.unwrap()
    }

    /// Waits until the directory says that so many contacts are held, and how many are verified.
    async fn counts_contacts(&self, held: usize) {
        cluster::wait_for(PATIENCE, "the directory tells of its contacts", || async {
            let found = self.directory().await;
            let counts = &found.data["status"]["contacts"];
            let contacts = self.stand.simulator.state().contacts;
            let verified = contacts.iter().filter(|contact| contact.status == "Active").count();
            let right = counts["managed"] == held
                && counts["unmanaged"] == 1
                && counts["verified"] == verified;
            if right { Ok(()) } else { Err(counts.to_string()) }
        })
        .await
        .unwrap();
    }

    /// Everything that is left, without what differs from life to life.
    async fn end(&self) -> Value {
        let object = self.stand.contacts().get_opt(OBJECT).await.unwrap();
        let object = object.map(|object| {
            json!({
                "finalizers": object.metadata.finalizers,
                "generation": object.metadata.generation,
                "status": object.data["status"],
            })
        });
        let directory = self.directory().await;
        let directory_id = directory.data["status"]["directoryId"].as_str().unwrap();
        let mut writes = BTreeMap::<_, u32>::new();
        for call in self.stand.simulator.calls() {
            if call.executed && !["Get", "List"].iter().any(|word| call.action.starts_with(word)) {
                *writes.entry(call.action).or_default() += 1;
            }
        }
        let mails = self.stand.simulator.outbox();
        let mails: Vec<_> = mails.into_iter().map(|message| message.target).collect();
        let end = json!({
            "object": object,
            "directory": directory.data["status"],
            "contacts": self.stand.simulator.state().contacts,
            "writes": writes,
            "mails": mails,
        });
        let end = end.to_string().replace(directory_id, "DIRECTORY");
        let end = end.replace(&self.stand.namespace, "STORY");
        plain(serde_json::from_str(&end).unwrap())
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.kill();
            let (log, writes) = (self.log.lock().unwrap(), self.gate.writes());
            eprintln!("{}: {writes:#?}\n{log}", self.case);
        }
    }
}

/// The value without what no two lives have in common.
fn plain(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let plain = |(key, value): (String, Value)| match key.as_str() {
                "lastHandledReconcileAt" => None,
                "hash" | "hashKey" | "target" | "verifiedTarget" | "contact" => {
                    Some((key, json!("HASH")))
                }
                "day" => Some((key, json!("DAY"))),
                _ => Some((key, plain(value))),
            };
            Value::Object(fields.into_iter().filter_map(plain).collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(plain).collect()),
        Value::String(text) if text.parse::<Timestamp>().is_ok() => json!("TIME"),
        other => other,
    }
}

/// Where two values differ.
fn differences(expected: &Value, found: &Value) -> Vec<String> {
    match (expected, found) {
        (Value::Object(left), Value::Object(right)) => {
            let keys: BTreeSet<_> = left.keys().chain(right.keys()).collect();
            let of = |key| {
                let [left, right] = [left, right].map(|side| side.get(key).unwrap_or(&Value::Null));
                differences(left, right).into_iter().map(move |line| format!("{key}.{line}"))
            };
            keys.into_iter().flat_map(of).collect()
        }
        (Value::Array(left), Value::Array(right)) if left.len() == right.len() => {
            let of = |(number, (left, right)): (usize, (&Value, &Value))| {
                differences(left, right).into_iter().map(move |line| format!("{number}.{line}"))
            };
            left.iter().zip(right).enumerate().flat_map(of).collect()
        }
        (left, right) if left == right => Vec::new(),
        (left, right) => vec![format!(": expected {left}, found {right}")],
    }
}

async fn cluster() -> &'static Cluster {
    static CLUSTER: OnceCell<Cluster> = OnceCell::const_new();
    let start = async || {
        let cluster = Cluster::start(cluster::Options::default()).await.unwrap();
        stand::prepare(&cluster).await;
        cluster
    };
    CLUSTER.get_or_init(start).await
}

/// One point, or the journey without a mishap.
async fn pass(
    journey: Arc<Journey>,
    point: Option<Point>,
    end: Option<Value>,
    turns: Arc<Semaphore>,
) -> Lived {
    let _turn = turns.acquire().await.unwrap();
    let case = format!("{}, {point:?}", journey.name);
    let life = Life::new(case).await;
    let lived = life.live(&journey, point).await;
    let whole = end.as_ref().unwrap_or(&lived.end);
    match lived.ending {
        Ending::Whole => life.is_at_rest(&journey, whole).await,
        Ending::MailIsLost => life.is_whole_without_a_mail(&journey, whole).await,
    }
    lived
}

/// All points of a journey.
struct Walk {
    journey: Arc<Journey>,
    mishap: Mishap,
    turns: Arc<Semaphore>,
    /// The journey without a mishap.
    undisturbed: Lived,
    /// The kinds of write that were hit, one for each point.
    hit: Vec<(Side, String)>,
    /// Whether only one point is wanted, which is told more of.
    alone: bool,
    failed: Vec<String>,
}

const SIDES: [Side; 2] = [Side::Before, Side::After];

impl Walk {
    async fn every_write(&mut self) {
        let known = self.undisturbed.writes.len();
        self.points((0..known).map(Which::Nth), &SIDES).await;
        // Of two things that happen at once, one may cost a write more than without the mishap.
        let mut last = known;
        while self.points([Which::Nth(last)], &SIDES).await {
            last += 1;
        }
        // And they may change places, so that a write is never the one of its number.
        let kinds: BTreeSet<_> = self.undisturbed.writes.iter().cloned().collect();
        let missed = kinds
            .into_iter()
            .filter(|kind| SIDES.iter().any(|side| !self.hit.contains(&(*side, kind.clone()))));
        let missed: Vec<_> = missed.collect();
        for kind in missed {
            if !self.points([Which::First(kind.clone())], &SIDES).await {
                self.failed.push(format!("{}: no `{kind}` was made", self.journey.name));
            }
        }
    }

    /// Lets it happen on both sides of those writes. Says whether any of them was made.
    async fn points(&mut self, writes: impl IntoIterator<Item = Which>, sides: &[Side]) -> bool {
        let mishap = self.mishap;
        let points = writes.into_iter().flat_map(|write| {
            sides.iter().map(move |side| Point { write: write.clone(), side: *side, mishap })
        });
        let passes: Vec<_> = points
            .map(|point| {
                let (journey, turns) = (Arc::clone(&self.journey), Arc::clone(&self.turns));
                let end = Some(self.undisturbed.end.clone());
                (point.clone(), tokio::spawn(pass(journey, Some(point), end, turns)))
            })
            .collect();
        let mut any = false;
        for (point, passed) in passes {
            match passed.await {
                Ok(Lived { reached: Some(kind), writes, .. }) => {
                    any = true;
                    if self.alone {
                        println!("{point:?} was `{kind}` of {writes:#?}");
                    }
                    self.hit.push((point.side, kind));
                }
                Ok(_) => {}
                Err(_) => self.failed.push(format!("{}, {point:?}", self.journey.name)),
            }
        }
        any
    }
}

/// The one point that is wanted, such as `update/3/before`, or the one journey.
fn wanted() -> Option<(String, Option<(usize, Side)>)> {
    let text = std::env::var("MCO_POINT").ok()?;
    let mut parts = text.split('/');
    let journey = parts.next()?.to_owned();
    let number = parts.next().map(|number| number.parse().expect("the number of a write"));
    let side = match parts.next() {
        Some("before") => Side::Before,
        Some("after") => Side::After,
        other => {
            assert!(number.is_none(), "`before` or `after`, and not {other:?}");
            return Some((journey, None));
        }
    };
    Some((journey, number.map(|number| (number, side))))
}

/// Lets the mishap happen at every write of every journey.
async fn at_every_write(mishap: Mishap) {
    let wanted = wanted();
    let is_wanted =
        |journey: &Journey| wanted.as_ref().is_none_or(|(name, _)| name == journey.name);
    let turns = Arc::new(Semaphore::new(AT_ONCE));
    let walk = |journey: Journey| {
        let (journey, turns) = (Arc::new(journey), Arc::clone(&turns));
        let point = wanted.as_ref().and_then(|(_, point)| *point);
        async move {
            let undisturbed = pass(Arc::clone(&journey), None, None, Arc::clone(&turns)).await;
            println!("{}: {}", journey.name, undisturbed.writes.join(", "));
            let (hit, failed) = (Vec::new(), Vec::new());
            let alone = point.is_some();
            let mut walk = Walk { journey, mishap, turns, undisturbed, hit, alone, failed };
            match point {
                None => walk.every_write().await,
                Some((number, side)) => drop(walk.points([Which::Nth(number)], &[side]).await),
            }
            walk
        }
    };
    let walks = join_all(journeys().into_iter().filter(is_wanted).map(walk)).await;
    let points: usize = walks.iter().map(|walk| walk.hit.len()).sum();
    let each: Vec<_> =
        walks.iter().map(|walk| format!("{} {}", walk.journey.name, walk.hit.len())).collect();
    println!("{mishap:?} at {points} points: {}", each.join(", "));
    let failed: Vec<_> = walks.into_iter().flat_map(|walk| walk.failed).collect();
    assert!(failed.is_empty(), "{failed:#?}");
    assert!(wanted.is_some() || points >= POINTS_MIN, "only {points} points were reached");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_that_is_killed_at_any_write_leaves_nothing_to_a_person() {
    at_every_write(Mishap::Killed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_whose_answer_is_lost_leaves_nothing_to_a_person() {
    at_every_write(Mishap::Lost).await;
}
