//! /proc/PID/clear_refs (Linux 6.18 fs/proc/task_mmu.c: `clear_refs_write`).

use crate::host::FlushReason;
use crate::{Host, Mm, VmaRef};
use kilburn_addr::{Errno, VmFlags};
use kilburn_paging::{Entry, Leaf, LeafFlags};

/// What is forgotten.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ClearRefs {
    /// 1: that pages were used.
    All,
    /// 2: that anonymous areas' pages were used.
    Anonymous,
    /// 3: that pages of areas that map a file were used.
    Mapped,
    /// 4: that pages were written. Without soft-dirty bits, as on riscv64, that is nothing.
    SoftDirty,
    /// 5: the most pages resident at once.
    PeakRss,
}

impl ClearRefs {
    /// From the number that is written.
    ///
    /// # Errors
    /// `EINVAL` for another.
    pub fn from_number(number: i32) -> Result<Self, Errno> {
        Ok(match number {
            1 => Self::All,
            2 => Self::Anonymous,
            3 => Self::Mapped,
            4 => Self::SoftDirty,
            5 => Self::PeakRss,
            _ => return Err(Errno::EINVAL),
        })
    }

    fn concerns<H: Host>(self, vma: VmaRef<'_, H>) -> bool {
        let special = matches!(vma.name(), crate::VmaName::Special(_));
        let file = vma.file.is_some() && !special;
        match self {
            Self::All => true,
            Self::Anonymous => !file,
            Self::Mapped => file,
            Self::SoftDirty | Self::PeakRss => false,
        }
    }
}

impl<H: Host> Mm<H> {
    /// Forgets what pages were used for so far.
    pub fn clear_refs(&self, what: ClearRefs) {
        if what == ClearRefs::PeakRss {
            self.counts.reset_peak();
            return;
        }
        let state = self.mmap_read_lock();
        for vma in state.areas.iter() {
            if what.concerns(vma) && !vma.flags.contains(VmFlags::PFNMAP) {
                self.forget_use(vma);
            }
        }
    }

    fn forget_use(&self, vma: VmaRef<'_, H>) {
        let mut changed = false;
        self.for_each_leaf(vma.range, |guard, span| {
            for (_, at) in span.entries() {
                let Entry::Leaf(leaf) = guard.entry(at) else { continue };
                if leaf.flags.contains(LeafFlags::SPECIAL) {
                    continue;
                }
                changed |= guard
                    .update(at, |leaf| Leaf { flags: leaf.flags - LeafFlags::ACCESSED, ..leaf })
                    .is_some_and(|before| before.flags.contains(LeafFlags::ACCESSED));
            }
        });
        if changed {
            // Linux leaves this to chance: a TLB may keep the page as used.
            self.flush(vma.range, FlushReason::Clean);
        }
    }
}
