//! Memory is short: what was written is read again, byte for byte, whatever went to swap and back,
//! whatever failed; every invariant holds after every step.

use kilburn_addr::{Errno, VirtAddr};
use kilburn_mm::policy::Builtin;
use kilburn_mm::testing::*;
use kilburn_mm::*;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;

const PAGE: u64 = 4096;
const BASE: u64 = 0x1000_0000;
const SHARED: u64 = 0x2000_0000;
const ROOT: &Caller = &Caller::ROOT;
const MAP_SHARED: u64 = 1;

/// A machine of `frames` frames with `slots` slots of swap.
fn machine(frames: u64, slots: usize) -> (Arc<Memory<TestHost>>, Arc<TestSwap>) {
    let memory = TestHost::memory(frames);
    let swap = TestSwap::new(slots);
    memory.swap_on("swap", swap.clone(), None).expect("the first area");
    (memory, swap)
}

fn map(mm: &Mm<TestHost>, at: u64, pages: u64, flags: u64) {
    mm.map_anon(at, pages * PAGE, READ_WRITE, flags | FIXED).expect("mapped");
}

fn at(page: u64) -> u64 {
    BASE + page * PAGE
}

/// Fills pages with what tells them apart, over the whole page.
fn fill(mm: &Mm<TestHost>, page: u64, byte: u8) {
    let bytes: Vec<u8> = (0..PAGE).map(|i| byte.wrapping_add((i / 64) as u8)).collect();
    mm.write(ROOT, VirtAddr::new(at(page)), &bytes).expect("room");
}

fn holds(mm: &Mm<TestHost>, page: u64, byte: u8) -> bool {
    let mut bytes = vec![0; PAGE as usize];
    mm.read(ROOT, VirtAddr::new(at(page)), &mut bytes).expect("readable");
    bytes.iter().enumerate().all(|(i, &b)| b == byte.wrapping_add((i / 64) as u8))
}

#[test]
fn a_working_set_of_four_times_memory_comes_back_under_every_policy() {
    for policy in Builtin::ALL {
        let (memory, _) = machine(256, 2048);
        let config = policy::PolicyConfig { pages: 256, capacity: 256, seed: 1 };
        memory.set_policy(policy.for_reclaim(config));
        let mm = TestHost::mm(&memory);
        map(&mm, BASE, 1024, PRIVATE_ANON);
        for round in 0..3 {
            for page in 0..1024 {
                fill(&mm, page, (page * 7 + round) as u8);
            }
            for page in 0..1024 {
                assert!(
                    holds(&mm, page, (page * 7 + round) as u8),
                    "{} page {page}",
                    policy.name()
                );
            }
        }
        let stat = memory.vm_stat();
        assert!(stat.pswpout > 768 && stat.pswpin > 768, "{}: {stat:?}", policy.name());
        assert!(stat.workingset_refault_anon > 0 || policy == Builtin::Random || stat.pswpin > 0);
        memory.check(&[&mm], &[]).expect("consistent");
        drop(mm);
        let counts = memory.counts();
        assert_eq!((counts.free, counts.swap_free), (counts.total - 1, 2048));
    }
}

#[test]
fn pages_that_were_only_read_since_they_came_back_are_not_written_again() {
    let (memory, _) = machine(256, 4096);
    let mm = TestHost::mm(&memory);
    map(&mm, BASE, 600, PRIVATE_ANON);
    for page in 0..600 {
        fill(&mm, page, page as u8);
    }
    let written = memory.vm_stat().pswpout;
    for _ in 0..3 {
        for page in 0..600 {
            assert!(holds(&mm, page, page as u8));
        }
    }
    let stat = memory.vm_stat();
    assert!(stat.pswpin > 1000, "{stat:?}");
    // Only what had never been out before.
    assert!(stat.pswpout <= written + 256, "{written} before, {stat:?}");
}

