//! What a task does about its signals before it returns to user mode (Linux
//! arch/riscv/kernel/signal.c: `arch_do_signal_or_restart`; kernel/signal.c: `get_signal`).

use crate::report::ExitStatus;
use crate::sched::Restart;
use crate::signal::action::{DefaultAction, SIG_DFL, SIG_IGN, SaFlags, SigAction};
use crate::signal::{SigInfo, Signal};
use crate::task::Task;
use kilburn_addr::Errno;
use kilburn_riscv::Regs;
use std::rc::Rc;

/// Number of `restart_syscall`.
const RESTART_SYSCALL: u64 = 128;

impl Task {
    /// Serves signals and stops until the task may run user code; afterwards [`Task::exiting`]
    /// says whether it must end instead.
    pub(crate) async fn work_before_user(self: &Rc<Self>) {
        while self.exiting.get().is_none() && self.signal_pending() {
            if self.fatal_signal_pending() {
                self.die_with_group();
                return;
            }
            if self.must_stop() {
                self.stay_stopped().await;
                continue;
            }
            let Some(info) = self.dequeue_signal(self.signals.blocked.get()) else { break };
            self.act_on(info).await;
        }
        self.finish_interrupted_call(None);
        if let Some(saved) = self.signals.saved_blocked.take() {
            self.signals.blocked.set(saved);
        }
    }

    fn die_with_group(&self) {
        let status = self.group().group_exit.get();
        self.exiting.set(Some(status.unwrap_or(ExitStatus::Killed(Signal::SIGKILL.number()))));
        if status.is_none() {
            self.group().kill_all(ExitStatus::Killed(Signal::SIGKILL.number()));
        }
    }

    async fn act_on(self: &Rc<Self>, info: SigInfo) {
        if let Some(tracer) = &self.kernel().tracer {
            tracer.signal(self, &info);
        }
        let sighand = self.sighand();
        let action = sighand.get(info.signal);
        match action.handler {
            SIG_IGN => (),
            SIG_DFL => self.default_action(&info),
            _ => {
                if action.flags.contains(SaFlags::RESETHAND) {
                    sighand.set(info.signal, SigAction { handler: SIG_DFL, ..action });
                }
                self.run_handler(info, &action).await;
            }
        }
    }

    fn default_action(self: &Rc<Self>, info: &SigInfo) {
        let signal = info.signal;
        let group = self.group();
        if group.unkillable.get() && !Signal::UNBLOCKABLE.contains(signal) {
            return;
        }
        match signal.default_action() {
            DefaultAction::Ignore | DefaultAction::Continue => (),
            DefaultAction::Stop => {
                // A background process of an orphaned group would never be resumed.
                if signal == Signal::SIGSTOP || !self.kernel().is_orphaned_group(group.pgid.get()) {
                    self.begin_stop(signal);
                }
            }
            action @ (DefaultAction::Terminate | DefaultAction::Core) => {
                let dumped = action == DefaultAction::Core && self.dump_core(info);
                let number = signal.number();
                group.kill_all(if dumped {
                    ExitStatus::Dumped(number)
                } else {
                    ExitStatus::Killed(number)
                });
                self.exiting.set(group.group_exit.get());
            }
        }
    }

    async fn run_handler(self: &Rc<Self>, info: SigInfo, action: &SigAction) {
        self.finish_interrupted_call(Some(action));
        self.abort_rseq().await;
        let blocked = self.signals.blocked.get();
        let mask = self.signals.saved_blocked.take().unwrap_or(blocked);
        if self.push_frame(&info, action, mask).await.is_err() {
            // Linux signal_setup_done: force_sigsegv.
            if info.signal == Signal::SIGSEGV {
                self.force_fatal(Signal::SIGSEGV);
            } else {
                self.force(SigInfo::kernel(Signal::SIGSEGV));
            }
            return;
        }
        let mut blocked = blocked.union(action.mask);
        if !action.flags.contains(SaFlags::NODEFER) {
            blocked = blocked.with(info.signal);
        }
        self.signals.blocked.set(blocked.minus(Signal::UNBLOCKABLE));
    }

    /// Settles a call that a signal interrupted. The registers still stand at its `ecall` with
    /// its arguments, so doing nothing restarts it; with a handler it may answer EINTR instead.
    fn finish_interrupted_call(&self, handler: Option<&SigAction>) {
        let Some(restart) = self.interrupted.take() else { return };
        let answer_eintr = match (restart, handler) {
            (Restart::Sys, Some(action)) => !action.flags.contains(SaFlags::RESTART),
            (Restart::NoHand | Restart::Block, Some(_)) => true,
            (Restart::Block, None) => {
                self.regs.borrow_mut().x[Regs::A7] = RESTART_SYSCALL;
                false
            }
            (Restart::Sys | Restart::NoHand, None) | (Restart::NoIntr, _) => false,
        };
        if answer_eintr {
            let mut regs = self.regs.borrow_mut();
            regs.x[Regs::A0] = Errno::EINTR.to_return_value();
            regs.pc = regs.pc.wrapping_add(4);
        }
    }
}
