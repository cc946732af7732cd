//! What may stand where. Each rule is a function from a text to what is wrong with it, and each
//! has a bad snippet beside it that proves that it can fail.
//!
//! The rules read text, not syntax: comments and texts in quotes are blanked, what is compiled for
//! tests only is left out, and the rest is taken as words.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Who may import whom. A module not named on the right may not appear after `crate::`. A new
/// arrow needs a decision record (`docs/adr`). `cli` may import everything.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("domain", &[]),
    ("plan", &["domain"]),
    ("api", &["domain"]),
    ("cloud", &["domain", "uptime"]),
    ("directory", &["domain", "cloud", "telemetry", "clock", "uptime"]),
    (
        "controller",
        &["domain", "plan", "api", "directory", "lease", "telemetry", "clock", "uptime"],
    ),
    ("lease", &["uptime"]),
    ("telemetry", &[]),
    ("clock", &[]),
    ("uptime", &[]),
];

/// Words that do not occur in a module, and why.
const ABSENT: &[(&str, &[&str], &str)] = &[
    ("domain", OUTSIDE, "values do nothing"),
    ("plan", OUTSIDE, "deciding neither waits nor asks"),
    ("api", OUTSIDE, "parsing and rendering are pure"),
    ("domain", FORMATS, "wire forms and API versions change without it"),
    ("plan", FORMATS, "wire forms and API versions change without it"),
    ("domain", EFFECTS, "the same input gives the same value"),
    ("plan", EFFECTS, "the same input gives the same plan"),
];

/// What reaches outside. `Client` is kube's and reqwest's.
const OUTSIDE: &[&str] = &["async", "await", "tokio", "reqwest", "Client"];
/// Forms of storage and transport.
const FORMATS: &[&str] =
    &["serde", "serde_json", "Serialize", "Deserialize", "kube", "k8s_openapi", "schemars"];
/// What differs from run to run, and what leaves a trace.
const EFFECTS: &[&str] = &["tracing", "uuid", "rand", "std::fs", "std::net", "std::thread"];

/// The compiler forbids it as well; this covers a crate that forgets to inherit the lint.
const UNSAFE: &[&str] = &["unsafe"];

/// Words that occur in few files of `src` only.
struct Confined {
    words: &'static [&'static str],
    /// The files, each with the reason that they may occur in it.
    to: &'static [(&'static str, &'static str)],
}

const CONFINED: &[Confined] = &[
    Confined {
        words: &["reveal"],
        to: &[
            ("api/parse.rs", "a spec becomes checked values; the intent's name comes back"),
            ("cli/export.rs", "manifests that hold the values are what is asked for"),
            ("cloud/credentials/sts.rs", "an external id goes into the form that asks for keys"),
            ("cloud/sign.rs", "keys sign a call"),
            ("cloud/wire.rs", "values become parameters, and are kept out of error texts"),
            ("plan/hash.rs", "values go into a keyed hash, which cannot be reversed"),
        ],
    },
    Confined {
        words: &["Api<Secret>", "Api::<Secret>"],
        to: &[
            ("cli/doctor/cluster.rs", "access keys, by their Secret's name"),
            ("cli/run.rs", "the key of the hashes, by its name"),
            ("controller/keys.rs", "access keys, by their Secret's name"),
            ("controller/secrets.rs", "values of contacts, by their Secret's name"),
        ],
    },
    Confined {
        words: &["Timestamp::now", "Zoned::now", "SystemTime::now", "Utc::now", "Local::now"],
        to: &[("clock.rs", "everybody else takes the time from it, or as an argument")],
    },
    Confined {
        words: &["Instant::now"],
        to: &[
            ("cloud/mod.rs", "how long a call took is logged, never decided upon"),
            (
                "directory/worker.rs",
                "how long calls took and waited is counted, never decided upon",
            ),
        ],
    },
    Confined {
        words: &["uptime::now"],
        to: &[
            ("cloud/timely.rs", "a request is sent in time or not at all"),
            ("cloud/transport.rs", "how long an answer may take"),
            ("controller/report.rs", "how long a write may take"),
            ("lease/election.rs", "when a lease was seen, asked for and renewed"),
            ("lease/mod.rs", "whether it is held"),
        ],
    },
    Confined {
        words: &["env::var", "env::var_os", "env::vars", "env::vars_os", "env::{"],
        to: &[("cli/mod.rs", "the one function that reads it; all others are given a lookup")],
    },
];

