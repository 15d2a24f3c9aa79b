//! The advice of madvise that acts on pages (Linux 6.18 mm/madvise.c).

use super::madvise::Advice;
use crate::fault::Fault;
use crate::frames::FrameState;
use crate::host::FlushReason;
use crate::mm::{State, TableGuard};
use crate::pte::{Marker, SwapPte};
use crate::zap::Zap;
use crate::{Host, Mm, VmaRef};
use alloc::vec::Vec;
use kilburn_addr::{Access, AddrRange, Errno, PAGE_SIZE, Pfn, PhysAddr, VirtAddr, VmFlags};
use kilburn_paging::tables::NoTable;
use kilburn_paging::walk::entry_addr;
use kilburn_paging::{Entry, Format, Leaf, LeafFlags, PhysMem};

/// What reclaim is told of pages.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Hint {
    /// They were not used lately.
    Cold,
    /// They were not used lately, and their content may be dropped unless they are written.
    Free,
}

impl<H: Host> Mm<H> {
    /// Acts on the pages of `part`, which lies in `vma`.
    pub(super) fn advise_pages(
        &self,
        state: &State<H>,
        vma: VmaRef<'_, H>,
        part: AddrRange,
        advice: Advice,
    ) -> Result<(), Errno> {
        match advice {
            Advice::DontNeed | Advice::DontNeedLocked | Advice::Free => {
                self.discard_pages(vma, part, advice)
            }
            Advice::WillNeed => {
                if let Some(mapping) = vma.file.and_then(|file| file.mapping()) {
                    let (first, end) = (vma.page_index(part.start()), mapping.size_pages());
                    if first < end {
                        mapping.read_ahead(first..=(first + (part.pages() - 1)).min(end - 1));
                    }
                }
                Ok(())
            }
            Advice::Remove => remove_pages(vma, part),
            Advice::Cold | Advice::PageOut => {
                if vma.flags.intersects(VmFlags::LOCKED | VmFlags::PFNMAP) {
                    return Err(Errno::EINVAL);
                }
                self.hint_pages(part, Hint::Cold);
                if advice == Advice::PageOut {
                    self.page_out(vma, part);
                }
                Ok(())
            }
            Advice::GuardInstall => self.install_guards(state, vma, part),
            Advice::GuardRemove => self.remove_guards(vma, part),
            _ => unreachable!("{advice:?} acts on flags or is taken apart before"),
        }
    }

    /// `madvise_dontneed_free`
    fn discard_pages(
        &self,
        vma: VmaRef<'_, H>,
        part: AddrRange,
        advice: Advice,
    ) -> Result<(), Errno> {
        let mut forbidden = VmFlags::PFNMAP;
        if advice != Advice::DontNeedLocked {
            forbidden |= VmFlags::LOCKED;
        }
        if vma.flags.intersects(forbidden) {
            return Err(Errno::EINVAL);
        }
        if advice != Advice::Free {
            self.zap(part, Zap::Discard);
            return Ok(());
        }
        if !vma.is_anonymous() {
            return Err(Errno::EINVAL);
        }
        self.hint_pages(part, Hint::Free);
        Ok(())
    }

    /// Clears the signs of use, of cold pages only where nobody shares them.
    fn hint_pages(&self, part: AddrRange, hint: Hint) {
        let mut forgotten = LeafFlags::ACCESSED;
        if hint == Hint::Free {
            forgotten |= LeafFlags::DIRTY;
        }
        let mut changed = false;
        self.for_each_leaf(part, |guard, span| {
            for (_, at) in span.entries() {
                let leaf = match guard.entry(at) {
                    Entry::Leaf(leaf) => leaf,
                    Entry::Software(payload) if hint == Hint::Free => {
                        self.drop_swapped(guard, at, payload);
                        continue;
                    }
                    _ => continue,
                };
                if leaf.flags.contains(LeafFlags::SPECIAL) {
                    continue;
                }
                let meta = self.memory().meta(leaf.pfn);
                let shared = meta.maps() != 1;
                if shared && hint == Hint::Cold {
                    continue;
                }
                if hint == Hint::Free && meta.state() == FrameState::Anon {
                    if meta.is_swap_cached() || meta.is_dirty() {
                        // What is noted of the page counts for all who map it, and what is in swap
                        // is older than what the owner gives up.
                        if shared || !self.memory().try_free_swap(leaf.pfn) {
                            continue;
                        }
                        meta.take_dirty();
                    }
                    self.memory().mark_lazy_free(leaf.pfn);
                }
                changed |= guard
                    .update(at, |leaf| Leaf { flags: leaf.flags - forgotten, ..leaf })
                    .is_some_and(|before| before.flags.intersects(forgotten));
            }
        });
        if changed {
            self.flush(part, FlushReason::Clean);
        }
    }

