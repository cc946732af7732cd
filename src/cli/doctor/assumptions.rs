//! What a directory shows of what the API's documentation leaves open (A1 to A33), without a write.
//!
//! The operator is right under every answer; what is told here is which one this directory gives.

use super::directory::Probes;
use super::{Check, Findings, Outcome};
use crate::domain::call::Target;
use crate::domain::channel::EmailAddress;
use crate::domain::contact::{ContactName, ContactStatus, ObservedContact};
use crate::domain::snapshot::{Sight, Snapshot};

/// What was seen of one assumption.
enum Seen {
    /// As it was assumed.
    AsAssumed(String),
    /// The other answer.
    Otherwise(String),
    /// Nothing here shows it.
    Nothing,
}

use Seen::{AsAssumed, Nothing, Otherwise};

/// One line an assumption that something was seen of, and a last one with the rest.
pub(super) fn look(area: &str, snapshot: &Snapshot, probes: &Probes) -> Vec<Check> {
    let mut findings = Findings::of(format!("{area}, assumptions"));
    let contacts: Vec<_> =
        snapshot.contacts().map(|contact| (contact, waiting(snapshot, contact))).collect();
    let mut unseen = Vec::new();
    for (number, question, seen) in all(&contacts, probes) {
        let check = format!("{number} {question}");
        match seen {
            AsAssumed(seen) => findings.ok(&check, seen),
            Otherwise(seen) => {
                findings.add(&check, Outcome::Ok, format!("otherwise than assumed: {seen}"), None);
            }
            Nothing => unseen.push(number),
        }
    }
    unseen.extend(ONLY_BY_WRITING);
    unseen.sort_by_key(|number| number[1..].parse::<u32>().unwrap_or(0));
    findings.skipped("not shown by reading", unseen.join(", "));
    findings.checks
}

/// Those of which no read can show anything.
const ONLY_BY_WRITING: [&str; 19] = [
    "A2", "A3", "A4", "A7", "A9", "A11", "A14", "A15", "A16", "A17", "A18", "A19", "A20", "A23",
    "A24", "A27", "A28", "A30", "A33",
];

/// A contact and what waits of it; `None`: that is not known.
type Known<'a> = (&'a ObservedContact, Option<Vec<Target>>);

fn waiting(snapshot: &Snapshot, contact: &ObservedContact) -> Option<Vec<Target>> {
    match snapshot.sight(&contact.id) {
        Sight::Known(entry) => Some(entry.pending?.targets),
        Sight::Unlisted | Sight::Gone { .. } => None,
    }
}

