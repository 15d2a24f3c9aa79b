//! The loop every task's coroutine is: run user code, serve what stopped it, look after signals.

use crate::kernel::Kernel;
use crate::oom::NoMemory;
use crate::sched::SysError;
use crate::sched::psi::Stall;
use crate::sched::wait::{Sleep, WaitSet};
use crate::signal::Signal;
use crate::signal::info::{SigInfo, code};
use crate::syscall::{self, Args, SysResult};
use crate::task::limits::{Limit, UNLIMITED};
use crate::task::{Resource, Task, add};
use crate::time::{Nanos, SECOND};
use kilburn_addr::{Access, Errno, VirtAddr};
use kilburn_mm::{Fault, SegvCode};
use kilburn_riscv::{Regs, Trap};
use std::rc::Rc;

/// Virtual time one system call takes in the kernel, in nanoseconds.
const SYSCALL_COST_NS: u64 = 200;
/// Virtual time one page fault takes in the kernel, in nanoseconds.
const FAULT_COST_NS: u64 = 500;

/// What a task does from its first instruction to its end.
pub(crate) async fn task_main(task: Rc<Task>) {
    loop {
        task.work_before_user().await;
        if let Some(status) = task.exiting.get() {
            task.exit(status).await;
            return;
        }
        let kernel = task.kernel();
        if kernel.slice_used_up() {
            add(&task.usage.involuntary_switches, u64::from(!kernel.ready().is_empty()));
            task.check_cpu_limit();
            let switches = kernel.counters.context_switches.get();
            task.give_way().await;
            if kernel.counters.context_switches.get() != switches {
                // Preempted: what a restartable sequence was in the middle of is void.
                task.abort_rseq().await;
            }
            continue;
        }
        task.group().check_cpu_timers(kernel);
        if task.signal_pending() {
            continue;
        }
        task.update_rseq().await;
        match kernel.run_user(&task) {
            Trap::Quantum => (),
            Trap::Syscall => system_call(&task).await,
            Trap::PageFault { addr, access } => page_fault(&task, addr, access).await,
            trap => task.force(signal_of(&task, trap)),
        }
    }
}

/// The signal of a trap that nothing can resolve.
fn signal_of(task: &Task, trap: Trap) -> SigInfo {
    let pc = task.regs.borrow().pc;
    match trap {
        Trap::Breakpoint => SigInfo::fault(Signal::SIGTRAP, code::TRAP_BRKPT, pc),
        Trap::Illegal { .. } => SigInfo::fault(Signal::SIGILL, code::ILL_ILLOPC, pc),
        Trap::Misaligned { addr, .. } => {
            SigInfo::fault(Signal::SIGBUS, code::BUS_ADRALN, addr.get())
        }
        // Linux arch/riscv/kernel/traps.c: do_trap_{insn,load,store}_fault.
        Trap::AccessFault { addr, .. } => {
            SigInfo::fault(Signal::SIGSEGV, code::SEGV_ACCERR, addr.get())
        }
        Trap::Syscall | Trap::PageFault { .. } | Trap::Quantum => {
            unreachable!("served by the caller")
        }
    }
}

async fn system_call(task: &Rc<Task>) {
    let kernel = task.kernel();
    let (number, args) = {
        let regs = task.regs.borrow();
        let mut args = [0; 6];
        args.copy_from_slice(&regs.x[Regs::A0..Regs::A0 + 6]);
        (regs.x[Regs::A7], Args(args))
    };
    kernel.charge(task, SYSCALL_COST_NS);
    add(&task.usage.syscalls, 1);
    if let Some(tracer) = &kernel.tracer {
        tracer.enter(task, number, args);
    }
    if number == syscall::RT_SIGRETURN {
        // Sets all registers, the program counter included.
        kernel.count_syscall(number, false);
        task.pop_frame().await;
        if let Some(tracer) = &kernel.tracer {
            tracer.leave(task, &Ok(task.regs.borrow().x[Regs::A0]));
        }
        return;
    }
    let result = dispatch_with_memory(task, number, args).await;
    if let Some(tracer) = &kernel.tracer {
        tracer.leave(task, &result);
    }
    kernel.count_syscall(number, result.is_err());
    kernel.note_page_tables();
    wait_for_storage(task).await;
    if result.is_ok() && syscall::EXECS.contains(&number) {
        // The registers are the new program's.
        return;
    }
    let value = match result {
        Ok(value) => value,
        Err(SysError::Errno(errno)) => errno.to_return_value(),
        Err(SysError::Restart(restart)) => {
            // pc stays at the ecall, a0 is as it was: to restart is to do nothing.
            task.interrupted.set(Some(restart));
            return;
        }
    };
    let mut regs = task.regs.borrow_mut();
    regs.x[Regs::A0] = value;
    regs.pc = regs.pc.wrapping_add(4);
}

