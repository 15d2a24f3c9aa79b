//! Virtual time: what a guest's clocks show, and what happens when a moment comes.
//!
//! Time is derived from executed instructions, never from the host: the same run shows the same
//! times. A machine that wants to keep up with the host's clock has a [`real`] one besides.
//! [`Nanos`] counts from the start of the machine (`CLOCK_MONOTONIC`). Neighbours: [`timers`] is the
//! queue of things to do later, [`posix`] the timers of a process; [`crate::sched`] moves the clock.

pub(crate) mod posix;
pub(crate) mod real;
pub(crate) mod timers;

pub(crate) use real::RealClock;
pub use real::{RealTime, TimeConfig};
pub(crate) use timers::{TimerId, Timers};

/// Nanoseconds since the machine started (`CLOCK_MONOTONIC`).
pub(crate) type Nanos = u64;

/// `CLOCK_REALTIME` at the start of the machine: 2026-01-01 00:00:00 UTC.
///
/// Fixed, because a run must not depend on when it happens.
pub(crate) const BOOT_REALTIME: Nanos = 1_767_225_600 * 1_000_000_000;

/// `USER_HZ`: clock ticks a second as programs see them.
pub(crate) const USER_HZ: u64 = 100;

/// Nanoseconds in a second.
pub(crate) const SECOND: Nanos = 1_000_000_000;

/// A time in clock ticks, as `times`, /proc and siginfo give it.
pub(crate) fn to_clock_ticks(time: Nanos) -> i64 {
    (time / (SECOND / USER_HZ)) as i64
}
