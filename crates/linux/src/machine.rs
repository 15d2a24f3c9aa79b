//! A whole machine: made from a configuration, run to its end, reported.
//!
//! [`Machine::new`] builds memory, harts, name space and kernel and loads the first program, so
//! that whatever is wrong with the configuration is known before anything runs. [`Machine::run`]
//! runs until the first program ends, ends what it left behind, checks that every frame came
//! back, and hands over the figures.

use crate::config::{MachineConfig, MachineError};
use crate::exec::vdso::Vdso;
use crate::exec::{ExecError, ExecPath};
use crate::fs::Vfs;
use crate::host::{MachineHost, Memory};
use crate::kernel::{Kernel, KernelParts};
use crate::report::{
    ExitReport, ExitStatus, FrameStats, PageTableStats, ReclaimStats, Stats, SyscallStats, TlbStats,
};
use crate::sched::cpu::Cpus;
use crate::sched::executor::Ended;
use crate::signal::action::SigHand;
use crate::swap::SwapAreas;
use crate::syscall::table;
use crate::task::limits::Limits;
use crate::task::run::task_main;
use crate::task::{Creds, Task, TaskParts, ThreadGroup};
use crate::time::RealClock;
use crate::watch::SpaceWatch;
use kilburn_addr::{Errno, PAGE_SIZE, PhysAddr};
use kilburn_mm::MemoryConfig;
use kilburn_riscv::{GuestRam, Hart, HartConfig, Regs, Translator};
use std::rc::Rc;
use std::sync::Arc;

/// Physical address of the first byte of guest RAM.
const RAM_BASE: u64 = 0x8000_0000;
/// Least memory that a program can be expected to start in.
const MEMORY_MIN: u64 = 1 << 20;
/// Most harts: what an affinity mask of one word holds.
const HARTS_MAX: u32 = 64;

/// A machine with its first program loaded.
pub struct Machine {
    kernel: Rc<Kernel>,
    first: Rc<ThreadGroup>,
}

impl Machine {
    /// Builds a machine and loads its first program.
    ///
    /// # Errors
    /// [`MachineError`]: what is wrong with the configuration or the program, in one line.
    pub fn new(config: MachineConfig) -> Result<Self, MachineError> {
        let bytes = config.memory_bytes;
        let refused = |reason: &str| MachineError::Memory { bytes, reason: reason.into() };
        if bytes < MEMORY_MIN {
            return Err(refused("at least 1 MiB is needed"));
        }
        if !bytes.is_multiple_of(PAGE_SIZE) {
            return Err(refused("not a multiple of the page size, 4096 bytes"));
        }
        if !(1..=HARTS_MAX).contains(&config.harts) {
            let text = format!("{} harts: 1 to {HARTS_MAX} are possible", config.harts);
            return Err(MachineError::Config(text));
        }
        let ram = GuestRam::new(bytes).map_err(|error| refused(&error.to_string()))?;
        let ram = Arc::new(ram);
        let host = MachineHost::new(Arc::clone(&ram), config.paging, config.seed);
        let base = PhysAddr::new(RAM_BASE).pfn();
        let end = PhysAddr::new(RAM_BASE + bytes).pfn();
        let mut memory_config = MemoryConfig::new(base..end);
        memory_config.policy = config.reclaim.policy;
        let memory =
            Memory::new(host, memory_config).map_err(|error| refused(&error.to_string()))?;
        let swap = SwapAreas::open(&memory, &config)?;
        let vdso =
            Vdso::load(&memory).ok_or_else(|| refused("too little for the kernel itself"))?;
        let vfs = Vfs::new_for_machine(&config, &memory)?;
        let harts =
            (0..config.harts).map(|_| Hart::new(Arc::clone(&ram), HartConfig::default())).collect();
        let kernel = Kernel::new(KernelParts {
            memory,
            paging: config.paging,
            aslr: config.aslr,
            vdso,
            cpus: Cpus::new(harts),
            vfs,
            seed: config.seed,
            memory_bytes: bytes,
            strace: config.strace.clone(),
            control: config.control.clone(),
            real: RealClock::start(&config.time),
            swap,
        });
        kernel.vfs().attach(&kernel);
        kernel.start_kernel_threads();
        let machine = start_first_program(&kernel, &config);
        if machine.is_err() {
            // What was started knows the kernel, and the kernel it.
            kernel.dismantle();
        }
        machine
    }

