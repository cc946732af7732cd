use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::wire::{self, Unreadable};
use super::{add, clear_phone, fixture, id, members, rename, send_mail};
use crate::domain::call::{
    AccountPath, Action, Call, Changes, DeletionBlocker, DeletionState, DirectoryIdentity, Page,
    PhoneChange, Reply, Target,
};
use crate::domain::channel::{EmailAddress, PhoneNumber};
use crate::domain::contact::{
    AccountId, ContactId, ContactName, ContactStatus, DirectoryId, MemberId, MessageType,
    ObservedContact, Title,
};

fn check_encode(call: &Call, expected: &[(&str, &str)]) {
    let pairs = wire::encode(call);
    let pairs: Vec<_> = pairs.iter().map(|(name, value)| (&**name, &**value)).collect();
    assert_eq!(pairs, expected, "{call:?}");
}

#[test]
fn every_call_sends_what_the_api_documents() {
    const ID: (&str, &str) = ("ContactId", "c-fake000000000001");
    let phone = PhoneNumber::parse("86-13900111222").unwrap();
    let email = EmailAddress::parse("li+lei@example.org").unwrap();
    check_encode(
        &add(),
        &[
            ("Name", "canaryname"),
            ("EmailAddress", "canarymail@example.com"),
            ("PhoneNumber", "86-13800100500"),
            ("Title", "TechnicalDirector"),
            ("MessageTypes.1", "FaultMessage"),
            ("MessageTypes.2", "SecurityMessage"),
        ],
    );
    let mut without_phone = add();
    if let Call::AddMessageContact(contact) = &mut without_phone {
        contact.phone = None;
    }
    assert!(wire::encode(&without_phone).iter().all(|(name, _)| name != "PhoneNumber"));
    check_encode(&rename(), &[ID, ("Name", "李雷")]);
    check_encode(&clear_phone(), &[ID, ("PhoneNumber", "")]);
    check_encode(
        &Call::UpdateMessageContact(
            id(),
            Changes {
                name: None,
                title: Some(Title::CEO),
                email: Some(email.clone()),
                phone: Some(PhoneChange::Set(phone.clone())),
                message_types: Some(BTreeSet::from([MessageType::ProductMessage])),
            },
        ),
        &[
            ID,
            ("EmailAddress", "li+lei@example.org"),
            ("PhoneNumber", "86-13900111222"),
            ("Title", "CEO"),
            ("MessageTypes.1", "ProductMessage"),
        ],
    );
    let no_types = Changes { message_types: Some(BTreeSet::new()), ..Changes::default() };
    check_encode(&Call::UpdateMessageContact(id(), no_types), &[ID]);
    check_encode(&Call::GetMessageContact(id()), &[ID]);
    check_encode(
        &Call::ListMessageContacts { page: 3 },
        &[("PageNumber", "3"), ("PageSize", "100")],
    );
    for (retain_in_members, word) in [(true, "true"), (false, "false")] {
        check_encode(
            &Call::DeleteMessageContact { id: id(), retain_in_members },
            &[ID, ("RetainContactInMembers", word)],
        );
    }
    check_encode(&Call::GetMessageContactDeletionStatus(id()), &[ID]);
    check_encode(&send_mail(), &[ID, ("EmailAddress", "canarymail@example.com")]);
    check_encode(
        &Call::SendPhoneVerificationForMessageContact(id(), phone.clone()),
        &[ID, ("PhoneNumber", "86-13900111222")],
    );
    check_encode(
        &Call::ListMessageContactVerifications { id: id(), page: 2 },
        &[ID, ("PageNumber", "2"), ("PageSize", "100")],
    );
    check_encode(
        &Call::CancelMessageContactUpdate { id: id(), email: None, phone: Some(phone) },
        &[ID, ("PhoneNumber", "86-13900111222")],
    );
    check_encode(
        &Call::CancelMessageContactUpdate { id: id(), email: Some(email), phone: None },
        &[ID, ("EmailAddress", "li+lei@example.org")],
    );
    let bound = members(&["fd-fake000001", "1000000000000001", "rd-fake01"]);
    let flat = [
        ID,
        ("Members.1", "1000000000000001"),
        ("Members.2", "fd-fake000001"),
        ("Members.3", "rd-fake01"),
    ];
    check_encode(&Call::AssociateMembers(id(), bound.clone()), &flat);
    check_encode(&Call::DisassociateMembers(id(), bound), &flat);
    check_encode(&Call::GetResourceDirectory, &[]);
    let page = [("PageNumber", "3"), ("PageSize", "100")];
    check_encode(&Call::ListAccounts { page: 3 }, &page);
}

