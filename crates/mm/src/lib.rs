//! The memory manager: address spaces, areas, faults, copy-on-write, page cache, accounting.
//!
//! Linux's process memory as a library, for any [`Host`] that supplies frames, a page-table format
//! and locks. [`Memory`] is the machine's memory, [`Mm`] one address space, [`AddressSpace`] the
//! page cache of one file. The hardware side, TLBs and translation, is somebody else's: a host is
//! told what to flush. [`guide`] is a tour of all this, from a host to threads.
//!
//! ```
//! # use kilburn_mm::testing::TestHost;
//! use kilburn_addr::Prot;
//! use kilburn_mm::{Caller, MmapRequest};
//!
//! # let memory = TestHost::memory(64);
//! # let parent = TestHost::mm(&memory);
//! let at = parent.mmap(&Caller::USER, MmapRequest::anonymous(4096).prot(Prot::READ | Prot::WRITE))?;
//! parent.write(&Caller::USER, at, b"before fork").expect("mapped writable");
//! let child = parent.fork(&Caller::USER)?;
//! assert_eq!(memory.counts().anon, 1, "one frame, shared until one of them writes");
//! # Ok::<(), kilburn_addr::Errno>(())
//! ```
//!
//! ```text
//!   system calls  ops/        fault/   faults        procfs/  the text of /proc
//!                    \          |                     /
//!   plans       areas/   Mm (mm.rs, table_changes.rs, zap.rs, fork.rs, exec.rs, user.rs)   <- check.rs
//!                           |            \
//!   ways back        rmap.rs, anon_vma.rs  page_cache/    files and shared memory
//!                                \        /
//!   frames                   memory.rs, frames/, commit.rs
//! ```
//!
//! A call plans first, which can fail and changes nothing, then commits, which cannot fail. Three
//! kinds of failure stay apart: an [`kilburn_addr::Errno`] for who asked wrongly, a [`Fault`] that
//! becomes a signal, and an assertion for a mistake in here.
//!
//! # Lock order
//!
//! A lock may be taken while those above it on its branch are held. Locks come from the host.
//!
//! ```text
//!   mmap_lock              Mm::state; shared for faults, exclusive for changes of areas.
//!     |                    fork: the parent's, then the child's, which nobody else knows yet
//!   lease                  Leases::slots: what mmap_lock is, for a region threads contend for. Who
//!     |                    has mmap_lock takes it to recall it; who has it never takes mmap_lock
//!     invalidate           AddressSpace::invalidate; shared from looking a page up until a table
//!       |                  maps it, exclusive for truncation
//!       i_mmap             AddressSpace::i_mmap: the areas that map a file
//!       | anon_vma areas   AnonVma::areas: the areas whose pages belong to it
//!       |/
//!       page_table_lock    Mm::page_table_lock: making and freeing of tables
//!         |                A table is freed by who holds mmap_lock alone as well, so who holds that shared
//!         |                walks down to a leaf table without this lock. Who does not hold it (rmap,
//!         |                truncation, copies to and from user space) holds this one on the way
//!         leaf tables      Memory::table_locks: the entries of a leaf table, by a hash of address space and
//!         |                address. Of two tables (fork, moves of pages) in the order of the locks; one
//!         |                lock may be that of both
//!         |
//!         pages            AddressSpace::pages: the page tree. Nothing is allocated under it
//!         registry         Memory::mappings, Memory::asids, lazy_roots, the numbers of AnonVmas, of areas of
//!         |                swap, of address spaces in swap, and of groups. The last comes after `lru`
//!         |  userfaults    Mm::userfaults, then Userfaultfd::waiting
//!         swap slots       Active::slots: the swap map and cache of one area
//!         lru              Reclaim::lru: the policy. It asks for accessed bits: locks above are
//!         |                tried then, never waited for
//!         arrivals         Reclaim::arrivals
//!           |
//!           buddy          Frames::buddy; the magazines of single frames have no lock
//! ```
//!
//! A page is locked (a bit of its metadata) while it is evicted, or leaves the swap cache to stay. Nobody
//! waits for that: who does not get it leaves the page as it is.
//!
//! `Active::transfer`, held while a swap slot is read or written, is taken with no lock held that
//! comes after `invalidate`, and nothing is taken under it.
//!
//! Frame metadata, resident-page counts and promises are atomic. Hardware sets A and D bits beside
//! the locks of tables; whoever changes a live entry exchanges it, or clears it first.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod accounting;
#[doc(hidden)] // no promise: who owns anonymous pages: for the crate itself
pub mod anon_vma;
#[doc(hidden)] // no promise: the tree of areas: for the crate itself, its tests and benchmarks
pub mod areas;
pub mod caller;
pub mod check;
mod commit;
pub mod config;
pub mod core_dump;
mod event_counts;
pub mod exec;
pub mod fault;
mod fork;
#[doc(hidden)] // no promise: the allocator of frames: for the crate itself and its benchmarks
pub mod frames;
pub mod guide;
pub mod host;
mod ids;
pub mod layout;
mod lease;
pub mod mappable;
pub mod memcg;
pub mod memory;
pub mod mm;
pub mod ops;
pub mod page_cache;
mod percpu;
pub mod pgd;
pub mod policy;
pub mod procfs;
mod pte;
pub mod ram;
pub mod reclaim;
mod rmap;
mod shared_anon;
pub mod stats;
pub mod swap;
mod sysctl;
mod table_changes;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod user;
pub mod userfault;
mod zap;

#[doc(hidden)]
pub use anon_vma::AnonVma;
#[doc(hidden)]
pub use areas::{Areas, Vma, VmaExtra, VmaName, VmaRef};
pub use caller::{Caller, Rlimits};
pub use check::Violation;
pub use config::{MemoryConfig, MemoryError, Overcommit};
pub use core_dump::{DumpArea, DumpExtent, DumpFilter};
pub use exec::{ExecLayout, StackExec};
pub use fault::{Fault, FaultDone, FaultKind, SegvCode};
pub use host::{FlushReason, FlushScope, Host, TlbFlush};
pub use layout::{Arch, Direction, Layout};
pub use mappable::{DeviceFault, FileIdentity, Mappable, MappedFile};
pub use memcg::counter::PageCounter;
pub use memcg::stat::MemcgPages;
pub use memcg::{Memcg, MemcgEvent, MemcgId, MemcgVmStat};
pub use memory::{Memory, MemoryCounts};
pub use mm::Mm;
pub use ops::mmap::{FileForMap, MmapRequest};
pub use ops::process_madvise::Advised;
pub use ops::shm::{Occupied, Reserve};
pub use page_cache::{AddressSpace, BackingStore, DirtyLimits, ErrorCursor};
pub use pgd::Pgd;
pub use procfs::{ClearRefs, MmStatus, ShowFrames, Statm, Usage};
pub use ram::BoxedRam;
pub use reclaim::{LruCounts, VmStat, Watermarks};
pub use rmap::snapshot::{AnonRmap, FileRmap, Mapped, RmapAnon, RmapArea, RmapPage};
pub use stats::MmStats;
pub use swap::areas::SwapAreaStatus;
pub use swap::{IoWait, SwapArea};
pub use sysctl::Sysctl;
pub use user::{FutexKey, FutexScope, Partial, RemoteRights};
pub use userfault::{UserfaultWait, UserfaultWatch, Userfaultfd};
