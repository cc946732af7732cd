//! The confirmation of a contact's channels, from the first message to the owner's click.
//!
//! ```text
//!             a new value is about to be written, or one more message is asked for
//!    (any) ----------------------------------------------------------------------+
//!                                                                                v
//!              a limit is reached         limit over                         +---------+
//!    QuotaExhausted <----------------------------------- (a message is owed) | Pending |
//!                                                                            +---------+
//!                                                                                | written down, sent
//!        resendAfter is over, maxSends not reached: sent again                   v
//!              +----------------------------------------------------------> +---------+
//!              +------------------------------------------------------------|  Sent   |
//!                                                                           +---------+
//!    Exhausted <---- resendAfter is over after the last of maxSends ----------- |
//!                                                                               |
//!    Verified  <---- the value is shown, waits no longer, and there is evidence + (from any state)
//! ```
//! A value counts as verified only with evidence that is newer than our last write of it: see
//! [`Evidence`]. A contact that was there before its object counts as sent at adoption.

use jiff::{SignedDuration, Timestamp};

use super::hash::HashKey;
use super::{Connection, Desired, Input, Plan, Send, Step, Urgency, View, setback};
use crate::domain::call::{Action, Call, CallError, Changes, FailureClass, PhoneChange, Target};
use crate::domain::contact::{ContactStatus, DesiredContact, Mode, ObservedContact, Recorded};
use crate::domain::ledger::{Ledger, Limit};
use crate::domain::snapshot::{Entry, Pending, Sight};
use crate::domain::verdict::{Finding, Reason};
use crate::domain::verification::{
    ChannelOutlook, ChannelRecord, ChannelState, Evidence, Outlook, Verification,
    VerificationPolicy, whole_second,
};

/// How long after a message the list of waiting values may still lack a value that waits: its
/// absence is no confirmation before.
///
/// Unverified (A30): whether a value is listed before its first message. The list may be late, too
/// (A23).
const LOOK_SETTLES_AFTER: SignedDuration = SignedDuration::from_secs(60);

/// A message that this process has written down in the status and not sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsent {
    /// The message.
    pub send: Send,
    /// It stands in the ledger of the directory, too.
    pub counted: bool,
}

impl Unsent {
    /// Whether the message is the last one that is recorded of a channel.
    #[must_use]
    pub fn is_recorded(&self, record: &Verification) -> bool {
        let Verification { email, phone } = record;
        [email, phone].into_iter().flatten().any(|record| is_unsent(self, record))
    }
}

/// One channel that the spec asks for.
struct Channel<'a> {
    value: Target,
    hash: String,
    record: Option<&'a ChannelRecord>,
    /// Whether the cloud shows the value.
    shown: bool,
}

impl Channel<'_> {
    /// What people call it.
    fn what(&self) -> &'static str {
        match self.value {
            Target::Email(_) => "mailbox",
            Target::Phone(_) => "phone",
        }
    }

    fn is_verified(&self) -> bool {
        self.current().is_some_and(|record| record.state == ChannelState::Verified)
    }

    /// What is recorded of this very value.
    fn current(&self) -> Option<&ChannelRecord> {
        self.record.filter(|record| record.target == self.hash)
    }

    /// The operation that asks its owner.
    fn action(&self) -> Action {
        match self.value {
            Target::Email(_) => Action::SendEmailVerificationForMessageContact,
            Target::Phone(_) => Action::SendPhoneVerificationForMessageContact,
        }
    }

    fn send(&self, entry: &Entry) -> Call {
        let id = entry.contact.id.clone();
        match &self.value {
            Target::Email(email) => Call::SendEmailVerificationForMessageContact(id, email.clone()),
            Target::Phone(phone) => Call::SendPhoneVerificationForMessageContact(id, phone.clone()),
        }
    }

    fn set(&self, verification: &mut Verification, record: ChannelRecord) {
        match self.value {
            Target::Email(_) => verification.email = Some(record),
            Target::Phone(_) => verification.phone = Some(record),
        }
    }
}

/// The channels of the spec, mailbox first, with what is recorded and shown of them.
fn channels<'a>(
    hash_key: &HashKey,
    wanted: &DesiredContact,
    record: &'a Verification,
    contact: Option<&ObservedContact>,
) -> Vec<Channel<'a>> {
    let email = Target::Email(wanted.email.clone());
    let phone = wanted.phone.clone().map(Target::Phone);
    let shows = |value: &Target| contact.is_some_and(|contact| is_shown(contact, value));
    let channel = |value: Target| Channel {
        hash: hash_key.of_target(&value),
        shown: shows(&value),
        record: record_of(record, &value),
        value,
    };
    std::iter::once(email).chain(phone).map(channel).collect()
}

