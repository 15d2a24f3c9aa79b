//! LR/SC and atomic memory operations.
//!
//! All are sequentially consistent, so `aq` and `rl` ask for nothing more. An atomic that faults
//! faults as a store; an address that is not aligned traps before it is translated.

use super::memory::write_hit;
use super::{Past, run, stop};
use crate::host::{HostPtr, Int};
use crate::op::{Account, OpRef};
use crate::state::{Core, Reservation};
use crate::translate::Page;
use crate::trap::Trap;
use kilburn_addr::{Access, VirtAddr};

/// What an atomic writes, from what was there and the register.
pub(crate) trait Change<I>: 'static {
    fn apply(memory: I, register: I) -> I;
}

macro_rules! changes {
    ($($name:ident = |$m:ident, $r:ident, $signed:ident| $value:expr;)*) => {$(
        pub(crate) struct $name;
        changes!(@for $name u32 i32 |$m, $r, $signed| $value);
        changes!(@for $name u64 i64 |$m, $r, $signed| $value);
    )*};
    (@for $name:ident $int:ident $sint:ident |$m:ident, $r:ident, $signed:ident| $value:expr) => {
        impl Change<$int> for $name {
            #[inline(always)]
            #[allow(
                unused_variables,
                clippy::allow_attributes,
                reason = "not every operation compares as signed"
            )]
            fn apply($m: $int, $r: $int) -> $int {
                let $signed = ($m as $sint) < ($r as $sint);
                $value
            }
        }
    };
}

changes! {
    Swap = |m, r, less| r;
    Add = |m, r, less| m.wrapping_add(r);
    Xor = |m, r, less| m ^ r;
    And = |m, r, less| m & r;
    Or = |m, r, less| m | r;
    Min = |m, r, less| if less { m } else { r };
    Max = |m, r, less| if less { r } else { m };
    MinU = |m, r, less| m.min(r);
    MaxU = |m, r, less| m.max(r);
}

/// `rd = memory[rs1]; memory[rs1] = change(rd, rs2)`
pub(crate) fn amo<I: Int, C: Change<I>>(
    core: &mut Core,
    at: OpRef,
    account: Account,
    pc: u64,
) -> Account {
    let op = at.op();
    let register = I::from_u64(core.x(op.rs2));
    modify::<I>(core, at, account, pc, 1, |core, host| {
        let old = I::update(host, |memory| C::apply(memory, register));
        core.set(op.rd, old.sign_extend());
    })
}

/// Lets `change` act on the memory at `rs1`, as an operation that makes `loads` loads and a store.
#[inline(always)]
fn modify<I: Int>(
    core: &mut Core,
    at: OpRef,
    account: Account,
    pc: u64,
    loads: u64,
    change: impl FnOnce(&mut Core, HostPtr),
) -> Account {
    let addr = core.x(at.op().rs1);
    if let Some(host) = write_hit::<I>(core, addr) {
        change(core, host);
        return run(core, at.next(), account, pc);
    }
    let (host, page): (HostPtr, Page) =
        match aligned::<I>(addr, Access::Write).and_then(|()| core.atomic_slow::<I>(addr)) {
            Ok(found) => found,
            Err(trap) => return stop(core, at, account, pc, trap),
        };
    let past = core.is_code(page).then(|| Past::of(core, at, pc, loads));
    change(core, host);
    core.ram.note_write(page.pfn);
    match past {
        None => run(core, at.next(), account, pc),
        Some(past) => past.leave(core, account),
    }
}

fn aligned<I: Int>(addr: u64, access: Access) -> Result<(), Trap> {
    if addr.is_multiple_of(I::SIZE) {
        Ok(())
    } else {
        Err(Trap::Misaligned { addr: VirtAddr::new(addr), access })
    }
}

/// `rd = memory[rs1]`, reserved.
pub(crate) fn lr<I: Int>(core: &mut Core, at: OpRef, account: Account, pc: u64) -> Account {
    let op = at.op();
    let addr = core.x(op.rs1);
    let found = aligned::<I>(addr, Access::Read).and_then(|()| core.reserve::<I>(addr));
    match found {
        Ok(value) => {
            core.set(op.rd, value.sign_extend());
            run(core, at.next(), account, pc)
        }
        Err(trap) => stop(core, at, account, pc, trap),
    }
}

impl Core {
    fn reserve<I: Int>(&mut self, addr: u64) -> Result<I, Trap> {
        let host = match super::memory::read_hit::<I>(self, addr) {
            Some(host) => host,
            None => self.reserve_slow::<I>(addr)?,
        };
        let value = I::load(host);
        let at = host.addr();
        self.reservation = Some(Reservation { at, size: I::SIZE, value: value.to_u64() });
        Ok(value)
    }
}

/// `memory[rs1] = rs2; rd = 0` if `rs1` is still reserved, otherwise `rd = 1`.
pub(crate) fn sc<I: Int>(core: &mut Core, at: OpRef, account: Account, pc: u64) -> Account {
    let op = at.op();
    let addr = core.x(op.rs1);
    if let Err(trap) = aligned::<I>(addr, Access::Write) {
        return stop(core, at, account, pc, trap);
    }
    let Some(reservation) = core.reservation.take() else {
        core.set(op.rd, 1);
        return run(core, at.next(), account, pc);
    };
    let value = I::from_u64(core.x(op.rs2));
    modify::<I>(core, at, account, pc, 0, |core, host| {
        let held = reservation.at == host.addr()
            && reservation.size == I::SIZE
            && I::replace(host, I::from_u64(reservation.value), value);
        core.set(op.rd, u64::from(!held));
    })
}
