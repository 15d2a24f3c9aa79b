//! munmap (Linux 6.18 mm/vma.c: `do_vmi_munmap`).

use crate::areas::UnmapPlan;
use crate::lease::Adds;
use crate::mm::State;
use crate::rmap::Links;
use crate::zap::Zap;
use crate::{Host, Mm};
use alloc::vec::Vec;
use kilburn_addr::{AddrRange, Errno, VirtAddr, VmFlags};

impl<H: Host> Mm<H> {
    /// Unmaps `len` bytes at `addr`.
    ///
    /// # Errors
    /// `EINVAL` for an unaligned address, a length of 0 or a range past the end of user space;
    /// `ENOMEM` when an area would become two and there are too many; `EPERM` for sealed areas.
    pub fn munmap(&self, addr: VirtAddr, len: u64) -> Result<(), Errno> {
        let range = self.unmap_range(addr, len)?;
        self.unmap_locked(&mut self.mmap_write_lock_range(range, Adds::Areas), range)
    }

    /// The pages of a range that user space may unmap.
    pub(super) fn unmap_range(&self, addr: VirtAddr, len: u64) -> Result<AddrRange, Errno> {
        if !addr.is_page_aligned() || !self.in_task(addr, len) || len == 0 {
            return Err(Errno::EINVAL);
        }
        let len = VirtAddr::new(len).page_up().ok_or(Errno::EINVAL)?.get();
        AddrRange::with_len(addr, len).ok_or(Errno::EINVAL)
    }

    /// Plans and commits; what Linux leaves split after a refusal stays split.
    pub(super) fn unmap_locked(&self, state: &mut State<H>, range: AddrRange) -> Result<(), Errno> {
        match state.areas.plan_unmap(range, self.memory().tunables.max_map_count()) {
            Ok(plan) => {
                self.commit_unmap(state, plan);
                Ok(())
            }
            Err(refused) => {
                state.areas.leave_split(refused.left_split_at, &mut Links(self));
                Err(refused.errno)
            }
        }
    }

    /// Takes areas, pages and tables out; gives promises back.
    pub(crate) fn commit_unmap(&self, state: &mut State<H>, plan: UnmapPlan) {
        let range = plan.range();
        let State { areas, vm, reach, .. } = state;
        // The pieces keep their files open until no page of theirs is mapped any more.
        let (mut first, mut rest) = (None, Vec::new());
        areas.commit_unmap(plan, &mut Links(self), |piece| {
            if first.is_none() {
                first = Some(piece);
            } else {
                rest.push(piece);
            }
        });
        if first.is_none() {
            return;
        }
        self.zap(range, Zap::Unmap);
        let (before, after) = areas.neighbour_heads(range.start());
        self.free_tables(
            range,
            before.map_or(reach.start(), |area| area.range.end()),
            after.map_or(reach.end(), |area| area.range.start()),
        );
        let memory = self.memory();
        for piece in first.iter().chain(&rest) {
            memory.anon_vmas.retire(memory.cpu(), &piece.anon_vma);
            let pages = piece.range.pages();
            vm.remove(piece.flags, pages);
            if piece.flags.contains(VmFlags::ACCOUNT) {
                memory.uncharge(pages);
            }
        }
    }
}
