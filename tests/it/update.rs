//! A changed spec becomes one call with what changed, and nothing else.

use directory_simulator::switches::{EmptyPhone, Shown};
use directory_simulator::{Channel, ContactChange, Fault, FaultKind, Simulator};
use futures::future::join_all;
use serde_json::{Value, json};

use crate::stand::{Stand, condition_of, merge};

const READ_BACK: &str = "GetMessageContact";
/// What waits for its owner is asked for before an address or a number is sent.
const WAITING: &str = "ListMessageContactVerifications";

#[tokio::test(flavor = "multi_thread")]
async fn each_changed_field_is_sent_alone_and_read_back_once() {
    let stand = Stand::new().await;
    let id = stand.settled("duty", "Zhouwei", json!({})).await;
    let bystander = stand.bystander("Zhouweijun");
    let mut fields = json!({});
    for (field, value, sent) in [
        ("name", json!("Zhouweiming"), "Name"),
        ("title", json!("FinanceDirector"), "Title"),
        ("emailAddress", json!("duty.two@example.com"), "EmailAddress"),
        ("phoneNumber", json!("86-13800138001"), "PhoneNumber"),
        ("phoneNumber", json!("86-13800138002"), "PhoneNumber"),
        ("messageTypes", json!(["ProductMessage"]), "MessageTypes"),
        ("messageTypes", json!(["ProductMessage", "ServiceMessage"]), "MessageTypes"),
        // The case of a name is a part of it.
        ("name", json!("ZhouWeiMing"), "Name"),
    ] {
        let mark = stand.mark();
        fields[field] = value;
        stand.apply("duty", "Zhouwei", fields.clone()).await;
        stand.becomes("duty", "Ready", "InSync").await;
        let update = format!("UpdateMessageContact {sent}");
        let mut expected = vec![update.as_str(), READ_BACK];
        if matches!(sent, "EmailAddress" | "PhoneNumber") {
            // Asked again, as it is known no longer what waits.
            expected.push(WAITING);
        }
        assert_eq!(stand.calls_since(mark), expected, "{field}");
    }
    let contact = stand.in_cloud(&id);
    assert_eq!(contact.name, "ZhouWeiMing");
    assert_eq!(contact.title, "FinanceDirector");
    assert_eq!(contact.message_types, ["ServiceMessage", "ProductMessage"]);
    let waits = |channel: &Channel| channel.pending.clone().unwrap().value;
    assert_eq!(waits(&contact.email), "duty.two@example.com");
    assert_eq!(waits(&contact.phone), "86-13800138002");
    stand.is_untouched(&bystander);
}

