//! What threads share that work in one address space at addresses of their own: locks, cache lines, and what follows for more
//! processors than this machine has.
//!
//! - Here: operations on a host whose locks write down who takes them, done in turns as two CPUs, and by two threads at once.
//! - [`lines`]: cache lines that both write, from a trace of every store (valgrind's lackey).
//! - [`simulate`]: the recorded locks and lines, taken by 1 to 64 CPUs.

pub mod lines;
pub mod simulate;

use crate::contest::{Effort, median};
use crate::machine::{BenchHost, READ, READ_WRITE, machine_with, map, run_on};
use crate::plot::Series;
use kilburn_addr::{Access, PAGE_SIZE, VirtAddr};
use kilburn_mm::config::Leasing;
use kilburn_mm::{Caller, Host, Mm};
use kilburn_model::locks::{LoggedMutex, LoggedRwLock, Mode, Waited, What, recorded};
use serde::Serialize;
use simulate::{Lock, Step, Trace};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::hint::black_box;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

type LoggedHost = BenchHost<LoggedMutex, LoggedRwLock>;

/// CPUs that work in turns.
const CPUS: usize = 2;
/// Pages a thread's area for faults has.
const AREA: u64 = 2048;

/// One operation, in parts: only the second is looked at.
#[derive(Clone, Copy)]
pub struct Operation {
    /// What is done.
    pub name: &'static str,
    prepare: Part,
    act: Part,
    undo: Part,
}

#[derive(Clone, Copy)]
enum Part {
    Nothing,
    Map,
    Touch,
    Unmap,
    Protect(u64),
    Cycle,
    /// A page further on each turn, in an area that is there.
    Fault,
}

/// All of them.
pub const OPERATIONS: [Operation; 5] = [
    Operation { name: "fault", prepare: Part::Nothing, act: Part::Fault, undo: Part::Nothing },
    Operation { name: "mmap", prepare: Part::Nothing, act: Part::Map, undo: Part::Unmap },
    Operation { name: "munmap", prepare: Part::Map, act: Part::Unmap, undo: Part::Nothing },
    Operation {
        name: "mprotect",
        prepare: Part::Nothing,
        act: Part::Protect(READ),
        undo: Part::Protect(READ_WRITE),
    },
    Operation {
        name: "mmap + touch + munmap",
        prepare: Part::Nothing,
        act: Part::Cycle,
        undo: Part::Nothing,
    },
];

/// Addresses of one thread: a page that stays in the middle of a region, an area for faults, a place for what comes and goes.
#[derive(Clone, Copy)]
struct Arena(u64);

impl Arena {
    fn of(cpu: usize) -> Self {
        Self(0x10_0000_0000 + ((cpu as u64) << 30) + (32 << 20))
    }

    fn place(self) -> u64 {
        self.0 + 16 * PAGE_SIZE
    }

    fn faults(self) -> u64 {
        self.0 + (2 << 20)
    }

    fn make<H: Host>(self, mm: &Mm<H>) {
        for (at, pages) in [(self.0, 1), (self.0 + 4 * PAGE_SIZE, 1), (self.faults(), AREA)] {
            map(mm, at, pages, READ_WRITE);
            touch(mm, at);
        }
    }

    fn perform<H: Host>(self, mm: &Mm<H>, part: Part, turn: u64) {
        match part {
            Part::Nothing => {}
            Part::Map => drop(black_box(map(mm, self.place(), 1, READ_WRITE))),
            Part::Touch => touch(mm, self.place()),
            Part::Unmap => {
                mm.munmap(VirtAddr::new(self.place()), PAGE_SIZE).expect("mapped");
            }
            Part::Protect(prot) => {
                let at = VirtAddr::new(self.0 + 4 * PAGE_SIZE);
                mm.mprotect(&Caller::ROOT, at, PAGE_SIZE, prot).expect("mapped");
            }
            Part::Cycle => {
                [Part::Map, Part::Touch, Part::Unmap]
                    .into_iter()
                    .for_each(|part| self.perform(mm, part, turn));
            }
            Part::Fault => touch(mm, self.faults() + (1 + turn % (AREA - 1)) * PAGE_SIZE),
        }
    }
}

fn touch<H: Host>(mm: &Mm<H>, at: u64) {
    mm.handle_fault(&Caller::ROOT, VirtAddr::new(at), Access::Write).expect("memory");
}

