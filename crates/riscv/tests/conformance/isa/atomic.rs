//! A: atomic memory operations, and reservations.

use kilburn_addr::{Access, VirtAddr};
use kilburn_riscv::Trap;

use super::{Bench, DATA_AT};
use crate::encoding::Insn;

/// `name, memory before, rs2, rd, memory after`
#[rustfmt::skip]
const OPERATIONS: &[(&str, u64, u64, u64, u64)] = &[
    ("amoswap.w", 0x80000003, 0x5, 0xffffffff80000003, 0x5),
    ("amoswap.w", 0x7ffffffe, 0xfffffffffffffffd, 0x7ffffffe, 0xfffffffd),
    ("amoswap.w", 0xfedcba9876543210, 0x123456789abcdef, 0x76543210, 0xfedcba9889abcdef),
    ("amoadd.w", 0x80000003, 0x5, 0xffffffff80000003, 0x80000008),
    ("amoadd.w", 0x7ffffffe, 0xfffffffffffffffd, 0x7ffffffe, 0x7ffffffb),
    ("amoadd.w", 0xfedcba9876543210, 0x123456789abcdef, 0x76543210, 0xfedcba98ffffffff),
    ("amoxor.w", 0x80000003, 0x5, 0xffffffff80000003, 0x80000006),
    ("amoxor.w", 0x7ffffffe, 0xfffffffffffffffd, 0x7ffffffe, 0x80000003),
    ("amoxor.w", 0xfedcba9876543210, 0x123456789abcdef, 0x76543210, 0xfedcba98ffffffff),
    ("amoand.w", 0x80000003, 0x5, 0xffffffff80000003, 0x1),
    ("amoand.w", 0x7ffffffe, 0xfffffffffffffffd, 0x7ffffffe, 0x7ffffffc),
    ("amoand.w", 0xfedcba9876543210, 0x123456789abcdef, 0x76543210, 0xfedcba9800000000),
    ("amoor.w", 0x80000003, 0x5, 0xffffffff80000003, 0x80000007),
    ("amoor.w", 0x7ffffffe, 0xfffffffffffffffd, 0x7ffffffe, 0xffffffff),
    ("amoor.w", 0xfedcba9876543210, 0x123456789abcdef, 0x76543210, 0xfedcba98ffffffff),
    ("amomin.w", 0x80000003, 0x5, 0xffffffff80000003, 0x80000003),
    ("amomin.w", 0x7ffffffe, 0xfffffffffffffffd, 0x7ffffffe, 0xfffffffd),
    ("amomin.w", 0xfedcba9876543210, 0x123456789abcdef, 0x76543210, 0xfedcba9889abcdef),
    ("amomax.w", 0x80000003, 0x5, 0xffffffff80000003, 0x5),
    ("amomax.w", 0x7ffffffe, 0xfffffffffffffffd, 0x7ffffffe, 0x7ffffffe),
    ("amomax.w", 0xfedcba9876543210, 0x123456789abcdef, 0x76543210, 0xfedcba9876543210),
    ("amominu.w", 0x80000003, 0x5, 0xffffffff80000003, 0x5),
    ("amominu.w", 0x7ffffffe, 0xfffffffffffffffd, 0x7ffffffe, 0x7ffffffe),
    ("amominu.w", 0xfedcba9876543210, 0x123456789abcdef, 0x76543210, 0xfedcba9876543210),
    ("amomaxu.w", 0x80000003, 0x5, 0xffffffff80000003, 0x80000003),
    ("amomaxu.w", 0x7ffffffe, 0xfffffffffffffffd, 0x7ffffffe, 0xfffffffd),
    ("amomaxu.w", 0xfedcba9876543210, 0x123456789abcdef, 0x76543210, 0xfedcba9889abcdef),
    ("amoswap.d", 0x8000000000000003, 0x5, 0x8000000000000003, 0x5),
    ("amoswap.d", 0x7ffffffe, 0xfffffffffffffffd, 0x7ffffffe, 0xfffffffffffffffd),
    ("amoswap.d", 0xfedcba9876543210, 0x123456789abcdef, 0xfedcba9876543210, 0x123456789abcdef),
    ("amoadd.d", 0x8000000000000003, 0x5, 0x8000000000000003, 0x8000000000000008),
    ("amoadd.d", 0x7ffffffe, 0xfffffffffffffffd, 0x7ffffffe, 0x7ffffffb),
    ("amoadd.d", 0xfedcba9876543210, 0x123456789abcdef, 0xfedcba9876543210, 0xffffffffffffffff),
    ("amoxor.d", 0x8000000000000003, 0x5, 0x8000000000000003, 0x8000000000000006),
    ("amoxor.d", 0x7ffffffe, 0xfffffffffffffffd, 0x7ffffffe, 0xffffffff80000003),
    ("amoxor.d", 0xfedcba9876543210, 0x123456789abcdef, 0xfedcba9876543210, 0xffffffffffffffff),
    ("amoand.d", 0x8000000000000003, 0x5, 0x8000000000000003, 0x1),
    ("amoand.d", 0x7ffffffe, 0xfffffffffffffffd, 0x7ffffffe, 0x7ffffffc),
    ("amoand.d", 0xfedcba9876543210, 0x123456789abcdef, 0xfedcba9876543210, 0x0),
    ("amoor.d", 0x8000000000000003, 0x5, 0x8000000000000003, 0x8000000000000007),
    ("amoor.d", 0x7ffffffe, 0xfffffffffffffffd, 0x7ffffffe, 0xffffffffffffffff),
    ("amoor.d", 0xfedcba9876543210, 0x123456789abcdef, 0xfedcba9876543210, 0xffffffffffffffff),
    ("amomin.d", 0x8000000000000003, 0x5, 0x8000000000000003, 0x8000000000000003),
    ("amomin.d", 0x7ffffffe, 0xfffffffffffffffd, 0x7ffffffe, 0xfffffffffffffffd),
    ("amomin.d", 0xfedcba9876543210, 0x123456789abcdef, 0xfedcba9876543210, 0xfedcba9876543210),
    ("amomax.d", 0x8000000000000003, 0x5, 0x8000000000000003, 0x5),
    ("amomax.d", 0x7ffffffe, 0xfffffffffffffffd, 0x7ffffffe, 0x7ffffffe),
    ("amomax.d", 0xfedcba9876543210, 0x123456789abcdef, 0xfedcba9876543210, 0x123456789abcdef),
    ("amominu.d", 0x8000000000000003, 0x5, 0x8000000000000003, 0x5),
    ("amominu.d", 0x7ffffffe, 0xfffffffffffffffd, 0x7ffffffe, 0x7ffffffe),
    ("amominu.d", 0xfedcba9876543210, 0x123456789abcdef, 0xfedcba9876543210, 0x123456789abcdef),
    ("amomaxu.d", 0x8000000000000003, 0x5, 0x8000000000000003, 0x8000000000000003),
    ("amomaxu.d", 0x7ffffffe, 0xfffffffffffffffd, 0x7ffffffe, 0xfffffffffffffffd),
    ("amomaxu.d", 0xfedcba9876543210, 0x123456789abcdef, 0xfedcba9876543210, 0xfedcba9876543210),
];

