//! Handlers that do several operations at once.

use crate::block::Part;

/// Replaces handlers by those that do several operations.
pub(crate) fn fuse(_parts: &mut [Part]) {}
