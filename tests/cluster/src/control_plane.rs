//! The cluster: its servers, and the ways to talk to it.

use std::{
    fmt,
    fs::{self, File},
    io::Write as _,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use k8s_openapi::{
    api::core::v1::{Namespace, ServiceAccount},
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client, Config, ResourceExt as _,
    api::{ObjectMeta, Patch, PatchParams, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::json;
use tokio::time::{Instant, sleep, timeout};

use crate::{
    audit::Audit,
    binaries::{Program, Search},
    process::Process,
    run_dir::{self, RunDir, free_port, random},
    wait::wait_for,
};

/// What a cluster shall have beyond etcd and kube-apiserver.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// A kube-controller-manager, from the start. Without one no namespace is ever gone, no
    /// garbage is collected and no namespace has its service account `default`.
    pub controller_manager: bool,
    /// More arguments for kube-apiserver, `--feature-gates=…` for example.
    pub apiserver_args: Vec<String>,
    /// Where kube-apiserver listens, and nowhere else: an address of this machine. Absent: a free
    /// port of the loopback interface.
    pub listen: Option<SocketAddr>,
}

/// A running control plane. Dropping it ends all its processes and removes all its files.
#[derive(Debug)]
pub struct Cluster {
    // The order matters: fields are dropped from top to bottom.
    controller_manager: Mutex<Option<Process>>,
    apiserver: Mutex<Option<Process>>,
    /// Ended after the apiserver.
    etcd: Mutex<Option<Process>>,
    layout: Layout,
    config: Config,
    audit: Audit,
    namespaces: AtomicU32,
}

/// How long any server may take until it answers, on a machine that is busy compiling.
const START_MAX: Duration = Duration::from_mins(2);

impl Cluster {
    /// Starts etcd and kube-apiserver and waits until `/readyz` answers `ok` and the namespace
    /// `default` is there. Takes about 3 seconds, if the programs need not be built first.
    ///
    /// # Errors
    ///
    /// If the programs can neither be found nor built, or if one of them ends instead of working;
    /// the error then has the last lines of what it said.
    pub async fn start(options: Options) -> Result<Self> {
        const TRIES: u32 = 5;
        let programs = find_programs(options.controller_manager).await?;
        let mut attempt = 1;
        let cluster = loop {
            match Self::try_start(&programs, &options).await {
                Err(error) if error.is::<AddressInUse>() && attempt < TRIES => attempt += 1,
                done => break done?,
            }
        };
        if options.controller_manager {
            cluster.start_controller_manager().await?;
        }
        Ok(cluster)
    }

    async fn try_start(programs: &Programs, options: &Options) -> Result<Self> {
        let layout = Layout::create(programs.clone(), options)?;
        let etcd = layout.start_etcd()?;
        let mut servers = [etcd, layout.start_apiserver()?];
        let audit = Audit::of(&layout.audit_log());
        let config = layout.ready(&mut servers).await?;
        let [etcd, apiserver] = servers;
        Ok(Self {
            controller_manager: Mutex::default(),
            apiserver: Mutex::new(Some(apiserver)),
            etcd: Mutex::new(Some(etcd)),
            layout,
            config,
            audit,
            namespaces: AtomicU32::new(0),
        })
    }

    /// How to reach the apiserver as an administrator; a copy to be adapted.
    ///
    /// kube's retries of 429, 503 and 504 are off: a test sees what the apiserver answered.
    #[must_use]
    pub fn config(&self) -> Config {
        self.config.clone()
    }

    /// A client for the runtime that calls it, with all rights (`system:masters`).
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn client(&self) -> Client {
        client_for(self.config()).expect("a client of this configuration saw the apiserver ready")
    }

    /// A client with the rights of this user, by impersonation. The audit log shows this user.
    ///
    /// Groups are exactly these and `system:authenticated`; a service account needs
    /// `system:serviceaccounts` and `system:serviceaccounts:<namespace>`.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime, and if a name cannot stand in an HTTP header.
    #[must_use]
    pub fn client_as(&self, user: &str, groups: &[&str]) -> Client {
        let mut config = self.config();
        config.auth_info.impersonate = Some(user.to_owned());
        config.auth_info.impersonate_groups =
            Some(groups.iter().map(|group| (*group).to_owned()).collect());
        client_for(config).expect("users and groups are written by the test, in visible ASCII")
    }

    /// A kubeconfig of the administrator, for any tool. Valid as long as the cluster lives.
    #[must_use]
    pub fn kubeconfig_path(&self) -> &Path {
        &self.layout.kubeconfig
    }

    /// Writes a kubeconfig with the rights of this user; see [`Cluster::client_as`].
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub fn kubeconfig_as(&self, user: &str, groups: &[&str]) -> Result<PathBuf> {
        let path = self.layout.dir().join(format!("kubeconfig-{:x}", random()));
        let login = json!({"token": self.layout.admin_token, "as": user, "as-groups": groups});
        self.layout.write_kubeconfig(&path, &login)?;
        Ok(path)
    }

    /// The directory with the log files (`etcd.log`, `kube-apiserver.log`, …) and the process ids
    /// (`etcd.pid`, …).
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.layout.dir()
    }

    /// What the apiserver was asked to do.
    #[must_use]
    pub fn audit(&self) -> Audit {
        self.audit.clone()
    }

    /// Creates a namespace with a name of its own and returns the name.
    ///
    /// # Errors
    ///
    /// If the apiserver refuses it.
    pub async fn namespace(&self, prefix: &str) -> Result<String> {
        let number = self.namespaces.fetch_add(1, Ordering::Relaxed);
        let name = format!("{prefix}-{number}");
        let metadata = ObjectMeta { name: Some(name.clone()), ..ObjectMeta::default() };
        let namespace = Namespace { metadata, ..Namespace::default() };
        Api::all(self.client()).create(&PostParams::default(), &namespace).await?;
        Ok(name)
    }

    /// Applies the definitions and waits until their resources can be listed.
    ///
    /// # Errors
    ///
    /// If one is refused, or not established within half a minute.
    pub async fn apply_crds(&self, crds: &[CustomResourceDefinition]) -> Result<()> {
        let client = self.client();
        let api = Api::<CustomResourceDefinition>::all(client.clone());
        let params = PatchParams::apply("test-cluster").force();
        for crd in crds {
            let name = crd.name_any();
            api.patch(&name, &params, &Patch::Apply(crd))
                .await
                .with_context(|| format!("cannot apply {name}"))?;
        }
        for crd in crds {
            let name = crd.name_any();
            wait_for(Duration::from_secs(30), &format!("{name} is established"), || async {
                established(&api.get(&name).await?)
            })
            .await?;
            // The handler of a new resource is installed a little later than the condition is.
            for version in crd.spec.versions.iter().filter(|version| version.served) {
                let (group, plural) = (&crd.spec.group, &crd.spec.names.plural);
                let uri = format!("/apis/{group}/{}/{plural}?limit=1", version.name);
                let what = format!("{uri} answers");
                wait_for(Duration::from_secs(30), &what, || get(&client, &uri)).await?;
            }
        }
        Ok(())
    }

    /// Starts kube-controller-manager, if it does not run yet, and waits until it works.
    ///
    /// # Errors
    ///
    /// As [`Cluster::start`].
    pub async fn start_controller_manager(&self) -> Result<()> {
        let programs = find_programs(true).await?;
        {
            let mut running = locked(&self.controller_manager);
            if running.is_none() {
                *running = Some(self.layout.start_controller_manager(&programs)?);
            }
        }
        let accounts = Api::<ServiceAccount>::namespaced(self.client(), "default");
        wait_for(START_MAX, "kube-controller-manager makes service accounts", || async {
            self.controller_manager_runs()?;
            accounts.get("default").await.map(drop).map_err(anyhow::Error::from)
        })
        .await
    }

    fn controller_manager_runs(&self) -> Result<()> {
        if let Some(process) = locked(&self.controller_manager).as_mut()
            && has_ended(process)
        {
            bail!("it has ended; it said:\n{}", process.last_lines());
        }
        Ok(())
    }

    /// Kills the apiserver: connections break and new ones are refused. The data stay.
    ///
    /// Not for [`crate::shared`], whose other users would not like it.
    pub fn stop_apiserver(&self) {
        drop(locked(&self.apiserver).take());
    }

    /// Ends all servers for good, as dropping does: for a cluster that many hold.
    pub fn end(&self) {
        for server in [&self.controller_manager, &self.apiserver, &self.etcd] {
            drop(locked(server).take());
        }
    }

    /// Starts the apiserver again, on the same port and with the same certificate, and waits until
    /// it is ready. Does nothing if it runs.
    ///
    /// # Errors
    ///
    /// If it ends instead, or if the port was taken in the meantime.
    pub async fn start_apiserver(&self) -> Result<()> {
        let running = locked(&self.apiserver).take();
        let mut server = if let Some(running) = running {
            [running]
        } else {
            self.audit.cut_torn_line()?;
            [self.layout.start_apiserver()?]
        };
        self.layout.ready(&mut server).await?;
        let [server] = server;
        *locked(&self.apiserver) = Some(server);
        Ok(())
    }
}

/// The paths of the programs.
#[derive(Debug, Clone)]
pub(crate) struct Programs {
    etcd: PathBuf,
    apiserver: PathBuf,
    controller_manager: Option<PathBuf>,
}

/// Finds the programs, or builds them, in a thread that may block for minutes.
pub(crate) async fn find_programs(controller_manager: bool) -> Result<Programs> {
    tokio::task::spawn_blocking(move || {
        let search = Search::of_this_process();
        if controller_manager {
            let all = [Program::Etcd, Program::Apiserver, Program::ControllerManager];
            let [etcd, apiserver, manager] = search.find(all)?;
            Ok(Programs { etcd, apiserver, controller_manager: Some(manager) })
        } else {
            let [etcd, apiserver] = search.find([Program::Etcd, Program::Apiserver])?;
            Ok(Programs { etcd, apiserver, controller_manager: None })
        }
    })
    .await?
}

/// Everything that stays the same when a server is started again.
#[derive(Debug)]
struct Layout {
    programs: Programs,
    apiserver_args: Vec<String>,
    etcd_port: u16,
    apiserver: SocketAddr,
    admin_token: String,
    kubeconfig: PathBuf,
    manager_kubeconfig: PathBuf,
    run_dir: RunDir,
}

/// The first range that kubeadm's documentation uses. Nothing is reached through it but the
/// apiserver by the pods of a [`crate::Node`].
const SERVICE_RANGE: &str = "10.96.0.0/24";

/// What pods call the apiserver: the first address of the range, which is that of the Service
/// `kubernetes`, and which the apiserver's certificate names.
pub(crate) const SERVICE_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 1);

