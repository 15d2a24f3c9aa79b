//! A task: one thread of a guest program (Linux `task_struct`), and what it is made of.
//!
//! - [`Task`]: registers, address space, files, credentials, signals of one thread.
//! - [`ThreadGroup`] ([`group`]): the process: threads, children, limits, shared signals.
//! - [`creds`]: who it is. [`limits`]: resource limits.
//! - [`clone`]: how tasks come to be; [`exit`]: how they end; [`wait`]: how parents hear of it.
//! - [`run`]: the loop every task's coroutine is; [`stop`]: job control.

pub(crate) mod clone;
pub(crate) mod creds;
pub(crate) mod exit;
pub(crate) mod group;
pub(crate) mod limits;
pub(crate) mod pidfd;
pub(crate) mod rseq;
pub(crate) mod run;
pub(crate) mod stop;
pub(crate) mod wait;

use crate::fs::{ExecFile, FdTable, FsStruct, Ids, may_inspect};
use crate::host::Mm;
use crate::kernel::Kernel;
use crate::report::ExitStatus;
use crate::sched::Restart;
use crate::sched::ready::TaskWaker;
use crate::sched::wait::{Sleep, WaitQueue};
use crate::signal::action::SigHand;
use crate::signal::pending::Pending;
use crate::signal::{SigSet, Signal};
use crate::syscall::SysFuture;
use crate::time::Nanos;
pub(crate) use creds::{Capability, Creds};
pub(crate) use group::ThreadGroup;
use kilburn_addr::VirtAddr;
use kilburn_mm::{Caller, FutexKey, Rlimits};
use kilburn_riscv::Regs;
pub(crate) use limits::Resource;
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;

/// A thread id; that of the first thread is also the process id. Never 0.
pub(crate) type Tid = u32;

/// A task's coroutine.
pub(crate) type Coroutine = Pin<Box<dyn Future<Output = ()>>>;

/// How an interrupted call goes on: what `restart_syscall` runs.
pub(crate) type RestartFn = Box<dyn for<'a> FnOnce(&'a Rc<Task>) -> SysFuture<'a>>;

/// An alternate signal stack (`stack_t`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct AltStack {
    pub(crate) base: u64,
    pub(crate) flags: u32,
    pub(crate) size: u64,
}

impl AltStack {
    /// `SS_ONSTACK`
    pub(crate) const ONSTACK: u32 = 1;
    /// `SS_DISABLE`
    pub(crate) const DISABLE: u32 = 2;
    /// `SS_AUTODISARM`
    pub(crate) const AUTODISARM: u32 = 1 << 31;
    /// No alternate stack.
    pub(crate) const NONE: Self = Self { base: 0, flags: Self::DISABLE, size: 0 };

    /// Whether `sp` lies on it (Linux `__on_sig_stack`: a full-descending stack).
    pub(crate) fn contains(&self, sp: u64) -> bool {
        sp > self.base && sp - self.base <= self.size
    }
}

/// What a task counted.
#[derive(Debug, Default)]
pub(crate) struct Usage {
    /// Instructions retired in user mode.
    pub(crate) instructions: Cell<u64>,
    /// Time in user mode.
    pub(crate) user: Cell<Nanos>,
    /// Time in the kernel.
    pub(crate) system: Cell<Nanos>,
    pub(crate) voluntary_switches: Cell<u64>,
    pub(crate) involuntary_switches: Cell<u64>,
    pub(crate) syscalls: Cell<u64>,
}

/// Adds to a counter.
pub(crate) fn add(cell: &Cell<u64>, n: u64) {
    cell.set(cell.get() + n);
}

/// Signal state of one thread.
pub(crate) struct TaskSignals {
    pub(crate) blocked: Cell<SigSet>,
    /// Put back when the call that replaced `blocked` (sigsuspend, ppoll) is over.
    pub(crate) saved_blocked: Cell<Option<SigSet>>,
    pub(crate) pending: Pending,
    pub(crate) altstack: Cell<AltStack>,
    /// Signals that sigtimedwait waits for although they are blocked.
    pub(crate) waiting_for: Cell<SigSet>,
}

