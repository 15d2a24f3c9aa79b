//! A bare machine: guest RAM, one Sv39 address space built by hand, one hart, no kernel.
//!
//! [`Machine`] maps zeroed pages, copies bytes in and out, and runs registers until a trap.

use std::sync::Arc;

use kilburn_addr::{AddrRange, PAGE_SIZE, Pfn, PhysAddr, VirtAddr};
use kilburn_paging::walk::entry_addr;
use kilburn_paging::{Entry, Format, Leaf, LeafFlags, PhysMem, Sv};
use kilburn_riscv::{GuestRam, Hart, HartConfig, Regs, Space, Trap};

/// Rights of an ordinary data page.
pub(crate) const DATA: LeafFlags = LeafFlags::READ.union(LeafFlags::WRITE);
/// Rights of a page with code that may be written.
pub(crate) const CODE: LeafFlags = LeafFlags::RIGHTS;

/// The machine. Frames are given out in order and never taken back.
pub(crate) struct Machine {
    ram: Arc<GuestRam>,
    pub(crate) hart: Hart,
    space: Space,
    next_frame: Pfn,
    /// A frame that was in use before.
    spare: Option<Pfn>,
}

impl Machine {
    /// A machine with `bytes` of RAM and an empty address space.
    pub(crate) fn new(bytes: u64) -> Self {
        let ram = Arc::new(GuestRam::new(bytes).expect("the host has room for the guest's RAM"));
        let root = ram.base_pfn();
        let hart = Hart::new(Arc::clone(&ram), HartConfig::default());
        let space = Space { root, format: Sv::SV39, asid: 1 };
        let next_frame = root.checked_add(1).expect("RAM begins low");
        Self { ram, hart, space, next_frame, spare: None }
    }

    fn take_frame(&mut self) -> Pfn {
        let frame = self.next_frame;
        assert!(self.ram.contains(frame), "the test needs more RAM");
        self.next_frame = frame.checked_add(1).expect("frame numbers do not wrap");
        frame
    }

    /// Where the leaf entry of `va` is; tables on the way are made.
    fn leaf_slot(&mut self, va: VirtAddr) -> PhysAddr {
        let format = self.space.format;
        let mut table = self.space.root;
        for level in (1..format.levels()).rev() {
            let slot = entry_addr(table, format.index(va, level));
            table = match format.decode(self.ram.load(slot), level) {
                Entry::Table(next) => next,
                Entry::None => {
                    let next = self.take_frame();
                    self.ram.store(slot, format.encode(Entry::Table(next), level));
                    next
                }
                other => panic!("{other:?} where a table belongs"),
            };
        }
        entry_addr(table, format.index(va, 0))
    }

    /// Maps zeroed pages wherever `base..base + bytes` has none yet.
    pub(crate) fn map(&mut self, base: u64, bytes: u64, rights: LeafFlags) {
        let first = base / PAGE_SIZE;
        for page in first..(base + bytes).div_ceil(PAGE_SIZE) {
            let slot = self.leaf_slot(VirtAddr::new(page * PAGE_SIZE));
            if self.ram.load(slot) == 0 {
                let leaf = Leaf { pfn: self.take_frame(), flags: rights | LeafFlags::USER };
                self.ram.store(slot, self.space.format.encode(Entry::Leaf(leaf), 0));
            }
        }
    }

    fn leaf(&mut self, va: VirtAddr) -> Leaf {
        let slot = self.leaf_slot(va);
        match self.space.format.decode(self.ram.load(slot), 0) {
            Entry::Leaf(leaf) => leaf,
            other => panic!("{va} is not mapped: {other:?}"),
        }
    }

    fn set_leaf(&mut self, va: VirtAddr, leaf: Leaf) {
        let slot = self.leaf_slot(va);
        self.ram.store(slot, self.space.format.encode(Entry::Leaf(leaf), 0));
    }

    /// Gives the page at `va` these rights and marks it unused; the hart is not told.
    pub(crate) fn grant(&mut self, va: u64, rights: LeafFlags) {
        let va = VirtAddr::new(va).page_down();
        let pfn = self.leaf(va).pfn;
        self.set_leaf(va, Leaf { pfn, flags: rights | LeafFlags::USER });
    }

    /// Drops what the hart may have kept of the page at `va`.
    pub(crate) fn flush(&mut self, va: u64) {
        let page = AddrRange::with_len(VirtAddr::new(va).page_down(), PAGE_SIZE);
        self.hart.flush_range(self.space.asid, page.expect("a page of the address space"));
    }

    /// Moves the page at `va` to another frame, without rights, and spoils the frame it was in.
    pub(crate) fn migrate(&mut self, va: u64) {
        let va = VirtAddr::new(va).page_down();
        let (from, to) =
            (self.leaf(va).pfn, self.spare.take().unwrap_or_else(|| self.take_frame()));
        self.set_leaf(va, Leaf { pfn: to, flags: LeafFlags::USER });
        self.flush(va.get());
        self.ram.copy(from, to);
        self.ram.write(from.base(), &[0xdb; PAGE_SIZE as usize]);
        self.spare = Some(from);
    }

    /// Demands **tlb-within-tables** of the hart.
    pub(crate) fn check(&self) {
        if let Err(stale) = self.hart.check_tlb(self.space) {
            panic!("{stale:?}");
        }
    }

    /// The physical pieces behind `base..base + bytes`, none crossing a page.
    fn pieces(&mut self, base: u64, bytes: usize) -> Vec<(PhysAddr, usize)> {
        let (mut at, mut left) = (VirtAddr::new(base), bytes as u64);
        let mut pieces = Vec::new();
        while left > 0 {
            let leaf = self.leaf(at);
            let length = left.min(PAGE_SIZE - at.page_offset());
            pieces.push((PhysAddr::new(leaf.pfn.base().get() + at.page_offset()), length as usize));
            at = VirtAddr::new(at.get() + length);
            left -= length;
        }
        pieces
    }

    /// Copies `bytes` to `base`, whatever the page's rights.
    pub(crate) fn write(&mut self, base: u64, bytes: &[u8]) {
        let mut rest = bytes;
        for (at, length) in self.pieces(base, bytes.len()) {
            let (piece, tail) = rest.split_at(length);
            self.ram.write(at, piece);
            rest = tail;
        }
    }

    /// The `length` bytes at `base`.
    pub(crate) fn read(&mut self, base: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        let mut rest = &mut bytes[..];
        for (at, length) in self.pieces(base, length) {
            let (piece, tail) = rest.split_at_mut(length);
            self.ram.read(at, piece);
            rest = tail;
        }
        bytes
    }

    /// Runs for at most `budget` instructions.
    pub(crate) fn run(&mut self, regs: &mut Regs, budget: u64) -> Trap {
        self.hart.run(regs, self.space, budget)
    }
}
