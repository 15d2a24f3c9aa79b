//! Whose turn it is: anonymous or file pages.
//!
//! Linux weighs the two by what reclaiming them cost lately (`mm/vmscan.c: get_scan_count`, `mm/swap.c: lru_note_cost`):
//! refaults of working-set pages and pages that had to be put back count against their kind, and old cost fades. Linux
//! turns the weights into numbers of pages to scan in a batch; victims are chosen one by one here, so [`CostBalance`] turns
//! them into a fair sequence of turns.
//!
//! Neighbours: [`TwoList`](super::TwoList) and [`ByKind`](super::ByKind).

use super::{PageKind, Wanted};

/// Recent cost of reclaiming each kind, and whose turn it is.
#[derive(Clone, Debug, Default)]
pub struct CostBalance {
    cost: [u64; 2],
    /// What file pages are owed, in 1 / 2^16 turns; negative when anonymous pages are.
    owed_to_file: i64,
}

const TURN: i64 = 1 << 16;

/// Index of a kind in an array of two.
pub(super) const fn index(kind: PageKind) -> usize {
    match kind {
        PageKind::Anon => 0,
        PageKind::File => 1,
    }
}

impl CostBalance {
    /// Reclaiming `kind` was in vain or did harm, `pages` times; `total` pages are on the lists.
    pub fn note_cost(&mut self, kind: PageKind, pages: u64, total: u64) {
        self.cost[index(kind)] += pages;
        // Decays once the sum exceeds a quarter of the lists.
        if self.cost[0] + self.cost[1] > total / 4 {
            self.cost = self.cost.map(|cost| cost / 2);
        }
    }

    /// The kind to try first; `len` pages of each kind could go.
    pub fn next(&mut self, wanted: Wanted, len: [u32; 2]) -> PageKind {
        let usable = |kind| wanted.allows(kind) && len[index(kind)] > 0;
        match (usable(PageKind::Anon), usable(PageKind::File)) {
            (true, false) => return PageKind::Anon,
            (false, _) => return PageKind::File,
            (true, true) => {}
        }
        let share = self.file_share(wanted.swappiness);
        self.owed_to_file += share;
        if self.owed_to_file * 2 > TURN {
            self.owed_to_file -= TURN;
            PageKind::File
        } else {
            PageKind::Anon
        }
    }

    /// File pages' share of the turns, in 1 / 2^16.
    fn file_share(&self, swappiness: u8) -> i64 {
        // Each kind's cost counts at least half as much as the other's: one kind is never scanned alone on cost.
        let sum = self.cost[0] + self.cost[1];
        let [anon_cost, file_cost] = self.cost.map(|cost| sum + cost);
        let total = anon_cost + file_cost;
        let swappiness = u64::from(swappiness.min(200));
        let anon = swappiness * (total + 1) / (anon_cost + 1);
        let file = (200 - swappiness) * (total + 1) / (file_cost + 1);
        (file * TURN as u64 / (anon + file).max(1)) as i64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file_turns(balance: &mut CostBalance, swappiness: u8) -> usize {
        let wanted = Wanted { swappiness, ..Wanted::ANY };
        (0..300).filter(|_| balance.next(wanted, [10, 10]) == PageKind::File).count()
    }

    #[test]
    fn without_cost_swappiness_alone_divides_the_turns() {
        assert_eq!(file_turns(&mut CostBalance::default(), 100), 150);
        assert_eq!(file_turns(&mut CostBalance::default(), 60), 210);
        assert_eq!(file_turns(&mut CostBalance::default(), 0), 300);
        assert_eq!(file_turns(&mut CostBalance::default(), 200), 0);
    }

    #[test]
    fn the_kind_that_cost_more_is_reclaimed_less_but_never_spared() {
        let mut balance = CostBalance::default();
        balance.note_cost(PageKind::File, 1000, 1 << 20);
        assert_eq!(file_turns(&mut balance, 100), 100, "one to two");
    }

    #[test]
    fn old_cost_fades() {
        let mut balance = CostBalance::default();
        balance.note_cost(PageKind::File, 1000, 1 << 20);
        for _ in 0..20_000 {
            balance.note_cost(PageKind::Anon, 1, 4000);
        }
        assert_eq!(file_turns(&mut balance, 100), 200, "two to one, the other way round");
    }

    #[test]
    fn only_what_is_wanted_and_there_has_turns() {
        let mut balance = CostBalance::default();
        let file_only = Wanted { anon: false, ..Wanted::ANY };
        assert_eq!(balance.next(file_only, [10, 10]), PageKind::File);
        assert_eq!(balance.next(Wanted::ANY, [10, 0]), PageKind::Anon);
        assert_eq!(balance.next(Wanted::ANY, [0, 10]), PageKind::File);
    }
}
