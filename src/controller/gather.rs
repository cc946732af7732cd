//! All reads: what one pass over an object is made from.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::AtomicBool;
use std::sync::{
    Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::core::PartialObjectMeta;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Api, Client, CustomResourceExt, ResourceExt};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use super::claims::{Claim, Claims, Contact};
use super::ledgers::Ledgers;
use super::measured::Awaited;
use super::open_reports::OpenReports;
use super::policies::Policies;
use super::report::{Interrupted, within};
use super::scope::Scope;
use super::secrets::{Places, Secrets, Wish};
use super::standings::Standings;
use super::triggers::Waker;
use crate::api::parse::ContactProblem;
use crate::api::values::Values;
use crate::api::{self, ContactPolicy, MessageContact, ResourceDirectory, parse};
use crate::clock::Clock;
use crate::directory::{self, Ambient, Directory, Registry, Roots};
use crate::domain::contact::{
    ContactName, DesiredContact, DirectoryId, MemberId, Mode, ObservedContact, Recorded, Uid,
};
use crate::domain::directory::{DesiredDirectory, Management, NamespaceRule};
use crate::domain::snapshot::{Sight, Snapshot};
use crate::domain::verdict::{Finding, Reason};
use crate::lease::Leadership;
use crate::plan::hash::HashKey;
use crate::plan::policy::{self, Opinion, Place};
use crate::plan::{
    self, AddFate, Attempts, Connection, Definition, Desired, Holder, Input, Namesake, Plan,
    Setbacks, Unsent, View,
};
use crate::telemetry::Metrics;

/// Everything that the controllers share.
pub struct World {
    /// The cluster.
    pub client: Client,
    /// What time it is.
    pub clock: Clock,
    /// What the operator was started with.
    pub environment: Environment,
    /// Whether something may begin that others see.
    pub(super) leadership: Leadership,
    /// Set before the first pass.
    pub(super) term: OnceLock<Term>,
    /// The directories that are connected.
    pub registry: Registry,
    /// No pass begins anything any more.
    pub(super) stopping: AtomicBool,
    /// How many requests that change something in the cluster are made at once.
    pub(super) cluster_writes: Semaphore,
    pub(super) creates: Mutex<HashMap<String, Arc<Semaphore>>>,
    /// What was told of the definition of contacts last, for all that wait.
    pub(super) definition: tokio::sync::Mutex<Definition>,
    pub(super) contacts: Store<MessageContact>,
    pub(super) directories: Store<ResourceDirectory>,
    pub(super) namespaces: Store<PartialObjectMeta<Namespace>>,
    pub(super) claims: RwLock<Claims>,
    pub(super) memory: Mutex<HashMap<Uid, Memory>>,
    pub(super) secrets: Secrets,
    pub(super) policies: Policies,
    pub(super) policy_objects: Store<ContactPolicy>,
    pub(super) standings: Standings,
    pub(super) open_reports: OpenReports,
    pub(super) policy_waker: Waker<ContactPolicy>,
    pub(super) contact_waker: Waker<MessageContact>,
    pub(super) directory_waker: Waker<ResourceDirectory>,
}

/// The time in which this process acts: from its start, or from when it has won the lease, to its
/// end. Before, it only follows what happens in the cluster.
pub(super) struct Term {
    /// When it began.
    pub(super) began_at: Timestamp,
    /// The key of the hashes in status, as it was read then.
    pub(super) hash_key: HashKey,
    /// The messages of each directory.
    pub(super) ledgers: Ledgers,
}

impl Term {
    pub(super) fn new(hash_key: HashKey, began_at: Timestamp) -> Self {
        Self { began_at, ledgers: Ledgers::new(&hash_key), hash_key }
    }
}

/// What the operator was started with.
#[derive(Debug, Clone)]
pub struct Environment {
    /// The namespace of the operator itself.
    pub namespace: String,
    /// The namespaces whose objects it sees.
    pub scope: Scope,
    /// Endpoints that may be used beside the built-in ones, each an exact origin.
    pub allow_list: Vec<String>,
    /// What it says about access keys.
    pub keys: Ambient,
    /// Whose certificates are trusted.
    pub roots: Roots,
    /// Where it is counted what happens.
    pub metrics: Metrics,
}

impl Environment {
    /// Reads keys as the vendor's tools do, and where certificates are as OpenSSL does. All namespaces
    /// are seen.
    #[must_use]
    pub fn new(
        namespace: String,
        allow_list: Vec<String>,
        lookup: impl Fn(&str) -> Option<String>,
    ) -> Self {
        let roots = Roots::from_environment(&lookup);
        let keys = Ambient::read(lookup, &allow_list);
        let metrics = Metrics::default();
        Self { namespace, scope: Scope::All, allow_list, keys, roots, metrics }
    }
}