#[test]
fn an_account_without_a_way_down_to_it_makes_its_page_unreadable() {
    let path = "rd-fake01/r-fake01/fd-fake000001/1000000000000001";
    let body = |path: serde_json::Value| json!({ "TotalCount": 1, "Accounts": { "Account": [{ "ResourceDirectoryPath": path }] } });
    let ids = ["rd-fake01", "r-fake01", "fd-fake000001", "1000000000000001"];
    let path_of = AccountPath(ids.into_iter().map(MemberId::from).collect());
    let page = Page { items: vec![path_of], total: 1 };
    assert_eq!(decode(Action::ListAccounts, &body(json!(path))), Ok(Reply::Accounts(page)));
    for wrong in
        ["", "rd-fake01/r-fake01", "rd-fake01//1000000000000001", "a@b.cn/1000000000000001"]
    {
        unreadable(Action::ListAccounts, body(json!(wrong)));
    }
    unreadable(Action::ListAccounts, body(json!(null)));
    let none = json!({ "TotalCount": 0, "Accounts": null });
    let none = decode(Action::ListAccounts, &none);
    assert_eq!(none, Ok(Reply::Accounts(Page { items: vec![], total: 0 })));
}

/// The parameters' names and the number of items, compared with the official SDK's own.
#[test]
fn the_names_of_the_parameters_are_those_of_the_examples() {
    let operations = &fixture("examples.json")["operations"];
    let known = |call: Call| {
        let wire = operations[call.action().as_str()]["request"]["wire"].as_object().unwrap();
        let sent: BTreeMap<_, _> = wire::encode(&call).into_iter().collect();
        let unknown: Vec<_> = sent.keys().filter(|name| !wire.contains_key(*name)).collect();
        assert!(unknown.is_empty(), "{call:?} sends {unknown:?}");
    };
    [add(), rename(), send_mail(), Call::ListMessageContacts { page: 1 }]
        .into_iter()
        .for_each(known);
    known(Call::AssociateMembers(id(), members(&["rd-fake01", "fd-fake000001"])));
    known(Call::DisassociateMembers(id(), members(&["rd-fake01", "fd-fake000001"])));
    known(Call::DeleteMessageContact { id: id(), retain_in_members: false });
    known(Call::ListMessageContactVerifications { id: id(), page: 1 });
}

fn decode(action: Action, body: &Value) -> Result<Reply, Unreadable> {
    wire::decode(action, body.to_string().as_bytes())
}

#[test]
fn every_success_of_the_examples_is_read() {
    let operations = fixture("examples.json");
    for action in ALL {
        for response in operations["operations"][action.as_str()]["responses"].as_array().unwrap() {
            let reply = decode(action, &response["body"]);
            assert!(reply.is_ok(), "{action} {response}");
        }
    }
}

const ALL: [Action; 14] = [
    Action::AddMessageContact,
    Action::UpdateMessageContact,
    Action::GetMessageContact,
    Action::ListMessageContacts,
    Action::DeleteMessageContact,
    Action::GetMessageContactDeletionStatus,
    Action::SendEmailVerificationForMessageContact,
    Action::SendPhoneVerificationForMessageContact,
    Action::ListMessageContactVerifications,
    Action::CancelMessageContactUpdate,
    Action::AssociateMembers,
    Action::DisassociateMembers,
    Action::GetResourceDirectory,
    Action::ListAccounts,
];

fn observed() -> ObservedContact {
    ObservedContact {
        id: ContactId::from("c-fake000000000007"),
        name: ContactName::observed("李雷".to_owned()),
        email: Some(EmailAddress::observed("ll@example.com".to_owned())),
        phone: Some(PhoneNumber::observed("86-13800138000".to_owned())),
        title: "Other".to_owned(),
        message_types: BTreeSet::from(["FaultMessage".to_owned(), "NewMessage".to_owned()]),
        members: members(&["rd-fake01", "1000000000000001"]),
        status: ContactStatus::Active,
    }
}

