//! The real time that inodes are stamped with.
//!
//! [`Clock`] asks the machine's virtual clock; inodes keep a clone. It is `Send + Sync` because
//! inodes are, but answers only on the machine's own thread, where all file operations happen.

use crate::fs::stat::Timespec;
use send_wrapper::SendWrapper;
use std::sync::Arc;

type Source = Box<dyn Fn() -> u64>;

/// A handle on the machine's `CLOCK_REALTIME`.
#[derive(Clone)]
pub(crate) struct Clock(Arc<SendWrapper<Source>>);

impl Clock {
    /// A clock that reads nanoseconds since the epoch from `source`.
    pub(crate) fn new(source: impl Fn() -> u64 + 'static) -> Self {
        Self(Arc::new(SendWrapper::new(Box::new(source))))
    }

    /// Now.
    pub(crate) fn now(&self) -> Timespec {
        Timespec::from_nanos((self.0)())
    }
}
