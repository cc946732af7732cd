//! The slots and the limits of verification messages hold whatever is killed, lost, refused or
//! asked for.

use directory_simulator::{Click, Fault, FaultKind, Options, Quotas, Simulator};
use jiff::civil::Date;
use jiff::tz::{Offset, TimeZone};
use jiff::{SignedDuration, Timestamp};
use kube::api::{DynamicObject, Patch, PatchParams};
use serde_json::{Value, json};

use crate::stand::{Stand, condition_of, message_of};
use crate::walk::{SEND, Walk, annotate, channel, defaults, reason, sent, time};

const MINUTE: SignedDuration = SignedDuration::from_mins(1);

/// The shortest slot.
const SLOT: SignedDuration = SignedDuration::from_mins(10);

/// What a spec says that has the shortest slot.
fn short_slots(fields: Value) -> Value {
    let mut whole = defaults(json!({ "verification": { "resendAfter": "10m" } }));
    crate::stand::merge(&mut whole, fields);
    whole
}

/// One call hangs.
fn hangs(simulator: &Simulator) -> Option<()> {
    (simulator.calls_in_flight() == 1 && simulator.faults().is_empty()).then_some(())
}

/// How many messages were asked for in calls that have ended.
fn sends(stand: &Stand) -> u64 {
    stand.simulator.counts().of(SEND)
}

/// Waits until so many mails were sent, and that the object knows of its last one. Returns it.
async fn mails(stand: &Stand, count: usize) -> DynamicObject {
    stand.cloud("the mail", |it| (it.outbox().len() >= count).then_some(())).await;
    let object = stand.ask("desk").await;
    assert_eq!(sent(stand).len(), count, "{}", object.data["status"]);
    object
}

async fn is_verified_by_a_click(stand: &Stand) {
    assert_eq!(stand.simulator.confirm("desk@example.com"), Click::Confirmed);
    stand.ask_directory().await;
    let object = stand.becomes("desk", "EmailVerified", "Verified").await;
    assert_eq!(condition_of(&object, "Ready")["status"], "True");
}

/// The crash lies between the books and the call (`executed: false`), or between the call and its
/// answer.
#[tokio::test(flavor = "multi_thread")]
async fn an_operator_that_dies_while_it_sends_costs_a_slot_at_most_and_no_second_mail() {
    for executed in [false, true] {
        let mut walk = Walk::new(Options::default()).await;
        let stand = &walk.stand;
        stand.simulator.fault(Fault::on(SEND, FaultKind::Hang { executed }));
        stand.apply("desk", "Kefu", short_slots(json!({}))).await;
        stand.cloud("the order for a mail hangs", hangs).await;
        walk.restart().await;

        let stand = &walk.stand;
        let object = mails(stand, usize::from(executed)).await;
        assert_eq!(reason(&object, "EmailVerified"), "VerificationSent");
        let (last, next) =
            (time(&object, "email", "lastSentTime"), time(&object, "email", "nextSendTime"));
        assert_eq!(channel(&object, "email")["sends"], 1);
        assert_eq!(next.duration_since(last), SLOT);
        walk.until(next - SignedDuration::from_secs(30));
        mails(stand, usize::from(executed)).await;
        walk.until(next);
        let object = mails(stand, usize::from(executed) + 1).await;
        assert_eq!(channel(&object, "email")["sends"], 2);
        is_verified_by_a_click(stand).await;
        mails(stand, usize::from(executed) + 1).await;
        // A call that outlived its caller is no overlap of a living one.
        walk.stop().await;
        walk.stand.simulator.reset_counts();
    }
}

/// A message that is refused for longer than a slot is owed once. The next one goes a whole slot after
/// it went out, whenever that was.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_was_refused_for_long_goes_once_and_the_next_a_whole_slot_later() {
    // Within the first half of its slot, in the second half, and after more than two slots.
    for minutes in [4, 8, 25] {
        let walk = Walk::new(Options::default()).await;
        let stand = &walk.stand;
        let refusal = FaultKind::error(403, "NoPermission");
        stand.simulator.fault(Fault::on(SEND, refusal).times(1000));
        stand.apply("desk", "Kefu", short_slots(json!({}))).await;
        let refused =
            |it: &DynamicObject| message_of(it, "EmailVerified").contains("grant resource");
        stand.sees("desk", "it says what is missing", refused).await;
        for _ in 0..minutes {
            walk.later(MINUTE);
            stand.ask("desk").await;
        }
        let granted = walk.clock.now();
        stand.simulator.clear_faults();
        let object = mails_after_asking(stand, 1).await;
        assert_eq!(channel(&object, "email")["sends"], 1, "after {minutes} minutes");
        let (last, next) =
            (time(&object, "email", "lastSentTime"), time(&object, "email", "nextSendTime"));
        // What was written down within the last minute goes as it is.
        assert!(last.duration_since(granted) >= -MINUTE, "after {minutes} minutes: {last}");
        assert_eq!(next.duration_since(last), SLOT);

        walk.until(next - SignedDuration::from_secs(30));
        mails(stand, 1).await;
        walk.until(next);
        let object = mails(stand, 2).await;
        assert_eq!(channel(&object, "email")["sends"], 2, "after {minutes} minutes");
        let at: Vec<_> = stand.simulator.outbox().iter().map(|mail| mail.sent_at).collect();
        assert!(at[1].duration_since(at[0]) >= SLOT - MINUTE, "{at:?}");
        let directory = stand.object_of_directory().await;
        assert_eq!(directory.data["status"]["verificationSends"]["count"], 2);
    }
}

