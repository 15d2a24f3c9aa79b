//! mremap (Linux 6.18 mm/mremap.c).
//!
//! ```text
//!   old_len > new_len     the tail is unmapped                              in place
//!   old_len < new_len     room behind?  the area grows                      in place
//!                         MAYMOVE?      to a new place                      moved
//!   FIXED, DONTUNMAP      to the place given (or near it)                   moved
//! ```

use super::mmap::backing_of;
use super::populate::OnError;
use crate::areas::place::BelowMin;
use crate::areas::{AreaWatch as _, Backing, PlaceRequest, Placement, Window};
use crate::host::FlushReason;
use crate::mm::State;
use crate::rmap::Links;
use crate::{Caller, Host, Mm, VmaRef};
use core::ops::ControlFlow;
use kilburn_addr::{AddrRange, Errno, PAGE_SHIFT, VirtAddr, VmFlags};
use kilburn_paging::tables::{self, NoTable};
use kilburn_paging::walk::entry_addr;
use kilburn_paging::{Format, PhysMem};

const MAYMOVE: u64 = 1;
const FIXED: u64 = 2;
const DONTUNMAP: u64 = 4;

/// One area, or part of one, to be resized or moved (Linux `vma_remap_struct`).
#[derive(Clone, Copy)]
struct Remap {
    addr: VirtAddr,
    old_len: u64,
    new_len: u64,
    flags: u64,
    new_addr: VirtAddr,
}

impl Remap {
    fn implies_new_addr(&self) -> bool {
        self.flags & (FIXED | DONTUNMAP) != 0
    }

    fn expands(&self) -> bool {
        self.new_len > self.old_len
    }

    /// Bytes to be promised on top of what is.
    fn charge_bytes(&self) -> u64 {
        if self.flags & DONTUNMAP != 0 {
            self.old_len
        } else {
            self.new_len.saturating_sub(self.old_len)
        }
    }
}

impl<H: Host> Mm<H> {
    /// Moves or resizes a mapping; answers where it is then.
    ///
    /// # Errors
    /// As mremap(2).
    pub fn mremap(
        &self,
        caller: &Caller,
        old: VirtAddr,
        old_len: u64,
        new_len: u64,
        flags: u64,
        new_addr: VirtAddr,
    ) -> Result<VirtAddr, Errno> {
        // Lengths that wrap become 0, as PAGE_ALIGN makes them.
        let pages = |len: u64| VirtAddr::new(len).page_up().map_or(0, VirtAddr::get);
        let (old_len, new_len) = (pages(old_len), pages(new_len));
        let remap = Remap { addr: old, old_len, new_len, flags, new_addr };
        let mut state = self.mmap_write_lock();
        self.check_params(&state, &remap)?;
        let (at, more) = if flags & FIXED != 0 && old_len == new_len {
            (self.move_all(caller, &mut state, remap)?, None)
        } else {
            self.remap_one(caller, &mut state, remap)?
        };
        drop(state);
        if let Some(range) = more {
            let _ = self.populate(range, OnError::GoOn);
        }
        Ok(at)
    }

    fn check_params(&self, state: &State<H>, remap: &Remap) -> Result<(), Errno> {
        let Remap { addr, old_len, new_len, flags, new_addr } = *remap;
        if flags & !(MAYMOVE | FIXED | DONTUNMAP) != 0
            || !addr.is_page_aligned()
            || new_len == 0
            || !self.in_task(VirtAddr::ZERO, new_len)
        {
            return Err(Errno::EINVAL);
        }
        if !remap.implies_new_addr() {
            return Ok(());
        }
        if !self.in_task(new_addr, new_len)
            || !new_addr.is_page_aligned()
            || flags & MAYMOVE == 0
            || flags & DONTUNMAP != 0 && old_len != new_len
        {
            return Err(Errno::EINVAL);
        }
        // vrm_overlaps: sums wrap as Linux's do.
        let overlap = addr.get().wrapping_add(old_len) > new_addr.get()
            && new_addr.get().wrapping_add(new_len) > addr.get();
        if overlap {
            return Err(Errno::EINVAL);
        }
        let limit = self.memory().tunables.max_map_count() as usize;
        if state.areas.len() + 2 >= limit.saturating_sub(3) {
            return Err(Errno::ENOMEM);
        }
        Ok(())
    }

