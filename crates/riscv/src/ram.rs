//! Guest RAM: one host mapping that is the machine's physical memory.
//!
//! [`GuestRam`] serves page tables and the kernel through [`PhysMem`], and the hart through host
//! pointers. It also knows which frames predecoded code was made from, so that every write to
//! such a frame, whoever does it, ends the life of that code (`GuestRam::mark_code`,
//! `CodeEvent`). Neighbours: `translate` grants host pointers, `code` owns the blocks.
//!
//! # Why the `unsafe` here is sound
//!
//! The mapping is made once, never moves and lives as long as the value. No Rust reference to its
//! bytes ever exists: single words are accessed through atomics, which may race with each other
//! by definition, and runs of bytes through `bytes`, whose accesses are either atomics too or
//! machine instructions the compiler does not look into. So a race between two host threads can
//! give a guest torn data, as two processors can, but is no undefined behaviour.

#![allow(unsafe_code, clippy::allow_attributes, reason = "RAM is a host mapping")]

use crate::host::FramePtr;
use core::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use kilburn_addr::{PAGE_SIZE, Pfn, PhysAddr};
use kilburn_paging::PhysMem;
use memmap2::{MmapOptions, MmapRaw};
use parking_lot::Mutex;
use std::collections::VecDeque;

#[cfg(not(target_endian = "little"))]
compile_error!("guest memory is little-endian and accessed in place");

/// Why there is no guest RAM.
#[derive(Debug, thiserror::Error)]
pub enum RamError {
    /// The size is zero, not a whole number of pages, or beyond what the format addresses.
    #[error("guest RAM of {0} bytes is not a whole number of 4 KiB pages below 2^44 bytes")]
    Size(u64),
    /// The host has no room in its address space.
    #[error("the host does not map {bytes} bytes of guest RAM: {source}")]
    Host {
        /// Bytes asked for.
        bytes: u64,
        /// What the host says.
        source: std::io::Error,
    },
}

/// A change in what is known about a frame's code; numbered from 0, in order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum CodeEvent {
    /// Blocks were made from a frame that had none: nobody may keep a way to write to it unseen.
    Added(Pfn),
    /// A frame with blocks was written: the blocks are stale.
    Written(Pfn),
}

/// Events kept for harts that lag behind. One that lags further drops everything it holds.
const EVENTS_KEPT: usize = 512;

#[derive(Default)]
struct EventLog {
    recent: VecDeque<CodeEvent>,
}

/// The machine's physical memory, from [`GuestRam::BASE`] up.
///
/// Untouched RAM costs the host address space only. Shared by all harts and the kernel.
pub struct GuestRam {
    map: MmapRaw,
    frames: u64,
    /// 1 where predecoded code exists.
    code: Box<[AtomicU8]>,
    log: Mutex<EventLog>,
    /// Number of events ever logged.
    events: AtomicU64,
}

impl GuestRam {
    /// Where RAM begins, as on QEMU's `virt` machine.
    pub const BASE: PhysAddr = PhysAddr::new(0x8000_0000);

    /// RAM of `bytes` bytes, all zero.
    ///
    /// # Errors
    /// [`RamError`] when the size is no whole number of pages or the host refuses.
    pub fn new(bytes: u64) -> Result<Self, RamError> {
        if bytes == 0 || !bytes.is_multiple_of(PAGE_SIZE) || bytes > 1 << 44 {
            return Err(RamError::Size(bytes));
        }
        let len = usize::try_from(bytes).map_err(|_| RamError::Size(bytes))?;
        let map = MmapOptions::new()
            .len(len)
            .no_reserve_swap()
            .map_anon()
            .map_err(|source| RamError::Host { bytes, source })?;
        // A guest's accesses are scattered over all of it, so the host's own translations are what they
        // wait for. A host without large pages refuses, and is as it was.
        #[cfg(target_os = "linux")]
        let _ = map.advise(memmap2::Advice::HugePage);
        let frames = bytes / PAGE_SIZE;
        Ok(Self {
            map: map.into(),
            frames,
            code: (0..frames).map(|_| AtomicU8::new(0)).collect(),
            log: Mutex::default(),
            events: AtomicU64::new(0),
        })
    }

    /// The first frame.
    pub const fn base_pfn(&self) -> Pfn {
        Self::BASE.pfn()
    }

    /// Number of frames.
    pub const fn frames(&self) -> u64 {
        self.frames
    }

    /// Whether `frame` exists.
    #[inline]
    pub fn contains(&self, frame: Pfn) -> bool {
        self.index(frame).is_some()
    }

