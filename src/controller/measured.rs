//! What the metrics tell of objects: counted when a status is stored, or computed from what is known
//! when somebody looks.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt as _;

use super::gather::{World, uid_of};
use super::standings::Standing;
use super::trail;
use crate::api::message_contact::DriftStatus;
use crate::api::{MessageContact, MessageContactStatus, ResourceDirectory, parse};
use crate::domain::verdict::{Reason, Status};
use crate::plan::coverage::Row;
use crate::telemetry::{DirectoryGauges, Gauges, PolicyGauges};

/// How a MessageContact stands, in one word. Each is in exactly one state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ContactState {
    /// In sync, and everything is confirmed.
    Verified,
    /// In sync, and an address or number waits for its owner.
    Unverified,
    /// In sync, and `maxSends` messages did not bring an owner to confirm.
    VerificationExhausted,
    /// In sync, and not bound to the members of the spec.
    Unbound,
    /// The cloud differs, and `ReportOnly` forbids to write.
    Drifted,
    /// Somebody keeps changing a field back, and it is left alone.
    DriftContested,
    /// Not in sync, and waiting alone will not help.
    Stalled,
    /// Not in sync, and something is under way or awaited.
    Waiting,
    /// Nothing is read or written for it.
    Suspended,
    /// It is being deleted.
    Deleting,
    /// It is to be deleted, and that failed.
    DeletionFailed,
}

impl ContactState {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Verified,
        Self::Unverified,
        Self::VerificationExhausted,
        Self::Unbound,
        Self::Drifted,
        Self::DriftContested,
        Self::Stalled,
        Self::Waiting,
        Self::Suspended,
        Self::Deleting,
        Self::DeletionFailed,
    ];

    /// The value of the metrics' label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Verified => "verified",
            Self::Unverified => "unverified",
            Self::VerificationExhausted => "verification_exhausted",
            Self::Unbound => "unbound",
            Self::Drifted => "drifted",
            Self::DriftContested => "drift_contested",
            Self::Stalled => "stalled",
            Self::Waiting => "waiting",
            Self::Suspended => "suspended",
            Self::Deleting => "deleting",
            Self::DeletionFailed => "deletion_failed",
        }
    }

    /// What it means, in a sentence without its full stop.
    #[must_use]
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Verified => "in sync, and everything is confirmed",
            Self::Unverified => "in sync, and an address or number waits for its owner",
            Self::VerificationExhausted => {
                "in sync, and `maxSends` messages did not bring an owner to confirm"
            }
            Self::Unbound => "in sync, and not bound to the members of the spec",
            Self::Drifted => "the cloud differs, and `ReportOnly` forbids to write",
            Self::DriftContested => "somebody keeps changing a field back, and it is left alone",
            Self::Stalled => "not in sync, and waiting alone will not help",
            Self::Waiting => "not in sync, and something is under way or awaited",
            Self::Suspended => "nothing is read or written for it",
            Self::Deleting => "it is being deleted",
            Self::DeletionFailed => "it is to be deleted, and that failed",
        }
    }

    /// The state that the status of an object tells.
    fn of(object: &MessageContact) -> Self {
        let conditions = object.status.as_ref().map(|status| status.conditions.as_slice());
        let conditions = conditions.unwrap_or_default();
        let is = |type_: &str, reason: Reason| {
            condition(conditions, type_).is_some_and(|known| known.reason == reason.as_str())
        };
        let holds = |type_: &str| condition(conditions, type_).is_none_or(is_true);
        let verifications = ["EmailVerified", "PhoneVerified"];
        if object.metadata.deletion_timestamp.is_some() {
            let failed = is("Synced", Reason::DeletionFailed);
            return if failed { Self::DeletionFailed } else { Self::Deleting };
        }
        if is("Synced", Reason::Suspended) {
            return Self::Suspended;
        }
        if condition(conditions, "Synced").is_some_and(is_true) {
            return if !holds("Bound") {
                Self::Unbound
            } else if verifications.iter().any(|it| is(it, Reason::VerificationExhausted)) {
                Self::VerificationExhausted
            } else if verifications.into_iter().all(holds) {
                Self::Verified
            } else {
                Self::Unverified
            };
        }
        if is("Synced", Reason::DriftContested) {
            Self::DriftContested
        } else if is("Synced", Reason::Drifted) {
            Self::Drifted
        } else if condition(conditions, "Stalled").is_some_and(is_true) {
            Self::Stalled
        } else {
            Self::Waiting
        }
    }
}

