//! What the kernel does on nobody's behalf: kthreadd, kswapd and the flusher (Linux 6.18 kernel/kthread.c, mm/vmscan.c,
//! fs/fs-writeback.c).
//!
//! They are tasks like any other, with ids from 2 on, but without an address space: they run on the tables of the task before
//! ([`Cpus::enter_lazy_tlb`](crate::sched::cpu::Cpus::enter_lazy_tlb)), take no signals and show as `PF_KTHREAD`. kswapd sleeps until
//! free frames are below the `low` mark; the flusher until too many pages are dirty, or some for too long. What they move takes time of the machine's
//! while others run.
//!
//! The flusher has no timer: a machine whose programs all wait for each other ends, whatever is dirty. [`Kernel::next_flush`] has an idle machine
//! wake it in time.

use crate::fs::{FdTable, FsStruct};
use crate::host::Memory;
use crate::kernel::Kernel;
use crate::sched::wait::{Sleep, WaitQueue, WaitSet};
use crate::signal::action::SigHand;
use crate::task::limits::Limits;
use crate::task::{Coroutine, Creds, Task, TaskParts, ThreadGroup, Tid, add};
use crate::time::{Nanos, SECOND};
use kilburn_addr::PAGE_SIZE;
use kilburn_riscv::Regs;
use std::cell::Cell;
use std::rc::Rc;

/// What hundredths of a second are counted in.
const CENTISECOND: Nanos = SECOND / 100;
/// Time of a processor that a page takes which is reclaimed or written.
const PAGE_COST_NS: Nanos = 1000;

/// One of the kernel's own threads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum KernelThread {
    /// The others' parent.
    Kthreadd,
    /// Keeps frames free.
    Kswapd,
    /// Writes dirty pages.
    Flusher,
}

impl KernelThread {
    /// In the order of their ids.
    const ALL: [Self; 3] = [Self::Kthreadd, Self::Kswapd, Self::Flusher];

    fn name(self) -> &'static [u8] {
        match self {
            Self::Kthreadd => b"kthreadd",
            Self::Kswapd => b"kswapd0",
            Self::Flusher => b"kworker/u2:0",
        }
    }

    /// `task_struct::flags`, as a real kernel's /proc/PID/stat shows them.
    pub(crate) fn flags(self) -> u32 {
        /// `PF_KTHREAD | PF_FORKNOEXEC`
        const KTHREAD: u32 = 0x20_0040;
        KTHREAD
            | match self {
                // PF_NOFREEZE
                Self::Kthreadd => 0x8000,
                // PF_KSWAPD | PF_MEMALLOC
                Self::Kswapd => 0x2_0800,
                // PF_NO_SETAFFINITY | PF_NOFREEZE | PF_WQ_WORKER
                Self::Flusher => 0x400_8020,
            }
    }
}

/// When they have something to do.
pub(crate) struct KernelThreads {
    /// How many there are.
    pub(crate) count: Cell<usize>,
    kswapd: WaitQueue,
    flusher: WaitQueue,
    last_flush: Cell<Nanos>,
    /// `vm.dirty_writeback_centisecs`: how often the flusher looks; not above 0: never.
    pub(crate) writeback_centisecs: Cell<i32>,
    /// `vm.dirty_expire_centisecs`: from what age on it writes pages.
    pub(crate) expire_centisecs: Cell<i32>,
}

