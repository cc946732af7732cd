//! The token service: temporary keys of a role, for keys or for the token of a service account.
//!
//! Source: RPC reference of Sts 2015-04-01. Where the parameters stand is as in the official Go
//! library for `AssumeRoleWithOIDC`, and as in this program's own calls for `AssumeRole`.

use jiff::Timestamp;
use serde::Deserialize;
use tokio::io::AsyncReadExt as _;

use super::ambient::Rrsa;
use crate::cloud::transport::{Answer, Transport};
use crate::cloud::{error, sign, wire};
use crate::domain::access::{AccessKeys, Hidden};
use crate::domain::call::{CallError, KeyCause, KeyStep};
use crate::uptime::Moment;

const VERSION: &str = "2015-04-01";

/// A role that is taken with keys, as it is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Role {
    pub(super) arn: String,
    pub(super) session_name: String,
    pub(super) external_id: Option<Hidden>,
    pub(super) duration_seconds: Option<u32>,
}

/// Keys that end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Temporary {
    pub(super) keys: AccessKeys,
    pub(super) expires_at: Timestamp,
}

/// The endpoint of the token service.
#[derive(Debug)]
pub(super) struct Sts(pub(super) Transport);

impl Sts {
    /// Exchanges the token of the service account. Not signed: the token is the proof, and it stands
    /// in the body.
    ///
    /// # Errors
    /// There are no keys.
    pub(super) async fn assume_role_with_oidc(
        &self,
        rrsa: &Rrsa,
        token: String,
        now: Timestamp,
    ) -> Result<Temporary, CallError> {
        const STEP: KeyStep = KeyStep::AssumeRoleWithOidc;
        let Rrsa { role_arn, provider_arn, token_file: _, session_name } = rrsa;
        let query = [
            ("Action", "AssumeRoleWithOIDC".to_owned()),
            ("Format", "JSON".to_owned()),
            ("Timestamp", sign::timestamp(now)),
            ("Version", VERSION.to_owned()),
        ];
        let form = [
            ("RoleArn", role_arn.clone()),
            ("OIDCProviderArn", provider_arn.clone()),
            ("OIDCToken", token),
            ("RoleSessionName", session_name.clone()),
        ];
        let (query, form) = (pairs(query), pairs(form));
        let private = wire::Private::of(&form, None);
        let (query, form) = (sign::canonical(&query), sign::canonical(&form));
        let answer = self.0.post(Some(&query), form, Moment::MAX).await;
        let answer = answer.map_err(|_| error::no_keys(STEP, KeyCause::Unanswered))?;
        read(STEP, &answer, &private, now)
    }

    /// Takes a role with keys. All of it stands in the body, the signature too.
    ///
    /// # Errors
    /// There are no keys.
    pub(super) async fn assume_role(
        &self,
        role: &Role,
        keys: &AccessKeys,
        now: Timestamp,
    ) -> Result<Temporary, CallError> {
        const STEP: KeyStep = KeyStep::AssumeRole;
        let Role { arn, session_name, external_id, duration_seconds } = role;
        let mut parameters =
            vec![("RoleArn", arn.clone()), ("RoleSessionName", session_name.clone())];
        parameters.extend(external_id.as_ref().map(|id| ("ExternalId", id.reveal().to_owned())));
        parameters.extend(duration_seconds.map(|seconds| ("DurationSeconds", seconds.to_string())));
        let parameters = pairs(parameters);
        let private = wire::Private::of(&parameters, Some(keys));
        let nonce = uuid::Uuid::new_v4().to_string();
        let operation = sign::Operation { action: "AssumeRole", version: VERSION };
        let form = sign::form(parameters, operation, keys, &nonce, now);
        let answer = self.0.post(None, form, Moment::MAX).await;
        let answer = answer.map_err(|_| error::no_keys(STEP, KeyCause::Unanswered))?;
        read(STEP, &answer, &private, now)
    }
}

/// The token of the service account, without the line end that an editor leaves.
///
/// # Errors
/// The file cannot be read, or what stands in it can be no token.
pub(super) async fn token(path: &str) -> Result<String, CallError> {
    /// Source: `AssumeRoleWithOIDC`.
    const CHARS_MAX: u64 = 20_000;
    let read = async {
        let mut text = String::new();
        let file = tokio::fs::File::open(path).await?;
        // A line end more than a token has at most, and one byte more, by which it is too long.
        file.take(CHARS_MAX + 3).read_to_string(&mut text).await?;
        std::io::Result::Ok(text)
    };
    let token = read.await.ok().map(|text| text.trim_end().to_owned());
    token
        .filter(|token| (4..=CHARS_MAX).contains(&(token.len() as u64)))
        .ok_or_else(|| error::no_keys(KeyStep::TokenFile, KeyCause::Refused))
}

fn pairs(pairs: impl IntoIterator<Item = (&'static str, String)>) -> Vec<(String, String)> {
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn read(
    step: KeyStep,
    answer: &Answer,
    private: &wire::Private,
    now: Timestamp,
) -> Result<Temporary, CallError> {
    match answer {
        Answer { status: 200..=299, body: Some(body), .. } => {
            let body = serde_json::from_slice::<Body>(body).ok();
            body.and_then(|body| body.credentials.temporary())
                .ok_or_else(|| error::no_keys(step, KeyCause::Unanswered))
        }
        Answer { status: 200..=399, .. } => Err(error::no_keys(step, KeyCause::Unanswered)),
        answer => Err(error::keys_refused(step, answer, private, now)),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Body {
    credentials: WireKeys,
}

/// Keys as STS and the metadata service write them.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct WireKeys {
    access_key_id: String,
    access_key_secret: String,
    security_token: String,
    expiration: Timestamp,
}

impl WireKeys {
    /// The keys, if none of them is empty.
    pub(super) fn temporary(self) -> Option<Temporary> {
        let Self { access_key_id, access_key_secret, security_token, expiration } = self;
        let texts = [&access_key_id, &access_key_secret, &security_token];
        let whole = texts.into_iter().all(|text| !text.is_empty());
        whole.then(|| Temporary {
            keys: AccessKeys {
                id: Hidden::new(access_key_id),
                secret: Hidden::new(access_key_secret),
                token: Some(Hidden::new(security_token)),
            },
            expires_at: expiration,
        })
    }
}
