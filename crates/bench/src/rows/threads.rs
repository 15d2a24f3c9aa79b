//! Two threads in one address space, each with pages of its own, beside one thread alone: ours, and the kernel's.
//!
//! Processors share caches, the way to memory, and on a virtual machine perhaps a core: threads that have nothing in common do
//! not do twice the work of one either. So the same work is done in turn by two threads with a machine each: no lock and no
//! data of ours is in the way, and what they reach is about the most that two in one address space can.

use super::kernel;
use crate::contest::{Clock, Effort, Measured, Stopwatch};
use crate::machine::{BenchHost, READ_WRITE, machine, map, run_on};
use kilburn_addr::{Access, PAGE_SIZE, VirtAddr};
use kilburn_mm::{Caller, Mm};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::sync::Barrier;
use std::time::Duration;

/// Work of one thread, on `PAGES` pages from an address on.
type Work = fn(&Mm<BenchHost>, u64);

/// A piece of work, and how much more two threads shall do of it than one.
pub struct Scaling {
    /// What is done.
    pub name: &'static str,
    /// Work of two threads by work of one, at least.
    pub goal: f64,
    work: Work,
    kernels: fn(),
}

/// RAM of a machine.
const MIB: u64 = 128;
const PAGES: u64 = 4096;
/// Times a thread does its work in a turn.
const REPEATS: u64 = 16;
/// Pages that stay in the caches of the CPU that zeroes them.
const NEAR: u64 = 64;
const APART: u64 = 1 << 30;
const FIRST: u64 = 0x10_0000_0000;

/// The rows of this file.
pub fn rows() -> [Scaling; 6] {
    [
        Scaling {
            name: "anonymous write faults, 256 KiB at a time, 2 threads in one Mm by 1",
            goal: 1.9,
            work: |mm, at| (0..PAGES / NEAR).for_each(|_| faults(mm, at, NEAR)),
            kernels: || (0..PAGES / NEAR).for_each(|_| kernel::touch(&mut kernel::map(NEAR))),
        },
        Scaling {
            name: "anonymous write faults, 16 MiB at a time, 2 threads in one Mm by 1",
            goal: 1.9,
            work: |mm, at| faults(mm, at, PAGES),
            kernels: || kernel::touch(&mut kernel::map(PAGES)),
        },
        Scaling {
            name: "mmap + munmap, 2 threads in one Mm by 1",
            goal: 1.6,
            work: map_unmap,
            kernels: || (0..PAGES).for_each(|_| drop(kernel::map(1))),
        },
        Scaling {
            name: "mmap + touch + munmap, 2 threads in one Mm by 1",
            goal: 1.6,
            work: map_touch_unmap,
            kernels: || (0..PAGES).for_each(|_| kernel::map(1)[0] = 1),
        },
        Scaling {
            name: "mmap + munmap at addresses of each one's own, 2 threads in one Mm by 1",
            goal: 1.6,
            work: own_map_unmap,
            kernels: || (0..PAGES).for_each(|_| drop(kernel::map(1))),
        },
        Scaling {
            name: "mmap + touch + munmap at addresses of each one's own, 2 threads in one Mm by 1",
            goal: 1.6,
            work: own_map_touch_unmap,
            kernels: || (0..PAGES).for_each(|_| kernel::map(1)[0] = 1),
        },
    ]
}

fn touch(mm: &Mm<BenchHost>, at: u64) {
    mm.handle_fault(&Caller::ROOT, VirtAddr::new(at), Access::Write).expect("memory");
}

fn unmap(mm: &Mm<BenchHost>, at: u64, pages: u64) {
    mm.munmap(VirtAddr::new(at), pages * PAGE_SIZE).expect("mapped");
}

fn faults(mm: &Mm<BenchHost>, at: u64, pages: u64) {
    map(mm, at, pages, READ_WRITE);
    (0..pages).for_each(|page| touch(mm, at + page * PAGE_SIZE));
    unmap(mm, at, pages);
}

