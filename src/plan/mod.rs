//! The decisions: pure, total, one step at a time.
//!
//! `plan` reads no clock, draws no random number, logs nothing and cannot fail. Everything that
//! can be wrong was refused while parsing; everything that went wrong comes in as a [`Setback`].

#![warn(clippy::wildcard_enum_match_arm)]

mod create;

mod adopt;

mod update;

mod bind;

mod reverts;

mod verify;

mod delete;

mod setback;

pub mod policy;

pub mod coverage;

pub mod compliance;

pub mod hash;

pub mod render;

#[cfg(test)]
mod tests;

#[cfg(test)]
mod model;

use std::collections::BTreeSet;

use jiff::Timestamp;

use crate::domain::call::Call;
use crate::domain::contact::{
    ContactId, ContactName, ContactStatus, DesiredContact, Difference, DirectoryId, MemberId, Mode,
    ReadyWhen, Recorded, Removal, Uid,
};
use crate::domain::directory::Management;
use crate::domain::ledger::Ledger;
use crate::domain::snapshot::{Entry, Lists, Sight};
use crate::domain::verdict::{Finding, Reason, Verdict};
use crate::domain::verification::Outlook;

pub use bind::Attempts;
use hash::HashKey;
pub use setback::{Setback, Setbacks, record_after};
pub use verify::{Unsent, asked_again, ledger_after};

/// Everything that a decision is made from.
#[derive(Debug, Clone)]
pub struct Input<'a> {
    /// The object's uid.
    pub uid: &'a Uid,
    /// The generation of the object's spec.
    pub generation: i64,
    /// The last generation that was brought into sync; less than `generation` as long as a user's
    /// edit is not in the cloud.
    pub settled_generation: i64,
    /// Whether our finalizer stands on the object.
    pub finalizer: bool,
    /// What is wanted.
    pub desired: Desired<'a>,
    /// The most that the directory allows, whatever is wanted.
    pub management: Management,
    /// Whether the definition of our kind stands.
    pub definition: Definition,
    /// What our status says.
    pub recorded: &'a Recorded,
    /// What is known of the directory.
    pub connection: Connection<'a>,
    /// The last calls for this object that failed; those for bindings aside.
    pub setbacks: &'a Setbacks,
    /// Messages that were written down and are still to be sent.
    pub unsent: &'a [Unsent],
    /// What is known of the calls for its bindings.
    pub attempts: &'a Attempts,
    /// The key of the hashes.
    pub hash_key: &'a HashKey,
}

/// What is wanted of a contact.
#[derive(Debug, Clone)]
pub enum Desired<'a> {
    /// It is to be there, as described.
    Present(&'a DesiredContact),
    /// The object is being deleted.
    Absent {
        /// What that does in the cloud.
        removal: Removal,
        /// When the deletion was asked for.
        since: Timestamp,
    },
    /// Nothing may be done: the spec is not valid, not admitted, or suspended.
    Blocked(Finding),
}

/// Whether the definition of our kind stands, as far as the apiserver told. It is asked right
/// before each deletion in the cloud, and now and then while a deletion waits for anything else.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Definition {
    /// It was not asked for yet.
    #[default]
    Unasked,
    /// It stands.
    Stands {
        /// When that was told.
        at: Timestamp,
    },
    /// It is being deleted: somebody takes the operator out, and the contacts in the cloud MUST
    /// stay.
    BeingDeleted,
    /// The operator may not read it.
    Unreadable {
        /// When it was refused.
        at: Timestamp,
    },
}

/// What is known of the directory.
#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "one is made a plan, and never kept")]
pub enum Connection<'a> {
    /// Nothing, for this reason.
    Closed(Finding),
    /// It was listed at least once.
    Open(View<'a>),
}

/// What one object sees of its directory.
#[derive(Debug, Clone)]
pub struct View<'a> {
    /// The directory that answers.
    pub directory_id: &'a DirectoryId,
    /// The contact whose id is recorded; `None` when no id is.
    pub own: Option<Sight>,
    /// The other contacts that have the [`name_in_question`], letter case aside.
    pub namesakes: Vec<Namesake>,
    /// Another object may create a contact of that name: it has an open intent under it, or it
    /// holds none, wants the name and comes before this one. Between two with an open intent the
    /// one that comes first has no rival.
    pub rival: bool,
    /// When the last complete lists began.
    pub lists: Lists,
    /// What is known of an Add under the open intent.
    pub add: AddFate,
    /// The status of another object has the same contact id, and that object comes before this one.
    pub outranked: bool,
    /// What contacts of the directory may be bound to; `None`: anything.
    pub allowed_members: Option<&'a BTreeSet<MemberId>>,
    /// The verification messages of the directory.
    pub ledger: &'a Ledger,
}

