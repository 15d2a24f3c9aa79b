//! Software's side of the tables: ranges of entries, cursors, and the tables' own frames.
//!
//! [`Tables`] names one tree of tables. Whole ranges are visited by leaf table
//! ([`Tables::for_each_leaf_table`]): what has no table is skipped at the level where it is
//! missing, and inside a [`LeafSpan`] the next entry is eight bytes further. Single pages go
//! through a [`Cursor`], which remembers the last leaf table.
//!
//! ```text
//!   root (level 2)   [ . . T . ]
//!                          |
//!   level 1          [ T . . T ]          missing: 512 leaf tables skipped at once
//!                      |     |
//!   leaf tables      [....] [....]        one LeafSpan each
//! ```
//!
//! Nothing here locks: callers hold what keeps the tables from being changed under them.
//! Neighbours: [`crate::walk`] is the hardware's side.

use crate::format::{Entry, Format, Leaf, LeafFlags};
use crate::phys_mem::PhysMem;
use crate::walk::entry_addr;
use core::fmt;
use core::ops::ControlFlow;
use kilburn_addr::{AddrRange, PAGE_SHIFT, PAGE_SIZE, Pfn, PhysAddr, VirtAddr};

/// Where frames for tables come from and go.
pub trait TableSource {
    /// A zeroed frame for a table at `level`; `None` when there is none.
    fn alloc_table(&self, level: u8) -> Option<Pfn>;

    /// Takes back a table at `level`; every entry in it is [`Entry::None`].
    fn free_table(&self, table: Pfn, level: u8);
}

/// There was no frame for a table. Tables made on the way stay; they are empty.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NoTable;

/// A tree of tables in memory.
pub struct Tables<'m, M: ?Sized, F> {
    mem: &'m M,
    format: F,
    root: Pfn,
}

impl<M: ?Sized, F: Copy> Clone for Tables<'_, M, F> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<M: ?Sized, F: Copy> Copy for Tables<'_, M, F> {}

impl<M: ?Sized, F> fmt::Debug for Tables<'_, M, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tables").field("root", &self.root).finish_non_exhaustive()
    }
}

/// Part of a leaf table: entries of adjacent pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LeafSpan {
    /// The leaf table.
    pub table: Pfn,
    /// Address of the first entry's page.
    pub start: VirtAddr,
    /// Index of the first entry.
    pub first: usize,
    /// Number of entries, at least 1.
    pub count: usize,
}

impl LeafSpan {
    /// Every page of the span, with where its entry lies.
    #[inline]
    pub fn entries(self) -> impl Iterator<Item = (VirtAddr, PhysAddr)> {
        let at = entry_addr(self.table, self.first).get();
        let start = self.start.get();
        (0..self.count as u64)
            .map(move |i| (VirtAddr::new(start + (i << PAGE_SHIFT)), PhysAddr::new(at + i * 8)))
    }
}

impl<'m, M: PhysMem + ?Sized, F: Format> Tables<'m, M, F> {
    /// The tables below `root`.
    #[inline]
    pub fn new(mem: &'m M, format: F, root: Pfn) -> Self {
        Self { mem, format, root }
    }

    /// The leaf table that covers `va`.
    #[inline]
    pub fn leaf_table(self, va: VirtAddr) -> Option<Pfn> {
        let mut table = self.root;
        for level in (1..self.format.levels()).rev() {
            let at = entry_addr(table, self.format.index(va, level));
            match self.format.decode(self.mem.load(at), level) {
                Entry::Table(next) => table = next,
                _ => return None,
            }
        }
        Some(table)
    }

    /// The leaf table that covers `va`, made if it is missing.
    ///
    /// # Errors
    /// [`NoTable`] when a table is missing and there is no frame for it.
    #[inline]
    pub fn ensure_leaf_table(
        self,
        va: VirtAddr,
        source: &impl TableSource,
    ) -> Result<Pfn, NoTable> {
        let mut table = self.root;
        for level in (1..self.format.levels()).rev() {
            let at = entry_addr(table, self.format.index(va, level));
            table = match self.format.decode(self.mem.load(at), level) {
                Entry::Table(next) => next,
                _ => {
                    let new = source.alloc_table(level - 1).ok_or(NoTable)?;
                    self.mem.store(at, self.format.encode(Entry::Table(new), level));
                    new
                }
            };
        }
        Ok(table)
    }

