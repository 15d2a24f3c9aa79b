//! Memory for traces that say nothing of tables: x86-64 address spaces of the memory manager itself.
//!
//! [`Managed`] is a host of `kilburn-mm`. Areas come from the trace's events; where a trace has none, an access
//! outside of all areas makes one (anonymous, all rights, [`CHUNK`] bytes around it), as the program must have had one.
//! Faults are the memory manager's own: demand zero, the zero page, copy-on-write after a fork. Programs' bytes are in no
//! trace, so only tables take memory of the machine that simulates.

use crate::event::Sharing;
use kilburn_addr::{Access, Errno, PAGE_SIZE, Pfn, PhysAddr, VirtAddr};
use kilburn_mm::layout::Arch;
use kilburn_mm::policy::Builtin;
use kilburn_mm::{
    Caller, Fault, FaultDone, FlushReason, FlushScope, Host, Layout, Memory, MemoryConfig, Mm,
    MmapRequest, SegvCode, SwapArea, TlbFlush,
};
use kilburn_mmu::{Cause, Flush, Space};
use kilburn_paging::{PhysMem, X86_64};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use zerocopy::FromZeros as _;

/// Bytes of an area that an access makes; aligned to its size.
pub const CHUNK: u64 = 64 << 10;

/// Words of a frame.
const WORDS: usize = 512;
/// First frame.
const FIRST_FRAME: u64 = 0x100;
/// Pages of swap for each frame of memory.
const SWAP_FRAMES: u64 = 16;
/// Most areas of an address space: no program comes near, and a hostile trace takes no more than a few GiB.
const AREAS_MAX: u32 = 1 << 24;
/// `MAP_FIXED | MAP_ANONYMOUS`
const ANONYMOUS: u64 = 0x10 | 0x20;
/// `MAP_SHARED`
const SHARED: u64 = 0x01;
/// `MAP_PRIVATE`
const PRIVATE: u64 = 0x02;
/// `PROT_READ | PROT_WRITE | PROT_EXEC`
const ALL_RIGHTS: u64 = 7;

/// Frames of which only written words take memory: the kernel below gives pages when they are first written.
pub struct SparseRam {
    words: Box<[AtomicU64]>,
    /// The word that frames begin at: the first of a page of the kernel's below, so that a frame written to is one page of its
    /// and not two.
    first: usize,
    /// Frames that may hold something but zeros.
    written: Box<[AtomicBool]>,
}

impl SparseRam {
    fn new(frames: u64) -> Option<Self> {
        let frames = usize::try_from(frames).ok()?;
        let all = frames.checked_mul(WORDS)?.checked_add(WORDS)?;
        let words = <[AtomicU64]>::new_box_zeroed_with_elems(all).ok()?;
        let first = words.as_ptr().addr().wrapping_neg() / size_of::<u64>() % WORDS;
        let written = <[AtomicBool]>::new_box_zeroed_with_elems(frames).ok()?;
        Some(Self { words, first, written })
    }

    fn index(at: PhysAddr) -> usize {
        ((at.get() - FIRST_FRAME * PAGE_SIZE) / 8) as usize
    }

    fn word(&self, at: PhysAddr) -> &AtomicU64 {
        &self.words[self.first + Self::index(at)]
    }

    fn write_word(&self, at: PhysAddr) -> &AtomicU64 {
        let index = Self::index(at);
        self.written[index / WORDS].store(true, Ordering::Relaxed);
        &self.words[self.first + index]
    }

    fn frame(&self, frame: Pfn) -> (&AtomicBool, &[AtomicU64]) {
        let frame = (frame.get() - FIRST_FRAME) as usize;
        (&self.written[frame], &self.words[self.first + frame * WORDS..][..WORDS])
    }
}

impl PhysMem for SparseRam {
    #[inline]
    fn load(&self, at: PhysAddr) -> u64 {
        self.word(at).load(Ordering::Acquire)
    }

    fn store(&self, at: PhysAddr, value: u64) {
        self.write_word(at).store(value, Ordering::Release);
    }

    fn compare_exchange(&self, at: PhysAddr, current: u64, new: u64) -> Result<(), u64> {
        self.write_word(at)
            .compare_exchange(current, new, Ordering::AcqRel, Ordering::Acquire)
            .map(drop)
    }

    fn read(&self, at: PhysAddr, into: &mut [u8]) {
        for (at, byte) in (at.get()..).zip(into) {
            let word = self.load(PhysAddr::new(at & !7));
            *byte = (word >> (at % 8 * 8)) as u8;
        }
    }

    fn write(&self, at: PhysAddr, from: &[u8]) {
        for (at, &byte) in (at.get()..).zip(from) {
            let (word, shift) = (self.write_word(PhysAddr::new(at & !7)), at % 8 * 8);
            let kept = word.load(Ordering::Relaxed) & !(0xff << shift);
            word.store(kept | u64::from(byte) << shift, Ordering::Relaxed);
        }
    }

    fn zero(&self, frame: Pfn) {
        let (written, words) = self.frame(frame);
        if written.swap(false, Ordering::Relaxed) {
            words.iter().for_each(|word| word.store(0, Ordering::Relaxed));
        }
    }

