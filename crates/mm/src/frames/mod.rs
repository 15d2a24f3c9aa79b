//! Frames: what is known of each, and handing them out.
//!
//! [`Frames`] gives single frames from a stack of free ones that takes no lock, and blocks of up
//! to 2^10 frames from a buddy allocator behind a lock; the stack is filled from there and given
//! back to it. Content is not touched here: [`crate::Memory`] zeroes what it hands out.
//!
//! ```text
//!   alloc one --> [stack of free frames] --empty: take 32--> [buddy: lists by order]
//!   free one  -->                        --full: give half back-->
//! ```

mod buddy;
mod meta;

use alloc::boxed::Box;
use buddy::Buddy;
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};
use kilburn_addr::Pfn;
use lock_api::{Mutex, RawMutex};
pub(crate) use meta::{FrameMeta, FrameState};

/// Frames moved between stack and buddy at once: 2^5.
const BATCH_ORDER: usize = 5;
/// The stack gives frames back when it holds this many.
const STACK_MAX: u64 = 1024;
/// Frames put on the stack at once, at most.
const CHAIN_MAX: u64 = 256;

/// All frames of a machine: a physical-memory allocator on its own, and what
/// [`crate::Memory`] builds on.
pub struct Frames<R: RawMutex> {
    first: u64,
    meta: Box<[FrameMeta]>,
    stack: FreeStack,
    buddy: Mutex<R, Buddy>,
    /// Frames in the buddy's lists, readable without its lock.
    buddy_free: AtomicU64,
    peak_used: AtomicU64,
}

/// A stack of free frames, linked through their metadata; one word holds its state:
///
/// ```text
///   63 ........ 44 43 ...... 32 31 ............ 0
///   changes        frames       top frame + 1, or 0
/// ```
///
/// The count of changes tells apart two states with the same top (the ABA problem).
struct FreeStack(AtomicU64);

const TOP_MASK: u64 = 0xffff_ffff;
const COUNT_SHIFT: u32 = 32;
const COUNT_MASK: u64 = 0xfff;
const CHANGE: u64 = 1 << 44;

impl FreeStack {
    #[inline]
    fn len(&self) -> u64 {
        self.0.load(Ordering::Relaxed) >> COUNT_SHIFT & COUNT_MASK
    }

    /// The top frame, and how many are left.
    #[inline]
    fn pop(&self, meta: &[FrameMeta]) -> Option<(u32, u64)> {
        let mut word = self.0.load(Ordering::Acquire);
        loop {
            let top = (word & TOP_MASK).checked_sub(1)? as u32;
            let below = u64::from(meta[top as usize].next());
            let left = (word >> COUNT_SHIFT & COUNT_MASK) - 1;
            let new = (word & !(CHANGE - 1)).wrapping_add(CHANGE) | left << COUNT_SHIFT | below;
            match self.0.compare_exchange_weak(word, new, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Some((top, left)),
                Err(now) => word = now,
            }
        }
    }

    /// Puts a frame on top; how many there are then.
    #[inline]
    fn push(&self, meta: &[FrameMeta], frame: u32) -> u64 {
        self.push_chain(meta, frame, frame, 1)
    }

    /// Puts `frames` frames on top that are linked from `top` down to `bottom`; how many there are
    /// then.
    #[inline]
    fn push_chain(&self, meta: &[FrameMeta], top: u32, bottom: u32, frames: u64) -> u64 {
        let mut word = self.0.load(Ordering::Relaxed);
        loop {
            meta[bottom as usize].set_next((word & TOP_MASK) as u32);
            let count = (word >> COUNT_SHIFT & COUNT_MASK) + frames;
            assert!(count <= COUNT_MASK, "the stack gives frames back long before");
            let new = (word & !(CHANGE - 1)).wrapping_add(CHANGE)
                | count << COUNT_SHIFT
                | (u64::from(top) + 1);
            match self.0.compare_exchange_weak(word, new, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return count,
                Err(now) => word = now,
            }
        }
    }
}

impl<R: RawMutex> Frames<R> {
    /// All of `frames` free.
    ///
    /// # Panics
    /// When there are 2^32 - 2 frames or more; the caller has checked.
    pub fn new(frames: Range<Pfn>) -> Self {
        let count = frames.end.get().saturating_sub(frames.start.get());
        assert!(count < u64::from(u32::MAX) - 1);
        let meta: Box<[FrameMeta]> = (0..count).map(|_| FrameMeta::default()).collect();
        let buddy = Buddy::new(&meta);
        Self {
            first: frames.start.get(),
            buddy: Mutex::new(buddy),
            buddy_free: AtomicU64::new(count),
            stack: FreeStack(AtomicU64::new(0)),
            peak_used: AtomicU64::new(0),
            meta,
        }
    }

    /// Number of all frames.
    #[inline]
    pub fn total(&self) -> u64 {
        self.meta.len() as u64
    }

