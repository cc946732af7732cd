//! Bindings: the contact is bound to exactly the members that its spec names.
//!
//! ```text
//!   differs --one call, at most five ids--> unread --Get--> agrees, or differs
//!    |   |
//!    |   +-- refused because of one of several ids, or of their number: each of them goes alone
//!    |          +-- refused alone: named; an unknown one is tried again every few minutes
//!    +-- taken twice, and shows no effect: reported, and not repeated
//! ```
//! It stands beside the fields: whatever keeps these from being written keeps no binding from it,
//! and the other way round.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;

use jiff::{SignedDuration, Timestamp};

use super::setback::{self, Setback};
use super::{Input, Plan, Step, Urgency, forbidding, reverts, updating, urgency};
use crate::domain::call::{Action, Call, CallError, FailureClass};
use crate::domain::contact::{
    ContactStatus, DesiredContact, Difference, Field, MemberId, Mode, ObservedContact,
};
use crate::domain::snapshot::Entry;
use crate::domain::verdict::{Finding, Reason, Status};

/// Most ids of one call. Source: RPC reference of `AssociateMembers` and `DisassociateMembers`.
const IDS_PER_CALL_MAX: usize = 5;

/// How many members a contact can be bound to today. It is only used to choose what goes first: the
/// limit may change, and the cloud says when it is reached. Source: as [`IDS_PER_CALL_MAX`].
const MEMBERS_USUALLY_MAX: usize = 10;

/// How often a call for an id is made that is taken and shows no effect.
const CALLS_MAX: u32 = 2;

/// Pause before that is tried again which somebody else has to help: an account joins the directory,
/// an owner confirms.
const RETRY_PAUSE: SignedDuration = SignedDuration::from_mins(5);

/// Ids named in a message; the rest is counted.
const IDS_SHOWN: usize = 12;

/// What this process knows of its calls for the bindings of one contact. A restart forgets it: then
/// what was refused is tried once more.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attempts {
    /// The generation of the spec for which they were made.
    generation: i64,
    /// The contact's status when the last call was planned.
    status: Option<ContactStatus>,
    /// The last call that failed, for a reason that is none of a single id.
    setback: Option<Setback>,
    /// Ids of calls that were refused because of one of several, or of their number: each goes
    /// alone.
    alone: BTreeSet<MemberId>,
    /// Ids that were refused alone.
    refused: BTreeMap<MemberId, Refusal>,
    /// How often a call for an id was taken and the id then still differed.
    taken: BTreeMap<MemberId, u32>,
    /// Ids that have differed ever since this spec was first looked at, or since a call that took
    /// somebody's change back. Whatever else differs was changed by somebody since.
    open: BTreeSet<MemberId>,
    /// Ids that somebody has changed and that the call being made changes back.
    taking_back: BTreeSet<MemberId>,
}

/// Why an id was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refusal {
    /// It is not in the directory; said at that time.
    Unknown(Timestamp),
    /// It is no id to the cloud: final for this generation of the spec.
    Malformed,
}

impl Refusal {
    fn again_at(self) -> Option<Timestamp> {
        match self {
            Self::Unknown(at) => Some(at.saturating_add(RETRY_PAUSE).unwrap_or(Timestamp::MAX)),
            Self::Malformed => None,
        }
    }
}

