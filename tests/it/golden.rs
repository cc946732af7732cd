//! Plans as people read them: each `tests/golden/plan/*.yaml` tells a situation, and the `.txt`
//! beside it has the exact plan. `MCO_REWRITE=1` writes the plans anew.
//!
//! A file holds the MessageContact as `kubectl get -o yaml` shows it, the ResourceDirectory if its
//! spec matters, and a document `kind: Cloud` with what is known of the cloud: see [`Cloud`]. Its
//! first line says in words what is to be seen. `hash of …` in a status stands for a keyed hash: of
//! an address, of a number, of `the intent`, of `the write`, of `the clearing` of the number, or of
//! `something else`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use message_contact_operator::api::values::Values;
use message_contact_operator::api::{self, MessageContact, ResourceDirectory, parse};
use message_contact_operator::domain::call::{
    Call, CallError, DeletionBlocker, DeletionState, DirectoryIdentity, ErrorCode, FailureClass,
    KeyCause, KeyFailure, KeyStep, Page, Reply, Skew, Target,
};
use message_contact_operator::domain::channel::{EmailAddress, PhoneNumber};
use message_contact_operator::domain::contact::{
    AccountId, ContactId, ContactName, ContactStatus, DesiredContact, DirectoryId, MemberId,
    ObservedContact, Recorded, Uid,
};
use message_contact_operator::domain::directory::{DesiredDirectory, Management};
use message_contact_operator::domain::ledger::Ledger;
use message_contact_operator::domain::snapshot::{Sight, Snapshot};
use message_contact_operator::domain::verdict::{Finding, Reason};
use message_contact_operator::plan::hash::HashKey;
use message_contact_operator::plan::render::Rendered;
use message_contact_operator::plan::{
    self, AddFate, Attempts, Connection, Definition, Desired, Holder, Input, Namesake, Plan,
    Setbacks, Step, Unsent, View,
};
use serde::Deserialize;
use serde_json::Value;

use crate::architecture::root;

/// Fewest cases.
const CASES_MIN: usize = 60;

/// The directory that answers.
const DIRECTORY: &str = "rd-a1b2c3";

/// The id of a contact that is created.
const CREATED: &str = "c-createdcreatedcr";

/// What is known of the cloud, and what was done there for the object.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Cloud {
    #[serde(rename = "kind")]
    _kind: String,
    /// The time of the plan.
    #[serde(default = "ten_o_clock")]
    now: Timestamp,
    /// When complete lists began.
    #[serde(default = "two_lists")]
    listed: Vec<Timestamp>,
    /// The contacts of the directory.
    #[serde(default)]
    contacts: Vec<Contact>,
    /// Contacts that a Get did not find, and when.
    #[serde(default)]
    gone: BTreeMap<String, Timestamp>,
    /// Nothing is known of the directory, for this reason.
    closed: Option<Closed>,
    /// Another object comes first for the name.
    #[serde(default)]
    rival: bool,
    /// The status of an object that comes first has the same contact id.
    #[serde(default)]
    outranked: bool,
    /// Verification messages that the directory has in its books.
    #[serde(default)]
    sent: Vec<Sent>,
    /// The API said then that the day's messages are used up.
    exhausted: Option<Timestamp>,
    /// This process has written down the last message to that value, and has not sent it.
    unsent: Option<String>,
    /// What the apiserver said of our definition, at the time of the plan.
    #[serde(default)]
    definition: Told,
    /// What was called for this object since its status was stored.
    #[serde(default)]
    calls: Vec<Made>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Closed {
    reason: String,
    message: String,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
enum Told {
    #[default]
    Stands,
    Unasked,
    BeingDeleted,
    Unreadable,
}

/// A contact as the cloud shows it, and what is known of it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Contact {
    id: String,
    name: String,
    title: String,
    email_address: Option<String>,
    phone_number: Option<String>,
    message_types: BTreeSet<String>,
    #[serde(default)]
    members: BTreeSet<String>,
    status: String,
    /// It is so from then on, and until then; else always.
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    /// Another object holds it.
    held: Option<Held>,
    /// When a Get showed it.
    #[serde(default)]
    read: Vec<Timestamp>,
    /// The values that wait for their owners.
    #[serde(default)]
    waits: Vec<String>,
    /// When these were asked for.
    #[serde(default)]
    looked: Vec<Timestamp>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
enum Held {
    ByAnother,
    ByAnotherBeingDeleted,
}

/// A verification message.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sent {
    to: String,
    /// The name of the contact.
    of: String,
    at: Timestamp,
    #[serde(default = "once")]
    times: u32,
}

