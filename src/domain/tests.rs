use std::collections::BTreeSet;

use jiff::Timestamp;
use proptest::prelude::*;

use super::call::{
    Action, Call, CallError, Changes, DeletionState, DirectoryIdentity, ErrorCode, FailureClass,
    NewContact, Page, Reply, RequestId, Target,
};
use super::channel::{EmailAddress, PhoneNumber};
use super::contact::{ContactId, ContactName, ContactStatus, MessageType, ObservedContact, Title};
use super::snapshot::{Changed, Lists, Sight, Snapshot};
use super::verdict::Reason;

// Channels and names.

#[test]
fn an_address_shows_its_first_letter_and_domain() {
    let shown = |text: &str| {
        let address = EmailAddress::observed(text.to_owned());
        assert_eq!(format!("{address}"), format!("{address:?}"));
        address.to_string()
    };
    assert_eq!(shown("owner@example.com"), "o***@example.com");
    assert_eq!(shown("\"a@b\"@example.com"), "\"***@example.com");
    assert_eq!(shown("王@example.com"), "王***@example.com");
    assert_eq!(shown("no address"), "****@***");
    assert_eq!(shown(""), "****@***");
}

#[test]
fn a_number_shows_its_country_and_a_few_digits() {
    let shown = |text: &str| PhoneNumber::observed(text.to_owned()).to_string();
    assert_eq!(shown("86-13800138000"), "86-138****8000");
    assert_eq!(shown("65-1234567"), "65-****");
    assert_eq!(shown("65-123456789"), "65-****");
    assert_eq!(shown("8613800138000"), "-861****8000");
    assert_eq!(shown("no number"), "-****");
    assert_eq!(shown("1-一二三四五六"), "1-一****");
}

#[test]
fn an_address_is_one_plain_mailbox() {
    let parses = |text: &str| EmailAddress::parse(text).is_ok();
    assert!(parses("a@b.c"));
    assert!(parses("first.last+tag@sub-domain.example.com"));
    assert!(parses(&format!("{}@example.com", "x".repeat(242))));
    assert!(!parses(&format!("{}@example.com", "x".repeat(243))));
    for refused in [
        "",
        "example.com",
        "@example.com",
        "user@",
        "user@host",
        "user@example.",
        "user@.com",
        "user@example..com",
        "user@exam_ple.com",
        "us er@example.com",
        "user@example.com ",
        "user@example.com\n",
        "User <user@example.com>",
        "user@@example.com",
        "user@one@example.com",
        "üser@example.com",
        "user@exämple.com",
        "a@example.com,b@example.com",
    ] {
        assert!(!parses(refused), "{refused:?}");
    }
}

#[test]
fn a_number_has_a_country_code_and_digits() {
    let parses = |text: &str| PhoneNumber::parse(text).is_ok();
    for taken in ["86-13800138000", "65-12345", "1-12345678901234567890", "868-12345", "8-12345"] {
        assert!(parses(taken), "{taken}");
    }
    for refused in [
        "",
        "-13800138000",
        "13800138000",
        "+86-13800138000",
        "86-12800138000",
        "86-1380013800",
        "86-138001380000",
        "86-23800138000",
        "86 13800138000",
        "86-138-00138000",
        "65-1234",
        "1-123456789012345678901",
        "12345-12345",
        "65-12345a",
        "65-１２３４５",
        "86-13800138000\n",
    ] {
        assert!(!parses(refused), "{refused:?}");
    }
}

#[test]
fn a_name_has_two_to_twelve_letters_or_han_characters() {
    let parses = |text: &str| ContactName::parse(text).is_ok();
    for taken in ["ab", "abcdefghijkl", "张三", "〇一二三四五六七八九十百", "Op张", "𠀀𠀁"]
    {
        assert!(parses(taken), "{taken}");
    }
    for refused in
        ["", "a", "张", "abcdefghijklm", "ab1", "a b", "a-b", "ab\n", "äb", "あい", "ab。"]
    {
        assert!(!parses(refused), "{refused:?}");
    }
}

