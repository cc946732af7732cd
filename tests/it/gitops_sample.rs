//! The sample repository in `examples/gitops`: rendered by a real kustomize, judged by `validate`,
//! applied first to look and then for good, as a team would begin.

use std::path::Path;
use std::process::Command;

use directory_simulator::{ACCESS_KEY_ID, ACCESS_KEY_SECRET, Click, Options, Simulator};
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use message_contact_operator::cli::validate;
use message_contact_operator::clock::Clock;
use serde_json::{Value, json};

use crate::architecture::root;
use crate::gitops_apply::api_of;
use crate::many::operator_client;
use crate::stand::{self, OPERATOR_NAMESPACE, Own, Stand, becomes};

/// What kustomize makes of an overlay.
async fn rendered(overlay: &'static str) -> String {
    let render = move || {
        let folder = root().join("examples/gitops/overlays").join(overlay);
        let kustomize = cluster::tool("kustomize").unwrap();
        Command::new(kustomize).arg("build").arg(folder).output().unwrap()
    };
    let output = tokio::task::spawn_blocking(render).await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The workflow of the sample calls it so.
fn is_valid(manifests: &str) {
    let mut told = Vec::new();
    let summary = validate::run(&["-".into()], &mut manifests.as_bytes(), &mut told).unwrap();
    assert!(summary.is_clean() && summary.checked == 6, "{}", String::from_utf8(told).unwrap());
}

/// Applies an overlay as Flux does. The directory is the simulated one.
async fn apply(stand: &Stand, manifests: &str, dry_run: bool) -> Vec<DynamicObject> {
    let mut applied = Vec::new();
    for mut manifest in serde_saphyr::from_multiple::<Value>(manifests).unwrap() {
        if manifest["kind"] == "ResourceDirectory" {
            let here = json!({ "site": null, "endpoint": stand.simulator.endpoint() });
            stand::merge(&mut manifest["spec"], here);
        }
        let api = api_of(&stand.client, &manifest);
        let name = manifest["metadata"]["name"].as_str().unwrap();
        let params = PatchParams { dry_run, ..PatchParams::apply("kustomize-controller").force() };
        let stored = api.patch(name, &params, &Patch::Apply(&manifest)).await;
        applied.push(stored.unwrap_or_else(|error| panic!("{name}: {error}")));
    }
    applied
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sample_repository_is_looked_at_first_and_applied_then() {
    let (staging, production) = (rendered("staging").await, rendered("production").await);
    is_valid(&staging);
    is_valid(&production);

    let own = Own::new(stand::another_cluster().await);
    let cluster = own.cluster();
    let operator = tokio::spawn(stand::run_operator(operator_client(cluster), Clock::system()));
    let stand = Stand::on(cluster, Options::default()).await;
    let keys = json!({ "accessKeyId": ACCESS_KEY_ID, "accessKeySecret": ACCESS_KEY_SECRET });
    stand.apply_secret("alibaba-cloud", keys).await;
    let contacts = stand.contacts_in(OPERATOR_NAMESPACE);
    let names = ["security-desk", "on-call", "accounting"];

    apply(&stand, &staging, false).await;
    for name in names {
        becomes(&contacts, name, "Synced", "Drifted").await;
    }
    assert_eq!(stand.simulator.counts().writes, 0, "nothing is written to the cloud");

    apply(&stand, &production, false).await;
    for name in names {
        becomes(&contacts, name, "Ready", "InSync").await;
    }
    assert_eq!(stand.simulator.state().contacts.len(), names.len());
    let policies = stand.policies();
    becomes(&policies, "allowed-domains", "Compliant", "Compliant").await;
    becomes(&policies, "security-coverage", "Compliant", "CoverageMissing").await;
    for name in names {
        becomes(&contacts, name, "EmailVerified", "VerificationSent").await;
    }
    // A message is written down before it is sent.
    let clicked = |it: &Simulator| it.confirm("security@example.com") == Click::Confirmed;
    stand.cloud("the owner clicks", |it| clicked(it).then_some(())).await;
    stand::request(&stand.directories(), "default", "look").await;
    becomes(&policies, "security-coverage", "Compliant", "Compliant").await;

    // Applied again and again, as every ten minutes: it changes nothing.
    for (again, stored) in
        apply(&stand, &production, true).await.iter().zip(stored(&stand, &production).await)
    {
        assert_eq!(again.data["spec"], stored.data["spec"]);
        assert_eq!(again.metadata.generation, stored.metadata.generation);
        assert_eq!(again.metadata.labels, stored.metadata.labels);
    }
    operator.abort();
}

async fn stored(stand: &Stand, manifests: &str) -> Vec<DynamicObject> {
    let mut found = Vec::new();
    for manifest in serde_saphyr::from_multiple::<Value>(manifests).unwrap() {
        let api: Api<DynamicObject> = api_of(&stand.client, &manifest);
        found.push(api.get(manifest["metadata"]["name"].as_str().unwrap()).await.unwrap());
    }
    found
}

/// What the files for Argo CD and Flux point to is there.
#[test]
fn the_files_for_argo_cd_and_flux_name_an_overlay_that_is_there() {
    let sample = root().join("examples/gitops");
    let flux = root().join("charts/message-contact-operator/gitops/flux/kustomization.yaml");
    let mut paths = 0;
    for file in [
        sample.join("clusters/production/argo-cd.yaml"),
        sample.join("clusters/production/flux.yaml"),
        flux,
    ] {
        let text = std::fs::read_to_string(&file).unwrap();
        for value in serde_saphyr::from_multiple::<Value>(&text).unwrap() {
            let spec = &value["spec"];
            let path = spec["path"].as_str().or_else(|| spec["source"]["path"].as_str());
            if let Some(path) = path {
                let overlay = sample.join(Path::new(path)).join("kustomization.yaml");
                assert!(overlay.is_file(), "{}: {path}", file.display());
                paths += 1;
            }
        }
    }
    assert_eq!(paths, 3);
}
