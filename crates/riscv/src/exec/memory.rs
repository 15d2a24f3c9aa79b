//! Loads and stores, integer and floating point.
//!
//! The hit path is: address, line, compare, access, next. Everything else is a call away.

use super::{Past, run, stop};
use crate::fp::nan_box;
use crate::host::{HostPtr, Int};
use crate::op::{Account, Op, OpRef};
use crate::state::Core;
use core::marker::PhantomData;

/// How a load fills its register.
pub(crate) trait Load: 'static {
    /// What is loaded.
    type Int: Int;
    /// The register's value for it.
    fn extend(value: Self::Int) -> u64;
}

/// Zero-extended.
pub(crate) struct Zero<I>(PhantomData<I>);
/// Sign-extended.
pub(crate) struct Sign<I>(PhantomData<I>);
/// A single in a 64-bit register.
pub(crate) struct Boxed;

impl<I: Int> Load for Zero<I> {
    type Int = I;
    #[inline(always)]
    fn extend(value: I) -> u64 {
        value.to_u64()
    }
}

impl<I: Int> Load for Sign<I> {
    type Int = I;
    #[inline(always)]
    fn extend(value: I) -> u64 {
        value.sign_extend()
    }
}

impl Load for Boxed {
    type Int = u32;
    #[inline(always)]
    fn extend(value: u32) -> u64 {
        nan_box(value)
    }
}

#[inline(always)]
pub(crate) fn address(core: &Core, op: Op) -> u64 {
    core.x(op.rs1).wrapping_add(i64::from(op.imm) as u64)
}

#[inline(always)]
pub(crate) fn read_hit<I: Int>(core: &Core, addr: u64) -> Option<HostPtr> {
    core.read_line(addr).hit::<I>(addr)
}

#[inline(always)]
pub(crate) fn write_hit<I: Int>(core: &Core, addr: u64) -> Option<HostPtr> {
    core.write_line(addr).hit::<I>(addr)
}

/// `rd = extend(memory[rs1 + imm])`
pub(crate) fn load<L: Load>(core: &mut Core, at: OpRef, account: Account, pc: u64) -> Account {
    let op = at.op();
    match read_hit::<L::Int>(core, address(core, op)) {
        Some(host) => {
            core.set(op.rd, L::extend(L::Int::load(host)));
            run(core, at.next(), account, pc)
        }
        None => load_slow::<L>(core, at, account, pc),
    }
}

#[cold]
#[inline(never)]
pub(crate) fn load_slow<L: Load>(core: &mut Core, at: OpRef, account: Account, pc: u64) -> Account {
    let op = at.op();
    let addr = address(core, op);
    match core.read_slow::<L::Int>(addr) {
        Ok(value) => {
            core.set(op.rd, L::extend(value));
            core.extra_loads += u64::from(straddles::<L::Int>(addr));
            run(core, at.next(), account, pc)
        }
        Err(trap) => stop(core, at, account, pc, trap),
    }
}

fn straddles<I: Int>(addr: u64) -> bool {
    addr & 4095 > 4096 - I::SIZE
}

/// `memory[rs1 + imm] = rs2`
pub(crate) fn store<I: Int>(core: &mut Core, at: OpRef, account: Account, pc: u64) -> Account {
    let op = at.op();
    match write_hit::<I>(core, address(core, op)) {
        Some(host) => {
            I::store(host, I::from_u64(core.x(op.rs2)));
            run(core, at.next(), account, pc)
        }
        None => store_slow::<I>(core, at, account, pc),
    }
}

#[cold]
#[inline(never)]
pub(crate) fn store_slow<I: Int>(core: &mut Core, at: OpRef, account: Account, pc: u64) -> Account {
    let op = at.op();
    let addr = address(core, op);
    let value = I::from_u64(core.x(op.rs2));
    match core.write_slow(addr, value, |core| Past::of(core, at, pc, 0)) {
        Ok(past) => {
            core.extra_stores += u64::from(straddles::<I>(addr));
            match past {
                None => run(core, at.next(), account, pc),
                Some(past) => past.leave(core, account),
            }
        }
        Err(trap) => stop(core, at, account, pc, trap),
    }
}
