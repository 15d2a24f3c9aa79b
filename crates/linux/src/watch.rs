//! The seam to whoever wants to know what address spaces consist of, such as a recording.
//!
//! A [`SpaceWatch`] is told of every entry to user mode and of every fork. What a call, a fault or exec did to an address space
//! is what its areas say at the next entry. Neighbours: `sched::cpu` and `task::clone` tell, [`crate::Machine::set_watch`] sets.

use kilburn_addr::{AddrRange, VmFlags};

/// A mapped range with what holds for all of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Area {
    /// Its addresses.
    pub range: AddrRange,
    /// Rights, and whether it is shared.
    pub flags: VmFlags,
}

/// Who is told.
pub trait SpaceWatch {
    /// Process `pid` is about to run on `hart`, in the address space `asid` with these areas, by address.
    fn enters_user(&mut self, hart: u32, pid: u32, asid: u16, areas: &[Area]);

    /// A task on `hart` made `child`, a copy of `parent`.
    fn forked(&mut self, hart: u32, parent: u16, child: u16);
}
