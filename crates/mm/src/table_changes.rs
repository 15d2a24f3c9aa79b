//! Tables made and freed, under the lock that keeps everybody else from it.
//!
//! What one call makes or frees is gathered first, and counted and given back once: a call that maps a
//! page for the first time makes two tables, and unmapping frees them.

use crate::frames::FrameState;
use crate::memory::Use;
use crate::{Host, Mm};
use core::cell::{Cell, RefCell};
use core::sync::atomic::{AtomicU64, Ordering};
use kilburn_addr::{AddrRange, Pfn, VirtAddr};
use kilburn_paging::TableSource;
use kilburn_paging::tables::NoTable;
use smallvec::SmallVec;

/// Level of the highest tables that Linux counts (`mm_inc_nr_puds`).
const PUD: u8 = 2;

/// Tables gathered before they are given back.
const FREED_MAX: usize = 256;

/// How many tables an address space has. Changed under `page_table_lock` alone, read without.
#[derive(Default)]
pub(crate) struct TableCounts {
    all: AtomicU64,
    peak: AtomicU64,
    linux: AtomicU64,
}

impl TableCounts {
    /// Those of an address space that has its root.
    pub(crate) fn of_root() -> Self {
        Self { all: AtomicU64::new(1), ..Self::default() }
    }

    /// Tables in use, the root among them.
    pub(crate) fn all(&self) -> u64 {
        self.all.load(Ordering::Relaxed)
    }

    /// Most tables that were in use after any call.
    pub(crate) fn peak(&self) -> u64 {
        self.peak.load(Ordering::Relaxed).max(self.all())
    }

    /// Tables that Linux counts in `VmPTE`: neither the root nor a P4D.
    pub(crate) fn linux(&self) -> u64 {
        self.linux.load(Ordering::Relaxed)
    }

    /// `page_table_lock` is held: nobody else changes them.
    fn add(&self, all: i64, linux: i64) {
        let before = self.all();
        self.all.store(before.wrapping_add_signed(all), Ordering::Relaxed);
        self.linux.store(self.linux().wrapping_add_signed(linux), Ordering::Relaxed);
        if all < 0 && before > self.peak.load(Ordering::Relaxed) {
            self.peak.store(before, Ordering::Relaxed);
        }
    }
}

/// Tables that one call made or freed.
struct TableChanges<'a, H: Host> {
    mm: &'a Mm<H>,
    all: Cell<i64>,
    linux: Cell<i64>,
    freed: RefCell<SmallVec<[Pfn; 8]>>,
}

impl<H: Host> TableChanges<'_, H> {
    fn note(&self, level: u8, tables: i64) {
        self.all.set(self.all.get() + tables);
        if level <= PUD {
            self.linux.set(self.linux.get() + tables);
        }
    }

    fn give_back(&self) {
        let memory = self.mm.memory();
        let mut freed = self.freed.borrow_mut();
        memory.free_empty_tables(freed.iter().copied(), memory.cpu());
        freed.clear();
    }

    fn finish(&self) {
        let (memory, all) = (self.mm.memory(), self.all.get());
        if all == 0 {
            return;
        }
        self.mm.table_counts.add(all, self.linux.get());
        memory.uses.add(memory.cpu(), Use::Tables, all);
        self.give_back();
    }
}

impl<H: Host> TableSource for TableChanges<'_, H> {
    fn alloc_table(&self, level: u8) -> Option<Pfn> {
        let memory = self.mm.memory();
        let table = memory.alloc_table()?;
        memory.meta(table).begin(FrameState::Table, 0, u64::from(level));
        self.note(level, 1);
        Some(table)
    }

    fn free_table(&self, table: Pfn, level: u8) {
        self.note(level, -1);
        self.freed.borrow_mut().push(table);
        if self.freed.borrow().len() == FREED_MAX {
            self.give_back();
        }
    }
}

impl<H: Host> Mm<H> {
    /// The leaf table that covers `va`, made if it is missing. The caller holds `mmap_lock`.
    ///
    /// # Errors
    /// [`NoTable`]
    #[inline]
    pub(crate) fn ensure_leaf_table(&self, va: VirtAddr) -> Result<Pfn, NoTable> {
        match self.tables().leaf_table(va) {
            Some(table) => Ok(table),
            None => self.make_leaf_table(va),
        }
    }

    #[cold]
    fn make_leaf_table(&self, va: VirtAddr) -> Result<Pfn, NoTable> {
        self.change_tables(|changes| self.tables().ensure_leaf_table(va, changes))
    }

    /// Frees the tables under `range` that no area near it can need (Linux `free_pgtables`):
    /// `floor` is the end of the area before, `ceiling` the start of the area after.
    pub(crate) fn free_tables(&self, range: AddrRange, floor: VirtAddr, ceiling: VirtAddr) {
        let span = self.leaf_span();
        let up = |at: VirtAddr| at.get().checked_next_multiple_of(span).unwrap_or(u64::MAX);
        let down = |at: VirtAddr| at.get() & !(span - 1);
        if down(range.start()).max(up(floor)) >= up(range.end()).min(down(ceiling)) {
            // Each leaf table under the range reaches into an area.
            return;
        }
        self.change_tables(|changes| self.tables().free_tables(range, floor, ceiling, changes));
    }

    fn change_tables<T>(&self, change: impl FnOnce(&TableChanges<'_, H>) -> T) -> T {
        let _alone = self.lock_upper();
        let changes = TableChanges {
            mm: self,
            all: Cell::new(0),
            linux: Cell::new(0),
            freed: RefCell::default(),
        };
        let done = change(&changes);
        changes.finish();
        done
    }
}
