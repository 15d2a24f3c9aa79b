//! Frames: what is known of each, and handing them out.
//!
//! [`Frames`] gives single frames from magazines, one for each CPU, that take no lock (Linux: the
//! lists of `struct per_cpu_pages`), and blocks of up to 2^10 frames from a buddy allocator behind a
//! lock; magazines are filled from there and give back to it. Content is not touched here:
//! [`crate::Memory`] zeroes what it hands out.
//!
//! ```text
//!   alloc one --> [magazine of CPU 0] --empty: take 32 or more--> [buddy: lists by order]
//!   free one  -->                     --full: give half back---->
//!   alloc one --> [magazine of CPU 1]       "
//! ```
//!
//! A magazine that is emptied again and again takes twice as many each time (Linux
//! `pcp->alloc_factor`), so CPUs that take many frames seldom meet at the buddy. It is given adjacent
//! frames, 32 at least, so two CPUs do not write to one line of metadata. Who finds the own magazine
//! and the buddy empty takes from other CPUs' magazines.

mod buddy;
mod meta;

use crate::percpu::{Padded, PerCpu};
use alloc::boxed::Box;
use buddy::Buddy;
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};
use kilburn_addr::Pfn;
use lock_api::{Mutex, RawMutex};
pub(crate) use meta::{FrameMeta, FrameState};

/// Frames moved from the buddy into a magazine at once: 2^5, and more once it took that many.
const BATCH_ORDER: u64 = 5;
/// Of as many frames as a magazine may hold, one in 2^2 at most is moved into it at once.
const BATCH_SHARE_ORDER: u64 = 2;
/// A magazine gives frames back when it holds this many; fewer if there are many CPUs.
const MAGAZINE_MAX: u64 = 1024;
/// Magazines together hold a frame in this many, if that leaves each of them a few batches.
const MAGAZINES_SHARE: u64 = 8;
/// Frames put into a magazine at once, at most.
const CHAIN_MAX: u64 = 256;

/// All frames of a machine: a physical-memory allocator on its own, and what
/// [`crate::Memory`] builds on.
pub struct Frames<R: RawMutex> {
    first: u64,
    meta: Box<[FrameMeta]>,
    magazines: PerCpu<Magazine>,
    /// Frames at which a magazine gives back.
    magazine_max: u64,
    central: Padded<Central<R>>,
    /// Frames in the buddy's lists, readable without its lock.
    buddy_free: Padded<AtomicU64>,
}

/// What all magazines are filled from.
struct Central<R: RawMutex> {
    buddy: Mutex<R, Buddy>,
    peak_used: AtomicU64,
}

/// Free frames of one CPU.
#[derive(Default)]
struct Magazine {
    stack: FreeStack,
    /// Fewest frames in it since its CPU last looked at how many are in use.
    low: AtomicU64,
    /// It was filled so many times more than it gave back.
    fills: AtomicU64,
}

impl Magazine {
    #[inline]
    fn pop(&self, meta: &[FrameMeta]) -> Option<u32> {
        let (frame, left) = self.stack.pop(meta)?;
        // No other CPU writes here, unless the host's hints are wrong: then a low may be lost.
        if left < self.low.load(Ordering::Relaxed) {
            self.low.store(left, Ordering::Relaxed);
        }
        Some(frame)
    }

    fn reset_low(&self) {
        self.low.store(self.stack.len(), Ordering::Relaxed);
    }

    /// Order of the block to fill it with, when it may hold `most` frames.
    fn next_batch_order(&self, most: u64) -> usize {
        let highest = (u64::from(most.ilog2()) - BATCH_SHARE_ORDER).max(BATCH_ORDER);
        let order = (BATCH_ORDER + self.fills.load(Ordering::Relaxed)).min(highest);
        // No more are remembered than count, so that giving back soon makes it take fewer.
        self.fills.store(order + 1 - BATCH_ORDER, Ordering::Relaxed);
        order as usize
    }

    fn note_give_back(&self) {
        let fills = self.fills.load(Ordering::Relaxed);
        self.fills.store(fills / 2, Ordering::Relaxed);
    }
}

