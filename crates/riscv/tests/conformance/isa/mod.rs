//! Each instruction by itself, from tables of our own: operands, result, flags.
//!
//! The expected values come from the definitions in the specification, computed with unbounded integers and exact fractions.

mod atomic;
mod compressed;
mod control;
mod float;
mod float_table;
mod illegal;
mod integer;
mod memory;

use kilburn_riscv::{Regs, Trap};

use crate::bare::{CODE, DATA, Machine};
use crate::encoding::Insn;

const CODE_AT: u64 = 0x1_0000;
/// Two pages of data; the page after them is not mapped.
const DATA_AT: u64 = 0x3_0000;
const DATA_BYTES: u64 = 0x2000;

/// A machine for a few instructions at a time.
struct Bench {
    machine: Machine,
    regs: Regs,
}

impl Bench {
    fn new() -> Self {
        let mut machine = Machine::new(1 << 20);
        machine.map(CODE_AT, 0x1000, CODE);
        machine.map(DATA_AT, DATA_BYTES, DATA);
        Self { machine, regs: Regs::new() }
    }

    /// Puts `code` at [`CODE_AT`] and runs `budget` instructions of it.
    fn run_bytes(&mut self, code: &[u8], budget: u64) -> Trap {
        self.machine.write(CODE_AT, code);
        self.regs.pc = CODE_AT;
        self.machine.run(&mut self.regs, budget)
    }

    /// Runs all of `insns` and demands that none traps.
    #[track_caller]
    fn run(&mut self, insns: &[Insn]) {
        let mut code = Vec::new();
        for insn in insns {
            insn.assemble(&mut code);
        }
        let trap = self.run_bytes(&code, insns.len() as u64);
        assert_eq!(trap, Trap::Quantum, "{}", insns[0]);
        assert_eq!(self.regs.x[0], 0);
    }

    /// Runs `insn` and demands that it goes on to the next one.
    #[track_caller]
    fn step(&mut self, insn: &Insn) {
        self.run(std::slice::from_ref(insn));
        assert_eq!(self.regs.pc, CODE_AT + insn.length() as u64, "{insn}");
    }

    /// Runs `insn` and demands that it traps and does nothing else.
    #[track_caller]
    fn trap(&mut self, insn: &Insn) -> Trap {
        let mut code = Vec::new();
        insn.assemble(&mut code);
        self.trap_bytes(&code)
    }

    #[track_caller]
    fn trap_bytes(&mut self, code: &[u8]) -> Trap {
        let mut before = self.regs.clone();
        before.pc = CODE_AT;
        let trap = self.run_bytes(code, 1);
        assert_ne!(trap, Trap::Quantum, "{code:x?} executes");
        assert_eq!(self.regs, before, "{code:x?} traps, but not without effect");
        trap
    }

    /// The doubleword at `at`.
    fn word(&mut self, at: u64) -> u64 {
        u64::from_le_bytes(self.machine.read(at, 8).try_into().expect("eight bytes"))
    }

    fn set_word(&mut self, at: u64, value: u64) {
        self.machine.write(at, &value.to_le_bytes());
    }
}
