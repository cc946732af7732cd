//! The command `report`: who hears of what, from what is in the cloud.
//!
//! Names of contacts are shown, as in a status; addresses and numbers are masked.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;

use anyhow::anyhow;
use serde::Serialize;
use serde_json::Value;

use super::cloud::{self, Listing, Target};
use super::manifests;
use super::terminal::{Line, Paint, notice, printable};
use crate::api::{self, ContactPolicySpec, MessageContactSpec, parse};
use crate::clock::Clock;
use crate::domain::call;
use crate::domain::contact::{ContactStatus, MemberId, MessageType, Mode, ObservedContact, Title};
use crate::domain::policy::{Candidate, Policy};
use crate::domain::verdict::Finding;
use crate::plan::compliance::{self, Found};
use crate::plan::coverage::{Covering, Tally, Tree, needs_tree};
use crate::plan::hash::HashKey;
use crate::plan::policy::{self, Place};

mod html;

mod text;

#[cfg(test)]
mod tests;

/// Options of `report`.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Manifests, as files, folders with all below them, or `-` for the input: a ResourceDirectory
    /// that says how the directory is reached, the Secret with its keys, ContactPolicies to judge by,
    /// and the MessageContacts and Namespaces that there are. May be given several times.
    #[arg(short = 'f', long = "filename", value_name = "PATH")]
    filename: Vec<PathBuf>,

    /// In which form the report is printed.
    #[arg(long, short = 'o', value_enum, default_value = "table")]
    output: Form,

    #[command(flatten)]
    cloud: cloud::Options,
}

/// In which form a report is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Form {
    /// For a terminal.
    Table,
    /// One page that needs nothing beside it, for a browser and for print.
    Html,
    /// For programs.
    Json,
}

/// Looks at the directory once and renders the report.
///
/// # Errors
/// The manifests or the directory cannot be read.
pub fn run(
    options: &Options,
    lookup: impl Fn(&str) -> Option<String> + Copy,
    input: &mut dyn io::Read,
) -> anyhow::Result<String> {
    let objects = manifests::values(&options.filename, input)?;
    let target = options.cloud.target(&objects, lookup)?;
    target.notes.iter().for_each(|note| notice(note));
    let given = Given::read(&objects, &target.name)?;
    let wanted = cloud::Wanted { pending: &|_| true, accounts: true };
    let listing = {
        let progress = Line::of_errors(lookup);
        super::block_on(cloud::look(&target, wanted, Clock::system(), &progress))??
    };
    let report = Report::of(&listing, &target, &given);
    Ok(match options.output {
        Form::Table => text::render(&report, Paint::of_output(lookup)),
        Form::Html => html::render(&report),
        Form::Json => serde_json::to_string_pretty(&report)? + "\n",
    })
}

/// What the manifests tell beside how the directory is reached.
#[derive(Debug, Default)]
struct Given {
    policies: Vec<Policy>,
    /// By the contact's name: the namespace and the name of its object; `None` if no manifest of a
    /// MessageContact was given, so that nobody can say what is managed.
    managed: Option<BTreeMap<String, (String, String)>>,
    namespaces: BTreeMap<String, BTreeMap<String, String>>,
}

impl Given {
    fn read(objects: &[Value], directory: &str) -> anyhow::Result<Self> {
        let mut given = Self::default();
        for object in objects {
            let metadata =
                |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
            let ours = object["apiVersion"] == *format!("{}/v1alpha1", api::GROUP);
            match object["kind"].as_str() {
                Some("ContactPolicy") if ours => {
                    let name = metadata("name");
                    let name = printable(&name);
                    let wrong = || anyhow!("ContactPolicy `{name}`: check it with `validate`");
                    let spec: ContactPolicySpec =
                        serde_json::from_value(object["spec"].clone()).map_err(|_| wrong())?;
                    let policy = parse::policy(&name, &spec);
                    given.policies.push(
                        policy.map_err(|problem| anyhow!("ContactPolicy `{name}`: {problem}"))?,
                    );
                }
                Some("MessageContact") if ours => {
                    let managed = given.managed.get_or_insert_default();
                    let spec = serde_json::from_value::<MessageContactSpec>(object["spec"].clone());
                    if let Ok(spec) = spec
                        && parse::directory_name(&spec) == directory
                    {
                        let name = parse::wanted_name(&spec).as_str().to_owned();
                        managed.insert(name, (metadata("namespace"), metadata("name")));
                    }
                }
                Some("Namespace") if object["apiVersion"] == "v1" => {
                    let labels = serde_json::from_value(object["metadata"]["labels"].clone());
                    given.namespaces.insert(metadata("name"), labels.unwrap_or_default());
                }
                _ => {}
            }
        }
        given.policies.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(given)
    }

