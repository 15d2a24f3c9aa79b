//! The shortest useful embedding: a machine, an address space, a fault, a fork, a copy on write.
//!
//! `cargo run -p kilburn-mm --example shortest`
//!
//! The memory manager knows no CPU. You bring the machine ([`Host`]); your CPU walks the tables
//! that the memory manager fills, and reports where the walk ended.

use kilburn_addr::{Access, PAGE_SIZE, Pfn, Prot, VirtAddr};
use kilburn_mm::{
    Arch, BoxedRam, Caller, Fault, Host, Layout, Memory, MemoryConfig, Mm, MmapRequest, TlbFlush,
};
use kilburn_paging::walk::walk;
use kilburn_paging::{PhysMem, Sv};
use std::error::Error;
use std::fmt::Write;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

/// 1: what you bring. Four types and four methods; locks are any of `lock_api`'s.
struct Machine {
    ram: BoxedRam,
    random: AtomicU64,
}

impl Host for Machine {
    type Mem = BoxedRam;
    type Format = Sv;
    type RawMutex = parking_lot::RawMutex;
    type RawRwLock = parking_lot::RawRwLock;

    fn mem(&self) -> &BoxedRam {
        &self.ram
    }

    fn format(&self) -> Sv {
        Sv::SV39
    }

    /// This CPU has no TLB: it walks the tables every time, so there is nothing to forget.
    fn flush_tlb(&self, _: &TlbFlush) {}

    /// Only asked for layouts that are randomised.
    fn random_u64(&self) -> u64 {
        self.random.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed)
    }
}

/// Your CPU: translate, and where the tables refuse, fault and try again. `Err` is the signal the
/// program gets.
fn access(mm: &Mm<Machine>, va: u64, access: Access) -> Result<u64, Fault> {
    let (va, host) = (VirtAddr::new(va), mm.memory().host());
    loop {
        if let Ok(found) = walk(host.mem(), host.format(), mm.root(), va, access) {
            return Ok(found.leaf.pfn.base().get() + va.page_offset());
        }
        mm.handle_fault(&Caller::USER, va, access)?;
    }
}

fn store(mm: &Mm<Machine>, va: u64, byte: u8) -> Result<(), Fault> {
    let at = access(mm, va, Access::Write)?;
    mm.memory().host().mem().write(kilburn_addr::PhysAddr::new(at), &[byte]);
    Ok(())
}

fn load(mm: &Mm<Machine>, va: u64) -> Result<u8, Fault> {
    let at = access(mm, va, Access::Read)?;
    let mut byte = [0];
    mm.memory().host().mem().read(kilburn_addr::PhysAddr::new(at), &mut byte);
    Ok(byte[0])
}

/// Runs the example; what it prints is compared by a test.
pub(crate) fn run(out: &mut dyn Write) -> Result<(), Box<dyn Error>> {
    // 2: frames. 4 MiB of them, from physical address 0x8000_0000 on.
    let frames: Range<Pfn> = Pfn::new(0x80000)..Pfn::new(0x80400);
    let machine = Machine { ram: BoxedRam::new(frames.clone()), random: AtomicU64::new(1) };
    let memory = Memory::new(machine, MemoryConfig::new(frames))?;

    // 3: an address space, laid out as Linux lays out a process on this architecture.
    let parent = Mm::new(&memory, Layout::fixed(Arch::RiscvSv39))?;

    // 4: calls. Nothing has memory yet.
    let request = MmapRequest::anonymous(4 * PAGE_SIZE).prot(Prot::READ | Prot::WRITE);
    let at = parent.mmap(&Caller::USER, request)?.get();
    writeln!(out, "mapped, resident: {} pages", parent.statm().resident)?;

    // 5: faults. The first store to a page gets it a zeroed frame.
    store(&parent, at, b'p')?;
    store(&parent, at + PAGE_SIZE, b'q')?;
    writeln!(out, "two stores, resident: {} pages", parent.statm().resident)?;

    // 6: fork copies tables; pages are shared until one side writes.
    let child = parent.fork(&Caller::USER)?;
    let used = || memory.counts().anon;
    let before = used();
    store(&child, at, b'c')?;
    writeln!(out, "child wrote 1 page, frames copied: {}", used() - before)?;
    writeln!(
        out,
        "parent reads {:?}, child reads {:?}; both read {:?}",
        char::from(load(&parent, at)?),
        char::from(load(&child, at)?),
        char::from(load(&child, at + PAGE_SIZE)?),
    )?;

    // What nobody mapped is the fault that Linux makes a signal.
    if let Err(fault) = load(&parent, 8) {
        writeln!(out, "loading from 0x8: {fault}")?;
    }

    // The text of /proc/PID/maps, and the page's share of it.
    parent.mprotect(&Caller::USER, VirtAddr::new(at), PAGE_SIZE, u64::from(Prot::READ.bits()))?;
    let mut maps = String::new();
    parent.write_maps(&mut maps)?;
    write!(out, "{maps}")?;
    let usage = parent.usage();
    writeln!(out, "RSS {} PSS {} USS {} bytes", usage.rss, usage.pss, usage.uss)?;

    // Everything adds up, and everything comes back.
    memory.check(&[&parent, &child], &[])?;
    drop((parent, child));
    writeln!(out, "at the end: {} of {} frames free", memory.counts().free, memory.counts().total)?;
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut text = String::new();
    run(&mut text)?;
    print!("{text}");
    Ok(())
}
