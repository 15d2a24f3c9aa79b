//! F and D: arithmetic by the table, and what surrounds it: boxing, rounding modes, flags, moves, comparisons.

use kilburn_riscv::Trap;
use kilburn_riscv::fp::{F32_CANONICAL_NAN, F64_CANONICAL_NAN, Fflags, Rm, nan_box};

use super::Bench;
use super::float_table::ROUNDED;
use crate::encoding::{Form, Insn};

const DYNAMIC: u8 = 7;
const FCSR: i64 = 3;
const FRM: i64 = 2;
const FFLAGS: i64 = 1;

const SINGLE_NAN: u64 = nan_box(F32_CANONICAL_NAN);
const SIGNALING: u64 = nan_box(0x7f80_0001);

fn single(value: f32) -> u64 {
    nan_box(value.to_bits())
}

/// Puts `sources` where `insn` reads: integer or floating-point registers 10, 11 and 12.
fn prepare(bench: &mut Bench, insn: &Insn, sources: [u64; 3]) {
    for (register, value) in (10..).zip(sources) {
        bench.regs.f[register] = value;
    }
    if matches!(insn.op.form, Form::XToF | Form::XToFExact) {
        bench.regs.x[10] = sources[0];
    }
}

/// The result of an instruction with destination 13, in whichever file it is.
fn result(bench: &Bench, insn: &Insn) -> u64 {
    match insn.op.form {
        Form::FToX | Form::FToXExact | Form::FCompare => bench.regs.x[13],
        _ => bench.regs.f[13],
    }
}

fn sample(name: &str) -> Insn {
    Insn { rs3: 12, ..Insn::new(name).rd(13).rs1(10).rs2(11) }
}

#[test]
fn rounded_operations_give_the_tables_results_and_flags() {
    let mut bench = Bench::new();
    for &(name, mode, sources, expect, raised) in ROUNDED {
        // The mode in the instruction, with another one in fcsr; then the other way round; flags before are kept.
        for (rm, frm, before) in
            [(mode as u8, 4 - mode as u8, 0), (DYNAMIC, mode as u8, 0), (mode as u8, 7, 8)]
        {
            let insn = sample(name).rm(rm);
            prepare(&mut bench, &insn, sources);
            bench.regs.fcsr = u32::from(frm << 5 | before);
            bench.step(&insn);
            assert_eq!(result(&bench, &insn), expect, "{name} {mode:?} of {sources:#x?}");
            let fcsr = u32::from(frm << 5 | before | raised.bits());
            assert_eq!(bench.regs.fcsr, fcsr, "fcsr after {name} {mode:?} of {sources:#x?}");
        }
    }
}

#[test]
fn results_dropped_into_x0_still_raise_flags() {
    let mut bench = Bench::new();
    for &(name, mode, sources, _, raised) in ROUNDED {
        let insn = sample(name).rd(0).rm(mode as u8);
        if insn.op.form == Form::FToX {
            prepare(&mut bench, &insn, sources);
            bench.regs.fcsr = 0;
            bench.step(&insn);
            assert_eq!(bench.regs.fcsr, u32::from(raised.bits()), "{insn}");
        }
    }
    for name in ["feq.s", "flt.s", "fle.s", "feq.d", "flt.d", "fle.d"] {
        let signaling = if name.ends_with('s') { SIGNALING } else { 0x7ff0_0000_0000_0001 };
        prepare(&mut bench, &sample(name), [signaling, 0, 0]);
        bench.regs.fcsr = 0;
        bench.step(&sample(name).rd(0));
        assert_eq!(bench.regs.fcsr, u32::from(Fflags::NV.bits()), "{name}");
    }
}

