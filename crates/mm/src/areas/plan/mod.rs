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

use super::tree::Cursor;
use super::{Areas, Vma, VmaMut, VmaRef, between, merge};
use crate::Host;
use crate::anon_vma::{AnonSlot, AnonVma};
use alloc::sync::Arc;
use kilburn_addr::{AddrRange, Errno, VirtAddr, VmFlags};

/// Told of every area that comes, goes or changes its range or flags, after the fact: for indexes from
/// files to areas, and for devices that count their mappings. `()` does not care.
pub trait AreaWatch<H: Host> {
    /// An area came to be: a new one, or (Linux `vm_ops->open`) a part of one that was split or
    /// moved.
    fn inserted(&mut self, vma: VmaRef<'_, H>) {
        let _ = vma;
    }

    /// An area is no more: unmapped, or merged into a neighbour.
    fn removed(&mut self, vma: VmaRef<'_, H>) {
        let _ = vma;
    }

    /// An area has another range; it was `from`.
    fn resized(&mut self, from: AddrRange, vma: VmaRef<'_, H>) {
        let _ = (from, vma);
    }

    /// An area has other flags, and its range still.
    fn reflagged(&mut self, vma: VmaRef<'_, H>) {
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
    fn of(target: VmaRef<'_, H>, to: AddrRange, flags: VmFlags) -> Self {
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
    fn taking_all(mut self, other: VmaRef<'_, H>) -> Self {
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
        if let Some(cursor) = self.cursor_containing(at) {
            self.split_at(cursor, at, watch);
        }
    }

    /// Splits the area at `cursor`, which contains `at`, unless it starts there (`__split_vma`);
    /// where the part from `at` on is.
    fn split_at(&mut self, cursor: Cursor, at: VirtAddr, watch: &mut impl AreaWatch<H>) -> Cursor {
        if self.range_at(cursor).start() == at {
            return cursor;
        }
        self.cut_watched(cursor, between(at, at), watch).1
    }

    /// Takes the pages of `hole` out of the middle of the area at `cursor`; where its parts are.
    fn cut_watched(
        &mut self,
        cursor: Cursor,
        hole: AddrRange,
        watch: &mut impl AreaWatch<H>,
    ) -> (Cursor, Cursor) {
        let from = self.range_at(cursor);
        let (lower, upper) = self.cut_at(cursor, hole);
        watch.resized(from, self.at(lower));
        watch.inserted(self.at(upper));
        (lower, upper)
    }

    fn insert_watched(&mut self, vma: Vma<H>, watch: &mut impl AreaWatch<H>) {
        let cursor = self.place(vma);
        watch.inserted(self.at(cursor));
    }

    fn remove_watched(&mut self, cursor: Cursor, watch: &mut impl AreaWatch<H>) -> Vma<H> {
        let vma = self.remove_at(cursor);
        watch.removed(vma.as_ref());
        vma
    }

    fn resize_watched(&mut self, cursor: Cursor, to: AddrRange, watch: &mut impl AreaWatch<H>) {
        let from = self.range_at(cursor);
        let cursor = self.resize_at(cursor, to);
        watch.resized(from, self.at(cursor));
    }

    fn commit_merge(&mut self, merge: Merge<H>, watch: &mut impl AreaWatch<H>) -> VirtAddr {
        for start in merge.remove.into_iter().flatten() {
            let cursor = self.starting_at(start).expect("a plan removes what is there");
            self.remove_watched(cursor, watch);
        }
        if let Some((start, to)) = merge.shrink {
            let cursor = self.starting_at(start).expect("a plan shrinks what is there");
            self.resize_watched(cursor, to, watch);
        }
        let start = merge.to.start();
        let cursor = self.starting_at(merge.target).expect("a plan grows what is there");
        let from = self.range_at(cursor);
        let cursor = self.resize_at(cursor, merge.to);
        let mut target = VmaMut { areas: self, cursor };
        let VmaRef { flags, anon_vma, .. } = target.as_ref();
        let orphan = anon_vma.get().is_none();
        target.set_flags(flags | merge.sticky);
        if orphan && let Some(adopt) = merge.adopt {
            target.set_anon_vma(AnonSlot::holding(Some(adopt)));
        }
        // Told last: whoever watches sees the area as it stays.
        watch.resized(from, self.at(cursor));
        start
    }

    /// The `AnonVma` that the area starting at `start` may share with a neighbour instead of
    /// having one of its own at its first write, so that mprotect can merge them again later
    /// (Linux 6.18 mm/vma.c: `find_mergeable_anon_vma`).
    pub fn anon_vma_to_share(&self, start: VirtAddr) -> Option<Arc<AnonVma<H>>> {
        let vma = self.containing(start)?;
        let (before, _) = self.neighbours(vma.start());
        let after = self.find(vma.end()).filter(|next| vma.may_share_anon_with_next(*next));
        let before = before.filter(|prev| prev.may_share_anon_with_next(vma));
        let reusable =
            |old: VmaRef<'_, H>| old.anon_vma.get().filter(|anon| !anon.is_forked()).cloned();
        after.and_then(reusable).or_else(|| before.and_then(reusable))
    }
}
