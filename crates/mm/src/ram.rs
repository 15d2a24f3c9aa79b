//! Physical memory in a boxed slice: what a simulator or a test gives the memory manager.
//!
//! [`BoxedRam`] is [`PhysMem`] without `unsafe`: every word is atomic. A kernel brings its frames
//! instead, a virtual machine its guest's memory; neither needs this.

use alloc::boxed::Box;
use core::fmt;
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};
use kilburn_addr::{PAGE_SIZE, Pfn, PhysAddr};
use kilburn_paging::PhysMem;

const WORDS: usize = PAGE_SIZE as usize / 8;

/// Frames of memory, zeroed at first.
///
/// ```
/// use kilburn_addr::Pfn;
/// use kilburn_mm::BoxedRam;
/// use kilburn_paging::PhysMem;
///
/// let ram = BoxedRam::new(Pfn::new(0x80000)..Pfn::new(0x80010));
/// let at = Pfn::new(0x80001).base();
/// ram.write(at, b"frames");
/// assert_eq!(ram.load(at), u64::from_le_bytes(*b"frames\0\0"));
/// ```
pub struct BoxedRam {
    frames: Range<Pfn>,
    words: Box<[AtomicU64]>,
}

impl BoxedRam {
    /// Memory for `frames`.
    pub fn new(frames: Range<Pfn>) -> Self {
        let count = frames.end.get().saturating_sub(frames.start.get()) as usize;
        let words = (0..count * WORDS).map(|_| AtomicU64::new(0)).collect();
        Self { frames, words }
    }

    /// Which frames these are.
    pub fn frames(&self) -> Range<Pfn> {
        self.frames.clone()
    }

    #[inline]
    fn word(&self, at: u64) -> &AtomicU64 {
        &self.words[((at - self.frames.start.base().get()) / 8) as usize]
    }

    fn frame(&self, frame: Pfn) -> &[AtomicU64] {
        let first = (frame.get() - self.frames.start.get()) as usize * WORDS;
        &self.words[first..first + WORDS]
    }
}

impl PhysMem for BoxedRam {
    #[inline]
    fn load(&self, at: PhysAddr) -> u64 {
        self.word(at.get()).load(Ordering::Acquire)
    }

    #[inline]
    fn store(&self, at: PhysAddr, value: u64) {
        self.word(at.get()).store(value, Ordering::Release);
    }

    #[inline]
    fn compare_exchange(&self, at: PhysAddr, current: u64, new: u64) -> Result<(), u64> {
        self.word(at.get())
            .compare_exchange(current, new, Ordering::AcqRel, Ordering::Acquire)
            .map(|_| ())
    }

    fn read(&self, at: PhysAddr, into: &mut [u8]) {
        if at.get().is_multiple_of(PAGE_SIZE) && into.len() == PAGE_SIZE as usize {
            for (word, bytes) in self.frame(at.pfn()).iter().zip(into.as_chunks_mut().0) {
                *bytes = word.load(Ordering::Relaxed).to_le_bytes();
            }
            return;
        }
        for (at, byte) in (at.get()..).zip(into) {
            *byte = (self.word(at).load(Ordering::Relaxed) >> (at % 8 * 8)) as u8;
        }
    }

    fn write(&self, at: PhysAddr, from: &[u8]) {
        if at.get().is_multiple_of(PAGE_SIZE) && from.len() == PAGE_SIZE as usize {
            for (word, bytes) in self.frame(at.pfn()).iter().zip(from.as_chunks().0) {
                word.store(u64::from_le_bytes(*bytes), Ordering::Relaxed);
            }
            return;
        }
        if at.get().is_multiple_of(8) && from.len().is_multiple_of(8) {
            for (at, bytes) in (at.get()..).step_by(8).zip(from.chunks_exact(8)) {
                let word = u64::from_le_bytes(bytes.try_into().expect("8 bytes"));
                self.word(at).store(word, Ordering::Relaxed);
            }
            return;
        }
        for (at, &byte) in (at.get()..).zip(from) {
            let (word, shift) = (self.word(at), at % 8 * 8);
            let kept = word.load(Ordering::Relaxed) & !(0xff << shift);
            word.store(kept | u64::from(byte) << shift, Ordering::Relaxed);
        }
    }

    fn zero(&self, frame: Pfn) {
        for word in self.frame(frame) {
            word.store(0, Ordering::Relaxed);
        }
    }

    fn copy(&self, from: Pfn, to: Pfn) {
        for (from, to) in self.frame(from).iter().zip(self.frame(to)) {
            to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }
}

impl fmt::Debug for BoxedRam {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BoxedRam").field("frames", &self.frames).finish_non_exhaustive()
    }
}
