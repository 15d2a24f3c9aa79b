//! A set-associative translation cache with address-space identifiers.
//!
//! ```text
//!            set = vpn mod sets                       any slot
//!  4 KiB   [ way 0 | way 1 | .. | way n ]     larger  [ 0 | 1 | .. | large-1 ]
//! ```
//!
//! Within a set (and among the larger pages) the least recently looked-up entry goes first.
//! Neighbour: [`crate::mmu`] decides what is looked up, inserted and flushed.

use alloc::boxed::Box;
use alloc::vec;
use kilburn_addr::{AddrRange, PAGE_SHIFT, VirtAddr};
use kilburn_paging::{Leaf, LeafFlags};

/// The shape of a [`Tlb`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TlbGeometry {
    /// Sets for 4 KiB pages, a power of two.
    pub sets: usize,
    /// Ways of each set, at least 1.
    pub ways: usize,
    /// Fully associative entries for larger pages.
    pub large: usize,
}

impl TlbGeometry {
    /// 1024 entries in 4 ways, and 32 for larger pages: the size of a present second-level TLB.
    pub const DEFAULT: Self = Self { sets: 256, ways: 4, large: 32 };
}

/// A cached translation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TlbEntry {
    /// Address space it belongs to, unless the leaf is global.
    pub asid: u16,
    /// log2 of the bytes it covers.
    pub span_shift: u32,
    /// First virtual address it covers.
    pub start: VirtAddr,
    /// The leaf as it was walked.
    pub leaf: Leaf,
}

impl TlbEntry {
    #[inline]
    fn matches(&self, asid: u16, va: VirtAddr) -> bool {
        (va.get() ^ self.start.get()) >> self.span_shift == 0 && self.applies_to(asid)
    }

    /// Whether lookups of `asid` may find the entry.
    #[inline]
    pub fn applies_to(&self, asid: u16) -> bool {
        self.asid == asid || self.leaf.flags.contains(LeafFlags::GLOBAL)
    }

    fn overlaps(&self, range: AddrRange) -> bool {
        // The last addresses, as an end may not be representable.
        let last = self.start.get() + ((1 << self.span_shift) - 1);
        !range.is_empty() && self.start < range.end() && range.start().get() <= last
    }
}

#[derive(Clone, Copy)]
struct Slot {
    entry: Option<TlbEntry>,
    used: u64,
}

const EMPTY: Slot = Slot { entry: None, used: 0 };

/// The cache.
#[derive(Clone)]
pub struct Tlb {
    geometry: TlbGeometry,
    small: Box<[Slot]>,
    large: Box<[Slot]>,
    /// Entries among `large`, so that a lookup skips them while there are none.
    large_used: usize,
    clock: u64,
}

impl Tlb {
    /// An empty TLB.
    ///
    /// # Panics
    /// When `sets` is no power of two or `ways` is 0.
    pub fn new(geometry: TlbGeometry) -> Self {
        assert!(geometry.sets.is_power_of_two() && geometry.ways > 0, "{geometry:?}");
        Self {
            geometry,
            small: vec![EMPTY; geometry.sets * geometry.ways].into(),
            large: vec![EMPTY; geometry.large].into(),
            large_used: 0,
            clock: 0,
        }
    }

    /// The shape it was made with.
    pub fn geometry(&self) -> TlbGeometry {
        self.geometry
    }

    #[inline]
    fn set(&mut self, va: VirtAddr) -> &mut [Slot] {
        let first = (va.vpn() as usize & (self.geometry.sets - 1)) * self.geometry.ways;
        &mut self.small[first..first + self.geometry.ways]
    }

    /// Finds the translation of `va` in `asid` and makes it the most recent of its set.
    #[inline]
    pub fn lookup(&mut self, asid: u16, va: VirtAddr) -> Option<TlbEntry> {
        self.clock += 1;
        let clock = self.clock;
        let large_used = self.large_used;
        if let Some(slot) = find(self.set(va), asid, va) {
            slot.used = clock;
            return slot.entry;
        }
        if large_used > 0
            && let Some(slot) = find(&mut self.large, asid, va)
        {
            slot.used = clock;
            return slot.entry;
        }
        None
    }

    /// Adds a translation; it replaces the one already held for the address, or else the least
    /// recent of the set. A larger page without a slot for larger pages is not kept.
    pub fn insert(&mut self, entry: TlbEntry) {
        self.clock += 1;
        let used = self.clock;
        let is_large = entry.span_shift > PAGE_SHIFT;
        let slots = if is_large { &mut self.large } else { self.set(entry.start) };
        let same = slots.iter().position(|slot| {
            slot.entry.is_some_and(|old| {
                old.span_shift == entry.span_shift && old.matches(entry.asid, entry.start)
            })
        });
        let index = same.or_else(|| {
            let oldest = slots.iter().enumerate().min_by_key(|(_, slot)| match slot.entry {
                None => 0,
                Some(_) => slot.used,
            });
            oldest.map(|(index, _)| index)
        });
        let Some(index) = index else { return };
        let added = slots[index].entry.is_none();
        slots[index] = Slot { entry: Some(entry), used };
        if is_large && added {
            self.large_used += 1;
        }
    }

    /// Drops every entry.
    pub fn flush_all(&mut self) {
        self.small.fill(EMPTY);
        self.large.fill(EMPTY);
        self.large_used = 0;
    }

