//! What x86-64 Linux 6.18 answered to the same calls, write-protection apart (riscv64 6.12 answers
//! the same but for `UNREGISTER` through another descriptor, which it lets pass).

use super::*;
use crate::testing::{PRIVATE_ANON, READ_WRITE, SHARED_ANON, TestFile, TestHost};
use crate::{Caller, Memory};
use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::AtomicU32;
use kilburn_addr::{Access, PAGE_SIZE};

const P: u64 = PAGE_SIZE;

const REGISTER: u32 = 0xc020_aa00;
const UNREGISTER: u32 = 0x8010_aa01;
const WAKE: u32 = 0x8010_aa02;
const COPY: u32 = 0xc028_aa03;
const ZEROPAGE: u32 = 0xc020_aa04;
const MOVE: u32 = 0xc028_aa05;
const WRITEPROTECT: u32 = 0xc018_aa06;
const CONTINUE: u32 = 0xc020_aa07;
const POISON: u32 = 0xc020_aa08;
const UFFDIO_API: u32 = 0xc018_aa3f;

const MISSING: u64 = 1;
const MINOR: u64 = 4;
const SIGBUS: u64 = 1 << 7;

#[derive(Default)]
struct Counts {
    readable: AtomicU32,
    woken: AtomicU32,
}

struct Watch(Arc<Counts>);

impl UserfaultWatch for Watch {
    fn readable(&self) {
        self.0.readable.fetch_add(1, Ordering::Relaxed);
    }

    fn woken(&self) {
        self.0.woken.fetch_add(1, Ordering::Relaxed);
    }
}

/// A process with a page for arguments and eight pages of sevens to copy from.
struct Process {
    memory: Arc<Memory<TestHost>>,
    mm: Arc<Mm<TestHost>>,
    counts: Arc<Counts>,
    arg: VirtAddr,
    source: u64,
}

type Uffd = Arc<Userfaultfd<TestHost>>;

/// The thread 7, which can wait.
const THREAD: Caller = Caller { userfault_thread: Some(7), ..Caller::ROOT };

impl Process {
    fn new() -> Self {
        let memory = TestHost::memory(512);
        let mm = TestHost::mm(&memory);
        let arg = mm.map_anon(0, P, READ_WRITE, PRIVATE_ANON).expect("room");
        let source = mm.map_anon(0, 8 * P, READ_WRITE, PRIVATE_ANON).expect("room");
        mm.write(&Caller::ROOT, source, &vec![7; 8 * P as usize]).expect("mapped");
        Self { memory, mm, counts: Arc::default(), arg, source: source.get() }
    }

    /// Pages far from all others, so that areas do not merge with them.
    fn pages(&self, at: u64, count: u64) -> u64 {
        let flags = PRIVATE_ANON | crate::testing::FIXED;
        self.mm.map_anon(at, count * P, READ_WRITE, flags).expect("room").get()
    }

    fn uffd(&self, features: u64) -> Uffd {
        let watch = Box::new(Watch(self.counts.clone()));
        let uffd = Userfaultfd::new(&self.mm, 0, watch).expect("no flags");
        assert_eq!(self.ioctl(&uffd, UFFDIO_API, [API, features, 0]).0, Ok(()));
        uffd
    }

    /// The answer, and the argument after it.
    fn ioctl<const WORDS: usize>(
        &self,
        uffd: &Uffd,
        request: u32,
        words: [u64; WORDS],
    ) -> (Result<(), Errno>, [u64; WORDS]) {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.mm.write(&Caller::ROOT, self.arg, &bytes).expect("mapped");
        let answer = uffd.ioctl(&self.mm, &THREAD, request, self.arg);
        let mut bytes = vec![0; WORDS * 8];
        self.mm.read(&Caller::ROOT, self.arg, &mut bytes).expect("mapped");
        let mut after = [0; WORDS];
        for (word, bytes) in after.iter_mut().zip(bytes.chunks_exact(8)) {
            *word = u64::from_le_bytes(bytes.try_into().expect("8 bytes"));
        }
        self.check();
        (answer, after)
    }

    fn register(&self, uffd: &Uffd, at: u64, pages: u64, mode: u64) -> Result<u64, Errno> {
        let (answer, after) = self.ioctl(uffd, REGISTER, [at, pages * P, mode, 99]);
        assert_eq!(answer.is_err(), after[3] == 99);
        answer.map(|()| after[3])
    }

