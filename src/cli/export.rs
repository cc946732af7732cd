//! The command `export`: manifests for the contacts in the cloud that nothing manages.
//!
//! Applied, they are taken over without a write to the cloud: a value that waits for its owner is
//! exported rather than the one in force, as going back to that one would be a change.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::cloud::{self, Listing, Target};
use super::terminal::{Line, notice, printable};
use super::{manifests, validate};
use crate::api::names::is_object_name;
use crate::api::{self, MessageContactSpec, parse};
use crate::clock::Clock;
use crate::domain::call;
use crate::domain::channel::{EmailAddress, PhoneNumber};
use crate::domain::contact::{ContactName, ContactStatus, MemberId, ObservedContact};

/// Options of `export`.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Manifests, as files, folders with all below them, or `-` for the input: a ResourceDirectory
    /// that says how the directory is reached, the Secret with its keys, and the MessageContacts that
    /// there are already, which are left out. May be given several times.
    #[arg(short = 'f', long = "filename", value_name = "PATH")]
    filename: Vec<PathBuf>,

    /// The namespace that is written into the manifests. Without it they name none.
    #[arg(long, value_name = "NS")]
    namespace: Option<String>,

    /// Puts addresses and numbers into a Secret beside each contact, instead of into its spec. The
    /// operator must be allowed to `get` these Secrets.
    #[arg(long)]
    values_in_secrets: bool,

    #[command(flatten)]
    cloud: cloud::Options,
}

/// Looks at the directory once and writes the manifests.
///
/// # Errors
/// The directory cannot be read, or the output not be written.
pub fn run(
    options: &Options,
    lookup: impl Fn(&str) -> Option<String> + Copy,
    input: &mut dyn io::Read,
) -> anyhow::Result<String> {
    if let Some(namespace) = &options.namespace {
        let is_name = is_object_name(namespace) && !namespace.contains('.');
        anyhow::ensure!(is_name, "--namespace: write the name of a namespace");
    }
    let objects = manifests::values(&options.filename, input)?;
    let target = options.cloud.target(&objects, lookup)?;
    target.notes.iter().for_each(|note| notice(note));
    let wanted = cloud::Wanted { pending: &|_| true, accounts: false };
    let listing = {
        let progress = Line::of_errors(lookup);
        super::block_on(cloud::look(&target, wanted, Clock::system(), &progress))??
    };
    let exported = export(&listing, &target, &objects, options)?;
    if exported.contacts > 0 && !options.values_in_secrets {
        notice(
            "the manifests hold addresses and numbers in clear text; --values-in-secrets puts them \
             into Secrets",
        );
    }
    exported.left_out.iter().for_each(|left_out| notice(left_out));
    Ok(exported.yaml)
}

/// What is written.
struct Exported {
    yaml: String,
    contacts: usize,
    /// What is not, and why.
    left_out: Vec<String>,
}

fn export(
    listing: &Listing,
    target: &Target,
    objects: &[Value],
    options: &Options,
) -> anyhow::Result<Exported> {
    let managed = managed(objects, &target.name);
    let mut unmanaged: Vec<_> = listing
        .snapshot
        .contacts()
        .filter(|contact| !managed.names.contains(&contact.name))
        .collect();
    unmanaged.sort_by(|one, other| (&one.name, &one.id).cmp(&(&other.name, &other.id)));
    let names = object_names(&unmanaged, &managed.objects);
    let (mut documents, mut left_out, mut contacts) = (String::new(), Vec::new(), 0);
    for contact in unmanaged {
        let waiting = listing.pending(&contact.id);
        let manifests = Manifests::of(contact, &waiting, &names[&contact.id.0], target, options);
        if let Some(why) = manifests.unacceptable() {
            left_out.push(format!("{} is not exported: {why}", called(contact)));
        } else {
            contacts += 1;
            manifests.write(&mut documents)?;
        }
    }
    let directory = printable(listing.identity.directory_id.as_str());
    let mut yaml = format!(
        "# {contacts} contacts of the directory {directory} that none of the given manifests manages.\n"
    );
    for line in &left_out {
        writeln!(yaml, "# {}", printable(line))?;
    }
    yaml.push_str(&documents);
    Ok(Exported { yaml, contacts, left_out })
}