#[test]
fn a_name_folds_its_case_and_hides_in_debug_texts() {
    let name = |text: &str| ContactName::observed(text.to_owned());
    assert_eq!(name("OpsTeam").folded(), name("OPSTEAM").folded());
    assert_ne!(name("OpsTeam"), name("OPSTEAM"));
    assert_eq!(format!("{:?}", name("OpsTeam")), "[name]");
}

#[test]
fn a_mailbox_is_the_same_whatever_its_case() {
    let email = |text: &str| EmailAddress::observed(text.to_owned());
    assert!(email("One@Example.com").same_mailbox(&email("one@example.COM")));
    assert!(!email("one@example.com").same_mailbox(&email("one@example.org")));
}

/// A pattern that stands in schemas, without the anchors that the generator does not know.
fn of_pattern(pattern: &str) -> impl Strategy<Value = String> + use<> {
    let inner = pattern.trim_start_matches('^').trim_end_matches('$').to_owned();
    prop::string::string_regex(&inner).unwrap_or_else(|_| unreachable!("a pattern of this crate"))
}

proptest! {
    #[test]
    fn what_a_pattern_allows_parses(
        email in of_pattern(EmailAddress::PATTERN),
        phone in of_pattern(PhoneNumber::PATTERN),
        name in of_pattern(ContactName::PATTERN),
    ) {
        prop_assume!(email.len() <= EmailAddress::CHARS_MAX);
        prop_assert!(EmailAddress::parse(&email).is_ok(), "{email}");
        prop_assert!(PhoneNumber::parse(&phone).is_ok(), "{phone}");
        prop_assert!(ContactName::parse(&name).is_ok(), "{name}");
    }

    #[test]
    fn whatever_the_cloud_shows_can_be_masked(text in any::<String>()) {
        let _ = EmailAddress::observed(text.clone()).to_string();
        let _ = PhoneNumber::observed(text).to_string();
    }
}

// Words and errors.

#[test]
fn words_are_read_as_they_are_spelt() {
    for title in Title::ALL {
        assert_eq!(Title::from_word(title.as_str()), Some(*title));
    }
    for message_type in MessageType::ALL {
        assert_eq!(MessageType::from_word(message_type.as_str()), Some(*message_type));
    }
    assert_eq!(Title::from_word("ceo"), None);
}

#[test]
fn an_odd_code_or_request_id_is_not_kept() {
    assert!(ErrorCode::parse("InvalidParameter.Name-Already_Used").is_some());
    assert_eq!(ErrorCode::parse("user@example.com"), None);
    assert_eq!(ErrorCode::parse(""), None);
    assert_eq!(ErrorCode::parse(&"x".repeat(97)), None);
    assert!(RequestId::parse("5D1A2B3C-0000-4000-8000-0123456789AB").is_some());
    assert_eq!(RequestId::parse("5D1A"), None);
    assert_eq!(RequestId::parse("not hexadecimal"), None);
}

#[test]
fn an_error_names_operation_class_code_and_request() {
    let error = CallError {
        action: Action::AddMessageContact,
        class: FailureClass::NameTaken,
        code: ErrorCode::parse("InvalidParameter.Name.AlreadyUsed"),
        request_id: RequestId::parse("5D1A2B3C-0000"),
        retry_after: None,
    };
    assert_eq!(
        error.to_string(),
        "AddMessageContact: the name is taken, code InvalidParameter.Name.AlreadyUsed, request \
         5D1A2B3C-0000"
    );
    let bare = CallError { code: None, request_id: None, ..error };
    assert_eq!(bare.to_string(), "AddMessageContact: the name is taken");
}

#[test]
fn only_an_unknown_outcome_may_have_been_executed() {
    assert!(!FailureClass::OutcomeUnknown.not_executed());
    assert!(FailureClass::Unavailable.not_executed() && FailureClass::Conflict.not_executed());
}

#[test]
fn a_stalling_reason_asks_somebody_to_change_something() {
    for reason in Reason::ALL.iter().filter(|reason| reason.stalls()) {
        assert!(!reason.advice().starts_with("Wait") && !reason.meaning().is_empty(), "{reason}");
    }
}

