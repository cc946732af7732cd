//! Each file of `examples/policies` is applied as it is, but for its name and its directory, and does
//! what its first lines promise.

use std::collections::BTreeSet;
use std::fs;

use directory_simulator::Click;
use kube::api::DynamicObject;
use serde_json::{Value, json};

use crate::architecture::root;
use crate::stand::{self, Stand};
use crate::walk::defaults;

/// The examples that have a story here.
const TOLD: [&str; 6] = [
    "allowed-domains",
    "distinct-people",
    "group-mailbox",
    "nothing-unmanaged",
    "phone-in-production",
    "security-contact",
];

impl Stand {
    /// Applies an example to the story's directory.
    async fn apply_example(&self, name: &str) {
        assert!(TOLD.contains(&name), "{name}");
        let file = root().join(format!("examples/policies/{name}.yaml"));
        let text = fs::read_to_string(file).unwrap();
        let mut policy: Value = serde_saphyr::from_str(&text).unwrap();
        policy["metadata"]["name"] = json!(self.policy(name));
        policy["spec"]["match"]["directories"] = json!([self.directory]);
        stand::apply(&self.policies(), &policy).await.unwrap();
    }

    async fn example_becomes(&self, name: &str, reason: &str) -> DynamicObject {
        stand::becomes(&self.policies(), &self.policy(name), "Compliant", reason).await
    }

    /// Applies a contact whose owner hears of these, and lets the owner click.
    async fn confirmed(&self, object: &str, name: &str, mail: &str, types: &[&str]) {
        let fields = json!({ "emailAddress": mail, "messageTypes": types });
        self.apply(object, name, defaults(fields)).await;
        self.becomes(object, "EmailVerified", "VerificationSent").await;
        self.cloud("its mail", |it| (it.confirm(mail) == Click::Confirmed).then_some(())).await;
        self.ask_directory().await;
        self.becomes(object, "EmailVerified", "Verified").await;
    }
}

#[test]
fn each_example_has_a_story() {
    let files = fs::read_dir(root().join("examples/policies")).unwrap();
    let names: BTreeSet<_> = files
        .map(|file| file.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    assert_eq!(names, TOLD.map(str::to_owned).into());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mailbox_outside_is_refused_and_one_inside_is_not() {
    let stand = Stand::new().await;
    stand.settled("older", "Dufu", json!({ "emailAddress": "dufu@example.org" })).await;
    stand.apply_example("allowed-domains").await;
    stand.becomes("older", "Synced", "PolicyViolation").await;
    stand.example_becomes("allowed-domains", "PolicyViolation").await;
    stand.apply("older", "Dufu", json!({ "emailAddress": "dufu@cn.example.com" })).await;
    stand.becomes("older", "Ready", "InSync").await;
    stand.example_becomes("allowed-domains", "Compliant").await;
    let stranger = stand.manifest("new", "Libai", json!({ "emailAddress": "libai@example.org" }));
    let refused = stand::apply(&stand.contacts(), &stranger).await.unwrap_err().to_string();
    assert!(refused.contains("example.com, *.example.com"), "{refused}");
    assert!(!refused.contains("libai"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_instead_of_a_group_is_told_and_goes_on() {
    let stand = Stand::new().await;
    stand.apply_example("group-mailbox").await;
    stand.settled("desk", "Baijuyi", json!({ "emailAddress": "bai@example.com" })).await;
    stand.example_becomes("group-mailbox", "PolicyViolation").await;
    stand.apply("desk", "Baijuyi", json!({ "emailAddress": "desk@groups.example.com" })).await;
    stand.example_becomes("group-mailbox", "Compliant").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_must_hear_of_security_messages() {
    let stand = Stand::new().await;
    stand.apply_example("security-contact").await;
    stand.example_becomes("security-contact", "CoverageMissing").await;
    stand.confirmed("desk", "Liqingzhao", "li@example.com", &["SecurityMessage"]).await;
    stand.example_becomes("security-contact", "Compliant").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_person_twice_is_one_person() {
    let stand = Stand::new().await;
    let types = ["FaultMessage", "SecurityMessage"];
    stand.apply_example("distinct-people").await;
    stand.confirmed("one", "Xinqiji", "one@example.com", &types).await;
    stand.confirmed("again", "Luyou", "one@example.com", &types).await;
    stand.example_becomes("distinct-people", "CoverageMissing").await;
    stand.confirmed("two", "Suzhe", "two@example.com", &types).await;
    stand.example_becomes("distinct-people", "Compliant").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn production_must_have_a_phone_and_other_namespaces_need_none() {
    let stand = Stand::new().await;
    stand.settled("desk", "Sushi", json!({})).await;
    stand.apply_example("phone-in-production").await;
    stand.example_becomes("phone-in-production", "NothingMatches").await;
    stand.label_namespace(json!({ "tier": "production" })).await;
    stand.example_becomes("phone-in-production", "PolicyViolation").await;
    stand.becomes("desk", "Synced", "PolicyViolation").await;
    stand.apply("desk", "Sushi", json!({ "phoneNumber": "86-13800138000" })).await;
    stand.example_becomes("phone-in-production", "Compliant").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_made_in_the_console_shows_up() {
    let stand = Stand::new().await;
    stand.apply_example("nothing-unmanaged").await;
    stand.example_becomes("nothing-unmanaged", "Compliant").await;
    let stranger = stand.bystander("Wangbo");
    stand.ask_directory().await;
    stand.example_becomes("nothing-unmanaged", "TooManyUnmanaged").await;
    assert!(stand.simulator.remove_contact(&stranger.id));
    stand.ask_directory().await;
    stand.example_becomes("nothing-unmanaged", "Compliant").await;
}
