//! A contact that somebody deletes in the cloud is created again, once, and only if it is gone.

use directory_simulator::{Options, Switches};
use serde_json::json;

use crate::stand::{Stand, condition_of};

#[tokio::test(flavor = "multi_thread")]
async fn a_contact_that_was_deleted_outside_is_created_again_once() {
    let stand = Stand::new().await;
    let old = stand.settled("lost", "Pengfei", json!({ "phoneNumber": "86-13800138041" })).await;
    // A list has shown it.
    stand.ask_directory().await;
    let bystander = stand.bystander("Pengfeiyu");
    let mark = stand.mark();
    assert!(stand.simulator.remove_contact(&old));
    let object = stand.ask("lost").await;
    assert_eq!(condition_of(&object, "Ready")["reason"], "InSync");
    let add = "AddMessageContact EmailAddress MessageTypes Name PhoneNumber Title";
    let expected = ["GetMessageContact", add, "ListMessageContactVerifications"];
    assert_eq!(stand.calls_since(mark), expected);
    let contact = stand.simulator.state().named("Pengfei").unwrap().clone();
    assert_ne!(contact.id, old);
    assert_eq!(object.data["status"]["contactId"], json!(contact.id));
    stand.ask_directory().await;
    assert_eq!(stand.simulator.counts().of("AddMessageContact"), 2);
    stand.is_untouched(&bystander);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_contact_that_took_the_name_meanwhile_is_left_alone() {
    let stand = Stand::new().await;
    let old = stand.settled("usurped", "Gaoyang", json!({})).await;
    stand.ask_directory().await;
    assert!(stand.simulator.remove_contact(&old));
    let usurper = stand.bystander("Gaoyang");
    let object = stand.ask("usurped").await;
    assert_eq!(condition_of(&object, "Ready")["reason"], "AdoptionRefused");
    assert!(object.data["status"].get("contactId").is_none());
    assert_eq!(stand.simulator.counts().of("AddMessageContact"), 1);

    // The way is free again, and nobody has to ask.
    stand.is_untouched(&usurper);
    assert!(stand.simulator.remove_contact(&usurper.id));
    stand.ask_directory().await;
    stand.becomes("usurped", "Ready", "InSync").await;
    assert_eq!(stand.simulator.counts().of("AddMessageContact"), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_contact_that_only_a_list_lacks_is_not_created_again() {
    let switches = Switches { list_lag_ms: 3000, ..Switches::default() };
    let stand = Stand::with(Options { switches, ..Options::default() }, json!({})).await;
    // Lists show the directory as it was before the contact came.
    let bystander = stand.bystander("Daiyuhan");
    let id = stand.settled("late", "Daiyu", json!({})).await;
    let mark = stand.mark();
    for _ in 0..2 {
        let object = stand.ask("late").await;
        assert_eq!(condition_of(&object, "Ready")["reason"], "InSync");
        assert_eq!(object.data["status"]["contactId"], json!(id));
    }
    let looks = stand.calls_since(mark);
    assert!(!looks.is_empty(), "the lists did lack it");
    let reads = ["GetMessageContact", "ListMessageContactVerifications"];
    assert!(looks.iter().all(|call| reads.contains(&call.as_str())), "{looks:?}");

    // The lists have caught up; then they lag behind a change of ours.
    let count = |sim: &directory_simulator::Simulator| sim.counts().of("ListMessageContacts");
    let lists = count(&stand.simulator);
    stand.cloud("a poll", |sim| (count(sim) > lists).then_some(())).await;
    stand.apply("late", "Daiyu", json!({ "title": "CEO" })).await;
    stand.becomes("late", "Ready", "InSync").await;
    let object = stand.ask("late").await;
    assert_eq!(condition_of(&object, "Ready")["reason"], "InSync");
    assert_eq!(stand.simulator.counts().of("AddMessageContact"), 1);
    assert_eq!(stand.in_cloud(&id).title, "CEO");
    stand.is_untouched(&bystander);
}
