//! The machine's frames: a static array instead of a linear map.

use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};
use kilburn_addr::{PAGE_SIZE, Pfn, PhysAddr};
use kilburn_paging::PhysMem;

const COUNT: usize = 512;
const FIRST: u64 = 0x80000;
const WORDS: usize = PAGE_SIZE as usize / 8;

/// All of the machine's memory, 2 MiB.
pub static FRAMES: Frames = Frames([const { AtomicU64::new(0) }; COUNT * WORDS]);

/// Memory as a kernel sees it: every physical address has a place.
#[derive(Debug)]
pub struct Frames([AtomicU64; COUNT * WORDS]);

impl Frames {
    /// Which frames there are.
    pub fn range(&self) -> Range<Pfn> {
        Pfn::new(FIRST)..Pfn::new(FIRST + COUNT as u64)
    }

    /// A kernel adds the start of its linear map instead.
    fn word(&self, at: PhysAddr) -> &AtomicU64 {
        &self.0[((at.get() - FIRST * PAGE_SIZE) / 8) as usize]
    }

    fn words(&self, frame: Pfn) -> &[AtomicU64] {
        let first = (frame.get() - FIRST) as usize * WORDS;
        &self.0[first..first + WORDS]
    }
}

impl PhysMem for Frames {
    fn load(&self, at: PhysAddr) -> u64 {
        self.word(at).load(Ordering::Acquire)
    }

    fn store(&self, at: PhysAddr, value: u64) {
        self.word(at).store(value, Ordering::Release);
    }

    fn compare_exchange(&self, at: PhysAddr, current: u64, new: u64) -> Result<(), u64> {
        let word = self.word(at);
        word.compare_exchange(current, new, Ordering::AcqRel, Ordering::Acquire).map(|_| ())
    }

    fn read(&self, at: PhysAddr, into: &mut [u8]) {
        for (at, byte) in (at.get()..).zip(into) {
            *byte =
                self.word(PhysAddr::new(at)).load(Ordering::Relaxed).to_le_bytes()[at as usize % 8];
        }
    }

    fn write(&self, at: PhysAddr, from: &[u8]) {
        for (at, byte) in (at.get()..).zip(from) {
            let word = self.word(PhysAddr::new(at));
            let mut bytes = word.load(Ordering::Relaxed).to_le_bytes();
            bytes[at as usize % 8] = *byte;
            word.store(u64::from_le_bytes(bytes), Ordering::Relaxed);
        }
    }

    fn zero(&self, frame: Pfn) {
        for word in self.words(frame) {
            word.store(0, Ordering::Relaxed);
        }
    }

    fn copy(&self, from: Pfn, to: Pfn) {
        for (from, to) in self.words(from).iter().zip(self.words(to)) {
            to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }
}