fn all(contacts: &[Known<'_>], probes: &Probes) -> Vec<(&'static str, &'static str, Seen)> {
    vec![
        ("A1", "parameters in the form body", AsAssumed("calls are understood".to_owned())),
        ("A5", "pages of 100", AsAssumed("a page of 100 was given".to_owned())),
        ("A6", "the end of a deletion", end_of_deletion(probes)),
        ("A8", "calls per second", AsAssumed("these calls were not too fast".to_owned())),
        ("A10", "status while only the phone waits", only_phone_waits(contacts)),
        ("A12", "what is shown while a new address waits", shown_while_waiting(contacts)),
        ("A13", "status while a new address waits", status_while_waiting(contacts)),
        ("A21", "reads beside other operations", AsAssumed("these reads were answered".to_owned())),
        ("A22", "letter case of names", case_of_names(contacts)),
        ("A25", "letter case of addresses", case_of_addresses(contacts)),
        ("A26", "members are direct bindings only", direct_bindings(contacts)),
        ("A29", "letters of names", letters_of_names(contacts)),
        ("A31", "deletion status without a deletion", status_without_deletion(probes)),
        ("A32", "one lane for the whole directory", Nothing),
    ]
}

fn end_of_deletion(probes: &Probes) -> Seen {
    match probes.deletion_of_nobody {
        Some(true) => AsAssumed("what is not there is called not there".to_owned()),
        Some(false) => Otherwise("what is not there gets an answer".to_owned()),
        None => Nothing,
    }
}

fn status_without_deletion(probes: &Probes) -> Seen {
    match probes.deletion_of_active {
        Some(true) => AsAssumed("it is answered".to_owned()),
        Some(false) => Otherwise("it is called not there".to_owned()),
        None => Nothing,
    }
}

fn email_that_waits(waiting: &[Target]) -> Option<&EmailAddress> {
    waiting.iter().find_map(|target| match target {
        Target::Email(email) => Some(email),
        Target::Phone(_) => None,
    })
}

fn only_phone_waits(contacts: &[Known<'_>]) -> Seen {
    let only_phone = |(contact, waiting): &&Known<'_>| {
        let waits = waiting.as_deref().unwrap_or_default();
        contact.phone.is_some() && !waits.is_empty() && email_that_waits(waits).is_none()
    };
    let Some((contact, _)) = contacts.iter().find(only_phone) else { return Nothing };
    match contact.status {
        ContactStatus::Active => AsAssumed("it is Active".to_owned()),
        _ => Otherwise("it is not Active".to_owned()),
    }
}

/// A contact that shows another address than the one that waits, so that both are known.
fn replaced<'a>(contacts: &'a [Known<'_>]) -> Option<&'a ObservedContact> {
    let replaced = |(contact, waiting): &&Known<'_>| {
        let waits = waiting.as_deref().and_then(email_that_waits);
        waits.zip(contact.email.as_ref()).is_some_and(|(waits, shown)| !waits.same_mailbox(shown))
    };
    contacts.iter().find(replaced).map(|(contact, _)| *contact)
}

fn shown_while_waiting(contacts: &[Known<'_>]) -> Seen {
    if replaced(contacts).is_some() {
        return AsAssumed("the one in force is shown".to_owned());
    }
    // Whoever was never confirmed shows the address that waits, under either answer.
    let active_and_waits = |(contact, waiting): &Known<'_>| {
        contact.status == ContactStatus::Active
            && waiting.as_deref().and_then(email_that_waits).is_some()
    };
    if contacts.iter().any(active_and_waits) {
        Otherwise("the one that waits is shown".to_owned())
    } else {
        Nothing
    }
}

fn status_while_waiting(contacts: &[Known<'_>]) -> Seen {
    match replaced(contacts).map(|contact| &contact.status) {
        None => Nothing,
        Some(ContactStatus::Active) => AsAssumed("it is Active".to_owned()),
        Some(_) => Otherwise("it is not Active".to_owned()),
    }
}

fn case_of_names(contacts: &[Known<'_>]) -> Seen {
    let mut folded: Vec<_> = contacts.iter().map(|(contact, _)| contact.name.folded()).collect();
    folded.sort();
    if folded.windows(2).any(|pair| pair[0] == pair[1]) {
        AsAssumed("two names differ in letter case only".to_owned())
    } else {
        Nothing
    }
}

fn case_of_addresses(contacts: &[Known<'_>]) -> Seen {
    let kept = |(contact, _): &Known<'_>| {
        // The part behind the `@` is enough, and is shown anyway.
        contact
            .email
            .as_ref()
            .is_some_and(|email| email.domain().bytes().any(|byte| byte.is_ascii_uppercase()))
    };
    if contacts.iter().any(kept) {
        AsAssumed("an address has upper-case letters".to_owned())
    } else {
        Nothing
    }
}

fn direct_bindings(contacts: &[Known<'_>]) -> Seen {
    let above = |id: &str| ["rd-", "r-", "fd-"].iter().any(|start| id.starts_with(start));
    let only_above = |(contact, _): &Known<'_>| {
        !contact.members.is_empty() && contact.members.iter().all(|id| above(id.as_str()))
    };
    if contacts.iter().any(only_above) {
        AsAssumed("a contact lists a directory or folder, and no account below it".to_owned())
    } else {
        Nothing
    }
}

fn letters_of_names(contacts: &[Known<'_>]) -> Seen {
    let odd = contacts
        .iter()
        .filter(|(contact, _)| ContactName::parse(contact.name.as_str()).is_err())
        .count();
    match (contacts.len(), odd) {
        (0, _) => Nothing,
        (all, 0) => AsAssumed(format!("all {all} names are letters or Chinese characters")),
        (all, odd) => Otherwise(format!("{odd} of {all} names have other characters")),
    }
}