fn condition<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|known| known.type_ == type_)
}

fn is_true(condition: &Condition) -> bool {
    condition.status == Status::True.as_str()
}

/// A spec that the cloud does not have yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Awaited {
    generation: Option<i64>,
    since: Timestamp,
}

/// The apiserver notes whole seconds: what was changed less than this ago counts from when it was
/// seen, and what is older was changed while no operator looked.
const CHANGED_JUST_NOW: SignedDuration = SignedDuration::from_secs(2);

impl World {
    /// Begins to measure how long a spec takes that nobody has looked at before. Whoever stands by
    /// measures nothing: it does not learn when another process is done.
    pub(super) fn await_sync(&self, object: &MessageContact) {
        if self.term.get().is_none() {
            return;
        }
        let generation = object.metadata.generation;
        let judged = object.status.as_ref().and_then(|status| status.observed_generation);
        if judged == generation || object.metadata.deletion_timestamp.is_some() {
            return;
        }
        let now = self.clock.now();
        let is_old = |at: &Timestamp| now.duration_since(*at) >= CHANGED_JUST_NOW;
        let since = trail::changed_at(object).filter(is_old).unwrap_or(now);
        self.remember(&uid_of(object), |memory| {
            if memory.awaited.is_none_or(|awaited| awaited.generation != generation) {
                memory.awaited = Some(Awaited { generation, since });
            }
        });
    }

    /// Counts what a status tells that was just stored.
    pub(super) fn count(
        &self,
        object: &MessageContact,
        previous: &MessageContactStatus,
        next: &MessageContactStatus,
    ) {
        let metrics = &self.environment.metrics;
        let now = self.clock.now();
        for (field, times) in drifted(&previous.drift, &next.drift) {
            metrics.directory(parse::directory_name(&object.spec)).drifted(field, times);
        }
        for confirmed in ["EmailVerified", "PhoneVerified"] {
            if let Some(since) = confirmed_since(previous, next, confirmed) {
                metrics.verified_after(elapsed(since, now));
            }
        }
        if condition(&next.conditions, "Synced").is_some_and(is_true) {
            self.remember_if_known(&uid_of(object), |memory| {
                let of_this = |it: &mut Awaited| it.generation == next.observed_generation;
                if let Some(awaited) = memory.awaited.take_if(of_this) {
                    metrics.synced_after(elapsed(awaited.since, now));
                }
            });
        }
    }

    /// What is true now of everything that gauges show.
    pub(super) fn gauges(&self) -> Gauges {
        let mut states: BTreeMap<String, BTreeMap<ContactState, u32>> = BTreeMap::new();
        for object in self.contacts.state() {
            let directory = parse::directory_name(&object.spec).to_owned();
            *states.entry(directory).or_default().entry(ContactState::of(&object)).or_default() +=
                1;
        }
        let mut objects = self.directories.state();
        objects.sort_unstable_by_key(|object| object.name_any());
        let directories = objects.iter().map(|object| {
            let states = states.remove(&object.name_any()).unwrap_or_default();
            self.directory_gauges(object, &states)
        });
        let directories = directories.collect();
        let mut homeless: BTreeMap<ContactState, u32> = BTreeMap::new();
        for (state, count) in states.into_values().flatten() {
            *homeless.entry(state).or_default() += count;
        }
        let policies = self.policies.all();
        // Whoever stands by does not follow contacts as they change, and would tell what was once.
        let names = policies.keys().filter(|_| self.term.get().is_some());
        let policies = names.filter_map(|name| self.standings.with(name, policy_gauges));
        Gauges {
            directories,
            homeless: homeless.into_iter().map(|(state, it)| (state.as_str(), it)).collect(),
            policies: policies.collect(),
        }
    }

