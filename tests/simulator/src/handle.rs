//! What tests and the control port do with a running simulator.

use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::watch;

use crate::Options;
use crate::faults::Fault;
use crate::keys::{Key, Keys};
use crate::model::{
    Click, Contact, ContactChange, DeletionPlan, Directory, Message, NewContact, Quotas, Tree,
};
use crate::sts::{Role, TokenService};
use crate::switches::Switches;
use crate::traffic::{CallRecord, Counts, Hold, Throttle};
use crate::world::World;

/// The handle of a running simulator: cheap to clone, the same as the control port.
#[derive(Clone, Debug)]
pub struct Handle {
    pub(crate) shared: Arc<Shared>,
}

/// All contacts in clear, pending values included.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The simulator's clock.
    pub now: Timestamp,
    /// In the order in which they were made.
    pub contacts: Vec<ContactState>,
}

impl State {
    /// The contact of that name.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<&ContactState> {
        self.contacts.iter().find(|contact| contact.name == name)
    }

    /// The contact of that id.
    #[must_use]
    pub fn contact(&self, id: &str) -> Option<&ContactState> {
        self.contacts.iter().find(|contact| contact.id == id)
    }
}

/// A contact and the status that Get shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContactState {
    /// The contact.
    #[serde(flatten)]
    pub contact: Contact,
    /// `Verifying`, `Active` or `Deleting`.
    pub status: String,
}

impl Deref for ContactState {
    type Target = Contact;

    fn deref(&self) -> &Contact {
        &self.contact
    }
}

#[allow(clippy::must_use_candidate, reason = "many are called for what they do")]
impl Handle {
    pub(crate) fn new(options: Options) -> Self {
        let settings = Settings {
            world: world(&options),
            latency: options.latency,
            ahead: SignedDuration::ZERO,
        };
        let (releases, _) = watch::channel(0);
        Self { shared: Arc::new(Shared { options, settings: Mutex::new(settings), releases }) }
    }

