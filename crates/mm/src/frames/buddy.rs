//! Blocks of 2^order adjacent frames: split on demand, merged when their buddy is free too.
//!
//! ```text
//!   order 2   [    0..4     ]        frame 2 is freed: its buddy at order 0 is 2 ^ 1 = 3,
//!   order 1   [ 0..2 ][ 2..4 ]       free as well, so they merge into 2..4; that one's buddy
//!   order 0   [0][1][2][3]           is 2 ^ 2 = 0 ...
//! ```
//!
//! Free blocks of an order form a list through their metadata, so no memory is needed to free
//! memory. Frame numbers here are relative to the first frame. Linux 6.18 mm/page_alloc.c.

use super::meta::{FrameMeta, FrameState};

/// Largest block: 2^10 frames, 4 MiB (Linux `MAX_PAGE_ORDER`).
pub(crate) const MAX_ORDER: usize = 10;

/// No frame: the end of a list.
const NIL: u32 = u32::MAX;

/// The free lists.
pub(super) struct Buddy {
    heads: [u32; MAX_ORDER + 1],
    free: u64,
}

impl Buddy {
    /// All of `meta`'s frames free.
    pub(super) fn new(meta: &[FrameMeta]) -> Self {
        let mut buddy = Self { heads: [NIL; MAX_ORDER + 1], free: 0 };
        let (mut at, end) = (0, meta.len());
        while at < end {
            let aligned = if at == 0 { MAX_ORDER } else { at.trailing_zeros() as usize };
            let fits = (end - at).ilog2() as usize;
            let order = aligned.min(fits).min(MAX_ORDER);
            buddy.push(meta, at as u32, order);
            buddy.free += 1 << order;
            at += 1 << order;
        }
        // Blocks were pushed upwards, so the highest leads its list; low frames go out first when
        // the lists are turned round.
        for order in 0..=MAX_ORDER {
            buddy.reverse(meta, order);
        }
        buddy
    }

    /// Free frames in the lists.
    pub(super) fn free_frames(&self) -> u64 {
        self.free
    }

    /// Takes a block of 2^`order` frames; its first frame.
    pub(super) fn take(&mut self, meta: &[FrameMeta], order: usize) -> Option<u32> {
        let mut have = (order..=MAX_ORDER).find(|&o| self.heads[o] != NIL)?;
        let block = self.heads[have];
        self.unlink(meta, block, have);
        while have > order {
            have -= 1;
            self.push(meta, block + (1 << have), have);
        }
        self.free -= 1 << order;
        Some(block)
    }

    /// Gives a block back.
    pub(super) fn give(&mut self, meta: &[FrameMeta], block: u32, mut order: usize) {
        self.free += 1 << order;
        let mut block = block;
        meta[block as usize].end(FrameState::Free);
        while order < MAX_ORDER {
            let buddy = block ^ (1 << order);
            let is_free = meta
                .get(buddy as usize)
                .is_some_and(|m| m.state() == FrameState::FreeBlock && m.index() == order as u64);
            if !is_free {
                break;
            }
            self.unlink(meta, buddy, order);
            block = block.min(buddy);
            order += 1;
        }
        self.push(meta, block, order);
    }

    /// The free blocks as `(first frame, order)`, for checking.
    pub(super) fn blocks<'a>(
        &'a self,
        meta: &'a [FrameMeta],
    ) -> impl Iterator<Item = (u32, usize)> + 'a {
        (0..=MAX_ORDER).flat_map(move |order| {
            let first = Some(self.heads[order]).filter(|&head| head != NIL);
            core::iter::successors(first, move |&at| {
                Some(meta[at as usize].next()).filter(|&next| next != NIL)
            })
            .map(move |at| (at, order))
        })
    }

    fn push(&mut self, meta: &[FrameMeta], block: u32, order: usize) {
        let head = self.heads[order];
        let m = &meta[block as usize];
        m.set_index(order as u64);
        m.set_prev(NIL);
        m.set_next(head);
        m.end(FrameState::FreeBlock);
        if head != NIL {
            meta[head as usize].set_prev(block);
        }
        self.heads[order] = block;
    }

    fn unlink(&mut self, meta: &[FrameMeta], block: u32, order: usize) {
        let m = &meta[block as usize];
        let (prev, next) = (m.prev(), m.next());
        match prev {
            NIL => self.heads[order] = next,
            prev => meta[prev as usize].set_next(next),
        }
        if next != NIL {
            meta[next as usize].set_prev(prev);
        }
        m.end(FrameState::Free);
    }

    fn reverse(&mut self, meta: &[FrameMeta], order: usize) {
        let mut at = self.heads[order];
        while at != NIL {
            let m = &meta[at as usize];
            let next = m.next();
            m.set_next(m.prev());
            m.set_prev(next);
            self.heads[order] = at;
            at = next;
        }
    }
}
