//! Behaviour as a script: calls and what they answer, one a line.
//!
//! ```text
//! new zhang z@example.com 86-13800138000     AddMessageContact with a title and a message type
//! Get ContactId=$zhang -> /Contact/Status "Active"
//! Update ContactId=$zhang Title=Nobody -> 400 InvalidParameter.Title
//! ! confirm z@example.com                    something that is no call
//! ```

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::model::{Directory, Quotas, Tree};
use crate::switches::Switches;
use crate::wire::{self, Action, Parameters};
use crate::{Click, DeletionPlan, FailReason};

/// Runs a script on a fresh directory and compares every answer.
#[track_caller]
pub(super) fn check(turn: impl Fn(&mut Switches), script: &str) {
    let mut switches = Switches::default();
    turn(&mut switches);
    let mut stage = Stage::new(switches);
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
        stage.line(line);
    }
}

/// The same under the assumed answers.
#[track_caller]
pub(super) fn check_default(script: &str) {
    check(|_| {}, script);
}

pub(super) struct Stage {
    pub(super) directory: Directory,
    pub(super) now: Timestamp,
    ids: BTreeMap<String, String>,
}

impl Stage {
    pub(super) fn new(switches: Switches) -> Self {
        Self {
            directory: Directory::new(Tree::default(), Quotas::default(), switches),
            now: "2026-01-10T01:00:00Z".parse().expect("a time"),
            ids: BTreeMap::new(),
        }
    }

    #[track_caller]
    fn line(&mut self, line: &str) {
        if let Some(event) = line.strip_prefix("! ") {
            return self.event(event);
        }
        let (call, expected) = line.split_once(" -> ").unwrap_or((line, "OK"));
        let (status, body) = self.call(call);
        let outcome = if status == 200 {
            "OK".to_owned()
        } else {
            format!("{status} {}", body["Code"].as_str().unwrap_or("?"))
        };
        if expected.starts_with('/') {
            for expected in expected.split("; ") {
                let (pointer, value) = expected.split_once(' ').expect("a pointer and a value");
                let value: Value = serde_json::from_str(value).expect("a JSON value");
                let found = body.pointer(pointer).unwrap_or(&Value::Null);
                assert_eq!(*found, value, "{line}\n{body:#}");
            }
        } else {
            assert_eq!(outcome, expected, "{line}\n{body:#}");
        }
    }

    pub(super) fn call(&mut self, call: &str) -> (u16, Value) {
        let mut words = call.split_whitespace();
        let alias = words.next().expect("an operation");
        let mut pairs = Vec::new();
        if alias == "new" {
            let names = ["Name", "EmailAddress", "PhoneNumber"];
            pairs.extend(names.into_iter().zip(words).map(|(n, v)| (n.to_owned(), v.to_owned())));
            pairs.push(("Title".to_owned(), "Other".to_owned()));
            pairs.push(("MessageTypes.1".to_owned(), "SecurityMessage".to_owned()));
        } else {
            for word in words {
                let (name, value) = word.split_once('=').expect("name=value");
                let value = match value.strip_prefix('$') {
                    Some(name) => self.ids.get(name).cloned().expect("a contact of that name"),
                    None => value.to_owned(),
                };
                pairs.push((name.to_owned(), value));
            }
        }
        let action = Action::find(action(alias)).expect("a known operation");
        let parameters = Parameters(pairs);
        let result = wire::operation(action, &parameters).and_then(|operation| {
            self.directory.execute(&operation.expect("an operation of the directory"), self.now)
        });
        match result {
            Ok(reply) => {
                let body = wire::body(&reply, &self.directory, "an id");
                if let (Some(name), Some(id)) =
                    (parameters.get("Name"), body.pointer("/Contact/ContactId"))
                {
                    self.ids.insert(name, id.as_str().unwrap_or("").to_owned());
                }
                (200, body)
            }
            Err(refusal) => (refusal.status, json!({"Code": refusal.code})),
        }
    }

    #[track_caller]
    fn event(&mut self, event: &str) {
        let words: Vec<_> = event.split_whitespace().collect();
        match words[..] {
            ["confirm", target] => {
                assert_eq!(self.directory.confirm(target, self.now), Click::Confirmed, "{event}");
            }
            ["dead", target] => {
                assert_eq!(self.directory.confirm(target, self.now), Click::DeadLink, "{event}");
            }
            ["unsent", target] => {
                assert_eq!(self.directory.confirm(target, self.now), Click::NoMessage, "{event}");
            }
            ["expire", target] => {
                assert!(self.directory.expire(target, self.now) > 0, "{event}");
            }
            ["wait", seconds] => {
                let seconds = seconds.parse().expect("seconds");
                self.now += SignedDuration::from_secs(seconds);
            }
            ["deletions", "fail", account] => {
                let account_id = account.to_owned();
                let message_types = vec!["SecurityMessage".to_owned()];
                let reasons = vec![FailReason { account_id, message_types }];
                self.directory.deletion = DeletionPlan { after_ms: 1000, reasons, times: Some(1) };
            }
            ["sends", "per-day", number] => {
                self.directory.quotas.sends_per_day = number.parse().expect("a number");
            }
            ["sends", "per-minute", number] => {
                self.directory.quotas.sends_per_minute_and_target =
                    number.parse().expect("a number");
            }
            ["contacts", number] => {
                self.directory.quotas.contacts = number.parse().expect("a number");
            }
            ["unused"] => self.directory.in_use = false,
            _ => unreachable!("no such event: {event}"),
        }
    }
}

/// Short names for the operations.
fn action(alias: &str) -> &str {
    match alias {
        "new" | "Add" => "AddMessageContact",
        "Update" => "UpdateMessageContact",
        "Get" => "GetMessageContact",
        "List" => "ListMessageContacts",
        "Delete" => "DeleteMessageContact",
        "DelStatus" => "GetMessageContactDeletionStatus",
        "SendEmail" => "SendEmailVerificationForMessageContact",
        "SendPhone" => "SendPhoneVerificationForMessageContact",
        "ListVer" => "ListMessageContactVerifications",
        "Cancel" => "CancelMessageContactUpdate",
        "Bind" => "AssociateMembers",
        "Unbind" => "DisassociateMembers",
        "GetRD" => "GetResourceDirectory",
        "Folders" => "ListFoldersForParent",
        "Accounts" => "ListAccounts",
        "AccountsIn" => "ListAccountsForParent",
        name => name,
    }
}
