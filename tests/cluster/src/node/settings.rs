//! The settings of containerd, of its network plugin and of kubelet.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Result;
use serde_json::json;

use super::{NAME, Programs, REGISTRY, control_groups, namespaces};

/// Where the settings were written.
#[derive(Debug)]
pub(super) struct Settings {
    dir: PathBuf,
    pub(super) containerd: PathBuf,
    kubelet: PathBuf,
}

/// Writes them below `dir`. `registry` is where images are, `pause` the image of a pod's own
/// process.
pub(super) fn write(
    dir: &Path,
    programs: &Programs,
    registry: &str,
    pause: &str,
) -> Result<Settings> {
    let settings = Settings {
        dir: dir.to_path_buf(),
        containerd: dir.join("containerd.toml"),
        kubelet: dir.join("kubelet.json"),
    };
    fs::write(&settings.containerd, containerd(dir, programs, pause))?;
    fs::write(&settings.kubelet, format!("{:#}\n", kubelet(dir)))?;
    let network = dir.join("network");
    fs::create_dir(&network)?;
    fs::write(network.join("pods.conflist"), format!("{:#}\n", pods()))?;
    let host = dir.join("registries").join(REGISTRY);
    fs::create_dir_all(&host)?;
    let hosts =
        format!("server = '{registry}'\n[host.'{registry}']\ncapabilities = ['pull', 'resolve']\n");
    fs::write(host.join("hosts.toml"), hosts)?;
    Ok(settings)
}

impl Settings {
    /// Where containerd answers.
    pub(super) fn socket(&self) -> PathBuf {
        socket(&self.dir)
    }

    /// The arguments of a kubelet that talks to the apiserver with that kubeconfig.
    pub(super) fn kubelet_args(&self, kubeconfig: &Path) -> [String; 6] {
        let below = |name: &str| self.dir.join(name).display().to_string();
        [
            format!("--kubeconfig={}", kubeconfig.display()),
            format!("--config={}", self.kubelet.display()),
            format!("--root-dir={}", below("kubelet")),
            format!("--cert-dir={}", below("kubelet-pki")),
            format!("--hostname-override={NAME}"),
            format!("--node-ip={}", namespaces::NODE),
        ]
    }
}

fn socket(dir: &Path) -> PathBuf {
    dir.join("containerd.sock")
}

fn containerd(dir: &Path, programs: &Programs, pause: &str) -> String {
    let Programs { shim, plugins, runc, .. } = programs;
    let below = |name: &str| dir.join(name).display().to_string();
    // `restrict_oom_score_adj`: a machine that gives no CAP_SYS_RESOURCE refuses to have the
    // score lowered, and no pod starts.
    format!(
        "version = 3
root = '{root}'
state = '{state}'
disabled_plugins = ['io.containerd.internal.v1.opt', 'io.containerd.nri.v1.nri']
[grpc]
address = '{socket}'
[ttrpc]
address = '{socket}.ttrpc'
[plugins.'io.containerd.cri.v1.images'.pinned_images]
sandbox = '{pause}'
[plugins.'io.containerd.cri.v1.images'.registry]
config_path = '{registries}'
[plugins.'io.containerd.cri.v1.runtime']
restrict_oom_score_adj = true
enable_selinux = false
[plugins.'io.containerd.cri.v1.runtime'.containerd]
default_runtime_name = 'runc'
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
runtime_type = 'io.containerd.runc.v2'
runtime_path = '{shim}'
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
BinaryName = '{runc}'
SystemdCgroup = false
[plugins.'io.containerd.cri.v1.runtime'.cni]
bin_dirs = ['{plugins}']
conf_dir = '{network}'
",
        root = below("containerd"),
        state = "/run/containerd-state",
        socket = socket(dir).display(),
        registries = below("registries"),
        shim = shim.display(),
        runc = runc.display(),
        plugins = plugins.display(),
        network = below("network"),
    )
}

fn pods() -> serde_json::Value {
    json!({
        "cniVersion": "1.0.0",
        "name": "pods",
        "plugins": [{
            "type": "bridge",
            "bridge": "pods",
            "isGateway": true,
            "ipam": {
                "type": "host-local",
                "dataDir": "/run/pod-addresses",
                "ranges": [[{"subnet": namespaces::PODS}]],
                "routes": [{"dst": "0.0.0.0/0"}],
            },
        }],
    })
}

fn kubelet(dir: &Path) -> serde_json::Value {
    let below = |name: &str| dir.join(name).display().to_string();
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": namespaces::NODE,
        "containerRuntimeEndpoint": format!("unix://{}", socket(dir).display()),
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": format!("/{}", control_groups::ROOT),
        "failCgroupV1": false,
        "failSwapOn": false,
        "podLogsDir": below("pod-logs"),
        "volumePluginDir": below("volume-plugins"),
        "resolvConf": "",
        "makeIPTablesUtilChains": false,
        "healthzPort": 0,
        // Only this machine reaches it: as an apiserver for logs, and for nothing else.
        "authentication": {"anonymous": {"enabled": true}, "webhook": {"enabled": false}},
        "authorization": {"mode": "AlwaysAllow"},
        // The disk of a build machine is often nearly full; no pod is evicted for that.
        "evictionHard": {
            "memory.available": "0%",
            "nodefs.available": "0%",
            "nodefs.inodesFree": "0%",
            "imagefs.available": "0%",
            "imagefs.inodesFree": "0%",
        },
        "imageGCHighThresholdPercent": 100,
    })
}
