//! Files that are made from the code, and documents that must agree with it. What is made is
//! compared, and written anew with `MCO_REWRITE=1`, by the same test. The definitions below
//! `crds/` have their test beside `cli::crds::render`.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use message_contact_operator::cli::validate;
use message_contact_operator::controller::{
    ContactState, SECRETS_PACE, SECRETS_READ_AGAIN_AFTER, SECRETS_READ_EVERY,
};
use message_contact_operator::directory::Priority;
use message_contact_operator::domain::call::FailureClass;
use message_contact_operator::domain::contact::{Field, MessageType};
use message_contact_operator::domain::ledger::Ledger;
use message_contact_operator::domain::policy::Enforcement;
use message_contact_operator::domain::verdict::Reason;
use message_contact_operator::domain::verification::VerificationPolicy;
use message_contact_operator::telemetry::METRICS;

use crate::architecture::{root, sources};
use crate::golden;

#[test]
fn the_guide_to_verification_has_the_limits_of_the_code() {
    let guide = fs::read_to_string(root().join("docs/verification.md")).unwrap();
    let hours = VerificationPolicy::RESEND_AFTER.as_hours();
    for row in [
        format!("| `verification.maxSends`, {} |", VerificationPolicy::MAX_SENDS),
        format!("| `verification.resendAfter`, {hours} hours |"),
        format!("| messages to one address or number in a day | {} |", Ledger::TARGET_DAY_MAX),
        format!(
            "| messages for one contact in a day, to all its values together | {} |",
            Ledger::CONTACT_DAY_MAX
        ),
        format!("That is remembered for {} hours.", Ledger::KEPT_FOR.as_hours()),
        format!("| messages of a directory in a day | {}, of the 100", Ledger::DAY_MAX),
    ] {
        assert!(guide.contains(&row), "docs/verification.md lacks `{row}`");
    }
}

#[test]
fn the_guide_to_values_from_secrets_has_the_times_of_the_code() {
    let guide = fs::read_to_string(root().join("docs/values-from-secrets.md")).unwrap();
    let (every, pace) = (SECRETS_READ_EVERY.as_millis(), SECRETS_PACE.as_millis());
    assert_eq!(every, 60_000, "the guide says: once a minute");
    assert_eq!(pace, 50, "the guide says: a twentieth of a second");
    for words in [
        format!("noticed within {} seconds,", every / 1_000),
        format!("at most {} Secrets a second:", 1_000 / pace),
        format!("with more than {} in use it takes", every / pace),
        format!("looked for again after {} seconds,", SECRETS_READ_AGAIN_AFTER.as_secs()),
    ] {
        assert!(guide.contains(&words), "docs/values-from-secrets.md lacks `{words}`");
    }
}

#[test]
fn the_table_of_reasons_is_what_the_code_says() {
    check("docs/conditions.md", &conditions());
}

#[test]
fn the_page_of_metrics_is_what_the_code_says() {
    check("docs/metrics.md", &metrics());
}

const OF_METRICS: &str = "\
# Metrics

<!-- Made from src/telemetry/catalogue.rs by tests/it/generated.rs; MCO_REWRITE=1 writes it anew. -->

`run` serves them at `--metrics-addr` as `/metrics`: in OpenMetrics for clients that ask for it, as
Prometheus does, else in the text format of Prometheus. [What to be woken for](alerts.md).

No label holds a name, an address or an id of a contact. What is gone is not shown any more: the
series of a ResourceDirectory or a ContactPolicy end with the object. Counters begin anew when the
process does. Every replica shows the gauges that come from the cluster, so that a query takes the
`max` or `min` of them. Policies are judged, and calls are sent and counted, by the one that leads.
";

