use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

use super::lane::{Granted, Lane, Next, Priority, Refusal};
use super::polls::{Poll, Polls};
use crate::domain::call::{Action, CallError, FailureClass};

/// The smallest generator that is good enough for a simulation: the same numbers in each run.
struct Dice(u64);

impl Dice {
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
    fn roll(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }
}

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millisecond(1_800_000_000_000 + millis).expect("a time")
}

fn millis(time: Timestamp) -> i64 {
    time.as_millisecond() - at(0).as_millisecond()
}

/// A fast lane in which nothing waits for the rate.
fn lane<T>() -> Lane<T> {
    Lane::new(100_000, at(0))
}

fn granted<T>(lane: &mut Lane<T>, now: Timestamp) -> Granted<T> {
    match lane.next(now) {
        Next::Grant(granted) => granted,
        Next::Wait(until) => unreachable!("waits until {until}"),
        Next::Idle => unreachable!("nothing to grant"),
    }
}

fn grant_and_end<T>(lane: &mut Lane<T>, now: Timestamp) -> T {
    let granted = granted(lane, now);
    lane.ended(true, now);
    granted.into_item()
}

#[test]
fn a_change_goes_before_creates_before_repairs_before_polls() {
    let mut lane = lane();
    for priority in Priority::ALL.into_iter().rev() {
        lane.push(priority, (priority, 1));
        lane.push(priority, (priority, 2));
    }
    lane.push_first((Priority::Poll, 0));
    let order: Vec<_> = (0..7).map(|_| grant_and_end(&mut lane, at(0))).collect();
    assert_eq!(
        order,
        [
            (Priority::Poll, 0),
            (Priority::Change, 1),
            (Priority::Change, 2),
            (Priority::Create, 1),
            (Priority::Create, 2),
            (Priority::Repair, 1),
            (Priority::Repair, 2),
        ]
    );
}

#[test]
fn every_eighth_turn_goes_to_who_waited_longest_below() {
    let mut lane = lane();
    lane.push(Priority::Poll, "poll");
    lane.push(Priority::Repair, "repair");
    for _ in 0..100 {
        lane.push(Priority::Create, "create");
    }
    let order: Vec<_> = (0..17).map(|_| grant_and_end(&mut lane, at(0))).collect();
    let turns = |who| order.iter().position(|item| *item == who);
    assert_eq!((turns("poll"), turns("repair")), (Some(7), Some(15)));
}

#[test]
fn a_change_waits_for_one_call_and_one_aged_turn_of_a_backlog_at_most() {
    let mut lane = lane();
    for _ in 0..1000 {
        lane.push(Priority::Create, false);
        lane.push(Priority::Poll, false);
    }
    for turn in 0..500 {
        assert!(!grant_and_end(&mut lane, at(0)), "turn {turn}");
        if turn % 7 == 0 {
            lane.push(Priority::Change, true);
            let waited = (0..3).position(|_| grant_and_end(&mut lane, at(0)));
            assert!(waited.is_some_and(|waited| waited <= 1), "turn {turn}: {waited:?}");
        }
    }
}

#[test]
fn a_backlog_leaves_a_token_for_a_change() {
    let mut lane = Lane::new(2, at(0));
    for _ in 0..10 {
        lane.push(Priority::Create, "create");
    }
    let mut now = at(0);
    for _ in 0..5 {
        match lane.next(now) {
            Next::Grant(_) => lane.ended(true, now),
            Next::Wait(until) => now = until,
            Next::Idle => unreachable!("there are jobs"),
        }
    }
    while let Next::Grant(_) = lane.next(now) {
        lane.ended(true, now);
    }
    lane.push(Priority::Change, "change");
    assert_eq!(grant_and_end(&mut lane, now), "change");
}

#[test]
fn one_call_is_in_flight() {
    let mut lane = lane();
    lane.push(Priority::Change, 1);
    lane.push(Priority::Change, 2);
    let first = granted(&mut lane, at(0));
    assert!(matches!(lane.next(at(1_000_000)), Next::Idle));
    lane.ended(true, at(20));
    assert_eq!(first.into_item(), 1);
    assert_eq!(grant_and_end(&mut lane, at(20)), 2);
}

#[test]
fn a_job_that_is_not_sent_costs_nothing() {
    let mut lane = Lane::new(1, at(0));
    for job in 0..1000 {
        lane.push(Priority::Change, job);
        assert_eq!(granted(&mut lane, at(0)).into_item(), job);
        lane.unsent();
    }
}

