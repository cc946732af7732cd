//! `docs/first-ten-minutes.md`: its manifest, its keys and what it says happens, on the same parts.

use std::fs;

use directory_simulator::{ACCESS_KEY_ID, ACCESS_KEY_SECRET, Click, Options, Simulator};
use message_contact_operator::clock::Clock;
use serde_json::{Value, json};

use crate::architecture::root;
use crate::gitops_apply::api_of;
use crate::many::operator_client;
use crate::stand::{self, OPERATOR_NAMESPACE, Own, Stand, becomes};

#[tokio::test(flavor = "multi_thread")]
async fn the_first_ten_minutes_go_as_the_guide_says() {
    let guide = fs::read_to_string(root().join("docs/first-ten-minutes.md")).unwrap();
    let keys =
        format!("accessKeyId={ACCESS_KEY_ID} --from-literal=accessKeySecret={ACCESS_KEY_SECRET}");
    let endpoint = "http://127.0.0.1:8443";
    assert!(guide.contains(&keys) && guide.contains(&format!("--allow-endpoint {endpoint}")));
    let block = guide.split("```yaml\n").nth(1).unwrap().split("```").next().unwrap();
    let lines = block.lines().map(|line| line.strip_prefix("   ").unwrap_or(line));
    let manifests = lines.collect::<Vec<_>>().join("\n");

    let own = Own::new(stand::another_cluster().await);
    let cluster = own.cluster();
    let operator = tokio::spawn(stand::run_operator(operator_client(cluster), Clock::system()));
    let stand = Stand::on(cluster, Options::default()).await;
    let secret = json!({ "accessKeyId": ACCESS_KEY_ID, "accessKeySecret": ACCESS_KEY_SECRET });
    stand.apply_secret("alibaba-cloud", secret).await;
    // Where the simulator listens by default.
    let manifests = manifests.replace(endpoint, &stand.simulator.endpoint());
    for manifest in serde_saphyr::from_multiple::<Value>(&manifests).unwrap() {
        stand.private.add_manifest(&manifest);
        stand::apply(&api_of(&stand.client, &manifest), &manifest).await.unwrap();
    }
    let contacts = stand.contacts_in(OPERATOR_NAMESPACE);
    becomes(&contacts, "security-desk", "Ready", "VerificationSent").await;
    // A message is written down before it is sent.
    let clicked = |it: &Simulator| it.confirm("security@example.com") == Click::Confirmed;
    stand.cloud("the owner clicks", |it| clicked(it).then_some(())).await;
    becomes(&contacts, "security-desk", "Ready", "InSync").await;
    contacts.delete("security-desk", &kube::api::DeleteParams::default()).await.unwrap();
    stand::is_gone(&contacts, "security-desk").await;
    assert!(stand.simulator.state().contacts.is_empty());
    operator.abort();
}
