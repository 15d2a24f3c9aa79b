//! One address space (Linux `struct mm_struct`): areas, tables, counts.
//!
//! | field              | guarded by                                                          |
//! |--------------------|---------------------------------------------------------------------|
//! | `state`            | `mmap_lock`: it is the lock's content; faults hold it shared        |
//! | `leases`           | a lock each; they come and go with `mmap_lock` held alone           |
//! | entries of tables  | a leaf's: one of `Memory::table_locks`, chosen by its address; hardware |
//! |                    | sets A and D beside it. Those above: `page_table_lock`, and no table is  |
//! |                    | freed while `mmap_lock` is held                                          |
//! | `table_counts`     | `page_table_lock`                                                   |
//! | `counts`           | atomic, a slot for each CPU                                         |
//! | `userfaults`       | its own lock                                                        |

use crate::accounting::{Counts, VmPages};
use crate::areas::Areas;
use crate::exec::ExecLayout;
use crate::frames::FrameState;
use crate::host::{FlushReason, FlushScope, Host, TlbFlush};
use crate::layout::Layout;
use crate::lease::Leases;
use crate::memory::{Memory, Use};
use crate::percpu::{Handle, Handles};
use crate::pgd::Pgd;
use crate::table_changes::TableCounts;
use crate::userfault::Userfaultfd;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::fmt;
use core::ops::ControlFlow;
use core::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use kilburn_addr::{AddrRange, Errno, PAGE_SHIFT, Pfn, VirtAddr, VmFlags};
use kilburn_paging::tables::LeafSpan;
use kilburn_paging::{Entry, Format, Leaf, PhysMem, Tables};
use lock_api::{Mutex, RwLock};

/// An address space: areas, tables, counts. Dropping the last `Arc` is exit_mmap: everything is
/// unmapped and every frame given back, the root table as soon as nobody holds its [`Pgd`].
pub struct Mm<H: Host> {
    this: Handles<Weak<Self>>,
    memory: Arc<Memory<H>>,
    layout: Layout,
    id: u64,
    pgd: Arc<Pgd<H>>,
    /// Taken by way of [`crate::lease`].
    pub(crate) state: RwLock<H::RawRwLock, State<H>>,
    pub(crate) leases: Leases<H>,
    /// Held to make and to free tables.
    page_table_lock: Mutex<H::RawMutex, ()>,
    pub(crate) counts: Counts,
    pub(crate) table_counts: TableCounts,
    /// Who watches it, or did.
    pub(crate) userfaults: Mutex<H::RawMutex, Vec<Weak<Userfaultfd<H>>>>,
    /// Whether swap knows that there may be entries of its own here.
    is_swapped: AtomicBool,
    /// Number of the group its pages are charged to ([`crate::MemcgId`]).
    pub(crate) memcg: AtomicU16,
}

/// What `mmap_lock` guards.
pub(crate) struct State<H: Host> {
    pub(crate) areas: Areas<H>,
    pub(crate) vm: VmPages,
    /// Flags every new area gets (mlockall's `MCL_FUTURE`).
    pub(crate) def_flags: VmFlags,
    pub(crate) exec: ExecLayout,
    /// What tables may be freed in, as far as no area is in the way: everything, or the window of a
    /// lease.
    pub(crate) reach: AddrRange,
}

/// The reach of a whole address space: user space may end within the span of a table that is its
/// own all the same.
pub(crate) fn whole_reach() -> AddrRange {
    AddrRange::new(VirtAddr::ZERO, VirtAddr::MAX).unwrap_or_default()
}

/// The tables of an address space, of its host's memory and format.
pub(crate) type HostTables<'m, H> = Tables<'m, <H as Host>::Mem, <H as Host>::Format>;

