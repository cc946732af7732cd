//! How many verification messages were sent in a directory, and whether one more may be.
//!
//! The ledger belongs to the directory, not to its contacts: deleting and creating a contact again,
//! a restart or an annotation gets nobody round it. It is written before each message.

use std::cmp::Ordering;

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
    /// Tells the key of the hashes of [`Self::recent`]; `None` while there are none.
    pub key: Option<String>,
    /// When hashes were found that were made with a key that is lost: nobody knows to whom messages
    /// were sent before that.
    pub lost_at: Option<Timestamp>,
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
    /// [`Ledger::CONTACT_DAY_MAX`] were sent for one contact, whatever its values were.
    Contact,
}

impl Ledger {
    /// Most messages of a directory in a day. The API allows an account 100; the rest is left to
    /// people in the console. Source: Resource Management documentation, "Limits".
    ///
    /// Unverified (A7): that text messages have the same limits as mails.
    pub const DAY_MAX: u32 = 90;

    /// Most messages to one address or number in a day.
    pub const TARGET_DAY_MAX: u32 = 5;

    /// Most messages for one contact in a day, to all its values together: who changes an address
    /// again and again does not use up the messages of the others.
    pub const CONTACT_DAY_MAX: u32 = 10;

    /// How long a message is remembered. Longer than a day, so that whoever deletes a contact and
    /// creates it again does not get a second message in the slot of the first.
    pub const KEPT_FOR: SignedDuration = SignedDuration::from_hours(48);

    /// Most targets that are remembered: those of [`Self::KEPT_FOR`] at [`Self::DAY_MAX`] a day.
    pub const RECENT_MAX: usize = 200;

    /// Pause before the next try when a new day has brought no new quota.
    const PROBE_PAUSE: SignedDuration = SignedDuration::from_hours(1);

    /// When a message was last sent to that target for that contact, if it is remembered. Once the
    /// key of the hashes was lost, everybody counts as asked at that moment.
    #[must_use]
    pub fn last_sent(&self, target: &str, contact: &str) -> Option<Timestamp> {
        let of_both = |sends: &&TargetSends| sends.target == target && sends.contact == contact;
        self.recent.iter().find(of_both).map(|sends| sends.last).or(self.lost_at)
    }

    /// Whether one more message may be sent to that target for that contact.
    ///
    /// # Errors
    /// A limit is reached.
    pub fn may_send(&self, target: &str, contact: &str, now: Timestamp) -> Result<(), Refusal> {
        self.has_quota(now)?;
        let (today, until) = (day_of(now), next_day(now));
        if self.day >= Some(today) && self.count >= Self::DAY_MAX {
            return Err(Refusal { limit: Limit::Directory, until });
        }
        let sent = |concerns: &dyn Fn(&TargetSends) -> bool| -> u32 {
            let of_today = self.recent.iter().filter(|sends| day_of(sends.last) == today);
            of_today.filter(|sends| concerns(sends)).map(|sends| sends.count).sum()
        };
        if sent(&|sends| sends.target == target) >= Self::TARGET_DAY_MAX {
            return Err(Refusal { limit: Limit::Target, until });
        }
        if sent(&|sends| sends.contact == contact) >= Self::CONTACT_DAY_MAX {
            return Err(Refusal { limit: Limit::Contact, until });
        }
        Ok(())
    }

    /// Whether the account has messages left, as far as the API has told: a message that was counted
    /// before needs nothing else.
    ///
    /// # Errors
    /// The API has said that they are used up.
    pub fn has_quota(&self, now: Timestamp) -> Result<(), Refusal> {
        match self.exhausted_until {
            Some(until) if until > now => Err(Refusal { limit: Limit::Account, until }),
            Some(_) | None => Ok(()),
        }
    }

