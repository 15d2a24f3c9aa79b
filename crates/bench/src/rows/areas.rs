//! 100,000 areas: found, cut, taken out, changed, placed between. No tables, no locks: the part
//! that other libraries have as well.
//!
//! Areas are three pages long. Two of them touch, then a page is free, and after every sixteenth
//! area seventeen; neighbours differ in their rights.

use crate::machine::{BenchHost, scattered, shuffled};
use crate::{Contestant, Row};
use kilburn_addr::{AddrRange, PAGE_SIZE, VirtAddr, VmFlags};
use kilburn_mm::anon_vma::AnonSlot;
use kilburn_mm::areas::place::BelowMin;
use kilburn_mm::areas::{Backing, Change, PlaceRequest, Placement, Window};
use kilburn_mm::layout::{Arch, Layout};
use kilburn_mm::{Areas, Vma, VmaExtra};
use memory_set::{MappingBackend, MemoryArea, MemorySet};
use rangemap::RangeMap;
use std::collections::BTreeMap;
use std::hint::black_box;

const COUNT: u64 = 100_000;
const MAX: u32 = 1 << 20;
const BASE: u64 = 0x10_0000_0000;
const LEN: u64 = 3 * PAGE_SIZE;
/// Areas worked on between two restorations.
const BATCH: u64 = 512;

/// The rows of this file.
pub fn rows() -> Vec<Row> {
    vec![
        Row { name: "find an area, range and rights", goal_ns: Some(60.0), contestants: find },
        Row { name: "find an area, all about it", goal_ns: None, contestants: find_all },
        Row { name: "split: cut a page out of an area", goal_ns: Some(300.0), contestants: split },
        Row { name: "remove an area", goal_ns: Some(300.0), contestants: remove },
        Row { name: "change an area's rights", goal_ns: Some(300.0), contestants: protect },
        Row { name: "change one page's rights", goal_ns: Some(300.0), contestants: protect_page },
        Row { name: "find a gap of 1 to 17 pages", goal_ns: Some(150.0), contestants: gap },
    ]
}

/// Start of area `number`.
fn start(number: u64) -> u64 {
    BASE + number * LEN + (number / 2 + number / 16 * 16) * PAGE_SIZE
}

fn flags(number: u64) -> VmFlags {
    let may = VmFlags::MAYREAD | VmFlags::MAYWRITE | VmFlags::MAYEXEC;
    if number.is_multiple_of(2) {
        may | VmFlags::READ
    } else {
        may | VmFlags::READ | VmFlags::WRITE
    }
}

fn range(start: u64, len: u64) -> AddrRange {
    AddrRange::with_len(VirtAddr::new(start), len).expect("in order")
}

fn area(number: u64) -> Vma<BenchHost> {
    Vma {
        range: range(start(number), LEN),
        flags: flags(number),
        pgoff: start(number) / PAGE_SIZE,
        file: None,
        anon_vma: AnonSlot::empty(),
        extra: VmaExtra::NONE,
    }
}

/// Areas put in one after the other in random order, as a process that lives for long has them.
fn ours() -> Areas<BenchHost> {
    let mut areas = Areas::new();
    shuffled(COUNT).into_iter().for_each(|number| areas.insert(area(number)));
    areas
}

fn range_map() -> RangeMap<u64, u64> {
    let mut map = RangeMap::new();
    for number in shuffled(COUNT) {
        map.insert(start(number)..start(number) + LEN, flags(number).bits());
    }
    map
}

/// By start: end and rights.
fn btree() -> BTreeMap<u64, (u64, u64)> {
    let entry = |number| (start(number), (start(number) + LEN, flags(number).bits()));
    let mut map = BTreeMap::new();
    map.extend(shuffled(COUNT).into_iter().map(entry));
    map
}

/// A backend without tables.
#[derive(Clone)]
struct NoTables;

impl MappingBackend for NoTables {
    type Addr = memory_addr::VirtAddr;
    type Flags = u64;
    type PageTable = ();

    fn map(&self, _: Self::Addr, _: usize, _: u64, (): &mut ()) -> bool {
        true
    }
    fn unmap(&self, _: Self::Addr, _: usize, (): &mut ()) -> bool {
        true
    }
    fn protect(&self, _: Self::Addr, _: usize, _: u64, (): &mut ()) -> bool {
        true
    }
}

fn memory_set() -> MemorySet<NoTables> {
    let mut set = MemorySet::new();
    for number in shuffled(COUNT) {
        set.map(set_area(number), &mut (), false).expect("free");
    }
    set
}

fn set_area(number: u64) -> MemoryArea<NoTables> {
    let start = usize::try_from(start(number)).expect("64 bits").into();
    MemoryArea::new(start, LEN as usize, flags(number).bits(), NoTables)
}

