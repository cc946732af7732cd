//! One mail, not more, whatever comes between.

use std::collections::BTreeSet;

use directory_simulator::{Click, Fault, FaultKind, Simulator};
use serde_json::{Value, json};

use crate::crashes::Life;
use crate::many;
use crate::stand::{self, PATIENCE, Stand};

const SEND: &str = "SendEmailVerificationForMessageContact";

/// What a spec says that leaves the sending to the operator.
fn asked(fields: Value) -> Value {
    let mut whole = json!({ "verification": null });
    stand::merge(&mut whole, fields);
    whole
}

fn address(address: &str) -> Value {
    asked(json!({ "emailAddress": address }))
}

/// The addresses and numbers that messages were sent to, oldest first.
fn sent(stand: &Stand) -> Vec<String> {
    stand.simulator.outbox().into_iter().map(|message| message.target).collect()
}

/// Waits until the mail is on its way, and says so in the status, and that no second one comes.
async fn is_asked_once(stand: &Stand, target: &str) {
    stand.becomes("desk", "EmailVerified", "VerificationSent").await;
    stand.cloud("the mail", |it| (!it.outbox().is_empty()).then_some(())).await;
    stand.ask_directory().await;
    let object = stand.ask("desk").await;
    assert_eq!(sent(stand), [target], "{}", object.data["status"]);
    assert_eq!(object.data["status"]["verification"]["email"]["sends"], 1);
    assert_eq!(stand.simulator.counts().of("AddMessageContact"), 1);
}

