//! The work: one file a part of the library.

pub mod areas;
pub mod calls;
pub mod faults;
pub mod frames;
pub mod tables;
pub mod threads;

use crate::Row;

/// Every row, in the order of docs/performance.md.
pub fn all() -> Vec<Row> {
    [areas::rows(), calls::rows(), faults::rows(), frames::rows(), tables::rows()]
        .into_iter()
        .flatten()
        .collect()
}
