//! What must never be shown. The operator of this process logs everything into memory, and every
//! stand looks there, in the Events and in the statuses for the values that its story used.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use directory_simulator::ACCESS_KEY_SECRET;
use message_contact_operator::telemetry::{self, LogFormat};
use serde_json::Value;

static LOG: Mutex<Vec<u8>> = Mutex::new(Vec::new());

fn log() -> MutexGuard<'static, Vec<u8>> {
    LOG.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Logs into memory what `--log trace` would print; once a process.
pub fn listen() {
    static LISTENING: OnceLock<()> = OnceLock::new();
    LISTENING.get_or_init(|| {
        let subscriber = telemetry::subscriber(LogFormat::Text, "trace", false, || Memory).unwrap();
        tracing::dispatcher::set_global_default(subscriber).unwrap();
    });
}

struct Memory;

impl io::Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        log().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The values of one story.
#[derive(Debug)]
pub struct Private {
    values: Mutex<Values>,
    /// Where in the log the story begins.
    since: usize,
}

#[derive(Debug, Default)]
struct Values {
    /// Shown nowhere.
    secrets: BTreeSet<String>,
    /// Shown nowhere; of contacts.
    of_contacts: BTreeSet<String>,
    /// Names of contacts: shown in fields of the status that are made for them.
    names: BTreeSet<String>,
}

impl Private {
    /// Begins here. The access key of the simulators is private to every story.
    pub fn new() -> Self {
        let private = Self { values: Mutex::default(), since: log().len() };
        private.add(ACCESS_KEY_SECRET);
        private
    }

    fn values(&self) -> MutexGuard<'_, Values> {
        self.values.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An address, a number, a secret or a token that is used from now on.
    pub fn add(&self, value: &str) {
        self.values().secrets.insert(value.to_owned());
    }

    /// What is private in the manifest of a contact.
    pub fn add_manifest(&self, manifest: &Value) {
        for field in ["emailAddress", "phoneNumber"] {
            if let Some(value) = manifest["spec"][field].as_str().filter(|it| it.len() > 5) {
                self.values().of_contacts.insert(value.to_owned());
            }
        }
        if let Some(name) = manifest["spec"]["name"].as_str() {
            self.values().names.insert(name.to_owned());
        }
    }

    /// What was logged since the story began.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&log()[self.since..]).into_owned()
    }

    /// The parts of a text that show a private value, for a person to look at.
    pub fn shown_in(&self, text: &str) -> Vec<String> {
        let Values { secrets, of_contacts, .. } = &*self.values();
        secrets.iter().chain(some(of_contacts)).filter_map(|value| find(text, value)).collect()
    }

    /// The parts of a text that show a contact's name.
    pub fn names_shown_in(&self, text: &str) -> Vec<String> {
        some(&self.values().names).filter_map(|name| find_word(text, name)).collect()
    }
}

/// All of them, or some of very many: a story with a thousand contacts has them all alike.
fn some(values: &BTreeSet<String>) -> impl Iterator<Item = &String> {
    const ENOUGH: usize = 50;
    values.iter().step_by(values.len() / ENOUGH + 1)
}

/// Where a text shows a value, in any form that a value is written in on its way to the cloud or
/// to the apiserver.
pub fn find(text: &str, value: &str) -> Option<String> {
    let encoded = percent_encoded(value);
    let forms = [
        percent_encoded(&encoded),
        encoded,
        BASE64_STANDARD.encode(value),
        // A phone number without its country code.
        match value.rsplit_once('-') {
            Some((_, number)) if !value.contains('@') => number.to_owned(),
            Some(_) | None => value.to_owned(),
        },
        value.to_owned(),
    ];
    let long_enough = forms.iter().filter(|form| form.len() > 5);
    long_enough.into_iter().find_map(|form| Some(around(text, text.find(form.as_str())?)))
}

/// Where a text shows a word: not as a part of a longer one.
pub fn find_word(text: &str, word: &str) -> Option<String> {
    let is_alone = |at: &usize| {
        let before = text[..*at].chars().next_back();
        let after = text[*at + word.len()..].chars().next();
        !before.into_iter().chain(after).any(char::is_alphanumeric)
    };
    let found = text.match_indices(word).map(|(at, _)| at).find(is_alone)?;
    Some(around(text, found))
}

fn around(text: &str, at: usize) -> String {
    let from = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
    text[from..].lines().next().unwrap_or_default().chars().take(600).collect()
}

/// As in the form of a request, and in the text that is signed.
fn percent_encoded(value: &str) -> String {
    let mut encoded = String::new();
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}
