//! What the memory manager asks of the machine: frames, TLB flushes, random numbers.
//!
//! [`MachineHost`] implements `kilburn_mm::Host`. Flushes are queued here and applied to every
//! hart by [`MachineHost::take_flushes`] before any guest instruction runs again; since one host
//! thread runs the whole machine, that is before anyone could use a stale translation.

use kilburn_mm::{Host, MemcgId, TlbFlush};
use kilburn_paging::Sv;
use kilburn_riscv::GuestRam;
use parking_lot::{Mutex, RawMutex, RawRwLock, RwLock};
use rand_chacha::ChaCha12Rng;
use rand_core::{RngCore, SeedableRng};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The address spaces of this machine.
pub(crate) type Mm = kilburn_mm::Mm<MachineHost>;
/// The memory of this machine.
pub(crate) type Memory = kilburn_mm::Memory<MachineHost>;

/// Independent sequences of random numbers made from one seed, so that a program that asks for
/// more random bytes does not change anybody's address space layout.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stream {
    /// Layout of address spaces, AT_RANDOM.
    Layout = 1,
    /// `getrandom`, `/dev/urandom`.
    Bytes = 2,
}

/// The generator of `stream` for machine seed `seed`.
pub(crate) fn generator(seed: u64, stream: Stream) -> ChaCha12Rng {
    let mut rng = ChaCha12Rng::seed_from_u64(seed);
    rng.set_stream(stream as u64);
    rng
}

/// One machine, as its memory manager sees it.
pub(crate) struct MachineHost {
    ram: Arc<GuestRam>,
    paging: Sv,
    flushes: Mutex<Vec<TlbFlush>>,
    any_flush: AtomicBool,
    layout_rng: Mutex<ChaCha12Rng>,
    /// The group of memory of the task that runs.
    memcg: RwLock<MemcgId>,
}

impl MachineHost {
    /// A machine with this memory, paging mode and seed.
    pub(crate) fn new(ram: Arc<GuestRam>, paging: Sv, seed: u64) -> Self {
        Self {
            ram,
            paging,
            flushes: Mutex::new(Vec::new()),
            any_flush: AtomicBool::new(false),
            layout_rng: Mutex::new(generator(seed, Stream::Layout)),
            memcg: RwLock::new(MemcgId::ROOT),
        }
    }

    /// The flushes asked for since the last call, in order.
    pub(crate) fn take_flushes(&self) -> Vec<TlbFlush> {
        if self.any_flush.swap(false, Ordering::Relaxed) {
            std::mem::take(&mut *self.flushes.lock())
        } else {
            Vec::new()
        }
    }

    /// A task of this group of memory runs now.
    #[inline]
    pub(crate) fn set_current_memcg(&self, memcg: MemcgId) {
        *self.memcg.write() = memcg;
    }

    /// Random bytes of the layout stream.
    pub(crate) fn fill_random(&self, into: &mut [u8]) {
        self.layout_rng.lock().fill_bytes(into);
    }
}

impl Host for MachineHost {
    type Mem = GuestRam;
    type Format = Sv;
    type RawMutex = RawMutex;
    type RawRwLock = RawRwLock;

    fn mem(&self) -> &GuestRam {
        &self.ram
    }

    fn format(&self) -> Sv {
        self.paging
    }

    fn flush_tlb(&self, flush: &TlbFlush) {
        self.flushes.lock().push(*flush);
        self.any_flush.store(true, Ordering::Relaxed);
    }

    fn current_memcg(&self) -> MemcgId {
        *self.memcg.read()
    }

    fn random_u64(&self) -> u64 {
        self.layout_rng.lock().next_u64()
    }
}
