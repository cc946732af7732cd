//! Whatever the cloud answers, nothing is lost, nothing is done twice, and the status recovers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use directory_simulator::{ContactChange, Fault, FaultKind, NewContact, Options, Quotas};
use futures::future::join_all;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::stand::{Stand, condition_of, request};

fn raw(
    status: u16,
    headers: &[(&str, &str)],
    body: impl Into<String>,
    executed: bool,
) -> FaultKind {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    let headers = headers.iter().map(owned).collect();
    FaultKind::Raw { status, headers, body: body.into(), repeat: 1, executed }
}

/// A place to which redirects lead, and how often somebody came there.
async fn elsewhere() -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let place = format!("http://{}/", listener.local_addr().unwrap());
    let visits = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&visits);
    tokio::spawn(async move {
        while listener.accept().await.is_ok() {
            counted.fetch_add(1, Ordering::Relaxed);
        }
    });
    (place, visits)
}

/// Answers that are none. `executed` says what became of the call.
fn no_answers(place: &str, executed: bool) -> Vec<(&'static str, FaultKind)> {
    let html = [("Content-Type", "text/html")];
    let to = [("Location", place)];
    let page = "<html><body>Please sign in.</body></html>";
    // As an empty directory, if it were read; a megabyte is.
    let long = json!({ "RequestId": "51A00000-0000-4000-8000-0000000000AA", "TotalCount": 0,
        "Contacts": [], "Status": "Deleted", "Padding": "x".repeat(1 << 20) });
    let wrong =
        json!({ "RequestId": 7, "TotalCount": "0", "Contacts": {}, "Contact": [], "Status": {} });
    vec![
        ("a proxy whose server is away", FaultKind::html_502(executed)),
        ("a page to sign in", raw(200, &html, page, executed)),
        ("an empty error", FaultKind::empty_500(executed)),
        ("an empty success", raw(200, &[], "", executed)),
        ("more than a megabyte", raw(200, &[], long.to_string(), executed)),
        ("other types", raw(200, &[], wrong.to_string(), executed)),
        ("an array", raw(200, &[], "[]", executed)),
        ("half a word", raw(200, &[], r#"{"TotalCount":0,"Contacts":[],"Status":"Del"#, executed)),
        ("a redirect", raw(307, &to, "", executed)),
        ("a redirect to be read", raw(302, &to, "", executed)),
        ("no connection", FaultKind::Reset { executed }),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_without_an_answer_changes_nothing_and_is_made_up_for() {
    let (place, visits) = elsewhere().await;
    let mut rows = no_answers(&place, false);
    rows.push(("a cut list", FaultKind::CutBody { bytes: 60 }));
    rows.push(("a wrong page", raw(404, &[("Content-Type", "text/html")], "<html/>", false)));
    join_all(rows.chunks(5).map(async |rows| {
        let stand = Stand::new().await;
        stand.settled("steady", "Lanxin", json!({})).await;
        let bystander = stand.bystander("Lanxinyu");
        stand.ask_directory().await;
        let before = stand.contacts().get("steady").await.unwrap();
        let mark = stand.mark();
        for (what, kind) in rows {
            stand.simulator.fault(Fault::on("ListMessageContacts", kind.clone()).times(1000));
            stand.ask_directory().await;
            let object = stand.directory_becomes("Ready", "Unreachable").await;
            let message = condition_of(&object, "Ready")["message"].clone();
            assert!(message.as_str().unwrap().starts_with("ListMessageContacts: "), "{message}");
            stand.simulator.clear_faults();
            stand.directory_becomes("Ready", "Connected").await;
            let now = stand.contacts().get("steady").await.unwrap();
            assert_eq!(now.data["status"], before.data["status"], "{what}");
        }
        assert_eq!(stand.calls_since(mark), [""; 0]);
        let now = stand.ask("steady").await;
        assert_eq!(now.data["status"]["contactId"], before.data["status"]["contactId"]);
        assert_eq!(stand.simulator.counts().of("AddMessageContact"), 1);
        stand.is_untouched(&bystander);
    }))
    .await;
    assert_eq!(visits.load(Ordering::Relaxed), 0, "a redirect was followed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_creation_without_an_answer_that_was_made_is_found_and_not_repeated() {
    let (place, visits) = elsewhere().await;
    let stand = Stand::new().await;
    let mut rows = no_answers(&place, true);
    rows.push(("a cut answer", FaultKind::CutBody { bytes: 30 }));
    rows.push((
        "an error of the service",
        FaultKind::Error {
            status: 503,
            code: "ServiceUnavailable".to_owned(),
            headers: Vec::new(),
            executed: true,
        },
    ));
    stand.simulator.quotas(|quotas| quotas.contacts = 100);
    let near = stand.bystander("Mengting");
    for (letter, (what, kind)) in ('a'..).zip(&rows) {
        let (object, name) = (format!("made-{letter}"), format!("Mengting{letter}"));
        stand.simulator.fault(Fault::on("AddMessageContact", kind.clone()));
        let id = stand.settled(&object, &name, json!({})).await;
        assert_eq!(stand.in_cloud(&id).name, name, "{what}");
    }
    assert_eq!(stand.simulator.counts().of("AddMessageContact"), rows.len() as u64);
    assert_eq!(stand.simulator.state().contacts.len(), rows.len() + 1);
    stand.is_untouched(&near);
    assert_eq!(visits.load(Ordering::Relaxed), 0, "a redirect was followed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_creation_without_an_answer_that_was_not_made_is_not_repeated_at_once() {
    let stand = Stand::new().await;
    stand.simulator.fault(Fault::on("AddMessageContact", FaultKind::html_502(false)));
    stand.apply("open", "Yubai", json!({})).await;
    let object = stand.becomes("open", "Ready", "OutcomeUnknown").await;
    assert_eq!(object.data["status"]["creation"]["name"], "Yubai", "the intent stands");
    assert!(condition_of(&object, "Stalled").is_null());
    stand.ask("open").await;
    let object = stand.ask("open").await;
    assert_eq!(condition_of(&object, "Ready")["reason"], "OutcomeUnknown");
    assert_eq!(stand.simulator.counts().of("AddMessageContact"), 1);
}

/// Two in a row once counted as a cloud that keeps other values.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_without_an_answer_is_read_back_and_made_again_until_it_is_there() {
    let (place, visits) = elsewhere().await;
    let mut rows: Vec<_> =
        no_answers(&place, false).into_iter().step_by(2).map(|row| (row, [2, 3])).collect();
    rows.extend(no_answers(&place, true).into_iter().step_by(2).map(|row| (row, [1, 1])));
    join_all(rows.into_iter().map(async |((what, kind), [times, calls])| {
        let stand = Stand::new().await;
        let id = stand.settled("changed", "Ningke", json!({})).await;
        let bystander = stand.bystander("Ningkexin");
        stand.simulator.fault(Fault::on("UpdateMessageContact", kind).times(times));
        stand.apply("changed", "Ningke", json!({ "title": "CEO" })).await;
        stand.becomes("changed", "Ready", "InSync").await;
        assert_eq!(stand.in_cloud(&id).title, "CEO", "{what}");
        assert_eq!(stand.simulator.counts().of("UpdateMessageContact"), u64::from(calls), "{what}");
        stand.is_untouched(&bystander);
    }))
    .await;
    assert_eq!(visits.load(Ordering::Relaxed), 0, "a redirect was followed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_without_an_answer_is_made_once_and_never_believed_unseen() {
    let html = [("Content-Type", "text/html")];
    for (name, first, look, calls) in [
        ("Qutong", FaultKind::html_502(true), None, 1),
        ("Qutang", FaultKind::CutBody { bytes: 10 }, None, 1),
        ("Quting", FaultKind::html_502(false), None, 2),
        // Something on the way knows no such page: that is not the cloud that knows no contact.
        ("Qutian", FaultKind::empty_500(false), Some(raw(404, &html, "<html/>", false)), 2),
    ] {
        let stand = Stand::new().await;
        let id = stand.settled("leaving", name, json!({})).await;
        let near = stand.bystander(&format!("{name}yu"));
        stand.simulator.fault(Fault::on("DeleteMessageContact", first));
        let looks = look.is_some();
        if let Some(look) = look {
            stand.simulator.fault(Fault::on("GetMessageContact", look));
        }
        stand.delete("leaving").await;
        if looks {
            let looked = "the object stays until the cloud itself says that the contact is gone";
            let failed =
                |sim: &directory_simulator::Simulator| sim.faults().is_empty().then_some(());
            stand.cloud(looked, failed).await;
            stand.becomes("leaving", "Synced", "CloudUnavailable").await;
            assert_eq!(stand.in_cloud(&id).name, name);
            // A read that is not understood is repeated after minutes, unless somebody asks.
            request(&stand.contacts(), "leaving", "now, please").await;
        }
        stand.is_gone("leaving").await;
        assert!(stand.simulator.state().contact(&id).is_none(), "{name}");
        assert_eq!(stand.simulator.counts().of("DeleteMessageContact"), calls, "{name}");
        stand.is_untouched(&near);
    }
}

fn contact(id: &str, name: &str) -> Value {
    json!({ "ContactId": id, "Name": name, "EmailAddress": "kept@example.com",
        "Title": "TechnicalDirector", "MessageTypes": ["SecurityMessage", "FaultMessage"],
        "Members": [], "Status": "Verifying" })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_contact_is_gone_only_when_the_cloud_says_so_of_this_contact() {
    let stand = Stand::new().await;
    let id = stand.settled("kept", "Sangye", json!({})).await;
    let bystander = stand.bystander("Sangyeyu");
    let html = [("Content-Type", "text/html")];
    let another = json!({ "Contact": contact("c-another0000001", "Other") }).to_string();
    let code = |code: &str| json!({ "Code": code, "Message": "no" }).to_string();
    for (total, look) in [
        (0, raw(404, &html, "<html><h1>404 Not Found</h1></html>", false)),
        (0, raw(404, &[], "", false)),
        (4_294_967_295_u32, raw(404, &[], code("EntityNotExists.Folder"), false)),
        (0, raw(404, &[], code("InvalidAction.NotFound"), false)),
        (1, raw(200, &[], another, false)),
        (0, raw(200, &[], r#"{"Contact":null}"#, false)),
        (0, FaultKind::empty_500(false)),
    ] {
        let nobody = json!({ "TotalCount": total, "Contacts": [] }).to_string();
        stand.simulator.fault(Fault::on("ListMessageContacts", raw(200, &[], nobody, false)));
        stand.simulator.fault(Fault::on("GetMessageContact", look.clone()));
        let object = stand.ask("kept").await;
        assert_eq!(condition_of(&object, "Ready")["reason"], "CloudUnavailable", "{look:?}");
        assert_eq!(object.data["status"]["contactId"], json!(id), "{look:?}");
        assert!(stand.simulator.faults().is_empty());
        stand.ask_directory().await;
        stand.becomes("kept", "Ready", "InSync").await;
    }
    assert_eq!(stand.simulator.counts().of("AddMessageContact"), 1);
    assert_eq!(stand.simulator.counts().of("UpdateMessageContact"), 0);
    stand.is_untouched(&bystander);
}

#[tokio::test(flavor = "multi_thread")]
async fn words_that_nobody_knows_are_shown_cut_and_put_right() {
    let stand = Stand::new().await;
    let id = stand.settled("words", "Taozi", json!({})).await;
    let report_only = json!({ "reconcilePolicy": "ReportOnly" });
    stand.apply("words", "Taozi", report_only).await;
    stand.becomes("words", "Ready", "InSync").await;
    let types = (0..150).map(|number| format!("\u{1}长{number}{}", "🙂".repeat(300)));
    let odd = ContactChange {
        title: Some("\"$({[长".repeat(500)),
        message_types: Some(types.chain([String::new()]).collect()),
        members: Some((0..150).map(|number| format!("fd-{number}")).collect()),
        ..ContactChange::default()
    };
    assert!(stand.simulator.change_contact(&id, odd));
    stand.ask_directory().await;
    let object = stand.becomes("words", "Ready", "Drifted").await;
    let observed = &object.data["status"]["observed"];
    assert_eq!(observed["title"].as_str().unwrap().chars().count(), 256);
    for list in ["messageTypes", "members"] {
        assert_eq!(observed[list].as_array().unwrap().len(), 100, "{list}");
    }
    let drift = object.data["status"]["drift"].as_array().unwrap();
    let fields: Vec<_> = drift.iter().map(|entry| entry["field"].as_str().unwrap()).collect();
    assert_eq!(fields, ["title", "messageTypes"]);

    stand.apply("words", "Taozi", json!({})).await;
    stand.becomes("words", "Ready", "InSync").await;
    assert_eq!(stand.in_cloud(&id).title, "TechnicalDirector");
    assert_eq!(stand.in_cloud(&id).message_types, ["FaultMessage", "SecurityMessage"]);

    // A status that is on no list, and fields of later versions.
    let mut frozen = contact(&id, "Taozi");
    frozen["EmailAddress"] = json!("words@example.com");
    frozen["Status"] = json!("Frozen");
    frozen["Mood"] = json!({ "of": [1, null] });
    let list = json!({ "TotalCount": 1, "Contacts": [frozen], "NextMood": 2 }).to_string();
    stand.simulator.fault(Fault::on("ListMessageContacts", raw(200, &[], list, false)));
    // What a list shows soon after a Get is read before it is believed.
    let one = json!({ "RequestId": "51A00000-0000-4000-8000-00000000000E", "Contact": frozen });
    stand.simulator.fault(Fault::on("GetMessageContact", raw(200, &[], one.to_string(), false)));
    let object = stand.ask("words").await;
    assert_eq!(object.data["status"]["observed"]["status"], "Frozen");
    assert_eq!(condition_of(&object, "Ready")["reason"], "InSync");
    let object = stand.ask("words").await;
    assert_eq!(object.data["status"]["observed"]["status"], "Verifying");
    assert_eq!(stand.simulator.counts().of("UpdateMessageContact"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_contacts_of_others_are_counted_and_left_alone() {
    let quotas = Quotas { contacts: 2000, ..Quotas::default() };
    let stand = Stand::unconnected(Options { quotas, ..Options::default() }).await;
    for number in 0_u8..=249 {
        let letter = |part: u8| char::from(b'a' + part % 26);
        for kind in ["Amu", "Bmu", "Cmu", "Dmu"] {
            let name = format!("{kind}{}{}", letter(number / 26), letter(number));
            let email = format!("{name}@example.com");
            stand.simulator.insert_contact(NewContact::new(&name, &email));
        }
    }
    let before = stand.simulator.state();
    stand.apply_directory(json!({})).await;
    stand.directory_becomes("Ready", "Connected").await;
    let id = stand.settled("one", "Emuzz", json!({})).await;
    // It is on the page behind all others.
    let object = stand.ask("one").await;
    assert_eq!(condition_of(&object, "Ready")["reason"], "InSync");
    assert_eq!(stand.simulator.counts().of("AddMessageContact"), 1);
    stand.apply("taken", "cMUgd", json!({})).await;
    stand.becomes("taken", "Ready", "NameTaken").await;
    let directory = stand.ask_directory().await;
    let counts = &directory.data["status"]["contacts"];
    assert_eq!((&counts["observed"], &counts["unmanaged"]), (&json!(1001), &json!(1000)));
    assert_eq!(directory.data["status"]["unmanaged"].as_array().unwrap().len(), 50);
    stand.delete("one").await;
    stand.is_gone("one").await;
    assert!(stand.simulator.state().contact(&id).is_none());
    assert_eq!(stand.simulator.state().contacts, before.contacts);
}