    /// The answer of a call that tells how far it came, and that.
    fn fill<const WORDS: usize>(
        &self,
        uffd: &Uffd,
        request: u32,
        words: [u64; WORDS],
    ) -> (Result<(), Errno>, i64) {
        let (answer, after) = self.ioctl(uffd, request, words);
        (answer, after[WORDS - 1] as i64)
    }

    fn copy(&self, uffd: &Uffd, to: u64, pages: u64) -> (Result<(), Errno>, i64) {
        self.fill(uffd, COPY, [to, self.source, pages * P, 0, UNTOLD])
    }

    fn zero(&self, uffd: &Uffd, to: u64) -> (Result<(), Errno>, i64) {
        self.fill(uffd, ZEROPAGE, [to, P, 0, UNTOLD])
    }

    fn touch(&self, at: u64) -> Result<u8, Fault> {
        self.mm.peek(at)
    }

    fn check(&self) {
        self.memory.check(&[&self.mm], &[]).expect("consistent");
    }
}

/// What a call leaves alone that is refused before it begins.
const UNTOLD: u64 = 0x7777;

fn failed(errno: Errno) -> (Result<(), Errno>, i64) {
    (Err(errno), -i64::from(errno.number()))
}

const DONE: (Result<(), Errno>, i64) = (Ok(()), P as i64);

#[test]
fn the_handshake_is_made_once_and_refuses_what_there_is_not() {
    let p = Process::new();
    let new = || {
        let watch = Box::new(Watch(p.counts.clone()));
        Userfaultfd::new(&p.mm, 0, watch).expect("no flags")
    };
    let uffd = new();
    assert_eq!(p.ioctl(&uffd, WAKE, [0, 0]).0, Err(Errno::EINVAL));
    assert_eq!(p.ioctl(&uffd, UFFDIO_API, [0xab, 0, 5]), (Err(Errno::EINVAL), [0; 3]));
    for absent in [0, 1, 2, 3, 6, 12, 13, 15, 40] {
        let answer = p.ioctl(&uffd, UFFDIO_API, [API, 1 << absent, 5]);
        assert_eq!(answer, (Err(Errno::EINVAL), [0; 3]), "feature {absent}");
    }
    let (answer, shown) = p.ioctl(&uffd, UFFDIO_API, [API, SIGBUS, 5]);
    assert_eq!(answer, Ok(()));
    assert_eq!(shown, [API, Features::all().bits(), 0x8000_0000_0000_0003]);
    assert_eq!(p.ioctl(&uffd, UFFDIO_API, [API, 0, 5]), (Err(Errno::EINVAL), [0; 3]));
    assert_eq!(p.ioctl(&uffd, 0x1234, [0]).0, Err(Errno::EINVAL));
    let watch = || Box::new(Watch(p.counts.clone()));
    assert_eq!(Userfaultfd::new(&p.mm, 2, watch()).err(), Some(Errno::EINVAL));
    assert!(Userfaultfd::new(&p.mm, 1 | 0o2_004_000, watch()).is_ok());
    assert_eq!(uffd.fdinfo(), "pending:\t0\ntotal:\t0\nAPI:\taa:80:80000000000001ff\n");
}

#[test]
fn registering_says_what_can_be_done_and_shows_in_smaps() {
    let p = Process::new();
    let a = p.pages(0x10_0000_0000, 16);
    let uffd = p.uffd(SIGBUS);
    for (at, pages, mode) in [
        (a, 8, 0),
        (a, 8, 8),
        (a, 8, 2),
        (a, 8, MISSING | 2),
        (a, 8, MINOR),
        (a + 1, 1, MISSING),
        (a, 0, MISSING),
        (0, 1, MISSING),
        (P.wrapping_neg(), 1, MISSING),
        (a + 32 * P, 1, MISSING),
    ] {
        assert_eq!(p.register(&uffd, at, pages, mode), Err(Errno::EINVAL), "{at:#x} {mode}");
    }
    assert_eq!(p.register(&uffd, a, 8, MISSING), Ok(0x13c));
    let mut smaps = String::new();
    p.mm.write_smaps(&mut smaps).expect("a string");
    assert!(smaps.contains("VmFlags: rd wr mr mw me um ac \n"), "{smaps}");
    let other = p.uffd(0);
    assert_eq!(p.register(&other, a, 1, MISSING), Err(Errno::EBUSY));
    assert_eq!(p.ioctl(&other, UNREGISTER, [a, P]).0, Err(Errno::EINVAL));
    assert_eq!(p.ioctl(&uffd, UNREGISTER, [a, 16 * P]).0, Ok(()));
    assert_eq!(p.mm.maps().lines().filter(|line| line.starts_with("10000")).count(), 1);
    assert_eq!(p.ioctl(&uffd, UNREGISTER, [a + 32 * P, P]).0, Err(Errno::EINVAL));
}

