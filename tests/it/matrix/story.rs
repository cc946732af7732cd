//! One story in one cloud: what it does, how each of its acts is to end, and what that may cost.

use std::collections::BTreeMap;
use std::time::Duration;

use cluster::AuditEvent;
use directory_simulator::{
    CallRecord, Channel, Contact, Fault, FaultKind, MessageState, Options, Switches,
};
use kube::api::{DeleteParams, DynamicObject};
use serde_json::{Value, json};

use super::acts::{Act, Deed};
use super::cases::Case;
use super::stage::{Place, Stage};
use crate::stand::{self, PATIENCE, condition_of};

/// One story.
pub struct Story {
    pub case: Case,
    pub place: Place,
    /// How the act under way is to end.
    ends: Ends,
    /// What the objects want, by their name.
    specs: BTreeMap<&'static str, Value>,
    /// The generations that were applied.
    generations: BTreeMap<&'static str, Option<i64>>,
    /// The last call, and the number of messages, before the act under way.
    mark: u64,
    messages_before: usize,
}

/// How an act ends, and what it does to the cloud.
#[derive(Clone, Default)]
pub struct Ends {
    /// By the name of the object.
    pub contacts: BTreeMap<&'static str, End>,
    /// The operations that change or send something and were done, and how often.
    pub done: BTreeMap<&'static str, usize>,
    /// How much more may be done, for reasons that the table of differences has.
    pub more: BTreeMap<&'static str, usize>,
    /// How many such operations may be refused, every five minutes.
    pub refused: usize,
    /// There is nothing to be told after this act.
    pub over: bool,
    /// Where messages were sent to.
    pub messages: Vec<String>,
}

/// How one contact ends.
#[derive(Clone, Default)]
pub struct End {
    /// Type and reason; a type that is not here has no condition.
    pub conditions: BTreeMap<&'static str, &'static str>,
    pub ready: bool,
    /// The contact in the cloud, if there is one.
    pub contact: Option<Facts>,
}

/// A contact in the cloud.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    pub name: String,
    pub title: String,
    pub types: Vec<String>,
    pub email: Values,
    pub phone: Values,
    pub members: Vec<String>,
}

/// The value in force and the one that waits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Values {
    pub effective: Option<String>,
    pub pending: Option<String>,
}

/// What an act has cost.
#[derive(Debug, Default)]
pub struct Costs {
    lists: usize,
    gets: usize,
    pending_lists: usize,
    deletion_looks: usize,
    stores: usize,
    events: usize,
}

impl Costs {
    pub fn raise(&mut self, other: Self) {
        let Self { lists, gets, pending_lists, deletion_looks, stores, events } = other;
        self.lists = self.lists.max(lists);
        self.gets = self.gets.max(gets);
        self.pending_lists = self.pending_lists.max(pending_lists);
        self.deletion_looks = self.deletion_looks.max(deletion_looks);
        self.stores = self.stores.max(stores);
        self.events = self.events.max(events);
    }
}

impl Story {
    pub async fn begin(stage: &Stage, case: Case) -> Self {
        let switches: Switches = case.switches.clone();
        let place = stage.place(Options { switches, ..Options::default() }).await;
        Self {
            case,
            place,
            ends: Ends::default(),
            specs: BTreeMap::new(),
            generations: BTreeMap::new(),
            mark: 0,
            messages_before: 0,
        }
    }

    /// Whether there are more acts for it.
    pub fn goes_on(&self) -> bool {
        !self.ends.over
    }

    /// Does what the act is about.
    pub async fn play(&mut self, stage: &Stage, act: &Act) {
        let simulator = &self.place.simulator;
        let calls = simulator.calls_since(self.mark);
        self.mark = calls.iter().map(|call| call.number).max().unwrap_or(self.mark);
        self.messages_before = simulator.outbox().len();
        let Ends { contacts, .. } = std::mem::take(&mut self.ends);
        self.ends = Ends { contacts, ..Ends::default() };
        act.ends(&self.case, &mut self.ends);
        match &act.deed {
            Deed::Apply(objects) => self.apply(stage, objects).await,
            Deed::ApplyWhileHeld(objects) => {
                self.place.simulator.hold();
                self.apply(stage, objects).await;
                let refusals = || self.place.simulator.counts().ended("ConcurrentCallNotSupported");
                let before = refusals();
                cluster::wait_for(PATIENCE, "the operator is refused, and tries again", || {
                    let seen = refusals() - before;
                    std::future::ready(if seen >= 3 { Ok(()) } else { Err(seen) })
                })
                .await
                .unwrap();
                self.place.simulator.release();
            }
            Deed::ApplyAndLose(objects) => {
                let lost = FaultKind::Drop { executed: false };
                let send = "SendEmailVerificationForMessageContact";
                self.place.simulator.fault(Fault::on(send, lost));
                self.apply(stage, objects).await;
            }
            Deed::Wait(_) => {}
            Deed::Click => self.click(),
            Deed::Outsider(change) => {
                let id = self.id_in_cloud(stage, "main").unwrap();
                assert!(self.place.simulator.change_contact(&id, change.clone()));
            }
            Deed::OutsiderDeletes => {
                let id = self.id_in_cloud(stage, "main").unwrap();
                assert!(self.place.simulator.remove_contact(&id));
            }
            Deed::Delete { plan } => {
                self.place.simulator.deletion(plan.clone());
                for name in self.specs.keys() {
                    self.place.contacts.delete(name, &DeleteParams::default()).await.unwrap();
                }
            }
        }
    }

