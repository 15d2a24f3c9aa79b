//! Where a mapping goes (Linux 6.18 mm/mmap.c: `__get_unmapped_area` and what it calls).
//!
//! A hint is taken when its range is free, guard gaps included. Otherwise the search goes down
//! from the mmap base (or up, in the classic layout), and when nothing is free there, up from the
//! legacy base. Lengths of whole huge pages are first tried with room to align them.
//!
//! The generic rules serve riscv; x86 has its own (arch/x86/kernel/sys_x86_64.c).

use super::gaps::Wanted;
use super::{AreaHead, Areas};
use crate::Host;
use crate::layout::{Direction, Layout};
use kilburn_addr::{Errno, PAGE_MASK, PAGE_SIZE, VirtAddr, VmFlags};

/// What is to be placed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PlaceRequest {
    /// The hint, or the address with [`Placement::Fixed`]; as the guest gave it.
    pub addr: VirtAddr,
    /// Bytes, a multiple of the page size, not 0.
    pub len: u64,
    /// How binding `addr` is.
    pub placement: Placement,
    /// What is mapped.
    pub backing: Backing,
    /// Part of the address space asked for (x86).
    pub window: Window,
    /// `vm.mmap_min_addr`.
    pub min_addr: VirtAddr,
    /// Whether the caller may map below `min_addr` (`CAP_SYS_RAWIO`).
    pub below_min: BelowMin,
}

/// Whether an address below `vm.mmap_min_addr` is allowed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BelowMin {
    /// No: `EPERM`.
    Refused,
    /// Yes.
    Allowed,
}

/// How binding the address of a request is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Placement {
    /// Take it if it is free; 0 is no hint.
    Hint,
    /// There and nowhere else (`MAP_FIXED`, `MAP_FIXED_NOREPLACE`, brk).
    Fixed,
}

/// What is mapped, as far as it matters for placing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Backing {
    /// Private anonymous memory.
    Anonymous,
    /// Shared memory or a tmpfs file.
    Shmem,
    /// A file from page `pgoff` on, in a file system that aligns mappings for huge pages (ext4,
    /// xfs, btrfs: `thp_get_unmapped_area`).
    HugeAlignedFile {
        /// Offset in pages.
        pgoff: u64,
    },
    /// Any other file.
    OtherFile,
}

/// Part of the address space a mapping shall be in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Window {
    /// No wish.
    Default,
    /// The second gigabyte (`MAP_32BIT`; x86-64).
    Low2G,
    /// Above 4 GiB (`MAP_ABOVE4G`; x86-64).
    Above4G,
}

/// Values above are errors (Linux `IS_ERR_VALUE`).
const LAST_NO_ERROR: u64 = u64::MAX - 4095;

const LOW_2G: (u64, u64) = (0x4000_0000, 0x8000_0000);

impl<H: Host> Areas<H> {
    /// Finds the place for a mapping.
    ///
    /// # Errors
    /// - `ENOMEM`: too long, or nothing is free
    /// - `EINVAL`: a fixed address is not page-aligned
    /// - `EPERM`: a fixed address is below `min_addr`
    pub fn get_unmapped_area(
        &self,
        layout: &Layout,
        request: &PlaceRequest,
    ) -> Result<VirtAddr, Errno> {
        let task_size = layout.task_size().get();
        if request.len > task_size {
            return Err(Errno::ENOMEM);
        }
        let search = Search { areas: self, layout, request };
        let addr = match search.huge_aligned() {
            Some(addr) => addr,
            None => search.find(request.len)?,
        };
        if addr > LAST_NO_ERROR {
            // Linux takes a fixed address in the last page for an error and answers it.
            return Err(Errno::from_number(addr.wrapping_neg() as u16));
        }
        if addr > task_size - request.len {
            return Err(Errno::ENOMEM);
        }
        if addr & !PAGE_MASK != 0 {
            return Err(Errno::EINVAL);
        }
        if addr < request.min_addr.get() && request.below_min == BelowMin::Refused {
            return Err(Errno::EPERM);
        }
        Ok(VirtAddr::new(addr))
    }
}

struct Search<'a, H: Host> {
    areas: &'a Areas<H>,
    layout: &'a Layout,
    request: &'a PlaceRequest,
}

