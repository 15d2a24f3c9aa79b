//! `kilburn exercise`: questions about address translation, drawn by a seed, and the answers checked.
//!
//! The systems are those of `kilburn translate`, so the answer to a question is what that command says.

use crate::failure::Failure;
use crate::translate::{broken, parse_number, system, text};
use clap::Args;
use kilburn_addr::Access;
use kilburn_mmu::textbook::{Contents, Explanation, System, SystemConfig, csapp};
use kilburn_paging::{HardwareFormat as _, Textbook};
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{RngCore as _, SeedableRng as _};
use serde_json::json;
use std::io::{self, BufRead, Write};
use std::process::ExitCode;

const NOTES: &str = "\
Examples:
  kilburn exercise                    one question; type an answer a line, or nothing to be told
  kilburn exercise --seed 7 --count 5
  kilburn exercise --preset csapp
  kilburn exercise --seed 7 --solve   the question and its answers
  kilburn exercise --seed 7 --json    the same for a program

Numbers are 0x-hexadecimal or decimal, yes and no are y and n. What has no value, such as the PPN after a page fault,
is answered with a dash.

Exit status: 0 all answers are right (or none was asked for); 1 some are wrong; 2 wrong usage.";

/// `kilburn exercise`.
#[derive(Args, Debug)]
#[command(after_help = NOTES)]
pub(crate) struct Arguments {
    /// Ask about a book's system instead of one that is drawn
    #[arg(long, value_enum)]
    preset: Option<system::Preset>,

    /// Seed of the system and the questions
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,

    /// Questions to ask
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    count: u32,

    /// Print the answers instead of asking for them
    #[arg(long)]
    solve: bool,

    /// Print questions and answers as JSON
    #[arg(long)]
    json: bool,
}

/// One thing asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Item {
    name: &'static str,
    answer: Answer,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Answer {
    Number(u64),
    YesNo(bool),
    /// There is no such thing.
    Nothing,
}

impl Answer {
    fn of(value: Option<u64>) -> Self {
        value.map_or(Self::Nothing, Self::Number)
    }

    /// Whether `text` says the same.
    fn is(self, text: &str) -> bool {
        let text = text.trim().to_ascii_lowercase();
        match self {
            Self::Number(value) => parse_number(&text) == Ok(value),
            Self::YesNo(true) => matches!(text.as_str(), "y" | "yes"),
            Self::YesNo(false) => matches!(text.as_str(), "n" | "no"),
            Self::Nothing => matches!(text.as_str(), "-" | "--" | "none"),
        }
    }

    fn to_text(self) -> String {
        match self {
            Self::Number(value) => format!("{value:#x}"),
            Self::YesNo(yes) => if yes { "yes" } else { "no" }.to_owned(),
            Self::Nothing => "-".to_owned(),
        }
    }
}