// Snapshot.

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap_or(Timestamp::MAX)
}

fn contact(id: &str, name: &str) -> ObservedContact {
    ObservedContact {
        id: id.into(),
        name: ContactName::observed(name.to_owned()),
        email: Some(EmailAddress::observed("mailbox@example.com".to_owned())),
        phone: None,
        title: "CEO".to_owned(),
        message_types: BTreeSet::new(),
        members: BTreeSet::new(),
        status: ContactStatus::Active,
    }
}

fn failure(action: Action, class: FailureClass) -> CallError {
    CallError { action, class, code: None, request_id: None, retry_after: None }
}

/// A directory with these contacts, listed at that second.
fn listed(seconds: i64, contacts: &[ObservedContact]) -> Snapshot {
    let mut snapshot = Snapshot::default();
    let _ = list(&mut snapshot, seconds, contacts);
    snapshot
}

fn list(snapshot: &mut Snapshot, seconds: i64, contacts: &[ObservedContact]) -> Changed {
    snapshot.begin_list(at(seconds));
    page(snapshot, 1, contacts, contacts.len())
}

fn page(snapshot: &mut Snapshot, page: u32, contacts: &[ObservedContact], total: usize) -> Changed {
    let total = u32::try_from(total).unwrap_or(u32::MAX);
    let reply = Reply::Contacts(Page { items: contacts.to_vec(), total });
    snapshot.record(&Call::ListMessageContacts { page }, &Ok(reply), at(0))
}

fn get(snapshot: &mut Snapshot, seconds: i64, shown: &ObservedContact) -> Changed {
    let call = Call::GetMessageContact(shown.id.clone());
    snapshot.record(&call, &Ok(Reply::Contact(shown.clone())), at(seconds))
}

fn get_fails(snapshot: &mut Snapshot, id: &str, class: FailureClass) -> Changed {
    let error = failure(Action::GetMessageContact, class);
    snapshot.record(&Call::GetMessageContact(id.into()), &Err(error), at(25))
}

fn update(snapshot: &mut Snapshot, id: &str, result: Result<Reply, FailureClass>) -> Changed {
    let result = result.map_err(|class| failure(Action::UpdateMessageContact, class));
    snapshot.record(&Call::UpdateMessageContact(id.into(), Changes::default()), &result, at(0))
}

/// What is known of a contact, in a few words.
fn known(snapshot: &Snapshot, id: &str) -> String {
    match snapshot.sight(&id.into()) {
        Sight::Gone { confirmed: true } => "gone".to_owned(),
        Sight::Gone { confirmed: false } => "perhaps gone".to_owned(),
        Sight::Unlisted => "unlisted".to_owned(),
        Sight::Known(entry) => {
            let unread = if entry.unread { " unread" } else { "" };
            let read = if entry.read_at.is_some() { " read" } else { "" };
            let pending = if entry.pending.is_some() { " pending" } else { "" };
            let deletion = entry.deletion.map_or(String::new(), |d| format!(" {:?}", d.state));
            format!("{}{unread}{read}{pending}{deletion}", entry.contact.name.as_str())
        }
    }
}

fn named(snapshot: &Snapshot, name: &str) -> Vec<String> {
    let name = ContactName::observed(name.to_owned());
    snapshot.namesakes(&name).map(|entry| entry.contact.id.0.clone()).collect()
}

fn ids(changed: &Changed) -> Vec<&str> {
    changed.ids.iter().map(ContactId::as_str).collect()
}

fn names(changed: &Changed) -> Vec<&str> {
    changed.names.iter().map(String::as_str).collect()
}

fn add(snapshot: &mut Snapshot, seconds: i64, id: &str) {
    let call = Call::AddMessageContact(NewContact {
        name: ContactName::observed("new".to_owned()),
        title: Title::CEO,
        email: EmailAddress::observed("new@example.com".to_owned()),
        phone: None,
        message_types: BTreeSet::from([MessageType::SecurityMessage]),
    });
    let _ = snapshot.record(&call, &Ok(Reply::Added(id.into())), at(seconds));
}

