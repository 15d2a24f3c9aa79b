//! Rows, their contestants, and how they take turns.

use rustix::time::{ClockId, clock_gettime};
use std::num::NonZeroUsize;
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

    /// The same of turns that followed each other.
    pub(crate) fn advantages(self, ours: &[f64], theirs: &[f64]) -> Vec<f64> {
        ours.iter().zip(theirs).map(|(ours, theirs)| self.advantage(*ours, *theirs)).collect()
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

/// What the turns of one pass gave, in the row's unit.
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
    /// Times that all rows are gone over. What changes within minutes shows as passes that differ.
    pub passes: usize,
    /// Turns of each contestant in a pass.
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
        Self { passes: 3, rounds: 5, turn: Duration::from_millis(30), is_quick: false, kilburn }
    }

    /// Enough to see that it works.
    pub fn quick(kilburn: PathBuf) -> Self {
        Self { passes: 1, rounds: 3, turn: Duration::from_millis(3), is_quick: true, kilburn }
    }

    /// As many turns in so many passes, as far as they can be shared among them.
    pub fn in_passes(self, passes: NonZeroUsize) -> Self {
        let passes = passes.get();
        Self { rounds: share(self.turns(), passes), passes, ..self }
    }

    /// Turns of each contestant in all passes.
    pub fn turns(&self) -> usize {
        self.passes * self.rounds
    }

    /// Turns in a pass of work that takes seconds, of which `enough` in all passes are.
    pub(crate) fn long_rounds(&self, enough: usize) -> usize {
        self.rounds.min(share(enough, self.passes))
    }
}

/// Turns that a pass has at least: fewer have no quartiles.
const ROUNDS_MIN: usize = 3;

/// What each of `passes` gets of so many turns.
fn share(turns: usize, passes: usize) -> usize {
    turns.div_ceil(passes).max(ROUNDS_MIN)
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

/// Those of `values` that are numbers, in order.
fn numbers(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.filter(|value| !value.is_nan()).collect();
    values.sort_by(f64::total_cmp);
    values
}

/// The middle of those of `values` that are numbers; of none, no number.
pub fn median(values: impl Iterator<Item = f64>) -> f64 {
    let values = numbers(values);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// First and third quartile of those of `values` that are numbers: where one of four to come is expected below the first, and one
/// above the third (Hyndman and Fan 1996, definition 6). Of three they are the ends: few turns do not seem to spread less.
pub(crate) fn quartiles(values: &[f64]) -> [f64; 2] {
    let values = numbers(values.iter().copied());
    let Some(last) = values.len().checked_sub(1) else { return [f64::NAN; 2] };
    [1.0, 3.0].map(|quarters| {
        let place = quarters * (values.len() + 1) as f64 / 4.0 - 1.0;
        let place = place.clamp(0.0, last as f64);
        let (low, high) = (values[place.floor() as usize], values[place.ceil() as usize]);
        low + (high - low) * place.fract()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_are_shared_among_passes_that_have_quartiles() {
        let full = Effort::full(PathBuf::new());
        let rounds = |effort: &Effort, passes| {
            let passes = NonZeroUsize::new(passes).expect("a number above 0");
            effort.clone().in_passes(passes).rounds
        };
        assert_eq!((full.passes, full.rounds, full.turns()), (3, 5, 15));
        assert_eq!([1, 2, 3, 5, 15].map(|passes| rounds(&full, passes)), [15, 8, 5, 3, 3]);
        let quick = Effort::quick(PathBuf::new());
        assert_eq!((quick.turns(), rounds(&quick, 1), rounds(&quick, 3)), (3, 3, 3));
        assert_eq!((full.long_rounds(5), full.long_rounds(12), full.long_rounds(90)), (3, 4, 5));
    }

    #[test]
    fn quartiles_of_few_turns_are_wide() {
        assert_eq!(quartiles(&[3.0, 1.0, 2.0]), [1.0, 3.0]);
        assert_eq!(quartiles(&[5.0, 4.0, f64::NAN, 3.0, 2.0, 1.0]), [1.5, 4.5]);
        let fifteen: Vec<f64> = (1..=15).map(f64::from).collect();
        assert_eq!(quartiles(&fifteen), [4.0, 12.0]);
        assert_eq!((quartiles(&[7.0]), quartiles(&[1.0, 2.0])), ([7.0; 2], [1.0, 2.0]));
        assert!(quartiles(&[]).iter().all(|end| end.is_nan()));
        assert_eq!(median([f64::NAN, 2.0, 1.0, 3.0].into_iter()), 2.0);
    }
}