    /// Whether something manages a contact; `None`: nobody can say.
    fn manages(&self, contact: &ObservedContact) -> Option<bool> {
        Some(self.managed.as_ref()?.contains_key(contact.name.as_str()))
    }

    /// The labels of the namespace of a contact's object, as far as they are known.
    fn labels(&self, contact: &ObservedContact) -> BTreeMap<String, String> {
        let object = self.managed.as_ref().and_then(|all| all.get(contact.name.as_str()));
        let Some((namespace, _)) = object.filter(|(namespace, _)| !namespace.is_empty()) else {
            return BTreeMap::new();
        };
        let mut labels = self.namespaces.get(namespace).cloned().unwrap_or_default();
        // Which every apiserver sets.
        labels.insert("kubernetes.io/metadata.name".to_owned(), namespace.clone());
        labels
    }
}

/// Who hears of what.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    /// The ResourceDirectory's name.
    directory: String,
    directory_id: String,
    management_account_id: String,
    /// When the cloud was looked at, in UTC.
    looked_at: String,
    summary: Summary,
    /// The first row is everybody, whatever they are bound to.
    coverage: Vec<Row>,
    policies: Vec<Judged>,
    contacts: Vec<Person>,
    /// What could not be known.
    notes: Vec<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Summary {
    contacts: usize,
    verified: usize,
    /// Different mailboxes among the verified: people.
    people: usize,
    /// Contacts that no given manifest manages; absent without manifests of contacts.
    #[serde(skip_serializing_if = "Option::is_none")]
    unmanaged: Option<usize>,
    /// Member accounts; absent if they cannot be listed.
    #[serde(skip_serializing_if = "Option::is_none")]
    accounts: Option<usize>,
    /// Cells of the matrix that no verified person covers.
    gaps: usize,
    /// Policies that do not hold.
    violated_policies: usize,
}

/// One line of the matrix.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    /// What the row is about, in words.
    label: String,
    /// The accounts, or other ids that contacts are bound to, that look alike.
    ids: Vec<String>,
    cells: Vec<Cell>,
}

/// Who hears of one message type in one place.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Cell {
    message_type: &'static str,
    level: Level,
    /// Different verified mailboxes.
    verified: usize,
    /// The names of the contacts, and whether each is verified.
    contacts: Vec<Listener>,
}

#[derive(Debug, Clone, Serialize)]
struct Listener {
    name: String,
    verified: bool,
}

/// How well something is covered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
enum Level {
    /// A verified person hears of it.
    Covered,
    /// Somebody is to hear of it, and nobody of them has confirmed.
    Unverified,
    /// Nobody.
    Nobody,
}

/// What one policy comes to.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Judged {
    name: String,
    enforcement: &'static str,
    /// As the condition `Compliant` has it: `True`, `False`, `Unknown`.
    compliant: &'static str,
    reason: &'static str,
    message: String,
    coverage: Vec<Demand>,
    violations: Vec<Violation>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Demand {
    rule: String,
    message_type: &'static str,
    /// What is counted: `contacts` or `verified contacts`.
    counted: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    member: Option<String>,
    required: u32,
    actual: u32,
    satisfied: bool,
}

