//! Reading ahead in swap: who is read with whom, what it changes, and that it hurts nobody.

use kilburn_addr::{Errno, VirtAddr};
use kilburn_mm::testing::*;
use kilburn_mm::*;
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const PAGE: u64 = 4096;
const BASE: u64 = 0x1000_0000;
const ROOT: &Caller = &Caller::ROOT;

/// Whether an area takes time to read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Slow,
    Synchronous,
}

/// An area of which single slots fail, and each read takes time.
struct Area {
    kept: Arc<TestSwap>,
    kind: Kind,
    bad: Mutex<BTreeSet<u32>>,
    waited_ns: AtomicU64,
}

const READ_NS: u64 = 1000;

impl SwapArea for Area {
    fn slots(&self) -> u32 {
        self.kept.slots()
    }

    fn read(&self, slot: u32, into: &mut [u8; 4096]) -> Result<(), Errno> {
        self.waited_ns.fetch_add(READ_NS, Ordering::Relaxed);
        if self.bad.lock().contains(&slot) {
            return Err(Errno::EIO);
        }
        self.kept.read(slot, into)
    }

    fn write(&self, slot: u32, from: &[u8; 4096]) -> Result<(), Errno> {
        self.kept.write(slot, from)
    }

    fn discard(&self, slot: u32) {
        self.kept.discard(slot);
    }

    fn take_wait_ns(&self) -> u64 {
        self.waited_ns.swap(0, Ordering::Relaxed)
    }

    fn is_synchronous(&self) -> bool {
        self.kind == Kind::Synchronous
    }
}

/// A machine of 16 MiB, whose windows have 8 pages, and its swap.
fn machine(kind: Kind) -> (Arc<Memory<TestHost>>, Arc<Area>) {
    let memory = TestHost::memory(4096);
    let area = Arc::new(Area {
        kept: TestSwap::new(4096),
        kind,
        bad: Mutex::default(),
        waited_ns: AtomicU64::new(0),
    });
    memory.swap_on("swap", area.clone(), None).expect("the first area");
    (memory, area)
}

/// `pages` pages, each beginning with its number, all of them in swap.
fn all_in_swap(memory: &Arc<Memory<TestHost>>, pages: u64) -> Arc<Mm<TestHost>> {
    let mm = TestHost::mm(memory);
    mm.map_anon(BASE, pages * PAGE, READ_WRITE, PRIVATE_ANON | FIXED).expect("mapped");
    for page in 0..pages {
        mm.poke(at(page), page as u8).expect("room");
    }
    page_out(&mm, pages);
    assert_eq!(mm.status().vm_swap, pages * PAGE);
    mm
}

fn page_out(mm: &Mm<TestHost>, pages: u64) {
    mm.madvise(ROOT, VirtAddr::new(BASE), pages * PAGE, 21).expect("advised");
}

fn at(page: u64) -> u64 {
    BASE + page * PAGE
}

/// Reads by the program, one byte a page.
fn fault(mm: &Mm<TestHost>, page: u64) -> Result<u8, Fault> {
    mm.handle_fault(ROOT, VirtAddr::new(at(page)), kilburn_addr::Access::Read)?;
    Ok(mm.peek(at(page)).expect("just mapped"))
}

/// Which of the pages are in memory, mapped or not.
fn incore(mm: &Mm<TestHost>, pages: u64) -> Vec<u64> {
    let mut incore = Vec::new();
    mm.mincore(VirtAddr::new(BASE), pages * PAGE, &mut incore).expect("mapped");
    (0..pages).filter(|&page| incore[page as usize] == 1).collect()
}

#[test]
fn neighbours_come_into_the_swap_cache_and_are_mapped_by_nobody() {
    let (memory, _) = machine(Kind::Slow);
    let mm = all_in_swap(&memory, 64);
    assert_eq!(fault(&mm, 20), Ok(20));
    assert_eq!(incore(&mm, 64), (17..25).collect::<Vec<_>>());
    let (counts, stat) = (memory.counts(), memory.vm_stat());
    assert_eq!((stat.pswpin, stat.swap_ra, stat.swap_ra_hit), (8, 7, 0));
    assert_eq!(counts.swap_cached, 8);
    assert_eq!((mm.status().vm_rss, mm.status().vm_swap), (PAGE, 63 * PAGE));
    assert_eq!(memory.mapped_anon_pages(), 1);
    memory.check(&[&mm], &[]).expect("consistent");
    assert_eq!(fault(&mm, 21), Ok(21));
    let stat = memory.vm_stat();
    assert_eq!((stat.pswpin, stat.swap_ra_hit, mm.stats().major), (8, 1, 1));
    memory.check(&[&mm], &[]).expect("consistent");
    drop(mm);
    let counts = memory.counts();
    assert_eq!((counts.free, counts.swap_free), (counts.total - 1, 4096));
}

