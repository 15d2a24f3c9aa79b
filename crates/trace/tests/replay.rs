//! Whole replays: faults by the memory manager, recordings that repeat, cachegrind's counts.

use kilburn_addr::{Access, AddrRange, PAGE_SIZE, Pfn, PhysAddr, VirtAddr};
use kilburn_mmu::model::cache::{Cache, Traffic};
use kilburn_mmu::model::config::{AdUpdate, CacheConfig, Replacement};
use kilburn_mmu::{Cause, Flush, Model, Space, Translator};
use kilburn_paging::walk::entry_addr;
use kilburn_paging::{Entry, Format, Leaf, LeafFlags, PhysMem, Sv};
use kilburn_trace::managed::Managed;
use kilburn_trace::native::{Header, MAGIC};
use kilburn_trace::recorded::Recorded;
use kilburn_trace::recorder::{Recording, SharedModel};
use kilburn_trace::replay::Backing;
use kilburn_trace::{Event, Recorder, Replay, Sharing, Source, open, timing};
use parking_lot::Mutex;
use std::ops::ControlFlow;
use std::process::Command;
use std::sync::Arc;

fn access(access: Access, va: u64) -> Event {
    Event::Access { access, va: VirtAddr::new(va), size: 4 }
}

fn managed(bytes: u64) -> Replay {
    let backing = Backing::Managed(Box::new(Managed::new(bytes, None).expect("memory")));
    Replay::new(timing::preset("simple").expect("a preset"), backing).expect("a shape")
}

fn check(replay: &Replay) {
    let Backing::Managed(managed) = replay.backing() else { panic!("managed") };
    let spaces: Vec<_> = managed.spaces().map(|mm| &**mm).collect();
    managed.memory().check(&spaces, &[]).expect("consistent");
}

#[test]
fn the_memory_manager_resolves_a_traces_faults() {
    let mut replay = managed(64 << 20);
    let page = |n: u64| 0x40_0000 + n * PAGE_SIZE;
    let (read, write) = (Access::Read, Access::Write);
    let rw = 3;
    let events = [
        Event::Mmap {
            va: VirtAddr::new(page(0)),
            len: 8 * PAGE_SIZE,
            prot: rw,
            sharing: Sharing::Private,
        },
        access(read, page(0)),
        access(write, page(0)),
        access(write, page(1)),
        access(read, page(1)),
        Event::Fork { child: 1 },
        access(write, page(1)),
        Event::Space(1),
        access(read, page(1)),
        access(write, page(1)),
        Event::Mprotect { va: VirtAddr::new(page(1)), len: PAGE_SIZE, prot: 1 },
        access(write, page(1)),
        Event::Munmap { va: VirtAddr::new(page(0)), len: 8 * PAGE_SIZE },
        Event::Exit,
        Event::Space(0),
        access(read, page(1) + PAGE_SIZE - 2),
        access(read, u64::MAX - 1),
    ];
    for event in &events {
        replay.apply(event).expect("followed");
        check(&replay);
    }
    let faults = &replay.counts().faults;
    // The zero page read, then replaced; a page zeroed; copied for the parent, kept by the child.
    // An access across two pages reads the third, never touched.
    assert_eq!(faults.get("zero_page"), Some(&2), "{faults:?}");
    assert_eq!(faults.get("demand_zero"), Some(&1), "{faults:?}");
    assert_eq!(faults.get("cow_copy"), Some(&2), "{faults:?}");
    assert_eq!(faults.get("cow_reuse"), Some(&1), "{faults:?}");
    assert_eq!((replay.counts().denied, replay.counts().outside), (1, 1));
    let shootdowns = replay.stats()[0].shootdowns;
    for cause in [Cause::Fork, Cause::Cow, Cause::Protect, Cause::Unmap, Cause::Exit] {
        assert!(shootdowns[cause as usize].requests > 0, "{cause:?}");
    }
}

