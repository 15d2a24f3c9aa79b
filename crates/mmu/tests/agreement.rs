//! The MMU against the plainest one that could be: random maps, accesses and flushes.
//!
//! After each change of the tables the pages it touched are flushed, in one of the three ways; then every
//! access must get what a walk gives, and each entry the TLB holds must be in the tables.

use core::cell::RefCell;
use kilburn_addr::{Access, AddrRange, PAGE_SIZE, Pfn, PhysAddr, VirtAddr};
use kilburn_mmu::{Flush, Mmu, Space, TlbGeometry, probe};
use kilburn_paging::walk::entry_addr;
use kilburn_paging::{Entry, Format, Leaf, LeafFlags, PhysMem, Sv};
use proptest::prelude::*;

const FRAMES: u64 = 256;

/// Frames 0 to 255.
struct Memory(RefCell<Vec<u64>>);

impl Memory {
    fn new() -> Self {
        Self(RefCell::new(vec![0; (FRAMES * PAGE_SIZE / 8) as usize]))
    }
}

impl PhysMem for Memory {
    fn load(&self, at: PhysAddr) -> u64 {
        self.0.borrow()[at.get() as usize / 8]
    }
    fn store(&self, at: PhysAddr, value: u64) {
        self.0.borrow_mut()[at.get() as usize / 8] = value;
    }
    fn compare_exchange(&self, at: PhysAddr, current: u64, new: u64) -> Result<(), u64> {
        let found = self.load(at);
        if found != current {
            return Err(found);
        }
        self.store(at, new);
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

#[derive(Clone, Copy, Debug)]
enum How {
    All,
    Asid,
    Range,
}

#[derive(Clone, Debug)]
enum Step {
    /// Maps page `page` of `space` to `pfn`, or unmaps it, and flushes.
    Map {
        space: usize,
        page: u64,
        pfn: u64,
        flags: LeafFlags,
        how: How,
    },
    Unmap {
        space: usize,
        page: u64,
        how: How,
    },
    /// Puts a 2 MiB page over all small ones, or takes it away, and flushes.
    Large {
        space: usize,
        present: bool,
        how: How,
    },
    /// Adds rights, and does not flush.
    Grow {
        space: usize,
        page: u64,
    },
    Access {
        space: usize,
        page: u64,
        access: Access,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let how = prop_oneof![1 => Just(How::All), 2 => Just(How::Asid), 4 => Just(How::Range)];
    let flags = prop::sample::select(vec![
        LeafFlags::READ,
        LeafFlags::READ | LeafFlags::WRITE,
        LeafFlags::READ | LeafFlags::EXEC,
        LeafFlags::EXEC,
        LeafFlags::RIGHTS,
    ]);
    let access = prop::sample::select(vec![Access::Read, Access::Write, Access::Exec]);
    // Few pages, in few sets.
    let page = || 0_u64..12;
    prop_oneof![
        4 => (0..2_usize, page(), 100..FRAMES, flags, how.clone()).prop_map(
            |(space, page, pfn, flags, how)| Step::Map { space, page, pfn, flags, how }
        ),
        2 => (0..2_usize, page(), how.clone())
            .prop_map(|(space, page, how)| Step::Unmap { space, page, how }),
        1 => (0..2_usize, any::<bool>(), how)
            .prop_map(|(space, present, how)| Step::Large { space, present, how }),
        1 => (0..2_usize, page()).prop_map(|(space, page)| Step::Grow { space, page }),
        12 => (0..2_usize, page(), access)
            .prop_map(|(space, page, access)| Step::Access { space, page, access }),
    ]
}

const FORMAT: Sv = Sv::SV39;

/// Root, middle and leaf table of a space are consecutive frames.
fn space(index: usize) -> Space {
    Space { root: Pfn::new(1 + 3 * index as u64), format: FORMAT, asid: 7 + index as u16 }
}

fn table(index: usize, level: u64) -> Pfn {
    Pfn::new(space(index).root.get() + 2 - level)
}

fn small(index: usize, page: u64) -> PhysAddr {
    entry_addr(table(index, 0), page as usize)
}

fn flush(mmu: &mut Mmu, index: usize, how: How, first: u64, bytes: u64) {
    let asid = space(index).asid;
    let range = AddrRange::with_len(VirtAddr::new(first), bytes).expect("low addresses");
    mmu.flush(match how {
        How::All => Flush::All,
        How::Asid => Flush::Asid(asid),
        How::Range => Flush::Range { asid, range },
    });
}

fn apply(mem: &Memory, mmu: &mut Mmu, step: Step) -> Result<(), TestCaseError> {
    let leaf =
        |pfn, flags| Entry::Leaf(Leaf { pfn: Pfn::new(pfn), flags: flags | LeafFlags::USER });
    match step {
        Step::Map { space, page, pfn, flags, how } => {
            mem.store(small(space, page), FORMAT.encode(leaf(pfn, flags), 0));
            flush(mmu, space, how, page * PAGE_SIZE, PAGE_SIZE);
        }
        Step::Unmap { space, page, how } => {
            mem.store(small(space, page), 0);
            flush(mmu, space, how, page * PAGE_SIZE, PAGE_SIZE);
        }
        Step::Large { space, present, how } => {
            let entry =
                if present { leaf(512, LeafFlags::RIGHTS) } else { Entry::Table(table(space, 0)) };
            mem.store(entry_addr(table(space, 1), 0), FORMAT.encode(entry, 1));
            flush(mmu, space, how, 0, 2 << 20);
        }
        Step::Grow { space, page } => {
            let at = small(space, page);
            if let Entry::Leaf(old) = FORMAT.decode(mem.load(at), 0) {
                let flags = old.flags | LeafFlags::RIGHTS;
                mem.store(at, FORMAT.encode(Entry::Leaf(Leaf { flags, ..old }), 0));
            }
        }
        Step::Access { space: index, page, access } => {
            let va = VirtAddr::new(page * PAGE_SIZE);
            let expected = probe(mem, space(index), va).filter(|m| m.flags.permits(access));
            let got = mmu.translate(mem, space(index), va, access);
            prop_assert_eq!(got.ok().map(|m| m.pfn), expected.map(|m| m.pfn));
            if got.is_ok() {
                let after = probe(mem, space(index), va).expect("it was translated");
                prop_assert!(after.flags.contains(LeafFlags::ACCESSED));
                let dirty = after.flags.contains(LeafFlags::DIRTY);
                prop_assert!(dirty || access != Access::Write);
            }
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn every_access_gets_what_a_walk_gives(steps in prop::collection::vec(step(), 1..200)) {
        let mem = Memory::new();
        for index in 0..2 {
            for level in [2, 1] {
                let entry = FORMAT.encode(Entry::Table(table(index, level - 1)), level as u8);
                mem.store(entry_addr(table(index, level), 0), entry);
            }
        }
        let mut mmu = Mmu::new(TlbGeometry { sets: 4, ways: 2, large: 1 });
        let accesses = steps.iter().filter(|step| matches!(step, Step::Access { .. })).count();
        for step in steps {
            apply(&mem, &mut mmu, step)?;
            for index in 0..2 {
                prop_assert_eq!(mmu.check(&mem, space(index)), Ok(()));
            }
        }
        let stats = mmu.stats();
        prop_assert_eq!(stats.hits + stats.walks, accesses as u64);
    }
}
