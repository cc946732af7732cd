//! Where keys come from: each source, renewed ahead of its end, and each failure told apart.

use std::net::TcpListener;
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use directory_simulator::{
    ACCESS_KEY_ID, ACCESS_KEY_SECRET, Fault, FaultKind, Key, MANAGEMENT_ACCOUNT_ID, Options,
    ROLE_NAME, Role,
};
use jiff::SignedDuration;
use message_contact_operator::clock::Clock;
use message_contact_operator::controller::Environment;
use message_contact_operator::domain::access::Endpoint;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::privacy;
use crate::process::{self, Alone, alone};
use crate::stand::{self, OPERATOR_NAMESPACE, Stand, message_of};

const KEYS: [(&str, &str); 2] = [
    ("ALIBABA_CLOUD_ACCESS_KEY_ID", ACCESS_KEY_ID),
    ("ALIBABA_CLOUD_ACCESS_KEY_SECRET", ACCESS_KEY_SECRET),
];
const EXCHANGE: &str = "AssumeRoleWithOIDC";
const EXTERNAL_ID: &str = "canary-external-4711";

/// A story with an operator of its own: its environment, and a clock that is moved together with
/// the cloud's.
struct Own {
    // Ends before the stand looks at what was shown.
    operator: JoinHandle<()>,
    stand: Stand,
    clock: Clock,
    token_file: PathBuf,
    _alone: Alone,
}

impl Drop for Own {
    fn drop(&mut self) {
        self.operator.abort();
        let _ = std::fs::remove_file(&self.token_file);
    }
}

impl Own {
    /// An operator whose environment has these variables, and STS at the simulator.
    async fn start(variables: &[(&str, &str)]) -> Self {
        Self::start_with(variables, &[]).await
    }

    /// As [`Self::start`], with those of RRSA as well; the token lives for so long.
    async fn with_rrsa(token_lives: SignedDuration) -> Self {
        Self::start_rrsa(&[], token_lives).await
    }

    async fn start_rrsa(variables: &[(&str, &str)], token_lives: SignedDuration) -> Self {
        let token_file = process::scratch("token");
        let role = arn(ROLE_NAME);
        let provider = format!("acs:ram::{MANAGEMENT_ACCOUNT_ID}:oidc-provider/ack-rrsa-story");
        let rrsa = [
            ("ALIBABA_CLOUD_ROLE_ARN", role.as_str()),
            ("ALIBABA_CLOUD_OIDC_PROVIDER_ARN", provider.as_str()),
            ("ALIBABA_CLOUD_OIDC_TOKEN_FILE", token_file.to_str().unwrap()),
        ];
        let mut own = Self::start_with(variables, &rrsa).await;
        own.token_file = token_file;
        own.put_token(token_lives);
        own
    }

