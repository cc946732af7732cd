//! What the apiserver was asked to do, from its own audit log.

use std::{
    collections::{BTreeMap, HashSet},
    fs::File,
    io::{ErrorKind, Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use serde::Deserialize;

/// The requests that the apiserver has served, in the order in which it answered them.
///
/// The apiserver writes the line of a request before the last byte of its answer, so whoever has
/// read an answer to its end finds the request here. A watch is there as soon as it has begun.
#[derive(Debug, Clone)]
pub struct Audit {
    log: PathBuf,
    read: Arc<Mutex<ReadSoFar>>,
}

/// A place in the audit log; see [`Audit::mark`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark(usize);

/// Whose requests.
#[derive(Debug, Clone, Copy)]
pub enum By<'a> {
    /// Those of this user: `system:serviceaccount:<namespace>:<name>` for a service account.
    User(&'a str),
    /// Those of the programs whose `User-Agent` begins like this. kube sends none by itself.
    UserAgent(&'a str),
    /// Everybody's, those of the apiserver itself and of the controller manager included.
    Anyone,
}

/// One request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEvent {
    /// When the apiserver got it.
    pub at: Timestamp,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete` or `deletecollection`; for a
    /// path that is no resource the HTTP method in lower case.
    pub verb: String,
    /// The API group; empty for the core group and for a path that is no resource.
    pub group: String,
    /// The plural, as in the path; empty for a path that is no resource.
    pub resource: String,
    /// `status`, `scale`, `token`, or empty.
    pub subresource: String,
    /// Empty for a cluster-scoped resource.
    pub namespace: String,
    /// Empty for `list` and `watch`; for `create`, the name that was asked for.
    pub name: String,
    /// The user whose rights counted: the impersonated one, if there is one.
    pub user: String,
    /// The header; empty if the client sent none.
    pub user_agent: String,
    /// The status of the answer; 0 if there was none.
    pub code: u16,
    /// The path and the query.
    pub uri: String,
    /// What admission has noted; why the request was authorized is left out.
    pub annotations: BTreeMap<String, String>,
}

impl AuditEvent {
    /// Whether the request was meant to change something stored, successful or not.
    ///
    /// Reviews (`SubjectAccessReview` and the like) and requests for a token are created, but
    /// never stored; a dry run stores nothing either, though that of a `delete` is said in a body
    /// that the log does not have, and counts.
    #[must_use]
    pub fn is_write(&self) -> bool {
        let changes = ["create", "update", "patch", "delete", "deletecollection"];
        let answers = ["authentication.k8s.io", "authorization.k8s.io"];
        let stores = !answers.contains(&self.group.as_str()) && self.subresource != "token";
        changes.contains(&self.verb.as_str()) && stores && !self.uri.contains("dryRun=All")
    }

    /// Whether it is one of theirs.
    #[must_use]
    pub fn is_by(&self, who: By<'_>) -> bool {
        match who {
            By::User(user) => self.user == user,
            By::UserAgent(start) => self.user_agent.starts_with(start),
            By::Anyone => true,
        }
    }
}

impl Audit {
    pub(crate) fn of(log: &Path) -> Self {
        Self { log: log.to_path_buf(), read: Arc::default() }
    }

    /// Now: every request that was answered before lies before it.
    ///
    /// # Errors
    ///
    /// If the log cannot be read.
    pub fn mark(&self) -> Result<Mark> {
        self.with_all(|events| Mark(events.len()))
    }

    /// The requests that were answered since then; of watches, those that began since then.
    ///
    /// # Errors
    ///
    /// If the log cannot be read.
    pub fn since(&self, mark: Mark) -> Result<Vec<AuditEvent>> {
        self.with_all(|events| events[mark.0..].to_vec())
    }

    /// The writes since then; see [`AuditEvent::is_write`].
    ///
    /// # Errors
    ///
    /// If the log cannot be read.
    pub fn writes(&self, mark: Mark, who: By<'_>) -> Result<Vec<AuditEvent>> {
        let mut events = self.since(mark)?;
        events.retain(|event| event.is_write() && event.is_by(who));
        Ok(events)
    }

    fn with_all<T>(&self, look: impl FnOnce(&[AuditEvent]) -> T) -> Result<T> {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        read.catch_up(&self.log).context("cannot read the audit log")?;
        Ok(look(&read.events))
    }

    /// Removes half a line, which an apiserver that was killed may have left at the end.
    pub(crate) fn cut_torn_line(&self) -> Result<()> {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        read.catch_up(&self.log)?;
        match File::options().write(true).open(&self.log) {
            Ok(log) => Ok(log.set_len(read.bytes)?),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

#[derive(Debug, Default)]
struct ReadSoFar {
    /// Up to the end of the last whole line.
    bytes: u64,
    events: Vec<AuditEvent>,
    /// A watch has two lines, one when it begins and one when it ends: the first one counts.
    seen: HashSet<String>,
}

impl ReadSoFar {
    fn catch_up(&mut self, log: &Path) -> Result<()> {
        let mut log = match File::open(log) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            opened => opened?,
        };
        log.seek(SeekFrom::Start(self.bytes))?;
        let mut new = Vec::new();
        log.read_to_end(&mut new)?;
        for line in new.split_inclusive(|byte| *byte == b'\n') {
            if !line.ends_with(b"\n") {
                break;
            }
            let line_read: Line = serde_json::from_slice(line)?;
            self.bytes += u64::try_from(line.len())?;
            if self.seen.insert(line_read.audit_id.clone()) {
                self.events.push(line_read.into());
            }
        }
        Ok(())
    }
}

/// What we use of `audit.k8s.io/v1`, kind `Event`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    #[serde(rename = "auditID")]
    audit_id: String,
    #[serde(rename = "requestURI")]
    request_uri: String,
    verb: String,
    user: User,
    impersonated_user: Option<User>,
    #[serde(default)]
    user_agent: String,
    #[serde(default)]
    object_ref: ObjectRef,
    #[serde(default)]
    response_status: ResponseStatus,
    request_received_timestamp: Timestamp,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct User {
    #[serde(default)]
    username: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ObjectRef {
    api_group: String,
    resource: String,
    subresource: String,
    namespace: String,
    name: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ResponseStatus {
    code: u16,
}

impl From<Line> for AuditEvent {
    fn from(mut line: Line) -> Self {
        line.annotations.retain(|key, _| !key.starts_with("authorization.k8s.io/"));
        Self {
            at: line.request_received_timestamp,
            verb: line.verb,
            group: line.object_ref.api_group,
            resource: line.object_ref.resource,
            subresource: line.object_ref.subresource,
            namespace: line.object_ref.namespace,
            name: line.object_ref.name,
            user: line.impersonated_user.unwrap_or(line.user).username,
            user_agent: line.user_agent,
            code: line.response_status.code,
            uri: line.request_uri,
            annotations: line.annotations,
        }
    }
}
