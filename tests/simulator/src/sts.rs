//! The token service and the metadata service of an ECS instance: who gets temporary keys.
//!
//! Source: RPC reference of Sts 2015-04-01; the instance metadata protocol as the official
//! credential libraries speak it.

use std::collections::{BTreeMap, BTreeSet};

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::keys::{Key, Keys, Owner, Session};
use crate::model::Refusal;
use crate::wire::Parameters;

/// A role that may be taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Role {
    /// Its name; the account is the management account.
    pub name: String,
    /// The longest session, in seconds.
    #[serde(default = "one_hour")]
    pub session_seconds_max: i64,
    /// What must be sent along, if anything.
    #[serde(default)]
    pub external_id: Option<String>,
    /// What the role may call; absent: everything.
    #[serde(default)]
    pub actions: Option<BTreeSet<String>>,
}

fn one_hour() -> i64 {
    3600
}

impl Role {
    /// A role that may call everything, for an hour at most.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), session_seconds_max: 3600, external_id: None, actions: None }
    }
}

/// Hands out temporary keys.
#[derive(Clone, Debug)]
pub(crate) struct TokenService {
    /// The roles of the account.
    pub roles: Vec<Role>,
    /// Must readers of instance metadata bring a token.
    pub metadata_token_required: bool,
    account_id: String,
    metadata_tokens: BTreeMap<String, Timestamp>,
    serial: u64,
}

impl TokenService {
    /// The service of one account with one role.
    #[must_use]
    pub(crate) fn new(account_id: &str, role: Role) -> Self {
        Self {
            roles: vec![role],
            metadata_token_required: true,
            account_id: account_id.to_owned(),
            metadata_tokens: BTreeMap::new(),
            serial: 0,
        }
    }

    /// `AssumeRole`.
    ///
    /// # Errors
    /// With a documented code.
    pub(crate) fn assume_role(
        &mut self,
        parameters: &Parameters,
        caller: &Key,
        keys: &mut Keys,
        now: Timestamp,
    ) -> Result<Value, Refusal> {
        if caller.owner == Owner::Root {
            return Err(Refusal::new(403, "NoPermission", "sts:AssumeRole"));
        }
        let (role, session, seconds) = self.request(parameters)?;
        if role.external_id.is_some() && role.external_id != parameters.get("ExternalId") {
            return Err(Refusal::new(403, "NoPermission", "sts:AssumeRole"));
        }
        Ok(self.session(&role, &session, seconds, keys, now))
    }

    /// `AssumeRoleWithOIDC`. The signature of the token is not checked.
    ///
    /// # Errors
    /// With a documented code.
    pub(crate) fn assume_role_with_oidc(
        &mut self,
        parameters: &Parameters,
        keys: &mut Keys,
        now: Timestamp,
    ) -> Result<Value, Refusal> {
        let refuse =
            |code: &str| Err(Refusal::new(401, format!("AuthenticationFail.{code}"), "the token"));
        let (role, session, seconds) = self.request(parameters)?;
        let provider = parameters.get("OIDCProviderArn").unwrap_or_default();
        if !provider.contains(":oidc-provider/") {
            return refuse("NoPermission");
        }
        let token = parameters.get("OIDCToken").unwrap_or_default();
        let Some(claims) = claims(&token) else { return refuse("OIDCToken.Invalid") };
        let time =
            |name: &str| claims[name].as_i64().and_then(|at| Timestamp::from_second(at).ok());
        if time("exp").is_some_and(|expires_at| expires_at <= now) {
            return refuse("OIDCToken.Expired");
        }
        let audience = match &claims["aud"] {
            Value::String(one) => one.clone(),
            Value::Array(many) => {
                many.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(",")
            }
            _ => "sts.aliyuncs.com".to_owned(),
        };
        if !audience.split(',').any(|audience| audience == "sts.aliyuncs.com") {
            return refuse("OIDCToken.AudienceNotMatch");
        }
        let mut answer = self.session(&role, &session, seconds, keys, now);
        answer["OIDCTokenInfo"] = json!({
            "Subject": claims["sub"].as_str().unwrap_or(""),
            "Issuer": claims["iss"].as_str().unwrap_or(""),
            "ClientIds": audience,
            "ExpirationTime": date(time("exp").unwrap_or(now)),
            "IssuanceTime": date(time("iat").unwrap_or(now)),
            "VerificationInfo": "Success",
        });
        answer["SourceIdentity"] = json!("");
        Ok(answer)
    }

    /// `GetCallerIdentity`.
    #[must_use]
    pub(crate) fn caller_identity(&self, caller: &Key) -> Value {
        let account = &self.account_id;
        match &caller.owner {
            Owner::User => json!({
                "AccountId": account,
                "Arn": format!("acs:ram::{account}:user/simulated"),
                "IdentityType": "RAMUser",
                "PrincipalId": "200000000000000001",
                "UserId": "200000000000000001",
            }),
            Owner::Root => json!({
                "AccountId": account,
                "Arn": format!("acs:ram::{account}:root"),
                "IdentityType": "Account",
                "PrincipalId": account,
                "UserId": account,
            }),
            Owner::Role { name, session } => json!({
                "AccountId": account,
                "Arn": format!("acs:ram::{account}:assumed-role/{name}/{session}"),
                "IdentityType": "AssumedRoleUser",
                "PrincipalId": format!("{ROLE_ID}:{session}"),
                "RoleId": ROLE_ID,
            }),
            Owner::Member { account_id } => json!({
                "AccountId": account_id,
                "Arn": format!("acs:ram::{account_id}:user/simulated"),
                "IdentityType": "RAMUser",
                "PrincipalId": "200000000000000002",
                "UserId": "200000000000000002",
            }),
        }
    }

