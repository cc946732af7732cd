//! A directory from the command line: which one, with which keys, and a look at all of it.
//!
//! No cluster is needed. Calls go through the same runtime as the operator's: the same keys, one call
//! at a time, giving way to others.
//!
//! **Invariant:** nothing but reads is called.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail, ensure};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::api::resource_directory::{self, ResourceDirectorySpec};
use crate::api::{self, parse};
use crate::cli::manifests;
use crate::clock::Clock;
use crate::controller::not_connected;
use crate::directory::{
    Ambient, Config, Connection, Credentials, Directory, NotListed, Outcome, Priority, Registry,
    Roots, Unusable,
};
use crate::domain::call::{
    self, AccountPath, Call, CallError, DirectoryIdentity, FailureClass, Reply,
};
use crate::domain::contact::{ContactId, ObservedContact};
use crate::domain::directory::{CredentialSource, DesiredCredentials, DesiredDirectory};
use crate::domain::snapshot::{Sight, Snapshot};
use crate::domain::verdict::Reason;
use crate::telemetry::Metrics;
use crate::uptime::Moment;

#[cfg(test)]
mod tests;

/// Which directory is looked at, and with which keys.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "The directory")]
// Its own name for the group: commands have options of that name, too.
#[group(id = "cloud")]
pub struct Options {
    /// The ResourceDirectory that is meant, where the manifests hold several; without any in them, what
    /// it is called. Without this either it is `default`.
    #[arg(long, value_name = "NAME")]
    pub directory: Option<String>,

    /// Where the account was opened; goes before what a manifest says. Without either it is China.
    #[arg(long, value_enum, ignore_case = true)]
    pub site: Option<Site>,

    /// The origin of the API instead of a site; goes before what a manifest says.
    #[arg(long, value_name = "URL", conflicts_with = "site")]
    pub endpoint: Option<String>,

    /// An endpoint that may be called beside the built-in ones, as an exact origin such as
    /// `http://127.0.0.1:8443`. May be given several times.
    #[arg(long, env = "MCO_ALLOW_ENDPOINT", value_name = "URL", value_delimiter = ',')]
    pub allow_endpoint: Vec<String>,

    /// Where the access keys come from; goes before what a manifest says. Without either they come
    /// from the environment (`ALIBABA_CLOUD_ACCESS_KEY_ID`, `ALIBABA_CLOUD_ACCESS_KEY_SECRET`), else
    /// from RRSA.
    #[arg(long, value_enum, ignore_case = true, value_name = "SOURCE")]
    pub credentials: Option<Source>,

    /// A role that is taken with these keys; goes before what a manifest says.
    #[arg(long, value_name = "ARN")]
    pub assume_role: Option<String>,
}

/// The words of `spec.site`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Site {
    /// Accounts of the China site.
    #[value(name = "China")]
    China,
    /// Accounts of the international site.
    #[value(name = "International")]
    International,
}

/// The words of `spec.credentials.source` that need no Secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Source {
    /// Keys in the environment's variables.
    #[value(name = "Environment")]
    Environment,
    /// The token of the service account.
    #[value(name = "RRSA")]
    Rrsa,
    /// The role of the node.
    #[value(name = "InstanceRole")]
    InstanceRole,
}

/// A directory that can be connected to.
#[derive(Debug, Clone)]
pub struct Target {
    /// The name of its ResourceDirectory; `default` without one, as a contact that names none means.
    pub name: String,
    /// What its spec asks for.
    pub desired: DesiredDirectory,
    /// What a person should know about how it is reached.
    pub notes: Vec<String>,
    credentials: Credentials,
    roots: Roots,
    token_file: Option<String>,
}

/// The name of a directory that no manifest names.
const UNNAMED: &str = "default";