#[test]
fn a_single_that_is_not_boxed_counts_as_the_canonical_nan() {
    let mut bench = Bench::new();
    let (loose, one) = (u64::from(1.0f32.to_bits()), single(1.0));
    let almost = 0xffff_fffe_0000_0000 | loose;
    let cases: &[(&str, [u64; 3], u64)] = &[
        ("fadd.s", [loose, one, 0], SINGLE_NAN),
        ("fmul.s", [one, almost, 0], SINGLE_NAN),
        ("fmadd.s", [one, one, loose], SINGLE_NAN),
        ("fsqrt.s", [loose, 0, 0], SINGLE_NAN),
        ("fmin.s", [loose, one, 0], one),
        ("fmax.s", [one, almost, 0], one),
        ("fsgnj.s", [loose, single(-1.0), 0], nan_box(F32_CANONICAL_NAN | 1 << 31)),
        ("fsgnj.s", [single(-2.0), almost, 0], single(2.0)),
        ("fsgnjn.s", [single(2.0), loose, 0], single(-2.0)),
        ("fsgnjx.s", [single(-2.0), loose, 0], single(-2.0)),
        ("fclass.s", [almost, 0, 0], 1 << 9),
        ("feq.s", [loose, loose, 0], 0),
        ("fcvt.w.s", [loose, 0, 0], 0x7fff_ffff),
        ("fcvt.d.s", [loose, 0, 0], F64_CANONICAL_NAN),
    ];
    for &(name, sources, expect) in cases {
        let insn = sample(name);
        prepare(&mut bench, &insn, sources);
        bench.step(&insn);
        assert_eq!(result(&bench, &insn), expect, "{name} of {sources:#x?}");
    }
}

#[test]
fn moves_and_stores_take_the_bits_whatever_the_boxing() {
    let mut bench = Bench::new();
    let loose = 0x1234_5678_9abc_def0;
    bench.regs.f[10] = loose;
    bench.step(&sample("fmv.x.w"));
    assert_eq!(bench.regs.x[13], 0xffff_ffff_9abc_def0, "sign-extended");
    bench.step(&sample("fmv.x.d"));
    assert_eq!(bench.regs.x[13], loose);
    bench.regs.x[10] = loose;
    bench.step(&sample("fmv.w.x"));
    assert_eq!(bench.regs.f[13], 0xffff_ffff_9abc_def0, "boxed");
    bench.step(&sample("fmv.d.x"));
    assert_eq!(bench.regs.f[13], loose);
    bench.regs.x[5] = super::DATA_AT;
    bench.set_word(super::DATA_AT, u64::MAX);
    bench.step(&Insn::new("fsw").rs1(5).rs2(10));
    assert_eq!(bench.word(super::DATA_AT), 0xffff_ffff_9abc_def0, "fsw stores the lower half");
    bench.step(&Insn::new("fsd").rs1(5).rs2(10));
    assert_eq!(bench.word(super::DATA_AT), loose);
    bench.step(&Insn::new("flw").rs1(5).rd(13));
    assert_eq!(bench.regs.f[13], nan_box(0x9abc_def0), "flw boxes");
    bench.step(&Insn::new("fld").rs1(5).rd(13));
    assert_eq!(bench.regs.f[13], loose);
    assert_eq!(bench.regs.fcsr, 0, "nothing of this raises flags");
}

#[test]
fn sign_injection_keeps_payloads_and_raises_nothing() {
    let mut bench = Bench::new();
    let (payload, minus) = (0x7ff4_0000_dead_beef, 1 << 63);
    let cases: &[(&str, [u64; 3], u64)] = &[
        ("fsgnj.d", [payload, minus, 0], payload | minus),
        ("fsgnjn.d", [payload | minus, minus, 0], payload),
        ("fsgnjx.d", [payload | minus, minus, 0], payload),
        ("fsgnjx.d", [payload | minus, 0, 0], payload | minus),
        ("fsgnj.s", [SIGNALING, single(-0.0), 0], SIGNALING | 1 << 31),
        ("fsgnjn.s", [SIGNALING, single(-0.0), 0], SIGNALING),
        ("fsgnjx.s", [single(-3.0), single(-0.0), 0], single(3.0)),
    ];
    for &(name, sources, expect) in cases {
        prepare(&mut bench, &sample(name), sources);
        bench.step(&sample(name));
        assert_eq!((bench.regs.f[13], bench.regs.fcsr), (expect, 0), "{name} of {sources:#x?}");
    }
}

