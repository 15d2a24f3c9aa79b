//! `kilburn translate`: addresses of a textbook system, or of a real process, translated with every field and every step.
//!
//! - [`system`]: which system: a preset, or one of one's own by flags.
//! - [`text`]: the steps as text. [`picture`]: the same as SVG.
//!
//! - [`moment`]: a process of a recorded run, at a moment of it. [`live`]: one of a machine that is running.
//!
//! The translation itself is `kilburn_mmu::textbook`.

pub(crate) mod live;
pub(crate) mod moment;
pub(crate) mod picture;
pub(crate) mod system;
pub(crate) mod text;

use crate::failure::Failure;
use clap::Args;
use kilburn_addr::Access;
use kilburn_mmu::textbook::{Explanation, System, TextbookFault};
use kilburn_paging::Entry;
use kilburn_paging::hardware::Step;
use serde_json::{Value, json};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use system::SystemArgs;

const NOTES: &str = "\
Examples:
  kilburn translate --preset csapp 0x03d4       the worked example of the standard textbook
  kilburn translate --preset csapp --show       the contents of its TLB, page table and cache
  kilburn translate --preset csapp 0x03d4 --svg csapp.svg
  kilburn translate --va-bits 16 --pa-bits 14 --page 256 --levels 2 --tlb 4x2 --cache 8x2x16 0xbeef
  kilburn translate --va-bits 14 --pa-bits 16 --page 4K --map 0:12 --map 3:6 0x3229 0x1369
  kilburn translate --trace cc.ktrace --timing skylake --at 1000000
  kilburn translate --trace cc.ktrace --timing skylake --at 1000000 --pid 3 0x10430 --svg cc.svg
  kilburn translate --pid 5 0x10430     a process of a machine that is running (kilburn ps)

With --trace, what `kilburn run --record` wrote is replayed up to a moment; then the access that comes next is explained, or one to
each ADDRESS, on the TLBs, walk caches, tables and caches as they are then. With --pid alone a running machine is asked, as it is
between two slices: about its tables, and if it runs with --timing about the modelled hardware of the hart the process ran on last.

Several addresses are translated in order: what one brings into TLB and cache, the next one finds.
Without --map, pages, frames and bytes of a system of one's own are drawn by --seed. Page tables lie
in a memory of their own, from address 0 on.

Exit status: 0, also for page faults; 2 wrong usage.";

/// `kilburn translate`.
#[derive(Args, Debug)]
#[command(after_help = NOTES)]
pub(crate) struct Arguments {
    #[command(flatten)]
    system: SystemArgs,

    #[command(flatten)]
    moment: moment::MomentArgs,

    /// Addresses to translate, 0x-hexadecimal or decimal
    #[arg(value_name = "ADDRESS", value_parser = parse_number, required_unless_present_any = ["show", "trace", "pid"])]
    addresses: Vec<u64>,

    /// The accesses are stores
    #[arg(long)]
    write: bool,

    /// Print the contents of TLB, page table and cache first
    #[arg(long, conflicts_with_all = ["trace", "pid"])]
    show: bool,

    /// Print a JSON list of one object an address
    #[arg(long)]
    json: bool,

    /// Draw the (last) translation into FILE
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

/// A number as people write addresses.
pub(crate) fn parse_number(text: &str) -> Result<u64, String> {
    let (digits, radix) = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => (digits, 16),
        None => (text, 10),
    };
    let wrong = || "a number is decimal, or hexadecimal with 0x, of at most 64 bits".to_owned();
    if digits.starts_with('+') {
        return Err(wrong());
    }
    u64::from_str_radix(digits, radix).map_err(|_| wrong())
}