impl Options {
    /// The directory that is meant: from a ResourceDirectory among the objects, with what the flags
    /// say instead, or from the flags alone. `lookup` reads the environment.
    ///
    /// # Errors
    /// It is not clear which one is meant, its spec is not acceptable, or there are no keys for it.
    pub fn target(
        &self,
        objects: &[Value],
        lookup: impl Fn(&str) -> Option<String>,
    ) -> anyhow::Result<Target> {
        let mut allowed = self.allow_endpoint.iter().filter(|origin| !origin.is_empty());
        ensure!(
            allowed.all(|origin| parse::is_origin(origin)),
            "--allow-endpoint or MCO_ALLOW_ENDPOINT: write scheme, host and port only, such as \
             http://127.0.0.1:8443, without user, path or query"
        );
        let unnamed = || {
            let name = self.directory.as_deref().unwrap_or(UNNAMED);
            (name.to_owned(), ResourceDirectorySpec::default())
        };
        let (name, spec) = self.chosen(objects)?.unwrap_or_else(unnamed);
        let spec = self.over(spec);
        let desired = parse::directory(&spec, &self.allow_endpoint).map_err(|problem| {
            match problem {
                parse::DirectoryProblem::EndpointNotAllowed(_) => anyhow!(
                    "the endpoint of `{name}` is not one of the built-in ones; if you trust it with \
                     your keys, add --allow-endpoint and this exact origin"
                ),
                parse::DirectoryProblem::Invalid(problem) => {
                    anyhow!("ResourceDirectory `{name}`: {problem}")
                }
            }
        })?;
        let ambient = Ambient::read(&lookup, &self.allow_endpoint);
        let mut notes = Vec::new();
        let credentials = credentials(&ambient, &desired.credentials, objects, &mut notes)?;
        Ok(Target {
            name,
            desired,
            notes,
            credentials,
            roots: Roots::from_environment(&lookup),
            token_file: ambient.token_file().map(str::to_owned),
        })
    }

    /// The one ResourceDirectory that is meant, if there is any.
    fn chosen(&self, objects: &[Value]) -> anyhow::Result<Option<(String, ResourceDirectorySpec)>> {
        let is_directory = |object: &&Value| {
            let version = object["apiVersion"].as_str().unwrap_or_default();
            version.split('/').next() == Some(api::GROUP) && object["kind"] == "ResourceDirectory"
        };
        let name = |object: &Value| object["metadata"]["name"].as_str().unwrap_or("").to_owned();
        let mut found: Vec<_> = objects.iter().filter(is_directory).collect();
        let names: Vec<_> = found.iter().map(|object| name(object)).collect();
        if let Some(wanted) = self.directory.as_ref().filter(|_| !names.is_empty()) {
            found.retain(|object| name(object) == *wanted);
            ensure!(
                !found.is_empty(),
                "the manifests hold no ResourceDirectory `{wanted}`, but {}",
                names.join(", ")
            );
        }
        match found.as_slice() {
            [] => Ok(None),
            [object] => {
                let spec = serde_json::from_value(object["spec"].clone());
                // The error's own text may quote the manifest.
                let spec = spec.ok().with_context(|| {
                    format!("ResourceDirectory `{}`: check it with `validate`", name(object))
                })?;
                Ok(Some((name(object), spec)))
            }
            _ => bail!(
                "the manifests hold several ResourceDirectories; name one with --directory: {}",
                names.join(", ")
            ),
        }
    }

    /// A spec with what the flags say instead.
    fn over(&self, mut spec: ResourceDirectorySpec) -> ResourceDirectorySpec {
        if let Some(site) = self.site {
            let word = match site {
                Site::China => "China",
                Site::International => "International",
            };
            (spec.site, spec.endpoint) = (Some(word.to_owned()), None);
        }
        if let Some(endpoint) = &self.endpoint {
            (spec.site, spec.endpoint) = (None, Some(endpoint.clone()));
        }
        if let Some(source) = self.credentials {
            let word = match source {
                Source::Environment => "Environment",
                Source::Rrsa => "RRSA",
                Source::InstanceRole => "InstanceRole",
            };
            let credentials = spec.credentials.get_or_insert_default();
            (credentials.source, credentials.secret_ref) = (Some(word.to_owned()), None);
        }
        if let Some(arn) = &self.assume_role {
            let role = resource_directory::AssumeRole {
                role_arn: arn.clone(),
                session_name: None,
                external_id: None,
                duration_seconds: None,
            };
            spec.credentials.get_or_insert_default().assume_role = Some(role);
        }
        spec
    }
}

