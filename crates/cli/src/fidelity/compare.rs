//! Runs a case on both sides and finds the first step they differ at.

use super::coverage::Coverage;
use super::declared;
use super::ours::{Ours, Session};
use super::pages::{self, Bases};
use kilburn_model::{Case, Oracle, OracleError, Report, Stage, Window, areas};
use std::collections::BTreeMap;
use std::fmt;

/// What is compared, and how closely.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    /// What is compared.
    pub(super) stage: Stage,
    /// Steps between whole-state checks of ours.
    pub(super) check_every: usize,
}

/// The kernel, for both windows.
pub(super) struct Kernels {
    narrow: Oracle,
    wide: Oracle,
    other: Option<(Window, Oracle)>,
}

/// Both sides.
pub(super) struct Sides {
    kernels: Kernels,
    ours: Ours,
    settings: Settings,
}

/// How a case went.
#[derive(Default)]
struct Run {
    /// Steps compared.
    steps: usize,
    /// The first difference.
    divergence: Option<Divergence>,
    /// Differences that are meant; the last may have ended the case.
    declared: Vec<&'static str>,
}

/// What came of cases.
#[derive(Default)]
pub(super) struct Findings {
    /// Steps compared.
    pub(super) steps: u64,
    pub(super) cases: u64,
    pub(super) coverage: Coverage,
    /// Differences that are meant, and how often they were met.
    pub(super) declared: BTreeMap<&'static str, u64>,
    pub(super) found: Vec<Found>,
}

impl Findings {
    pub(super) fn merge(&mut self, other: Self) {
        self.steps += other.steps;
        self.cases += other.cases;
        self.coverage.merge(other.coverage);
        for (id, count) in other.declared {
            *self.declared.entry(id).or_default() += count;
        }
        self.found.extend(other.found);
    }
}

/// A divergence, shrunk.
pub(super) struct Found {
    pub(super) case: Case,
    pub(super) divergence: Divergence,
}

/// A step that the two sides differ at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Divergence {
    /// The step, from 0.
    pub(super) step: usize,
    /// In what.
    pub(super) what: What,
    /// The kernel's.
    pub(super) kernel: String,
    /// Ours.
    pub(super) ours: String,
}

/// What differs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum What {
    /// Return value, errno or signal.
    Outcome,
    /// The areas.
    Maps,
    /// What is known of pages.
    Pages,
    /// Ours broke an invariant of its own.
    Invariant,
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Outcome => "outcome",
            Self::Maps => "areas",
            Self::Pages => "pages",
            Self::Invariant => "invariant",
        })
    }
}

impl Kernels {
    pub(super) fn new(_: Settings) -> Result<Self, String> {
        let oracle = |window| Oracle::new(window).map_err(|error| error.to_string());
        Ok(Self { narrow: oracle(Window::NARROW)?, wide: oracle(Window::WIDE)?, other: None })
    }

    fn oracle(&mut self, window: Window) -> Result<&mut Oracle, OracleError> {
        match window {
            Window::NARROW => Ok(&mut self.narrow),
            Window::WIDE => Ok(&mut self.wide),
            _ => {
                if self.other.as_ref().is_none_or(|(other, _)| *other != window) {
                    self.other = Some((window, Oracle::new(window)?));
                }
                Ok(&mut self.other.as_mut().expect("just made").1)
            }
        }
    }
}

impl Sides {
    pub(super) fn new(kernels: Kernels, settings: Settings) -> Self {
        Self { kernels, ours: Ours::default(), settings }
    }

    /// Runs a case, and shrinks it if it shows a divergence.
    ///
    /// # Errors
    /// When the kernel's side could not run it.
    pub(super) fn take(&mut self, case: &Case) -> Result<Findings, String> {
        let mut findings = Findings { cases: 1, ..Findings::default() };
        let run = self
            .run(case, Some(&mut findings.coverage))
            .map_err(|error| format!("{error}; the case was:\n{case}"))?;
        findings.steps = run.steps as u64;
        for id in run.declared {
            *findings.declared.entry(id).or_default() += 1;
        }
        if let Some(divergence) = run.divergence {
            findings.found.push(self.shrunk(case.clone(), divergence));
        }
        Ok(findings)
    }

