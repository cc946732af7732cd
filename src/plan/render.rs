//! The text of a plan, for people: what is done next, what is written down first, what is said of
//! the contact, and when it is looked at again. Private values are masked, hashes left out.

use std::collections::BTreeSet;
use std::fmt::{self, Display, Write};

use super::{Plan, Step};
use crate::domain::call::{Call, Changes, NewContact, PhoneChange};
use crate::domain::contact::{ContactId, Difference, MessageType, ObservedContact, Recorded};
use crate::domain::verdict::{Finding, Reason, Verdict};
use crate::domain::verification::{ChannelOutlook, ChannelRecord, Outlook, Verification};

/// What is printed where there is nothing.
const NOTHING: &str = "-";

/// A plan, fit to be printed; each line ends with a line break.
#[derive(Debug, Clone, Copy)]
pub struct Rendered<'a> {
    /// The plan.
    pub plan: &'a Plan,
    /// What the object's status said when the plan was made: what the plan changes in it is shown.
    pub recorded: &'a Recorded,
    /// The contact as the cloud shows it, for both sides of a change.
    pub observed: Option<&'a ObservedContact>,
}

impl Display for Rendered<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { plan, recorded, observed } = *self;
        let Plan {
            record,
            step,
            send: _,
            verdict,
            drift,
            outlook,
            attempts: _,
            recheck_at,
            adopts,
        } = plan;
        match step {
            None => writeln!(f, "= nothing to do")?,
            Some(step) => write_step(f, step, observed)?,
        }
        if *adopts {
            writeln!(f, "  takes over the contact that is there")?;
        }
        write_record(f, recorded, record)?;
        for Difference { field, desired, observed } in drift {
            writeln!(
                f,
                "  differs  {}: {} -> {}",
                field.as_str(),
                or_nothing(observed),
                or_nothing(desired)
            )?;
        }
        write_verdict(f, verdict)?;
        write_outlook(f, outlook)?;
        if let Some(at) = recheck_at {
            writeln!(f, "  looks again at {at}")?;
        }
        Ok(())
    }
}

fn write_step(
    f: &mut fmt::Formatter<'_>,
    step: &Step,
    observed: Option<&ObservedContact>,
) -> fmt::Result {
    match step {
        Step::TakeFinalizer => writeln!(f, "* puts the finalizer on the object"),
        Step::ReleaseFinalizer => writeln!(f, "* takes the finalizer off the object"),
        Step::Relist => writeln!(f, "? lists the directory again"),
        Step::AskDefinition => {
            writeln!(f, "? asks the apiserver whether the kind is being deleted")
        }
        Step::Call(call, urgency) => write_call(f, call, &format!("{urgency:?}"), observed),
    }
}

/// One field of a call, or whatever else it is about, fit to be printed: both sides where something
/// changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The field, as specs spell it; `to` of a message, `member` of a binding.
    pub field: &'static str,
    /// As it is; `None` where nothing is replaced.
    pub before: Option<String>,
    /// As it will be.
    pub after: String,
}

impl Line {
    fn of(field: &'static str, value: impl Display) -> Self {
        Self { field, before: None, after: value.to_string() }
    }
}

impl Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { field, before, after } = self;
        match before {
            Some(before) => write!(f, "{field}: {} -> {}", or_nothing(before), or_nothing(after)),
            None => write!(f, "{field}: {after}"),
        }
    }
}

/// The sign that stands before a call.
#[must_use]
pub fn mark(call: &Call) -> char {
    match call {
        Call::AddMessageContact(_) => '+',
        Call::DeleteMessageContact { .. } => '-',
        Call::UpdateMessageContact(..)
        | Call::CancelMessageContactUpdate { .. }
        | Call::AssociateMembers(..)
        | Call::DisassociateMembers(..) => '~',
        Call::SendEmailVerificationForMessageContact(..)
        | Call::SendPhoneVerificationForMessageContact(..) => '>',
        Call::GetMessageContact(_)
        | Call::ListMessageContacts { .. }
        | Call::GetMessageContactDeletionStatus(_)
        | Call::ListMessageContactVerifications { .. }
        | Call::GetResourceDirectory
        | Call::ListAccounts { .. } => '?',
    }
}

