//! Splitting and merging, drawn: before, what is done, after.

use super::host::{Bare, Kinds, addr, pages};
use crate::areas::{AreaWatch, Areas, Change, Neighbours, Refused, VmaRef};
use alloc::string::String;
use alloc::vec::Vec;
use kilburn_addr::{AddrRange, Errno, PAGE_SIZE, VirtAddr};

const MANY: u32 = 65530;

/// Keeps an index of areas as a file's or device's would be kept.
#[derive(Default)]
struct Index(Vec<AddrRange>);

impl AreaWatch<Bare> for Index {
    fn inserted(&mut self, vma: VmaRef<'_, Bare>) {
        self.0.push(vma.range);
    }
    fn removed(&mut self, vma: VmaRef<'_, Bare>) {
        let at = self.0.iter().position(|range| *range == vma.range).expect("it was there");
        self.0.swap_remove(at);
    }
    fn resized(&mut self, from: AddrRange, vma: VmaRef<'_, Bare>) {
        let at = self.0.iter().position(|range| *range == from).expect("it was there");
        self.0[at] = vma.range;
    }
}

/// Runs `change` on the areas drawn, checks the invariants and what the watch was told, and draws
/// the result.
fn after(before: &str, change: impl FnOnce(&Kinds, &mut Areas<Bare>, &mut Index)) -> String {
    let kinds = Kinds::new();
    let mut areas = kinds.areas(before);
    let mut index = Index(areas.iter().map(|vma| vma.range).collect());
    change(&kinds, &mut areas, &mut index);
    areas.check().expect("invariants hold");
    index.0.sort_by_key(|range| range.start());
    assert_eq!(index.0, areas.iter().map(|vma| vma.range).collect::<Vec<_>>(), "watch: {before}");
    let letters = kinds.picture(&areas);
    for vma in areas.iter() {
        let first = (vma.start().get() - addr(0).get()) / PAGE_SIZE;
        let known = kinds.area(kinds.letter(vma), first, vma.range.pages());
        assert_eq!(vma.pgoff, known.pgoff, "page offset in {letters}");
    }
    letters
}

fn mmap(before: &str, kind: char, first: u64, len: u64) -> String {
    after(before, |kinds, areas, index| {
        let plan = areas.plan_insert(kinds.area(kind, first, len), Neighbours::Both);
        let start = areas.commit_insert(plan, index);
        let holder = areas.containing(start).expect("it is there");
        assert!(holder.range.contains_range(pages(first, len)));
    })
}

#[test]
fn a_new_area_joins_neighbours_that_equal_it() {
    let table = [
        ("AA..", 'A', 2, 1, "AAA"),
        ("..AA", 'A', 1, 1, ".AAA"),
        ("AA.AA", 'A', 2, 1, "AAAAA"),
        ("AA..AA", 'A', 2, 1, "AAA.AA"),
        ("AA.BB", 'A', 2, 1, "AAABB"),
        ("BB.AA", 'A', 2, 1, "BBAAA"),
        ("AA.AA", 'B', 2, 1, "AABAA"),
        ("AA.AA", 'L', 2, 1, "AALAA"),
        ("FF.FF", 'F', 2, 1, "FFFFF"),
        ("FF.GG", 'F', 2, 1, "FFFGG"),
        ("FF.GG", 'A', 2, 1, "FFAGG"),
        ("", 'A', 2, 1, "..A"),
    ];
    for (before, kind, first, len, expect) in table {
        assert_eq!(mmap(before, kind, first, len), expect, "{before} mmap {kind}({first},{len})");
    }
}

#[test]
fn special_areas_never_merge() {
    assert_eq!(mmap("X..", 'X', 1, 1), "X|X");
    assert_eq!(mmap("V.V", 'V', 1, 1), "V|V|V");
}

#[test]
fn owners_of_anonymous_pages_keep_areas_apart() {
    let table = [
        // The unwritten middle takes the owner of either side, and joins equal ones...
        ("aa.AA", 'A', 2, 1, "aaaaa"),
        ("AA.aa", 'A', 2, 1, "aaaaa"),
        ("aa.aa", 'A', 2, 1, "aaaaa"),
        // ... not different ones: then the lower neighbour grows.
        ("aa.bb", 'A', 2, 1, "aaabb"),
        // Areas of a forked child take in nothing that has no owner.
        ("cc.AA", 'A', 2, 1, "ccAAA"),
        ("cc.cc", 'A', 2, 1, "ccAcc"),
        ("cc.dd", 'A', 2, 1, "ccAdd"),
    ];
    for (before, kind, first, len, expect) in table {
        assert_eq!(mmap(before, kind, first, len), expect, "{before} mmap {kind}({first},{len})");
    }
}