/// Where the keys come from. A Secret is looked for among the objects; without it the environment's
/// keys are taken, and that is noted.
fn credentials(
    ambient: &Ambient,
    desired: &DesiredCredentials,
    objects: &[Value],
    notes: &mut Vec<String>,
) -> anyhow::Result<Credentials> {
    let credentials = match &desired.source {
        CredentialSource::Ambient => ambient.any(),
        CredentialSource::Environment => ambient.environment(),
        CredentialSource::Rrsa => ambient.rrsa(),
        CredentialSource::InstanceRole => ambient.instance_role(),
        CredentialSource::Secret { name } => Ok(in_secret(ambient, name, objects, notes)?),
    };
    let assumed = credentials.and_then(|credentials| match &desired.assume_role {
        Some(role) => ambient.assuming(credentials, role),
        None => Ok(credentials),
    });
    assumed.map_err(|problem| match problem {
        Unusable::Nothing | Unusable::NoKeys => anyhow!(
            "there are no access keys: set ALIBABA_CLOUD_ACCESS_KEY_ID and \
             ALIBABA_CLOUD_ACCESS_KEY_SECRET, or choose another source with --credentials"
        ),
        Unusable::NoRrsa => anyhow!(
            "RRSA works in a pod that the webhook has given its variables; elsewhere choose another \
             source, such as --credentials Environment"
        ),
        problem => problem.into(),
    })
}

/// The keys in that Secret; if it is not among the objects, or encrypted, those of the environment.
fn in_secret(
    ambient: &Ambient,
    name: &str,
    objects: &[Value],
    notes: &mut Vec<String>,
) -> anyhow::Result<Credentials> {
    let (why, mend) = match secret(name, objects)? {
        Found::Read(data) => {
            let keys = Credentials::from_secret_data(&data);
            return Ok(Credentials::fixed(keys.with_context(|| format!("the Secret `{name}`"))?));
        }
        Found::Encrypted(how) => {
            (format!("the Secret `{name}` with the access keys is {how}"), "decrypt it")
        }
        Found::Nothing => (
            format!("the manifests do not hold the Secret `{name}` with the access keys"),
            "give it with -f",
        ),
    };
    let keys = ambient.environment().map_err(|_| {
        anyhow!(
            "{why}: {mend}, or set ALIBABA_CLOUD_ACCESS_KEY_ID and ALIBABA_CLOUD_ACCESS_KEY_SECRET"
        )
    })?;
    notes.push(format!("{why}: the access keys of the environment are used"));
    Ok(keys)
}

/// What is known of a Secret.
enum Found {
    /// It is not among the objects.
    Nothing,
    /// It is there and cannot be read: in words, how it is encrypted.
    Encrypted(&'static str),
    /// It holds this.
    Read(BTreeMap<String, Vec<u8>>),
}

/// What the Secret of that name holds, if it is among the objects. One that is encrypted stands back
/// behind the same one decrypted.
fn secret(name: &str, objects: &[Value]) -> anyhow::Result<Found> {
    let is_meant = |object: &&Value| {
        object["apiVersion"] == "v1"
            && object["kind"] == "Secret"
            && object["metadata"]["name"] == name
    };
    let found = objects.iter().filter(is_meant);
    let (encrypted, readable): (Vec<_>, Vec<_>) =
        found.partition(|object| manifests::encryption(object).is_some());
    let secret = match readable.as_slice() {
        [] => {
            let how = encrypted.first().and_then(|object| manifests::encryption(object));
            return Ok(how.map_or(Found::Nothing, Found::Encrypted));
        }
        [secret] => secret,
        _ => bail!("the manifests hold several Secrets `{name}`: give only the one with the keys"),
    };
    let mut data = BTreeMap::new();
    for (key, value) in secret["data"].as_object().into_iter().flatten() {
        let text = value.as_str().map(|text| text.split_whitespace().collect::<String>());
        let bytes = text.and_then(|text| BASE64_STANDARD.decode(text).ok());
        let bytes = bytes.with_context(|| format!("the Secret `{name}`: `data` is not base64"))?;
        data.insert(key.clone(), bytes);
    }
    for (key, value) in secret["stringData"].as_object().into_iter().flatten() {
        data.insert(key.clone(), value.as_str().unwrap_or_default().as_bytes().to_vec());
    }
    Ok(Found::Read(data))
}

/// Why a look at the cloud came to nothing: a sentence that says what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// As the condition `Ready` of a ResourceDirectory would have it.
    pub reason: Reason,
    /// What is wrong, and what to do. Holds no private value.
    pub message: String,
    /// The class of the call that failed, if one did.
    pub class: Option<FailureClass>,
}

