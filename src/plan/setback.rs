//! What a failed call means for the next step: when it may be tried again, and what is said.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::{AddFate, Connection, Desired, Input, Plan, Step, update, verdict, verify};
use crate::domain::call::{
    Action, Call, CallError, FailureClass, KeyCause, KeyFailure, PhoneChange,
};
use crate::domain::contact::{Difference, Field, LastError, LastWrite, Recorded};
use crate::domain::snapshot::Sight;
use crate::domain::verdict::{Finding, Reason, Verdict};

/// A call for this object that did not do its work. Kept until a call of that operation works or a
/// plan finds the contact in sync; it counts for the generation of the spec that it was made for. A
/// restart forgets it, except for what [`Recorded::last_error`] holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setback {
    /// What the cloud said.
    pub error: CallError,
    /// The generation of the spec for which the call was made.
    pub generation: i64,
    /// When it failed.
    pub at: Timestamp,
    /// How many times in a row, this one included.
    pub failures: u32,
}

/// What failed for one object, at most one setback a concern.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Setbacks(BTreeMap<Concern, Setback>);

/// Calls that hold each other back when one of them fails: others go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Concern {
    /// That read alone.
    Reading(Action),
    /// Whether the contact is there, and its fields.
    Contact,
    /// Asking the owner of the mailbox.
    Mail,
    /// Asking the owner of the phone.
    Text,
}

impl Concern {
    fn of(action: Action) -> Self {
        match action {
            Action::SendEmailVerificationForMessageContact => Self::Mail,
            Action::SendPhoneVerificationForMessageContact => Self::Text,
            Action::AddMessageContact
            | Action::UpdateMessageContact
            | Action::DeleteMessageContact
            | Action::AssociateMembers
            | Action::DisassociateMembers
            | Action::CancelMessageContactUpdate => Self::Contact,
            Action::GetMessageContact
            | Action::ListMessageContacts
            | Action::GetMessageContactDeletionStatus
            | Action::ListMessageContactVerifications
            | Action::GetResourceDirectory
            | Action::ListAccounts => Self::Reading(action),
        }
    }
}

impl Setbacks {
    /// The setback that concerns calls of that operation.
    #[must_use]
    pub fn of(&self, action: Action) -> Option<&Setback> {
        self.0.get(&Concern::of(action))
    }

    /// Takes in how a call ended: a setback of the same operation is forgotten when it worked.
    pub fn note(
        &mut self,
        action: Action,
        error: Option<&CallError>,
        generation: i64,
        now: Timestamp,
    ) {
        let concern = Concern::of(action);
        let before = self.0.remove(&concern);
        let next = match error {
            None => before.filter(|setback| setback.error.action != action),
            Some(error) => Some(Setback::after(before.as_ref(), error, generation, now)),
        };
        self.0.extend(next.map(|next| (concern, next)));
    }

    /// The contact is in sync: what failed before must not hold back a repair later. Messages to
    /// its owner, and looks at what waits for one, are another matter.
    pub fn settle(&mut self) {
        let look = Concern::Reading(Action::ListMessageContactVerifications);
        self.0.retain(|concern, _| {
            matches!(concern, Concern::Mail | Concern::Text) || *concern == look
        });
    }
}

impl From<Setback> for Setbacks {
    fn from(setback: Setback) -> Self {
        Self(BTreeMap::from([(Concern::of(setback.error.action), setback)]))
    }
}

/// Shortest pause after a call without a usable answer; doubled each time.
const RETRY_PAUSE_MIN: SignedDuration = SignedDuration::from_secs(1);
/// Longest pause between two tries, and the pause where only somebody else can help.
const RETRY_PAUSE_MAX: SignedDuration = SignedDuration::from_mins(5);

impl Setback {
    /// What is known after one more failure.
    pub(super) fn after(
        before: Option<&Self>,
        error: &CallError,
        generation: i64,
        now: Timestamp,
    ) -> Self {
        let again = before.filter(|setback| setback.generation == generation);
        let failures = again.map_or(1, |setback| setback.failures.saturating_add(1));
        Self { error: error.clone(), generation, at: now, failures }
    }

    /// When an operation may be tried again on which nothing else depends: a refusal of a value is
    /// not final there.
    pub(super) fn again_or_slowly(&self) -> Timestamp {
        let slowly = self.at.saturating_add(RETRY_PAUSE_MAX).unwrap_or(Timestamp::MAX);
        self.again_at().unwrap_or(slowly)
    }