#[test]
fn comparisons_minimum_and_maximum_follow_the_specification_on_nans_and_zeros() {
    let mut bench = Bench::new();
    let (quiet, one, zero, minus_zero) = (SINGLE_NAN, single(1.0), single(0.0), single(-0.0));
    let (none, nv) = (0, u32::from(Fflags::NV.bits()));
    let cases: &[(&str, u64, u64, u64, u32)] = &[
        ("feq.s", zero, minus_zero, 1, none),
        ("flt.s", minus_zero, zero, 0, none),
        ("fle.s", zero, minus_zero, 1, none),
        ("flt.s", single(-2.0), single(-1.0), 1, none),
        ("feq.s", quiet, quiet, 0, none),
        ("feq.s", quiet, SIGNALING, 0, nv),
        ("flt.s", one, quiet, 0, nv),
        ("fle.s", quiet, quiet, 0, nv),
        ("fmin.s", zero, minus_zero, minus_zero, none),
        ("fmax.s", minus_zero, zero, zero, none),
        ("fmin.s", quiet, one, one, none),
        ("fmax.s", one, SIGNALING, one, nv),
        ("fmin.s", quiet, nan_box(0xffc1_2345), SINGLE_NAN, none),
        ("fmax.s", SIGNALING, SIGNALING, SINGLE_NAN, nv),
        ("fmin.d", (-1.5f64).to_bits(), (-1.0f64).to_bits(), (-1.5f64).to_bits(), none),
        ("fmax.d", (-1.5f64).to_bits(), (-1.0f64).to_bits(), (-1.0f64).to_bits(), none),
        ("flt.d", f64::NEG_INFINITY.to_bits(), f64::MIN.to_bits(), 1, none),
        ("fle.d", 1, 2, 1, none),
        ("feq.d", F64_CANONICAL_NAN, 0, 0, none),
    ];
    for &(name, a, b, expect, fcsr) in cases {
        let insn = sample(name);
        prepare(&mut bench, &insn, [a, b, 0]);
        bench.regs.fcsr = 0;
        bench.step(&insn);
        assert_eq!(
            (result(&bench, &insn), bench.regs.fcsr),
            (expect, fcsr),
            "{name} of {a:#x}, {b:#x}"
        );
    }
}

#[test]
fn classes_of_both_formats_are_told_apart() {
    let mut bench = Bench::new();
    let singles = [
        0xff80_0000,
        0xff7f_ffff,
        0x8000_0001,
        0x8000_0000,
        0,
        0x007f_ffff,
        0x0080_0000,
        0x7f80_0000,
        0x7fbf_ffff,
        0xffc0_0000,
    ];
    for (class, bits) in singles.into_iter().enumerate() {
        bench.regs.f[10] = nan_box(bits);
        bench.step(&sample("fclass.s"));
        assert_eq!(bench.regs.x[13], 1 << class, "{bits:#x}");
        bench.regs.f[10] = u64::from(bits) << 32 | u64::from(bits & 1);
        bench.step(&sample("fclass.d"));
        // The upper half of a double has three exponent bits more: what is normal here stays so.
        let wide = f64::from_bits(bench.regs.f[10]);
        let class = match wide.classify() {
            std::num::FpCategory::Nan if bench.regs.f[10] >> 51 & 1 == 1 => 9,
            std::num::FpCategory::Nan => 8,
            std::num::FpCategory::Infinite if wide < 0.0 => 0,
            std::num::FpCategory::Infinite => 7,
            std::num::FpCategory::Normal if wide < 0.0 => 1,
            std::num::FpCategory::Normal => 6,
            std::num::FpCategory::Subnormal if wide < 0.0 => 2,
            std::num::FpCategory::Subnormal => 5,
            std::num::FpCategory::Zero if wide.is_sign_negative() => 3,
            std::num::FpCategory::Zero => 4,
        };
        assert_eq!(bench.regs.x[13], 1 << class, "{wide:?}");
    }
}

