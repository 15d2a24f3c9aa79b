//! A process: a group of threads with what they share (Linux `signal_struct`).
//!
//! [`ThreadGroup`] lives from its first thread's birth until its parent has waited for it. While
//! it has threads it is alive; then it is a zombie, known by its id and its exit status alone.

use crate::cgroup::Cgroup;
use crate::host::Mm;
use crate::kernel::Kernel;
use crate::kernel_threads::KernelThread;
use crate::report::ExitStatus;
use crate::sched::wait::WaitQueue;
use crate::signal::Signal;
use crate::signal::pending::Pending;
use crate::task::limits::Limits;
use crate::task::{Task, Tid};
use crate::time::Nanos;
use crate::time::posix::PosixTimers;
use crate::time::timers::TimerId;
use kilburn_mm::{DumpFilter, MemcgId};
use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};

/// Figures of ended threads and of waited-for children (`signal->utime`, `cutime`, ...).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Totals {
    pub(crate) user: Nanos,
    pub(crate) system: Nanos,
    pub(crate) minor_faults: u64,
    pub(crate) major_faults: u64,
    pub(crate) voluntary_switches: u64,
    pub(crate) involuntary_switches: u64,
    pub(crate) max_rss_kib: u64,
    pub(crate) instructions: u64,
    pub(crate) syscalls: u64,
}

impl Totals {
    /// Adds `other`; the highest resident size of the two stays.
    pub(crate) fn add(&mut self, other: &Self) {
        self.user += other.user;
        self.system += other.system;
        self.minor_faults += other.minor_faults;
        self.major_faults += other.major_faults;
        self.voluntary_switches += other.voluntary_switches;
        self.involuntary_switches += other.involuntary_switches;
        self.max_rss_kib = self.max_rss_kib.max(other.max_rss_kib);
        self.instructions += other.instructions;
        self.syscalls += other.syscalls;
    }

    /// Figures of a running task.
    pub(crate) fn of(task: &Task) -> Self {
        let usage = &task.usage;
        Self {
            user: usage.user.get(),
            system: usage.system.get(),
            minor_faults: 0,
            major_faults: 0,
            voluntary_switches: usage.voluntary_switches.get(),
            involuntary_switches: usage.involuntary_switches.get(),
            max_rss_kib: 0,
            instructions: usage.instructions.get(),
            syscalls: usage.syscalls.get(),
        }
    }
}

/// How a process is stopped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum StopState {
    Running,
    /// A stop signal was taken; threads stop as they notice.
    Stopping(Signal),
    /// All threads have stopped.
    Stopped(Signal),
}

/// A change that a parent can wait for once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum StateChange {
    Stopped(Signal),
    Continued,
}

/// An interval timer of a process (`ITIMER_*`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct IntervalTimer {
    /// Moment of the next expiry, in the timer's own clock.
    pub(crate) next: Option<Nanos>,
    pub(crate) interval: Nanos,
    pub(crate) timer: Option<TimerId>,
}

/// Faults of `mm` that were resolved: minor, major (Linux `min_flt`, `maj_flt`).
fn faults(mm: &Mm) -> (u64, u64) {
    let stats = mm.stats();
    let all = stats.demand_zero
        + stats.zero_page
        + stats.file_read
        + stats.file_cow
        + stats.file_shared
        + stats.cow_copy
        + stats.cow_reuse
        + stats.device
        + stats.swap
        + stats.spurious;
    (all.saturating_sub(stats.major), stats.major)
}

/// A controlling terminal, as far as processes know it: the file layer's business.
pub(crate) type Tty = Rc<dyn std::any::Any>;

