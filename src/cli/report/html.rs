//! The report as one page that needs nothing beside it: no script, no font, no picture.
//!
//! What is told by colour is told by a word and a mark as well, so that it survives print.

use std::fmt::Write as _;

use super::{Cell, Demand, Judged, Level, Listener, Person, Report, Row, Summary};
use crate::domain::contact::MessageType;

const STYLE: &str = include_str!("page.css");

/// The whole page.
pub(super) fn render(report: &Report) -> String {
    let mut page = String::new();
    let Report { directory, directory_id, looked_at, .. } = report;
    let title = escaped(&format!("Who hears of what: {directory_id}"));
    let _ = writeln!(
        page,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src \
         'unsafe-inline'\">\n<title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n\
         <header>\n<h1>Who hears of what</h1>\n\
         <p class=\"facts\">Resource directory <strong>{}</strong>, ResourceDirectory <code>{}</code>, \
         management account <strong>{}</strong><br>Looked at on <time>{}</time></p>\n</header>\n<main>",
        escaped(directory_id),
        escaped(directory),
        escaped(&report.management_account_id),
        escaped(looked_at),
    );
    summary(&report.summary, report.policies.len(), &mut page);
    matrix(&report.coverage, &mut page);
    if !report.policies.is_empty() {
        policies(&report.policies, &mut page);
    }
    attention(&report.contacts, &mut page);
    contacts(report, &mut page);
    if !report.notes.is_empty() {
        let notes = all(&report.notes, |note| format!("<li>{}</li>\n", escaped(note)));
        let _ = writeln!(
            page,
            "<section aria-labelledby=\"notes\">\n<h2 id=\"notes\">Notes</h2>\n<ul>\n{notes}</ul>\n</section>"
        );
    }
    let _ = writeln!(
        page,
        "</main>\n<footer>Made by message-contact-operator {} from what the cloud shows. Addresses \
         and numbers are masked.</footer>\n</body>\n</html>",
        env!("CARGO_PKG_VERSION")
    );
    page
}

/// The parts one after the other.
fn all<T>(items: impl IntoIterator<Item = T>, part: impl FnMut(T) -> String) -> String {
    items.into_iter().map(part).collect::<Vec<_>>().concat()
}

/// A text as HTML, in an element or in a quoted attribute.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            // Nobody can see these, or they turn the text around.
            char if char.is_control() || is_invisible(char) => {
                let _ = write!(out, "\u{FFFD}");
            }
            char => out.push(char),
        }
    }
    out
}

/// Marks of direction and of no width.
fn is_invisible(char: char) -> bool {
    matches!(char, '\u{200B}'..='\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2060}'..='\u{2069}' | '\u{FEFF}')
}

fn summary(summary: &Summary, policies: usize, page: &mut String) {
    let Summary { contacts, verified, people, unmanaged, accounts, gaps, violated_policies } =
        summary;
    let mut tiles = vec![
        tile("Contacts", *contacts, false),
        tile("of these verified", *verified, verified < contacts),
        tile("verified people", *people, false),
        tile("Gaps in coverage", *gaps, *gaps > 0),
    ];
    if let Some(accounts) = accounts {
        tiles.push(tile("Member accounts", *accounts, false));
    }
    if let Some(unmanaged) = unmanaged {
        tiles.push(tile("Unmanaged contacts", *unmanaged, *unmanaged > 0));
    }
    if policies > 0 {
        tiles.push(tile("Policies that do not hold", *violated_policies, *violated_policies > 0));
    }
    let _ = writeln!(
        page,
        "<section aria-labelledby=\"summary\">\n<h2 id=\"summary\">Summary</h2>\n<dl class=\"tiles\">\n{}</dl>\n</section>",
        tiles.concat()
    );
}

fn tile(name: &str, count: usize, notable: bool) -> String {
    let class = if notable { " class=\"notable\"" } else { "" };
    let mark = if notable { " <span class=\"mark\">!</span>" } else { "" };
    format!("<div{class}><dt>{}</dt><dd>{count}{mark}</dd></div>\n", escaped(name))
}

