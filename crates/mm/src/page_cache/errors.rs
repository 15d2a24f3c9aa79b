//! Failures of write-back, told once to every open file (Linux 6.18 lib/errseq.c,
//! mm/filemap.c: `file_check_and_advance_wb_err`).
//!
//! ```text
//!   sequence   | failures so far | seen by somebody | the latest error number |
//!   cursor     the sequence when its file last looked, or was opened
//! ```
//!
//! A file opened while nobody has seen the latest failure is told of it as well.

use super::AddressSpace;
use crate::Host;
use core::sync::atomic::{AtomicU32, Ordering};
use kilburn_addr::Errno;

const ERRNO_MASK: u32 = 0xfff;
/// Somebody was told: the next failure needs a number of its own.
const SEEN: u32 = 0x1000;
const STEP: u32 = 0x2000;

/// Which failures there were (Linux `errseq_t`).
#[derive(Default)]
pub(super) struct ErrorSequence(AtomicU32);

impl ErrorSequence {
    /// Another failure.
    pub(super) fn note(&self, errno: Errno) {
        let next = |old: u32| {
            let count = if old & SEEN != 0 { old.wrapping_add(STEP) } else { old };
            Some(count & !(ERRNO_MASK | SEEN) | u32::from(errno.number()) & ERRNO_MASK)
        };
        let _ = self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, next);
    }

    fn sample(&self) -> u32 {
        let now = self.0.load(Ordering::Acquire);
        // What nobody has seen, whoever comes next shall.
        if now & SEEN == 0 { 0 } else { now }
    }

    fn check(&self, cursor: &ErrorCursor) -> Result<(), Errno> {
        let now = self.0.load(Ordering::Acquire);
        if now == cursor.0.load(Ordering::Acquire) {
            return Ok(());
        }
        let seen = now | SEEN;
        // If a failure came in between it stays unseen, and is told next time.
        let _ = self.0.compare_exchange(now, seen, Ordering::AcqRel, Ordering::Acquire);
        cursor.0.store(seen, Ordering::Release);
        Err(Errno::from_number((now & ERRNO_MASK) as u16))
    }
}

/// What an open file has been told of failed write-back (Linux `file.f_wb_err`).
#[derive(Default, Debug)]
pub struct ErrorCursor(AtomicU32);

impl<H: Host> AddressSpace<H> {
    /// For a file that is being opened: it is told of failures from now on, and of those that
    /// nobody was told of yet (Linux `filemap_sample_wb_err`).
    pub fn error_cursor(&self) -> ErrorCursor {
        ErrorCursor(AtomicU32::new(self.errors.sample()))
    }

    /// Tells an open file of failed write-back: each failure once, the latest counts.
    ///
    /// # Errors
    /// That of the store.
    pub fn check_errors(&self, cursor: &ErrorCursor) -> Result<(), Errno> {
        self.errors.check(cursor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(errors: &ErrorSequence) -> ErrorCursor {
        ErrorCursor(AtomicU32::new(errors.sample()))
    }

    #[test]
    fn every_open_file_is_told_once() {
        let errors = ErrorSequence::default();
        let (a, b) = (opened(&errors), opened(&errors));
        assert_eq!(errors.check(&a), Ok(()));
        errors.note(Errno::EIO);
        assert_eq!((errors.check(&a), errors.check(&a)), (Err(Errno::EIO), Ok(())));
        assert_eq!((errors.check(&b), errors.check(&b)), (Err(Errno::EIO), Ok(())));
        errors.note(Errno::EIO);
        assert_eq!((errors.check(&a), errors.check(&b)), (Err(Errno::EIO), Err(Errno::EIO)));
    }

    #[test]
    fn the_latest_error_counts() {
        let errors = ErrorSequence::default();
        let a = opened(&errors);
        errors.note(Errno::EIO);
        errors.note(Errno::ENOSPC);
        assert_eq!((errors.check(&a), errors.check(&a)), (Err(Errno::ENOSPC), Ok(())));
    }

    #[test]
    fn who_opens_later_is_told_only_of_what_nobody_saw() {
        let errors = ErrorSequence::default();
        let a = opened(&errors);
        errors.note(Errno::EIO);
        let unseen = opened(&errors);
        assert_eq!(errors.check(&a), Err(Errno::EIO));
        let seen = opened(&errors);
        assert_eq!(errors.check(&seen), Ok(()));
        assert_eq!((errors.check(&unseen), errors.check(&unseen)), (Err(Errno::EIO), Ok(())));
    }
}
