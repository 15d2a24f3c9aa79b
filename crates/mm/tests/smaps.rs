//! What smaps says of pages, step by step, as Linux 6.18.44 said it.

use kilburn_addr::VirtAddr;
use kilburn_mm::testing::*;
use kilburn_mm::*;
use std::fmt::Write;

const PAGE: u64 = 4096;
const MADV_FREE: i32 = 8;
const MADV_COLD: i32 = 20;

/// The fields of the area at `addr` that are not 0, but for page sizes and LazyFree.
fn show(mm: &Mm<TestHost>, addr: VirtAddr) -> String {
    let mut smaps = String::new();
    mm.write_smaps(&mut smaps).expect("a string takes everything");
    let area = format!("{:x}-", addr.get());
    let lines = smaps.lines().skip_while(|line| !line.starts_with(&area)).skip(1);
    let mut text = String::new();
    for line in lines {
        let (name, value) = line.split_once(':').expect("a name and a value");
        let value = value.trim();
        if name == "VmFlags" {
            let _ = write!(text, " VmFlags: {value}");
            break;
        }
        let kib: u64 = value.trim_end_matches(" kB").parse().expect("a number");
        if kib != 0 && !name.contains("PageSize") && name != "LazyFree" {
            let _ = write!(text, " {name}={kib}");
        }
    }
    text
}

struct Steps(std::str::Lines<'static>);

impl Steps {
    /// The next line of the file says the same of the area at `addr`.
    #[track_caller]
    fn next(&mut self, step: &str, mm: &Mm<TestHost>, addr: VirtAddr) {
        let line = self.0.find(|line| !line.starts_with('#')).expect("a step in the file");
        assert_eq!(format!("{step}:{}", show(mm, addr)), line);
    }
}

#[test]
fn every_step_shows_what_linux_showed() {
    let mut steps = Steps(include_str!("captured/smaps.txt").lines());
    let memory = TestHost::memory(512);
    let mm = TestHost::mm(&memory);
    let page = |start: VirtAddr, number: u64| start.get() + number * PAGE;
    let peek = |start, number| {
        mm.peek(page(start, number)).expect("mapped");
    };
    let poke = |start, number, byte| mm.poke(page(start, number), byte).expect("mapped");
    let advise = |start, number, advice| {
        let at = VirtAddr::new(page(start, number));
        mm.madvise(&Caller::ROOT, at, PAGE, advice).expect("mapped");
    };
    let a = mm.map_anon(0, 8 * PAGE, READ_WRITE, PRIVATE_ANON).expect("room");
    steps.next("untouched", &mm, a);
    peek(a, 0);
    steps.next("zero page", &mm, a);
    poke(a, 1, 1);
    poke(a, 2, 1);
    steps.next("written", &mm, a);
    let child = mm.fork(&Caller::ROOT).expect("room");
    steps.next("child after fork", &child, a);
    child.poke(page(a, 1), 2).expect("mapped");
    steps.next("child wrote", &child, a);
    drop(child);
    steps.next("parent again", &mm, a);
    advise(a, 1, MADV_FREE);
    steps.next("free", &mm, a);
    advise(a, 1, MADV_COLD);
    steps.next("cold", &mm, a);
    mm.mlock(&Caller::ROOT, a, 4 * PAGE).expect("room");
    steps.next("locked", &mm, a);
    mm.munlock(a, 8 * PAGE).expect("mapped");

    let memfd = TestFile::shmem(&memory, "/memfd:x", &[]);
    memfd.cache().truncate(8 * PAGE).expect("room");
    let map = |file, flags| mm.map_file(file, 8 * PAGE, READ_WRITE, flags, 0).expect("room");
    let s = map(&memfd, 1);
    steps.next("shm", &mm, s);
    peek(s, 0);
    steps.next("shm read", &mm, s);
    poke(s, 1, 1);
    steps.next("shm write", &mm, s);
    let t = map(&memfd, 2);
    peek(t, 1);
    steps.next("priv shm read", &mm, t);
    steps.next("shm shared", &mm, s);
    poke(t, 2, 1);
    steps.next("priv shm write", &mm, t);
    steps.next("s", &mm, s);
    mm.munmap(s, 8 * PAGE).expect("mapped");
    steps.next("priv alone", &mm, t);

    let mut content = vec![0; 8 * 4096];
    content[0] = b'a';
    let file = TestFile::stored(&memory, "/f", TestStore::with(&content));
    let f = map(&file, 1);
    // The program that was asked had just written the first page: only that one was cached.
    file.cache().evict();
    peek(f, 0);
    let rest = VirtAddr::new(page(f, 1));
    mm.madvise(&Caller::ROOT, rest, 7 * PAGE, 4).expect("MADV_DONTNEED");
    file.cache().evict();
    steps.next("file read", &mm, f);
    poke(f, 0, 1);
    steps.next("file write", &mm, f);
    file.cache().sync(0..8 * PAGE).expect("stored");
    steps.next("file synced", &mm, f);
    let g = map(&file, 2);
    poke(g, 0, 3);
    steps.next("file cow", &mm, g);
    steps.next("file", &mm, f);
    mm.mprotect(&Caller::ROOT, g, 8 * PAGE, 0).expect("mapped");
    steps.next("none", &mm, g);
    mm.clear_refs(ClearRefs::All);
    steps.next("cleared", &mm, g);
}
