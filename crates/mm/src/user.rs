//! The kernel's access to user memory: copies in and out, futex words, other processes' memory.
//!
//! Bytes are moved page by page through the tables, as hardware would, A and D bits included; a
//! page that is not there is faulted in first (Linux `copy_from_user`, `get_user_pages`).

use crate::fault::{Fault, SegvCode};
use crate::{Caller, Host, Mm};
use core::fmt;
use kilburn_addr::{Access, Errno, PAGE_SIZE, PhysAddr, VirtAddr, VmFlags};
use kilburn_paging::walk::walk;
use kilburn_paging::{Entry, LeafFlags, PhysMem};

/// A copy that stopped short.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Partial {
    /// Bytes copied before the fault.
    pub done: usize,
    /// What stopped it.
    pub fault: Fault,
}

impl fmt::Display for Partial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes copied, then {}", self.done, self.fault)
    }
}

impl core::error::Error for Partial {}

/// What `access_remote` may override.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RemoteRights {
    /// The area must permit the access.
    AsMapped,
    /// As ptrace: what the area *may* become permits it (Linux `FOLL_FORCE`).
    Forced,
}

/// Who shares a futex word.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FutexScope {
    /// Threads of one address space (`FUTEX_PRIVATE_FLAG`).
    Private,
    /// Everyone who maps the page.
    Shared,
}

/// What identifies a futex word; equal keys are the same word.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum FutexKey {
    /// Private memory: address space and address.
    Private {
        /// [`Mm::id`]
        mm: u64,
        /// The word's address.
        addr: VirtAddr,
    },
    /// A shared page: its page cache and the byte offset in it.
    Shared {
        /// [`crate::AddressSpace::id`]
        mapping: u64,
        /// Byte offset.
        offset: u64,
    },
}

/// A page that keeps changing under its reader is tried this often before the copy gives up.
const TRIES: u32 = 1000;

impl<H: Host> Mm<H> {
    /// Copies from user memory, faulting pages in (Linux `copy_from_user`).
    ///
    /// # Errors
    /// [`Partial`] at the first address that cannot be read.
    pub fn read(&self, caller: &Caller, addr: VirtAddr, into: &mut [u8]) -> Result<(), Partial> {
        let mut done = 0;
        while done < into.len() {
            let (va, len) =
                chunk(addr, done, into.len()).map_err(|fault| Partial { done, fault })?;
            self.with_page(caller, va, Access::Read, |at| {
                self.mem().read(at, &mut into[done..done + len]);
            })
            .map_err(|fault| Partial { done, fault })?;
            done += len;
        }
        Ok(())
    }

    /// Copies to user memory, faulting pages in (Linux `copy_to_user`).
    ///
    /// # Errors
    /// [`Partial`] at the first address that cannot be written.
    pub fn write(&self, caller: &Caller, addr: VirtAddr, from: &[u8]) -> Result<(), Partial> {
        let mut done = 0;
        while done < from.len() {
            let (va, len) =
                chunk(addr, done, from.len()).map_err(|fault| Partial { done, fault })?;
            self.with_page(caller, va, Access::Write, |at| {
                self.mem().write(at, &from[done..done + len]);
            })
            .map_err(|fault| Partial { done, fault })?;
            done += len;
        }
        Ok(())
    }

    /// Gives `act` the physical address behind `va` once the tables permit `access`; it holds
    /// until `act` returns.
    fn with_page<R>(
        &self,
        caller: &Caller,
        va: VirtAddr,
        access: Access,
        mut act: impl FnMut(PhysAddr) -> R,
    ) -> Result<R, Fault> {
        if !self.in_task(va, 1) {
            return Err(Fault::Segv(SegvCode::MapErr));
        }
        for _ in 0..TRIES {
            let guard = self.lock_path(va);
            if let Ok(found) = walk(self.mem(), self.format(), self.root(), va, access) {
                let at = found.leaf.pfn.base().get() + va.page_offset();
                return Ok(act(PhysAddr::new(at)));
            }
            drop(guard);
            self.handle_kernel_fault(caller, va, access)?;
        }
        // An area whose rights its format cannot give (write without read, say).
        Err(Fault::Segv(SegvCode::AccErr))
    }