/// What threads share in one operation.
#[derive(Serialize, Debug)]
pub struct Sharing {
    /// The operation.
    pub name: &'static str,
    /// Nanoseconds it takes one CPU, the taking of times left out.
    pub alone_ns: f64,
    /// Locks taken an operation.
    pub locks: f64,
    /// Of these, taken by both CPUs at some time, though their addresses are apart.
    pub shared_locks: f64,
    /// Nanoseconds an operation holds locks that both take.
    pub shared_held_ns: f64,
    /// Where the locks are taken that both take, and how often an operation.
    pub shared_where: BTreeMap<String, f64>,
    /// Times a lock was found taken, an operation of two threads at once.
    pub contended: f64,
    /// Cache lines an operation writes that both CPUs write at some time; none where valgrind is not installed.
    pub shared_lines: Option<f64>,
    /// Work of so many CPUs by the work of one, simulated.
    pub speed_up: Vec<(usize, f64)>,
    /// What keeps it from being more.
    pub bound: String,
}

/// All that is known of sharing.
#[derive(Serialize, Debug)]
pub struct Sharings {
    /// Nanoseconds until a cache line that another CPU wrote can be written.
    pub hand_over_ns: f64,
    /// By operation.
    pub operations: Vec<Sharing>,
    /// What could not be measured.
    pub notes: Vec<String>,
}

/// What two CPUs did to locks.
struct Recording {
    traces: [Trace; CPUS],
    locks: f64,
    shared: Vec<(usize, Mode, String)>,
    alone_ns: f64,
    held_ns: f64,
    /// Of both.
    turns: u64,
}

/// Nanoseconds that writing an event down takes.
fn cost_of_an_event() -> f64 {
    let lock: lock_api::Mutex<LoggedMutex, u64> = lock_api::Mutex::new(0);
    let pairs = |count: u64| recorded(|| (0..count).for_each(|_| *lock.lock() += 1)).1 as f64;
    pairs(1000);
    let logged = pairs(10_000) / 20_000.0;
    let start = Instant::now();
    let plain: lock_api::Mutex<parking_lot::RawMutex, u64> = lock_api::Mutex::new(0);
    (0..10_000).for_each(|_| *black_box(&plain).lock() += 1);
    (logged - start.elapsed().as_nanos() as f64 / 20_000.0).max(0.0)
}

/// What each turn did, and how long it took.
type Log = Vec<(Vec<kilburn_model::locks::Event>, u64)>;

/// Turns of one CPU until the other has its own.
const BLOCK: u64 = 64;

/// Both CPUs' turns at an operation, one after the other: nobody waits, and the same locks are taken each time.
fn record(operation: &Operation, turns: u64) -> Recording {
    let (_memory, mm) = machine_with::<LoggedHost>(128, Leasing::Always);
    let cost = cost_of_an_event();
    (0..CPUS).for_each(|cpu| Arena::of(cpu).make(&mm));
    let mut logs: [Log; CPUS] = Default::default();
    // Threads of their own, as what they allocate is their own then; turns in blocks, as caches are theirs then.
    let block = |cpu: usize, first: u64, log: &mut Log| {
        let arena = Arena::of(cpu);
        run_on(cpu);
        for turn in first..first + BLOCK {
            arena.perform(&mm, operation.prepare, turn);
            let done = recorded(|| arena.perform(&mm, operation.act, turn));
            arena.perform(&mm, operation.undo, turn);
            // The first block and the first turn after another's are to warm up.
            if first > 0 && turn > first {
                log.push(done);
            }
        }
    };
    let (start, block) = (Barrier::new(CPUS), &block);
    std::thread::scope(|scope| {
        for (cpu, log) in logs.iter_mut().enumerate() {
            let start = &start;
            scope.spawn(move || {
                for first in (0..BLOCK + turns).step_by(BLOCK as usize) {
                    for whose in 0..CPUS {
                        if whose == cpu {
                            block(cpu, first, log);
                        }
                        start.wait();
                    }
                }
            });
        }
    });
    let taken = |log: &Log| -> BTreeSet<usize> {
        log.iter().flat_map(|(events, _)| events).map(|event| event.lock).collect()
    };
    let both: Vec<usize> = taken(&logs[0]).intersection(&taken(&logs[1])).copied().collect();
    let mut recording = Recording {
        traces: Default::default(),
        locks: 0.0,
        shared: Vec::new(),
        alone_ns: 0.0,
        held_ns: 0.0,
        turns: 0,
    };
    for (cpu, log) in logs.iter().enumerate() {
        let usual = median(log.iter().map(|(_, took)| *took as f64));
        // What takes a hundred times as long was interrupted.
        for (events, took) in log.iter().filter(|(_, took)| (*took as f64) < 100.0 * usual) {
            recording.turns += 1;
            recording.add_turn(cpu, events, *took as f64, &both, cost);
        }
    }
    recording
}