/// Its id is known to nobody else: to believe a late answer would lose the contact.
#[test]
fn a_contact_that_was_just_added_is_gone_only_when_more_than_a_late_get_says_so() {
    let missed = |before: &dyn Fn(&mut Snapshot)| {
        let mut snapshot = listed(1, &[]);
        add(&mut snapshot, 10, "c-new");
        before(&mut snapshot);
        let _ = get_fails(&mut snapshot, "c-new", FailureClass::ContactNotFound);
        known(&snapshot, "c-new")
    };
    let shown =
        ObservedContact { name: ContactName::observed("new".into()), ..contact("c-new", "new") };
    assert_eq!(missed(&|_| {}), "new unread read");
    assert_eq!(
        missed(&|snapshot| drop(list(snapshot, 12, std::slice::from_ref(&shown)))),
        "new unread read"
    );
    // A late list lacks it too, as nothing has shown it yet.
    assert_eq!(missed(&|snapshot| drop(list(snapshot, 12, &[]))), "unlisted");
    let came_and_went = |snapshot: &mut Snapshot| {
        let _ = list(snapshot, 12, std::slice::from_ref(&shown));
        let _ = list(snapshot, 14, &[]);
    };
    assert_eq!(missed(&came_and_went), "gone");
    assert_eq!(missed(&|snapshot| drop(get(snapshot, 12, &shown))), "perhaps gone");
    let deleted = |snapshot: &mut Snapshot| {
        let call = Call::DeleteMessageContact { id: "c-new".into(), retain_in_members: false };
        let error = failure(Action::DeleteMessageContact, FailureClass::OutcomeUnknown);
        let _ = snapshot.record(&call, &Err(error), at(15));
    };
    assert_eq!(missed(&deleted), "perhaps gone");
    let mut snapshot = listed(1, &[]);
    add(&mut snapshot, -60, "c-new");
    let _ = get_fails(&mut snapshot, "c-new", FailureClass::ContactNotFound);
    assert_eq!(known(&snapshot, "c-new"), "perhaps gone", "a minute is over");
}

/// A late list would make it be taken back again and again.
#[test]
fn a_value_that_was_taken_back_waits_no_longer_until_it_is_written_again() {
    let email = EmailAddress::observed("new@example.com".to_owned());
    let id = ContactId::from("c-1");
    let waits = |snapshot: &mut Snapshot, seconds| {
        let targets = vec![Target::Email(email.clone())];
        let call = Call::ListMessageContactVerifications { id: id.clone(), page: 1 };
        let reply = Reply::Verifications(Page { items: targets, total: 1 });
        let _ = snapshot.record(&call, &Ok(reply), at(seconds));
        match snapshot.sight(&id) {
            Sight::Known(entry) => entry.pending.map(|pending| pending.targets.len()),
            Sight::Unlisted | Sight::Gone { .. } => None,
        }
    };
    let cancel = Call::CancelMessageContactUpdate {
        id: id.clone(),
        email: Some(email.clone()),
        phone: None,
    };
    let mut snapshot = listed(1, &[contact("c-1", "one")]);
    assert_eq!(waits(&mut snapshot, 2), Some(1));
    let _ = snapshot.record(&cancel, &Ok(Reply::Done), at(3));
    assert_eq!(waits(&mut snapshot, 4), Some(0));
    assert_eq!(waits(&mut snapshot, 64), Some(1), "a list is late for so long at most");
    let _ = snapshot.record(&cancel, &Ok(Reply::Done), at(70));
    let changes = Changes { email: Some(email.clone()), ..Changes::default() };
    let _ =
        snapshot.record(&Call::UpdateMessageContact(id.clone(), changes), &Ok(Reply::Done), at(71));
    assert_eq!(waits(&mut snapshot, 72), Some(1));
}

