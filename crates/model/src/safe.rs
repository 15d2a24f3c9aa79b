//! Which calls may be made in the oracle's child without tearing it down.
//!
//! Outside the window everything is occupied by sealed areas, so a call may reach a little way out
//! and shows how Linux refuses. What would reach the child's own code and stack is only made when
//! its arguments are refused before any area is looked at.

use crate::call::{Call, Kind, REMOTE_BYTES, RLIMIT_AS, RLIMIT_DATA, RLIMIT_MEMLOCK, RLIMIT_STACK};
use crate::case::Window;
use kilburn_addr::{PAGE_MASK, PAGE_SIZE};

/// How far a call may reach out of the window, in pages.
const SPILL_PAGES: u64 = 16;
/// `TASK_SIZE` of x86-64 with four levels.
pub const TASK_SIZE: u64 = (1 << 47) - PAGE_SIZE;

const MAP_FIXED: u64 = 0x10;
const MAP_FIXED_NOREPLACE: u64 = 0x10_0000;
const MAP_HUGETLB: u64 = 0x4_0000;
const MREMAP_FIXED: u64 = 2;

/// Whether `call` can do no harm outside `window`.
pub fn is_safe(call: &Call, window: Window) -> bool {
    let [a, b, c, d, e, _] = call.args;
    match call.kind {
        Kind::Mmap => {
            let fixed = d & (MAP_FIXED | MAP_FIXED_NOREPLACE) != 0;
            // Huge pages are neither set aside nor compared.
            d & MAP_HUGETLB == 0 && (!fixed || b == 0 || near(window, a, b) || misses(a, b))
        }
        Kind::Munmap | Kind::Mprotect => near(window, a, b) || refused(a, b),
        Kind::Mremap => {
            let fixed = d & MREMAP_FIXED != 0;
            let old = near(window, a, b.max(PAGE_SIZE)) || refused(a, b);
            old && (!fixed || near(window, e, c) || misses(e, c))
        }
        Kind::Madvise
        | Kind::Msync
        | Kind::Mincore
        | Kind::Mlock
        | Kind::Mlock2
        | Kind::Munlock
        | Kind::Mseal
        | Kind::RemapFilePages => within(window, a, b) || finds_nothing(a, b),
        Kind::Read | Kind::Write => near(window, a, 1),
        Kind::Sum => b <= window.pages && near(window, a, b * PAGE_SIZE),
        Kind::Truncate | Kind::FileWrite | Kind::FileRead => b < 1 << 24,
        Kind::RemoteRead | Kind::RemoteWrite => {
            let near = within(window, b, c) || finds_nothing(b, c) || near(window, b, c);
            c <= REMOTE_BYTES && near
        }
        Kind::Rlimit => {
            // A limit below what the heap's own check looks at would depend on the program.
            match a {
                RLIMIT_AS | RLIMIT_DATA => b >= 16 * PAGE_SIZE,
                RLIMIT_STACK | RLIMIT_MEMLOCK => true,
                _ => false,
            }
        }
        Kind::DropIpcLock
        | Kind::Brk
        | Kind::Mlockall
        | Kind::Munlockall
        | Kind::Fork
        | Kind::Exit => true,
    }
}

fn within(window: Window, addr: u64, len: u64) -> bool {
    window.start <= addr && len <= window.end() - window.start && addr <= window.end() - len
}

fn near(window: Window, addr: u64, len: u64) -> bool {
    let spill = SPILL_PAGES * PAGE_SIZE;
    let Some(end) = addr.checked_add(len) else { return false };
    window.start - spill <= addr && end <= window.end() + spill
}

/// Whether Linux refuses the range before it looks at areas: unaligned, wrapping or too high.
fn refused(addr: u64, len: u64) -> bool {
    addr & !PAGE_MASK != 0 || misses(addr, len)
}

/// Whether no area can be in the range, or Linux refuses it before it looks. A range that starts
/// in the window and ends too high would first be applied to what lies between.
fn finds_nothing(addr: u64, len: u64) -> bool {
    addr >= TASK_SIZE || addr.checked_add(len).is_none()
}

/// Whether the range wraps or ends above `TASK_SIZE`.
fn misses(addr: u64, len: u64) -> bool {
    let Some(len) = len.checked_next_multiple_of(PAGE_SIZE) else { return true };
    addr > TASK_SIZE || len > TASK_SIZE || addr > TASK_SIZE - len
}