#[test]
fn neighbours_that_differ_in_their_monitor_stay_apart() {
    let p = Process::new();
    let a = p.pages(0x10_0000_0000, 4);
    let (one, two) = (p.uffd(0), p.uffd(0));
    assert_eq!(p.register(&one, a, 2, MISSING), Ok(0x13c));
    assert_eq!(p.register(&two, a + 2 * P, 2, MISSING), Ok(0x13c));
    let areas = || p.mm.maps().lines().filter(|line| line.starts_with("10000")).count();
    assert_eq!(areas(), 2);
    one.release();
    two.release();
    assert_eq!(areas(), 1);
    p.check();
}

#[test]
fn a_private_page_is_filled_once_and_from_what_can_be_read() {
    let p = Process::new();
    let a = p.pages(0x10_0000_0000, 8);
    let uffd = p.uffd(SIGBUS);
    assert_eq!(p.register(&uffd, a, 8, MISSING), Ok(0x13c));
    assert_eq!(p.copy(&uffd, a, 1), DONE);
    assert_eq!(p.touch(a), Ok(7));
    assert_eq!(p.copy(&uffd, a, 1), failed(Errno::EEXIST));
    assert_eq!(p.copy(&uffd, a, 3), failed(Errno::EEXIST));
    let unaligned = [a + P, p.source + 1, 2 * P, 0, UNTOLD];
    assert_eq!(p.fill(&uffd, COPY, unaligned), (Ok(()), 2 * P as i64));
    let copy = |to, from, mode| p.fill(&uffd, COPY, [to, from, P, mode, UNTOLD]);
    assert_eq!(copy(a + 3 * P, p.source, 2), failed(Errno::EINVAL));
    assert_eq!(copy(a + 3 * P, p.source, 4), (Err(Errno::EINVAL), UNTOLD as i64));
    assert_eq!(copy(a + 3 * P, 1, 0), failed(Errno::EFAULT));
    assert_eq!(p.copy(&uffd, a + 7 * P, 2), failed(Errno::ENOENT));
    assert_eq!(p.copy(&uffd, p.source, 1), failed(Errno::ENOENT));
    assert_eq!(p.touch(a + 3 * P), Err(Fault::Bus));
    assert_eq!(p.zero(&uffd, a + 3 * P), DONE);
    assert_eq!(p.touch(a + 3 * P), Ok(0));
    assert_eq!(p.zero(&uffd, a + 3 * P), failed(Errno::EEXIST));
    let with_wp = [a + 4 * P, P, 2, UNTOLD];
    assert_eq!(p.fill(&uffd, ZEROPAGE, with_wp), (Err(Errno::EINVAL), UNTOLD as i64));
    // A part is done: the rest is to be tried again.
    p.mm.poke(a + 3 * P, 5).expect("there");
    let part = p.fill(&uffd, COPY, [a + 4 * P, p.source, 4 * P, 1, UNTOLD]);
    assert_eq!(part, (Ok(()), 4 * P as i64));
}