fn matrix(rows: &[Row], page: &mut String) {
    let head = all(MessageType::ALL, |it| format!("<th scope=\"col\">{}</th>", words(it.as_str())));
    let body = all(rows, row);
    let _ = writeln!(
        page,
        "<section aria-labelledby=\"coverage\">\n<h2 id=\"coverage\">Coverage</h2>\n\
         <p class=\"legend\"><span class=\"covered\">✓ a verified person hears of it</span> \
         <span class=\"unverified\">! nobody of these has confirmed</span> \
         <span class=\"nobody\">✗ nobody hears of it</span></p>\n\
         <div class=\"scroll\" role=\"region\" aria-labelledby=\"coverage\" tabindex=\"0\">\n\
         <table class=\"matrix\">\n<caption>Who hears of which messages, account by account. Accounts \
         that look alike stand together.</caption>\n\
         <thead><tr><th scope=\"col\">Where</th>{head}</tr></thead>\n<tbody>\n{body}</tbody>\n</table>\n\
         </div>\n</section>"
    );
}

/// A word of the API such as `SecurityMessage`, so that it breaks between its parts.
fn words(word: &str) -> String {
    let mut out = String::new();
    for (index, char) in word.chars().enumerate() {
        if index > 0 && char.is_ascii_uppercase() {
            out.push_str("<wbr>");
        }
        out.push_str(&escaped(&char.to_string()));
    }
    out
}

fn row(row: &Row) -> String {
    let ids = match row.ids.as_slice() {
        [] | [_] => String::new(),
        ids => {
            let ids: Vec<_> =
                ids.iter().map(|id| format!("<code>{}</code>", escaped(id))).collect();
            format!("<span class=\"ids\">{}</span>", ids.join(" "))
        }
    };
    let cells = all(&row.cells, cell);
    format!("<tr><th scope=\"row\">{}{ids}</th>{cells}</tr>\n", escaped(&row.label))
}

fn cell(cell: &Cell) -> String {
    let count = cell.contacts.len();
    let (class, told) = match cell.level {
        Level::Nobody => ("nobody", "✗ nobody".to_owned()),
        Level::Unverified => ("unverified", format!("! 0 of {count} verified")),
        Level::Covered => ("covered", format!("✓ {} verified", cell.verified)),
    };
    let names = all(&cell.contacts, listener);
    let names = if names.is_empty() { names } else { format!("<ul>{names}</ul>") };
    format!("<td class=\"{class}\"><span class=\"told\">{told}</span>{names}</td>")
}

fn listener(Listener { name, verified }: &Listener) -> String {
    let doubt = if *verified { "" } else { " <em>unverified</em>" };
    format!("<li>{}{doubt}</li>", escaped(name))
}

fn policies(policies: &[Judged], page: &mut String) {
    let items = all(policies, judged);
    let _ = writeln!(
        page,
        "<section aria-labelledby=\"policies\">\n<h2 id=\"policies\">Policies</h2>\n{items}</section>"
    );
}

fn judged(policy: &Judged) -> String {
    let (class, mark) = match policy.compliant {
        "True" => ("covered", "✓ holds"),
        "False" => ("nobody", "✗ does not hold"),
        _ => ("unverified", "! not known"),
    };
    let demands = all(&policy.coverage, demand);
    let demands = if demands.is_empty() {
        demands
    } else {
        format!(
            "<div class=\"scroll\"><table>\n<caption>What {} demands of all contacts together</caption>\n\
             <thead><tr><th scope=\"col\">Rule</th><th scope=\"col\">Messages</th><th scope=\"col\">In\
             </th><th scope=\"col\">Counted</th><th scope=\"col\">Required</th><th scope=\"col\">There \
             are</th><th scope=\"col\">Verdict</th></tr></thead>\n<tbody>\n{demands}</tbody>\n</table></div>\n",
            escaped(&policy.name)
        )
    };
    let violations = all(&policy.violations, |it| {
        format!("<li>{}: {}</li>\n", escaped(&it.contact), escaped(&it.message))
    });
    let violations = if violations.is_empty() {
        violations
    } else {
        format!("<ul class=\"violations\">\n{violations}</ul>\n")
    };
    format!(
        "<article>\n<h3>{} <small>{}</small></h3>\n<p><span class=\"{class}\">{mark}</span> {}</p>\n{demands}{violations}</article>\n",
        escaped(&policy.name),
        escaped(policy.enforcement),
        escaped(&policy.message)
    )
}

