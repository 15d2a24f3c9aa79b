//! Which page goes: replacement policies.
//!
//! A [`ReplacementPolicy`] orders the pages in RAM and names the next one to evict. One code serves three callers: reclaim
//! in this crate, a pager of native processes, and simulation of traces ([`simulate`]). They differ in what they know:
//!
//! ```text
//!                      reclaim                                simulation
//! a page is            a frame                                a slot of the simulated cache
//! uses are seen        read and write calls: exactly          exactly, each one
//!                      loads and stores: as accessed bits,
//!                      harvested when the policy asks
//! eviction             may fail: the page is put back         never fails
//! pages leave          also by munmap, truncate, exit         only by eviction
//! ```
//!
//! So the trait has both [`mark_accessed`](ReplacementPolicy::mark_accessed) (exact) and [`AccessedBits`] (asked for
//! inside [`isolate`](ReplacementPolicy::isolate)), and eviction is in two steps. The life of a page:
//!
//! ```text
//!   refault (if it was here before) -> insert -> mark_accessed* -> isolate -> evicted -> Shadow -> refault ...
//!                                        |  ^                        |
//!                               remove <-+  +-------- putback <------+
//! ```
//!
//! Pages are dense numbers ([`PageId`]), so a policy keeps its state in flat arrays. What a policy remembers of a page that
//! is gone it cannot key by a frame; it gives the caller a [`Shadow`] to keep with the page's identity.
//!
//! - Policies: [`Fifo`], [`Lru`], [`Clock`], [`Sieve`], [`S3Fifo`], [`Arc`], [`TwoList`], [`Mglru`], [`Random`]; by name:
//!   [`Builtin`]. [`opt`] is Belady's optimum, which needs the future and so is no [`ReplacementPolicy`].
//! - [`ByKind`] gives any of them separate lists for anonymous and file pages, chosen between by cost ([`balance`]).
//! - [`list`] and [`ghost`] are the arrays they are built from.
//!
//! Why it is cut this way: `docs/decisions/0002-replacement-policy.md`. What each policy does and measures:
//! `docs/policies.md`. A policy of one's own: `examples/own_policy.rs`.

pub mod arc;
pub mod balance;
pub mod builtin;
pub mod by_kind;
pub mod clock;
pub mod fifo;
pub mod ghost;
pub mod list;
pub mod lru;
pub mod mglru;
pub mod opt;
pub mod random;
pub mod s3_fifo;
pub mod sieve;
pub mod simulate;
#[cfg(test)]
mod tests;
pub mod two_list;

pub use arc::Arc;
pub use builtin::{Builtin, PolicyConfig, PolicyVisitor, UnknownPolicy};
pub use by_kind::ByKind;
pub use clock::Clock;
pub use fifo::Fifo;
pub use lru::Lru;
pub use mglru::Mglru;
pub use random::Random;
pub use s3_fifo::S3Fifo;
pub use sieve::Sieve;
pub use two_list::TwoList;

use core::fmt;
use core::num::NonZeroU64;

/// A page in RAM, as a dense number from 0: in reclaim the frame's distance from the first managed frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PageId(pub u32);

impl PageId {
    /// The number as an index into a policy's arrays.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for PageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "page {}", self.0)
    }
}

/// What stands behind a page: swap or a file (Linux: `folio_is_file_lru`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PageKind {
    /// Anonymous memory and tmpfs: evicting it takes swap.
    Anon,
    /// Page cache of a file: evicting it takes writeback if dirty, else nothing.
    File,
}

/// How the use that brings a page in becomes known to the policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FirstUse {
    /// By a read or write call: the arrival itself is the first use.
    Call,
    /// By a load or store: the accessed bit of a table entry will tell.
    Mapped,
    /// Not yet: the page was read ahead.
    Ahead,
}

/// A page on its way in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// What stands behind the page.
    pub kind: PageKind,
    /// How its first use becomes known.
    pub first_use: FirstUse,
    /// What [`ReplacementPolicy::refault`] found out, for [`ReplacementPolicy::insert`]; its meaning is the policy's own.
    pub note: u32,
}

impl Arrival {
    /// A page that the policy knows nothing of.
    #[must_use]
    pub const fn new(kind: PageKind, first_use: FirstUse) -> Self {
        Self { kind, first_use, note: 0 }
    }
}

/// What a policy wants to hear again when an evicted page comes back; Linux's shadow entry.
///
/// 62 bits of the policy's own. The raw form is below 2^63 and never 0, so it fits a page-cache slot beside a tag bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Shadow(NonZeroU64);

impl Shadow {
    const MARK: u64 = 1 << 62;

    /// A shadow of these bits.
    ///
    /// # Panics
    ///
    /// If `bits` has more than 62.
    #[must_use]
    pub const fn new(bits: u64) -> Self {
        assert!(bits < Self::MARK, "a shadow has 62 bits");
        match NonZeroU64::new(bits | Self::MARK) {
            Some(raw) => Self(raw),
            None => unreachable!(),
        }
    }

    /// The policy's bits.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0.get() & !Self::MARK
    }

    /// The form to store.
    #[must_use]
    pub const fn to_raw(self) -> u64 {
        self.0.get()
    }

    /// The shadow of a stored form; `None` if `raw` is no shadow.
    #[must_use]
    pub const fn from_raw(raw: u64) -> Option<Self> {
        if raw >> 62 == 1 { Some(Self::new(raw & !Self::MARK)) } else { None }
    }
}