    /// How many messages of the directory are left for the day of `now`, whoever they are for.
    #[must_use]
    pub fn remaining(&self, now: Timestamp) -> u32 {
        if self.has_quota(now).is_err() {
            return 0;
        }
        let sent = if self.day >= Some(day_of(now)) { self.count } else { 0 };
        Self::DAY_MAX.saturating_sub(sent)
    }

    /// The ledger with one more message to that target for that contact. It counts for the day of
    /// `now`; a clock that was put back counts for the last day that was seen.
    #[must_use]
    pub fn with_send(&self, target: &str, contact: &str, now: Timestamp) -> Self {
        let today = self.day.unwrap_or(Date::MIN).max(day_of(now));
        let mut next = self.clone();
        next.count = if next.day == Some(today) { next.count.saturating_add(1) } else { 1 };
        next.day = Some(today);
        let known =
            next.recent.iter().position(|sends| sends.target == target && sends.contact == contact);
        let before = known.map(|index| next.recent.remove(index));
        let same_day = before.filter(|sends| day_of(sends.last) == day_of(now));
        let count = same_day.map_or(1, |sends| sends.count.saturating_add(1));
        let (target, contact) = (target.to_owned(), contact.to_owned());
        next.recent.push(TargetSends { target, contact, count, last: whole_second(now) });
        next.recent.retain(|sends| now.duration_since(sends.last) < Self::KEPT_FOR);
        next.lost_at = next.lost_at.filter(|at| now.duration_since(*at) < Self::KEPT_FOR);
        let too_many = next.recent.len().saturating_sub(Self::RECENT_MAX);
        next.recent.drain(..too_many);
        next
    }

    /// The ledger after the API has taken an order: that it refused one before is over.
    #[must_use]
    pub fn answered(&self, now: Timestamp) -> Self {
        // The answer may be taken in after a later one, which stands.
        let exhausted_until = self.exhausted_until.filter(|until| *until > now);
        Self { exhausted_until, ..self.clone() }
    }

    /// The ledger after the API said that the day's messages are used up: none is sent before the
    /// next day. If it has taken no order since then either, it is tried once an hour. Messages that
    /// are counted by then may still wait to be sent, and tell nothing.
    ///
    /// Unverified (A9): when the quota comes back; no page says it.
    #[must_use]
    pub fn exhausted(&self, now: Timestamp) -> Self {
        if self.has_quota(now).is_err() {
            // Said of a message that was on its way before: nothing new was tried.
            return self.clone();
        }
        let day = SignedDuration::from_hours(24);
        let probed = self
            .exhausted_until
            .is_some_and(|until| until <= now && now.duration_since(until) < day);
        let until = if probed {
            now.saturating_add(Self::PROBE_PAUSE).unwrap_or(Timestamp::MAX)
        } else {
            next_day(now)
        };
        Self { exhausted_until: Some(whole_second(until)), ..self.clone() }
    }

    /// The ledger after a message to that target that was counted at that time and not sent. What was
    /// counted on an earlier day stays: that day is over.
    #[must_use]
    pub fn taken_back(&self, target: &str, contact: &str, counted: Timestamp) -> Self {
        let day = day_of(counted);
        let mut next = self.clone();
        if next.day == Some(day) {
            next.count = next.count.saturating_sub(1);
        }
        next.recent.retain_mut(|sends| {
            let concerned = (sends.target.as_str(), sends.contact.as_str()) == (target, contact);
            if !concerned || day_of(sends.last) != day {
                return true;
            }
            sends.count = sends.count.saturating_sub(1);
            sends.count > 0
        });
        next
    }

    /// The ledger as it is read with that key. Hashes that were made with another key tell nothing
    /// any more.
    #[must_use]
    pub fn read_with(&self, key: &str, now: Timestamp) -> Self {
        let mut next = self.clone();
        if !next.recent.is_empty() && next.key.as_deref() != Some(key) {
            next.recent.clear();
            next.lost_at = Some(whole_second(now));
        }
        next.key = Some(key.to_owned());
        next
    }

