//! One pass over a `ContactPolicy`: what was found is put together and told. Single contacts are
//! judged as they change, in `standings`.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use kube::runtime::controller::Action;
use kube::runtime::events::EventType;
use kube::runtime::reflector::ObjectRef;
use kube::{Resource, ResourceExt};

use super::gather::{SETTLES_FOR, World, new_text};
use super::open_reports::{self, Together};
use super::report::{self, Happening, Interrupted, Written};
use super::standings::{Asked, Found, Standing};
use crate::api::contact_policy::{CoverageStatus, PolicyCounts, ViolationStatus};
use crate::api::open_report::Report;
use crate::api::parse::{self, Problem};
use crate::api::status::PolicyFacts;
use crate::api::{self, ContactPolicy};
use crate::directory::{Directory, Outcome, Priority};
use crate::domain::call::{Action as Operation, Call, CallError, FailureClass, Page, Reply};
use crate::domain::contact::DirectoryId;
use crate::domain::policy::Policy;
use crate::domain::snapshot::Snapshot;
use crate::domain::verdict::{Finding, Reason, Status};
use crate::plan::compliance::{self, Evaluation};
use crate::plan::coverage::{Among, Row, Tree, needs_tree};
use crate::plan::policy::message;

/// How long it is believed where accounts stand.
const TREE_KEPT_FOR: SignedDuration = SignedDuration::from_hours(1);
/// Pause before accounts are asked for again that could not be listed.
const TREE_PAUSE: SignedDuration = SignedDuration::from_mins(5);
/// Most pages of accounts; more is a fault of the other side.
const PAGES_MAX: u32 = 1000;
/// Pause after a pass that the apiserver interrupted, or that met another writer.
const PAUSE: Duration = Duration::from_secs(5);

/// Puts together what a policy has found, and reports it.
pub(super) async fn reconcile(
    object: Arc<ContactPolicy>,
    world: Arc<World>,
) -> Result<Action, Interrupted> {
    let name = object.name_any();
    let (asked, now) = (is_asked(&object), world.clock.now());
    let policy = match parse::policy(&name, &object.spec) {
        Ok(policy) => policy,
        Err(problem) => {
            let wanted = open_reports::are_wanted(&world, &object, asked).await;
            return tell(&world, &object, nothing_found(&problem, wanted)).await;
        }
    };
    let no_tree = read_trees(&world, &policy, asked).await;
    let reports = open_reports::are_wanted(&world, &object, asked).await.then_some(&*object);
    // What was found for another spec is not told as if it was for this one.
    let found = world.standings.with(&name, |standing| {
        let is_read = !standing.found.values().any(|found| found.contact.unread);
        let news = || put_together(&world, standing, no_tree, reports);
        (*standing.policy == policy).then(|| (is_read, news()))
    });
    let Some((is_read, news)) = found.flatten() else {
        return Ok(Action::await_change());
    };
    let told = object.status.as_ref().and_then(|status| status.observed_generation);
    let was_told = told.is_some() && told == object.metadata.generation;
    if was_told && !is_read {
        // After a restart: what was true before is not taken back until the Secrets were read.
        return Ok(Action::await_change());
    }
    let begins = world.term().began_at.saturating_add(SETTLES_FOR).is_ok_and(|until| now < until);
    if was_told && begins && !asked && news.said.ready.status != Status::True {
        // Nor until directories had the time to connect.
        world.wake_policies([name]);
        return Ok(Action::await_change());
    }
    tell(&world, &object, news).await
}

pub(super) fn interrupted(
    object: Arc<ContactPolicy>,
    error: &Interrupted,
    _: Arc<World>,
) -> Action {
    tracing::warn!(policy = object.name_any(), %error, "a pass was interrupted; it is begun again");
    Action::requeue(PAUSE)
}

/// What is told of a policy.
struct News {
    said: Evaluation,
    /// `None`: nothing was counted.
    contacts: Option<PolicyCounts>,
    violations: Vec<ViolationStatus>,
    coverage: Vec<CoverageStatus>,
    /// `None`: reports are not wanted.
    reports: Option<Vec<Report>>,
}

/// What is told of a policy that cannot be followed: what it found while it could is not told any
/// more, and its reports are deleted if reports are `wanted`.
fn nothing_found(problem: &Problem, wanted: bool) -> News {
    let ready = Finding::unmet(Reason::InvalidPolicy, problem.to_string());
    let compliant = Finding::unknown(Reason::InvalidPolicy, "the spec cannot be followed");
    News {
        said: Evaluation { ready, compliant },
        contacts: None,
        violations: Vec::new(),
        coverage: Vec::new(),
        reports: wanted.then(Vec::new),
    }
}

