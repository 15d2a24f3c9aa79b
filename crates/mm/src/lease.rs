//! Leases: parts of a contended address space that are changed under locks of their own.
//!
//! All areas lie in one tree behind `mmap_lock`, and who changes one keeps everybody else waiting.
//! When threads do meet there, the areas of the region (64 MiB, as one of malloc's arenas) that a
//! call is about move out of the tree into a [`Lease`], which has a lock and a [`State`] of its own;
//! calls and faults within it take that lock alone. Threads that stay in regions of their own then
//! share nothing:
//!
//! ```text
//!   mmap_lock [ tree of all other areas ]      slots: [lock: lease of region 17]
//!     whole: no lease is out, all recalled            [lock: lease of region 42]
//!            before anything is looked at             [lock: none             ]  64 of them
//! ```
//!
//! Who needs the whole address space (a mapping placed by the kernel, fork, /proc) takes `mmap_lock`
//! and recalls every lease first, so code that holds a [`State`] never sees half of one: it is the
//! whole, or a window in which the call's range has all its neighbours. A call is let into a window
//! only when what it would be refused or told there is what the whole would say: no neighbours of its
//! range are outside, and limits of areas and pages are far ([`Lease::admits`]).
//!
//! Nothing is leased unless `mmap_lock` was found taken, so a machine whose tasks share one thread
//! never comes here. Leases that are recalled before they were of use make new ones wait longer.
//!
//! Lock order: `mmap_lock`, then a slot. Leases come and go with `mmap_lock` held alone; who holds a
//! slot's lock never waits for `mmap_lock`.
//!
// DIVERGENCE(vm-peak-of-racing-threads): while threads race in leases, VmPeak takes their highest
// moments to be one moment, and a table of a gigabyte or more that lost its last area for a while
// is kept; Linux counts the moments one after the other, and makes such a table anew.

use crate::accounting::VmPages;
use crate::areas::{Areas, Found, LeaseWindow, VmaRef};
use crate::config::{Leasing, Overcommit};
use crate::exec::ExecLayout;
use crate::mm::{Mm, State};
use crate::{Caller, Host};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicU64, Ordering};
use kilburn_addr::{AddrRange, PAGE_SHIFT, VirtAddr, VmFlags};
use lock_api::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use once_cell::race::OnceBox;

/// Bytes of a region, as a power of two: a heap of malloc's (glibc `HEAP_MAX_SIZE`).
const REGION_SHIFT: u32 = 26;
/// Leases of an address space that can be out at once.
const SLOTS: usize = 64;
/// Areas on either side of a call's range that move along with it.
const NEIGHBOURS: usize = 64;
/// Areas that may come to be in a lease.
const SPARE_AREAS: usize = 256;
/// Calls and faults after which a lease was worth it.
const WORTH: u64 = 64;
/// Chances to lease that are let pass after leases were recalled: at least, and at most.
const PAUSE: (u64, u64) = (16, 4096);

/// The leases of one address space.
pub(crate) struct Leases<H: Host> {
    leasing: Leasing,
    /// Made for the first lease.
    slots: OnceBox<[Slot<H>; SLOTS]>,
    /// Slots whose lease is out, a bit each. Changes with `mmap_lock` held alone.
    out: AtomicU64,
    /// Areas there may be in all leases that are out.
    areas_max: AtomicU64,
    /// Pages that leases which were recalled one by one once had more than they came back with.
    past_peaks: AtomicU64,
    /// Chances left to let pass, and how many the next pause has.
    pause: AtomicU64,
    patience: AtomicU64,
    /// Readers of the whole that wait until no lease is out.
    whole_wanted: AtomicU64,
    /// Leases there were so far.
    pub(crate) ever: AtomicU64,
}

/// Where one lease is kept: two cache lines of its own at least, so that slots share none.
#[repr(align(128))]
struct Slot<H: Host>(RwLock<H::RawRwLock, Lease<H>>);

/// A part of an address space, and what bounds it.
pub(crate) struct Lease<H: Host> {
    /// What it may hold; empty when it is not out.
    window: AddrRange,
    /// Whether no area ends where the window starts, nor can one come to while it is out.
    is_open_below: bool,
    state: State<H>,
    areas_max: usize,
    /// Pages of the whole address space, at most, as long as it is out.
    total_max: u64,
    uses: AtomicU64,
}

