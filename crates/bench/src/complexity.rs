//! How operations grow: with the areas of an address space, with pages, with processes.
//!
//! Each [`Growth`] is a picture: nanoseconds an operation (or a page) against the number of things. What does not depend on the
//! number is a level line; what is proportional to it would rise by a decade a decade.

use crate::contest::{Effort, median, timed};
use crate::machine::{READ, READ_WRITE, machine, map, scattered};
use crate::plot::Series;
use kilburn_addr::{Access, PAGE_SIZE, VirtAddr};
use kilburn_mm::{Caller, MmapRequest};
use kilburn_trace::managed::Managed;
use serde::Serialize;
use std::hint::black_box;
use std::time::Duration;

/// Times of operations against the number of something.
#[derive(Serialize, Debug)]
pub struct Growth {
    /// A name for a file.
    pub name: &'static str,
    /// What there is more and more of.
    pub of: &'static str,
    /// The operations.
    pub operations: Vec<Operation>,
}

/// One operation.
#[derive(Serialize, Debug)]
pub struct Operation {
    /// What is done.
    pub name: &'static str,
    /// How many things there were, and nanoseconds.
    pub points: Vec<(u64, f64)>,
}

impl Operation {
    /// How steep the line is between its first and its last point, in decades a decade: 0 is constant, 1 linear.
    pub fn slope(&self) -> f64 {
        match (self.points.first(), self.points.last()) {
            (Some(first), Some(last)) if last.0 > first.0 => {
                (last.1 / first.1).log10() / (last.0 as f64 / first.0 as f64).log10()
            }
            _ => 0.0,
        }
    }
}

impl Growth {
    /// As a picture.
    pub fn to_svg(&self) -> String {
        let series = |one: &Operation| Series {
            name: format!("{} (slope {:.2})", one.name, one.slope()),
            points: one.points.iter().map(|point| (point.0 as f64, point.1)).collect(),
        };
        let series: Vec<Series> = self.operations.iter().map(series).collect();
        crate::plot::lines(&format!("Nanoseconds against {}", self.of), self.of, "ns", &series)
    }

    /// As a table.
    pub fn to_markdown(&self) -> String {
        let counts: Vec<u64> = self
            .operations
            .first()
            .map_or(Vec::new(), |one| one.points.iter().map(|point| point.0).collect());
        let mut out = format!("| ns against {} |", self.of);
        counts.iter().for_each(|count| out += &format!(" {count} |"));
        out += " slope |\n|---|";
        counts.iter().for_each(|_| out += "---|");
        out += "---|\n";
        for one in &self.operations {
            out += &format!("| {} |", one.name);
            for count in &counts {
                match one.points.iter().find(|point| point.0 == *count) {
                    Some(point) => out += &format!(" {:.0} |", point.1),
                    None => out += " |",
                }
            }
            out += &format!(" {:.2} |\n", one.slope());
        }
        out
    }
}

/// Powers of ten from 10^`first` to 10^`last`; the largest is left out of a quick run.
fn decades(first: u32, last: u32, effort: &Effort) -> impl Iterator<Item = u64> {
    let last = if effort.is_quick { last - 1 } else { last };
    (first..=last).map(|power| 10_u64.pow(power))
}

/// All of them. `progress` hears what is measured now.
///
/// # Panics
/// When this machine has too little memory.
pub fn measure(effort: &Effort, mut progress: impl FnMut(&str)) -> Vec<Growth> {
    progress("areas");
    let areas = areas(effort);
    progress("pages");
    let pages = pages(effort);
    progress("processes");
    vec![areas, pages, processes(effort)]
}

