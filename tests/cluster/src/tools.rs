//! Tools that tests call: built once from versions that are pinned below `tests/tools`, and kept
//! below the target directory.

use std::{
    env,
    ffi::OsStr,
    fs::{self, File},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    path::{Path, PathBuf},
    process::{self, Command, Stdio},
    time::Instant,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    binaries::{follow, in_path, tell},
    process::watched,
    run_dir,
};

/// A tool.
#[derive(Debug)]
struct Tool {
    /// Its name, and that of its folder below `tests/tools`.
    name: &'static str,
    /// What pins it: the text of `go.mod` or of `requirements.txt` in that folder.
    pins: &'static str,
    /// The Go module or the Python package in it whose version is that of the tool.
    module: &'static str,
    made: Made,
}

/// How a tool is made.
#[derive(Debug)]
enum Made {
    /// Built with Go from this package of the module, which the `go.mod` pins with a `tool` line.
    Go(&'static str),
    /// Built with Go from these sources of our own, which stand in the folder.
    Own(&'static [&'static str]),
    /// As [`Self::Go`], with these build tags, which leave out what no test needs.
    GoTagged(&'static str, &'static str),
    /// Installed with pip into an environment of its own.
    Python,
}

const TOOLS: &[Tool] = &[
    Tool {
        name: "helm4",
        pins: include_str!("../../tools/helm4/go.mod"),
        module: "helm.sh/helm/v4",
        made: Made::Go("helm.sh/helm/v4/cmd/helm"),
    },
    Tool {
        name: "helm3",
        pins: include_str!("../../tools/helm3/go.mod"),
        module: "helm.sh/helm/v3",
        made: Made::Go("helm.sh/helm/v3/cmd/helm"),
    },
    Tool {
        name: "kube-score",
        pins: include_str!("../../tools/kube-score/go.mod"),
        module: "github.com/zegl/kube-score",
        made: Made::Go("github.com/zegl/kube-score/cmd/kube-score"),
    },
    Tool {
        name: "checkov",
        pins: include_str!("../../tools/checkov/requirements.txt"),
        module: "checkov",
        made: Made::Python,
    },
    Tool {
        name: "kustomize",
        pins: include_str!("../../tools/kustomize/go.mod"),
        module: "sigs.k8s.io/kustomize/kustomize/v5",
        made: Made::Go("sigs.k8s.io/kustomize/kustomize/v5"),
    },
    Tool {
        name: "kustomize-controller",
        pins: include_str!("../../tools/kustomize-controller/go.mod"),
        module: "github.com/fluxcd/kustomize-controller",
        made: Made::Go("github.com/fluxcd/kustomize-controller"),
    },
    Tool {
        name: "health",
        pins: include_str!("../../tools/health/go.mod"),
        module: "github.com/fluxcd/cli-utils",
        made: Made::Own(&[
            include_str!("../../tools/health/argocd.go"),
            include_str!("../../tools/health/flux.go"),
            include_str!("../../tools/health/main.go"),
            include_str!("../../tools/health/go.sum"),
        ]),
    },
    Tool {
        name: "promtool",
        pins: include_str!("../../tools/promtool/go.mod"),
        module: "github.com/prometheus/prometheus",
        // Two minutes less: the clients of two dozen clouds.
        made: Made::GoTagged("github.com/prometheus/prometheus/cmd/promtool", "remove_all_sd"),
    },
    Tool {
        name: "openmetrics",
        pins: include_str!("../../tools/openmetrics/go.mod"),
        module: "github.com/prometheus/prometheus",
        made: Made::Own(&[
            include_str!("../../tools/openmetrics/main.go"),
            include_str!("../../tools/openmetrics/go.sum"),
        ]),
    },
];

