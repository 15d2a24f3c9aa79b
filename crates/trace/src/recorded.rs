//! The tables that a recorded run had, as far as its accesses saw them.
//!
//! [`Recorded`] follows a trace's map and fault events: a map event writes an entry and makes the tables above it, a fault
//! event makes the tables down to where the walk ended and clears the entry there. So a walk reads as many entries
//! as it did in the run. Frames of data are the run's; frames of tables are our own, far above them.

use crate::native::Header;
use kilburn_addr::{Access, PAGE_SHIFT, Pfn, PhysAddr, VirtAddr};
use kilburn_mmu::Space;
use kilburn_mmu::model::config::AdUpdate;
use kilburn_paging::hardware::{WalkStart, descend};
use kilburn_paging::walk::entry_addr;
use kilburn_paging::{Entry, Format as _, Leaf, LeafFlags, PhysMem, Sv};
use std::cell::Cell;
use std::collections::BTreeMap;

/// Frame of the first table: 4 TiB up.
const FIRST_TABLE: u64 = 1 << (42 - PAGE_SHIFT);
const ENTRIES: usize = 512;
/// Most tables: those of programs that touch 2 TiB. A hostile trace takes no more than these 4 GiB.
const TABLES_MAX: usize = 1 << 20;

/// Frames of tables.
#[derive(Default)]
pub struct TableFrames(Vec<Cell<u64>>);

impl TableFrames {
    #[inline]
    fn cell(&self, at: PhysAddr) -> &Cell<u64> {
        &self.0[(at.get() - (FIRST_TABLE << PAGE_SHIFT)) as usize / 8]
    }
}

impl PhysMem for TableFrames {
    fn load(&self, at: PhysAddr) -> u64 {
        self.cell(at).get()
    }
    fn store(&self, at: PhysAddr, value: u64) {
        self.cell(at).set(value);
    }
    fn compare_exchange(&self, at: PhysAddr, current: u64, new: u64) -> Result<(), u64> {
        let found = self.load(at);
        if found != current {
            return Err(found);
        }
        self.store(at, new);
        Ok(())
    }
    fn read(&self, _: PhysAddr, _: &mut [u8]) {
        unreachable!("tables are read by words")
    }
    fn write(&self, _: PhysAddr, _: &[u8]) {
        unreachable!("tables are written by words")
    }
    fn zero(&self, _: Pfn) {
        unreachable!("tables begin empty")
    }
    fn copy(&self, _: Pfn, _: Pfn) {
        unreachable!("tables are not copied")
    }
}

/// The tables of every space.
pub struct Recorded {
    frames: TableFrames,
    format: Sv,
    ad_update: AdUpdate,
    roots: BTreeMap<u16, Pfn>,
    /// The space asked for last: it is asked for with every access.
    current: Option<Space>,
    free: Vec<Pfn>,
}

impl Recorded {
    /// Empty tables of so many levels.
    pub fn new(header: Header) -> Self {
        let format = match header.levels {
            3 => Sv::SV39,
            4 => Sv::SV48,
            _ => Sv::SV57,
        };
        let frames = TableFrames::default();
        let ad_update = header.ad_update;
        Self { frames, format, ad_update, roots: BTreeMap::new(), current: None, free: Vec::new() }
    }

    /// The tables' memory, for walks.
    #[inline]
    pub fn mem(&self) -> &TableFrames {
        &self.frames
    }

    /// Tables in use.
    pub fn tables(&self) -> usize {
        self.frames.0.len() / ENTRIES - self.free.len()
    }

    /// What hardware needs to know of space `asid`, which is made when it is new.
    #[inline]
    pub fn hardware(&mut self, asid: u16) -> Space {
        match self.current {
            Some(space) if space.asid == asid => space,
            _ => self.find_space(asid),
        }
    }

    fn find_space(&mut self, asid: u16) -> Space {
        let root = match self.roots.get(&asid) {
            Some(root) => *root,
            None => {
                let root = self.new_table();
                self.roots.insert(asid, root);
                root
            }
        };
        let space = Space { root, format: self.format, asid };
        self.current = Some(space);
        space
    }

    fn new_table(&mut self) -> Pfn {
        self.free.pop().unwrap_or_else(|| {
            let table = Pfn::new(FIRST_TABLE + (self.frames.0.len() / ENTRIES) as u64);
            self.frames.0.resize(self.frames.0.len() + ENTRIES, Cell::new(0));
            table
        })
    }

