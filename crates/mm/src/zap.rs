//! Taking pages out of tables (Linux 6.18 mm/memory.c: `zap_pte_range`, mm/mmu_gather.c).
//!
//! Entries are cleared first, then TLBs forget them, then the frames lose their references: no
//! TLB ever translates to a frame that was given to somebody else.

use crate::accounting::{RssDelta, RssKind};
use crate::frames::FrameState;
use crate::host::{FlushReason, Host};
use crate::memory::Use;
use crate::mm::{Mm, TableGuard};
use crate::pte::{Marker, SwapPte};
use core::ops::ControlFlow;
use kilburn_addr::{AddrRange, PAGE_SIZE, Pfn, PhysAddr, VirtAddr};
use kilburn_paging::{Entry, Format, Leaf, LeafFlags, PhysMem, tables};
use smallvec::SmallVec;

/// What happens to private copies of file pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Copies {
    /// They go, too (Linux `even_cows`).
    Too,
    /// They stay.
    Stay,
}

/// Why pages are taken out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Zap {
    /// The area goes: so do its markers.
    Unmap,
    /// The area stays (MADV_DONTNEED): its guard markers do as well.
    Discard,
    /// The file lost the pages.
    Truncate(Copies),
    /// The address space ends; its TLB entries go once at the end.
    Exit,
}

impl Zap {
    /// Why TLBs are flushed before frames are let go; `None` when nobody can use them any more.
    fn flush_reason(self) -> Option<FlushReason> {
        match self {
            Self::Unmap | Self::Discard => Some(FlushReason::Unmap),
            Self::Truncate(_) => Some(FlushReason::Truncate),
            Self::Exit => None,
        }
    }
}

/// Frames taken out of tables, which keep their reference until TLBs have forgotten them.
struct Gather {
    frames: SmallVec<[Pfn; GATHER_INLINE]>,
    first: VirtAddr,
    last: VirtAddr,
    rss: RssDelta,
}

/// Frames gathered without memory of the heap.
const GATHER_INLINE: usize = 16;
/// Frames gathered before TLBs are flushed and the frames let go.
const GATHER_MAX: usize = 512;

impl Gather {
    fn new() -> Self {
        Self {
            frames: SmallVec::new(),
            first: VirtAddr::MAX,
            last: VirtAddr::ZERO,
            rss: RssDelta::default(),
        }
    }

    #[inline]
    fn note(&mut self, va: VirtAddr) {
        self.first = self.first.min(va);
        self.last = self.last.max(va);
    }

    /// Flushes what was noted and drops the references gathered.
    fn finish<H: Host>(&mut self, mm: &Mm<H>, reason: Option<FlushReason>) {
        mm.counts.apply(mm.memory().cpu(), self.rss);
        self.rss = RssDelta::default();
        if let Some(reason) = reason
            && self.first <= self.last
            && let Some(range) =
                AddrRange::with_len(self.first, self.last.get() - self.first.get() + PAGE_SIZE)
        {
            mm.flush(range, reason);
        }
        (self.first, self.last) = (VirtAddr::MAX, VirtAddr::ZERO);
        mm.memory().put_all(self.frames.iter().copied());
        self.frames.clear();
    }
}

impl<H: Host> Mm<H> {
    /// Takes the pages of `range` out of the tables.
    pub(crate) fn zap(&self, range: AddrRange, why: Zap) {
        if why == Zap::Unmap && self.has_no_table(range) {
            return;
        }
        let mut gather = Gather::new();
        let mut rest = range;
        while !rest.is_empty() {
            // Who truncates a file does not hold `mmap_lock`.
            let upper = matches!(why, Zap::Truncate(_)).then(|| self.lock_upper());
            let stopped = self.try_for_each_leaf(rest, |guard, span| {
                for (va, at) in span.entries() {
                    self.zap_entry(guard, va, at, why, &mut gather);
                }
                if gather.frames.len() >= GATHER_MAX {
                    ControlFlow::Break(span.start.get() + span.count as u64 * PAGE_SIZE)
                } else {
                    ControlFlow::Continue(())
                }
            });
            drop(upper);
            gather.finish(self, why.flush_reason());
            rest = match stopped {
                ControlFlow::Break(next) => {
                    AddrRange::new(VirtAddr::new(next), range.end()).unwrap_or_default()
                }
                ControlFlow::Continue(()) => AddrRange::default(),
            };
        }
    }

    /// Whether a range within the reach of one leaf table has none. Nobody makes tables meanwhile:
    /// whoever unmaps holds `mmap_lock` alone.
    fn has_no_table(&self, range: AddrRange) -> bool {
        let reach = self.format().span_shift(1);
        let last = range.end().get().wrapping_sub(1);
        range.start().get() >> reach == last >> reach
            && self.tables().leaf_table(range.start()).is_none()
    }