/// A process.
pub(crate) struct ThreadGroup {
    tgid: Tid,
    /// Living threads, the leader first.
    pub(crate) threads: RefCell<Vec<Rc<Task>>>,
    pub(crate) parent: RefCell<Weak<ThreadGroup>>,
    /// Children, zombies included, oldest first.
    pub(crate) children: RefCell<Vec<Rc<ThreadGroup>>>,
    pub(crate) pgid: Cell<Tid>,
    pub(crate) sid: Cell<Tid>,
    /// Sent to the parent at the end; `None`: nothing is sent, and only `__WALL` waits see it.
    pub(crate) exit_signal: Cell<Option<Signal>>,
    pub(crate) pending: Pending,
    /// Children that changed state wake who waits here.
    pub(crate) child_changed: WaitQueue,
    /// The whole group ends with this status (`SIGNAL_GROUP_EXIT`).
    pub(crate) group_exit: Cell<Option<ExitStatus>>,
    /// Status the parent gets, once no thread is left.
    pub(crate) zombie: Cell<Option<ExitStatus>>,
    pub(crate) stop: Cell<StopState>,
    /// Threads that have stopped.
    pub(crate) stopped_threads: Cell<usize>,
    /// Stopped threads wait here.
    pub(crate) resumed: WaitQueue,
    /// What a parent has not been told by wait yet.
    pub(crate) change: Cell<Option<StateChange>>,
    /// The parent is still to be sent a SIGCHLD for that (`SIGNAL_CLD_CONTINUED`).
    pub(crate) tell_continued: Cell<bool>,
    pub(crate) limits: Limits,
    pub(crate) real_timer: Cell<IntervalTimer>,
    pub(crate) virtual_timer: Cell<IntervalTimer>,
    pub(crate) prof_timer: Cell<IntervalTimer>,
    pub(crate) posix_timers: PosixTimers,
    /// Processes with timers that go by this one's CPU time; looked at as it runs.
    cpu_watchers: RefCell<Vec<Weak<ThreadGroup>>>,
    /// Who sleeps until this process has used some CPU time.
    pub(crate) cpu_passed: WaitQueue,
    /// Of threads that have ended.
    pub(crate) dead_threads: Cell<Totals>,
    /// Of children waited for.
    pub(crate) waited: Cell<Totals>,
    pub(crate) is_subreaper: Cell<bool>,
    /// The controlling terminal.
    pub(crate) tty: RefCell<Option<Tty>>,
    /// The machine's own first process: signals it does not handle pass it by.
    pub(crate) unkillable: Cell<bool>,
    /// Which of the kernel's own threads it is; a program's process is none.
    pub(crate) kernel_thread: Cell<Option<KernelThread>>,
    /// Waited for: nobody can name it any more.
    pub(crate) is_reaped: Cell<bool>,
    /// The thread of the parent whose child this is, for `__WNOTHREAD` and `PR_SET_PDEATHSIG`.
    pub(crate) parent_thread: Cell<Tid>,
    pub(crate) has_execed: Cell<bool>,
    pub(crate) started: Nanos,
    pub(crate) dumpable: Cell<u32>,
    /// What a core dump holds (Linux `MMF_DUMP_FILTER_MASK`).
    pub(crate) core_filter: Cell<DumpFilter>,
    pub(crate) oom_score_adj: Cell<i32>,
    /// `MEMBARRIER_CMD_REGISTER_*` done by this process.
    pub(crate) membarrier: Cell<u32>,
    /// A thread ended, the process became a zombie, or was waited for: who waits for that (an
    /// exec for the other threads, polls of pidfds).
    pub(crate) thread_gone: WaitQueue,
    /// Faults of the address space before this process used it: minor, major.
    faults_before: Cell<(u64, u64)>,
    /// Name of the leader when last it had one.
    pub(crate) name: RefCell<String>,
    /// Credentials' real user id at the end, for siginfo.
    pub(crate) uid: Cell<u32>,
    /// The control group it is in; `None`: the root.
    pub(crate) cgroup: RefCell<Option<Rc<Cgroup>>>,
    /// The group of memory that goes with it.
    pub(crate) memcg: Cell<MemcgId>,
}

impl ThreadGroup {
    /// A process without threads yet.
    pub(crate) fn new(tgid: Tid, limits: Limits, started: Nanos) -> Rc<Self> {
        Rc::new(Self {
            tgid,
            threads: RefCell::default(),
            parent: RefCell::default(),
            children: RefCell::default(),
            pgid: Cell::new(tgid),
            sid: Cell::new(tgid),
            exit_signal: Cell::new(Some(Signal::SIGCHLD)),
            pending: Pending::default(),
            child_changed: WaitQueue::new(),
            group_exit: Cell::new(None),
            zombie: Cell::new(None),
            stop: Cell::new(StopState::Running),
            stopped_threads: Cell::new(0),
            resumed: WaitQueue::new(),
            change: Cell::new(None),
            tell_continued: Cell::new(false),
            limits,
            real_timer: Cell::default(),
            virtual_timer: Cell::default(),
            prof_timer: Cell::default(),
            posix_timers: PosixTimers::default(),
            cpu_watchers: RefCell::default(),
            cpu_passed: WaitQueue::new(),
            dead_threads: Cell::default(),
            waited: Cell::default(),
            is_subreaper: Cell::new(false),
            tty: RefCell::default(),
            unkillable: Cell::new(false),
            kernel_thread: Cell::new(None),
            is_reaped: Cell::new(false),
            parent_thread: Cell::new(0),
            has_execed: Cell::new(false),
            started,
            dumpable: Cell::new(1),
            core_filter: Cell::default(),
            oom_score_adj: Cell::new(0),
            membarrier: Cell::new(0),
            thread_gone: WaitQueue::new(),
            faults_before: Cell::default(),
            name: RefCell::default(),
            uid: Cell::new(0),
            cgroup: RefCell::default(),
            memcg: Cell::default(),
        })
    }

