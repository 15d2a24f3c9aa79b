//! Calls whose answers were captured from Linux 6.18.44 on x86-64, with what they leave behind.

use kilburn_addr::{Errno, VirtAddr};
use kilburn_mm::testing::*;
use kilburn_mm::*;
use std::sync::Arc;

const PAGE: u64 = 4096;
const MAYMOVE: u64 = 1;
const FIXED_TARGET: u64 = 2;
const DONTUNMAP: u64 = 4;
const LOCKED: u64 = 0x2000;
const DROPPABLE_ANON: u64 = 0x28;

fn at(addr: u64) -> VirtAddr {
    VirtAddr::new(addr)
}

struct World {
    memory: Arc<Memory<TestHost>>,
    mm: Arc<Mm<TestHost>>,
}

impl World {
    fn new() -> Self {
        let memory = TestHost::memory(1024);
        let mm = TestHost::mm(&memory);
        Self { memory, mm }
    }

    /// Pages at a place of their own.
    fn pages(&self, number: u64, pages: u64, flags: u64) -> u64 {
        let place = 0x10_0000_0000 + number * 0x100_0000;
        let flags = flags | FIXED;
        self.mm.map_anon(place, pages * PAGE, READ_WRITE, flags).expect("room").get()
    }

    fn remap(&self, old: u64, pages: u64, flags: u64, to: u64) -> Result<u64, Errno> {
        let len = pages * PAGE;
        let moved = self.mm.mremap(&Caller::ROOT, at(old), len, len, flags, at(to));
        self.memory.check(&[&self.mm], &[]).expect("consistent");
        moved.map(VirtAddr::get)
    }

    /// Pages and flags of the area at `addr`, as smaps shows them.
    fn area(&self, addr: u64) -> (u64, String) {
        let mut smaps = String::new();
        self.mm.write_smaps(&mut smaps).expect("a string takes everything");
        let mut found = None;
        for line in smaps.lines() {
            let range = line.split(' ').next().and_then(|word| word.split_once('-'));
            if let Some((start, end)) = range {
                let [start, end] = [start, end].map(|hex| u64::from_str_radix(hex, 16));
                if let (Ok(start), Ok(end)) = (start, end) {
                    found = (start <= addr && addr < end).then_some((end - start) / PAGE);
                }
            }
            if let (Some(pages), Some(flags)) = (found, line.strip_prefix("VmFlags: ")) {
                return (pages, flags.trim_end().into());
            }
        }
        panic!("no area at {addr:#x}")
    }

    fn locked_kib(&self) -> u64 {
        self.mm.status().vm_lck >> 10
    }
}

#[test]
fn advice_on_each_kind_of_memory_answers_and_marks_as_linux_does() {
    let world = World::new();
    let captured = include_str!("captured/madvise.txt");
    let mut cases = 0;
    for (number, line) in (0..).zip(captured.lines().filter(|line| !line.starts_with('#'))) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [kind, "adv", advice, "->", answer, "errno", errno, pages, "pages", _, ..] = words[..]
        else {
            panic!("{line}")
        };
        let flags = match kind {
            "anon" => PRIVATE_ANON,
            "shared" => SHARED_ANON,
            _ => DROPPABLE_ANON,
        };
        let start = world.pages(number, 8, flags);
        let advice: i32 = advice.parse().expect("a number");
        let answered = world.mm.madvise(&Caller::ROOT, at(start), 4 * PAGE, advice);
        let errno: i32 = errno.trim_end_matches(';').parse().expect("a number");
        assert_eq!(answered.is_ok(), answer == "0", "{line}");
        assert_eq!(answered.map_or_else(|e| i32::from(e.number()), |()| 0), errno, "{line}");
        let expected = (pages.parse().expect("a number"), words[10..].join(" "));
        assert_eq!(world.area(start), expected, "{line}");
        world.memory.check(&[&world.mm], &[]).expect("consistent");
        cases += 1;
    }
    assert_eq!(cases, 96, "every case of the file was run");
}

