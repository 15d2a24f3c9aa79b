//! Running policies over a trace, and timing them.
//!
//! Throughput is requests by processor time of the thread that serves them: on a machine with other work, time waited for
//! a core would say nothing of the policy.

use indicatif::{ProgressBar, ProgressStyle};
use kilburn_mm::policy::opt::Opt;
use kilburn_mm::policy::simulate::{Hits, Outcome, RequestTrace, Simulation};
use kilburn_mm::policy::{Builtin, PolicyConfig, PolicyVisitor, ReplacementPolicy, UnknownPolicy};
use rustix::time::{ClockId, clock_gettime};
use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Requests between two looks at the clock and reports of progress.
const PORTION: usize = 1 << 18;

/// Capacities of a curve, besides the one asked for.
const CURVE_POINTS: u32 = 14;

/// What competes: a policy, or the optimum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Contender {
    Policy(Builtin),
    Opt,
}

impl Contender {
    pub(super) fn all() -> Vec<Self> {
        Builtin::ALL.into_iter().map(Self::Policy).chain([Self::Opt]).collect()
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Policy(policy) => policy.name(),
            Self::Opt => "opt",
        }
    }
}

impl FromStr for Contender {
    type Err = UnknownContender;

    fn from_str(name: &str) -> Result<Self, UnknownContender> {
        if name == "opt" {
            Ok(Self::Opt)
        } else {
            name.parse().map(Self::Policy).map_err(UnknownContender)
        }
    }
}

/// Neither a policy nor `opt`.
#[derive(Debug)]
pub(super) struct UnknownContender(UnknownPolicy);

impl fmt::Display for UnknownContender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} opt", self.0)
    }
}

impl std::error::Error for UnknownContender {}

/// What all contenders get alike.
#[derive(Clone, Copy)]
pub(super) struct Setting<'t> {
    pub(super) trace: RequestTrace<'t>,
    pub(super) capacity: u32,
    pub(super) hits: Hits,
    pub(super) seed: u64,
}

/// How a contender did.
#[derive(Clone, Copy)]
pub(super) struct Measured {
    pub(super) contender: Contender,
    pub(super) outcome: Outcome,
    /// Processor time.
    pub(super) time: Duration,
}

impl Measured {
    pub(super) fn requests_per_s(&self) -> f64 {
        self.outcome.requests as f64 / self.time.as_secs_f64().max(1e-9)
    }
}

/// A progress bar over `total` steps, on the terminal if there is one.
pub(super) fn progress(what: &str, total: u64) -> ProgressBar {
    styled(what, total, "{msg:24} {wide_bar} {human_pos}/{human_len} {eta}")
}

/// A progress bar over `bytes`; a spinner if that is 0.
pub(super) fn byte_progress(what: &str, bytes: u64) -> ProgressBar {
    if bytes == 0 {
        return ProgressBar::new_spinner().with_message(what.to_owned());
    }
    styled(what, bytes, "{msg:24} {wide_bar} {bytes}/{total_bytes} {eta}")
}

fn styled(what: &str, total: u64, template: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(template).expect("a valid template");
    ProgressBar::new(total).with_style(style).with_message(what.to_owned())
}

/// Runs the contenders one after the other.
pub(super) fn run_each(setting: &Setting<'_>, contenders: &[Contender]) -> Vec<Measured> {
    let requests = setting.trace.requests.len() as u64;
    let bar = progress("", requests * contenders.len() as u64);
    let results = contenders.iter().map(|&contender| {
        bar.set_message(contender.name());
        run(setting, contender, &mut |portion| bar.inc(portion))
    });
    let results = results.collect();
    bar.finish_and_clear();
    results
}

/// Miss ratios of each contender at each capacity, on all cores.
pub(super) fn curves(
    setting: &Setting<'_>,
    contenders: &[Contender],
    capacities: &[u32],
) -> Vec<(&'static str, Vec<f64>)> {
    let jobs: Vec<(usize, usize)> = (0..contenders.len())
        .flat_map(|row| (0..capacities.len()).map(move |column| (row, column)))
        .collect();
    let ratios = Mutex::new(vec![vec![0.0; capacities.len()]; contenders.len()]);
    let next = AtomicUsize::new(0);
    let bar = progress("curves", jobs.len() as u64);
    let work = || {
        while let Some(&(row, column)) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
            let setting = Setting { capacity: capacities[column], ..*setting };
            let ratio = run(&setting, contenders[row], &mut |_| {}).outcome.miss_ratio();
            ratios.lock().unwrap_or_else(PoisonError::into_inner)[row][column] = ratio;
            bar.inc(1);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from).min(jobs.len()) {
            scope.spawn(work);
        }
    });
    bar.finish_and_clear();
    let ratios = ratios.into_inner().unwrap_or_else(PoisonError::into_inner);
    contenders.iter().map(|contender| contender.name()).zip(ratios).collect()
}

