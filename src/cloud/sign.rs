//! Signature V1: HMAC-SHA1 over all parameters, sent as one of them.
//!
//! Source: signature manual of the RPC style ("version 2, RPC"); checked with 41 vectors that the
//! official Python SDK made (`tests/fixtures/api/signing-vectors.json`).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use jiff::Timestamp;
use sha1::Sha1;

use crate::domain::access::{AccessKeys, Hidden};
use crate::domain::call::Action;

/// The operation that a request names.
#[derive(Debug, Clone, Copy)]
pub(super) struct Operation {
    /// Its name.
    pub(super) action: &'static str,
    /// The version of the API that has it.
    pub(super) version: &'static str,
}

impl Operation {
    /// An operation of the version of `ResourceDirectoryMaster` that this program speaks.
    pub(super) fn of(action: Action) -> Self {
        Self { action: action.as_str(), version: "2022-04-19" }
    }
}

/// The signed form body of a `POST /` that makes one call: the operation's parameters and the
/// common ones. It holds private values in clear: it goes into the request and nowhere else.
///
/// Unverified (A1): that the gateway reads the parameters of an operation there. A query would put
/// addresses into the logs of proxies.
///
/// `nonce` must be new for every attempt: the cloud refuses one that it saw in the last 15 minutes
/// (31 by another page of the manual).
pub(super) fn form(
    parameters: Vec<(String, String)>,
    operation: Operation,
    keys: &AccessKeys,
    nonce: &str,
    now: Timestamp,
) -> String {
    let mut pairs = parameters;
    pairs.extend(common(operation, keys, nonce, now));
    let canonical = canonical(&pairs);
    let signature = signature(&keys.secret, &string_to_sign("POST", &canonical));
    // The canonical text is a well-formed form body: what is signed is, byte by byte, what is sent.
    format!("{canonical}&Signature={}", percent_encode(&signature))
}

/// The parameters that every call has, apart from the signature.
fn common(
    Operation { action, version }: Operation,
    keys: &AccessKeys,
    nonce: &str,
    now: Timestamp,
) -> Vec<(String, String)> {
    let AccessKeys { id, secret: _, token } = keys;
    let timestamp = timestamp(now);
    let mut pairs = vec![
        ("Action", action),
        ("Version", version),
        ("Format", "JSON"),
        ("AccessKeyId", id.reveal()),
        ("SignatureMethod", "HMAC-SHA1"),
        ("SignatureVersion", "1.0"),
        ("SignatureNonce", nonce),
        ("Timestamp", &timestamp),
    ];
    if let Some(token) = token {
        pairs.push(("SecurityToken", token.reveal()));
    }
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// A time as a request has it: to the second, in UTC.
pub(super) fn timestamp(now: Timestamp) -> String {
    now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// All pairs sorted by name, byte by byte, encoded and joined.
pub(super) fn canonical(pairs: &[(String, String)]) -> String {
    let mut sorted: Vec<_> = pairs.iter().collect();
    sorted.sort();
    let encoded: Vec<_> = sorted
        .into_iter()
        .map(|(name, value)| format!("{}={}", percent_encode(name), percent_encode(value)))
        .collect();
    encoded.join("&")
}

/// What is signed; `method` as it is sent, in upper case. The path is always `/`.
pub(super) fn string_to_sign(method: &str, canonical: &str) -> String {
    format!("{method}&%2F&{}", percent_encode(canonical))
}

/// The signature in base64.
pub(super) fn signature(secret: &Hidden, string_to_sign: &str) -> String {
    let key = format!("{}&", secret.reveal());
    let mut mac =
        Hmac::<Sha1>::new_from_slice(key.as_bytes()).expect("HMAC takes a key of any length");
    mac.update(string_to_sign.as_bytes());
    STANDARD.encode(mac.finalize().into_bytes())
}

/// Every byte but the unreserved ones of RFC 3986 as `%XX`, upper case.
fn percent_encode(text: &str) -> String {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            encoded.push(char::from(byte));
        } else {
            encoded.push('%');
            encoded.push(char::from(HEX[usize::from(byte >> 4)]));
            encoded.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
    encoded
}
