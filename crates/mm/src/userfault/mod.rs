//! userfaultfd: faults of a range are resolved by user space (Linux 6.18 fs/userfaultfd.c,
//! mm/userfaultfd.c).
//!
//! ```text
//!   task                           Userfaultfd                          monitor
//!   touches a page ------------->  a message, a waiting ticket  ----->  read_message
//!   Fault::Userfault(wait)
//!   the host parks the task                                             finds the page's content
//!                                  the page is mapped           <-----  copy, zeropage, ...
//!   tries the access again  <----  the ticket is over           <-----  (which also wakes)
//! ```
//!
//! Nothing here blocks: a fault that must wait answers [`Fault::Userfault`], and the embedder
//! parks the task until [`Mm::userfault_waits`] says no. [`UserfaultWatch`] tells it when to look.
//! [`Userfaultfd`] is the object behind the descriptor; `register` attaches it to areas, `fill`
//! and `relocate` resolve faults, `ioctl` takes the calls apart, `message` is what is read.
//!
//! What a kernel for riscv64 lacks is lacking: write-protection (`HAVE_ARCH_USERFAULTFD_WP`).
//! Its ioctl and mode bits answer as they do there.
//!
//! DIVERGENCE(userfaultfd-events): fork, remap, remove and unmap events are not sent, and their
//! feature bits are refused with EINVAL, as by a kernel that does not know them.
//!
//! DIVERGENCE(userfaultfd-populate): mlock, `MAP_POPULATE` and `MADV_POPULATE_*` do not wait for a
//! monitor: a page that only it can supply cannot be had, as with `UFFD_FEATURE_SIGBUS`. Nor do
//! the arguments and sources of a userfaultfd's own ioctls.

mod fault;
mod fill;
mod ioctl;
mod message;
mod register;
mod relocate;
#[cfg(test)]
mod tests;

pub use fault::UserfaultWait;
pub(crate) use fault::Waiter;
pub use fill::FillMode;
pub use message::{MESSAGE_BYTES, Message};

use crate::fault::Fault;
use crate::{Host, Mm};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::{Arc, Weak};
use bitflags::bitflags;
use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use kilburn_addr::{Errno, VirtAddr, VmFlags};
use lock_api::Mutex;

/// `UFFD_API`
pub const API: u64 = 0xaa;

const USER_MODE_ONLY: u32 = 1;
const CLOEXEC: u32 = 0o2_000_000;
const NONBLOCK: u32 = 0o4_000;

bitflags! {
    /// `UFFD_FEATURE_*` (include/uapi/linux/userfaultfd.h) that there are.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct Features: u64 {
        /// `UFFD_FEATURE_MISSING_HUGETLBFS`
        const MISSING_HUGETLBFS = 1 << 4;
        /// `UFFD_FEATURE_MISSING_SHMEM`
        const MISSING_SHMEM = 1 << 5;
        /// `UFFD_FEATURE_SIGBUS`: no messages, the faulting task gets a signal.
        const SIGBUS = 1 << 7;
        /// `UFFD_FEATURE_THREAD_ID`: messages name the thread.
        const THREAD_ID = 1 << 8;
        /// `UFFD_FEATURE_MINOR_HUGETLBFS`
        const MINOR_HUGETLBFS = 1 << 9;
        /// `UFFD_FEATURE_MINOR_SHMEM`
        const MINOR_SHMEM = 1 << 10;
        /// `UFFD_FEATURE_EXACT_ADDRESS`: messages name the address, not its page.
        const EXACT_ADDRESS = 1 << 11;
        /// `UFFD_FEATURE_POISON`
        const POISON = 1 << 14;
        /// `UFFD_FEATURE_MOVE`
        const MOVE = 1 << 16;
    }
}

/// Marks [`Userfaultfd::features`] as chosen (`UFFD_FEATURE_INITIALIZED`).
const INITIALIZED: u64 = 1 << 63;

/// Told of what a userfaultfd's users wait for. Called with no lock of the memory manager's held
/// but `mmap_lock`, shared; it may not call back.
pub trait UserfaultWatch: Send + Sync {
    /// There is a message to read.
    fn readable(&self);

    /// Some waits are over ([`Mm::userfault_waits`]).
    fn woken(&self);
}

/// The object behind a descriptor of userfaultfd(2) (Linux `struct userfaultfd_ctx`).
pub struct Userfaultfd<H: Host> {
    mm: Weak<Mm<H>>,
    id: u64,
    user_mode_only: bool,
    features: AtomicU64,
    released: AtomicBool,
    waiting: Mutex<H::RawMutex, Waiting>,
    watch: Box<dyn UserfaultWatch>,
}

/// Faults that wait, by ticket, which is also their order.
#[derive(Default)]
struct Waiting {
    next_ticket: u64,
    faults: BTreeMap<u64, WaitingFault>,
}

struct WaitingFault {
    message: Message,
    progress: Progress,
}

/// How far a waiting fault is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Progress {
    /// Its message was not read.
    Pending,
    /// It was.
    Read,
}

