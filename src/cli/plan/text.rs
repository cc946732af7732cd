//! A plan for a terminal, and for a log.

use std::fmt::Write as _;

use super::super::terminal::{self, DOUBT, FINE, Paint, WRONG, printable};
use super::report::{Action, Call, Contact, Directory, Encrypted, Field, Policy, Report, Summary};

/// Names of unmanaged contacts that are shown; the rest is counted.
const UNMANAGED_SHOWN: usize = 10;

pub(super) fn render(report: &Report, paint: Paint) -> String {
    let mut out = String::new();
    for directory in &report.directories {
        let _ = writeln!(out, "{}", heading(directory));
    }
    for name in &report.removed_directories {
        let _ = writeln!(out, "{}", removal(name));
    }
    for contact in report.contacts.iter().filter(|contact| is_told(contact)) {
        let _ = write!(out, "\n{}", paint.like(colour(contact), &title(contact)));
        let _ = write!(out, "\n{}", details(contact));
    }
    for policy in &report.policies {
        out.push('\n');
        out.push_str(&policy_text(policy, paint));
    }
    if !report.notes.is_empty() {
        out.push('\n');
    }
    for note in &report.notes {
        let _ = writeln!(out, "note: {}", printable(note));
    }
    let colour = match report.result {
        super::report::Result::NoChanges => FINE,
        super::report::Result::Changes => DOUBT,
        super::report::Result::Errors => WRONG,
    };
    let _ = writeln!(out, "\n{}", paint.like(colour, &conclusion(&report.summary)));
    out
}

/// Whether there is more to say of a contact than that nothing changes.
pub(super) fn is_told(contact: &Contact) -> bool {
    contact.action != Action::NoChange || !contact.violations.is_empty() || contact.error
}

/// The mark whose colour a contact has.
fn colour(contact: &Contact) -> char {
    match contact.action {
        Action::Refuse | Action::Delete => WRONG,
        Action::Create | Action::Adopt => FINE,
        Action::Update | Action::Release | Action::Wait => DOUBT,
        Action::Report | Action::NoChange => ' ',
    }
}

/// What is done, in a word that people use.
pub(super) fn word(action: Action) -> &'static str {
    match action {
        Action::Create => "create",
        Action::Update => "update",
        Action::Adopt => "take over",
        Action::Delete => "delete",
        Action::Release => "let go",
        Action::NoChange => "no change",
        Action::Report => "only report",
        Action::Wait => "wait",
        Action::Refuse => "refused",
    }
}

fn mark(action: Action) -> char {
    match action {
        Action::Create | Action::Adopt => '+',
        Action::Update => '~',
        Action::Delete | Action::Release => '-',
        Action::NoChange | Action::Report => '=',
        Action::Wait => '?',
        Action::Refuse => '!',
    }
}

/// One line that says what becomes of a contact.
pub(super) fn title(contact: &Contact) -> String {
    let Contact { namespace, name, called, file, line, action, .. } = contact;
    let (mark, word) = (mark(*action), word(*action));
    printable(&format!("{mark} {word}: {namespace}/{name} ({called}) {file}:{line}"))
}

/// All that is to be known of it, a line each, with a line break behind each.
pub(super) fn details(contact: &Contact) -> String {
    let mut out = String::new();
    for Call { action, mark, remark, fields } in &contact.calls {
        let _ = writeln!(out, "    {mark} {action}");
        if let Some(remark) = remark {
            let _ = writeln!(out, "        {remark}");
        }
        for field in fields {
            let _ = writeln!(out, "        {}", field_text(field));
        }
    }
    if contact.action == Action::Release {
        let _ =
            writeln!(out, "    the contact stays in the cloud, and nothing manages it any more");
    }
    for field in &contact.drift {
        let _ = writeln!(out, "    differs  {}", field_text(field));
    }
    for field in &contact.unknown {
        let place = match contact.encrypted.iter().find(|it| it.field == *field) {
            Some(Encrypted { secret, how, .. }) => {
                format!("the Secret `{secret}`, which is {how}: decrypt it for the plan")
            }
            None => "a Secret".to_owned(),
        };
        let _ = writeln!(out, "    {field}: unknown, it stands in {place}");
    }
    if contact.waits_for_resume {
        let directory = &contact.directory;
        let _ = writeln!(out, "    not before the ResourceDirectory `{directory}` is resumed");
    }
    if let (Some(reason), Some(message)) = (contact.reason, &contact.message) {
        let _ = writeln!(out, "    {reason}: {}", printable(message));
    }
    // What is denied has been said as the reason.
    let milder = contact.violations.iter().filter(|it| it.enforcement != "Deny");
    for violation in milder {
        let super::report::Violation { policy, enforcement, message, .. } = violation;
        let line = format!("ContactPolicy `{policy}` ({enforcement}): {message}");
        let _ = writeln!(out, "    {}", printable(&line));
    }
    out
}

