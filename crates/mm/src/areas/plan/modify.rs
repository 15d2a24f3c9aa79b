//! Changing a part of an area: it joins neighbours that it equals then, or is split off.
//!
//! ```text
//!   prev  area  next        the part (*) is changed to be like A
//!   AAAA  ****  AAAA   ->  AAAAAAAAAAAA      both
//!   AAAA  **BB         ->  AAAAAA BB         the lower neighbour grows, the area shrinks
//!         BB**  AAAA   ->  BB AAAAAA         the upper neighbour grows down
//!         B**B         ->  B ** B            no edge of the area is in the part: never merged
//! ```

use super::super::merge::{Proposed, Source};
use super::{AreaWatch, Areas, Merge, Refused, range};
use crate::Host;
use crate::areas::{Vma, VmaName};
use crate::userfault::Userfaultfd;
use alloc::sync::Arc;
use kilburn_addr::{AddrRange, Errno, VirtAddr, VmFlags};

/// What a part of an area becomes.
pub struct Change<H: Host> {
    /// Its flags.
    pub flags: VmFlags,
    /// Its name, when that changes.
    pub name: Option<VmaName>,
    /// Who resolves its faults, when that changes.
    pub userfault: Option<Option<Arc<Userfaultfd<H>>>>,
}

impl<H: Host> Change<H> {
    /// Only the flags change.
    pub const fn flags(flags: VmFlags) -> Self {
        Self { flags, name: None, userfault: None }
    }
}

/// How a part of an area is changed.
pub struct ModifyPlan<H: Host>(How<H>);

enum How<H: Host> {
    Merge(Merge<H>),
    Split { part: AddrRange, change: Change<H> },
}

impl<H: Host> ModifyPlan<H> {
    /// Whether the part becomes one with a neighbour.
    pub fn merges(&self) -> bool {
        matches!(self.0, How::Merge(_))
    }
}

impl<H: Host> Areas<H> {
    /// How `part`, which lies within one area, is changed (Linux `vma_modify`).
    ///
    /// # Errors
    /// - `ENOMEM`: the area must be split and there are `max_map_count` areas
    /// - `EINVAL`: a mapping of the kernel's would be split
    ///
    /// # Panics
    /// When `part` is not within one area.
    pub fn plan_modify(
        &self,
        part: AddrRange,
        change: Change<H>,
        max_map_count: u32,
    ) -> Result<ModifyPlan<H>, Refused> {
        let vma = self.containing(part.start()).expect("the part is in an area");
        assert!(vma.range.contains_range(part), "the part is in one area");
        if let Some(merge) = self.merge_existing(vma, part, &change) {
            return Ok(ModifyPlan(How::Merge(merge)));
        }
        let mut count = self.len();
        let mut left_split_at = None;
        for at in [part.start(), part.end()] {
            if at == vma.start() || at == vma.end() {
                continue;
            }
            if count >= max_map_count as usize {
                return Err(Refused { errno: Errno::ENOMEM, left_split_at });
            }
            if vma.is_special() {
                return Err(Refused { errno: Errno::EINVAL, left_split_at });
            }
            left_split_at = Some(at);
            count += 1;
        }
        Ok(ModifyPlan(How::Split { part, change }))
    }

    /// Applies the plan; answers the start of the area that holds the part then, which may be
    /// larger than the part.
    pub fn commit_modify(
        &mut self,
        plan: ModifyPlan<H>,
        watch: &mut impl AreaWatch<H>,
    ) -> VirtAddr {
        match plan.0 {
            How::Merge(merge) => self.commit_merge(merge, watch),
            How::Split { part, change } => {
                self.leave_split(Some(part.start()), watch);
                self.leave_split(Some(part.end()), watch);
                let mut vma = self.get_mut(part.start()).expect("just split");
                vma.flags = change.flags;
                if let Some(name) = change.name {
                    vma.name = name;
                }
                if let Some(userfault) = change.userfault {
                    vma.userfault = userfault;
                }
                watch.reflagged(&vma);
                part.start()
            }
        }
    }

    /// `vma_merge_existing_range`: which neighbours the changed part joins.
    fn merge_existing(
        &self,
        vma: &Vma<H>,
        part: AddrRange,
        change: &Change<H>,
    ) -> Option<Merge<H>> {
        if change.flags.intersects(VmFlags::SPECIAL) {
            return None;
        }
        let changed = Proposed {
            range: part,
            pgoff: vma.page_index(part.start()),
            flags: change.flags,
            name: change.name.as_ref().unwrap_or(&vma.name),
            userfault: match &change.userfault {
                Some(userfault) => userfault.as_ref(),
                None => vma.userfault.as_ref(),
            },
            ..vma.proposed(Source::Existing)
        };
        let at_start = part.start() == vma.start();
        let at_end = part.end() == vma.end();
        let prev = if at_start { self.neighbour_heads(vma.start()).0 } else { None };
        let prev = prev
            .filter(|prev| prev.range.end() == part.start() && prev.may_merge(change.flags))
            .and_then(|prev| self.containing(prev.range.start()))
            .filter(|prev| prev.continues_into(&changed));
        let next = if at_end { self.head(vma.end()) } else { None };
        let next = next
            .filter(|next| next.range.start() == part.end() && next.may_merge(change.flags))
            .and_then(|next| self.containing(next.range.start()))
            .filter(|next| next.continues_from(&changed))
            .filter(|next| prev.is_none_or(|prev| prev.anon_joins(next)));
        if at_start && at_end && vma.has_close() {
            return None;
        }
        let (merge, rest) = match (prev, next) {
            (None, None) => return None,
            (Some(prev), Some(next)) if !next.has_close() => {
                let to = range(prev.start(), next.end());
                let merge = Merge::of(prev, to, change.flags).taking_all(next).taking_all(vma);
                return Some(merge);
            }
            (Some(prev), _) => {
                let to = range(prev.start(), part.end());
                (Merge::of(prev, to, change.flags), range(part.end(), vma.end()))
            }
            (None, Some(next)) => {
                let to = range(part.start(), next.end());
                (Merge::of(next, to, change.flags), range(vma.start(), part.start()))
            }
        };
        if rest.is_empty() {
            return Some(merge.taking_all(vma));
        }
        let mut merge = merge.taking(vma.anon_vma.get());
        merge.shrink = Some((vma.start(), rest));
        Some(merge)
    }
}
