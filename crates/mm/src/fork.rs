//! Copying an address space for a child, and its end (Linux 6.18 mm/mmap.c: `dup_mmap`,
//! `exit_mmap`; mm/memory.c: `copy_page_range`).
//!
//! Private pages are shared: both sides lose the right to write, whoever writes first copies.
//! Tables that faults can fill again, those of files without private pages, are not copied.

use crate::accounting::{RssDelta, RssKind};
use crate::anon_vma::AnonSlot;
use crate::areas::{AreaWatch, Areas, Neighbours, VmaRef};
use crate::frames::FrameState;
use crate::host::FlushReason;
use crate::mm::{State, TableGuard, whole_reach};
use crate::pte::{SwapFlags, SwapPte};
use crate::rmap::Links;
use crate::zap::Zap;
use crate::{Caller, Host, Mm};
use alloc::sync::Arc;
use core::ops::ControlFlow;
use kilburn_addr::{AddrRange, Errno, PhysAddr, VirtAddr, VmFlags};
use kilburn_paging::tables::NoTable;
use kilburn_paging::walk::entry_addr;
use kilburn_paging::{Entry, Format, Leaf, LeafFlags, PhysMem};

/// What a parent's tables lost while they were copied.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Parent {
    /// Nothing.
    Unchanged,
    /// The right to write some pages.
    WriteProtected,
}

impl<H: Host> Mm<H> {
    /// A copy for a child process: private pages are shared until one side writes.
    ///
    /// # Errors
    /// `ENOMEM`, also when the child's memory may not be promised.
    pub fn fork(&self, caller: &Caller) -> Result<Arc<Self>, Errno> {
        let memory = self.memory();
        self.make_room_for_tables();
        let state = self.mmap_write_lock();
        let child = Self::with_state(
            memory,
            *self.layout(),
            State {
                areas: Areas::with_guard_gap(state.areas.guard_gap_bytes()),
                vm: Default::default(),
                def_flags: VmFlags::empty(),
                exec: state.exec.clone(),
                reach: whole_reach(),
            },
        )?;
        let mut parent = Parent::Unchanged;
        let mut result = Ok(());
        for vma in state.areas.iter() {
            if vma.flags.contains(VmFlags::DONTCOPY) {
                continue;
            }
            result = self.copy_area(caller, vma, state.vm.total, &child, &mut parent);
            if result.is_err() {
                break;
            }
        }
        if parent == Parent::WriteProtected {
            self.flush_all(FlushReason::Fork);
        }
        // Not before the flush: what the child gives back, the parent might still write.
        result?;
        Ok(child)
    }

    /// The child's tables are made where nothing can be reclaimed: room for them comes first.
    fn make_room_for_tables(&self) {
        if self.memory().is_reclaiming() {
            self.memory().make_room_for(self.table_counts.all());
        }
    }

    fn copy_area(
        &self,
        caller: &Caller,
        vma: VmaRef<'_, H>,
        total_vm: u64,
        child: &Self,
        parent: &mut Parent,
    ) -> Result<(), Errno> {
        let pages = vma.range.pages();
        if vma.flags.contains(VmFlags::ACCOUNT) {
            self.memory().charge(caller, total_vm, pages)?;
        }
        let wiped = vma.flags.contains(VmFlags::WIPEONFORK);
        let mut copy = vma.to_vma();
        // No child is watched (dup_userfaultfd, without UFFD_FEATURE_EVENT_FORK).
        copy.flags -= VmFlags::LOCKED | VmFlags::LOCKONFAULT | VmFlags::UFFD;
        copy.extra.set_userfault(None);
        copy.anon_vma = match vma.anon_vma.get() {
            Some(anon_vma) if !wiped => AnonSlot::holding(Some(
                self.memory().anon_vmas.make(self.memory().cpu(), Some(anon_vma.clone())),
            )),
            _ => AnonSlot::empty(),
        };
        let flags = copy.flags;
        // Linked before its pages are there, so that truncation finds them.
        let mut child_state = child.mmap_write_lock();
        let plan = child_state.areas.plan_insert(copy, Neighbours::None);
        child_state.areas.commit_insert(plan, &mut Links(child));
        child_state.vm.add(flags, pages);
        drop(child_state);
        if wiped || !needs_copy(vma) {
            return Ok(());
        }
        let _valid =
            vma.file.and_then(|file| file.mapping()).map(|mapping| mapping.invalidate.read());
        self.copy_tables(vma, child, parent).map_err(|NoTable| Errno::ENOMEM)
    }

