//! The ioctls of a userfaultfd, taken apart (Linux 6.18 fs/userfaultfd.c: `userfaultfd_ioctl`;
//! structures as in include/uapi/linux/userfaultfd.h, all of 64-bit words).

use super::relocate::Holes;
use super::{API, FillMode, Userfaultfd};
use crate::{Caller, Host, Mm};
use alloc::sync::Arc;
use kilburn_addr::{AddrRange, Errno, PAGE_MASK, VirtAddr};

/// `UFFD_API_IOCTLS`: REGISTER, UNREGISTER, API.
pub(super) const API_IOCTLS: u64 = 1 << 63 | 0b11;

/// `_IOC` of type 0xaa with a number and so many 64-bit words.
const fn number(direction: u32, nr: u32, words: u32) -> u32 {
    (direction << 30) | ((words * 8) << 16) | (0xaa << 8) | nr
}

const READ: u32 = 2;
const READ_WRITE: u32 = 3;

const UFFDIO_API: u32 = number(READ_WRITE, 0x3f, 3);
const UFFDIO_REGISTER: u32 = number(READ_WRITE, 0, 4);
const UFFDIO_UNREGISTER: u32 = number(READ, 1, 2);
const UFFDIO_WAKE: u32 = number(READ, 2, 2);
const UFFDIO_COPY: u32 = number(READ_WRITE, 3, 5);
const UFFDIO_ZEROPAGE: u32 = number(READ_WRITE, 4, 4);
const UFFDIO_MOVE: u32 = number(READ_WRITE, 5, 5);
const UFFDIO_WRITEPROTECT: u32 = number(READ_WRITE, 6, 3);
const UFFDIO_CONTINUE: u32 = number(READ_WRITE, 7, 4);
const UFFDIO_POISON: u32 = number(READ_WRITE, 8, 4);

const DONTWAKE: u64 = 1;
/// `UFFDIO_COPY_MODE_WP`, `UFFDIO_CONTINUE_MODE_WP`
const WITH_WP: u64 = 2;
const ALLOW_SRC_HOLES: u64 = 2;
const MODE_WP: u64 = 1;
const WP_DONTWAKE: u64 = 2;

/// A task's memory, where the arguments are.
struct User<'a, H: Host> {
    mm: &'a Mm<H>,
    caller: &'a Caller,
    arg: VirtAddr,
}

impl<H: Host> User<'_, H> {
    fn get<const WORDS: usize>(&self) -> Result<[u64; WORDS], Errno> {
        let mut bytes = [0; 40];
        let bytes = &mut bytes[..WORDS * 8];
        self.mm.read(self.caller, self.arg, bytes).map_err(|_| Errno::EFAULT)?;
        let mut words = [0; WORDS];
        for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(8)) {
            *word = u64::from_le_bytes(bytes.try_into().expect("8 bytes"));
        }
        Ok(words)
    }

    fn put(&self, word: u64, value: u64) -> Result<(), Errno> {
        let at = self.arg.checked_add(word * 8).ok_or(Errno::EFAULT)?;
        self.mm.write(self.caller, at, &value.to_le_bytes()).map_err(|_| Errno::EFAULT)
    }

    /// Tells how much was done, and what follows from it: all of it, a part (`EAGAIN`), nothing.
    fn report(&self, word: u64, asked: u64, done: Result<u64, Errno>) -> Result<(), Errno> {
        let shown = match done {
            Ok(bytes) => bytes,
            Err(errno) => (-i64::from(errno.number())) as u64,
        };
        self.put(word, shown)?;
        if done? == asked { Ok(()) } else { Err(Errno::EAGAIN) }
    }
}

fn fill_mode(mode: u64) -> FillMode {
    if mode & DONTWAKE != 0 { FillMode::DontWake } else { FillMode::Wake }
}

impl<H: Host> Userfaultfd<H> {
    /// ioctl(2) on the descriptor, by a task whose memory is `current`.
    ///
    /// # Errors
    /// As `ioctl_userfaultfd`(2).
    pub fn ioctl(
        self: &Arc<Self>,
        current: &Mm<H>,
        caller: &Caller,
        request: u32,
        arg: VirtAddr,
    ) -> Result<(), Errno> {
        let caller = &Caller { userfault_thread: None, ..*caller };
        let user = User { mm: current, caller, arg };
        if request == UFFDIO_API {
            return self.ioctl_api(&user);
        }
        if !self.is_enabled() {
            return Err(Errno::EINVAL);
        }
        match request {
            UFFDIO_REGISTER => {
                let [start, len, mode] = user.get()?;
                let ioctls = self.register(start, len, mode)?;
                user.put(3, ioctls)
            }
            UFFDIO_UNREGISTER => {
                let [start, len] = user.get()?;
                self.unregister(start, len)
            }
            UFFDIO_WAKE => {
                let [start, len] = user.get()?;
                self.wake(start, len)
            }
            UFFDIO_COPY => self.ioctl_copy(&user),
            UFFDIO_MOVE => self.ioctl_move(&user),
            UFFDIO_WRITEPROTECT => self.ioctl_writeprotect(&user),
            UFFDIO_ZEROPAGE | UFFDIO_CONTINUE | UFFDIO_POISON => self.ioctl_fill(&user, request),
            _ => Err(Errno::EINVAL),
        }
    }

