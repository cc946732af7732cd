//! `run`: the controller.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use axum::Router;
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::get;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ObjectMeta, PostParams};
use kube::config::KubeconfigError;
use kube::{Api, Client, Config};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use super::office::Office;
use crate::api::parse;
use crate::clock::Clock;
use crate::controller::{self, Environment, Readiness, Scope};
use crate::lease::{Leadership, Terms};
use crate::plan::hash::HashKey;
use crate::telemetry::{self, LogFormat, Metrics};

/// The Secret with the key of the hashes in status.
pub const HASH_KEY_SECRET: &str = "message-contact-operator-hash-key";

/// The key in that Secret.
const HASH_KEY: &str = "key";

/// Longest time from SIGTERM until the controllers are given up. With [`LEFTOVERS_END_WITHIN`] and
/// the time in which the lease is released it is less than the 20 s that the manual promises.
const STOP_WITHIN: Duration = Duration::from_secs(17);

/// Longest time in which a leader has the key of the hashes: one that cannot work does not lead.
const HASH_KEY_WITHIN: Duration = Duration::from_secs(10);

/// Longest time for what blocks a thread after that.
const LEFTOVERS_END_WITHIN: Duration = Duration::from_secs(1);

/// Longest time until the apiserver takes a connection, TLS included.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// Longest time in which the apiserver takes nothing of a request.
const SENT_WITHIN: Duration = Duration::from_secs(30);

/// Longest silence of the apiserver within an answer. A watch may be silent until the apiserver ends
/// it, which kube asks for after 290 s, and kube's own patience with it is 295 s; one that is cut
/// before would be begun again and again. For other requests this is only the last resort.
const SILENT_FOR_MAX: Duration = Duration::from_mins(5);

/// Options of `run`.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// The operator's own namespace: Secrets with access keys are read from it, and a
    /// `ResourceDirectory` without `spec.namespaces` admits only contacts in it.
    #[arg(long, env = "MCO_NAMESPACE", default_value = "message-contacts")]
    namespace: String,

    /// An endpoint that a `ResourceDirectory`, or `ALIBABA_CLOUD_STS_ENDPOINT`, may name beside the
    /// built-in ones, as an exact origin such as `http://127.0.0.1:8443`. May be given several times.
    #[arg(long, env = "MCO_ALLOW_ENDPOINT", value_name = "URL", value_delimiter = ',')]
    allow_endpoint: Vec<String>,

    /// A namespace whose MessageContacts, and the Secrets that they name, are read; all others are
    /// not seen. May be given several times; without it, all namespaces are. Two objects hold one
    /// contact if one of them is not seen: give such an operator a directory of its own.
    #[arg(long, env = "MCO_WATCH_NAMESPACE", value_name = "NAMESPACE", value_delimiter = ',')]
    watch_namespace: Vec<String>,

    /// Whether several processes may run, of which one acts. Without it, only one may run in a
    /// cluster.
    #[arg(long, env = "MCO_LEADER_ELECTION", value_name = "BOOL", default_value = "true",
        action = clap::ArgAction::Set)]
    leader_election: bool,

    /// How long the others wait after the last sign of the leader before one of them takes over. No
    /// call to the cloud takes longer.
    #[arg(long, env = "MCO_LEASE_DURATION", value_name = "DURATION", default_value = "15s",
        value_parser = duration)]
    lease_duration: Duration,

    /// How long a leader that cannot renew its lease goes on before it ends; at most four fifths of
    /// the lease.
    #[arg(long, env = "MCO_RENEW_DEADLINE", value_name = "DURATION", default_value = "10s",
        value_parser = duration)]
    renew_deadline: Duration,

    /// Where `/livez` and `/readyz` are served.
    #[arg(long, env = "MCO_HEALTH_ADDR", value_name = "ADDR", default_value = "0.0.0.0:8081")]
    health_addr: SocketAddr,

    /// Where `/metrics` is served: OpenMetrics for clients that ask for it, else the text format
    /// of Prometheus.
    #[arg(long, env = "MCO_METRICS_ADDR", value_name = "ADDR", default_value = "0.0.0.0:8080")]
    metrics_addr: SocketAddr,

    /// How log lines look.
    #[arg(long, env = "MCO_LOG_FORMAT", value_enum, default_value = "text")]
    log_format: LogFormat,

    /// What is logged: a level, or a list of `target=level` with targets such as
    /// `message_contact_operator::cloud`. Libraries print what passes through them, private values
    /// included: nothing of them is ever logged.
    #[arg(long, env = "MCO_LOG", value_name = "FILTER", default_value = "info")]
    log: String,
}

