//! Supplying pages (Linux 6.18 mm/userfaultfd.c: `mfill_atomic`).
//!
//! ```text
//!              private, anonymous or of shmem    shared shmem
//!   COPY       a private page                    a page of the cache, new
//!   ZEROPAGE   the zero page                     a page of the cache, new
//!   CONTINUE   the cached page, read-only        the cached page
//!   POISON     a marker                          a marker
//! ```

use super::Userfaultfd;
use crate::accounting::RssKind;
use crate::mm::{State, TableGuard};
use crate::page_cache::AddressSpace;
use crate::pte::{self, Marker};
use crate::{Caller, Host, Mm, VmaRef};
use alloc::vec;
use alloc::vec::Vec;
use kilburn_addr::{AddrRange, Errno, PAGE_SIZE, PhysAddr, VirtAddr, VmFlags};
use kilburn_paging::tables::NoTable;
use kilburn_paging::walk::entry_addr;
use kilburn_paging::{Entry, Format, Leaf, LeafFlags, PhysMem};

/// Whether filling a range wakes who waits there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FillMode {
    /// It does.
    Wake,
    /// It does not (`UFFDIO_*_MODE_DONTWAKE`).
    DontWake,
}

/// What is put into a range.
enum Content<'a, H: Host> {
    /// Bytes of another range, which `current` maps.
    Copy {
        current: &'a Mm<H>,
        caller: &'a Caller,
        source: VirtAddr,
    },
    Zeros,
    Cached,
    Poison,
}

impl<H: Host> Userfaultfd<H> {
    /// Fills `len` bytes at `to` with those at `from`, in the memory of `current`
    /// (`UFFDIO_COPY`); answers how many bytes it filled, some at least.
    ///
    /// # Errors
    /// - `EINVAL`: a range that is none, or not one that can be filled so
    /// - `ENOENT`: the range is not within one watched area
    /// - `EEXIST`: there is a page
    /// - `EFAULT`: the source cannot be read, or the page is past the end of the file
    /// - `ENOMEM`; `ESRCH` when the address space is gone
    pub fn copy(
        &self,
        current: &Mm<H>,
        caller: &Caller,
        to: u64,
        from: u64,
        len: u64,
        mode: FillMode,
    ) -> Result<u64, Errno> {
        let source = VirtAddr::new(from);
        self.fill(to, len, Content::Copy { current, caller, source }, mode)
    }

    /// Fills `len` bytes at `to` with zeros (`UFFDIO_ZEROPAGE`); as [`Self::copy`].
    ///
    /// # Errors
    /// As [`Self::copy`].
    pub fn zeropage(&self, to: u64, len: u64, mode: FillMode) -> Result<u64, Errno> {
        self.fill(to, len, Content::Zeros, mode)
    }

    /// Maps the cached pages of shared memory at `to` (`UFFDIO_CONTINUE`); as [`Self::copy`].
    ///
    /// # Errors
    /// As [`Self::copy`]; `EFAULT` when the page is not cached.
    pub fn resume(&self, to: u64, len: u64, mode: FillMode) -> Result<u64, Errno> {
        self.fill(to, len, Content::Cached, mode)
    }

    /// Makes every access to `len` bytes at `to` a `SIGBUS` (`UFFDIO_POISON`); as
    /// [`Self::copy`].
    ///
    /// # Errors
    /// As [`Self::copy`].
    pub fn poison(&self, to: u64, len: u64, mode: FillMode) -> Result<u64, Errno> {
        self.fill(to, len, Content::Poison, mode)
    }

    fn fill(
        &self,
        to: u64,
        len: u64,
        content: Content<'_, H>,
        mode: FillMode,
    ) -> Result<u64, Errno> {
        let mm = self.mm.upgrade().ok_or(Errno::ESRCH)?;
        let range = mm.userfault_range(to, len)?;
        let filled = fill_range(&mm, range, &content)?;
        if mode == FillMode::Wake {
            self.wake_range(range.start(), filled);
        }
        Ok(filled)
    }
}

/// Bytes filled before an error; the error when there are none.
fn fill_range<H: Host>(
    mm: &Mm<H>,
    range: AddrRange,
    content: &Content<'_, H>,
) -> Result<u64, Errno> {
    let mut bytes: Vec<u8> = Vec::new();
    let mut done = 0;
    while done < range.len() {
        let va = VirtAddr::new(range.start().get() + done);
        let filled = fetch(mm, range, done, content, &mut bytes).and_then(|()| {
            let state = mm.mmap_read_lock();
            let vma = target(&state, range, content)?;
            mm.fill_page(&state, vma, va, content, &bytes)
        });
        match filled {
            Ok(()) => done += PAGE_SIZE,
            Err(errno) if done == 0 => return Err(errno),
            Err(_) => break,
        }
    }
    Ok(done)
}

/// Reads the bytes to be copied. No lock is held meanwhile: they may have to be faulted in.
fn fetch<H: Host>(
    mm: &Mm<H>,
    range: AddrRange,
    done: u64,
    content: &Content<'_, H>,
    bytes: &mut Vec<u8>,
) -> Result<(), Errno> {
    let Content::Copy { current, caller, source } = content else { return Ok(()) };
    // A target that cannot be filled is found out before a source that cannot be read.
    target(&mm.mmap_read_lock(), range, content)?;
    *bytes = vec![0; PAGE_SIZE as usize];
    let from = source.checked_add(done).ok_or(Errno::EFAULT)?;
    current.read(caller, from, bytes).map_err(|_| Errno::EFAULT)
}

