//! A layer: files, as a tar archive that depends on nothing but them.

use std::{
    collections::BTreeMap,
    io::{self, Read as _},
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use tar::{Archive, Builder, EntryType, Header};

/// The files of a layer by their absolute paths.
#[derive(Debug, Default)]
pub(crate) struct Layer(BTreeMap<String, Entry>);

#[derive(Debug)]
enum Entry {
    Folder,
    File { mode: u32, content: Vec<u8> },
    Link { target: String },
}

impl Layer {
    /// Adds a file of root's, and the folders above it.
    pub(crate) fn add_file(&mut self, path: &str, mode: u32, content: impl Into<Vec<u8>>) {
        self.add(path, Entry::File { mode, content: content.into() });
    }

    fn add(&mut self, path: &str, entry: Entry) {
        for (end, _) in path.match_indices('/').skip(1) {
            self.0.entry(path[..end].to_owned()).or_insert(Entry::Folder);
        }
        self.0.insert(path.to_owned(), entry);
    }

    /// Adds those files and links of a Debian package whose path is wanted.
    ///
    /// # Errors
    ///
    /// If it is no package, or if one of them is neither file nor link.
    pub(crate) fn add_package(&mut self, deb: &Path, wanted: impl Fn(&str) -> bool) -> Result<()> {
        let mut command = Command::new("dpkg-deb");
        command.arg("--fsys-tarfile").arg(deb).stdout(Stdio::piped());
        let mut dpkg = command.spawn().context("cannot run dpkg-deb")?;
        let mut archive = Archive::new(dpkg.stdout.take().context("no output")?);
        for entry in archive.entries()? {
            let mut entry = entry?;
            let path = entry.path()?.to_string_lossy().into_owned();
            let path = path.strip_prefix('.').unwrap_or(&path).to_owned();
            let header = entry.header().clone();
            if header.entry_type().is_dir() || !wanted(&path) {
                continue;
            }
            if header.entry_type().is_symlink() {
                let target = entry.link_name()?.context("a link to nowhere")?;
                let target = target.to_string_lossy().into_owned();
                self.add(&path, Entry::Link { target });
            } else {
                ensure!(header.entry_type().is_file(), "{path} is neither file nor link");
                let mut content = Vec::new();
                entry.read_to_end(&mut content)?;
                self.add(&path, Entry::File { mode: header.mode()? & 0o777, content });
            }
        }
        // Read to its end, as dpkg-deb complains about a pipe that is closed before.
        io::copy(&mut archive.into_inner(), &mut io::sink())?;
        ensure!(dpkg.wait()?.success(), "dpkg-deb could not read {}", deb.display());
        Ok(())
    }

    /// The contents of its files, in the order of their paths.
    pub(crate) fn contents(&self) -> Vec<&[u8]> {
        let contents = self.0.values().filter_map(|entry| match entry {
            Entry::File { content, .. } => Some(content.as_slice()),
            _ => None,
        });
        contents.collect()
    }

    /// The archive: sorted, of 1970, and all of it root's.
    pub(crate) fn to_tar(&self) -> io::Result<Vec<u8>> {
        let mut archive = Builder::new(Vec::new());
        for (path, entry) in &self.0 {
            let path = path.trim_start_matches('/');
            let mut header = Header::new_ustar();
            header.set_mtime(0);
            header.set_uid(0);
            header.set_gid(0);
            header.set_mode(0o755);
            header.set_size(0);
            match entry {
                Entry::Folder => {
                    header.set_entry_type(EntryType::Directory);
                    archive.append_data(&mut header, format!("{path}/"), io::empty())?;
                }
                Entry::File { mode, content } => {
                    header.set_mode(*mode);
                    header.set_size(content.len() as u64);
                    archive.append_data(&mut header, path, content.as_slice())?;
                }
                Entry::Link { target } => {
                    header.set_entry_type(EntryType::Symlink);
                    archive.append_link(&mut header, path, target)?;
                }
            }
        }
        archive.into_inner()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(tar: &[u8]) -> Vec<String> {
        let mut archive = Archive::new(tar);
        let entries = archive.entries().unwrap();
        entries.map(|entry| entry.unwrap().path().unwrap().display().to_string()).collect()
    }

    #[test]
    fn the_order_in_which_files_are_added_does_not_matter() {
        let files = [("/etc/passwd", 0o644, "root"), ("/bin/program", 0o755, "machine code")];
        let archive = |files: &[(&str, u32, &str)]| {
            let mut layer = Layer::default();
            for (path, mode, content) in files {
                layer.add_file(path, *mode, *content);
            }
            layer.to_tar().unwrap()
        };
        let one = archive(&files);
        assert_eq!(names(&one), ["bin/", "bin/program", "etc/", "etc/passwd"]);
        assert_eq!(one, archive(&[files[1], files[0]]));
        // The near miss: one bit of a mode is another archive.
        assert_ne!(one, archive(&[files[0], ("/bin/program", 0o754, "machine code")]));
    }
}
