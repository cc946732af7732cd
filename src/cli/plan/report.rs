//! What a plan says, in the shape in which programs read it. `docs/plan.md` describes it.

use serde::Serialize;

use super::forecast::PlannedCall;
use crate::cli::terminal::printable;

/// Everything that a plan says. Addresses and numbers are masked.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report {
    /// The version of this shape: it grows when a field goes or means something else.
    pub(super) version: u32,
    pub(super) result: Result,
    pub(super) summary: Summary,
    pub(super) directories: Vec<Directory>,
    /// ResourceDirectories that only the target branch has: they would be deleted.
    pub(super) removed_directories: Vec<String>,
    /// All objects, those without a change included.
    pub(super) contacts: Vec<Contact>,
    pub(super) policies: Vec<Policy>,
    /// What could not be known, or is to be known beside.
    pub(super) notes: Vec<String>,
}

/// What a plan comes to; the exit code follows from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) enum Result {
    /// 0
    NoChanges,
    /// 2
    Changes,
    /// 1
    Errors,
}

/// How many contacts there are of each action.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Summary {
    pub(super) create: usize,
    pub(super) update: usize,
    pub(super) adopt: usize,
    pub(super) delete: usize,
    pub(super) release: usize,
    pub(super) unchanged: usize,
    pub(super) reported: usize,
    pub(super) waiting: usize,
    pub(super) refused: usize,
    /// ResourceDirectories that would be deleted.
    pub(super) directories_removed: usize,
    /// ResourceDirectories in which nothing is done until they are resumed.
    pub(super) directories_suspended: usize,
    /// What makes the exit code 1.
    pub(super) errors: usize,
}

#[derive(Debug, Serialize)]
pub(super) struct Directory {
    /// The ResourceDirectory's name.
    pub(super) name: String,
    #[serde(rename = "directoryId")]
    pub(super) id: String,
    /// Contacts in the cloud before anything is done.
    pub(super) contacts: usize,
    /// Contacts that no MessageContact holds, in the end.
    pub(super) unmanaged: Vec<Unmanaged>,
    /// Nothing is done in it until it is resumed; what is told is what would be done then.
    pub(super) suspended: bool,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Unmanaged {
    pub(super) contact_id: String,
    pub(super) name: String,
}

/// What becomes of a contact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(super) enum Action {
    /// It is not in the cloud, and is created.
    Create,
    /// It is in the cloud, and something is written.
    Update,
    /// It is in the cloud, and is taken over.
    Adopt,
    /// It is deleted in the cloud.
    Delete,
    /// Its object goes, and it stays in the cloud.
    Release,
    /// Nothing.
    NoChange,
    /// Nothing is written for it by its own will, or that of its directory.
    Report,
    /// It waits for something else.
    Wait,
    /// What it asks for would not be done.
    Refuse,
}

#[derive(Debug, Serialize)]
pub(super) struct Contact {
    pub(super) namespace: String,
    pub(super) name: String,
    /// The name in the cloud.
    #[serde(rename = "contact")]
    pub(super) called: String,
    pub(super) directory: String,
    pub(super) file: String,
    pub(super) line: u64,
    pub(super) action: Action,
    /// The id of the contact that it holds; absent while there is none.
    #[serde(rename = "contactId", skip_serializing_if = "Option::is_none")]
    pub(super) id: Option<String>,
    /// The calls that change the cloud, in their order.
    pub(super) calls: Vec<Call>,
    /// What differs and is left so.
    pub(super) drift: Vec<Field>,
    /// As the condition would have it that is not met; absent when all are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) message: Option<String>,
    /// What policies say against it.
    pub(super) violations: Vec<Violation>,
    /// Fields whose values stand in Secrets and are not known.
    pub(super) unknown: Vec<&'static str>,
    /// Those of them whose Secret is there and encrypted.
    pub(super) encrypted: Vec<Encrypted>,
    /// What is told is done only once its directory, which is suspended, is resumed.
    #[serde(rename = "waitsForResume")]
    pub(super) waits_for_resume: bool,
    /// Whether it makes the exit code 1.
    pub(super) error: bool,
}

#[derive(Debug, Serialize)]
pub(super) struct Call {
    pub(super) action: &'static str,
    #[serde(skip)]
    pub(super) mark: char,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) remark: Option<&'static str>,
    pub(super) fields: Vec<Field>,
}

impl From<PlannedCall> for Call {
    fn from(call: PlannedCall) -> Self {
        let PlannedCall { mark, action, remark, lines } = call;
        let fields = lines.into_iter().map(|line| Field {
            name: line.field,
            before: line.before.as_deref().map(printable),
            after: printable(&line.after),
        });
        Self { action, mark, remark, fields: fields.collect() }
    }
}

#[derive(Debug, Serialize)]
pub(super) struct Field {
    #[serde(rename = "field")]
    pub(super) name: &'static str,
    /// Absent where nothing is replaced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) before: Option<String>,
    pub(super) after: String,
}

/// A field whose value stands encrypted in a Secret.
#[derive(Debug, Serialize)]
pub(super) struct Encrypted {
    pub(super) field: &'static str,
    pub(super) secret: String,
    /// In words, such as `encrypted by SOPS`.
    pub(super) how: &'static str,
}

#[derive(Debug, Serialize)]
pub(super) struct Violation {
    pub(super) policy: String,
    pub(super) enforcement: &'static str,
    /// The field of the policy that demands it.
    pub(super) rule: &'static str,
    pub(super) message: String,
}

#[derive(Debug, Serialize)]
pub(super) struct Policy {
    pub(super) name: String,
    pub(super) enforcement: &'static str,
    /// As the condition `Compliant` has it once everything is done: `True`, `False`, `Unknown`.
    pub(super) compliant: &'static str,
    pub(super) reason: &'static str,
    pub(super) message: String,
    pub(super) coverage: Vec<Coverage>,
    pub(super) unmanaged: Vec<UnmanagedCount>,
    /// Whether it makes the exit code 1: what it demands holds now and would hold no more.
    pub(super) error: bool,
}

/// One demand of a rule of `coverage`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Coverage {
    pub(super) rule: String,
    pub(super) message_type: &'static str,
    /// What is counted: `contacts` or `verified contacts`.
    pub(super) counted: &'static str,
    /// The member that is covered worst in the end, where the rule names some.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) member: Option<String>,
    pub(super) required: u32,
    /// As it is.
    pub(super) before: u32,
    /// Once everything is done and nobody has confirmed anything yet.
    pub(super) after: u32,
    /// Once everybody who is asked has confirmed.
    pub(super) confirmed: u32,
    /// It is met now and would be no more.
    pub(super) lost: bool,
}

#[derive(Debug, Serialize)]
pub(super) struct UnmanagedCount {
    pub(super) directory: String,
    pub(super) max: u32,
    pub(super) before: usize,
    pub(super) after: usize,
}