#[test]
fn a_poisoned_page_is_a_bus_error_until_it_is_filled_or_dropped() {
    let p = Process::new();
    let a = p.pages(0x10_0000_0000, 8);
    let uffd = p.uffd(SIGBUS);
    assert_eq!(p.register(&uffd, a, 8, MISSING), Ok(0x13c));
    let poison = |at| p.fill(&uffd, POISON, [at, P, 0, UNTOLD]);
    assert_eq!(poison(a), DONE);
    assert_eq!(p.touch(a), Err(Fault::Poisoned));
    assert_eq!(poison(a), failed(Errno::EEXIST));
    assert_eq!(p.zero(&uffd, a), failed(Errno::EEXIST));
    let mut resident = Vec::new();
    p.mm.mincore(VirtAddr::new(a), P, &mut resident).expect("mapped");
    assert_eq!(resident, [0]);
    assert_eq!(p.copy(&uffd, a, 1), DONE);
    assert_eq!(p.touch(a), Ok(7));
    assert_eq!(poison(a + P), DONE);
    p.mm.madvise(&Caller::ROOT, VirtAddr::new(a + P), P, 4).expect("MADV_DONTNEED");
    assert_eq!(p.touch(a + P), Err(Fault::Bus));
    // A guard is a marker as well.
    p.mm.madvise(&Caller::ROOT, VirtAddr::new(a + P), P, 102).expect("MADV_GUARD_INSTALL");
    assert_eq!(p.zero(&uffd, a + P), failed(Errno::EEXIST));
    assert_eq!(poison(a + P), failed(Errno::EEXIST));
    assert_eq!(p.copy(&uffd, a + P, 1), DONE);
    assert_eq!(p.touch(a + P), Ok(7));
}

#[test]
fn what_needs_write_protection_answers_as_without_it() {
    let p = Process::new();
    let a = p.pages(0x10_0000_0000, 2);
    let uffd = p.uffd(SIGBUS);
    assert_eq!(p.register(&uffd, a, 2, MISSING), Ok(0x13c));
    let wp = |mode| p.ioctl(&uffd, WRITEPROTECT, [a, P, mode]).0;
    assert_eq!(wp(1), Err(Errno::ENOENT));
    assert_eq!(wp(3), Err(Errno::EINVAL));
    assert_eq!(wp(8), Err(Errno::EINVAL));
    assert_eq!(p.fill(&uffd, CONTINUE, [a, P, 0, UNTOLD]), failed(Errno::EINVAL));
    assert_eq!(p.ioctl(&uffd, WAKE, [a, P]).0, Ok(()));
    assert_eq!(p.ioctl(&uffd, WAKE, [a, 0]).0, Err(Errno::EINVAL));
}

#[test]
fn calls_that_cannot_wait_go_without_the_page() {
    let p = Process::new();
    let a = p.pages(0x10_0000_0000, 2);
    let uffd = p.uffd(SIGBUS);
    assert_eq!(p.register(&uffd, a, 2, MISSING), Ok(0x13c));
    let at = VirtAddr::new(a);
    assert_eq!(p.mm.mlock(&Caller::ROOT, at, P), Err(Errno::ENOMEM));
    assert_eq!(p.mm.madvise(&Caller::ROOT, at, P, 22), Err(Errno::EFAULT));
    p.check();
}

#[test]
fn holes_are_passed_over_and_rights_decide() {
    let p = Process::new();
    let a = p.pages(0x10_0000_0000, 9);
    p.mm.munmap(VirtAddr::new(a + 3 * P), 3 * P).expect("mapped");
    let uffd = p.uffd(SIGBUS);
    assert_eq!(p.register(&uffd, a, 9, MISSING), Ok(0x13c));
    assert_eq!(p.touch(a + 8 * P), Err(Fault::Bus));
    assert_eq!(p.ioctl(&uffd, UNREGISTER, [a, 9 * P]).0, Ok(()));
    assert_eq!(p.touch(a + 8 * P), Ok(0));
    let read_only = p.mm.map_anon(0x11_0000_0000, P, 1, PRIVATE_ANON).expect("room").get();
    assert_eq!(p.register(&uffd, read_only, 1, MISSING), Ok(0x13c));
    assert_eq!(p.copy(&uffd, read_only, 1), DONE);
    assert_eq!(p.touch(read_only), Ok(7));
    let droppable = p.mm.map_anon(0x12_0000_0000, P, 3, 0x28).expect("room").get();
    assert_eq!(p.register(&uffd, droppable, 1, MISSING), Err(Errno::EINVAL));
    let nothing = p.mm.map_anon(0x13_0000_0000, P, 0, PRIVATE_ANON).expect("room").get();
    assert_eq!(p.register(&uffd, nothing, 1, MISSING), Ok(0x13c));
    assert_eq!(p.copy(&uffd, nothing, 1), DONE);
    let file = TestFile::stored(&p.memory, "/f", crate::testing::TestStore::with(b"x"));
    let mapped = p.mm.map_file(&file, P, 3, 2, 0).expect("room").get();
    assert_eq!(p.register(&uffd, mapped, 1, MISSING), Err(Errno::EINVAL));
    p.mm.munmap(VirtAddr::new(mapped), P).expect("mapped");
}

