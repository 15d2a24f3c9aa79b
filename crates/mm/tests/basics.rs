//! The four kinds of mmap, faults, copy-on-write, fork and the end, checked after every step.

use kilburn_addr::{Access, Errno, VirtAddr};
use kilburn_mm::testing::*;
use kilburn_mm::*;
use std::sync::Arc;

const PAGE: u64 = 4096;

/// A machine, and everything in it that the checker must know.
struct World {
    memory: Arc<Memory<TestHost>>,
    mms: Vec<Arc<Mm<TestHost>>>,
    files: Vec<Arc<TestFile>>,
}

impl World {
    fn new(frames: u64) -> Self {
        let memory = TestHost::memory(frames);
        let mms = vec![TestHost::mm(&memory)];
        Self { memory, mms, files: Vec::new() }
    }

    fn mm(&self) -> &Arc<Mm<TestHost>> {
        &self.mms[0]
    }

    #[track_caller]
    fn check(&self) {
        let mms: Vec<_> = self.mms.iter().map(|mm| &**mm).collect();
        let files: Vec<_> = self.files.iter().map(|file| &**file.cache()).collect();
        self.memory.check(&mms, &files).expect("every invariant holds");
    }

    /// Everything goes; every frame must be free then but the zero page.
    #[track_caller]
    fn end(self) {
        let Self { memory, mms, files } = self;
        drop(mms);
        drop(files);
        memory.check(&[], &[]).expect("every invariant holds");
        let counts = memory.counts();
        assert_eq!(counts.free, counts.total - 1, "{counts:?}");
        assert_eq!(counts.committed, 0);
    }
}

fn fault(mm: &Mm<TestHost>, addr: u64, access: Access) -> Result<FaultDone, Fault> {
    mm.handle_fault(&Caller::ROOT, VirtAddr::new(addr), access)
}

#[test]
fn anonymous_memory_reads_zeros_then_holds_what_is_written() {
    let world = World::new(256);
    let mm = world.mm();
    let at = mm.map_anon(0, 4 * PAGE, READ_WRITE, PRIVATE_ANON).unwrap().get();
    world.check();
    assert_eq!(fault(mm, at, Access::Read).unwrap().kind, FaultKind::ZeroPage);
    assert_eq!(mm.statm().resident, 0, "the zero page is not counted");
    assert_eq!(mm.peek(at + 5), Ok(0));
    assert_eq!(fault(mm, at, Access::Write).unwrap().kind, FaultKind::CowCopy);
    assert_eq!(fault(mm, at + PAGE, Access::Write).unwrap().kind, FaultKind::DemandZero);
    mm.poke(at + 5, 7).unwrap();
    assert_eq!(mm.peek(at + 5), Ok(7));
    assert_eq!(mm.peek(at + PAGE), Ok(0));
    assert_eq!(mm.statm().resident, 2);
    world.check();
    mm.munmap(VirtAddr::new(at), 2 * PAGE).unwrap();
    world.check();
    assert_eq!(mm.peek(at), Err(Fault::Segv(SegvCode::MapErr)));
    assert_eq!(mm.statm().resident, 0);
    world.end();
}

#[test]
fn rights_are_refused_and_can_be_given_back() {
    let world = World::new(256);
    let mm = world.mm();
    let at = mm.map_anon(0, 3 * PAGE, READ_WRITE, PRIVATE_ANON).unwrap();
    mm.poke(at.get() + PAGE, 42).unwrap();
    mm.mprotect(&Caller::ROOT, VirtAddr::new(at.get() + PAGE), PAGE, 0).unwrap();
    world.check();
    assert_eq!(mm.peek(at.get() + PAGE), Err(Fault::Segv(SegvCode::AccErr)));
    assert_eq!(mm.maps().lines().count(), 3);
    assert_eq!(mm.statm().resident, 1, "a page without rights stays");
    mm.mprotect(&Caller::ROOT, VirtAddr::new(at.get() + PAGE), PAGE, 3).unwrap();
    world.check();
    assert_eq!(mm.peek(at.get() + PAGE), Ok(42));
    assert_eq!(mm.maps().lines().count(), 1, "{}", mm.maps());
    assert_eq!(
        fault(mm, at.get() + PAGE, Access::Write).unwrap().kind,
        FaultKind::Spurious,
        "an exclusive page is writable again without a fault"
    );
    world.end();
}

