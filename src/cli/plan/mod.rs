//! The command `plan`: what manifests would change in the cloud, and what policies say of it, for a
//! pull request. No cluster is needed.
//!
//! ```text
//!   manifests, target branch --given--> objects --forecast--> calls, findings --report--> text
//!                                                  ^  |
//!                          one list of the cloud --+  +--> the operator's planner, again and again,
//!                                                          over a cloud in which all of it works
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

use super::cloud::{self, Session, Target};
use super::manifests::{self, Manifest};
use super::terminal::{Line, Paint, printable};
use crate::clock::Clock;
use crate::domain::contact::DirectoryId;
use crate::domain::directory::NamespaceRule;
use crate::domain::snapshot::Snapshot;
use crate::domain::verdict::{Finding, Reason, Status};
use crate::plan::coverage::{Tree, needs_tree};

use coverage::Known;
use forecast::{Attempt, Outlook, Site};
use given::Given;
use report::{Action, Report, Summary};

mod given;

mod imagined;

mod forecast;

mod coverage;

mod report;

mod text;

mod markdown;

/// Options of `plan`.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// The manifests as they would be applied: files, folders with all below them, or `-` for the
    /// input, such as the output of `kustomize build`. May be given several times.
    #[arg(short = 'f', long = "filename", value_name = "PATH", required = true)]
    filename: Vec<PathBuf>,

    /// The manifests of the target branch, of the same places. What they hold and the others do not
    /// would be deleted; an object that has another `spec.name` there would be renamed. May be given
    /// several times.
    #[arg(long, value_name = "PATH")]
    base: Vec<PathBuf>,

    /// A contact that is in the cloud under the name of an object counts as that object's own only as
    /// far as its `adoptionPolicy` allows it. Without this it always does.
    #[arg(long)]
    judge_adoption: bool,

    /// The namespace of objects that name none.
    #[arg(long, short = 'n', value_name = "NAME", default_value = "default")]
    namespace: String,

    /// The operator's own namespace: the only one that a ResourceDirectory without `namespaces` admits.
    #[arg(long, value_name = "NAME")]
    operator_namespace: Option<String>,

    /// In which form the plan is printed.
    #[arg(long, short = 'o', value_enum, default_value = "table")]
    output: Form,

    #[command(flatten)]
    cloud: cloud::Options,
}

/// In which form a plan is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Form {
    /// For a terminal.
    Table,
    /// For programs; `docs/plan.md` describes the shape.
    Json,
    /// For a comment on a pull request.
    Markdown,
}

/// A plan, printed.
pub struct Printed {
    /// The text.
    pub text: String,
    /// 0: nothing would change. 2: something would. 1: something would be refused, or a policy under
    /// `Deny` would no longer hold.
    pub exit_code: u8,
}

/// Looks at each directory once and prints what would become of the manifests.
///
/// # Errors
/// The manifests cannot be read or would be refused, or a directory cannot be listed.
pub fn run(
    options: &Options,
    lookup: impl Fn(&str) -> Option<String> + Copy,
    input: &mut dyn io::Read,
) -> anyhow::Result<Printed> {
    let manifests = readable(manifests::read(&options.filename, input))?;
    let base = match options.base.as_slice() {
        [] => None,
        paths => Some(readable(manifests::read(paths, input))?),
    };
    let given = Given::read(&manifests, base.as_deref(), &options.namespace);
    let given = given.map_err(|lines| unusable(&lines))?;
    let mut notes = Vec::new();
    let base = base.unwrap_or_default();
    let targets = targets(options, &manifests, &base, &given, lookup, &mut notes)?;
    let removed = removed(options, &manifests, &base);
    let known = {
        let progress = Line::of_errors(lookup);
        super::block_on(look(options, &targets, &removed, &given, &progress))??
    };
    let report = put_together(options, &targets, &known, removed, &given, notes);
    let text = match options.output {
        Form::Table => text::render(&report, Paint::of_output(lookup)),
        Form::Json => serde_json::to_string_pretty(&report)? + "\n",
        Form::Markdown => markdown::render(&report),
    };
    let exit_code = match report.result {
        report::Result::NoChanges => 0,
        report::Result::Errors => 1,
        report::Result::Changes => 2,
    };
    Ok(Printed { text, exit_code })
}

