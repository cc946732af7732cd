//! What the operator would do in one directory: its planner is asked again and again, over a cloud in
//! which everything that it asks for works at once.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use jiff::{SignedDuration, Timestamp};

use super::given::{Given, Object};
use super::imagined::{Answer, Contact, Imagined};
use crate::api::parse::{self, ContactProblem};
use crate::api::values::{Value, Values};
use crate::cli::cloud::Failure;
use crate::controller::{member_not_allowed, not_admitted, not_allowed};
use crate::domain::call::{Call, Reply};
use crate::domain::channel::{EmailAddress, PhoneNumber};
use crate::domain::contact::{
    ContactId, ContactName, DesiredContact, Difference, DirectoryId, Mode, ObservedContact,
    Recorded, Removal, Uid,
};
use crate::domain::directory::{DesiredDirectory, Management, NamespaceRule};
use crate::domain::ledger::Ledger;
use crate::domain::snapshot::{Sight, Snapshot};
use crate::domain::verdict::{Finding, Reason};
use crate::plan::coverage::Tree;
use crate::plan::hash::HashKey;
use crate::plan::policy::{self, Opinion, Place};
use crate::plan::render::{self, Line};
use crate::plan::{
    self, AddFate, Attempts, Connection, Definition, Desired, Holder, Input, Namesake, Plan,
    Setbacks, Step, View,
};

/// What a directory is and allows, as the plan takes it.
pub(super) struct Site<'a> {
    /// The name of the ResourceDirectory.
    pub(super) name: &'a str,
    /// What its spec asks for.
    pub(super) desired: &'a DesiredDirectory,
    /// Which directory answers.
    pub(super) id: &'a DirectoryId,
    /// Everything that was listed.
    pub(super) snapshot: &'a Snapshot,
    /// The time of the plan.
    pub(super) now: Timestamp,
    /// A contact in the cloud counts as ours only as far as `adoptionPolicy` allows it.
    pub(super) judge_adoption: bool,
    /// The operator's own namespace, if it is known.
    pub(super) own_namespace: Option<&'a str>,
    /// Its ResourceDirectory would be deleted.
    pub(super) removed: bool,
}

/// A call that would be made, fit to be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PlannedCall {
    pub(super) mark: char,
    pub(super) action: &'static str,
    pub(super) remark: Option<&'static str>,
    pub(super) lines: Vec<Line>,
}

/// What would become of one object.
pub(super) struct Outlook<'a> {
    pub(super) object: &'a Object,
    /// What is asked for; `None`: the object is removed, or nothing may be done for it.
    pub(super) wanted: Option<DesiredContact>,
    pub(super) calls: Vec<PlannedCall>,
    /// It takes over a contact that is in the cloud.
    pub(super) adopts: bool,
    /// Nothing is done in the cloud when it is removed.
    pub(super) retains: bool,
    /// The contact that it holds before anything is done.
    pub(super) held: Option<ContactId>,
    /// The contact that it holds in the end.
    pub(super) holds: Option<ContactId>,
    pub(super) synced: Finding,
    pub(super) bound: Option<Finding>,
    /// What differs and is left so.
    pub(super) drift: Vec<Difference>,
    pub(super) opinions: Vec<Opinion>,
    pub(super) unknown: Unknown,
}

/// Which values stand in Secrets that the manifests do not tell.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Unknown {
    pub(super) email: bool,
    pub(super) phone: bool,
}

/// What would become of a directory.
pub(super) struct Forecast<'a> {
    pub(super) outlooks: Vec<Outlook<'a>>,
    /// The contacts in the end.
    pub(super) after: Vec<Contact>,
}

/// Either the forecast, or what has to be asked first.
pub(super) enum Attempt<'a> {
    Made(Forecast<'a>),
    /// Which values of these contacts wait for confirmation.
    Asks(BTreeSet<ContactId>),
}

/// Most answers for one object in a row; more is a planner that goes round in circles.
const STEPS_MAX: usize = 100;

/// Between two calls of the forecast: enough to tell them apart, and too little for a message to be
/// due again.
const TICK: SignedDuration = SignedDuration::from_millis(1);

/// Tries what would become of the objects of a directory.
pub(super) fn attempt<'a>(site: &Site<'_>, given: &'a Given) -> Attempt<'a> {
    let mut world = World::new(site, given);
    loop {
        let mut moved = false;
        // Who goes sets names free.
        for removed in [true, false] {
            for index in 0..world.parties.len() {
                if world.parties[index].object.removed == removed {
                    moved |= world.advance(index);
                }
            }
        }
        if !moved {
            break;
        }
    }
    world.end()
}