fn field_text(field: &Field) -> String {
    let or_nothing = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
    let Field { name, before, after } = field;
    printable(&match before {
        Some(before) => format!("{name}: {} -> {}", or_nothing(before), or_nothing(after)),
        None => format!("{name}: {after}"),
    })
}

/// How much is known of a directory.
pub(super) fn heading(directory: &Directory) -> String {
    let Directory { name, id, contacts, unmanaged, suspended } = directory;
    let mut text = format!("ResourceDirectory {name} ({id}): {contacts} contacts");
    if !unmanaged.is_empty() {
        let names = unmanaged.iter().take(UNMANAGED_SHOWN).map(|it| it.name.as_str());
        let names = names.collect::<Vec<_>>().join(", ");
        let count = unmanaged.len();
        let more = if count > UNMANAGED_SHOWN { ", …" } else { "" };
        let _ = write!(text, "; {count} that no manifest here manages: {names}{more}");
    }
    if *suspended {
        text.push_str(
            "; it is suspended: nothing is done in it until it is resumed, and what is told here is \
             what is done then",
        );
    }
    printable(&text)
}

/// What is said of a ResourceDirectory that only the target branch has.
pub(super) fn removal(name: &str) -> String {
    format!(
        "ResourceDirectory {name} is removed: contacts that leave with it are deleted or let go, \
         nothing else is done in it, and what is in the cloud besides stays there"
    )
}

fn policy_text(policy: &Policy, paint: Paint) -> String {
    let colour = match (policy.error, policy.compliant) {
        (true, _) => WRONG,
        (false, "True") => FINE,
        (false, _) => DOUBT,
    };
    let mut out = paint.like(colour, &policy_line(policy));
    out.push('\n');
    if !policy.coverage.is_empty() {
        let rows = policy.coverage.iter().map(|row| {
            let lost = if row.lost { "lost" } else { "" };
            let member = row.member.clone().unwrap_or_default();
            vec![
                format!("    {}", row.rule),
                row.message_type.to_owned(),
                member,
                row.counted.to_owned(),
                row.required.to_string(),
                row.before.to_string(),
                row.after.to_string(),
                row.confirmed.to_string(),
                lost.to_owned(),
            ]
        });
        let head =
            ["    rule", "of", "in", "counted", "required", "now", "after", "once confirmed", ""];
        out.push_str(&terminal::table(&head, rows.collect(), paint));
    }
    out
}

/// What a policy comes to, in one line.
pub(super) fn policy_line(policy: &Policy) -> String {
    let Policy { name, enforcement, compliant, reason, message, error, .. } = policy;
    let error = if *error { " (this held before)" } else { "" };
    printable(&format!(
        "ContactPolicy {name} ({enforcement}): Compliant={compliant} {reason}: {message}{error}"
    ))
}

/// The last line.
pub(super) fn conclusion(summary: &Summary) -> String {
    let Summary {
        create,
        update,
        adopt,
        delete,
        release,
        unchanged,
        reported,
        waiting,
        refused,
        directories_removed,
        directories_suspended,
        errors,
    } = summary;
    let mut parts = vec![
        format!("{create} to create"),
        format!("{update} to update"),
        format!("{delete} to delete"),
        format!("{unchanged} unchanged"),
    ];
    let others = [
        (adopt, "to take over"),
        (release, "to let go"),
        (reported, "only reported"),
        (waiting, "waiting"),
        (refused, "refused"),
    ];
    let others = others.into_iter().filter(|(count, _)| **count > 0);
    parts.extend(others.map(|(count, what)| format!("{count} {what}")));
    let counted = |count: &usize, one: &str, several: &str| match count {
        0 => String::new(),
        1 => format!("; 1 {one}"),
        count => format!("; {count} {several}"),
    };
    let removed = counted(directories_removed, "directory removed", "directories removed");
    let suspended = counted(
        directories_suspended,
        "directory is suspended, and nothing is done in it until it is resumed",
        "directories are suspended, and nothing is done in them until they are resumed",
    );
    let errors = counted(errors, "error", "errors");
    format!("Plan: {}{removed}{suspended}{errors}.", parts.join(", "))
}
