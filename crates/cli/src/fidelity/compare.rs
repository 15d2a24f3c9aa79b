//! Runs a case on both sides and finds the first step they differ at.

use super::coverage::Coverage;
use super::declared;
use super::ours::{Ours, Session};
use super::pages::{self, Bases};
use super::planted::Planted;
use kilburn_mm::config::Leasing;
use kilburn_model::naive::{Shown, pages_in};
use kilburn_model::safe::is_safe;
use kilburn_model::{
    Case, Class, Expect, Kind, Naive, Oracle, OracleError, Report, Stage, Step, Window, areas,
};
use std::collections::BTreeMap;
use std::fmt;

/// What is compared, and how closely.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    /// What is compared.
    pub(super) stage: Stage,
    /// Steps between whole-state checks of ours.
    pub(super) check_every: usize,
    /// Whether the kernel is asked.
    pub(super) kernel: Kernel,
    /// A mistake that our side makes on purpose.
    pub(super) planted: Option<Planted>,
    /// Whether there is swap.
    pub(super) swap: Swap,
    /// When our side leases parts of address spaces.
    pub(super) leasing: Leasing,
}

/// Whether there is swap for pages to go to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Swap {
    Neither,
    /// On both sides.
    Both,
}

/// Whether the kernel is asked, beside the naive model.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kernel {
    Asked,
    Left,
}

/// The kernel, for both windows.
pub(super) struct Kernels {
    narrow: Oracle,
    wide: Oracle,
    other: Option<(Window, Oracle)>,
}

