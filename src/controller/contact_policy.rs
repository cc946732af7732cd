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

use super::gather::World;
use super::report::{self, Happening, Interrupted, Written};
use super::standings::{Found, Standing};
use crate::api::contact_policy::{CoverageStatus, PolicyCounts, ViolationStatus};
use crate::api::status::PolicyFacts;
use crate::api::{self, ContactPolicy, parse};
use crate::directory::{Directory, Outcome, Priority};
use crate::domain::call::{Action as Operation, Call, CallError, FailureClass, Page, Reply};
use crate::domain::policy::Policy;
use crate::domain::verdict::{Finding, Reason, Status};
use crate::plan::coverage::{Among, Tree, needs_tree};

/// How long it is believed where accounts stand.
const TREE_KEPT_FOR: SignedDuration = SignedDuration::from_hours(1);
/// Pause before accounts are asked for again that could not be listed.
const TREE_PAUSE: SignedDuration = SignedDuration::from_mins(5);
/// How long what was said before a restart stands while it cannot be told anew.
const SETTLES_FOR: SignedDuration = SignedDuration::from_secs(60);
/// Most pages of accounts; more is a fault of the other side.
const PAGES_MAX: u32 = 1000;
/// Pause after a pass that the apiserver interrupted, or that met another writer.
const PAUSE: Duration = Duration::from_secs(5);
/// Coverage rules that a message names; the rest is counted.
const SHORTAGES_SHOWN: usize = 3;

/// Puts together what a policy has found, and reports it.
pub(super) async fn reconcile(
    object: Arc<ContactPolicy>,
    world: Arc<World>,
) -> Result<Action, Interrupted> {
    let name = object.name_any();
    let policy = match parse::policy(&name, &object.spec) {
        Ok(policy) => policy,
        Err(problem) => {
            let ready = Finding::unmet(Reason::InvalidPolicy, problem.to_string());
            let compliant = Finding::unknown(Reason::InvalidPolicy, "the spec cannot be followed");
            return tell(&world, &object, Evaluation::of(ready, compliant)).await;
        }
    };
    let (asked, now) = (is_asked(&object), world.clock.now());
    let trees = read_trees(&world, &policy, asked).await;
    // What was found for another spec is not told as if it was for this one.
    let found = world.standings.with(&name, |standing| {
        (*standing.policy == policy).then(|| evaluate(&world, standing, trees))
    });
    let Some(evaluation) = found.flatten() else {
        return Ok(Action::await_change());
    };
    let told = object.status.as_ref().and_then(|status| status.observed_generation);
    let was_told = told.is_some() && told == object.metadata.generation;
    if was_told && evaluation.unread > 0 {
        // After a restart: what was true before is not taken back until the Secrets were read.
        return Ok(Action::await_change());
    }
    let begins = world.started_at.saturating_add(SETTLES_FOR).is_ok_and(|until| now < until);
    if was_told && begins && !asked && evaluation.ready.status != Status::True {
        // Nor until directories had the time to connect.
        world.wake_policies([name]);
        return Ok(Action::await_change());
    }
    tell(&world, &object, evaluation).await
}

pub(super) fn interrupted(
    object: Arc<ContactPolicy>,
    error: &Interrupted,
    _: Arc<World>,
) -> Action {
    tracing::warn!(policy = object.name_any(), %error, "a pass was interrupted; it is begun again");
    Action::requeue(PAUSE)
}

/// What a policy comes to.
struct Evaluation {
    ready: Finding,
    compliant: Finding,
    contacts: Option<PolicyCounts>,
    violations: Option<Vec<ViolationStatus>>,
    coverage: Option<Vec<CoverageStatus>>,
    /// Contacts whose value from a Secret is being read.
    unread: usize,
}

impl Evaluation {
    /// Without anything that was found.
    fn of(ready: Finding, compliant: Finding) -> Self {
        let (contacts, violations, coverage) = (None, None, None);
        Self { ready, compliant, contacts, violations, coverage, unread: 0 }
    }
}