    /// `remap_move`: all areas of the range, which may have gaps between them.
    fn move_all(
        &self,
        caller: &Caller,
        state: &mut State<H>,
        remap: Remap,
    ) -> Result<VirtAddr, Errno> {
        let end = remap.addr.get().wrapping_add(remap.old_len);
        let mut at = remap.addr;
        let mut target = remap.new_addr;
        let mut first = None;
        let mut last_end = VirtAddr::ZERO;
        // The area moved last may have merged into one that reaches on: that is not looked at again.
        while at.get() < end
            && let Some(vma) = state.areas.find(at).filter(|vma| vma.start().get() < end)
        {
            let start = vma.start().max(remap.addr);
            if first.is_none() && start > remap.addr {
                return Err(Errno::EFAULT);
            }
            let gap = if first.is_some() { vma.start().get() - last_end.get() } else { 0 };
            last_end = vma.end();
            let len = end.min(vma.end().get()) - start.get();
            let new_addr = target.checked_add(gap).ok_or(Errno::EINVAL)?;
            let part = Remap { addr: start, old_len: len, new_len: len, new_addr, ..remap };
            at = last_end;
            let (moved, _) = self.remap_one(caller, state, part)?;
            first.get_or_insert(moved);
            target = moved.checked_add(len).ok_or(Errno::EINVAL)?;
        }
        first.ok_or(Errno::EFAULT)
    }

    /// One area; answers where it is, and what is to be faulted in because it is locked.
    fn remap_one(
        &self,
        caller: &Caller,
        state: &mut State<H>,
        remap: Remap,
    ) -> Result<(VirtAddr, Option<AddrRange>), Errno> {
        let vma = state.areas.containing(remap.addr).ok_or(Errno::EFAULT)?;
        let locked = vma.flags.contains(VmFlags::LOCKED);
        check_area(caller, state, vma, &remap)?;
        let at = if remap.implies_new_addr() {
            self.remap_to(caller, state, remap)?
        } else if remap.new_len == remap.old_len {
            remap.addr
        } else if !remap.expands() {
            self.shrink(state, &remap)?;
            remap.addr
        } else {
            self.expand(caller, state, remap)?
        };
        let more = (locked && remap.expands())
            .then(|| {
                let start = at.checked_add(remap.old_len)?;
                AddrRange::with_len(start, remap.new_len - remap.old_len)
            })
            .flatten();
        Ok((at, more))
    }

    fn shrink(&self, state: &mut State<H>, remap: &Remap) -> Result<(), Errno> {
        let start = remap.addr.checked_add(remap.new_len).ok_or(Errno::EINVAL)?;
        let range = self.unmap_range(start, remap.old_len - remap.new_len)?;
        self.unmap_locked(state, range)
    }

    /// `expand_vma`: where it is, if there is room; elsewhere, if it may move.
    fn expand(
        &self,
        caller: &Caller,
        state: &mut State<H>,
        remap: Remap,
    ) -> Result<VirtAddr, Errno> {
        let vma = state.areas.containing(remap.addr).ok_or(Errno::EFAULT)?;
        let delta = remap.new_len - remap.old_len;
        if remap.old_len == vma.end().get() - remap.addr.get() && self.has_room(state, vma, delta) {
            let (start, flags) = (vma.start(), vma.flags);
            let pages = delta >> PAGE_SHIFT;
            let charged = if flags.contains(VmFlags::ACCOUNT) { pages } else { 0 };
            self.memory().charge(caller, state.vm.total, charged)?;
            let Some(plan) = state.areas.plan_extend(start, delta) else {
                self.memory().uncharge(charged);
                return Err(Errno::ENOMEM);
            };
            state.areas.commit_insert(plan, &mut Links(self));
            state.vm.add(flags, pages);
            return Ok(remap.addr);
        }
        if remap.flags & MAYMOVE == 0 {
            return Err(Errno::ENOMEM);
        }
        let to = self.place_moved(state, vma, &remap)?;
        self.move_area(caller, state, Remap { new_addr: to, ..remap })
    }

    /// `vma_expandable`
    fn has_room(&self, state: &State<H>, vma: VmaRef<'_, H>, delta: u64) -> bool {
        AddrRange::with_len(vma.end(), delta).is_some_and(|more| {
            let whole = more.end().get() - vma.start().get();
            self.in_task(vma.start(), whole) && state.areas.is_free(more)
        })
    }

