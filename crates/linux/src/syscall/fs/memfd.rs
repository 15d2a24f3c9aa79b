//! memfd_create: files in memory without a name, of pages or of huge pages.
//!
//! Source: Linux 6.18 mm/memfd.c. Neighbours: [`crate::fs`] makes the files; what is refused to
//! huge ones because their pool is empty is in the calls that refuse it.

use super::install;
use crate::fs::{F_SEAL_EXEC, F_SEAL_SEAL, HugeSize, OpenFlags};
use crate::syscall::{Args, Entry, Support, SysResult, waits};
use crate::task::Task;
use kilburn_addr::Errno;
use std::rc::Rc;

pub(super) const TABLE: &[Entry] = &[waits!(
    279,
    "memfd_create",
    Support::Partial("MFD_HUGETLB: as with an empty pool"),
    sys_memfd_create
)];

async fn sys_memfd_create(task: &Rc<Task>, args: Args) -> SysResult {
    const CLOEXEC: u32 = 1;
    const ALLOW_SEALING: u32 = 2;
    const HUGETLB: u32 = 4;
    const NOEXEC_SEAL: u32 = 8;
    const EXEC: u32 = 16;
    const SIZE_SHIFT: u32 = 26;
    const NAME_MAX: usize = 249;
    let flags = args.uint(1);
    // With MFD_HUGETLB the upper bits are the size of a page.
    let sizes = if flags & HUGETLB != 0 { 0x3f << SIZE_SHIFT } else { 0 };
    let known = CLOEXEC | ALLOW_SEALING | HUGETLB | NOEXEC_SEAL | EXEC | sizes;
    if flags & !known != 0 || flags & (EXEC | NOEXEC_SEAL) == EXEC | NOEXEC_SEAL {
        return Err(Errno::EINVAL.into());
    }
    let name = match task.read_cstr(args.addr(0), NAME_MAX + 1).await {
        Err(Errno::ENAMETOOLONG) => return Err(Errno::EINVAL.into()),
        name => name?,
    };
    let huge = match flags & HUGETLB {
        0 => None,
        _ => Some(HugeSize::of_shift(flags >> SIZE_SHIFT & 0x3f).ok_or(Errno::ENODEV)?),
    };
    let text = [b"/memfd:" as &[u8], &name, b" (deleted)"].concat();
    let creds = task.creds();
    let perm = if flags & NOEXEC_SEAL != 0 { 0o666 } else { 0o777 };
    let vfs = task.kernel().vfs();
    let owner = (creds.fsuid, creds.fsgid);
    let place = match huge {
        Some(size) => vfs.nameless_huge(text, perm, owner, size)?,
        None => vfs.nameless(text, perm, owner.0, owner.1)?,
    };
    let seals = match flags & (ALLOW_SEALING | NOEXEC_SEAL) {
        0 => F_SEAL_SEAL,
        bits if bits & NOEXEC_SEAL != 0 => F_SEAL_EXEC,
        _ => 0,
    };
    if let Some(own) = place.inode().seals() {
        own.reset(seals);
    }
    let file = vfs.open_memory(place, OpenFlags::RDWR | OpenFlags::LARGEFILE);
    let cloexec = if flags & CLOEXEC != 0 { OpenFlags::CLOEXEC } else { OpenFlags::empty() };
    Ok(install(task, file, cloexec)?)
}
