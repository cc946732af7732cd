//! What the stories about verification messages share, and an operator of their own on a clock that
//! they move.

use std::time::Duration;

use cluster::Cluster;
use directory_simulator::Options;
use jiff::{SignedDuration, Timestamp};
use kube::api::{DynamicObject, Patch, PatchParams};
use message_contact_operator::clock::Clock;
use message_contact_operator::plan::hash::HashKey;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::many::operator_client;
use crate::privacy;
use crate::stand::{self, Stand, condition_of};

/// The operation that asks the owner of a mailbox.
pub const SEND: &str = "SendEmailVerificationForMessageContact";

pub const DAY: SignedDuration = SignedDuration::from_hours(24);

/// A time in what a status says of a channel.
pub fn time(object: &DynamicObject, of: &str, field: &str) -> Timestamp {
    let time = &channel(object, of)[field];
    time.as_str().unwrap_or_else(|| panic!("no {field}: {}", channel(object, of))).parse().unwrap()
}

/// What a spec says that leaves everything to its defaults.
pub fn defaults(fields: Value) -> Value {
    let mut whole = json!({ "readyWhen": null, "verification": null });
    stand::merge(&mut whole, fields);
    whole
}

pub fn reason(object: &DynamicObject, condition: &str) -> String {
    condition_of(object, condition)["reason"].as_str().unwrap_or_default().to_owned()
}

pub fn status(object: &DynamicObject, condition: &str) -> String {
    condition_of(object, condition)["status"].as_str().unwrap_or_default().to_owned()
}

pub fn channel<'a>(object: &'a DynamicObject, channel: &str) -> &'a Value {
    &object.data["status"]["verification"][channel]
}

/// The addresses and numbers that messages were sent to, oldest first.
pub fn sent(stand: &Stand) -> Vec<String> {
    stand.simulator.outbox().into_iter().map(|message| message.target).collect()
}

pub async fn annotate(stand: &Stand, object: &str, text: &str) {
    let patch = json!({ "metadata": { "annotations": {
        "message-contacts.dev/resendRequestedAt": text } } });
    let contacts = stand.contacts();
    contacts.patch(object, &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    stand
        .sees(object, "the request is handled", |found| {
            found.data["status"]["lastHandledResendAt"] == json!(text)
        })
        .await;
}

/// The key of the hashes of every operator that is given no other.
const KEY: u8 = 7;

/// An operator of its own on a clock that stories move; one of them at a time.
pub struct Walk {
    pub stand: Stand,
    pub clock: Clock,
    operator: Option<JoinHandle<()>>,
    _alone: tokio::sync::MutexGuard<'static, ()>,
}

impl Walk {
    pub async fn new(options: Options) -> Self {
        static CLUSTER: tokio::sync::OnceCell<Cluster> = tokio::sync::OnceCell::const_new();
        static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
        privacy::listen();
        let alone = ALONE.lock().await;
        let start = || Cluster::start(cluster::Options::default());
        let cluster = CLUSTER.get_or_try_init(start).await.unwrap();
        stand::prepare(cluster).await;
        let clock = Clock::system();
        let operator = run(cluster, &clock, KEY);
        let stand = Stand::on(cluster, options).await;
        stand.apply_directory(json!({ "pollInterval": "1h" })).await;
        stand.directory_becomes("Ready", "Connected").await;
        Self { stand, clock, operator: Some(operator), _alone: alone }
    }

    /// Both sides are so much later.
    pub fn later(&self, by: SignedDuration) {
        self.stand.simulator.advance(Duration::try_from(by).unwrap());
        self.clock.advance(by);
    }

    /// Both sides are at that time, which is to come.
    pub fn until(&self, at: Timestamp) {
        self.later(at.duration_since(self.clock.now()));
    }

    /// The operator dies: its calls are cut off wherever they are.
    pub async fn stop(&mut self) {
        if let Some(operator) = self.operator.take() {
            operator.abort();
            let _ = operator.await;
        }
    }

    /// The operator dies and begins anew.
    pub async fn restart(&mut self) {
        self.restart_with_key(KEY).await;
    }

    /// As [`Self::restart`], and makes its hashes with a key of that byte.
    pub async fn restart_with_key(&mut self, key: u8) {
        self.stop().await;
        self.operator = Some(run(self.stand.cluster, &self.clock, key));
    }
}

fn run(cluster: &Cluster, clock: &Clock, key: u8) -> JoinHandle<()> {
    let (client, key) = (operator_client(cluster), HashKey::new([key; HashKey::BYTES]));
    tokio::spawn(stand::run_operator_with_key(client, clock.clone(), key))
}

impl Drop for Walk {
    fn drop(&mut self) {
        self.operator.iter().for_each(JoinHandle::abort);
    }
}
