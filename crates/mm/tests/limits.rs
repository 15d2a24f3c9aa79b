//! Limits: what a caller may have (rlimits) and what a machine may promise (overcommit, sysctls).

use kilburn_addr::{Errno, Pfn, VirtAddr};
use kilburn_mm::config::CommitLimit;
use kilburn_mm::layout::{Arch, Layout};
use kilburn_mm::testing::*;
use kilburn_mm::*;
use std::sync::Arc;

const PAGE: u64 = 4096;
/// An ordinary user's process.
const NOBODY: Caller = Caller { can_lock: false, admin: false, raw_io: false, ..Caller::ROOT };

fn memory_with(change: impl FnOnce(&mut MemoryConfig)) -> Arc<Memory<TestHost>> {
    let mut config = MemoryConfig::new(Pfn::new(FIRST_FRAME)..Pfn::new(FIRST_FRAME + 1000));
    change(&mut config);
    Memory::new(TestHost::new(1000), config).expect("enough frames")
}

fn mm_of(memory: &Arc<Memory<TestHost>>) -> Arc<Mm<TestHost>> {
    Mm::new(memory, Layout::fixed(Arch::RiscvSv39)).expect("a frame for the root")
}

fn map(mm: &Mm<TestHost>, caller: &Caller, pages: u64, prot: u64) -> Result<VirtAddr, Errno> {
    let request = MmapRequest {
        addr: 0,
        len: pages * PAGE,
        prot,
        flags: PRIVATE_ANON,
        file: None,
        offset: 0,
    };
    mm.mmap(caller, request)
}

fn limited(change: impl FnOnce(&mut Rlimits)) -> Caller {
    let mut caller = NOBODY;
    change(&mut caller.rlimits);
    caller
}

#[test]
fn the_address_space_limit_counts_every_area() {
    let mm = mm_of(&memory_with(|_| {}));
    let caller = limited(|limits| limits.address_space = 10 * PAGE + 123);
    let at = map(&mm, &caller, 10, READ_WRITE).expect("just fits");
    assert_eq!(map(&mm, &caller, 1, 0), Err(Errno::ENOMEM));
    let grown = mm.mremap(&caller, at, 10 * PAGE, 11 * PAGE, 1, VirtAddr::new(0));
    assert_eq!(grown, Err(Errno::ENOMEM));
    mm.munmap(at, PAGE).expect("mapped");
    map(&mm, &caller, 1, 0).expect("room again");
}

#[test]
fn the_data_limit_counts_private_writable_memory_alone() {
    let mm = mm_of(&memory_with(|_| {}));
    let caller = limited(|limits| limits.data = 4 * PAGE);
    map(&mm, &caller, 100, 1).expect("read-only memory is no data");
    let at = map(&mm, &caller, 4, READ_WRITE).expect("just fits");
    assert_eq!(map(&mm, &caller, 1, READ_WRITE), Err(Errno::ENOMEM));
    // Nor does what was mapped read-only become data past the limit.
    let readable = map(&mm, &caller, 2, 1).expect("no data");
    assert_eq!(mm.mprotect(&caller, readable, PAGE, READ_WRITE), Err(Errno::ENOMEM));
    mm.munmap(at, PAGE).expect("mapped");
    mm.mprotect(&caller, readable, PAGE, READ_WRITE).expect("room again");
}

#[test]
fn memory_is_locked_up_to_the_limit_by_those_who_may_not_lock_more() {
    let mm = mm_of(&memory_with(|_| {}));
    let caller = limited(|limits| limits.memlock = 3 * PAGE);
    let at = map(&mm, &caller, 8, READ_WRITE).expect("no limit yet");
    mm.mlock(&caller, at, 3 * PAGE).expect("just fits");
    let next = VirtAddr::new(at.get() + 3 * PAGE);
    assert_eq!(mm.mlock(&caller, next, PAGE), Err(Errno::ENOMEM));
    // What is locked already does not count twice.
    mm.mlock(&caller, at, 3 * PAGE).expect("locked again");
    mm.mlock(&Caller { can_lock: true, ..caller }, next, PAGE).expect("CAP_IPC_LOCK");
    let none = limited(|limits| limits.memlock = 0);
    assert_eq!(mm.mlock(&none, at, PAGE), Err(Errno::EPERM));
}