#[test]
fn shootdowns_are_counted_by_cause_with_what_they_cost() {
    let mut replay = managed(64 << 20);
    let page = |n: u64| VirtAddr::new(0x40_0000 + n * PAGE_SIZE);
    let map = Event::Mmap { va: page(0), len: 8 * PAGE_SIZE, prot: 3, sharing: Sharing::Private };
    replay.apply(&map).expect("followed");
    for n in 0..6 {
        replay.apply(&access(Access::Write, page(n).get())).expect("followed");
    }
    // Of six pages in both levels one goes, then two, then the three that are left: fork takes the right to write.
    for event in [
        Event::Mprotect { va: page(5), len: PAGE_SIZE, prot: 1 },
        Event::Munmap { va: page(3), len: 2 * PAGE_SIZE },
        Event::Fork { child: 1 },
    ] {
        replay.apply(&event).expect("followed");
    }
    // A copy for the parent, as the child has the frame as well; a load brings the entry that the copy then takes away.
    replay.apply(&access(Access::Read, page(0).get())).expect("followed");
    replay.apply(&access(Access::Write, page(0).get())).expect("followed");
    replay.apply(&Event::Exit).expect("followed");
    let shot = replay.stats()[0].shootdowns;
    let of = |cause: Cause| {
        let shot = shot[cause as usize];
        (shot.requests, shot.l1_entries, shot.l2_entries)
    };
    assert_eq!(of(Cause::Protect), (1, 1, 1));
    assert_eq!(of(Cause::Unmap), (1, 2, 2));
    assert_eq!(of(Cause::Fork), (1, 3, 3));
    assert_eq!(of(Cause::Cow), (1, 1, 1));
    assert_eq!(of(Cause::Exit), (1, 1, 1));
    let requests: u64 = shot.iter().map(|shot| shot.requests).sum();
    assert_eq!(requests, 5, "nothing else was asked for: {shot:?}");
}

#[test]
fn a_machine_that_is_full_says_so_and_keeps_its_counts() {
    let mut replay = managed(1 << 20);
    let mut done = 0;
    let error = (0..1000).find_map(|n| {
        done = n;
        replay.apply(&access(Access::Write, 0x40_0000 + n * PAGE_SIZE)).err()
    });
    assert!(error.expect("1 MiB are not 1000 pages").contains("--memory"));
    assert_eq!(replay.counts().accesses, done + 1);
    assert!(done > 200, "{done}");
    check(&replay);
}

#[test]
fn with_a_policy_a_machine_that_is_full_swaps() {
    for policy in ["two-list", "lru"] {
        let managed = Managed::new(4 << 20, Some(policy.parse().expect("a policy")));
        let backing = Backing::Managed(Box::new(managed.expect("memory")));
        let config = timing::preset("simple").expect("a preset");
        let mut replay = Replay::new(config, backing).expect("a shape");
        for n in (0..1500).chain(0..1500) {
            replay.apply(&access(Access::Write, 0x40_0000 + n * PAGE_SIZE)).expect("room is made");
        }
        check(&replay);
        // 1,024 frames at most keep what 1,500 pages need: the second time some come from swap.
        let faults = &replay.counts().faults;
        assert_eq!(faults.get("demand_zero"), Some(&1500), "{policy}: {faults:?}");
        assert!(faults.get("swap") > Some(&476), "{policy}: {faults:?}");
        assert!(replay.stats()[0].shootdowns[Cause::Reclaim as usize].requests > 0, "{policy}");
    }
}

#[test]
fn hostile_events_are_refused_or_counted() {
    let header = Header { levels: 5, ad_update: AdUpdate::Hardware };
    let config = timing::preset("simple").expect("a preset");
    let mut replay =
        Replay::new(config, Backing::Recorded(Recorded::new(header))).expect("the same shape");
    for _ in 0..9 {
        replay.apply(&Event::Retire(u64::MAX >> 3)).expect("followed");
    }
    assert_eq!(replay.stats()[0].instructions, u64::MAX, "as many as can be counted");
    let va = VirtAddr::new(u64::MAX - 7);
    replay.apply(&Event::Access { access: Access::Read, va, size: 4096 }).expect("followed");
    assert_eq!(replay.stats()[0].of(Access::Read).faults, 1, "there is no page after the last");
    let flags = LeafFlags::READ | LeafFlags::USER;
    for (va, level, pfn) in [(0, 5, 0), (0, 1, 1), (1 << 60, 0, 0), (0, 0, 1 << 60)] {
        let event = Event::Map { va: VirtAddr::new(va), level, pfn, flags };
        assert!(replay.apply(&event).is_err(), "{event:?}");
    }
    assert!(replay.apply(&Event::Hart(1024)).is_err());
}