fn is_shown(contact: &ObservedContact, value: &Target) -> bool {
    match value {
        Target::Email(email) => {
            contact.email.as_ref().is_some_and(|shown| shown.same_mailbox(email))
        }
        Target::Phone(phone) => contact.phone.as_ref() == Some(phone),
    }
}

/// Whether two values are the same value of one channel.
pub(super) fn is_same(one: &Target, other: &Target) -> bool {
    match (one, other) {
        (Target::Email(one), Target::Email(other)) => one.same_mailbox(other),
        (Target::Phone(one), Target::Phone(other)) => one == other,
        (Target::Email(_), Target::Phone(_)) | (Target::Phone(_), Target::Email(_)) => false,
    }
}

/// What is recorded before values are written that their owners have to confirm: a message is owed
/// for each. MUST be stored before the write, or a crash would lose that it is owed, and an old
/// confirmation of the same value would pass for a new one.
pub(super) fn owed(
    hash_key: &HashKey,
    record: &Verification,
    email: Option<&Target>,
    phone: Option<&Target>,
) -> Verification {
    let channel = |before: &Option<ChannelRecord>, value: Option<&Target>| {
        let Some(value) = value else { return before.clone() };
        let target = hash_key.of_target(value);
        let verified_target = before
            .as_ref()
            .and_then(|before| before.verified_target.clone())
            .filter(|verified| *verified != target);
        Some(ChannelRecord {
            target,
            state: ChannelState::Pending,
            sends: 0,
            last_sent: None,
            evidence: None,
            verified_target,
        })
    };
    Verification { email: channel(&record.email, email), phone: channel(&record.phone, phone) }
}

/// What is recorded of the channel of a value, which may be about another one.
fn record_of<'a>(record: &'a Verification, value: &Target) -> Option<&'a ChannelRecord> {
    match value {
        Target::Email(_) => record.email.as_ref(),
        Target::Phone(_) => record.phone.as_ref(),
    }
}

/// Whether that value is known to have been confirmed, and was not written since.
pub(super) fn was_verified(input: &Input<'_>, value: &Target) -> bool {
    let record = record_of(&input.recorded.verification, value);
    let hash = input.hash_key.of_target(value);
    record.is_some_and(|record| record.verified_target.as_ref() == Some(&hash))
}

/// Whether a message is owed for a value, or was sent so short ago that no look since then could
/// tell that it waits: it need not be listed before its first message (A30), nor at once (A23).
pub(super) fn is_on_its_way(input: &Input<'_>, value: &Target, pending: &Pending) -> bool {
    let record = record_of(&input.recorded.verification, value);
    let hash = input.hash_key.of_target(value);
    let waits =
        |record: &&ChannelRecord| record.target == hash && record.state != ChannelState::Verified;
    let unsettled = |record: &ChannelRecord| settles_at(record).is_none_or(|at| pending.at < at);
    record.filter(waits).is_some_and(|record| match record.evidence {
        // No message was sent since it was written, whatever was sent for it before. One that cannot
        // be sent is not waited for.
        Some(Evidence::WriteAnswered) => {
            let refused = input.unsent.iter().any(|unsent| is_unsent(unsent, record));
            !refused || unsettled(record)
        }
        Some(Evidence::SendAnswered) => unsettled(record),
        Some(Evidence::SeenPending | Evidence::NothingPending | Evidence::Active) | None => false,
    })
}

/// Whether a value that was seen waiting waits no longer, and the contact was last read before that:
/// it may have been confirmed and be shown by now.
pub(super) fn is_outdated(input: &Input<'_>, entry: &Entry) -> bool {
    let Some(pending) = &entry.pending else { return false };
    let Verification { email, phone } = &input.recorded.verification;
    let waits =
        |hash: &str| pending.targets.iter().any(|target| input.hash_key.of_target(target) == hash);
    let vanished = |record: &&ChannelRecord| {
        let seen = record.evidence.is_some_and(|it| it != Evidence::WriteAnswered);
        record.state != ChannelState::Verified && seen && !waits(&record.target)
    };
    let read_since = entry.read_at.is_some_and(|at| at >= pending.at);
    !read_since && [email, phone].into_iter().flatten().any(|record| vanished(&record))
}