#[test]
fn modules_name_only_what_stands_on_their_right() {
    let mut wrong = Vec::new();
    for source in sources() {
        let Some(module) = source.module.first() else { continue };
        let found = imports(module, source.module.len(), &source.code);
        wrong.extend(found.into_iter().map(|what| format!("src/{}:{what}", source.name)));
    }
    nothing(&wrong);
}

#[test]
fn every_module_has_a_row_in_the_table() {
    let rows: BTreeSet<_> = MAY_IMPORT.iter().map(|(module, _)| (*module).to_owned()).collect();
    let lib = fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let missing: Vec<_> = modules_of(&code(&lib))
        .into_iter()
        .filter(|module| module != "cli" && !rows.contains(module))
        .collect();
    assert!(missing.is_empty(), "add to MAY_IMPORT, with a decision record: {missing:?}");
}

#[test]
fn what_is_absent_on_purpose_stays_absent() {
    let mut wrong = Vec::new();
    for source in sources() {
        for (module, words, why) in ABSENT {
            if source.module.first().is_some_and(|first| first == module) {
                let found = occurrences(&source.code, words);
                wrong.extend(
                    found.into_iter().map(|what| format!("src/{}:{what}: {why}", source.name)),
                );
            }
        }
    }
    nothing(&wrong);
}

#[test]
fn clear_text_clock_and_environment_are_touched_in_few_files() {
    let sources = sources();
    let mut wrong = Vec::new();
    for Confined { words, to } in CONFINED {
        for source in &sources {
            let found = occurrences(&source.code, words);
            let allowed = to.iter().any(|(file, _)| *file == source.name);
            if allowed && found.is_empty() {
                wrong.push(format!("src/{}: needs no exception for {words:?}", source.name));
            }
            if !allowed {
                wrong.extend(found.iter().map(|what| format!("src/{}:{what}", source.name)));
            }
        }
        for (file, why) in *to {
            if sources.iter().all(|source| source.name != *file) {
                wrong.push(format!("src/{file} is gone, and its exception with it: {why}"));
            }
        }
    }
    nothing(&wrong);
}

#[test]
fn no_crate_of_the_workspace_is_unsafe() {
    let mut wrong = Vec::new();
    for path in files(&root()).iter().filter(|path| has_extension(path, "rs")) {
        let found = occurrences(&blank(&fs::read_to_string(path).unwrap(), true), UNSAFE);
        wrong.extend(found.into_iter().map(|what| format!("{}:{what}", shown(path))));
    }
    nothing(&wrong);
}

#[test]
fn the_simulator_takes_nothing_from_the_operator() {
    let folder = root().join("tests/simulator");
    let manifest = fs::read_to_string(folder.join("Cargo.toml")).unwrap();
    let mut wrong = foreign_dependencies(&manifest);
    for path in files(&folder).iter().filter(|path| has_extension(path, "rs")) {
        let source = fs::read_to_string(path).unwrap();
        let found = occurrences(&blank(&source, true), &["message_contact_operator", "#[path"]);
        wrong.extend(found.into_iter().map(|what| format!("{}:{what}", shown(path))));
    }
    nothing(&wrong);
}

#[test]
fn the_cluster_knows_no_contact() {
    let folder = root().join("tests/cluster");
    let mut wrong = Vec::new();
    for path in files(&folder) {
        let text = fs::read_to_string(&path).unwrap();
        let text = if has_extension(&path, "rs") { blank(&text, false) } else { text };
        let found = lines_with(&text, "contact");
        wrong.extend(found.into_iter().map(|line| format!("{}:{line}", shown(&path))));
    }
    nothing(&wrong);
}

