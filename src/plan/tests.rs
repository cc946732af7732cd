//! Situations and the plan made in each. `UPDATE_EXPECT=1 cargo test` rewrites the expectations;
//! the diff is then reviewed as a change of behaviour.

#![expect(clippy::needless_raw_string_hashes, reason = "expect-test writes them")]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::Arc;

use expect_test::{Expect, expect};
use jiff::{SignedDuration, Timestamp};

use super::hash::HashKey;
use super::{
    AddFate, Attempts, Connection, Definition, Desired, Holder, Input, Namesake, Plan, Setback,
    Setbacks, Step, Unsent, View, asked_again, ledger_after, name_in_question, plan, record_after,
    try_once_more,
};
use crate::domain::call::{
    Action, Call, CallError, Changes, DeletionBlocker, DeletionState, ErrorCode, FailureClass,
    KeyCause, KeyFailure, KeyStep, PhoneChange, Skew, Target,
};
use crate::domain::channel::{EmailAddress, PhoneNumber};
use crate::domain::contact::{
    AccountId, Adoption, ContactId, ContactName, ContactStatus, Creation, DesiredContact,
    Difference, DirectoryId, Field, LastError, LastWrite, MemberId, MessageType, Mode,
    ObservedContact, ReadyWhen, Recorded, Removal, Revert, Title, Uid,
};
use crate::domain::directory::Management;
use crate::domain::ledger::Ledger;
use crate::domain::snapshot::{Deletion, Entry, Lists, Pending, Sight};
use crate::domain::verdict::{Finding, Reason};
use crate::domain::verification::{
    ChannelRecord, ChannelState, Evidence, Verification, VerificationPolicy,
};

const SPEC_NAME: &str = "opsteam";
const OWN_ID: &str = "c-ownownownownowno";
const DIRECTORY: &str = "rd-direct";
const DELETE: Removal = Removal::Delete { retain_in_members: false };

/// A moment, in seconds of the story; the story's present is 1000.
fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap_or(Timestamp::MAX)
}

fn name(text: &str) -> ContactName {
    ContactName::observed(text.to_owned())
}

fn email(text: &str) -> EmailAddress {
    EmailAddress::observed(text.to_owned())
}

fn phone(text: &str) -> PhoneNumber {
    PhoneNumber::observed(text.to_owned())
}

fn wanted() -> DesiredContact {
    DesiredContact {
        name: name(SPEC_NAME),
        title: Title::TechnicalDirector,
        email: email("mailbox@example.com"),
        phone: Some(phone("86-13800138000")),
        message_types: [MessageType::FaultMessage, MessageType::SecurityMessage].into(),
        members: None,
        mode: Mode::Enforce,
        adoption: Adoption::IfIdentical,
        verification: VerificationPolicy::default(),
        ready_when: ReadyWhen::Synced,
    }
}

fn observed() -> ObservedContact {
    ObservedContact {
        id: OWN_ID.into(),
        name: name(SPEC_NAME),
        email: Some(email("mailbox@example.com")),
        phone: Some(phone("86-13800138000")),
        title: "TechnicalDirector".to_owned(),
        message_types: ["SecurityMessage".to_owned(), "FaultMessage".to_owned()].into(),
        members: [].into(),
        status: ContactStatus::Active,
    }
}

fn entry(contact: ObservedContact) -> Entry {
    let contact = Arc::new(contact);
    Entry { contact, unread: false, read_at: Some(at(990)), pending: None, deletion: None }
}

fn namesake(id: &str, text: &str, holder: Holder) -> Namesake {
    let contact = ObservedContact { id: id.into(), name: name(text), ..observed() };
    Namesake { entry: entry(contact), exact: text == SPEC_NAME, holder }
}

fn key() -> HashKey {
    HashKey::new([7; HashKey::BYTES])
}

#[derive(Debug, Clone)]
enum Want {
    Present(DesiredContact),
    Absent(Removal),
    Blocked(Finding),
}

/// One situation: what an object wants, remembers and sees.
#[derive(Debug, Clone)]
struct Situation {
    want: Want,
    management: Management,
    definition: Definition,
    recorded: Recorded,
    finalizer: bool,
    generation: i64,
    settled_generation: i64,
    closed: Option<Finding>,
    own: Option<Sight>,
    namesakes: Vec<Namesake>,
    rival: bool,
    outranked: bool,
    lists: Lists,
    add: AddFate,
    setback: Option<Setback>,
    unsent: Vec<Unsent>,
    allowed: Option<BTreeSet<MemberId>>,
    ledger: Ledger,
    attempts: Attempts,
    now: Timestamp,
}

/// A new object with nothing in the cloud.
fn fresh() -> Situation {
    Situation {
        want: Want::Present(wanted()),
        management: Management::Full,
        // Asked for so late that no story lives to ask again.
        definition: Definition::Stands { at: at(100_000) },
        recorded: Recorded::default(),
        finalizer: true,
        generation: 3,
        settled_generation: 3,
        closed: None,
        own: None,
        namesakes: Vec::new(),
        rival: false,
        outranked: false,
        lists: Lists { last: Some(at(700)), before: Some(at(400)) },
        add: AddFate::NotMade,
        setback: None,
        unsent: Vec::new(),
        allowed: None,
        ledger: Ledger::default(),
        attempts: Attempts::default(),
        now: at(1000),
    }
}

/// An object that holds this contact.
fn holding(contact: ObservedContact) -> Situation {
    let recorded = Recorded {
        directory_id: Some(DIRECTORY.into()),
        contact_id: Some(contact.id.clone()),
        verification: verified(&wanted()),
        ..Recorded::default()
    };
    Situation { recorded, own: Some(Sight::Known(entry(contact))), ..fresh() }
}

/// The owners of both channels have confirmed them.
fn verified(wanted: &DesiredContact) -> Verification {
    let channel = |value: Target| {
        let target = key().of_target(&value);
        ChannelRecord {
            verified_target: Some(target.clone()),
            target,
            state: ChannelState::Verified,
            sends: 1,
            last_sent: Some(at(100)),
            evidence: Some(Evidence::SeenPending),
        }
    };
    let phone = wanted.phone.clone().map(Target::Phone);
    let email = Some(channel(Target::Email(wanted.email.clone())));
    Verification { email, phone: phone.map(channel) }
}

/// An object with an intent open since 900, under the name of its spec.
fn intending(add: AddFate) -> Situation {
    let hash = key().of_creation(&"uid-own".into(), &DIRECTORY.into(), &wanted());
    let creation = Some(Creation { name: name(SPEC_NAME), hash, at: at(900) });
    let recorded =
        Recorded { directory_id: Some(DIRECTORY.into()), creation, ..Recorded::default() };
    Situation { recorded, add, ..fresh() }
}

fn deleting(contact: ObservedContact, deletion: Option<DeletionState>) -> Situation {
    let status = contact.status.clone();
    let mut situation = Situation { want: Want::Absent(DELETE), ..holding(contact) };
    if let Some(Sight::Known(entry)) = &mut situation.own {
        entry.deletion = deletion.map(|state| Deletion { state, at: at(1000) });
        assert_eq!(entry.contact.status, status);
    }
    situation
}

/// The spec of a situation, changed.
fn with_spec(situation: Situation, change: impl FnOnce(&mut DesiredContact)) -> Situation {
    let mut spec = wanted();
    change(&mut spec);
    Situation { want: Want::Present(spec), ..situation }
}

/// The contact that the object holds, as the cloud shows it, changed.
fn drifted(change: impl FnOnce(&mut ObservedContact)) -> Situation {
    let mut contact = observed();
    change(&mut contact);
    holding(contact)
}

/// What the object holds, as it is known, changed.
fn with_entry(mut situation: Situation, change: impl FnOnce(&mut Entry)) -> Situation {
    if let Some(Sight::Known(entry)) = &mut situation.own {
        change(entry);
    }
    situation
}

/// The values that wait, as just asked for.
fn waits(targets: impl IntoIterator<Item = Target>) -> Pending {
    Pending { targets: targets.into_iter().collect(), at: at(990) }
}

fn failed(action: Action, class: FailureClass, code: &str) -> Setback {
    let error = CallError {
        action,
        class,
        code: ErrorCode::parse(code),
        request_id: None,
        retry_after: None,
    };
    Setback { error, generation: 3, at: at(1000), failures: 1 }
}

fn planned(situation: &Situation) -> Plan {
    let Situation {
        want,
        management,
        definition,
        recorded,
        finalizer,
        generation,
        settled_generation,
        closed,
        own,
        namesakes,
        rival,
        outranked,
        lists,
        add,
        setback,
        unsent,
        allowed,
        ledger,
        attempts,
        now,
    } = situation;
    let uid = Uid::from("uid-own");
    let directory_id = DirectoryId::from(DIRECTORY);
    let connection = match closed {
        Some(finding) => Connection::Closed(finding.clone()),
        None => Connection::Open(View {
            directory_id: &directory_id,
            own: own.clone(),
            namesakes: namesakes.clone(),
            rival: *rival,
            outranked: *outranked,
            lists: *lists,
            add: *add,
            allowed_members: allowed.as_ref(),
            ledger,
        }),
    };
    let input = Input {
        uid: &uid,
        generation: *generation,
        settled_generation: *settled_generation,
        finalizer: *finalizer,
        desired: match want {
            Want::Present(spec) => Desired::Present(spec),
            Want::Absent(removal) => Desired::Absent { removal: *removal, since: at(900) },
            Want::Blocked(finding) => Desired::Blocked(finding.clone()),
        },
        management: *management,
        definition: *definition,
        recorded,
        connection,
        setbacks: &setback.clone().map(Setbacks::from).unwrap_or_default(),
        unsent,
        attempts,
        hash_key: &key(),
    };
    plan(&input, *now)
}

/// The plan in a few lines: the reason, the step, what is recorded anew, drift, the next look.
fn shown(situation: &Situation) -> String {
    let plan = planned(situation);
    let Plan { record, step, send, verdict, drift, outlook, attempts: _, recheck_at, adopts } =
        &plan;
    let mut text = String::new();
    let stalled = if verdict.synced.reason.stalls() { ", stalled" } else { "" };
    let _ = write!(text, "{}={}{stalled}", verdict.synced.reason, verdict.synced.status.as_str());
    if let Some(bound) = &verdict.bound {
        let _ = write!(text, "\nbound: {}={}", bound.reason, bound.status.as_str());
    }
    match step {
        None => {}
        Some(Step::Call(call, urgency)) => {
            let _ = write!(text, "\n{urgency:?}: {}", shown_call(call));
        }
        Some(
            step @ (Step::TakeFinalizer
            | Step::ReleaseFinalizer
            | Step::Relist
            | Step::AskDefinition),
        ) => {
            let _ = write!(text, "\n{step:?}");
        }
    }
    let Recorded {
        directory_id,
        contact_id,
        creation,
        last_write,
        last_error,
        verification,
        reverts,
    } = record;
    let before = &situation.recorded;
    if *directory_id != before.directory_id {
        let _ = write!(text, "\ndirectory: {directory_id:?}");
    }
    if *contact_id != before.contact_id {
        let _ = write!(text, "\ncontact: {:?}", contact_id.as_ref().map(ContactId::as_str));
    }
    if *creation != before.creation {
        let shown = creation.as_ref().map(|intent| (intent.name.as_str(), seconds(intent.at)));
        let _ = write!(text, "\nintent: {shown:?}");
    }
    if *last_write != before.last_write {
        let shown = last_write.as_ref().map(|write| write.mismatches);
        let _ = write!(text, "\nmismatches: {shown:?}");
    }
    if *last_error != before.last_error {
        let shown = last_error.as_ref().map(|e| (e.code.as_str(), e.action.as_str(), e.generation));
        let _ = write!(text, "\nerror: {shown:?}");
    }
    if *adopts {
        text.push_str("\nadopted");
    }
    let Verification { email, phone } = verification;
    for (channel, record, before, outlook) in [
        ("mailbox", email, &before.verification.email, &outlook.email),
        ("phone", phone, &before.verification.phone, &outlook.phone),
    ] {
        if record != before {
            let _ = write!(text, "\n{channel}: {}", shown_channel(record.as_ref()));
        }
        if let Some(next) = outlook.next_send {
            let _ = write!(text, "\n{channel}: next at {}", seconds(next));
        }
        if let Some(waiting) = &outlook.waiting {
            let _ = write!(text, "\n{channel}: {waiting} waits");
        }
    }
    if let Some(send) = send {
        let _ = write!(text, "\nwritten down at {}", seconds(send.at));
    }
    for difference in drift {
        let (field, desired) = (difference.field.as_str(), &difference.desired);
        let _ = write!(text, "\ndrift: {field} {:?} -> {desired:?}", difference.observed);
    }
    for Revert { difference, since, times } in reverts {
        let field = difference.field.as_str();
        let times: Vec<_> = times.iter().copied().map(seconds).collect();
        let _ = write!(text, "\nreverted: {field} since {} at {times:?}", seconds(*since));
    }
    if let Some(recheck_at) = recheck_at {
        let _ = write!(text, "\nrecheck: {}", seconds(*recheck_at));
    }
    text
}

/// Each channel: whose hash, the state, when it counts as sent, the evidence, what is in force.
fn shown_verification(verification: &Verification) -> String {
    let known = [
        Target::Email(email("mailbox@example.com")),
        Target::Email(email("other@example.org")),
        Target::Phone(phone("86-13800138000")),
        Target::Phone(phone("65-61234567")),
    ];
    let of = |hash: &str| {
        let target = known.iter().find(|target| key().of_target(target) == hash);
        format!("{:?}", target.expect("a target that the tests know"))
    };
    let channel = |record: &ChannelRecord| {
        let ChannelRecord { target, state, sends, last_sent, evidence, verified_target } = record;
        let last_sent = last_sent.map(seconds);
        let verified = verified_target.as_deref().map(of);
        format!(
            "{} {state:?} sends={sends} at={last_sent:?} {evidence:?} in force: {verified:?}",
            of(target)
        )
    };
    let Verification { email, phone } = verification;
    [email, phone].into_iter().flatten().map(channel).collect::<Vec<_>>().join("\n")
}

fn shown_channel(record: Option<&ChannelRecord>) -> String {
    let Some(record) = record else { return "nothing".to_owned() };
    let ChannelRecord { target: _, state, sends, last_sent, evidence, verified_target } = record;
    let sent = last_sent.map_or("never".to_owned(), |at| seconds(at).to_string());
    let evidence = evidence.map_or("none", Evidence::as_str);
    let verified = if verified_target.is_some() { ", verified before" } else { "" };
    format!("{}, {sends} sent, last {sent}, evidence {evidence}{verified}", state.as_str())
}

fn seconds(moment: Timestamp) -> i64 {
    moment.as_second() - at(0).as_second()
}

fn shown_call(call: &Call) -> String {
    let action = call.action();
    match call {
        Call::UpdateMessageContact(id, changes) => {
            let Changes { name, title, email, phone, message_types } = changes;
            let fields = [
                name.as_ref().map(|name| format!("name={}", name.as_str())),
                title.map(|title| format!("title={}", title.as_str())),
                email.as_ref().map(|email| format!("email={email}")),
                phone.as_ref().map(|change| match change {
                    PhoneChange::Set(number) => format!("phone={number}"),
                    PhoneChange::Clear => "phone=".to_owned(),
                }),
                message_types.as_ref().map(|types| format!("types={types:?}")),
            ];
            let fields = fields.into_iter().flatten().collect::<Vec<_>>().join(" ");
            format!("{action} {id} {fields}")
        }
        Call::AddMessageContact(new) => format!("{action} {}", new.name.as_str()),
        Call::AssociateMembers(_, ids) | Call::DisassociateMembers(_, ids) => {
            let ids: Vec<_> = ids.iter().map(MemberId::as_str).collect();
            format!("{action} {}", ids.join(" "))
        }
        Call::DeleteMessageContact { id, retain_in_members } => {
            format!("{action} {id} retain={retain_in_members}")
        }
        Call::GetMessageContact(_)
        | Call::ListMessageContacts { .. }
        | Call::GetMessageContactDeletionStatus(_)
        | Call::SendEmailVerificationForMessageContact(..)
        | Call::SendPhoneVerificationForMessageContact(..)
        | Call::ListMessageContactVerifications { .. }
        | Call::CancelMessageContactUpdate { .. }
        | Call::GetResourceDirectory
        | Call::ListAccounts { .. } => {
            format!("{action} {}", call.contact_id().map_or("", ContactId::as_str))
        }
    }
}

fn check(situation: Situation, expected: Expect) {
    expected.assert_eq(&shown(&situation));
}

// Blocked, closed, elsewhere.

#[test]
fn a_blocked_object_says_why_and_does_nothing() {
    let why = Finding::unmet(Reason::Suspended, "suspended");
    check(
        Situation { want: Want::Blocked(why), ..holding(observed()) },
        expect!["Suspended=False"],
    );
}

#[test]
fn without_a_directory_nothing_is_done() {
    let closed = Some(Finding::unmet(Reason::DirectoryNotFound, "no such directory"));
    check(Situation { closed, ..holding(observed()) }, expect!["DirectoryNotFound=False"]);
}

#[test]
fn a_contact_of_another_directory_is_left_alone() {
    let mut situation = drifted(|contact| contact.title = "CEO".to_owned());
    situation.recorded.directory_id = Some("rd-elsewh".into());
    check(situation, expect!["WrongDirectory=False, stalled"]);
}

#[test]
fn an_intent_in_another_directory_is_left_alone() {
    let mut situation = intending(AddFate::NotMade);
    situation.recorded.directory_id = Some("rd-elsewh".into());
    check(situation, expect!["WrongDirectory=False, stalled"]);
}

