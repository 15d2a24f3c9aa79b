//! Pressure stall information: for how much of the time tasks wait for what is short
//! (`/proc/pressure`; Linux 6.18 kernel/sched/psi.c).
//!
//! ```text
//!            some: at least one task waits      full: nobody gets anything done meanwhile
//!   cpu      more can run than there are harts  (0 for a whole machine)
//!   io       for a transfer, or a dirty limit   and no task can run
//!   memory   for swap                           and no task can run
//! ```
//!
//! Time is virtual. [`Psi::note`] is told of every change of who runs and who waits; what passed since
//! the last change counts for the state before it. Harts are counted together, as if tasks were always
//! spread over them evenly. Averages are taken every two seconds, with Linux's weights.
//!
//! Neighbours: [`trigger`] (who is told), `executor` (who runs), `crate::task::run` (who waits).

pub(crate) mod trigger;

use crate::time::{Nanos, SECOND};
use std::cell::{Cell, RefCell};
use std::fmt::Write as _;
use std::rc::Weak;
use trigger::Trigger;

/// What can be short.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Resource {
    Io = 0,
    Memory = 1,
    Cpu = 2,
}

/// Some and full of each resource: `2 * resource + full`.
const STATES: usize = 6;

/// How often averages are taken: two seconds and a tick (`PSI_FREQ`).
const PERIOD: Nanos = 2 * SECOND + SECOND / 100;

/// Fixed-point numbers have this many bits of fraction.
const FSHIFT: u32 = 11;
const FIXED_1: u64 = 1 << FSHIFT;
/// `exp(-2 s / window)` for windows of 10, 60 and 300 s.
const DECAY: [u64; 3] = [1677, 1981, 2034];

/// Why a task waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stall {
    /// For a file (Linux `in_iowait`).
    Io,
    /// For memory that comes from swap, or goes there first (Linux `psi_memstall_enter`); this is for a
    /// transfer as well.
    Swap,
}

/// Who runs and who waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Load {
    running: u64,
    io: u64,
    memory: u64,
}

impl Load {
    /// Which states hold (Linux `test_states`).
    fn states(self, harts: u64) -> [bool; STATES] {
        let full = |waits: u64| waits > 0 && self.running == 0;
        [
            self.io > 0,
            full(self.io),
            self.memory > 0,
            full(self.memory),
            self.running > harts,
            // Undefined for a whole machine: Linux shows 0.
            false,
        ]
    }

    fn is_idle(self) -> bool {
        self == Self::default()
    }
}

/// One moving average (Linux `calc_load`).
fn decayed(average: u64, decay: u64, active: u64) -> u64 {
    let sum = average * decay + active * (FIXED_1 - decay);
    let rounded = if active >= average { sum + FIXED_1 - 1 } else { sum };
    rounded / FIXED_1
}

/// `base` to the power of `exponent`, fixed-point (Linux `fixed_power_int`).
fn power(mut base: u64, mut exponent: u64) -> u64 {
    let mut result = FIXED_1;
    while exponent > 0 {
        if exponent & 1 == 1 {
            result = (result * base + FIXED_1 / 2) >> FSHIFT;
        }
        exponent >>= 1;
        base = (base * base + FIXED_1 / 2) >> FSHIFT;
    }
    result
}

/// Times and averages.
#[derive(Clone, Default)]
struct Group {
    /// Time that each state has held.
    total: [Nanos; STATES],
    /// Of it, what averages know of.
    averaged: [Nanos; STATES],
    averages: [[u64; 3]; STATES],
    last_update: Nanos,
    next_update: Nanos,
}

impl Group {
    fn add(&mut self, states: [bool; STATES], time: Nanos) {
        for (total, holds) in self.total.iter_mut().zip(states) {
            *total += if holds { time } else { 0 };
        }
    }

    /// Takes the averages that are due (Linux `update_averages`).
    fn update(&mut self, now: Nanos) {
        let missed = (now - self.next_update) / PERIOD;
        let period = now - (self.last_update + missed * PERIOD);
        self.next_update += (1 + missed) * PERIOD;
        self.last_update = now;
        for state in 0..STATES {
            let sample = (self.total[state] - self.averaged[state]).min(period);
            self.averaged[state] += sample;
            let percent = sample * 100 / period * FIXED_1;
            for (average, decay) in self.averages[state].iter_mut().zip(DECAY) {
                if missed > 0 {
                    *average = decayed(*average, power(decay, missed), 0);
                }
                *average = decayed(*average, decay, percent);
            }
        }
    }

    /// Time passed with these states.
    fn pass(&mut self, load: Load, harts: u64, mut from: Nanos, to: Nanos) {
        let states = load.states(harts);
        // As long as something happens; then once more, when somebody asks (`psi_avgs_work`).
        while to >= self.next_update && !(load.is_idle() && self.total == self.averaged) {
            let boundary = self.next_update;
            self.add(states, boundary.saturating_sub(from));
            from = from.max(boundary);
            self.update(boundary);
        }
        self.add(states, to - from);
        if to >= self.next_update {
            self.update(to);
        }
    }

