//! Children that cannot outlive this process.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
};

use anyhow::{Context as _, Result};

/// Runs `"$@"`, writes its process id to the file `$0`, and ends as it ends.
///
/// The watcher reads a pipe whose only writing end is in our process. When our process is gone,
/// also when it was killed, the read returns and the child is killed. Nothing is ever written.
const WATCHDOG: &str = r#"
exec 3<&0
"$@" </dev/null 3<&- &
child=$!
echo "$child" >"$0"
{ read -r _ <&3; kill -9 "$child"; } 2>/dev/null &
watcher=$!
wait "$child"
code=$?
kill "$watcher" 2>/dev/null
exit "$code"
"#;

/// The command that runs `program` so that it cannot outlive this process, however that ends;
/// arguments added to it are the program's, and its process id is written to `pid_file`.
///
/// The caller MUST hold the child's stdin for as long as the program shall run: closing it kills
/// the program.
#[must_use]
pub fn watched(program: &Path, pid_file: &Path) -> Command {
    let mut command = Command::new("sh");
    command.arg("-c").arg(WATCHDOG).arg(pid_file).arg(program).stdin(Stdio::piped());
    // A process group of its own: Ctrl-C in the terminal is for us, and we end the child.
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    command
}

/// A server that runs until it is dropped.
#[derive(Debug)]
pub(crate) struct Process {
    name: &'static str,
    shell: Child,
    /// Dropping it is what kills the program.
    leash: Option<ChildStdin>,
    log: PathBuf,
}

impl Process {
    /// Starts `program`; its output is appended to `<dir>/<name>.log`, its process id is in
    /// `<dir>/<name>.pid`.
    pub(crate) fn start<A: AsRef<OsStr>>(
        name: &'static str,
        program: &Path,
        args: impl IntoIterator<Item = A>,
        dir: &Path,
    ) -> Result<Self> {
        let log = dir.join(format!("{name}.log"));
        let output = File::options().create(true).append(true).open(&log)?;
        let mut command = watched(program, &dir.join(format!("{name}.pid")));
        // etcd reads its options from ETCD_*, Go programs obey proxies, GODEBUG and so on.
        command.env_clear().envs(std::env::vars_os().filter(|(key, _)| key == "PATH"));
        command.args(args).current_dir(dir).stdout(output.try_clone()?).stderr(output);
        let mut shell = command.spawn().with_context(|| format!("cannot start {name}"))?;
        let leash = shell.stdin.take();
        Ok(Self { name, shell, leash, log })
    }

    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// How the program ended, if it did.
    pub(crate) fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.shell.try_wait()
    }

    /// The end of what the program said.
    pub(crate) fn last_lines(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }

    /// Kills the program and waits until it is gone: its port is free and its files are closed.
    pub(crate) fn end(&mut self) {
        drop(self.leash.take());
        // It fails only if the shell has been waited for already, and then it is gone as well.
        let _ = self.shell.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}