/// A call that was the next step at that time, and how it ended.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Made {
    at: Timestamp,
    call: String,
    /// Why it failed; left out: it worked.
    failed: Option<Failure>,
    code: Option<String>,
    /// What it said of a deletion.
    deletion: Option<Removal>,
}

/// The classes of failure that differ in what the planner does.
#[derive(Debug, Clone, Copy, Deserialize)]
enum Failure {
    InvalidInput,
    NameTaken,
    UnknownMember,
    WrongState,
    ClientBug,
    Conflict,
    Throttled,
    Quota,
    SendsExhausted,
    ContactNotFound,
    NothingPending,
    NoDirectory,
    Credentials,
    TokenExpired,
    Clock,
    NoKeys,
    Permission,
    Unavailable,
    OutcomeUnknown,
}

impl Failure {
    fn class(self) -> FailureClass {
        match self {
            Self::InvalidInput => FailureClass::InvalidInput,
            Self::NameTaken => FailureClass::NameTaken,
            Self::UnknownMember => FailureClass::UnknownMember,
            Self::WrongState => FailureClass::WrongState,
            Self::ClientBug => FailureClass::ClientBug,
            Self::TokenExpired => FailureClass::TokenExpired,
            Self::Clock => FailureClass::Clock(Skew(Some(20))),
            Self::NoKeys => FailureClass::NoKeys(KeyFailure {
                step: KeyStep::AssumeRole,
                cause: KeyCause::Unanswered,
            }),
            Self::Conflict => FailureClass::Conflict,
            Self::Throttled => FailureClass::Throttled,
            Self::Quota => FailureClass::Quota,
            Self::SendsExhausted => FailureClass::SendsExhausted,
            Self::ContactNotFound => FailureClass::ContactNotFound,
            Self::NothingPending => FailureClass::NothingPending,
            Self::NoDirectory => FailureClass::NoDirectory,
            Self::Credentials => FailureClass::Credentials,
            Self::Permission => FailureClass::Permission,
            Self::Unavailable => FailureClass::Unavailable,
            Self::OutcomeUnknown => FailureClass::OutcomeUnknown,
        }
    }
}

#[derive(Debug, Clone, Copy, Deserialize)]
enum Removal {
    Deleted,
    Deleting,
    Failed,
    Unclear,
}

impl Removal {
    fn state(self) -> DeletionState {
        match self {
            Self::Deleted => DeletionState::Deleted,
            Self::Deleting => DeletionState::Deleting,
            Self::Unclear => DeletionState::Unclear,
            Self::Failed => DeletionState::Failed(vec![DeletionBlocker {
                account: AccountId::from("1234567890123456"),
                message_types: vec!["SecurityMessage".to_owned()],
            }]),
        }
    }
}

fn once() -> u32 {
    1
}

fn ten_o_clock() -> Timestamp {
    "2026-01-05T10:00:00Z".parse().unwrap()
}

fn two_lists() -> Vec<Timestamp> {
    ["2026-01-05T09:50:00Z", "2026-01-05T09:55:00Z"].map(|it| it.parse().unwrap()).into()
}

