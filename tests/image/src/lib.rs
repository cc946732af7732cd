//! The operator's image, put together without a container engine.
//!
//! Two layers: a few files of Debian's packages that a program needs which is linked with glibc,
//! and the program. Nothing in it depends on the time, on the machine or on who builds: the same
//! packages and the same program give the same digest.
//!
//! ```text
//!   base     libc, libgcc, authorities, names of services and protocols, os-release, users
//!   program  /message-contact-operator, run by user 65532
//! ```
//!
//! There is no shell and no package manager.
#![allow(
    clippy::disallowed_methods,
    reason = "the environment says where cargo is: this crate is the shell of a build"
)]

mod packages;

mod layer;

mod layout;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use layer::Layer;
pub use layout::Image;

/// Who the program runs as: nobody that any system has, as in the images of distroless.
pub const USER: u32 = 65532;

/// Where the program is in the image, which is also the image's entrypoint.
pub const PROGRAM: &str = "/message-contact-operator";

const BINARY: &str = "message-contact-operator";

/// Builds the program as it is released, and returns its path.
///
/// # Errors
///
/// If it does not compile.
pub fn release() -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--release", "--locked", "--package", BINARY, "--bin", BINARY]);
    command.arg("--message-format=json-render-diagnostics");
    let done = command.stderr(std::process::Stdio::inherit()).output().context("no cargo")?;
    ensure!(done.status.success(), "cargo build failed");
    let said = String::from_utf8(done.stdout)?;
    let executable = said.lines().rev().find_map(|line| {
        let line: serde_json::Value = serde_json::from_str(line).ok()?;
        line["executable"].as_str().map(PathBuf::from)
    });
    executable.context("cargo named no executable")
}

/// What an image is put together from: layers that are compressed already.
#[derive(Debug)]
pub struct Layers(Vec<layout::Compressed>);

/// Makes the layers of an image of this program. Packages are fetched with `apt-get` into
/// `packages`, once.
///
/// # Errors
///
/// If this is not a machine of the Debian family, if a package cannot be had, or if the program
/// cannot be read.
pub fn layers(program: &Path, packages: &Path) -> Result<Layers> {
    let base = packages::base(packages)?;
    let mut top = Layer::default();
    let content = fs::read(program).with_context(|| program.display().to_string())?;
    top.add_file(PROGRAM, 0o755, content);
    Ok(Layers(vec![layout::compress(&base)?, layout::compress(&top)?]))
}

impl Layers {
    /// Writes the image to `output`, in place of one that is there, as an OCI image layout: a
    /// folder that `crane push`, `skopeo copy` and `podman load` take. `version` is told in the
    /// image's labels.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub fn write(&self, version: &str, output: &Path) -> Result<Image> {
        layout::write(&self.0, version, output)
    }
}
