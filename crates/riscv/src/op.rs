//! Predecoded operations, how they lie in memory, and the only way to point at one.
//!
//! A block is a run of 16-byte slots:
//!
//! ```text
//!  Head | Op | Op | Op, Ext | Op | .. | Op, Ext
//!    |     \___ plain: operands       \___ the last one leaves the block
//!    |           \___ may leave: followed by where to, and what has been done by then
//!    physical address of the first instruction
//! ```
//!
//! Handlers get an [`OpRef`] and run on in tail position, so a block runs without a dispatch loop.
//! Neighbours: `block` writes slots, `code` owns them and finds them, `exec` has the handlers.
//!
//! # Why the `unsafe` here is sound
//!
//! An [`OpRef`] is only made by [`Arena::add`], for the first operation of a complete block, and by
//! stepping from one to the next. **A block is well-formed**: every slot's kind is determined by the
//! operation before it, as drawn above, and the last operation never steps further ([`Arena::add`]
//! is given slots by `block` alone). **Slots stay**: a chunk is freed only when its arena is dropped,
//! together with the hart, whose run is the only time references are followed; recycling a chunk
//! ([`Arena::clear`]) happens between two blocks, when no handler is active, and `code` forgets
//! every reference at the same moment.

#![allow(unsafe_code, clippy::allow_attributes, reason = "handlers step over operations in place")]

use crate::state::Core;
use core::ptr::NonNull;
use kilburn_addr::PhysAddr;

/// What an operation does: it is called with itself, the account of the current slice and the
/// virtual address of the block's first instruction, and returns the account at the end.
pub(crate) type Handler = fn(&mut Core, OpRef, Account, u64) -> Account;

/// What has been done in a slice, packed so that leaving a block costs one addition:
///
/// ```text
///  63 .......... 48 47 ... 32 31 .... 16 15 ..... 0
///  instructions left  loads     stores     fetches
/// ```
///
/// The slice is over when the upper field is negative. It starts below 2^15 and each of the others
/// grows by at most one an instruction, so no field runs into the next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(transparent)]
pub(crate) struct Account(u64);

/// A change to an [`Account`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(transparent)]
pub(crate) struct Count(u64);

impl Count {
    pub(crate) const fn new(instructions: u64, loads: u64, stores: u64, fetches: u64) -> Self {
        Self((instructions << 48).wrapping_neg().wrapping_add(loads << 32 | stores << 16 | fetches))
    }

    pub(crate) const fn plus(self, other: Self) -> Self {
        Self(self.0.wrapping_add(other.0))
    }
}

impl Account {
    /// A fresh slice.
    pub(crate) fn start(instructions: u64) -> Self {
        debug_assert!(instructions < 1 << 15);
        Self(instructions << 48)
    }

    #[inline(always)]
    pub(crate) const fn charge(self, count: Count) -> Self {
        Self(self.0.wrapping_add(count.0))
    }

    #[inline(always)]
    pub(crate) const fn is_over(self) -> bool {
        (self.0 as i64) < 0
    }

    /// Instructions left; negative when the last block went on past the end.
    pub(crate) const fn left(self) -> i64 {
        self.0 as i64 >> 48
    }

    pub(crate) const fn loads(self) -> u64 {
        self.0 >> 32 & 0xffff
    }

    pub(crate) const fn stores(self) -> u64 {
        self.0 >> 16 & 0xffff
    }

    pub(crate) const fn fetches(self) -> u64 {
        self.0 & 0xffff
    }
}

/// One operation.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Op {
    pub(crate) run: Handler,
    /// Index into [`Core::r`], as are the next two.
    pub(crate) rd: u8,
    pub(crate) rs1: u8,
    pub(crate) rs2: u8,
    /// Halfwords from the block's first instruction to this one; to the next one for jumps.
    pub(crate) at: u8,
    pub(crate) imm: i32,
}

/// What follows an operation that may leave its block.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Ext {
    /// The block it leads to, once known. Only for targets in the same page: the two live and die
    /// together, and the translation the code was fetched with is the same.
    pub(crate) link: Option<OpRef>,
    /// What a block that is left here has done.
    pub(crate) count: Count,
}

/// What comes before a block.
#[derive(Clone, Copy)]
#[repr(C)]
struct Head {
    /// The slot's own address. No operation and no [`Ext`] starts with it: it is no function's
    /// address, and links lead to the slot after a head.
    own: usize,
    start: PhysAddr,
}

/// 16 bytes of a block.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) union Slot {
    op: Op,
    ext: Ext,
    head: Head,
}

const _: () = assert!(size_of::<Slot>() == 16);

impl Slot {
    pub(crate) const fn op(op: Op) -> Self {
        Self { op }
    }

    pub(crate) const fn ext(count: Count) -> Self {
        Self { ext: Ext { link: None, count } }
    }

    /// Room for the head; [`Arena::add`] completes it.
    pub(crate) const fn head(start: PhysAddr) -> Self {
        Self { head: Head { own: 0, start } }
    }
}

