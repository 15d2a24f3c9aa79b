//! Random operations of several address spaces and files; every invariant after every step, and
//! every frame free at the end.

use kilburn_addr::{Access, VirtAddr};
use kilburn_mm::testing::*;
use kilburn_mm::*;
use proptest::prelude::*;
use std::sync::Arc;

const PAGE: u64 = 4096;
/// Operations work on this many pages from here on, across two boundaries of leaf tables.
const WINDOW: u64 = 0x20_0000 * 8 - 16 * PAGE;
const WINDOW_PAGES: u64 = 48;

#[derive(Clone, Debug)]
enum Op {
    Map { page: u64, pages: u64, prot: u64, kind: u8, offset: u64, extra: u64 },
    Unmap { page: u64, pages: u64 },
    Protect { page: u64, pages: u64, prot: u64 },
    Remap { page: u64, pages: u64, new: u64, flags: u64, to: u64 },
    Advise { page: u64, pages: u64, advice: i32 },
    Lock { page: u64, pages: u64, how: u8 },
    Sync { page: u64, pages: u64, flags: i32 },
    Incore { page: u64, pages: u64 },
    Touch { page: u64, write: bool },
    Brk { page: u64 },
    Fork,
    Exit,
    Truncate { file: usize, size: u64 },
    FileWrite { file: usize, pos: u64, len: usize },
    FileSync { file: usize },
    Evict { file: usize },
    Poke { page: u64 },
}

fn ops() -> impl Strategy<Value = Vec<(usize, Op)>> {
    let page = 0..WINDOW_PAGES;
    let pages = 1_u64..12;
    let prot = prop_oneof![4 => Just(3_u64), 1 => 0_u64..8];
    let extra = prop_oneof![6 => Just(0_u64), 1 => Just(0x2000), 1 => Just(0x8000), 1 => Just(0x4000), 1 => Just(0x100)];
    let op = prop_oneof![
        6 => (page.clone(), pages.clone(), prot.clone(), 0_u8..7, 0_u64..6, extra).prop_map(
            |(page, pages, prot, kind, offset, extra)| Op::Map { page, pages, prot, kind, offset, extra }
        ),
        3 => (page.clone(), pages.clone()).prop_map(|(page, pages)| Op::Unmap { page, pages }),
        4 => (page.clone(), pages.clone(), prot)
            .prop_map(|(page, pages, prot)| Op::Protect { page, pages, prot }),
        3 => (page.clone(), 0_u64..12, 1_u64..12, 0_u64..8, page.clone())
            .prop_map(|(page, pages, new, flags, to)| Op::Remap { page, pages, new, flags, to }),
        4 => (page.clone(), pages.clone(), prop_oneof![0_i32..26, Just(102), Just(103)])
            .prop_map(|(page, pages, advice)| Op::Advise { page, pages, advice }),
        1 => (page.clone(), pages.clone(), 0_u8..6)
            .prop_map(|(page, pages, how)| Op::Lock { page, pages, how }),
        1 => (page.clone(), pages.clone(), 0_i32..8)
            .prop_map(|(page, pages, flags)| Op::Sync { page, pages, flags }),
        1 => (page.clone(), pages).prop_map(|(page, pages)| Op::Incore { page, pages }),
        12 => (page.clone(), any::<bool>()).prop_map(|(page, write)| Op::Touch { page, write }),
        1 => (0_u64..10).prop_map(|page| Op::Brk { page }),
        2 => Just(Op::Fork),
        1 => Just(Op::Exit),
        1 => (0_usize..2, 0_u64..40_000).prop_map(|(file, size)| Op::Truncate { file, size }),
        1 => (0_usize..2, 0_u64..40_000, 1_usize..9000)
            .prop_map(|(file, pos, len)| Op::FileWrite { file, pos, len }),
        1 => (0_usize..2).prop_map(|file| Op::FileSync { file }),
        1 => (0_usize..2).prop_map(|file| Op::Evict { file }),
        1 => page.prop_map(|page| Op::Poke { page }),
    ];
    prop::collection::vec((0_usize..4, op), 1..80)
}

struct World {
    memory: Arc<Memory<TestHost>>,
    mms: Vec<Arc<Mm<TestHost>>>,
    files: Vec<Arc<TestFile>>,
}

impl World {
    fn new(frames: u64, slots: usize) -> Self {
        let memory = TestHost::memory(frames);
        if slots > 0 {
            memory.swap_on("swap", TestSwap::new(slots), None).expect("the first area");
        }
        let mm = TestHost::mm(&memory);
        let heap = VirtAddr::new(0x1_0000_0000);
        mm.set_layout_fields(ExecLayout { start_brk: heap, brk: heap, ..ExecLayout::default() });
        let files = vec![
            TestFile::stored(&memory, "/stored", TestStore::with(&[1; 20_000])),
            TestFile::shmem(&memory, "/tmp/shmem", &[2; 20_000]),
        ];
        Self { memory, mms: vec![mm], files }
    }

