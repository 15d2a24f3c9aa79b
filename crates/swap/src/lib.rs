//! Where swapped pages are kept: the areas behind `kilburn_mm::SwapArea`.
//!
//! - [`Compressed`]: memory of the host's, compressed with lz4 or zstd; pages of one repeated word
//!   take none (Linux zram).
//! - [`FileArea`]: a file of the host's.
//! - [`StoreArea`]: a file of an embedder's file system.
//! - [`RemoteArea`]: objects in a store reached by a URL (feature `remote`).
//! - [`Encrypted`]: any area, enciphered and authenticated at rest.
//! - [`Checked`]: any area, whose content is compared with a checksum when it is read.
//! - [`Injected`]: any area, with faults drawn from a seed: errors, short and torn writes, delays, a
//!   store that goes away.
//!
//! [`AreaSpec`] reads what a user writes (`zstd:256M,prio=10`) and puts them together:
//!
//! ```text
//!   Memory --> Checked --> Injected --> Encrypted --> FileArea | RemoteArea | Compressed
//!   Memory --> Checked --> Injected --> StoreArea
//! ```
//!
//! What a store spoils is found out above it, so that a guest sees an error rather than wrong
//! bytes.
#![forbid(unsafe_code)]

mod checked;
mod compressed;
mod encrypted;
mod file;
mod inject;
#[cfg(feature = "remote")]
mod remote;
mod spec;

pub use checked::Checked;
pub use compressed::{Compressed, CompressedStats, Compression};
pub use encrypted::Encrypted;
pub use file::{FileArea, StoreArea};
pub use inject::{Faults, Inject, InjectError, Injected, WriteFault};
#[cfg(feature = "remote")]
pub use remote::{RemoteArea, RemoteError};
pub use spec::{AreaKind, AreaSpec, OpenError, SpecError, checked};

/// Bytes of a page.
pub(crate) const PAGE: usize = 4096;
