//! Calls on the address space: thin, the memory manager judges the arguments.

use crate::fs::{HugeSize, Ids, may_inspect};
use crate::host::Mm;
use crate::syscall::{Args, Entry, Support, SysResult, now, waits};
use crate::task::pidfd::PidFd;
use crate::task::{Capability, Task, Tid};
use kilburn_addr::{Errno, PAGE_SIZE, VirtAddr};
use kilburn_mm::{Advised, Caller, MmapRequest, RemoteRights};
use std::rc::Rc;
use std::sync::Arc;

/// The calls implemented here.
pub(crate) const TABLE: &[Entry] = &[
    waits!(214, "brk", Support::Full, sys_brk),
    waits!(215, "munmap", Support::Full, sys_munmap),
    waits!(216, "mremap", Support::Full, sys_mremap),
    waits!(222, "mmap", Support::Partial("MAP_HUGETLB: as with an empty pool"), sys_mmap),
    waits!(226, "mprotect", Support::Full, sys_mprotect),
    waits!(227, "msync", Support::Full, sys_msync),
    waits!(228, "mlock", Support::Full, sys_mlock),
    waits!(229, "munlock", Support::Full, sys_munlock),
    waits!(230, "mlockall", Support::Full, sys_mlockall),
    waits!(231, "munlockall", Support::Full, sys_munlockall),
    waits!(232, "mincore", Support::Full, sys_mincore),
    waits!(
        233,
        "madvise",
        Support::Partial("nothing merges pages or makes huge ones"),
        sys_madvise
    ),
    waits!(234, "remap_file_pages", Support::Full, sys_remap_file_pages),
    waits!(270, "process_vm_readv", Support::Full, sys_process_vm_readv),
    waits!(271, "process_vm_writev", Support::Full, sys_process_vm_writev),
    waits!(284, "mlock2", Support::Full, sys_mlock2),
    waits!(440, "process_madvise", Support::Full, sys_process_madvise),
    now(448, "process_mrelease", Support::Full, sys_process_mrelease),
    waits!(462, "mseal", Support::Full, sys_mseal),
];

fn own_mm(task: &Task) -> Result<(Arc<Mm>, Caller), Errno> {
    Ok((task.mm().ok_or(Errno::EFAULT)?, task.caller()))
}

async fn sys_brk(task: &Rc<Task>, args: Args) -> SysResult {
    let (mm, caller) = own_mm(task)?;
    Ok(mm.brk(&caller, args.addr(0)).get())
}

/// `MAP_FIXED`
const MAP_FIXED: u64 = 0x10;
/// `MAP_FIXED_NOREPLACE`
const MAP_FIXED_NOREPLACE: u64 = 0x10_0000;
/// `MAP_ANONYMOUS`
const MAP_ANONYMOUS: u64 = 0x20;

async fn sys_mmap(task: &Rc<Task>, args: Args) -> SysResult {
    let (mm, caller) = own_mm(task)?;
    let offset = args.raw(5);
    if !offset.is_multiple_of(PAGE_SIZE) {
        return Err(Errno::EINVAL.into());
    }
    let flags = args.raw(3);
    let file = if flags & MAP_ANONYMOUS == 0 {
        let file = task.files().get(args.int(4))?;
        if let Some(size) = file.inode().huge_pages() {
            return Err(no_huge_page(args, size).into());
        }
        Some(file.for_mmap()?)
    } else {
        None
    };
    let request =
        MmapRequest { addr: args.raw(0), len: args.raw(1), prot: args.raw(2), flags, file, offset };
    Ok(mm.mmap(&caller, request)?.get())
}

/// What mapping a file of huge pages answers: the pool is empty (`hugetlbfs_file_mmap`).
fn no_huge_page(args: Args, size: HugeSize) -> Errno {
    let placed = args.raw(3) & (MAP_FIXED | MAP_FIXED_NOREPLACE) != 0;
    let is_aligned = |value: u64| value.is_multiple_of(size.bytes());
    if args.raw(1) == 0 || !is_aligned(args.raw(5)) || placed && !is_aligned(args.raw(0)) {
        return Errno::EINVAL;
    }
    // DIVERGENCE(hugetlb-noreserve): with MAP_NORESERVE Linux maps what is SIGBUS to touch.
    Errno::ENOMEM
}

async fn sys_munmap(task: &Rc<Task>, args: Args) -> SysResult {
    own_mm(task)?.0.munmap(args.addr(0), args.raw(1))?;
    Ok(0)
}

