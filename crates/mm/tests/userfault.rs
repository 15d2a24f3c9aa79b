//! Random calls around userfaultfds, with arguments from sensible to absurd: nothing panics, and
//! every invariant holds after each.

use kilburn_addr::{Access, VirtAddr};
use kilburn_mm::testing::*;
use kilburn_mm::*;
use proptest::prelude::*;
use std::sync::Arc;

const PAGE: u64 = 4096;
const WINDOW: u64 = 0x10_0000_0000;
const PAGES: u64 = 24;
const THREAD: Caller = Caller { userfault_thread: Some(1), ..Caller::ROOT };

/// Numbers of the ioctls, and one of none.
const REQUESTS: [u32; 11] = [
    0xc018_aa3f,
    0xc020_aa00,
    0x8010_aa01,
    0x8010_aa02,
    0xc028_aa03,
    0xc020_aa04,
    0xc028_aa05,
    0xc018_aa06,
    0xc020_aa07,
    0xc020_aa08,
    0xc020_aa09,
];

struct Deaf;

impl UserfaultWatch for Deaf {
    fn readable(&self) {}
    fn woken(&self) {}
}

#[derive(Clone, Debug)]
enum Step {
    Ioctl { which: usize, request: usize, words: [u64; 5] },
    Map { at: u64, pages: u64, kind: usize },
    Unmap { at: u64, pages: u64 },
    Protect { at: u64, pages: u64, prot: u64 },
    Move { at: u64, pages: u64, to: u64, flags: u64 },
    Advise { at: u64, pages: u64, advice: i32 },
    Lock { at: u64, pages: u64 },
    Touch { at: u64, write: bool },
    Read { which: usize },
    Truncate { pages: u64 },
    Fork,
    Release { which: usize },
}

fn page() -> impl Strategy<Value = u64> {
    (0..PAGES).prop_map(|page| WINDOW + page * PAGE)
}

fn word() -> impl Strategy<Value = u64> {
    prop_oneof![
        12 => page(),
        6 => (1..6_u64).prop_map(|pages| pages * PAGE),
        4 => 0..8_u64,
        1 => Just(u64::MAX),
        1 => Just(WINDOW + 1),
        1 => any::<u64>(),
    ]
}

