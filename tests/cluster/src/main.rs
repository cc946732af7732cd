//! Holds a control plane until Ctrl-C: `cargo run -p test-cluster -- [--controller-manager]`, or
//! a whole node: `--node`, which needs root.
//!
//! With `--build-only` it ends as soon as the programs are there: a step of its own for CI.
//! Prints one line, `KUBECONFIG=<path>`, once the control plane is ready.

use std::{
    env,
    io::{self, Write as _},
    path::Path,
};

use anyhow::{Result, bail};
use cluster::{Cluster, Node, Options};

#[tokio::main]
async fn main() -> Result<()> {
    let mut options = Options::default();
    let (mut build_only, mut with_node) = (false, false);
    for arg in env::args().skip(1) {
        match arg.as_str() {
            "--controller-manager" => options.controller_manager = true,
            "--build-only" => build_only = true,
            "--node" => with_node = true,
            _ => bail!("unknown argument {arg}; known: --controller-manager, --node, --build-only"),
        }
    }
    match (build_only, with_node) {
        (true, true) => Node::prepare().await,
        (true, false) => cluster::prepare(&options).await,
        (false, true) => {
            let node = Node::start().await?;
            hold(node.cluster().kubeconfig_path()).await
        }
        (false, false) => hold(Cluster::start(options).await?.kubeconfig_path()).await,
    }
}

async fn hold(kubeconfig: &Path) -> Result<()> {
    writeln!(io::stdout(), "KUBECONFIG={}", kubeconfig.display())?;
    tokio::signal::ctrl_c().await?;
    Ok(())
}
