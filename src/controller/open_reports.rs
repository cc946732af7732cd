//! What policies have found, as reports of `openreports.io`, where that API is installed: one in
//! each namespace in which contacts are judged, so that nobody sees those of others, and one for the
//! cluster as a whole. Written when what they say changes; the cluster removes them with their
//! policy.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};
use kube::api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams};
use kube::core::Status;
use kube::runtime::reflector::ObjectRef;
use kube::{Api, ResourceExt as _};

use super::gather::World;
use super::report::{Interrupted, within, write};
use super::scope::Scope;
use super::standings::{Found, Key, Standing};
use crate::api::open_report::{self, Author, Finding as Entry, Outcome, Report};
use crate::api::{ContactPolicy, FIELD_MANAGER};
use crate::domain::policy::{Policy, RuleName};
use crate::domain::verdict::Finding;
use crate::plan::compliance;
use crate::plan::coverage::Row;
use crate::plan::policy::{Judged, demanded, is_of_email, message};

/// How long it is believed that the API is not there, or that reports may not be written.
const ABSENT_FOR: SignedDuration = SignedDuration::from_secs(10);

/// One look for the API counts for all policies that come within this time.
const JUST_NOW: SignedDuration = SignedDuration::from_secs(2);

/// The rights that are needed where the API is installed.
const RIGHTS: &str = "grant `list`, `create`, `patch` and `delete` on `reports` and \
                      `clusterreports` of `openreports.io`";

/// What is known of the reports in the cluster.
#[derive(Debug, Default)]
pub(super) struct OpenReports {
    api: tokio::sync::Mutex<Known>,
    /// What was stored last for each policy, by its uid. A policy whose reports were not looked up
    /// since the process began is missing.
    stored: Mutex<HashMap<String, Stored>>,
}

/// What was stored for a policy: a hash of each report.
type Stored = BTreeMap<Place, u64>;

/// What became of those reports of a policy that say something new.
#[derive(Default)]
struct News {
    written: BTreeSet<Place>,
    /// Why those were not that were refused while others may be written.
    refused: BTreeMap<Place, Box<Status>>,
}

/// Whether reports can be written.
#[derive(Debug, Default)]
struct Known {
    state: State,
    /// It was said that they may not be written.
    was_told: bool,
    /// Where it was said that one was refused while others were written, and with which code.
    refused: BTreeSet<(Place, u16)>,
}

/// Where a report stands: in a namespace, or, `None`, for the cluster as a whole.
type Place = Option<String>;

#[derive(Debug, Default, Clone, Copy)]
enum State {
    #[default]
    Unasked,
    /// The API is installed.
    There,
    /// It is not, or reports may not be written.
    Closed { at: Timestamp },
}

impl OpenReports {
    fn stored(&self, uid: &str) -> Option<Stored> {
        self.stored.lock().unwrap_or_else(PoisonError::into_inner).get(uid).cloned()
    }

    fn store(&self, uid: &str, stored: Stored) {
        let mut all = self.stored.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(uid.to_owned(), stored);
    }

    /// Forgets what was stored for a policy: it is gone, or its reports are to be looked up.
    pub(super) fn forget(&self, uid: &str) {
        self.stored.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
    }
}

/// Whether reports of a policy are to be written: the API is installed. `asked`: somebody wants that
/// to be looked up, and the reports as well.
pub(super) async fn are_wanted(world: &World, object: &ContactPolicy, asked: bool) -> bool {
    if asked {
        world.open_reports.forget(&object.uid().unwrap_or_default());
    }
    let mut known = world.open_reports.api.lock().await;
    let now = world.clock.now();
    match known.state {
        State::There if !asked => return true,
        State::Closed { at } if !asked && now.duration_since(at) < ABSENT_FOR => {
            if now.duration_since(at) < JUST_NOW {
                // Another policy has looked, for this one as well.
                return false;
            }
            // It may have come since, and nothing else would tell this policy.
            if let Ok(again) = at.saturating_add(ABSENT_FOR) {
                world.policy_waker.wake_by(ObjectRef::from_obj(object), again);
            }
            return false;
        }
        State::There | State::Closed { .. } | State::Unasked => {}
    }
    let found = within(world.client.list_api_group_resources(open_report::GROUP_VERSION)).await;
    known.state = match found {
        Ok(found) => {
            let is_there = |plural: &str| found.resources.iter().any(|it| it.name == plural);
            let all_there = open_report::RESOURCES.iter().all(|plural| is_there(plural));
            if all_there { State::There } else { State::Closed { at: now } }
        }
        Err(Interrupted::Refused(kube::Error::Api(refusal))) if refusal.code == 404 => {
            State::Closed { at: now }
        }
        Err(_) => {
            if let Ok(again) = now.saturating_add(ABSENT_FOR) {
                world.policy_waker.wake_by(ObjectRef::from_obj(object), again);
            }
            return false;
        }
    };
    matches!(known.state, State::There)
}

