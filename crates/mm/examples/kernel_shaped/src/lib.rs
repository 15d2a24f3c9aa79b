//! An embedding as a kernel would have it: without std, with its own locks and frame memory.
//!
//! `.ci/run` builds this crate for `x86_64-unknown-none`; `main.rs` runs it on the machine at hand.
//! What a kernel brings and where it is here:
//!
//! | a kernel has                           | here                                                  |
//! |----------------------------------------|-------------------------------------------------------|
//! | RAM, seen through its linear map       | [`Frames`]: a static array of atomic words            |
//! | locks                                  | `spin`'s, which implement `lock_api`'s traits         |
//! | a TLB for each CPU, and interrupts to make the others forget | [`Tlb`], flushed in `flush_tlb` |
//! | a heap                                 | `alloc`, from whatever global allocator is linked in  |
//! | processes                              | [`Process`]: one `Arc<Mm>` each                        |
//!
//! Nothing in here is `unsafe`. A real linear map is one `unsafe impl` away from [`Frames`].
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod cpu;
mod frames;

pub use cpu::{Cpu, Tlb};
pub use frames::{FRAMES, Frames};

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};
use kilburn_addr::{Errno, Pfn, Prot, VirtAddr};
use kilburn_mm::{
    Arch, Caller, Fault, FlushScope, Host, Layout, Memory, MemoryConfig, Mm, MmapRequest, TlbFlush,
};
use kilburn_paging::Sv;

/// First frame that [`Memory`] hands out; those below hold the kernel itself.
pub const FIRST_FREE: u64 = 0x80010;

/// The kernel, as its memory manager sees it.
#[derive(Debug)]
pub struct Kernel {
    tlb: Tlb,
    /// A counter is no generator: a kernel asks its entropy pool.
    random: AtomicU64,
}

impl Host for Kernel {
    type Mem = Frames;
    type Format = Sv;
    // Interrupts are off where a real kernel holds these; that is what a lock of your own is for.
    type RawMutex = spin::Mutex<()>;
    type RawRwLock = spin::RwLock<()>;

    fn mem(&self) -> &Frames {
        &FRAMES
    }

    fn format(&self) -> Sv {
        Sv::SV39
    }

    /// Here a kernel interrupts the other CPUs and waits for them; when this returns, nobody may
    /// use the old translation any more.
    fn flush_tlb(&self, flush: &TlbFlush) {
        match flush.what {
            FlushScope::All => self.tlb.forget_all(flush.asid),
            FlushScope::Range(range) => self.tlb.forget(flush.asid, range),
        }
    }

    fn random_u64(&self) -> u64 {
        self.random.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed)
    }
}

/// Boots: all frames that the kernel itself does not use go to the memory manager.
///
/// # Errors
/// `ENOMEM` when there are too few frames.
pub fn boot() -> Result<Arc<Memory<Kernel>>, Errno> {
    let kernel = Kernel { tlb: Tlb::new(), random: AtomicU64::new(1) };
    let config = MemoryConfig::new(Pfn::new(FIRST_FREE)..FRAMES.range().end);
    Memory::new(kernel, config).map_err(|_| Errno::ENOMEM)
}

/// A process: its address space and who it is.
#[derive(Clone, Debug)]
pub struct Process {
    /// Threads share this `Arc`; the last one that goes takes the address space down.
    pub mm: Arc<Mm<Kernel>>,
    /// Its limits and rights.
    pub caller: Caller,
}

impl Process {
    /// The first process.
    ///
    /// # Errors
    /// `ENOMEM`
    pub fn first(memory: &Arc<Memory<Kernel>>) -> Result<Self, Errno> {
        let mm = Mm::new(memory, Layout::fixed(Arch::RiscvSv39))?;
        Ok(Self { mm, caller: Caller::USER })
    }

    /// fork(2).
    ///
    /// # Errors
    /// `ENOMEM`
    pub fn fork(&self) -> Result<Self, Errno> {
        Ok(Self { mm: self.mm.fork(&self.caller)?, caller: self.caller })
    }

    /// `mmap(0, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)`
    ///
    /// # Errors
    /// As mmap(2).
    pub fn map(&self, len: u64) -> Result<VirtAddr, Errno> {
        let request = MmapRequest::anonymous(len).prot(Prot::READ | Prot::WRITE);
        self.mm.mmap(&self.caller, request)
    }

    /// A store by the program: through the TLB, then the tables, then the fault handler.
    ///
    /// # Errors
    /// The fault, which a kernel makes a signal.
    pub fn store(&self, cpu: &Cpu<'_>, at: VirtAddr, word: u64) -> Result<(), Fault> {
        cpu.store(&self.mm, &self.caller, at, word)
    }

    /// A load by the program.
    ///
    /// # Errors
    /// The fault, which a kernel makes a signal.
    pub fn load(&self, cpu: &Cpu<'_>, at: VirtAddr) -> Result<u64, Fault> {
        cpu.load(&self.mm, &self.caller, at)
    }
}

/// The TLB of `memory`'s kernel.
pub fn tlb(memory: &Memory<Kernel>) -> &Tlb {
    &memory.host().tlb
}
