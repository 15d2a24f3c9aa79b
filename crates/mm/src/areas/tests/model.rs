//! The tree and the gap search against an array of pages.

use crate::areas::gaps::Wanted;
use crate::areas::leaf::Head;
use crate::areas::node::Span;
use crate::areas::tree::Tree;
use alloc::vec::Vec;
use kilburn_addr::VmFlags;
use proptest::prelude::*;

const SPACE: u64 = 600;

/// What an area has that is moved, never copied.
#[derive(Default, PartialEq, Eq, Debug)]
struct Owner(usize);

#[derive(Clone, Copy, Debug)]
enum Step {
    Insert { start: u64, len: u64 },
    Remove { at: u64 },
    Cut { at: u64, hole: u64 },
    Resize { at: u64, start: i64, end: i64 },
    Gap { len: u64, low: u64, high: u64 },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let page = 1..SPACE;
    let step = prop_oneof![
        6 => (page.clone(), 1..6_u64).prop_map(|(start, len)| Step::Insert { start, len }),
        3 => page.clone().prop_map(|at| Step::Remove { at }),
        3 => (page.clone(), 0..3_u64).prop_map(|(at, hole)| Step::Cut { at, hole }),
        2 => (page.clone(), -4..4_i64, -4..4_i64)
            .prop_map(|(at, start, end)| Step::Resize { at, start, end }),
        3 => (1..20_u64, 0..SPACE, 0..=SPACE)
            .prop_map(|(len, low, high)| Step::Gap { len, low, high }),
    ];
    prop::collection::vec(step, 1..400)
}

/// Areas as a sorted list: what the tree must equal.
#[derive(Default)]
struct Naive(Vec<(Span, usize)>);

impl Naive {
    fn is_free(&self, start: u64, end: u64) -> bool {
        self.0.iter().all(|(span, _)| end <= span.start || span.end <= start)
    }

    /// Starts of all free stretches of `len` pages within the limits.
    fn rooms(&self, wanted: Wanted) -> impl Iterator<Item = u64> {
        let last = wanted.high.saturating_sub(wanted.len);
        (wanted.low..=last)
            .filter(move |&start| start + wanted.len <= wanted.high)
            .filter(move |&start| self.is_free(start, start + wanted.len))
    }
}

fn head(number: usize) -> Head<Owner> {
    // Low bits and high ones.
    let bits = number as u64 | (number as u64 & 7) << 40;
    Head { flags: VmFlags::from_bits_retain(bits), slot: number as u32, owner: Owner(number) }
}

/// Pages of the tree for each page of the model, and back.
#[derive(Clone, Copy)]
struct Scale(u64);

impl Scale {
    fn up(self, span: Span) -> Span {
        Span { start: span.start * self.0, end: span.end * self.0 }
    }

    fn down(self, span: Span) -> Span {
        Span { start: span.start / self.0, end: span.end / self.0 }
    }
}