    /// Has each hart ask a translator for every access, instead of its own TLB: `make` is given the hart's number.
    pub fn set_translators(&self, mut make: impl FnMut(u32) -> Box<dyn Translator + Send>) {
        for (index, number) in (0..self.kernel.cpus.count()).zip(0..) {
            self.kernel.cpus.set_translator(index, make(number));
        }
    }

    /// Has `watch` told what address spaces consist of, whenever user code is about to run.
    pub fn set_watch(&self, watch: Box<dyn SpaceWatch>) {
        self.kernel.watch.replace(Some(watch));
    }

    /// Runs until the first program ends.
    ///
    /// # Panics
    /// Only by a mistake of our own; nothing a guest does may cause it.
    pub fn run(self) -> ExitReport {
        let Self { kernel, first } = self;
        let ended = kernel.run_until(|| first.is_zombie());
        let deadlock = match ended {
            Ended::Reached => None,
            Ended::Deadlock(tasks) => Some(tasks),
        };
        // What the program left running goes with it, as when a container's first process ends.
        for group in kernel.all_groups() {
            if !group.is_zombie() && group.kernel_thread.get().is_none() {
                group.kill_all(ExitStatus::Killed(9));
            }
        }
        let left = kernel.run_until(|| kernel.user_task_count() == 0);
        debug_assert_eq!(left, Ended::Reached, "a killed task does not end");
        let status = first.zombie.get().unwrap_or(ExitStatus::Killed(9));
        let futexes_left = !kernel.futexes().is_empty();
        debug_assert!(!futexes_left, "somebody still waits for a futex");
        drop(first);
        kernel.dismantle();
        report(kernel, status, deadlock)
    }
}

fn report(kernel: Rc<Kernel>, status: ExitStatus, deadlock: Option<String>) -> ExitReport {
    let before = kernel.memory.counts();
    // A store that cannot be written to any more has told who waited for it (fsync); nobody is
    // left to tell.
    let _ = kernel.vfs().shutdown();
    kernel.vdso.unload(&kernel.memory);
    kernel.apply_flushes();
    let (stdout, stderr) = kernel.vfs().captured();
    let counters = &kernel.counters;
    let mut stats = Stats {
        instructions: sum(&kernel, |stats| stats.instructions),
        context_switches: counters.context_switches.get(),
        spaces: kernel.cpus.space_stats(),
        virtual_ns: kernel.now(),
        faults: *counters.faults.borrow(),
        frames: FrameStats::default(),
        page_tables: PageTableStats { now: 0, peak: counters.page_tables_peak.get() },
        tlb: tlb_stats(&kernel),
        reclaim: reclaim_stats(&kernel),
        syscalls: syscall_stats(&kernel),
        processes: counters.processes.take(),
    };
    let memory = Arc::clone(&kernel.memory);
    debug_assert_eq!(Rc::strong_count(&kernel), 1, "somebody still holds the kernel");
    // With it go files in memory; what is in use now is lost.
    drop(kernel);
    let after = memory.counts();
    stats.page_tables.now = after.page_tables;
    stats.frames = FrameStats {
        total: after.total,
        in_use: after.total - after.free - after.kernel,
        peak: after.peak_used,
        page_cache: before.cached,
    };
    ExitReport { status, deadlock, stats, stdout, stderr }
}

fn sum(kernel: &Kernel, of: impl Fn(&kilburn_riscv::HartStats) -> u64) -> u64 {
    (0..kernel.cpus.count()).map(|i| of(&kernel.cpus.stats(i))).sum()
}

fn tlb_stats(kernel: &Kernel) -> TlbStats {
    TlbStats {
        hits: sum(kernel, kilburn_riscv::HartStats::tlb_hits),
        misses: sum(kernel, kilburn_riscv::HartStats::tlb_misses),
        walks: sum(kernel, |stats| stats.mmu.walks),
        walk_steps: sum(kernel, |stats| stats.mmu.walk_reads),
        flushes: sum(kernel, |stats| {
            stats.mmu.flushes_all + stats.mmu.flushes_asid + stats.mmu.flushes_range
        }),
    }
}

