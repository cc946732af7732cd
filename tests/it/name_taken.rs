//! Somebody else's contact has the name and may not be taken over: it is left alone, and waited for.

use directory_simulator::{NewContact, Simulator};
use serde_json::json;

use crate::stand::{Stand, assert_stalled};

/// Makes the contact of somebody who knows nothing of us.
fn outsider(simulator: &Simulator, name: &str) -> String {
    simulator.insert_contact(NewContact {
        phone: Some("86-13800138011".to_owned()),
        title: "FinanceDirector".to_owned(),
        message_types: vec!["AccountExpenses".to_owned()],
        ..NewContact::new(name, "foreign@example.com")
    })
}

/// The object stands still, nothing was written, and nothing of the outsider is in its status.
async fn is_refused(stand: &Stand, object: &str, id: &str) {
    let before = stand.simulator.state().contact(id).cloned();
    stand.becomes(object, "Synced", "NameTaken").await;
    let object = stand.ask(object).await;
    assert_stalled(&object, true);
    let status = &object.data["status"];
    for field in ["contactId", "creation", "observed", "drift"] {
        assert!(status.get(field).is_none(), "{field} in {status}");
    }
    for foreign in ["foreign", "f***", "8011", "Finance", "AccountExpenses", id] {
        assert!(!status.to_string().contains(foreign), "{foreign} in {status}");
    }
    assert_eq!(stand.simulator.state().contact(id).cloned(), before);
    assert_eq!(stand.simulator.counts().writes, 0);
}

/// Once the outsider is away a list shows it, and the object goes on without being touched.
async fn goes_on(stand: &Stand, object: &str, name: &str, id: &str) {
    assert!(stand.simulator.remove_contact(id));
    stand.ask_directory().await;
    stand.becomes(object, "Ready", "InSync").await;
    let state = stand.simulator.state();
    assert_eq!(state.named(name).map(|contact| contact.title.as_str()), Some("TechnicalDirector"));
    assert_eq!(stand.simulator.counts().of("UpdateMessageContact"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taken_name_is_left_alone_until_it_is_free() {
    let stand = Stand::new().await;
    let id = outsider(&stand.simulator, "Qianwei");
    stand.ask_directory().await;
    let fields = json!({ "phoneNumber": "86-13800138012", "adoptionPolicy": "Never" });
    stand.apply("desk", "Qianwei", fields).await;
    is_refused(&stand, "desk", &id).await;
    assert_eq!(stand.simulator.counts().of("AddMessageContact"), 0);

    // The near match: a longer name is another name.
    stand.apply("longer", "Qianweiyi", json!({})).await;
    stand.becomes("longer", "Ready", "InSync").await;
    assert_eq!(stand.simulator.counts().of("AddMessageContact"), 1);
    goes_on(&stand, "desk", "Qianwei", &id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_was_taken_since_the_last_list_is_left_alone() {
    let stand = Stand::new().await;
    let id = outsider(&stand.simulator, "Sunbin");
    stand.apply("late", "Sunbin", json!({ "adoptionPolicy": "Never" })).await;
    is_refused(&stand, "late", &id).await;
    goes_on(&stand, "late", "Sunbin", &id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_differs_in_case_alone_is_taken() {
    let stand = Stand::new().await;
    let id = outsider(&stand.simulator, "lubanXi");
    stand.ask_directory().await;
    stand.apply("case", "LubanXi", json!({})).await;
    is_refused(&stand, "case", &id).await;
    assert_eq!(stand.simulator.counts().of("AddMessageContact"), 0);
    goes_on(&stand, "case", "LubanXi", &id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_contact_is_not_renamed_to_a_taken_name() {
    let stand = Stand::new().await;
    stand.apply("mover", "Mozideng", json!({})).await;
    stand.becomes("mover", "Ready", "InSync").await;
    let id = outsider(&stand.simulator, "Huishiwen");
    stand.ask_directory().await;
    stand.apply("mover", "Huishiwen", json!({})).await;
    let object = stand.becomes("mover", "Synced", "NameTaken").await;
    assert_stalled(&object, true);
    assert_eq!(stand.simulator.counts().of("UpdateMessageContact"), 0);
    assert!(stand.simulator.state().named("Mozideng").is_some());

    assert!(stand.simulator.remove_contact(&id));
    stand.ask_directory().await;
    stand.becomes("mover", "Ready", "InSync").await;
    assert!(stand.simulator.state().named("Mozideng").is_none());
    assert_eq!(stand.simulator.state().contacts.len(), 1, "renamed, not made anew");
}