/// What this process knows of an object beside the cluster and the cloud. A restart forgets it,
/// and nothing goes wrong.
#[derive(Debug, Clone, Default)]
pub(super) struct Memory {
    /// Our last write, until the watch has brought it back.
    pub(super) written: Option<Arc<MessageContact>>,
    /// What is known of the Add under the intent of that hash and time.
    pub(super) add: Option<(String, Timestamp, AddFate)>,
    /// Messages that were written down in the status and are still to be sent, one a channel.
    pub(super) unsent: Vec<Unsent>,
    /// The last calls for the object that failed; those for bindings aside.
    pub(super) setbacks: Setbacks,
    /// What is known of the calls for its bindings.
    pub(super) attempts: Attempts,
    /// What the apiserver told of our definition when the contact was to be deleted in the cloud.
    pub(super) definition: Definition,
    /// Told when the object changes while its pass waits for something else.
    pub(super) waiting: Option<Arc<Notify>>,
    /// How many passes in a row the apiserver has interrupted.
    pub(super) interruptions: u32,
    /// The spec that the cloud does not have yet, and since when.
    pub(super) awaited: Option<Awaited>,
}

impl Memory {
    /// What failed before may be tried again at once.
    pub(super) fn forget_failures(&mut self) {
        self.setbacks = Setbacks::default();
        self.attempts = Attempts::default();
        if matches!(self.definition, Definition::Unreadable { .. }) {
            self.definition = Definition::Unasked;
        }
    }
}

/// How many intents to create may be open in one directory at once: enough for the next one to be
/// written while a call is in flight, and few enough that none is old when its Add goes out.
const CREATES_MAX: usize = 4;

/// How many requests that change something are made to the apiserver at once.
pub(super) const CLUSTER_WRITES_MAX: usize = 16;

/// So long after a start at most, what was said before it is left standing while a directory is being
/// connected. A directory that is throttled, or never answers, says so then.
pub(super) const SETTLES_FOR: SignedDuration = SignedDuration::from_secs(60);

/// How long objects that wait share one answer about the definition.
const DEFINITION_KNOWN_FOR: SignedDuration = SignedDuration::from_secs(10);

/// What a pass decided, and from what.
pub(super) struct Judgement {
    pub(super) object: Arc<MessageContact>,
    pub(super) uid: Uid,
    /// What the stored status says; the plan may want it to say something else.
    pub(super) stored: Recorded,
    /// What the plan was made from: the stored status, and what this pass has done since.
    pub(super) recorded: Recorded,
    pub(super) directory_name: String,
    pub(super) directory: Option<Directory>,
    /// Nothing may be done for the object: it is not valid, not admitted, or suspended.
    pub(super) blocked: bool,
    /// Until when what was said before a restart stands, while the directory is being connected again.
    pub(super) settling: Option<Timestamp>,
    /// A value from a Secret is being read; nothing can be said before.
    pub(super) unread: bool,
    /// The contact that the plan's record holds, as the cloud shows it.
    pub(super) observed: Option<Arc<ObservedContact>>,
    pub(super) plan: Plan,
}

impl World {
    /// The term that this process is in. Only passes ask for it, and they begin with it.
    pub(super) fn term(&self) -> &Term {
        self.term.get().expect("the term begins before the first pass")
    }

    pub(super) fn claims(&self) -> RwLockReadGuard<'_, Claims> {
        self.claims.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn claims_mut(&self) -> RwLockWriteGuard<'_, Claims> {
        self.claims.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn memory(&self) -> MutexGuard<'_, HashMap<Uid, Memory>> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What this process remembers of an object.
    pub(super) fn remembered(&self, uid: &Uid) -> Memory {
        self.memory().get(uid).cloned().unwrap_or_default()
    }

    /// Changes what this process remembers of an object.
    pub(super) fn remember(&self, uid: &Uid, change: impl FnOnce(&mut Memory)) {
        change(self.memory().entry(uid.clone()).or_default());
        // A call may end after its object is gone: nothing would forget it a second time.
        if !self.claims().knows(uid) {
            self.memory().remove(uid);
        }
    }

    /// Takes the newest known version of an object into the index. Returns who may be concerned.
    /// The index is locked before the version is looked up: whoever comes last knows the newest,
    /// and an object that has left the store does not come back.
    pub(super) fn index(&self, key: &Contact) -> Vec<Contact> {
        let mut claims = self.claims_mut();
        let Some(object) = self.object(key) else { return Vec::new() };
        let (uid, claim) = (uid_of(&object), claim_of(&object));
        if claims.has_other_spec(&uid, &claim) {
            self.nudge(&uid);
        }
        let mut concerned = claims.set(&uid, claim);
        concerned.extend(claims.unreserve_before(&uid, version(&object)));
        concerned
    }