/// Takes in what the directory shows now: evidence, confirmations, and whose time is over. The rest
/// of the plan is made from this record, whatever else is done.
pub(super) fn seen(input: &Input<'_>, now: Timestamp) -> Option<Recorded> {
    let (Desired::Present(wanted), Connection::Open(view)) = (&input.desired, &input.connection)
    else {
        return None;
    };
    let Some(Sight::Known(entry)) = &view.own else { return None };
    if entry.unread || input.recorded.creation.is_some() || super::elsewhere(input.recorded, view) {
        return None;
    }
    let before = &input.recorded.verification;
    let mut verification = before.clone();
    if wanted.phone.is_none() {
        verification.phone = None;
    }
    for channel in channels(input.hash_key, wanted, before, Some(&entry.contact)) {
        let look = entry.pending.as_ref().map(|pending| waits_in(pending, &channel.value));
        let Some(mut record) = taken_in(&channel, look, entry.pending.as_ref(), now) else {
            continue;
        };
        let unsent = input.unsent.iter().any(|unsent| is_unsent(unsent, &record));
        let contact = input.hash_key.of_name(&entry.contact.name);
        schedule(&mut record, wanted, view, &contact, unsent, now);
        channel.set(&mut verification, record);
    }
    (verification != *before).then(|| Recorded { verification, ..input.recorded.clone() })
}

fn waits_in(pending: &Pending, value: &Target) -> bool {
    pending.targets.iter().any(|target| is_same(target, value))
}

/// Whether another value of the channel waits in place of this one: that this one waits no longer
/// does not show that its owner has confirmed it.
fn is_replaced(pending: &Pending, value: &Target) -> bool {
    let of_channel = |other: &&Target| {
        matches!(
            (value, other),
            (Target::Email(_), Target::Email(_)) | (Target::Phone(_), Target::Phone(_))
        )
    };
    let mut others = pending.targets.iter().filter(of_channel);
    !waits_in(pending, value) && others.any(|other| !is_same(other, value))
}

/// What is recorded of a channel after a look. `look` tells whether the value waits, if that is
/// known. `None`: the value is not in the cloud, or nothing can be said yet.
fn taken_in(
    channel: &Channel<'_>,
    look: Option<bool>,
    pending: Option<&Pending>,
    now: Timestamp,
) -> Option<ChannelRecord> {
    let Some(record) = channel.current() else {
        let verified_target = channel.record.and_then(|record| record.verified_target.clone());
        let went_back = verified_target.as_ref() == Some(&channel.hash);
        let tells = pending.is_some_and(|look| tells_of_other(channel, look));
        if went_back && !tells {
            // What was written in between may still wait.
            return None;
        }
        let is_there = channel.shown || look == Some(true);
        let confirmed = went_back && look == Some(false);
        let verified_target = verified_target.filter(|_| !went_back || confirmed);
        return is_there.then(|| ChannelRecord {
            target: channel.hash.clone(),
            state: if confirmed { ChannelState::Verified } else { ChannelState::Sent },
            sends: 0,
            // Nobody knows who wrote the value, or the key of the hashes was lost: to be sure that
            // no message is too many, it counts as just sent.
            last_sent: (!confirmed).then(|| whole_second(now)),
            evidence: (look == Some(true)).then_some(Evidence::SeenPending),
            verified_target,
        });
    };
    let mut next = record.clone();
    if look == Some(true) {
        next.evidence = Some(Evidence::SeenPending);
        if next.state == ChannelState::Verified {
            // Somebody has written it anew.
            next.state = ChannelState::Sent;
            next.verified_target = None;
        }
    } else if let Some(look) = pending.filter(|look| is_replaced(look, &channel.value)) {
        let shows = next.state != ChannelState::Verified && would_show(&next, look.at);
        next.evidence = next.evidence.filter(|_| !shows);
    } else if channel.shown && is_proven(&next, look, pending.map(|pending| pending.at)) {
        next.state = ChannelState::Verified;
        next.verified_target = Some(next.target.clone());
    }
    Some(next)
}

/// Whether a look would show the value that was written before this one, if it waited: it need not be
/// listed before its first message (A30), nor at once (A23).
fn tells_of_other(channel: &Channel<'_>, look: &Pending) -> bool {
    channel.record.is_none_or(|other| {
        other.evidence == Some(Evidence::SeenPending)
            || settles_at(other).is_none_or(|at| look.at >= at)
    })
}

/// When a look can tell of a value that was written before and is to be taken back, while the wanted
/// one is known to be in force; `None`: nothing is taken back, or this look tells.
pub(super) fn other_shows_at(
    input: &Input<'_>,
    wanted: &DesiredContact,
    changes: &Changes,
    look: &Pending,
) -> Option<Timestamp> {
    let record = &input.recorded.verification;
    let channels = channels(input.hash_key, wanted, record, None);
    let hidden = channels.iter().filter(|channel| {
        let differs = match channel.value {
            Target::Email(_) => changes.email.is_some(),
            Target::Phone(_) => changes.phone.is_some(),
        };
        let taken_back = channel.current().is_none() && was_verified(input, &channel.value);
        differs && taken_back && !tells_of_other(channel, look)
    });
    hidden.filter_map(|channel| settles_at(channel.record?)).max()
}

