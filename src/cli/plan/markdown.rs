//! A plan for a comment on a pull request.
//!
//! Whoever writes manifests, or contacts in the cloud, must not write the comment: their texts stand in
//! code, where nothing is markup and nobody is called.

use std::fmt::Write as _;

use super::report::{Contact, Report};
use super::text;

/// Characters of a comment that are used for single contacts: GitHub takes 65,536, GitLab more.
const CHARS_MAX: usize = 50_000;

pub(super) fn render(report: &Report) -> String {
    let mut out = String::from("### Message contacts\n\n");
    let _ = writeln!(out, "**{}**\n", text::conclusion(&report.summary));
    for directory in &report.directories {
        let _ = writeln!(out, "- {}", code(&text::heading(directory)));
    }
    let told: Vec<_> = report.contacts.iter().filter(|contact| text::is_told(contact)).collect();
    if !told.is_empty() {
        out.push_str("\n| | object | contact | place |\n| --- | --- | --- | --- |\n");
    }
    let mut shown = 0;
    for contact in &told {
        if out.len() > CHARS_MAX / 2 {
            break;
        }
        shown += 1;
        let Contact { namespace, name, called, file, line, action, .. } = contact;
        let word = text::word(*action);
        let word = if contact.error { format!("**{word}**") } else { word.to_owned() };
        let object = code(&format!("{namespace}/{name}"));
        let place = code(&format!("{file}:{line}"));
        let _ = writeln!(out, "| {word} | {object} | {} | {place} |", code(called));
    }
    let mut block = String::new();
    for contact in told.iter().take(shown) {
        if out.len() + block.len() > CHARS_MAX {
            shown = shown.min(told.len().saturating_sub(1));
            break;
        }
        let _ = writeln!(block, "{}\n{}", text::title(contact), text::details(contact));
    }
    if !block.is_empty() {
        let _ = writeln!(out, "\n<details{}><summary>Details</summary>\n", opened(told.len()));
        out.push_str(&fenced(&block));
        out.push_str("\n</details>\n");
    }
    if shown < told.len() {
        let _ = writeln!(out, "\nNot everything fits here; see the log for the rest.");
    }
    for policy in &report.policies {
        let _ = writeln!(out, "\n{}", code(&text::policy_line(policy)));
        if policy.coverage.is_empty() {
            continue;
        }
        out.push_str(
            "\n| rule | of | in | counted | required | now | after | once confirmed |\n\
             | --- | --- | --- | --- | --- | --- | --- | --- |\n",
        );
        for row in &policy.coverage {
            let after = if row.lost { format!("**{}**", row.after) } else { row.after.to_string() };
            let member = row.member.as_deref().map(code).unwrap_or_default();
            let _ = writeln!(
                out,
                "| {} | {} | {member} | {} | {} | {} | {after} | {} |",
                code(&row.rule),
                row.message_type,
                row.counted,
                row.required,
                row.before,
                row.confirmed
            );
        }
    }
    if !report.notes.is_empty() {
        out.push('\n');
    }
    for note in &report.notes {
        let _ = writeln!(out, "- {}", code(note));
    }
    out
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
    let mut longest = 0;
    let mut run = 0;
    for c in lines.chars() {
        run = if c == '`' { run + 1 } else { 0 };
        longest = longest.max(run);
    }
    let fence = "`".repeat((longest + 1).max(3));
    // The sign stands in front where the block colours lines by it.
    format!("{fence}diff\n{}\n{fence}\n", lines.trim_end())
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