    /// Forgets an object that has left the store. Returns who may be concerned.
    pub(super) fn forget(&self, uid: &Uid) -> Vec<Contact> {
        let concerned = self.claims_mut().remove(uid);
        self.nudge(uid);
        self.memory().remove(uid);
        self.secrets.forget(uid);
        concerned
    }

    /// Tells a pass that waits when somebody edits or deletes its object.
    pub(super) fn told_of_changes(&self, uid: &Uid) -> Arc<Notify> {
        let changed = Arc::new(Notify::new());
        let waiting = Some(Arc::clone(&changed));
        self.remember(uid, |memory| memory.waiting = waiting);
        changed
    }

    /// Whether an object takes values from Secrets that are read for it.
    pub(super) fn needs_values(&self, object: &MessageContact) -> bool {
        let namespace = object.namespace().unwrap_or_default();
        let directory = self.directory_of(object);
        matches!(&directory, Some(Ok(spec)) if self.admits(spec, &namespace))
            && object.metadata.deletion_timestamp.is_none()
            && object.spec.suspend != Some(true)
            && parse::contact(&object.spec, &Values::default()) == Err(ContactProblem::Unread)
    }

    /// Notes which Secrets an object takes values from, so that they are read; the object is woken
    /// when they are. `asked` is a text that asks for a reconcile, if it is a new one.
    ///
    /// Nothing is read for an object that would not be followed anyhow: a Secret of a namespace that
    /// no directory admits is nobody's business.
    pub(super) fn declare_values(
        &self,
        key: &Contact,
        object: &MessageContact,
        asked: Option<&str>,
    ) {
        let uid = uid_of(object);
        if !self.needs_values(object) {
            return self.secrets.forget(&uid);
        }
        let namespace = object.namespace().unwrap_or_default();
        let generation = object.metadata.generation;
        let settled = object.status.as_ref().map(parse::settled_generation);
        let wish = Wish {
            object: key.clone(),
            places: Places::of(&namespace, &object.spec),
            generation,
            asked: asked.map(str::to_owned),
            awaited: asked.is_some() || settled != generation,
        };
        self.secrets.declare(&uid, wish, self.clock.now());
        // A pass may come to its end after its object.
        if !self.claims().knows(&uid) {
            self.secrets.forget(&uid);
        }
    }

    /// What is known of the values that an object takes from Secrets.
    pub(super) fn values(&self, object: &MessageContact, uid: &Uid) -> Values {
        let namespace = object.namespace().unwrap_or_default();
        self.secrets.values(uid, &Places::of(&namespace, &object.spec))
    }

    /// A value from a Secret is another one: what failed with the old one does not count.
    pub(super) fn values_changed(&self, uid: &Uid) {
        self.remember_if_known(uid, |memory| memory.setbacks.settle());
        self.nudge(uid);
    }

    /// A pass that waits looks again.
    fn nudge(&self, uid: &Uid) {
        if let Some(waiting) = self.memory().get(uid).and_then(|memory| memory.waiting.as_ref()) {
            waiting.notify_one();
        }
    }

    /// The object as it was last stored: what the watch brought, or our own newer write.
    pub(super) fn object(&self, key: &Contact) -> Option<Arc<MessageContact>> {
        let watched = self.contacts.get(key)?;
        let uid = uid_of(&watched);
        let mut memory = self.memory();
        let Some(remembered) = memory.get_mut(&uid) else { return Some(watched) };
        match &remembered.written {
            Some(written) if version(written) > version(&watched) => Some(Arc::clone(written)),
            Some(_) => {
                remembered.written = None;
                Some(watched)
            }
            None => Some(watched),
        }
    }

    /// As [`Self::remember`], for what is nothing worth to an object that nothing is known of, as
    /// one that is gone.
    pub(super) fn remember_if_known(&self, uid: &Uid, change: impl FnOnce(&mut Memory)) {
        if let Some(memory) = self.memory().get_mut(uid) {
            change(memory);
        }
    }

    /// Forgets what failed before for these objects: the directory answers again.
    pub(super) fn forget_setbacks(&self, objects: &[Contact]) {
        let uids = objects.iter().filter_map(|key| Some(uid_of(self.contacts.get(key)?.as_ref())));
        for uid in uids.collect::<Vec<_>>() {
            self.remember_if_known(&uid, Memory::forget_failures);
        }
    }

    /// Waits until another intent to create may be open in a directory.
    pub(super) async fn may_create(&self, directory: &str) -> OwnedSemaphorePermit {
        let slots = {
            let mut creates = self.creates.lock().unwrap_or_else(PoisonError::into_inner);
            let slots = creates.entry(directory.to_owned());
            Arc::clone(slots.or_insert_with(|| Arc::new(Semaphore::new(CREATES_MAX))))
        };
        slots.acquire_owned().await.expect("the semaphore is never closed")
    }

