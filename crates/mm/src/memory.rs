//! The machine's memory: frames, the zero page, and what all address spaces share.
//!
//! [`Memory`] hands out frames, zeroed, and takes them back when their last reference goes
//! (`Memory::put`); it counts them by use. Promises of memory are counted in
//! `crate::commit`. Neighbours: [`crate::frames`] below, [`crate::Mm`] and
//! [`crate::AddressSpace`] above.

use crate::anon_vma::AnonVmas;
use crate::config::{MemoryConfig, MemoryError};
use crate::frames::{FrameMeta, FrameState, Frames};
use crate::host::Host;
use crate::ids::AsidPool;
use crate::memcg::Memcgs;
use crate::page_cache::AddressSpace;
use crate::page_cache::dirty::Dirtying;
use crate::percpu::{Padded, PerCpu};
use crate::reclaim::{Reclaim, VmEvents};
use crate::swap::Swap;
use crate::sysctl::Tunables;
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering};
use kilburn_addr::{Errno, Pfn};
use kilburn_paging::PhysMem;
use lock_api::{Mutex, RawMutex};

/// Everything the address spaces of one machine share.
pub struct Memory<H: Host> {
    host: H,
    config: MemoryConfig,
    pub(crate) tunables: Tunables,
    pub(crate) frames: Frames<H::RawMutex>,
    zero_frame: Pfn,
    pub(crate) uses: Uses,
    pub(crate) reclaim: Reclaim<H>,
    pub(crate) swap: Swap<H>,
    pub(crate) vm_events: VmEvents,
    pub(crate) memcgs: Memcgs<H>,
    pub(crate) dirtying: Dirtying,
    /// Pages promised (Linux `vm_committed_as`).
    pub(crate) committed: PerCpu<AtomicI64>,
    pub(crate) asids: Mutex<H::RawMutex, AsidPool>,
    /// Root tables whose address space is gone ([`crate::Pgd`]).
    pub(crate) lazy_roots: Mutex<H::RawMutex, BTreeSet<Pfn>>,
    /// Page caches by number, to reach a frame's owner from its metadata.
    mappings: Mutex<H::RawMutex, BTreeMap<u32, Weak<AddressSpace<H>>>>,
    /// Locks of leaf tables, which share them by chance: none costs an address space anything.
    table_locks: TableLocks<H::RawMutex>,
    /// Owners of anonymous pages by number.
    pub(crate) anon_vmas: AnonVmas<H>,
    next_mm: AtomicU64,
    next_mapping: AtomicU32,
    next_shmem_inode: AtomicU64,
}

/// A use of frames that is counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Use {
    Tables,
    Anon,
    File,
    Shmem,
    Kernel,
    /// Frames of the page cache that some address space maps.
    Mapped,
    /// Frames of the page cache that are to be written to their store.
    Dirty,
}

const USES: usize = Use::Dirty as usize + 1;

/// Frames in use, by use: what each CPU added and took away; only their sum means something.
pub(crate) struct Uses(PerCpu<[AtomicI64; USES]>);

impl Uses {
    fn new(cpus: usize) -> Self {
        Self(PerCpu::new(cpus, Default::default))
    }

    /// `frames` more of them, or fewer.
    #[inline]
    pub(crate) fn add(&self, cpu: usize, of: Use, frames: i64) {
        self.0.of(cpu)[of as usize].fetch_add(frames, Ordering::Relaxed);
    }

    /// How many there are.
    pub(crate) fn get(&self, of: Use) -> u64 {
        let sum: i64 = self.0.iter().map(|slot| slot[of as usize].load(Ordering::Relaxed)).sum();
        sum.max(0) as u64
    }
}