#[test]
fn shared_memory_is_filled_in_the_cache_and_private_views_in_place() {
    let p = Process::new();
    let file = TestFile::shmem(&p.memory, "/memfd:x", &[]);
    file.cache().truncate(6 * P).expect("room");
    let shared = p.mm.map_file(&file, 8 * P, 3, 1, 0).expect("room").get();
    let private = p.mm.map_file(&file, 8 * P, 3, 2, 0).expect("room").get();
    let uffd = p.uffd(SIGBUS);
    assert_eq!(p.register(&uffd, shared, 8, MISSING), Ok(0x13c));
    assert_eq!(p.register(&uffd, private, 8, MISSING), Ok(0x13c));
    assert_eq!(p.copy(&uffd, shared, 1), DONE);
    assert_eq!((p.touch(shared), p.touch(private)), (Ok(7), Ok(7)));
    assert_eq!(p.copy(&uffd, private, 1), failed(Errno::EEXIST));
    assert_eq!(p.copy(&uffd, private + P, 1), DONE);
    assert_eq!((p.touch(private + P), p.touch(shared + P)), (Ok(7), Err(Fault::Bus)));
    assert_eq!(p.zero(&uffd, shared + 2 * P), DONE);
    assert_eq!(file.cache().cached_pages(), 2);
    assert_eq!(p.zero(&uffd, private + 3 * P), DONE);
    assert_eq!(file.cache().cached_pages(), 2);
    assert_eq!(p.touch(shared + 3 * P), Err(Fault::Bus));
    for past_end in [shared + 6 * P, private + 6 * P] {
        assert_eq!(p.copy(&uffd, past_end, 1), failed(Errno::EFAULT));
        assert_eq!(p.zero(&uffd, past_end), failed(Errno::EFAULT));
    }
    assert_eq!(p.fill(&uffd, POISON, [shared + 6 * P, P, 0, UNTOLD]), failed(Errno::EFAULT));
    assert_eq!(p.copy(&uffd, shared + 5 * P, 2), (Err(Errno::EAGAIN), P as i64));
}

#[test]
fn minor_faults_are_resolved_with_the_cached_page() {
    let p = Process::new();
    let file = TestFile::shmem(&p.memory, "/memfd:x", &[1; 4096]);
    file.cache().truncate(6 * P).expect("room");
    let shared = p.mm.map_file(&file, 8 * P, 3, 1, 0).expect("room").get();
    let uffd = p.uffd(SIGBUS | Features::MINOR_SHMEM.bits());
    assert_eq!(p.register(&uffd, shared, 8, MINOR), Ok(0x1bc));
    assert_eq!(p.register(&uffd, p.source, 1, MINOR), Err(Errno::EINVAL));
    let resume = |at| p.fill(&uffd, CONTINUE, [at, P, 0, UNTOLD]);
    assert_eq!(p.touch(shared), Err(Fault::Bus));
    assert_eq!(p.touch(shared + 4 * P), Ok(0));
    assert_eq!(resume(shared), DONE);
    assert_eq!(p.touch(shared), Ok(1));
    assert_eq!(resume(shared), failed(Errno::EEXIST));
    assert_eq!(resume(shared + 5 * P), failed(Errno::EFAULT));
    assert_eq!(resume(shared + 6 * P), failed(Errno::EINVAL));
    let private = p.mm.map_file(&file, 8 * P, 3, 2, 0).expect("room").get();
    assert_eq!(p.register(&uffd, private, 8, MISSING | MINOR), Ok(0x1bc));
    assert_eq!(resume(private), DONE);
    p.mm.poke(private, 9).expect("a copy");
    assert_eq!((p.touch(private), p.touch(shared)), (Ok(9), Ok(1)));
    p.check();
}

