//! Somebody keeps changing a field back: it is put right five times an hour, and no more.

use std::time::Duration;

use cluster::Cluster;
use directory_simulator::switches::EmptyPhone;
use directory_simulator::{ContactChange, Fault, FaultKind, Options};
use jiff::SignedDuration;
use kube::Client;
use kube::api::DynamicObject;
use message_contact_operator::clock::Clock;
use serde_json::json;
use tokio::task::JoinHandle;

use crate::drift::remembered;
use crate::process::{Alone, alone};
use crate::stand::{self, PATIENCE, Stand, assert_stalled, condition_of, message_of};

fn operator(cluster: &Cluster, clock: &Clock) -> JoinHandle<()> {
    let client = Client::try_from(cluster.config()).unwrap();
    tokio::spawn(stand::run_operator(client, clock.clone()))
}

async fn ends(operator: JoinHandle<()>) {
    operator.abort();
    let _ = operator.await;
}

fn titled(title: &str) -> ContactChange {
    ContactChange { title: Some(title.to_owned()), ..ContactChange::default() }
}

fn updates(stand: &Stand) -> u64 {
    stand.simulator.counts().of("UpdateMessageContact")
}

/// Somebody changes the title, the directory is listed, and the operator has looked.
async fn changed_back(stand: &Stand, id: &str) {
    assert!(stand.simulator.change_contact(id, titled("CEO")));
    stand.ask_directory().await;
}

/// The name is put right while the title, which is fought over, stays as it is.
async fn other_field_is_put_right(stand: &Stand, id: &str, times: usize) {
    let name = ContactChange { name: Some("Linxiangru".to_owned()), ..ContactChange::default() };
    assert!(stand.simulator.change_contact(id, name));
    stand.ask_directory().await;
    let known = |object: &DynamicObject| remembered(object).contains(&("name".to_owned(), times));
    let object = stand.sees("fought", "the name is put right", known).await;
    assert_eq!(condition_of(&object, "Synced")["reason"], "DriftContested");
    let contact = stand.in_cloud(id);
    assert_eq!((contact.name.as_str(), contact.title.as_str()), ("Lianpoqi", "CEO"));
}

async fn put_right(stand: &Stand, id: &str, times: usize) -> DynamicObject {
    changed_back(stand, id).await;
    let object = stand
        .sees("fought", "it is put right once more", |object| {
            remembered(object) == [("title".to_owned(), times)]
                && condition_of(object, "Synced")["status"] == "True"
        })
        .await;
    assert_eq!(stand.in_cloud(id).title, "TechnicalDirector");
    object
}

