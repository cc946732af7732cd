//! Over a real socket: a server that answers as told, byte by byte.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::{add, keys, list, send_mail};
use crate::cloud::credentials::Credentials;
use crate::cloud::timely::Timely;
use crate::cloud::transport::{Limits, Transport};
use crate::cloud::{BuildError, Client, Roots};
use crate::domain::access::Endpoint;
use crate::domain::call::{Call, CallError, FailureClass, Page, Reply};
use crate::domain::contact::ContactId;
use crate::uptime::{self, Moment};

/// What the server does with a connection once it has read a request.
#[derive(Clone)]
pub(super) enum Behaviour {
    /// Writes these bytes and keeps the connection.
    Answer(Vec<u8>),
    /// Writes these bytes and closes the connection.
    Close(Vec<u8>),
    /// Writes these bytes, then nothing more, for ever.
    Stall(Vec<u8>),
    /// Resets the connection.
    Reset,
    /// Resets the connection before anything was read.
    ResetUnread,
}

/// A server on a free port; ends with the test.
pub(super) struct Server {
    pub(super) port: u16,
    /// The requests that were read, each with the number of its connection.
    requests: tokio::sync::mpsc::UnboundedReceiver<(usize, String)>,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    pub(super) async fn start(behaviour: Behaviour) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (seen, requests) = tokio::sync::mpsc::unbounded_channel();
        let task = tokio::spawn(async move {
            let mut open = tokio::task::JoinSet::new();
            for number in 0.. {
                let (stream, _) = listener.accept().await.unwrap();
                let seen = seen.clone();
                let behaviour = behaviour.clone();
                open.spawn(serve(stream, behaviour, move |text| {
                    seen.send((number, text)).unwrap_or_default();
                }));
            }
        });
        Self { port, requests, task }
    }

    fn endpoint(&self, scheme: &str) -> Endpoint {
        endpoint(scheme, self.port)
    }

    pub(super) fn seen(&mut self) -> Vec<(usize, String)> {
        std::iter::from_fn(|| self.requests.try_recv().ok()).collect()
    }
}

async fn serve(mut stream: TcpStream, behaviour: Behaviour, seen: impl Fn(String)) {
    if matches!(behaviour, Behaviour::ResetUnread) {
        stream.set_zero_linger().unwrap();
        return;
    }
    while let Some(request) = read_request(&mut stream).await {
        seen(request);
        match &behaviour {
            Behaviour::Answer(bytes) => stream.write_all(bytes).await.unwrap_or_default(),
            Behaviour::Close(bytes) => {
                stream.write_all(bytes).await.unwrap_or_default();
                return;
            }
            Behaviour::Stall(bytes) => {
                stream.write_all(bytes).await.unwrap_or_default();
                std::future::pending::<()>().await;
            }
            Behaviour::Reset | Behaviour::ResetUnread => {
                stream.set_zero_linger().unwrap();
                return;
            }
        }
    }
}

/// Head and body of one request, if the client sends one.
async fn read_request(stream: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| {
                line.to_lowercase().strip_prefix("content-length: ")?.parse::<usize>().ok()
            });
            if body.len() >= length.unwrap_or_default() {
                return Some(text.into_owned());
            }
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
}

fn endpoint(scheme: &str, port: u16) -> Endpoint {
    let origin = format!("{scheme}://127.0.0.1:{port}");
    Endpoint::allowed(&origin, std::slice::from_ref(&origin)).unwrap()
}

/// For tests in which nothing but the time-out ends the call.
const SHORT: Duration = Duration::from_millis(300);

fn client(endpoint: &Endpoint) -> Client {
    limited(endpoint, Client::LIMITS)
}

fn limited(endpoint: &Endpoint, limits: Limits) -> Client {
    Client::with_limits(endpoint, Credentials::fixed(keys()), Roots::System, limits).unwrap()
}

async fn send(client: &Client, call: &Call) -> Result<Reply, CallError> {
    let now = "2026-01-15T08:30:00Z".parse().unwrap();
    let keys = client.keys(now).await?;
    client.send(call, &keys, now, Moment::MAX).await
}

pub(super) fn answer(status: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n{body}").into_bytes()
}