    /// What both know together: two objects that reached one directory, one after the other, each
    /// hold what was sent while they were worked on.
    #[must_use]
    pub fn merged(&self, other: &Self) -> Self {
        let (day, count) = match self.day.cmp(&other.day) {
            Ordering::Less => (other.day, other.count),
            Ordering::Greater => (self.day, self.count),
            Ordering::Equal => (self.day, self.count.max(other.count)),
        };
        let mut recent = self.recent.clone();
        for sends in &other.recent {
            let same = |known: &&mut TargetSends| {
                (&known.target, &known.contact) == (&sends.target, &sends.contact)
            };
            match recent.iter_mut().find(same) {
                Some(known) if (known.last, known.count) < (sends.last, sends.count) => {
                    *known = sends.clone();
                }
                Some(_) => {}
                None => recent.push(sends.clone()),
            }
        }
        recent.sort_by_key(|sends| sends.last);
        let too_many = recent.len().saturating_sub(Self::RECENT_MAX);
        recent.drain(..too_many);
        Self {
            day,
            count,
            exhausted_until: self.exhausted_until.max(other.exhausted_until),
            recent,
            key: self.key.clone().or_else(|| other.key.clone()),
            lost_at: self.lost_at.max(other.lost_at),
        }
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
        ledger.may_send(target, "another", now).err().map(|refusal| (refusal.limit, refusal.until))
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
    fn what_is_left_of_a_day_comes_back_with_the_next() {
        assert_eq!(Ledger::default().remaining(morning()), Ledger::DAY_MAX);
        let ledger = Ledger::default().with_send("a", "one", morning());
        assert_eq!(ledger.remaining(morning()), Ledger::DAY_MAX - 1);
        assert_eq!(ledger.remaining(midnight()), Ledger::DAY_MAX);
        let refused = ledger.exhausted(morning());
        assert_eq!(refused.remaining(morning()), 0);
        assert_eq!(refused.remaining(midnight()), Ledger::DAY_MAX);
    }

    #[test]
    fn a_directory_sends_less_than_the_account_may() {
        let mut ledger = Ledger::default();
        for number in 0..Ledger::DAY_MAX {
            assert_eq!(refused(&ledger, "new", morning()), None);
            ledger = ledger.with_send(&number.to_string(), &number.to_string(), morning());
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
        // What is counted and waits is no message that was sent.
        let noon = later(midnight(), 12);
        let counted = probed.with_send("b", "one", noon);
        let still = Some((Limit::Account, later(noon, 1)));
        assert_eq!(refused(&counted.exhausted(noon), "b", noon), still);
        // A day on which something was sent is used up as a whole.
        let used = counted.answered(noon).exhausted(noon);
        assert_eq!(refused(&used, "b", noon), Some((Limit::Account, later(midnight(), 24))));
        // An answer of before that is taken in late takes no refusal back.
        assert_eq!(used.answered(noon), used);
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

    /// The apiserver takes no longer list.
    #[test]
    fn the_oldest_messages_are_forgotten_where_there_are_too_many() {
        let number = |number: usize| number.to_string();
        let ledger = (0..=Ledger::RECENT_MAX).fold(Ledger::default(), |ledger, index| {
            let second = SignedDuration::from_secs(i64::try_from(index).expect("few"));
            ledger.with_send(&number(index), "one", morning() + second)
        });
        for ledger in
            [&ledger, &ledger.merged(&Ledger::default().with_send("a", "one", midnight()))]
        {
            assert_eq!(ledger.recent.len(), Ledger::RECENT_MAX);
            assert_eq!(ledger.last_sent(&number(0), "one"), None);
            assert!(ledger.last_sent(&number(Ledger::RECENT_MAX), "one").is_some());
        }
    }

    #[test]
    fn a_message_that_was_not_sent_does_not_count() {
        let ledger = Ledger::default().with_send("a", "one", morning());
        let back = ledger.with_send("b", "one", morning()).taken_back("b", "one", morning());
        assert_eq!(back, ledger);
        let twice = ledger.with_send("a", "one", morning()).taken_back("a", "one", morning());
        assert_eq!((twice.count, twice.recent[0].count), (1, 1));
    }

    #[test]
    fn a_contact_gets_ten_a_day_whatever_its_values_are() {
        let ledger = (0..Ledger::CONTACT_DAY_MAX).fold(Ledger::default(), |ledger, number| {
            assert_eq!(ledger.may_send("new", "one", morning()), Ok(()));
            ledger.with_send(&number.to_string(), "one", morning())
        });
        let refusal = Refusal { limit: Limit::Contact, until: midnight() };
        assert_eq!(ledger.may_send("new", "one", morning()), Err(refusal));
        assert_eq!(ledger.may_send("new", "two", morning()), Ok(()));
        assert_eq!(ledger.may_send("new", "one", midnight()), Ok(()));
    }

    #[test]
    fn a_message_counts_for_the_day_on_which_it_is_counted() {
        let evening = midnight() - SignedDuration::from_secs(1);
        let ledger = Ledger::default().with_send("a", "one", midnight());
        // Counted before midnight, and taken back after it: the new day has nothing of it.
        assert_eq!(ledger.taken_back("a", "one", evening), ledger);
        // The clock was put back.
        let again = ledger.with_send("b", "one", evening);
        assert_eq!((again.day, again.count), (ledger.day, 2));
        let full = Ledger { count: Ledger::DAY_MAX, ..ledger };
        assert_eq!(refused(&full, "b", evening), Some((Limit::Directory, midnight())));
    }

    /// Thirty were on their way when the API said that its messages are used up.
    #[test]
    fn a_second_refusal_before_the_next_try_changes_nothing() {
        let ledger = Ledger::default().exhausted(morning()).exhausted(midnight());
        assert_eq!(ledger.exhausted_until, Some(later(midnight(), 1)));
        assert_eq!(ledger.exhausted(midnight()), ledger);
    }

    #[test]
    fn when_the_key_is_lost_everybody_counts_as_just_asked() {
        let ledger = Ledger::default().with_send("a", "one", morning());
        let known = ledger.read_with("key", morning());
        assert_eq!(known.lost_at, Some(whole_second(morning())));
        assert_eq!(known.last_sent("b", "two"), Some(whole_second(morning())));
        assert_eq!((known.count, known.recent.len()), (1, 0));
        // With the same key all is known, for as long as it matters.
        let noon = later(morning(), 2);
        let again = known.with_send("c", "one", noon).read_with("key", noon);
        assert_eq!(again.last_sent("c", "one"), Some(whole_second(noon)));
        assert_eq!(again.lost_at, known.lost_at);
        let after = again.with_send("d", "one", later(morning(), 49));
        assert_eq!(after.last_sent("b", "two"), None);
        // A key that was never used loses nothing.
        assert_eq!(Ledger::default().read_with("key", morning()).lost_at, None);
    }

    #[test]
    fn two_ledgers_together_know_what_each_knows() {
        let first = Ledger::default().with_send("a", "one", morning());
        let second = first.with_send("a", "one", later(morning(), 1)).with_send(
            "b",
            "one",
            later(morning(), 1),
        );
        let third = first.with_send("c", "one", later(morning(), 2)).exhausted(morning());
        for both in [second.merged(&third), third.merged(&second)] {
            assert_eq!((both.count, both.exhausted_until), (3, Some(midnight())));
            let known: Vec<_> = both.recent.iter().map(|sends| sends.target.as_str()).collect();
            assert_eq!(known, ["a", "b", "c"]);
            assert_eq!(both.recent[0].count, 2);
        }
        let tomorrow = Ledger::default().with_send("d", "one", midnight());
        assert_eq!(second.merged(&tomorrow).count, 1);
    }
}