impl Attempts {
    /// Takes in how a call for the bindings ended; the plan that made it MUST have these attempts.
    #[must_use]
    pub fn after(&self, call: &Call, error: Option<&CallError>, now: Timestamp) -> Self {
        let mut next = self.clone();
        let taking_back = mem::take(&mut next.taking_back);
        let Some(ids) = call.members() else { return next };
        let Some(error) = error else {
            for id in ids {
                next.alone.remove(id);
                next.refused.remove(id);
                *next.taken.entry(id.clone()).or_default() += 1;
            }
            next.open.extend(taking_back);
            next.setback = None;
            return next;
        };
        let of_one_id = match error.class {
            // Binding again what is bound may be refused (A18). It was read and differed, so
            // somebody was faster, or the cloud shows more than is bound (A26): it is read again.
            FailureClass::InvalidInput if is_duplicate(error) => {
                for id in ids {
                    *next.taken.entry(id.clone()).or_default() += u32::from(ids.len() == 1);
                }
                None
            }
            FailureClass::InvalidInput => Some(Refusal::Malformed),
            FailureClass::UnknownMember => Some(Refusal::Unknown(now)),
            // There may be room for some of them.
            FailureClass::Quota if ids.len() > 1 => None,
            FailureClass::NameTaken
            | FailureClass::ClientBug
            | FailureClass::WrongState
            | FailureClass::Conflict
            | FailureClass::Throttled
            | FailureClass::Quota
            | FailureClass::SendsExhausted
            | FailureClass::ContactNotFound
            | FailureClass::NothingPending
            | FailureClass::NoDirectory
            | FailureClass::NotFound
            | FailureClass::Credentials
            | FailureClass::TokenExpired
            | FailureClass::Clock(_)
            | FailureClass::NoKeys(_)
            | FailureClass::Permission
            | FailureClass::Unavailable
            | FailureClass::OutcomeUnknown => {
                let before = self.setback.as_ref();
                next.setback = Some(Setback::after(before, error, self.generation, now));
                return next;
            }
        };
        next.setback = None;
        if ids.len() > 1 {
            next.alone.extend(ids.iter().cloned());
        } else if let Some(refusal) = of_one_id {
            next.refused.extend(ids.iter().map(|id| (id.clone(), refusal)));
        }
        next
    }

    /// What still counts: for this spec, and of ids that still differ. `fought` says that it is
    /// remembered how somebody changed this very list.
    fn about(&self, generation: i64, fought: bool, gap: &Gap<'_>) -> Self {
        if self.generation != generation {
            let open = if fought { BTreeSet::new() } else { gap.ids().cloned().collect() };
            return Self { generation, open, ..Self::default() };
        }
        if gap.is_empty() {
            return Self { generation, ..Self::default() };
        }
        let mut kept = self.clone();
        kept.alone.retain(|id| gap.has(id));
        kept.refused.retain(|id, _| gap.has(id));
        kept.taken.retain(|id, _| gap.has(id));
        kept.open.retain(|id| gap.has(id));
        kept
    }

    /// Whether a call for the id may be made now.
    fn allow(&self, id: &MemberId, now: Timestamp) -> bool {
        let refused = self.refused.get(id);
        self.taken_for(id) < CALLS_MAX
            && refused.is_none_or(|refused| refused.again_at().is_some_and(|at| now >= at))
    }

    fn taken_for(&self, id: &MemberId) -> u32 {
        self.taken.get(id).copied().unwrap_or(0)
    }

    /// The ids of the next call: those that nothing was said against go together and first.
    fn batch(&self, ids: &[&MemberId], now: Timestamp) -> BTreeSet<MemberId> {
        let suspect = |id: &MemberId| self.alone.contains(id) || self.refused.contains_key(id);
        let open = || ids.iter().copied().filter(|id| self.allow(id, now)).cloned();
        let good: BTreeSet<_> = open().filter(|id| !suspect(id)).take(IDS_PER_CALL_MAX).collect();
        if good.is_empty() { open().take(1).collect() } else { good }
    }

    /// Why a call may not be made now, and until when. A limit on bindings is none on taking them
    /// out.
    fn held(&self, contact: &ObservedContact, action: Action, now: Timestamp) -> Option<Held<'_>> {
        let setback = self.setback.as_ref()?;
        let past_limit = setback.error.class == FailureClass::Quota;
        let wrong_state = is_wrong_state(setback);
        let other_state = self.status.as_ref() != Some(&contact.status);
        if (past_limit && action != setback.error.action) || (wrong_state && other_state) {
            return None;
        }
        let until = if wrong_state {
            setback.at.saturating_add(RETRY_PAUSE).ok()?
        } else {
            setback.again_at()?
        };
        (now < until).then_some(Held { setback, until })
    }
}

/// A failed call that keeps the next one from being made.
struct Held<'a> {
    setback: &'a Setback,
    until: Timestamp,
}