/// One call hangs, after it was done.
fn hangs(simulator: &Simulator) -> Option<()> {
    (simulator.calls_in_flight() == 1 && simulator.faults().is_empty()).then_some(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_contact_gets_one_mail() {
    let stand = Stand::new().await;
    stand.apply("desk", "Kefu", asked(json!({}))).await;
    is_asked_once(&stand, "desk@example.com").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_in_between_costs_no_second_mail() {
    let life = Life::new("a restart".to_owned()).await;
    let stand = &life.stand;
    life.start();
    life.connect().await;
    stand.apply("desk", "Kefu", asked(json!({}))).await;
    stand.cloud("the mail", |it| (!it.outbox().is_empty()).then_some(())).await;
    for _ in 0..2 {
        life.kill();
        life.start();
        is_asked_once(stand, "desk@example.com").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_apiserver_that_is_gone_in_between_costs_no_second_mail() {
    for hit in ["AddMessageContact", SEND] {
        let life = Life::new(format!("the apiserver is gone at {hit}")).await;
        let stand = &life.stand;
        life.start();
        life.connect().await;
        stand.directory_becomes("Ready", "Connected").await;
        stand.simulator.fault(Fault::on(hit, FaultKind::Hang { executed: true }));
        stand.apply("desk", "Kefu", asked(json!({}))).await;
        stand.cloud("the call hangs", hangs).await;
        life.gate.cut();
        stand.simulator.release_hanging();
        // A whole poll goes by, and what was answered cannot be stored.
        let lists = stand.simulator.counts().of("ListMessageContacts");
        let polled =
            |it: &Simulator| (it.counts().of("ListMessageContacts") > lists + 1).then_some(());
        stand.cloud("a poll", polled).await;
        life.gate.mend();
        is_asked_once(stand, "desk@example.com").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn five_edits_behind_a_shut_lane_that_end_where_they_began_cost_one_mail() {
    let stand = Stand::new().await;
    stand.simulator.hold();
    stand.apply("desk", "Kefu", asked(json!({}))).await;
    stand.becomes("desk", "Synced", "CloudBusy").await;
    edit_five_times(&stand, "desk@example.com").await;
    stand.simulator.release();
    stand.becomes("desk", "Synced", "InSync").await;
    let adds = stand.simulator.calls().into_iter();
    let adds = adds.filter(|call| call.action == "AddMessageContact" && call.executed);
    assert_eq!(adds.count(), 1);
    is_sent_once(&stand, "desk@example.com").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn five_edits_behind_a_shut_lane_are_one_change_and_one_mail() {
    let stand = Stand::new().await;
    stand.apply("desk", "Kefu", asked(json!({}))).await;
    is_asked_once(&stand, "desk@example.com").await;
    assert_eq!(stand.simulator.confirm("desk@example.com"), Click::Confirmed);
    stand.ask_directory().await;
    stand.becomes("desk", "EmailVerified", "Verified").await;

    // Back to where it was: nobody is asked, and nothing is written.
    stand.simulator.hold();
    stand.apply("desk", "Kefu", address("fifth@example.com")).await;
    stand.becomes("desk", "Synced", "CloudBusy").await;
    edit_five_times(&stand, "desk@example.com").await;
    stand.simulator.release();
    stand.becomes("desk", "EmailVerified", "Verified").await;
    stand.ask("desk").await;
    assert_eq!(sent(&stand), ["desk@example.com"]);
    assert_eq!(executed(&stand, "UpdateMessageContact"), 0);

    // Elsewhere: one change, and one mail to where it ends.
    stand.simulator.hold();
    stand.apply("desk", "Kefu", address("fifth@example.com")).await;
    stand.becomes("desk", "Synced", "CloudBusy").await;
    edit_five_times(&stand, "last@example.com").await;
    stand.simulator.release();
    stand.becomes("desk", "Synced", "InSync").await;
    is_sent_once(&stand, "last@example.com").await;
    assert_eq!(executed(&stand, "UpdateMessageContact"), 1);
    assert_eq!(sent(&stand), ["desk@example.com", "last@example.com"]);
}

/// Five edits of the address, the last one to that; the operator has seen each of them.
async fn edit_five_times(stand: &Stand, last: &str) {
    for number in 1..=4 {
        let passing = format!("passing{number}@example.com");
        stand.apply("desk", "Kefu", address(&passing)).await;
        stand.ask("desk").await;
    }
    stand.apply("desk", "Kefu", address(last)).await;
    stand.ask("desk").await;
}

/// Waits for the mail to that address, and that no second one comes.
async fn is_sent_once(stand: &Stand, target: &str) {
    stand.becomes("desk", "EmailVerified", "VerificationSent").await;
    let to_it =
        |it: &Simulator| it.outbox().into_iter().filter(|mail| mail.target == target).count();
    stand.cloud("the mail", |it| (to_it(it) > 0).then_some(())).await;
    stand.ask("desk").await;
    assert_eq!(to_it(&stand.simulator), 1);
}

fn executed(stand: &Stand, action: &str) -> usize {
    let calls = stand.simulator.calls().into_iter();
    calls.filter(|call| call.action == action && call.executed).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn deleted_and_created_again_it_gets_no_second_mail() {
    let stand = Stand::new().await;
    stand.apply("desk", "Kefu", asked(json!({}))).await;
    is_asked_once(&stand, "desk@example.com").await;
    stand.delete("desk").await;
    stand.is_gone("desk").await;
    stand.apply("desk", "Kefu", asked(json!({}))).await;
    let object = stand.becomes("desk", "EmailVerified", "VerificationSent").await;
    assert!(object.data["status"]["verification"]["email"]["nextSendTime"].is_string());
    stand.ask("desk").await;
    assert_eq!(sent(&stand), ["desk@example.com"]);
}

/// Every write of how many messages a directory has sent says which version it changes; none of them
/// passes over what somebody else has written meanwhile.
fn all_are_versioned(books: &[Value]) {
    for patch in books {
        let version = patch["metadata"]["resourceVersion"].as_str();
        assert!(version.is_some_and(|version| !version.is_empty()), "{patch}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conflict_while_the_mail_is_counted_costs_no_second_mail_and_counts_it_once() {
    // Five tries are made at once; then the whole pass begins again.
    for conflicts in [0, 1, 6] {
        let life = Life::new(format!("{conflicts} conflicts")).await;
        let stand = &life.stand;
        life.gate.books_conflict(conflicts);
        life.start();
        life.connect().await;
        stand.apply("desk", "Kefu", asked(json!({}))).await;
        is_asked_once(stand, "desk@example.com").await;
        let books = life.gate.books();
        all_are_versioned(&books);
        assert!(books.len() > conflicts, "{books:#?}");
        let directory = stand.object_of_directory().await;
        let sends = &directory.data["status"]["verificationSends"];
        assert_eq!((&sends["count"], &sends["recent"][0]["count"]), (&json!(1), &json!(1)));
    }
}

/// They are counted one behind the other, each write with all that were counted before it: never more
/// writes than messages while nobody else writes the object, and none is refused and made again.
#[tokio::test(flavor = "multi_thread")]
async fn twenty_mails_at_once_are_counted_with_no_more_writes_than_mails() {
    const MAILS: usize = 20;
    let life = Life::new("twenty mails".to_owned()).await;
    let stand = &life.stand;
    stand.simulator.quotas(|quotas| quotas.contacts = 2 * MAILS);
    life.start();
    life.connect().await;
    let names: Vec<_> =
        (0..MAILS).map(|number| (format!("m-{number}"), many::name(number))).collect();
    for (object, name) in &names {
        stand.settled(object, name, json!({})).await;
    }
    // All are owed theirs at once.
    let ask = names.iter().map(|(object, name)| stand.apply(object, name, asked(json!({}))));
    futures::future::join_all(ask).await;
    stand.cloud("all mails", |it| (it.outbox().len() >= MAILS).then_some(())).await;
    for (object, _) in &names {
        stand.becomes(object, "EmailVerified", "VerificationSent").await;
    }
    stand.ask_directory().await;
    assert_eq!(sent(stand).iter().collect::<BTreeSet<_>>().len(), MAILS);
    assert_eq!(sent(stand).len(), MAILS);
    let books = life.gate.books();
    all_are_versioned(&books);
    println!("{} writes of the books for {MAILS} mails", books.len());
    assert!(books.len() <= MAILS, "{} writes", books.len());
    let directory = stand.object_of_directory().await;
    assert_eq!(directory.data["status"]["verificationSends"]["count"], MAILS);
}

/// A mail that was clearly refused is still owed, and one to the phone does not take its place.
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_mail_is_sent_though_a_text_message_goes_first() {
    let stand = Stand::new().await;
    stand.simulator.fault(Fault::on(SEND, FaultKind::error(403, "NoPermission")));
    stand.apply("desk", "Kefu", asked(json!({ "phoneNumber": "86-13800138071" }))).await;
    stand.becomes("desk", "PhoneVerified", "VerificationSent").await;
    stand.cloud("the text message", |it| (!it.outbox().is_empty()).then_some(())).await;
    stand.simulator.clear_faults();
    stand.ask("desk").await;
    stand.becomes("desk", "EmailVerified", "VerificationSent").await;
    cluster::wait_for(PATIENCE, "both messages", || async {
        let sent = sent(&stand);
        if sent.len() == 2 { Ok(()) } else { Err(format!("{sent:?}")) }
    })
    .await
    .unwrap();
    assert_eq!(sent(&stand), ["86-13800138071", "desk@example.com"]);
}