    /// Whether the definition of that kind stands. If it is being deleted, somebody takes the
    /// operator out, and the contacts in the cloud MUST stay. Asked before each deletion in the
    /// cloud.
    ///
    /// # Errors
    /// The apiserver did not tell: nothing may be deleted then.
    pub(super) async fn definition<K: CustomResourceExt>(&self) -> Result<Definition, Interrupted> {
        let api: Api<CustomResourceDefinition> = Api::all(self.client.clone());
        match within(api.get_metadata_opt(K::crd_name())).await {
            Ok(Some(found)) if found.metadata.deletion_timestamp.is_none() => {
                Ok(Definition::Stands { at: self.clock.now() })
            }
            Ok(_) => Ok(Definition::BeingDeleted),
            Err(Interrupted::Refused(kube::Error::Api(refusal))) if refusal.code == 403 => {
                Ok(Definition::Unreadable { at: self.clock.now() })
            }
            Err(error) => Err(error),
        }
    }

    /// As [`Self::definition`] of contacts, for an object that only waits: an answer that another
    /// one got a moment ago will do.
    pub(super) async fn definition_lately(&self) -> Result<Definition, Interrupted> {
        let mut known = self.definition.lock().await;
        let now = self.clock.now();
        let is_new = |at: Timestamp| at <= now && now.duration_since(at) < DEFINITION_KNOWN_FOR;
        match *known {
            Definition::Stands { at } | Definition::Unreadable { at } if is_new(at) => {}
            _ => *known = self.definition::<MessageContact>().await?,
        }
        Ok(*known)
    }

    /// Until when what was said of a directory and its contacts before a restart still stands: it
    /// answered then, as this spec has it, it is only now being connected again, and nothing has gone
    /// wrong with it yet. `None`: what is known now is to be said.
    pub(super) fn settles_until(
        &self,
        object: Option<&ResourceDirectory>,
        runtime: Option<&Directory>,
        now: Timestamp,
    ) -> Option<Timestamp> {
        let object = object?;
        let until =
            self.term().began_at.saturating_add(SETTLES_FOR).ok().filter(|until| now < *until)?;
        let mut conditions = object.status.iter().flat_map(|status| &status.conditions);
        let answered = conditions.any(|known| {
            known.type_ == "Ready"
                && known.status == "True"
                && known.observed_generation == object.metadata.generation
        });
        let connects = runtime.map(Directory::health).is_none_or(|health| {
            health.connection == directory::Connection::Connecting && !health.connected_once
        });
        (answered && connects).then_some(until)
    }

    /// The runtime of a directory, if its object asks for one.
    pub(super) fn directory(&self, name: &str) -> Option<Directory> {
        self.registry.get(name)
    }

