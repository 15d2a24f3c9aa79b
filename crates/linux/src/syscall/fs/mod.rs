//! System calls on descriptors and paths.

use crate::syscall::Entry;

/// The calls implemented here.
pub(crate) const TABLES: &[&[Entry]] = &[];