    #[inline]
    fn zap_entry(
        &self,
        guard: &TableGuard<'_, H>,
        va: VirtAddr,
        at: PhysAddr,
        why: Zap,
        gather: &mut Gather,
    ) {
        let raw = self.mem().load(at);
        if raw == 0 {
            return;
        }
        match self.format().decode(raw, 0) {
            Entry::Leaf(leaf) => {
                if why == Zap::Truncate(Copies::Stay) && self.is_private_copy(leaf) {
                    return;
                }
                tables::take(self.mem(), self.format(), at);
                gather.note(va);
                self.gather_leaf(leaf, gather);
            }
            Entry::Software(payload) => {
                if let Some(swapped) = SwapPte::from_payload(payload) {
                    // A private copy, as only those are in swap by an entry.
                    if why != Zap::Truncate(Copies::Stay) {
                        guard.set(at, Entry::None);
                        self.counts.swapped_in(1);
                        self.memory().swap_free(swapped.entry);
                    }
                    return;
                }
                let stays = match Marker::from_payload(payload) {
                    Some(Marker::Guard) => !matches!(why, Zap::Unmap | Zap::Exit),
                    Some(Marker::Poisoned) => why == Zap::Truncate(Copies::Stay),
                    None => false,
                };
                if !stays {
                    guard.set(at, Entry::None);
                }
            }
            Entry::None | Entry::Table(_) => {}
        }
    }

    fn is_private_copy(&self, leaf: Leaf) -> bool {
        !leaf.flags.contains(LeafFlags::SPECIAL)
            && self.memory().meta(leaf.pfn).state() == FrameState::Anon
    }

    /// A page was taken out of the tables; its frame is let go when `gather` is finished.
    #[inline]
    fn gather_leaf(&self, leaf: Leaf, gather: &mut Gather) {
        if leaf.flags.contains(LeafFlags::SPECIAL) {
            return;
        }
        let kind = self.forget_mapping_of(leaf.pfn);
        if kind == RssKind::Shmem && leaf.flags.contains(LeafFlags::DIRTY) {
            // What the entry knew must not be forgotten with it.
            self.memory().meta(leaf.pfn).set_dirty_shmem();
        }
        gather.rss.add(kind, -1);
        gather.frames.push(leaf.pfn);
    }

    /// One entry less maps the frame; how its page counted.
    #[inline]
    pub(crate) fn forget_mapping_of(&self, pfn: Pfn) -> RssKind {
        let meta = self.memory().meta(pfn);
        let kind = RssKind::of(meta.state());
        if meta.remove_only_map() {
            return kind;
        }
        if meta.remove_map() == 0 && kind != RssKind::Anon {
            self.memory().uses.add(self.memory().cpu(), Use::Mapped, -1);
        }
        kind
    }

    /// One entry more maps the frame of a page cache or of the kernel; how its page counts.
    #[inline]
    pub(crate) fn note_mapping_of(&self, pfn: Pfn) -> RssKind {
        let meta = self.memory().meta(pfn);
        let kind = RssKind::of(meta.state());
        if meta.add_map() == 0 && kind != RssKind::Anon {
            self.memory().uses.add(self.memory().cpu(), Use::Mapped, 1);
        }
        kind
    }

    /// Takes the pages of `range` out because their file lost them. The caller holds the file's
    /// `i_mmap`, so the area is still there.
    pub(crate) fn zap_for_truncate(&self, range: AddrRange, copies: Copies) {
        self.zap(range, Zap::Truncate(copies));
    }

    /// Makes the next write to the page at `va` fault, if frame `pfn` is mapped there
    /// (Linux `page_vma_mkclean_one`).
    pub(crate) fn clean_page(&self, va: VirtAddr, pfn: Pfn) {
        let guard = self.lock_path(va);
        let Some(at) = guard.tables.entry_at(va) else { return };
        let before = guard.update(at, |leaf| {
            if leaf.pfn != pfn || leaf.flags.contains(LeafFlags::SPECIAL) {
                return leaf;
            }
            Leaf { flags: leaf.flags - LeafFlags::WRITE - LeafFlags::DIRTY, ..leaf }
        });
        drop(guard);
        if before.is_some_and(|leaf| {
            leaf.pfn == pfn && leaf.flags.intersects(LeafFlags::WRITE | LeafFlags::DIRTY)
        }) {
            self.flush_page(va, FlushReason::Clean);
        }
    }
}