/// Capacities for a curve: evenly spaced on a logarithmic scale up to all `distinct` objects, and `chosen`.
pub(super) fn capacities(distinct: u32, chosen: u32) -> Vec<u32> {
    let largest = f64::from(distinct.max(2));
    let smallest = (largest / 1000.0).max(1.0);
    let step = |point: u32| {
        smallest * (largest / smallest).powf(f64::from(point) / f64::from(CURVE_POINTS - 1))
    };
    let mut capacities: Vec<u32> =
        (0..CURVE_POINTS).map(|point| step(point).round() as u32).collect();
    capacities.push(chosen);
    capacities.sort_unstable();
    capacities.dedup();
    capacities
}

fn run(setting: &Setting<'_>, contender: Contender, progress: &mut dyn FnMut(u64)) -> Measured {
    let (outcome, time) = match contender {
        Contender::Policy(policy) => {
            let &Setting { capacity, seed, .. } = setting;
            policy
                .visit(PolicyConfig { pages: capacity, capacity, seed }, Race { setting, progress })
        }
        Contender::Opt => run_opt(setting, progress),
    };
    Measured { contender, outcome, time }
}

fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

struct Race<'a, 't> {
    setting: &'a Setting<'t>,
    progress: &'a mut dyn FnMut(u64),
}

impl PolicyVisitor for Race<'_, '_> {
    type Output = (Outcome, Duration);

    fn visit<P: ReplacementPolicy + 'static>(self, mut policy: P) -> Self::Output {
        let Setting { trace, capacity, hits, .. } = *self.setting;
        let mut simulation = Simulation::new(&mut policy, trace.objects, capacity, hits);
        let mut time = Duration::ZERO;
        for portion in trace.requests.chunks(PORTION) {
            let start = processor_time();
            simulation.run(portion);
            time += processor_time() - start;
            (self.progress)(portion.len() as u64);
        }
        (simulation.outcome(), time)
    }
}

/// Looking up the next uses is part of the optimum's time.
fn run_opt(setting: &Setting<'_>, progress: &mut dyn FnMut(u64)) -> (Outcome, Duration) {
    let start = processor_time();
    let mut opt = Opt::new(setting.trace, setting.capacity);
    let mut time = processor_time() - start;
    loop {
        let (start, before) = (processor_time(), opt.outcome().requests);
        let more = opt.advance(PORTION as u64);
        time += processor_time() - start;
        progress(opt.outcome().requests - before);
        if !more {
            return (opt.outcome(), time);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn curves_agree_with_single_runs_and_fall_for_opt() {
        let requests: Vec<u32> =
            (0..4000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 20) % (n % 97 + 3)).collect();
        let trace = RequestTrace { requests: &requests, objects: 100 };
        let setting = Setting { trace, capacity: 10, hits: Hits::Exact, seed: 5 };
        let capacities = capacities(100, 10);
        let curves = curves(&setting, &Contender::all(), &capacities);
        let single = run_each(&setting, &Contender::all());
        let at = capacities.iter().position(|&capacity| capacity == 10).unwrap();
        for ((name, curve), measured) in curves.iter().zip(&single) {
            assert_eq!(
                (*name, curve[at]),
                (measured.contender.name(), measured.outcome.miss_ratio())
            );
        }
        let (_, opt) = curves.last().unwrap();
        assert!(opt.is_sorted_by(|smaller, larger| smaller >= larger));
    }

    #[test]
    fn capacities_rise_to_all_objects_and_include_the_chosen() {
        assert_eq!(capacities(1, 1), [1, 2]);
        let many = capacities(1_000_000, 123_456);
        assert!(many.is_sorted() && many.contains(&123_456));
        assert_eq!((many[0], many[many.len() - 1]), (1000, 1_000_000));
    }

    #[test]
    fn every_contender_goes_by_its_name() {
        for contender in Contender::all() {
            assert_eq!(contender.name().parse::<Contender>().unwrap(), contender);
        }
        assert!("OPT".parse::<Contender>().unwrap_err().to_string().ends_with("sieve random opt"));
    }
}
