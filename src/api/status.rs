//! From what is known to a status: pure, and the same input gives the same status. Nothing in a
//! status ticks while nothing happens.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::contact_policy::{
    ContactPolicyStatus, CoverageStatus, PolicyCounts, VIOLATIONS_MAX, ViolationStatus,
};
use super::message_contact::{
    ChannelStatus, CreationStatus, DIFFERENCE_CHARS_MAX, DRIFT_MAX, DriftStatus, LastErrorStatus,
    LastWriteStatus, MessageContactStatus, OBSERVED_LIST_MAX, ObservedStatus, Private, REVERTS_MAX,
    VerificationStatus,
};
use super::parse::echo;
use super::resource_directory::{
    ContactCounts, ResourceDirectoryStatus, TargetSends, UNMANAGED_MAX, UnmanagedContact,
    VerificationSends,
};
use super::schema::{ID_CHARS_MAX, MESSAGE_CHARS_MAX, OBJECT_NAME_CHARS_MAX, WORD_CHARS_MAX};
use crate::domain::call::DirectoryIdentity;
use crate::domain::contact::{
    ContactId, ContactName, Difference, MemberId, ObservedContact, Recorded, Revert,
};
use crate::domain::ledger::Ledger;
use crate::domain::verdict::{Finding, Reason, Status, Verdict};
use crate::domain::verification::{
    ChannelOutlook, ChannelRecord, Outlook, Verification, whole_second,
};

/// Everything that the status of a contact is made from, beside the previous status.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// The generation of the spec that was judged.
    pub generation: i64,
    /// The ResourceDirectory of the contact; `None` keeps the one of the previous status.
    pub directory: Option<&'a str>,
    /// What must be remembered.
    pub recorded: &'a Recorded,
    /// The contact as the cloud shows it; `None` if it was not seen now. What was seen of a
    /// contact that the object still holds is kept then, its differences as well.
    pub observed: Option<&'a ObservedContact>,
    /// What differs, in the order in which it is shown.
    pub differences: &'a [Difference],
    /// What is to be seen of the channels.
    pub outlook: &'a Outlook,
    /// What is said about the contact.
    pub verdict: &'a Verdict,
    /// The text of the annotation that asked for a reconcile, if there is one: it counts as
    /// handled. `None` keeps what was handled before.
    pub handled_requested_at: Option<&'a str>,
    /// The same of the annotation that asked for one more verification message.
    pub handled_resend_at: Option<&'a str>,
}

/// The status of a contact.
#[must_use]
pub fn contact(
    previous: &MessageContactStatus,
    facts: &Facts<'_>,
    now: Timestamp,
) -> MessageContactStatus {
    let Facts {
        generation,
        directory,
        recorded,
        observed,
        differences,
        outlook,
        verdict,
        handled_requested_at,
        handled_resend_at,
    } = *facts;
    let Recorded {
        directory_id,
        contact_id,
        creation,
        last_write,
        last_error,
        verification,
        reverts,
    } = recorded;
    let contact_id = contact_id.as_ref().map(|id| cut(id.as_str(), ID_CHARS_MAX));
    let unseen = observed.is_none() || is_suspended(verdict);
    let unseen_but_held = unseen && contact_id.is_some() && contact_id == previous.contact_id;
    MessageContactStatus {
        observed_generation: Some(generation),
        last_handled_reconcile_at: handled(
            handled_requested_at,
            previous.last_handled_reconcile_at.as_ref(),
        ),
        last_handled_resend_at: handled(
            handled_resend_at,
            previous.last_handled_resend_at.as_ref(),
        ),
        directory: directory
            .map(|name| cut(name, OBJECT_NAME_CHARS_MAX))
            .or_else(|| previous.directory.clone()),
        directory_id: directory_id.as_ref().map(|id| cut(id.as_str(), ID_CHARS_MAX)),
        contact_id,
        creation: creation.as_ref().map(|creation| CreationStatus {
            name: cut(creation.name.as_str(), WORD_CHARS_MAX).into(),
            hash: cut(&creation.hash, WORD_CHARS_MAX),
            at: creation.at,
        }),
        observed: match observed {
            _ if unseen_but_held => previous.observed.clone(),
            Some(observed) => Some(shown(observed)),
            None => None,
        },
        drift: if unseen_but_held || is_suspended(verdict) {
            previous.drift.clone()
        } else {
            drift(&previous.drift, differences, reverts, now)
        },
        last_write: last_write.as_ref().map(|write| LastWriteStatus {
            hash: cut(&write.hash, WORD_CHARS_MAX),
            mismatches: write.mismatches.into(),
        }),
        verification: channels(verification, outlook),
        last_error: last_error.as_ref().map(|error| LastErrorStatus {
            code: cut(&error.code, WORD_CHARS_MAX),
            action: cut(&error.action, WORD_CHARS_MAX),
            generation: error.generation,
        }),
        conditions: contact_conditions(&previous.conditions, verdict, generation, now),
    }
}

