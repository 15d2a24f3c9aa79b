//! What the kernel does on nobody's behalf: kswapd and the flusher.
//!
//! Both run between two tasks' turns, when there is something to do, on the address space of the task
//! before ([`Cpus::enter_lazy_tlb`](crate::sched::cpu::Cpus::enter_lazy_tlb)); neither has an id or
//! shows in /proc.
//!
//! DIVERGENCE(kernel-threads-without-id): Linux's are tasks with ids of their own; here a process has
//! the id it would have in a fresh container, where they are not seen either.

use crate::kernel::Kernel;
use crate::time::{Nanos, SECOND};
use std::cell::Cell;

/// What hundredths of a second are counted in.
const CENTISECOND: Nanos = SECOND / 100;

/// When the flusher looks, and at what.
pub(crate) struct KernelThreads {
    last_flush: Cell<Nanos>,
    /// `vm.dirty_writeback_centisecs`: how often the flusher looks; not above 0: never.
    pub(crate) writeback_centisecs: Cell<i32>,
    /// `vm.dirty_expire_centisecs`: from what age on it writes pages.
    pub(crate) expire_centisecs: Cell<i32>,
}

impl Default for KernelThreads {
    fn default() -> Self {
        Self {
            last_flush: Cell::new(0),
            writeback_centisecs: Cell::new(500),
            expire_centisecs: Cell::new(3000),
        }
    }
}

/// Hundredths of a second as nanoseconds; nothing for fewer than none.
fn centiseconds(count: i32) -> Nanos {
    Nanos::try_from(count).unwrap_or(0) * CENTISECOND
}

impl Kernel {
    /// Lets the kernel's own threads run that have something to do.
    #[inline]
    pub(crate) fn run_kernel_threads(&self) {
        let now = self.now();
        self.memory.note_time(now);
        if self.memory.is_kswapd_wanted() {
            self.cpus.enter_lazy_tlb();
            self.memory.balance();
            self.nobody_waits();
        }
        let interval = centiseconds(self.kernel_threads.writeback_centisecs.get());
        let is_due = interval > 0 && now >= self.kernel_threads.last_flush.get() + interval;
        if is_due || self.memory.is_flusher_wanted() {
            self.flush(is_due);
        }
    }

    fn flush(&self, is_due: bool) {
        self.cpus.enter_lazy_tlb();
        if is_due {
            self.kernel_threads.last_flush.set(self.now());
            self.memory.flush_old(centiseconds(self.kernel_threads.expire_centisecs.get()));
        }
        self.memory.flush_background();
        self.nobody_waits();
    }

    /// For what the kernel's threads moved.
    fn nobody_waits(&self) {
        let _ = self.memory.take_io_wait();
    }
}