fn reclaim_stats(kernel: &Kernel) -> ReclaimStats {
    let vm = kernel.memory.vm_stat();
    ReclaimStats {
        policy: kernel.memory.policy_name(),
        swapped_in: vm.pswpin,
        read_ahead: vm.swap_ra,
        read_ahead_used: vm.swap_ra_hit,
        swapped_out: vm.pswpout,
        scanned: vm.pgscan_kswapd + vm.pgscan_direct + vm.pgscan_proactive,
        evicted: vm.pgsteal_kswapd + vm.pgsteal_direct + vm.pgsteal_proactive,
        refaults: vm.workingset_refault_anon + vm.workingset_refault_file,
        direct: vm.allocstall,
        kswapd: vm.pageoutrun,
        read_errors: vm.swap_read_errors,
        write_errors: vm.swap_write_errors,
        oom_kills: kernel.counters.oom_kills.get(),
    }
}

fn syscall_stats(kernel: &Kernel) -> Vec<SyscallStats> {
    let counts = kernel.counters.syscalls.borrow();
    let line = |(number, count): (&u64, &crate::kernel::CallCount)| SyscallStats {
        number: *number,
        name: table::name(*number),
        calls: count.calls,
        errors: count.errors,
        implemented: table::lookup(*number).is_some(),
    };
    counts.iter().map(line).collect()
}

fn start_first_program(
    kernel: &Rc<Kernel>,
    config: &MachineConfig,
) -> Result<Machine, MachineError> {
    let cwd = String::from_utf8_lossy(&config.cwd).into_owned();
    let (fs, files) = kernel
        .vfs()
        .first_files(&config.cwd)
        .map_err(|errno| MachineError::Config(format!("{cwd}: {}", crate::errno_text(errno))))?;
    let name = String::from_utf8_lossy(&config.program).into_owned();
    let failed = |ExecError { errno, reason }: ExecError| MachineError::Exec {
        program: name.clone(),
        errno,
        reason,
    };
    let tid = kernel.allocate_tid().map_err(|errno| failed(errno.into()))?;
    let group = ThreadGroup::new(tid, Limits::boot(config.memory_bytes), kernel.now());
    group.parent.replace(Rc::downgrade(kernel.init()));
    let parts = TaskParts {
        tid,
        group: Rc::clone(&group),
        regs: Box::new(Regs::new()),
        mm: None,
        files,
        fs,
        creds: Rc::new(Creds::root()),
        sighand: SigHand::new(),
        comm: [0; 16],
    };
    let task = Task::new(kernel, parts);
    kernel.adopt(&task);
    let path = find_program(&task, config).map_err(failed)?;
    let program = task
        .prepare_exec(ExecPath::at_cwd(path), config.args.clone(), config.env.clone())
        .map_err(failed)?;
    task.set_comm(&program.comm);
    task.set_creds(program.creds.clone());
    task.exe.replace(Some(Rc::clone(&program.file)));
    group.has_execed.set(true);
    task.load_program(&program).map_err(failed)?;
    task.coroutine.replace(Some(Box::pin(task_main(Rc::clone(&task)))));
    task.waker().wake();
    Ok(Machine { kernel: Rc::clone(kernel), first: group })
}

/// The program's path: as given when it has a slash, else looked up in PATH as execvp does.
fn find_program(task: &Task, config: &MachineConfig) -> Result<Vec<u8>, ExecError> {
    let name = &config.program;
    if name.contains(&b'/') || name.is_empty() {
        return Ok(name.clone());
    }
    let path = config.env.iter().find_map(|var| var.strip_prefix(b"PATH="));
    let mut denied = None;
    for folder in path.unwrap_or(b"/bin:/usr/bin").split(|byte| *byte == b':') {
        let mut candidate = folder.to_vec();
        if !candidate.is_empty() {
            candidate.push(b'/');
        }
        candidate.extend_from_slice(name);
        match task.open_for_exec(&ExecPath::at_cwd(candidate.clone())) {
            Ok(_) => return Ok(candidate),
            Err(Errno::EACCES) => denied = Some(Errno::EACCES),
            Err(_) => (),
        }
    }
    Err(denied.unwrap_or(Errno::ENOENT).into())
}
