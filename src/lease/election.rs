//! The requests of one process about one lease.

use std::fmt;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{ObjectMeta, PostParams, WatchEvent, WatchParams};
use kube::{Api, Client, ResourceExt as _};

use super::Held;
use super::candidate::{Candidate, Lost, Move, Record, Terms};
use crate::uptime::{self, Moment};

/// Which Lease object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the Lease `{}` in the namespace `{}`", self.name, self.namespace)
    }
}

/// One process that wants a lease: [`Self::win`], then [`Self::keep`], then [`Self::release`] or not.
///
/// The futures may be dropped at any time; what was sent then is looked up before it is relied on.
pub struct Election {
    place: Place,
    api: Api<Lease>,
    identity: String,
    terms: Terms,
    candidate: Candidate,
    held: Held,
    /// The object as it was last seen.
    object: Option<Lease>,
    /// Whether what was last seen may be out of date.
    is_doubtful: bool,
    /// What was last told of the apiserver.
    told: Option<String>,
    /// Which other holder was last told of.
    told_holder: Option<String>,
    wall_clock: Box<dyn Fn() -> Timestamp + Send + Sync>,
}

/// The code with which the apiserver has refused, if it has answered at all.
struct Refusal(Option<u16>);

impl Election {
    /// Of that object, under that name. `identity` MUST be another one for each process that is not
    /// to share the lease. The wall clock is read for the times that people see in the object; nothing
    /// is decided by them.
    #[must_use]
    pub fn new(
        client: Client,
        place: Place,
        identity: String,
        terms: Terms,
        wall_clock: impl Fn() -> Timestamp + Send + Sync + 'static,
    ) -> Self {
        Self {
            api: Api::namespaced(client, &place.namespace),
            candidate: Candidate::new(identity.clone(), terms),
            held: Held::new(terms),
            place,
            identity,
            terms,
            object: None,
            is_doubtful: true,
            told: None,
            told_holder: None,
            wall_clock: Box::new(wall_clock),
        }
    }

    /// Which object it is about.
    #[must_use]
    pub fn place(&self) -> &Place {
        &self.place
    }

    pub(super) fn held(&self) -> Held {
        self.held.clone()
    }

    /// Waits until the lease is ours. Another holder is followed by a watch, so that a lease that is
    /// released is taken at once. `told` is called with each other holder that is found.
    pub async fn win(&mut self, told: impl Fn(&str)) {
        let mut changes = None;
        while self.candidate.renewed_at().is_none() {
            if self.is_doubtful {
                changes = None;
                if !self.look().await {
                    self.pause().await;
                    continue;
                }
            }
            let holder = self.candidate.other_holder().map(str::to_owned);
            if holder.is_some() && holder != self.told_holder {
                told(holder.as_deref().unwrap_or_default());
                self.told_holder = holder;
            }
            match self.candidate.next(uptime::now()) {
                Move::Create | Move::Replace => {
                    if !self.write().await {
                        self.pause().await;
                    }
                }
                Move::Wait(until) => self.follow(&mut changes, until).await,
                // Only whoever has it can lose it.
                Move::End(_) => return,
            }
        }
    }

    /// Keeps the lease as long as that works.
    pub async fn keep(&mut self) -> Lost {
        loop {
            let next = self.candidate.next(uptime::now());
            if self.held.is_over() {
                // It was too late for somebody who was about to begin something.
                return Lost::NotRenewed(self.terms.renew_deadline());
            }
            match next {
                Move::End(lost) => {
                    self.held.end();
                    return lost;
                }
                Move::Wait(until) => sleep_until(until).await,
                Move::Create | Move::Replace => {
                    // Somebody else may stand there: that is decided upon before it is written over.
                    let went =
                        if self.is_doubtful { self.look().await } else { self.write().await };
                    if !went {
                        self.pause().await;
                    }
                }
            }
        }
    }

