//! A reference to a frame that is dropped with its holder.

use crate::{Host, Memory};
use kilburn_addr::Pfn;

/// A frame that stays while this does.
pub(crate) struct PageRef<'m, H: Host> {
    memory: &'m Memory<H>,
    pfn: Pfn,
}

impl<'m, H: Host> PageRef<'m, H> {
    /// Takes over a reference that the caller holds.
    pub(crate) fn from_held(memory: &'m Memory<H>, pfn: Pfn) -> Self {
        Self { memory, pfn }
    }

    /// The frame.
    #[inline]
    pub(crate) fn pfn(&self) -> Pfn {
        self.pfn
    }
}

impl<H: Host> Drop for PageRef<'_, H> {
    fn drop(&mut self) {
        self.memory.put(self.pfn);
    }
}
