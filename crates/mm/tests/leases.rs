//! Parts of an address space with locks of their own: calls answer what they do without, and threads
//! at work in regions of their own and in each other's leave what they meant to.

use kilburn_addr::{Access, Errno, VirtAddr};
use kilburn_mm::config::Leasing;
use kilburn_mm::testing::*;
use kilburn_mm::*;
use proptest::prelude::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

const PAGE: u64 = 4096;
const REGION: u64 = 64 << 20;
const ROOT: &Caller = &Caller::ROOT;
const ANON: u64 = 0x22;
const FIXED: u64 = 0x10;
const NOREPLACE: u64 = 0x10_0000;
const GROWSDOWN: u64 = 0x100;

fn machine(frames: u64, leasing: Leasing) -> (Arc<Memory<TestHost>>, Arc<Mm<TestHost>>) {
    let memory = TestHost::memory_with(frames, |config| config.leasing = leasing);
    let mm = TestHost::mm(&memory);
    (memory, mm)
}

fn map(mm: &Mm<TestHost>, addr: u64, pages: u64, prot: u64, flags: u64) -> Result<VirtAddr, Errno> {
    let request =
        MmapRequest { addr, len: pages * PAGE, prot, flags: ANON | flags, file: None, offset: 0 };
    mm.mmap(ROOT, request)
}

fn maps(mm: &Mm<TestHost>) -> String {
    let mut text = String::new();
    mm.write_maps(&mut text).expect("strings take everything");
    text
}

/// What of an address space does not depend on leases. The highest moments of leases are told as one,
/// and tables beyond a region stay until it is given back.
fn told(mm: &Mm<TestHost>) -> (String, MmStatus, Usage) {
    let mut status = mm.status();
    status.vm_peak = 0;
    status.vm_pte = 0;
    (maps(mm), status, mm.usage())
}

#[derive(Clone, Debug)]
enum Op {
    Map { at: u64, pages: u64, prot: u64, flags: u64 },
    Unmap { at: u64, pages: u64 },
    Protect { at: u64, pages: u64, prot: u64 },
    Advise { at: u64, pages: u64, advice: i32 },
    Touch { at: u64, write: bool },
    Move { at: u64, to: u64 },
    Lock { at: u64 },
    Look,
    Fork,
}

/// Addresses about the ends of regions: two that adjoin, and one that has the first one's slot.
fn address() -> impl Strategy<Value = u64> {
    let base = prop_oneof![Just(16), Just(17), Just(17), Just(18), Just(16 + 65)];
    (base, -20_i64..40)
        .prop_map(|(region, page)| (region * REGION).wrapping_add_signed(page * 4096))
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let at = address;
    let pages = prop_oneof![9 => 1_u64..9, 1 => Just(REGION / PAGE + 7)];
    let prot = prop_oneof![4 => Just(3_u64), 1 => Just(1_u64), 1 => Just(0_u64)];
    let flags = prop_oneof![
        6 => Just(FIXED), 3 => Just(0), 2 => Just(NOREPLACE), 1 => Just(FIXED | GROWSDOWN)
    ];
    let op = prop_oneof![
        8 => (at(), pages.clone(), prot.clone(), flags)
            .prop_map(|(at, pages, prot, flags)| Op::Map { at, pages, prot, flags }),
        1 => pages.clone().prop_map(|pages| Op::Map { at: 0, pages, prot: 3, flags: 0 }),
        4 => (at(), pages.clone()).prop_map(|(at, pages)| Op::Unmap { at, pages }),
        5 => (at(), pages.clone(), prot)
            .prop_map(|(at, pages, prot)| Op::Protect { at, pages, prot }),
        3 => (at(), pages, prop_oneof![Just(4), Just(8), Just(10), Just(11), Just(18), Just(102)])
            .prop_map(|(at, pages, advice)| Op::Advise { at, pages, advice }),
        9 => (at(), any::<bool>()).prop_map(|(at, write)| Op::Touch { at, write }),
        1 => (at(), at()).prop_map(|(at, to)| Op::Move { at, to }),
        1 => at().prop_map(|at| Op::Lock { at }),
        1 => Just(Op::Look),
        1 => Just(Op::Fork),
    ];
    prop::collection::vec(op, 1..120)
}

