//! The text and figures of /proc/PID that come from an address space.
//!
//! Texts are byte for byte what Linux 6.18 prints (fs/proc/task_mmu.c): `maps`, `smaps`.

mod clear_refs;
mod maps;
mod pagemap;
mod smaps;

pub use clear_refs::ClearRefs;
pub use pagemap::ShowFrames;

use crate::accounting::RssKind;
use crate::{Host, Mm};
use kilburn_addr::{PAGE_SHIFT, PAGE_SIZE};

/// The fields of /proc/PID/statm, in pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Statm {
    /// Mapped pages.
    pub size: u64,
    /// Pages in memory.
    pub resident: u64,
    /// Pages in memory that come from files or shared memory.
    pub shared: u64,
    /// Pages of the program's code.
    pub text: u64,
    /// Pages of data and stack.
    pub data: u64,
}

/// The `Vm*` and `Rss*` lines of /proc/PID/status, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[expect(missing_docs, reason = "named as the lines are")]
#[non_exhaustive]
pub struct MmStatus {
    pub vm_peak: u64,
    pub vm_size: u64,
    pub vm_lck: u64,
    pub vm_pin: u64,
    pub vm_hwm: u64,
    pub vm_rss: u64,
    pub rss_anon: u64,
    pub rss_file: u64,
    pub rss_shmem: u64,
    pub vm_data: u64,
    pub vm_stk: u64,
    pub vm_exe: u64,
    pub vm_lib: u64,
    pub vm_pte: u64,
    pub vm_swap: u64,
}

/// Memory in use by one address space, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Usage {
    /// Resident set size: bytes of the pages mapped.
    pub rss: u64,
    /// Proportional set size: the same, each page divided by the number of its mappings.
    pub pss: u64,
    /// Unique set size: bytes of the pages nobody else maps.
    pub uss: u64,
}

impl<H: Host> Mm<H> {
    /// The fields of /proc/PID/statm (Linux `task_statm`).
    pub fn statm(&self) -> Statm {
        let state = self.mmap_read_lock();
        let shared = self.counts.get(RssKind::File) + self.counts.get(RssKind::Shmem);
        Statm {
            size: state.vm.total,
            resident: shared + self.counts.get(RssKind::Anon),
            shared,
            text: state.exec.text_bytes() >> PAGE_SHIFT,
            data: state.vm.data + state.vm.stack,
        }
    }

    /// The memory lines of /proc/PID/status (Linux `task_mem`).
    pub fn status(&self) -> MmStatus {
        let state = self.mmap_read_lock();
        let vm = &state.vm;
        let exec = vm.exec << PAGE_SHIFT;
        let text = state.exec.text_bytes().min(exec);
        let rss = |kind| self.counts.get(kind) << PAGE_SHIFT;
        MmStatus {
            vm_peak: vm.peak << PAGE_SHIFT,
            vm_size: vm.total << PAGE_SHIFT,
            vm_lck: vm.locked << PAGE_SHIFT,
            vm_pin: 0,
            vm_hwm: self.counts.peak() << PAGE_SHIFT,
            vm_rss: self.counts.total() << PAGE_SHIFT,
            rss_anon: rss(RssKind::Anon),
            rss_file: rss(RssKind::File),
            rss_shmem: rss(RssKind::Shmem),
            vm_data: vm.data << PAGE_SHIFT,
            vm_stk: vm.stack << PAGE_SHIFT,
            vm_exe: text,
            vm_lib: exec - text,
            vm_pte: self.table_counts.linux() * PAGE_SIZE,
            vm_swap: self.counts.swapped() << PAGE_SHIFT,
        }
    }
}
