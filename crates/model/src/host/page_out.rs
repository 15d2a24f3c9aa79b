//! MADV_PAGEOUT on memory of this process's, for `kilburn bench`: the kernel's own swap beside ours.

/// Asks the kernel to swap `memory` out; what it holds comes back when it is touched.
///
/// # Errors
/// What madvise(2) answers: nothing is out then.
pub fn page_out(memory: &mut [u8]) -> std::io::Result<()> {
    // SAFETY: the range is this borrow's own, and MADV_PAGEOUT changes no byte of it.
    match unsafe { libc::madvise(memory.as_mut_ptr().cast(), memory.len(), libc::MADV_PAGEOUT) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}
