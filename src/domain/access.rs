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

    /// Where an ECS instance finds the keys of its role. Plain http: it never leaves the machine.
    ///
    /// Source: instance metadata, as the official credential libraries read it.
    pub const INSTANCE_METADATA: &'static str = "http://100.100.100.200";
    /// The central endpoint of the token service. Source: endpoint list of Sts 2015-04-01.
    pub const STS: &'static str = "https://sts.aliyuncs.com";

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

    /// The address at which an ECS instance asks for its own keys.
    #[must_use]
    pub fn instance_metadata() -> Self {
        Self(Self::INSTANCE_METADATA.to_owned())
    }

    /// An endpoint of the token service: `sts.aliyuncs.com`, that of a region
    /// (`sts.<region>.aliyuncs.com`, `sts-vpc.<region>.aliyuncs.com`), or one that an administrator
    /// allowed by its exact origin. A host without a scheme is reached over https.
    ///
    /// # Errors
    /// The text is none of them.
    pub fn sts(text: &str, allow_list: &[String]) -> Result<Self, NotAllowed> {
        let origin = if text.contains("://") { text.to_owned() } else { format!("https://{text}") };
        let origin = origin.strip_suffix('/').unwrap_or(&origin);
        let regional = || {
            let host = origin.strip_prefix("https://")?.strip_suffix(".aliyuncs.com")?;
            host.strip_prefix("sts.").or_else(|| host.strip_prefix("sts-vpc."))
        };
        if origin == Self::STS || regional().is_some_and(is_region) {
            return Ok(Self(origin.to_owned()));
        }
        let equal = |allowed: &String| allowed.strip_suffix('/').unwrap_or(allowed) == origin;
        if allow_list.iter().any(equal) { Ok(Self(origin.to_owned())) } else { Err(NotAllowed) }
    }

    /// The origin as text, without a slash at the end.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether a text is the id of a region. Strict, because a stranger may own `sts.<label>.aliyuncs.com`
/// for another label: that is how a bucket named `sts` in `oss-cn-hangzhou` is addressed.
///
/// Source: the list of regions, all of which begin with one of these areas.
fn is_region(text: &str) -> bool {
    const AREAS: [&str; 7] = ["ap", "cn", "eu", "me", "na", "sa", "us"];
    let mut words = text.split('-');
    let is_word = |word: &str| {
        !word.is_empty()
            && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    };
    words.next().is_some_and(|area| AREAS.contains(&area))
        && text.contains('-')
        && text.len() <= 40
        && words.all(is_word)
}

/// The endpoint is neither built in nor on the operator's allow list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the endpoint is not one of the built-in ones; use `site`, or have the operator started with \
     --allow-endpoint and this exact origin"
)]
pub struct NotAllowed;
