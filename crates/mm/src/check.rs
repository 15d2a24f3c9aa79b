//! The whole-state checker: walks all tables, caches and lists and compares them with what is
//! counted.
//!
//! Names are those of ARCHITECTURE.md. Tests run it after every operation; it is linear in the
//! machine's memory and takes every lock in turn, so it is for tests and for post-mortems.

use crate::accounting::{RssDelta, RssKind, VmPages};
use crate::frames::FrameState;
use crate::memcg::MemcgId;
use crate::pte::{self, SwapPte};
use crate::swap::SwapEntry;
use crate::swap::slots::Content;
use crate::{AddressSpace, Host, Memory, Mm, VmaRef};
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use core::fmt;
use kilburn_addr::{Pfn, VirtAddr, VmFlags};
use kilburn_paging::{Entry, Leaf, LeafFlags};

/// A broken invariant, found by [`Memory::check`].
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Violation {
    /// The invariant's name.
    pub invariant: &'static str,
    /// What was found.
    pub detail: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.invariant, self.detail)
    }
}

impl core::error::Error for Violation {}

const TABLES_WITHIN_VMAS: &str = "tables-within-vmas";
const COUNTS_ADD_UP: &str = "counts-add-up";
const RSS_IS_TRUE: &str = "rss-is-true";
const GAPS_ARE_EXACT: &str = "gaps-are-exact";
const WAYS_BACK: &str = "ways-back-lead-there";
const CHARGES_ADD_UP: &str = "charges-add-up";
const NO_STALE_DATA: &str = "no-stale-data";

fn violation<T>(invariant: &'static str, detail: String) -> Result<T, Violation> {
    Err(Violation { invariant, detail })
}

fn ensure(
    holds: bool,
    invariant: &'static str,
    detail: impl FnOnce() -> String,
) -> Result<(), Violation> {
    if holds { Ok(()) } else { violation(invariant, detail()) }
}

/// What a walk over everything found of one frame.
#[derive(Clone, Copy, Default)]
struct Seen {
    maps: u32,
    /// References that are no mappings: a page cache, a table, the kernel.
    held: u32,
}

struct Walk {
    frames: BTreeMap<Pfn, Seen>,
    promised: u64,
    /// Areas per page cache.
    areas: BTreeMap<u64, usize>,
    /// References per slot of swap.
    slots: BTreeMap<SwapEntry, u32>,
}

impl<H: Host> Memory<H> {
    /// Walks everything and compares it with what is counted. `mms` and `files` are all that
    /// exist, but for the files of shared anonymous memory, which are found through their areas.
    /// Nothing else may be at work.
    ///
    /// # Errors
    /// The first [`Violation`] found.
    pub fn check(&self, mms: &[&Mm<H>], files: &[&AddressSpace<H>]) -> Result<(), Violation> {
        let mut walk = Walk {
            frames: BTreeMap::new(),
            promised: 0,
            areas: BTreeMap::new(),
            slots: BTreeMap::new(),
        };
        for mm in mms {
            mm.check_areas(&mut walk)?;
            mm.check_tables(&mut walk)?;
        }
        for root in self.lazy_roots.lock().iter() {
            walk.frames.entry(*root).or_default().held += 1;
        }
        for (_, mapping) in self.all_mappings() {
            mapping.check_pages(&mut walk)?;
        }
        for file in files {
            ensure(self.mapping_by_id(file.id()).is_some(), COUNTS_ADD_UP, || {
                format!("{file:?} is not registered")
            })?;
        }
        self.check_swap(&walk)?;
        self.check_reclaim().or_else(|what| violation(COUNTS_ADD_UP, what.into()))?;
        self.check_memcgs()?;
        self.check_frames(walk)
    }