#[test]
fn the_machine_promises_what_its_overcommit_mode_allows() {
    let promise = |overcommit, pages| {
        let memory = memory_with(|config| {
            config.overcommit = overcommit;
            config.admin_reserve_kbytes = 40;
            config.user_reserve_kbytes = 0;
        });
        map(&mm_of(&memory), &NOBODY, pages, READ_WRITE).map(|_| ())
    };
    assert_eq!(promise(Overcommit::Heuristic, 1000), Ok(()));
    assert_eq!(promise(Overcommit::Heuristic, 1001), Err(Errno::ENOMEM));
    assert_eq!(promise(Overcommit::Always, 1_000_000), Ok(()));
    // Half of 1000 frames less 10 reserved for root, and less than that, not as much.
    let half = Overcommit::Never(CommitLimit::Ratio(50));
    assert_eq!(promise(half, 489), Ok(()));
    assert_eq!(promise(half, 490), Err(Errno::ENOMEM));
    let kbytes = Overcommit::Never(CommitLimit::Kbytes(4 * 210));
    assert_eq!(promise(kbytes, 199), Ok(()));
    assert_eq!(promise(kbytes, 200), Err(Errno::ENOMEM));
}

#[test]
fn promises_follow_what_may_be_written() {
    let memory = memory_with(|_| {});
    let mm = mm_of(&memory);
    let committed = || memory.counts().committed;
    let at = map(&mm, &NOBODY, 5, 1).expect("free");
    assert_eq!(committed(), 0, "what cannot be written needs no promise");
    mm.mprotect(&NOBODY, at, 2 * PAGE, READ_WRITE).expect("mapped");
    assert_eq!(committed(), 2);
    mm.mprotect(&NOBODY, at, 2 * PAGE, 1).expect("mapped");
    assert_eq!(committed(), 0, "nothing was written: nothing is kept");
    mm.mprotect(&NOBODY, at, 2 * PAGE, READ_WRITE).expect("mapped");
    mm.poke(at.get(), 1).expect("writable");
    mm.mprotect(&NOBODY, at, 2 * PAGE, 1).expect("mapped");
    assert_eq!(committed(), 2, "what was written is still there");
    let child = mm.fork(&NOBODY).expect("enough memory");
    assert_eq!(committed(), 4);
    drop(child);
    mm.munmap(at, 5 * PAGE).expect("mapped");
    assert_eq!(committed(), 0);
}

#[test]
fn an_address_space_has_no_more_areas_than_max_map_count() {
    let mm = mm_of(&memory_with(|config| config.max_map_count = 10));
    let at = map(&mm, &NOBODY, 64, READ_WRITE).expect("free");
    // A hole makes one area more each.
    for hole in 1..10 {
        let at = VirtAddr::new(at.get() + 4 * hole * PAGE);
        mm.munmap(at, PAGE).unwrap_or_else(|errno| panic!("hole {hole}: {errno:?}"));
    }
    let inside = VirtAddr::new(at.get() + 50 * PAGE);
    assert_eq!(mm.munmap(inside, PAGE), Err(Errno::ENOMEM));
    assert_eq!(mm.mprotect(&NOBODY, inside, PAGE, 1), Err(Errno::ENOMEM));
    // do_mmap lets one more in, and no further one.
    map(&mm, &NOBODY, 1, 1).expect("one past the limit");
    assert_eq!(map(&mm, &NOBODY, 1, 5), Err(Errno::ENOMEM));
}

#[test]
fn the_lowest_addresses_are_for_raw_io_alone() {
    let mm = mm_of(&memory_with(|config| config.mmap_min_addr = 0x8000));
    let fixed = |caller: &Caller, addr| {
        let flags = PRIVATE_ANON | FIXED;
        mm.mmap(caller, MmapRequest { addr, len: PAGE, prot: 1, flags, file: None, offset: 0 })
    };
    assert_eq!(fixed(&NOBODY, 0x7000), Err(Errno::EPERM));
    assert_eq!(fixed(&NOBODY, 0x8000), Ok(VirtAddr::new(0x8000)));
    assert_eq!(fixed(&Caller { raw_io: true, ..NOBODY }, 0), Ok(VirtAddr::new(0)));
}
