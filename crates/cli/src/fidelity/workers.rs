//! Cases shared out among threads. What comes of them is taken in the order of their numbers, so
//! the result does not depend on how many threads there are.

use super::compare::{Findings, Kernels, Settings, Sides, Swap};
use super::host_swap::page_out_more;
use kilburn_model::Generator;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc;
use std::thread;

/// How long to go on.
pub(super) struct Goal {
    /// Steps to compare at least.
    pub(super) steps: u64,
    /// Divergences that are enough.
    pub(super) divergences: usize,
    /// Threads.
    pub(super) workers: usize,
}

/// Runs cases of `generator` until `goal` is reached; `progress` is told the steps so far.
///
/// # Errors
/// When the kernel cannot be asked.
pub(super) fn explore(
    generator: &Generator,
    settings: Settings,
    goal: &Goal,
    mut progress: impl FnMut(u64),
) -> Result<Findings, String> {
    // Before any of our own memory is made: the kernel's children inherit what is there.
    let kernels =
        (0..goal.workers.max(1)).map(|_| Kernels::new(settings)).collect::<Result<Vec<_>, _>>()?;
    let next = AtomicU64::new(0);
    let enough = AtomicBool::new(false);
    let (results, arrived) = mpsc::channel();
    thread::scope(|scope| {
        for kernels in kernels {
            let (results, next, enough) = (results.clone(), &next, &enough);
            scope.spawn(move || {
                let mut sides = Sides::new(kernels, settings);
                while !enough.load(Relaxed) {
                    let number = next.fetch_add(1, Relaxed);
                    let mut case = generator.case(number);
                    if settings.swap == Swap::Both {
                        page_out_more(&mut case);
                    }
                    let findings = sides.take(&case);
                    let stop = findings.is_err();
                    if results.send((number, findings)).is_err() || stop {
                        return;
                    }
                }
            });
        }
        drop(results);
        let all = collect(&arrived, goal, &mut progress);
        enough.store(true, Relaxed);
        all
    })
}

fn collect(
    arrived: &mpsc::Receiver<(u64, Result<Findings, String>)>,
    goal: &Goal,
    progress: &mut impl FnMut(u64),
) -> Result<Findings, String> {
    let mut all = Findings::default();
    let mut early = BTreeMap::new();
    let mut due = 0;
    while let Ok((number, findings)) = arrived.recv() {
        early.insert(number, findings);
        while let Some(findings) = early.remove(&due) {
            all.merge(findings?);
            due += 1;
            progress(all.steps);
            if all.steps >= goal.steps || all.found.len() >= goal.divergences {
                return Ok(all);
            }
        }
    }
    Err("the cases ended too early".to_owned())
}
