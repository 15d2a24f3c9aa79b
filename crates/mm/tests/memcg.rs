//! Groups of memory: what is charged to whom, limits, whose pages go, and that the charge of each
//! group is what a walk over all frames and slots counts, after every step.

use kilburn_addr::VirtAddr;
use kilburn_mm::policy::Builtin;
use kilburn_mm::testing::*;
use kilburn_mm::*;
use proptest::prelude::*;
use std::sync::Arc;

const PAGE: u64 = 4096;
const BASE: u64 = 0x1000_0000;
const ROOT: &Caller = &Caller::ROOT;
/// `MAP_PRIVATE` gives way to `MAP_DROPPABLE`.
const DROPPABLE_ANON: u64 = 0x28;

fn machine(frames: u64, slots: usize) -> Arc<Memory<TestHost>> {
    let memory = TestHost::memory(frames);
    if slots > 0 {
        memory.swap_on("swap", TestSwap::new(slots), None).expect("the first area");
    }
    memory
}

/// An address space of a group, with `pages` pages at [`BASE`].
fn process(memory: &Arc<Memory<TestHost>>, memcg: &Memcg, pages: u64) -> Arc<Mm<TestHost>> {
    let mm = TestHost::mm(memory);
    mm.set_memcg(memcg.id());
    mm.map_anon(BASE, pages * PAGE, READ_WRITE, PRIVATE_ANON | FIXED).expect("mapped");
    mm
}

fn fill(mm: &Mm<TestHost>, pages: std::ops::Range<u64>) {
    for page in pages {
        mm.poke(BASE + page * PAGE, page as u8 | 1).expect("room");
    }
}

fn holds(mm: &Mm<TestHost>, pages: std::ops::Range<u64>) {
    for page in pages {
        assert_eq!(mm.peek(BASE + page * PAGE), Ok(page as u8 | 1), "page {page}");
    }
}

#[test]
fn pages_are_charged_to_the_group_and_those_above_until_they_are_freed() {
    let memory = machine(512, 0);
    let outer = memory.create_memcg(MemcgId::ROOT).expect("the first");
    let inner = memory.create_memcg(outer.id()).expect("the second");
    let mm = process(&memory, &inner, 100);
    fill(&mm, 0..60);
    let usage = || (outer.memory().usage(), inner.memory().usage());
    assert_eq!(usage(), (60, 60));
    // What is charged stays where it is when the process moves; what comes later does not.
    mm.set_memcg(outer.id());
    fill(&mm, 60..70);
    assert_eq!(usage(), (70, 60));
    memory.check(&[&mm], &[]).expect("consistent");
    // A child's copies are its group's.
    let child = mm.fork(ROOT).expect("room");
    child.set_memcg(inner.id());
    fill(&child, 0..5);
    assert_eq!(usage(), (75, 65));
    memory.check(&[&mm, &child], &[]).expect("consistent");
    drop((mm, child));
    assert_eq!(usage(), (0, 0));
    assert_eq!((outer.memory().peak(), inner.memory().peak()), (75, 65));
}

#[test]
fn a_group_at_its_limit_swaps_its_own_pages_and_nobody_elses() {
    for policy in Builtin::ALL {
        let memory = machine(2048, 2048);
        let config = policy::PolicyConfig { pages: 2048, capacity: 2048, seed: 1 };
        memory.set_policy(policy.for_reclaim(config));
        let squeezed = memory.create_memcg(MemcgId::ROOT).expect("the first");
        let other = memory.create_memcg(MemcgId::ROOT).expect("the second");
        assert!(memory.set_memcg_max(&squeezed, 100));
        let (a, b) = (process(&memory, &squeezed, 400), process(&memory, &other, 400));
        fill(&b, 0..400);
        for _ in 0..3 {
            fill(&a, 0..400);
            holds(&a, 0..400);
        }
        assert!(squeezed.memory().usage() <= 100 && squeezed.memory().peak() <= 100);
        assert!(squeezed.swap().usage() >= 300, "{policy}");
        assert_eq!((other.memory().usage(), other.swap().usage()), (400, 0), "{policy}");
        assert!(squeezed.events(MemcgEvent::Max) > 0 && other.events(MemcgEvent::Max) == 0);
        let stat = squeezed.vm_stat();
        assert!(stat.pgsteal >= 300 && stat.pgscan >= stat.pgsteal && stat.pgfault > 0);
        assert_eq!(other.vm_stat().pgsteal, 0);
        memory.check(&[&a, &b], &[]).expect("consistent");
        // Memory of the machine is short: both yield.
        let root = TestHost::mm(&memory);
        root.map_anon(BASE, 1900 * PAGE, READ_WRITE, PRIVATE_ANON | FIXED).expect("mapped");
        fill(&root, 0..1900);
        assert!(other.swap().usage() > 0, "{policy}");
        holds(&a, 0..400);
        holds(&b, 0..400);
        holds(&root, 0..1900);
        memory.check(&[&a, &b, &root], &[]).expect("consistent");
        drop((a, b, root));
        assert_eq!((squeezed.memory().usage(), squeezed.swap().usage()), (0, 0));
    }
}