#[test]
fn tables_take_memory_by_the_pages_touched() {
    let mut replay = managed(16 << 30);
    for n in 0..64 {
        replay.apply(&access(Access::Write, 0x1000_0000_0000 + n * (1 << 30))).expect("followed");
    }
    let Backing::Managed(managed) = replay.backing() else { panic!("managed") };
    let pages: u64 = managed.spaces().map(|mm| mm.stats().table_pages).sum();
    assert_eq!(pages, 1 + 1 + 64 + 64);
}

/// Frames 0 to 1023, with tables from 1 on.
struct Memory(Mutex<Vec<u64>>);

impl PhysMem for Memory {
    fn load(&self, at: PhysAddr) -> u64 {
        self.0.lock()[at.get() as usize / 8]
    }
    fn store(&self, at: PhysAddr, value: u64) {
        self.0.lock()[at.get() as usize / 8] = value;
    }
    fn compare_exchange(&self, at: PhysAddr, current: u64, new: u64) -> Result<(), u64> {
        let mut words = self.0.lock();
        let found = words[at.get() as usize / 8];
        if found != current {
            return Err(found);
        }
        words[at.get() as usize / 8] = new;
        Ok(())
    }
    fn read(&self, _: PhysAddr, _: &mut [u8]) {
        unreachable!("walks read words")
    }
    fn write(&self, _: PhysAddr, _: &[u8]) {
        unreachable!("walks write words")
    }
    fn zero(&self, _: Pfn) {
        unreachable!("walks zero nothing")
    }
    fn copy(&self, _: Pfn, _: Pfn) {
        unreachable!("walks copy nothing")
    }
}

const FORMAT: Sv = Sv::SV39;

fn space(index: u64) -> Space {
    Space { root: Pfn::new(1 + 8 * index), format: FORMAT, asid: 5 + index as u16 }
}

/// Leaf table of the 2 MiB region `region`: there are four for a space.
fn leaf_table(index: u64, region: u64) -> Pfn {
    Pfn::new(space(index).root.get() + 2 + region)
}

/// What a kernel does at random: maps, unmaps, protects, clears A, takes whole tables away; and flushes.
fn change(mem: &Memory, harts: &mut [Box<dyn Translator>], mut random: impl FnMut(u64) -> u64) {
    let (index, region, page) = (random(2), random(4), random(6));
    let asid = space(index).asid;
    let va = (region << 21) + page * PAGE_SIZE;
    let middle = Pfn::new(space(index).root.get() + 1);
    let region_at = entry_addr(middle, region as usize);
    let at = entry_addr(leaf_table(index, region), page as usize);
    let cause = [Cause::Unmap, Cause::Protect, Cause::Clean][random(3) as usize];
    let mut range = AddrRange::with_len(VirtAddr::new(va), PAGE_SIZE).expect("low");
    match random(10) {
        0 => {
            mem.store(region_at, 0);
            (0..512).for_each(|i| mem.store(entry_addr(leaf_table(index, region), i), 0));
            range = AddrRange::with_len(VirtAddr::new(region << 21), 2 << 20).expect("low");
        }
        1 | 2 => mem.store(at, 0),
        3 => {
            if let Entry::Leaf(leaf) = FORMAT.decode(mem.load(at), 0) {
                let flags = leaf.flags - LeafFlags::WRITE - LeafFlags::ACCESSED;
                mem.store(at, FORMAT.encode(Entry::Leaf(Leaf { flags, ..leaf }), 0));
            }
        }
        _ => {
            mem.store(region_at, FORMAT.encode(Entry::Table(leaf_table(index, region)), 1));
            let rights = [LeafFlags::READ, LeafFlags::RIGHTS][random(2) as usize];
            let leaf = Leaf { pfn: Pfn::new(500 + random(500)), flags: rights | LeafFlags::USER };
            mem.store(at, FORMAT.encode(Entry::Leaf(leaf), 0));
        }
    }
    let what = match random(8) {
        0 => Flush::All,
        1 => Flush::Asid(asid),
        _ => Flush::Range { asid, range },
    };
    harts.iter_mut().for_each(|hart| hart.flush(what, cause));
}