/// A stack of free frames, linked through their metadata; one word holds its state:
///
/// ```text
///   63 ........ 44 43 ...... 32 31 ............ 0
///   changes        frames       top frame + 1, or 0
/// ```
///
/// The count of changes tells apart two states with the same top (the ABA problem).
#[derive(Default)]
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

    /// Puts `frames` frames on top that are linked from `top` down to `bottom`; how many there are
    /// then. `None`: that is more than can be counted, and nothing was done.
    #[inline]
    fn push_chain(&self, meta: &[FrameMeta], top: u32, bottom: u32, frames: u64) -> Option<u64> {
        let mut word = self.0.load(Ordering::Relaxed);
        loop {
            meta[bottom as usize].set_next((word & TOP_MASK) as u32);
            let count = (word >> COUNT_SHIFT & COUNT_MASK) + frames;
            if count > COUNT_MASK {
                return None;
            }
            let new = (word & !(CHANGE - 1)).wrapping_add(CHANGE)
                | count << COUNT_SHIFT
                | (u64::from(top) + 1);
            match self.0.compare_exchange_weak(word, new, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return Some(count),
                Err(now) => word = now,
            }
        }
    }
}

impl<R: RawMutex> Frames<R> {
    /// All of `frames` free, on a machine of `cpus` CPUs.
    ///
    /// # Panics
    /// When there are 2^32 - 2 frames or more; the caller has checked.
    pub fn new(frames: Range<Pfn>, cpus: usize) -> Self {
        let count = frames.end.get().saturating_sub(frames.start.get());
        assert!(count < u64::from(u32::MAX) - 1);
        let meta: Box<[FrameMeta]> = (0..count).map(|_| FrameMeta::default()).collect();
        let buddy = Buddy::new(&meta);
        let magazines = PerCpu::new(cpus, Magazine::default);
        let magazine_max = match magazines.len() as u64 {
            1 => MAGAZINE_MAX,
            cpus => (count / MAGAZINES_SHARE / cpus)
                .clamp(1 << (BATCH_ORDER + BATCH_SHARE_ORDER), MAGAZINE_MAX),
        };
        Self {
            first: frames.start.get(),
            central: Padded(Central { buddy: Mutex::new(buddy), peak_used: AtomicU64::new(0) }),
            buddy_free: Padded(AtomicU64::new(count)),
            magazines,
            magazine_max,
            meta,
        }
    }

    /// Number of all frames.
    #[inline]
    pub fn total(&self) -> u64 {
        self.meta.len() as u64
    }

    /// The first frame.
    #[inline]
    pub(crate) fn first(&self) -> Pfn {
        Pfn::new(self.first)
    }

    /// Number of frames not in use.
    pub fn free(&self) -> u64 {
        let cached: u64 = self.magazines.iter().map(|magazine| magazine.stack.len()).sum();
        self.buddy_free.0.load(Ordering::Relaxed) + cached
    }

    /// Whether more than `frames` are not in use. What other CPUs' magazines hold is only counted when
    /// it matters.
    #[inline]
    pub(crate) fn has_more_free_than(&self, frames: u64, cpu: usize) -> bool {
        let near = self.buddy_free.0.load(Ordering::Relaxed) + self.magazines.of(cpu).stack.len();
        near > frames || (self.magazines.len() > 1 && self.free() > frames)
    }

