//! madvise (Linux 6.18 mm/madvise.c).
//!
//! Advice that changes an area's flags is in this file; what acts on pages is in
//! [`super::advise_pages`].

use crate::areas::AreaWatch;
use crate::lease::Adds;
use crate::mm::State;
use crate::rmap::Links;
use crate::{Caller, Host, Mm, VmaRef};
use kilburn_addr::{Access, AddrRange, Errno, VirtAddr, VmFlags};

/// `MADV_*` (include/uapi/asm-generic/mman-common.h).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(i32)]
pub(super) enum Advice {
    Normal = 0,
    Random = 1,
    Sequential = 2,
    WillNeed = 3,
    DontNeed = 4,
    Free = 8,
    Remove = 9,
    DontFork = 10,
    DoFork = 11,
    Mergeable = 12,
    Unmergeable = 13,
    HugePage = 14,
    NoHugePage = 15,
    DontDump = 16,
    DoDump = 17,
    WipeOnFork = 18,
    KeepOnFork = 19,
    Cold = 20,
    PageOut = 21,
    PopulateRead = 22,
    PopulateWrite = 23,
    DontNeedLocked = 24,
    Collapse = 25,
    GuardInstall = 102,
    GuardRemove = 103,
}

impl Advice {
    pub(super) fn from_raw(raw: i32) -> Option<Self> {
        use Advice::*;
        [
            Normal,
            Random,
            Sequential,
            WillNeed,
            DontNeed,
            Free,
            Remove,
            DontFork,
            DoFork,
            Mergeable,
            Unmergeable,
            HugePage,
            NoHugePage,
            DontDump,
            DoDump,
            WipeOnFork,
            KeepOnFork,
            Cold,
            PageOut,
            PopulateRead,
            PopulateWrite,
            DontNeedLocked,
            Collapse,
            GuardInstall,
            GuardRemove,
        ]
        .into_iter()
        .find(|advice| *advice as i32 == raw)
    }

    /// Whether it acts on pages alone, so that threads may give it at the same time
    /// (Linux `get_lock_mode`).
    fn leaves_areas(self) -> bool {
        use Advice::*;
        matches!(
            self,
            WillNeed | DontNeed | DontNeedLocked | Free | Remove | Cold | PageOut | GuardRemove
        )
    }

    /// Whether it makes content go away, which sealed read-only anonymous memory does not permit
    /// (`is_discard`).
    fn discards(self) -> bool {
        use Advice::*;
        matches!(
            self,
            Free | DontNeed | DontNeedLocked | Remove | DontFork | WipeOnFork | GuardInstall
        )
    }
}

/// The first area of `rest`, and which part of it the advice is about.
fn first_part<H: Host>(
    state: &State<H>,
    rest: AddrRange,
    advice: Advice,
) -> Result<(VmaRef<'_, H>, AddrRange), Errno> {
    let found = state.areas.find(rest.start()).filter(|vma| vma.start() < rest.end());
    let vma = found.ok_or(Errno::ENOMEM)?;
    if vma.flags.contains(VmFlags::SEALED)
        && advice.discards()
        && vma.is_anonymous()
        && !vma.flags.contains(VmFlags::WRITE)
    {
        return Err(Errno::EPERM);
    }
    Ok((vma, vma.range.intersection(rest).ok_or(Errno::EINVAL)?))
}

/// What becomes of an area's flags.
enum Flags {
    /// These.
    Become(VmFlags),
    /// They stay; the advice acts on pages.
    Stay,
}

impl<H: Host> Mm<H> {
    /// Advises on the use of `len` bytes at `addr`.
    ///
    /// # Errors
    /// As madvise(2). With gaps in the range the rest is advised, and `ENOMEM` answered.
    pub fn madvise(
        &self,
        caller: &Caller,
        addr: VirtAddr,
        len: u64,
        advice: i32,
    ) -> Result<(), Errno> {
        let _ = caller;
        let advice = Advice::from_raw(advice).ok_or(Errno::EINVAL)?;
        if !addr.is_page_aligned() {
            return Err(Errno::EINVAL);
        }
        let len = VirtAddr::new(len).page_up().ok_or(Errno::EINVAL)?.get();
        let range = AddrRange::with_len(addr, len).ok_or(Errno::EINVAL)?;
        if range.is_empty() {
            return Ok(());
        }
        match advice {
            Advice::PopulateRead => self.populate_for(range, Access::Read),
            Advice::PopulateWrite => self.populate_for(range, Access::Write),
            _ => self.advise_areas(range, advice),
        }
    }