    /// A token for reading instance metadata, for 1 to 21600 seconds.
    pub(crate) fn metadata_token(&mut self, seconds: i64, now: Timestamp) -> Option<String> {
        if !(1..=21_600).contains(&seconds) {
            return None;
        }
        self.serial += 1;
        let token = format!("SIMmetadataToken{:08}==", self.serial);
        self.metadata_tokens.insert(token.clone(), now + SignedDuration::from_secs(seconds));
        Some(token)
    }

    /// May instance metadata be read with this token.
    #[must_use]
    pub(crate) fn metadata_readable(&self, token: Option<&str>, now: Timestamp) -> bool {
        match token {
            Some(token) => self.metadata_tokens.get(token).is_some_and(|until| *until > now),
            None => !self.metadata_token_required,
        }
    }

    /// The name of the instance's role: the first one.
    #[must_use]
    pub(crate) fn instance_role(&self) -> Option<&str> {
        self.roles.first().map(|role| role.name.as_str())
    }

    /// Fresh temporary keys of a role, as the metadata service and credential URIs give them.
    pub(crate) fn instance_credentials(
        &mut self,
        role: &str,
        keys: &mut Keys,
        now: Timestamp,
    ) -> Option<Value> {
        let role = self.roles.iter().find(|candidate| candidate.name == role)?.clone();
        let seconds = role.session_seconds_max;
        let mut credentials = self.session(&role, "instance", seconds, keys, now);
        let mut credentials = credentials["Credentials"].take();
        credentials["LastUpdated"] = json!(date(now));
        credentials["Code"] = json!("Success");
        Some(credentials)
    }

    /// What both ways of taking a role have in common.
    fn request(&self, parameters: &Parameters) -> Result<(Role, String, i64), Refusal> {
        let arn = parameters.get("RoleArn").unwrap_or_default();
        let prefix = format!("acs:ram::{}:role/", self.account_id);
        if !arn.starts_with("acs:ram::") || !arn.contains(":role/") {
            return Err(Refusal::invalid("RoleArn", &arn));
        }
        let session = parameters.get("RoleSessionName").unwrap_or_default();
        let plain = |c: char| c.is_ascii_alphanumeric() || ".@_-".contains(c);
        if !(2..=64).contains(&session.len()) || !session.chars().all(plain) {
            return Err(Refusal::invalid("RoleSessionName", &session));
        }
        let external_id = parameters.get("ExternalId");
        if external_id.as_ref().is_some_and(|id| !(2..=1224).contains(&id.len())) {
            return Err(Refusal::invalid("ExternalId", ""));
        }
        let policy = parameters.get("Policy");
        if policy.as_ref().is_some_and(|policy| !(1..=2048).contains(&policy.chars().count())) {
            return Err(Refusal::invalid("PolicySize", ""));
        }
        let role = arn
            .strip_prefix(&prefix)
            .and_then(|name| self.roles.iter().find(|role| role.name == name))
            .ok_or_else(|| Refusal::new(404, "EntityNotExist.Role", &arn))?;
        let seconds = parameters.get("DurationSeconds").unwrap_or_else(|| "3600".to_owned());
        let seconds = seconds
            .parse()
            .ok()
            .filter(|seconds| (900..=role.session_seconds_max.max(900)).contains(seconds))
            .ok_or_else(|| Refusal::invalid("DurationSeconds", &seconds))?;
        Ok((role.clone(), session, seconds))
    }

    /// Makes a temporary key.
    fn session(
        &mut self,
        role: &Role,
        session: &str,
        seconds: i64,
        keys: &mut Keys,
        now: Timestamp,
    ) -> Value {
        self.serial += 1;
        let key = Key {
            id: format!("STS.SimTemporaryKeyId{:06}", self.serial),
            secret: format!("SimTemporarySecret{:06}", self.serial),
            owner: Owner::Role { name: role.name.clone(), session: session.to_owned() },
            disabled: false,
            actions: role.actions.clone(),
            session: Some(Session {
                // With the characters that are easily encoded wrong.
                token: format!("CAISsim{:06}+token/with==signs&more%20~*", self.serial),
                expires_at: now + SignedDuration::from_secs(seconds),
            }),
        };
        let account = &self.account_id;
        let token = key.session.as_ref().map(|session| session.token.clone());
        let answer = json!({
            "AssumedRoleUser": {
                "Arn": format!("acs:ram::{account}:role/{}/{session}", role.name),
                "AssumedRoleId": format!("{ROLE_ID}:{session}"),
            },
            "Credentials": {
                "AccessKeyId": key.id,
                "AccessKeySecret": key.secret,
                "SecurityToken": token,
                "Expiration": date(now + SignedDuration::from_secs(seconds)),
            },
        });
        keys.add(key);
        answer
    }
}

const ROLE_ID: &str = "300000000000000001";

/// The claims of a JSON web token, if it is one.
fn claims(token: &str) -> Option<Value> {
    if !(4..=20_000).contains(&token.len()) {
        return None;
    }
    let mut parts = token.split('.');
    let payload = parts.nth(1)?;
    parts.next()?;
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(payload).ok()?;
    serde_json::from_slice::<Value>(&bytes).ok().filter(Value::is_object)
}

fn date(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
