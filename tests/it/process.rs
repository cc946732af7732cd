//! The operator as a process of its own, for stories about its start, its end and its death.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::Duration;

use cluster::Cluster;
use directory_simulator::{ACCESS_KEY_ID, ACCESS_KEY_SECRET};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{Mutex, MutexGuard, OnceCell};

use crate::stand::{self, OPERATOR_NAMESPACE, PATIENCE, Stand};

/// The program.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_message-contact-operator");

/// A cluster in which only one story at a time has an operator.
pub struct Alone {
    pub cluster: &'static Cluster,
    _turn: MutexGuard<'static, ()>,
}

/// The cluster of all stories that start and end operators; whoever has it has it alone.
pub async fn alone() -> Alone {
    static CLUSTER: OnceCell<Cluster> = OnceCell::const_new();
    static TURN: Mutex<()> = Mutex::const_new(());
    let turn = TURN.lock().await;
    let start = async || {
        let cluster = Cluster::start(cluster::Options::default()).await.unwrap();
        stand::prepare(&cluster).await;
        cluster
    };
    Alone { cluster: CLUSTER.get_or_init(start).await, _turn: turn }
}

/// A running operator. Killed when dropped.
pub struct Operator {
    shell: Child,
    leash: Option<ChildStdin>,
    pid: PathBuf,
    log: PathBuf,
}

impl Operator {
    /// Starts `run` against the cluster of that kubeconfig, for the directories of these stands.
    pub fn start(kubeconfig: &Path, stands: &[&Stand]) -> Self {
        Self::start_with(kubeconfig, stands, &["--log", "debug"])
    }

    /// As [`Self::start`], with other arguments about the log and the like.
    pub fn start_with(kubeconfig: &Path, stands: &[&Stand], arguments: &[&str]) -> Self {
        let endpoints: Vec<_> = stands.iter().map(|stand| stand.simulator.endpoint()).collect();
        Self::start_in(OPERATOR_NAMESPACE, kubeconfig, &endpoints, arguments)
    }

    /// Starts `run` in that namespace, with these endpoints allowed. It acts at once: stories of who
    /// leads say so in the arguments, and no other one is to wait for the lease of a process that it
    /// has killed.
    pub fn start_in(
        namespace: &str,
        kubeconfig: &Path,
        endpoints: &[String],
        arguments: &[&str],
    ) -> Self {
        let alone = ["--leader-election=false"];
        let arguments: Vec<_> = alone.iter().chain(arguments).copied().collect();
        let keys = (ACCESS_KEY_ID, ACCESS_KEY_SECRET);
        Self::start_with_keys(namespace, kubeconfig, endpoints, &arguments, keys)
    }

    /// Starts `run` in that namespace, with keys of its own in its environment.
    pub fn start_with_keys(
        namespace: &str,
        kubeconfig: &Path,
        endpoints: &[String],
        arguments: &[&str],
        (key_id, key_secret): (&str, &str),
    ) -> Self {
        let (pid, log) = (scratch("pid"), scratch("log"));
        let mut command = cluster::watched(Path::new(PROGRAM), &pid);
        command.args([
            "run",
            "--namespace",
            namespace,
            "--health-addr",
            "127.0.0.1:0",
            "--metrics-addr",
            "127.0.0.1:0",
        ]);
        for endpoint in endpoints {
            command.args(["--allow-endpoint", endpoint]);
        }
        let output = File::create(&log).unwrap();
        command.args(arguments);
        command.stdout(output.try_clone().unwrap()).stderr(output);
        command.env_clear().envs(std::env::vars_os().filter(|(key, _)| key == "PATH"));
        command.env("KUBECONFIG", kubeconfig).env("RUST_BACKTRACE", "0");
        command.env("ALIBABA_CLOUD_ACCESS_KEY_ID", key_id);
        command.env("ALIBABA_CLOUD_ACCESS_KEY_SECRET", key_secret);
        let mut shell = command.spawn().unwrap();
        let leash = shell.stdin.take();
        Self { shell, leash, pid, log }
    }

