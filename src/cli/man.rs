//! The command `man`: a manual page for the program and one for each command.

use std::fs;
use std::path::Path;

use anyhow::Context as _;
use clap::Command;

/// One page, as `man` reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The name of its file, such as `message-contact-operator-export.1`.
    pub file: String,
    /// Its text, in roff.
    pub text: Vec<u8>,
}

/// All pages, the program's own first.
///
/// # Errors
/// A page cannot be rendered; never seen.
pub fn pages(mut program: Command) -> anyhow::Result<Vec<Page>> {
    program.build();
    let commands: Vec<_> =
        program.get_subcommands().filter(|it| it.get_name() != "help").cloned().collect();
    std::iter::once(program).chain(commands).map(page).collect()
}

fn page(command: Command) -> anyhow::Result<Page> {
    let name = command.get_display_name().unwrap_or(command.get_name()).to_owned();
    let mut text = Vec::new();
    // Without a date, so that the text is the same on every run.
    clap_mangen::Man::new(command).title(name.to_uppercase()).render(&mut text)?;
    Ok(Page { file: format!("{name}.1"), text })
}

/// Writes one file a page into a folder, which is made if it is not there.
///
/// # Errors
/// A file cannot be written.
pub fn write(pages: &[Page], folder: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    for Page { file, text } in pages {
        let path = folder.join(file);
        fs::write(&path, text).with_context(|| path.display().to_string())?;
    }
    Ok(())
}