/// One thread of a guest program.
pub(crate) struct Task {
    kernel: Rc<Kernel>,
    tid: Cell<Tid>,
    group: Rc<ThreadGroup>,
    waker: Arc<TaskWaker>,
    pub(crate) sleep: Cell<Option<Sleep>>,
    pub(crate) coroutine: RefCell<Option<Coroutine>>,
    pub(crate) regs: RefCell<Box<Regs>>,
    mm: RefCell<Option<Arc<Mm>>>,
    files: RefCell<Option<Rc<FdTable>>>,
    fs: RefCell<Rc<FsStruct>>,
    creds: RefCell<Rc<Creds>>,
    sighand: RefCell<Rc<SigHand>>,
    pub(crate) signals: TaskSignals,
    comm: Cell<[u8; 16]>,
    /// How a call interrupted by a signal is to go on; taken on the way back to user mode.
    pub(crate) interrupted: Cell<Option<Restart>>,
    pub(crate) restart: RefCell<Option<RestartFn>>,
    /// The task asked to end (exit), or its group ends (exit_group, a killing signal).
    pub(crate) exiting: Cell<Option<ExitStatus>>,
    /// `CLONE_CHILD_CLEARTID`: zeroed and woken at exit.
    pub(crate) clear_child_tid: Cell<VirtAddr>,
    pub(crate) robust_list: Cell<VirtAddr>,
    /// The lock it waits to own.
    pub(crate) pi_blocked_on: Cell<Option<FutexKey>>,
    /// It ends and has passed its locks on: who waits for it waits in vain.
    pub(crate) left_futexes: Cell<bool>,
    pub(crate) rseq: Cell<Option<rseq::Registration>>,
    /// The program file (Linux `mm->exe_file`).
    pub(crate) exe: RefCell<Option<Rc<ExecFile>>>,
    /// Where `[vdso]` is; 0 without one.
    pub(crate) vdso: Cell<VirtAddr>,
    /// The parent of a vfork waits here until the child execs or exits.
    pub(crate) vfork_done: RefCell<Option<Rc<VforkDone>>>,
    /// Harts it may run on, bit n for hart n.
    pub(crate) affinity: Cell<u64>,
    /// The hart it ran on last.
    pub(crate) hart: Cell<usize>,
    /// It cannot run before this moment: end of its last slice, or when it was woken.
    pub(crate) available_at: Cell<Nanos>,
    pub(crate) usage: Usage,
    pub(crate) nice: Cell<i32>,
    pub(crate) policy: Cell<u32>,
    pub(crate) rt_priority: Cell<i32>,
    pub(crate) pdeath_signal: Cell<Option<Signal>>,
    pub(crate) timer_slack: Cell<u64>,
    /// What `PR_SET_TIMERSLACK` 0 goes back to: the parent's slack at fork.
    pub(crate) default_timer_slack: Cell<u64>,
    pub(crate) personality: Cell<u32>,
}

/// Tells a vfork's parent that it may go on.
#[derive(Default)]
pub(crate) struct VforkDone {
    pub(crate) done: Cell<bool>,
    pub(crate) queue: WaitQueue,
}

/// What a new task starts from.
pub(crate) struct TaskParts {
    pub(crate) tid: Tid,
    pub(crate) group: Rc<ThreadGroup>,
    pub(crate) regs: Box<Regs>,
    pub(crate) mm: Option<Arc<Mm>>,
    pub(crate) files: Rc<FdTable>,
    pub(crate) fs: Rc<FsStruct>,
    pub(crate) creds: Rc<Creds>,
    pub(crate) sighand: Rc<SigHand>,
    pub(crate) comm: [u8; 16],
}

