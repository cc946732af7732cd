use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::keys;
use crate::cloud::credentials::ambient::{Ambient, Unusable};
use crate::cloud::credentials::provider::Held;
use crate::cloud::credentials::{Credentials, MissingKey};
use crate::domain::access::{AccessKeys, Endpoint, Hidden};
use crate::domain::directory::AssumedRole;

fn secret(entries: &[(&str, &[u8])]) -> Result<AccessKeys, MissingKey> {
    let data: BTreeMap<_, _> =
        entries.iter().map(|(key, value)| ((*key).to_owned(), value.to_vec())).collect();
    Credentials::from_secret_data(&data)
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

fn ambient(variables: &[(&str, &str)]) -> Ambient {
    let lookup = |name: &str| {
        let found = variables.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| (*value).to_owned())
    };
    Ambient::read(lookup, &["http://127.0.0.1:8443".to_owned()])
}

const ID: (&str, &str) = ("ALIBABA_CLOUD_ACCESS_KEY_ID", "canaryid\n");
const SECRET: (&str, &str) = ("ALIBABA_CLOUD_ACCESS_KEY_SECRET", "canarysecret");
const TOKEN: (&str, &str) = ("ALIBABA_CLOUD_SECURITY_TOKEN", "canarytoken");
const ROLE: (&str, &str) = ("ALIBABA_CLOUD_ROLE_ARN", "acs:ram::1:role/a");
const PROVIDER: (&str, &str) = ("ALIBABA_CLOUD_OIDC_PROVIDER_ARN", "acs:ram::1:oidc-provider/a");
const FILE: (&str, &str) = ("ALIBABA_CLOUD_OIDC_TOKEN_FILE", "/var/run/token");
const RRSA: [(&str, &str); 3] = [ROLE, PROVIDER, FILE];

