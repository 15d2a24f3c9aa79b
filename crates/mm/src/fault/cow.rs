//! A write to a page that is mapped without the right to write
//! (Linux 6.18 mm/memory.c: `do_wp_page`).
//!
//! ```text
//!   shared area     the page is dirty from now on, and writable
//!   private area    whose page is it?
//!     the zero page, or the page cache's        copy
//!     anonymous, exclusive to this table        keep
//!     anonymous, nobody else refers to it       keep
//!     anonymous, shared since fork              copy
//! ```

use super::file::page_mkwrite;
use super::{Fault, FaultDone, FaultKind, Site};
use crate::accounting::RssKind;
use crate::frames::FrameState;
use crate::host::FlushReason;
use crate::page_cache::page::PageRef;
use crate::{Host, Mm, pte};
use kilburn_addr::{Pfn, PhysAddr, VmFlags};
use kilburn_paging::{Entry, Leaf, LeafFlags, PhysMem};

/// What becomes of a private page that is written.
enum Private {
    Kept,
    ToCopy,
}

impl<H: Host> Mm<H> {
    /// `was` is the page found; by now it may be another.
    pub(super) fn write_protected(
        &self,
        site: &Site<'_, H>,
        was: Leaf,
    ) -> Result<FaultDone, Fault> {
        if site.vma.flags.contains(VmFlags::SHARED) {
            return self.write_shared(site, was);
        }
        self.prepare_anon_vma(site.state, site.vma);
        match self.keep_if_last(site, was) {
            None => Ok(FaultDone::minor(FaultKind::Spurious)),
            Some((Private::Kept, _)) => {
                self.flush_page(site.va, FlushReason::Cow);
                Ok(FaultDone::minor(FaultKind::CowReuse))
            }
            Some((Private::ToCopy, source)) => self.copy_private(site, was, source),
        }
    }

    /// `wp_page_shared`, `wp_pfn_shared`: the page becomes dirty, then writable.
    fn write_shared(&self, site: &Site<'_, H>, was: Leaf) -> Result<FaultDone, Fault> {
        let file = site.vma.file.ok_or(Fault::Bus)?;
        let kind = match (file.mapping(), file.ops()) {
            (None, Some(device)) => {
                device.page_mkwrite(site.index())?;
                FaultKind::Device
            }
            (Some(mapping), _) => {
                let _valid = mapping.invalidate.read();
                if site.index() >= mapping.size_pages() {
                    // Truncated meanwhile: the page is gone from the tables as well.
                    return Ok(FaultDone::minor(FaultKind::Spurious));
                }
                page_mkwrite(mapping, site.index())?;
                FaultKind::FileShared
            }
            (None, None) => return Err(Fault::Bus),
        };
        let guard = self.lock_leaf(site.va);
        let Some(at) = guard.tables.entry_at(site.va) else {
            return Ok(FaultDone::minor(FaultKind::Spurious));
        };
        let flags = pte::written(site.vma.flags) | (was.flags & LeafFlags::SPECIAL);
        match guard.entry(at) {
            Entry::Leaf(now) if now.pfn == was.pfn => {
                guard.set_leaf(at, site.va, Leaf { pfn: now.pfn, flags });
            }
            _ => return Ok(FaultDone::minor(FaultKind::Spurious)),
        }
        drop(guard);
        self.flush_page(site.va, FlushReason::Cow);
        Ok(FaultDone::minor(kind))
    }

    /// Makes a private page writable where it is, if nobody else has it; otherwise answers a
    /// reference to it, so that it stays while it is copied. `None`: the page is another by now.
    fn keep_if_last(
        &self,
        site: &Site<'_, H>,
        was: Leaf,
    ) -> Option<(Private, Option<PageRef<'_, H>>)> {
        let guard = self.lock_leaf(site.va);
        let at = self.same_page(&guard, site, was)?;
        if was.flags.contains(LeafFlags::SPECIAL) {
            return Some((Private::ToCopy, None));
        }
        let meta = self.memory().meta(was.pfn);
        let is_anon = meta.state() == FrameState::Anon;
        if is_anon && (meta.is_exclusive() || self.is_last_sharer(was.pfn)) {
            if !meta.is_exclusive() {
                // The last of those who shared it since a fork: it is this area's alone now.
                meta.set_exclusive();
                let anon_vma = site.vma.anon_vma.get().expect("prepared");
                meta.set_owner(anon_vma.id());
            }
            guard.set_leaf(
                at,
                site.va,
                Leaf {
                    pfn: was.pfn,
                    flags: pte::written(site.vma.flags) | (was.flags & LeafFlags::SOFT_DIRTY),
                },
            );
            return Some((Private::Kept, None));
        }
        meta.get();
        Some((Private::ToCopy, Some(PageRef::from_held(self.memory(), was.pfn))))
    }

    /// Whether the entry being looked at has the only reference to the private page; the swap
    /// cache lets go of it for that (Linux `wp_can_reuse_anon_folio`).
    fn is_last_sharer(&self, pfn: Pfn) -> bool {
        let meta = self.memory().meta(pfn);
        match meta.refs() {
            1 => true,
            2 if meta.is_swap_cached() => self.memory().try_free_swap(pfn) && meta.refs() == 1,
            _ => false,
        }
    }

    /// `wp_page_copy`: a frame of its own. `source` is the page, or none for the zero page and
    /// device memory.
    fn copy_private(
        &self,
        site: &Site<'_, H>,
        was: Leaf,
        source: Option<PageRef<'_, H>>,
    ) -> Result<FaultDone, Fault> {
        let zero = was.pfn == self.memory().zero_frame();
        let (memory, memcg) = (self.memory(), self.memcg());
        let copy = if zero { memory.alloc_zeroed_for(memcg)? } else { memory.alloc_for(memcg)? };
        if !zero {
            self.mem().copy(was.pfn, copy);
        }
        let guard = self.lock_leaf(site.va);
        let Some(at) = self.same_page(&guard, site, was) else {
            drop(guard);
            self.memory().discard(copy);
            return Ok(FaultDone::minor(FaultKind::Spurious));
        };
        self.begin_anon(site.vma, site.va, copy);
        guard.set_leaf(at, site.va, Leaf { pfn: copy, flags: pte::written(site.vma.flags) });
        drop(guard);
        self.flush_page(site.va, FlushReason::Cow);
        self.counts.add(self.memory().cpu(), RssKind::Anon, 1);
        let Some(page) = source else { return Ok(FaultDone::minor(FaultKind::CowCopy)) };
        let kind = self.forget_mapping_of(page.pfn());
        self.counts.add(self.memory().cpu(), kind, -1);
        // The reference of the entry that mapped it; `page` holds another.
        self.memory().put(page.pfn());
        Ok(FaultDone::minor(match kind {
            RssKind::Anon => FaultKind::CowCopy,
            RssKind::File | RssKind::Shmem => FaultKind::FileCow,
        }))
    }

    /// Where the entry lies, if it still maps the same page without the right to write.
    fn same_page(
        &self,
        guard: &crate::mm::TableGuard<'_, H>,
        site: &Site<'_, H>,
        was: Leaf,
    ) -> Option<PhysAddr> {
        let at = guard.tables.entry_at(site.va)?;
        match guard.entry(at) {
            Entry::Leaf(now) if now.pfn == was.pfn && !now.flags.contains(LeafFlags::WRITE) => {
                Some(at)
            }
            _ => None,
        }
    }
}
