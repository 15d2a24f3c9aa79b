//! However a program is cut into runs, whatever is flushed in between, and whoever translates, it does the same.
//!
//! Runs of one instruction are decoded afresh each time and neither fused nor chained: the plain
//! reading of the program, which whole runs must agree with. Programs are random, branch within
//! themselves, access present and missing pages at any alignment, and write to their own code.

mod machine;

use kilburn_mmu::Model;
use kilburn_mmu::model::preset::Preset;
use kilburn_paging::PhysMem;
use kilburn_riscv::{Regs, Translator, Trap};
use machine::asm::*;
use machine::*;
use proptest::prelude::*;
use std::hash::{DefaultHasher, Hasher};

/// Registers programs compute with; those that point somewhere are not among them.
const WORK: [u32; 6] = [A0, A2, A3, A4, A5, T0];
/// Points into data, near the end of the last page.
const TO_DATA: u32 = S0;
/// Points to the program.
const TO_CODE: u32 = S1;
/// Where programs lie: a page that may be written.
const PROGRAM: u64 = 0x30_0000;

fn register() -> impl Strategy<Value = u32> {
    prop::sample::select(&WORK[..])
}

fn arithmetic() -> impl Strategy<Value = u32> {
    let immediate =
        (register(), register(), -2048..2048, 0_u32..8).prop_map(|(rd, rs1, imm, funct3)| {
            match funct3 {
                1 => slli(rd, rs1, imm & 63),
                5 => srli(rd, rs1, imm & 63),
                _ => i(0x13, funct3, rd, rs1, imm),
            }
        });
    let register = (register(), register(), register(), 0_u32..8, 0_u32..4).prop_map(
        |(rd, rs1, rs2, funct3, which)| match which {
            0 => r(0x33, funct3, 0, rd, rs1, rs2),
            1 => r(0x33, funct3, 1, rd, rs1, rs2),
            2 => r(0x3b, 0, 0x20, rd, rs1, rs2),
            _ => r(0x3b, 0, 0, rd, rs1, rs2),
        },
    );
    let upper = (WORK_REGISTER, 0_u32..1 << 20).prop_map(|(rd, upper)| lui(rd, upper));
    let compressed = (prop::sample::select(&[A0, A2, A3, A4, A5][..]), -32..32_i32)
        .prop_map(|(rd, imm)| 1 | (imm as u32 & 31) << 2 | rd << 7 | (imm as u32 >> 5 & 1) << 12);
    prop_oneof![4 => immediate, 4 => register, 1 => upper, 2 => compressed]
}

const WORK_REGISTER: core::ops::Range<u32> = A2..A5;

fn access() -> impl Strategy<Value = u32> {
    let load = (register(), -2048..40, 0_u32..7)
        .prop_map(|(rd, imm, funct3)| i(0x03, funct3, rd, TO_DATA, imm));
    let store = (register(), -2048..40, 0_u32..4)
        .prop_map(|(rs2, imm, funct3)| s(0x23, funct3, rs2, TO_DATA, imm));
    let atomic =
        (register(), register(), 2_u32..4, prop::sample::select(&[0_u32, 1, 4, 8, 12][..]))
            .prop_map(|(rd, rs2, width, funct5)| amo(funct5, width, rd, TO_DATA, rs2));
    // Copies an instruction of the program over another.
    let rewrite = (0..32, 0..32, prop::bool::ANY).prop_map(|(from, to, is_store)| {
        if is_store { sw(T1, TO_CODE, 4 * to) } else { lw(T1, TO_CODE, 4 * from) }
    });
    prop_oneof![8 => load, 8 => store, 1 => atomic, 1 => rewrite]
}

fn jump() -> impl Strategy<Value = u32> {
    let to = (-12..24_i32).prop_map(|halfwords| 2 * halfwords);
    let branch =
        (register(), register(), to.clone(), prop::sample::select(&[0, 1, 4, 5, 6, 7][..]))
            .prop_map(|(rs1, rs2, to, funct3)| b(funct3, rs1, rs2, to));
    let jump = (prop::sample::select(&[ZERO, RA][..]), 2..24_i32)
        .prop_map(|(rd, halfwords)| jal(rd, 2 * halfwords));
    prop_oneof![5 => branch, 1 => jump]
}

fn program() -> impl Strategy<Value = Vec<u32>> {
    prop::collection::vec(prop_oneof![6 => arithmetic(), 3 => access(), 2 => jump()], 8..80)
}

fn machine(program: &[u32], seeds: [u64; 6], start: u64) -> Machine {
    let mut m = Machine::new(&[]);
    m.map(PROGRAM, RWX);
    m.map(PROGRAM + 0x1000, RWX);
    m.put_code(start, program);
    m.regs.pc = start;
    m.set(TO_DATA, DATA + 0x4000 - 16);
    m.set(TO_CODE, start);
    for (register, seed) in WORK.into_iter().zip(seeds) {
        m.set(register, seed);
    }
    m
}

/// What can be seen from outside.
type Outcome = (Option<Trap>, Regs, u64, [u64; 3]);

fn outcome(m: &mut Machine, trap: Option<Trap>) -> Outcome {
    // A digest, so that a failure prints what one can read.
    let mut memory = DefaultHasher::new();
    for va in (DATA..DATA + 0x4000).step_by(4096).chain([PROGRAM, PROGRAM + 0x1000]) {
        let mut page = [0; 4096];
        let frame = m.leaf(va).pfn;
        m.ram.read(frame.base(), &mut page);
        memory.write(&page);
    }
    let stats = m.hart.stats();
    (trap, m.regs.clone(), memory.finish(), [stats.instructions, stats.loads, stats.stores])
}

/// Runs until a trap or the end of the budget, in runs of the lengths given, round and round.
fn run_cut(m: &mut Machine, budget: u64, cuts: &[u64], flushes: bool) -> Outcome {
    let mut left = budget;
    for cut in cuts.iter().cycle() {
        if left == 0 {
            break;
        }
        let cut = (*cut).min(left);
        let trap = m.run(cut);
        if trap != Trap::Quantum {
            return outcome(m, Some(trap));
        }
        left -= cut;
        if flushes {
            m.hart.flush_asid(m.space.asid);
        }
    }
    outcome(m, None)
}

/// Hardware that is asked for every access.
fn model() -> Box<dyn Translator + Send> {
    let config = Preset::named("simple").expect("a preset").config();
    Box::new(Model::new(config).expect("its shape"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn runs_of_any_length_add_up_to_the_same(
        program in program(),
        seeds in prop::array::uniform6(prop_oneof![any::<u64>(), 0_u64..16]),
        cuts in prop::collection::vec(1_u64..200, 1..5),
        at_page_end in prop::bool::ANY,
    ) {
        // At a page's end, instructions straddle and branches leave the page.
        let start = if at_page_end { PROGRAM + 0x1000 - 26 } else { PROGRAM };
        let budget = 3000;
        let whole = run_cut(&mut machine(&program, seeds, start), budget, &[budget], false);
        let single = run_cut(&mut machine(&program, seeds, start), budget, &[1], false);
        prop_assert_eq!(&whole, &single);
        let cut = run_cut(&mut machine(&program, seeds, start), budget, &cuts, true);
        prop_assert_eq!(&whole, &cut);
        let mut observed = machine(&program, seeds, start);
        observed.hart.set_translator(model());
        let observed = run_cut(&mut observed, budget, &cuts, true);
        prop_assert_eq!(&whole, &observed);
    }
}
