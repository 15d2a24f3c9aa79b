//! LR/SC and atomics: results and reservations.

mod machine;

use kilburn_mmu::Model;
use kilburn_mmu::model::preset::Preset;
use kilburn_riscv::{Hart, HartConfig, Trap};
use machine::asm::*;
use machine::*;

const SWAP: u32 = 1;
const ADD: u32 = 0;
const XOR: u32 = 4;
const AND: u32 = 0xc;
const OR: u32 = 8;
const MIN: u32 = 0x10;
const MAX: u32 = 0x14;
const MINU: u32 = 0x18;
const MAXU: u32 = 0x1c;
const LR: u32 = 2;
const SC: u32 = 3;

#[test]
fn a_reservation_holds_with_a_translator_as_without() {
    let program = [amo(LR, 3, A0, A1, ZERO), amo(SC, 3, A2, A1, A3), ECALL];
    let mut m = Machine::new(&program);
    let config = Preset::named("simple").expect("a preset").config();
    m.hart.set_translator(Box::new(Model::new(config).expect("its shape")));
    m.put_u64(DATA, 5);
    m.set(A1, DATA);
    m.set(A3, 6);
    m.call();
    assert_eq!((m.x(A0), m.x(A2), m.get_u64(DATA)), (5, 0, 6));
}

#[test]
fn atomics_return_the_old_value_and_store_the_new_one() {
    let (a, b): (u64, u64) = (0x8000_0000_ffff_fff0, 0x0000_0001_0000_0013);
    let cases = [
        (SWAP, b),
        (ADD, a.wrapping_add(b)),
        (XOR, a ^ b),
        (AND, a & b),
        (OR, a | b),
        (MIN, a),
        (MAX, b),
        (MINU, b),
        (MAXU, a),
    ];
    for (funct5, expected) in cases {
        let mut m = Machine::new(&[amo(funct5, 3, A0, A1, A2), ECALL]);
        m.put_u64(DATA, a);
        m.set(A1, DATA);
        m.set(A2, b);
        m.call();
        assert_eq!((m.x(A0), m.get_u64(DATA)), (a, expected), "{funct5:#x}");
    }
    // Words: the neighbour is left alone, the result is sign-extended, only low halves take part.
    let (a, b) = (a as u32, b as u32);
    let cases = [
        (SWAP, b),
        (ADD, a.wrapping_add(b)),
        (XOR, a ^ b),
        (AND, a & b),
        (OR, a | b),
        (MIN, a),
        (MAX, b),
        (MINU, b),
        (MAXU, a),
    ];
    for (funct5, expected) in cases {
        let mut m = Machine::new(&[amo(funct5, 2, A0, A1, A2), ECALL]);
        m.put_u64(DATA, u64::from(a) | 7 << 32);
        m.set(A1, DATA);
        m.set(A2, u64::from(b) | 9 << 32);
        m.call();
        assert_eq!(m.x(A0), a as i32 as u64, "{funct5:#x}");
        assert_eq!(m.get_u64(DATA), u64::from(expected) | 7 << 32, "{funct5:#x}");
    }
}

#[test]
fn the_register_of_an_atomic_may_be_its_own_source() {
    let mut m = Machine::new(&[amo(ADD, 3, A2, A1, A2), amo(SWAP, 3, A1, A1, A1), ECALL]);
    m.put_u64(DATA, 5);
    m.set(A1, DATA);
    m.set(A2, 2);
    m.call();
    assert_eq!((m.x(A2), m.x(A1), m.get_u64(DATA)), (5, 7, DATA));
}

#[test]
fn a_conditional_store_needs_the_reservation_just_made() {
    let mut m = Machine::new(&[
        amo(LR, 3, A0, A1, ZERO),
        amo(SC, 3, A2, A1, A3), // succeeds
        amo(SC, 3, A4, A1, A3), // it was used up
        amo(LR, 3, A0, A1, ZERO),
        addi(A1, A1, 8),
        amo(SC, 3, A5, A1, A3), // elsewhere
        addi(A1, A1, -8),
        amo(SC, 3, T0, A1, ZERO), // and that took it
        ECALL,
    ]);
    m.put_u64(DATA, 1);
    m.set(A1, DATA);
    m.set(A3, 2);
    m.call();
    assert_eq!((m.x(A0), m.x(A2), m.x(A4), m.x(A5), m.x(T0)), (2, 0, 1, 1, 1));
    assert_eq!((m.get_u64(DATA), m.get_u64(DATA + 8)), (2, 0));
}

#[test]
fn a_reservation_does_not_outlive_the_run() {
    let mut m = Machine::new(&[amo(LR, 2, A0, A1, ZERO), amo(SC, 2, A2, A1, A3), ECALL]);
    m.set(A1, DATA);
    m.set(A3, 9);
    assert_eq!(m.run(1), Trap::Quantum);
    assert_eq!(m.run(10), Trap::Syscall);
    assert_eq!((m.x(A2), m.get_u64(DATA)), (1, 0));
    m.call();
    assert_eq!((m.x(A2), m.get_u64(DATA)), (0, 9));
}

#[test]
fn two_harts_count_to_the_same_total_whatever_their_quanta() {
    let increment = [
        amo(LR, 3, A0, A1, ZERO),
        addi(A0, A0, 1),
        amo(SC, 3, A2, A1, A0),
        bne(A2, ZERO, -12),
        addi(A3, A3, -1),
        bne(A3, ZERO, -20),
        ECALL,
    ];
    for quantum in [5, 7, 11, 64, 100] {
        let mut m = Machine::new(&increment);
        let mut other = Hart::new(m.ram.clone(), HartConfig::default());
        m.set(A1, DATA);
        m.set(A3, 200);
        let mut regs = m.regs.clone();
        let (mut here, mut there) = (Trap::Quantum, Trap::Quantum);
        while here == Trap::Quantum || there == Trap::Quantum {
            if here == Trap::Quantum {
                here = m.run(quantum);
            }
            if there == Trap::Quantum {
                there = other.run(&mut regs, m.space, quantum);
            }
        }
        assert_eq!((here, there), (Trap::Syscall, Trap::Syscall));
        assert_eq!(m.get_u64(DATA), 400, "quantum {quantum}");
    }
}
