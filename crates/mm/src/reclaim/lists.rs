//! On which lists pages are, for meminfo (Linux `NR_LRU_BASE` and what follows it).
//!
//! What is active is what the policy says is ([`ReplacementPolicy::is_active`]); pages of locked areas
//! are on no list, and all others are inactive. While memory was never short there is no policy yet, and
//! all pages lie where Linux puts new ones: they are inactive.

use super::lru::kind_of;
use crate::memory::Use;
use crate::policy::PageKind;
use crate::{Host, Memory, Mm};
use alloc::vec::Vec;
use kilburn_addr::{Pfn, VmFlags};
use kilburn_paging::{Entry, LeafFlags};

/// Pages by list.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct LruCounts {
    /// Of anonymous and shared memory, in use.
    pub active_anon: u64,
    /// Of anonymous and shared memory, next to go.
    pub inactive_anon: u64,
    /// Of files, in use.
    pub active_file: u64,
    /// Of files, next to go.
    pub inactive_file: u64,
    /// In locked areas: they stay.
    pub unevictable: u64,
}

impl<H: Host> Memory<H> {
    /// Pages by list. `mms` are all address spaces, each at least once.
    ///
    /// Looks at every frame: it is meant for who asks now and then.
    pub fn lru_counts<'a>(&self, mms: impl IntoIterator<Item = &'a Mm<H>>) -> LruCounts {
        let mut locked = Vec::new();
        for mm in mms {
            mm.collect_locked(&mut locked);
        }
        locked.sort_unstable();
        locked.dedup();
        let mut counts = self.active_counts(&locked);
        let (mut anon, mut file) = (0, 0);
        for pfn in &locked {
            match kind_of(self.meta(*pfn).state()) {
                Some(PageKind::Anon) => anon += 1,
                Some(PageKind::File) => file += 1,
                None => {}
            }
        }
        counts.unevictable = anon + file;
        let all_anon = self.uses.get(Use::Anon) + self.uses.get(Use::Shmem);
        counts.inactive_anon = all_anon.saturating_sub(anon + counts.active_anon);
        let all_file = self.uses.get(Use::File);
        counts.inactive_file = all_file.saturating_sub(file + counts.active_file);
        counts
    }

    /// Active pages, but for those in `locked`, which is sorted.
    fn active_counts(&self, locked: &[Pfn]) -> LruCounts {
        let mut counts = LruCounts::default();
        let mut lru = self.reclaim.lru.lock();
        for (pfn, meta) in self.frames.iter() {
            let frame = self.frame_number(pfn);
            let active = meta.is_known() && lru.instances.is_active(frame, meta.memcg());
            if !active || locked.binary_search(&pfn).is_ok() {
                continue;
            }
            match kind_of(meta.state()) {
                Some(PageKind::Anon) => counts.active_anon += 1,
                Some(PageKind::File) => counts.active_file += 1,
                None => {}
            }
        }
        counts
    }
}

impl<H: Host> Mm<H> {
    /// Adds the frames of pages in locked areas to `found`.
    pub(crate) fn collect_locked(&self, found: &mut Vec<Pfn>) {
        let state = self.mmap_read_lock();
        if state.vm.locked == 0 {
            return;
        }
        for vma in state.areas.iter().filter(|vma| vma.flags.contains(VmFlags::LOCKED)) {
            self.for_each_leaf(vma.range, |guard, span| {
                found.extend(span.entries().filter_map(|(_, at)| match guard.entry(at) {
                    Entry::Leaf(leaf) if !leaf.flags.contains(LeafFlags::SPECIAL) => Some(leaf.pfn),
                    _ => None,
                }));
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Caller;
    use crate::policy::{Builtin, PolicyConfig};
    use crate::testing::*;
    use kilburn_addr::VirtAddr;

    fn counts(memory: &Memory<TestHost>, mm: &Mm<TestHost>) -> LruCounts {
        memory.lru_counts([mm, mm])
    }

    #[test]
    fn every_page_is_on_one_list_under_every_policy() {
        for builtin in Builtin::ALL {
            let memory = TestHost::memory(256);
            memory.swap_on("swap", TestSwap::new(1024), None).expect("the first area");
            let config = PolicyConfig { pages: 256, capacity: 256, seed: 1 };
            memory.set_policy(builtin.for_reclaim(config));
            let mm = TestHost::mm(&memory);
            let base = mm.map_anon(0, 400 << 12, READ_WRITE, PRIVATE_ANON).expect("mapped").get();
            let file = TestFile::shmem(&memory, "/shm", &[1; 20 << 12]);
            for page in 0..40 {
                mm.poke(base + (page << 12), 1).expect("room");
            }
            let expected = LruCounts { inactive_anon: 60, ..LruCounts::default() };
            assert_eq!(counts(&memory, &mm), expected, "{builtin}");
            mm.mlock(&Caller::ROOT, VirtAddr::new(base), 10 << 12).expect("locked");
            let expected = LruCounts { inactive_anon: 50, unevictable: 10, ..expected };
            assert_eq!(counts(&memory, &mm), expected, "{builtin}");
            // Some pages are used all the time, the others once.
            let mut any_active = false;
            for page in 40..400 {
                mm.poke(base + (page << 12), 1).expect("room");
                for used in 10..40 {
                    mm.poke(base + (used << 12), 2).expect("room");
                }
                let (lists, all) = (counts(&memory, &mm), memory.counts());
                let listed = lists.active_anon + lists.inactive_anon + lists.unevictable;
                assert_eq!((listed, lists.unevictable), (all.anon + all.shmem, 10), "{builtin}");
                assert_eq!(lists.active_file + lists.inactive_file, 0);
                any_active |= lists.active_anon > 0;
            }
            let tells_apart = matches!(
                builtin,
                Builtin::TwoList | Builtin::Mglru | Builtin::Arc | Builtin::S3Fifo
            );
            assert_eq!(any_active, tells_apart, "{builtin}");
            memory.check(&[&mm], &[file.cache()]).expect("consistent");
        }
    }
}