#[test]
fn a_directory_id_without_contact_or_intent_binds_to_nothing() {
    let mut situation = fresh();
    situation.recorded.directory_id = Some("rd-elsewh".into());
    check(
        situation,
        expect![[r#"
            Creating=False
            Create: AddMessageContact opsteam
            directory: Some(DirectoryId("rd-direct"))
            intent: Some(("opsteam", 1000))
            mailbox: Pending, 0 sent, last never, evidence none
            phone: Pending, 0 sent, last never, evidence none"#]],
    );
}

// Creating.

#[test]
fn the_finalizer_comes_first() {
    check(
        Situation { finalizer: false, ..fresh() },
        expect![[r#"
        Creating=False
        TakeFinalizer"#]],
    );
}

#[test]
fn an_intent_is_recorded_with_the_add() {
    check(
        fresh(),
        expect![[r#"
            Creating=False
            Create: AddMessageContact opsteam
            directory: Some(DirectoryId("rd-direct"))
            intent: Some(("opsteam", 1000))
            mailbox: Pending, 0 sent, last never, evidence none
            phone: Pending, 0 sent, last never, evidence none"#]],
    );
}

#[test]
fn the_same_intent_is_used_again() {
    check(
        intending(AddFate::NotMade),
        expect![[r#"
            Creating=False
            Create: AddMessageContact opsteam
            mailbox: Pending, 0 sent, last never, evidence none
            phone: Pending, 0 sent, last never, evidence none"#]],
    );
}

#[test]
fn another_spec_under_the_same_name_makes_another_intent() {
    let situation = intending(AddFate::NotMade);
    check(
        with_spec(situation, |spec| spec.title = Title::CEO),
        expect![[r#"
            Creating=False
            Create: AddMessageContact opsteam
            intent: Some(("opsteam", 1000))
            mailbox: Pending, 0 sent, last never, evidence none
            phone: Pending, 0 sent, last never, evidence none"#]],
    );
}

#[test]
fn an_intent_under_a_name_that_was_given_up_is_dropped() {
    let situation = intending(AddFate::NotMade);
    check(
        with_spec(situation, |spec| spec.name = name("newname")),
        expect![[r#"
        Creating=False
        intent: None
        recheck: 1000"#]],
    );
}

#[test]
fn report_only_reports_the_absence() {
    check(
        with_spec(fresh(), |spec| spec.mode = Mode::ReportOnly),
        expect![[r#"
        Drifted=False
        drift: name "" -> "opsteam""#]],
    );
}

#[test]
fn an_intent_that_made_nothing_is_dropped_when_a_stranger_has_the_name() {
    let namesakes = vec![namesake("c-stranger", SPEC_NAME, Holder::Nobody)];
    let situation = Situation { namesakes, ..intending(AddFate::NotMade) };
    check(
        with_spec(situation, |spec| spec.adoption = Adoption::Never),
        expect![[r#"
        NameTaken=False, stalled
        intent: None"#]],
    );
}

#[test]
fn a_name_that_differs_in_case_alone_is_taken() {
    let namesakes = vec![namesake("c-variant", "OpsTeam", Holder::Nobody)];
    check(Situation { namesakes, ..fresh() }, expect!["NameTaken=False, stalled"]);
}

#[test]
fn a_name_that_another_object_holds_is_claimed() {
    let namesakes = vec![namesake("c-held", SPEC_NAME, Holder::Other { deleting: false })];
    check(Situation { namesakes, ..fresh() }, expect!["NameClaimed=False, stalled"]);
}

#[test]
fn the_name_of_a_holder_that_is_being_deleted_is_waited_for() {
    let namesakes = vec![namesake("c-held", SPEC_NAME, Holder::Other { deleting: true })];
    check(Situation { namesakes, ..fresh() }, expect!["Creating=False"]);
}

#[test]
fn an_object_that_comes_first_is_let_go_first() {
    check(Situation { rival: true, ..fresh() }, expect!["NameClaimed=False, stalled"]);
}

/// Competitors were told `NameTaken` in the moment between the answer and the stored id.
#[test]
fn a_contact_that_a_rival_has_just_created_is_claimed() {
    let namesakes = vec![namesake("c-new", SPEC_NAME, Holder::Nobody)];
    check(Situation { namesakes, rival: true, ..fresh() }, expect!["NameClaimed=False, stalled"]);
}

#[test]
fn a_contact_that_is_gone_is_created_again() {
    let own = Some(Sight::Gone { confirmed: true });
    check(
        Situation { own, ..holding(observed()) },
        expect![[r#"
            Creating=False
            Create: AddMessageContact opsteam
            contact: None
            intent: Some(("opsteam", 1000))
            mailbox: Pending, 0 sent, last never, evidence none
            phone: Pending, 0 sent, last never, evidence none"#]],
    );
}

/// The id was kept: whenever the snapshot forgot that it is gone, it was read once more, for ever.
#[test]
fn a_gone_contact_is_forgotten_when_a_stranger_has_its_name() {
    let namesakes = vec![namesake("c-stranger", SPEC_NAME, Holder::Nobody)];
    check(
        with_spec(
            Situation {
                own: Some(Sight::Gone { confirmed: true }),
                namesakes,
                ..holding(observed())
            },
            |spec| {
                spec.adoption = Adoption::Never;
            },
        ),
        expect![[r#"
            NameTaken=False, stalled
            contact: None
            mailbox: nothing
            phone: nothing"#]],
    );
}

#[test]
fn a_gone_contact_is_forgotten_while_the_next_add_waits() {
    let setback = Some(failed(Action::AddMessageContact, FailureClass::Quota, "LimitExceeded.C"));
    check(
        Situation { own: Some(Sight::Gone { confirmed: true }), setback, ..holding(observed()) },
        expect![[r#"
            QuotaExceeded=False
            contact: None
            mailbox: nothing
            phone: nothing
            recheck: 1300"#]],
    );
}

#[test]
fn a_contact_that_a_list_lacks_is_read_before_it_counts_as_gone() {
    let own = Some(Sight::Unlisted);
    check(
        Situation { own, ..holding(observed()) },
        expect![[r#"
        Updating=False
        Repair: GetMessageContact c-ownownownownowno"#]],
    );
}

// Taking over.

/// A contact that nobody holds has the wanted name: what it is like, and what waits there.
fn unheld(waiting: Option<Vec<Target>>, change: impl FnOnce(&mut ObservedContact)) -> Situation {
    let pending = waiting.map(|targets| Pending { targets, at: at(990) });
    let mut contact = ObservedContact { id: "c-unheld".into(), ..observed() };
    change(&mut contact);
    let entry = Entry { pending, ..entry(contact) };
    let namesakes = vec![Namesake { entry, exact: true, holder: Holder::Nobody }];
    Situation { namesakes, settled_generation: -1, ..fresh() }
}

/// As [`unheld`]; nothing differs and nothing waits.
fn alike() -> Situation {
    unheld(Some(vec![]), |_| {})
}

fn allowing(adoption: Adoption, situation: Situation) -> Situation {
    with_spec(situation, |spec| spec.adoption = adoption)
}

#[test]
fn a_contact_in_which_nothing_would_be_written_is_taken_over() {
    for adoption in [Adoption::IfIdentical, Adoption::Always] {
        let plan = planned(&allowing(adoption, alike()));
        assert!(plan.adopts && plan.step.is_none());
    }
    check(
        alike(),
        expect![[r#"
            InSync=True
            directory: Some(DirectoryId("rd-direct"))
            contact: Some("c-unheld")
            mismatches: Some(0)
            adopted
            mailbox: Verified, 0 sent, last never, evidence Active, verified before
            phone: Sent, 0 sent, last 1000, evidence none
            phone: next at 87400
            recheck: 87400"#]],
    );
}

#[test]
fn what_waits_and_then_the_contact_itself_are_read_before_it_is_taken_over() {
    let unasked = unheld(None, |_| {});
    check(
        unasked.clone(),
        expect![[r#"
        Creating=False
        Create: ListMessageContactVerifications c-unheld"#]],
    );
    check(
        allowing(Adoption::Always, unasked),
        expect![[r#"
        Creating=False
        Create: ListMessageContactVerifications c-unheld"#]],
    );
    // Also where only `Active` would speak: what waits may be shown as if it were in force (A12).
    let mailbox_only = unheld(None, |contact| contact.phone = None);
    check(
        with_spec(mailbox_only, |spec| spec.phone = None),
        expect![[r#"
        Creating=False
        Create: ListMessageContactVerifications c-unheld"#]],
    );
    let shown = |read_at, unread| {
        let mut situation = alike();
        situation.namesakes[0].entry.read_at = read_at;
        situation.namesakes[0].entry.unread = unread;
        situation
    };
    check(
        shown(None, false),
        expect![[r#"
        Creating=False
        Create: GetMessageContact c-unheld"#]],
    );
    check(
        shown(Some(at(939)), false),
        expect![[r#"
        Creating=False
        Create: GetMessageContact c-unheld"#]],
    );
    check(
        shown(Some(at(990)), true),
        expect![[r#"
        Creating=False
        Create: GetMessageContact c-unheld"#]],
    );
    assert!(planned(&shown(Some(at(940)), false)).adopts);
    // What waits there was asked for, and the answer was that it does not exist.
    let mut doubted = unheld(None, |contact| contact.title = "CEO".to_owned());
    doubted.namesakes[0].entry.unread = true;
    check(
        doubted,
        expect![[r#"
        Creating=False
        Create: GetMessageContact c-unheld"#]],
    );
}

/// That its own contact is gone kept an object from reading the one that has its name now.
#[test]
fn that_one_contact_is_gone_keeps_nobody_from_reading_another_one() {
    let get = Action::GetMessageContact;
    let setback = || Some(failed(get, FailureClass::ContactNotFound, "EntityNotExists.Contact"));
    let mut namesakes = alike().namesakes;
    namesakes[0].entry.read_at = None;
    let reads = |plan: Plan| matches!(plan.step, Some(Step::Call(Call::GetMessageContact(_), _)));
    let gone = Some(Sight::Gone { confirmed: true });
    let replaced = Situation {
        own: gone,
        namesakes: namesakes.clone(),
        setback: setback(),
        ..holding(observed())
    };
    assert!(reads(planned(&replaced)));
    assert!(reads(planned(&Situation { namesakes, setback: setback(), ..fresh() })));
    // Its own is read again with a pause.
    let unlisted = Some(Sight::Unlisted);
    let own = Situation { own: unlisted, setback: setback(), ..holding(observed()) };
    assert_eq!(planned(&own).step, None);
}

#[test]
fn the_finalizer_stands_before_a_contact_is_taken_over() {
    check(
        Situation { finalizer: false, ..alike() },
        expect![[r#"
        Creating=False
        TakeFinalizer"#]],
    );
}

#[test]
fn never_takes_nothing_over_and_looks_at_nothing() {
    check(allowing(Adoption::Never, alike()), expect!["NameTaken=False, stalled"]);
    let mut two = allowing(Adoption::Never, alike());
    two.namesakes.push(namesake("c-second", SPEC_NAME, Holder::Nobody));
    check(two, expect!["NameTaken=False, stalled"]);
}

/// Each field alone: the same words, and nothing of the contact is told.
#[test]
fn whatever_differs_the_refusal_is_the_same() {
    type Change = fn(&mut ObservedContact);
    let changes: [Change; 7] = [
        |contact| contact.title = "CEO".to_owned(),
        |contact| contact.message_types = ["FaultMessage".to_owned()].into(),
        |contact| contact.email = Some(email("other@example.org")),
        |contact| contact.email = None,
        |contact| contact.phone = Some(phone("65-61234567")),
        |contact| contact.phone = None,
        |contact| contact.members = ["fd-other".into()].into(),
    ];
    let bound =
        |situation| with_spec(situation, |spec| spec.members = Some(["fd-folder".into()].into()));
    let mut texts = Vec::new();
    for change in changes {
        let plan = planned(&bound(unheld(Some(vec![]), change)));
        assert_eq!((plan.step, plan.drift, plan.recheck_at), (None, vec![], None));
        assert_eq!(plan.record, Recorded::default());
        assert_eq!(plan.verdict.synced.reason, Reason::AdoptionRefused);
        texts.push(plan.verdict.synced.message);
    }
    texts.dedup();
    assert_eq!(texts.len(), 1, "{texts:?}");
    let bound_alike = |contact: &mut ObservedContact| contact.members = ["fd-folder".into()].into();
    assert!(planned(&bound(unheld(Some(vec![]), bound_alike))).adopts);
    // What the object leaves alone is no difference.
    assert!(planned(&unheld(Some(vec![]), bound_alike)).adopts);
    check(with_spec(alike(), |spec| spec.phone = None), expect!["AdoptionRefused=False, stalled"]);
}

#[test]
fn a_value_that_waits_is_no_difference_and_counts_as_sent() {
    let check = |situation: Situation, expected: Expect| {
        let plan = planned(&situation);
        assert!(plan.adopts && plan.step.is_none());
        expected.assert_eq(&shown_verification(&plan.record.verification));
    };
    let waiting =
        vec![Target::Email(email("MAILBOX@example.com")), Target::Phone(phone("86-13800138000"))];
    let others = |contact: &mut ObservedContact| {
        contact.email = Some(email("other@example.org"));
        contact.phone = Some(phone("65-61234567"));
    };
    check(
        unheld(Some(waiting.clone()), others),
        expect![[r#"
        Email(m***@example.com) Sent sends=0 at=Some(1000) Some(SeenPending) in force: Some("Email(o***@example.org)")
        Phone(86-138****8000) Sent sends=0 at=Some(1000) Some(SeenPending) in force: None"#]],
    );
    // The cloud may show what waits as if it were in force (A12): `Active` does not confirm it.
    check(
        unheld(Some(waiting.clone()), |_| {}),
        expect![[r#"
        Email(m***@example.com) Sent sends=0 at=Some(1000) Some(SeenPending) in force: None
        Phone(86-138****8000) Sent sends=0 at=Some(1000) Some(SeenPending) in force: None"#]],
    );
    let verifying = |contact: &mut ObservedContact| contact.status = ContactStatus::Verifying;
    check(
        unheld(Some(waiting), verifying),
        expect![[r#"
        Email(m***@example.com) Sent sends=0 at=Some(1000) Some(SeenPending) in force: None
        Phone(86-138****8000) Sent sends=0 at=Some(1000) Some(SeenPending) in force: None"#]],
    );
    // Nothing waits, and still it is not said to be in force.
    check(
        unheld(Some(vec![]), verifying),
        expect![[r#"
        Email(m***@example.com) Sent sends=0 at=Some(1000) None in force: None
        Phone(86-138****8000) Sent sends=0 at=Some(1000) None in force: None"#]],
    );
    check(
        alike(),
        expect![[r#"
        Email(m***@example.com) Verified sends=0 at=None Some(Active) in force: Some("Email(m***@example.com)")
        Phone(86-138****8000) Sent sends=0 at=Some(1000) None in force: None"#]],
    );
}

/// Nothing differs, and still something would be written: a change that waits would be taken back.
#[test]
fn a_change_that_waits_and_is_not_wanted_keeps_a_contact_from_being_taken_over() {
    let waiting = vec![Target::Email(email("other@example.org"))];
    let situation = unheld(Some(waiting), |_| {});
    check(situation.clone(), expect!["AdoptionRefused=False, stalled"]);
    check(
        allowing(Adoption::Always, situation),
        expect![[r#"
        Updating=False
        Change: CancelMessageContactUpdate c-unheld
        directory: Some(DirectoryId("rd-direct"))
        contact: Some("c-unheld")
        adopted
        mailbox: Verified, 0 sent, last never, evidence Active, verified before
        phone: Sent, 0 sent, last 1000, evidence none
        phone: next at 87400"#]],
    );
}

/// The cloud does not say that a phone is verified. It tells when a message is ordered, and sends
/// none then.
#[test]
fn the_phone_of_a_contact_that_was_taken_over_is_verified_by_an_order_that_is_refused() {
    let taken = planned(&alike()).record;
    let contact = ObservedContact { id: "c-unheld".into(), ..observed() };
    let own =
        Entry { pending: Some(Pending { targets: vec![], at: at(87_390) }), ..entry(contact) };
    let own = Some(Sight::Known(own));
    let early = Situation { own: own.clone(), recorded: taken.clone(), now: at(87_399), ..fresh() };
    assert_eq!(planned(&early).step, None);
    let due = Situation { own, recorded: taken, now: at(87_400), ..fresh() };
    check(
        due.clone(),
        expect![[r#"
        InSync=True
        Create: SendPhoneVerificationForMessageContact c-unheld
        phone: Sent, 1 sent, last 87400, evidence none
        phone: next at 173800
        written down at 87400"#]],
    );
    let Plan { record, step: Some(Step::Call(call, _)), .. } = planned(&due) else {
        panic!("a message is ordered");
    };
    let refusal = failed(call.action(), FailureClass::NothingPending, "").error;
    let record = record_after(&due.recorded, record, &call, Some(&refusal), due.now);
    let verdict = planned(&Situation { recorded: record, ..due }).verdict;
    assert_eq!(verdict.phone_verified.map(|finding| finding.reason), Some(Reason::Verified));
}

#[test]
fn always_takes_over_what_differs_and_then_puts_it_right() {
    let others = |contact: &mut ObservedContact| {
        contact.title = "CEO".to_owned();
        contact.email = Some(email("other@example.org"));
        contact.phone = None;
    };
    let situation = unheld(Some(vec![]), others);
    check(
        allowing(Adoption::Always, situation),
        expect![[r#"
            Updating=False
            Change: UpdateMessageContact c-unheld title=TechnicalDirector email=m***@example.com phone=86-138****8000
            directory: Some(DirectoryId("rd-direct"))
            contact: Some("c-unheld")
            mismatches: Some(1)
            adopted
            mailbox: Pending, 0 sent, last never, evidence none, verified before
            phone: Pending, 0 sent, last never, evidence none"#]],
    );
}

/// A wrong title alone cost no call, a wrong address one: whoever looked could guess the address.
#[test]
fn what_is_read_and_said_is_the_same_whatever_a_guess_gets_right() {
    type Change = fn(&mut DesiredContact);
    let wrong: [Change; 4] = [
        |spec| spec.title = Title::CEO,
        |spec| (spec.title, spec.email) = (Title::CEO, email("guess@example.org")),
        |spec| (spec.title, spec.phone) = (Title::CEO, Some(phone("65-61234567"))),
        |spec| spec.members = Some(["fd-other".into()].into()),
    ];
    let unread = |mut situation: Situation| {
        situation.namesakes[0].entry.read_at = None;
        situation
    };
    let told = |situation: &Situation| {
        let Plan { step, drift, record, verdict, adopts, .. } = planned(situation);
        (step, drift, record, verdict.synced, adopts)
    };
    for situation in [unheld(None, |_| {}), unread(alike()), alike()] {
        let wrong = wrong.map(|change| told(&with_spec(situation.clone(), change)));
        assert!(wrong.windows(2).all(|two| two[0] == two[1]), "{wrong:#?}");
        let right = told(&situation);
        assert!(right.4 || right == wrong[0], "{right:#?}");
    }
    // Where it may not be taken over, a right guess is like a wrong one.
    for (mode, management) in
        [(Mode::ReportOnly, Management::Full), (Mode::Enforce, Management::ReportOnly)]
    {
        for situation in [unheld(None, |_| {}), unread(alike()), alike()] {
            let told = |change: Change| {
                let situation = with_spec(situation.clone(), |spec| {
                    spec.mode = mode;
                    change(spec);
                });
                told(&Situation { management, ..situation })
            };
            let right = told(|_| {});
            assert_eq!((&right.0, &right.1, right.4), (&None, &vec![], false));
            for change in wrong {
                assert_eq!(told(change), right);
            }
        }
    }
}

/// Whoever took it over changed the address next, and got what the other team's accounts are sent.
#[test]
fn a_contact_that_is_bound_where_the_directory_allows_nothing_is_not_taken_over() {
    let bound = |ids: &[&str]| {
        let members: BTreeSet<MemberId> = ids.iter().map(|id| MemberId::from(*id)).collect();
        unheld(Some(vec![]), move |contact| contact.members = members)
    };
    let allowing_only = |ids: &[&str], situation| {
        let allowed = Some(ids.iter().map(|id| MemberId::from(*id)).collect());
        Situation { allowed, ..situation }
    };
    let refusal = planned(&with_spec(alike(), |spec| spec.title = Title::CEO)).verdict.synced;
    assert_eq!(refusal.reason, Reason::AdoptionRefused);
    for members in [None, Some([].into()), Some(["fd-ours".into()].into())] {
        for adoption in [Adoption::IfIdentical, Adoption::Always] {
            let wanting = |situation| {
                with_spec(situation, |spec| {
                    (spec.members, spec.adoption) = (members.clone(), adoption);
                })
            };
            for foreign in [&["fd-theirs"][..], &["fd-ours", "fd-theirs"]] {
                for allowed in [&[][..], &["fd-ours"]] {
                    let plan = planned(&wanting(allowing_only(allowed, bound(foreign))));
                    assert_eq!((plan.adopts, &plan.step), (false, &None), "{members:?}");
                    assert_eq!(plan.verdict.synced, refusal);
                }
            }
        }
    }
    let ours = with_spec(allowing_only(&["fd-ours"], bound(&["fd-ours"])), |_| {});
    assert!(planned(&ours).adopts);
    assert!(planned(&allowing_only(&[], alike())).adopts);
    assert!(planned(&bound(&["fd-theirs"])).adopts, "anything is allowed");
}

#[test]
fn report_only_takes_nothing_over_and_shows_nothing_of_the_contact() {
    let report = |situation| with_spec(situation, |spec| spec.mode = Mode::ReportOnly);
    let said = |situation: Situation| planned(&situation).verdict.synced.message;
    check(report(alike()), expect!["Drifted=False"]);
    assert!(said(report(alike())).contains("`reconcilePolicy: ReportOnly` forbids"));
    let management = Management::ReportOnly;
    check(Situation { management, ..alike() }, expect!["Drifted=False"]);
    assert!(said(Situation { management, ..alike() }).contains("`management: ReportOnly`"));
    let never = |spec: &mut DesiredContact| {
        (spec.mode, spec.adoption) = (Mode::ReportOnly, Adoption::Never);
    };
    check(with_spec(alike(), never), expect!["NameTaken=False, stalled"]);
}

#[test]
fn two_contacts_of_the_wanted_name_are_read_and_then_ambiguous() {
    let mut two = alike();
    two.namesakes.push(namesake("c-second", SPEC_NAME, Holder::Nobody));
    check(two.clone(), expect!["Ambiguous=False, stalled"]);
    two.namesakes[1].entry.read_at = None;
    check(
        two,
        expect![[r#"
        Creating=False
        Create: GetMessageContact c-second"#]],
    );
}

#[test]
fn a_case_variant_beside_it_does_not_keep_a_contact_from_being_taken_over() {
    let mut situation = alike();
    situation.namesakes.insert(0, namesake("c-variant", "OPSTEAM", Holder::Nobody));
    assert!(planned(&situation).adopts);
    situation.namesakes[0].holder = Holder::Other { deleting: false };
    check(situation, expect!["NameClaimed=False, stalled"]);
}

#[test]
fn a_contact_that_is_being_deleted_is_not_taken_over() {
    let dying = |contact: &mut ObservedContact| contact.status = ContactStatus::Deleting;
    check(unheld(Some(vec![]), dying), expect!["Creating=False"]);
}

#[test]
fn whoever_comes_first_takes_over_first() {
    check(Situation { rival: true, ..alike() }, expect!["NameClaimed=False, stalled"]);
}

#[test]
fn an_intent_that_made_nothing_gives_way_to_taking_over() {
    let namesakes = alike().namesakes;
    check(
        Situation { namesakes, ..intending(AddFate::NotMade) },
        expect![[r#"
            InSync=True
            contact: Some("c-unheld")
            intent: None
            mismatches: Some(0)
            adopted
            mailbox: Verified, 0 sent, last never, evidence Active, verified before
            phone: Sent, 0 sent, last 1000, evidence none
            phone: next at 87400
            recheck: 87400"#]],
    );
}

#[test]
fn a_contact_of_the_wanted_name_is_taken_over_in_place_of_one_that_is_gone() {
    let namesakes = alike().namesakes;
    let own = Some(Sight::Gone { confirmed: true });
    check(
        Situation { own, namesakes, ..holding(observed()) },
        expect![[r#"
            InSync=True
            contact: Some("c-unheld")
            mismatches: Some(0)
            adopted
            mailbox: Verified, 0 sent, last never, evidence Active, verified before
            phone: Sent, 0 sent, last 1000, evidence none
            phone: next at 87400
            recheck: 87400"#]],
    );
}

/// Both objects wrote to one contact, and deleting the copy would have deleted it.
#[test]
fn a_contact_that_an_object_of_before_holds_is_forgotten_and_left_alone() {
    let situation = drifted(|contact| contact.title = "CEO".to_owned());
    let situation = Situation { outranked: true, ..situation };
    check(
        situation.clone(),
        expect![[r#"
            NameClaimed=False, stalled
            contact: None
            mailbox: nothing
            phone: nothing
            recheck: 1000"#]],
    );
    check(
        Situation { want: Want::Absent(DELETE), ..situation.clone() },
        expect![[r#"
        Deleting=False
        ReleaseFinalizer"#]],
    );
    let mut elsewhere = situation;
    elsewhere.recorded.directory_id = Some("rd-elsewh".into());
    check(elsewhere, expect!["WrongDirectory=False, stalled"]);
}

// Open intents.

const UNANSWERED: AddFate = AddFate::Unanswered { since: Timestamp::UNIX_EPOCH };

fn unanswered(since: i64) -> AddFate {
    AddFate::Unanswered { since: at(since) }
}

#[test]
fn an_unanswered_add_is_looked_for_at_once() {
    check(
        intending(unanswered(900)),
        expect![[r#"
        OutcomeUnknown=False
        Relist"#]],
    );
}

#[test]
fn an_unanswered_add_that_made_the_contact_is_ours() {
    let namesakes = vec![namesake("c-made", SPEC_NAME, Holder::Nobody)];
    check(
        Situation { namesakes, ..intending(unanswered(900)) },
        expect![[r#"
            InSync=True
            Create: ListMessageContactVerifications c-made
            contact: Some("c-made")
            intent: None
            mismatches: Some(0)
            mailbox: Sent, 0 sent, last 1000, evidence none
            mailbox: next at 87400
            phone: Sent, 0 sent, last 1000, evidence none
            phone: next at 87400"#]],
    );
}

/// A late list showed the contact that was gone before; the one that was made became an orphan.
#[test]
fn a_contact_that_only_a_list_shows_is_read_before_it_is_taken_for_ours() {
    let mut listed = namesake("c-made", SPEC_NAME, Holder::Nobody);
    listed.entry.read_at = None;
    let situation = Situation { namesakes: vec![listed], ..intending(unanswered(900)) };
    check(
        situation.clone(),
        expect![[r#"
        OutcomeUnknown=False
        Repair: GetMessageContact c-made"#]],
    );
    check(
        Situation { want: Want::Absent(DELETE), ..situation },
        expect![[r#"
        Deleting=False
        Change: GetMessageContact c-made"#]],
    );
}

#[test]
fn a_contact_that_was_read_before_the_add_is_read_again() {
    let mut read = namesake("c-made", SPEC_NAME, Holder::Nobody);
    read.entry.read_at = Some(at(899));
    check(
        Situation { namesakes: vec![read], ..intending(unanswered(900)) },
        expect![[r#"
        OutcomeUnknown=False
        Repair: GetMessageContact c-made"#]],
    );
}

/// The view was still that of the intent's name: the rename was sent without a look at the new one.
#[test]
fn a_contact_found_under_a_name_that_was_given_up_is_recorded_and_looked_at_anew() {
    let namesakes = vec![namesake("c-made", SPEC_NAME, Holder::Nobody)];
    let situation = Situation { namesakes, ..intending(unanswered(900)) };
    check(
        with_spec(situation, |spec| spec.name = name("newname")),
        expect![[r#"
        Creating=False
        contact: Some("c-made")
        intent: None
        recheck: 1000"#]],
    );
}

#[test]
fn a_contact_found_with_other_fields_is_updated() {
    let namesakes = vec![namesake("c-made", SPEC_NAME, Holder::Nobody)];
    let situation = Situation { namesakes, ..intending(unanswered(900)) };
    check(
        with_spec(situation, |spec| spec.title = Title::CEO),
        expect![[r#"
            Updating=False
            Repair: UpdateMessageContact c-made title=CEO
            contact: Some("c-made")
            intent: None
            mismatches: Some(1)
            mailbox: Sent, 0 sent, last 1000, evidence none
            mailbox: next at 87400
            phone: Sent, 0 sent, last 1000, evidence none
            phone: next at 87400"#]],
    );
}

/// It counted as proof of absence at once, but a late list may show a name that was given up.
#[test]
fn a_held_contact_of_the_name_does_not_settle_an_intent() {
    let namesakes = vec![namesake("c-held", SPEC_NAME, Holder::Other { deleting: false })];
    check(
        Situation { namesakes, ..intending(unanswered(900)) },
        expect![[r#"
        OutcomeUnknown=False
        Relist"#]],
    );
}

#[test]
fn a_case_variant_is_never_taken_for_ours() {
    let namesakes = vec![namesake("c-variant", "OPSteam", Holder::Nobody)];
    check(
        Situation { namesakes, ..intending(unanswered(900)) },
        expect![[r#"
        OutcomeUnknown=False
        Relist"#]],
    );
}

#[test]
fn two_contacts_of_the_name_are_ambiguous() {
    let two = ["c-one", "c-two"].map(|id| namesake(id, SPEC_NAME, Holder::Nobody));
    let situation = Situation { namesakes: two.into(), ..intending(unanswered(900)) };
    check(situation.clone(), expect!["Ambiguous=False, stalled"]);
    check(
        Situation { want: Want::Absent(DELETE), ..situation },
        expect![[r#"
        DeletionFailed=False
        recheck: 100060"#]],
    );
}

#[test]
fn absence_is_not_believed_before_a_minute_has_passed() {
    let lists = Lists { last: Some(at(930)), before: Some(at(910)) };
    let situation = Situation { lists, now: at(940), ..intending(unanswered(900)) };
    check(
        situation.clone(),
        expect![[r#"
        OutcomeUnknown=False
        recheck: 960"#]],
    );
    check(
        Situation { now: at(960), ..situation },
        expect![[r#"
        OutcomeUnknown=False
        Relist"#]],
    );
}

/// The directory was listed again and again until the clock had caught up.
#[test]
fn an_intent_of_a_clock_that_was_ahead_is_waited_for() {
    let lists = Lists { last: Some(at(999)), before: Some(at(998)) };
    check(
        Situation { lists, ..intending(unanswered(1200)) },
        expect![[r#"
        OutcomeUnknown=False
        recheck: 1200"#]],
    );
}

#[test]
fn absence_is_not_believed_from_one_list() {
    let lists = Lists { last: Some(at(965)), before: Some(at(899)) };
    check(
        Situation { lists, ..intending(unanswered(900)) },
        expect![[r#"
        OutcomeUnknown=False
        Relist"#]],
    );
}

#[test]
fn absence_is_believed_after_two_lists_and_a_minute() {
    let lists = Lists { last: Some(at(960)), before: Some(at(901)) };
    check(
        Situation { lists, ..intending(unanswered(900)) },
        expect![[r#"
        Creating=False
        intent: None
        recheck: 1000"#]],
    );
}

/// The minute was counted from the intent, which may have stood for minutes before its Add.
#[test]
fn the_minute_counts_from_the_add_and_not_from_the_intent() {
    let lists = Lists { last: Some(at(999)), before: Some(at(998)) };
    check(
        Situation { lists, ..intending(unanswered(990)) },
        expect![[r#"
        OutcomeUnknown=False
        recheck: 1050"#]],
    );
}

#[test]
fn an_open_intent_is_settled_by_report_only_too_and_writes_nothing() {
    let lists = Lists { last: Some(at(960)), before: Some(at(901)) };
    let report = |situation| with_spec(situation, |spec| spec.mode = Mode::ReportOnly);
    check(
        report(intending(UNANSWERED)),
        expect![[r#"
        Creating=False
        intent: None
        recheck: 1000"#]],
    );
    check(
        report(Situation { lists, ..intending(unanswered(900)) }),
        expect![[r#"
        Creating=False
        intent: None
        recheck: 1000"#]],
    );
    check(
        report(intending(AddFate::NotMade)),
        expect![[r#"
        Drifted=False
        intent: None
        drift: name "" -> "opsteam""#]],
    );
}

// Converging.

#[test]
fn a_contact_that_agrees_is_in_sync() {
    check(
        holding(observed()),
        expect![[r#"
        InSync=True
        mismatches: Some(0)"#]],
    );
}

#[test]
fn the_order_of_message_types_and_the_case_of_an_address_are_no_difference() {
    let situation = drifted(|contact| {
        contact.email = Some(email("MailBox@Example.com"));
        contact.status = ContactStatus::Other("Odd".to_owned());
    });
    check(
        situation,
        expect![[r#"
        InSync=True
        mismatches: Some(0)"#]],
    );
}

#[test]
fn a_lost_finalizer_is_taken_again() {
    check(
        Situation { finalizer: false, ..holding(observed()) },
        expect![[r#"
        Updating=False
        TakeFinalizer"#]],
    );
}

#[test]
fn a_changed_name_is_sent_alone() {
    check(
        drifted(|contact| contact.name = name("oldname")),
        expect![[r#"
        Updating=False
        Repair: UpdateMessageContact c-ownownownownowno name=opsteam
        mismatches: Some(1)"#]],
    );
}

#[test]
fn a_name_that_changed_in_case_alone_is_sent() {
    check(
        drifted(|contact| contact.name = name("OpsTeam")),
        expect![[r#"
        Updating=False
        Repair: UpdateMessageContact c-ownownownownowno name=opsteam
        mismatches: Some(1)"#]],
    );
}

#[test]
fn a_changed_title_is_sent_alone() {
    check(
        drifted(|contact| contact.title = "Unheard of".to_owned()),
        expect![[r#"
        Updating=False
        Repair: UpdateMessageContact c-ownownownownowno title=TechnicalDirector
        mismatches: Some(1)"#]],
    );
}

#[test]
fn a_changed_email_is_sent_alone_after_a_look_at_what_is_pending() {
    let situation = drifted(|contact| contact.email = Some(email("other@example.org")));
    check(
        situation.clone(),
        expect![[r#"
        Updating=False
        Repair: ListMessageContactVerifications c-ownownownownowno"#]],
    );
    check(
        with_entry(situation, |entry| entry.pending = Some(waits([]))),
        expect![[r#"
            Updating=False
            Repair: UpdateMessageContact c-ownownownownowno email=m***@example.com
            mismatches: Some(1)
            mailbox: Pending, 0 sent, last never, evidence none
            mailbox: m***@example.com waits"#]],
    );
}

#[test]
fn a_missing_email_is_sent() {
    let situation = drifted(|contact| contact.email = None);
    check(
        with_entry(situation, |entry| entry.pending = Some(waits([]))),
        expect![[r#"
            Updating=False
            Repair: UpdateMessageContact c-ownownownownowno email=m***@example.com
            mismatches: Some(1)
            mailbox: Pending, 0 sent, last never, evidence none
            mailbox: m***@example.com waits"#]],
    );
}

#[test]
fn a_changed_phone_is_sent_alone_after_a_look_at_what_is_pending() {
    let situation = drifted(|contact| contact.phone = Some(phone("65-61234567")));
    check(
        situation.clone(),
        expect![[r#"
        Updating=False
        Repair: ListMessageContactVerifications c-ownownownownowno"#]],
    );
    check(
        with_entry(situation, |entry| entry.pending = Some(waits([]))),
        expect![[r#"
            Updating=False
            Repair: UpdateMessageContact c-ownownownownowno phone=86-138****8000
            mismatches: Some(1)
            phone: Pending, 0 sent, last never, evidence none
            phone: 86-138****8000 waits"#]],
    );
}

#[test]
fn a_phone_that_the_spec_no_longer_has_is_cleared() {
    check(
        with_spec(holding(observed()), |spec| spec.phone = None),
        expect![[r#"
            Updating=False
            Repair: UpdateMessageContact c-ownownownownowno phone=
            mismatches: Some(1)
            phone: nothing"#]],
    );
}

#[test]
fn changed_message_types_are_sent_whole() {
    let types = ["FaultMessage".to_owned(), "Unheard".to_owned()];
    check(
        drifted(|contact| contact.message_types = types.into()),
        expect![[r#"
        Updating=False
        Repair: UpdateMessageContact c-ownownownownowno types={FaultMessage, SecurityMessage}
        mismatches: Some(1)"#]],
    );
}

#[test]
fn several_changes_go_in_one_call() {
    let situation = drifted(|contact| {
        contact.name = name("oldname");
        contact.title = "CEO".to_owned();
        contact.message_types.clear();
    });
    check(
        Situation { settled_generation: 2, ..situation },
        expect![[r#"
        Updating=False
        Change: UpdateMessageContact c-ownownownownowno name=opsteam title=TechnicalDirector types={FaultMessage, SecurityMessage}
        mismatches: Some(1)"#]],
    );
}

/// One refusal of the empty number refused the title too, for the whole generation.
#[test]
fn taking_the_phone_out_goes_alone_and_last() {
    let situation = drifted(|contact| contact.title = "CEO".to_owned());
    check(
        with_spec(situation, |spec| spec.phone = None),
        expect![[r#"
            Updating=False
            Repair: UpdateMessageContact c-ownownownownowno title=TechnicalDirector
            mismatches: Some(1)
            phone: nothing"#]],
    );
}

#[test]
fn an_unread_contact_is_read_before_anything_is_decided() {
    let situation = drifted(|contact| contact.title = "CEO".to_owned());
    check(
        with_entry(situation, |entry| entry.unread = true),
        expect![[r#"
        Updating=False
        Repair: GetMessageContact c-ownownownownowno"#]],
    );
}

#[test]
fn a_contact_that_somebody_deletes_is_waited_for() {
    check(drifted(|contact| contact.status = ContactStatus::Deleting), expect!["Updating=False"]);
}

#[test]
fn report_only_shows_every_difference_masked_and_writes_nothing() {
    let situation = drifted(|contact| {
        contact.name = name("oldname");
        contact.title = "CEO".to_owned();
        contact.email = Some(email("other@example.org"));
        contact.phone = None;
        contact.message_types.clear();
    });
    let situation = with_entry(situation, |entry| entry.pending = Some(waits([])));
    let situation = Situation { finalizer: false, ..situation };
    check(
        with_spec(situation, |spec| spec.mode = Mode::ReportOnly),
        expect![[r#"
        Drifted=False
        drift: name "oldname" -> "opsteam"
        drift: title "CEO" -> "TechnicalDirector"
        drift: emailAddress "o***@example.org" -> "m***@example.com"
        drift: phoneNumber "" -> "86-138****8000"
        drift: messageTypes "" -> "FaultMessage, SecurityMessage""#]],
    );
}

#[test]
fn a_rename_to_a_taken_name_changes_nothing() {
    let mut situation = drifted(|contact| {
        contact.name = name("oldname");
        contact.title = "CEO".to_owned();
    });
    let taken = |holder| vec![namesake("c-other", SPEC_NAME, holder)];
    situation.namesakes = taken(Holder::Other { deleting: false });
    check(
        situation.clone(),
        expect![[r#"
        NameClaimed=False, stalled
        drift: name "oldname" -> "opsteam"
        drift: title "CEO" -> "TechnicalDirector""#]],
    );
    situation.namesakes = taken(Holder::Other { deleting: true });
    check(
        situation.clone(),
        expect![[r#"
        Updating=False
        drift: name "oldname" -> "opsteam"
        drift: title "CEO" -> "TechnicalDirector""#]],
    );
    situation.namesakes = taken(Holder::Nobody);
    check(
        situation.clone(),
        expect![[r#"
        NameTaken=False, stalled
        drift: name "oldname" -> "opsteam"
        drift: title "CEO" -> "TechnicalDirector""#]],
    );
    check(
        Situation { namesakes: vec![], rival: true, ..situation },
        expect![[r#"
        NameClaimed=False, stalled
        drift: name "oldname" -> "opsteam"
        drift: title "CEO" -> "TechnicalDirector""#]],
    );
}

#[test]
fn a_namesake_does_not_keep_other_fields_from_being_written() {
    let namesakes = vec![namesake("c-variant", "OPSTEAM", Holder::Nobody)];
    let situation = drifted(|contact| contact.title = "CEO".to_owned());
    check(
        Situation { namesakes, ..situation },
        expect![[r#"
        Updating=False
        Repair: UpdateMessageContact c-ownownownownowno title=TechnicalDirector
        mismatches: Some(1)"#]],
    );
}

/// The pending list was asked for only after a write of the same spec: an edit of the title, or a
/// restart, sent the pending address a second time.
#[test]
fn a_value_that_waits_for_its_owner_is_not_written_again() {
    let situation = drifted(|contact| {
        contact.email = Some(email("effective@example.com"));
        contact.phone = Some(phone("65-61234567"));
    });
    let pending =
        vec![Target::Phone(phone("86-13800138000")), Target::Email(email("MAILBOX@example.com"))];
    let situation = with_entry(situation, |entry| entry.pending = Some(waits(pending)));
    check(
        situation.clone(),
        expect![[r#"
            InSync=True
            mismatches: Some(0)
            mailbox: Sent, 1 sent, last 100, evidence SeenPending
            mailbox: next at 86500
            mailbox: m***@example.com waits
            phone: Sent, 1 sent, last 100, evidence SeenPending
            phone: next at 86500
            phone: 86-138****8000 waits
            recheck: 86500"#]],
    );
    check(
        with_spec(situation.clone(), |spec| spec.title = Title::CEO),
        expect![[r#"
            Updating=False
            Repair: UpdateMessageContact c-ownownownownowno title=CEO
            mismatches: Some(1)
            mailbox: Sent, 1 sent, last 100, evidence SeenPending
            mailbox: next at 86500
            mailbox: m***@example.com waits
            phone: Sent, 1 sent, last 100, evidence SeenPending
            phone: next at 86500
            phone: 86-138****8000 waits"#]],
    );
    check(
        with_spec(situation, |spec| spec.email = email("third@example.com")),
        expect![[r#"
            Updating=False
            Repair: UpdateMessageContact c-ownownownownowno email=t***@example.com
            mismatches: Some(1)
            mailbox: Pending, 0 sent, last never, evidence none, verified before
            mailbox: t***@example.com waits
            phone: Sent, 1 sent, last 100, evidence SeenPending
            phone: next at 86500
            phone: 86-138****8000 waits"#]],
    );
}

/// A situation in which the wanted fields were written so many times and still differ.
fn written(mut situation: Situation, mismatches: u32) -> Situation {
    if let Want::Present(spec) = &situation.want {
        let id = OWN_ID.into();
        let hash = match spec.phone {
            Some(_) => key().of_write(&id, spec),
            None => key().of_clearing(&id, spec),
        };
        situation.recorded.last_write = Some(LastWrite { hash, mismatches });
    }
    situation
}

#[test]
fn a_write_that_reads_back_differently_twice_is_reported_and_not_repeated() {
    let situation = drifted(|contact| contact.title = "CEO".to_owned());
    check(
        written(situation.clone(), 1),
        expect![[r#"
        Updating=False
        Repair: UpdateMessageContact c-ownownownownowno title=TechnicalDirector
        mismatches: Some(2)"#]],
    );
    check(
        written(situation.clone(), 2),
        expect![[r#"
        DriftContested=False
        drift: title "CEO" -> "TechnicalDirector""#]],
    );
    let edited = with_spec(written(situation, 2), |spec| spec.title = Title::Other);
    check(
        edited,
        expect![[r#"
        Updating=False
        Repair: UpdateMessageContact c-ownownownownowno title=Other
        mismatches: Some(1)"#]],
    );
}

#[test]
fn a_contact_that_agrees_again_counts_from_nothing() {
    check(
        written(holding(observed()), 2),
        expect![[r#"
        InSync=True
        mismatches: Some(0)"#]],
    );
}

#[test]
fn a_phone_that_the_cloud_keeps_is_not_removable() {
    let situation = with_spec(holding(observed()), |spec| spec.phone = None);
    check(
        written(situation, 2),
        expect![[r#"
            NotRemovable=False
            phone: nothing
            drift: phoneNumber "86-138****8000" -> """#]],
    );
}

#[test]
fn a_phone_that_the_cloud_refuses_to_clear_is_not_removable() {
    let code = "InvalidParameter.PhoneNumber";
    let setback = Some(failed(Action::UpdateMessageContact, FailureClass::InvalidInput, code));
    let situation = with_spec(holding(observed()), |spec| spec.phone = None);
    check(
        Situation { setback, ..situation.clone() },
        expect![[r#"
            NotRemovable=False
            mismatches: Some(0)
            error: Some(("InvalidParameter.PhoneNumber", "UpdateMessageContact", 3))
            phone: nothing
            drift: phoneNumber "86-138****8000" -> """#]],
    );
    let mut remembered = situation;
    remembered.recorded.last_error = Some(LastError {
        code: code.to_owned(),
        action: "UpdateMessageContact".into(),
        generation: 3,
    });
    check(
        remembered,
        expect![[r#"
            NotRemovable=False
            mismatches: Some(0)
            phone: nothing
            drift: phoneNumber "86-138****8000" -> """#]],
    );
}

/// The refused number kept every other difference from being put right, as an invalid spec.
#[test]
fn a_phone_that_stays_does_not_keep_other_fields_from_being_written() {
    let code = "InvalidParameter.PhoneNumber";
    let setback = Some(failed(Action::UpdateMessageContact, FailureClass::InvalidInput, code));
    let situation = drifted(|contact| contact.title = "CEO".to_owned());
    let mut situation = with_spec(Situation { setback, ..situation }, |spec| spec.phone = None);
    situation.recorded.last_error = Some(LastError {
        code: code.to_owned(),
        action: "UpdateMessageContact".into(),
        generation: 3,
    });
    check(
        situation,
        expect![[r#"
            Updating=False
            Repair: UpdateMessageContact c-ownownownownowno title=TechnicalDirector
            mismatches: Some(1)
            phone: nothing"#]],
    );
}

#[test]
fn a_write_without_an_answer_is_not_counted() {
    let situation = drifted(|contact| contact.title = "CEO".to_owned());
    let planned = planned(&situation).record;
    let call = &Call::UpdateMessageContact(OWN_ID.into(), Changes::default());
    let count = |error: Option<FailureClass>| {
        let error = error.map(|class| failed(Action::UpdateMessageContact, class, "").error);
        let after = record_after(&situation.recorded, planned.clone(), call, error.as_ref(), at(0));
        after.last_write.map(|write| write.mismatches)
    };
    assert_eq!(count(None), Some(1));
    assert_eq!(count(Some(FailureClass::OutcomeUnknown)), None);
    assert_eq!(count(Some(FailureClass::Throttled)), None);
    let again = written(situation, 1);
    let error = failed(Action::UpdateMessageContact, FailureClass::OutcomeUnknown, "").error;
    let after =
        record_after(&again.recorded, self::planned(&again).record, call, Some(&error), at(0));
    assert_eq!(after.last_write.map(|write| write.mismatches), Some(1));
}

// Changing back.

/// The title differs, and all wanted fields were as wanted before; it was put right at those times.
fn reverted(field: Field, times: &[i64]) -> Situation {
    let mut situation = drifted(|contact| contact.title = "CEO".to_owned());
    let difference = Difference { field, desired: String::new(), observed: String::new() };
    let revert = |since: &i64| {
        let times = times.iter().copied().map(at).collect();
        Revert { difference, since: at(*since), times }
    };
    situation.recorded.reverts = times.first().map(revert).into_iter().collect();
    written(situation, 0)
}

#[test]
fn a_field_that_is_put_right_is_remembered_for_an_hour() {
    check(
        reverted(Field::Title, &[]),
        expect![[r#"
        Updating=False
        Repair: UpdateMessageContact c-ownownownownowno title=TechnicalDirector
        mismatches: Some(1)
        reverted: title since 1000 at [1000]
        recheck: 4600"#]],
    );
    check(
        reverted(Field::Title, &[100, 200]),
        expect![[r#"
        Updating=False
        Repair: UpdateMessageContact c-ownownownownowno title=TechnicalDirector
        mismatches: Some(1)
        reverted: title since 100 at [100, 200, 1000]
        recheck: 4600"#]],
    );
    // Another field has a memory of its own.
    check(
        reverted(Field::Name, &[100, 200]),
        expect![[r#"
        Updating=False
        Repair: UpdateMessageContact c-ownownownownowno title=TechnicalDirector
        mismatches: Some(1)
        reverted: name since 100 at [100, 200]
        reverted: title since 1000 at [1000]
        recheck: 3800"#]],
    );
    let in_sync = |now| {
        let mut situation = reverted(Field::Title, &[100, 200]);
        situation.own = holding(observed()).own;
        Situation { now: at(now), ..situation }
    };
    check(
        in_sync(3799),
        expect![[r#"
        InSync=True
        reverted: title since 100 at [100, 200]
        recheck: 3800"#]],
    );
    check(in_sync(3800), expect!["InSync=True"]);
}

#[test]
fn an_edit_is_not_remembered_as_put_right() {
    let edited = |situation| with_spec(situation, |spec| spec.title = Title::Other);
    check(
        edited(reverted(Field::Title, &[])),
        expect![[r#"
        Updating=False
        Repair: UpdateMessageContact c-ownownownownowno title=Other
        mismatches: Some(1)"#]],
    );
    check(
        edited(reverted(Field::Title, &[100, 200, 300, 400, 500])),
        expect![[r#"
        Updating=False
        Repair: UpdateMessageContact c-ownownownownowno title=Other
        mismatches: Some(1)
        reverted: title since 100 at [100, 200, 300, 400, 500]
        recheck: 3700"#]],
    );
    let unread = written(drifted(|contact| contact.title = "CEO".to_owned()), 1);
    check(
        unread,
        expect![[r#"
        Updating=False
        Repair: UpdateMessageContact c-ownownownownowno title=TechnicalDirector
        mismatches: Some(2)"#]],
    );
    let first = drifted(|contact| contact.title = "CEO".to_owned());
    assert!(planned(&first).record.reverts.is_empty());
}

/// Each repair was uncounted as long as something else was not in sync.
#[test]
fn what_is_put_right_counts_while_the_phone_is_not_removable() {
    let clearing = |mismatches| {
        let situation = drifted(|contact| contact.title = "CEO".to_owned());
        written(with_spec(situation, |spec| spec.phone = None), mismatches)
    };
    check(
        clearing(2),
        expect![[r#"
            Updating=False
            Repair: UpdateMessageContact c-ownownownownowno title=TechnicalDirector
            mismatches: Some(1)
            phone: nothing
            reverted: title since 1000 at [1000]
            recheck: 4600"#]],
    );
    let phone = written(with_spec(holding(observed()), |spec| spec.phone = None), 1);
    assert!(planned(&phone).record.reverts.is_empty(), "taking it out is an edit");
}

#[test]
fn a_field_that_was_put_right_five_times_in_an_hour_is_left_alone() {
    let five = [100, 200, 300, 400, 500];
    check(
        reverted(Field::Title, &five),
        expect![[r#"
        DriftContested=False
        drift: title "CEO" -> "TechnicalDirector"
        reverted: title since 100 at [100, 200, 300, 400, 500]
        recheck: 3700"#]],
    );
    check(
        reverted(Field::Title, &five[1..]),
        expect![[r#"
        Updating=False
        Repair: UpdateMessageContact c-ownownownownowno title=TechnicalDirector
        mismatches: Some(1)
        reverted: title since 200 at [200, 300, 400, 500, 1000]
        recheck: 3800"#]],
    );
    check(
        Situation { now: at(3699), ..reverted(Field::Title, &five) },
        expect![[r#"
        DriftContested=False
        drift: title "CEO" -> "TechnicalDirector"
        reverted: title since 100 at [100, 200, 300, 400, 500]
        recheck: 3700"#]],
    );
    check(
        Situation { now: at(3700), ..reverted(Field::Title, &five) },
        expect![[r#"
        Updating=False
        Repair: UpdateMessageContact c-ownownownownowno title=TechnicalDirector
        mismatches: Some(1)
        reverted: title since 100 at [200, 300, 400, 500, 3700]
        recheck: 3800"#]],
    );
    let message = planned(&reverted(Field::Title, &five)).verdict.synced.message;
    assert!(message.contains("`title`") && !message.contains("`name`"), "{message}");
}

#[test]
fn other_fields_are_put_right_beside_one_that_is_left_alone() {
    let mut situation = reverted(Field::Title, &[100, 200, 300, 400, 500]);
    let contact = ObservedContact { title: "CEO".to_owned(), name: name("oldname"), ..observed() };
    situation.own = Some(Sight::Known(entry(contact)));
    check(
        situation.clone(),
        expect![[r#"
        Updating=False
        Repair: UpdateMessageContact c-ownownownownowno name=opsteam
        mismatches: Some(1)
        reverted: title since 100 at [100, 200, 300, 400, 500]
        reverted: name since 1000 at [1000]
        recheck: 3700"#]],
    );
    // Written and read back: the count of that write ends, though the title still differs.
    situation.own = reverted(Field::Title, &[]).own;
    check(
        written(situation, 1),
        expect![[r#"
        DriftContested=False
        mismatches: Some(0)
        drift: title "CEO" -> "TechnicalDirector"
        reverted: title since 100 at [100, 200, 300, 400, 500]
        recheck: 3700"#]],
    );
}

#[test]
fn a_person_may_have_it_tried_once_more() {
    let mut situation = reverted(Field::Title, &[100, 200, 300, 400, 500]);
    try_once_more(&mut situation.recorded);
    let plan = planned(&situation);
    assert!(matches!(plan.step, Some(Step::Call(Call::UpdateMessageContact(..), _))));
    situation.recorded = plan.record;
    check(
        Situation { now: at(1001), ..written(situation, 0) },
        expect![[r#"
        DriftContested=False
        drift: title "CEO" -> "TechnicalDirector"
        reverted: title since 100 at [200, 300, 400, 500, 1000]
        recheck: 3800"#]],
    );
    let mut few = reverted(Field::Title, &[100, 200]).recorded;
    try_once_more(&mut few);
    assert_eq!(few.reverts[0].times.len(), 2);
}

#[test]
fn a_refused_or_unanswered_write_puts_nothing_right() {
    let situation = reverted(Field::Title, &[100]);
    let planned = planned(&situation).record;
    let call = &Call::UpdateMessageContact(OWN_ID.into(), Changes::default());
    let count = |error: Option<FailureClass>| {
        let error = error.map(|class| failed(Action::UpdateMessageContact, class, "").error);
        let after =
            record_after(&situation.recorded, planned.clone(), call, error.as_ref(), at(1010));
        after.reverts[0].times.len()
    };
    assert_eq!(count(None), 2);
    assert_eq!(count(Some(FailureClass::OutcomeUnknown)), 1);
    assert_eq!(count(Some(FailureClass::Throttled)), 1);
}

// Bindings.

/// An object that wants these members, and its contact that is bound to those; ids are written with
/// spaces between them.
fn bound_to(wanted: &str, shown: &str) -> Situation {
    let situation = drifted(|contact| contact.members = ids(shown));
    with_spec(situation, |spec| spec.members = Some(ids(wanted)))
}

fn ids(text: &str) -> BTreeSet<MemberId> {
    text.split_whitespace().map(MemberId::from).collect()
}

/// What a cloud does with a call for bindings: takes it, takes it without an effect, or refuses it.
enum Answer {
    Taken,
    Ignored,
    Refused(FailureClass, &'static str),
}

/// Plans, calls and reads again until nothing is left to do now. The calls, and what is said then.
fn told_of_bindings(
    situation: &mut Situation,
    mut cloud: impl FnMut(&Call, &ObservedContact) -> Answer,
) -> String {
    let mut text = String::new();
    for _ in 0..40 {
        let plan = planned(situation);
        let Some(Step::Call(call, urgency)) = &plan.step else {
            situation.attempts = plan.attempts;
            text += &shown(situation);
            let bound = plan.verdict.bound.map(|bound| bound.message).unwrap_or_default();
            let _ = write!(text, "\n{bound}");
            return text;
        };
        let _ = write!(text, "{urgency:?}: {}", shown_call(call));
        let Some(Sight::Known(entry)) = &mut situation.own else { break };
        let contact = Arc::make_mut(&mut entry.contact);
        let error = match (cloud(call, contact), call) {
            (Answer::Refused(class, code), _) => {
                let _ = write!(text, " -> {code}");
                Some(failed(call.action(), class, code).error)
            }
            (Answer::Taken, Call::AssociateMembers(_, ids)) => {
                contact.members.extend(ids.iter().cloned());
                None
            }
            (Answer::Taken, Call::DisassociateMembers(_, ids)) => {
                contact.members.retain(|id| !ids.contains(id));
                None
            }
            (Answer::Taken | Answer::Ignored, _) => None,
        };
        text.push('\n');
        situation.attempts = plan.attempts.after(call, error.as_ref(), situation.now);
        situation.recorded =
            record_after(&situation.recorded, plan.record, call, error.as_ref(), situation.now);
    }
    panic!("it does not end:\n{text}")
}

fn check_bindings(
    situation: &mut Situation,
    cloud: impl FnMut(&Call, &ObservedContact) -> Answer,
    expected: Expect,
) {
    expected.assert_eq(&told_of_bindings(situation, cloud));
}

fn taken(_: &Call, _: &ObservedContact) -> Answer {
    Answer::Taken
}

fn sent(call: &Call) -> &BTreeSet<MemberId> {
    call.members().unwrap_or_else(|| panic!("no call for bindings: {call:?}"))
}

fn binds(call: &Call) -> bool {
    call.action() == Action::AssociateMembers
}

/// A cloud that does not know these ids.
fn without(unknown: &str) -> impl Fn(&Call, &ObservedContact) -> Answer {
    let unknown = ids(unknown);
    move |call, _| {
        if sent(call).is_disjoint(&unknown) {
            Answer::Taken
        } else {
            Answer::Refused(FailureClass::UnknownMember, "InvalidMember")
        }
    }
}

/// Unbound, a contact of this cloud still shows what follows from its folder `fd-1` (A26); taking
/// out what is not bound is an error under A18.
fn expanded(refuses: bool) -> impl Fn(&Call, &ObservedContact) -> Answer {
    let inherited = ids("11 12 fd-2");
    move |call, _| {
        if binds(call) || sent(call).is_disjoint(&inherited) {
            Answer::Taken
        } else if refuses {
            Answer::Refused(FailureClass::InvalidInput, "InvalidParameter.Members.Duplicate")
        } else {
            Answer::Ignored
        }
    }
}

#[test]
fn without_members_bindings_are_left_alone() {
    let mut situation = drifted(|contact| contact.members = ids("11 fd-1"));
    check_bindings(
        &mut situation,
        taken,
        expect![[r#"
        InSync=True
        mismatches: Some(0)
    "#]],
    );
}

#[test]
fn only_what_differs_is_bound_and_unbound() {
    check_bindings(
        &mut bound_to("11 rd-1", "11 rd-1"),
        taken,
        expect![[r#"
        InSync=True
        bound: InSync=True
        mismatches: Some(0)
        the contact is bound to exactly what `members` names"#]],
    );
    check_bindings(
        &mut bound_to("", "11 fd-1"),
        taken,
        expect![[r#"
            Repair: DisassociateMembers 11 fd-1
            InSync=True
            bound: InSync=True
            the contact is bound to nothing, as `members: []` says"#]],
    );
    check_bindings(
        &mut bound_to("11 fd-1 rd-1", "11 12"),
        taken,
        expect![[r#"
            Repair: AssociateMembers fd-1 rd-1
            Repair: DisassociateMembers 12
            InSync=True
            bound: InSync=True
            the contact is bound to exactly what `members` names"#]],
    );
}

#[test]
fn a_call_has_at_most_five_ids() {
    let twelve = "11 12 13 14 15 16 17 18 19 20 fd-1 r-1";
    check_bindings(
        &mut bound_to(twelve, ""),
        taken,
        expect![[r#"
            Repair: AssociateMembers 11 12 13 14 15
            Repair: AssociateMembers 16 17 18 19 20
            Repair: AssociateMembers fd-1 r-1
            InSync=True
            bound: InSync=True
            the contact is bound to exactly what `members` names"#]],
    );
    check_bindings(
        &mut bound_to("", twelve),
        taken,
        expect![[r#"
            Repair: DisassociateMembers 18 19 20 fd-1 r-1
            Repair: DisassociateMembers 13 14 15 16 17
            Repair: DisassociateMembers 11 12
            InSync=True
            bound: InSync=True
            the contact is bound to nothing, as `members: []` says"#]],
    );
}

/// At the limit a person would hear of nothing if everything were taken out first.
#[test]
fn a_set_is_replaced_by_turns_so_that_the_limit_is_kept() {
    let (old, new) = ("11 12 13 14 15 16 17 18 19 20", "31 32 33 34 35 36 37 38 39 40");
    let keeps_limit = |call: &Call, contact: &ObservedContact| {
        let many = binds(call) && contact.members.len() + sent(call).len() > 10;
        assert!(!many && contact.members.len() >= 5, "{contact:?}");
        Answer::Taken
    };
    check_bindings(
        &mut bound_to(new, old),
        keeps_limit,
        expect![[r#"
            Repair: DisassociateMembers 16 17 18 19 20
            Repair: AssociateMembers 31 32 33 34 35
            Repair: DisassociateMembers 11 12 13 14 15
            Repair: AssociateMembers 36 37 38 39 40
            InSync=True
            bound: InSync=True
            the contact is bound to exactly what `members` names"#]],
    );
}

#[test]
fn the_cloud_says_what_is_too_many() {
    let limit = |call: &Call, contact: &ObservedContact| {
        if binds(call) && contact.members.len() + sent(call).len() > 3 {
            Answer::Refused(FailureClass::Quota, "LimitExceeded.ContactMembers")
        } else {
            Answer::Taken
        }
    };
    let mut situation = bound_to("11 12 13 14", "21 22");
    // Taking out is not limited, and makes room at once.
    check_bindings(
        &mut situation,
        limit,
        expect![[r#"
            Repair: AssociateMembers 11 12 13 14 -> LimitExceeded.ContactMembers
            Repair: AssociateMembers 11
            Repair: AssociateMembers 12 -> LimitExceeded.ContactMembers
            Repair: DisassociateMembers 21 22
            Repair: AssociateMembers 12
            Repair: AssociateMembers 13
            Repair: AssociateMembers 14 -> LimitExceeded.ContactMembers
            QuotaExceeded=False
            bound: QuotaExceeded=False
            drift: members "11, 12, 13" -> "11, 12, 13, 14"
            recheck: 1300
            the cloud binds the contact to no more members (LimitExceeded.ContactMembers); not bound: 14; take others out, or have the limit raised; it is tried again every few minutes"#]],
    );
    check(
        situation.clone(),
        expect![[r#"
            QuotaExceeded=False
            bound: QuotaExceeded=False
            drift: members "11, 12, 13" -> "11, 12, 13, 14"
            recheck: 1300"#]],
    );
    situation.now = at(1300);
    check_bindings(
        &mut situation,
        taken,
        expect![[r#"
            Repair: AssociateMembers 14
            InSync=True
            bound: InSync=True
            the contact is bound to exactly what `members` names"#]],
    );
}

#[test]
fn an_unknown_member_is_found_and_named_and_all_others_are_bound() {
    let mut situation = bound_to("11 12 13 14 15 16 91", "21");
    check_bindings(
        &mut situation,
        without("13 91"),
        expect![[r#"
            Repair: AssociateMembers 11 12 13 14 15 -> InvalidMember
            Repair: AssociateMembers 16 91 -> InvalidMember
            Repair: AssociateMembers 11
            Repair: AssociateMembers 12
            Repair: AssociateMembers 13 -> InvalidMember
            Repair: AssociateMembers 14
            Repair: AssociateMembers 15
            Repair: AssociateMembers 16
            Repair: AssociateMembers 91 -> InvalidMember
            Repair: DisassociateMembers 21
            UnknownMember=False
            bound: UnknownMember=False
            drift: members "11, 12, 14, 15, 16" -> "11, 12, 13, 14, 15, 16, 91"
            recheck: 1300
            not in the directory: 13, 91; correct `members`, or wait: it is tried again every few minutes, as accounts join later"#]],
    );
    // Not before some minutes have passed, however often it is looked at.
    situation.now = at(1299);
    check_bindings(
        &mut situation,
        without("13 91"),
        expect![[r#"
            UnknownMember=False
            bound: UnknownMember=False
            drift: members "11, 12, 14, 15, 16" -> "11, 12, 13, 14, 15, 16, 91"
            recheck: 1300
            not in the directory: 13, 91; correct `members`, or wait: it is tried again every few minutes, as accounts join later"#]],
    );
    // It is tried again alone; one has joined meanwhile.
    situation.now = at(1300);
    check_bindings(
        &mut situation,
        without("91"),
        expect![[r#"
            Repair: AssociateMembers 13
            Repair: AssociateMembers 91 -> InvalidMember
            UnknownMember=False
            bound: UnknownMember=False
            drift: members "11, 12, 13, 14, 15, 16" -> "11, 12, 13, 14, 15, 16, 91"
            recheck: 1600
            not in the directory: 91; correct `members`, or wait: it is tried again every few minutes, as accounts join later"#]],
    );
    // What drifts beside it is put right at once.
    if let Some(Sight::Known(entry)) = &mut situation.own {
        Arc::make_mut(&mut entry.contact).members = ids("11 12 13 14 15 22");
    }
    situation.now = at(1400);
    check_bindings(
        &mut situation,
        without("91"),
        expect![[r#"
            Repair: AssociateMembers 16
            Repair: DisassociateMembers 22
            UnknownMember=False
            bound: UnknownMember=False
            drift: members "11, 12, 13, 14, 15, 16" -> "11, 12, 13, 14, 15, 16, 91"
            reverted: members since 1400 at [1400]
            recheck: 1600
            not in the directory: 91; correct `members`, or wait: it is tried again every few minutes, as accounts join later"#]],
    );
    // So is what drifts a third time: what was tried before is not counted together.
    if let Some(Sight::Known(entry)) = &mut situation.own {
        Arc::make_mut(&mut entry.contact).members = ids("11 12 13 14 15");
    }
    check_bindings(
        &mut situation,
        without("91"),
        expect![[r#"
            Repair: AssociateMembers 16
            UnknownMember=False
            bound: UnknownMember=False
            drift: members "11, 12, 13, 14, 15, 16" -> "11, 12, 13, 14, 15, 16, 91"
            reverted: members since 1400 at [1400, 1400]
            recheck: 1600
            not in the directory: 91; correct `members`, or wait: it is tried again every few minutes, as accounts join later"#]],
    );
    // Another spec starts anew.
    situation.generation = 4;
    check_bindings(
        &mut situation,
        taken,
        expect![[r#"
            Change: AssociateMembers 91
            InSync=True
            bound: InSync=True
            reverted: members since 1400 at [1400, 1400, 1400]
            recheck: 5000
            the contact is bound to exactly what `members` names"#]],
    );
}

#[test]
fn a_member_that_is_no_id_stops_the_contact_until_the_spec_changes() {
    let refuses = |call: &Call, _: &ObservedContact| {
        if sent(call).contains(&MemberId::from("nonsense")) {
            Answer::Refused(FailureClass::InvalidInput, "InvalidParameter.Members")
        } else {
            Answer::Taken
        }
    };
    let mut situation = bound_to("11 nonsense", "");
    check_bindings(
        &mut situation,
        refuses,
        expect![[r#"
            Repair: AssociateMembers 11 nonsense -> InvalidParameter.Members
            Repair: AssociateMembers 11
            Repair: AssociateMembers nonsense -> InvalidParameter.Members
            InvalidContact=False, stalled
            bound: InvalidContact=False
            drift: members "11" -> "11, nonsense"
            the cloud takes no such ids: nonsense; correct `members`"#]],
    );
    situation.now = at(9999);
    check_bindings(
        &mut situation,
        refuses,
        expect![[r#"
            InvalidContact=False, stalled
            bound: InvalidContact=False
            drift: members "11" -> "11, nonsense"
            the cloud takes no such ids: nonsense; correct `members`"#]],
    );
}

#[test]
fn a_member_that_cannot_be_unbound_is_said_to_be_so() {
    let refuses = |call: &Call, _: &ObservedContact| {
        if binds(call) {
            Answer::Taken
        } else {
            Answer::Refused(FailureClass::UnknownMember, "InvalidMember")
        }
    };
    check_bindings(
        &mut bound_to("11", "12"),
        refuses,
        expect![[r#"
            Repair: AssociateMembers 11
            Repair: DisassociateMembers 12 -> InvalidMember
            UnknownMember=False
            bound: UnknownMember=False
            drift: members "11, 12" -> "11"
            recheck: 1300
            the cloud refuses to unbind 1 of the ids that `members` does not name: it does not know them as members; it is tried again every few minutes"#]],
    );
}

/// A17: the cloud binds nothing before the owner has confirmed.
#[test]
fn a_contact_in_the_wrong_state_waits_for_another_one() {
    let waits = |_: &Call, contact: &ObservedContact| {
        if contact.status == ContactStatus::Verifying {
            Answer::Refused(FailureClass::WrongState, "ContactStatusMismatchAction")
        } else {
            Answer::Taken
        }
    };
    let verifying = |situation: &mut Situation, status| {
        if let Some(Sight::Known(entry)) = &mut situation.own {
            Arc::make_mut(&mut entry.contact).status = status;
        }
    };
    let mut situation = bound_to("11", "");
    verifying(&mut situation, ContactStatus::Verifying);
    check_bindings(
        &mut situation,
        waits,
        expect![[r#"
        Repair: AssociateMembers 11 -> ContactStatusMismatchAction
        Updating=False
        bound: VerificationPending=False
        mismatches: Some(0)
        drift: members "" -> "11"
        recheck: 1300
        the cloud binds the contact only once its owner has confirmed (ContactStatusMismatchAction); it goes on by itself then"#]],
    );
    situation.now = at(1299);
    check_bindings(
        &mut situation,
        waits,
        expect![[r#"
        Updating=False
        bound: VerificationPending=False
        mismatches: Some(0)
        drift: members "" -> "11"
        recheck: 1300
        the cloud binds the contact only once its owner has confirmed (ContactStatusMismatchAction); it goes on by itself then"#]],
    );
    situation.now = at(1300);
    check_bindings(
        &mut situation,
        waits,
        expect![[r#"
        Repair: AssociateMembers 11 -> ContactStatusMismatchAction
        Updating=False
        bound: VerificationPending=False
        mismatches: Some(0)
        drift: members "" -> "11"
        recheck: 1600
        the cloud binds the contact only once its owner has confirmed (ContactStatusMismatchAction); it goes on by itself then"#]],
    );
    verifying(&mut situation, ContactStatus::Active);
    check_bindings(
        &mut situation,
        waits,
        expect![[r#"
            Repair: AssociateMembers 11
            InSync=True
            bound: InSync=True
            the contact is bound to exactly what `members` names"#]],
    );
    // Refused in another state again, it waits again.
    situation = bound_to("11", "");
    let never = |_: &Call, _: &ObservedContact| {
        Answer::Refused(FailureClass::WrongState, "ContactStatusMismatchAction")
    };
    verifying(&mut situation, ContactStatus::Verifying);
    told_of_bindings(&mut situation, never);
    verifying(&mut situation, ContactStatus::Active);
    check_bindings(
        &mut situation,
        never,
        expect![[r#"
        Repair: AssociateMembers 11 -> ContactStatusMismatchAction
        Updating=False
        bound: Updating=False
        mismatches: Some(0)
        drift: members "" -> "11"
        recheck: 1300
        AssociateMembers: the contact's status does not allow it now (ContactStatusMismatchAction); it is read and tried again"#]],
    );
}

/// A18, A26: all that can be seen is that it stays.
#[test]
fn what_follows_from_a_folder_is_not_unbound_for_ever() {
    check_bindings(
        &mut bound_to("fd-1", "11 12 fd-1 fd-2"),
        expanded(false),
        expect![[r#"
            Repair: DisassociateMembers 11 12 fd-2
            Repair: DisassociateMembers 11 12 fd-2
            InSync=True
            bound: InSync=True
            the contact is bound to what `members` names; the cloud shows further ids that cannot be unbound, as if they followed from a folder or the directory that it is bound to"#]],
    );
    check_bindings(
        &mut bound_to("fd-1", "11 12 fd-1 fd-2"),
        expanded(true),
        expect![[r#"
        Repair: DisassociateMembers 11 12 fd-2 -> InvalidParameter.Members.Duplicate
        Repair: DisassociateMembers fd-2 -> InvalidParameter.Members.Duplicate
        Repair: DisassociateMembers fd-2 -> InvalidParameter.Members.Duplicate
        Repair: DisassociateMembers 12 -> InvalidParameter.Members.Duplicate
        Repair: DisassociateMembers 12 -> InvalidParameter.Members.Duplicate
        Repair: DisassociateMembers 11 -> InvalidParameter.Members.Duplicate
        Repair: DisassociateMembers 11 -> InvalidParameter.Members.Duplicate
        InSync=True
        bound: InSync=True
        mismatches: Some(0)
        the contact is bound to what `members` names; the cloud shows further ids that cannot be unbound, as if they followed from a folder or the directory that it is bound to"#]],
    );
    // Nothing follows from an account, and the directory from nothing.
    check_bindings(
        &mut bound_to("11", "12 13"),
        |_, _| Answer::Ignored,
        expect![[r#"
            Repair: AssociateMembers 11
            Repair: AssociateMembers 11
            Repair: DisassociateMembers 12 13
            Repair: DisassociateMembers 12 13
            DriftContested=False
            bound: DriftContested=False
            drift: members "12, 13" -> "11"
            the cloud took the change of the bindings and still shows others; see `status.drift`; it is not repeated"#]],
    );
    check_bindings(
        &mut bound_to("fd-1", "fd-1 rd-1"),
        |_, _| Answer::Ignored,
        expect![[r#"
            Repair: DisassociateMembers rd-1
            Repair: DisassociateMembers rd-1
            DriftContested=False
            bound: DriftContested=False
            drift: members "fd-1, rd-1" -> "fd-1"
            the cloud took the change of the bindings and still shows others; see `status.drift`; it is not repeated"#]],
    );
}

#[test]
fn a_binding_that_is_taken_and_not_shown_is_reported_and_not_repeated() {
    let mut situation = bound_to("11 12", "11");
    check_bindings(
        &mut situation,
        |_, _| Answer::Ignored,
        expect![[r#"
            Repair: AssociateMembers 12
            Repair: AssociateMembers 12
            DriftContested=False
            bound: DriftContested=False
            drift: members "11" -> "11, 12"
            the cloud took the change of the bindings and still shows others; see `status.drift`; it is not repeated"#]],
    );
    // Somebody else made it: what comes later is drift, and put right.
    if let Some(Sight::Known(entry)) = &mut situation.own {
        Arc::make_mut(&mut entry.contact).members = ids("11 12");
    }
    check_bindings(
        &mut situation,
        taken,
        expect![[r#"
            InSync=True
            bound: InSync=True
            the contact is bound to exactly what `members` names"#]],
    );
    if let Some(Sight::Known(entry)) = &mut situation.own {
        Arc::make_mut(&mut entry.contact).members = ids("11");
    }
    check_bindings(
        &mut situation,
        taken,
        expect![[r#"
            Repair: AssociateMembers 12
            InSync=True
            bound: InSync=True
            reverted: members since 1000 at [1000]
            recheck: 4600
            the contact is bound to exactly what `members` names"#]],
    );
}

fn outsider_binds(situation: &mut Situation, to: &str) {
    if let Some(Sight::Known(entry)) = &mut situation.own {
        Arc::make_mut(&mut entry.contact).members = ids(to);
    }
}

#[test]
fn bindings_that_somebody_keeps_changing_back_are_left_alone_for_a_while() {
    // What the spec asks for counts for nothing.
    let mut situation = bound_to("11 12 91", "31");
    told_of_bindings(&mut situation, without("91"));
    let times = |situation: &Situation| {
        let reverts = situation.recorded.reverts.iter();
        reverts.map(|revert| revert.times.len()).collect::<Vec<_>>()
    };
    assert_eq!(times(&situation), [0; 0]);
    // However many calls it takes, it is one change that is taken back.
    for time in 1..=5 {
        situation.now = at(1000 + 10 * i64::try_from(time).unwrap_or(0));
        outsider_binds(&mut situation, "21 22 23 24 25 26");
        told_of_bindings(&mut situation, without("91"));
        assert_eq!(times(&situation), [time]);
    }
    outsider_binds(&mut situation, "11 21");
    check_bindings(
        &mut situation,
        without("91"),
        expect![[r#"
        UnknownMember=False
        bound: UnknownMember=False
        drift: members "11, 21" -> "11, 12, 91"
        reverted: members since 1010 at [1010, 1020, 1030, 1040, 1050]
        recheck: 1300
        not in the directory: 91; correct `members`, or wait: it is tried again every few minutes, as accounts join later; somebody keeps changing `members` back: put right 5 times within an hour, see `status.drift`; it is tried again when the first of them is an hour ago, or when the object is annotated with message-contacts.dev/requestedAt"#]],
    );
    // Neither a restart nor time on its way begins anew, and an edit is made at once.
    situation.attempts = Attempts::default();
    situation.now = at(2000);
    check_bindings(
        &mut situation,
        without("91"),
        expect![[r#"
        DriftContested=False
        bound: DriftContested=False
        drift: members "11, 21" -> "11, 12, 91"
        reverted: members since 1010 at [1010, 1020, 1030, 1040, 1050]
        recheck: 4610
        somebody keeps changing `members` back: put right 5 times within an hour, see `status.drift`; it is tried again when the first of them is an hour ago, or when the object is annotated with message-contacts.dev/requestedAt"#]],
    );
    let mut edited = with_spec(situation.clone(), |spec| spec.members = Some(ids("11")));
    edited.generation = 4;
    check_bindings(
        &mut edited,
        taken,
        expect![[r#"
        Change: DisassociateMembers 21
        InSync=True
        bound: InSync=True
        reverted: members since 1010 at [1010, 1020, 1030, 1040, 1050]
        recheck: 4610
        the contact is bound to exactly what `members` names"#]],
    );
    situation.now = at(4610);
    check_bindings(
        &mut situation,
        without("91"),
        expect![[r#"
        Repair: AssociateMembers 12 91 -> InvalidMember
        Repair: AssociateMembers 12
        Repair: AssociateMembers 91 -> InvalidMember
        Repair: DisassociateMembers 21
        UnknownMember=False
        bound: UnknownMember=False
        drift: members "11, 12" -> "11, 12, 91"
        reverted: members since 1010 at [1020, 1030, 1040, 1050, 4610]
        recheck: 4620
        not in the directory: 91; correct `members`, or wait: it is tried again every few minutes, as accounts join later"#]],
    );
}

/// A18: somebody else was faster.
#[test]
fn what_is_bound_already_is_read_again_and_does_not_stop_anything() {
    let mut raced = false;
    let race = |call: &Call, contact: &ObservedContact| {
        if std::mem::replace(&mut raced, true) || contact.members.is_superset(sent(call)) {
            return Answer::Taken;
        }
        Answer::Refused(FailureClass::InvalidInput, "InvalidParameter.Members.Duplicate")
    };
    check_bindings(
        &mut bound_to("11 12", ""),
        race,
        expect![[r#"
            Repair: AssociateMembers 11 12 -> InvalidParameter.Members.Duplicate
            Repair: AssociateMembers 11
            Repair: AssociateMembers 12
            InSync=True
            bound: InSync=True
            the contact is bound to exactly what `members` names"#]],
    );
}

#[test]
fn a_call_without_an_answer_is_repeated_only_if_it_was_not_made() {
    let lost = |_: &Call, _: &ObservedContact| Answer::Refused(FailureClass::OutcomeUnknown, "");
    let mut situation = bound_to("11", "");
    check_bindings(
        &mut situation,
        lost,
        expect![[r#"
        Repair: AssociateMembers 11 -> 
        OutcomeUnknown=False
        bound: OutcomeUnknown=False
        mismatches: Some(0)
        drift: members "" -> "11"
        recheck: 1001
        AssociateMembers: no usable answer, so the outcome is unknown; the contact is read before anything is done again"#]],
    );
    if let Some(Sight::Known(entry)) = &mut situation.own {
        Arc::make_mut(&mut entry.contact).members = ids("11");
    }
    check_bindings(
        &mut situation,
        lost,
        expect![[r#"
        InSync=True
        bound: InSync=True
        mismatches: Some(0)
        the contact is bound to exactly what `members` names"#]],
    );
    // It was made, so that it holds back nothing that comes later.
    if let Some(Sight::Known(entry)) = &mut situation.own {
        Arc::make_mut(&mut entry.contact).members = ids("");
    }
    check_bindings(
        &mut situation,
        taken,
        expect![[r#"
            Repair: AssociateMembers 11
            InSync=True
            bound: InSync=True
            reverted: members since 1000 at [1000]
            recheck: 4600
            the contact is bound to exactly what `members` names"#]],
    );
    let mut situation = bound_to("", "11");
    told_of_bindings(&mut situation, lost);
    situation.now = at(1001);
    check_bindings(
        &mut situation,
        taken,
        expect![[r#"
            Repair: DisassociateMembers 11
            InSync=True
            bound: InSync=True
            the contact is bound to nothing, as `members: []` says"#]],
    );
}

#[test]
fn each_failure_of_a_binding_has_its_reason_and_pause() {
    let classes = [
        FailureClass::ClientBug,
        FailureClass::WrongState,
        FailureClass::Conflict,
        FailureClass::Throttled,
        FailureClass::Quota,
        FailureClass::ContactNotFound,
        FailureClass::NotFound,
        FailureClass::Credentials,
        FailureClass::Permission,
        FailureClass::Unavailable,
        FailureClass::OutcomeUnknown,
    ];
    let told = |class| {
        let mut situation = bound_to("11", "");
        let refuse = |_: &Call, _: &ObservedContact| Answer::Refused(class, "Some.Code");
        told_of_bindings(&mut situation, refuse);
        let plan = planned(&situation);
        let reason = plan.verdict.bound.map(|bound| bound.reason);
        let recheck = plan.recheck_at.map(|moment| seconds(moment) - 1000);
        format!("{class:?}: {:?} {:?} {recheck:?}", reason, plan.verdict.synced.reason)
    };
    expect![[r#"
        ClientBug: Some(CloudUnavailable) CloudUnavailable Some(300)
        WrongState: Some(Updating) Updating Some(300)
        Conflict: Some(CloudBusy) CloudBusy Some(1)
        Throttled: Some(Throttled) Throttled Some(1)
        Quota: Some(QuotaExceeded) QuotaExceeded Some(300)
        ContactNotFound: Some(Updating) Updating Some(1)
        NotFound: Some(CloudUnavailable) CloudUnavailable Some(300)
        Credentials: Some(Unauthorized) Unauthorized Some(1)
        Permission: Some(Unauthorized) Unauthorized Some(300)
        Unavailable: Some(CloudUnavailable) CloudUnavailable Some(1)
        OutcomeUnknown: Some(OutcomeUnknown) OutcomeUnknown Some(1)"#]]
    .assert_eq(&classes.map(told).join("\n"));
}

#[test]
fn bindings_and_fields_hold_each_other_back_only_in_a_crowded_directory() {
    // A field that was refused for good, and one that waits for others, as any call would.
    let refused = |mut situation: Situation| {
        situation.recorded.last_error = Some(LastError {
            code: "InvalidParameter.Title".to_owned(),
            action: "UpdateMessageContact".to_owned(),
            generation: 3,
        });
        situation
    };
    let differs = |change: &dyn Fn(&mut ObservedContact)| {
        let situation = drifted(|contact| {
            contact.members = ids("12");
            change(contact);
        });
        with_spec(situation, |spec| spec.members = Some(ids("11 12")))
    };
    let titled = differs(&|contact| contact.title = "CEO".to_owned());
    check_bindings(
        &mut refused(titled.clone()),
        taken,
        expect![[r#"
        Repair: AssociateMembers 11
        InvalidContact=False, stalled
        bound: InSync=True
        the contact is bound to exactly what `members` names"#]],
    );
    let class = FailureClass::Throttled;
    let setback = Some(failed(Action::UpdateMessageContact, class, "Throttling"));
    check_bindings(
        &mut Situation { setback, ..titled.clone() },
        taken,
        expect![[r#"
            Throttled=False
            bound: Throttled=False
            drift: members "12" -> "11, 12"
            recheck: 1001
            UpdateMessageContact: the API asked to slow down (Throttling); the operator goes on more slowly"#]],
    );

    // A binding that was refused holds back no field, and what was said of it stays.
    let mut situation = differs(&|_| {});
    told_of_bindings(&mut situation, without("11"));
    check(
        situation.clone(),
        expect![[r#"
        UnknownMember=False
        bound: UnknownMember=False
        mismatches: Some(0)
        drift: members "12" -> "11, 12"
        recheck: 1300"#]],
    );
    let Some(Sight::Known(entry)) = &mut situation.own else { panic!("it is known") };
    Arc::make_mut(&mut entry.contact).title = "CEO".to_owned();
    check(
        situation,
        expect![[r#"
        Updating=False
        bound: NotSynced=Unknown
        Repair: UpdateMessageContact c-ownownownownowno title=TechnicalDirector
        mismatches: Some(1)"#]],
    );

    // Nobody is bound under a name that another contact has.
    let renamed = differs(&|contact| contact.name = name("oldname"));
    let namesakes = vec![namesake("c-other", SPEC_NAME, Holder::Nobody)];
    check(
        Situation { namesakes, ..renamed },
        expect![[r#"
        NameTaken=False, stalled
        bound: NotSynced=Unknown
        drift: name "oldname" -> "opsteam""#]],
    );
}

#[test]
fn under_report_only_bindings_are_shown_and_left_alone() {
    let report = |situation: Situation, wanted: &str| {
        with_spec(situation, |spec| {
            spec.members = Some(ids(wanted));
            spec.mode = Mode::ReportOnly;
        })
    };
    check(
        report(bound_to("", "12 fd-1"), "11"),
        expect![[r#"
        Drifted=False
        bound: Drifted=False
        mismatches: Some(0)
        drift: members "12, fd-1" -> "11""#]],
    );
    let both = drifted(|contact| {
        contact.members = ids("12");
        contact.name = name("oldname");
    });
    check(
        report(both, ""),
        expect![[r#"
        Drifted=False
        bound: Drifted=False
        drift: name "oldname" -> "opsteam"
        drift: members "12" -> """#]],
    );
    check(
        report(bound_to("", "12"), "12"),
        expect![[r#"
        InSync=True
        bound: InSync=True
        mismatches: Some(0)"#]],
    );
}

// Deleting.

#[test]
fn an_object_without_contact_is_let_go() {
    let want = Want::Absent(DELETE);
    let situation = Situation { want, ..fresh() };
    check(
        situation.clone(),
        expect![[r#"
        Deleting=False
        ReleaseFinalizer"#]],
    );
    check(Situation { finalizer: false, ..situation }, expect!["Deleting=False"]);
}

#[test]
fn retain_and_report_only_let_go_whatever_the_directory_says() {
    let closed = Some(Finding::unmet(Reason::DirectoryNotFound, "no such directory"));
    let want = Want::Absent(Removal::Retain);
    check(
        Situation { want: want.clone(), closed, ..holding(observed()) },
        expect![[r#"
        Deleting=False
        ReleaseFinalizer"#]],
    );
    check(
        Situation { want: want.clone(), ..holding(observed()) },
        expect![[r#"
        Deleting=False
        ReleaseFinalizer"#]],
    );
    check(
        Situation { want, ..intending(UNANSWERED) },
        expect![[r#"
        Deleting=False
        ReleaseFinalizer"#]],
    );
}

/// An object that was let go under `Retain` and then set to `Delete` had its contact deleted.
#[test]
fn what_was_let_go_is_not_touched_again() {
    check(Situation { finalizer: false, ..deleting(observed(), None) }, expect!["Deleting=False"]);
}

#[test]
fn a_contact_is_deleted() {
    check(
        deleting(observed(), None),
        expect![[r#"
        Deleting=False
        Change: DeleteMessageContact c-ownownownownowno retain=false"#]],
    );
    let want = Want::Absent(Removal::Delete { retain_in_members: true });
    check(
        Situation { want, ..deleting(observed(), None) },
        expect![[r#"
        Deleting=False
        Change: DeleteMessageContact c-ownownownownowno retain=true"#]],
    );
}

#[test]
fn a_contact_is_read_before_it_is_deleted_and_before_it_counts_as_gone() {
    let unread = with_entry(deleting(observed(), None), |entry| entry.unread = true);
    check(
        unread,
        expect![[r#"
        Deleting=False
        Change: GetMessageContact c-ownownownownowno"#]],
    );
    let own = Some(Sight::Unlisted);
    check(
        Situation { own, ..deleting(observed(), None) },
        expect![[r#"
        Deleting=False
        Change: GetMessageContact c-ownownownownowno"#]],
    );
    let own = Some(Sight::Gone { confirmed: true });
    check(
        Situation { own, ..deleting(observed(), None) },
        expect![[r#"
        Deleting=False
        ReleaseFinalizer"#]],
    );
}

#[test]
fn a_deletion_in_the_background_is_polled_with_growing_pauses() {
    let situation = deleting(observed(), Some(DeletionState::Deleting));
    check(
        situation.clone(),
        expect![[r#"
        Deleting=False
        recheck: 1025"#]],
    );
    // Asked for at 900, last looked at 1000: a quarter of the time that has passed.
    let pause_ends = |now: i64| planned(&Situation { now: at(now), ..situation.clone() });
    let pauses = [1000, 1010, 1032, 1033, 1034];
    let ends = pauses.map(|now| pause_ends(now).recheck_at.map(seconds));
    assert_eq!(ends, [Some(1025), Some(1027), Some(1033), Some(1033), None]);
    check(
        Situation { now: at(1034), ..situation },
        expect![[r#"
        Deleting=False
        Change: GetMessageContactDeletionStatus c-ownownownownowno"#]],
    );
}

#[test]
fn the_pauses_of_a_deletion_have_a_shortest_and_a_longest() {
    let mut situation = deleting(observed(), Some(DeletionState::Deleting));
    let poll_at = |situation: &Situation| planned(situation).recheck_at.map(seconds);
    if let Some(Sight::Known(entry)) = &mut situation.own {
        entry.deletion = Some(Deletion { state: DeletionState::Deleting, at: at(901) });
    }
    situation.now = at(901);
    assert_eq!(poll_at(&situation), Some(903));
    if let Some(Sight::Known(entry)) = &mut situation.own {
        entry.deletion = Some(Deletion { state: DeletionState::Deleting, at: at(9000) });
    }
    situation.now = at(9000);
    assert_eq!(poll_at(&situation), Some(9060));
}

#[test]
fn a_deletion_that_runs_after_a_restart_is_polled_and_not_asked_for_again() {
    let contact = ObservedContact { status: ContactStatus::Deleting, ..observed() };
    check(
        deleting(contact, None),
        expect![[r#"
        Deleting=False
        Change: GetMessageContactDeletionStatus c-ownownownownowno"#]],
    );
}

#[test]
fn a_deletion_that_failed_names_the_accounts_and_is_tried_again_later() {
    let blockers = (0..12).map(|n| DeletionBlocker {
        account: AccountId(format!("100000000000000{n}")),
        message_types: vec!["SecurityMessage".to_owned()],
    });
    let failed = DeletionState::Failed(blockers.collect());
    let situation = deleting(observed(), Some(failed));
    check(
        situation.clone(),
        expect![[r#"
        DeletionFailed=False
        recheck: 1030"#]],
    );
    let message = planned(&situation).verdict.synced.message;
    assert!(message.contains("1000000000000009 (SecurityMessage)") && message.contains("2 more"));
    check(
        Situation { now: at(1070), ..situation },
        expect![[r#"
        Deleting=False
        Change: DeleteMessageContact c-ownownownownowno retain=false"#]],
    );
}

#[test]
fn a_deletion_that_is_said_to_be_done_and_still_shown_is_asked_for_again_later() {
    let situation = deleting(observed(), Some(DeletionState::Deleted));
    check(
        situation.clone(),
        expect![[r#"
        Deleting=False
        recheck: 1025"#]],
    );
    check(
        Situation { now: at(1034), ..situation },
        expect![[r#"
        Deleting=False
        Change: DeleteMessageContact c-ownownownownowno retain=false"#]],
    );
}

#[test]
fn a_deletion_without_a_word_is_judged_by_the_contact() {
    let situation = deleting(observed(), Some(DeletionState::Unclear));
    check(
        Situation { now: at(1034), ..situation.clone() },
        expect![[r#"
        Deleting=False
        Change: DeleteMessageContact c-ownownownownowno retain=false"#]],
    );
    let runs = with_entry(situation, |entry| {
        entry.contact = Arc::new(ObservedContact { status: ContactStatus::Deleting, ..observed() });
    });
    check(
        runs.clone(),
        expect![[r#"
        Deleting=False
        recheck: 1025"#]],
    );
    check(
        Situation { now: at(1034), ..runs },
        expect![[r#"
        Deleting=False
        Change: GetMessageContactDeletionStatus c-ownownownownowno"#]],
    );
}

#[test]
fn not_found_is_believed_once_a_list_says_so_too() {
    let own = Some(Sight::Gone { confirmed: false });
    check(
        Situation { own, ..deleting(observed(), None) },
        expect![[r#"
        Deleting=False
        Relist"#]],
    );
}

#[test]
fn while_the_definition_is_being_deleted_the_contact_stays() {
    let definition = Definition::BeingDeleted;
    check(
        Situation { definition, ..deleting(observed(), None) },
        expect![[r#"
        Deleting=False
        ReleaseFinalizer"#]],
    );
    check(
        Situation { want: Want::Absent(DELETE), definition, ..intending(unanswered(900)) },
        expect![[r#"
        Deleting=False
        ReleaseFinalizer"#]],
    );
    // Nothing but a deletion depends on it.
    check(
        Situation { definition, ..holding(observed()) },
        expect![[r#"
        InSync=True
        mismatches: Some(0)"#]],
    );
}

#[test]
fn while_the_definition_cannot_be_read_nothing_is_deleted_and_it_is_asked_again() {
    let definition = Definition::Unreadable { at: at(990) };
    let situation = Situation { definition, ..deleting(observed(), None) };
    check(
        situation.clone(),
        expect![[r#"
        DeletionFailed=False
        recheck: 1050"#]],
    );
    let message = planned(&situation).verdict.synced.message;
    assert!(message.contains("CustomResourceDefinition") && message.contains("Retain"));
    check(
        Situation { now: at(1050), ..situation },
        expect![[r#"
        Deleting=False
        Change: DeleteMessageContact c-ownownownownowno retain=false"#]],
    );
    // One that runs already is followed.
    let runs = deleting(observed(), Some(DeletionState::Deleting));
    check(
        Situation { now: at(1034), definition, ..runs },
        expect![[r#"
        Deleting=False
        Change: GetMessageContactDeletionStatus c-ownownownownowno"#]],
    );
}

#[test]
fn a_deletion_that_waits_asks_now_and_then_whether_the_definition_stands() {
    let closed = Some(Finding::unmet(Reason::DirectoryNotFound, "no such directory"));
    let definition = Definition::Unasked;
    let waiting = Situation { definition, closed, ..deleting(observed(), None) };
    check(
        waiting.clone(),
        expect![[r#"
        DeletionFailed=False
        AskDefinition"#]],
    );
    let stands = Definition::Stands { at: at(1000) };
    check(
        Situation { definition: stands, now: at(1059), ..waiting.clone() },
        expect![[r#"
        DeletionFailed=False
        recheck: 1060"#]],
    );
    check(
        Situation { definition: stands, now: at(1060), ..waiting.clone() },
        expect![[r#"
        DeletionFailed=False
        AskDefinition"#]],
    );
    check(
        Situation { definition: Definition::BeingDeleted, ..waiting },
        expect![[r#"
        Deleting=False
        ReleaseFinalizer"#]],
    );
    // One that goes on asks before the call, and one that is not held asks nothing.
    let goes_on = Situation { definition, ..deleting(observed(), None) };
    assert!(matches!(planned(&goes_on).step, Some(Step::Call(..))));
    let free = Situation { finalizer: false, ..goes_on };
    assert_eq!(planned(&free).step, None);
    // Nobody who is not being deleted asks.
    let closed = Some(Finding::unmet(Reason::DirectoryNotFound, "no such directory"));
    assert_eq!(planned(&Situation { definition, closed, ..holding(observed()) }).step, None);
}

#[test]
fn a_directory_that_only_reports_lets_nothing_be_written() {
    let management = Management::ReportOnly;
    let differs = ObservedContact { title: "CEO".to_owned(), ..observed() };
    let situation = Situation { management, ..holding(differs.clone()) };
    let drifted = planned(&situation);
    assert_eq!(drifted.step, None);
    assert_eq!(drifted.verdict.synced.reason, Reason::Drifted);
    assert_eq!(drifted.drift.len(), 1);
    let told = "`management: ReportOnly` of the ResourceDirectory";
    assert!(drifted.verdict.synced.message.contains(told), "{drifted:?}");
    let absent = planned(&Situation { management, ..fresh() });
    assert_eq!((absent.step, absent.verdict.synced.reason), (None, Reason::Drifted));
    assert!(absent.verdict.synced.message.contains(told));
    // Not even the finalizer is put on.
    let unheld = planned(&Situation { finalizer: false, ..situation });
    assert_eq!(unheld.step, None);
    // The object's own policy is named where the directory forbids nothing.
    let own = Want::Present(DesiredContact { mode: Mode::ReportOnly, ..wanted() });
    let own = planned(&Situation { want: own, ..holding(differs) });
    assert!(own.verdict.synced.message.contains("`reconcilePolicy: ReportOnly`"), "{own:?}");
}

#[test]
fn a_directory_may_forbid_to_delete() {
    for management in [Management::NoDelete, Management::ReportOnly] {
        for situation in [
            deleting(observed(), None),
            deleting(observed(), Some(DeletionState::Deleting)),
            Situation { want: Want::Absent(DELETE), ..intending(unanswered(900)) },
        ] {
            // Also while nothing is known of it.
            let closed = Some(Finding::unmet(Reason::DirectoryNotReady, "is suspended"));
            for closed in [None, closed] {
                let plan = planned(&Situation { management, closed, ..situation.clone() });
                assert_eq!(plan.step, Some(Step::ReleaseFinalizer), "{management:?} {plan:?}");
            }
        }
    }
    // Everything else is done.
    let differs = ObservedContact { title: "CEO".to_owned(), ..observed() };
    let management = Management::NoDelete;
    check(
        Situation { management, ..holding(differs) },
        expect![[r#"
            Updating=False
            Repair: UpdateMessageContact c-ownownownownowno title=TechnicalDirector
            mismatches: Some(1)"#]],
    );
}

#[test]
fn a_contact_cannot_be_deleted_in_a_directory_that_is_closed_or_another_one() {
    let closed = Some(Finding::unmet(Reason::DirectoryNotFound, "no such directory"));
    check(
        Situation { closed, ..deleting(observed(), None) },
        expect![[r#"
        DeletionFailed=False
        recheck: 100060"#]],
    );
    let mut situation = deleting(observed(), None);
    situation.recorded.directory_id = Some("rd-elsewh".into());
    check(
        situation,
        expect![[r#"
        DeletionFailed=False
        recheck: 100060"#]],
    );
}

#[test]
fn what_an_open_intent_made_is_deleted_too() {
    let absent = |situation| Situation { want: Want::Absent(DELETE), ..situation };
    check(
        absent(intending(AddFate::NotMade)),
        expect![[r#"
        Deleting=False
        ReleaseFinalizer
        intent: None"#]],
    );
    check(
        absent(intending(unanswered(900))),
        expect![[r#"
        Deleting=False
        Relist"#]],
    );
    let namesakes = vec![namesake("c-made", SPEC_NAME, Holder::Nobody)];
    check(
        absent(Situation { namesakes, ..intending(unanswered(900)) }),
        expect![[r#"
        Deleting=False
        Change: DeleteMessageContact c-made retain=false
        contact: Some("c-made")
        intent: None"#]],
    );
    let lists = Lists { last: Some(at(930)), before: Some(at(910)) };
    let waits = Situation { lists, now: at(940), ..intending(unanswered(900)) };
    check(
        absent(waits),
        expect![[r#"
        Deleting=False
        recheck: 960"#]],
    );
    let lists = Lists { last: Some(at(960)), before: Some(at(901)) };
    check(
        absent(Situation { lists, ..intending(unanswered(900)) }),
        expect![[r#"
        Deleting=False
        ReleaseFinalizer
        intent: None"#]],
    );
}

// Setbacks.

/// What is said after a failed call, how long it is held back, and after the fifth time in a row.
fn shown_setbacks(situation: &Situation, action: Action) -> String {
    let no_keys = |cause| FailureClass::NoKeys(KeyFailure { step: KeyStep::AssumeRole, cause });
    let classes = [
        FailureClass::InvalidInput,
        FailureClass::NameTaken,
        FailureClass::UnknownMember,
        FailureClass::ClientBug,
        FailureClass::WrongState,
        FailureClass::Conflict,
        FailureClass::Throttled,
        FailureClass::Quota,
        FailureClass::SendsExhausted,
        FailureClass::ContactNotFound,
        FailureClass::NothingPending,
        FailureClass::NoDirectory,
        FailureClass::NotFound,
        FailureClass::Credentials,
        FailureClass::TokenExpired,
        FailureClass::Clock(Skew(Some(60))),
        FailureClass::Permission,
        no_keys(KeyCause::Forbidden),
        no_keys(KeyCause::Unanswered),
        FailureClass::Unavailable,
        FailureClass::OutcomeUnknown,
    ];
    let lists = Lists { last: Some(at(1001)), before: Some(at(700)) };
    classes.iter().fold(String::new(), |mut text, class| {
        let setback = failed(action, *class, "Some.Code");
        let pause = |failures| {
            let setback = Some(Setback { failures, ..setback.clone() });
            let plan = planned(&Situation { lists, setback, ..situation.clone() });
            assert_eq!(plan.step, None, "{class:?}");
            plan.recheck_at.map(|moment| seconds(moment) - 1000)
        };
        let setback = Some(setback.clone());
        let reason =
            planned(&Situation { lists, setback, ..situation.clone() }).verdict.synced.reason;
        let stalls = if reason.stalls() { " stalled" } else { "" };
        let _ = writeln!(text, "{class:?}: {reason}{stalls} {:?} {:?}", pause(1), pause(5));
        text
    })
}

#[test]
fn each_class_of_failure_has_its_reason_and_pause() {
    let differs = drifted(|contact| contact.title = "CEO".to_owned());
    expect![[r#"
        InvalidInput: InvalidContact stalled None None
        NameTaken: NameTaken stalled Some(1) Some(16)
        UnknownMember: UnknownMember Some(300) Some(300)
        ClientBug: CloudUnavailable Some(300) Some(300)
        WrongState: Updating Some(1) Some(16)
        Conflict: CloudBusy Some(1) Some(1)
        Throttled: Throttled Some(1) Some(1)
        Quota: QuotaExceeded Some(300) Some(300)
        SendsExhausted: CloudUnavailable Some(300) Some(300)
        ContactNotFound: Updating Some(1) Some(16)
        NothingPending: CloudUnavailable Some(300) Some(300)
        NoDirectory: DirectoryNotReady Some(300) Some(300)
        NotFound: CloudUnavailable Some(300) Some(300)
        Credentials: Unauthorized Some(1) Some(16)
        TokenExpired: Unauthorized Some(1) Some(16)
        Clock(Skew(Some(60))): Unauthorized Some(1) Some(16)
        Permission: Unauthorized Some(300) Some(300)
        NoKeys(KeyFailure { step: AssumeRole, cause: Forbidden }): Unauthorized Some(1) Some(16)
        NoKeys(KeyFailure { step: AssumeRole, cause: Unanswered }): CloudUnavailable Some(1) Some(16)
        Unavailable: CloudUnavailable Some(1) Some(16)
        OutcomeUnknown: OutcomeUnknown Some(1) Some(16)
    "#]]
    .assert_eq(&shown_setbacks(&differs, Action::UpdateMessageContact));
    expect![[r#"
        InvalidInput: InvalidContact stalled None None
        NameTaken: NameTaken stalled Some(1) Some(16)
        UnknownMember: UnknownMember Some(300) Some(300)
        ClientBug: CloudUnavailable Some(300) Some(300)
        WrongState: Updating Some(1) Some(16)
        Conflict: CloudBusy Some(1) Some(1)
        Throttled: Throttled Some(1) Some(1)
        Quota: QuotaExceeded Some(300) Some(300)
        SendsExhausted: CloudUnavailable Some(300) Some(300)
        ContactNotFound: Updating Some(1) Some(16)
        NothingPending: CloudUnavailable Some(300) Some(300)
        NoDirectory: DirectoryNotReady Some(300) Some(300)
        NotFound: CloudUnavailable Some(300) Some(300)
        Credentials: Unauthorized Some(1) Some(16)
        TokenExpired: Unauthorized Some(1) Some(16)
        Clock(Skew(Some(60))): Unauthorized Some(1) Some(16)
        Permission: Unauthorized Some(300) Some(300)
        NoKeys(KeyFailure { step: AssumeRole, cause: Forbidden }): Unauthorized Some(1) Some(16)
        NoKeys(KeyFailure { step: AssumeRole, cause: Unanswered }): CloudUnavailable Some(1) Some(16)
        Unavailable: CloudUnavailable Some(1) Some(16)
        OutcomeUnknown: OutcomeUnknown Some(1) Some(16)
    "#]]
    .assert_eq(&shown_setbacks(&fresh(), Action::AddMessageContact));
    let absent = deleting(observed(), None);
    expect![[r#"
        InvalidInput: DeletionFailed Some(300) Some(300)
        NameTaken: NameTaken stalled Some(1) Some(16)
        UnknownMember: UnknownMember Some(300) Some(300)
        ClientBug: CloudUnavailable Some(300) Some(300)
        WrongState: Deleting Some(1) Some(16)
        Conflict: CloudBusy Some(1) Some(1)
        Throttled: Throttled Some(1) Some(1)
        Quota: QuotaExceeded Some(300) Some(300)
        SendsExhausted: CloudUnavailable Some(300) Some(300)
        ContactNotFound: Deleting Some(1) Some(16)
        NothingPending: CloudUnavailable Some(300) Some(300)
        NoDirectory: DirectoryNotReady Some(300) Some(300)
        NotFound: CloudUnavailable Some(300) Some(300)
        Credentials: Unauthorized Some(1) Some(16)
        TokenExpired: Unauthorized Some(1) Some(16)
        Clock(Skew(Some(60))): Unauthorized Some(1) Some(16)
        Permission: Unauthorized Some(300) Some(300)
        NoKeys(KeyFailure { step: AssumeRole, cause: Forbidden }): Unauthorized Some(1) Some(16)
        NoKeys(KeyFailure { step: AssumeRole, cause: Unanswered }): CloudUnavailable Some(1) Some(16)
        Unavailable: CloudUnavailable Some(1) Some(16)
        OutcomeUnknown: OutcomeUnknown Some(1) Some(16)
    "#]]
    .assert_eq(&shown_setbacks(&absent, Action::DeleteMessageContact));
}

#[test]
fn a_held_back_add_is_made_when_its_time_has_come() {
    let setback = Some(failed(Action::AddMessageContact, FailureClass::Conflict, "Busy"));
    let situation = Situation { setback, ..intending(AddFate::NotMade) };
    check(
        situation.clone(),
        expect![[r#"
        CloudBusy=False
        recheck: 1001"#]],
    );
    check(
        Situation { now: at(1001), ..situation },
        expect![[r#"
            Creating=False
            Create: AddMessageContact opsteam
            mailbox: Pending, 0 sent, last never, evidence none
            phone: Pending, 0 sent, last never, evidence none"#]],
    );
}

/// After a restart a stranger's contact would pass for the one that this intent made.
#[test]
fn an_intent_that_made_nothing_is_dropped_for_a_long_wait() {
    let setback = Some(failed(Action::AddMessageContact, FailureClass::Quota, "LimitExceeded"));
    check(
        Situation { setback, ..intending(AddFate::NotMade) },
        expect![[r#"
        QuotaExceeded=False
        intent: None
        recheck: 1300"#]],
    );
}

#[test]
fn the_pause_that_an_answer_asks_for_is_kept() {
    let mut setback = failed(Action::AddMessageContact, FailureClass::Throttled, "Throttling");
    setback.error.retry_after = Some(SignedDuration::from_secs(17));
    check(
        Situation { setback: Some(setback), ..fresh() },
        expect![[r#"
        Throttled=False
        recheck: 1017"#]],
    );
}

#[test]
fn a_name_that_the_cloud_calls_taken_is_looked_for_first() {
    let setback = Some(failed(Action::AddMessageContact, FailureClass::NameTaken, "Taken"));
    let situation = Situation { setback, ..intending(AddFate::NotMade) };
    check(
        situation.clone(),
        expect![[r#"
        Creating=False
        Relist"#]],
    );
    let lists = Lists { last: Some(at(1001)), before: Some(at(700)) };
    check(
        Situation { lists, now: at(1001), ..situation },
        expect![[r#"
            Creating=False
            Create: AddMessageContact opsteam
            mailbox: Pending, 0 sent, last never, evidence none
            phone: Pending, 0 sent, last never, evidence none"#]],
    );
}

/// The look counted as a write: two of them, and the rename was given up as contested.
#[test]
fn a_look_before_a_write_is_not_recorded_as_the_write() {
    let setback = Some(failed(Action::UpdateMessageContact, FailureClass::NameTaken, "Taken"));
    let situation = drifted(|contact| contact.name = name("oldname"));
    check(
        Situation { setback, ..situation },
        expect![[r#"
        Updating=False
        Relist"#]],
    );
}

/// A list that failed was asked for again without a pause.
#[test]
fn a_list_that_failed_is_not_asked_for_again_at_once() {
    let class = FailureClass::Unavailable;
    let setback = Some(failed(Action::ListMessageContacts, class, "ServiceUnavailable"));
    let situation = Situation { setback, ..intending(unanswered(900)) };
    check(
        situation.clone(),
        expect![[r#"
        CloudUnavailable=False
        recheck: 1001"#]],
    );
    check(
        Situation { now: at(1001), ..situation },
        expect![[r#"
        OutcomeUnknown=False
        Relist"#]],
    );
}

#[test]
fn a_failed_read_holds_back_that_read_alone() {
    let setback = Some(failed(Action::GetMessageContact, FailureClass::Unavailable, "Down"));
    let differs = drifted(|contact| contact.title = "CEO".to_owned());
    check(
        Situation { setback: setback.clone(), ..differs.clone() },
        expect![[r#"
        Updating=False
        Repair: UpdateMessageContact c-ownownownownowno title=TechnicalDirector
        mismatches: Some(1)"#]],
    );
    let unread = with_entry(differs, |entry| entry.unread = true);
    check(
        Situation { setback, ..unread },
        expect![[r#"
        CloudUnavailable=False
        recheck: 1001"#]],
    );
}

/// The failure of an old spec held back the new one, and was recorded as if it were the new one's.
#[test]
fn a_failure_counts_for_the_spec_that_it_was_made_for() {
    let class = FailureClass::InvalidInput;
    let setback = Some(failed(Action::UpdateMessageContact, class, "InvalidParameter.Title"));
    let situation = Situation { setback, ..drifted(|contact| contact.title = "CEO".to_owned()) };
    check(
        situation.clone(),
        expect![[r#"
        InvalidContact=False, stalled
        error: Some(("InvalidParameter.Title", "UpdateMessageContact", 3))"#]],
    );
    check(
        Situation { generation: 4, ..situation },
        expect![[r#"
        Updating=False
        Change: UpdateMessageContact c-ownownownownowno title=TechnicalDirector
        mismatches: Some(1)"#]],
    );
}

#[test]
fn a_final_error_stands_until_the_spec_changes_or_the_contact_agrees() {
    let remembered = |mut situation: Situation| {
        situation.recorded.last_error = Some(LastError {
            code: "InvalidParameter.Title".to_owned(),
            action: "UpdateMessageContact".to_owned(),
            generation: 3,
        });
        situation
    };
    let differs = remembered(drifted(|contact| contact.title = "CEO".to_owned()));
    check(differs.clone(), expect!["InvalidContact=False, stalled"]);
    check(
        Situation { generation: 4, ..differs.clone() },
        expect![[r#"
        Updating=False
        Change: UpdateMessageContact c-ownownownownowno title=TechnicalDirector
        mismatches: Some(1)
        error: None"#]],
    );
    check(
        remembered(holding(observed())),
        expect![[r#"
        InSync=True
        mismatches: Some(0)
        error: None"#]],
    );
    check(
        with_entry(differs, |entry| entry.unread = true),
        expect![[r#"
        Updating=False
        Repair: GetMessageContact c-ownownownownowno"#]],
    );
    check(
        remembered(deleting(observed(), None)),
        expect![[r#"
        Deleting=False
        Change: DeleteMessageContact c-ownownownownowno retain=false"#]],
    );
}

#[test]
fn a_setback_ends_when_its_operation_works_and_counts_within_a_generation() {
    let first = failed(Action::UpdateMessageContact, FailureClass::WrongState, "State");
    let next = |action, error: Option<&CallError>, generation| {
        let mut setbacks = Setbacks::from(first.clone());
        setbacks.note(action, error, generation, at(1010));
        let known = setbacks.of(Action::UpdateMessageContact);
        known.map(|setback| (setback.failures, seconds(setback.at)))
    };
    assert_eq!(next(Action::UpdateMessageContact, None, 3), None);
    assert_eq!(next(Action::GetMessageContact, None, 3), Some((1, 1000)));
    assert_eq!(next(Action::UpdateMessageContact, Some(&first.error), 3), Some((2, 1010)));
    assert_eq!(next(Action::UpdateMessageContact, Some(&first.error), 4), Some((1, 1010)));
}

#[test]
fn a_setback_concerns_its_like_alone() {
    let setbacks = Setbacks::from(failed(Action::UpdateMessageContact, FailureClass::Quota, "Q"));
    let concerns = |action| setbacks.of(action).is_some();
    assert!(concerns(Action::AddMessageContact) && concerns(Action::CancelMessageContactUpdate));
    for action in [Action::GetMessageContact, Action::SendEmailVerificationForMessageContact] {
        assert!(!concerns(action), "{action}");
    }
    let mut sending = Setbacks::from(failed(
        Action::SendPhoneVerificationForMessageContact,
        FailureClass::Permission,
        "NoPermission",
    ));
    assert!(sending.of(Action::SendEmailVerificationForMessageContact).is_none());
    sending.settle();
    assert!(sending.of(Action::SendPhoneVerificationForMessageContact).is_some());
}

// What else is said.

#[test]
fn channels_and_bindings_are_spoken_of_only_where_the_spec_has_them() {
    let mut full = with_spec(holding(observed()), |spec| {
        spec.members = Some([].into());
        spec.ready_when = ReadyWhen::Verified;
    });
    let verdict = planned(&full).verdict;
    assert_eq!(verdict.email_verified.reason, Reason::Verified);
    assert!(verdict.phone_verified.is_some() && verdict.bound.is_some());
    if let Some(email) = &mut full.recorded.verification.email {
        (email.state, email.last_sent) = (ChannelState::Sent, Some(at(990)));
    }
    full = with_entry(full, |entry| entry.pending = Some(waits([Target::Email(wanted().email)])));
    assert_eq!(planned(&full).verdict.ready().reason, Reason::VerificationSent);
    let bare = with_spec(holding(observed()), |spec| spec.phone = None);
    let verdict = planned(&bare).verdict;
    assert_eq!(verdict.email_verified.reason, Reason::Verified);
    assert_eq!((verdict.phone_verified, verdict.bound), (None, None));
}

#[test]
fn the_name_in_question_is_that_of_the_intent_before_that_of_the_spec() {
    let spec = DesiredContact { name: name("newname"), ..wanted() };
    let absent = Desired::Absent { removal: DELETE, since: at(900) };
    let intent = intending(UNANSWERED).recorded;
    let asked = |recorded: &Recorded, desired: &Desired<'_>| {
        name_in_question(recorded, desired).map(|name| name.as_str().to_owned())
    };
    assert_eq!(asked(&intent, &Desired::Present(&spec)).as_deref(), Some(SPEC_NAME));
    assert_eq!(asked(&intent, &absent).as_deref(), Some(SPEC_NAME));
    assert_eq!(asked(&Recorded::default(), &Desired::Present(&spec)).as_deref(), Some("newname"));
    assert_eq!(asked(&Recorded::default(), &absent), None);
}

#[test]
fn a_hash_covers_every_field_that_is_sent_and_what_it_is_for() {
    let key = key();
    let of = |spec: &DesiredContact| key.of_creation(&"uid-own".into(), &DIRECTORY.into(), spec);
    let same = of(&wanted());
    let changed = |change: &dyn Fn(&mut DesiredContact)| {
        let mut spec = wanted();
        change(&mut spec);
        of(&spec)
    };
    assert_ne!(same, changed(&|spec| spec.name = name("newname")));
    assert_ne!(same, changed(&|spec| spec.title = Title::CEO));
    assert_ne!(same, changed(&|spec| spec.email = email("third@example.com")));
    assert_ne!(same, changed(&|spec| spec.phone = None));
    assert_ne!(same, changed(&|spec| spec.message_types = [MessageType::FaultMessage].into()));
    assert_eq!(same, changed(&|spec| spec.mode = Mode::ReportOnly));
    assert_ne!(same, key.of_creation(&"uid-other".into(), &DIRECTORY.into(), &wanted()));
    assert_ne!(same, key.of_creation(&"uid-own".into(), &"rd-elsewh".into(), &wanted()));
    assert_ne!(same, HashKey::new([8; 32]).of_write(&OWN_ID.into(), &wanted()));
    assert_eq!(format!("{key:?} {}", same.len()), "[hidden] 32");
}

#[test]
fn the_hash_of_a_target_is_that_of_its_channel_and_its_value_in_lower_case() {
    let of = |target: Target| key().of_target(&target);
    let mailbox = of(Target::Email(email("mailbox@example.com")));
    assert_eq!(mailbox, of(Target::Email(email("MAILBOX@Example.com"))));
    assert_ne!(mailbox, of(Target::Email(email("mailbox@example.org"))));
    assert_ne!(mailbox, of(Target::Phone(phone("mailbox@example.com"))));
    let other_key = HashKey::new([8; 32]);
    assert_ne!(mailbox, other_key.of_target(&Target::Email(email("mailbox@example.com"))));
    assert_eq!(mailbox.len(), 32);
}

#[test]
fn no_text_holds_a_private_value_or_a_name() {
    let code = "InvalidParameter.PhoneNumber";
    let setback = Some(failed(Action::UpdateMessageContact, FailureClass::InvalidInput, code));
    let situation = drifted(|contact| contact.email = Some(email("other@example.org")));
    let situation = with_entry(situation, |entry| entry.pending = Some(waits([])));
    for situation in [situation.clone(), Situation { setback, ..situation }] {
        let text = format!("{:?}", planned(&situation));
        for private in ["mailbox@", "other@", "13800138000", SPEC_NAME] {
            assert!(!text.contains(private), "{private} in {text}");
        }
    }
}

// Verification.

const DAY: i64 = 24 * 3600;

/// A contact without a phone that waits for its owner, with this known of its mailbox.
fn waiting(change: impl FnOnce(&mut ChannelRecord)) -> Situation {
    let mut situation = drifted(|contact| {
        contact.phone = None;
        contact.status = ContactStatus::Verifying;
    });
    situation = with_spec(situation, |spec| spec.phone = None);
    let mut record = ChannelRecord {
        target: key().of_target(&mailbox()),
        state: ChannelState::Pending,
        sends: 0,
        last_sent: None,
        evidence: None,
        verified_target: None,
    };
    change(&mut record);
    situation.recorded.verification = Verification { email: Some(record), phone: None };
    with_entry(situation, |entry| entry.pending = Some(waits([mailbox()])))
}

/// As [`waiting`], after so many messages, the last of which went at 1000.
fn sent_times(sends: u32) -> Situation {
    waiting(|record| {
        record.state = ChannelState::Sent;
        record.sends = sends;
        record.last_sent = Some(at(1000));
        record.evidence = Some(Evidence::SeenPending);
    })
}

fn mailbox() -> Target {
    Target::Email(wanted().email)
}

/// At that time, with a list of what waits that is a moment old.
fn seen_at(situation: Situation, seconds: i64, targets: &[Target]) -> Situation {
    let pending = Pending { targets: targets.to_vec(), at: at(seconds - 1) };
    let situation = Situation { now: at(seconds), ..situation };
    with_entry(situation, |entry| entry.pending = Some(pending))
}

/// The step, what is said of the mailbox, and how many messages are recorded.
fn mailbox_is(situation: &Situation) -> (Option<Action>, Reason, u32) {
    let plan = planned(situation);
    let action = match &plan.step {
        Some(Step::Call(call, _)) => Some(call.action()),
        Some(_) => panic!("an unexpected step: {:?}", plan.step),
        None => None,
    };
    let sends = plan.record.verification.email.map_or(0, |record| record.sends);
    (action, plan.verdict.email_verified.reason, sends)
}

const SEND: Option<Action> = Some(Action::SendEmailVerificationForMessageContact);
const LOOK: Option<Action> = Some(Action::ListMessageContactVerifications);

#[test]
fn a_message_is_written_down_with_the_step_that_sends_it() {
    let situation = waiting(|_| {});
    assert_eq!(mailbox_is(&situation), (SEND, Reason::VerificationSent, 1));
    let plan = planned(&situation);
    let record = plan.record.verification.email.expect("it is recorded");
    assert_eq!((record.last_sent, record.state), (Some(at(1000)), ChannelState::Sent));
    let send = plan.send.expect("it is written down");
    assert_eq!((send.at, &send.target), (at(1000), &record.target));
    // Stored and not sent yet it is still the step, and is not counted twice.
    let mut stored = sent_times(1);
    stored.recorded.verification.email = Some(record);
    assert_eq!(mailbox_is(&stored), (None, Reason::VerificationSent, 1));
    stored.unsent = vec![Unsent { send, counted: true }];
    assert_eq!(mailbox_is(&stored), (SEND, Reason::VerificationSent, 1));
}

#[test]
fn an_owner_is_asked_once_a_slot_until_the_messages_are_used_up() {
    let five = |sends, seconds| mailbox_is(&seen_at(sent_times(sends), seconds, &[mailbox()]));
    assert_eq!(five(1, 1000 + DAY - 1), (None, Reason::VerificationSent, 1));
    assert_eq!(five(1, 1000 + DAY), (SEND, Reason::VerificationSent, 2));
    assert_eq!(five(5, 1000 + DAY - 1), (None, Reason::VerificationSent, 5));
    assert_eq!(five(5, 1000 + DAY), (None, Reason::VerificationExhausted, 5));
    assert!(Reason::VerificationExhausted.stalls());
    // The last one, too, has its time, and then somebody must act.
    for sends in [1, 5] {
        let plan = planned(&seen_at(sent_times(sends), 1010, &[mailbox()]));
        assert_eq!(plan.recheck_at, Some(at(1000 + DAY)), "{sends}");
    }
    // Asked for by a person, one more goes, and no further one by itself.
    let mut asked = seen_at(sent_times(5), 1010, &[mailbox()]);
    asked.recorded.verification = asked_again(&asked.recorded.verification);
    assert_eq!(mailbox_is(&asked), (SEND, Reason::VerificationSent, 6));
    // Who has confirmed is not asked again, whoever asks for that.
    let confirmed = verified(&wanted());
    assert_eq!(asked_again(&confirmed), confirmed);
}

#[test]
fn a_message_that_waits_is_known_by_its_target_and_its_time() {
    let situation = unsent_times(1);
    let (unsent, record) = (&situation.unsent[0], &situation.recorded.verification);
    assert!(unsent.is_recorded(record));
    let other = |change: &dyn Fn(&mut super::Send)| {
        let mut other = unsent.clone();
        change(&mut other.send);
        other.is_recorded(record)
    };
    assert!(!other(&|send| send.at = at(1001)));
    assert!(!other(&|send| send.target = "another".to_owned()));
}

#[test]
fn a_value_is_verified_by_evidence_alone() {
    let gone = |evidence, seconds| {
        let mut situation = sent_times(1);
        let record = situation.recorded.verification.email.as_mut().expect("it is recorded");
        record.evidence = evidence;
        mailbox_is(&seen_at(situation, seconds, &[])).1
    };
    assert_eq!(gone(Some(Evidence::SeenPending), 1010), Reason::Verified);
    assert_eq!(gone(Some(Evidence::NothingPending), 1010), Reason::Verified);
    // It need not be listed so soon after its first message (A30).
    assert_eq!(gone(Some(Evidence::SendAnswered), 1060), Reason::VerificationSent);
    assert_eq!(gone(Some(Evidence::SendAnswered), 1062), Reason::Verified);
    assert_eq!(gone(Some(Evidence::WriteAnswered), 5000), Reason::VerificationSent);
    assert_eq!(gone(None, 5000), Reason::VerificationSent);
    // The cloud shows another value: whatever waits no longer, it is not this one.
    let other = with_entry(sent_times(1), |entry| {
        Arc::make_mut(&mut entry.contact).email = Some(email("other@example.org"));
    });
    assert_ne!(mailbox_is(&seen_at(other, 1010, &[])).1, Reason::Verified);
}

#[test]
fn what_waits_is_asked_for_only_where_a_list_does_not_tell() {
    let unasked = |change: &dyn Fn(&mut ObservedContact), evidence| {
        let situation = with_entry(sent_times(1), |entry| {
            entry.pending = None;
            change(Arc::make_mut(&mut entry.contact));
        });
        let mut situation = Situation { now: at(1010), ..situation };
        situation.recorded.verification.email.as_mut().expect("it is recorded").evidence = evidence;
        mailbox_is(&situation).0
    };
    let seen = Some(Evidence::SeenPending);
    assert_eq!(unasked(&|_| {}, seen), None);
    assert_eq!(unasked(&|_| {}, None), LOOK);
    assert_eq!(unasked(&|contact| contact.status = ContactStatus::Active, seen), LOOK);
    // A look right after the message told nothing: there is another one when it can tell (A23, A30).
    let mut early = seen_at(sent_times(1), 1002, &[]);
    let record = early.recorded.verification.email.as_mut().expect("it is recorded");
    record.evidence = Some(Evidence::SendAnswered);
    assert_eq!(mailbox_is(&early), (None, Reason::VerificationSent, 1));
    assert_eq!(planned(&early).recheck_at, Some(at(1060)));
    assert_eq!(mailbox_is(&Situation { now: at(1059), ..early.clone() }).0, None);
    assert_eq!(mailbox_is(&Situation { now: at(1060), ..early }).0, LOOK);
}

#[test]
fn no_limit_is_got_round() {
    let target = key().of_target(&mailbox());
    let name = key().of_name(&name(SPEC_NAME));
    let full = (0..Ledger::TARGET_DAY_MAX)
        .fold(Ledger::default(), |ledger, _| ledger.with_send(&target, "another", at(1000)));
    let situation = Situation { ledger: full, ..waiting(|_| {}) };
    assert_eq!(mailbox_is(&situation), (None, Reason::VerificationQuotaExhausted, 0));
    assert!(planned(&situation).recheck_at.is_some_and(|until| until > at(1000)));
    let used_up = Situation { ledger: Ledger::default().exhausted(at(1000)), ..waiting(|_| {}) };
    assert_eq!(mailbox_is(&used_up), (None, Reason::VerificationQuotaExhausted, 0));
    // Deleted and created again: the message of before counts.
    let before = Ledger::default().with_send(&target, &name, at(500));
    let again = Situation { ledger: before, ..waiting(|_| {}) };
    assert_eq!(mailbox_is(&again), (None, Reason::VerificationSent, 1));
    assert_eq!(planned(&again).recheck_at, Some(at(500 + DAY)));
}

#[test]
fn nobody_is_asked_where_that_is_forbidden_or_nothing_shows_the_value() {
    let never = |situation: Situation, change: &dyn Fn(&mut DesiredContact)| {
        with_spec(situation, |spec| {
            spec.phone = None;
            change(spec);
        })
    };
    let silent = never(waiting(|_| {}), &|spec| spec.verification.send = false);
    assert_eq!(mailbox_is(&silent), (None, Reason::NotSent, 0));
    let reports = never(waiting(|_| {}), &|spec| spec.mode = Mode::ReportOnly);
    assert_eq!(mailbox_is(&reports), (None, Reason::NotSent, 0));
    let setback =
        failed(Action::SendEmailVerificationForMessageContact, FailureClass::Permission, "No");
    let refused = Situation { setback: Some(setback), ..waiting(|_| {}) };
    let plan = planned(&refused);
    assert_eq!(plan.verdict.email_verified.reason, Reason::VerificationPending);
    assert!(plan.verdict.email_verified.message.contains("grant resourcemanager:SendEmail"));
    assert_eq!((plan.step, plan.verdict.synced.reason), (None, Reason::InSync));
    // The value could not be written: whoever it belongs to is not written to.
    let elsewhere = |entry: &mut Entry| {
        Arc::make_mut(&mut entry.contact).email = Some(email("other@example.org"));
        entry.pending = Some(waits([]));
    };
    let setback = failed(Action::UpdateMessageContact, FailureClass::InvalidInput, "Invalid");
    let unwritten = Situation { setback: Some(setback), ..with_entry(waiting(|_| {}), elsewhere) };
    assert_eq!(mailbox_is(&unwritten).0, None);
}

#[test]
fn what_a_call_for_a_message_gave_back_is_remembered() {
    let call = Call::SendEmailVerificationForMessageContact(OWN_ID.into(), wanted().email);
    let after = |class: Option<FailureClass>| {
        let planned = planned(&waiting(|_| {})).record;
        let error = class
            .map(|class| failed(Action::SendEmailVerificationForMessageContact, class, "").error);
        let record = record_after(&planned.clone(), planned, &call, error.as_ref(), at(1010));
        record.verification.email.expect("it is recorded")
    };
    let answered = after(None);
    assert_eq!((answered.sends, answered.evidence), (1, Some(Evidence::SeenPending)));
    let unknown = after(Some(FailureClass::OutcomeUnknown));
    assert_eq!((unknown.sends, unknown.state), (1, ChannelState::Sent));
    let nothing = after(Some(FailureClass::NothingPending));
    assert_eq!((nothing.sends, nothing.evidence), (0, Some(Evidence::NothingPending)));
    let used_up = after(Some(FailureClass::SendsExhausted));
    assert_eq!((used_up.sends, used_up.last_sent), (0, None));
    assert_eq!(used_up.state, ChannelState::QuotaExhausted);
}

#[test]
fn only_a_message_that_may_have_been_sent_stays_in_the_ledger() {
    let send = planned(&waiting(|_| {})).send.expect("it is written down");
    let ledger = Ledger::default().with_send(&send.target, &send.contact, send.at);
    let after = |class| {
        let error = failed(Action::SendEmailVerificationForMessageContact, class, "").error;
        ledger_after(&ledger, &send, &error, at(1010))
    };
    assert_eq!(after(FailureClass::OutcomeUnknown).as_ref(), Some(&ledger));
    let nothing = after(FailureClass::NothingPending).expect("it is over");
    assert_eq!((nothing.count, nothing.exhausted_until), (0, None));
    let used_up = after(FailureClass::SendsExhausted).expect("it is over");
    assert!(used_up.count == 0 && used_up.exhausted_until.is_some());
    assert_eq!(after(FailureClass::Permission), None, "it is still to be sent");
}

#[test]
fn a_value_is_owed_a_message_before_it_is_written_and_an_old_confirmation_is_forgotten() {
    let new = Target::Email(email("other@example.org"));
    let spec = |spec: &mut DesiredContact| spec.email = email("other@example.org");
    let situation = with_entry(with_spec(holding(observed()), spec), |entry| {
        entry.pending = Some(waits([]));
    });
    let record = planned(&situation).record.verification.email.expect("it is recorded");
    assert_eq!(record.target, key().of_target(&new));
    assert_eq!((record.state, record.evidence), (ChannelState::Pending, None));
    assert_eq!(record.verified_target, Some(key().of_target(&mailbox())));
    // The new one was confirmed meanwhile: going back writes the old one, which counts as new.
    let mut back = with_entry(holding(observed()), |entry| {
        Arc::make_mut(&mut entry.contact).email = Some(email("other@example.org"));
        entry.pending = Some(waits([]));
    });
    back.recorded.verification.email = Some(record);
    let record = planned(&back).record.verification.email.expect("it is recorded");
    assert_eq!((record.target, record.verified_target), (key().of_target(&mailbox()), None));
}

#[test]
fn going_back_to_the_value_in_force_takes_the_other_one_back() {
    let new = Target::Email(email("other@example.org"));
    let mut situation = holding(observed());
    let record = situation.recorded.verification.email.as_mut().expect("it is recorded");
    record.target = key().of_target(&new);
    record.state = ChannelState::Sent;
    record.evidence = Some(Evidence::SeenPending);
    let unasked = with_entry(situation.clone(), |entry| entry.pending = None);
    assert_eq!(mailbox_is(&unasked).0, LOOK);
    let waits = with_entry(situation.clone(), |entry| entry.pending = Some(waits([new])));
    let cancel = Some(Action::CancelMessageContactUpdate);
    assert_eq!(mailbox_is(&waits).0, cancel);
    // Where the waiting value is shown, nothing but the record tells which one is in force (A12).
    let shown = with_entry(waits.clone(), |entry| {
        Arc::make_mut(&mut entry.contact).email = Some(email("other@example.org"));
    });
    assert_eq!(mailbox_is(&shown).0, cancel);
    // Refused, as the owner was faster (A15): the wanted value is written.
    let setback =
        failed(Action::CancelMessageContactUpdate, FailureClass::WrongState, "ContactStatus");
    let refused = Situation { setback: Some(setback), now: at(1400), ..shown };
    assert_eq!(mailbox_is(&refused).0, Some(Action::UpdateMessageContact));
    let gone = with_entry(situation, |entry| entry.pending = Some(self::waits([])));
    assert_eq!(mailbox_is(&gone), (None, Reason::Verified, 0));
}

/// As [`sent_times`], but the last message was only written down.
fn unsent_times(sends: u32) -> Situation {
    let mut situation = sent_times(sends);
    let (target, contact) = (key().of_target(&mailbox()), key().of_name(&name(SPEC_NAME)));
    let send = super::Send { target, contact, at: at(1000) };
    situation.ledger = Ledger::default().with_send(&send.target, &send.contact, send.at);
    situation.unsent = vec![Unsent { send, counted: true }];
    situation
}

#[test]
fn a_message_that_could_not_be_sent_for_long_is_written_down_anew_and_counts_once() {
    let sent_at = |situation: &Situation| planned(situation).send.map(|send| send.at);
    for (sends, seconds) in [(1, 1000 + DAY / 2), (1, 1000 + DAY), (5, 1000 + DAY), (5, 5000 + DAY)]
    {
        let late = seen_at(unsent_times(sends), seconds, &[mailbox()]);
        assert_eq!(mailbox_is(&late), (SEND, Reason::VerificationSent, sends), "{seconds}");
        assert_eq!(sent_at(&late), Some(at(seconds)), "{seconds}");
    }
    let early = seen_at(unsent_times(1), 1000 + DAY / 2 - 1, &[mailbox()]);
    assert_eq!((mailbox_is(&early).0, sent_at(&early)), (SEND, Some(at(1000))));
    // A person asks for one more, while one is still to be sent: one goes.
    let mut asked = seen_at(unsent_times(1), 1010, &[mailbox()]);
    asked.recorded.verification = asked_again(&asked.recorded.verification);
    assert_eq!(mailbox_is(&asked), (SEND, Reason::VerificationSent, 1));
    assert_eq!(sent_at(&asked), Some(at(1010)));
}

#[test]
fn a_message_on_its_way_stops_when_the_account_has_none_left() {
    let mut situation = seen_at(unsent_times(1), 1010, &[mailbox()]);
    situation.ledger = situation.ledger.exhausted(at(1005));
    assert_eq!(mailbox_is(&situation), (None, Reason::VerificationQuotaExhausted, 1));
    let until = planned(&situation).recheck_at.expect("it goes tomorrow");
    let record = planned(&situation).record;
    let tomorrow = seen_at(Situation { recorded: record, ..situation }, DAY, &[mailbox()]);
    let tomorrow = Situation { now: until, ..tomorrow };
    assert_eq!(mailbox_is(&tomorrow), (SEND, Reason::VerificationSent, 1));
    // The limits of the ledger count it already.
    let full = (1..Ledger::TARGET_DAY_MAX).fold(unsent_times(1).ledger, |ledger, _| {
        ledger.with_send(&key().of_target(&mailbox()), "another", at(1000))
    });
    let last = Situation { ledger: full, ..seen_at(unsent_times(1), 1010, &[mailbox()]) };
    assert_eq!(mailbox_is(&last).0, SEND);
}

#[test]
fn the_time_of_a_message_begins_when_it_goes_out() {
    let call = Call::SendEmailVerificationForMessageContact(OWN_ID.into(), wanted().email);
    let after = |situation: &Situation, class: Option<FailureClass>, seconds| {
        let mut planned = planned(situation).record;
        let record = planned.verification.email.as_mut().expect("it is recorded");
        record.state = ChannelState::Pending;
        let error = class
            .map(|class| failed(Action::SendEmailVerificationForMessageContact, class, "").error);
        let record = record_after(&planned.clone(), planned, &call, error.as_ref(), at(seconds));
        record.verification.email.expect("it is recorded")
    };
    for class in [None, Some(FailureClass::OutcomeUnknown)] {
        let late = after(&waiting(|_| {}), class, 5000);
        assert_eq!((late.state, late.last_sent), (ChannelState::Sent, Some(at(5000))));
        // A turn that came at once is no news: nothing is written for it.
        let at_once = after(&waiting(|_| {}), class, 1060);
        assert_eq!((at_once.state, at_once.last_sent), (ChannelState::Sent, Some(at(1000))));
    }
    // Whether it was sent is not known, so that nothing is shown by its absence later.
    let hidden = with_entry(waiting(|record| record.evidence = None), |entry| {
        Arc::make_mut(&mut entry.contact).status = ContactStatus::Active;
        entry.pending = Some(waits([]));
    });
    assert_eq!(after(&hidden, Some(FailureClass::OutcomeUnknown), 1010).evidence, None);
    assert_eq!(after(&hidden, None, 1010).evidence, Some(Evidence::SendAnswered));
    let refused = after(&waiting(|_| {}), Some(FailureClass::Permission), 5000);
    assert_eq!((refused.state, refused.last_sent), (ChannelState::Pending, Some(at(1000))));
}

#[test]
fn a_value_that_another_one_has_replaced_is_not_confirmed_by_that() {
    let other = Target::Email(email("other@example.org"));
    let evidence = |situation: &Situation| {
        planned(situation).record.verification.email.and_then(|record| record.evidence)
    };
    let mut replaced = seen_at(sent_times(1), 1010, std::slice::from_ref(&other));
    assert_eq!((mailbox_is(&replaced).1, evidence(&replaced)), (Reason::VerificationSent, None));
    // Nor once the other one was taken back.
    replaced.recorded = planned(&replaced).record;
    let back = seen_at(replaced, 1020, &[]);
    assert_eq!(mailbox_is(&back).1, Reason::VerificationSent);
    // A look right after the message may be late (A23).
    let mut early = sent_times(1);
    let record = early.recorded.verification.email.as_mut().expect("it is recorded");
    record.evidence = Some(Evidence::SendAnswered);
    let settled = seen_at(early.clone(), 1100, std::slice::from_ref(&other));
    let early = seen_at(early, 1010, &[other]);
    assert_eq!(evidence(&early), Some(Evidence::SendAnswered));
    assert_eq!(evidence(&settled), None);
    // Another value of the other channel says nothing.
    let phone = seen_at(sent_times(1), 1010, &[Target::Phone(phone("65-61234567"))]);
    assert_eq!(mailbox_is(&phone).1, Reason::Verified);
}

#[test]
fn where_the_key_of_the_hashes_was_lost_every_value_counts_as_just_sent() {
    let lost = HashKey::new([8; HashKey::BYTES]);
    for (state, targets) in
        [(ChannelState::Sent, vec![mailbox()]), (ChannelState::Verified, vec![])]
    {
        let mut situation = seen_at(sent_times(1), 1000 + 2 * DAY, &targets);
        let record = situation.recorded.verification.email.as_mut().expect("it is recorded");
        record.target = lost.of_target(&mailbox());
        record.state = state;
        record.verified_target = (state == ChannelState::Verified).then(|| record.target.clone());
        assert_eq!(mailbox_is(&situation), (None, Reason::VerificationSent, 0), "{state:?}");
        let plan = planned(&situation);
        assert_eq!(plan.recheck_at, Some(at(1000 + 3 * DAY)), "{state:?}");
    }
    // Of what was deleted meanwhile nothing is recorded but in the ledger.
    let ledger = Ledger::default().with_send("of the lost key", "a name", at(400));
    let ledger = ledger.read_with(&key().fingerprint(), at(500));
    let again = Situation { ledger, ..waiting(|_| {}) };
    assert_eq!(mailbox_is(&again), (None, Reason::VerificationSent, 1));
    assert_eq!(planned(&again).recheck_at, Some(at(500 + DAY)));
}

#[test]
fn a_contact_has_a_limit_of_its_own_whatever_its_values_are() {
    let name = key().of_name(&name(SPEC_NAME));
    let ledger = (0..Ledger::CONTACT_DAY_MAX).fold(Ledger::default(), |ledger, number| {
        ledger.with_send(&number.to_string(), &name, at(1000))
    });
    let plan = planned(&Situation { ledger, ..waiting(|_| {}) });
    assert_eq!(plan.step, None);
    let said = plan.verdict.email_verified;
    assert_eq!(said.reason, Reason::VerificationQuotaExhausted);
    assert!(said.message.contains("10 messages were sent for this contact today"), "{said:?}");
}

/// The message of an earlier time counts for the slot, and says nothing of the value that was just
/// written again: it may be shown only after its first message (A30).
#[test]
fn a_value_that_was_written_again_within_a_slot_is_on_its_way() {
    let mut situation = with_entry(sent_times(1), |entry| {
        Arc::make_mut(&mut entry.contact).email = Some(email("other@example.org"));
    });
    let record = situation.recorded.verification.email.as_mut().expect("it is recorded");
    record.evidence = Some(Evidence::WriteAnswered);
    assert_eq!(mailbox_is(&seen_at(situation.clone(), 5000, &[])).0, None);
    // Its message cannot be sent: whether it was taken is not waited for.
    let refused = Situation { unsent: unsent_times(1).unsent, ..situation.clone() };
    let update = Some(Action::UpdateMessageContact);
    assert_eq!(mailbox_is(&seen_at(refused, 5000, &[])).0, update);
    // A message was sent since, and it still does not wait: it was not taken, or is in force by now.
    let record = situation.recorded.verification.email.as_mut().expect("it is recorded");
    record.evidence = Some(Evidence::SendAnswered);
    let unread = seen_at(situation, 5000, &[]);
    assert_eq!(mailbox_is(&unread).0, Some(Action::GetMessageContact));
    let read = with_entry(unread, |entry| entry.read_at = Some(at(5000)));
    assert_eq!(mailbox_is(&read).0, update);
}

/// It need not keep what it does not name (A4), and what was written and never asked for may be hidden
/// anyway (A30): the number counts as missing, and is written again.
#[test]
fn an_update_without_the_phone_says_nothing_of_a_phone_that_was_only_written() {
    let mut planned = holding(observed()).recorded;
    let phone = planned.verification.phone.as_mut().expect("it is recorded");
    phone.state = ChannelState::Sent;
    phone.evidence = Some(Evidence::WriteAnswered);
    let after = |changes: Changes| {
        let call = Call::UpdateMessageContact(OWN_ID.into(), changes);
        let record = record_after(&planned, planned.clone(), &call, None, at(1010));
        record.verification.phone.expect("it is recorded").evidence
    };
    let title = Changes { title: Some(Title::CEO), ..Changes::default() };
    assert_eq!(after(title), None);
    let number = Some(PhoneChange::Set(self::phone("86-13800138000")));
    let number = Changes { phone: number, ..Changes::default() };
    assert_eq!(after(number), Some(Evidence::WriteAnswered));
}