    /// `mremap_to`
    fn remap_to(
        &self,
        caller: &Caller,
        state: &mut State<H>,
        mut remap: Remap,
    ) -> Result<VirtAddr, Errno> {
        if remap.flags & FIXED != 0 {
            let target = self.unmap_range(remap.new_addr, remap.new_len)?;
            self.unmap_locked(state, target)?;
            // What made room may have been the area itself: sums wrap in the check for overlap.
            state.areas.containing(remap.addr).ok_or(Errno::EFAULT)?;
        }
        if remap.new_len < remap.old_len {
            self.shrink(state, &remap)?;
            remap.old_len = remap.new_len;
        }
        let vma = state.areas.containing(remap.addr).ok_or(Errno::EFAULT)?;
        if remap.flags & DONTUNMAP != 0
            && !state.vm.may_expand(caller, vma.flags, remap.old_len >> PAGE_SHIFT)
        {
            return Err(Errno::ENOMEM);
        }
        let to = self.place_moved(state, vma, &remap)?;
        self.move_area(caller, state, Remap { new_addr: to, ..remap })
    }

    /// `vrm_set_new_addr`
    fn place_moved(
        &self,
        state: &State<H>,
        vma: VmaRef<'_, H>,
        remap: &Remap,
    ) -> Result<VirtAddr, Errno> {
        let fixed = remap.flags & FIXED != 0;
        let pgoff = vma.page_index(remap.addr);
        state.areas.get_unmapped_area(
            self.layout(),
            &PlaceRequest {
                addr: if remap.implies_new_addr() { remap.new_addr } else { VirtAddr::ZERO },
                len: remap.new_len,
                placement: if fixed { Placement::Fixed } else { Placement::Hint },
                backing: vma
                    .file
                    .map_or(Backing::Anonymous, |file| backing_of(file.as_ref(), pgoff)),
                window: Window::Default,
                min_addr: VirtAddr::new(self.memory().tunables.mmap_min_addr()),
                below_min: BelowMin::Refused,
            },
        )
    }

    /// `move_vma`: a copy of the area, the pages over to it, and the source goes.
    fn move_area(
        &self,
        caller: &Caller,
        state: &mut State<H>,
        remap: Remap,
    ) -> Result<VirtAddr, Errno> {
        let limit = self.memory().tunables.max_map_count() as usize;
        if state.areas.len() >= limit.saturating_sub(3) {
            return Err(Errno::ENOMEM);
        }
        let vma = state.areas.containing(remap.addr).ok_or(Errno::EFAULT)?;
        let (start, flags, file) = (vma.start(), vma.flags, vma.file.cloned());
        let accounted = flags.contains(VmFlags::ACCOUNT);
        let from = AddrRange::with_len(remap.addr, remap.old_len).ok_or(Errno::EFAULT)?;
        let to = AddrRange::with_len(remap.new_addr, remap.new_len).ok_or(Errno::EFAULT)?;
        let charged = if accounted { remap.charge_bytes() >> PAGE_SHIFT } else { 0 };
        self.memory().charge(caller, state.vm.total, charged)?;
        if let Err(NoTable) = self.make_tables(from, to.start()) {
            self.memory().uncharge(charged);
            let (before, after) = state.areas.neighbours(to.start());
            self.free_tables(
                to,
                before.map_or(state.reach.start(), VmaRef::end),
                after.map_or(state.reach.end(), VmaRef::start),
            );
            return Err(Errno::ENOMEM);
        }
        // Truncation waits: it could miss a page that is on its way.
        let valid = file.as_ref().and_then(|file| file.mapping()).map(|m| m.invalidate.read());
        let plan = state.areas.plan_copy(start, remap.addr, to.start(), to.len());
        state.areas.commit_insert(plan, &mut Links(self));
        self.move_entries(from, to.start());
        self.forget_watcher(state, to.start());
        drop(valid);
        self.flush(from, FlushReason::Move);

        // Two copies for a moment: not a new peak.
        let peak = state.vm.peak;
        state.vm.add(flags, to.pages());
        if remap.flags & DONTUNMAP != 0 {
            self.keep_source(state, from);
        } else if !from.is_empty() {
            if accounted {
                // The source's promise went over to the copy; unmapping gives it back.
                self.memory().recharge(from.pages());
            }
            // Whoever planned this checked the number of areas, so it cannot be refused.
            let unmapped = self.unmap_locked(state, from);
            debug_assert_eq!(unmapped, Ok(()), "room for the splits was checked");
        }
        state.vm.peak = peak.max(state.vm.total);
        Ok(to.start())
    }