/// Whether it is shown that the owner has confirmed.
fn is_proven(record: &ChannelRecord, look: Option<bool>, at: Option<Timestamp>) -> bool {
    match record.evidence {
        Some(Evidence::NothingPending | Evidence::Active) => true,
        Some(Evidence::SeenPending | Evidence::SendAnswered | Evidence::WriteAnswered) | None => {
            look == Some(false) && at.is_some_and(|at| would_show(record, at))
        }
    }
}

/// Whether a look at that time would have shown the value, if it still waited.
fn would_show(record: &ChannelRecord, at: Timestamp) -> bool {
    match record.evidence {
        Some(Evidence::SeenPending) => true,
        Some(Evidence::SendAnswered) => settles_at(record).is_some_and(|settles| at >= settles),
        Some(Evidence::WriteAnswered | Evidence::NothingPending | Evidence::Active) | None => false,
    }
}

/// When a look may first count the value's absence as its confirmation.
fn settles_at(record: &ChannelRecord) -> Option<Timestamp> {
    record.last_sent.map(|sent| after(sent, LOOK_SETTLES_AFTER))
}

fn after(at: Timestamp, pause: SignedDuration) -> Timestamp {
    at.saturating_add(pause).unwrap_or(Timestamp::MAX)
}

/// Brings the state of an unconfirmed value up to date: whose time is over, and whether the
/// directory has messages left. `unsent`: the last message that is recorded was not sent yet.
fn schedule(
    record: &mut ChannelRecord,
    wanted: &DesiredContact,
    view: &View<'_>,
    contact: &str,
    unsent: bool,
    now: Timestamp,
) {
    let policy = &wanted.verification;
    if record.state == ChannelState::Verified {
        return;
    }
    let owed = matches!(record.state, ChannelState::Pending | ChannelState::QuotaExhausted);
    if owed && record.last_sent.is_none() {
        // The contact may have been deleted and created again: that gets nobody a second message.
        let sent = view.ledger.last_sent(&record.target, contact);
        if let Some(sent) = sent.filter(|sent| now < after(*sent, policy.resend_after)) {
            *record = ChannelRecord {
                state: ChannelState::Sent,
                sends: record.sends.max(1),
                last_sent: Some(sent),
                ..record.clone()
            };
        }
    }
    if matches!(record.state, ChannelState::Sent | ChannelState::Exhausted) {
        let over = record.last_sent.is_none_or(|sent| now >= after(sent, policy.resend_after));
        record.state = match (record.sends >= policy.max_sends && !unsent, over) {
            (true, true) => ChannelState::Exhausted,
            (false, true) => ChannelState::Pending,
            (_, false) if unsent && view.ledger.has_quota(now).is_err() => {
                ChannelState::QuotaExhausted
            }
            (_, false) => ChannelState::Sent,
        };
    }
    if matches!(record.state, ChannelState::Pending | ChannelState::QuotaExhausted) {
        let refused = policy.send && view.ledger.may_send(&record.target, contact, now).is_err();
        record.state = if refused { ChannelState::QuotaExhausted } else { ChannelState::Pending };
    }
}

/// Beside all else that is done for the contact: a look at what waits, or a message. Whatever keeps
/// the rest from being put right keeps nobody from being asked, and the other way round.
pub(super) fn beside(
    input: &Input<'_>,
    wanted: &DesiredContact,
    view: &View<'_>,
    entry: &Entry,
    plan: Plan,
    now: Timestamp,
) -> Plan {
    if plan.step.is_some() {
        return plan;
    }
    let said = Input { recorded: &plan.record, ..input.clone() };
    let record = &plan.record.verification;
    let channels = channels(input.hash_key, wanted, record, Some(&entry.contact));
    if needs_look(entry, &channels, now) && !is_held(input, LOOK, now) {
        let call = Call::ListMessageContactVerifications { id: entry.contact.id.clone(), page: 1 };
        return Plan { step: Some(Step::Call(call, Urgency::Create)), ..plan };
    }
    let sends =
        wanted.mode == Mode::Enforce && wanted.verification.send && !setback::is_crowded_out(&plan);
    let mut waiting = channels.iter().filter(|channel| sends && !channel.is_verified());
    if let Some((call, send, sent)) =
        waiting.find_map(|channel| message(&said, &wanted.verification, channel, entry, now))
    {
        let step = Some(Step::Call(call, Urgency::Create));
        let record = Recorded { verification: sent, ..plan.record.clone() };
        return Plan { step, send: Some(send), record, ..plan };
    }
    let recheck_at = recheck_at(&said, wanted, view, entry, now);
    Plan { recheck_at: plan.recheck_at.into_iter().chain(recheck_at).min(), ..plan }
}

