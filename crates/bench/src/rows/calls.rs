//! Whole calls of an address space: locks, tables and accounting included; beside them the kernel underneath, by real
//! system calls.

use super::kernel;
use crate::machine::{BenchHost, READ, READ_WRITE, machine, map};
use crate::{Contestant, Row};
use kilburn_addr::{Access, PAGE_SIZE, VirtAddr};
use kilburn_mm::{Caller, Mm};
use std::hint::black_box;
use std::sync::Arc;

/// The rows of this file.
pub fn rows() -> Vec<Row> {
    vec![
        Row { name: "mmap + munmap 4 KiB", goal_ns: Some(250.0), contestants: || map_unmap(0) },
        Row {
            name: "mmap + munmap 4 KiB, 50,000 areas",
            goal_ns: Some(400.0),
            contestants: || map_unmap(50_000),
        },
        Row {
            name: "mmap + munmap 4 KiB, 100,000 areas",
            goal_ns: Some(400.0),
            contestants: || map_unmap(100_000),
        },
        Row { name: "mmap + touch + munmap", goal_ns: Some(500.0), contestants: || touch(0) },
        Row {
            name: "mmap + touch + munmap, 50,000 areas",
            goal_ns: Some(500.0),
            contestants: || touch(50_000),
        },
        Row {
            name: "mprotect of an area, 100,000 areas",
            goal_ns: Some(300.0),
            contestants: protect,
        },
        Row {
            name: "mprotect of a page within an area, 100,000 areas",
            goal_ns: None,
            contestants: protect_page,
        },
        Row {
            name: "munmap of an area, 100,000 areas",
            goal_ns: Some(300.0),
            contestants: || unmap(0, 3),
        },
        Row {
            name: "munmap of a page within an area, 100,000 areas",
            goal_ns: Some(300.0),
            contestants: || unmap(1, 1),
        },
    ]
}

const PAGES: u64 = 3;

/// An address space of `count` areas of three pages, every second one writable.
fn crowded(count: u64) -> (Arc<Mm<BenchHost>>, Vec<u64>) {
    let (_, mm) = machine(16);
    let prot = |number: u64| if number.is_multiple_of(2) { READ } else { READ_WRITE };
    let starts = (0..count).map(|number| map(&mm, 0, PAGES, prot(number)).get()).collect();
    (mm, starts)
}

fn map_unmap(others: u64) -> Vec<Contestant> {
    let (mm, _) = crowded(others);
    let ours = Contestant::plain("ours", move |_| {
        let at = black_box(map(&mm, 0, 1, READ_WRITE));
        mm.munmap(at, PAGE_SIZE).expect("mapped");
    });
    let linux = kernel::crowd(others).map(|crowd| {
        Contestant::plain("Linux", move |_| {
            let _ = &crowd;
            drop(black_box(kernel::map(1)));
        })
    });
    [ours].into_iter().chain(linux).collect()
}

fn touch(others: u64) -> Vec<Contestant> {
    let (mm, _) = crowded(others);
    let ours = Contestant::plain("ours", move |_| {
        let at = map(&mm, 0, 1, READ_WRITE);
        mm.handle_fault(&Caller::ROOT, at, Access::Write).expect("memory");
        mm.munmap(at, PAGE_SIZE).expect("mapped");
    });
    let linux = kernel::crowd(others).map(|crowd| {
        Contestant::plain("Linux", move |_| {
            let _ = &crowd;
            let mut page = kernel::map(1);
            page[0] = 1;
            drop(black_box(page));
        })
    });
    [ours].into_iter().chain(linux).collect()
}

struct Crowd {
    mm: Arc<Mm<BenchHost>>,
    starts: Vec<u64>,
}

impl Crowd {
    fn new() -> Self {
        let (mm, starts) = crowded(100_000);
        Self { mm, starts }
    }

    /// The area worked on at `time`, as number and start.
    fn at(&self, time: u64) -> (u64, u64) {
        let number = time.wrapping_mul(61_803_399) % self.starts.len() as u64;
        (number, self.starts[number as usize])
    }

    /// Puts an area back as it was.
    fn restore(&self, time: u64) {
        let (number, start) = self.at(time);
        map(&self.mm, start, PAGES, if number.is_multiple_of(2) { READ } else { READ_WRITE });
    }
}

fn protect() -> Vec<Contestant> {
    let crowd = Crowd::new();
    let mut rights = vec![0_u8; crowd.starts.len()];
    vec![Contestant::plain("ours", move |time| {
        let (number, start) = crowd.at(time);
        let executable = &mut rights[number as usize];
        *executable ^= 4;
        let prot = u64::from(*executable) + if number.is_multiple_of(2) { READ } else { 3 };
        let len = PAGES * PAGE_SIZE;
        crowd.mm.mprotect(&Caller::ROOT, VirtAddr::new(start), len, prot).expect("mapped");
    })]
}

fn protect_page() -> Vec<Contestant> {
    vec![Contestant::batched(
        "ours",
        Crowd::new(),
        512,
        |crowd, time| {
            let at = VirtAddr::new(crowd.at(time).1 + PAGE_SIZE);
            crowd.mm.mprotect(&Caller::ROOT, at, PAGE_SIZE, 5).expect("mapped");
        },
        |crowd, time| crowd.restore(time),
    )]
}

fn unmap(first: u64, pages: u64) -> Vec<Contestant> {
    vec![Contestant::batched(
        "ours",
        Crowd::new(),
        512,
        move |crowd, time| {
            let at = VirtAddr::new(crowd.at(time).1 + first * PAGE_SIZE);
            crowd.mm.munmap(at, pages * PAGE_SIZE).expect("mapped");
        },
        |crowd, time| crowd.restore(time),
    )]
}