#[test]
fn pages_move_between_areas_that_are_alike() {
    let p = Process::new();
    let to = p.pages(0x10_0000_0000, 8);
    let from = p.pages(0x11_0000_0000, 8);
    p.mm.write(&Caller::ROOT, VirtAddr::new(from), &[9; 4 * 4096]).expect("mapped");
    let uffd = p.uffd(SIGBUS);
    let relocate =
        |to, from, pages: u64, mode| p.fill(&uffd, MOVE, [to, from, pages * P, mode, UNTOLD]);
    assert_eq!(relocate(to, from, 1, 0), failed(Errno::EINVAL));
    assert_eq!(p.register(&uffd, to, 8, MISSING), Ok(0x13c));
    assert_eq!(relocate(to, from, 1, 0), DONE);
    assert_eq!((p.touch(to), p.touch(from)), (Ok(9), Ok(0)));
    assert_eq!(relocate(to, from, 1, 0), failed(Errno::EEXIST));
    // The page just read is the zero page, which moves as well.
    assert_eq!(relocate(to + P, from, 1, 0), DONE);
    assert_eq!(relocate(to + P, from + P, 3, 4), (Err(Errno::EINVAL), UNTOLD as i64));
    assert_eq!(relocate(to + 5 * P, to + P, 1, 0), DONE);
    assert_eq!(relocate(to + 5 * P, to + 5 * P, 1, 0), failed(Errno::EEXIST));
    assert_eq!(relocate(from, to, 1, 0), failed(Errno::EINVAL));
    assert_eq!(relocate(to + 2 * P, from + 5 * P, 1, 0), failed(Errno::ENOENT));
    assert_eq!(relocate(to + 2 * P, from + 4 * P, 2, 2), (Ok(()), 2 * P as i64));
    assert_eq!(relocate(to + 6 * P, 0x20_0000_0000, 1, 0), failed(Errno::ENOENT));
    let at = |addr| VirtAddr::new(addr);
    p.mm.mprotect(&Caller::ROOT, at(from), P, 1).expect("mapped");
    assert_eq!(relocate(to + 6 * P, from, 1, 2), failed(Errno::EINVAL));
    p.mm.mprotect(&Caller::ROOT, at(from), P, 3).expect("mapped");
    p.mm.poke(from, 3).expect("mapped");
    p.mm.mlock(&Caller::ROOT, at(from), P).expect("mapped");
    assert_eq!(relocate(to + 6 * P, from, 1, 0), failed(Errno::EINVAL));
    p.mm.munlock(at(from), P).expect("mapped");
    let child = p.mm.fork(&Caller::ROOT).expect("room");
    let shared_now = uffd.relocate(
        kilburn_addr::AddrRange::with_len(at(to + 6 * P), P).expect("aligned"),
        kilburn_addr::AddrRange::with_len(at(from), P).expect("aligned"),
        relocate::Holes::Refused,
        FillMode::Wake,
    );
    assert_eq!(shared_now, Err(Errno::EBUSY));
    drop(child);
    p.check();
}

#[test]
fn a_moved_mapping_leaves_its_monitor_at_the_source() {
    let p = Process::new();
    let a = p.pages(0x10_0000_0000, 2);
    let uffd = p.uffd(SIGBUS);
    assert_eq!(p.register(&uffd, a, 2, MISSING), Ok(0x13c));
    assert_eq!(p.copy(&uffd, a, 1), DONE);
    let at = VirtAddr::new(a);
    let remap = |flags, to| p.mm.mremap(&Caller::ROOT, at, 2 * P, 2 * P, flags, to);
    let moved = remap(1 | 4, VirtAddr::ZERO).expect("MREMAP_DONTUNMAP").get();
    assert_eq!((p.touch(moved), p.touch(moved + P)), (Ok(7), Ok(0)));
    assert_eq!(p.touch(a), Err(Fault::Bus));
    assert_eq!(p.copy(&uffd, moved + P, 1), failed(Errno::ENOENT));
    remap(3, VirtAddr::new(moved)).expect("MREMAP_FIXED");
    assert_eq!(p.touch(moved), Ok(0));
    p.check();
}

#[test]
fn a_child_is_not_watched() {
    let p = Process::new();
    let a = p.pages(0x10_0000_0000, 2);
    let uffd = p.uffd(SIGBUS);
    assert_eq!(p.register(&uffd, a, 2, MISSING), Ok(0x13c));
    let child = p.mm.fork(&Caller::ROOT).expect("room");
    assert_eq!(child.peek(a), Ok(0));
    assert_eq!(p.touch(a), Err(Fault::Bus));
    p.memory.check(&[&p.mm, &child], &[]).expect("consistent");
}