/// Runs the command.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let access = if arguments.write { Access::Write } else { Access::Read };
    let mut out = io::stdout().lock();
    if arguments.moment.trace.is_some() || arguments.moment.pid.is_some() {
        let told = of_process(arguments, access)?;
        if arguments.json {
            let list: Vec<&Value> = told.iter().map(|told| &told.moment).collect();
            let text = serde_json::to_string_pretty(&list).expect("plain values");
            writeln!(out, "{text}").map_err(broken)?;
        } else {
            told.iter().try_for_each(|told| write!(out, "{}", told.text)).map_err(broken)?;
        }
        if let (Some(path), Some(last)) = (&arguments.svg, told.last()) {
            write_svg(path, &last.svg)?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let mut system = arguments.system.build(&arguments.addresses)?;
    if arguments.show {
        text::contents(&mut out, &system).map_err(broken)?;
    }
    let before = system.clone();
    let said: Vec<Explanation> =
        arguments.addresses.iter().map(|&va| system.translate(va, access)).collect();
    if arguments.json {
        let list: Vec<Value> = said.iter().map(|said| as_json(&before, said)).collect();
        let text = serde_json::to_string_pretty(&list).expect("plain values");
        writeln!(out, "{text}").map_err(broken)?;
    } else {
        for said in &said {
            text::steps(&mut out, &before, said).map_err(broken)?;
        }
    }
    if let (Some(path), Some(last)) = (&arguments.svg, said.last()) {
        write_svg(path, &picture::draw(&before, last))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn write_svg(path: &Path, svg: &str) -> Result<(), Failure> {
    std::fs::write(path, svg).map_err(|e| Failure::usage(format!("--svg {}: {e}", path.display())))
}

/// Accesses of a real process: recorded, or running now.
fn of_process(arguments: &Arguments, access: Access) -> Result<Vec<live::Told>, Failure> {
    let (moment, addresses) = (&arguments.moment, &arguments.addresses);
    if let Some(trace) = &moment.trace {
        let moments = moment::explain(moment, trace, addresses, access)?;
        return Ok(moments.iter().map(live::Told::of).collect());
    }
    if addresses.is_empty() {
        return Err(Failure::usage(
            "--pid: name an ADDRESS (`kilburn maps PID` shows what there is)",
        ));
    }
    live::ask(moment.machine, moment.pid.unwrap_or_default(), addresses, access)
}

/// Nobody reads on.
pub(crate) fn broken(error: io::Error) -> Failure {
    Failure::usage(format!("standard output: {error}"))
}

/// The entries of a walk, as read.
fn walk_as_json(steps: &[Step]) -> Vec<Value> {
    let step = |step: &Step| {
        json!({
            "level": step.level,
            "index": step.index,
            "entry_address": step.entry_at.get(),
            "entry": step.raw,
            "is_valid": step.entry != Entry::None,
        })
    };
    steps.iter().map(step).collect()
}

/// Every field.
fn as_json(system: &System, said: &Explanation) -> Value {
    let (ppn, pa) = said.physical.ok().unzip();
    let walk = walk_as_json(&said.walk);
    json!({
        "va": said.va,
        "vpn": said.vpn,
        "vpo": said.vpo,
        "tlb": said.tlb.map(|look| json!({
            "tlbi": look.index,
            "tlbt": look.tag,
            "is_hit": look.hit.is_some(),
        })),
        "walk": walk,
        "fault": said.physical.err().map(fault_name),
        "ppn": ppn,
        "pa": pa,
        "ppo": pa.map(|_| said.vpo),
        "cache": said.cache.map(|look| json!({
            "co": look.offset,
            "ci": look.index,
            "ct": look.tag,
            "is_hit": look.is_hit,
        })),
        "byte": said.byte,
        "levels": kilburn_paging::HardwareFormat::levels(system.config().format),
    })
}

/// What a fault is called.
pub(crate) fn fault_name(fault: TextbookFault) -> &'static str {
    match fault {
        TextbookFault::TooWide => "address too wide",
        TextbookFault::NotValid => "page fault: the entry is not valid",
        TextbookFault::Protection => "protection fault: the entry does not permit the access",
    }
}