/// Told of how far a look is, for a person who waits.
pub trait Progress {
    /// What is being done now.
    fn says(&self, what: &str);
}

/// Says nothing.
pub struct Silent;

impl Progress for Silent {
    fn says(&self, _: &str) {}
}

/// Everything that is known of a directory after one look.
#[derive(Debug, Clone)]
pub struct Listing {
    /// Which directory it is.
    pub identity: DirectoryIdentity,
    /// All its contacts, and what waits for confirmation of those that it was asked for.
    pub snapshot: Snapshot,
    /// Where each account stands, or why that is not known; `None`: it was not asked for.
    pub accounts: Option<Result<Vec<AccountPath>, Failure>>,
    /// When the look was over.
    pub at: Timestamp,
}

impl Listing {
    /// The values of a contact that wait for confirmation; none if it was not asked for.
    #[must_use]
    pub fn pending(&self, contact: &ContactId) -> Vec<call::Target> {
        match self.snapshot.sight(contact) {
            Sight::Known(entry) => entry.pending.map(|pending| pending.targets).unwrap_or_default(),
            Sight::Unlisted | Sight::Gone { .. } => Vec::new(),
        }
    }
}

/// A connection to one directory.
pub struct Session<'a> {
    target: &'a Target,
    progress: &'a dyn Progress,
    clock: Clock,
    config: Config,
    registry: Registry,
    directory: Directory,
}

/// So long nothing may come of a call or a list, while others hold the directory or it is throttled.
const PATIENCE: SignedDuration = SignedDuration::from_mins(2);

/// How often a look is begun again that got no usable answer.
const TRIES: i32 = 3;

/// Pause before it is begun again, times the tries so far.
const PAUSE: SignedDuration = SignedDuration::from_millis(500);

/// How often it is looked how far a list is.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// How often it is looked whether the first list is there: nobody notices so short a wait.
const LOOK_AT_FIRST_EVERY: Duration = Duration::from_millis(5);

/// Pages of accounts at most; more are a fault of the other side.
const PAGES_MAX: u32 = 1000;

/// What is said of a failure that may pass by itself.
const AGAIN: &str = "try it again";

impl<'a> Session<'a> {
    /// Begins to connect. MUST be called within a tokio runtime; ends with [`Self::close`].
    ///
    /// # Errors
    /// No client can be made: certificates cannot be used.
    pub fn begin(
        target: &'a Target,
        clock: Clock,
        progress: &'a dyn Progress,
    ) -> Result<Self, Failure> {
        // Fails only when it was done before.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (registry, _) =
            Registry::new(clock.clone(), Metrics::default(), Arc::new(|| Some(Moment::MAX)));
        let config = Config {
            endpoint: target.desired.endpoint.clone(),
            credentials: target.credentials.clone(),
            roots: target.roots,
            pin: target.desired.pin.clone(),
            poll_interval: target.desired.poll_interval,
            requests_per_second: target.desired.requests_per_second,
        };
        let directory = connect(&registry, &target.name, &config)?;
        Ok(Self { target, progress, clock, config, registry, directory })
    }

