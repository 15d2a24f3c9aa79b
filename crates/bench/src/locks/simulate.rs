//! CPUs that replay what was recorded of two: discrete events, the hand-over of cache lines included.
//!
//! Every CPU does the operations of one trace over and over, from another point on. Between steps it works; locks that only it
//! takes are part of that. A lock that several take is one cache line, which each who takes or releases it has to get first:
//!
//! ```text
//!   CPU 0   work ... take [==== held ====] release   work ...
//!   CPU 1   work ... get the line ->  waits          ^ get the line, take [==== held
//! ```

use kilburn_model::locks::Mode;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};

/// Numbers of CPUs that are simulated.
pub const CORES: [usize; 7] = [1, 2, 4, 8, 16, 32, 64];

/// A lock that several CPUs take.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Lock(pub usize);

/// What a CPU does next.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    /// It works for so many nanoseconds.
    Work(f64),
    /// It takes a lock.
    Take(Lock, Mode),
    /// It lets a lock go.
    Release(Lock),
    /// An operation is done.
    Done,
}

/// What one CPU does, over and over.
#[derive(Clone, Default, Debug)]
pub struct Trace {
    /// Its steps: whole operations.
    pub steps: Vec<Step>,
}

/// How operations scale.
pub struct Simulated {
    /// Work of so many CPUs by the work of one.
    pub speed_up: Vec<(usize, f64)>,
    /// Share of all CPUs' time that is spent waiting, with the most CPUs.
    pub waited_share: f64,
    /// What most of it is for: a lock, or the lines besides.
    pub most_waited: Option<Lock>,
}

/// A cache line: who wrote it last, until when it is on its way.
#[derive(Clone, Copy, Default)]
struct Line {
    owner: Option<usize>,
    free_at: f64,
}

impl Line {
    /// When `cpu`, which asks for it `now`, has it.
    fn get(&mut self, cpu: usize, now: f64, hand_over: f64) -> f64 {
        let moves = self.owner.is_some_and(|owner| owner != cpu);
        let at = if moves { now.max(self.free_at) + hand_over } else { now };
        self.owner = Some(cpu);
        self.free_at = at.max(self.free_at);
        at
    }
}

#[derive(Default)]
struct LockState {
    line: Line,
    readers: usize,
    writer: bool,
    queue: VecDeque<(usize, Mode)>,
}

impl LockState {
    fn admits(&self, mode: Mode) -> bool {
        !self.writer && (mode == Mode::Shared || self.readers == 0)
    }

    fn enter(&mut self, mode: Mode) {
        match mode {
            Mode::Shared => self.readers += 1,
            Mode::Exclusive => self.writer = true,
        }
    }

    fn leave(&mut self) {
        if self.writer {
            self.writer = false;
        } else {
            self.readers -= 1;
        }
    }
}

struct Cpu<'t> {
    steps: &'t [Step],
    at: usize,
    done: u64,
    waited: f64,
    since: f64,
}

/// A time that sorts: nanoseconds in 1/1024ths.
fn key(time: f64) -> u64 {
    (time * 1024.0) as u64
}

struct Machine<'t> {
    cpus: Vec<Cpu<'t>>,
    locks: BTreeMap<Lock, LockState>,
    /// The lines written besides locks, as one; how many an operation writes.
    besides: Line,
    lines: f64,
    hand_over: f64,
    ready: BinaryHeap<Reverse<(u64, usize)>>,
    waited_for: BTreeMap<Option<Lock>, f64>,
}

impl Machine<'_> {
    fn wake(&mut self, cpu: usize, at: f64) {
        self.ready.push(Reverse((key(at), cpu)));
    }

    fn note_wait(&mut self, cpu: usize, lock: Option<Lock>, waited: f64) {
        self.cpus[cpu].waited += waited;
        *self.waited_for.entry(lock).or_default() += waited;
    }

    fn step(&mut self, cpu: usize, now: f64) {
        let steps = self.cpus[cpu].steps;
        let step = steps[self.cpus[cpu].at];
        self.cpus[cpu].at = (self.cpus[cpu].at + 1) % steps.len();
        let hand_over = self.hand_over;
        match step {
            Step::Work(ns) => self.wake(cpu, now + ns),
            Step::Take(lock, mode) => {
                let state = self.locks.entry(lock).or_default();
                let at = state.line.get(cpu, now, hand_over);
                if state.queue.is_empty() && state.admits(mode) {
                    state.enter(mode);
                    self.note_wait(cpu, Some(lock), at - now);
                    self.wake(cpu, at);
                } else {
                    state.queue.push_back((cpu, mode));
                    self.cpus[cpu].since = now;
                }
            }
            Step::Release(lock) => {
                let state = self.locks.entry(lock).or_default();
                let at = state.line.get(cpu, now, hand_over);
                state.leave();
                let mut next = Vec::new();
                while let Some(&(waiting, mode)) = state.queue.front()
                    && state.admits(mode)
                {
                    state.queue.pop_front();
                    state.enter(mode);
                    next.push((waiting, state.line.get(waiting, at, hand_over)));
                }
                self.note_wait(cpu, Some(lock), at - now);
                self.wake(cpu, at);
                for (waiting, at) in next {
                    self.note_wait(waiting, Some(lock), at - self.cpus[waiting].since);
                    self.wake(waiting, at);
                }
            }
            Step::Done => {
                let done = self.cpus[cpu].done + 1;
                self.cpus[cpu].done = done;
                // Of a fraction of a line, a write every so many operations.
                let writes =
                    (done as f64 * self.lines) as u64 - ((done - 1) as f64 * self.lines) as u64;
                let mut at = now;
                for _ in 0..writes {
                    at = self.besides.get(cpu, at, hand_over);
                }
                self.note_wait(cpu, None, at - now);
                self.wake(cpu, at);
            }
        }
    }
}

