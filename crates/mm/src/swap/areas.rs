//! Areas that come and go: swapon, swapoff, and what /proc/swaps says
//! (Linux 6.18 mm/swapfile.c).

use super::slots::{Content, Slots};
use super::{AREAS_MAX, Active, NotBack, Owner, SwapArea, SwapEntry};
use crate::fault::Fault;
use crate::pte::SwapPte;
use crate::{Host, Memory, Mm};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicI16, Ordering};
use kilburn_addr::{Access, AddrRange, Errno, PAGE_SIZE, VirtAddr};
use kilburn_paging::{Entry, Format};
use lock_api::Mutex;

/// Stands for the next default priority (Linux `DEF_SWAP_PRIO`).
const DEFAULT_PRIORITY: i16 = -1;

/// Areas by number, and whose turn it is.
pub(crate) struct InUse<H: Host> {
    pub(crate) by_number: Vec<Option<Arc<Active<H>>>>,
    /// Highest priority first; among equals in turn.
    order: Vec<Arc<Active<H>>>,
    /// The next priority for who asks for none: -2, -3, ...
    next_default: i16,
}

impl<H: Host> Default for InUse<H> {
    fn default() -> Self {
        Self { by_number: Vec::new(), order: Vec::new(), next_default: -2 }
    }
}

impl<H: Host> InUse<H> {
    /// What `take` finds in the first area where it finds anything, highest priority first. That
    /// area goes behind its equals.
    pub(super) fn in_turn<R>(
        &mut self,
        take: impl FnMut(&Arc<Active<H>>) -> Option<R>,
    ) -> Option<R> {
        let mut tried = self.order.iter().map(take);
        let (chosen, found) = tried.by_ref().enumerate().find_map(|(i, r)| Some((i, r?)))?;
        let priority = self.order[chosen].priority();
        let end = self.order.partition_point(|area| area.priority() >= priority);
        self.order[chosen..end].rotate_left(1);
        Some(found)
    }

    /// `active` is filled in its turn from now on. One with a default priority comes after all
    /// that are there (Linux `setup_swap_info`).
    fn add(&mut self, active: Arc<Active<H>>) {
        if active.priority() < 0 {
            active.priority.store(self.next_default, Ordering::Relaxed);
            self.next_default -= 1;
        }
        let at = self.order.partition_point(|area| area.priority() >= active.priority());
        self.order.insert(at, active.clone());
        let number = usize::from(active.number);
        self.by_number[number] = Some(active);
    }

    /// The area of that name is not filled any more. Of those with a default priority the ones
    /// after it move up (Linux 6.18 mm/swapfile.c: swapoff).
    fn take_out(&mut self, name: &str) -> Option<Arc<Active<H>>> {
        let at = self.order.iter().position(|active| active.name == name)?;
        let active = self.order.remove(at);
        if active.priority() < 0 {
            for later in &self.order[at..] {
                later.priority.fetch_add(1, Ordering::Relaxed);
            }
            self.next_default += 1;
        }
        Some(active)
    }
}

impl<H: Host> Active<H> {
    /// Who is higher is filled first.
    fn priority(&self) -> i16 {
        self.priority.load(Ordering::Relaxed)
    }
}

/// One area, as /proc/swaps lists it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SwapAreaStatus {
    /// The name it was switched on by.
    pub name: String,
    /// "file" or "partition".
    pub kind: &'static str,
    /// Slots it has, in pages.
    pub pages: u64,
    /// Slots in use.
    pub used: u64,
    /// Who is higher is filled first.
    pub priority: i16,
}

impl<H: Host> Memory<H> {
    /// Starts to use an area (Linux `swapon`), which no other has the name of. Without a priority it
    /// comes after all that are there.
    ///
    /// # Errors
    /// `EBUSY` when an area of that name is in use, `EINVAL` when it has no slots, `EPERM` when
    /// there are too many areas.
    pub fn swap_on(
        &self,
        name: &str,
        area: Arc<dyn SwapArea>,
        priority: Option<i16>,
    ) -> Result<(), Errno> {
        let count = area.slots().min(SwapPte::slots_max(H::Format::PAYLOAD_BITS));
        if count == 0 {
            return Err(Errno::EINVAL);
        }
        let mut areas = self.swap.areas.lock();
        if areas.order.iter().any(|active| active.name == name) {
            return Err(Errno::EBUSY);
        }
        let number = match areas.by_number.iter().position(Option::is_none) {
            Some(number) => number,
            None if areas.by_number.len() < AREAS_MAX => {
                areas.by_number.push(None);
                areas.by_number.len() - 1
            }
            None => return Err(Errno::EPERM),
        };
        areas.add(Arc::new(Active {
            number: number as u8,
            name: name.into(),
            priority: AtomicI16::new(priority.unwrap_or(DEFAULT_PRIORITY)),
            area,
            slots: Mutex::new(Slots::new(count)),
            transfer: Mutex::new(()),
            is_open: AtomicBool::new(true),
        }));
        drop(areas);
        self.swap.total.fetch_add(u64::from(count), Ordering::Relaxed);
        self.swap.free.fetch_add(u64::from(count), Ordering::Relaxed);
        Ok(())
    }

