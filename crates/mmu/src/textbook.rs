//! Textbook systems: one address translated step by step, as it is done with pencil and paper.
//!
//! ```text
//!   virtual address   [ VPN                | VPO ]        TLB:    [ TLBT | TLBI ] = VPN
//!   physical address  [ PPN                | PPO ]        cache:  [ CT | CI | CO ] = PA
//! ```
//!
//! [`System`] has page tables of any [`Textbook`] shape, perhaps a TLB, perhaps a cache;
//! [`System::translate`] answers every field as an [`Explanation`]. [`csapp`] is the worked example of the
//! standard textbook. Tables lie in a memory of their own, so that a system too small to hold its tables can
//! still be asked.

use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::RefCell;
use kilburn_addr::{Access, Pfn, PhysAddr, VirtAddr};
use kilburn_paging::hardware::{
    HardwareFormat, Step, WalkStart, descend, entry_address, store_entry,
};
use kilburn_paging::{Entry, Leaf, LeafFlags, PhysMem, Textbook};

/// Words of tables, by address; what was never written is 0.
#[derive(Clone, Debug, Default)]
struct TableMemory(RefCell<BTreeMap<u64, u64>>);

impl PhysMem for TableMemory {
    fn load(&self, at: PhysAddr) -> u64 {
        self.0.borrow().get(&at.get()).copied().unwrap_or(0)
    }
    fn store(&self, at: PhysAddr, value: u64) {
        self.0.borrow_mut().insert(at.get(), value);
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
        unreachable!("tables are read by entries")
    }
    fn write(&self, _: PhysAddr, _: &[u8]) {
        unreachable!("tables are written by entries")
    }
    fn zero(&self, _: Pfn) {
        unreachable!("tables begin empty")
    }
    fn copy(&self, _: Pfn, _: Pfn) {
        unreachable!("tables are not copied")
    }
}

/// A way of a TLB or a cache.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Way<T> {
    /// What is compared.
    pub tag: u64,
    /// What is kept; `None` for a way that is not valid.
    pub kept: Option<T>,
    used: u64,
}

/// A set-associative array.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sets<T> {
    sets: Vec<Vec<Way<T>>>,
    clock: u64,
}

impl<T: Clone> Sets<T> {
    fn new(sets: usize, ways: usize) -> Self {
        let way = Way { tag: 0, kept: None, used: 0 };
        Self { sets: vec![vec![way; ways]; sets], clock: 0 }
    }

    /// The sets, in order, each with its ways.
    pub fn sets(&self) -> &[Vec<Way<T>>] {
        &self.sets
    }

    /// log2 of the number of sets.
    pub fn index_bits(&self) -> u32 {
        self.sets.len().ilog2()
    }

    fn split(&self, key: u64) -> (u64, u64) {
        (key & (self.sets.len() as u64 - 1), key >> self.index_bits())
    }

    fn lookup(&mut self, index: u64, tag: u64) -> Option<T> {
        self.clock += 1;
        let clock = self.clock;
        let way = self.sets[index as usize]
            .iter_mut()
            .find(|way| way.tag == tag && way.kept.is_some())?;
        way.used = clock;
        way.kept.clone()
    }

    fn fill(&mut self, index: u64, tag: u64, kept: T) {
        self.clock += 1;
        let used = self.clock;
        let ways = &mut self.sets[index as usize];
        let victim = ways.iter_mut().min_by_key(|way| (way.kept.is_some(), way.used));
        *victim.expect("at least one way") = Way { tag, kept: Some(kept), used };
    }

    /// Says what way `way` of set `index` holds.
    fn set(&mut self, index: usize, way: usize, tag: u64, kept: Option<T>) {
        self.sets[index][way] = Way { tag, kept, used: 0 };
    }
}

/// What bytes memory holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Contents {
    /// Nobody said.
    Unknown,
    /// Made up from a seed and the address.
    Seeded(u64),
}

/// What a system is made of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SystemConfig {
    /// Address widths, page size, levels.
    pub format: Textbook,
    /// TLB: sets (a power of two) and ways.
    pub tlb: Option<(usize, usize)>,
    /// Cache: sets (a power of two), ways, log2 of the bytes of a line.
    pub cache: Option<(usize, usize, u32)>,
    /// Memory behind the cache.
    pub contents: Contents,
}

