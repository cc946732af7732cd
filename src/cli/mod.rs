//! Arguments and wiring.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

pub mod run;

pub mod office;

pub mod crds;

pub mod delete_definitions;

pub mod manifests;

pub mod validate;

pub mod cloud;

pub mod plan;

pub mod export;

pub mod report;

pub mod doctor;

pub mod man;

mod terminal;

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
    /// Print what manifests would change in the cloud, and what policies say of it.
    ///
    /// For a pull request: no cluster is needed, and nothing is written. Each directory is listed once.
    /// Addresses and numbers are masked. Exit code 0: nothing would change. 2: something would. 1: an
    /// error, or something would be refused, or a ContactPolicy under `Deny` would no longer hold.
    Plan(plan::Options),
    /// Print manifests for the contacts in the cloud that nothing manages.
    ///
    /// Applied, they are taken over without a write to the cloud. The output holds addresses and
    /// numbers in clear text. Exit code 0: done; what no manifest can express is told. 1: an error.
    Export(export::Options),
    /// Print who hears of what: message types, bindings and verified people.
    ///
    /// From what is in the cloud. Names are shown, addresses and numbers masked. Exit code 0: done,
    /// whatever it tells. 1: an error.
    Report(report::Options),
    /// Look for what stands in the way: endpoint, clock, credentials, permissions, cluster.
    ///
    /// Changes nothing. Exit code 0: nothing failed. 1: something did, or an error.
    Doctor(doctor::Options),
    /// Print the manual pages, or write one file a page.
    Man {
        /// The folder for the files; it is made if it is not there.
        #[arg(long, value_name = "DIR")]
        output: Option<PathBuf>,
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
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(code_of_wrong_arguments(&error));
        }
    };
    let ended = match arguments.command {
        Command::Run(options) => run::run(options).map(|()| ExitCode::SUCCESS),
        Command::Crds { admission } => {
            print(|out| crds::print(admission, out)).map(|()| ExitCode::SUCCESS)
        }
        Command::DeleteDefinitions => {
            delete_definitions::run(&mut io::stdout().lock()).map(|()| ExitCode::SUCCESS)
        }
        Command::Validate { filename } => validate(&filename),
        Command::Plan(options) => plan::run(&options, environment, &mut io::stdin().lock())
            .and_then(|plan| {
                let exit_code = ExitCode::from(plan.exit_code);
                print(|out| out.write_all(plan.text.as_bytes())).map(|()| exit_code)
            }),
        Command::Export(options) => export::run(&options, environment, &mut io::stdin().lock())
            .and_then(|yaml| {
                print(|out| out.write_all(yaml.as_bytes())).map(|()| ExitCode::SUCCESS)
            }),
        Command::Report(options) => report::run(&options, environment, &mut io::stdin().lock())
            .and_then(|text| {
                print(|out| out.write_all(text.as_bytes())).map(|()| ExitCode::SUCCESS)
            }),
        Command::Doctor(options) => doctor::run(&options, environment, &mut io::stdin().lock())
            .and_then(|found| {
                print(|out| out.write_all(found.text.as_bytes()))?;
                Ok(if found.healthy { ExitCode::SUCCESS } else { ExitCode::FAILURE })
            }),
        Command::Man { output } => manual(output.as_deref()).map(|()| ExitCode::SUCCESS),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            let mut command = Arguments::command();
            clap_complete::generate(shell, &mut command, "message-contact-operator", &mut script);
            print(|out| out.write_all(&script)).map(|()| ExitCode::SUCCESS)
        }
    };
    ended.unwrap_or_else(|error| {
        // File names and manifests are written by others.
        let text = terminal::printable_lines(&format!("{error:#}"));
        let _ = writeln!(io::stderr(), "error: {text}");
        ExitCode::FAILURE
    })
}

/// 2 by custom; of `plan` that says that something would change, which a typo must not.
fn code_of_wrong_arguments(error: &clap::Error) -> u8 {
    let is_plan = || std::env::args_os().nth(1).is_some_and(|command| command == "plan");
    match (error.use_stderr(), is_plan()) {
        (false, _) => 0,
        (true, true) => 1,
        (true, false) => 2,
    }
}

fn validate(paths: &[PathBuf]) -> anyhow::Result<ExitCode> {
    let mut clean = false;
    print(|out| {
        clean = validate::run(paths, &mut io::stdin().lock(), out)?.is_clean();
        Ok(())
    })?;
    Ok(if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn manual(folder: Option<&Path>) -> anyhow::Result<()> {
    let pages = man::pages(Arguments::command())?;
    match folder {
        Some(folder) => man::write(&pages, folder),
        None => print(|out| pages.iter().try_for_each(|page| out.write_all(&page.text))),
    }
}

/// Runs one command's own work with a runtime of its own.
fn block_on<T>(work: impl Future<Output = T>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let ended = runtime.block_on(work);
    // Whatever is left concerns nobody any more.
    runtime.shutdown_background();
    Ok(ended)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_is_put_together_rightly() {
        Arguments::command().debug_assert();
    }
}
