//! A host without memory, and areas written as letters, for tests of areas alone.

use crate::anon_vma::{AnonSlot, AnonVma};
use crate::areas::{Areas, Vma, VmaExtra, VmaName, VmaRef};
use crate::mappable::{FileIdentity, MappedFile};
use crate::{AddressSpace, Host, TlbFlush};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec;
use kilburn_addr::{AddrRange, PAGE_SIZE, Pfn, PhysAddr, VirtAddr, VmFlags};
use kilburn_paging::{PhysMem, Sv};

/// No frames, no tables: whoever touches memory through it is wrong.
pub(super) struct Bare;

impl PhysMem for Bare {
    fn load(&self, _: PhysAddr) -> u64 {
        unreachable!("areas touch no memory")
    }
    fn store(&self, _: PhysAddr, _: u64) {
        unreachable!("areas touch no memory")
    }
    fn compare_exchange(&self, _: PhysAddr, _: u64, _: u64) -> Result<(), u64> {
        unreachable!("areas touch no memory")
    }
    fn read(&self, _: PhysAddr, _: &mut [u8]) {
        unreachable!("areas touch no memory")
    }
    fn write(&self, _: PhysAddr, _: &[u8]) {
        unreachable!("areas touch no memory")
    }
    fn zero(&self, _: Pfn) {
        unreachable!("areas touch no memory")
    }
    fn copy(&self, _: Pfn, _: Pfn) {
        unreachable!("areas touch no memory")
    }
}

impl Host for Bare {
    type Mem = Self;
    type Format = Sv;
    type RawMutex = parking_lot::RawMutex;
    type RawRwLock = parking_lot::RawRwLock;

    fn mem(&self) -> &Self {
        self
    }
    fn format(&self) -> Sv {
        Sv::SV48
    }
    fn flush_tlb(&self, _: &TlbFlush) {}
    fn random_u64(&self) -> u64 {
        0
    }
}

/// A file of which only the identity matters.
struct Letter(char);

impl MappedFile<Bare> for Letter {
    fn mapping(&self) -> Option<&Arc<AddressSpace<Bare>>> {
        None
    }
    fn identity(&self) -> FileIdentity {
        FileIdentity::default()
    }
    fn path(&self) -> String {
        self.0.into()
    }
}

/// Where pictures start.
pub(super) const BASE: u64 = 0x10_0000;

pub(super) fn addr(page: u64) -> VirtAddr {
    VirtAddr::new(BASE + page * PAGE_SIZE)
}

/// `len` pages from page `first` of the picture on.
pub(super) fn pages(first: u64, len: u64) -> AddrRange {
    AddrRange::with_len(addr(first), len * PAGE_SIZE).expect("small")
}

/// The kinds of area that pictures know.
///
/// | letter | is |
/// |---|---|
/// | A, B | private anonymous, readable (A also writable) |
/// | L | A, locked |
/// | S | A, sealed |
/// | F, G | a file each, offset as if mapped from the picture's start |
/// | V | a mapping of the kernel's |
/// | X | device memory (`VM_IO`) |
/// | a, b | A with the pages of two owners |
/// | c, d | A with the pages of two owners in a forked child |
/// | D | grows down |
pub(super) struct Kinds {
    files: vec::Vec<(char, Arc<dyn MappedFile<Bare>>)>,
    owners: vec::Vec<(char, Arc<AnonVma<Bare>>)>,
}

impl Kinds {
    pub(super) fn new() -> Self {
        let owner = |id, parent| AnonVma::new(id, parent);
        let parent = owner(1, None);
        let file = |name| (name, Arc::new(Letter(name)) as Arc<dyn MappedFile<Bare>>);
        Self {
            files: vec![file('F'), file('G')],
            owners: vec![
                ('a', parent.clone()),
                ('b', owner(2, None)),
                ('c', owner(3, Some(parent.clone()))),
                ('d', owner(4, Some(parent))),
            ],
        }
    }

    pub(super) fn area(&self, kind: char, first: u64, len: u64) -> Vma<Bare> {
        let readable = VmFlags::READ | VmFlags::MAYREAD | VmFlags::MAYWRITE | VmFlags::MAYEXEC;
        let writable = readable | VmFlags::WRITE | VmFlags::ACCOUNT;
        let file = self.files.iter().find(|(name, _)| *name == kind).map(|(_, file)| file.clone());
        let owner = self.owners.iter().find(|(name, _)| *name == kind);
        let pgoff = if file.is_some() { first + 7 } else { addr(first).vpn() };
        Vma {
            range: pages(first, len),
            flags: match kind {
                'L' => writable | VmFlags::LOCKED,
                'S' => writable | VmFlags::SEALED,
                'X' => readable | VmFlags::IO | VmFlags::DONTEXPAND,
                'D' => writable | VmFlags::GROWSDOWN,
                'V' => readable | VmFlags::DONTEXPAND,
                'B' | 'F' | 'G' => readable,
                _ => writable,
            },
            pgoff,
            file,
            anon_vma: AnonSlot::holding(owner.map(|(_, owner)| owner.clone())),
            extra: match kind {
                'V' => VmaExtra::named(VmaName::Special("[vdso]")),
                _ => VmaExtra::NONE,
            },
        }
    }

    /// The letter of an area.
    pub(super) fn letter(&self, vma: VmaRef<'_, Bare>) -> char {
        if let Some(owner) = vma.anon_vma.get() {
            return self
                .owners
                .iter()
                .find(|(_, known)| Arc::ptr_eq(known, owner))
                .expect("known")
                .0;
        }
        let alike = |kind: &char| {
            let known = self.area(*kind, 0, 1);
            let known = known.as_ref();
            let path = |vma: VmaRef<'_, Bare>| vma.file.map(|file| file.path());
            known.anon_vma.get().is_none()
                && known.flags == vma.flags
                && known.name() == vma.name()
                && path(known) == path(vma)
        };
        "ABLSFGVXD".chars().find(alike).expect("a kind that pictures know")
    }

    /// Areas as drawn: a letter a page, `.` for a hole, `|` between two areas of one letter that
    /// are apart.
    pub(super) fn areas(&self, picture: &str) -> Areas<Bare> {
        let mut areas = Areas::with_guard_gap(2 * PAGE_SIZE);
        let mut page = 0;
        for part in picture.split_inclusive('|') {
            let part = part.trim_end_matches('|');
            for (kind, len) in runs(part) {
                if kind != '.' {
                    areas.insert(self.area(kind, page, len));
                }
                page += len;
            }
        }
        areas
    }

    /// The picture of areas.
    pub(super) fn picture(&self, areas: &Areas<Bare>) -> String {
        let mut out = String::new();
        let mut page = 0;
        for vma in areas.iter() {
            let first = (vma.start().get() - BASE) / PAGE_SIZE;
            let letter = self.letter(vma);
            if page == first && out.ends_with(letter) {
                out.push('|');
            }
            out.extend((page..first).map(|_| '.'));
            out.extend((0..vma.range.pages()).map(|_| letter));
            page = first + vma.range.pages();
        }
        out
    }
}

fn runs(part: &str) -> impl Iterator<Item = (char, u64)> {
    let mut chars = part.chars().peekable();
    core::iter::from_fn(move || {
        let kind = chars.next()?;
        let mut len = 1;
        while chars.next_if_eq(&kind).is_some() {
            len += 1;
        }
        Some((kind, len))
    })
}
