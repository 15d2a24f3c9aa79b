//! Waiting for children (Linux kernel/exit.c: `do_wait`).

use crate::sched::SysError;
use crate::sched::wait::{Sleep, WaitSet, Wake};
use crate::signal::Signal;
use crate::signal::info::code;
use crate::task::group::{StateChange, StopState, Totals};
use crate::task::{Task, ThreadGroup, Tid};
use kilburn_addr::Errno;
use std::rc::Rc;

bitflags::bitflags! {
    /// `W*` options of wait4 and waitid.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub(crate) struct WaitOptions: u32 {
        const NOHANG = 1;
        /// `WUNTRACED`, `WSTOPPED`
        const STOPPED = 2;
        const EXITED = 4;
        const CONTINUED = 8;
        const NOWAIT = 0x0100_0000;
        /// `__WNOTHREAD`
        const NOTHREAD = 0x2000_0000;
        /// `__WALL`
        const ALL = 0x4000_0000;
        /// `__WCLONE`
        const CLONE = 0x8000_0000;
    }
}

/// Which children.
#[derive(Clone, Copy)]
pub(crate) enum Which<'a> {
    Any,
    Process(Tid),
    /// The one process behind a pidfd.
    Exactly(&'a Rc<ThreadGroup>),
    Group(Tid),
}

/// What was found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Waited {
    pub(crate) pid: Tid,
    pub(crate) uid: u32,
    /// `si_code`
    pub(crate) code: i32,
    /// `si_status`
    pub(crate) status: i32,
    /// As wait4 gives it.
    pub(crate) wait_status: i32,
    pub(crate) usage: Totals,
}

impl Task {
    /// Waits for a child that matches; `None` with `NOHANG` when none has changed yet.
    ///
    /// # Errors
    /// ECHILD when there is no such child; a restart when a signal comes.
    pub(crate) async fn wait_for_child(
        self: &Rc<Self>,
        which: Which<'_>,
        options: WaitOptions,
    ) -> Result<Option<Waited>, SysError> {
        loop {
            let mut set = WaitSet::new(self);
            set.add(&self.group().child_changed);
            let mut any = false;
            let children = self.group().children.borrow().clone();
            for child in children.iter().filter(|child| self.matches(child, which, options)) {
                any = true;
                if let Some(found) = self.inspect(child, options) {
                    return Ok(Some(found));
                }
            }
            if !any {
                return Err(Errno::ECHILD.into());
            }
            if options.contains(WaitOptions::NOHANG) {
                return Ok(None);
            }
            if set.wait(Sleep::Interruptible, None).await == Wake::Interrupted {
                return Err(SysError::RESTART_SYS);
            }
        }
    }

    fn inspect(&self, child: &Rc<ThreadGroup>, options: WaitOptions) -> Option<Waited> {
        let keep = options.contains(WaitOptions::NOWAIT);
        if let Some(status) = child.zombie.get() {
            if !options.contains(WaitOptions::EXITED) {
                return None;
            }
            let (code, si_status) = status.child_code();
            let found = waited(child, code, si_status, status.wait_status());
            if !keep {
                self.group().reap(self.kernel(), child);
            }
            return Some(found);
        }
        let change = child.change.get()?;
        let found = match (change, child.stop.get()) {
            (StateChange::Stopped(signal), StopState::Stopped(_))
                if options.contains(WaitOptions::STOPPED) =>
            {
                let number = i32::from(signal.number());
                waited(child, code::CLD_STOPPED, number, number << 8 | 0x7f)
            }
            (StateChange::Continued, _) if options.contains(WaitOptions::CONTINUED) => {
                let number = i32::from(Signal::SIGCONT.number());
                waited(child, code::CLD_CONTINUED, number, 0xffff)
            }
            _ => return None,
        };
        if !keep {
            child.change.set(None);
        }
        Some(found)
    }
}

impl Task {
    fn matches(&self, child: &Rc<ThreadGroup>, which: Which<'_>, options: WaitOptions) -> bool {
        let chosen = match which {
            Which::Any => true,
            Which::Process(pid) => child.tgid() == pid,
            Which::Exactly(group) => Rc::ptr_eq(child, group),
            Which::Group(pgid) => child.pgid.get() == pgid,
        };
        let own =
            !options.contains(WaitOptions::NOTHREAD) || child.parent_thread.get() == self.tid();
        // Linux eligible_child: children that do not send SIGCHLD are seen by __WCLONE alone.
        let clone_child = child.exit_signal.get() != Some(Signal::SIGCHLD);
        let kind = options.contains(WaitOptions::ALL)
            || clone_child == options.contains(WaitOptions::CLONE);
        chosen && own && kind
    }
}

fn waited(child: &ThreadGroup, code: i32, status: i32, wait_status: i32) -> Waited {
    let mut usage = child.totals();
    usage.add(&child.waited.get());
    Waited { pid: child.tgid(), uid: child.uid.get(), code, status, wait_status, usage }
}
