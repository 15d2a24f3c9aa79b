//! Pages of files and devices used for the first time (Linux 6.18 mm/memory.c: `do_fault`;
//! mm/filemap.c: `filemap_fault`).

use super::{Fault, FaultDone, FaultKind, Site};
use crate::frames::FrameState;
use crate::mappable::{DeviceFault, Mappable};
use crate::page_cache::page::PageRef;
use crate::page_cache::{AddressSpace, Found};
use crate::{Host, Mm, pte};
use kilburn_addr::{Pfn, VmFlags};
use kilburn_paging::walk::entry_addr;
use kilburn_paging::{Entry, Format, Leaf, LeafFlags, PhysMem};

impl From<DeviceFault> for Fault {
    fn from(fault: DeviceFault) -> Self {
        match fault {
            DeviceFault::Bus => Self::Bus,
            DeviceFault::Oom => Self::Oom,
        }
    }
}

impl<H: Host> Mm<H> {
    pub(super) fn file_fault(&self, site: &Site<'_, H>) -> Result<FaultDone, Fault> {
        let Some(file) = &site.vma.file else { return Err(Fault::Bus) };
        let Some(mapping) = file.mapping() else {
            let device = file.ops().ok_or(Fault::Bus)?;
            return self.device_fault(site, device);
        };
        // Truncation waits until the page looked up here is mapped, and then unmaps it.
        let _valid = mapping.invalidate.read();
        let private_write = site.is_write() && !site.vma.flags.contains(VmFlags::SHARED);
        if private_write {
            // Even if there is no page to copy: it decides what merges later.
            self.prepare_anon_vma(site.state, site.vma);
        }
        if site.index() >= mapping.size_pages() {
            if !site.is_write() {
                self.only_around(site, mapping)?;
            }
            return Err(Fault::Bus);
        }
        if !site.is_write() {
            self.read_fault(site, mapping)
        } else if private_write {
            self.cow_fault(site, mapping)
        } else {
            self.shared_fault(site, mapping)
        }
    }

    /// `do_read_fault`: the page as it is, and those around it that are at hand.
    fn read_fault(
        &self,
        site: &Site<'_, H>,
        mapping: &AddressSpace<H>,
    ) -> Result<FaultDone, Fault> {
        let around = self.around(site, mapping);
        let (page, major) = match mapping.cached_page(site.index()) {
            Some(page) => (page, false),
            None => {
                let (page, found) = mapping.page(site.index()).map_err(Fault::from_errno)?;
                // DIVERGENCE(readahead-window): Linux reads ahead as much as the device's queue
                // says; here it is what is mapped around, so that residency is that of a warm
                // cache.
                if found == Found::Read {
                    mapping.read_ahead(around.indices());
                }
                (page, found == Found::Read)
            }
        };
        let flags = read_flags(site.vma.flags, mapping);
        let table = self.ensure_leaf_table(site.va)?;
        let guard = self.lock_leaf(site.va);
        let at = entry_addr(table, self.format().index(site.va, 0));
        if guard.entry(at) != Entry::None {
            return Ok(FaultDone { kind: FaultKind::Spurious, major });
        }
        guard.set_leaf(at, site.va, Leaf { pfn: page.pfn(), flags });
        self.count_mapped(&page);
        if !site.vma.flags.contains(VmFlags::UFFD_MINOR) {
            self.map_around(&guard, table, mapping, &around, flags);
        }
        Ok(FaultDone { kind: FaultKind::FileRead, major })
    }

    /// `do_fault_around` comes before the page itself is looked for: pages of the file are mapped
    /// even where the one asked for lies past its end.
    fn only_around(&self, site: &Site<'_, H>, mapping: &AddressSpace<H>) -> Result<(), Fault> {
        let around = self.around(site, mapping);
        let mut cached = false;
        mapping.for_each_cached(around.indices(), |_, _| cached = true);
        if !cached || site.vma.flags.contains(VmFlags::UFFD_MINOR) {
            return Ok(());
        }
        let flags = read_flags(site.vma.flags, mapping);
        let table = self.ensure_leaf_table(site.va)?;
        let guard = self.lock_leaf(site.va);
        self.map_around(&guard, table, mapping, &around, flags);
        Ok(())
    }

