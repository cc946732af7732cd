//! The operator is killed before and after each of its writes. The next one goes on from there.

use std::time::Duration;

use directory_simulator::{Fault, FaultKind, Options, Simulator};
use kube::api::{DynamicObject, Patch, PatchParams};
use serde_json::{Value, json};

use crate::process::{Operator, alone};
use crate::proxy::{Proxy, Side};
use crate::stand::Stand;

/// What the operator is doing when it is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doing {
    Create,
    Update,
    Delete,
}

/// The moment at which it is killed.
#[derive(Clone, Copy, Debug)]
enum Moment {
    /// At a write to the object, counted from 0.
    Cluster(u32, Side),
    /// While a call is on its way to the cloud, or its answer on the way back.
    Cloud { executed: bool },
    /// As before, and the cloud does the call only after the next operator has looked for it.
    CloudIsLate,
}

const POINTS: &[(Doing, Moment)] = &[
    // Finalizer, intent, Add, id.
    (Doing::Create, Moment::Cluster(0, Side::Before)),
    (Doing::Create, Moment::Cluster(0, Side::After)),
    (Doing::Create, Moment::Cluster(1, Side::Before)),
    (Doing::Create, Moment::Cluster(1, Side::After)),
    (Doing::Create, Moment::Cloud { executed: false }),
    (Doing::Create, Moment::CloudIsLate),
    (Doing::Create, Moment::Cloud { executed: true }),
    (Doing::Create, Moment::Cluster(2, Side::Before)),
    (Doing::Create, Moment::Cluster(2, Side::After)),
    // Update, what was written.
    (Doing::Update, Moment::Cloud { executed: false }),
    (Doing::Update, Moment::Cloud { executed: true }),
    (Doing::Update, Moment::Cluster(0, Side::Before)),
    (Doing::Update, Moment::Cluster(0, Side::After)),
    // Delete, finalizer.
    (Doing::Delete, Moment::Cloud { executed: false }),
    (Doing::Delete, Moment::Cloud { executed: true }),
    (Doing::Delete, Moment::Cluster(0, Side::Before)),
    (Doing::Delete, Moment::Cluster(0, Side::After)),
];

/// How long a call takes that is lost.
const LATENCY: Duration = Duration::from_secs(1);

impl Doing {
    fn action(self) -> &'static str {
        match self {
            Self::Create => "AddMessageContact",
            Self::Update => "UpdateMessageContact",
            Self::Delete => "DeleteMessageContact",
        }
    }

    async fn begin(self, stand: &Stand) {
        match self {
            Self::Create => drop(stand.apply("victim", "Ming", json!({})).await),
            Self::Update => drop(stand.apply("victim", "Ming", json!({ "title": "CEO" })).await),
            Self::Delete => stand.delete("victim").await,
        }
    }
}