fn contact_body() -> Value {
    json!({
        "ContactId": "c-fake000000000007", "Name": "李雷", "EmailAddress": "ll@example.com",
        "PhoneNumber": "86-13800138000", "Title": "Other", "Status": "Active",
        "MessageTypes": ["NewMessage", "FaultMessage"], "Members": ["rd-fake01", "1000000000000001"],
        "CreateDate": "2026-01-10 09:00:00", "New": {"Deep": [1, null]},
    })
}

#[test]
fn a_contact_is_read_field_by_field() {
    let body = json!({ "RequestId": "r", "Contact": contact_body() });
    assert_eq!(decode(Action::GetMessageContact, &body), Ok(Reply::Contact(observed())));
    let body = json!({ "TotalCount": 205, "Contacts": [contact_body()] });
    let page = Page { items: vec![observed()], total: 205 };
    assert_eq!(decode(Action::ListMessageContacts, &body), Ok(Reply::Contacts(page)));
}

#[test]
fn missing_null_and_empty_are_nothing() {
    let bare = ObservedContact {
        id: ContactId::from("c-1"),
        name: ContactName::observed(String::new()),
        email: None,
        phone: None,
        title: String::new(),
        message_types: BTreeSet::new(),
        members: BTreeSet::new(),
        status: ContactStatus::Other(String::new()),
    };
    let forms = [
        json!({ "ContactId": "c-1" }),
        json!({ "ContactId": "c-1", "Name": null, "EmailAddress": null, "PhoneNumber": null,
                "Title": null, "MessageTypes": null, "Members": null, "Status": null }),
        json!({ "ContactId": "c-1", "Name": "", "EmailAddress": "", "PhoneNumber": "",
                "Title": "", "MessageTypes": [], "Members": [], "Status": "" }),
    ];
    for form in forms {
        let reply = decode(Action::GetMessageContact, &json!({ "Contact": form }));
        assert_eq!(reply, Ok(Reply::Contact(bare.clone())), "{form}");
    }
    for body in [json!({ "TotalCount": 0 }), json!({ "TotalCount": 0, "Contacts": null })] {
        let empty = Page { items: vec![], total: 0 };
        assert_eq!(decode(Action::ListMessageContacts, &body), Ok(Reply::Contacts(empty)));
    }
    let empty = Page { items: vec![], total: 0 };
    let reply = decode(Action::ListMessageContactVerifications, &json!({ "TotalCount": 0 }));
    assert_eq!(reply, Ok(Reply::Verifications(empty)));
}

fn unreadable(action: Action, body: Value) {
    assert_eq!(decode(action, &body), Err(Unreadable), "{body}");
}

