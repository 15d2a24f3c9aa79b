//! Loads and stores that may fault.
//!
//! Each is a function of one instruction that may fault and a return. The signal handler knows
//! the three addresses: it notes what happened and continues at a fourth, which returns as well.
//! A fault anywhere else ends the process.

use libc::{c_int, c_void, siginfo_t, ucontext_t};
use std::arch::global_asm;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering::SeqCst};

global_asm!(
    ".globl kilburn_probe_load",
    "kilburn_probe_load:",
    "movzx eax, byte ptr [rdi]",
    "ret",
    ".globl kilburn_probe_load8",
    "kilburn_probe_load8:",
    "mov rax, qword ptr [rdi]",
    "ret",
    ".globl kilburn_probe_store",
    "kilburn_probe_store:",
    "mov byte ptr [rdi], sil",
    "xor eax, eax",
    "ret",
    ".globl kilburn_probe_faulted",
    "kilburn_probe_faulted:",
    "xor eax, eax",
    "ret",
);

unsafe extern "C" {
    fn kilburn_probe_load(addr: u64) -> u64;
    fn kilburn_probe_load8(addr: u64) -> u64;
    fn kilburn_probe_store(addr: u64, value: u64) -> u64;
    fn kilburn_probe_faulted() -> u64;
}

/// A signal that an access raised.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Raised {
    pub(super) signo: i32,
    pub(super) code: i32,
    pub(super) addr: u64,
}

static SIGNO: AtomicI32 = AtomicI32::new(0);
static CODE: AtomicI32 = AtomicI32::new(0);
static ADDR: AtomicU64 = AtomicU64::new(0);

/// Exit status of a process that faulted where it should not.
pub(super) const STRAY_FAULT: i32 = 97;

extern "C" fn handler(signo: c_int, info: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel calls this with pointers to a siginfo_t and a ucontext_t that are valid
    // until it returns (SA_SIGINFO).
    let (code, addr, rip) = unsafe {
        let context = context.cast::<ucontext_t>();
        let rip = &mut (*context).uc_mcontext.gregs[libc::REG_RIP as usize];
        ((*info).si_code, (*info).si_addr() as u64, rip)
    };
    let probes: [*const (); 3] = [
        kilburn_probe_load as *const (),
        kilburn_probe_load8 as *const (),
        kilburn_probe_store as *const (),
    ];
    if !probes.contains(&(*rip as *const ())) {
        // SAFETY: _exit has no preconditions.
        unsafe { libc::_exit(STRAY_FAULT) };
    }
    CODE.store(code, SeqCst);
    ADDR.store(addr, SeqCst);
    SIGNO.store(signo, SeqCst);
    *rip = kilburn_probe_faulted as *const () as i64;
}

/// Makes faults of probes survivable in this process and its children.
pub(super) fn install() -> Result<(), i32> {
    // SAFETY: an all-zero sigaction is valid; the handler only touches atomics and the context it
    // is given; sigaction reads the structure and keeps no reference.
    let failed = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_NODEFER;
        libc::sigaction(libc::SIGSEGV, &action, std::ptr::null_mut()) != 0
            || libc::sigaction(libc::SIGBUS, &action, std::ptr::null_mut()) != 0
    };
    if failed { Err(super::sys::last_errno()) } else { Ok(()) }
}

fn outcome(value: u64) -> Result<u64, Raised> {
    match SIGNO.swap(0, SeqCst) {
        0 => Ok(value),
        signo => Err(Raised { signo, code: CODE.load(SeqCst), addr: ADDR.load(SeqCst) }),
    }
}

/// Loads the byte at `addr`, whatever is there.
pub(super) fn load(addr: u64) -> Result<u64, Raised> {
    // SAFETY: the instruction at the function's start either loads or faults, and a fault is
    // survived by the handler; nothing in this process is named by addresses of the window.
    outcome(unsafe { kilburn_probe_load(addr) })
}

/// Loads the 8 bytes at `addr`.
pub(super) fn load8(addr: u64) -> Result<u64, Raised> {
    // SAFETY: as in `load`.
    outcome(unsafe { kilburn_probe_load8(addr) })
}

/// Stores a byte at `addr`, which lies in or near the window.
pub(super) fn store(addr: u64, value: u64) -> Result<u64, Raised> {
    // SAFETY: as in `load`; what a store changes belongs to no object of this process, because
    // only the case's own areas are writable there.
    outcome(unsafe { kilburn_probe_store(addr, value) })
}