/// Why a system cannot be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SystemError {
    /// The number of sets is no power of two, there are no ways, or more than 2^20 of them in all.
    Sets,
    /// A line is larger than a page.
    Line,
}

impl core::fmt::Display for SystemError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Sets => {
                "sets are a power of two, with at least one way each and 2^20 ways in all at most"
            }
            Self::Line => "a line is a power of two and not larger than a page",
        })
    }
}

impl core::error::Error for SystemError {}

/// A textbook system and its state.
#[derive(Clone, Debug)]
pub struct System {
    config: SystemConfig,
    tables: TableMemory,
    root: Pfn,
    next_table: u64,
    tlb: Option<Sets<u64>>,
    cache: Option<Sets<Vec<Option<u8>>>>,
}

/// What the TLB answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TlbLook {
    /// TLBI
    pub index: u64,
    /// TLBT
    pub tag: u64,
    /// The frame number it held.
    pub hit: Option<u64>,
}

/// What the cache answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CacheLook {
    /// CO
    pub offset: u64,
    /// CI
    pub index: u64,
    /// CT
    pub tag: u64,
    /// Whether the line was there.
    pub is_hit: bool,
}

/// Why there is no physical address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TextbookFault {
    /// The address has more bits than there are.
    TooWide,
    /// An entry on the way is not valid.
    NotValid,
    /// The page does not permit the access.
    Protection,
}

/// Every field of a translation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Explanation {
    /// The address asked for.
    pub va: u64,
    /// Virtual page number.
    pub vpn: u64,
    /// Virtual page offset, which is the physical one as well.
    pub vpo: u64,
    /// The TLB, if there is one.
    pub tlb: Option<TlbLook>,
    /// Entries read from tables; empty after a TLB hit.
    pub walk: Vec<Step>,
    /// Physical page number and address, or why there are none.
    pub physical: Result<(u64, u64), TextbookFault>,
    /// The cache, if there is one and the address was translated.
    pub cache: Option<CacheLook>,
    /// The byte, if it is known.
    pub byte: Option<u8>,
}

impl System {
    /// A system with empty tables.
    ///
    /// # Errors
    /// [`SystemError`]
    pub fn new(config: SystemConfig) -> Result<Self, SystemError> {
        let shapes = [config.tlb, config.cache.map(|(sets, ways, _)| (sets, ways))];
        for (sets, ways) in shapes.into_iter().flatten() {
            let slots = sets.saturating_mul(ways);
            if !sets.is_power_of_two() || ways == 0 || slots > 1 << 20 {
                return Err(SystemError::Sets);
            }
        }
        if config.cache.is_some_and(|(.., line)| line > config.format.page_shift().min(12)) {
            return Err(SystemError::Line);
        }
        let mut system = Self {
            config,
            tables: TableMemory::default(),
            root: Pfn::new(0),
            next_table: 0,
            tlb: config.tlb.map(|(sets, ways)| Sets::new(sets, ways)),
            cache: config.cache.map(|(sets, ways, _)| Sets::new(sets, ways)),
        };
        system.root = system.new_table(config.format.levels() - 1);
        Ok(system)
    }

    /// What it is made of.
    pub fn config(&self) -> &SystemConfig {
        &self.config
    }

    /// The TLB's contents: frame numbers under tags.
    pub fn tlb(&self) -> Option<&Sets<u64>> {
        self.tlb.as_ref()
    }

    /// The cache's contents: bytes under tags.
    pub fn cache(&self) -> Option<&Sets<Vec<Option<u8>>>> {
        self.cache.as_ref()
    }

    fn new_table(&mut self, level: u8) -> Pfn {
        let format = self.config.format;
        let bits = format.index_bits(level) + format.entry_shift();
        let frames = 1 << bits.saturating_sub(format.page_shift());
        let table = Pfn::new(self.next_table);
        self.next_table += frames;
        table
    }

