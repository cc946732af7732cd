use std::path::PathBuf;
use std::time::Duration;

use directory_simulator::{Fault, FaultKind, Options, ROLE_NAME, Simulator};
use jiff::{SignedDuration, Timestamp};

use super::socket::{Behaviour, Server, answer};
use super::{fixture, keys};
use crate::cloud::credentials::Credentials;
use crate::cloud::credentials::ambient::Ambient;
use crate::cloud::transport::Limits;
use crate::cloud::{Client, Roots};
use crate::domain::access::{Endpoint, Hidden};
use crate::domain::call::{CallError, FailureClass, KeyCause, KeyFailure, KeyStep};
use crate::domain::directory::AssumedRole;

const EXCHANGE: &str = "AssumeRoleWithOIDC";
/// An unsigned token without an end.
const TOKEN: &str = "eyJhbGciOiJub25lIn0.eyJpc3MiOiJmYWtlIn0.canary";

/// A token file; removed with the test.
struct TokenFile(PathBuf);

impl TokenFile {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("mco-{}-{name}", std::process::id()));
        std::fs::write(&path, format!("{TOKEN}\n")).unwrap();
        Self(path)
    }
}

impl Drop for TokenFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn ambient(sts: &str, token_file: &TokenFile) -> Ambient {
    let lookup = |name: &str| match name {
        "ALIBABA_CLOUD_ROLE_ARN" => Some(format!("acs:ram::1000000000000001:role/{ROLE_NAME}")),
        "ALIBABA_CLOUD_OIDC_PROVIDER_ARN" => Some("acs:ram::1:oidc-provider/a".to_owned()),
        "ALIBABA_CLOUD_OIDC_TOKEN_FILE" => Some(token_file.0.to_str().unwrap().to_owned()),
        "ALIBABA_CLOUD_STS_ENDPOINT" => Some(sts.to_owned()),
        _ => None,
    };
    Ambient::read(lookup, &[sts.to_owned()])
}

/// A client whose API is never called, with that patience.
fn client(credentials: Credentials, call: Duration) -> Client {
    let limits = Limits { call, ..Client::LIMITS };
    Client::with_limits(&Endpoint::china(), credentials, Roots::System, limits).unwrap()
}

async fn simulator() -> Simulator {
    Simulator::start(Options::default()).await.unwrap()
}

fn minutes(number: i64) -> SignedDuration {
    SignedDuration::from_mins(number)
}

fn no_keys(step: KeyStep, cause: KeyCause) -> FailureClass {
    FailureClass::NoKeys(KeyFailure { step, cause })
}

/// Waits until something is so, for ten seconds at most.
async fn until(condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), wait).await.expect("the condition is never met");
}

#[tokio::test]
async fn those_who_ask_together_share_one_exchange() {
    let (it, file) = (simulator().await, TokenFile::new("together"));
    it.latency(Duration::from_millis(50));
    let credentials = ambient(&it.endpoint(), &file).rrsa().unwrap();
    let client = client(credentials, Client::LIMITS.call);
    let now = it.now();
    let all = futures::future::join_all((0..10).map(|_| client.keys(now))).await;
    let first = all[0].clone().unwrap();
    assert!(all.iter().all(|keys| keys.as_ref() == Ok(&first)));
    assert_eq!(it.counts().of(EXCHANGE), 1);

    // In the background, too, and not again right after.
    it.advance(Duration::from_mins(50));
    let soon = now + minutes(50);
    for _ in 0..10 {
        assert_eq!(client.keys(soon).await, Ok(first.clone()));
    }
    until(|| it.counts().of(EXCHANGE) == 2).await;
    let renewed = client.keys(now + minutes(61)).await.unwrap();
    assert_ne!(renewed, first);
    assert_eq!(it.counts().of(EXCHANGE), 2);
}

#[tokio::test]
async fn an_exchange_that_hangs_ends_with_the_time_out_and_only_one_hangs() {
    let (it, file) = (simulator().await, TokenFile::new("hangs"));
    let credentials = ambient(&it.endpoint(), &file).rrsa().unwrap();
    let short = client(credentials.clone(), Duration::from_millis(200));
    let now = it.now();
    let first = short.keys(now).await.unwrap();
    let hang = FaultKind::Hang { executed: false };
    it.fault(Fault::on(EXCHANGE, hang).times(u32::MAX));
    let unanswered = no_keys(KeyStep::AssumeRoleWithOidc, KeyCause::Unanswered);
    let class = |result: Result<_, CallError>| result.map_err(|error| error.class);
    // The renewal hangs, and the old keys are given out at once, again and again.
    for second in 0..20 {
        let later = now + minutes(50) + SignedDuration::from_secs(second);
        assert_eq!(short.keys(later).await, Ok(first.clone()));
    }
    // In their last minute they are not, and the wait has an end.
    let late = now + minutes(59) + SignedDuration::from_secs(1);
    assert_eq!(class(short.keys(late).await), Err(unanswered));
    it.clear_faults();
    until(|| it.counts().by_outcome.values().sum::<u64>() == it.counts().of(EXCHANGE)).await;
    assert!(it.counts().of(EXCHANGE) <= 3, "{:?}", it.counts());
    assert_ne!(short.keys(late).await.unwrap(), first);
}