    fn copy_tables(
        &self,
        vma: VmaRef<'_, H>,
        child: &Self,
        parent: &mut Parent,
    ) -> Result<(), NoTable> {
        let mut rss = RssDelta::default();
        let copied = self.tables().try_for_each_leaf_table(vma.range, |span| {
            // The table is made when a page is found, as Linux does. An entry that is empty stays so: the
            // parent's `mmap_lock` is held alone.
            if span.entries().all(|(_, at)| self.mem().load(at) == 0) {
                return ControlFlow::Continue(());
            }
            let Ok(table) = child.ensure_leaf_table(span.start) else {
                return ControlFlow::Break(NoTable);
            };
            let (from, to) = self.lock_two(span.start, child, span.start);
            for (i, (_, at)) in span.entries().enumerate() {
                if self.mem().load(at) == 0 {
                    continue;
                }
                let child_at = entry_addr(table, span.first + i);
                self.copy_entry(&from, &to, vma.flags, at, child_at, &mut rss, parent);
            }
            ControlFlow::Continue(())
        });
        child.counts.apply(child.memory().cpu(), rss);
        match copied {
            ControlFlow::Break(no_table) => Err(no_table),
            ControlFlow::Continue(()) => Ok(()),
        }
    }

    #[inline]
    #[expect(clippy::too_many_arguments, reason = "one entry of two tables, and two tallies")]
    fn copy_entry(
        &self,
        from: &TableGuard<'_, H>,
        to: &TableGuard<'_, H>,
        flags: VmFlags,
        at: PhysAddr,
        child_at: PhysAddr,
        rss: &mut RssDelta,
        parent: &mut Parent,
    ) {
        let raw = self.mem().load(at);
        let leaf = match self.format().decode(raw, 0) {
            Entry::Leaf(leaf) => leaf,
            Entry::Software(payload) if let Some(swapped) = SwapPte::from_payload(payload) => {
                self.copy_swapped(from, to, swapped, at, child_at);
                return;
            }
            marker => return to.set(child_at, marker),
        };
        let cow = flags & (VmFlags::SHARED | VmFlags::MAYWRITE) == VmFlags::MAYWRITE;
        let mut copy = leaf;
        if cow && leaf.flags.contains(LeafFlags::WRITE) {
            from.update(at, |leaf| Leaf { flags: leaf.flags - LeafFlags::WRITE, ..leaf });
            *parent = Parent::WriteProtected;
            copy.flags -= LeafFlags::WRITE;
        }
        if flags.contains(VmFlags::SHARED) {
            copy.flags -= LeafFlags::DIRTY;
        }
        copy.flags -= LeafFlags::ACCESSED;
        if !leaf.flags.contains(LeafFlags::SPECIAL) {
            let meta = self.memory().meta(leaf.pfn);
            if meta.state() == FrameState::Anon {
                meta.clear_exclusive();
            }
            meta.get();
            rss.add(self.note_mapping_of(leaf.pfn), 1);
        }
        to.set(child_at, Entry::Leaf(copy));
    }

    /// A page in swap is shared like one in memory: neither side has it for itself any more.
    fn copy_swapped(
        &self,
        from: &TableGuard<'_, H>,
        to: &TableGuard<'_, H>,
        swapped: SwapPte,
        at: PhysAddr,
        child_at: PhysAddr,
    ) {
        let shared = SwapPte { flags: swapped.flags - SwapFlags::EXCLUSIVE, ..swapped };
        let entry = Entry::Software(shared.payload());
        self.memory().swap_duplicate(swapped.entry);
        from.set(at, entry);
        to.set(child_at, entry);
        to.note_swapped();
    }

    /// Everything is unmapped: pages, tables, areas, promises.
    pub(crate) fn exit_mmap(&mut self) {
        let (areas, all) = {
            let state = self.state_mut();
            let areas = core::mem::take(&mut state.areas);
            let first = areas.iter().next().map_or(VirtAddr::ZERO, VmaRef::start);
            let last = areas.before(VirtAddr::MAX).map_or(first, VmaRef::end);
            (areas, AddrRange::new(first, last).unwrap_or_default())
        };
        self.zap(all, Zap::Exit);
        let end = VirtAddr::new(self.layout().task_size().get());
        self.free_tables(all, VirtAddr::ZERO, end.max(all.end()));
        for vma in areas.iter() {
            Links(self).removed(vma);
            if vma.flags.contains(VmFlags::ACCOUNT) {
                self.memory().uncharge(vma.range.pages());
            }
        }
        debug_assert!(
            [RssKind::Anon, RssKind::File, RssKind::Shmem].iter().all(|&k| self.counts.get(k) == 0),
            "pages are counted that no table had"
        );
    }
}

/// Whether the child cannot do without the parent's entries (Linux `vma_needs_copy`): there are
/// private pages, guards, or pages no fault could bring back.
fn needs_copy<H: Host>(vma: VmaRef<'_, H>) -> bool {
    let copied = VmFlags::PFNMAP | VmFlags::MIXEDMAP | VmFlags::MAYBE_GUARD;
    vma.flags.intersects(copied) || vma.anon_vma.get().is_some()
}