    /// When the operation may be tried again; `None`: not before the spec changes.
    pub(super) fn again_at(&self) -> Option<Timestamp> {
        let doubled =
            1_i32.checked_shl(self.failures.saturating_sub(1).min(12)).unwrap_or(i32::MAX);
        let growing = RETRY_PAUSE_MIN.saturating_mul(doubled).min(RETRY_PAUSE_MAX);
        let pause = match self.error.class {
            FailureClass::InvalidInput => return None,
            // The lane has waited already; this is for the status to be written in between.
            FailureClass::Conflict | FailureClass::Throttled => RETRY_PAUSE_MIN,
            FailureClass::Unavailable
            | FailureClass::OutcomeUnknown
            | FailureClass::WrongState
            | FailureClass::Credentials
            | FailureClass::TokenExpired
            | FailureClass::Clock(_)
            | FailureClass::NoKeys(_)
            | FailureClass::NameTaken
            | FailureClass::ContactNotFound => growing,
            FailureClass::Permission
            | FailureClass::Quota
            | FailureClass::UnknownMember
            | FailureClass::SendsExhausted
            | FailureClass::NothingPending
            | FailureClass::NoDirectory
            | FailureClass::NotFound
            | FailureClass::ClientBug => RETRY_PAUSE_MAX,
        };
        let pause = pause.max(self.error.retry_after.unwrap_or(SignedDuration::ZERO));
        Some(self.at.saturating_add(pause).unwrap_or(Timestamp::MAX))
    }
}

/// Takes the step out of the plan if a failed call forbids it now, and says why.
pub(super) fn hold_back(input: &Input<'_>, plan: Plan, now: Timestamp) -> Plan {
    let plan = without_outdated_error(input, plan);
    let call = match &plan.step {
        // Bindings and messages have setbacks of their own.
        Some(Step::Call(call, _)) if call.members().is_some() || plan.send.is_some() => {
            return plan;
        }
        Some(Step::Call(call, _)) => call,
        Some(Step::Relist) => &Call::ListMessageContacts { page: 1 },
        Some(Step::TakeFinalizer | Step::ReleaseFinalizer | Step::AskDefinition) | None => {
            return plan;
        }
    };
    let setback = input.setbacks.of(call.action());
    let setback = setback.filter(|setback| setback.generation == input.generation);
    let write = !call.action().is_read();
    let last_error = plan.record.last_error.as_ref();
    let last_error = last_error.filter(|error| write && stands_against(input, &error.code, call));
    if let (Some(error), Desired::Present(_)) = (last_error, &input.desired) {
        let (finding, clears) = (refused(call, error), clears_phone(call));
        let plan = held(input, plan, finding, None);
        return if clears { not_removed(input, plan) } else { plan };
    }
    let Some(setback) = setback.filter(|setback| {
        let code = setback.error.code.as_ref().map_or("", |code| code.as_str());
        stands_against(input, code, call) && !is_of_another(input, setback, call)
    }) else {
        return plan;
    };
    if setback.error.class == FailureClass::NameTaken && outdated_list(input, setback) {
        // Nothing is written in this step, so nothing of a write is recorded with it.
        let record =
            Recorded { last_error: plan.record.last_error.clone(), ..input.recorded.clone() };
        return Plan { record, step: Some(Step::Relist), adopts: false, ..plan };
    }
    match (setback.again_at(), &input.desired) {
        (Some(again_at), _) if now >= again_at => plan,
        (Some(again_at), _) => {
            let finding = finding(input, setback);
            held(input, plan, finding, Some(again_at))
        }
        (None, Desired::Present(_)) => {
            let error = LastError {
                code: setback.error.code.as_ref().map_or("", |code| code.as_str()).to_owned(),
                action: setback.error.action.as_str().to_owned(),
                generation: setback.generation,
            };
            let (finding, clears) = (refused(call, &error), clears_phone(call));
            let record = Recorded { last_error: Some(error), ..plan.record.clone() };
            let plan = held(input, Plan { record, ..plan }, finding, None);
            if clears { not_removed(input, plan) } else { plan }
        }
        (None, Desired::Absent { .. } | Desired::Blocked(_)) => {
            let again_at = setback.at.saturating_add(RETRY_PAUSE_MAX).unwrap_or(Timestamp::MAX);
            if now >= again_at {
                return plan;
            }
            let finding = finding(input, setback);
            held(input, plan, finding, Some(again_at))
        }
    }
}

