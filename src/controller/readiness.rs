//! Whether everything was listed once, and what was not yet, and why.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kube::runtime::watcher;

/// Whether everything was listed once. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Readiness(Arc<Mutex<Progress>>);

#[derive(Debug, Default)]
struct Progress {
    /// Everything was listed, and the controllers have begun.
    begun: bool,
    /// What was not listed yet, by its kind.
    missing: BTreeMap<&'static str, Lack>,
}

/// Why a kind was not listed yet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Lack {
    /// It is being listed.
    #[default]
    UnderWay,
    /// The apiserver does not know the kind.
    NotInstalled,
    /// The operator may not list it.
    NotAllowed,
    /// The apiserver gave another answer, or none.
    Failed,
}

impl Lack {
    pub(super) fn of(error: &watcher::Error) -> Self {
        let code = match error {
            watcher::Error::InitialListFailed(kube::Error::Api(refusal))
            | watcher::Error::WatchStartFailed(kube::Error::Api(refusal))
            | watcher::Error::WatchFailed(kube::Error::Api(refusal))
            | watcher::Error::WatchError(refusal) => refusal.code,
            _ => 0,
        };
        match code {
            404 => Self::NotInstalled,
            401 | 403 => Self::NotAllowed,
            _ => Self::Failed,
        }
    }

    /// Why, as a part of a sentence, and what to do about it.
    pub(super) fn in_words(self) -> &'static str {
        match self {
            Self::UnderWay => "being listed",
            Self::NotInstalled => {
                "not installed: apply the output of `message-contact-operator crds`"
            }
            Self::NotAllowed => "not allowed: grant `list` and `watch` on it",
            Self::Failed => "the apiserver does not answer; it is tried again",
        }
    }
}

impl Readiness {
    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether directories, contacts, policies and namespaces were listed once.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.progress().begun
    }

    /// What was not listed yet, and why: one line each, as `/readyz` shows it. Empty while nothing is
    /// missing, and before the first list is asked for.
    #[must_use]
    pub fn missing(&self) -> Vec<String> {
        let progress = self.progress();
        let missing = progress.missing.iter();
        missing.map(|(kind, lack)| format!("{kind}: {}", lack.in_words())).collect()
    }

    pub(super) fn begin(&self) {
        self.progress().begun = true;
    }

    /// A kind is to be listed.
    pub(super) fn awaits(&self, kind: &'static str) {
        self.progress().missing.insert(kind, Lack::UnderWay);
    }

    /// A kind was listed.
    pub(super) fn listed(&self, kind: &'static str) {
        self.progress().missing.remove(kind);
    }

    /// Listing a kind has failed. Returns whether that is news; of one that was listed before it is.
    pub(super) fn failed(&self, kind: &'static str, lack: Lack) -> bool {
        self.progress().missing.get_mut(kind).is_none_or(|known| {
            let before = std::mem::replace(known, lack);
            before != lack
        })
    }
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    #[test]
    fn what_was_not_listed_is_named_until_it_is() {
        let readiness = Readiness::default();
        assert!(readiness.missing().is_empty() && !readiness.is_ready());
        readiness.awaits("ContactPolicy");
        readiness.awaits("Namespace");
        assert!(readiness.failed("ContactPolicy", Lack::NotInstalled));
        assert!(!readiness.failed("ContactPolicy", Lack::NotInstalled), "it was told");
        readiness.listed("Namespace");
        let expected =
            "ContactPolicy: not installed: apply the output of `message-contact-operator crds`";
        assert_eq!(readiness.missing(), [expected]);
        readiness.listed("ContactPolicy");
        // A watch that ends later takes nothing back.
        assert!(readiness.failed("ContactPolicy", Lack::Failed));
        assert!(readiness.missing().is_empty());
    }

    #[test]
    fn a_kind_that_is_not_there_and_one_that_is_forbidden_are_told_apart() {
        let of = |code| {
            let refusal = Box::new(Status { code, ..Status::default() });
            let list = watcher::Error::InitialListFailed(kube::Error::Api(refusal.clone()));
            assert_eq!(Lack::of(&list), Lack::of(&watcher::Error::WatchError(refusal)));
            Lack::of(&list)
        };
        assert_eq!(of(404), Lack::NotInstalled);
        assert_eq!(of(403), Lack::NotAllowed);
        assert_eq!(of(500), Lack::Failed);
        assert_eq!(Lack::of(&watcher::Error::NoResourceVersion), Lack::Failed);
    }
}
