//! Which calls the oracle's generator makes: asked of the generator itself.
//!
//! A claim says how a step looks, as in `flags & 0x10`; [`Made::count`] says how many of a few
//! hundred thousand steps look like that. When the generator stops making such calls, the claim
//! stops to hold.

use kilburn_model::{Generator, Kind, Step};

/// Cases looked at. Enough that a flag of one mmap in a hundred appears hundreds of times.
const CASES: u64 = 1500;

/// Steps that the generator made.
pub(super) struct Made {
    steps: Vec<Step>,
}

/// A step's looks, parsed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Looks {
    kind: Kind,
    /// Which argument, and what it must be; `None`: any step of the kind.
    argument: Option<(usize, Test)>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Test {
    /// The argument is this, after masking.
    Is { mask: u64, value: u64 },
    /// One of these bits is set.
    Any { mask: u64 },
}

impl Looks {
    /// Parses `text`; `call` names the kind unless the text does.
    pub(super) fn parse(call: &str, text: &str) -> Result<Self, String> {
        let (call, text) = match text.split_once(':') {
            Some((call, rest)) => (call.trim(), rest.trim()),
            None => (call, text.trim()),
        };
        let kind = *Kind::ALL
            .iter()
            .find(|kind| kind.name() == call)
            .ok_or_else(|| format!("the oracle makes no call {call:?}"))?;
        if text == "any" {
            return Ok(Self { kind, argument: None });
        }
        let words: Vec<&str> = text.split_ascii_whitespace().collect();
        let test = match words.as_slice() {
            [_, "&", mask] => Test::Any { mask: number(mask)? },
            [_, "&", mask, "==", value] => Test::Is { mask: number(mask)?, value: number(value)? },
            [_, "==", value] => Test::Is { mask: u64::MAX, value: number(value)? },
            _ => return Err(format!("not ARG, & MASK or == VALUE: {text:?}")),
        };
        let at = kind
            .args()
            .iter()
            .position(|arg| *arg == words[0])
            .ok_or_else(|| format!("{call} has no argument {:?}", words[0]))?;
        Ok(Self { kind, argument: Some((at, test)) })
    }

    fn matches(self, step: &Step) -> bool {
        step.call.kind == self.kind
            && self.argument.is_none_or(|(at, test)| match test {
                Test::Is { mask, value } => step.call.args[at] & mask == value,
                Test::Any { mask } => step.call.args[at] & mask != 0,
            })
    }
}

fn number(text: &str) -> Result<u64, String> {
    match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => text.parse(),
    }
    .map_err(|_| format!("not a number: {text:?}"))
}

impl Made {
    /// What the generator makes of one seed; a claim must hold whatever the seed.
    pub(super) fn by_the_generator() -> Self {
        let generator = Generator::new(1, Kind::ALL);
        let steps = (0..CASES).flat_map(|number| generator.case(number).steps).collect();
        Self { steps }
    }

    /// Made-up steps.
    #[cfg(test)]
    pub(super) fn of(steps: &[&str]) -> Self {
        Self { steps: steps.iter().map(|step| step.parse().expect("a step")).collect() }
    }

    /// How many steps look like that.
    pub(super) fn count(&self, looks: Looks) -> usize {
        self.steps.iter().filter(|step| looks.matches(step)).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_counted_by_their_looks() {
        let made = Made::of(&[
            "0 mmap addr=0x0 len=0x1000 prot=0x3 flags=0x22 file=- offset=0x0",
            "0 mmap addr=0x1000 len=0x1000 prot=0x3 flags=0x32 file=- offset=0x0",
            "0 munmap addr=0x1000 len=0x1000",
        ]);
        let count = |text| made.count(Looks::parse("mmap", text).expect("well-formed"));
        assert_eq!(count("any"), 2);
        assert_eq!(count("flags & 0x10"), 1);
        assert_eq!(count("flags & 0xf == 0x2"), 2);
        assert_eq!(count("flags == 0x22"), 1);
        assert_eq!(count("munmap: any"), 1);
        assert_eq!(count("prot & 4"), 0);
    }

    #[test]
    fn looks_that_mean_nothing_are_refused() {
        for text in ["", "flags", "colour & 1", "flags & x", "nosuchcall: any", "flags = 1"] {
            assert!(Looks::parse("mmap", text).is_err(), "{text}");
        }
    }
}
