//! The state all tasks share: memory, tasks and processes by id, clocks, counters.

use crate::cgroup::Cgroups;
use crate::control::Control;
use crate::exec::vdso::Vdso;
use crate::fs::Vfs;
use crate::futex::Futexes;
use crate::host::{MachineHost, Memory, Mm, Stream, generator};
use crate::ipc::shm::Segments;
use crate::kernel_threads::KernelThreads;
use crate::report::{ExitStatus, FaultStats, ProcessStats};
use crate::sched::cpu::Cpus;
use crate::sched::psi::Psi;
use crate::sched::ready::ReadyQueue;
use crate::signal::Signal;
use crate::signal::info::SigInfo;
use crate::strace::Tracer;
use crate::swap::SwapAreas;
use crate::task::group::StopState;
use crate::task::{Task, ThreadGroup, Tid};
use crate::time::{BOOT_REALTIME, Nanos, RealClock, Timers};
use crate::watch::SpaceWatch;
use kilburn_addr::{Errno, VirtAddr};
use kilburn_mm::{Fault, FaultDone, FaultKind, SegvCode};
use rand_chacha::ChaCha12Rng;
use rand_core::RngCore;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::{Rc, Weak};
use std::sync::Arc;

/// `/proc/sys/kernel/pid_max` as booted with few processors.
pub(crate) const PID_MAX: Tid = 32768;
/// Ids below this are not given out again after the first round (Linux `RESERVED_PIDS`).
const RESERVED_PIDS: Tid = 300;

/// Calls and errors of one system call number.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct CallCount {
    pub(crate) calls: u64,
    pub(crate) errors: u64,
}

/// Where core dumps go (`kernel.core_pattern`, `kernel.core_uses_pid`).
pub(crate) struct CoreSettings {
    pub(crate) pattern: RefCell<Vec<u8>>,
    pub(crate) uses_pid: Cell<bool>,
}

impl Default for CoreSettings {
    fn default() -> Self {
        Self { pattern: RefCell::new(b"core".to_vec()), uses_pid: Cell::new(false) }
    }
}

/// Counters of a whole run.
#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) syscalls: RefCell<BTreeMap<u64, CallCount>>,
    pub(crate) faults: RefCell<FaultStats>,
    pub(crate) context_switches: Cell<u64>,
    pub(crate) forks: Cell<u64>,
    pub(crate) oom_kills: Cell<u64>,
    pub(crate) page_tables_peak: Cell<u64>,
    pub(crate) processes: RefCell<Vec<ProcessStats>>,
    /// Memory figures of processes whose address space is gone, until they end.
    memory: RefCell<BTreeMap<Tid, ProcessStats>>,
}

/// One machine's kernel.
pub(crate) struct Kernel {
    pub(crate) memory: Arc<Memory>,
    pub(crate) paging: kilburn_paging::Sv,
    pub(crate) aslr: crate::config::Aslr,
    pub(crate) vdso: Vdso,
    pub(crate) cpus: Cpus,
    pub(crate) counters: Counters,
    vfs: Rc<Vfs>,
    tasks: RefCell<BTreeMap<Tid, Rc<Task>>>,
    groups: RefCell<BTreeMap<Tid, Rc<ThreadGroup>>>,
    init: Rc<ThreadGroup>,
    last_tid: Cell<Tid>,
    /// The task whose coroutine runs now.
    current: RefCell<Weak<Task>>,
    ready: Arc<ReadyQueue>,
    timers: Timers,
    futexes: Futexes,
    random: RefCell<ChaCha12Rng>,
    pub(crate) shm: Segments,
    pub(crate) kernel_threads: KernelThreads,
    pub(crate) psi: Psi,
    pub(crate) cgroups: Cgroups,
    pub(crate) swap: SwapAreas,
    pub(crate) core_dumps: CoreSettings,
    /// Told of calls and signals, when somebody wants to know.
    pub(crate) tracer: Option<Tracer>,
    pub(crate) userfaults: crate::fs::Userfaults,
    /// The way in for who looks at the machine from outside.
    pub(crate) control: Option<Arc<Control>>,
    /// Told what address spaces consist of, when somebody wants to know.
    pub(crate) watch: RefCell<Option<Box<dyn SpaceWatch>>>,
    pub(crate) hostname: RefCell<Vec<u8>>,
    pub(crate) domainname: RefCell<Vec<u8>>,
    /// The world's clock, for a machine that is to keep up with it.
    pub(crate) real: Option<RealClock>,
    /// Offset of CLOCK_REALTIME to its value at boot, as clock_settime leaves it.
    pub(crate) realtime_offset: Cell<i64>,
}

