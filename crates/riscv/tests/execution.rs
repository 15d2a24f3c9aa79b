//! What programs see: results, jumps, budgets, counters.

mod machine;

use kilburn_riscv::{CounterAccess, Hart, HartConfig, TimeSource, Trap};
use machine::asm::*;
use machine::*;

fn sum() -> Machine {
    let code =
        [li(A0, 0), li(A1, 100), add(A0, A0, A1), addi(A1, A1, -1), bne(A1, ZERO, -8), ECALL];
    Machine::new(&code)
}

#[test]
fn a_loop_sums_up() {
    let mut m = sum();
    m.call();
    assert_eq!(m.x(A0), 5050);
    assert_eq!(m.hart.stats().instructions, 302);
    assert_eq!(m.regs.pc, CODE + 20);
}

#[test]
fn a_run_ends_after_exactly_its_budget() {
    for budget in (0..80).chain([100, 299, 300, 301]) {
        let mut whole = sum();
        assert_eq!(whole.run(budget), Trap::Quantum);
        let mut single = sum();
        for _ in 0..budget {
            assert_eq!(single.run(1), Trap::Quantum);
        }
        assert_eq!(whole.hart.stats().instructions, budget);
        assert_eq!(single.regs, whole.regs, "after {budget}");
        assert_eq!(whole.run(302 - budget), Trap::Quantum);
        assert_eq!((whole.x(A0), whole.regs.pc), (5050, CODE + 20));
        assert_eq!(whole.run(1), Trap::Syscall);
    }
}

#[test]
fn a_system_call_is_not_retired_by_the_hart() {
    let mut m = Machine::new(&[NOP, ECALL]);
    m.call();
    assert_eq!(m.regs.pc, CODE + 4);
    assert_eq!(m.run(10), Trap::Syscall);
    assert_eq!(m.hart.stats().instructions, 1);
}

#[test]
fn x0_stays_zero() {
    let mut m = Machine::new(&[
        li(ZERO, 5),
        lui(ZERO, 5),
        jal(ZERO, 4),
        ld(ZERO, A1, 0),
        amo(0, 3, ZERO, A1, A1),
        add(A0, ZERO, ZERO),
        ECALL,
    ]);
    m.set(A1, DATA);
    m.set(A0, 7);
    m.regs.x[0] = 99;
    m.call();
    assert_eq!((m.x(A0), m.x(ZERO)), (0, 0));
    assert_eq!(m.get_u64(DATA), DATA, "the atomic was done all the same");
}

#[test]
fn calls_and_returns_reach_other_pages() {
    let mut m = Machine::new(&[auipc(RA, 1), jalr(RA, RA, 0x100), addi(A0, A0, 1), ECALL]);
    m.put_code(CODE + 0x1100, &[addi(A0, A0, 40), jalr(ZERO, RA, 1)]);
    m.call();
    assert_eq!(m.x(A0), 41, "the lowest bit of a jump's target is dropped");
    assert_eq!(m.x(RA), CODE + 8);
    m.set(A0, 0);
    m.call();
    assert_eq!(m.x(A0), 41);
}

#[test]
fn code_runs_on_into_the_next_page() {
    let mut m = Machine::new(&[]);
    m.put_code(CODE + 0xff8, &[addi(A0, A0, 1), addi(A0, A0, 2), addi(A0, A0, 4), ECALL]);
    m.regs.pc = CODE + 0xff8;
    assert_eq!(m.run(100), Trap::Syscall);
    assert_eq!(m.x(A0), 7);
}

#[test]
fn an_instruction_may_lie_across_two_pages() {
    let mut m = Machine::new(&[]);
    m.put_code(CODE + 0xffa, &[C_NOP, C_NOP, addi(A0, A0, 3), bne(A0, A1, -6), ECALL]);
    m.set(A1, 300);
    m.regs.pc = CODE + 0xffa;
    assert_eq!(m.run(1000), Trap::Syscall);
    assert_eq!(m.x(A0), 300);
    let stats = m.hart.stats();
    assert_eq!(stats.instructions, 1 + 100 * 3);
    assert!(stats.blocks_decoded < 10, "predecoded once: {stats:?}");
}

#[test]
fn constants_and_addresses_built_of_two_instructions_are_exact() {
    let mut m = Machine::new(&[
        lui(A0, 0x80000),
        addi(A0, A0, -1),
        lui(A1, 0x80000),
        addiw(A1, A1, -1),
        lui(A2, 0x7ffff),
        addi(A2, A2, 2047),
        auipc(A3, 0x80000),
        addi(A3, A3, -2048),
        lui(A4, 0x12345),
        addi(A5, A4, 0x678),
        ECALL,
    ]);
    m.call();
    assert_eq!(m.x(A0), 0xffff_ffff_7fff_ffff);
    assert_eq!(m.x(A1), 0x7fff_ffff);
    assert_eq!(m.x(A2), 0x7fff_f7ff);
    assert_eq!(m.x(A3), (CODE + 24).wrapping_sub(0x8000_0000 + 2048));
    assert_eq!((m.x(A4), m.x(A5)), (0x1234_5000, 0x1234_5678));
    assert_eq!(m.hart.stats().instructions, 10, "put together, they still count each");
}

