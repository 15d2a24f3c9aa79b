//! No memory, and none to be made: who must go (Linux 6.18 mm/oom_kill.c).
//!
//! Where the limit of a group of memory is in the way it is somebody in that group
//! (Linux `mem_cgroup_out_of_memory`).
//!
//! The process with the highest badness gets SIGKILL, with all that share its memory; whoever needed
//! memory waits until it has gone and tries again. While one is going no other is chosen.

use crate::kernel::Kernel;
use crate::signal::Signal;
use crate::signal::info::SigInfo;
use crate::task::{Task, ThreadGroup};
use kilburn_mm::{Memcg, MemcgEvent};
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
    /// How much a process deserves to be killed, in pages, where as many are to be had as `within` has;
    /// `None` if it must not be (Linux `oom_badness`).
    fn oom_badness(&self, group: &ThreadGroup, within: Option<&Memcg>) -> Option<i64> {
        if group.unkillable.get() {
            return None;
        }
        let mm = group.threads.borrow().iter().find_map(|thread| thread.mm())?;
        mm.oom_badness_within(group.oom_score_adj.get() as i16, within)
    }

    /// Nothing more can be reclaimed: sees to it that memory becomes free (Linux
    /// `out_of_memory`).
    pub(crate) fn out_of_memory(&self, task: &Task) -> NoMemory {
        let within = self.memory.take_memcg_oom();
        if task.fatal_signal_pending() || !self.kill_for_memory(within.as_deref()) {
            return NoMemory::GiveUp;
        }
        if task.fatal_signal_pending() { NoMemory::GiveUp } else { NoMemory::Retry }
    }

    /// A group has more than a limit set just now allows, and nothing of it can be reclaimed.
    pub(crate) fn out_of_memory_in(&self, memcg: &Memcg) {
        memcg.note(MemcgEvent::Oom);
        self.kill_for_memory(Some(memcg));
    }

    /// Whether a process is charged to a group of memory or to one below it.
    fn is_charged_within(&self, process: &ThreadGroup, memcg: Option<&Memcg>) -> bool {
        let Some(memcg) = memcg else { return true };
        self.memory.memcg(process.memcg.get()).is_some_and(|its| its.is_within(memcg.id()))
    }

    /// Chooses a process of a group, or of the machine, and kills it, unless one is going already; whether one
    /// is going now.
    fn kill_for_memory(&self, within: Option<&Memcg>) -> bool {
        let groups: Vec<_> = self
            .all_groups()
            .into_iter()
            .filter(|process| self.is_charged_within(process, within))
            .collect();
        let is_going = |group: &&Rc<ThreadGroup>| {
            let threads = group.threads.borrow();
            threads.iter().any(|thread| thread.fatal_signal_pending() && thread.mm().is_some())
        };
        if groups.iter().any(|group| is_going(&group)) {
            return true;
        }
        let mut victim: Option<(i64, &Rc<ThreadGroup>)> = None;
        for group in groups.iter().filter(|group| !group.is_zombie()) {
            // Of equals the last met: the youngest, but for ids used again.
            if let Some(badness) = self.oom_badness(group, within)
                && victim.is_none_or(|(worst, _)| badness >= worst)
            {
                victim = Some((badness, group));
            }
        }
        let Some((_, victim)) = victim else { return false };
        self.counters.oom_kills.set(self.counters.oom_kills.get() + 1);
        let mm = victim.threads.borrow().iter().find_map(|thread| thread.mm());
        let memcg = self.memory.memcg(victim.memcg.get());
        if let Some(memcg) = &memcg {
            memcg.note(MemcgEvent::OomKill);
        }
        for group in self.all_groups() {
            let shares = group.threads.borrow().iter().any(|thread| {
                mm.as_ref().is_some_and(|mm| thread.mm().is_some_and(|own| Arc::ptr_eq(&own, mm)))
            });
            if shares && group.oom_score_adj.get() != NEVER && !group.unkillable.get() {
                let _ = group.send(SigInfo::kernel(Signal::SIGKILL));
            }
        }
        if let Some(whole) = memcg.and_then(|memcg| whole_group(&memcg, within)) {
            whole.note(MemcgEvent::OomGroupKill);
            for process in self.all_groups() {
                let spared = process.oom_score_adj.get() == NEVER || process.unkillable.get();
                if !spared && self.is_charged_within(&process, Some(&whole)) {
                    let _ = process.send(SigInfo::kernel(Signal::SIGKILL));
                }
            }
        }
        true
    }
}

/// The highest group above a victim, up to the one that is out of memory, that ends as a whole
/// (Linux `mem_cgroup_get_oom_group`).
fn whole_group(memcg: &Arc<Memcg>, within: Option<&Memcg>) -> Option<Arc<Memcg>> {
    let mut found = None;
    let mut next = Some(Arc::clone(memcg));
    while let Some(memcg) = next {
        if memcg.is_oom_group() {
            found = Some(Arc::clone(&memcg));
        }
        next = memcg.parent().filter(|_| within.is_none_or(|within| within.id() != memcg.id()));
    }
    found
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
