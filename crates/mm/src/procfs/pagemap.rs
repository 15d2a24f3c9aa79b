//! /proc/PID/pagemap (Linux 6.18 fs/proc/task_mmu.c: `pagemap_pmd_range`).
//!
//! ```text
//!   63       62    61         60..59  58     57  56         55          54 ........ 0
//!   present  swap  file/shared   -    guard  -   mapped     soft-dirty  frame number
//!                                                once
//! ```
//!
//! Markers show as swapped pages of the type after the last: 4 is a guard, 2 a poisoned page.

use crate::frames::FrameState;
use crate::pte::{Marker, SwapFlags, SwapPte};
use crate::{Host, Mm};
use kilburn_addr::{AddrRange, PAGE_SHIFT, VirtAddr};
use kilburn_paging::{Entry, Leaf, LeafFlags};

const FRAME_MASK: u64 = (1 << 55) - 1;
const SOFT_DIRTY: u64 = 1 << 55;
const MAPPED_ONCE: u64 = 1 << 56;
const GUARD: u64 = 1 << 58;
const SWAP: u64 = 1 << 62;
const FILE: u64 = 1 << 61;
const PRESENT: u64 = 1 << 63;

/// Whether frame numbers are shown (`CAP_SYS_ADMIN`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ShowFrames {
    /// They are.
    Yes,
    /// They read as 0.
    No,
}

impl<H: Host> Mm<H> {
    /// Fills `entries` with what pagemap says of the pages from page number `first` on.
    pub fn pagemap(&self, first: u64, entries: &mut [u64], show: ShowFrames) {
        entries.fill(0);
        let _state = self.mmap_read_lock();
        let start = VirtAddr::from_vpn(first).filter(|start| self.in_task(*start, 1));
        let Some(start) = start else { return };
        let room = self.layout().task_size().get() - start.get();
        let len = (entries.len() as u64).saturating_mul(1 << PAGE_SHIFT).min(room);
        let Some(range) = AddrRange::with_len(start, len) else { return };
        self.for_each_leaf(range, |guard, span| {
            for (va, at) in span.entries() {
                let entry = match guard.entry(at) {
                    Entry::Leaf(leaf) => self.pagemap_entry(leaf, show),
                    Entry::Software(payload) => match SwapPte::from_payload(payload) {
                        Some(swapped) => swapped_entry(swapped, show),
                        None => match Marker::from_payload(payload) {
                            Some(marker) => marker_entry(marker, show),
                            None => continue,
                        },
                    },
                    _ => continue,
                };
                entries[(va.vpn() - first) as usize] = entry;
            }
        });
    }

    fn pagemap_entry(&self, leaf: Leaf, show: ShowFrames) -> u64 {
        let mut entry = PRESENT;
        if show == ShowFrames::Yes {
            entry |= leaf.pfn.get() & FRAME_MASK;
        }
        if leaf.flags.contains(LeafFlags::SOFT_DIRTY) {
            entry |= SOFT_DIRTY;
        }
        if !leaf.flags.contains(LeafFlags::SPECIAL) {
            let meta = self.memory().meta(leaf.pfn);
            if meta.state() != FrameState::Anon {
                entry |= FILE;
            }
            if meta.maps() == 1 {
                entry |= MAPPED_ONCE;
            }
        }
        entry
    }
}

/// `SWP_PTE_MARKER`: the last of the types that 5 bits can tell.
const MARKER_TYPE: u64 = 31;
const TYPE_BITS: u32 = 5;

fn marker_entry(marker: Marker, show: ShowFrames) -> u64 {
    let (kind, flags) = match marker {
        Marker::Guard => (4, SWAP | GUARD),
        Marker::Poisoned => (2, SWAP),
    };
    match show {
        ShowFrames::Yes => flags | kind << TYPE_BITS | MARKER_TYPE,
        ShowFrames::No => flags,
    }
}

/// What pagemap says of a page in swap.
fn swapped_entry(swapped: SwapPte, show: ShowFrames) -> u64 {
    let mut entry = SWAP;
    if show == ShowFrames::Yes {
        entry |= u64::from(swapped.entry.slot) << TYPE_BITS | u64::from(swapped.entry.area);
    }
    if swapped.flags.contains(SwapFlags::SOFT_DIRTY) {
        entry |= SOFT_DIRTY;
    }
    entry
}
