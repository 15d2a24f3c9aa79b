//! Rows measured in several passes, minutes apart: what these give together, and whether each agrees with the others.
//!
//! Turns of one pass follow each other within a second: their quartiles tell nothing of what changes within minutes, such as where
//! memory lies and what else the machine does. So all rows are gone over several times, with states made anew. `pooled`
//! makes one [`Measured`] of what a row's passes gave; [`Passes`] keeps what each gave, and compares.

use crate::contest::{Measured, Unit, median, quartiles};
use serde::Serialize;

/// A row's passes.
#[derive(Serialize, Debug)]
pub struct Passes {
    /// What each gave, in order.
    pub passes: Vec<Pass>,
    /// Whether our quartiles overlap, each pass's with each other's; `None` where fewer than two were measured.
    pub passes_agree: Option<bool>,
    /// The same of ratios to the best peer; `None` where fewer than two passes have that.
    pub ratios_agree: Option<bool>,
}

/// What one pass gave of a row.
#[derive(Serialize, Debug)]
pub struct Pass {
    /// Middle of our turns; no number where none was measured.
    pub ours: f64,
    /// First and third quartile of our turns.
    pub ours_spread: [f64; 2],
    /// How many times better ours was than the peer that is best in all passes together; `None` where that one was not there.
    pub ratio_to_best: Option<f64>,
    /// First and third quartile of that, of turns that followed each other.
    pub ratio_spread: Option<[f64; 2]>,
}

impl Passes {
    /// What `measured`, one for each pass, gave beside the peer called `best`.
    pub(crate) fn new(unit: Unit, measured: &[Measured], best: Option<&str>) -> Self {
        let passes: Vec<Pass> =
            measured.iter().map(|measured| Pass::new(unit, measured, best)).collect();
        Self {
            passes_agree: overlap(passes.iter().map(|pass| pass.ours_spread)),
            ratios_agree: overlap(passes.iter().filter_map(|pass| pass.ratio_spread)),
            passes,
        }
    }

    /// Whether values agree, and ratios as far as there are any; `None` where there is nothing to compare.
    pub fn agree(&self) -> Option<bool> {
        self.passes_agree.map(|agree| agree && self.ratios_agree != Some(false))
    }
}

impl Pass {
    fn new(unit: Unit, Measured { ours, peers, .. }: &Measured, best: Option<&str>) -> Self {
        let best = peers.iter().find(|(name, _)| best == Some(name));
        let ratios = best.map(|(_, theirs)| unit.advantages(ours, theirs));
        Self {
            ours: median(ours.iter().copied()),
            ours_spread: quartiles(ours),
            ratio_to_best: ratios.as_ref().map(|ratios| median(ratios.iter().copied())),
            ratio_spread: ratios.as_deref().map(quartiles),
        }
    }
}

/// Whether intervals overlap, each with each other, the ends included; `None` where fewer than two are of numbers.
fn overlap(intervals: impl Iterator<Item = [f64; 2]>) -> Option<bool> {
    let intervals: Vec<[f64; 2]> =
        intervals.filter(|ends| ends.iter().all(|end| !end.is_nan())).collect();
    let pairs = intervals.iter().enumerate().flat_map(|(number, one)| {
        let others = &intervals[number + 1..];
        others.iter().map(move |other| one[0] <= other[1] && other[0] <= one[1])
    });
    let mut pairs = pairs.peekable();
    pairs.peek()?;
    Some(pairs.all(|pair| pair))
}

/// The turns of all `passes`, peers' beside ours of the same pass. Where a peer was not there its turns are no numbers.
pub(crate) fn pooled(passes: &[Measured]) -> Measured {
    let mut all = Measured::default();
    for Measured { ours, peers, notes } in passes {
        let before = all.ours.len();
        all.ours.extend(ours);
        for (name, turns) in peers {
            let at = all.peers.iter().position(|(known, _)| known == name).unwrap_or_else(|| {
                all.peers.push((name.clone(), Vec::new()));
                all.peers.len() - 1
            });
            let known = &mut all.peers[at].1;
            known.resize(before, f64::NAN);
            known.extend(turns);
        }
        for (_, turns) in &mut all.peers {
            turns.resize(all.ours.len(), f64::NAN);
        }
        for note in notes {
            match all.notes.iter_mut().find(|known| is_same_but_for_figures(known, note)) {
                Some(known) => known.clone_from(note),
                None => all.notes.push(note.clone()),
            }
        }
    }
    all
}

