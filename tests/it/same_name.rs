//! Several objects want one name: one of them gets it, and nothing changes for a holder.

use directory_simulator::Options;
use k8s_openapi::jiff::Timestamp;
use kube::api::{DeleteParams, DynamicObject};
use serde_json::{Value, json};

use crate::stand::{
    PATIENCE, Stand, apply, assert_stalled, becomes, cluster, condition_of, message_of,
};

/// Waits for the next second: creation times are whole ones.
pub async fn a_second_later(than: &DynamicObject) {
    let created = than.metadata.creation_timestamp.clone().unwrap().0;
    cluster::wait_for(PATIENCE, "the next second", || async {
        let now = Timestamp::now().as_second();
        if now > created.as_second() { Ok(()) } else { Err(now) }
    })
    .await
    .unwrap();
}

fn emails(stand: &Stand, name: &str) -> Vec<String> {
    let state = stand.simulator.state();
    let named = state.contacts.iter().filter(|contact| contact.name.eq_ignore_ascii_case(name));
    named.filter_map(|contact| Some(contact.email.pending.as_ref()?.value.clone())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_objects_the_older_gets_the_name() {
    let stand = Stand::unconnected(Options::default()).await;
    // The younger one's object name comes first in every list.
    let older = stand.apply("zeta", "Baiqi", json!({})).await;
    a_second_later(&older).await;
    stand.apply("alpha", "Baiqi", json!({})).await;
    // The near match: letter case alone makes no other name, one letter more does.
    stand.apply("beta", "BAIQI", json!({})).await;
    stand.apply("gamma", "Baiqia", json!({})).await;
    stand.apply_directory(json!({})).await;

    stand.becomes("zeta", "Ready", "InSync").await;
    stand.becomes("gamma", "Ready", "InSync").await;
    for loser in ["alpha", "beta"] {
        stand.becomes(loser, "Synced", "NameClaimed").await;
        let object = stand.ask(loser).await;
        assert_stalled(&object, true);
        assert!(object.data["status"].get("observed").is_none());
    }
    assert_eq!(emails(&stand, "Baiqi"), ["zeta@example.com"]);
    assert_eq!(stand.simulator.counts().of("AddMessageContact"), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_holder_keeps_its_name_against_an_older_object() {
    let stand = Stand::new().await;
    let older = stand.apply("older", "Lisixian", json!({})).await;
    stand.becomes("older", "Ready", "InSync").await;
    a_second_later(&older).await;
    stand.apply("holder", "Wangjian", json!({})).await;
    let before = stand.becomes("holder", "Ready", "InSync").await;

    // It also may want other fields: none of them is written under the old name.
    stand.apply("older", "Wangjian", json!({ "title": "CEO" })).await;
    stand.becomes("older", "Synced", "NameClaimed").await;
    let object = stand.ask("older").await;
    assert_stalled(&object, true);
    assert_eq!(object.data["status"]["observed"]["name"], "Lisixian");
    let after = stand.ask("holder").await;
    assert_eq!(after.data["status"]["conditions"], before.data["status"]["conditions"]);
    assert_eq!(stand.simulator.counts().of("UpdateMessageContact"), 0);

    // Back to its own name: nothing has happened.
    stand.apply("older", "Lisixian", json!({})).await;
    stand.becomes("older", "Ready", "InSync").await;
    assert_eq!(stand.simulator.counts().of("UpdateMessageContact"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claimant_waits_while_the_holder_is_being_deleted() {
    let stand = Stand::new().await;
    stand.apply("first", "Zhaokuo", json!({})).await;
    stand.becomes("first", "Ready", "InSync").await;
    stand.apply("second", "Zhaokuo", json!({})).await;
    stand.becomes("second", "Synced", "NameClaimed").await;

    stand.simulator.hold();
    stand.delete("first").await;
    let waiting = stand.becomes("second", "Synced", "Creating").await;
    assert_stalled(&waiting, false);
    stand.simulator.release();
    stand.is_gone("first").await;
    stand.becomes("second", "Ready", "InSync").await;
    assert_eq!(emails(&stand, "Zhaokuo"), ["second@example.com"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_contact_moves_to_another_namespace() {
    let stand = Stand::new().await;
    let target = cluster().await.namespace("target").await.unwrap();
    let manifest = stand.manifest("mover", "Sunshuao", json!({}));
    apply(&stand.contacts(), &manifest).await.unwrap();
    stand.becomes("mover", "Ready", "InSync").await;

    let mut moved = manifest;
    moved["metadata"]["namespace"] = json!(target);
    moved["spec"]["title"] = json!("ProjectDirector");
    let there = stand.contacts_in(&target);
    apply(&there, &moved).await.unwrap();
    let object = becomes(&there, "mover", "Synced", "NameClaimed").await;
    for condition in ["Synced", "Ready", "Stalled"] {
        let message = message_of(&object, condition);
        assert!(!message.is_empty() && !message.contains(&stand.namespace), "{message}");
    }

    stand.delete("mover").await;
    stand.is_gone("mover").await;
    becomes(&there, "mover", "Ready", "InSync").await;
    let state = stand.simulator.state();
    let titles: Vec<_> = state.contacts.iter().map(|contact| contact.title.as_str()).collect();
    assert_eq!(titles, ["ProjectDirector"]);
    there.delete("mover", &DeleteParams::default()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_may_not_act_claims_no_name() {
    let stand = Stand::unconnected(Options::default()).await;
    let own = json!({ "matchLabels": { "kubernetes.io/metadata.name": stand.namespace } });
    stand.apply_directory(json!({ "namespaces": own })).await;
    stand.directory_becomes("Ready", "Connected").await;
    let outside = cluster().await.namespace("outside").await.unwrap();
    let from_secret = json!({ "secretKeyRef": { "name": "absent", "key": "email" } });
    let cases: [(&str, &str, &str, Value); 4] = [
        ("asleep", "Tianji", "Suspended", json!({ "suspend": true })),
        ("onlooker", "Pangjuan", "Drifted", json!({ "reconcilePolicy": "ReportOnly" })),
        (
            "unreadable",
            "Yueyi",
            "SecretNotFound",
            json!({ "emailAddress": null, "emailAddressFrom": from_secret }),
        ),
        ("stranger", "Lianpo", "NamespaceNotAllowed", json!({})),
    ];
    let namespace = |object| if object == "stranger" { &outside } else { &stand.namespace };
    let mut last = None;
    for (object, name, reason, fields) in &cases {
        let api = stand.contacts_in(namespace(*object));
        let mut manifest = stand.manifest(object, name, fields.clone());
        manifest["metadata"]["namespace"] = json!(namespace(*object));
        last = Some(apply(&api, &manifest).await.unwrap());
        becomes(&api, object, "Synced", reason).await;
    }
    a_second_later(&last.unwrap()).await;
    for (object, name, ..) in &cases {
        stand.apply(&format!("{object}-rival"), name, json!({})).await;
    }
    for (object, name, ..) in &cases {
        stand.becomes(&format!("{object}-rival"), "Ready", "InSync").await;
        assert_eq!(emails(&stand, name), [format!("{object}-rival@example.com")]);
    }
    // When it may act later, the name is held.
    stand.apply("asleep", "Tianji", json!({ "suspend": false })).await;
    stand.becomes("asleep", "Synced", "NameClaimed").await;
    assert_eq!(stand.simulator.counts().of("AddMessageContact"), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claimant_goes_on_when_the_older_one_stops_acting() {
    let stand = Stand::new().await;
    // The cloud refuses it, and it keeps its turn.
    let refused = json!({ "phoneNumber": "999-13800138013" });
    let older = stand.apply("stuck", "Weiwuji", refused.clone()).await;
    stand.becomes("stuck", "Synced", "InvalidContact").await;
    a_second_later(&older).await;
    stand.apply("next", "Weiwuji", json!({})).await;
    stand.becomes("next", "Synced", "NameClaimed").await;

    let mut asleep = refused;
    asleep["suspend"] = json!(true);
    stand.apply("stuck", "Weiwuji", asleep).await;
    let object = stand.becomes("next", "Ready", "InSync").await;
    assert!(condition_of(&object, "Stalled").is_null());
    assert_eq!(emails(&stand, "Weiwuji"), ["next@example.com"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claimant_goes_on_when_the_older_ones_namespace_is_let_in_no_longer() {
    let allowed = json!({ "matchLabels": { "contacts": "allowed" } });
    let stand = Stand::with(Options::default(), json!({ "namespaces": allowed })).await;
    stand.label_namespace(json!({ "contacts": "allowed" })).await;
    let outside = Stand::unconnected(Options::default()).await;
    outside.label_namespace(json!({ "contacts": "allowed" })).await;
    // The cloud refuses it, and it keeps its turn.
    let mut manifest =
        stand.manifest("stuck", "Fanju", json!({ "phoneNumber": "999-13800138013" }));
    manifest["metadata"]["namespace"] = json!(outside.namespace);
    let older = apply(&outside.contacts(), &manifest).await.unwrap();
    becomes(&outside.contacts(), "stuck", "Synced", "InvalidContact").await;
    a_second_later(&older).await;
    stand.apply("next", "Fanju", json!({})).await;
    stand.becomes("next", "Synced", "NameClaimed").await;

    outside.label_namespace(json!({ "contacts": "refused" })).await;
    stand.becomes("next", "Ready", "InSync").await;
    assert_eq!(emails(&stand, "Fanju"), ["next@example.com"]);
}