#[test]
fn fork_shares_until_one_side_writes() {
    let mut world = World::new(512);
    let mm = world.mm().clone();
    let at = mm.map_anon(0, 4 * PAGE, READ_WRITE, PRIVATE_ANON).unwrap().get();
    let shared = mm.map_anon(0, PAGE, READ_WRITE, SHARED_ANON).unwrap().get();
    mm.poke(at, 1).unwrap();
    mm.poke(at + PAGE, 2).unwrap();
    mm.poke(shared, 3).unwrap();
    let used = world.memory.counts().anon;
    let child = mm.fork(&Caller::ROOT).unwrap();
    world.mms.push(child.clone());
    world.check();
    assert_eq!(world.memory.counts().anon, used, "nothing is copied");
    assert_eq!(fault(&child, at, Access::Write).unwrap().kind, FaultKind::CowCopy);
    child.poke(at, 11).unwrap();
    world.check();
    assert_eq!((mm.peek(at), child.peek(at)), (Ok(1), Ok(11)));
    assert_eq!(fault(&mm, at, Access::Write).unwrap().kind, FaultKind::CowReuse);
    mm.poke(shared, 33).unwrap();
    assert_eq!(child.peek(shared), Ok(33));
    world.check();
    world.mms.pop();
    drop(child);
    world.check();
    assert_eq!(fault(&mm, at + PAGE, Access::Write).unwrap().kind, FaultKind::CowReuse);
    world.check();
    drop(mm);
    world.end();
}

#[test]
fn a_file_is_shared_or_copied_and_ends_where_it_ends() {
    let mut world = World::new(512);
    let mm = world.mm().clone();
    let store = TestStore::with(&[5; 10_000]);
    let file = TestFile::stored(&world.memory, "/f", store.clone());
    world.files.push(file.clone());
    let shared = mm.map_file(&file, 4 * PAGE, READ_WRITE, 1, 0).unwrap().get();
    let private = mm.map_file(&file, 4 * PAGE, READ_WRITE, 2, 0).unwrap().get();
    let done = fault(&mm, private, Access::Read).unwrap();
    assert_eq!((done.kind, done.major), (FaultKind::FileRead, true));
    world.check();
    assert_eq!(mm.statm().shared, 3, "pages at hand are mapped around");
    assert_eq!(mm.peek(private + 9_999), Ok(5));
    assert_eq!(mm.peek(private + 10_000), Ok(0), "past the end, within the page");
    assert_eq!(mm.peek(private + 3 * PAGE), Err(Fault::Bus));
    mm.poke(private, 6).unwrap();
    mm.poke(shared, 7).unwrap();
    world.check();
    assert_eq!((mm.peek(private), mm.peek(shared)), (Ok(6), Ok(7)));
    let mut byte = [0];
    file.cache().read_at(0, &mut byte).unwrap();
    assert_eq!(byte, [7], "read sees what mmap wrote");
    assert_eq!(store.0.lock()[0], 5);
    file.cache().sync(0..u64::MAX).unwrap();
    world.check();
    assert_eq!(store.0.lock()[0], 7);
    assert_eq!(store.0.lock().len(), 10_000);
    assert_eq!(fault(&mm, shared, Access::Write).unwrap().kind, FaultKind::FileShared);
    world.check();
    mm.poke(shared, 8).unwrap();
    file.cache().write_at(1, &[9]).unwrap();
    assert_eq!(mm.peek(shared + 1), Ok(9), "mmap sees what write wrote");
    world.check();
    drop((mm, file));
    world.end();
    assert_eq!(store.0.lock()[..2], [8, 9]);
}

