//! What the tools say of an object that people wait with, through the program `tests/tools/health`:
//! kstatus, which `helm --wait` and Flux use; Flux's health expressions; and Argo CD's scripts.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use kube::api::DynamicObject;
use serde::Deserialize;
use serde_json::Value;

use crate::architecture::root;

/// What all of them say of one object.
#[derive(Debug, Clone, Deserialize)]
pub struct Verdict {
    pub kstatus: Judgement,
    pub flux: Judgement,
    pub argocd: Judgement,
    /// The actions that Argo CD lists, and whether their buttons can be pressed.
    pub actions: BTreeMap<String, bool>,
}

/// What one of them says.
#[derive(Debug, Clone, Deserialize)]
pub struct Judgement {
    pub status: String,
    #[serde(default)]
    pub message: String,
}

/// The folder that the chart brings for them.
pub fn folder() -> PathBuf {
    root().join("charts/message-contact-operator/gitops")
}

/// What they say of these objects, in the same order.
pub async fn judge(objects: Vec<Value>) -> Vec<Verdict> {
    let flux = folder().join("flux/kustomization.yaml");
    let flux = ["-flux", flux.to_str().unwrap()].map(str::to_owned);
    let said = health("judge", flux.to_vec(), &Value::from(objects)).await.unwrap();
    serde_json::from_str(&said).unwrap()
}

/// What they say of one object.
pub async fn judge_one(object: &DynamicObject) -> Verdict {
    judge(vec![serde_json::to_value(object).unwrap()]).await.remove(0)
}

/// The object as a button of Argo CD leaves it; an error if it cannot be pressed.
pub async fn press(action: &str, object: &DynamicObject) -> Result<Value, String> {
    let object = serde_json::to_value(object).unwrap();
    let said = health("act", vec![action.to_owned()], &object).await?;
    Ok(serde_json::from_str(&said).unwrap())
}

/// Runs every `health_test.yaml`; a line for each case.
pub async fn samples() -> Result<String, String> {
    health("test", Vec::new(), &Value::Null).await
}

/// Runs the program; what it printed, or why it failed and all that it said.
async fn health(verb: &'static str, args: Vec<String>, input: &Value) -> Result<String, String> {
    let input = input.to_string();
    let run = move || {
        let scripts = folder().join("argocd/resource_customizations");
        let mut child = Command::new(cluster::tool("health").unwrap())
            .args([verb, "-argocd"])
            .arg(scripts)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // Dropped when written, which is the end of the input.
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let (said, complaint) = (text(output.stdout), text(output.stderr));
        if output.status.success() { Ok(said) } else { Err(said + &complaint) }
    };
    tokio::task::spawn_blocking(run).await.unwrap()
}
