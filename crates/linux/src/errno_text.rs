//! What an errno means, in the C library's words.

use kilburn_addr::Errno;

/// The text for `errno`, as `strerror` gives it for those that starting a program can meet.
pub(crate) fn errno_text(errno: Errno) -> String {
    let text = match errno {
        Errno::EPERM => "Operation not permitted",
        Errno::ENOENT => "No such file or directory",
        Errno::EIO => "Input/output error",
        Errno::E2BIG => "Argument list too long",
        Errno::ENOEXEC => "Exec format error",
        Errno::ENOMEM => "Cannot allocate memory",
        Errno::EACCES => "Permission denied",
        Errno::EFAULT => "Bad address",
        Errno::EEXIST => "File exists",
        Errno::ENOTDIR => "Not a directory",
        Errno::EISDIR => "Is a directory",
        Errno::EINVAL => "Invalid argument",
        Errno::ETXTBSY => "Text file busy",
        Errno::ENAMETOOLONG => "File name too long",
        Errno::ELOOP => "Too many levels of symbolic links",
        Errno::ELIBBAD => "Accessing a corrupted shared library",
        other => return other.to_string(),
    };
    text.into()
}
