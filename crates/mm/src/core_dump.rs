//! What of an address space goes into a core dump (Linux fs/coredump.c: `vma_dump_size`,
//! `dump_vma_snapshot`).
//!
//! [`Mm::dump_areas`] lists the areas and how much of each is to be written under a
//! [`DumpFilter`]; the caller then reads the pages. Neighbour: [`crate::procfs`] prints the same
//! areas.

use crate::areas::VmaName;
use crate::{Host, Mm, VmaRef};
use alloc::string::String;
use alloc::vec::Vec;
use kilburn_addr::{AddrRange, PAGE_SIZE, VmFlags};

bitflags::bitflags! {
    /// Which memory a core dump holds (`/proc/PID/coredump_filter`, core(5)).
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct DumpFilter: u32 {
        /// Anonymous private pages, private copies of file pages included.
        const ANON_PRIVATE = 1;
        /// Shared memory that no file names.
        const ANON_SHARED = 2;
        /// Private mappings of files.
        const FILE_PRIVATE = 4;
        /// Shared mappings of files.
        const FILE_SHARED = 8;
        /// The first page of mapped ELF files.
        const ELF_HEADERS = 16;
        /// Private huge pages; there are none.
        const HUGETLB_PRIVATE = 32;
        /// Shared huge pages; there are none.
        const HUGETLB_SHARED = 64;
    }
}

impl Default for DumpFilter {
    /// Linux's: 0x33.
    fn default() -> Self {
        Self::ANON_PRIVATE | Self::ANON_SHARED | Self::ELF_HEADERS | Self::HUGETLB_PRIVATE
    }
}

/// How much of an area is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DumpExtent {
    /// Nothing: it is known by its range alone.
    Nothing,
    /// The first page, if it starts with an ELF header.
    ElfHeader,
    /// All of it.
    Whole,
}

/// An area as a core dump shows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DumpArea {
    /// Its addresses.
    pub range: AddrRange,
    /// Its rights.
    pub flags: VmFlags,
    /// How much of it is written.
    pub extent: DumpExtent,
    /// Path, and offset in pages, of the file it maps.
    pub file: Option<(String, u64)>,
}

impl<H: Host> Mm<H> {
    /// All areas by address, and what of them is to be dumped.
    pub fn dump_areas(&self, filter: DumpFilter) -> Vec<DumpArea> {
        let state = self.mmap_read_lock();
        let area = |vma: VmaRef<'_, H>| DumpArea {
            range: vma.range,
            flags: vma.flags,
            extent: extent(vma, filter),
            file: vma.file.map(|file| (file.path(), vma.pgoff)),
        };
        state.areas.iter().map(area).collect()
    }
}

fn extent<H: Host>(vma: VmaRef<'_, H>, filter: DumpFilter) -> DumpExtent {
    let whole = |wanted| if wanted { DumpExtent::Whole } else { DumpExtent::Nothing };
    // The vDSO is code that no file holds: a debugger needs it.
    if matches!(vma.name(), VmaName::Special(_)) {
        return whole(vma.flags.contains(VmFlags::EXEC));
    }
    if vma.flags.intersects(VmFlags::DONTDUMP | VmFlags::IO) {
        return DumpExtent::Nothing;
    }
    // Pages that a file does not have: none before the first write.
    let has_own = vma.anon_vma.get().is_some() && filter.contains(DumpFilter::ANON_PRIVATE);
    let Some(file) = &vma.file else { return whole(has_own) };
    if vma.flags.contains(VmFlags::SHARED) {
        // A file without a name: shared anonymous memory, memfd, System V segments.
        let nameless = file.path().ends_with(" (deleted)");
        return whole(filter.contains(if nameless {
            DumpFilter::ANON_SHARED
        } else {
            DumpFilter::FILE_SHARED
        }));
    }
    if has_own || filter.contains(DumpFilter::FILE_PRIVATE) {
        return DumpExtent::Whole;
    }
    let header = filter.contains(DumpFilter::ELF_HEADERS)
        && vma.pgoff == 0
        && vma.flags.contains(VmFlags::READ)
        && vma.range.len() >= PAGE_SIZE;
    if header { DumpExtent::ElfHeader } else { DumpExtent::Nothing }
}