    /// Every slot's references are those found, every frame of the swap cache knows its slot.
    fn check_swap(&self, walk: &Walk) -> Result<(), Violation> {
        let mut found = walk.slots.len();
        let (mut total, mut free, mut cached) = (0, 0, 0);
        let in_use = self.swap.areas.lock().by_number.clone();
        for active in in_use.into_iter().flatten() {
            let slots = active.slots.lock();
            slots.check().or_else(|what| violation(COUNTS_ADD_UP, what.into()))?;
            total += u64::from(slots.len());
            free += u64::from(slots.len() - slots.used());
            for slot in 0..slots.len() {
                let entry = SwapEntry { area: active.number, slot };
                let references = walk.slots.get(&entry).copied();
                found -= usize::from(references.is_some());
                let (counted, content) = (slots.references(slot), slots.content(slot));
                ensure(counted == references.unwrap_or(0), COUNTS_ADD_UP, || {
                    format!("{entry:?}: {counted} references counted, {references:?} found")
                })?;
                ensure(content != Content::Busy, COUNTS_ADD_UP, || {
                    format!("{entry:?} is busy for ever")
                })?;
                if let Content::Frame(frame) = content {
                    cached += 1;
                    let known = self.meta(self.frame_at(frame)).swap_slot();
                    ensure(known == Some((active.number, slot)), COUNTS_ADD_UP, || {
                        format!("the frame of {entry:?} has {known:?}")
                    })?;
                }
            }
        }
        ensure(found == 0, COUNTS_ADD_UP, || format!("{found} entries of areas not in use"))?;
        let counts = self.counts();
        let counted = (counts.swap_total, counts.swap_free, counts.swap_cached);
        ensure(counted == (total, free, cached), COUNTS_ADD_UP, || {
            format!("{free} of {total} slots are free, {cached} in the cache, counted {counts:?}")
        })
    }

    /// What each group is charged is what a walk over all frames and slots finds of it and of those
    /// below it.
    fn check_memcgs(&self) -> Result<(), Violation> {
        let mut found: BTreeMap<MemcgId, (u64, u64)> = BTreeMap::new();
        for (pfn, meta) in self.frames.iter() {
            let content = meta.kind().is_some();
            ensure(content || meta.memcg().is_root(), CHARGES_ADD_UP, || {
                format!("{pfn:?} {:?} is charged to {:?}", meta.state(), meta.memcg())
            })?;
            found.entry(meta.memcg()).or_default().0 += 1;
        }
        for active in self.swap.areas.lock().by_number.clone().into_iter().flatten() {
            let slots = active.slots.lock();
            for slot in (0..slots.len()).filter(|&slot| slots.is_used(slot)) {
                found.entry(slots.memcg(slot)).or_default().1 += 1;
            }
        }
        found.remove(&MemcgId::ROOT);
        let memcgs = self.all_memcgs();
        let mut counted: BTreeMap<MemcgId, (u64, u64)> = BTreeMap::new();
        for (id, own) in found {
            let memcg = memcgs.iter().find(|memcg| memcg.id() == id);
            ensure(memcg.is_some(), CHARGES_ADD_UP, || format!("{own:?} charged to no group"))?;
            for above in memcg.into_iter().flat_map(|memcg| memcg.and_above()) {
                let sum = counted.entry(above.id()).or_default();
                *sum = (sum.0 + own.0, sum.1 + own.1);
            }
        }
        for memcg in memcgs {
            let usage = (memcg.memory().usage(), memcg.swap().usage());
            let walked = counted.get(&memcg.id()).copied().unwrap_or_default();
            ensure(usage == walked, CHARGES_ADD_UP, || {
                format!("{memcg:?} is charged {usage:?} pages and slots, {walked:?} found")
            })?;
        }
        Ok(())
    }

    fn check_frames(&self, walk: Walk) -> Result<(), Violation> {
        self.frames.check().or_else(|what| violation(COUNTS_ADD_UP, what.into()))?;
        let mut uses = [0_u64; 8];
        let mut mapped = 0;
        for (pfn, meta) in self.frames.iter() {
            let state = meta.state();
            uses[state as usize] += 1;
            let seen = walk.frames.get(&pfn).copied().unwrap_or_default();
            let swap_cached = meta.is_swap_cached();
            let held = seen.held + u32::from(state == FrameState::Kernel || swap_cached);
            ensure(!swap_cached || state == FrameState::Anon, COUNTS_ADD_UP, || {
                format!("{pfn:?} {state:?} is in the swap cache")
            })?;
            ensure(meta.maps() == seen.maps, COUNTS_ADD_UP, || {
                format!("{pfn:?} {state:?}: {} mappings counted, {} found", meta.maps(), seen.maps)
            })?;
            ensure(meta.refs() == seen.maps + held, COUNTS_ADD_UP, || {
                format!("{pfn:?} {state:?}: {} references, {seen:?} found", meta.refs())
            })?;
            ensure(!meta.is_exclusive() || seen.maps == 1, COUNTS_ADD_UP, || {
                format!("{pfn:?} is exclusive and has {} mappings", seen.maps)
            })?;
            let cached = matches!(state, FrameState::File | FrameState::Shmem | FrameState::Kernel);
            mapped += u64::from(cached && seen.maps > 0);
        }
        let counts = self.counts();
        for (name, counted, state) in [
            ("page tables", counts.page_tables, FrameState::Table),
            ("anonymous", counts.anon, FrameState::Anon),
            ("page cache", counts.cached - counts.shmem, FrameState::File),
            ("shmem", counts.shmem, FrameState::Shmem),
            ("kernel", counts.kernel, FrameState::Kernel),
            ("mapped", counts.mapped, FrameState::Free),
            ("block", 0, FrameState::Allocated),
        ] {
            let found = if name == "mapped" { mapped } else { uses[state as usize] };
            ensure(counted == found, COUNTS_ADD_UP, || {
                format!("{counted} {name} frames counted, {found} found")
            })?;
        }
        ensure(counts.committed == walk.promised, COUNTS_ADD_UP, || {
            format!("{} pages promised, {} found", counts.committed, walk.promised)
        })?;
        Ok(())
    }
}