/// What is wanted of an object.
enum Want {
    Present(DesiredContact),
    Absent(Removal),
    Blocked(Finding),
}

/// One object on its way.
struct Party<'a> {
    object: &'a Object,
    want: Want,
    opinions: Vec<Opinion>,
    unknown: Unknown,
    held: Option<ContactId>,
    recorded: Recorded,
    attempts: Attempts,
    add: AddFate,
    calls: Vec<PlannedCall>,
    adopts: bool,
    over: bool,
    plan: Option<Plan>,
}

struct World<'a, 's> {
    site: &'s Site<'s>,
    hash_key: HashKey,
    parties: Vec<Party<'a>>,
    snapshot: Snapshot,
    imagined: Imagined,
    ledger: Ledger,
    /// Who holds which contact.
    holders: HashMap<ContactId, usize>,
    /// Who wants which name, letter case aside.
    wanting: HashMap<String, Vec<usize>>,
    now: Timestamp,
    asks: BTreeSet<ContactId>,
}

impl<'a, 's> World<'a, 's> {
    fn new(site: &'s Site<'s>, given: &'a Given) -> Self {
        let mut world = Self {
            site,
            // Nothing is stored, and nobody sees a hash.
            hash_key: HashKey::new([0; HashKey::BYTES]),
            parties: Vec::new(),
            snapshot: site.snapshot.clone(),
            imagined: Imagined::of(site.snapshot),
            ledger: Ledger::default(),
            holders: HashMap::new(),
            wanting: HashMap::new(),
            now: site.now,
            asks: BTreeSet::new(),
        };
        for object in given.contacts.iter().filter(|object| object.directory() == site.name) {
            world.enter(object, given);
        }
        world
    }

    /// Takes an object in, with the contact in the cloud that is taken for its own.
    fn enter(&mut self, object: &'a Object, given: &Given) {
        let held = self.contact_of(object);
        let shown = held.as_ref().and_then(|id| self.imagined.contact(id));
        let shown = shown.map(|contact| contact.observed.clone());
        let Parsed { want, opinions, unknown } = parse(object, given, self.site, shown.as_ref());
        let index = self.parties.len();
        if let Want::Present(wanted) = &want {
            self.wanting.entry(wanted.name.folded()).or_default().push(index);
        }
        if let Some(id) = &held {
            self.holders.insert(id.clone(), index);
        }
        let recorded = Recorded {
            directory_id: held.as_ref().map(|_| self.site.id.clone()),
            contact_id: held.clone(),
            ..Recorded::default()
        };
        self.parties.push(Party {
            object,
            want,
            opinions,
            unknown,
            held,
            recorded,
            attempts: Attempts::default(),
            add: AddFate::NotMade,
            calls: Vec::new(),
            adopts: false,
            over: false,
            plan: None,
        });
    }

    /// The one contact of its name that nobody else has, under the name that the target branch has
    /// before that of this one.
    fn contact_of(&self, object: &Object) -> Option<ContactId> {
        if self.site.judge_adoption && object.before.is_none() {
            return None;
        }
        let before = object.before.as_ref().map(parse::wanted_name);
        let now = parse::wanted_name(&object.spec);
        before.into_iter().chain([now]).find_map(|name| {
            let exact = self.snapshot.namesakes(&name).filter(|entry| entry.contact.name == name);
            let mut free = exact.filter(|entry| !self.holders.contains_key(&entry.contact.id));
            match (free.next(), free.next()) {
                (Some(only), None) => Some(only.contact.id.clone()),
                _ => None,
            }
        })
    }

    /// Lets the operator work for an object until it has nothing more to do. Returns whether anything
    /// has changed.
    fn advance(&mut self, index: usize) -> bool {
        if self.parties[index].over {
            return false;
        }
        let mut moved = false;
        for _ in 0..STEPS_MAX {
            let plan = self.plan(index);
            let party = &mut self.parties[index];
            let is_news = party.recorded != plan.record;
            party.attempts = plan.attempts.clone();
            party.adopts |= plan.adopts;
            let step = plan.step.clone();
            let step = match step {
                None if is_news => {
                    // Only what is remembered changes, and everything is looked at anew.
                    self.record(index, plan.record.clone());
                    self.parties[index].plan = Some(plan);
                    continue;
                }
                Some(Step::ReleaseFinalizer) => {
                    party.over = true;
                    party.plan = Some(plan);
                    self.record(index, Recorded::default());
                    return true;
                }
                None | Some(Step::TakeFinalizer | Step::AskDefinition) => {
                    party.plan = Some(plan);
                    return moved;
                }
                Some(Step::Relist) => {
                    self.relist();
                    continue;
                }
                Some(Step::Call(call, _)) => call,
            };
            self.now = self.now.saturating_add(TICK).unwrap_or(Timestamp::MAX);
            let before = step.contact_id().and_then(|id| self.imagined.contact(id));
            let before = before.map(|contact| contact.observed.clone());
            let result = match self.imagined.answer(&step) {
                Answer::Told(result) => result,
                Answer::Unknown => {
                    let in_doubt = plan.verdict.synced.reason != Reason::InSync;
                    let asked = step.contact_id().filter(|_| in_doubt);
                    self.asks.extend(asked.cloned());
                    self.parties[index].plan = Some(plan);
                    return moved;
                }
            };
            moved |= !step.action().is_read();
            self.made(index, plan, &step, result, before.as_ref());
        }
        moved
    }

