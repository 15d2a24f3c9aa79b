//! The host that the library runs on here: guest RAM as the machine has it, flushes counted.

use kilburn_addr::{PAGE_SIZE, Pfn, VirtAddr};
use kilburn_mm::config::Leasing;
use kilburn_mm::layout::{Arch, Layout};
use kilburn_mm::{Caller, Host, Memory, MemoryConfig, Mm, MmapRequest, TlbFlush};
use kilburn_paging::Sv;
use kilburn_riscv::GuestRam;
use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Guest RAM and a count of flushes.
pub struct BenchHost<M = parking_lot::RawMutex, R = parking_lot::RawRwLock> {
    ram: GuestRam,
    flushes: [Line; CPUS],
    locks: PhantomData<fn() -> (M, R)>,
}

/// A count of one CPU, on a cache line of its own.
#[derive(Default)]
#[repr(align(128))]
struct Line(AtomicU64);

/// CPUs the host tells apart.
pub const CPUS: usize = 4;

std::thread_local! {
    static CPU: Cell<usize> = const { Cell::new(0) };
}

/// The calling thread is on `cpu` from now on.
pub fn run_on(cpu: usize) {
    CPU.set(cpu % CPUS);
}

impl<M, R> Host for BenchHost<M, R>
where
    M: lock_api::RawMutex + Send + Sync + 'static,
    R: lock_api::RawRwLock + Send + Sync + 'static,
{
    type Mem = GuestRam;
    type Format = Sv;
    type RawMutex = M;
    type RawRwLock = R;

    fn mem(&self) -> &GuestRam {
        &self.ram
    }

    fn format(&self) -> Sv {
        Sv::SV39
    }

    fn flush_tlb(&self, _: &TlbFlush) {
        self.flushes[CPU.get()].0.fetch_add(1, Ordering::Relaxed);
    }

    fn cpu(&self) -> usize {
        CPU.get()
    }

    fn cpus(&self) -> usize {
        CPUS
    }

    fn random_u64(&self) -> u64 {
        4
    }
}

impl<M, R> From<GuestRam> for BenchHost<M, R> {
    fn from(ram: GuestRam) -> Self {
        Self { ram, flushes: Default::default(), locks: PhantomData }
    }
}

/// A machine with `mib` MiB of RAM, every page of it used once by the host, so that the host's own
/// faults are not measured; and an address space.
///
/// # Panics
/// When the host has no such memory.
pub fn machine(mib: u64) -> (Arc<Memory<BenchHost>>, Arc<Mm<BenchHost>>) {
    machine_with(mib, Leasing::OnContention)
}

/// As [`machine`], with locks of any kind.
///
/// # Panics
/// When the host has no such memory.
pub fn machine_with<H>(mib: u64, leasing: Leasing) -> (Arc<Memory<H>>, Arc<Mm<H>>)
where
    H: Host + From<GuestRam>,
{
    let ram = GuestRam::new(mib << 20).expect("the host has the memory");
    let (first, frames) = (ram.base_pfn(), ram.frames());
    for frame in first.get()..first.get() + frames {
        kilburn_paging::PhysMem::store(&ram, Pfn::new(frame).base(), 1);
    }
    let mut config = MemoryConfig::new(first..Pfn::new(first.get() + frames));
    // Linux's default is 65,530; a database raises it.
    config.max_map_count = 1 << 20;
    config.leasing = leasing;
    let memory = Memory::new(H::from(ram), config).expect("enough frames");
    let mm = Mm::new(&memory, Layout::fixed(Arch::RiscvSv39)).expect("a frame for the root");
    (memory, mm)
}

/// `PROT_READ | PROT_WRITE`
pub const READ_WRITE: u64 = 3;
/// `PROT_READ`
pub const READ: u64 = 1;
const PRIVATE_ANON: u64 = 0x22;
const FIXED: u64 = 0x10;

/// Maps private anonymous memory, at `addr` unless that is 0.
///
/// # Panics
/// When Linux would refuse.
pub fn map<H: Host>(mm: &Mm<H>, addr: u64, pages: u64, prot: u64) -> VirtAddr {
    let flags = if addr == 0 { PRIVATE_ANON } else { PRIVATE_ANON | FIXED };
    let len = pages * PAGE_SIZE;
    let request = MmapRequest { addr, len, prot, flags, file: None, offset: 0 };
    mm.mmap(&Caller::ROOT, request).expect("room")
}

/// The `number`th of a sequence of random numbers below `bound`.
pub fn scattered(number: u64, bound: u64) -> u64 {
    // splitmix64: a bijection of 64 bits without any structure a cache could use.
    let mut z = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((u128::from(z ^ (z >> 31)) * u128::from(bound)) >> 64) as u64
}

/// All numbers below `count`, shuffled.
pub fn shuffled(count: u64) -> Vec<u64> {
    let mut numbers: Vec<u64> = (0..count).collect();
    for at in (1..numbers.len()).rev() {
        numbers.swap(at, scattered(at as u64, at as u64 + 1) as usize);
    }
    numbers
}