    async fn apply(&mut self, stage: &Stage, objects: &[(&'static str, Value)]) {
        for (name, fields) in objects {
            let spec = self.specs.entry(name).or_insert_with(|| json!({}));
            stand::merge(spec, fields.clone());
            let stored = self.place.apply(name, spec).await.metadata.generation;
            self.generations.insert(name, stored);
            cluster::wait_for(PATIENCE, "what was applied is seen", || {
                let seen = stage.object(&self.place, name).and_then(|it| it.metadata.generation);
                std::future::ready(if seen >= stored { Ok(()) } else { Err(format!("{seen:?}")) })
            })
            .await
            .unwrap();
        }
    }

    /// Whoever has got a message clicks it.
    fn click(&self) {
        for message in self.place.simulator.outbox() {
            if message.state == MessageState::Live {
                let _ = self.place.simulator.click(message.id);
            }
        }
    }

    fn id_in_cloud(&self, stage: &Stage, name: &str) -> Option<String> {
        let object = stage.object(&self.place, name)?;
        object.data["status"]["contactId"].as_str().map(str::to_owned)
    }

    /// Whether everything is as the act is to end; if not, what is not.
    pub fn ended(&self, stage: &Stage) -> Result<(), String> {
        let seen = self.place.simulator.state();
        let mut wanted: Vec<&Facts> = Vec::new();
        for (name, end) in &self.ends.contacts {
            let object = stage.object(&self.place, name);
            match (&object, end.conditions.is_empty()) {
                (None, true) => {}
                (Some(object), false) => {
                    self.shown(name, object, end)
                        .map_err(|why| format!("{name}: {why}; {}", conditions(object)))?;
                }
                (None, false) => return Err(format!("{name}: no object is there")),
                (Some(object), true) => {
                    return Err(format!("{name}: still there: {}", conditions(object)));
                }
            }
            let id = object.as_ref().and_then(|it| it.data["status"]["contactId"].as_str());
            let shown = id.and_then(|id| seen.contact(id)).map(|it| facts(&it.contact));
            if shown != end.contact {
                return Err(format!(
                    "{name}: wanted in the cloud: {:?}, is {shown:?}",
                    end.contact
                ));
            }
            wanted.extend(&end.contact);
        }
        if seen.contacts.len() != wanted.len() {
            return Err(format!("{} contacts in the cloud", seen.contacts.len()));
        }
        Ok(())
    }

    fn shown(&self, name: &str, object: &DynamicObject, end: &End) -> Result<(), String> {
        let generation = self.generations.get(name).copied().flatten();
        let seen = object.data["status"]["observedGeneration"].as_i64();
        if seen < generation {
            return Err(format!("generation {generation:?} was not looked at, but {seen:?}"));
        }
        for kind in ["Synced", "EmailVerified", "PhoneVerified", "Bound"] {
            let (shown, wanted) = (condition_of(object, kind), end.conditions.get(kind));
            if shown["reason"].as_str() != wanted.copied() {
                return Err(format!("{kind} is to be {wanted:?}"));
            }
        }
        let ready = condition_of(object, "Ready")["status"] == "True";
        if ready == end.ready { Ok(()) } else { Err(format!("Ready is to be {}", end.ready)) }
    }

    /// What the act has cost, if that is little enough and exactly what was to be done was done.
    /// So often the directory was read.
    pub fn costs(
        &self,
        stored: &[AuditEvent],
        polls: usize,
        walked: Duration,
    ) -> Result<Costs, String> {
        let Ends { done, more, refused, messages, contacts: _, over: _ } = &self.ends;
        let simulator = &self.place.simulator;
        let calls = simulator.calls_since(self.mark);
        let of = |action: &str| calls.iter().filter(|call| call.action == action).count();
        let mut did: BTreeMap<&str, usize> = BTreeMap::new();
        for call in calls.iter().filter(|call| !is_read(call) && call.status == Some(200)) {
            *did.entry(&call.action).or_default() += 1;
        }
        let wanted = |action: &&str| done.get(action).copied().unwrap_or(0);
        let allowed = |action: &&str| wanted(action) + more.get(action).copied().unwrap_or(0);
        let enough = done.iter().all(|(action, count)| did.get(action) >= Some(count));
        if !enough || did.iter().any(|(action, count)| *count > allowed(action)) {
            return Err(format!("done: {did:?}, and not {done:?}; {}", told(&calls)));
        }
        let busy = "ConcurrentCallNotSupported";
        let refusals = calls.iter().filter(|call| !is_read(call) && call.status != Some(200));
        let refusals = refusals.filter(|call| call.outcome != busy).count();
        let five_minutes = usize::try_from(walked.as_secs() / 300).unwrap();
        if refusals > *refused * (1 + five_minutes) {
            return Err(format!("{refusals} refusals; {}", told(&calls)));
        }
        let mut sent: Vec<_> = simulator.outbox()[self.messages_before..]
            .iter()
            .map(|message| message.target.to_lowercase())
            .collect();
        sent.sort();
        let mut wanted: Vec<_> = messages.iter().map(|it| it.to_lowercase()).collect();
        wanted.sort();
        if sent != wanted {
            return Err(format!("messages to {sent:?}, and not to {wanted:?}"));
        }
        let in_flight = simulator.counts().in_flight_max;
        if in_flight > 1 {
            return Err(format!("{in_flight} calls at once"));
        }

        let objects = stored.iter().filter(|it| it.resource == "messagecontacts").count();
        let events = stored.iter().filter(|it| it.resource == "events").count();
        let costs = Costs {
            lists: of("ListMessageContacts"),
            gets: of("GetMessageContact"),
            pending_lists: of("ListMessageContactVerifications"),
            deletion_looks: of("GetMessageContactDeletionStatus"),
            stores: objects,
            events,
        };
        let contacts = self.ends.contacts.len();
        let changes: usize = did.values().sum::<usize>() + refusals;
        let most = Costs {
            lists: polls + 3,
            // A write is read back, and once more where what is shown may be late.
            gets: 3 * changes + 2,
            pending_lists: contacts * polls + 2 * changes,
            deletion_looks: 8,
            stores: 4 * contacts + 2 * changes,
            events: 2 * contacts + 2 * changes,
        };
        if costs.is_within(&most) {
            return Ok(costs);
        }
        Err(format!("{costs:?} is more than {most:?}; {}", told(&calls)))
    }
}

impl Costs {
    fn is_within(&self, most: &Self) -> bool {
        self.lists <= most.lists
            && self.gets <= most.gets
            && self.pending_lists <= most.pending_lists
            && self.deletion_looks <= most.deletion_looks
            && self.stores <= most.stores
            && self.events <= most.events
    }
}

/// What is said of an object, for a person to look at.
fn conditions(object: &DynamicObject) -> String {
    let kinds = ["Synced", "EmailVerified", "PhoneVerified", "Bound", "Ready"];
    let known = kinds.map(|kind| (kind, condition_of(object, kind)));
    let text = |(kind, it): &(&str, Value)| format!("{kind} {} {}", it["reason"], it["message"]);
    let lines: Vec<_> = known.iter().filter(|(_, it)| !it.is_null()).map(text).collect();
    format!("is:\n  {}", lines.join("\n  "))
}

/// The calls as a list, for a person to look at.
fn told(calls: &[CallRecord]) -> String {
    let line = |call: &CallRecord| {
        let sent = call.parameters.keys().map(String::as_str).collect::<Vec<_>>().join(" ");
        format!("{} {} {sent}: {}", call.at.strftime("%T%.3f"), call.action, call.outcome)
    };
    let lines: Vec<_> = calls.iter().map(line).collect();
    format!("calls:\n  {}", lines.join("\n  "))
}

fn is_read(call: &CallRecord) -> bool {
    call.action.starts_with("Get") || call.action.starts_with("List")
}

fn facts(contact: &Contact) -> Facts {
    let values = |channel: &Channel| Values {
        effective: channel.effective.as_ref().map(|it| it.to_lowercase()),
        pending: channel.pending.as_ref().map(|it| it.value.to_lowercase()),
    };
    let sorted = |mut list: Vec<String>| {
        list.sort();
        list
    };
    Facts {
        name: contact.name.clone(),
        title: contact.title.clone(),
        types: sorted(contact.message_types.clone()),
        email: values(&contact.email),
        phone: values(&contact.phone),
        members: sorted(contact.members.clone()),
    }
}
