//! The merged system call table.

use crate::syscall::Support;
use crate::syscall::names::NAMES;
use crate::syscall::{
    Entry, fs, futex, ids, memory, pidfd, posix_timers, process, sched, shm, signal, system, time,
    unshare,
};
use std::sync::LazyLock;

/// One more than the highest number of any call.
const NUMBERS: usize = 512;

/// The tables of all modules.
fn all() -> impl Iterator<Item = &'static Entry> {
    let own = [
        futex::TABLE,
        ids::TABLE,
        memory::TABLE,
        pidfd::TABLE,
        posix_timers::TABLE,
        process::TABLE,
        sched::TABLE,
        shm::TABLE,
        signal::TABLE,
        system::TABLE,
        time::TABLE,
        unshare::TABLE,
    ];
    own.into_iter().chain(fs::TABLES.iter().copied()).flatten()
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

/// A system call of riscv64 Linux and how much of it there is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SystemCall {
    /// Number in a7.
    pub number: u16,
    /// Linux's name.
    pub name: &'static str,
    /// `None`: it answers ENOSYS.
    pub support: Option<Support>,
}

/// All system calls of riscv64 Linux 6.18, by number.
pub fn system_calls() -> impl Iterator<Item = SystemCall> {
    NAMES.iter().map(|(number, name)| {
        let entry = lookup(u64::from(*number));
        let name = entry.map_or(*name, |entry| entry.name);
        SystemCall { number: *number, name, support: entry.map(|entry| entry.support) }
    })
}

/// Linux's name of call `number`; `None` when riscv64 has no such call.
pub(crate) fn name(number: u64) -> Option<&'static str> {
    let number = u16::try_from(number).ok()?;
    let at = NAMES.binary_search_by_key(&number, |(number, _)| *number).ok()?;
    Some(NAMES[at].1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_implemented_call_has_linux_s_number_for_its_name() {
        for entry in all() {
            assert_eq!(name(entry.number.into()), Some(entry.name));
        }
        assert!(NAMES.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }

    #[test]
    fn a_number_far_outside_is_no_call() {
        assert!(lookup(u64::MAX).is_none());
        assert!(lookup(511).is_none() && name(511).is_none());
    }
}