#[test]
fn no_file_speaks_of_paths_of_a_machine() {
    let checkout = root();
    let mut places = vec![["/ho", "me/"].concat(), ["/Us", "ers/"].concat()];
    // A folder that every machine has says nothing about this one.
    let everywhere = |place: &Path| {
        let common = ["tmp", "usr", "var", "opt", "etc", "srv", "mnt", "run", "dev"];
        place.parent().is_none_or(|above| {
            above.parent().is_none() && common.iter().any(|name| place.ends_with(name))
        })
    };
    let home = std::env::var("HOME").ok().map(PathBuf::from);
    let here = [Some(checkout.clone()), checkout.parent().map(Path::to_path_buf), home];
    for place in here.into_iter().flatten().filter(|place| !everywhere(place)) {
        places.push(format!("{}/", place.display()));
    }
    let mut wrong = Vec::new();
    for path in files(&checkout) {
        // What is not text names nothing to a reader.
        let Ok(text) = fs::read_to_string(&path) else { continue };
        let found = machine_paths(&text, &places);
        wrong.extend(found.into_iter().map(|what| format!("{}:{what}", shown(&path))));
    }
    nothing(&wrong);
}

/// A source file below `src`, without what is compiled for tests only.
pub(crate) struct Source {
    /// The path below `src`.
    pub(crate) name: String,
    /// Its module path; empty for the roots of the library and the program.
    module: Vec<String>,
    /// Its text, comments and texts in quotes blanked.
    pub(crate) code: String,
}

/// All of `src` that users run.
pub(crate) fn sources() -> Vec<Source> {
    let folder = root().join("src");
    let paths = files(&folder);
    let read = |path: &PathBuf| blank(&fs::read_to_string(path).unwrap(), true);
    let mut only_tests: Vec<PathBuf> = Vec::new();
    for path in &paths {
        let inside = match path.file_stem().and_then(|stem| stem.to_str()).unwrap() {
            "mod" | "lib" | "main" => path.parent().unwrap().to_path_buf(),
            _ => path.with_extension(""),
        };
        only_tests.extend(test_modules(&read(path)).iter().map(|name| inside.join(name)));
    }
    let is_test = |path: &PathBuf| {
        only_tests.iter().any(|test| path.with_extension("") == *test || path.starts_with(test))
    };
    let sources: Vec<_> = paths
        .iter()
        .filter(|path| has_extension(path, "rs") && !is_test(path))
        .map(|path| {
            let below = path.strip_prefix(&folder).unwrap().to_str().unwrap();
            let name = below.replace(std::path::MAIN_SEPARATOR, "/");
            Source { module: module_path(&name), code: without_tests(&read(path)), name }
        })
        .collect();
    assert!(sources.len() > 20, "the sources were not found");
    sources
}

/// `plan/create.rs` is `plan::create`, `plan/mod.rs` is `plan`, `lib.rs` is the root.
fn module_path(name: &str) -> Vec<String> {
    let parts = name.trim_end_matches(".rs").split('/');
    parts.filter(|part| !matches!(*part, "mod" | "lib" | "main")).map(str::to_owned).collect()
}

/// The repository.
pub(crate) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// All files below a folder, in order. What is built, git's own and links are left out.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let (kind, name) = (entry.file_type().unwrap(), entry.file_name());
        let is_cache = entry.path().join("CACHEDIR.TAG").is_file();
        if kind.is_dir() && !is_cache && name != "target" && name != ".git" {
            found.extend(files(&entry.path()));
        } else if kind.is_file() && name != ".git" {
            found.push(entry.path());
        }
    }
    found.sort();
    found
}

fn has_extension(path: &Path, wanted: &str) -> bool {
    path.extension().is_some_and(|extension| extension == wanted)
}

fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

