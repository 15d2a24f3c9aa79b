//! How a task ends (Linux kernel/exit.c: `do_exit`, `exit_notify`, `forget_original_parent`).

use crate::futex::pi;
use crate::report::ExitStatus;
use crate::sched::wait::{Sleep, WaitSet};
use crate::signal::Signal;
use crate::signal::action::{SIG_IGN, SaFlags};
use crate::signal::info::{Payload, SigInfo, code};
use crate::task::group::Totals;
use crate::task::{Task, ThreadGroup};
use crate::time::to_clock_ticks;
use kilburn_addr::{Errno, VirtAddr};
use std::rc::Rc;
use std::sync::Arc;

/// Bit of a wait status: a core was dumped.
const CORE_FLAG: i32 = 0x80;
/// Longest robust list that is followed.
const ROBUST_LIST_LIMIT: usize = 2048;

impl ExitStatus {
    /// The status as wait gives it.
    pub(crate) fn wait_status(self) -> i32 {
        match self {
            Self::Exited(status) => i32::from(status) << 8,
            Self::Killed(signal) => i32::from(signal),
            Self::Dumped(signal) => i32::from(signal) | CORE_FLAG,
        }
    }

    /// `si_code` and `si_status` of the parent's SIGCHLD.
    pub(crate) fn child_code(self) -> (i32, i32) {
        match self {
            Self::Exited(status) => (code::CLD_EXITED, i32::from(status)),
            Self::Killed(signal) => (code::CLD_KILLED, i32::from(signal)),
            Self::Dumped(signal) => (code::CLD_DUMPED, i32::from(signal)),
        }
    }
}

impl Task {
    /// Ends the task: memory, files, its place in the group; the last one's group becomes a
    /// zombie and the parent hears of it.
    pub(crate) async fn exit(self: &Rc<Self>, status: ExitStatus) {
        self.release_memory().await;
        let files = self.replace_files(None);
        drop(files);
        self.finish_vfork();

        let kernel = Rc::clone(self.kernel());
        let group = Rc::clone(self.group());
        let mut totals = group.dead_threads.get();
        totals.add(&Totals::of(self));
        group.dead_threads.set(totals);
        group.uid.set(self.creds().uid);
        *group.name.borrow_mut() = self.comm_text();
        group.threads.borrow_mut().retain(|thread| !Rc::ptr_eq(thread, self));
        kernel.forget_task(self.tid());
        group.thread_gone.wake_all();
        if let Some(tracer) = &kernel.tracer {
            tracer.exited(self.tid(), group.group_exit.get().unwrap_or(status));
        }
        if group.threads.borrow().is_empty() {
            let status = group.group_exit.get().unwrap_or(status);
            kernel.reparent_children(&group);
            kernel.note_process_end(&group, status);
            group.finish(&kernel, status, self);
        } else {
            self.hand_over_children();
            // A thread less may be what a stop was waiting for.
            group.notice_stop();
        }
    }

    /// Children of a thread that ends become those of another thread of the process, and get the
    /// signal they asked for at their parent's death (Linux `forget_original_parent`).
    fn hand_over_children(&self) {
        let group = self.group();
        let Some(heir) = group.first_thread() else { return };
        let children = group.children.borrow().clone();
        for child in children.iter().filter(|child| child.parent_thread.get() == self.tid()) {
            child.parent_thread.set(heir.tid());
            child.signal_parent_death();
        }
    }

    /// Gives up the address space: exit, and the old one at exec (Linux `mm_release`, `exit_mm`).
    pub(crate) async fn release_memory(self: &Rc<Self>) {
        self.walk_robust_list().await;
        // From here on nobody waits for this task to release anything.
        self.left_futexes.set(true);
        self.kernel().futexes().release_locks_of(self);
        self.clear_tid().await;
        let Some(mm) = self.replace_mm(None) else { return };
        let last_thread = self.group().threads.borrow().len() == 1;
        if last_thread {
            self.group().leave_mm(&mm);
        }
        self.kernel().note_mm_release(self, &mm);
        drop(mm);
    }

    async fn clear_tid(&self) {
        let addr = self.clear_child_tid.replace(VirtAddr::ZERO);
        let Some(mm) = self.mm() else { return };
        if addr == VirtAddr::ZERO || Arc::strong_count(&mm) < 3 {
            // Nobody else is in this address space (the task's own and `mm` are two).
            return;
        }
        drop(mm);
        if self.copy_out(addr, &0_u32.to_le_bytes()).await.is_ok() {
            self.kernel().futexes().wake_at(self, addr, 1);
        }
    }

    /// Lets the parent of a vfork go on.
    pub(crate) fn finish_vfork(&self) {
        if let Some(vfork) = self.vfork_done.borrow_mut().take() {
            vfork.done.set(true);
            vfork.queue.wake_all();
        }
    }

