//! The namespaces of the node, and the cable between them and this machine.

use std::{ffi::OsStr, fs, net::Ipv4Addr, path::Path, process::Command};

use anyhow::{Context as _, Result, ensure};

use super::{START_MAX, control_groups};
use crate::{process::Process, wait::wait_for};

/// Our end of the cable.
pub(super) const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 211, 1, 1);
/// The node's end of it.
pub(super) const NODE: Ipv4Addr = Ipv4Addr::new(10, 211, 1, 2);
/// Where pods are.
pub(super) const PODS: &str = "10.211.0.0/24";

/// The name of our end.
const CABLE: &str = "test-node";

/// The namespaces, and the process that holds them. Dropping it ends everything in them.
#[derive(Debug)]
pub(super) struct Namespaces {
    holder: Process,
    /// The holder's process id: its namespaces of mounts and of the network, and that of the
    /// process ids of its children.
    id: String,
}

/// Makes the node's view of the machine, then holds it as `$2`, process 1 in there.
///
/// `/run`, `/var/log` and `/var/lib/kubelet` are the node's own: there are sockets, network
/// namespaces, logs and plugins whose places cannot be chosen. kubelet insists on some settings of the kernel that all
/// of this machine share; it finds them as it wants them, in files that nobody else sees.
const BEGIN: &str = r#"
set -e
mkdir -p /var/lib/kubelet
for folder in /run /var/log /var/lib/kubelet; do
  mount -t tmpfs node "$folder"
done
pretend() {
  mkdir -p "/run/sys/$(dirname "$1")"
  echo "$2" >"/run/sys/$1"
  mount --bind "/run/sys/$1" "/proc/sys/$1"
}
pretend vm/overcommit_memory 1
pretend vm/panic_on_oom 0
pretend kernel/panic 10
pretend kernel/panic_on_oops 1
pretend kernel/keys/root_maxkeys 1000000
pretend kernel/keys/root_maxbytes 25000000
echo 1 >/proc/sys/net/ipv4/ip_forward
ip link set lo up
touch "$1"
exec "$2"
"#;

/// Whether this process may make namespaces.
pub(super) fn can_be_made() -> Result<()> {
    run(Command::new("unshare").args([
        "--mount",
        "--net",
        "--pid",
        "--fork",
        "--mount-proc",
        "true",
    ]))
}

impl Namespaces {
    /// Makes them, held by `pause`, with a cable to this machine.
    pub(super) async fn create(pause: &Path, dir: &Path) -> Result<Self> {
        // It goes with the node; but the kernel takes its time after a process was killed.
        let _ = ip(&["link", "delete", CABLE]);
        let begun = dir.join("begun");
        let args: [&OsStr; 11] = [
            "--mount".as_ref(),
            "--net".as_ref(),
            "--pid".as_ref(),
            "--fork".as_ref(),
            "--kill-child".as_ref(),
            "--mount-proc".as_ref(),
            "sh".as_ref(),
            "-c".as_ref(),
            BEGIN.as_ref(),
            // What the shell is called in its own messages.
            "node".as_ref(),
            begun.as_ref(),
        ];
        let args = args.into_iter().chain([pause.as_os_str()]);
        let mut holder = Process::start("unshare", Path::new("unshare"), args, dir)?;
        wait_for(START_MAX, "the node's namespaces are there", || {
            let there = begun.exists();
            let ended = !matches!(holder.ended(), Ok(None));
            let said = if ended { holder.last_lines() } else { "it is at work".to_owned() };
            async move { if there { Ok(()) } else { Err(said) } }
        })
        .await?;
        let id = fs::read_to_string(dir.join("unshare.pid"))?.trim().to_owned();
        let namespaces = Self { holder, id };
        namespaces.connect()?;
        Ok(namespaces)
    }

    fn connect(&self) -> Result<()> {
        ip(&["link", "add", CABLE, "type", "veth", "peer", "name", "eth0", "netns", &self.id])?;
        ip(&["address", "add", &format!("{GATEWAY}/30"), "dev", CABLE])?;
        let service = crate::control_plane::SERVICE_ADDRESS;
        ip(&["address", "add", &format!("{service}/32"), "dev", CABLE])?;
        ip(&["link", "set", CABLE, "up"])?;
        let inside = |args: &[&str]| run(self.enter().arg("ip").args(args));
        inside(&["address", "add", &format!("{NODE}/30"), "dev", "eth0"])?;
        inside(&["link", "set", "eth0", "up"])?;
        inside(&["route", "add", "default", "via", &GATEWAY.to_string()])?;
        ip(&["route", "add", PODS, "via", &NODE.to_string()])
    }

    /// Starts a server in there. It ends with the namespaces, if not before.
    pub(super) fn start<A: AsRef<OsStr>>(
        &self,
        name: &'static str,
        program: &Path,
        args: impl IntoIterator<Item = A>,
        dir: &Path,
    ) -> Result<Process> {
        let enter = self.enter();
        let enter = enter.get_args().map(OsStr::to_owned);
        let args = args.into_iter().map(|arg| arg.as_ref().to_owned());
        let args = enter.chain([program.as_os_str().to_owned()]).chain(args);
        Process::start(name, Path::new("nsenter"), args, dir)
    }

    /// The command that runs its further arguments in there.
    fn enter(&self) -> Command {
        let of = |kind: &str| format!("/proc/{}/ns/{kind}", self.id);
        let mut command = Command::new("nsenter");
        command.arg(format!("--mount={}", of("mnt")));
        command.arg(format!("--net={}", of("net")));
        command.arg(format!("--pid={}", of("pid_for_children")));
        command
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        // The holder is killed now: with process 1 go all others in there.
        self.holder.end();
        let _ = ip(&["link", "delete", CABLE]);
        // What cannot be removed now is removed by the next node.
        let _ = control_groups::remove();
    }
}

fn ip(args: &[&str]) -> Result<()> {
    run(Command::new("ip").args(args))
}

fn run(command: &mut Command) -> Result<()> {
    let done = command.output().with_context(|| format!("cannot run {command:?}"))?;
    let said = String::from_utf8_lossy(&done.stderr);
    ensure!(done.status.success(), "{command:?} failed: {}", said.trim());
    Ok(())
}
