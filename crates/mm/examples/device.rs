//! A device of your own, mapped: what a driver's mmap does (Linux `remap_pfn_range`).
//!
//! `cargo run -p kilburn-mm --example device`
//!
//! The device has a page of registers, which anyone may read and write, and two pages of pixels,
//! the second of which is broken. Its pages are not memory: the memory manager must not count,
//! copy, lock or free them. [`Mappable`] supplies them; the flags it answers tell the rest.

use kilburn_addr::{Access, AddrRange, Errno, PAGE_SIZE, Pfn, PhysAddr, Prot, VirtAddr, VmFlags};
use kilburn_mm::{
    AddressSpace, Arch, BoxedRam, Caller, DeviceFault, FileForMap, FileIdentity, Host, Layout,
    Mappable, MappedFile, Memory, MemoryConfig, Mm, MmapRequest, TlbFlush,
};
use kilburn_paging::{PhysMem, Sv};
use std::error::Error;
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

/// The machine: 256 frames for the memory manager, and the device's three behind them, on the same
/// bus but not in the memory manager's hands.
struct Machine {
    bus: BoxedRam,
}

const RAM: std::ops::Range<u64> = 0x80000..0x80100;
const DEVICE: u64 = 0x80100;
const DEVICE_PAGES: u64 = 3;
const REGISTERS: u64 = 0;
const BROKEN: u64 = 2;

impl Host for Machine {
    type Mem = BoxedRam;
    type Format = Sv;
    type RawMutex = parking_lot::RawMutex;
    type RawRwLock = parking_lot::RawRwLock;

    fn mem(&self) -> &BoxedRam {
        &self.bus
    }

    fn format(&self) -> Sv {
        Sv::SV39
    }

    fn flush_tlb(&self, _: &TlbFlush) {}

    fn random_u64(&self) -> u64 {
        0
    }
}

/// The device. One is opened once here; a driver would make a file for every open.
#[derive(Default)]
struct Display {
    areas: AtomicI64,
}

impl Mappable<Machine> for Display {
    /// What a driver's mmap decides: is this range of the device there, may it be mapped so, and
    /// what kind of area is it? `IO`: loads and stores have effects. `PFNMAP`: no frame metadata
    /// stands behind the pages. `DONTEXPAND`: mremap may not make it larger than was checked.
    fn mmap(&self, range: AddrRange, pgoff: u64, flags: VmFlags) -> Result<VmFlags, Errno> {
        if pgoff + range.pages() > DEVICE_PAGES {
            return Err(Errno::EINVAL);
        }
        if !flags.contains(VmFlags::SHARED) {
            // A private copy of a register means nothing.
            return Err(Errno::EINVAL);
        }
        Ok(VmFlags::IO | VmFlags::PFNMAP | VmFlags::DONTEXPAND | VmFlags::DONTDUMP)
    }

    /// An area shows the device: by mmap, a fork, a split, an mremap. Each is closed some day.
    fn open(&self, _: AddrRange) {
        self.areas.fetch_add(1, Ordering::Relaxed);
    }

    fn close(&self, _: AddrRange) {
        self.areas.fetch_sub(1, Ordering::Relaxed);
    }

    /// The first access to a page. What is answered goes into the tables as it is.
    fn fault(&self, pgoff: u64, _: Access) -> Result<Pfn, DeviceFault> {
        if pgoff == BROKEN { Err(DeviceFault::Bus) } else { Ok(Pfn::new(DEVICE + pgoff)) }
    }
}

/// The open file of the device: no page cache, but operations.
impl MappedFile<Machine> for Display {
    fn mapping(&self) -> Option<&Arc<AddressSpace<Machine>>> {
        None
    }

    fn ops(&self) -> Option<&dyn Mappable<Machine>> {
        Some(self)
    }

    fn identity(&self) -> FileIdentity {
        FileIdentity { major: 0, minor: 6, inode: 42 }
    }

    fn path(&self) -> String {
        "/dev/display".into()
    }
}

