//! A real etcd and kube-apiserver, and a kube-controller-manager on request, for one process.
//!
//! The programs come from `KUBEBUILDER_ASSETS` if it is set; else they are built once with Go,
//! from the modules in `tests/tools`, and kept below the target directory. Everything listens on
//! loopback only, on free ports, and is gone when the process ends, however it ends.
//!
//! ```no_run
//! # async fn example() -> anyhow::Result<()> {
//! let cluster = cluster::shared().await?;
//! let namespace = cluster.namespace("story").await?;
//! let mark = cluster.audit().mark()?;
//! // … let the program under test work in `namespace` …
//! let writes = cluster.audit().writes(mark, cluster::By::User("operator"))?;
//! assert!(writes.is_empty(), "{writes:#?}");
//! # let _ = namespace;
//! # Ok(())
//! # }
//! ```
//!
//! This crate knows nothing of contacts.
#![allow(
    clippy::disallowed_methods,
    reason = "the clock, the environment and clients: this crate is the shell of a test"
)]

mod control_plane;

mod node;

mod audit;
mod wait;

mod binaries;
mod modules;
mod process;
mod run_dir;
mod tools;

use tokio::sync::OnceCell;

pub use audit::{Audit, AuditEvent, By, Mark};
pub use control_plane::{Cluster, Options};
pub use modules::files_of_module;
pub use node::Node;
pub use process::watched;
pub use tools::tool;
pub use wait::wait_for;

/// The one cluster of this process, started by whoever asks first.
///
/// Every `#[tokio::test]` has its own runtime and the cluster outlives them all: nothing in it
/// belongs to a runtime, and [`Cluster::client`] makes a client for the runtime that calls it.
///
/// # Errors
///
/// As [`Cluster::start`]. A failure is remembered: a build that failed once is not tried again by
/// the next hundred tests.
pub async fn shared() -> anyhow::Result<&'static Cluster> {
    static SHARED: OnceCell<Result<Cluster, String>> = OnceCell::const_new();
    let start =
        async || Cluster::start(Options::default()).await.map_err(|error| format!("{error:#}"));
    SHARED.get_or_init(start).await.as_ref().map_err(|error| anyhow::anyhow!("{error}"))
}

/// Finds the programs that a cluster with these options needs, and builds what is missing.
///
/// For a step of its own in CI; [`Cluster::start`] does the same by itself.
///
/// # Errors
///
/// If Go is missing or the build fails.
pub async fn prepare(options: &Options) -> anyhow::Result<()> {
    control_plane::find_programs(options.controller_manager).await.map(drop)
}
