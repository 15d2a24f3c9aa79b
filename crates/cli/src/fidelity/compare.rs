//! Runs a case on both sides and finds the first step they differ at.

use super::declared::{self, Declared};
use super::ours::Ours;
use kilburn_model::{Case, Kind, Oracle, OracleError, Report, Window};
use std::collections::BTreeMap;
use std::fmt;

/// Both sides.
pub(super) struct Sides {
    narrow: Oracle,
    wide: Oracle,
    other: Option<(Window, Oracle)>,
    ours: Ours,
    /// Steps between whole-state checks of ours.
    check_every: usize,
}

/// How a case went.
pub(super) struct Run {
    /// Steps compared.
    pub(super) steps: usize,
    /// The first difference.
    pub(super) divergence: Option<Divergence>,
    /// A difference that is meant and ended the case.
    pub(super) declared: Option<&'static Declared>,
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
    /// Ours broke an invariant of its own.
    Invariant,
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Outcome => "outcome",
            Self::Maps => "areas",
            Self::Invariant => "invariant",
        })
    }
}

/// What was seen: calls, their flags and outcomes.
pub(super) type Coverage = BTreeMap<(Kind, String), u64>;

impl Sides {
    pub(super) fn new() -> Result<Self, String> {
        let oracle = |window| Oracle::new(window).map_err(|error| error.to_string());
        Ok(Self {
            narrow: oracle(Window::NARROW)?,
            wide: oracle(Window::WIDE)?,
            other: None,
            ours: Ours::new()?,
            check_every: 64,
        })
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

    /// Runs `case` on both sides up to the first difference.
    ///
    /// # Errors
    /// When the kernel's side could not run it.
    pub(super) fn run(
        &mut self,
        case: &Case,
        coverage: Option<&mut Coverage>,
    ) -> Result<Run, OracleError> {
        let kernel = self.oracle(case.window)?.run(case)?;
        let mut run = self.run_ours(case, &kernel, coverage);
        if run.divergence.is_none()
            && let Err(detail) = self.ours.check_empty()
        {
            run.divergence = Some(Divergence {
                step: case.steps.len(),
                what: What::Invariant,
                kernel: String::new(),
                ours: detail,
            });
        }
        if run.divergence.is_some() {
            // What went wrong must not go on in the next case.
            self.ours = Ours::new().map_err(OracleError::Case)?;
        }
        Ok(run)
    }

    fn run_ours(
        &mut self,
        case: &Case,
        kernel: &[Report],
        mut coverage: Option<&mut Coverage>,
    ) -> Run {
        let mut run = Run { steps: 0, divergence: None, declared: None };
        let mut session = match self.ours.start(case) {
            Ok(session) => session,
            Err(errno) => {
                run.divergence = Some(Divergence {
                    step: 0,
                    what: What::Invariant,
                    kernel: String::new(),
                    ours: format!("the case cannot be set up: {errno}"),
                });
                return run;
            }
        };
        for (at, (step, kernel)) in case.steps.iter().zip(kernel).enumerate() {
            let ours = session.step(step);
            if let Some(coverage) = &mut coverage {
                *coverage.entry((step.call.kind, kernel.outcome.class())).or_default() += 1;
            }
            let divergence = |what, kernel, ours| Some(Divergence { step: at, what, kernel, ours });
            if ours.outcome != kernel.outcome {
                run.declared = declared::explanation(&step.call, kernel.outcome, ours.outcome);
                if run.declared.is_none() {
                    run.divergence = divergence(
                        What::Outcome,
                        kernel.outcome.to_string(),
                        ours.outcome.to_string(),
                    );
                }
                return run;
            }
            run.steps += 1;
            if let (Some(kernel), Some(ours)) = (&kernel.maps, &ours.maps)
                && kernel != ours
            {
                run.divergence = divergence(What::Maps, kernel.clone(), ours.clone());
                return run;
            }
            let last = at + 1 == case.steps.len();
            if (last || (at + 1) % self.check_every == 0)
                && let Err(violation) = session.check()
            {
                run.divergence = divergence(What::Invariant, String::new(), violation.to_string());
                return run;
            }
        }
        run
    }
}