async fn sys_mremap(task: &Rc<Task>, args: Args) -> SysResult {
    let (mm, caller) = own_mm(task)?;
    let [old, old_len, new_len, flags, new, _] = args.0;
    let at = mm.mremap(&caller, VirtAddr::new(old), old_len, new_len, flags, VirtAddr::new(new))?;
    Ok(at.get())
}

async fn sys_mprotect(task: &Rc<Task>, args: Args) -> SysResult {
    let (mm, caller) = own_mm(task)?;
    mm.mprotect(&caller, args.addr(0), args.raw(1), args.raw(2))?;
    Ok(0)
}

async fn sys_msync(task: &Rc<Task>, args: Args) -> SysResult {
    own_mm(task)?.0.msync(args.addr(0), args.raw(1), args.int(2))?;
    Ok(0)
}

async fn sys_mlock(task: &Rc<Task>, args: Args) -> SysResult {
    let (mm, caller) = own_mm(task)?;
    mm.mlock(&caller, args.addr(0), args.raw(1))?;
    Ok(0)
}

async fn sys_mlock2(task: &Rc<Task>, args: Args) -> SysResult {
    let (mm, caller) = own_mm(task)?;
    mm.mlock2(&caller, args.addr(0), args.raw(1), args.int(2))?;
    Ok(0)
}

async fn sys_munlock(task: &Rc<Task>, args: Args) -> SysResult {
    own_mm(task)?.0.munlock(args.addr(0), args.raw(1))?;
    Ok(0)
}

async fn sys_mlockall(task: &Rc<Task>, args: Args) -> SysResult {
    let (mm, caller) = own_mm(task)?;
    mm.mlockall(&caller, args.int(0))?;
    Ok(0)
}

async fn sys_munlockall(task: &Rc<Task>, _: Args) -> SysResult {
    own_mm(task)?.0.munlockall()?;
    Ok(0)
}

async fn sys_mincore(task: &Rc<Task>, args: Args) -> SysResult {
    let (mm, _) = own_mm(task)?;
    let (start, len) = (args.raw(0), args.raw(1));
    // A page's worth of answers at a time, as Linux: a bad vector is found on the way.
    let mut done = 0;
    let pages = len.div_ceil(PAGE_SIZE);
    let mut chunk = Vec::new();
    loop {
        let at = start.wrapping_add(done * PAGE_SIZE);
        let count = (pages - done).min(PAGE_SIZE);
        let bytes = if done == 0 && pages <= PAGE_SIZE { len } else { count * PAGE_SIZE };
        chunk.clear();
        mm.mincore(VirtAddr::new(at), bytes, &mut chunk)?;
        let to = args.addr(2).checked_add(done).ok_or(Errno::EFAULT)?;
        task.copy_out(to, &chunk).await?;
        done += count;
        if done >= pages {
            return Ok(0);
        }
    }
}

async fn sys_madvise(task: &Rc<Task>, args: Args) -> SysResult {
    let (mm, caller) = own_mm(task)?;
    mm.madvise(&caller, args.addr(0), args.raw(1), args.int(2))?;
    Ok(0)
}

async fn sys_remap_file_pages(task: &Rc<Task>, args: Args) -> SysResult {
    let (mm, caller) = own_mm(task)?;
    let [start, size, prot, pgoff, flags, _] = args.0;
    mm.remap_file_pages(&caller, VirtAddr::new(start), size, prot, pgoff, flags)?;
    Ok(0)
}

async fn sys_mseal(task: &Rc<Task>, args: Args) -> SysResult {
    own_mm(task)?.0.mseal(args.addr(0), args.raw(1), args.raw(2))?;
    Ok(0)
}

/// Longest vector of readv and its like (`UIO_MAXIOV`).
const IOV_MAX: u64 = 1024;

/// Reads a vector of ranges.
///
/// # Errors
/// EINVAL when it is too long, EFAULT.
async fn read_ranges(
    task: &Rc<Task>,
    addr: VirtAddr,
    count: u64,
) -> Result<Vec<(u64, u64)>, Errno> {
    if count > IOV_MAX {
        return Err(Errno::EINVAL);
    }
    let mut ranges = Vec::new();
    for i in 0..count {
        let at = addr.checked_add(i * 16).ok_or(Errno::EFAULT)?;
        let [base, len]: [u64; 2] = task.read_struct(at).await?;
        if len > i64::MAX as u64 {
            return Err(Errno::EINVAL);
        }
        ranges.push((base, len));
    }
    Ok(ranges)
}

