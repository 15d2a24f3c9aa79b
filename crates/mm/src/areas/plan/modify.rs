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
use super::{AreaWatch, Areas, Merge, Refused, between};
use crate::Host;
use crate::areas::tree::Cursor;
use crate::areas::{VmaMut, VmaName};
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
        let cursor = self.cursor_containing(part.start()).expect("the part is in an area");
        let whole = self.range_at(cursor);
        assert!(whole.contains_range(part), "the part is in one area");
        if let Some(merge) = self.merge_existing(cursor, part, &change) {
            return Ok(ModifyPlan(How::Merge(merge)));
        }
        let mut count = self.len();
        let mut left_split_at = None;
        for at in [part.start(), part.end()] {
            if at == whole.start() || at == whole.end() {
                continue;
            }
            if count >= max_map_count as usize {
                return Err(Refused { errno: Errno::ENOMEM, left_split_at });
            }
            if self.at(cursor).is_special() {
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
                let cursor = self.cursor_containing(part.start()).expect("a plan changes an area");
                let mut cursor = self.split_at(cursor, part.start(), watch);
                if part.end() < self.range_at(cursor).end() {
                    (cursor, _) = self.cut_watched(cursor, between(part.end(), part.end()), watch);
                }
                let mut vma = VmaMut { areas: self, cursor };
                vma.set_flags(change.flags);
                if let Some(name) = change.name {
                    vma.set_name(name);
                }
                if let Some(userfault) = change.userfault {
                    vma.set_userfault(userfault);
                }
                watch.reflagged(vma.as_ref());
                part.start()
            }
        }
    }

    /// `vma_merge_existing_range`: which neighbours the changed part joins.
    fn merge_existing(
        &self,
        cursor: Cursor,
        part: AddrRange,
        change: &Change<H>,
    ) -> Option<Merge<H>> {
        if change.flags.intersects(VmFlags::SPECIAL) {
            return None;
        }
        let whole = self.range_at(cursor);
        let (at_start, at_end) = (part.start() == whole.start(), part.end() == whole.end());
        let prev = if at_start { self.tree.prev(cursor) } else { None }.filter(|&prev| {
            self.range_at(prev).end() == part.start() && self.may_merge(prev, change.flags)
        });
        let next = if at_end { self.tree.next(cursor) } else { None }.filter(|&next| {
            self.range_at(next).start() == part.end() && self.may_merge(next, change.flags)
        });
        if prev.is_none() && next.is_none() {
            // Most changes: nothing of the areas themselves was looked at.
            return None;
        }
        let vma = self.at(cursor);
        let changed = Proposed {
            range: part,
            pgoff: vma.page_index(part.start()),
            flags: change.flags,
            name: change.name.as_ref().unwrap_or(vma.name()),
            userfault: match &change.userfault {
                Some(userfault) => userfault.as_ref(),
                None => vma.userfault(),
            },
            ..vma.proposed(Source::Existing)
        };
        let prev = prev.map(|prev| self.at(prev)).filter(|prev| prev.continues_into(&changed));
        let next = next
            .map(|next| self.at(next))
            .filter(|next| next.continues_from(&changed))
            .filter(|next| prev.is_none_or(|prev| prev.anon_joins(*next)));
        if at_start && at_end && vma.has_close() {
            return None;
        }
        let (merge, rest) = match (prev, next) {
            (None, None) => return None,
            (Some(prev), Some(next)) if !next.has_close() => {
                let to = between(prev.start(), next.end());
                let merge = Merge::of(prev, to, change.flags).taking_all(next).taking_all(vma);
                return Some(merge);
            }
            (Some(prev), _) => {
                let to = between(prev.start(), part.end());
                (Merge::of(prev, to, change.flags), between(part.end(), vma.end()))
            }
            (None, Some(next)) => {
                let to = between(part.start(), next.end());
                (Merge::of(next, to, change.flags), between(vma.start(), part.start()))
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
