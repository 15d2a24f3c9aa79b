//! The blocks a hart has made, by the physical address of their first instruction.
//!
//! Keyed by physical address, code that many processes share is predecoded once. Blocks of a frame
//! come and go together: [`CodeCache::drop_frame`] when the frame was written. A block that starts
//! with an instruction that straddles two frames belongs to both.

use crate::block::SLOTS_MAX;
use crate::op::{Arena, BlockId, OpRef, Slot};
use kilburn_addr::{PAGE_SIZE, Pfn, PhysAddr};
use std::collections::BTreeMap;

/// Chunks of 1 MiB that blocks may take; a full cache is dropped and starts anew.
const CHUNKS_MAX: usize = 24;
/// Places in a frame where an instruction may start.
const STARTS: usize = PAGE_SIZE as usize / 2;

/// Where blocks start in one frame, 0 where none does.
type Starts = Box<[u32; STARTS]>;

/// Finds blocks.
pub(crate) struct CodeCache {
    arena: Arena,
    base: Pfn,
    /// For each frame, 1 + its index in `starts`, or 0.
    frames: Vec<u32>,
    starts: Vec<Starts>,
    /// Indices of `starts` without a frame; all their entries are 0.
    free: Vec<u32>,
    straddling: BTreeMap<(PhysAddr, Pfn), BlockId>,
}

impl CodeCache {
    /// An empty cache for `frames` frames from `base` up.
    pub(crate) fn new(base: Pfn, frames: u64) -> Self {
        Self {
            arena: Arena::new(CHUNKS_MAX),
            base,
            frames: vec![0; frames as usize],
            starts: Vec::new(),
            free: Vec::new(),
            straddling: BTreeMap::new(),
        }
    }

    fn frame_index(&self, frame: Pfn) -> usize {
        (frame.get() - self.base.get()) as usize
    }

    /// The block that starts at `start` and lies in one frame.
    pub(crate) fn get(&self, start: PhysAddr) -> Option<OpRef> {
        let index = self.frames[self.frame_index(start.pfn())].checked_sub(1)?;
        let id = self.starts[index as usize][start.page_offset() as usize / 2];
        (id != 0).then(|| self.arena.get(BlockId(id)))
    }

    /// The block that starts at `start` with an instruction that ends in `second`.
    pub(crate) fn get_straddling(&self, start: PhysAddr, second: Pfn) -> Option<OpRef> {
        self.straddling.get(&(start, second)).map(|id| self.arena.get(*id))
    }

    /// Whether room for another block can only be had by [`Self::clear`].
    pub(crate) fn is_full(&self) -> bool {
        self.arena.is_full_for(SLOTS_MAX)
    }

    /// Keeps a block.
    pub(crate) fn insert(&mut self, start: PhysAddr, slots: &[Slot]) -> OpRef {
        let (block, id) = self.arena.add(slots);
        let frame = self.frame_index(start.pfn());
        if self.frames[frame] == 0 {
            let index = self.free.pop().unwrap_or_else(|| {
                self.starts.push(Box::new([0; STARTS]));
                self.starts.len() as u32 - 1
            });
            self.frames[frame] = index + 1;
        }
        let index = self.frames[frame] as usize - 1;
        self.starts[index][start.page_offset() as usize / 2] = id.0;
        block
    }

    /// Keeps a block of one instruction that ends in `second`.
    pub(crate) fn insert_straddling(
        &mut self,
        start: PhysAddr,
        second: Pfn,
        slots: &[Slot],
    ) -> OpRef {
        let (block, id) = self.arena.add(slots);
        self.straddling.insert((start, second), id);
        block
    }

    /// Forgets the blocks of `frame`. Their slots stay until the cache is cleared.
    pub(crate) fn drop_frame(&mut self, frame: Pfn) {
        let at = self.frame_index(frame);
        if let Some(index) = self.frames[at].checked_sub(1) {
            self.starts[index as usize].fill(0);
            self.free.push(index);
            self.frames[at] = 0;
        }
        self.straddling.retain(|(start, second), _| start.pfn() != frame && *second != frame);
    }

    /// Forgets every block and reuses their slots: no reference to any may be used again.
    pub(crate) fn clear(&mut self) {
        self.arena.clear();
        self.frames.fill(0);
        self.free.clear();
        for (index, starts) in self.starts.iter_mut().enumerate() {
            starts.fill(0);
            self.free.push(index as u32);
        }
        self.straddling.clear();
    }

    /// Bytes of host memory held.
    pub(crate) fn bytes(&self) -> usize {
        self.arena.bytes() + self.starts.len() * size_of::<[u32; STARTS]>()
    }
}