impl Recording {
    /// One operation becomes steps of work between locks that both take; others are part of the work.
    fn add_turn(
        &mut self,
        cpu: usize,
        events: &[kilburn_model::locks::Event],
        took: f64,
        both: &[usize],
        cost: f64,
    ) {
        let (mut last, mut since) = (0.0, BTreeMap::new());
        let steps = &mut self.traces[cpu].steps;
        for (number, event) in events.iter().enumerate() {
            let now = (event.at_ns as f64 - number as f64 * cost).max(last);
            let shared = both.binary_search(&event.lock).ok();
            match event.what {
                What::Taken(mode, _) => {
                    self.locks += 1.0;
                    if let Some(lock) = shared {
                        self.shared.push((lock, mode, file_name(event.file)));
                        since.insert(lock, now);
                        steps.push(Step::Work(now - last));
                        steps.push(Step::Take(Lock(lock), mode));
                        last = now;
                    }
                }
                What::Released => {
                    if let Some(lock) = shared {
                        self.held_ns += since.remove(&lock).map_or(0.0, |since| now - since);
                        steps.push(Step::Work(now - last));
                        steps.push(Step::Release(Lock(lock)));
                        last = now;
                    }
                }
            }
        }
        let end = (took - events.len() as f64 * cost).max(last);
        steps.push(Step::Work(end - last));
        steps.push(Step::Done);
        self.alone_ns += end;
    }
}

fn file_name(path: &str) -> String {
    path.rsplit_once("src/").map_or(path, |(_, file)| file).to_owned()
}

/// Times two threads at once find a lock taken, an operation.
fn contended(operation: &Operation, turns: u64) -> f64 {
    let (_memory, mm) = machine_with::<LoggedHost>(128, Leasing::OnContention);
    (0..CPUS).for_each(|cpu| Arena::of(cpu).make(&mm));
    let start = Barrier::new(CPUS);
    let thread = |cpu: usize| {
        run_on(cpu);
        let arena = Arena::of(cpu);
        start.wait();
        let waited = |turn| {
            arena.perform(&mm, operation.prepare, turn);
            let (events, _) = recorded(|| arena.perform(&mm, operation.act, turn));
            arena.perform(&mm, operation.undo, turn);
            let waited = |event: &&_| matches!(event, What::Taken(_, Waited::Yes));
            events.iter().map(|event| event.what).filter(|what| waited(&what)).count()
        };
        (0..turns).map(waited).sum::<usize>()
    };
    let thread = &thread;
    let waits: usize = std::thread::scope(|scope| {
        let running: Vec<_> = (0..CPUS).map(|cpu| scope.spawn(move || thread(cpu))).collect();
        running.into_iter().map(|thread| thread.join().expect("no panic")).sum()
    });
    waits as f64 / (CPUS as u64 * turns) as f64
}

/// Nanoseconds within one processor, where they cannot be measured: 50 to 100.
const USUAL_HAND_OVER: f64 = 75.0;

/// Nanoseconds from a store of one CPU until another's, which waits for it, has written the line in turn.
fn hand_over() -> f64 {
    const TIMES: u64 = 20_000;
    let turn = |parity: u64, line: &AtomicU64, stop: &AtomicBool| {
        let start = Instant::now();
        for number in (parity..TIMES).step_by(2) {
            while line.load(Ordering::Acquire) != number && !stop.load(Ordering::Relaxed) {
                if start.elapsed().as_secs() > 5 {
                    stop.store(true, Ordering::Relaxed);
                }
                std::hint::spin_loop();
            }
            line.store(number + 1, Ordering::Release);
        }
        start.elapsed().as_nanos() as f64 / TIMES as f64
    };
    let turn = &turn;
    let once = || {
        let (line, stop) = (AtomicU64::new(0), AtomicBool::new(false));
        let (line, stop) = (&line, &stop);
        let took = std::thread::scope(|scope| {
            let other = scope.spawn(move || turn(1, line, stop));
            turn(0, line, stop).max(other.join().expect("no panic"))
        });
        if stop.load(Ordering::Relaxed) { f64::INFINITY } else { took }
    };
    // The least: other programs take the CPU away now and then.
    let least = (0..5).map(|_| once()).fold(f64::INFINITY, f64::min);
    if least.is_finite() { least } else { USUAL_HAND_OVER }
}

/// Measures all of it.
pub fn measure(effort: &Effort, mut progress: impl FnMut(&str)) -> Sharings {
    let turns = if effort.is_quick { 256 } else { 1024 };
    let mut notes = Vec::new();
    let several = std::thread::available_parallelism().map_or(1, usize::from) > 1;
    let hand_over_ns = if several { hand_over() } else { USUAL_HAND_OVER };
    if !several {
        notes.push("one processor: a line's hand-over is assumed to take 75 ns".to_owned());
    }
    let mut operations = Vec::new();
    for operation in &OPERATIONS {
        progress(operation.name);
        let lines = lines::shared(operation, effort);
        if let Err(why) = &lines
            && !notes.contains(why)
        {
            notes.push(why.clone());
        }
        operations.push(sharing(operation, turns, lines.ok(), hand_over_ns));
    }
    Sharings { hand_over_ns, operations, notes }
}