/// Operations a nanosecond of `cores` CPUs, and the machine at the end.
fn run<'t>(
    traces: &'t [Trace],
    cores: usize,
    lines: f64,
    hand_over: f64,
) -> (f64, f64, Machine<'t>) {
    let cpu = |number: usize| {
        let steps = traces[number % traces.len()].steps.as_slice();
        let ends: Vec<usize> =
            (0..steps.len()).filter(|&at| matches!(steps[at], Step::Done)).collect();
        // Each from another operation on: all at once from the first would be an accident.
        let at = ends.get(number * 7 % ends.len().max(1)).map_or(0, |end| (end + 1) % steps.len());
        Cpu { steps, at, done: 0, waited: 0.0, since: 0.0 }
    };
    let mut machine = Machine {
        cpus: (0..cores).map(cpu).collect(),
        locks: BTreeMap::new(),
        besides: Line::default(),
        lines,
        hand_over,
        ready: BinaryHeap::new(),
        waited_for: BTreeMap::new(),
    };
    (0..cores).for_each(|cpu| machine.wake(cpu, 0.0));
    let mut now = 0.0;
    // As many as were recorded, and some hundreds at least.
    let recorded = |cpu: &Cpu<'_>| {
        let ends = cpu.steps.iter().filter(|step| matches!(step, Step::Done)).count() as u64;
        ends.max(1) * (400_u64.div_ceil(ends.max(1)))
    };
    let enough: u64 = machine.cpus.iter().map(recorded).sum();
    while machine.cpus.iter().map(|cpu| cpu.done).sum::<u64>() < enough {
        let Some(Reverse((at, cpu))) = machine.ready.pop() else { break };
        now = at as f64 / 1024.0;
        machine.step(cpu, now);
    }
    let done: u64 = machine.cpus.iter().map(|cpu| cpu.done).sum();
    (done as f64 / now.max(1.0), now, machine)
}

/// How the operations of `traces` scale, each of which writes `lines` lines that others write besides locks; a line goes from
/// CPU to CPU in `hand_over` nanoseconds.
pub fn speed_up(traces: &[Trace], lines: f64, hand_over: f64) -> Simulated {
    let each = traces.iter().map(|trace| run(std::slice::from_ref(trace), 1, lines, hand_over).0);
    let alone = each.sum::<f64>() / traces.len().max(1) as f64;
    let mut simulated = Simulated { speed_up: Vec::new(), waited_share: 0.0, most_waited: None };
    for cores in CORES {
        let (rate, took, machine) = run(traces, cores, lines, hand_over);
        // One alone is what the others are compared with, whichever of those recorded it is.
        let times = if cores == 1 { 1.0 } else { rate / alone };
        simulated.speed_up.push((cores, times));
        let waited: f64 = machine.cpus.iter().map(|cpu| cpu.waited).sum();
        simulated.waited_share = waited / (took * cores as f64).max(1.0);
        let most = machine.waited_for.iter().max_by(|a, b| a.1.total_cmp(b.1));
        simulated.most_waited = most.and_then(|(lock, _)| *lock);
    }
    simulated
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trace(held: f64, apart: f64, mode: Mode) -> Trace {
        let lock = Lock(0);
        Trace {
            steps: vec![
                Step::Take(lock, mode),
                Step::Work(held),
                Step::Release(lock),
                Step::Work(apart),
                Step::Done,
            ],
        }
    }

    fn of_64(trace: Trace, lines: f64, hand_over: f64) -> f64 {
        speed_up(&[trace], lines, hand_over).speed_up.last().map_or(0.0, |last| last.1)
    }

    #[test]
    fn what_shares_nothing_scales_and_a_lock_held_always_does_not() {
        let free = Trace { steps: vec![Step::Work(100.0), Step::Done] };
        assert!(of_64(free.clone(), 0.0, 50.0) > 63.0);
        let locked = speed_up(&[trace(100.0, 0.0, Mode::Exclusive)], 0.0, 0.0);
        assert!(locked.speed_up.iter().all(|(_, times)| *times < 1.1), "{:?}", locked.speed_up);
        assert_eq!(locked.most_waited, Some(Lock(0)));
        // A tenth of the time under the lock: ten CPUs' work at most.
        let tenth = of_64(trace(100.0, 900.0, Mode::Exclusive), 0.0, 0.0);
        assert!((9.0..10.5).contains(&tenth), "{tenth}");
    }

    #[test]
    fn readers_pay_for_the_line_alone() {
        let read = of_64(trace(100.0, 900.0, Mode::Shared), 0.0, 0.0);
        assert!(read > 63.0, "{read}");
        // Two hand-overs of 100 ns an operation of 1 us: five CPUs.
        let handed = of_64(trace(100.0, 900.0, Mode::Shared), 0.0, 100.0);
        assert!((4.0..6.5).contains(&handed), "{handed}");
        let free = Trace { steps: vec![Step::Work(1000.0), Step::Done] };
        let lines = of_64(free, 1.0, 100.0);
        assert!((9.0..11.5).contains(&lines), "{lines}");
    }
}