impl Default for KernelThreads {
    fn default() -> Self {
        Self {
            count: Cell::new(0),
            kswapd: WaitQueue::new(),
            flusher: WaitQueue::new(),
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
    /// Makes the kernel's own threads; they have the first ids after init's.
    pub(crate) fn start_kernel_threads(self: &Rc<Self>) {
        let mut parent = None;
        for (tid, which) in (2..).zip(KernelThread::ALL) {
            let task = self.kernel_thread(tid, which, parent.as_ref());
            parent.get_or_insert_with(|| Rc::clone(task.group()));
            let main: Option<Coroutine> = match which {
                KernelThread::Kthreadd => None,
                KernelThread::Kswapd => Some(Box::pin(kswapd(Rc::clone(&task)))),
                KernelThread::Flusher => Some(Box::pin(flusher(Rc::clone(&task)))),
            };
            if main.is_some() {
                task.coroutine.replace(main);
                task.waker().wake();
            } else {
                // Nobody asks it for more threads.
                task.set_sleep(Some(Sleep::Interruptible));
            }
        }
    }

    fn kernel_thread(
        self: &Rc<Self>,
        tid: Tid,
        which: KernelThread,
        parent: Option<&Rc<ThreadGroup>>,
    ) -> Rc<Task> {
        let bytes = self.memory.counts().total * PAGE_SIZE;
        let group = ThreadGroup::new(tid, Limits::boot(bytes), self.now());
        group.kernel_thread.set(Some(which));
        group.pgid.set(0);
        group.sid.set(0);
        match parent {
            Some(parent) => drop(group.parent.replace(Rc::downgrade(parent))),
            None => group.exit_signal.set(None),
        }
        let root = self.vfs().root().clone();
        let parts = TaskParts {
            tid,
            group,
            regs: Box::new(Regs::new()),
            mm: None,
            files: FdTable::new(self.vfs().locks()),
            fs: FsStruct::new(root.clone(), root),
            creds: Rc::new(Creds::root()),
            sighand: SigHand::new_ignoring(),
            comm: [0; 16],
        };
        let task = Task::new(self, parts);
        task.set_comm(which.name());
        self.reserve_tid(tid);
        self.adopt(&task);
        self.kernel_threads.count.set(self.kernel_threads.count.get() + 1);
        task
    }

    /// Wakes the kernel's own threads that have something to do.
    #[inline]
    pub(crate) fn wake_kernel_threads(&self) {
        self.memory.note_time(self.now());
        if self.memory.is_kswapd_wanted() {
            self.kernel_threads.kswapd.wake_all();
        }
        if self.is_flusher_wanted() {
            self.kernel_threads.flusher.wake_all();
        }
    }

    fn is_flusher_wanted(&self) -> bool {
        self.memory.is_flusher_wanted() || self.now() >= self.next_flush()
    }

    /// When the flusher looks for old pages next; never while no page is dirty.
    pub(crate) fn next_flush(&self) -> Nanos {
        let interval = centiseconds(self.kernel_threads.writeback_centisecs.get());
        if interval == 0 || self.memory.dirty() == 0 {
            return Nanos::MAX;
        }
        self.kernel_threads.last_flush.get().saturating_add(interval)
    }
}

async fn kswapd(task: Rc<Task>) {
    let kernel = Rc::clone(task.kernel());
    loop {
        let wanted = || kernel.memory.is_kswapd_wanted();
        task.wait_for_work(&kernel.kernel_threads.kswapd, Sleep::Interruptible, wanted).await;
        kernel.memory.begin_balance();
        loop {
            let went = kernel.memory.balance_batch();
            let wait = kernel.memory.take_io_wait().total_ns();
            task.move_pages(went, wait).await;
            if went == 0 {
                break;
            }
        }
    }
}

async fn flusher(task: Rc<Task>) {
    let kernel = Rc::clone(task.kernel());
    loop {
        let wanted = || kernel.is_flusher_wanted();
        task.wait_for_work(&kernel.kernel_threads.flusher, Sleep::Idle, wanted).await;
        let before = kernel.memory.vm_stat().nr_written;
        let now = kernel.now();
        if now >= kernel.next_flush() {
            kernel.kernel_threads.last_flush.set(now);
            let expire = centiseconds(kernel.kernel_threads.expire_centisecs.get());
            kernel.memory.flush_old(expire);
        }
        kernel.memory.flush_background();
        let pages = kernel.memory.vm_stat().nr_written - before;
        let wait = kernel.memory.take_io_wait().total_ns() + Memory::store_time_ns(pages);
        task.move_pages(pages, wait).await;
    }
}

impl Task {
    async fn wait_for_work(
        self: &Rc<Self>,
        queue: &WaitQueue,
        sleep: Sleep,
        wanted: impl Fn() -> bool,
    ) {
        let mut set = WaitSet::new(self);
        set.add(queue);
        set.wait_until(sleep, None, wanted).await;
    }

    /// `pages` have been moved, which took the processor's time, and `wait_ns` of a store's.
    async fn move_pages(self: &Rc<Self>, pages: u64, wait_ns: Nanos) {
        let kernel = self.kernel();
        kernel.charge(self, pages * PAGE_COST_NS);
        if wait_ns > 0 {
            let until = kernel.now() + wait_ns;
            WaitSet::new(self).wait(Sleep::Killable, Some(until)).await;
        } else if kernel.slice_used_up() {
            add(&self.usage.involuntary_switches, u64::from(!kernel.ready().is_empty()));
            self.give_way().await;
        }
    }
}
