//! A real process at a moment of its run: a trace replayed up to there, and an access explained on the hardware as it is then.
//!
//! [`MomentArgs`] says which moment; [`Replayed`] goes there; [`steps`] and [`as_json`] print what an access meets.
//! `kilburn exercise` asks about the same moments.

use super::text::hex;
use super::walk_as_json;
use crate::failure::Failure;
use crate::sim::{Setup, input, prepare};
use clap::Args;
use kilburn_addr::{Access, PAGE_SHIFT, VirtAddr};
use kilburn_mmu::model::ModelFault;
use kilburn_mmu::model::cache::CacheLook;
use kilburn_mmu::model::explain::TlbLook;
use kilburn_paging::hardware::Step;
use kilburn_paging::walk::WalkFault;
use kilburn_paging::{Entry, LeafFlags};
use kilburn_trace::replay::Moment;
use kilburn_trace::{Replay, Source, open, timing};
use serde_json::{Value, json};
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

/// The flags that say which moment.
#[derive(Args, Debug)]
pub(crate) struct MomentArgs {
    /// A trace of `kilburn run --record` (or any that `kilburn sim` reads): ask a real process
    #[arg(long, value_name = "FILE")]
    pub(crate) trace: Option<PathBuf>,

    /// After so many of the trace's accesses [default: at its end]
    #[arg(long, value_name = "N", requires = "trace")]
    pub(crate) at: Option<u64>,

    /// The process [default: the one that runs then]; without --trace one of a machine that is running
    #[arg(long, value_name = "PID")]
    pub(crate) pid: Option<u32>,

    /// The running machine, by its process on the host [default: the only one]
    #[arg(long, value_name = "PID", requires = "pid", conflicts_with = "trace")]
    pub(crate) machine: Option<u32>,

    /// Hardware that a trace is replayed on: a preset, or a file that ends with .toml
    #[arg(long, value_name = "PRESET|FILE", default_value = "simple", requires = "trace")]
    pub(crate) timing: String,
}

/// A trace on its way to a moment.
pub(crate) struct Replayed {
    name: String,
    replay: Replay,
    source: Source,
}

impl Replayed {
    /// The trace at `path`, before its first record.
    pub(crate) fn open(path: &Path, given: &str) -> Result<Self, Failure> {
        let name = path.display().to_string();
        let failed = |why: String| Failure::usage(format!("{name}: {why}"));
        let config =
            timing::load(given).map_err(|why| Failure::usage(format!("--timing: {why}")))?;
        let setup = Setup { config, memory: None, policy: None, format: None, limit: None };
        let (input, _) =
            input::Input::open(path, &input::never()).map_err(|error| failed(error.to_string()))?;
        let source =
            open::open(&name, Box::new(input), None).map_err(|error| failed(error.to_string()))?;
        let replay = prepare(&setup, &source)?;
        Ok(Self { name, replay, source })
    }

    /// Goes on until `at` accesses are done, or to the end.
    pub(crate) fn go_to(&mut self, at: u64) -> Result<(), Failure> {
        let done = self.replay.run(&mut self.source, at, |_| ControlFlow::Continue(()));
        done.map_err(|error| Failure::usage(format!("{}: {error}", self.name)))
    }

    /// The access that comes next, not yet done.
    pub(crate) fn next_access(&mut self) -> Result<(Access, VirtAddr), Failure> {
        let failed = |why: String| Failure::usage(format!("{}: {why}", self.name));
        let next = self.replay.next_access(&mut self.source);
        next.map_err(|error| failed(error.to_string()))?
            .ok_or_else(|| failed("no access is left: name an ADDRESS, or an earlier --at".into()))
    }

    /// What an access meets now.
    pub(crate) fn explain(
        &mut self,
        pid: Option<u32>,
        va: VirtAddr,
        access: Access,
    ) -> Result<Moment, Failure> {
        self.replay.explain(pid, va, access).ok_or_else(|| {
            let pid = pid.unwrap_or_default();
            let said = "has not run yet, or has ended, or the trace does not name processes";
            Failure::usage(format!("{}: process {pid} {said}", self.name))
        })
    }
}

