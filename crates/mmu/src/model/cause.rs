//! Why a translation had to be walked for, and why cached ones went.
//!
//! `History` remembers, for each page ever walked for, whether its translation was shot down, and
//! for what; a miss after that is put down to it. It grows with the pages touched, a few bytes each.

use hashbrown::HashMap;

/// Why a walk was needed, or cached translations were dropped.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Cause {
    /// The page had never been walked for in its address space (misses only).
    FirstTouch,
    /// The entry had to make room for others (misses only).
    Capacity,
    /// The entry did not permit the access, the tables did: rights had been added (misses only).
    Rights,
    /// The entry was clean and the access a store: D had to be set (misses only).
    FirstWrite,
    /// A write fault gave the page another frame.
    Cow,
    /// fork write-protected the parent.
    Fork,
    /// Pages were unmapped.
    Unmap,
    /// mprotect took rights away.
    Protect,
    /// mremap moved pages.
    Move,
    /// The file was truncated.
    Truncate,
    /// A or D bits were read and cleared, or the page was cleaned.
    Clean,
    /// Memory was reclaimed.
    Reclaim,
    /// The address space ended, at exit or exec.
    Exit,
    /// Another address space was switched to on hardware without address-space identifiers.
    ContextSwitch,
    /// Anything else.
    Other,
}

impl Cause {
    /// How many there are.
    pub const COUNT: usize = 15;

    /// All of them, in order of their numbers.
    pub const ALL: [Self; Self::COUNT] = [
        Self::FirstTouch,
        Self::Capacity,
        Self::Rights,
        Self::FirstWrite,
        Self::Cow,
        Self::Fork,
        Self::Unmap,
        Self::Protect,
        Self::Move,
        Self::Truncate,
        Self::Clean,
        Self::Reclaim,
        Self::Exit,
        Self::ContextSwitch,
        Self::Other,
    ];

    /// A stable name for figures.
    pub const fn name(self) -> &'static str {
        match self {
            Self::FirstTouch => "first_touch",
            Self::Capacity => "capacity",
            Self::Rights => "rights",
            Self::FirstWrite => "first_write",
            Self::Cow => "cow",
            Self::Fork => "fork",
            Self::Unmap => "unmap",
            Self::Protect => "protect",
            Self::Move => "move",
            Self::Truncate => "truncate",
            Self::Clean => "clean",
            Self::Reclaim => "reclaim",
            Self::Exit => "exit",
            Self::ContextSwitch => "context_switch",
            Self::Other => "other",
        }
    }
}

/// Multiplies and folds: page numbers differ in few bits, and nobody attacks this table.
#[derive(Clone, Copy, Default, Debug)]
struct PageHasher(u64);

impl core::hash::Hasher for PageHasher {
    fn write(&mut self, _: &[u8]) {
        unreachable!("keys are u64")
    }

    fn write_u64(&mut self, key: u64) {
        let product = u128::from(key) * 0x9e37_79b9_7f4a_7c15;
        self.0 = product as u64 ^ (product >> 64) as u64;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// What became of each page's translation.
#[derive(Clone, Default, Debug)]
pub(super) struct History {
    pages: HashMap<u64, Cause, core::hash::BuildHasherDefault<PageHasher>>,
}

impl History {
    /// The page `key` is walked for: why, if its translation is nowhere.
    pub(super) fn walked(&mut self, key: u64) -> Cause {
        self.pages.insert(key, Cause::Capacity).unwrap_or(Cause::FirstTouch)
    }

    /// The translation of `key` is dropped.
    pub(super) fn flushed(&mut self, key: u64, cause: Cause) {
        if let Some(known) = self.pages.get_mut(&key) {
            *known = cause;
        }
    }

    /// All pages of `asid` are new again.
    pub(super) fn forget(&mut self, asid: u16) {
        self.pages.retain(|key, _| (key >> 3) as u16 != asid);
    }
}