/// What the given manifests manage already.
struct Managed {
    /// Names of contacts in this directory.
    names: BTreeSet<ContactName>,
    /// Names of objects, of any namespace: those that may not be given to another one.
    objects: BTreeSet<String>,
}

fn managed(objects: &[Value], directory: &str) -> Managed {
    let mut managed = Managed { names: BTreeSet::new(), objects: BTreeSet::new() };
    let version = format!("{}/v1alpha1", api::GROUP);
    let contacts = objects
        .iter()
        .filter(|object| object["apiVersion"] == *version && object["kind"] == "MessageContact");
    for object in contacts {
        managed.objects.extend(object["metadata"]["name"].as_str().map(str::to_owned));
        let spec = serde_json::from_value::<MessageContactSpec>(object["spec"].clone());
        let spec = spec.ok().filter(|spec| parse::directory_name(spec) == directory);
        managed.names.extend(spec.as_ref().map(parse::wanted_name));
    }
    managed
}

/// How a contact is named to a person; odd characters are spelled out.
fn called(contact: &ObservedContact) -> String {
    format!("`{}` ({})", contact.name.as_str().escape_debug(), contact.id.0.escape_debug())
}

/// The name of the object for each contact, by its id. Those that would be the same, or are taken,
/// get the contact's id behind them, whatever the others are.
fn object_names(
    contacts: &[&ObservedContact],
    taken: &BTreeSet<String>,
) -> BTreeMap<String, String> {
    let mut wanted: BTreeMap<String, usize> = BTreeMap::new();
    for contact in contacts {
        *wanted.entry(words_of(contact.name.as_str())).or_default() += 1;
    }
    let name = |contact: &ObservedContact| {
        let words = words_of(contact.name.as_str());
        if wanted[&words] > 1 || taken.contains(&words) {
            format!("{words}-{}", words_of(&contact.id.0))
        } else {
            words
        }
    };
    contacts.iter().map(|contact| (contact.id.0.clone(), name(contact))).collect()
}

/// A text as the name of an object: its words in lower case, joined by hyphens. What is not of ASCII
/// is spelled as its code points: `李Lei` is `u674e-lei`.
fn words_of(text: &str) -> String {
    let mut words: Vec<String> = Vec::new();
    let chars: Vec<char> = text.chars().collect();
    let mut within = false;
    for (index, char) in chars.iter().enumerate() {
        let before = index.checked_sub(1).map(|before| chars[before]);
        let after = chars.get(index + 1);
        if char.is_ascii_alphanumeric() {
            let follows_lower = before.is_some_and(|before| before.is_ascii_lowercase());
            let begins_word = follows_lower || after.is_some_and(char::is_ascii_lowercase);
            if !within || (char.is_ascii_uppercase() && begins_word) {
                words.push(String::new());
            }
            if let Some(word) = words.last_mut() {
                word.push(char.to_ascii_lowercase());
            }
            within = true;
        } else {
            within = false;
            if !char.is_ascii() {
                words.push(format!("u{:x}", u32::from(*char)));
            }
        }
    }
    if words.is_empty() { "contact".to_owned() } else { words.join("-") }
}

/// The objects of one contact.
struct Manifests {
    contact: Value,
    secret: Option<Value>,
    /// Why no manifest can keep it as it is, where the schema does not see that.
    obstacle: Option<&'static str>,
    comments: Vec<&'static str>,
}

