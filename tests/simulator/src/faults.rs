//! What can go wrong on demand. A [`Fault`] waits in a queue for the calls it matches.

use serde::{Deserialize, Serialize};

/// A fault, and the calls that it hits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// The operation it hits; absent: any. `MetadataToken`, `MetadataRole` and
    /// `MetadataCredentials` stand for requests to the metadata service: those know errors, raw
    /// answers, delays and hanging.
    #[serde(default)]
    pub action: Option<String>,
    /// How many matching calls it lets pass first.
    #[serde(default)]
    pub skip: u32,
    /// How many it hits then.
    #[serde(default = "once")]
    pub times: u32,
    /// What happens to them.
    pub kind: FaultKind,
}

fn once() -> u32 {
    1
}

impl Fault {
    /// Hits the next call of any operation.
    #[must_use]
    pub fn any(kind: FaultKind) -> Self {
        Self { action: None, skip: 0, times: 1, kind }
    }

    /// Hits the next call of one operation.
    #[must_use]
    pub fn on(action: &str, kind: FaultKind) -> Self {
        Self { action: Some(action.to_owned()), ..Self::any(kind) }
    }

    /// Lets the next `skip` calls pass.
    #[must_use]
    pub fn skip(self, skip: u32) -> Self {
        Self { skip, ..self }
    }

    /// Hits so many calls.
    #[must_use]
    pub fn times(self, times: u32) -> Self {
        Self { times, ..self }
    }
}

/// What happens to a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case", deny_unknown_fields)]
pub enum FaultKind {
    /// The connection is closed without an answer.
    Drop {
        /// After the operation was done.
        executed: bool,
    },
    /// The connection is reset without an answer.
    Reset {
        /// After the operation was done.
        executed: bool,
    },
    /// The call takes longer.
    Delay {
        /// Before the operation, in milliseconds.
        #[serde(default)]
        before_ms: u64,
        /// After it.
        #[serde(default)]
        after_ms: u64,
    },
    /// The call hangs until the fault is released or cleared, then goes on as usual.
    Hang {
        /// After the operation was done.
        executed: bool,
    },
    /// The answer breaks off; its headers announce the whole.
    CutBody {
        /// How many bytes of the body arrive.
        bytes: usize,
    },
    /// The operation runs twice; the client sees the second answer.
    Duplicate {
        /// Does the gateway notice and answer `SignatureNonceUsed` to the second copy.
        noticed: bool,
    },
    /// The server's clock, as the `Date` header and the time window see it, is off.
    ClockSkew {
        /// Ahead, in seconds.
        seconds: i64,
    },
    /// An error of the gateway or the service.
    Error {
        /// The HTTP status.
        status: u16,
        /// `Code`.
        code: String,
        /// Such as `x-acs-retry-after`.
        #[serde(default)]
        headers: Vec<(String, String)>,
        /// After the operation was done.
        #[serde(default)]
        executed: bool,
    },
    /// Any bytes.
    Raw {
        /// The HTTP status.
        status: u16,
        /// `Content-Type` and others.
        #[serde(default)]
        headers: Vec<(String, String)>,
        /// The body; repeated below.
        body: String,
        /// How often the body is written one after the other.
        #[serde(default = "once")]
        repeat: u32,
        /// After the operation was done.
        #[serde(default)]
        executed: bool,
    },
}

impl FaultKind {
    /// The page of a proxy whose server is away.
    #[must_use]
    pub fn html_502(executed: bool) -> Self {
        Self::Raw {
            status: 502,
            headers: vec![("Content-Type".to_owned(), "text/html".to_owned())],
            body: "<html><body><h1>502 Bad Gateway</h1></body></html>".to_owned(),
            repeat: 1,
            executed,
        }
    }

    /// A 500 without a word.
    #[must_use]
    pub fn empty_500(executed: bool) -> Self {
        Self::Raw { status: 500, headers: Vec::new(), body: String::new(), repeat: 1, executed }
    }

    /// Sends the client somewhere else.
    #[must_use]
    pub fn redirect(location: &str) -> Self {
        Self::Raw {
            status: 307,
            headers: vec![("Location".to_owned(), location.to_owned())],
            body: String::new(),
            repeat: 1,
            executed: false,
        }
    }

    /// An error before anything was done.
    #[must_use]
    pub fn error(status: u16, code: &str) -> Self {
        Self::Error { status, code: code.to_owned(), headers: Vec::new(), executed: false }
    }

    /// How often the operation runs.
    #[must_use]
    pub fn runs(&self) -> u32 {
        match self {
            Self::Drop { executed }
            | Self::Reset { executed }
            | Self::Error { executed, .. }
            | Self::Raw { executed, .. } => u32::from(*executed),
            Self::Duplicate { noticed: false } => 2,
            Self::Delay { .. }
            | Self::Hang { .. }
            | Self::CutBody { .. }
            | Self::ClockSkew { .. }
            | Self::Duplicate { noticed: true } => 1,
        }
    }
}

/// The faults that wait.
#[derive(Clone, Debug, Default)]
pub(crate) struct Faults {
    queue: Vec<Fault>,
}

impl Faults {
    /// Puts one at the end.
    pub(crate) fn push(&mut self, fault: Fault) {
        self.queue.push(fault);
    }

    /// Takes all out.
    pub(crate) fn clear(&mut self) {
        self.queue.clear();
    }

    /// Those that wait.
    #[must_use]
    pub(crate) fn waiting(&self) -> &[Fault] {
        &self.queue
    }

    /// The fault that hits this call, if any: the first that matches and has nothing to skip.
    pub(crate) fn take(&mut self, action: &str) -> Option<FaultKind> {
        self.take_if(|name| name.is_none_or(|name| name == action))
    }

    /// As [`take`](Self::take), for what is no operation: only faults that name it.
    pub(crate) fn take_named(&mut self, name: &str) -> Option<FaultKind> {
        self.take_if(|named| named == Some(name))
    }

    fn take_if(&mut self, matches: impl Fn(Option<&str>) -> bool) -> Option<FaultKind> {
        let mut hit = None;
        for (at, fault) in self.queue.iter_mut().enumerate() {
            if fault.times == 0 || !matches(fault.action.as_deref()) {
                continue;
            }
            if fault.skip > 0 {
                fault.skip -= 1;
                continue;
            }
            fault.times -= 1;
            hit = Some((at, fault.times, fault.kind.clone()));
            break;
        }
        let (at, left, kind) = hit?;
        if left == 0 {
            self.queue.remove(at);
        }
        Some(kind)
    }
}