    fn copy(&self, from: Pfn, to: Pfn) {
        let (written, from) = self.frame(from);
        if !written.load(Ordering::Relaxed) {
            return self.zero(to);
        }
        let (written, to) = self.frame(to);
        written.store(true, Ordering::Relaxed);
        for (from, to) in from.iter().zip(to) {
            to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }
}

/// The machine that traces are replayed on, as its memory manager sees it.
pub struct TraceHost {
    ram: SparseRam,
    flushes: Mutex<Vec<TlbFlush>>,
    any_flush: AtomicBool,
}

impl Host for TraceHost {
    type Mem = SparseRam;
    type Format = X86_64;
    type RawMutex = parking_lot::RawMutex;
    type RawRwLock = parking_lot::RawRwLock;

    fn mem(&self) -> &SparseRam {
        &self.ram
    }

    fn format(&self) -> X86_64 {
        X86_64::FOUR_LEVEL
    }

    fn flush_tlb(&self, flush: &TlbFlush) {
        self.flushes.lock().push(*flush);
        self.any_flush.store(true, Ordering::Relaxed);
    }

    fn random_u64(&self) -> u64 {
        // Nothing is laid out at random: the trace says where everything is.
        0
    }
}

/// Swap for pages whose bytes nobody knows: they are zeros in RAM, and so they come back.
struct ZeroSwap {
    slots: u32,
}

impl SwapArea for ZeroSwap {
    fn slots(&self) -> u32 {
        self.slots
    }

    fn is_synchronous(&self) -> bool {
        true
    }

    fn read(&self, _: u32, into: &mut [u8; 4096]) -> Result<(), Errno> {
        into.fill(0);
        Ok(())
    }

    fn write(&self, _: u32, from: &[u8; 4096]) -> Result<(), Errno> {
        debug_assert!(from.iter().all(|byte| *byte == 0), "a trace has no bytes");
        Ok(())
    }
}

/// Why an access cannot be resolved.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unresolved {
    /// No user address of x86-64.
    Outside,
    /// The area does not permit the access: the program got a signal.
    Denied,
    /// Every frame is in use.
    NoMemory,
}

/// Address spaces by the trace's numbers.
pub struct Managed {
    memory: Arc<Memory<TraceHost>>,
    spaces: BTreeMap<u16, Arc<Mm<TraceHost>>>,
    /// Areas that accesses made.
    pub areas_made: u64,
}

impl Managed {
    /// A machine with `bytes` of memory. With a policy, it chooses the page that is swapped out when memory is used up.
    ///
    /// # Errors
    /// What is wrong with that much, in one line.
    pub fn new(bytes: u64, policy: Option<Builtin>) -> Result<Self, String> {
        let frames = bytes / PAGE_SIZE;
        let ram = SparseRam::new(frames)
            .ok_or_else(|| format!("memory of {bytes} bytes cannot be reserved"))?;
        let host =
            TraceHost { ram, flushes: Mutex::new(Vec::new()), any_flush: AtomicBool::new(false) };
        let mut config = MemoryConfig::new(Pfn::new(FIRST_FRAME)..Pfn::new(FIRST_FRAME + frames));
        // What the program had was granted to it.
        config.overcommit = kilburn_mm::Overcommit::Always;
        config.mmap_min_addr = 0;
        config.max_map_count = AREAS_MAX;
        config.policy = policy.unwrap_or(config.policy);
        let memory = Memory::new(host, config).map_err(|error| error.to_string())?;
        if policy.is_some() {
            let slots = frames.saturating_mul(SWAP_FRAMES).min(u64::from(u32::MAX)) as u32;
            let swap = ZeroSwap { slots };
            memory.swap_on("trace", Arc::new(swap), None).map_err(|error| error.to_string())?;
        }
        Ok(Self { memory, spaces: BTreeMap::new(), areas_made: 0 })
    }

    /// The memory, for figures and checks.
    pub fn memory(&self) -> &Arc<Memory<TraceHost>> {
        &self.memory
    }

    /// The frames, for walks.
    pub fn mem(&self) -> &SparseRam {
        &self.memory.host().ram
    }

    /// The address spaces.
    pub fn spaces(&self) -> impl Iterator<Item = &Arc<Mm<TraceHost>>> {
        self.spaces.values()
    }

    /// The trace's space `number`, made when it is new.
    ///
    /// # Errors
    /// `ENOMEM`
    pub fn space(&mut self, number: u16) -> Result<&Arc<Mm<TraceHost>>, Errno> {
        use std::collections::btree_map::Entry;
        Ok(match self.spaces.entry(number) {
            Entry::Occupied(held) => held.into_mut(),
            Entry::Vacant(free) => free.insert(Mm::new(&self.memory, Layout::fixed(Arch::X86_64))?),
        })
    }

    /// What hardware needs to know of space `number`.
    ///
    /// # Errors
    /// `ENOMEM`
    pub fn hardware(&mut self, number: u16) -> Result<Space<X86_64>, Errno> {
        let mm = self.space(number)?;
        Ok(Space { root: mm.root(), format: X86_64::FOUR_LEVEL, asid: mm.asid() })
    }