/// The pauses after conflicts in a row, in milliseconds, when the dice always fall alike.
fn conflict_pauses(jitter: f64) -> Vec<i64> {
    let mut lane = lane();
    let mut now = at(0);
    (0..16)
        .map(|_| {
            if lane.is_empty() {
                lane.push(Priority::Change, ());
            }
            let granted = granted(&mut lane, now);
            lane.refused(granted, Refusal::Conflict, now, jitter);
            lane.push(Priority::Change, ());
            let Next::Wait(until) = lane.next(now) else { unreachable!("the lane is paused") };
            let pause = millis(until) - millis(now);
            now = until;
            pause
        })
        .collect()
}

#[test]
fn pauses_after_conflicts_begin_small_and_grow_slowly() {
    assert!(conflict_pauses(0.0).iter().all(|pause| *pause == 100));
    let longest = conflict_pauses(1.0);
    assert_eq!(longest[..4], [200, 300, 450, 675]);
    assert!((3000..4000).contains(&longest[7]), "{longest:?}");
    assert_eq!(longest[13..], [30_000; 3]);
}

#[test]
fn a_conflict_changes_no_rate_and_an_answer_ends_the_row() {
    let mut lane = lane();
    lane.push(Priority::Create, "refused");
    lane.push(Priority::Create, "next");
    let granted_job = granted(&mut lane, at(0));
    assert!(lane.refused(granted_job, Refusal::Conflict, at(0), 1.0).is_none());
    assert_eq!(lane.rate().recovered_at(), None);
    assert!(matches!(lane.next(at(199)), Next::Wait(until) if until == at(200)));
    assert_eq!(grant_and_end(&mut lane, at(200)), "refused");
    let granted_job = granted(&mut lane, at(220));
    lane.refused(granted_job, Refusal::Conflict, at(220), 1.0);
    assert!(matches!(lane.next(at(220)), Next::Wait(until) if until == at(420)));
}

#[test]
fn a_refused_job_keeps_its_place_but_a_change_goes_first() {
    let mut lane = lane();
    lane.push(Priority::Create, "first");
    lane.push(Priority::Create, "second");
    let job = granted(&mut lane, at(0));
    lane.refused(job, Refusal::Conflict, at(0), 0.0);
    lane.push(Priority::Change, "change");
    let order: Vec<_> = (0..3).map(|_| grant_and_end(&mut lane, at(100))).collect();
    assert_eq!(order, ["change", "first", "second"]);
}

/// A list that somebody asked for waited for minutes while somebody else held the directory.
#[test]
fn a_poll_goes_while_the_directory_is_held_unless_it_was_refused_itself() {
    let mut lane = lane();
    lane.push(Priority::Change, "change");
    let job = granted(&mut lane, at(0));
    lane.refused(job, Refusal::Conflict, at(0), 1.0);
    lane.push(Priority::Poll, "poll");
    lane.push(Priority::Poll, "refused poll");
    assert_eq!(grant_and_end(&mut lane, at(10)), "poll");
    let job = granted(&mut lane, at(20));
    assert_eq!(job.item, "refused poll");
    lane.refused(job, Refusal::Conflict, at(20), 0.0);
    assert!(matches!(lane.next(at(30)), Next::Wait(until) if until == at(120)));
    assert_eq!(grant_and_end(&mut lane, at(200)), "change");
    assert_eq!(grant_and_end(&mut lane, at(200)), "refused poll");
}

#[test]
fn a_job_that_is_refused_for_ten_seconds_is_given_back() {
    let mut lane = lane();
    lane.push(Priority::Change, ());
    let mut now = at(0);
    loop {
        let job = granted(&mut lane, now);
        if lane.refused(job, Refusal::Conflict, now, 0.5).is_some() {
            break;
        }
        let Next::Wait(until) = lane.next(now) else { unreachable!("the lane is paused") };
        now = until;
    }
    assert!((5_000..=10_000).contains(&millis(now)), "{}", millis(now));
    assert!(lane.is_empty());
}

#[test]
fn a_hint_is_waited_for_and_its_job_is_told_if_it_is_long() {
    let mut lane = lane();
    lane.push(Priority::Change, 1);
    let job = granted(&mut lane, at(0));
    let hint = Some(SignedDuration::from_secs(60));
    assert_eq!(lane.refused(job, Refusal::Throttled { hint }, at(0), 0.0), Some(1));
    lane.push(Priority::Change, 2);
    assert!(matches!(lane.next(at(1)), Next::Wait(until) if until == at(60_000)));
}