fn metrics() -> String {
    let mut page = OF_METRICS.to_owned();
    page.push_str(
        "\n| metric | type | unit | labels | meaning |\n| --- | --- | --- | --- | --- |\n",
    );
    for metric in METRICS {
        let labels: Vec<_> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        let unit = metric.unit.as_ref().map_or("", |unit| unit.as_str());
        let (name, kind, labels) = (metric.name, metric.kind.as_str(), labels.join(", "));
        writeln!(page, "| `{name}` | {kind} | {unit} | {labels} | {} |", metric.meaning).unwrap();
    }
    page.push_str("\n## Labels\n\n| label | values |\n| --- | --- |\n");
    let words = |words: Vec<&str>| {
        words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
    };
    let classes = FailureClass::ALL.map(|class| format!("`{}`: {}", class.word(), class.as_str()));
    let states =
        ContactState::ALL.map(|state| format!("`{}`: {}", state.as_str(), state.meaning()));
    for (label, values) in [
        ("directory", "the name of a ResourceDirectory".to_owned()),
        ("policy", "the name of a ContactPolicy".to_owned()),
        ("rule", "the name of a rule of its `coverage`".to_owned()),
        ("action", "the operation as the API spells it, such as `UpdateMessageContact`".to_owned()),
        ("outcome", format!("`ok`, or why not: {}", classes.join("; "))),
        ("state", states.join("; ")),
        ("reason", "of the condition `Ready`: [conditions.md](conditions.md)".to_owned()),
        ("priority", words(Priority::ALL.map(Priority::as_str).to_vec())),
        ("channel", words(vec!["email", "phone"])),
        ("field", words(Field::ALL.map(Field::as_str).to_vec())),
        ("enforcement", words(Enforcement::ALL.map(Enforcement::as_str).to_vec())),
        ("message_type", words(MessageType::ALL.iter().map(|it| it.as_str()).collect())),
    ] {
        writeln!(page, "| `{label}` | {values} |").unwrap();
    }
    page.push_str("\n## Queries\n");
    for metric in METRICS {
        writeln!(page, "\n`{}`:\n\n```promql\n{}\n```", metric.name, metric.example).unwrap();
    }
    page
}

#[test]
fn every_label_is_explained() {
    let page = metrics();
    for label in METRICS.iter().flat_map(|metric| metric.labels) {
        assert!(page.contains(&format!("\n| `{label}` | ")), "{label}");
    }
}

/// People paste it; Argo CD's own tree has the scripts one by one.
#[test]
fn the_patch_for_argo_cd_has_the_scripts_that_stand_beside_it() {
    let name = "charts/message-contact-operator/gitops/argocd/argocd-cm-patch.yaml";
    let patch = argocd_patch();
    check(name, &patch);
    // What Argo CD reads out of it is what the harness runs.
    let parsed: serde_json::Value = serde_saphyr::from_str(&patch).unwrap();
    for kind in argocd_kinds() {
        let of = |what: &str| {
            let key = format!("resource.customizations.{what}.message-contacts.dev_{kind}");
            parsed["data"][key].as_str().unwrap().to_owned()
        };
        assert_eq!(of("health"), argocd_script(&format!("{kind}/health.lua")));
        let actions: serde_json::Value = serde_saphyr::from_str(&of("actions")).unwrap();
        let discovery = argocd_script(&format!("{kind}/actions/discovery.lua"));
        assert_eq!(actions["discovery.lua"], discovery);
        for action in actions["definitions"].as_array().unwrap() {
            let name = action["name"].as_str().unwrap();
            let script = argocd_script(&format!("{kind}/actions/{name}/action.lua"));
            assert_eq!(action["action.lua"], script);
            assert!(discovery.contains(&format!("actions[\"{name}\"]")), "{kind}: {name}");
        }
    }
}

const ARGOCD: &str =
    "charts/message-contact-operator/gitops/argocd/resource_customizations/message-contacts.dev";

fn argocd_script(name: &str) -> String {
    fs::read_to_string(root().join(ARGOCD).join(name)).unwrap()
}

fn argocd_kinds() -> Vec<String> {
    names_in(root().join(ARGOCD), "health.lua")
}

