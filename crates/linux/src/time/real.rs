//! Real time, for machines that are to keep up with the world: a seam to the host's clock.
//!
//! Without it a machine's clocks go with the instructions it executes, and time that nobody uses
//! is skipped. With it they never go behind the host's, and waiting takes as long as it says.
//! [`RealTime`] is supplied by whoever makes the machine; [`RealClock`] is the machine's end of it.
//! Neighbour: [`crate::sched::executor`] waits.

use super::{BOOT_REALTIME, Nanos};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// The clock of the world outside, and a way to wait for it.
pub trait RealTime: Send + Sync {
    /// Time since 1970-01-01 00:00:00 UTC; never less than before.
    fn now(&self) -> Duration;

    /// Returns after `time`.
    fn sleep(&self, time: Duration);
}

/// What a machine's clocks follow.
#[derive(Clone, Default)]
pub enum TimeConfig {
    /// The instructions executed: the same run shows the same times.
    #[default]
    Virtual,
    /// The host's clock. Such runs do not repeat.
    Real(Arc<dyn RealTime>),
}

impl fmt::Debug for TimeConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Virtual => "Virtual",
            Self::Real(_) => "Real",
        })
    }
}

/// The world's clock, counted from the start of the machine.
pub(crate) struct RealClock {
    source: Arc<dyn RealTime>,
    start: Duration,
}

impl RealClock {
    /// Starts now, if the machine is to have it.
    pub(crate) fn start(config: &TimeConfig) -> Option<Self> {
        match config {
            TimeConfig::Virtual => None,
            TimeConfig::Real(source) => {
                Some(Self { start: source.now(), source: Arc::clone(source) })
            }
        }
    }

    /// Time since the start of the machine.
    pub(crate) fn elapsed(&self) -> Nanos {
        nanos(self.source.now().saturating_sub(self.start))
    }

    /// Returns when `time` has passed.
    pub(crate) fn sleep(&self, time: Duration) {
        self.source.sleep(time);
    }

    /// How much later than [`BOOT_REALTIME`] the machine started.
    pub(crate) fn offset(&self) -> i64 {
        i64::try_from(nanos(self.start)).unwrap_or(i64::MAX).saturating_sub_unsigned(BOOT_REALTIME)
    }
}

fn nanos(time: Duration) -> Nanos {
    Nanos::try_from(time.as_nanos()).unwrap_or(Nanos::MAX)
}
