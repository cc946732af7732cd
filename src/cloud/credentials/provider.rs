//! Keeps the keys of one client until they are about to end.
//!
//! ```text
//!   fetched -------------------- a quarter left, at least 5 min ----- 60 s left -- end
//!      |  given out                |  given out; others are fetched     |  not given out:
//!      |                           |  in the background                 |  the call waits for others
//! ```
//!
//! Times are those of the caller's clock. A failure keeps the old keys in use up to the hard stop.

use std::fmt;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::Sleep;
use tracing::Instrument as _;

use super::ambient::Rrsa;
use super::metadata::{self, Instance};
use super::sts::{self, Role, Sts, Temporary};
use super::{Credentials, Source, TakenRole};
use crate::cloud::transport::{Limits, Transport};
use crate::cloud::{BuildError, Roots, error};
use crate::domain::access::{AccessKeys, Endpoint};
use crate::domain::call::{CallError, ErrorCode, FailureClass, KeyCause, KeyStep, RequestId};

/// Gives out keys. Clones share them.
#[derive(Clone)]
pub(in crate::cloud) struct Provider(Keys);

#[derive(Clone)]
enum Keys {
    Fixed(AccessKeys),
    Temporary(Arc<Fetched>),
}

impl Provider {
    /// Opens no connection. A fetch takes no longer than a call may.
    ///
    /// # Errors
    /// TLS could not be set up, or an endpoint is no origin.
    pub(in crate::cloud) fn new(
        credentials: Credentials,
        roots: Roots,
        limits: Limits,
    ) -> Result<Self, BuildError> {
        let Credentials { source, role } = credentials;
        let sts = |endpoint: &Endpoint| Transport::new(endpoint, roots, limits).map(Sts);
        let first = match source {
            Source::Fixed(keys) if role.is_none() => return Ok(Self(Keys::Fixed(keys))),
            Source::Fixed(keys) => First::Fixed(keys),
            Source::Rrsa { rrsa, sts: endpoint } => First::Rrsa(rrsa, sts(&endpoint)?),
            Source::InstanceRole { name, metadata } => {
                let transport = Transport::new(&metadata, roots, metadata::LIMITS)?;
                First::Instance(Instance { transport, role: name })
            }
        };
        let role = match role {
            Some(TakenRole { role, sts: endpoint }) => Some((role, sts(&endpoint)?)),
            None => None,
        };
        Ok(Self(Keys::Temporary(Arc::new(Fetched {
            first,
            role,
            patience: limits.call,
            state: Mutex::default(),
            turn: Arc::default(),
        }))))
    }

    /// Keys to sign with now.
    ///
    /// # Errors
    /// There are none.
    pub(in crate::cloud) async fn keys(&self, now: Timestamp) -> Result<AccessKeys, CallError> {
        let fetched = match &self.0 {
            Keys::Fixed(keys) => return Ok(keys.clone()),
            Keys::Temporary(fetched) => fetched,
        };
        let Some(held) = fetched.state().usable(now).cloned() else {
            return fetched.fetch_now(now).await;
        };
        if held.is_due(now) {
            fetched.renew(now);
        }
        Ok(held.keys)
    }

    /// Gives these keys out no more. Returns whether others can be had.
    pub(in crate::cloud) fn forget(&self, keys: &AccessKeys) -> bool {
        let Keys::Temporary(fetched) = &self.0 else { return false };
        fetched.state().held.take_if(|held| held.keys == *keys);
        true
    }
}

/// Shows nothing.
impl fmt::Debug for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Provider").finish_non_exhaustive()
    }
}

/// Keys that were given, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cloud) struct Held {
    pub(in crate::cloud) keys: AccessKeys,
    pub(in crate::cloud) fetched_at: Timestamp,
    pub(in crate::cloud) expires_at: Timestamp,
}

impl Held {
    /// So long before their end keys are not given out any more: a call takes a while to arrive, and
    /// two clocks never agree.
    const STOP_BEFORE: SignedDuration = SignedDuration::from_secs(60);

    /// Others are fetched at least so long before the end.
    const RENEW_BEFORE_MIN: SignedDuration = SignedDuration::from_mins(5);

    /// Whether a call may be signed with them.
    pub(in crate::cloud) fn is_usable(&self, now: Timestamp) -> bool {
        self.expires_at.duration_since(now) > Self::STOP_BEFORE
    }

    /// Whether others should be fetched.
    pub(in crate::cloud) fn is_due(&self, now: Timestamp) -> bool {
        let life = self.expires_at.duration_since(self.fetched_at);
        self.expires_at.duration_since(now) <= (life / 4).max(Self::RENEW_BEFORE_MIN)
    }
}

/// What is kept.
#[derive(Debug, Default)]
struct State {
    held: Option<Held>,
    /// When keys were last asked for in the background.
    renewed_at: Option<Timestamp>,
}