/// A contact whose name is the one in question.
#[derive(Debug, Clone)]
pub struct Namesake {
    /// What is known of it.
    pub entry: Entry,
    /// Whether the name is the same to the letter.
    pub exact: bool,
    /// Which object holds it.
    pub holder: Holder,
}

/// Which object holds a contact: the one whose status has its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holder {
    /// No object.
    Nobody,
    /// Another object.
    Other {
        /// Whether that object is being deleted.
        deleting: bool,
    },
}

/// What is known of an Add under an open intent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddFate {
    /// This process wrote the intent, and no Add was sent that was not clearly refused.
    NotMade,
    /// An Add may have been made, at the latest at that time.
    Unanswered {
        /// The last moment at which one may have been sent. For an intent that an earlier process
        /// left open this MUST be no earlier than the moment at which that process lost its
        /// lease: an intent can stand for minutes before its Add goes out.
        since: Timestamp,
    },
}

/// What to do now, if anything, and what is to be said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// What our status is to remember. Identity and intent MUST be stored before the step is
    /// taken; the rest MAY be stored when the pass ends.
    pub record: Recorded,
    /// The one next step.
    pub step: Option<Step>,
    /// The message that the step asks for: it MUST stand in the status and in the ledger first.
    pub send: Option<Send>,
    /// Everything that is to be said.
    pub verdict: Verdict,
    /// The fields that differ and are left so; empty when in sync or being put right.
    pub drift: Vec<Difference>,
    /// What is to be seen of the channels.
    pub outlook: Outlook,
    /// What still counts of the calls for the bindings. It MUST be kept when the pass ends, and
    /// be asked when the step was a call for bindings and has ended.
    pub attempts: Attempts,
    /// When to look again if nothing happens before; `None` waits for a change.
    pub recheck_at: Option<Timestamp>,
    /// The contact of the record is taken over: it was in the cloud, and no object held it.
    pub adopts: bool,
}

/// A verification message, as it is written down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Send {
    /// A keyed hash of the address or number.
    pub target: String,
    /// A keyed hash of the contact's name.
    pub contact: String,
    /// When it was written down.
    pub at: Timestamp,
}

/// One step. After it everything is looked at again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Put our finalizer on the object.
    TakeFinalizer,
    /// Take our finalizer off the object.
    ReleaseFinalizer,
    /// One call to the cloud.
    Call(Call, Urgency),
    /// List the whole directory again.
    Relist,
    /// Ask whether the definition of our kind stands.
    AskDefinition,
}

/// Who goes first when several objects have something to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Urgency {
    /// A person has just changed something.
    Change,
    /// A contact is to be created.
    Create,
    /// A difference that nobody waits for.
    Repair,
}

/// Decides within what the directory allows.
#[must_use]
pub fn plan(input: &Input<'_>, now: Timestamp) -> Plan {
    let reports_only;
    let desired = match (&input.desired, input.management) {
        (desired, Management::Full)
        | (desired @ Desired::Blocked(_), _)
        | (desired @ Desired::Present(_), Management::NoDelete) => desired.clone(),
        (Desired::Present(wanted), Management::ReportOnly) => {
            reports_only = DesiredContact { mode: Mode::ReportOnly, ..(*wanted).clone() };
            Desired::Present(&reports_only)
        }
        (Desired::Absent { removal: _, since }, Management::NoDelete | Management::ReportOnly) => {
            Desired::Absent { removal: Removal::Retain, since: *since }
        }
    };
    let plan = decide(&Input { desired, ..input.clone() }, now);
    match (&input.desired, &plan.step) {
        (Desired::Absent { .. }, None) if input.finalizer => delete::meanwhile(input, plan, now),
        (Desired::Absent { .. } | Desired::Present(_) | Desired::Blocked(_), _) => plan,
    }
}