    /// Gathers, parses and plans for one object. `carried` is what the status is to remember
    /// beyond what is stored, after a step of this pass. `None`: the object is gone.
    ///
    /// Reads memory only and never blocks: the lane asks it once more right before a call.
    pub(super) fn judge(
        &self,
        key: &Contact,
        carried: Option<&Recorded>,
        snapshot: Option<&Snapshot>,
        now: Timestamp,
    ) -> Option<Judgement> {
        let object = self.object(key)?;
        let uid = uid_of(&object);
        let status = object.status.clone().unwrap_or_default();
        let stored = parse::recorded(&status);
        let mut recorded = carried.cloned().unwrap_or_else(|| stored.clone());
        let places = Places::of(&object.namespace().unwrap_or_default(), &object.spec);
        if places != Places::default() {
            // It names the generation that was refused, and the Secret may have changed since. What
            // this process has tried itself stands as a setback.
            recorded.last_error = None;
        }
        let directory_name = parse::directory_name(&object.spec).to_owned();
        let directory_object = self.directories.get(&ObjectRef::new(&directory_name));
        let directory_spec = directory_object
            .as_ref()
            .map(|object| parse::directory(&object.spec, &self.environment.allow_list));
        let memory = self.remembered(&uid);

        let values = self.secrets.values(&uid, &places);
        let said = self.opinions(&object, &values);
        let wanted = parse::contact(&object.spec, &values);
        let wanted = wanted.map(|wanted| match &directory_spec {
            Some(Ok(directory)) => directory.capped(wanted),
            Some(Err(_)) | None => wanted,
        });
        let admitting = directory_spec.as_ref().and_then(|spec| spec.as_ref().ok());
        let desired = self.desired(&object, wanted.as_ref(), &directory_name, admitting, &said);
        let mut unread = desired.is_none();
        let mut desired = desired.unwrap_or_else(|| Desired::Blocked(being_read()));
        let blocked = matches!(desired, Desired::Blocked(_));
        // Without a spec that can be followed nothing is done in it either way.
        let management = admitting.map_or(Management::Full, |spec| spec.management);
        let name = plan::name_in_question(&recorded, &desired).cloned();
        let runtime = self.directory(&directory_name);
        let mut settling = None;
        let identity = snapshot.and_then(Snapshot::identity);
        let ledger = identity
            .map(|identity| self.term().ledgers.of(&identity.directory_id))
            .unwrap_or_default();
        let question = Question {
            name: &directory_name,
            spec: directory_spec.as_ref(),
            leaves: directory_object
                .as_ref()
                .is_some_and(|object| object.metadata.deletion_timestamp.is_some()),
            to_delete: matches!(desired, Desired::Absent { .. }),
            recorded: &recorded,
        };
        let connection = match question.answer(snapshot) {
            Err(Closed::Refused(finding)) => Connection::Closed(finding),
            Err(Closed::Unlisted(finding)) => {
                let object = directory_object.as_deref();
                settling = self.settles_until(object, runtime.as_ref(), now);
                Connection::Closed(finding)
            }
            Ok((directory_id, snapshot)) => Connection::Open(View {
                directory_id,
                own: recorded.contact_id.as_ref().map(|id| snapshot.sight(id)),
                namesakes: self.namesakes(&uid, &recorded, name.as_ref(), directory_id, snapshot),
                rival: name.as_ref().is_some_and(|it| self.has_rival(&object, &uid, &recorded, it)),
                lists: snapshot.lists(),
                outranked: self.is_outranked(&object, &uid, &recorded),
                add: add_fate(&recorded, &memory, self.term().began_at, now),
                allowed_members: admitting.and_then(|spec| spec.allowed_members.as_ref()),
                ledger: &ledger,
            }),
        };
        if let (true, Connection::Closed(finding)) = (unread, &connection) {
            // Whatever the value is.
            (unread, desired) = (false, Desired::Blocked(finding.clone()));
        }
        let input = Input {
            uid: &uid,
            generation: object.metadata.generation.unwrap_or(0),
            settled_generation: parse::settled_generation(&status),
            finalizer: has_finalizer(&object),
            desired,
            management,
            definition: memory.definition,
            recorded: &recorded,
            connection,
            setbacks: &memory.setbacks,
            unsent: &memory.unsent,
            attempts: &memory.attempts,
            hash_key: &self.term().hash_key,
        };
        let plan = policy::beside(plan::plan(&input, now), &said);
        let observed = plan.record.contact_id.as_ref().and_then(|id| match snapshot?.sight(id) {
            Sight::Known(entry) => Some(entry.contact),
            Sight::Unlisted | Sight::Gone { .. } => None,
        });
        Some(Judgement {
            stored,
            recorded,
            directory: runtime,
            directory_name,
            blocked,
            settling,
            unread,
            observed,
            plan,
            uid,
            object,
        })
    }

