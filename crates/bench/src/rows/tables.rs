//! Single entries of page tables: 2^18 pages in order, as a program that is loaded maps them, and
//! at random; as RISC-V has entries, and as x86-64 has them.
//!
//! Pages are marked accessed and written, as a fault marks them. Nothing but a lock of the bus can
//! take an entry without a mark that hardware may set meanwhile: such pages have a row of their own.
//! The peer writes over what hardware may set.

use crate::contest::timed;
use crate::machine::scattered;
use crate::{Contestant, Row};
use kilburn_addr::{PAGE_SIZE, Pfn, VirtAddr};
use kilburn_paging::tables::TableSource;
use kilburn_paging::{Format, Leaf, LeafFlags, Sv, Tables, X86_64};
use kilburn_riscv::GuestRam;
use std::cell::Cell;
use std::hint::black_box;

/// Pages in the tables, and the least that is done with them at a time.
pub(crate) const PAGES: u64 = 1 << 18;

/// The rows of this file.
pub fn rows() -> Vec<Row> {
    vec![
        Row { name: "map one page, in order", goal_ns: Some(3.1), contestants: || map(Sv::SV39) },
        Row {
            name: "map one page, in order, x86-64",
            goal_ns: Some(3.1),
            contestants: || map(X86_64::FOUR_LEVEL),
        },
        Row {
            name: "unmap one page, in order",
            goal_ns: Some(1.4),
            contestants: || unmap(Sv::SV39, USED),
        },
        Row {
            name: "unmap one page, in order, x86-64",
            goal_ns: Some(1.4),
            contestants: || unmap(X86_64::FOUR_LEVEL, USED),
        },
        Row {
            name: "unmap one page that nobody used, in order",
            goal_ns: None,
            contestants: || unmap(Sv::SV39, LeafFlags::empty()),
        },
        Row {
            name: "query one page, in order",
            goal_ns: Some(1.4),
            contestants: || query(Sv::SV39),
        },
        Row {
            name: "query one page, in order, x86-64",
            goal_ns: Some(1.4),
            contestants: || query(X86_64::FOUR_LEVEL),
        },
        Row {
            name: "query one page, at random",
            goal_ns: Some(2.4),
            contestants: || query_random(Sv::SV39),
        },
    ]
}

fn va(page: u64) -> VirtAddr {
    VirtAddr::new(0x10_0000_0000 + page * PAGE_SIZE)
}

/// The marks of a page that was read and written.
const USED: LeafFlags = LeafFlags::ACCESSED.union(LeafFlags::DIRTY);

fn pfn(page: u64) -> Pfn {
    Pfn::new(0x8_0000 + page)
}

/// Tables in guest RAM, and frames for them one after the other.
struct Ours<F> {
    ram: GuestRam,
    next: Cell<u64>,
    format: F,
    flags: LeafFlags,
}

impl<F> TableSource for Ours<F> {
    fn alloc_table(&self, _: u8) -> Option<Pfn> {
        self.next.set(self.next.get() + 1);
        Some(Pfn::new(self.next.get()))
    }
    fn free_table(&self, _: Pfn, _: u8) {}
}

impl<F: Format> Ours<F> {
    /// Tables for pages with these marks.
    fn new(format: F, marks: LeafFlags) -> Self {
        let ram = GuestRam::new(8 << 20).expect("the host has the memory");
        let next = Cell::new(ram.base_pfn().get());
        let flags = LeafFlags::READ | LeafFlags::WRITE | LeafFlags::USER | marks;
        Self { ram, next, format, flags }
    }

    fn tables(&self) -> Tables<'_, GuestRam, F> {
        Tables::new(&self.ram, self.format, self.ram.base_pfn())
    }

    fn map(&self) {
        let mut cursor = self.tables().cursor();
        let flags = self.flags;
        (0..PAGES).for_each(|page| {
            cursor.map(va(page), Leaf { pfn: pfn(page), flags }, self).expect("room");
        });
    }

    fn unmap(&self) {
        let mut cursor = self.tables().cursor();
        (0..PAGES).for_each(|page| {
            black_box(cursor.unmap(va(page)));
        });
    }

    fn query(&self, mut page: impl FnMut(u64) -> u64) {
        let mut cursor = self.tables().cursor();
        (0..PAGES).for_each(|number| {
            black_box(cursor.query(va(page(number))));
        });
    }
}

/// `page_table_multiarch` with x86-64 entries in three levels, which is what it has on this host.
#[cfg(target_arch = "x86_64")]
mod peer {
    use super::*;
    use memory_addr::{PhysAddr, VirtAddr as Va};
    use page_table_entry::x86_64::X64PTE;
    use page_table_multiarch::{
        MappingFlags, PageSize, PageTable64, PagingHandler, PagingMetaData,
    };

    pub(super) struct Levels3;

    impl PagingMetaData for Levels3 {
        const LEVELS: usize = 3;
        const PA_MAX_BITS: usize = 52;
        const VA_MAX_BITS: usize = 39;
        type VirtAddr = Va;
        fn flush_tlb(_: Option<Va>) {}
    }