#[derive(Debug, Serialize)]
struct Violation {
    contact: String,
    message: String,
}

/// One contact.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Person {
    contact_id: String,
    name: String,
    title: String,
    /// Masked.
    #[serde(skip_serializing_if = "Option::is_none")]
    email_address: Option<String>,
    /// Masked.
    #[serde(skip_serializing_if = "Option::is_none")]
    phone_number: Option<String>,
    message_types: Vec<String>,
    members: Vec<String>,
    /// The cloud's word.
    status: String,
    /// Whether the mailbox is confirmed.
    verified: bool,
    /// What waits for its owner: `email`, `phone`.
    waiting: Vec<&'static str>,
    /// Whether a given manifest manages it; absent if nobody can say.
    #[serde(skip_serializing_if = "Option::is_none")]
    managed: Option<bool>,
}

/// A contact as the matrix counts it.
struct Counted<'a> {
    contact: &'a ObservedContact,
    covering: Covering,
}

impl Report {
    fn of(listing: &Listing, target: &Target, given: &Given) -> Self {
        let mut notes = Vec::new();
        // Mailboxes are compared, and shown nowhere: any key will do.
        let key = HashKey::new(super::run::random_bytes());
        let mut counted: Vec<_> =
            listing.snapshot.contacts().map(|contact| counted(contact, listing, &key)).collect();
        counted.sort_by(|one, other| {
            (&one.contact.name, &one.contact.id).cmp(&(&other.contact.name, &other.contact.id))
        });
        let accounts = match &listing.accounts {
            Some(Ok(paths)) => Some(paths),
            Some(Err(failure)) => {
                notes.push(format!("it is not known which accounts there are: {failure}"));
                None
            }
            None => None,
        };
        let tree = accounts.map(|paths| Tree::of_paths(paths.iter().cloned()));
        let ids: Vec<_> = accounts.into_iter().flatten().filter_map(|path| path.0.last()).collect();
        let coverage = matrix(&counted, tree.as_ref(), &ids);
        let no_tree = listing.accounts.as_ref().and_then(|result| result.as_ref().err());
        let no_tree = no_tree.map(|failure| Finding::unmet(failure.reason, &*failure.message));
        let policies: Vec<_> = given
            .policies
            .iter()
            .filter(|policy| {
                let directories = &policy.scope.directories;
                directories.is_empty() || directories.contains(&target.name)
            })
            .map(|policy| judged(policy, &counted, given, target, tree.as_ref(), no_tree.as_ref()))
            .collect();
        let chooses = |policy: &&Policy| {
            let words = &policy.scope.namespaces;
            !words.match_labels.is_empty() || !words.match_expressions.is_empty()
        };
        if let Some(policy) = given.policies.iter().find(chooses) {
            notes.push(format!(
                "ContactPolicy `{}` chooses namespaces by their labels: only contacts count whose \
                 MessageContact and Namespace are among the given manifests",
                policy.name
            ));
        }
        if given.managed.is_none() {
            notes.push(
                "no manifest of a MessageContact was given, so that every contact counts as managed"
                    .to_owned(),
            );
        }
        let contacts: Vec<_> = counted.iter().map(|one| person(one, listing, given)).collect();
        let verified = counted.iter().filter(|one| one.covering.verified);
        let rows = if coverage.len() > 1 { &coverage[1..] } else { &coverage[..] };
        let cells = rows.iter().flat_map(|row| &row.cells);
        let summary = Summary {
            contacts: contacts.len(),
            verified: contacts.iter().filter(|person| person.verified).count(),
            people: verified.map(|one| &one.covering.mailbox).collect::<BTreeSet<_>>().len(),
            unmanaged: given
                .managed
                .as_ref()
                .map(|_| contacts.iter().filter(|person| person.managed == Some(false)).count()),
            accounts: accounts.map(Vec::len),
            gaps: cells.filter(|cell| cell.level != Level::Covered).count(),
            violated_policies: policies.iter().filter(|it| it.compliant == "False").count(),
        };
        Self {
            directory: target.name.clone(),
            directory_id: listing.identity.directory_id.to_string(),
            management_account_id: listing.identity.management_account_id.to_string(),
            looked_at: listing.at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string(),
            summary,
            coverage,
            policies,
            contacts,
            notes,
        }
    }
}

