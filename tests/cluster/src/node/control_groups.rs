//! The control groups of the node: one folder in each hierarchy, below which kubelet makes its own.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

/// The folder, and what kubelet is told as its root.
pub(super) const ROOT: &str = "test-cluster-node";

/// Why the node can have no control groups here, in a few words.
pub(super) fn missing_here() -> Option<String> {
    if hierarchies().unwrap_or_default().is_empty() {
        return Some("there are no control groups".to_owned());
    }
    create().err().map(|error| format!("no control groups can be made ({error:#})"))
}

/// Makes the folders that are not there yet.
pub(super) fn create() -> Result<()> {
    for hierarchy in hierarchies()? {
        let folder = hierarchy.join(ROOT);
        match fs::create_dir(&folder) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error).context(folder.display().to_string()),
        }
        // A new group of version 1 has no processors and no memory until it is told.
        for file in ["cpuset.cpus", "cpuset.mems"] {
            if let Ok(all) = fs::read_to_string(hierarchy.join(file)) {
                fs::write(folder.join(file), all.trim())?;
            }
        }
    }
    Ok(())
}

/// Removes them all, and kills who is still in them. That takes a moment.
pub(super) fn remove() -> Result<()> {
    const PATIENCE: Duration = Duration::from_secs(20);
    let end = Instant::now() + PATIENCE;
    for hierarchy in hierarchies()? {
        let folder = hierarchy.join(ROOT);
        while let Err(error) = remove_tree(&folder) {
            if Instant::now() > end {
                return Err(error).context(folder.display().to_string());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    Ok(())
}

/// Folders only: the files in them are the kernel's, and go with them.
fn remove_tree(folder: &Path) -> io::Result<()> {
    let processes = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
    if !processes.is_empty() {
        // Those that are gone meanwhile make it fail, and are no loss.
        let kill = ["-c", "kill -9 \"$@\" 2>/dev/null", "sh"];
        Command::new("sh").args(kill).args(processes.lines()).status()?;
    }
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    match fs::remove_dir(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Where the hierarchies are mounted: one of version 2, or several of version 1.
fn hierarchies() -> Result<Vec<PathBuf>> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let found = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let (place, kind) = (fields.next()?, fields.next()?);
        matches!(kind, "cgroup" | "cgroup2").then(|| PathBuf::from(place))
    });
    Ok(found.collect())
}
