//! One array of a TLB: entries of up to three page sizes in the same sets.
//!
//! ```text
//!   tag:  63 ............ 19 18 .......... 3  2       1 0
//!         page number        address space    global  page size (1..=3, 0: empty)
//! ```
//!
//! The page number is that of the entry's own size, of a 57-bit address. Neighbours: [`super`] puts arrays
//! together to levels.

use super::ModelEntry;
use super::assoc::Assoc;
use super::config::TlbConfig;
use super::explain::TlbLook;
use crate::mmu::{Flush, Mapping};
use alloc::boxed::Box;
use alloc::vec;
use kilburn_addr::{Access, AddrRange, PAGE_SHIFT, Pfn, VirtAddr};
use kilburn_paging::{Leaf, LeafFlags};

/// Widest virtual address.
const VA_BITS: u32 = 57;
pub(super) const VPN_SHIFT: u32 = 19;
const ASID_SHIFT: u32 = 3;
const GLOBAL: u64 = 1 << 2;
const SIZE_MASK: u64 = 3;

/// The tag of `va` in pages of `1 << shift` bytes, of the kind (size code, global) that `like` has.
#[inline]
pub(super) fn tag(asid: u16, va: VirtAddr, shift: u32, like: u64) -> u64 {
    let vpn = (va.get() << (64 - VA_BITS)) >> (64 - VA_BITS) >> shift;
    let asid = if like & GLOBAL != 0 { 0 } else { u64::from(asid) };
    vpn << VPN_SHIFT | asid << ASID_SHIFT | like & (GLOBAL | SIZE_MASK)
}

/// A page of a space in the history of misses; sizes are told apart by their low bits.
pub(super) fn history_key(asid: u16, va: VirtAddr, shift: u32) -> u64 {
    // Three bits for a size: 4 KiB, up to 64 KiB, up to 2 MiB, ...; more than TLBs tell apart.
    let size = u64::from((shift - PAGE_SHIFT).div_ceil(4).min(7));
    let vpn = (va.get() << (64 - VA_BITS)) >> (64 - VA_BITS) >> shift;
    vpn << VPN_SHIFT | u64::from(asid) << ASID_SHIFT | size
}

/// A translation as it is cached.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cached {
    /// With the first frame of the page, or of the part of it that is kept.
    pub(super) leaf: Leaf,
    /// log2 of the bytes kept.
    pub(super) span_shift: u32,
    /// log2 of the bytes of the page it came from.
    pub(super) origin: u32,
}

impl Cached {
    /// A page as the walker found it.
    pub(super) fn whole(leaf: Leaf, span_shift: u32) -> Self {
        Self { leaf, span_shift, origin: span_shift }
    }

    /// Whether the access needs no walk.
    #[inline]
    pub(super) fn permits(self, access: Access) -> bool {
        permits(self.leaf.flags, access)
    }

    #[inline]
    pub(super) fn mapping(self, va: VirtAddr) -> Mapping {
        let pfn = super::frame_within(self.leaf, self.span_shift, va);
        Mapping { pfn, flags: self.leaf.flags, span_shift: self.span_shift }
    }
}

/// Whether an entry with these flags serves the access without a walk; without a branch on its kind.
#[inline]
pub(super) fn permits(flags: LeafFlags, access: Access) -> bool {
    const STORE: LeafFlags = LeafFlags::WRITE.union(LeafFlags::DIRTY);
    const NEEDED: [LeafFlags; 3] = {
        let mut needed = [LeafFlags::READ; 3];
        needed[Access::Write as usize] = STORE;
        needed[Access::Exec as usize] = LeafFlags::EXEC;
        needed
    };
    flags.contains(NEEDED[access as usize])
}

/// Where a lookup hit.
pub(super) struct Hit {
    pub(super) slot: usize,
    pub(super) tag: u64,
    pub(super) cached: Cached,
}

/// Where an entry was put.
pub(super) struct Placed {
    pub(super) slot: usize,
    pub(super) tag: u64,
    /// The tag that was there; 0: none.
    pub(super) before: u64,
}

