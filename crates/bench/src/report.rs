//! What was measured, as text, Markdown and JSON.
//!
//! A [`Report`] has a [`Line`] for each row: ours, the peers, how far ahead or behind, the goal. A ratio above 1 says that ours is
//! better, whatever the unit; it is the middle of the ratios of turns that followed each other, so that what else the
//! machine did hit both. All is of the turns of all passes together; a line whose passes do not agree says so.

use crate::anchors;
use crate::contest::{Measured, Unit, median, quartiles};
use crate::passes::{Pass, Passes, pooled};
use serde::Serialize;
use std::fmt::Write as _;

/// Everything that one run measured.
#[derive(Serialize, Debug)]
pub struct Report {
    /// What it ran on.
    pub machine: Host,
    /// Times that all rows were gone over.
    pub passes: usize,
    /// Turns of each contestant in a pass; fewer where one takes seconds.
    pub rounds: usize,
    /// The rows.
    pub rows: Vec<Line>,
}

/// The machine a report is from.
#[derive(Serialize, Debug)]
pub struct Host {
    /// Model of the processor.
    pub processor: String,
    /// Processors that may be used.
    pub processors: usize,
    /// Release of the kernel.
    pub kernel: String,
    /// Tasks that wanted a processor before the run, on average of the last minute. Above 1 other work disturbed.
    pub load_before: f64,
}

/// One row.
#[derive(Serialize, Debug)]
pub struct Line {
    /// Which part.
    pub suite: &'static str,
    /// What is done.
    pub name: String,
    /// Middle of our turns.
    pub ours: f64,
    /// First and third quartile of our turns.
    pub ours_spread: [f64; 2],
    /// Unit of all values.
    pub unit: &'static str,
    /// Whether less is better.
    pub less_is_better: bool,
    /// The others. A name in brackets is no peer but a part of the work, shown for what it costs.
    pub peers: Vec<Peer>,
    /// How many times better ours is than the best of them; `None` without peers.
    pub ratio_to_best: Option<f64>,
    /// What ours shall be, at most or at least.
    pub goal: Option<f64>,
    /// Whether it is.
    pub goal_met: Option<bool>,
    /// The goal as a ratio, where it was set beside a peer.
    pub goal_beside: Option<GoalBeside>,
    /// What each pass gave, and whether they agree.
    #[serde(flatten)]
    pub passes: Passes,
    /// Peers that are not here, and what the figures need to be understood.
    pub notes: Vec<String>,
}

/// How many times better than a peer ours shall be ([`crate::anchors`]).
#[derive(Serialize, Debug)]
pub struct GoalBeside {
    /// The peer.
    pub peer: &'static str,
    /// So many times, at least.
    pub ratio: f64,
    /// Whether it is; `None` where the peer was not there.
    pub met: Option<bool>,
}

/// Another who does a row's work.
#[derive(Serialize, Debug)]
pub struct Peer {
    /// Its name.
    pub name: String,
    /// Middle of its turns.
    pub value: f64,
    /// First and third quartile.
    pub spread: [f64; 2],
    /// How many times better ours is.
    pub ratio: f64,
}

