//! How many verification messages were sent in a directory, and whether one more may be.
//!
//! The ledger belongs to the directory, not to its contacts: deleting and creating a contact again,
//! a restart or an annotation gets nobody round it. It is written before each message.

use jiff::civil::Date;
use jiff::tz::{Offset, TimeZone};
use jiff::{SignedDuration, Timestamp};

use super::verification::whole_second;

/// The verification messages of a directory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ledger {
    /// The day that [`Self::count`] is about, in the zone of the quota.
    pub day: Option<Date>,
    /// How many messages were sent on that day.
    pub count: u32,
    /// Until when the API was found to send no more.
    pub exhausted_until: Option<Timestamp>,
    /// Who was written to in the last days, oldest first.
    pub recent: Vec<TargetSends>,
}

/// The messages to one target for one contact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetSends {
    /// A keyed hash of the address or number.
    pub target: String,
    /// A keyed hash of the contact's name: two contacts may have one mailbox, and each needs a
    /// confirmation of its own.
    pub contact: String,
    /// How many were sent on the day of the last one.
    pub count: u32,
    /// When the last one was sent.
    pub last: Timestamp,
}

/// Why no message may be sent now, and until when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// Whose limit it is.
    pub limit: Limit,
    /// When one may be sent again at the earliest.
    pub until: Timestamp,
}

/// A limit of verification messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// The API said that the day's messages of the account are used up.
    Account,
    /// [`Ledger::DAY_MAX`] were sent in the directory.
    Directory,
    /// [`Ledger::TARGET_DAY_MAX`] were sent to one address or number.
    Target,
}

impl Ledger {
    /// Most messages of a directory in a day. The API allows an account 100; the rest is left to
    /// people in the console. Source: Resource Management documentation, "Limits".
    ///
    /// Unverified (A7): that text messages have the same limits as mails.
    pub const DAY_MAX: u32 = 90;

    /// Most messages to one address or number in a day.
    pub const TARGET_DAY_MAX: u32 = 5;

    /// How long a message is remembered. Longer than a day, so that whoever deletes a contact and
    /// creates it again does not get a second message in the slot of the first.
    const KEPT_FOR: SignedDuration = SignedDuration::from_hours(48);

    /// Most targets that are remembered: those of [`Self::KEPT_FOR`] at [`Self::DAY_MAX`] a day.
    pub const RECENT_MAX: usize = 200;

    /// Pause before the next try when a new day has brought no new quota.
    const PROBE_PAUSE: SignedDuration = SignedDuration::from_hours(1);

    /// When a message was last sent to that target for that contact, if it is remembered.
    #[must_use]
    pub fn last_sent(&self, target: &str, contact: &str) -> Option<Timestamp> {
        let of_both = |sends: &&TargetSends| sends.target == target && sends.contact == contact;
        self.recent.iter().find(of_both).map(|sends| sends.last)
    }

    /// Whether one more message may be sent to that target.
    ///
    /// # Errors
    /// A limit is reached.
    pub fn may_send(&self, target: &str, now: Timestamp) -> Result<(), Refusal> {
        if let Some(until) = self.exhausted_until.filter(|until| *until > now) {
            return Err(Refusal { limit: Limit::Account, until });
        }
        let today = day_of(now);
        let until = next_day(now);
        if self.day == Some(today) && self.count >= Self::DAY_MAX {
            return Err(Refusal { limit: Limit::Directory, until });
        }
        let of_today = |sends: &&TargetSends| sends.target == target && day_of(sends.last) == today;
        let sent: u32 = self.recent.iter().filter(of_today).map(|sends| sends.count).sum();
        if sent >= Self::TARGET_DAY_MAX {
            return Err(Refusal { limit: Limit::Target, until });
        }
        Ok(())
    }

    /// The ledger with one more message to that target for that contact.
    #[must_use]
    pub fn with_send(&self, target: &str, contact: &str, now: Timestamp) -> Self {
        let today = day_of(now);
        let mut next = self.clone();
        next.count = if next.day == Some(today) { next.count.saturating_add(1) } else { 1 };
        next.day = Some(today);
        let known =
            next.recent.iter().position(|sends| sends.target == target && sends.contact == contact);
        let before = known.map(|index| next.recent.remove(index));
        let same_day = before.filter(|sends| day_of(sends.last) == today);
        let count = same_day.map_or(1, |sends| sends.count.saturating_add(1));
        let (target, contact) = (target.to_owned(), contact.to_owned());
        next.recent.push(TargetSends { target, contact, count, last: whole_second(now) });
        next.recent.retain(|sends| now.duration_since(sends.last) < Self::KEPT_FOR);
        let too_many = next.recent.len().saturating_sub(Self::RECENT_MAX);
        next.recent.drain(..too_many);
        next
    }

    /// The ledger after the API said that the day's messages are used up: none is sent before the
    /// next day. If the new day has brought nothing either, it is tried once an hour.
    ///
    /// Unverified (A9): when the quota comes back; no page says it.
    #[must_use]
    pub fn exhausted(&self, now: Timestamp) -> Self {
        let day = SignedDuration::from_hours(24);
        let probed = self
            .exhausted_until
            .is_some_and(|until| until <= now && now.duration_since(until) < day);
        let sent_today = self.day == Some(day_of(now)) && self.count > 0;
        let until = if probed && !sent_today {
            now.saturating_add(Self::PROBE_PAUSE).unwrap_or(Timestamp::MAX)
        } else {
            next_day(now)
        };
        Self { exhausted_until: Some(whole_second(until)), ..self.clone() }
    }