/// What is to be known of a call beside its fields.
#[must_use]
pub fn remark(call: &Call) -> Option<&'static str> {
    let Call::DeleteMessageContact { id: _, retain_in_members } = call else { return None };
    Some(if *retain_in_members {
        "the accounts that it is bound to keep it"
    } else {
        "the accounts that it is bound to lose it too"
    })
}

/// The fields of a call. `observed` is the contact as the cloud shows it.
#[must_use]
pub fn lines(call: &Call, observed: Option<&ObservedContact>) -> Vec<Line> {
    match call {
        Call::AddMessageContact(new) => lines_of_new(new),
        Call::UpdateMessageContact(_, changes) => lines_of_changes(changes, observed),
        Call::SendEmailVerificationForMessageContact(_, email) => vec![Line::of("to", email)],
        Call::SendPhoneVerificationForMessageContact(_, phone) => vec![Line::of("to", phone)],
        Call::CancelMessageContactUpdate { id: _, email, phone } => {
            let email = email.as_ref().map(ToString::to_string);
            let phone = phone.as_ref().map(ToString::to_string);
            let values = email.into_iter().chain(phone);
            values.map(|value| Line::of("no longer waits", value)).collect()
        }
        Call::AssociateMembers(_, ids) | Call::DisassociateMembers(_, ids) => {
            ids.iter().map(|id| Line::of("member", id)).collect()
        }
        Call::DeleteMessageContact { .. }
        | Call::GetMessageContact(_)
        | Call::ListMessageContacts { .. }
        | Call::GetMessageContactDeletionStatus(_)
        | Call::ListMessageContactVerifications { .. }
        | Call::GetResourceDirectory
        | Call::ListAccounts { .. } => Vec::new(),
    }
}

fn write_call(
    f: &mut fmt::Formatter<'_>,
    call: &Call,
    urgency: &str,
    observed: Option<&ObservedContact>,
) -> fmt::Result {
    let id = call.contact_id().map_or("", ContactId::as_str);
    let line = format!("{} {} {id}", mark(call), call.action());
    writeln!(f, "{} ({})", line.trim_end(), urgency.to_lowercase())?;
    if let Some(remark) = remark(call) {
        writeln!(f, "    {remark}")?;
    }
    lines(call, observed).iter().try_for_each(|line| writeln!(f, "    {line}"))
}

fn lines_of_new(new: &NewContact) -> Vec<Line> {
    let NewContact { name, title, email, phone, message_types } = new;
    let phone = phone.as_ref().map(|phone| Line::of("phoneNumber", phone));
    [
        Line::of("name", name.as_str()),
        Line::of("title", title.as_str()),
        Line::of("emailAddress", email),
    ]
    .into_iter()
    .chain(phone)
    .chain([Line::of("messageTypes", types(message_types))])
    .collect()
}

/// One line a changed field: as it is, and as it will be.
fn lines_of_changes(changes: &Changes, observed: Option<&ObservedContact>) -> Vec<Line> {
    let Changes { name, title, email, phone, message_types } = changes;
    let mut lines = Vec::new();
    let mut change = |field, before: fn(&ObservedContact) -> String, after: String| {
        let before = Some(observed.map(before).unwrap_or_default());
        lines.push(Line { field, before, after });
    };
    if let Some(name) = name {
        change("name", |it| it.name.as_str().to_owned(), name.as_str().to_owned());
    }
    if let Some(title) = title {
        change("title", |it| it.title.clone(), title.as_str().to_owned());
    }
    if let Some(email) = email {
        change("emailAddress", |it| masked(it.email.as_ref()), email.to_string());
    }
    if let Some(phone) = phone {
        let after = match phone {
            PhoneChange::Set(number) => number.to_string(),
            PhoneChange::Clear => String::new(),
        };
        change("phoneNumber", |it| masked(it.phone.as_ref()), after);
    }
    if let Some(wanted) = message_types {
        change("messageTypes", |it| list(&it.message_types), types(wanted));
    }
    lines
}