fn counted<'a>(contact: &'a ObservedContact, listing: &Listing, key: &HashKey) -> Counted<'a> {
    let types = contact.message_types.iter();
    let mailbox = contact.email.clone().map(call::Target::Email);
    let mailbox = mailbox.map_or_else(|| contact.id.to_string(), |target| key.of_target(&target));
    let covering = Covering {
        title: Title::from_word(&contact.title),
        message_types: types.filter_map(|word| MessageType::from_word(word)).collect(),
        members: contact.members.clone(),
        mailbox,
        verified: is_verified(contact, &listing.pending(&contact.id)),
    };
    Counted { contact, covering }
}

/// Whether the mailbox that is shown is confirmed: the contact is in force, and that address does not
/// wait (A12).
fn is_verified(contact: &ObservedContact, waiting: &[call::Target]) -> bool {
    let Some(email) = &contact.email else { return false };
    let waits = waiting.iter().any(|target| match target {
        call::Target::Email(waiting) => waiting.same_mailbox(email),
        call::Target::Phone(_) => false,
    });
    contact.status == ContactStatus::Active && !waits
}

fn person(one: &Counted<'_>, listing: &Listing, given: &Given) -> Person {
    let contact = one.contact;
    let waiting = listing.pending(&contact.id);
    let channels = waiting.iter().map(|target| match target {
        call::Target::Email(_) => "email",
        call::Target::Phone(_) => "phone",
    });
    Person {
        contact_id: contact.id.to_string(),
        name: contact.name.as_str().to_owned(),
        title: contact.title.clone(),
        email_address: contact.email.as_ref().map(ToString::to_string),
        phone_number: contact.phone.as_ref().map(ToString::to_string),
        message_types: contact.message_types.iter().cloned().collect(),
        members: contact.members.iter().map(ToString::to_string).collect(),
        status: contact.status.as_str().to_owned(),
        verified: one.covering.verified,
        waiting: channels.collect::<BTreeSet<_>>().into_iter().collect(),
        managed: given.manages(contact),
    }
}

