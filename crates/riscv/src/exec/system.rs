//! Control and status registers.

use super::run;
use crate::fp::Fflags;
use crate::op::{Account, OpRef};
use crate::state::Core;

/// What a `csrr*` does to the register.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum CsrAction {
    Write,
    Set,
    Clear,
}

/// The operands of [`csr`] in an operation's immediate.
///
/// ```text
///  31 ........ 16 15 .. 12 11 .......... 0
///  instructions   bit 12: rs1 is the value
///  before it      13-14: action     number
/// ```
#[derive(Clone, Copy)]
pub(crate) struct CsrOperands(i32);

impl CsrOperands {
    pub(crate) fn new(number: u16, action: CsrAction, is_immediate: bool, before: u16) -> Self {
        let bits = u32::from(number)
            | u32::from(is_immediate) << 12
            | (action as u32) << 13
            | u32::from(before) << 16;
        Self(bits as i32)
    }

    pub(crate) fn bits(self) -> i32 {
        self.0
    }
}

/// `rd = csr; csr = action(csr, rs1)`
pub(crate) fn csr(core: &mut Core, at: OpRef, account: Account, pc: u64) -> Account {
    let op = at.op();
    let bits = op.imm as u32;
    let number = bits & 0xfff;
    let operand = if bits >> 12 & 1 == 0 { core.x(op.rs1) } else { u64::from(op.rs1) };
    let old = read(core, number, account, u64::from(bits >> 16));
    match bits >> 13 & 3 {
        0 => write(core, number, operand),
        _ if op.rs1 == 0 => {}
        1 => write(core, number, old | operand),
        _ => write(core, number, old & !operand),
    }
    core.set(op.rd, old);
    run(core, at.next(), account, pc)
}

fn read(core: &Core, number: u32, account: Account, before: u64) -> u64 {
    let in_run = core.retired_in_run(account, before);
    match number {
        1 => u64::from(core.fflags.bits()),
        2 => u64::from(core.frm),
        3 => u64::from(core.frm) << 5 | u64::from(core.fflags.bits()),
        0xc01 => {
            let ticks = in_run.checked_div(core.time.instructions_per_tick).unwrap_or(0);
            core.time.ticks.wrapping_add(ticks)
        }
        _ => core.retired_before_run + in_run,
    }
}

fn write(core: &mut Core, number: u32, value: u64) {
    match number {
        1 => core.fflags = Fflags::from_bits_truncate(value as u8),
        2 => core.frm = value as u8 & 7,
        3 => {
            core.fflags = Fflags::from_bits_truncate(value as u8);
            core.frm = (value >> 5) as u8 & 7;
        }
        // Counters are read-only; an instruction that would write one does not decode.
        _ => {}
    }
}