fn map_unmap(mm: &Mm<BenchHost>, _: u64) {
    (0..PAGES).for_each(|_| unmap(mm, map(mm, 0, 1, READ_WRITE).get(), 1));
}

fn map_touch_unmap(mm: &Mm<BenchHost>, _: u64) {
    (0..PAGES).for_each(|_| {
        let at = map(mm, 0, 1, READ_WRITE).get();
        touch(mm, at);
        unmap(mm, at, 1);
    });
}

/// Where a thread whose own addresses begin at `at` maps: beside a page that stays, as in an arena in use.
fn in_arena(mm: &Mm<BenchHost>, at: u64) -> u64 {
    const MIDDLE: u64 = 32 << 20;
    map(mm, at + MIDDLE, 1, READ_WRITE);
    touch(mm, at + MIDDLE);
    at + MIDDLE + 16 * PAGE_SIZE
}

fn own_map_unmap(mm: &Mm<BenchHost>, at: u64) {
    let at = in_arena(mm, at);
    (0..PAGES).for_each(|_| unmap(mm, map(mm, at, 1, READ_WRITE).get(), 1));
}

fn own_map_touch_unmap(mm: &Mm<BenchHost>, at: u64) {
    let at = in_arena(mm, at);
    (0..PAGES).for_each(|_| {
        map(mm, at, 1, READ_WRITE);
        touch(mm, at);
        unmap(mm, at, 1);
    });
}

impl Scaling {
    /// Work that two threads do in the time in which one does 1: ours, the kernel's, and that of two with a machine each.
    pub fn measure(&self, effort: &Effort) -> Measured {
        let [shared, first, second] = [(); 3].map(|()| machine(MIB));
        let work = |mm: &Mm<BenchHost>, number| (self.work)(mm, FIRST + number * APART);
        let ours = |number| work(&shared.1, number);
        let kernels = |_| (self.kernels)();
        let apart = |number| work(if number == 0 { &first.1 } else { &second.1 }, number);
        let mut measured = Measured::default();
        let (mut theirs, mut most) = (Vec::new(), Vec::new());
        for _ in 0..effort.rounds {
            measured.ours.push(ratio(&ours));
            theirs.push(ratio(&kernels));
            most.push(ratio(&apart));
        }
        measured.peers.push(("Linux".to_owned(), theirs));
        measured.peers.push(("(a machine each, nothing shared)".to_owned(), most));
        if self.name.contains("each one's own") {
            let why = "Linux: where the kernel puts them, which for its one lock is the same";
            measured.notes.push(why.to_owned());
        }
        if std::thread::available_parallelism().map_or(1, usize::from) < 2 {
            measured.notes.push("one processor: two threads cannot do more than one".to_owned());
        }
        measured
    }
}

fn ratio(work: &(impl Fn(u64) + Sync)) -> f64 {
    let alone = run(work, 1);
    let both = run(work, 2);
    2.0 * alone.as_secs_f64() / both.as_secs_f64()
}

/// Keeps the calling thread on the `number`th of the processors it may use, as far as there are as many: the kernel often
/// lets two threads that were just woken share one for a while.
fn stay_on(number: usize) {
    let Ok(allowed) = sched_getaffinity(None) else { return };
    let mut usable = (0..CpuSet::MAX_CPU).filter(|&cpu| allowed.is_set(cpu));
    if let Some(cpu) = usable.nth(number) {
        let mut one = CpuSet::new();
        one.set(cpu);
        // Refused: it runs where it may.
        let _ = sched_setaffinity(None, &one);
    }
}

fn run(work: &(impl Fn(u64) + Sync), threads: u64) -> Duration {
    let start = Barrier::new(threads as usize);
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads)
            .map(|number| {
                let start = &start;
                scope.spawn(move || {
                    run_on(number as usize);
                    stay_on(number as usize);
                    start.wait();
                    let watch = Stopwatch::start(Clock::Wall);
                    (0..REPEATS).for_each(|_| work(number));
                    watch.elapsed()
                })
            })
            .collect();
        let took = running.into_iter().map(|thread| thread.join().expect("no panic"));
        took.max().expect("a thread")
    })
}