fn perform(mm: &Arc<Mm<TestHost>>, op: &Op) -> String {
    match *op {
        Op::Map { at, pages, prot, flags } => format!("{:?}", map(mm, at, pages, prot, flags)),
        Op::Unmap { at, pages } => format!("{:?}", mm.munmap(VirtAddr::new(at), pages * PAGE)),
        Op::Protect { at, pages, prot } => {
            format!("{:?}", mm.mprotect(ROOT, VirtAddr::new(at), pages * PAGE, prot))
        }
        Op::Advise { at, pages, advice } => {
            format!("{:?}", mm.madvise(ROOT, VirtAddr::new(at), pages * PAGE, advice))
        }
        Op::Touch { at, write } => {
            let access = if write { Access::Write } else { Access::Read };
            format!("{:?}", mm.handle_fault(ROOT, VirtAddr::new(at), access))
        }
        Op::Move { at, to } => {
            const MAYMOVE_FIXED: u64 = 3;
            let (at, to) = (VirtAddr::new(at), VirtAddr::new(to));
            format!("{:?}", mm.mremap(ROOT, at, PAGE, PAGE, MAYMOVE_FIXED, to))
        }
        Op::Lock { at } => format!("{:?}", mm.mlock(ROOT, VirtAddr::new(at), PAGE)),
        Op::Look => format!("{:?}", told(mm)),
        Op::Fork => match mm.fork(ROOT) {
            Ok(child) => format!("{:?}", told(&child)),
            Err(errno) => format!("{errno:?}"),
        },
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn calls_answer_the_same_in_a_lease_and_in_the_whole(ops in ops()) {
        let (whole_memory, whole) = machine(4096, Leasing::Never);
        let (leased_memory, leased) = machine(4096, Leasing::Always);
        for (number, op) in ops.iter().enumerate() {
            prop_assert_eq!(perform(&whole, op), perform(&leased, op), "step {}: {:?}", number, op);
        }
        prop_assert_eq!(told(&whole), told(&leased));
        leased_memory.check(&[&leased], &[]).map_err(|v| TestCaseError::fail(v.to_string()))?;
        let (free, leased_free) = (whole_memory.counts().free, leased_memory.counts().free);
        prop_assert!((free - 8..=free).contains(&leased_free), "{} and {}", free, leased_free);
        prop_assert_eq!(whole.stats().leases, 0);
        drop(leased);
        leased_memory.check(&[], &[]).map_err(|v| TestCaseError::fail(v.to_string()))?;
    }
}

#[test]
fn a_region_is_leased_once_for_many_calls() {
    let (_, mm) = machine(1024, Leasing::Always);
    let base = 20 * REGION + (1 << 20);
    map(&mm, base, 4, 3, FIXED).expect("free");
    for page in 0..100 {
        map(&mm, base + page * 2 * PAGE, 1, 3, FIXED).expect("free");
        mm.handle_fault(ROOT, VirtAddr::new(base + page * 2 * PAGE), Access::Write)
            .expect("memory");
    }
    mm.mprotect(ROOT, VirtAddr::new(base), 199 * PAGE, 1).expect_err("there are gaps");
    assert_eq!(mm.stats().leases, 1, "one lease serves them all, and telling recalls it");
    assert_eq!(maps(&mm).lines().count(), 98);
}

#[test]
fn what_is_no_user_space_is_never_leased() {
    let (memory, mm) = machine(1024, Leasing::Always);
    let at = map(&mm, 0, 1, 3, 0).expect("free");
    mm.handle_fault(ROOT, at, Access::Write).expect("memory");
    for beyond in [1 << 38, 1 << 47, 1 << 63, 0xffff_ffff_fc00_1000] {
        let beyond = VirtAddr::new(beyond);
        assert_eq!(mm.mprotect(ROOT, beyond, PAGE, 0), Err(Errno::ENOMEM));
        assert_eq!(mm.madvise(ROOT, beyond, PAGE, 10), Err(Errno::ENOMEM));
        memory.check(&[&mm], &[]).expect("tables are as they were");
    }
    assert_eq!(mm.stats().leases, 0);
}

#[test]
fn limits_are_the_whole_address_spaces() {
    let (_, mm) = machine(1024, Leasing::Always);
    map(&mm, 0, 64, 3, 0).expect("free");
    let mut caller = Caller::ROOT;
    caller.rlimits.address_space = 66 * PAGE;
    let ask = |pages: u64| {
        let (addr, len) = (20 * REGION + (1 << 20), pages * PAGE);
        let request =
            MmapRequest { addr, len, prot: 3, flags: ANON | FIXED, file: None, offset: 0 };
        mm.mmap(&caller, request)
    };
    assert!(ask(1).is_ok());
    assert_eq!(ask(3), Err(Errno::ENOMEM), "64 and 3 are more than 66");
    assert!(ask(2).is_ok());
}

/// A worker's own region, or the one all share.
struct Plot<'a> {
    mm: &'a Mm<TestHost>,
    base: u64,
    /// What each page should hold; `None` where nothing is mapped.
    pages: Vec<Option<u8>>,
    random: u64,
}