/// Names every situation a contact can be in. Details live in the function of that name.
fn decide(input: &Input<'_>, now: Timestamp) -> Plan {
    let seen = verify::seen(input, now);
    let input = &Input { recorded: seen.as_ref().unwrap_or(input.recorded), ..input.clone() };
    let plan = match (&input.desired, &input.connection) {
        (Desired::Blocked(finding), _) | (Desired::Present(_), Connection::Closed(finding)) => {
            rest(input, finding.clone())
        }
        (Desired::Absent { removal: Removal::Retain, .. }, _) => delete::release(input),
        (Desired::Absent { .. }, _) if input.definition == Definition::BeingDeleted => {
            delete::release(input)
        }
        (Desired::Absent { .. }, _) if !input.finalizer => delete::release(input),
        (Desired::Absent { .. }, _) if holds_nothing(input.recorded) => delete::release(input),
        (Desired::Absent { .. }, Connection::Closed(finding)) => delete::wait(input, finding),
        (Desired::Absent { .. }, Connection::Open(view)) if elsewhere(input.recorded, view) => {
            delete::wait(input, &wrong_directory())
        }
        (Desired::Present(_), Connection::Open(view)) if elsewhere(input.recorded, view) => {
            rest(input, wrong_directory())
        }
        (Desired::Absent { .. }, Connection::Open(view)) if view.outranked => {
            delete::release(input)
        }
        (Desired::Present(_), Connection::Open(view)) if view.outranked => {
            create::give_up(input, now)
        }
        (
            Desired::Absent { removal: Removal::Delete { retain_in_members }, since },
            Connection::Open(view),
        ) => match (&input.recorded.creation, &view.own) {
            (Some(_intent), _) => delete::settle(input, view, now),
            (None, Some(Sight::Known(entry))) if entry.unread => look(input, view),
            (None, Some(Sight::Known(entry))) => {
                delete::remove(input, entry, *retain_in_members, *since, now)
            }
            (None, Some(Sight::Unlisted)) => look(input, view),
            // "Not found" is also what a contact gets that was never there.
            (None, Some(Sight::Gone { confirmed: false })) => {
                step_on(input, delete::deleting(), Step::Relist)
            }
            (None, Some(Sight::Gone { confirmed: true }) | None) => delete::release(input),
        },
        (Desired::Present(wanted), Connection::Open(view)) => {
            match (&input.recorded.creation, &view.own) {
                (Some(intent), _) => create::settle(input, wanted, view, intent, now),
                (None, None) => create::begin(input, wanted, view, now),
                (None, Some(Sight::Known(entry))) if entry.unread => look(input, view),
                (None, Some(Sight::Known(entry)))
                    if entry.contact.status == ContactStatus::Deleting =>
                {
                    rest(input, updating(BEING_DELETED))
                }
                (None, Some(Sight::Known(entry))) => {
                    let fields = update::converge(input, wanted, view, entry, now);
                    let fields = setback::hold_back(input, fields, now);
                    let bound = bind::beside(input, wanted, entry, fields, now);
                    verify::beside(input, wanted, view, entry, bound, now)
                }
                (None, Some(Sight::Unlisted)) => look(input, view),
                (None, Some(Sight::Gone { .. })) => create::again(input, view, now),
            }
        }
    };
    let plan = setback::hold_back(input, plan, now);
    with_channels(input, reverts::aged(plan, now), now)
}

/// What the status remembers, once a person has asked for another try: what stopped the object is
/// forgotten, and so is that a write read back differently.
pub fn try_once_more(recorded: &mut Recorded) {
    recorded.last_error = None;
    if let Some(write) = &mut recorded.last_write {
        write.mismatches = 0;
    }
    reverts::once_more(&mut recorded.reverts);
}

/// What is said of the channels goes by what is recorded of them, whatever else is said.
fn with_channels(input: &Input<'_>, plan: Plan, now: Timestamp) -> Plan {
    let said = Input { recorded: &plan.record, ..input.clone() };
    let (email_verified, phone_verified) = verify::findings(&said, now);
    let outlook = verify::outlook(&said, now);
    let verdict = Verdict { email_verified, phone_verified, ..plan.verdict };
    Plan { verdict, outlook, ..plan }
}

/// The name under which other contacts matter: that of an open intent, else the wanted one.
#[must_use]
pub fn name_in_question<'a>(
    recorded: &'a Recorded,
    desired: &'a Desired<'_>,
) -> Option<&'a ContactName> {
    match (&recorded.creation, desired) {
        (Some(intent), _) => Some(&intent.name),
        (None, Desired::Present(wanted)) => Some(&wanted.name),
        (None, Desired::Absent { .. } | Desired::Blocked(_)) => None,
    }
}