/// Counts of frames, in pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct MemoryCounts {
    /// All frames the memory manager was given.
    pub total: u64,
    /// Frames not in use.
    pub free: u64,
    /// Most frames in use at once so far.
    pub peak_used: u64,
    /// Frames that hold page tables.
    pub page_tables: u64,
    /// Of these, root tables whose address space is gone while somebody still holds them.
    pub lazy_roots: u64,
    /// Frames of anonymous memory.
    pub anon: u64,
    /// Frames of the page cache, shared memory included (meminfo `Cached`).
    pub cached: u64,
    /// Frames of shared memory and tmpfs.
    pub shmem: u64,
    /// Frames of the page cache that some address space maps (meminfo `Mapped`).
    pub mapped: u64,
    /// Frames of the page cache that are to be written to their store.
    pub dirty: u64,
    /// Frames held by the kernel itself: the zero page, the vdso.
    pub kernel: u64,
    /// Pages promised (meminfo `Committed_AS`).
    pub committed: u64,
    /// Most pages that may be promised in overcommit mode 2 (meminfo `CommitLimit`).
    pub commit_limit: u64,
    /// Slots of all swap areas (meminfo `SwapTotal`).
    pub swap_total: u64,
    /// Free slots of all swap areas (meminfo `SwapFree`).
    pub swap_free: u64,
    /// Anonymous frames whose content is in swap as well, or on its way there (meminfo `SwapCached`).
    pub swap_cached: u64,
}

/// There is no free frame, and none could be made free.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct NoFrame;

impl From<NoFrame> for Errno {
    fn from(_: NoFrame) -> Self {
        Self::ENOMEM
    }
}

impl<H: Host> fmt::Debug for Memory<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory")
            .field("total", &self.frames.total())
            .field("free", &self.frames.free())
            .finish_non_exhaustive()
    }
}

/// Locks of leaf tables for each CPU: so many that two CPUs rarely want one lock.
const TABLE_LOCKS: usize = 64;

type TableLocks<R> = Box<[Padded<Mutex<R, ()>>]>;

fn table_locks<R: RawMutex>(cpus: usize) -> TableLocks<R> {
    let locks = cpus.clamp(1, TABLE_LOCKS).next_power_of_two() * TABLE_LOCKS;
    (0..locks).map(|_| Padded(Mutex::new(()))).collect()
}

impl<H: Host> Memory<H> {
    /// Takes over the frames that `config` names.
    ///
    /// # Errors
    /// [`MemoryError`] when there are too few or too many.
    pub fn new(host: H, config: MemoryConfig) -> Result<Arc<Self>, MemoryError> {
        let count = config.frames.end.get().saturating_sub(config.frames.start.get());
        if count >= u64::from(u32::MAX) - 1 {
            return Err(MemoryError::TooManyFrames);
        }
        let cpus = host.cpus();
        let frames = Frames::new(config.frames.clone(), cpus);
        let zero_frame = frames.alloc(0).ok_or(MemoryError::TooFewFrames)?;
        if frames.free() == 0 {
            return Err(MemoryError::TooFewFrames);
        }
        host.mem().zero(zero_frame);
        frames.meta(zero_frame).begin(FrameState::Kernel, 0, 0);
        let uses = Uses::new(cpus);
        uses.add(0, Use::Kernel, 1);
        Ok(Arc::new(Self {
            reclaim: Reclaim::new(count, cpus, config.policy, config.swappiness),
            swap: Swap::default(),
            vm_events: VmEvents::default(),
            memcgs: Memcgs::default(),
            dirtying: Dirtying::default(),
            host,
            tunables: Tunables::new(&config),
            config,
            frames,
            zero_frame,
            uses,
            committed: PerCpu::new(cpus, AtomicI64::default),
            asids: Mutex::new(AsidPool::default()),
            lazy_roots: Mutex::new(BTreeSet::new()),
            mappings: Mutex::new(BTreeMap::new()),
            next_mm: AtomicU64::new(1),
            next_mapping: AtomicU32::new(1),
            anon_vmas: AnonVmas::new(cpus),
            table_locks: table_locks(cpus),
            next_shmem_inode: AtomicU64::new(1),
        }))
    }

    /// The embedder.
    #[inline]
    pub fn host(&self) -> &H {
        &self.host
    }

    /// The settings now: those it was made with, as changed since
    /// ([`set_sysctl`](Self::set_sysctl)).
    pub fn config(&self) -> MemoryConfig {
        self.tunables.apply(&self.config)
    }

    /// The settings it was made with: right for those that never change.
    #[inline]
    pub(crate) fn fixed_config(&self) -> &MemoryConfig {
        &self.config
    }