impl<H: Host> Mm<H> {
    /// An empty address space with a root table.
    ///
    /// # Errors
    /// `ENOMEM`
    pub fn new(memory: &Arc<Memory<H>>, layout: Layout) -> Result<Arc<Self>, Errno> {
        let state = State {
            areas: Areas::with_guard_gap(memory.fixed_config().stack_guard_gap << PAGE_SHIFT),
            vm: VmPages::default(),
            def_flags: VmFlags::empty(),
            exec: ExecLayout::default(),
            reach: whole_reach(),
        };
        Self::with_state(memory, layout, state)
    }

    pub(crate) fn with_state(
        memory: &Arc<Memory<H>>,
        layout: Layout,
        state: State<H>,
    ) -> Result<Arc<Self>, Errno> {
        let root = memory.alloc_zeroed()?;
        let asid = match memory.asids.lock().take() {
            Ok(asid) => asid,
            Err(errno) => {
                memory.discard(root);
                return Err(errno);
            }
        };
        let root_level = memory.host().format().levels() - 1;
        memory.meta(root).begin(FrameState::Table, 0, u64::from(root_level));
        memory.uses.add(memory.cpu(), Use::Tables, 1);
        let memcg = memory.host().current_memcg();
        memory.enter_memcg(memcg);
        Ok(Arc::new_cyclic(|this| Self {
            this: Handles::new(memory.host().cpus(), || this.clone()),
            memory: memory.clone(),
            layout,
            id: memory.next_mm_id(),
            pgd: Pgd::new(memory.clone(), root, asid),
            state: RwLock::new(state),
            leases: Leases::new(memory.fixed_config().leasing),
            page_table_lock: Mutex::new(()),
            counts: Counts::new(memory.host().cpus()),
            table_counts: TableCounts::of_root(),
            userfaults: Mutex::new(Vec::new()),
            is_swapped: AtomicBool::new(false),
            memcg: AtomicU16::new(memcg.to_bits()),
        }))
    }

    /// The machine's memory.
    #[inline]
    pub fn memory(&self) -> &Arc<Memory<H>> {
        &self.memory
    }

    /// The shape of the address space.
    #[inline]
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Frame of the root table.
    #[inline]
    pub fn root(&self) -> Pfn {
        self.pgd.root()
    }

    /// Root table and tag, for who stays on the tables without using the address space.
    #[inline]
    pub fn pgd(&self) -> &Arc<Pgd<H>> {
        &self.pgd
    }

    /// The tag of its TLB entries; no other living address space has it.
    #[inline]
    pub fn asid(&self) -> u16 {
        self.pgd.asid()
    }

    /// A number no other address space of the machine ever has.
    #[inline]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Whether `addr..addr + len` lies below the end of user space.
    #[inline]
    pub(crate) fn in_task(&self, addr: VirtAddr, len: u64) -> bool {
        let size = self.layout.task_size().get();
        len <= size && addr.get() <= size - len
    }

    /// An entry for a slot of swap was made here: swapoff must find it (Linux `mmlist`).
    pub(crate) fn note_swapped(&self) {
        if !self.is_swapped.swap(true, Ordering::Relaxed) {
            self.memory.swap.mms.lock().insert(self.id, self.weak());
        }
    }

    pub(crate) fn weak(&self) -> Weak<Self> {
        self.this.peek().clone()
    }

    /// As [`Self::weak`], for what comes and goes with areas.
    pub(crate) fn handle(&self) -> Handle<Weak<Self>> {
        self.this.take(self.memory.cpu())
    }

    #[inline]
    pub(crate) fn mem(&self) -> &H::Mem {
        self.memory.host().mem()
    }

    #[inline]
    pub(crate) fn format(&self) -> H::Format {
        self.memory.host().format()
    }

