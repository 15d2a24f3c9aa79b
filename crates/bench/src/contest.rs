//! Rows, their contestants, and how they take turns.

use rustix::time::{ClockId, clock_gettime};
use std::time::{Duration, Instant};

/// What time is taken with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Clock {
    /// The thread's processor time: what other programs take from it does not count.
    Processor,
    /// Time as it passes, for work on several threads.
    Wall,
}

/// A point in time of one [`Clock`].
#[derive(Clone, Copy)]
pub enum Stopwatch {
    /// The processor time then.
    Processor(Duration),
    /// The time then.
    Wall(Instant),
}

impl Stopwatch {
    /// Starts now.
    pub fn start(clock: Clock) -> Self {
        match clock {
            Clock::Processor => Self::Processor(processor_time()),
            Clock::Wall => Self::Wall(Instant::now()),
        }
    }

    /// Time since the start.
    pub fn elapsed(self) -> Duration {
        match self {
            Self::Processor(start) => processor_time().saturating_sub(start),
            Self::Wall(start) => start.elapsed(),
        }
    }
}

fn processor_time() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec as u32)
}

/// Processor time that `work` takes.
pub fn timed(work: impl FnOnce()) -> Duration {
    let watch = Stopwatch::start(Clock::Processor);
    work();
    watch.elapsed()
}

/// Who can do a row's work.
pub struct Contestant {
    /// Name of the library, and of what in it is used.
    pub name: &'static str,
    /// Does the work at least so many times; answers how often, and how long it took, preparations
    /// left out.
    pub run: Box<dyn FnMut(u64) -> (u64, Duration)>,
}

impl Contestant {
    /// Work that counts itself.
    pub fn new(name: &'static str, run: impl FnMut(u64) -> (u64, Duration) + 'static) -> Self {
        Self { name, run: Box::new(run) }
    }

    /// Work that needs nothing between two times.
    pub fn plain(name: &'static str, mut once: impl FnMut(u64) + 'static) -> Self {
        let mut next = 0_u64;
        Self::new(name, move |count| {
            let took = timed(|| {
                for number in next..next + count {
                    once(number);
                }
            });
            next += count;
            (count, took)
        })
    }

    /// Work on `batch` things at a time, put back in order afterwards, untimed.
    pub fn batched<S: 'static>(
        name: &'static str,
        mut state: S,
        batch: u64,
        mut once: impl FnMut(&mut S, u64) + 'static,
        mut restore: impl FnMut(&mut S, u64) + 'static,
    ) -> Self {
        let mut next = 0_u64;
        Self::new(name, move |count| {
            let (mut done, mut took) = (0, Duration::ZERO);
            while done < count {
                let numbers = next..next + batch;
                took += timed(|| numbers.clone().for_each(|number| once(&mut state, number)));
                numbers.rev().for_each(|number| restore(&mut state, number));
                next += batch;
                done += batch;
            }
            (done, took)
        })
    }
}

/// One piece of work.
pub struct Row {
    /// What is done.
    pub name: &'static str,
    /// Nanoseconds that ours may take.
    pub goal_ns: Option<f64>,
    /// Who does it; ours first. Made when the row's turn comes: states are large.
    pub contestants: fn() -> Vec<Contestant>,
}

/// What a contestant took, in nanoseconds a time.
pub struct Times {
    /// Name of the contestant.
    pub name: &'static str,
    /// Middle of its turns.
    pub median: f64,
    /// Least of its turns.
    pub least: f64,
    /// Middle, over the rounds, of its time divided by the first contestant's.
    pub ratio: f64,
}

/// How long one turn takes, about: long enough to visit every part of the largest state several
/// times over, so that caches hold what they would if nobody else took turns.
const TURN: Duration = Duration::from_millis(30);

impl Row {
    /// Lets the contestants take turns, `rounds` times.
    ///
    /// # Panics
    /// When the row has no contestant or there are no rounds.
    pub fn compete(&self, rounds: usize) -> Vec<Times> {
        let mut contestants = (self.contestants)();
        let counts: Vec<u64> = contestants.iter_mut().map(calibrate).collect();
        let mut turns = vec![Vec::with_capacity(rounds); contestants.len()];
        for _ in 0..rounds {
            for ((contestant, &count), turns) in contestants.iter_mut().zip(&counts).zip(&mut turns)
            {
                // Others have had the caches meanwhile.
                (contestant.run)(count / 2 + 1);
                turns.push(nanoseconds((contestant.run)(count)));
            }
        }
        let first = turns[0].clone();
        contestants
            .iter()
            .zip(turns)
            .map(|(contestant, turns)| Times {
                name: contestant.name,
                median: median(turns.iter().copied()),
                least: turns.iter().copied().fold(f64::INFINITY, f64::min),
                ratio: median(turns.iter().zip(&first).map(|(time, first)| time / first)),
            })
            .collect()
    }
}

/// How often the work is done in a turn.
fn calibrate(contestant: &mut Contestant) -> u64 {
    let mut count = 1;
    loop {
        let (done, took) = (contestant.run)(count);
        if took >= TURN / 2 || done >= 1 << 24 {
            let each = took.as_nanos().max(1) as f64 / done as f64;
            return ((TURN.as_nanos() as f64 / each) as u64).max(1);
        }
        count = done * 4;
    }
}

fn nanoseconds((done, took): (u64, Duration)) -> f64 {
    took.as_nanos() as f64 / done as f64
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