#[test]
fn a_limit_holds_for_all_below_and_names_the_group_at_whose_limit_nothing_can_go() {
    let memory = machine(512, 0);
    let outer = memory.create_memcg(MemcgId::ROOT).expect("the first");
    let [one, two] = [(); 2].map(|()| memory.create_memcg(outer.id()).expect("room"));
    assert!(memory.set_memcg_max(&outer, 50));
    let (a, b) = (process(&memory, &one, 100), process(&memory, &two, 100));
    fill(&a, 0..30);
    fill(&b, 0..20);
    assert_eq!(memory.take_memcg_oom().map(|memcg| memcg.id()), None);
    assert_eq!(b.poke(BASE + 20 * PAGE, 1), Err(Fault::Oom));
    assert_eq!(memory.take_memcg_oom().map(|memcg| memcg.id()), Some(outer.id()));
    assert_eq!(memory.take_memcg_oom().map(|memcg| memcg.id()), None, "it is told once");
    assert_eq!((outer.events(MemcgEvent::Oom), two.events(MemcgEvent::Oom)), (1, 0));
    assert!(memory.counts().free > 300, "the machine has room");
    memory.check(&[&a, &b], &[]).expect("a failed charge leaves nothing");
    drop(a);
    fill(&b, 20..50);
}

#[test]
fn without_a_share_of_swap_pages_stay() {
    let memory = machine(512, 512);
    let memcg = memory.create_memcg(MemcgId::ROOT).expect("the first");
    memcg.swap().set_max(10);
    assert!(memory.set_memcg_max(&memcg, 50));
    let mm = process(&memory, &memcg, 100);
    fill(&mm, 0..60);
    assert_eq!(mm.poke(BASE + 60 * PAGE, 1), Err(Fault::Oom));
    assert_eq!((memcg.swap().usage(), memcg.memory().usage()), (10, 50));
    // To come back a page needs its slot until it is there, and a page of the limit.
    assert_eq!(mm.peek(BASE), Err(Fault::Oom));
    memory.check(&[&mm], &[]).expect("consistent");
    // What is above a new limit and cannot go stays.
    assert!(!memory.set_memcg_max(&memcg, 20));
    assert!(memcg.memory().usage() > 20);
    memcg.swap().set_max(PageCounter::NO_LIMIT);
    assert!(memory.set_memcg_max(&memcg, 20));
    assert!(memcg.memory().usage() <= 20);
    memory.check(&[&mm], &[]).expect("consistent");
}

#[test]
fn droppable_pages_go_first_and_without_swap() {
    let memory = machine(512, 0);
    let memcg = memory.create_memcg(MemcgId::ROOT).expect("the first");
    assert!(memory.set_memcg_max(&memcg, 64));
    let mm = process(&memory, &memcg, 60);
    let droppable = 0x2000_0000;
    mm.map_anon(droppable, 32 * PAGE, READ_WRITE, DROPPABLE_ANON | FIXED).expect("mapped");
    for page in 0..32 {
        mm.poke(droppable + page * PAGE, 7).expect("room");
    }
    fill(&mm, 0..60);
    let left = (0..32).filter(|page| mm.peek(droppable + page * PAGE) == Ok(7)).count();
    assert!(left <= 4, "{left} droppable pages are left");
    holds(&mm, 0..60);
    assert!(memcg.vm_stat().pglazyfreed >= 28);
    memory.check(&[&mm], &[]).expect("consistent");
}

#[test]
fn files_are_charged_to_who_brings_their_pages_in() {
    let memory = machine(512, 64);
    let memcg = memory.create_memcg(MemcgId::ROOT).expect("the first");
    let store = TestStore::with(&vec![5; 80 * PAGE as usize]);
    let file = TestFile::stored(&memory, "/f", store);
    *memory.host().current_memcg.lock() = memcg.id();
    let mut byte = [0];
    for page in 0..40 {
        file.cache().read_at(page * PAGE, &mut byte).expect("readable");
    }
    *memory.host().current_memcg.lock() = MemcgId::ROOT;
    for page in 0..80 {
        file.cache().read_at(page * PAGE, &mut byte).expect("readable");
    }
    assert_eq!(memcg.memory().usage(), 40);
    let pages = memory.memcg_pages(memcg.id(), []);
    assert_eq!((pages.file, pages.anon, pages.shmem, pages.lru.inactive_file), (40, 0, 0, 40));
    assert_eq!(memory.memcg_pages(MemcgId::ROOT, []).file, 80);
    // Only the group's pages go.
    assert!(memory.set_memcg_max(&memcg, 10));
    assert_eq!((memcg.memory().usage(), memory.counts().cached), (10, 50));
    memory.check(&[], &[file.cache()]).expect("consistent");
}

