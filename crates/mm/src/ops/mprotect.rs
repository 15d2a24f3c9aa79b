//! mprotect (Linux 6.18 mm/mprotect.c: `do_mprotect_pkey`, `mprotect_fixup`,
//! `change_pte_range`).

use super::populate::OnError;
use crate::areas::Change;
use crate::frames::FrameState;
use crate::host::FlushReason;
use crate::lease::{Adds, StateMut};
use crate::mm::State;
use crate::rmap::Links;
use crate::{Caller, Host, Mm, VmaRef, pte};
use kilburn_addr::{AddrRange, Errno, Prot, VirtAddr, VmFlags};
use kilburn_paging::{Leaf, LeafFlags, PhysMem};

impl<H: Host> Mm<H> {
    /// Changes the rights of `len` bytes at `addr`.
    ///
    /// # Errors
    /// As mprotect(2); areas before the one that refuses are changed.
    pub fn mprotect(
        &self,
        caller: &Caller,
        addr: VirtAddr,
        len: u64,
        prot: u64,
    ) -> Result<(), Errno> {
        let grows = (Prot::GROWSDOWN | Prot::GROWSUP).bits();
        let grows = Prot::from_bits_truncate(prot as u32 & grows);
        let rights = prot & !u64::from((Prot::GROWSDOWN | Prot::GROWSUP).bits());
        if grows == Prot::GROWSDOWN | Prot::GROWSUP || !addr.is_page_aligned() {
            return Err(Errno::EINVAL);
        }
        if len == 0 {
            return Ok(());
        }
        let range = VirtAddr::new(len)
            .page_up()
            .filter(|len| len.get() > 0)
            .and_then(|len| AddrRange::with_len(addr, len.get()))
            .ok_or(Errno::ENOMEM)?;
        let known = Prot::READ | Prot::WRITE | Prot::EXEC | Prot::SEM;
        let prot = u32::try_from(rights)
            .ok()
            .and_then(Prot::from_bits)
            .filter(|prot| known.contains(*prot))
            .ok_or(Errno::EINVAL)?;
        let mut state = match grows.is_empty() {
            true => self.mmap_write_lock_range(range, Adds::Pages(caller)),
            false => StateMut::Whole(self.mmap_write_lock()),
        };
        let range = grown_range(&state, range, grows)?;
        self.protect_areas(caller, &mut state, range, prot)
    }

    fn protect_areas(
        &self,
        caller: &Caller,
        state: &mut State<H>,
        range: AddrRange,
        prot: Prot,
    ) -> Result<(), Errno> {
        let mut at = range.start();
        while at < range.end() {
            let vma = state.areas.containing(at).ok_or(Errno::ENOMEM)?;
            let mut prot = prot;
            if caller.read_implies_exec
                && prot.contains(Prot::READ)
                && vma.flags.contains(VmFlags::MAYEXEC)
            {
                prot |= Prot::EXEC;
            }
            let flags = VmFlags::from_prot(prot) | (vma.flags - VmFlags::ACCESS);
            // VM_MAY* are VM_* four bits up.
            let may = VmFlags::from_bits_retain(flags.bits() >> 4);
            if !((flags - may) & VmFlags::ACCESS).is_empty() {
                return Err(Errno::EACCES);
            }
            let end = vma.end().min(range.end());
            let part = AddrRange::new(at, end).ok_or(Errno::ENOMEM)?;
            self.protect_part(caller, state, part, flags)?;
            at = end;
        }
        Ok(())
    }

