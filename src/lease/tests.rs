use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use super::candidate::{Candidate, Move, Record};
use super::*;

fn seconds(seconds: u64) -> Moment {
    Duration::from_secs(seconds)
}

fn millis(millis: u64) -> Moment {
    Duration::from_millis(millis)
}

fn terms() -> Terms {
    Terms::new(seconds(15), seconds(10)).unwrap()
}

fn record(holder: &str, version: u32) -> Record {
    let lasts = Some(if holder.is_empty() { seconds(1) } else { seconds(15) });
    Record { holder: holder.to_owned(), lasts, version: version.to_string() }
}

fn candidate() -> Candidate {
    Candidate::new("we".to_owned(), terms())
}

/// One that holds the lease since a write that was sent at 100 s.
fn holder() -> Candidate {
    let mut candidate = candidate();
    candidate.sees(None, seconds(99));
    candidate.stored(record("we", 1), seconds(100), seconds(101));
    candidate
}

#[test]
fn a_lease_that_nobody_holds_is_taken_at_once() {
    let mut candidate = candidate();
    candidate.sees(None, seconds(5));
    assert_eq!(candidate.next(seconds(5)), Move::Create);
    candidate.sees(Some(record("other", 1)), seconds(5));
    candidate.sees(Some(record("", 2)), seconds(6));
    assert_eq!(candidate.next(seconds(6)), Move::Replace);
}

#[test]
fn another_holder_is_waited_for_from_when_its_record_was_seen_to_change() {
    let mut candidate = candidate();
    candidate.sees(Some(record("other", 1)), seconds(100));
    assert_eq!(candidate.next(seconds(114)), Move::Wait(seconds(115)));
    assert_eq!(candidate.next(seconds(115)), Move::Replace);
    // It is alive.
    candidate.sees(Some(record("other", 2)), seconds(114));
    assert_eq!(candidate.next(seconds(128)), Move::Wait(seconds(129)));
    // To see the same again says nothing.
    candidate.sees(Some(record("other", 2)), seconds(128));
    assert_eq!(candidate.next(seconds(129)), Move::Replace);
    assert_eq!(candidate.other_holder(), Some("other"));
}

#[test]
fn what_the_holder_has_promised_counts_and_not_our_own_terms() {
    let mut candidate = candidate();
    let long = Record { lasts: Some(seconds(60)), ..record("other", 1) };
    candidate.sees(Some(long), seconds(100));
    assert_eq!(candidate.next(seconds(159)), Move::Wait(seconds(160)));
    candidate.sees(Some(Record { lasts: None, ..record("other", 2) }), seconds(200));
    assert_eq!(candidate.next(seconds(201)), Move::Wait(seconds(215)));
}

#[test]
fn who_has_seen_a_holder_waits_for_it_when_somebody_deletes_the_object() {
    let mut candidate = candidate();
    candidate.sees(Some(record("other", 1)), seconds(100));
    candidate.sees(None, seconds(101));
    assert_eq!(candidate.next(seconds(102)), Move::Wait(seconds(115)));
    assert_eq!(candidate.next(seconds(115)), Move::Create);
    assert_eq!(candidate.other_holder(), None);
    let mut holder = holder();
    holder.sees(None, seconds(102));
    assert_eq!(holder.next(seconds(102)), Move::Create);
}

#[test]
fn a_holder_counts_from_when_it_sent_and_stops_before_others_may_begin() {
    let holder = holder();
    let renewed_at = holder.renewed_at().unwrap();
    assert_eq!(renewed_at, seconds(100));
    assert_eq!(terms().until(renewed_at, seconds(100)), Some(millis(114_700)));
    assert_eq!(terms().until(renewed_at, millis(109_999)), Some(millis(114_700)));
    assert_eq!(terms().until(renewed_at, seconds(110)), None);
    assert_eq!(holder.next(millis(101_500)), Move::Wait(seconds(102)));
    assert_eq!(holder.next(seconds(102)), Move::Replace);
    assert_eq!(holder.next(seconds(110)), Move::End(Lost::NotRenewed(seconds(10))));
}

#[test]
fn a_holder_that_finds_somebody_else_in_the_record_has_lost_it() {
    let mut holder = holder();
    holder.sees(Some(record("other", 2)), seconds(101));
    assert_eq!(holder.next(seconds(101)), Move::End(Lost::Taken("other".to_owned())));
}

#[test]
fn a_renewal_that_is_answered_after_the_deadline_comes_too_late() {
    let mut holder = holder();
    holder.stored(record("we", 2), seconds(109), seconds(110));
    assert_eq!(holder.next(seconds(110)), Move::End(Lost::NotRenewed(seconds(10))));
    // The trap: one that is answered right before.
    let mut holder = self::holder();
    holder.stored(record("we", 2), seconds(109), millis(109_999));
    assert_eq!(holder.renewed_at(), Some(seconds(109)));
}

