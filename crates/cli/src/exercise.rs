//! `kilburn exercise`: questions about address translation, drawn by a seed, and the answers checked.
//!
//! The systems are those of `kilburn translate`, so the answer to a question is what that command says; with a trace the questions
//! are about a real process, at moments of its run that are drawn.

use crate::failure::Failure;
use crate::translate::moment::{self, MomentArgs, Replayed};
use crate::translate::{broken, parse_number, system, text};
use clap::Args;
use kilburn_addr::{Access, PAGE_SHIFT};
use kilburn_mmu::model::config::AdUpdate;
use kilburn_mmu::textbook::{Contents, Explanation, System, SystemConfig, csapp};
use kilburn_paging::{HardwareFormat as _, Textbook};
use kilburn_trace::replay::Moment;
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
  kilburn exercise --trace cc.ktrace --timing skylake --at 100000 --count 3
                                      about a real run, at moments in its first 100,000 accesses

Numbers are 0x-hexadecimal or decimal, yes and no are y and n. What has no value, such as the PPN after a page fault,
is answered with a dash.

Exit status: 0 all answers are right (or none was asked for); 1 some are wrong; 2 wrong usage.";

/// `kilburn exercise`.
#[derive(Args, Debug)]
#[command(after_help = NOTES)]
pub(crate) struct Arguments {
    /// Ask about a book's system instead of one that is drawn
    #[arg(long, value_enum, conflicts_with = "trace")]
    preset: Option<system::Preset>,