    fn step(&mut self, who: usize, op: &Op) {
        let who = who % self.mms.len();
        let mm = self.mms[who].clone();
        let at = |page: u64| VirtAddr::new(WINDOW + page * PAGE);
        let caller = &Caller::ROOT;
        match *op {
            Op::Map { page, pages, prot, kind, offset, extra } => {
                let (kind_flags, file) = match kind {
                    0 | 1 => (0x22, None),
                    2 => (0x21, None),
                    3 => (0x01, Some(0)),
                    4 => (0x02, Some(0)),
                    5 => (0x01, Some(1)),
                    _ => (0x02, Some(1)),
                };
                let request = MmapRequest {
                    addr: at(page).get(),
                    len: pages * PAGE,
                    prot,
                    flags: kind_flags | FIXED | extra,
                    file: file.map(|file: usize| self.files[file].opened()),
                    offset: offset * PAGE,
                };
                let _ = mm.mmap(caller, request);
            }
            Op::Unmap { page, pages } => {
                let _ = mm.munmap(at(page), pages * PAGE);
            }
            Op::Protect { page, pages, prot } => {
                let _ = mm.mprotect(caller, at(page), pages * PAGE, prot);
            }
            Op::Remap { page, pages, new, flags, to } => {
                let _ = mm.mremap(caller, at(page), pages * PAGE, new * PAGE, flags, at(to));
            }
            Op::Advise { page, pages, advice } => {
                let _ = mm.madvise(caller, at(page), pages * PAGE, advice);
            }
            Op::Lock { page, pages, how } => {
                let (addr, len) = (at(page), pages * PAGE);
                let _ = match how {
                    0 => mm.mlock(caller, addr, len),
                    1 => mm.mlock2(caller, addr, len, 1),
                    2 => mm.munlock(addr, len),
                    3 => mm.mlockall(caller, 1),
                    4 => mm.munlockall(),
                    _ => mm.remap_file_pages(caller, addr, len, 0, 1, 0),
                };
            }
            Op::Sync { page, pages, flags } => {
                let _ = mm.msync(at(page), pages * PAGE, flags);
            }
            Op::Incore { page, pages } => {
                let mut out = Vec::new();
                let result = mm.mincore(at(page), pages * PAGE, &mut out);
                assert!(result.is_err() || out.len() as u64 == pages);
            }
            Op::Touch { page, write } => {
                let access = if write { Access::Write } else { Access::Read };
                let _ = mm.handle_fault(caller, at(page), access);
            }
            Op::Brk { page } => {
                mm.brk(caller, VirtAddr::new(0x1_0000_0000 + page * PAGE));
            }
            Op::Fork => {
                if self.mms.len() < 4
                    && let Ok(child) = mm.fork(caller)
                {
                    self.mms.push(child);
                }
            }
            Op::Exit => {
                if self.mms.len() > 1 {
                    self.mms.remove(who);
                }
            }
            Op::Truncate { file, size } => drop(self.files[file].cache().truncate(size)),
            Op::FileWrite { file, pos, len } => {
                let _ = self.files[file].cache().write_at(pos, &vec![3; len]);
            }
            Op::FileSync { file } => self.files[file].cache().sync(0..u64::MAX).expect("stored"),
            Op::Evict { file } => self.files[file].cache().evict(),
            Op::Poke { page } => {
                mm.write_remote(at(page), &[9], RemoteRights::Forced);
            }
        }
    }

    fn check(&self) -> Result<(), Violation> {
        let mms: Vec<_> = self.mms.iter().map(|mm| &**mm).collect();
        let files: Vec<_> = self.files.iter().map(|file| &**file.cache()).collect();
        self.memory.check(&mms, &files)
    }
}

fn run(frames: u64, slots: usize, steps: &[(usize, Op)]) -> Result<(), TestCaseError> {
    let mut world = World::new(frames, slots);
    for (i, (who, op)) in steps.iter().enumerate() {
        world.step(*who, op);
        if let Err(violation) = world.check() {
            return Err(TestCaseError::fail(format!("step {i} {op:?}: {violation}")));
        }
    }
    let World { memory, mms, files } = world;
    for mm in &mms {
        let mut text = String::new();
        mm.write_smaps(&mut text).expect("text");
        prop_assert_eq!(mm.usage().rss, mm.statm().resident * PAGE);
    }
    drop(mms);
    drop(files);
    memory.check(&[], &[]).map_err(|violation| TestCaseError::fail(violation.to_string()))?;
    let counts = memory.counts();
    prop_assert_eq!(counts.free, counts.total - 1);
    prop_assert_eq!(counts.swap_free, counts.swap_total);
    prop_assert_eq!(counts.committed, 0);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn invariants_hold_after_every_operation(steps in ops()) {
        run(2048, 0, &steps)?;
    }

    #[test]
    fn invariants_hold_when_memory_is_short(steps in ops()) {
        run(48, 0, &steps)?;
    }

    #[test]
    fn invariants_hold_while_pages_go_to_swap(steps in ops()) {
        run(48, 100, &steps)?;
    }

    #[test]
    fn invariants_hold_when_swap_is_full(steps in ops()) {
        run(40, 12, &steps)?;
    }
}