/// What is told of a policy as a whole.
pub(super) struct Together<'a> {
    pub(super) rows: &'a [Row<'a>],
    /// Why it is not known where accounts stand, if that matters and is not.
    pub(super) no_tree: Option<&'a Finding>,
    /// How many contacts of each directory no object holds; `None`: that is not known.
    pub(super) unmanaged: &'a [(String, Option<i64>)],
}

/// All reports of a policy.
pub(super) fn of_policy(
    object: &ContactPolicy,
    standing: &Standing,
    together: &Together<'_>,
) -> Vec<Report> {
    let Standing { policy, found, .. } = standing;
    let uid = object.uid().unwrap_or_default();
    let author = Author { name: &policy.name, uid: &uid, enforcement: policy.enforcement };
    let by_namespace = of_contacts(author, policy, found);
    let of_namespaces =
        by_namespace.into_iter().map(|(namespace, all)| author.report(Some(namespace), all));
    let of_all = of_all(author, policy, together);
    let of_cluster = (!of_all.is_empty()).then(|| author.report(None, of_all));
    of_namespaces.chain(of_cluster).collect()
}

fn of_contacts<'a>(
    author: Author<'_>,
    policy: &Policy,
    found: &'a BTreeMap<Key, Found>,
) -> BTreeMap<&'a str, Vec<Entry>> {
    let rules = demanded(&policy.contact);
    let texts: BTreeMap<RuleName, String> =
        rules.iter().map(|rule| (*rule, message(*rule, &policy.contact))).collect();
    let mut by_namespace: BTreeMap<&str, Vec<Entry>> = BTreeMap::new();
    for (key, found) in found {
        let Some(judged) = &found.judged else { continue };
        let (namespace, name) = (key.0.as_str(), key.1.as_str());
        for (rule, text) in &texts {
            let (outcome, message) = outcome(author, judged, *rule, text);
            let uid = &found.contact.uid.0;
            let entry = author.of_contact((namespace, name), uid, rule.as_str(), outcome, message);
            by_namespace.entry(namespace).or_default().push(entry);
        }
    }
    by_namespace
}

fn outcome(author: Author<'_>, judged: &Judged, rule: RuleName, text: &str) -> (Outcome, String) {
    if judged.violated.contains(&rule) {
        (author.unmet(), text.to_owned())
    } else if judged.waits_for_email && is_of_email(rule) {
        (Outcome::Error, "the address stands in a Secret and is not known".to_owned())
    } else {
        (Outcome::Pass, String::new())
    }
}

fn of_all(author: Author<'_>, policy: &Policy, together: &Together<'_>) -> Vec<Entry> {
    let Together { rows, no_tree, unmanaged } = together;
    let coverage = rows.iter().map(|row| {
        // Without knowing where accounts stand, nothing is known of rules with members.
        let missing = no_tree.filter(|_| row.member.is_some());
        let (outcome, message) = match missing {
            Some(missing) => (Outcome::Error, missing.message.clone()),
            None if row.is_satisfied() => (Outcome::Pass, compliance::in_words(row)),
            None => (author.unmet(), compliance::in_words(row)),
        };
        let properties = [
            ("messageType", row.message_type.as_str().to_owned()),
            ("required", row.required.to_string()),
            ("actual", row.actual.to_string()),
        ];
        author.of_all(&format!("coverage.{}", row.rule), outcome, message, properties.into())
    });
    let max = policy.unmanaged_max.map_or(0, i64::from);
    let unmanaged = unmanaged.iter().map(|(directory, count)| {
        let (outcome, message) = match count {
            None => (Outcome::Error, compliance::not_known(directory)),
            Some(count) if *count > max => {
                (author.unmet(), compliance::too_many_in(directory, *count, max))
            }
            Some(_) => (Outcome::Pass, String::new()),
        };
        let properties = [("directory", directory.clone())];
        author.of_all("unmanagedContacts", outcome, message, properties.into())
    });
    coverage.chain(unmanaged).collect()
}