#[test]
fn one_page_in_eight_is_a_major_fault_when_all_are_read_in_order() {
    let (memory, _) = machine(Kind::Slow);
    let mm = all_in_swap(&memory, 512);
    for page in 0..512 {
        assert_eq!(fault(&mm, page), Ok(page as u8));
    }
    let stat = memory.vm_stat();
    // The first window lies around its page, all others before theirs.
    assert_eq!((stat.pswpin, stat.swap_ra, stat.swap_ra_hit), (512, 447, 447));
    assert_eq!(mm.stats().major, 65);
}

#[test]
fn who_jumps_about_soon_reads_what_is_needed_and_no_more() {
    let (memory, _) = machine(Kind::Slow);
    let mm = all_in_swap(&memory, 2000);
    for page in (0..2000).step_by(50) {
        assert_eq!(fault(&mm, page), Ok(page as u8));
    }
    // Windows of 8 (5 of them in the area), 4, 2, and then one page each time.
    assert_eq!(memory.vm_stat().swap_ra, 4 + 3 + 1);
}

#[test]
fn a_window_is_waited_for_as_long_as_its_slowest_page() {
    let (memory, _) = machine(Kind::Slow);
    let mm = all_in_swap(&memory, 64);
    let _ = memory.take_io_wait();
    assert_eq!(fault(&mm, 20), Ok(20));
    assert_eq!(memory.take_io_wait(), IoWait { swap_ns: READ_NS, file_ns: 0 });
}

#[test]
fn memory_backed_areas_are_read_ahead_for_shared_pages_alone() {
    let (memory, _) = machine(Kind::Synchronous);
    let mm = all_in_swap(&memory, 64);
    assert_eq!(fault(&mm, 20), Ok(20));
    assert_eq!(memory.vm_stat().swap_ra, 0);
    let child = mm.fork(ROOT).expect("room");
    assert_eq!(fault(&child, 40), Ok(40));
    assert_eq!(memory.vm_stat().swap_ra, 7);
    memory.check(&[&mm, &child], &[]).expect("consistent");
}

#[test]
fn page_cluster_0_reads_each_page_when_it_is_needed() {
    let (memory, _) = machine(Kind::Slow);
    assert_eq!(memory.sysctl(Sysctl::PageCluster), 3);
    assert_eq!(memory.set_sysctl(Sysctl::PageCluster, 32), Err(Errno::EINVAL));
    memory.set_sysctl(Sysctl::PageCluster, 0).expect("in range");
    let mm = all_in_swap(&memory, 64);
    for page in 0..64 {
        assert_eq!(fault(&mm, page), Ok(page as u8));
    }
    assert_eq!((memory.vm_stat().swap_ra, mm.stats().major), (0, 64));
}

#[test]
fn a_neighbour_that_cannot_be_read_fails_only_who_needs_it() {
    let (memory, area) = machine(Kind::Slow);
    let mm = all_in_swap(&memory, 64);
    // Slots are given out in the order of the pages.
    area.bad.lock().extend([18, 21]);
    assert_eq!(fault(&mm, 20), Ok(20));
    assert_eq!(incore(&mm, 64), [17, 19, 20, 22, 23, 24]);
    memory.check(&[&mm], &[]).expect("consistent");
    assert_eq!(fault(&mm, 21), Err(Fault::Bus));
    assert_eq!(fault(&mm, 22), Ok(22));
    area.bad.lock().clear();
    for page in 0..64 {
        assert_eq!(fault(&mm, page), Ok(page as u8));
    }
    memory.check(&[&mm], &[]).expect("consistent");
}