fn nothing(wrong: &[String]) {
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

/// What a program's text says: comments, texts in quotes and tests taken out.
pub(crate) fn code(source: &str) -> String {
    without_tests(&blank(source, true))
}

/// Comments replaced by spaces, and with `quotes` what stands in quotes as well. Lines stay lines.
fn blank(source: &str, quotes: bool) -> String {
    let chars: Vec<char> = source.chars().collect();
    let at = |index: usize| chars.get(index).copied().unwrap_or('\0');
    let mut out = String::with_capacity(source.len());
    let mut index = 0;
    while index < chars.len() {
        let begun = index;
        let is_word_start = index == 0 || !is_word(at(index - 1));
        let (end, hidden) = match (at(index), at(index + 1)) {
            ('/', '/') => (line_end(&chars, index), true),
            ('/', '*') => (comment_end(&chars, index), true),
            ('"', _) => (text_end(&chars, index), quotes),
            ('r' | 'b' | 'c', _) if is_word_start && raw_text_end(&chars, index).is_some() => {
                (raw_text_end(&chars, index).unwrap_or(index + 1), quotes)
            }
            // A lifetime has no quote behind its first letter.
            ('\'', '\\') => (quote_end(&chars, index + 3), quotes),
            ('\'', _) if at(index + 2) == '\'' => (index + 3, quotes),
            _ => (index + 1, false),
        };
        index = end.clamp(begun + 1, chars.len());
        for char in &chars[begun..index] {
            out.push(if hidden && *char != '\n' { ' ' } else { *char });
        }
    }
    out
}

fn is_word(char: char) -> bool {
    char.is_alphanumeric() || char == '_'
}

fn line_end(chars: &[char], from: usize) -> usize {
    chars[from..].iter().position(|char| *char == '\n').map_or(chars.len(), |line| from + line)
}

fn comment_end(chars: &[char], from: usize) -> usize {
    let (mut depth, mut index) = (0_usize, from);
    while index < chars.len() {
        match (chars[index], chars.get(index + 1)) {
            ('/', Some('*')) => (depth, index) = (depth + 1, index + 2),
            ('*', Some('/')) if depth == 1 => return index + 2,
            ('*', Some('/')) => (depth, index) = (depth - 1, index + 2),
            _ => index += 1,
        }
    }
    index
}

fn text_end(chars: &[char], from: usize) -> usize {
    let mut index = from + 1;
    while index < chars.len() {
        match chars[index] {
            '\\' => index += 2,
            '"' => return index + 1,
            _ => index += 1,
        }
    }
    index
}

/// The end of `r"…"`, `r#"…"#`, `br"…"`, `b"…"` and `c"…"`; `None` if it is no text.
fn raw_text_end(chars: &[char], from: usize) -> Option<usize> {
    let mut index = from;
    while matches!(chars.get(index), Some('b' | 'c')) && index < from + 1 {
        index += 1;
    }
    if chars.get(index) == Some(&'"') {
        return Some(text_end(chars, index));
    }
    if chars.get(index) != Some(&'r') {
        return None;
    }
    let hashes = chars[index + 1..].iter().take_while(|char| **char == '#').count();
    let open = index + 1 + hashes;
    if chars.get(open) != Some(&'"') {
        return None;
    }
    let closes = |at: usize| {
        chars[at] == '"'
            && chars[at + 1..].iter().take(hashes).filter(|c| **c == '#').count() == hashes
    };
    (open + 1..chars.len()).find(|at| closes(*at)).map(|at| at + 1 + hashes)
}

fn quote_end(chars: &[char], from: usize) -> usize {
    (from..chars.len()).find(|index| chars[*index] == '\'').map_or(chars.len(), |end| end + 1)
}

/// Where what is compiled for tests only begins and ends, and its words.
fn test_items(code: &str) -> Vec<(usize, usize)> {
    let mut items = Vec::new();
    let mut from = 0;
    while let Some(begun) = code[from..].find("#[cfg(").map(|found| from + found) {
        let attribute = attribute_end(code, begun);
        let condition = words(&code[begun..attribute]);
        let has = |word: &str| condition.iter().any(|(found, _)| *found == word);
        from = attribute;
        if !has("test") || has("not") {
            continue;
        }
        let mut index = attribute;
        // Further attributes belong to it.
        loop {
            index += code[index..].len() - code[index..].trim_start().len();
            if !code[index..].starts_with("#[") {
                break;
            }
            index = attribute_end(code, index);
        }
        let mut depth = 0_i32;
        for (offset, char) in code[index..].char_indices() {
            match char {
                '{' | '(' | '[' => depth += 1,
                '}' | ')' | ']' => depth -= 1,
                _ => {}
            }
            if depth == 0 && matches!(char, '}' | ';') {
                from = index + offset + 1;
                items.push((begun, from));
                break;
            }
        }
    }
    items
}

fn attribute_end(code: &str, begun: usize) -> usize {
    let mut depth = 0_i32;
    for (offset, char) in code[begun..].char_indices() {
        match char {
            '[' => depth += 1,
            ']' if depth == 1 => return begun + offset + 1,
            ']' => depth -= 1,
            _ => {}
        }
    }
    code.len()
}

fn without_tests(code: &str) -> String {
    let mut out = String::with_capacity(code.len());
    let mut from = 0;
    for (begun, end) in test_items(code) {
        out.push_str(&code[from..begun]);
        out.extend(code[begun..end].chars().filter(|char| *char == '\n'));
        from = end;
    }
    out.push_str(&code[from..]);
    out
}

/// The modules in other files that are compiled for tests only.
fn test_modules(code: &str) -> Vec<String> {
    let items = test_items(code).into_iter().map(|(begun, end)| &code[begun..end]);
    items.filter(|item| item.ends_with(';')).flat_map(modules_of).collect()
}

/// The modules that a text declares.
fn modules_of(code: &str) -> Vec<String> {
    let words = words(code);
    words.windows(2).filter(|pair| pair[0].0 == "mod").map(|pair| pair[1].0.to_owned()).collect()
}

/// The words and signs of a text, each with its line; `::` is one sign.
fn words(code: &str) -> Vec<(&str, usize)> {
    let mut found = Vec::new();
    for (number, line) in code.lines().enumerate() {
        let mut rest = line;
        while let Some(first) = rest.chars().next() {
            let length = if is_word(first) {
                rest.find(|char| !is_word(char)).unwrap_or(rest.len())
            } else if rest.starts_with("::") {
                2
            } else {
                first.len_utf8()
            };
            let (word, behind) = rest.split_at(length);
            if !first.is_whitespace() {
                found.push((word, number + 1));
            }
            rest = behind;
        }
    }
    found
}

/// Where one of these words or paths stands. The definition of a function is no use of it.
fn occurrences(code: &str, needles: &[&str]) -> Vec<String> {
    let text = words(code);
    let mut found = Vec::new();
    for needle in needles {
        let wanted: Vec<&str> = words(needle).into_iter().map(|(word, _)| word).collect();
        for (index, window) in text.windows(wanted.len()).enumerate() {
            let fits = window.iter().map(|(word, _)| *word).eq(wanted.iter().copied());
            let is_definition = index > 0 && text[index - 1].0 == "fn";
            if fits && !is_definition {
                found.push(format!("{}: `{needle}`", window[0].1));
            }
        }
    }
    found
}

/// What a module names that it may not.
fn imports(module: &str, depth: usize, code: &str) -> Vec<String> {
    let Some((_, allowed)) = MAY_IMPORT.iter().find(|(row, _)| *row == module) else {
        return Vec::new();
    };
    let is_module = |name: &str| name == "cli" || MAY_IMPORT.iter().any(|(row, _)| *row == name);
    let text = words(code);
    let word = |index: usize| text.get(index).map_or("", |(word, _)| word);
    let mut wrong = Vec::new();
    let mut index = 0;
    while index < text.len() {
        let line = text[index].1;
        let mut named = Vec::new();
        let mut through_super = false;
        if word(index) == "crate" {
            match word(index + 1) {
                "::" => named = first_names(&text, index + 2),
                "as" => named.push("crate as"),
                _ => {}
            }
            index += 1;
        } else if word(index) == "super" {
            let mut steps = 0;
            while word(index) == "super" && word(index + 1) == "::" {
                (steps, index) = (steps + 1, index + 2);
            }
            through_super = true;
            if steps >= depth {
                named = first_names(&text, index);
            }
            index += usize::from(steps == 0);
        } else {
            index += 1;
        }
        for name in named {
            let reaches = !through_super || is_module(name);
            if reaches && name != module && !allowed.contains(&name) {
                wrong.push(format!("{line}: `{name}` may not be named by `{module}`"));
            }
        }
    }
    wrong
}

/// The first names of a path or of a group of paths that begins there.
fn first_names<'a>(text: &[(&'a str, usize)], from: usize) -> Vec<&'a str> {
    let Some((first, _)) = text.get(from) else { return Vec::new() };
    if *first != "{" {
        return vec![first];
    }
    let (mut depth, mut names) = (0_i32, Vec::new());
    for pair in text[from..].windows(2) {
        let (word, next) = (pair[0].0, pair[1].0);
        match word {
            "{" => depth += 1,
            "}" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            break;
        }
        if depth == 1 && matches!(word, "{" | ",") && next != "}" {
            names.push(next);
        }
    }
    names
}