#[tokio::test(flavor = "multi_thread")]
async fn several_fields_changed_at_once_are_one_call() {
    let stand = Stand::new().await;
    stand.settled("several", "Qianlin", json!({ "phoneNumber": "86-13800138003" })).await;
    let mark = stand.mark();
    let fields = json!({ "title": "CEO", "emailAddress": "qian@example.com",
        "phoneNumber": "86-13800138004", "messageTypes": ["AccountExpenses"] });
    stand.apply("several", "Qianlinhai", fields).await;
    stand.becomes("several", "Ready", "InSync").await;
    let update = "UpdateMessageContact EmailAddress MessageTypes Name PhoneNumber Title";
    // What waits of a new contact is known from before.
    assert_eq!(stand.calls_since(mark), [update, READ_BACK, WAITING]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_during_a_call_ends_at_the_last_value() {
    let stand = Stand::new().await;
    let id = stand.settled("quick", "Sunhao", json!({})).await;
    let mark = stand.mark();
    let hang = FaultKind::Hang { executed: false };
    stand.simulator.fault(Fault::on("UpdateMessageContact", hang));
    let mail = |mail: &str| json!({ "title": "CEO", "emailAddress": mail });
    stand.apply("quick", "Sunhao", mail("first@example.com")).await;
    stand.cloud("the call hangs", |sim| (sim.calls_in_flight() > 0).then_some(())).await;
    stand.apply("quick", "Sunhao", mail("second@example.com")).await;
    stand.apply("quick", "Sunhao", mail("third@example.com")).await;
    stand.simulator.release_hanging();
    stand.becomes("quick", "Ready", "InSync").await;
    let contact = stand.in_cloud(&id);
    assert_eq!(contact.email.pending.unwrap().value, "third@example.com");
    let first = "UpdateMessageContact EmailAddress Title";
    let last = "UpdateMessageContact EmailAddress";
    let calls = [first, READ_BACK, WAITING, last, READ_BACK, WAITING];
    assert_eq!(stand.calls_since(mark), calls);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_letter_case_of_an_address_is_no_difference() {
    let stand = Stand::new().await;
    let id = stand.settled("letters", "Lijing", json!({})).await;
    let mark = stand.mark();
    let fields = json!({ "emailAddress": "Letters@Example.com" });
    stand.apply("letters", "Lijing", fields).await;
    stand.becomes("letters", "Ready", "InSync").await;
    stand.ask("letters").await;
    assert_eq!(stand.calls_since(mark), [""; 0]);
    let contact = stand.in_cloud(&id);
    assert_eq!(contact.email.pending.unwrap().value, "letters@example.com");
}

/// A contact whose owner has confirmed address and number gets another address.
async fn change_a_confirmed_address(stand: &Stand) -> (String, Value) {
    let id = stand.settled("owner", "Wuyan", json!({ "phoneNumber": "86-13800138005" })).await;
    let confirmed = ContactChange {
        email: Some("owner@example.com".to_owned()),
        phone: Some("86-13800138005".to_owned()),
        ..ContactChange::default()
    };
    assert!(stand.simulator.change_contact(&id, confirmed));
    stand.ask("owner").await;
    let fields = json!({ "phoneNumber": "86-13800138005", "emailAddress": "new@example.com" });
    stand.apply("owner", "Wuyan", fields.clone()).await;
    stand.becomes("owner", "Ready", "InSync").await;
    (id, fields)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_waits_for_its_owner_is_written_once() {
    join_all([Shown::Effective, Shown::Pending].map(waits_for_its_owner)).await;
}

async fn waits_for_its_owner(shown: Shown) {
    let stand = Stand::new().await;
    stand.simulator.switches(|switches| switches.shown_while_pending = shown);
    let (id, mut fields) = change_a_confirmed_address(&stand).await;
    // A poll, after which what waits is asked for again where it does not show.
    let now = stand.simulator.now();
    let action = match shown {
        Shown::Effective => "ListMessageContactVerifications",
        Shown::Pending => "ListMessageContacts",
    };
    let looked = |sim: &Simulator| {
        let mut calls = sim.calls().into_iter();
        calls.find(|call| call.action == action && call.at > now).map(drop)
    };
    stand.cloud("a poll", looked).await;
    let object = stand.ask("owner").await;
    assert_eq!(condition_of(&object, "Synced")["reason"], "InSync");
    let calls = stand.calls_since(0);
    let updates = stand.simulator.counts().of("UpdateMessageContact");
    assert_eq!(updates, 1, "{shown:?}: {calls:?}");
    assert_eq!(stand.in_cloud(&id).email.effective.unwrap(), "owner@example.com");

    // What waits is not sent again with something else: its message would become void (A11).
    let mark = stand.mark();
    merge(&mut fields, json!({ "title": "ProjectDirector" }));
    stand.apply("owner", "Wuyan", fields).await;
    stand.becomes("owner", "Ready", "InSync").await;
    assert_eq!(stand.calls_since(mark)[0], "UpdateMessageContact Title", "{shown:?}");
    assert_eq!(stand.simulator.counts().of("UpdateMessageContact"), 2, "{shown:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_phone_number_is_taken_out_or_reported_and_never_tried_for_ever() {
    tokio::join!(
        a_number_is_taken_out(EmptyPhone::Clear, "InSync", [1, 2, 3, 4]),
        a_number_is_taken_out(EmptyPhone::Reject, "NotRemovable", [1, 3, 5, 5]),
        a_number_is_taken_out(EmptyPhone::Ignore, "NotRemovable", [2, 5, 8, 8]),
    );
}

/// `updates`: how many calls there were after each step.
async fn a_number_is_taken_out(switch: EmptyPhone, reason: &'static str, updates: [u64; 4]) {
    let stand = Stand::new().await;
    stand.simulator.switches(|switches| switches.empty_phone = switch);
    let phone = json!({ "phoneNumber": "86-13800138006" });
    let id = stand.settled("phone", "Zhengyi", phone).await;
    let bystander = stand.bystander("Zhengyifan");
    let counted = || stand.simulator.counts().of("UpdateMessageContact");
    stand.apply("phone", "Zhengyi", json!({})).await;
    let object = stand.becomes("phone", "Synced", reason).await;
    assert!(condition_of(&object, "Stalled").is_null(), "{switch:?}");
    stand.ask_directory().await;
    assert_eq!(counted(), updates[0], "{switch:?}");

    // The rest of the spec is not held up by a number that cannot be taken out.
    stand.apply("phone", "Zhengyi", json!({ "title": "CEO" })).await;
    stand.becomes("phone", "Synced", reason).await;
    assert_eq!(stand.in_cloud(&id).title, "CEO", "{switch:?}");
    assert_eq!(counted(), updates[1], "{switch:?}");
    let drift = ContactChange { title: Some("Other".to_owned()), ..ContactChange::default() };
    assert!(stand.simulator.change_contact(&id, drift));
    let object = stand.ask("phone").await;
    assert_eq!(condition_of(&object, "Synced")["reason"], reason, "{switch:?}");
    assert_eq!(stand.in_cloud(&id).title, "CEO", "{switch:?}");
    assert_eq!(counted(), updates[2], "{switch:?}");

    // It comes back to the spec.
    let phone = json!({ "phoneNumber": "86-13800138006", "title": "CEO" });
    stand.apply("phone", "Zhengyi", phone).await;
    stand.becomes("phone", "Synced", "InSync").await;
    assert_eq!(counted(), updates[3], "{switch:?}");
    stand.is_untouched(&bystander);
}