    /// Process id.
    pub(crate) fn tgid(&self) -> Tid {
        self.tgid
    }

    /// Some living thread: the leader, or the oldest.
    pub(crate) fn first_thread(&self) -> Option<Rc<Task>> {
        self.threads.borrow().first().cloned()
    }

    /// Living threads now.
    pub(crate) fn living(&self) -> Vec<Rc<Task>> {
        self.threads.borrow().clone()
    }

    /// Whether `task` is one of the living threads.
    pub(crate) fn has_thread(&self, task: &Rc<Task>) -> bool {
        self.threads.borrow().iter().any(|thread| Rc::ptr_eq(thread, task))
    }

    /// Whether no thread is left.
    pub(crate) fn is_zombie(&self) -> bool {
        self.zombie.get().is_some()
    }

    /// The parent; `None` for the machine's first process.
    pub(crate) fn parent(&self) -> Option<Rc<Self>> {
        self.parent.borrow().upgrade()
    }

    /// Process id of the parent, 0 without one.
    pub(crate) fn ppid(&self) -> Tid {
        self.parent().map_or(0, |parent| parent.tgid)
    }

    /// Figures of all threads, ended ones included.
    pub(crate) fn totals(&self) -> Totals {
        let mut totals = self.dead_threads.get();
        let mut mm = None;
        for thread in self.threads.borrow().iter() {
            totals.add(&Totals::of(thread));
            mm = mm.or_else(|| thread.mm());
        }
        if let Some(mm) = mm {
            totals.add(&self.figures_of(&mm));
        }
        totals
    }

    /// Faults and resident size that an address space adds to this process's figures.
    fn figures_of(&self, mm: &Mm) -> Totals {
        let (minor_before, major_before) = self.faults_before.get();
        let (minor, major) = faults(mm);
        Totals {
            minor_faults: minor.saturating_sub(minor_before),
            major_faults: major.saturating_sub(major_before),
            max_rss_kib: mm.status().vm_hwm >> 10,
            ..Totals::default()
        }
    }

    /// The process starts to use `mm`, which may have had faults already (vfork).
    pub(crate) fn enter_mm(&self, mm: &Mm) {
        self.faults_before.set(faults(mm));
    }

    /// The process starts to use an address space made for it: all its faults are its own.
    pub(crate) fn enter_mm_afresh(&self) {
        self.faults_before.set((0, 0));
    }

    /// The process stops using `mm`: its figures stay.
    pub(crate) fn leave_mm(&self, mm: &Mm) {
        let mut totals = self.dead_threads.get();
        totals.add(&self.figures_of(mm));
        self.dead_threads.set(totals);
        self.faults_before.set(faults(mm));
    }

    /// Has timers of `watcher` looked at while this process runs.
    pub(crate) fn watch_cpu_time(&self, watcher: &Rc<Self>) {
        let mut watchers = self.cpu_watchers.borrow_mut();
        if !watchers.iter().any(|known| std::ptr::eq(known.as_ptr(), Rc::as_ptr(watcher))) {
            watchers.push(Rc::downgrade(watcher));
        }
    }

    /// Fires what is due by this process's CPU time; it is called before a thread runs user code.
    pub(crate) fn check_cpu_timers(&self, kernel: &Kernel) {
        if !self.cpu_passed.is_empty() {
            self.cpu_passed.wake_all();
        }
        if self.cpu_watchers.borrow().is_empty() {
            return;
        }
        let mut watchers = self.cpu_watchers.take();
        watchers.retain(|watcher| {
            watcher.upgrade().is_some_and(|group| {
                group.check_posix_cpu_timers(kernel);
                crate::syscall::time::check_cpu_itimers(kernel, &group);
                group.goes_by_cpu_time()
            })
        });
        self.cpu_watchers.borrow_mut().append(&mut watchers);
    }

    fn goes_by_cpu_time(&self) -> bool {
        let armed = |timer: &Cell<IntervalTimer>| timer.get().next.is_some();
        armed(&self.virtual_timer) || armed(&self.prof_timer) || self.has_posix_cpu_timer()
    }

    /// CPU time of all threads.
    pub(crate) fn cpu_time(&self) -> Nanos {
        let dead = self.dead_threads.get();
        let living = self
            .threads
            .borrow()
            .iter()
            .map(|t| t.usage.user.get() + t.usage.system.get())
            .sum::<Nanos>();
        dead.user + dead.system + living
    }
}
