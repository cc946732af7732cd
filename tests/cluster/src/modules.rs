//! Files of Go modules: definitions that other projects ship with their code.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{self, Command},
};

use anyhow::{Context as _, Result, bail};

use crate::run_dir;

/// A folder of files that a Go module has, in the version that `tests/tools/<tool>` pins. It is had
/// from the module proxy once, checked by `go.sum`, and kept below the target directory.
///
/// # Errors
///
/// If there is no Go, the proxy does not have the module, or the module has no such folder.
pub async fn files_of_module(tool: &str, module: &str, folder: &str) -> Result<PathBuf> {
    let (tool, module, folder) = (tool.to_owned(), module.to_owned(), folder.to_owned());
    tokio::task::spawn_blocking(move || find(&run_dir::home(), &tool, &module, &folder)).await?
}

fn find(home: &Path, tool: &str, module: &str, folder: &str) -> Result<PathBuf> {
    let pinned = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tools").join(tool);
    let go_mod = fs::read_to_string(pinned.join("go.mod"))?;
    let version = version(&go_mod, module).with_context(|| format!("{module} is not pinned"))?;
    let place = home.join(format!("{tool}-{version}"));
    if !place.is_dir() {
        let source = download(&pinned, module)?.join(folder);
        // Whoever finds the place finds it whole.
        let unfinished = home.join(format!(".{tool}.{}", process::id()));
        copy(&source, &unfinished).with_context(|| format!("{module} has no {folder}"))?;
        if fs::rename(&unfinished, &place).is_err() {
            // Another process was faster.
            fs::remove_dir_all(&unfinished)?;
        }
    }
    Ok(place)
}

fn version<'a>(go_mod: &'a str, module: &str) -> Option<&'a str> {
    let words: Vec<&str> = go_mod.split_whitespace().collect();
    let mut pairs = words.windows(2);
    pairs.find(|pair| pair[0] == module && pair[1].starts_with('v')).map(|pair| pair[1])
}

/// The unpacked module.
fn download(pinned: &Path, module: &str) -> Result<PathBuf> {
    let output = Command::new("go")
        .args(["mod", "download", "-json", module])
        .current_dir(pinned)
        .env("GOWORK", "off")
        .env("GOFLAGS", "-mod=readonly")
        .output()
        .with_context(|| {
            format!("the files of {module} come with Go: install it (https://go.dev/doc/install)")
        })?;
    if !output.status.success() {
        bail!("go could not get {module}: {}", String::from_utf8_lossy(&output.stderr));
    }
    let told: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    Ok(told["Dir"].as_str().context("go does not say where it is")?.into())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            fs::write(to.join(entry.file_name()), fs::read(entry.path())?)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_of_a_pinned_module_is_got_once_and_whole() -> Result<()> {
        let dir = run_dir::RunDir::create(&run_dir::home())?;
        let home = dir.path().join("home");
        let get = |folder| find(&home, "openreports", "github.com/openreports/reports-api", folder);
        assert!(get("no/such/folder").is_err());
        let place = get("config/crd")?;
        let names = |place: &Path| -> Result<Vec<_>> {
            let mut names: Vec<_> = fs::read_dir(place)?
                .map(|entry| Ok(entry?.file_name().into_string().unwrap_or_default()))
                .collect::<Result<_>>()?;
            names.sort();
            Ok(names)
        };
        let expected = ["openreports.io_clusterreports.yaml", "openreports.io_reports.yaml"];
        assert_eq!(names(&place)?, expected);
        assert_eq!(get("config/crd")?, place);
        assert_eq!(fs::read_dir(&home)?.count(), 1, "nothing unfinished is left");
        Ok(())
    }
}
