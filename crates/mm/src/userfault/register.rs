//! Attaching a userfaultfd to areas, and detaching it (Linux 6.18 fs/userfaultfd.c:
//! `userfaultfd_register`, `userfaultfd_unregister`, `userfaultfd_release`).

use super::{Userfaultfd, can_watch};
use crate::areas::{AreaWatch, Change};
use crate::mm::State;
use crate::rmap::Links;
use crate::{Host, Mm, VmaRef};
use alloc::sync::Arc;
use kilburn_addr::{AddrRange, Errno, PAGE_MASK, VirtAddr, VmFlags};

const MODE_MISSING: u64 = 1;
const MODE_MINOR: u64 = 4;

/// `UFFD_API_RANGE_IOCTLS`: WAKE, COPY, ZEROPAGE, MOVE, WRITEPROTECT, CONTINUE, POISON.
pub(super) const RANGE_IOCTLS: u64 = 0x1fc;
const WRITEPROTECT: u64 = 1 << 6;
const CONTINUE: u64 = 1 << 7;

impl<H: Host> Userfaultfd<H> {
    /// Watches `len` bytes at `start` (`UFFDIO_REGISTER`) for the faults that `mode` names;
    /// answers which ioctls are possible there, a bit each.
    ///
    /// # Errors
    /// - `EINVAL`: an unknown mode (write-protection is one), no range of user space, nothing
    ///   there, or an area that cannot be watched so
    /// - `EPERM`: an area that may not become writable
    /// - `EBUSY`: another userfaultfd watches a part
    /// - `ENOMEM`: an area must be split and there are too many; the address space is gone
    pub fn register(self: &Arc<Self>, start: u64, len: u64, mode: u64) -> Result<u64, Errno> {
        if mode == 0 || mode & !(MODE_MISSING | MODE_MINOR) != 0 {
            return Err(Errno::EINVAL);
        }
        let mut flags = VmFlags::empty();
        if mode & MODE_MISSING != 0 {
            flags |= VmFlags::UFFD_MISSING;
        }
        if mode & MODE_MINOR != 0 {
            flags |= VmFlags::UFFD_MINOR;
        }
        let mm = self.mm.upgrade().ok_or(Errno::ENOMEM)?;
        let range = mm.userfault_range(start, len)?;
        let mut state = mm.mmap_write_lock();
        let mut found = false;
        for vma in state.areas.overlapping(range) {
            found = true;
            if !can_watch(vma, flags) {
                return Err(Errno::EINVAL);
            }
            if !vma.flags.contains(VmFlags::MAYWRITE) {
                return Err(Errno::EPERM);
            }
            if vma.userfault().is_some_and(|other| !Arc::ptr_eq(other, self)) {
                return Err(Errno::EBUSY);
            }
        }
        if !found {
            return Err(Errno::EINVAL);
        }
        for_each_part(&mut state, range, |state, part| {
            let vma = state.areas.containing(part.start()).ok_or(Errno::EINVAL)?;
            if vma.userfault().is_some() && vma.flags.contains(flags) {
                return Ok(());
            }
            let flags = (vma.flags - VmFlags::UFFD) | flags;
            mm.change_watcher(state, part, flags, Some(self.clone()))
        })?;
        let absent = WRITEPROTECT | if mode & MODE_MINOR == 0 { CONTINUE } else { 0 };
        Ok(RANGE_IOCTLS & !absent)
    }

    /// Watches `len` bytes at `start` no more (`UFFDIO_UNREGISTER`), and wakes who waits there.
    ///
    /// # Errors
    /// - `EINVAL`: no range of user space, nothing there, an area that cannot be watched, or one
    ///   that another userfaultfd watches
    /// - `ENOMEM`: an area must be split and there are too many; the address space is gone
    pub fn unregister(self: &Arc<Self>, start: u64, len: u64) -> Result<(), Errno> {
        let mm = self.mm.upgrade().ok_or(Errno::ENOMEM)?;
        let range = mm.userfault_range(start, len)?;
        let mut state = mm.mmap_write_lock();
        let mut found = false;
        for vma in state.areas.overlapping(range) {
            found = true;
            let others = vma.userfault().is_some_and(|other| !Arc::ptr_eq(other, self));
            if others || !can_watch(vma, vma.flags) {
                return Err(Errno::EINVAL);
            }
        }
        if !found {
            return Err(Errno::EINVAL);
        }
        for_each_part(&mut state, range, |state, part| {
            let vma = state.areas.containing(part.start()).ok_or(Errno::EINVAL)?;
            if vma.userfault().is_none() {
                return Ok(());
            }
            if vma.flags.contains(VmFlags::UFFD_MISSING) {
                self.wake_range(part.start(), part.len());
            }
            let flags = vma.flags - VmFlags::UFFD;
            mm.change_watcher(state, part, flags, None)
        })
    }