/// Explains `addresses`, or without any the access that comes next.
pub(crate) fn explain(
    arguments: &MomentArgs,
    trace: &Path,
    addresses: &[u64],
    access: Access,
) -> Result<Vec<Moment>, Failure> {
    let mut replayed = Replayed::open(trace, &arguments.timing)?;
    replayed.go_to(arguments.at.unwrap_or(u64::MAX))?;
    if addresses.is_empty() {
        let (access, va) = replayed.next_access()?;
        return Ok(vec![replayed.explain(arguments.pid, va, access)?]);
    }
    let explain = |&va| replayed.explain(arguments.pid, VirtAddr::new(va), access);
    addresses.iter().map(explain).collect()
}

/// Virtual page number and offset, in the bits that the tables translate.
pub(crate) fn page_of(moment: &Moment) -> (u64, u64) {
    let bits = va_bits(moment);
    ((moment.va.get() & ((1 << bits) - 1)) >> PAGE_SHIFT, moment.va.page_offset())
}

/// Bits of an address that the tables translate.
pub(crate) fn va_bits(moment: &Moment) -> u32 {
    PAGE_SHIFT + 9 * u32::from(moment.levels)
}

/// Who is asked.
pub(crate) fn who(moment: &Moment) -> String {
    let process = moment.pid.map_or_else(String::new, |pid| format!("process {pid}, "));
    let kind = kind(moment.access);
    format!(
        "{process}address space {} on hart {}: {kind} at {}",
        moment.space, moment.hart, moment.va
    )
}

fn kind(access: Access) -> &'static str {
    match access {
        Access::Read => "load",
        Access::Write => "store",
        Access::Exec => "fetch",
    }
}

/// Why there is no translation.
pub(crate) fn fault_name(fault: ModelFault) -> &'static str {
    match fault {
        ModelFault::Walk(WalkFault::NotCanonical) => {
            "the address is not canonical: its upper bits are no copy of the highest one used"
        }
        ModelFault::Walk(WalkFault::NotPresent) => "the entry is not valid",
        ModelFault::Walk(WalkFault::Denied) => "the entry does not permit the access",
        ModelFault::UsedBits => "A or D is clear, and this hardware leaves them to software",
    }
}

/// A number of bytes that is a power of two.
fn amount(shift: u32) -> String {
    match shift {
        30.. => format!("{} GiB", 1_u64 << (shift - 30)),
        20.. => format!("{} MiB", 1 << (shift - 20)),
        10.. => format!("{} KiB", 1 << (shift - 10)),
        _ => format!("{} bytes", 1 << shift),
    }
}

/// What is in a set, in hexadecimal.
pub(crate) fn set(held: &[u64]) -> String {
    let held: Vec<String> = held.iter().map(|tag| format!("{tag:#x}")).collect();
    if held.is_empty() { "nothing".to_owned() } else { held.join(" ") }
}

fn hit(is_hit: bool) -> &'static str {
    if is_hit { "hit" } else { "miss" }
}

fn entry_text(step: &Step) -> String {
    match step.entry {
        Entry::Table(next) => format!("table at {:#x}", next.base().get()),
        Entry::Leaf(leaf) => format!("PPN {:#x} {}", leaf.pfn.get(), rights(leaf.flags)),
        Entry::None | Entry::Software(_) => "not valid".to_owned(),
    }
}

fn rights(flags: LeafFlags) -> String {
    let letters = [
        (LeafFlags::READ, 'r'),
        (LeafFlags::WRITE, 'w'),
        (LeafFlags::EXEC, 'x'),
        (LeafFlags::USER, 'u'),
        (LeafFlags::GLOBAL, 'g'),
        (LeafFlags::ACCESSED, 'a'),
        (LeafFlags::DIRTY, 'd'),
    ];
    letters.iter().map(|(flag, letter)| if flags.contains(*flag) { *letter } else { '-' }).collect()
}

/// What becomes of a TLB's lookup, in a line.
fn tlb_line(look: &TlbLook) -> String {
    let TlbLook { place, page_shift, shape: (sets, ways), index, tag, held } = look;
    format!(
        "{place} TLB, {sets} x {ways}, pages of {}: TLBI {index:#x}, TLBT {tag:#x}; the set has {}: {}",
        amount(*page_shift),
        set(held),
        hit(look.is_hit())
    )
}

