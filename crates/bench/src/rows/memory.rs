//! What the memory manager itself takes: bytes of this machine's memory for frames, pages, areas, processes, sparse mappings.
//!
//! Told by how this process grows. The machine's RAM has no bytes here, as nobody writes to it but page tables: what
//! is counted is metadata and tables.

use crate::Work;
use crate::contest::{Effort, Measured, Unit};
use kilburn_addr::{Access, PAGE_SIZE, VirtAddr};
use kilburn_mm::policy::{Arrival, Builtin, FirstUse, PageId, PageKind, PolicyConfig};
use kilburn_mm::{Caller, MmapRequest};
use kilburn_trace::managed::Managed;
use std::process::Command;

/// Bytes of this process that are in memory, without those of files: code that runs for the first time does not count.
fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let mut fields = text.split(' ').map(|field| field.parse::<u64>().unwrap_or(0));
    let (all, shared) = (fields.nth(1).unwrap_or(0), fields.next().unwrap_or(0));
    all.saturating_sub(shared) * PAGE_SIZE
}

/// Growth during `work`, in bytes; what `work` answers lives until it is measured.
fn grown<T>(work: impl FnOnce() -> Result<T, String>) -> Result<(u64, T), String> {
    let before = resident();
    let made = work()?;
    Ok((resident().saturating_sub(before), made))
}

/// Growth during `work` by `count`.
fn growth<T>(count: u64, work: impl FnOnce() -> Result<T, String>) -> Result<f64, String> {
    let (bytes, _) = grown(work)?;
    Ok(bytes as f64 / count as f64)
}

/// Answers bytes for one thing.
type Measure = fn() -> Result<f64, String>;

const ROWS: [(&str, &str, Measure, Option<f64>); 6] = [
    ("frame", "metadata of a frame of RAM, all frames in use", frames, Some(32.0)),
    ("policy", "what a policy (two-list) adds to it once memory was short", policy, None),
    ("page", "a page mapped: its entry, its share of tables, its frame's metadata", pages, None),
    ("area", "an area, of 10^6 that do not merge", areas, None),
    ("process", "a process forked from a small one", processes, None),
    ("sparse", "1 TiB mapped, one page touched in each GiB", sparse, None),
];

pub(crate) fn work() -> Vec<Work> {
    let work = |(short, name, _, goal): (&'static str, &str, Measure, Option<f64>)| {
        Work::new("memory", name.to_owned(), Unit::Bytes, goal, move |effort: &Effort| {
            let turn = |_| in_new_process(effort, short);
            match (0..effort.long_rounds(3)).map(turn).collect::<Result<Vec<_>, _>>() {
                Ok(ours) => Measured { ours, ..Measured::default() },
                Err(why) => Measured::failed(why),
            }
        })
    };
    ROWS.into_iter().map(work).collect()
}

