//! Makes a diverging stream small: fewer units, fewer instructions, no loops, as long as it diverges.

use super::program::{Stream, Unit};

/// The smallest stream found for which `diverges` still holds.
pub(super) fn shrink(mut stream: Stream, diverges: impl Fn(&Stream) -> bool) -> Stream {
    loop {
        let before = stream.units.len() + stream.insns().len();
        stream = drop_units(stream, &diverges);
        stream = unroll(stream, &diverges);
        stream = drop_instructions(stream, &diverges);
        if stream.units.len() + stream.insns().len() == before {
            return stream;
        }
    }
}

/// Drops runs of units, long ones first.
fn drop_units(mut stream: Stream, diverges: &impl Fn(&Stream) -> bool) -> Stream {
    let mut run = stream.units.len() / 2;
    while run > 0 {
        let mut at = 0;
        while at < stream.units.len() {
            let mut candidate = stream.clone();
            candidate.units.drain(at..(at + run).min(candidate.units.len()));
            if diverges(&candidate) {
                stream = candidate;
            } else {
                at += run;
            }
        }
        run /= 2;
    }
    stream
}

/// Replaces loops by their bodies, and single steps by fewer turns.
fn unroll(mut stream: Stream, diverges: &impl Fn(&Stream) -> bool) -> Stream {
    for at in (0..stream.units.len()).rev() {
        if let Unit::Loop { count, body } = &stream.units[at] {
            let body: Vec<_> = (0..*count).flat_map(|_| body.iter().cloned()).collect();
            let mut candidate = stream.clone();
            candidate.units.splice(at..=at, body);
            if diverges(&candidate) {
                stream = candidate;
            }
        }
    }
    stream
}

/// Drops single instructions of straight units.
fn drop_instructions(mut stream: Stream, diverges: &impl Fn(&Stream) -> bool) -> Stream {
    for at in 0..stream.units.len() {
        let mut index = 0;
        while let Unit::Straight(insns) = &stream.units[at] {
            if index >= insns.len() || insns.len() == 1 {
                break;
            }
            let mut shorter = insns.clone();
            shorter.remove(index);
            let mut candidate = stream.clone();
            candidate.units[at] = Unit::Straight(shorter);
            if diverges(&candidate) {
                stream = candidate;
            } else {
                index += 1;
            }
        }
    }
    stream
}