fn target(text: &str) -> Target {
    if text.contains('@') {
        Target::Email(EmailAddress::observed(text.to_owned()))
    } else {
        Target::Phone(PhoneNumber::observed(text.to_owned()))
    }
}

fn key() -> HashKey {
    HashKey::new([7; HashKey::BYTES])
}

impl Contact {
    fn is_there(&self, at: Timestamp) -> bool {
        self.since.is_none_or(|since| since <= at) && self.until.is_none_or(|until| at < until)
    }

    fn id(&self) -> ContactId {
        ContactId(self.id.clone())
    }

    fn observed(&self) -> ObservedContact {
        ObservedContact {
            id: self.id(),
            name: ContactName::observed(self.name.clone()),
            email: self.email_address.clone().map(EmailAddress::observed),
            phone: self.phone_number.clone().map(PhoneNumber::observed),
            title: self.title.clone(),
            message_types: self.message_types.clone(),
            members: self.members.iter().cloned().map(MemberId).collect(),
            status: match self.status.as_str() {
                "Verifying" => ContactStatus::Verifying,
                "Active" => ContactStatus::Active,
                "Deleting" => ContactStatus::Deleting,
                word => ContactStatus::Other(word.to_owned()),
            },
        }
    }

    fn waiting(&self) -> Page<Target> {
        let items: Vec<_> = self.waits.iter().map(|text| target(text)).collect();
        Page { total: u32::try_from(items.len()).unwrap(), items }
    }
}

/// One file, read.
struct Case {
    contact: MessageContact,
    directory: Option<DesiredDirectory>,
    cloud: Cloud,
}

impl Case {
    fn read(path: &Path) -> Self {
        let place = path.display();
        let text = fs::read_to_string(path).unwrap();
        assert!(text.starts_with("# "), "{place}: say on top what is to be seen");
        let mut documents: BTreeMap<String, Value> = BTreeMap::new();
        for document in serde_saphyr::from_multiple::<Value>(&text).unwrap() {
            let kind = document["kind"].as_str().expect("each document has a kind").to_owned();
            assert!(documents.insert(kind, document).is_none(), "{place}: a kind twice");
        }
        let mut take = |kind: &str| documents.remove(kind);
        let given = take("MessageContact").unwrap_or_else(|| panic!("{place}: no contact"));
        let mut contact: MessageContact = serde_json::from_value(given.clone()).unwrap();
        let kept = serde_json::to_value(&contact).unwrap();
        assert!(is_within(&given, &kept), "{place}: no such field, or not in this form");
        let directory = take("ResourceDirectory").map(|given| {
            let object: ResourceDirectory = serde_json::from_value(given.clone()).unwrap();
            let kept = serde_json::to_value(&object).unwrap();
            assert!(is_within(&given, &kept), "{place}: no such field of the directory");
            parse::directory(&object.spec, &[]).unwrap()
        });
        let cloud = take("Cloud").unwrap_or_else(|| panic!("{place}: no cloud"));
        let cloud = serde_json::from_value(cloud).unwrap_or_else(|why| panic!("{place}: {why}"));
        assert!(documents.is_empty(), "{place}: {:?}", documents.keys());
        contact.status = contact.status.as_ref().map(|status| {
            let mut status = serde_json::to_value(status).unwrap();
            hash(&mut status, &contact);
            serde_json::from_value(status).unwrap()
        });
        Self { contact, directory, cloud }
    }

    /// What the spec asks for, within what the directory allows.
    fn wanted(&self) -> Result<DesiredContact, parse::ContactProblem> {
        let wanted = parse::contact(&self.contact.spec, &Values::default())?;
        Ok(match &self.directory {
            Some(directory) => directory.capped(wanted),
            None => wanted,
        })
    }