#[test]
fn without_a_hint_the_window_is_waited_for_then_longer() {
    let mut lane = lane();
    lane.push(Priority::Change, ());
    let mut now = at(300);
    let mut pauses = Vec::new();
    for _ in 0..4 {
        let job = granted(&mut lane, now);
        lane.refused(job, Refusal::Throttled { hint: None }, now, 0.0);
        let Next::Wait(until) = lane.next(now) else { unreachable!("the lane is paused") };
        pauses.push(millis(until) - millis(now));
        now = until;
    }
    assert_eq!(pauses, [700, 500, 1000, 2000]);
}

#[test]
fn a_clock_that_is_set_back_shuts_no_lane() {
    let mut lane = lane();
    lane.push(Priority::Change, 1);
    let job = granted(&mut lane, at(3_600_000));
    let hint = Some(SignedDuration::from_secs(5));
    lane.refused(job, Refusal::Throttled { hint }, at(3_600_000), 0.0);
    assert_eq!(grant_and_end(&mut lane, at(0)), 1);
}

#[derive(Debug, Default)]
struct Tally {
    accepted: f64,
    refused: f64,
}

/// Creates without end against a server that takes `limit` calls in each second of its own clock.
fn against_a_limit(limit: u32, ceiling: u32, window_begins: i64, seconds: i64) -> Tally {
    let mut lane = Lane::new(ceiling, at(0));
    let mut dice = Dice(7);
    let mut tally = Tally::default();
    let mut window = (i64::MIN, 0);
    let mut now = at(0);
    while millis(now) < seconds * 1000 {
        if lane.is_empty() {
            lane.push(Priority::Create, ());
        }
        match lane.next(now) {
            Next::Grant(job) => {
                let second = (millis(now) - window_begins).div_euclid(1000);
                window = if window.0 == second { window } else { (second, 0) };
                window.1 += 1;
                now = now.saturating_add(SignedDuration::from_millis(20)).expect("a time");
                if window.1 <= limit {
                    tally.accepted += 1.0;
                    lane.ended(true, now);
                } else {
                    tally.refused += 1.0;
                    lane.refused(job, Refusal::Throttled { hint: None }, now, dice.roll());
                }
            }
            Next::Wait(until) => now = until,
            Next::Idle => unreachable!("there is a job"),
        }
    }
    tally
}

#[test]
fn at_half_the_ceiling_few_calls_are_refused_and_the_limit_is_used() {
    let runs = [(5, 10, 60), (5, 10, 600), (5, 50, 60), (5, 5, 60), (2, 10, 600), (20, 100, 60)];
    for (limit, ceiling, seconds) in runs {
        for window_begins in [0, 137, 370, 500, 910] {
            let Tally { accepted, refused } =
                against_a_limit(limit, ceiling, window_begins, seconds);
            #[expect(clippy::cast_precision_loss, reason = "small numbers")]
            let used = accepted / (f64::from(limit) * seconds as f64);
            let share = refused / (accepted + refused);
            let run = format!("limit {limit} of {ceiling}, {seconds} s, window {window_begins}");
            assert!(used >= 0.9, "{run}: used {used:.3}");
            assert!(share <= 0.05, "{run}: refused {share:.3}");
        }
    }
}

/// Calls of 20 ms against an outsider who holds the directory for `held` of each `cycle`
/// milliseconds: which share of the rest is used.
fn against_an_outsider(held: i64, cycle: i64, ceiling: u32, latency: i64) -> f64 {
    let seconds = 300;
    let mut lane = Lane::new(ceiling, at(0));
    let mut dice = Dice(11);
    let mut now = at(0);
    let mut used = 0.0;
    while millis(now) < seconds * 1000 {
        if lane.is_empty() {
            lane.push(Priority::Create, ());
        }
        match lane.next(now) {
            Next::Grant(job) => {
                let is_held = millis(now).rem_euclid(cycle) < held;
                now = now.saturating_add(SignedDuration::from_millis(latency)).expect("a time");
                if is_held {
                    lane.refused(job, Refusal::Conflict, now, dice.roll());
                } else {
                    used += 1.0;
                    lane.ended(true, now);
                }
            }
            Next::Wait(until) => now = until,
            Next::Idle => unreachable!("there is a job"),
        }
    }
    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    let free = (cycle - held) as f64 / cycle as f64 * seconds as f64 * 1000.0 / latency as f64;
    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    let allowed = f64::from(ceiling) * seconds as f64 * (cycle - held) as f64 / cycle as f64;
    used / free.min(allowed)
}

