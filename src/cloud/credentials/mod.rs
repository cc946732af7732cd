//! Where the keys of a call come from.
//!
//! ```text
//!   environment, Secret ---------------------------+
//!   token file -- AssumeRoleWithOIDC --------------+--> [AssumeRole] --> provider --> a call
//!   instance metadata -----------------------------+                     keeps them
//! ```
//!
//! [`Credentials`] say where keys are; two that are equal reach the same keys, so that a directory
//! goes on as it is. What was fetched with them is kept by the provider of one client, and nowhere
//! else.
//!
//! **Invariant:** no key, token or signature stands in a URL, and none is printed.
//! **Invariant:** the metadata service of the node is asked only if it is named, and never without a
//! token of its own (`IMDSv2`).

use std::collections::BTreeMap;

use ambient::Rrsa;
use sts::Role;

use crate::domain::access::{AccessKeys, Endpoint, Hidden};

pub mod ambient;

pub(super) mod provider;

pub(super) mod sts;

pub(super) mod metadata;

/// Where keys come from. `Debug` is safe: the keys hide themselves.
#[derive(Debug, Clone, PartialEq)]
pub struct Credentials {
    source: Source,
    role: Option<TakenRole>,
}

/// Where the first keys are.
#[derive(Debug, Clone, PartialEq)]
enum Source {
    Fixed(AccessKeys),
    Rrsa { rrsa: Rrsa, sts: Endpoint },
    InstanceRole { name: Option<String>, metadata: Endpoint },
}

/// A role that is taken with the first keys.
#[derive(Debug, Clone, PartialEq)]
struct TakenRole {
    role: Role,
    sts: Endpoint,
}

impl Credentials {
    /// Always these keys. A Secret that changes makes a new client.
    #[must_use]
    pub fn fixed(keys: AccessKeys) -> Self {
        Self { source: Source::Fixed(keys), role: None }
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