    /// Where the entry for `va` at `level` lies; tables above it are made. `None` for a level that is not there.
    fn entry(&mut self, asid: u16, va: VirtAddr, level: u8) -> Option<PhysAddr> {
        let format = self.format;
        if level >= format.levels() || !format.is_canonical(va) || !self.has_room() {
            return None;
        }
        let mut table = self.hardware(asid).root;
        for above in (level + 1..format.levels()).rev() {
            let at = entry_addr(table, format.index(va, above));
            table = match format.decode(self.frames.load(at), above) {
                Entry::Table(next) => next,
                _ => {
                    let new = self.new_table();
                    self.frames.store(at, format.encode(Entry::Table(new), above));
                    new
                }
            };
        }
        Some(entry_addr(table, format.index(va, level)))
    }

    fn replace(&mut self, at: PhysAddr, level: u8, raw: u64) {
        if let Entry::Table(below) = self.format.decode(self.frames.load(at), level)
            && level > 0
        {
            self.drop_table(below, level - 1);
        }
        self.frames.store(at, raw);
    }

    fn drop_table(&mut self, table: Pfn, level: u8) {
        for index in 0..ENTRIES {
            self.replace(entry_addr(table, index), level, 0);
        }
        self.free.push(table);
    }

    /// Whether another page may need tables.
    fn has_room(&self) -> bool {
        self.tables() + usize::from(self.format.levels()) <= TABLES_MAX
    }

    /// The tables of `asid` hold this page now. What cannot be is `false`.
    #[must_use]
    pub fn map(&mut self, asid: u16, va: VirtAddr, level: u8, pfn: u64, flags: LeafFlags) -> bool {
        let span = self.format.span_shift(level.min(self.format.levels())) - PAGE_SHIFT;
        let fits = pfn >> 44 == 0 && pfn & ((1 << span) - 1) == 0;
        let Some(at) = self.entry(asid, va, level).filter(|_| fits) else { return false };
        let leaf = Entry::Leaf(Leaf { pfn: Pfn::new(pfn), flags });
        self.replace(at, level, self.format.encode(leaf, level));
        true
    }

    /// Does what software does when hardware does not set A or D, unless the run's own did: then that is in the trace.
    /// Answers whether it did.
    pub fn mark_used(&mut self, asid: u16, va: VirtAddr, access: Access) -> bool {
        if self.ad_update == AdUpdate::Fault {
            return false;
        }
        let start = WalkStart::root(self.format, self.hardware(asid).root);
        let Ok(found) = descend(&self.frames, self.format, start, va, |_| ()) else { return false };
        let used = kilburn_paging::HardwareFormat::mark_used(self.format, found.step.raw, access);
        self.frames.store(found.step.entry_at, used);
        used != found.step.raw
    }

    /// A walk for `va` ends at `level`. What cannot be is `false`.
    #[must_use]
    pub fn clear(&mut self, asid: u16, va: VirtAddr, level: u8) -> bool {
        let Some(at) = self.entry(asid, va, level) else { return false };
        self.replace(at, level, 0);
        true
    }

    /// The space ends.
    pub fn end(&mut self, asid: u16) {
        self.current = None;
        if let Some(root) = self.roots.remove(&asid) {
            self.drop_table(root, self.format.levels() - 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kilburn_mmu::probe;

    #[test]
    fn pages_come_and_go_with_their_tables() {
        let mut tables = Recorded::new(Header { levels: 3, ad_update: AdUpdate::Hardware });
        let (va, flags) = (VirtAddr::new(0x40_3000), LeafFlags::READ | LeafFlags::USER);
        assert!(tables.map(7, va, 0, 0x80_000, flags));
        let space = tables.hardware(7);
        assert_eq!(probe(tables.mem(), space, va).map(|page| page.pfn.get()), Some(0x80_000));
        assert_eq!(tables.tables(), 3);
        assert!(tables.clear(7, va, 1));
        assert_eq!((probe(tables.mem(), space, va), tables.tables()), (None, 2));
        assert!(!tables.map(7, va, 3, 0, flags), "no such level");
        assert!(!tables.map(7, va, 1, 1, flags), "misaligned");
        tables.end(7);
        assert_eq!(tables.tables(), 0);
    }
}
