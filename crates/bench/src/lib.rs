//! The library's operations measured beside other people's, in one run: what `kilburn bench` runs.
//!
//! A [`Work`] is one row: a piece of work with a goal and those who can do it. [`contest`] lets the contestants of a row take turns
//! of a few milliseconds, so that whatever else the machine does hits all of them; [`report`] makes of the turns what is
//! printed, and docs/performance.md shows. `--bench library` gives the same rows to criterion, for one change beside another.
//!
//! - [`contest`]: rows, contestants, taking turns, processor time.
//! - [`machine`]: the host that the library runs on here, and random keys.
//! - [`rows`]: the work. [`complexity`]: how it grows. [`locks`]: what threads share.
//! - [`anchors`]: what peers took where the goals were set. [`counts`]: hot paths for counting instructions.
//! - [`passes`]: rows measured again some minutes later, and whether that agrees.
//! - [`report`], [`plot`]: as text, Markdown, JSON and pictures.
//!
//! Every contestant works on random keys in a state of the size named, and what it answers is used.
#![forbid(unsafe_code)]

pub mod anchors;
pub mod complexity;
pub mod contest;
pub mod counts;
pub mod locks;
pub mod machine;
pub mod passes;
pub mod plot;
pub mod report;
pub mod rows;

pub use contest::{Clock, Contestant, Effort, Measured, Row, Unit};
use report::Host;
pub use report::{Line, Report};

/// One row to be measured.
pub struct Work {
    /// Which part of the whole: `lib`, `fault`, `hart`, `sim`, `policies`, `swap`, `memory`.
    pub suite: &'static str,
    /// What is done.
    pub name: String,
    unit: Unit,
    goal: Option<f64>,
    measure: Box<dyn Fn(&Effort) -> Measured>,
}

impl Work {
    pub(crate) fn new(
        suite: &'static str,
        name: String,
        unit: Unit,
        goal: Option<f64>,
        measure: impl Fn(&Effort) -> Measured + 'static,
    ) -> Self {
        Self { suite, name, unit, goal, measure: Box::new(measure) }
    }

    fn of_row(suite: &'static str, row: Row) -> Self {
        let (name, goal) = (row.name.to_owned(), row.goal_ns);
        Self::new(suite, name, Unit::Nanoseconds, goal, move |effort| row.compete(effort))
    }

    /// Measures it, in states made for this pass.
    pub fn pass(&self, effort: &Effort) -> Measured {
        (self.measure)(effort)
    }

    /// What its passes gave.
    pub fn line(&self, passes: Vec<Measured>) -> Line {
        Line::new(self.suite, &self.name, self.unit, self.goal, passes)
    }
}

/// The parts, in the order of docs/performance.md.
pub const SUITES: [&str; 7] = ["lib", "fault", "hart", "sim", "policies", "swap", "memory"];

/// Every row.
pub fn all() -> Vec<Work> {
    let rows = |suite, rows: Vec<Row>| rows.into_iter().map(move |row| Work::of_row(suite, row));
    let mut all: Vec<Work> = Vec::new();
    for part in [rows::areas::rows(), rows::frames::rows(), rows::tables::rows()] {
        all.extend(rows("lib", part));
    }
    for part in [rows::calls::rows(), rows::faults::rows()] {
        all.extend(rows("fault", part));
    }
    for row in rows::threads::rows() {
        let (name, goal) = (row.name.to_owned(), Some(row.goal));
        all.push(Work::new("fault", name, Unit::Times, goal, move |effort| row.measure(effort)));
    }
    all.extend(rows::hart::work());
    all.extend(rows::sim::work());
    all.extend(rows::policies::work());
    all.extend(rows::swap::work());
    all.extend(rows::memory::work());
    all
}

/// Measures `work`, all of it in each pass; `progress` hears each row's name before.
pub fn run(work: &[Work], effort: &Effort, mut progress: impl FnMut(&Work)) -> Report {
    let machine = Host::look();
    let mut measured: Vec<Vec<Measured>> = work.iter().map(|_| Vec::new()).collect();
    for _ in 0..effort.passes {
        for (work, passes) in work.iter().zip(&mut measured) {
            progress(work);
            passes.push(work.pass(effort));
        }
    }
    let rows = work.iter().zip(measured).map(|(work, passes)| work.line(passes)).collect();
    Report { machine, passes: effort.passes, rounds: effort.rounds, rows }
}