#[test]
fn a_lease_that_was_won_without_an_answer_counts_from_a_write_that_is_answered() {
    let mut candidate = candidate();
    candidate.sees(Some(record("we", 7)), seconds(100));
    assert_eq!(candidate.renewed_at(), None);
    assert_eq!(candidate.next(seconds(100)), Move::Replace);
    // Answered so late that it may be somebody else's by now.
    candidate.stored(record("we", 8), seconds(100), seconds(110));
    assert_eq!((candidate.renewed_at(), candidate.next(seconds(110))), (None, Move::Replace));
}

#[test]
fn who_was_told_that_the_lease_is_over_is_never_told_otherwise() {
    let held = Held::new(terms());
    assert_eq!(held.until(seconds(1)), None);
    assert!(!held.is_over(), "it was never held");
    held.renewed(seconds(100));
    assert!(held.until(seconds(101)).is_some());
    assert_eq!(held.until(seconds(110)), None);
    held.renewed(seconds(109));
    assert_eq!(held.until(seconds(111)), None);
    assert!(held.is_over());
}

#[test]
fn all_leases_must_be_held_and_the_shortest_counts() {
    assert_eq!(Leadership::unshared().until(), Some(Moment::MAX));
    let [one, other] = [Held::new(terms()), Held::new(terms())];
    let both = Leadership { leases: vec![one.clone(), other.clone()] };
    let now = uptime::now();
    one.renewed(now);
    assert_eq!(both.until(), None);
    let earlier = now.saturating_sub(seconds(1));
    other.renewed(earlier);
    assert_eq!(both.until(), Some(earlier + terms().sure_for()));
    one.end();
    assert_eq!(both.until(), None);
}

#[test]
fn terms_that_do_not_fit_are_refused_with_advice() {
    let check = |lease, renew_deadline, words: &[&str]| {
        let unfit = Terms::new(lease, renew_deadline).unwrap_err().to_string();
        for word in words {
            assert!(unfit.contains(word), "no `{word}` in {unfit}");
        }
    };
    check(millis(1500), millis(500), &["15s"]);
    check(seconds(0), seconds(0), &["from 1s"]);
    check(seconds(601), seconds(10), &["10m"]);
    check(seconds(15), seconds(15), &["at most 12s"]);
    check(seconds(15), seconds(13), &["at most 12s"]);
    check(seconds(15), seconds(0), &["more than nothing"]);
    assert!(Terms::new(seconds(15), seconds(12)).is_ok());
    assert!(Terms::new(seconds(1), millis(800)).is_ok());
}

/// How long each thing takes that a process does next, and what goes wrong with it.
#[derive(Debug, Clone)]
struct Fate {
    /// Until it goes on: it may be stopped.
    pause: u64,
    /// Until a request is done.
    request: u64,
    /// Until its answer is there.
    answer: u64,
    /// The answer never comes.
    lost: bool,
    /// It is asked to end.
    ends: bool,
}

fn fate() -> impl Strategy<Value = Fate> {
    // Mostly quick, sometimes several leases long.
    let delay = || prop_oneof![12 => 0..80_u64, 2 => 0..1_500_u64, 1 => 0..5_000_u64];
    let rarely = |weight| prop::bool::weighted(weight);
    (delay(), delay(), delay(), rarely(0.1), rarely(0.04)).prop_map(
        |(pause, request, answer, lost, ends)| Fate { pause, request, answer, lost, ends },
    )
}

/// What a process does next.
enum Phase {
    Thinks,
    IsRead,
    HasRead(Option<Record>),
    IsWritten { over: Option<Record>, holder: String, sent_at: Moment },
    HasWritten { stored: Option<Record>, sent_at: Moment },
}

struct Process {
    identity: String,
    candidate: Candidate,
    /// Its machine has started so long before the others' time began.
    ahead: u64,
    doubtful: bool,
    phase: Phase,
    next_at: u64,
}

/// Several processes, one apiserver, and time.
struct Schedule {
    terms: Terms,
    object: Option<Record>,
    versions: u32,
    born: u32,
    /// Until when the calls of each process last, that has ever held the lease.
    acts_until: BTreeMap<String, u64>,
    terms_begun: usize,
}

impl Schedule {
    fn process(&mut self, ahead: u64, next_at: u64) -> Process {
        self.born += 1;
        let identity = format!("process-{}", self.born);
        let candidate = Candidate::new(identity.clone(), self.terms);
        Process { identity, candidate, ahead, doubtful: true, phase: Phase::Thinks, next_at }
    }

    fn store(&mut self, over: Option<&Record>, holder: String) -> Option<Record> {
        if self.object.as_ref() != over {
            return None;
        }
        self.versions += 1;
        let lasts = Some(if holder.is_empty() { seconds(1) } else { self.terms.lease() });
        let stored = Record { holder, lasts, version: self.versions.to_string() };
        self.object = Some(stored.clone());
        Some(stored)
    }