    /// Where the entry of the page at `va` lies, if its leaf table exists.
    #[inline]
    pub fn entry_at(self, va: VirtAddr) -> Option<PhysAddr> {
        Some(entry_addr(self.leaf_table(va)?, self.format.index(va, 0)))
    }

    /// The entry of the page at `va`.
    #[inline]
    pub fn query(self, va: VirtAddr) -> Entry {
        match self.entry_at(va) {
            Some(at) => self.format.decode(self.mem.load(at), 0),
            None => Entry::None,
        }
    }

    /// A cursor over these tables.
    #[inline]
    pub fn cursor(self) -> Cursor<'m, M, F> {
        Cursor { tables: self, leaf: None }
    }

    /// Visits the leaf tables under `range`, in order.
    #[inline]
    pub fn for_each_leaf_table(self, range: AddrRange, mut visit: impl FnMut(LeafSpan)) {
        let _: ControlFlow<()> = self.try_for_each_leaf_table(range, |span| {
            visit(span);
            ControlFlow::Continue(())
        });
    }

    /// Visits the leaf tables under `range`, in order, until `visit` breaks off.
    #[inline]
    pub fn try_for_each_leaf_table<B>(
        self,
        range: AddrRange,
        mut visit: impl FnMut(LeafSpan) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        if range.is_empty() {
            return ControlFlow::Continue(());
        }
        // The last address, so that a range may end where addresses do.
        let (start, last) = (range.start(), VirtAddr::new(range.end().get() - 1));
        if !self.is_within_one_leaf(start, last) {
            return self.descend(self.root, self.format.levels() - 1, start, last, &mut visit);
        }
        let Some(table) = self.leaf_table(start) else { return ControlFlow::Continue(()) };
        let (first, count) =
            (self.format.index(start, 0), ((last.get() - start.get()) >> PAGE_SHIFT) + 1);
        visit(LeafSpan { table, start: start.page_down(), first, count: count as usize })
    }

    /// Whether one leaf table covers all from `first` to `last`.
    #[inline]
    fn is_within_one_leaf(self, first: VirtAddr, last: VirtAddr) -> bool {
        (first.get() ^ last.get()) >> self.format.span_shift(1) == 0
    }

    fn descend<B>(
        self,
        table: Pfn,
        level: u8,
        first: VirtAddr,
        last: VirtAddr,
        visit: &mut impl FnMut(LeafSpan) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        let (from, to) = (self.format.index(first, level), self.format.index(last, level));
        if level == 0 {
            return visit(LeafSpan {
                table,
                start: first.page_down(),
                first: from,
                count: to - from + 1,
            });
        }
        for (index, part) in self.parts(level, first, last) {
            let at = entry_addr(table, index);
            let raw = self.mem.load(at);
            if raw == 0 {
                continue;
            }
            if let Entry::Table(next) = self.format.decode(raw, level) {
                self.descend(next, level - 1, part.0, part.1, visit)?;
            }
        }
        ControlFlow::Continue(())
    }

    /// Splits `first..=last`, which lies in one table at `level`, by that table's entries: index,
    /// first and last address.
    fn parts(
        self,
        level: u8,
        first: VirtAddr,
        last: VirtAddr,
    ) -> impl Iterator<Item = (usize, (VirtAddr, VirtAddr))> {
        let span = 1_u64 << self.format.span_shift(level);
        let (from, to) = (self.format.index(first, level), self.format.index(last, level));
        (from..=to).map(move |index| {
            let base = (first.get() & !(span - 1)).wrapping_add((index - from) as u64 * span);
            let start = VirtAddr::new(base.max(first.get()));
            (index, (start, VirtAddr::new((base + (span - 1)).min(last.get()))))
        })
    }

    /// Frees the tables under `range` that nothing else can need: those whose whole span lies
    /// between `floor` and `ceiling`, the end of the area before and the start of the area after
    /// (Linux 6.18 mm/memory.c: `free_pgd_range`). Their entries are all [`Entry::None`] by now.
    pub fn free_tables(
        self,
        range: AddrRange,
        floor: VirtAddr,
        ceiling: VirtAddr,
        source: &impl TableSource,
    ) {
        if range.is_empty() {
            return;
        }
        let last = VirtAddr::new(range.end().get() - 1);
        let bounds = Bounds { floor: floor.get(), last: ceiling.get().wrapping_sub(1) };
        let (start, top) = (range.start(), self.format.levels() - 1);
        if self.is_within_one_leaf(start, last) {
            self.free_way(self.root, top, start, bounds, source);
        } else {
            self.free_below(self.root, top, start, last, bounds, source);
        }
    }

    /// Frees tables on the way to the leaf that covers `va`.
    fn free_way(
        self,
        table: Pfn,
        level: u8,
        va: VirtAddr,
        bounds: Bounds,
        source: &impl TableSource,
    ) {
        if level == 0 {
            return;
        }
        let at = entry_addr(table, self.format.index(va, level));
        let raw = self.mem.load(at);
        if raw != 0
            && let Entry::Table(next) = self.format.decode(raw, level)
        {
            self.free_way(next, level - 1, va, bounds, source);
            self.free_at(at, next, level, va, bounds, source);
        }
    }

    /// Frees table `next`, which the entry at `at` of a table at `level` leads to, if nothing else can need
    /// it; `va` is an address it covers.
    #[inline]
    fn free_at(
        self,
        at: PhysAddr,
        next: Pfn,
        level: u8,
        va: VirtAddr,
        bounds: Bounds,
        source: &impl TableSource,
    ) {
        let span = 1_u64 << self.format.span_shift(level);
        let base = va.get() & !(span - 1);
        if base >= bounds.floor && base + (span - 1) <= bounds.last {
            debug_assert!(self.is_empty(next), "a table is freed with entries in it");
            self.mem.store(at, 0);
            source.free_table(next, level - 1);
        }
    }

    fn free_below(
        self,
        table: Pfn,
        level: u8,
        first: VirtAddr,
        last: VirtAddr,
        bounds: Bounds,
        source: &impl TableSource,
    ) {
        if level == 0 {
            return;
        }
        for (index, part) in self.parts(level, first, last) {
            let at = entry_addr(table, index);
            let raw = self.mem.load(at);
            if raw == 0 {
                continue;
            }
            let Entry::Table(next) = self.format.decode(raw, level) else { continue };
            self.free_below(next, level - 1, part.0, part.1, bounds, source);
            self.free_at(at, next, level, part.0, bounds, source);
        }
    }

    /// Whether every entry of `table` is [`Entry::None`].
    pub fn is_empty(self, table: Pfn) -> bool {
        (0..F::ENTRIES).all(|index| self.mem.load(entry_addr(table, index)) == 0)
    }

    /// Visits every table below the root: frame and level.
    pub fn for_each_table(self, mut visit: impl FnMut(Pfn, u8)) {
        self.tables_below(self.root, self.format.levels() - 1, &mut visit);
    }

    fn tables_below(self, table: Pfn, level: u8, visit: &mut impl FnMut(Pfn, u8)) {
        if level == 0 {
            return;
        }
        for index in 0..F::ENTRIES {
            let raw = self.mem.load(entry_addr(table, index));
            if let Entry::Table(next) = self.format.decode(raw, level) {
                visit(next, level - 1);
                self.tables_below(next, level - 1, visit);
            }
        }
    }
}