    /// Reads another task's memory (Linux `access_remote_vm`); answers how many bytes could be.
    pub fn read_remote(&self, addr: VirtAddr, into: &mut [u8], rights: RemoteRights) -> usize {
        let mut done = 0;
        while let Some((va, len)) = next_chunk(addr, done, into.len()) {
            let copied = self.with_remote_page(va, Access::Read, rights, |at| {
                self.mem().read(at, &mut into[done..done + len]);
            });
            if copied.is_err() {
                break;
            }
            done += len;
        }
        done
    }

    /// Writes another task's memory (Linux `access_remote_vm`); answers how many bytes could be.
    pub fn write_remote(&self, addr: VirtAddr, from: &[u8], rights: RemoteRights) -> usize {
        let mut done = 0;
        while let Some((va, len)) = next_chunk(addr, done, from.len()) {
            let copied = self.with_remote_page(va, Access::Write, rights, |at| {
                self.mem().write(at, &from[done..done + len]);
            });
            if copied.is_err() {
                break;
            }
            done += len;
        }
        done
    }

    /// As [`Self::with_page`], with the rights of another task's (`get_user_pages_remote`). The
    /// page is used whatever rights its entry gives, once the area's have been judged; a forced
    /// write makes a private copy first.
    fn with_remote_page<R>(
        &self,
        va: VirtAddr,
        access: Access,
        rights: RemoteRights,
        mut act: impl FnMut(PhysAddr) -> R,
    ) -> Result<R, Fault> {
        let locked = self.mmap_read_lock_at(va);
        let vma = locked.vma().filter(|vma| vma.start() <= va);
        let vma = vma.ok_or(Fault::Segv(SegvCode::MapErr))?;
        let denied = Fault::Segv(SegvCode::AccErr);
        // check_vma_flags: devices have no pages to be got.
        if vma.flags.intersects(VmFlags::IO | VmFlags::PFNMAP) {
            return Err(denied);
        }
        let forced = rights == RemoteRights::Forced;
        // check_vma_flags: unlike hardware, it does not take the right to write for that to read.
        let permits = match access {
            Access::Read => vma.flags.contains(VmFlags::READ),
            Access::Write | Access::Exec => vma.flags.permits(access),
        };
        let permitted = permits
            || forced
                && match access {
                    Access::Write => vma.is_cow(),
                    Access::Read | Access::Exec => vma.flags.contains(VmFlags::MAYREAD),
                };
        if !permitted {
            return Err(denied);
        }
        for _ in 0..TRIES {
            let guard = self.lock_leaf(va);
            if let Entry::Leaf(leaf) = guard.tables.query(va.page_down()) {
                let ready = access != Access::Write
                    || leaf.flags.contains(LeafFlags::WRITE)
                    || self.is_own_copy(leaf);
                if ready {
                    if access == Access::Write {
                        self.note_unseen_write(leaf);
                    }
                    let at = leaf.pfn.base().get() + va.page_offset();
                    return Ok(act(PhysAddr::new(at)));
                }
            }
            drop(guard);
            self.fault_in(&locked.state, vma, va, access)?;
        }
        Err(denied)
    }

    /// A write is as good as done that the entry need not know of (`follow_page_pte`,
    /// `unpin_user_pages_dirty_lock`).
    pub(crate) fn note_unseen_write(&self, leaf: kilburn_paging::Leaf) {
        if !leaf.flags.contains(LeafFlags::SPECIAL) {
            let meta = self.memory().meta(leaf.pfn);
            match meta.state() {
                crate::frames::FrameState::Shmem => meta.set_dirty_shmem(),
                crate::frames::FrameState::Anon => meta.set_dirty(),
                _ => {}
            }
        }
    }

    /// Whether nobody else has the private page: a forced write may change it.
    fn is_own_copy(&self, leaf: kilburn_paging::Leaf) -> bool {
        !leaf.flags.contains(LeafFlags::SPECIAL) && {
            let meta = self.memory().meta(leaf.pfn);
            meta.state() == crate::frames::FrameState::Anon && meta.is_exclusive()
        }
    }