/// The path of the tool of that name, a folder below `tests/tools`. Makes it if it is not there yet,
/// which takes minutes: call it where a thread may block.
///
/// # Errors
///
/// If there is no such tool, if Go or Python is missing, or if it cannot be made.
pub fn tool(name: &str) -> Result<PathBuf> {
    let tool = TOOLS.iter().find(|tool| tool.name == name);
    let tool = tool.with_context(|| format!("tests/cluster/src/tools.rs names no tool {name}"))?;
    tool.find(&run_dir::target().join("tools"))
}

impl Tool {
    fn find(&self, home: &Path) -> Result<PathBuf> {
        let place = home.join(self.release()).join(match self.made {
            Made::Go(_) | Made::GoTagged(..) | Made::Own(_) => self.name.to_owned(),
            Made::Python => format!("bin/{}", self.name),
        });
        if self.is_made(&place) {
            return Ok(place);
        }
        fs::create_dir_all(home)?;
        let lock = File::create(home.join(format!("{}.lock", self.name)))?;
        lock.lock()?;
        // Who has waited for the lock finds it.
        if !self.is_made(&place) {
            let begun = Instant::now();
            let version = self.version();
            tell(&format!("making {} {version}, once, below {}", self.name, home.display()));
            match self.made {
                Made::Go(package) => self.build(package, "", home, &place)?,
                Made::GoTagged(package, tags) => self.build(package, tags, home, &place)?,
                Made::Own(_) => self.build(".", "", home, &place)?,
                Made::Python => self.install(&place)?,
            }
            tell(&format!("made {} {version} in {} s", self.name, begun.elapsed().as_secs()));
        }
        Ok(place)
    }

    /// Whether it is there, and as new as the program of our own that it may be built from.
    fn is_made(&self, place: &Path) -> bool {
        let changed = |path: &Path| fs::metadata(path).and_then(|about| about.modified()).ok();
        let sources = fs::read_dir(self.folder()).into_iter().flatten().flatten();
        let sources = sources.map(|entry| entry.path());
        let ours = sources.filter(|path| path.extension() == Some(OsStr::new("go")));
        place.is_file() && ours.map(|path| changed(&path)).max().flatten() <= changed(place)
    }

