//! Who may write to a file that is executed, and execute one that is written (Linux
//! include/linux/fs.h: `get_write_access`, `deny_write_access`).
//!
//! [`Writers`] counts, for each inode, open files that may write ([`WriteAccess`]) or programs
//! that run from it ([`DenyWrite`]); never both. Each guard gives its count back when dropped.

use kilburn_addr::Errno;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

/// An inode: device, number.
pub(crate) type InodeKey = (u64, u64);

/// Counts by inode: above 0 writers, below 0 programs.
type Counts = Rc<RefCell<BTreeMap<InodeKey, i64>>>;

/// All inodes that are open for writing or executed.
#[derive(Clone, Default)]
pub(crate) struct Writers(Counts);

/// One open file that may write.
pub(crate) struct WriteAccess {
    _guard: Guard,
}

/// One program that runs.
pub(crate) struct DenyWrite {
    _guard: Guard,
}

struct Guard {
    counts: Counts,
    key: InodeKey,
    step: i64,
}

impl Guard {
    fn take(writers: &Writers, key: InodeKey, step: i64) -> Result<Self, Errno> {
        let mut counts = writers.0.borrow_mut();
        let count = counts.entry(key).or_default();
        if *count * step < 0 {
            return Err(Errno::ETXTBSY);
        }
        *count += step;
        Ok(Self { counts: Rc::clone(&writers.0), key, step })
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let mut counts = self.counts.borrow_mut();
        if let Some(count) = counts.get_mut(&self.key) {
            *count -= self.step;
            if *count == 0 {
                counts.remove(&self.key);
            }
        }
    }
}

impl Writers {
    /// Writing starts.
    ///
    /// # Errors
    /// ETXTBSY while it is executed.
    pub(crate) fn allow(&self, key: InodeKey) -> Result<WriteAccess, Errno> {
        Guard::take(self, key, 1).map(|guard| WriteAccess { _guard: guard })
    }

    /// Execution starts.
    ///
    /// # Errors
    /// ETXTBSY while somebody has it open for writing.
    pub(crate) fn deny(&self, key: InodeKey) -> Result<DenyWrite, Errno> {
        Guard::take(self, key, -1).map(|guard| DenyWrite { _guard: guard })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writers_and_programs_exclude_each_other_until_the_last_one_is_gone() {
        let writers = Writers::default();
        let key = (1, 2);
        let (a, b) = (writers.allow(key).expect("free"), writers.allow(key).expect("shared"));
        assert_eq!(writers.deny(key).err(), Some(Errno::ETXTBSY));
        assert!(writers.deny((1, 3)).is_ok(), "another inode");
        drop(a);
        assert!(writers.deny(key).is_err());
        drop(b);
        let program = writers.deny(key).expect("free");
        assert_eq!(writers.allow(key).err(), Some(Errno::ETXTBSY));
        drop(program);
        assert!(writers.allow(key).is_ok() && writers.0.borrow().is_empty());
    }
}
