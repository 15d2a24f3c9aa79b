//! The second half of FUTEX_WAKE_OP: an operation on a word, and a question about what it was.

use crate::host::Mm;
use crate::task::Task;
use kilburn_addr::{Errno, VirtAddr};

/// What FUTEX_WAKE_OP does to the second word, and which old values wake.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct WakeOp(pub(crate) u32);

impl WakeOp {
    fn argument(self) -> u32 {
        // 12 bits, signed.
        let arg = (((self.0 >> 12 & 0xfff) << 20) as i32 >> 20) as u32;
        if self.0 >> 28 & 8 != 0 { 1_u32.wrapping_shl(arg & 31) } else { arg }
    }

    /// The new value of the word; `None` for an operation there is not.
    fn apply(self, old: u32) -> Option<u32> {
        let arg = self.argument();
        Some(match self.0 >> 28 & 7 {
            0 => arg,
            1 => old.wrapping_add(arg),
            2 => old | arg,
            3 => old & !arg,
            4 => old ^ arg,
            _ => return None,
        })
    }

    fn matches(self, old: u32) -> Option<bool> {
        let (old, arg) = (old as i32, ((self.0 & 0xfff) << 20) as i32 >> 20);
        Some(match self.0 >> 24 & 0xf {
            0 => old == arg,
            1 => old != arg,
            2 => old < arg,
            3 => old <= arg,
            4 => old > arg,
            5 => old >= arg,
            _ => return None,
        })
    }

    /// Changes the word and says whether its old value wakes.
    ///
    /// # Errors
    /// ENOSYS for an unknown operation or comparison, EFAULT.
    pub(crate) fn perform(self, mm: &Mm, task: &Task, addr: VirtAddr) -> Result<bool, Errno> {
        let caller = task.caller();
        let mut old = mm.load_u32(&caller, addr).map_err(|_| Errno::EFAULT)?;
        loop {
            let new = self.apply(old).ok_or(Errno::ENOSYS)?;
            let found =
                mm.compare_exchange_u32(&caller, addr, old, new).map_err(|_| Errno::EFAULT)?;
            if found == old {
                return self.matches(old).ok_or(Errno::ENOSYS);
            }
            old = found;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wake_op_decodes_operation_comparison_and_signed_arguments() {
        // FUTEX_OP(FUTEX_OP_ADD, -1, FUTEX_OP_CMP_GT, 1): glibc's condition variables used it.
        let op = WakeOp(1 << 28 | 4 << 24 | 0xfff << 12 | 1);
        assert_eq!(op.apply(5), Some(4));
        assert_eq!(op.matches(2), Some(true));
        assert_eq!(op.matches(1), Some(false));
        // Shifted argument: OR with 1 << 5.
        let op = WakeOp((8 | 2) << 28 | 5 << 12);
        assert_eq!(op.apply(1), Some(33));
        assert_eq!(WakeOp(7 << 28).apply(0), None);
        assert_eq!(WakeOp(9 << 24).matches(0), None);
    }
}