#[test]
fn a_list_counts_when_its_last_page_has_come() {
    let mut snapshot = Snapshot::default();
    snapshot.begin_list(at(10));
    assert_eq!(snapshot.next_page(), Some(1));
    let changed = page(&mut snapshot, 1, &[contact("c-1", "one")], 2);
    assert_eq!((ids(&changed), changed.everything), (vec!["c-1"], false));
    assert_eq!((snapshot.next_page(), snapshot.lists()), (Some(2), Lists::default()));
    let changed = page(&mut snapshot, 2, &[contact("c-2", "two")], 2);
    assert_eq!((ids(&changed), changed.everything), (vec!["c-2"], true));
    assert_eq!(snapshot.next_page(), None);
    assert_eq!(snapshot.lists(), Lists { last: Some(at(10)), before: None });
    let _ = list(&mut snapshot, 20, &[contact("c-1", "one"), contact("c-2", "two")]);
    assert_eq!(snapshot.lists(), Lists { last: Some(at(20)), before: Some(at(10)) });
    assert_eq!(snapshot.contacts().len(), 2);
}

#[test]
fn an_empty_directory_is_one_empty_page() {
    let snapshot = listed(10, &[]);
    assert_eq!(snapshot.lists().last, Some(at(10)));
}

#[test]
fn an_unchanged_list_changes_nothing() {
    let mut snapshot = listed(10, &[contact("c-1", "one")]);
    assert!(list(&mut snapshot, 20, &[contact("c-1", "one")]).is_empty());
}

#[test]
fn a_contact_that_moves_to_the_next_page_is_counted_once() {
    let mut snapshot = Snapshot::default();
    snapshot.begin_list(at(10));
    let _ = page(&mut snapshot, 1, &[contact("c-1", "one"), contact("c-2", "two")], 3);
    let _ = page(&mut snapshot, 2, &[contact("c-2", "two"), contact("c-3", "three")], 3);
    assert_eq!((snapshot.contacts().len(), snapshot.next_page()), (3, None));
    assert_eq!(named(&snapshot, "two"), ["c-2"]);
}

#[test]
fn an_abandoned_list_has_shown_its_pages_and_says_nothing_of_what_they_lack() {
    let mut snapshot = listed(10, &[contact("c-1", "one")]);
    snapshot.begin_list(at(20));
    let _ = page(&mut snapshot, 1, &[contact("c-2", "two")], 2);
    snapshot.abandon_list();
    assert!(page(&mut snapshot, 2, &[contact("c-3", "three")], 2).is_empty());
    assert_eq!((known(&snapshot, "c-1"), known(&snapshot, "c-2")), ("one".into(), "two".into()));
    assert_eq!(snapshot.lists().last, Some(at(10)));
}

/// The answer to a page that was not asked for ended the list, as if all pages had come.
#[test]
fn a_page_that_was_not_asked_for_is_ignored() {
    let mut snapshot = Snapshot::default();
    snapshot.begin_list(at(10));
    assert!(page(&mut snapshot, 2, &[contact("c-2", "two")], 2).is_empty());
    assert_eq!(snapshot.next_page(), Some(1));
}

#[test]
fn a_page_that_contradicts_what_was_learnt_since_is_not_believed() {
    let old = [contact("c-1", "one"), contact("c-2", "two"), contact("c-3", "three")];
    let mut snapshot = listed(10, &old);
    snapshot.begin_list(at(20));
    let _ = get(&mut snapshot, 21, &contact("c-1", "renamed"));
    let _ = update(&mut snapshot, "c-2", Ok(Reply::Done));
    let _ = get_fails(&mut snapshot, "c-3", FailureClass::ContactNotFound);
    let _ = page(&mut snapshot, 1, &old, 3);
    assert_eq!(known(&snapshot, "c-1"), "one unread read");
    assert_eq!(known(&snapshot, "c-2"), "two unread");
    assert_eq!(known(&snapshot, "c-3"), "three");
}

