//! Two threads in one address space, each with pages of its own, beside one thread alone.

use crate::contest::{Clock, Stopwatch};
use crate::machine::{BenchHost, READ_WRITE, machine, map};
use kilburn_addr::{Access, PAGE_SIZE, VirtAddr};
use kilburn_mm::{Caller, Mm};
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
}

const PAGES: u64 = 4096;
const APART: u64 = 1 << 30;
const FIRST: u64 = 0x10_0000_0000;

/// The rows of this file.
pub fn rows() -> [Scaling; 3] {
    [
        Scaling { name: "anonymous write faults", goal: 1.9, work: faults },
        Scaling { name: "mmap + munmap", goal: 1.6, work: map_unmap },
        Scaling { name: "mmap + touch + munmap", goal: 1.6, work: map_touch_unmap },
    ]
}

fn touch(mm: &Mm<BenchHost>, at: u64) {
    mm.handle_fault(&Caller::ROOT, VirtAddr::new(at), Access::Write).expect("memory");
}

fn unmap(mm: &Mm<BenchHost>, at: u64, pages: u64) {
    mm.munmap(VirtAddr::new(at), pages * PAGE_SIZE).expect("mapped");
}

fn faults(mm: &Mm<BenchHost>, at: u64) {
    map(mm, at, PAGES, READ_WRITE);
    (0..PAGES).for_each(|page| touch(mm, at + page * PAGE_SIZE));
    unmap(mm, at, PAGES);
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

impl Scaling {
    /// Work that two threads do in the time in which one does 1, as the middle of `rounds`.
    pub fn measure(&self, rounds: usize) -> f64 {
        let (_, mm) = machine(128);
        let mut ratios: Vec<f64> = (0..rounds)
            .map(|_| {
                let alone = self.run(&mm, 1);
                let both = self.run(&mm, 2);
                2.0 * alone.as_secs_f64() / both.as_secs_f64()
            })
            .collect();
        ratios.sort_by(f64::total_cmp);
        ratios[rounds / 2]
    }

    fn run(&self, mm: &Mm<BenchHost>, threads: usize) -> Duration {
        let start = Barrier::new(threads);
        std::thread::scope(|scope| {
            let running: Vec<_> = (0..threads as u64)
                .map(|number| {
                    let start = &start;
                    scope.spawn(move || {
                        start.wait();
                        let watch = Stopwatch::start(Clock::Wall);
                        (0..4).for_each(|_| (self.work)(mm, FIRST + number * APART));
                        watch.elapsed()
                    })
                })
                .collect();
            let took = running.into_iter().map(|thread| thread.join().expect("no panic"));
            took.max().expect("a thread")
        })
    }
}
