//! Taking a range out: areas inside go, areas across its edges are cut.

use super::{AreaWatch, Areas, Refused, between};
use crate::Host;
use crate::areas::tree::Cursor;
use crate::areas::{AreaHead, Vma};
use kilburn_addr::{AddrRange, Errno, VirtAddr, VmFlags};

/// A range that will be free.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UnmapPlan {
    range: AddrRange,
    first: Option<Cursor>,
    split_at_start: Option<VirtAddr>,
    split_at_end: Option<VirtAddr>,
}

impl UnmapPlan {
    /// The range.
    pub fn range(&self) -> AddrRange {
        self.range
    }

    /// Where areas are cut. Linux cuts before it checks limits, and leaves the cuts when a check
    /// fails: pass them to [`Areas::leave_split`] then.
    pub fn splits(&self) -> [Option<VirtAddr>; 2] {
        [self.split_at_start, self.split_at_end]
    }
}

impl<H: Host> Areas<H> {
    /// What unmapping `range` (page-aligned, not empty) takes.
    ///
    /// # Errors
    /// - `ENOMEM`: an area would become two and there are `max_map_count` already
    /// - `EPERM`: a sealed area is in the way
    /// - `EINVAL`: a mapping of the kernel's would be cut
    pub fn plan_unmap(&self, cut: AddrRange, max_map_count: u32) -> Result<UnmapPlan, Refused> {
        let mut next = self.first_in(cut);
        let mut plan =
            UnmapPlan { range: cut, first: next, split_at_start: None, split_at_end: None };
        while let Some(cursor) = next {
            let AreaHead { range, flags } = self.head_at(cursor);
            if cut.end() <= range.start() {
                break;
            }
            let starts_before = range.start() < cut.start();
            let ends_after = cut.end() < range.end();
            let refused = |errno| Refused { errno, left_split_at: plan.split_at_start };
            if starts_before && ends_after && self.len() >= max_map_count as usize {
                return Err(refused(Errno::ENOMEM));
            }
            if flags.contains(VmFlags::SEALED) {
                return Err(refused(Errno::EPERM));
            }
            if (starts_before || ends_after) && self.at(cursor).is_special() {
                return Err(refused(Errno::EINVAL));
            }
            if starts_before {
                plan.split_at_start = Some(cut.start());
            }
            if ends_after {
                plan.split_at_end = Some(cut.end());
            }
            next = if range.end() < cut.end() { self.tree.next(cursor) } else { None };
        }
        Ok(plan)
    }

    /// Applies the plan. `taken` is given every piece that goes, in order, with the range and page
    /// offset of the piece.
    pub fn commit_unmap(
        &mut self,
        plan: UnmapPlan,
        watch: &mut impl AreaWatch<H>,
        mut taken: impl FnMut(Vma<H>),
    ) {
        let UnmapPlan { range: cut, first, .. } = plan;
        let mut next = first;
        while let Some(cursor) = next {
            let whole = self.range_at(cursor);
            if cut.contains_range(whole) {
                taken(self.remove_watched(cursor, watch));
            } else {
                let gone = whole.intersection(cut).expect("it overlaps");
                let vma = self.at(cursor);
                let mut piece = vma.to_vma();
                piece.pgoff = vma.page_index(gone.start());
                piece.range = gone;
                if gone.start() == whole.start() {
                    self.resize_watched(cursor, between(gone.end(), whole.end()), watch);
                } else if gone.end() == whole.end() {
                    self.resize_watched(cursor, between(whole.start(), gone.start()), watch);
                } else {
                    self.cut_watched(cursor, gone, watch);
                }
                taken(piece);
            }
            // The last one is cut short, or the range goes on.
            next = if whole.end() < cut.end() { self.first_in(cut) } else { None };
        }
    }
}
