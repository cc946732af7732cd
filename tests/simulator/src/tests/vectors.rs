//! The official SDKs' signatures and requests.

use jiff::Timestamp;
use serde_json::Value;

use super::{facts, text, text_pairs};
use crate::keys::{Key, Keys, Session};
use crate::sign;
use crate::switches::Switches;
use crate::wire::{Parameters, Request};

#[test]
fn v1_signs_as_the_official_sdk_does() {
    let facts = facts("signing-vectors.json");
    let vectors = facts["v1"].as_array().expect("vectors");
    assert_eq!(vectors.len(), 41);
    for vector in vectors {
        let pairs = text_pairs(&vector["params"]);
        assert_eq!(sign::canonical_query(&pairs), vector["canonical_query"], "{}", vector["id"]);
        let string_to_sign = sign::v1_string_to_sign(&text(&vector["method"]), &pairs);
        assert_eq!(string_to_sign, vector["string_to_sign"], "{}", vector["id"]);
        let signature = sign::v1_signature(&text(&vector["access_key_secret"]), &string_to_sign);
        assert_eq!(signature, vector["signature"], "{}", vector["id"]);
    }
}

#[test]
fn v3_signs_as_the_official_sdk_does() {
    let facts = facts("signing-vectors.json");
    let vectors = facts["v3"].as_array().expect("vectors");
    assert_eq!(vectors.len(), 17);
    for vector in vectors {
        let signed: Vec<_> =
            text(&vector["signed_headers"]).split(';').map(str::to_owned).collect();
        let hash = sign::sha256_hex(text(&vector["body_utf8"]).as_bytes());
        assert_eq!(hash, vector["hashed_payload"], "{}", vector["id"]);
        let canonical = sign::v3_canonical_request(
            &text(&vector["method"]),
            &text(&vector["path"]),
            &text_pairs(&vector["query"]),
            &text_pairs(&vector["headers"]),
            &signed,
            &hash,
        );
        assert_eq!(canonical, vector["canonical_request"], "{}", vector["id"]);
        let string_to_sign = sign::v3_string_to_sign(&canonical);
        assert_eq!(string_to_sign, vector["string_to_sign"], "{}", vector["id"]);
        let signature = sign::v3_signature(&text(&vector["access_key_secret"]), &string_to_sign);
        assert_eq!(signature, vector["signature"], "{}", vector["id"]);
    }
}

#[test]
fn every_request_of_an_official_client_is_admitted_and_understood() {
    let facts = facts("signing-vectors.json");
    let vectors = facts["wire"].as_array().expect("vectors");
    assert_eq!(vectors.len(), 50);
    for vector in vectors {
        let request = request(vector);
        let admitted = admit(vector, &request);
        let (action, _) = admitted.unwrap_or_else(|refusal| {
            unreachable!("{} was refused: {refusal:?}", vector["id"]);
        });
        assert_eq!(action.name, vector["action"], "{}", vector["id"]);
        let mut seen = Parameters::of(&request, &Switches::default()).expect("no name twice").0;
        seen.sort();
        assert_eq!(seen, text_pairs(&vector["api_params"]), "{}", vector["id"]);
    }
}

#[test]
fn a_changed_request_is_admitted_only_if_it_still_says_the_same() {
    let facts = facts("signing-vectors.json");
    let vectors = facts["changed"].as_array().expect("vectors");
    assert_eq!(vectors.len(), 25);
    for vector in vectors {
        let outcome = match admit(vector, &request(vector)) {
            Ok(_) => "accept",
            Err(refusal) => {
                assert_eq!(refusal.code, "SignatureDoesNotMatch", "{}", vector["id"]);
                "reject"
            }
        };
        assert_eq!(outcome, vector["expect"], "{}: {}", vector["id"], vector["note"]);
    }
}

fn request(vector: &Value) -> Request {
    let header = |pair: &Value| (text(&pair[0]), text(&pair[1]));
    Request {
        method: text(&vector["method"]),
        target: text(&vector["request_target"]),
        headers: vector["headers"].as_array().expect("headers").iter().map(header).collect(),
        body: text(&vector["body_utf8"]).into_bytes(),
    }
}

/// Through all checks, at the time that the request itself names.
fn admit(
    vector: &Value,
    request: &Request,
) -> Result<(crate::wire::Action, Option<Key>), crate::model::Refusal> {
    let mut pairs = request.query();
    pairs.extend(request.form());
    let named = |name: &str| pairs.iter().find(|pair| pair.0 == name).map(|pair| pair.1.clone());
    let time = named("Timestamp").or_else(|| request.header("x-acs-date")).expect("a time");
    let now: Timestamp = time.parse().expect("a time");
    let token = named("SecurityToken").or_else(|| request.header("x-acs-security-token"));
    let mut key = Key::new(&text(&vector["access_key_id"]), &text(&vector["access_key_secret"]));
    key.session = token.map(|token| Session { token, expires_at: Timestamp::MAX });
    let mut keys = Keys::default();
    keys.add(key);
    keys.admit(request, &Switches::default(), now)
}