    /// The simulator's clock: the real time plus what [`advance`](Self::advance) has added.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.shared.lock().now()
    }

    /// Moves the clock: for links, quotas of sends, sessions, throttling and deletions. Latency
    /// and delays run in real time.
    pub fn advance(&self, by: Duration) {
        self.shared.lock().ahead += SignedDuration::try_from(by).unwrap_or_default();
    }

    /// All contacts.
    #[must_use]
    pub fn state(&self) -> State {
        self.with(|world, now| {
            let contacts = world.directory.contacts(now);
            let with_status = |contact| ContactState {
                status: world.directory.status(&contact).to_owned(),
                contact,
            };
            State { now, contacts: contacts.into_iter().map(with_status).collect() }
        })
    }

    /// What was counted.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.with(|world, _| world.counts.clone())
    }

    /// Calls that have arrived and not ended.
    #[must_use]
    pub fn calls_in_flight(&self) -> u64 {
        self.with(|world, _| world.in_flight)
    }

    /// Counts anew from here.
    pub fn reset_counts(&self) {
        self.with(|world, _| world.reset_counts());
    }

    /// The last calls, at most 10,000.
    #[must_use]
    pub fn calls(&self) -> Vec<CallRecord> {
        self.calls_since(0)
    }

    /// The calls after a number.
    #[must_use]
    pub fn calls_since(&self, number: u64) -> Vec<CallRecord> {
        self.with(|world, _| world.log.since(number))
    }

    /// Every verification message that was sent, oldest first.
    #[must_use]
    pub fn outbox(&self) -> Vec<Message> {
        self.with(|world, now| world.directory.outbox(now))
    }

    /// The owner of an address or number clicks the newest message there.
    pub fn confirm(&self, target: &str) -> Click {
        self.with(|world, now| world.directory.confirm(target, now))
    }

    /// The owner clicks one message.
    pub fn click(&self, message: u64) -> Click {
        self.with(|world, now| world.directory.click(message, now))
    }

    /// All messages to an address or number become too old. Says how many were alive.
    pub fn expire(&self, target: &str) -> usize {
        self.with(|world, now| world.directory.expire(target, now))
    }

    /// Lets something go wrong.
    pub fn fault(&self, fault: Fault) {
        self.with(|world, _| world.faults.push(fault));
    }

    /// Faults that wait for their call.
    #[must_use]
    pub fn faults(&self) -> Vec<Fault> {
        self.with(|world, _| world.faults.waiting().to_vec())
    }

    /// Nothing more goes wrong; calls that hang go on.
    pub fn clear_faults(&self) {
        self.with(|world, _| world.faults.clear());
        self.release_hanging();
    }

    /// Calls that hang go on.
    pub fn release_hanging(&self) {
        self.shared.releases.send_modify(|releases| *releases += 1);
    }

    /// Answers open questions about the cloud's behaviour anew.
    pub fn switches(&self, change: impl FnOnce(&mut Switches)) {
        self.with(|world, _| {
            let mut switches = world.directory.switches().clone();
            change(&mut switches);
            world.directory.set_switches(switches);
        });
    }

    /// Sets limits.
    pub fn quotas(&self, change: impl FnOnce(&mut Quotas)) {
        self.with(|world, _| change(&mut world.directory.quotas));
    }

    /// Sets how deletions in the background end.
    pub fn deletion(&self, plan: DeletionPlan) {
        self.with(|world, _| world.directory.deletion = plan);
    }

    /// Changes folders and accounts.
    pub fn tree(&self, change: impl FnOnce(&mut Tree)) {
        self.with(|world, _| change(&mut world.directory.tree));
    }

    /// Does the account have a resource directory.
    pub fn in_use(&self, in_use: bool) {
        self.with(|world, _| world.directory.in_use = in_use);
    }

    /// Limits calls.
    pub fn throttle(&self, throttle: Throttle) {
        self.with(|world, _| world.throttle = throttle);
    }

    /// How long each call takes, half of it before the operation is done.
    pub fn latency(&self, latency: Duration) {
        self.shared.lock().latency = latency;
    }

    /// An outsider holds the directory: Add, Update, Delete and Bind are refused until
    /// [`release`](Self::release).
    pub fn hold(&self) {
        self.set_hold(Hold::Held);
    }

    /// An outsider holds the directory for a share of the time, beginning now.
    pub fn hold_cycle(&self, hold: Duration, free: Duration) {
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        self.set_hold(Hold::Cycle { hold_ms: millis(hold), free_ms: millis(free) });
    }

    /// Nobody holds the directory.
    pub fn release(&self) {
        self.set_hold(Hold::Free);
    }

    /// An outsider holds the directory so.
    pub fn set_hold(&self, hold: Hold) {
        self.with(|world, now| world.lane.set_hold(hold, now));
    }

    /// Somebody else makes a contact; no call is counted, nothing is checked. Returns its id.
    pub fn insert_contact(&self, contact: NewContact) -> String {
        self.with(|world, now| world.directory.insert_contact(contact, now))
    }

    /// Somebody else changes a contact. False if there is none.
    pub fn change_contact(&self, id: &str, change: ContactChange) -> bool {
        self.with(|world, now| world.directory.change_contact(id, change, now))
    }

    /// Somebody else removes a contact. False if there is none.
    pub fn remove_contact(&self, id: &str) -> bool {
        self.with(|world, now| world.directory.remove_contact(id, now))
    }

    /// Adds an access key or replaces the one of that id.
    pub fn add_key(&self, key: Key) {
        self.with(|world, _| world.keys.add(key));
    }

    /// Switches an access key off. False if there is none.
    pub fn disable_key(&self, id: &str) -> bool {
        self.with(|world, _| world.keys.disable(id))
    }

    /// Takes an access key out. False if there is none.
    pub fn remove_key(&self, id: &str) -> bool {
        self.with(|world, _| world.keys.remove(id))
    }

    /// Sets the roles that may be taken; the first one is the instance's.
    pub fn roles(&self, roles: Vec<Role>) {
        self.with(|world, _| world.tokens.roles = roles);
    }

    /// Must readers of the instance metadata bring a token. True at the start.
    pub fn metadata_token_required(&self, required: bool) {
        self.with(|world, _| world.tokens.metadata_token_required = required);
    }

    /// Everything as at the start, the clock included.
    pub fn reset(&self) {
        let mut settings = self.shared.lock();
        settings.world = world(&self.shared.options);
        settings.latency = self.shared.options.latency;
        settings.ahead = SignedDuration::ZERO;
        drop(settings);
        self.release_hanging();
    }

    /// Everything that can be set, as it is.
    #[must_use]
    pub fn settings(&self) -> Value {
        let latency = self.shared.lock().latency;
        self.with(|world, _| {
            serde_json::json!({
                "switches": world.directory.switches(),
                "quotas": world.directory.quotas,
                "deletion": world.directory.deletion,
                "throttle": world.throttle,
                "latency_ms": u64::try_from(latency.as_millis()).unwrap_or(u64::MAX),
                "tree": world.directory.tree,
                "in_use": world.directory.in_use,
                "roles": world.tokens.roles,
                "faults": world.faults.waiting(),
            })
        })
    }

    pub(crate) fn with<T>(&self, act: impl FnOnce(&mut World, Timestamp) -> T) -> T {
        let mut settings = self.shared.lock();
        let now = settings.now();
        act(&mut settings.world, now)
    }
}

/// What the listeners share.
#[derive(Debug)]
pub(crate) struct Shared {
    options: Options,
    settings: Mutex<Settings>,
    releases: watch::Sender<u64>,
}

/// What is behind the lock.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) world: World,
    pub(crate) latency: Duration,
    ahead: SignedDuration,
}

impl Shared {
    /// Never held across an await.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Settings> {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the next release of hanging calls.
    pub(crate) async fn released(&self) {
        let mut releases = self.releases.subscribe();
        // An error means that the simulator is gone: then the call may go on, too.
        let _ = releases.changed().await;
    }
}

impl Settings {
    /// The simulator's clock.
    #[allow(clippy::disallowed_methods, reason = "the one place that reads the clock")]
    pub(crate) fn now(&self) -> Timestamp {
        Timestamp::now() + self.ahead
    }
}

fn world(options: &Options) -> World {
    let Options { tree, quotas, switches, throttle, access_key_id, access_key_secret, .. } =
        options;
    let directory = Directory::new(tree.clone(), quotas.clone(), switches.clone());
    let mut keys = Keys::default();
    keys.add(Key::new(access_key_id, access_key_secret));
    let role = Role::new(crate::ROLE_NAME);
    let mut world =
        World::new(directory, keys, TokenService::new(&tree.management_account_id, role));
    world.throttle = throttle.clone();
    world
}