    /// Takes in how a call has ended.
    fn made(
        &mut self,
        index: usize,
        plan: Plan,
        call: &Call,
        result: Result<Reply, crate::domain::call::CallError>,
        before: Option<&ObservedContact>,
    ) {
        let now = self.now;
        self.snapshot.record(call, &result, now);
        let error = result.as_ref().err();
        if let Some(send) = &plan.send {
            self.ledger = self.ledger.with_send(&send.target, &send.contact, now);
        }
        let party = &mut self.parties[index];
        if call.members().is_some() {
            party.attempts = plan.attempts.after(call, error, now);
        }
        if matches!(call, Call::AddMessageContact(_)) {
            party.add = AddFate::Unanswered { since: now };
        }
        if !call.action().is_read() {
            party.calls.push(planned(call, before, party.unknown));
        }
        let record = plan::record_after(&party.recorded, plan.record.clone(), call, error, now);
        party.plan = Some(plan);
        self.record(index, record);
    }

    /// What an object remembers from now on.
    fn record(&mut self, index: usize, next: Recorded) {
        let party = &mut self.parties[index];
        if party.recorded.contact_id != next.contact_id {
            if let Some(id) = &party.recorded.contact_id {
                self.holders.remove(id);
            }
            if let Some(id) = &next.contact_id {
                self.holders.insert(id.clone(), index);
            }
        }
        if next.creation.is_none() {
            party.add = AddFate::NotMade;
        }
        party.recorded = next;
    }

    fn relist(&mut self) {
        self.now = self.now.saturating_add(TICK).unwrap_or(Timestamp::MAX);
        self.snapshot.begin_list(self.now);
        let call = Call::ListMessageContacts { page: 1 };
        if let Answer::Told(result) = self.imagined.answer(&call) {
            self.snapshot.record(&call, &result, self.now);
        }
    }

    fn plan(&self, index: usize) -> Plan {
        let party = &self.parties[index];
        let desired = match &party.want {
            Want::Present(wanted) => Desired::Present(wanted),
            Want::Absent(removal) => Desired::Absent { removal: *removal, since: self.site.now },
            Want::Blocked(finding) => Desired::Blocked(finding.clone()),
        };
        let recorded = &party.recorded;
        let name = plan::name_in_question(recorded, &desired).cloned();
        let view = View {
            directory_id: self.site.id,
            own: recorded.contact_id.as_ref().map(|id| self.snapshot.sight(id)),
            namesakes: name.as_ref().map(|name| self.namesakes(recorded, name)).unwrap_or_default(),
            rival: name.as_ref().is_some_and(|name| self.has_rival(index, name)),
            lists: self.snapshot.lists(),
            add: party.add,
            outranked: false,
            allowed_members: self.site.desired.allowed_members.as_ref(),
            ledger: &self.ledger,
        };
        let key = &party.object.key;
        let input = Input {
            uid: &Uid(format!("{}/{}", key.namespace, key.name)),
            generation: 1,
            settled_generation: -1,
            finalizer: true,
            desired,
            management: self.site.desired.management,
            definition: Definition::Stands { at: self.now },
            recorded,
            connection: Connection::Open(view),
            setbacks: &Setbacks::default(),
            unsent: &[],
            attempts: &party.attempts,
            hash_key: &self.hash_key,
        };
        policy::beside(plan::plan(&input, self.now), &party.opinions)
    }