fn sharing(operation: &Operation, turns: u64, lines: Option<f64>, hand_over_ns: f64) -> Sharing {
    let recording = record(operation, turns);
    let all = recording.turns as f64;
    let mut shared_where = BTreeMap::new();
    for (_, mode, file) in &recording.shared {
        let how = if *mode == Mode::Shared { "shared" } else { "exclusive" };
        *shared_where.entry(format!("{file}, {how}")).or_insert(0.0) += 1.0 / all;
    }
    let shared_locks = recording.shared.len() as f64 / all;
    // A lock that both take is a line that both write: what is left is written besides.
    let besides = lines.map_or(0.0, |lines| (lines - shared_locks).max(0.0));
    let simulated = simulate::speed_up(&recording.traces, besides, hand_over_ns);
    Sharing {
        name: operation.name,
        alone_ns: recording.alone_ns / all,
        locks: recording.locks / all,
        shared_locks,
        shared_held_ns: recording.held_ns / all,
        shared_where,
        contended: contended(operation, turns),
        shared_lines: lines,
        bound: bound(&recording, &simulated, besides),
        speed_up: simulated.speed_up,
    }
}

/// What most of the waiting is for, if there is any.
fn bound(recording: &Recording, simulated: &simulate::Simulated, besides: f64) -> String {
    let waiting = simulated.waited_share;
    if waiting < 0.05 {
        return format!("nothing: {:.0} % of 64 CPUs' time is spent waiting", waiting * 100.0);
    }
    let name = match simulated.most_waited {
        Some(Lock(lock)) => recording
            .shared
            .iter()
            .find(|taken| taken.0 == lock)
            .map_or("a lock".to_owned(), |taken| format!("the lock of {}", taken.2)),
        None => format!("{besides:.2} lines written besides locks"),
    };
    format!("{name}: {:.0} % of 64 CPUs' time is spent waiting", waiting * 100.0)
}

impl Sharings {
    /// As tables.
    pub fn to_markdown(&self) -> String {
        let mut out = format!(
            "A cache line goes from CPU to CPU in {:.0} ns.\n\n\
             | operation, at addresses of one's own | ns alone | locks taken | of these by both CPUs | held, ns | found taken by two threads | lines both write |\n\
             |---|---|---|---|---|---|---|\n",
            self.hand_over_ns
        );
        for one in &self.operations {
            let lines = one.shared_lines.map_or("?".to_owned(), |lines| format!("{lines:.3}"));
            let _ = writeln!(
                out,
                "| {} | {:.0} | {:.2} | {:.3} | {:.1} | {:.4} | {lines} |",
                one.name,
                one.alone_ns,
                one.locks,
                one.shared_locks,
                one.shared_held_ns,
                one.contended
            );
        }
        out += "\n| simulated, times the work of one CPU |";
        simulate::CORES.iter().for_each(|cores| out += &format!(" {cores} |"));
        out += " what bounds it |\n|---|";
        simulate::CORES.iter().for_each(|_| out += "---|");
        out += "---|\n";
        for one in &self.operations {
            out += &format!("| {} |", one.name);
            one.speed_up.iter().for_each(|(_, times)| out += &format!(" {times:.1} |"));
            let _ = writeln!(out, " {} |", one.bound);
        }
        self.notes.iter().for_each(|note| out += &format!("\n({note})\n"));
        out
    }

    /// As a picture.
    pub fn to_svg(&self) -> String {
        let points = |one: &Sharing| one.speed_up.iter().map(|(n, s)| (*n as f64, *s)).collect();
        let series = |one: &Sharing| Series { name: one.name.to_owned(), points: points(one) };
        let series: Vec<Series> = self.operations.iter().map(series).collect();
        let title = "Work of N CPUs by that of one, at addresses of their own (simulated)";
        crate::plot::lines(title, "CPUs", "times", &series)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_at_addresses_of_their_own_take_hardly_any_lock_in_common() {
        for operation in &OPERATIONS {
            let one = sharing(operation, 128, Some(0.0), 75.0);
            // A batch of frames now and then, not one lock an operation.
            assert!(one.locks >= 1.0 && one.shared_locks < 0.2, "{one:?}");
            assert_eq!(one.speed_up.first(), Some(&(1, 1.0)), "{one:?}");
            assert!(one.speed_up.iter().all(|(_, times)| *times > 0.0), "{one:?}");
        }
    }
}
