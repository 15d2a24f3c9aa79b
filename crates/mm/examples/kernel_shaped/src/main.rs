//! Runs the kernel-shaped embedding on the machine at hand, two threads of a process included.
//!
//! `cargo run -p kernel-shaped`
#![forbid(unsafe_code)]

use kernel_shaped::{Cpu, Process, boot, tlb};
use kilburn_addr::{PAGE_SIZE, VirtAddr};
use kilburn_mm::Fault;
use std::error::Error;
use std::fmt::Write;

const PAGES: u64 = 8;

fn page(at: VirtAddr, page: u64) -> VirtAddr {
    VirtAddr::new(at.get() + page * PAGE_SIZE)
}

fn run() -> Result<String, Box<dyn Error>> {
    let mut out = String::new();
    let memory = boot()?;
    let cpu = Cpu { tlb: tlb(&memory) };
    writeln!(out, "booted: {} frames, {} free", memory.counts().total, memory.counts().free)?;

    let parent = Process::first(&memory)?;
    let at = parent.map(PAGES * PAGE_SIZE)?;

    // Two threads, one address space: faults take mmap_lock shared and meet at the tables.
    std::thread::scope(|scope| {
        for thread in 0..2 {
            let (parent, cpu) = (&parent, &cpu);
            scope.spawn(move || {
                for n in 0..PAGES {
                    let word = VirtAddr::new(page(at, n).get() + 8 * thread);
                    parent.store(cpu, word, n + 1).expect("mapped");
                }
            });
        }
    });
    let sum = |word: u64| -> Result<u64, Fault> {
        (0..PAGES).map(|n| parent.load(&cpu, VirtAddr::new(page(at, n).get() + 8 * word))).sum()
    };
    let sums = [sum(0)?, sum(1)?];
    writeln!(
        out,
        "two threads wrote {PAGES} pages: sums {sums:?}, {} resident",
        parent.mm.statm().resident
    )?;

    // fork takes the right to write away, in the tables and, through flush_tlb, in the TLB.
    let remembered = cpu.tlb.len();
    let child = parent.fork()?;
    writeln!(out, "TLB: {remembered} translations, after fork {}", cpu.tlb.len())?;
    parent.store(&cpu, at, 100)?;
    child.store(&cpu, page(at, 1), 200)?;
    writeln!(
        out,
        "parent sees {} and {}",
        parent.load(&cpu, at)?,
        parent.load(&cpu, page(at, 1))?
    )?;
    writeln!(out, "child sees {} and {}", child.load(&cpu, at)?, child.load(&cpu, page(at, 1))?)?;

    // Unmapped memory is gone from the TLB as well.
    child.mm.munmap(at, PAGE_SIZE)?;
    if let Err(fault) = child.load(&cpu, at) {
        writeln!(out, "after munmap: {fault}")?;
    }
    memory.check(&[&parent.mm, &child.mm], &[])?;
    drop((parent, child));
    writeln!(out, "at the end: {} free, TLB {}", memory.counts().free, cpu.tlb.len())?;
    Ok(out)
}

fn main() -> Result<(), Box<dyn Error>> {
    print!("{}", run()?);
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn it_prints_what_the_documentation_shows() {
        assert_eq!(super::run().expect("it runs"), include_str!("../expected.txt"));
    }
}
