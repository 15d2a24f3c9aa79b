//! Descriptors: small numbers for open files.
//!
//! [`FdTable`] is Linux's `files_struct`. A new descriptor is the lowest free one; limits are
//! passed in. The table is also the owner of POSIX record locks, which go when any descriptor of
//! the file is closed. Neighbours: [`crate::fs::file`], [`crate::fs::locks`].

use crate::fs::file::OpenFile;
use crate::fs::locks::{LockTable, Owner};
use bitflags::bitflags;
use kilburn_addr::Errno;
use std::cell::RefCell;
use std::rc::Rc;

/// A descriptor.
pub(crate) type Fd = i32;

/// Most descriptors a table can ever have (`fs.nr_open`).
pub(crate) const NR_OPEN: u64 = 1 << 20;

bitflags! {
    /// Properties of a descriptor, not of the file.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub(crate) struct FdFlags: u32 {
        /// Closed by exec (`FD_CLOEXEC`).
        const CLOEXEC = 1;
    }
}

struct Slot {
    file: Rc<OpenFile>,
    flags: FdFlags,
}

#[derive(Default)]
struct Slots {
    by_fd: Vec<Option<Slot>>,
    /// No free descriptor is lower.
    lowest_free: usize,
}

/// The open files of a process; shared by `CLONE_FILES`.
pub(crate) struct FdTable {
    slots: RefCell<Slots>,
    locks: Rc<LockTable>,
    owner: Owner,
}

impl FdTable {
    /// A table without descriptors.
    pub(crate) fn new(locks: &Rc<LockTable>) -> Rc<Self> {
        let owner = locks.new_owner();
        Rc::new(Self { slots: RefCell::default(), locks: Rc::clone(locks), owner })
    }

    /// A table of its own with the same open files (Linux `dup_fd`): fork.
    ///
    /// # Errors
    /// None today; ENOMEM is what Linux could answer.
    pub(crate) fn fork_copy(&self) -> Result<Rc<Self>, Errno> {
        let copy = Self::new(&self.locks);
        let slots = self.slots.borrow();
        let by_fd = slots.by_fd.iter().map(|slot| {
            slot.as_ref().map(|slot| Slot { file: Rc::clone(&slot.file), flags: slot.flags })
        });
        let lowest_free = slots.lowest_free;
        *copy.slots.borrow_mut() = Slots { by_fd: by_fd.collect(), lowest_free };
        Ok(copy)
    }

    /// Who holds this table's record locks.
    pub(crate) fn owner(&self) -> Owner {
        self.owner
    }

    /// The open file behind `fd`, `O_PATH` ones included.
    ///
    /// # Errors
    /// EBADF.
    pub(crate) fn get_any(&self, fd: Fd) -> Result<Rc<OpenFile>, Errno> {
        let slots = self.slots.borrow();
        let slot = usize::try_from(fd).ok().and_then(|at| slots.by_fd.get(at)?.as_ref());
        slot.map(|slot| Rc::clone(&slot.file)).ok_or(Errno::EBADF)
    }

    /// The open file behind `fd`, for I/O.
    ///
    /// # Errors
    /// EBADF, also for `O_PATH` files.
    pub(crate) fn get(&self, fd: Fd) -> Result<Rc<OpenFile>, Errno> {
        let file = self.get_any(fd)?;
        if file.is_path_only() { Err(Errno::EBADF) } else { Ok(file) }
    }

    /// Checks that a descriptor could be had below `limit` (`RLIMIT_NOFILE`).
    ///
    /// # Errors
    /// EMFILE.
    pub(crate) fn check_room(&self, limit: u64) -> Result<(), Errno> {
        if self.slots.borrow().free_from(0) < limit.min(NR_OPEN) {
            Ok(())
        } else {
            Err(Errno::EMFILE)
        }
    }

    /// Gives `file` the lowest free descriptor from `lowest` on.
    ///
    /// # Errors
    /// EMFILE when that would not be below `limit`.
    pub(crate) fn install_from(
        &self,
        lowest: u64,
        file: Rc<OpenFile>,
        flags: FdFlags,
        limit: u64,
    ) -> Result<Fd, Errno> {
        let mut slots = self.slots.borrow_mut();
        let at = slots.free_from(lowest);
        if at >= limit.min(NR_OPEN) {
            return Err(Errno::EMFILE);
        }
        slots.put(at as usize, Slot { file, flags });
        Ok(at as Fd)
    }

    /// Gives `file` the lowest free descriptor.
    ///
    /// # Errors
    /// EMFILE when that would not be below `limit`.
    pub(crate) fn install(
        &self,
        file: Rc<OpenFile>,
        flags: FdFlags,
        limit: u64,
    ) -> Result<Fd, Errno> {
        self.install_from(0, file, flags, limit)
    }