fn is_namespace(name: &str) -> bool {
    name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
}

fn duration(text: &str) -> Result<Duration, &'static str> {
    let parsed = parse::duration(text).and_then(|duration| Duration::try_from(duration).ok());
    parsed.ok_or("write hours, minutes and seconds in this order, such as 15s or 1m30s")
}

/// Runs the controller until SIGTERM or SIGINT.
///
/// # Errors
/// An allowed endpoint is no origin, the durations of the lease do not fit together, the cluster cannot
/// be found, the hash key cannot be had, an address cannot be listened on, or the lease was lost.
pub fn run(options: Options) -> anyhow::Result<()> {
    // Here and not by clap, which would repeat a value with a password in it.
    let mut origins = options.allow_endpoint.iter().filter(|origin| !origin.is_empty());
    anyhow::ensure!(
        origins.all(|origin| parse::is_origin(origin)),
        "--allow-endpoint or MCO_ALLOW_ENDPOINT: write scheme, host and port only, such as \
         http://127.0.0.1:8443, without user, path or query"
    );
    anyhow::ensure!(
        options.watch_namespace.iter().all(|name| name.is_empty() || is_namespace(name)),
        "--watch-namespace or MCO_WATCH_NAMESPACE: write the names of namespaces, each of lower-case \
         letters, digits and `-`, with commas between them in the variable"
    );
    let terms = Terms::new(options.lease_duration, options.renew_deadline);
    let terms = terms.context("--lease-duration and --renew-deadline")?;
    telemetry::start(options.log_format, &options.log)
        .context("--log or MCO_LOG: write a level such as `info`, or `target=level`")?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let ended = runtime.block_on(serve(options, terms));
    // Whatever is left has had its time.
    runtime.shutdown_timeout(LEFTOVERS_END_WITHIN);
    ended
}

async fn serve(options: Options, terms: Terms) -> anyhow::Result<()> {
    // Before anything that takes time: a signal during the start counts as well.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let asked_to_stop = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    let mut asked_to_stop = std::pin::pin!(asked_to_stop);

    let readiness = Readiness::default();
    serve_health(options.health_addr, readiness.clone()).await?;
    let metrics = Metrics::default();
    serve_metrics(options.metrics_addr, metrics.clone()).await?;
    let client = tokio::select! {
        client = client() => client?,
        () = &mut asked_to_stop => {
            tracing::info!("the operator has ended before it began");
            return Ok(());
        }
    };
    let namespace = options.namespace.clone();
    // What is under way when the lease is lost ends before the lease would have.
    let lost_within = options.lease_duration.saturating_sub(options.renew_deadline);
    let mut office = options.leader_election.then(|| Office::new(&client, &namespace, terms));
    let mut environment = Environment::new(options.namespace, options.allow_endpoint, |name| {
        super::environment(name)
    });
    environment.scope = Scope::of(options.watch_namespace);
    environment.metrics = metrics.clone();
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "the operator starts");

    let (begin, told_to_begin) = oneshot::channel();
    let elected = async move {
        match told_to_begin.await {
            Ok(hash_key) => {
                metrics.lead(true);
                hash_key
            }
            // What could not begin ends the process.
            Err(_) => std::future::pending().await,
        }
    };
    let (stop, stopped) = oneshot::channel();
    let stopped = async move {
        let _ = stopped.await;
    };
    let leadership = office.as_ref().map_or_else(Leadership::unshared, Office::leadership);
    let clock = Clock::system();
    let controller = controller::run(
        client.clone(),
        environment,
        clock,
        readiness,
        leadership,
        elected,
        stopped,
    );
    // A task of its own: a wave of passes must not keep the lease from being renewed. Dropping the set
    // ends it.
    let mut controllers = tokio::task::JoinSet::new();
    controllers.spawn(controller);
    {
        let leading = lead(office.as_mut(), &client, &namespace, begin);
        let mut leading = std::pin::pin!(leading);
        tokio::select! {
            biased;
            () = &mut asked_to_stop => {}
            ended = &mut leading => {
                // Nothing begins any more; what is under way ends with its traces.
                let _ = stop.send(());
                let _ = tokio::time::timeout(lost_within, controllers.join_next()).await;
                return ended;
            }
            _ = controllers.join_next() => anyhow::bail!("the controllers ended by themselves"),
        }
        // Fails only after the controllers have ended.
        let _ = stop.send(());
        let ended = tokio::select! {
            ended = &mut leading => {
                let _ = tokio::time::timeout(lost_within, controllers.join_next()).await;
                return ended;
            }
            ended = tokio::time::timeout(STOP_WITHIN, controllers.join_next()) => ended,
        };
        match ended {
            Ok(Some(Ok(()))) => {}
            // Whatever they had under way may still be: the lease ends by itself.
            Ok(_) => anyhow::bail!("the controllers broke off"),
            Err(_) => {
                tracing::warn!("something was still under way after {STOP_WITHIN:?}");
                return Ok(());
            }
        }
    }
    if let Some(office) = office {
        office.release().await;
    }
    tracing::info!("the operator has ended");
    Ok(())
}

