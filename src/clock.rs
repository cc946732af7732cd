//! The only place that reads the wall clock.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;

/// What time it is, and waiting until a time. Clones share one clock.
#[derive(Debug, Clone)]
pub struct Clock {
    /// How far this clock is ahead of the machine's.
    ahead: watch::Sender<SignedDuration>,
}

impl Clock {
    /// Longest sleep without a look at the wall clock. Timers stand still while a machine is
    /// suspended, and the wall clock may be set; a sleeper is late by this much at most.
    const LOOK_AFTER: Duration = Duration::from_mins(1);

    /// The machine's clock.
    #[must_use]
    pub fn system() -> Self {
        Self { ahead: watch::Sender::new(SignedDuration::ZERO) }
    }

    /// The time now.
    #[must_use]
    #[allow(clippy::disallowed_methods, reason = "everybody else takes the time from here")]
    pub fn now(&self) -> Timestamp {
        later(Timestamp::now(), *self.ahead.borrow())
    }

    /// Returns at or soon after that time; at once if it is past.
    pub async fn sleep_until(&self, at: Timestamp) {
        let mut ahead = self.ahead.subscribe();
        loop {
            ahead.mark_unchanged();
            let Ok(left) = Duration::try_from(at.duration_since(self.now())) else { return };
            if left.is_zero() {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(left.min(Self::LOOK_AFTER)) => {}
                _ = ahead.changed() => {}
            }
        }
    }

    /// Moves this clock forward, for tests that walk days. Sleepers look again at once.
    pub fn advance(&self, by: SignedDuration) {
        self.ahead.send_modify(|ahead| *ahead = ahead.saturating_add(by));
    }
}

/// That much later, or the last time that can be written down.
fn later(time: Timestamp, by: SignedDuration) -> Timestamp {
    time.saturating_add(by).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_sleeper_wakes_when_the_clock_is_moved_past_its_time() {
        let clock = Clock::system();
        let at = later(clock.now(), SignedDuration::from_hours(24));
        let sleeper = tokio::spawn({
            let clock = clock.clone();
            async move { clock.sleep_until(at).await }
        });
        for _ in 0..3 {
            tokio::task::yield_now().await;
            assert!(!sleeper.is_finished());
            clock.advance(SignedDuration::from_hours(8));
        }
        sleeper.await.expect("the sleeper ends");
        assert!(clock.now() >= at);
    }

    #[tokio::test]
    async fn a_time_in_the_past_is_not_waited_for() {
        let clock = Clock::system();
        clock.sleep_until(Timestamp::UNIX_EPOCH).await;
    }
}
