//! The work: one file a part.

pub mod areas;
pub mod calls;
pub mod faults;
pub mod frames;
pub(crate) mod hart;
mod kernel;
pub mod memory;
pub(crate) mod policies;
pub(crate) mod sim;
pub(crate) mod swap;
pub mod tables;
pub mod threads;

use crate::Row;

/// Every row of functions of the library, for criterion.
pub fn all() -> Vec<Row> {
    [areas::rows(), calls::rows(), faults::rows(), frames::rows(), tables::rows()]
        .into_iter()
        .flatten()
        .collect()
}
