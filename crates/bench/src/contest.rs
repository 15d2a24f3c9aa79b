//! Rows, their contestants, and how they take turns.

use rustix::time::{ClockId, clock_gettime};
use std::path::PathBuf;
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

/// What a value means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unit {
    /// Nanoseconds a time.
    Nanoseconds,
    /// Seconds for all of it.
    Seconds,
    /// Millions of times a second.
    MillionsPerSecond,
    /// Times as much as one does alone.
    Times,
    /// Bytes of this machine's memory.
    Bytes,
}

impl Unit {
    /// How it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nanoseconds => "ns",
            Self::Seconds => "s",
            Self::MillionsPerSecond => "M/s",
            Self::Times => "x",
            Self::Bytes => "B",
        }
    }

    /// Whether less is better.
    pub fn less_is_better(self) -> bool {
        matches!(self, Self::Nanoseconds | Self::Seconds | Self::Bytes)
    }

    /// How many times better `ours` is.
    pub fn advantage(self, ours: f64, theirs: f64) -> f64 {
        if self.less_is_better() { theirs / ours } else { ours / theirs }
    }

    /// The value of `count` times in `took`.
    fn value(self, count: u64, took: Duration) -> f64 {
        let seconds = took.as_secs_f64().max(1e-9);
        match self {
            Self::Nanoseconds => seconds * 1e9 / count as f64,
            Self::MillionsPerSecond => count as f64 / seconds / 1e6,
            Self::Seconds | Self::Times | Self::Bytes => seconds / count as f64,
        }
    }
}

/// What turns gave, in the row's unit.
#[derive(Debug, Default)]
pub struct Measured {
    /// Ours.
    pub ours: Vec<f64>,
    /// The others', turn by turn after ours.
    pub peers: Vec<(String, Vec<f64>)>,
    /// Who was not there, and what else has to be known.
    pub notes: Vec<String>,
}

impl Measured {
    /// Nothing, and why.
    pub fn failed(why: String) -> Self {
        Self { notes: vec![why], ..Self::default() }
    }
}

/// How much is done.
#[derive(Clone, Debug)]
pub struct Effort {
    /// Turns of each contestant.
    pub rounds: usize,
    /// How long one turn takes, about.
    pub turn: Duration,
    /// Large states a tenth of their size, programs a tenth of their rounds: for trying out.
    pub is_quick: bool,
    /// The `kilburn` command, for rows that run whole programs.
    pub kilburn: PathBuf,
}

impl Effort {
    /// Enough for figures that are kept. A turn is long enough to visit every part of the largest state several times over, so
    /// that caches hold what they would if nobody else took turns.
    pub fn full(kilburn: PathBuf) -> Self {
        Self { rounds: 15, turn: Duration::from_millis(30), is_quick: false, kilburn }
    }

    /// Enough to see that it works.
    pub fn quick(kilburn: PathBuf) -> Self {
        Self { rounds: 3, turn: Duration::from_millis(3), is_quick: true, kilburn }
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

impl Row {
    /// Lets the contestants take turns.
    ///
    /// # Panics
    /// When the row has no contestant.
    pub fn compete(&self, effort: &Effort) -> Measured {
        compete((self.contestants)(), Unit::Nanoseconds, effort)
    }
}

/// Lets `contestants` take turns, ours first.
///
/// # Panics
/// When there is none.
pub fn compete(mut contestants: Vec<Contestant>, unit: Unit, effort: &Effort) -> Measured {
    let turn = effort.turn;
    let counts: Vec<u64> =
        contestants.iter_mut().map(|contestant| calibrate(contestant, turn)).collect();
    let mut turns = vec![Vec::with_capacity(effort.rounds); contestants.len()];
    for _ in 0..effort.rounds {
        for ((contestant, &count), turns) in contestants.iter_mut().zip(&counts).zip(&mut turns) {
            // Others have had the caches meanwhile.
            (contestant.run)(count / 2 + 1);
            let (done, took) = (contestant.run)(count);
            turns.push(unit.value(done, took));
        }
    }
    let mut turns = turns.into_iter();
    let ours = turns.next().expect("ours is the first contestant");
    let names = contestants.iter().skip(1).map(|contestant| contestant.name.to_owned());
    Measured { ours, peers: names.zip(turns).collect(), notes: Vec::new() }
}

/// How often the work is done in a turn.
fn calibrate(contestant: &mut Contestant, turn: Duration) -> u64 {
    let mut count = 1;
    loop {
        let (done, took) = (contestant.run)(count);
        if took >= turn / 2 || done >= 1 << 24 {
            let each = took.as_nanos().max(1) as f64 / done as f64;
            return ((turn.as_nanos() as f64 / each) as u64).max(1);
        }
        count = done * 4;
    }
}

/// The middle of `values`; of none, no number.
pub fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