    #[command(flatten)]
    moment: MomentArgs,

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
    name: String,
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
    if arguments.moment.pid.is_some() {
        return Err(Failure::usage(
            "--pid: questions are about the process that runs at the moment drawn",
        ));
    }
    let mut out = io::stdout().lock();
    let mut input = io::stdin().lock();
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(arguments.seed);
    let mut list = Vec::new();
    let mut wrong = 0;
    let mut replayed = match &arguments.moment.trace {
        Some(trace) => Some(Replayed::open(trace, &arguments.moment.timing)?),
        None => None,
    };
    let mut at = 0;
    for number in 1..=arguments.count {
        if let Some(replayed) = &mut replayed {
            let moments = arguments.moment.at.unwrap_or(MOMENTS).max(u64::from(arguments.count));
            at += 1 + rng.next_u64() % (moments / u64::from(arguments.count));
            let moment = draw_moment(replayed, at)?;
            let mut told = Vec::new();
            question(&mut told, at, &moment).map_err(broken)?;
            let told = String::from_utf8_lossy(&told).into_owned();
            let items = moment_items(&moment);
            if arguments.json {
                list.push(
                    json!({ "va": moment.va.get(), "system": told, "answers": as_json(&items) }),
                );
                continue;
            }
            writeln!(out, "Question {number}: {told}").map_err(broken)?;
            wrong += ask(&mut out, &mut input, &items, arguments.solve).map_err(broken)?;
            continue;
        }
        let (mut system, va) = draw(arguments.preset, &mut rng)?;
        let before = system.clone();
        let items = items(&system.translate(va, Access::Read));
        if arguments.json {
            let answers = as_json(&items);
            list.push(json!({ "va": va, "system": describe(&before), "answers": answers }));
            continue;
        }
        let bits = before.config().format.va_bits();
        writeln!(out, "Question {number}: {}.\n", describe(&before)).map_err(broken)?;
        text::contents(&mut out, &before).map_err(broken)?;
        writeln!(out, "A program reads the byte at virtual address {}.\n", text::hex(va, bits))
            .map_err(broken)?;
        wrong += ask(&mut out, &mut input, &items, arguments.solve).map_err(broken)?;
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

fn number(name: impl Into<String>, value: Option<u64>) -> Item {
    Item { name: name.into(), answer: Answer::of(value) }
}

fn yes_no(name: impl Into<String>, value: Option<bool>) -> Item {
    Item { name: name.into(), answer: value.map_or(Answer::Nothing, Answer::YesNo) }
}

fn as_json(items: &[Item]) -> serde_json::Map<String, serde_json::Value> {
    items.iter().map(|item| (item.name.clone(), item.answer.to_text().into())).collect()
}

/// Accesses among which a moment is drawn, where nobody said how many.
const MOMENTS: u64 = 1_000_000;

/// The moment after `at` accesses, and the access that comes then.
fn draw_moment(replayed: &mut Replayed, at: u64) -> Result<Moment, Failure> {
    replayed.go_to(at)?;
    let (access, va) = replayed.next_access()?;
    replayed.explain(None, va, access)
}

/// All that is needed to answer by hand.
fn question(out: &mut impl Write, at: u64, moment: &Moment) -> io::Result<()> {
    let said = &moment.said;
    writeln!(out, "after {at} accesses, {}.\n", moment::who(moment))?;
    writeln!(
        out,
        "Addresses have {} bits, pages 4 KiB; tables have {} levels of 512 entries of 8 bytes. A PTE: bit 0 valid, 1 read, 2 write,\n\
         3 execute (none of these three: it leads to a table), 4 user, 6 accessed, 7 dirty, 10 and up the PPN.",
        moment::va_bits(moment),
        moment.levels
    )?;
    if said.ad_update == AdUpdate::Fault {
        let rule = "A page fault leaves it to software to set bit 6, and bit 7 for a store, where a walk finds it clear.";
        writeln!(out, "{rule}")?;
    }
    for look in &said.tlb {
        let (sets, ways) = look.shape;
        let (size, set) = (1_u64 << (look.page_shift - 10), moment::set(&look.held));
        let place = look.place;
        writeln!(
            out,
            "{place} TLB, {sets} x {ways}: the set it looks in has for pages of {size} KiB: {set}"
        )?;
    }
    if let Some(root) = said.steps.first() {
        writeln!(
            out,
            "The root table lies at {:#x}. Words of memory:",
            root.entry_at.get() >> PAGE_SHIFT << PAGE_SHIFT
        )?;
    }
    let mut words: Vec<_> = said.steps.iter().map(|step| (step.entry_at.get(), step.raw)).collect();
    words.sort_unstable();
    for (address, word) in words {
        writeln!(out, "  {address:#x}: {word:#018x}")?;
    }
    if let Some(look) = said.caches.first() {
        let (sets, ways, line) = look.shape;
        let (bytes, set) = (1 << line, moment::set(&look.held));
        writeln!(
            out,
            "{} cache, {sets} x {ways} lines of {bytes} bytes: the set it looks in has: {set}",
            look.place
        )?;
    }
    writeln!(out)
}

fn moment_items(moment: &Moment) -> Vec<Item> {
    let said = &moment.said;
    let (vpn, vpo) = moment::page_of(moment);
    let mut items = vec![number("VPN", Some(vpn)), number("VPO", Some(vpo))];
    for look in said.tlb.iter().filter(|look| look.page_shift == PAGE_SHIFT) {
        items.push(number(format!("{} TLBI", look.place), Some(look.index)));
        items.push(number(format!("{} TLBT", look.place), Some(look.tag)));
    }
    items.push(yes_no("TLB hit", Some(said.is_tlb_hit())));
    for step in &said.steps {
        items.push(number(format!("index, level {}", step.level), Some(step.index as u64)));
        items.push(number(format!("PTE at, level {}", step.level), Some(step.entry_at.get())));
    }
    let at = said.physical.ok().map(|(at, _)| at.get());
    items.push(yes_no("page fault", Some(at.is_none())));
    items.push(number("PPN", at.map(|at| at >> PAGE_SHIFT)));
    items.push(number("physical address", at));
    if let Some(look) = said.caches.first() {
        items.push(number("CO", Some(look.offset)));
        items.push(number("CI", Some(look.index)));
        items.push(number("CT", Some(look.tag)));
        items.push(yes_no("cache hit", Some(look.is_hit())));
    }
    items
}

fn items(said: &Explanation) -> Vec<Item> {
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
    items: &[Item],
    solve: bool,
) -> io::Result<u32> {
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
        let items = items(&system.translate(va, Access::Read));
        ask(&mut Vec::new(), &mut answers.as_bytes(), &items, false).unwrap()
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
