//! Memory is short and several threads are at work at once: each finds what it wrote, whoever evicts
//! its pages meanwhile.

use kilburn_addr::{Errno, VirtAddr};
use kilburn_mm::testing::*;
use kilburn_mm::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

const PAGE: u64 = 4096;
const BASE: u64 = 0x1000_0000;
const ROOT: &Caller = &Caller::ROOT;
const WORKERS: u64 = 3;
const PAGES: u64 = 120;
const ROUNDS: u64 = 40;
const PAGEOUT: i32 = 21;

fn address(worker: u64, page: u64) -> VirtAddr {
    VirtAddr::new(BASE + (worker * PAGES + page) * PAGE)
}

fn content(worker: u64, page: u64, round: u64) -> Vec<u8> {
    let word = (worker << 48 | page << 24 | round).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (0..PAGE / 8).flat_map(|i| (word ^ i).to_le_bytes()).collect()
}

/// Tries again while there is no memory: the others have all of it in their hands.
fn patiently(mut attempt: impl FnMut() -> Result<(), Fault>) {
    loop {
        match attempt() {
            Ok(()) => return,
            Err(Fault::Oom) => thread::yield_now(),
            Err(fault) => panic!("{fault:?}"),
        }
    }
}

fn write(mm: &Mm<TestHost>, at: VirtAddr, bytes: &[u8]) {
    patiently(|| mm.write(ROOT, at, bytes).map(drop).map_err(|partial| partial.fault));
}

fn assert_holds(mm: &Mm<TestHost>, at: VirtAddr, bytes: &[u8]) {
    let mut found = vec![0; bytes.len()];
    patiently(|| mm.read(ROOT, at, &mut found).map(drop).map_err(|partial| partial.fault));
    assert!(found == bytes, "wrong bytes at {at:?}");
}

/// Writes and reads its own pages; now and then shares them with a child that checks and changes them.
fn work(mm: &Mm<TestHost>, worker: u64) {
    for round in 0..ROUNDS {
        for page in 0..PAGES {
            if round > 0 && (page + round) % 3 > 0 {
                let since = (0..round).rev().find(|r| *r == 0 || (page + r) % 3 == 0);
                assert_holds(mm, address(worker, page), &content(worker, page, since.unwrap_or(0)));
            } else {
                write(mm, address(worker, page), &content(worker, page, round));
            }
        }
        if round % 8 == worker {
            fork_and_look(mm, worker, round);
        }
    }
}

fn fork_and_look(mm: &Mm<TestHost>, worker: u64, round: u64) {
    let child = match mm.fork(ROOT) {
        Ok(child) => child,
        Err(Errno::ENOMEM) => return,
        Err(errno) => panic!("{errno:?}"),
    };
    for page in 0..PAGES {
        let last = (0..=round).rev().find(|r| *r == 0 || (page + r) % 3 == 0).unwrap_or(0);
        assert_holds(&child, address(worker, page), &content(worker, page, last));
        if page % 4 == 0 {
            write(&child, address(worker, page), &content(worker, page, 1000 + round));
        }
    }
    for page in (0..PAGES).step_by(4) {
        assert_holds(&child, address(worker, page), &content(worker, page, 1000 + round));
    }
}

/// Runs `step` until told to stop.
fn until(stop: &AtomicBool, mut step: impl FnMut()) {
    while !stop.load(Ordering::Relaxed) {
        step();
        thread::yield_now();
    }
}

#[test]
fn threads_find_what_they_wrote_while_others_evict() {
    evict_beside_writers(1, 256);
}

#[test]
fn threads_with_frames_and_lists_of_their_own_find_what_they_wrote() {
    evict_beside_writers(8, 256);
}

fn evict_beside_writers(cpus: usize, frames: u64) {
    let memory = TestHost::memory_of_cpus(frames, cpus);
    for name in ["a", "b"] {
        memory.swap_on(name, TestSwap::new(1200), Some(0)).expect("room");
    }
    let mm = TestHost::mm(&memory);
    mm.map_anon(BASE, WORKERS * PAGES * PAGE, READ_WRITE, PRIVATE_ANON | FIXED).expect("mapped");
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKERS)
            .map(|worker| {
                let mm = Arc::clone(&mm);
                scope.spawn(move || work(&mm, worker))
            })
            .collect();
        scope.spawn(|| {
            until(&stop, || {
                let _ = memory.balance();
            });
        });
        scope.spawn(|| {
            until(&stop, || {
                let _ = memory.reclaim_pages(8);
            });
        });
        scope.spawn(|| {
            let mut page = 0;
            until(&stop, || {
                page = (page + 37) % (WORKERS * PAGES - 16);
                mm.madvise(ROOT, VirtAddr::new(BASE + page * PAGE), 16 * PAGE, PAGEOUT)
                    .expect("mapped");
            });
        });
        let ended: Vec<_> = workers.into_iter().map(thread::ScopedJoinHandle::join).collect();
        stop.store(true, Ordering::Relaxed);
        assert!(ended.iter().all(Result::is_ok), "a worker found wrong bytes");
    });
    assert!(memory.vm_stat().pswpin > 0);
    memory.check(&[&mm], &[]).expect("consistent");
    drop(mm);
    let counts = memory.counts();
    assert_eq!((counts.free, counts.swap_free), (counts.total - 1, counts.swap_total));
}