/// All manifests, if all can be read.
fn readable(found: Vec<Result<Manifest, manifests::Unreadable>>) -> anyhow::Result<Vec<Manifest>> {
    let wrong = found.iter().filter_map(|found| found.as_ref().err().map(ToString::to_string));
    let wrong: Vec<_> = wrong.collect();
    if wrong.is_empty() { Ok(found.into_iter().flatten().collect()) } else { Err(unusable(&wrong)) }
}

fn unusable(lines: &[String]) -> anyhow::Error {
    let lines = lines.join("\n  ");
    anyhow::anyhow!("the manifests would be refused, and the cloud was not asked:\n  {lines}")
}

/// A directory that contacts of the manifests live in.
enum Place {
    /// It is listed.
    Reached(Box<Target>),
    /// It is not, for this reason.
    Closed(Finding),
}

/// The names of the ResourceDirectories that only the target branch has: they would be deleted.
fn removed(options: &Options, manifests: &[Manifest], base: &[Manifest]) -> BTreeSet<String> {
    let named = |all: &[Manifest]| -> BTreeSet<String> {
        let found = all.iter().filter(|manifest| given::is_directory(manifest));
        found.map(|manifest| manifest.name().to_owned()).collect()
    };
    let mut removed = named(base);
    let kept = named(manifests);
    let only = options.cloud.directory.as_ref();
    removed.retain(|name| !kept.contains(name) && only.is_none_or(|only| only == name));
    removed
}

/// The directories of the manifests, by the names of their ResourceDirectories. One that is removed is
/// among them as long as contacts name it: those that leave with it are deleted through it.
fn targets(
    options: &Options,
    manifests: &[Manifest],
    base: &[Manifest],
    given: &Given,
    lookup: impl Fn(&str) -> Option<String> + Copy,
    notes: &mut Vec<String>,
) -> anyhow::Result<BTreeMap<String, Place>> {
    let defined: BTreeMap<&str, &Manifest> = base
        .iter()
        .chain(manifests)
        .filter(|manifest| given::is_directory(manifest))
        .map(|manifest| (manifest.name(), manifest))
        .collect();
    let definitions = manifests.iter().filter(|manifest| given::is_directory(manifest));
    let mut names: BTreeSet<String> =
        definitions.map(|manifest| manifest.name().to_owned()).collect();
    names.extend(given.contacts.iter().map(|object| object.directory().to_owned()));
    names.retain(|name| options.cloud.directory.as_ref().is_none_or(|only| only == name));
    let by_flags = options.cloud.site.is_some() || options.cloud.endpoint.is_some();
    let without: Vec<_> =
        names.iter().filter(|name| !defined.contains_key(name.as_str())).cloned().collect();
    ensure!(
        without.len() < 2 || !(by_flags || defined.is_empty()),
        "the contacts live in several directories ({}): give their ResourceDirectories with -f, or \
         name one with --directory",
        without.join(", ")
    );
    let mut places = BTreeMap::new();
    for name in names {
        let manifest = defined.get(name.as_str());
        if manifest.is_none() && !by_flags && !defined.is_empty() {
            let message = format!(
                "the manifests hold no ResourceDirectory `{name}`; give it with -f, or correct \
                 `directoryRef`"
            );
            let why = Finding::unmet(Reason::DirectoryNotFound, message);
            places.insert(name, Place::Closed(why));
            continue;
        }
        if manifest.is_none() && !by_flags {
            let text = format!(
                "the manifests hold no ResourceDirectory `{name}`: the China site is asked, and \
                 what a directory may allow or forbid is not looked at"
            );
            notes.push(text);
        }
        let secrets = manifests.iter().filter(|manifest| manifest.is("v1", "Secret"));
        let objects: Vec<Value> =
            secrets.chain(manifest.copied()).map(|manifest| manifest.value.clone()).collect();
        let only = cloud::Options { directory: Some(name.clone()), ..options.cloud.clone() };
        let target = only.target(&objects, lookup)?;
        notes.extend(target.notes.iter().cloned());
        places.insert(name, Place::Reached(Box::new(target)));
    }
    Ok(places)
}