    /// Its version, as its pins say it: the only place where it is written.
    fn version(&self) -> &'static str {
        let words = self.pins.split(|char: char| char.is_whitespace() || char == '=');
        let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
        let is_version = |word: &str| {
            word.trim_start_matches('v').starts_with(|char: char| char.is_ascii_digit())
        };
        let mut pairs = words.windows(2);
        let pinned = pairs.find(|pair| pair[0] == self.module && is_version(pair[1]));
        pinned.map_or("unknown", |pair| pair[1])
    }

    /// The name of the directory for it. Sources of our own change without a version.
    fn release(&self) -> String {
        let release = format!("{}-{}", self.name, self.version());
        let Made::Own(sources) = self.made else { return release };
        let mut hasher = DefaultHasher::new();
        (self.pins, sources).hash(&mut hasher);
        format!("{release}-{:016x}", hasher.finish())
    }

    /// The folder with what pins it.
    fn folder(&self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../tools").join(self.name)
    }

    fn build(&self, package: &str, tags: &str, home: &Path, place: &Path) -> Result<()> {
        let go = program("go", "install Go (https://go.dev/doc/install)", self.name)?;
        fs::create_dir_all(place.parent().unwrap_or(home))?;
        let unfinished = place.with_extension(format!("{}", process::id()));
        // What compiling leaves behind is gigabytes that nothing else can use, unless somebody has
        // chosen a place for it.
        let chosen = env::var_os("GOCACHE").filter(|cache| !cache.is_empty());
        let cache =
            chosen.clone().map_or_else(|| home.join(format!("{}.cache", self.name)), PathBuf::from);
        let mut command = watched(&go, &home.join(format!("{}.pid", self.name)));
        command
            .args(["build", "-v", "-mod=readonly", "-trimpath", "-buildvcs=false"])
            .args(["-tags", tags, "-ldflags", "-s -w", "-o"])
            .arg(&unfinished)
            .arg(package)
            .current_dir(self.folder())
            .env("CGO_ENABLED", "0")
            .env("GOWORK", "off")
            .env("GOCACHE", &cache)
            .env_remove("GOOS")
            .env_remove("GOARCH")
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = command.spawn().context("cannot run go")?;
        // Taken out: `wait` would close it, and that kills the build.
        let leash = child.stdin.take();
        let output = child.stderr.take().context("no output")?;
        let end_of_output = follow(self.name, output, Instant::now());
        let status = child.wait()?;
        drop(leash);
        if !status.success() {
            // What was there is of no use; if it cannot be removed it only wastes space.
            let _ = fs::remove_file(&unfinished);
            bail!("go could not build {} ({status}); it said:\n{end_of_output}", self.name);
        }
        if chosen.is_none() {
            fs::remove_dir_all(&cache).context("cannot remove Go's build cache")?;
        }
        Ok(fs::rename(&unfinished, place)?)
    }

    /// A virtual environment cannot be moved: one that is not finished is begun anew.
    fn install(&self, place: &Path) -> Result<()> {
        let advice = "install Python 3 with venv (Debian: `apt-get install python3-venv`)";
        let python = program("python3", advice, self.name)?;
        let environment = place.parent().and_then(Path::parent).context("no place for it")?;
        if environment.exists() {
            fs::remove_dir_all(environment)?;
        }
        said(Command::new(&python).args(["-m", "venv"]).arg(environment), advice)?;
        let pip = environment.join("bin/pip");
        let pins = self.folder().join("requirements.txt");
        let installed = said(
            Command::new(&pip)
                .args(["install", "--quiet", "--no-input", "--requirement"])
                .arg(pins),
            "the packages of tests/tools must be had from PyPI",
        );
        if installed.is_err() {
            let _ = fs::remove_dir_all(environment);
        }
        installed
    }
}

/// Finds a program in `PATH`.
fn program(name: &str, advice: &str, needed_for: &str) -> Result<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    in_path(&path, name).with_context(|| format!("the tests need {needed_for}: {advice}"))
}

/// Runs a command to its end; what it said is shown if it fails.
fn said(command: &mut Command, advice: &str) -> Result<()> {
    let name = command.get_program().to_owned();
    let name = Path::new(&name).file_name().unwrap_or(OsStr::new("a program")).to_owned();
    let output = command.stdin(Stdio::null()).output().with_context(|| advice.to_owned())?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let said = said + &String::from_utf8_lossy(&output.stdout);
        bail!("{} failed ({}); {advice}. It said:\n{said}", name.display(), output.status);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tool_has_a_version_and_a_folder() {
        for tool in TOOLS {
            let version = tool.version().trim_start_matches('v');
            assert!(version.starts_with(|char: char| char.is_ascii_digit()), "{tool:?}");
            assert!(tool.folder().is_dir(), "{}", tool.name);
        }
    }

    #[test]
    fn a_tool_that_is_not_pinned_is_named() {
        let error = tool("a-tool-of-nobody").err().map(|error| format!("{error:#}"));
        let said = error.unwrap_or_default();
        assert!(said.contains("names no tool a-tool-of-nobody"), "{said}");
    }

    #[cfg(unix)]
    #[test]
    fn a_tool_that_cannot_be_installed_leaves_nothing_behind() -> Result<()> {
        let dir = run_dir::RunDir::create(&run_dir::home())?;
        let tool = Tool { name: "kube-score", pins: "nothing", module: "x", made: Made::Python };
        // Its folder has no requirements: pip refuses.
        let error = tool.find(dir.path()).err().map(|error| format!("{error:#}"));
        let said = error.unwrap_or_default();
        assert!(said.contains("requirements.txt"), "{said}");
        assert!(!dir.path().join("kube-score-unknown").exists());
        Ok(())
    }
}
