//! No memory, and none to be made: who must go (Linux 6.18 mm/oom_kill.c).
//!
//! The process with the highest badness gets SIGKILL, with all that share its memory; whoever needed
//! memory waits until it has gone and tries again. While one is going no other is chosen.

use crate::kernel::Kernel;
use crate::signal::Signal;
use crate::signal::info::SigInfo;
use crate::task::{Task, ThreadGroup};
use std::rc::Rc;
use std::sync::Arc;

/// `OOM_SCORE_ADJ_MIN`: such a process is never chosen.
const NEVER: i32 = -1000;

/// What somebody does who got no memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum NoMemory {
    /// Memory is being freed: lets others run, then tries again.
    Retry,
    /// Gives up: it is being killed itself, or nobody can be.
    GiveUp,
}

impl Kernel {
    /// How much a process deserves to be killed, in pages; `None` if it must not be
    /// (Linux `oom_badness`).
    pub(crate) fn oom_badness(&self, group: &ThreadGroup) -> Option<i64> {
        if group.unkillable.get() {
            return None;
        }
        let mm = group.threads.borrow().iter().find_map(|thread| thread.mm())?;
        mm.oom_badness(group.oom_score_adj.get() as i16)
    }

    /// Nothing more can be reclaimed: sees to it that memory becomes free (Linux
    /// `out_of_memory`).
    pub(crate) fn out_of_memory(&self, task: &Task) -> NoMemory {
        if task.fatal_signal_pending() {
            return NoMemory::GiveUp;
        }
        let groups = self.all_groups();
        let is_going = |group: &&Rc<ThreadGroup>| {
            let threads = group.threads.borrow();
            threads.iter().any(|thread| thread.fatal_signal_pending() && thread.mm().is_some())
        };
        if groups.iter().any(|group| is_going(&group)) {
            return NoMemory::Retry;
        }
        let mut victim: Option<(i64, &Rc<ThreadGroup>)> = None;
        for group in groups.iter().filter(|group| !group.is_zombie()) {
            // Of equals the first met, which has the lowest id.
            if let Some(badness) = self.oom_badness(group)
                && victim.is_none_or(|(worst, _)| badness > worst)
            {
                victim = Some((badness, group));
            }
        }
        let Some((_, victim)) = victim else { return NoMemory::GiveUp };
        self.counters.oom_kills.set(self.counters.oom_kills.get() + 1);
        let mm = victim.threads.borrow().iter().find_map(|thread| thread.mm());
        for group in &groups {
            let shares = group.threads.borrow().iter().any(|thread| {
                mm.as_ref().is_some_and(|mm| thread.mm().is_some_and(|own| Arc::ptr_eq(&own, mm)))
            });
            if shares && group.oom_score_adj.get() != NEVER && !group.unkillable.get() {
                let _ = group.send(SigInfo::kernel(Signal::SIGKILL));
            }
        }
        if task.fatal_signal_pending() { NoMemory::GiveUp } else { NoMemory::Retry }
    }
}

impl Task {
    /// There was no memory for this task: waits until there may be. Whether to try again.
    pub(crate) async fn wait_for_memory(&self) -> NoMemory {
        let what = self.kernel().out_of_memory(self);
        if what == NoMemory::Retry {
            self.give_way().await;
        }
        what
    }
}