/// Sends a read, a write and a send; each gets the behaviour, once.
async fn check(behaviour: Behaviour, read: FailureClass, write: FailureClass) {
    let silent = matches!(behaviour, Behaviour::Stall(_));
    let call = if silent { SHORT } else { Client::LIMITS.call };
    let limits = Limits { call, ..Client::LIMITS };
    let mut server = Server::start(behaviour).await;
    for (call, expected) in [(list(), read), (add(), write), (send_mail(), write)] {
        let error = send(&limited(&server.endpoint("http"), limits), &call).await.unwrap_err();
        assert_eq!(error.class, expected, "{call:?}");
        let shown = format!("{error} {error:?}").to_lowercase();
        let private = ["canary", "example.com", "127.0.0.1", "http"];
        assert!(private.iter().all(|text| !shown.contains(text)), "{shown}");
        assert!(server.seen().len() <= 1, "the request was sent twice");
    }
}

/// The lease of whoever calls may end before the longest time of a call does.
#[tokio::test]
async fn a_call_takes_no_longer_than_it_is_given() {
    let limits = Limits { call: Duration::from_hours(1), ..Client::LIMITS };
    let server = Server::start(Behaviour::Stall(Vec::new())).await;
    let client = limited(&server.endpoint("http"), limits);
    let now = "2026-01-15T08:30:00Z".parse().unwrap();
    let keys = client.keys(now).await.unwrap();
    let call = add();
    let ended = client.send(&call, &keys, now, SHORT);
    let ended = tokio::time::timeout(Duration::from_mins(1), ended).await;
    let error = ended.expect("it ends long before the hour").unwrap_err();
    assert_eq!(error.class, FailureClass::OutcomeUnknown);
}

const UNKNOWN: (FailureClass, FailureClass) =
    (FailureClass::Unavailable, FailureClass::OutcomeUnknown);