#[test]
fn brk_grows_the_area_below_and_never_joins_the_one_above() {
    let brk = |before, neighbours| {
        after(before, |kinds, areas, index| {
            let plan = areas.plan_insert(kinds.area('A', 2, 1), neighbours);
            areas.commit_insert(plan, index);
        })
    };
    assert_eq!(brk("AA.AA", Neighbours::LowerOnly), "AAA|AA");
    assert_eq!(brk("BB.AA", Neighbours::LowerOnly), "BBA|AA");
    assert_eq!(brk("AA.AA", Neighbours::None), "AA|A|AA");
}

fn munmap(before: &str, first: u64, len: u64, max: u32) -> (String, Result<Vec<u64>, Refused>) {
    let mut answer = Ok(Vec::new());
    let drawn = after(before, |_, areas, index| {
        answer = areas.plan_unmap(pages(first, len), max).map(|plan| {
            let mut taken = Vec::new();
            areas.commit_unmap(plan, index, |piece| taken.push(piece.range.pages()));
            taken
        });
        if let Err(refused) = answer {
            areas.leave_split(refused.left_split_at, index);
        }
    });
    (drawn, answer)
}

#[test]
fn unmapping_cuts_what_crosses_the_edges() {
    let table: [(&str, u64, u64, &str, &[u64]); 8] = [
        ("AAAA", 0, 4, "", &[4]),
        ("AAAA", 1, 2, "A..A", &[2]),
        ("AAAA", 0, 2, "..AA", &[2]),
        ("AAAA", 2, 2, "AA", &[2]),
        ("AABBFF", 1, 4, "A....F", &[1, 2, 1]),
        ("AA..BB", 1, 4, "A....B", &[1, 1]),
        ("FFFF", 1, 1, "F.FF", &[1]),
        ("..AA", 0, 2, "..AA", &[]),
    ];
    for (before, first, len, expect, taken) in table {
        let (drawn, answer) = munmap(before, first, len, MANY);
        assert_eq!((drawn.as_str(), answer), (expect, Ok(taken.to_vec())), "{before}");
    }
}

#[test]
fn refused_unmapping_leaves_what_linux_leaves() {
    let refused = |errno, at: Option<u64>| Err(Refused { errno, left_split_at: at.map(addr) });
    let table = [
        // Cut in the middle at the limit: nothing happens; at an edge it is fine.
        ("AAAB", 1, 1, 2, "AAAB", refused(Errno::ENOMEM, None)),
        ("SSS", 1, 1, MANY, "SSS", refused(Errno::EPERM, None)),
        ("AASS", 1, 2, MANY, "A|ASS", refused(Errno::EPERM, Some(1))),
        ("VVV", 1, 2, MANY, "VVV", refused(Errno::EINVAL, None)),
        ("AAVV", 1, 2, MANY, "A|AVV", refused(Errno::EINVAL, Some(1))),
        ("VVSS", 0, 3, MANY, "VVSS", refused(Errno::EPERM, None)),
    ];
    for (before, first, len, max, expect, answer) in table {
        assert_eq!(munmap(before, first, len, max), (expect.into(), answer), "{before}");
    }
    assert_eq!(munmap("AAAB", 0, 1, 2).0, ".AAB");
}

/// Makes the part like `kind`, as mprotect and mlock do.
fn modify(before: &str, first: u64, len: u64, kind: char) -> String {
    after(before, |kinds, areas, index| {
        let change = Change::flags(kinds.area(kind, 0, 1).flags);
        let plan = areas.plan_modify(pages(first, len), change, MANY).expect("room");
        let start = areas.commit_modify(plan, index);
        let holder = areas.containing(start).expect("it is there");
        assert_eq!(holder.start(), start);
        assert!(holder.range.contains_range(pages(first, len)));
    })
}

#[test]
fn a_changed_part_joins_neighbours_that_equal_it() {
    let table = [
        ("BBB", 0, 3, 'A', "AAA"),
        ("BBB", 1, 1, 'A', "BAB"),
        ("BBB", 0, 1, 'A', "ABB"),
        ("BBB", 2, 1, 'A', "BBA"),
        // Linux 6.18 mm/vma.c: vma_merge_existing_range draws these.
        ("AABBAA", 2, 2, 'A', "AAAAAA"),
        ("AABBB", 2, 2, 'A', "AAAAB"),
        ("AABB", 2, 2, 'A', "AAAA"),
        ("BBBAA", 1, 2, 'A', "BAAAA"),
        ("BBAA", 0, 2, 'A', "AAAA"),
        ("AABB.AA", 2, 2, 'A', "AAAA.AA"),
        ("AA.BBAA", 3, 2, 'A', "AA.AAAA"),
        ("AABBBAA", 3, 1, 'A', "AABABAA"),
        ("AABBaa", 2, 2, 'A', "aaaaaa"),
        ("aaBBbb", 2, 2, 'A', "aaaabb"),
        ("ccBBB", 2, 1, 'A', "ccABB"),
    ];
    for (before, first, len, kind, expect) in table {
        assert_eq!(modify(before, first, len, kind), expect, "{before} {kind}({first},{len})");
    }
}