impl Task {
    /// A task that nobody knows yet: [`Kernel::adopt`] makes it runnable.
    pub(crate) fn new(kernel: &Rc<Kernel>, parts: TaskParts) -> Rc<Self> {
        let TaskParts { tid, group, regs, mm, files, fs, creds, sighand, comm } = parts;
        Rc::new(Self {
            kernel: Rc::clone(kernel),
            tid: Cell::new(tid),
            group,
            waker: TaskWaker::new(tid, kernel.ready()),
            sleep: Cell::new(None),
            coroutine: RefCell::new(None),
            regs: RefCell::new(regs),
            mm: RefCell::new(mm),
            files: RefCell::new(Some(files)),
            fs: RefCell::new(fs),
            creds: RefCell::new(creds),
            sighand: RefCell::new(sighand),
            signals: TaskSignals {
                blocked: Cell::new(SigSet::EMPTY),
                saved_blocked: Cell::new(None),
                pending: Pending::default(),
                altstack: Cell::new(AltStack::NONE),
                waiting_for: Cell::new(SigSet::EMPTY),
            },
            comm: Cell::new(comm),
            interrupted: Cell::new(None),
            restart: RefCell::new(None),
            exiting: Cell::new(None),
            clear_child_tid: Cell::new(VirtAddr::ZERO),
            robust_list: Cell::new(VirtAddr::ZERO),
            pi_blocked_on: Cell::new(None),
            left_futexes: Cell::new(false),
            rseq: Cell::new(None),
            exe: RefCell::new(None),
            vdso: Cell::new(VirtAddr::ZERO),
            vfork_done: RefCell::new(None),
            affinity: Cell::new(u64::MAX),
            hart: Cell::new(0),
            available_at: Cell::new(kernel.now()),
            usage: Usage::default(),
            nice: Cell::new(0),
            policy: Cell::new(0),
            rt_priority: Cell::new(0),
            pdeath_signal: Cell::new(None),
            timer_slack: Cell::new(50_000),
            default_timer_slack: Cell::new(50_000),
            personality: Cell::new(0),
        })
    }

    /// The machine this task lives in.
    pub(crate) fn kernel(&self) -> &Rc<Kernel> {
        &self.kernel
    }

    /// Thread id.
    pub(crate) fn tid(&self) -> Tid {
        self.tid.get()
    }

    /// Process id.
    pub(crate) fn tgid(&self) -> Tid {
        self.group.tgid()
    }

    /// The process.
    pub(crate) fn group(&self) -> &Rc<ThreadGroup> {
        &self.group
    }

    /// Takes over the leader's id: exec by another thread.
    pub(crate) fn become_leader(&self) {
        for child in self.group.children.borrow().iter() {
            if child.parent_thread.get() == self.tid() {
                child.parent_thread.set(self.group.tgid());
            }
        }
        self.tid.set(self.group.tgid());
        self.waker.rename(self.group.tgid());
    }

    /// The handle that makes this task runnable.
    pub(crate) fn waker(&self) -> &Arc<TaskWaker> {
        &self.waker
    }

    /// Records that the task starts (or ends, `None`) to sleep; who sends a signal looks here.
    pub(crate) fn set_sleep(&self, sleep: Option<Sleep>) {
        if sleep.is_some() && self.sleep.get().is_none() {
            add(&self.usage.voluntary_switches, 1);
        }
        self.sleep.set(sleep);
    }

    /// The address space; `None` for a kernel thread and when it has exited.
    pub(crate) fn mm(&self) -> Option<Arc<Mm>> {
        self.mm.borrow().clone()
    }

    /// Calls `f` with the address space, without counting as one more user of it.
    pub(crate) fn with_mm<T>(&self, f: impl FnOnce(&Arc<Mm>) -> T) -> Option<T> {
        self.mm.borrow().as_ref().map(f)
    }

    /// Changes the address space: exec, exit. Answers the old one.
    pub(crate) fn replace_mm(&self, mm: Option<Arc<Mm>>) -> Option<Arc<Mm>> {
        self.mm.replace(mm)
    }

    /// Open files.
    ///
    /// # Panics
    /// When the task has exited: nobody may ask then.
    pub(crate) fn files(&self) -> Rc<FdTable> {
        self.try_files().expect("a living task has files")
    }

