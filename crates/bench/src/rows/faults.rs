//! Pages: faulted in, copied for a child, taken out; beside it the kernel underneath does the same.

use super::kernel;
use crate::contest::timed;
use crate::machine::{BenchHost, READ_WRITE, machine, map};
use crate::{Contestant, Row};
use kilburn_addr::{Access, PAGE_SIZE, Pfn, VirtAddr};
use kilburn_mm::{Caller, Mm};
use kilburn_model::host::Forked;
use kilburn_paging::PhysMem;
use kilburn_riscv::GuestRam;
use std::sync::Arc;
use std::time::Duration;

/// The rows of this file.
pub fn rows() -> Vec<Row> {
    vec![
        Row {
            name: "anonymous write fault, 256 KiB at a time",
            goal_ns: Some(150.0),
            contestants: || write_fault(64),
        },
        Row {
            name: "anonymous write fault, 64 MiB at a time",
            goal_ns: Some(150.0),
            contestants: || write_fault(16_384),
        },
        Row {
            name: "munmap, per populated page, 2 MiB",
            goal_ns: Some(25.0),
            contestants: || unmap(512),
        },
        Row {
            name: "munmap, per populated page, 64 MiB",
            goal_ns: Some(25.0),
            contestants: || unmap(16_384),
        },
        Row { name: "fork of 1 GiB touched, per page", goal_ns: Some(38.1), contestants: fork },
        Row { name: "copy of a page after fork", goal_ns: None, contestants: copy_on_write },
    ]
}

struct Region {
    mm: Arc<Mm<BenchHost>>,
    at: u64,
    pages: u64,
}

impl Region {
    fn new(mib: u64, pages: u64) -> Self {
        let (_, mm) = machine(mib);
        let at = map(&mm, 0, pages, READ_WRITE).get();
        Self { mm, at, pages }
    }

    fn touch(&self) {
        for page in 0..self.pages {
            let at = VirtAddr::new(self.at + page * PAGE_SIZE);
            self.mm.handle_fault(&Caller::ROOT, at, Access::Write).expect("memory");
        }
    }

    fn unmap(&self) {
        self.mm.munmap(VirtAddr::new(self.at), self.pages * PAGE_SIZE).expect("mapped");
    }

    fn map_again(&self) {
        map(&self.mm, self.at, self.pages, READ_WRITE);
    }

    /// Does something to every page, `count` pages at least.
    fn rounds(&self, count: u64, mut round: impl FnMut(&Self) -> Duration) -> (u64, Duration) {
        let rounds = count.div_ceil(self.pages);
        (rounds * self.pages, (0..rounds).map(|_| round(self)).sum())
    }
}

fn write_fault(pages: u64) -> Vec<Contestant> {
    let region = Region::new(80, pages);
    let ram = GuestRam::new(80 << 20).expect("the host has the memory");
    let first = ram.base_pfn().get();
    // Its own first faults are not what is measured.
    (0..pages).for_each(|page| ram.zero(Pfn::new(first + page)));
    vec![
        Contestant::new("ours", move |count| {
            region.rounds(count, |region| {
                region.unmap();
                region.map_again();
                timed(|| region.touch())
            })
        }),
        Contestant::new("Linux", move |count| {
            kernel::rounds(count, pages, || {
                let mut region = kernel::map(pages);
                let took = timed(|| kernel::touch(&mut region));
                drop(region);
                took
            })
        }),
        Contestant::plain("(zeroing alone)", move |time| ram.zero(Pfn::new(first + time % pages))),
    ]
}

fn unmap(pages: u64) -> Vec<Contestant> {
    let region = Region::new(80, pages);
    region.touch();
    let ours = Contestant::new("ours", move |count| {
        region.rounds(count, |region| {
            let took = timed(|| region.unmap());
            region.map_again();
            region.touch();
            took
        })
    });
    let linux = Contestant::new("Linux", move |count| {
        kernel::rounds(count, pages, || {
            let mut region = kernel::map(pages);
            kernel::touch(&mut region);
            timed(|| drop(region))
        })
    });
    vec![ours, linux]
}

fn fork() -> Vec<Contestant> {
    let region = Region::new(1100, 1 << 18);
    region.touch();
    let pages = region.pages;
    let ours = Contestant::new("ours", move |count| {
        region.rounds(count, |region| {
            let mut child = None;
            let took = timed(|| child = Some(region.mm.fork(&Caller::ROOT).expect("memory")));
            drop(child);
            region.touch();
            took
        })
    });
    // Its memory is there only while it is its turn: fork copies the tables of everything that this process has.
    let linux = Contestant::new("Linux", move |count| {
        let mut touched = kernel::map(pages);
        kernel::touch(&mut touched);
        kernel::rounds(count, pages, || {
            let mut child = None;
            let took = timed(|| child = Forked::now().ok());
            child.into_iter().for_each(Forked::wait);
            kernel::touch(&mut touched);
            took
        })
    });
    vec![ours, linux]
}

fn copy_on_write() -> Vec<Contestant> {
    let region = Region::new(80, 64);
    region.touch();
    vec![Contestant::new("ours", move |count| {
        region.rounds(count, |region| {
            let child = region.mm.fork(&Caller::ROOT).expect("memory");
            let took = timed(|| region.touch());
            drop(child);
            took
        })
    })]
}