impl<H: Host> Search<'_, H> {
    /// `thp_get_unmapped_area_vmflags`: with room to align, when huge pages could be used at all.
    /// Whether they are enabled does not matter. `None`: place it as any other.
    fn huge_aligned(&self) -> Option<u64> {
        let PlaceRequest { addr, len, backing, .. } = *self.request;
        let size = self.layout.arch().pmd_bytes()?;
        let offset = match backing {
            Backing::Anonymous if addr == VirtAddr::ZERO && len.is_multiple_of(size) => 0,
            Backing::HugeAlignedFile { pgoff } => pgoff.checked_mul(PAGE_SIZE)?,
            _ => return None,
        };
        let end = offset.checked_add(len)?;
        let first_huge = offset.checked_next_multiple_of(size)?;
        if end <= first_huge || end - first_huge < size {
            return None;
        }
        let padded = len.checked_add(size)?;
        offset.checked_add(padded)?;
        let found = self.find(padded).ok()?;
        if found == addr.get() {
            return Some(found);
        }
        let shift = offset.wrapping_sub(found) & (size - 1);
        if self.layout.direction() == Direction::TopDown && shift == 0 {
            return Some(found + size);
        }
        Some(found + shift)
    }

    fn find(&self, len: u64) -> Result<u64, Errno> {
        if self.layout.arch().is_x86() { self.find_x86(len) } else { self.find_generic(len) }
    }

    /// `generic_get_unmapped_area` and `generic_get_unmapped_area_topdown`.
    fn find_generic(&self, len: u64) -> Result<u64, Errno> {
        let end = self.layout.task_size().get();
        let min = self.request.min_addr.get();
        if len > end.saturating_sub(min) {
            return Err(Errno::ENOMEM);
        }
        let addr = self.request.addr.get();
        if self.request.placement == Placement::Fixed {
            return Ok(addr);
        }
        if let Some(addr) = page_align(addr)
            && end - len >= addr
            && addr >= min
            && self.is_free_with_guard(addr, len)
        {
            return Ok(addr);
        }
        let base = self.layout.mmap_base().get();
        let found = match self.layout.direction() {
            Direction::BottomUp => self.lowest(len, base, end),
            Direction::TopDown => self.highest(len, PAGE_SIZE, base).or_else(|| {
                // A failed mmap mostly ends a program, so what is above is tried too.
                self.lowest(len, self.layout.fallback_base().get(), end)
            }),
        };
        found.ok_or(Errno::ENOMEM)
    }

    /// `arch_get_unmapped_area_topdown` and `arch_get_unmapped_area` of x86.
    fn find_x86(&self, len: u64) -> Result<u64, Errno> {
        let task_size = self.layout.task_size().get();
        let default_end = self.layout.default_window().get();
        let PlaceRequest { addr, placement, window, .. } = *self.request;
        let addr = addr.get();
        if placement == Placement::Fixed {
            return Ok(addr);
        }
        if self.layout.direction() == Direction::TopDown && window != Window::Low2G {
            let hint = addr & PAGE_MASK;
            // mmap_address_hint_valid: nothing lies on both sides of the default window's end.
            if hint != 0
                && task_size.checked_sub(len).is_some_and(|last| hint <= last)
                && (hint > default_end) == (hint + len > default_end)
                && self.is_free_below(hint, len)
            {
                return Ok(hint);
            }
            let low = if window == Window::Above4G { 1 << 32 } else { PAGE_SIZE };
            let above = if hint > default_end { task_size - default_end } else { 0 };
            let base = self.layout.mmap_base().get() + above;
            if let Some(found) = self.highest(len, low, base) {
                return Ok(found);
            }
        }
        let (low, high) = match window {
            Window::Low2G => LOW_2G,
            _ if addr > default_end => (self.layout.fallback_base().get(), task_size),
            _ => (self.layout.fallback_base().get(), default_end),
        };
        if len > high {
            return Err(Errno::ENOMEM);
        }
        if let Some(hint) = page_align(addr)
            && high - len >= hint
            && self.is_free_below(hint, len)
        {
            return Ok(hint);
        }
        self.lowest(len, low, high).ok_or(Errno::ENOMEM)
    }

    /// Whether `len` bytes at `addr` are free and leave the next area its guard gap. Unlike
    /// elsewhere the area before is looked at as well.
    fn is_free_with_guard(&self, addr: u64, len: u64) -> bool {
        let before = self.areas.neighbour_heads(VirtAddr::new(addr)).0;
        before.is_none_or(|prev| prev.range.end().get() <= addr) && self.is_free_below(addr, len)
    }

    /// Whether the first area that ends above `addr` leaves `len` bytes there.
    fn is_free_below(&self, addr: u64, len: u64) -> bool {
        let next = self.areas.head(VirtAddr::new(addr));
        next.is_none_or(|next| addr + len <= self.areas.guarded_start(&next))
    }

    /// `unmapped_area`
    fn lowest(&self, len: u64, mut low: u64, high: u64) -> Option<u64> {
        loop {
            let (start, _) = addresses(self.areas.tree.lowest_gap(self.wanted(len, low, high))?);
            match self.growing_above(start) {
                Some(next) if self.areas.guarded_start(&next) < start + len => {
                    low = next.range.end().get();
                }
                _ => return Some(start),
            }
        }
    }

    /// `unmapped_area_topdown`: a guard gap lowers the limit, even past areas that lie in it.
    fn highest(&self, len: u64, low: u64, mut high: u64) -> Option<u64> {
        loop {
            let (start, end) = addresses(self.areas.tree.highest_gap(self.wanted(len, low, high))?);
            match self.growing_above(start) {
                Some(next) if self.areas.guarded_start(&next) < end => {
                    high = self.areas.guarded_start(&next);
                }
                _ => return Some(end - len),
            }
        }
    }

    /// The area above the gap that starts at `gap_start`, if it grows down.
    fn growing_above(&self, gap_start: u64) -> Option<AreaHead> {
        if self.areas.growing == 0 {
            return None;
        }
        let next = self.areas.head(VirtAddr::new(gap_start))?;
        next.flags.contains(VmFlags::GROWSDOWN).then_some(next)
    }

    fn wanted(&self, len: u64, low: u64, high: u64) -> Wanted {
        let low = low.max(self.request.min_addr.get());
        Wanted { len: len / PAGE_SIZE, low: low.div_ceil(PAGE_SIZE), high: high / PAGE_SIZE }
    }
}

/// Where a gap of pages starts and ends.
fn addresses((start, end): (u64, u64)) -> (u64, u64) {
    (start * PAGE_SIZE, end * PAGE_SIZE)
}

/// `PAGE_ALIGN` of a hint; `None` for no hint.
fn page_align(addr: u64) -> Option<u64> {
    if addr == 0 {
        return None;
    }
    // A hint in the last page wraps to 0, which Linux then tries like any other address: it is
    // below every minimum on riscv, and free on x86 only for those who may map there.
    Some(addr.wrapping_add(PAGE_SIZE - 1) & PAGE_MASK)
}
