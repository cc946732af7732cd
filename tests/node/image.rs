//! The image of the program under test.

use std::path::{Path, PathBuf};
use std::process::Command;

use operator_image::Image;

/// The program as cargo has built it for the tests.
const PROGRAM: &str = env!("CARGO_BIN_EXE_message-contact-operator");

/// Puts together images of these versions; of each the folder with its layout, and what is in it.
pub fn assemble<const N: usize>(versions: [&str; N]) -> [(PathBuf, Image); N] {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let program = folder.join("message-contact-operator");
    let stripped = Command::new("strip").arg("-o").arg(&program).arg(PROGRAM).status().unwrap();
    assert!(stripped.success(), "strip failed");
    let layers = operator_image::layers(&program, &folder.join("packages")).unwrap();
    versions.map(|version| {
        let layout = folder.join(format!("image-{version}"));
        let image = layers.write(version, &layout).unwrap();
        (layout, image)
    })
}

/// Why no image can be put together here.
pub fn missing_here() -> Option<String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let there = |tool: &str| std::env::split_paths(&path).any(|dir| dir.join(tool).is_file());
    let missing = ["apt-get", "dpkg-deb", "strip"].into_iter().find(|tool| !there(tool))?;
    Some(format!("there is no {missing}"))
}