impl Manifests {
    fn of(
        contact: &ObservedContact,
        waiting: &[call::Target],
        object: &str,
        target: &Target,
        options: &Options,
    ) -> Self {
        let (email, phone) = (email(contact, waiting), phone(contact, waiting));
        let mut spec = json!({
            "directoryRef": { "name": target.name },
            "name": contact.name.as_str(),
            "title": contact.title,
            "messageTypes": contact.message_types,
            "members": contact.members.iter().map(MemberId::as_str).collect::<Vec<_>>(),
        });
        let values = [
            ("emailAddress", "email", email.as_ref().map(EmailAddress::reveal)),
            ("phoneNumber", "phone", phone.as_ref().map(PhoneNumber::reveal)),
        ];
        let mut held = serde_json::Map::new();
        for (field, key, value) in values {
            let Some(value) = value else { continue };
            if options.values_in_secrets {
                let place = json!({ "secretKeyRef": { "name": object, "key": key } });
                spec[format!("{field}From")] = place;
                held.insert(key.to_owned(), value.into());
            } else {
                spec[field] = value.into();
            }
        }
        let mut metadata = json!({ "name": object });
        if let Some(namespace) = &options.namespace {
            metadata["namespace"] = namespace.as_str().into();
        }
        let secret = options.values_in_secrets.then(|| {
            json!({ "apiVersion": "v1", "kind": "Secret", "metadata": metadata.clone(),
                "stringData": held })
        });
        let is_deleted = contact.status == ContactStatus::Deleting;
        let mut comments = Vec::new();
        if !waiting.is_empty() {
            comments.push("A value of it waits for its owner's confirmation.");
        }
        let allowed = target.desired.allowed_members.as_ref();
        if allowed.is_some_and(|allowed| !contact.members.is_subset(allowed)) {
            comments
                .push("It is bound to what allowedMembers of its ResourceDirectory does not have.");
        }
        Self {
            contact: json!({ "apiVersion": format!("{}/v1alpha1", api::GROUP),
                "kind": "MessageContact", "metadata": metadata, "spec": spec }),
            secret,
            obstacle: is_deleted.then_some("it is being deleted"),
            comments,
        }
    }

    /// Why the contact cannot be kept as it is.
    fn unacceptable(&self) -> Option<String> {
        if let Some(obstacle) = self.obstacle {
            return Some(obstacle.to_owned());
        }
        // The values are checked wherever they are to stand.
        let mut object = self.contact.clone();
        let held = self.secret.as_ref().map(|secret| &secret["stringData"]);
        for (field, key) in [("emailAddress", "email"), ("phoneNumber", "phone")] {
            if let Some(value) = held.and_then(|held| held.get(key)) {
                object["spec"][field] = value.clone();
                object["spec"].as_object_mut()?.remove(&format!("{field}From"));
            }
        }
        let mut refusals = validate::check(&object);
        refusals.sort();
        let texts: Vec<_> = refusals.iter().map(ToString::to_string).collect();
        (!texts.is_empty()).then(|| texts.join("; "))
    }

    fn write(&self, out: &mut String) -> anyhow::Result<()> {
        for object in self.secret.iter().chain([&self.contact]) {
            out.push_str("---\n");
            if object["kind"] == "MessageContact" {
                for comment in &self.comments {
                    writeln!(out, "# {comment}")?;
                }
            }
            out.push_str(serde_saphyr::to_string(object)?.trim_end());
            out.push('\n');
        }
        Ok(())
    }
}

/// The mailbox that is wanted: one that waits, or the one that is shown.
fn email(contact: &ObservedContact, waiting: &[call::Target]) -> Option<EmailAddress> {
    let waits = waiting.iter().find_map(|target| match target {
        call::Target::Email(email) => Some(email),
        call::Target::Phone(_) => None,
    });
    waits.or(contact.email.as_ref()).cloned()
}

/// The phone that is wanted: one that waits, or the one that is shown.
fn phone(contact: &ObservedContact, waiting: &[call::Target]) -> Option<PhoneNumber> {
    let waits = waiting.iter().find_map(|target| match target {
        call::Target::Phone(phone) => Some(phone),
        call::Target::Email(_) => None,
    });
    waits.or(contact.phone.as_ref()).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_objects_are_words_that_every_cluster_takes() {
        for (name, expected) in [
            ("SecurityDesk", "security-desk"),
            ("securitydesk", "securitydesk"),
            ("CEO", "ceo"),
            ("HRDesk", "hr-desk"),
            ("李雷", "u674e-u96f7"),
            ("李Lei", "u674e-lei"),
            ("Bill@Desk 7", "bill-desk-7"),
            ("@", "contact"),
            ("\u{323AF}\u{323AF}", "u323af-u323af"),
        ] {
            let words = words_of(name);
            assert_eq!(words, expected);
            assert!(is_object_name(&words));
        }
    }
}
