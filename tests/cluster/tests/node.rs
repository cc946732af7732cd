//! The node itself, before anything is installed on it. Needs root and `runc`; elsewhere one line
//! says that it was left out, unless `MCO_NODE=required`: then that is a failure.

#![allow(clippy::disallowed_methods, reason = "the environment says what must run")]

use std::{
    env, fs,
    io::{self, BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use cluster::{Node, wait_for};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client, Config,
    api::{LogParams, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::json;

const PATIENCE: Duration = Duration::from_mins(3);

/// Settings of the kernel that kubelet would change, and that all of this machine share.
const SHARED_SETTINGS: [&str; 3] =
    ["/proc/sys/vm/overcommit_memory", "/proc/sys/kernel/panic", "/proc/sys/net/ipv4/ip_forward"];

/// One test, as there is one node at a time: a pod runs, and when the process that has the node is
/// killed, nothing of it is left.
#[tokio::test]
async fn a_pod_runs_and_a_killed_process_leaves_nothing_behind() -> Result<()> {
    if let Some(missing) = Node::missing_here() {
        let line = format!("left out: the node; on this machine {missing}");
        ensure!(env::var_os("MCO_NODE").is_none_or(|value| value != "required"), "{line}");
        writeln!(io::stderr(), "{line}")?;
        return Ok(());
    }
    // Built here, where its progress is seen.
    Node::prepare().await?;
    let settings = SHARED_SETTINGS.map(fs::read_to_string);

    let mut holder = Command::new(env!("CARGO_BIN_EXE_test-cluster"));
    let mut holder = holder.arg("--node").stdout(Stdio::piped()).spawn()?;
    let mut line = String::new();
    BufReader::new(holder.stdout.take().context("no stdout")?).read_line(&mut line)?;
    let kubeconfig = line.trim().strip_prefix("KUBECONFIG=").context("it printed no path")?;
    run_pod(Path::new(kubeconfig)).await?;
    ensure!(traces()?.len() > 1, "a node without a trace");
    for (path, before) in SHARED_SETTINGS.iter().zip(settings) {
        assert_eq!(fs::read_to_string(path)?, before?, "{path} was changed");
    }

    holder.kill()?; // SIGKILL: nothing in the process can clean up.
    holder.wait()?;
    wait_for(Duration::from_secs(30), "processes, mounts and the cable are gone", || async {
        let left = traces()?;
        ensure!(left.is_empty(), "{left:?}");
        Ok(())
    })
    .await?;

    // The empty control groups go with the next node.
    drop(Node::start().await?);
    let left = control_groups()?;
    ensure!(left.is_empty(), "{left:?} are left");
    assert_eq!(traces()?, Vec::<String>::new());
    Ok(())
}

/// Runs a pod to its end: the network, the apiserver's certificate and the log are in it.
async fn run_pod(kubeconfig: &Path) -> Result<()> {
    let kubeconfig = Kubeconfig::read_from(kubeconfig)?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    let pods = Api::<Pod>::namespaced(Client::try_from(config)?, "default");
    let pod = json!({
        "metadata": {"name": "quiet"},
        "spec": {
            "containers": [{"name": "quiet", "image": "registry.test/pause:test"}],
            "terminationGracePeriodSeconds": 1,
        },
    });
    let pod = serde_json::from_value(pod)?;
    // The controller-manager makes the namespace's service account a moment after the start.
    let params = PostParams::default();
    wait_for(PATIENCE, "the pod is taken", || pods.create(&params, &pod)).await?;
    wait_for(PATIENCE, "the pod is Ready", || async {
        let pod = pods.get("quiet").await?;
        let status = pod.status.unwrap_or_default();
        let conditions = status.conditions.unwrap_or_default();
        let ready = conditions.iter().any(|it| it.type_ == "Ready" && it.status == "True");
        ensure!(ready, "{:?}: {conditions:?}", status.phase);
        Ok(())
    })
    .await?;
    ensure!(pods.logs("quiet", &LogParams::default()).await?.is_empty(), "pause said something");
    Ok(())
}

/// What of a node this machine has: its cable, its mounts, the processes in its control groups.
fn traces() -> Result<Vec<String>> {
    let mut found = Vec::new();
    if Path::new("/sys/class/net/test-node").exists() {
        found.push("the cable".to_owned());
    }
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let of_nodes = ["/control-plane/run/", "/var/lib/kubelet", "/run/containerd"];
    let is_of_node = |line: &&str| of_nodes.iter().any(|place| line.contains(place));
    found.extend(mounts.lines().filter(is_of_node).map(str::to_owned));
    for group in control_groups()? {
        let processes = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
        found.extend(processes.lines().map(|id| format!("process {id} in {}", group.display())));
    }
    Ok(found)
}

/// The node's control groups, in all hierarchies.
fn control_groups() -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for mount in fs::read_to_string("/proc/self/mounts")?.lines() {
        let mut fields = mount.split(' ').skip(1);
        let (Some(place), Some("cgroup" | "cgroup2")) = (fields.next(), fields.next()) else {
            continue;
        };
        collect(&Path::new(place).join("test-cluster-node"), &mut found);
    }
    Ok(found)
}

fn collect(folder: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    found.push(folder.to_path_buf());
    for entry in entries.flatten().filter(|entry| entry.path().is_dir()) {
        collect(&entry.path(), found);
    }
}