fn contact_conditions(
    previous: &[Condition],
    verdict: &Verdict,
    generation: i64,
    now: Timestamp,
) -> Vec<Condition> {
    if is_suspended(verdict) {
        return suspended_conditions(previous, &verdict.synced, generation, now);
    }
    let render =
        |type_: &str, finding: &Finding| condition(previous, type_, finding, generation, now);
    let findings = verdict.findings();
    let mut conditions: Vec<Condition> =
        findings.map(|(type_, finding)| render(type_, finding)).collect();
    let ready = verdict.ready();
    conditions.push(render("Ready", ready));
    conditions.extend(progress(previous, ready, generation, now));
    conditions
}

/// Nothing is looked at: everybody goes on seeing what held before, and only `Synced` says why.
fn suspended_conditions(
    previous: &[Condition],
    synced: &Finding,
    generation: i64,
    now: Timestamp,
) -> Vec<Condition> {
    let render = |type_: &str| condition(previous, type_, synced, generation, now);
    let ends = ["Synced", "Reconciling", "Stalled"];
    let kept = previous.iter().filter(|last| !ends.contains(&last.type_.as_str()));
    let mut conditions = vec![render("Synced")];
    conditions.extend(
        kept.map(|last| Condition { observed_generation: Some(generation), ..last.clone() }),
    );
    if conditions.iter().all(|condition| condition.type_ != "Ready") {
        conditions.push(render("Ready"));
    }
    conditions
}

fn is_suspended(verdict: &Verdict) -> bool {
    verdict.synced.reason == Reason::Suspended
}

/// Everything that the status of a directory is made from, beside the previous status.
#[derive(Debug, Clone, Copy)]
pub struct DirectoryFacts<'a> {
    /// The generation of the spec that was judged.
    pub generation: i64,
    /// The directory that answered; `None` keeps the one of the previous status.
    pub identity: Option<&'a DirectoryIdentity>,
    /// How many contacts there are; `None` keeps what was counted before.
    pub contacts: Option<ContactCounts>,
    /// The contacts that no MessageContact holds, in any number; `None` keeps the previous ones.
    pub unmanaged: Option<&'a [(ContactId, ContactName)]>,
    /// The verification messages of the directory; `None` keeps what was written down before.
    pub ledger: Option<&'a Ledger>,
    /// Whether the directory answers.
    pub ready: &'a Finding,
    /// Whether the API asked to slow down; `None` while it never did.
    pub throttled: Option<&'a Finding>,
    /// The text of the annotation that asked for a reconcile, if there is one: it counts as
    /// handled. `None` keeps what was handled before.
    pub handled_requested_at: Option<&'a str>,
}

/// The status of a directory.
#[must_use]
pub fn directory(
    previous: &ResourceDirectoryStatus,
    facts: &DirectoryFacts<'_>,
    now: Timestamp,
) -> ResourceDirectoryStatus {
    let DirectoryFacts {
        generation,
        identity,
        contacts,
        unmanaged,
        ledger,
        ready,
        throttled,
        handled_requested_at,
    } = *facts;
    let (directory_id, management_account_id, root_folder_id) = match identity {
        Some(DirectoryIdentity { directory_id, root_folder_id, management_account_id }) => (
            Some(cut(directory_id.as_str(), WORD_CHARS_MAX)),
            Some(cut(management_account_id.as_str(), WORD_CHARS_MAX)),
            Some(cut(root_folder_id.as_str(), WORD_CHARS_MAX)),
        ),
        None => (
            previous.directory_id.clone(),
            previous.management_account_id.clone(),
            previous.root_folder_id.clone(),
        ),
    };
    let render = |type_: &str, finding: &Finding| {
        condition(&previous.conditions, type_, finding, generation, now)
    };
    let mut conditions = vec![render("Ready", ready)];
    conditions.extend(throttled.map(|finding| render("Throttled", finding)));
    conditions.extend(progress(&previous.conditions, ready, generation, now));
    ResourceDirectoryStatus {
        observed_generation: Some(generation),
        last_handled_reconcile_at: handled(
            handled_requested_at,
            previous.last_handled_reconcile_at.as_ref(),
        ),
        directory_id,
        management_account_id,
        root_folder_id,
        contacts: contacts.or(previous.contacts),
        unmanaged: match unmanaged {
            None => previous.unmanaged.clone(),
            Some(contacts) => contacts
                .iter()
                .take(UNMANAGED_MAX)
                .map(|(id, name)| UnmanagedContact {
                    contact_id: cut(id.as_str(), WORD_CHARS_MAX),
                    name: cut(name.as_str(), WORD_CHARS_MAX).into(),
                })
                .collect(),
        },
        verification_sends: ledger.map_or_else(|| previous.verification_sends.clone(), sends),
        conditions,
    }
}