impl<H: Host> Leases<H> {
    pub(crate) fn new(leasing: Leasing) -> Self {
        Self {
            leasing,
            slots: OnceBox::new(),
            out: AtomicU64::new(0),
            areas_max: AtomicU64::new(0),
            past_peaks: AtomicU64::new(0),
            pause: AtomicU64::new(0),
            patience: AtomicU64::new(PAUSE.0),
            whole_wanted: AtomicU64::new(0),
            ever: AtomicU64::new(0),
        }
    }

    /// Whether any lease is out. While `mmap_lock` is held, even shared, none goes out.
    #[inline]
    fn any_out(&self) -> bool {
        self.out.load(Ordering::Acquire) != 0
    }

    /// The slot for the region around `addr`, if there ever was a lease.
    #[inline]
    fn slot(&self, addr: VirtAddr) -> Option<&Slot<H>> {
        let slots = self.slots.get()?;
        let number = slot_of(addr);
        (self.out.load(Ordering::Acquire) >> number & 1 != 0).then_some(&slots[number])
    }

    /// Whether the region before `region` may be leased, in which an area may end at its end. Later it
    /// can be: but then none there comes to end there, as no call is let in that far.
    fn may_be_out_below(&self, region: AddrRange) -> bool {
        let last = region.start().get().checked_sub(1).map(VirtAddr::new);
        last.is_some_and(|last| self.out.load(Ordering::Relaxed) >> slot_of(last) & 1 != 0)
    }

    fn slots(&self) -> &[Slot<H>; SLOTS] {
        self.slots
            .get_or_init(|| Box::new(core::array::from_fn(|_| Slot(RwLock::new(Lease::none())))))
    }
}

fn slot_of(addr: VirtAddr) -> usize {
    let region = addr.get() >> REGION_SHIFT;
    // Arenas lie next to each other, threads' regions often whole powers of two apart.
    ((region ^ region >> 6 ^ region >> 12) % SLOTS as u64) as usize
}

fn region_of(addr: VirtAddr) -> AddrRange {
    let start = VirtAddr::new(addr.get() >> REGION_SHIFT << REGION_SHIFT);
    AddrRange::with_len(start, 1 << REGION_SHIFT).unwrap_or_default()
}

impl<H: Host> Lease<H> {
    fn none() -> Self {
        Self {
            window: AddrRange::default(),
            is_open_below: false,
            state: State {
                areas: Areas::new(),
                vm: VmPages::default(),
                def_flags: VmFlags::empty(),
                exec: ExecLayout::default(),
                reach: AddrRange::default(),
            },
            areas_max: 0,
            total_max: 0,
            uses: AtomicU64::new(0),
        }
    }

    /// Whether a call that changes the areas of `range` does here what it would do in the whole.
    fn admits(&self, range: AddrRange, adds: Adds<'_>) -> bool {
        self.encloses(range)
            && self.state.areas.len() + 3 <= self.areas_max
            && match adds {
                Adds::Areas => true,
                Adds::Pages(caller) => {
                    let limits = &caller.rlimits;
                    let data = if limits.data == 0 { limits.data_max } else { limits.data };
                    self.total_max <= limits.address_space.min(data) >> PAGE_SHIFT
                }
            }
    }

    /// Where the area at `addr` is, if a fault there does here what it would do in the whole: its area is
    /// here, and if it looks for a neighbour's `AnonVma`, so are its neighbours.
    #[inline]
    fn answers(&self, addr: VirtAddr) -> Option<Found> {
        let found = self.state.areas.locate_shared(addr)?;
        let vma = self.state.areas.found(found);
        (vma.start() <= addr && (vma.anon_vma.get().is_some() || self.encloses(vma.range)))
            .then_some(found)
    }

    /// Whether `range` lies in the window, and neither end is one beyond which may be neighbours.
    fn encloses(&self, range: AddrRange) -> bool {
        let from = self.window.start();
        (from < range.start() || from == range.start() && self.is_open_below)
            && range.end() < self.window.end()
    }

