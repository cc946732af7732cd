//! Which keys a directory is called with, and what is said when it cannot be called.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Secret;
use kube::Api;

use super::gather::World;
use super::report::{Interrupted, within};
use crate::directory::{Credentials, Unusable};
use crate::domain::access::AccessKeys;
use crate::domain::call::{
    CallError, ErrorCode, FailureClass, KeyCause, KeyFailure, KeyStep, Skew,
};
use crate::domain::directory::{CredentialSource, DesiredCredentials};
use crate::domain::verdict::{Finding, Reason};

/// Where the keys come from, or what is missing.
pub(super) async fn credentials(
    world: &World,
    directory: &str,
    desired: &DesiredCredentials,
) -> Result<Result<Credentials, Finding>, Interrupted> {
    let DesiredCredentials { source, assume_role } = desired;
    let ambient = &world.environment.keys;
    let credentials = match source {
        CredentialSource::Ambient => ambient.any(),
        CredentialSource::Environment => ambient.environment(),
        CredentialSource::Rrsa => ambient.rrsa(),
        CredentialSource::InstanceRole => ambient.instance_role(),
        CredentialSource::Secret { name } => match in_secret(world, directory, name).await? {
            Ok(keys) => Ok(Credentials::fixed(keys)),
            Err(finding) => return Ok(Err(finding)),
        },
    };
    let credentials = credentials.and_then(|credentials| match assume_role {
        Some(role) => ambient.assuming(credentials, role),
        None => Ok(credentials),
    });
    Ok(credentials.map_err(|problem| {
        let reason = match problem {
            Unusable::StsNotAllowed => Reason::EndpointNotAllowed,
            _ => Reason::Unauthorized,
        };
        Finding::unmet(reason, problem.to_string())
    }))
}

/// The access keys in a Secret of the operator's namespace, or what is missing.
async fn in_secret(
    world: &World,
    directory: &str,
    name: &str,
) -> Result<Result<AccessKeys, Finding>, Interrupted> {
    let namespace = &world.environment.namespace;
    let api: Api<Secret> = Api::namespaced(world.client.clone(), namespace);
    let found = match within(api.get_opt(name)).await {
        Ok(found) => found,
        Err(Interrupted::Refused(kube::Error::Api(refusal))) if refusal.code == 403 => {
            return Ok(Err(Finding::unmet(
                Reason::Forbidden,
                format!(
                    "the operator may not read the Secret `{name}` in the namespace `{namespace}`; \
                     grant its service account `get` on it"
                ),
            )));
        }
        // What runs goes on with the keys that it has.
        Err(error) if world.registry.get(directory).is_some() => return Err(error),
        Err(error) => {
            return Ok(Err(Finding::unmet(
                Reason::Unreachable,
                format!(
                    "the Secret `{name}` in the namespace `{namespace}` could not be read: {error}; \
                     it is tried again"
                ),
            )));
        }
    };
    let Some(secret) = found else {
        return Ok(Err(Finding::unmet(
            Reason::SecretNotFound,
            format!("there is no Secret `{name}` in the namespace `{namespace}`; create it"),
        )));
    };
    let data: BTreeMap<String, Vec<u8>> =
        secret.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0)).collect();
    Ok(Credentials::from_secret_data(&data).map_err(|problem| {
        Finding::unmet(
            Reason::SecretNotFound,
            format!("the Secret `{name}` in the namespace `{namespace}`: {problem}"),
        )
    }))
}

/// Why a directory does not answer, and what somebody can do about it. `token_file` is where the
/// token of the service account stands; `again` is the sentence part for what may pass by itself.
#[must_use]
pub fn not_connected(error: &CallError, token_file: Option<&str>, again: &str) -> Finding {
    let code = error.code.as_ref().map_or("", ErrorCode::as_str);
    let code = if code.is_empty() { String::new() } else { format!(" ({code})") };
    let action = error.action;
    let what = format!("{action}: {}{code}", error.class.as_str());
    let reason = match error.class {
        FailureClass::Credentials | FailureClass::TokenExpired => Reason::Unauthorized,
        FailureClass::Permission => {
            let message = format!("{what}; grant resourcemanager:{action} to this identity");
            return Finding::unmet(Reason::Forbidden, message);
        }
        FailureClass::Clock(skew) => return clock_skewed(action.as_str(), skew, again),
        FailureClass::NoKeys(failure) => return no_keys(failure, error, token_file, again),
        FailureClass::NoDirectory => Reason::NoDirectory,
        _ => Reason::Unreachable,
    };
    Finding::unmet(reason, format!("{what}; {again}"))
}

