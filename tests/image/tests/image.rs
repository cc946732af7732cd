//! The image as a whole. Needs Debian's packages; elsewhere one line says that it was left out.

#![allow(clippy::disallowed_methods, reason = "the environment says where tools are")]

use std::{
    env, fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use anyhow::Result;
use serde_json::Value;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

fn blob(layout: &Path, digest: &str) -> Result<Vec<u8>> {
    Ok(fs::read(layout.join("blobs/sha256").join(digest.trim_start_matches("sha256:")))?)
}

fn has(tool: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|dir| dir.join(tool).is_file())
}

#[test]
fn the_same_program_gives_the_same_image_to_the_last_bit() -> Result<()> {
    if !(has("apt-get") && has("dpkg-deb")) {
        writeln!(io::stderr(), "left out: the image; on this machine are no Debian packages")?;
        return Ok(());
    }
    let (program, packages) = (folder("program"), folder("packages"));
    fs::write(&program, "machine code")?;
    let (one, two) = (folder("one"), folder("two"));
    let image = operator_image::layers(&program, &packages)?.write("1.0.0", &one)?;
    let again = operator_image::layers(&program, &packages)?.write("1.0.0", &two)?;
    assert_eq!(image, again);
    assert_eq!(blob(&one, &image.digest)?, blob(&two, &image.digest)?);

    let manifest: Value = serde_json::from_slice(&blob(&one, &image.digest)?)?;
    let config = manifest["config"]["digest"].as_str().unwrap_or_default();
    let config: Value = serde_json::from_slice(&blob(&one, config)?)?;
    assert_eq!(config["config"]["User"], "65532:65532");
    assert_eq!(config["config"]["Entrypoint"][0], operator_image::PROGRAM);

    // The near misses: another version is another image of the same layers, another program one of
    // which a node has the base already.
    let version = operator_image::layers(&program, &packages)?.write("1.0.1", &two)?;
    assert_ne!(image.digest, version.digest);
    assert_eq!(image.layers, version.layers);
    fs::write(&program, "machine cod3")?;
    let other = operator_image::layers(&program, &packages)?.write("1.0.0", &two)?;
    assert_eq!(image.layers[0], other.layers[0]);
    assert_ne!(image.layers[1], other.layers[1]);
    Ok(())
}
