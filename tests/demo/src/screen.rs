//! The only place that prints: a live picture on a terminal, plain lines anywhere else.

use std::env;
use std::io::{self, IsTerminal as _, Write as _};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use comfy_table::{ContentArrangement, LineStyle, Table, TableStyle};
use console::Term;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::view::Contacts;

/// Where a person looks.
///
/// On a terminal the contacts stand as a table below the lines and are redrawn in place. Anywhere
/// else there are lines only, without colour, and a contact is printed when it changes.
#[derive(Debug)]
pub(crate) struct Screen {
    colour: bool,
    terminal: bool,
    picture: Mutex<Picture>,
}

#[derive(Debug, Default)]
struct Picture {
    /// The table below the lines, while it is live.
    bar: Option<ProgressBar>,
    /// The contacts as they were last shown.
    contacts: Contacts,
}

/// Colours, as numbers of the escape sequence "select graphic rendition".
const BOLD: &str = "1";
const DIM: &str = "2";
const RED: &str = "31";
const GREEN: &str = "32";
const YELLOW: &str = "33";
const CYAN: &str = "36";

/// Width of a table that nobody's window limits.
const WIDTH_DEFAULT: u16 = 120;

impl Screen {
    pub(crate) fn new() -> Self {
        let is_set = |name: &str| env::var_os(name).is_some_and(|value| !value.is_empty());
        let terminal =
            io::stdout().is_terminal() && env::var_os("TERM").is_none_or(|term| term != "dumb");
        Self { colour: terminal && !is_set("NO_COLOR"), terminal, picture: Mutex::default() }
    }

    /// The table is shown from here on.
    pub(crate) fn live(&self) {
        if !self.terminal {
            return;
        }
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stdout());
        if let Ok(style) = ProgressStyle::with_template("{msg}") {
            bar.set_style(style);
        }
        let mut picture = self.picture();
        bar.set_message(self.below(&picture.contacts));
        picture.bar = Some(bar);
    }

    /// The table is taken away; lines stay.
    pub(crate) fn still(&self) {
        if let Some(bar) = self.picture().bar.take() {
            bar.finish_and_clear();
        }
    }

    /// The contacts as they are now.
    pub(crate) fn contacts(&self, now: Contacts) -> Result<()> {
        let mut picture = self.picture();
        if picture.contacts == now {
            return Ok(());
        }
        let before = std::mem::replace(&mut picture.contacts, now);
        if let Some(bar) = &picture.bar {
            bar.set_message(self.below(&picture.contacts));
            return Ok(());
        }
        let lines = picture.contacts.changes(&before);
        drop(picture);
        lines.iter().try_for_each(|line| self.line(&format!("  contact  {line}")))
    }

    /// Any line.
    pub(crate) fn line(&self, text: &str) -> Result<()> {
        let write = || writeln!(io::stdout(), "{text}");
        let picture = self.picture();
        Ok(picture.bar.as_ref().map_or_else(write, |bar| bar.suspend(write))?)
    }

    /// A new chapter.
    pub(crate) fn heading(&self, text: &str) -> Result<()> {
        self.line("")?;
        self.line(&self.paint(BOLD, &format!("━━ {text}")))
    }

    /// What somebody does, as the command that a person would type.
    pub(crate) fn command(&self, text: &str) -> Result<()> {
        self.line(&format!("  {} {}", self.paint(DIM, "$"), self.paint(CYAN, text)))
    }

    /// What a command says.
    pub(crate) fn output(&self, text: &str) -> Result<()> {
        text.lines().try_for_each(|line| self.line(&format!("    {line}")))
    }

    /// A sentence for the reader.
    pub(crate) fn note(&self, text: &str) -> Result<()> {
        self.line(&format!("  {text}"))
    }

    /// One call of the cloud.
    pub(crate) fn call(&self, text: &str, done: bool) -> Result<()> {
        let text = if done { text.to_owned() } else { self.paint(YELLOW, text) };
        self.line(&format!("  {}    {text}", self.paint(DIM, "cloud")))
    }

    /// Something that was checked.
    pub(crate) fn checked(&self, text: &str) -> Result<()> {
        self.line(&format!("  {} {text}", self.paint(GREEN, "✓")))
    }

    /// The end of everything.
    pub(crate) fn failed(&self, text: &str) -> Result<()> {
        self.still();
        self.line(&format!("{} {text}", self.paint(RED, "✗")))
    }

    /// Says what takes long, does it, and says how long it took.
    pub(crate) async fn step<T>(
        &self,
        doing: &str,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let begun = Instant::now();
        self.line(&format!("  … {doing}"))?;
        let done = work.await?;
        self.line(&format!("  {} {}", self.paint(GREEN, "✓"), seconds(begun.elapsed())))?;
        Ok(done)
    }

    /// The contacts as they were last shown, for good.
    pub(crate) fn last_contacts(&self) -> Result<()> {
        let table = self.table(&self.picture().contacts);
        self.line(&table)
    }

    /// How the acts went: `None` is an act that was not played.
    pub(crate) fn results(&self, acts: &[(String, Option<bool>)]) -> Result<()> {
        for (title, happened) in acts {
            let mark = match happened {
                Some(true) => self.paint(GREEN, "✓"),
                Some(false) => self.paint(RED, "✗"),
                None => self.paint(DIM, "–"),
            };
            self.line(&format!("  {mark} {title}"))?;
        }
        Ok(())
    }

    /// The table with an empty line between it and what stands above.
    fn below(&self, contacts: &Contacts) -> String {
        if contacts.rows.is_empty() {
            return String::new();
        }
        format!("\n{}", self.table(contacts))
    }

    fn table(&self, contacts: &Contacts) -> String {
        let width = if self.terminal { Term::stdout().size().1 } else { WIDTH_DEFAULT };
        let mut table = Table::new();
        table
            .load_style(
                TableStyle::new().header_separator(LineStyle::none().fill('─').junction('─')),
            )
            .set_content_arrangement(ContentArrangement::Dynamic)
            .set_width(width.max(40))
            .set_header(&contacts.columns)
            .add_rows(contacts.rows.values());
        table.trim_fmt()
    }

    fn paint(&self, colour: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{colour}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn picture(&self) -> MutexGuard<'_, Picture> {
        self.picture.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A duration for people: `4.1 s`.
pub(crate) fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}