    /// Gives the host memory behind `frame` back; the frame reads as zeros afterwards.
    ///
    /// # Panics
    /// When `frame` does not exist.
    pub fn release(&self, frame: Pfn) {
        let index = self.expect_index(frame);
        self.written(index);
        let offset = index * PAGE_SIZE as usize;
        // SAFETY: the page lies inside the mapping; losing its contents is what is asked for, and
        // no reference to them exists (see the head of the file).
        let advised = unsafe {
            self.map.unchecked_advise_range(
                memmap2::UncheckedAdvice::DontNeed,
                offset,
                PAGE_SIZE as usize,
            )
        };
        if advised.is_err() {
            // A host that cannot take the page back still owes zeros.
            self.zero(frame);
        }
    }

    #[inline]
    fn index(&self, frame: Pfn) -> Option<usize> {
        let index = frame.get().wrapping_sub(Self::BASE.pfn().get());
        (index < self.frames).then_some(index as usize)
    }

    #[inline]
    #[track_caller]
    fn expect_index(&self, frame: Pfn) -> usize {
        match self.index(frame) {
            Some(index) => index,
            None => panic!("frame {frame} is outside of guest RAM"),
        }
    }

    /// Host address of byte `at`, of which `len` bytes are inside RAM.
    #[inline]
    #[track_caller]
    fn host(&self, at: PhysAddr, len: usize) -> *mut u8 {
        let offset = at.get().wrapping_sub(Self::BASE.get());
        let size = self.frames * PAGE_SIZE;
        assert!(
            offset < size && len as u64 <= size - offset,
            "{len} bytes at {at} are outside of guest RAM"
        );
        // In bounds of the mapping, so the offset stays in one allocation.
        self.map.as_mut_ptr().wrapping_add(offset as usize)
    }

    /// The host memory of `frame`; `None` when there is no such frame.
    #[inline]
    pub(crate) fn frame_ptr(&self, frame: Pfn) -> Option<FramePtr> {
        let index = self.index(frame)?;
        // SAFETY: `index` is below the number of frames in the mapping.
        Some(unsafe { FramePtr::new(self.map.as_mut_ptr().wrapping_add(index << 12)) })
    }

    /// The frame at `ptr`, which is one of this RAM.
    pub(crate) fn frame_at(&self, ptr: FramePtr) -> Pfn {
        let offset = ptr.addr() - self.map.as_mut_ptr() as usize;
        Pfn::new(Self::BASE.pfn().get() + (offset >> 12) as u64)
    }

    #[inline]
    fn word(&self, at: PhysAddr) -> &AtomicU64 {
        let offset = at.get().wrapping_sub(Self::BASE.get());
        assert!(
            offset < self.frames * PAGE_SIZE && offset.is_multiple_of(8),
            "word access at {at}, unaligned or outside of guest RAM"
        );
        let ptr = self.map.as_mut_ptr().wrapping_add(offset as usize).cast::<u64>();
        // SAFETY: in bounds (an aligned word that begins in RAM, which is whole pages, ends there)
        // and aligned (both asserted; the mapping is page aligned), and only ever accessed
        // atomically or by `bytes` (see the head of the file).
        unsafe { AtomicU64::from_ptr(ptr) }
    }

    /// Notes that blocks are made from `frame`. Returns whether that is news, in which case an
    /// event tells every hart.
    pub(crate) fn mark_code(&self, frame: Pfn) -> bool {
        let index = self.expect_index(frame);
        let news = self.code[index].swap(1, Ordering::AcqRel) == 0;
        if news {
            self.push(CodeEvent::Added(frame));
        }
        news
    }

    /// Whether blocks were made from `frame` that nobody has ended since.
    #[inline]
    pub(crate) fn is_code(&self, frame: Pfn) -> bool {
        self.index(frame).is_some_and(|index| self.code[index].load(Ordering::Acquire) != 0)
    }

    /// To be called with every write to `frame` that does not come through [`PhysMem`].
    #[inline]
    pub(crate) fn note_write(&self, frame: Pfn) {
        if let Some(index) = self.index(frame) {
            self.written(index);
        }
    }

    #[inline]
    fn written(&self, index: usize) {
        if self.code[index].load(Ordering::Acquire) != 0 {
            self.code_written(index);
        }
    }

    /// The word at `at`, which lies in one frame of RAM, was written.
    #[inline]
    fn word_written(&self, at: PhysAddr) {
        self.written(((at.get() - Self::BASE.get()) / PAGE_SIZE) as usize);
    }

    #[cold]
    fn code_written(&self, index: usize) {
        self.code[index].store(0, Ordering::Release);
        self.push(CodeEvent::Written(Pfn::new(Self::BASE.pfn().get() + index as u64)));
    }

