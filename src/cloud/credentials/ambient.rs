//! What the operator's environment says about keys. Names of variables are those of the official
//! credential libraries, and of the webhook that gives pods their variables for RRSA.

use super::sts::Role;
use super::{Credentials, Source, TakenRole, metadata};
use crate::domain::access::{AccessKeys, Endpoint, Hidden};
use crate::domain::directory::AssumedRole;

const KEY_ID: &str = "ALIBABA_CLOUD_ACCESS_KEY_ID";
const KEY_SECRET: &str = "ALIBABA_CLOUD_ACCESS_KEY_SECRET";
const KEY_TOKEN: &str = "ALIBABA_CLOUD_SECURITY_TOKEN";
const ROLE_ARN: &str = "ALIBABA_CLOUD_ROLE_ARN";
const PROVIDER_ARN: &str = "ALIBABA_CLOUD_OIDC_PROVIDER_ARN";
const TOKEN_FILE: &str = "ALIBABA_CLOUD_OIDC_TOKEN_FILE";
const SESSION_NAME: &str = "ALIBABA_CLOUD_ROLE_SESSION_NAME";
const STS_ENDPOINT: &str = "ALIBABA_CLOUD_STS_ENDPOINT";
const STS_REGION: &str = "ALIBABA_CLOUD_STS_REGION";
const VPC_ENDPOINT: &str = "ALIBABA_CLOUD_VPC_ENDPOINT_ENABLED";
const METADATA_ROLE: &str = "ALIBABA_CLOUD_ECS_METADATA";
const METADATA_DISABLED: &str = "ALIBABA_CLOUD_ECS_METADATA_DISABLED";

/// The name of sessions that nobody has named.
const OWN_SESSION_NAME: &str = "message-contact-operator";

/// What the environment says about keys, read once. What is wrong with a part of it is told by those
/// who need that part.
#[derive(Debug, Clone)]
pub struct Ambient {
    keys: Result<Option<AccessKeys>, Unusable>,
    rrsa: Result<Option<Rrsa>, Unusable>,
    session_name: Result<String, Unusable>,
    sts: Result<Endpoint, Unusable>,
    instance_role: Result<Option<String>, Unusable>,
    /// Where an instance asks for its own keys; only tests choose another address.
    pub metadata: Endpoint,
}

/// The role that is taken with the token of the service account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rrsa {
    pub(super) role_arn: String,
    pub(super) provider_arn: String,
    /// Where the token is; read at every exchange, as it is replaced before it ends.
    pub(super) token_file: String,
    pub(super) session_name: String,
}

impl Ambient {
    /// Reads the environment through `lookup`. An empty variable counts as not set, and line ends
    /// behind a value are dropped. `allow_list` holds the origins of `--allow-endpoint`.
    #[must_use]
    pub fn read(lookup: impl Fn(&str) -> Option<String>, allow_list: &[String]) -> Self {
        let value = |name: &str| {
            let text = lookup(name)?.trim_end_matches(['\r', '\n']).to_owned();
            (!text.is_empty()).then_some(text)
        };
        let is_set = |name| value(name).is_some_and(|text| text.eq_ignore_ascii_case("true"));
        let session_name = session_name(value(SESSION_NAME));
        let instance_role = match value(METADATA_ROLE) {
            _ if is_set(METADATA_DISABLED) => Err(Unusable::MetadataDisabled),
            Some(name) if !metadata::is_role_name(&name) => {
                Err(Unusable::Malformed { variable: METADATA_ROLE, advice: "the name of a role" })
            }
            name => Ok(name),
        };
        Self {
            keys: keys(value),
            rrsa: rrsa(value, &session_name),
            sts: sts(value, is_set(VPC_ENDPOINT), allow_list),
            session_name,
            instance_role,
            metadata: Endpoint::instance_metadata(),
        }
    }

    /// The keys in the environment; without them, RRSA. Never the role of the node.
    ///
    /// # Errors
    /// Neither is there, or the first that is there is incomplete.
    pub fn any(&self) -> Result<Credentials, Unusable> {
        match (&self.keys, &self.rrsa) {
            (Ok(None), Ok(None)) => Err(Unusable::Nothing),
            (Ok(None), _) => self.rrsa(),
            _ => self.environment(),
        }
    }

    /// The keys in the environment.
    ///
    /// # Errors
    /// They are not there, or incomplete.
    pub fn environment(&self) -> Result<Credentials, Unusable> {
        self.keys.clone()?.map(Credentials::fixed).ok_or(Unusable::NoKeys)
    }

    /// The role that is taken with the token of the service account.
    ///
    /// # Errors
    /// Its variables are not there, or incomplete, or STS may not be reached where they say.
    pub fn rrsa(&self) -> Result<Credentials, Unusable> {
        let rrsa = self.rrsa.clone()?.ok_or(Unusable::NoRrsa)?;
        let source = Source::Rrsa { rrsa, sts: self.sts.clone()? };
        Ok(Credentials { source, role: None })
    }

    /// The role of the node.
    ///
    /// # Errors
    /// The environment forbids to ask for it, or names it in a way that it cannot be named.
    pub fn instance_role(&self) -> Result<Credentials, Unusable> {
        let name = self.instance_role.clone()?;
        let source = Source::InstanceRole { name, metadata: self.metadata.clone() };
        Ok(Credentials { source, role: None })
    }