    /// `do_cow_fault`: a private copy at once.
    fn cow_fault(&self, site: &Site<'_, H>, mapping: &AddressSpace<H>) -> Result<FaultDone, Fault> {
        let (page, found) = mapping.page(site.index()).map_err(Fault::from_errno)?;
        let copy = self.memory().alloc_for(self.memcg())?;
        self.mem().copy(page.pfn(), copy);
        let done = self.map_new_anon(site, copy, FaultKind::FileCow)?;
        Ok(FaultDone { major: found == Found::Read, ..done })
    }

    /// `do_shared_fault`: the page itself, writable; it is dirty from now on.
    fn shared_fault(
        &self,
        site: &Site<'_, H>,
        mapping: &AddressSpace<H>,
    ) -> Result<FaultDone, Fault> {
        let (page, found) = mapping.page(site.index()).map_err(Fault::from_errno)?;
        let major = found == Found::Read;
        let table = self.ensure_leaf_table(site.va)?;
        let guard = self.lock_leaf(site.va);
        let at = entry_addr(table, self.format().index(site.va, 0));
        if guard.entry(at) != Entry::None {
            return Ok(FaultDone { kind: FaultKind::Spurious, major });
        }
        page_mkwrite(mapping, site.index())?;
        guard.set_leaf(at, site.va, Leaf { pfn: page.pfn(), flags: pte::written(site.vma.flags) });
        self.count_mapped(&page);
        Ok(FaultDone { kind: FaultKind::FileShared, major })
    }

    /// A page of a device, or of the kernel's own.
    fn device_fault(
        &self,
        site: &Site<'_, H>,
        device: &dyn Mappable<H>,
    ) -> Result<FaultDone, Fault> {
        let pfn = device.fault(site.index(), site.access)?;
        let private_write = site.is_write() && !site.vma.flags.contains(VmFlags::SHARED);
        let ours = self.memory().frames.contains(pfn) && !site.vma.flags.contains(VmFlags::PFNMAP);
        if private_write && ours {
            self.prepare_anon_vma(site.state, site.vma);
            let copy = self.memory().alloc_for(self.memcg())?;
            self.mem().copy(pfn, copy);
            return self.map_new_anon(site, copy, FaultKind::FileCow);
        }
        if site.is_write() {
            device.page_mkwrite(site.index())?;
        }
        let mut flags = if site.is_write() {
            pte::written(site.vma.flags)
        } else {
            pte::read_only(site.vma.flags)
        };
        let table = self.ensure_leaf_table(site.va)?;
        let guard = self.lock_leaf(site.va);
        let at = entry_addr(table, self.format().index(site.va, 0));
        if guard.entry(at) != Entry::None {
            return Ok(FaultDone::minor(FaultKind::Spurious));
        }
        if ours {
            self.memory().meta(pfn).get();
            self.count_mapping(pfn);
        } else {
            flags |= LeafFlags::SPECIAL;
        }
        guard.set_leaf(at, site.va, Leaf { pfn, flags });
        // The kernel's own pages count as a file's.
        Ok(FaultDone::minor(if ours { FaultKind::FileRead } else { FaultKind::Device }))
    }

    /// The entry just set refers to the page, besides whoever holds `page`.
    fn count_mapped(&self, page: &PageRef<'_, H>) {
        self.memory().meta(page.pfn()).get();
        self.count_mapping(page.pfn());
    }

    /// One entry more maps the frame, for which the caller has taken a reference.
    pub(super) fn count_mapping(&self, pfn: Pfn) {
        debug_assert_ne!(self.memory().meta(pfn).state(), FrameState::Anon);
        let kind = self.note_mapping_of(pfn);
        self.counts.add(self.memory().cpu(), kind, 1);
    }
}

/// A page of the cache becomes writable in a table: it is dirty from now on (Linux
/// `do_page_mkwrite`). Called while truncation is held off.
///
/// # Errors
/// SIGBUS for a file that swap lies in.
pub(super) fn page_mkwrite<H: Host>(mapping: &AddressSpace<H>, index: u64) -> Result<(), Fault> {
    if mapping.is_swap_file() {
        return Err(Fault::Bus);
    }
    mapping.mark_dirty(index);
    Ok(())
}

/// Flags of a page of the cache that is read: writes are withheld, to be copied or noticed,
/// except where a shared page has no store to be written to (Linux `vma_wants_writenotify`).
pub(super) fn read_flags<H: Host>(flags: VmFlags, mapping: &AddressSpace<H>) -> LeafFlags {
    if flags.contains(VmFlags::SHARED) && mapping.is_shmem() {
        pte::rights(flags) | LeafFlags::ACCESSED
    } else {
        pte::read_only(flags)
    }
}