    /// Lists all contacts; where a try gets no usable answer, a few times.
    ///
    /// # Errors
    /// The directory cannot be read, or is not the one that is pinned.
    pub async fn list(&mut self) -> Result<DirectoryIdentity, Failure> {
        let mut tries = 1;
        loop {
            let error = match self.one_list().await? {
                Ok(()) => break,
                Err(NotListed::Closed) => return Err(self.stuck()),
                Err(NotListed::Failed(error)) => error,
            };
            if error.class != FailureClass::Unavailable || tries == TRIES {
                return Err(self.failure(&error));
            }
            self.progress.says("no usable answer, once more");
            // One that has failed tries again by itself, after pauses as long as an operator's.
            self.registry.remove(&self.target.name);
            self.pause(tries).await;
            self.directory = connect(&self.registry, &self.target.name, &self.config)?;
            tries += 1;
        }
        self.identity().ok_or_else(|| self.stuck())
    }

    async fn pause(&self, tries: i32) {
        let until = self.clock.now().saturating_add(PAUSE * tries).unwrap_or(Timestamp::MAX);
        self.clock.sleep_until(until).await;
    }

    /// One list, given up when nothing comes of it for too long.
    async fn one_list(&self) -> Result<Result<(), NotListed>, Failure> {
        let mut first = std::pin::pin!(self.first_list());
        let mut last = (self.how_far(), self.clock.now());
        loop {
            tokio::select! {
                ended = &mut first => return Ok(ended),
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            let (how_far, now) = (self.how_far(), self.clock.now());
            let slowed =
                if self.directory.health().throttled { ", slowed down by the API" } else { "" };
            self.progress.says(&format!("listing contacts: {} so far{slowed}", how_far.1));
            if how_far != last.0 {
                last = (how_far, now);
            } else if now.duration_since(last.1) > PATIENCE {
                return Err(self.stuck());
            }
        }
    }

    /// The list that the runtime makes by itself once it is connected. Asked for as well, it may be
    /// made twice.
    async fn first_list(&self) -> Result<(), NotListed> {
        loop {
            match self.directory.health().connection {
                Connection::Connecting => tokio::time::sleep(LOOK_AT_FIRST_EVERY).await,
                Connection::Connected => return Ok(()),
                Connection::Failed(error) => return Err(NotListed::Failed(error)),
            }
        }
    }

    /// The page that comes next, and how many contacts are known.
    fn how_far(&self) -> (Option<u32>, usize) {
        self.directory.with_snapshot(|known| (known.next_page(), known.contacts().len()))
    }

    /// Which directory answers, once it was asked for.
    #[must_use]
    pub fn identity(&self) -> Option<DirectoryIdentity> {
        self.directory.with_snapshot(|known| known.identity().cloned())
    }

    /// Makes one call that reads, when its turn has come.
    ///
    /// # Errors
    /// It did not do its work.
    pub async fn read(&self, call: Call) -> Result<Reply, Failure> {
        debug_assert!(call.action().is_read());
        let mut tries = 1;
        loop {
            let wanted = call.clone();
            let outcome =
                self.directory.perform(Priority::Change, move |_, _| Some(wanted.clone()));
            let patience = Duration::try_from(PATIENCE).unwrap_or_default();
            let error = match tokio::time::timeout(patience, outcome).await {
                Ok(Outcome::Done(Ok(reply))) => return Ok(reply),
                Ok(Outcome::Done(Err(error)) | Outcome::NotConnected(error)) => error,
                Ok(Outcome::Overtaken | Outcome::Closed) | Err(_) => return Err(self.stuck()),
            };
            if error.class != FailureClass::Unavailable || tries == TRIES {
                return Err(self.failure(&error));
            }
            self.pause(tries).await;
            tries += 1;
        }
    }

    /// Asks which values of these contacts wait for confirmation.
    ///
    /// # Errors
    /// As [`Self::read`]; a contact that has gone meanwhile is none.
    pub async fn pending(&self, contacts: &[ContactId]) -> Result<(), Failure> {
        for (index, id) in contacts.iter().enumerate() {
            let count = contacts.len();
            self.progress.says(&format!("asking what waits for confirmation: {index} of {count}"));
            let (mut page, mut found) = (1, 0);
            loop {
                let call = Call::ListMessageContactVerifications { id: id.clone(), page };
                let reply = match self.read(call).await {
                    Ok(Reply::Verifications(reply)) => reply,
                    Err(Failure { class: Some(FailureClass::ContactNotFound), .. }) | Ok(_) => {
                        break;
                    }
                    Err(failure) => return Err(failure),
                };
                found += reply.items.len();
                if reply.items.is_empty() || found >= reply.total as usize || page == PAGES_MAX {
                    break;
                }
                page += 1;
            }
        }
        Ok(())
    }

    /// Where each account stands.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub async fn accounts(&self) -> Result<Vec<AccountPath>, Failure> {
        let mut all = Vec::new();
        for page in 1..=PAGES_MAX {
            self.progress.says(&format!("listing accounts: {} so far", all.len()));
            let Reply::Accounts(reply) = self.read(Call::ListAccounts { page }).await? else {
                break;
            };
            let was_last = reply.items.is_empty();
            all.extend(reply.items);
            if was_last || all.len() >= reply.total as usize {
                break;
            }
        }
        Ok(all)
    }

