use std::collections::BTreeMap;

use crate::cloud::credentials::{Credentials, IncompleteEnvironment, MissingKey};
use crate::domain::access::{AccessKeys, Hidden};

fn secret(entries: &[(&str, &[u8])]) -> Result<AccessKeys, MissingKey> {
    let data: BTreeMap<_, _> =
        entries.iter().map(|(key, value)| ((*key).to_owned(), value.to_vec())).collect();
    Credentials::from_secret_data(&data)
}

fn environment(variables: &[(&str, &str)]) -> Result<Option<AccessKeys>, IncompleteEnvironment> {
    Credentials::from_environment(|name| {
        variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
    })
}

fn hidden(text: &str) -> Hidden {
    Hidden::new(text.to_owned())
}

#[test]
fn a_secret_gives_its_keys_without_line_ends() {
    let keys = secret(&[
        ("accessKeyId", b"id1\n"),
        ("accessKeySecret", b"secret2\r\n"),
        ("securityToken", b"token3"),
        ("other", b"\xFF"),
    ]);
    let token = Some(hidden("token3"));
    assert_eq!(keys, Ok(AccessKeys { id: hidden("id1"), secret: hidden("secret2"), token }));
    let keys = secret(&[("accessKeyId", b"id1"), ("accessKeySecret", b"secret2")]);
    assert_eq!(keys.unwrap().token, None);
}

#[test]
fn a_secret_that_lacks_something_is_refused_with_the_name_of_the_key() {
    let id: (&str, &[u8]) = ("accessKeyId", b"canaryid");
    let key: (&str, &[u8]) = ("accessKeySecret", b"canarysecret");
    let refused = |entries: &[(&str, &[u8])], expected| {
        let error = secret(entries).unwrap_err();
        assert_eq!(error, expected);
        assert!(!format!("{error} {error:?}").contains("canary"));
    };
    refused(&[key], MissingKey::Absent("accessKeyId"));
    refused(&[id], MissingKey::Absent("accessKeySecret"));
    refused(&[id, ("accessKeySecret", b"")], MissingKey::Absent("accessKeySecret"));
    refused(&[id, ("accessKeySecret", b"\n")], MissingKey::Absent("accessKeySecret"));
    refused(&[id, ("accessKeySecret", b"canary\xFF")], MissingKey::NotText("accessKeySecret"));
    refused(&[id, key, ("securityToken", b"")], MissingKey::Absent("securityToken"));
    refused(&[("AccessKeyId", b"canary"), key], MissingKey::Absent("accessKeyId"));
}

#[test]
fn the_environment_gives_all_keys_or_none_or_says_what_is_missing() {
    const ID: &str = "ALIBABA_CLOUD_ACCESS_KEY_ID";
    const SECRET: &str = "ALIBABA_CLOUD_ACCESS_KEY_SECRET";
    const TOKEN: &str = "ALIBABA_CLOUD_SECURITY_TOKEN";
    let incomplete = |missing| Err(IncompleteEnvironment { missing });

    assert_eq!(environment(&[]), Ok(None));
    assert_eq!(environment(&[(ID, ""), (SECRET, "")]), Ok(None));
    assert_eq!(environment(&[(ID, "canary")]), incomplete(SECRET));
    assert_eq!(environment(&[(SECRET, "canary")]), incomplete(ID));
    assert_eq!(environment(&[(TOKEN, "canary")]), incomplete(ID));
    assert_eq!(environment(&[(ID, "canary"), (SECRET, ""), (TOKEN, "t")]), incomplete(SECRET));

    let keys = environment(&[(ID, "id1"), (SECRET, "secret2")]).unwrap().unwrap();
    assert_eq!(keys, AccessKeys { id: hidden("id1"), secret: hidden("secret2"), token: None });
    let keys = environment(&[(ID, "id1"), (SECRET, "secret2"), (TOKEN, "token3")]);
    assert_eq!(keys.unwrap().unwrap().token, Some(hidden("token3")));
}