/// What a kernel is made of.
pub(crate) struct KernelParts {
    pub(crate) memory: Arc<Memory>,
    pub(crate) paging: kilburn_paging::Sv,
    pub(crate) aslr: crate::config::Aslr,
    pub(crate) vdso: Vdso,
    pub(crate) cpus: Cpus,
    pub(crate) vfs: Rc<Vfs>,
    pub(crate) seed: u64,
    pub(crate) memory_bytes: u64,
    pub(crate) swap: SwapAreas,
    pub(crate) strace: Option<crate::config::TraceSink>,
    pub(crate) control: Option<Arc<Control>>,
    pub(crate) real: Option<RealClock>,
}

impl Kernel {
    /// A kernel with no task.
    pub(crate) fn new(parts: KernelParts) -> Rc<Self> {
        let limits = crate::task::limits::Limits::boot(parts.memory_bytes);
        let init = ThreadGroup::new(1, limits, 0);
        init.unkillable.set(true);
        Rc::new(Self {
            memory: parts.memory,
            paging: parts.paging,
            aslr: parts.aslr,
            vdso: parts.vdso,
            psi: Psi::new(parts.cpus.count()),
            cpus: parts.cpus,
            counters: Counters::default(),
            vfs: parts.vfs,
            tasks: RefCell::default(),
            groups: RefCell::default(),
            init,
            last_tid: Cell::new(1),
            current: RefCell::default(),
            ready: Arc::default(),
            timers: Timers::default(),
            futexes: Futexes::default(),
            random: RefCell::new(generator(parts.seed, Stream::Bytes)),
            shm: Segments::default(),
            kernel_threads: KernelThreads::default(),
            cgroups: Cgroups::default(),
            swap: parts.swap,
            core_dumps: CoreSettings::default(),
            tracer: parts.strace.map(Tracer::new),
            userfaults: crate::fs::Userfaults::default(),
            control: parts.control,
            watch: RefCell::default(),
            hostname: RefCell::new(b"kilburn".to_vec()),
            domainname: RefCell::new(b"(none)".to_vec()),
            realtime_offset: Cell::new(parts.real.as_ref().map_or(0, RealClock::offset)),
            real: parts.real,
        })
    }

    /// `CLOCK_MONOTONIC`.
    pub(crate) fn now(&self) -> Nanos {
        self.cpus.now()
    }

    /// `CLOCK_REALTIME`.
    pub(crate) fn realtime(&self) -> Nanos {
        (BOOT_REALTIME + self.now()).saturating_add_signed(self.realtime_offset.get())
    }

    /// Things to do later.
    pub(crate) fn timers(&self) -> &Timers {
        &self.timers
    }

    /// Tasks that can run.
    pub(crate) fn ready(&self) -> &Arc<ReadyQueue> {
        &self.ready
    }

    /// The task whose system call or slice this is.
    pub(crate) fn current(&self) -> Option<Rc<Task>> {
        self.current.borrow().upgrade()
    }

    /// Notes whose slice it is from now on.
    pub(crate) fn set_current(&self, task: &Rc<Task>) {
        self.current.replace(Rc::downgrade(task));
    }

    /// Everything behind a path.
    pub(crate) fn vfs(&self) -> &Rc<Vfs> {
        &self.vfs
    }

    /// Who waits for a word of memory.
    pub(crate) fn futexes(&self) -> &Futexes {
        &self.futexes
    }