#[test]
fn loads_and_stores_are_counted_through_loops_exits_and_traps() {
    let mut m = Machine::new(&[
        sd(A0, A2, 0),
        ld(A1, A2, 0),
        ld(A1, A2, 8),
        beq(A0, A3, 12), // a way out of the middle of a block
        addi(A0, A0, 1),
        jal(ZERO, -20),
        amo(0, 2, A1, A2, A0),
        ld(A1, ZERO, 0),
        sd(A0, A2, 0),
    ]);
    m.set(A2, DATA);
    m.set(A3, 9);
    assert!(matches!(m.run(1000), Trap::PageFault { .. }));
    let stats = m.hart.stats();
    assert_eq!(stats.instructions, 9 * 6 + 4 + 1);
    assert_eq!((stats.loads, stats.stores), (10 * 2 + 1, 10 + 1));
    assert_eq!(stats.lookups(), stats.loads + stats.stores + stats.fetches);
    assert_eq!(stats.tlb_hits() + stats.tlb_misses(), stats.lookups());
}

#[test]
fn time_goes_by_instructions_and_other_counters_are_closed_as_on_linux() {
    let (cycle, time, instret) = (0xc00, 0xc01, 0xc02);
    let mut m = Machine::new(&[NOP, NOP, NOP, csrr(A0, time), NOP, NOP, csrr(A1, time), ECALL]);
    m.hart.set_time(TimeSource { ticks: 1000, instructions_per_tick: 2 });
    m.call();
    assert_eq!((m.x(A0), m.x(A1)), (1001, 1003));
    m.hart.set_time(TimeSource { ticks: 7, instructions_per_tick: 0 });
    m.call();
    assert_eq!((m.x(A0), m.x(A1)), (7, 7));

    for counter in [cycle, instret] {
        let code = [NOP, csrr(A0, counter), NOP, csrr(A1, counter), ECALL];
        let mut m = Machine::new(&code);
        assert_eq!(m.run(10), Trap::Illegal { bits: code[1] });
        assert_eq!(m.regs.pc, CODE + 4);
        let counters = CounterAccess { cycle: true, time: true, instret: true };
        m.hart = Hart::new(m.ram.clone(), HartConfig { counters, ..HartConfig::default() });
        m.call();
        assert_eq!((m.x(A0), m.x(A1)), (1, 3));
        m.call();
        assert_eq!((m.x(A0), m.x(A1)), (5, 7), "goes on over runs");
    }
}

#[test]
fn a_program_cannot_write_counters_or_reach_other_registers() {
    for bits in [
        csrw(0xc01, ZERO),
        csrw(0xc01, A0),
        0xc01 << 20 | A0 << 15 | 2 << 12 | 0x73,
        csrr(A0, 0xc03),
        csrr(A0, 0x100),
        csrr(A0, 0xf14),
    ] {
        let mut m = Machine::new(&[bits]);
        assert_eq!(m.run(10), Trap::Illegal { bits });
    }
}

#[test]
fn floating_point_status_is_one_register_with_two_views() {
    let mut m = Machine::new(&[csrw(3, A0), csrr(A1, 1), csrr(A2, 2), csrr(A3, 3), ECALL]);
    m.set(A0, u64::MAX);
    m.call();
    assert_eq!((m.x(A1), m.x(A2), m.x(A3)), (31, 7, 255));
    assert_eq!(m.regs.fcsr, 255);
    m.regs.fcsr = 0x41;
    m.set(A0, 0x41);
    m.call();
    assert_eq!((m.x(A1), m.x(A2), m.x(A3)), (1, 2, 0x41));
}

#[test]
fn what_a_fused_pair_hands_on_is_what_the_register_would_have() {
    // The second of each pair reads the first's result as rs1, as rs2, as both, and over itself.
    let mut m = Machine::new(&[
        addi(A0, A0, 1),
        add(A1, A0, A2),
        addi(A0, A0, 1),
        add(A1, A1, A0),
        addi(A0, A0, 1),
        add(A0, A0, A0),
        slli(A3, A0, 3),
        add(A3, A3, A1),
        ECALL,
    ]);
    m.set(A0, 10);
    m.set(A2, 100);
    m.call();
    assert_eq!(m.x(A0), 26);
    assert_eq!(m.x(A1), 11 + 100 + 12);
    assert_eq!(m.x(A3), 26 * 8 + 123);
}
