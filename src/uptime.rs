//! Time by a clock that nobody can set, and that goes on while the machine is suspended: by it is
//! judged who may still act.

use std::time::Duration;

/// A time since the machine has started, suspended or not.
pub type Moment = Duration;

/// The time now. `CLOCK_BOOTTIME` goes on while the machine is suspended: timers and
/// `std::time::Instant` stand still meanwhile, and a holder that was suspended would take a lease for
/// its own that another one has long had.
#[must_use]
pub fn now() -> Moment {
    #[cfg(target_os = "linux")]
    const CLOCK: rustix::time::ClockId = rustix::time::ClockId::Boottime;
    // There this one goes on, too.
    #[cfg(not(target_os = "linux"))]
    const CLOCK: rustix::time::ClockId = rustix::time::ClockId::Monotonic;
    // Neither clock is ever before the start.
    Duration::try_from(rustix::time::clock_gettime(CLOCK)).unwrap_or_default()
}