/// Lines of a manifest's dependencies that lead to the operator or to any folder.
fn foreign_dependencies(manifest: &str) -> Vec<String> {
    let mut in_dependencies = false;
    let mut wrong = Vec::new();
    for (number, line) in manifest.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.starts_with('[') {
            in_dependencies = line.contains("dependencies");
        }
        if in_dependencies && (line.contains("message-contact-operator") || line.contains("path")) {
            wrong.push(format!("tests/simulator/Cargo.toml:{}: `{line}`", number + 1));
        }
    }
    wrong
}

fn lines_with(text: &str, word: &str) -> Vec<String> {
    let lines = text.lines().enumerate();
    lines
        .filter(|(_, line)| line.to_lowercase().contains(word))
        .map(|(number, line)| format!("{}: `{}`", number + 1, line.trim()))
        .collect()
}

/// Lines in which one of these places begins a path: it is not the end of a longer one.
fn machine_paths(text: &str, places: &[String]) -> Vec<String> {
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        for place in places {
            let begins = line.match_indices(place.as_str()).any(|(at, _)| {
                let before = line[..at].chars().next_back();
                before.is_none_or(|char| !is_word(char) && !".-/~*}>)$".contains(char))
            });
            if begins {
                found.push(format!("{}: `{place}`", number + 1));
            }
        }
    }
    found
}

