//! What of an address space may outlive its users: the root table and the tag of its TLB entries.
//!
//! Linux counts a `struct mm_struct` twice: `mm_users` keeps areas and pages, `mm_count` the root
//! table alone. Here the first is the `Arc` of an [`Mm`](crate::Mm), the second that of its [`Pgd`].
//! A processor that turns to work without an address space of its own (a kernel thread, idling)
//! stays on the tables it had: it holds their [`Pgd`] (Linux `active_mm`, `mmgrab_lazy_tlb`), so that
//! the last user may end meanwhile and neither table nor tag be given to anybody else.

use crate::host::Host;
use crate::memory::Memory;
use alloc::sync::Arc;
use core::fmt;
use kilburn_addr::Pfn;

/// The root table of an address space and the tag of its TLB entries.
pub struct Pgd<H: Host> {
    memory: Arc<Memory<H>>,
    root: Pfn,
    asid: u16,
}

impl<H: Host> Pgd<H> {
    /// Takes over a frame made a table, and a tag from [`Memory::asids`].
    pub(crate) fn new(memory: Arc<Memory<H>>, root: Pfn, asid: u16) -> Arc<Self> {
        Arc::new(Self { memory, root, asid })
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

    /// Whether the address space is gone.
    pub fn is_lazy(&self) -> bool {
        self.memory.lazy_roots.lock().contains(&self.root)
    }
}

impl<H: Host> Drop for Pgd<H> {
    /// Linux `__mmdrop`: table and tag may go to others.
    fn drop(&mut self) {
        self.memory.lazy_roots.lock().remove(&self.root);
        self.memory.put(self.root);
        self.memory.asids.lock().give(self.asid);
    }
}

impl<H: Host> fmt::Debug for Pgd<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pgd").field("root", &self.root).field("asid", &self.asid).finish()
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::TestHost;
    use crate::{Caller, MmapRequest};
    use alloc::sync::Arc;
    use kilburn_addr::Prot;

    #[test]
    fn a_borrowed_root_table_outlives_the_address_space_and_nothing_else_does() {
        let memory = TestHost::memory(64);
        let free = memory.counts().free;
        let mm = TestHost::mm(&memory);
        let request = MmapRequest::anonymous(8192).prot(Prot::READ | Prot::WRITE);
        let at = mm.mmap(&Caller::USER, request).expect("room");
        mm.write(&Caller::USER, at, b"kept by its users").expect("mapped");
        let borrowed = Arc::clone(mm.pgd());
        assert!(!borrowed.is_lazy());
        drop(mm);
        let counts = memory.counts();
        assert_eq!((counts.anon, counts.page_tables, counts.lazy_roots), (0, 1, 1));
        assert_eq!(counts.free, free - 1);
        assert!(borrowed.is_lazy());
        memory.check(&[], &[]).expect("the table is accounted for");
        // Neither the frame nor the tag goes to somebody else.
        let other = TestHost::mm(&memory);
        assert_ne!(other.root(), borrowed.root());
        assert_ne!(other.asid(), borrowed.asid());
        memory.check(&[&other], &[]).expect("consistent");
        let asid = borrowed.asid();
        drop(borrowed);
        drop(other);
        assert_eq!((memory.counts().free, memory.counts().lazy_roots), (free, 0));
        assert!(TestHost::mm(&memory).asid() <= asid.max(2), "tags are given out again");
        memory.check(&[], &[]).expect("consistent");
    }
}