    /// The plan, printed.
    fn plan(&self) -> String {
        let Cloud { now, listed, contacts, gone, calls, .. } = &self.cloud;
        let mut events: Vec<(Timestamp, Event<'_>)> = Vec::new();
        events.extend(listed.iter().map(|at| (*at, Event::Listed)));
        for contact in contacts {
            events.extend(contact.read.iter().map(|at| (*at, Event::Read(contact))));
            events.extend(contact.looked.iter().map(|at| (*at, Event::Looked(contact))));
        }
        events.extend(gone.iter().map(|(id, at)| (*at, Event::Gone(id))));
        events.extend(calls.iter().map(|made| (made.at, Event::Made(made))));
        events.sort_by_key(|(at, _)| *at);
        let mut world = World::new(self);
        for (at, event) in events {
            assert!(at <= *now, "{at} is after the plan");
            world.happens(&event, at);
            // A pass follows; what it knows of the bindings is kept.
            world.attempts = world.plan(at).attempts;
        }
        let plan = world.plan(*now);
        let observed = plan.record.contact_id.as_ref().and_then(|id| world.shown(id));
        let recorded = &world.recorded;
        Rendered { plan: &plan, recorded, observed: observed.as_ref() }.to_string()
    }
}

/// Whether everything that was given was kept as it was given.
fn is_within(given: &Value, kept: &Value) -> bool {
    match (given, kept) {
        (Value::Object(given), Value::Object(kept)) => given
            .iter()
            .all(|(key, value)| kept.get(key).is_some_and(|kept| is_within(value, kept))),
        (Value::Array(given), Value::Array(kept)) => {
            given.len() == kept.len() && given.iter().zip(kept).all(|(a, b)| is_within(a, b))
        }
        (given, kept) => given == kept,
    }
}

/// Puts keyed hashes for the words that stand for them.
fn hash(value: &mut Value, contact: &MessageContact) {
    match value {
        Value::Object(fields) => fields.values_mut().for_each(|field| hash(field, contact)),
        Value::Array(items) => items.iter_mut().for_each(|item| hash(item, contact)),
        Value::String(text) => {
            let Some(of) = text.strip_prefix("hash of ") else { return };
            let wanted = || parse::contact(&contact.spec, &Values::default()).unwrap();
            let id = || {
                let id = contact.status.as_ref().and_then(|status| status.contact_id.as_deref());
                ContactId::from(id.expect("a write is one of a contact"))
            };
            *text = match of {
                "the intent" => {
                    key().of_creation(&uid(contact), &DirectoryId::from(DIRECTORY), &wanted())
                }
                "the write" => key().of_write(&id(), &wanted()),
                "something else" => "0".repeat(32),
                "the clearing" => key().of_clearing(&id(), &wanted()),
                value => key().of_target(&target(value)),
            };
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn uid(contact: &MessageContact) -> Uid {
    Uid(contact.uid().expect("an object has a uid"))
}

/// What happened at a moment.
enum Event<'a> {
    Listed,
    Read(&'a Contact),
    Looked(&'a Contact),
    Gone(&'a str),
    Made(&'a Made),
}

/// What is known at a moment.
struct World<'a> {
    case: &'a Case,
    directory_id: DirectoryId,
    recorded: Recorded,
    snapshot: Snapshot,
    setbacks: Setbacks,
    attempts: Attempts,
    add: AddFate,
    ledger: Ledger,
    unsent: Vec<Unsent>,
}

impl<'a> World<'a> {
    fn new(case: &'a Case) -> Self {
        let Cloud { sent, exhausted, unsent, .. } = &case.cloud;
        let status = case.contact.status.clone().unwrap_or_default();
        let recorded = parse::recorded(&status);
        let directory_id = DirectoryId::from(DIRECTORY);
        let mut snapshot = Snapshot::default();
        let identity = DirectoryIdentity {
            directory_id: directory_id.clone(),
            root_folder_id: MemberId::from("r-a1b2c3"),
            management_account_id: AccountId::from("1000000000000000"),
        };
        let identity = Ok(Reply::Directory(identity));
        snapshot.record(&Call::GetResourceDirectory, &identity, Timestamp::UNIX_EPOCH);
        let name = |of: &str| key().of_name(&ContactName::observed(of.to_owned()));
        let mut ledger = Ledger::default();
        for Sent { to, of, at, times } in sent {
            for _ in 0..*times {
                ledger = ledger.with_send(&key().of_target(&target(to)), &name(of), *at);
            }
        }
        if let Some(at) = exhausted {
            ledger = ledger.exhausted(*at);
        }
        let unsent = unsent.iter().map(|to| {
            let (to, records) = (key().of_target(&target(to)), &recorded.verification);
            let records = [&records.email, &records.phone].into_iter().flatten();
            let record = records.into_iter().find(|record| record.target == to).unwrap();
            let wanted = case.wanted().unwrap();
            let (contact, at) = (key().of_name(&wanted.name), record.last_sent.unwrap());
            Unsent { send: plan::Send { target: to, contact, at }, counted: true }
        });
        let unsent = unsent.collect();
        // As after a restart: an earlier process may have made the Add.
        let add = recorded
            .creation
            .as_ref()
            .map_or(AddFate::NotMade, |intent| AddFate::Unanswered { since: intent.at });
        let (setbacks, attempts) = (Setbacks::default(), Attempts::default());
        Self { case, directory_id, recorded, snapshot, setbacks, attempts, add, ledger, unsent }
    }

    fn shown(&self, id: &ContactId) -> Option<ObservedContact> {
        match self.snapshot.sight(id) {
            Sight::Known(entry) => Some(entry.contact.as_ref().clone()),
            Sight::Unlisted | Sight::Gone { .. } => None,
        }
    }

    fn happens(&mut self, event: &Event<'_>, at: Timestamp) {
        match event {
            Event::Listed => {
                let contacts = &self.case.cloud.contacts;
                let there = contacts.iter().filter(|it| it.is_there(at));
                let items: Vec<_> = there.map(Contact::observed).collect();
                let total = u32::try_from(items.len()).unwrap();
                self.snapshot.begin_list(at);
                let page = Ok(Reply::Contacts(Page { items, total }));
                self.snapshot.record(&Call::ListMessageContacts { page: 1 }, &page, at);
            }
            Event::Read(contact) => {
                let reply = Ok(Reply::Contact(contact.observed()));
                self.snapshot.record(&Call::GetMessageContact(contact.id()), &reply, at);
            }
            Event::Looked(contact) => {
                let call = Call::ListMessageContactVerifications { id: contact.id(), page: 1 };
                self.snapshot.record(&call, &Ok(Reply::Verifications(contact.waiting())), at);
            }
            Event::Gone(id) => {
                let call = Call::GetMessageContact(ContactId((*id).to_owned()));
                let error = failure(&call, Failure::ContactNotFound, "EntityNotExists.Contact");
                self.snapshot.record(&call, &Err(error), at);
            }
            Event::Made(made) => self.made(made, at),
        }
    }

    /// The call is the one that is planned, and everybody learns how it ended.
    fn made(&mut self, made: &Made, at: Timestamp) {
        let plan = self.plan(at);
        let Some(Step::Call(call, _)) = &plan.step else {
            panic!("{at}: {} is not planned, but {:?}", made.call, plan.step)
        };
        assert_eq!(call.action().as_str(), made.call, "{at}: another call is planned");
        let code = made.code.as_deref().unwrap_or_default();
        let result = match made.failed {
            Some(class) => Err(failure(call, class, code)),
            None => Ok(self.reply(call, made)),
        };
        self.snapshot.record(call, &result, at);
        let error = result.as_ref().err();
        if let Some(send) = &plan.send {
            self.unsent.retain(|unsent| unsent.send != *send);
            self.ledger = self.ledger.with_send(&send.target, &send.contact, at);
        }
        let generation = self.generation();
        match (&plan.send, error) {
            (Some(send), Some(error)) => {
                if let Some(next) = plan::ledger_after(&self.ledger, send, error, at) {
                    self.ledger = next;
                } else {
                    self.unsent.push(Unsent { send: send.clone(), counted: true });
                    self.setbacks.note(call.action(), Some(error), generation, at);
                }
            }
            (Some(_) | None, _) if call.members().is_some() => {
                self.attempts = plan.attempts.after(call, error, at);
            }
            (Some(_) | None, _) => self.setbacks.note(call.action(), error, generation, at),
        }
        if matches!(call, Call::AddMessageContact(_)) {
            let refused = error.is_some_and(|error| error.class.not_executed());
            self.add = if refused { AddFate::NotMade } else { AddFate::Unanswered { since: at } };
        }
        self.recorded = plan::record_after(&self.recorded, plan.record.clone(), call, error, at);
    }

    fn reply(&self, call: &Call, made: &Made) -> Reply {
        let mut contacts = self.case.cloud.contacts.iter();
        let contact =
            contacts.find(|it| Some(&it.id()) == call.contact_id() && it.is_there(made.at));
        match call {
            Call::GetMessageContact(_) => Reply::Contact(contact.unwrap().observed()),
            Call::ListMessageContactVerifications { .. } => {
                Reply::Verifications(contact.unwrap().waiting())
            }
            Call::AddMessageContact(_) => Reply::Added(ContactId::from(CREATED)),
            Call::DeleteMessageContact { .. } | Call::GetMessageContactDeletionStatus(_) => {
                Reply::Deletion(made.deletion.expect("say how the deletion stands").state())
            }
            Call::UpdateMessageContact(..)
            | Call::CancelMessageContactUpdate { .. }
            | Call::SendEmailVerificationForMessageContact(..)
            | Call::SendPhoneVerificationForMessageContact(..)
            | Call::AssociateMembers(..)
            | Call::DisassociateMembers(..) => Reply::Done,
            Call::ListMessageContacts { .. }
            | Call::GetResourceDirectory
            | Call::ListAccounts { .. } => {
                panic!("{call:?} is none of an object")
            }
        }
    }

    fn generation(&self) -> i64 {
        self.case.contact.metadata.generation.expect("an object has a generation")
    }

    fn plan(&self, now: Timestamp) -> Plan {
        let Case { contact, directory, cloud } = self.case;
        let status = contact.status.clone().unwrap_or_default();
        let wanted = self.case.wanted();
        let blocked = |finding| Desired::Blocked(finding);
        let desired = match (&contact.metadata.deletion_timestamp, &wanted) {
            (Some(since), _) => {
                Desired::Absent { removal: parse::removal(&contact.spec), since: since.0 }
            }
            (None, _) if contact.spec.suspend == Some(true) => blocked(plan::suspended()),
            (None, Ok(wanted)) => Desired::Present(wanted),
            (None, Err(problem)) => {
                blocked(Finding::unmet(Reason::InvalidContact, problem.to_string()))
            }
        };
        let name = plan::name_in_question(&self.recorded, &desired).cloned();
        let connection = match &cloud.closed {
            Some(Closed { reason, message }) => {
                let known = Reason::ALL.iter().find(|known| known.as_str() == reason);
                Connection::Closed(Finding::unmet(*known.unwrap(), message))
            }
            None => Connection::Open(View {
                directory_id: &self.directory_id,
                own: self.recorded.contact_id.as_ref().map(|id| self.snapshot.sight(id)),
                namesakes: name.as_ref().map(|name| self.namesakes(name)).unwrap_or_default(),
                rival: cloud.rival,
                lists: self.snapshot.lists(),
                add: self.add,
                outranked: cloud.outranked,
                ledger: &self.ledger,
                allowed_members: directory.as_ref().and_then(|it| it.allowed_members.as_ref()),
            }),
        };
        let input = Input {
            uid: &uid(contact),
            generation: self.generation(),
            settled_generation: parse::settled_generation(&status),
            finalizer: contact.finalizers().iter().any(|it| it == api::FINALIZER),
            desired,
            management: directory.as_ref().map_or(Management::Full, |it| it.management),
            definition: match cloud.definition {
                Told::Stands => Definition::Stands { at: now },
                Told::Unasked => Definition::Unasked,
                Told::BeingDeleted => Definition::BeingDeleted,
                Told::Unreadable => Definition::Unreadable { at: now },
            },
            recorded: &self.recorded,
            connection,
            setbacks: &self.setbacks,
            unsent: &self.unsent,
            attempts: &self.attempts,
            hash_key: &key(),
        };
        plan::plan(&input, now)
    }

    fn namesakes(&self, name: &ContactName) -> Vec<Namesake> {
        let others = self.snapshot.namesakes(name);
        let others =
            others.filter(|entry| self.recorded.contact_id.as_ref() != Some(&entry.contact.id));
        others
            .map(|entry| {
                let mut contacts = self.case.cloud.contacts.iter();
                let held = contacts.find(|it| it.id() == entry.contact.id).and_then(|it| it.held);
                let holder = match held {
                    None => Holder::Nobody,
                    Some(Held::ByAnother) => Holder::Other { deleting: false },
                    Some(Held::ByAnotherBeingDeleted) => Holder::Other { deleting: true },
                };
                let exact = entry.contact.name == *name;
                Namesake { entry: entry.clone(), exact, holder }
            })
            .collect()
    }
}

fn failure(call: &Call, class: Failure, code: &str) -> CallError {
    CallError {
        action: call.action(),
        class: class.class(),
        code: ErrorCode::parse(code),
        request_id: None,
        retry_after: None,
    }
}

/// The files of one kind, by name.
fn files(extension: &str) -> BTreeSet<PathBuf> {
    let entries = fs::read_dir(root().join("tests/golden/plan")).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.filter(|path| path.extension().is_some_and(|it| it == extension)).collect()
}

#[test]
fn each_situation_has_exactly_the_printed_plan() {
    let cases = files("yaml");
    let mut wrong = Vec::new();
    for path in &cases {
        let printed = std::panic::catch_unwind(|| Case::read(path).plan());
        let Ok(printed) = printed else {
            wrong.push(format!("{}: see above", path.display()));
            continue;
        };
        let beside = path.with_extension("txt");
        if std::env::var_os("MCO_REWRITE").is_some() {
            fs::write(&beside, &printed).unwrap();
        }
        let stored = fs::read_to_string(&beside).unwrap_or_default();
        if stored != printed {
            wrong.push(format!("{}\nis\n{stored}\nand now would be\n{printed}", beside.display()));
        }
    }
    assert!(wrong.is_empty(), "MCO_REWRITE=1 rewrites:\n{}", wrong.join("\n"));
    let alone: Vec<_> = files("txt")
        .into_iter()
        .filter(|path| !cases.contains(&path.with_extension("yaml")))
        .collect();
    assert!(alone.is_empty(), "no situation beside {alone:?}");
    println!("{} golden plans", cases.len());
    assert!(cases.len() >= CASES_MIN, "{}", cases.len());
}

/// The reasons that golden plans give. Why a directory is closed is said in the situation, and does
/// not count.
pub fn reasons() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for path in files("txt") {
        let situation = fs::read_to_string(path.with_extension("yaml")).unwrap_or_default();
        let given = situation.split_once("closed:").map_or("", |(_, closed)| closed);
        for line in fs::read_to_string(path).unwrap().lines() {
            let Some((_, said)) = line.split_once('=').filter(|_| line.starts_with("  ")) else {
                continue;
            };
            let reason = said.split([' ', ':', ',']).nth(1).unwrap_or_default();
            if !given.contains(&format!("reason: {reason}\n")) {
                found.insert(reason.to_owned());
            }
        }
    }
    found
}