const AUDIT_POLICY: &str = r"
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules: [{level: Metadata}]
";

impl Layout {
    fn create(programs: Programs, options: &Options) -> Result<Self> {
        let run_dir = RunDir::create(&run_dir::home())?;
        let token = || format!("{:016x}{:016x}", random(), random());
        let manager_token = token();
        let on_loopback = || Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?)));
        let layout = Self {
            programs,
            apiserver_args: options.apiserver_args.clone(),
            etcd_port: free_port()?,
            apiserver: options.listen.map_or_else(on_loopback, anyhow::Ok)?,
            admin_token: token(),
            kubeconfig: run_dir.path().join("kubeconfig"),
            manager_kubeconfig: run_dir.path().join("kubeconfig-controller-manager"),
            run_dir,
        };
        // Both may do everything; two users, so that the audit log tells them apart.
        let users = format!(
            "{},admin,admin,system:masters\n\
             {manager_token},system:kube-controller-manager,manager,system:masters\n",
            layout.admin_token
        );
        write_private(&layout.tokens(), &users)?;
        fs::write(layout.audit_policy(), AUDIT_POLICY)?;
        layout.write_kubeconfig(&layout.kubeconfig, &json!({"token": layout.admin_token}))?;
        layout.write_kubeconfig(&layout.manager_kubeconfig, &json!({"token": manager_token}))?;
        Ok(layout)
    }

    fn dir(&self) -> &Path {
        self.run_dir.path()
    }

    fn tokens(&self) -> PathBuf {
        self.dir().join("tokens.csv")
    }

    fn audit_policy(&self) -> PathBuf {
        self.dir().join("audit-policy.yaml")
    }

    fn audit_log(&self) -> PathBuf {
        self.dir().join("audit.log")
    }

    /// Made by the apiserver when it starts for the first time, together with `apiserver.key`.
    fn certificate(&self) -> PathBuf {
        self.dir().join("pki/apiserver.crt")
    }

    /// Signs service account tokens, too: one key less to be made, and this one is there in time,
    /// because kube-apiserver makes it before it reads this one.
    fn key(&self) -> PathBuf {
        self.dir().join("pki/apiserver.key")
    }

    /// JSON, which is YAML, too.
    fn write_kubeconfig(&self, path: &Path, user: &serde_json::Value) -> Result<()> {
        let server = format!("https://{}", self.apiserver);
        let text = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{
                "name": "test",
                "cluster": {"server": server, "certificate-authority": self.certificate()},
            }],
            "users": [{"name": "test", "user": user}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
            "current-context": "test",
        });
        write_private(path, &format!("{text:#}\n"))
    }

    fn start_etcd(&self) -> Result<Process> {
        let url = format!("http://127.0.0.1:{}", self.etcd_port);
        let args = [
            format!("--data-dir={}", self.dir().join("etcd").display()),
            format!("--listen-client-urls={url}"),
            format!("--advertise-client-urls={url}"),
            // Nobody joins: any port does, and the advertised one stays what it is by default.
            "--listen-peer-urls=http://127.0.0.1:0".to_owned(),
            "--unsafe-no-fsync".to_owned(),
            "--log-level=warn".to_owned(),
        ];
        Process::start("etcd", &self.programs.etcd, args, self.dir())
    }

    fn start_apiserver(&self) -> Result<Process> {
        let path = |path: PathBuf| path.display().to_string();
        let mut args = vec![
            format!("--etcd-servers=http://127.0.0.1:{}", self.etcd_port),
            format!("--bind-address={}", self.apiserver.ip()),
            format!("--secure-port={}", self.apiserver.port()),
            // Where it would be reached from the outside, if it were: without it the address of
            // the default route is taken, and a machine without a network has none.
            "--advertise-address=192.0.2.1".to_owned(),
            "--endpoint-reconciler-type=none".to_owned(),
            format!("--cert-dir={}", path(self.dir().join("pki"))),
            format!("--token-auth-file={}", path(self.tokens())),
            "--authorization-mode=RBAC".to_owned(),
            format!("--service-cluster-ip-range={SERVICE_RANGE}"),
            "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
            format!("--service-account-key-file={}", path(self.key())),
            format!("--service-account-signing-key-file={}", path(self.key())),
            format!("--audit-policy-file={}", path(self.audit_policy())),
            format!("--audit-log-path={}", path(self.audit_log())),
            "--audit-log-format=json".to_owned(),
            "--audit-log-mode=blocking".to_owned(),
            // Never rotated: we read it from where we stopped.
            "--audit-log-maxsize=0".to_owned(),
        ];
        args.extend(self.apiserver_args.iter().cloned());
        Process::start("kube-apiserver", &self.programs.apiserver, args, self.dir())
    }

    fn start_controller_manager(&self, programs: &Programs) -> Result<Process> {
        let program = programs.controller_manager.as_deref();
        let program = program.context("kube-controller-manager was not looked for")?;
        let args = [
            format!("--kubeconfig={}", self.manager_kubeconfig.display()),
            format!("--root-ca-file={}", self.certificate().display()),
            format!("--service-account-private-key-file={}", self.key().display()),
            "--leader-elect=false".to_owned(),
            // Serves nothing, so needs no port.
            "--secure-port=0".to_owned(),
        ];
        Process::start("kube-controller-manager", program, args, self.dir())
    }

    /// Waits until the apiserver works; fails at once if one of the servers has ended.
    async fn ready(&self, servers: &mut [Process]) -> Result<Config> {
        let end = Instant::now() + START_MAX;
        loop {
            if let Some(ended) = servers.iter_mut().find_map(|s| has_ended(s).then_some(s)) {
                let last_lines = ended.last_lines();
                if last_lines.contains("address already in use") {
                    return Err(AddressInUse(ended.name()).into());
                }
                bail!("{} ended instead of working; it said:\n{last_lines}", ended.name());
            }
            let not_ready = match timeout(Duration::from_secs(5), self.look()).await {
                Ok(Ok(config)) => return Ok(config),
                Ok(Err(error)) => format!("{error:#}"),
                Err(_) => "no answer".to_owned(),
            };
            if Instant::now() > end {
                bail!("kube-apiserver is not ready after {START_MAX:?}; last seen: {not_ready}");
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// One look at whether the apiserver works, with all that is needed for it: the first time,
    /// even the certificate is still to be made.
    async fn look(&self) -> Result<Config> {
        let kubeconfig = Kubeconfig::read_from(&self.kubeconfig)?;
        let options = KubeConfigOptions::default();
        let mut config = Config::from_custom_kubeconfig(kubeconfig, &options).await?;
        config.default_retry = false;
        // Taken from the environment otherwise, and no proxy reaches our loopback interface.
        config.proxy_url = None;
        let client = client_for(config.clone())?;
        get(&client, "/readyz").await?;
        Api::<Namespace>::all(client).get("default").await?;
        Ok(config)
    }
}

/// Another process took the port between our look and our server's. Other ports help.
#[derive(Debug)]
struct AddressInUse(&'static str);

impl fmt::Display for AddressInUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "another process took the port of {}", self.0)
    }
}

impl std::error::Error for AddressInUse {}

/// Whether the program is gone. One that cannot be asked is treated like one that is.
fn has_ended(process: &mut Process) -> bool {
    !matches!(process.ended(), Ok(None))
}

fn client_for(config: Config) -> kube::Result<Client> {
    // It fails if the process has a default already: then that one is used.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::try_from(config)
}

/// The answer to a `GET`, if its status says that all is well.
async fn get(client: &Client, uri: &str) -> Result<String> {
    Ok(client.request_text(http::Request::get(uri).body(Vec::new())?).await?)
}

fn established(crd: &CustomResourceDefinition) -> Result<()> {
    let conditions = crd.status.as_ref().and_then(|status| status.conditions.as_deref());
    let conditions = conditions.unwrap_or_default();
    let is_true = |condition_type: &str| {
        conditions.iter().any(|it| it.type_ == condition_type && it.status == "True")
    };
    anyhow::ensure!(is_true("Established"), "{conditions:?}");
    Ok(())
}

fn write_private(path: &Path, text: &str) -> Result<()> {
    let mut options = File::options();
    options.create(true).truncate(true).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    Ok(options.open(path)?.write_all(text.as_bytes())?)
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