/// The area worked on at `time`; no batch holds one twice.
fn number(time: u64) -> u64 {
    // A step that has no factor in common with the count, far from any power of two.
    time.wrapping_mul(61_803_399) % COUNT
}

fn find() -> Vec<Contestant> {
    let (areas, ranges, tree, set) = (ours(), range_map(), btree(), memory_set());
    let addr = |time| start(scattered(time, COUNT)) + PAGE_SIZE;
    vec![
        Contestant::plain("ours", move |time| {
            let addr = VirtAddr::new(addr(time));
            let found = areas.head(addr).filter(|head| head.range.contains(addr)).expect("there");
            black_box((found.flags, found.range.end()));
        }),
        Contestant::plain("rangemap", move |time| {
            let (range, flags) = ranges.get_key_value(&addr(time)).expect("there");
            black_box((*flags, range.end));
        }),
        Contestant::plain("BTreeMap", move |time| {
            let at = addr(time);
            let (_, (end, flags)) = tree.range(..=at).next_back().expect("there");
            assert!(at < *end);
            black_box((*flags, *end));
        }),
        Contestant::plain("memory_set", move |time| {
            let addr = (addr(time) as usize).into();
            let area = set.find(addr).expect("there");
            black_box((area.flags(), area.end()));
        }),
    ]
}

/// The peer holds two words an area, and a third that says where the rest lies.
fn find_all() -> Vec<Contestant> {
    let (areas, tree) = (ours(), btree());
    let rest: Vec<[u64; 8]> = (0..COUNT).map(|number| [number; 8]).collect();
    let addr = |time| start(scattered(time, COUNT)) + PAGE_SIZE;
    vec![
        Contestant::plain("ours", move |time| {
            let vma = areas.containing(VirtAddr::new(addr(time))).expect("there");
            black_box((vma.flags, vma.end(), vma.pgoff));
        }),
        Contestant::plain("BTreeMap and Vec", move |time| {
            let at = addr(time);
            let (from, (end, flags)) = tree.range(..=at).next_back().expect("there");
            assert!(at < *end);
            let slot = (from.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) % COUNT;
            black_box((*flags, *end, rest[slot as usize][0]));
        }),
    ]
}

fn put_back(areas: &mut Areas<BenchHost>, number: u64) {
    for at in [0, 2] {
        areas.remove(VirtAddr::new(start(number) + at * PAGE_SIZE));
    }
    areas.insert(area(number));
}

fn split() -> Vec<Contestant> {
    vec![
        Contestant::batched(
            "ours",
            ours(),
            BATCH,
            |areas, time| {
                let middle = range(start(number(time)) + PAGE_SIZE, PAGE_SIZE);
                let plan = areas.plan_unmap(middle, MAX).expect("below the limit");
                areas.commit_unmap(plan, &mut (), |piece| drop(black_box(piece)));
            },
            |areas, time| put_back(areas, number(time)),
        ),
        Contestant::batched(
            "rangemap",
            range_map(),
            BATCH,
            |map, time| {
                let middle = start(number(time)) + PAGE_SIZE;
                map.remove(middle..middle + PAGE_SIZE);
            },
            |map, time| {
                let at = start(number(time));
                map.insert(at..at + LEN, flags(number(time)).bits());
            },
        ),
        Contestant::batched(
            "BTreeMap",
            btree(),
            BATCH,
            |map, time| {
                let at = start(number(time));
                let (_, (end, flags)) = map.range_mut(..=at + PAGE_SIZE).next_back().expect("in");
                let (old, flags) = (*end, *flags);
                *end = at + PAGE_SIZE;
                map.insert(at + 2 * PAGE_SIZE, (old, flags));
            },
            |map, time| {
                let at = start(number(time));
                map.remove(&(at + 2 * PAGE_SIZE));
                map.insert(at, (at + LEN, flags(number(time)).bits()));
            },
        ),
        Contestant::batched(
            "memory_set",
            memory_set(),
            2,
            |set, time| {
                let middle = (start(number(time)) + PAGE_SIZE) as usize;
                set.unmap(middle.into(), PAGE_SIZE as usize, &mut ()).expect("there");
            },
            |set, time| set.map(set_area(number(time)), &mut (), true).expect("there"),
        ),
    ]
}