/// Everything that the status of a policy is made from, beside the previous status.
#[derive(Debug, Clone)]
pub struct PolicyFacts<'a> {
    /// The generation of the spec that was judged.
    pub generation: i64,
    /// How many contacts there are; `None`: nothing was counted.
    pub contacts: Option<PolicyCounts>,
    /// What is not as demanded, in any number.
    pub violations: Vec<ViolationStatus>,
    /// What `coverage` demands and what there is.
    pub coverage: Vec<CoverageStatus>,
    /// Whether the policy was evaluated.
    pub ready: &'a Finding,
    /// Whether everything that it demands holds.
    pub compliant: &'a Finding,
    /// The text of the annotation that asked for a reconcile, if there is one.
    pub handled_requested_at: Option<&'a str>,
}

/// The status of a policy.
#[must_use]
pub fn policy(
    previous: &ContactPolicyStatus,
    facts: PolicyFacts<'_>,
    now: Timestamp,
) -> ContactPolicyStatus {
    let PolicyFacts {
        generation,
        contacts,
        mut violations,
        coverage,
        ready,
        compliant,
        handled_requested_at,
    } = facts;
    let render = |type_: &str, finding: &Finding| {
        condition(&previous.conditions, type_, finding, generation, now)
    };
    let mut conditions = vec![render("Ready", ready), render("Compliant", compliant)];
    conditions.extend(progress(&previous.conditions, ready, generation, now));
    violations.truncate(VIOLATIONS_MAX);
    for violation in &mut violations {
        violation.message = cut(&violation.message, MESSAGE_CHARS_MAX);
    }
    ContactPolicyStatus {
        observed_generation: Some(generation),
        last_handled_reconcile_at: handled(
            handled_requested_at,
            previous.last_handled_reconcile_at.as_ref(),
        ),
        contacts,
        violations,
        coverage,
        conditions,
    }
}

/// The verification messages of a directory; left out while nothing was sent.
#[must_use]
pub fn sends(ledger: &Ledger) -> Option<VerificationSends> {
    let Ledger { day, count, exhausted_until, recent, key, lost_at } = ledger;
    let time = |at: Timestamp| Time(whole_second(at));
    let used = day.is_some() || exhausted_until.is_some();
    used.then(|| VerificationSends {
        day: day.map(|day| day.to_string()).unwrap_or_default(),
        count: (*count).into(),
        exhausted_until: exhausted_until.map(time),
        recent: recent
            .iter()
            .map(|sends| TargetSends {
                target: cut(&sends.target, WORD_CHARS_MAX),
                contact: cut(&sends.contact, WORD_CHARS_MAX),
                count: sends.count.into(),
                last_time: Some(time(sends.last)),
            })
            .collect(),
        hash_key: key.as_ref().map(|key| cut(key, WORD_CHARS_MAX)),
        hash_key_lost_time: lost_at.map(time),
    })
}

/// kstatus' `Reconciling` or `Stalled`: present only while true.
fn progress(
    previous: &[Condition],
    ready: &Finding,
    generation: i64,
    now: Timestamp,
) -> Option<Condition> {
    if ready.status == Status::True || ready.reason == Reason::Suspended {
        return None;
    }
    let type_ = if ready.reason.stalls() { "Stalled" } else { "Reconciling" };
    let finding = Finding::met(ready.reason, ready.message.clone());
    Some(condition(previous, type_, &finding, generation, now))
}

