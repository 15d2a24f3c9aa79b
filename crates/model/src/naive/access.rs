//! What is in pages: loads, stores, files, fork.

use super::{Bytes, Done, File, Lock, Naive, Page, Source, error, page_down, space, zeros};
use crate::outcome::{Digest, Outcome, digest_of, digest_of_bytes};
use kilburn_addr::{Errno, PAGE_SIZE};
use std::rc::Rc;

const SIGBUS: i32 = 7;
const SIGSEGV: i32 = 11;
const MAPERR: i32 = 1;
const ACCERR: i32 = 2;
/// How far a stack grows (`RLIMIT_STACK`).
const STACK_BYTES: u64 = 8 << 20;

fn signal(signo: i32, code: i32, addr: u64) -> Outcome {
    Outcome::Signal { signo, code, addr }
}

impl Naive {
    /// Whether there is something to be mapped: zeros, a copy, or a page of the file.
    pub(super) fn has_content(&self, page: &Page) -> bool {
        page.copy.is_some()
            || match page.source {
                Source::Anon => true,
                Source::File { file, index } => {
                    self.files.get(file).is_some_and(|file| file.has(index))
                }
            }
    }

    /// Before a private page is written, it gets a content of its own.
    pub(super) fn make_copy(&mut self, at: usize, addr: u64) {
        let Some(page) = self.page(at, addr) else { return };
        if page.shared || page.copy.is_some() || !self.in_window(addr) {
            return;
        }
        let content = self.content(&page);
        self.process(at).pages.get_mut(&addr).expect("in the window").copy = Some(content);
    }

    fn content(&self, page: &Page) -> Bytes {
        match (&page.copy, page.source) {
            (Some(copy), _) => copy.clone(),
            (None, Source::Anon) => zeros(),
            (None, Source::File { file, index }) => {
                self.files[file].pages.get(&index).cloned().unwrap_or_else(zeros)
            }
        }
    }

    /// The page that a load or store at `addr` finds.
    fn reach(&mut self, at: usize, addr: u64, write: bool) -> Result<Page, Outcome> {
        let base = page_down(addr);
        if self.page(at, base).is_none() && !self.grow(at, base) {
            return Err(signal(SIGSEGV, MAPERR, addr));
        }
        let page = self.page(at, base).expect("there, or grown");
        // On x86 any right permits loads.
        if if write { !page.write } else { !page.has_any_right() } {
            return Err(signal(SIGSEGV, ACCERR, addr));
        }
        if page.guard {
            return Err(signal(SIGSEGV, MAPERR, addr));
        }
        if !self.has_content(&page) {
            return Err(signal(SIGBUS, 2, addr));
        }
        Ok(page)
    }

    /// Lets a growing area above `addr` grow down to it, if it may.
    fn grow(&mut self, at: usize, addr: u64) -> bool {
        if !self.in_window(addr) {
            return false;
        }
        let process = self.process(at);
        let Some((&start, page)) = process.pages.range(addr..).next() else { return false };
        if !page.grows_down {
            return false;
        }
        let page = Page { copy: None, guard: false, ..page.clone() };
        // The area ends where pages of another kind begin, or anywhere before.
        let mut end = start;
        while process.pages.get(&end).is_some_and(|page| page.grows_down) {
            end += PAGE_SIZE;
        }
        if start + PAGE_SIZE - addr > STACK_BYTES {
            return false;
        }
        if end - addr > STACK_BYTES {
            self.unsure = Some("where a growing area ends");
            return false;
        }
        if let Some((below, other)) = process.pages.range(..addr).next_back()
            && !other.grows_down
            && other.has_any_right()
            && addr - (below + PAGE_SIZE) < space::GUARD_GAP
        {
            return false;
        }
        for addr in (addr..start).step_by(PAGE_SIZE as usize) {
            process.pages.insert(addr, page.clone());
        }
        if page.lock == Lock::Now {
            let _ = self.populate(at, addr, start);
        }
        true
    }

    pub(super) fn load_byte(&mut self, at: usize, addr: u64) -> Outcome {
        match self.reach(at, addr, false) {
            Ok(page) => {
                let byte = self.content(&page)[(addr % PAGE_SIZE) as usize];
                Outcome::Returned(i64::from(byte))
            }
            Err(signal) => signal,
        }
    }

    pub(super) fn store_byte(&mut self, at: usize, addr: u64, value: u8) -> Outcome {
        let page = match self.reach(at, addr, true) {
            Ok(page) => page,
            Err(signal) => return signal,
        };
        let (base, offset) = (page_down(addr), (addr % PAGE_SIZE) as usize);
        match page.source {
            Source::File { file, index } if page.shared => {
                self.files[file].page_mut(index)[offset] = value;
            }
            _ => {
                self.make_copy(at, base);
                let page = self.process(at).pages.get_mut(&base).expect("reached");
                Rc::make_mut(page.copy.as_mut().expect("just made"))[offset] = value;
            }
        }
        Outcome::Returned(0)
    }

