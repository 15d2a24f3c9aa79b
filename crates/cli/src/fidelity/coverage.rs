//! What was exercised: calls, their flags and how they ended.

use kilburn_model::flags::{self, FLAGS};
use kilburn_model::{Call, Class, Kind, Outcome};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Steps by call, flag (a place in [`FLAGS`]; none for the call as a whole) and outcome.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(super) struct Coverage(BTreeMap<(Kind, Option<usize>, Class), u64>);

impl Coverage {
    pub(super) fn add(&mut self, call: &Call, outcome: Outcome) {
        let class = outcome.class();
        let mut count = |flag| *self.0.entry((call.kind, flag, class)).or_default() += 1;
        count(None);
        for (at, flag) in flags::of(call.kind) {
            if flag.is_in(call) {
                count(Some(at));
            }
        }
    }

    pub(super) fn merge(&mut self, other: Self) {
        for (key, count) in other.0 {
            *self.0.entry(key).or_default() += count;
        }
    }

    fn classes(&self, kind: Kind, flag: Option<usize>) -> Vec<(Class, u64)> {
        let range = (kind, flag, Class::Ok)..=(kind, flag, Class::Skipped);
        self.0.range(range).map(|((_, _, class), count)| (*class, *count)).collect()
    }

    /// The flags of `kinds` that no step had, and those that no step had that was done.
    fn missing(&self, kinds: &[Kind]) -> (Vec<String>, Vec<String>) {
        let (mut never, mut never_done) = (Vec::new(), Vec::new());
        for (at, flag) in FLAGS.iter().enumerate() {
            let classes = self.classes(flag.kind, Some(at));
            let name = format!("{} {}", flag.kind.name(), flag.name);
            if !kinds.contains(&flag.kind) {
                continue;
            } else if classes.is_empty() {
                never.push(name);
            } else if classes.iter().all(|(class, _)| *class != Class::Ok) {
                never_done.push(name);
            }
        }
        let unseen = kinds.iter().filter(|kind| self.classes(**kind, None).is_empty());
        never.extend(unseen.map(|kind| kind.name().to_owned()));
        (never, never_done)
    }

    /// The report for a person; `kinds` are the calls that were to be made.
    pub(super) fn text(&self, kinds: &[Kind]) -> String {
        let mut text = format!("{:<26} {:>10}  outcomes\n", "call", "steps");
        for &kind in Kind::ALL {
            let flags = flags::of(kind).map(|(at, flag)| (Some(at), flag.name));
            for (flag, name) in [(None, kind.name())].into_iter().chain(flags) {
                let classes = self.classes(kind, flag);
                if classes.is_empty() {
                    continue;
                }
                let total: u64 = classes.iter().map(|(_, count)| count).sum();
                let classes: Vec<String> =
                    classes.iter().map(|(class, count)| format!("{class} {count}")).collect();
                let name = if flag.is_some() { format!("  {name}") } else { name.to_owned() };
                let _ = writeln!(text, "{name:<26} {total:>10}  {}", classes.join(", "));
            }
        }
        let (never, never_done) = self.missing(kinds);
        for (what, names) in [("never made", never), ("never done, always refused", never_done)] {
            if !names.is_empty() {
                let _ = writeln!(text, "{what}: {}", names.join(", "));
            }
        }
        text
    }

    pub(super) fn json(&self, kinds: &[Kind]) -> JsonCoverage {
        let mut calls: BTreeMap<&str, JsonCall> = BTreeMap::new();
        for ((kind, flag, class), count) in &self.0 {
            let call = calls.entry(kind.name()).or_default();
            let outcomes = match flag {
                None => &mut call.outcomes,
                Some(at) => call.flags.entry(FLAGS[*at].name).or_default(),
            };
            outcomes.insert(class.to_string(), *count);
        }
        let (never, never_done) = self.missing(kinds);
        JsonCoverage { calls, never, never_done }
    }
}

/// Coverage in JSON.
#[derive(Serialize)]
pub(super) struct JsonCoverage {
    calls: BTreeMap<&'static str, JsonCall>,
    /// Calls and flags that were never made.
    never: Vec<String>,
    /// Flags that were always refused.
    never_done: Vec<String>,
}

#[derive(Default, Serialize)]
struct JsonCall {
    outcomes: BTreeMap<String, u64>,
    flags: BTreeMap<&'static str, BTreeMap<String, u64>>,
}