#[test]
fn a_page_shared_by_fork_goes_once_and_comes_back_for_both() {
    let (memory, swap) = machine(1024, 64);
    let parent = TestHost::mm(&memory);
    map(&parent, BASE, 1, PRIVATE_ANON);
    fill(&parent, 0, 5);
    let child = parent.fork(ROOT).expect("room");
    memory.check(&[&parent, &child], &[]).expect("consistent");
    // MADV_PAGEOUT leaves shared pages alone.
    parent.madvise(ROOT, VirtAddr::new(BASE), PAGE, 21).expect("advised");
    assert_eq!(memory.vm_stat().pswpout, 0);
    while memory.vm_stat().pswpout == 0 {
        assert!(memory.reclaim_pages(1) > 0);
    }
    assert_eq!((parent.status().vm_swap, child.status().vm_swap), (PAGE, PAGE));
    assert_eq!(swap.written(), 1);
    memory.check(&[&parent, &child], &[]).expect("consistent");
    assert!(holds(&child, 0, 5));
    fill(&child, 0, 9);
    assert!(holds(&parent, 0, 5) && holds(&child, 0, 9));
    memory.check(&[&parent, &child], &[]).expect("consistent");
    assert_eq!(swap.written(), 1, "the parent's page need not be written again");
    fill(&parent, 0, 6);
    assert_eq!(swap.written(), 0, "what is in swap is stale, the slot is free");
    assert!(holds(&parent, 0, 6) && holds(&child, 0, 9));
    memory.check(&[&parent, &child], &[]).expect("consistent");
}

#[test]
fn a_locked_page_stays() {
    let (memory, _) = machine(128, 512);
    let mm = TestHost::mm(&memory);
    map(&mm, BASE, 300, PRIVATE_ANON);
    fill(&mm, 0, 1);
    mm.mlock(ROOT, VirtAddr::new(BASE), PAGE).expect("locked");
    for page in 1..300 {
        fill(&mm, page, page as u8);
    }
    let mut incore = Vec::new();
    mm.mincore(VirtAddr::new(BASE), 300 * PAGE, &mut incore).expect("mapped");
    assert_eq!(incore[0], 1);
    assert!(incore.iter().filter(|&&in_memory| in_memory == 0).count() > 150);
    assert!(memory.vm_stat().unevictable_pgs_culled > 0);
    memory.check(&[&mm], &[]).expect("consistent");
}

#[test]
fn shared_memory_goes_to_swap_and_comes_back() {
    let (memory, _) = machine(128, 512);
    let mm = TestHost::mm(&memory);
    let file = TestFile::shmem(&memory, "/shm", &[]);
    for page in 0..300_u64 {
        let bytes = vec![page as u8; PAGE as usize];
        file.cache().write_at(page * PAGE, &bytes).expect("room");
    }
    assert!(file.cache().swapped_pages() > 150);
    let shared = mm.map_file(&file, 300 * PAGE, READ_WRITE, 1, 0).expect("mapped");
    for page in 0..300 {
        assert_eq!(mm.peek(shared.get() + page * PAGE), Ok(page as u8));
    }
    let child = mm.fork(ROOT).expect("room");
    mm.poke(shared.get(), 77).expect("writable");
    for page in 1..300 {
        assert_eq!(child.peek(shared.get() + page * PAGE), Ok(page as u8));
    }
    assert_eq!(child.peek(shared.get()), Ok(77));
    memory.check(&[&mm, &child], &[file.cache()]).expect("consistent");
    file.cache().truncate(10 * PAGE + 5).expect("shrunk");
    assert!(file.cache().allocated_pages() <= 11);
    memory.check(&[&mm, &child], &[file.cache()]).expect("consistent");
}

