//! A whole node: kubelet, containerd and runc, on which pods run as they do anywhere.
//!
//! The node is a process of its own with namespaces of its own (mounts, network, process ids), as
//! a container has them. When that process is gone, also because we were killed, the kernel ends
//! everything in it, takes its mounts away and its end of the cable to us: no bridge, no mount, no
//! process and no setting of the kernel is left on this machine, only empty control groups, which
//! the next node removes.
//!
//! ```text
//!   this machine                                 │ the node's namespaces
//!   tests, simulators, registry ── 10.211.1.1 ═══╪═══ 10.211.1.2  kubelet, containerd
//!   kube-apiserver ─────────────── 10.96.0.1     │        └─ bridge 10.211.0.1/24 ── pods
//! ```
//!
//! There is no kube-proxy and no DNS: pods reach the apiserver and what listens on
//! [`Node::gateway`], and nothing else. A `NetworkPolicy` is not enforced.

mod control_groups;
mod namespaces;
mod settings;

use std::{
    fs::{self, File, TryLockError},
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use k8s_openapi::api::core::v1::Node as NodeObject;
use kube::Api;

use crate::{
    binaries::{Program, Search, in_path, tell},
    control_plane::{Cluster, Options, SERVICE_ADDRESS},
    process::Process,
    run_dir::{self, RunDir, free_port},
    wait::wait_for,
};
use namespaces::Namespaces;

/// A running cluster with one node. Dropping it ends everything in it and removes all its files.
#[derive(Debug)]
pub struct Node {
    // The order matters: fields are dropped from top to bottom. The servers of the node, and its
    // pods, end with its namespaces.
    namespaces: Namespaces,
    servers: Vec<Process>,
    cluster: Cluster,
    registry: Registry,
    files: RunDir,
    /// Held only so that there is one node at a time.
    _lock: File,
}

/// The name of the `Node` object.
const NAME: &str = "node";

/// How long anything may take on a machine that is busy compiling.
const START_MAX: Duration = Duration::from_mins(3);

/// The name of the registry in the names of images; only containerd knows where it is.
const REGISTRY: &str = "registry.test";

impl Node {
    /// Why no node can run on this machine, in a few words; `None` if one can.
    #[must_use]
    pub fn missing_here() -> Option<String> {
        if !cfg!(target_os = "linux") {
            return Some("it is not Linux".to_owned());
        }
        for tool in ["ip", "nsenter", "runc", "unshare"] {
            if tool_in_path(tool).is_none() {
                return Some(format!("there is no {tool}"));
            }
        }
        if let Err(error) = namespaces::can_be_made() {
            return Some(format!("it gives no namespaces ({error:#})"));
        }
        control_groups::missing_here()
    }

    /// Finds the programs of a node and its control plane, and builds what is missing.
    ///
    /// For a step of its own in CI; [`Node::start`] does the same by itself.
    ///
    /// # Errors
    ///
    /// If Go is missing or a build fails.
    pub async fn prepare() -> Result<()> {
        tokio::task::spawn_blocking(Programs::find).await?.map(drop)
    }

    /// Starts a control plane with a scheduler, and a node, and waits until that is `Ready`: about
    /// 20 seconds, if nothing need be built first. If another process has a node, waits until that
    /// is gone.
    ///
    /// # Errors
    ///
    /// If [`Node::missing_here`] says something, if a program cannot be built, or if one of them
    /// ends instead of working; the error then has the last lines of what it said.
    pub async fn start() -> Result<Self> {
        if let Some(missing) = Self::missing_here() {
            bail!("no node can run here: {missing}");
        }
        let (programs, lock) =
            tokio::task::spawn_blocking(|| anyhow::Ok((Programs::find()?, the_only_one()?)))
                .await??;
        control_groups::remove()?;
        control_groups::create()?;
        let files = RunDir::create(&run_dir::home())?;
        let namespaces = Namespaces::create(&programs.pause, files.path()).await?;
        let listen = Some(SocketAddr::from((SERVICE_ADDRESS, 443)));
        // For logs: the name of the node is known nowhere.
        let apiserver_args = vec!["--kubelet-preferred-address-types=InternalIP".to_owned()];
        let options = Options { controller_manager: true, apiserver_args, listen };
        let cluster = Cluster::start(options).await?;
        let registry = Registry::start(&programs.crane, files.path()).await?;
        let pause = registry.push_program(&programs.pause, files.path())?;
        let mut node =
            Self { namespaces, servers: Vec::new(), cluster, registry, files, _lock: lock };
        node.start_servers(&programs, &pause).await?;
        Ok(node)
    }

    /// The cluster in which the node is.
    #[must_use]
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// The address of this machine that pods reach: what shall serve them listens there.
    #[must_use]
    pub fn gateway(&self) -> IpAddr {
        namespaces::GATEWAY.into()
    }

    /// Puts an image into the registry of this node, and returns its name there, as a pod names it.
    ///
    /// `layout` is the directory of an OCI image layout with one image; `name` is a repository and
    /// a tag.
    ///
    /// # Errors
    ///
    /// If the layout is none, or if the registry does not take it.
    pub fn push(&self, layout: &Path, name: &str) -> Result<String> {
        self.registry.push(layout, name)
    }

    /// The digest of an image in the registry, `sha256:…`, after it was checked that all its parts
    /// are there and are what their digests say.
    ///
    /// # Errors
    ///
    /// If it is not there or not whole.
    pub fn digest(&self, name: &str) -> Result<String> {
        self.registry.digest(name)
    }

    /// The ends of the logs of the node's servers, for a failure.
    #[must_use]
    pub fn last_lines(&self) -> String {
        let of = |server: &Process| format!("{}:\n{}\n", server.name(), server.last_lines());
        self.servers.iter().map(of).collect()
    }

    async fn start_servers(&mut self, programs: &Programs, pause: &str) -> Result<()> {
        let dir = self.files.path().to_path_buf();
        let settings = settings::write(&dir, programs, &self.registry.url(), pause)?;
        let containerd = ["--config".into(), settings.containerd.clone()];
        let containerd =
            self.namespaces.start("containerd", &programs.containerd, containerd, &dir)?;
        self.servers.push(containerd);
        let socket = settings.socket();
        self.comes("containerd listens", async || {
            ensure!(socket.exists(), "{} is not there", socket.display());
            Ok(())
        })
        .await?;
        let kubelet = settings.kubelet_args(&self.login(&format!("system:node:{NAME}"))?);
        let kubelet = self.namespaces.start("kubelet", &programs.kubelet, kubelet, &dir)?;
        self.servers.push(kubelet);
        let scheduler = [
            format!("--kubeconfig={}", self.login("system:kube-scheduler")?.display()),
            "--leader-elect=false".to_owned(),
            "--secure-port=0".to_owned(),
        ];
        let scheduler = Process::start("kube-scheduler", &programs.scheduler, scheduler, &dir)?;
        self.servers.push(scheduler);
        let nodes = Api::<NodeObject>::all(self.cluster.client());
        self.comes("the node is Ready", async || ready(&nodes.get(NAME).await?)).await
    }

    /// A kubeconfig of one of our servers: it may do everything, under a name of its own.
    fn login(&self, user: &str) -> Result<PathBuf> {
        self.cluster.kubeconfig_as(user, &["system:masters"])
    }

    async fn comes(&mut self, what: &str, mut look: impl AsyncFnMut() -> Result<()>) -> Result<()> {
        let end = tokio::time::Instant::now() + START_MAX;
        loop {
            for server in &mut self.servers {
                if !matches!(server.ended(), Ok(None)) {
                    bail!("{} ended instead of working:\n{}", server.name(), server.last_lines());
                }
            }
            let Err(seen) = look().await else { return Ok(()) };
            if tokio::time::Instant::now() > end {
                bail!(
                    "waited {START_MAX:?} in vain: {what}; last seen: {seen:#}\n{}",
                    self.last_lines()
                );
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

fn ready(node: &NodeObject) -> Result<()> {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_deref());
    let conditions = conditions.unwrap_or_default();
    let is_ready = conditions.iter().any(|it| it.type_ == "Ready" && it.status == "True");
    // Taken off by the controller-manager a moment after the node is Ready; no pod starts before.
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
    ensure!(is_ready && taints.is_empty(), "{conditions:?}, {taints:?}");
    Ok(())
}

/// The paths of the programs.
#[derive(Debug)]
struct Programs {
    scheduler: PathBuf,
    kubelet: PathBuf,
    containerd: PathBuf,
    shim: PathBuf,
    /// The directory with all network plugins.
    plugins: PathBuf,
    crane: PathBuf,
    pause: PathBuf,
    /// The system's own.
    runc: PathBuf,
}

impl Programs {
    /// Finds them all, the control plane's too, so that what has to be built is built in one go.
    fn find() -> Result<Self> {
        let [_, _, _, scheduler, kubelet, containerd, shim, bridge, _, _, crane, pause] =
            Search::of_this_process().find([
                Program::Etcd,
                Program::Apiserver,
                Program::ControllerManager,
                Program::Scheduler,
                Program::Kubelet,
                Program::Containerd,
                Program::Shim,
                Program::CniBridge,
                Program::CniLoopback,
                Program::CniHostLocal,
                Program::Crane,
                Program::Pause,
            ])?;
        let plugins = bridge.parent().context("a plugin without a directory")?.to_path_buf();
        let runc = tool_in_path("runc").context("there is no runc")?;
        Ok(Self { scheduler, kubelet, containerd, shim, plugins, crane, pause, runc })
    }
}

/// A tool of the system.
fn tool_in_path(name: &str) -> Option<PathBuf> {
    in_path(&std::env::var_os("PATH").unwrap_or_default(), name)
}

/// The lock of the one node that this machine has at a time: its addresses and control groups have
/// fixed names.
fn the_only_one() -> Result<File> {
    let lock = File::create(std::env::temp_dir().join("test-cluster-node.lock"))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            tell("another process has a node: waiting for it");
            lock.lock()?;
        }
        Err(TryLockError::Error(error)) => return Err(error.into()),
    }
    Ok(lock)
}

/// A registry of images, on an address that only this machine and the node reach.
#[derive(Debug)]
struct Registry {
    crane: PathBuf,
    address: SocketAddr,
    _server: Process,
}

impl Registry {
    async fn start(crane: &Path, dir: &Path) -> Result<Self> {
        let address = SocketAddr::from((namespaces::GATEWAY, free_port()?));
        let images = dir.join("registry");
        fs::create_dir(&images)?;
        let args = [
            "registry".to_owned(),
            "serve".to_owned(),
            format!("--address={address}"),
            format!("--disk={}", images.display()),
        ];
        let server = Process::start("registry", crane, args, dir)?;
        wait_for(START_MAX, "the registry listens", || tokio::net::TcpStream::connect(address))
            .await?;
        Ok(Self { crane: crane.to_path_buf(), address, _server: server })
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn push(&self, layout: &Path, name: &str) -> Result<String> {
        let layout = layout.to_str().context("a path that is not UTF-8")?;
        self.crane(&["push", layout, &self.there(name)])?;
        Ok(format!("{REGISTRY}/{name}"))
    }

    /// Makes an image of one program that needs nothing else, and pushes it.
    fn push_program(&self, program: &Path, dir: &Path) -> Result<String> {
        let layer = dir.join("program.tar");
        let (folder, name) = (program.parent(), program.file_name());
        let (folder, name) = (folder.context("no folder")?, name.context("no name")?);
        let mut tar = Command::new("tar");
        tar.arg("--create").arg("--file").arg(&layer).arg("--directory").arg(folder).arg(name);
        ensure!(tar.status()?.success(), "tar failed");
        let name = name.to_str().context("a name that is not UTF-8")?;
        let layer = layer.to_str().context("a path that is not UTF-8")?;
        let image = format!("{name}:test");
        let there = self.there(&image);
        self.crane(&["append", "--oci-empty-base", "--new_layer", layer, "--new_tag", &there])?;
        self.crane(&["mutate", &there, "--entrypoint", &format!("/{name}"), "--tag", &there])?;
        Ok(format!("{REGISTRY}/{image}"))
    }

    fn digest(&self, name: &str) -> Result<String> {
        let there = self.there(name);
        self.crane(&["validate", "--remote", &there])?;
        Ok(self.crane(&["digest", &there])?.trim().to_owned())
    }

    fn there(&self, name: &str) -> String {
        format!("{}/{name}", self.address)
    }

    fn crane(&self, args: &[&str]) -> Result<String> {
        let mut command = Command::new(&self.crane);
        // No proxy reaches the address, and no credentials are needed.
        command.args(["--insecure"]).args(args).env_clear().env("HOME", "/nonexistent");
        let done = command.output().context("cannot run crane")?;
        let said = String::from_utf8_lossy(&done.stderr);
        ensure!(done.status.success(), "crane {} failed: {said}", args.join(" "));
        Ok(String::from_utf8(done.stdout)?)
    }
}
