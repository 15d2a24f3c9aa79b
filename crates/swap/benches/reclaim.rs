//! The whole way of a page out of memory and back: `mm` evicts it (policy, ways back, unmapping,
//! flush), lz4 packs it into a slot, a fault unpacks it into a frame and maps it. And what evicting
//! costs with more and more RAM, all of it in use.
//!
//! `cargo bench -p kilburn-swap --bench reclaim --profile quick [MIB...]`: RAM sizes for the second
//! part, 32 to 8192 if none are given; the largest takes that much of the host's.

use kilburn_addr::{Errno, PAGE_SIZE, Pfn, VirtAddr};
use kilburn_mm::layout::{Arch, Layout};
use kilburn_mm::{
    BoxedRam, Caller, Host, Memory, MemoryConfig, Mm, MmapRequest, SwapArea, TlbFlush,
};
use kilburn_paging::Sv;
use kilburn_swap::{Compressed, Compression};
use std::sync::Arc;

const FIRST_FRAME: u64 = 0x8_0000;
const READ_WRITE: u64 = 3;
const PRIVATE_ANON_NORESERVE: u64 = 0x4022;
/// Pages evicted between two looks at the clock.
const BATCH: u64 = 4096;
const ROUNDS: usize = 5;

struct Machine {
    ram: BoxedRam,
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
    fn flush_tlb(&self, flush: &TlbFlush) {
        std::hint::black_box(flush);
    }
    fn random_u64(&self) -> u64 {
        0
    }
}

/// A process with `pages` pages in `mib` MiB of RAM.
struct Process {
    memory: Arc<Memory<Machine>>,
    mm: Arc<Mm<Machine>>,
    start: VirtAddr,
    pages: u64,
}

impl Process {
    fn new(mib: u64, pages: u64) -> Self {
        let frames = Pfn::new(FIRST_FRAME)..Pfn::new(FIRST_FRAME + mib * 256);
        let machine = Machine { ram: BoxedRam::new(frames.clone()) };
        let memory = Memory::new(machine, MemoryConfig::new(frames)).expect("frames");
        let area: Arc<dyn SwapArea> = Arc::new(Compressed::new(Compression::Lz4, pages as u32 * 2));
        memory.swap_on("lz4", area, None).expect("an area");
        let mm = Mm::new(&memory, Layout::fixed(Arch::RiscvSv39)).expect("a frame for the root");
        let request = MmapRequest {
            addr: 0,
            len: pages * PAGE_SIZE,
            prot: READ_WRITE,
            flags: PRIVATE_ANON_NORESERVE,
            file: None,
            offset: 0,
        };
        let start: Result<VirtAddr, Errno> = mm.mmap(&Caller::ROOT, request);
        Self { memory, mm, start: start.expect("room"), pages }
    }

    fn write(&self, page: u64, bytes: &[u8]) {
        let at = VirtAddr::new(self.start.get() + page * PAGE_SIZE);
        assert!(self.mm.write(&Caller::ROOT, at, bytes).is_ok(), "mapped");
    }
}

/// Like the heap of a program: pointers and small numbers, then nothing.
fn heap_like(page: u64) -> [u8; 4096] {
    let mut bytes = [0; 4096];
    let mut state = page as u32 | 1;
    for word in bytes[..3000].chunks_exact_mut(8) {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let value = 0x3f_8000_0000_u64 + u64::from(state >> 16 & 0xfff0);
        word.copy_from_slice(&value.to_le_bytes());
    }
    bytes
}

/// Nanoseconds that a processor worked for this thread: what others do meanwhile does not count.
fn processor_ns() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
    text.split(' ').next().and_then(|ns| ns.parse().ok()).expect("a number")
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// Nanoseconds a page of evicting and of bringing back, each page written in between.
fn round_trip(name: &str, fill: impl Fn(u64) -> [u8; 4096]) {
    let process = Process::new(128, BATCH);
    for page in 0..BATCH {
        process.write(page, &fill(page));
    }
    let (mut out, mut back) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS + 2 {
        let start = processor_ns();
        let went = process.memory.reclaim_pages(BATCH);
        let evicted = (processor_ns() - start) / went as f64;
        assert!(went > BATCH / 2, "{went} went");
        let start = processor_ns();
        for page in 0..BATCH {
            // The fault reads the slot; the byte makes the page one to be written out again.
            process.write(page, &[round as u8]);
        }
        let came = (processor_ns() - start) / went as f64;
        out.push(evicted);
        back.push(came);
    }
    // The first rounds make the policy's lists and the slots.
    let (out, back) = (median(out.split_off(2)), median(back.split_off(2)));
    println!("{name:24} out {out:6.0} ns, back {back:6.0} ns, both {:6.0} ns a page", out + back);
}

/// Nanoseconds a page of evicting, all of RAM in use.
fn cost_of_evicting(mib: u64) {
    let frames = mib * 256;
    let process = Process::new(mib, frames - frames / 16 - 256);
    for page in 0..process.pages {
        process.write(page, &page.to_le_bytes());
    }
    // The policy hears of all pages there are when memory is short for the first time.
    let start = processor_ns();
    process.memory.reclaim_pages(32);
    let first = (processor_ns() - start) / process.pages as f64;
    let batch = BATCH.min(process.pages / 16);
    let mut figures = Vec::new();
    for _ in 0..ROUNDS {
        let start = processor_ns();
        let went = process.memory.reclaim_pages(batch);
        figures.push((processor_ns() - start) / went as f64);
    }
    let figure = median(figures);
    println!(
        "{mib:5} MiB: {figure:6.0} ns a page evicted; the first time {first:4.0} ns a page in RAM"
    );
}

fn main() {
    round_trip("lz4, heap", heap_like);
    round_trip("lz4, one word", |page| {
        let mut bytes = [0; 4096];
        bytes.as_chunks_mut::<8>().0.fill(page.to_le_bytes());
        bytes
    });
    let sizes: Vec<u64> = std::env::args().filter_map(|word| word.parse().ok()).collect();
    let all = [32, 128, 512, 2048, 8192];
    for &mib in if sizes.is_empty() { &all[..] } else { &sizes } {
        cost_of_evicting(mib);
    }
}