#[test]
fn a_slot_that_cannot_be_written_leaves_the_page_in_memory() {
    for errno in [Errno::EIO, Errno::ENOSPC] {
        let (memory, swap) = machine(128, 512);
        let mm = TestHost::mm(&memory);
        map(&mm, BASE, 300, PRIVATE_ANON);
        *swap.write_error.lock() = Some(errno);
        let mut filled = 0;
        let bytes = [3; PAGE as usize];
        while mm.write(ROOT, VirtAddr::new(at(filled)), &bytes).is_ok() {
            filled += 1;
        }
        assert!((80..128).contains(&filled), "{filled} pages fit");
        assert!(memory.vm_stat().swap_write_errors > 0);
        memory.check(&[&mm], &[]).expect("consistent");
        *swap.write_error.lock() = None;
        for page in filled..300 {
            fill(&mm, page, page as u8);
        }
        for page in 0..filled {
            assert_eq!(mm.peek(at(page)), Ok(3));
        }
        for page in filled..300 {
            assert!(holds(&mm, page, page as u8));
        }
    }
}

#[test]
fn a_slot_that_cannot_be_read_is_a_bus_error_until_it_can() {
    let (memory, swap) = machine(1024, 64);
    let mm = TestHost::mm(&memory);
    map(&mm, BASE, 2, PRIVATE_ANON);
    fill(&mm, 0, 4);
    mm.madvise(ROOT, VirtAddr::new(BASE), PAGE, 21).expect("paged out");
    assert_eq!(mm.status().vm_swap, PAGE);
    *swap.read_error.lock() = Some(Errno::EIO);
    assert_eq!(mm.peek(BASE), Err(Fault::Bus));
    assert_eq!(mm.poke(BASE, 1), Err(Fault::Bus));
    memory.check(&[&mm], &[]).expect("consistent");
    assert_eq!(memory.swap_off("swap"), Err(Errno::EIO), "the page cannot come home");
    memory.check(&[&mm], &[]).expect("consistent");
    *swap.read_error.lock() = None;
    assert!(holds(&mm, 0, 4));
    assert_eq!(memory.swap_off("swap"), Ok(()));
}

#[test]
fn swapoff_brings_everything_home_or_leaves_it_in_use() {
    let (memory, _) = machine(256, 1024);
    let mm = TestHost::mm(&memory);
    map(&mm, BASE, 400, PRIVATE_ANON);
    for page in 0..400 {
        fill(&mm, page, page as u8);
    }
    assert_eq!(memory.swap_off("swap"), Err(Errno::ENOMEM), "more than memory");
    memory.check(&[&mm], &[]).expect("consistent");
    mm.munmap(VirtAddr::new(at(100)), 300 * PAGE).expect("mapped");
    assert_eq!(memory.swap_off("swap"), Ok(()));
    assert_eq!(memory.swap_off("swap"), Err(Errno::EINVAL));
    assert_eq!((memory.counts().swap_total, memory.counts().swap_free), (0, 0));
    memory.check(&[&mm], &[]).expect("consistent");
    for page in 0..100 {
        assert!(holds(&mm, page, page as u8));
    }
}

#[test]
fn higher_priority_is_filled_first_and_equals_take_turns() {
    let memory = TestHost::memory(1024);
    for (name, slots, priority) in [("low", 8, 1), ("high", 4, 10), ("b", 2, 5), ("c", 2, 5)] {
        memory.swap_on(name, TestSwap::new(slots), Some(priority)).expect("room");
    }
    let mm = TestHost::mm(&memory);
    map(&mm, BASE, 10, PRIVATE_ANON);
    let used = |count: u64| {
        for page in 0..count {
            fill(&mm, page, 1);
        }
        mm.madvise(ROOT, VirtAddr::new(BASE), count * PAGE, 21).expect("paged out");
        memory.swap_areas().iter().map(|area| area.used).collect::<Vec<_>>()
    };
    assert_eq!(used(3), [0, 3, 0, 0]);
    mm.munmap(VirtAddr::new(BASE), 10 * PAGE).expect("mapped");
    map(&mm, BASE, 10, PRIVATE_ANON);
    assert_eq!(used(6), [0, 4, 1, 1]);
    memory.check(&[&mm], &[]).expect("consistent");
}