fn evaluate(world: &World, standing: &Standing, trees: Option<Finding>) -> Evaluation {
    let Standing { policy, found, tally } = standing;
    let judged = found.values().filter_map(|found| found.violations.as_ref());
    let (matched, violating) = judged.fold((0, 0), |(matched, violating), violations| {
        (matched + 1, violating + i64::from(!violations.is_empty()))
    });
    let unknown = found.values().filter(|found| found.unknown).count();
    let unknown = i64::try_from(unknown).unwrap_or(i64::MAX);
    let mut coverage = Vec::new();
    let mut shortages = Vec::new();
    for row in tally.rows(&policy.coverage) {
        let (kind, counted) = match row.among {
            Among::All => ("Contacts", "contacts"),
            Among::Verified => ("Verified", "verified contacts"),
        };
        if !row.is_satisfied() {
            let member = row.member.map_or(String::new(), |member| format!(" in {member}"));
            shortages.push(format!(
                "`{}`: {} of {} {counted} hear of {}{member}",
                row.rule,
                row.actual,
                row.required,
                row.message_type.as_str()
            ));
        }
        coverage.push(CoverageStatus {
            rule: row.rule.to_owned(),
            message_type: row.message_type.as_str().to_owned(),
            counted: kind.to_owned(),
            required: row.required.into(),
            actual: row.actual.into(),
            satisfied: row.is_satisfied(),
        });
    }
    let unmanaged = unmanaged(world, policy);
    let missing = trees.or_else(|| unmanaged.as_ref().err().cloned());
    let ready = missing.clone().unwrap_or_else(|| {
        Finding::met(Reason::Evaluated, format!("evaluated on {} contacts", found.len()))
    });
    let too_many = unmanaged.unwrap_or_default();
    let mut failings = Vec::new();
    if violating > 0 {
        let text = format!("{violating} of {matched} contacts are not as `contact` demands");
        failings.push((Reason::PolicyViolation, text));
    }
    if !shortages.is_empty() && missing.is_none() {
        let more = shortages.len().saturating_sub(SHORTAGES_SHOWN);
        let mut text = shortages.into_iter().take(SHORTAGES_SHOWN).collect::<Vec<_>>().join("; ");
        if more > 0 {
            text = format!("{text}; and {more} more");
        }
        failings.push((Reason::CoverageMissing, text));
    }
    if !too_many.is_empty() {
        failings.push((Reason::TooManyUnmanaged, too_many.join("; ")));
    }
    let compliant = match (failings.first(), missing) {
        (Some((reason, _)), _) => {
            let texts: Vec<_> = failings.iter().map(|(_, text)| text.as_str()).collect();
            Finding::unmet(*reason, texts.join("; "))
        }
        (None, Some(missing)) => Finding::unknown(missing.reason, missing.message),
        (None, None) if unknown > 0 => Finding::unknown(
            Reason::SecretNotFound,
            format!("the addresses of {unknown} contacts stand in Secrets and are not known"),
        ),
        (None, None) if matched == 0 && demands_nothing_else(world, policy) => Finding::unknown(
            Reason::NothingMatches,
            "no MessageContact is in the directories and namespaces of `match`: nothing is demanded \
             of anybody",
        ),
        (None, None) => Finding::met(Reason::Compliant, "everything that the policy demands holds"),
    };
    Evaluation {
        ready,
        compliant,
        contacts: Some(PolicyCounts {
            matched,
            compliant: matched - violating - unknown,
            violating,
        }),
        violations: Some(violations_of(found)),
        coverage: Some(coverage),
        unread: found.values().filter(|found| found.unread).count(),
    }
}

/// Whether a policy that speaks of no contact has nothing else to judge.
fn demands_nothing_else(world: &World, policy: &Policy) -> bool {
    let of_directories = policy.unmanaged_max.is_some() && !directories(world, policy).is_empty();
    policy.coverage.is_empty() && !of_directories
}

fn violations_of<'a>(
    found: impl IntoIterator<Item = (&'a super::standings::Key, &'a Found)>,
) -> Vec<ViolationStatus> {
    let each = found.into_iter().flat_map(|((namespace, name), found)| {
        found.violations.iter().flatten().map(move |violation| ViolationStatus {
            namespace: namespace.clone(),
            name: name.clone(),
            rule: violation.rule.as_str().to_owned(),
            message: violation.message.clone(),
        })
    });
    each.take(api::contact_policy::VIOLATIONS_MAX).collect()
}