    /// Marks the futexes this thread holds as left by a dead owner (Linux `exit_robust_list`).
    async fn walk_robust_list(self: &Rc<Self>) {
        let head = self.robust_list.replace(VirtAddr::ZERO);
        if head == VirtAddr::ZERO || self.mm().is_none() {
            return;
        }
        // A list that leads nowhere ends the walk, as in Linux; nobody is told.
        let _ = self.try_robust_list(head).await;
    }

    async fn try_robust_list(self: &Rc<Self>, head: VirtAddr) -> Result<(), Errno> {
        // struct robust_list_head { list.next, futex_offset, list_op_pending }; bit 0 of a link
        // marks a lock of FUTEX_LOCK_PI.
        let [next, offset, pending]: [u64; 3] = self.read_struct(head).await?;
        let word_of = |link: u64| VirtAddr::new((link & !1).wrapping_add(offset));
        let mut link = next;
        for _ in 0..ROBUST_LIST_LIMIT {
            if link & !1 == head.get() {
                break;
            }
            let following: Result<u64, Errno> = self.read_struct(VirtAddr::new(link & !1)).await;
            if link & !1 != pending & !1 {
                pi::owner_died(self, word_of(link), link & 1 != 0, pi::Entry::Listed)?;
            }
            link = following?;
        }
        if pending & !1 != 0 {
            pi::owner_died(self, word_of(pending), pending & 1 != 0, pi::Entry::Pending)?;
        }
        Ok(())
    }

    /// Ends all other threads of the group and waits until they are gone: exec.
    ///
    /// # Errors
    /// EAGAIN when the group is being ended itself.
    pub(crate) async fn end_other_threads(self: &Rc<Self>) -> Result<(), Errno> {
        let group = Rc::clone(self.group());
        if group.group_exit.get().is_some() {
            return Err(Errno::EAGAIN);
        }
        for thread in group.living() {
            if !Rc::ptr_eq(&thread, self) {
                thread.exiting.set(Some(ExitStatus::Killed(Signal::SIGKILL.number())));
                thread.signal_wake_up();
            }
        }
        group.resumed.wake_all();
        while group.threads.borrow().len() > 1 {
            let mut set = WaitSet::new(self);
            set.add(&group.thread_gone);
            if group.threads.borrow().len() > 1 {
                set.wait(Sleep::Killable, None).await;
            }
            if self.fatal_signal_pending() {
                return Err(Errno::EAGAIN);
            }
        }
        Ok(())
    }
}

impl ThreadGroup {
    /// Sends what `PR_SET_PDEATHSIG` asked for to each thread that asked.
    pub(crate) fn signal_parent_death(&self) {
        for thread in self.living() {
            if let Some(signal) = thread.pdeath_signal.get() {
                let _ = self.send(SigInfo { code: code::SI_USER, ..SigInfo::kernel(signal) });
            }
        }
    }

    /// The last thread is gone: zombie, or nothing at all when the parent does not care.
    fn finish(self: &Rc<Self>, kernel: &crate::kernel::Kernel, status: ExitStatus, last: &Task) {
        self.zombie.set(Some(status));
        self.change.set(None);
        kernel.cancel_timers_of(self);
        let Some(parent) = self.parent() else {
            kernel.forget_group(self);
            return;
        };
        let (ignored, signal) = match (parent.first_thread(), self.exit_signal.get()) {
            (Some(task), Some(Signal::SIGCHLD)) => {
                let action = task.sighand().get(Signal::SIGCHLD);
                let ignored =
                    action.handler == SIG_IGN || action.flags.contains(SaFlags::NOCLDWAIT);
                (ignored, (action.handler != SIG_IGN).then_some(Signal::SIGCHLD))
            }
            (_, signal) => (false, signal),
        };
        if let Some(signal) = signal {
            let (code, status) = status.child_code();
            let totals = self.dead_threads.get();
            let payload = Payload::Child {
                pid: self.tgid(),
                uid: last.creds().uid,
                status,
                utime: to_clock_ticks(totals.user),
                stime: to_clock_ticks(totals.system),
            };
            let _ = parent.send(SigInfo { signal, code, payload });
        }
        if ignored {
            // What nobody waits for counts in nobody's figures.
            parent.forget_child(kernel, self);
        }
        parent.child_changed.wake_all();
        self.thread_gone.wake_all();
        self.cpu_passed.wake_all();
    }

    /// A zombie child was waited for: its figures are added to ours, and it is forgotten.
    pub(crate) fn reap(&self, kernel: &crate::kernel::Kernel, child: &Rc<Self>) {
        let mut waited = self.waited.get();
        waited.add(&child.dead_threads.get());
        waited.add(&child.waited.get());
        self.waited.set(waited);
        self.forget_child(kernel, child);
    }

    /// Forgets a zombie child for good (Linux `release_task`).
    fn forget_child(&self, kernel: &crate::kernel::Kernel, child: &Rc<Self>) {
        self.children.borrow_mut().retain(|other| !Rc::ptr_eq(other, child));
        kernel.forget_group(child);
    }
}