/// Names and priorities, in the order of /proc/swaps.
fn priorities(memory: &Memory<TestHost>) -> Vec<(String, i16)> {
    memory.swap_areas().into_iter().map(|area| (area.name, area.priority)).collect()
}

#[test]
fn default_priorities_close_up_as_areas_are_switched_off() {
    let memory = TestHost::memory(64);
    let on = |name: &str, priority| {
        memory.swap_on(name, TestSwap::new(4), priority).expect("room");
    };
    let are = |expected: &[(&str, i16)]| {
        let expected: Vec<_> = expected.iter().map(|&(name, p)| (name.to_owned(), p)).collect();
        assert_eq!(priorities(&memory), expected);
    };
    on("a", None);
    on("b", None);
    on("c", Some(3));
    on("d", None);
    are(&[("a", -2), ("b", -3), ("c", 3), ("d", -4)]);
    memory.swap_off("a").expect("empty");
    are(&[("b", -2), ("c", 3), ("d", -3)]);
    memory.swap_off("c").expect("empty");
    on("e", None);
    are(&[("e", -4), ("b", -2), ("d", -3)]);
    for name in ["b", "d", "e"] {
        memory.swap_off(name).expect("empty");
    }
    on("f", None);
    are(&[("f", -2)]);
}

#[test]
fn an_area_that_could_not_be_emptied_comes_last_again() {
    let memory = TestHost::memory(1024);
    let failing = TestSwap::new(64);
    memory.swap_on("a", failing.clone(), None).expect("room");
    memory.swap_on("b", TestSwap::new(64), None).expect("room");
    let mm = TestHost::mm(&memory);
    map(&mm, BASE, 1, PRIVATE_ANON);
    fill(&mm, 0, 4);
    mm.madvise(ROOT, VirtAddr::new(BASE), PAGE, 21).expect("paged out");
    *failing.read_error.lock() = Some(Errno::EIO);
    assert_eq!(memory.swap_off("a"), Err(Errno::EIO));
    assert_eq!(priorities(&memory), [("a".to_owned(), -3), ("b".to_owned(), -2)]);
    memory.check(&[&mm], &[]).expect("consistent");
}

#[test]
fn nobody_but_swap_changes_a_file_that_swap_lies_in() {
    let memory = TestHost::memory(256);
    let store = TestStore::with(&[1; 3 * PAGE as usize]);
    let file = TestFile::stored(&memory, "/swap", store.clone());
    let mm = TestHost::mm(&memory);
    let map = || mm.map_file(&file, 2 * PAGE, READ_WRITE, MAP_SHARED, 0);
    let at = map().expect("mapped before").get();
    mm.poke(at, 7).expect("writable");
    file.cache().begin_swap_file().expect("the first");
    assert_eq!(store.0.lock()[0], 7, "what was dirty is in the store");
    assert_eq!(file.cache().begin_swap_file(), Err(Errno::EBUSY));
    assert_eq!(file.cache().write_at(0, &[2]), Err(Errno::ETXTBSY));
    assert_eq!(file.cache().write_at(0, &[]), Err(Errno::ETXTBSY));
    assert_eq!(file.cache().truncate(3 * PAGE), Err(Errno::ETXTBSY));
    assert_eq!(file.cache().truncate(0), Err(Errno::ETXTBSY));
    assert_eq!(map(), Err(Errno::ETXTBSY));
    assert_eq!((mm.poke(at, 8), mm.peek(at)), (Err(Fault::Bus), Ok(7)));
    assert_eq!(mm.poke(at + PAGE, 8), Err(Fault::Bus), "a page not looked at before");
    file.cache().truncate(4 * PAGE).expect("it may grow");
    file.cache().end_swap_file();
    mm.poke(at, 8).expect("writable again");
    file.cache().truncate(PAGE).expect("it may shrink again");
    memory.check(&[&mm], &[file.cache()]).expect("consistent");
}