/// The folders in a folder that have such a file, in order.
fn names_in(folder: PathBuf, file: &str) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let with_file = entries.filter(|entry| entry.join(file).is_file());
    let name = |path: PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
    let mut names: Vec<_> = with_file.map(name).collect();
    names.sort();
    names
}

fn argocd_patch() -> String {
    let mut patch = "\
# Made from the scripts below resource_customizations/ by tests/it/generated.rs.
#
#   kubectl -n argocd patch configmap argocd-cm --type merge --patch-file argocd-cm-patch.yaml
data:
"
    .to_owned();
    for kind in argocd_kinds() {
        let key = |what: &str| {
            format!("  resource.customizations.{what}.message-contacts.dev_{kind}: |\n")
        };
        patch += &key("health");
        indent(&mut patch, 4, &argocd_script(&format!("{kind}/health.lua")));
        patch += &key("actions");
        patch += "    discovery.lua: |\n";
        indent(&mut patch, 6, &argocd_script(&format!("{kind}/actions/discovery.lua")));
        patch += "    definitions:\n";
        for name in names_in(root().join(ARGOCD).join(&kind).join("actions"), "action.lua") {
            writeln!(patch, "    - name: {name}\n      action.lua: |").unwrap();
            indent(&mut patch, 8, &argocd_script(&format!("{kind}/actions/{name}/action.lua")));
        }
    }
    patch
}

fn indent(into: &mut String, by: usize, text: &str) {
    for line in text.lines() {
        let by = if line.is_empty() { 0 } else { by };
        writeln!(into, "{:by$}{line}", "").unwrap();
    }
}

/// Compares a file of the repository with what it should hold, or writes it.
#[track_caller]
pub(crate) fn check(name: &str, wanted: &str) {
    let path = root().join(name);
    if std::env::var_os("MCO_REWRITE").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, wanted).unwrap();
    }
    let stored = fs::read_to_string(&path).unwrap_or_default();
    assert!(stored == wanted, "{name} is out of date; run this test with MCO_REWRITE=1");
}

const INTRODUCTION: &str = "\
# Conditions and reasons

<!-- Made from src/domain/verdict.rs by tests/it/generated.rs; MCO_REWRITE=1 writes it anew. -->

Every object tells where it stands in `status.conditions`. A condition has a `status`, one `reason`
from the closed list below, and a `message` for people.

| condition | of | `True` promises |
| --- | --- | --- |
| `Synced` | MessageContact | the directory has what the spec says |
| `EmailVerified` | MessageContact | the owner of the mailbox has confirmed it |
| `PhoneVerified` | MessageContact | the owner of the phone has confirmed it; absent without a phone |
| `Bound` | MessageContact | it is bound to exactly `members`; absent without `members` |
| `PolicyCompliant` | MessageContact | every ContactPolicy that speaks of it is met; absent when none does. Under `enforcement: Deny` a violation is also why `Synced` is not `True`; under `Warn` and `Audit` `Ready` does not wait for it |
| `Ready` | all | nothing is left to do: the first condition that is not met gives its reason; of a policy: it was evaluated. With `readyWhen: Synced` it does not wait for the two verifications |
| `Compliant` | ContactPolicy | everything that the policy demands holds; `Unknown` while that cannot be told, or nothing matches |
| `Throttled` | ResourceDirectory | the API asked to slow down; absent while it never did |
| `Reconciling` | all | not ready, and the operator or a person it waits for is at work; present only while `True` |
| `Stalled` | all | not ready, and waiting alone will not help: it ends when this object, or one that it depends on, is changed by somebody; present only while `True` |

How a value comes to be verified: [verification.md](verification.md).
";

/// The page of reasons: first those that this version gives, then those that are reserved.
fn conditions() -> String {
    let used = used_reasons();
    let (given, reserved): (Vec<_>, Vec<_>) =
        Reason::ALL.iter().partition(|reason| used.contains(&reason.as_str().to_owned()));
    let mut page = INTRODUCTION.to_owned();
    page.push_str("\n## Reasons\n\n");
    table(&mut page, &given);
    page.push_str("\n## Reserved reasons\n\nNothing in this version gives these.\n\n");
    table(&mut page, &reserved);
    page
}

