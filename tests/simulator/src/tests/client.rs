//! A client for tests: makes signed requests and speaks raw HTTP, so that broken answers can be
//! seen as they are.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::sign;
use crate::wire::{Action, Request};
use crate::{ACCESS_KEY_ID, ACCESS_KEY_SECRET};

/// Where operation parameters travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Query,
    Form,
}

/// Whoever calls.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    pub(super) id: String,
    pub(super) secret: String,
    pub(super) token: Option<String>,
}

impl Default for Caller {
    fn default() -> Self {
        Self { id: ACCESS_KEY_ID.to_owned(), secret: ACCESS_KEY_SECRET.to_owned(), token: None }
    }
}

static NONCE: AtomicU64 = AtomicU64::new(0);

pub(super) fn nonce() -> String {
    format!("nonce-{}", NONCE.fetch_add(1, Ordering::Relaxed))
}

pub(super) fn time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

pub(super) fn owned(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect()
}

pub(super) fn encoded(pairs: &[(String, String)]) -> String {
    let one = |(name, value): &(String, String)| {
        format!("{}={}", sign::encode(name), sign::encode(value))
    };
    pairs.iter().map(one).collect::<Vec<_>>().join("&")
}

fn version(action: &str) -> &'static str {
    Action::find(action).map_or("2022-04-19", |action| action.version)
}

/// The common parameters of V1, without the signature.
pub(super) fn v1_common(caller: &Caller, action: &str, now: Timestamp) -> Vec<(String, String)> {
    let mut common = owned(&[
        ("Action", action),
        ("Version", version(action)),
        ("Format", "JSON"),
        ("AccessKeyId", &caller.id),
        ("SignatureMethod", "HMAC-SHA1"),
        ("SignatureVersion", "1.0"),
        ("SignatureNonce", &nonce()),
        ("Timestamp", &time(now)),
    ]);
    let token = caller.token.iter().map(|token| ("SecurityToken".to_owned(), token.clone()));
    common.extend(token);
    common
}

/// A V1 request: these pairs in the query, those in the form, all signed.
pub(super) fn v1_sealed(
    caller: &Caller,
    mut query: Vec<(String, String)>,
    form: &[(String, String)],
) -> Request {
    let all: Vec<_> = query.iter().chain(form).cloned().collect();
    let string_to_sign = sign::v1_string_to_sign("POST", &all);
    query.push(("Signature".to_owned(), sign::v1_signature(&caller.secret, &string_to_sign)));
    let kind = "application/x-www-form-urlencoded";
    Request {
        method: "POST".to_owned(),
        target: format!("/?{}", encoded(&query)),
        headers: owned(&[("host", "127.0.0.1"), ("content-type", kind)]),
        body: encoded(form).into_bytes(),
    }
}

pub(super) fn v1(
    caller: &Caller,
    action: &str,
    parameters: &[(&str, &str)],
    place: Place,
    now: Timestamp,
) -> Request {
    let mut query = v1_common(caller, action, now);
    match place {
        Place::Query => {
            query.extend(owned(parameters));
            v1_sealed(caller, query, &[])
        }
        Place::Form => v1_sealed(caller, query, &owned(parameters)),
    }
}

/// The headers of V3, without `Authorization`.
pub(super) fn v3_headers(
    caller: &Caller,
    action: &str,
    body: &[u8],
    now: Timestamp,
) -> Vec<(String, String)> {
    let mut headers = owned(&[
        ("host", "127.0.0.1"),
        ("x-acs-action", action),
        ("x-acs-version", version(action)),
        ("x-acs-date", &time(now)),
        ("x-acs-signature-nonce", &nonce()),
        ("x-acs-content-sha256", &sign::sha256_hex(body)),
        ("content-type", "application/x-www-form-urlencoded"),
    ]);
    if let Some(token) = &caller.token {
        headers.push(("x-acs-security-token".to_owned(), token.clone()));
    }
    headers
}