/// Whether an area is linked, with those of its flags that walks look at.
fn is_linked_as(flags: VmFlags, linked: Option<VmFlags>) -> bool {
    let used = VmFlags::LOCKED | VmFlags::EXEC | VmFlags::SHARED | VmFlags::MAYWRITE;
    linked.is_some_and(|linked| linked & used == flags & used)
}

impl fmt::Debug for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} mappings + {} held", self.maps, self.held)
    }
}

impl<H: Host> Mm<H> {
    fn check_areas(&self, walk: &mut Walk) -> Result<(), Violation> {
        let state = self.mmap_read_lock();
        state.areas.check().or_else(|detail| violation(GAPS_ARE_EXACT, detail))?;
        let mut vm = VmPages::default();
        for vma in state.areas.iter() {
            vm.add(vma.flags, vma.range.pages());
            let watched = vma.flags.intersects(VmFlags::UFFD);
            ensure(watched == vma.userfault().is_some(), COUNTS_ADD_UP, || {
                format!("{vma:?} has the flags or the monitor of a userfaultfd, not both")
            })?;
            if vma.flags.contains(VmFlags::ACCOUNT) {
                walk.promised += vma.range.pages();
            }
            if let Some(mapping) = vma.file.and_then(|file| file.mapping()) {
                *walk.areas.entry(mapping.id()).or_default() += 1;
                let linked = mapping.i_mmap.lock().flags_of(self.id(), vma.range, vma.pgoff);
                ensure(is_linked_as(vma.flags, linked), WAYS_BACK, || {
                    format!("{vma:?} is linked to its file as {linked:?}")
                })?;
            }
            if let Some(anon_vma) = vma.anon_vma.get() {
                let linked = anon_vma.flags_of(self.id(), vma.range, vma.pgoff);
                ensure(is_linked_as(vma.flags, linked), WAYS_BACK, || {
                    format!("{vma:?} is linked to its anon_vma as {linked:?}")
                })?;
            }
        }
        vm.peak = state.vm.peak;
        vm.locked_for_good = state.vm.locked_for_good;
        vm.locked += vm.locked_for_good;
        ensure(vm == state.vm, COUNTS_ADD_UP, || {
            format!("mapped pages counted {:?}, found {vm:?}", state.vm)
        })
    }

    fn check_tables(&self, walk: &mut Walk) -> Result<(), Violation> {
        let state = self.mmap_read_lock();
        let _upper = self.lock_upper();
        walk.frames.entry(self.root()).or_default().held += 1;
        let mut tables = 1;
        self.tables().for_each_table(|table, _| {
            walk.frames.entry(table).or_default().held += 1;
            tables += 1;
        });
        ensure(tables == self.table_counts.all(), COUNTS_ADD_UP, || {
            format!("{tables} tables found, {:?} counted", self.table_counts.all())
        })?;
        let mut rss = RssDelta::default();
        let mut swapped = 0;
        let mut result = Ok(());
        let all = kilburn_addr::AddrRange::new(VirtAddr::ZERO, self.layout().task_size());
        self.for_each_leaf(all.unwrap_or_default(), |guard, span| {
            for (va, at) in span.entries() {
                let entry = guard.entry(at);
                if entry == Entry::None || result.is_err() {
                    continue;
                }
                result = match (state.areas.containing(va), entry) {
                    (None, _) => {
                        violation(TABLES_WITHIN_VMAS, format!("{entry:?} at {va} in no area"))
                    }
                    (Some(vma), Entry::Leaf(leaf)) => {
                        self.check_leaf(vma, va, leaf, walk, &mut rss)
                    }
                    (Some(vma), Entry::Software(payload)) => {
                        if let Some(found) = SwapPte::from_payload(payload) {
                            *walk.slots.entry(found.entry).or_default() += 1;
                            swapped += 1;
                            let private = vma.anon_vma.get().is_some();
                            ensure(private, COUNTS_ADD_UP, || {
                                format!("{found:?} at {va} in {vma:?}")
                            })
                        } else {
                            Ok(())
                        }
                    }
                    _ => Ok(()),
                };
            }
        });
        result?;
        ensure(self.counts.swapped() == swapped, RSS_IS_TRUE, || {
            format!("{} pages in swap counted, {swapped} found", self.counts.swapped())
        })?;
        for kind in [RssKind::Anon, RssKind::File, RssKind::Shmem] {
            let (counted, found) = (self.counts.get(kind), rss.pages[kind as usize]);
            ensure(counted as i64 == found, RSS_IS_TRUE, || {
                format!("{counted} {kind:?} pages counted, {found} found")
            })?;
        }
        Ok(())
    }