/// The address space of another process, if `task` may look into it (`PTRACE_MODE_ATTACH`).
fn remote_mm(task: &Task, pid: i32) -> Result<Arc<Mm>, Errno> {
    let target =
        u32::try_from(pid).ok().and_then(|tid: Tid| task.kernel().task(tid)).ok_or(Errno::ESRCH)?;
    if task.may_attach(&target) { target.mm().ok_or(Errno::ESRCH) } else { Err(Errno::EPERM) }
}

async fn sys_process_madvise(task: &Rc<Task>, args: Args) -> SysResult {
    if args.raw(4) as u32 != 0 {
        return Err(Errno::EINVAL.into());
    }
    let ranges = read_ranges(task, args.addr(1), args.raw(2)).await?;
    let file = task.files().get_any(args.int(0))?;
    let target = PidFd::of(&file)?.task()?;
    if !may_inspect(task, &target, Ids::FileSystem) {
        return Err(Errno::EACCES.into());
    }
    let (own, caller) = own_mm(task)?;
    let mm = target.mm().ok_or(Errno::ESRCH)?;
    let whose = if Arc::ptr_eq(&own, &mm) {
        Advised::Own
    } else if task.creds().has_cap(Capability::SysNice) {
        Advised::Other
    } else {
        Advised::OtherUnprivileged
    };
    let ranges: Vec<_> = ranges.into_iter().map(|(addr, len)| (VirtAddr::new(addr), len)).collect();
    Ok(mm.process_madvise(&caller, &ranges, args.int(3), whose)?)
}

fn sys_process_mrelease(task: &Rc<Task>, args: Args) -> SysResult {
    if args.uint(1) != 0 {
        return Err(Errno::EINVAL.into());
    }
    let file = task.files().get_any(args.int(0))?;
    let target = PidFd::of(&file)?.task()?;
    let mm = target.mm().ok_or(Errno::ESRCH)?;
    // Everybody who uses the memory is to be dying.
    let lives = |other: &Rc<Task>| {
        other.group().group_exit.get().is_none()
            && other.mm().is_some_and(|used| Arc::ptr_eq(&used, &mm))
    };
    if task.kernel().all_tasks().iter().any(lives) {
        return Err(Errno::EINVAL.into());
    }
    mm.reap();
    Ok(0)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Read,
    Write,
}

async fn process_vm(task: &Rc<Task>, args: Args, direction: Direction) -> SysResult {
    if args.raw(5) != 0 {
        return Err(Errno::EINVAL.into());
    }
    let local = read_ranges(task, args.addr(1), args.raw(2)).await?;
    // Nothing to move ends the call before the rest is looked at, as in process_vm_rw.
    if local.iter().all(|(_, len)| *len == 0) {
        return Ok(0);
    }
    let remote = read_ranges(task, args.addr(3), args.raw(4)).await?;
    if remote.iter().all(|(_, len)| *len == 0) {
        return Ok(0);
    }
    let mm = remote_mm(task, args.int(0))?;
    let mut done = 0;
    let mut local = local.into_iter().filter(|(_, len)| *len > 0);
    let mut here = local.next();
    let mut buffer = vec![0; PAGE_SIZE as usize];
    for (base, len) in remote {
        let mut moved = 0;
        while moved < len {
            let Some((to, room)) = here else { return Ok(done) };
            let at = VirtAddr::new(base.wrapping_add(moved));
            let in_page = PAGE_SIZE - at.page_offset();
            let count = (len - moved).min(room).min(in_page) as usize;
            let copied = match direction {
                Direction::Read => {
                    let got = mm.read_remote(at, &mut buffer[..count], RemoteRights::AsMapped);
                    task.copy_out_partial(VirtAddr::new(to), &buffer[..got]).await
                }
                Direction::Write => {
                    let got = task.copy_in_partial(VirtAddr::new(to), &mut buffer[..count]).await;
                    mm.write_remote(at, &buffer[..got], RemoteRights::AsMapped)
                }
            };
            done += copied as u64;
            if copied < count {
                return if done == 0 { Err(Errno::EFAULT.into()) } else { Ok(done) };
            }
            moved += count as u64;
            here = if room == count as u64 {
                local.next()
            } else {
                Some((to.wrapping_add(count as u64), room - count as u64))
            };
        }
    }
    Ok(done)
}

async fn sys_process_vm_readv(task: &Rc<Task>, args: Args) -> SysResult {
    process_vm(task, args, Direction::Read).await
}

async fn sys_process_vm_writev(task: &Rc<Task>, args: Args) -> SysResult {
    process_vm(task, args, Direction::Write).await
}