/// A V3 request, all headers signed.
pub(super) fn v3_sealed(
    caller: &Caller,
    query: &[(String, String)],
    mut headers: Vec<(String, String)>,
    body: Vec<u8>,
) -> Request {
    let mut names: Vec<_> = headers.iter().map(|(name, _)| name.clone()).collect();
    names.sort();
    let hash = sign::sha256_hex(&body);
    let canonical = sign::v3_canonical_request("POST", "/", query, &headers, &names, &hash);
    let signature = sign::v3_signature(&caller.secret, &sign::v3_string_to_sign(&canonical));
    let authorization = format!(
        "ACS3-HMAC-SHA256 Credential={}, SignedHeaders={}, Signature={signature}",
        caller.id,
        names.join(";"),
    );
    headers.push(("Authorization".to_owned(), authorization));
    let target = if query.is_empty() { "/".to_owned() } else { format!("/?{}", encoded(query)) };
    Request { method: "POST".to_owned(), target, headers, body }
}

pub(super) fn v3(
    caller: &Caller,
    action: &str,
    parameters: &[(&str, &str)],
    place: Place,
    now: Timestamp,
) -> Request {
    let pairs = owned(parameters);
    let (query, body) = match place {
        Place::Query => (pairs, Vec::new()),
        Place::Form => (Vec::new(), encoded(&pairs).into_bytes()),
    };
    let headers = v3_headers(caller, action, &body, now);
    v3_sealed(caller, &query, headers, body)
}

/// An HTTP answer as it came over the socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Received {
    pub(super) status: u16,
    pub(super) head: String,
    pub(super) body: Vec<u8>,
    /// What `Content-Length` announced.
    pub(super) announced: usize,
}

impl Received {
    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// `OK` or the code.
    pub(super) fn outcome(&self) -> String {
        if self.status == 200 {
            return "OK".to_owned();
        }
        format!("{} {}", self.status, self.json()["Code"].as_str().unwrap_or("?"))
    }

    pub(super) fn header(&self, name: &str) -> Option<String> {
        self.head.lines().find_map(|line| {
            let (header, value) = line.split_once(':')?;
            header.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
        })
    }
}

/// A connection that is kept.
pub(super) struct Line {
    stream: TcpStream,
}

impl Line {
    pub(super) async fn open(origin: &str) -> Self {
        let address = origin.trim_start_matches("http://");
        let stream = TcpStream::connect(address).await.expect("the simulator listens");
        Self { stream }
    }

    pub(super) async fn write(&mut self, request: &Request) -> io::Result<()> {
        let mut bytes = format!("{} {} HTTP/1.1\r\n", request.method, request.target);
        for (name, value) in &request.headers {
            bytes.push_str(name);
            bytes.push_str(": ");
            bytes.push_str(value);
            bytes.push_str("\r\n");
        }
        bytes.push_str("content-length: ");
        bytes.push_str(&request.body.len().to_string());
        bytes.push_str("\r\n\r\n");
        let mut bytes = bytes.into_bytes();
        bytes.extend(&request.body);
        self.stream.write_all(&bytes).await
    }

    /// The next answer; none if the connection was closed before one.
    pub(super) async fn read(&mut self) -> io::Result<Option<Received>> {
        let mut bytes = Vec::new();
        let head_len = loop {
            if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            if self.stream.read_buf(&mut bytes).await? == 0 {
                return Ok(None);
            }
        };
        let head = String::from_utf8_lossy(&bytes[..head_len]).into_owned();
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        let mut received = Received {
            status: status.expect("a status"),
            head,
            body: bytes[head_len..].to_vec(),
            announced: 0,
        };
        let announced = received.header("content-length").expect("a length on every answer");
        received.announced = announced.parse().expect("a number");
        while received.body.len() < received.announced {
            if self.stream.read_buf(&mut received.body).await? == 0 {
                break;
            }
        }
        Ok(Some(received))
    }

    pub(super) async fn call(&mut self, request: &Request) -> io::Result<Option<Received>> {
        self.write(request).await?;
        self.read().await
    }
}

/// One request on a connection of its own.
pub(super) async fn send(origin: &str, request: &Request) -> io::Result<Option<Received>> {
    Line::open(origin).await.call(request).await
}

/// One request whose answer must come, within ten seconds.
pub(super) async fn answered(origin: &str, request: &Request) -> Received {
    let answer = tokio::time::timeout(Duration::from_secs(10), send(origin, request)).await;
    answer.expect("in time").expect("the connection holds").expect("an answer")
}