    /// A copy of what is known now.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.directory.with_snapshot(Snapshot::clone)
    }

    /// Ends the connection, after the call in flight.
    pub async fn close(self) {
        self.registry.close().await;
    }

    /// Why a call failed, as it is told.
    fn failure(&self, error: &CallError) -> Failure {
        let class = Some(error.class);
        if let (Some(pin), Some(identity)) = (&self.target.desired.pin, self.identity())
            && *pin != identity.directory_id
        {
            let reached = &identity.directory_id;
            let message = format!(
                "the access keys reach the directory {reached}, and `directoryId` says {pin}; use keys \
                 of that one, or correct it"
            );
            return Failure { reason: Reason::DirectoryChanged, message, class };
        }
        let told = not_connected(error, self.target.token_file.as_deref(), AGAIN);
        Failure { reason: told.reason, message: told.message, class }
    }

    /// Nothing came for too long.
    fn stuck(&self) -> Failure {
        let why = if self.directory.health().throttled {
            "the API asks to slow down all the time"
        } else {
            "other operations hold the directory all the time, or it does not answer"
        };
        let message =
            format!("the directory could not be read within {PATIENCE:#}: {why}; {AGAIN}");
        Failure { reason: Reason::Unreachable, message, class: None }
    }
}

fn connect(registry: &Registry, name: &str, config: &Config) -> Result<Directory, Failure> {
    registry.ensure(name, config.clone()).map_err(|error| Failure {
        reason: Reason::Unreachable,
        message: format!("the connection could not be made: {error}"),
        class: None,
    })
}

/// What a look is to bring beside all contacts.
pub struct Wanted<'a> {
    /// Of which contacts it is asked what waits for confirmation: a call for each.
    pub pending: &'a dyn Fn(&ObservedContact) -> bool,
    /// Whether it is asked where accounts stand.
    pub accounts: bool,
}

/// One complete look at a directory.
///
/// # Errors
/// It cannot be read, or not completely; that accounts cannot be read is told in the listing.
pub async fn look(
    target: &Target,
    wanted: Wanted<'_>,
    clock: Clock,
    progress: &dyn Progress,
) -> Result<Listing, Failure> {
    let mut session = Session::begin(target, clock.clone(), progress)?;
    let looked = look_with(&mut session, &wanted, &clock).await;
    session.close().await;
    looked
}

async fn look_with(
    session: &mut Session<'_>,
    wanted: &Wanted<'_>,
    clock: &Clock,
) -> Result<Listing, Failure> {
    let identity = session.list().await?;
    let in_doubt: Vec<_> = session.directory.with_snapshot(|known| {
        let doubted = known.contacts().filter(|contact| (wanted.pending)(contact));
        doubted.map(|contact| contact.id.clone()).collect()
    });
    session.pending(&in_doubt).await?;
    let accounts = if wanted.accounts { Some(session.accounts().await) } else { None };
    Ok(Listing { identity, snapshot: session.snapshot(), accounts, at: clock.now() })
}
