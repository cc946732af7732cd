//! What the cloud's documentation leaves open, A1 to A33: each has one place in the operator that
//! says what is believed, and a switch of the simulator that says the opposite.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use directory_simulator::Switches;
use serde_json::Value;

/// How many there are.
const COUNT: usize = 33;

/// Those that stand in no place of the operator, and why.
const WITHOUT_PLACE: &[(usize, &str)] = &[
    (2, "no date of the cloud is read"),
    (16, "a message is sent again when its time has come, however long its link lives"),
    (33, "only the code that came is looked at, whichever others there might have been"),
];

/// Those that no switch of the simulator turns, and why.
const WITHOUT_SWITCH: &[(usize, &str)] =
    &[(3, "a figure: the quota `email_length_max`"), (8, "a figure: the simulator's throttle")];

#[test]
fn each_assumption_stands_in_one_place_of_the_operator() {
    let mut places: BTreeMap<usize, Vec<String>> = BTreeMap::new();
    for file in files(&root().join("src")) {
        let text = fs::read_to_string(&file).unwrap();
        for (line, text) in text.lines().enumerate() {
            for number in marked(text) {
                let name = file.strip_prefix(root()).unwrap().display();
                places.entry(number).or_default().push(format!("{name}:{}", line + 1));
            }
        }
    }
    let wrong: Vec<_> = (1..=COUNT)
        .filter_map(|number| {
            let without = WITHOUT_PLACE.iter().any(|(it, _)| *it == number);
            let found = places.remove(&number).unwrap_or_default();
            let problem = match (found.as_slice(), without) {
                ([_], false) | ([], true) => return None,
                ([], false) => "has no place `Unverified (A…)`, and no reason why".to_owned(),
                (found, true) => format!("needs no place, and has {found:?}"),
                (found, false) => format!("has more than one place: {found:?}"),
            };
            Some(format!("A{number} {problem}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(places.is_empty(), "there are no such assumptions: {places:?}");
}

#[test]
fn each_assumption_has_a_switch_and_each_switch_is_turned() {
    let text = fs::read_to_string(root().join("tests/simulator/src/switches.rs")).unwrap();
    let whole = text.split("pub struct Switches {").nth(1).unwrap();
    let fields = whole.split("\n}").next().unwrap();
    let has_switch = |number: usize| fields.contains(&format!("/// A{number}: "));
    let wrong: Vec<_> = (1..=COUNT)
        .filter(|number| has_switch(*number) == WITHOUT_SWITCH.iter().any(|(it, _)| it == number))
        .collect();
    assert!(wrong.is_empty(), "a switch, or a reason why not, for {wrong:?}");

    let values = |switches: &Switches| serde_json::to_value(switches).unwrap();
    let assumed = values(&Switches::default());
    let all: Vec<Value> = Switches::each().iter().map(|(_, it)| values(it)).collect();
    for (switch, setting) in assumed.as_object().unwrap() {
        let settings: Vec<_> =
            all.iter().map(|it| &it[switch]).filter(|it| *it != setting).collect();
        assert!(!settings.is_empty(), "`Switches::each` never turns `{switch}`");
    }
    // What has names has a list of them: each must be turned to.
    for (switch, names) in named(&text) {
        let turned = |name: &&String| all.iter().any(|it| it[&switch] == name.as_str());
        let missing: Vec<_> = names.iter().filter(|name| !turned(name)).collect();
        assert!(missing.is_empty(), "`Switches::each` never turns `{switch}` to {missing:?}");
    }
}

#[test]
fn marks_are_found_and_nothing_else() {
    assert_eq!(marked("/// Unverified (A6, A31): what is said"), [6, 31]);
    assert_eq!(marked("// the answer (A6) is Unverified"), [0; 0]);
    assert_eq!(marked("/// Unverified: how long it takes (A6)"), [0; 0]);
    let text = "pub struct Switches {\n    pub a_b: Ab,\n}\nAb {\n    /// Doc.\n    One,\n    TwoThree,\n}";
    assert_eq!(named(text)["a_b"], ["one", "two-three"]);
}

/// The numbers behind `Unverified` in a line.
fn marked(line: &str) -> Vec<usize> {
    let marks = line.split("Unverified (").skip(1).filter_map(|rest| rest.split(')').next());
    marks
        .flat_map(|inside| inside.split(','))
        .filter_map(|number| number.trim().strip_prefix('A')?.parse().ok())
        .collect()
}

/// The settings of each switch that is a list of names, as they are written in JSON.
fn named(text: &str) -> BTreeMap<String, Vec<String>> {
    let fields = text.split("pub struct Switches {").nth(1).unwrap();
    let fields = fields.split("\n}").next().unwrap().lines();
    let fields = fields.filter_map(|line| line.trim().strip_prefix("pub ")?.split_once(": "));
    let mut all = BTreeMap::new();
    for (field, kind) in fields {
        let kind = kind.trim_end_matches(',');
        let Some(list) = text.split(&format!("{kind} {{\n")).nth(1) else { continue };
        let words = list.split('}').next().unwrap().lines().map(str::trim);
        let words = words.filter(|line| !line.starts_with("///") && line.ends_with(','));
        let names = words.map(|word| kebab(word.trim_end_matches(','))).collect();
        all.insert(field.to_owned(), names);
    }
    all
}

fn kebab(word: &str) -> String {
    let mut text = String::new();
    for (at, letter) in word.char_indices() {
        if letter.is_uppercase() && at > 0 {
            text.push('-');
        }
        text.extend(letter.to_lowercase());
    }
    text
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_path_buf()
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|it| it == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}
