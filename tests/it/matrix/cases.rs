//! How the cloud answers the open questions: one answer at a time, and many at once.

use std::collections::BTreeMap;
use std::fmt;

use directory_simulator::Switches;
use serde_json::{Map, Value};

use crate::dice::Dice;

/// One way in which the cloud may be.
#[derive(Clone)]
pub struct Case {
    /// The answers that differ from what the operator assumes.
    pub answers: Vec<&'static str>,
    pub switches: Switches,
    /// What the dice were thrown with, if they were.
    pub seed: Option<u64>,
}

impl Case {
    /// Everything is as assumed.
    pub fn assumed() -> Self {
        Self { answers: Vec::new(), switches: Switches::default(), seed: None }
    }

    /// Everything is as assumed but one thing: every answer of every switch.
    pub fn each() -> Vec<Self> {
        let each = Switches::each().into_iter();
        each.map(|(answer, switches)| Self { answers: vec![answer], switches, seed: None })
            .collect()
    }

    /// About half of all switches are turned, each to any of its answers but those that `leaves_out`
    /// says, given the answers so far.
    pub fn thrown(seed: u64, leaves_out: impl Fn(&str, &[&'static str]) -> bool) -> Self {
        let assumed = fields(&Switches::default());
        let mut by_switch: BTreeMap<String, Vec<(&'static str, Value)>> = BTreeMap::new();
        for (answer, switches) in Switches::each() {
            let turned = fields(&switches).into_iter().find(|(name, it)| assumed[name] != *it);
            let (switch, setting) = turned.unwrap();
            by_switch.entry(switch).or_default().push((answer, setting));
        }
        let mut dice = Dice(seed);
        let (mut answers, mut all) = (Vec::new(), assumed);
        for (switch, settings) in by_switch {
            let (answer, setting) = dice.pick(&settings);
            if dice.percent(50) && !leaves_out(answer, &answers) {
                answers.push(answer);
                all.insert(switch, setting);
            }
        }
        let switches = serde_json::from_value(Value::Object(all)).unwrap();
        Self { answers, switches, seed: Some(seed) }
    }

    pub fn says(&self, answer: &str) -> bool {
        self.answers.contains(&answer)
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.seed, self.answers.as_slice()) {
            (Some(seed), answers) => write!(f, "MCO_SEED={seed} ({})", answers.join(", ")),
            (None, []) => f.write_str("as assumed"),
            (None, answers) => f.write_str(&answers.join(", ")),
        }
    }
}

fn fields(switches: &Switches) -> Map<String, Value> {
    match serde_json::to_value(switches) {
        Ok(Value::Object(fields)) => fields,
        other => panic!("switches are no object: {other:?}"),
    }
}
