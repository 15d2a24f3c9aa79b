//! Branches, jumps, and the ends of blocks.
//!
//! A target in the same page is reached through a link in the block itself, set the first time it
//! is taken. Any other is looked up by its virtual address in the jump lines. Either way the account is
//! charged first, and when the slice is over, or nothing is known yet, the loop takes over.

use super::run;
use crate::op::{Account, OpRef};
use crate::state::Core;
use crate::trap::Trap;

/// When a conditional branch is taken.
pub(crate) trait Condition: 'static {
    fn holds(a: u64, b: u64) -> bool;
}

macro_rules! conditions {
    ($($name:ident = |$a:ident, $b:ident| $holds:expr;)*) => {$(
        pub(crate) struct $name;
        impl Condition for $name {
            #[inline(always)]
            fn holds($a: u64, $b: u64) -> bool {
                $holds
            }
        }
    )*};
}

conditions! {
    Eq = |a, b| a == b;
    Ne = |a, b| a != b;
    Lt = |a, b| (a as i64) < b as i64;
    Ge = |a, b| a as i64 >= b as i64;
    LtU = |a, b| a < b;
    GeU = |a, b| a >= b;
}

/// How a target is reached.
pub(crate) trait Reach: 'static {
    /// Leaves the block for `target`; the operation's `Ext` is at `ext`.
    fn go(core: &mut Core, ext: OpRef, account: Account, target: u64) -> Account;
}

/// In the same page: through the link.
pub(crate) struct Near;
/// Anywhere: through the jump lines.
pub(crate) struct Far;

impl Reach for Near {
    #[inline(always)]
    fn go(core: &mut Core, at: OpRef, account: Account, target: u64) -> Account {
        let ext = at.ext();
        let account = account.charge(ext.count);
        if let Some(to) = ext.link {
            if !account.is_over() {
                return run(core, to, account, target);
            }
        } else {
            core.link = Some(at);
        }
        core.pc = target;
        account
    }
}

impl Reach for Far {
    #[inline(always)]
    fn go(core: &mut Core, at: OpRef, account: Account, target: u64) -> Account {
        let account = account.charge(at.ext().count);
        if !account.is_over()
            && let Some(to) = core.jump_target(target)
        {
            return run(core, to, account, target);
        }
        core.pc = target;
        account
    }
}

#[inline(always)]
pub(crate) fn offset(pc: u64, by: i32) -> u64 {
    pc.wrapping_add(i64::from(by) as u64)
}

/// `if rs1 ? rs2 goto block + imm`; otherwise goes on behind the `Ext`.
pub(crate) fn branch<C: Condition, R: Reach>(
    core: &mut Core,
    at: OpRef,
    account: Account,
    pc: u64,
) -> Account {
    let op = at.op();
    if C::holds(core.x(op.rs1), core.x(op.rs2)) {
        R::go(core, at.next(), account, offset(pc, op.imm))
    } else {
        run(core, at.next().next(), account, pc)
    }
}

/// `goto block + imm`
#[inline]
pub(crate) fn goto<R: Reach>(core: &mut Core, at: OpRef, account: Account, pc: u64) -> Account {
    R::go(core, at.next(), account, offset(pc, at.op().imm))
}

/// `rd = address of the next instruction; goto block + imm`
#[inline]
pub(crate) fn jal<R: Reach>(core: &mut Core, at: OpRef, account: Account, pc: u64) -> Account {
    let op = at.op();
    core.set(op.rd, pc.wrapping_add(2 * u64::from(op.at)));
    R::go(core, at.next(), account, offset(pc, op.imm))
}

/// `rd = address of the next instruction; goto (rs1 + imm) without bit 0`
#[inline]
pub(crate) fn jalr(core: &mut Core, at: OpRef, account: Account, pc: u64) -> Account {
    let op = at.op();
    let target = offset(core.x(op.rs1), op.imm) & !1;
    core.set(op.rd, pc.wrapping_add(2 * u64::from(op.at)));
    Far::go(core, at.next(), account, target)
}

#[inline(always)]
fn end(core: &mut Core, at: OpRef, account: Account, pc: u64, trap: Trap) -> Account {
    core.pc = pc.wrapping_add(2 * u64::from(at.op().at));
    core.trap = Some(trap);
    account.charge(at.next().ext().count)
}

/// Stops with a system call.
pub(crate) fn ecall(core: &mut Core, at: OpRef, account: Account, pc: u64) -> Account {
    end(core, at, account, pc, Trap::Syscall)
}

/// Stops at a breakpoint.
pub(crate) fn ebreak(core: &mut Core, at: OpRef, account: Account, pc: u64) -> Account {
    end(core, at, account, pc, Trap::Breakpoint)
}

/// Stops at something that is no instruction; `imm` is its bits.
pub(crate) fn illegal(core: &mut Core, at: OpRef, account: Account, pc: u64) -> Account {
    end(core, at, account, pc, Trap::Illegal { bits: at.op().imm as u32 })
}
