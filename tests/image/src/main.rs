//! `cargo image -- --output DIR`: builds the operator and its image.

use std::{
    fs,
    io::{self, Write as _},
    path::PathBuf,
};

use anyhow::Result;
use clap::Parser;

/// Builds the operator as it is released, and its image, which is written as an OCI image layout.
/// Needs no container engine, but a machine of the Debian family.
#[derive(Debug, Parser)]
#[command(name = "cargo image", bin_name = "cargo image --")]
struct Arguments {
    /// Where the layout is written; what is there is replaced
    #[arg(long, value_name = "DIR", default_value = "target/image")]
    output: PathBuf,
    /// A program that is built already, instead of the release
    #[arg(long, value_name = "PATH")]
    program: Option<PathBuf>,
    /// Where Debian's packages are kept
    #[arg(long, value_name = "DIR", default_value = "target/packages")]
    packages: PathBuf,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let program = match arguments.program {
        Some(program) => program,
        None => operator_image::release()?,
    };
    let layers = operator_image::layers(&program, &arguments.packages)?;
    let image = layers.write(env!("CARGO_PKG_VERSION"), &arguments.output)?;
    let mut out = io::stdout();
    writeln!(out, "{}  {} bytes", program.display(), fs::metadata(&program)?.len())?;
    for layer in &image.layers {
        writeln!(out, "layer {}  {} bytes compressed", layer.digest, layer.size)?;
    }
    writeln!(out, "image {}  {} bytes compressed", image.digest, image.size())?;
    writeln!(out, "written to {}", arguments.output.display())?;
    Ok(())
}
