//! The confirmation of a contact's channels: one message, the owner's click, and all that can come
//! between them.

use directory_simulator::switches::{ActiveWhen, Shown};
use directory_simulator::{Click, Fault, FaultKind, Options, Quotas};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::stand::{Stand, condition_of, message_of};
use crate::walk::{DAY, SEND, Walk, annotate, channel, defaults, reason, sent, status};

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_is_sent_once_and_a_click_makes_the_contact_ready() {
    let stand = Stand::new().await;
    stand.apply("desk", "Kefu", defaults(json!({}))).await;
    let object = stand.becomes("desk", "EmailVerified", "VerificationSent").await;
    stand.cloud("the mail", |it| (it.outbox().len() == 1).then_some(())).await;
    assert_eq!(sent(&stand), ["desk@example.com"]);
    assert_eq!(status(&object, "Synced"), "True");
    assert_eq!(
        (status(&object, "Ready"), reason(&object, "Ready")),
        ("False".into(), "VerificationSent".into())
    );
    assert_eq!(status(&object, "Reconciling"), "True");
    assert_eq!(condition_of(&object, "Stalled"), Value::Null);
    assert_eq!(condition_of(&object, "PhoneVerified"), Value::Null);
    let mail = channel(&object, "email");
    assert_eq!((&mail["state"], &mail["sends"]), (&json!("Sent"), &json!(1)));
    let time = |field: &str| -> Timestamp { mail[field].as_str().unwrap().parse().unwrap() };
    let slot = time("nextSendTime").duration_since(time("lastSentTime"));
    assert_eq!(slot, SignedDuration::from_hours(24));

    // What waits for a person costs no call of its own, as the list tells where it stands.
    let mark = stand.mark();
    stand.ask_directory().await;
    stand.ask("desk").await;
    assert_eq!(stand.calls_since(mark), Vec::<String>::new());

    assert_eq!(stand.simulator.confirm("desk@example.com"), Click::Confirmed);
    stand.ask_directory().await;
    let object = stand.becomes("desk", "EmailVerified", "Verified").await;
    assert_eq!(
        (status(&object, "Ready"), reason(&object, "Ready")),
        ("True".into(), "InSync".into())
    );
    assert_eq!(condition_of(&object, "Reconciling"), Value::Null);
    assert_eq!(channel(&object, "email")["evidence"], "SeenPending");
    assert_eq!(sent(&stand).len(), 1);
    // Confirmed once, it is not asked for again.
    let mark = stand.mark();
    stand.ask_directory().await;
    stand.ask("desk").await;
    assert_eq!(stand.calls_since(mark), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn mailbox_and_phone_are_confirmed_one_by_one() {
    for active_when in [ActiveWhen::EmailConfirmed, ActiveWhen::AllConfirmed] {
        let stand = Stand::new().await;
        stand.simulator.switches(|switches| switches.active_when = active_when);
        let fields = json!({ "phoneNumber": "86-13800138021" });
        stand.apply("desk", "Kefu", defaults(fields)).await;
        stand.becomes("desk", "PhoneVerified", "VerificationSent").await;
        stand.cloud("both messages", |it| (it.outbox().len() == 2).then_some(())).await;
        assert_eq!(sent(&stand), ["desk@example.com", "86-13800138021"]);
        assert_eq!(stand.simulator.confirm("desk@example.com"), Click::Confirmed);
        let object = stand.becomes("desk", "EmailVerified", "Verified").await;
        assert_eq!(reason(&object, "Ready"), "VerificationSent", "{active_when:?}");
        assert_eq!(stand.simulator.confirm("86-13800138021"), Click::Confirmed);
        let object = stand.becomes("desk", "PhoneVerified", "Verified").await;
        assert_eq!(status(&object, "Ready"), "True");
        assert_eq!(sent(&stand).len(), 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_sent_where_the_spec_forbids_it() {
    let stand = Stand::new().await;
    let never = json!({ "readyWhen": null, "verification": { "send": "Never" } });
    let id = stand.settled("desk", "Kefu", never).await;
    let object = stand.becomes("desk", "EmailVerified", "NotSent").await;
    assert_eq!(
        (status(&object, "Ready"), reason(&object, "Ready")),
        ("False".into(), "NotSent".into())
    );
    // Asked for, it is still forbidden.
    annotate(&stand, "desk", "please").await;
    assert_eq!(sent(&stand), Vec::<String>::new());
    // Somebody has the owner confirm it from the console.
    let confirmed = directory_simulator::ContactChange {
        email: Some("desk@example.com".to_owned()),
        ..Default::default()
    };
    assert!(stand.simulator.change_contact(&id, confirmed));
    stand.ask_directory().await;
    let object = stand.becomes("desk", "EmailVerified", "Verified").await;
    assert_eq!(status(&object, "Ready"), "True");
}

/// A channel of which the value is changed, and how its values look where they are shown.
struct Changed {
    channel: &'static str,
    condition: &'static str,
    field: &'static str,
    parameter: &'static str,
    old: &'static str,
    new: &'static str,
    masked: [&'static str; 2],
}

const CHANGED: [Changed; 2] = [
    Changed {
        channel: "email",
        condition: "EmailVerified",
        field: "emailAddress",
        parameter: "EmailAddress",
        old: "desk@example.com",
        new: "new@example.org",
        masked: ["d***@example.com", "n***@example.org"],
    },
    Changed {
        channel: "phone",
        condition: "PhoneVerified",
        field: "phoneNumber",
        parameter: "PhoneNumber",
        old: "86-13800138021",
        new: "86-13900139022",
        masked: ["86-138****8021", "86-139****9022"],
    },
];

#[tokio::test(flavor = "multi_thread")]
async fn a_new_value_waits_while_the_old_one_stays_and_going_back_takes_it_back() {
    for changed in &CHANGED {
        for shown in [Shown::Effective, Shown::Pending] {
            goes_forth_and_back(changed, shown).await;
        }
    }
}

async fn goes_forth_and_back(changed: &Changed, shown: Shown) {
    let Changed { channel: of, condition, field, parameter, old, new, masked } = *changed;
    let case = format!("{of}, {shown:?}");
    let stand = Stand::new().await;
    stand.simulator.switches(|switches| switches.shown_while_pending = shown);
    let spec = |value: &str| {
        let mut fields = json!({ "phoneNumber": CHANGED[1].old });
        fields[field] = json!(value);
        defaults(fields)
    };
    let id = stand.settled("desk", "Kefu", spec(old)).await;
    stand.cloud("both messages", |it| (it.outbox().len() == 2).then_some(())).await;
    for known in &CHANGED {
        assert_eq!(stand.simulator.confirm(known.old), Click::Confirmed);
    }
    stand.ask_directory().await;
    for known in &CHANGED {
        stand.becomes("desk", known.condition, "Verified").await;
    }

    stand.apply("desk", "Kefu", spec(new)).await;
    stand.becomes("desk", condition, "VerificationSent").await;
    stand.cloud("the third message", |it| (it.outbox().len() == 3).then_some(())).await;
    assert_eq!(sent(&stand)[2], new);
    let object = stand.ask("desk").await;
    assert_eq!(
        (status(&object, "Synced"), status(&object, "Ready")),
        ("True".into(), "False".into())
    );
    let contact = stand.in_cloud(&id);
    let in_force = if of == "email" { contact.email } else { contact.phone };
    assert_eq!(in_force.effective.as_deref(), Some(old), "messages still go to the old one");
    let (seen, waiting) = match shown {
        Shown::Effective => (masked[0], json!(masked[1])),
        // That it waits is known, and is shown as it is in force.
        Shown::Pending => (masked[1], Value::Null),
    };
    assert_eq!(object.data["status"]["observed"][field], seen, "{case}");
    assert_eq!(channel(&object, of)["waiting"], waiting, "{case}");
    let other = &CHANGED[usize::from(of == "email")];
    assert_eq!(reason(&object, other.condition), "Verified", "{case}");
    assert_eq!(channel(&object, other.channel).get("waiting"), None, "{case}");

    let mark = stand.mark();
    stand.apply("desk", "Kefu", spec(old)).await;
    let object = stand.becomes("desk", condition, "Verified").await;
    assert_eq!(status(&object, "Ready"), "True", "{case}");
    let calls = stand.calls_since(mark);
    let writes: Vec<_> = calls
        .iter()
        .filter(|call| ["Get", "List", "Send"].iter().all(|word| !call.starts_with(word)))
        .collect();
    assert_eq!(writes, [&format!("CancelMessageContactUpdate {parameter}")], "{case} {calls:?}");
    let contact = stand.in_cloud(&id);
    assert_eq!((contact.email.pending, contact.phone.pending), (None, None));
    assert_eq!(sent(&stand).len(), 3, "nobody is asked again");

    // Forward once more, and this time the owner confirms: the message of the same slot still
    // counts, so that a person has to ask for another one.
    stand.apply("desk", "Kefu", spec(new)).await;
    stand.becomes("desk", condition, "VerificationSent").await;
    annotate(&stand, "desk", "the first one was taken back").await;
    stand.cloud("the fourth message", |it| (it.outbox().len() == 4).then_some(())).await;
    assert_eq!(stand.simulator.confirm(new), Click::Confirmed);
    let object = stand.becomes("desk", condition, "Verified").await;
    assert_eq!(object.data["status"]["observed"][field], masked[1]);
    assert_eq!(channel(&object, of).get("waiting"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_annotation_gets_one_more_message_and_nobody_round_the_limits() {
    let stand = Stand::new().await;
    stand.apply("desk", "Kefu", defaults(json!({}))).await;
    stand.becomes("desk", "EmailVerified", "VerificationSent").await;
    stand.cloud("the first mail", |it| (it.outbox().len() == 1).then_some(())).await;
    for number in 2..=5 {
        annotate(&stand, "desk", &format!("again {number}")).await;
        stand.cloud("one more", |it| (it.outbox().len() == number).then_some(())).await;
        // The same text asks for nothing.
        annotate(&stand, "desk", &format!("again {number}")).await;
    }
    annotate(&stand, "desk", "a sixth").await;
    let object = stand.becomes("desk", "EmailVerified", "VerificationQuotaExhausted").await;
    assert!(message_of(&object, "EmailVerified").contains("5 messages were sent to it today"));
    assert_eq!(channel(&object, "email")["state"], "QuotaExhausted");
    // Nor does a new object of the same address.
    stand.apply("other", "Shouhou", defaults(json!({ "emailAddress": "desk@example.com" }))).await;
    stand.becomes("other", "EmailVerified", "VerificationQuotaExhausted").await;
    assert_eq!(sent(&stand).len(), 5);
    let directory = stand.directories().get(&stand.directory).await.unwrap();
    let sends = &directory.data["status"]["verificationSends"];
    assert_eq!((&sends["count"], &sends["recent"][0]["count"]), (&json!(5), &json!(5)), "{sends}");
}

#[tokio::test(flavor = "multi_thread")]
async fn deleting_and_creating_again_gets_nobody_a_second_message() {
    let stand = Stand::new().await;
    for _ in 0..3 {
        stand.apply("desk", "Kefu", defaults(json!({}))).await;
        stand.becomes("desk", "EmailVerified", "VerificationSent").await;
        stand.cloud("one mail", |it| (it.outbox().len() == 1).then_some(())).await;
        stand.delete("desk").await;
        stand.is_gone("desk").await;
    }
    assert_eq!(sent(&stand), ["desk@example.com"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_contacts_of_one_mailbox_are_asked_for_each() {
    let stand = Stand::new().await;
    for (object, name) in [("desk", "Kefu"), ("night", "Yeban")] {
        let fields = json!({ "emailAddress": "desk@example.com" });
        stand.apply(object, name, defaults(fields)).await;
        stand.becomes(object, "EmailVerified", "VerificationSent").await;
    }
    stand.cloud("two mails", |it| (it.outbox().len() == 2).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_may_not_be_sent_is_tried_again_and_holds_back_nothing_else() {
    let stand = Stand::new().await;
    stand.simulator.fault(Fault::on(SEND, FaultKind::error(403, "NoPermission")).times(100));
    stand.apply("desk", "Kefu", defaults(json!({}))).await;
    let object = stand
        .sees("desk", "says what is missing", |found| {
            message_of(found, "EmailVerified").contains("grant resourcemanager:SendEmail")
        })
        .await;
    assert_eq!(reason(&object, "EmailVerified"), "VerificationPending");
    assert_eq!(
        (status(&object, "Synced"), status(&object, "Ready")),
        ("True".into(), "False".into())
    );
    // A change of a field goes through meanwhile.
    stand.apply("desk", "Kefu", defaults(json!({ "title": "CEO" }))).await;
    stand
        .cloud("the title", |it| {
            let state = it.state();
            state.named("Kefu").filter(|found| found.contact.title == "CEO").map(|_| ())
        })
        .await;
    assert_eq!(sent(&stand), Vec::<String>::new());
    stand.simulator.clear_faults();
    stand.ask("desk").await;
    stand.becomes("desk", "EmailVerified", "VerificationSent").await;
    stand.cloud("the mail", |it| (it.outbox().len() == 1).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_sent_without_an_answer_counts_as_sent_and_is_no_evidence() {
    for executed in [true, false] {
        let stand = Stand::new().await;
        let fault = Fault::on(SEND, FaultKind::html_502(executed));
        stand.simulator.fault(fault.times(1));
        stand.apply("desk", "Kefu", defaults(json!({}))).await;
        let object = stand.becomes("desk", "EmailVerified", "VerificationSent").await;
        assert_eq!(channel(&object, "email")["sends"], 1);
        stand.ask("desk").await;
        assert_eq!(sent(&stand).len(), usize::from(executed));
        assert_eq!(stand.simulator.counts().of(SEND), 1);
    }
}

// --- Days on a clock that is moved --------------------------------------------------------------

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_is_asked_each_day_until_a_person_must_act() {
    let mut walk = Walk::new(Options::default()).await;
    walk.stand.apply("desk", "Kefu", defaults(json!({ "verification": { "maxSends": 3 } }))).await;
    for number in 1..=3 {
        let stand = &walk.stand;
        stand.cloud("a mail a day", |it| (it.outbox().len() == number).then_some(())).await;
        stand
            .sees("desk", "it is counted", |found| {
                channel(found, "email")["sends"] == json!(number)
            })
            .await;
        if number == 2 {
            walk.restart().await;
        }
        // Nothing is sent an hour too early.
        walk.later(SignedDuration::from_hours(23));
        walk.stand.ask("desk").await;
        assert_eq!(sent(&walk.stand).len(), number);
        walk.later(SignedDuration::from_hours(1));
    }
    let stand = &walk.stand;
    let object = stand.becomes("desk", "EmailVerified", "VerificationExhausted").await;
    assert_eq!(status(&object, "Stalled"), "True");
    assert_eq!(sent(stand).len(), 3);
    annotate(stand, "desk", "once more").await;
    stand.cloud("one more", |it| (it.outbox().len() == 4).then_some(())).await;
    stand.becomes("desk", "EmailVerified", "VerificationSent").await;
    assert_eq!(stand.simulator.confirm("desk@example.com"), Click::Confirmed);
    walk.later(SignedDuration::from_hours(1));
    stand.becomes("desk", "EmailVerified", "Verified").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_quota_of_the_day_stops_all_messages_until_the_next_one() {
    let quotas = Quotas { sends_per_day: 1, ..Quotas::default() };
    let mut walk = Walk::new(Options { quotas, ..Options::default() }).await;
    let stand = &walk.stand;
    stand.apply("desk", "Kefu", defaults(json!({}))).await;
    stand.becomes("desk", "EmailVerified", "VerificationSent").await;
    for (object, name) in [("second", "Shouhou"), ("third", "Yeban")] {
        stand.apply(object, name, defaults(json!({}))).await;
        let object = stand.becomes(object, "EmailVerified", "VerificationQuotaExhausted").await;
        assert_eq!(condition_of(&object, "Stalled"), Value::Null);
        assert_eq!(status(&object, "Synced"), "True");
    }
    assert_eq!(stand.simulator.counts().of(SEND), 2, "the third one does not even try");
    let directory = stand
        .directory_sees("says so", |found| message_of(found, "Ready").contains("used up"))
        .await;
    assert_eq!(status(&directory, "Ready"), "True");
    let until = directory.data["status"]["verificationSends"]["exhaustedUntil"].as_str().unwrap();
    let until: Timestamp = until.parse().unwrap();
    // Neither an annotation nor a restart finds another answer on that day.
    annotate(stand, "second", "please").await;
    walk.restart().await;
    let stand = &walk.stand;
    annotate(stand, "third", "please").await;
    for object in ["second", "third"] {
        let object = stand.ask(object).await;
        assert_eq!(reason(&object, "EmailVerified"), "VerificationQuotaExhausted");
    }
    assert_eq!(stand.simulator.counts().of(SEND), 2, "nothing more is tried");
    let left = until.duration_since(walk.clock.now());
    assert!(left > SignedDuration::ZERO && left <= DAY, "{left}");
    // The next day there is one message again, and the other one waits on.
    walk.later(left + SignedDuration::from_secs(1));
    stand.cloud("a mail of the new day", |it| (it.outbox().len() == 2).then_some(())).await;
    // A day on which one was sent is used up as a whole: it is not tried again each hour.
    let now = walk.clock.now();
    stand
        .directory_sees("it is used up, too", |found| {
            let until = &found.data["status"]["verificationSends"]["exhaustedUntil"];
            let until: Option<Timestamp> = until.as_str().and_then(|until| until.parse().ok());
            until.is_some_and(|until| until.duration_since(now) > SignedDuration::from_hours(12))
        })
        .await;
    walk.later(DAY);
    stand.cloud("and of the next", |it| (it.outbox().len() == 3).then_some(())).await;
}