/// The names of those that somebody has to look at.
fn attention(contacts: &[Person], page: &mut String) {
    let names = |wanted: &dyn Fn(&Person) -> bool| {
        let names = contacts.iter().filter(|person| wanted(person));
        names.map(|person| escaped(&person.name)).collect::<Vec<_>>()
    };
    let lists = [
        ("Not verified", names(&|person| !person.verified)),
        ("In no given manifest", names(&|person| person.managed == Some(false))),
    ];
    let lists = all(lists.iter().filter(|(_, names)| !names.is_empty()), |(what, names)| {
        format!("<dt>{what} ({})</dt><dd>{}</dd>\n", names.len(), names.join(", "))
    });
    if !lists.is_empty() {
        let _ = writeln!(
            page,
            "<section aria-labelledby=\"attention\">\n<h2 id=\"attention\">To be looked at</h2>\n\
             <dl class=\"lists\">\n{lists}</dl>\n</section>"
        );
    }
}

fn demand(demand: &Demand) -> String {
    let (class, mark) =
        if demand.satisfied { ("covered", "✓ enough") } else { ("nobody", "✗ too few") };
    format!(
        "<tr><th scope=\"row\">{}</th><td>{}</td><td>{}</td><td>{}</td><td class=\"number\">{}</td>\
         <td class=\"number\">{}</td><td class=\"{class}\">{mark}</td></tr>\n",
        escaped(&demand.rule),
        words(demand.message_type),
        escaped(demand.member.as_deref().unwrap_or("")),
        escaped(demand.counted),
        demand.required,
        demand.actual
    )
}

fn contacts(report: &Report, page: &mut String) {
    let rows = all(&report.contacts, person);
    let with_managed = report.summary.unmanaged.is_some();
    let managed = if with_managed { "<th scope=\"col\">Managed</th>" } else { "" };
    let _ = writeln!(
        page,
        "<section aria-labelledby=\"contacts\">\n<h2 id=\"contacts\">Contacts</h2>\n\
         <div class=\"scroll\" role=\"region\" aria-labelledby=\"contacts\" tabindex=\"0\">\n<table>\n\
         <caption>Every contact of the directory</caption>\n<thead><tr><th scope=\"col\">Contact</th>\
         <th scope=\"col\">Title</th><th scope=\"col\">Mailbox and phone</th><th scope=\"col\">Mailbox \
         verified</th>{managed}<th scope=\"col\">Hears of</th><th scope=\"col\">Bound to</th></tr>\
         </thead>\n<tbody>\n{rows}</tbody>\n</table>\n</div>\n</section>"
    );
}

fn person(person: &Person) -> String {
    let (class, mark) =
        if person.verified { ("covered", "✓ yes") } else { ("unverified", "! no") };
    let waiting = if person.waiting.is_empty() {
        String::new()
    } else {
        format!(" <small>waits for the owner: {}</small>", person.waiting.join(", "))
    };
    let managed = match person.managed {
        None => String::new(),
        Some(true) => "<td class=\"covered\">✓ yes</td>".to_owned(),
        Some(false) => "<td class=\"unverified\">! no</td>".to_owned(),
    };
    let channels: Vec<_> = [&person.email_address, &person.phone_number]
        .into_iter()
        .flatten()
        .map(|value| escaped(value))
        .collect();
    let types: Vec<_> = person.message_types.iter().map(|word| words(word)).collect();
    let members: Vec<_> =
        person.members.iter().map(|id| format!("<code>{}</code>", escaped(id))).collect();
    let members = if members.is_empty() { "nothing".to_owned() } else { members.join(" ") };
    format!(
        "<tr><th scope=\"row\">{} <small>{}</small></th><td>{}</td><td>{}</td>\
         <td class=\"{class}\">{mark}{waiting}</td>{managed}<td>{}</td><td>{members}</td></tr>\n",
        escaped(&person.name),
        escaped(&person.contact_id),
        words(&person.title),
        channels.join("<br>"),
        types.join(", "),
    )
}