/// One condition. Its `lastTransitionTime` moves only when its `status` moves.
fn condition(
    previous: &[Condition],
    type_: &str,
    finding: &Finding,
    generation: i64,
    now: Timestamp,
) -> Condition {
    let Finding { status, reason, message } = finding;
    let last = previous.iter().find(|last| last.type_ == type_);
    let kept = last.filter(|last| last.status == status.as_str());
    Condition {
        type_: type_.to_owned(),
        status: status.as_str().to_owned(),
        reason: reason.as_str().to_owned(),
        message: cut(message, MESSAGE_CHARS_MAX),
        last_transition_time: kept
            .map_or_else(|| Time(whole_second(now)), |last| last.last_transition_time.clone()),
        observed_generation: Some(generation),
    }
}

/// What differs, and what differed not long ago.
fn drift(
    previous: &[DriftStatus],
    differences: &[Difference],
    reverts: &[Revert],
    now: Timestamp,
) -> Vec<DriftStatus> {
    let entry = |difference: &Difference, since: Timestamp, times: &[Timestamp]| DriftStatus {
        field: difference.field.as_str().to_owned(),
        desired: cut(&difference.desired, DIFFERENCE_CHARS_MAX).into(),
        observed: cut(&difference.observed, DIFFERENCE_CHARS_MAX).into(),
        since: Time(whole_second(since)),
        reverts: times
            .iter()
            .skip(times.len().saturating_sub(REVERTS_MAX))
            .map(|at| Time(whole_second(*at)))
            .collect(),
    };
    let differs = differences.iter().map(|difference| {
        let field = difference.field.as_str();
        let last = previous.iter().find(|last| last.field == field);
        let since = last.map_or(now, |last| last.since.0);
        let known = reverts.iter().find(|revert| revert.difference.field == difference.field);
        entry(difference, since, known.map(|revert| revert.times.as_slice()).unwrap_or_default())
    });
    let differed = reverts
        .iter()
        .filter(|revert| differences.iter().all(|now| now.field != revert.difference.field))
        .map(|revert| entry(&revert.difference, revert.since, &revert.times));
    differs.chain(differed).take(DRIFT_MAX).collect()
}

fn channels(verification: &Verification, outlook: &Outlook) -> Option<VerificationStatus> {
    let Verification { email, phone } = verification;
    let channel = |record: &ChannelRecord, outlook: &ChannelOutlook| {
        let ChannelRecord { target, state, sends, last_sent, evidence, verified_target } = record;
        ChannelStatus {
            state: state.as_str().to_owned(),
            sends: (*sends).into(),
            last_sent_time: last_sent.map(|at| Time(whole_second(at))),
            next_send_time: outlook.next_send.map(|at| Time(whole_second(at))),
            target: Some(cut(target, WORD_CHARS_MAX)),
            evidence: evidence.map(|evidence| evidence.as_str().to_owned()),
            verified_target: verified_target.as_deref().map(|hash| cut(hash, WORD_CHARS_MAX)),
            waiting: outlook.waiting.as_deref().map(|masked| cut(masked, WORD_CHARS_MAX)),
        }
    };
    let status = VerificationStatus {
        email: email.as_ref().map(|record| channel(record, &outlook.email)),
        phone: phone.as_ref().map(|record| channel(record, &outlook.phone)),
    };
    (status != VerificationStatus::default()).then_some(status)
}

fn shown(observed: &ObservedContact) -> ObservedStatus {
    let ObservedContact { id: _, name, email, phone, title, message_types, members, status } =
        observed;
    let list = |texts: &mut dyn Iterator<Item = &str>| {
        texts.take(OBSERVED_LIST_MAX).map(|text| cut(text, WORD_CHARS_MAX)).collect()
    };
    ObservedStatus {
        name: Private::from(cut(name.as_str(), WORD_CHARS_MAX)),
        title: cut(title, WORD_CHARS_MAX),
        email_address: email.as_ref().map(|email| cut(&email.to_string(), WORD_CHARS_MAX)),
        phone_number: phone.as_ref().map(|phone| cut(&phone.to_string(), WORD_CHARS_MAX)),
        message_types: list(&mut message_types.iter().map(String::as_str)),
        members: list(&mut members.iter().map(MemberId::as_str)),
        status: cut(status.as_str(), WORD_CHARS_MAX),
    }
}

fn handled(now: Option<&str>, before: Option<&String>) -> Option<String> {
    now.map(|text| echo(text).to_owned()).or_else(|| before.cloned())
}

/// The first so many characters.
fn cut(text: &str, chars_max: usize) -> String {
    text.chars().take(chars_max).collect()
}