/// A client of the cluster that `KUBECONFIG` or the service account names.
///
/// # Errors
/// There is none, or there is no usable way to log in.
pub(super) async fn client() -> anyhow::Result<Client> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let config = cluster_config().await?;
    // What kube says may repeat keys, or what a login program has printed.
    Client::try_from(config).map_err(|_| {
        anyhow!("the kubeconfig has no usable way to log in; check with `kubectl get namespaces`")
    })
}

/// Waits until this process may act, has it begin, and ends only when it may no more.
async fn lead(
    office: Option<&mut Office>,
    client: &Client,
    namespace: &str,
    begin: oneshot::Sender<HashKey>,
) -> anyhow::Result<()> {
    let Some(office) = office else {
        let _ = begin.send(hash_key(client, namespace).await?);
        return std::future::pending().await;
    };
    office.win().await?;
    let keep = office.keep();
    let act = async {
        // Read now and not before: another leader may have made it anew.
        let _ = begin.send(hash_key(client, namespace).await?);
        std::future::pending().await
    };
    tokio::select! {
        ended = keep => ended,
        ended = act => ended,
    }
}

/// The cluster, from `KUBECONFIG` or the service account.
pub(super) async fn cluster_config() -> anyhow::Result<Config> {
    let mut config = Config::infer().await.map_err(|error| why_no_cluster(&error))?;
    // A pass that was refused is begun again with what is known by then; a client that repeats
    // requests by itself would repeat stale ones.
    config.default_retry = false;
    config.connect_timeout = Some(CONNECT_WITHIN);
    config.write_timeout = Some(SENT_WITHIN);
    config.read_timeout = Some(SILENT_FOR_MAX);
    // Counted from each request, not from when its pooled connection fell idle.
    config.reset_reader_on_write = true;
    let agent = concat!("message-contact-operator/", env!("CARGO_PKG_VERSION"));
    config
        .headers
        .push((axum::http::header::USER_AGENT, axum::http::HeaderValue::from_static(agent)));
    Ok(config)
}

/// What to do when no cluster was found. Nothing of kube's own texts: a parser quotes the lines
/// around a mistake, and tokens stand there.
fn why_no_cluster(error: &dyn std::error::Error) -> anyhow::Error {
    let none = "no cluster: set KUBECONFIG, or run in a pod with a service account";
    match error.source().and_then(|source| source.downcast_ref::<KubeconfigError>()) {
        None | Some(KubeconfigError::FindPath) => anyhow!(none),
        Some(KubeconfigError::ReadConfig(error, path)) => {
            anyhow!("{none} ({}: {})", path.display(), error.kind())
        }
        Some(KubeconfigError::Parse(_)) => anyhow!(
            "KUBECONFIG cannot be read as a kubeconfig; check it with `kubectl config view`"
        ),
        Some(
            KubeconfigError::CurrentContextNotSet
            | KubeconfigError::LoadContext(_)
            | KubeconfigError::LoadClusterOfContext(_)
            | KubeconfigError::MissingClusterUrl,
        ) => anyhow!(
            "KUBECONFIG selects no cluster (current-context); check it with `kubectl config \
             get-contexts`"
        ),
        Some(_) => anyhow!(
            "KUBECONFIG holds something that cannot be used, such as an address, a certificate or \
             a key; check it with `kubectl config view`"
        ),
    }
}

/// The key of the hashes, made if it is not there.
async fn hash_key(client: &Client, namespace: &str) -> anyhow::Result<HashKey> {
    let found = tokio::time::timeout(HASH_KEY_WITHIN, read_or_make_hash_key(client, namespace));
    found.await.unwrap_or_else(|_| {
        anyhow::bail!("the Secret `{HASH_KEY_SECRET}` was not answered within {HASH_KEY_WITHIN:?}")
    })
}