#[test]
fn given_up_content_is_dropped_unless_written_again() {
    let (memory, _) = machine(128, 512);
    let mm = TestHost::mm(&memory);
    map(&mm, BASE, 400, PRIVATE_ANON);
    for page in 0..60 {
        fill(&mm, page, 9);
    }
    mm.madvise(ROOT, VirtAddr::new(BASE), 60 * PAGE, 8).expect("MADV_FREE");
    fill(&mm, 7, 11);
    for page in 60..400 {
        fill(&mm, page, page as u8);
    }
    assert!(holds(&mm, 7, 11), "written after it was given up");
    assert!(memory.vm_stat().pglazyfreed > 30, "{:?}", memory.vm_stat());
    memory.check(&[&mm], &[]).expect("consistent");
}

#[test]
fn pages_of_files_go_first_when_there_is_no_swap() {
    let memory = TestHost::memory(128);
    let mm = TestHost::mm(&memory);
    let content: Vec<u8> = (0..200 * PAGE).map(|i| (i / PAGE) as u8).collect();
    let file = TestFile::stored(&memory, "/f", TestStore::with(&content));
    let mapped = mm.map_file(&file, 200 * PAGE, READ_WRITE, 1, 0).expect("mapped").get();
    map(&mm, BASE, 60, PRIVATE_ANON);
    for page in 0..60 {
        fill(&mm, page, page as u8);
    }
    for page in 0..200 {
        mm.poke(mapped + page * PAGE + 1, 200).expect("writable");
    }
    for page in 0..200 {
        assert_eq!(mm.peek(mapped + page * PAGE), Ok(page as u8));
        assert_eq!(mm.peek(mapped + page * PAGE + 1), Ok(200));
    }
    for page in 0..60 {
        assert!(holds(&mm, page, page as u8));
    }
    let stat = memory.vm_stat();
    assert!(stat.pgsteal_file > 200 && stat.workingset_refault_file > 0, "{stat:?}");
    memory.check(&[&mm], &[file.cache()]).expect("consistent");
}

#[derive(Clone, Debug)]
enum Op {
    Write { page: u64, byte: u8 },
    Read { page: u64 },
    WriteShared { page: u64, byte: u8 },
    ReadShared { page: u64 },
    Fork,
    Exit,
    Unmap { page: u64, pages: u64 },
    Move { page: u64, to: u64 },
    PageOut { page: u64, pages: u64 },
    Lock { page: u64 },
    Unlock { page: u64 },
    Force { page: u64, byte: u8 },
    Balance,
    Reclaim { pages: u64 },
    FailWrites(bool),
    FailReads(bool),
    SwapOff,
    SwapOn,
}

const PAGES: u64 = 40;
/// Where in a page its byte is.
const OFFSET: u64 = 100;
const SHARED_PAGES: u64 = 12;

fn ops() -> impl Strategy<Value = Vec<(usize, Op)>> {
    let page = 0..PAGES;
    let shared = 0..SHARED_PAGES;
    let op = prop_oneof![
        12 => (page.clone(), any::<u8>()).prop_map(|(page, byte)| Op::Write { page, byte }),
        8 => page.clone().prop_map(|page| Op::Read { page }),
        3 => (shared.clone(), any::<u8>()).prop_map(|(page, byte)| Op::WriteShared { page, byte }),
        3 => shared.prop_map(|page| Op::ReadShared { page }),
        3 => Just(Op::Fork),
        1 => Just(Op::Exit),
        1 => (page.clone(), 1_u64..6).prop_map(|(page, pages)| Op::Unmap { page, pages }),
        2 => (page.clone(), page.clone()).prop_map(|(page, to)| Op::Move { page, to }),
        3 => (page.clone(), 1_u64..12).prop_map(|(page, pages)| Op::PageOut { page, pages }),
        1 => page.clone().prop_map(|page| Op::Lock { page }),
        1 => page.clone().prop_map(|page| Op::Unlock { page }),
        1 => (page, any::<u8>()).prop_map(|(page, byte)| Op::Force { page, byte }),
        1 => Just(Op::Balance),
        3 => (1_u64..20).prop_map(|pages| Op::Reclaim { pages }),
        1 => any::<bool>().prop_map(Op::FailWrites),
        1 => any::<bool>().prop_map(Op::FailReads),
        1 => Just(Op::SwapOff),
        2 => Just(Op::SwapOn),
    ];
    prop::collection::vec((0_usize..4, op), 1..150)
}