    /// Everything that it has logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits until it has logged that.
    pub async fn says(&self, text: &str) {
        cluster::wait_for(PATIENCE, &format!("it logs: {text}"), || {
            let log = self.log();
            async move { if log.contains(text) { Ok(()) } else { Err(log) } }
        })
        .await
        .unwrap();
    }

    /// The status and the body of a page of its health server, if that is served already.
    pub async fn health(&self, path: &str) -> Option<(u16, String)> {
        let address = address_in(&self.log(), "health is served")?;
        get(address, path, None).await.ok()
    }

    /// The page of its metrics, for a client that accepts this.
    pub async fn scrape(&self, accept: Option<&str>) -> String {
        let address = address_in(&self.log(), "metrics are served").unwrap();
        let (status, body) = get(address, "/metrics", accept).await.unwrap();
        assert_eq!(status, 200, "{body}");
        body
    }

    /// Waits until everything was listed once.
    pub async fn is_ready(&self) {
        cluster::wait_for(PATIENCE, "it is ready", || async {
            match self.health("/readyz").await {
                Some((200, _)) => Ok(()),
                other => Err(format!("{other:?}: {}", self.log())),
            }
        })
        .await
        .unwrap();
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        fs::read_to_string(&self.pid).unwrap().trim().parse().unwrap()
    }

    /// SIGKILL: from now on it does nothing more.
    pub fn kill(mut self) {
        self.end();
    }

    /// SIGTERM.
    pub fn terminate(&self) {
        self.signal("TERM");
    }

    /// Sends it the signal of that name, such as `STOP`.
    pub fn signal(&self, name: &str) {
        let pid = self.pid().to_string();
        let kill = ["-c", "kill -\"$0\" \"$1\"", name, &pid];
        assert!(Command::new("sh").args(kill).status().unwrap().success());
    }

    /// Waits until it has ended by itself, for so long at most.
    pub async fn ends_within(&mut self, patience: Duration) -> ExitStatus {
        let log = self.log.clone();
        cluster::wait_for(patience, "it ends", || {
            let ended = self.shell.try_wait().unwrap();
            let log = fs::read_to_string(&log).unwrap_or_default();
            async move { ended.ok_or(log) }
        })
        .await
        .unwrap()
    }

    /// Whether it has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        self.shell.try_wait().unwrap().is_some()
    }

    fn end(&mut self) {
        drop(self.leash.take());
        let _ = self.shell.wait();
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        self.end();
        let _ = fs::remove_file(&self.pid);
        let _ = fs::remove_file(&self.log);
    }
}

/// Runs the program to its end with these arguments and variables only.
pub fn run(arguments: &[&str], variables: &[(&str, &str)]) -> std::process::Output {
    let mut command = Command::new(PROGRAM);
    command.args(arguments).env_clear().envs(variables.iter().copied());
    command.stdin(Stdio::null()).output().unwrap()
}

/// A file of our own in the build's folder for such files.
pub fn scratch(kind: &str) -> PathBuf {
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let name = format!("operator-{}-{number}.{kind}", std::process::id());
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

/// A kubeconfig for an apiserver without TLS.
pub fn kubeconfig(server: &str) -> PathBuf {
    let path = scratch("kubeconfig");
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{ "name": "test", "cluster": { "server": server } }],
        "users": [{ "name": "test", "user": {} }],
        "contexts": [{ "name": "test", "context": { "cluster": "test", "user": "test" } }],
        "current-context": "test",
    });
    fs::write(&path, config.to_string()).unwrap();
    path
}

/// Where the log says that something is served.
fn address_in(log: &str, what: &str) -> Option<SocketAddr> {
    let line = log.lines().find(|line| line.contains(what))?;
    let (_, rest) = line.split_once("127.0.0.1:")?;
    let port: String = rest.chars().take_while(char::is_ascii_digit).collect();
    Some(SocketAddr::from(([127, 0, 0, 1], port.parse().ok()?)))
}

async fn get(
    address: SocketAddr,
    path: &str,
    accept: Option<&str>,
) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(address).await?;
    let accept = accept.map(|accept| format!("Accept: {accept}\r\n")).unwrap_or_default();
    let request =
        format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n{accept}Connection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body).to_owned();
    status.map(|status| (status, body)).ok_or_else(|| std::io::Error::other("no answer of HTTP"))
}