    fn push(&self, event: CodeEvent) {
        let mut log = self.log.lock();
        if log.recent.len() == EVENTS_KEPT {
            log.recent.pop_front();
        }
        log.recent.push_back(event);
        self.events.fetch_add(1, Ordering::Release);
    }

    /// Number of events so far.
    #[inline]
    pub(crate) fn events(&self) -> u64 {
        self.events.load(Ordering::Acquire)
    }

    /// The events from number `seen` on, and the number of the next one. `None` in place of the
    /// events when some are no longer known.
    pub(crate) fn events_since(&self, seen: u64) -> (Option<Vec<CodeEvent>>, u64) {
        let log = self.log.lock();
        let next = self.events.load(Ordering::Acquire);
        let missed = next - seen;
        let known = log.recent.len() as u64;
        if missed > known {
            return (None, next);
        }
        let skip = (known - missed) as usize;
        (Some(log.recent.iter().skip(skip).copied().collect()), next)
    }

    #[inline]
    fn written_range(&self, at: PhysAddr, len: usize) {
        if len == 0 {
            return;
        }
        let first = self.expect_index(at.pfn());
        let last = first + ((at.page_offset() as usize + len - 1) >> 12);
        for index in first..=last {
            self.written(index);
        }
    }
}

impl core::fmt::Debug for GuestRam {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("GuestRam").field("frames", &self.frames).finish_non_exhaustive()
    }
}

impl PhysMem for GuestRam {
    #[inline]
    fn load(&self, at: PhysAddr) -> u64 {
        self.word(at).load(Ordering::Acquire)
    }

    #[inline]
    fn store(&self, at: PhysAddr, value: u64) {
        self.word(at).store(value, Ordering::Release);
        self.word_written(at);
    }

    #[inline]
    fn compare_exchange(&self, at: PhysAddr, current: u64, new: u64) -> Result<(), u64> {
        self.word(at).compare_exchange(current, new, Ordering::AcqRel, Ordering::Acquire)?;
        self.word_written(at);
        Ok(())
    }

    fn read(&self, at: PhysAddr, into: &mut [u8]) {
        let from = self.host(at, into.len());
        // SAFETY: `host` checked the range; the two do not overlap, as `into` is no guest RAM.
        unsafe { bytes::copy(from, into.as_mut_ptr(), into.len()) }
    }

    fn write(&self, at: PhysAddr, from: &[u8]) {
        let to = self.host(at, from.len());
        // SAFETY: as in `read`.
        unsafe { bytes::copy(from.as_ptr(), to, from.len()) }
        self.written_range(at, from.len());
    }

    fn zero(&self, frame: Pfn) {
        let to = self.host(frame.base(), PAGE_SIZE as usize);
        // SAFETY: `host` checked the range.
        unsafe { bytes::zero(to, PAGE_SIZE as usize) }
        self.written(self.expect_index(frame));
    }

    fn copy(&self, from: Pfn, to: Pfn) {
        if from == to {
            return;
        }
        let source = self.host(from.base(), PAGE_SIZE as usize);
        let target = self.host(to.base(), PAGE_SIZE as usize);
        // SAFETY: `host` checked both ranges; two different frames do not overlap.
        unsafe { bytes::copy(source, target, PAGE_SIZE as usize) }
        self.written(self.expect_index(to));
    }
}

/// Runs of bytes in memory that others may change meanwhile.
mod bytes {
    /// Copies `len` bytes.
    ///
    /// # Safety
    /// Both ranges are accessible and do not overlap. Either may be raced with.
    #[cfg(target_arch = "x86_64")]
    #[inline]
    pub(super) unsafe fn copy(from: *const u8, to: *mut u8, len: usize) {
        // SAFETY: copies exactly the ranges the caller vouches for. The direction flag is clear at
        // function boundaries. To the compiler the accesses are foreign, hence may race.
        unsafe {
            core::arch::asm!(
                "rep movsb",
                inout("rcx") len => _, inout("rsi") from => _, inout("rdi") to => _,
                options(nostack, preserves_flags)
            );
        }
    }

    /// Fills `len` bytes with zero.
    ///
    /// # Safety
    /// The range is accessible. It may be raced with.
    #[cfg(target_arch = "x86_64")]
    #[inline]
    pub(super) unsafe fn zero(to: *mut u8, len: usize) {
        // SAFETY: as in `copy`.
        unsafe {
            core::arch::asm!(
                "rep stosb",
                inout("rcx") len => _, inout("rdi") to => _, in("al") 0_u8,
                options(nostack, preserves_flags)
            );
        }
    }

