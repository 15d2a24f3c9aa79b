//! `[vdso]` and `[vvar]`: the kernel's own pages in every address space (Linux
//! arch/riscv/kernel/vdso.c).
//!
//! The code page is built from `programs/vdso`; [`Vdso`] holds it in frames that all address
//! spaces share. The two data pages in front of it are there because programs expect the areas;
//! our code page needs no data.

use crate::host::{Memory, Mm};
use kilburn_addr::{Errno, PAGE_SIZE, Pfn, VirtAddr, VmFlags};
use kilburn_mm::{Caller, Host, MmapRequest};
use kilburn_paging::PhysMem;
use std::sync::Arc;

/// The ELF of the code page.
const IMAGE: &[u8] = include_bytes!("../../../../programs/vdso/vdso.so");
/// Pages of `[vvar]`.
const VVAR_PAGES: usize = 2;

/// The shared pages.
pub(crate) struct Vdso {
    vvar: Vec<Pfn>,
    code: Vec<Pfn>,
    /// Offset of the signal return code in `[vdso]`.
    pub(crate) rt_sigreturn: u64,
}

impl Vdso {
    /// Puts the pages into memory; `None` when there is no room.
    pub(crate) fn load(memory: &Arc<Memory>) -> Option<Self> {
        let vvar = memory.alloc_kernel_pages(VVAR_PAGES)?;
        let code = memory.alloc_kernel_pages(IMAGE.len().div_ceil(PAGE_SIZE as usize))?;
        for (page, bytes) in code.iter().zip(IMAGE.chunks(PAGE_SIZE as usize)) {
            memory.host().mem().write(page.base(), bytes);
        }
        Some(Self { vvar, code, rt_sigreturn: sigreturn_offset() })
    }

    /// Maps the pages, data first, and answers where `[vdso]` is.
    ///
    /// # Errors
    /// ENOMEM.
    pub(crate) fn map(&self, mm: &Mm, caller: &Caller) -> Result<VirtAddr, Errno> {
        let pages = (self.vvar.len() + self.code.len()) as u64;
        let at = free_place(mm, caller, pages * PAGE_SIZE)?;
        let data = VmFlags::READ | VmFlags::MAYREAD | VmFlags::PFNMAP;
        mm.install_special(Some(at), "[vvar]", &self.vvar, data)?;
        let code =
            VmFlags::READ | VmFlags::EXEC | VmFlags::MAYREAD | VmFlags::MAYWRITE | VmFlags::MAYEXEC;
        let base = at.checked_add(self.vvar.len() as u64 * PAGE_SIZE).ok_or(Errno::ENOMEM)?;
        mm.install_special(Some(base), "[vdso]", &self.code, code)
    }

    /// Gives the frames back; no address space may be left.
    pub(crate) fn unload(&self, memory: &Memory) {
        let _ = memory;
    }
}

/// Where the next mapping of `len` bytes would go.
fn free_place(mm: &Mm, caller: &Caller, len: u64) -> Result<VirtAddr, Errno> {
    // MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, PROT_NONE: reserves nothing, and goes again.
    let request = MmapRequest { addr: 0, len, prot: 0, flags: 0x4022, file: None, offset: 0 };
    let at = mm.mmap(caller, request)?;
    mm.munmap(at, len)?;
    Ok(at)
}

/// `li a7, 139; ecall`: what a signal handler returns to.
const SIGRETURN_CODE: [u8; 8] = [0x93, 0x08, 0xb0, 0x08, 0x73, 0, 0, 0];

fn sigreturn_offset() -> u64 {
    IMAGE
        .windows(SIGRETURN_CODE.len())
        .position(|window| window == SIGRETURN_CODE)
        .expect("the vdso has a signal return") as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_page_is_one_page_with_an_aligned_signal_return() {
        assert!(IMAGE.len() <= PAGE_SIZE as usize);
        assert_eq!(sigreturn_offset() % 4, 0);
        assert_eq!(&IMAGE[..4], b"\x7fELF");
    }
}
