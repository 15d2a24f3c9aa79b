//! What programs see: results, jumps, budgets, counters.

mod machine;

use kilburn_riscv::{TimeSource, Trap};
use machine::asm::*;
use machine::*;

#[test]
fn a_loop_sums_up() {
    let mut m = Machine::new(&[
        li(A0, 0),
        li(A1, 100),
        add(A0, A0, A1),
        addi(A1, A1, -1),
        bne(A1, ZERO, -8),
        ECALL,
    ]);
    m.call();
    assert_eq!(m.x(A0), 5050);
    assert_eq!(m.hart.stats().instructions, 2 + 300);
    assert_eq!(m.regs.pc, CODE + 20);
}