#[test]
fn truncation_unmaps_private_copies_too() {
    let mut world = World::new(512);
    let mm = world.mm().clone();
    let file = TestFile::shmem(&world.memory, "/t", &[1; 3 * 4096]);
    world.files.push(file.clone());
    let private = mm.map_file(&file, 3 * PAGE, READ_WRITE, 2, 0).unwrap().get();
    let shared = mm.map_file(&file, 3 * PAGE, READ_WRITE, 1, 0).unwrap().get();
    for page in 0..3 {
        mm.poke(private + page * PAGE, 2).unwrap();
        mm.poke(shared + page * PAGE, 3).unwrap();
    }
    file.cache().truncate(PAGE + 10).unwrap();
    world.check();
    assert_eq!(mm.peek(private + PAGE), Ok(2), "the copy of the last page stays");
    assert_eq!(mm.peek(shared + PAGE + 9), Ok(1));
    assert_eq!(mm.peek(shared + PAGE + 10), Ok(0), "the rest of the last page is zeroed");
    assert_eq!(mm.peek(private + 2 * PAGE), Err(Fault::Bus));
    assert_eq!(mm.peek(shared + 2 * PAGE), Err(Fault::Bus));
    file.cache().truncate(3 * PAGE).unwrap();
    assert_eq!(mm.peek(private + 2 * PAGE), Ok(0));
    world.check();
    drop((mm, file));
    world.end();
}

#[test]
fn a_stack_grows_to_its_limit_and_keeps_its_distance() {
    let world = World::new(4096);
    let mm = world.mm();
    let top = mm.layout().stack_top();
    let area = mm.setup_stack(&Caller::ROOT, top, 100, StackExec::No).unwrap();
    assert_eq!(area.len(), 33 * PAGE);
    world.check();
    mm.poke(area.start().get() - 10 * PAGE, 1).unwrap();
    world.check();
    assert_eq!(mm.stats().stack_growths, 1);
    let limit = top.get() - (8 << 20);
    mm.poke(limit, 1).unwrap();
    assert_eq!(mm.poke(limit - 1, 1), Err(Fault::Segv(SegvCode::MapErr)));
    world.check();
    world.end();
}

#[test]
fn memory_that_runs_out_is_an_error_and_nothing_leaks() {
    let world = World::new(64);
    let mm = world.mm();
    // More than there is, in two parts, each of which could be.
    mm.map_anon(0, 40 * PAGE, READ_WRITE, PRIVATE_ANON).unwrap();
    let at = mm.map_anon(0, 40 * PAGE, READ_WRITE, PRIVATE_ANON).unwrap().get();
    let mut got = 0;
    for page in 0..80 {
        match mm.poke(at + page * PAGE, 1) {
            Ok(()) => got += 1,
            Err(fault) => assert_eq!(fault, Fault::Oom),
        }
        world.check();
    }
    assert!((50..=60).contains(&got), "{got}");
    assert_eq!(mm.fork(&Caller::ROOT).map(|_| ()), Err(Errno::ENOMEM));
    world.check();
    assert_eq!(mm.map_anon(0, 1 << 30, READ_WRITE, PRIVATE_ANON), Err(Errno::ENOMEM));
    world.end();
}

#[test]
fn the_heap_moves_and_stops_at_other_mappings() {
    let world = World::new(256);
    let mm = world.mm();
    let start = VirtAddr::new(0x10_0000);
    mm.set_layout_fields(ExecLayout { start_brk: start, brk: start, ..ExecLayout::default() });
    let brk = |to: u64| mm.brk(&Caller::ROOT, VirtAddr::new(to)).get();
    assert_eq!(brk(0), start.get());
    assert_eq!(brk(0x10_1001), 0x10_1001);
    world.check();
    mm.poke(0x10_1fff, 1).unwrap();
    assert!(mm.maps().contains("00100000-00102000 rw-p 00000000 00:00 0 "), "{}", mm.maps());
    assert!(mm.maps().contains(" [heap]"));
    assert_eq!(brk(0x10_5000), 0x10_5000);
    assert_eq!(mm.maps().lines().count(), 1, "the heap is one area");
    mm.map_anon(0x10_8000, PAGE, READ_WRITE, PRIVATE_ANON | FIXED).unwrap();
    assert_eq!(brk(0x10_9000), 0x10_5000, "it may not run into another mapping");
    assert_eq!(brk(0x10_0000), 0x10_0000);
    world.check();
    assert_eq!(mm.statm().resident, 0);
    world.end();
}