#[test]
fn a_contact_that_was_added_during_a_list_stays() {
    let mut snapshot = Snapshot::default();
    snapshot.begin_list(at(10));
    let new = NewContact {
        name: ContactName::observed("Added".to_owned()),
        title: Title::CEO,
        email: EmailAddress::observed("mailbox@example.com".to_owned()),
        phone: Some(PhoneNumber::observed("65-61234567".to_owned())),
        message_types: [MessageType::FaultMessage].into(),
    };
    let added = Ok(Reply::Added("c-1".into()));
    let changed = snapshot.record(&Call::AddMessageContact(new), &added, at(11));
    assert_eq!((ids(&changed), names(&changed)), (vec!["c-1"], vec!["added"]));
    let _ = page(&mut snapshot, 1, &[], 0);
    assert_eq!(known(&snapshot, "c-1"), "Added read");
    let shown = snapshot.contacts().next().cloned();
    assert_eq!(
        shown.map(|c| (c.title, c.message_types.len(), c.status)),
        Some(("CEO".to_owned(), 1, ContactStatus::Verifying,))
    );
}

#[test]
fn a_missing_contact_is_unlisted_and_only_a_get_says_that_it_is_gone() {
    let mut snapshot = listed(10, &[contact("c-1", "one"), contact("c-2", "two")]);
    let changed = list(&mut snapshot, 20, &[contact("c-2", "two")]);
    assert_eq!((ids(&changed), names(&changed)), (vec!["c-1"], vec!["one"]));
    assert_eq!(known(&snapshot, "c-1"), "unlisted");
    let _ = get_fails(&mut snapshot, "c-1", FailureClass::Unavailable);
    assert_eq!(known(&snapshot, "c-1"), "unlisted");
    let _ = get_fails(&mut snapshot, "c-1", FailureClass::ContactNotFound);
    assert_eq!(known(&snapshot, "c-1"), "gone");
    let changed = get(&mut snapshot, 30, &contact("c-1", "one"));
    assert_eq!((known(&snapshot, "c-1"), ids(&changed)), ("one read".into(), vec!["c-1"]));
}

#[test]
fn that_a_contact_is_gone_has_a_second_witness_or_waits_for_one() {
    let present = || listed(10, &[contact("c-1", "one"), contact("c-2", "two")]);
    let mut snapshot = present();
    let _ = get_fails(&mut snapshot, "c-1", FailureClass::ContactNotFound);
    assert_eq!(known(&snapshot, "c-1"), "perhaps gone", "the last list had it");
    let _ = get_fails(&mut snapshot, "c-1", FailureClass::ContactNotFound);
    assert_eq!(known(&snapshot, "c-1"), "perhaps gone", "the same witness again");
    // A list that began before says nothing new.
    let _ = list(&mut snapshot, 24, &[contact("c-2", "two")]);
    assert_eq!(known(&snapshot, "c-1"), "perhaps gone");
    let changed = list(&mut snapshot, 30, &[contact("c-2", "two")]);
    assert_eq!((known(&snapshot, "c-1"), ids(&changed)), ("gone".into(), vec!["c-1"]));

    // The cloud had said that the deletion is done, or only that it runs.
    for (state, expected) in
        [(DeletionState::Deleted, "gone"), (DeletionState::Deleting, "perhaps gone")]
    {
        let mut snapshot = present();
        let delete = Call::DeleteMessageContact { id: "c-1".into(), retain_in_members: false };
        let _ = snapshot.record(&delete, &Ok(Reply::Deletion(state)), at(11));
        let _ = get_fails(&mut snapshot, "c-1", FailureClass::ContactNotFound);
        assert_eq!(known(&snapshot, "c-1"), expected);
    }

    // Before the first list nothing else is known.
    let mut snapshot = Snapshot::default();
    let _ = get_fails(&mut snapshot, "c-1", FailureClass::ContactNotFound);
    assert_eq!(known(&snapshot, "c-1"), "perhaps gone");
}

#[test]
fn a_late_list_may_show_a_gone_contact_but_not_as_read() {
    let mut snapshot = listed(10, &[contact("c-1", "one")]);
    let _ = get(&mut snapshot, 11, &contact("c-1", "one"));
    assert_eq!(known(&snapshot, "c-1"), "one read");
    let _ = get_fails(&mut snapshot, "c-1", FailureClass::ContactNotFound);
    let _ = list(&mut snapshot, 20, &[contact("c-1", "one")]);
    assert_eq!(known(&snapshot, "c-1"), "one");
}