    /// The memory manager's host.
    pub(crate) fn host(&self) -> &MachineHost {
        self.memory.host()
    }

    /// Fills `into` from the machine's seeded generator (`getrandom`, /dev/urandom).
    pub(crate) fn random_bytes(&self, into: &mut [u8]) {
        self.random.borrow_mut().fill_bytes(into);
    }

    /// The living task with this id.
    pub(crate) fn task(&self, tid: Tid) -> Option<Rc<Task>> {
        self.tasks.borrow().get(&tid).cloned()
    }

    /// All living tasks, by id.
    pub(crate) fn all_tasks(&self) -> Vec<Rc<Task>> {
        self.tasks.borrow().values().cloned().collect()
    }

    /// All address spaces, each at least once.
    pub(crate) fn all_mms(&self) -> Vec<Arc<Mm>> {
        self.tasks.borrow().values().filter_map(|task| task.mm()).collect()
    }

    /// How many tasks of programs live.
    pub(crate) fn user_task_count(&self) -> usize {
        self.task_count() - self.kernel_threads.count.get()
    }

    /// How many tasks live, the kernel's own threads included.
    pub(crate) fn task_count(&self) -> usize {
        self.tasks.borrow().len()
    }

    /// The process with this id, zombies included.
    pub(crate) fn group(&self, tgid: Tid) -> Option<Rc<ThreadGroup>> {
        if tgid == 1 {
            return Some(Rc::clone(&self.init));
        }
        self.groups.borrow().get(&tgid).cloned()
    }

    /// All processes by id, zombies included; not the machine's own first.
    pub(crate) fn all_groups(&self) -> Vec<Rc<ThreadGroup>> {
        self.groups.borrow().values().cloned().collect()
    }

    /// All processes of process group `pgid`.
    pub(crate) fn process_group(&self, pgid: Tid) -> Vec<Rc<ThreadGroup>> {
        self.groups.borrow().values().filter(|g| g.pgid.get() == pgid).cloned().collect()
    }

    /// The process that is everyone's last ancestor; it has no task and reaps what it inherits.
    pub(crate) fn init(&self) -> &Rc<ThreadGroup> {
        &self.init
    }

    /// An id that no task, process, process group or session has.
    ///
    /// # Errors
    /// EAGAIN when there is none left.
    pub(crate) fn allocate_tid(&self) -> Result<Tid, Errno> {
        let mut tid = self.last_tid.get();
        for _ in 0..PID_MAX {
            tid += 1;
            if tid >= PID_MAX {
                tid = RESERVED_PIDS;
            }
            if !self.is_id_in_use(tid) {
                self.last_tid.set(tid);
                return Ok(tid);
            }
        }
        Err(Errno::EAGAIN)
    }

    fn is_id_in_use(&self, id: Tid) -> bool {
        // Before the first wrap-around every id above the last is new; asking would be linear.
        let groups = self.groups.borrow();
        self.tasks.borrow().contains_key(&id)
            || groups.contains_key(&id)
            || id < self.last_tid.get()
                && groups.values().any(|g| g.pgid.get() == id || g.sid.get() == id)
    }

    /// Has ids given out from the one after `tid` on.
    pub(crate) fn reserve_tid(&self, tid: Tid) {
        self.last_tid.set(tid);
    }

    /// The last id given out (`/proc/loadavg`).
    pub(crate) fn last_tid(&self) -> Tid {
        self.last_tid.get()
    }

    /// Makes a new task known: in its group, in the table of ids, as somebody's child.
    pub(crate) fn adopt(&self, task: &Rc<Task>) {
        let group = task.group();
        group.threads.borrow_mut().push(Rc::clone(task));
        self.tasks.borrow_mut().insert(task.tid(), Rc::clone(task));
        if task.is_leader() {
            self.groups.borrow_mut().insert(group.tgid(), Rc::clone(group));
            if let Some(parent) = group.parent() {
                parent.children.borrow_mut().push(Rc::clone(group));
            }
        }
        self.counters.forks.set(self.counters.forks.get() + 1);
    }