fn table(page: &mut String, reasons: &[&Reason]) {
    page.push_str(
        "| reason | meaning | what to do | sets `Stalled` |\n| --- | --- | --- | --- |\n",
    );
    for reason in reasons {
        let cell = |text: &str| text.replace('|', "\\|");
        let stalls = if reason.stalls() { "yes" } else { "" };
        let (meaning, advice) = (cell(reason.meaning()), cell(reason.advice()));
        writeln!(page, "| `{reason}` | {meaning} | {advice} | {stalls} |").unwrap();
    }
}

/// The reasons that occur outside their own list.
fn used_reasons() -> Vec<String> {
    reasons_in(|source| source != "domain/verdict.rs")
}

/// The reasons that occur in those files of `src`.
fn reasons_in(is_asked: impl Fn(&str) -> bool) -> Vec<String> {
    let asked = sources().into_iter().filter(|source| is_asked(&source.name));
    asked
        .flat_map(|source| {
            let places = source.code.split("Reason::").skip(1).map(|rest| {
                rest.chars().take_while(|char| char.is_alphanumeric()).collect::<String>()
            });
            places.collect::<Vec<_>>()
        })
        .collect()
}

/// The reasons of a contact occur in golden plans, or stories wait for them; those of a directory
/// have stories.
#[test]
fn each_reason_is_reached_by_a_test() {
    let all = |named: Vec<String>| {
        Reason::ALL.iter().map(ToString::to_string).filter(move |it| named.contains(it))
    };
    let of_directories = ["controller/resource_directory.rs", "controller/keys.rs"];
    let named = reasons_in(|source| of_directories.contains(&source));
    let (planned, contacts, directories) = (golden::reasons(), awaited(false), awaited(true));
    let is_reached =
        |it: &String| [&planned, &contacts, &directories].iter().any(|by| by.contains(it));
    let missing: Vec<_> = all(used_reasons()).filter(|it| !is_reached(it)).collect();
    assert!(missing.is_empty(), "no test reaches {missing:?}");
    let missing: Vec<_> = all(named).filter(|it| !directories.contains(it)).collect();
    assert!(missing.is_empty(), "of a directory no story reaches {missing:?}");
}

/// The reasons that stories wait for or assert, of directories or of contacts.
fn awaited(of_directories: bool) -> BTreeSet<String> {
    let texts = stories().into_iter().map(|path| {
        let text = fs::read_to_string(path).unwrap();
        let lines = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        lines.collect::<Vec<_>>().join("\n")
    });
    texts.flat_map(|text| awaited_in(&text, of_directories)).collect()
}

const CONDITIONS: [&str; 10] = [
    "Bound",
    "Compliant",
    "EmailVerified",
    "PhoneVerified",
    "PolicyCompliant",
    "Ready",
    "Reconciling",
    "Stalled",
    "Synced",
    "Throttled",
];

/// `becomes(…, "Synced", "InSync")` waits for a reason, and `assert…(…["reason"]…, "InSync")` has
/// seen it. What names a directory is about one.
fn awaited_in(text: &str, of_directories: bool) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for statement in text.split(';') {
        if let Some((before, waits)) = statement.split_once("becomes(") {
            let about = before.ends_with("directory_") || waits.contains("director");
            let literals = literals(waits);
            let pairs = literals.windows(2).filter(|it| CONDITIONS.contains(&it[0].as_str()));
            found.extend(pairs.filter(|_| about == of_directories).map(|it| it[1].clone()));
        }
        let asserts = statement.rfind("assert").map(|at| &statement[at..]);
        if let Some((seen, said)) = asserts.and_then(|it| it.split_once("[\"reason\"]")) {
            let about = seen.contains("director");
            let denies = said.contains("!=") || seen.starts_with("assert_ne");
            found.extend(literals(said).into_iter().filter(|_| !denies && about == of_directories));
        }
    }
    found
}

