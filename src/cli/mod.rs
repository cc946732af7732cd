//! Arguments and wiring.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

pub mod run;

pub mod crds;

pub mod delete_definitions;

pub mod validate;

/// Keeps the message contacts of an Alibaba Cloud resource directory in git.
///
/// A `MessageContact` declares who is told what, a `ResourceDirectory` is the connection to one
/// directory. The operator compares them with the cloud, makes the cloud agree, and writes the
/// truth into `status`.
#[derive(Debug, Parser)]
#[command(name = "message-contact-operator", version, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the controller against the cluster of KUBECONFIG or of the service account.
    Run(run::Options),
    /// Print the custom resource definitions, for `kubectl apply --server-side -f -`.
    Crds {
        /// The rules by which the apiserver judges contacts by ContactPolicies, instead of the
        /// definitions: three `ValidatingAdmissionPolicies` and their bindings.
        #[arg(long)]
        admission: bool,
    },
    /// Delete the custom resource definitions and all their objects, and nothing in the cloud.
    ///
    /// For an uninstallation: it lets go of every object, whether an operator runs or not. All
    /// contacts stay in the cloud as they are.
    DeleteDefinitions,
    /// Check manifests without a cluster, as the apiserver would.
    ///
    /// Exit code 0: all are valid. 1: some are not, or could not be read.
    Validate {
        /// A file, a folder with all below it, or `-` for the input. May be given several times.
        #[arg(short = 'f', long = "filename", value_name = "PATH", required = true)]
        filename: Vec<PathBuf>,
    },
    /// Print a completion script for a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

/// Runs the program with the arguments of the process.
#[must_use]
pub fn main() -> ExitCode {
    let ended = match Arguments::parse().command {
        Command::Run(options) => run::run(options).map(|()| ExitCode::SUCCESS),
        Command::Crds { admission } => {
            print(|out| crds::print(admission, out)).map(|()| ExitCode::SUCCESS)
        }
        Command::DeleteDefinitions => {
            delete_definitions::run(&mut io::stdout().lock()).map(|()| ExitCode::SUCCESS)
        }
        Command::Validate { filename } => validate(&filename),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            let mut command = Arguments::command();
            clap_complete::generate(shell, &mut command, "message-contact-operator", &mut script);
            print(|out| out.write_all(&script)).map(|()| ExitCode::SUCCESS)
        }
    };
    ended.unwrap_or_else(|error| {
        let _ = writeln!(io::stderr(), "error: {error:#}");
        ExitCode::FAILURE
    })
}

fn validate(paths: &[PathBuf]) -> anyhow::Result<ExitCode> {
    let mut clean = false;
    print(|out| {
        clean = validate::run(paths, &mut io::stdin().lock(), out)?.is_clean();
        Ok(())
    })?;
    Ok(if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Prints to standard output. A reader that has gone away is not an error.
fn print(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> anyhow::Result<()> {
    match write(&mut io::stdout().lock()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        ended => Ok(ended?),
    }
}

/// A variable of the process's environment; the only place that reads it beside clap.
#[expect(clippy::disallowed_methods, reason = "the one place; all others are given a lookup")]
fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
