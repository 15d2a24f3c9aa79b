//! The processor's side: a TLB that must be told what to forget, and the fault path.
//!
//! The TLB is why [`kilburn_mm::Host::flush_tlb`] exists: leave the flush out, and a parent writes
//! into what its child sees after fork.

use crate::{Frames, Kernel};
use alloc::collections::BTreeMap;
use kilburn_addr::{Access, AddrRange, PhysAddr, VirtAddr};
use kilburn_mm::{Caller, Fault, Mm};
use kilburn_paging::walk::walk;
use kilburn_paging::{Leaf, LeafFlags, PhysMem, Sv};
use spin::Mutex;

/// Translations, by address space and page. Unlimited: a real one forgets on its own as well.
#[derive(Debug, Default)]
pub struct Tlb {
    entries: Mutex<BTreeMap<(u16, u64), Leaf>>,
}

impl Tlb {
    pub(crate) const fn new() -> Self {
        Self { entries: Mutex::new(BTreeMap::new()) }
    }

    /// What is remembered for a page. A store needs the dirty bit in the tables: as a real TLB,
    /// this one walks again when it remembers a page that was only read.
    fn find(&self, asid: u16, va: VirtAddr, access: Access) -> Option<Leaf> {
        let leaf = self.entries.lock().get(&(asid, va.vpn())).copied()?;
        let dirty = access != Access::Write || leaf.flags.contains(LeafFlags::DIRTY);
        (leaf.flags.permits(access) && dirty).then_some(leaf)
    }

    fn remember(&self, asid: u16, va: VirtAddr, leaf: Leaf) {
        self.entries.lock().insert((asid, va.vpn()), leaf);
    }

    pub(crate) fn forget(&self, asid: u16, range: AddrRange) {
        let pages = (asid, range.start().vpn())..(asid, range.start().vpn() + range.pages());
        self.entries.lock().retain(|page, _| !pages.contains(page));
    }

    pub(crate) fn forget_all(&self, asid: u16) {
        self.entries.lock().retain(|(other, _), _| *other != asid);
    }

    /// How many translations it holds.
    pub fn len(&self) -> usize {
        self.entries.lock().len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A CPU in user mode.
#[derive(Clone, Copy, Debug)]
pub struct Cpu<'k> {
    /// Shared by all CPUs here; each real one has its own.
    pub tlb: &'k Tlb,
}

impl Cpu<'_> {
    /// Where `va` lies. A fault enters the kernel, and the instruction runs again afterwards.
    fn translate(
        &self,
        mm: &Mm<Kernel>,
        caller: &Caller,
        va: VirtAddr,
        access: Access,
    ) -> Result<PhysAddr, Fault> {
        let in_page = |leaf: Leaf| PhysAddr::new(leaf.pfn.base().get() + va.page_offset());
        loop {
            if let Some(leaf) = self.tlb.find(mm.asid(), va, access) {
                return Ok(in_page(leaf));
            }
            if let Ok(found) = walk(memory(), Sv::SV39, mm.root(), va, access) {
                self.tlb.remember(mm.asid(), va, found.leaf);
                return Ok(in_page(found.leaf));
            }
            mm.handle_fault(caller, va, access)?;
        }
    }

    pub(crate) fn store(
        &self,
        mm: &Mm<Kernel>,
        caller: &Caller,
        va: VirtAddr,
        word: u64,
    ) -> Result<(), Fault> {
        memory().store(self.translate(mm, caller, va, Access::Write)?, word);
        Ok(())
    }

    pub(crate) fn load(
        &self,
        mm: &Mm<Kernel>,
        caller: &Caller,
        va: VirtAddr,
    ) -> Result<u64, Fault> {
        Ok(memory().load(self.translate(mm, caller, va, Access::Read)?))
    }
}

fn memory() -> &'static Frames {
    &crate::FRAMES
}