impl<H: Host> Userfaultfd<H> {
    /// A new object that watches `mm`, for userfaultfd(2) with `flags`. The caller has judged
    /// whether it may handle faults of the kernel (`vm.unprivileged_userfaultfd`,
    /// `CAP_SYS_PTRACE`).
    ///
    /// # Errors
    /// `EINVAL` for unknown flags.
    pub fn new(mm: &Mm<H>, flags: u32, watch: Box<dyn UserfaultWatch>) -> Result<Arc<Self>, Errno> {
        if flags & !(USER_MODE_ONLY | CLOEXEC | NONBLOCK) != 0 {
            return Err(Errno::EINVAL);
        }
        let mut watchers = mm.userfaults.lock();
        watchers.retain(|other| other.strong_count() > 0);
        let this = Arc::new(Self {
            mm: mm.weak(),
            id: mm.memory().next_mm_id(),
            user_mode_only: flags & USER_MODE_ONLY != 0,
            features: AtomicU64::new(0),
            released: AtomicBool::new(false),
            waiting: Mutex::new(Waiting::default()),
            watch,
        });
        watchers.push(Arc::downgrade(&this));
        Ok(this)
    }

    /// The handshake (`UFFDIO_API`): chooses `features`; answers all there are.
    ///
    /// # Errors
    /// `EINVAL` for another API, features that there are not, or the second time.
    pub fn enable(&self, api: u64, features: u64) -> Result<Features, Errno> {
        if api != API || Features::from_bits(features).is_none() {
            return Err(Errno::EINVAL);
        }
        let chosen = features | INITIALIZED;
        self.features
            .compare_exchange(0, chosen, Ordering::AcqRel, Ordering::Acquire)
            .map(|_| Features::all())
            .map_err(|_| Errno::EINVAL)
    }

    /// Whether the handshake was made; before it, nothing else is possible.
    pub fn is_enabled(&self) -> bool {
        self.features.load(Ordering::Acquire) & INITIALIZED != 0
    }

    /// The features chosen.
    pub fn features(&self) -> Features {
        Features::from_bits_truncate(self.features.load(Ordering::Acquire))
    }

    /// Takes the oldest message nobody read; `None` when there is none.
    pub fn read_message(&self) -> Option<Message> {
        let mut waiting = self.waiting.lock();
        let oldest = waiting.faults.values_mut().find(|fault| fault.progress == Progress::Pending);
        oldest.map(|fault| {
            fault.progress = Progress::Read;
            fault.message
        })
    }

    /// Whether there is a message to read.
    pub fn is_readable(&self) -> bool {
        self.waiting.lock().faults.values().any(|fault| fault.progress == Progress::Pending)
    }

    /// The lines of /proc/PID/fdinfo (`userfaultfd_show_fdinfo`).
    pub fn fdinfo(&self) -> String {
        let waiting = self.waiting.lock();
        let total = waiting.faults.len();
        let pending =
            waiting.faults.values().filter(|fault| fault.progress == Progress::Pending).count();
        let features = self.features.load(Ordering::Acquire) as u32;
        let ioctls = ioctl::API_IOCTLS | register::RANGE_IOCTLS;
        alloc::format!(
            "pending:\t{pending}\ntotal:\t{total}\nAPI:\t{API:x}:{features:x}:{ioctls:x}\n"
        )
    }

    /// Wakes whoever waits for an address in `len` bytes at `start`.
    fn wake_range(&self, start: VirtAddr, len: u64) {
        self.wake_where(|address| address.wrapping_sub(start.get()) < len);
    }

    fn wake_where(&self, hits: impl Fn(u64) -> bool) {
        let mut waiting = self.waiting.lock();
        let before = waiting.faults.len();
        waiting.faults.retain(|_, fault| !hits(fault.message.address));
        let woken = waiting.faults.len() < before;
        drop(waiting);
        if woken {
            self.watch.woken();
        }
    }

    /// The last descriptor was closed (`userfaultfd_release`): areas are nobody's again, everyone
    /// who waits goes on.
    pub fn release(self: &Arc<Self>) {
        self.released.store(true, Ordering::Release);
        if let Some(mm) = self.mm.upgrade() {
            mm.detach_userfault(self);
        }
        self.wake_where(|_| true);
    }
}

impl<H: Host> fmt::Debug for Userfaultfd<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Userfaultfd")
            .field("id", &self.id)
            .field("features", &self.features())
            .finish_non_exhaustive()
    }
}

/// Whether such an area can be watched in `mode` (`vma_can_userfault`).
fn can_watch<H: Host>(vma: crate::VmaRef<'_, H>, mode: VmFlags) -> bool {
    let shmem = vma.file.and_then(|file| file.mapping()).is_some_and(|m| m.is_shmem());
    !vma.flags.contains(VmFlags::DROPPABLE)
        && (shmem || vma.is_anonymous() && !mode.contains(VmFlags::UFFD_MINOR))
}