/// Which cache is asked, and what for, in a line.
pub(crate) fn cache_line(look: &CacheLook) -> String {
    let (sets, ways, line) = look.shape;
    format!(
        "{} cache, {sets} x {ways}, lines of {}: CO {:#x}, CI {:#x}, CT {:#x}; the set has {}: {}",
        look.place,
        amount(line),
        look.offset,
        look.index,
        look.tag,
        set(&look.held),
        hit(look.is_hit())
    )
}

/// What TLBs and tables do with one access, a line each; a star before the entries that a walk reads.
pub(crate) fn lines(moment: &Moment) -> Vec<String> {
    let said = &moment.said;
    let mut lines: Vec<String> = said.tlb.iter().map(tlb_line).collect();
    lines.push(match said.walk_from {
        _ if said.tlb.is_empty() => {
            "no hardware is modelled (kilburn run --timing would); the tables say:".to_owned()
        }
        _ if !said.needs_walk => "no walk is needed; the tables say:".to_owned(),
        _ if said.is_tlb_hit() => {
            let kind = kind(moment.access);
            format!("what the TLB has does not permit a {kind}: a walk looks at the tables again:")
        }
        None => "a walk reads, from the root on:".to_owned(),
        Some(level) => {
            format!("a walk cache knows the table of level {level}; a walk reads from there on:")
        }
    });
    for step in &said.steps {
        let starts = said.walk_from.is_none_or(|level| step.level <= level);
        let is_read = said.needs_walk && !said.tlb.is_empty() && starts;
        lines.push(format!(
            "{} level {}: index {}, PTE at {:#x}: {:#018x}: {}",
            if is_read { "*" } else { " " },
            step.level,
            hex(step.index as u64, 9),
            step.entry_at.get(),
            step.raw,
            entry_text(step)
        ));
    }
    lines
}

/// Every step of one access.
pub(crate) fn steps(out: &mut impl Write, moment: &Moment) -> io::Result<()> {
    let (vpn, vpo) = page_of(moment);
    let said = &moment.said;
    writeln!(out, "{}", who(moment))?;
    writeln!(out, "  VPN               {}", hex(vpn, va_bits(moment) - PAGE_SHIFT))?;
    writeln!(out, "  VPO               {}", hex(vpo, PAGE_SHIFT))?;
    lines(moment).iter().try_for_each(|line| writeln!(out, "  {line}"))?;
    let (at, page_shift) = match said.physical {
        Ok(physical) => physical,
        Err(fault) => return writeln!(out, "  page fault        {}\n", fault_name(fault)),
    };
    writeln!(out, "  page              {}", amount(page_shift))?;
    writeln!(out, "  PPN               {:#x}", at.get() >> PAGE_SHIFT)?;
    writeln!(out, "  physical address  {:#x}", at.get())?;
    said.caches.iter().try_for_each(|look| writeln!(out, "  {}", cache_line(look)))?;
    writeln!(out)
}

/// Every field.
pub(crate) fn as_json(moment: &Moment) -> Value {
    let (vpn, vpo) = page_of(moment);
    let said = &moment.said;
    let tlb: Vec<Value> = said
        .tlb
        .iter()
        .map(|look| {
            json!({
                "place": look.place,
                "page_bytes": 1_u64 << look.page_shift,
                "sets": look.shape.0,
                "ways": look.shape.1,
                "tlbi": look.index,
                "tlbt": look.tag,
                "held": look.held,
                "is_hit": look.is_hit(),
            })
        })
        .collect();
    let walk = walk_as_json(&said.steps);
    let caches: Vec<Value> = said
        .caches
        .iter()
        .map(|look| {
            json!({
                "place": look.place,
                "co": look.offset,
                "ci": look.index,
                "ct": look.tag,
                "held": look.held,
                "is_hit": look.is_hit(),
            })
        })
        .collect();
    let physical = said.physical.ok();
    json!({
        "hart": moment.hart,
        "space": moment.space,
        "pid": moment.pid,
        "va": moment.va.get(),
        "vpn": vpn,
        "vpo": vpo,
        "tlb": tlb,
        "needs_walk": (!said.tlb.is_empty()).then_some(said.needs_walk),
        "walk_from_level": said.walk_from,
        "walk": walk,
        "fault": said.physical.err().map(fault_name),
        "ppn": physical.map(|(at, _)| at.get() >> PAGE_SHIFT),
        "pa": physical.map(|(at, _)| at.get()),
        "page_bytes": physical.map(|(_, shift)| 1_u64 << shift),
        "caches": caches,
    })
}