    /// The tables, not locked. Holding `mmap_lock`, even shared, keeps them where they are; an
    /// entry may change any moment.
    #[inline]
    pub(crate) fn tables(&self) -> HostTables<'_, H> {
        Tables::new(self.mem(), self.format(), self.root())
    }

    /// Number of the leaf table that covers `va`, from address 0 on.
    #[inline]
    pub(crate) fn leaf_number(&self, va: VirtAddr) -> u64 {
        va.get() >> self.format().span_shift(1)
    }

    /// Bytes that a leaf table covers.
    #[inline]
    pub(crate) fn leaf_span(&self) -> u64 {
        1 << self.format().span_shift(1)
    }

    fn leaf_lock(&self, va: VirtAddr) -> usize {
        self.memory.table_lock_of(self.id, self.leaf_number(va))
    }

    fn guard<'a>(
        &'a self,
        upper: Option<Held<'a, H>>,
        leaf: Option<Held<'a, H>>,
    ) -> TableGuard<'a, H> {
        TableGuard { tables: self.tables(), mm: self, _leaf: leaf, _upper: upper }
    }

    /// The leaf table that covers `va`, locked. The caller holds `mmap_lock`, which keeps it where it is.
    #[inline]
    pub(crate) fn lock_leaf(&self, va: VirtAddr) -> TableGuard<'_, H> {
        self.guard(None, Some(self.memory.table_lock(self.leaf_lock(va)).lock()))
    }

    /// The leaf table that covers `va` and the way to it, locked, for who does not hold `mmap_lock`.
    pub(crate) fn lock_path(&self, va: VirtAddr) -> TableGuard<'_, H> {
        let upper = Some(self.page_table_lock.lock());
        self.guard(upper, Some(self.memory.table_lock(self.leaf_lock(va)).lock()))
    }

    /// As [`Self::lock_path`], unless somebody has locked any of it.
    pub(crate) fn try_lock_path(&self, va: VirtAddr) -> Option<TableGuard<'_, H>> {
        let upper = Some(self.page_table_lock.try_lock()?);
        let leaf = Some(self.memory.table_lock(self.leaf_lock(va)).try_lock()?);
        Some(self.guard(upper, leaf))
    }

    /// Two leaf tables, locked: that which covers `va` here, and that which covers `other_va` in `other`.
    /// The callers hold `mmap_lock` of both.
    pub(crate) fn lock_two<'a>(
        &'a self,
        va: VirtAddr,
        other: &'a Self,
        other_va: VirtAddr,
    ) -> (TableGuard<'a, H>, TableGuard<'a, H>) {
        let (here, there) = (self.leaf_lock(va), other.leaf_lock(other_va));
        let lock = |number| Some(self.memory.table_lock(number).lock());
        // In the order of the locks, so that nobody waits for who waits for him; or both by one lock.
        let (ours, theirs) = match here.cmp(&there) {
            core::cmp::Ordering::Less => {
                let ours = lock(here);
                (ours, lock(there))
            }
            core::cmp::Ordering::Equal => (lock(here), None),
            core::cmp::Ordering::Greater => {
                let theirs = lock(there);
                (lock(here), theirs)
            }
        };
        (self.guard(None, ours), other.guard(None, theirs))
    }

    /// Visits the leaf tables under `range` in order, each locked meanwhile. The caller holds `mmap_lock`.
    #[inline]
    pub(crate) fn for_each_leaf(
        &self,
        range: AddrRange,
        mut visit: impl FnMut(&TableGuard<'_, H>, LeafSpan),
    ) {
        self.tables().for_each_leaf_table(range, |span| visit(&self.lock_leaf(span.start), span));
    }

    /// As [`Self::for_each_leaf`], until `visit` breaks off.
    #[inline]
    pub(crate) fn try_for_each_leaf<B>(
        &self,
        range: AddrRange,
        mut visit: impl FnMut(&TableGuard<'_, H>, LeafSpan) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        self.tables()
            .try_for_each_leaf_table(range, |span| visit(&self.lock_leaf(span.start), span))
    }

    /// Keeps anybody else from making and freeing tables.
    pub(crate) fn lock_upper(&self) -> Held<'_, H> {
        self.page_table_lock.lock()
    }

    /// Makes TLBs forget the pages of `range`.
    pub(crate) fn flush(&self, range: AddrRange, reason: FlushReason) {
        let what = FlushScope::Range(range);
        self.memory.host().flush_tlb(&TlbFlush { asid: self.asid(), what, reason });
    }

    /// Makes TLBs forget the page at `va`.
    pub(crate) fn flush_page(&self, va: VirtAddr, reason: FlushReason) {
        if let Some(page) = AddrRange::with_len(va.page_down(), 1 << PAGE_SHIFT) {
            self.flush(page, reason);
        }
    }

    /// Makes TLBs forget the whole address space.
    pub(crate) fn flush_all(&self, reason: FlushReason) {
        let what = FlushScope::All;
        self.memory.host().flush_tlb(&TlbFlush { asid: self.asid(), what, reason });
    }
}