#[tokio::test]
async fn an_answer_that_is_none_leaves_a_write_unknown() {
    let hello = r#"{"RequestId":"r","TotalCount":0,"Contact":{"ContactId":"c-1"}}"#;
    let whole = String::from_utf8(answer("200 OK", hello)).unwrap();
    let cut = whole.as_bytes()[..whole.len() - 9].to_vec();
    let huge = answer("200 OK", &format!("{hello}{}", " ".repeat(Transport::BODY_BYTES_MAX)));
    let chunked_huge = {
        let chunk = |text: &str| format!("{:x}\r\n{text}\r\n", text.len());
        let blanks = chunk(&" ".repeat(0x10000)).repeat(16);
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        format!("{head}{}{blanks}0\r\n\r\n", chunk(hello))
    };
    let behaviours = [
        Behaviour::Answer(answer("200 OK", "<html>canary</html>")),
        Behaviour::Answer(answer("200 OK", "")),
        Behaviour::Answer(answer("200 OK", &hello[..40])),
        Behaviour::Answer(answer("204 No Content", "")),
        Behaviour::Answer(answer("502 Bad Gateway", "<html>canary</html>")),
        Behaviour::Answer(answer("504 Gateway Timeout", "")),
        Behaviour::Answer(answer("503 Unavailable", r#"{"Code":"ServiceUnavailable"}"#)),
        Behaviour::Answer(answer("400 Bad Request", r#"{"Code":"SignatureNonceUsed"}"#)),
        Behaviour::Answer(answer("304 Not Modified", "")),
        Behaviour::Close(cut.clone()),
        Behaviour::Close(b"HTTP/1.1 200 OK\r\nContent-".to_vec()),
        Behaviour::Close(b"canary\r\n\r\n".to_vec()),
        Behaviour::Close(Vec::new()),
        Behaviour::Close(huge),
        Behaviour::Close(chunked_huge.into_bytes()),
        Behaviour::Reset,
        Behaviour::ResetUnread,
    ];
    for behaviour in behaviours {
        check(behaviour, UNKNOWN.0, UNKNOWN.1).await;
    }
}

#[tokio::test]
async fn silence_ends_with_the_time_out_before_and_in_the_answer() {
    for sent in [&b""[..], b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"] {
        check(Behaviour::Stall(sent.to_vec()), UNKNOWN.0, UNKNOWN.1).await;
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let mut target = Server::start(Behaviour::Answer(answer("200 OK", "{}"))).await;
    for status in ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"] {
        let port = target.port;
        let redirect = format!(
            "HTTP/1.1 {status}\r\nLocation: http://127.0.0.1:{port}/\r\nContent-Length: 0\r\n\r\n"
        );
        check(Behaviour::Answer(redirect.into_bytes()), UNKNOWN.0, UNKNOWN.1).await;
    }
    assert_eq!(target.seen(), []);
}

#[tokio::test]
async fn without_a_connection_a_write_is_known_not_to_have_happened() {
    let unavailable = |result: Result<Reply, CallError>| {
        assert_eq!(result.unwrap_err().class, FailureClass::Unavailable);
    };
    // Nobody listens.
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    unavailable(send(&client(&endpoint("http", free)), &add()).await);
    // Somebody listens who speaks no TLS, closes, or says nothing at all.
    for behaviour in [Behaviour::ResetUnread, Behaviour::Stall(Vec::new())] {
        let server = Server::start(behaviour).await;
        let limits = Limits { connect: SHORT, ..Client::LIMITS };
        unavailable(send(&limited(&server.endpoint("https"), limits), &add()).await);
    }
}

#[tokio::test]
async fn an_error_body_that_was_cut_is_decided_by_its_status() {
    let cut = b"HTTP/1.1 400 Bad\r\nContent-Length: 99\r\n\r\n{\"Code\":\"Inval".to_vec();
    check(Behaviour::Close(cut), FailureClass::ClientBug, FailureClass::ClientBug).await;
    let busy = b"HTTP/1.1 429 Slow\r\nContent-Length: 99\r\n\r\n{\"Code\"".to_vec();
    check(Behaviour::Close(busy), FailureClass::Throttled, FailureClass::Throttled).await;
}

#[tokio::test]
async fn a_refusal_carries_code_request_id_and_hint() {
    let id = "0FA4E000-0000-4000-8000-000000000140";
    let body = format!(r#"{{"Code":"Throttling.User","RequestId":"{id}","Message":"canary"}}"#);
    let head = format!("x-acs-retry-after: 1500\r\nContent-Length: {}", body.len());
    let server = Server::start(Behaviour::Answer(
        format!("HTTP/1.1 400 Bad Request\r\n{head}\r\n\r\n{body}").into_bytes(),
    ))
    .await;
    let error = send(&client(&server.endpoint("http")), &add()).await.unwrap_err();
    assert_eq!(error.class, FailureClass::Throttled);
    assert_eq!(error.retry_after, Some(jiff::SignedDuration::from_millis(1500)));
    let shown = "AddMessageContact: the API asked to slow down, code Throttling.User, request ";
    assert_eq!(error.to_string(), format!("{shown}{id}"));
}

#[tokio::test]
async fn calls_share_a_connection_and_differ_in_their_nonce() {
    let body = r#"{"RequestId":"r","TotalCount":0,"Contact":{"ContactId":"c-9"}}"#;
    let mut server = Server::start(Behaviour::Answer(answer("200 OK", body))).await;
    let client = client(&server.endpoint("http"));
    let empty = Reply::Contacts(Page { items: vec![], total: 0 });
    assert_eq!(send(&client, &list()).await, Ok(empty));
    assert_eq!(send(&client, &add()).await, Ok(Reply::Added(ContactId::from("c-9"))));

    let requests = server.seen();
    let connections: Vec<_> = requests.iter().map(|(number, _)| *number).collect();
    assert_eq!(connections, [0, 0]);
    let nonce = |(_, request): &(usize, String)| {
        let (_, rest) = request.split_once("SignatureNonce=").unwrap();
        rest.split('&').next().unwrap().to_owned()
    };
    assert_ne!(nonce(&requests[0]), nonce(&requests[1]));
    assert_eq!(nonce(&requests[0]).len(), 36);
    for (_, request) in &requests {
        let head = request.split("\r\n\r\n").next().unwrap();
        assert!(head.starts_with("POST / HTTP/1.1\r\n"), "{head}");
        let agent = format!("user-agent: message-contact-operator/{}", env!("CARGO_PKG_VERSION"));
        assert!(head.contains(&agent), "{head}");
        assert!(head.contains("content-type: application/x-www-form-urlencoded"), "{head}");
        assert!(!head.to_lowercase().contains("canary"), "{head}");
        assert!(request.contains("Timestamp=2026-01-15T08%3A30%3A00Z"));
    }
    assert!(requests[1].1.contains("EmailAddress=canarymail%40example.com"));
}

/// Collects what all crates trace, at every level.
#[derive(Clone, Default)]
struct Trace(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Trace {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_trace_has_one_line_per_call_and_nothing_private() {
    let trace = Trace::default();
    let writer = trace.clone();
    // With a single dispatcher, `tracing` would let the threads of other tests decide, once and for
    // all, that nobody listens to a line.
    let _second = tracing::Dispatch::new(tracing_subscriber::registry());
    let _guard = tracing::subscriber::set_default(
        tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish(),
    );
    let id = "0FA4E000-0000-4000-8000-000000000199";
    let message = "server string to sign is:canarymail%40example.com CanaryKeyId";
    let body =
        format!(r#"{{"Code":"SignatureDoesNotMatch","RequestId":"{id}","Message":"{message}"}}"#);
    let behaviour = Behaviour::Answer(answer("400 Bad Request", &body));
    check(behaviour, FailureClass::Credentials, FailureClass::Credentials).await;
    let text = String::from_utf8(trace.0.lock().unwrap().clone()).unwrap();
    assert!(!text.to_lowercase().contains("canary"), "{text}");
    let ours: Vec<_> = text.lines().filter(|line| line.contains("message_contact")).collect();
    assert_eq!(ours.len(), 3, "{text}");
    let wanted =
        ["action=\"AddMessageContact\"", "code=\"SignatureDoesNotMatch\"", id, "elapsed_ms="];
    assert!(wanted.iter().all(|part| ours[1].contains(part)), "{text}");
}

#[test]
fn only_an_origin_makes_a_client_and_the_client_shows_nothing() {
    let build = |text: &str| {
        let endpoint = Endpoint::allowed(text, &[text.to_owned()]).unwrap();
        let client = Client::new(endpoint, Credentials::fixed(keys()), Roots::System);
        client.map(|client| format!("{client:?}"))
    };
    assert_eq!(build("https://resourcedirectory.aliyuncs.com"), Ok("Client { .. }".to_owned()));
    assert_eq!(build("http://127.0.0.1:7788/"), Ok("Client { .. }".to_owned()));
    let refused = [
        "",
        "host",
        "ftp://host",
        "https://",
        "https://a:b@host",
        "https://host/x",
        "http://h?q=1",
    ];
    for text in refused {
        assert_eq!(build(text), Err(BuildError::Endpoint), "{text}");
    }
}

/// Runs that test in a process that finds no certificate of the system.
fn passes_without_certificates(other: &str) {
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", other, "--include-ignored"])
        .env("SSL_CERT_FILE", concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
        .env("SSL_CERT_DIR", concat!(env!("CARGO_MANIFEST_DIR"), "/src"))
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && printed.contains("1 passed"), "{printed}");
}

#[test]
fn a_client_is_made_where_the_system_has_no_certificates() {
    passes_without_certificates(
        "cloud::tests::socket::only_an_origin_makes_a_client_and_the_client_shows_nothing",
    );
}

/// Named certificates that cannot be used are not replaced by others.
#[test]
fn no_client_is_made_where_the_named_certificates_cannot_be_used() {
    passes_without_certificates("cloud::tests::socket::named_certificates_are_not_replaced");
}

#[test]
#[ignore = "runs in a process without certificates, started by the test above"]
fn named_certificates_are_not_replaced() {
    let build = |text: &str| {
        let endpoint = Endpoint::allowed(text, &[text.to_owned()]).unwrap();
        Client::new(endpoint, Credentials::fixed(keys()), Roots::Named).map(|_| ())
    };
    assert_eq!(build("https://resourcedirectory.aliyuncs.com"), Err(BuildError::Tls));
    assert_eq!(build("http://127.0.0.1:7788"), Ok(()));
}

#[test]
fn certificates_that_the_environment_names_are_the_only_ones() {
    let roots = |name: &str, value: &str| {
        Roots::from_environment(|asked| (asked == name).then(|| value.to_owned()))
    };
    assert_eq!(roots("SSL_CERT_FILE", "/certificates.pem"), Roots::Named);
    assert_eq!(roots("SSL_CERT_DIR", "/certificates"), Roots::Named);
    assert_eq!(roots("SSL_CERT_FILE", ""), Roots::System);
    assert_eq!(roots("OTHER", "/certificates"), Roots::System);
}

/// What a process does that was stopped on its way to the socket, and goes on when its time is over.
#[tokio::test]
async fn not_a_byte_is_sent_of_a_request_whose_time_is_over() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let _ = rustls::crypto::ring::default_provider().install_default();
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let post = |until| {
        let body = reqwest::Body::wrap(Timely::new("Action=Add".to_owned(), until));
        tokio::spawn(http.post(&url).body(body).send())
    };
    let minute = Duration::from_mins(1);

    let late = post(uptime::now());
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut seen = Vec::new();
    let closed = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut seen)).await;
    assert_eq!(String::from_utf8_lossy(&seen), "");
    closed.expect("the connection is given up").unwrap();
    assert!(late.await.unwrap().is_err());

    // The trap: in time it is sent, with its length.
    let _in_time = post(uptime::now() + minute);
    let (mut stream, _) = listener.accept().await.unwrap();
    while !seen.ends_with(b"Action=Add") {
        assert_ne!(stream.read_buf(&mut seen).await.unwrap(), 0, "it was cut");
    }
    let text = String::from_utf8_lossy(&seen).to_lowercase();
    assert!(text.contains("content-length: 10\r\n") && !text.contains("chunked"), "{text}");
}