/// Both sides.
pub(super) struct Sides {
    kernels: Option<Kernels>,
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
    /// Steps that the naive model knew the answer to.
    modelled: usize,
    /// Why it did not know the next.
    unsure: Option<&'static str>,
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
    /// Steps that the naive model knew the answer to.
    pub(super) modelled: u64,
    /// Why it gave cases up, and how often.
    pub(super) unsure: BTreeMap<&'static str, u64>,
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
        self.modelled += other.modelled;
        for (why, count) in other.unsure {
            *self.unsure.entry(why).or_default() += count;
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
    /// Who says what: the kernel, the naive model, ours.
    pub(super) said: Vec<(&'static str, String)>,
}

impl Divergence {
    fn invariant(step: usize, detail: String) -> Self {
        Self { step, what: What::Invariant, said: vec![("ours", detail)] }
    }
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
    /// The kernel, if `settings` want it asked.
    ///
    /// # Errors
    /// When it cannot be.
    pub(super) fn new(settings: Settings) -> Result<Option<Self>, String> {
        if settings.kernel == Kernel::Left {
            return Ok(None);
        }
        let oracle = |window| Oracle::new(window).map_err(|error| error.to_string());
        let (narrow, wide) = (oracle(Window::NARROW)?, oracle(Window::WIDE)?);
        Ok(Some(Self { narrow, wide, other: None }))
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
    pub(super) fn new(kernels: Option<Kernels>, settings: Settings) -> Self {
        Self { kernels, ours: Ours::new(settings), settings }
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
        findings.modelled = run.modelled as u64;
        findings.unsure.extend(run.unsure.map(|why| (why, 1)));
        if let Some(divergence) = run.divergence {
            findings.found.push(self.shrunk(case.clone(), divergence));
        }
        Ok(findings)
    }

    fn shrunk(&mut self, mut case: Case, divergence: Divergence) -> Found {
        case.steps.truncate(divergence.step + 1);
        let what = divergence.what;
        let mut last = divergence;
        let mut small = kilburn_model::shrink::shrink(case, |case| {
            // The kernel would not be asked that.
            if !case.steps.iter().all(|step| is_safe(&step.call, case.window)) {
                return false;
            }
            match self.run(case, None) {
                Ok(Run { divergence: Some(divergence), .. }) if divergence.what == what => {
                    last = divergence;
                    true
                }
                _ => false,
            }
        });
        if let Ok(Run { divergence: Some(divergence), .. }) = self.run(&small, None) {
            last = divergence;
        }
        small.steps.truncate(last.step + 1);
        Found { case: small, divergence: last }
    }

    /// Runs `case` on both sides up to the first difference.
    fn run(&mut self, case: &Case, coverage: Option<&mut Coverage>) -> Result<Run, OracleError> {
        let stage = self.settings.stage;
        let (mut kernel, mut bases) = (None, Bases::default());
        if let Some(kernels) = &mut self.kernels {
            let oracle = kernels.oracle(case.window)?;
            kernel = Some(oracle.run(case, stage)?);
            bases.kernel = oracle.base();
        }
        let mut run = Run::default();
        run.divergence = match self.ours.start(case, stage) {
            Ok(session) => {
                bases.ours = session.counts_at_start();
                let kernel = kernel.as_deref();
                let mut sides = Comparison {
                    case,
                    kernel,
                    naive: Some(Naive::new(case)),
                    session,
                    bases,
                    swap: self.settings.swap,
                    pages: true,
                    cached: None,
                };
                sides.compare(self.settings.check_every, coverage, &mut run)
            }
            Err(why) => Some(Divergence::invariant(0, format!("the case cannot be set up: {why}"))),
        };
        if run.divergence.is_none()
            && let Err(detail) = self.ours.check_empty(case.window)
        {
            run.divergence = Some(Divergence::invariant(case.steps.len(), detail));
        }
        if run.divergence.is_some() {
            // What went wrong must not go on in the next case.
            self.ours = Ours::new(self.settings);
        }
        Ok(run)
    }
}

/// A case being compared.
struct Comparison<'a> {
    case: &'a Case,
    /// What the kernel reported, if it was asked.
    kernel: Option<&'a [Report]>,
    /// The naive model, until it does not know what comes next.
    naive: Option<Naive>,
    session: Session<'a>,
    bases: Bases,
    swap: Swap,
    /// Whether pages are still compared.
    pages: bool,
    /// Why it is not known any more what is in the page cache.
    cached: Option<&'static str>,
}

impl Comparison<'_> {
    /// Makes the steps on our side and compares; answers the first difference.
    fn compare(
        &mut self,
        check_every: usize,
        mut coverage: Option<&mut Coverage>,
        run: &mut Run,
    ) -> Option<Divergence> {
        for (at, step) in self.case.steps.iter().enumerate() {
            let ours = self.session.step(step);
            let kernel = self.kernel.map(|reports| &reports[at]);
            if let Some(coverage) = &mut coverage {
                coverage.add(&step.call, kernel.unwrap_or(&ours).outcome);
            }
            if let Some(id) = declared::pages_after(&step.call, self.swap)
                && self.pages
                && ours.pages.is_some()
            {
                self.pages = false;
                run.declared.push(id);
            }
            self.cached = self.cached.or(declared::cached_after(&step.call));
            if let Some(kernel) = kernel {
                let explained = || match step.call.kind {
                    Kind::Mincore if self.cached.is_some() => self.cached,
                    _ => declared::outcome(&step.call, kernel.outcome, ours.outcome),
                };
                if ours.outcome != kernel.outcome
                    && let Some(id) = explained()
                {
                    run.declared.push(id);
                    return None;
                }
                if let Some((what, kernel, ours)) = self.difference(kernel, &ours) {
                    let said = vec![("kernel", kernel), ("ours", ours)];
                    return Some(Divergence { step: at, what, said });
                }
            }
            if let Some((what, model, ours)) = self.model(step, &ours, run) {
                let both = if kernel.is_some() { "kernel and ours" } else { "ours" };
                let said = vec![("naive model", model), (both, ours)];
                return Some(Divergence { step: at, what, said });
            }
            run.steps += 1;
            let last = at + 1 == self.case.steps.len();
            if (last || (at + 1) % check_every == 0)
                && let Err(violation) = self.session.check()
            {
                return Some(Divergence::invariant(at, violation.to_string()));
            }
        }
        None
    }

    /// In what the kernel and ours differ after a step.
    fn difference(&self, kernel: &Report, ours: &Report) -> Option<(What, String, String)> {
        let window = self.case.window;
        if kernel.outcome != ours.outcome {
            return Some((What::Outcome, kernel.outcome.to_string(), ours.outcome.to_string()));
        }
        if let (Some(kernel), Some(ours)) = (&kernel.maps, &ours.maps)
            && !areas::lines(kernel, window).eq(areas::lines(ours, window))
        {
            return Some((What::Maps, areas::text(kernel, window), areas::text(ours, window)));
        }
        let (Some(kernel), Some(ours)) = (&kernel.pages, &ours.pages) else { return None };
        if !self.pages {
            return None;
        }
        let (kernel, ours) = pages::difference(kernel, ours, window, self.bases, self.swap)?;
        Some((What::Pages, kernel, ours))
    }

    /// In what the naive model differs from ours, and the kernel, which agree.
    fn model(
        &mut self,
        step: &Step,
        ours: &Report,
        run: &mut Run,
    ) -> Option<(What, String, String)> {
        let naive = self.naive.as_mut()?;
        match naive.step(step, ours.outcome) {
            Expect::Exactly(outcome) if outcome != ours.outcome => {
                return Some((What::Outcome, outcome.to_string(), ours.outcome.to_string()));
            }
            Expect::Done if ours.outcome.class() != Class::Ok => {
                return Some((What::Outcome, "done".to_owned(), ours.outcome.to_string()));
            }
            Expect::Unsure(why) => {
                run.unsure = Some(why);
                self.naive = None;
                return None;
            }
            Expect::Perhaps(why) => {
                let window = self.case.window;
                let same = ours
                    .maps
                    .as_ref()
                    .is_none_or(|maps| naive.shown(step.process).eq(pages_in(maps, window)));
                if !same {
                    run.unsure = Some(why);
                    self.naive = None;
                }
                return None;
            }
            Expect::Exactly(_) | Expect::Done | Expect::Followed => {}
        }
        run.modelled += 1;
        let (maps, window) = (ours.maps.as_ref()?, self.case.window);
        let (model, ours) = (naive.shown(step.process), pages_in(maps, window));
        if model.eq(ours) {
            return None;
        }
        let text = |pages: &mut dyn Iterator<Item = Shown>| {
            pages.map(|page| format!("{page}\n")).collect::<String>()
        };
        let model = text(&mut naive.shown(step.process));
        Some((What::Maps, model, text(&mut pages_in(maps, window))))
    }
}
