//! Which pages there are: mmap, munmap, mprotect, mremap, brk, remap_file_pages.

use super::{Done, Expect, File, Lock, Naive, Page, Source, Stop, is_aligned, page_down, page_up};
use crate::call::{Call, NO_FILE};
use crate::outcome::Outcome;
use kilburn_addr::{Errno, PAGE_SHIFT, PAGE_SIZE};

pub(super) use crate::safe::TASK_SIZE;

const MAP_SHARED: u64 = 1;
const MAP_PRIVATE: u64 = 2;
const MAP_SHARED_VALIDATE: u64 = 3;
const MAP_DROPPABLE: u64 = 8;
const MAP_FIXED: u64 = 0x10;
const MAP_ANONYMOUS: u64 = 0x20;
const MAP_GROWSDOWN: u64 = 0x100;
const MAP_LOCKED: u64 = 0x2000;
const MAP_POPULATE: u64 = 0x8000;
const MAP_NONBLOCK: u64 = 0x1_0000;
const MAP_FIXED_NOREPLACE: u64 = 0x10_0000;
/// What MAP_SHARED_VALIDATE accepts of shared memory: `LEGACY_MAP_MASK`.
const LEGACY_FLAGS: u64 = 0x1
    | 0x2
    | 0x10
    | 0x20
    | 0x40
    | 0x100
    | 0x800
    | 0x1000
    | 0x2000
    | 0x4000
    | 0x8000
    | 0x1_0000
    | 0x2_0000
    | 0x4_0000
    | 0x400_0000
    | 0x80;
const PROT_GROWSDOWN: u64 = 0x0100_0000;
const PROT_GROWSUP: u64 = 0x0200_0000;
const MREMAP_FIXED: u64 = 2;
const MREMAP_DONTUNMAP: u64 = 4;

/// Below a growing area nothing else is put (`stack_guard_gap`).
pub(super) const GUARD_GAP: u64 = 256 * PAGE_SIZE;
/// Mappings this large may be put where a huge page could be.
const HUGE: u64 = 2 << 20;

impl Naive {
    pub(super) fn mmap(&mut self, at: usize, call: &Call) -> Result<u64, Stop> {
        let [addr, len, prot, mut flags, number, offset] = call.args;
        if !is_aligned(offset) {
            return Err(Errno::EINVAL.into());
        }
        let anonymous = flags & MAP_ANONYMOUS != 0;
        if !anonymous && (number == NO_FILE || number >= self.case_files as u64) {
            return Err(Errno::EBADF.into());
        }
        if len == 0 {
            return Err(Errno::EINVAL.into());
        }
        if flags & MAP_FIXED_NOREPLACE != 0 {
            flags |= MAP_FIXED;
        }
        let len = page_up(len);
        if len == 0 {
            return Err(Errno::ENOMEM.into());
        }
        let grows_down = flags & MAP_GROWSDOWN != 0;
        let addr = self.place(at, addr, len, flags, anonymous)?;
        let occupied = self.pages_of(addr, addr + len).any(|addr| self.page(at, addr).is_some());
        if flags & MAP_FIXED_NOREPLACE != 0 && occupied {
            return Err(Errno::EEXIST.into());
        }
        let shared = Self::map_type(flags, anonymous, offset, len, grows_down)?;
        if self.pages_of(addr, addr + len).any(|addr| self.is_sealed(at, addr)) {
            return Err(Errno::EPERM.into());
        }
        let droppable = flags & 0xf == MAP_DROPPABLE;
        let first = Source::of(self, anonymous, shared, number, offset, len);
        let future = self.process(at).lock;
        let lock = match (droppable, flags & MAP_LOCKED != 0, future) {
            (true, ..) => Lock::Not,
            (_, true, Lock::Not) => Lock::Now,
            (_, _, future) => future,
        };
        let page = Page {
            read: prot & 1 != 0,
            write: prot & 2 != 0,
            exec: prot & 4 != 0,
            shared,
            lock,
            sealed: false,
            grows_down,
            droppable,
            wipe_on_fork: droppable,
            ..Page::outside()
        };
        for (nth, addr) in (addr..addr + len).step_by(PAGE_SIZE as usize).enumerate() {
            let page = Page { source: first.plus(nth as u64), ..page.clone() };
            self.process(at).pages.insert(addr, page);
        }
        let populate = flags & (MAP_POPULATE | MAP_NONBLOCK) == MAP_POPULATE;
        if lock == Lock::Now || populate && lock != Lock::OnFault {
            // What cannot be populated is left out, and nobody is told.
            let _ = self.populate(at, addr, addr + len);
        }
        Ok(addr)
    }