/// An entry that was dropped.
pub(super) struct Dropped {
    pub(super) slot: usize,
    pub(super) tag: u64,
    /// Its page in the history of misses.
    pub(super) key: u64,
}

/// When an entry, by slot and tag, was used later than the array was told (0: it was not).
pub(super) trait Later: Fn(usize, u64) -> u64 {}

impl<F: Fn(usize, u64) -> u64> Later for F {}

/// One array. Uses are at times that the caller counts.
#[derive(Clone, Debug)]
pub(super) struct TlbArray {
    assoc: Assoc,
    /// Frame number and flags of each slot, packed.
    leaves: Box<[u64]>,
    /// log2 of the page sizes held; index + 1 is the size's code.
    shifts: [u32; 3],
    sizes: usize,
    /// Entries of each size, local and global apart.
    live: [[u32; 2]; 3],
    /// log2 of the bytes of the page that each entry came from.
    origins: Box<[u8]>,
    /// Entries that are parts of larger pages.
    parts: usize,
    /// Bytes translated.
    reach: u64,
}

const FLAG_BITS: u32 = 16;

#[inline]
pub(super) fn pack(leaf: Leaf) -> u64 {
    leaf.pfn.get() << FLAG_BITS | u64::from(leaf.flags.bits())
}

#[inline]
pub(super) fn unpack(packed: u64) -> Leaf {
    Leaf { pfn: Pfn::new(packed >> FLAG_BITS), flags: LeafFlags::from_bits_retain(packed as u16) }
}

impl TlbArray {
    pub(super) fn new(config: &TlbConfig, seed: u64) -> Self {
        let mut shifts = [0; 3];
        for (shift, size) in shifts.iter_mut().zip(&config.page_shifts) {
            *shift = *size;
        }
        let slots = config.sets * config.ways;
        Self {
            assoc: Assoc::new(config.sets, config.ways, config.replacement, seed),
            leaves: vec![0; slots].into(),
            shifts,
            sizes: config.page_shifts.len(),
            live: [[0; 2]; 3],
            origins: vec![0; slots].into(),
            parts: 0,
            reach: 0,
        }
    }

    #[inline]
    fn cached(&self, slot: usize, shift: u32) -> Cached {
        let origin = u32::from(self.origins[slot]);
        Cached { leaf: unpack(self.leaves[slot]), span_shift: shift, origin }
    }

    /// The leaf in `slot`, made the most recent, if its tag is still `tag`.
    #[inline(always)]
    pub(super) fn hit_at(&mut self, slot: usize, tag: u64, now: u64) -> Option<Leaf> {
        if self.assoc.tag(slot) != tag {
            return None;
        }
        self.assoc.touch_at(tag >> VPN_SHIFT, slot, now);
        Some(unpack(self.leaves[slot]))
    }

    /// Tag and leaf in `slot`.
    pub(super) fn held(&self, slot: usize) -> (u64, Leaf) {
        (self.assoc.tag(slot), unpack(self.leaves[slot]))
    }

    /// The entry in `slot` was used at `then`, and perhaps later.
    pub(super) fn used_at(&mut self, slot: usize, then: u64) {
        self.assoc.used_at(slot, then);
    }

    #[inline]
    fn position(&self, asid: u16, va: VirtAddr) -> Option<(usize, u64, u32)> {
        for size in 0..self.sizes {
            let shift = self.shifts[size];
            for (kind, global) in [(0, 0), (1, GLOBAL)] {
                if self.live[size][kind] == 0 {
                    continue;
                }
                let tag = tag(asid, va, shift, global | (size as u64 + 1));
                if let Some(slot) = self.assoc.find(tag >> VPN_SHIFT, tag) {
                    return Some((slot, tag, shift));
                }
            }
        }
        None
    }

    /// The entry that translates `va`, made the most recent.
    #[inline]
    pub(super) fn find(&mut self, asid: u16, va: VirtAddr, now: u64) -> Option<Hit> {
        let (slot, tag, shift) = self.position(asid, va)?;
        self.assoc.touch_at(tag >> VPN_SHIFT, slot, now);
        Some(Hit { slot, tag, cached: self.cached(slot, shift) })
    }