#[test]
fn the_three_views_of_fcsr_are_one_register() {
    let mut bench = Bench::new();
    bench.regs.x[5] = u64::MAX;
    bench.step(&Insn::new("csrrw").rd(6).imm(FCSR).rs1(5));
    assert_eq!((bench.regs.x[6], bench.regs.fcsr), (0, 0xff), "what is above bit 7 does not exist");
    bench.step(&Insn::new("csrrwi").rd(6).imm(FRM).rs1(0b10_010));
    assert_eq!((bench.regs.x[6], bench.regs.fcsr), (7, 0x5f), "frm has three bits");
    bench.step(&Insn::new("csrrci").rd(6).imm(FFLAGS).rs1(0b01_101));
    assert_eq!((bench.regs.x[6], bench.regs.fcsr), (0x1f, 0x52));
    bench.step(&Insn::new("csrrsi").rd(6).imm(FCSR).rs1(0b00001));
    assert_eq!((bench.regs.x[6], bench.regs.fcsr), (0x52, 0x53));
    bench.regs.x[5] = 0x41;
    bench.step(&Insn::new("csrrc").rd(6).imm(FCSR).rs1(5));
    assert_eq!((bench.regs.x[6], bench.regs.fcsr), (0x53, 0x12));
    bench.step(&Insn::new("csrrs").rd(6).imm(FFLAGS).rs1(0));
    assert_eq!((bench.regs.x[6], bench.regs.fcsr), (0x12, 0x12), "reading changes nothing");
    bench.regs.x[6] = 0xe1;
    bench.step(&Insn::new("csrrw").rd(6).imm(FCSR).rs1(6));
    assert_eq!(
        (bench.regs.x[6], bench.regs.fcsr),
        (0x12, 0xe1),
        "source and destination may be one"
    );
}

#[test]
fn flags_raised_before_a_read_are_seen_by_it() {
    let mut bench = Bench::new();
    prepare(&mut bench, &sample("fdiv.d"), [1.0f64.to_bits(), 0, 3.0f64.to_bits()]);
    let inexact = Insn::new("fdiv.d").rd(14).rs1(10).rs2(12);
    let read = |rd| Insn::new("csrrs").rd(rd).imm(FFLAGS);
    bench.run(&[read(5), sample("fdiv.d"), read(6), inexact, read(7)]);
    assert_eq!([5, 6, 7].map(|register| bench.regs.x[register]), [0, 8, 9]);
}

#[test]
fn a_reserved_rounding_mode_is_illegal_only_where_it_is_asked_for() {
    let mut bench = Bench::new();
    for frm in [5, 6, 7] {
        bench.regs.fcsr = frm << 5;
        for name in [
            "fadd.d", "fsqrt.s", "fmadd.d", "fcvt.w.s", "fcvt.s.l", "fcvt.d.s", "fcvt.d.w",
            "fcvt.s.d",
        ] {
            let insn = sample(name).rm(DYNAMIC);
            assert_eq!(
                bench.trap(&insn),
                Trap::Illegal { bits: insn.encode() },
                "{name} with frm {frm}"
            );
            assert_eq!(
                bench.trap(&insn.clone().rd(0)),
                Trap::Illegal { bits: insn.clone().rd(0).encode() }
            );
            bench.step(&insn.rm(Rm::Rne as u8));
        }
        for name in ["fmin.d", "fsgnj.s", "feq.d", "fclass.s", "fmv.x.d", "fmv.w.x"] {
            bench.step(&sample(name));
        }
    }
}