#[test]
fn the_environment_gives_all_keys_or_none_or_says_what_is_missing() {
    let environment = |variables: &[(&str, &str)]| ambient(variables).environment();
    let missing = |(name, _): (&'static str, &str)| Err(Unusable::SomeKeys { missing: name });
    assert_eq!(environment(&[]), Err(Unusable::NoKeys));
    assert_eq!(environment(&[(ID.0, "\n"), (SECRET.0, "")]), Err(Unusable::NoKeys));
    assert_eq!(environment(&RRSA), Err(Unusable::NoKeys));
    assert_eq!(environment(&[ID]), missing(SECRET));
    assert_eq!(environment(&[SECRET]), missing(ID));
    assert_eq!(environment(&[TOKEN]), missing(ID));
    assert_eq!(environment(&[ID, (SECRET.0, ""), TOKEN]), missing(SECRET));
    let keys = |token: Option<&str>| AccessKeys {
        id: hidden("canaryid"),
        secret: hidden("canarysecret"),
        token: token.map(hidden),
    };
    assert_eq!(environment(&[ID, SECRET]), Ok(Credentials::fixed(keys(None))));
    assert_eq!(
        environment(&[ID, SECRET, TOKEN]),
        Ok(Credentials::fixed(keys(Some("canarytoken"))))
    );
}

#[test]
fn rrsa_takes_three_variables_or_none_and_names_the_missing_one() {
    for left_out in RRSA {
        let given: Vec<_> = RRSA.into_iter().filter(|it| *it != left_out).collect();
        let missing = Unusable::SomeRrsa { missing: left_out.0 };
        assert_eq!(ambient(&given).rrsa(), Err(missing));
        // Not a word of the node's role, which a chain would fall through to.
        assert_eq!(ambient(&given).any(), Err(missing));
        assert!(missing.to_string().contains(left_out.0), "{missing}");
    }
    assert_eq!(ambient(&[ID, SECRET]).rrsa(), Err(Unusable::NoRrsa));
    assert!(ambient(&RRSA).rrsa().is_ok());
    assert_eq!(ambient(&RRSA).token_file(), Some("/var/run/token"));
}

#[test]
fn keys_in_the_environment_go_before_rrsa_and_the_node_is_never_asked_unnamed() {
    let both = ambient(&[ID, SECRET, ROLE, PROVIDER, FILE]);
    assert_eq!(both.any(), both.environment());
    assert_ne!(both.any(), both.rrsa());
    let rrsa = ambient(&RRSA);
    assert_eq!(rrsa.any(), rrsa.rrsa());
    let half = ambient(&[ID, ROLE, PROVIDER, FILE]);
    assert_eq!(half.any(), Err(Unusable::SomeKeys { missing: SECRET.0 }));
    let node = ambient(&[("ALIBABA_CLOUD_ECS_METADATA", "node-role")]);
    assert_eq!(node.any(), Err(Unusable::Nothing));
    assert!(node.instance_role().is_ok());
    let word = format!("{:?}", node.instance_role());
    assert!(word.contains("node-role") && word.contains("http://100.100.100.200"), "{word}");
}

#[test]
fn the_node_s_role_is_not_asked_for_where_that_is_forbidden_or_its_name_is_a_path() {
    let disabled = |text| ambient(&[("ALIBABA_CLOUD_ECS_METADATA_DISABLED", text)]).instance_role();
    for yes in ["true", "True", "TRUE\n"] {
        assert_eq!(disabled(yes), Err(Unusable::MetadataDisabled));
    }
    for no in ["false", "", "0"] {
        assert!(disabled(no).is_ok(), "{no}");
    }
    for name in ["../../user-data", "a/b", ".", "..", "a b", "a?b", "a%2fb", &"a".repeat(65)] {
        let refused = ambient(&[("ALIBABA_CLOUD_ECS_METADATA", name)]).instance_role();
        assert!(matches!(refused, Err(Unusable::Malformed { .. })), "{name}");
    }
}

#[test]
fn the_endpoint_of_sts_follows_the_environment_and_is_one_of_sts() {
    const ENDPOINT: &str = "ALIBABA_CLOUD_STS_ENDPOINT";
    const REGION: &str = "ALIBABA_CLOUD_STS_REGION";
    const VPC: &str = "ALIBABA_CLOUD_VPC_ENDPOINT_ENABLED";
    let shown = |variables: &[(&str, &str)]| {
        let all: Vec<_> = RRSA.iter().chain(variables).copied().collect();
        ambient(&all).rrsa().map(|found| format!("{found:?}"))
    };
    let check = |variables: &[(&str, &str)], origin: &str| {
        let found = shown(variables).unwrap();
        assert!(found.contains(&format!("Endpoint({origin:?})")), "{found}");
    };
    check(&[], "https://sts.aliyuncs.com");
    check(&[(VPC, "true")], "https://sts.aliyuncs.com");
    check(&[(REGION, "cn-hangzhou")], "https://sts.cn-hangzhou.aliyuncs.com");
    check(&[(REGION, "cn-hangzhou"), (VPC, "false")], "https://sts.cn-hangzhou.aliyuncs.com");
    let vpc = [(REGION, "ap-southeast-1"), (VPC, "true")];
    check(&vpc, "https://sts-vpc.ap-southeast-1.aliyuncs.com");
    let named = [(ENDPOINT, "sts-vpc.cn-beijing.aliyuncs.com"), (REGION, "cn-hangzhou")];
    check(&named, "https://sts-vpc.cn-beijing.aliyuncs.com");
    check(
        &[(ENDPOINT, "https://sts.eu-central-1.aliyuncs.com")],
        "https://sts.eu-central-1.aliyuncs.com",
    );
    check(&[(ENDPOINT, "http://127.0.0.1:8443")], "http://127.0.0.1:8443");
    // Only `--allow-endpoint` has it with a scheme.
    assert_eq!(shown(&[(ENDPOINT, "127.0.0.1:8443")]), Err(Unusable::StsNotAllowed));
    for region in
        ["oss-cn-hangzhou", "cn", "cn-", "cn-a.evil", "CN-HANGZHOU", "evil", "cn-a/", "xx-a"]
    {
        let refused = shown(&[(REGION, region)]);
        assert!(matches!(refused, Err(Unusable::Malformed { .. })), "{region}: {refused:?}");
    }
}

#[test]
fn a_strange_endpoint_of_sts_is_refused() {
    for text in [
        "http://sts.aliyuncs.com",
        "sts.aliyuncs.com.evil.example",
        "https://sts.aliyuncs.com:443",
        "https://sts.aliyuncs.com//",
        "https://sts.aliyuncs.com/?",
        "https://STS.aliyuncs.com",
        "https://sts.aliyuncs.com.",
        "https://user@sts.aliyuncs.com",
        "https://sts.aliyuncs.com@evil.example",
        "https://sts.aliyuncs.com\\evil.example",
        "https://evil.example/sts.aliyuncs.com",
        "https://evil.example#.aliyuncs.com",
        "https://sts.oss-cn-hangzhou.aliyuncs.com",
        "https://sts.oss-accelerate.aliyuncs.com",
        "https://sts-vpc.oss-cn-hangzhou.aliyuncs.com",
        "https://evil.cn-hangzhou.aliyuncs.com",
        "https://sts.cn-hangzhou.evil.aliyuncs.com",
        "https://sts.cn-hangzhou@evil.example/.aliyuncs.com",
        "https://stsx.cn-hangzhou.aliyuncs.com",
        "https://resourcedirectory.aliyuncs.com",
        "http://100.100.100.200",
        "http://127.0.0.1:8444",
        " https://sts.aliyuncs.com",
        "",
    ] {
        let refused = Endpoint::sts(text, &["http://127.0.0.1:8443".to_owned()]);
        assert!(refused.is_err(), "{text}");
    }
}

#[test]
fn a_session_without_a_proper_name_is_refused() {
    const NAME: &str = "ALIBABA_CLOUD_ROLE_SESSION_NAME";
    let with = |name: &'static str| ambient(&[ROLE, PROVIDER, FILE, ID, SECRET, (NAME, name)]);
    assert!(format!("{:?}", with("desk@ops").rrsa()).contains("desk@ops"));
    let own = format!("{:?}", ambient(&RRSA).rrsa());
    assert!(own.contains("\"message-contact-operator\""), "{own}");
    let role = |session_name: Option<&str>| AssumedRole {
        role_arn: "acs:ram::1:role/b".to_owned(),
        session_name: session_name.map(str::to_owned),
        external_id: Some(hidden("canaryexternal")),
        duration_seconds: None,
    };
    let assuming = |ambient: Ambient, name| {
        let base = ambient.environment().unwrap();
        ambient.assuming(base, &role(name)).map(|found| format!("{found:?}"))
    };
    for bad in ["a", "a b", "a/b"] {
        let malformed = |variable| matches!(variable, Unusable::Malformed { variable: NAME, .. });
        assert!(malformed(with(bad).rrsa().unwrap_err()), "{bad}");
        assert!(malformed(assuming(with(bad), None).unwrap_err()), "{bad}");
        // A name in the spec is enough.
        assert!(assuming(with(bad), Some("desk")).unwrap().contains("\"desk\""));
    }
    let found = assuming(with("desk@ops"), None).unwrap();
    assert!(found.contains("desk@ops") && !found.contains("canary"), "{found}");
}

#[test]
fn nothing_private_of_the_environment_is_shown() {
    let all = [ID, SECRET, TOKEN, ROLE, PROVIDER, FILE];
    let found = ambient(&all);
    let shown = format!("{found:?} {:?} {:?}", found.any(), found.rrsa());
    assert!(!shown.contains("canary"), "{shown}");
}

#[test]
fn equal_places_are_equal_credentials_whatever_was_fetched_there() {
    assert_eq!(ambient(&RRSA).rrsa(), ambient(&RRSA).rrsa());
    let other = [ROLE, PROVIDER, (FILE.0, "/var/run/other")];
    assert_ne!(ambient(&RRSA).rrsa(), ambient(&other).rrsa());
}

/// Minute by minute through the life of keys: usable, due, stopped.
#[test]
fn keys_are_renewed_ahead_of_their_end_and_not_used_in_their_last_minute() {
    let fetched_at: Timestamp = "2026-01-15T08:30:00Z".parse().unwrap();
    let check = |life: i64, due_at: i64, stop_at: i64| {
        let expires_at = fetched_at + SignedDuration::from_secs(life);
        let held = Held { keys: keys(), fetched_at, expires_at };
        for second in 0..=life + 5 {
            let now = fetched_at + SignedDuration::from_secs(second);
            assert_eq!(held.is_due(now), second >= due_at, "{life}: due at {second}");
            assert_eq!(held.is_usable(now), second < stop_at, "{life}: usable at {second}");
        }
    };
    check(3600, 2700, 3540);
    check(43_200, 32_400, 43_140);
    // A quarter would be less than five minutes.
    check(900, 600, 840);
    check(120, 0, 60);
    check(30, 0, 0);
}
