//! A real helm.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/charts/message-contact-operator");

/// The name of the release.
pub const RELEASE: &str = "contacts";

/// A helm with one cluster and one namespace.
pub struct Helm {
    program: PathBuf,
    kubeconfig: PathBuf,
    namespace: String,
    home: PathBuf,
}

impl Helm {
    /// Builds helm first, if need be.
    pub async fn new(kubeconfig: &Path, namespace: &str) -> Self {
        let program = tokio::task::spawn_blocking(|| cluster::tool("helm4"));
        let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join("helm");
        fs::create_dir_all(&home).unwrap();
        Self {
            program: program.await.unwrap().unwrap(),
            kubeconfig: kubeconfig.to_path_buf(),
            namespace: namespace.to_owned(),
            home,
        }
    }

    /// Installs the chart, or upgrades it, and waits for it; how long that took.
    pub async fn upgrade(&self, values: &Value) -> Duration {
        let file = self.home.join("values.json");
        fs::write(&file, values.to_string()).unwrap();
        let file = file.to_str().unwrap();
        let arguments =
            ["upgrade", "--install", RELEASE, CHART, "--wait", "--timeout=5m", "--values", file];
        self.run(&arguments).await.1
    }

    /// Runs the chart's tests; what they said.
    pub async fn test(&self) -> (String, Duration) {
        self.run(&["test", RELEASE, "--logs", "--timeout=5m"]).await
    }

    pub async fn uninstall(&self) -> Duration {
        self.run(&["uninstall", RELEASE, "--wait", "--timeout=5m"]).await.1
    }

    async fn run(&self, arguments: &[&str]) -> (String, Duration) {
        let mut command = Command::new(&self.program);
        command.args(arguments).args(["--namespace", &self.namespace]);
        command.env_clear().envs(std::env::vars_os().filter(|(key, _)| key == "PATH"));
        command.env("KUBECONFIG", &self.kubeconfig).env("HOME", &self.home);
        command.stdin(Stdio::null());
        let begun = Instant::now();
        let done = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
        let (said, complained) =
            (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
        assert!(done.status.success(), "helm {arguments:?}: {complained}\n{said}");
        (said.into_owned(), begun.elapsed())
    }
}