fn compare<const LEAF: usize, const FAN: usize>(
    steps: Vec<Step>,
    scale: Scale,
) -> Result<(), TestCaseError> {
    let mut tree = Tree::<LEAF, FAN, Owner>::new();
    let mut naive = Naive::default();
    for (number, step) in steps.into_iter().enumerate() {
        match step {
            Step::Insert { start, len } => {
                if naive.is_free(start, start + len) {
                    let span = Span { start, end: start + len };
                    tree.insert(scale.up(span), head(number));
                    naive.0.push((span, number));
                    naive.0.sort_by_key(|(span, _)| span.start);
                }
            }
            Step::Remove { at } => {
                let found = naive.0.iter().position(|(span, _)| span.end > at);
                let cursor = tree.near(at * scale.0);
                prop_assert_eq!(cursor, tree.find(at * scale.0));
                let entry = |at| (scale.down(tree.span(at)), tree.slot(at) as usize);
                prop_assert_eq!(cursor.map(entry), found.map(|at| naive.0[at]));
                if let (Some(cursor), Some(found)) = (cursor, found) {
                    let (span, number) = naive.0.remove(found);
                    prop_assert_eq!(tree.remove(cursor), (scale.up(span), head(number)));
                }
            }
            Step::Cut { at, hole } => {
                let inside = |span: &Span| span.start < at && at + hole < span.end;
                let Some(found) = naive.0.iter().position(|(span, _)| inside(span)) else {
                    continue;
                };
                let Span { end, .. } = naive.0[found].0;
                let cursor = tree.near(at * scale.0).expect("the same is in both");
                let upper =
                    tree.cut(cursor, scale.up(Span { start: at, end: at + hole }), head(number));
                prop_assert_eq!(scale.down(tree.span(upper)), Span { start: at + hole, end });
                naive.0[found].0.end = at;
                naive.0.insert(found + 1, (Span { start: at + hole, end }, number));
            }
            Step::Resize { at, start, end } => {
                let Some(found) = naive.0.iter().position(|(span, _)| span.end > at) else {
                    continue;
                };
                let (span, value) = naive.0[found];
                let above = found.checked_sub(1).map_or(0, |at| naive.0[at].0.end);
                let below = naive.0.get(found + 1).map_or(SPACE, |(span, _)| span.start);
                let start = span.start.saturating_add_signed(start);
                let end = span.end.saturating_add_signed(end);
                if above <= start && start < end && end <= below {
                    let cursor = tree.near(at * scale.0).expect("the same is in both");
                    let moved = tree.set_range(cursor, scale.up(Span { start, end }));
                    prop_assert_eq!(scale.down(tree.span(moved)), Span { start, end });
                    naive.0[found] = (Span { start, end }, value);
                }
            }
            Step::Gap { len, low, high } => {
                let wanted = Wanted { len, low, high };
                let [len, low, high] = [len, low, high].map(|pages| pages * scale.0);
                let scaled = Wanted { len, low, high };
                let lowest = tree.lowest_gap(scaled).map(|(start, _)| start / scale.0);
                prop_assert_eq!(lowest, naive.rooms(wanted).next(), "{:?} {:?}", wanted, naive.0);
                let highest = tree.highest_gap(scaled).map(|(_, end)| (end - len) / scale.0);
                prop_assert_eq!(highest, naive.rooms(wanted).last(), "{:?} {:?}", wanted, naive.0);
            }
        }
        prop_assert_eq!(tree.check(), Ok(()));
        prop_assert_eq!(tree.len(), naive.0.len());
    }
    let mut forward = Vec::new();
    let mut cursor = tree.find(0);
    while let Some(at) = cursor {
        prop_assert_eq!(tree.flags(at), head(tree.slot(at) as usize).flags);
        forward.push((scale.down(tree.span(at)), tree.slot(at) as usize));
        cursor = tree.next(at);
    }
    prop_assert_eq!(&forward, &naive.0);
    cursor = tree.find(0);
    while let Some(at) = cursor {
        prop_assert_eq!(tree.owner(at), &Owner(tree.slot(at) as usize));
        cursor = tree.next(at);
    }
    let mut backward = Vec::new();
    let mut cursor = tree.last();
    while let Some(at) = cursor {
        backward.push((scale.down(tree.span(at)), tree.slot(at) as usize));
        cursor = tree.prev(at);
    }
    backward.reverse();
    prop_assert_eq!(&backward, &naive.0);
    Ok(())
}

proptest! {
    #[test]
    fn a_tree_of_small_nodes_is_an_array_of_pages(steps in steps()) {
        compare::<4, 4>(steps, Scale(1))?;
    }

    #[test]
    fn a_tree_of_full_size_nodes_is_an_array_of_pages(steps in steps()) {
        compare::<11, 224>(steps, Scale(1))?;
    }

    /// Areas that end where keys of nodes are counted from.
    #[test]
    fn a_tree_of_areas_that_end_at_bases_is_an_array_of_pages(steps in steps()) {
        compare::<4, 4>(steps, Scale(1 << 16))?;
    }

    /// Leaves that take in what starts within four pages of the model, areas longer than that, and
    /// nodes above that cannot count their ends in 31 bits.
    #[test]
    fn a_tree_of_areas_far_apart_is_an_array_of_pages(steps in steps()) {
        compare::<4, 4>(steps.clone(), Scale(1 << 29))?;
        compare::<11, 224>(steps, Scale(1 << 29))?;
    }
}
