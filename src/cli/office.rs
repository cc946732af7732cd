//! The two leases that a process of `run` holds while it acts: that of its installation, which its
//! replicas share out among themselves, and that of the cluster, which keeps two installations apart.

use std::time::Duration;

use anyhow::anyhow;
use kube::Client;

use crate::clock::Clock;
use crate::lease::{Election, Leadership, Place, Terms};

/// The Lease of an installation, in its own namespace.
pub const LEASE: &str = "message-contact-operator";

/// The Lease of the cluster. Its place is fixed, so that all installations agree on it, and is one in
/// which no tenant writes.
pub const CLUSTER_LEASE: (&str, &str) = ("kube-system", "message-contacts.dev");

/// Longest time in which the lease is released.
const RELEASE_WITHIN: Duration = Duration::from_secs(1);

/// What a process must hold to act.
pub(super) struct Office {
    replicas: Election,
    installations: Election,
    namespace: String,
}

impl Office {
    /// Of the installation in that namespace. Nothing is asked for yet.
    pub(super) fn new(client: &Client, namespace: &str, terms: Terms) -> Self {
        let election = |namespace: &str, name: &str, identity: String| {
            let place = Place { namespace: namespace.to_owned(), name: name.to_owned() };
            let clock = Clock::system();
            Election::new(client.clone(), place, identity, terms, move || clock.now())
        };
        let (cluster_namespace, cluster_name) = CLUSTER_LEASE;
        Self {
            replicas: election(namespace, LEASE, identity()),
            // Whoever holds the lease of an installation goes on with what another one of its
            // processes has held, which is surely gone by then.
            installations: election(cluster_namespace, cluster_name, namespace.to_owned()),
            namespace: namespace.to_owned(),
        }
    }

    /// Says for how long both are held.
    pub(super) fn leadership(&self) -> Leadership {
        Leadership::of([&self.replicas, &self.installations])
    }

    /// Waits until both are held.
    ///
    /// # Errors
    /// The first one was lost while the second one was waited for.
    pub(super) async fn win(&mut self) -> anyhow::Result<()> {
        let Self { replicas, installations, namespace } = self;
        let place = replicas.place().clone();
        tracing::info!(lease = %place, "standing by");
        let follows =
            |holder: &str| tracing::info!(lease = %place, holder, "another process leads");
        replicas.win(follows).await;
        let waits = |holder: &str| {
            tracing::warn!(
                "another installation, in the namespace `{holder}`, serves this cluster; this one, in \
                 `{namespace}`, does nothing until that one is taken out or stops for good"
            );
        };
        tokio::select! {
            () = installations.win(waits) => {}
            lost = replicas.keep() => return Err(anyhow!("{place} was lost: {lost}")),
        }
        tracing::info!(lease = %place, "this process leads");
        Ok(())
    }

    /// Keeps both. Ends when one is lost, with an error: whatever is under way ends with the process.
    pub(super) async fn keep(&mut self) -> anyhow::Result<()> {
        let (place, lost) = tokio::select! {
            lost = self.replicas.keep() => (self.replicas.place(), lost),
            lost = self.installations.keep() => (self.installations.place(), lost),
        };
        let message = format!("{place} was lost: {lost}; the process ends, to start as a standby");
        tracing::error!("{message}");
        Err(anyhow!(message))
    }

    /// Has the next process of this installation take over at once. That of the cluster is left to it,
    /// or ends by itself: another installation is not to take over at each restart of this one.
    pub(super) async fn release(self) {
        let released = self.replicas.release();
        if tokio::time::timeout(RELEASE_WITHIN, released).await.is_err() {
            tracing::warn!("the lease could not be released in time; it ends by itself");
        }
    }
}

/// The name of the pod, or of the machine, and something that no other process has.
fn identity() -> String {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    format!("{host}_{}", uuid::Uuid::new_v4())
}