#[test]
fn a_replay_counts_what_the_recorded_run_counted() {
    record_and_replay("hardware");
    record_and_replay("fault");
}

/// Sets A, and D for a store, as a kernel does where hardware leaves it to software.
fn mark_used(mem: &Memory, space: Space, va: VirtAddr, access: Access) {
    let mut table = space.root;
    for level in [2, 1, 0] {
        let at = entry_addr(table, FORMAT.index(va, level));
        match FORMAT.decode(mem.load(at), level) {
            Entry::Table(next) => table = next,
            Entry::Leaf(leaf) => {
                let mut flags = leaf.flags | LeafFlags::ACCESSED;
                flags.set(
                    LeafFlags::DIRTY,
                    access == Access::Write || flags.contains(LeafFlags::DIRTY),
                );
                mem.store(at, FORMAT.encode(Entry::Leaf(Leaf { flags, ..leaf }), level));
                return;
            }
            _ => return,
        }
    }
}

fn record_and_replay(ad_update: &str) {
    let mem = Memory(Mutex::new(vec![0; 1024 * 512]));
    for index in 0..2 {
        let root = space(index).root;
        let middle = Entry::Table(Pfn::new(root.get() + 1));
        mem.store(entry_addr(root, 0), FORMAT.encode(middle, 2));
    }
    // Small, so that entries are evicted and walked for again.
    let file = "[l1_data]\nentries = 4\nways = 2\npages = ['4K']\n\
                [l1_fetch]\nentries = 4\nways = 2\npages = ['4K']\n\
                [l2]\nentries = 8\nways = 2\npages = ['4K']\n\
                [[walk_cache]]\nlevel = 0\nentries = 2\nways = 2\n";
    let config = timing::parse(&format!("ad_update = '{ad_update}'\n{file}")).expect("a good file");
    let header = Header { levels: 3, ad_update: config.ad_update };
    let recording = Recording::new(Vec::new(), header).expect("a vector takes everything");
    let models: Vec<SharedModel> = (0..2)
        .map(|_| SharedModel(Arc::new(Mutex::new(Model::new(config.clone()).expect("a shape")))))
        .collect();
    let mut harts: Vec<Box<dyn Translator>> = (0..2)
        .zip(&models)
        .map(|(i, model)| {
            let recorder = Recorder::new(i, Arc::clone(&recording), model.clone());
            Box::new(recorder) as Box<dyn Translator>
        })
        .collect();
    let mut state = 7_u64;
    let mut random = move |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) % below
    };
    for _ in 0..40_000 {
        if random(10) == 0 {
            change(&mem, &mut harts, &mut random);
            continue;
        }
        let va = VirtAddr::new((random(4) << 21) + random(6) * PAGE_SIZE + random(PAGE_SIZE));
        let access = [Access::Read, Access::Write, Access::Exec][random(3) as usize];
        let hart = &mut harts[random(2) as usize];
        let space = space(random(2));
        if hart.access(&mem, space, va, access).is_err() && ad_update == "fault" {
            mark_used(&mem, space, va, access);
            let _ = hart.access(&mem, space, va, access);
        }
        hart.retire(1);
    }
    drop(harts);
    let recording = Arc::into_inner(recording).expect("the recorders are gone").into_inner();
    let (bytes, _) = recording.finish().expect("a vector takes everything");
    assert_eq!(bytes[..8], MAGIC);
    let mut source = open::open("t", Box::new(std::io::Cursor::new(bytes)), None).expect("ours");
    assert_eq!(source.header(), header);
    let mut replay =
        Replay::new(config, Backing::Recorded(Recorded::new(header))).expect("the same shape");
    replay.run(&mut source, u64::MAX, |_| ControlFlow::Continue(())).expect("a whole trace");
    let replayed = replay.stats();
    for (model, replayed) in models.iter().zip(&replayed) {
        let run = model.0.lock().stats();
        assert!(run.all().faults > 1000 && run.all().l2_hits > 100, "{run:?}");
        assert_eq!(&run, replayed);
    }
}