    pub(super) fn sum(&mut self, at: usize, addr: u64, pages: u64) -> Outcome {
        let mut digest = Digest::default();
        for nth in 0..pages {
            match self.reach(at, addr + nth * PAGE_SIZE, false) {
                Ok(page) => {
                    let content = self.content(&page);
                    let word = content[..8].try_into().expect("8 bytes");
                    digest.add(u64::from_le_bytes(word));
                }
                Err(signal) => return signal,
            }
        }
        Outcome::Returned(digest.value())
    }

    /// The page that another process's load or store finds: it wants the rights as they are
    /// written, lets nothing grow, and raises no signal.
    fn reach_remotely(&self, target: usize, addr: u64, write: bool) -> Option<Page> {
        let page = self.page(target, page_down(addr))?;
        let permitted = if write { page.write } else { page.read };
        (permitted && !page.guard && self.has_content(&page)).then_some(page)
    }

    fn target(&self, number: u64) -> Option<usize> {
        let at = usize::try_from(number).ok()?;
        self.processes.get(at)?.as_ref().map(|_| at)
    }

    pub(super) fn remote_read(&mut self, number: u64, addr: u64, len: u64) -> Outcome {
        let mut bytes = Vec::new();
        if len == 0 {
            return Outcome::Returned(digest_of_bytes(&bytes));
        }
        let Some(target) = self.target(number) else { return error(Errno::ESRCH) };
        for nth in 0..len {
            let Some(at) = addr.checked_add(nth) else { break };
            let Some(page) = self.reach_remotely(target, at, false) else { break };
            bytes.push(self.content(&page)[(at % PAGE_SIZE) as usize]);
        }
        match bytes.as_slice() {
            [] => error(Errno::EFAULT),
            bytes => Outcome::Returned(digest_of_bytes(bytes)),
        }
    }

    pub(super) fn remote_write(&mut self, number: u64, addr: u64, len: u64, value: u8) -> Outcome {
        if len == 0 {
            return Outcome::Returned(0);
        }
        let Some(target) = self.target(number) else { return error(Errno::ESRCH) };
        for nth in 0..len {
            let at = addr.checked_add(nth);
            let reached = at.and_then(|at| self.reach_remotely(target, at, true).map(|_| at));
            match reached {
                Some(at) => self.store_byte(target, at, value),
                None if nth == 0 => return error(Errno::EFAULT),
                None => return Outcome::Returned(nth as i64),
            };
        }
        Outcome::Returned(len as i64)
    }

    fn case_file(&mut self, number: u64) -> Option<&mut File> {
        let number = usize::try_from(number).ok().filter(|number| *number < self.case_files)?;
        self.files.get_mut(number)
    }

    pub(super) fn file_read(&mut self, number: u64, offset: u64) -> Outcome {
        let Some(file) = self.case_file(number) else { return error(Errno::EBADF) };
        let mut bytes = [0; 8];
        let mut count = 0;
        while count < 8 && offset + count < file.size {
            let at = offset + count;
            bytes[count as usize] = file.page_mut(at / PAGE_SIZE)[(at % PAGE_SIZE) as usize];
            count += 1;
        }
        Outcome::Returned(digest_of(&[count, u64::from_le_bytes(bytes)]))
    }

    pub(super) fn file_write(&mut self, number: u64, offset: u64, value: u64) -> Outcome {
        let Some(file) = self.case_file(number) else { return error(Errno::EBADF) };
        for (at, byte) in (offset..).zip(value.to_le_bytes()) {
            file.page_mut(at / PAGE_SIZE)[(at % PAGE_SIZE) as usize] = byte;
            file.size = file.size.max(at + 1);
        }
        Outcome::Returned(8)
    }

    /// What is past the new end goes, private copies among it; what is left of the last page
    /// past the end reads as zeros should the file grow again.
    pub(super) fn truncate(&mut self, number: u64, size: u64) -> Done {
        let Some(file) = self.case_file(number) else { return Err(Errno::EBADF.into()) };
        if size > i64::MAX as u64 {
            return Err(Errno::EINVAL.into());
        }
        let shrinks = size < file.size;
        file.size = size;
        if !shrinks {
            return Ok(());
        }
        let end = size.div_ceil(PAGE_SIZE);
        file.pages.retain(|index, _| *index < end);
        if !size.is_multiple_of(PAGE_SIZE)
            && let Some(last) = file.pages.get_mut(&(size / PAGE_SIZE))
        {
            Rc::make_mut(last)[(size % PAGE_SIZE) as usize..].fill(0);
        }
        for process in self.processes.iter_mut().flatten() {
            for page in process.pages.values_mut() {
                if let Source::File { file, index } = page.source
                    && file as u64 == number
                    && index >= end
                {
                    page.copy = None;
                }
            }
        }
        Ok(())
    }

    pub(super) fn fork(&mut self, at: usize) -> Outcome {
        let mut child = self.process(at).clone();
        child.lock = Lock::Not;
        child.pages.retain(|_, page| !page.dont_fork);
        for page in child.pages.values_mut() {
            page.lock = Lock::Not;
            if page.wipe_on_fork {
                page.copy = None;
                page.guard = false;
            }
        }
        self.processes.push(Some(child));
        Outcome::Returned(self.processes.len() as i64 - 1)
    }
}