/// What the status is to remember from now on, as far as that is new.
fn write_record(f: &mut fmt::Formatter<'_>, before: &Recorded, after: &Recorded) -> fmt::Result {
    let Recorded {
        directory_id,
        contact_id,
        creation,
        last_write,
        last_error,
        verification: Verification { email, phone },
        reverts,
    } = after;
    let mut remembers = |what: &str, text: &str| writeln!(f, "  records  {what}: {text}");
    if *directory_id != before.directory_id {
        remembers("directoryId", directory_id.as_ref().map_or(NOTHING, |id| id.as_str()))?;
    }
    if *contact_id != before.contact_id {
        remembers("contactId", contact_id.as_ref().map_or(NOTHING, ContactId::as_str))?;
    }
    if *creation != before.creation {
        let text = creation.as_ref().map(|it| format!("{}, at {}", it.name.as_str(), it.at));
        remembers("creation", text.as_deref().unwrap_or(NOTHING))?;
    }
    if *last_write != before.last_write {
        let text = last_write.as_ref().map(|it| match it.mismatches {
            0 => "reads as the spec says".to_owned(),
            1 => "made, to be read back".to_owned(),
            times => format!("made {times} times, to be read back"),
        });
        remembers("lastWrite", text.as_deref().unwrap_or(NOTHING))?;
    }
    if *last_error != before.last_error {
        let text = last_error.as_ref().map(|it| format!("{} of {}", it.code, it.action));
        remembers("lastError", text.as_deref().unwrap_or(NOTHING))?;
    }
    for (channel, before, after) in [
        ("verification.email", &before.verification.email, email),
        ("verification.phone", &before.verification.phone, phone),
    ] {
        if before != after {
            remembers(channel, &after.as_ref().map_or(NOTHING.to_owned(), channel_text))?;
        }
    }
    if *reverts != before.reverts {
        for revert in reverts {
            let times = revert.times.iter().map(ToString::to_string).collect::<Vec<_>>();
            let field = revert.difference.field.as_str();
            let text = format!("{field}, since {}, at {}", revert.since, times.join(", "));
            remembers("reverts", &text)?;
        }
        if reverts.is_empty() {
            remembers("reverts", NOTHING)?;
        }
    }
    Ok(())
}

fn channel_text(record: &ChannelRecord) -> String {
    let ChannelRecord { target, state, sends, last_sent, evidence, verified_target } = record;
    let mut text = state.as_str().to_owned();
    let _ = match (sends, last_sent) {
        (0, None) => Ok(()),
        (0, Some(at)) => write!(text, ", counts as sent at {at}"),
        (sends, None) => write!(text, ", {sends} sent"),
        (sends, Some(at)) => write!(text, ", {sends} sent, the last at {at}"),
    };
    if let Some(evidence) = evidence {
        let _ = write!(text, ", evidence {}", evidence.as_str());
    }
    if verified_target.as_ref().is_some_and(|verified| verified != target) {
        text.push_str(", another value was confirmed before");
    }
    text
}

fn write_verdict(f: &mut fmt::Formatter<'_>, verdict: &Verdict) -> fmt::Result {
    if verdict.synced.reason == Reason::Suspended {
        let Finding { status, reason, message } = &verdict.synced;
        writeln!(f, "  Synced={} {reason}: {message}", status.as_str())?;
        return writeln!(f, "  all else that was said stays as it is");
    }
    for (condition, Finding { status, reason, message }) in verdict.findings() {
        writeln!(f, "  {condition}={} {reason}: {message}", status.as_str())?;
    }
    let ready = verdict.ready();
    let stalled = if ready.reason.stalls() { ", stalled" } else { "" };
    writeln!(f, "  Ready={} {}{stalled}", ready.status.as_str(), ready.reason)
}

fn write_outlook(f: &mut fmt::Formatter<'_>, outlook: &Outlook) -> fmt::Result {
    let Outlook { email, phone } = outlook;
    for (channel, outlook) in [("emailAddress", email), ("phoneNumber", phone)] {
        let ChannelOutlook { next_send, waiting } = outlook;
        if let Some(waiting) = waiting {
            writeln!(f, "  {channel} {waiting} waits for its owner")?;
        }
        if let Some(at) = next_send {
            writeln!(f, "  {channel} gets its next message at {at}")?;
        }
    }
    Ok(())
}

fn masked(value: Option<&impl Display>) -> String {
    value.map(ToString::to_string).unwrap_or_default()
}

fn types(types: &BTreeSet<MessageType>) -> String {
    types.iter().map(|it| it.as_str()).collect::<Vec<_>>().join(", ")
}

fn list(words: &BTreeSet<String>) -> String {
    words.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
}

fn or_nothing(text: &str) -> &str {
    if text.is_empty() { NOTHING } else { text }
}