#[test]
fn pagemap_tells_present_shared_and_guarded_pages_apart() {
    let mut world = World::new(256);
    let mm = world.mm().clone();
    let at = mm.map_anon(0, 4 * PAGE, READ_WRITE, PRIVATE_ANON).unwrap();
    mm.poke(at.get(), 1).unwrap();
    mm.poke(at.get() + PAGE, 1).unwrap();
    let guard = VirtAddr::new(at.get() + 2 * PAGE);
    mm.madvise(&Caller::ROOT, guard, PAGE, 102).unwrap();
    assert_eq!(mm.poke(guard.get(), 1), Err(Fault::Segv(SegvCode::MapErr)));
    let child = mm.fork(&Caller::ROOT).unwrap();
    world.mms.push(child.clone());
    child.poke(at.get(), 2).unwrap();
    world.check();
    let mut entries = [0; 4];
    mm.pagemap(at.vpn(), &mut entries, ShowFrames::No);
    let (present, once) = (1 << 63, 1 << 56);
    assert_eq!(entries, [present | once, present, 1 << 62 | 1 << 58, 0]);
    assert_eq!(child.poke(guard.get(), 1), Err(Fault::Segv(SegvCode::MapErr)));
    mm.madvise(&Caller::ROOT, guard, PAGE, 103).unwrap();
    assert_eq!(mm.poke(guard.get(), 1), Ok(()));
    world.check();
    drop((mm, child));
    world.end();
}

#[test]
fn mremap_moves_pages_and_duplicates_shared_ones() {
    let world = World::new(512);
    let mm = world.mm();
    let caller = &Caller::ROOT;
    let at = mm.map_anon(0, 4 * PAGE, READ_WRITE, PRIVATE_ANON).unwrap();
    mm.poke(at.get() + 3 * PAGE, 7).unwrap();
    // Something behind it, so that it cannot grow where it is.
    mm.map_anon(at.get() + 4 * PAGE, PAGE, 0, PRIVATE_ANON | FIXED).unwrap();
    let none = VirtAddr::ZERO;
    assert_eq!(mm.mremap(caller, at, 4 * PAGE, 8 * PAGE, 0, none), Err(Errno::ENOMEM));
    let moved = mm.mremap(caller, at, 4 * PAGE, 8 * PAGE, 1, none).unwrap();
    world.check();
    assert_ne!(moved, at);
    assert_eq!(mm.peek(moved.get() + 3 * PAGE), Ok(7));
    assert_eq!(mm.peek(moved.get() + 7 * PAGE), Ok(0));
    assert_eq!(mm.peek(at.get()), Err(Fault::Segv(SegvCode::MapErr)));

    let kept = mm.mremap(caller, moved, 8 * PAGE, 8 * PAGE, 1 | 4, none).unwrap();
    world.check();
    assert_eq!(mm.peek(kept.get() + 3 * PAGE), Ok(7));
    assert_eq!(mm.peek(moved.get() + 3 * PAGE), Ok(0), "the source stays, empty");

    let shared = mm.map_anon(0, 2 * PAGE, READ_WRITE, SHARED_ANON).unwrap();
    mm.poke(shared.get(), 9).unwrap();
    let twin = mm.mremap(caller, shared, 0, 2 * PAGE, 1, none).unwrap();
    world.check();
    mm.poke(twin.get() + 1, 8).unwrap();
    assert_eq!((mm.peek(twin.get()), mm.peek(shared.get() + 1)), (Ok(9), Ok(8)));
    assert_eq!(mm.mremap(caller, kept, 0, PAGE, 1, none), Err(Errno::EINVAL));
    world.end();
}