/// In which directories there are too many contacts that no object holds; or why that is not known.
fn unmanaged(world: &World, policy: &Policy) -> Result<Vec<String>, Finding> {
    let Some(max) = policy.unmanaged_max else { return Ok(Vec::new()) };
    let mut too_many = Vec::new();
    for name in directories(world, policy) {
        let object = world.directories.get(&ObjectRef::new(&name));
        let status = object.as_ref().and_then(|object| object.status.as_ref());
        let ready = status.and_then(|status| {
            status.conditions.iter().find(|condition| condition.type_ == "Ready")
        });
        if ready.is_some_and(|ready| ready.reason == Reason::DuplicateDirectory.as_str()) {
            // The other one is counted.
            continue;
        }
        let answers = ready.is_some_and(|ready| ready.status == Status::True.as_str());
        let counts = status.and_then(|status| status.contacts).filter(|_| answers);
        let Some(counts) = counts else {
            let message = format!(
                "what is in the ResourceDirectory `{name}` is not known; see its conditions"
            );
            return Err(Finding::unmet(Reason::DirectoryNotReady, message));
        };
        if counts.unmanaged > i64::from(max) {
            let text = format!(
                "`{name}` has {} contacts that no MessageContact holds, and at most {max} are allowed",
                counts.unmanaged
            );
            too_many.push(text);
        }
    }
    Ok(too_many)
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
    let asked = object.annotations().get(api::REQUESTED_AT).map(|text| parse::echo(text));
    let status = object.status.as_ref();
    let handled = status.and_then(|status| status.last_handled_reconcile_at.as_deref());
    asked.is_some() && asked != handled
}

/// Lists the accounts of the directories of a policy whose rules need them: now and then, and when
/// somebody has asked for it. Returns why that is not possible, if it is not.
async fn read_trees(world: &World, policy: &Policy, asked: bool) -> Option<Finding> {
    if !needs_tree(&policy.coverage) {
        return None;
    }
    let mut missing = None;
    for name in lived_in(world, policy) {
        if let Some(why) = read_tree(world, policy, &name, asked).await {
            missing = missing.or(Some(why));
        }
    }
    let pause = if missing.is_some() { TREE_PAUSE } else { TREE_KEPT_FOR };
    if let Ok(again) = world.clock.now().saturating_add(pause) {
        world.policy_waker.wake_by(ObjectRef::new(&policy.name), again);
    }
    missing
}

/// The directories in which contacts of a policy live.
fn lived_in(world: &World, policy: &Policy) -> BTreeSet<String> {
    let living = |standing: &Standing| {
        let found = standing.found.values().filter(|found| found.covering.is_some());
        found.map(|found| found.directory.to_string()).collect()
    };
    world.standings.with(&policy.name, living).unwrap_or_default()
}

async fn read_tree(world: &World, policy: &Policy, name: &str, asked: bool) -> Option<Finding> {
    let _listing = world.standings.listing.lock().await;
    let now = world.clock.now();
    let is_new = |at: Timestamp, pause| now.duration_since(at) < pause;
    let told = world.standings.tree_told_at(name);
    if !asked && told.is_some_and(|told| is_new(told, TREE_KEPT_FOR)) {
        return None;
    }
    let failed = world.standings.tree_failed(name);
    let failed = failed.filter(|(at, _)| !asked && is_new(*at, TREE_PAUSE));
    let listed = match (&failed, world.directory(name)) {
        (Some((_, error)), _) => Err(Some(error.clone())),
        (None, Some(directory)) => list_accounts(&directory).await,
        (None, None) => Err(None),
    };
    match listed {
        Ok(tree) => {
            let concerned = world.standings.set_tree(name, tree, now);
            world.wake_policies(concerned.into_iter().filter(|it| *it != policy.name));
            None
        }
        Err(error) => {
            if let Some(error) = error.as_ref().filter(|_| failed.is_none()) {
                world.standings.note_failure(name, error.clone(), now);
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

/// All accounts of a directory; or why not, if the API said so.
async fn list_accounts(directory: &Directory) -> Result<Tree, Option<CallError>> {
    let mut paths = Vec::new();
    for page in 1..=PAGES_MAX {
        let call = move |_: &_, _| Some(Call::ListAccounts { page });
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

async fn tell(
    world: &World,
    object: &ContactPolicy,
    evaluation: Evaluation,
) -> Result<Action, Interrupted> {
    let Evaluation { ready, compliant, contacts, violations, coverage, unread: _ } = evaluation;
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