    #[cfg(not(target_arch = "x86_64"))]
    use core::sync::atomic::{AtomicU8, Ordering::Relaxed};

    /// Copies `len` bytes.
    ///
    /// # Safety
    /// Both ranges are accessible and do not overlap. Either may be raced with.
    #[cfg(not(target_arch = "x86_64"))]
    pub(super) unsafe fn copy(from: *const u8, to: *mut u8, len: usize) {
        for i in 0..len {
            // SAFETY: inside the ranges the caller vouches for.
            unsafe {
                let byte = AtomicU8::from_ptr(from.add(i).cast_mut()).load(Relaxed);
                AtomicU8::from_ptr(to.add(i)).store(byte, Relaxed);
            }
        }
    }

    /// Fills `len` bytes with zero.
    ///
    /// # Safety
    /// The range is accessible. It may be raced with.
    #[cfg(not(target_arch = "x86_64"))]
    pub(super) unsafe fn zero(to: *mut u8, len: usize) {
        for i in 0..len {
            // SAFETY: inside the range the caller vouches for.
            unsafe { AtomicU8::from_ptr(to.add(i)).store(0, Relaxed) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ram() -> GuestRam {
        GuestRam::new(16 * PAGE_SIZE).expect("64 KiB")
    }

    const F0: Pfn = GuestRam::BASE.pfn();
    const F1: Pfn = Pfn::new(F0.get() + 1);

    #[test]
    fn odd_sizes_are_refused() {
        for size in [0, 1, PAGE_SIZE + 8, (1 << 44) + PAGE_SIZE] {
            assert!(matches!(GuestRam::new(size), Err(RamError::Size(s)) if s == size));
        }
    }

    #[test]
    fn bytes_and_words_see_the_same_memory_little_endian() {
        let ram = ram();
        ram.write(PhysAddr::new(F0.base().get() + 4094), &[1, 2, 3, 4]);
        assert_eq!(ram.load(F1.base()), 0x0403);
        ram.store(F1.base(), 0x1122_3344_5566_7788);
        let mut out = [0; 3];
        ram.read(PhysAddr::new(F1.base().get() + 1), &mut out);
        assert_eq!(out, [0x77, 0x66, 0x55]);
        ram.copy(F1, F0);
        assert_eq!(ram.load(F0.base()), 0x1122_3344_5566_7788);
        ram.zero(F1);
        assert_eq!(ram.load(F1.base()), 0);
        assert_eq!(ram.compare_exchange(F0.base(), 5, 6), Err(0x1122_3344_5566_7788));
        assert_eq!(ram.compare_exchange(F1.base(), 0, 6), Ok(()));
        ram.release(F1);
        assert_eq!(ram.load(F1.base()), 0);
    }

    #[test]
    #[should_panic(expected = "outside of guest RAM")]
    fn access_past_the_end_is_refused() {
        ram().read(PhysAddr::new(GuestRam::BASE.get() + 16 * PAGE_SIZE - 1), &mut [0; 2]);
    }

    #[test]
    #[should_panic(expected = "outside of guest RAM")]
    fn access_below_the_base_is_refused() {
        ram().load(PhysAddr::new(GuestRam::BASE.get() - 8));
    }

    #[test]
    fn every_kind_of_write_to_a_code_frame_is_an_event() {
        let ram = ram();
        let at = PhysAddr::new(F1.base().get() + 8);
        type Write = fn(&GuestRam, PhysAddr);
        let writes: [Write; 7] = [
            |ram, at| ram.store(at, 1),
            |ram, at| ram.compare_exchange(at, 1, 2).expect("1 was stored"),
            |ram, at| ram.write(at, &[1]),
            |ram, at| ram.write(PhysAddr::new(at.page_down().get() - 1), &[1, 2]),
            |ram, at| ram.zero(at.pfn()),
            |ram, at| ram.copy(F0, at.pfn()),
            |ram, at| ram.release(at.pfn()),
        ];
        for write in writes {
            assert!(ram.mark_code(F1));
            assert!(!ram.mark_code(F1));
            let seen = ram.events();
            write(&ram, at);
            assert!(!ram.is_code(F1));
            assert_eq!(ram.events_since(seen), (Some(vec![CodeEvent::Written(F1)]), seen + 1));
        }
    }

    #[test]
    fn who_lags_too_far_learns_that_events_are_lost() {
        let ram = ram();
        for _ in 0..EVENTS_KEPT {
            ram.mark_code(F0);
            ram.zero(F0);
        }
        let next = 2 * EVENTS_KEPT as u64;
        assert_eq!(ram.events_since(0), (None, next));
        assert_eq!(ram.events_since(next), (Some(vec![]), next));
    }
}
