//! Each command that people may copy from README and `docs/`: run here if it needs nothing, checked
//! word by word against the program, the definitions and the chart if it needs a cluster, or marked
//! by the line above its block with what else it needs: `<!-- needs … -->`.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use message_contact_operator::api;
use serde_json::Value;

use crate::architecture::root;

/// A command as a page has it.
#[derive(Debug)]
struct Documented {
    /// The page, and the line in it.
    place: String,
    /// The stages of a pipe, each as its words.
    stages: Vec<Vec<String>>,
    /// The files that the page shows as a block of YAML whose first line is a comment with the name.
    shown: Vec<(String, String)>,
}

/// What stands between fences.
#[derive(Debug, Clone, Copy)]
enum Block {
    Commands { is_marked: bool },
    Other,
}

/// The pages whose commands are held to this.
fn pages() -> Vec<PathBuf> {
    let mut pages = vec![root().join("README.md")];
    let folders = ["docs", "docs/gitops", "examples/gitops", "charts/message-contact-operator"];
    for folder in folders {
        let entries = fs::read_dir(root().join(folder)).unwrap().map(|it| it.unwrap().path());
        pages.extend(entries.filter(|path| path.extension().is_some_and(|it| it == "md")));
    }
    pages.sort();
    pages
}

/// The commands of a page that no marker takes out, and how many one does.
fn commands(place: &str, text: &str) -> (Vec<Documented>, usize) {
    let mut shown = shown_files(text);
    let (mut found, mut marked) = (Vec::new(), 0);
    let mut above = "";
    let mut block: Option<Block> = None;
    let mut unfinished = String::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        match (block, line.strip_prefix("```")) {
            (None, Some(language)) if ["sh", "console", "bash", "shell"].contains(&language) => {
                let is_marked = above.starts_with("<!-- needs ");
                block = Some(Block::Commands { is_marked });
            }
            (None, Some(_)) => block = Some(Block::Other),
            (Some(_), Some(_)) => block = None,
            (Some(Block::Other) | None, None) => {}
            (Some(Block::Commands { is_marked }), None) => {
                let line = without_comment(line);
                if let Some(begun) = line.strip_suffix('\\') {
                    unfinished += begun;
                    continue;
                }
                let whole = std::mem::take(&mut unfinished) + line;
                if whole.trim().is_empty() {
                    continue;
                }
                if is_marked {
                    marked += 1;
                    continue;
                }
                if let Some((_, file)) = whole.split_once(" > ") {
                    // What a command has written is there for the next one.
                    shown.push((file.trim().to_owned(), String::new()));
                }
                let stages = whole.split(" | ").map(words).collect();
                let place = format!("{place}:{}", number + 1);
                found.push(Documented { place, stages, shown: shown.clone() });
            }
        }
        if !line.is_empty() {
            above = line;
        }
    }
    (found, marked)
}

fn without_comment(line: &str) -> &str {
    let line = line.strip_prefix("$ ").unwrap_or(line);
    if line.starts_with('#') { "" } else { line.split(" #").next().unwrap_or_default().trim_end() }
}

fn shown_files(text: &str) -> Vec<(String, String)> {
    let blocks = text.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next());
    let named = blocks.filter_map(|block| {
        let name = block.trim_start().strip_prefix("# ")?.lines().next()?.trim();
        let indent = block.len() - block.trim_start_matches(' ').len();
        let lines = block.lines().map(|line| line.get(indent..).unwrap_or_default());
        Some((name.to_owned(), lines.collect::<Vec<_>>().join("\n")))
    });
    named.collect()
}

