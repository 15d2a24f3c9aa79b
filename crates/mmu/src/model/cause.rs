//! Why a translation had to be walked for, and why cached ones went.
//!
//! `History` remembers, for each page ever walked for, whether its translation was shot down, and
//! for what; a miss after that is put down to it. It takes a byte a page of each group of 512 with a page that was touched.

use alloc::boxed::Box;
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

/// Pages of a group: neighbours are walked for one after the other.
const GROUP: usize = 512;
/// Where the page number begins in a key.
const PAGE_SHIFT: u32 = 19;

/// What became of each page's translation: 0 for a page never walked for, else the number of a cause and 1.
#[derive(Clone, Default, Debug)]
pub(super) struct History {
    groups: HashMap<u64, Box<[u8; GROUP]>, core::hash::BuildHasherDefault<PageHasher>>,
}

/// The group of a page, of its space and size, and the page's place in it.
fn place(key: u64) -> (u64, usize) {
    let page = key >> PAGE_SHIFT;
    let kind = key & ((1 << PAGE_SHIFT) - 1);
    ((page / GROUP as u64) << PAGE_SHIFT | kind, page as usize % GROUP)
}

impl History {
    /// The page `key` is walked for: why, if its translation is nowhere.
    pub(super) fn walked(&mut self, key: u64) -> Cause {
        let (group, page) = place(key);
        let known = &mut self.groups.entry(group).or_insert_with(|| Box::new([0; GROUP]))[page];
        let before = core::mem::replace(known, Cause::Capacity as u8 + 1);
        before.checked_sub(1).map_or(Cause::FirstTouch, |cause| Cause::ALL[usize::from(cause)])
    }

    /// The translation of `key` is dropped.
    pub(super) fn flushed(&mut self, key: u64, cause: Cause) {
        let (group, page) = place(key);
        if let Some(group) = self.groups.get_mut(&group)
            && group[page] != 0
        {
            group[page] = cause as u8 + 1;
        }
    }

    /// All pages of `asid` are new again.
    pub(super) fn forget(&mut self, asid: u16) {
        self.groups.retain(|key, _| (key >> 3) as u16 != asid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_have_the_numbers_of_their_places() {
        assert!(Cause::ALL.iter().enumerate().all(|(number, cause)| *cause as usize == number));
    }

    #[test]
    fn pages_are_told_apart_by_space_and_size_and_forgotten_by_space() {
        let key = |page: u64, asid: u64, size: u64| page << PAGE_SHIFT | asid << 3 | size;
        let mut history = History::default();
        for key in [key(7, 1, 0), key(7, 2, 0), key(7, 1, 3), key(7 + 512, 1, 0)] {
            assert_eq!(history.walked(key), Cause::FirstTouch);
            assert_eq!(history.walked(key), Cause::Capacity);
        }
        history.flushed(key(7, 1, 0), Cause::Unmap);
        history.flushed(key(8, 1, 0), Cause::Unmap);
        assert_eq!(history.walked(key(7, 1, 0)), Cause::Unmap);
        assert_eq!(history.walked(key(8, 1, 0)), Cause::FirstTouch, "it was never there");
        history.forget(1);
        assert_eq!(history.walked(key(7, 1, 3)), Cause::FirstTouch);
        assert_eq!(history.walked(key(7, 2, 0)), Cause::Capacity);
    }
}
