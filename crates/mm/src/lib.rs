//! The memory manager: address spaces, areas, faults, copy-on-write, page cache, accounting.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod accounting;
pub mod anon_vma;
pub mod areas;
pub mod caller;
pub mod check;
mod commit;
pub mod config;
pub mod exec;
pub mod fault;
mod fork;
pub mod frames;
pub mod host;
mod ids;
pub mod layout;
pub mod mappable;
pub mod memory;
pub mod mm;
pub mod ops;
pub mod page_cache;
pub mod policy;
pub mod procfs;
mod pte;
mod rmap;
mod shared_anon;
pub mod stats;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod user;
mod zap;

pub use anon_vma::AnonVma;
pub use areas::{Areas, Vma, VmaName};
pub use caller::{Caller, Rlimits};
pub use check::Violation;
pub use config::{MemoryConfig, MemoryError, Overcommit};
pub use exec::{ExecLayout, StackExec};
pub use fault::{Fault, FaultDone, FaultKind, SegvCode};
pub use host::{FlushReason, FlushScope, Host, TlbFlush};
pub use layout::{Direction, Layout};
pub use mappable::{DeviceFault, FileIdentity, Mappable, MappedFile};
pub use memory::{Memory, MemoryCounts};
pub use mm::Mm;
pub use ops::mmap::{FileForMap, MmapRequest};
pub use page_cache::{AddressSpace, BackingStore};
pub use procfs::{MmStatus, Statm, Usage};
pub use stats::MmStats;
pub use user::{FutexKey, FutexScope, Partial, RemoteRights};
