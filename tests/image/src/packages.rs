//! The base layer: what a program that is linked with glibc needs of Debian.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{USER, layer::Layer};

/// The packages whose files the image has. That of libgcc's copyright is found in libgcc itself,
/// as its name has a number in it.
const PACKAGES: [&str; 4] = ["base-files", "libc6", "libgcc-s1", "netbase"];

/// The beginnings of the names of the files that are taken. The program is linked with the first
/// four; glibc reads the others when it is asked for names.
const FILES: [&str; 9] = [
    "ld-linux",
    "libc.so.",
    "libgcc_s.so.",
    "libm.so.",
    "host.conf",
    "os-release",
    "protocols",
    "services",
    "copyright",
];

const PASSWD: &str = "root:x:0:0:root:/:/sbin/nologin\n";
/// Files before DNS, and nothing else.
const NAME_SERVICES: &str = "passwd: files\ngroup: files\nhosts: files dns\nservices: files\n\
                             protocols: files\n";

/// Makes the layer, from packages that are fetched into `folder` unless they are there.
pub(crate) fn base(folder: &Path) -> Result<Layer> {
    let mut layer = Layer::default();
    for name in PACKAGES {
        let package = fetch(name, folder)?;
        add(&mut layer, name, &package)?;
        if name == "libgcc-s1" {
            let needs = dpkg(&package, &["Depends"])?;
            let copyrights = needs.split([' ', ',']).next().unwrap_or_default();
            ensure!(copyrights.starts_with("gcc-"), "libgcc needs {needs}");
            add(&mut layer, copyrights, &fetch(copyrights, folder)?)?;
        }
    }
    let authorities = fetch("ca-certificates", folder)?;
    add_authorities(&mut layer, &authorities)?;
    describe(&mut layer, "ca-certificates", &authorities)?;
    let user = format!("nonroot:x:{USER}:{USER}:nonroot:/:/sbin/nologin\n");
    layer.add_file("/etc/passwd", 0o644, format!("{PASSWD}{user}"));
    layer.add_file("/etc/group", 0o644, format!("root:x:0:\nnonroot:x:{USER}:\n"));
    layer.add_file("/etc/nsswitch.conf", 0o644, NAME_SERVICES);
    Ok(layer)
}

/// Adds the files of one package.
fn add(layer: &mut Layer, name: &str, package: &Path) -> Result<()> {
    layer.add_package(package, |path| {
        let (folder, file) = path.rsplit_once('/').unwrap_or_default();
        let is_doc =
            folder.starts_with("/usr/share/doc/") || path.starts_with("/usr/share/doc/libgcc");
        let wanted = FILES.iter().any(|beginning| file.starts_with(beginning));
        // glibc has copies of itself for other processors, and other packages examples.
        let in_place = folder == "/etc" || folder == "/usr/lib" || folder.starts_with("/lib");
        path == "/usr/share/doc/libgcc-s1" || (wanted && (is_doc || in_place))
    })?;
    describe(layer, name, package)
}

/// The certificates of all authorities in one file, as the package itself makes it when it is
/// installed. Who trusts others mounts theirs there.
fn add_authorities(layer: &mut Layer, package: &Path) -> Result<()> {
    let mut authorities = Layer::default();
    authorities.add_package(package, |path| path.starts_with("/usr/share/ca-certificates/"))?;
    let bundle = authorities.contents().join(&b'\n');
    ensure!(!bundle.is_empty(), "ca-certificates has no certificates");
    layer.add_file("/etc/ssl/certs/ca-certificates.crt", 0o644, bundle);
    layer.add_package(package, |path| path == "/usr/share/doc/ca-certificates/copyright")
}

/// Adds what scanners of images look for: that the package is there, and in which version.
fn describe(layer: &mut Layer, name: &str, package: &Path) -> Result<()> {
    let status = dpkg(
        package,
        &["Package", "Source", "Version", "Architecture", "Maintainer", "Description"],
    )?;
    layer.add_file(&format!("/var/lib/dpkg/status.d/{name}"), 0o644, status);
    Ok(())
}

/// The package, of the version that this system's list of packages has.
fn fetch(name: &str, folder: &Path) -> Result<PathBuf> {
    fs::create_dir_all(folder)?;
    if let Some(there) = find(name, folder)? {
        return Ok(there);
    }
    let mut apt = Command::new("apt-get");
    apt.args(["download", "-q", name]).current_dir(folder);
    let Ok(done) = apt.output() else {
        bail!("the image is put together from Debian's packages, and there is no apt-get here");
    };
    let said = String::from_utf8_lossy(&done.stderr);
    ensure!(done.status.success(), "apt-get has no {name} (try `apt-get update`): {said}");
    find(name, folder)?.with_context(|| format!("apt-get fetched no {name}"))
}

fn find(name: &str, folder: &Path) -> Result<Option<PathBuf>> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        if file.split_once('_').is_some_and(|(package, _)| package == name) {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

fn dpkg(package: &Path, fields: &[&str]) -> Result<String> {
    let done = Command::new("dpkg-deb").arg("--field").arg(package).args(fields).output()?;
    let said = String::from_utf8_lossy(&done.stderr);
    ensure!(done.status.success(), "dpkg-deb cannot read {}: {said}", package.display());
    Ok(String::from_utf8(done.stdout)?)
}
