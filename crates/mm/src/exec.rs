//! What exec does to a new address space: the stack, the heap, the kernel's own mappings.

use crate::anon_vma::AnonSlot;
use crate::areas::place::BelowMin;
use crate::areas::{Backing, Neighbours, PlaceRequest, Placement, Window};
use crate::mm::State;
use crate::ops::DATA_FLAGS;
use crate::rmap::Links;
use crate::shared_anon::SpecialPages;
use crate::{Caller, Host, Mm, Vma, VmaExtra, VmaName};
use alloc::sync::Arc;
use alloc::vec::Vec;
use kilburn_addr::{AddrRange, Errno, PAGE_MASK, PAGE_SHIFT, Pfn, VirtAddr, VmFlags};

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

/// Room left below the strings of a new program's stack: 32 pages (Linux `setup_arg_pages`).
const STACK_EXPAND: u64 = 131_072;

impl<H: Host> Mm<H> {
    /// Notes the layout fields.
    pub fn set_layout_fields(&self, fields: ExecLayout) {
        self.mmap_write_lock().exec = fields;
    }

    /// The layout fields.
    pub fn layout_fields(&self) -> ExecLayout {
        self.mmap_read_lock().exec.clone()
    }

    /// Makes the `[stack]` area below `top`: `used` bytes for strings, at least a page, and room
    /// below them as `setup_arg_pages` leaves it (Linux 6.18 fs/exec.c). Answers the area.
    ///
    /// # Errors
    /// `ENOMEM`; `EFAULT` when `top` is not an address a stack may end at.
    pub fn setup_stack(
        &self,
        caller: &Caller,
        top: VirtAddr,
        used: u64,
        exec: StackExec,
    ) -> Result<AddrRange, Errno> {
        let mut state = self.mmap_write_lock();
        let state = &mut *state;
        let mut flags = DATA_FLAGS | VmFlags::GROWSDOWN | VmFlags::ACCOUNT | state.def_flags;
        if exec == StackExec::Yes {
            flags |= VmFlags::EXEC;
        }
        let used = VirtAddr::new(used.max(1)).page_up().ok_or(Errno::ENOMEM)?.get();
        let limit = caller.rlimits.stack & PAGE_MASK;
        let size = if used + STACK_EXPAND > limit { limit.max(used) } else { used + STACK_EXPAND };
        let start = top.checked_sub(size).ok_or(Errno::ENOMEM)?;
        if !top.is_page_aligned() || !self.in_task(start, size) {
            return Err(Errno::EFAULT);
        }
        let range = AddrRange::new(start, top).ok_or(Errno::ENOMEM)?;
        let pages = range.pages();
        if !state.areas.is_free(range) || !state.vm.may_expand(caller, flags, pages) {
            return Err(Errno::ENOMEM);
        }
        self.memory().charge(caller, state.vm.total, pages)?;
        self.add_area(
            state,
            Vma {
                range,
                flags,
                pgoff: start.vpn(),
                file: None,
                anon_vma: AnonSlot::empty(),
                extra: VmaExtra::NONE,
            },
        );
        Ok(range)
    }

    /// A free place for `len` bytes of the kernel's own mappings, to be installed next
    /// (Linux `get_unmapped_area` without hint or file).
    ///
    /// # Errors
    /// `ENOMEM`
    pub fn unmapped_area(&self, len: u64) -> Result<VirtAddr, Errno> {
        self.place(&self.mmap_read_lock(), len)
    }

    fn place(&self, state: &State<H>, len: u64) -> Result<VirtAddr, Errno> {
        state.areas.get_unmapped_area(
            self.layout(),
            &PlaceRequest {
                addr: VirtAddr::ZERO,
                len: VirtAddr::new(len).page_up().ok_or(Errno::ENOMEM)?.get(),
                placement: Placement::Hint,
                backing: Backing::OtherFile,
                window: Window::Default,
                min_addr: VirtAddr::new(self.memory().tunables.mmap_min_addr()),
                below_min: BelowMin::Allowed,
            },
        )
    }

    /// Installs pages of the kernel's own, such as `[vdso]` (Linux `_install_special_mapping`), at
    /// `at` or where there is room; answers where. The pages came from
    /// [`crate::Memory::alloc_kernel_pages`]. With `VM_PFNMAP` they are not counted as resident.
    ///
    /// # Errors
    /// `ENOMEM`, `EINVAL` for an unaligned place.
    pub fn install_special(
        &self,
        at: Option<VirtAddr>,
        name: &'static str,
        pages: &[Pfn],
        flags: VmFlags,
    ) -> Result<VirtAddr, Errno> {
        let mut state = self.mmap_write_lock();
        let len = (pages.len() as u64) << PAGE_SHIFT;
        let at = match at {
            Some(at) => at,
            None => self.place(&state, len)?,
        };
        if !at.is_page_aligned() || len == 0 {
            return Err(Errno::EINVAL);
        }
        let range = AddrRange::with_len(at, len).ok_or(Errno::ENOMEM)?;
        if !self.in_task(at, len) || !state.areas.is_free(range) {
            return Err(Errno::ENOMEM);
        }
        let locked = VmFlags::LOCKED | VmFlags::LOCKONFAULT;
        let flags = (flags | state.def_flags | VmFlags::DONTEXPAND) - locked;
        self.add_area(
            &mut state,
            Vma {
                range,
                flags,
                pgoff: 0,
                file: Some(Arc::new(SpecialPages(pages.to_vec()))),
                anon_vma: AnonSlot::empty(),
                extra: VmaExtra::named(VmaName::Special(name)),
            },
        );
        Ok(at)
    }

    /// Adds an area that no neighbour takes in.
    fn add_area(&self, state: &mut State<H>, vma: Vma<H>) {
        state.vm.add(vma.flags, vma.range.pages());
        let plan = state.areas.plan_insert(vma, Neighbours::None);
        state.areas.commit_insert(plan, &mut Links(self));
    }
}

impl ExecLayout {
    /// Bytes of the pages that hold the program's code.
    pub(crate) fn text_bytes(&self) -> u64 {
        let end = self.end_code.page_up().unwrap_or(self.end_code);
        end.get().saturating_sub(self.start_code.page_down().get())
    }
}