#[test]
fn a_guarded_area_stays_marked_and_its_child_has_the_guards() {
    let world = World::new();
    let a = world.pages(0, 4, PRIVATE_ANON);
    let guard = |advice| world.mm.madvise(&Caller::ROOT, at(a), PAGE, advice);
    guard(102).expect("MADV_GUARD_INSTALL");
    let b = world.mm.map_anon(a + 4 * PAGE, 2 * PAGE, 3, PRIVATE_ANON | FIXED).expect("room");
    assert_eq!(b.get(), a + 4 * PAGE);
    assert_eq!(world.area(a), (6, "rd wr mr mw me gu ac".into()));
    guard(103).expect("MADV_GUARD_REMOVE");
    assert_eq!(world.area(a), (6, "rd wr mr mw me gu ac".into()));
    let file = TestFile::shmem(&world.memory, "/memfd:x", &[1; 4 * 4096]);
    let shared = world.mm.map_file(&file, 4 * PAGE, 3, 1, 0).expect("room").get();
    world.mm.madvise(&Caller::ROOT, at(shared + PAGE), PAGE, 102).expect("MADV_GUARD_INSTALL");
    let child = world.mm.fork(&Caller::ROOT).expect("room");
    assert_eq!(child.peek(shared + PAGE), Err(Fault::Segv(SegvCode::MapErr)));
    assert_eq!(child.peek(shared), Ok(1));
    let mut entries = [0];
    world.mm.pagemap(shared / PAGE + 1, &mut entries, ShowFrames::Yes);
    assert_eq!(entries, [1 << 62 | 1 << 58 | 0x9f]);
    world.mm.pagemap(shared / PAGE + 1, &mut entries, ShowFrames::No);
    assert_eq!(entries, [1 << 62 | 1 << 58]);
}

#[test]
fn what_dontunmap_leaves_behind_is_unlocked_but_counted_for_good() {
    let world = World::new();
    let b = world.pages(0, 8, PRIVATE_ANON | LOCKED);
    assert_eq!(world.locked_kib(), 32);
    let c = world.remap(b, 8, MAYMOVE | DONTUNMAP, 0).expect("moves");
    assert_eq!(world.locked_kib(), 64);
    assert_eq!(world.area(b), (8, "rd wr mr mw me ac".into()));
    assert_eq!(world.area(c), (8, "rd wr mr mw me lo ac".into()));
    world.mm.munmap(at(b), 8 * PAGE).expect("mapped");
    assert_eq!(world.locked_kib(), 64);
    world.mm.munmap(at(c), 8 * PAGE).expect("mapped");
    assert_eq!(world.locked_kib(), 32);
    // A part of an area: all of it is unlocked.
    let b = world.pages(1, 8, PRIVATE_ANON | LOCKED);
    let c = world.remap(b + 2 * PAGE, 4, MAYMOVE | DONTUNMAP, 0).expect("moves");
    assert_eq!(world.locked_kib(), 80);
    assert_eq!(world.area(b), (8, "rd wr mr mw me ac".into()));
    assert_eq!(world.area(c), (4, "rd wr mr mw me lo ac".into()));
    world.mm.mlock(&Caller::ROOT, at(b), 8 * PAGE).expect("room");
    assert_eq!(world.locked_kib(), 112);
    world.mm.munmap(at(b), 8 * PAGE).expect("mapped");
    world.mm.munmap(at(c), 4 * PAGE).expect("mapped");
    assert_eq!(world.locked_kib(), 64);
    world.memory.check(&[&world.mm], &[]).expect("consistent");
}

#[test]
fn several_areas_move_at_once_with_their_gaps() {
    let world = World::new();
    let b = world.pages(0, 10, PRIVATE_ANON);
    world.mm.mprotect(&Caller::ROOT, at(b + 2 * PAGE), 2 * PAGE, 1).expect("mapped");
    world.mm.munmap(at(b + 5 * PAGE), 2 * PAGE).expect("mapped");
    let to = world.pages(1, 20, PRIVATE_ANON);
    assert_eq!(world.remap(b, 10, MAYMOVE | FIXED_TARGET, to), Ok(to));
    assert_eq!(world.area(to), (2, "rd wr mr mw me ac".into()));
    assert_eq!(world.area(to + 2 * PAGE), (2, "rd mr mw me".into()));
    assert_eq!(world.area(to + 4 * PAGE).1, "rd wr mr mw me ac");
    assert_eq!(world.area(to + 7 * PAGE).1, "rd wr mr mw me ac");
    let resize = |new_pages: u64| {
        let (old, new) = (10 * PAGE, new_pages * PAGE);
        world.mm.mremap(&Caller::ROOT, at(to), old, new, MAYMOVE | FIXED_TARGET, at(b))
    };
    assert_eq!(resize(12), Err(Errno::EFAULT));
    assert_eq!(resize(8), Err(Errno::EFAULT));
    let everything = MAYMOVE | FIXED_TARGET | DONTUNMAP;
    assert_eq!(world.remap(to, 10, everything, b), Ok(b));
    assert_eq!(world.remap(to, 10, MAYMOVE | DONTUNMAP, 0), Err(Errno::EFAULT));
}

