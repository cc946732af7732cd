//! The standard story of a contact, from the first apply to the end of its deletion, told to every
//! cloud that the documentation allows: each answer to each open question, one at a time and many
//! at once. In each the story ends alike, after few calls and few writes, on clocks that are moved.

mod acts;
mod cases;
mod stage;
mod story;

use std::time::{Duration, Instant};

use futures::{StreamExt as _, stream};

use self::acts::{Act, Deed};
use self::cases::Case;
use self::stage::{POLL, Place, STEP, Stage};
use self::story::Story;

/// The clocks are moved so often by the time of a poll, and then by longer steps.
const SHORT_STEPS: u32 = 8;
const LONG_STEP: Duration = Duration::from_mins(2);

/// A step of those that wait for hours. The cloud takes no call that was signed a quarter of an hour
/// ago.
const WAITING_STEP: Duration = Duration::from_mins(14);

/// What an act may take on the clocks. Much less is needed; more means that nothing moves on.
const AN_ACT_TAKES: Duration = Duration::from_mins(30);

/// How many combinations of answers are told to.
const COMBINATIONS: u64 = 40;
const COMBINATIONS_OF_FULL: u64 = 200;

#[tokio::test(flavor = "multi_thread")]
async fn the_standard_story_ends_alike_whatever_the_cloud_answers_to_what_is_not_documented() {
    let mut cases = vec![Case::assumed()];
    if let Ok(answer) = std::env::var("MCO_ANSWER") {
        cases.extend(Case::each().into_iter().filter(|case| case.answers == [&*answer]));
        assert_eq!(cases.len(), 2, "there is no such answer");
    } else if let Ok(seed) = std::env::var("MCO_SEED") {
        cases.push(combination(seed.parse().unwrap()));
    } else {
        let full = std::env::var("MCO_TEST").is_ok_and(|level| level == "full");
        let seeds = 1..=if full { COMBINATIONS_OF_FULL } else { COMBINATIONS };
        println!("each answer by itself, and the combinations of MCO_SEED={seeds:?}");
        cases.extend(Case::each());
        cases.extend(seeds.map(combination));
    }
    play(cases, acts::standard()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn owners_who_take_days_are_asked_once_a_day_whatever_the_cloud_answers() {
    let about_messages = ["A7", "A9", "A10 ", "A13 ", "A16", "A23", "A30"];
    let is_about =
        |case: &Case| about_messages.iter().any(|number| case.answers[0].starts_with(number));
    let mut cases = vec![Case::assumed()];
    cases.extend(Case::each().into_iter().filter(is_about));
    play(cases, acts::slow()).await;
}

/// A cloud that does not read what it is told does nothing; that is a case for itself.
fn combination(seed: u64) -> Case {
    Case::thrown(seed, |answer, others| {
        let apart = |pair: &[&str; 2]| {
            pair.contains(&answer) && others.iter().any(|other| pair.contains(other))
        };
        answer == "A1 form ignored" || acts::APART.iter().any(|(pair, _)| apart(pair))
    })
}

/// Tells the story to all of them at once, act by act.
async fn play(cases: Vec<Case>, acts: Vec<Act>) {
    let stage = Stage::new().await;
    let all = cases.len();
    let mut stories: Vec<Story> =
        stream::iter(cases).map(|case| Story::begin(&stage, case)).buffered(8).collect().await;
    let mut failures = Vec::new();
    for act in &acts {
        let begun = Instant::now();
        let mark = stage.cluster.audit().mark().unwrap();
        stream::iter(&mut stories).for_each_concurrent(16, |story| story.play(&stage, act)).await;
        stage.settles(&places(&stories)).await;
        let (mut steps, mut walked) = (0, Duration::ZERO);
        if let Deed::Wait(by) = act.deed {
            while walked < by {
                let step = WAITING_STEP.min(by.saturating_sub(walked));
                stage.step(&places(&stories), step).await;
                (steps, walked) = (steps + 1, walked + step);
            }
        }
        let (first, until) = (steps, walked + AN_ACT_TAKES);
        let mut ended = false;
        while !ended && walked < until {
            // Once more after the end: what has ended stays as it is, and nothing is done for it.
            ended = stories.iter().all(|it| it.ended(&stage).is_ok());
            let by = if ended || steps < first + SHORT_STEPS { STEP } else { LONG_STEP };
            stage.step(&places(&stories), by).await;
            (steps, walked) = (steps + 1, walked + by);
        }
        let polls = usize::try_from(u64::from(steps) + begun.elapsed().as_secs() / POLL.as_secs());
        let polls = polls.unwrap();
        let stored = stage.writes(mark);
        let mut most = story::Costs::default();
        stories.retain_mut(|story| {
            let stored = stored.get(&story.place.name).map_or(&[][..], Vec::as_slice);
            let told = story.ended(&stage).and_then(|()| story.costs(stored, polls, walked));
            let case = &story.case;
            told.map(|costs| most.raise(costs))
                .map_err(|why| {
                    println!("{}: under {case}: {why}", act.name);
                    failures.push(format!("{}: under {case}", act.name));
                })
                .is_ok()
        });
        let told = stories.len();
        stories.retain(Story::goes_on);
        let (seconds, minutes) = (begun.elapsed().as_secs_f64(), walked.as_secs_f64() / 60.0);
        println!(
            "{seconds:5.1} s, {minutes:4.1} min on the clocks: {}, told {} times; at most {most:?}",
            act.name, told
        );
    }
    assert!(failures.is_empty(), "{} of {all}:\n{}", failures.len(), failures.join("\n"));
}

fn places(stories: &[Story]) -> Vec<&Place> {
    stories.iter().map(|story| &story.place).collect()
}