/// Runs the command.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let mut out = io::stdout().lock();
    let mut input = io::stdin().lock();
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(arguments.seed);
    let mut list = Vec::new();
    let mut wrong = 0;
    for number in 1..=arguments.count {
        let (mut system, va) = draw(arguments.preset, &mut rng)?;
        let before = system.clone();
        let items = items(&system.translate(va, Access::Read));
        if arguments.json {
            let answers: serde_json::Map<_, _> =
                items.iter().map(|item| (item.name.into(), item.answer.to_text().into())).collect();
            list.push(json!({ "va": va, "system": describe(&before), "answers": answers }));
            continue;
        }
        let asked = ask(&mut out, &mut input, (number, va), &before, &items, arguments.solve);
        wrong += asked.map_err(broken)?;
    }
    if arguments.json {
        let text = serde_json::to_string_pretty(&list).expect("plain values");
        writeln!(out, "{text}").map_err(broken)?;
    }
    Ok(if wrong == 0 { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// A system small enough for paper, and an address to ask for.
fn draw(
    preset: Option<system::Preset>,
    rng: &mut Xoshiro256PlusPlus,
) -> Result<(System, u64), Failure> {
    let mut below = |end: u64| rng.next_u64() % end;
    if preset.is_some() {
        let system = csapp();
        // The page table is given for the first sixteen pages.
        return Ok((system, below(16 << 6)));
    }
    let page_shift = 5 + below(4) as u32;
    let va_bits = page_shift + 5 + below(4) as u32;
    let pa_bits = page_shift + 4 + below(4) as u32;
    let levels = 1 + below(2) as u8;
    let format = Textbook::new(va_bits, pa_bits, page_shift, levels)
        .map_err(|error| Failure::internal(error.to_string()))?;
    let config = SystemConfig {
        format,
        tlb: Some((1 << (1 + below(2)), 1 << below(3))),
        cache: Some((1 << (2 + below(3)), 1 << below(2), 2 + below(2) as u32)),
        contents: Contents::Seeded(below(u64::MAX)),
    };
    let mut system = System::new(config).map_err(|error| Failure::internal(error.to_string()))?;
    let va = below(1 << va_bits);
    let seed = below(u64::MAX);
    system::draw_pages(&mut system, seed, &[va]);
    Ok((system, va))
}

fn items(said: &Explanation) -> Vec<Item> {
    let number = |name, value| Item { name, answer: Answer::of(value) };
    let yes_no = |name, value: Option<bool>| Item {
        name,
        answer: value.map_or(Answer::Nothing, Answer::YesNo),
    };
    let (ppn, pa) = said.physical.ok().unzip();
    let mut items = vec![number("VPN", Some(said.vpn)), number("VPO", Some(said.vpo))];
    if let Some(look) = said.tlb {
        items.push(number("TLBI", Some(look.index)));
        items.push(number("TLBT", Some(look.tag)));
        items.push(yes_no("TLB hit", Some(look.hit.is_some())));
    }
    items.push(yes_no("page fault", Some(said.physical.is_err())));
    items.push(number("PPN", ppn));
    items.push(number("physical address", pa));
    items.push(number("CO", said.cache.map(|look| look.offset)));
    items.push(number("CI", said.cache.map(|look| look.index)));
    items.push(number("CT", said.cache.map(|look| look.tag)));
    items.push(yes_no("cache hit", said.cache.map(|look| look.is_hit)));
    if said.cache.is_some_and(|look| look.is_hit) {
        items.push(number("byte", said.byte.map(u64::from)));
    }
    items
}

fn describe(system: &System) -> String {
    let format = system.config().format;
    let mut text = format!(
        "virtual addresses of {} bits, physical of {}, pages of {} bytes, {} level{} of tables",
        format.va_bits(),
        format.pa_bits(),
        1_u64 << format.page_shift(),
        format.levels(),
        if format.levels() == 1 { "" } else { "s" }
    );
    if let Some((sets, ways)) = system.config().tlb {
        text += &format!("; a TLB of {sets} sets with {ways} ways");
    }
    if let Some((sets, ways, line)) = system.config().cache {
        text += &format!("; a cache of {sets} sets with {ways} ways of {} bytes", 1 << line);
    }
    text
}

/// Asks one question; answers how many answers were wrong.
fn ask(
    out: &mut impl Write,
    input: &mut impl BufRead,
    (number, va): (u32, u64),
    system: &System,
    items: &[Item],
    solve: bool,
) -> io::Result<u32> {
    writeln!(out, "Question {number}: {}.\n", describe(system))?;
    text::contents(out, system)?;
    let bits = system.config().format.va_bits();
    writeln!(out, "A program reads the byte at virtual address {}.\n", text::hex(va, bits))?;
    let mut wrong = 0;
    for Item { name, answer } in items {
        write!(out, "  {name:<18}")?;
        if solve {
            writeln!(out, "{}", answer.to_text())?;
            continue;
        }
        out.flush()?;
        let mut line = String::new();
        // No answer at the end of input counts as wrong; an empty line does as well, and shows it.
        input.read_line(&mut line)?;
        if answer.is(&line) {
            writeln!(out, "  {:<18}right", "")?;
        } else {
            wrong += 1;
            writeln!(out, "  {:<18}wrong: {}", "", answer.to_text())?;
        }
    }
    if !solve {
        writeln!(out, "\n{} of {} right\n", items.len() as u32 - wrong, items.len())?;
    }
    Ok(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(va: u64, answers: &str) -> u32 {
        let mut system = csapp();
        let before = system.clone();
        let items = items(&system.translate(va, Access::Read));
        let mut out = Vec::new();
        ask(&mut out, &mut answers.as_bytes(), (1, va), &before, &items, false).unwrap()
    }

    #[test]
    fn right_answers_are_right_and_others_are_not() {
        let right = "0x0f\n0x14\n3\n0x3\nyes\nno\n13\n0x354\n0\n5\n0x0D\ny\n0x36\n";
        assert_eq!(answered(0x3d4, right), 0);
        assert_eq!(answered(0x3d4, &right.replace("0x354", "0x355")), 1);
        assert_eq!(answered(0x3d4, ""), 13);
        assert_eq!(answered(0x40, "1\n0\n1\n0\nn\ny\n-\n-\n-\n-\n-\n-\n"), 0);
    }

    #[test]
    fn the_same_seed_asks_the_same() {
        let drawn = |seed| {
            let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
            (0..50)
                .map(|_| draw(None, &mut rng).unwrap())
                .map(|(mut system, va)| items(&system.translate(va, Access::Read)))
                .collect::<Vec<_>>()
        };
        assert_eq!(drawn(3), drawn(3));
        assert_ne!(drawn(3), drawn(4));
    }
}