    fn check_leaf(
        &self,
        vma: VmaRef<'_, H>,
        va: VirtAddr,
        leaf: Leaf,
        walk: &mut Walk,
        rss: &mut RssDelta,
    ) -> Result<(), Violation> {
        let permitted = pte::rights(vma.flags)
            | LeafFlags::ACCESSED
            | LeafFlags::DIRTY
            | LeafFlags::SPECIAL
            | LeafFlags::SOFT_DIRTY;
        ensure(permitted.contains(leaf.flags), TABLES_WITHIN_VMAS, || {
            format!("{leaf:?} at {va} in {vma:?}")
        })?;
        let writable = leaf.flags.contains(LeafFlags::WRITE);
        if leaf.flags.contains(LeafFlags::SPECIAL) {
            let zero = leaf.pfn == self.memory().zero_frame();
            return ensure(!zero || !writable, NO_STALE_DATA, || {
                format!("the zero page is writable at {va}")
            });
        }
        walk.frames.entry(leaf.pfn).or_default().maps += 1;
        let meta = self.memory().meta(leaf.pfn);
        rss.add(RssKind::of(meta.state()), 1);
        let shared = vma.flags.contains(VmFlags::SHARED);
        match meta.state() {
            FrameState::Anon => {
                ensure(vma.anon_vma.get().is_some() && !shared, COUNTS_ADD_UP, || {
                    format!("a private page at {va} in {vma:?}")
                })?;
                ensure(meta.index() == vma.page_index(va), COUNTS_ADD_UP, || {
                    format!("page {:#x} at {va} in {vma:?}", meta.index())
                })?;
                ensure(!writable || meta.is_exclusive(), COUNTS_ADD_UP, || {
                    format!("a shared private page is writable at {va}")
                })
            }
            FrameState::File | FrameState::Shmem => {
                let mapping = vma.file.and_then(|file| file.mapping());
                let index = vma.page_index(va);
                ensure(
                    mapping.is_some_and(|m| m.pfn_of(index) == Some(leaf.pfn)),
                    COUNTS_ADD_UP,
                    || format!("{leaf:?} at {va} is not page {index:#x} of its file"),
                )?;
                ensure(!writable || shared, COUNTS_ADD_UP, || {
                    format!("a file's page is writable through a private area at {va}")
                })?;
                let clean =
                    meta.state() == FrameState::File && !mapping.is_some_and(|m| m.is_dirty(index));
                ensure(!writable || !clean, "nothing-lost", || {
                    format!("a clean page can be written unnoticed at {va}")
                })
            }
            FrameState::Kernel => Ok(()),
            state => violation(COUNTS_ADD_UP, format!("a {state:?} frame is mapped at {va}")),
        }
    }
}

impl<H: Host> AddressSpace<H> {
    fn check_pages(&self, walk: &mut Walk) -> Result<(), Violation> {
        let end = self.size_pages();
        let mut result = Ok(());
        self.for_each_cached(0..=u64::MAX, |index, pfn| {
            walk.frames.entry(pfn).or_default().held += 1;
            let meta = self.memory().meta(pfn);
            let ours = u64::from(meta.owner()) == self.id() && meta.index() == index;
            if !ours || index >= end {
                result = violation(
                    COUNTS_ADD_UP,
                    format!("page {index:#x} of {self:?} in {pfn:?}: ours {ours}, end {end:#x}"),
                );
            }
        });
        result?;
        for (_, entry) in self.swap_entries(0..=u64::MAX) {
            *walk.slots.entry(entry).or_default() += 1;
        }
        walk.promised += self.promised_pages();
        let areas = walk.areas.get(&self.id()).copied().unwrap_or_default();
        let linked = self.i_mmap.lock().len();
        ensure(areas == linked, COUNTS_ADD_UP, || {
            format!("{linked} areas linked to {self:?}, {areas} found")
        })
    }
}