#[tokio::test]
async fn keys_that_were_refused_are_not_given_out_again() {
    let (it, file) = (simulator().await, TokenFile::new("refused"));
    let credentials = ambient(&it.endpoint(), &file).rrsa().unwrap();
    let client_of = |credentials| client(credentials, Client::LIMITS.call);
    let client = client_of(credentials);
    let now = it.now();
    let first = client.keys(now).await.unwrap();
    assert!(!client.refused(&first, FailureClass::Permission));
    assert_eq!(client.keys(now).await, Ok(first.clone()));
    assert!(client.refused(&first, FailureClass::TokenExpired));
    let second = client.keys(now).await.unwrap();
    assert_ne!(second, first);
    // A late refusal of the first says nothing of the second.
    assert!(client.refused(&first, FailureClass::Credentials));
    assert_eq!(client.keys(now).await, Ok(second));
    // There are no others for keys that stand somewhere.
    let fixed = client_of(Credentials::fixed(keys()));
    assert!(!fixed.refused(&keys(), FailureClass::TokenExpired));
    assert_eq!(fixed.keys(now).await, Ok(keys()));
}

/// The clock of this machine is a day ahead: what STS gives seems to have ended long ago.
#[tokio::test]
async fn fresh_keys_are_used_whatever_their_date_says() {
    let (it, file) = (simulator().await, TokenFile::new("ahead"));
    let credentials = ambient(&it.endpoint(), &file).rrsa().unwrap();
    let client = client(credentials, Client::LIMITS.call);
    let ahead = it.now() + SignedDuration::from_hours(24);
    let first = client.keys(ahead).await.unwrap();
    assert_ne!(client.keys(ahead).await.unwrap(), first);
    assert_eq!(it.counts().of(EXCHANGE), 2);
}

#[tokio::test]
async fn the_token_stands_in_the_body_and_so_does_all_of_a_signed_request() {
    let examples = fixture("examples.json");
    let body = examples["sts"][EXCHANGE]["responses"][0]["body"].to_string();
    let mut sts = Server::start(Behaviour::Answer(answer("200 OK", &body))).await;
    let origin = format!("http://127.0.0.1:{}", sts.port);
    let file = TokenFile::new("body");
    let ambient = ambient(&origin, &file);
    let role = AssumedRole {
        role_arn: "acs:ram::1:role/b".to_owned(),
        session_name: None,
        external_id: Some(Hidden::new("canary external&id".to_owned())),
        duration_seconds: Some(900),
    };
    let credentials = ambient.assuming(ambient.rrsa().unwrap(), &role).unwrap();
    let now: Timestamp = "2026-01-15T08:30:00Z".parse().unwrap();
    let given = client(credentials, Client::LIMITS.call).keys(now).await.unwrap();
    assert_eq!(given.id.reveal(), "STS.FakeTemporaryKeyId0001");

    let requests = sts.seen();
    let [(_, exchange), (_, taken)] = &requests[..] else { unreachable!("{requests:?}") };
    let (head, body) = exchange.split_once("\r\n\r\n").unwrap();
    let first = head.lines().next().unwrap();
    let query = "Action=AssumeRoleWithOIDC&Format=JSON&Timestamp=2026-01-15T08%3A30%3A00Z\
                 &Version=2015-04-01";
    assert_eq!(first, format!("POST /?{query} HTTP/1.1"));
    assert!(head.contains("content-type: application/x-www-form-urlencoded"), "{head}");
    assert!(!head.contains("canary"), "{head}");
    let form = format!(
        "OIDCProviderArn=acs%3Aram%3A%3A1%3Aoidc-provider%2Fa&OIDCToken={TOKEN}\
         &RoleArn=acs%3Aram%3A%3A1000000000000001%3Arole%2F{ROLE_NAME}\
         &RoleSessionName=message-contact-operator"
    );
    assert_eq!(body, form);

    let (head, body) = taken.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("POST / HTTP/1.1\r\n"), "{head}");
    assert!(!head.contains("Fake") && !head.contains("canary"), "{head}");
    for part in [
        "AccessKeyId=STS.FakeTemporaryKeyId0001&Action=AssumeRole&",
        "&DurationSeconds=900&ExternalId=canary%20external%26id&",
        "&SecurityToken=CAISfake%2Btoken%2Fwith%3D%3Dsigns&",
        "&Version=2015-04-01&Signature=",
    ] {
        assert!(body.contains(part), "no {part} in {body}");
    }
}

#[tokio::test]
async fn an_answer_without_whole_keys_gives_none() {
    let file = TokenFile::new("odd");
    for body in [
        "",
        "{}",
        "[]",
        r#"{"Credentials":null}"#,
        r#"{"Credentials":{"AccessKeyId":"a","AccessKeySecret":"b","SecurityToken":"c"}}"#,
        r#"{"Credentials":{"AccessKeyId":"a","AccessKeySecret":"b","SecurityToken":"","Expiration":"2026-01-15T09:30:00Z"}}"#,
        r#"{"Credentials":{"AccessKeyId":"a","AccessKeySecret":"b","SecurityToken":"c","Expiration":"soon"}}"#,
    ] {
        let sts = Server::start(Behaviour::Answer(answer("200 OK", body))).await;
        let origin = format!("http://127.0.0.1:{}", sts.port);
        let credentials = ambient(&origin, &file).rrsa().unwrap();
        let now = "2026-01-15T08:30:00Z".parse().unwrap();
        let error = client(credentials, Client::LIMITS.call).keys(now).await.unwrap_err();
        let expected = no_keys(KeyStep::AssumeRoleWithOidc, KeyCause::Unanswered);
        assert_eq!(error.class, expected, "{body}");
    }
}