/// Lists each directory once, and tries what would become of its objects.
async fn look<'a>(
    options: &Options,
    places: &'a BTreeMap<String, Place>,
    removed: &BTreeSet<String>,
    given: &'a Given,
    progress: &Line,
) -> anyhow::Result<Vec<Known<'a>>> {
    let mut all = Vec::new();
    let mut ids: BTreeMap<DirectoryId, &str> = BTreeMap::new();
    for (name, place) in places {
        let target = match place {
            Place::Reached(target) => target,
            Place::Closed(why) => {
                let forecast = forecast::closed(name, given, why);
                all.push(Known {
                    name,
                    id: None,
                    snapshot: Snapshot::default(),
                    accounts: None,
                    forecast,
                    suspended: false,
                    removed: false,
                });
                continue;
            }
        };
        let mut session = Session::begin(target, Clock::system(), progress)?;
        let is_removed = removed.contains(name);
        let looked = look_at(options, target, is_removed, given, &mut session).await;
        session.close().await;
        let known = looked.with_context(|| {
            format!(
                "ResourceDirectory `{name}` cannot be listed, and without that there is no plan \
                 (`validate` needs no connection)"
            )
        })?;
        if let Some(id) = &known.id
            && let Some(other) = ids.insert(id.clone(), name)
        {
            bail!(
                "the ResourceDirectories `{other}` and `{name}` reach the same directory {id}, and \
                 the operator would work for one of them only"
            );
        }
        all.push(known);
    }
    Ok(all)
}

async fn look_at<'a>(
    options: &Options,
    target: &'a Target,
    removed: bool,
    given: &'a Given,
    session: &mut Session<'_>,
) -> anyhow::Result<Known<'a>> {
    let identity = session.list().await?;
    let clock = Clock::system();
    let mut asked = BTreeSet::new();
    let (snapshot, forecast) = loop {
        let snapshot = session.snapshot();
        let site = Site {
            name: &target.name,
            desired: &target.desired,
            id: &identity.directory_id,
            snapshot: &snapshot,
            now: clock.now(),
            judge_adoption: options.judge_adoption,
            own_namespace: options.operator_namespace.as_deref(),
            removed,
        };
        match forecast::attempt(&site, given) {
            Attempt::Made(forecast) => break (snapshot, forecast),
            Attempt::Asks(ids) => {
                let new: Vec<_> = ids.difference(&asked).cloned().collect();
                ensure!(!new.is_empty(), "contacts change while they are looked at; try it again");
                session.pending(&new).await?;
                asked.extend(new);
            }
        }
    };
    let name = &target.name;
    let is_meant =
        |directories: &BTreeSet<String>| directories.is_empty() || directories.contains(name);
    let mut policies = given.policies.iter();
    let asks =
        policies.any(|policy| is_meant(&policy.scope.directories) && needs_tree(&policy.coverage));
    let accounts = if asks {
        let listed = session.accounts().await;
        Some(listed.map(Tree::of_paths))
    } else {
        None
    };
    let id = Some(identity.directory_id);
    let suspended = target.desired.suspended;
    Ok(Known { name, id, snapshot, accounts, forecast, suspended, removed })
}

