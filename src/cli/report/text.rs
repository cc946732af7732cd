//! The report for a terminal.

use std::fmt::Write as _;

use super::{Cell, Judged, Level, Report, Row};
use crate::cli::terminal::{DOUBT, FINE, Paint, WRONG, printable, table};
use crate::domain::contact::MessageType;

/// The whole report. Nothing in it is told by colour alone, and what others wrote moves no cursor:
/// `table` sees to its cells, and each line beside a table to itself.
pub(super) fn render(report: &Report, paint: Paint) -> String {
    let mut out = String::new();
    let Report { directory, directory_id, looked_at, summary, .. } = report;
    let title = format!("Who hears of what in {directory_id} (ResourceDirectory `{directory}`)");
    let _ = writeln!(out, "{}", paint.bold(&printable(&title)));
    let _ = writeln!(
        out,
        "{looked_at}: {} contacts, {} verified, {} gaps{}",
        summary.contacts,
        summary.verified,
        summary.gaps,
        summary.unmanaged.map_or(String::new(), |count| format!(", {count} unmanaged"))
    );
    out.push('\n');
    matrix(&report.coverage, paint, &mut out);
    if !report.policies.is_empty() {
        heading("Policies", paint, &mut out);
        report.policies.iter().for_each(|policy| judged(policy, paint, &mut out));
    }
    heading("Contacts", paint, &mut out);
    contacts(report, paint, &mut out);
    for note in &report.notes {
        let _ = writeln!(out, "\nnote: {}", printable(note));
    }
    out
}

fn heading(text: &str, paint: Paint, out: &mut String) {
    let _ = writeln!(out, "\n{}", paint.bold(text));
}

fn matrix(rows: &[Row], paint: Paint, out: &mut String) {
    let mut head = vec!["Where"];
    head.extend(MessageType::ALL.iter().map(|it| it.as_str().trim_end_matches("Message")));
    let lines = rows.iter().map(|row| {
        let cells = row.cells.iter().map(cell);
        std::iter::once(place(row)).chain(cells).collect()
    });
    out.push_str(&table(&head, lines.collect(), paint));
}

/// What a row is about; ids that look alike below it.
fn place(row: &Row) -> String {
    const SHOWN: usize = 4;
    if row.ids.len() < 2 {
        return row.label.clone();
    }
    let mut ids: Vec<_> = row.ids.iter().take(SHOWN).cloned().collect();
    if let more @ 1.. = row.ids.len().saturating_sub(SHOWN) {
        ids.push(format!("and {more} more"));
    }
    format!("{}:\n{}", row.label, ids.join("\n"))
}

fn cell(cell: &Cell) -> String {
    match cell.level {
        Level::Nobody => format!("{WRONG} nobody"),
        Level::Unverified => format!("{DOUBT} 0 of {} verified", cell.contacts.len()),
        Level::Covered => format!("{FINE} {} verified", cell.verified),
    }
}

fn judged(policy: &Judged, paint: Paint, out: &mut String) {
    let word = match policy.compliant {
        "True" => format!("{FINE} holds"),
        "False" => format!("{WRONG} does not hold"),
        _ => format!("{DOUBT} not known"),
    };
    let word = paint.marks(&word);
    let Judged { name, enforcement, message, .. } = policy;
    let [name, message] = [name, message].map(|text| printable(text));
    let _ = writeln!(out, "{name} ({enforcement}): {word}: {message}");
    for demand in policy.coverage.iter().filter(|demand| !demand.satisfied) {
        let within = demand.member.as_ref().map_or(String::new(), |id| format!(" in {id}"));
        let line = format!(
            "{}: {} of {} {} hear of {}{within}",
            demand.rule, demand.actual, demand.required, demand.counted, demand.message_type
        );
        let _ = writeln!(out, "  {}", printable(&line));
    }
    for violation in &policy.violations {
        let message = printable(&violation.message);
        let _ = writeln!(out, "  {}: {message}", shown(&violation.contact));
    }
}

fn contacts(report: &Report, paint: Paint, out: &mut String) {
    let rows = report.contacts.iter().map(|person| {
        let mark = |yes: bool| if yes { format!("{FINE} yes") } else { format!("{DOUBT} no") };
        vec![
            shown(&person.name),
            person.title.clone(),
            person.email_address.clone().unwrap_or_default(),
            mark(person.verified),
            person.waiting.join(", "),
            person.managed.map(mark).unwrap_or_default(),
            person
                .message_types
                .iter()
                .map(|it| it.trim_end_matches("Message"))
                .collect::<Vec<_>>()
                .join(", "),
            if person.members.is_empty() {
                "nothing".to_owned()
            } else {
                person.members.join(", ")
            },
        ]
    });
    let head =
        ["Contact", "Title", "Mailbox", "Verified", "Waiting", "Managed", "Hears of", "Bound to"];
    out.push_str(&table(&head, rows.collect(), paint));
}

/// A name as the cloud shows it, odd characters spelled out.
fn shown(name: &str) -> String {
    name.escape_debug().to_string()
}