#[test]
fn that_a_contact_is_gone_is_forgotten_after_two_lists() {
    let mut snapshot = listed(10, &[contact("c-1", "one")]);
    let _ = get_fails(&mut snapshot, "c-1", FailureClass::ContactNotFound);
    let _ = list(&mut snapshot, 30, &[]);
    assert_eq!(known(&snapshot, "c-1"), "gone");
    let _ = list(&mut snapshot, 40, &[]);
    assert_eq!(known(&snapshot, "c-1"), "unlisted");
}

#[test]
fn a_rename_moves_the_name() {
    let mut snapshot = listed(10, &[contact("c-1", "one"), contact("c-2", "two")]);
    let changed = list(&mut snapshot, 20, &[contact("c-1", "three"), contact("c-2", "two")]);
    assert_eq!((ids(&changed), names(&changed)), (vec!["c-1"], vec!["one", "three"]));
    assert_eq!((named(&snapshot, "one").len(), named(&snapshot, "THREE")), (0, vec!["c-1".into()]));
    let changed = list(&mut snapshot, 30, &[contact("c-1", "Three"), contact("c-2", "two")]);
    assert_eq!((names(&changed), named(&snapshot, "three")), (vec!["three"], vec!["c-1".into()]));
}

#[test]
fn names_that_differ_in_case_are_namesakes() {
    let snapshot =
        listed(10, &[contact("c-1", "one"), contact("c-2", "ONE"), contact("c-3", "on")]);
    assert_eq!(named(&snapshot, "One"), ["c-1", "c-2"]);
}

/// A late list ended the doubt after a write, and the write was made again.
#[test]
fn only_a_get_ends_the_doubt_after_a_write() {
    let mut snapshot = listed(10, &[contact("c-1", "one")]);
    let changed = update(&mut snapshot, "c-1", Ok(Reply::Done));
    assert_eq!((known(&snapshot, "c-1"), ids(&changed)), ("one unread".into(), vec!["c-1"]));
    let _ = list(&mut snapshot, 20, &[contact("c-1", "other")]);
    assert_eq!(known(&snapshot, "c-1"), "other unread");
    let changed = get(&mut snapshot, 30, &contact("c-1", "other"));
    assert_eq!((known(&snapshot, "c-1"), ids(&changed)), ("other read".into(), vec!["c-1"]));
}

/// The last write was made again, and counted as one that reads back differently.
#[test]
fn a_list_soon_after_a_get_is_not_believed_against_it() {
    let mut snapshot = listed(10, &[contact("c-1", "one")]);
    let _ = get(&mut snapshot, 20, &contact("c-1", "two"));
    let _ = list(&mut snapshot, 30, &[contact("c-1", "two")]);
    assert_eq!(known(&snapshot, "c-1"), "two read");
    let changed = list(&mut snapshot, 79, &[contact("c-1", "one")]);
    assert_eq!((known(&snapshot, "c-1"), ids(&changed)), ("one unread read".into(), vec!["c-1"]));
    let _ = get(&mut snapshot, 80, &contact("c-1", "two"));
    let _ = list(&mut snapshot, 140, &[contact("c-1", "one")]);
    assert_eq!(known(&snapshot, "c-1"), "one read");
}

#[test]
fn a_write_that_may_have_happened_or_met_another_state_is_looked_at() {
    for (class, expected) in [
        (FailureClass::OutcomeUnknown, "one unread"),
        (FailureClass::ContactNotFound, "one unread"),
        (FailureClass::WrongState, "one unread"),
        (FailureClass::Conflict, "one"),
        (FailureClass::InvalidInput, "one"),
    ] {
        let mut snapshot = listed(10, &[contact("c-1", "one")]);
        let _ = update(&mut snapshot, "c-1", Err(class));
        assert_eq!(known(&snapshot, "c-1"), expected, "{class:?}");
    }
}