/// Notes of two passes that say the same: the later has figures of more turns.
fn is_same_but_for_figures(one: &str, other: &str) -> bool {
    let words = |text: &str| text.replace(|letter: char| letter.is_ascii_digit(), "");
    words(one) == words(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pass(ours: &[f64], peers: &[(&str, &[f64])], notes: &[&str]) -> Measured {
        let peer = |(name, turns): &(&str, &[f64])| ((*name).to_owned(), turns.to_vec());
        Measured {
            ours: ours.to_vec(),
            peers: peers.iter().map(peer).collect(),
            notes: notes.iter().map(|note| (*note).to_owned()).collect(),
        }
    }

    fn of(passes: &[Measured]) -> Passes {
        Passes::new(Unit::Nanoseconds, passes, Some("peer"))
    }

    fn verdicts(passes: &Passes) -> (Option<bool>, Option<bool>, Option<bool>) {
        (passes.passes_agree, passes.ratios_agree, passes.agree())
    }

    #[test]
    fn passes_agree_when_each_overlaps_with_each_other() {
        let agreeing = of(&[pass(&[1.0, 2.0, 3.0], &[], &[]), pass(&[3.0, 4.0, 5.0], &[], &[])]);
        assert_eq!(verdicts(&agreeing), (Some(true), None, Some(true)));
        let chain = [[1.0, 2.0, 3.0], [3.0, 4.0, 5.0], [4.0, 5.0, 6.0]];
        let apart = of(&chain.map(|turns| pass(&turns, &[], &[])));
        assert_eq!(verdicts(&apart), (Some(false), None, Some(false)));
        assert_eq!((apart.passes[2].ours, apart.passes[2].ours_spread), (5.0, [4.0, 6.0]));
    }

    #[test]
    fn ratios_agree_on_a_machine_that_slowed_down() {
        let fast = pass(&[10.0, 11.0, 12.0], &[("peer", &[20.0, 22.0, 24.0])], &[]);
        let slow = pass(&[20.0, 21.0, 22.0], &[("peer", &[40.0, 42.0, 44.0])], &[]);
        let passes = of(&[fast, slow]);
        assert_eq!(verdicts(&passes), (Some(false), Some(true), Some(false)));
        assert_eq!(passes.passes[1].ratio_to_best, Some(2.0));
        assert_eq!(passes.passes[1].ratio_spread, Some([2.0, 2.0]));
    }

    #[test]
    fn values_may_agree_where_ratios_do_not() {
        let one = pass(&[10.0, 11.0, 12.0], &[("peer", &[20.0, 22.0, 24.0])], &[]);
        let other = pass(&[10.0, 11.0, 12.0], &[("peer", &[30.0, 33.0, 36.0])], &[]);
        assert_eq!(verdicts(&of(&[one, other])), (Some(true), Some(false), Some(false)));
    }

    #[test]
    fn what_is_exact_agrees() {
        let passes = of(&[pass(&[32.1; 3], &[], &[]), pass(&[32.1; 3], &[], &[])]);
        assert_eq!(verdicts(&passes), (Some(true), None, Some(true)));
    }

    #[test]
    fn one_pass_has_nothing_to_agree_with() {
        let failed = || Measured::failed("no memory".to_owned());
        let good = || pass(&[1.0, 2.0, 3.0], &[("peer", &[1.0, 2.0, 3.0])], &[]);
        assert_eq!(verdicts(&of(&[good()])), (None, None, None));
        assert_eq!(verdicts(&of(&[failed(), failed()])), (None, None, None));
        let once = of(&[failed(), good()]);
        assert_eq!(verdicts(&once), (None, None, None));
        assert!(once.passes[0].ours.is_nan() && once.passes[0].ratio_to_best.is_none());
        assert_eq!(
            verdicts(&of(&[good(), failed(), good()])),
            (Some(true), Some(true), Some(true))
        );
    }

    #[test]
    fn turns_of_all_passes_stay_beside_those_they_followed() {
        let passes = [
            pass(&[1.0, 2.0], &[("peer", &[3.0, 4.0])], &["slow"]),
            Measured::failed("no memory".to_owned()),
            pass(&[5.0], &[("late", &[6.0])], &["slow"]),
            pass(&[7.0], &[("late", &[8.0]), ("peer", &[9.0])], &[]),
        ];
        let all = pooled(&passes);
        assert_eq!(all.ours, [1.0, 2.0, 5.0, 7.0]);
        let shown = format!("{:?}", all.peers);
        assert_eq!(shown, r#"[("peer", [3.0, 4.0, NaN, 9.0]), ("late", [NaN, NaN, 6.0, 8.0])]"#);
        assert_eq!(all.notes, ["slow", "no memory"]);
        let [first, _, without, _] = &of(&passes).passes[..] else { panic!("four passes") };
        assert_eq!((first.ratio_to_best, without.ratio_to_best), (Some(3.0), None));
    }

    #[test]
    fn a_note_with_other_figures_is_the_same_note() {
        let passes =
            ["out 1.5 us", "in 1 us", "out 17.5 us"].map(|note| pass(&[1.0], &[], &[note]));
        assert_eq!(pooled(&passes).notes, ["out 17.5 us", "in 1 us"]);
    }
}