async fn read_or_make_hash_key(client: &Client, namespace: &str) -> anyhow::Result<HashKey> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let where_ = || format!("the Secret `{HASH_KEY_SECRET}` in the namespace `{namespace}`");
    // Never the text of a refusal: a policy may quote the object, and the key with it.
    let refused = |error: &kube::Error| anyhow!("{}: {}", where_(), controller::kind_of(error));
    for _ in 0..2 {
        if let Some(secret) =
            secrets.get_opt(HASH_KEY_SECRET).await.map_err(|error| refused(&error))?
        {
            let bytes = secret.data.unwrap_or_default().remove(HASH_KEY).map(|value| value.0);
            let bytes = bytes.and_then(|bytes| <[u8; HashKey::BYTES]>::try_from(bytes).ok());
            return bytes.map(HashKey::new).with_context(|| {
                format!(
                    "{}: `{HASH_KEY}` must hold 32 bytes; delete the Secret to have it made anew",
                    where_()
                )
            });
        }
        let secret = Secret {
            metadata: ObjectMeta {
                name: Some(HASH_KEY_SECRET.to_owned()),
                ..ObjectMeta::default()
            },
            data: Some([(HASH_KEY.to_owned(), ByteString(random_bytes().to_vec()))].into()),
            ..Secret::default()
        };
        match secrets.create(&PostParams::default(), &secret).await {
            Ok(_) => {}
            // Somebody else was faster: theirs is read.
            Err(kube::Error::Api(refusal)) if refusal.code == 409 => {}
            Err(error) => return Err(refused(&error)),
        }
    }
    anyhow::bail!("{}: it vanishes again and again", where_())
}

/// Bytes that nobody can guess.
pub(super) fn random_bytes() -> [u8; HashKey::BYTES] {
    use sha2::{Digest as _, Sha256};
    // A version 4 uuid carries 122 random bits of the system; four of them are more than 256.
    let mut digest = Sha256::new();
    for _ in 0..4 {
        digest.update(uuid::Uuid::new_v4().as_bytes());
    }
    digest.finalize().into()
}

/// `/livez`: the process runs. `/readyz`: everything was listed once; else what was not, and why.
async fn serve_health(address: SocketAddr, readiness: Readiness) -> anyhow::Result<()> {
    let listener = listen("--health-addr", "MCO_HEALTH_ADDR", address).await?;
    tracing::info!(address = %listener.local_addr()?, "health is served");
    let ready = move || {
        let (ready, missing) = (readiness.is_ready(), readiness.missing());
        async move {
            if ready {
                (StatusCode::OK, "ok\n".to_owned())
            } else {
                let mut lines = vec!["not everything was listed yet".to_owned()];
                lines.extend(missing);
                (StatusCode::SERVICE_UNAVAILABLE, lines.join("\n") + "\n")
            }
        }
    };
    let router =
        Router::new().route("/livez", get(|| async { "ok\n" })).route("/readyz", get(ready));
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok(())
}

/// `/metrics`: what is counted, and what is true now.
async fn serve_metrics(address: SocketAddr, metrics: Metrics) -> anyhow::Result<()> {
    let listener = listen("--metrics-addr", "MCO_METRICS_ADDR", address).await?;
    tracing::info!(address = %listener.local_addr()?, "metrics are served");
    let page = move |headers: HeaderMap| {
        let metrics = metrics.clone();
        async move {
            // Several headers count as one list.
            let accepted = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
            let accept = accepted.collect::<Vec<_>>().join(",");
            // It looks at every contact, and reads files.
            let page = tokio::task::spawn_blocking(move || metrics.page(Some(&accept))).await;
            if let Ok(page) = page {
                (StatusCode::OK, [(CONTENT_TYPE, page.content_type)], page.body)
            } else {
                let why = "the metrics could not be put together\n".to_owned();
                (StatusCode::INTERNAL_SERVER_ERROR, [(CONTENT_TYPE, "text/plain")], why)
            }
        }
    };
    let router = Router::new().route("/metrics", get(page));
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok(())
}

/// Listens at the address of a flag, or says what to write instead.
async fn listen(flag: &str, variable: &str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        let (why, instead) = match error.kind() {
            io::ErrorKind::AddrInUse => ("another program listens there", "a free address"),
            io::ErrorKind::AddrNotAvailable => {
                ("this machine does not have that address", "one that it has")
            }
            io::ErrorKind::PermissionDenied => {
                ("the system does not allow it", "a port above 1023")
            }
            _ => ("the system cannot listen there", "another address"),
        };
        anyhow!("{flag} {address}: {why}; give {instead} with {flag} or {variable}")
    })
}
