//! /proc/PID/smaps and smaps_rollup (Linux 6.18 fs/proc/task_mmu.c: `smaps_account`,
//! `__show_smap`), from the tables and the true number of mappings of each frame.

use super::Usage;
use super::maps::write_header;
use crate::frames::FrameState;
use crate::pte::SwapPte;
use crate::{Host, Mm, VmaRef};
use core::fmt;
use kilburn_addr::{PAGE_SIZE, VmFlags};
use kilburn_paging::{Entry, Leaf, LeafFlags};

/// Binary digits of a proportional share kept below a byte (Linux `PSS_SHIFT`).
const PSS_SHIFT: u32 = 12;

/// What the pages of areas add up to (Linux `mem_size_stats`); bytes, shares with
/// [`PSS_SHIFT`] more digits.
#[derive(Clone, Copy, Default)]
struct Sizes {
    resident: u64,
    shared_clean: u64,
    shared_dirty: u64,
    private_clean: u64,
    private_dirty: u64,
    referenced: u64,
    anonymous: u64,
    lazy_free: u64,
    pss: u64,
    pss_anon: u64,
    pss_file: u64,
    pss_shmem: u64,
    pss_dirty: u64,
    pss_locked: u64,
    swap: u64,
    swap_pss: u64,
}

impl<H: Host> Mm<H> {
    /// Writes /proc/PID/smaps.
    ///
    /// # Errors
    /// What `out` answers.
    pub fn write_smaps(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        let state = self.mmap_read_lock();
        for vma in state.areas.iter() {
            let sizes = self.sizes_of(vma);
            write_header(out, &state, vma)?;
            line(out, "Size:           ", vma.range.len())?;
            line(out, "KernelPageSize: ", PAGE_SIZE)?;
            line(out, "MMUPageSize:    ", PAGE_SIZE)?;
            sizes.write(out, Detail::Area)?;
            writeln!(out, "THPeligible:    {:8}", 0)?;
            write_flags(out, vma.flags)?;
        }
        Ok(())
    }

    /// Writes /proc/PID/smaps_rollup.
    ///
    /// # Errors
    /// What `out` answers.
    pub fn write_smaps_rollup(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        let state = self.mmap_read_lock();
        let mut all = Sizes::default();
        let (mut start, mut end) = (0, 0);
        for (i, vma) in state.areas.iter().enumerate() {
            all.add(&self.sizes_of(vma));
            if i == 0 {
                start = vma.start().get();
            }
            end = vma.end().get();
        }
        let head = alloc::format!("{start:08x}-{end:08x} ---p 00000000 00:00 0 ");
        writeln!(out, "{head:<72} [rollup]")?;
        all.write(out, Detail::Rollup)
    }

    /// RSS, PSS and USS, from a walk over the tables.
    pub fn usage(&self) -> Usage {
        let state = self.mmap_read_lock();
        let mut all = Sizes::default();
        for vma in state.areas.iter() {
            all.add(&self.sizes_of(vma));
        }
        Usage {
            rss: all.resident,
            pss: all.pss >> PSS_SHIFT,
            uss: all.private_clean + all.private_dirty,
        }
    }

    fn sizes_of(&self, vma: VmaRef<'_, H>) -> Sizes {
        let mut sizes = Sizes::default();
        self.for_each_leaf(vma.range, |guard, span| {
            for (_, at) in span.entries() {
                match guard.entry(at) {
                    Entry::Leaf(leaf) => self.add_page(leaf, vma.flags, &mut sizes),
                    Entry::Software(payload) => self.add_swapped(payload, &mut sizes),
                    Entry::None | Entry::Table(_) => {}
                }
            }
        });
        if let Some(shmem) = vma.file.and_then(|f| f.mapping()).filter(|m| m.is_shmem()) {
            // Not by entries: they are empty, whoever used the page (Linux `smap_gather_stats`).
            let first = vma.page_index(vma.start());
            sizes.swap += shmem.swapped_among(first..=first + (vma.range.pages() - 1)) * PAGE_SIZE;
        }
        sizes
    }

    fn add_swapped(&self, payload: u64, sizes: &mut Sizes) {
        let Some(swapped) = SwapPte::from_payload(payload) else { return };
        let sharers = u64::from(self.memory().swap_references(swapped.entry).max(1));
        sizes.swap += PAGE_SIZE;
        sizes.swap_pss += (PAGE_SIZE << PSS_SHIFT) / sharers;
    }