    /// A task has ended.
    pub(crate) fn forget_task(&self, tid: Tid) {
        self.tasks.borrow_mut().remove(&tid);
    }

    /// exec by a thread that was not the leader: it has the leader's id now.
    pub(crate) fn rename_task(&self, old: Tid, task: &Rc<Task>) {
        let mut tasks = self.tasks.borrow_mut();
        tasks.remove(&old);
        tasks.insert(task.tid(), Rc::clone(task));
    }

    /// A process was waited for.
    pub(crate) fn forget_group(&self, group: &ThreadGroup) {
        self.groups.borrow_mut().remove(&group.tgid());
        group.is_reaped.set(true);
        group.thread_gone.wake_all();
    }

    /// Children of a process that ends get a new parent: the nearest subreaper, or init.
    pub(crate) fn reparent_children(&self, group: &Rc<ThreadGroup>) {
        let reaper = self.reaper_of(group);
        let children = group.children.take();
        for child in children {
            let was_orphaned = self.is_orphaned_group(child.pgid.get());
            child.parent.replace(Rc::downgrade(&reaper));
            child.parent_thread.set(reaper.first_thread().map_or(0, |thread| thread.tid()));
            child.signal_parent_death();
            if child.is_zombie() && Rc::ptr_eq(&reaper, &self.init) {
                self.forget_group(&child);
                continue;
            }
            reaper.children.borrow_mut().push(Rc::clone(&child));
            if child.is_zombie() {
                let _ = reaper.send(SigInfo::kernel(Signal::SIGCHLD));
                reaper.child_changed.wake_all();
            }
            if !was_orphaned {
                self.hang_up_if_orphaned(child.pgid.get());
            }
        }
        // Only who had a parent outside of the group was a way to it (Linux `kill_orphaned_pgrp`).
        let connects = group.parent().is_some_and(|parent| {
            parent.pgid.get() != group.pgid.get() && parent.sid.get() == group.sid.get()
        });
        if connects {
            self.hang_up_if_orphaned(group.pgid.get());
        }
    }

    fn reaper_of(&self, group: &Rc<ThreadGroup>) -> Rc<ThreadGroup> {
        let mut at = group.parent();
        while let Some(ancestor) = at {
            if ancestor.is_subreaper.get() && !ancestor.is_zombie() {
                return ancestor;
            }
            at = ancestor.parent();
        }
        Rc::clone(&self.init)
    }

    /// Whether no member of process group `pgid` has a parent in another group of its session,
    /// who could resume it (Linux `is_current_pgrp_orphaned`).
    pub(crate) fn is_orphaned_group(&self, pgid: Tid) -> bool {
        !self.process_group(pgid).iter().filter(|member| !member.is_zombie()).any(|member| {
            member.parent().is_some_and(|parent| {
                parent.pgid.get() != pgid
                    && parent.sid.get() == member.sid.get()
                    && !Rc::ptr_eq(&parent, &self.init)
            })
        })
    }

    /// A newly orphaned process group with stopped members gets SIGHUP and SIGCONT.
    fn hang_up_if_orphaned(&self, pgid: Tid) {
        let members = self.process_group(pgid);
        let stopped = members.iter().any(|m| matches!(m.stop.get(), StopState::Stopped(_)));
        if stopped && self.is_orphaned_group(pgid) {
            for signal in [Signal::SIGHUP, Signal::SIGCONT] {
                for member in &members {
                    let _ = member.send(SigInfo::kernel(signal));
                }
            }
        }
    }

    /// Interval timers of a process that ended.
    pub(crate) fn cancel_timers_of(&self, group: &ThreadGroup) {
        group.delete_timers(self);
        for cell in [&group.real_timer, &group.virtual_timer, &group.prof_timer] {
            if let Some(timer) = cell.take().timer {
                self.timers.cancel(timer);
            }
        }
    }

    /// Where the signal return code of `task`'s address space is.
    pub(crate) fn sigreturn_address(&self, task: &Task) -> Option<VirtAddr> {
        let base = task.vdso.get();
        (base != VirtAddr::ZERO).then(|| base.checked_add(self.vdso.rt_sigreturn)).flatten()
    }