    /// What is wanted of an object, or why nothing may be done for it. `None` while a value from a
    /// Secret is not known.
    fn desired<'a>(
        &self,
        object: &MessageContact,
        wanted: Result<&'a DesiredContact, &ContactProblem>,
        directory: &str,
        spec: Option<&DesiredDirectory>,
        opinions: &[Opinion],
    ) -> Option<Desired<'a>> {
        if let Some(since) = &object.metadata.deletion_timestamp {
            let removal = parse::removal(&object.spec);
            return Some(Desired::Absent { removal, since: since.0 });
        }
        let blocked = |finding| Some(Desired::Blocked(finding));
        if object.spec.suspend == Some(true) {
            return blocked(plan::suspended());
        }
        let wanted = match wanted {
            Ok(wanted) => Ok(wanted),
            Err(ContactProblem::Invalid(problem)) => {
                return blocked(Finding::unmet(Reason::InvalidContact, problem.to_string()));
            }
            Err(ContactProblem::SecretNotFound(problem)) => Err(Some(problem)),
            Err(ContactProblem::Unread) => Err(None),
        };
        let namespace = object.namespace().unwrap_or_default();
        if spec.is_some_and(|spec| !self.admits(spec, &namespace)) {
            return blocked(not_admitted(directory, &self.environment.namespace));
        }
        // Where nothing is written anyhow, people want to see what differs.
        let writes = spec.is_none_or(|spec| spec.management != Management::ReportOnly);
        match wanted {
            Ok(wanted) => match spec.and_then(|spec| not_allowed(spec, wanted)) {
                Some(ids) => blocked(member_not_allowed(directory, &ids)),
                None => match policy::denial(opinions).filter(|_| writes) {
                    Some(finding) => blocked(finding),
                    None => Some(Desired::Present(wanted)),
                },
            },
            Err(problem) => {
                let finding = Finding::unmet(Reason::SecretNotFound, problem?.to_string());
                blocked(finding)
            }
        }
    }

    /// What the policies that match say of an object. Of one that is being deleted they say nothing,
    /// nor of one whose spec is not acceptable.
    fn opinions(&self, object: &MessageContact, values: &Values) -> Vec<Opinion> {
        let policies = self.policies.all();
        if policies.is_empty() || object.metadata.deletion_timestamp.is_some() {
            return Vec::new();
        }
        let Ok(candidate) = parse::candidate(&object.spec, values) else { return Vec::new() };
        let labels = self.namespace_labels(&object.namespace().unwrap_or_default());
        let place =
            Place { directory: parse::directory_name(&object.spec), namespace_labels: &labels };
        policy::judge(policies.values().map(AsRef::as_ref), &candidate, place)
    }

    /// The labels of a namespace; none as long as it was not seen: nothing is done in it then.
    pub(super) fn namespace_labels(&self, namespace: &str) -> BTreeMap<String, String> {
        let found = self.namespaces.get(&ObjectRef::new(namespace));
        found.map(|found| found.labels().clone()).unwrap_or_default()
    }

    /// What the spec of the object's directory asks for, if the directory is there.
    fn directory_of(
        &self,
        object: &MessageContact,
    ) -> Option<Result<DesiredDirectory, parse::DirectoryProblem>> {
        let name = parse::directory_name(&object.spec);
        let directory = self.directories.get(&ObjectRef::new(name))?;
        Some(parse::directory(&directory.spec, &self.environment.allow_list))
    }

    /// Whether contacts of the directory may live in that namespace.
    fn admits(&self, directory: &DesiredDirectory, namespace: &str) -> bool {
        match &directory.namespaces {
            NamespaceRule::OwnOnly => namespace == self.environment.namespace,
            NamespaceRule::Selector(selector) => {
                let found = self.namespaces.get(&ObjectRef::new(namespace));
                found.is_some_and(|found| selector.matches(found.labels()))
            }
        }
    }

    /// The other contacts of that name, and who holds them.
    fn namesakes(
        &self,
        uid: &Uid,
        recorded: &Recorded,
        name: Option<&ContactName>,
        directory_id: &DirectoryId,
        snapshot: &Snapshot,
    ) -> Vec<Namesake> {
        let Some(name) = name else { return Vec::new() };
        let claims = self.claims();
        let others = snapshot
            .namesakes(name)
            .filter(|entry| recorded.contact_id.as_ref() != Some(&entry.contact.id));
        others
            .map(|entry| {
                let holders = claims.holders(directory_id, &entry.contact.id, uid);
                let deleting = |object: &Contact| {
                    let object = self.contacts.get(object);
                    object.is_none_or(|object| object.metadata.deletion_timestamp.is_some())
                };
                let holder = if holders.is_empty() {
                    Holder::Nobody
                } else {
                    Holder::Other { deleting: holders.iter().all(deleting) }
                };
                let exact = entry.contact.name == *name;
                Namesake { entry: entry.clone(), exact, holder }
            })
            .collect()
    }

    /// Whether another object that holds no contact comes before this one for a name: it has an
    /// open intent, or may act and is older. Between two open intents the older object comes first.
    fn has_rival(
        &self,
        object: &MessageContact,
        uid: &Uid,
        recorded: &Recorded,
        name: &ContactName,
    ) -> bool {
        let intends = |recorded: &Recorded| {
            recorded.creation.as_ref().is_some_and(|intent| intent.name.folded() == name.folded())
        };
        let directory = parse::directory_name(&object.spec);
        let wanting = self.claims().wanting(directory, &name.folded());
        wanting.iter().filter(|(other, _)| other != uid).any(|(_, key)| {
            let Some(other) = self.object(key) else { return false };
            let theirs = other.status.as_ref().map(parse::recorded).unwrap_or_default();
            if theirs.contact_id.is_some() {
                return false;
            }
            let is_older = age(&other) < age(object);
            match (intends(&theirs), intends(recorded)) {
                (true, true) => is_older,
                // One that may not act settles its intent later; names are unique in any case.
                (true, false) => {
                    other.metadata.deletion_timestamp.is_some() || self.may_act(&other)
                }
                (false, true) => false,
                (false, false) => is_older && self.may_act(&other),
            }
        })
    }

    /// Whether an object that comes before this one holds the same contact: a status was copied.
    fn is_outranked(&self, object: &MessageContact, uid: &Uid, recorded: &Recorded) -> bool {
        let (Some(directory), Some(contact)) = (&recorded.directory_id, &recorded.contact_id)
        else {
            return false;
        };
        let holders = self.claims().holders(directory, contact, uid);
        holders.iter().filter_map(|key| self.object(key)).any(|other| age(&other) < age(object))
    }

    /// Whether an object could create a contact.
    fn may_act(&self, object: &MessageContact) -> bool {
        let Some(Ok(directory)) = self.directory_of(object) else { return false };
        let values = self.values(object, &uid_of(object));
        let valid = match parse::contact(&object.spec, &values) {
            Ok(wanted) => {
                not_allowed(&directory, &wanted).is_none()
                    && policy::denial(&self.opinions(object, &values)).is_none()
            }
            // What is not known yet may well be there.
            Err(ContactProblem::Unread) => true,
            Err(ContactProblem::Invalid(_) | ContactProblem::SecretNotFound(_)) => false,
        };
        directory.management != Management::ReportOnly
            && self.admits(&directory, &object.namespace().unwrap_or_default())
            && valid
            && parse::mode(&object.spec) == Ok(Mode::Enforce)
            && object.spec.suspend != Some(true)
            && object.metadata.deletion_timestamp.is_none()
    }
}