/// What is between the spec and the cloud.
#[derive(Clone)]
struct Gap<'a> {
    /// Named by the spec, and not shown. Ids sort from accounts over folders to the directory:
    /// bound in this order, no folder hides an account that is yet to be bound (A26).
    missing: Vec<&'a MemberId>,
    /// Shown, and not named by the spec. The other way round, for the same reason.
    extra: Vec<&'a MemberId>,
}

impl<'a> Gap<'a> {
    fn between(members: &'a BTreeSet<MemberId>, shown: &'a BTreeSet<MemberId>) -> Self {
        Self {
            missing: members.difference(shown).collect(),
            extra: shown.difference(members).collect::<Vec<_>>().into_iter().rev().collect(),
        }
    }

    fn is_empty(&self) -> bool {
        self.missing.is_empty() && self.extra.is_empty()
    }

    fn ids(&self) -> impl Iterator<Item = &'a MemberId> {
        self.missing.iter().chain(&self.extra).copied()
    }

    fn has(&self, id: &MemberId) -> bool {
        self.ids().any(|other| other == id)
    }

    fn without(mut self, ids: &BTreeSet<MemberId>) -> Self {
        self.missing.retain(|id| !ids.contains(*id));
        self.extra.retain(|id| !ids.contains(*id));
        self
    }
}

/// Adds what is to be done for the bindings, and what is said of them, to the plan for everything
/// else of a contact that was read.
pub(super) fn beside(
    input: &Input<'_>,
    wanted: &DesiredContact,
    entry: &Entry,
    plan: Plan,
    now: Timestamp,
) -> Plan {
    let Some(members) = &wanted.members else { return plan };
    let contact = entry.contact.as_ref();
    let gap = Gap::between(members, &contact.members);
    let difference = difference(members, &contact.members);
    let reverts = &input.recorded.reverts;
    let fought = reverts.iter().any(|revert| {
        let Difference { field, desired, observed: _ } = &revert.difference;
        *field == Field::Members && *desired == difference.desired
    });
    let attempts = input.attempts.about(input.generation, fought, &gap);
    let plan = Plan { attempts, ..plan };
    if plan.step.is_some() {
        return plan;
    }
    if gap.is_empty() {
        return said(plan, met(members));
    }
    if wanted.mode == Mode::ReportOnly {
        let message = format!(
            "the contact is bound to other members than the spec names; see `status.drift`, and {} \
             forbids to write",
            forbidding(input)
        );
        return with_drift(said(plan, Finding::unmet(Reason::Drifted, message)), difference);
    }
    if contact.name != wanted.name {
        // As long as it cannot be renamed, it may be meant for somebody else than the spec is.
        return plan;
    }
    let drifted: BTreeSet<_> =
        gap.ids().filter(|id| !plan.attempts.open.contains(*id)).cloned().collect();
    let contested = !drifted.is_empty() && reverts::is_contested(reverts, Field::Members, now);
    let left = if contested { gap.clone().without(&drifted) } else { gap.clone() };
    let Some(call) = next_call(&plan.attempts, contact, &left, now) else {
        let contested = contested.then(|| reverts::contested([Field::Members]));
        let plan = stuck(input, plan, members, contact, &gap, contested, now);
        let in_sync = plan.verdict.bound.as_ref().is_some_and(|it| it.status == Status::True);
        return if in_sync { plan } else { with_drift(plan, difference) };
    };
    if setback::is_crowded_out(&plan) {
        let finding = plan.verdict.synced.clone();
        return with_drift(said(plan, finding), difference);
    }
    let has_any =
        |of: &dyn Fn(&MemberId) -> bool| call.members().is_some_and(|ids| ids.iter().any(of));
    let retries = has_any(&|id| plan.attempts.refused.contains_key(id));
    let takes_back = has_any(&|id| drifted.contains(id));
    let urgency = if retries { Urgency::Repair } else { urgency(input) };
    let mut plan = said(plan, updating("the bindings are put right"));
    plan.attempts.status = Some(contact.status.clone());
    if takes_back {
        // However many calls it takes, it is one change that is taken back.
        plan.record.reverts = reverts::noted(plan.record.reverts, [difference], now);
        plan.attempts.taking_back = drifted;
    }
    Plan { step: Some(Step::Call(call, urgency)), ..plan }
}

