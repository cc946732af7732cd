//! Where the keys of a call come from.

use std::collections::BTreeMap;

use crate::domain::access::{AccessKeys, Hidden};
use crate::domain::call::{Action, CallError};

/// A source of keys. Asked once for each call, so that keys may change between two calls.
#[derive(Debug, Clone, PartialEq)]
pub struct Credentials(Source);

/// The kinds of source. `Debug` is safe: the keys hide themselves.
#[derive(Debug, Clone, PartialEq)]
enum Source {
    Fixed(AccessKeys),
}

impl Credentials {
    /// Always these keys. A Secret that changes makes a new client.
    #[must_use]
    pub fn fixed(keys: AccessKeys) -> Self {
        Self(Source::Fixed(keys))
    }

    /// The keys in a Secret: `accessKeyId`, `accessKeySecret` and, with temporary keys,
    /// `securityToken`. Line ends behind a value are dropped; other keys are ignored.
    ///
    /// # Errors
    /// A needed key is absent or empty, or a value is not UTF-8. A token that is present must not
    /// be empty either: without it temporary keys would fail with a less helpful code.
    pub fn from_secret_data(data: &BTreeMap<String, Vec<u8>>) -> Result<AccessKeys, MissingKey> {
        let value = |key: &'static str| {
            let bytes = data.get(key).ok_or(MissingKey::Absent(key))?;
            let text = std::str::from_utf8(bytes).map_err(|_| MissingKey::NotText(key))?;
            let text = text.trim_end_matches(['\r', '\n']);
            if text.is_empty() {
                return Err(MissingKey::Absent(key));
            }
            Ok(Hidden::new(text.to_owned()))
        };
        let token =
            if data.contains_key("securityToken") { Some(value("securityToken")?) } else { None };
        Ok(AccessKeys { id: value("accessKeyId")?, secret: value("accessKeySecret")?, token })
    }

    /// The keys in the environment, which `lookup` reads: `ALIBABA_CLOUD_ACCESS_KEY_ID`,
    /// `ALIBABA_CLOUD_ACCESS_KEY_SECRET` and, with temporary keys, `ALIBABA_CLOUD_SECURITY_TOKEN`.
    /// `None` if none of them is set; an empty variable counts as not set.
    ///
    /// Source: the official credential libraries.
    ///
    /// # Errors
    /// Some are set, but not all that belong together.
    pub fn from_environment(
        lookup: impl Fn(&str) -> Option<String>,
    ) -> Result<Option<AccessKeys>, IncompleteEnvironment> {
        let value = |name: &'static str| {
            lookup(name)
                .map(|text| text.trim_end_matches(['\r', '\n']).to_owned())
                .filter(|text| !text.is_empty())
                .map(Hidden::new)
                .ok_or(IncompleteEnvironment { missing: name })
        };
        let id = value("ALIBABA_CLOUD_ACCESS_KEY_ID");
        let secret = value("ALIBABA_CLOUD_ACCESS_KEY_SECRET");
        let token = value("ALIBABA_CLOUD_SECURITY_TOKEN").ok();
        if id.is_err() && secret.is_err() && token.is_none() {
            return Ok(None);
        }
        Ok(Some(AccessKeys { id: id?, secret: secret?, token }))
    }

    /// The keys for one call.
    ///
    /// # Errors
    /// No keys could be had. Fixed keys never fail.
    #[expect(clippy::unused_async, reason = "the seam for sources that exchange a token over HTTP")]
    pub(super) async fn keys(&self, _action: Action) -> Result<AccessKeys, CallError> {
        let Self(source) = self;
        match source {
            Source::Fixed(keys) => Ok(keys.clone()),
        }
    }
}

/// What is wrong with a Secret: names the key, never a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MissingKey {
    /// The key is not there, or its value is empty.
    #[error("the key {0} is missing or empty")]
    Absent(&'static str),
    /// The value is not text.
    #[error("the value of the key {0} is not UTF-8 text")]
    NotText(&'static str),
}

/// Some of the environment's keys are set, but not all that belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "some of the variables with access keys are set, but {missing} is not: set it, or none of them"
)]
pub struct IncompleteEnvironment {
    /// The variable that is missing.
    pub missing: &'static str,
}
