//! A plan for a comment on a pull request.
//!
//! Whoever writes manifests, or contacts in the cloud, must not write the comment: their texts stand in
//! code, where nothing is markup and nobody is called.

use std::fmt::Write as _;

use super::report::{Contact, Coverage, Policy, Report};
use super::text;

/// Bytes of a comment at most, some sentences of fixed length aside. GitHub takes 65,536 characters,
/// GitLab more.
const BYTES_MAX: usize = 60_000;

/// Of these as many for the directories, the policies and the notes at most; contacts have the rest.
const BYTES_OF_DIRECTORIES: usize = 6_000;
const BYTES_OF_POLICIES: usize = 14_000;
const BYTES_OF_NOTES: usize = 6_000;

pub(super) fn render(report: &Report) -> String {
    let mut left_out = LeftOut::default();
    let directories = directories(report, &mut left_out);
    let policies = policies(report, &mut left_out);
    let notes = notes(report, &mut left_out);
    let others = directories.len() + policies.len() + notes.len();
    let contacts = contacts(report, BYTES_MAX.saturating_sub(others), &mut left_out);
    let conclusion = text::conclusion(&report.summary);
    let left_out = left_out.told();
    format!(
        "### Message contacts\n\n**{conclusion}**\n\n{directories}{contacts}{policies}{notes}{left_out}"
    )
}

/// A part of the comment that takes only so much.
struct Part {
    text: String,
    room: usize,
    is_full: bool,
}

impl Part {
    fn new(room: usize) -> Self {
        Self { text: String::new(), room, is_full: false }
    }

    /// Takes a piece, if it and all before it have found room.
    fn take(&mut self, piece: &str) -> bool {
        self.is_full |= self.text.len() + piece.len() > self.room;
        if !self.is_full {
            self.text.push_str(piece);
        }
        !self.is_full
    }
}

/// What found no room: each kind of thing with how many of it were left out, and of how many.
#[derive(Default)]
struct LeftOut(Vec<String>);

impl LeftOut {
    fn count(&mut self, what: &str, shown: usize, all: usize) {
        if shown < all {
            self.0.push(format!("{} of {all} {what}", all - shown));
        }
    }

    fn told(&self) -> String {
        if self.0.is_empty() {
            return String::new();
        }
        let what = self.0.join(", ");
        format!(
            "\nA comment has no room for everything. Left out: {what}; `--output table` has all.\n"
        )
    }
}

fn directories(report: &Report, left_out: &mut LeftOut) -> String {
    let known = report.directories.iter().map(text::heading);
    let removed = report.removed_directories.iter().map(|name| text::removal(name));
    let all: Vec<_> = known.chain(removed).collect();
    let mut part = Part::new(BYTES_OF_DIRECTORIES);
    let shown = all.iter().filter(|line| part.take(&format!("- {}\n", code(line)))).count();
    left_out.count("directories", shown, all.len());
    part.text
}

/// A table of the contacts of which there is something to tell, and the details of each; errors first
/// where there is no room for all.
fn contacts(report: &Report, room: usize, left_out: &mut LeftOut) -> String {
    let mut told: Vec<_> =
        report.contacts.iter().filter(|contact| text::is_told(contact)).collect();
    if told.is_empty() {
        return String::new();
    }
    let mut rows: Vec<_> = told.iter().map(|contact| row(contact)).collect();
    if rows.iter().map(String::len).sum::<usize>() > room / 2 {
        told.sort_by_key(|contact| !contact.error);
        rows = told.iter().map(|contact| row(contact)).collect();
    }
    let mut table = Part::new(room / 2);
    table.take("\n| | object | contact | place |\n| --- | --- | --- | --- |\n");
    let shown = rows.iter().filter(|row| table.take(row)).count();
    left_out.count("contacts", shown, told.len());

    let open = opened(told.len());
    let head = format!("\n<details{open}><summary>Details</summary>\n\n");
    let foot = "\n</details>\n";
    let room = room.saturating_sub(table.text.len() + head.len() + foot.len() + FENCE_EXTRA);
    let mut block = String::new();
    let (mut detailed, mut fence_len) = (0, 0);
    for contact in told.iter().take(shown) {
        let piece = format!("{}\n{}\n", text::title(contact), text::details(contact));
        // The fence grows with what it has to hold.
        fence_len = fence(&piece).len().max(fence_len);
        if block.len() + piece.len() + fence_len * 2 > room {
            break;
        }
        block.push_str(&piece);
        detailed += 1;
    }
    left_out.count("details", detailed, told.len());
    if block.is_empty() {
        return table.text;
    }
    format!("{}{head}{}{foot}", table.text, fenced(&block))
}