    /// Another role, taken with the keys of these credentials.
    ///
    /// # Errors
    /// STS may not be reached where the environment says, or the session has no proper name.
    pub fn assuming(
        &self,
        credentials: Credentials,
        role: &AssumedRole,
    ) -> Result<Credentials, Unusable> {
        let AssumedRole { role_arn, session_name, external_id, duration_seconds } = role.clone();
        let session_name = session_name.map_or_else(|| self.session_name.clone(), Ok)?;
        let role = Role { arn: role_arn, session_name, external_id, duration_seconds };
        let role = Some(TakenRole { role, sts: self.sts.clone()? });
        Ok(Credentials { role, ..credentials })
    }

    /// The file with the token of the service account.
    #[must_use]
    pub fn token_file(&self) -> Option<&str> {
        Some(&self.rrsa.as_ref().ok()?.as_ref()?.token_file)
    }
}

/// Why the environment gives no keys. Names variables, never a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// Some of the variables with keys are set, but not all that belong together.
    #[error(
        "some of the variables with access keys are set, but {missing} is not: set it, or none of \
         them"
    )]
    SomeKeys {
        /// The variable that is missing.
        missing: &'static str,
    },
    /// Some of the variables of RRSA are set, but not all that belong together.
    #[error(
        "some of the variables for RRSA are set, but {missing} is not: set it, or none of them"
    )]
    SomeRrsa {
        /// The variable that is missing.
        missing: &'static str,
    },
    /// There are no keys in the environment.
    #[error("the operator's environment has no access keys; set {KEY_ID} and {KEY_SECRET}")]
    NoKeys,
    /// There is nothing for RRSA in the environment.
    #[error(
        "the operator's environment has no {ROLE_ARN}, {PROVIDER_ARN} and {TOKEN_FILE}; label its \
         namespace and annotate its service account for RRSA, and start the pod anew"
    )]
    NoRrsa,
    /// There is neither.
    #[error(
        "the operator's environment has no access keys; set {KEY_ID} and {KEY_SECRET}, set up RRSA, \
         or name a source in `spec.credentials`"
    )]
    Nothing,
    /// A variable has a value that cannot be meant.
    #[error("{variable} in the operator's environment is not {advice}")]
    Malformed {
        /// The variable.
        variable: &'static str,
        /// What it has to be.
        advice: &'static str,
    },
    /// The environment forbids to ask the metadata service.
    #[error("{METADATA_DISABLED} in the operator's environment forbids to ask for the node's role")]
    MetadataDisabled,
    /// STS must not be reached there.
    #[error(
        "{STS_ENDPOINT} in the operator's environment is not an endpoint of STS; correct it, or have \
         the operator started with --allow-endpoint and this exact origin"
    )]
    StsNotAllowed,
}

fn keys(value: impl Fn(&str) -> Option<String>) -> Result<Option<AccessKeys>, Unusable> {
    let hidden = |name| value(name).map(Hidden::new);
    match (hidden(KEY_ID), hidden(KEY_SECRET), hidden(KEY_TOKEN)) {
        (None, None, None) => Ok(None),
        (Some(id), Some(secret), token) => Ok(Some(AccessKeys { id, secret, token })),
        (None, ..) => Err(Unusable::SomeKeys { missing: KEY_ID }),
        (_, None, _) => Err(Unusable::SomeKeys { missing: KEY_SECRET }),
    }
}

fn rrsa(
    value: impl Fn(&str) -> Option<String>,
    session_name: &Result<String, Unusable>,
) -> Result<Option<Rrsa>, Unusable> {
    let missing = |missing| Err(Unusable::SomeRrsa { missing });
    match (value(ROLE_ARN), value(PROVIDER_ARN), value(TOKEN_FILE)) {
        (None, None, None) => Ok(None),
        (None, ..) => missing(ROLE_ARN),
        (_, None, _) => missing(PROVIDER_ARN),
        (.., None) => missing(TOKEN_FILE),
        (Some(role_arn), Some(provider_arn), Some(token_file)) => {
            let session_name = session_name.clone()?;
            Ok(Some(Rrsa { role_arn, provider_arn, token_file, session_name }))
        }
    }
}

fn session_name(given: Option<String>) -> Result<String, Unusable> {
    let name = given.unwrap_or_else(|| OWN_SESSION_NAME.to_owned());
    let advice = "2 to 64 letters, digits, dots, @, underscores or hyphens";
    if AssumedRole::is_session_name(&name) {
        Ok(name)
    } else {
        Err(Unusable::Malformed { variable: SESSION_NAME, advice })
    }
}

/// An endpoint that is named goes before a region, and without either it is the central one, as in
/// the official libraries.
fn sts(
    value: impl Fn(&str) -> Option<String>,
    vpc: bool,
    allow_list: &[String],
) -> Result<Endpoint, Unusable> {
    if let Some(text) = value(STS_ENDPOINT) {
        return Endpoint::sts(&text, allow_list).map_err(|_| Unusable::StsNotAllowed);
    }
    let text = match value(STS_REGION) {
        Some(region) if vpc => format!("https://sts-vpc.{region}.aliyuncs.com"),
        Some(region) => format!("https://sts.{region}.aliyuncs.com"),
        None => Endpoint::STS.to_owned(),
    };
    let advice = "the id of a region, such as cn-hangzhou";
    let malformed = Unusable::Malformed { variable: STS_REGION, advice };
    Endpoint::sts(&text, &[]).map_err(|_| malformed)
}