    /// Frames of the host's own memory, never given back.
    pub(super) struct Heap;

    #[repr(align(4096))]
    #[expect(dead_code, reason = "reached by its address")]
    struct Frame([u64; 512]);

    impl PagingHandler for Heap {
        fn alloc_frames(num: usize, _: usize) -> Option<PhysAddr> {
            let frames: Vec<Frame> = (0..num).map(|_| Frame([0; 512])).collect();
            Some(PhysAddr::from(frames.leak().as_ptr() as usize))
        }
        fn dealloc_frames(_: PhysAddr, _: usize) {}
        fn phys_to_virt(paddr: PhysAddr) -> Va {
            Va::from(paddr.as_usize())
        }
    }

    pub(super) struct Theirs(PageTable64<Levels3, X64PTE, Heap>);

    fn theirs(page: u64) -> Va {
        Va::from(va(page).get() as usize)
    }

    impl Theirs {
        pub(super) fn new() -> Self {
            Self(PageTable64::try_new().expect("a frame"))
        }

        pub(super) fn map(&mut self) {
            let mut cursor = self.0.cursor();
            let flags = MappingFlags::READ | MappingFlags::WRITE | MappingFlags::USER;
            (0..PAGES).for_each(|page| {
                let frame = PhysAddr::from((pfn(page).get() * PAGE_SIZE) as usize);
                cursor.map(theirs(page), frame, PageSize::Size4K, flags).expect("room");
            });
        }

        pub(super) fn unmap(&mut self) {
            let mut cursor = self.0.cursor();
            (0..PAGES).for_each(|page| {
                black_box(cursor.unmap(theirs(page)).expect("mapped"));
            });
        }

        pub(super) fn query(&self, mut page: impl FnMut(u64) -> u64) {
            (0..PAGES).for_each(|number| {
                black_box(self.0.query(theirs(page(number))).expect("mapped"));
            });
        }
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod peer {
    pub(super) struct Theirs;
}

#[cfg(target_arch = "x86_64")]
fn with_peer(
    mut contestants: Vec<Contestant>,
    mut round: impl FnMut(&mut peer::Theirs) -> std::time::Duration + 'static,
) -> Vec<Contestant> {
    let mut theirs = peer::Theirs::new();
    contestants.push(Contestant::new("page_table_multiarch", move |count| {
        let rounds = count.div_ceil(PAGES);
        (rounds * PAGES, (0..rounds).map(|_| round(&mut theirs)).sum())
    }));
    contestants
}

#[cfg(not(target_arch = "x86_64"))]
fn with_peer(
    contestants: Vec<Contestant>,
    _: impl FnMut(&mut peer::Theirs) -> std::time::Duration + 'static,
) -> Vec<Contestant> {
    contestants
}

fn ours<F: Format + 'static>(
    tables: Ours<F>,
    mut round: impl FnMut(&Ours<F>) -> std::time::Duration + 'static,
) -> Vec<Contestant> {
    tables.map();
    tables.unmap();
    vec![Contestant::new("ours", move |count| {
        let rounds = count.div_ceil(PAGES);
        (rounds * PAGES, (0..rounds).map(|_| round(&tables)).sum())
    })]
}

fn map(format: impl Format + 'static) -> Vec<Contestant> {
    let ours = ours(Ours::new(format, USED), |tables| {
        let took = timed(|| tables.map());
        tables.unmap();
        took
    });
    with_peer(ours, |tables| {
        let took = timed(|| tables.map());
        tables.unmap();
        took
    })
}

fn unmap(format: impl Format + 'static, marks: LeafFlags) -> Vec<Contestant> {
    let ours = ours(Ours::new(format, marks), |tables| {
        tables.map();
        timed(|| tables.unmap())
    });
    with_peer(ours, |tables| {
        tables.map();
        timed(|| tables.unmap())
    })
}

/// Queries in order, of tables that are never changed.
pub(crate) fn queries_alone() -> Contestant {
    let tables = Ours::new(Sv::SV39, USED);
    tables.map();
    Contestant::new("ours", move |count| {
        let rounds = count.div_ceil(PAGES);
        (rounds * PAGES, (0..rounds).map(|_| timed(|| tables.query(|page| page))).sum())
    })
}

fn query(format: impl Format + 'static) -> Vec<Contestant> {
    queries(format, |page| page)
}

fn query_random(format: impl Format + 'static) -> Vec<Contestant> {
    queries(format, |number| scattered(number, PAGES))
}

fn queries(format: impl Format + 'static, page: fn(u64) -> u64) -> Vec<Contestant> {
    let ours = ours(Ours::new(format, USED), move |tables| {
        tables.map();
        timed(|| tables.query(page))
    });
    with_peer(ours, move |tables| {
        tables.map();
        let took = timed(|| tables.query(page));
        tables.unmap();
        took
    })
}
