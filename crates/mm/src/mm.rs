//! One address space (Linux `struct mm_struct`).

use crate::layout::Layout;
use crate::{Caller, Host, Memory};
use alloc::sync::Arc;
use kilburn_addr::{Errno, Pfn};

/// An address space: areas, tables, counts. Dropping the last `Arc` is exit_mmap: everything is
/// unmapped and every frame given back.
pub struct Mm<H: Host> {
    memory: Arc<Memory<H>>,
    layout: Layout,
    id: u64,
    asid: u16,
    root: Pfn,
}

impl<H: Host> Mm<H> {
    /// An empty address space with a root table.
    ///
    /// # Errors
    /// `ENOMEM`
    pub fn new(memory: &Arc<Memory<H>>, layout: Layout) -> Result<Arc<Self>, Errno> {
        Ok(Arc::new(Self { memory: memory.clone(), layout, id: 0, asid: 0, root: Pfn::new(0) }))
    }

    /// A copy for a child process: private pages are shared until one side writes
    /// (Linux `dup_mmap`).
    ///
    /// # Errors
    /// `ENOMEM`
    pub fn fork(&self, caller: &Caller) -> Result<Arc<Self>, Errno> {
        let _ = caller;
        Err(Errno::ENOSYS)
    }

    /// The machine's memory.
    #[inline]
    pub fn memory(&self) -> &Arc<Memory<H>> {
        &self.memory
    }

    /// The shape of the address space.
    #[inline]
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Frame of the root table.
    #[inline]
    pub fn root(&self) -> Pfn {
        self.root
    }

    /// The tag of its TLB entries; no other living address space has it.
    #[inline]
    pub fn asid(&self) -> u16 {
        self.asid
    }

    /// A number no other address space of the machine ever has.
    #[inline]
    pub fn id(&self) -> u64 {
        self.id
    }
}
