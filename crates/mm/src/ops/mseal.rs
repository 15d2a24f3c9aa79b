//! mseal (Linux 6.18 mm/mseal.c): areas that nobody may unmap, move or change the rights of.

use crate::areas::Change;
use crate::mm::State;
use crate::rmap::Links;
use crate::{Host, Mm};
use kilburn_addr::{AddrRange, Errno, VirtAddr, VmFlags};

impl<H: Host> Mm<H> {
    /// Seals mappings against change, for good.
    ///
    /// # Errors
    /// - `EINVAL`: unknown flags, an unaligned address, or a range that wraps
    /// - `ENOMEM`: a page of the range is not mapped, or an area must be split and there are too
    ///   many
    pub fn mseal(&self, addr: VirtAddr, len: u64, flags: u64) -> Result<(), Errno> {
        if flags != 0 || !addr.is_page_aligned() {
            return Err(Errno::EINVAL);
        }
        let len = VirtAddr::new(len).page_up().ok_or(Errno::EINVAL)?.get();
        let range = AddrRange::with_len(addr, len).ok_or(Errno::EINVAL)?;
        let mut state = self.mmap_write_lock();
        if !is_mapped(&state, range) {
            return Err(Errno::ENOMEM);
        }
        let max = self.memory().tunables.max_map_count();
        let mut at = range.start();
        while at < range.end() {
            let vma = state.areas.containing(at).ok_or(Errno::ENOMEM)?;
            let flags = vma.flags;
            let part = vma.range.intersection(range).ok_or(Errno::ENOMEM)?;
            at = part.end();
            if flags.contains(VmFlags::SEALED) {
                continue;
            }
            let change = Change::flags(flags | VmFlags::SEALED);
            match state.areas.plan_modify(part, change, max) {
                Ok(plan) => state.areas.commit_modify(plan, &mut Links(self)),
                Err(refused) => {
                    state.areas.leave_split(refused.left_split_at, &mut Links(self));
                    return Err(refused.errno);
                }
            };
        }
        Ok(())
    }
}

/// Whether every page of `range` is mapped.
fn is_mapped<H: Host>(state: &State<H>, range: AddrRange) -> bool {
    let mut at = range.start();
    for vma in state.areas.overlapping(range) {
        if vma.start() > at {
            return false;
        }
        at = vma.end();
    }
    at >= range.end()
}
