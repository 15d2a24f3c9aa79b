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

/// `vm.dirty_writeback_centisecs`: how often the flusher looks.
const FLUSH_INTERVAL: Nanos = 5 * SECOND;

/// When the flusher looks next.
#[derive(Default)]
pub(crate) struct KernelThreads {
    next_flush: Cell<Nanos>,
}

impl Kernel {
    /// Lets the kernel's own threads run that have something to do.
    #[inline]
    pub(crate) fn run_kernel_threads(&self) {
        if self.memory.is_kswapd_wanted() {
            self.cpus.enter_lazy_tlb();
            self.memory.balance();
            // Nobody waits for what kswapd moved.
            let _ = self.memory.take_io_wait_ns();
        }
        if self.now() >= self.kernel_threads.next_flush.get() {
            self.flush_if_due();
        }
    }

    fn flush_if_due(&self) {
        self.kernel_threads.next_flush.set(self.now() + FLUSH_INTERVAL);
        self.cpus.enter_lazy_tlb();
        self.memory.write_back();
    }
}
