//! Adding an area to a free range: on its own, or as more of its neighbours.
//!
//! ```text
//!   prev  new  next            prev grows over new, and over next when that fits too
//!   AAAA  AAAA AAAA    ->  AAAAAAAAAAAAAA
//!   AAAA  AAAA BBBB    ->  AAAAAAAA BBBB
//!   BBBB  AAAA AAAA    ->  BBBB AAAAAAAA      next grows down
//! ```

use super::super::merge::{Proposed, Source};
use super::{AreaWatch, Areas, Merge, between};
use crate::Host;
use crate::areas::Vma;
use kilburn_addr::{AddrRange, PAGE_SHIFT, VirtAddr, VmFlags};

/// Which neighbours a new area may merge with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Neighbours {
    /// Both (mmap).
    Both,
    /// The one before (`just_expand`: brk, when the area before the break ends there).
    LowerOnly,
    /// None (brk otherwise, special mappings, the stack).
    None,
}

/// How a new area comes to be.
pub struct InsertPlan<H: Host>(How<H>);

enum How<H: Host> {
    New(Vma<H>),
    Merge(Merge<H>),
}

impl<H: Host> InsertPlan<H> {
    /// Whether an existing area takes the new one in.
    pub fn merges(&self) -> bool {
        matches!(self.0, How::Merge(_))
    }

    fn new(vma: Vma<H>) -> Self {
        Self(How::New(vma))
    }
}

impl<H: Host> Areas<H> {
    /// How `new` goes into its range, which must be free.
    ///
    /// # Panics
    /// When the range is not free.
    pub fn plan_insert(&self, new: Vma<H>, neighbours: Neighbours) -> InsertPlan<H> {
        match self.merge_new(&new.as_ref().proposed(Source::New), neighbours) {
            Some(merge) => InsertPlan(How::Merge(merge)),
            None => InsertPlan::new(new),
        }
    }

    /// How the area that starts at `start` gets `bytes` more at its end, which must be free there;
    /// `None` when it may not grow (Linux `vma_merge_extend`).
    pub fn plan_extend(&self, start: VirtAddr, bytes: u64) -> Option<InsertPlan<H>> {
        let vma = self.containing(start)?;
        let more = Proposed {
            range: AddrRange::with_len(vma.end(), bytes)?,
            pgoff: vma.page_index(vma.end()),
            ..vma.proposed(Source::New)
        };
        self.merge_new(&more, Neighbours::Both).map(|merge| InsertPlan(How::Merge(merge)))
    }

    /// How the pages from `from` on, in the area that starts at `start`, are also to appear at
    /// `to`, `len` bytes of them (Linux `copy_vma`). `to` must be free.
    ///
    /// An area without anonymous pages takes the page offset of its new place, so that it merges
    /// there; it may even take in the area it is copied from.
    pub fn plan_copy(
        &self,
        start: VirtAddr,
        from: VirtAddr,
        to: VirtAddr,
        len: u64,
    ) -> InsertPlan<H> {
        let source = self.containing(start).expect("a plan copies what is there");
        let mut copy = source.to_vma();
        copy.range = AddrRange::with_len(to, len).expect("the new place was validated");
        copy.pgoff = source.page_index(from);
        if source.is_anonymous() && source.anon_vma.get().is_none() {
            copy.pgoff = to.get() >> PAGE_SHIFT;
        }
        match self.merge_new(&copy.as_ref().proposed(Source::Existing), Neighbours::Both) {
            Some(merge) => InsertPlan(How::Merge(merge)),
            None => InsertPlan::new(copy),
        }
    }

    /// Applies the plan; answers the start of the area that holds the new range.
    pub fn commit_insert(
        &mut self,
        plan: InsertPlan<H>,
        watch: &mut impl AreaWatch<H>,
    ) -> VirtAddr {
        match plan.0 {
            How::New(vma) => {
                let start = vma.start();
                self.insert_watched(vma, watch);
                start
            }
            How::Merge(merge) => self.commit_merge(merge, watch),
        }
    }

    /// `vma_merge_new_range`: which neighbours take `new` in.
    ///
    /// # Panics
    /// When its range is not free.
    fn merge_new(&self, new: &Proposed<'_, H>, neighbours: Neighbours) -> Option<Merge<H>> {
        let (start, end) = (new.range.start(), new.range.end());
        let (prev, next) = self.around(start);
        let is_free = prev.is_none_or(|prev| self.range_at(prev).end() <= start)
            && next.is_none_or(|next| end <= self.range_at(next).start());
        assert!(is_free, "the range is free");
        if neighbours == Neighbours::None || new.flags.intersects(VmFlags::SPECIAL) {
            return None;
        }
        let prev = prev
            .filter(|&prev| self.range_at(prev).end() == start && self.may_merge(prev, new.flags))
            .map(|prev| self.at(prev))
            .filter(|prev| prev.continues_into(new));
        let next = next
            .filter(|_| neighbours == Neighbours::Both)
            .filter(|&next| self.range_at(next).start() == end && self.may_merge(next, new.flags))
            .map(|next| self.at(next))
            .filter(|next| next.continues_from(new));
        Some(match (prev, next) {
            (None, None) => return None,
            (Some(prev), Some(next)) if prev.anon_joins(next) && !next.has_close() => {
                Merge::of(prev, between(prev.start(), next.end()), new.flags)
                    .taking_all(next)
                    .taking(new.anon_vma)
            }
            (Some(prev), _) => {
                Merge::of(prev, between(prev.start(), end), new.flags).taking(new.anon_vma)
            }
            (None, Some(next)) => {
                Merge::of(next, between(start, next.end()), new.flags).taking(new.anon_vma)
            }
        })
    }
}