/// Dates an open intent back, as if the minute in which a late gateway may still act were over.
async fn a_minute_passes(stand: &Stand) {
    let object = stand.contacts().get("victim").await.unwrap();
    let text = object.data["status"]["creation"]["at"].as_str().unwrap();
    let at: jiff::Timestamp = text.parse().unwrap();
    let earlier = at - jiff::SignedDuration::from_secs(90);
    let patch = json!({ "status": { "creation": { "at": earlier.to_string() } } });
    let patch = Patch::Merge(&patch);
    stand.contacts().patch_status("victim", &PatchParams::default(), &patch).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_that_is_killed_at_any_point_leaves_no_duplicate_and_no_orphan() {
    let alone = alone().await;
    let proxy = Proxy::start(alone.cluster).await;
    let kubeconfig = proxy.kubeconfig();
    let mut victims = Vec::new();
    for (doing, moment) in POINTS {
        let stand = Stand::on(alone.cluster, Options::default()).await;
        victims.push((*doing, *moment, stand.stranger("Mings"), stand));
    }
    let stands: Vec<&Stand> = victims.iter().map(|(.., stand)| stand).collect();

    for (doing, moment, _, stand) in &victims {
        // It may reach this story's cloud only: the others wait for the last operator.
        let operator = Operator::start(&kubeconfig, &[stand]);
        stand.apply_directory(json!({})).await;
        stand.directory_becomes("Ready", "Connected").await;
        if *doing != Doing::Create {
            Doing::Create.begin(stand).await;
            stand.becomes("victim", "Ready", "InSync").await;
        }
        match moment {
            Moment::Cluster(skip, side) => {
                proxy.hold_write(&format!("/{}/messagecontacts/", stand.namespace), *skip, *side);
                doing.begin(stand).await;
                proxy.reached().await;
            }
            Moment::Cloud { .. } | Moment::CloudIsLate => {
                let fault = match moment {
                    // It is lost on the way, which takes longer than the killing.
                    Moment::Cloud { executed: false } => {
                        stand.simulator.latency(LATENCY);
                        FaultKind::Drop { executed: false }
                    }
                    _ => FaultKind::Hang { executed: matches!(moment, Moment::Cloud { .. }) },
                };
                stand.simulator.fault(Fault::on(doing.action(), fault));
                doing.begin(stand).await;
                let hangs = |it: &Simulator| {
                    (it.calls_in_flight() == 1 && it.faults().is_empty()).then_some(())
                };
                stand.cloud("the call is on its way", hangs).await;
            }
        }
        operator.kill();
        if let Moment::Cloud { .. } = moment {
            stand.simulator.release_hanging();
            stand.cloud("it has ended", |it| (it.calls_in_flight() == 0).then_some(())).await;
            stand.simulator.latency(Duration::ZERO);
        }
    }

    let operator = Operator::start(&kubeconfig, &stands);
    for (doing, moment, stranger, stand) in &victims {
        let case = format!("killed at {doing:?}, {moment:?}");
        if waits_for_the_minute(*doing, *moment) {
            let object = stand.becomes("victim", "Synced", "OutcomeUnknown").await;
            stand.ask("victim").await;
            assert_eq!(stand.simulator.state().named("Ming"), None, "{case}: {:?}", object.data);
            if matches!(moment, Moment::CloudIsLate) {
                stand.simulator.release_hanging();
                stand.cloud("it is late", |it| it.state().named("Ming").map(drop)).await;
                stand.ask("victim").await;
            } else {
                a_minute_passes(stand).await;
            }
        }
        if *doing == Doing::Delete {
            stand.is_gone("victim").await;
        } else {
            let object = stand.becomes("victim", "Ready", "InSync").await;
            is_whole(stand, &object, *doing, &case);
        }
        let state = stand.simulator.state();
        let left = 1 + usize::from(*doing != Doing::Delete);
        assert_eq!(state.contacts.len(), left, "{case}: {:?}", state.contacts);
        assert_eq!(state.contact(stranger).unwrap().title, "Other", "{case}");
        let writes = 1 + u64::from(*doing != Doing::Create);
        assert_eq!(stand.simulator.counts().writes, writes, "{case}");
        // A call that outlived its caller is no overlap of a living one.
        stand.simulator.reset_counts();
    }
    eprintln!("{} kill points", victims.len());
    operator.kill();
}

/// Nobody can tell yet that the Add was not made.
fn waits_for_the_minute(doing: Doing, moment: Moment) -> bool {
    doing == Doing::Create
        && matches!(
            moment,
            Moment::Cluster(1, Side::After)
                | Moment::Cloud { executed: false }
                | Moment::CloudIsLate
        )
}

fn is_whole(stand: &Stand, object: &DynamicObject, doing: Doing, case: &str) {
    let state = stand.simulator.state();
    let contact = state.named("Ming").unwrap();
    assert_eq!(object.data["status"]["contactId"], json!(contact.id), "{case}");
    assert_eq!(object.data["status"]["creation"], Value::Null, "{case}");
    let title = if doing == Doing::Update { "CEO" } else { "TechnicalDirector" };
    assert_eq!(contact.title, title, "{case}");
    assert_eq!(object.metadata.finalizers.as_deref().unwrap_or_default().len(), 1, "{case}");
}