/// The proofs that the rules can fail.
mod proofs {
    use super::*;

    #[track_caller]
    fn check(found: &[String], expected: &[&str]) {
        assert_eq!(found, expected);
    }

    #[test]
    fn comments_quotes_and_tests_are_no_code() {
        let source = r##"
            let a = 1; // crate::one
            /* crate::two /* nested */ crate::three */ let b = "crate::four \" crate::five";
            let c = r#"crate::six " crate::seven"#; let d = b"crate::eight";
            let e = ('"', '\'', '\u{22}'); fn f<'a>(g: &'a str) -> h { crate::nine }
            #[cfg(test)]
            #[expect(lint, reason = "crate::ten ]")]
            mod tests { fn i() { crate::eleven } }
            #[cfg(all(test, unix))]
            fn j() { [crate::twelve; 2]; }
            #[cfg(not(test))]
            fn k() { crate::thirteen }
            #[cfg(test)]
            mod l;
            crate::fourteen
        "##;
        let stripped = code(source);
        let text = words(&stripped);
        let named: Vec<_> = text
            .windows(3)
            .filter(|three| three[0].0 == "crate")
            .map(|three| (three[2].0, three[2].1))
            .collect();
        assert_eq!(named, [("nine", 5), ("thirteen", 12), ("fourteen", 15)]);
        assert_eq!(test_modules(&blank(source, true)), ["l"]);
        assert_eq!(stripped.lines().count(), source.lines().count());
    }

    #[test]
    fn a_new_arrow_is_found_however_it_is_written() {
        let wrong = "1: `api` may not be named by `plan`";
        for bad in [
            "use crate::api::GROUP;",
            "use crate::{domain::call::Call, api};",
            "use crate::{domain::{call, contact}, api::{GROUP}};",
            "let group = crate::api::GROUP;",
            "let group = super::super::api::GROUP;",
            "use super::super::{api, hash};",
        ] {
            check(&imports("plan", 2, bad), &[wrong]);
        }
        check(
            &imports("plan", 2, "use crate as root;"),
            &["1: `crate as` may not be named by `plan`"],
        );
        check(&imports("plan", 2, "use crate::*;"), &["1: `*` may not be named by `plan`"]);
        check(
            &imports("domain", 1, "use super::clock;"),
            &["1: `clock` may not be named by `domain`"],
        );
        for good in [
            "use crate::domain::call::Call; pub(crate) fn f() {} use crate::plan::hash;",
            "use super::{Input, api_version}; use super::hash::api;",
            "use std::{fmt, io};",
        ] {
            check(&imports("plan", 2, good), &[]);
        }
        check(&imports("cli", 1, "use crate::{api, plan, clock};"), &[]);
    }

    #[test]
    fn an_unknown_module_is_found() {
        assert_eq!(
            modules_of("pub mod domain; mod helpers; fn modern() {}"),
            ["domain", "helpers"]
        );
    }

    #[test]
    fn words_and_paths_are_found_and_near_matches_are_not() {
        check(&occurrences("async fn f() {}", OUTSIDE), &["1: `async`"]);
        check(&occurrences("\nuse kube::{Api, Client};", OUTSIDE), &["2: `Client`"]);
        check(&occurrences("fn f(client: ClientBug, asynchronous: bool) {}", OUTSIDE), &[]);
        check(&occurrences("#[derive(Serialize)]", FORMATS), &["1: `Serialize`"]);
        check(&occurrences("std::fs::read()", EFFECTS), &["1: `std::fs`"]);
        let rules: Vec<_> = CONFINED.iter().map(|rule| rule.words).collect();
        let [reveal, secrets, clock, instant, uptime, environment] = rules[..] else {
            panic!("a rule without a proof")
        };
        check(&occurrences("email.reveal()", reveal), &["1: `reveal`"]);
        check(&occurrences("map(PhoneNumber::reveal)", reveal), &["1: `reveal`"]);
        check(&occurrences("pub fn reveal(&self) -> &str { revealed }", reveal), &[]);
        check(&occurrences("let api: Api<Secret>;", secrets), &["1: `Api<Secret>`"]);
        check(&occurrences("Api::<Secret>::all(client)", secrets), &["1: `Api::<Secret>`"]);
        check(&occurrences("Api<Secrets>; Secret; Api::<Namespace>", secrets), &[]);
        check(&occurrences("jiff::Timestamp::now()", clock), &["1: `Timestamp::now`"]);
        check(&occurrences("std::time::SystemTime :: now()", clock), &["1: `SystemTime::now`"]);
        check(&occurrences("clock.now(); Timestamp::nowhere", clock), &[]);
        check(&occurrences("Instant::now()", instant), &["1: `Instant::now`"]);
        check(&occurrences("let now = uptime::now();", uptime), &["1: `uptime::now`"]);
        check(&occurrences("std::env::var_os(name)", environment), &["1: `env::var_os`"]);
        check(&occurrences("use std::env::{var};", environment), &["1: `env::{`"]);
        check(&occurrences("env!(\"X\"); env::args()", environment), &[]);
        check(&occurrences("unsafe { f() }", UNSAFE), &["1: `unsafe`"]);
        check(&occurrences("#![forbid(unsafe_code)]", UNSAFE), &[]);
    }

    #[test]
    fn a_dependency_on_the_operator_is_found() {
        let bad = "[package]\nname = \"x\"\n[dependencies]\nmessage-contact-operator.workspace = true\n\
                   [dev-dependencies]\nother = { path = \"../..\" } # why";
        let operator = "tests/simulator/Cargo.toml:4: `message-contact-operator.workspace = true`";
        let folder = "tests/simulator/Cargo.toml:6: `other = { path = \"../..\" }`";
        check(&foreign_dependencies(bad), &[operator, folder]);
        let good =
            "[package]\ndescription = \"message-contact-operator\"\n[dependencies]\nserde = \"1\"";
        check(&foreign_dependencies(good), &[]);
    }

    #[test]
    fn a_contact_in_the_cluster_is_found_save_in_comments() {
        let bad = blank("// a contact\nlet kind = \"MessageContact\";", false);
        check(&lines_with(&bad, "contact"), &["2: `let kind = \"MessageContact\";`"]);
    }

    #[test]
    fn a_path_of_a_machine_is_found_and_a_path_of_the_repository_is_not() {
        let places = ["/checkout/".to_owned(), "/src/".to_owned()];
        let found = |text| machine_paths(text, &places);
        check(
            &found("see `/checkout/main` or\nkept in /src/x"),
            &["1: `/checkout/`", "2: `/src/`"],
        );
        check(&found("tests/cluster/src/lib.rs, ../src/main.rs, https://example.com/src/"), &[]);
    }
}