/// Who comes first: the older object, and of two that are equally old the one with the lesser uid.
fn age(object: &MessageContact) -> (Option<Timestamp>, Uid) {
    let created = object.metadata.creation_timestamp.as_ref().map(|time| time.0);
    (created, uid_of(object))
}

/// What an object holds and wants, for the index.
fn claim_of(object: &MessageContact) -> Claim {
    let recorded = object.status.as_ref().map(parse::recorded).unwrap_or_default();
    Claim {
        object: ObjectRef::from_obj(object),
        lives_in: recorded.directory_id.clone().filter(|_| !plan::holds_nothing(&recorded)),
        finalizer: has_finalizer(object),
        holds: recorded.directory_id.zip(recorded.contact_id),
        directory: parse::directory_name(&object.spec).to_owned(),
        wants: parse::wanted_name(&object.spec),
        intent: recorded.creation.map(|intent| intent.name),
        generation: object.metadata.generation,
        deleting: object.metadata.deletion_timestamp.is_some(),
        verified: object.status.as_ref().is_some_and(|status| {
            let mut conditions = status.conditions.iter();
            conditions.any(|known| known.type_ == "EmailVerified" && known.status == "True")
        }),
    }
}

fn has_finalizer(object: &MessageContact) -> bool {
    object.finalizers().iter().any(|finalizer| finalizer == api::FINALIZER)
}

/// The text of an annotation that asks for something, unless it was handled already.
pub(super) fn new_text<'a>(
    object: &'a impl kube::Resource,
    annotation: &str,
    handled: Option<&str>,
) -> Option<&'a str> {
    let text = object.annotations().get(annotation)?;
    (handled != Some(parse::echo(text))).then_some(text)
}

/// The uid of an object; empty only for one that was never stored.
pub(super) fn uid_of(object: &MessageContact) -> Uid {
    Uid(object.metadata.uid.clone().unwrap_or_default())
}

/// The resourceVersion as a number. Versions of one object grow; Kubernetes promises since 1.35
/// that they compare as numbers, and etcd has always made them so.
pub(super) fn version(object: &MessageContact) -> u64 {
    object.metadata.resource_version.as_deref().and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// An intent that an earlier process left open may have stood for a while before its Add went out,
/// at the latest when this process began. One that lies ahead was written by a process whose clock
/// was ahead, and says nothing of when that was.
fn add_fate(
    recorded: &Recorded,
    memory: &Memory,
    started_at: Timestamp,
    now: Timestamp,
) -> AddFate {
    match (&recorded.creation, &memory.add) {
        (Some(intent), Some((hash, at, fate))) if intent.hash == *hash && intent.at == *at => *fate,
        (Some(intent), _) if intent.at > now => AddFate::Unanswered { since: started_at },
        (Some(intent), _) => AddFate::Unanswered { since: intent.at.max(started_at) },
        (None, _) => AddFate::NotMade,
    }
}

/// Why nothing can be asked of a directory.
enum Closed {
    /// It is not there, not valid, suspended, or another one than was meant.
    Refused(Finding),
    /// It was not listed yet since it was connected.
    Unlisted(Finding),
}

/// What one object asks of its directory.
struct Question<'a> {
    /// The name of the ResourceDirectory.
    name: &'a str,
    /// What its spec asks for; `None`: there is no such object.
    spec: Option<&'a Result<DesiredDirectory, parse::DirectoryProblem>>,
    /// The ResourceDirectory is being deleted.
    leaves: bool,
    /// The object is being deleted.
    to_delete: bool,
    /// What the object's status says.
    recorded: &'a Recorded,
}