#[test]
fn odd_map_flags_answer_as_linux_does() {
    let world = World::new();
    let file = TestFile::shmem(&world.memory, "/memfd:m", &[0; 8 * 4096]);
    let (sync, validate, noreplace) = (0x8_0000, 3, 0x10_0000);
    for (flags, answer) in [
        (validate | sync, Err(Errno::EOPNOTSUPP)),
        (validate, Ok(())),
        (validate | 0x20_0000, Err(Errno::EOPNOTSUPP)),
        (1 | sync, Ok(())),
        (2 | sync, Ok(())),
        (validate | noreplace, Err(Errno::EOPNOTSUPP)),
        (8, Err(Errno::EINVAL)),
    ] {
        let mapped = world.mm.map_file(&file, PAGE, 3, flags, 0);
        assert_eq!(mapped.map(|_| ()), answer, "{flags:#x}");
    }
    for (flags, answer) in [
        (validate | 0x20, Err(Errno::EINVAL)),
        (0x20, Err(Errno::EINVAL)),
        (0x24, Err(Errno::EINVAL)),
        (DROPPABLE_ANON | LOCKED, Err(Errno::EINVAL)),
        (DROPPABLE_ANON | 0x100, Err(Errno::EINVAL)),
        (DROPPABLE_ANON | 0x4_0000, Err(Errno::EINVAL)),
        (PRIVATE_ANON | sync, Ok(())),
    ] {
        let mapped = world.mm.map_anon(0, PAGE, 3, flags);
        assert_eq!(mapped.map(|_| ()), answer, "{flags:#x}");
    }
    for (number, flags, shown) in [
        (8, PRIVATE_ANON | sync, "rd wr mr mw me ac sf"),
        (9, PRIVATE_ANON | 0x2_0000 | 0x100, "rd wr mr mw me gd ac nh"),
        (10, PRIVATE_ANON | 0x4000, "rd wr mr mw me nr"),
        (11, DROPPABLE_ANON, "rd wr mr mw me nr wf dd dp"),
        (12, PRIVATE_ANON | LOCKED | 0x1_0000, "rd wr mr mw me lo ac"),
    ] {
        let start = world.pages(number, 4, flags);
        assert_eq!(world.area(start), (4, shown.into()));
    }
    // MAP_LOCKED faults in at once, MAP_NONBLOCK or not.
    let locked = world.pages(12, 4, PRIVATE_ANON | LOCKED | 0x1_0000);
    let mut resident = Vec::new();
    world.mm.mincore(at(locked), PAGE, &mut resident).expect("mapped");
    assert_eq!(resident, [1]);
    world.mm.mlock(&Caller::ROOT, at(world.pages(11, 4, DROPPABLE_ANON)), PAGE).expect("ignored");
    assert_eq!(world.area(0x10_0000_0000 + 11 * 0x100_0000).1, "rd wr mr mw me nr wf dd dp");
}

#[test]
fn advice_from_outside_is_limited_and_tells_how_far_it_came() {
    let world = World::new();
    let a = world.pages(0, 16, PRIVATE_ANON);
    let pages = |list: &[(u64, u64)]| -> Vec<(VirtAddr, u64)> {
        list.iter().map(|&(start, len)| (at(start), len)).collect()
    };
    let ask = |list: &[(u64, u64)], advice, whose| {
        world.mm.process_madvise(&Caller::ROOT, &pages(list), advice, whose)
    };
    let three = [(a, PAGE), (a + PAGE, PAGE), (a + 2 * PAGE, PAGE)];
    assert_eq!(ask(&three, 20, Advised::Own), Ok(3 * PAGE));
    assert_eq!(ask(&three, 4, Advised::Own), Ok(3 * PAGE));
    assert_eq!(ask(&three, 99, Advised::Own), Err(Errno::EINVAL));
    assert_eq!(ask(&[], 99, Advised::Own), Ok(0));
    assert_eq!(ask(&[(a, PAGE), (a + 1, PAGE)], 20, Advised::Own), Ok(PAGE));
    assert_eq!(ask(&[(a + 1, PAGE), (a, PAGE)], 20, Advised::Own), Err(Errno::EINVAL));
    assert_eq!(ask(&[(a, 100), (0x1000, PAGE)], 20, Advised::Own), Ok(100));
    assert_eq!(ask(&[(a, 0), (0x1000, PAGE)], 20, Advised::Own), Err(Errno::ENOMEM));
    for (advice, allowed) in
        [(3, true), (20, true), (21, true), (4, false), (8, false), (0, false), (22, false)]
    {
        let answer = if allowed { Ok(PAGE) } else { Err(Errno::EINVAL) };
        assert_eq!(ask(&three[..1], advice, Advised::Other), answer, "{advice}");
    }
    assert_eq!(ask(&three, 20, Advised::OtherUnprivileged), Err(Errno::EPERM));
    assert_eq!(ask(&three, 4, Advised::OtherUnprivileged), Err(Errno::EINVAL));
}