fn remove() -> Vec<Contestant> {
    vec![
        Contestant::batched(
            "ours",
            ours(),
            BATCH,
            |areas, time| {
                let whole = range(start(number(time)), LEN);
                let plan = areas.plan_unmap(whole, MAX).expect("below the limit");
                areas.commit_unmap(plan, &mut (), |piece| drop(black_box(piece)));
            },
            |areas, time| areas.insert(area(number(time))),
        ),
        Contestant::batched(
            "rangemap",
            range_map(),
            BATCH,
            |map, time| {
                let at = start(number(time));
                map.remove(at..at + LEN);
            },
            |map, time| {
                let at = start(number(time));
                map.insert(at..at + LEN, flags(number(time)).bits());
            },
        ),
        Contestant::batched(
            "BTreeMap",
            btree(),
            BATCH,
            |map, time| {
                black_box(map.remove(&start(number(time))));
            },
            |map, time| {
                let at = start(number(time));
                map.insert(at, (at + LEN, flags(number(time)).bits()));
            },
        ),
        Contestant::batched(
            "memory_set",
            memory_set(),
            2,
            |set, time| {
                let at = start(number(time)) as usize;
                set.unmap(at.into(), LEN as usize, &mut ()).expect("there");
            },
            |set, time| set.map(set_area(number(time)), &mut (), false).expect("free"),
        ),
    ]
}

/// Rights that no neighbour has: nothing merges, so the state stays as large as it is.
fn other(flags: VmFlags) -> VmFlags {
    flags ^ VmFlags::EXEC
}

fn protect() -> Vec<Contestant> {
    let (mut areas, mut ranges) = (ours(), range_map());
    vec![
        Contestant::plain("ours", move |time| {
            let whole = range(start(number(time)), LEN);
            let flags = areas.containing(whole.start()).expect("there").flags;
            let plan = areas.plan_modify(whole, Change::flags(other(flags)), MAX).expect("whole");
            black_box(areas.commit_modify(plan, &mut ()));
        }),
        Contestant::plain("rangemap", move |time| {
            let at = start(number(time));
            let flags = VmFlags::from_bits_retain(*ranges.get(&at).expect("there"));
            ranges.insert(at..at + LEN, other(flags).bits());
        }),
        memory_set_protect(LEN, 0),
    ]
}

fn protect_page() -> Vec<Contestant> {
    vec![
        Contestant::batched(
            "ours",
            ours(),
            BATCH,
            |areas, time| {
                let middle = range(start(number(time)) + PAGE_SIZE, PAGE_SIZE);
                let flags = areas.containing(middle.start()).expect("there").flags;
                let change = Change::flags(other(flags));
                let plan = areas.plan_modify(middle, change, MAX).expect("below the limit");
                black_box(areas.commit_modify(plan, &mut ()));
            },
            |areas, time| {
                areas.remove(VirtAddr::new(start(number(time)) + PAGE_SIZE));
                put_back(areas, number(time));
            },
        ),
        Contestant::batched(
            "rangemap",
            range_map(),
            BATCH,
            |map, time| {
                let middle = start(number(time)) + PAGE_SIZE;
                let flags = VmFlags::from_bits_retain(*map.get(&middle).expect("there"));
                map.insert(middle..middle + PAGE_SIZE, other(flags).bits());
            },
            |map, time| {
                let at = start(number(time));
                map.insert(at..at + LEN, flags(number(time)).bits());
            },
        ),
        memory_set_protect(PAGE_SIZE, PAGE_SIZE),
    ]
}

fn memory_set_protect(len: u64, offset: u64) -> Contestant {
    Contestant::batched(
        "memory_set",
        memory_set(),
        2,
        move |set, time| {
            let at = (start(number(time)) + offset) as usize;
            let change = |flags| Some(other(VmFlags::from_bits_retain(flags)).bits());
            set.protect(at.into(), len as usize, change, &mut ()).expect("there");
        },
        |set, time| set.map(set_area(number(time)), &mut (), true).expect("there"),
    )
}

fn gap() -> Vec<Contestant> {
    let (areas, set) = (ours(), memory_set());
    let top = start(COUNT - 1) + LEN;
    let layout = Layout::fixed(Arch::RiscvSv39).with_mmap_base(VirtAddr::new(top));
    let pages = |time| scattered(time, 17) + 1;
    vec![
        Contestant::plain("ours", move |time| {
            let request = PlaceRequest {
                addr: VirtAddr::ZERO,
                len: pages(time) * PAGE_SIZE,
                placement: Placement::Hint,
                backing: Backing::Anonymous,
                window: Window::Default,
                min_addr: VirtAddr::new(65536),
                below_min: BelowMin::Refused,
            };
            black_box(areas.get_unmapped_area(&layout, &request).expect("room"));
        }),
        Contestant::plain("memory_set", move |time| {
            let limit = memory_addr::va_range!(BASE as usize..1 << 38);
            let size = (pages(time) * PAGE_SIZE) as usize;
            // From somewhere in the middle: from the start it would find the same gap each time.
            let hint = (start(scattered(time, COUNT)) as usize).into();
            black_box(set.find_free_area(hint, size, limit, PAGE_SIZE as usize)).expect("room");
        }),
    ]
}