/// A cache as cachegrind's options name it.
fn cachegrind_cache(bytes: usize, ways: usize) -> Cache {
    Cache::new(&CacheConfig {
        sets: bytes / 64 / ways,
        ways,
        line_shift: 6,
        latency: 1,
        replacement: Replacement::Lru,
    })
}

/// valgrind with these options on `true`; `None` without valgrind.
fn valgrind(options: &[&str]) -> Option<()> {
    let output = Command::new("valgrind").args(options).arg("/bin/true").output().ok()?;
    output.status.success().then_some(())
}

/// The events and totals of a cachegrind file.
fn summary(text: &str) -> Option<Vec<(String, u64)>> {
    let line = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
    let names = line("events:")?.split_whitespace().map(str::to_owned);
    let totals = line("summary:")?.split_whitespace().map(|total| total.parse().ok());
    names.zip(totals).map(|(name, total)| Some((name, total?))).collect()
}

#[test]
fn caches_count_what_cachegrind_counts() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name).display().to_string();
    let log = format!("--log-file={}", at("lackey"));
    let out = format!("--cachegrind-out-file={}", at("cachegrind"));
    let quiet = format!("--log-file={}", at("log"));
    let ran = valgrind(&["--tool=lackey", "--trace-mem=yes", &log]).and_then(|()| {
        let caches = ["--I1=32768,8,64", "--D1=32768,8,64", "--LL=262144,4,64"];
        let options = ["--tool=cachegrind", "--cache-sim=yes", &out, &quiet];
        valgrind(&[&options[..], &caches[..]].concat())
    });
    if ran.is_none() {
        eprintln!("SKIP: valgrind (lackey, cachegrind) does not run here");
        return;
    }
    let text = std::fs::read_to_string(at("cachegrind")).expect("cachegrind wrote it");
    let theirs = summary(&text).expect("events and their totals");
    let input = std::fs::File::open(at("lackey")).expect("lackey wrote it");
    let mut source = open::open("lackey", Box::new(input), None).expect("lackey's text");
    let ours = count(&mut source);
    for (name, count) in &theirs {
        let (_, found) = ours.iter().find(|(ours, _)| ours == name).expect("counted");
        assert_eq!(found, count, "{name}");
    }
}

/// Counts by cachegrind's names. It takes a modification for one load, and what is longer than a line for a line.
fn count(source: &mut Source) -> Vec<(&'static str, u64)> {
    let (mut i1, mut d1) = (cachegrind_cache(32 << 10, 8), cachegrind_cache(32 << 10, 8));
    let mut ll = cachegrind_cache(256 << 10, 4);
    let mut last_load = None;
    while let Some(event) = source.next_event().expect("a whole trace") {
        let Event::Access { access, va, size } = event else { continue };
        let load = (access == Access::Read).then_some((source.record(), va));
        let is_modification = access == Access::Write && last_load == Some((source.record(), va));
        last_load = load;
        if is_modification {
            continue;
        }
        let first = if access == Access::Exec { &mut i1 } else { &mut d1 };
        let traffic = Traffic::from(access);
        let size = u64::from(size.min(64));
        if !first.access(va.get(), size, traffic) {
            ll.access(va.get(), size, traffic);
        }
    }
    let (i1, d1, ll) = (i1.stats(), d1.stats(), ll.stats());
    vec![
        ("Ir", i1.fetch.references),
        ("I1mr", i1.fetch.misses),
        ("ILmr", ll.fetch.misses),
        ("Dr", d1.read.references),
        ("D1mr", d1.read.misses),
        ("DLmr", ll.read.misses),
        ("Dw", d1.write.references),
        ("D1mw", d1.write.misses),
        ("DLmw", ll.write.misses),
    ]
}
