//! The two signatures of the RPC gateway: strings to sign and how they are signed. Pure.
//!
//! Source: the vendor's manual pages "Signature method V2 (RPC)" and "Request structure and
//! signature V3"; checked with answers of the official SDKs (`tests/fixtures/api`).

use std::fmt::Write as _;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha1::Sha1;
use sha2::{Digest as _, Sha256};

/// The name of signature V3 in the `Authorization` header.
pub(crate) const V3_ALGORITHM: &str = "ACS3-HMAC-SHA256";

/// Percent-encodes by the signature's rules: all but `A-Z a-z 0-9 - _ . ~`, in upper-case hex.
#[must_use]
pub(crate) fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

/// The pairs sorted by name, encoded and joined.
#[must_use]
pub(crate) fn canonical_query(pairs: &[(String, String)]) -> String {
    let mut sorted: Vec<_> = pairs.iter().collect();
    sorted.sort();
    let encoded: Vec<_> = sorted
        .into_iter()
        .map(|(name, value)| format!("{}={}", encode(name), encode(value)))
        .collect();
    encoded.join("&")
}

/// V1: what is signed. `pairs` are all of query and form body but `Signature`, decoded.
#[must_use]
pub(crate) fn v1_string_to_sign(method: &str, pairs: &[(String, String)]) -> String {
    format!("{method}&%2F&{}", encode(&canonical_query(pairs)))
}

/// V1: `Base64(HMAC-SHA1(secret + "&", string_to_sign))`.
#[must_use]
pub(crate) fn v1_signature(secret: &str, string_to_sign: &str) -> String {
    let key = format!("{secret}&");
    let mut mac =
        Hmac::<Sha1>::new_from_slice(key.as_bytes()).expect("HMAC takes a key of any length");
    mac.update(string_to_sign.as_bytes());
    BASE64_STANDARD.encode(mac.finalize().into_bytes())
}

/// V3: the request in its canonical form. `signed` are the names of the signed headers in lower
/// case; `headers` may hold others, which do not count.
#[must_use]
pub(crate) fn v3_canonical_request(
    method: &str,
    path: &str,
    query: &[(String, String)],
    headers: &[(String, String)],
    signed: &[String],
    body_hash: &str,
) -> String {
    let mut names: Vec<_> = signed.iter().map(String::as_str).collect();
    names.sort_unstable();
    let mut lines = String::new();
    for name in &names {
        let mut values: Vec<_> = headers
            .iter()
            .filter(|(header, _)| header.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim())
            .collect();
        values.sort_unstable();
        let _ = writeln!(lines, "{name}:{}", values.join(","));
    }
    let query = canonical_query(query);
    format!("{method}\n{path}\n{query}\n{lines}\n{}\n{body_hash}", names.join(";"))
}

/// V3: what is signed.
#[must_use]
pub(crate) fn v3_string_to_sign(canonical_request: &str) -> String {
    format!("{V3_ALGORITHM}\n{}", sha256_hex(canonical_request.as_bytes()))
}

/// V3: `hex(HMAC-SHA256(secret, string_to_sign))`.
#[must_use]
pub(crate) fn v3_signature(secret: &str, string_to_sign: &str) -> String {
    let mut mac =
        Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("HMAC takes a key of any length");
    mac.update(string_to_sign.as_bytes());
    hex(&mac.finalize().into_bytes())
}

/// The SHA-256 of some bytes in lower-case hex.
#[must_use]
pub(crate) fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    let mut hex = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        let _ = write!(hex, "{byte:02x}");
    }
    hex
}