/// A lock of tables, held.
pub(crate) type Held<'a, H> = lock_api::MutexGuard<'a, <H as Host>::RawMutex, ()>;

/// The tables of an address space while nobody else changes the entries of one leaf table.
pub(crate) struct TableGuard<'a, H: Host> {
    pub(crate) tables: HostTables<'a, H>,
    mm: &'a Mm<H>,
    /// None if the other guard of two has it, as one lock guards both tables.
    _leaf: Option<Held<'a, H>>,
    _upper: Option<Held<'a, H>>,
}

impl<H: Host> TableGuard<'_, H> {
    /// The entry at `at`.
    #[inline]
    pub(crate) fn entry(&self, at: kilburn_addr::PhysAddr) -> Entry {
        self.mm.format().decode(self.mm.mem().load(at), 0)
    }

    /// Overwrites the entry at `at`, which hardware cannot be using.
    #[inline]
    pub(crate) fn set(&self, at: kilburn_addr::PhysAddr, entry: Entry) {
        self.mm.mem().store(at, self.mm.format().encode(entry, 0));
    }

    /// Overwrites the entry at `at` with a page, and announces it.
    #[inline]
    pub(crate) fn set_leaf(&self, at: kilburn_addr::PhysAddr, va: VirtAddr, leaf: Leaf) {
        self.set(at, Entry::Leaf(leaf));
        self.mm.memory.host().pte_set(self.mm.asid(), va, leaf);
    }

    /// A copied entry has its page in swap.
    pub(crate) fn note_swapped(&self) {
        self.mm.counts.swapped_out(1);
        self.mm.note_swapped();
    }

    /// Changes the page at `at`, keeping the A and D bits that hardware sets meanwhile; what it
    /// was before, if it is a page.
    #[inline]
    pub(crate) fn update(
        &self,
        at: kilburn_addr::PhysAddr,
        mut change: impl FnMut(Leaf) -> Leaf,
    ) -> Option<Leaf> {
        let (mem, format) = (self.mm.mem(), self.mm.format());
        loop {
            let raw = mem.load(at);
            let Entry::Leaf(leaf) = format.decode(raw, 0) else { return None };
            let new = format.encode(Entry::Leaf(change(leaf)), 0);
            if new != raw && format.is_settled(raw) {
                // Software is kept out by the lock, and hardware has nothing left to set.
                mem.store(at, new);
                return Some(leaf);
            }
            if new == raw || mem.compare_exchange(at, raw, new).is_ok() {
                return Some(leaf);
            }
        }
    }
}

impl<H: Host> Drop for Mm<H> {
    /// exit_mmap (Linux 6.18 mm/mmap.c): all areas go, with their pages and tables.
    fn drop(&mut self) {
        self.exit_mmap();
        self.memory.leave_memcg(self.memcg());
        if *self.is_swapped.get_mut() {
            self.memory.swap.mms.lock().remove(&self.id);
        }
        self.flush_all(FlushReason::Exit);
        // Until the last who holds the root table lets go of it, which mostly is right now.
        self.memory.lazy_roots.lock().insert(self.root());
    }
}

impl<H: Host> fmt::Debug for Mm<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mm")
            .field("id", &self.id)
            .field("asid", &self.asid())
            .finish_non_exhaustive()
    }
}