    /// The other contacts of that name, and who holds them.
    fn namesakes(&self, recorded: &Recorded, name: &ContactName) -> Vec<Namesake> {
        let others = self.snapshot.namesakes(name);
        let others = others.filter(|entry| recorded.contact_id.as_ref() != Some(&entry.contact.id));
        let namesake = |entry: &crate::domain::snapshot::Entry| {
            let holder = match self.holders.get(&entry.contact.id) {
                None => Holder::Nobody,
                Some(holder) => Holder::Other { deleting: self.parties[*holder].object.removed },
            };
            Namesake { exact: entry.contact.name == *name, entry: entry.clone(), holder }
        };
        others.map(namesake).collect()
    }

    /// Whether another object that holds no contact, and may create one, comes before this one.
    fn has_rival(&self, index: usize, name: &ContactName) -> bool {
        let wanting = self.wanting.get(&name.folded());
        wanting.into_iter().flatten().any(|other| {
            let party = &self.parties[*other];
            let may_act = self.site.desired.management != Management::ReportOnly
                && matches!(&party.want, Want::Present(wanted) if wanted.mode == Mode::Enforce);
            *other < index && party.recorded.contact_id.is_none() && may_act
        })
    }

    fn end(self) -> Attempt<'a> {
        let Self { parties, imagined, asks, .. } = self;
        if !asks.is_empty() {
            return Attempt::Asks(asks);
        }
        let outlooks = parties.into_iter().map(Party::end).collect();
        Attempt::Made(Forecast { outlooks, after: imagined.contacts().cloned().collect() })
    }
}

impl<'a> Party<'a> {
    fn end(self) -> Outlook<'a> {
        let Self { object, want, opinions, unknown, .. } = self;
        let plan = self.plan.as_ref();
        let deletes = self.calls.iter().any(|call| call.action == "DeleteMessageContact");
        Outlook {
            object,
            retains: object.removed && self.over && !deletes && self.held.is_some(),
            wanted: match want {
                Want::Present(wanted) => Some(wanted),
                Want::Absent(_) | Want::Blocked(_) => None,
            },
            calls: self.calls,
            adopts: self.adopts,
            held: self.held,
            holds: self.recorded.contact_id,
            synced: plan.map_or_else(unfinished, |plan| plan.verdict.synced.clone()),
            bound: plan.and_then(|plan| plan.verdict.bound.clone()),
            drift: plan.map(|plan| plan.drift.clone()).unwrap_or_default(),
            opinions,
            unknown,
        }
    }
}

/// What becomes of the objects of a directory that is not listed, for this reason.
pub(super) fn closed<'a>(directory: &str, given: &'a Given, why: &Finding) -> Forecast<'a> {
    let objects = given.contacts.iter().filter(|object| object.directory() == directory);
    let outlooks = objects.map(|object| Outlook {
        object,
        wanted: None,
        calls: Vec::new(),
        adopts: false,
        retains: false,
        held: None,
        holds: None,
        synced: why.clone(),
        bound: None,
        drift: Vec::new(),
        opinions: Vec::new(),
        unknown: Unknown::default(),
    });
    Forecast { outlooks: outlooks.collect(), after: Vec::new() }
}

fn unfinished() -> Finding {
    Finding::unknown(Reason::Pending, "it could not be told what becomes of it")
}

/// What an object asks for, and what is known of it.
struct Parsed {
    want: Want,
    opinions: Vec<Opinion>,
    unknown: Unknown,
}

/// What is printed in place of a value that stands in a Secret and is not known.
pub(super) const UNKNOWN: &str = "unknown";

/// What an object asks for. `shown` is its contact in the cloud: a value that is not known counts as
/// unchanged there.
fn parse(
    object: &Object,
    given: &Given,
    site: &Site<'_>,
    shown: Option<&ObservedContact>,
) -> Parsed {
    let want = |want: Want| Parsed { want, opinions: Vec::new(), unknown: Unknown::default() };
    if object.removed {
        return want(Want::Absent(parse::removal(&object.spec)));
    }
    let known = given.values(object);
    let labels = given.labels(&object.key.namespace);
    let place = Place { directory: site.name, namespace_labels: &labels };
    let opinions = parse::candidate(&object.spec, &known)
        .map(|candidate| policy::judge(&given.policies, &candidate, place))
        .unwrap_or_default();
    let unknown = Unknown {
        email: object.spec.email_address_from.is_some() && known.email == Value::Unread,
        phone: object.spec.phone_number_from.is_some() && known.phone == Value::Unread,
    };
    let parsed = parse::contact(&object.spec, &filled(known, shown));
    let parsed = parsed.map(|wanted| site.desired.capped(wanted));
    let want = decide(object, given, site, parsed, &opinions);
    Parsed { want, opinions, unknown }
}