/// A command as a shell takes it apart: quotes keep what is in them.
fn words(command: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for letter in command.chars() {
        match (quote, letter) {
            (None, '\'' | '"') => quote = Some(letter),
            (Some(open), letter) if letter == open => quote = None,
            (None, ' ') => words.extend(word.take()),
            (_, letter) => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    words
}

type Checked<T = ()> = Result<T, String>;

impl Documented {
    /// Checks all stages; the output of one that is run is the input of the next.
    fn check(&self) -> Checked {
        let mut input = None;
        for stage in &self.stages {
            let words: Vec<_> = stage.iter().map(String::as_str).collect();
            input = match words.as_slice() {
                ["message-contact-operator", rest @ ..] => self.ours(rest, input)?,
                ["kubectl", rest @ ..] => self.kubectl(rest).map(|()| None)?,
                ["helm", rest @ ..] => helm(rest).map(|()| None)?,
                ["cargo", rest @ ..] => cargo(rest).map(|()| None)?,
                ["just", rest @ ..] => just(rest).map(|()| None)?,
                // Nothing of ours, and on every machine: one writes what the next stage reads, the
                // other picks lines. Which folder kustomize renders is the reader's; the sample
                // repository has a story.
                ["printf", _, ..] | ["grep", _] | ["kustomize", "build", _] => None,
                [program, ..] => {
                    return Err(format!("nobody runs {program}: mark it with <!-- needs … -->"));
                }
                [] => return Err("no command".to_owned()),
            };
        }
        Ok(())
    }

    /// Our own program: run if it needs neither cluster nor cloud, else asked whether it takes these
    /// arguments.
    fn ours(&self, arguments: &[&str], input: Option<Vec<u8>>) -> Checked<Option<Vec<u8>>> {
        let offline = ["crds", "validate", "completions"];
        let is_offline = arguments.first().is_some_and(|verb| offline.contains(verb));
        let mut command = Command::new(env!("CARGO_BIN_EXE_message-contact-operator"));
        command.current_dir(root()).stdin(Stdio::piped()).stdout(Stdio::piped());
        command.stderr(Stdio::piped());
        // What follows `>` is a file of the reader's.
        let arguments: Vec<_> = arguments.iter().copied().take_while(|word| *word != ">").collect();
        let folder = crate::process::scratch("documented");
        fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
        for argument in &arguments {
            match self.shown.iter().find(|(name, _)| name == argument) {
                Some((name, text)) if is_offline => {
                    fs::write(folder.join(name), text).map_err(|error| error.to_string())?;
                    command.arg(folder.join(name));
                }
                _ => drop(command.arg(argument)),
            }
        }
        if !is_offline {
            command.arg("--help");
        }
        let mut child = command.spawn().map_err(|error| error.to_string())?;
        let mut pipe = child.stdin.take().ok_or("no input")?;
        // One that reads nothing may be gone already.
        let _ = pipe.write_all(&input.unwrap_or_default());
        drop(pipe);
        let output = child.wait_with_output().map_err(|error| error.to_string())?;
        let _ = fs::remove_dir_all(folder);
        if output.status.success() {
            return Ok(is_offline.then_some(output.stdout));
        }
        let said = [output.stdout, output.stderr].concat();
        Err(format!("{}: {}", output.status, String::from_utf8_lossy(&said)))
    }

    /// What kubectl would refuse, or would not find: verbs, kinds, conditions, fields, files.
    fn kubectl(&self, arguments: &[&str]) -> Checked {
        let mut plain = Vec::new();
        let mut flags = Vec::new();
        let mut rest = arguments.iter().copied();
        while let Some(word) = rest.next() {
            if !word.starts_with('-') || word == "-" {
                plain.push(word);
            } else if [
                "-n",
                "-f",
                "-o",
                "-p",
                "-l",
                "--namespace",
                "--type",
                "--context",
                "--patch-file",
                "--field-selector",
            ]
            .contains(&word)
            {
                flags.push((word, rest.next().ok_or(format!("{word} needs a value"))?));
            } else {
                flags.push(word.split_once('=').unwrap_or((word, "")));
            }
        }
        for (flag, value) in &flags {
            self.flag(flag, value)?;
        }
        let (verb, plain) = plain.split_first().ok_or("no verb")?;
        match (*verb, plain) {
            ("apply" | "diff", []) | ("create", ["namespace", _] | ["secret", "generic", _]) => {
                Ok(())
            }
            ("get" | "describe" | "delete" | "wait", [kinds, ..]) => {
                kinds.split(',').try_for_each(|kind| known_kind(kind).map(drop))
            }
            ("explain", [path]) => explained(path),
            ("label" | "annotate", [kind, _, pairs @ ..]) => {
                known_kind(kind)?;
                pairs.iter().try_for_each(|pair| known_key(pair))
            }
            ("patch", [kind, _]) => {
                let patch = flags.iter().find(|(flag, _)| *flag == "-p").ok_or("no -p")?.1;
                let patch = serde_json::from_str(patch).map_err(|it| format!("{patch}: {it}"))?;
                fits(&patch, &known_kind(kind)?.ok_or(format!("{kind}: only ours are checked"))?)
            }
            _ => Err(format!("kubectl {verb} {plain:?} is not known here")),
        }
    }

    fn flag(&self, flag: &str, value: &str) -> Checked {
        match flag {
            "-f" if value == "-" => Ok(()),
            "-f" => {
                let is_shown = self.shown.iter().any(|(name, _)| name == value);
                let is_there = root().join(value).exists();
                if is_shown || is_there { Ok(()) } else { Err(format!("no file {value}")) }
            }
            "--for" => {
                let condition = value.strip_prefix("condition=").ok_or(value)?;
                let page = fs::read_to_string(root().join("docs/conditions.md")).unwrap();
                let is_known = page.contains(&format!("\n| `{condition}` | "));
                if is_known { Ok(()) } else { Err(format!("no condition {condition}")) }
            }
            "--field-selector" => {
                let field = value.split('=').next().unwrap_or_default();
                let is_known = definitions().iter().any(|crd| {
                    let fields = crd["spec"]["versions"][0]["selectableFields"].to_string();
                    fields.contains(&format!("\".{field}\""))
                });
                if is_known { Ok(()) } else { Err(format!("{field} is not selectable")) }
            }
            "-n" | "--namespace" | "-o" | "-p" | "--context" | "--type" | "--server-side"
            | "--force-conflicts" | "--dry-run" | "--all-namespaces" | "--all" | "--overwrite"
            | "--timeout" | "--from-literal" | "--from-env-file" => Ok(()),
            _ => Err(format!("the flag {flag} is not known here")),
        }
    }
}

fn definitions() -> Vec<Value> {
    api::crds().iter().map(|crd| serde_json::to_value(crd).unwrap()).collect()
}

/// The definition of a kind by any of its names; `None` for kinds of Kubernetes.
fn known_kind(name: &str) -> Checked<Option<Value>> {
    let name = name.split('/').next().unwrap_or_default();
    let of_kubernetes = ["namespace", "secret", "serviceaccount", "configmap", "lease"];
    if of_kubernetes.contains(&name) || name == "message-contacts" {
        return Ok(None);
    }
    let is_named = |crd: &Value| {
        let names = &crd["spec"]["names"];
        let short = names["shortNames"].as_array().cloned().unwrap_or_default();
        names["singular"] == name || names["plural"] == name || short.contains(&Value::from(name))
    };
    let found = definitions().into_iter().find(is_named);
    found.map(Some).ok_or(format!("no kind {name}"))
}

fn schema(crd: &Value) -> &Value {
    &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
}

fn explained(path: &str) -> Checked {
    let (kind, fields) = path.split_once('.').unwrap_or((path, ""));
    let crd = known_kind(kind)?.ok_or("only ours are checked")?;
    let mut here = schema(&crd);
    for field in fields.split('.').filter(|it| !it.is_empty()) {
        here = here["properties"].get(field).ok_or(format!("{path}: no field {field}"))?;
    }
    Ok(())
}

/// Each field of a merge patch is one of the kind.
fn fits(patch: &Value, crd: &Value) -> Checked {
    fn walk(patch: &Value, schema: &Value, above: &str) -> Checked {
        for (key, value) in patch.as_object().into_iter().flatten() {
            let at = format!("{above}.{key}");
            let field = schema["properties"].get(key).ok_or(format!("no field {at}"))?;
            let values = field["enum"].as_array();
            if values.is_some_and(|values| !value.is_null() && !values.contains(value)) {
                return Err(format!("{at} is never {value}"));
            }
            walk(value, field, &at)?;
        }
        Ok(())
    }
    walk(patch, schema(crd), "")
}

/// `key=value` of a label or an annotation that something looks at.
fn known_key(pair: &str) -> Checked {
    let key = pair.split('=').next().unwrap_or_default();
    let known = [
        api::REQUESTED_AT,
        "message-contacts.dev/resendRequestedAt",
        "pod-identity.alibabacloud.com/injection",
        "pod-identity.alibabacloud.com/role-name",
        "contacts",
    ];
    if known.contains(&key) { Ok(()) } else { Err(format!("nothing looks at {key}")) }
}

/// Charts are there, and values are values of the chart.
fn helm(arguments: &[&str]) -> Checked {
    let verbs = ["install", "upgrade", "uninstall", "test", "template", "get"];
    let verb = arguments.first().ok_or("no verb")?;
    if !verbs.contains(verb) {
        return Err(format!("helm {verb} is not known here"));
    }
    for chart in arguments.iter().filter(|word| word.starts_with("charts/")) {
        if !root().join(chart).join("Chart.yaml").is_file() {
            return Err(format!("no chart {chart}"));
        }
    }
    let text = fs::read_to_string(root().join("charts/message-contact-operator/values.yaml"));
    let values: Value = serde_saphyr::from_str(&text.unwrap()).unwrap();
    for pair in arguments.windows(2).filter(|pair| pair[0] == "--set").map(|pair| pair[1]) {
        let path = pair.split('=').next().unwrap_or_default();
        let pointer = format!("/{}", path.replace('.', "/"));
        values.pointer(&pointer).ok_or(format!("the chart has no value {path}"))?;
    }
    Ok(())
}

/// Aliases, packages and what CI runs.
fn cargo(arguments: &[&str]) -> Checked {
    let read = |name: &str| fs::read_to_string(root().join(name)).unwrap();
    let whole = format!("cargo {}", arguments.join(" "));
    let is_alias = arguments.first().is_some_and(|verb| {
        read(".cargo/config.toml").lines().any(|line| line.starts_with(&format!("{verb} = ")))
    });
    let package = arguments.windows(2).find(|pair| pair[0] == "--package").map(|pair| pair[1]);
    let is_package = package.is_some_and(|package| {
        let manifests = ["tests/cluster", "tests/simulator", "tests/demo"];
        let line = format!("name = \"{package}\"");
        manifests.iter().any(|folder| read(&format!("{folder}/Cargo.toml")).contains(&line))
    });
    let is_run_by_ci = read(".ci/run").contains(&whole);
    let installs = whole == "cargo install --locked --path .";
    if is_alias || is_package || is_run_by_ci || installs {
        Ok(())
    } else {
        Err(format!("nothing runs {whole}"))
    }
}

fn just(arguments: &[&str]) -> Checked {
    let verb = arguments.first().copied().unwrap_or("default");
    let recipes = fs::read_to_string(root().join("justfile")).unwrap();
    let is_recipe = |line: &str| line.split([' ', ':']).next() == Some(verb) && line.contains(':');
    if recipes.lines().any(is_recipe) { Ok(()) } else { Err(format!("no recipe {verb}")) }
}

#[test]
fn every_command_in_the_documentation_is_run_or_checked_or_says_what_it_needs() {
    let (mut checked, mut marked, mut wrong) = (0, 0, Vec::new());
    let mut programs = BTreeSet::new();
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap();
        let place = page.strip_prefix(root()).unwrap().display().to_string();
        let (found, left_out) = commands(&place, &text);
        marked += left_out;
        for command in found {
            checked += 1;
            programs.extend(command.stages.iter().filter_map(|stage| stage.first().cloned()));
            if let Err(why) = command.check() {
                let stages: Vec<_> = command.stages.iter().map(|stage| stage.join(" ")).collect();
                wrong.push(format!("{}: {}\n    {why}", command.place, stages.join(" | ")));
            }
        }
    }
    println!("{checked} commands checked, {marked} marked; programs: {programs:?}");
    assert!(wrong.is_empty(), "{} of {checked}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(checked > 50, "{checked}");
}

/// Each of these would have been copied in vain.
#[test]
fn a_command_that_would_not_work_is_found() {
    for (command, why) in [
        ("rm -rf /", "nobody runs rm"),
        ("message-contact-operator validate -f examples/nowhere.yaml", "exit status: 1"),
        ("message-contact-operator run --allow-everything", "--allow-everything"),
        ("message-contact-operator bark", "bark"),
        ("kubectl get contacts", "no kind contacts"),
        ("kubectl apply -f nowhere.yaml", "no file nowhere.yaml"),
        ("kubectl apply --server-sied -f examples/contacts.yaml", "--server-sied"),
        ("kubectl wait mc/desk --for=condition=Raedy", "no condition Raedy"),
        ("kubectl explain mc.spec.emial", "no field emial"),
        (
            r#"kubectl patch mc desk --type merge -p '{"spec":{"suspended":true}}'"#,
            "no field .spec.suspended",
        ),
        (r#"kubectl patch mc desk -p '{"spec":{"deletionPolicy":"Keep"}}'"#, "is never \"Keep\""),
        (r#"kubectl patch mc desk -p '{"spec":{'"#, "EOF"),
        ("kubectl annotate mc desk message-contacts.dev/requestAt=now", "nothing looks at"),
        ("kubectl get mc --field-selector spec.emailAddress=a", "not selectable"),
        ("kubectl frobnicate mc", "not known here"),
        ("helm install x charts/nowhere", "no chart charts/nowhere"),
        ("helm install x charts/message-contact-operator --set replica=1", "no value replica"),
        ("cargo dmeo", "nothing runs cargo dmeo"),
        ("just dmeo", "no recipe dmeo"),
        ("message-contact-operator crds | kubectl aply -f -", "kubectl aply"),
    ] {
        let page = format!("Do this:\n\n```sh\n{command}\n```\n");
        let (found, marked) = commands("page", &page);
        assert_eq!((found.len(), marked), (1, 0), "{command}");
        let refused = found[0].check().expect_err(command);
        assert!(refused.contains(why), "{command}: {refused}");
        let marked_page = format!("<!-- needs luck -->\n{page}").replace("Do this:\n\n", "");
        assert_eq!(commands("page", &marked_page).1, 1, "{command}");
    }
}