/// The bits of acquire and release.
const ORDERS: [u8; 4] = [0, 1, 2, 3];

#[test]
fn atomic_operations_give_the_tables_results() {
    let mut bench = Bench::new();
    for (&(name, before, source, loaded, after), order) in
        OPERATIONS.iter().zip(ORDERS.into_iter().cycle())
    {
        // The result over the address, over the source, and dropped.
        for (rd, rs1, rs2) in [(5, 6, 7), (6, 6, 7), (7, 6, 7), (0, 6, 7)] {
            bench.set_word(DATA_AT, before);
            bench.regs.x[rs1] = DATA_AT;
            bench.regs.x[rs2] = source;
            bench.step(&Insn::new(name).rd(rd).rs1(rs1 as u8).rs2(rs2 as u8).rm(order));
            let loaded = if rd == 0 { 0 } else { loaded };
            assert_eq!(
                bench.regs.x[usize::from(rd)],
                loaded,
                "{name} x{rd} of {before:#x}, {source:#x}"
            );
            assert_eq!(bench.word(DATA_AT), after, "{name} of {before:#x}, {source:#x}");
        }
    }
}

#[test]
fn the_upper_word_is_as_good_as_the_lower() {
    let mut bench = Bench::new();
    bench.set_word(DATA_AT, 0x7fff_ffff_0000_0001);
    (bench.regs.x[6], bench.regs.x[7]) = (DATA_AT + 4, 1);
    bench.step(&Insn::new("amoadd.w").rd(5).rs1(6).rs2(7));
    assert_eq!((bench.regs.x[5], bench.word(DATA_AT)), (0x7fff_ffff, 0x8000_0000_0000_0001));
    bench.step(&Insn::new("amoadd.w").rd(5).rs1(6).rs2(0));
    assert_eq!(bench.regs.x[5], 0xffff_ffff_8000_0000);
}

