//! What exec does to a new address space: the stack, the heap, the kernel's own mappings.

use crate::{Caller, Host, Mm};
use alloc::vec::Vec;
use kilburn_addr::{AddrRange, Errno, Pfn, VirtAddr, VmFlags};

/// The layout fields of `mm_struct`, as exec fills them and /proc shows them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ExecLayout {
    /// Lowest address of the program's code.
    pub start_code: VirtAddr,
    /// End of the code.
    pub end_code: VirtAddr,
    /// Start of the data.
    pub start_data: VirtAddr,
    /// End of the data.
    pub end_data: VirtAddr,
    /// Start of the heap.
    pub start_brk: VirtAddr,
    /// End of the heap.
    pub brk: VirtAddr,
    /// Initial stack pointer.
    pub start_stack: VirtAddr,
    /// Start of the argument strings.
    pub arg_start: VirtAddr,
    /// End of the argument strings.
    pub arg_end: VirtAddr,
    /// Start of the environment strings.
    pub env_start: VirtAddr,
    /// End of the environment strings.
    pub env_end: VirtAddr,
    /// The auxiliary vector as /proc/PID/auxv shows it: type and value, alternating.
    pub saved_auxv: Vec<u64>,
}

/// Whether a program's stack may be executed (`PT_GNU_STACK`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StackExec {
    /// `EXSTACK_DISABLE_X` or the default.
    No,
    /// `EXSTACK_ENABLE_X`
    Yes,
}

impl<H: Host> Mm<H> {
    /// Notes the layout fields.
    pub fn set_layout_fields(&self, fields: ExecLayout) {
        let _ = fields;
    }

    /// The layout fields.
    pub fn layout_fields(&self) -> ExecLayout {
        ExecLayout::default()
    }

    /// Makes the `[stack]` area below `top`, with room as `setup_arg_pages` leaves it; answers the
    /// area.
    ///
    /// # Errors
    /// `ENOMEM`
    pub fn setup_stack(
        &self,
        caller: &Caller,
        top: VirtAddr,
        exec: StackExec,
    ) -> Result<AddrRange, Errno> {
        let _ = (caller, top, exec);
        Err(Errno::ENOSYS)
    }

    /// Installs pages of the kernel's own, such as `[vdso]` (Linux `_install_special_mapping`), at
    /// `at` or where there is room; answers where. The pages came from
    /// [`crate::Memory::alloc_kernel_pages`].
    ///
    /// # Errors
    /// `ENOMEM`
    pub fn install_special(
        &self,
        caller: &Caller,
        at: Option<VirtAddr>,
        name: &'static str,
        pages: &[Pfn],
        flags: VmFlags,
    ) -> Result<VirtAddr, Errno> {
        let _ = (caller, at, name, pages, flags);
        Err(Errno::ENOSYS)
    }

    /// Maps anonymous pages for a program's bss (Linux `vm_brk_flags`).
    ///
    /// # Errors
    /// `ENOMEM`, `EINVAL`
    pub fn vm_brk_flags(
        &self,
        caller: &Caller,
        addr: VirtAddr,
        len: u64,
        exec: StackExec,
    ) -> Result<(), Errno> {
        let _ = (caller, addr, len, exec);
        Err(Errno::ENOSYS)
    }
}
