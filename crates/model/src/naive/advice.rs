//! What is known of pages: madvise, mlock, mlockall, msync, mincore, mseal.

use super::{Done, Expect, Lock, Naive, Page, Source, Stop, is_aligned, page_down, page_up, space};
use kilburn_addr::{Errno, PAGE_SIZE};

impl Naive {
    pub(super) fn madvise(
        &mut self,
        at: usize,
        addr: u64,
        len: u64,
        advice: i32,
    ) -> Result<Expect, Stop> {
        const KNOWN: [i32; 21] =
            [0, 1, 2, 3, 4, 8, 9, 10, 11, 12, 13, 16, 17, 18, 19, 20, 21, 22, 23, 24, 102];
        if matches!(advice, 14 | 15 | 25 | 100 | 101) {
            return Err(Stop::Unsure("huge and poisoned pages are not modelled"));
        }
        if !KNOWN.contains(&advice) && advice != 103 || !is_aligned(addr) {
            return Err(Errno::EINVAL.into());
        }
        let size = page_up(len);
        let end = addr.wrapping_add(size);
        if len != 0 && size == 0 || end < addr {
            return Err(Errno::EINVAL.into());
        }
        let done = Ok(Expect::Exactly(crate::Outcome::Returned(0)));
        if end == addr {
            return done;
        }
        if matches!(advice, 22 | 23) {
            return self.populate_for(at, addr, end, advice == 23).and(done);
        }
        let mut gap = false;
        for addr in self.pages_of(addr, end) {
            let Some(page) = self.page(at, addr) else {
                gap = true;
                continue;
            };
            self.advise(at, addr, &page, advice)?;
        }
        if gap { Err(Errno::ENOMEM.into()) } else { done }
    }

    fn advise(&mut self, at: usize, addr: u64, page: &Page, advice: i32) -> Done {
        let discards = matches!(advice, 4 | 8 | 9 | 10 | 18 | 24 | 102);
        if page.sealed && discards && page.is_anonymous() && !page.write {
            return Err(Errno::EPERM.into());
        }
        let locked = page.lock != Lock::Not;
        let refused = match advice {
            4 | 20 | 21 | 102 => locked,
            8 => locked || !page.is_anonymous(),
            9 if locked || page.is_anonymous() => true,
            9 if !page.shared => return Err(Errno::EACCES.into()),
            17 | 19 => page.droppable,
            18 => !page.is_anonymous() || page.shared,
            _ => false,
        };
        if refused {
            return Err(Errno::EINVAL.into());
        }
        if advice == 9
            && let Source::File { file, index } = page.source
        {
            self.files[file].pages.remove(&index);
            return Ok(());
        }
        let Some(page) = self.process(at).pages.get_mut(&addr) else { return Ok(()) };
        match advice {
            4 | 24 => page.copy = None,
            10 => page.dont_fork = true,
            11 => page.dont_fork = false,
            18 => page.wipe_on_fork = true,
            19 => page.wipe_on_fork = false,
            102 => {
                page.copy = None;
                page.guard = true;
            }
            103 => page.guard = false,
            _ => {}
        }
        Ok(())
    }

    fn populate_for(&mut self, at: usize, start: u64, end: u64, write: bool) -> Done {
        for addr in self.pages_of(start, end) {
            let Some(page) = self.page(at, addr) else { return Err(Errno::ENOMEM.into()) };
            if if write { !page.write } else { !page.read } {
                return Err(Errno::EINVAL.into());
            }
            if page.guard || !self.has_content(&page) {
                return Err(Errno::EFAULT.into());
            }
            if write {
                self.make_copy(at, addr);
            }
        }
        Ok(())
    }

    /// Brings pages in as mlock does; whether all could be.
    pub(super) fn populate(&mut self, at: usize, start: u64, end: u64) -> Result<(), ()> {
        for addr in self.pages_of(start, end) {
            let Some(page) = self.page(at, addr) else { continue };
            if page.lock == Lock::OnFault {
                continue;
            }
            if !page.has_any_right() || page.guard || !self.has_content(&page) {
                return Err(());
            }
            if page.write {
                self.make_copy(at, addr);
            }
        }
        Ok(())
    }

