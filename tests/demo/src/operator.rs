//! The operator as its users run it: the program, with arguments and a kubeconfig.

use std::env;
use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use cluster::wait_for;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

const NAME: &str = "message-contact-operator";

/// Longest time until it serves, on a machine that is busy.
const START_MAX: Duration = Duration::from_mins(1);

/// What the operator promises after SIGTERM is 20 seconds.
const STOP_MAX: Duration = Duration::from_secs(25);

/// The program.
#[derive(Debug)]
pub(crate) struct Program(PathBuf);

impl Program {
    /// Builds it with the cargo that runs us. Cargo shows on standard error how far it is.
    ///
    /// # Errors
    /// It does not compile.
    pub(crate) async fn build() -> Result<Self> {
        let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(cargo);
        command
            .args(["build", "--package", NAME, "--bin", NAME])
            .arg("--message-format=json-render-diagnostics")
            .current_dir(workspace())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        // What cargo told us about our own package: some build scripts would look at it and
        // build anew, each time.
        for (name, _) in env::vars_os() {
            if name.to_str().is_some_and(is_about_a_package) {
                command.env_remove(name);
            }
        }
        let mut child = command.spawn().context("cannot run cargo")?;
        let messages = child.stdout.take().context("cargo has no standard output")?;
        let mut messages = BufReader::new(messages).lines();
        let mut program = None;
        while let Some(message) = messages.next_line().await? {
            program = executable(&message).or(program);
        }
        ensure!(child.wait().await?.success(), "the operator does not build; cargo said why above");
        program.map(Self).context("cargo did not say where the program is")
    }

    /// Runs a command of it to its end: the exit code, and what it wrote to standard output.
    ///
    /// # Errors
    /// It cannot be run.
    pub(crate) async fn output(&self, arguments: &[&str]) -> Result<(Option<i32>, String)> {
        let mut command = Command::new(&self.0);
        command.args(arguments).current_dir(workspace()).kill_on_drop(true);
        let ended = command.output().await.with_context(|| format!("cannot run {NAME}"))?;
        Ok((ended.status.code(), String::from_utf8(ended.stdout)?))
    }

    /// Starts `run`, and waits until it is ready.
    ///
    /// # Errors
    /// It ends instead, or is not ready in time; with the last lines of its log.
    pub(crate) async fn run(&self, kubeconfig: &Path, endpoint: &str) -> Result<Operator> {
        let health = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let log = self.log()?;
        let output = File::create(&log)?;
        let mut command = Command::new(&self.0);
        for (name, _) in env::vars_os() {
            if name.to_str().is_some_and(would_change_the_operator) {
                command.env_remove(name);
            }
        }
        command
            .args(["run", "--namespace", crate::parts::OPERATOR_NAMESPACE])
            .args(["--allow-endpoint", endpoint, "--health-addr", &health.to_string()])
            .args(["--metrics-addr", "127.0.0.1:0"])
            .env("KUBECONFIG", kubeconfig)
            .env("MCO_METRICS_ADDR", "127.0.0.1:0")
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            // Ctrl-C in the terminal is for us, and we end it.
            .process_group(0)
            .kill_on_drop(true);
        let child = command.spawn().with_context(|| format!("cannot run {NAME}"))?;
        let leash = Leash::on(child.id().context("the operator has ended at once")?)?;
        let mut operator = Operator { child, leash, log };
        match operator.becomes_ready(&format!("http://{health}/readyz")).await {
            Ok(()) => Ok(operator),
            Err(error) => bail!("{error:#}\n{}", operator.log_tail()),
        }
    }

    fn log(&self) -> Result<PathBuf> {
        // From `target/debug/message-contact-operator` to `target/demo`.
        let target = self.0.ancestors().nth(2).unwrap_or(Path::new("."));
        let dir = target.join("demo");
        fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
        Ok(dir.join(format!("operator-{}.log", std::process::id())))
    }
}

/// A running operator. Dropping it kills it; [`Operator::stop`] is how users end it.
#[derive(Debug)]
pub(crate) struct Operator {
    child: Child,
    leash: Leash,
    log: PathBuf,
}

impl Operator {
    async fn becomes_ready(&mut self, url: &str) -> Result<()> {
        let client = reqwest::Client::builder().no_proxy().build()?;
        let ready = wait_for(START_MAX, "the operator is ready", || async {
            client.get(url).send().await?.error_for_status().map(drop)
        });
        tokio::select! {
            ready = ready => ready,
            ended = self.child.wait() => bail!("the operator ended instead of working: {}", ended?),
        }
    }

    /// How it ended, if it did.
    ///
    /// # Errors
    /// The system does not say.
    pub(crate) fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Sends SIGTERM and waits for the end.
    ///
    /// # Errors
    /// It does not end in time, or not well.
    pub(crate) async fn stop(mut self) -> Result<()> {
        self.leash.let_go();
        match tokio::time::timeout(STOP_MAX, self.child.wait()).await {
            Ok(status) => {
                let status = status?;
                ensure!(status.success(), "after SIGTERM the operator ended with {status}");
                Ok(())
            }
            Err(_) => bail!("the operator has not ended {STOP_MAX:?} after SIGTERM"),
        }
    }

    /// Where it logs to. The file outlives us.
    pub(crate) fn log(&self) -> &Path {
        &self.log
    }

    /// The last lines of its log.
    pub(crate) fn log_tail(&self) -> String {
        const LINES: usize = 25;
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let tail = lines[lines.len().saturating_sub(LINES)..].join("\n  ");
        format!("the last lines of {}:\n  {tail}", self.log.display())
    }
}

/// Sends SIGTERM to a process when it is let go of, also by our sudden death.
///
/// A shell reads a pipe whose only writing end is in our process. Nothing is ever written.
#[derive(Debug)]
struct Leash(std::process::Child);

impl Leash {
    fn on(process: u32) -> Result<Self> {
        use std::os::unix::process::CommandExt as _;
        let shell = std::process::Command::new("sh")
            .args(["-c", "read -r _; kill -TERM \"$0\" 2>/dev/null", &process.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .context("cannot run sh")?;
        Ok(Self(shell))
    }

    fn let_go(&mut self) {
        drop(self.0.stdin.take());
    }
}

impl Drop for Leash {
    fn drop(&mut self) {
        self.let_go();
        // The shell is about to end; if it cannot be waited for, it has.
        let _ = self.0.wait();
    }
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The path of the operator, if this message of cargo has it.
fn executable(message: &str) -> Option<PathBuf> {
    let message: Value = serde_json::from_str(message).ok()?;
    if message["reason"] != "compiler-artifact" || message["target"]["name"] != NAME {
        return None;
    }
    message["executable"].as_str().map(PathBuf::from)
}

fn is_about_a_package(name: &str) -> bool {
    ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_"]
        .iter()
        .any(|prefix| name.starts_with(prefix))
        || ["OUT_DIR", "CARGO_PRIMARY_PACKAGE"].contains(&name)
}

/// A person's own settings; and proxies, none of which reaches our loopback interface.
fn would_change_the_operator(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    name.starts_with("MCO_")
        || name.starts_with("ALIBABA_CLOUD_")
        || ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"].contains(&name.as_str())
}