/// At most five ids of one kind. What is to be added goes first, so that the person hears of
/// everything in between, unless there is no room for it.
fn next_call(
    attempts: &Attempts,
    contact: &ObservedContact,
    gap: &Gap<'_>,
    now: Timestamp,
) -> Option<Call> {
    let ready = |ids: &[&MemberId], action| match attempts.held(contact, action, now) {
        Some(_) => BTreeSet::new(),
        None => attempts.batch(ids, now),
    };
    let bind = ready(&gap.missing, Action::AssociateMembers);
    let unbind = ready(&gap.extra, Action::DisassociateMembers);
    let fits = contact.members.len() + bind.len() <= MEMBERS_USUALLY_MAX;
    let id = contact.id.clone();
    if !bind.is_empty() && (fits || unbind.is_empty()) {
        Some(Call::AssociateMembers(id, bind))
    } else if !unbind.is_empty() {
        Some(Call::DisassociateMembers(id, unbind))
    } else {
        None
    }
}

/// Something differs, and nothing can be done about it now.
fn stuck(
    input: &Input<'_>,
    plan: Plan,
    members: &BTreeSet<MemberId>,
    contact: &ObservedContact,
    gap: &Gap<'_>,
    contested: Option<Finding>,
    now: Timestamp,
) -> Plan {
    let attempts = &plan.attempts;
    let mut problems = problems(attempts, members, gap);
    let retries = gap.ids().filter_map(|id| attempts.refused.get(id)?.again_at());
    let mut rechecks: Vec<Timestamp> = retries.filter(|at| now < *at).collect();
    let held = [Action::AssociateMembers, Action::DisassociateMembers]
        .into_iter()
        .find_map(|action| attempts.held(contact, action, now))
        .filter(|_| gap.ids().any(|id| attempts.allow(id, now)));
    problems.extend(contested);
    if let Some(Held { setback, until }) = held {
        problems.push(why_held(input, contact, gap, setback));
        rechecks.push(until);
    }
    let Some(first) = problems.first() else {
        let message = "the contact is bound to what `members` names; the cloud shows further ids \
                       that cannot be unbound, as if they followed from a folder or the directory \
                       that it is bound to";
        return said(plan, Finding::met(Reason::InSync, message));
    };
    let messages: Vec<&str> = problems.iter().map(|finding| finding.message.as_str()).collect();
    let finding = Finding::unmet(first.reason, messages.join("; "));
    let recheck_at = plan.recheck_at.into_iter().chain(rechecks).min();
    Plan { recheck_at, ..said(plan, finding) }
}

/// What is known to be wrong with single ids.
fn problems(attempts: &Attempts, members: &BTreeSet<MemberId>, gap: &Gap<'_>) -> Vec<Finding> {
    let refused = |ids: &[&MemberId], unknown: bool| -> Vec<MemberId> {
        let is = |id: &&&MemberId| match attempts.refused.get(**id) {
            Some(Refusal::Unknown(_)) => unknown,
            Some(Refusal::Malformed) => !unknown,
            None => false,
        };
        ids.iter().filter(is).map(|id| (*id).clone()).collect()
    };
    let ineffective =
        |id: &MemberId| attempts.taken_for(id) >= CALLS_MAX && !attempts.refused.contains_key(id);
    let unshown: Vec<_> =
        gap.missing.iter().filter(|id| ineffective(id)).map(|id| (*id).clone()).collect();
    let kept = gap.extra.iter().filter(|id| ineffective(id) && !may_follow(id, members)).count();
    let (malformed, unknown) = (refused(&gap.missing, false), refused(&gap.missing, true));
    let stays = refused(&gap.extra, false).len() + refused(&gap.extra, true).len();
    let mut found = Vec::new();
    if !malformed.is_empty() {
        let ids = shown(&malformed);
        let message = format!("the cloud takes no such ids: {ids}; correct `members`");
        found.push(Finding::unmet(Reason::InvalidContact, message));
    }
    if !unknown.is_empty() {
        let message = format!(
            "not in the directory: {}; correct `members`, or wait: it is tried again every few \
             minutes, as accounts join later",
            shown(&unknown)
        );
        found.push(Finding::unmet(Reason::UnknownMember, message));
    }
    if stays > 0 {
        let message = format!(
            "the cloud refuses to unbind {stays} of the ids that `members` does not name: it does \
             not know them as members; it is tried again every few minutes"
        );
        found.push(Finding::unmet(Reason::UnknownMember, message));
    }
    if !unshown.is_empty() || kept > 0 {
        let message = "the cloud took the change of the bindings and still shows others; see \
                       `status.drift`; it is not repeated";
        found.push(Finding::unmet(Reason::DriftContested, message));
    }
    found
}