    /// Whether the mapping is shared.
    fn map_type(
        flags: u64,
        anonymous: bool,
        offset: u64,
        len: u64,
        grows_down: bool,
    ) -> Result<bool, Stop> {
        // The last page of a file ends below 2^63.
        if !anonymous
            && ((1 << 63) - 1_u64).checked_sub(len).is_none_or(|max| offset >> 12 > max >> 12)
        {
            return Err(Errno::EOVERFLOW.into());
        }
        let shared = match flags & 0xf {
            MAP_SHARED => true,
            MAP_SHARED_VALIDATE if !anonymous => {
                if flags & !(LEGACY_FLAGS | MAP_SHARED_VALIDATE) != 0 {
                    return Err(Errno::EOPNOTSUPP.into());
                }
                true
            }
            MAP_PRIVATE => false,
            MAP_DROPPABLE if anonymous && flags & MAP_LOCKED == 0 => false,
            _ => return Err(Errno::EINVAL.into()),
        };
        let may_grow = anonymous && flags & 0xf == MAP_PRIVATE;
        if grows_down && !may_grow {
            return Err(Errno::EINVAL.into());
        }
        Ok(shared)
    }

    /// Where a mapping goes.
    fn place(
        &self,
        at: usize,
        hint: u64,
        len: u64,
        flags: u64,
        anonymous: bool,
    ) -> Result<u64, Stop> {
        if len > TASK_SIZE {
            return Err(Errno::ENOMEM.into());
        }
        if flags & MAP_FIXED != 0 {
            // What looks like an error is taken for one.
            if hint > u64::MAX - 4095 {
                return Err(Errno::from_number(hint.wrapping_neg() as u16).into());
            }
            if hint > TASK_SIZE - len {
                return Err(Errno::ENOMEM.into());
            }
            return if is_aligned(hint) { Ok(hint) } else { Err(Errno::EINVAL.into()) };
        }
        let hint = match page_down(hint) {
            0 => 0,
            hint => hint.max(PAGE_SIZE),
        };
        if hint != 0 && hint <= TASK_SIZE - len && self.is_free(at, hint, hint + len) {
            let gap = self.gap_start(at, hint + len);
            if gap >= hint + len {
                return Ok(hint);
            }
        }
        if anonymous && len.is_multiple_of(HUGE) {
            return Err(Stop::Unsure("where huge pages are aligned"));
        }
        let mut high = self.window.end();
        loop {
            let Some(addr) = self.highest_free(at, len, high) else {
                return Err(Errno::ENOMEM.into());
            };
            let gap = self.gap_start(at, addr + len);
            if gap >= addr + len {
                return Ok(addr);
            }
            high = gap;
        }
    }

    fn highest_free(&self, at: usize, len: u64, high: u64) -> Option<u64> {
        let mut addr = page_down(high.checked_sub(len)?);
        while addr >= self.window.start {
            if self.is_free(at, addr, addr + len) {
                return Some(addr);
            }
            addr -= PAGE_SIZE;
        }
        None
    }

    fn is_free(&self, at: usize, start: u64, end: u64) -> bool {
        self.pages_of(start, end).all(|addr| self.page(at, addr).is_none())
    }

    /// Where the next area above `addr` begins, the gap below it counted in.
    fn gap_start(&self, at: usize, addr: u64) -> u64 {
        let process = self.processes[at].as_ref().expect("looked at before");
        match process.pages.range(addr..).next() {
            Some((start, page)) if page.grows_down => start.saturating_sub(GUARD_GAP),
            Some((start, _)) => *start,
            None => self.window.end().max(addr),
        }
    }

    pub(super) fn is_sealed(&self, at: usize, addr: u64) -> bool {
        self.page(at, addr).is_some_and(|page| page.sealed)
    }

    pub(super) fn munmap(&mut self, at: usize, addr: u64, len: u64) -> Done {
        if !is_aligned(addr) || addr > TASK_SIZE || len > TASK_SIZE - addr || len == 0 {
            return Err(Errno::EINVAL.into());
        }
        let end = addr + page_up(len);
        if self.pages_of(addr, end).any(|addr| self.is_sealed(at, addr)) {
            return Err(Errno::EPERM.into());
        }
        self.process(at).pages.retain(|page, _| *page < addr || *page >= end);
        Ok(())
    }