    /// Counts of frames now.
    pub fn counts(&self) -> MemoryCounts {
        let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let shmem = self.uses.get(Use::Shmem);
        MemoryCounts {
            total: self.frames.total(),
            free: self.frames.free(),
            peak_used: self.frames.peak_used(),
            page_tables: self.uses.get(Use::Tables),
            lazy_roots: self.lazy_roots.lock().len() as u64,
            anon: self.uses.get(Use::Anon),
            cached: self.uses.get(Use::File) + shmem,
            shmem,
            mapped: self.uses.get(Use::Mapped),
            dirty: self.uses.get(Use::Dirty),
            kernel: self.uses.get(Use::Kernel),
            committed: self.promised().max(0) as u64,
            commit_limit: self.commit_limit(),
            swap_total: get(&self.swap.total),
            swap_free: get(&self.swap.free),
            swap_cached: get(&self.swap.cached),
        }
    }

    /// Zeroed frames for the kernel's own use, such as the vdso; `None` when there are too few.
    /// The first reference to each belongs to the caller: [`Self::free_kernel_pages`].
    pub fn alloc_kernel_pages(&self, count: usize) -> Option<Vec<Pfn>> {
        let mut pages = Vec::with_capacity(count);
        for _ in 0..count {
            let Ok(pfn) = self.alloc_zeroed() else {
                self.free_kernel_pages(&pages);
                return None;
            };
            self.frames.meta(pfn).begin(FrameState::Kernel, 0, 0);
            self.uses.add(self.cpu(), Use::Kernel, 1);
            pages.push(pfn);
        }
        Some(pages)
    }

    /// Drops the first reference to frames of [`Self::alloc_kernel_pages`]; what is still mapped
    /// stays until it is unmapped.
    pub fn free_kernel_pages(&self, pages: &[Pfn]) {
        for &pfn in pages {
            self.put(pfn);
        }
    }

    /// The frame behind all untouched anonymous memory that was read.
    #[inline]
    pub fn zero_frame(&self) -> Pfn {
        self.zero_frame
    }

    /// The CPU the caller runs on, as far as the host knows.
    #[inline]
    pub(crate) fn cpu(&self) -> usize {
        self.host.cpu()
    }

    #[inline]
    pub(crate) fn meta(&self, pfn: Pfn) -> &FrameMeta {
        self.frames.meta(pfn)
    }

    /// A frame full of zeros; its use is to be begun by the caller.
    #[inline]
    pub(crate) fn alloc_zeroed(&self) -> Result<Pfn, NoFrame> {
        let pfn = self.alloc()?;
        self.zero(pfn);
        Ok(pfn)
    }

    /// Fills a frame just allocated with zeros, unless it is full of them.
    #[inline]
    pub(crate) fn zero(&self, pfn: Pfn) {
        if !self.meta(pfn).is_zeroed() {
            self.host.mem().zero(pfn);
        }
    }

    /// A frame whose content the caller overwrites whole, before anybody can see it; its use is to
    /// be begun by the caller.
    #[inline]
    pub(crate) fn alloc(&self) -> Result<Pfn, NoFrame> {
        let cpu = self.cpu();
        if self.frames.has_more_free_than(self.reclaim.marks.low, cpu)
            && let Some(pfn) = self.frames.alloc(cpu)
        {
            return Ok(pfn);
        }
        self.alloc_slowly().ok_or(NoFrame)
    }

    /// A frame full of zeros for a table, allocated while tables are locked: nothing is reclaimed,
    /// the reserve is used.
    #[inline]
    pub(crate) fn alloc_table(&self) -> Option<Pfn> {
        let pfn = self.frames.alloc(self.cpu())?;
        self.zero(pfn);
        Some(pfn)
    }

    /// Takes back tables without entries, which are frames full of zeros.
    pub(crate) fn free_empty_tables(&self, tables: impl Iterator<Item = Pfn>, cpu: usize) {
        let tables = tables.inspect(|&table| {
            let meta = self.meta(table);
            debug_assert!(
                meta.state() == FrameState::Table && meta.refs() == 1,
                "a table is its tree's"
            );
        });
        self.frames.free_zeroed(tables, cpu);
    }

    /// Gives a frame back that was allocated and never used.
    pub(crate) fn discard(&self, pfn: Pfn) {
        self.uncharge_frame(self.meta(pfn));
        self.poison(pfn);
        self.frames.free_frame(pfn, self.cpu());
    }

