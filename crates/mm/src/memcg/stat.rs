//! What a group has (`memory.stat`): counted when it is asked for, by looking at every frame, so that
//! nothing has to be counted for each page that comes and goes.

use super::MemcgId;
use crate::frames::FrameState;
use crate::policy::PageKind;
use crate::{AddressSpace, Host, LruCounts, Memory, Mm};
use alloc::sync::Arc;
use alloc::vec::Vec;

/// Pages of a group and of those below it, by what they are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct MemcgPages {
    /// Anonymous, and mapped.
    pub anon: u64,
    /// Of files, shared memory included.
    pub file: u64,
    /// Of shared memory.
    pub shmem: u64,
    /// Of files or shared memory, and mapped.
    pub file_mapped: u64,
    /// Of files, and to be written to their store.
    pub file_dirty: u64,
    /// In the swap cache.
    pub swapcached: u64,
    /// By list.
    pub lru: LruCounts,
}

impl<H: Host> Memory<H> {
    /// Pages of a group and of those below it; of the root: all pages. `mms` are all address spaces.
    ///
    /// Looks at every frame: it is meant for who asks now and then.
    pub fn memcg_pages<'a>(
        &self,
        memcg: MemcgId,
        mms: impl IntoIterator<Item = &'a Mm<H>>,
    ) -> MemcgPages {
        let within = (!memcg.is_root()).then(|| self.memcgs_within(memcg));
        let mut locked = Vec::new();
        for mm in mms {
            mm.collect_locked(&mut locked);
        }
        locked.sort_unstable();
        let mut pages = MemcgPages::default();
        let mut last: Option<Arc<AddressSpace<H>>> = None;
        for (pfn, meta) in self.frames.iter() {
            let is_its = within.as_ref().is_none_or(|ids| ids.contains(&meta.memcg()));
            let Some(kind) = meta.kind().filter(|_| is_its) else { continue };
            let mapped = u64::from(meta.maps() > 0);
            match meta.state() {
                FrameState::Anon => {
                    pages.anon += mapped;
                    pages.swapcached += u64::from(meta.is_swap_cached());
                }
                FrameState::Shmem => {
                    pages.shmem += 1;
                    pages.file += 1;
                    pages.file_mapped += mapped;
                }
                _ => {
                    pages.file += 1;
                    pages.file_mapped += mapped;
                    let owner = u64::from(meta.owner());
                    if last.as_ref().is_none_or(|mapping| mapping.id() != owner) {
                        last = self.mapping(meta.owner());
                    }
                    let dirty = last.as_ref().is_some_and(|m| m.is_dirty(meta.index()));
                    pages.file_dirty += u64::from(dirty);
                }
            }
            let lru = &mut pages.lru;
            let is_locked = locked.binary_search(&pfn).is_ok();
            let list = match (kind, is_locked, self.is_active(pfn)) {
                (_, true, _) => &mut lru.unevictable,
                (PageKind::Anon, _, true) => &mut lru.active_anon,
                (PageKind::Anon, _, false) => &mut lru.inactive_anon,
                (PageKind::File, _, true) => &mut lru.active_file,
                (PageKind::File, _, false) => &mut lru.inactive_file,
            };
            *list += 1;
        }
        pages
    }
}