    /// The ledger after a message to that target that the API did not send.
    #[must_use]
    pub fn taken_back(&self, target: &str, contact: &str) -> Self {
        let mut next = self.clone();
        next.count = next.count.saturating_sub(1);
        next.recent.retain_mut(|sends| {
            if (sends.target.as_str(), sends.contact.as_str()) != (target, contact) {
                return true;
            }
            sends.count = sends.count.saturating_sub(1);
            sends.count > 0
        });
        next
    }
}

/// The zone in which the day of the quota begins at midnight.
///
/// It is not printed (A9).
const ZONE: TimeZone = TimeZone::fixed(Offset::constant(8));

fn day_of(at: Timestamp) -> Date {
    at.to_zoned(ZONE).date()
}

fn next_day(now: Timestamp) -> Timestamp {
    let tomorrow = day_of(now).tomorrow().and_then(|date| date.to_zoned(ZONE));
    tomorrow.map_or(Timestamp::MAX, |midnight| midnight.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    /// Ten in the morning where the quota is counted.
    fn morning() -> Timestamp {
        at("2026-01-15T02:00:00.5Z")
    }

    fn midnight() -> Timestamp {
        at("2026-01-15T16:00:00Z")
    }

    fn refused(ledger: &Ledger, target: &str, now: Timestamp) -> Option<(Limit, Timestamp)> {
        ledger.may_send(target, now).err().map(|refusal| (refusal.limit, refusal.until))
    }

    fn later(now: Timestamp, hours: i64) -> Timestamp {
        now + SignedDuration::from_hours(hours)
    }

    #[test]
    fn one_target_gets_five_a_day() {
        let mut ledger = Ledger::default();
        for _ in 0..Ledger::TARGET_DAY_MAX {
            assert_eq!(refused(&ledger, "a", morning()), None);
            ledger = ledger.with_send("a", "one", morning());
        }
        assert_eq!(refused(&ledger, "a", morning()), Some((Limit::Target, midnight())));
        assert_eq!(refused(&ledger, "b", morning()), None);
        assert_eq!(refused(&ledger, "a", midnight()), None);
        let next = ledger.with_send("a", "one", midnight());
        assert_eq!((next.count, next.recent[0].count), (1, 1));
    }

    #[test]
    fn each_contact_of_a_mailbox_has_its_own_slot_and_all_share_the_limit() {
        let ledger = Ledger::default().with_send("a", "one", morning());
        assert_eq!(ledger.last_sent("a", "two"), None);
        let names = ["two", "three", "four", "five"];
        let full = names.iter().fold(ledger, |ledger, name| ledger.with_send("a", name, morning()));
        assert_eq!(refused(&full, "a", morning()), Some((Limit::Target, midnight())));
    }

    #[test]
    fn a_directory_sends_less_than_the_account_may() {
        let mut ledger = Ledger::default();
        for number in 0..Ledger::DAY_MAX {
            assert_eq!(refused(&ledger, "new", morning()), None);
            ledger = ledger.with_send(&number.to_string(), "one", morning());
        }
        assert_eq!(refused(&ledger, "new", morning()), Some((Limit::Directory, midnight())));
        assert_eq!(refused(&ledger, "new", midnight()), None);
    }

    #[test]
    fn what_the_api_refused_waits_for_the_next_day_and_then_is_tried_each_hour() {
        let ledger = Ledger::default().exhausted(morning());
        assert_eq!(refused(&ledger, "b", morning()), Some((Limit::Account, midnight())));
        assert_eq!(refused(&ledger, "b", midnight()), None);
        let probed = ledger.exhausted(midnight());
        assert_eq!(refused(&probed, "b", midnight()), Some((Limit::Account, later(midnight(), 1))));
        // A day on which something was sent is used up as a whole.
        let noon = later(midnight(), 12);
        let used = probed.with_send("b", "one", noon).exhausted(noon);
        assert_eq!(refused(&used, "b", noon), Some((Limit::Account, later(midnight(), 24))));
    }

    #[test]
    fn a_message_is_remembered_for_two_days() {
        let ledger = Ledger::default().with_send("a", "one", morning());
        assert_eq!(ledger.last_sent("a", "one"), Some(whole_second(morning())));
        let next = ledger.with_send("b", "one", later(morning(), 47));
        assert!(next.last_sent("a", "one").is_some());
        let next = ledger.with_send("b", "one", later(morning(), 49));
        assert_eq!((next.last_sent("a", "one"), next.recent.len()), (None, 1));
    }

    #[test]
    fn a_message_that_was_not_sent_does_not_count() {
        let ledger = Ledger::default().with_send("a", "one", morning());
        let back = ledger.with_send("b", "one", morning()).taken_back("b", "one");
        assert_eq!(back, ledger);
        let twice = ledger.with_send("a", "one", morning()).taken_back("a", "one");
        assert_eq!((twice.count, twice.recent[0].count), (1, 1));
    }
}