#[test]
fn a_store_conditional_succeeds_once_and_only_where_reserved() {
    let mut bench = Bench::new();
    (bench.regs.x[6], bench.regs.x[7], bench.regs.x[8]) = (DATA_AT, 0x55, DATA_AT + 256);
    bench.set_word(DATA_AT, 0x1_8000_0000);
    let load = |name| Insn::new(name).rd(5).rs1(6);
    let store = |name, rd| Insn::new(name).rd(rd).rs1(6).rs2(7);

    bench.step(&store("sc.d", 9));
    assert_eq!((bench.regs.x[9], bench.word(DATA_AT)), (1, 0x1_8000_0000), "nothing was reserved");

    bench.run(&[load("lr.w"), store("sc.w", 9), store("sc.w", 10)]);
    assert_eq!(bench.regs.x[5], 0xffff_ffff_8000_0000, "lr.w extends the sign");
    assert_eq!((bench.regs.x[9], bench.regs.x[10]), (0, 1), "the first ends the reservation");
    assert_eq!(bench.word(DATA_AT), 0x1_0000_0055);

    bench.run(&[load("lr.d"), store("sc.d", 9).rs1(8), store("sc.d", 10)]);
    assert_eq!(
        (bench.regs.x[9], bench.regs.x[10]),
        (1, 1),
        "elsewhere it fails, and ends the reservation"
    );
    assert_eq!((bench.word(DATA_AT), bench.word(DATA_AT + 256)), (0x1_0000_0055, 0));

    bench.run(&[load("lr.d"), Insn::new("lr.d").rd(5).rs1(8), store("sc.d", 9)]);
    assert_eq!(bench.regs.x[9], 1, "a second lr moves the reservation");

    bench.run(&[load("lr.d"), Insn::new("addi").rd(7).rs1(5).imm(1), store("sc.d", 9), load("ld")]);
    assert_eq!((bench.regs.x[9], bench.regs.x[5]), (0, 0x1_0000_0056));
}

#[test]
fn a_changed_value_loses_the_reservation() {
    let mut bench = Bench::new();
    (bench.regs.x[6], bench.regs.x[7]) = (DATA_AT, 0x55);
    let change = Insn::new("sd").rs1(6).rs2(7);
    bench.run(&[Insn::new("lr.d").rd(5).rs1(6), change, Insn::new("sc.d").rd(9).rs1(6)]);
    assert_eq!((bench.regs.x[9], bench.word(DATA_AT)), (1, 0x55));
}

#[test]
fn the_end_of_a_run_ends_the_reservation() {
    let mut bench = Bench::new();
    bench.regs.x[6] = DATA_AT;
    bench.step(&Insn::new("lr.d").rd(5).rs1(6));
    bench.step(&Insn::new("sc.d").rd(9).rs1(6));
    assert_eq!(bench.regs.x[9], 1);
}

#[test]
fn misaligned_atomics_trap() {
    let mut bench = Bench::new();
    let cases = [
        ("lr.w", 2, Access::Read),
        ("lr.d", 4, Access::Read),
        ("sc.w", 1, Access::Write),
        ("sc.d", 4, Access::Write),
    ];
    for (name, offset, access) in
        cases.into_iter().chain([("amoor.w", 3, Access::Write), ("amoor.d", 4, Access::Write)])
    {
        bench.regs.x[6] = DATA_AT + offset;
        let addr = VirtAddr::new(DATA_AT + offset);
        assert_eq!(
            bench.trap(&Insn::new(name).rd(5).rs1(6).rs2(7)),
            Trap::Misaligned { addr, access },
            "{name}"
        );
    }
}