#[tokio::test(flavor = "multi_thread")]
async fn a_field_is_put_right_five_times_an_hour_whatever_is_restarted() {
    static CLUSTER: tokio::sync::OnceCell<Cluster> = tokio::sync::OnceCell::const_new();
    let cluster = CLUSTER.get_or_init(stand::another_cluster).await;
    let clock = Clock::system();
    let mut running = operator(cluster, &clock);
    let stand = Stand::on(cluster, Options::default()).await;
    // Long enough for no poll to come by itself.
    stand.apply_directory(json!({ "pollInterval": "24h" })).await;
    stand.directory_becomes("Ready", "Connected").await;
    let id = stand.settled("fought", "Lianpoqi", json!({})).await;
    let bystander = stand.bystander("Lianpoqier");
    let walk = |minutes: u64| {
        stand.simulator.advance(Duration::from_mins(minutes));
        clock.advance(SignedDuration::try_from(Duration::from_mins(minutes)).unwrap());
    };

    for times in 1..=3 {
        put_right(&stand, &id, times).await;
        walk(5);
    }
    // The memory stands in the status: the next process goes on counting.
    ends(running).await;
    running = operator(cluster, &clock);
    for times in 4..=5 {
        let object = put_right(&stand, &id, times).await;
        let entry = &object.data["status"]["drift"][0];
        assert_eq!(
            (&entry["desired"], &entry["observed"]),
            (&json!("TechnicalDirector"), &json!("CEO"))
        );
        walk(5);
    }
    assert_eq!(updates(&stand), 5);

    // 25 minutes after the first.
    changed_back(&stand, &id).await;
    let object = stand.becomes("fought", "Synced", "DriftContested").await;
    assert_stalled(&object, false);
    assert!(message_of(&object, "Synced").contains("`title`"));
    assert!(stand.told().await.events.contains("DriftContested"));
    ends(running).await;
    running = operator(cluster, &clock);
    stand.ask_directory().await;
    // Other fields are put right meanwhile.
    other_field_is_put_right(&stand, &id, 1).await;
    assert_eq!(updates(&stand), 6);

    // Looked at again when the first of the five is an hour old: one more, and then none again.
    walk(34);
    other_field_is_put_right(&stand, &id, 2).await;
    assert_eq!(updates(&stand), 7);
    walk(2);
    stand.becomes("fought", "Synced", "InSync").await;
    assert_eq!((updates(&stand), &*stand.in_cloud(&id).title), (8, "TechnicalDirector"));
    changed_back(&stand, &id).await;
    stand.becomes("fought", "Synced", "DriftContested").await;
    assert_eq!(updates(&stand), 8);

    // The other side gives in, and an hour later nothing is remembered; then nothing ticks.
    assert!(stand.simulator.change_contact(&id, titled("TechnicalDirector")));
    stand.ask_directory().await;
    stand.becomes("fought", "Synced", "InSync").await;
    walk(61);
    let clean = |object: &DynamicObject| object.data["status"].get("drift").is_none();
    let object = stand.sees("fought", "it is forgotten", clean).await;
    for _ in 0..3 {
        walk(61);
        stand.ask_directory().await;
    }
    let now = stand.object("fought").await;
    assert_eq!(now.metadata.resource_version, object.metadata.resource_version);
    assert_eq!(updates(&stand), 8);
    stand.is_untouched(&bystander);
    ends(running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_may_ask_for_one_more_try_and_an_edit_is_no_fight() {
    let stand = Stand::new().await;
    let id = stand.settled("fought", "Wangben", json!({})).await;
    for times in 1..=5 {
        put_right(&stand, &id, times).await;
    }
    changed_back(&stand, &id).await;
    stand.becomes("fought", "Synced", "DriftContested").await;
    let object = stand.ask("fought").await;
    assert_eq!(condition_of(&object, "Synced")["reason"], "InSync");
    assert_eq!(updates(&stand), 6);
    changed_back(&stand, &id).await;
    stand.becomes("fought", "Synced", "DriftContested").await;
    assert_eq!(updates(&stand), 6);

    stand.settled("fought", "Wangben", json!({ "title": "ProjectDirector" })).await;
    assert_eq!((updates(&stand), stand.in_cloud(&id).title.as_str()), (7, "ProjectDirector"));
    changed_back(&stand, &id).await;
    stand.becomes("fought", "Synced", "DriftContested").await;
    assert_eq!(updates(&stand), 7);
}

/// A failure in between made each repair look like an edit, which is not counted.
#[tokio::test(flavor = "multi_thread")]
async fn refusals_in_between_hide_no_fight() {
    let stand = Stand::new().await;
    let id = stand.settled("fought", "Mengtian", json!({})).await;
    for times in 1..=5 {
        let refused = FaultKind::error(503, "ServiceUnavailable");
        stand.simulator.fault(Fault::on("UpdateMessageContact", refused));
        put_right(&stand, &id, times).await;
    }
    changed_back(&stand, &id).await;
    stand.becomes("fought", "Synced", "DriftContested").await;
    let done = cluster::wait_for(PATIENCE, "five were done", || {
        let calls = stand.simulator.counts();
        let done = calls.writes;
        std::future::ready(if done == 6 { Ok(()) } else { Err(done) })
    });
    done.await.unwrap();
}

/// An operator of the story's own that is alone in its cluster, and a directory that is listed only when somebody asks.
struct Own {
    alone: Alone,
    stand: Stand,
    clock: Clock,
    running: JoinHandle<()>,
}

impl Own {
    async fn new() -> Self {
        let alone = alone().await;
        let clock = Clock::system();
        let running = operator(alone.cluster, &clock);
        let stand = Stand::on(alone.cluster, Options::default()).await;
        stand.apply_directory(json!({ "pollInterval": "24h" })).await;
        stand.directory_becomes("Ready", "Connected").await;
        Self { alone, stand, clock, running }
    }

    /// The operator dies, another one begins, and has listed the directory and looked.
    async fn restart(&mut self) {
        self.running.abort();
        let _ = (&mut self.running).await;
        self.running = operator(self.alone.cluster, &self.clock);
        self.stand.ask_directory().await;
        self.stand.all_seen().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn since_when_a_field_differs_outlives_the_operator() {
    let mut own = Own::new().await;
    let report = json!({ "reconcilePolicy": "ReportOnly" });
    let id = own.stand.settled("watched", "Mengao", json!({})).await;
    own.stand.settled("watched", "Mengao", report).await;
    changed_back(&own.stand, &id).await;
    let object = own.stand.becomes("watched", "Synced", "Drifted").await;
    let since = object.data["status"]["drift"][0]["since"].clone();
    assert!(since.is_string());
    for _ in 0..2 {
        own.stand.simulator.advance(Duration::from_mins(3));
        own.clock.advance(SignedDuration::from_mins(3));
        own.restart().await;
        let object = own.stand.becomes("watched", "Synced", "Drifted").await;
        assert_eq!(object.data["status"]["drift"][0]["since"], since);
    }
    assert_eq!(updates(&own.stand), 0);
    ends(own.running).await;
}

/// An answer of the cloud to an update that it has not made.
fn pretended() -> Fault {
    let kind = FaultKind::Raw {
        status: 200,
        headers: Vec::new(),
        body: r#"{"RequestId":"51A00000-0000-4000-8000-00000000000F"}"#.to_owned(),
        repeat: 1,
        executed: false,
    };
    Fault::on("UpdateMessageContact", kind)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_reads_back_differently_is_counted_over_restarts() {
    let mut own = Own::new().await;
    let id = own.stand.settled("stubborn", "Wangjian", json!({})).await;
    let bystander = own.stand.bystander("Wangjianzi");
    own.stand.simulator.fault(pretended());
    // What ends the pass in between: the second update is refused.
    let refused = FaultKind::error(503, "ServiceUnavailable");
    own.stand.simulator.fault(Fault::on("UpdateMessageContact", refused));
    assert!(own.stand.simulator.change_contact(&id, titled("CEO")));
    own.stand.ask_directory().await;
    let once = |object: &DynamicObject| object.data["status"]["lastWrite"]["mismatches"] == 1;
    own.stand.sees("stubborn", "the first one is written down", once).await;
    own.stand
        .cloud("the second is refused", |it| {
            (it.counts().of("UpdateMessageContact") == 2).then_some(())
        })
        .await;
    own.stand.simulator.clear_faults();
    own.stand.simulator.fault(pretended().times(100));
    own.restart().await;
    own.stand.becomes("stubborn", "Synced", "DriftContested").await;
    assert_eq!(updates(&own.stand), 3, "two were answered, and one was refused");
    for _ in 0..2 {
        own.restart().await;
        own.stand.becomes("stubborn", "Synced", "DriftContested").await;
        assert_eq!(updates(&own.stand), 3);
    }
    own.stand.is_untouched(&bystander);
    ends(own.running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_number_that_cannot_be_taken_out_is_not_asked_for_again_after_a_restart() {
    for answer in [EmptyPhone::Ignore, EmptyPhone::Reject] {
        let mut own = Own::new().await;
        own.stand.simulator.switches(|switches| switches.empty_phone = answer);
        let phone = json!({ "phoneNumber": "86-13800138031" });
        own.stand.settled("kept", "Lisu", phone).await;
        own.stand.apply("kept", "Lisu", json!({})).await;
        own.stand.becomes("kept", "Synced", "NotRemovable").await;
        let before = updates(&own.stand);
        assert_eq!(before, if answer == EmptyPhone::Ignore { 2 } else { 1 });
        for _ in 0..2 {
            own.restart().await;
            own.stand.becomes("kept", "Synced", "NotRemovable").await;
            assert_eq!(updates(&own.stand), before, "{answer:?}");
        }
        ends(own.running).await;
    }
}