#[test]
fn a_removed_group_lasts_until_its_pages_are_gone_and_its_number_is_used_again() {
    let memory = machine(512, 64);
    let outer = memory.create_memcg(MemcgId::ROOT).expect("the first");
    let inner = memory.create_memcg(outer.id()).expect("the second");
    let mm = process(&memory, &inner, 40);
    fill(&mm, 0..40);
    mm.set_memcg(outer.id());
    let id = inner.id();
    memory.remove_memcg(&inner);
    drop(inner);
    assert_eq!(memory.dying_memcgs(outer.id()), 1);
    assert_eq!(outer.memory().usage(), 40);
    // Its pages are reclaimed for the group above.
    assert!(memory.set_memcg_max(&outer, 8));
    memory.check(&[&mm], &[]).expect("consistent");
    holds(&mm, 0..40);
    drop(mm);
    assert_eq!(memory.dying_memcgs(MemcgId::ROOT), 0);
    assert_eq!(memory.create_memcg(outer.id()).expect("room").id(), id);
}

#[test]
fn above_high_pages_are_reclaimed_and_nobody_fails() {
    let memory = machine(512, 16);
    let memcg = memory.create_memcg(MemcgId::ROOT).expect("the first");
    memory.set_memcg_high(&memcg, 20);
    let mm = process(&memory, &memcg, 100);
    fill(&mm, 0..36);
    assert!(memcg.memory().usage() <= 20, "{memcg:?}");
    // Nothing more can go: usage goes above.
    fill(&mm, 36..100);
    assert_eq!(memcg.memory().usage(), 84);
    assert!(memcg.events(MemcgEvent::High) > 0);
    holds(&mm, 0..100);
    memory.check(&[&mm], &[]).expect("consistent");
}

#[test]
fn threads_of_squeezed_groups_keep_their_bytes_and_charges_add_up() {
    let memory = machine(4096, 8192);
    let outer = memory.create_memcg(MemcgId::ROOT).expect("the first");
    let groups = [(); 2].map(|()| memory.create_memcg(outer.id()).expect("room"));
    let mms: Vec<_> = (0..4).map(|n| process(&memory, &groups[n % 2], 400)).collect();
    // One has a limit of its own, the other grows to several times what its policy was made for.
    assert!(memory.set_memcg_max(&groups[0], 300));
    assert!(memory.set_memcg_max(&outer, 900));
    std::thread::scope(|scope| {
        for mm in &mms {
            scope.spawn(|| {
                for _ in 0..3 {
                    fill(mm, 0..400);
                    holds(mm, 0..400);
                    mm.madvise(ROOT, VirtAddr::new(BASE), 100 * PAGE, 4).expect("dropped");
                    fill(mm, 0..100);
                }
            });
        }
        scope.spawn(|| {
            for _ in 0..50 {
                memory.reclaim_memcg(outer.id(), 20);
            }
        });
    });
    let all: Vec<&Mm<TestHost>> = mms.iter().map(|mm| &**mm).collect();
    assert_eq!(memory.check(&all, &[]), Ok(()));
    assert!(groups[0].memory().peak() <= 300 && outer.memory().peak() <= 900, "{outer:?}");
    mms.iter().for_each(|mm| holds(mm, 0..400));
    drop(mms);
    assert_eq!((outer.memory().usage(), outer.swap().usage()), (0, 0));
}