    /// `dontunmap_complete`: the source stays, empty and not locked. Linux leaves its pages
    /// counted in `VmLck` for good, and so does this.
    fn keep_source(&self, state: &mut State<H>, from: AddrRange) {
        let Some(vma) = state.areas.containing(from.start()) else { return };
        let (range, pgoff, old) = (vma.range, vma.pgoff, vma.flags);
        let new = old - VmFlags::LOCKED - VmFlags::LOCKONFAULT;
        let emptied = range == from;
        if let Some(mut vma) = state.areas.get_mut(range.start()) {
            vma.set_flags(new);
            if emptied {
                if let Some(anon_vma) = vma.as_ref().anon_vma.get() {
                    anon_vma.unlink(self, range, pgoff);
                }
                vma.set_anon_vma(crate::anon_vma::AnonSlot::empty());
            }
            Links(self).reflagged(vma.as_ref());
        }
        if old.contains(VmFlags::LOCKED) {
            state.vm.locked_for_good += range.pages();
        }
    }

    /// Makes the tables that the entries of `from` need at `to`.
    fn make_tables(&self, from: AddrRange, to: VirtAddr) -> Result<(), NoTable> {
        let made = self.tables().try_for_each_leaf_table(from, |span| {
            let mut table_of = u64::MAX;
            for (va, at) in span.entries() {
                let target = moved(va, from.start(), to);
                let number = self.leaf_number(target);
                if number != table_of && self.mem().load(at) != 0 {
                    if self.ensure_leaf_table(target).is_err() {
                        return ControlFlow::Break(NoTable);
                    }
                    table_of = number;
                }
            }
            ControlFlow::Continue(())
        });
        match made {
            ControlFlow::Break(no_table) => Err(no_table),
            ControlFlow::Continue(()) => Ok(()),
        }
    }

    /// Moves the entries of `from` to `to`, whose tables are there (Linux `move_ptes`).
    fn move_entries(&self, from: AddrRange, to: VirtAddr) {
        self.tables().for_each_leaf_table(from, |span| {
            // The pages of one table go to two, mostly.
            let mut locked = None;
            for (va, at) in span.entries() {
                if self.mem().load(at) == 0 {
                    continue;
                }
                let target = moved(va, from.start(), to);
                let number = self.leaf_number(target);
                let guards = match locked.take() {
                    Some((same, guards)) if same == number => guards,
                    other => {
                        drop(other);
                        self.lock_two(va, self, target)
                    }
                };
                let (guard, _) = &locked.insert((number, guards)).1;
                let entry = tables::take(self.mem(), self.format(), at);
                let table = guard.tables.leaf_table(target).expect("made before");
                guard.set(entry_addr(table, self.format().index(target, 0)), entry);
            }
        });
    }
}

/// Where the page at `va` is after a move from `from` to `to`.
fn moved(va: VirtAddr, from: VirtAddr, to: VirtAddr) -> VirtAddr {
    VirtAddr::new(to.get() + (va.get() - from.get()))
}

/// `check_prep_vma`: whether the area may be resized or moved so.
fn check_area<H: Host>(
    caller: &Caller,
    state: &State<H>,
    vma: VmaRef<'_, H>,
    remap: &Remap,
) -> Result<(), Errno> {
    if vma.flags.contains(VmFlags::SEALED) {
        return Err(Errno::EPERM);
    }
    if !remap.expands() && !remap.implies_new_addr() {
        return Ok(());
    }
    // Length 0 duplicates a shared mapping; of a private one there is nothing to duplicate.
    if remap.old_len == 0 && !vma.flags.intersects(VmFlags::SHARED | VmFlags::MAYSHARE) {
        return Err(Errno::EINVAL);
    }
    let fixed_size = VmFlags::DONTEXPAND | VmFlags::PFNMAP;
    if remap.flags & DONTUNMAP != 0 && vma.flags.intersects(fixed_size) {
        return Err(Errno::EINVAL);
    }
    let old_len = remap.old_len.min(remap.new_len);
    if old_len > vma.end().get() - remap.addr.get() {
        return Err(Errno::EFAULT);
    }
    if remap.new_len == old_len {
        return Ok(());
    }
    let pgoff = vma.page_index(remap.addr);
    if pgoff.checked_add(remap.new_len >> PAGE_SHIFT).is_none() {
        return Err(Errno::EINVAL);
    }
    if vma.flags.intersects(fixed_size) {
        return Err(Errno::EFAULT);
    }
    let delta = remap.new_len - remap.old_len;
    if !state.vm.may_lock(caller, vma.flags, delta) {
        return Err(Errno::EAGAIN);
    }
    if !state.vm.may_expand(caller, vma.flags, delta >> PAGE_SHIFT) {
        return Err(Errno::ENOMEM);
    }
    Ok(())
}
