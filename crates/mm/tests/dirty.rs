//! Dirty pages: how many there may be, who writes them, and when.

use kilburn_addr::Errno;
use kilburn_mm::testing::*;
use kilburn_mm::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const PAGE: u64 = 4096;
const SECOND: u64 = 1_000_000_000;

/// A machine of 4 MiB with a file of `pages` pages.
fn machine(pages: u64) -> (Arc<Memory<TestHost>>, Arc<TestFile>) {
    let memory = TestHost::memory(1024);
    memory.note_time(SECOND);
    let store = TestStore::with(&vec![0; (pages * PAGE) as usize]);
    let file = TestFile::stored(&memory, "/file", store);
    (memory, file)
}

fn dirty_pages(file: &TestFile, from: u64, pages: u64) {
    for page in from..from + pages {
        file.cache().write_at(page * PAGE, &[1; PAGE as usize]).expect("room");
    }
}

#[test]
fn limits_are_parts_of_what_the_page_cache_may_become() {
    let (memory, file) = machine(100);
    let marks = memory.watermarks();
    let available = memory.counts().free - marks.high + 1;
    let limits = DirtyLimits { background: available / 10, limit: available / 5 };
    assert_eq!(memory.dirty_limits(), limits);
    // The page cache is part of it, whatever it holds.
    dirty_pages(&file, 0, 50);
    assert_eq!(memory.dirty_limits(), limits);
    memory.set_sysctl(Sysctl::DirtyBytes, 8193).expect("in range");
    assert_eq!(memory.dirty_limits(), DirtyLimits { background: 1, limit: 3 });
    assert_eq!(memory.sysctl(Sysctl::DirtyRatio), 0);
    memory.set_sysctl(Sysctl::DirtyRatio, 50).expect("in range");
    memory.set_sysctl(Sysctl::DirtyBackgroundBytes, 1).expect("in range");
    let limits = DirtyLimits { background: 1, limit: available / 2 };
    assert_eq!((memory.dirty_limits(), memory.sysctl(Sysctl::DirtyBytes)), (limits, 0));
}

#[test]
fn above_the_background_limit_the_flusher_writes_until_it_is_kept() {
    let (memory, file) = machine(1000);
    let DirtyLimits { background, .. } = memory.dirty_limits();
    dirty_pages(&file, 0, background);
    assert_eq!((memory.throttle(), memory.is_flusher_wanted()), (0, false));
    dirty_pages(&file, background, 1);
    assert_eq!((memory.throttle(), memory.is_flusher_wanted()), (0, true));
    memory.flush_background();
    assert!(!memory.is_flusher_wanted() && memory.counts().dirty <= background);
    let stat = memory.vm_stat();
    assert_eq!((stat.nr_dirtied, stat.nr_written), (background + 1, background + 1));
}

#[test]
fn who_dirties_waits_from_halfway_to_the_limit_on() {
    let (memory, file) = machine(1000);
    let DirtyLimits { background, limit } = memory.dirty_limits();
    let halfway = u64::midpoint(background, limit);
    dirty_pages(&file, 0, halfway);
    assert_eq!(memory.throttle(), 0);
    dirty_pages(&file, halfway, 10);
    // 100 MiB/s.
    assert_eq!(memory.throttle(), 10 * SECOND / 25_600);
    assert_eq!(memory.throttle(), 0, "nobody dirtied anything since");
    // Through a mapping as well.
    let mm = TestHost::mm(&memory);
    let at = mm.map_file(&file, 1000 * PAGE, READ_WRITE, 1, 0).expect("mapped").get();
    mm.poke(at + 900 * PAGE, 1).expect("writable");
    assert_eq!(memory.throttle(), SECOND / 25_600);
}

#[test]
fn one_call_leaves_no_more_dirty_pages_than_the_limit() {
    let (memory, file) = machine(1);
    let limit = memory.dirty_limits().limit;
    for pages in [limit / 2, limit * 4] {
        file.cache().write_at(0, &vec![7; (pages * PAGE) as usize]).expect("room");
        // It looks every 32 pages.
        assert!(memory.counts().dirty <= limit + 32, "{} of {limit}", memory.counts().dirty);
    }
    memory.check(&[], &[file.cache()]).expect("consistent");
}