/// Puts together what was found. Reports are made for the object that is given, if one is.
fn put_together(
    world: &World,
    standing: &Standing,
    no_tree: Option<Finding>,
    reports: Option<&ContactPolicy>,
) -> News {
    let Standing { policy, found, tally } = standing;
    let judged: Vec<_> = found.values().filter_map(|found| found.judged.as_ref()).collect();
    let violating = judged.iter().filter(|judged| !judged.violated.is_empty()).count();
    let unknown = found.values().filter(|found| found.is_unknown()).count();
    let rows = tally.rows(&policy.coverage);
    let unmanaged = unmanaged(world, policy);
    let together = Together { rows: &rows, no_tree: no_tree.as_ref(), unmanaged: &unmanaged };
    let reports = reports.map(|object| open_reports::of_policy(object, standing, &together));
    let summary = compliance::Found {
        looked_at: found.len(),
        matched: judged.len(),
        violating,
        unknown,
        rows: &rows,
        no_tree,
        unmanaged: &unmanaged,
    };
    let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    News {
        said: compliance::evaluate(policy, &summary),
        contacts: Some(PolicyCounts {
            matched: count(judged.len()),
            compliant: count(judged.len() - violating - unknown),
            violating: count(violating),
        }),
        violations: violations_of(standing),
        coverage: rows.iter().map(row_status).collect(),
        reports,
    }
}

fn row_status(row: &Row<'_>) -> CoverageStatus {
    CoverageStatus {
        rule: row.rule.to_owned(),
        message_type: row.message_type.as_str().to_owned(),
        counted: match row.among {
            Among::All => "Contacts",
            Among::Verified => "Verified",
        }
        .to_owned(),
        required: row.required.into(),
        actual: row.actual.into(),
        satisfied: row.is_satisfied(),
    }
}

/// As many as are shown: the texts are made from the rules when they are told.
fn violations_of(Standing { policy, found, .. }: &Standing) -> Vec<ViolationStatus> {
    let each = found.iter().flat_map(|(key, found)| {
        let violated = found.judged.iter().flat_map(|judged| &judged.violated);
        violated.map(move |rule| ViolationStatus {
            namespace: key.0.clone(),
            name: key.1.clone(),
            rule: rule.as_str().to_owned(),
            message: message(*rule, &policy.contact),
        })
    });
    each.take(api::contact_policy::VIOLATIONS_MAX).collect()
}

/// How many contacts of each directory of a policy no object holds, if the policy asks; `None`: the
/// directory does not answer. One that another object works on is counted there.
fn unmanaged(world: &World, policy: &Policy) -> Vec<(String, Option<i64>)> {
    let names = policy.unmanaged_max.iter().flat_map(|_| directories(world, policy));
    let counted = names.filter_map(|name| {
        let object = world.directories.get(&ObjectRef::new(&name));
        let status = object.as_ref().and_then(|object| object.status.as_ref());
        let ready = status.and_then(|status| {
            status.conditions.iter().find(|condition| condition.type_ == "Ready")
        });
        if ready.is_some_and(|ready| ready.reason == Reason::DuplicateDirectory.as_str()) {
            return None;
        }
        let answers = ready.is_some_and(|ready| ready.status == Status::True.as_str());
        let counts = status.and_then(|status| status.contacts).filter(|_| answers);
        Some((name, counts.map(|counts| counts.unmanaged)))
    });
    counted.collect()
}

/// The ResourceDirectories of a policy, in order.
fn directories(world: &World, policy: &Policy) -> Vec<String> {
    let named = &policy.scope.directories;
    if !named.is_empty() {
        return named.iter().cloned().collect();
    }
    let mut all: Vec<_> =
        world.directories.state().iter().map(|directory| directory.name_any()).collect();
    all.sort_unstable();
    all
}

/// Whether somebody has asked for a look now.
fn is_asked(object: &ContactPolicy) -> bool {
    let status = object.status.as_ref();
    let handled = status.and_then(|status| status.last_handled_reconcile_at.as_deref());
    new_text(object, api::REQUESTED_AT, handled).is_some()
}

/// Lists the accounts of the directories of a policy whose rules need them: now and then, and when
/// somebody has asked for it. Returns why that is not possible, if it is not.
async fn read_trees(world: &World, policy: &Policy, asked: bool) -> Option<Finding> {
    if !needs_tree(&policy.coverage) {
        return None;
    }
    let mut missing = None;
    for home in lived_in(world, policy) {
        if let Some(why) = read_tree(world, policy, &home, asked).await {
            missing = missing.or(Some(why));
        }
    }
    let pause = if missing.is_some() { TREE_PAUSE } else { TREE_KEPT_FOR };
    if let Ok(again) = world.clock.now().saturating_add(pause) {
        world.policy_waker.wake_by(ObjectRef::new(&policy.name), again);
    }
    missing
}

/// A directory in which contacts live, and the ResourceDirectory by which they reach it.
type Home = (String, DirectoryId);

/// The directories in which contacts of a policy live.
fn lived_in(world: &World, policy: &Policy) -> BTreeSet<Home> {
    let home = |found: &Found| {
        let given = found.contact.given.as_ref()?;
        Some((found.contact.directory.clone(), given.directory.clone()))
    };
    let living = |standing: &Standing| standing.found.values().filter_map(home).collect();
    world.standings.with(&policy.name, living).unwrap_or_default()
}

