//! mlock, mlock2, munlock, mlockall, munlockall (Linux 6.18 mm/mlock.c).

use super::populate::OnError;
use crate::areas::Change;
use crate::mm::State;
use crate::rmap::Links;
use crate::{Caller, Host, Mm};
use kilburn_addr::{AddrRange, Errno, PAGE_MASK, PAGE_SHIFT, PAGE_SIZE, VirtAddr, VmFlags};

/// `VM_LOCKED_MASK`
const LOCK_FLAGS: VmFlags = VmFlags::LOCKED.union(VmFlags::LOCKONFAULT);

const MLOCK_ONFAULT: i32 = 1;
const MCL_CURRENT: i32 = 1;
const MCL_FUTURE: i32 = 2;
const MCL_ONFAULT: i32 = 4;

impl<H: Host> Mm<H> {
    /// Locks pages in memory.
    ///
    /// # Errors
    /// As mlock(2).
    pub fn mlock(&self, caller: &Caller, addr: VirtAddr, len: u64) -> Result<(), Errno> {
        self.lock_range(caller, addr, len, VmFlags::LOCKED)
    }

    /// Locks pages in memory, at once or as they are faulted in.
    ///
    /// # Errors
    /// As mlock2(2).
    pub fn mlock2(
        &self,
        caller: &Caller,
        addr: VirtAddr,
        len: u64,
        flags: i32,
    ) -> Result<(), Errno> {
        match flags {
            0 => self.lock_range(caller, addr, len, VmFlags::LOCKED),
            MLOCK_ONFAULT => self.lock_range(caller, addr, len, LOCK_FLAGS),
            _ => Err(Errno::EINVAL),
        }
    }

    /// Unlocks pages.
    ///
    /// # Errors
    /// As munlock(2).
    pub fn munlock(&self, addr: VirtAddr, len: u64) -> Result<(), Errno> {
        let (start, len) = whole_pages(addr, len);
        self.apply_lock_flags(&mut self.mmap_write_lock(), start, len, VmFlags::empty())
    }

    /// Locks the whole address space, as it is, as it becomes, or both.
    ///
    /// # Errors
    /// As mlockall(2).
    pub fn mlockall(&self, caller: &Caller, flags: i32) -> Result<(), Errno> {
        let known = MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT;
        if flags == 0 || flags & !known != 0 || flags == MCL_ONFAULT {
            return Err(Errno::EINVAL);
        }
        may_lock_at_all(caller)?;
        let mut state = self.mmap_write_lock();
        let limit = caller.rlimits.memlock >> PAGE_SHIFT;
        let current = flags & MCL_CURRENT != 0;
        if current && state.vm.total > limit && !caller.can_lock {
            return Err(Errno::ENOMEM);
        }
        self.apply_lockall(&mut state, flags);
        drop(state);
        if current {
            let all = AddrRange::new(VirtAddr::ZERO, self.layout().task_size()).unwrap_or_default();
            let _ = self.populate(all, OnError::GoOn);
        }
        Ok(())
    }

    /// Unlocks the whole address space.
    ///
    /// # Errors
    /// None today; as munlockall(2).
    pub fn munlockall(&self) -> Result<(), Errno> {
        self.apply_lockall(&mut self.mmap_write_lock(), 0);
        Ok(())
    }

    /// `do_mlock`
    fn lock_range(
        &self,
        caller: &Caller,
        addr: VirtAddr,
        len: u64,
        flags: VmFlags,
    ) -> Result<(), Errno> {
        may_lock_at_all(caller)?;
        let (start, len) = whole_pages(addr, len);
        let mut state = self.mmap_write_lock();
        let limit = caller.rlimits.memlock >> PAGE_SHIFT;
        let mut locked = (len >> PAGE_SHIFT) + state.vm.locked;
        if locked > limit && !caller.can_lock {
            // What is locked already does not count twice.
            locked -= locked_pages(&state, start, len);
            if locked > limit {
                return Err(Errno::ENOMEM);
            }
        }
        self.apply_lock_flags(&mut state, start, len, flags)?;
        drop(state);
        let Some(range) = AddrRange::with_len(start, len) else { return Ok(()) };
        self.populate(range, OnError::Stop).map_err(|errno| match errno {
            // __mlock_posix_error_return
            Errno::EFAULT => Errno::ENOMEM,
            Errno::ENOMEM => Errno::EAGAIN,
            other => other,
        })
    }

