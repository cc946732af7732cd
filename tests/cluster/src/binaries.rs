//! Where the programs of the control plane and of the node come from.

use std::{
    collections::VecDeque,
    env,
    ffi::{OsStr, OsString},
    fs::{self, File, TryLockError},
    io::{self, BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{self, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use crate::{process::watched, run_dir};

/// A program that is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Program {
    Etcd,
    Apiserver,
    ControllerManager,
    Scheduler,
    Kubelet,
    Containerd,
    /// What containerd starts for each pod.
    Shim,
    CniBridge,
    CniLoopback,
    CniHostLocal,
    /// Copies images, and is the registry that they are pulled from.
    Crane,
    /// What holds the namespaces of a pod.
    Pause,
}

/// What the search looks at, as values, so that a test can look elsewhere.
#[derive(Debug)]
pub(crate) struct Search {
    /// `KUBEBUILDER_ASSETS`: a directory with the programs, as `setup-envtest` fills it.
    assets: Option<PathBuf>,
    /// `PATH`, in which `go` is looked up.
    path: OsString,
    /// Where built programs are kept.
    home: PathBuf,
}

impl Search {
    pub(crate) fn of_this_process() -> Self {
        let assets = env::var_os("KUBEBUILDER_ASSETS").filter(|assets| !assets.is_empty());
        Self {
            assets: assets.map(PathBuf::from),
            path: env::var_os("PATH").unwrap_or_default(),
            home: run_dir::home(),
        }
    }

    /// The paths of these programs, in this order. Builds what is missing, which takes minutes.
    ///
    /// # Errors
    ///
    /// If `KUBEBUILDER_ASSETS` lacks one of them, if there is no Go, or if the build fails.
    pub(crate) fn find<const N: usize>(&self, wanted: [Program; N]) -> Result<[PathBuf; N]> {
        if self.assets.is_some()
            && let Some(missing) =
                wanted.iter().find(|program| program.is_asset() && !self.place(**program).is_file())
        {
            bail!(
                "KUBEBUILDER_ASSETS has no {}: put it there, or unset the variable to have it \
                 built with Go",
                missing.name()
            );
        }
        let all_there = || wanted.iter().all(|program| self.place(*program).is_file());
        if !all_there() {
            let go = self.go()?;
            let _lock = self.lock()?;
            // Both the one that waited for the lock and the one that builds pass here.
            for program in wanted {
                if !self.place(program).is_file() {
                    self.build(program, &go)?;
                }
            }
            // Gigabytes that nothing else can use. After a failure it is kept: the next try is
            // faster. The module cache is shared with everybody and stays.
            fs::remove_dir_all(self.go_cache()).context("cannot remove Go's build cache")?;
        }
        Ok(wanted.map(|program| self.place(program)))
    }

    fn place(&self, program: Program) -> PathBuf {
        match &self.assets {
            Some(assets) if program.is_asset() => assets.join(program.name()),
            _ => self.home.join(program.release()).join(program.name()),
        }
    }

    fn go_cache(&self) -> PathBuf {
        self.home.join("go-build-cache")
    }

    fn go(&self) -> Result<PathBuf> {
        in_path(&self.path, "go").context(
            "the tests need a Kubernetes control plane: install Go (https://go.dev/doc/install) so \
             that it is built once, or set KUBEBUILDER_ASSETS to a directory with etcd and \
             kube-apiserver",
        )
    }

    /// One process at a time builds.
    fn lock(&self) -> Result<File> {
        fs::create_dir_all(&self.home)?;
        let lock = File::create(self.home.join("build.lock"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                tell("another process is building: waiting for it");
                lock.lock()?;
            }
            Err(TryLockError::Error(error)) => return Err(error.into()),
        }
        Ok(lock)
    }

    fn build(&self, program: Program, go: &Path) -> Result<()> {
        let place = self.place(program);
        let dir = place.parent().unwrap_or(&self.home);
        fs::create_dir_all(dir)?;
        let unfinished = dir.join(format!(".{}.{}", program.name(), process::id()));
        tell(&format!(
            "building {} ({}) with Go, once: {} on 2 cores, into {}",
            program.name(),
            program.release(),
            program.usual_time(),
            dir.display()
        ));
        let mut command = watched(go, &self.home.join("go.pid"));
        command
            .args(["build", "-v", "-mod=readonly", "-trimpath", "-buildvcs=false", "-ldflags"])
            .arg(program.linker_flags())
            .arg("-o")
            .arg(&unfinished)
            .arg(program.package())
            .current_dir(program.directory())
            .env("PATH", &self.path)
            .env("CGO_ENABLED", "0")
            .env("GOWORK", "off")
            .env("GOCACHE", self.go_cache())
            .env_remove("GOOS")
            .env_remove("GOARCH")
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = command.spawn().context("cannot run go")?;
        // Taken out: `wait` would close it, and that kills the build.
        let leash = child.stdin.take();
        let begun = Instant::now();
        let end_of_output = match child.stderr.take() {
            Some(output) => follow(program.name(), output, begun),
            None => String::new(),
        };
        let status = child.wait()?;
        drop(leash);
        if !status.success() {
            // What was there is of no use; if it cannot be removed it only wastes space.
            let _ = fs::remove_file(&unfinished);
            bail!("go could not build {} ({status}); it said:\n{end_of_output}", program.name());
        }
        fs::rename(&unfinished, &place)?;
        tell(&format!("built {} in {} s", program.name(), begun.elapsed().as_secs()));
        Ok(())
    }
}

/// The program of that name in `PATH`.
pub(crate) fn in_path(path: &OsStr, program: &str) -> Option<PathBuf> {
    env::split_paths(path).map(|dir| dir.join(program)).find(|place| place.is_file())
}

/// Reads what `go build -v` says until it ends, tells every 15 seconds how far it is, and returns
/// the last lines. Go prints the name of each package that it compiles.
pub(crate) fn follow(
    name: &'static str,
    output: impl io::Read + Send + 'static,
    begun: Instant,
) -> String {
    const HEARTBEAT: Duration = Duration::from_secs(15);
    const KEPT: usize = 30;
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    let mut last = VecDeque::new();
    let (mut packages, mut downloads) = (0_u32, 0_u32);
    let mut beat_at = begun + HEARTBEAT;
    loop {
        match lines.recv_timeout(beat_at.saturating_duration_since(Instant::now())) {
            Ok(line) => {
                if line.starts_with("go: downloading ") {
                    downloads += 1;
                } else {
                    packages += 1;
                }
                if last.len() == KEPT {
                    last.pop_front();
                }
                last.push_back(line);
            }
            Err(RecvTimeoutError::Timeout) => {
                let elapsed = begun.elapsed().as_secs();
                let line = last.back().map_or("", String::as_str);
                tell(&format!(
                    "{name}: {elapsed} s, {downloads} modules downloaded, {packages} packages \
                     compiled, last {line}"
                ));
                beat_at += HEARTBEAT;
            }
            Err(RecvTimeoutError::Disconnected) => {
                return last.make_contiguous().join("\n");
            }
        }
    }
}

/// Says something to whoever waits. Not `eprintln!`: the test harness would swallow it.
pub(crate) fn tell(text: &str) {
    // There is nobody to tell that stderr is closed.
    let _ = writeln!(io::stderr(), "cluster: {text}");
}

impl Program {
    fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::Apiserver => "kube-apiserver",
            Self::ControllerManager => "kube-controller-manager",
            Self::Scheduler => "kube-scheduler",
            Self::Kubelet => "kubelet",
            Self::Containerd => "containerd",
            Self::Shim => "containerd-shim-runc-v2",
            Self::CniBridge => "bridge",
            Self::CniLoopback => "loopback",
            Self::CniHostLocal => "host-local",
            Self::Crane => "crane",
            Self::Pause => "pause",
        }
    }

    fn package(self) -> &'static str {
        match self {
            Self::Etcd => "go.etcd.io/etcd/server/v3",
            Self::Apiserver => "k8s.io/kubernetes/cmd/kube-apiserver",
            Self::ControllerManager => "k8s.io/kubernetes/cmd/kube-controller-manager",
            Self::Scheduler => "k8s.io/kubernetes/cmd/kube-scheduler",
            Self::Kubelet => "k8s.io/kubernetes/cmd/kubelet",
            Self::Containerd => "github.com/containerd/containerd/v2/cmd/containerd",
            Self::Shim => "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2",
            Self::CniBridge => "github.com/containernetworking/plugins/plugins/main/bridge",
            Self::CniLoopback => "github.com/containernetworking/plugins/plugins/main/loopback",
            Self::CniHostLocal => "github.com/containernetworking/plugins/plugins/ipam/host-local",
            Self::Crane => "github.com/google/go-containerregistry/cmd/crane",
            Self::Pause => "tools.test/pause",
        }
    }

    fn usual_time(self) -> &'static str {
        match self {
            Self::Etcd | Self::Containerd => "less than a minute",
            Self::Apiserver => "about 5 minutes",
            Self::ControllerManager => "2 minutes after kube-apiserver, else 5",
            Self::Scheduler => "half a minute after kube-apiserver, else 4 minutes",
            Self::Kubelet => "2 minutes after kube-apiserver, else 6",
            Self::Shim
            | Self::CniBridge
            | Self::CniLoopback
            | Self::CniHostLocal
            | Self::Crane
            | Self::Pause => "a few seconds",
        }
    }

    /// Whether `KUBEBUILDER_ASSETS` is where it comes from, if that is set.
    fn is_asset(self) -> bool {
        matches!(self, Self::Etcd | Self::Apiserver | Self::ControllerManager)
    }

    /// The Go module that pins it: its directory below `tests/tools`, its `go.mod`, and the
    /// module in there whose version is the program's.
    fn module(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Etcd => {
                ("etcd", include_str!("../../tools/etcd/go.mod"), "go.etcd.io/etcd/server/v3")
            }
            Self::Apiserver | Self::ControllerManager | Self::Scheduler | Self::Kubelet => {
                ("kubernetes", include_str!("../../tools/kubernetes/go.mod"), "k8s.io/kubernetes")
            }
            Self::Containerd | Self::Shim => (
                "containerd",
                include_str!("../../tools/containerd/go.mod"),
                "github.com/containerd/containerd/v2",
            ),
            Self::CniBridge | Self::CniLoopback | Self::CniHostLocal => (
                "cni",
                include_str!("../../tools/cni/go.mod"),
                "github.com/containernetworking/plugins",
            ),
            Self::Crane => (
                "crane",
                include_str!("../../tools/crane/go.mod"),
                "github.com/google/go-containerregistry",
            ),
            // Our own. Its number is that of the Go release in its `go.mod`.
            Self::Pause => ("pause", include_str!("../../tools/pause/go.mod"), "go"),
        }
    }

    fn directory(self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../tools").join(self.module().0)
    }

    /// Its version, as the `go.mod` says it: the only place where it is written.
    fn version(self) -> &'static str {
        let (_, go_mod, module) = self.module();
        let words: Vec<&str> = go_mod.split_whitespace().collect();
        let mut pairs = words.windows(2);
        let is_version = |word: &str| word.trim_start_matches('v').starts_with(char::is_numeric);
        let required = pairs.find(|pair| pair[0] == module && is_version(pair[1]));
        required.map_or("unknown", |pair| pair[1])
    }

    /// The name of the directory for what was built.
    fn release(self) -> String {
        format!("{}-{}", self.module().0, self.version())
    }

    /// No symbols; and for Kubernetes the version, without which it calls itself v0.0.0-master.
    fn linker_flags(self) -> OsString {
        let mut flags = OsString::from("-s -w");
        if self.module().0 == "kubernetes" {
            let version = self.version();
            let mut parts = version.trim_start_matches('v').split('.');
            let (major, minor) = (parts.next().unwrap_or("0"), parts.next().unwrap_or("0"));
            for package in ["k8s.io/client-go/pkg/version", "k8s.io/component-base/version"] {
                let set = format!(
                    " -X {package}.gitVersion={version} -X {package}.gitMajor={major} \
                     -X {package}.gitMinor={minor} -X {package}.gitTreeState=clean"
                );
                flags.push(OsStr::new(&set));
            }
        }
        flags
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(search: &Search, expected: &str) {
        let error = search.find([Program::Etcd, Program::Apiserver]).err();
        let text = error.map(|error| format!("{error:#}")).unwrap_or_default();
        assert_eq!(text, expected);
    }

    #[test]
    fn without_go_and_assets_one_sentence_says_what_to_do() {
        let home = env::temp_dir().join("a-directory-that-nobody-creates");
        check(
            &Search { assets: None, path: OsString::new(), home },
            "the tests need a Kubernetes control plane: install Go (https://go.dev/doc/install) so \
             that it is built once, or set KUBEBUILDER_ASSETS to a directory with etcd and \
             kube-apiserver",
        );
    }

    #[test]
    fn assets_without_a_program_are_not_filled_up_by_a_build() {
        let nowhere = env::temp_dir().join("a-directory-that-nobody-creates");
        check(
            &Search { assets: Some(nowhere.clone()), path: OsString::new(), home: nowhere },
            "KUBEBUILDER_ASSETS has no etcd: put it there, or unset the variable to have it built \
             with Go",
        );
    }

    #[test]
    fn versions_are_read_from_the_go_modules() {
        let one_a_module = [
            Program::Etcd,
            Program::Kubelet,
            Program::Containerd,
            Program::CniBridge,
            Program::Crane,
        ];
        for program in one_a_module {
            assert!(program.version().starts_with('v'), "{program:?}: {}", program.version());
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_failed_build_shows_what_go_said() -> Result<()> {
        let dir = run_dir::RunDir::create(&run_dir::home())?;
        // A shell that is told to `build -v …` complains about a script named `build`.
        let path = env::var_os("PATH").unwrap_or_default();
        let mut shells = env::split_paths(&path).map(|dir| dir.join("sh"));
        let shell = shells.find(|sh| sh.is_file()).context("no sh")?;
        std::os::unix::fs::symlink(shell, dir.path().join("go"))?;
        let dirs = [dir.path().to_path_buf()].into_iter().chain(env::split_paths(&path));
        let search =
            Search { assets: None, path: env::join_paths(dirs)?, home: dir.path().join("home") };
        let error = search.find([Program::Etcd]).err();
        let text = error.map(|error| format!("{error:#}")).unwrap_or_default();
        let (sentence, output) = text.split_once(":\n").context("no output")?;
        assert!(sentence.starts_with("go could not build etcd (exit status: "), "{text}");
        assert!(output.contains("build"), "{text}");
        Ok(())
    }

    #[test]
    fn of_what_go_says_the_last_lines_are_kept() {
        let lines: Vec<String> = (0..40).map(|number| format!("line {number}")).collect();
        let said = io::Cursor::new(lines.join("\n"));
        let kept = follow("etcd", said, Instant::now());
        assert!(kept.starts_with("line 10\n") && kept.ends_with("line 39"), "{kept}");
    }
}