#[test]
fn a_fault_waits_until_its_page_is_there() {
    let p = Process::new();
    let a = p.pages(0x10_0000_0000, 4);
    let features = Features::THREAD_ID | Features::EXACT_ADDRESS;
    let uffd = p.uffd(features.bits());
    assert_eq!(p.register(&uffd, a, 4, MISSING), Ok(0x13c));
    let fault = |offset, access| p.mm.handle_fault(&THREAD, VirtAddr::new(a + offset), access);
    let Err(Fault::Userfault(first)) = fault(0x123, Access::Write) else { panic!("it waits") };
    let Err(Fault::Userfault(second)) = fault(P, Access::Read) else { panic!("it waits") };
    assert_eq!(p.counts.readable.load(Ordering::Relaxed), 2);
    assert!(uffd.fdinfo().starts_with("pending:\t2\ntotal:\t2\n"));
    let message = uffd.read_message().expect("two wait");
    let expected = Message { address: a + 0x123, write: true, minor: false, thread: Some(7) };
    assert_eq!(message, expected);
    let bytes = message.to_bytes();
    assert_eq!((bytes[0], bytes[8], bytes[16], bytes[24]), (0x12, 1, 0x23, 7));
    assert!(p.mm.userfault_waits(first) && uffd.is_readable());
    let dont_wake = [a, p.source, P, 1, UNTOLD];
    assert_eq!(p.fill(&uffd, COPY, dont_wake), DONE);
    assert!(p.mm.userfault_waits(first));
    assert_eq!(p.ioctl(&uffd, WAKE, [a, P]).0, Ok(()));
    assert!(!p.mm.userfault_waits(first) && p.mm.userfault_waits(second));
    assert_eq!(p.counts.woken.load(Ordering::Relaxed), 1);
    assert!(fault(0x123, Access::Write).is_ok());
    // A signal ends the wait of the other before its message was read.
    p.mm.cancel_userfault(second);
    assert_eq!(uffd.read_message(), None);
    let Err(Fault::Userfault(third)) = fault(2 * P, Access::Read) else { panic!("it waits") };
    uffd.release();
    assert!(!p.mm.userfault_waits(third));
    assert!(fault(2 * P, Access::Read).is_ok());
    p.check();
}

#[test]
fn the_kernel_does_not_wait_for_a_monitor_of_user_faults_only() {
    let p = Process::new();
    let a = p.pages(0x10_0000_0000, 1);
    let watch = Box::new(Watch(p.counts.clone()));
    let uffd = Userfaultfd::new(&p.mm, 1, watch).expect("UFFD_USER_MODE_ONLY");
    assert_eq!(p.ioctl(&uffd, UFFDIO_API, [API, 0, 0]).0, Ok(()));
    assert_eq!(p.register(&uffd, a, 1, MISSING), Ok(0x13c));
    let copied = p.mm.read(&THREAD, VirtAddr::new(a), &mut [0]);
    assert_eq!(copied.expect_err("no page").fault, Fault::Bus);
    let faulted = p.mm.handle_fault(&THREAD, VirtAddr::new(a), Access::Read);
    assert!(matches!(faulted, Err(Fault::Userfault(_))));
}

#[test]
fn shared_anonymous_memory_tells_minor_from_missing() {
    let p = Process::new();
    let a = p.mm.map_anon(0, 2 * P, READ_WRITE, SHARED_ANON).expect("room").get();
    p.mm.poke(a, 1).expect("mapped");
    p.mm.madvise(&Caller::ROOT, VirtAddr::new(a), P, 4).expect("MADV_DONTNEED");
    let uffd = p.uffd(0);
    assert_eq!(p.register(&uffd, a, 2, MISSING | MINOR), Ok(0x1bc));
    for (page, minor) in [(0, true), (1, false)] {
        let at = VirtAddr::new(a + page * P);
        let Err(Fault::Userfault(_)) = p.mm.handle_fault(&THREAD, at, Access::Read) else {
            panic!("it waits")
        };
        assert_eq!(uffd.read_message().expect("one waits").minor, minor);
    }
}