#[test]
fn beside_an_outsider_most_of_the_free_time_is_used() {
    for (held, cycle) in [(300, 1000), (600, 2000), (1500, 5000), (3000, 10_000)] {
        for ceiling in [10, 50, 100] {
            let used = against_an_outsider(held, cycle, ceiling, 20);
            assert!(used >= 0.75, "held {held} of {cycle}, ceiling {ceiling}: {used}");
        }
    }
}

#[test]
fn the_rate_recovers_by_itself() {
    let mut lane = Lane::new(10, at(0));
    lane.push(Priority::Change, ());
    let job = granted(&mut lane, at(0));
    lane.refused(job, Refusal::Throttled { hint: None }, at(0), 0.0);
    let rate = |lane: &Lane<()>, second: i64| lane.rate().per_second(at(second * 1000));
    let rates = [0, 5, 15, 30, 100].map(|second| format!("{:.1}", rate(&lane, second)));
    assert_eq!(rates, ["3.5", "4.6", "5.0", "6.5", "10.0"]);
    let recovered_at = lane.rate().recovered_at().map_or(0, millis);
    assert!((37_000..38_000).contains(&recovered_at), "{recovered_at}");
    lane.push(Priority::Change, ());
    grant_and_end(&mut lane, at(38_000));
    assert_eq!(lane.rate().recovered_at(), None);
}

/// What happens to a lane in a property test.
#[derive(Debug, Clone)]
enum Event {
    Push(Priority),
    Later(i64),
    /// Takes a turn, if there is one, and ends it so.
    Turn(End),
}

#[derive(Debug, Clone, Copy)]
enum End {
    Answered,
    Unsent,
    Conflict,
    Throttled,
}

fn event() -> impl Strategy<Value = Event> {
    let end = prop_oneof![
        4 => Just(End::Answered),
        1 => Just(End::Unsent),
        1 => Just(End::Conflict),
        1 => Just(End::Throttled),
    ];
    prop_oneof![
        4 => prop::sample::select(Priority::ALL.to_vec()).prop_map(Event::Push),
        1 => (0..2000_i64).prop_map(Event::Later),
        4 => end.prop_map(Event::Turn),
    ]
}

proptest! {
    #[test]
    fn no_job_is_lost_doubled_or_overtaken_in_its_class(
        events in prop::collection::vec(event(), 1..400),
        jitter in 0.0..1.0_f64,
    ) {
        let mut lane = Lane::new(10, at(0));
        let mut now = at(0);
        let mut pushed = 0_u32;
        let mut served: Vec<(Priority, u32)> = Vec::new();
        let take = |lane: &mut Lane<_>, end: End, now: Timestamp| {
            let Next::Grant(job) = lane.next(now) else { return None };
            assert!(matches!(lane.next(now), Next::Idle), "a second call in flight");
            match end {
                End::Answered => lane.ended(true, now),
                End::Unsent => lane.unsent(),
                End::Conflict => return lane.refused(job, Refusal::Conflict, now, jitter),
                End::Throttled => {
                    let refusal = Refusal::Throttled { hint: None };
                    return lane.refused(job, refusal, now, jitter);
                }
            }
            Some(job.into_item())
        };
        for event in events {
            match event {
                Event::Push(priority) => {
                    lane.push(priority, (priority, pushed));
                    pushed += 1;
                }
                Event::Later(millis) => {
                    now = now.saturating_add(SignedDuration::from_millis(millis)).expect("a time");
                }
                Event::Turn(end) => served.extend(take(&mut lane, end, now)),
            }
        }
        while !lane.is_empty() {
            match lane.next(now) {
                Next::Grant(job) => {
                    lane.ended(true, now);
                    served.push(job.into_item());
                }
                Next::Wait(until) => {
                    prop_assert!(until > now);
                    now = until;
                }
                Next::Idle => prop_assert!(false, "idle with jobs waiting"),
            }
        }
        for class in Priority::ALL {
            let of_class: Vec<_> = served.iter().filter(|(of, _)| *of == class).collect();
            prop_assert!(of_class.is_sorted(), "{class:?}: {of_class:?}");
        }
        let mut numbers: Vec<_> = served.iter().map(|(_, number)| *number).collect();
        numbers.sort_unstable();
        prop_assert_eq!(numbers, (0..pushed).collect::<Vec<_>>());
    }

    /// The promise of `Lane`: with `n` older jobs a job is granted within `(n + 1) * AGED_TURN`
    /// grants, whatever comes after it.
    #[test]
    fn nothing_starves(
        older in prop::collection::vec(prop::sample::select(Priority::ALL.to_vec()), 0..30),
        mine in prop::sample::select(Priority::ALL.to_vec()),
        later in prop::collection::vec(
            prop::collection::vec(prop::sample::select(Priority::ALL.to_vec()), 0..3),
            300,
        ),
        warm_up in 0..8_usize,
    ) {
        let mut lane = lane();
        for _ in 0..warm_up {
            lane.push(Priority::Change, false);
            lane.push(Priority::Poll, false);
            grant_and_end(&mut lane, at(0));
        }
        for priority in &older {
            lane.push(*priority, false);
        }
        let before_mine: usize = lane.waiting().iter().sum();
        lane.push(mine, true);
        let turns = usize::try_from(Lane::<bool>::AGED_TURN).expect("small");
        let bound = (before_mine + 1) * turns;
        let mut later = later.into_iter().cycle();
        let granted_at = (1..=bound).find(|_| {
            for priority in later.next().unwrap_or_default() {
                lane.push(priority, false);
            }
            // Somebody of a higher class always waits.
            lane.push(Priority::Change, false);
            grant_and_end(&mut lane, at(0))
        });
        prop_assert!(granted_at.is_some(), "not within {bound}");
    }
}