    #[inline]
    fn note_use(&self) {
        // A hint: a count lost to a race does no harm, and a store is cheaper than an addition.
        self.uses.store(self.uses.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }
}

/// What there may be more of after a call that changes areas.
#[derive(Clone, Copy)]
pub(crate) enum Adds<'a> {
    /// Areas, as parts of others.
    Areas,
    /// Pages, up to the caller's limits.
    Pages(&'a Caller),
}

/// Areas held still.
pub(crate) enum StateRef<'a, H: Host> {
    /// All, or all but those in leases that are none of the caller's business.
    Whole(RwLockReadGuard<'a, H::RawRwLock, State<H>>),
    /// Those of a lease.
    Part(RwLockReadGuard<'a, H::RawRwLock, Lease<H>>),
}

/// Areas that nobody else reads or changes.
pub(crate) enum StateMut<'a, H: Host> {
    /// All.
    Whole(RwLockWriteGuard<'a, H::RawRwLock, State<H>>),
    /// Those of a lease.
    Part(RwLockWriteGuard<'a, H::RawRwLock, Lease<H>>),
}

/// Areas held still to look at one of them.
pub(crate) struct AreaLock<'a, H: Host> {
    pub(crate) state: StateRef<'a, H>,
    /// The first one that ends above the address asked for.
    found: Option<Found>,
}

impl<'a, H: Host> AreaLock<'a, H> {
    #[inline]
    fn looking(state: StateRef<'a, H>, addr: VirtAddr) -> Self {
        let found = state.areas.locate_shared(addr);
        Self { state, found }
    }

    /// In a lease, if that is all a fault at `addr` looks at.
    #[inline]
    fn in_lease(
        lease: RwLockReadGuard<'a, H::RawRwLock, Lease<H>>,
        addr: VirtAddr,
    ) -> Option<Self> {
        let found = lease.answers(addr)?;
        lease.note_use();
        Some(Self { state: StateRef::Part(lease), found: Some(found) })
    }

    /// The first area that ends above the address asked for.
    #[inline]
    pub(crate) fn vma(&self) -> Option<VmaRef<'_, H>> {
        self.found.map(|found| self.state.areas.found(found))
    }
}

impl<H: Host> Deref for StateRef<'_, H> {
    type Target = State<H>;

    #[inline]
    fn deref(&self) -> &State<H> {
        match self {
            Self::Whole(state) => state,
            Self::Part(lease) => &lease.state,
        }
    }
}

impl<H: Host> Deref for StateMut<'_, H> {
    type Target = State<H>;

    #[inline]
    fn deref(&self) -> &State<H> {
        match self {
            Self::Whole(state) => state,
            Self::Part(lease) => &lease.state,
        }
    }
}

impl<H: Host> DerefMut for StateMut<'_, H> {
    #[inline]
    fn deref_mut(&mut self) -> &mut State<H> {
        match self {
            Self::Whole(state) => state,
            Self::Part(lease) => &mut lease.state,
        }
    }
}

impl<H: Host> StateMut<'_, H> {
    /// Whether it is a part.
    pub(crate) fn is_part(&self) -> bool {
        matches!(self, Self::Part(_))
    }
}

