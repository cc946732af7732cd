//! Who may call: access keys, temporary keys, permissions, nonces; and the checks of a request
//! before its operation, in the documented order.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::model::Refusal;
use crate::sign;
use crate::switches::{MemberAccountCode, PermissionCode, Switches};
use crate::wire::{Action, DIRECTORY_VERSION, Request, STS_VERSION};

/// How far a time stamp may be from the server's clock, and for how long a nonce is remembered.
///
/// Source: the vendor's signature manuals, which print 15 and, on an older page, 31 minutes.
pub const TIME_WINDOW: SignedDuration = SignedDuration::from_mins(15);

/// An access key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// What is sent.
    pub id: String,
    /// What signs.
    pub secret: String,
    /// Whose it is.
    #[serde(default)]
    pub owner: Owner,
    /// Known, but switched off.
    #[serde(default)]
    pub disabled: bool,
    /// What it may call; absent: everything.
    #[serde(default)]
    pub actions: Option<BTreeSet<String>>,
    /// A temporary key comes with a token and ends.
    #[serde(default)]
    pub session: Option<Session>,
}

/// What makes a key temporary.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Session {
    /// Sent with each request.
    pub token: String,
    /// When it ends.
    pub expires_at: Timestamp,
}

/// Whose a key is.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Owner {
    /// A user of the management account.
    #[default]
    User,
    /// The management account itself.
    Root,
    /// Somebody who took a role.
    Role {
        /// The role's name.
        name: String,
        /// The session's name.
        session: String,
    },
    /// A member account, which may not call contact operations.
    Member {
        /// Its id.
        account_id: String,
    },
}

impl Key {
    /// A user's key that may call everything.
    #[must_use]
    pub fn new(id: &str, secret: &str) -> Self {
        Self {
            id: id.to_owned(),
            secret: secret.to_owned(),
            owner: Owner::User,
            disabled: false,
            actions: None,
            session: None,
        }
    }

    /// The same key, which may call these operations only.
    #[must_use]
    pub fn only(mut self, actions: &[&str]) -> Self {
        self.actions = Some(actions.iter().map(|&action| action.to_owned()).collect());
        self
    }

    fn may(&self, action: &str) -> bool {
        self.actions.as_ref().is_none_or(|actions| actions.contains(action))
    }
}

/// All keys, and the nonces that were used.
#[derive(Clone, Debug, Default)]
pub(crate) struct Keys {
    keys: BTreeMap<String, Key>,
    nonces: BTreeMap<(String, String), Timestamp>,
}

/// Which signature a request carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Signature {
    /// In the parameters.
    V1,
    /// In a header.
    V3,
    /// None, as in `AssumeRoleWithOIDC`.
    Absent,
}

impl Signature {
    /// V3 if `Authorization` begins with `ACS3-`, V1 if there is a parameter `Signature`.
    #[must_use]
    pub fn of(request: &Request) -> Self {
        let v3 = request.header("authorization").is_some_and(|value| value.starts_with("ACS3-"));
        if v3 {
            Self::V3
        } else if common(request, "Signature").is_some() {
            Self::V1
        } else {
            Self::Absent
        }
    }
}

/// The operation a request names; nothing is checked.
#[must_use]
pub(crate) fn action_name(request: &Request) -> Option<String> {
    common(request, "Action").or_else(|| request.header("x-acs-action"))
}

impl Keys {
    /// Adds a key or replaces the one of that id.
    pub(crate) fn add(&mut self, key: Key) {
        self.keys.insert(key.id.clone(), key);
    }

    /// Switches a key off. False if there is none.
    pub(crate) fn disable(&mut self, id: &str) -> bool {
        self.keys.get_mut(id).map(|key| key.disabled = true).is_some()
    }

    /// Takes a key out. False if there is none.
    pub(crate) fn remove(&mut self, id: &str) -> bool {
        self.keys.remove(id).is_some()
    }