    fn add_page(&self, leaf: Leaf, flags: VmFlags, sizes: &mut Sizes) {
        if leaf.flags.contains(LeafFlags::SPECIAL) {
            return;
        }
        let meta = self.memory().meta(leaf.pfn);
        let state = meta.state();
        // A page that a table and the page cache refer to is still mapped once.
        let maps = u64::from(meta.maps().max(1));
        let share = (PAGE_SIZE << PSS_SHIFT) / maps;
        let dirty = leaf.flags.contains(LeafFlags::DIRTY)
            || state == FrameState::Anon && meta.is_dirty()
            || state == FrameState::Shmem && meta.is_dirty_shmem()
            || state == FrameState::File
                && self.memory().mapping(meta.owner()).is_some_and(|m| m.is_dirty(meta.index()));
        sizes.resident += PAGE_SIZE;
        sizes.pss += share;
        match state {
            FrameState::Anon => {
                sizes.anonymous += PAGE_SIZE;
                sizes.pss_anon += share;
                if meta.is_lazy_free() && !dirty {
                    sizes.lazy_free += PAGE_SIZE;
                }
            }
            FrameState::Shmem => sizes.pss_shmem += share,
            _ => sizes.pss_file += share,
        }
        if leaf.flags.contains(LeafFlags::ACCESSED) {
            sizes.referenced += PAGE_SIZE;
        }
        if flags.contains(VmFlags::LOCKED) {
            sizes.pss_locked += share;
        }
        if dirty {
            sizes.pss_dirty += share;
        }
        *match (maps > 1, dirty) {
            (true, true) => &mut sizes.shared_dirty,
            (true, false) => &mut sizes.shared_clean,
            (false, true) => &mut sizes.private_dirty,
            (false, false) => &mut sizes.private_clean,
        } += PAGE_SIZE;
    }
}

/// Which lines are written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Detail {
    Area,
    Rollup,
}

impl Sizes {
    fn add(&mut self, other: &Self) {
        for (sum, part) in [
            (&mut self.resident, other.resident),
            (&mut self.shared_clean, other.shared_clean),
            (&mut self.shared_dirty, other.shared_dirty),
            (&mut self.private_clean, other.private_clean),
            (&mut self.private_dirty, other.private_dirty),
            (&mut self.referenced, other.referenced),
            (&mut self.anonymous, other.anonymous),
            (&mut self.lazy_free, other.lazy_free),
            (&mut self.pss, other.pss),
            (&mut self.pss_anon, other.pss_anon),
            (&mut self.pss_file, other.pss_file),
            (&mut self.pss_shmem, other.pss_shmem),
            (&mut self.pss_dirty, other.pss_dirty),
            (&mut self.pss_locked, other.pss_locked),
            (&mut self.swap, other.swap),
            (&mut self.swap_pss, other.swap_pss),
        ] {
            *sum += part;
        }
    }

    fn write(&self, out: &mut dyn fmt::Write, detail: Detail) -> fmt::Result {
        line(out, "Rss:            ", self.resident)?;
        line(out, "Pss:            ", self.pss >> PSS_SHIFT)?;
        line(out, "Pss_Dirty:      ", self.pss_dirty >> PSS_SHIFT)?;
        if detail == Detail::Rollup {
            line(out, "Pss_Anon:       ", self.pss_anon >> PSS_SHIFT)?;
            line(out, "Pss_File:       ", self.pss_file >> PSS_SHIFT)?;
            line(out, "Pss_Shmem:      ", self.pss_shmem >> PSS_SHIFT)?;
        }
        line(out, "Shared_Clean:   ", self.shared_clean)?;
        line(out, "Shared_Dirty:   ", self.shared_dirty)?;
        line(out, "Private_Clean:  ", self.private_clean)?;
        line(out, "Private_Dirty:  ", self.private_dirty)?;
        line(out, "Referenced:     ", self.referenced)?;
        line(out, "Anonymous:      ", self.anonymous)?;
        line(out, "KSM:            ", 0)?;
        line(out, "LazyFree:       ", self.lazy_free)?;
        // Nothing is huge.
        for name in [
            "AnonHugePages:  ",
            "ShmemPmdMapped: ",
            "FilePmdMapped:  ",
            "Shared_Hugetlb: ",
            "Private_Hugetlb: ",
        ] {
            let width = if name.len() == 17 { 7 } else { 8 };
            writeln!(out, "{name}{:width$} kB", 0)?;
        }
        line(out, "Swap:           ", self.swap)?;
        line(out, "SwapPss:        ", self.swap_pss >> PSS_SHIFT)?;
        line(out, "Locked:         ", self.pss_locked >> PSS_SHIFT)
    }
}

fn line(out: &mut dyn fmt::Write, name: &str, bytes: u64) -> fmt::Result {
    writeln!(out, "{name}{:8} kB", bytes >> 10)
}

fn write_flags(out: &mut dyn fmt::Write, flags: VmFlags) -> fmt::Result {
    out.write_str("VmFlags:")?;
    for (flag, name) in VmFlags::MNEMONICS {
        if flags.contains(*flag) {
            write!(out, " {name}")?;
        }
    }
    out.write_str(" \n")
}