    /// Open files; `None` when the task has exited.
    pub(crate) fn try_files(&self) -> Option<Rc<FdTable>> {
        self.files.borrow().clone()
    }

    /// Changes the table of open files: exec, unshare, exit. Answers the old one.
    pub(crate) fn replace_files(&self, files: Option<Rc<FdTable>>) -> Option<Rc<FdTable>> {
        self.files.replace(files)
    }

    /// Root, working directory, umask.
    pub(crate) fn fs(&self) -> Rc<FsStruct> {
        Rc::clone(&self.fs.borrow())
    }

    /// Changes root, working directory and umask as a whole: unshare.
    pub(crate) fn replace_fs(&self, fs: Rc<FsStruct>) {
        self.fs.replace(fs);
    }

    /// Credentials.
    pub(crate) fn creds(&self) -> Rc<Creds> {
        Rc::clone(&self.creds.borrow())
    }

    /// Changes the credentials.
    pub(crate) fn set_creds(&self, creds: Creds) {
        self.creds.replace(Rc::new(creds));
    }

    /// Signal actions.
    pub(crate) fn sighand(&self) -> Rc<SigHand> {
        Rc::clone(&self.sighand.borrow())
    }

    /// Changes to other signal actions: exec.
    pub(crate) fn replace_sighand(&self, sighand: Rc<SigHand>) {
        self.sighand.replace(sighand);
    }

    /// The name, zero-padded (Linux `comm`).
    pub(crate) fn comm(&self) -> [u8; 16] {
        self.comm.get()
    }

    /// The name without padding, lossily decoded.
    pub(crate) fn comm_text(&self) -> String {
        let comm = self.comm.get();
        let len = comm.iter().position(|byte| *byte == 0).unwrap_or(16);
        String::from_utf8_lossy(&comm[..len]).into_owned()
    }

    /// Changes the name to the first 15 bytes of `name`.
    pub(crate) fn set_comm(&self, name: &[u8]) {
        let mut comm = [0; 16];
        let len = name.len().min(15);
        comm[..len].copy_from_slice(&name[..len]);
        self.comm.set(comm);
    }

    /// Soft limit of `resource`.
    pub(crate) fn rlimit(&self, resource: Resource) -> u64 {
        self.group.limits.get(resource).soft
    }

    /// CPU time it used.
    pub(crate) fn cpu_time(&self) -> Nanos {
        self.usage.user.get() + self.usage.system.get()
    }

    /// Whether this task may look into `target` and steer it (`PTRACE_MODE_ATTACH_REALCREDS`).
    pub(crate) fn may_attach(&self, target: &Self) -> bool {
        may_inspect(self, target, Ids::Real)
    }

    /// How the memory manager is to judge this task's calls.
    pub(crate) fn caller(&self) -> Caller {
        let creds = self.creds.borrow();
        Caller {
            rlimits: Rlimits {
                address_space: self.rlimit(Resource::As),
                data: self.rlimit(Resource::Data),
                data_max: self.group.limits.get(Resource::Data).hard,
                stack: self.rlimit(Resource::Stack),
                memlock: self.rlimit(Resource::Memlock),
            },
            can_lock: creds.has_cap(Capability::IpcLock),
            admin: creds.has_cap(Capability::SysAdmin),
            raw_io: creds.has_cap(Capability::SysRawio),
            read_implies_exec: self.personality.get() & READ_IMPLIES_EXEC != 0,
            userfault_thread: None,
        }
    }

    /// Has the call that is about to answer [`Restart::Block`] go on with `restart`.
    pub(crate) fn set_restart(&self, restart: RestartFn) {
        self.restart.replace(Some(restart));
    }

    /// Whether this task is the first of its process.
    pub(crate) fn is_leader(&self) -> bool {
        self.tid() == self.tgid()
    }
}

/// `READ_IMPLIES_EXEC`
pub(crate) const READ_IMPLIES_EXEC: u32 = 0x040_0000;
/// `ADDR_NO_RANDOMIZE`
pub(crate) const ADDR_NO_RANDOMIZE: u32 = 0x004_0000;