    pub(super) fn mlock(&mut self, at: usize, addr: u64, len: u64, lock: Lock) -> Done {
        let len = page_up(len.wrapping_add(addr - page_down(addr)));
        let start = page_down(addr);
        let end = start.wrapping_add(len);
        if end < start {
            return Err(Errno::EINVAL.into());
        }
        for addr in self.pages_of(start, end) {
            let Some(page) = self.page(at, addr) else { return Err(Errno::ENOMEM.into()) };
            if !self.in_window(addr) {
                return Err(Stop::Unsure("what is outside the window is locked"));
            }
            let page_lock = if page.droppable { Lock::Not } else { lock };
            self.process(at).pages.get_mut(&addr).expect("in the window").lock = page_lock;
        }
        if lock != Lock::Not {
            // Pages that are never locked are brought in all the same.
            self.populate(at, start, end).map_err(|()| Errno::ENOMEM)?;
        }
        Ok(())
    }

    pub(super) fn mlockall(&mut self, at: usize, flags: u64) -> Done {
        const CURRENT: u64 = 1;
        const FUTURE: u64 = 2;
        const ON_FAULT: u64 = 4;
        let flags = u64::from(flags as u32);
        if flags == 0 || flags == ON_FAULT || flags & !7 != 0 {
            return Err(Errno::EINVAL.into());
        }
        let lock = if flags & ON_FAULT != 0 { Lock::OnFault } else { Lock::Now };
        let process = self.process(at);
        process.lock = if flags & FUTURE != 0 { lock } else { Lock::Not };
        if flags & CURRENT == 0 {
            return Ok(());
        }
        for page in process.pages.values_mut().filter(|page| !page.droppable) {
            page.lock = lock;
        }
        if lock == Lock::Now && self.populate(at, self.window.start, self.window.end()).is_err() {
            // The rest of the area is left out, the next area is not.
            return Err(Stop::Unsure("how much of an area could be populated"));
        }
        Ok(())
    }

    pub(super) fn munlockall(&mut self, at: usize) {
        let process = self.process(at);
        process.lock = Lock::Not;
        for page in process.pages.values_mut() {
            page.lock = Lock::Not;
        }
    }

    pub(super) fn msync(&self, at: usize, addr: u64, len: u64, flags: i32) -> Done {
        const ASYNC: i32 = 1;
        const INVALIDATE: i32 = 2;
        const SYNC: i32 = 4;
        if flags & !7 != 0 || !is_aligned(addr) || flags & ASYNC != 0 && flags & SYNC != 0 {
            return Err(Errno::EINVAL.into());
        }
        let end = addr.wrapping_add(page_up(len));
        if end < addr {
            return Err(Errno::ENOMEM.into());
        }
        let mut gap = false;
        for addr in self.pages_of(addr, end) {
            match self.page(at, addr) {
                None => gap = true,
                Some(page) if flags & INVALIDATE != 0 && page.lock != Lock::Not => {
                    return Err(Errno::EBUSY.into());
                }
                Some(_) => {}
            }
        }
        if gap { Err(Errno::ENOMEM.into()) } else { Ok(()) }
    }

    pub(super) fn mincore(&self, at: usize, addr: u64, len: u64) -> Done {
        if !is_aligned(addr) {
            return Err(Errno::EINVAL.into());
        }
        let Some(end) = addr.checked_add(len).filter(|end| *end <= space::TASK_SIZE) else {
            return Err(Errno::ENOMEM.into());
        };
        let end = end.next_multiple_of(PAGE_SIZE);
        if self.pages_of(addr, end).any(|addr| self.page(at, addr).is_none()) {
            return Err(Errno::ENOMEM.into());
        }
        Ok(())
    }

    pub(super) fn mseal(&mut self, at: usize, addr: u64, len: u64, flags: u64) -> Done {
        let size = page_up(len);
        let end = addr.wrapping_add(size);
        if flags != 0 || !is_aligned(addr) || len != 0 && size == 0 || end < addr {
            return Err(Errno::EINVAL.into());
        }
        if self.pages_of(addr, end).any(|addr| self.page(at, addr).is_none()) {
            return Err(Errno::ENOMEM.into());
        }
        for (_, page) in self.process(at).pages.range_mut(addr..end) {
            page.sealed = true;
        }
        Ok(())
    }
}
