//! Makes a case that shows something as small as it gets, so that a person can read it.
//!
//! First ever smaller runs of steps are left out, then single arguments are made plain. Nothing
//! is assumed about cases: whatever still shows it is taken.

use crate::call::{Kind, Step};
use crate::case::Case;
use kilburn_addr::PAGE_SIZE;

/// The smallest case found from `case` on for which `shows` holds; `shows(case)` is known to.
pub fn shrink(mut case: Case, mut shows: impl FnMut(&Case) -> bool) -> Case {
    loop {
        let before = case.clone();
        drop_steps(&mut case, &mut shows);
        drop_files(&mut case, &mut shows);
        plain_arguments(&mut case, &mut shows);
        if case == before {
            return case;
        }
    }
}

fn drop_steps(case: &mut Case, shows: &mut impl FnMut(&Case) -> bool) {
    let mut run = (case.steps.len() / 2).max(1);
    loop {
        let mut at = 0;
        while at < case.steps.len() {
            let mut smaller = case.clone();
            smaller.steps.drain(at..(at + run).min(case.steps.len()));
            if shows(&smaller) {
                *case = smaller;
            } else {
                at += run;
            }
        }
        if run == 1 {
            return;
        }
        run /= 2;
    }
}

fn drop_files(case: &mut Case, shows: &mut impl FnMut(&Case) -> bool) {
    while let Some((_, fewer)) = case.files.split_last() {
        let smaller = Case { files: fewer.to_vec(), ..case.clone() };
        if !shows(&smaller) {
            return;
        }
        *case = smaller;
    }
}

fn plain_arguments(case: &mut Case, shows: &mut impl FnMut(&Case) -> bool) {
    for at in 0..case.steps.len() {
        for argument in 0..case.steps[at].call.kind.args().len() {
            for plainer in plainer(case.steps[at], argument) {
                let mut smaller = case.clone();
                smaller.steps[at].call.args[argument] = plainer;
                if shows(&smaller) {
                    *case = smaller;
                    break;
                }
            }
        }
    }
}

/// Values to try for an argument, the plainest first; none that is not smaller.
fn plainer(step: Step, argument: usize) -> Vec<u64> {
    let value = step.call.args[argument];
    let mut values = Vec::new();
    match step.call.kind.args()[argument] {
        "len" | "old_len" | "new_len" | "size" => {
            values.extend([PAGE_SIZE, 2 * PAGE_SIZE]);
            values.extend(value.checked_next_multiple_of(PAGE_SIZE));
        }
        "prot" | "flags" => {
            // Bit by bit, the highest first.
            values.extend((0..64).rev().map(|bit| value & !(1 << bit)));
        }
        "offset" | "pgoff" | "value" | "new" => values.push(0),
        "pages" => values.extend([1, value / 2]),
        "addr" if step.call.kind == Kind::Mmap => values.push(0),
        _ => {}
    }
    values.retain(|&plain| plain < value || (plain != value && value & (PAGE_SIZE - 1) != 0));
    values
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::Call;
    use crate::case::Window;

    #[test]
    fn what_does_not_matter_goes() {
        let step = |kind, args: &[u64]| Step { process: 0, call: Call::new(kind, args) };
        let mut steps = vec![step(Kind::Munlockall, &[]); 100];
        steps[37] = step(Kind::Mmap, &[0x1000, 0x9000, 0x7, 0x8022, 0, 0x3000]);
        steps[80] = step(Kind::Munmap, &[0x1000, 0x2345]);
        let case = Case { window: Window::NARROW, brk: 0, files: vec![1, 2], steps };
        let small = shrink(case, |case| {
            let mapped = case
                .steps
                .iter()
                .position(|step| step.call.kind == Kind::Mmap && step.call.args[3] & 0x20 != 0);
            let unmapped = case.steps.iter().position(|step| step.call.kind == Kind::Munmap);
            matches!((mapped, unmapped), (Some(mapped), Some(unmapped)) if mapped < unmapped)
        });
        assert_eq!(
            small.steps,
            [step(Kind::Mmap, &[0, 0x1000, 0, 0x20, 0, 0]), step(Kind::Munmap, &[0x1000, 0x1000]),]
        );
        assert!(small.files.is_empty());
    }
}