/// What a page was last written to, by page.
type Bytes = BTreeMap<u64, u8>;

/// What the guest must see: private pages by address space, shared pages once.
struct World {
    memory: Arc<Memory<TestHost>>,
    swap: Arc<TestSwap>,
    mms: Vec<(Arc<Mm<TestHost>>, Bytes)>,
    shared: Bytes,
}

/// Whether an access may fail so: without memory, or because the injected read failed.
fn excused(fault: Fault) -> bool {
    matches!(fault, Fault::Oom | Fault::Bus)
}

impl World {
    fn new(policy: Builtin) -> Self {
        let (memory, swap) = machine(96, 160);
        let config = policy::PolicyConfig { pages: 96, capacity: 96, seed: 1 };
        memory.set_policy(policy.for_reclaim(config));
        let mm = TestHost::mm(&memory);
        map(&mm, BASE, PAGES, PRIVATE_ANON);
        map(&mm, SHARED, SHARED_PAGES, SHARED_ANON);
        Self { memory, swap, mms: vec![(mm, BTreeMap::new())], shared: BTreeMap::new() }
    }

    fn step(&mut self, who: usize, op: &Op) -> Result<(), String> {
        let count = self.mms.len();
        let who = who % count;
        let (mm, private) = &mut self.mms[who];
        match *op {
            Op::Write { page, byte } => match mm.poke(at(page) + OFFSET, byte) {
                Ok(()) => drop(private.insert(page, byte)),
                Err(fault) if excused(fault) => {}
                Err(fault) => return Err(format!("{fault:?}")),
            },
            Op::Read { page } => compare(mm.peek(at(page) + OFFSET), private.get(&page))?,
            Op::WriteShared { page, byte } => match mm.poke(SHARED + page * PAGE, byte) {
                Ok(()) => drop(self.shared.insert(page, byte)),
                Err(fault) if excused(fault) => {}
                Err(fault) => return Err(format!("{fault:?}")),
            },
            Op::ReadShared { page } => {
                compare(mm.peek(SHARED + page * PAGE), self.shared.get(&page))?;
            }
            Op::Fork if count < 4 => {
                if let Ok(child) = mm.fork(ROOT) {
                    let copy = private.clone();
                    self.mms.push((child, copy));
                }
            }
            Op::Exit if count > 1 => drop(self.mms.remove(who)),
            Op::Unmap { page, pages } => {
                mm.munmap(VirtAddr::new(at(page)), pages * PAGE).expect("in range");
                private.retain(|&p, _| !(page..page + pages).contains(&p));
                map(mm, at(page), pages.min(PAGES - page), PRIVATE_ANON);
            }
            Op::Move { page, to } if page != to => {
                let (from, target) = (VirtAddr::new(at(page)), VirtAddr::new(at(to)));
                // MAYMOVE | FIXED
                if mm.mremap(ROOT, from, PAGE, PAGE, 3, target).is_ok() {
                    match private.remove(&page) {
                        Some(byte) => private.insert(to, byte),
                        None => private.remove(&to),
                    };
                    map(mm, at(page), 1, PRIVATE_ANON);
                }
            }
            Op::PageOut { page, pages } => {
                let _ = mm.madvise(ROOT, VirtAddr::new(at(page)), pages * PAGE, 21);
            }
            Op::Lock { page } => drop(mm.mlock(ROOT, VirtAddr::new(at(page)), PAGE)),
            Op::Unlock { page } => drop(mm.munlock(VirtAddr::new(at(page)), PAGE)),
            Op::Force { page, byte } => {
                let place = VirtAddr::new(at(page) + OFFSET);
                if mm.write_remote(place, &[byte], RemoteRights::Forced) == 1 {
                    private.insert(page, byte);
                }
            }
            Op::Balance => drop(self.memory.balance()),
            Op::Reclaim { pages } => drop(self.memory.reclaim_pages(pages)),
            Op::FailWrites(fail) => *self.swap.write_error.lock() = fail.then_some(Errno::EIO),
            Op::FailReads(fail) => *self.swap.read_error.lock() = fail.then_some(Errno::EIO),
            Op::SwapOff => drop(self.memory.swap_off("swap")),
            Op::SwapOn => drop(self.memory.swap_on("swap", self.swap.clone(), None)),
            _ => {}
        }
        Ok(())
    }

