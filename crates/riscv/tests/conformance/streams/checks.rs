//! The comparison is itself checked: what streams cover, that seeds repeat, that shrinking shrinks, that the file is an ELF file.

use std::collections::BTreeSet;

use object::{Object, ObjectSegment};

use super::generate::{self, Reservations};
use super::program::{CODE_BASE, DATA_BASE, Program, Stream};
use super::shrink::shrink;
use crate::encoding::OPS;

fn streams(count: u64) -> Vec<Stream> {
    (0..count).map(|seed| generate::stream(seed, 1_000, Reservations::Used)).collect()
}

#[test]
fn streams_contain_every_instruction() {
    let seen: BTreeSet<_> =
        streams(40).iter().flat_map(Stream::insns).map(|insn| insn.op.name).collect();
    let missing: Vec<_> =
        OPS.iter().map(|op| op.name).filter(|name| !seen.contains(name)).collect();
    assert!(missing.is_empty(), "never generated: {missing:?}");
}

#[test]
fn streams_contain_every_rounding_mode_of_every_rounded_instruction() {
    let seen: BTreeSet<_> = streams(200)
        .iter()
        .flat_map(Stream::insns)
        .filter(|insn| insn.op.has_rounding_mode())
        .map(|insn| (insn.op.name, insn.rm))
        .collect();
    let rounded = OPS.iter().filter(|op| op.has_rounding_mode());
    for op in rounded {
        for rm in [0, 1, 2, 3, 4, 7] {
            assert!(seen.contains(&(op.name, rm)), "{} never with mode {rm}", op.name);
        }
    }
}

#[test]
fn a_seed_always_makes_the_same_program() {
    let (first, second) = (Program::new(&streams(3)), Program::new(&streams(3)));
    assert_eq!(first.to_elf(), second.to_elf());
    let other = Program::new(&[generate::stream(77, 1_000, Reservations::Used)]);
    assert_ne!(first.code[..other.code.len()], other.code);
}

#[test]
fn streams_without_reservations_have_none() {
    let stream = generate::stream(5, 5_000, Reservations::Absent);
    assert!(stream.insns().iter().all(|insn| !insn.op.name.starts_with("lr.")));
}

#[test]
fn shrinking_keeps_only_what_matters() {
    let stream = generate::stream(1, 2_000, Reservations::Used);
    let holds = |stream: &Stream| {
        let insns = stream.insns();
        let first = insns.iter().position(|insn| insn.op.name == "mulhsu");
        let last = insns.iter().rposition(|insn| insn.op.name == "fmin.d");
        matches!((first, last), (Some(first), Some(last)) if first < last)
    };
    assert!(holds(&stream), "the seed is one whose stream has both");
    let names: Vec<_> = shrink(stream, holds).insns().iter().map(|insn| insn.op.name).collect();
    assert_eq!(names, ["mulhsu", "fmin.d"]);
}

#[test]
fn the_file_is_an_elf_program_of_two_segments() {
    let program = Program::new(&streams(2));
    let elf = program.to_elf();
    let file = object::File::parse(&*elf).expect("an ELF file");
    assert_eq!((file.architecture(), file.entry()), (object::Architecture::Riscv64, CODE_BASE));
    let segments: Vec<_> = file
        .segments()
        .map(|segment| (segment.address(), segment.data().expect("data within the file").to_vec()))
        .collect();
    assert_eq!(segments, [(CODE_BASE, program.code), (DATA_BASE, program.data)]);
}

#[test]
fn addresses_lead_back_to_their_stream() {
    let program = Program::new(&streams(3));
    for (index, &start) in program.starts.iter().enumerate() {
        assert_eq!(program.stream_at(CODE_BASE + start as u64), index);
        assert_eq!(program.stream_at(CODE_BASE + start as u64 + 2), index);
    }
    assert_eq!(program.stream_at(CODE_BASE + program.code.len() as u64), 2);
}