/// What is said when the keys could not be had.
fn no_keys(
    KeyFailure { step, cause }: KeyFailure,
    error: &CallError,
    token_file: Option<&str>,
    again: &str,
) -> Finding {
    let code = error.code.as_ref().map_or("", ErrorCode::as_str);
    let refused = match code {
        "" => format!("{} gave no keys", step.as_str()),
        code => format!("{} was refused ({code})", step.as_str()),
    };
    let (reason, message) = match (step, cause) {
        (_, KeyCause::Clock(skew)) => return clock_skewed(step.as_str(), skew, again),
        (KeyStep::TokenFile, _) => {
            let file = token_file.unwrap_or_default();
            let message = format!(
                "the token file {file} cannot be read, or holds no token; check that the token is \
                 mounted into the operator's pod"
            );
            (Reason::Unauthorized, message)
        }
        (KeyStep::InstanceMetadata, KeyCause::Unanswered) => {
            let message = format!(
                "the metadata service of the node gave no usable answer; InstanceRole works on an ECS \
                 instance only; {again}"
            );
            (Reason::Unreachable, message)
        }
        (KeyStep::InstanceMetadata, KeyCause::Refused) => {
            let message = format!(
                "the metadata service of the node gave no keys in exchange for a token (IMDSv2), and \
                 is not asked in another way; {again}"
            );
            (Reason::Unauthorized, message)
        }
        (KeyStep::InstanceMetadata, KeyCause::NoRole) => {
            let message = "the node has no such role: attach one to the ECS instance, or choose \
                           another source in `spec.credentials`";
            (Reason::Unauthorized, message.to_owned())
        }
        (_, KeyCause::Unanswered) => {
            let code = if code.is_empty() { String::new() } else { format!(" ({code})") };
            let message = format!("{}: STS gave no usable answer{code}; {again}", step.as_str());
            (Reason::Unreachable, message)
        }
        (_, KeyCause::NoRole) => {
            (Reason::Unauthorized, format!("{refused}: there is no such role; correct its ARN"))
        }
        (KeyStep::AssumeRoleWithOidc, KeyCause::Forbidden) => {
            let message = format!(
                "{refused}: the role does not trust the operator's service account; allow \
                 sts:AssumeRole for it in the role's trust policy (oidc:iss, oidc:aud, oidc:sub)"
            );
            (Reason::Forbidden, message)
        }
        (_, KeyCause::Forbidden) => {
            let message = format!(
                "{refused}: grant sts:AssumeRole to this identity, and let the role's trust policy \
                 name it, with the externalId that is sent"
            );
            (Reason::Forbidden, message)
        }
        (_, KeyCause::Refused) => {
            (Reason::Unauthorized, format!("{refused}; {}", what_to_do(code, again)))
        }
    };
    Finding::unmet(reason, message)
}

/// What somebody can do about a refusal of STS.
fn what_to_do<'a>(code: &str, again: &'a str) -> &'a str {
    match code {
        "InvalidParameter.RoleArn" => "correct the role's ARN",
        "InvalidParameter.RoleSessionName" => "correct the name of the session",
        "InvalidParameter.ExternalId" => "correct `spec.credentials.assumeRole.externalId`",
        "InvalidParameter.DurationSeconds" => {
            "`spec.credentials.assumeRole.durationSeconds` is longer than the role allows"
        }
        "AuthenticationFail.OIDCToken.Expired" => {
            "the token of the service account has expired and was not replaced"
        }
        "AuthenticationFail.OIDCToken.AudienceNotMatch" => {
            "the token of the service account must be made for the audience sts.aliyuncs.com"
        }
        _ => again,
    }
}

/// What is said when somebody's clock is wrong.
fn clock_skewed(what: &str, Skew(ahead): Skew, again: &str) -> Finding {
    let by = match ahead {
        None => "this machine's clock differs from the cloud's by more than 15 minutes".to_owned(),
        Some(minutes) => {
            let side = if minutes > 0 { "ahead of" } else { "behind" };
            let minutes = minutes.unsigned_abs();
            format!("this machine's clock is {minutes} minutes {side} the cloud's")
        }
    };
    Finding::unmet(Reason::ClockSkewed, format!("{what} was refused: {by}; set it, {again}"))
}
