//! Holds a control plane until Ctrl-C: `cargo run -p test-cluster -- [--controller-manager]`.
//!
//! With `--build-only` it ends as soon as the programs are there: a step of its own for CI.
//! Prints one line, `KUBECONFIG=<path>`, once the control plane is ready.

use std::{
    env,
    io::{self, Write as _},
};

use anyhow::{Result, bail};
use cluster::{Cluster, Options};

#[tokio::main]
async fn main() -> Result<()> {
    let mut options = Options::default();
    let mut build_only = false;
    for arg in env::args().skip(1) {
        match arg.as_str() {
            "--controller-manager" => options.controller_manager = true,
            "--build-only" => build_only = true,
            _ => bail!("unknown argument {arg}; known: --controller-manager, --build-only"),
        }
    }
    if build_only {
        return cluster::prepare(&options).await;
    }
    let cluster = Cluster::start(options).await?;
    writeln!(io::stdout(), "KUBECONFIG={}", cluster.kubeconfig_path().display())?;
    tokio::signal::ctrl_c().await?;
    Ok(())
}
