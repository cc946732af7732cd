//! The image of the program under test.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use operator_image::Image;

/// The program as cargo has built it for the tests.
const PROGRAM: &str = env!("CARGO_BIN_EXE_message-contact-operator");

/// Puts together an image of this version; the folder with its layout, and what is in it.
pub fn assemble(version: &str) -> (PathBuf, Image) {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let program = folder.join("message-contact-operator");
    let stripped = Command::new("strip").arg("-o").arg(&program).arg(PROGRAM).status().unwrap();
    assert!(stripped.success(), "strip failed");
    let layout = folder.join(format!("image-{version}"));
    let packages = folder.join("packages");
    let image = operator_image::assemble(&program, version, &packages, &layout).unwrap();
    (layout, image)
}

/// An image of the same program, put together again, is the same to the last bit.
#[test]
fn the_same_program_gives_the_same_digest() {
    if let Some(missing) = missing_here() {
        return super::stand::left_out("the image", &missing);
    }
    let (layout, image) = assemble("0.0.1");
    let manifest = blob(&layout, &image.digest);
    let (_, again) = assemble("0.0.1");
    assert_eq!(image, again);
    assert_eq!(manifest, blob(&layout, &again.digest));
    let (_, other) = assemble("0.0.2");
    assert_eq!(image.layers, other.layers, "nodes fetch only what has changed");
    assert_ne!(image.digest, other.digest);
}

fn blob(layout: &Path, digest: &str) -> Vec<u8> {
    fs::read(layout.join("blobs/sha256").join(digest.trim_start_matches("sha256:"))).unwrap()
}

/// Why no image can be put together here.
pub fn missing_here() -> Option<String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let there = |tool: &str| std::env::split_paths(&path).any(|dir| dir.join(tool).is_file());
    let missing = ["apt-get", "dpkg-deb", "strip"].into_iter().find(|tool| !there(tool))?;
    Some(format!("there is no {missing}"))
}