/// Serves a call. Where it finds no memory because a group is at its limit somebody in the group goes, and
/// it is tried again, as Linux does where it charges.
async fn dispatch_with_memory(task: &Rc<Task>, number: u64, args: Args) -> SysResult {
    // Nobody asked for what failed before, such as reading ahead.
    let memory = &task.kernel().memory;
    memory.take_memcg_oom();
    loop {
        let result = syscall::dispatch(task, number, args).await;
        let no_memory = matches!(result, Err(SysError::Errno(Errno::ENOMEM)));
        if !(no_memory && memory.is_memcg_oom()) || task.wait_for_memory().await == NoMemory::GiveUp
        {
            return result;
        }
    }
}

async fn page_fault(task: &Rc<Task>, addr: VirtAddr, access: Access) {
    let kernel = task.kernel();
    kernel.charge(task, FAULT_COST_NS);
    let Some(mm) = task.mm() else { return };
    kernel.memory.take_memcg_oom();
    match mm.handle_fault(&task.waiting_caller(), addr, access) {
        Ok(done) => {
            kernel.count_fault(&done);
            kernel.note_page_tables();
        }
        // The access is made again, after a signal too.
        Err(fault @ Fault::Userfault(_)) => {
            drop(mm);
            task.wait_for_monitor(fault, Sleep::Interruptible).await;
        }
        Err(Fault::Oom) => {
            drop(mm);
            if task.wait_for_memory().await == NoMemory::GiveUp {
                kernel.count_refused(Fault::Oom);
                task.fault_signal(Fault::Oom, addr);
            }
        }
        Err(fault) => {
            kernel.count_refused(fault);
            task.fault_signal(fault, addr);
        }
    }
    wait_for_storage(task).await;
}

/// Lets others run for as long as the transfers took that the task caused, and while too many pages
/// are dirty of those it wrote to.
async fn wait_for_storage(task: &Rc<Task>) {
    let kernel = task.kernel();
    let wait = kernel.memory.take_io_wait();
    if wait.total_ns() > 0 {
        let why = if wait.swap_ns > 0 { Stall::Swap } else { Stall::Io };
        task.stall(why, wait.total_ns()).await;
    }
    let wait_ns = kernel.memory.throttle();
    if wait_ns > 0 {
        task.stall(Stall::Io, wait_ns).await;
    }
}

/// A task waits as long as this is there.
struct Stalled {
    kernel: Rc<Kernel>,
    why: Stall,
}

impl Drop for Stalled {
    fn drop(&mut self) {
        self.kernel.psi.end(self.kernel.now(), self.why);
    }
}

impl Task {
    /// Waits for so long, as pressure.
    async fn stall(self: &Rc<Self>, why: Stall, wait_ns: Nanos) {
        let kernel = self.kernel();
        let until = kernel.now() + wait_ns;
        kernel.psi.begin(kernel.now(), why);
        let _stalled = Stalled { kernel: Rc::clone(kernel), why };
        WaitSet::new(self).wait(Sleep::Killable, Some(until)).await;
    }

    /// The signal that an access gets which cannot be resolved.
    pub(crate) fn fault_signal(&self, fault: Fault, addr: VirtAddr) {
        let addr = addr.get();
        match fault {
            Fault::Segv(SegvCode::MapErr) => {
                self.force(SigInfo::fault(Signal::SIGSEGV, code::SEGV_MAPERR, addr));
            }
            Fault::Segv(SegvCode::AccErr) => {
                self.force(SigInfo::fault(Signal::SIGSEGV, code::SEGV_ACCERR, addr));
            }
            // On riscv a poisoned page is told as any bus error; faults for a monitor wait.
            Fault::Bus | Fault::Poisoned | Fault::Userfault(_) => {
                self.force(SigInfo::fault(Signal::SIGBUS, code::BUS_ADRERR, addr));
            }
            // Nobody else can be killed for it.
            Fault::Oom => {
                let _ = self.group().send(SigInfo::kernel(Signal::SIGKILL));
            }
        }
    }

    /// RLIMIT_CPU: SIGXCPU at the soft limit and every second after it, SIGKILL at the hard one
    /// (Linux kernel/time/posix-cpu-timers.c: `check_process_timers`).
    fn check_cpu_limit(&self) {
        let group = self.group();
        let limit = group.limits.get(Resource::Cpu);
        if limit.soft == UNLIMITED {
            return;
        }
        let seconds = group.cpu_time() / SECOND;
        if seconds >= limit.hard {
            let _ = group.send(SigInfo::kernel(Signal::SIGKILL));
        } else if seconds >= limit.soft {
            let _ = group.send(SigInfo::kernel(Signal::SIGXCPU));
            group.limits.set(Resource::Cpu, Limit { soft: seconds + 1, ..limit });
        }
    }

    /// Lets other tasks run; goes on behind those that wait for a processor now.
    pub(crate) async fn give_way(&self) {
        let mut gave_way = false;
        std::future::poll_fn(|_| {
            if gave_way {
                return std::task::Poll::Ready(());
            }
            gave_way = true;
            self.waker().wake();
            std::task::Poll::Pending
        })
        .await;
    }

    /// `Err(EPERM)` without `capability`.
    ///
    /// # Errors
    /// EPERM.
    pub(crate) fn require(&self, capability: crate::task::Capability) -> Result<(), Errno> {
        if self.creds().has_cap(capability) { Ok(()) } else { Err(Errno::EPERM) }
    }
}
