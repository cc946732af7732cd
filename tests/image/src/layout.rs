//! The image as an OCI image layout: a folder of blobs, each named by its digest.
//!
//! Source: the OCI image format specification, `image-layout.md`, `manifest.md` and `config.md`.

use std::{fs, io::Write as _, path::Path};

use anyhow::{Context as _, Result};
use flate2::{Compression, GzBuilder};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::{PROGRAM, USER, layer::Layer};

/// An image that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// The digest of its manifest, `sha256:…`: what a digest in a pod names.
    pub digest: String,
    /// Its layers, from the lowest up.
    pub layers: Vec<Blob>,
    /// The sizes of manifest and configuration, in bytes.
    rest: u64,
}

/// A part of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blob {
    /// `sha256:…`.
    pub digest: String,
    /// In bytes, compressed.
    pub size: u64,
}

impl Image {
    /// What a node that has nothing of it must fetch, in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.layers.iter().map(|layer| layer.size).sum::<u64>() + self.rest
    }
}

/// A layer as it is stored.
#[derive(Debug)]
pub(crate) struct Compressed {
    /// The digest of the archive itself.
    content: String,
    gzip: Vec<u8>,
}

/// Compresses a layer. The header of gzip has neither the time nor a name in it.
pub(crate) fn compress(layer: &Layer) -> Result<Compressed> {
    let tar = layer.to_tar()?;
    let mut gzip = GzBuilder::new().mtime(0).write(Vec::new(), Compression::default());
    gzip.write_all(&tar)?;
    Ok(Compressed { content: digest(&tar), gzip: gzip.finish()? })
}

/// Writes an image of these layers, from the lowest up, in place of what is in `output`.
pub(crate) fn write(layers: &[Compressed], version: &str, output: &Path) -> Result<Image> {
    if output.join("oci-layout").exists() {
        fs::remove_dir_all(output).with_context(|| output.display().to_string())?;
    }
    let blobs = output.join("blobs/sha256");
    fs::create_dir_all(&blobs).with_context(|| blobs.display().to_string())?;
    let written = layers.iter().map(|layer| blob(&blobs, &layer.gzip));
    let written: Vec<Blob> = written.collect::<Result<_>>()?;
    let contents: Vec<&str> = layers.iter().map(|layer| layer.content.as_str()).collect();
    let config = blob(&blobs, config(&contents, version).to_string().as_bytes())?;
    let manifest = manifest(&config, &written, version).to_string();
    let manifest = blob(&blobs, manifest.as_bytes())?;
    let index = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [descriptor("manifest.v1+json", &manifest)],
    });
    fs::write(output.join("index.json"), index.to_string())?;
    fs::write(output.join("oci-layout"), json!({"imageLayoutVersion": "1.0.0"}).to_string())?;
    Ok(Image { digest: manifest.digest, layers: written, rest: config.size + manifest.size })
}

fn config(layers: &[&str], version: &str) -> Value {
    json!({
        "architecture": architecture(),
        "os": "linux",
        "config": {
            "User": format!("{USER}:{USER}"),
            "Entrypoint": [PROGRAM],
            "Cmd": ["run"],
            "WorkingDir": "/",
            "Labels": labels(version),
        },
        "rootfs": {"type": "layers", "diff_ids": layers},
    })
}

fn manifest(config: &Blob, layers: &[Blob], version: &str) -> Value {
    let layers = layers.iter().map(|layer| descriptor("layer.v1.tar+gzip", layer));
    json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("config.v1+json", config),
        "layers": layers.collect::<Vec<_>>(),
        "annotations": labels(version),
    })
}

fn labels(version: &str) -> Value {
    json!({
        "org.opencontainers.image.title": "message-contact-operator",
        "org.opencontainers.image.description":
            "Keeps the message contacts of an Alibaba Cloud resource directory in git",
        "org.opencontainers.image.version": version,
        "org.opencontainers.image.licenses": "Apache-2.0",
    })
}

fn descriptor(kind: &str, blob: &Blob) -> Value {
    let media_type = format!("application/vnd.oci.image.{kind}");
    json!({"mediaType": media_type, "digest": blob.digest, "size": blob.size})
}

/// The machine's, in Go's words, as images have it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn blob(folder: &Path, content: &[u8]) -> Result<Blob> {
    let digest = digest(content);
    let name = digest.trim_start_matches("sha256:");
    fs::write(folder.join(name), content)?;
    Ok(Blob { size: content.len() as u64, digest })
}

fn digest(content: &[u8]) -> String {
    let bytes = Sha256::digest(content);
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 0xf]);
    "sha256:".chars().chain(digits.filter_map(|digit| char::from_digit(digit.into(), 16))).collect()
}