    /// Most frames in use at once so far. Exact with one CPU; with more, each CPU's own peaks are added
    /// up, which is too much by what their magazines can hold at most.
    pub fn peak_used(&self) -> u64 {
        self.note_peak();
        self.central.0.peak_used.load(Ordering::Relaxed)
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

    /// A frame for somebody on `cpu`, content unspecified; `None` when there is none. Its use is to be
    /// begun by the caller (`FrameMeta::begin`).
    #[inline]
    pub fn alloc(&self, cpu: usize) -> Option<Pfn> {
        let frame = match self.magazines.of(cpu).pop(&self.meta) {
            Some(frame) => frame,
            None => self.alloc_refilling(cpu)?,
        };
        Some(Pfn::new(self.first + u64::from(frame)))
    }

    /// A block of 2^`order` adjacent frames, aligned to its size from the first frame on.
    pub fn alloc_block(&self, order: usize, cpu: usize) -> Option<Pfn> {
        if order == 0 {
            return self.alloc(cpu);
        }
        let mut buddy = self.central.0.buddy.lock();
        self.note_peak();
        let block = buddy.take(&self.meta, order).or_else(|| {
            self.drain_all(&mut buddy);
            buddy.take(&self.meta, order)
        });
        self.buddy_free.0.store(buddy.free_frames(), Ordering::Relaxed);
        self.magazines.of(cpu).reset_low();
        drop(buddy);
        let block = block?;
        // One mark for the whole block: its other frames are not looked at until it comes back.
        self.meta[block as usize].begin(FrameState::Allocated, 0, order as u64);
        Some(Pfn::new(self.first + u64::from(block)))
    }

    /// Takes a frame back from somebody on `cpu`. Nothing refers to it any more.
    #[inline]
    pub fn free_frame(&self, pfn: Pfn, cpu: usize) {
        let frame = (pfn.get() - self.first) as u32;
        self.meta[frame as usize].end(FrameState::Free);
        self.put_chain(self.magazines.of(cpu), frame, frame, 1);
    }

    /// Takes frames back, in the order given: the last is the next to be handed out.
    pub(crate) fn free_frames(&self, frames: impl Iterator<Item = Pfn>, cpu: usize) {
        self.free_each(frames, cpu, |meta| meta.end(FrameState::Free));
    }

    /// As [`Self::free_frames`], for frames full of zeros: who gets one next need not fill it, if that is
    /// soon (`FrameMeta::is_zeroed`).
    pub(crate) fn free_zeroed(&self, frames: impl Iterator<Item = Pfn>, cpu: usize) {
        self.free_each(frames, cpu, FrameMeta::end_zeroed);
    }

    #[inline]
    fn free_each(&self, frames: impl Iterator<Item = Pfn>, cpu: usize, end: impl Fn(&FrameMeta)) {
        let (mut top, mut bottom, mut linked) = (0, 0, 0);
        for pfn in frames {
            let frame = (pfn.get() - self.first) as u32;
            let meta = &self.meta[frame as usize];
            end(meta);
            if linked == 0 {
                bottom = frame;
            } else {
                meta.set_next(top + 1);
            }
            top = frame;
            linked += 1;
            if linked == CHAIN_MAX {
                self.put_chain(self.magazines.of(cpu), top, bottom, linked);
                linked = 0;
            }
        }
        if linked > 0 {
            self.put_chain(self.magazines.of(cpu), top, bottom, linked);
        }
    }

    /// Puts frames linked from `top` down to `bottom` into a magazine, or gives back what is too many.
    #[inline]
    fn put_chain(&self, magazine: &Magazine, top: u32, bottom: u32, frames: u64) {
        match magazine.stack.push_chain(&self.meta, top, bottom, frames) {
            Some(count) if count < self.magazine_max => {}
            Some(_) => self.give_back(magazine),
            None => self.give_chain(top, frames),
        }
    }

    /// Takes a block back as a whole.
    pub fn free_block(&self, pfn: Pfn, order: usize, cpu: usize) {
        if order == 0 {
            return self.free_frame(pfn, cpu);
        }
        let block = (pfn.get() - self.first) as u32;
        let mut buddy = self.central.0.buddy.lock();
        self.note_peak();
        buddy.give(&self.meta, block, order);
        self.buddy_free.0.store(buddy.free_frames(), Ordering::Relaxed);
        self.magazines.of(cpu).reset_low();
    }

    /// Compares lists and metadata; used by the invariant checker while nothing else runs.
    ///
    /// # Errors
    /// What is wrong.
    pub(crate) fn check(&self) -> Result<(), &'static str> {
        let mut buddy = self.central.0.buddy.lock();
        self.note_peak();
        self.drain_all(&mut buddy);
        self.buddy_free.0.store(buddy.free_frames(), Ordering::Relaxed);
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

    /// Notes the most frames in use since the buddy last changed. Called before it changes again.
    fn note_peak(&self) {
        let unused: u64 =
            self.magazines.iter().map(|magazine| magazine.low.load(Ordering::Relaxed)).sum();
        let used = self.total().saturating_sub(self.buddy_free.0.load(Ordering::Relaxed) + unused);
        if used > self.central.0.peak_used.load(Ordering::Relaxed) {
            self.central.0.peak_used.fetch_max(used, Ordering::Relaxed);
        }
    }

    #[cold]
    fn alloc_refilling(&self, cpu: usize) -> Option<u32> {
        let magazine = self.magazines.of(cpu);
        let batch = magazine.next_batch_order(self.magazine_max);
        while let Some((block, order)) = self.take_block_up_to(batch) {
            // Lowest on top, so that frames go out in rising order.
            let last = block + (1 << order) - 1;
            for frame in block..last {
                self.meta[frame as usize].set_next(frame + 2);
            }
            self.put_chain(magazine, block, last, 1 << order);
            magazine.reset_low();
            if let Some(frame) = magazine.pop(&self.meta) {
                return Some(frame);
            }
        }
        // Whoever has frames to spare.
        self.magazines.others_first(cpu).find_map(|other| other.pop(&self.meta))
    }

    /// A block out of the buddy, of the highest order there is up to `order`.
    fn take_block_up_to(&self, order: usize) -> Option<(u32, usize)> {
        let mut buddy = self.central.0.buddy.lock();
        self.note_peak();
        let taken =
            (0..=order).rev().find_map(|order| Some((buddy.take(&self.meta, order)?, order)));
        self.buddy_free.0.store(buddy.free_frames(), Ordering::Relaxed);
        taken
    }

    #[cold]
    fn give_back(&self, magazine: &Magazine) {
        let mut buddy = self.central.0.buddy.lock();
        self.note_peak();
        self.drain(magazine, &mut buddy, self.magazine_max / 2);
        magazine.note_give_back();
        self.buddy_free.0.store(buddy.free_frames(), Ordering::Relaxed);
        magazine.reset_low();
    }

    /// Gives frames linked from `top` down to the buddy. So many get there only when many threads
    /// are told that they are on one CPU.
    #[cold]
    fn give_chain(&self, mut top: u32, frames: u64) {
        let mut buddy = self.central.0.buddy.lock();
        self.note_peak();
        for _ in 0..frames {
            let below = self.meta[top as usize].next().wrapping_sub(1);
            buddy.give(&self.meta, top, 0);
            top = below;
        }
        self.buddy_free.0.store(buddy.free_frames(), Ordering::Relaxed);
    }

    fn drain_all(&self, buddy: &mut Buddy) {
        for magazine in self.magazines.iter() {
            self.drain(magazine, buddy, 0);
        }
    }

    fn drain(&self, magazine: &Magazine, buddy: &mut Buddy, keep: u64) {
        while magazine.stack.len() > keep {
            let Some(frame) = magazine.pop(&self.meta) else { return };
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
        Frames::new(Pfn::new(0x8_0000)..Pfn::new(0x8_0000 + count), 1)
    }

    #[test]
    fn every_frame_can_be_had_once() {
        let frames = frames(1000);
        let mut got: Vec<Pfn> = core::iter::from_fn(|| {
            let pfn = frames.alloc(0)?;
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
            frames.free_frame(pfn, 0);
        }
        assert_eq!(frames.free(), 1000);
        frames.check().expect("consistent");
        assert!(frames.alloc_block(9, 0).is_some(), "freed frames merge into blocks");
    }

    #[test]
    fn blocks_are_aligned_and_the_stack_is_given_up_for_them() {
        let frames = frames(1024);
        let one = frames.alloc(0).expect("free");
        frames.free_frame(one, 0);
        let block = frames.alloc_block(MAX_ORDER, 0).expect("all frames are free");
        assert_eq!(block, Pfn::new(0x8_0000));
        assert!(frames.alloc(0).is_none());
        frames.free_block(block, MAX_ORDER, 0);
        assert_eq!(frames.free(), 1024);
    }

    proptest! {
        #[test]
        fn any_sequence_keeps_lists_and_metadata_together(
            count in 1_u64..3000,
            cpus in prop::sample::select(&[1_usize, 2, 8][..]),
            steps in prop::collection::vec((0_usize..=MAX_ORDER, any::<u16>()), 1..200),
        ) {
            let frames: TestFrames = Frames::new(Pfn::new(0x8_0000)..Pfn::new(0x8_0000 + count), cpus);
            let mut held: Vec<(Pfn, usize)> = Vec::new();
            let mut peak = 0;
            for (order, choice) in steps {
                let cpu = choice as usize / 7;
                if choice % 3 == 0 && !held.is_empty() {
                    let (pfn, order) = held.swap_remove(choice as usize % held.len());
                    frames.free_block(pfn, order, cpu);
                } else if let Some(pfn) = frames.alloc_block(order % 4 * (order % 3), cpu) {
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
                peak = peak.max(used);
                prop_assert_eq!(frames.free(), count - used);
                prop_assert!(used + 1 > count || frames.has_more_free_than(count - used - 1, cpu));
                prop_assert!(!frames.has_more_free_than(count - used, cpu));
                if choice % 11 == 0 {
                    frames.check().map_err(TestCaseError::fail)?;
                }
            }
            frames.check().map_err(TestCaseError::fail)?;
            let counted = frames.peak_used();
            let most = if cpus == 1 { peak } else { count };
            prop_assert!((peak..=most).contains(&counted), "{} of {}", counted, peak);
        }
    }

    #[test]
    fn what_was_an_empty_table_is_known_to_be_zeros_until_it_is_used() {
        let frames = frames(64);
        let table = frames.alloc(0).expect("free");
        assert!(!frames.meta(table).is_zeroed());
        frames.meta(table).begin(FrameState::Table, 0, 0);
        frames.free_zeroed([table].into_iter(), 0);
        frames.check().expect("consistent");
        let table = frames.alloc(0).expect("free");
        assert!(!frames.meta(table).is_zeroed(), "the check gave it back to the buddy");
        frames.free_zeroed([table].into_iter(), 0);
        assert_eq!(frames.alloc(0), Some(table));
        assert!(frames.meta(table).is_zeroed());
        frames.meta(table).begin_anon_mapped(1, 0);
        assert!(!frames.meta(table).is_zeroed());
        frames.free_frame(table, 0);
        assert!(!frames.meta(frames.alloc(0).expect("free")).is_zeroed());
    }

    #[test]
    fn more_frames_than_a_magazine_counts_go_to_the_buddy() {
        let frames = frames(8192);
        let taken: Vec<Pfn> = core::iter::from_fn(|| frames.alloc(0)).collect();
        let linked = |number: usize| (taken[number].get() - 0x8_0000) as u32;
        for &pfn in &taken {
            frames.meta(pfn).end(FrameState::Free);
        }
        for (before, &pfn) in taken[1..].iter().enumerate() {
            frames.meta(pfn).set_next(linked(before) + 1);
        }
        let magazine = frames.magazines.of(0);
        let half = |to: usize| (linked(to - 1), linked(to - 4096), 4096);
        let (top, bottom, count) = half(4096);
        assert_eq!(magazine.stack.push_chain(&frames.meta, top, bottom, count), None);
        frames.put_chain(magazine, top, bottom, count);
        assert_eq!((frames.free(), magazine.stack.len()), (4096, 0));
        let (top, bottom, _) = half(8192);
        frames.put_chain(magazine, linked(8190), bottom, 4095);
        frames.put_chain(magazine, top, top, 1);
        assert_eq!(frames.free(), 8192);
        frames.check().expect("consistent");
    }

    #[test]
    fn who_takes_many_frames_meets_the_buddy_seldom() {
        let frames = frames(1 << 14);
        let mut fills = 0;
        let got: Vec<Pfn> = (0..4000)
            .filter_map(|_| {
                fills += usize::from(frames.magazines.of(0).stack.len() == 0);
                frames.alloc(0)
            })
            .collect();
        assert_eq!(got.len(), 4000);
        assert!(fills < 4000 / 256 + 5, "{fills} times");
        got.iter().for_each(|&pfn| frames.free_frame(pfn, 0));
        frames.check().expect("consistent");
    }

    #[test]
    fn the_last_frames_are_found_in_other_magazines() {
        let frames: TestFrames = Frames::new(Pfn::new(0)..Pfn::new(64), 4);
        let got: Vec<Pfn> = core::iter::from_fn(|| frames.alloc(1)).collect();
        assert_eq!(got.len(), 64);
        got.iter().for_each(|&pfn| frames.free_frame(pfn, 3));
        assert_eq!((0..64).filter_map(|cpu| frames.alloc(cpu)).count(), 64);
        assert_eq!((frames.alloc(0), frames.free(), frames.peak_used()), (None, 0, 64));
    }
}