#[derive(Clone, Debug)]
enum Step {
    Fill(usize, u8),
    Drop(usize, u8),
    Shared(usize, u8),
    Read(usize, u8),
    Move(usize, usize),
    Max(usize, u16),
    High(usize, u16),
    SwapMax(usize, u16),
    Reclaim(usize, u8),
    Fork(usize),
    Renew(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let process = 0..3_usize;
    let memcg = 0..4_usize;
    prop_oneof![
        6 => (process.clone(), any::<u8>()).prop_map(|(p, n)| Step::Fill(p, n)),
        2 => (process.clone(), any::<u8>()).prop_map(|(p, n)| Step::Drop(p, n)),
        2 => (process.clone(), any::<u8>()).prop_map(|(p, n)| Step::Shared(p, n)),
        2 => (memcg.clone(), any::<u8>()).prop_map(|(g, n)| Step::Read(g, n)),
        2 => (process.clone(), memcg.clone()).prop_map(|(p, g)| Step::Move(p, g)),
        2 => (memcg.clone(), 1_u16..300).prop_map(|(g, n)| Step::Max(g, n)),
        1 => (memcg.clone(), 0_u16..300).prop_map(|(g, n)| Step::High(g, n)),
        1 => (memcg.clone(), 0_u16..200).prop_map(|(g, n)| Step::SwapMax(g, n)),
        1 => (memcg.clone(), any::<u8>()).prop_map(|(g, n)| Step::Reclaim(g, n)),
        1 => process.prop_map(Step::Fork),
        1 => memcg.prop_map(Step::Renew),
    ]
}

/// Where shared memory is mapped.
const SHARED: u64 = 0x3000_0000;

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn charges_add_up_whatever_is_moved_limited_and_removed(
        steps in prop::collection::vec(step(), 1..50),
        policy in prop::sample::select(&Builtin::ALL[..]),
    ) {
        let memory = machine(420, 300);
        let config = policy::PolicyConfig { pages: 420, capacity: 420, seed: 1 };
        memory.set_policy(policy.for_reclaim(config));
        let file = TestFile::stored(&memory, "/f", TestStore::with(&vec![5; 256 * PAGE as usize]));
        let outer = memory.create_memcg(MemcgId::ROOT).expect("room");
        let mut memcgs = vec![outer.clone()];
        memcgs.push(memory.create_memcg(outer.id()).expect("room"));
        memcgs.push(memory.create_memcg(outer.id()).expect("room"));
        memcgs.push(memory.create_memcg(MemcgId::ROOT).expect("room"));
        let mut mms: Vec<_> = (0..3).map(|n| process(&memory, &memcgs[n], 256)).collect();
        for mm in &mms {
            mm.map_anon(SHARED, 64 * PAGE, READ_WRITE, SHARED_ANON | FIXED).expect("mapped");
        }
        for step in steps {
            match step {
                Step::Fill(p, n) => {
                    for page in 0..u64::from(n) {
                        if mms[p].poke(BASE + page * PAGE, page as u8 | 1).is_err() {
                            break;
                        }
                    }
                }
                Step::Drop(p, n) => {
                    let len = (u64::from(n) + 1).min(256) * PAGE;
                    let _ = mms[p].madvise(ROOT, VirtAddr::new(BASE), len, 4);
                }
                Step::Shared(p, n) => {
                    *memory.host().current_memcg.lock() = mms[p].memcg();
                    for page in 0..u64::from(n) % 64 {
                        let _ = mms[p].poke(SHARED + page * PAGE, 3);
                    }
                    *memory.host().current_memcg.lock() = MemcgId::ROOT;
                }
                Step::Read(g, n) => {
                    *memory.host().current_memcg.lock() = memcgs[g].id();
                    let mut byte = [0];
                    let _ = file.cache().read_at(u64::from(n) * PAGE, &mut byte);
                    *memory.host().current_memcg.lock() = MemcgId::ROOT;
                }
                Step::Move(p, g) => mms[p].set_memcg(memcgs[g].id()),
                Step::Max(g, n) => {
                    let fits = memory.set_memcg_max(&memcgs[g], n.into());
                    prop_assert_eq!(fits, memcgs[g].memory().usage() <= u64::from(n));
                }
                Step::High(g, n) => memory.set_memcg_high(&memcgs[g], n.into()),
                Step::SwapMax(g, n) => memcgs[g].swap().set_max(n.into()),
                Step::Reclaim(g, n) => {
                    let before = memcgs[g].memory().usage();
                    let went = memory.reclaim_memcg(memcgs[g].id(), n.into());
                    prop_assert_eq!(before - memcgs[g].memory().usage(), went);
                }
                Step::Fork(p) => {
                    if let Ok(child) = mms[p].fork(ROOT) {
                        child.set_memcg(mms[p].memcg());
                        mms[p] = child;
                    }
                }
                Step::Renew(g) => {
                    // The outer one stays: others are below it.
                    if g > 0 && !mms.iter().any(|mm| mm.memcg() == memcgs[g].id()) {
                        memory.remove_memcg(&memcgs[g]);
                        let parent = if g == 3 { MemcgId::ROOT } else { outer.id() };
                        memcgs[g] = memory.create_memcg(parent).expect("room");
                    }
                }
            }
            let all: Vec<&Mm<TestHost>> = mms.iter().map(|mm| &**mm).collect();
            prop_assert_eq!(memory.check(&all, &[file.cache()]), Ok(()));
            for memcg in &memcgs {
                prop_assert!(memcg.memory().peak() >= memcg.memory().usage());
            }
        }
        drop((mms, file));
        for memcg in memcgs {
            prop_assert_eq!((memcg.memory().usage(), memcg.swap().usage()), (0, 0));
        }
        prop_assert_eq!(memory.check(&[], &[]), Ok(()));
    }
}