#[derive(Clone, Copy)]
struct Bounds {
    floor: u64,
    /// Last address below the ceiling.
    last: u64,
}

/// Access to single entries that remembers the last leaf table, for pages near each other.
#[derive(Debug)]
pub struct Cursor<'m, M: ?Sized, F> {
    tables: Tables<'m, M, F>,
    /// Number of the span covered, and its leaf table.
    leaf: Option<(u64, Pfn)>,
}

impl<M: PhysMem + ?Sized, F: Format> Cursor<'_, M, F> {
    #[inline]
    fn span_of(&self, va: VirtAddr) -> u64 {
        va.get() >> self.tables.format.span_shift(1)
    }

    /// Where the entry of the page at `va` lies, if its leaf table exists.
    #[inline]
    pub fn entry_at(&mut self, va: VirtAddr) -> Option<PhysAddr> {
        let span = self.span_of(va);
        let table = match self.leaf {
            Some((at, table)) if at == span => table,
            _ => {
                let table = self.tables.leaf_table(va)?;
                self.leaf = Some((span, table));
                table
            }
        };
        Some(entry_addr(table, self.tables.format.index(va, 0)))
    }

    /// The entry of the page at `va`.
    #[inline]
    pub fn query(&mut self, va: VirtAddr) -> Entry {
        match self.entry_at(va) {
            Some(at) => self.tables.format.decode(self.tables.mem.load(at), 0),
            None => Entry::None,
        }
    }

    /// Maps the page at `va`, over whatever its entry was.
    ///
    /// # Errors
    /// [`NoTable`] when its leaf table is missing and cannot be made.
    #[inline]
    pub fn map(
        &mut self,
        va: VirtAddr,
        leaf: Leaf,
        source: &impl TableSource,
    ) -> Result<(), NoTable> {
        let at = match self.entry_at(va) {
            Some(at) => at,
            None => {
                let table = self.tables.ensure_leaf_table(va, source)?;
                self.leaf = Some((self.span_of(va), table));
                entry_addr(table, self.tables.format.index(va, 0))
            }
        };
        self.tables.mem.store(at, self.tables.format.encode(Entry::Leaf(leaf), 0));
        Ok(())
    }

    /// Clears the entry of the page at `va`; what it was.
    #[inline]
    pub fn unmap(&mut self, va: VirtAddr) -> Entry {
        let Some(at) = self.entry_at(va) else { return Entry::None };
        take(self.tables.mem, self.tables.format, at)
    }

    /// Gives the page at `va` other rights, keeping its state; whether there is a page.
    #[inline]
    pub fn protect(&mut self, va: VirtAddr, rights: LeafFlags) -> bool {
        let Some(at) = self.entry_at(va) else { return false };
        let (mem, format) = (self.tables.mem, self.tables.format);
        loop {
            let raw = mem.load(at);
            let Entry::Leaf(mut leaf) = format.decode(raw, 0) else { return false };
            leaf.flags = (leaf.flags - LeafFlags::RIGHTS) | rights;
            if mem.compare_exchange(at, raw, format.encode(Entry::Leaf(leaf), 0)).is_ok() {
                return true;
            }
        }
    }
}