/// Why what could be done is not done now.
fn why_held(
    input: &Input<'_>,
    contact: &ObservedContact,
    gap: &Gap<'_>,
    setback: &Setback,
) -> Finding {
    let code = setback.error.code.as_ref().map_or("", |code| code.as_str());
    if setback.error.class == FailureClass::Quota {
        let missing: Vec<_> = gap.missing.iter().map(|id| (*id).clone()).collect();
        let message = format!(
            "the cloud binds the contact to no more members ({code}); not bound: {}; take others \
             out, or have the limit raised; it is tried again every few minutes",
            shown(&missing)
        );
        return Finding::unmet(Reason::QuotaExceeded, message);
    }
    if is_wrong_state(setback) && contact.status == ContactStatus::Verifying {
        let message = format!(
            "the cloud binds the contact only once its owner has confirmed ({code}); it goes on by \
             itself then"
        );
        return Finding::unmet(Reason::VerificationPending, message);
    }
    setback::finding(input, setback)
}

fn met(members: &BTreeSet<MemberId>) -> Finding {
    let message = if members.is_empty() {
        "the contact is bound to nothing, as `members: []` says"
    } else {
        "the contact is bound to exactly what `members` names"
    };
    Finding::met(Reason::InSync, message)
}

/// Says it of the bindings, and of the contact if nothing else is wrong with it.
fn said(mut plan: Plan, bound: Finding) -> Plan {
    if bound.status != Status::True && plan.verdict.synced.status == Status::True {
        // What the contact waits for is told of its channels.
        let waits = bound.reason == Reason::VerificationPending;
        plan.verdict.synced = if waits { updating(&bound.message) } else { bound.clone() };
    }
    plan.verdict.bound = Some(bound);
    plan
}

fn with_drift(mut plan: Plan, difference: Difference) -> Plan {
    plan.drift.push(difference);
    plan
}

fn difference(members: &BTreeSet<MemberId>, shown: &BTreeSet<MemberId>) -> Difference {
    let words =
        |ids: &BTreeSet<MemberId>| ids.iter().map(MemberId::as_str).collect::<Vec<_>>().join(", ");
    Difference { field: Field::Members, desired: words(members), observed: words(shown) }
}

/// Whether an id that the cloud keeps showing may be one that a wanted folder or directory covers.
///
/// Unverified (A26): whether `Members` holds only what was bound directly. If it does, unbinding
/// takes effect, and this is never asked.
fn may_follow(id: &MemberId, members: &BTreeSet<MemberId>) -> bool {
    let rank = |id: &MemberId| match id.as_str() {
        id if id.starts_with("rd-") => 3,
        id if id.starts_with("r-") => 2,
        id if id.starts_with("fd-") => 1,
        _ => 0,
    };
    members.iter().any(|member| rank(member) > rank(id) || (rank(member) == 1 && rank(id) == 1))
}

fn is_duplicate(error: &CallError) -> bool {
    error.code.as_ref().is_some_and(|code| code.as_str() == "InvalidParameter.Members.Duplicate")
}

fn is_wrong_state(setback: &Setback) -> bool {
    setback.error.class == FailureClass::WrongState
}

fn shown(ids: &[MemberId]) -> String {
    let named: Vec<&str> = ids.iter().take(IDS_SHOWN).map(MemberId::as_str).collect();
    match ids.len().saturating_sub(IDS_SHOWN) {
        0 => named.join(", "),
        more => format!("{} and {more} more", named.join(", ")),
    }
}