    /// Who calls which operation, if the request is as it should be.
    ///
    /// Order of the checks: common parameters, version and action, form of the time, time window,
    /// key, token, signature, nonce, permission. Unverified.
    ///
    /// # Errors
    /// With the gateway's code.
    pub(crate) fn admit(
        &mut self,
        request: &Request,
        switches: &Switches,
        now: Timestamp,
    ) -> Result<(Action, Option<Key>), Refusal> {
        if !["GET", "POST"].contains(&request.method.as_str()) {
            return Err(Refusal::new(400, "UnsupportedHTTPMethod", &request.method));
        }
        if request.path() != "/" {
            return Err(Refusal::new(404, "InvalidApi.NotFound", request.path()));
        }
        let signed = Signed::read(request)?;
        let action = known_action(&signed.action, &signed.version)?;
        if action.name == "AssumeRoleWithOIDC" {
            return Ok((action, None));
        }
        let at = parse_time(&signed.timestamp)?;
        if now.duration_since(at).abs() > TIME_WINDOW {
            return Err(Refusal::new(400, "InvalidTimeStamp.Expired", &signed.timestamp));
        }
        let key = self.known_key(&signed.key_id)?.clone();
        self.check_token(&key, signed.token.as_deref(), now)?;
        signed.verify(request, &key.secret)?;
        self.use_nonce(&key.id, &signed.nonce, now)?;
        if action.version == DIRECTORY_VERSION && matches!(key.owner, Owner::Member { .. }) {
            let code = match switches.member_account_code {
                MemberAccountCode::AccessDenied => "MemberAccountAccessDenied",
                MemberAccountCode::NotAllowed => "MemberAccountOperationNotAllowed",
            };
            return Err(Refusal::new(403, code, action.name));
        }
        // GetCallerIdentity needs no permission. Unverified.
        if action.name != "GetCallerIdentity" && !key.may(action.name) {
            let product = if action.version == STS_VERSION { "sts" } else { "resourcemanager" };
            let denied = format!("{product}:{}", action.name);
            let code = match switches.permission_code {
                PermissionCode::NoPermission => "NoPermission",
                PermissionCode::ForbiddenRam => "Forbidden.RAM",
            };
            return Err(Refusal::new(403, code, &denied));
        }
        Ok((action, Some(key)))
    }

    fn known_key(&self, id: &str) -> Result<&Key, Refusal> {
        let key = self.keys.get(id);
        let key = key.ok_or_else(|| Refusal::new(404, "InvalidAccessKeyId.NotFound", id))?;
        if key.disabled {
            return Err(Refusal::new(400, "InvalidAccessKeyId.Inactive", id));
        }
        Ok(key)
    }

    fn check_token(&self, key: &Key, token: Option<&str>, now: Timestamp) -> Result<(), Refusal> {
        let refuse = |code| Err(Refusal::new(400, code, token.unwrap_or("")));
        let of_another = || {
            let mut sessions = self.keys.values().filter_map(|key| key.session.as_ref());
            sessions.any(|session| Some(session.token.as_str()) == token)
        };
        match (&key.session, token) {
            (None, None) => Ok(()),
            (Some(_), None) => refuse("MissingSecurityToken"),
            (Some(session), Some(token)) if session.token == token => {
                if session.expires_at <= now {
                    refuse("InvalidSecurityToken.Expired")
                } else {
                    Ok(())
                }
            }
            (_, Some(_)) if of_another() => refuse("InvalidSecurityToken.MismatchWithAccessKey"),
            (_, Some(_)) => refuse("InvalidSecurityToken.Malformed"),
        }
    }

    fn use_nonce(&mut self, key_id: &str, nonce: &str, now: Timestamp) -> Result<(), Refusal> {
        let at = (key_id.to_owned(), nonce.to_owned());
        let fresh = |used: &Timestamp| now.duration_since(*used) <= TIME_WINDOW;
        if self.nonces.get(&at).is_some_and(fresh) {
            return Err(Refusal::new(400, "SignatureNonceUsed", nonce));
        }
        if self.nonces.len() > 100_000 {
            self.nonces.retain(|_, used| fresh(used));
        }
        self.nonces.insert(at, now);
        Ok(())
    }
}

/// What a request says about itself, taken from parameters (V1) or headers (V3).
struct Signed {
    version: String,
    action: String,
    timestamp: String,
    nonce: String,
    key_id: String,
    token: Option<String>,
    proof: Proof,
}

enum Proof {
    V1 { signature: String },
    V3 { signature: String, headers: Vec<String> },
    Absent,
}

impl Signed {
    fn read(request: &Request) -> Result<Self, Refusal> {
        match Signature::of(request) {
            Signature::V3 => Self::read_v3(request),
            Signature::V1 | Signature::Absent => Self::read_v1(request),
        }
    }

    fn read_v1(request: &Request) -> Result<Self, Refusal> {
        let get = |name: &str| {
            let value = common(request, name).filter(|value| !value.is_empty());
            value.ok_or_else(|| Refusal::new(400, "MissingParameter", name))
        };
        let action = get("Action")?;
        let version = get("Version")?;
        if action == "AssumeRoleWithOIDC" {
            let empty = String::new;
            return Ok(Self {
                version,
                action,
                timestamp: empty(),
                nonce: empty(),
                key_id: empty(),
                token: None,
                proof: Proof::Absent,
            });
        }
        let signed = Self {
            version,
            action,
            timestamp: get("Timestamp")?,
            nonce: get("SignatureNonce")?,
            key_id: get("AccessKeyId")?,
            token: common(request, "SecurityToken"),
            proof: Proof::V1 { signature: get("Signature")? },
        };
        let method = get("SignatureMethod")?;
        let kind = common(request, "SignatureType").unwrap_or_default();
        if method != "HMAC-SHA1" || !kind.is_empty() {
            return Err(Refusal::new(400, "InvalidSignatureMethod", &method));
        }
        if get("SignatureVersion")? != "1.0" {
            return Err(Refusal::new(400, "IncompleteSignature", "SignatureVersion"));
        }
        Ok(signed)
    }