/// Whether a message that was written down may still be sent as it is: half of its time is left
/// before the next.
fn is_fresh(send: &Send, policy: &VerificationPolicy, now: Timestamp) -> bool {
    now.duration_since(send.at) < policy.resend_after / 2
}

/// The message that is owed for a channel, and what is recorded with it.
fn message(
    input: &Input<'_>,
    policy: &VerificationPolicy,
    channel: &Channel<'_>,
    entry: &Entry,
    now: Timestamp,
) -> Option<(Call, Send, Verification)> {
    let record = channel.current()?;
    let waits = entry.pending.as_ref().is_some_and(|pending| waits_in(pending, &channel.value));
    if !channel.shown && !waits && record.evidence.is_none() {
        // Nothing shows that the value was written.
        return None;
    }
    if is_held(input, channel.action(), now) {
        return None;
    }
    let call = channel.send(entry);
    let mut verification = input.recorded.verification.clone();
    let contact = input.hash_key.of_name(&entry.contact.name);
    let target = record.target.clone();
    let unsent = input.unsent.iter().find(|unsent| is_unsent(unsent, record));
    let more = match (record.state, unsent) {
        (ChannelState::Sent, Some(unsent)) if is_fresh(&unsent.send, policy, now) => {
            return Some((call, unsent.send.clone(), verification));
        }
        // The next message would follow it too soon: it is written down anew, and counts once.
        (ChannelState::Sent | ChannelState::Pending, Some(_)) => 0,
        (ChannelState::Pending, None) => 1,
        (
            ChannelState::Sent
            | ChannelState::Verified
            | ChannelState::Exhausted
            | ChannelState::QuotaExhausted,
            _,
        ) => return None,
    };
    let at = whole_second(now);
    let written_down = ChannelRecord {
        state: ChannelState::Sent,
        sends: record.sends.saturating_add(more),
        last_sent: Some(at),
        ..record.clone()
    };
    channel.set(&mut verification, written_down);
    Some((call, Send { target, contact, at }, verification))
}

const LOOK: Action = Action::ListMessageContactVerifications;

