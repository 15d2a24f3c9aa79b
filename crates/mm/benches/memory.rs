//! Times of the memory manager's operations as library calls, each beside its goal.
//!
//! `cargo bench -p kilburn-mm --bench memory`. A figure is the median of several rounds; the host
//! is the tests' boxed slice, whose zeroing is slower than a real host's and is shown on its own.

use kilburn_addr::{Access, Pfn, VirtAddr};
use kilburn_mm::frames::Frames;
use kilburn_mm::testing::{FIXED, PRIVATE_ANON, READ_WRITE, TestHost};
use kilburn_mm::{Caller, Host, Memory, Mm};
use kilburn_paging::tables::TableSource;
use kilburn_paging::{Leaf, LeafFlags, PhysMem, Sv, Tables};
use std::cell::Cell;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

const PAGE: u64 = 4096;
const ROUNDS: usize = 9;

/// Median nanoseconds of one of `count` operations that `round` does.
fn time(name: &str, goal_ns: f64, count: u64, mut round: impl FnMut() -> std::time::Duration) {
    let mut times: Vec<f64> =
        (0..ROUNDS).map(|_| round().as_nanos() as f64 / count as f64).collect();
    times.sort_by(f64::total_cmp);
    let median = times[ROUNDS / 2];
    let verdict = if median <= goal_ns { "met" } else { "MISSED" };
    println!("{name:<44} {median:10.1} ns   goal {goal_ns:8.1}   {verdict}");
}

fn timed(work: impl FnOnce()) -> std::time::Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

fn machine(frames: u64) -> (Arc<Memory<TestHost>>, Arc<Mm<TestHost>>) {
    let memory = TestHost::memory(frames);
    let mm = TestHost::mm(&memory);
    (memory, mm)
}

fn frames() {
    let frames: Frames<parking_lot::RawMutex> = Frames::new(Pfn::new(0)..Pfn::new(1 << 18), 1);
    time("frame: alloc + free", 10.0, 1 << 20, || {
        timed(|| {
            for _ in 0..1 << 20 {
                let pfn = black_box(frames.alloc(0)).expect("free");
                frames.free_frame(pfn, 0);
            }
        })
    });
    time("block of order 9: alloc + free", 40.0, 1 << 18, || {
        timed(|| {
            for _ in 0..1 << 18 {
                let pfn = black_box(frames.alloc_block(9, 0)).expect("free");
                frames.free_block(pfn, 9, 0);
            }
        })
    });
}

/// Frames for tables, one after the other.
struct Pool(Cell<u64>);

impl TableSource for Pool {
    fn alloc_table(&self, _: u8) -> Option<Pfn> {
        self.0.set(self.0.get() + 1);
        Some(Pfn::new(self.0.get()))
    }
    fn free_table(&self, _: Pfn, _: u8) {}
}

fn entries() {
    let (memory, _) = machine(1 << 15);
    let pool = Pool(Cell::new(0x8_1000));
    let tables = Tables::new(memory.host().mem(), Sv::SV39, Pfn::new(0x8_1000));
    let pages = 1_u64 << 18;
    let va = |i: u64| VirtAddr::new(i * PAGE);
    let leaf = |i| Leaf { pfn: Pfn::new(i), flags: LeafFlags::READ | LeafFlags::USER };
    let map = || {
        let mut cursor = tables.cursor();
        for i in 0..pages {
            cursor.map(va(i), leaf(i), &pool).expect("room");
        }
    };
    time("map one entry, cursor", 3.1, pages, || timed(map));
    time("query one entry, cursor", 1.4, pages, || {
        timed(|| {
            let mut cursor = tables.cursor();
            for i in 0..pages {
                black_box(cursor.query(va(i)));
            }
        })
    });
    time("unmap one entry, cursor", 1.4, pages, || {
        map();
        timed(|| {
            let mut cursor = tables.cursor();
            for i in 0..pages {
                black_box(cursor.unmap(va(i)));
            }
        })
    });
}

fn operations() {
    let (memory, mm) = machine(1 << 15);
    let caller = &Caller::ROOT;
    let pages = 1_u64 << 14;
    time("zeroing a frame in this host", 150.0, pages, || {
        timed(|| {
            for i in 0..pages {
                memory.host().mem().zero(Pfn::new(0x8_0000 + 0x4000 + i % 64));
            }
        })
    });
    let at = mm.map_anon(0, pages * PAGE, READ_WRITE, PRIVATE_ANON).expect("room");
    time("anonymous write fault, zeroing included", 150.0, pages, || {
        mm.munmap(at, pages * PAGE).expect("mapped");
        mm.map_anon(at.get(), pages * PAGE, READ_WRITE, PRIVATE_ANON | FIXED).expect("room");
        timed(|| {
            for i in 0..pages {
                mm.handle_fault(caller, VirtAddr::new(at.get() + i * PAGE), Access::Write)
                    .expect("memory");
            }
        })
    });
    time("munmap, per populated page", 25.0, pages, || {
        let took = timed(|| mm.munmap(at, pages * PAGE).expect("mapped"));
        mm.map_anon(at.get(), pages * PAGE, READ_WRITE, PRIVATE_ANON | FIXED).expect("room");
        for i in 0..pages {
            mm.poke(at.get() + i * PAGE, 1).expect("memory");
        }
        took
    });
    time("fork, per page touched (1 GiB in 10 ms)", 38.0, pages, || {
        let mut child = None;
        let took = timed(|| child = Some(mm.fork(caller).expect("memory")));
        drop(child);
        for i in 0..pages {
            mm.poke(at.get() + i * PAGE, 1).expect("memory");
        }
        took
    });
}

fn areas() {
    for others in [0_u64, 50_000] {
        let (_memory, mm) = machine(1 << 12);
        for i in 0..others {
            let prot = if i % 2 == 0 { 1 } else { 3 };
            mm.map_anon(0, PAGE, prot, PRIVATE_ANON).expect("room");
        }
        let goal = if others == 0 { 250.0 } else { 400.0 };
        time(&format!("mmap + munmap, untouched, {others} areas"), goal, 10_000, || {
            timed(|| {
                for _ in 0..10_000 {
                    let at = mm.map_anon(0, PAGE, READ_WRITE, PRIVATE_ANON).expect("room");
                    mm.munmap(at, PAGE).expect("mapped");
                }
            })
        });
        time(&format!("mmap + touch + munmap, {others} areas"), 500.0, 10_000, || {
            timed(|| {
                for _ in 0..10_000 {
                    let at = mm.map_anon(0, PAGE, READ_WRITE, PRIVATE_ANON).expect("room");
                    mm.handle_fault(&Caller::ROOT, at, Access::Write).expect("memory");
                    mm.munmap(at, PAGE).expect("mapped");
                }
            })
        });
    }
}

fn main() {
    frames();
    entries();
    operations();
    areas();
}