#[test]
fn a_file_that_grows_past_the_limit_is_in_its_store_to_the_last_byte() {
    let memory = TestHost::memory(1024);
    memory.note_time(SECOND);
    let limit = memory.dirty_limits().limit;
    let bytes: Vec<u8> = (0..limit * 4 * PAGE + 7).map(|i| (i / 61) as u8).collect();
    for piece in [bytes.len(), 128 << 10, PAGE as usize, 5000] {
        let store = TestStore::with(&[]);
        let file = TestFile::stored(&memory, "/file", store.clone());
        for (i, part) in bytes.chunks(piece).enumerate() {
            let at = (i * piece) as u64;
            assert_eq!(file.cache().write_at(at, part), Ok(part.len()));
        }
        assert!(memory.vm_stat().nr_written > limit, "some were written on the way");
        file.cache().write_back(0..u64::MAX).expect("a store that works");
        assert_eq!((memory.counts().dirty, store.0.lock().len()), (0, bytes.len()));
        assert!(*store.0.lock() == bytes, "a page is missing, in pieces of {piece}");
        // What is read again comes from there.
        file.cache().evict();
        let mut back = vec![0; bytes.len()];
        assert_eq!(file.cache().read_at(0, &mut back), Ok(bytes.len()));
        assert!(back == bytes, "in pieces of {piece}");
    }
}

#[test]
fn pages_are_written_when_their_file_has_been_dirty_for_long() {
    let (memory, file) = machine(100);
    let other = TestFile::stored(&memory, "/other", TestStore::with(&[0; PAGE as usize]));
    dirty_pages(&file, 0, 3);
    memory.note_time(11 * SECOND);
    dirty_pages(&file, 3, 1);
    dirty_pages(&other, 0, 1);
    memory.note_time(31 * SECOND);
    memory.flush_old(30 * SECOND);
    assert_eq!((file.cache().dirty_pages(), other.cache().dirty_pages()), (0, 1));
    dirty_pages(&file, 0, 1);
    memory.note_time(41 * SECOND);
    memory.flush_old(30 * SECOND);
    assert_eq!((file.cache().dirty_pages(), other.cache().dirty_pages()), (1, 0));
    memory.note_time(61 * SECOND);
    memory.flush_old(30 * SECOND);
    assert_eq!(memory.counts().dirty, 0);
}

#[test]
fn a_store_that_fails_is_asked_again_a_second_later() {
    let memory = TestHost::memory(1024);
    memory.note_time(SECOND);
    let store = FailingStore::default();
    let file = AddressSpace::new(&memory, Box::new(store.clone()), 1000 * PAGE);
    let pages = memory.dirty_limits().background + 1;
    file.write_at(0, &vec![1; (pages * PAGE) as usize]).expect("room");
    let tries = |at: u64| {
        memory.note_time(at);
        file.write_at(0, &[2]).expect("there");
        memory.throttle();
        memory.flush_background();
        store.0.load(Ordering::Relaxed)
    };
    assert_eq!(tries(SECOND), pages);
    assert_eq!(tries(2 * SECOND - 1), pages);
    assert_eq!(tries(2 * SECOND), 2 * pages);
    assert_eq!(memory.counts().dirty, pages);
    memory.note_time(9 * SECOND);
    file.truncate(0).expect("shrunk");
}

/// A store that takes nothing, and counts what it is given.
#[derive(Clone, Default)]
struct FailingStore(Arc<AtomicU64>);

impl BackingStore for FailingStore {
    fn read_page(&self, _: u64, into: &mut [u8; 4096]) -> Result<(), Errno> {
        into.fill(0);
        Ok(())
    }

    fn write_page(&self, _: u64, _: &[u8]) -> Result<(), Errno> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Err(Errno::EIO)
    }

    fn set_size(&self, _: u64) -> Result<(), Errno> {
        Ok(())
    }

    fn sync(&self) -> Result<(), Errno> {
        Ok(())
    }
}

#[test]
fn shared_memory_is_never_dirty() {
    let (memory, _) = machine(1);
    let file = TestFile::shmem(&memory, "/shm", &[1; 500 * PAGE as usize]);
    assert_eq!((memory.counts().dirty, memory.throttle()), (0, 0));
    assert!(file.cache().cached_pages() > 0);
}
