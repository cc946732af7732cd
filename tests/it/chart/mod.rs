//! The Helm chart: what real helm makes of it, and what a real apiserver says to that.

#![allow(clippy::similar_names, reason = "what helm says is named after it")]

mod generated;
mod install;
mod lint;
mod rendered;
mod rights;
mod tenant;
mod values;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use serde_json::Value;

use crate::architecture::root;
use crate::process::scratch;

/// The oldest and the newest helm that the chart is for; both are pinned below `tests/tools`.
const HELMS: [&str; 2] = ["helm3", "helm4"];

/// The name of the release, and of most that is in it.
const RELEASE: &str = "message-contact-operator";

/// The folder of the chart in the repository.
fn chart_source() -> PathBuf {
    root().join("charts").join(RELEASE)
}

/// The chart as it is packaged: a copy, so that a test may change it.
fn copy_of_chart() -> PathBuf {
    let copy = scratch("chart");
    copy_folder(&chart_source(), &copy);
    copy
}

/// The chart that the tests of this process read.
fn chart() -> &'static Path {
    static COPY: OnceLock<PathBuf> = OnceLock::new();
    COPY.get_or_init(copy_of_chart)
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let from = entry.unwrap().path();
        let to = to.join(from.file_name().unwrap());
        if from.is_dir() {
            copy_folder(&from, &to);
        } else {
            fs::copy(&from, &to).unwrap();
        }
    }
}

/// A tool of `tests/tools`, made if it is not there yet.
fn tool(name: &str) -> PathBuf {
    cluster::tool(name).unwrap()
}

/// One helm, for one cluster or for none.
struct Helm {
    program: PathBuf,
    kubeconfig: Option<PathBuf>,
}

impl Helm {
    fn offline(name: &str) -> Self {
        Self { program: tool(name), kubeconfig: None }
    }

    fn of(name: &str, kubeconfig: &Path) -> Self {
        Self { program: tool(name), kubeconfig: Some(kubeconfig.to_path_buf()) }
    }

    /// The command, with nothing of the person's own helm.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(arguments).env_clear().stdin(Stdio::null());
        command.envs(std::env::vars_os().filter(|(key, _)| key == "PATH"));
        let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join("helm");
        // Else it would keep what it learns of a cluster in the folder in which the test runs.
        command.env("HOME", &home);
        for kind in ["CACHE", "CONFIG", "DATA"] {
            command.env(format!("HELM_{kind}_HOME"), home.join(kind));
        }
        if let Some(kubeconfig) = &self.kubeconfig {
            command.env("KUBECONFIG", kubeconfig);
        }
        command
    }

    /// Runs it to its end.
    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// What it prints.
    #[track_caller]
    fn prints(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "helm {arguments:?}: {said}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// What it says while it refuses.
    #[track_caller]
    fn refuses(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success(), "helm {arguments:?} was to be refused");
        said
    }

    /// The manifests of a release in that namespace, as text.
    #[track_caller]
    fn renders(&self, namespace: &str, values: &[&str]) -> String {
        let chart = chart().to_str().unwrap();
        self.prints(&[&template(chart, namespace), values].concat())
    }
}

/// The arguments that render a chart, for the newest Kubernetes that it is for.
fn template<'a>(chart: &'a str, namespace: &'a str) -> Vec<&'a str> {
    let kubernetes = ["--kube-version", "1.37.2"];
    [&["template", RELEASE, chart, "--namespace", namespace][..], &kubernetes].concat()
}

/// The objects in a text of helm.
#[track_caller]
fn objects(manifests: &str) -> Vec<Value> {
    let all: Vec<Value> = serde_saphyr::from_multiple(manifests).unwrap();
    all.into_iter().filter(|object| !object.is_null()).collect()
}

fn kind(object: &Value) -> &str {
    object["kind"].as_str().unwrap()
}

fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap()
}

/// Values that people have: the defaults, and the files below `ci/` of the chart. The name, and the
/// arguments of helm.
fn sets() -> Vec<(String, Vec<String>)> {
    let folder = chart_source().join("ci");
    let mut sets = vec![("defaults".to_owned(), Vec::new())];
    let mut files: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    for file in files {
        let name = file.file_name().unwrap().to_str().unwrap();
        let name = name.strip_suffix("-values.yaml").unwrap().to_owned();
        sets.push((name, vec!["--values".to_owned(), file.to_str().unwrap().to_owned()]));
    }
    assert!(sets.len() > 6, "{sets:?}");
    sets
}

/// Borrowed arguments.
fn borrowed(arguments: &[String]) -> Vec<&str> {
    arguments.iter().map(String::as_str).collect()
}