impl Plot<'_> {
    fn roll(&mut self, sides: u64) -> u64 {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.random >> 33) % sides
    }

    fn at(&self, page: u64) -> VirtAddr {
        VirtAddr::new(self.base + page * PAGE)
    }

    fn step(&mut self) {
        let count = self.pages.len() as u64;
        let first = self.roll(count);
        let pages = (1 + self.roll(6)).min(count - first);
        let range = first as usize..(first + pages) as usize;
        match self.roll(8) {
            0 | 1 => {
                map(self.mm, self.at(first).get(), pages, 3, FIXED).expect("room");
                self.pages[range].fill(Some(0));
            }
            2 => {
                self.mm.munmap(self.at(first), pages * PAGE).expect("few areas");
                self.pages[range].fill(None);
            }
            3 => {
                let done = self.mm.mprotect(ROOT, self.at(first), pages * PAGE, 1);
                let expected = if self.pages[range.clone()].contains(&None) {
                    Err(Errno::ENOMEM)
                } else {
                    Ok(())
                };
                assert_eq!(done, expected);
                for page in range {
                    if self.pages[page].is_some() {
                        // Back, one area after the other, to what it was.
                        let at = self.at(page as u64);
                        self.mm.mprotect(ROOT, at, PAGE, 3).expect("mapped");
                    }
                }
            }
            4 => {
                let done = self.mm.madvise(ROOT, self.at(first), pages * PAGE, 4);
                assert_eq!(done.is_err(), self.pages[range.clone()].contains(&None));
                for page in &mut self.pages[range] {
                    *page = page.map(|_| 0);
                }
            }
            _ => {
                let value = self.roll(255) as u8 + 1;
                let (at, page) = (self.at(first), first as usize);
                let written = self.mm.write(ROOT, at, &[value; 16]).is_ok();
                assert_eq!(written, self.pages[page].is_some());
                if written {
                    self.pages[page] = Some(value);
                }
            }
        }
        let page = self.roll(count);
        let mut found = [0; 16];
        let read = self.mm.read(ROOT, self.at(page), &mut found);
        match self.pages[page as usize] {
            Some(value) => {
                read.expect("mapped and readable");
                assert_eq!(found, [value; 16]);
            }
            None => assert!(read.is_err(), "nothing is mapped there"),
        }
    }
}

/// Four threads work in plots that adjoin, a fifth takes the whole address space again and again.
fn race(leasing: Leasing, apart: u64) -> u64 {
    const STEPS: u64 = 1500;
    let (memory, mm) = machine(8192, leasing);
    let first = 40 * REGION + (8 << 20);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..4)
            .map(|number| {
                let mm = &mm;
                let plot = Plot {
                    mm,
                    base: first + number * apart,
                    pages: vec![None; 40],
                    random: number * 77 + apart,
                };
                scope.spawn(move || {
                    let mut plot = plot;
                    (0..STEPS).for_each(|_| plot.step());
                    plot.pages
                })
            })
            .collect();
        let observer = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let placed = map(&mm, 0, 3, 3, 0).expect("room");
                assert!(maps(&mm).contains(&format!("{:08x}-", placed.get())));
                mm.munmap(placed, 3 * PAGE).expect("mapped");
                drop(mm.fork(ROOT).expect("memory"));
                thread::yield_now();
            }
        });
        let pages: Vec<_> = workers.into_iter().map(thread::ScopedJoinHandle::join).collect();
        done.store(true, Ordering::Relaxed);
        observer.join().expect("the observer saw nothing wrong");
        for (number, pages) in pages.into_iter().enumerate() {
            let pages = pages.expect("a worker found everything as it left it");
            for (page, value) in pages.into_iter().enumerate() {
                let at = VirtAddr::new(first + number as u64 * apart + page as u64 * PAGE);
                let mut found = [0];
                assert_eq!(mm.read(ROOT, at, &mut found).is_ok(), value.is_some());
                assert_eq!(found[0], value.unwrap_or(0));
            }
        }
    });
    memory.check(&[&mm], &[]).expect("consistent");
    let leases = mm.stats().leases;
    drop(mm);
    memory.check(&[], &[]).expect("all came back");
    leases
}

#[test]
fn threads_in_regions_of_their_own_find_what_they_left() {
    assert!(race(Leasing::Always, REGION) > 0);
    race(Leasing::OnContention, REGION);
}

#[test]
fn threads_side_by_side_in_one_region_find_what_they_left() {
    assert!(race(Leasing::Always, 40 * PAGE) > 0);
    race(Leasing::OnContention, 40 * PAGE);
}