    pub(super) fn mprotect(&mut self, at: usize, addr: u64, len: u64, prot: u64) -> Done {
        let grows = prot & (PROT_GROWSDOWN | PROT_GROWSUP);
        let prot = prot & !grows;
        if grows == PROT_GROWSDOWN | PROT_GROWSUP || !is_aligned(addr) {
            return Err(Errno::EINVAL.into());
        }
        if len == 0 {
            return Ok(());
        }
        let end = addr.wrapping_add(page_up(len));
        if end <= addr {
            return Err(Errno::ENOMEM.into());
        }
        if prot & !0xf != 0 {
            return Err(Errno::EINVAL.into());
        }
        let first = self.pages_of(addr, end).find_map(|addr| Some((addr, self.page(at, addr)?)));
        let Some((start, page)) = first else { return Err(Errno::ENOMEM.into()) };
        match grows {
            PROT_GROWSDOWN if !page.grows_down => return Err(Errno::EINVAL.into()),
            PROT_GROWSDOWN => return Err(Stop::Unsure("where a growing area begins")),
            _ if start > addr => return Err(Errno::ENOMEM.into()),
            PROT_GROWSUP => return Err(Errno::EINVAL.into()),
            _ => {}
        }
        for addr in self.pages_of(addr, end) {
            if self.page(at, addr).is_none() {
                return Err(Errno::ENOMEM.into());
            }
            if self.is_sealed(at, addr) {
                return Err(Errno::EPERM.into());
            }
            let page = self.process(at).pages.get_mut(&addr).expect("in the window");
            (page.read, page.write, page.exec) = (prot & 1 != 0, prot & 2 != 0, prot & 4 != 0);
        }
        Ok(())
    }

    /// Where areas end decides what mremap does, so the outcome is taken over; what has moved is
    /// known then.
    pub(super) fn mremap(&mut self, at: usize, call: &Call, seen: Outcome) -> Expect {
        let [old, old_len, new_len, flags, new, _] = call.args;
        let to = match seen {
            Outcome::Returned(-4095..0) if flags & MREMAP_FIXED == 0 => return Expect::Followed,
            Outcome::Returned(to) if !(-4095..0).contains(&to) => to as u64,
            _ => return Expect::Perhaps("how far a failed mremap got"),
        };
        let (old_len, new_len) = (page_up(old_len), page_up(new_len));
        if flags & MREMAP_FIXED != 0 && to != new {
            return super::refused(Errno::EFAULT);
        }
        let moved: Vec<(u64, Option<Page>)> = self
            .pages_of(old, old + old_len.min(new_len).max(PAGE_SIZE))
            .map(|addr| (addr - old, self.page(at, addr)))
            .collect();
        if old_len == 0 {
            return self.mapped_again(at, to, new_len, &moved);
        }
        let last = moved.iter().rev().find_map(|(_, page)| page.clone());
        let Some(last) = last else { return super::refused(Errno::EFAULT) };
        let window = self.window;
        let process = self.process(at);
        let keep = flags & MREMAP_DONTUNMAP != 0;
        let locked =
            |addr: u64| process.pages.get(&addr).is_some_and(|page| page.lock != Lock::Not);
        if keep
            && (locked(old) && locked(old.wrapping_sub(PAGE_SIZE))
                || locked(old + old_len - PAGE_SIZE) && locked(old + old_len))
        {
            // All of an area is unlocked, also what is not moved.
            return Expect::Unsure("how much is unlocked where a part of an area is left");
        }
        if keep {
            for page in process.pages.range_mut(old..old + old_len).map(|(_, page)| page) {
                // What is not moved with its pages starts anew.
                page.copy = None;
                page.lock = Lock::Not;
                page.guard = false;
            }
        } else {
            process.pages.retain(|addr, _| *addr < old || *addr >= old + old_len);
        }
        // A hole among the pages moved takes nothing away where they go.
        for (offset, page) in moved.into_iter().filter(|(offset, _)| *offset < new_len) {
            if let Some(page) = page
                && window.start <= to + offset
                && to + offset < window.end()
            {
                process.pages.insert(to + offset, page);
            }
        }
        for nth in old_len >> PAGE_SHIFT..new_len >> PAGE_SHIFT {
            let more = nth - (old_len >> PAGE_SHIFT) + 1;
            let page =
                Page { source: last.source.plus(more), copy: None, guard: false, ..last.clone() };
            process.pages.insert(to + nth * PAGE_SIZE, page);
        }
        if last.lock == Lock::Now && new_len > old_len {
            let _ = self.populate(at, to + old_len, to + new_len);
        }
        Expect::Followed
    }