impl State {
    fn usable(&self, now: Timestamp) -> Option<&Held> {
        self.held.as_ref().filter(|held| held.is_usable(now))
    }
}

/// Where the first keys come from.
enum First {
    Fixed(AccessKeys),
    Rrsa(Rrsa, Sts),
    Instance(Instance),
}

struct Fetched {
    first: First,
    role: Option<(Role, Sts)>,
    /// Longest time of a fetch, with the wait for another one that is under way.
    patience: Duration,
    state: Mutex<State>,
    /// Held by the one who fetches.
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl Fetched {
    /// Pause between two tries in the background.
    const RENEW_AGAIN_AFTER: SignedDuration = SignedDuration::from_secs(30);

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fetches other keys while the old ones are in use. No call waits for it, however long it takes.
    fn renew(self: &Arc<Self>, now: Timestamp) {
        let Ok(turn) = Arc::clone(&self.turn).try_lock_owned() else { return };
        {
            let mut state = self.state();
            // A time in the future comes from a clock that was set back.
            let early =
                |at: Timestamp| at <= now && now.duration_since(at) < Self::RENEW_AGAIN_AFTER;
            if state.renewed_at.is_some_and(early) {
                return;
            }
            state.renewed_at = Some(now);
        }
        let fetched = Arc::clone(self);
        let task = async move {
            let _turn = turn;
            let mut deadline = pin!(tokio::time::sleep(fetched.patience));
            match fetched.fetch(deadline.as_mut(), now).await {
                Ok(_) => tracing::debug!("the keys are renewed"),
                Err(error) => tracing::warn!(
                    step = step_of(&error),
                    code = error.code.as_ref().map(ErrorCode::as_str),
                    request_id = error.request_id.as_ref().map(RequestId::as_str),
                    "the keys could not be renewed; the old ones are used while they are valid"
                ),
            }
        };
        tokio::spawn(task.in_current_span());
    }

    /// Fetches keys for a call that waits, unless somebody else has meanwhile.
    async fn fetch_now(&self, now: Timestamp) -> Result<AccessKeys, CallError> {
        let mut deadline = pin!(tokio::time::sleep(self.patience));
        let fetched = async {
            let turn = async { Ok(self.turn.lock().await) };
            let _turn = within(deadline.as_mut(), self.first_step(), turn).await?;
            if let Some(held) = self.state().usable(now) {
                return Ok(held.keys.clone());
            }
            self.fetch(deadline, now).await
        };
        fetched.await.inspect_err(|error| {
            tracing::debug!(
                step = step_of(error),
                code = error.code.as_ref().map(ErrorCode::as_str),
                request_id = error.request_id.as_ref().map(RequestId::as_str),
                "no keys"
            );
        })
    }

    /// Fetches keys and keeps them. Those are given out even if they seem to have ended: then one of
    /// the clocks is wrong, and the answer to the call says so.
    async fn fetch(
        &self,
        mut deadline: Pin<&mut Sleep>,
        now: Timestamp,
    ) -> Result<AccessKeys, CallError> {
        let first = match &self.first {
            First::Fixed(keys) => Temporary { keys: keys.clone(), expires_at: Timestamp::MAX },
            First::Rrsa(rrsa, sts) => {
                let token = sts::token(&rrsa.token_file);
                let token = within(deadline.as_mut(), KeyStep::TokenFile, token).await?;
                let exchange = sts.assume_role_with_oidc(rrsa, token, now);
                within(deadline.as_mut(), KeyStep::AssumeRoleWithOidc, exchange).await?
            }
            First::Instance(instance) => {
                within(deadline.as_mut(), KeyStep::InstanceMetadata, instance.keys()).await?
            }
        };
        let last = match &self.role {
            None => first,
            Some((role, sts)) => {
                let exchange = sts.assume_role(role, &first.keys, now);
                within(deadline, KeyStep::AssumeRole, exchange).await?
            }
        };
        let Temporary { keys, expires_at } = last;
        self.state().held = Some(Held { keys: keys.clone(), fetched_at: now, expires_at });
        Ok(keys)
    }

    fn first_step(&self) -> KeyStep {
        match &self.first {
            First::Fixed(_) => KeyStep::AssumeRole,
            First::Rrsa(..) => KeyStep::AssumeRoleWithOidc,
            First::Instance(_) => KeyStep::InstanceMetadata,
        }
    }
}

/// The step's result, unless the deadline comes first.
async fn within<T>(
    deadline: Pin<&mut Sleep>,
    step: KeyStep,
    result: impl Future<Output = Result<T, CallError>>,
) -> Result<T, CallError> {
    tokio::select! {
        biased;
        result = result => result,
        () = deadline => Err(error::no_keys(step, KeyCause::Unanswered)),
    }
}

fn step_of(error: &CallError) -> Option<&'static str> {
    match error.class {
        FailureClass::NoKeys(failure) => Some(failure.step.as_str()),
        _ => None,
    }
}