#[test]
fn a_reaped_address_space_keeps_only_what_others_share() {
    let world = World::new();
    let private = world.pages(0, 4, PRIVATE_ANON);
    let shared = world.pages(1, 4, SHARED_ANON);
    for page in 0..4 {
        world.mm.poke(private + page * PAGE, 1).expect("mapped");
        world.mm.poke(shared + page * PAGE, 2).expect("mapped");
    }
    let before = world.mm.oom_badness(0).expect("it may be ended");
    assert_eq!(world.mm.oom_badness(-1000), None);
    assert_eq!(world.mm.oom_score(-1000), 0);
    assert_eq!(world.mm.oom_score(1000), (1000 + (before + 1000) * 1000 / 1024) as u64 * 2 / 3);
    world.mm.reap();
    world.memory.check(&[&world.mm], &[]).expect("consistent");
    assert_eq!(world.mm.oom_badness(0), Some(before - 4));
    assert_eq!((world.mm.peek(private), world.mm.peek(shared)), (Ok(0), Ok(2)));
}

#[test]
fn a_soft_data_limit_of_zero_leaves_the_hard_one() {
    let world = World::new();
    let limited = |soft, hard| Caller {
        rlimits: Rlimits { data: soft, data_max: hard, ..Caller::ROOT.rlimits },
        ..Caller::ROOT
    };
    let map = |caller: &Caller, pages: u64| {
        let (len, prot, flags) = (pages * PAGE, 3, PRIVATE_ANON);
        let request = MmapRequest { addr: 0, len, prot, flags, file: None, offset: 0 };
        world.mm.mmap(caller, request).map(|_| ())
    };
    assert_eq!(map(&limited(0, 16 * PAGE), 4), Ok(()));
    assert_eq!(map(&limited(0, 16 * PAGE), 13), Err(Errno::ENOMEM));
    assert_eq!(map(&limited(PAGE, 16 * PAGE), 1), Err(Errno::ENOMEM));
    assert_eq!(world.mm.brk(&limited(0, 16 * PAGE), at(PAGE)), at(0));
}

#[test]
fn clearing_references_forgets_use_by_kind_and_the_peak() {
    let world = World::new();
    let anon = world.pages(0, 2, PRIVATE_ANON);
    let shared = world.pages(1, 2, SHARED_ANON);
    let touch = || {
        for start in [anon, shared] {
            world.mm.poke(start, 1).expect("mapped");
            world.mm.poke(start + PAGE, 1).expect("mapped");
        }
    };
    let referenced = || -> Vec<u64> {
        let mut smaps = String::new();
        world.mm.write_smaps(&mut smaps).expect("a string takes everything");
        let lines = smaps.lines().filter_map(|line| line.strip_prefix("Referenced:"));
        lines.map(|kb| kb.trim().trim_end_matches(" kB").parse().expect("a number")).collect()
    };
    touch();
    assert_eq!(referenced(), [8, 8]);
    world.mm.clear_refs(ClearRefs::Anonymous);
    assert_eq!(referenced(), [0, 8]);
    world.mm.clear_refs(ClearRefs::Mapped);
    assert_eq!(referenced(), [0, 0]);
    touch();
    world.mm.clear_refs(ClearRefs::SoftDirty);
    assert_eq!(referenced(), [8, 8]);
    world.mm.clear_refs(ClearRefs::All);
    assert_eq!(referenced(), [0, 0]);
    world.mm.munmap(at(anon), 2 * PAGE).expect("mapped");
    assert_eq!(world.mm.status().vm_hwm, 4 * PAGE);
    world.mm.clear_refs(ClearRefs::PeakRss);
    assert_eq!(world.mm.status().vm_hwm, 2 * PAGE);
    assert_eq!(ClearRefs::from_number(0), Err(Errno::EINVAL));
    assert_eq!(ClearRefs::from_number(6), Err(Errno::EINVAL));
}