    /// `madvise_walk_vmas`
    fn advise_areas(&self, range: AddrRange, advice: Advice) -> Result<(), Errno> {
        let mut gaps = Ok(());
        let mut at = range.start();
        while at < range.end() {
            let rest = AddrRange::new(at, range.end()).ok_or(Errno::EINVAL)?;
            // Each area in turn: advice on pages may let the lock go.
            let part = if advice.leaves_areas() {
                let state = self.mmap_read_lock_range(rest);
                let (vma, part) = first_part(&state, rest, advice)?;
                self.advise_pages(&state, vma, part, advice)?;
                part
            } else {
                let mut state = self.mmap_write_lock_range(rest, Adds::Areas);
                self.advise_area(&mut state, rest, advice)?
            };
            if at < part.start() {
                gaps = Err(Errno::ENOMEM);
            }
            at = part.end();
        }
        gaps
    }

    /// Advises on the first area of `rest`; which part of it that was.
    fn advise_area(
        &self,
        state: &mut State<H>,
        rest: AddrRange,
        advice: Advice,
    ) -> Result<AddrRange, Errno> {
        let (vma, part) = first_part(state, rest, advice)?;
        match new_flags(vma, advice)? {
            Flags::Stay => {
                let start = vma.start();
                self.advise_pages(state, vma, part, advice)?;
                if advice == Advice::GuardInstall
                    && let Some(mut vma) = state.areas.get_mut(start)
                {
                    // The area keeps it, wherever in it the guards are, and when they go.
                    vma.set_flags(vma.as_ref().flags | VmFlags::MAYBE_GUARD);
                    Links(self).reflagged(vma.as_ref());
                }
            }
            Flags::Become(new) if new == vma.flags => {}
            Flags::Become(new) => self.set_flags(state, part, new)?,
        }
        Ok(part)
    }

    fn set_flags(&self, state: &mut State<H>, part: AddrRange, new: VmFlags) -> Result<(), Errno> {
        self.modify_flags(state, part, new).map_err(|errno| match errno {
            // Too many areas: told as if it were for a moment.
            Errno::ENOMEM => Errno::EAGAIN,
            other => other,
        })
    }
}

/// `madvise_vma_behavior`, as far as it concerns flags.
fn new_flags<H: Host>(vma: VmaRef<'_, H>, advice: Advice) -> Result<Flags, Errno> {
    let old = vma.flags;
    let reading = VmFlags::SEQ_READ | VmFlags::RAND_READ;
    let new = match advice {
        Advice::Normal => old - reading,
        Advice::Sequential => (old - reading) | VmFlags::SEQ_READ,
        Advice::Random => (old - reading) | VmFlags::RAND_READ,
        Advice::DontFork => old | VmFlags::DONTCOPY,
        Advice::DoFork if old.contains(VmFlags::IO) => return Err(Errno::EINVAL),
        Advice::DoFork => old - VmFlags::DONTCOPY,
        Advice::WipeOnFork if vma.file.is_some() || old.contains(VmFlags::SHARED) => {
            return Err(Errno::EINVAL);
        }
        Advice::WipeOnFork => old | VmFlags::WIPEONFORK,
        Advice::KeepOnFork if old.contains(VmFlags::DROPPABLE) => return Err(Errno::EINVAL),
        Advice::KeepOnFork => old - VmFlags::WIPEONFORK,
        Advice::DontDump => old | VmFlags::DONTDUMP,
        Advice::DoDump if old.intersects(VmFlags::SPECIAL | VmFlags::DROPPABLE) => {
            return Err(Errno::EINVAL);
        }
        Advice::DoDump => old - VmFlags::DONTDUMP,
        Advice::Mergeable if may_merge_pages(old) => old | VmFlags::MERGEABLE,
        Advice::Mergeable => old,
        Advice::Unmergeable => old - VmFlags::MERGEABLE,
        Advice::HugePage => (old - VmFlags::NOHUGEPAGE) | VmFlags::HUGEPAGE,
        Advice::NoHugePage => (old - VmFlags::HUGEPAGE) | VmFlags::NOHUGEPAGE,
        // DIVERGENCE(no-collapse): Linux would try to make huge pages whatever the setting.
        Advice::Collapse => return Err(Errno::EINVAL),
        Advice::WillNeed
        | Advice::DontNeed
        | Advice::DontNeedLocked
        | Advice::Free
        | Advice::Remove
        | Advice::Cold
        | Advice::PageOut
        | Advice::PopulateRead
        | Advice::PopulateWrite
        | Advice::GuardInstall
        | Advice::GuardRemove => return Ok(Flags::Stay),
    };
    Ok(Flags::Become(new))
}

/// Whether equal pages of such an area may become one (Linux `vma_ksm_compatible`).
fn may_merge_pages(flags: VmFlags) -> bool {
    !flags.intersects(
        VmFlags::SHARED
            | VmFlags::MAYSHARE
            | VmFlags::SPECIAL
            | VmFlags::HUGETLB
            | VmFlags::DROPPABLE,
    )
}
