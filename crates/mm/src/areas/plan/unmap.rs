//! Taking a range out: areas inside go, areas across its edges are cut.

use super::{AreaWatch, Areas, Refused, range};
use crate::Host;
use crate::areas::{AreaHead, Vma};
use kilburn_addr::{AddrRange, Errno, VirtAddr, VmFlags};

/// A range that will be free.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UnmapPlan {
    range: AddrRange,
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
        let mut plan = UnmapPlan { range: cut, split_at_start: None, split_at_end: None };
        let mut areas = self.heads_overlapping(cut).peekable();
        if let Some(first) = areas.peek().filter(|first| first.range.start() < cut.start()) {
            if cut.end() < first.range.end() && self.len() >= max_map_count as usize {
                return Err(Refused::unchanged(Errno::ENOMEM));
            }
            if first.flags.contains(VmFlags::SEALED) {
                return Err(Refused::unchanged(Errno::EPERM));
            }
            if self.is_special(first) {
                return Err(Refused::unchanged(Errno::EINVAL));
            }
            plan.split_at_start = Some(cut.start());
        }
        for area in areas {
            let errno = if area.flags.contains(VmFlags::SEALED) {
                Errno::EPERM
            } else if area.range.end() <= cut.end() {
                continue;
            } else if self.is_special(&area) {
                Errno::EINVAL
            } else {
                plan.split_at_end = Some(cut.end());
                continue;
            };
            return Err(Refused { errno, left_split_at: plan.split_at_start });
        }
        Ok(plan)
    }

    fn is_special(&self, area: &AreaHead) -> bool {
        self.containing(area.range.start()).is_some_and(Vma::is_special)
    }

    /// Applies the plan. `taken` is given every piece that goes, in order, with the range and page
    /// offset of the piece.
    pub fn commit_unmap(
        &mut self,
        plan: UnmapPlan,
        watch: &mut impl AreaWatch<H>,
        mut taken: impl FnMut(Vma<H>),
    ) {
        let UnmapPlan { range: cut, .. } = plan;
        while let Some(head) = self.head(cut.start()).filter(|h| h.range.start() < cut.end()) {
            let whole = head.range;
            if cut.contains_range(whole) {
                taken(self.remove_watched(whole.start(), watch));
                continue;
            }
            let vma = self.containing(whole.start()).expect("just found");
            let mut piece = vma.clone();
            piece.range = whole.intersection(cut).expect("it overlaps");
            piece.pgoff = vma.page_index(piece.start());
            let upper = (cut.end() < whole.end()).then(|| {
                let mut upper = vma.clone();
                upper.range = range(cut.end(), whole.end());
                upper.pgoff = vma.page_index(cut.end());
                upper
            });
            match upper {
                Some(upper) if whole.start() < cut.start() => {
                    let lower = range(whole.start(), cut.start());
                    self.resize_watched(whole.start(), lower, watch);
                    self.insert_watched(upper, watch);
                }
                Some(upper) => self.resize_watched(whole.start(), upper.range, watch),
                None => {
                    let lower = range(whole.start(), cut.start());
                    self.resize_watched(whole.start(), lower, watch);
                }
            }
            taken(piece);
        }
    }
}
