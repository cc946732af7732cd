//! The apiserver ends watches and makes the operator list everything again. What changed in the
//! gap is acted upon once the list is there, and nothing else is.

use cluster::Cluster;
use directory_simulator::Options;
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use kube::core::ApiResource;
use message_contact_operator::clock::Clock;
use serde_json::json;
use tokio::task::JoinHandle;

use crate::process::alone;
use crate::proxy::Proxy;
use crate::stand::{Stand, apply, becomes, run_operator};

const EVERYTHING: &[&str] = &["/messagecontacts", "/resourcedirectories", "/namespaces"];

/// An operator in this process that ends with its story.
struct Running(JoinHandle<()>);

impl Running {
    fn behind(proxy: &Proxy) -> Self {
        Self(tokio::spawn(run_operator(proxy.client(), Clock::system())))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn namespaces(cluster: &Cluster) -> Api<DynamicObject> {
    let kind = ApiResource::erase::<k8s_openapi::api::core::v1::Namespace>(&());
    Api::all_with(cluster.client(), &kind)
}

/// A stand whose directory is listed only at the beginning: no poll helps out.
async fn stand(cluster: &'static Cluster, spec: serde_json::Value) -> Stand {
    let stand = Stand::on(cluster, Options::default()).await;
    let mut whole = json!({ "pollInterval": "5m" });
    crate::stand::merge(&mut whole, spec);
    stand.apply_directory(whole).await;
    stand.directory_becomes("Ready", "Connected").await;
    stand
}

/// A contact of which the cloud wants nothing to know: its object is the older rival.
const REFUSED: &str = "999-13800138013";

#[tokio::test(flavor = "multi_thread")]
async fn what_changed_in_a_gap_is_acted_upon_and_nothing_else_is() {
    let alone = alone().await;
    let proxy = Proxy::start(alone.cluster).await;
    let _running = Running::behind(&proxy);
    let main = stand(alone.cluster, json!({})).await;
    let other = stand(alone.cluster, json!({})).await;
    let allowed = json!({ "matchLabels": { "contacts": "allowed" } });
    let strict = stand(alone.cluster, json!({ "namespaces": allowed })).await;
    // What changes is on no list's last page.
    for number in 0..6 {
        let name = format!("zz-{number}");
        let namespace = json!({ "apiVersion": "v1", "kind": "Namespace",
            "metadata": { "name": name } });
        apply(&namespaces(alone.cluster), &namespace).await.unwrap();
        let directory = json!({ "apiVersion": "message-contacts.dev/v1alpha1",
            "kind": "ResourceDirectory", "metadata": { "name": name },
            "spec": { "endpoint": main.simulator.endpoint(), "suspend": true } });
        apply(&main.directories(), &directory).await.unwrap();
    }
    let stuck = main.apply("c-stuck", "Weiwuji", json!({ "phoneNumber": REFUSED })).await;
    main.becomes("c-stuck", "Synced", "InvalidContact").await;
    crate::same_name::a_second_later(&stuck).await;
    main.apply("b-heir", "Weiwuji", json!({})).await;
    main.becomes("b-heir", "Synced", "NameClaimed").await;
    let edited = main.settled("b-edited", "Baiqi", json!({})).await;
    let removed = main.settled("b-removed", "Lianpo", json!({})).await;
    let mut still = Vec::new();
    for (number, name) in ["Wang", "Li", "Zhao", "Sun", "Zhou", "Zheng", "Feng"].iter().enumerate()
    {
        let object = format!("d-still-{number}");
        still.push((main.settled(&object, name, json!({})).await, main.object(&object).await));
    }
    other.settled("b-other", "Zhangyi", json!({})).await;
    strict.apply("b-outside", "Suqin", json!({})).await;
    strict.becomes("b-outside", "Synced", "NamespaceNotAllowed").await;

    proxy.expire(EVERYTHING);
    let (mark, writes) = (main.mark(), proxy.writes().len());
    main.apply("b-edited", "Baiqi", json!({ "title": "CEO" })).await;
    main.apply("a-added", "Tiandan", json!({})).await;
    main.delete("b-removed").await;
    let none = json!({ "metadata": { "finalizers": null } });
    let contacts = main.contacts();
    contacts.patch("c-stuck", &PatchParams::default(), &Patch::Merge(&none)).await.unwrap();
    main.delete("c-stuck").await;
    main.is_gone("c-stuck").await;
    other.apply_directory(json!({ "pollInterval": "5m", "suspend": true })).await;
    strict.label_namespace(json!({ "contacts": "allowed" })).await;
    proxy.resume();

    main.becomes("b-edited", "Ready", "InSync").await;
    main.becomes("a-added", "Ready", "InSync").await;
    main.becomes("b-heir", "Ready", "InSync").await;
    main.is_gone("b-removed").await;
    other.becomes("b-other", "Synced", "DirectoryNotReady").await;
    strict.becomes("b-outside", "Ready", "InSync").await;
    assert_eq!(main.in_cloud(&edited).title, "CEO");
    assert!(main.simulator.state().contact(&removed).is_none());

    let mut calls = main.calls_since(mark);
    calls.retain(|call| !call.starts_with("Get") && !call.starts_with("List"));
    calls.sort();
    assert_eq!(calls.len(), 4, "two are added, one is changed, one is deleted: {calls:?}");
    let called = main.simulator.calls_since(mark);
    let writes = &proxy.writes()[writes..];
    for (id, object) in still {
        let name = object.metadata.name.as_deref().unwrap();
        assert!(!writes.iter().any(|path| path.contains(name)), "{writes:?}");
        assert_eq!(
            main.object(name).await.metadata.resource_version,
            object.metadata.resource_version
        );
        let about = called.iter().filter_map(|call| call.parameters.get("ContactId"));
        assert_eq!(about.filter(|about| **about == id).count(), 0, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_that_is_created_again_lets_its_contacts_in() {
    let alone = alone().await;
    let proxy = Proxy::start(alone.cluster).await;
    let _running = Running::behind(&proxy);
    let allowed = json!({ "matchLabels": { "contacts": "allowed" } });
    let stand = stand(alone.cluster, json!({ "namespaces": allowed })).await;
    let namespaces = namespaces(alone.cluster);
    let created = async |suffix: &str, object: &str, name: &str| {
        let namespace = format!("{}-{suffix}", stand.namespace);
        let labelled = json!({ "apiVersion": "v1", "kind": "Namespace",
            "metadata": { "name": namespace, "labels": { "contacts": "allowed" } } });
        apply(&namespaces, &labelled).await.unwrap();
        let contacts = stand.contacts_in(&namespace);
        let mut manifest = stand.manifest(object, name, json!({}));
        manifest["metadata"]["namespace"] = json!(namespace);
        apply(&contacts, &manifest).await.unwrap();
        (namespace, contacts)
    };
    let (again, contacts) = created("again", "before", "Sunbin").await;
    becomes(&contacts, "before", "Ready", "InSync").await;
    contacts.delete("before", &kube::api::DeleteParams::default()).await.unwrap();
    cluster::wait_for(crate::stand::PATIENCE, "it is gone", async || {
        contacts
            .get_opt("before")
            .await
            .unwrap()
            .map_or(Ok(()), |left| Err(left.data["status"].to_string()))
    })
    .await
    .unwrap();
    delete_for_good(&namespaces, alone.cluster, &again).await;
    // Events come in order: the operator has seen that the namespace is gone.
    let (_, later) = created("later", "later", "Pangjuan").await;
    becomes(&later, "later", "Ready", "InSync").await;

    proxy.expire(&["/namespaces"]);
    created("again", "after", "Lisi").await;
    becomes(&contacts, "after", "Synced", "NamespaceNotAllowed").await;
    proxy.resume();
    becomes(&contacts, "after", "Ready", "InSync").await;
}

/// Nobody but us takes the finalizer off a namespace in these clusters.
async fn delete_for_good(namespaces: &Api<DynamicObject>, cluster: &Cluster, name: &str) {
    namespaces.delete(name, &kube::api::DeleteParams::default()).await.unwrap();
    let body = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name },
        "spec": { "finalizers": [] } });
    let request = http::Request::put(format!("/api/v1/namespaces/{name}/finalize"))
        .header("content-type", "application/json")
        .body(serde_json::to_vec(&body).unwrap())
        .unwrap();
    cluster.client().request::<DynamicObject>(request).await.unwrap();
    assert_eq!(namespaces.get_opt(name).await.unwrap(), None);
}