async fn read_tree(world: &World, policy: &Policy, home: &Home, asked: bool) -> Option<Finding> {
    let (name, id) = home;
    let listing = world.standings.listing(id);
    let _listing = listing.lock().await;
    let now = world.clock.now();
    let is_new = |at: Timestamp, pause| now.duration_since(at) < pause;
    let Asked { told, failed } = world.standings.asked(id);
    if !asked && told.is_some_and(|told| is_new(told, TREE_KEPT_FOR)) {
        return None;
    }
    let failed = failed.filter(|(at, _)| !asked && is_new(*at, TREE_PAUSE));
    let listed = match (&failed, world.directory(name)) {
        (Some((_, error)), _) => Err(Some(error.clone())),
        (None, Some(directory)) => list_accounts(&directory, id).await,
        (None, None) => Err(None),
    };
    match listed {
        Ok(tree) => {
            let concerned = world.standings.set_tree(id, tree, now);
            world.wake_policies(concerned.into_iter().filter(|it| *it != policy.name));
            None
        }
        Err(error) => {
            if let Some(error) = error.as_ref().filter(|_| failed.is_none()) {
                world.standings.note_failure(id, error.clone(), now);
            }
            // What was known an hour ago is still better than nothing.
            let known = told.is_some_and(|told| is_new(told, TREE_KEPT_FOR + TREE_KEPT_FOR));
            (!known).then(|| unlisted(name, error.as_ref()))
        }
    }
}

fn unlisted(name: &str, error: Option<&CallError>) -> Finding {
    let action = Operation::ListAccounts;
    match error {
        Some(error) if error.class == FailureClass::Permission => Finding::unmet(
            Reason::Forbidden,
            format!(
                "a rule of `coverage` names members, and the accounts of the ResourceDirectory \
                 `{name}` may not be listed: grant resourcemanager:{action} to its identity"
            ),
        ),
        _ => Finding::unmet(
            Reason::DirectoryNotReady,
            format!(
                "a rule of `coverage` names members, and the accounts of the ResourceDirectory \
                 `{name}` could not be listed; it is tried again"
            ),
        ),
    }
}

/// All accounts of a directory; or why not, if the API said so. Nothing is asked if it is another one
/// by now.
async fn list_accounts(directory: &Directory, id: &DirectoryId) -> Result<Tree, Option<CallError>> {
    let mut paths = Vec::new();
    for page in 1..=PAGES_MAX {
        let id = id.clone();
        let call = move |snapshot: &Snapshot, _| {
            let is_it = snapshot.identity().is_some_and(|it| it.directory_id == id);
            is_it.then_some(Call::ListAccounts { page })
        };
        match directory.perform(Priority::Poll, call).await {
            Outcome::Done(Ok(Reply::Accounts(Page { items, total }))) => {
                let empty = items.is_empty();
                paths.extend(items);
                if empty || paths.len() >= usize::try_from(total).unwrap_or(usize::MAX) {
                    return Ok(Tree::of_paths(paths));
                }
            }
            Outcome::Done(Err(error)) | Outcome::NotConnected(error) => return Err(Some(error)),
            Outcome::Done(Ok(_)) | Outcome::Overtaken | Outcome::Closed => return Err(None),
        }
    }
    Err(None)
}

async fn tell(world: &World, object: &ContactPolicy, news: News) -> Result<Action, Interrupted> {
    let News { said: Evaluation { ready, compliant }, contacts, violations, coverage, reports } =
        news;
    let before = object.status.as_ref().and_then(|status| {
        status.conditions.iter().find(|known| known.type_ == "Compliant").cloned()
    });
    let facts = PolicyFacts {
        generation: object.metadata.generation.unwrap_or(0),
        contacts,
        violations,
        coverage,
        ready: &ready,
        compliant: &compliant,
        handled_requested_at: object.annotations().get(api::REQUESTED_AT).map(String::as_str),
    };
    match report::policy(world, object, facts).await? {
        Written::Stored => {}
        Written::Gone => return Ok(Action::await_change()),
        Written::Conflict => return Ok(Action::requeue(PAUSE)),
    }
    let was = before.as_ref().map_or("Unknown", |known| known.status.as_str());
    if was != compliant.status.as_str() && compliant.status != Status::Unknown {
        let (type_, reason) = match compliant.status {
            Status::True => (EventType::Normal, "Compliant"),
            Status::False | Status::Unknown => (EventType::Warning, "NotCompliant"),
        };
        let happening = Happening { type_, reason, note: compliant.message, action: "Evaluate" };
        report::publish(world, &object.object_ref(&()), happening).await;
    }
    if let Some(reports) = reports {
        open_reports::publish(world, object, &reports).await?;
    }
    Ok(Action::await_change())
}

impl World {
    /// Looks at the policies that depend on what directories say.
    pub(super) fn wake_policies_of_directories(&self) {
        let policies = self.policies.all();
        let depends =
            |policy: &&Arc<Policy>| policy.unmanaged_max.is_some() || needs_tree(&policy.coverage);
        self.wake_policies(policies.values().filter(depends).map(|policy| policy.name.clone()));
    }
}
