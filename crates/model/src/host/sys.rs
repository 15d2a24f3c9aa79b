//! The system calls the oracle makes, raw: errors are negative errnos.

use super::ring::Ring;
use std::ffi::CStr;
use std::sync::atomic::AtomicU32;

/// The number of the last error of a libc function.
pub(super) fn last_errno() -> i32 {
    std::io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

/// Makes a system call.
///
/// The caller answers for what the call does to memory of this process. All callers are in
/// `child` and in this file: they name addresses in the window, or pass memory they own.
pub(super) fn call(number: i64, args: [u64; 6]) -> i64 {
    let result: i64;
    // SAFETY: the instruction clobbers what is declared. System calls that change memory are made
    // for the window only (`safe::is_safe`), where nothing of this process lives.
    unsafe {
        std::arch::asm!(
            "syscall",
            inlateout("rax") number => result,
            in("rdi") args[0],
            in("rsi") args[1],
            in("rdx") args[2],
            in("r10") args[3],
            in("r8") args[4],
            in("r9") args[5],
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    result
}

/// Reads into `into` at `offset`; answers the count.
pub(super) fn pread(fd: i32, into: &mut [u8], offset: u64) -> i64 {
    let at = into.as_mut_ptr() as u64;
    call(libc::SYS_pread64, [fd as u64, at, into.len() as u64, offset, 0, 0])
}

/// Writes `from` at `offset`; answers the count.
pub(super) fn pwrite(fd: i32, from: &[u8], offset: u64) -> i64 {
    call(libc::SYS_pwrite64, [fd as u64, from.as_ptr() as u64, from.len() as u64, offset, 0, 0])
}

/// Opens a file to be read; a descriptor, or a negative errno.
pub(super) fn open(path: &CStr) -> i32 {
    let flags = (libc::O_RDONLY | libc::O_CLOEXEC) as u64;
    call(libc::SYS_openat, [libc::AT_FDCWD as u64, path.as_ptr() as u64, flags, 0, 0, 0]) as i32
}

/// Closes a descriptor.
pub(super) fn close(fd: i32) {
    call(libc::SYS_close, [fd as u64, 0, 0, 0, 0, 0]);
}

/// Makes an unnamed file in shared memory.
pub(super) fn memfd() -> i64 {
    call(libc::SYS_memfd_create, [c"kilburn".as_ptr() as u64, 0, 0, 0, 0, 0])
}

/// fork(2), without what libc does around it: 0 in the child.
pub(super) fn fork() -> i64 {
    call(libc::SYS_clone, [libc::SIGCHLD as u64, 0, 0, 0, 0, 0])
}

/// The number of this process.
pub(super) fn id() -> u32 {
    call(libc::SYS_getpid, [0; 6]) as u32
}

/// Ends this process.
pub(super) fn exit(status: i32) -> ! {
    call(libc::SYS_exit_group, [status as u64, 0, 0, 0, 0, 0]);
    unreachable!("exit_group does not return")
}

/// Waits for any child; answers its id and status, or a negative errno.
pub(super) fn wait_any() -> (i64, u32) {
    let status = AtomicU32::new(0);
    let at = std::ptr::from_ref(&status) as u64;
    let id = call(libc::SYS_wait4, [u64::MAX, at, 0, 0, 0, 0]);
    (id, status.into_inner())
}

/// Waits until `word` is no longer `value` or is woken, 100 ms at most.
pub(super) fn futex_wait(word: &AtomicU32, value: u32) {
    let timeout = libc::timespec { tv_sec: 0, tv_nsec: 100_000_000 };
    let at = std::ptr::from_ref(word) as u64;
    let timeout = std::ptr::from_ref(&timeout) as u64;
    call(libc::SYS_futex, [at, libc::FUTEX_WAIT as u64, u64::from(value), timeout, 0, 0]);
}

/// Waits until there is something to be read, a second at most.
pub(super) fn wait_readable(fd: i32) {
    // struct pollfd: fd, then events (POLLIN) and what came of them.
    let poll = [AtomicU32::new(fd as u32), AtomicU32::new(libc::POLLIN as u32)];
    let timeout = libc::timespec { tv_sec: 1, tv_nsec: 0 };
    let at = poll.as_ptr() as u64;
    let timeout = std::ptr::from_ref(&timeout) as u64;
    call(libc::SYS_ppoll, [at, 1, timeout, 0, 0, 0]);
}

/// Wakes all that wait for `word`.
pub(super) fn futex_wake(word: &AtomicU32) {
    let at = std::ptr::from_ref(word) as u64;
    call(libc::SYS_futex, [at, libc::FUTEX_WAKE as u64, i32::MAX as u64, 0, 0, 0]);
}

/// Memory for a ring, shared with the children forked after this, never given back.
pub(super) fn new_ring() -> Result<&'static Ring, i32> {
    // SAFETY: a fresh anonymous shared mapping of the ring's size, page-aligned, zeroed; every
    // field is an atomic integer, for which zero is valid. It is never unmapped.
    unsafe {
        let at = libc::mmap(
            std::ptr::null_mut(),
            size_of::<Ring>(),
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
            -1,
            0,
        );
        if at == libc::MAP_FAILED { Err(last_errno()) } else { Ok(&*at.cast::<Ring>()) }
    }
}