    fn ioctl_api(&self, user: &User<'_, H>) -> Result<(), Errno> {
        let [api, features, _] = user.get()?;
        let answer = self.enable(api, features);
        let shown = match answer {
            Ok(all) => [API, all.bits(), API_IOCTLS],
            Err(_) => [0; 3],
        };
        for (word, value) in (0..).zip(shown) {
            user.put(word, value)?;
        }
        answer.map(|_| ())
    }

    fn ioctl_copy(&self, user: &User<'_, H>) -> Result<(), Errno> {
        let [to, from, len, mode] = user.get()?;
        let mm = self.mm.upgrade().ok_or(Errno::ESRCH)?;
        // validate_unaligned_range: where the source may start is left to reading it.
        if len & !PAGE_MASK != 0 || len == 0 || !mm.in_task(VirtAddr::new(from), len) {
            return Err(Errno::EINVAL);
        }
        mm.userfault_range(to, len)?;
        if mode & !(DONTWAKE | WITH_WP) != 0 {
            return Err(Errno::EINVAL);
        }
        let done = if mode & WITH_WP == 0 {
            self.copy(user.mm, user.caller, to, from, len, fill_mode(mode))
        } else {
            self.refuse_wp(to, len)
        };
        user.report(4, len, done)
    }

    /// No area is registered for write-protection, so no page can be filled protected.
    fn refuse_wp(&self, to: u64, len: u64) -> Result<u64, Errno> {
        let mm = self.mm.upgrade().ok_or(Errno::ESRCH)?;
        let range = mm.userfault_range(to, len)?;
        let state = mm.mmap_read_lock();
        let vma = state.areas.containing(range.start()).ok_or(Errno::ENOENT)?;
        let watched = vma.range.contains_range(range) && vma.userfault().is_some();
        Err(if watched { Errno::EINVAL } else { Errno::ENOENT })
    }

    fn ioctl_fill(&self, user: &User<'_, H>, request: u32) -> Result<(), Errno> {
        let [to, len, mode] = user.get()?;
        let mm = self.mm.upgrade().ok_or(Errno::ESRCH)?;
        mm.userfault_range(to, len)?;
        let known = if request == UFFDIO_CONTINUE { DONTWAKE | WITH_WP } else { DONTWAKE };
        if mode & !known != 0 {
            return Err(Errno::EINVAL);
        }
        let wake = fill_mode(mode);
        let done = match request {
            UFFDIO_CONTINUE if mode & WITH_WP != 0 => self.refuse_wp(to, len),
            UFFDIO_CONTINUE => self.resume(to, len, wake),
            UFFDIO_POISON => self.poison(to, len, wake),
            _ => self.zeropage(to, len, wake),
        };
        user.report(3, len, done)
    }

    fn ioctl_move(self: &Arc<Self>, user: &User<'_, H>) -> Result<(), Errno> {
        let [to, from, len, mode] = user.get()?;
        let mm = self.mm.upgrade().ok_or(Errno::ESRCH)?;
        if mm.id() != user.mm.id() {
            return Err(Errno::EINVAL);
        }
        let (target, source) = (mm.userfault_range(to, len)?, mm.userfault_range(from, len)?);
        if mode & !(DONTWAKE | ALLOW_SRC_HOLES) != 0 {
            return Err(Errno::EINVAL);
        }
        let holes = if mode & ALLOW_SRC_HOLES != 0 { Holes::Allowed } else { Holes::Refused };
        let done = self.relocate(target, source, holes, fill_mode(mode));
        user.report(4, len, done)
    }

    /// As where no area can be registered for write-protection: the range has none.
    fn ioctl_writeprotect(&self, user: &User<'_, H>) -> Result<(), Errno> {
        let [start, len, mode] = user.get()?;
        let mm = self.mm.upgrade().ok_or(Errno::ESRCH)?;
        let _: AddrRange = mm.userfault_range(start, len)?;
        let both = MODE_WP | WP_DONTWAKE;
        if mode & !both != 0 || mode & both == both {
            return Err(Errno::EINVAL);
        }
        Err(Errno::ENOENT)
    }
}