/// The watched area that holds all of `range`, when it can be filled so.
fn target<'a, H: Host>(
    state: &'a State<H>,
    range: AddrRange,
    content: &Content<'_, H>,
) -> Result<VmaRef<'a, H>, Errno> {
    let vma = state.areas.containing(range.start()).ok_or(Errno::ENOENT)?;
    if !vma.range.contains_range(range) || vma.userfault().is_none() {
        return Err(Errno::ENOENT);
    }
    if matches!(content, Content::Cached) && vma.is_anonymous() {
        return Err(Errno::EINVAL);
    }
    Ok(vma)
}

/// Which entries a page may be put into.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Empty ones.
    Empty,
    /// Empty ones and markers (`pte_none_mostly`).
    EmptyOrMarker,
}

impl<H: Host> Mm<H> {
    fn fill_page(
        &self,
        state: &State<H>,
        vma: VmaRef<'_, H>,
        va: VirtAddr,
        content: &Content<'_, H>,
        bytes: &[u8],
    ) -> Result<(), Errno> {
        let shmem = vma.file.and_then(|file| file.mapping());
        let shared = vma.flags.contains(VmFlags::SHARED);
        // Nobody else puts a page into the cache or a table meanwhile, and none is truncated.
        let _valid = shmem.map(|mapping| mapping.invalidate.write());
        let past_end = shmem.is_some_and(|mapping| vma.page_index(va) >= mapping.size_pages());
        if past_end {
            // shmem_get_folio answers for CONTINUE, mfill_file_over_size for the rest.
            let cached = matches!(content, Content::Cached);
            return Err(if cached { Errno::EINVAL } else { Errno::EFAULT });
        }
        match (content, shmem) {
            (Content::Poison, _) => {
                let (guard, at) = self.place_for(va, Place::Empty)?;
                guard.set(at, Entry::Software(Marker::Poisoned.payload()));
                Ok(())
            }
            (Content::Cached, Some(mapping)) => {
                if !mapping.has_page(vma.page_index(va)) {
                    return Err(Errno::EFAULT);
                }
                self.fill_cached(vma, va, mapping)
            }
            (Content::Copy { .. } | Content::Zeros, Some(mapping)) if shared => {
                let index = vma.page_index(va);
                if mapping.has_page(index) {
                    return Err(Errno::EEXIST);
                }
                let _ = self.place_for(va, Place::EmptyOrMarker)?;
                let (page, _) = mapping.page(index)?;
                self.mem().write(page.pfn().base(), bytes);
                self.fill_cached(vma, va, mapping)
            }
            (Content::Zeros, _) => {
                let (guard, at) = self.place_for(va, Place::Empty)?;
                let flags = pte::read_only(vma.flags) | LeafFlags::SPECIAL;
                guard.set_leaf(at, va, Leaf { pfn: self.memory().zero_frame(), flags });
                Ok(())
            }
            (Content::Copy { .. }, _) => self.fill_private(state, vma, va, bytes),
            (Content::Cached, None) => Err(Errno::EINVAL),
        }
    }

    /// The place of the page at `va`, with its table, when nothing is in the way.
    fn place_for(
        &self,
        va: VirtAddr,
        place: Place,
    ) -> Result<(TableGuard<'_, H>, PhysAddr), Errno> {
        let table = self.ensure_leaf_table(va).map_err(|NoTable| Errno::ENOMEM)?;
        let guard = self.lock_leaf(va);
        let at = entry_addr(table, self.format().index(va, 0));
        let free = match guard.entry(at) {
            Entry::None => true,
            Entry::Software(payload) => {
                place == Place::EmptyOrMarker && Marker::from_payload(payload).is_some()
            }
            _ => false,
        };
        if free { Ok((guard, at)) } else { Err(Errno::EEXIST) }
    }

    /// A private page that holds `bytes`.
    fn fill_private(
        &self,
        state: &State<H>,
        vma: VmaRef<'_, H>,
        va: VirtAddr,
        bytes: &[u8],
    ) -> Result<(), Errno> {
        self.prepare_anon_vma(state, vma);
        let pfn = self.memory().alloc_for(self.memcg())?;
        self.mem().write(pfn.base(), bytes);
        let placed = self.place_for(va, Place::EmptyOrMarker);
        let (guard, at) = placed.inspect_err(|_| self.memory().discard(pfn))?;
        self.begin_anon(vma, va, pfn);
        self.counts.add(self.memory().cpu(), RssKind::Anon, 1);
        guard.set_leaf(at, va, Leaf { pfn, flags: pte::written(vma.flags) });
        Ok(())
    }

    /// The cached page of shared memory, writable where the area shares it.
    fn fill_cached(
        &self,
        vma: VmaRef<'_, H>,
        va: VirtAddr,
        mapping: &AddressSpace<H>,
    ) -> Result<(), Errno> {
        let page = mapping.existing_page(vma.page_index(va))?.ok_or(Errno::EFAULT)?;
        let (guard, at) = self.place_for(va, Place::EmptyOrMarker)?;
        let mut flags = pte::written(vma.flags);
        if !vma.flags.contains(VmFlags::SHARED) {
            flags -= LeafFlags::WRITE;
        }
        self.memory().meta(page.pfn()).get();
        let kind = self.note_mapping_of(page.pfn());
        self.counts.add(self.memory().cpu(), kind, 1);
        guard.set_leaf(at, va, Leaf { pfn: page.pfn(), flags });
        Ok(())
    }
}