    /// The entry that translates `va`, left as it is.
    pub(super) fn peek(&self, asid: u16, va: VirtAddr) -> Option<Cached> {
        let (slot, _, shift) = self.position(asid, va)?;
        Some(self.cached(slot, shift))
    }

    /// The lookups of `va`, one for each page size, with what their sets hold of `asid`.
    pub(super) fn looks(
        &self,
        place: &'static str,
        asid: u16,
        va: VirtAddr,
    ) -> impl Iterator<Item = TlbLook> {
        let index_bits = self.assoc.sets().ilog2();
        self.shifts[..self.sizes].iter().zip(1..).map(move |(&page_shift, code)| {
            let vpn = tag(asid, va, page_shift, code) >> VPN_SHIFT;
            let is_ours =
                |held: u64| held & SIZE_MASK == code && (held & GLOBAL != 0 || is_of(held, asid));
            let held = self.assoc.ways_of(vpn).iter().copied().filter(|&held| is_ours(held));
            TlbLook {
                place,
                page_shift,
                shape: (self.assoc.sets(), self.assoc.slots() / self.assoc.sets()),
                index: vpn & (self.assoc.sets() as u64 - 1),
                tag: vpn >> index_bits,
                held: held.map(|held| held >> VPN_SHIFT >> index_bits).collect(),
            }
        })
    }

    /// The largest page size held that is not larger than `1 << span_shift`.
    pub(super) fn fitting(&self, span_shift: u32) -> Option<u32> {
        self.shifts[..self.sizes].iter().copied().filter(|&shift| shift <= span_shift).max()
    }

    /// Keeps `cached` as a translation of `1 << shift` bytes (a size that is held) around `va`. An entry for the same
    /// page is replaced.
    pub(super) fn insert(
        &mut self,
        asid: u16,
        va: VirtAddr,
        cached: Cached,
        shift: u32,
        now: u64,
        later: impl Later,
    ) -> Placed {
        let size = self.shifts[..self.sizes].iter().position(|&held| held == shift);
        let size = size.expect("a size that is held");
        let Cached { leaf, span_shift, origin } = cached;
        let is_global = leaf.flags.contains(LeafFlags::GLOBAL);
        let code = size as u64 + 1;
        let (local, global) = (tag(asid, va, shift, code), tag(asid, va, shift, code | GLOBAL));
        let index = local >> VPN_SHIFT;
        // The page may have become global, or stopped being so.
        let live = self.live[size];
        let find =
            |kind: usize, tag| if live[kind] == 0 { None } else { self.assoc.find(index, tag) };
        let same = find(0, local).or_else(|| find(1, global));
        let slot = same.unwrap_or_else(|| self.assoc.victim_by(index, later));
        let start = VirtAddr::new(va.get() >> shift << shift);
        let pfn = super::frame_within(leaf, span_shift, start);
        let before = self.assoc.tag(slot);
        self.count_out(slot);
        self.live[size][usize::from(is_global)] += 1;
        self.parts += usize::from(origin > shift);
        self.reach += 1 << shift;
        let tag = if is_global { global } else { local };
        self.assoc.fill_at(index, slot, tag, now);
        self.leaves[slot] = pack(Leaf { pfn, ..leaf });
        self.origins[slot] = origin as u8;
        Placed { slot, tag, before }
    }

    fn count_out(&mut self, slot: usize) {
        let tag = self.assoc.tag(slot);
        if tag != 0 {
            let size = (tag & SIZE_MASK) as usize - 1;
            self.live[size][usize::from(tag & GLOBAL != 0)] -= 1;
            self.reach -= 1 << self.shifts[size];
            self.parts -= usize::from(u32::from(self.origins[slot]) > self.shifts[size]);
        }
    }

    /// Drops entries; answers how many, and calls `gone` for each.
    pub(super) fn flush(&mut self, what: Flush, gone: &mut impl FnMut(Dropped)) -> u64 {
        match what {
            Flush::All => self.drop_where(gone, |_, _| true),
            Flush::Asid(asid) => self.drop_where(gone, |tag, _| is_of(tag, asid)),
            Flush::Range { asid, range } => self.flush_range(asid, range, gone),
        }
    }