/// Points at an operation of a complete block, or at the [`Ext`] behind one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(transparent)]
pub(crate) struct OpRef(NonNull<Slot>);

impl OpRef {
    /// Never followed: stands where no block is known.
    pub(crate) const NOWHERE: Self = Self(NonNull::dangling());

    #[inline(always)]
    pub(crate) fn op(self) -> Op {
        // SAFETY: well-formed: the reference is at an operation. Slots stay.
        unsafe { (*self.0.as_ptr()).op }
    }

    /// The slot after this one: the next operation, or this one's [`Ext`].
    #[inline(always)]
    pub(crate) fn next(self) -> Self {
        // SAFETY: well-formed: an operation that steps is followed by another slot of its block.
        Self(unsafe { self.0.add(1) })
    }

    /// Reads the [`Ext`] this reference is at.
    #[inline(always)]
    pub(crate) fn ext(self) -> Ext {
        // SAFETY: well-formed: called on the slot after an operation that may leave.
        unsafe { (*self.0.as_ptr()).ext }
    }

    /// Notes where the [`Ext`] this reference is at leads to.
    pub(crate) fn set_link(self, to: OpRef) {
        // SAFETY: as in `ext`. The slot is behind a raw pointer only; nobody holds a reference.
        unsafe { (*self.0.as_ptr()).ext.link = Some(to) }
    }

    /// Physical address of the first instruction of the block that this operation is in.
    pub(crate) fn block_start(self) -> PhysAddr {
        let mut slot = self.0;
        loop {
            // SAFETY: every block begins with a head, so the loop ends inside the block. Any slot's
            // first eight bytes may be read as an integer.
            unsafe {
                slot = slot.sub(1);
                let head = (*slot.as_ptr()).head;
                if head.own == slot.as_ptr() as usize {
                    return head.start;
                }
            }
        }
    }
}

/// Slots in a chunk: 1 MiB.
const CHUNK: usize = 1 << 16;

/// Owns blocks. Grows by chunks up to a limit; room comes back all at once.
pub(crate) struct Arena {
    chunks: Vec<NonNull<Slot>>,
    limit: usize,
    /// Chunk being filled, and slots used in it.
    chunk: usize,
    used: usize,
}

/// Names a block's first operation in its arena; not 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct BlockId(pub(crate) u32);

impl Arena {
    /// An empty arena of at most `limit` chunks of 1 MiB.
    pub(crate) fn new(limit: usize) -> Self {
        Self { chunks: Vec::new(), limit, chunk: 0, used: 0 }
    }

    fn chunk_layout() -> std::alloc::Layout {
        std::alloc::Layout::array::<Slot>(CHUNK).expect("a mebibyte")
    }

    /// Whether a block of `slots` slots needs [`Self::clear`] first.
    pub(crate) fn is_full_for(&self, slots: usize) -> bool {
        self.chunk + 1 >= self.limit && !self.chunks.is_empty() && self.used + slots > CHUNK
    }

    /// Forgets all blocks. See the head of the file for when that is allowed.
    pub(crate) fn clear(&mut self) {
        self.chunk = 0;
        self.used = 0;
    }

    /// Stores a well-formed block, whose first slot is a head.
    pub(crate) fn add(&mut self, slots: &[Slot]) -> (OpRef, BlockId) {
        assert!((2..CHUNK).contains(&slots.len()), "a block of {} slots", slots.len());
        if self.used + slots.len() > CHUNK {
            self.chunk += 1;
            self.used = 0;
        }
        if self.chunk == self.chunks.len() {
            let layout = Self::chunk_layout();
            // SAFETY: the layout is not empty.
            let memory = unsafe { std::alloc::alloc(layout) };
            let Some(memory) = NonNull::new(memory) else { std::alloc::handle_alloc_error(layout) };
            self.chunks.push(memory.cast());
        }
        // SAFETY: the chunk has room for all slots from `used` on. `head` is what the first one is.
        unsafe {
            let first = self.chunks[self.chunk].add(self.used);
            first.copy_from_nonoverlapping(NonNull::from(slots).cast(), slots.len());
            (*first.as_ptr()).head.own = first.as_ptr() as usize;
            let id = (self.chunk * CHUNK + self.used + 1) as u32;
            self.used += slots.len();
            (OpRef(first.add(1)), BlockId(id))
        }
    }

    /// The block of that name.
    pub(crate) fn get(&self, id: BlockId) -> OpRef {
        let (chunk, slot) = (id.0 as usize / CHUNK, id.0 as usize % CHUNK);
        // SAFETY: a name was given by `add`, so its slot exists.
        OpRef(unsafe { self.chunks[chunk].add(slot) })
    }

    /// Bytes of host memory held.
    pub(crate) fn bytes(&self) -> usize {
        self.chunks.len() * CHUNK * size_of::<Slot>()
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        for chunk in &self.chunks {
            // SAFETY: allocated in `add` with this layout, freed once.
            unsafe { std::alloc::dealloc(chunk.as_ptr().cast(), Self::chunk_layout()) }
        }
    }
}