#[test]
fn a_change_at_the_limit_fails_where_linux_fails() {
    let kinds = Kinds::new();
    let change = || Change::flags(kinds.area('A', 0, 1).flags);
    let areas = kinds.areas("BBBB");
    let refused = |max| areas.plan_modify(pages(1, 1), change(), max).err();
    assert_eq!(refused(1), Some(Refused { errno: Errno::ENOMEM, left_split_at: None }));
    let at = Some(addr(1));
    assert_eq!(refused(2), Some(Refused { errno: Errno::ENOMEM, left_split_at: at }));
    assert_eq!(refused(3), None);
    // A merge needs no room.
    assert!(kinds.areas("AABB").plan_modify(pages(2, 1), change(), 2).is_ok());
    let areas = kinds.areas("VVV");
    let refused = areas.plan_modify(pages(1, 1), change(), MANY).err().expect("never split");
    assert_eq!(refused, Refused { errno: Errno::EINVAL, left_split_at: None });
}

#[test]
fn an_area_extends_in_place() {
    let extend = |before, start: u64, by: u64| {
        after(before, |_, areas, index| {
            if let Some(plan) = areas.plan_extend(addr(start), by * PAGE_SIZE) {
                areas.commit_insert(plan, index);
            }
        })
    };
    assert_eq!(extend("AA..", 0, 1), "AAA");
    assert_eq!(extend("AA.AA", 0, 1), "AAAAA");
    assert_eq!(extend("aa.AA", 0, 1), "aaaaa");
    assert_eq!(extend("FF.FF", 0, 1), "FFFFF");
    assert_eq!(extend("XX..", 0, 1), "XX");
}

#[test]
fn a_copied_area_merges_where_its_offsets_fit() {
    let copy = |before, start: u64, to: u64, len: u64| {
        let kinds = Kinds::new();
        let mut areas = kinds.areas(before);
        let plan = areas.plan_copy(addr(start), addr(start), addr(to), len * PAGE_SIZE);
        areas.commit_insert(plan, &mut ());
        areas.check().expect("invariants hold");
        kinds.picture(&areas)
    };
    // Untouched anonymous memory takes the offset of its new place.
    assert_eq!(copy("AA.BB", 0, 5, 2), "AA.BBAA");
    assert_eq!(copy("AA...AA", 0, 3, 2), "AA.AAAA");
    assert_eq!(copy("AA.", 0, 2, 2), "AAAA");
    // Written memory keeps its offset, and a file's pages are where they are.
    assert_eq!(copy("aa.", 0, 2, 2), "aa|aa");
    assert_eq!(copy("FF.", 0, 2, 2), "FF|FF");
}

#[test]
fn stacks_grow_down_to_their_guard_gap() {
    let grow = |before, start: u64, to: u64| {
        let kinds = Kinds::new();
        let mut areas = kinds.areas(before);
        let plan = areas.plan_stack_growth(addr(start), addr(to), VirtAddr::new(0x1_0000));
        if let Ok(plan) = plan {
            assert_eq!(plan.grow_pages, start - to);
            areas.commit_stack_growth(plan, &mut ());
        }
        areas.check().expect("invariants hold");
        (kinds.picture(&areas), plan.err())
    };
    assert_eq!(grow(".....DD", 5, 2), ("..DDDDD".into(), None));
    // Two pages of guard gap, unless the area below grows too.
    assert_eq!(grow("A....DD", 5, 3), ("A..DDDD".into(), None));
    assert_eq!(grow("A....DD", 5, 2), ("A....DD".into(), Some(Errno::ENOMEM)));
    assert_eq!(grow("D....DD", 5, 1), ("D|DDDDDD".into(), None));
    assert_eq!(grow("A....AA", 5, 3), ("A....AA".into(), Some(Errno::EFAULT)));
}

#[test]
fn a_first_write_may_share_the_owner_of_a_neighbour() {
    let kinds = Kinds::new();
    let shared = |before: &str, first: u64| {
        kinds.areas(before).anon_vma_to_share(addr(first)).map(|anon| anon.id())
    };
    assert_eq!(shared("aaAA", 2), Some(1));
    assert_eq!(shared("AAbb", 0), Some(2));
    // The one above is asked first.
    assert_eq!(shared("aaAAbb", 2), Some(2));
    // Differing only in what mprotect changes is near enough; B also lacks ACCOUNT.
    assert_eq!(shared("aaBB", 2), None);
    assert_eq!(shared("aaLL", 2), None);
    assert_eq!(shared("ccAA", 2), None);
    assert_eq!(shared("aa.AA", 3), None);
}
