//! What the memory manager itself takes: bytes of this machine's memory for frames, pages, areas, processes, sparse mappings.
//!
//! Told by how this process grows. The machine's RAM has no bytes here, as nobody writes to it but page tables: what
//! is counted is metadata and tables.

use crate::Work;
use crate::contest::{Effort, Measured, Unit};
use kilburn_addr::{Access, PAGE_SIZE, VirtAddr};
use kilburn_mm::{Caller, MmapRequest};
use kilburn_trace::managed::Managed;
use std::process::Command;

/// Bytes of this process that are in memory.
fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = text.split(' ').nth(1).and_then(|field| field.parse::<u64>().ok());
    pages.unwrap_or(0) * PAGE_SIZE
}

/// Growth during `work` by `count`; what `work` answers lives until it is measured.
fn growth<T>(count: u64, work: impl FnOnce() -> Result<T, String>) -> Result<f64, String> {
    let before = resident();
    let made = work()?;
    let grown = resident().saturating_sub(before);
    drop(made);
    Ok(grown as f64 / count as f64)
}

/// Answers bytes for one thing.
type Measure = fn() -> Result<f64, String>;

const ROWS: [(&str, &str, Measure, Option<f64>); 5] = [
    ("frame", "metadata of a frame of RAM, all frames in use", frames, Some(32.0)),
    ("page", "a page mapped: its entry, its share of tables, its frame's metadata", pages, None),
    ("area", "an area, of 10^6 that do not merge", areas, None),
    ("process", "a process forked from a small one", processes, None),
    ("sparse", "1 TiB mapped, one page touched in each GiB", sparse, None),
];

pub(crate) fn work() -> Vec<Work> {
    let work = |(short, name, _, goal): (&'static str, &str, Measure, Option<f64>)| {
        Work::new("memory", name.to_owned(), Unit::Bytes, goal, move |effort: &Effort| {
            let turn = |_| in_new_process(effort, short);
            match (0..effort.rounds.min(3)).map(turn).collect::<Result<Vec<_>, _>>() {
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

/// Bytes that one of `name` (frame, page, area, process, sparse) takes, in a process that has done nothing else.
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

/// Tables are taken out: they are 512 entries of 8 bytes for 512 pages.
fn frames() -> Result<f64, String> {
    let each = pages()?;
    Ok(each - 8.0 * (1.0 + 1.0 / 512.0))
}

fn pages() -> Result<f64, String> {
    growth(PAGES, || {
        let mut managed = machine((PAGES + PAGES / 128) * PAGE_SIZE, PAGES)?;
        touch(&mut managed, PAGES)?;
        Ok(managed)
    })
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