    fn check(&self) -> Result<(), Violation> {
        let mms: Vec<_> = self.mms.iter().map(|(mm, _)| &**mm).collect();
        self.memory.check(&mms, &[])
    }
}

fn compare(found: Result<u8, Fault>, expected: Option<&u8>) -> Result<(), String> {
    match (found, expected) {
        (Ok(found), Some(&expected)) if found != expected => {
            Err(format!("wrong byte: {found}, not {expected}"))
        }
        (Ok(found), None) if found != 0 => Err(format!("wrong byte: {found} in an untouched page")),
        (Err(fault), Some(_)) if !excused(fault) => Err(format!("{fault:?}")),
        _ => Ok(()),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_byte_is_ever_wrong(policy in 0_usize..9, steps in ops()) {
        let mut world = World::new(Builtin::ALL[policy]);
        for (i, (who, op)) in steps.iter().enumerate() {
            if let Err(what) = world.step(*who, op) {
                return Err(TestCaseError::fail(format!("step {i} {op:?}: {what}")));
            }
            if let Err(violation) = world.check() {
                return Err(TestCaseError::fail(format!("step {i} {op:?}: {violation}")));
            }
        }
        *world.swap.read_error.lock() = None;
        for (mm, private) in &world.mms {
            for page in 0..PAGES {
                if let Err(what) = compare(mm.peek(at(page) + OFFSET), private.get(&page)) {
                    return Err(TestCaseError::fail(format!("in the end, page {page}: {what}")));
                }
            }
        }
        let World { memory, mms, .. } = world;
        drop(mms);
        let counts = memory.counts();
        prop_assert_eq!(counts.free, counts.total - 1);
        prop_assert_eq!(counts.swap_free, counts.swap_total);
    }
}

#[test]
fn dropping_the_page_cache_takes_what_is_clean_and_not_mapped() {
    let memory = TestHost::memory(512);
    let mm = TestHost::mm(&memory);
    let file = TestFile::stored(&memory, "/f", TestStore::with(&[5; 8 * PAGE as usize]));
    let mut bytes = [0; 8 * PAGE as usize];
    file.cache().read_at(0, &mut bytes).expect("stored");
    let free = memory.counts().free;
    let mapped = mm.map_file(&file, PAGE, READ_WRITE, 1, 0).expect("mapped").get();
    assert_eq!(mm.peek(mapped), Ok(5));
    file.cache().write_at(7 * PAGE, &[6]).expect("room");
    memory.drop_page_cache();
    let cached: Vec<u64> = (0..8).filter(|&page| file.cache().is_cached(page)).collect();
    assert_eq!(cached, [0, 7], "one is mapped, one is dirty");
    assert_eq!((memory.counts().cached, memory.vm_stat().drop_pagecache), (2, 1));
    assert!(memory.counts().free > free);
    file.cache().read_at(0, &mut bytes).expect("stored");
    assert_eq!((bytes[3 * PAGE as usize], bytes[7 * PAGE as usize]), (5, 6));
    memory.check(&[&mm], &[]).expect("consistent");
}
