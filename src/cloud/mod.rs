//! One client of the Resource Directory RPC API: sends one call, reads one answer.
//!
//! No call is retried, queued or cached: that would be deciding, which belongs to `directory` and
//! `plan`. What is kept are keys, in [`credentials`], until they are about to end.
//!
//! **Invariant:** everything that is sent stands in the form body; the URL is the bare endpoint.
//! **Invariant:** no error, `Debug` or trace of this module holds a URL, a body or the cloud's
//! `Message`.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use crate::domain::access::{AccessKeys, Endpoint};
use crate::domain::call::{Call, CallError, ErrorCode, FailureClass, Reply, RequestId};
use crate::uptime::Moment;
use credentials::provider::Provider;
use transport::{Answer, Limits, NoAnswer, Transport};

pub use credentials::Credentials;

mod wire;

mod sign;

mod error;

mod transport;

mod timely;

pub mod credentials;

#[cfg(test)]
mod tests;

/// Sends calls to one endpoint with one identity.
///
/// Cheap to keep, dear to make: it holds the connection that the next call reuses.
#[derive(Clone)]
pub struct Client {
    transport: Transport,
    provider: Provider,
}

/// Whose certificates are trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Roots {
    /// Those that `SSL_CERT_FILE` and `SSL_CERT_DIR` name, and no others: whoever names them may
    /// want nobody else to be trusted.
    Named,
    /// Those of the system; where there are none at all, as in an image made from scratch,
    /// Mozilla's list, which is compiled in.
    System,
}

impl Roots {
    /// What the environment asks for, which `lookup` reads. An empty variable counts as not set.
    #[must_use]
    pub fn from_environment(lookup: impl Fn(&str) -> Option<String>) -> Self {
        let is_set = |name: &str| lookup(name).is_some_and(|path| !path.is_empty());
        if is_set("SSL_CERT_FILE") || is_set("SSL_CERT_DIR") { Self::Named } else { Self::System }
    }
}

impl Client {
    /// Longest wait for a connection: name, TCP and TLS together. Source: the official SDKs.
    pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

    /// Longest a call takes from its start to the last byte of the answer. Source: the official SDKs' read time-out.
    pub const CALL_TIMEOUT: Duration = Duration::from_secs(10);

    /// The time-outs of a call; only tests choose others.
    const LIMITS: Limits = Limits { connect: Self::CONNECT_TIMEOUT, call: Self::CALL_TIMEOUT };

    /// A client of that endpoint. Opens no connection.
    ///
    /// An https endpoint is reached through the proxy that `HTTPS_PROXY`, `ALL_PROXY` and
    /// `NO_PROXY` name; an http endpoint never is.
    ///
    /// # Errors
    /// The endpoint is not the origin of an http or https server, or TLS could not be set up.
    pub fn new(
        endpoint: Endpoint,
        credentials: Credentials,
        roots: Roots,
    ) -> Result<Self, BuildError> {
        Self::with_limits(&endpoint, credentials, roots, Self::LIMITS)
    }

    fn with_limits(
        endpoint: &Endpoint,
        credentials: Credentials,
        roots: Roots,
        limits: Limits,
    ) -> Result<Self, BuildError> {
        let transport = Transport::new(endpoint, roots, limits)?;
        Ok(Self { transport, provider: Provider::new(credentials, roots, limits)? })
    }

    /// The keys for a call that is about to be made. Mostly they are at hand; if they must be
    /// fetched, that takes no longer than [`Self::CALL_TIMEOUT`]. To be asked before it is decided
    /// what to call: then the call goes out right after the decision.
    ///
    /// # Errors
    /// There are none: `FailureClass::NoKeys`.
    pub async fn keys(&self, now: Timestamp) -> Result<AccessKeys, CallError> {
        self.provider.keys(now).await
    }

    /// Sends one call, once, and reads its answer. `now` is the time that is signed; the cloud
    /// refuses one that is more than 15 minutes off. It ends before `until`, within
    /// [`Self::CALL_TIMEOUT`], and nothing is sent any more after that.
    ///
    /// Dropping the future of a write before it ends leaves its outcome unknown, as
    /// `FailureClass::OutcomeUnknown` does.
    ///
    /// # Errors
    /// The call did not do its work, or nobody knows: [`CallError::class`] says which.
    /// A failure before a connection stood (name, TCP, TLS, proxy) is `Unavailable` for a write
    /// too, because not a byte of the request had left.
    pub async fn send(
        &self,
        call: &Call,
        keys: &AccessKeys,
        now: Timestamp,
        until: Moment,
    ) -> Result<Reply, CallError> {
        let started = Instant::now();
        let result = self.exchange(call, keys, now, until).await;
        let elapsed_ms = started.elapsed().as_millis();
        let action = call.action().as_str();
        match &result {
            Ok(_) => tracing::debug!(action, elapsed_ms, "call answered"),
            Err(error) => tracing::debug!(
                action,
                outcome = error.class.as_str(),
                code = error.code.as_ref().map(ErrorCode::as_str),
                request_id = error.request_id.as_ref().map(RequestId::as_str),
                elapsed_ms,
                "call failed"
            ),
        }
        result
    }

    /// The API did not accept these keys: if they are temporary and others can be had, they are not
    /// given out again. Returns whether that is so.
    #[must_use]
    pub fn refused(&self, keys: &AccessKeys, class: FailureClass) -> bool {
        matches!(class, FailureClass::TokenExpired | FailureClass::Credentials)
            && self.provider.forget(keys)
    }

    async fn exchange(
        &self,
        call: &Call,
        keys: &AccessKeys,
        now: Timestamp,
        until: Moment,
    ) -> Result<Reply, CallError> {
        let action = call.action();
        let operation = wire::encode(call);
        let private = wire::Private::of(&operation, Some(keys));
        let nonce = uuid::Uuid::new_v4().to_string();
        let form = sign::form(operation, sign::Operation::of(action), keys, &nonce, now);
        let answer =
            self.transport.post(None, form, until).await.map_err(|failure| match failure {
                NoAnswer::Unsent => error::unsent(action),
                NoAnswer::Unanswered => error::unanswered(action),
            })?;
        match answer {
            Answer { status: 200..=299, body: Some(body), .. } => wire::decode(action, &body)
                .ok()
                .filter(|reply| wire::answers(call, reply))
                .ok_or_else(|| error::unanswered(action)),
            Answer { status: 200..=399, .. } => Err(error::unanswered(action)),
            answer => Err(error::refused(action, &answer, &private, now)),
        }
    }
}

/// Shows nothing: what a client consists of are keys and a URL.
impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

/// Why a client could not be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// The endpoint must be changed.
    #[error("the endpoint is not an origin such as https://host or https://host:port")]
    Endpoint,
    /// The container or the machine must be changed.
    #[error(
        "TLS could not be set up: no certificate can be used; check SSL_CERT_FILE and SSL_CERT_DIR \
         of the operator's environment"
    )]
    Tls,
}