    fn apply_lock_flags(
        &self,
        state: &mut State<H>,
        start: VirtAddr,
        len: u64,
        flags: VmFlags,
    ) -> Result<(), Errno> {
        let range = AddrRange::with_len(start, len).ok_or(Errno::EINVAL)?;
        let mut at = start;
        while at < range.end() {
            let vma = state.areas.containing(at).ok_or(Errno::ENOMEM)?;
            let end = vma.end().min(range.end());
            let part = AddrRange::new(at, end).ok_or(Errno::EINVAL)?;
            let new = (vma.flags - LOCK_FLAGS) | flags;
            self.set_lock_flags(state, part, new)?;
            at = end;
        }
        Ok(())
    }

    fn apply_lockall(&self, state: &mut State<H>, flags: i32) {
        let asked = if flags & MCL_ONFAULT != 0 { LOCK_FLAGS } else { VmFlags::LOCKED };
        state.def_flags -= LOCK_FLAGS;
        if flags & MCL_FUTURE != 0 {
            state.def_flags |= asked;
            if flags & MCL_CURRENT == 0 {
                return;
            }
        }
        let add = if flags & MCL_CURRENT != 0 { asked } else { VmFlags::empty() };
        let mut at = VirtAddr::ZERO;
        while let Some(vma) = state.areas.find(at) {
            let (part, new) = (vma.range, (vma.flags - LOCK_FLAGS) | add);
            at = part.end();
            // Whole areas are never split, so this cannot fail; Linux ignores it if it does.
            let _ = self.set_lock_flags(state, part, new);
        }
    }

    /// `mlock_fixup`: one part of one area.
    fn set_lock_flags(
        &self,
        state: &mut State<H>,
        part: AddrRange,
        new: VmFlags,
    ) -> Result<(), Errno> {
        let vma = state.areas.containing(part.start()).ok_or(Errno::ENOMEM)?;
        let old = vma.flags;
        if new == old || old.intersects(VmFlags::SPECIAL | VmFlags::DROPPABLE) {
            return Ok(());
        }
        self.modify_flags(state, part, new)?;
        state.vm.remove(old, part.pages());
        state.vm.add(new, part.pages());
        Ok(())
    }

    /// Gives a part of an area other flags, which need no change of its pages.
    pub(super) fn modify_flags(
        &self,
        state: &mut State<H>,
        part: AddrRange,
        new: VmFlags,
    ) -> Result<(), Errno> {
        let max = self.memory().tunables.max_map_count();
        match state.areas.plan_modify(part, Change::flags(new), max) {
            Ok(plan) => {
                state.areas.commit_modify(plan, &mut Links(self));
                Ok(())
            }
            Err(refused) => {
                state.areas.leave_split(refused.left_split_at, &mut Links(self));
                Err(refused.errno)
            }
        }
    }
}

/// `can_do_mlock`
fn may_lock_at_all(caller: &Caller) -> Result<(), Errno> {
    if caller.rlimits.memlock != 0 || caller.can_lock { Ok(()) } else { Err(Errno::EPERM) }
}

/// The pages that hold `len` bytes at `addr`; as Linux computes it, a length that wraps becomes
/// small or 0.
fn whole_pages(addr: VirtAddr, len: u64) -> (VirtAddr, u64) {
    let len = len.wrapping_add(addr.page_offset()).wrapping_add(PAGE_SIZE - 1) & PAGE_MASK;
    (addr.page_down(), len)
}

/// Pages of `len` bytes at `start` that are locked (`count_mm_mlocked_page_nr`).
fn locked_pages<H: Host>(state: &State<H>, start: VirtAddr, len: u64) -> u64 {
    let end = VirtAddr::new(start.get().saturating_add(len));
    let Some(range) = AddrRange::new(start, end) else { return 0 };
    state
        .areas
        .overlapping(range)
        .filter(|vma| vma.flags.contains(VmFlags::LOCKED))
        .filter_map(|vma| vma.range.intersection(range))
        .map(AddrRange::pages)
        .sum()
}