    fn directory_gauges(
        &self,
        object: &ResourceDirectory,
        counts: &BTreeMap<ContactState, u32>,
    ) -> DirectoryGauges {
        let (name, now) = (object.name_any(), self.clock.now());
        let load = self.registry.get(&name).map(|directory| directory.load(now));
        let status = object.status.as_ref();
        let ready = status.and_then(|status| condition(&status.conditions, "Ready"));
        // As it is stored: a message is counted there before it is sent.
        let identified = status.filter(|status| status.directory_id.is_some());
        let ledger = identified.map(|status| {
            status.verification_sends.as_ref().map(parse::ledger).unwrap_or_default()
        });
        DirectoryGauges {
            name,
            ready: ready.map(|ready| (is_true(ready), ready.reason.clone())),
            waiting: load
                .iter()
                .flat_map(|load| load.waiting)
                .map(|(priority, waiting)| {
                    (priority.as_str(), u32::try_from(waiting).unwrap_or(u32::MAX))
                })
                .collect(),
            rate_limit: load.map(|load| load.calls_per_second_max),
            contacts: ContactState::ALL
                .map(|state| (state.as_str(), counts.get(&state).copied().unwrap_or_default()))
                .to_vec(),
            unmanaged: status
                .and_then(|status| status.contacts)
                .and_then(|contacts| u32::try_from(contacts.unmanaged).ok()),
            sends_remaining: ledger.map(|ledger| ledger.remaining(now)),
        }
    }
}

fn policy_gauges(standing: &Standing) -> PolicyGauges {
    let Standing { policy, found, tally } = standing;
    let violates = found
        .values()
        .filter(|found| found.judged.as_ref().is_some_and(|judged| !judged.violated.is_empty()));
    let mut coverage: BTreeMap<(String, &'static str), f64> = BTreeMap::new();
    for row in tally.rows(&policy.coverage) {
        let share = share_of(&row);
        let least = coverage.entry((row.rule.to_owned(), row.message_type.as_str()));
        least.and_modify(|least| *least = least.min(share)).or_insert(share);
    }
    PolicyGauges {
        name: policy.name.clone(),
        enforcement: policy.enforcement.as_str(),
        violations: u32::try_from(violates.count()).unwrap_or(u32::MAX),
        coverage: coverage.into_iter().map(|((rule, type_), share)| (rule, type_, share)).collect(),
    }
}

/// How much of what is demanded there is.
fn share_of(row: &Row<'_>) -> f64 {
    if row.required == 0 { 1.0 } else { f64::from(row.actual) / f64::from(row.required) }
}

/// The fields that were found other than the spec asks for since the previous status, and how often:
/// each time one was put right, and once if it is only shown.
fn drifted<'a>(
    previous: &'a [DriftStatus],
    next: &'a [DriftStatus],
) -> impl Iterator<Item = (&'a str, u64)> {
    next.iter().filter_map(|drift| {
        let before = previous.iter().find(|before| before.field == drift.field);
        let reverts = before.map(|before| before.reverts.as_slice()).unwrap_or_default();
        let known = drift.reverts.iter().filter(|at| reverts.contains(at)).count();
        let is_new = before.is_none() && drift.reverts.is_empty();
        let times = drift.reverts.len() - known + usize::from(is_new);
        (times > 0).then(|| (drift.field.as_str(), u64::try_from(times).unwrap_or(u64::MAX)))
    })
}

/// Since when a value has waited that was confirmed just now.
fn confirmed_since(
    previous: &MessageContactStatus,
    next: &MessageContactStatus,
    type_: &str,
) -> Option<Timestamp> {
    let waited = condition(&previous.conditions, type_)?;
    let confirmed = condition(&next.conditions, type_).is_some_and(is_true);
    let waits = waited.status == Status::False.as_str();
    (confirmed && waits).then_some(waited.last_transition_time.0)
}