/// Stores those reports of a policy that say something new, and deletes those that say nothing any
/// more.
pub(super) async fn publish(
    world: &World,
    object: &ContactPolicy,
    reports: &[Report],
) -> Result<(), Interrupted> {
    let uid = object.uid().unwrap_or_default();
    let name = Author::report_name(&object.name_any(), &uid);
    let published = bring_up_to_date(world, (&uid, &name), reports).await;
    let mut known = world.open_reports.api.lock().await;
    match published {
        Ok(news) => {
            known.was_told = false;
            known.tell(&news);
            Ok(())
        }
        Err(Interrupted::Refused(kube::Error::Api(refusal))) if refusal.code == 403 => {
            world.open_reports.forget(&uid);
            known.state = State::Closed { at: world.clock.now() };
            if !std::mem::replace(&mut known.was_told, true) {
                tracing::warn!("reports of policies may not be written: {RIGHTS}");
            }
            Ok(())
        }
        Err(Interrupted::Refused(kube::Error::Api(refusal))) if refusal.code == 404 => {
            // The API is gone again.
            world.open_reports.forget(&uid);
            known.state = State::Unasked;
            Ok(())
        }
        Err(Interrupted::Refused(kube::Error::Api(refusal))) if is_final(&refusal) => {
            tracing::warn!(policy = name, code = refusal.code, "reports were refused");
            Ok(())
        }
        Err(error) => Err(error),
    }
}

impl Known {
    /// Says once of each place that reports are refused there, until one is written.
    fn tell(&mut self, News { written, refused }: &News) {
        self.refused.retain(|(place, _)| !written.contains(place));
        for (place, why) in refused {
            let (namespace, code) = (place.as_deref(), why.code);
            if self.refused.insert((place.clone(), code)) {
                let advice = if code == 403 { RIGHTS } else { "look at the rules of admission" };
                tracing::warn!(namespace, code, "reports are refused there alone: {advice}");
            }
        }
    }
}

/// Whether the same would be refused again.
fn is_final(refusal: &Status) -> bool {
    (400..500).contains(&refusal.code) && ![409, 429].contains(&refusal.code)
}

/// Whether others may be taken all the same: a right that is missing in one namespace, its quota, a
/// rule of admission.
fn is_of_one(refusal: &Status) -> bool {
    is_final(refusal) && ![401, 404].contains(&refusal.code)
}

async fn bring_up_to_date(
    world: &World,
    (uid, name): (&str, &str),
    reports: &[Report],
) -> Result<News, Interrupted> {
    let mut stored = match world.open_reports.stored(uid) {
        Some(stored) => stored,
        None => look_up(world, (uid, name), reports).await?,
    };
    let ended = write_news(world, name, reports, &mut stored).await;
    // What was done is remembered, also if the rest was not.
    world.open_reports.store(uid, stored);
    ended
}

async fn write_news(
    world: &World,
    name: &str,
    reports: &[Report],
    stored: &mut Stored,
) -> Result<News, Interrupted> {
    let mut news = News::default();
    for report in reports {
        let hash = hash_of(report);
        if stored.get(&report.namespace) == Some(&hash) {
            continue;
        }
        match apply(world, report).await {
            Ok(()) => {
                stored.insert(report.namespace.clone(), hash);
                news.written.insert(report.namespace.clone());
            }
            // One namespace must not keep the others from hearing.
            Err(Interrupted::Refused(kube::Error::Api(why))) if is_of_one(&why) => {
                news.refused.insert(report.namespace.clone(), why);
            }
            Err(error) => return Err(error),
        }
    }
    let said: BTreeSet<_> = reports.iter().map(|report| &report.namespace).collect();
    let surplus: Vec<_> = stored.keys().filter(|it| !said.contains(it)).cloned().collect();
    for namespace in surplus {
        match delete(world, name, namespace.as_deref()).await {
            Ok(()) => drop(stored.remove(&namespace)),
            Err(Interrupted::Refused(kube::Error::Api(why))) if is_of_one(&why) => {
                news.refused.insert(namespace, why);
            }
            Err(error) => return Err(error),
        }
    }
    // Where nothing of the policy can be stored, the right is missing for all.
    let is_closed = stored.keys().all(|place| news.refused.contains_key(place));
    match news.refused.values().find(|why| is_closed && why.code == 403) {
        Some(why) => Err(Interrupted::Refused(kube::Error::Api(why.clone()))),
        None => Ok(news),
    }
}

