//! Plans: what a call splits, merges and removes, decided before anything changes.
//!
//! | call | plan | Linux 6.18 mm/vma.c |
//! |---|---|---|
//! | mmap, brk, a special mapping | [`Areas::plan_insert`] | `vma_merge_new_range`, `do_brk_flags` |
//! | munmap, MAP_FIXED | [`Areas::plan_unmap`] | `vms_gather_munmap_vmas` |
//! | mprotect, mlock, madvise, ... | [`Areas::plan_modify`] | `vma_modify` |
//! | mremap | [`Areas::plan_extend`], [`Areas::plan_copy`] | `vma_merge_extend`, `copy_vma` |
//! | stack growth | [`Areas::plan_stack_growth`] | `expand_downwards` |
//!
//! A plan holds for the areas it was made from: commit it before anything else changes them.

mod insert;
mod modify;
mod stack;
mod unmap;

pub use insert::{InsertPlan, Neighbours};
pub use modify::{Change, ModifyPlan};
pub use stack::StackGrowth;
pub use unmap::UnmapPlan;

use super::{Areas, Vma, merge};
use crate::Host;
use crate::anon_vma::{AnonSlot, AnonVma};
use alloc::sync::Arc;
use kilburn_addr::{AddrRange, Errno, VirtAddr, VmFlags};

/// Told of every area that comes, goes or changes its range or flags, after the fact: for indexes from
/// files to areas, and for devices that count their mappings. `()` does not care.
pub trait AreaWatch<H: Host> {
    /// An area came to be: a new one, or (Linux `vm_ops->open`) a part of one that was split or
    /// moved.
    fn inserted(&mut self, vma: &Vma<H>) {
        let _ = vma;
    }

    /// An area is no more: unmapped, or merged into a neighbour.
    fn removed(&mut self, vma: &Vma<H>) {
        let _ = vma;
    }

    /// An area has another range; it was `from`.
    fn resized(&mut self, from: AddrRange, vma: &Vma<H>) {
        let _ = (from, vma);
    }

    /// An area has other flags, and its range still.
    fn reflagged(&mut self, vma: &Vma<H>) {
        let _ = vma;
    }
}

impl<H: Host> AreaWatch<H> for () {}

/// Why a plan cannot be: the errno, and what Linux has already split by then and leaves so.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Refused {
    /// What the call answers.
    pub errno: Errno,
    /// Where an area stays split ([`Areas::leave_split`]).
    pub left_split_at: Option<VirtAddr>,
}

impl Refused {
    const fn unchanged(errno: Errno) -> Self {
        Self { errno, left_split_at: None }
    }
}

/// Areas that become one.
pub(super) struct Merge<H: Host> {
    /// Start of the area that grows.
    target: VirtAddr,
    /// What it covers then.
    to: AddrRange,
    /// Areas that go, by start.
    remove: [Option<VirtAddr>; 2],
    /// An area that gives up a part, by start, and what it keeps.
    shrink: Option<(VirtAddr, AddrRange)>,
    /// Whom the merged area's pages belong to: the target's, or of those that come along
    /// (`dup_anon_vma`).
    adopt: Option<Arc<AnonVma<H>>>,
    /// Flags that stick to the merged area.
    sticky: VmFlags,
}

impl<H: Host> Merge<H> {
    /// `target` grows to `to`; the merged area has what sticks of `flags`.
    fn of(target: &Vma<H>, to: AddrRange, flags: VmFlags) -> Self {
        let sticky = (flags | target.flags) & merge::STICKY;
        let adopt = target.anon_vma.get().cloned();
        Self { target: target.start(), to, remove: [None; 2], shrink: None, adopt, sticky }
    }

    /// The pages of `other` come along.
    fn taking(mut self, other: Option<&Arc<AnonVma<H>>>) -> Self {
        self.adopt = self.adopt.or_else(|| other.cloned());
        self
    }