    fn read_v3(request: &Request) -> Result<Self, Refusal> {
        let get = |name: &str| {
            let value = request.header(name).filter(|value| !value.is_empty());
            value.ok_or_else(|| Refusal::new(400, "MissingParameter", name))
        };
        let incomplete = |what: &str| Refusal::new(400, "IncompleteSignature", what);
        let authorization = get("authorization")?;
        let (algorithm, rest) = authorization.split_once(' ').unwrap_or((&authorization, ""));
        if algorithm != sign::V3_ALGORITHM {
            return Err(Refusal::new(400, "InvalidSignatureMethod", algorithm));
        }
        let part = |name: &str| {
            rest.split(',')
                .find_map(|part| part.trim().strip_prefix(name)?.strip_prefix('='))
                .filter(|value| !value.is_empty())
                .map(str::to_owned)
                .ok_or_else(|| incomplete(name))
        };
        let headers: Vec<_> =
            part("SignedHeaders")?.split(';').map(str::to_ascii_lowercase).collect();
        let signed = Self {
            version: get("x-acs-version")?,
            action: get("x-acs-action")?,
            timestamp: get("x-acs-date")?,
            nonce: get("x-acs-signature-nonce")?,
            key_id: part("Credential")?,
            token: request.header("x-acs-security-token"),
            proof: Proof::V3 { signature: part("Signature")?, headers: headers.clone() },
        };
        get("x-acs-content-sha256")?;
        for needed in MUST_BE_SIGNED {
            if !headers.iter().any(|header| header == needed) {
                return Err(incomplete(needed));
            }
        }
        Ok(signed)
    }

    /// The message of a refusal repeats the string to sign with V1 and only its hash with V3, as
    /// the real gateway does.
    fn verify(&self, request: &Request, secret: &str) -> Result<(), Refusal> {
        let refuse = |about: String| Err(Refusal::new(400, "SignatureDoesNotMatch", &about));
        match &self.proof {
            Proof::Absent => Ok(()),
            Proof::V1 { signature } => {
                let mut pairs = request.query();
                pairs.extend(request.form());
                pairs.retain(|(name, _)| name != "Signature");
                let string_to_sign = sign::v1_string_to_sign(&request.method, &pairs);
                if sign::v1_signature(secret, &string_to_sign) == *signature {
                    return Ok(());
                }
                refuse(format!("server string to sign is:{string_to_sign}"))
            }
            Proof::V3 { signature, headers } => {
                let body_hash = sign::sha256_hex(&request.body);
                let canonical = sign::v3_canonical_request(
                    &request.method,
                    request.path(),
                    &request.query(),
                    &request.headers,
                    headers,
                    &body_hash,
                );
                let string_to_sign = sign::v3_string_to_sign(&canonical);
                let said = request.header("x-acs-content-sha256");
                if said.as_deref() == Some(&body_hash)
                    && sign::v3_signature(secret, &string_to_sign) == *signature
                {
                    return Ok(());
                }
                refuse(format!("server StringToSign is [{string_to_sign}]"))
            }
        }
    }
}

/// Headers that a V3 signature must cover. Unverified.
const MUST_BE_SIGNED: [&str; 5] =
    ["host", "x-acs-action", "x-acs-date", "x-acs-signature-nonce", "x-acs-content-sha256"];

fn known_action(action: &str, version: &str) -> Result<Action, Refusal> {
    if ![DIRECTORY_VERSION, STS_VERSION].contains(&version) {
        return Err(Refusal::new(400, "InvalidVersion", version));
    }
    Action::find(action)
        .filter(|action| action.version == version)
        .ok_or_else(|| Refusal::new(404, "InvalidAction.NotFound", action))
}

/// `yyyy-MM-ddTHH:mm:ssZ`, no fraction.
fn parse_time(text: &str) -> Result<Timestamp, Refusal> {
    let shaped = text.len() == 20 && text.ends_with('Z') && text.as_bytes()[10] == b'T';
    text.parse()
        .ok()
        .filter(|_| shaped)
        .ok_or_else(|| Refusal::new(400, "InvalidTimeStamp.Format", text))
}

fn common(request: &Request, name: &str) -> Option<String> {
    let mut pairs = request.query();
    pairs.extend(request.form());
    pairs.into_iter().find(|(other, _)| other == name).map(|(_, value)| value)
}