/// Whether the plan waits for others, who hold the directory or use up its rate: any other call would
/// be refused as well, and tried in turn with the first they would keep the status from being told.
pub(super) fn is_crowded_out(plan: &Plan) -> bool {
    let crowded =
        |finding: &Finding| matches!(finding.reason, Reason::CloudBusy | Reason::Throttled);
    let Verdict { synced, bound, .. } = &plan.verdict;
    plan.step.is_none() && (crowded(synced) || bound.as_ref().is_some_and(crowded))
}

/// An error counts for the spec that got it, and only while something is still to be written.
fn without_outdated_error(input: &Input<'_>, mut plan: Plan) -> Plan {
    plan.record.last_error.take_if(|error| error.generation != input.generation);
    plan
}

/// Whether a refusal with this code concerns the call. That a number is not taken out (A14) does
/// not: it went alone, and everything else is still put right.
fn stands_against(input: &Input<'_>, code: &str, call: &Call) -> bool {
    let of_clearing = code == PHONE_REFUSED
        && matches!(input.desired, Desired::Present(wanted) if wanted.phone.is_none());
    !of_clearing || clears_phone(call)
}

/// Whether the setback is that one contact is not there, and the call reads another one: it has the
/// wanted name, and may be taken over in place of the one that is gone.
fn is_of_another(input: &Input<'_>, setback: &Setback, call: &Call) -> bool {
    let Recorded { contact_id, creation, .. } = input.recorded;
    setback.error.class == FailureClass::ContactNotFound
        && creation.is_none()
        && matches!(call, Call::GetMessageContact(id) if contact_id.as_ref() != Some(id))
}

const PHONE_REFUSED: &str = "InvalidParameter.PhoneNumber";

fn clears_phone(call: &Call) -> bool {
    matches!(call, Call::UpdateMessageContact(_, changes) if changes.phone == Some(PhoneChange::Clear))
}

/// The cloud refused to take a number out: only the number differs, so all that was written before
/// reads back as it should.
fn not_removed(input: &Input<'_>, plan: Plan) -> Plan {
    let (Desired::Present(wanted), Connection::Open(view)) = (&input.desired, &input.connection)
    else {
        return plan;
    };
    let Some(Sight::Known(entry)) = &view.own else { return plan };
    let hash = input.hash_key.of_write(&entry.contact.id, wanted);
    let observed = entry.contact.phone.as_ref().map(ToString::to_string).unwrap_or_default();
    let kept = Difference { field: Field::PhoneNumber, desired: String::new(), observed };
    let record = Recorded { last_write: Some(LastWrite { hash, mismatches: 0 }), ..plan.record };
    Plan { record, drift: vec![kept], ..plan }
}

fn outdated_list(input: &Input<'_>, setback: &Setback) -> bool {
    match &input.connection {
        Connection::Open(view) => view.lists.last.is_none_or(|last| last <= setback.at),
        Connection::Closed(_) => false,
    }
}

/// The step is not taken now. What would have been recorded with it is not recorded either,
/// save for an error that stands until the spec changes. An intent under which certainly nothing
/// was made is dropped, unless it is about to be used: it must not be mistaken after a restart.
fn held(input: &Input<'_>, plan: Plan, finding: Finding, recheck_at: Option<Timestamp>) -> Plan {
    let soon = matches!(finding.reason, Reason::CloudBusy | Reason::Throttled);
    let unused =
        matches!(&input.connection, Connection::Open(view) if view.add == AddFate::NotMade);
    let record = Recorded {
        last_error: plan.record.last_error.clone(),
        creation: input.recorded.creation.clone().filter(|_| soon || !unused),
        ..input.recorded.clone()
    };
    let verdict = verdict(input, finding);
    Plan { record, step: None, verdict, recheck_at, adopts: false, ..plan }
}

