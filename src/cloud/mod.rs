//! One client of the Resource Directory RPC API: sends one call, reads one answer.
//!
//! No retry, no queue, no cache: those decide, and deciding belongs to `directory` and `plan`.
//!
//! **Invariant:** everything that is sent stands in the form body; the URL is the bare endpoint.
//! **Invariant:** no error, `Debug` or trace of this module holds a URL, a body or the cloud's
//! `Message`.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use reqwest::header::{CONTENT_TYPE, HeaderMap};
use tokio::time::Instant;

use crate::domain::access::Endpoint;
use crate::domain::call::{Call, CallError, ErrorCode, Reply, RequestId};

pub use credentials::Credentials;

mod wire;

mod sign;

mod error;

pub mod credentials;

#[cfg(test)]
mod tests;

/// Sends calls to one endpoint with one identity.
///
/// Cheap to keep, dear to make: it holds the connection that the next call reuses.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    url: reqwest::Url,
    credentials: Credentials,
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

/// Time-outs of one call; only tests choose others than [`Limits::DEFAULT`].
#[derive(Debug, Clone, Copy)]
struct Limits {
    connect: Duration,
    call: Duration,
}

impl Limits {
    const DEFAULT: Self = Self { connect: Client::CONNECT_TIMEOUT, call: Client::CALL_TIMEOUT };
}

impl Client {
    /// Longest wait for a connection: name, TCP and TLS together. Source: the official SDKs.
    pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

    /// Longest a call takes from its start to the last byte of the answer. A lease must outlast
    /// it. Source: the official SDKs' read time-out.
    pub const CALL_TIMEOUT: Duration = Duration::from_secs(10);

    /// Longest body that is read; a longer one counts as unreadable. A page of 1,000 contacts
    /// with ten members each has about half of it.
    pub const BODY_BYTES_MAX: usize = 1024 * 1024;

    /// How long an unused connection is kept. Shorter than the idle time after which NAT gateways
    /// drop a connection without a word, which would turn the next write into an unknown outcome.
    const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

    const USER_AGENT: &str = concat!("message-contact-operator/", env!("CARGO_PKG_VERSION"));

    /// A client of that endpoint. Opens no connection.
    ///
    /// An https endpoint is reached through the proxy that `HTTPS_PROXY`, `ALL_PROXY` and
    /// `NO_PROXY` name: it carries a tunnel and sees only the host. An http endpoint is never
    /// reached through a proxy, which would read addresses and phone numbers.
    ///
    /// # Errors
    /// The endpoint is not the origin of an http or https server, or TLS could not be set up.
    pub fn new(
        endpoint: Endpoint,
        credentials: Credentials,
        roots: Roots,
    ) -> Result<Self, BuildError> {
        Self::with_limits(&endpoint, credentials, roots, Limits::DEFAULT)
    }

    fn with_limits(
        endpoint: &Endpoint,
        credentials: Credentials,
        roots: Roots,
        limits: Limits,
    ) -> Result<Self, BuildError> {
        let url = origin(endpoint).ok_or(BuildError::Endpoint)?;
        // A provider that is already installed is the same one: the program has only ring.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = builder(&url, limits).build().or_else(|error| {
            // Over http nobody's certificate is looked at.
            if roots == Roots::Named && url.scheme() == "https" {
                return Err(error);
            }
            tracing::warn!("no usable system certificates: the compiled-in list is used");
            with_compiled_in_roots(builder(&url, limits))?.build()
        });
        let http = http.map_err(|_| BuildError::Tls)?;
        Ok(Self { http, url, credentials })
    }

    /// Sends one call, once, and reads its answer. `now` is the time that is signed; the cloud
    /// refuses one that is more than 15 minutes off.
    ///
    /// Dropping the future of a write before it ends leaves its outcome unknown, as
    /// `FailureClass::OutcomeUnknown` does.
    ///
    /// # Errors
    /// The call did not do its work, or nobody knows: [`CallError::class`] says which.
    /// A failure before a connection stood (name, TCP, TLS, proxy) is `Unavailable` for a write
    /// too, because not a byte of the request had left.
    pub async fn send(&self, call: &Call, now: Timestamp) -> Result<Reply, CallError> {
        let started = Instant::now();
        let result = self.exchange(call, now).await;
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

    async fn exchange(&self, call: &Call, now: Timestamp) -> Result<Reply, CallError> {
        let action = call.action();
        let keys = self.credentials.keys(action).await?;
        let operation = wire::encode(call);
        let private = wire::Private::of(&operation, &keys);
        let nonce = uuid::Uuid::new_v4().to_string();
        let form = sign::form(operation, action, &keys, &nonce, now);

        let request = self
            .http
            .post(self.url.clone())
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(form);
        // What reqwest says holds the URL: only whether it connected is taken from it.
        let response = request.send().await.map_err(|failure| {
            if failure.is_connect() { error::unsent(action) } else { error::unanswered(action) }
        })?;

        let answer = Answer::read(response).await;
        match answer {
            Answer { status: 200..=299, body: Some(body), .. } => wire::decode(action, &body)
                .ok()
                .filter(|reply| wire::answers(call, reply))
                .ok_or_else(|| error::unanswered(action)),
            Answer { status: 200..=399, .. } => Err(error::unanswered(action)),
            Answer { status, headers, body } => {
                Err(error::refused(action, status, &headers, &body.unwrap_or_default(), &private))
            }
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

/// What came back. `body` is `None` when it was cut, too slow or too long.
struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Option<Vec<u8>>,
}

impl Answer {
    async fn read(mut response: reqwest::Response) -> Self {
        let status = response.status().as_u16();
        let headers = std::mem::take(response.headers_mut());
        Self { status, headers, body: read_body(response).await }
    }
}

async fn read_body(mut response: reqwest::Response) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.ok()? {
        if body.len() + chunk.len() > Client::BODY_BYTES_MAX {
            return None;
        }
        body.extend_from_slice(&chunk);
    }
    Some(body)
}

/// The endpoint as a URL, if it is nothing but scheme, host and port.
fn origin(endpoint: &Endpoint) -> Option<reqwest::Url> {
    let url = reqwest::Url::parse(endpoint.as_str()).ok()?;
    let bare = matches!(url.scheme(), "http" | "https")
        && url.has_host()
        && url.username().is_empty()
        && url.password().is_none()
        && url.path() == "/"
        && url.query().is_none()
        && url.fragment().is_none();
    bare.then_some(url)
}

fn builder(url: &reqwest::Url, limits: Limits) -> reqwest::ClientBuilder {
    let tls = url.scheme() == "https";
    let builder = reqwest::Client::builder()
        .user_agent(Client::USER_AGENT)
        .connect_timeout(limits.connect)
        .timeout(limits.call)
        .pool_idle_timeout(Client::IDLE_TIMEOUT)
        // A redirect would send keys and addresses to a place that nobody allowed.
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        // Sending again is a decision: reqwest's own retry of refused streams would take it.
        // What stays is hyper's choice of another connection when a kept one turns out closed
        // before a byte was written to it: nothing is sent twice.
        .retry(reqwest::retry::never())
        .http1_only()
        .https_only(tls);
    if tls { builder } else { builder.no_proxy() }
}

/// # Errors
/// A compiled-in certificate could not be read.
fn with_compiled_in_roots(
    builder: reqwest::ClientBuilder,
) -> Result<reqwest::ClientBuilder, reqwest::Error> {
    let roots = webpki_root_certs::TLS_SERVER_ROOT_CERTS
        .iter()
        .map(|der| reqwest::Certificate::from_der(der))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(builder.tls_certs_only(roots))
}
