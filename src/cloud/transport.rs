//! One origin over HTTP, hardened: no redirect, no retry, bounded times and bodies.

use std::fmt;
use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};

use super::timely::Timely;
use super::{BuildError, Roots};
use crate::domain::access::Endpoint;
use crate::uptime::{self, Moment};

/// Sends requests to one origin. Clones share their connections.
#[derive(Clone)]
pub(super) struct Transport {
    http: reqwest::Client,
    url: reqwest::Url,
    longest: Duration,
}

/// Time-outs of one request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Until a connection stands: name, TCP and TLS together.
    pub(super) connect: Duration,
    /// From the start to the last byte of the answer.
    pub(super) call: Duration,
}

/// Why there is no answer. What reqwest says is not kept: it holds the URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoAnswer {
    /// No connection stood: not a byte of the request had left.
    Unsent,
    /// The request, or part of it, had left.
    Unanswered,
}

/// What came back. `body` is `None` when it was cut, too slow or too long.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Option<Vec<u8>>,
}

impl Transport {
    /// Longest body that is read; a longer one counts as unreadable. A page of 1,000 contacts
    /// with ten members each has about half of it.
    pub(super) const BODY_BYTES_MAX: usize = 1024 * 1024;

    /// How long an unused connection is kept. Shorter than the idle time after which NAT gateways
    /// drop a connection without a word, which would turn the next write into an unknown outcome.
    const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

    const USER_AGENT: &str = concat!("message-contact-operator/", env!("CARGO_PKG_VERSION"));

    /// Opens no connection.
    ///
    /// An https origin is reached through the proxy that `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY`
    /// name: it carries a tunnel and sees only the host. An http origin is never reached through a
    /// proxy, which would read all that is sent.
    ///
    /// # Errors
    /// The endpoint is not the origin of an http or https server, or TLS could not be set up.
    pub(super) fn new(
        endpoint: &Endpoint,
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
        Ok(Self { http, url, longest: limits.call })
    }

    /// Posts a form, and waits for the whole answer until then at most; after it nothing is sent any
    /// more. `query` stands in the URL: nothing private may.
    ///
    /// # Errors
    /// There is no answer.
    pub(super) async fn post(
        &self,
        query: Option<&str>,
        form: String,
        until: Moment,
    ) -> Result<Answer, NoAnswer> {
        let mut url = self.url.clone();
        url.set_query(query);
        let form_type = HeaderValue::from_static("application/x-www-form-urlencoded");
        let now = uptime::now();
        let until = until.min(now + self.longest);
        let body = reqwest::Body::wrap(Timely::new(form, until));
        let request = self.http.post(url).header(CONTENT_TYPE, form_type).body(body);
        answer(request.timeout(until.saturating_sub(now))).await
    }

    /// Sends a request without a body for a path. A private header MUST be marked as sensitive.
    ///
    /// # Errors
    /// There is no answer.
    pub(super) async fn ask(
        &self,
        method: reqwest::Method,
        path: &str,
        (name, value): (HeaderName, HeaderValue),
    ) -> Result<Answer, NoAnswer> {
        let mut url = self.url.clone();
        url.set_path(path);
        answer(self.http.request(method, url).header(name, value)).await
    }
}

/// Shows nothing.
impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport").finish_non_exhaustive()
    }
}

async fn answer(request: reqwest::RequestBuilder) -> Result<Answer, NoAnswer> {
    let response = request.send().await;
    let mut response = response.map_err(|failure| {
        if failure.is_connect() { NoAnswer::Unsent } else { NoAnswer::Unanswered }
    })?;
    let status = response.status().as_u16();
    let headers = std::mem::take(response.headers_mut());
    Ok(Answer { status, headers, body: read_body(response).await })
}

async fn read_body(mut response: reqwest::Response) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.ok()? {
        if body.len() + chunk.len() > Transport::BODY_BYTES_MAX {
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
        .user_agent(Transport::USER_AGENT)
        .connect_timeout(limits.connect)
        .timeout(limits.call)
        .pool_idle_timeout(Transport::IDLE_TIMEOUT)
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
