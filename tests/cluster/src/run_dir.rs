//! Where a cluster keeps its files, and the ports it listens on.

use std::{
    env,
    fs::{self, File},
    hash::{BuildHasher as _, RandomState},
    net::TcpListener,
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context as _, Result};

/// The directory in which this crate keeps everything about clusters.
pub(crate) fn home() -> PathBuf {
    target().join("control-plane")
}

/// Cargo's target directory.
pub(crate) fn target() -> PathBuf {
    // A test executable lies inside the target directory, wherever that was moved to.
    let of_executable = || {
        let executable = env::current_exe().ok()?;
        let mut above = executable.ancestors().skip(1);
        above.find(|dir| dir.join("CACHEDIR.TAG").is_file()).map(Path::to_path_buf)
    };
    let of_environment = || {
        let dir = PathBuf::from(env::var_os("CARGO_TARGET_DIR")?);
        dir.is_absolute().then_some(dir)
    };
    let of_workspace = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target");
    of_environment().or_else(of_executable).unwrap_or_else(of_workspace)
}

/// A directory for one cluster, removed with it.
///
/// A killed process cannot remove its own, but its lock is gone with it: the next one that starts
/// sees that and cleans up.
#[derive(Debug)]
pub(crate) struct RunDir {
    path: PathBuf,
    /// Locked for as long as the process lives.
    _lock: File,
}

impl RunDir {
    pub(crate) fn create(home: &Path) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let all = home.join("run");
        fs::create_dir_all(&all).with_context(|| format!("cannot create {}", all.display()))?;
        // Nobody may clean up between the creation of a directory and its lock.
        let door = File::create(all.join("lock"))?;
        door.lock()?;
        remove_abandoned(&all);
        let path = all.join(format!("{}-{}", process::id(), COUNT.fetch_add(1, Ordering::Relaxed)));
        fs::create_dir(&path).with_context(|| format!("cannot create {}", path.display()))?;
        let lock = File::create(path.join("lock"))?;
        lock.lock()?;
        Ok(Self { path: path.canonicalize()?, _lock: lock })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for RunDir {
    fn drop(&mut self) {
        // What cannot be removed now is removed by the next process that starts a cluster.
        let _ = fs::remove_dir_all(&self.path);
    }
}

fn remove_abandoned(all: &Path) {
    for entry in fs::read_dir(all).into_iter().flatten().flatten() {
        let path = entry.path();
        let abandoned = match File::open(path.join("lock")) {
            Ok(lock) => lock.try_lock().is_ok(),
            // Killed between the creation of the directory and that of the file.
            Err(_) => path.is_dir(),
        };
        if abandoned {
            let _ = fs::remove_dir_all(path);
        }
    }
}

/// A number that nobody can guess and that no other process has.
pub(crate) fn random() -> u64 {
    RandomState::new().hash_one(process::id())
}

/// A port of the loopback interface that is free now.
///
/// Below the range from which systems take the ports of outgoing connections, so that a stopped
/// server finds its port free when it comes back; at random, so that test processes that start
/// together seldom meet. If they do, the start is tried again with other ports.
pub(crate) fn free_port() -> Result<u16> {
    const FIRST: u16 = 20_000;
    const COUNT: u64 = 12_000;
    for _ in 0..1000 {
        let port = FIRST + u16::try_from(random() % COUNT)?;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    anyhow::bail!("no free port on 127.0.0.1 between {FIRST} and {}", u64::from(FIRST) + COUNT)
}