    /// Evicts the pages that only this address space maps, as far as they have somewhere to go: to
    /// swap, or clean to their file (Linux `madvise_cold_or_pageout_pte_range`).
    fn page_out(&self, vma: VmaRef<'_, H>, part: AddrRange) {
        let mapping = vma.file.and_then(|file| file.mapping());
        let mut going: Vec<Pfn> = Vec::new();
        self.for_each_leaf(part, |guard, span| {
            for (va, at) in span.entries() {
                let Entry::Leaf(leaf) = guard.entry(at) else { continue };
                if leaf.flags.contains(LeafFlags::SPECIAL) {
                    continue;
                }
                let meta = self.memory().meta(leaf.pfn);
                let dirty_file = meta.state() == FrameState::File
                    && mapping.is_some_and(|m| m.is_dirty(vma.page_index(va)));
                if meta.state() != FrameState::Kernel && meta.maps() == 1 && !dirty_file {
                    meta.get();
                    going.push(leaf.pfn);
                }
            }
        });
        for pfn in going {
            self.memory().reclaim_page(pfn);
        }
    }

    /// The owner of a page in swap gave its content up.
    fn drop_swapped(&self, guard: &TableGuard<'_, H>, at: PhysAddr, payload: u64) {
        if let Some(swapped) = SwapPte::from_payload(payload) {
            guard.set(at, Entry::None);
            self.counts.swapped_in(1);
            self.memory().swap_free(swapped.entry);
        }
    }

    /// `madvise_guard_install`: every access to the range is refused from now on.
    fn install_guards(
        &self,
        state: &State<H>,
        vma: VmaRef<'_, H>,
        part: AddrRange,
    ) -> Result<(), Errno> {
        let forbidden = VmFlags::SPECIAL | VmFlags::HUGETLB | VmFlags::LOCKED;
        if vma.flags.intersects(forbidden) {
            return Err(Errno::EINVAL);
        }
        if vma.is_anonymous() {
            // Where there are tables, Linux expects one.
            self.prepare_anon_vma(state, vma);
        }
        self.zap(part, Zap::Unmap);
        let marker = Entry::Software(Marker::Guard.payload());
        let mut va = part.start();
        while va < part.end() {
            let table = self.ensure_leaf_table(va).map_err(|NoTable| Errno::ENOMEM)?;
            self.lock_leaf(va).set(entry_addr(table, self.format().index(va, 0)), marker);
            va = VirtAddr::new(va.get() + PAGE_SIZE);
        }
        Ok(())
    }

    /// `madvise_guard_remove`
    fn remove_guards(&self, vma: VmaRef<'_, H>, part: AddrRange) -> Result<(), Errno> {
        if vma.flags.intersects(VmFlags::SPECIAL | VmFlags::HUGETLB) {
            return Err(Errno::EINVAL);
        }
        self.for_each_leaf(part, |guard, span| {
            for (_, at) in span.entries() {
                self.remove_guard(guard, at);
            }
        });
        Ok(())
    }

    fn remove_guard(&self, guard: &TableGuard<'_, H>, at: PhysAddr) {
        if let Entry::Software(payload) = self.format().decode(self.mem().load(at), 0)
            && Marker::from_payload(payload) == Some(Marker::Guard)
        {
            guard.set(at, Entry::None);
        }
    }

    /// `madvise_populate`: faults pages in, and says what stands in the way.
    pub(super) fn populate_for(&self, range: AddrRange, access: Access) -> Result<(), Errno> {
        // Not what hardware makes of the rights: a writable area need not be readable here
        // (Linux 6.18 mm/gup.c: check_vma_flags).
        let needed = match access {
            Access::Write => VmFlags::WRITE,
            Access::Read | Access::Exec => VmFlags::READ,
        };
        let state = self.mmap_read_lock();
        let mut at = range.start();
        while at < range.end() {
            let vma = state.areas.containing(at).ok_or(Errno::ENOMEM)?;
            if vma.flags.intersects(VmFlags::IO | VmFlags::PFNMAP) || !vma.flags.contains(needed) {
                return Err(Errno::EINVAL);
            }
            let end = vma.end().min(range.end());
            let part = AddrRange::new(at, end).ok_or(Errno::ENOMEM)?;
            self.fault_in_part(&state, vma, part, access).map_err(|fault| match fault {
                Fault::Oom => Errno::ENOMEM,
                Fault::Poisoned => Errno::EHWPOISON,
                _ => Errno::EFAULT,
            })?;
            at = end;
        }
        Ok(())
    }
}

/// `madvise_remove`: a hole in the file.
fn remove_pages<H: Host>(vma: VmaRef<'_, H>, part: AddrRange) -> Result<(), Errno> {
    if vma.flags.contains(VmFlags::LOCKED) {
        return Err(Errno::EINVAL);
    }
    let mapping = vma.file.and_then(|file| file.mapping()).ok_or(Errno::EINVAL)?;
    if !vma.flags.contains(VmFlags::SHARED | VmFlags::MAYWRITE) {
        return Err(Errno::EACCES);
    }
    let start = vma.page_index(part.start()).saturating_mul(PAGE_SIZE);
    mapping.punch_hole(start..start.saturating_add(part.len()))
}