impl Line {
    /// A row's line, from what each of its passes gave. What could not be measured is no number (`null` in JSON), and the notes
    /// say why.
    pub fn new(
        suite: &'static str,
        name: &str,
        unit: Unit,
        goal: Option<f64>,
        passes: Vec<Measured>,
    ) -> Self {
        let Measured { ours, peers, notes } = pooled(&passes);
        let value = median(ours.iter().copied());
        let peer = |(name, turns): (String, Vec<f64>)| Peer {
            name,
            value: median(turns.iter().copied()),
            spread: quartiles(&turns),
            ratio: median(unit.advantages(&ours, &turns).into_iter()),
        };
        let peers: Vec<Peer> = peers.into_iter().map(peer).collect();
        let best = peers
            .iter()
            .filter(|peer| !peer.name.starts_with('('))
            .min_by(|one, other| one.ratio.total_cmp(&other.ratio));
        let goal_beside = goal.and_then(|goal| {
            let (of, least) = anchors::goal_beside(name, unit, goal)?;
            // A peer's name may go on with what of it is used.
            let peer = peers.iter().find(|peer| peer.name.split(' ').next() == Some(of));
            let met = peer.filter(|peer| !peer.ratio.is_nan()).map(|peer| peer.ratio >= least);
            Some(GoalBeside { peer: of, ratio: least, met })
        });
        let reached = |goal| if unit.less_is_better() { value <= goal } else { value >= goal };
        Self {
            suite,
            name: name.to_owned(),
            ours: value,
            ours_spread: quartiles(&ours),
            unit: unit.name(),
            less_is_better: unit.less_is_better(),
            ratio_to_best: best.map(|best| best.ratio),
            passes: Passes::new(unit, &passes, best.map(|best| best.name.as_str())),
            peers,
            goal,
            goal_met: goal.filter(|_| !value.is_nan()).map(reached),
            goal_beside,
            notes,
        }
    }

    fn goal_text(&self) -> String {
        let Some(goal) = self.goal else { return String::new() };
        let sign = if self.less_is_better { "<=" } else { ">=" };
        let mut text = format!("{sign} {}{}", short(goal), verdict(self.goal_met));
        if let Some(GoalBeside { peer, ratio, met }) = &self.goal_beside {
            let _ = write!(text, "; {} x {peer}{}", short(*ratio), verdict(*met));
        }
        text
    }

    /// What each pass gave, if that has to be known as they do not agree.
    fn apart_text(&self) -> Option<String> {
        let all = |value: fn(&Pass) -> f64| {
            let values: Vec<String> =
                self.passes.passes.iter().map(|pass| short(value(pass))).collect();
            values.join(", ")
        };
        let values = || format!("{} {}", all(|pass| pass.ours), self.unit);
        let ratios = || all(|pass| pass.ratio_to_best.unwrap_or(f64::NAN));
        match (self.passes.passes_agree?, self.passes.ratios_agree) {
            (true, None | Some(true)) => None,
            (true, Some(false)) => Some(format!("ratios of passes apart: {}", ratios())),
            (false, None) => Some(format!("passes apart: {}", values())),
            (false, Some(true)) => Some(format!("passes apart: {}; ratios agree", values())),
            (false, Some(false)) => {
                Some(format!("passes apart: {}; ratios {}", values(), ratios()))
            }
        }
    }

    /// What is said below the line, or behind it.
    fn remarks(&self) -> impl Iterator<Item = String> {
        self.apart_text().into_iter().chain(self.notes.iter().cloned())
    }
}

fn verdict(met: Option<bool>) -> &'static str {
    match met {
        Some(true) => ", met",
        Some(false) => ", not met",
        None => "",
    }
}

/// Three digits that count, or all before the point.
fn short(value: f64) -> String {
    match value.abs() {
        _ if value.is_nan() => "-".to_owned(),
        100.0.. => grouped(value),
        10.0..100.0 => format!("{value:.1}"),
        0.1..10.0 => format!("{value:.2}"),
        0.0 => "0".to_owned(),
        _ => format!("{value:.4}"),
    }
}