/// `kilburn bench --bytes NAME`: what others left in the heap is nowhere near.
fn in_new_process(effort: &Effort, name: &str) -> Result<f64, String> {
    let output = Command::new(&effort.kilburn)
        .args(["bench", "--bytes", name])
        .output()
        .map_err(|error| error.to_string())?;
    let told = String::from_utf8_lossy(&output.stdout);
    told.trim().parse().map_err(|_| String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Bytes that one of `name` (frame, policy, page, area, process, sparse) takes, in a process that has done nothing else.
///
/// # Errors
/// Why that cannot be told.
pub fn bytes_of(name: &str) -> Result<f64, String> {
    let row = ROWS.iter().find(|row| row.0 == name);
    let (_, _, measure, _) = row.ok_or_else(|| format!("there is no `{name}`"))?;
    measure()
}

fn request(addr: u64, len: u64, prot: u64) -> MmapRequest<kilburn_trace::managed::TraceHost> {
    MmapRequest { addr, len, prot, flags: 0x32, file: None, offset: 0 }
}

const START: u64 = 0x10_0000_0000;
const PAGES: u64 = 1 << 20;

/// A machine with an address space in which so many pages are mapped as one area.
fn machine(bytes: u64, pages: u64) -> Result<Managed, String> {
    let mut managed = Managed::new(bytes, None)?;
    let mm = managed.space(0).map_err(|errno| format!("{errno:?}"))?;
    if pages > 0 {
        mm.mmap(&Caller::ROOT, request(START, pages * PAGE_SIZE, 3))
            .map_err(|errno| format!("{errno:?}"))?;
    }
    Ok(managed)
}

fn touch(managed: &mut Managed, pages: u64) -> Result<(), String> {
    for page in 0..pages {
        let at = VirtAddr::new(START + page * PAGE_SIZE);
        managed.resolve(0, at, Access::Write).map_err(|why| format!("{why:?}"))?;
    }
    Ok(())
}

/// Bytes a frame by which the simulated RAM knows whether it was written to: no part of the memory manager.
const NOTED_BY_RAM: u64 = 1;

/// Bytes of a machine in which so many pages are mapped and hardly any frame is free: of all, of its tables; and its frames.
fn in_use(pages: u64) -> Result<(u64, u64, u64), String> {
    let frames = pages + pages / 128;
    let (bytes, managed) = grown(|| {
        let mut managed = machine(frames * PAGE_SIZE, pages)?;
        touch(&mut managed, pages)?;
        Ok(managed)
    })?;
    let tables = managed.memory().counts().page_tables * PAGE_SIZE;
    Ok((bytes.saturating_sub(frames * NOTED_BY_RAM), tables, frames))
}

/// What one frame more costs, tables taken out: they are in frames themselves.
fn frames() -> Result<f64, String> {
    let of = |(bytes, tables, frames): (u64, u64, u64)| (bytes.saturating_sub(tables), frames);
    // What is taken once, for whatever size, is taken by now.
    in_use(PAGES / 64)?;
    let (less, few) = of(in_use(PAGES / 2)?);
    let (more, many) = of(in_use(PAGES)?);
    // Memory grows by pages: hundredths of a byte are as exact as that is.
    let each = more.saturating_sub(less) as f64 / (many - few) as f64;
    Ok((each * 100.0).round() / 100.0)
}

fn policy() -> Result<f64, String> {
    let pages = PAGES as u32;
    growth(PAGES, || {
        let config = PolicyConfig { pages, capacity: pages, seed: 0 };
        let mut policy = Builtin::TwoList.for_reclaim(config);
        let arrival = Arrival::new(PageKind::Anon, FirstUse::Mapped);
        (0..pages).for_each(|page| policy.insert(PageId(page), arrival));
        Ok(policy)
    })
}

fn pages() -> Result<f64, String> {
    let (bytes, ..) = in_use(PAGES)?;
    Ok(bytes as f64 / PAGES as f64)
}

fn areas() -> Result<f64, String> {
    const AREAS: u64 = 1_000_000;
    let mut managed = machine(64 << 20, 0)?;
    growth(AREAS, move || {
        let mm = managed.space(0).map_err(|errno| format!("{errno:?}"))?;
        for number in 0..AREAS {
            let addr = START + number * PAGE_SIZE;
            let prot = 1 + number % 2 * 2;
            mm.mmap(&Caller::ROOT, request(addr, PAGE_SIZE, prot))
                .map_err(|errno| format!("{errno:?}"))?;
        }
        Ok(managed)
    })
}

fn processes() -> Result<f64, String> {
    const PROCESSES: u64 = 2_000;
    let mut managed = machine(256 << 20, 64)?;
    touch(&mut managed, 64)?;
    growth(PROCESSES, move || {
        for number in 1..=PROCESSES as u16 {
            managed.fork(0, number).map_err(|errno| format!("{errno:?}"))?;
        }
        Ok(managed)
    })
}

fn sparse() -> Result<f64, String> {
    growth(1, || {
        let mut managed = machine(64 << 20, (1 << 40) / PAGE_SIZE)?;
        for gib in 0..1 << 10 {
            let at = VirtAddr::new(START + (gib << 30));
            managed.resolve(0, at, Access::Write).map_err(|why| format!("{why:?}"))?;
        }
        Ok(managed)
    })
}