/// Clears the leaf entry at `at`; what it was, A and D bits as hardware left them. Nobody but
/// hardware changes it meanwhile.
// Always: an entry handed back through memory is written in parts and read as a whole, which costs
// more than the work.
#[inline(always)]
pub fn take<M: PhysMem + ?Sized, F: Format>(mem: &M, format: F, at: PhysAddr) -> Entry {
    loop {
        let raw = mem.load(at);
        if raw == 0 {
            return Entry::None;
        }
        if format.is_settled(raw) {
            mem.store(at, 0);
            return format.decode(raw, 0);
        }
        if mem.compare_exchange(at, raw, 0).is_ok() {
            return format.decode(raw, 0);
        }
    }
}

/// Bytes that a leaf table covers.
pub fn leaf_table_bytes<F: Format>(format: F) -> u64 {
    (F::ENTRIES as u64) << format.span_shift(0).max(PAGE_SIZE.trailing_zeros())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Sv;
    use alloc::boxed::Box;
    use alloc::collections::BTreeMap;
    use alloc::vec::Vec;
    use core::cell::{Cell, RefCell};
    use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
    use proptest::prelude::*;

    extern crate alloc;

    struct Ram {
        words: Box<[AtomicU64]>,
        next: Cell<u64>,
        freed: RefCell<Vec<Pfn>>,
    }

    impl Ram {
        fn new(frames: usize) -> Self {
            let words = (0..frames * 512).map(|_| AtomicU64::new(0)).collect();
            Self { words, next: Cell::new(1), freed: RefCell::default() }
        }
    }

    impl PhysMem for Ram {
        fn load(&self, at: PhysAddr) -> u64 {
            self.words[(at.get() / 8) as usize].load(Relaxed)
        }
        fn store(&self, at: PhysAddr, value: u64) {
            self.words[(at.get() / 8) as usize].store(value, Relaxed);
        }
        fn compare_exchange(&self, at: PhysAddr, current: u64, new: u64) -> Result<(), u64> {
            self.words[(at.get() / 8) as usize]
                .compare_exchange(current, new, Relaxed, Relaxed)
                .map(|_| ())
        }
        fn read(&self, _: PhysAddr, _: &mut [u8]) {}
        fn write(&self, _: PhysAddr, _: &[u8]) {}
        fn zero(&self, _: Pfn) {}
        fn copy(&self, _: Pfn, _: Pfn) {}
    }

    impl TableSource for Ram {
        fn alloc_table(&self, _: u8) -> Option<Pfn> {
            if let Some(pfn) = self.freed.borrow_mut().pop() {
                return Some(pfn);
            }
            let next = self.next.get();
            self.next.set(next + 1);
            (((next + 1) * 512) as usize <= self.words.len()).then_some(Pfn::new(next))
        }
        fn free_table(&self, table: Pfn, _: u8) {
            self.freed.borrow_mut().push(table);
        }
    }

    fn page(pfn: u64) -> Leaf {
        Leaf { pfn: Pfn::new(pfn), flags: LeafFlags::READ | LeafFlags::USER }
    }

    fn range(start: u64, end: u64) -> AddrRange {
        AddrRange::new(VirtAddr::new(start), VirtAddr::new(end)).expect("ordered")
    }

    #[test]
    fn tables_go_only_when_no_neighbour_can_need_them() {
        let ram = Ram::new(16);
        let tables = Tables::new(&ram, Sv::SV39, Pfn::new(0));
        let mut cursor = tables.cursor();
        let at = VirtAddr::new(0x20_0000);
        cursor.map(at, page(9), &ram).expect("room");
        cursor.unmap(at);
        let pages = range(0x20_0000, 0x20_1000);
        tables.free_tables(pages, VirtAddr::ZERO, VirtAddr::new(0x3f_f000), &ram);
        assert!(tables.leaf_table(at).is_some(), "the area at 0x3ff000 shares the leaf table");
        tables.free_tables(pages, VirtAddr::ZERO, VirtAddr::new(0x40_0000), &ram);
        assert!(tables.leaf_table(at).is_none());
        assert_eq!(ram.freed.borrow().len(), 1, "the level above reaches past the ceiling");
        tables.free_tables(pages, VirtAddr::ZERO, VirtAddr::new(1 << 38), &ram);
        assert_eq!(ram.freed.borrow().len(), 2);
    }

    #[test]
    fn a_range_up_to_the_end_of_the_address_space_is_visited() {
        let ram = Ram::new(16);
        let tables = Tables::new(&ram, Sv::SV39, Pfn::new(0));
        let top = VirtAddr::new((1 << 38) - PAGE_SIZE);
        tables.cursor().map(top, page(3), &ram).expect("room");
        let mut seen = Vec::new();
        tables.for_each_leaf_table(range(0, 1 << 38), |span| seen.push((span.start, span.count)));
        assert_eq!(seen, [(VirtAddr::new((1 << 38) - (2 << 20)), 512)]);
    }

    proptest! {
        #[test]
        fn tables_hold_what_a_plain_map_holds(
            steps in prop::collection::vec((0_u8..3, 0_u64..4, 0_u64..4, 508_u64..516), 1..100),
        ) {
            let ram = Ram::new(200);
            let tables = Tables::new(&ram, Sv::SV48, Pfn::new(0));
            let mut model = BTreeMap::new();
            let mut cursor = tables.cursor();
            for (i, (what, giga, mega, vpn)) in steps.into_iter().enumerate() {
                let va = VirtAddr::new(giga << 30 | mega << 21 | vpn << 12);
                match what {
                    0 => {
                        cursor.map(va, page(i as u64), &ram).expect("room");
                        model.insert(va, page(i as u64));
                    }
                    1 => {
                        let was = model.remove(&va).map_or(Entry::None, Entry::Leaf);
                        prop_assert_eq!(cursor.unmap(va), was);
                    }
                    _ => {
                        let is = model.get(&va).copied().map_or(Entry::None, Entry::Leaf);
                        prop_assert_eq!(cursor.query(va), is);
                        prop_assert_eq!(tables.query(va), is);
                    }
                }
            }
            let mut found = BTreeMap::new();
            tables.for_each_leaf_table(range(0, 1 << 47), |span| {
                for (va, at) in span.entries() {
                    if let Entry::Leaf(leaf) = Sv::SV48.decode(ram.load(at), 0) {
                        found.insert(va, leaf);
                    }
                }
            });
            prop_assert_eq!(found, model);
        }
    }
}