    fn step(&mut self, process: &mut Process, fate: &Fate) {
        let at = process.next_at;
        let now = millis(at + process.ahead);
        let phase = std::mem::replace(&mut process.phase, Phase::Thinks);
        (process.phase, process.next_at) = match phase {
            Phase::Thinks if process.doubtful => (Phase::IsRead, at + fate.request),
            Phase::Thinks => match process.candidate.next(now) {
                Move::End(_) => {
                    *process = self.process(process.ahead, at + fate.pause);
                    return;
                }
                _ if fate.ends && process.candidate.renewed_at().is_some() => {
                    // Nothing is under way any more when it gives the lease back.
                    self.acts_until.insert(process.identity.clone(), at);
                    let over = self.object.clone();
                    let is_ours = over.as_ref().is_some_and(|it| it.holder == process.identity);
                    if is_ours {
                        self.store(over.as_ref(), String::new());
                    }
                    *process = self.process(process.ahead, at + fate.pause);
                    return;
                }
                Move::Wait(until) => {
                    // Whoever stands by sees changes meanwhile.
                    process.doubtful = process.candidate.renewed_at().is_none();
                    let wait = u64::try_from(until.saturating_sub(now).as_millis()).unwrap();
                    let looks_after = if process.doubtful { wait.min(100) } else { wait };
                    (Phase::Thinks, at + looks_after + fate.pause)
                }
                step @ (Move::Create | Move::Replace) => {
                    let over = process.candidate.seen().filter(|_| step == Move::Replace).cloned();
                    let holder = process.identity.clone();
                    (Phase::IsWritten { over, holder, sent_at: now }, at + fate.request)
                }
            },
            Phase::IsRead => (Phase::HasRead(self.object.clone()), at + fate.answer),
            Phase::HasRead(read) => {
                process.candidate.sees(read, now);
                process.doubtful = false;
                (Phase::Thinks, at + fate.pause)
            }
            Phase::IsWritten { over, holder, sent_at } => {
                let stored = self.store(over.as_ref(), holder);
                process.doubtful = true;
                let stored = stored.filter(|_| !fate.lost);
                (Phase::HasWritten { stored, sent_at }, at + fate.answer)
            }
            Phase::HasWritten { stored: None, .. } => (Phase::Thinks, at + fate.pause),
            Phase::HasWritten { stored: Some(stored), sent_at } => {
                process.candidate.stored(stored, sent_at, now);
                process.doubtful = false;
                self.acts(process, at);
                (Phase::Thinks, at + fate.pause)
            }
        };
    }

    /// A process may act from now on, and what it begins ends before the lease does.
    fn acts(&mut self, process: &Process, at: u64) {
        let now = millis(at + process.ahead);
        let Some(renewed_at) = process.candidate.renewed_at() else { return };
        let Some(until) = self.terms.until(renewed_at, now) else { return };
        let until = u64::try_from(until.as_millis()).unwrap() - process.ahead;
        if self.acts_until.insert(process.identity.clone(), until).is_none() {
            self.terms_begun += 1;
        }
        for (other, until) in &self.acts_until {
            assert!(
                *other == process.identity || *until <= at,
                "{} acts at {at}, and {other} until {until}",
                process.identity
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// Whatever is stopped, late or lost: nobody acts while what another one has begun may go on.
    #[test]
    fn of_several_processes_never_two_act(
        fates in prop::collection::vec(fate(), 40..400),
        ahead in [0..1_000_000_u64, 0..1_000_000, 0..1_000_000],
    ) {
        let terms = Terms::new(seconds(1), millis(700)).unwrap();
        let mut schedule = Schedule {
            terms, object: None, versions: 0, born: 0, acts_until: BTreeMap::new(), terms_begun: 0,
        };
        let mut processes: Vec<_> =
            ahead.iter().map(|ahead| schedule.process(ahead + 1, 1)).collect();
        for fate in &fates {
            let next = processes.iter_mut().min_by_key(|process| process.next_at).unwrap();
            schedule.step(next, fate);
        }
    }
}

/// Nothing is late or lost: there is always somebody, and a lease that was given back is taken at once.
#[test]
fn in_good_weather_one_process_acts_until_it_ends_and_the_next_one_follows_at_once() {
    let terms = Terms::new(seconds(1), millis(700)).unwrap();
    let mut schedule = Schedule {
        terms,
        object: None,
        versions: 0,
        born: 0,
        acts_until: BTreeMap::new(),
        terms_begun: 0,
    };
    let mut processes = [schedule.process(5, 1), schedule.process(900, 1)];
    for number in 0..4_000 {
        let fate = Fate { pause: 3, request: 5, answer: 5, lost: false, ends: number % 500 > 480 };
        let next = processes.iter_mut().min_by_key(|process| process.next_at).unwrap();
        let at = next.next_at;
        schedule.step(next, &fate);
        let last = schedule.acts_until.values().max().copied();
        assert!(last.is_none_or(|last| last + 200 > at), "nobody acts at {at} since {last:?}");
    }
    assert!(schedule.terms_begun > 7, "{}", schedule.terms_begun);
}
