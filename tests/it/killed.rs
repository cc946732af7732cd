//! The operator is killed while a call is on its way, and the cloud does the call late. What it
//! leaves where it is killed at a write stands in `crashes.rs`.

use directory_simulator::{Fault, FaultKind, Options, Simulator};
use serde_json::{Value, json};

use crate::process::{Operator, alone};
use crate::stand::Stand;

#[tokio::test(flavor = "multi_thread")]
async fn an_add_that_outlives_its_operator_is_found_and_not_repeated() {
    let alone = alone().await;
    let stand = Stand::on(alone.cluster, Options::default()).await;
    let stranger = stand.stranger("Mings");
    let operator = Operator::start(alone.cluster.kubeconfig_path(), &[&stand]);
    stand.apply_directory(json!({})).await;
    stand.directory_becomes("Ready", "Connected").await;
    stand.simulator.fault(Fault::on("AddMessageContact", FaultKind::Hang { executed: false }));
    stand.apply("late", "Ming", json!({})).await;
    let hangs =
        |it: &Simulator| (it.calls_in_flight() == 1 && it.faults().is_empty()).then_some(());
    stand.cloud("the call is on its way", hangs).await;
    operator.kill();

    let operator = Operator::start(alone.cluster.kubeconfig_path(), &[&stand]);
    let object = stand.becomes("late", "Synced", "OutcomeUnknown").await;
    stand.ask("late").await;
    // The one that hangs is counted when it ends.
    let counts = stand.simulator.counts();
    assert_eq!(counts.of("AddMessageContact"), 0, "repeated at once: {:?}", object.data);
    stand.simulator.release_hanging();
    stand.cloud("it is done", |it| it.state().named("Ming").map(drop)).await;
    stand.ask("late").await;
    let object = stand.becomes("late", "Ready", "InSync").await;

    let state = stand.simulator.state();
    assert_eq!(object.data["status"]["contactId"], json!(state.named("Ming").unwrap().id));
    assert_eq!(object.data["status"]["creation"], Value::Null);
    assert_eq!((state.contacts.len(), stand.simulator.counts().writes), (2, 1));
    assert_eq!(state.contact(&stranger).unwrap().title, "Other");
    // A call that outlived its caller is no overlap of a living one.
    stand.simulator.reset_counts();
    operator.kill();
}