/// `12,345`
fn grouped(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

impl Host {
    /// This one.
    pub fn look() -> Self {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        let processor = read("/proc/cpuinfo")
            .lines()
            .find_map(|line| {
                Some(line.strip_prefix("model name")?.split_once(':')?.1.trim().to_owned())
            })
            .unwrap_or_else(|| "unknown processor".to_owned());
        Self {
            processor,
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            load_before: read("/proc/loadavg")
                .split(' ')
                .next()
                .and_then(|load| load.parse().ok())
                .unwrap_or(f64::NAN),
        }
    }

    fn text(&self) -> String {
        let Self { processor, processors, kernel, load_before } = self;
        let busy = if *load_before > 1.0 { "; other work disturbed" } else { "" };
        format!(
            "{processor}, {processors} processors, Linux {kernel}, load {load_before:.1} before{busy}"
        )
    }
}

impl Report {
    /// How `lines` were measured, and how many of them differ from pass to pass.
    fn passes_text<'l>(&self, lines: impl Iterator<Item = &'l Line>) -> String {
        let Self { passes, rounds, .. } = self;
        if *passes == 1 {
            return format!("{rounds} turns each");
        }
        let verdicts: Vec<bool> = lines.filter_map(|line| line.passes.agree()).collect();
        let rows = verdicts.len();
        let agreeing = verdicts.into_iter().filter(|agree| *agree).count();
        let marked = match rows - agreeing {
            0 => String::new(),
            1 => ", 1 is marked".to_owned(),
            several => format!(", {several} are marked"),
        };
        format!(
            "{passes} passes of {rounds} turns; of {rows} rows {agreeing} agree within their quartiles{marked}"
        )
    }

    /// One object.
    ///
    /// # Panics
    /// Never: plain values.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("plain values") + "\n"
    }

    /// Aligned columns.
    pub fn to_text(&self) -> String {
        let mut out = format!(
            "{}\n{}; medians, in [] quartiles; x: ours is so many times better\n",
            self.machine.text(),
            self.passes_text(self.rows.iter())
        );
        for line in &self.rows {
            let _ = writeln!(out, "\n{}: {}", line.suite, line.name);
            let who = |out: &mut String, name: &str, value: f64, spread: [f64; 2], end: &str| {
                let [low, high] = spread.map(short);
                let text =
                    format!("  {name:<34}{:>12} {:<10} [{low} .. {high}]", short(value), line.unit);
                let _ = writeln!(out, "{text:<84}{end}");
            };
            who(&mut out, "ours", line.ours, line.ours_spread, &line.goal_text());
            for peer in &line.peers {
                who(&mut out, &peer.name, peer.value, peer.spread, &format!("{:.2}x", peer.ratio));
            }
            for remark in line.remarks() {
                let _ = writeln!(out, "  ({remark})");
            }
        }
        out
    }

    /// The table of one suite, for docs/performance.md.
    pub fn to_markdown(&self, suite: &str) -> String {
        let lines = || self.rows.iter().filter(|line| line.suite == suite);
        let mut out = format!(
            "{}. {}; medians, in brackets the quartiles of ours.\n\n\
             | work | ours | peers: ours is so many times better | goal |\n|---|---|---|---|\n",
            self.machine.text(),
            self.passes_text(lines())
        );
        for line in lines() {
            let peer =
                |peer: &Peer| format!("{} {}: **{:.2}**", peer.name, short(peer.value), peer.ratio);
            let last: Vec<String> = line.peers.iter().map(peer).chain(line.remarks()).collect();
            let last = last.join("; ");
            let [low, high] = line.ours_spread.map(short);
            let _ = writeln!(
                out,
                "| {} | {} {} [{low}, {high}] | {last} | {} |",
                line.name,
                short(line.ours),
                line.unit,
                line.goal_text()
            );
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine() -> Host {
        Host { processor: "P".into(), processors: 2, kernel: "6".into(), load_before: 0.5 }
    }

    fn measured(ours: &[f64], peers: &[(&str, &[f64])]) -> Measured {
        let peer = |(name, turns): &(&str, &[f64])| ((*name).to_owned(), turns.to_vec());
        Measured { ours: ours.to_vec(), peers: peers.iter().map(peer).collect(), notes: Vec::new() }
    }

    #[test]
    fn a_ratio_above_one_is_better_in_every_unit() {
        let turns = measured(
            &[10.0, 20.0, 10.0],
            &[("slow", &[20.0, 60.0, 20.0]), ("fast", &[5.0, 10.0, 5.0])],
        );
        let line = Line::new("lib", "work", Unit::Nanoseconds, Some(10.0), vec![turns]);
        assert_eq!((line.ours, line.goal_met, line.ratio_to_best), (10.0, Some(true), Some(0.5)));
        assert_eq!(line.peers[0].ratio, 2.0, "of turns that followed each other");
        let turns = measured(&[100.0], &[("slow", &[50.0])]);
        let line = Line::new("sim", "work", Unit::MillionsPerSecond, Some(110.0), vec![turns]);
        assert_eq!((line.goal_met, line.ratio_to_best), (Some(false), Some(2.0)));
        let alone = Line::new("lib", "work", Unit::Bytes, None, vec![measured(&[1.0], &[])]);
        assert_eq!((alone.goal_met, alone.ratio_to_best), (None, None));
    }

    #[test]
    fn a_goal_holds_beside_the_peer_it_was_set_beside_on_a_slower_machine() {
        let turns = measured(&[400.0], &[("Linux", &[6_000.0])]);
        let name = "mmap + munmap 4 KiB";
        let line = Line::new("fault", name, Unit::Nanoseconds, Some(250.0), vec![turns]);
        assert_eq!(line.goal_text(), "<= 250, not met; 14.4 x Linux, met");
        let alone = measured(&[200.0], &[]);
        let line = Line::new("fault", name, Unit::Nanoseconds, Some(250.0), vec![alone]);
        assert_eq!(line.goal_text(), "<= 250, met; 14.4 x Linux");
    }

    #[test]
    fn tables_say_what_was_not_there() {
        let mut turns = measured(&[1234.5], &[]);
        turns.notes.push("qemu is not installed".to_owned());
        let line = Line::new("hart", "chase", Unit::Seconds, Some(5.0), vec![turns]);
        let report = Report { machine: machine(), passes: 1, rounds: 3, rows: vec![line] };
        assert!(report.to_text().contains("qemu is not installed"));
        assert!(report.to_markdown("hart").contains(
            "| chase | 1,234 s [1,234, 1,234] | qemu is not installed | <= 5.00, not met |"
        ));
        assert!(!report.to_markdown("lib").contains("chase"));
        assert!(report.to_json().contains("\"ratio_to_best\": null"));
        assert!(report.to_json().contains("\"passes_agree\": null"));
        assert!(report.to_text().contains("\n3 turns each; medians"));
    }

    #[test]
    fn tables_say_which_passes_are_apart() {
        let line = |name, passes: &[[f64; 2]]| {
            let pass =
                |[ours, theirs]: &[f64; 2]| measured(&[*ours; 3], &[("peer", &[*theirs; 3])]);
            Line::new("lib", name, Unit::Nanoseconds, None, passes.iter().map(pass).collect())
        };
        let rows = vec![
            line("agreeing", &[[84.0, 126.0]; 3]),
            line("drifting", &[[84.1, 168.2], [104.0, 208.0], [110.0, 220.0]]),
            line("wild", &[[10.0, 12.0], [20.0, 28.0], [30.0, 45.0]]),
            line("beside a wild peer", &[[10.0, 12.0], [10.0, 14.0], [10.0, 15.0]]),
        ];
        let report = Report { machine: machine(), passes: 3, rounds: 5, rows };
        let head =
            "3 passes of 5 turns; of 4 rows 1 agree within their quartiles, 3 are marked; medians";
        for form in [report.to_text(), report.to_markdown("lib")] {
            assert!(form.contains(head), "{form}");
            assert!(form.contains("passes apart: 84.1, 104, 110 ns; ratios agree"), "{form}");
            assert!(form.contains("passes apart: 10.0, 20.0, 30.0 ns; ratios 1.20, 1.40, 1.50"));
            assert!(form.contains("ratios of passes apart: 1.20, 1.40, 1.50"), "{form}");
        }
        assert!(report.to_markdown("lib").contains("| peer 126: **1.50** |"));
        let json = report.to_json();
        assert!(json.contains("\"ratios_agree\": true") && json.contains("\"ratio_spread\": ["));
    }
}
