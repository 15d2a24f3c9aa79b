//! eventfd: a counter as a file.
//!
//! Source: Linux 6.18 fs/eventfd.c.

use crate::fs::file::{FileOps, OpenFile, PollEvents};
use crate::sched::wait::WaitQueue;
use kilburn_addr::Errno;
use std::any::Any;
use std::cell::Cell;

/// What a read takes from the counter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Take {
    /// Everything.
    All,
    /// One (`EFD_SEMAPHORE`).
    One,
}

/// A counter.
pub(crate) struct EventFd {
    count: Cell<u64>,
    take: Take,
    id: u64,
    queue: WaitQueue,
}

impl EventFd {
    /// A counter that starts at `count`; `id` tells it from others in fdinfo.
    pub(crate) fn new(count: u64, take: Take, id: u64) -> Self {
        Self { count: Cell::new(count), take, id, queue: WaitQueue::new() }
    }
}

impl FileOps for EventFd {
    fn is_stream(&self) -> bool {
        true
    }

    fn read(&self, _file: &OpenFile, _pos: u64, into: &mut [u8]) -> Result<usize, Errno> {
        if into.len() < 8 {
            return Err(Errno::EINVAL);
        }
        let count = self.count.get();
        if count == 0 {
            return Err(Errno::EAGAIN);
        }
        let taken = if self.take == Take::One { 1 } else { count };
        self.count.set(count - taken);
        into[..8].copy_from_slice(&taken.to_le_bytes());
        self.queue.wake_all();
        Ok(8)
    }

    fn write(&self, _file: &OpenFile, _pos: u64, from: &[u8]) -> Result<usize, Errno> {
        let word = from.get(..8).and_then(|word| word.try_into().ok()).ok_or(Errno::EINVAL)?;
        let add = u64::from_le_bytes(word);
        if add == u64::MAX {
            return Err(Errno::EINVAL);
        }
        match self.count.get().checked_add(add).filter(|sum| *sum < u64::MAX) {
            Some(sum) => self.count.set(sum),
            None => return Err(Errno::EAGAIN),
        }
        if add > 0 {
            self.queue.wake_all();
        }
        Ok(8)
    }

    fn poll(&self, _file: &OpenFile) -> PollEvents {
        let count = self.count.get();
        let mut ready = PollEvents::empty();
        // Linux reports IN and OUT only, not their RDNORM and WRNORM twins.
        if count > 0 {
            ready |= PollEvents::IN;
        }
        if count < u64::MAX - 1 {
            ready |= PollEvents::OUT;
        }
        ready
    }

    fn wait_queue(&self) -> Option<WaitQueue> {
        Some(self.queue.clone())
    }

    fn fdinfo(&self) -> String {
        let semaphore = u32::from(self.take == Take::One);
        let (count, id) = (self.count.get(), self.id);
        format!("eventfd-count: {count:16x}\neventfd-id: {id}\neventfd-semaphore: {semaphore}\n")
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
