//! How the commands speak to people: colour and progress on a terminal, plain text anywhere else.

use std::io::{self, IsTerminal as _, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};

use comfy_table::{ContentArrangement, Table, TableStyle};

use super::cloud::Progress;

/// In front of what is fine.
pub(super) const FINE: char = '✓';
/// In front of what needs a look.
pub(super) const DOUBT: char = '▲';
/// In front of what is wrong.
pub(super) const WRONG: char = '✗';

/// Whether texts are painted. Nothing is told by colour alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Paint(bool);

impl Paint {
    /// Colour if standard output is a terminal that has it, and `NO_COLOR` does not forbid it.
    /// `lookup` reads the environment.
    pub(super) fn of_output(lookup: impl Fn(&str) -> Option<String>) -> Self {
        Self(io::stdout().is_terminal() && may_be_painted(lookup))
    }

    /// A heading.
    pub(super) fn bold(self, text: &str) -> String {
        self.with("1", text)
    }

    /// A text whose marks are painted: green, yellow, red.
    pub(super) fn marks(self, text: &str) -> String {
        let marks = [(FINE, "32"), (DOUBT, "33"), (WRONG, "31")];
        marks.iter().fold(text.to_owned(), |text, (mark, code)| {
            text.replace(*mark, &self.with(code, &mark.to_string()))
        })
    }

    /// A text in the colour of that mark; of no mark: as it is.
    pub(super) fn like(self, mark: char, text: &str) -> String {
        match mark {
            FINE => self.with("32", text),
            DOUBT => self.with("33", text),
            WRONG => self.with("31", text),
            _ => text.to_owned(),
        }
    }

    /// `code` is a number of the escape sequence "select graphic rendition".
    fn with(self, code: &str, text: &str) -> String {
        if self.0 { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

/// Source: no-color.org; a variable that is empty counts as not set.
fn may_be_painted(lookup: impl Fn(&str) -> Option<String>) -> bool {
    lookup("NO_COLOR").is_none_or(|value| value.is_empty())
        && lookup("TERM").is_none_or(|term| term != "dumb")
}

/// A text that somebody else wrote, without what moves a cursor, breaks a line or turns its direction.
pub(super) fn printable(text: &str) -> String {
    text.chars().map(|c| if is_odd(c) { '\u{FFFD}' } else { c }).collect()
}

/// The same of a text of several lines.
pub(super) fn printable_lines(text: &str) -> String {
    text.chars().map(|c| if is_odd(c) && c != '\n' { '\u{FFFD}' } else { c }).collect()
}

fn is_odd(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2060}'..='\u{206F}'
            | '\u{FEFF}')
}

/// Width of a table.
const WIDTH: u16 = 120;

/// A table without a frame. Painted after it was laid out, so that no sequence counts as text.
pub(super) fn table(head: &[&str], rows: Vec<Vec<String>>, paint: Paint) -> String {
    let mut table = Table::new();
    table.load_style(TableStyle::new());
    table.set_content_arrangement(ContentArrangement::Dynamic);
    table.set_width(WIDTH);
    table.set_header(head);
    let cells = |row: Vec<String>| row.iter().map(|cell| printable_lines(cell)).collect::<Vec<_>>();
    table.add_rows(rows.into_iter().map(cells));
    let text = table.trim_fmt();
    let (head, body) = text.split_once('\n').unwrap_or((&text, ""));
    format!("{}\n{}\n", paint.bold(head), paint.marks(body))
}

/// One line on a terminal's error output that says what is being waited for, and goes away with this
/// value. Elsewhere nothing.
#[derive(Debug)]
pub(super) struct Line {
    terminal: bool,
    shown: AtomicBool,
}

impl Line {
    /// A line of standard error.
    pub(super) fn of_errors(lookup: impl Fn(&str) -> Option<String>) -> Self {
        let capable = lookup("TERM").is_none_or(|term| term != "dumb");
        Self { terminal: io::stderr().is_terminal() && capable, shown: AtomicBool::new(false) }
    }

    fn clear(&self) {
        if self.shown.swap(false, Ordering::Relaxed) {
            let _ = write!(io::stderr(), "\r\u{1b}[K");
        }
    }
}

impl Progress for Line {
    fn says(&self, what: &str) {
        if self.terminal {
            self.shown.store(true, Ordering::Relaxed);
            let mut out = io::stderr().lock();
            let _ = write!(out, "\r\u{1b}[K{} …", printable(what)).and_then(|()| out.flush());
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.clear();
    }
}

/// Tells a person something beside the output.
pub(super) fn notice(text: &str) {
    let _ = writeln!(io::stderr(), "notice: {}", printable_lines(text));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_wrote_moves_no_cursor() {
        let odd = "a\u{1b}[2J\r\n\u{202E}b\u{9b}\u{200B}é中\t";
        assert_eq!(
            printable(odd),
            "a\u{FFFD}[2J\u{FFFD}\u{FFFD}\u{FFFD}b\u{FFFD}\u{FFFD}é中\u{FFFD}"
        );
        assert_eq!(printable_lines("a\nb\u{1b}"), "a\nb\u{FFFD}");
        let rows = vec![vec!["one\u{1b}[31m".to_owned(), "two".to_owned()]];
        assert!(!table(&["A", "B"], rows, Paint(false)).contains('\u{1b}'));
    }

    #[test]
    fn colour_is_left_out_where_it_is_not_wanted() {
        let with = |name: &'static str, value: &'static str| {
            may_be_painted(move |asked| (asked == name).then(|| value.to_owned()))
        };
        assert!(with("TERM", "xterm") && with("NO_COLOR", ""));
        assert!(!with("NO_COLOR", "1") && !with("TERM", "dumb"));
        assert_eq!(Paint(false).marks("✗ failed"), "✗ failed");
        assert_eq!(Paint(true).marks("✗ failed"), "\u{1b}[31m✗\u{1b}[0m failed");
    }
}