fn literals(text: &str) -> Vec<String> {
    text.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn a_reason_is_only_reached_by_a_wait_or_an_assertion() {
    let text = r#"
        stand.becomes("desk", "Synced", "InSync").await;
        let reason = "Updating";
        stand.directory_becomes("Throttled", "Throttled").await;
        assert_eq!(condition_of(&object, "Ready")["reason"], "Drifted");
        assert_ne!(condition_of(&object, "Ready")["reason"], "NameTaken");
        becomes(&stand.directories(), &second, "Ready", "Connected").await;
        let taken = condition_of(&object, "Ready")["reason"] == "NameClaimed";
    "#;
    assert_eq!(awaited_in(text, false), ["Drifted", "InSync"].map(str::to_owned).into());
    assert_eq!(awaited_in(text, true), ["Connected", "Throttled"].map(str::to_owned).into());
}

/// The files of the stories: all but this one and what reads golden plans.
fn stories() -> Vec<PathBuf> {
    let mut folders = vec![root().join("tests/it")];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if !["generated.rs", "golden.rs"].iter().any(|name| path.ends_with(name)) {
                files.push(path);
            }
        }
    }
    files
}

#[test]
fn every_reason_explains_itself_in_whole_sentences() {
    for reason in Reason::ALL {
        for text in [reason.meaning(), reason.advice()] {
            assert!(text.ends_with('.') && !text.contains("  "), "{reason}: {text:?}");
        }
    }
}

/// A row of the page about being stuck: what is seen, and the stories that live through it.
fn ways_out() -> Vec<(String, Vec<String>)> {
    let page = fs::read_to_string(root().join("docs/stuck.md")).unwrap();
    let rows = page.lines().filter(|line| line.starts_with("| ")).map(|line| {
        line.trim_matches('|').split(" | ").map(|cell| cell.trim().to_owned()).collect::<Vec<_>>()
    });
    let rows = rows.filter(|cells| cells[0] != "you see" && !cells[0].starts_with("---"));
    rows.map(|cells| {
        let [seen, why, what_to_do, stories] = cells.as_slice() else { panic!("{cells:?}") };
        assert!(!why.is_empty() && !what_to_do.is_empty(), "{seen}: a cell is empty");
        let stories = stories.split(", ").map(|story| story.trim_matches('`').to_owned());
        (seen.clone(), stories.collect())
    })
    .collect()
}

#[test]
fn each_way_out_of_being_stuck_has_a_story() {
    let mut missing = Vec::new();
    let rows = ways_out();
    assert!(rows.len() > 40, "{}", rows.len());
    for (seen, stories) in rows {
        for story in stories {
            let (file, name) = story.split_once("::").unwrap_or((&story, ""));
            let path = root().join("tests/it").join(file).with_extension("rs");
            let text = fs::read_to_string(path).unwrap_or_default();
            let is_test = |text: &str| {
                text.split("#[tokio::test").skip(1).any(|test| {
                    let head = test.split_once("async fn ").map_or("", |(_, head)| head);
                    head.split('(').next() == Some(name)
                })
            };
            if !is_test(&text) {
                missing.push(format!("{seen}: {story}"));
            }
        }
    }
    assert!(missing.is_empty(), "no such story: {missing:#?}");
}

#[test]
fn each_reason_that_stalls_has_a_way_out() {
    let seen: Vec<_> = ways_out().into_iter().map(|(seen, _)| seen).collect();
    let used = used_reasons();
    let stalls = Reason::ALL
        .iter()
        .filter(|reason| reason.stalls() && used.contains(&reason.as_str().to_owned()));
    let missing: Vec<_> = stalls
        .filter(|reason| seen.iter().all(|seen| !seen.starts_with(&format!("`{reason}`"))))
        .collect();
    assert!(missing.is_empty(), "docs/stuck.md has no row for {missing:?}");
}