    fn shrunk(&mut self, mut case: Case, divergence: Divergence) -> Found {
        case.steps.truncate(divergence.step + 1);
        let what = divergence.what;
        let mut last = divergence;
        let mut small = kilburn_model::shrink::shrink(case, |case| match self.run(case, None) {
            Ok(Run { divergence: Some(divergence), .. }) if divergence.what == what => {
                last = divergence;
                true
            }
            _ => false,
        });
        if let Ok(Run { divergence: Some(divergence), .. }) = self.run(&small, None) {
            last = divergence;
        }
        small.steps.truncate(last.step + 1);
        Found { case: small, divergence: last }
    }

    /// Runs `case` on both sides up to the first difference.
    fn run(&mut self, case: &Case, coverage: Option<&mut Coverage>) -> Result<Run, OracleError> {
        let oracle = self.kernels.oracle(case.window)?;
        let kernel = oracle.run(case, self.settings.stage)?;
        let base = oracle.base();
        let mut run = Run::default();
        run.divergence = match self.ours.start(case, self.settings.stage) {
            Ok(mut session) => {
                let bases = Bases { kernel: base, ours: session.counts_at_start() };
                self.settings.compare(case, &kernel, &mut session, bases, coverage, &mut run)
            }
            Err(why) => Some(invariant(0, format!("the case cannot be set up: {why}"))),
        };
        if run.divergence.is_none()
            && let Err(detail) = self.ours.check_empty(case.window)
        {
            run.divergence = Some(invariant(case.steps.len(), detail));
        }
        if run.divergence.is_some() {
            // What went wrong must not go on in the next case.
            self.ours = Ours::default();
        }
        Ok(run)
    }
}

fn invariant(step: usize, detail: String) -> Divergence {
    Divergence { step, what: What::Invariant, kernel: String::new(), ours: detail }
}

impl Settings {
    /// Makes the steps on our side and compares; answers the first difference.
    fn compare(
        self,
        case: &Case,
        kernel: &[Report],
        session: &mut Session<'_>,
        bases: Bases,
        mut coverage: Option<&mut Coverage>,
        run: &mut Run,
    ) -> Option<Divergence> {
        for (at, (step, kernel)) in case.steps.iter().zip(kernel).enumerate() {
            let ours = session.step(step);
            if let Some(coverage) = &mut coverage {
                coverage.add(&step.call, kernel.outcome);
            }
            if ours.outcome != kernel.outcome
                && let Some(id) = declared::outcome(&step.call, kernel.outcome, ours.outcome)
            {
                run.declared.push(id);
                return None;
            }
            if let Some((what, kernel, ours)) = difference(kernel, &ours, case.window, bases) {
                return Some(Divergence { step: at, what, kernel, ours });
            }
            run.steps += 1;
            let last = at + 1 == case.steps.len();
            if (last || (at + 1) % self.check_every == 0)
                && let Err(violation) = session.check()
            {
                return Some(invariant(at, violation.to_string()));
            }
        }
        None
    }
}

/// In what two sides differ after a step.
fn difference(
    kernel: &Report,
    ours: &Report,
    window: Window,
    bases: Bases,
) -> Option<(What, String, String)> {
    if kernel.outcome != ours.outcome {
        return Some((What::Outcome, kernel.outcome.to_string(), ours.outcome.to_string()));
    }
    if let (Some(kernel), Some(ours)) = (&kernel.maps, &ours.maps)
        && !areas::lines(kernel, window).eq(areas::lines(ours, window))
    {
        return Some((What::Maps, areas::text(kernel, window), areas::text(ours, window)));
    }
    let (Some(kernel), Some(ours)) = (&kernel.pages, &ours.pages) else { return None };
    let (kernel, ours) = pages::difference(kernel, ours, window, bases)?;
    Some((What::Pages, kernel, ours))
}