#[test]
fn what_cannot_be_done_without_makes_the_answer_unreadable() {
    for contact in [json!({}), json!({ "ContactId": "" }), json!({ "ContactId": 7 }), json!([])] {
        unreadable(Action::AddMessageContact, json!({ "RequestId": "r", "Contact": contact }));
        unreadable(Action::GetMessageContact, json!({ "RequestId": "r", "Contact": contact }));
        // One broken entry, and the sound one beside it must not be all that is seen.
        let page = json!({ "TotalCount": 2, "Contacts": [contact_body(), contact] });
        unreadable(Action::ListMessageContacts, page);
    }
    unreadable(Action::ListMessageContacts, json!({ "TotalCount": 1, "Contacts": [null] }));
    unreadable(Action::AddMessageContact, json!({ "RequestId": "r" }));
    unreadable(Action::GetMessageContact, json!({ "RequestId": "r", "Contact": null }));
    unreadable(Action::ListMessageContacts, json!({ "Contacts": [contact_body()] }));
    unreadable(Action::ListMessageContacts, json!({ "TotalCount": null }));
    unreadable(Action::ListMessageContacts, json!({ "TotalCount": -1 }));
    unreadable(Action::ListMessageContacts, json!({ "TotalCount": "3" }));
    unreadable(Action::ListMessageContacts, json!({ "TotalCount": 1, "Contacts": {} }));
    unreadable(Action::UpdateMessageContact, json!({}));
    unreadable(Action::UpdateMessageContact, json!({ "RequestId": "" }));
    unreadable(Action::AssociateMembers, json!({ "status": "ok" }));
    let entry = |target: Value| json!({ "TotalCount": 1, "ContactVerifications": [target] });
    for target in [json!({}), json!({ "Target": "" }), json!({ "Target": null }), json!(null)] {
        unreadable(Action::ListMessageContactVerifications, entry(target));
    }
    for lacking in ["ResourceDirectoryId", "RootFolderId", "MasterAccountId"] {
        let mut directory = json!({ "ResourceDirectoryId": "rd-1", "RootFolderId": "r-2",
                                    "MasterAccountId": "1000000000000003" });
        let identity = DirectoryIdentity {
            directory_id: DirectoryId::from("rd-1"),
            root_folder_id: MemberId::from("r-2"),
            management_account_id: AccountId::from("1000000000000003"),
        };
        let body = json!({ "ResourceDirectory": directory });
        let reply = decode(Action::GetResourceDirectory, &body);
        assert_eq!(reply, Ok(Reply::Directory(identity)));
        directory[lacking] = json!("");
        unreadable(Action::GetResourceDirectory, json!({ "ResourceDirectory": directory }));
    }
    for (member, id) in [
        ("ResourceDirectoryId", "li+lei@example.org"),
        ("ResourceDirectoryId", "rd-"),
        ("ResourceDirectoryId", "rd-1\nERROR forged"),
        ("ResourceDirectoryId", &format!("rd-{}", "a".repeat(62))),
        ("MasterAccountId", "li+lei@example.org"),
        ("MasterAccountId", &"1".repeat(33)),
    ] {
        let mut directory = json!({ "ResourceDirectoryId": "rd-1", "RootFolderId": "r-2",
                                    "MasterAccountId": "1000000000000003" });
        directory[member] = json!(id);
        unreadable(Action::GetResourceDirectory, json!({ "ResourceDirectory": directory }));
    }
    for field in ["Name", "EmailAddress", "PhoneNumber", "Title", "Status"] {
        let mut contact = contact_body();
        contact[field] = json!(13);
        unreadable(Action::GetMessageContact, json!({ "Contact": contact }));
    }
    for field in ["MessageTypes", "Members"] {
        for wrong in [json!("text"), json!([null]), json!([1]), json!({})] {
            let mut contact = contact_body();
            contact[field] = wrong;
            unreadable(Action::GetMessageContact, json!({ "Contact": contact }));
        }
    }
    for action in ALL {
        for body in [
            "",
            "{",
            "null",
            "[]",
            "[\"r\"]",
            "7",
            "<html></html>",
            "\u{0}",
            "{\"RequestId\":\"x\"",
        ] {
            assert_eq!(wire::decode(action, body.as_bytes()), Err(Unreadable), "{action} {body}");
        }
        assert_eq!(wire::decode(action, b"{\"RequestId\":\"\xFF\"}"), Err(Unreadable));
    }
}

#[test]
fn a_deletion_is_what_its_word_says() {
    let delete = |body: Value| decode(Action::DeleteMessageContact, &body);
    let status = |body: Value| {
        decode(
            Action::GetMessageContactDeletionStatus,
            &json!({ "RequestId": "r", "ContactDeletionStatus": body }),
        )
    };
    let reply = |state| Ok(Reply::Deletion(state));
    assert_eq!(delete(json!({ "Status": "Deleted" })), reply(DeletionState::Deleted));
    assert_eq!(delete(json!({ "Status": "Deleting" })), reply(DeletionState::Deleting));
    assert_eq!(delete(json!({ "Status": "New" })), reply(DeletionState::Unclear));
    assert_eq!(delete(json!({})), reply(DeletionState::Unclear));
    assert_eq!(status(json!({ "Status": "Deleting" })), reply(DeletionState::Deleting));
    assert_eq!(status(json!({ "ContactId": "c-1" })), reply(DeletionState::Unclear));
    assert_eq!(status(Value::Null), reply(DeletionState::Unclear));
    let blocker = |account: &str, words: &[&str]| DeletionBlocker {
        account: AccountId::from(account),
        message_types: words.iter().map(|word| (*word).to_owned()).collect(),
    };
    let types = ["FaultMessage", "New", "li+lei@example.org", "\nERROR forged"];
    let reasons = json!([{ "AccountId": "1000000000000001", "MessageTypes": types },
                         { "MessageTypes": null }, { "AccountId": "li+lei@example.org" },
                         { "AccountId": "8613800138000" }, { "AccountId": "1\n23456789012345" }]);
    let known = blocker("1000000000000001", &["FaultMessage"]);
    let unknown = blocker("", &[]);
    let failed = [known, unknown.clone(), unknown.clone(), unknown.clone(), unknown];
    let failed = DeletionState::Failed(failed.to_vec());
    assert_eq!(status(json!({ "Status": "Failed", "FailReasonList": reasons })), reply(failed));
}