    /// Number of frames not in use.
    pub fn free(&self) -> u64 {
        self.buddy_free.load(Ordering::Relaxed) + self.stack.len()
    }

    /// Most frames in use at once so far.
    pub fn peak_used(&self) -> u64 {
        self.peak_used.load(Ordering::Relaxed)
    }

    /// Whether `pfn` is one of these frames; others belong to devices.
    #[inline]
    pub(crate) fn contains(&self, pfn: Pfn) -> bool {
        pfn.get().wrapping_sub(self.first) < self.total()
    }

    /// What is known of a frame.
    ///
    /// # Panics
    /// When it is none of these frames.
    #[inline]
    pub(crate) fn meta(&self, pfn: Pfn) -> &FrameMeta {
        &self.meta[pfn.get().wrapping_sub(self.first) as usize]
    }

    /// Metadata of every frame, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Pfn, &FrameMeta)> {
        let first = self.first;
        self.meta.iter().enumerate().map(move |(i, m)| (Pfn::new(first + i as u64), m))
    }

    /// A frame, content unspecified; `None` when there is none. Its use is to be begun by the
    /// caller (`FrameMeta::begin`).
    #[inline]
    pub fn alloc(&self) -> Option<Pfn> {
        loop {
            if let Some((frame, left)) = self.stack.pop(&self.meta) {
                self.note_used(left);
                return Some(Pfn::new(self.first + u64::from(frame)));
            }
            self.refill()?;
        }
    }

    /// A block of 2^`order` adjacent frames, aligned to its size from the first frame on.
    pub fn alloc_block(&self, order: usize) -> Option<Pfn> {
        if order == 0 {
            return self.alloc();
        }
        let mut buddy = self.buddy.lock();
        let block = match buddy.take(&self.meta, order) {
            Some(block) => block,
            None => {
                self.drain(&mut buddy, 0);
                buddy.take(&self.meta, order)?
            }
        };
        self.buddy_free.store(buddy.free_frames(), Ordering::Relaxed);
        drop(buddy);
        // One mark for the whole block: its other frames are not looked at until it comes back.
        self.meta[block as usize].begin(FrameState::Allocated, 0, order as u64);
        self.note_used(self.stack.len());
        Some(Pfn::new(self.first + u64::from(block)))
    }

    /// Takes a frame back. Nothing refers to it any more.
    #[inline]
    pub fn free_frame(&self, pfn: Pfn) {
        let frame = (pfn.get() - self.first) as u32;
        self.meta[frame as usize].end(FrameState::Free);
        if self.stack.push(&self.meta, frame) >= STACK_MAX {
            self.give_back();
        }
    }

    /// Takes frames back, in the order given: the last is the next to be handed out.
    pub(crate) fn free_frames(&self, frames: impl Iterator<Item = Pfn>) {
        let (mut top, mut bottom, mut linked) = (0, 0, 0);
        for pfn in frames {
            let frame = (pfn.get() - self.first) as u32;
            let meta = &self.meta[frame as usize];
            meta.end(FrameState::Free);
            if linked == 0 {
                bottom = frame;
            } else {
                meta.set_next(top + 1);
            }
            top = frame;
            linked += 1;
            if linked == CHAIN_MAX {
                self.push_chain(top, bottom, linked);
                linked = 0;
            }
        }
        if linked > 0 {
            self.push_chain(top, bottom, linked);
        }
    }

    fn push_chain(&self, top: u32, bottom: u32, frames: u64) {
        if self.stack.push_chain(&self.meta, top, bottom, frames) >= STACK_MAX {
            self.give_back();
        }
    }

    /// Takes a block back as a whole.
    pub fn free_block(&self, pfn: Pfn, order: usize) {
        if order == 0 {
            return self.free_frame(pfn);
        }
        let block = (pfn.get() - self.first) as u32;
        let mut buddy = self.buddy.lock();
        buddy.give(&self.meta, block, order);
        self.buddy_free.store(buddy.free_frames(), Ordering::Relaxed);
    }

    /// Compares lists and metadata; used by the invariant checker while nothing else runs.
    ///
    /// # Errors
    /// What is wrong.
    pub(crate) fn check(&self) -> Result<(), &'static str> {
        let mut buddy = self.buddy.lock();
        self.drain(&mut buddy, 0);
        self.buddy_free.store(buddy.free_frames(), Ordering::Relaxed);
        let mut listed = 0;
        let mut free = alloc::vec![false; self.meta.len()];
        for (block, order) in buddy.blocks(&self.meta) {
            listed += 1 << order;
            for seen in &mut free[block as usize..block as usize + (1 << order)] {
                if core::mem::replace(seen, true) {
                    return Err("a frame is in two free blocks");
                }
            }
        }
        if listed != buddy.free_frames() {
            return Err("the free count differs from the free lists");
        }
        let mut inside = 0_u64;
        for (m, free) in self.meta.iter().zip(free) {
            if inside > 0 {
                inside -= 1;
                if free {
                    return Err("a frame of a block that is in use is free");
                }
                continue;
            }
            if m.state() == FrameState::Allocated {
                inside = (1 << m.index()) - 1;
            }
            let marked = matches!(m.state(), FrameState::Free | FrameState::FreeBlock);
            if marked != free {
                return Err("a frame's state differs from the free lists");
            }
            if free && (m.refs() != 0 || m.maps() != 0) {
                return Err("a free frame is referred to");
            }
        }
        Ok(())
    }

    #[inline]
    fn note_used(&self, stacked: u64) {
        let used =
            self.total() - (self.buddy_free.load(Ordering::Relaxed) + stacked).min(self.total());
        if used > self.peak_used.load(Ordering::Relaxed) {
            self.peak_used.fetch_max(used, Ordering::Relaxed);
        }
    }

    #[cold]
    fn refill(&self) -> Option<()> {
        let mut buddy = self.buddy.lock();
        if self.stack.len() > 0 {
            return Some(());
        }
        let (block, order) = (0..=BATCH_ORDER)
            .rev()
            .find_map(|order| Some((buddy.take(&self.meta, order)?, order)))?;
        // Highest first, so that frames go out in rising order.
        for frame in (block..block + (1 << order)).rev() {
            self.stack.push(&self.meta, frame);
        }
        self.buddy_free.store(buddy.free_frames(), Ordering::Relaxed);
        Some(())
    }

    #[cold]
    fn give_back(&self) {
        let mut buddy = self.buddy.lock();
        self.drain(&mut buddy, STACK_MAX / 2);
        self.buddy_free.store(buddy.free_frames(), Ordering::Relaxed);
    }

    fn drain(&self, buddy: &mut Buddy, keep: u64) {
        while self.stack.len() > keep {
            let Some((frame, _)) = self.stack.pop(&self.meta) else { return };
            buddy.give(&self.meta, frame, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::buddy::MAX_ORDER;
    use super::*;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    type TestFrames = Frames<parking_lot::RawMutex>;

    fn frames(count: u64) -> TestFrames {
        Frames::new(Pfn::new(0x8_0000)..Pfn::new(0x8_0000 + count))
    }

    #[test]
    fn every_frame_can_be_had_once() {
        let frames = frames(1000);
        let mut got: Vec<Pfn> = core::iter::from_fn(|| {
            let pfn = frames.alloc()?;
            frames.meta(pfn).begin(FrameState::Kernel, 0, 0);
            Some(pfn)
        })
        .collect();
        assert_eq!(got.len(), 1000);
        assert_eq!((frames.free(), frames.peak_used()), (0, 1000));
        got.sort();
        got.dedup();
        assert_eq!(got.len(), 1000);
        for pfn in got {
            frames.free_frame(pfn);
        }
        assert_eq!(frames.free(), 1000);
        frames.check().expect("consistent");
        assert!(frames.alloc_block(9).is_some(), "freed frames merge into blocks");
    }

    #[test]
    fn blocks_are_aligned_and_the_stack_is_given_up_for_them() {
        let frames = frames(1024);
        let one = frames.alloc().expect("free");
        frames.free_frame(one);
        let block = frames.alloc_block(MAX_ORDER).expect("all frames are free");
        assert_eq!(block, Pfn::new(0x8_0000));
        assert!(frames.alloc().is_none());
        frames.free_block(block, MAX_ORDER);
        assert_eq!(frames.free(), 1024);
    }

    proptest! {
        #[test]
        fn any_sequence_keeps_lists_and_metadata_together(
            count in 1_u64..3000,
            steps in prop::collection::vec((0_usize..=MAX_ORDER, any::<u16>()), 1..200),
        ) {
            let frames = frames(count);
            let mut held: Vec<(Pfn, usize)> = Vec::new();
            for (order, choice) in steps {
                if choice % 3 == 0 && !held.is_empty() {
                    let (pfn, order) = held.swap_remove(choice as usize % held.len());
                    frames.free_block(pfn, order);
                } else if let Some(pfn) = frames.alloc_block(order % 4 * (order % 3)) {
                    let order = order % 4 * (order % 3);
                    for (other, o) in &held {
                        prop_assert!(pfn.get() + (1 << order) <= other.get()
                            || other.get() + (1 << o) <= pfn.get());
                    }
                    if order == 0 {
                        frames.meta(pfn).begin(FrameState::Kernel, 0, 0);
                    }
                    held.push((pfn, order));
                }
                let used: u64 = held.iter().map(|(_, order)| 1 << order).sum();
                prop_assert_eq!(frames.free(), count - used);
                frames.check().map_err(TestCaseError::fail)?;
            }
        }
    }
}