    /// What `/proc/pressure/...` says (Linux `psi_show`).
    fn text(&self, resource: Resource) -> String {
        let mut text = String::new();
        for (full, name) in ["some", "full"].into_iter().enumerate() {
            let state = 2 * resource as usize + full;
            let [a, b, c] = self.averages[state].map(|average| {
                let hundredths = ((average & (FIXED_1 - 1)) * 100) >> FSHIFT;
                format!("{}.{hundredths:02}", average >> FSHIFT)
            });
            let total = self.total[state] / 1000;
            let _ = writeln!(text, "{name} avg10={a} avg60={b} avg300={c} total={total}");
        }
        text
    }
}

/// The pressure on one machine.
pub(crate) struct Psi {
    harts: u64,
    load: Cell<Load>,
    since: Cell<Nanos>,
    group: RefCell<Group>,
    triggers: RefCell<Vec<Weak<Trigger>>>,
}

impl Psi {
    /// Nobody has waited yet for one of `harts` harts.
    pub(crate) fn new(harts: usize) -> Self {
        let group = Group { next_update: PERIOD, ..Group::default() };
        Self {
            harts: harts as u64,
            load: Cell::default(),
            since: Cell::new(0),
            group: RefCell::new(group),
            triggers: RefCell::default(),
        }
    }

    /// Since `now` so many tasks run or could run.
    #[inline]
    pub(crate) fn note_running(&self, now: Nanos, running: usize) {
        let load = Load { running: running as u64, ..self.load.get() };
        if load != self.load.get() {
            self.change(now, load);
        }
    }

    /// Since `now` one task more waits.
    pub(crate) fn begin(&self, now: Nanos, stall: Stall) {
        self.change(now, self.waiting(stall, 1));
    }

    /// Since `now` one task less waits.
    pub(crate) fn end(&self, now: Nanos, stall: Stall) {
        self.change(now, self.waiting(stall, u64::MAX));
    }

    fn waiting(&self, stall: Stall, more: u64) -> Load {
        let mut load = self.load.get();
        load.io = load.io.wrapping_add(more);
        if stall == Stall::Swap {
            load.memory = load.memory.wrapping_add(more);
        }
        load
    }

    fn change(&self, now: Nanos, load: Load) {
        self.catch_up(now);
        self.load.set(load);
    }

    fn catch_up(&self, now: Nanos) {
        let since = self.since.replace(now.max(self.since.get()));
        if now > since {
            self.group.borrow_mut().pass(self.load.get(), self.harts, since, now);
        }
    }

    /// The text of the resource's file in `/proc/pressure`.
    pub(crate) fn text(&self, now: Nanos, resource: Resource) -> String {
        self.catch_up(now);
        self.group.borrow().text(resource)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn averages(psi: &Psi, now: Nanos, resource: Resource) -> String {
        psi.text(now, resource).lines().next().expect("two lines").to_owned()
    }

    #[test]
    fn half_a_period_of_waiting_is_half_of_the_sample() {
        let psi = Psi::new(1);
        psi.begin(0, Stall::Io);
        psi.end(PERIOD / 2, Stall::Io);
        // 50 % into each average: 50 * (1 - 1677/2048), and so on, rounded up in the last bit.
        let line = "some avg10=9.05 avg60=1.63 avg300=0.34 total=1005000";
        assert_eq!(averages(&psi, PERIOD, Resource::Io), line);
        assert_eq!(
            psi.text(PERIOD, Resource::Memory),
            "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\n\
             full avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"
        );
    }

    #[test]
    fn who_waits_while_another_runs_is_some_and_alone_is_full() {
        let psi = Psi::new(1);
        psi.note_running(0, 1);
        psi.begin(0, Stall::Swap);
        psi.note_running(3000, 0);
        psi.note_running(10_000, 2);
        psi.end(11_000, Stall::Swap);
        let totals = |resource| {
            let text = psi.text(11_000, resource);
            let total = |line: &str| line.rsplit('=').next().map(str::to_owned);
            text.lines().filter_map(total).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(totals(Resource::Io), "11 7");
        assert_eq!(totals(Resource::Memory), "11 7");
        assert_eq!(totals(Resource::Cpu), "1 0");
    }

    #[test]
    fn averages_of_long_waiting_go_to_100_and_of_rest_to_0() {
        let psi = Psi::new(2);
        psi.begin(0, Stall::Swap);
        let line = averages(&psi, 1000 * SECOND, Resource::Memory);
        assert!(line.starts_with("some avg10=100.00 avg60=100.00 avg300=96."), "{line}");
        psi.end(1000 * SECOND, Stall::Swap);
        let line = averages(&psi, 1020 * SECOND, Resource::Memory);
        assert!(line.starts_with("some avg10=15."), "{line}");
        let line = averages(&psi, 9000 * SECOND, Resource::Memory);
        assert_eq!(line, "some avg10=0.00 avg60=0.00 avg300=0.00 total=1000000000");
    }

    #[test]
    fn harts_enough_for_all_are_no_pressure() {
        let psi = Psi::new(4);
        psi.note_running(0, 4);
        psi.note_running(SECOND, 5);
        let line = averages(&psi, 3 * SECOND, Resource::Cpu);
        assert!(line.ends_with("total=2000000"), "{line}");
    }
}
