//! Handlers: what each operation does.
//!
//! A handler does its work and calls the next operation's handler in tail position ([`run`]), which
//! compiles to a jump. That is a matter of speed only: a slice is short enough for the host's stack
//! if every call were one (`hart::SLICE`). [`alu`] computes, [`memory`] and [`atomic`] access,
//! [`flow`] jumps and leaves, [`float`] is F and D, [`system`] the rest; [`fuse`] has handlers that do
//! several operations at once; [`table`] says which is whose.

pub(crate) mod alu;
pub(crate) mod atomic;
pub(crate) mod float;
pub(crate) mod flow;
pub(crate) mod fuse;
pub(crate) mod memory;
pub(crate) mod system;
pub(crate) mod table;

use crate::decode::{decode, length};
use crate::op::{Account, Count, OpRef};
use crate::state::Core;
use crate::trap::Trap;
use kilburn_addr::PhysAddr;
use kilburn_paging::PhysMem;

/// Goes on with the operation `at`.
#[inline(always)]
pub(crate) fn run(core: &mut Core, at: OpRef, account: Account, pc: u64) -> Account {
    (at.op().run)(core, at, account, pc)
}

/// Stops at the operation `at`, which has had no effect.
#[cold]
#[inline(never)]
pub(crate) fn stop(core: &mut Core, at: OpRef, account: Account, pc: u64, trap: Trap) -> Account {
    let halfwords = at.op().at;
    core.pc = pc.wrapping_add(2 * u64::from(halfwords));
    core.trap = Some(trap);
    account.charge(count_before(core, at.block_start(), halfwords))
}

/// What the instructions of a block do that precede the one `halfwords` from its start.
///
/// They are decoded again for it: that costs a trap little, and blocks no memory.
pub(crate) fn count_before(core: &Core, start: PhysAddr, halfwords: u8) -> Count {
    let mut count = Count::new(0, 0, 0, 1);
    let mut offset = 0;
    while offset < 2 * u64::from(halfwords) {
        let insn = decode(peek(core, start.get() + offset));
        count = count.plus(Count::new(1, insn.kind.loads(), insn.kind.stores(), 0));
        offset += u64::from(insn.len);
    }
    count
}

/// The instruction at `at`, without the upper half of one that goes on in the next page.
fn peek(core: &Core, at: u64) -> u32 {
    let half = |at: u64| {
        let mut bytes = [0; 2];
        core.ram.read(PhysAddr::new(at), &mut bytes);
        u16::from_le_bytes(bytes)
    };
    let low = half(at);
    let is_whole = length(low) == 2 || PhysAddr::new(at + 2).is_page_aligned();
    u32::from(low) | if is_whole { 0 } else { u32::from(half(at + 2)) << 16 }
}

/// What is done when the operation `at` has written to code, and where to go on: to be asked for
/// before it writes.
#[derive(Clone, Copy)]
pub(crate) struct Past {
    count: Count,
    pc: u64,
}

impl Past {
    /// Behind the operation `at`, which makes `loads` loads and one store.
    #[cold]
    #[inline(never)]
    pub(crate) fn of(core: &Core, at: OpRef, pc: u64, loads: u64) -> Self {
        let (start, halfwords) = (at.block_start(), at.op().at);
        let offset = 2 * u64::from(halfwords);
        let len = length(peek(core, start.get() + offset) as u16);
        Self {
            count: count_before(core, start, halfwords).plus(Count::new(1, loads, 1, 0)),
            pc: pc.wrapping_add(offset + u64::from(len)),
        }
    }

    /// Leaves the block.
    pub(crate) fn leave(self, core: &mut Core, account: Account) -> Account {
        core.pc = self.pc;
        account.charge(self.count)
    }
}