/// What waits for a pause after a failure need not wait any longer.
async fn mails_after_asking(stand: &Stand, count: usize) -> DynamicObject {
    stand.ask("desk").await;
    mails(stand, count).await
}

/// While a message waits in the lane it is not lost by an edit, and the edit waits no longer than the
/// lane is shut.
#[tokio::test(flavor = "multi_thread")]
async fn an_edit_while_a_message_is_put_off_loses_neither() {
    // What the lane waits for itself, and what it gives back.
    for wait_ms in [8_000, 60_000] {
        let walk = Walk::new(Options::default()).await;
        let stand = &walk.stand;
        let kind = FaultKind::Error {
            status: 429,
            code: "Throttling.User".to_owned(),
            headers: vec![("x-acs-retry-after".to_owned(), wait_ms.to_string())],
            executed: false,
        };
        stand.simulator.fault(Fault::on(SEND, kind));
        stand.apply("desk", "Kefu", defaults(json!({}))).await;
        stand.cloud("it is to be slower", |it| (it.counts().of(SEND) == 1).then_some(())).await;
        stand.apply("desk", "Kefu", defaults(json!({ "title": "CEO" }))).await;
        stand.all_seen().await;
        walk.later(SignedDuration::from_millis(wait_ms + wait_ms / 10));
        stand.cloud("the mail", |it| (it.outbox().len() == 1).then_some(())).await;
        stand
            .cloud("the title", |it| {
                it.state().named("Kefu").filter(|found| found.title == "CEO").map(drop)
            })
            .await;
        let object = mails(stand, 1).await;
        assert_eq!(channel(&object, "email")["sends"], 1, "{wait_ms}");
        assert_eq!((sends(stand), stand.simulator.counts().of("UpdateMessageContact")), (2, 1));
        let directory = stand.object_of_directory().await;
        assert_eq!(directory.data["status"]["verificationSends"]["count"], 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_gets_nobody_round_the_limit_of_an_address() {
    let mut walk = Walk::new(Options::default()).await;
    let stand = &walk.stand;
    stand.apply("desk", "Kefu", defaults(json!({}))).await;
    mails(stand, 1).await;
    for number in 2..=5 {
        annotate(stand, "desk", &format!("again {number}")).await;
        mails(stand, number).await;
    }
    walk.restart().await;
    let stand = &walk.stand;
    annotate(stand, "desk", "a sixth").await;
    let object = stand.becomes("desk", "EmailVerified", "VerificationQuotaExhausted").await;
    assert!(message_of(&object, "EmailVerified").contains("5 messages were sent to it today"));
    walk.restart().await;
    let stand = &walk.stand;
    stand.delete("desk").await;
    stand.is_gone("desk").await;
    // Created again it is in the slot of the last one, and to ask for one more gets it none.
    stand.apply("desk", "Kefu", defaults(json!({}))).await;
    stand.becomes("desk", "EmailVerified", "VerificationSent").await;
    annotate(stand, "desk", "as a new object").await;
    stand.becomes("desk", "EmailVerified", "VerificationQuotaExhausted").await;
    mails(stand, 5).await;
    assert_eq!(sends(stand), 5);
}

/// Nothing but the directory's status remembers the message.
#[tokio::test(flavor = "multi_thread")]
async fn deleted_before_a_restart_and_created_after_it_a_contact_gets_no_second_mail() {
    let mut walk = Walk::new(Options::default()).await;
    let stand = &walk.stand;
    stand.apply("desk", "Kefu", defaults(json!({}))).await;
    let before = time(&mails(stand, 1).await, "email", "nextSendTime");
    stand.delete("desk").await;
    stand.is_gone("desk").await;
    walk.restart().await;
    let stand = &walk.stand;
    stand.apply("desk", "Kefu", defaults(json!({}))).await;
    let object = stand.becomes("desk", "EmailVerified", "VerificationSent").await;
    assert_eq!(channel(&object, "email")["sends"], 1);
    assert_eq!(time(&object, "email", "nextSendTime"), before, "its slot is that of before");
    mails(stand, 1).await;
    walk.until(before);
    mails(stand, 2).await;
}

/// The day of the quota.
fn day_of(at: Timestamp) -> Date {
    at.to_zoned(TimeZone::fixed(Offset::constant(8))).date()
}

/// The beginning of the next one.
fn next_day(at: Timestamp) -> Timestamp {
    let zone = TimeZone::fixed(Offset::constant(8));
    day_of(at).tomorrow().unwrap().to_zoned(zone).unwrap().timestamp()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_directory_has_sent_today_counts_for_an_operator_that_starts() {
    let walk = having_sent(90).await;
    let today = walk.clock.now();
    let stand = &walk.stand;
    stand.apply("desk", "Kefu", defaults(json!({}))).await;
    let object = stand.becomes("desk", "EmailVerified", "VerificationQuotaExhausted").await;
    let said = message_of(&object, "EmailVerified");
    assert!(said.contains("90 messages were sent in this directory today"), "{said}");
    annotate(stand, "desk", "please").await;
    mails(stand, 0).await;
    assert_eq!(time(&object, "email", "nextSendTime"), next_day(today));
    walk.until(next_day(today));
    mails(stand, 1).await;
    let directory = stand.object_of_directory().await;
    let sends = &directory.data["status"]["verificationSends"];
    assert_eq!((&sends["count"], &sends["day"]), (&json!(1), &json!(next_day_of(today))));
}

fn next_day_of(at: Timestamp) -> String {
    day_of(next_day(at)).to_string()
}

/// The lane may take a few more orders before the object that got the answer has taken it in, and
/// no more after that.
const BEFORE_IT_IS_KNOWN: u64 = 5;

const NAMES: [&str; 12] =
    ["Yi", "Er", "San", "Si", "Wu", "Liu", "Qi", "Ba", "Jiu", "Shi", "Bai", "Qian"];

/// Contacts of those names that are all owed their first message at once.
async fn all_are_owed(stand: &Stand) {
    let never = || json!({ "readyWhen": null, "verification": { "send": "Never" } });
    for name in NAMES {
        stand.settled(&name.to_lowercase(), name, never()).await;
    }
    let ask = |name: &'static str| async move {
        stand.apply(&name.to_lowercase(), name, defaults(json!({}))).await;
    };
    futures::future::join_all(NAMES.map(ask)).await;
}

/// A directory that has sent so many messages today, before the operator begins.
async fn having_sent(count: u32) -> Walk {
    let mut walk = Walk::new(Options::default()).await;
    walk.stop().await;
    let stand = &walk.stand;
    let sends_of_today = json!({ "status": { "verificationSends": {
        "day": day_of(walk.clock.now()).to_string(), "count": count } } });
    let patch = Patch::Merge(&sends_of_today);
    let directories = stand.directories();
    directories.patch_status(&stand.directory, &PatchParams::default(), &patch).await.unwrap();
    walk.restart().await;
    walk
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_at_once_no_more_get_a_message_than_the_directory_has_left() {
    let walk = having_sent(85).await;
    let stand = &walk.stand;
    all_are_owed(stand).await;
    stand.cloud("five mails", |it| (it.outbox().len() >= 5).then_some(())).await;
    let counted = async || {
        let mut refused = 0;
        for name in NAMES {
            let object = stand.ask(&name.to_lowercase()).await;
            refused +=
                usize::from(reason(&object, "EmailVerified") == "VerificationQuotaExhausted");
        }
        (sent(stand).len(), refused)
    };
    assert_eq!(counted().await, (5, 7));
    let directory = stand.object_of_directory().await;
    assert_eq!(directory.data["status"]["verificationSends"]["count"], 90);
    walk.until(next_day(walk.clock.now()));
    stand.cloud("all mails", |it| (it.outbox().len() >= NAMES.len()).then_some(())).await;
    assert_eq!(counted().await, (NAMES.len(), 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_contacts_one_learns_that_the_day_is_used_up_and_one_asks_each_hour() {
    let quotas = Quotas { sends_per_day: 0, ..Quotas::default() };
    let walk = Walk::new(Options { quotas, ..Options::default() }).await;
    let stand = &walk.stand;
    all_are_owed(stand).await;
    let all_wait = async || {
        for name in NAMES {
            let object = name.to_lowercase();
            stand.becomes(&object, "EmailVerified", "VerificationQuotaExhausted").await;
        }
        for name in [NAMES[0], NAMES[11]] {
            stand.ask(&name.to_lowercase()).await;
        }
        sends(stand)
    };
    let tried = all_wait().await;
    assert!((1..=BEFORE_IT_IS_KNOWN).contains(&tried), "{tried} orders for one answer");
    let until = async || -> Timestamp {
        let directory = stand.object_of_directory().await;
        let sends = &directory.data["status"]["verificationSends"];
        sends["exhaustedUntil"].as_str().unwrap().parse().unwrap()
    };
    let tomorrow = next_day(walk.clock.now());
    assert_eq!(until().await, tomorrow);
    walk.until(tomorrow - MINUTE);
    assert_eq!(all_wait().await, tried, "not before the next day");

    let mut tried = tried;
    let mut at = tomorrow;
    for hour in 1..=3 {
        walk.until(at + SignedDuration::from_secs(1));
        stand.cloud("one is tried", |it| (it.counts().of(SEND) > tried).then_some(())).await;
        let now = all_wait().await;
        assert!(now - tried <= BEFORE_IT_IS_KNOWN, "{} orders in hour {hour}", now - tried);
        let next = until().await;
        let pause = next.duration_since(walk.clock.now());
        assert!(pause > 50 * MINUTE && pause <= 60 * MINUTE, "{pause:#}");
        walk.until(next - MINUTE);
        assert_eq!(all_wait().await, now, "not before an hour is over");
        (tried, at) = (now, next);
    }
    assert_eq!(sent(stand), Vec::<String>::new());
    // There are messages again.
    stand.simulator.quotas(|quotas| quotas.sends_per_day = 100);
    walk.until(at);
    stand.cloud("all mails", |it| (it.outbox().len() == NAMES.len()).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_key_of_the_hashes_was_lost_nobody_is_asked_before_a_whole_slot_is_over() {
    let mut walk = Walk::new(Options::default()).await;
    let stand = &walk.stand;
    stand.apply("sure", "Kefu", short_slots(json!({}))).await;
    stand.apply("asked", "Shouhou", short_slots(json!({}))).await;
    stand.apply("late", "Yeban", short_slots(json!({}))).await;
    stand.cloud("three mails", |it| (it.outbox().len() == 3).then_some(())).await;
    assert_eq!(stand.simulator.confirm("sure@example.com"), Click::Confirmed);
    stand.ask_directory().await;
    stand.becomes("sure", "EmailVerified", "Verified").await;
    stand.becomes("asked", "EmailVerified", "VerificationSent").await;
    stand.becomes("late", "EmailVerified", "VerificationSent").await;
    stand.delete("late").await;
    stand.is_gone("late").await;
    // Nearly a slot is over when the key is lost: all begins anew.
    walk.later(SLOT - MINUTE);
    let lost = walk.clock.now();
    walk.restart_with_key(8).await;

    let stand = &walk.stand;
    let directory = stand
        .directory_sees("the loss is written down", |found| {
            found.data["status"]["verificationSends"]["hashKeyLostTime"].is_string()
        })
        .await;
    let told = &directory.data["status"]["verificationSends"];
    let told: Timestamp = told["hashKeyLostTime"].as_str().unwrap().parse().unwrap();
    assert!(told.duration_since(lost).abs() < MINUTE, "{told} and {lost}");
    stand.apply("late", "Yeban", short_slots(json!({}))).await;
    let mut next = Vec::new();
    for object in ["sure", "asked", "late"] {
        stand.becomes(object, "EmailVerified", "VerificationSent").await;
        let found = stand.ask(object).await;
        let at = time(&found, "email", "nextSendTime");
        assert!(at.duration_since(lost) >= SLOT - SignedDuration::from_secs(1), "{object}: {at}");
        next.push(at);
    }
    assert_eq!(sent(stand).len(), 3);
    walk.until(*next.iter().min().unwrap() - SignedDuration::from_secs(30));
    for object in ["sure", "asked", "late"] {
        stand.ask(object).await;
    }
    assert_eq!(sent(stand).len(), 3, "not before a whole slot is over");
    walk.until(*next.iter().max().unwrap());
    // Who has confirmed is found out by the order, which the cloud refuses.
    stand.becomes("sure", "EmailVerified", "Verified").await;
    stand.cloud("the others are asked", |it| (it.outbox().len() == 5).then_some(())).await;
    // The loss is told of once: the next start with that key loses nothing.
    let before = stand.object_of_directory().await;
    let before = before.data["status"]["verificationSends"]["hashKeyLostTime"].clone();
    walk.restart_with_key(8).await;
    let stand = &walk.stand;
    let after = stand.ask_directory().await;
    assert_eq!(after.data["status"]["verificationSends"]["hashKeyLostTime"], before);
    for object in ["sure", "asked", "late"] {
        stand.ask(object).await;
    }
    stand.becomes("sure", "EmailVerified", "Verified").await;
    assert_eq!(sent(stand).len(), 5);
}
