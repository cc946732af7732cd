//! What `cargo demo` runs: the operator's main job, shown to a person on real parts.
//!
//! A control plane, the simulator as the cloud, and the operator as its users run it; then acts,
//! each of which does something, shows what comes of it, and checks that it really happened.
//!
//! ```text
//! main ── acts ── stage ─┬─ screen    the only place that prints
//!                        ├─ parts     cluster, simulator, operator
//!                        └─ view      calls and contacts as lines of text
//! ```
#![allow(
    clippy::disallowed_methods,
    reason = "the clock, the environment and clients: this program is a shell around the real ones"
)]

mod acts;

mod stage;

mod parts;

mod operator;

mod view;

mod screen;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Parser;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::parts::Parts;
use crate::screen::Screen;
use crate::stage::Stage;

/// Shows the operator's main job on real parts: a Kubernetes control plane, a simulated cloud and
/// the operator itself. Needs Rust and Go; builds the rest, which takes minutes the first time.
#[derive(Debug, Parser)]
#[command(name = "cargo demo", bin_name = "cargo demo --")]
struct Arguments {
    /// End after the last act instead of staying up until Ctrl-C. Exit code 0: everything that it
    /// told really happened.
    #[arg(long)]
    once: bool,
}

/// What a shell reports of a program that Ctrl-C has ended.
const INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let screen = Screen::new();
    let ended = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("no runtime")
        .and_then(|runtime| {
            let ended = runtime.block_on(demo(&arguments, &screen));
            // A build of the control plane blocks a thread for minutes; it ends with this process.
            runtime.shutdown_timeout(Duration::from_secs(1));
            ended
        });
    ended.unwrap_or_else(|error| {
        // If nobody reads, there is nobody to tell.
        let _ = screen.failed(&format!("{error:#}"));
        ExitCode::FAILURE
    })
}

async fn demo(arguments: &Arguments, screen: &Screen) -> Result<ExitCode> {
    // It fails if there is one already: then that one is used.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut interrupts = Interrupts::new()?;

    let parts = tokio::select! {
        parts = Parts::start(screen) => parts?,
        () = interrupts.next() => return Ok(ExitCode::from(INTERRUPTED)),
    };
    let mut stage = Stage::new(screen, parts);
    let shown = tokio::select! {
        shown = show(&mut stage, arguments.once) => shown,
        () = interrupts.next() => Ok(()),
    };
    screen.still();
    // Ctrl-C after the last act is the end that was asked for.
    let code = if stage.acts_failed() {
        ExitCode::FAILURE
    } else if stage.all_acts_played() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(INTERRUPTED)
    };
    tokio::select! {
        stopped = stage.into_parts().stop(screen) => stopped?,
        // Everything is killed when it is dropped.
        () = interrupts.next() => return Ok(ExitCode::from(INTERRUPTED)),
    }
    shown.map(|()| code)
}

/// Plays all acts, tells how they went and, unless that is all, stays up.
async fn show(stage: &mut Stage<'_>, once: bool) -> Result<()> {
    stage.screen.live();
    let failure = acts::play(stage, !once).await;
    stage.screen.still();
    stage.tell_result(failure.as_ref(), once)?;
    if failure.is_none() && !once {
        stage.screen.live();
        stage.watch().await?;
    }
    Ok(())
}

/// Ctrl-C and SIGTERM.
struct Interrupts {
    interrupt: Signal,
    terminate: Signal,
}

impl Interrupts {
    fn new() -> Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
