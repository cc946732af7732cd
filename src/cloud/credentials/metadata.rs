//! The metadata service of an ECS instance, which gives the keys of its role.
//!
//! Source: the instance metadata protocol as the official credential libraries speak it. Always with
//! a token of the service (IMDSv2): the form without one answers whoever can make the node send a
//! request, and is never used.

use std::time::Duration;

use reqwest::Method;
use reqwest::header::{HeaderName, HeaderValue};
use serde::Deserialize;

use super::sts::{Temporary, WireKeys};
use crate::cloud::error;
use crate::cloud::transport::{Answer, Limits, NoAnswer, Transport};
use crate::domain::call::{CallError, KeyCause, KeyStep};

/// Time-outs of each request: the service is on the node itself. Source: the official libraries.
pub(super) const LIMITS: Limits =
    Limits { connect: Duration::from_secs(1), call: Duration::from_secs(1) };

const TOKEN_PATH: &str = "/latest/api/token";
const ROLES_PATH: &str = "/latest/meta-data/ram/security-credentials/";

/// Life of the token, which is used at once: a minute. Source: it may be 1 to 21600 seconds.
const TOKEN_LIFE: (HeaderName, HeaderValue) = (
    HeaderName::from_static("x-aliyun-ecs-metadata-token-ttl-seconds"),
    HeaderValue::from_static("60"),
);

const TOKEN: HeaderName = HeaderName::from_static("x-aliyun-ecs-metadata-token");

/// The metadata service, and the role whose keys are asked for.
#[derive(Debug)]
pub(super) struct Instance {
    pub(super) transport: Transport,
    /// `None`: the one that the instance has.
    pub(super) role: Option<String>,
}

impl Instance {
    /// The keys of the role.
    ///
    /// # Errors
    /// There are none.
    pub(super) async fn keys(&self) -> Result<Temporary, CallError> {
        let token = self.transport.ask(Method::PUT, TOKEN_PATH, TOKEN_LIFE).await;
        let token = text(token, KeyCause::Refused)?;
        let mut token = HeaderValue::from_str(&token).map_err(|_| failed(KeyCause::Unanswered))?;
        token.set_sensitive(true);
        let get = async |path: &str| {
            let answer = self.transport.ask(Method::GET, path, (TOKEN, token.clone())).await;
            text(answer, KeyCause::NoRole)
        };
        let role = match &self.role {
            Some(role) => role.clone(),
            None => get(ROLES_PATH).await?,
        };
        if !is_role_name(&role) {
            return Err(failed(KeyCause::Unanswered));
        }
        let body = get(&format!("{ROLES_PATH}{role}")).await?;
        let Body { code, keys } =
            serde_json::from_str(&body).map_err(|_| failed(KeyCause::Unanswered))?;
        if code != "Success" {
            return Err(failed(KeyCause::Refused));
        }
        keys.and_then(WireKeys::temporary).ok_or_else(|| failed(KeyCause::Unanswered))
    }
}

/// Whether a text is the name of a role, and nothing more than a part of a path.
///
/// Source: names of RAM roles, 1 to 64 letters, digits, dots, underscores and hyphens.
pub(super) fn is_role_name(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
        && text.bytes().any(|byte| byte != b'.')
}

/// The text of a good answer; `missing` is what it means that there is none.
fn text(answer: Result<Answer, NoAnswer>, missing: KeyCause) -> Result<String, CallError> {
    let unanswered = || failed(KeyCause::Unanswered);
    match answer.map_err(|_| unanswered())? {
        Answer { status: 200..=299, body: Some(body), .. } => {
            let text = String::from_utf8(body).map_err(|_| unanswered())?;
            let text = text.trim();
            if text.is_empty() { Err(failed(missing)) } else { Ok(text.to_owned()) }
        }
        Answer { status: 404, .. } => Err(failed(missing)),
        Answer { status: 400..=499, .. } => Err(failed(KeyCause::Refused)),
        _ => Err(unanswered()),
    }
}

fn failed(cause: KeyCause) -> CallError {
    error::no_keys(KeyStep::InstanceMetadata, cause)
}

#[derive(Deserialize)]
struct Body {
    #[serde(rename = "Code")]
    code: String,
    #[serde(flatten)]
    keys: Option<WireKeys>,
}