/// Runs the example; what it prints is compared by a test.
pub(crate) fn run(out: &mut dyn Write) -> Result<(), Box<dyn Error>> {
    let frames = Pfn::new(RAM.start)..Pfn::new(RAM.end);
    let bus = BoxedRam::new(Pfn::new(RAM.start)..Pfn::new(DEVICE + DEVICE_PAGES));
    let memory = Memory::new(Machine { bus }, MemoryConfig::new(frames))?;
    let mm = Mm::new(&memory, Layout::fixed(Arch::RiscvSv39))?;
    let display = Arc::new(Display::default());
    let file = || FileForMap::read_write(display.clone());
    let read_write = Prot::READ | Prot::WRITE;

    // mmap asks the device, which refuses what is not there.
    let too_long = MmapRequest::of_file(file(), 0, 4 * PAGE_SIZE).shared().prot(read_write);
    writeln!(out, "4 pages: {}", mm.mmap(&Caller::USER, too_long).unwrap_err())?;
    let private = MmapRequest::of_file(file(), 0, PAGE_SIZE).prot(read_write);
    writeln!(out, "private: {}", mm.mmap(&Caller::USER, private).unwrap_err())?;
    let all = MmapRequest::of_file(file(), 0, DEVICE_PAGES * PAGE_SIZE).shared().prot(read_write);
    let at = mm.mmap(&Caller::USER, all)?;
    let page = |n: u64| VirtAddr::new(at.get() + n * PAGE_SIZE);

    // A store through the mapping reaches the device: here, its first register.
    let done =
        mm.handle_fault(&Caller::USER, at, Access::Write).map_err(|fault| fault.to_string())?;
    mm.write(&Caller::USER, at, &[0x5a])?;
    let register = memory.host().mem().load(PhysAddr::new((DEVICE + REGISTERS) * PAGE_SIZE));
    writeln!(out, "fault: {:?}; the register holds {register:#x}", done.kind)?;

    // The broken page is a bus error, and rights are the area's, as everywhere.
    let broken = mm.handle_fault(&Caller::USER, page(BROKEN), Access::Read);
    writeln!(out, "page {BROKEN}: {}", broken.unwrap_err())?;
    let run = mm.handle_fault(&Caller::USER, at, Access::Exec);
    writeln!(out, "executing registers: {}", run.unwrap_err())?;

    // What the flags forbid: growing, locking does nothing, the pages are in nobody's RSS.
    let grown = mm.mremap(&Caller::USER, at, 3 * PAGE_SIZE, 4 * PAGE_SIZE, 1, VirtAddr::ZERO);
    writeln!(out, "growing: {}", grown.unwrap_err())?;
    mm.mlock(&Caller::ROOT, at, PAGE_SIZE)?;
    writeln!(out, "locked: {} bytes, RSS {}", mm.status().vm_lck, mm.usage().rss)?;

    // fork maps the same pages; each area of the device is counted.
    let child = mm.fork(&Caller::USER)?;
    child.write(&Caller::USER, at, &[0xa5])?;
    let mut seen = [0];
    mm.read(&Caller::USER, at, &mut seen)?;
    writeln!(out, "the child writes, the parent sees {:#x}", seen[0])?;
    writeln!(out, "areas: {}", display.areas.load(Ordering::Relaxed))?;
    drop(child);
    mm.munmap(page(1), PAGE_SIZE)?;
    writeln!(out, "after a hole: {}", display.areas.load(Ordering::Relaxed))?;

    let mut text = String::new();
    mm.write_maps(&mut text)?;
    write!(out, "{text}")?;
    text.clear();
    mm.write_smaps(&mut text)?;
    let first = text.lines().take_while(|line| !line.starts_with("VmFlags"));
    writeln!(out, "of smaps:")?;
    for line in first.filter(|line| line.starts_with("Rss") || line.starts_with("Size")) {
        writeln!(out, "  {line}")?;
    }
    if let Some(flags) = text.lines().find(|line| line.starts_with("VmFlags")) {
        writeln!(out, "  {}", flags.trim_end())?;
    }

    memory.check(&[&mm], &[])?;
    drop(mm);
    writeln!(out, "at the end: {}", display.areas.load(Ordering::Relaxed))?;
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut text = String::new();
    run(&mut text)?;
    print!("{text}");
    Ok(())
}