    /// Gives the lease back, if it is held, so that another process takes it at once. Nothing may be
    /// under way any more that relies on it.
    pub async fn release(mut self) {
        if self.candidate.renewed_at().is_none() || self.held.is_over() {
            return;
        }
        self.held.end();
        if self.is_doubtful && !self.look().await {
            return;
        }
        let Some(mut object) = self.object.take() else { return };
        let spec = object.spec.get_or_insert_default();
        if spec.holder_identity.as_deref() != Some(&self.identity) {
            return;
        }
        // As client-go does: it is free, and short for whoever looks at its duration only.
        spec.holder_identity = Some(String::new());
        spec.lease_duration_seconds = Some(1);
        let now = MicroTime((self.wall_clock)());
        (spec.acquire_time, spec.renew_time) = (Some(now.clone()), Some(now));
        let name = object.name_any();
        if self.ask(self.api.replace(&name, &PostParams::default(), &object)).await.is_ok() {
            tracing::info!(lease = %self.place, "the lease is released");
        } else {
            tracing::info!(lease = %self.place, "the lease was not released; it ends");
        }
    }

    /// Reads the object. Returns whether that worked.
    async fn look(&mut self) -> bool {
        match self.ask(self.api.get_opt(&self.place.name)).await {
            Ok(found) => {
                self.take_in(found);
                true
            }
            Err(refusal) => {
                self.tell(&refusal, "get");
                false
            }
        }
    }

    fn take_in(&mut self, found: Option<Lease>) {
        self.candidate.sees(found.as_ref().map(record), uptime::now());
        self.object = found;
        self.is_doubtful = false;
    }

    /// Writes us as the holder. Returns whether that worked.
    async fn write(&mut self) -> bool {
        let object = self.next_object();
        let parameters = PostParams::default();
        let is_new = object.metadata.resource_version.is_none();
        // Until the answer is there: it may have been stored without one.
        self.is_doubtful = true;
        let sent_at = uptime::now();
        let stored = if is_new {
            self.ask(self.api.create(&parameters, &object)).await
        } else {
            self.ask(self.api.replace(&self.place.name, &parameters, &object)).await
        };
        match stored {
            Ok(stored) => {
                self.is_doubtful = false;
                self.candidate.stored(record(&stored), sent_at, uptime::now());
                if let Some(renewed_at) = self.candidate.renewed_at() {
                    self.held.renewed(renewed_at);
                }
                self.object = Some(stored);
                self.told = None;
                true
            }
            // Somebody has written it, or deleted it: what stands there is read at once.
            Err(Refusal(Some(409))) => true,
            Err(Refusal(Some(404))) if !is_new => true,
            Err(refusal) => {
                self.tell(&refusal, if is_new { "create" } else { "update" });
                false
            }
        }
    }