    /// Which of the locks guards the leaf table that covers page table number `number` of `mm`.
    #[inline]
    pub(crate) fn table_lock_of(&self, mm: u64, number: u64) -> usize {
        // Fibonacci hashing: areas are mapped at multiples of powers of two.
        let mixed = (number ^ mm.rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed >> 32) as usize & (self.table_locks.len() - 1)
    }

    #[inline]
    pub(crate) fn table_lock(&self, number: usize) -> &Mutex<H::RawMutex, ()> {
        &self.table_locks[number].0
    }

    /// Drops a reference to a frame; the last one frees it.
    #[inline]
    pub(crate) fn put(&self, pfn: Pfn) {
        let meta = self.frames.meta(pfn);
        match meta.put() {
            0 => self.free(pfn, meta),
            1 if meta.is_swap_cached() => self.drop_if_only_swap_cached(pfn),
            _ => {}
        }
    }

    /// Drops a reference to each of many frames: counts change once for all of them.
    pub(crate) fn put_all(&self, frames: impl Iterator<Item = Pfn>) {
        let mut anon = 0;
        let freed = frames.filter(|&pfn| {
            let meta = self.frames.meta(pfn);
            match meta.put() {
                0 => {}
                1 if meta.is_swap_cached() => {
                    self.drop_if_only_swap_cached(pfn);
                    return false;
                }
                _ => return false,
            }
            if meta.state() == FrameState::Anon && !meta.is_known() {
                debug_assert_eq!(meta.maps(), 0, "a mapped frame is freed");
                self.uncharge_frame(meta);
                anon += 1;
                self.poison(pfn);
                return true;
            }
            self.free(pfn, meta);
            false
        });
        let cpu = self.cpu();
        self.frames.free_frames(freed, cpu);
        if anon > 0 {
            self.uses.add(cpu, Use::Anon, -anon);
        }
    }

    #[inline]
    fn free(&self, pfn: Pfn, meta: &FrameMeta) {
        debug_assert_eq!(meta.maps(), 0, "a mapped frame is freed");
        if meta.is_known() {
            self.forget_page(pfn);
        }
        let of = match meta.state() {
            FrameState::Anon => Use::Anon,
            FrameState::File => Use::File,
            FrameState::Shmem => Use::Shmem,
            FrameState::Table => Use::Tables,
            FrameState::Kernel => Use::Kernel,
            FrameState::Free | FrameState::FreeBlock | FrameState::Allocated => {
                unreachable!("a frame without a use has no references")
            }
        };
        let cpu = self.cpu();
        self.uses.add(cpu, of, -1);
        self.uncharge_frame(meta);
        self.poison(pfn);
        self.frames.free_frame(pfn, self.cpu());
    }

    /// In debug builds a free frame holds no zeros and nobody's data, so that tests which compare
    /// content prove **no-stale-data**.
    #[inline]
    fn poison(&self, pfn: Pfn) {
        if cfg!(debug_assertions) {
            self.host.mem().write(pfn.base(), &[0xa5; 4096]);
        }
    }

    pub(crate) fn next_mm_id(&self) -> u64 {
        self.next_mm.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn next_shmem_inode(&self) -> u64 {
        self.next_shmem_inode.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn next_mapping_id(&self) -> u32 {
        self.next_mapping.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn register_mapping(&self, id: u32, mapping: Weak<AddressSpace<H>>) {
        self.mappings.lock().insert(id, mapping);
    }

    pub(crate) fn forget_mapping(&self, id: u32) {
        self.mappings.lock().remove(&id);
    }

    /// The page cache with this number.
    pub(crate) fn mapping(&self, id: u32) -> Option<Arc<AddressSpace<H>>> {
        self.mappings.lock().get(&id)?.upgrade()
    }

    /// The page cache with this number, as [`AddressSpace::id`] has it.
    pub(crate) fn mapping_by_id(&self, id: u64) -> Option<Arc<AddressSpace<H>>> {
        self.mapping(u32::try_from(id).ok()?)
    }

    /// Every page cache there is, by number.
    pub(crate) fn all_mappings(&self) -> Vec<(u32, Arc<AddressSpace<H>>)> {
        let mappings = self.mappings.lock();
        mappings.iter().filter_map(|(&id, weak)| Some((id, weak.upgrade()?))).collect()
    }
}