/// Everything that is said.
fn put_together(
    options: &Options,
    places: &BTreeMap<String, Place>,
    known: &[Known<'_>],
    removed: BTreeSet<String>,
    given: &Given,
    mut notes: Vec<String>,
) -> Report {
    let of = |known| move |outlook| contact(known, outlook, given);
    let mut contacts: Vec<_> =
        known.iter().flat_map(|known| known.forecast.outlooks.iter().map(of(known))).collect();
    contacts.sort_by(|one, other| {
        (&one.directory, &one.namespace, &one.name).cmp(&(
            &other.directory,
            &other.namespace,
            &other.name,
        ))
    });
    let policies: Vec<_> =
        given.policies.iter().map(|policy| coverage::judge(policy, given, known)).collect();
    notes.extend(not_known(options, places, known, given));
    let mut summary = Summary::default();
    for contact in &contacts {
        let count = match contact.action {
            Action::Create => &mut summary.create,
            Action::Update => &mut summary.update,
            Action::Adopt => &mut summary.adopt,
            Action::Delete => &mut summary.delete,
            Action::Release => &mut summary.release,
            Action::NoChange => &mut summary.unchanged,
            Action::Report => &mut summary.reported,
            Action::Wait => &mut summary.waiting,
            Action::Refuse => &mut summary.refused,
        };
        *count += 1;
    }
    summary.errors = contacts.iter().filter(|contact| contact.error).count()
        + policies.iter().filter(|policy| policy.error).count();
    summary.directories_removed = removed.len();
    summary.directories_suspended = known.iter().filter(|known| known.suspended).count();
    let Summary { create, update, adopt, delete, release, .. } = summary;
    let result = if summary.errors > 0 {
        report::Result::Errors
    } else if create + update + adopt + delete + release + removed.len() > 0 {
        report::Result::Changes
    } else {
        report::Result::NoChanges
    };
    let directories = known.iter().filter_map(|known| {
        let unmanaged = coverage::left_alone(&known.forecast);
        let unmanaged = unmanaged.into_iter().map(|contact| report::Unmanaged {
            contact_id: printable(contact.observed.id.as_str()),
            name: printable(contact.observed.name.as_str()),
        });
        Some(report::Directory {
            name: known.name.to_owned(),
            id: printable(known.id.as_ref()?.as_str()),
            contacts: known.snapshot.contacts().len(),
            unmanaged: unmanaged.collect(),
            suspended: known.suspended,
        })
    });
    let directories = directories.collect();
    let removed_directories = removed.iter().map(|name| printable(name)).collect();
    Report {
        version: 1,
        result,
        summary,
        directories,
        removed_directories,
        contacts,
        policies,
        notes,
    }
}

fn contact(known: &Known<'_>, outlook: &Outlook<'_>, given: &Given) -> report::Contact {
    let Outlook { object, synced, bound, drift, opinions, .. } = outlook;
    let action = action(outlook);
    let unmet = |finding: &&Finding| finding.status != Status::True;
    let said = [Some(synced), bound.as_ref()].into_iter().flatten().find(unmet);
    let said = said.filter(|_| !object.removed || action == Action::Wait);
    let violations = opinions.iter().flat_map(|opinion| {
        opinion.violations.iter().map(|violation| report::Violation {
            policy: opinion.policy.clone(),
            enforcement: opinion.enforcement.as_str(),
            rule: violation.rule.as_str(),
            message: violation.message.clone(),
        })
    });
    let id = outlook.held.as_ref().or(outlook.holds.as_ref());
    let id = id.filter(|id| !imagined::Imagined::is_new(id));
    let unknown = [(outlook.unknown.email, "emailAddress"), (outlook.unknown.phone, "phoneNumber")];
    let unknown: Vec<_> = unknown.into_iter().filter(|(is, _)| *is).map(|it| it.1).collect();
    let mut encrypted = given.encrypted(object);
    encrypted.retain(|it| unknown.contains(&it.field));
    let is_changed = !object.is_as_before() || known.removed;
    let does_something = matches!(
        action,
        Action::Create | Action::Update | Action::Adopt | Action::Delete | Action::Release
    );
    report::Contact {
        namespace: printable(&object.key.namespace),
        name: printable(&object.key.name),
        called: printable(crate::api::parse::wanted_name(&object.spec).as_str()),
        directory: known.name.to_owned(),
        file: printable(&object.place.file),
        line: object.place.line,
        action,
        id: id.map(|id| printable(id.as_str())),
        calls: outlook.calls.iter().cloned().map(report::Call::from).collect(),
        drift: drift
            .iter()
            .map(|difference| report::Field {
                name: difference.field.as_str(),
                before: Some(printable(&difference.observed)),
                after: printable(&difference.desired),
            })
            .collect(),
        reason: said.map(|finding| finding.reason.as_str()),
        message: said.map(|finding| printable(&finding.message)),
        violations: violations.collect(),
        unknown,
        encrypted: encrypted
            .into_iter()
            .map(|given::Encrypted { field, secret, how }| report::Encrypted {
                field,
                secret: printable(secret),
                how,
            })
            .collect(),
        waits_for_resume: known.suspended && does_something,
        error: !object.removed && is_refusal(synced.reason) && is_changed,
    }
}

fn action(outlook: &Outlook<'_>) -> Action {
    let Outlook { object, calls, adopts, retains, held, synced, .. } = outlook;
    let has = |action: &str| calls.iter().any(|call| call.action == action);
    if object.removed {
        return match (has("DeleteMessageContact"), retains, held) {
            (true, ..) => Action::Delete,
            (false, true, _) => Action::Release,
            (false, false, None) if synced.reason == Reason::Deleting => Action::NoChange,
            (false, false, _) => Action::Wait,
        };
    }
    match synced.reason {
        _ if has("AddMessageContact") => Action::Create,
        _ if *adopts => Action::Adopt,
        _ if !calls.is_empty() => Action::Update,
        Reason::InSync => Action::NoChange,
        Reason::Suspended | Reason::Drifted => Action::Report,
        reason if is_refusal(reason) => Action::Refuse,
        _ => Action::Wait,
    }
}

/// Whether somebody has to change something before it is done.
fn is_refusal(reason: Reason) -> bool {
    reason.stalls() || matches!(reason, Reason::SecretNotFound | Reason::DirectoryNotFound)
}

/// What the manifests do not tell.
fn not_known(
    options: &Options,
    places: &BTreeMap<String, Place>,
    known: &[Known<'_>],
    given: &Given,
) -> Vec<String> {
    let mut notes = BTreeSet::new();
    for known in known {
        let Some(Place::Reached(target)) = places.get(known.name) else { continue };
        let name = known.name;
        for outlook in known.forecast.outlooks.iter().filter(|outlook| !outlook.object.removed) {
            let namespace = &outlook.object.key.namespace;
            if given.knows_namespace(namespace) {
                continue;
            }
            match &target.desired.namespaces {
                NamespaceRule::OwnOnly if options.operator_namespace.is_none() => {
                    notes.insert(format!(
                        "the ResourceDirectory `{name}` admits only the operator's own namespace, \
                         and which that is is not known: name it with --operator-namespace"
                    ));
                }
                NamespaceRule::Selector(selector)
                    if !selector.matches(&given.labels(namespace)) =>
                {
                    notes.insert(format!(
                        "whether the ResourceDirectory `{name}` admits the namespace \
                         `{namespace}` is not known: give its Namespace with -f"
                    ));
                }
                NamespaceRule::OwnOnly | NamespaceRule::Selector(_) => {}
            }
            let empty = crate::domain::directory::LabelSelector::default();
            let by_labels = given.policies.iter().filter(|policy| policy.scope.namespaces != empty);
            for policy in by_labels {
                let policy = &policy.name;
                notes.insert(format!(
                    "the ContactPolicy `{policy}` goes by the labels of the namespace \
                     `{namespace}`, which are not known: give its Namespace with -f"
                ));
            }
        }
        if let Some(Err(failure)) = &known.accounts {
            notes.insert(format!("where the accounts of `{name}` stand is not known: {failure}"));
        }
    }
    let outlooks = || known.iter().flat_map(|known| &known.forecast.outlooks);
    for outlook in outlooks().filter(|it| it.unknown.email || it.unknown.phone) {
        for given::Encrypted { secret, how, .. } in given.encrypted(outlook.object) {
            let namespace = &outlook.object.key.namespace;
            notes.insert(format!(
                "the Secret `{namespace}/{secret}` is {how}, and what it holds is not known: decrypt \
                 it for the plan (`sops --decrypt FILE | message-contact-operator plan -f PATH -f -`)"
            ));
        }
    }
    let unknown: usize =
        outlooks().map(|it| usize::from(it.unknown.email) + usize::from(it.unknown.phone)).sum();
    if unknown > 0 {
        notes.insert(format!(
            "values that stand in Secrets which the manifests do not hold, or hold encrypted: \
             {unknown}; they are printed as `unknown`, and taken as unchanged where the contact is \
             in the cloud"
        ));
    }
    notes.into_iter().collect()
}
