//! The merged system call table.

use crate::syscall::{Entry, fs};
use std::sync::LazyLock;

/// One more than the highest number of any call.
const NUMBERS: usize = 512;

/// The tables of all modules.
fn all() -> impl Iterator<Item = &'static Entry> {
    fs::TABLES.iter().copied().flatten()
}

static BY_NUMBER: LazyLock<Vec<Option<&'static Entry>>> = LazyLock::new(|| {
    let mut table: Vec<Option<&'static Entry>> = vec![None; NUMBERS];
    for entry in all() {
        let slot = &mut table[usize::from(entry.number)];
        assert!(slot.is_none(), "system call {} is defined twice", entry.number);
        *slot = Some(entry);
    }
    table
});

/// The implemented call with this number.
pub(crate) fn lookup(number: u64) -> Option<&'static Entry> {
    BY_NUMBER.get(usize::try_from(number).ok()?).copied().flatten()
}