fn error(class: FailureClass) -> CallError {
    let action = Action::GetResourceDirectory;
    CallError { action, class, code: None, request_id: None, retry_after: None }
}

fn connected(interval: i64) -> Polls {
    let mut polls = Polls::new(SignedDuration::from_secs(interval), at(0));
    assert_eq!(polls.next(false, at(0)), Some(Poll::Identity));
    polls.unqueued(Poll::Identity);
    polls.identity_told(false, at(0));
    list(&mut polls, at(0));
    polls
}

fn list(polls: &mut Polls, now: Timestamp) {
    assert_eq!(polls.next(false, now), Some(Poll::Page));
    polls.list_begun();
    polls.unqueued(Poll::Page);
    polls.list_complete(now, 0.0);
}

#[test]
fn at_rest_only_pages_are_polled() {
    let mut polls = connected(300);
    for round in 1..100 {
        let now = at(round * 300_000);
        assert_eq!(polls.next(false, at(millis(now) - 1)), None);
        assert_eq!(polls.due_at(false, at(millis(now) - 1)), Some(now));
        list(&mut polls, now);
    }
}

#[test]
fn what_waits_for_confirmation_is_in_doubt_once_an_interval() {
    let mut polls = connected(300);
    let in_doubt: Vec<i64> = (1..=90)
        .map(|turn| turn * 10)
        .filter(|second| polls.list_complete(at(second * 1000), 0.0))
        .collect();
    assert_eq!(in_doubt, [300, 600, 900]);
}

#[test]
fn a_list_that_fails_is_tried_again_after_one_second_then_twice_as_long() {
    let mut polls = connected(300);
    let mut now = at(300_000);
    let mut waits = Vec::new();
    for _ in 0..9 {
        assert_eq!(polls.next(true, now), Some(Poll::Page));
        polls.unqueued(Poll::Page);
        polls.failed(now, 0.5);
        let due_at = polls.due_at(true, now).expect("due");
        waits.push((millis(due_at) - millis(now)) / 1000);
        now = due_at;
    }
    assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
}

#[test]
fn a_wanted_list_begins_at_once_and_only_once() {
    let mut polls = connected(300);
    assert_eq!(polls.next(true, at(1)), Some(Poll::Page));
    assert_eq!(polls.next(true, at(1)), None);
}

#[test]
fn the_identity_is_asked_again_before_anything_else_when_keys_are_in_doubt() {
    let mut polls = connected(300);
    assert!(!polls.doubt_identity(at(59_999)), "it was told a moment ago");
    assert!(polls.doubt_identity(at(60_000)));
    let mut certain = connected(300);
    assert!(certain.doubt_identity(at(60_000)));
    certain.identity_told(false, at(60_020));
    assert_eq!(certain.due_at(false, at(60_020)), Some(at(300_000)), "no list for a doubt");
    assert!(!polls.is_confirmed());
    assert_eq!(polls.next(false, at(60_000)), Some(Poll::Identity));
    polls.unqueued(Poll::Identity);
    polls.failed(at(60_000), 0.5);
    polls.identity_refused(error(FailureClass::Credentials));
    assert_eq!(polls.next(true, at(60_999)), None);
    assert_eq!(polls.next(true, at(61_000)), Some(Poll::Identity));
}

#[test]
fn a_clock_that_is_set_back_delays_no_poll() {
    let mut polls = connected(300);
    let day_before = at(-86_400_000);
    assert_eq!(polls.next(false, day_before), Some(Poll::Page));
}