    /// Wakes whoever waits for an address in the range (`UFFDIO_WAKE`).
    ///
    /// # Errors
    /// `EINVAL` for no range of user space.
    pub fn wake(&self, start: u64, len: u64) -> Result<(), Errno> {
        let mm = self.mm.upgrade().ok_or(Errno::ESRCH)?;
        let range = mm.userfault_range(start, len)?;
        self.wake_range(range.start(), range.len());
        Ok(())
    }
}

/// The part of each area of `range`, in order; areas may merge and split meanwhile.
fn for_each_part<H: Host>(
    state: &mut State<H>,
    range: AddrRange,
    mut act: impl FnMut(&mut State<H>, AddrRange) -> Result<(), Errno>,
) -> Result<(), Errno> {
    let mut at = range.start();
    while let Some(vma) = state.areas.find(at).filter(|vma| vma.start() < range.end()) {
        let Some(part) = vma.range.intersection(range) else { break };
        let part = AddrRange::new(part.start().max(at), part.end()).ok_or(Errno::EINVAL)?;
        at = part.end();
        act(state, part)?;
        if at >= range.end() {
            break;
        }
    }
    Ok(())
}

impl<H: Host> Mm<H> {
    /// `validate_range`
    pub(super) fn userfault_range(&self, start: u64, len: u64) -> Result<AddrRange, Errno> {
        let aligned = (start | len) & !PAGE_MASK == 0;
        let start = VirtAddr::new(start);
        let low = start.get() < self.memory().tunables.mmap_min_addr();
        if !aligned || len == 0 || low || !self.in_task(start, len) {
            return Err(Errno::EINVAL);
        }
        AddrRange::with_len(start, len).ok_or(Errno::EINVAL)
    }

    fn change_watcher(
        &self,
        state: &mut State<H>,
        part: AddrRange,
        flags: VmFlags,
        userfault: Option<Arc<Userfaultfd<H>>>,
    ) -> Result<(), Errno> {
        let change = Change { flags, name: None, userfault: Some(userfault) };
        let max = self.memory().tunables.max_map_count();
        match state.areas.plan_modify(part, change, max) {
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

    /// No area is `watcher`'s any more. Whole areas are never split, so this cannot fail.
    pub(super) fn detach_userfault(&self, watcher: &Arc<Userfaultfd<H>>) {
        let mut state = self.mmap_write_lock();
        let state = &mut *state;
        let mut at = VirtAddr::ZERO;
        while let Some(vma) = state.areas.find(at) {
            let range = vma.range;
            at = range.end();
            if vma.userfault().is_some_and(|other| Arc::ptr_eq(other, watcher)) {
                let flags = vma.flags - VmFlags::UFFD;
                let changed = self.change_watcher(state, range, flags, None);
                debug_assert_eq!(changed, Ok(()), "a whole area is never split");
            }
        }
    }

    /// The area at `at` was moved there: it is watched no more (`mremap_userfaultfd_prep`,
    /// without `UFFD_FEATURE_EVENT_REMAP`).
    pub(crate) fn forget_watcher(&self, state: &mut State<H>, at: VirtAddr) {
        let Some(start) = state.areas.containing(at).map(VmaRef::start) else { return };
        if let Some(mut vma) = state.areas.get_mut(start)
            && vma.as_ref().userfault().is_some()
        {
            vma.set_userfault(None);
            vma.set_flags(vma.as_ref().flags - VmFlags::UFFD);
            Links(self).reflagged(vma.as_ref());
        }
    }
}