/// Somebody else is deleting the contact. The polls of the directory tell when it is gone.
///
/// Unverified (A19): whether it could be written to until then. It is not.
const BEING_DELETED: &str = "the contact is being deleted in the cloud by somebody else; it is \
                             created again once it is gone";

/// Whether a status holds no contact and has no intent open.
#[must_use]
pub fn holds_nothing(recorded: &Recorded) -> bool {
    recorded.contact_id.is_none() && recorded.creation.is_none()
}

/// Whether a status holds a contact, or has an intent open, in another directory than this one.
#[must_use]
pub fn lives_elsewhere(recorded: &Recorded, directory: &DirectoryId) -> bool {
    recorded.directory_id.as_ref().is_some_and(|id| id != directory) && !holds_nothing(recorded)
}

fn elsewhere(recorded: &Recorded, view: &View<'_>) -> bool {
    lives_elsewhere(recorded, view.directory_id)
}

/// What is said of such an object.
#[must_use]
pub fn wrong_directory() -> Finding {
    Finding::unmet(
        Reason::WrongDirectory,
        "the status of this object points to a contact of another resource directory than the one \
         that is connected; nothing is written",
    )
}

/// What is said of an object that is suspended.
#[must_use]
pub fn suspended() -> Finding {
    Finding::unmet(
        Reason::Suspended,
        "`suspend` is set; nothing is read or written for this object",
    )
}

/// What forbids to write for a contact that is only reported on.
fn forbidding(input: &Input<'_>) -> &'static str {
    match input.management {
        Management::ReportOnly => "`management: ReportOnly` of the ResourceDirectory",
        Management::Full | Management::NoDelete => "`reconcilePolicy: ReportOnly`",
    }
}

/// Nothing to do, for the reason given.
fn rest(input: &Input<'_>, synced: Finding) -> Plan {
    Plan {
        record: input.recorded.clone(),
        step: None,
        send: None,
        verdict: verdict(input, synced),
        drift: Vec::new(),
        outlook: Outlook::default(),
        attempts: input.attempts.clone(),
        recheck_at: None,
        adopts: false,
    }
}

/// Reads the contact whose id is recorded: it may have changed, or be gone.
fn look(input: &Input<'_>, view: &View<'_>) -> Plan {
    let finding = match input.desired {
        Desired::Absent { .. } => delete::deleting(),
        Desired::Present(_) | Desired::Blocked(_) => updating("the contact is read again"),
    };
    let id = match (&input.recorded.contact_id, &view.own) {
        (_, Some(Sight::Known(entry))) => entry.contact.id.clone(),
        (Some(id), _) => id.clone(),
        (None, _) => return rest(input, finding),
    };
    step_on(input, finding, get(input, id))
}

fn get(input: &Input<'_>, id: ContactId) -> Step {
    Step::Call(Call::GetMessageContact(id), urgency(input))
}

/// Takes the step; says why.
fn step_on(input: &Input<'_>, synced: Finding, step: Step) -> Plan {
    Plan { step: Some(step), ..rest(input, synced) }
}

fn updating(message: &str) -> Finding {
    Finding::unmet(Reason::Updating, message)
}

/// What a person has just asked for goes before what nobody waits for.
fn urgency(input: &Input<'_>) -> Urgency {
    let edited = input.generation != input.settled_generation;
    match input.desired {
        Desired::Absent { .. } => Urgency::Change,
        Desired::Present(_) | Desired::Blocked(_) if edited => Urgency::Change,
        Desired::Present(_) | Desired::Blocked(_) => Urgency::Repair,
    }
}

/// The verdict, from how the data stands; what is said of the channels comes at the end.
fn verdict(input: &Input<'_>, synced: Finding) -> Verdict {
    let (members, ready_when) = match input.desired {
        Desired::Present(wanted) => (wanted.members.is_some(), wanted.ready_when),
        Desired::Absent { .. } | Desired::Blocked(_) => (false, ReadyWhen::Verified),
    };
    Verdict {
        email_verified: verify::not_known(),
        phone_verified: None,
        bound: members
            .then(|| Finding::unknown(Reason::NotSynced, "known once the fields are in sync")),
        policy_compliant: None,
        ready_waits_for_verification: ready_when == ReadyWhen::Verified,
        synced,
    }
}
