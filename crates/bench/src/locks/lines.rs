//! Cache lines that two CPUs write, though the addresses they map are apart.
//!
//! A process of its own does an operation on two threads in turns, under valgrind's lackey, which writes down every load and
//! store. A store to a mark begins and ends what belongs to a CPU; the process prints where the marks are.

use super::{Arena, OPERATIONS, Operation};
use crate::contest::Effort;
use crate::machine::{BenchHost, machine_with, run_on};
use kilburn_addr::Access;
use kilburn_mm::config::Leasing;
use kilburn_trace::{Event, open};
use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Duration;

/// Turns that are looked at, and those before, after which as many frames are taken from the buddy at a time as ever.
const TURNS: u64 = 512;
const WARM_UP: u64 = 224;
const LINE_SHIFT: u32 = 6;
/// Until the thread that handed the turn over waits for the next: what it writes till then is none of the operation's.
const SETTLE: Duration = Duration::from_millis(2);

/// On lines of their own.
#[repr(align(128))]
struct Mark(AtomicU64);

/// Where CPU 0 begins, CPU 1 begins, and either ends.
static MARKS: [Mark; 3] = [const { Mark(AtomicU64::new(0)) }; 3];

/// Does the operation called `name` on two threads in turns, having said where the marks are.
///
/// # Errors
/// When there is none of this name.
pub fn perform(name: &str) -> Result<(), String> {
    let operation = OPERATIONS.iter().find(|one| one.name == name);
    let operation = operation.ok_or_else(|| format!("there is no `{name}`"))?;
    let address = |mark: &Mark| std::ptr::from_ref(&mark.0).addr();
    println!("{:x} {:x} {:x}", address(&MARKS[0]), address(&MARKS[1]), address(&MARKS[2]));
    let (_memory, mm) = machine_with::<BenchHost>(128, Leasing::Always);
    (0..2).for_each(|cpu| Arena::of(cpu).make(&mm));
    let thread = |cpu: usize, turns: mpsc::Receiver<u64>, next: mpsc::Sender<u64>| {
        run_on(cpu);
        let arena = Arena::of(cpu);
        for turn in turns {
            arena.perform(&mm, operation.prepare, turn);
            if turn >= WARM_UP {
                std::thread::sleep(SETTLE);
                MARKS[cpu].0.store(turn, Ordering::SeqCst);
            }
            arena.perform(&mm, operation.act, turn);
            MARKS[2].0.store(turn, Ordering::SeqCst);
            arena.perform(&mm, operation.undo, turn);
            let turn = turn + cpu as u64;
            if turn == WARM_UP + TURNS || next.send(turn).is_err() {
                return;
            }
        }
    };
    let (to_first, first) = mpsc::channel();
    let (to_second, second) = mpsc::channel();
    to_first.send(0).map_err(|error| error.to_string())?;
    let thread = &thread;
    std::thread::scope(|scope| {
        scope.spawn(move || thread(1, second, to_first));
        scope.spawn(move || thread(0, first, to_second));
    });
    Ok(())
}

/// Lines an operation writes that both CPUs write.
///
/// # Errors
/// Why that cannot be said.
pub(super) fn shared(operation: &Operation, effort: &Effort) -> Result<f64, String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let path = folder.path().join("trace");
    let output = Command::new("valgrind")
        .args(["--tool=lackey", "--trace-mem=yes", "--fair-sched=yes"])
        .arg(format!("--log-file={}", path.display()))
        .arg(&effort.kilburn)
        .args(["bench", "--lines", operation.name])
        .stderr(Stdio::null())
        .output()
        .map_err(|_| "valgrind is not installed (apt install valgrind): no lines".to_owned())?;
    if !output.status.success() {
        return Err(format!("valgrind: {}: no lines", output.status));
    }
    let marks: Vec<u64> = String::from_utf8_lossy(&output.stdout)
        .split_whitespace()
        .filter_map(|word| u64::from_str_radix(word, 16).ok())
        .collect();
    let file = std::fs::File::open(path).map_err(|error| error.to_string())?;
    let mut source =
        open::open("lackey", Box::new(file), None).map_err(|error| error.to_string())?;
    let mut lines = Lines::default();
    while let Some(event) = source.next_event().map_err(|error| error.to_string())? {
        if let Event::Access { access: Access::Write, va, .. } = event {
            lines.store(va.get(), &marks);
        }
    }
    lines.a_turn().ok_or_else(|| "no marks in the trace: no lines".to_owned())
}

/// Who wrote which lines.
#[derive(Default)]
struct Lines {
    now: Option<usize>,
    turns: u64,
    /// By line: the turn in which each CPU last wrote it, and in how many turns it was written.
    written: BTreeMap<u64, ([u64; 2], u64)>,
}

impl Lines {
    fn store(&mut self, at: u64, marks: &[u64]) {
        if let Some(mark) = marks.iter().position(|mark| *mark == at) {
            self.now = (mark < 2).then_some(mark);
            self.turns += u64::from(mark < 2);
        } else if let Some(cpu) = self.now {
            let (last, turns) = self.written.entry(at >> LINE_SHIFT).or_default();
            if last[cpu] != self.turns {
                last[cpu] = self.turns;
                *turns += 1;
            }
        }
    }

    /// Lines written a turn that both CPUs wrote at some time.
    fn a_turn(&self) -> Option<f64> {
        let both = self.written.values().filter(|(last, _)| last.iter().all(|turn| *turn > 0));
        let turns: u64 = both.map(|(_, turns)| turns).sum();
        (self.turns > 0).then(|| turns as f64 / self.turns as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lines_that_both_write_count_once_a_turn() {
        let marks = [0x1000, 0x1080, 0x1100];
        let mut lines = Lines::default();
        // Before the first mark; CPU 0 twice; CPU 1; after the end; each one's own.
        for at in [0x40, 0x1000, 0x40, 0x48, 0x80, 0x1100, 0x80, 0x1080, 0x7f, 0xc0, 0x1100] {
            lines.store(at, &marks);
        }
        assert_eq!(lines.a_turn(), Some(1.0), "line 0x40, in both turns");
        assert_eq!(Lines::default().a_turn(), None);
    }

    #[test]
    fn an_operation_that_is_not_there_is_refused() {
        assert!(perform("no such").is_err());
    }
}