    /// Maps page `vpn` to frame `ppn` with `flags`; tables on the way are made.
    pub fn map(&mut self, vpn: u64, ppn: u64, flags: LeafFlags) {
        let format = self.config.format;
        let va = VirtAddr::new(vpn << format.page_shift());
        let mut table = self.root;
        for level in (1..format.levels()).rev() {
            let at = entry_address(format, table, format.index(va, level));
            let raw = kilburn_paging::hardware::load_entry(&self.tables, format, at);
            table = match format.decode(raw, level) {
                Entry::Table(next) => next,
                _ => {
                    let new = self.new_table(level - 1);
                    let raw = format.encode(Entry::Table(new), level);
                    store_entry(&self.tables, format, at, raw);
                    new
                }
            };
        }
        let at = entry_address(format, table, format.index(va, 0));
        let leaf = Entry::Leaf(Leaf { pfn: Pfn::new(ppn), flags });
        store_entry(&self.tables, format, at, format.encode(leaf, 0));
    }

    /// The frame that page `vpn` is mapped to.
    pub fn mapped(&self, vpn: u64) -> Option<u64> {
        let format = self.config.format;
        let va = VirtAddr::new(vpn << format.page_shift());
        let start = WalkStart::root(format, self.root);
        descend(&self.tables, format, start, va, |_| ()).ok().map(|found| found.leaf.pfn.get())
    }

    /// Translates a user's `access` to `va`: TLB, tables, cache. What was missing is filled in.
    pub fn translate(&mut self, va: u64, access: Access) -> Explanation {
        let format = self.config.format;
        let (vpn, vpo) = (va >> format.page_shift(), va & ((1 << format.page_shift()) - 1));
        let mut said = Explanation {
            va,
            vpn,
            vpo,
            tlb: None,
            walk: Vec::new(),
            physical: Err(TextbookFault::TooWide),
            cache: None,
            byte: None,
        };
        if !format.is_canonical(VirtAddr::new(va)) {
            return said;
        }
        said.tlb = self.tlb.as_mut().map(|tlb| {
            let (index, tag) = tlb.split(vpn);
            TlbLook { index, tag, hit: tlb.lookup(index, tag) }
        });
        let ppn = match said.tlb.and_then(|look| look.hit) {
            Some(ppn) => Ok(ppn),
            None => self.walk(va, access, &mut said.walk),
        };
        said.physical = ppn.map(|ppn| (ppn, ppn << format.page_shift() | vpo));
        if let (Ok(ppn), Some(look), Some(tlb)) = (ppn, said.tlb, &mut self.tlb)
            && look.hit.is_none()
        {
            tlb.fill(look.index, look.tag, ppn);
        }
        if let Ok((_, pa)) = said.physical {
            (said.cache, said.byte) = self.load(pa);
        }
        said
    }

    fn walk(&self, va: u64, access: Access, steps: &mut Vec<Step>) -> Result<u64, TextbookFault> {
        let format = self.config.format;
        let start = WalkStart::root(format, self.root);
        let va = VirtAddr::new(va);
        let found = descend(&self.tables, format, start, va, |step| steps.push(*step))
            .map_err(|_| TextbookFault::NotValid)?;
        let flags = found.leaf.flags;
        if flags.contains(LeafFlags::USER) && flags.permits(access) {
            Ok(found.leaf.pfn.get())
        } else {
            Err(TextbookFault::Protection)
        }
    }

    fn load(&mut self, pa: u64) -> (Option<CacheLook>, Option<u8>) {
        let contents = self.config.contents;
        let (Some(cache), Some((_, _, line_shift))) = (&mut self.cache, self.config.cache) else {
            return (None, byte_of(contents, pa));
        };
        let offset = pa & ((1 << line_shift) - 1);
        let (index, tag) = cache.split(pa >> line_shift);
        let held = cache.lookup(index, tag);
        let is_hit = held.is_some();
        let line = held.unwrap_or_else(|| {
            let first = pa - offset;
            let line: Vec<_> =
                (first..first + (1 << line_shift)).map(|at| byte_of(contents, at)).collect();
            cache.fill(index, tag, line.clone());
            line
        });
        (Some(CacheLook { offset, index, tag, is_hit }), line[offset as usize])
    }
}