fn row(contact: &Contact) -> String {
    let Contact { namespace, name, called, file, line, action, .. } = contact;
    let word = text::word(*action);
    let word = if contact.error { format!("**{word}**") } else { word.to_owned() };
    let object = code(&format!("{namespace}/{name}"));
    let place = code(&format!("{file}:{line}"));
    format!("| {word} | {object} | {} | {place} |\n", code(called))
}

/// What each policy comes to, with its coverage; errors first where there is no room for all.
fn policies(report: &Report, left_out: &mut LeftOut) -> String {
    let mut policies: Vec<_> = report.policies.iter().collect();
    let whole: usize = policies.iter().map(|policy| policy_whole(policy).len()).sum();
    if whole > BYTES_OF_POLICIES {
        policies.sort_by_key(|policy| (!policy.error, policy.compliant == "True"));
    }
    let mut part = Part::new(BYTES_OF_POLICIES);
    let (mut shown, mut rows) = (0, 0);
    for policy in &policies {
        shown += usize::from(part.take(&policy_line(policy)));
        let mut coverage = policy.coverage.iter();
        if let Some(first) = coverage.next() {
            rows += usize::from(part.take(&format!("{COVERAGE_HEAD}{}", coverage_row(first))));
            rows += coverage.filter(|row| part.take(&coverage_row(row))).count();
        }
    }
    left_out.count("policies", shown, policies.len());
    let all = policies.iter().map(|policy| policy.coverage.len()).sum();
    left_out.count("rows of coverage", rows, all);
    part.text
}

fn policy_whole(policy: &Policy) -> String {
    let rows: String = policy.coverage.iter().map(coverage_row).collect();
    let head = if rows.is_empty() { "" } else { COVERAGE_HEAD };
    format!("{}{head}{rows}", policy_line(policy))
}

fn policy_line(policy: &Policy) -> String {
    format!("\n{}\n", code(&text::policy_line(policy)))
}

const COVERAGE_HEAD: &str = "\n| rule | of | in | counted | required | now | after | once confirmed |\n\
     | --- | --- | --- | --- | --- | --- | --- | --- |\n";

fn coverage_row(row: &Coverage) -> String {
    let after = if row.lost { format!("**{}**", row.after) } else { row.after.to_string() };
    let member = row.member.as_deref().map(code).unwrap_or_default();
    format!(
        "| {} | {} | {member} | {} | {} | {} | {after} | {} |\n",
        code(&row.rule),
        row.message_type,
        row.counted,
        row.required,
        row.before,
        row.confirmed
    )
}

fn notes(report: &Report, left_out: &mut LeftOut) -> String {
    let mut part = Part::new(BYTES_OF_NOTES);
    if !report.notes.is_empty() {
        part.take("\n");
    }
    let notes = report.notes.iter();
    let shown = notes.filter(|note| part.take(&format!("- {}\n", code(note)))).count();
    left_out.count("notes", shown, report.notes.len());
    part.text
}

/// Few details are shown at once.
fn opened(contacts: usize) -> &'static str {
    if contacts <= 5 { " open" } else { "" }
}

/// A text as code within a line, whatever it holds: a character that could be markup is written by its
/// number, and in code nobody is mentioned.
fn code(text: &str) -> String {
    let mut out = String::from("<code>");
    for c in text.chars() {
        match c {
            ' ' | '.' | ',' | '/' | '-' | '(' | ')' | ';' => out.push(c),
            c if c.is_ascii_punctuation() || c.is_control() => {
                let _ = write!(out, "&#{};", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push_str("</code>");
    out
}

/// Lines as a block of code that nothing in them can end.
fn fenced(lines: &str) -> String {
    let fence = fence(lines);
    // The sign stands in front where the block colours lines by it.
    format!("{fence}diff\n{}\n{fence}\n", lines.trim_end())
}

/// Bytes of such a block beside its lines and the two fences.
const FENCE_EXTRA: usize = "diff\n\n\n".len();

/// A fence that is longer than all that stand in these lines.
fn fence(lines: &str) -> String {
    let longest = lines.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    "`".repeat((longest + 1).max(3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_write_stays_a_text() {
        let evil = "a|b`c`*d*<img src=x>@somebody [e](f)&amp;\n";
        let told = code(evil);
        let inner = told.strip_prefix("<code>").unwrap().strip_suffix("</code>").unwrap();
        assert!(!inner.contains(['|', '`', '*', '<', '>', '@', '[', ']', '\n']), "{inner}");
        assert_eq!(inner.matches('&').count(), inner.matches("&#").count(), "{inner}");
        assert_eq!(fenced("a\n````\nb\n"), "`````diff\na\n````\nb\n`````\n");
    }
}
