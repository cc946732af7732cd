//! Where the acts play: everything that happens in the parts comes into view while an act waits.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Result, bail};
use directory_simulator::CallRecord;
use jiff::Timestamp;
use tokio::time::{Instant, sleep};

use crate::acts::Failure;
use crate::parts::Parts;
use crate::screen::Screen;
use crate::view::{self, Contacts};

/// How long an act waits for anything. Generous: it only bounds a failure.
const PATIENCE: Duration = Duration::from_mins(1);

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(40);

/// Between two looks at the contacts: they are all read.
const CONTACTS_EVERY: Duration = Duration::from_millis(160);

/// The parts, and what was shown of them.
pub(crate) struct Stage<'a> {
    pub screen: &'a Screen,
    pub parts: Parts,
    /// How the acts went so far; `None` was not played.
    pub results: Vec<(String, Option<bool>)>,
    calls: Vec<CallRecord>,
    shown: ShownCalls,
    contacts_at: Option<Instant>,
}

/// A moment, for [`Stage::calls_since`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mark {
    calls: usize,
    /// By the simulator's clock, as calls are.
    pub at: Timestamp,
}

impl<'a> Stage<'a> {
    pub(crate) fn new(screen: &'a Screen, parts: Parts) -> Self {
        Self {
            screen,
            parts,
            results: Vec::new(),
            calls: Vec::new(),
            shown: ShownCalls::default(),
            contacts_at: None,
        }
    }

    /// Whether an act did not go as it should.
    pub(crate) fn acts_failed(&self) -> bool {
        self.results.iter().any(|(_, happened)| *happened == Some(false))
    }

    /// Whether every act went as it should.
    pub(crate) fn all_acts_played(&self) -> bool {
        !self.results.is_empty() && self.results.iter().all(|(_, happened)| *happened == Some(true))
    }

    pub(crate) fn into_parts(self) -> Parts {
        self.parts
    }

    /// This moment.
    ///
    /// # Errors
    /// As [`Self::until`], without the waiting.
    pub(crate) fn mark(&mut self) -> Result<Mark> {
        self.show_calls(|_| true)?;
        Ok(Mark { calls: self.calls.len(), at: self.parts.simulator.now() })
    }

    /// The calls that have ended since then, and were shown.
    pub(crate) fn calls_since(&self, mark: Mark) -> &[CallRecord] {
        &self.calls[mark.calls..]
    }

    /// Waits until `look` answers `Ok`, and shows what happens meanwhile. An `Err` tells what was
    /// seen instead.
    ///
    /// # Errors
    /// It took too long, the operator has ended, or nobody reads what is shown.
    pub(crate) async fn until<T>(
        &mut self,
        what: &str,
        mut look: impl AsyncFnMut(&Parts) -> Result<T>,
    ) -> Result<T> {
        let end = Instant::now() + PATIENCE;
        loop {
            let looked = look(&self.parts).await;
            self.show_calls(|_| true)?;
            let found = looked.is_ok();
            self.show_contacts(found).await?;
            if let Some(status) = self.parts.operator.ended()? {
                bail!("the operator has ended by itself: {status}");
            }
            match looked {
                Ok(found) => return Ok(found),
                Err(seen) if Instant::now() > end => {
                    bail!("waited {PATIENCE:?} in vain: {what}\n  last seen: {seen:#}");
                }
                Err(_) => sleep(PAUSE).await,
            }
        }
    }

    /// Tells that something holds, or fails with what was seen instead.
    ///
    /// # Errors
    /// It does not hold.
    pub(crate) fn check(
        &self,
        holds: bool,
        claim: &str,
        seen: impl FnOnce() -> String,
    ) -> Result<()> {
        if holds {
            self.screen.checked(claim)
        } else {
            bail!("it is not true that {claim}\n  last seen: {}", seen())
        }
    }

    /// Shows what happens, for ever. Polls that found everything in order are left out.
    ///
    /// # Errors
    /// The operator has ended, or nobody reads what is shown.
    pub(crate) async fn watch(&mut self) -> Result<()> {
        loop {
            self.show_calls(|call| !call.action.starts_with("List") || call.status != Some(200))?;
            self.calls.clear();
            self.show_contacts(false).await?;
            if let Some(status) = self.parts.operator.ended()? {
                bail!(
                    "the operator has ended by itself: {status}\n{}",
                    self.parts.operator.log_tail()
                );
            }
            sleep(PAUSE).await;
        }
    }

    /// What the acts have shown, and how to go on from here.
    ///
    /// # Errors
    /// Nobody reads it.
    pub(crate) fn tell_result(&self, failure: Option<&Failure>, once: bool) -> Result<()> {
        let Self { screen, parts, .. } = self;
        screen.heading("All in all")?;
        screen.last_contacts()?;
        screen.line("")?;
        screen.results(&self.results)?;
        screen.line("")?;
        if let Some(Failure { act, error }) = failure {
            screen.failed(&format!("{act}: {error:#}"))?;
            return screen.note(&parts.operator.log_tail());
        }
        screen.note(&format!("the operator's log:  {}", parts.operator.log().display()))?;
        if once {
            return Ok(());
        }
        let control = parts.simulator.control();
        screen
            .note(&format!("the outbox:          {control}/  what the cloud mails; click there"))?;
        screen.line("")?;
        screen.note("Go on by yourself; Ctrl-C ends it:")?;
        screen.line(&format!(
            "    export KUBECONFIG={}",
            parts.cluster.kubeconfig_path().display()
        ))?;
        screen.line("    kubectl get mc -A -o wide")
    }

    fn show_calls(&mut self, worth_showing: impl Fn(&CallRecord) -> bool) -> Result<()> {
        let fresh = self.shown.fresh(self.parts.simulator.calls_since(self.shown.floor));
        for call in fresh {
            if worth_showing(&call) {
                self.screen.call(&view::call(&call), call.status == Some(200))?;
            }
            self.calls.push(call);
        }
        Ok(())
    }

    async fn show_contacts(&mut self, now: bool) -> Result<()> {
        let is_due = self.contacts_at.is_none_or(|at| at.elapsed() > CONTACTS_EVERY);
        if now || is_due {
            self.contacts_at = Some(Instant::now());
            self.screen.contacts(Contacts::look(&self.parts.client).await?)?;
        }
        Ok(())
    }
}

/// Which calls were shown already. They are numbered as they arrive and listed as they end, so
/// the newest number does not mean that all before it were there.
#[derive(Debug, Default)]
struct ShownCalls {
    /// All up to this one.
    floor: u64,
    /// And these.
    beyond: BTreeSet<u64>,
}

impl ShownCalls {
    fn fresh(&mut self, mut calls: Vec<CallRecord>) -> Vec<CallRecord> {
        calls.retain(|call| self.beyond.insert(call.number));
        while self.beyond.remove(&(self.floor + 1)) {
            self.floor += 1;
        }
        calls
    }
}