/// Whether the values that wait have to be asked for. A list tells enough while all that is not
/// confirmed of a contact is one value that was seen waiting: it is `Verifying` as long as it is.
fn needs_look(entry: &Entry, channels: &[Channel<'_>], now: Timestamp) -> bool {
    let waiting: Vec<_> = channels.iter().filter(|channel| !channel.is_verified()).collect();
    let Some(first) = waiting.first() else { return false };
    if let Some(pending) = &entry.pending {
        // The value was not seen yet when a look was too early to mean anything.
        return waiting.iter().any(|channel| {
            let early = |record: &ChannelRecord| {
                record.evidence == Some(Evidence::SendAnswered)
                    && settles_at(record).is_some_and(|at| pending.at < at && at <= now)
            };
            let of_other = |other: &ChannelRecord| {
                channel.current().is_none()
                    && !tells_of_other(channel, pending)
                    && settles_at(other).is_some_and(|at| at <= now)
            };
            channel.current().is_some_and(early) || channel.record.is_some_and(of_other)
        });
    }
    let seen = |record: &ChannelRecord| record.evidence == Some(Evidence::SeenPending);
    let given =
        usize::from(entry.contact.email.is_some()) + usize::from(entry.contact.phone.is_some());
    let others_verified = waiting.len() == 1 && given <= channels.len();
    let list_tells = others_verified
        && entry.contact.status == ContactStatus::Verifying
        && first.current().is_some_and(seen);
    !list_tells
}

/// Whether this is the message that is written down and not sent.
fn is_unsent(unsent: &Unsent, record: &ChannelRecord) -> bool {
    record.target == unsent.send.target && record.last_sent == Some(unsent.send.at)
}

/// Whether a call of that operation failed not long ago. What fails here holds back nothing else.
fn is_held(input: &Input<'_>, action: Action, now: Timestamp) -> bool {
    held_until(input, action).is_some_and(|until| now < until)
}

fn held_until(input: &Input<'_>, action: Action) -> Option<Timestamp> {
    let setback = input.setbacks.of(action)?;
    let current = setback.generation == input.generation;
    current.then(|| setback.again_or_slowly())
}

/// When a channel has to be looked at again if nothing happens before.
fn recheck_at(
    input: &Input<'_>,
    wanted: &DesiredContact,
    view: &View<'_>,
    entry: &Entry,
    now: Timestamp,
) -> Option<Timestamp> {
    let record = &input.recorded.verification;
    let channels = channels(input.hash_key, wanted, record, Some(&entry.contact));
    let name = input.hash_key.of_name(&entry.contact.name);
    let sends = wanted.mode == Mode::Enforce && wanted.verification.send;
    let times = channels.iter().filter(|channel| !channel.is_verified()).flat_map(|channel| {
        let record = channel.current();
        let due = record.and_then(|record| next_send(record, wanted, view, &name, now));
        let over = record.and_then(|record| slot_ends(record, &wanted.verification));
        let settles = channel
            .record
            .filter(|record| record.evidence == Some(Evidence::SendAnswered))
            .and_then(settles_at);
        let held = held_until(input, channel.action());
        [due.filter(|_| sends), over.filter(|_| sends), settles, held.filter(|_| sends)]
    });
    let look = held_until(input, LOOK);
    times.chain([look]).flatten().filter(|at| *at > now).min()
}

/// When the time of the last message is over.
fn slot_ends(record: &ChannelRecord, policy: &VerificationPolicy) -> Option<Timestamp> {
    let sent = record.last_sent.filter(|_| record.state == ChannelState::Sent)?;
    Some(after(sent, policy.resend_after))
}

/// When the next message goes, if one will.
fn next_send(
    record: &ChannelRecord,
    wanted: &DesiredContact,
    view: &View<'_>,
    contact: &str,
    now: Timestamp,
) -> Option<Timestamp> {
    let policy = &wanted.verification;
    if wanted.mode == Mode::ReportOnly || !policy.send {
        return None;
    }
    match record.state {
        ChannelState::Verified | ChannelState::Exhausted | ChannelState::Pending => None,
        ChannelState::QuotaExhausted => {
            view.ledger.may_send(&record.target, contact, now).err().map(|refusal| refusal.until)
        }
        ChannelState::Sent if record.sends >= policy.max_sends => None,
        ChannelState::Sent => slot_ends(record, policy),
    }
}

/// What is to be seen of the channels beside what is recorded.
pub(super) fn outlook(input: &Input<'_>, now: Timestamp) -> Outlook {
    let (Desired::Present(wanted), Connection::Open(view)) = (&input.desired, &input.connection)
    else {
        return Outlook::default();
    };
    let entry = match &view.own {
        Some(Sight::Known(entry)) => Some(entry),
        Some(Sight::Unlisted | Sight::Gone { .. }) | None => None,
    };
    let contact = entry.map(|entry| entry.contact.as_ref());
    let name = contact.map(|contact| input.hash_key.of_name(&contact.name)).unwrap_or_default();
    let record = &input.recorded.verification;
    let mut outlook = Outlook::default();
    for channel in channels(input.hash_key, wanted, record, contact) {
        let record = channel.current();
        let waits = record.is_some_and(|record| record.state != ChannelState::Verified);
        let masked = match &channel.value {
            Target::Email(email) => email.to_string(),
            Target::Phone(phone) => phone.to_string(),
        };
        let seen = ChannelOutlook {
            // One that could not be sent is tried again and again: a time would tick with each try.
            next_send: record
                .filter(|record| !input.unsent.iter().any(|unsent| is_unsent(unsent, record)))
                .and_then(|record| next_send(record, wanted, view, &name, now)),
            waiting: (waits && contact.is_some() && !channel.shown).then_some(masked),
        };
        match channel.value {
            Target::Email(_) => outlook.email = seen,
            Target::Phone(_) => outlook.phone = seen,
        }
    }
    outlook
}

/// What is said of the mailbox and, if the spec has one, of the phone.
pub(super) fn findings(input: &Input<'_>, now: Timestamp) -> (Finding, Option<Finding>) {
    let Desired::Present(wanted) = &input.desired else {
        return (not_known(), None);
    };
    if input.recorded.contact_id.is_none() {
        return (not_known(), wanted.phone.as_ref().map(|_| not_known()));
    }
    let record = &input.recorded.verification;
    let mut said = channels(input.hash_key, wanted, record, None)
        .into_iter()
        .map(|channel| finding(input, wanted, &channel, now));
    let email = said.next().unwrap_or_else(not_known);
    (email, said.next())
}

pub(super) fn not_known() -> Finding {
    Finding::unknown(Reason::NotSynced, "known once the contact is in sync")
}

fn finding(
    input: &Input<'_>,
    wanted: &DesiredContact,
    channel: &Channel<'_>,
    now: Timestamp,
) -> Finding {
    let Some(record) = channel.current() else { return not_known() };
    let unsent = not_sent(input, wanted, channel, now);
    if let Some(unsent) = unsent.filter(|_| record.state != ChannelState::Verified) {
        return unsent;
    }
    let (what, max_sends) = (channel.what(), wanted.verification.max_sends);
    let ChannelRecord { state, sends, .. } = record;
    match state {
        ChannelState::Verified => {
            Finding::met(Reason::Verified, format!("the owner has confirmed the {what}"))
        }
        ChannelState::Pending => Finding::unmet(
            Reason::VerificationPending,
            format!("the {what} waits for its owner; a message is about to be sent"),
        ),
        ChannelState::Sent if *sends == 0 => Finding::unmet(
            Reason::VerificationSent,
            format!(
                "the {what} was in the directory before and is not known to be confirmed; the next \
                 message goes at `nextSendTime`"
            ),
        ),
        ChannelState::Sent => {
            let next = if *sends >= max_sends {
                "it was the last"
            } else {
                "the next one goes at `nextSendTime`"
            };
            // One more that a person has asked for.
            let of = if *sends > max_sends { String::new() } else { format!(" of {max_sends}") };
            Finding::unmet(
                Reason::VerificationSent,
                format!(
                    "message {sends}{of} was sent, and the owner of the {what} has not confirmed \
                     yet; {next}"
                ),
            )
        }
        ChannelState::Exhausted => Finding::unmet(
            Reason::VerificationExhausted,
            format!(
                "messages that were sent: {sends}; the owner of the {what} has not confirmed: ask the \
                 owner, then annotate the object with message-contacts.dev/resendRequestedAt for one \
                 more"
            ),
        ),
        ChannelState::QuotaExhausted => Finding::unmet(
            Reason::VerificationQuotaExhausted,
            format!("the {what} waits for its owner, and {}", limit(input, wanted, record, now)),
        ),
    }
}

/// Why the owner of a value that waits is not asked, if something forbids it or has failed.
fn not_sent(
    input: &Input<'_>,
    wanted: &DesiredContact,
    channel: &Channel<'_>,
    now: Timestamp,
) -> Option<Finding> {
    let what = channel.what();
    let forbidden = |why: &str| {
        let message = format!("the {what} waits for its owner, and {why}");
        Some(Finding::unmet(Reason::NotSent, message))
    };
    if wanted.mode == Mode::ReportOnly {
        return forbidden("no message may be sent while nothing may be written");
    }
    if !wanted.verification.send {
        return forbidden(
            "`verification.send: Never` forbids to send a message; send one from the console",
        );
    }
    let action = channel.action();
    let setback = input.setbacks.of(action).filter(|_| is_held(input, action, now))?;
    let CallError { class, code, .. } = &setback.error;
    let code = code.as_ref().map_or(String::new(), |code| format!(" ({})", code.as_str()));
    let help = if *class == FailureClass::Permission {
        format!("; grant resourcemanager:{action} to the identity of the directory")
    } else {
        String::new()
    };
    Some(Finding::unmet(
        Reason::VerificationPending,
        format!(
            "the {what} waits for its owner, and the message could not be sent: {}{code}{help}; it \
             is tried again",
            class.as_str()
        ),
    ))
}

fn limit(
    input: &Input<'_>,
    wanted: &DesiredContact,
    record: &ChannelRecord,
    now: Timestamp,
) -> String {
    let refusal = match &input.connection {
        Connection::Open(view) => {
            // As it is called in the cloud, which may not be what the spec says by now.
            let name = match &view.own {
                Some(Sight::Known(entry)) => &entry.contact.name,
                Some(Sight::Unlisted | Sight::Gone { .. }) | None => &wanted.name,
            };
            view.ledger.may_send(&record.target, &input.hash_key.of_name(name), now).err()
        }
        Connection::Closed(_) => None,
    };
    match refusal.map(|refusal| refusal.limit) {
        Some(Limit::Account) => {
            "the API sends no more messages of the account today; one is sent tomorrow".to_owned()
        }
        Some(Limit::Directory) => format!(
            "{} messages were sent in this directory today; one is sent tomorrow",
            Ledger::DAY_MAX
        ),
        Some(Limit::Target) => format!(
            "{} messages were sent to it today; the next one is sent tomorrow",
            Ledger::TARGET_DAY_MAX
        ),
        Some(Limit::Contact) => format!(
            "{} messages were sent for this contact today; the next one is sent tomorrow",
            Ledger::CONTACT_DAY_MAX
        ),
        None => "no message may be sent today".to_owned(),
    }
}

/// What is recorded once a call has ended: that the cloud has taken values that wait from now on, or
/// that a message was asked for. `planned` holds it as sent.
pub(super) fn after_call(
    planned: Verification,
    call: &Call,
    error: Option<&CallError>,
    now: Timestamp,
) -> Verification {
    let Verification { mut email, mut phone } = planned;
    if let (Call::UpdateMessageContact(_, changes), None) = (call, error) {
        let sets_phone = matches!(changes.phone, Some(PhoneChange::Set(_)));
        let set = [(email.as_mut(), changes.email.is_some()), (phone.as_mut(), sets_phone)];
        for record in set.into_iter().filter_map(|(record, set)| record.filter(|_| set)) {
            record.evidence = record.evidence.or(Some(Evidence::WriteAnswered));
        }
        if let Some(record) = phone.as_mut().filter(|_| changes.phone.is_none()) {
            // An update that leaves the phone out may have taken it away; see [`Changes`].
            record.evidence = record.evidence.filter(|it| *it != Evidence::WriteAnswered);
        }
    }
    let action = call.action();
    let record = if action == Action::SendEmailVerificationForMessageContact {
        email.as_mut()
    } else if action == Action::SendPhoneVerificationForMessageContact {
        phone.as_mut()
    } else {
        None
    };
    if let Some(record) = record {
        match error.map(|error| error.class) {
            None => {
                if record.evidence != Some(Evidence::SeenPending) {
                    // Only a look after it can tell anything.
                    record.evidence = Some(Evidence::SendAnswered);
                    record.last_sent = Some(whole_second(now)).max(record.last_sent);
                }
                was_sent(record, now);
            }
            // It may have been sent: it counts as sent, and is no evidence.
            Some(FailureClass::OutcomeUnknown) => was_sent(record, now),
            Some(FailureClass::NothingPending) => {
                record.evidence = Some(Evidence::NothingPending);
                record.sends = record.sends.saturating_sub(1);
            }
            Some(FailureClass::SendsExhausted) => {
                record.state = ChannelState::QuotaExhausted;
                record.sends = record.sends.saturating_sub(1);
                record.last_sent = record.last_sent.filter(|_| record.sends > 0);
            }
            // It is still to be sent.
            Some(_) => {}
        }
    }
    Verification { email, phone }
}

/// The message went out now, or may have. It can have waited for its turn, in which its time began
/// to run: the next one is not to follow it too soon.
fn was_sent(record: &mut ChannelRecord, now: Timestamp) {
    record.state = ChannelState::Sent;
    let waited = record.last_sent.is_none_or(|at| now.duration_since(at) > LOOK_SETTLES_AFTER);
    if waited {
        record.last_sent = Some(whole_second(now));
    }
}

/// The ledger once the call for a message has failed; `None`: it is still to be sent, and stands in
/// the ledger already.
#[must_use]
pub fn ledger_after(
    ledger: &Ledger,
    send: &Send,
    error: &CallError,
    now: Timestamp,
) -> Option<Ledger> {
    let Send { target, contact, at } = send;
    match error.class {
        FailureClass::NothingPending => Some(ledger.taken_back(target, contact, *at)),
        FailureClass::SendsExhausted => {
            Some(ledger.taken_back(target, contact, *at).exhausted(now))
        }
        // It may have been sent: it counts.
        FailureClass::OutcomeUnknown => Some(ledger.clone()),
        FailureClass::InvalidInput
        | FailureClass::NameTaken
        | FailureClass::UnknownMember
        | FailureClass::ClientBug
        | FailureClass::WrongState
        | FailureClass::Conflict
        | FailureClass::Throttled
        | FailureClass::Quota
        | FailureClass::ContactNotFound
        | FailureClass::NoDirectory
        | FailureClass::NotFound
        | FailureClass::Credentials
        | FailureClass::TokenExpired
        | FailureClass::Clock(_)
        | FailureClass::NoKeys(_)
        | FailureClass::Permission
        | FailureClass::Unavailable => None,
    }
}

/// One more message is asked for, for each channel that is not confirmed.
#[must_use]
pub fn asked_again(record: &Verification) -> Verification {
    let ask = |channel: &Option<ChannelRecord>| {
        channel.clone().map(|record| {
            let confirmed = record.state == ChannelState::Verified;
            let state = if confirmed { record.state } else { ChannelState::Pending };
            ChannelRecord { state, ..record }
        })
    };
    Verification { email: ask(&record.email), phone: ask(&record.phone) }
}
