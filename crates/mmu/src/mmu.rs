//! One hart's memory-management unit: the TLB, the walker behind it, and what they did.
//!
//! [`Mmu::translate`] is the slow half of every access: a hart keeps host pointers of its own in
//! front of it and must drop them whenever it flushes here.

use crate::tlb::{Tlb, TlbEntry, TlbGeometry};
use core::cell::Cell;
use kilburn_addr::{Access, AddrRange, PAGE_SHIFT, Pfn, PhysAddr, VirtAddr};
use kilburn_paging::walk::{WalkFault, entry_addr, walk};
use kilburn_paging::{Entry, Format, Leaf, LeafFlags, PhysMem, Sv};

/// The address space a hart runs in (RISC-V `satp`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Space<F = Sv> {
    /// Frame of the root table.
    pub root: Pfn,
    /// Paging mode.
    pub format: F,
    /// Address-space identifier. Two spaces in use at once have different ones, or the kernel
    /// flushes between them.
    pub asid: u16,
}

/// What an access may go on with: a frame, and what is known about its page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mapping {
    /// The 4 KiB frame behind the address.
    pub pfn: Pfn,
    /// Rights and state of the page. DIRTY is set when writes need no further walk.
    pub flags: LeafFlags,
    /// log2 of the bytes of the page, of which the frame is a part.
    pub span_shift: u32,
}

/// What a flush covers (RISC-V `sfence.vma`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flush {
    /// Every space, global pages too.
    All,
    /// One space, without global pages.
    Asid(u16),
    /// The pages of one space that a range touches, without global pages.
    Range {
        /// The space.
        asid: u16,
        /// Addresses whose translations go.
        range: AddrRange,
    },
}

/// What an [`Mmu`] has done.
///
/// A request is one call of [`Mmu::translate`]; it hits when the TLB holds a translation that
/// permits the access, and misses, and walks, otherwise. So requests = hits + walks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct MmuStats {
    /// Requests answered by the TLB.
    pub hits: u64,
    /// Requests that walked the tables.
    pub walks: u64,
    /// Walks that found no translation that permits the access.
    pub faults: u64,
    /// Words of tables read by walks.
    pub walk_reads: u64,
    /// [`Flush::All`] calls.
    pub flushes_all: u64,
    /// [`Flush::Asid`] calls.
    pub flushes_asid: u64,
    /// [`Flush::Range`] calls.
    pub flushes_range: u64,
}

/// A cached translation that the tables do not bear out: a missed flush.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stale {
    /// The address.
    pub va: VirtAddr,
    /// What is cached for it.
    pub cached: Mapping,
    /// What the tables say.
    pub tables: Option<Mapping>,
}

/// TLB, walker, statistics.
#[derive(Clone)]
pub struct Mmu {
    tlb: Tlb,
    stats: MmuStats,
}

/// Counts the words a walk reads.
struct CountReads<'a, M: ?Sized> {
    mem: &'a M,
    reads: Cell<u64>,
}

impl<M: PhysMem + ?Sized> PhysMem for CountReads<'_, M> {
    #[inline]
    fn load(&self, at: PhysAddr) -> u64 {
        self.reads.set(self.reads.get() + 1);
        self.mem.load(at)
    }

    fn store(&self, at: PhysAddr, value: u64) {
        self.mem.store(at, value);
    }

    fn compare_exchange(&self, at: PhysAddr, current: u64, new: u64) -> Result<(), u64> {
        self.mem.compare_exchange(at, current, new)
    }

    fn read(&self, at: PhysAddr, into: &mut [u8]) {
        self.mem.read(at, into);
    }

    fn write(&self, at: PhysAddr, from: &[u8]) {
        self.mem.write(at, from);
    }

    fn zero(&self, frame: Pfn) {
        self.mem.zero(frame);
    }

    fn copy(&self, from: Pfn, to: Pfn) {
        self.mem.copy(from, to);
    }
}

impl Mmu {
    /// An MMU with an empty TLB.
    pub fn new(geometry: TlbGeometry) -> Self {
        Self { tlb: Tlb::new(geometry), stats: MmuStats::default() }
    }

    /// Translates a user-mode `access` to `va`.
    ///
    /// A cached translation that does not permit the access does not fault: the tables are walked,
    /// as by hardware that never caches a refusal, so rights that were added need no flush. A
    /// store walks, too, while the cached entry is clean, and so sets D.
    ///
    /// # Errors
    /// [`WalkFault`] when the tables do not permit the access.
    #[inline]
    pub fn translate<M: PhysMem + ?Sized>(
        &mut self,
        mem: &M,
        space: Space,
        va: VirtAddr,
        access: Access,
    ) -> Result<Mapping, WalkFault> {
        if let Some(entry) = self.tlb.lookup(space.asid, va)
            && entry.leaf.flags.permits(access)
            && (access != Access::Write || entry.leaf.flags.contains(LeafFlags::DIRTY))
        {
            self.stats.hits += 1;
            return Ok(mapping(entry.leaf, entry.span_shift, va));
        }
        self.walk(mem, space, va, access)
    }

