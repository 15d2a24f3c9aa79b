//! What peers took where the goals were set.
//!
//! A goal in nanoseconds is worth what the machine is on which it was set. Where a peer was measured beside it there, the goal also
//! says how many times better than that peer ours shall be, and that holds on any machine, in any hour: 250 ns beside
//! Linux's 3,600 are 14.4 times better.

use crate::contest::Unit;

/// What a peer took at a row's work, in the row's unit, where its goal was set.
struct Anchor {
    row: &'static str,
    peer: &'static str,
    took: f64,
}

const fn anchor(row: &'static str, peer: &'static str, took: f64) -> Anchor {
    Anchor { row, peer, took }
}

const TABLES: &str = "page_table_multiarch";

const ANCHORS: &[Anchor] = &[
    anchor("find an area, range and rights", "rangemap", 84.0),
    anchor("split: cut a page out of an area", "rangemap", 531.0),
    anchor("remove an area", "rangemap", 408.0),
    anchor("frame: alloc + free", "bitmap-allocator", 14.0),
    anchor("map one page, in order", TABLES, 3.1),
    anchor("unmap one page, in order", TABLES, 1.4),
    anchor("query one page, in order", TABLES, 1.4),
    anchor("query one page, at random", TABLES, 2.4),
    anchor("mmap + munmap 4 KiB", "Linux", 3_600.0),
    anchor("mmap + munmap 4 KiB, 50,000 areas", "Linux", 3_870.0),
    anchor("mmap + touch + munmap", "Linux", 6_730.0),
    anchor("anonymous write fault, 256 KiB at a time", "Linux", 1_220.0),
    anchor("munmap, per populated page, 2 MiB", "Linux", 240.0),
    anchor("fork of 1 GiB touched, per page", "Linux", 147.0),
    anchor("anonymous write faults, 256 KiB at a time, 2 threads in one Mm by 1", "Linux", 1.99),
    anchor("mmap + munmap, 2 threads in one Mm by 1", "Linux", 1.03),
    anchor("mmap + touch + munmap, 2 threads in one Mm by 1", "Linux", 0.42),
    anchor("a page out through lz4 and in: one word, but for a byte", "zram", 12_500.0),
];

/// The peer that the goal of a row was set beside, and how many times better than it ours shall be.
pub fn goal_beside(row: &str, unit: Unit, goal: f64) -> Option<(&'static str, f64)> {
    let anchor = ANCHORS.iter().find(|anchor| anchor.row == row)?;
    Some((anchor.peer, unit.advantage(goal, anchor.took)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_anchor_has_a_row_with_a_goal() {
        let all = crate::all();
        for anchor in ANCHORS {
            let work = all.iter().find(|work| work.name == anchor.row).expect(anchor.row);
            assert!(work.goal.is_some(), "{}", anchor.row);
        }
    }

    #[test]
    fn a_goal_is_as_much_better_as_it_was_where_it_was_set() {
        let beside = goal_beside("mmap + munmap 4 KiB", Unit::Nanoseconds, 250.0);
        assert_eq!(beside, Some(("Linux", 14.4)));
        assert_eq!(goal_beside("no such row", Unit::Nanoseconds, 1.0), None);
    }
}