impl Question<'_> {
    /// The directory and its snapshot, or why nothing can be asked of it.
    fn answer<'s>(
        &self,
        snapshot: Option<&'s Snapshot>,
    ) -> Result<(&'s DirectoryId, &'s Snapshot), Closed> {
        let Self { name, spec, leaves, to_delete, recorded } = self;
        let not_ready = |why: &str| {
            let message = format!("the ResourceDirectory `{name}` {why}");
            Finding::unmet(Reason::DirectoryNotReady, message)
        };
        let refused = |why: &str| Closed::Refused(not_ready(why));
        let Some(spec) = spec else {
            return Err(Closed::Refused(Finding::unmet(
                Reason::DirectoryNotFound,
                format!("there is no ResourceDirectory `{name}`; create it"),
            )));
        };
        let Ok(spec) = spec else {
            return Err(refused("has a spec that cannot be followed; see its conditions"));
        };
        if spec.suspended {
            return Err(refused("is suspended"));
        }
        if *leaves && !to_delete {
            return Err(refused("is being deleted; it only lets contacts be deleted"));
        }
        let identity = snapshot.and_then(Snapshot::identity);
        if let Some(identity) = identity {
            if spec.pin.as_ref().is_some_and(|pin| *pin != identity.directory_id) {
                return Err(refused("reaches another directory than `directoryId` says"));
            }
            if plan::lives_elsewhere(recorded, &identity.directory_id) {
                return Err(Closed::Refused(plan::wrong_directory()));
            }
        }
        let listed = snapshot.filter(|snapshot| snapshot.lists().last.is_some());
        match (listed, identity) {
            (Some(snapshot), Some(identity)) => Ok((&identity.directory_id, snapshot)),
            _ => Err(Closed::Unlisted(not_ready("is not connected; see its conditions"))),
        }
    }
}

/// The members that a contact wants and its directory does not allow, if there are any.
#[must_use]
pub fn not_allowed(directory: &DesiredDirectory, wanted: &DesiredContact) -> Option<Vec<MemberId>> {
    let (allowed, members) = (directory.allowed_members.as_ref()?, wanted.members.as_ref()?);
    let others: Vec<_> = members.difference(allowed).cloned().collect();
    (!others.is_empty()).then_some(others)
}

/// What is said of a contact that wants these members, and whose directory does not allow them.
#[must_use]
pub fn member_not_allowed(directory: &str, ids: &[MemberId]) -> Finding {
    let ids = ids.iter().map(MemberId::as_str).collect::<Vec<_>>().join(", ");
    Finding::unmet(
        Reason::MemberNotAllowed,
        format!(
            "`allowedMembers` of the ResourceDirectory `{directory}` does not have {ids}; nothing \
             is written: take them out of `members`, or have them allowed"
        ),
    )
}

/// What nobody gets to read: the pass ends before it is reported.
fn being_read() -> Finding {
    Finding::unknown(Reason::Pending, ContactProblem::Unread.to_string())
}

/// What is said of a contact whose directory does not admit its namespace. `namespace` is the
/// operator's own.
#[must_use]
pub fn not_admitted(directory: &str, namespace: &str) -> Finding {
    Finding::unmet(
        Reason::NamespaceNotAllowed,
        format!(
            "the ResourceDirectory `{directory}` does not admit this namespace: without \
             `spec.namespaces` it admits only `{namespace}`, else namespaces with the labels it \
             selects"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::contact::Creation;

    #[test]
    fn an_intent_that_was_found_open_counts_from_the_start_of_this_process_at_the_earliest() {
        let at = |second| Timestamp::from_second(second).expect("it is a time");
        let intent = |second| {
            let creation = Creation {
                name: ContactName::observed("Baiqi".to_owned()),
                hash: "hash".to_owned(),
                at: at(second),
            };
            Recorded { creation: Some(creation), ..Recorded::default() }
        };
        let (started_at, now) = (at(1_000), at(1_030));
        let fate =
            |recorded: &Recorded, memory: &Memory| add_fate(recorded, memory, started_at, now);
        let unknown = Memory::default();
        let since = |second| AddFate::Unanswered { since: at(second) };
        assert_eq!(fate(&Recorded::default(), &unknown), AddFate::NotMade);
        // It may have stood for a while before its Add went out.
        assert_eq!(fate(&intent(400), &unknown), since(1_000));
        assert_eq!(fate(&intent(1_000), &unknown), since(1_000));
        assert_eq!(fate(&intent(1_010), &unknown), since(1_010));
        assert_eq!(fate(&intent(1_030), &unknown), since(1_030));
        // The clock of that process was a day ahead: nobody waits a day for it.
        assert_eq!(fate(&intent(1_031), &unknown), since(1_000));
        assert_eq!(fate(&intent(1_000 + 86_400), &unknown), since(1_000));

        // What this process knows of its own intent counts, whatever the clock does.
        let known = |second| Memory {
            add: Some(("hash".to_owned(), at(second), AddFate::NotMade)),
            ..Memory::default()
        };
        assert_eq!(fate(&intent(1_031), &known(1_031)), AddFate::NotMade);
        assert_eq!(fate(&intent(1_010), &known(1_009)), since(1_010), "it is of another intent");
    }
}