    async fn start_with(variables: &[(&str, &str)], more: &[(&str, &str)]) -> Self {
        privacy::listen();
        let alone = alone().await;
        let stand = Stand::on(alone.cluster, Options::default()).await;
        for hidden in ["SimTemporarySecret", "STS.SimTemporaryKeyId", "CAISsim", EXTERNAL_ID] {
            stand.private.add(hidden);
        }
        let endpoint = stand.simulator.endpoint();
        let mut all = vec![("ALIBABA_CLOUD_STS_ENDPOINT".to_owned(), endpoint.clone())];
        // Later ones go before earlier ones.
        let given = variables.iter().chain(more);
        all.extend(given.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let lookup = |name: &str| {
            all.iter().rev().find(|(known, _)| known == name).map(|(_, value)| value.clone())
        };
        let allow_list = vec![endpoint];
        let mut environment = Environment::new(OPERATOR_NAMESPACE.to_owned(), allow_list, lookup);
        let control = stand.simulator.control();
        environment.keys.metadata =
            Endpoint::allowed(&control, std::slice::from_ref(&control)).unwrap();
        let clock = Clock::system();
        let running = stand::run_operator_in(stand.client.clone(), environment, clock.clone());
        let operator = tokio::spawn(running);
        Self { operator, stand, clock, token_file: PathBuf::new(), _alone: alone }
    }

    /// A token of the service account, as the kubelet writes it: a new file in the old one's place.
    fn put_token(&self, lives: SignedDuration) {
        let now = self.stand.simulator.now();
        let claims = json!({ "iss": "https://oidc.example", "aud": "sts.aliyuncs.com",
            "sub": "system:serviceaccount:message-contacts:operator",
            "iat": now.as_second(), "exp": (now + lives).as_second() });
        self.put_text(&format!("{}\n", self.token_of(&claims)));
    }

    fn token_of(&self, claims: &Value) -> String {
        let part = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
        let payload = part(claims);
        let token = format!("{}.{payload}.canarysignature", part(&json!({ "alg": "RS256" })));
        for hidden in [&payload, "canarysignature"] {
            self.stand.private.add(hidden);
        }
        token
    }

    fn put_text(&self, text: &str) {
        let beside = self.token_file.with_extension("new");
        std::fs::write(&beside, text).unwrap();
        std::fs::rename(beside, &self.token_file).unwrap();
    }

    /// So much time goes by, here and in the cloud, in steps that no time stamp is too old for: a call
    /// that was signed before one of them has ended before the next.
    async fn wait(&self, time: SignedDuration) {
        let mut left = time;
        while left.is_positive() {
            let step = left.min(SignedDuration::from_mins(10));
            self.stand.simulator.advance(Duration::try_from(step).unwrap());
            self.clock.advance(step);
            left -= step;
            self.stand.ask_directory().await;
        }
    }

    fn exchanges(&self) -> u64 {
        self.stand.simulator.counts().of(EXCHANGE)
    }

    /// Connects anew, with nothing that was fetched before.
    async fn reconnect(&self, spec: &Value) {
        self.stand.apply_directory(json!({ "suspend": true })).await;
        self.stand.directory_becomes("Ready", "Suspended").await;
        self.stand.apply_directory(spec.clone()).await;
    }

    /// Connects anew and expects that, in a message with these words.
    async fn becomes(&self, spec: &Value, reason: &str, words: &[&str]) {
        self.reconnect(spec).await;
        let object = self.stand.directory_becomes("Ready", reason).await;
        let message = message_of(&object, "Ready");
        for word in words {
            assert!(message.contains(word), "no {word} in: {message}");
        }
    }

    /// The keys that signed the directory's calls after a number.
    fn signers(&self, after: u64) -> Vec<String> {
        let calls = self.stand.simulator.calls_since(after).into_iter();
        let calls = calls.filter(|call| !call.action.starts_with("AssumeRole"));
        let mut ids: Vec<_> = calls.map(|call| call.key_id).collect();
        ids.sort();
        ids.dedup();
        ids
    }

    /// What was sent of all calls so far: nothing private stood in a URL.
    fn nothing_private_in_urls(&self) {
        for call in self.stand.simulator.calls() {
            let mut in_url = call.in_url;
            in_url.sort();
            let expected: &[&str] = match call.action.as_str() {
                EXCHANGE => &["Action", "Format", "Timestamp", "Version"],
                _ => &[],
            };
            assert_eq!(in_url, expected, "{}", call.action);
        }
    }
}

fn arn(role: &str) -> String {
    format!("acs:ram::{MANAGEMENT_ACCOUNT_ID}:role/{role}")
}

const DAY: SignedDuration = SignedDuration::from_hours(24);

fn minutes(number: i64) -> SignedDuration {
    SignedDuration::from_mins(number)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_account_s_token_is_exchanged_read_anew_and_its_keys_renewed_ahead_of_their_end()
{
    let own = Own::with_rrsa(minutes(20)).await;
    let stand = &own.stand;
    stand.apply_directory(json!({})).await;
    stand.directory_becomes("Ready", "Connected").await;
    stand.settled("desk", "Zhoubo", json!({})).await;
    assert_eq!(own.exchanges(), 1);
    let first = own.signers(0);
    assert!(matches!(&first[..], [id] if id.starts_with("STS.")), "{first:?}");

    // The first token has ended when it is needed again, and another one stands in its place.
    own.wait(minutes(40)).await;
    stand.ask_directory().await;
    assert_eq!(own.exchanges(), 1, "renewed too early");
    own.put_token(DAY);
    own.wait(minutes(6)).await;
    stand.cloud("the keys are renewed", |it| (it.counts().of(EXCHANGE) == 2).then_some(())).await;
    own.wait(minutes(1)).await;
    let mark = stand.mark();
    stand.apply("desk", "Zhoubo", json!({ "title": "CEO" })).await;
    stand.becomes("desk", "Ready", "InSync").await;
    stand
        .cloud("the new keys sign", |_| {
            (own.signers(mark).iter().any(|id| !first.contains(id))).then_some(())
        })
        .await;
    let counts = stand.simulator.counts();
    assert_eq!(counts.ended("AuthenticationFail.OIDCToken.Expired"), 0);
    // Other keys of the same source are no other connection.
    assert_eq!(counts.of("GetResourceDirectory"), 1);
    assert_eq!(own.exchanges(), 2);
    own.nothing_private_in_urls();
}

#[tokio::test(flavor = "multi_thread")]
async fn old_keys_are_used_while_they_are_valid_if_they_cannot_be_renewed() {
    let own = Own::with_rrsa(minutes(20)).await;
    let stand = &own.stand;
    stand.apply_directory(json!({ "credentials": { "source": "RRSA" } })).await;
    stand.directory_becomes("Ready", "Connected").await;
    stand.settled("desk", "Zhongli", json!({})).await;
    let first = own.signers(0);

    let expired = "AuthenticationFail.OIDCToken.Expired";
    own.wait(minutes(50)).await;
    stand.cloud("a renewal fails", |it| (it.counts().ended(expired) == 1).then_some(())).await;
    for (after, title) in [(0, "CEO"), (7, "Other")] {
        own.wait(minutes(after)).await;
        stand.apply("desk", "Zhongli", json!({ "title": title })).await;
        stand.becomes("desk", "Ready", "InSync").await;
        stand.directory_becomes("Ready", "Connected").await;
    }
    assert_eq!(own.signers(0), first);
    stand.cloud("it is tried again", |it| (it.counts().ended(expired) >= 2).then_some(())).await;

    // Half a minute before their end, no call is made with them.
    own.wait(SignedDuration::from_secs(150)).await;
    let mark = stand.mark();
    let object = stand.directory_becomes("Ready", "Unauthorized").await;
    let message = message_of(&object, "Ready");
    assert!(message.contains(expired) && message.contains("was not replaced"), "{message}");
    stand.apply("desk", "Zhongli", json!({ "title": "ProjectDirector" })).await;
    let object = stand.becomes("desk", "Synced", "Unauthorized").await;
    let message = message_of(&object, "Synced");
    assert!(message.contains("directory") && !message.contains("grant"), "{message}");
    assert_eq!(own.signers(mark), Vec::<String>::new());

    own.put_token(DAY);
    stand.ask_directory().await;
    stand.directory_becomes("Ready", "Connected").await;
    stand.becomes("desk", "Ready", "InSync").await;
    assert!(own.signers(mark).iter().all(|id| !first.contains(id)));
    own.nothing_private_in_urls();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_service_that_hangs_holds_up_no_call_while_the_old_keys_are_valid() {
    let own = Own::with_rrsa(DAY).await;
    let stand = &own.stand;
    let hang = || Fault::on(EXCHANGE, FaultKind::Hang { executed: false });
    // At the start there is nothing to go on with.
    stand.simulator.fault(hang());
    stand.apply_directory(json!({})).await;
    let object = stand.directory_becomes("Ready", "Unreachable").await;
    let message = message_of(&object, "Ready");
    assert!(message.contains("AssumeRoleWithOIDC: STS gave no usable answer"), "{message}");
    stand.simulator.clear_faults();
    stand.directory_becomes("Ready", "Connected").await;
    let id = stand.settled("desk", "Luban", json!({})).await;

    stand.simulator.fault(hang());
    own.wait(minutes(50)).await;
    let taken = |it: &directory_simulator::Simulator| it.faults().is_empty().then_some(());
    stand.cloud("the renewal hangs", taken).await;
    let asked = own.exchanges();
    stand.apply("desk", "Luban", json!({ "title": "CEO" })).await;
    stand
        .cloud("the change arrives", |it| (it.state().contact(&id)?.title == "CEO").then_some(()))
        .await;
    assert_eq!(own.exchanges(), asked, "the renewal has not ended");
    stand.simulator.release_hanging();
    stand.becomes("desk", "Ready", "InSync").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_refusal_of_the_token_service_is_told_apart() {
    let own = Own::with_rrsa(DAY).await;
    let simulator = &own.stand.simulator;
    let check = async |kind: FaultKind, reason: &str, words: &[&str]| {
        simulator.fault(Fault::on(EXCHANGE, kind).times(u32::MAX));
        own.becomes(&json!({}), reason, words).await;
        simulator.clear_faults();
    };
    let error = |status, code: &str| FaultKind::error(status, code);
    let refused = "AuthenticationFail.OIDCToken.InvalidSignature";
    check(error(401, refused), "Unauthorized", &["AssumeRoleWithOIDC", refused]).await;
    let audience = "AuthenticationFail.OIDCToken.AudienceNotMatch";
    check(error(401, audience), "Unauthorized", &["audience sts.aliyuncs.com"]).await;
    let distrusted = "AuthenticationFail.NoPermission";
    check(error(401, distrusted), "Forbidden", &["sts:AssumeRole", "trust policy"]).await;
    let unknown = "EntityNotExist.Role";
    check(error(404, unknown), "Unauthorized", &["there is no such role", unknown]).await;
    check(error(500, "InternalError"), "Unreachable", &["STS", "InternalError"]).await;
    check(error(400, "Throttling.User"), "Unreachable", &["STS", "Throttling.User"]).await;
    check(FaultKind::Reset { executed: false }, "Unreachable", &["STS gave no usable"]).await;
    check(FaultKind::html_502(false), "Unreachable", &["STS gave no usable"]).await;
    check(FaultKind::CutBody { bytes: 60 }, "Unreachable", &["STS gave no usable"]).await;
    // A listener that nobody may reach: a redirect is not followed.
    let elsewhere = TcpListener::bind("127.0.0.1:0").unwrap();
    elsewhere.set_nonblocking(true).unwrap();
    let address = format!("http://{}/", elsewhere.local_addr().unwrap());
    check(FaultKind::redirect(&address), "Unreachable", &["STS gave no usable"]).await;
    assert!(elsewhere.accept().is_err(), "the redirect was followed");

    // The token itself: as it is read, and as STS reads it.
    own.put_text(&own.token_of(&json!({ "aud": "somebody-else", "sub": "a", "iss": "b" })));
    own.becomes(&json!({}), "Unauthorized", &["audience sts.aliyuncs.com"]).await;
    own.stand.private.add("canarynotoken");
    own.put_text("canarynotoken");
    own.becomes(&json!({}), "Unauthorized", &["AuthenticationFail.OIDCToken.Invalid"]).await;
    let asked = own.exchanges();
    let path = own.token_file.to_str().unwrap();
    for text in ["", "\n", &"canary".repeat(5_000)] {
        own.put_text(text);
        own.becomes(&json!({}), "Unauthorized", &["the token file", path]).await;
    }
    std::fs::remove_file(&own.token_file).unwrap();
    own.becomes(&json!({}), "Unauthorized", &["the token file", path]).await;
    assert_eq!(own.exchanges(), asked, "what is no token was sent");
    own.put_token(DAY);
    own.becomes(&json!({}), "Connected", &[]).await;
    own.nothing_private_in_urls();
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_have_ended_are_replaced_at_once_and_the_call_goes_again_once() {
    let own = Own::with_rrsa(DAY).await;
    let stand = &own.stand;
    stand.apply_directory(json!({})).await;
    stand.directory_becomes("Ready", "Connected").await;
    stand.settled("desk", "Yuji", json!({})).await;
    let ended = || FaultKind::error(400, "InvalidSecurityToken.Expired");
    stand.simulator.fault(Fault::on("UpdateMessageContact", ended()));
    let mark = stand.mark();
    stand.apply("desk", "Yuji", json!({ "title": "CEO" })).await;
    stand.becomes("desk", "Ready", "InSync").await;
    let update = "UpdateMessageContact Title";
    assert_eq!(stand.calls_since(mark)[..3], [update, EXCHANGE, update]);
    assert_eq!(stand.simulator.counts().of("GetResourceDirectory"), 1);

    // Not for ever: the second refusal in a row is told.
    let list = "ListMessageContacts";
    stand.simulator.fault(Fault::on(list, ended()).times(u32::MAX));
    let mark = stand.mark();
    stand.ask_directory().await;
    let object = stand.directory_becomes("Ready", "Unauthorized").await;
    let message = message_of(&object, "Ready");
    assert!(message.contains("InvalidSecurityToken.Expired"), "{message}");
    assert_eq!(stand.actions_since(mark)[..3], [list, EXCHANGE, list]);
    stand.simulator.clear_faults();
    stand.directory_becomes("Ready", "Connected").await;
    own.nothing_private_in_urls();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_role_of_the_node_is_asked_for_only_if_it_is_named_and_with_a_token() {
    // The environment names the node's role, as the vendor's images do: that is no wish.
    let own = Own::start(&[("ALIBABA_CLOUD_ECS_METADATA", ROLE_NAME)]).await;
    let stand = &own.stand;
    let metadata = |kind: &str| stand.simulator.counts().of_metadata(kind);
    stand.apply_directory(json!({})).await;
    let object = stand.directory_becomes("Ready", "Unauthorized").await;
    let message = message_of(&object, "Ready");
    assert!(message.contains("ALIBABA_CLOUD_ACCESS_KEY_ID"), "{message}");
    for source in ["Environment", "RRSA"] {
        let spec = json!({ "credentials": { "source": source } });
        own.becomes(&spec, "Unauthorized", &["environment"]).await;
    }
    assert_eq!(stand.simulator.counts().metadata.len(), 0);
    assert_eq!(stand.simulator.counts().calls, 0);

    let node = json!({ "credentials": { "source": "InstanceRole" } });
    own.becomes(&node, "Connected", &[]).await;
    stand.settled("desk", "Fanchuo", json!({})).await;
    assert!(own.signers(0).iter().all(|id| id.starts_with("STS.")));
    assert_eq!((metadata("token"), metadata("role"), metadata("credentials")), (1, 0, 1));

    // IMDSv1 would answer, and is not asked.
    stand.simulator.metadata_token_required(false);
    for (status, reason) in [(404, "Unauthorized"), (403, "Unauthorized"), (500, "Unreachable")] {
        let error = FaultKind::error(status, "NoToken");
        stand.simulator.fault(Fault::on("MetadataToken", error).times(u32::MAX));
        own.becomes(&node, reason, &["node"]).await;
        stand.simulator.clear_faults();
    }
    let hang = FaultKind::Hang { executed: false };
    stand.simulator.fault(Fault::on("MetadataCredentials", hang));
    own.becomes(&node, "Unreachable", &["metadata service", "ECS"]).await;
    stand.simulator.clear_faults();
    let odd = |body: &str| FaultKind::Raw {
        status: 200,
        headers: Vec::new(),
        body: body.to_owned(),
        repeat: 1,
        executed: false,
    };
    let failed = odd(r#"{"Code":"Failed"}"#);
    stand.simulator.fault(Fault::on("MetadataCredentials", failed).times(u32::MAX));
    own.becomes(&node, "Unauthorized", &["metadata service", "IMDSv2"]).await;
    stand.simulator.clear_faults();
    stand.simulator.roles(vec![Role::new("another")]);
    own.becomes(&node, "Unauthorized", &["no such role"]).await;
    assert_eq!(metadata("without a token"), 0);
    assert_eq!(metadata("role"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_node_says_which_role_it_has_and_its_keys_are_renewed() {
    let own = Own::start(&[]).await;
    let stand = &own.stand;
    let node = json!({ "credentials": { "source": "InstanceRole" } });
    stand.apply_directory(node.clone()).await;
    stand.directory_becomes("Ready", "Connected").await;
    let asked = |kind: &str| stand.simulator.counts().of_metadata(kind);
    assert_eq!((asked("token"), asked("role"), asked("credentials")), (1, 1, 1));
    own.wait(minutes(50)).await;
    let renewed = |kind: &'static str| {
        stand.cloud("the keys are renewed", move |it| {
            (it.counts().of_metadata(kind) == 2).then_some(())
        })
    };
    renewed("credentials").await;
    stand.settled("desk", "Bianque", json!({})).await;
    assert_eq!(stand.simulator.counts().of("GetResourceDirectory"), 1);
    // What comes as a name is a part of a path: anything else is none.
    let path = FaultKind::Raw {
        status: 200,
        headers: Vec::new(),
        body: "../../user-data".to_owned(),
        repeat: 1,
        executed: false,
    };
    let before = asked("credentials");
    stand.simulator.fault(Fault::on("MetadataRole", path).times(u32::MAX));
    own.becomes(&node, "Unreachable", &["metadata service"]).await;
    assert_eq!(asked("credentials"), before);
    assert_eq!(asked("without a token"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_environment_can_forbid_to_ask_the_node() {
    let own = Own::start(&[("ALIBABA_CLOUD_ECS_METADATA_DISABLED", "true")]).await;
    let node = json!({ "credentials": { "source": "InstanceRole" } });
    own.stand.apply_directory(node).await;
    let object = own.stand.directory_becomes("Ready", "Unauthorized").await;
    let message = message_of(&object, "Ready");
    assert!(message.contains("ALIBABA_CLOUD_ECS_METADATA_DISABLED"), "{message}");
    assert_eq!(own.stand.simulator.counts().metadata.len(), 0);
}

/// A role that asks for an external id, and the one that the service account has.
fn roles(own: &Own) {
    let mut desk = Role::new("desk");
    desk.external_id = Some(EXTERNAL_ID.to_owned());
    desk.session_seconds_max = 7200;
    own.stand.simulator.roles(vec![Role::new(ROLE_NAME), desk]);
}

fn assuming(source: &Value, fields: Value) -> Value {
    let mut role = json!({ "roleArn": arn("desk"), "externalId": EXTERNAL_ID,
        "sessionName": "desk@story", "durationSeconds": 5400 });
    stand::merge(&mut role, fields);
    let mut credentials = json!({ "assumeRole": role });
    stand::merge(&mut credentials, source.clone());
    json!({ "credentials": credentials })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_is_taken_on_top_of_every_source() {
    let own = Own::start_rrsa(&KEYS, DAY).await;
    let stand = &own.stand;
    roles(&own);
    let secret = ("StoryKeyOfSecret", "StorySecretOfSecret");
    stand.simulator.add_key(Key::new(secret.0, secret.1));
    stand.private.add(secret.0);
    stand.private.add(secret.1);
    let data = json!({ "accessKeyId": secret.0, "accessKeySecret": secret.1 });
    stand.apply_secret(&stand.directory, data).await;
    for (number, source, signer) in [
        (0, json!({}), ACCESS_KEY_ID),
        (1, json!({ "source": "Environment" }), ACCESS_KEY_ID),
        (2, json!({ "source": "RRSA" }), "STS."),
        (3, json!({ "source": "InstanceRole" }), "STS."),
        (4, json!({ "source": "Secret", "secretRef": { "name": stand.directory } }), secret.0),
    ] {
        let mark = stand.mark();
        own.becomes(&assuming(&source, json!({})), "Connected", &[]).await;
        let title = ["CEO", "Other"][number % 2];
        stand.settled("desk", "Jiangshang", json!({ "title": title })).await;
        let calls = stand.simulator.calls_since(mark);
        let taken: Vec<_> = calls.iter().filter(|call| call.action == "AssumeRole").collect();
        assert_eq!(taken.len(), 1, "{source}");
        assert!(taken[0].key_id.starts_with(signer), "{source}: {}", taken[0].key_id);
        let sent = &taken[0].parameters;
        let expected = json!({ "RoleArn": arn("desk"), "RoleSessionName": "desk@story",
            "ExternalId": "***", "DurationSeconds": "5400" });
        assert_eq!(json!(sent), expected, "{source}");
        assert!(own.signers(mark).iter().all(|id| id.starts_with("STS.")), "{source}");
    }
    own.nothing_private_in_urls();
    assert_eq!(stand.simulator.counts().of_metadata("without a token"), 0);

    // Its keys live as long as was asked for, and are renewed ahead of that.
    let taken = stand.simulator.counts().of("AssumeRole");
    own.wait(minutes(60)).await;
    stand.ask_directory().await;
    assert_eq!(stand.simulator.counts().of("AssumeRole"), taken, "renewed too early");
    own.wait(minutes(10)).await;
    let renewed =
        |it: &directory_simulator::Simulator| (it.counts().of("AssumeRole") > taken).then_some(());
    stand.cloud("the keys are renewed", renewed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_forbids_to_take_a_role_is_told_apart() {
    let own = Own::start(&KEYS).await;
    let simulator = &own.stand.simulator;
    roles(&own);
    let with = |fields| assuming(&json!({}), fields);
    let forbidden = ["AssumeRole was refused (NoPermission)", "sts:AssumeRole", "externalId"];
    own.becomes(&with(json!({ "externalId": null })), "Forbidden", &forbidden).await;
    own.becomes(&with(json!({ "externalId": "another" })), "Forbidden", &forbidden).await;
    let missing = ["EntityNotExist.Role", "there is no such role"];
    own.becomes(&with(json!({ "roleArn": arn("nobody") })), "Unauthorized", &missing).await;
    let long = with(json!({ "durationSeconds": 7201 }));
    own.becomes(&long, "Unauthorized", &["durationSeconds", "longer than the role"]).await;

    let others = Key::new(ACCESS_KEY_ID, ACCESS_KEY_SECRET).only(&["ListMessageContacts"]);
    simulator.add_key(others);
    own.becomes(&with(json!({})), "Forbidden", &forbidden).await;
    simulator.disable_key(ACCESS_KEY_ID);
    own.becomes(&with(json!({})), "Unauthorized", &["InvalidAccessKeyId.Inactive"]).await;
    simulator.add_key(Key::new(ACCESS_KEY_ID, ACCESS_KEY_SECRET));

    let skew = FaultKind::ClockSkew { seconds: 5400 };
    simulator.fault(Fault::on("AssumeRole", skew).times(u32::MAX));
    let skewed = ["AssumeRole", "90 minutes behind"];
    own.becomes(&with(json!({})), "ClockSkewed", &skewed).await;
    simulator.clear_faults();

    // The role may be taken, but not do what is needed.
    let mut desk = Role::new("desk");
    desk.session_seconds_max = 7200;
    desk.actions = Some(["GetResourceDirectory".to_owned()].into());
    simulator.roles(vec![desk]);
    let needed = ["resourcemanager:ListMessageContacts"];
    own.becomes(&with(json!({})), "Forbidden", &needed).await;
    roles(&own);
    own.becomes(&with(json!({})), "Connected", &[]).await;
    own.nothing_private_in_urls();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_half_set_environment_is_refused_with_the_missing_variable_and_nobody_is_asked() {
    let role = ("ALIBABA_CLOUD_ROLE_ARN", "acs:ram::1:role/a");
    let file = ("ALIBABA_CLOUD_OIDC_TOKEN_FILE", "/nowhere/token");
    let check = async |variables: &[(&str, &str)], missing: &str| {
        let own = Own::start(variables).await;
        own.stand.apply_directory(json!({})).await;
        let object = own.stand.directory_becomes("Ready", "Unauthorized").await;
        let message = message_of(&object, "Ready");
        assert!(message.contains(&format!("{missing} is not")), "{message}");
        assert_eq!(own.stand.simulator.counts().calls, 0);
        assert_eq!(own.stand.simulator.counts().metadata.len(), 0);
    };
    check(&[role, file], "ALIBABA_CLOUD_OIDC_PROVIDER_ARN").await;
    check(&[KEYS[0], role, file], "ALIBABA_CLOUD_ACCESS_KEY_SECRET").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strange_token_service_from_the_environment_is_refused_before_any_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let strange = format!("http://{}", listener.local_addr().unwrap());
    for endpoint in [strange.as_str(), "https://sts.oss-cn-hangzhou.aliyuncs.com"] {
        let variables = [KEYS[0], KEYS[1], ("ALIBABA_CLOUD_STS_ENDPOINT", endpoint)];
        let own = Own::start(&variables).await;
        roles(&own);
        let with_role = assuming(&json!({}), json!({}));
        own.stand.apply_directory(with_role.clone()).await;
        let object = own.stand.directory_becomes("Ready", "EndpointNotAllowed").await;
        let message = message_of(&object, "Ready");
        assert!(message.contains("ALIBABA_CLOUD_STS_ENDPOINT"), "{message}");
        assert!(!message.contains("127.0.0.1") && !message.contains("oss"), "{message}");
        // Who does not need STS is not concerned.
        own.becomes(&json!({}), "Connected", &[]).await;
    }
    assert!(listener.accept().is_err(), "somebody connected");
}
