//! System calls on descriptors and paths.
//!
//! Each module owns a `TABLE`. Here is what they share: decoding of descriptors and paths.
//! Everything below this folder ([`crate::fs`]) never waits; the calls here do.

mod attr;
mod control;
mod descriptors;
mod epoll;
mod inet;
mod io;
mod iov;
mod memfd;
mod messages;
mod mount;
mod names;
mod poll;
mod query;
mod socket;
mod swap;
mod transfer;
mod userfaultfd;

use crate::fs::{At, FdFlags, OpenFile, OpenFlags, Path, Vfs, Who};
use crate::signal::SigSet;
use crate::syscall::process::read_sigset;
use crate::syscall::{Args, Entry, SysError};
use crate::task::limits::Resource;
use crate::task::{Creds, Task};
use kilburn_addr::{Errno, VirtAddr};
use std::rc::Rc;

/// The calls implemented here.
pub(crate) const TABLES: &[&[Entry]] = &[
    attr::TABLE,
    control::TABLE,
    descriptors::TABLE,
    epoll::TABLE,
    io::TABLE,
    memfd::TABLE,
    mount::TABLE,
    names::TABLE,
    poll::TABLE,
    query::TABLE,
    socket::TABLE,
    messages::TABLE,
    swap::TABLE,
    transfer::TABLE,
    userfaultfd::TABLE,
];

/// "Relative to the working directory."
const AT_FDCWD: i32 = -100;
/// Do not follow a link as last component.
const AT_SYMLINK_NOFOLLOW: u32 = 0x100;
/// Follow a link as last component.
const AT_SYMLINK_FOLLOW: u32 = 0x400;
/// No automounts; there are none.
const AT_NO_AUTOMOUNT: u32 = 0x800;
/// An empty path means the descriptor itself.
const AT_EMPTY_PATH: u32 = 0x1000;

/// What a call on a path works with.
struct Caller {
    vfs: Rc<Vfs>,
    fs: Rc<crate::fs::FsStruct>,
    creds: Rc<Creds>,
}

impl Caller {
    fn new(task: &Task) -> Self {
        Self { vfs: Rc::clone(task.kernel().vfs()), fs: task.fs(), creds: task.creds() }
    }

    fn who(&self) -> Who<'_> {
        Who { creds: &self.creds, fs: &self.fs }
    }
}

/// A path argument: its text, and where it starts.
struct PathArg {
    from: Path,
    text: Vec<u8>,
}

impl PathArg {
    /// Reads the path at `text`, relative to descriptor `dirfd`.
    ///
    /// # Errors
    /// EFAULT, ENAMETOOLONG; EBADF when the descriptor counts and is none.
    async fn read(task: &Rc<Task>, dirfd: i32, text: VirtAddr) -> Result<Self, Errno> {
        let text = task.read_path(text).await?;
        let from = start_of(task, dirfd, &text)?;
        Ok(Self { from, text })
    }

    fn at(&self) -> At<'_> {
        At { from: &self.from, text: &self.text }
    }
}

/// Where a path given together with `dirfd` starts.
fn start_of(task: &Task, dirfd: i32, text: &[u8]) -> Result<Path, Errno> {
    if dirfd == AT_FDCWD || text.first() == Some(&b'/') {
        return Ok(task.fs().cwd());
    }
    Ok(task.files().get_any(dirfd)?.path().clone())
}

/// Resolves a path argument of a call with `AT_*` flags; an empty path may mean `dirfd` itself.
async fn place_of(
    task: &Rc<Task>,
    dirfd: i32,
    text: VirtAddr,
    flags: u32,
    default: crate::fs::LastLink,
) -> Result<Path, Errno> {
    use crate::fs::LastLink;
    let last = if flags & AT_SYMLINK_NOFOLLOW != 0 {
        LastLink::Keep
    } else if flags & AT_SYMLINK_FOLLOW != 0 {
        LastLink::Follow
    } else {
        default
    };
    // Since Linux 6.11 a null pointer is an empty path where an empty path is permitted.
    let text = if flags & AT_EMPTY_PATH != 0 && text == VirtAddr::ZERO {
        Vec::new()
    } else {
        task.read_path(text).await?
    };
    if text.is_empty() && flags & AT_EMPTY_PATH != 0 {
        return if dirfd == AT_FDCWD {
            Ok(task.fs().cwd())
        } else {
            Ok(task.files().get_any(dirfd)?.path().clone())
        };
    }
    let from = start_of(task, dirfd, &text)?;
    let caller = Caller::new(task);
    caller.vfs.lookup(caller.who(), At { from: &from, text: &text }, last)
}

/// How many descriptors the process may have.
fn nofile(task: &Task) -> u64 {
    task.rlimit(Resource::Nofile)
}

/// Gives `file` a descriptor; close-on-exec as `flags` say.
fn install(task: &Task, file: Rc<OpenFile>, flags: OpenFlags) -> Result<u64, Errno> {
    let cloexec = flags.contains(OpenFlags::CLOEXEC);
    let fd_flags = if cloexec { FdFlags::CLOEXEC } else { FdFlags::empty() };
    Ok(task.files().install(file, fd_flags, nofile(task))? as u64)
}

/// The open file of descriptor argument `i`.
fn file_arg(task: &Task, args: Args, i: usize) -> Result<Rc<OpenFile>, Errno> {
    task.files().get(args.int(i))
}

/// The signal mask of a call that waits (`ppoll`, `pselect6`, `epoll_pwait`); `None`: not given.
///
/// # Errors
/// EINVAL for a wrong size; EFAULT.
async fn poll_mask(task: &Rc<Task>, addr: VirtAddr, size: u64) -> Result<Option<SigSet>, Errno> {
    if addr == VirtAddr::ZERO {
        return Ok(None);
    }
    read_sigset(task, addr, size).await.map(Some)
}

/// Blocks `mask` while the call waits.
fn block_until_return(task: &Task, mask: Option<SigSet>) {
    if let Some(mask) = mask {
        task.replace_mask_until_return(mask);
    }
}

/// The wait is over: unless a signal ended it, the old mask holds again before any signal is
/// delivered (Linux `restore_saved_sigmask_unless`).
fn unblock_now<T>(task: &Task, answer: &Result<T, SysError>) {
    if matches!(answer, Err(SysError::Restart(_))) {
        return;
    }
    if let Some(saved) = task.signals.saved_blocked.take() {
        task.signals.blocked.set(saved);
    }
}