#[test]
fn what_is_pending_is_known_until_a_write_or_a_change_of_channels() {
    let ask = |snapshot: &mut Snapshot| {
        let target = Target::Email(EmailAddress::observed("new@example.com".to_owned()));
        let call = Call::ListMessageContactVerifications { id: "c-1".into(), page: 1 };
        let reply = Reply::Verifications(Page { items: vec![target], total: 1 });
        let _ = snapshot.record(&call, &Ok(reply), at(0));
    };
    let mut snapshot = listed(10, &[contact("c-1", "one")]);
    ask(&mut snapshot);
    assert_eq!(known(&snapshot, "c-1"), "one pending");
    let _ = list(
        &mut snapshot,
        20,
        &[ObservedContact { title: "Other".into(), ..contact("c-1", "two") }],
    );
    assert_eq!(known(&snapshot, "c-1"), "two pending");
    let _ = list(&mut snapshot, 30, &[ObservedContact { email: None, ..contact("c-1", "two") }]);
    assert_eq!(known(&snapshot, "c-1"), "two");
    ask(&mut snapshot);
    let _ = update(&mut snapshot, "c-1", Ok(Reply::Done));
    assert_eq!(known(&snapshot, "c-1"), "two unread pending", "no channel was written");
    let email = Some(EmailAddress::observed("newer@example.com".to_owned()));
    let call = Call::UpdateMessageContact("c-1".into(), Changes { email, ..Changes::default() });
    let _ = snapshot.record(&call, &Ok(Reply::Done), at(40));
    assert_eq!(known(&snapshot, "c-1"), "two unread");
}

#[test]
fn a_deletion_is_known_and_looked_at_unless_it_runs() {
    let delete = Call::DeleteMessageContact { id: "c-1".into(), retain_in_members: false };
    let poll = Call::GetMessageContactDeletionStatus("c-1".into());
    let missing = |class| Err(failure(Action::GetMessageContactDeletionStatus, class));
    for (call, result, expected) in [
        (&delete, Ok(DeletionState::Deleted), "one unread Deleted"),
        (&delete, Ok(DeletionState::Deleting), "one Deleting"),
        (&poll, Ok(DeletionState::Deleting), "one Deleting"),
        (&poll, Ok(DeletionState::Failed(vec![])), "one unread Failed([])"),
        (&poll, Ok(DeletionState::Unclear), "one unread Unclear"),
        // It stayed `Deleting` for ever, and the deletion was never asked for again.
        (&poll, missing(FailureClass::ContactNotFound), "one unread Unclear"),
        (&poll, missing(FailureClass::NotFound), "one unread Unclear"),
        (&poll, missing(FailureClass::Unavailable), "one"),
    ] {
        let mut snapshot = listed(10, &[contact("c-1", "one")]);
        let _ = snapshot.record(call, &result.map(Reply::Deletion), at(11));
        assert_eq!(known(&snapshot, "c-1"), expected);
    }
}

#[test]
fn an_answer_about_another_contact_is_not_taken() {
    let mut snapshot = listed(10, &[contact("c-1", "one")]);
    let reply = Ok(Reply::Contact(contact("c-2", "two")));
    let changed = snapshot.record(&Call::GetMessageContact("c-1".into()), &reply, at(11));
    assert!(changed.is_empty());
    assert_eq!(
        (known(&snapshot, "c-1"), known(&snapshot, "c-2")),
        ("one".into(), "unlisted".into())
    );
}

#[test]
fn another_directory_concerns_every_contact() {
    let identity = |id: &str| DirectoryIdentity {
        directory_id: id.into(),
        root_folder_id: "r-root".into(),
        management_account_id: "1000000000000001".into(),
    };
    let mut snapshot = Snapshot::default();
    let mut ask = |id: &str| {
        let reply = Ok(Reply::Directory(identity(id)));
        snapshot.record(&Call::GetResourceDirectory, &reply, at(10)).everything
    };
    assert_eq!(["rd-one", "rd-one", "rd-two"].map(&mut ask), [true, false, true]);
    assert_eq!(snapshot.identity(), Some(&identity("rd-two")));
}