/// What the cluster has of a policy's reports when this process looks for the first time.
async fn look_up(
    world: &World,
    (uid, name): (&str, &str),
    reports: &[Report],
) -> Result<Stored, Interrupted> {
    /// The hash of what was not written by this version for what is so now.
    const ANOTHER: u64 = 0;
    let ours = ListParams::default().labels(&format!("{}={uid}", open_report::POLICY_UID));
    let mut stored = Stored::new();
    let of_all = [false].map(|it| Api::all_with(world.client.clone(), &open_report::resource(it)));
    let kind = open_report::resource(true);
    let of_namespaces: Vec<Api<DynamicObject>> = match &world.environment.scope {
        Scope::All => vec![Api::all_with(world.client.clone(), &kind)],
        // Rights are had in these alone.
        Scope::Namespaces(seen) => {
            let of = |it: &String| Api::namespaced_with(world.client.clone(), it, &kind);
            seen.iter().map(of).collect()
        }
    };
    let is_scoped = world.environment.scope != Scope::All;
    let of_namespaces = of_namespaces.into_iter().map(|api| (api, is_scoped));
    for (api, is_one_of_several) in of_namespaces.chain(of_all.map(|api| (api, false))) {
        let found = match within(api.list(&ours)).await {
            // In one of several namespaces; what is to be written there tells.
            Err(Interrupted::Refused(kube::Error::Api(why)))
                if why.code == 403 && is_one_of_several =>
            {
                continue;
            }
            found => found?,
        };
        // Anybody may put our label on a report of their own.
        for object in found.items.into_iter().filter(|object| object.name_any() == name) {
            let namespace = object.namespace();
            let report = reports.iter().find(|report| report.namespace == namespace);
            let same = report.filter(|report| says_the_same(&object, report));
            stored.insert(namespace, same.map_or(ANOTHER, hash_of));
        }
    }
    Ok(stored)
}

fn says_the_same(object: &DynamicObject, report: &Report) -> bool {
    let labels = report.metadata.labels.iter().flatten();
    serde_json::to_value(&report.body).is_ok_and(|body| body == object.data)
        && object.metadata.owner_references == report.metadata.owner_references
        && labels.into_iter().all(|(key, text)| object.labels().get(key) == Some(text))
}

/// Compared within this process only.
fn hash_of(report: &Report) -> u64 {
    let mut hasher = DefaultHasher::new();
    let Report { namespace: _, metadata, body } = report;
    serde_json::json!([metadata, body]).to_string().hash(&mut hasher);
    hasher.finish()
}

fn api_of(world: &World, namespace: Option<&str>) -> Api<DynamicObject> {
    let kind = open_report::resource(namespace.is_some());
    match namespace {
        Some(namespace) => Api::namespaced_with(world.client.clone(), namespace, &kind),
        None => Api::all_with(world.client.clone(), &kind),
    }
}

async fn apply(world: &World, report: &Report) -> Result<(), Interrupted> {
    let api = api_of(world, report.namespace.as_deref());
    let name = report.metadata.name.as_deref().unwrap_or_default();
    let params = PatchParams::apply(FIELD_MANAGER).force();
    let written = write(world, api.patch(name, &params, &Patch::Apply(report.object()))).await;
    match written {
        Err(Interrupted::Refused(kube::Error::Api(refusal))) if is_of_namespace(&refusal) => Ok(()),
        written => written.map(drop),
    }
}

async fn delete(world: &World, name: &str, namespace: Option<&str>) -> Result<(), Interrupted> {
    let api = api_of(world, namespace);
    match write(world, api.delete(name, &DeleteParams::default())).await {
        Err(Interrupted::Refused(kube::Error::Api(refusal))) if refusal.code == 404 => Ok(()),
        deleted => deleted.map(drop),
    }
}

/// Whether the namespace is gone, or about to go: its contacts are, too.
fn is_of_namespace(refusal: &Status) -> bool {
    let Some(details) = &refusal.details else { return false };
    refusal.code == 404 && details.kind == "namespaces"
        || details.causes.iter().any(|cause| cause.reason == "NamespaceTerminating")
}