    /// Counts a system call.
    pub(crate) fn count_syscall(&self, number: u64, failed: bool) {
        let mut calls = self.counters.syscalls.borrow_mut();
        let count = calls.entry(number).or_default();
        count.calls += 1;
        count.errors += u64::from(failed);
    }

    /// Keeps the highest number of page-table pages.
    pub(crate) fn note_page_tables(&self) {
        let peak = &self.counters.page_tables_peak;
        peak.set(peak.get().max(self.memory.counts().page_tables));
    }

    /// Counts a page-fault trap that was resolved.
    pub(crate) fn count_fault(&self, done: &FaultDone) {
        let mut faults = self.counters.faults.borrow_mut();
        faults.total += 1;
        faults.major += u64::from(done.major);
        let by_cause = match done.kind {
            FaultKind::DemandZero => &mut faults.demand_zero,
            FaultKind::ZeroPage => &mut faults.zero_page,
            FaultKind::FileRead => &mut faults.file_read,
            FaultKind::FileCow => &mut faults.file_cow,
            FaultKind::FileShared | FaultKind::Device => &mut faults.file_write,
            FaultKind::CowCopy => &mut faults.cow_copy,
            FaultKind::CowReuse => &mut faults.cow_reuse,
            FaultKind::Swap => &mut faults.swap,
            FaultKind::Spurious => &mut faults.spurious,
        };
        *by_cause += 1;
    }

    /// Counts a page-fault trap that became a signal.
    pub(crate) fn count_refused(&self, fault: Fault) {
        let mut faults = self.counters.faults.borrow_mut();
        faults.total += 1;
        match fault {
            Fault::Segv(SegvCode::MapErr) => faults.segv_maperr += 1,
            Fault::Segv(SegvCode::AccErr) => faults.segv_accerr += 1,
            Fault::Bus | Fault::Poisoned | Fault::Oom | Fault::Userfault(_) => faults.bus += 1,
        }
    }

    /// The last user of an address space gives it up: its figures are kept for the report.
    pub(crate) fn note_mm_release(&self, task: &Task, mm: &Arc<Mm>) {
        if Arc::strong_count(mm) > 1 {
            return;
        }
        let usage = mm.usage();
        let status = mm.status();
        let stats = mm.stats();
        self.counters.faults.borrow_mut().stack_growth += stats.stack_growths;
        self.counters.memory.borrow_mut().insert(
            task.tgid(),
            ProcessStats {
                rss_kib: usage.rss >> 10,
                pss_kib: usage.pss >> 10,
                uss_kib: usage.uss >> 10,
                peak_rss_kib: status.vm_hwm >> 10,
                peak_vm_kib: status.vm_peak >> 10,
                page_tables: stats.table_pages,
                ..ProcessStats::default()
            },
        );
    }

    /// A process has ended: its line of the report.
    pub(crate) fn note_process_end(&self, group: &ThreadGroup, status: ExitStatus) {
        let memory = self.counters.memory.borrow_mut().remove(&group.tgid());
        let totals = group.dead_threads.get();
        self.counters.processes.borrow_mut().push(ProcessStats {
            pid: group.tgid(),
            ppid: group.ppid(),
            name: group.name.borrow().clone(),
            status,
            minor_faults: totals.minor_faults,
            major_faults: totals.major_faults,
            instructions: totals.instructions,
            syscalls: totals.syscalls,
            ..memory.unwrap_or_default()
        });
    }

    /// Drops what would keep tasks alive in a circle; after this the kernel is good for nothing.
    pub(crate) fn dismantle(&self) {
        self.timers.clear();
        let tasks = self.tasks.take();
        for task in tasks.values() {
            drop(task.coroutine.take());
            drop(task.replace_mm(None));
            drop(task.replace_files(None));
        }
        for group in self.groups.take().values() {
            drop(group.threads.take());
            drop(group.children.take());
        }
        drop(self.init.children.take());
        self.swap.close();
        self.cpus.leave_tables();
    }
}
