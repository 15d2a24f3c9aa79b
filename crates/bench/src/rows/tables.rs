//! Single entries of page tables: 2^18 pages in order, as a program that is loaded maps them, and
//! at random.

use crate::contest::timed;
use crate::machine::scattered;
use crate::{Contestant, Row};
use kilburn_addr::{PAGE_SIZE, Pfn, VirtAddr};
use kilburn_paging::tables::TableSource;
use kilburn_paging::{Leaf, LeafFlags, Sv, Tables};
use kilburn_riscv::GuestRam;
use std::cell::Cell;
use std::hint::black_box;

/// Pages in the tables, and the least that is done with them at a time.
pub(crate) const PAGES: u64 = 1 << 18;

/// The rows of this file.
pub fn rows() -> Vec<Row> {
    vec![
        Row { name: "map one page, in order", goal_ns: Some(3.1), contestants: map },
        Row { name: "unmap one page, in order", goal_ns: Some(1.4), contestants: unmap },
        Row { name: "query one page, in order", goal_ns: Some(1.4), contestants: query },
        Row { name: "query one page, at random", goal_ns: Some(2.4), contestants: query_random },
    ]
}

fn va(page: u64) -> VirtAddr {
    VirtAddr::new(0x10_0000_0000 + page * PAGE_SIZE)
}

fn leaf(page: u64) -> Leaf {
    let flags = LeafFlags::READ | LeafFlags::WRITE | LeafFlags::USER;
    Leaf { pfn: Pfn::new(0x8_0000 + page), flags }
}

/// Sv39 tables in guest RAM, and frames for them one after the other.
struct Ours {
    ram: GuestRam,
    next: Cell<u64>,
}

impl TableSource for Ours {
    fn alloc_table(&self, _: u8) -> Option<Pfn> {
        self.next.set(self.next.get() + 1);
        Some(Pfn::new(self.next.get()))
    }
    fn free_table(&self, _: Pfn, _: u8) {}
}

impl Ours {
    fn new() -> Self {
        let ram = GuestRam::new(8 << 20).expect("the host has the memory");
        let next = Cell::new(ram.base_pfn().get());
        Self { ram, next }
    }

    fn tables(&self) -> Tables<'_, GuestRam, Sv> {
        Tables::new(&self.ram, Sv::SV39, self.ram.base_pfn())
    }

    fn map(&self) {
        let mut cursor = self.tables().cursor();
        (0..PAGES).for_each(|page| cursor.map(va(page), leaf(page), self).expect("room"));
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
                let frame = PhysAddr::from((leaf(page).pfn.get() * PAGE_SIZE) as usize);
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

fn ours(mut round: impl FnMut(&Ours) -> std::time::Duration + 'static) -> Vec<Contestant> {
    let tables = Ours::new();
    tables.map();
    tables.unmap();
    vec![Contestant::new("ours", move |count| {
        let rounds = count.div_ceil(PAGES);
        (rounds * PAGES, (0..rounds).map(|_| round(&tables)).sum())
    })]
}

fn map() -> Vec<Contestant> {
    let ours = ours(|tables| {
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

fn unmap() -> Vec<Contestant> {
    let ours = ours(|tables| {
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
    let tables = Ours::new();
    tables.map();
    Contestant::new("ours", move |count| {
        let rounds = count.div_ceil(PAGES);
        (rounds * PAGES, (0..rounds).map(|_| timed(|| tables.query(|page| page))).sum())
    })
}

fn query() -> Vec<Contestant> {
    queries(|page| page)
}

fn query_random() -> Vec<Contestant> {
    queries(|number| scattered(number, PAGES))
}

fn queries(page: fn(u64) -> u64) -> Vec<Contestant> {
    let ours = ours(move |tables| {
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
