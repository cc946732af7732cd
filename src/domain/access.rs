//! How a directory is reached: keys that cannot be printed, and an endpoint that was allowed.

use std::fmt;

/// A text that shows nothing of itself: secrets, tokens, signatures.
#[derive(Clone, PartialEq, Eq)]
pub struct Hidden(String);

impl Hidden {
    /// Hides the text.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The clear text. Callable from few files only; `tests/it/architecture.rs` has the list.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[hidden]")
    }
}

/// The keys that sign a call. Nothing of them is printed, the id included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessKeys {
    /// The access key id.
    pub id: Hidden,
    /// The access key secret.
    pub secret: Hidden,
    /// The security token, with temporary keys only.
    pub token: Option<Hidden>,
}

/// The origin of an API endpoint: scheme, host and port, nothing else.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Endpoint(String);

impl Endpoint {
    /// The public endpoint for accounts of the China site.
    ///
    /// Source: endpoint list of `ResourceDirectoryMaster` 2022-04-19.
    pub const CHINA: &'static str = "https://resourcedirectory.aliyuncs.com";
    /// The public endpoint for accounts of the international site. Source: as [`Self::CHINA`].
    pub const INTERNATIONAL: &'static str = "https://resourcedirectory-intl.aliyuncs.com";
    /// The endpoint inside a VPC, for both sites. Source: as [`Self::CHINA`].
    pub const VPC: &'static str = "https://resourcedirectory.vpc-proxy.aliyuncs.com";

    const BUILT_IN: [&'static str; 3] = [Self::CHINA, Self::INTERNATIONAL, Self::VPC];

    /// The public endpoint of the China site.
    #[must_use]
    pub fn china() -> Self {
        Self(Self::CHINA.to_owned())
    }

    /// The public endpoint of the international site.
    #[must_use]
    pub fn international() -> Self {
        Self(Self::INTERNATIONAL.to_owned())
    }

    /// An endpoint that is built in, or that an administrator allowed by its exact origin.
    ///
    /// Exact text on purpose: under `aliyuncs.com` live hosts of strangers, and a parser of URLs
    /// that disagrees with the one in the HTTP client would be a way around the list.
    ///
    /// # Errors
    /// The text equals none of them.
    pub fn allowed(text: &str, allow_list: &[String]) -> Result<Self, NotAllowed> {
        let origin = text.strip_suffix('/').unwrap_or(text);
        let equal = |allowed: &str| allowed.strip_suffix('/').unwrap_or(allowed) == origin;
        let known = Self::BUILT_IN.iter().any(|built_in| equal(built_in))
            || allow_list.iter().any(|allowed| equal(allowed));
        if known { Ok(Self(origin.to_owned())) } else { Err(NotAllowed) }
    }

    /// The origin as text, without a slash at the end.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The endpoint is neither built in nor on the operator's allow list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the endpoint is not one of the built-in ones; use `site`, or have the operator started with \
     --allow-endpoint and this exact origin"
)]
pub struct NotAllowed;
