//! Moving private pages to where they are missing (Linux 6.18 mm/userfaultfd.c: `move_pages`).

use super::{FillMode, Userfaultfd};
use crate::frames::FrameState;
use crate::host::FlushReason;
use crate::mm::State;
use crate::{Host, Mm, VmaRef, pte};
use alloc::sync::Arc;
use kilburn_addr::{AddrRange, Errno, PAGE_SIZE, PhysAddr, VirtAddr, VmFlags};
use kilburn_paging::tables::{self, NoTable};
use kilburn_paging::walk::entry_addr;
use kilburn_paging::{Entry, Format, Leaf, LeafFlags};

/// What an unmapped page of the source means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Holes {
    /// The end.
    Refused,
    /// Nothing (`UFFDIO_MOVE_MODE_ALLOW_SRC_HOLES`).
    Allowed,
}

impl<H: Host> Userfaultfd<H> {
    /// Moves the pages of `len` bytes at `from` to `to` (`UFFDIO_MOVE`); answers how many bytes
    /// it moved.
    pub(super) fn relocate(
        self: &Arc<Self>,
        to: AddrRange,
        from: AddrRange,
        holes: Holes,
        mode: FillMode,
    ) -> Result<u64, Errno> {
        let mm = self.mm.upgrade().ok_or(Errno::ESRCH)?;
        let state = mm.mmap_read_lock();
        let source = state.areas.containing(from.start()).ok_or(Errno::ENOENT)?;
        let target = state.areas.containing(to.start()).ok_or(Errno::ENOENT)?;
        self.check_areas((source, from), (target, to))?;
        mm.prepare_anon_vma(&state, target);
        let mut done = 0;
        while done < to.len() {
            let at = |range: AddrRange| VirtAddr::new(range.start().get() + done);
            match mm.relocate_page(&state, target, at(to), at(from), holes) {
                Ok(()) => done += PAGE_SIZE,
                Err(errno) if done == 0 => return Err(errno),
                Err(_) => break,
            }
        }
        drop(state);
        if mode == FillMode::Wake {
            self.wake_range(to.start(), done);
        }
        Ok(done)
    }

    /// `move_pages`, `validate_move_areas`
    fn check_areas(
        self: &Arc<Self>,
        (source, from): (VmaRef<'_, H>, AddrRange),
        (target, to): (VmaRef<'_, H>, AddrRange),
    ) -> Result<(), Errno> {
        let alike = VmFlags::ACCESS | VmFlags::LOCKED;
        let fixed = VmFlags::PFNMAP | VmFlags::IO | VmFlags::MIXEDMAP;
        let movable = |vma: VmaRef<'_, H>| {
            vma.is_anonymous() && !vma.flags.intersects(fixed | VmFlags::SHARED)
        };
        let fits = source.range.contains_range(from) && target.range.contains_range(to);
        let ours = target.userfault().is_some_and(|watcher| Arc::ptr_eq(watcher, self));
        let allowed = fits
            && ours
            && movable(source)
            && movable(target)
            && (source.flags & alike) == (target.flags & alike)
            && source.flags.contains(VmFlags::WRITE);
        if allowed { Ok(()) } else { Err(Errno::EINVAL) }
    }
}

impl<H: Host> Mm<H> {
    fn relocate_page(
        &self,
        state: &State<H>,
        target: VmaRef<'_, H>,
        to: VirtAddr,
        from: VirtAddr,
        holes: Holes,
    ) -> Result<(), Errno> {
        debug_assert!(state.areas.containing(to).is_some());
        let hole = match holes {
            Holes::Refused => Err(Errno::ENOENT),
            Holes::Allowed => Ok(()),
        };
        self.bring_back(state, from)?;
        if self.tables().leaf_table(from).is_none() {
            return hole;
        }
        let table = self.ensure_leaf_table(to).map_err(|NoTable| Errno::ENOMEM)?;
        let (guard, source) = self.lock_two(to, self, from);
        let at = entry_addr(table, self.format().index(to, 0));
        if guard.entry(at) != Entry::None {
            return Err(Errno::EEXIST);
        }
        let Some(source_at) = guard.tables.entry_at(from) else { return hole };
        let leaf = match guard.entry(source_at) {
            Entry::None => return hole,
            Entry::Leaf(leaf) => leaf,
            _ => return Err(Errno::EFAULT),
        };
        if leaf.flags.contains(LeafFlags::SPECIAL) {
            let flags = pte::read_only(target.flags) | LeafFlags::SPECIAL;
            self.put_there(&guard, source_at, (at, to), Leaf { flags, ..leaf });
        } else {
            let meta = self.memory().meta(leaf.pfn);
            // A page on its way to swap is looked for under its old address.
            let alone = meta.state() == FrameState::Anon
                && meta.is_exclusive()
                && self.memory().try_free_swap(leaf.pfn);
            if !alone {
                return Err(Errno::EBUSY);
            }
            let anon_vma = target.anon_vma.get().expect("prepared before pages are moved");
            meta.set_owner(anon_vma.id());
            meta.set_index(target.page_index(to));
            let mut flags = pte::rights(target.flags) | LeafFlags::ACCESSED;
            flags |= leaf.flags & LeafFlags::DIRTY;
            self.put_there(&guard, source_at, (at, to), Leaf { flags, ..leaf });
        }
        drop((guard, source));
        self.flush_page(from, FlushReason::Move);
        Ok(())
    }

    fn put_there(
        &self,
        guard: &crate::mm::TableGuard<'_, H>,
        source_at: PhysAddr,
        (at, to): (PhysAddr, VirtAddr),
        leaf: Leaf,
    ) {
        let was = tables::take(self.mem(), self.format(), source_at);
        let dirty = match was {
            // Hardware may have set it since the look.
            Entry::Leaf(was) if !leaf.flags.contains(LeafFlags::SPECIAL) => {
                was.flags & LeafFlags::DIRTY
            }
            _ => LeafFlags::empty(),
        };
        guard.set_leaf(at, to, Leaf { flags: leaf.flags | dirty, ..leaf });
    }
}