impl<H: Host> Mm<H> {
    /// Holds all areas still; others may read them, too (Linux `mmap_read_lock`).
    #[inline]
    pub(crate) fn mmap_read_lock(&self) -> RwLockReadGuard<'_, H::RawRwLock, State<H>> {
        let state = self.state.read();
        if !self.leases.any_out() {
            return state;
        }
        drop(state);
        self.read_lock_whole()
    }

    #[cold]
    fn read_lock_whole(&self) -> RwLockReadGuard<'_, H::RawRwLock, State<H>> {
        self.leases.whole_wanted.fetch_add(1, Ordering::AcqRel);
        drop(self.mmap_write_lock());
        let state = self.state.read();
        debug_assert!(!self.leases.any_out(), "nothing is leased while the whole is wanted");
        self.leases.whole_wanted.fetch_sub(1, Ordering::AcqRel);
        state
    }

    /// Nobody else reads or changes any area (Linux `mmap_write_lock`).
    #[inline]
    pub(crate) fn mmap_write_lock(&self) -> RwLockWriteGuard<'_, H::RawRwLock, State<H>> {
        let mut state = self.state.write();
        if self.leases.any_out() {
            self.recall_all(&mut state);
        }
        state
    }

    /// Holds still the area at `addr`, if there is one, with what a fault there looks at
    /// (Linux `lock_vma_under_rcu`); all of them if there is none.
    #[inline]
    pub(crate) fn mmap_read_lock_at(&self, addr: VirtAddr) -> AreaLock<'_, H> {
        if !self.leases.any_out() {
            let state = self.state.read();
            // Whom this waited for may have leased a part.
            if !self.leases.any_out() {
                return AreaLock::looking(StateRef::Whole(state), addr);
            }
        }
        match self.read_lock_beside_leases(addr) {
            Some(locked) => locked,
            None => AreaLock::looking(StateRef::Whole(self.mmap_read_lock()), addr),
        }
    }

    fn read_lock_beside_leases(&self, addr: VirtAddr) -> Option<AreaLock<'_, H>> {
        if let Some(slot) = self.leases.slot(addr)
            && let Some(locked) = AreaLock::in_lease(slot.0.read(), addr)
        {
            return Some(locked);
        }
        // A large area is never leased.
        let locked = AreaLock::looking(StateRef::Whole(self.state.read()), addr);
        let vma = locked.vma().filter(|vma| vma.start() <= addr)?;
        if vma.anon_vma.get().is_some() {
            return Some(locked);
        }
        // Whose `AnonVma` it could share may be leased: so shall it be.
        let range = vma.range;
        drop(locked);
        drop(self.lease(&mut self.state.write(), range, Adds::Areas)?);
        AreaLock::in_lease(self.leases.slot(addr)?.0.read(), addr)
    }

    /// Holds still the areas of `range`, which a call without looks at neighbours is about.
    pub(crate) fn mmap_read_lock_range(&self, range: AddrRange) -> StateRef<'_, H> {
        if self.leases.any_out()
            && let Some(slot) = self.leases.slot(range.start())
            && let lease = slot.0.read()
            && lease.encloses(range)
        {
            lease.note_use();
            return StateRef::Part(lease);
        }
        StateRef::Whole(self.mmap_read_lock())
    }

    /// Nobody else reads or changes the areas of `range`, or those next to them. The call may map,
    /// unmap and change rights there, all as the whole address space would let it.
    #[inline]
    pub(crate) fn mmap_write_lock_range(
        &self,
        range: AddrRange,
        adds: Adds<'_>,
    ) -> StateMut<'_, H> {
        if let Some(slot) = self.leases.slot(range.start()) {
            let lease = slot.0.write();
            if lease.admits(range, adds) {
                lease.note_use();
                return StateMut::Part(lease);
            }
        }
        let (mut state, met) = match self.state.try_write() {
            Some(state) => (state, false),
            None => (self.state.write(), true),
        };
        let wanted = match self.leases.leasing {
            Leasing::Never => false,
            Leasing::OnContention => met || self.leases.any_out(),
            Leasing::Always => true,
        };
        if wanted && let Some(lease) = self.lease(&mut state, range, adds) {
            return StateMut::Part(lease);
        }
        if self.leases.any_out() {
            self.recall_all(&mut state);
        }
        StateMut::Whole(state)
    }

    /// The areas, when nobody else has the address space.
    pub(crate) fn state_mut(&mut self) -> &mut State<H> {
        if self.leases.any_out() {
            drop(self.mmap_write_lock());
        }
        self.state.get_mut()
    }

    /// Moves the areas around `range` into a lease, if that is of use.
    #[cold]
    fn lease(
        &self,
        state: &mut State<H>,
        range: AddrRange,
        adds: Adds<'_>,
    ) -> Option<RwLockWriteGuard<'_, H::RawRwLock, Lease<H>>> {
        let config = self.memory().config();
        let region = region_of(range.start());
        if !region.contains_range(range)
            || !self.in_task(region.start(), region.len())
            || !state.def_flags.is_empty()
            || matches!(config.overcommit, Overcommit::Never(_))
            || self.leases.whole_wanted.load(Ordering::Acquire) > 0
            || self.leases.leasing == Leasing::OnContention && self.leases.lets_pass()
        {
            return None;
        }
        let number = slot_of(range.start());
        let mut lease = self.leases.slots()[number].0.write();
        if !lease.window.is_empty() && lease.state.areas.is_empty() {
            // Its tables may reach into what others have.
            drop(lease);
            self.recall_all(state);
            lease = self.leases.slots()[number].0.write();
        }
        self.recall(state, number, &mut lease);
        let window = state.areas.lease_window(range, region, NEIGHBOURS);
        if !window.range.contains_range(range) {
            return None;
        }
        let is_open_below = window.is_open_below && !self.leases.may_be_out_below(region);
        lease.take(state, LeaseWindow { is_open_below, ..window });
        let others = self.leases.areas_max.load(Ordering::Relaxed) as usize;
        lease.total_max = state.vm.total + ((SLOTS as u64) << (REGION_SHIFT - PAGE_SHIFT));
        let areas = state.areas.len() + others + lease.areas_max;
        self.leases.note_out(number, lease.areas_max);
        if areas > config.max_map_count as usize || !lease.admits(range, adds) {
            self.recall(state, number, &mut lease);
            return None;
        }
        lease.note_use();
        self.leases.ever.fetch_add(1, Ordering::Relaxed);
        Some(lease)
    }

    /// Takes every lease back.
    #[cold]
    fn recall_all(&self, state: &mut State<H>) {
        let before = state.vm.total;
        let mut peaks = self.leases.past_peaks.load(Ordering::Relaxed);
        let mut was_worth_it = true;
        let mut empty = Vec::new();
        let mut out = self.leases.out.load(Ordering::Relaxed);
        while out != 0 {
            let number = out.trailing_zeros() as usize;
            out &= out - 1;
            let mut lease = self.leases.slots()[number].0.write();
            peaks += lease.state.vm.peak;
            was_worth_it &= *lease.uses.get_mut() >= WORTH;
            if lease.state.areas.is_empty() {
                empty.push(lease.window);
            }
            self.recall(state, number, &mut lease);
        }
        self.leases.past_peaks.store(0, Ordering::Relaxed);
        state.vm.peak = state.vm.peak.max(before + peaks);
        self.leases.begin_pause(was_worth_it);
        // Tables that reach beyond a region were left.
        for window in empty {
            let (before, after) = state.areas.neighbour_heads(window.start());
            self.free_tables(
                window,
                before.map_or(state.reach.start(), |area| area.range.end()),
                after.map_or(state.reach.end(), |area| area.range.start()),
            );
        }
    }

    /// Takes the lease of a slot back, if it is out.
    fn recall(&self, state: &mut State<H>, number: usize, lease: &mut Lease<H>) {
        let window = core::mem::take(&mut lease.window);
        if window.is_empty() {
            return;
        }
        self.leases.note_back(number, lease.areas_max);
        let once_more = lease.state.vm.peak - lease.state.vm.total;
        self.leases.past_peaks.fetch_add(once_more, Ordering::Relaxed);
        move_areas(&mut lease.state, state, window);
        lease.state.vm.peak = 0;
    }
}