/// What the tables know of a page since they were last asked (Linux: `folio_referenced`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct References {
    /// Entries that map the page and had their accessed bit set.
    pub entries: u32,
    /// One of those lies in an executable mapping of a file.
    pub executable: bool,
}

impl References {
    /// Nobody used the page.
    pub const NONE: Self = Self { entries: 0, executable: false };

    /// Whether anybody used the page.
    #[must_use]
    pub const fn any(self) -> bool {
        self.entries != 0
    }
}

/// Where a policy asks for accessed bits: the caller's page tables, through its reverse mappings.
pub trait AccessedBits {
    /// Reads and clears the accessed bits of all entries that map `page`.
    fn test_and_clear(&mut self, page: PageId) -> References;

    /// Walks all tables, clears the accessed bits it finds, and names each page that had one.
    ///
    /// Cheaper than asking page by page where many are in use; a caller that cannot walk names none, and policies then
    /// live on [`Self::test_and_clear`] (Linux does so where `should_walk_mmu` is false).
    fn walk(&mut self, used: &mut dyn FnMut(PageId)) {
        let _ = used;
    }
}

/// A caller without accessed bits: every use is reported by [`ReplacementPolicy::mark_accessed`].
#[derive(Clone, Copy, Debug, Default)]
pub struct NoAccessedBits;

impl AccessedBits for NoAccessedBits {
    fn test_and_clear(&mut self, _: PageId) -> References {
        References::NONE
    }
}

/// What reclaim can use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Anonymous pages may go: there is swap with room.
    pub anon: bool,
    /// File pages may go.
    pub file: bool,
    /// 0..=200, how dear file pages are against anonymous ones; 100 is alike, Linux's default is 60.
    pub swappiness: u8,
}

impl Wanted {
    /// Any page, both kinds equally dear.
    pub const ANY: Self = Self { anon: true, file: true, swappiness: 100 };

    /// Whether pages of `kind` may go.
    #[must_use]
    pub const fn allows(self, kind: PageKind) -> bool {
        match kind {
            PageKind::Anon => self.anon,
            PageKind::File => self.file,
        }
    }
}

/// Why an isolated page stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutBack {
    /// It could not go now (locked, writeback failed, writeback started): do not offer it again soon.
    Later,
    /// It turned out to be in use: as if it were accessed.
    Used,
    /// Its writeback is done, nothing else holds it: offer it next (Linux: `folio_rotate_reclaimable`).
    Next,
}

/// Chooses which page goes.
///
/// A page is *known* from [`insert`](Self::insert) until [`evicted`](Self::evicted) or [`remove`](Self::remove); a known
/// page is *isolated* between [`isolate`](Self::isolate) and what ends it (`evicted`, [`putback`](Self::putback), `remove`).
/// Calls that do not fit this order are the caller's bug and may panic; except that `mark_accessed` of an unknown page is
/// ignored. Policies are deterministic: the same calls give the same victims.
pub trait ReplacementPolicy: Send {
    /// The name it goes by, as in [`Builtin::name`].
    fn name(&self) -> &'static str;

    /// How many pages [`isolate`](Self::isolate) can choose from: known and not isolated.
    fn len(&self) -> u32;

    /// Whether there is nothing to isolate.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A page that was evicted is coming back; called before room is made for it, so that the choice can depend on it.
    /// What [`insert`](Self::insert) needs to hear of this goes into [`Arrival::note`]. A shadow is used once.
    fn refault(&mut self, arrival: &mut Arrival, shadow: Shadow) {
        let _ = (arrival, shadow);
    }

    /// `page`, unknown so far, is in RAM now.
    fn insert(&mut self, page: PageId, arrival: Arrival);

    /// `page` was used, seen by the caller itself: a read or write call, or in a simulation any use.
    fn mark_accessed(&mut self, page: PageId);

    /// Takes the page that should go next off the lists, harvesting accessed bits where it considers them. The choice is
    /// the policy's; `None` only if no page of a wanted kind is there. A policy that does not tell kinds apart ignores
    /// `wanted`, see [`ByKind`].
    fn isolate(&mut self, wanted: Wanted, bits: &mut dyn AccessedBits) -> Option<PageId>;

    /// `page`, isolated, is gone from RAM. The shadow, if any, is to be given to [`refault`](Self::refault) when it returns.
    fn evicted(&mut self, page: PageId) -> Option<Shadow> {
        let _ = page;
        None
    }

    /// `page`, isolated, stays.
    fn putback(&mut self, page: PageId, why: PutBack);

    /// `page` was freed by its owner (munmap, truncation, exit) or is no longer evictable (mlock), isolated or not.
    fn remove(&mut self, page: PageId);

    /// The page that `shadow` stands for will never return: its file was truncated, its swap slot freed.
    fn forget(&mut self, shadow: Shadow) {
        let _ = shadow;
    }

    /// Whether `page`, known, counts as in use rather than as one of the next to go: on an active list, or on what comes
    /// closest to one (meminfo `Active`). A policy that does not tell them apart has none that is.
    fn is_active(&self, page: PageId) -> bool {
        let _ = page;
        false
    }

    /// How many pages RAM holds for this policy from now on; policies that size their lists by it adapt.
    fn set_capacity(&mut self, pages: u32) {
        let _ = pages;
    }

    /// Checks the policy's own invariants, for tests: walks everything.
    ///
    /// # Errors
    ///
    /// The name of what does not hold.
    fn check(&self) -> Result<(), &'static str> {
        Ok(())
    }
}