    /// `mprotect_fixup`: one part of one area.
    fn protect_part(
        &self,
        caller: &Caller,
        state: &mut State<H>,
        part: AddrRange,
        mut new: VmFlags,
    ) -> Result<(), Errno> {
        let vma = state.areas.containing(part.start()).ok_or(Errno::ENOMEM)?;
        let old = vma.flags;
        if old.contains(VmFlags::SEALED) {
            return Err(Errno::EPERM);
        }
        if new == old {
            return Ok(());
        }
        let pages = part.pages();
        let mut charged = 0;
        let charged_already =
            VmFlags::ACCOUNT | VmFlags::WRITE | VmFlags::SHARED | VmFlags::NORESERVE;
        if new.contains(VmFlags::WRITE) {
            if !state.vm.may_expand(caller, new, pages) && state.vm.may_expand(caller, old, pages) {
                return Err(Errno::ENOMEM);
            }
            if !old.intersects(charged_already) {
                self.memory().charge(caller, state.vm.total, pages)?;
                charged = pages;
                new |= VmFlags::ACCOUNT;
            }
        } else if old.contains(VmFlags::ACCOUNT)
            && vma.is_anonymous()
            && vma.anon_vma.get().is_none()
        {
            new -= VmFlags::ACCOUNT;
        }
        let max = self.memory().tunables.max_map_count();
        match state.areas.plan_modify(part, Change::flags(new), max) {
            Ok(plan) => {
                state.areas.commit_modify(plan, &mut Links(self));
            }
            Err(refused) => {
                state.areas.leave_split(refused.left_split_at, &mut Links(self));
                self.memory().uncharge(charged);
                return Err(refused.errno);
            }
        }
        let vma = state.areas.containing(part.start()).expect("just changed");
        self.change_protection(vma, part);
        if old.contains(VmFlags::ACCOUNT) && !new.contains(VmFlags::ACCOUNT) {
            self.memory().uncharge(pages);
        }
        state.vm.remove(old, pages);
        state.vm.add(new, pages);
        let locked = VmFlags::WRITE | VmFlags::SHARED | VmFlags::LOCKED;
        if old & locked == VmFlags::LOCKED && new.contains(VmFlags::WRITE) {
            // A locked private area that becomes writable is copied now, not at its first write.
            let _ = self.populate_locked(state, part, OnError::GoOn);
        }
        Ok(())
    }

    /// Gives the pages of `part` the rights of their area.
    fn change_protection(&self, vma: VmaRef<'_, H>, part: AddrRange) {
        let shared = vma.flags.contains(VmFlags::SHARED);
        let shmem = vma.file.and_then(|file| file.mapping()).is_some_and(|m| m.is_shmem());
        let rights = pte::rights(vma.flags);
        let writable = rights.contains(LeafFlags::WRITE);
        // Writes are withheld for copies and for dirty tracking, except where neither is needed.
        let always = writable && shared && shmem;
        let mut changed = None;
        self.for_each_leaf(part, |guard, span| {
            for (va, at) in span.entries() {
                if self.mem().load(at) == 0 {
                    continue;
                }
                let may_write = |leaf: Leaf| {
                    if !writable || leaf.flags.contains(LeafFlags::SPECIAL) {
                        false
                    } else if shared {
                        leaf.flags.contains(LeafFlags::DIRTY)
                    } else {
                        let meta = self.memory().meta(leaf.pfn);
                        meta.state() == FrameState::Anon && meta.is_exclusive()
                    }
                };
                let new_flags = |leaf: Leaf| {
                    let mut flags = (leaf.flags - LeafFlags::RIGHTS) | (rights - LeafFlags::WRITE);
                    if always || may_write(leaf) {
                        flags |= LeafFlags::WRITE;
                    }
                    flags
                };
                let before = guard.update(at, |leaf| Leaf { flags: new_flags(leaf), ..leaf });
                if before.is_some_and(|leaf| leaf.flags != new_flags(leaf)) {
                    let (first, _) = changed.unwrap_or((va, va));
                    changed = Some((first, va));
                }
            }
        });
        if let Some((first, last)) = changed
            && let Some(range) =
                last.checked_add(kilburn_addr::PAGE_SIZE).and_then(|end| AddrRange::new(first, end))
        {
            self.flush(range, FlushReason::Protect);
        }
    }
}

/// The range that `PROT_GROWSDOWN` makes of the one given.
fn grown_range<H: Host>(
    state: &State<H>,
    range: AddrRange,
    grows: Prot,
) -> Result<AddrRange, Errno> {
    let vma = state
        .areas
        .find(range.start())
        .filter(|vma| vma.start() < range.end())
        .ok_or(Errno::ENOMEM)?;
    if grows.contains(Prot::GROWSDOWN) {
        if !vma.flags.contains(VmFlags::GROWSDOWN) {
            return Err(Errno::EINVAL);
        }
        return AddrRange::new(vma.start(), range.end()).ok_or(Errno::ENOMEM);
    }
    if vma.start() > range.start() {
        return Err(Errno::ENOMEM);
    }
    if grows.contains(Prot::GROWSUP) {
        // No area grows up on any architecture here.
        return Err(Errno::EINVAL);
    }
    Ok(range)
}