#[test]
fn the_manifests_that_people_copy_are_valid() {
    let pages = ["README.md", "docs/policies.md", "docs/first-ten-minutes.md"].map(|page| {
        let page = fs::read_to_string(root().join(page)).unwrap();
        blocks(&page, "yaml").join("---\n")
    });
    let manifests = pages.join("---\n");
    let paths = ["-".into(), root().join("examples")];
    let mut told = Vec::new();
    let summary = validate::run(&paths, &mut manifests.as_bytes(), &mut told).unwrap();
    let told = String::from_utf8(told).unwrap();
    assert!(summary.is_clean() && summary.checked > 2, "{told}");
}

#[test]
fn the_readme_shows_the_commands_that_ci_runs() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let script = fs::read_to_string(root().join(".ci/run")).unwrap();
    let block = blocks(&readme, "sh").pop().unwrap();
    let commands: Vec<_> =
        block.lines().map(|line| line.split("  #").next().unwrap_or_default().trim()).collect();
    assert!(commands.len() > 5, "{commands:?}");
    for command in commands {
        let is_run = script.lines().any(|line| line.trim().ends_with(command));
        assert!(is_run, ".ci/run does not call `{command}`");
    }
}

#[test]
fn links_in_documents_lead_to_files() {
    let adr = root().join("docs/adr");
    let records: Vec<PathBuf> =
        fs::read_dir(&adr).unwrap().map(|entry| entry.unwrap().path()).collect();
    let pages = ["README", "ARCHITECTURE", "CHANGELOG", "CONTRIBUTING", "SECURITY"];
    let pages = pages.map(|page| root().join(page).with_extension("md"));
    let mut pages = pages.to_vec();
    for folder in ["docs", "docs/gitops", "examples/gitops"] {
        let entries = fs::read_dir(root().join(folder)).unwrap().map(|it| it.unwrap().path());
        pages.extend(entries.filter(|path| path.extension().is_some_and(|it| it == "md")));
    }
    let mut wrong = Vec::new();
    for page in pages.iter().chain(&records) {
        let text = fs::read_to_string(page).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let (file, part) = link.split_once('#').unwrap_or((link, ""));
            let target =
                if file.is_empty() { page.clone() } else { page.parent().unwrap().join(file) };
            let has_part = || part.is_empty() || anchors(&target).iter().any(|it| it == part);
            let leads_somewhere = link.starts_with("https://") || (target.exists() && has_part());
            if !leads_somewhere {
                wrong.push(format!("{}: {link}", page.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    let map = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    for record in records {
        let name = record.file_name().unwrap().to_string_lossy().into_owned();
        assert!(map.contains(&name), "ARCHITECTURE.md does not list the decision {name}");
    }
}

/// What links may name in a page: its headings, as they are shown on the web.
fn anchors(page: &Path) -> Vec<String> {
    let text = fs::read_to_string(page).unwrap_or_default();
    let headings = text.lines().filter_map(|line| line.strip_prefix('#'));
    headings
        .map(|heading| {
            let heading = heading.trim_start_matches('#').trim().to_lowercase();
            let kept = |char: &char| char.is_alphanumeric() || [' ', '-', '_'].contains(char);
            heading.chars().filter(kept).collect::<String>().replace(' ', "-")
        })
        .collect()
}

/// The texts between fences of that kind. Those within a list lose its indentation.
fn blocks(page: &str, kind: &str) -> Vec<String> {
    let fence = format!("```{kind}\n");
    let pieces: Vec<_> = page.split(&fence).collect();
    let indents = pieces.iter().map(|before| before.len() - before.trim_end_matches(' ').len());
    let texts = pieces.iter().skip(1).filter_map(|rest| rest.split("```").next());
    let without = |(text, indent): (&str, usize)| {
        let line = |line: &str| line.get(indent..).unwrap_or_default().to_owned() + "\n";
        text.lines().map(line).collect::<String>()
    };
    texts.zip(indents).map(without).collect()
}