    /// Brings every page of an area home and stops using it (Linux `swapoff`).
    ///
    /// # Errors
    /// `EINVAL` when no area of that name is in use; `ENOMEM` when there is no room for its pages,
    /// `EIO` when one cannot be read: the area stays in use then.
    pub fn swap_off(&self, name: &str) -> Result<(), Errno> {
        let active = self.swap.areas.lock().take_out(name).ok_or(Errno::EINVAL)?;
        let (count, free) = {
            let slots = active.slots.lock();
            active.is_open.store(false, Ordering::Release);
            (u64::from(slots.len()), u64::from(slots.len() - slots.used()))
        };
        self.swap.total.fetch_sub(count, Ordering::Relaxed);
        self.swap.free.fetch_sub(free, Ordering::Relaxed);
        match self.empty(&active) {
            Ok(()) => {
                self.swap.areas.lock().by_number[usize::from(active.number)] = None;
                Ok(())
            }
            Err(errno) => {
                let slots = active.slots.lock();
                active.is_open.store(true, Ordering::Release);
                let free = u64::from(slots.len() - slots.used());
                drop(slots);
                self.swap.total.fetch_add(count, Ordering::Relaxed);
                self.swap.free.fetch_add(free, Ordering::Relaxed);
                self.swap.areas.lock().add(active);
                Err(errno)
            }
        }
    }

    /// The areas in use, in the order they were switched on.
    pub fn swap_areas(&self) -> Vec<SwapAreaStatus> {
        let areas = self.swap.areas.lock().by_number.clone();
        areas
            .into_iter()
            .flatten()
            .map(|active| {
                let slots = active.slots.lock();
                SwapAreaStatus {
                    name: active.name.clone(),
                    kind: active.area.kind(),
                    pages: u64::from(slots.len()),
                    used: u64::from(slots.used()),
                    priority: active.priority(),
                }
            })
            .collect()
    }

    /// `try_to_unuse`: faults everything in that refers to the area, then empties its swap cache.
    fn empty(&self, active: &Active<H>) -> Result<(), Errno> {
        loop {
            for mm in self.swapped_mms() {
                mm.bring_home(active.number)?;
            }
            for (_, mapping) in self.all_mappings() {
                mapping.bring_home(active.number)?;
            }
            let mut from = 0;
            while let Some(slot) = self.first_used(active, from) {
                from = slot + 1;
                self.free_cached_slot(active, slot);
            }
            // A fork may have copied entries past the walks.
            if active.slots.lock().used() == 0 {
                return Ok(());
            }
        }
    }

    fn first_used(&self, active: &Active<H>, from: u32) -> Option<u32> {
        active.slots.lock().first_used(from)
    }

    /// Gives up a slot that only the swap cache holds.
    fn free_cached_slot(&self, active: &Active<H>, slot: u32) {
        let pfn = {
            let slots = active.slots.lock();
            match slots.content(slot) {
                Content::Frame(frame) => {
                    let pfn = self.frame_at(frame);
                    self.meta(pfn).get();
                    pfn
                }
                _ => return,
            }
        };
        self.try_free_swap(pfn);
        self.put(pfn);
    }
}

impl<H: Host> Mm<H> {
    /// Brings all pages back that are in area `number` (Linux `unuse_mm`).
    fn bring_home(&self, number: u8) -> Result<(), Errno> {
        let state = self.mmap_read_lock();
        let all = AddrRange::new(VirtAddr::ZERO, self.layout().task_size()).unwrap_or_default();
        let mut from = all.start();
        loop {
            // A few at a time: tables are not locked while a page is read.
            let found = self.entries_in(number, from, all.end());
            let Some(&last) = found.last() else { return Ok(()) };
            for va in found {
                let Some(vma) = state.areas.containing(va) else { continue };
                self.fault_in(&state, vma, va, Access::Read).map_err(|fault| match fault {
                    Fault::Oom => Errno::ENOMEM,
                    _ => Errno::EIO,
                })?;
            }
            from = VirtAddr::new(last.get() + PAGE_SIZE);
        }
    }

    /// Addresses of the first entries from `from` on that are in area `number`.
    fn entries_in(&self, number: u8, from: VirtAddr, end: VirtAddr) -> Vec<VirtAddr> {
        const BATCH: usize = 64;
        let mut found = Vec::new();
        let Some(range) = AddrRange::new(from, end) else { return found };
        let _ = self.try_for_each_leaf(range, |guard, span| {
            for (va, at) in span.entries() {
                if let Entry::Software(payload) = guard.entry(at)
                    && SwapPte::from_payload(payload).is_some_and(|pte| pte.entry.area == number)
                {
                    found.push(va);
                }
            }
            if found.len() >= BATCH {
                core::ops::ControlFlow::Break(())
            } else {
                core::ops::ControlFlow::Continue(())
            }
        });
        found
    }
}

impl From<NotBack> for Errno {
    /// What a call answers whose page cannot be brought back.
    fn from(why: NotBack) -> Self {
        match why {
            NotBack::NoFrame => Self::ENOMEM,
            NotBack::Stale | NotBack::Store(_) => Self::EIO,
        }
    }
}

/// A page that several owners refer to, for its frame's metadata while none of them maps it.
impl Owner {
    /// A page of which is known only where it lies in swap.
    pub(crate) const NOBODY: Self = Self { anon_vma: 0, index: 0 };

    /// The page at `index` of the line of owners that begins with `root`.
    pub(crate) fn of_line(root: u32, index: u64) -> Self {
        Self { anon_vma: root, index }
    }
}

impl SwapEntry {
    /// Whether it lies in area `number`.
    pub(crate) fn is_in(self, number: u8) -> bool {
        self.area == number
    }
}
