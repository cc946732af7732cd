//! A `ResourceDirectory` from its first connection on: which directory it stands for, which
//! namespaces may live in it, and what it shows.

use directory_simulator::{NewContact, Options, Quotas};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, Patch, PatchParams};
use message_contact_operator::api;
use message_contact_operator::clock::Clock;
use serde_json::{Value, json};

use crate::same_name::a_second_later;
use crate::stand::{self, Own, Stand, assert_stalled, becomes, cluster, condition_of, message_of};

/// The id of the directory that a stand's simulator is.
fn id_of(stand: &Stand) -> String {
    stand.simulator.settings()["tree"]["directory_id"].as_str().unwrap().to_owned()
}

fn there(other: &Stand) -> Value {
    json!({ "endpoint": other.simulator.endpoint() })
}

#[tokio::test(flavor = "multi_thread")]
async fn another_directory_behind_the_same_object_is_not_written_to() {
    let stand = Stand::new().await;
    let other = Stand::unconnected(Options::default()).await;
    let home = stand.settled("settler", "Yuefei", json!({})).await;
    // The other directory has a contact of that name, and even of that id there is none.
    let bystander = other.bystander("Yuefei");
    stand.apply_directory(there(&other)).await;
    let directory = stand.directory_becomes("Ready", "DirectoryChanged").await;
    assert_stalled(&directory, false);
    let message = message_of(&directory, "Ready");
    for word in [id_of(&stand), id_of(&other), format!("`directoryId: {}`", id_of(&other))] {
        assert!(message.contains(&word), "{word} in {message}");
    }
    assert_eq!(directory.data["status"]["directoryId"], json!(id_of(&stand)), "what was meant");
    let object = stand.becomes("settler", "Synced", "WrongDirectory").await;
    assert_stalled(&object, true);

    // Neither an edit, nor a new object, nor a request has anything written.
    stand.apply("settler", "Yuefei", json!({ "title": "CEO" })).await;
    stand.apply("newcomer", "Hanshizhong", json!({})).await;
    stand.becomes("settler", "Synced", "WrongDirectory").await;
    stand.becomes("newcomer", "Synced", "DirectoryNotReady").await;
    stand.ask("newcomer").await;
    stand.ask_directory().await;
    stand.directory_becomes("Ready", "DirectoryChanged").await;
    // A deletion waits too, and tells of the way out.
    stand.delete("settler").await;
    let object = stand.becomes("settler", "Synced", "DeletionFailed").await;
    assert!(message_of(&object, "Synced").contains("deletionPolicy: Retain"));
    assert_eq!(other.simulator.counts().writes, 0);
    assert_eq!(other.actions_since(0).iter().filter(|it| *it != "GetResourceDirectory").count(), 0);
    other.is_untouched(&bystander);

    // Back: everything goes on.
    stand.apply_directory(json!({})).await;
    stand.directory_becomes("Ready", "Connected").await;
    stand.is_gone("settler").await;
    stand.becomes("newcomer", "Ready", "InSync").await;
    assert!(stand.simulator.state().contact(&home).is_none());
    assert_eq!(other.simulator.counts().writes, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_writes_the_id_that_answers_goes_on_with_that_directory() {
    let stand = Stand::new().await;
    let other = Stand::unconnected(Options::default()).await;
    let id = stand.settled("left", "Xinqiji", json!({})).await;
    stand.apply_directory(there(&other)).await;
    stand.directory_becomes("Ready", "DirectoryChanged").await;
    stand.apply("left", "Xinqiji", json!({ "title": "CEO" })).await;
    stand.apply("begun", "Luyou", json!({})).await;
    stand.becomes("begun", "Synced", "DirectoryNotReady").await;

    let mut spec = there(&other);
    spec["directoryId"] = json!(id_of(&other));
    stand.apply_directory(spec).await;
    let directory = stand.directory_becomes("Ready", "Connected").await;
    assert_eq!(directory.data["status"]["directoryId"], json!(id_of(&other)));
    stand.becomes("begun", "Ready", "InSync").await;
    // Whoever lives elsewhere stays there, untouched, until a person decides.
    stand.becomes("left", "Synced", "WrongDirectory").await;
    let names = |stand: &Stand| {
        let contacts = stand.simulator.state().contacts;
        contacts.iter().map(|contact| contact.name.clone()).collect::<Vec<_>>()
    };
    assert_eq!((names(&stand), names(&other)), (vec!["Xinqiji".into()], vec!["Luyou".into()]));
    assert_eq!(stand.in_cloud(&id).title, "TechnicalDirector");
    stand.apply("left", "Xinqiji", json!({ "deletionPolicy": "Retain" })).await;
    stand.delete("left").await;
    stand.is_gone("left").await;
    assert_eq!(names(&stand), ["Xinqiji"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_in_which_nobody_lives_may_be_pointed_anywhere() {
    let stand = Stand::new().await;
    let other = Stand::unconnected(Options::default()).await;
    // The near match: an object that holds nothing does not tie it.
    let bystander = stand.bystander("Wentianxiang");
    let fields = json!({ "reconcilePolicy": "ReportOnly", "adoptionPolicy": "Never" });
    stand.apply("nobody", "Wentianxiang", fields).await;
    stand.becomes("nobody", "Synced", "NameTaken").await;
    stand.apply_directory(there(&other)).await;
    stand.becomes("nobody", "Synced", "Drifted").await;
    let directory = stand.directory_becomes("Ready", "Connected").await;
    assert_eq!(directory.data["status"]["directoryId"], json!(id_of(&other)));
    stand.apply("nobody", "Wentianxiang", json!({})).await;
    stand.becomes("nobody", "Ready", "InSync").await;
    assert_eq!(other.simulator.state().contacts.len(), 1);
    stand.is_untouched(&bystander);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_directory_is_told_after_a_restart_too() {
    let ended_with_this = Own::new(stand::another_cluster().await);
    let own = ended_with_this.cluster();
    let stand = Stand::on(own, Options::default()).await;
    let other = Stand::on(own, Options::default()).await;
    let operator = tokio::spawn(stand::run_operator(own.client(), Clock::system()));
    stand.apply_directory(json!({})).await;
    stand.settled("settler", "Wuzetian", json!({})).await;
    operator.abort();
    assert!(operator.await.unwrap_err().is_cancelled());

    stand.apply_directory(there(&other)).await;
    stand.apply("settler", "Wuzetian", json!({ "title": "CEO" })).await;
    stand.apply("newcomer", "Shangguan", json!({})).await;
    let operator = tokio::spawn(stand::run_operator(own.client(), Clock::system()));
    stand.directory_becomes("Ready", "DirectoryChanged").await;
    stand.becomes("settler", "Synced", "WrongDirectory").await;
    stand.becomes("newcomer", "Synced", "DirectoryNotReady").await;
    assert_eq!(other.simulator.counts().writes, 0);
    operator.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_objects_the_second_takes_over_when_the_first_is_suspended_and_keeps_it() {
    let ended_with_this = Own::new(stand::another_cluster().await);
    let own = ended_with_this.cluster();
    let mut stand = Stand::on(own, Options::default()).await;
    let operator = tokio::spawn(stand::run_operator(own.client(), Clock::system()));
    stand.apply_directory(json!({})).await;
    let elder = stand.directory_becomes("Ready", "Connected").await;
    a_second_later(&elder).await;
    let first = stand.directory.clone();
    let second = format!("{first}-second");
    stand.directory = second.clone();
    stand.apply_directory(json!({})).await;
    stand.directory_becomes("Ready", "DuplicateDirectory").await;
    stand.apply("taken-over", "Duxunhe", json!({})).await;
    stand.becomes("taken-over", "Synced", "DirectoryNotReady").await;

    stand.directory = first.clone();
    stand.apply_directory(json!({ "suspend": true })).await;
    stand.directory_becomes("Ready", "Suspended").await;
    becomes(&stand.directories(), &second, "Ready", "Connected").await;
    stand.becomes("taken-over", "Ready", "InSync").await;
    // The elder one comes too late now.
    stand.apply_directory(json!({})).await;
    stand.directory_becomes("Ready", "DuplicateDirectory").await;

    // Nor does a restart give it back, although it would be listed first.
    operator.abort();
    assert!(operator.await.unwrap_err().is_cancelled());
    stand.simulator.reset_counts();
    let operator = tokio::spawn(stand::run_operator(own.client(), Clock::system()));
    stand.ask_directory().await;
    stand.directory_becomes("Ready", "DuplicateDirectory").await;
    stand.directory = second.clone();
    stand.ask_directory().await;
    stand.directory_becomes("Ready", "Connected").await;
    stand.ask("taken-over").await;
    stand.becomes("taken-over", "Ready", "InSync").await;
    assert_eq!(stand.simulator.counts().writes, 0);
    operator.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_selector_that_changes_lets_namespaces_in_and_out() {
    let blue = json!({ "namespaces": { "matchLabels": { "team": "blue" } } });
    let either = json!({ "namespaces": { "matchExpressions":
        [{ "key": "team", "operator": "In", "values": ["blue", "red"] }] } });
    let stand = Stand::with(Options::default(), blue.clone()).await;
    stand.label_namespace(json!({ "team": "red" })).await;
    stand.apply("guest", "Libai", json!({})).await;
    let object = stand.becomes("guest", "Synced", "NamespaceNotAllowed").await;
    assert_stalled(&object, true);
    stand.apply_directory(either.clone()).await;
    let object = stand.becomes("guest", "Ready", "InSync").await;
    let id = object.data["status"]["contactId"].as_str().unwrap().to_owned();

    // A write that waits for its turn is not made any more.
    stand.simulator.hold();
    stand.apply("guest", "Libai", json!({ "title": "CEO" })).await;
    let refused = |sim: &directory_simulator::Simulator| {
        (sim.counts().ended("ConcurrentCallNotSupported") > 0).then_some(())
    };
    stand.cloud("the write is refused while somebody else holds the directory", refused).await;
    stand.apply_directory(blue).await;
    stand.becomes("guest", "Synced", "NamespaceNotAllowed").await;
    stand.simulator.release();
    stand.ask("guest").await;
    stand.ask_directory().await;
    assert_eq!(stand.in_cloud(&id).title, "TechnicalDirector");

    // Who is out and holds nothing goes, and leaves the namesake in the cloud alone.
    let bystander = stand.bystander("Dufu");
    stand.apply("late", "Dufu", json!({ "adoptionPolicy": "Always" })).await;
    stand.becomes("late", "Synced", "NamespaceNotAllowed").await;
    stand.delete("late").await;
    stand.is_gone("late").await;
    stand.is_untouched(&bystander);
    // Who holds a contact takes it along.
    stand.delete("guest").await;
    stand.is_gone("guest").await;
    assert!(stand.simulator.state().contact(&id).is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_manages_is_counted_and_the_first_fifty_are_named() {
    let quotas = Quotas { contacts: 100, ..Quotas::default() };
    let stand = Stand::with(Options { quotas, ..Options::default() }, json!({})).await;
    stand.settled("managed", "Sushi", json!({})).await;
    let letters = |number: u8| {
        [number / 26, number % 26].map(|digit| char::from(b'a' + digit)).iter().collect::<String>()
    };
    for number in 0..53 {
        let name = format!("Fremd{}", letters(number));
        stand.simulator.insert_contact(NewContact::new(&name, "fremd@example.com"));
    }
    let directory = stand.ask_directory().await;
    let status = &directory.data["status"];
    let counts = &status["contacts"];
    let figures = ["observed", "managed", "unmanaged"].map(|figure| counts[figure].as_i64());
    assert_eq!(figures, [Some(54), Some(1), Some(53)], "{status}");
    let unmanaged = status["unmanaged"].as_array().unwrap();
    assert_eq!(unmanaged.len(), 50);
    let state = stand.simulator.state();
    for named in unmanaged {
        let contact = state.contact(named["contactId"].as_str().unwrap()).unwrap();
        assert_eq!(named["name"], json!(contact.name));
        assert!(contact.name.starts_with("Fremd"), "{named}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_directory_lets_no_contact_be_deleted_and_goes_on_where_it_was() {
    let stand = Stand::new().await;
    let id = stand.settled("asleep", "Wangwei", json!({})).await;
    let kept = stand.settled("kept", "Wangweia", json!({})).await;
    stand.apply_directory(json!({ "suspend": true })).await;
    stand.directory_becomes("Ready", "Suspended").await;
    let calls = stand.simulator.counts().calls;
    for object in ["asleep", "kept"] {
        stand.becomes(object, "Synced", "DirectoryNotReady").await;
        stand.delete(object).await;
        let found = stand.becomes(object, "Synced", "DeletionFailed").await;
        let message = message_of(&found, "Synced");
        assert!(message.contains("is suspended") && message.contains("Retain"), "{message}");
    }
    let retain = Patch::Merge(json!({ "spec": { "deletionPolicy": "Retain" } }));
    stand.contacts().patch("kept", &PatchParams::default(), &retain).await.unwrap();
    stand.is_gone("kept").await;
    assert_eq!(stand.simulator.counts().calls, calls);
    stand.apply_directory(json!({})).await;
    stand.is_gone("asleep").await;
    assert!(stand.simulator.state().contact(&id).is_none());
    assert_eq!(stand.in_cloud(&kept).name, "Wangweia");
}

/// The schema with nothing in it that refuses a value.
fn without_limits(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            for limit in ["enum", "minimum", "maximum", "maxLength", "x-kubernetes-validations"] {
                fields.remove(limit);
            }
            fields.values_mut().for_each(without_limits);
        }
        Value::Array(items) => items.iter_mut().for_each(without_limits),
        _ => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spec_that_got_past_the_schema_is_told_with_its_field_and_nothing_is_called() {
    let ended_with_this = Own::new(stand::another_cluster().await);
    let own = ended_with_this.cluster();
    let lax: Vec<CustomResourceDefinition> = api::crds()
        .into_iter()
        .filter(|crd| crd.spec.names.kind == "ResourceDirectory")
        .map(|crd| {
            let mut value = serde_json::to_value(&crd).unwrap();
            without_limits(&mut value["spec"]["versions"][0]["schema"]);
            serde_json::from_value(value).unwrap()
        })
        .collect();
    own.apply_crds(&lax).await.unwrap();
    let stand = Stand::on(own, Options::default()).await;
    let cases = [
        (json!({ "management": "Some" }), "Unreachable"),
        (json!({ "directoryId": "directory" }), "Unreachable"),
        (json!({ "pollInterval": "soon" }), "Unreachable"),
        (json!({ "requestsPerSecond": 0 }), "Unreachable"),
        (json!({ "endpoint": "127.0.0.1" }), "EndpointNotAllowed"),
        (json!({ "endpoint": null, "site": "Moon" }), "EndpointNotAllowed"),
        (json!({ "credentials": { "source": "Hat" } }), "Unauthorized"),
    ];
    let operator = tokio::spawn(stand::run_operator(own.client(), Clock::system()));
    stand.apply("waiting", "Qianqianyi", json!({})).await;
    for (spec, reason) in cases {
        stand.apply_directory(spec.clone()).await;
        let directory = stand.directory_becomes("Ready", reason).await;
        let field = spec.as_object().unwrap().iter().find(|(_, value)| !value.is_null()).unwrap().0;
        let message = message_of(&directory, "Ready");
        assert!(message.starts_with(&format!("spec.{field}")), "{spec}: {message}");
        assert!(!message.contains("Moon") && !message.contains("soon"), "{message}");
        assert_ne!(condition_of(&directory, "Stalled")["status"], "True");
        stand.becomes("waiting", "Synced", "DirectoryNotReady").await;
    }
    assert_eq!(stand.simulator.counts().calls, 0);
    stand.apply_directory(json!({})).await;
    stand.becomes("waiting", "Ready", "InSync").await;
    operator.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_on_a_directory_lists_it_now_and_is_echoed() {
    let stand = Stand::with(Options::default(), json!({ "pollInterval": "1h" })).await;
    let id = stand.settled("drifting", "Baijuyi", json!({})).await;
    let change = directory_simulator::ContactChange {
        title: Some("Other".to_owned()),
        ..directory_simulator::ContactChange::default()
    };
    assert!(stand.simulator.change_contact(&id, change));
    let text = format!("{}ü{}", "x".repeat(127), "y".repeat(80));
    let cluster = cluster().await;
    let directories: Api<kube::api::DynamicObject> = Api::all_with(
        cluster.client(),
        &kube::core::ApiResource::erase::<api::ResourceDirectory>(&()),
    );
    stand::request(&directories, &stand.directory, &text).await;
    let handled = |title: &str| {
        let shown = stand.in_cloud(&id).title == title;
        shown.then_some(())
    };
    stand.cloud("the drift is put right", |_| handled("TechnicalDirector")).await;
    let echoed = cluster::wait_for(stand::PATIENCE, "the request is echoed", || async {
        let found = stand.object_of_directory().await;
        let echo = found.data["status"]["lastHandledReconcileAt"].as_str().map(str::to_owned);
        echo.ok_or_else(|| found.data["status"].to_string())
    })
    .await
    .unwrap();
    assert_eq!(echoed, "x".repeat(127), "cut where a character begins");
}