fn operations(names: &[&'static str], rows: Vec<(u64, Vec<f64>)>) -> Vec<Operation> {
    let operation = |(number, name): (usize, &&'static str)| Operation {
        name,
        points: rows.iter().map(|(count, values)| (*count, values[number])).collect(),
    };
    names.iter().enumerate().map(operation).collect()
}

/// Nanoseconds of `once`, the middle of as many portions as there are turns.
fn each(effort: &Effort, mut once: impl FnMut(u64)) -> f64 {
    const PORTION: u64 = 2_000;
    median((0..effort.turns() as u64).map(|round| {
        let took = timed(|| (round * PORTION..(round + 1) * PORTION).for_each(&mut once));
        took.as_nanos() as f64 / PORTION as f64
    }))
}

fn areas(effort: &Effort) -> Growth {
    const LEN: u64 = 3 * PAGE_SIZE;
    let row = |count: u64| {
        let (_, mm) = machine(64);
        let prot = |number: u64| if number.is_multiple_of(2) { READ } else { READ_WRITE };
        let starts: Vec<u64> =
            (0..count).map(|number| map(&mm, 0, 3, prot(number)).get()).collect();
        let number = |time: u64| scattered(time, count);
        let at = |time: u64| VirtAddr::new(starts[number(time) as usize]);
        let mapped = each(effort, |_| {
            let at = black_box(map(&mm, 0, 1, READ_WRITE));
            mm.munmap(at, PAGE_SIZE).expect("mapped");
        });
        let fault = each(effort, |time| {
            // The page is there after the first time: what is left is finding the area and the entry.
            mm.handle_fault(&Caller::ROOT, at(time % 1000), Access::Read).expect("mapped");
        });
        let protect = each(effort, |time| {
            let prot = prot(number(time / 2)) | if time.is_multiple_of(2) { 4 } else { 0 };
            mm.mprotect(&Caller::ROOT, at(time / 2), LEN, prot).expect("mapped");
        });
        let again = each(effort, |time| {
            mm.munmap(at(time), LEN).expect("mapped");
            map(&mm, at(time).get(), 3, prot(number(time)));
        });
        (count, vec![mapped, fault, protect, again])
    };
    let names = [
        "mmap + munmap of a page",
        "fault on a page that is there",
        "mprotect of an area",
        "munmap of an area, mmap there",
    ];
    let rows = decades(2, 6, effort).map(row).collect();
    Growth { name: "areas", of: "areas", operations: operations(&names, rows) }
}

const START: u64 = 0x10_0000_0000;

fn private(pages: u64) -> MmapRequest<kilburn_trace::managed::TraceHost> {
    MmapRequest { addr: START, len: pages * PAGE_SIZE, prot: 3, flags: 0x32, file: None, offset: 0 }
}

fn per(count: u64, took: Duration) -> f64 {
    took.as_nanos() as f64 / count as f64
}

/// Pages of an area, faulted in one by one by `access`, copied for a child, taken out: nanoseconds a page.
fn page_row(count: u64, access: Access) -> Option<(u64, Vec<f64>)> {
    // Read pages are all the same frame: only their tables take memory.
    let frames = if access == Access::Write { count + count / 32 } else { count / 128 };
    let mut managed = Managed::new((frames + 4096) * PAGE_SIZE, None).ok()?;
    let mm = std::sync::Arc::clone(managed.space(0).ok()?);
    let mut turns = vec![Vec::new(); 3];
    // At least a hundred thousand pages altogether.
    for _ in 0..(100_000 / count).clamp(1, 100) {
        mm.mmap(&Caller::ROOT, private(count)).expect("room");
        let fault = timed(|| {
            for page in 0..count {
                let at = VirtAddr::new(START + page * PAGE_SIZE);
                mm.handle_fault(&Caller::ROOT, at, access).expect("memory");
            }
        });
        let mut child = None;
        let fork = timed(|| child = Some(mm.fork(&Caller::ROOT).expect("memory")));
        drop(child);
        let unmap = timed(|| mm.munmap(VirtAddr::new(START), count * PAGE_SIZE).expect("mapped"));
        managed.take_flushes();
        for (turns, took) in turns.iter_mut().zip([fault, fork, unmap]) {
            turns.push(per(count, took));
        }
    }
    Some((count, turns.into_iter().map(|turns| median(turns.into_iter())).collect()))
}

fn pages(effort: &Effort) -> Growth {
    // A machine that cannot reserve the largest one shows the others.
    let rows = |last, access| {
        decades(3, last, effort).map_while(move |count| page_row(count, access)).collect::<Vec<_>>()
    };
    let (read, written) = (rows(7, Access::Read), rows(6, Access::Write));
    let of = |name, rows: &[(u64, Vec<f64>)], number: usize| Operation {
        name,
        points: rows.iter().map(|(count, values)| (*count, values[number])).collect(),
    };
    let operations = vec![
        of("read fault, the page of zeroes", &read, 0),
        of("munmap, a page of zeroes", &read, 2),
        of("write fault, no bytes zeroed", &written, 0),
        of("fork, a page", &written, 1),
        of("munmap, a page", &written, 2),
    ];
    Growth { name: "pages", of: "pages", operations }
}

fn processes(effort: &Effort) -> Growth {
    const PAGES: u64 = 64;
    const TIMES: u64 = 64;
    let row = |count: u64| {
        let mut managed = Managed::new(2 << 30, None).expect("memory");
        let parent = std::sync::Arc::clone(managed.space(0).expect("memory"));
        parent.mmap(&Caller::ROOT, private(PAGES)).expect("room");
        let at = |page: u64| VirtAddr::new(START + page % PAGES * PAGE_SIZE);
        let write = |mm: &kilburn_mm::Mm<_>, page| {
            mm.handle_fault(&Caller::ROOT, at(page), Access::Write).expect("memory");
        };
        (0..PAGES).for_each(|page| write(&parent, page));
        let others: Vec<_> =
            (1..count).map(|_| parent.fork(&Caller::ROOT).expect("memory")).collect();
        let (mut fork, mut exit, mut copy) = (Duration::ZERO, Duration::ZERO, Duration::ZERO);
        for time in 0..TIMES {
            let mut child = None;
            fork += timed(|| child = Some(parent.fork(&Caller::ROOT).expect("memory")));
            let child = child.expect("just made");
            copy += timed(|| write(&child, time));
            exit += timed(|| drop(child));
            managed.take_flushes();
        }
        drop(others);
        (count, [fork, exit, copy].map(|took| per(TIMES, took)).to_vec())
    };
    let names = ["fork of 64 pages", "exit of the child", "copy of a page that all share"];
    let rows = decades(0, 4, effort).map(row).collect();
    Growth {
        name: "processes",
        of: "processes that share their pages",
        operations: operations(&names, rows),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slopes_are_powers() {
        let of = |points: &[(u64, f64)]| Operation { name: "o", points: points.to_vec() }.slope();
        assert_eq!(of(&[(10, 5.0), (1000, 5.0)]), 0.0);
        assert_eq!(of(&[(10, 5.0), (1000, 500.0)]), 1.0);
        assert_eq!(of(&[(10, 5.0)]), 0.0);
    }
}