/// How long ago that was; nothing if it lies ahead, as the clock of another machine is.
fn elapsed(since: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(since)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn status(status: Value) -> MessageContactStatus {
        serde_json::from_value(status).expect("it is a status")
    }

    /// Conditions such as `Synced=True InSync`.
    fn conditions(texts: &[&str]) -> Value {
        let conditions = texts.iter().map(|text| {
            let (type_, said) = text.split_once('=').expect("a status");
            let (status, reason) = said.split_once(' ').expect("a reason");
            json!({ "type": type_, "status": status, "reason": reason, "message": "",
                "lastTransitionTime": "2026-01-15T09:30:00Z" })
        });
        conditions.collect()
    }

    #[test]
    fn each_contact_is_in_one_state() {
        let check = |texts: &[&str], deleted: bool, expected: ContactState| {
            let deleted = deleted.then_some("2026-01-15T09:30:00Z");
            let object = json!({
                "apiVersion": "message-contacts.dev/v1alpha1", "kind": "MessageContact",
                "metadata": { "name": "desk", "deletionTimestamp": deleted },
                "spec": { "name": "Baiqi", "title": "CEO", "messageTypes": ["FaultMessage"] },
                "status": { "conditions": conditions(texts) },
            });
            let object = serde_json::from_value(object).expect("it is a contact");
            assert_eq!(ContactState::of(&object), expected, "{texts:?}");
        };
        let (synced, confirmed) = ("Synced=True InSync", "EmailVerified=True Verified");
        check(&[], false, ContactState::Waiting);
        check(&["Ready=Unknown Pending"], false, ContactState::Waiting);
        check(&[synced, confirmed], false, ContactState::Verified);
        check(&[synced, confirmed, "PhoneVerified=True Verified"], false, ContactState::Verified);
        let asked = "PhoneVerified=False VerificationSent";
        check(&[synced, confirmed, asked], false, ContactState::Unverified);
        let in_vain = "PhoneVerified=False VerificationExhausted";
        check(&[synced, confirmed, in_vain], false, ContactState::VerificationExhausted);
        let unbound = "Bound=False UnknownMember";
        check(&[synced, confirmed, unbound], false, ContactState::Unbound);
        check(&["Synced=False Drifted"], false, ContactState::Drifted);
        check(&["Synced=False DriftContested"], false, ContactState::DriftContested);
        let stalled = ["Synced=False NameTaken", "Stalled=True NameTaken"];
        check(&stalled, false, ContactState::Stalled);
        check(
            &["Synced=False CloudBusy", "Reconciling=True CloudBusy"],
            false,
            ContactState::Waiting,
        );
        check(&["Synced=False Suspended", confirmed], false, ContactState::Suspended);
        check(&[synced, confirmed], true, ContactState::Deleting);
        check(&["Synced=False DeletionFailed"], true, ContactState::DeletionFailed);
    }

    #[test]
    fn drift_counts_each_time_at_which_it_was_put_right_and_once_where_it_is_only_shown() {
        let drift = |fields: &[(&str, &[&str])]| -> Vec<DriftStatus> {
            let entry =
                |(field, reverts): &(&str, &[&str])| json!({ "field": field, "reverts": reverts });
            let entries: Value = fields.iter().map(entry).collect();
            serde_json::from_value(entries).expect("it is drift")
        };
        let check =
            |previous: &[(&str, &[&str])], next: &[(&str, &[&str])], expected: &[(&str, u64)]| {
                let (previous, next) = (drift(previous), drift(next));
                assert_eq!(drifted(&previous, &next).collect::<Vec<_>>(), expected);
            };
        let (one, two) = ("2026-01-15T09:30:00Z", "2026-01-15T09:40:00Z");
        check(&[], &[("title", &[])], &[("title", 1)]);
        check(&[("title", &[])], &[("title", &[]), ("name", &[])], &[("name", 1)]);
        check(&[], &[("title", &[one])], &[("title", 1)]);
        check(&[("title", &[one])], &[("title", &[one])], &[]);
        check(&[("title", &[one])], &[("title", &[one, two])], &[("title", 1)]);
        // The oldest is forgotten.
        check(&[("title", &[one])], &[("title", &[two])], &[("title", 1)]);
        check(&[("title", &[one])], &[], &[]);
    }

    #[test]
    fn only_what_has_waited_for_its_owner_was_confirmed() {
        let since = |before: &[&str], after: &[&str]| {
            let [before, after] =
                [before, after].map(|texts| status(json!({ "conditions": conditions(texts) })));
            confirmed_since(&before, &after, "EmailVerified").is_some()
        };
        let (waits, confirmed) =
            ("EmailVerified=False VerificationSent", "EmailVerified=True Verified");
        assert!(since(&[waits], &[confirmed]));
        assert!(!since(&[confirmed], &[confirmed]) && !since(&[waits], &[waits]));
        // Nobody knew, as after a failure of the directory; or it was adopted as it is.
        assert!(!since(&["EmailVerified=Unknown NotSynced"], &[confirmed]));
        assert!(!since(&[], &[confirmed]));
    }
}
