//! The memory of what was put right: a field that somebody keeps changing back is not fought over.
//!
//! ```text
//!   differs, as nobody wants it in the spec -> written, and the time is noted
//!   differs, and was written 5 times within the hour -> left alone until the oldest is an hour old
//!   not written for an hour -> forgotten
//! ```
//! The memory stands in `status.drift`, so a restart does not begin to count anew. Fields and
//! bindings use it alike.

use jiff::{SignedDuration, Timestamp};

use super::Plan;
use crate::domain::contact::{Difference, Field, Recorded, Revert};
use crate::domain::verdict::{Finding, Reason};
use crate::domain::verification::whole_second;

/// How often a field is put right within [`REMEMBERED_FOR`]; so many times are kept.
pub(super) const REVERTS_MAX: usize = 5;

/// How long it is remembered that a field was put right.
const REMEMBERED_FOR: SignedDuration = SignedDuration::from_hours(1);

/// Whether a field was put right so often that it is left alone for now.
pub(super) fn is_contested(reverts: &[Revert], field: Field, now: Timestamp) -> bool {
    let known = reverts.iter().find(|revert| revert.difference.field == field);
    known.and_then(contested_until).is_some_and(|until| now < until)
}

/// The memory once these differences are put right.
pub(super) fn noted(
    mut reverts: Vec<Revert>,
    differences: impl IntoIterator<Item = Difference>,
    now: Timestamp,
) -> Vec<Revert> {
    let now = whole_second(now);
    for difference in differences {
        let known = reverts.iter_mut().find(|known| known.difference.field == difference.field);
        match known {
            Some(known) => {
                known.difference = difference;
                known.times.push(now);
                let surplus = known.times.len().saturating_sub(REVERTS_MAX);
                known.times.drain(..surplus);
            }
            None => reverts.push(Revert { difference, since: now, times: vec![now] }),
        }
    }
    reverts
}

/// What is said of fields that are left alone.
pub(super) fn contested(fields: impl IntoIterator<Item = Field>) -> Finding {
    let fields: Vec<_> = fields.into_iter().map(|field| format!("`{}`", field.as_str())).collect();
    Finding::unmet(
        Reason::DriftContested,
        format!(
            "somebody keeps changing {} back: put right {REVERTS_MAX} times within an hour, see \
             `status.drift`; it is tried again when the first of them is an hour ago, or when the \
             object is annotated with message-contacts.dev/requestedAt",
            fields.join(", ")
        ),
    )
}

/// One more try of what is left alone: a person has asked for it.
pub(super) fn once_more(reverts: &mut [Revert]) {
    for revert in reverts.iter_mut().filter(|revert| revert.times.len() >= REVERTS_MAX) {
        revert.times.remove(0);
    }
}

/// Forgets what is over, and looks again when the next of it is.
pub(super) fn aged(mut plan: Plan, now: Timestamp) -> Plan {
    let forgotten_at = |revert: &Revert| revert.times.last().map(|last| later(*last));
    let Recorded { reverts, .. } = &mut plan.record;
    reverts.retain(|revert| forgotten_at(revert).is_some_and(|at| now < at));
    let ends = reverts.iter().flat_map(|revert| [contested_until(revert), forgotten_at(revert)]);
    let next = ends.flatten().filter(|at| now < *at).min();
    plan.recheck_at = plan.recheck_at.into_iter().chain(next).min();
    plan
}

fn contested_until(revert: &Revert) -> Option<Timestamp> {
    let oldest = revert.times.len().checked_sub(REVERTS_MAX)?;
    revert.times.get(oldest).map(|at| later(*at))
}

fn later(at: Timestamp) -> Timestamp {
    at.saturating_add(REMEMBERED_FOR).unwrap_or(Timestamp::MAX)
}
