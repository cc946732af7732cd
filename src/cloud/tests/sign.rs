use serde_json::Value;

use super::super::sign;
use super::{add, fixture, keys};
use crate::cloud::wire;
use crate::domain::access::Hidden;
use crate::domain::call::Action;

fn pairs(params: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    params.as_object().unwrap().iter().map(|(name, value)| (name.clone(), text(value))).collect()
}

#[test]
fn all_vectors_of_the_official_sdk_are_met() {
    let vectors = fixture("signing-vectors.json");
    let vectors = vectors["v1"].as_array().unwrap();
    assert_eq!(vectors.len(), 41);
    for vector in vectors {
        let name = &vector["id"];
        let canonical = sign::canonical(&pairs(&vector["params"]));
        let string_to_sign = sign::string_to_sign(vector["method"].as_str().unwrap(), &canonical);
        assert_eq!(vector["string_to_sign"], string_to_sign, "{name}");
        let secret = Hidden::new(vector["access_key_secret"].as_str().unwrap().to_owned());
        assert_eq!(vector["signature"], sign::signature(&secret, &string_to_sign), "{name}");
    }
}

/// The expected text was made with Python's `hmac`, `base64` and `urllib.parse.quote`.
#[test]
fn a_form_holds_every_common_parameter_and_its_own_signature() {
    let form = sign::form(
        wire::encode(&add()),
        sign::Operation::of(Action::AddMessageContact),
        &keys(),
        "0fa4e000-0000-4000-8000-00000000000a",
        "2026-01-15T08:30:00.987Z".parse().unwrap(),
    );
    assert_eq!(form, EXPECTED_FORM);
}

const EXPECTED_FORM: &str = "\
     AccessKeyId=CanaryKeyId\
     &Action=AddMessageContact\
     &EmailAddress=canarymail%40example.com\
     &Format=JSON\
     &MessageTypes.1=FaultMessage\
     &MessageTypes.2=SecurityMessage\
     &Name=canaryname\
     &PhoneNumber=86-13800100500\
     &SecurityToken=Canary%2BToken%2Fwith%3D%3Dsigns\
     &SignatureMethod=HMAC-SHA1\
     &SignatureNonce=0fa4e000-0000-4000-8000-00000000000a\
     &SignatureVersion=1.0\
     &Timestamp=2026-01-15T08%3A30%3A00Z\
     &Title=TechnicalDirector\
     &Version=2022-04-19\
     &Signature=tDMH%2Bkwcq%2FfVO9kTJZTmWAq3W9M%3D";