/// An ioctl, mostly as it is meant: a place, a length or a source, a mode.
fn ioctl() -> impl Strategy<Value = (usize, [u64; 5])> {
    let len = || (1..5_u64).prop_map(|pages| pages * PAGE);
    let modes = prop_oneof![Just(1), Just(4), Just(5)];
    prop_oneof![
        4 => (page(), len(), modes).prop_map(|(at, len, mode)| (1, [at, len, mode, 0, 0])),
        2 => (2..4_usize, page(), len()).prop_map(|(which, at, len)| (which, [at, len, 0, 0, 0])),
        4 => (page(), page(), len(), 0..2_u64).prop_map(|(to, from, len, mode)| (4, [to, from, len, mode, 0])),
        8 => (page(), page(), len(), 0..4_u64).prop_map(|(to, from, len, mode)| (6, [to, from, len, mode, 0])),
        6 => (prop_oneof![Just(5_usize), Just(8), Just(9)], page(), len(), 0..2_u64)
            .prop_map(|(which, at, len, mode)| (which, [at, len, mode, 0, 0])),
        4 => (0..REQUESTS.len(), [word(), word(), word(), word(), word()]),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let pages = 1..6_u64;
    prop_oneof![
        16 => (0..2_usize, ioctl())
            .prop_map(|(which, (request, words))| Step::Ioctl { which, request, words }),
        4 => (page(), pages.clone(), 0..4_usize).prop_map(|(at, pages, kind)| Step::Map { at, pages, kind }),
        2 => (page(), pages.clone()).prop_map(|(at, pages)| Step::Unmap { at, pages }),
        2 => (page(), pages.clone(), 0..8_u64).prop_map(|(at, pages, prot)| Step::Protect { at, pages, prot }),
        2 => (page(), pages.clone(), page(), 0..8_u64)
            .prop_map(|(at, pages, to, flags)| Step::Move { at, pages, to, flags }),
        3 => (page(), pages.clone(), prop_oneof![Just(4), Just(8), Just(9), Just(23), Just(102), Just(103)])
            .prop_map(|(at, pages, advice)| Step::Advise { at, pages, advice }),
        1 => (page(), pages.clone()).prop_map(|(at, pages)| Step::Lock { at, pages }),
        8 => (page(), any::<bool>()).prop_map(|(at, write)| Step::Touch { at, write }),
        1 => (0..2_usize).prop_map(|which| Step::Read { which }),
        1 => (0..8_u64).prop_map(|pages| Step::Truncate { pages }),
        1 => Just(Step::Fork),
        1 => (0..2_usize).prop_map(|which| Step::Release { which }),
    ]
}

struct World {
    memory: Arc<Memory<TestHost>>,
    mm: Arc<Mm<TestHost>>,
    uffds: Vec<Arc<Userfaultfd<TestHost>>>,
    file: Arc<TestFile>,
    arg: VirtAddr,
    waits: Vec<UserfaultWait>,
}

impl World {
    fn new() -> Self {
        let memory = TestHost::memory(512);
        let mm = TestHost::mm(&memory);
        let arg = mm.map_anon(0, PAGE, READ_WRITE, PRIVATE_ANON).expect("room");
        let file = TestFile::shmem(&memory, "/memfd:x", &[3; 6 * 4096]);
        let mut world = Self { memory, mm, uffds: Vec::new(), file, arg, waits: Vec::new() };
        world.uffds = vec![world.uffd(0), world.uffd(1 << 7 | 1 << 10)];
        let len = PAGES * PAGE;
        world.mm.map_anon(WINDOW, len, READ_WRITE, PRIVATE_ANON | FIXED).expect("room");
        for page in (0..PAGES).step_by(3) {
            world.mm.poke(WINDOW + page * PAGE, 1).expect("mapped");
        }
        world.uffds[0].register(WINDOW, len / 2, 1).expect("private memory");
        world
    }

    fn uffd(&self, features: u64) -> Arc<Userfaultfd<TestHost>> {
        let uffd = Userfaultfd::new(&self.mm, 0, Box::new(Deaf)).expect("no flags");
        uffd.enable(0xaa, features).expect("all are there");
        uffd
    }

    fn take(&mut self, step: &Step) {
        let at = VirtAddr::new;
        let caller = &Caller::ROOT;
        match *step {
            Step::Ioctl { which, request, words } => {
                let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
                self.mm.write(caller, self.arg, &bytes).expect("mapped");
                let uffd = &self.uffds[which];
                let _ = uffd.ioctl(&self.mm, &THREAD, REQUESTS[request], self.arg);
            }
            Step::Map { at: start, pages, kind } => {
                let _ = match kind {
                    0 | 1 => {
                        let flags = FIXED | if kind == 0 { PRIVATE_ANON } else { SHARED_ANON };
                        self.mm.map_anon(start, pages * PAGE, READ_WRITE, flags)
                    }
                    _ => {
                        let file = Some(self.file.opened());
                        let flags = FIXED | (kind as u64 - 1);
                        let len = pages * PAGE;
                        let request =
                            MmapRequest { addr: start, len, prot: 3, flags, file, offset: PAGE };
                        self.mm.mmap(caller, request)
                    }
                };
            }
            Step::Unmap { at: start, pages } => {
                let _ = self.mm.munmap(at(start), pages * PAGE);
            }
            Step::Protect { at: start, pages, prot } => {
                let _ = self.mm.mprotect(caller, at(start), pages * PAGE, prot);
            }
            Step::Move { at: start, pages, to, flags } => {
                let len = pages * PAGE;
                let _ = self.mm.mremap(caller, at(start), len, len, flags, at(to));
            }
            Step::Advise { at: start, pages, advice } => {
                let _ = self.mm.madvise(caller, at(start), pages * PAGE, advice);
            }
            Step::Lock { at: start, pages } => {
                let _ = self.mm.mlock(caller, at(start), pages * PAGE);
            }
            Step::Touch { at: start, write } => {
                let access = if write { Access::Write } else { Access::Read };
                if let Err(Fault::Userfault(wait)) =
                    self.mm.handle_fault(&THREAD, at(start), access)
                {
                    assert!(self.mm.userfault_waits(wait), "it waits at least once");
                    self.waits.push(wait);
                }
            }
            Step::Read { which } => {
                self.uffds[which].read_message();
            }
            Step::Truncate { pages } => self.file.cache().truncate(pages * PAGE).expect("room"),
            Step::Fork => {
                let child = self.mm.fork(caller).expect("room");
                for page in 0..PAGES {
                    let faulted =
                        child.handle_fault(&THREAD, at(WINDOW + page * PAGE), Access::Read);
                    assert!(!matches!(faulted, Err(Fault::Userfault(_))), "nobody watches a child");
                }
                self.memory.check(&[&self.mm, &child], &[]).expect("consistent");
            }
            Step::Release { which } => {
                self.uffds[which].release();
                let features = if which == 0 { 0 } else { 1 << 7 };
                self.uffds[which] = self.uffd(features);
            }
        }
        self.memory
            .check(&[&self.mm], &[])
            .unwrap_or_else(|violation| panic!("{violation}\nafter {step:x?}\n{}", self.mm.maps()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn nothing_a_monitor_does_breaks_an_address_space(
        steps in proptest::collection::vec(step(), 1..80)
    ) {
        let mut world = World::new();
        for step in &steps {
            world.take(step);
        }
        for uffd in &world.uffds {
            uffd.release();
        }
        for wait in &world.waits {
            prop_assert!(!world.mm.userfault_waits(*wait), "release ends every wait");
        }
        let World { memory, mm, uffds, file, .. } = world;
        drop((mm, uffds));
        memory.check(&[], &[]).expect("consistent");
        let kept = file.cache().cached_pages();
        prop_assert_eq!(memory.counts().free + kept + 1, memory.counts().total);
    }
}