/// Everybody; then the accounts, those that look alike together; where they are not known, what
/// contacts are bound to.
fn matrix(counted: &[Counted<'_>], tree: Option<&Tree>, accounts: &[&MemberId]) -> Vec<Row> {
    let everybody: Vec<_> = counted.iter().collect();
    let mut rows =
        vec![row("any contact, whatever it is bound to".to_owned(), Vec::new(), &everybody)];
    let bound = counted.iter().flat_map(|one| &one.covering.members);
    let places: BTreeSet<&MemberId> =
        if tree.is_some() { accounts.iter().copied().collect() } else { bound.collect() };
    let nothing = Tree::default();
    let mut alike: BTreeMap<Vec<usize>, Vec<&MemberId>> = BTreeMap::new();
    for place in places {
        let covers =
            |one: &Counted<'_>| tree.unwrap_or(&nothing).covers(&one.covering.members, place);
        let indices = counted.iter().enumerate().filter(|(_, one)| covers(one));
        alike.entry(indices.map(|(index, _)| index).collect()).or_default().push(place);
    }
    let mut groups: Vec<_> = alike.into_iter().collect();
    groups.sort_by(|(_, one), (_, other)| one.cmp(other));
    for (indices, ids) in groups {
        let heard: Vec<_> = indices.into_iter().map(|index| &counted[index]).collect();
        let what = if tree.is_some() { "account" } else { "bound to" };
        let label = match ids.as_slice() {
            [id] => format!("{what} {id}"),
            ids => format!("{} accounts", ids.len()),
        };
        rows.push(row(label, ids.iter().map(ToString::to_string).collect(), &heard));
    }
    rows
}

fn row(label: String, ids: Vec<String>, heard: &[&Counted<'_>]) -> Row {
    let cell = |message_type: &MessageType| {
        let heard: Vec<_> =
            heard.iter().filter(|one| one.covering.message_types.contains(message_type)).collect();
        let verified = heard.iter().filter(|one| one.covering.verified);
        let verified = verified.map(|one| &one.covering.mailbox).collect::<BTreeSet<_>>().len();
        let level = match (verified, heard.len()) {
            (0, 0) => Level::Nobody,
            (0, _) => Level::Unverified,
            _ => Level::Covered,
        };
        let listener = |one: &&&Counted<'_>| Listener {
            name: one.contact.name.as_str().to_owned(),
            verified: one.covering.verified,
        };
        let contacts = heard.iter().map(listener).collect();
        Cell { message_type: message_type.as_str(), level, verified, contacts }
    };
    Row { label, ids, cells: MessageType::ALL.iter().map(cell).collect() }
}

/// What a policy says of the contacts in the cloud, each taken as a MessageContact that asks for what
/// it has.
fn judged(
    policy: &Policy,
    counted: &[Counted<'_>],
    given: &Given,
    target: &Target,
    tree: Option<&Tree>,
    no_tree: Option<&Finding>,
) -> Judged {
    let none = Tree::default();
    let tree = tree.unwrap_or(&none);
    let mut tally = Tally::default();
    let (mut matched, mut violations, mut violating) = (0, Vec::new(), 0);
    let managed = counted.iter().filter(|one| given.manages(one.contact) != Some(false));
    for one in managed {
        let labels = given.labels(one.contact);
        let place = Place { directory: &target.name, namespace_labels: &labels };
        if !policy::concerns(policy, place) {
            continue;
        }
        matched += 1;
        tally.add(&policy.coverage, tree, &one.covering);
        let candidate = Candidate {
            email: one.contact.email.clone(),
            has_phone: one.contact.phone.is_some(),
            title: one.covering.title.unwrap_or(Title::Other),
            message_types: one.covering.message_types.clone(),
            members: Some(one.covering.members.clone()),
            mode: Mode::Enforce,
        };
        let found: Vec<_> = policy::judge([policy], &candidate, place)
            .into_iter()
            .flat_map(|opinion| opinion.violations)
            .map(|violation| Violation {
                contact: one.contact.name.as_str().to_owned(),
                message: violation.message,
            })
            .collect();
        violating += usize::from(!found.is_empty());
        violations.extend(found);
    }
    let rows = tally.rows(&policy.coverage);
    let count = |known: usize| i64::try_from(known).unwrap_or(i64::MAX);
    let unmanaged = policy.unmanaged_max.map(|_| {
        let known = given.managed.is_some();
        let unmanaged = counted.iter().filter(|one| given.manages(one.contact) == Some(false));
        (target.name.clone(), known.then(|| count(unmanaged.count())))
    });
    let unmanaged: Vec<_> = unmanaged.into_iter().collect();
    let found = Found {
        looked_at: matched,
        matched,
        violating,
        unknown: 0,
        rows: &rows,
        no_tree: no_tree.filter(|_| needs_tree(&policy.coverage)).cloned(),
        unmanaged: &unmanaged,
    };
    let compliant = compliance::evaluate(policy, &found).compliant;
    let demand = |row: &crate::plan::coverage::Row<'_>| Demand {
        rule: row.rule.to_owned(),
        message_type: row.message_type.as_str(),
        counted: row.among.in_words(),
        member: row.member.map(ToString::to_string),
        required: row.required,
        actual: row.actual,
        satisfied: row.is_satisfied(),
    };
    Judged {
        name: policy.name.clone(),
        enforcement: policy.enforcement.as_str(),
        compliant: compliant.status.as_str(),
        reason: compliant.reason.as_str(),
        message: compliant.message,
        coverage: rows.iter().map(demand).collect(),
        violations,
    }
}