    /// The object with us as its holder.
    fn next_object(&self) -> Lease {
        let time = MicroTime((self.wall_clock)());
        let known = self.object.clone().unwrap_or_default();
        let before = known.spec.unwrap_or_default();
        let stays = before.holder_identity.as_deref() == Some(&self.identity);
        let transitions = before.lease_transitions.unwrap_or(0);
        let is_first = known.metadata.resource_version.is_none();
        let metadata = ObjectMeta { name: Some(self.place.name.clone()), ..known.metadata };
        let spec = LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: Some(self.terms.lease_seconds()),
            acquire_time: before.acquire_time.filter(|_| stays).or(Some(time.clone())),
            renew_time: Some(time),
            lease_transitions: Some(transitions.saturating_add((!stays && !is_first).into())),
            ..LeaseSpec::default()
        };
        Lease { metadata, spec: Some(spec) }
    }

    /// Waits until that moment, or until the object changes. A watch that tells nothing does no harm:
    /// whoever takes a lease by what is out of date is refused.
    async fn follow(&mut self, changes: &mut Option<Changes>, until: Moment) {
        if changes.is_none() {
            let version = self.object.as_ref().and_then(Lease::resource_version);
            *changes = match version {
                Some(version) => self.watch(&version).await,
                None => None,
            };
        }
        let Some(events) = changes else {
            // One that has vanished, or cannot be watched: it is looked at again.
            let pause = uptime::now() + self.terms.pause();
            sleep_until(until.min(pause)).await;
            self.is_doubtful = true;
            return;
        };
        let event = tokio::select! {
            event = events.next() => event,
            () = sleep_until(until) => return,
        };
        match event {
            Some(Ok(WatchEvent::Added(lease) | WatchEvent::Modified(lease))) => {
                self.take_in(Some(lease));
            }
            Some(Ok(WatchEvent::Deleted(_))) => self.take_in(None),
            Some(Ok(WatchEvent::Bookmark(_))) => {}
            Some(Ok(WatchEvent::Error(_)) | Err(_)) | None => {
                self.pause().await;
                self.is_doubtful = true;
            }
        }
    }

    async fn watch(&mut self, version: &str) -> Option<Changes> {
        let only = format!("metadata.name={}", self.place.name);
        let parameters = WatchParams::default().fields(&only).timeout(WATCH_SECONDS);
        let events = self.ask(self.api.watch(&parameters, version)).await;
        match events.map(StreamExt::boxed) {
            Ok(events) => Some(events),
            Err(refusal) => {
                self.tell(&refusal, "watch");
                None
            }
        }
    }

    /// Makes a request, and waits for its answer as long as one that holds the lease may.
    async fn ask<T>(&self, request: impl Future<Output = kube::Result<T>>) -> Result<T, Refusal> {
        match tokio::time::timeout(self.terms.patience(), request).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(kube::Error::Api(refusal))) => Err(Refusal(Some(refusal.code))),
            Ok(Err(_)) | Err(_) => Err(Refusal(None)),
        }
    }

    /// Says what went wrong, once, in words of our own: those of the other side may hold anything.
    fn tell(&mut self, refusal: &Refusal, verb: &str) {
        let what = match refusal {
            Refusal(Some(403)) => format!(
                "the apiserver answered 403: grant its service account `{verb}` on leases in that \
                 namespace"
            ),
            Refusal(Some(code)) => format!("the apiserver answered {code}"),
            Refusal(None) => "the apiserver gave no answer".to_owned(),
        };
        if self.is_news(&what) {
            tracing::warn!(lease = %self.place, "{what}; it is tried again");
        }
    }

    fn is_news(&mut self, what: &str) -> bool {
        let is_news = self.told.as_deref() != Some(what);
        self.told = Some(what.to_owned());
        is_news
    }

    /// Between half a pause and a whole one, so that several processes part.
    async fn pause(&self) {
        // The first 32 bits of a version 4 uuid are all random.
        let random = f64::from(uuid::Uuid::new_v4().as_fields().0) / f64::from(u32::MAX);
        tokio::time::sleep(self.terms.pause().mul_f64(0.5 + random / 2.0)).await;
    }
}

/// Shows which lease it is about.
impl fmt::Debug for Election {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Election").field("place", &self.place).finish_non_exhaustive()
    }
}

/// Changes of the object, as the apiserver tells them.
type Changes = BoxStream<'static, kube::Result<WatchEvent<Lease>>>;

/// After so long the apiserver ends a watch, and it is begun again.
const WATCH_SECONDS: u32 = 290;

/// Timers stand still while the machine is suspended: whoever wakes up looks at the time.
async fn sleep_until(until: Moment) {
    tokio::time::sleep(until.saturating_sub(uptime::now())).await;
}

fn record(object: &Lease) -> Record {
    let spec = object.spec.as_ref();
    let seconds = spec.and_then(|spec| spec.lease_duration_seconds);
    let seconds = seconds.and_then(|seconds| u64::try_from(seconds).ok());
    Record {
        holder: spec.and_then(|spec| spec.holder_identity.clone()).unwrap_or_default(),
        lasts: seconds.map(Duration::from_secs),
        version: object.resource_version().unwrap_or_default(),
    }
}
