//! The kernel underneath as a contestant: anonymous memory by real system calls, no huge pages.

use kilburn_addr::PAGE_SIZE;
use memmap2::{Advice, Mmap, MmapMut, MmapOptions};
use std::time::Duration;

/// mmap(2) of private anonymous memory; dropping it is munmap(2).
///
/// # Panics
/// When the kernel refuses.
pub(super) fn map(pages: u64) -> MmapMut {
    let memory = MmapMut::map_anon((pages * PAGE_SIZE) as usize).expect("the kernel has memory");
    if pages > 1 {
        // A kernel without huge pages refuses, and is right.
        let _ = memory.advise(Advice::NoHugePage);
    }
    memory
}

/// Writes to each page.
pub(super) fn touch(memory: &mut [u8]) {
    memory.iter_mut().step_by(PAGE_SIZE as usize).for_each(|byte| *byte = 1);
}

/// Does something to regions of `pages` pages until `count` are done.
pub(super) fn rounds(
    count: u64,
    pages: u64,
    mut round: impl FnMut() -> Duration,
) -> (u64, Duration) {
    let rounds = count.div_ceil(pages);
    (rounds * pages, (0..rounds).map(|_| round()).sum())
}

/// Areas that only fill an address space.
pub(super) type Crowd = (Vec<Mmap>, Vec<MmapMut>);

/// So many areas of three pages that do not merge, as every second one is read-only; `None` when the kernel does not let a
/// process have as many (`vm.max_map_count`).
pub(super) fn crowd(count: u64) -> Option<Crowd> {
    let (mut fixed, mut writable) = (Vec::new(), Vec::new());
    for number in 0..count {
        let memory = MmapOptions::new().len(3 * PAGE_SIZE as usize).map_anon().ok()?;
        if number.is_multiple_of(2) {
            fixed.push(memory.make_read_only().ok()?);
        } else {
            writable.push(memory);
        }
    }
    Some((fixed, writable))
}