    fn walk<M: PhysMem + ?Sized>(
        &mut self,
        mem: &M,
        space: Space,
        va: VirtAddr,
        access: Access,
    ) -> Result<Mapping, WalkFault> {
        let counted = CountReads { mem, reads: Cell::new(0) };
        let found = walk(&counted, space.format, space.root, va, access);
        self.stats.walks += 1;
        self.stats.walk_reads += counted.reads.get();
        let translation = found.inspect_err(|_| self.stats.faults += 1)?;
        let span_shift = space.format.span_shift(translation.level);
        let start = VirtAddr::new(va.get() >> span_shift << span_shift);
        let leaf = translation.leaf;
        self.tlb.insert(TlbEntry { asid: space.asid, span_shift, start, leaf });
        Ok(mapping(leaf, span_shift, va))
    }

    /// Drops cached translations.
    pub fn flush(&mut self, what: Flush) {
        match what {
            Flush::All => {
                self.stats.flushes_all += 1;
                self.tlb.flush_all();
            }
            Flush::Asid(asid) => {
                self.stats.flushes_asid += 1;
                self.tlb.flush_asid(asid);
            }
            Flush::Range { asid, range } => {
                self.stats.flushes_range += 1;
                self.tlb.flush_range(asid, range);
            }
        }
    }

    /// What was done so far.
    pub fn stats(&self) -> MmuStats {
        self.stats
    }

    /// The TLB.
    pub fn tlb(&self) -> &Tlb {
        &self.tlb
    }

    /// Checks **tlb-within-tables** for `space`: each entry found in it is what the tables say.
    ///
    /// # Errors
    /// The first [`Stale`] entry.
    pub fn check<M: PhysMem + ?Sized>(&self, mem: &M, space: Space) -> Result<(), Stale> {
        for entry in self.tlb.entries().filter(|entry| entry.applies_to(space.asid)) {
            let cached = mapping(entry.leaf, entry.span_shift, entry.start);
            check_mapping(mem, space, entry.start, cached)?;
        }
        Ok(())
    }
}

/// Checks one cached translation against the tables: the same frame, no right the tables do not
/// give, A set, and D set where the cache believes it is.
///
/// # Errors
/// The translation, when it is stale.
pub fn check_mapping<M: PhysMem + ?Sized>(
    mem: &M,
    space: Space,
    va: VirtAddr,
    cached: Mapping,
) -> Result<(), Stale> {
    const HELD: LeafFlags = LeafFlags::RIGHTS
        .union(LeafFlags::USER)
        .union(LeafFlags::GLOBAL)
        .union(LeafFlags::ACCESSED)
        .union(LeafFlags::DIRTY);
    let tables = probe(mem, space, va);
    let fine = tables.is_some_and(|tables| {
        tables.pfn == cached.pfn && tables.flags.contains(cached.flags.intersection(HELD))
    });
    if fine { Ok(()) } else { Err(Stale { va, cached, tables }) }
}

/// What the tables of `space` say about `va`, read without leaving a trace. Pages without rights,
/// or not for user mode, count as absent.
pub fn probe<M: PhysMem + ?Sized>(mem: &M, space: Space, va: VirtAddr) -> Option<Mapping> {
    let format = space.format;
    if !format.is_canonical(va) {
        return None;
    }
    let mut table = space.root;
    for level in (0..format.levels()).rev() {
        let raw = mem.load(entry_addr(table, format.index(va, level)));
        match format.decode(raw, level) {
            Entry::Table(next) => table = next,
            Entry::Leaf(leaf)
                if leaf.flags.intersects(LeafFlags::RIGHTS)
                    && leaf.flags.contains(LeafFlags::USER) =>
            {
                return Some(mapping(leaf, format.span_shift(level), va));
            }
            _ => return None,
        }
    }
    None
}

#[inline]
fn mapping(leaf: Leaf, span_shift: u32, va: VirtAddr) -> Mapping {
    let within = va.vpn() & ((1 << (span_shift - PAGE_SHIFT)) - 1);
    Mapping { pfn: Pfn::new(leaf.pfn.get() | within), flags: leaf.flags, span_shift }
}