    /// Makes `fd` refer to `file`, closing what was there.
    ///
    /// # Errors
    /// EBADF when `fd` is not below `limit`.
    pub(crate) fn replace(
        &self,
        fd: Fd,
        file: Rc<OpenFile>,
        flags: FdFlags,
        limit: u64,
    ) -> Result<(), Errno> {
        let at = u64::try_from(fd).map_err(|_| Errno::EBADF)?;
        if at >= limit.min(NR_OPEN) {
            return Err(Errno::EBADF);
        }
        let old = self.slots.borrow_mut().put(at as usize, Slot { file, flags });
        if let Some(old) = old {
            // As Linux: an error of closing the old file has nowhere to go.
            let _ = self.finish(old);
        }
        Ok(())
    }

    /// Closes `fd`.
    ///
    /// # Errors
    /// EBADF; a late error of writing back, and the descriptor is closed all the same.
    pub(crate) fn close(&self, fd: Fd) -> Result<(), Errno> {
        let at = usize::try_from(fd).map_err(|_| Errno::EBADF)?;
        let slot = self.slots.borrow_mut().take(at).ok_or(Errno::EBADF)?;
        self.finish(slot)
    }

    fn finish(&self, slot: Slot) -> Result<(), Errno> {
        if slot.file.is_path_only() {
            return Ok(());
        }
        self.locks.close_by(self.owner, &slot.file);
        slot.file.ops().flush(&slot.file)
    }

    /// Flags of descriptor `fd`.
    ///
    /// # Errors
    /// EBADF.
    pub(crate) fn flags(&self, fd: Fd) -> Result<FdFlags, Errno> {
        let slots = self.slots.borrow();
        let slot = usize::try_from(fd).ok().and_then(|at| slots.by_fd.get(at)?.as_ref());
        slot.map(|slot| slot.flags).ok_or(Errno::EBADF)
    }

    /// Changes the flags of descriptor `fd`.
    ///
    /// # Errors
    /// EBADF.
    pub(crate) fn set_flags(&self, fd: Fd, flags: FdFlags) -> Result<(), Errno> {
        let mut slots = self.slots.borrow_mut();
        let slot = usize::try_from(fd).ok().and_then(|at| slots.by_fd.get_mut(at)?.as_mut());
        slot.ok_or(Errno::EBADF)?.flags = flags;
        Ok(())
    }

    /// Closes what is marked close-on-exec.
    pub(crate) fn close_on_exec(&self) {
        for (fd, flags) in self.open_fds() {
            if flags.contains(FdFlags::CLOEXEC) {
                let _ = self.close(fd);
            }
        }
    }

    /// All descriptors, ascending.
    pub(crate) fn open_fds(&self) -> Vec<(Fd, FdFlags)> {
        let slots = self.slots.borrow();
        let open = slots.by_fd.iter().enumerate();
        open.filter_map(|(at, slot)| Some((at as Fd, slot.as_ref()?.flags))).collect()
    }

    /// Size of the table as `/proc/PID/status` tells it (`FDSize`).
    pub(crate) fn size(&self) -> u64 {
        (self.slots.borrow().by_fd.len() as u64).max(64).next_power_of_two()
    }

    /// Closes everything; the last user of the table exits.
    fn close_all(&self) {
        let slots = std::mem::take(&mut *self.slots.borrow_mut());
        for slot in slots.by_fd.into_iter().flatten() {
            let _ = self.finish(slot);
        }
    }
}

impl Slots {
    fn free_from(&self, lowest: u64) -> u64 {
        let from = usize::try_from(lowest).unwrap_or(usize::MAX).max(self.lowest_free);
        let end = self.by_fd.len();
        if from >= end {
            return from as u64;
        }
        let free = self.by_fd[from..].iter().position(Option::is_none);
        free.map_or(end, |at| from + at) as u64
    }

    fn put(&mut self, at: usize, slot: Slot) -> Option<Slot> {
        if at >= self.by_fd.len() {
            self.by_fd.resize_with(at + 1, || None);
        }
        if at == self.lowest_free {
            let next = self.by_fd[at + 1..].iter().position(Option::is_none);
            self.lowest_free = next.map_or(self.by_fd.len(), |free| at + 1 + free);
        }
        self.by_fd[at].replace(slot)
    }

    fn take(&mut self, at: usize) -> Option<Slot> {
        let slot = self.by_fd.get_mut(at)?.take()?;
        self.lowest_free = self.lowest_free.min(at);
        Some(slot)
    }
}

impl Drop for FdTable {
    fn drop(&mut self) {
        self.close_all();
    }
}