impl<H: Host> Leases<H> {
    /// Whether this chance to lease is to be let pass.
    fn lets_pass(&self) -> bool {
        let left = self.pause.load(Ordering::Relaxed);
        self.pause.store(left.saturating_sub(1), Ordering::Relaxed);
        left > 0
    }

    fn begin_pause(&self, was_worth_it: bool) {
        let last = self.patience.load(Ordering::Relaxed);
        let next = if was_worth_it { last / 2 } else { last * 2 }.clamp(PAUSE.0, PAUSE.1);
        self.patience.store(next, Ordering::Relaxed);
        self.pause.store(next, Ordering::Relaxed);
    }

    fn note_out(&self, number: usize, areas_max: usize) {
        self.areas_max.fetch_add(areas_max as u64, Ordering::Relaxed);
        self.out.fetch_or(1 << number, Ordering::Release);
    }

    fn note_back(&self, number: usize, areas_max: usize) {
        self.areas_max.fetch_sub(areas_max as u64, Ordering::Relaxed);
        self.out.fetch_and(!(1 << number), Ordering::Release);
    }
}

impl<H: Host> Lease<H> {
    /// Becomes the lease of `window`, whose areas move here from the whole.
    fn take(&mut self, whole: &mut State<H>, window: LeaseWindow) {
        let LeaseWindow { range, is_open_below, ceiling } = window;
        self.window = range;
        self.is_open_below = is_open_below;
        self.state.reach = AddrRange::new(range.start(), ceiling).unwrap_or_default();
        move_areas(whole, &mut self.state, range);
        self.areas_max = self.state.areas.len() + SPARE_AREAS;
        *self.uses.get_mut() = 0;
    }
}

/// Moves the areas of `window`, all of which lie within it, with what is counted of them.
fn move_areas<H: Host>(from: &mut State<H>, to: &mut State<H>, window: AddrRange) {
    while let Some(next) = from.areas.head(window.start())
        && next.range.start() < window.end()
    {
        let vma = from.areas.remove(next.range.start());
        from.vm.remove(vma.flags, vma.range.pages());
        to.vm.add(vma.flags, vma.range.pages());
        to.areas.insert(vma);
    }
}