/// The cloud refused a value of the spec.
fn refused(call: &Call, error: &LastError) -> Finding {
    if clears_phone(call) && error.code == PHONE_REFUSED {
        return update::not_removable();
    }
    let LastError { code, action, generation: _ } = error;
    let field = [
        ("Name", "`name`"),
        ("EmailAddress", "`emailAddress`"),
        ("PhoneNumber", "`phoneNumber`"),
        ("MobileCountryCode", "the country code of `phoneNumber`"),
        ("Title", "`title`"),
        ("MessageTypes", "`messageTypes`"),
    ]
    .into_iter()
    .find(|(part, _)| code.split('.').nth(1) == Some(part))
    .map_or("a value of the spec", |(_, field)| field);
    Finding::unmet(
        Reason::InvalidContact,
        format!(
            "the cloud refused {field} with {code} ({action}); it is tried again when the spec changes"
        ),
    )
}

/// What a failed call is called in the status.
pub(super) fn finding(input: &Input<'_>, setback: &Setback) -> Finding {
    let CallError { action, class, code, .. } = &setback.error;
    let code = code.as_ref().map_or(String::new(), |code| format!(" ({})", code.as_str()));
    let what = format!("{action}: {}{code}", class.as_str());
    let deleting = matches!(input.desired, Desired::Absent { .. });
    let (reason, next) = match class {
        FailureClass::Conflict => (Reason::CloudBusy, "it is tried again in a moment"),
        FailureClass::Throttled => (Reason::Throttled, "the operator goes on more slowly"),
        FailureClass::OutcomeUnknown => {
            (Reason::OutcomeUnknown, "the contact is read before anything is done again")
        }
        FailureClass::Permission => {
            let way_out = if deleting {
                ", or set `deletionPolicy: Retain` to leave the contact in the cloud"
            } else {
                ""
            };
            let next =
                format!("grant resourcemanager:{action} to the identity of the directory{way_out}");
            return Finding::unmet(Reason::Unauthorized, format!("{what}; {next}"));
        }
        FailureClass::Credentials | FailureClass::TokenExpired | FailureClass::Clock(_) => (
            Reason::Unauthorized,
            "the conditions of the ResourceDirectory say what to do; it is tried again with growing \
             pauses",
        ),
        // Nothing was called: the failure is none of this action.
        FailureClass::NoKeys(KeyFailure { cause, .. }) => {
            let reason = match cause {
                KeyCause::Unanswered => Reason::CloudUnavailable,
                KeyCause::Refused | KeyCause::Forbidden | KeyCause::NoRole | KeyCause::Clock(_) => {
                    Reason::Unauthorized
                }
            };
            let next = "see the conditions of the directory";
            return Finding::unmet(reason, format!("{action}: {}; {next}", class.as_str()));
        }
        FailureClass::Quota => (Reason::QuotaExceeded, "it is tried again every few minutes"),
        FailureClass::UnknownMember => {
            (Reason::UnknownMember, "it is tried again every few minutes")
        }
        FailureClass::NameTaken => {
            (Reason::NameTaken, "choose another name, or delete that contact")
        }
        FailureClass::InvalidInput if deleting => {
            (Reason::DeletionFailed, "it is tried again every few minutes")
        }
        FailureClass::InvalidInput => (Reason::InvalidContact, "change the spec"),
        FailureClass::NoDirectory => {
            (Reason::DirectoryNotReady, "it is tried again every few minutes")
        }
        FailureClass::WrongState | FailureClass::ContactNotFound if deleting => {
            (Reason::Deleting, "it is read and tried again")
        }
        FailureClass::WrongState | FailureClass::ContactNotFound => {
            (Reason::Updating, "it is read and tried again")
        }
        FailureClass::Unavailable => {
            (Reason::CloudUnavailable, "it is tried again with growing pauses")
        }
        FailureClass::SendsExhausted
        | FailureClass::NothingPending
        | FailureClass::NotFound
        | FailureClass::ClientBug => {
            (Reason::CloudUnavailable, "it is tried again every few minutes")
        }
    };
    Finding::unmet(reason, format!("{what}; {next}"))
}

/// What our status is to remember once the call of a plan has ended: `before` is what the plan was
/// made from, `planned` its record.
///
/// Only a write that got its answer is counted, as one that may read back differently and as one
/// that put something right: in an outage every contact would end as contested.
#[must_use]
pub fn record_after(
    before: &Recorded,
    planned: Recorded,
    call: &Call,
    error: Option<&CallError>,
    now: Timestamp,
) -> Recorded {
    let verification = verify::after_call(planned.verification, call, error, now);
    let planned = Recorded { verification, ..planned };
    if error.is_none() {
        return planned;
    }
    let Recorded { last_write, reverts, .. } = before.clone();
    Recorded { last_write, reverts, ..planned }
}