fn byte_of(contents: Contents, pa: u64) -> Option<u8> {
    match contents {
        Contents::Unknown => None,
        Contents::Seeded(seed) => {
            let mixed = (pa ^ seed.rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            Some((mixed >> 56) as u8)
        }
    }
}

/// The worked example of Bryant and O'Hallaron, Computer Systems: A Programmer's Perspective, third edition,
/// section 9.6.4: 14-bit virtual and 12-bit physical addresses, pages of 64 bytes, a TLB of 16 entries in
/// four ways, a direct-mapped cache of 16 lines of 4 bytes; contents as in figure 9.20.
///
/// # Panics
/// Never: the shape is a good one.
pub fn csapp() -> System {
    const RIGHTS: LeafFlags = LeafFlags::READ.union(LeafFlags::WRITE).union(LeafFlags::USER);
    let mut system = System::new(SystemConfig {
        format: Textbook::new(14, 12, 6, 1).expect("the book's widths"),
        tlb: Some((4, 4)),
        cache: Some((16, 1, 2)),
        contents: Contents::Unknown,
    })
    .expect("the book's shape");
    for (vpn, ppn) in [
        (0x00, 0x28),
        (0x02, 0x33),
        (0x03, 0x02),
        (0x05, 0x16),
        (0x08, 0x13),
        (0x09, 0x17),
        (0x0a, 0x09),
        (0x0d, 0x2d),
        (0x0e, 0x11),
        (0x0f, 0x0d),
    ] {
        system.map(vpn, ppn, RIGHTS);
    }
    let tlb: [[(u64, Option<u64>); 4]; 4] = [
        [(0x03, None), (0x09, Some(0x0d)), (0x00, None), (0x07, Some(0x02))],
        [(0x03, Some(0x2d)), (0x02, None), (0x04, None), (0x0a, None)],
        [(0x02, None), (0x08, None), (0x06, None), (0x03, None)],
        [(0x07, None), (0x03, Some(0x0d)), (0x0a, Some(0x34)), (0x02, None)],
    ];
    let cache: [(u64, Option<[u8; 4]>); 16] = [
        (0x19, Some([0x99, 0x11, 0x23, 0x11])),
        (0x15, None),
        (0x1b, Some([0x00, 0x02, 0x04, 0x08])),
        (0x36, None),
        (0x32, Some([0x43, 0x6d, 0x8f, 0x09])),
        (0x0d, Some([0x36, 0x72, 0xf0, 0x1d])),
        (0x31, None),
        (0x16, Some([0x11, 0xc2, 0xdf, 0x03])),
        (0x24, Some([0x3a, 0x00, 0x51, 0x89])),
        (0x2d, None),
        (0x2d, Some([0x93, 0x15, 0xda, 0x3b])),
        (0x0b, None),
        (0x12, None),
        (0x16, Some([0x04, 0x96, 0x34, 0x15])),
        (0x13, Some([0x83, 0x77, 0x1b, 0xd3])),
        (0x14, None),
    ];
    if let Some(held) = &mut system.tlb {
        for (index, ways) in tlb.into_iter().enumerate() {
            for (way, (tag, ppn)) in ways.into_iter().enumerate() {
                held.set(index, way, tag, ppn);
            }
        }
    }
    if let Some(held) = &mut system.cache {
        for (index, (tag, bytes)) in cache.into_iter().enumerate() {
            held.set(index, 0, tag, bytes.map(|bytes| bytes.map(Some).to_vec()));
        }
    }
    system
}

#[cfg(test)]
mod tests {
    use super::*;

    const RIGHTS: LeafFlags = LeafFlags::READ.union(LeafFlags::WRITE).union(LeafFlags::USER);

    fn read(system: &mut System, va: u64) -> Explanation {
        system.translate(va, Access::Read)
    }

    #[test]
    fn the_books_example_comes_out_as_in_the_book() {
        let said = read(&mut csapp(), 0x03d4);
        assert_eq!((said.vpn, said.vpo), (0x0f, 0x14));
        assert_eq!(said.tlb, Some(TlbLook { index: 3, tag: 0x03, hit: Some(0x0d) }));
        assert_eq!(said.walk, []);
        assert_eq!(said.physical, Ok((0x0d, 0x354)));
        assert_eq!(said.cache, Some(CacheLook { offset: 0, index: 5, tag: 0x0d, is_hit: true }));
        assert_eq!(said.byte, Some(0x36));
    }

    #[test]
    fn the_books_problems_come_out_as_in_the_book() {
        // Practice problem 9.4 and homework problems 9.11 to 9.13.
        let said = read(&mut csapp(), 0x03d7);
        assert_eq!((said.physical, said.byte), (Ok((0x0d, 0x357)), Some(0x1d)));
        let said = read(&mut csapp(), 0x027c);
        assert_eq!((said.vpn, said.tlb), (9, Some(TlbLook { index: 1, tag: 2, hit: None })));
        assert_eq!(said.physical, Ok((0x17, 0x5fc)));
        assert_eq!(said.cache, Some(CacheLook { offset: 0, index: 15, tag: 0x17, is_hit: false }));
        assert_eq!(said.byte, None, "the figure does not say");
        let said = read(&mut csapp(), 0x03a9);
        assert_eq!(said.physical, Ok((0x11, 0x469)));
        assert_eq!(said.cache, Some(CacheLook { offset: 1, index: 10, tag: 0x11, is_hit: false }));
        let said = read(&mut csapp(), 0x0040);
        assert_eq!((said.vpn, said.physical), (1, Err(TextbookFault::NotValid)));
        assert_eq!(said.walk.len(), 1);
    }

    fn bare(va: u32, pa: u32, page: u32, levels: u8) -> System {
        let format = Textbook::new(va, pa, page, levels).expect("a system");
        let contents = Contents::Unknown;
        System::new(SystemConfig { format, tlb: None, cache: None, contents }).expect("a shape")
    }

    #[test]
    fn a_linear_table_translates_as_ostep_has_it() {
        // Arpaci-Dusseau, Operating Systems: Three Easy Pieces, homework on linear page tables: 16 KiB of
        // address space, 64 KiB of memory, pages of 4 KiB; page 0 in frame 12, page 3 in frame 6.
        let mut system = bare(14, 16, 12, 1);
        system.map(0, 12, RIGHTS);
        system.map(3, 6, RIGHTS);
        assert_eq!(read(&mut system, 0x3229).physical, Ok((6, 0x6229)));
        assert_eq!(read(&mut system, 0x1369).physical, Err(TextbookFault::NotValid));
        assert_eq!(read(&mut system, 0x1e80).physical, Err(TextbookFault::NotValid));
        assert_eq!(read(&mut system, 0x2556).physical, Err(TextbookFault::NotValid));
        assert_eq!(read(&mut system, 0x3a1e).physical, Ok((6, 0x6a1e)));
    }

    #[test]
    fn two_levels_translate_as_ostep_has_it() {
        // The same book's chapter on smaller tables: 16 KiB of address space, pages of 64 bytes, two
        // levels of 16 entries.
        let mut system = bare(14, 14, 6, 2);
        for (vpn, ppn) in [(0, 10), (1, 23), (4, 80), (5, 59), (254, 55), (255, 45)] {
            system.map(vpn, ppn, RIGHTS);
        }
        let said = read(&mut system, 0x3f80);
        assert_eq!(said.walk.iter().map(|step| step.index).collect::<Vec<_>>(), [15, 14]);
        assert_eq!(said.physical, Ok((55, 0x0dc0)));
        let said = read(&mut system, 0x1000);
        assert_eq!((said.walk.len(), said.physical), (1, Err(TextbookFault::NotValid)));
    }

    #[test]
    fn supervisor_pages_and_rights_keep_users_out() {
        let mut system = bare(14, 14, 6, 1);
        system.map(1, 1, LeafFlags::READ | LeafFlags::WRITE);
        system.map(2, 2, LeafFlags::READ | LeafFlags::USER);
        assert_eq!(read(&mut system, 0x40).physical, Err(TextbookFault::Protection));
        assert_eq!(read(&mut system, 0x80).physical, Ok((2, 0x80)));
        assert_eq!(system.translate(0x80, Access::Write).physical, Err(TextbookFault::Protection));
        assert_eq!(read(&mut system, 0x4000).physical, Err(TextbookFault::TooWide));
    }

    #[test]
    fn what_was_missing_is_there_the_second_time() {
        let mut system = csapp();
        assert_eq!(read(&mut system, 0x027c).tlb.and_then(|look| look.hit), None);
        let again = read(&mut system, 0x027c);
        assert_eq!(again.tlb.and_then(|look| look.hit), Some(0x17));
        assert!(again.cache.is_some_and(|look| look.is_hit));
    }
}