/// What is wanted of an object, or why nothing may be done for it: as `controller::gather` has it.
fn decide(
    object: &Object,
    given: &Given,
    site: &Site<'_>,
    parsed: Result<DesiredContact, ContactProblem>,
    opinions: &[Opinion],
) -> Want {
    let blocked = |reason: Reason, problem: &dyn ToString| {
        Want::Blocked(Finding::unmet(reason, problem.to_string()))
    };
    if object.spec.suspend == Some(true) {
        return Want::Blocked(plan::suspended());
    }
    if site.removed {
        return Want::Blocked(removed_directory(site.name));
    }
    if let Err(ContactProblem::Invalid(problem)) = &parsed {
        return blocked(Reason::InvalidContact, problem);
    }
    if admits(object, given, site) == Some(false) {
        return Want::Blocked(not_admitted(site.name, site.own_namespace.unwrap_or_default()));
    }
    let wanted = match parsed {
        Ok(wanted) => wanted,
        Err(problem) => return blocked(Reason::SecretNotFound, &problem),
    };
    // Also under `management: ReportOnly`, where the operator shows what differs: the apiserver looks
    // at the contact alone, and refuses it before.
    match (not_allowed(site.desired, &wanted), policy::denial(opinions)) {
        (Some(ids), _) => Want::Blocked(member_not_allowed(site.name, &ids)),
        (None, Some(denial)) => Want::Blocked(denial),
        (None, None) => Want::Present(wanted),
    }
}

/// What is said of a contact that stays while its ResourceDirectory goes: that waits for those that it
/// knows, lets them be deleted, and does nothing else for anybody.
fn removed_directory(name: &str) -> Finding {
    let message = format!(
        "the ResourceDirectory `{name}` is removed, and nothing is done for a contact that still names \
         it; keep it, or take the contact out as well"
    );
    Finding::unmet(Reason::DirectoryNotFound, message)
}

/// Whether the directory admits the namespace of an object; `None`: that is not known.
pub(super) fn admits(object: &Object, given: &Given, site: &Site<'_>) -> Option<bool> {
    let namespace = &object.key.namespace;
    match &site.desired.namespaces {
        NamespaceRule::OwnOnly => site.own_namespace.map(|own| own == namespace),
        NamespaceRule::Selector(selector) => {
            let matches = selector.matches(&given.labels(namespace));
            (matches || given.knows_namespace(namespace)).then_some(matches)
        }
    }
}

/// The values, with something in the place of those that are not known.
fn filled(known: Values, shown: Option<&ObservedContact>) -> Values {
    let email = match known.email {
        Value::Unread => {
            let shown = shown.and_then(|shown| shown.email.clone());
            Value::Known(shown.unwrap_or_else(|| EmailAddress::observed(UNKNOWN.to_owned())))
        }
        known => known,
    };
    let phone = match known.phone {
        Value::Unread => {
            let shown = shown.and_then(|shown| shown.phone.clone());
            Value::Known(shown.unwrap_or_else(|| PhoneNumber::observed(UNKNOWN.to_owned())))
        }
        known => known,
    };
    Values { email, phone }
}

/// A call as it is shown.
fn planned(call: &Call, before: Option<&ObservedContact>, unknown: Unknown) -> PlannedCall {
    let is_unknown = |field: &str| match (field, call) {
        ("emailAddress", _) | ("to", Call::SendEmailVerificationForMessageContact(..)) => {
            unknown.email
        }
        ("phoneNumber", _) | ("to", Call::SendPhoneVerificationForMessageContact(..)) => {
            unknown.phone
        }
        _ => false,
    };
    let mut lines = render::lines(call, before);
    for line in lines.iter_mut().filter(|line| is_unknown(line.field)) {
        UNKNOWN.clone_into(&mut line.after);
    }
    PlannedCall {
        mark: render::mark(call),
        action: call.action().as_str(),
        remark: render::remark(call),
        lines,
    }
}

/// Where the accounts of a directory stand, or why that is not known; `None`: nobody asks.
pub(super) type Accounts = Option<Result<Tree, Failure>>;

/// Contacts by their ids, for looking them up.
pub(super) fn by_id(contacts: &[Contact]) -> BTreeMap<&ContactId, &Contact> {
    contacts.iter().map(|contact| (&contact.observed.id, contact)).collect()
}

/// A contact as it is before anything is done.
pub(super) fn shown_at_first(snapshot: &Snapshot, id: &ContactId) -> Option<Contact> {
    match snapshot.sight(id) {
        Sight::Known(entry) => Some(Contact {
            observed: entry.contact.as_ref().clone(),
            waiting: entry.pending.map(|pending| pending.targets),
        }),
        Sight::Unlisted | Sight::Gone { .. } => None,
    }
}