    fn flush_range(&mut self, asid: u16, range: AddrRange, gone: &mut impl FnMut(Dropped)) -> u64 {
        if range.is_empty() || self.live.iter().all(|live| live[0] == 0) {
            return 0;
        }
        let (first, last) = (range.start().get(), range.end().get() - 1);
        let pages = |shift: u32| (last >> shift) - (first >> shift) + 1;
        let sizes = &self.shifts[..self.sizes];
        if self.parts > 0 || sizes.iter().any(|&shift| pages(shift) > self.assoc.sets() as u64) {
            return self.drop_overlapping(asid, first, last, gone);
        }
        let mut dropped = 0;
        for size in 0..self.sizes {
            let shift = self.shifts[size];
            for page in first >> shift..=last >> shift {
                let tag = tag(asid, VirtAddr::new(page << shift), shift, size as u64 + 1);
                if let Some(slot) = self.assoc.find(tag >> VPN_SHIFT, tag) {
                    self.drop_slot(slot, gone);
                    dropped += 1;
                }
            }
        }
        dropped
    }

    /// Looks at every entry. One cut from a larger page goes with any part of that page: all of it changed.
    fn drop_overlapping(
        &mut self,
        asid: u16,
        first: u64,
        last: u64,
        gone: &mut impl FnMut(Dropped),
    ) -> u64 {
        let shifts = self.shifts;
        let page = |va: u64, shift: u32| (va << (64 - VA_BITS)) >> (64 - VA_BITS) >> shift;
        self.drop_where(gone, |tag, origin| {
            let held = shifts[(tag & SIZE_MASK) as usize - 1];
            let vpn = tag >> VPN_SHIFT >> (origin - held);
            is_of(tag, asid) && (page(first, origin)..=page(last, origin)).contains(&vpn)
        })
    }

    fn drop_where(
        &mut self,
        gone: &mut impl FnMut(Dropped),
        which: impl Fn(u64, u32) -> bool,
    ) -> u64 {
        if self.live == [[0; 2]; 3] {
            return 0;
        }
        let mut dropped = 0;
        for slot in 0..self.assoc.slots() {
            let tag = self.assoc.tag(slot);
            if tag != 0 && which(tag, u32::from(self.origins[slot])) {
                self.drop_slot(slot, gone);
                dropped += 1;
            }
        }
        dropped
    }

    fn drop_slot(&mut self, slot: usize, gone: &mut impl FnMut(Dropped)) {
        let (tag, origin) = (self.assoc.tag(slot), u32::from(self.origins[slot]));
        let shift = self.shifts[(tag & SIZE_MASK) as usize - 1];
        let va = VirtAddr::new(tag >> VPN_SHIFT << shift);
        gone(Dropped { slot, tag, key: history_key((tag >> ASID_SHIFT) as u16, va, origin) });
        self.count_out(slot);
        self.assoc.clear(slot);
    }

    /// Bytes translated.
    pub(super) fn reach(&self) -> u64 {
        self.reach
    }

    pub(super) fn entries(&self, place: &'static str) -> impl Iterator<Item = ModelEntry> {
        (0..self.assoc.slots()).filter_map(move |slot| {
            let tag = self.assoc.tag(slot);
            let size = (tag & SIZE_MASK).checked_sub(1)? as usize;
            let unused = 64 - VA_BITS;
            let low = tag >> VPN_SHIFT << self.shifts[size];
            Some(ModelEntry {
                place,
                asid: (tag >> ASID_SHIFT) as u16,
                is_global: tag & GLOBAL != 0,
                // Sign-extended, as canonical addresses are.
                start: VirtAddr::new(((low << unused) as i64 >> unused) as u64),
                span_shift: self.shifts[size],
                leaf: unpack(self.leaves[slot]),
            })
        })
    }
}

/// Whether the entry belongs to `asid` alone.
fn is_of(tag: u64, asid: u16) -> bool {
    tag & GLOBAL == 0 && (tag >> ASID_SHIFT) as u16 == asid
}