    /// Reads the aligned 32-bit word at `addr`, atomically.
    ///
    /// # Errors
    /// The fault, when it cannot be read.
    ///
    /// # Panics
    /// When `addr` is not a multiple of 4.
    pub fn load_u32(&self, caller: &Caller, addr: VirtAddr) -> Result<u32, Fault> {
        let (_, shift) = word_of(addr);
        self.with_page(caller, addr, Access::Read, |at| {
            (self.mem().load(PhysAddr::new(at.get() & !7)) >> shift) as u32
        })
    }

    /// Replaces the aligned 32-bit word at `addr` when it is `current`; answers what was there.
    ///
    /// # Errors
    /// The fault, when it cannot be written.
    ///
    /// # Panics
    /// When `addr` is not a multiple of 4.
    pub fn compare_exchange_u32(
        &self,
        caller: &Caller,
        addr: VirtAddr,
        current: u32,
        new: u32,
    ) -> Result<u32, Fault> {
        let (mask, shift) = word_of(addr);
        self.with_page(caller, addr, Access::Write, |at| {
            let at = PhysAddr::new(at.get() & !7);
            loop {
                let word = self.mem().load(at);
                let found = (word >> shift) as u32;
                let changed = word & !mask | u64::from(new) << shift;
                if found != current || self.mem().compare_exchange(at, word, changed).is_ok() {
                    return found;
                }
            }
        })
    }

    /// The identity of the futex word at `addr` (Linux 6.18 kernel/futex/core.c:
    /// `get_futex_key`).
    ///
    /// # Errors
    /// `EINVAL` when not aligned to 4, `EFAULT` when the word is not accessible.
    pub fn futex_key(
        &self,
        caller: &Caller,
        addr: VirtAddr,
        scope: FutexScope,
    ) -> Result<FutexKey, Errno> {
        if !addr.get().is_multiple_of(4) {
            return Err(Errno::EINVAL);
        }
        if !self.in_task(addr, 4) {
            return Err(Errno::EFAULT);
        }
        let private = FutexKey::Private { mm: self.id(), addr };
        if scope == FutexScope::Private {
            return Ok(private);
        }
        // The page must be there and readable, as get_user_pages_fast sees it.
        self.with_page(caller, addr, Access::Read, |_| ()).map_err(|_| Errno::EFAULT)?;
        let locked = self.mmap_read_lock_at(addr);
        let vma = locked.vma().filter(|vma| vma.start() <= addr).ok_or(Errno::EFAULT)?;
        let shared = vma.flags.contains(VmFlags::MAYSHARE);
        match vma.file.and_then(|file| file.mapping()).filter(|_| shared) {
            None => Ok(private),
            Some(mapping) => Ok(FutexKey::Shared {
                mapping: mapping.id(),
                offset: vma.page_index(addr.page_down()) * PAGE_SIZE + addr.page_offset(),
            }),
        }
    }
}

/// Mask and shift of an aligned 32-bit word within its 64-bit word.
fn word_of(addr: VirtAddr) -> (u64, u32) {
    assert!(addr.get().is_multiple_of(4), "the caller checks alignment");
    let shift = (addr.get() as u32 & 4) * 8;
    (0xffff_ffff << shift, shift)
}

/// The piece of a copy of `total` bytes at `addr` that comes after `done` bytes and lies in one
/// page; `None` at the end, or where addresses end.
fn next_chunk(addr: VirtAddr, done: usize, total: usize) -> Option<(VirtAddr, usize)> {
    if done == total {
        return None;
    }
    let va = addr.checked_add(done as u64)?;
    let room = (PAGE_SIZE - va.page_offset()) as usize;
    Some((va, room.min(total - done)))
}

fn chunk(addr: VirtAddr, done: usize, total: usize) -> Result<(VirtAddr, usize), Fault> {
    next_chunk(addr, done, total).ok_or(Fault::Segv(SegvCode::MapErr))
}