#[test]
fn pages_read_ahead_for_nothing_go_again_without_being_written() {
    let (memory, _) = machine(Kind::Slow);
    let mm = all_in_swap(&memory, 64);
    assert_eq!(fault(&mm, 20), Ok(20));
    let written = memory.vm_stat().pswpout;
    while memory.counts().swap_cached > 0 {
        assert!(memory.reclaim_pages(1) > 0);
        memory.check(&[&mm], &[]).expect("consistent");
    }
    assert_eq!(memory.vm_stat().pswpout, written);
    for page in 0..64 {
        assert_eq!(fault(&mm, page), Ok(page as u8));
    }
}

#[test]
fn a_write_to_a_page_read_ahead_makes_its_slot_free() {
    let (memory, area) = machine(Kind::Slow);
    let mm = all_in_swap(&memory, 64);
    assert_eq!(fault(&mm, 20), Ok(20));
    assert_eq!(area.kept.written(), 64);
    mm.poke(at(21), 99).expect("writable");
    assert_eq!(area.kept.written(), 63);
    mm.munmap(VirtAddr::new(at(22)), 2 * PAGE).expect("unmapped");
    assert_eq!((area.kept.written(), memory.counts().swap_cached), (61, 5));
    memory.check(&[&mm], &[]).expect("consistent");
}

#[test]
fn pages_of_shared_memory_are_read_with_those_beside_them_in_the_area() {
    let (memory, _) = machine(Kind::Slow);
    let file = TestFile::shmem(&memory, "/shm", &[]);
    for page in 0..64_u64 {
        file.cache().write_at(page * PAGE, &[page as u8; PAGE as usize]).expect("room");
    }
    while file.cache().swapped_pages() < 64 {
        assert!(memory.reclaim_pages(1) > 0);
    }
    let mm = TestHost::mm(&memory);
    let shared = mm.map_file(&file, 64 * PAGE, READ_WRITE, 1, 0).expect("mapped").get();
    let mut incore = Vec::new();
    assert_eq!(mm.peek(shared + 20 * PAGE), Ok(20));
    let stat = memory.vm_stat();
    assert_eq!((stat.pswpin, stat.swap_ra, memory.counts().swap_cached), (8, 7, 7));
    // In memory are the page that was needed and, in the swap cache, its neighbours.
    mm.mincore(VirtAddr::new(shared), 64 * PAGE, &mut incore).expect("mapped");
    assert_eq!(incore.iter().map(|&page| u64::from(page)).sum::<u64>(), 8);
    memory.check(&[&mm], &[file.cache()]).expect("consistent");
    for page in 0..64 {
        assert_eq!(mm.peek(shared + page * PAGE), Ok(page as u8));
        memory.check(&[&mm], &[file.cache()]).expect("consistent");
    }
    let stat = memory.vm_stat();
    // Page 0 after page 20 is a jump: a window of 4, and then 4 again, as it is aligned.
    assert_eq!((stat.pswpin, stat.swap_ra, stat.swap_ra_hit), (64, 55, 55));
    assert_eq!(mm.stats().major, 9);
    let counts = memory.counts();
    assert_eq!((counts.shmem, counts.swap_cached, counts.swap_free), (64, 0, 4096));
}

#[test]
fn truncation_takes_what_was_read_ahead_along() {
    let (memory, _) = machine(Kind::Slow);
    let file = TestFile::shmem(&memory, "/shm", &[7; 64 * PAGE as usize]);
    while file.cache().swapped_pages() < 64 {
        assert!(memory.reclaim_pages(1) > 0);
    }
    let mut byte = [0];
    file.cache().read_at(20 * PAGE, &mut byte).expect("there");
    assert_eq!((byte, memory.counts().swap_cached), ([7], 7));
    file.cache().truncate(0).expect("shrunk");
    let counts = memory.counts();
    assert_eq!((counts.swap_cached, counts.swap_free), (0, 4096));
    memory.check(&[], &[file.cache()]).expect("consistent");
}

#[test]
fn swapoff_brings_home_what_was_read_ahead() {
    let (memory, _) = machine(Kind::Slow);
    let mm = all_in_swap(&memory, 64);
    assert_eq!(fault(&mm, 20), Ok(20));
    memory.swap_off("swap").expect("room");
    assert_eq!((memory.counts().swap_cached, mm.status().vm_swap), (0, 0));
    for page in 0..64 {
        assert_eq!(mm.peek(at(page)), Ok(page as u8));
    }
    memory.check(&[&mm], &[]).expect("consistent");
}
