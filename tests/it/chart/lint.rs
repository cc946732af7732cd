//! What linters say of the chart, at the values that people have.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::{Helm, borrowed, sets, tool};
use crate::process::scratch;

/// The manifests of each set of values, each in a file of its own.
fn rendered() -> Vec<(String, PathBuf)> {
    let helm = Helm::offline("helm4");
    let render = |(set, values): (String, Vec<String>)| {
        let file = scratch("yaml");
        fs::write(&file, helm.renders("message-contacts", &borrowed(&values))).unwrap();
        (set, file)
    };
    sets().into_iter().map(render).collect()
}

#[test]
fn kube_score_finds_nothing() {
    let program = tool("kube-score");
    for (set, file) in rendered() {
        let output = Command::new(&program)
            .args(["score", "--output-format", "json"])
            .arg(&file)
            .output()
            .unwrap();
        let said: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
        let mut checks = 0;
        let mut found = Vec::new();
        for object in &said {
            for check in object["checks"].as_array().unwrap() {
                let skipped = check["skipped"].as_bool().unwrap();
                checks += usize::from(!skipped);
                // 10 is as it should be, 5 a warning, 1 critical.
                if !skipped && check["grade"].as_u64().unwrap() < 7 {
                    found.push(format!(
                        "{}: {} {}",
                        object["object_name"], check["check"]["name"], check["comments"]
                    ));
                }
            }
        }
        println!("kube-score, {set}: {checks} checks, {} critical or warnings", found.len());
        assert!(checks > 15, "{set}: {checks}");
        assert!(found.is_empty(), "{set}: {found:#?}");
        fs::remove_file(file).unwrap();
    }
}

/// The one check that a checkout cannot pass, and the two that make no sense for a pod which runs to
/// its end, and that Events of what belongs to no namespace stand in `default`.
const SKIPPED: [&str; 4] = ["CKV_K8S_43", "CKV_K8S_8", "CKV_K8S_9", "CKV_K8S_21"];

#[test]
fn checkov_finds_nothing() {
    let program = tool("checkov");
    for (set, file) in rendered() {
        let output = Command::new(&program)
            .args(["--framework", "kubernetes", "--skip-download", "--output", "json", "--file"])
            .arg(&file)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| {
            panic!("{set}: {}", String::from_utf8_lossy(&output.stderr));
        });
        let checks = |kind: &str| said["results"][kind].as_array().unwrap().clone();
        let failed: Vec<_> = checks("failed_checks")
            .iter()
            .map(|check| {
                format!("{} {}: {}", check["check_id"], check["resource"], check["check_name"])
            })
            .collect();
        for check in checks("skipped_checks") {
            assert!(SKIPPED.contains(&check["check_id"].as_str().unwrap()), "{check}");
        }
        let passed = said["summary"]["passed"].as_u64().unwrap();
        let skipped = said["summary"]["skipped"].as_u64().unwrap();
        println!("checkov, {set}: {passed} passed, {} failed, {skipped} skipped", failed.len());
        assert!(passed > 100, "{set}: {passed}");
        assert!(failed.is_empty(), "{set}: {failed:#?}");
        fs::remove_file(file).unwrap();
    }
}