    /// Resolves a fault of space `number`, making an area if there is none.
    ///
    /// # Errors
    /// [`Unresolved`]
    pub fn resolve(
        &mut self,
        number: u16,
        va: VirtAddr,
        access: Access,
    ) -> Result<FaultDone, Unresolved> {
        let mm = Arc::clone(self.space(number).map_err(|_| Unresolved::NoMemory)?);
        if va >= mm.layout().task_size() {
            return Err(Unresolved::Outside);
        }
        let mut is_new = false;
        loop {
            match mm.handle_fault(&Caller::ROOT, va, access) {
                Ok(done) => {
                    if self.memory.is_kswapd_wanted() {
                        self.memory.balance();
                    }
                    return Ok(done);
                }
                Err(Fault::Segv(SegvCode::MapErr)) if !is_new => {
                    let start = va.get() / CHUNK * CHUNK;
                    let end = (start + CHUNK).min(mm.layout().task_size().get());
                    self.areas_made += 1;
                    is_new = true;
                    self.map_free(&mm, start, end)?;
                }
                Err(Fault::Oom) => return Err(Unresolved::NoMemory),
                Err(_) => return Err(Unresolved::Denied),
            }
        }
    }

    /// Maps what is free of `start..end`.
    fn map_free(&self, mm: &Mm<TraceHost>, start: u64, end: u64) -> Result<(), Unresolved> {
        const NO_REPLACE: u64 = 0x10_0000;
        for addr in (start..end).step_by(PAGE_SIZE as usize) {
            let flags = PRIVATE | ANONYMOUS | NO_REPLACE;
            let request = MmapRequest {
                addr,
                len: PAGE_SIZE,
                prot: ALL_RIGHTS,
                flags,
                file: None,
                offset: 0,
            };
            match mm.mmap(&Caller::ROOT, request) {
                Ok(_) | Err(Errno::EEXIST) => (),
                Err(_) => return Err(Unresolved::NoMemory),
            }
        }
        Ok(())
    }

    /// Maps anonymous memory as the trace says.
    ///
    /// # Errors
    /// As mmap(2).
    pub fn mmap(
        &mut self,
        number: u16,
        range: (VirtAddr, u64),
        prot: u64,
        sharing: Sharing,
    ) -> Result<(), Errno> {
        let mm = self.space(number)?;
        let flags = match sharing {
            Sharing::Private => PRIVATE | ANONYMOUS,
            Sharing::Shared => SHARED | ANONYMOUS,
        };
        let (addr, len) = (range.0.get(), range.1);
        let request = MmapRequest { addr, len, prot, flags, file: None, offset: 0 };
        mm.mmap(&Caller::ROOT, request).map(drop)
    }

    /// Unmaps as the trace says.
    ///
    /// # Errors
    /// As munmap(2).
    pub fn munmap(&mut self, number: u16, va: VirtAddr, len: u64) -> Result<(), Errno> {
        self.space(number)?.munmap(va, len)
    }

    /// Changes rights as the trace says.
    ///
    /// # Errors
    /// As mprotect(2).
    pub fn mprotect(
        &mut self,
        number: u16,
        va: VirtAddr,
        len: u64,
        prot: u64,
    ) -> Result<(), Errno> {
        self.space(number)?.mprotect(&Caller::ROOT, va, len, prot)
    }

    /// Copies space `number` as fork does.
    ///
    /// # Errors
    /// `ENOMEM`
    pub fn fork(&mut self, number: u16, child: u16) -> Result<(), Errno> {
        let copy = self.space(number)?.fork(&Caller::ROOT)?;
        self.spaces.insert(child, copy);
        Ok(())
    }

    /// Space `number` ends; asked for again, it begins empty.
    pub fn end(&mut self, number: u16) {
        self.spaces.remove(&number);
    }

    /// The flushes that the memory manager asked for since the last call.
    pub fn take_flushes(&self) -> Vec<(Flush, Cause)> {
        let host = self.memory.host();
        if !host.any_flush.swap(false, Ordering::Relaxed) {
            return Vec::new();
        }
        let flushes = std::mem::take(&mut *host.flushes.lock());
        let flush = |flush: TlbFlush| {
            let asid = flush.asid;
            let what = match flush.what {
                FlushScope::All => Flush::Asid(asid),
                FlushScope::Range(range) => Flush::Range { asid, range },
            };
            (what, cause(flush.reason))
        };
        flushes.into_iter().map(flush).collect()
    }
}

/// The cause that a reason of the memory manager is.
fn cause(reason: FlushReason) -> Cause {
    match reason {
        FlushReason::Unmap => Cause::Unmap,
        FlushReason::Protect => Cause::Protect,
        FlushReason::Cow => Cause::Cow,
        FlushReason::Fork => Cause::Fork,
        FlushReason::Move => Cause::Move,
        FlushReason::Truncate => Cause::Truncate,
        FlushReason::Clean => Cause::Clean,
        FlushReason::Reclaim => Cause::Reclaim,
        FlushReason::Exit => Cause::Exit,
        _ => Cause::Other,
    }
}