#[test]
fn a_target_with_an_at_sign_is_an_address() {
    let body = json!({ "TotalCount": 2, "ContactVerifications": [
        { "ContactId": "c-1", "Target": "86-13800138000" }, { "Target": "ll@example.com" } ] });
    let items = vec![
        Target::Phone(PhoneNumber::observed("86-13800138000".to_owned())),
        Target::Email(EmailAddress::observed("ll@example.com".to_owned())),
    ];
    let reply = decode(Action::ListMessageContactVerifications, &body);
    assert_eq!(reply, Ok(Reply::Verifications(Page { items, total: 2 })));
}

#[test]
fn long_texts_are_cut_between_characters() {
    let long = "张".repeat(1000);
    let mut contact = contact_body();
    for field in ["ContactId", "Name", "EmailAddress", "PhoneNumber", "Title", "Status"] {
        contact[field] = json!(long);
    }
    contact["MessageTypes"] = json!([long]);
    contact["Members"] = json!([long]);
    let word = "张".repeat(256);
    let address = "张".repeat(320);
    let expected = ObservedContact {
        id: ContactId(word.clone()),
        name: ContactName::observed(word.clone()),
        email: Some(EmailAddress::observed(address.clone())),
        phone: Some(PhoneNumber::observed(address)),
        title: word.clone(),
        message_types: BTreeSet::from([word.clone()]),
        members: BTreeSet::from([MemberId(word.clone())]),
        status: ContactStatus::Other(word),
    };
    let reply = decode(Action::GetMessageContact, &json!({ "Contact": contact }));
    assert_eq!(reply, Ok(Reply::Contact(expected)));
}

#[test]
fn a_page_of_a_thousand_contacts_fits_the_body_and_is_read_in_order() {
    let contacts: Vec<_> = (0..1000)
        .map(|number| {
            let mut contact = contact_body();
            contact["ContactId"] = json!(format!("c-{number:016}"));
            contact["Members"] = json!(vec!["1000000000000001"; 10]);
            contact
        })
        .collect();
    let body = json!({ "TotalCount": 1000, "Contacts": contacts }).to_string();
    assert!(
        body.len() < crate::cloud::transport::Transport::BODY_BYTES_MAX,
        "{} bytes",
        body.len()
    );
    let Ok(Reply::Contacts(page)) = wire::decode(Action::ListMessageContacts, body.as_bytes())
    else {
        unreachable!("the page was not read")
    };
    assert_eq!((page.items.len(), page.total), (1000, 1000));
    assert_eq!(page.items[999].id.as_str(), "c-0000000000000999");
}

#[test]
fn an_answer_about_another_contact_is_none() {
    let other = Reply::Contact(observed());
    assert!(!wire::answers(&Call::GetMessageContact(id()), &other));
    assert!(wire::answers(&Call::GetMessageContact(observed().id), &other));
}

proptest! {
    /// Whatever comes back: an answer or `Unreadable`, and no panic.
    #[test]
    fn any_bytes_are_survived(body in prop::collection::vec(any::<u8>(), 0..200), at in 0..13_usize) {
        let _ = wire::decode(ALL[at], &body);
    }
}

#[test]
fn an_answer_that_was_cut_anywhere_is_unreadable() {
    let body = json!({ "RequestId": "r", "TotalCount": 1, "Contacts": [contact_body()],
                       "Contact": contact_body() })
    .to_string();
    for action in ALL {
        for end in 0..body.len() {
            let cut = &body.as_bytes()[..end];
            assert_eq!(wire::decode(action, cut), Err(Unreadable), "{action} {end}");
        }
    }
}