    /// Drops the entries of `asid`; global ones stay.
    pub fn flush_asid(&mut self, asid: u16) {
        self.retain(|entry| entry.asid != asid || entry.leaf.flags.contains(LeafFlags::GLOBAL));
    }

    /// Drops the entries of `asid` that translate an address of `range`; global ones stay.
    pub fn flush_range(&mut self, asid: u16, range: AddrRange) {
        let keep = |entry: &TlbEntry| {
            entry.asid != asid
                || entry.leaf.flags.contains(LeafFlags::GLOBAL)
                || !entry.overlaps(range)
        };
        let first = range.start().vpn();
        let last = match range.end().get().checked_sub(1) {
            Some(last) if !range.is_empty() => last >> PAGE_SHIFT,
            _ => return,
        };
        if last - first >= self.geometry.sets as u64 {
            self.retain(keep);
            return;
        }
        for vpn in first..=last {
            let va = VirtAddr::from_vpn(vpn).expect("a page of a range has an address");
            for slot in self.set(va) {
                slot.entry = slot.entry.filter(keep);
            }
        }
        if self.large_used > 0 {
            self.retain_large(keep);
        }
    }

    /// The entries held, in no meaningful order.
    pub fn entries(&self) -> impl Iterator<Item = &TlbEntry> {
        self.small.iter().chain(self.large.iter()).filter_map(|slot| slot.entry.as_ref())
    }

    fn retain(&mut self, keep: impl Fn(&TlbEntry) -> bool + Copy) {
        for slot in &mut self.small {
            slot.entry = slot.entry.filter(keep);
        }
        self.retain_large(keep);
    }

    fn retain_large(&mut self, keep: impl Fn(&TlbEntry) -> bool) {
        self.large_used = 0;
        for slot in &mut self.large {
            slot.entry = slot.entry.filter(&keep);
            self.large_used += usize::from(slot.entry.is_some());
        }
    }
}

#[inline]
fn find(slots: &mut [Slot], asid: u16, va: VirtAddr) -> Option<&mut Slot> {
    slots.iter_mut().find(|slot| slot.entry.is_some_and(|entry| entry.matches(asid, va)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use kilburn_addr::Pfn;

    const R: LeafFlags = LeafFlags::READ;

    fn entry(asid: u16, va: u64, span_shift: u32, flags: LeafFlags) -> TlbEntry {
        let start = VirtAddr::new(va >> span_shift << span_shift);
        TlbEntry { asid, span_shift, start, leaf: Leaf { pfn: Pfn::new(va >> 12), flags } }
    }

    fn held(tlb: &mut Tlb, asid: u16, va: u64) -> bool {
        tlb.lookup(asid, VirtAddr::new(va)).is_some()
    }

    fn tlb() -> Tlb {
        Tlb::new(TlbGeometry { sets: 4, ways: 2, large: 2 })
    }

    #[test]
    fn the_least_recently_used_way_goes_first() {
        let mut tlb = tlb();
        tlb.insert(entry(1, 0x0000, 12, R));
        tlb.insert(entry(1, 0x4000, 12, R));
        assert!(held(&mut tlb, 1, 0x0fff));
        tlb.insert(entry(1, 0x8000, 12, R));
        assert!(held(&mut tlb, 1, 0x0000));
        assert!(!held(&mut tlb, 1, 0x4000));
        assert!(held(&mut tlb, 1, 0x8000));
    }

    #[test]
    fn spaces_do_not_see_each_other_but_share_global_pages() {
        let mut tlb = tlb();
        tlb.insert(entry(1, 0x1000, 12, R));
        tlb.insert(entry(1, 0x2000, 12, R | LeafFlags::GLOBAL));
        assert!(!held(&mut tlb, 2, 0x1000));
        assert!(held(&mut tlb, 2, 0x2000));
        tlb.flush_asid(1);
        assert!(!held(&mut tlb, 1, 0x1000));
        assert!(held(&mut tlb, 1, 0x2000));
        tlb.flush_all();
        assert!(!held(&mut tlb, 1, 0x2000));
    }

    #[test]
    fn a_range_flush_takes_what_it_touches_of_its_space_only() {
        for pages in [1, 100] {
            let mut tlb = tlb();
            for asid in [1, 2] {
                tlb.insert(entry(asid, 0x1000, 12, R));
                tlb.insert(entry(asid, 0x20_0000, 21, R));
            }
            tlb.insert(entry(1, 0x80_0000, 12, R));
            let range = AddrRange::with_len(VirtAddr::new(0x1000), pages << 12).expect("range");
            tlb.flush_range(1, range);
            assert!(!held(&mut tlb, 1, 0x1000));
            assert!(held(&mut tlb, 1, 0x20_0000), "not reached by the range");
            assert!(held(&mut tlb, 1, 0x80_0000));
            assert!(held(&mut tlb, 2, 0x1000));
            let inside = AddrRange::with_len(VirtAddr::new(0x2f_f000), 1).expect("range");
            tlb.flush_range(1, inside);
            assert!(!held(&mut tlb, 1, 0x20_0000), "one byte of a larger page is enough");
            assert!(held(&mut tlb, 2, 0x20_0000));
        }
    }

    #[test]
    fn an_empty_range_flushes_nothing() {
        let mut tlb = tlb();
        tlb.insert(entry(1, 0, 12, R));
        tlb.flush_range(1, AddrRange::default());
        assert!(held(&mut tlb, 1, 0));
    }
}