    /// An old length of 0 maps shared memory a second time.
    fn mapped_again(
        &mut self,
        at: usize,
        to: u64,
        len: u64,
        old: &[(u64, Option<Page>)],
    ) -> Expect {
        let Some((_, Some(page))) = old.first() else { return super::refused(Errno::EFAULT) };
        if !page.shared {
            return super::refused(Errno::EINVAL);
        }
        for nth in 0..len >> PAGE_SHIFT {
            let page = Page { source: page.source.plus(nth), guard: false, ..page.clone() };
            self.process(at).pages.insert(to + nth * PAGE_SIZE, page);
        }
        Expect::Followed
    }

    /// The outcome is taken over, as the range must be of one file's areas.
    pub(super) fn remap_file_pages(&mut self, at: usize, call: &Call, seen: Outcome) -> Expect {
        let [addr, size, _, pgoff, _, _] = call.args;
        if seen != Outcome::Returned(0) {
            return Expect::Followed;
        }
        let (start, end) = (page_down(addr), page_down(addr).wrapping_add(page_down(size)));
        let Some(first) = self.page(at, start).filter(|page| page.shared) else {
            return super::refused(Errno::EINVAL);
        };
        let Source::File { file, .. } = first.source else {
            return super::refused(Errno::EINVAL);
        };
        // It is a mapping anew: with MAP_LOCKED where the old one was locked, and as mlockall says.
        let lock = match (first.lock, self.process(at).lock) {
            (Lock::Not, future) => future,
            (_, Lock::Not) => Lock::Now,
            (_, future) => future,
        };
        for (nth, addr) in (start..end).step_by(PAGE_SIZE as usize).enumerate() {
            let source = Source::File { file, index: pgoff + nth as u64 };
            let page = Page { source, guard: false, lock, dont_fork: false, ..first.clone() };
            self.process(at).pages.insert(addr, page);
        }
        Expect::Followed
    }

    pub(super) fn brk(&mut self, at: usize, wanted: u64) -> Result<u64, Stop> {
        let brk = self.process(at).brk;
        if wanted < self.start_brk {
            return Ok(brk);
        }
        let (old, new) = (page_up(brk), page_up(wanted));
        if new < old {
            // A heap that is gone, or cannot go, stays as long as it was.
            let gone = self.is_free(at, new, old);
            if gone || self.pages_of(new, old).any(|addr| self.is_sealed(at, addr)) {
                return Ok(brk);
            }
            self.process(at).pages.retain(|addr, _| *addr < new || *addr >= old);
        } else if new > old {
            if wanted > TASK_SIZE || new > self.window.end() || !self.is_free(at, old, new) {
                return Ok(brk);
            }
            let next = self.gap_start(at, old);
            if new + PAGE_SIZE > next {
                return Ok(brk);
            }
            let lock = self.process(at).lock;
            let page = Page {
                read: true,
                write: true,
                source: Source::Anon,
                sealed: false,
                lock,
                ..Page::outside()
            };
            for addr in (old..new).step_by(PAGE_SIZE as usize) {
                self.process(at).pages.insert(addr, page.clone());
            }
        } else if wanted > TASK_SIZE {
            return Ok(brk);
        }
        self.process(at).brk = wanted;
        Ok(wanted)
    }
}

impl Source {
    /// Where the first page of a new mapping comes from.
    fn of(
        naive: &mut Naive,
        anonymous: bool,
        shared: bool,
        number: u64,
        offset: u64,
        len: u64,
    ) -> Self {
        match (anonymous, shared) {
            (true, false) => Self::Anon,
            (true, true) => {
                naive.files.push(File { size: len, ..File::default() });
                Self::File { file: naive.files.len() - 1, index: 0 }
            }
            (false, _) => Self::File { file: number as usize, index: offset / PAGE_SIZE },
        }
    }

    fn plus(self, pages: u64) -> Self {
        match self {
            Self::Anon => Self::Anon,
            Self::File { file, index } => Self::File { file, index: index.wrapping_add(pages) },
        }
    }
}
