//! The slow half of every access: the TLB, the tables, pages that hold code, straddling accesses.
//!
//! [`Core::read_slow`], [`Core::write_slow`] and [`Core::atomic_slow`] do what a missing line
//! leaves to do, and grant the line where the next access may go without asking:
//!
//! | line  | granted when                                                             |
//! |-------|--------------------------------------------------------------------------|
//! | read  | the page may be read                                                     |
//! | write | the page may be written, its D is set, no block was made from its frame  |
//!
//! So the first write to a page always sets D, and every write to code is seen. With a [`Translator`] in place no line is
//! granted, so it is asked for every access.
//!
//! [`Translator`]: kilburn_mmu::Translator

use crate::host::{FramePtr, HostPtr, Int, Line};
use crate::state::{Core, LINES};
use crate::trap::Trap;
use kilburn_addr::{Access, PAGE_SHIFT, PAGE_SIZE, Pfn, VirtAddr};

/// A page of guest RAM that an access may go on with.
#[derive(Clone, Copy)]
pub(crate) struct Page {
    pub(crate) pfn: Pfn,
    frame: FramePtr,
}

impl Page {
    /// Host memory for an access of `I` at `addr`, which is in this page and aligned.
    fn at<I: Int>(self, addr: u64) -> HostPtr {
        self.frame.at::<I>(addr % PAGE_SIZE)
    }
}

impl Core {
    /// Translates `access` to `addr`.
    pub(crate) fn page(&mut self, addr: u64, access: Access) -> Result<Page, Trap> {
        let addr = VirtAddr::new(addr);
        let space = self.space.expect("a run sets the space");
        let found = match &mut self.translator {
            None => self.mmu.translate(&*self.ram, space, addr, access),
            Some(translator) => translator.access(&*self.ram, space, addr, access),
        };
        match found {
            Ok(mapping) => match self.ram.frame_ptr(mapping.pfn) {
                Some(frame) => {
                    self.has_large |= mapping.span_shift > PAGE_SHIFT;
                    Ok(Page { pfn: mapping.pfn, frame })
                }
                None => Err(Trap::AccessFault { addr, access }),
            },
            Err(_) => Err(Trap::PageFault { addr, access }),
        }
    }

    fn readable(&mut self, addr: u64) -> Result<Page, Trap> {
        let page = self.page(addr, Access::Read)?;
        if self.translator.is_none() {
            let start = VirtAddr::new(addr).page_down();
            self.read[(addr >> 12) as usize % LINES] = Line::new(start, page.frame);
        }
        Ok(page)
    }

    fn writable(&mut self, addr: u64) -> Result<Page, Trap> {
        let page = self.page(addr, Access::Write)?;
        if self.translator.is_none() && !self.ram.is_code(page.pfn) {
            let start = VirtAddr::new(addr).page_down();
            self.write[(addr >> 12) as usize % LINES] = Line::new(start, page.frame);
        }
        Ok(page)
    }

    /// Loads from `addr` what the read line did not serve.
    pub(crate) fn read_slow<I: Int>(&mut self, addr: u64) -> Result<I, Trap> {
        if addr.is_multiple_of(I::SIZE) {
            return Ok(I::load(self.readable(addr)?.at::<I>(addr)));
        }
        let mut value = 0;
        let (first, second) = self.two_pages(addr, I::SIZE, Self::byte_page_to_read)?;
        for i in (0..I::SIZE).rev() {
            let byte = addr.wrapping_add(i);
            let page = if (byte ^ addr) < PAGE_SIZE { first } else { second };
            value = value << 8 | u8::load(page.at::<u8>(byte)).to_u64();
        }
        Ok(I::from_u64(value))
    }

    /// Stores to `addr` what the write line did not serve. `over_code` is asked for its result
    /// before a store that may hit instructions that were predecoded.
    pub(crate) fn write_slow<I: Int, P>(
        &mut self,
        addr: u64,
        value: I,
        over_code: impl FnOnce(&Self) -> P,
    ) -> Result<Option<P>, Trap> {
        if addr.is_multiple_of(I::SIZE) {
            let page = self.writable(addr)?;
            let past = self.is_code(page).then(|| over_code(self));
            I::store(page.at::<I>(addr), value);
            self.ram.note_write(page.pfn);
            return Ok(past);
        }
        let (first, second) = self.two_pages(addr, I::SIZE, Self::byte_page_to_write)?;
        let past = (self.is_code(first) || self.is_code(second)).then(|| over_code(self));
        for i in 0..I::SIZE {
            let byte = addr.wrapping_add(i);
            let page = if (byte ^ addr) < PAGE_SIZE { first } else { second };
            u8::store(page.at::<u8>(byte), (value.to_u64() >> (8 * i)) as u8);
        }
        self.ram.note_write(first.pfn);
        self.ram.note_write(second.pfn);
        Ok(past)
    }

    /// Host memory to reserve at an address that is aligned.
    pub(crate) fn reserve_slow<I: Int>(&mut self, addr: u64) -> Result<HostPtr, Trap> {
        Ok(self.readable(addr)?.at::<I>(addr))
    }

    /// Host memory for an atomic on an address that is aligned, and its page.
    pub(crate) fn atomic_slow<I: Int>(&mut self, addr: u64) -> Result<(HostPtr, Page), Trap> {
        let page = self.writable(addr)?;
        Ok((page.at::<I>(addr), page))
    }

    /// Whether blocks were made from `page`.
    pub(crate) fn is_code(&self, page: Page) -> bool {
        self.ram.is_code(page.pfn)
    }

    /// The pages of the first and the last of `size` bytes at `addr`, found before anything is
    /// accessed.
    fn two_pages(
        &mut self,
        addr: u64,
        size: u64,
        find: fn(&mut Self, u64) -> Result<Page, Trap>,
    ) -> Result<(Page, Page), Trap> {
        let first = find(self, addr)?;
        let last = addr.wrapping_add(size - 1);
        if addr % PAGE_SIZE + size <= PAGE_SIZE {
            return Ok((first, first));
        }
        let second = find(self, last - last % PAGE_SIZE)?;
        Ok((first, second))
    }

    fn byte_page_to_read(&mut self, addr: u64) -> Result<Page, Trap> {
        self.page_of_line(self.read[(addr >> 12) as usize % LINES], addr)
            .map_or_else(|| self.readable(addr), Ok)
    }

    fn byte_page_to_write(&mut self, addr: u64) -> Result<Page, Trap> {
        self.page_of_line(self.write[(addr >> 12) as usize % LINES], addr)
            .map_or_else(|| self.writable(addr), Ok)
    }

    /// The page of `addr`, if that is what `line` is for.
    fn page_of_line(&self, line: Line, addr: u64) -> Option<Page> {
        let (page, frame) = line.page()?;
        (page == VirtAddr::new(addr).page_down())
            .then(|| Page { pfn: self.ram.frame_at(frame), frame })
    }

    /// The bits of the instruction at `pc`, which has just been fetched.
    pub(crate) fn fetch_bits(&mut self, pc: u64) -> Result<u32, Trap> {
        let low = u16::load(self.page(pc, Access::Exec)?.at::<u16>(pc));
        if crate::decode::length(low) == 2 {
            return Ok(u32::from(low));
        }
        let next = pc.wrapping_add(2);
        let high = u16::load(self.page(next, Access::Exec)?.at::<u16>(next));
        Ok(u32::from(low) | u32::from(high) << 16)
    }
}