    /// All of `other` comes along; it goes.
    fn taking_all(mut self, other: &Vma<H>) -> Self {
        self.sticky |= other.flags & merge::STICKY;
        let free = self.remove.iter_mut().find(|start| start.is_none());
        *free.expect("at most two areas go") = Some(other.start());
        self.taking(other.anon_vma.get())
    }
}

impl<H: Host> Areas<H> {
    /// Leaves an area split at `at`, when it is not split there already: what Linux leaves behind
    /// after a refusal.
    pub fn leave_split(&mut self, at: Option<VirtAddr>, watch: &mut impl AreaWatch<H>) {
        let Some(at) = at else { return };
        if self.containing(at).is_some_and(|vma| vma.start() < at) {
            self.split(at, watch);
        }
    }

    /// Splits the area that contains `at`, which lies inside it (`__split_vma`); answers the upper
    /// part's end.
    fn split(&mut self, at: VirtAddr, watch: &mut impl AreaWatch<H>) {
        let vma = self.containing(at).expect("a plan splits what is there");
        let (start, end) = (vma.start(), vma.end());
        let mut upper = vma.clone();
        upper.range = range(at, end);
        upper.pgoff = vma.page_index(at);
        self.resize_watched(start, range(start, at), watch);
        self.insert_watched(upper, watch);
    }

    fn insert_watched(&mut self, vma: Vma<H>, watch: &mut impl AreaWatch<H>) {
        let start = vma.start();
        self.insert(vma);
        watch.inserted(self.containing(start).expect("just inserted"));
    }

    fn remove_watched(&mut self, start: VirtAddr, watch: &mut impl AreaWatch<H>) -> Vma<H> {
        let vma = self.remove(start);
        watch.removed(&vma);
        vma
    }

    fn resize_watched(&mut self, start: VirtAddr, to: AddrRange, watch: &mut impl AreaWatch<H>) {
        let from = self.containing(start).expect("a plan resizes what is there").range;
        self.resize(start, to);
        watch.resized(from, self.containing(to.start()).expect("just resized"));
    }

    fn commit_merge(&mut self, merge: Merge<H>, watch: &mut impl AreaWatch<H>) -> VirtAddr {
        for start in merge.remove.into_iter().flatten() {
            self.remove_watched(start, watch);
        }
        if let Some((start, to)) = merge.shrink {
            self.resize_watched(start, to, watch);
        }
        let from = self.containing(merge.target).expect("a plan grows what is there").range;
        self.resize(merge.target, merge.to);
        let start = merge.to.start();
        let mut target = self.get_mut(start).expect("just resized");
        target.flags |= merge.sticky;
        if target.anon_vma.get().is_none() {
            target.anon_vma = AnonSlot::holding(merge.adopt);
        }
        drop(target);
        // Told last: whoever watches sees the area as it stays.
        watch.resized(from, self.containing(start).expect("just resized"));
        start
    }

    /// The `AnonVma` that the area starting at `start` may share with a neighbour instead of
    /// having one of its own at its first write, so that mprotect can merge them again later
    /// (Linux 6.18 mm/vma.c: `find_mergeable_anon_vma`).
    pub fn anon_vma_to_share(&self, start: VirtAddr) -> Option<Arc<AnonVma<H>>> {
        let vma = self.containing(start)?;
        let (before, _) = self.neighbours(vma.start());
        let after = self.find(vma.end()).filter(|next| vma.may_share_anon_with_next(next));
        let before = before.filter(|prev| prev.may_share_anon_with_next(vma));
        let reusable = |old: &Vma<H>| old.anon_vma.get().filter(|anon| !anon.is_forked()).cloned();
        after.and_then(reusable).or_else(|| before.and_then(reusable))
    }
}

/// A range whose ends are known to be in order.
fn range(start: VirtAddr, end: VirtAddr) -> AddrRange {
    AddrRange::new(start, end).expect("a plan's ranges are in order")
}
