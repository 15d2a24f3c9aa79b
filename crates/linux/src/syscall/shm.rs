//! System V shared memory calls.

use crate::shm::{LOCKED, NewSegment, PRIVATE, SEGMENTS_MAX, SIZE_MAX, Segment};
use crate::syscall::{Args, Entry, Support, SysResult, now, waits};
use crate::task::{Capability, Resource, Task};
use crate::time::SECOND;
use kilburn_addr::{AddrRange, Errno, PAGE_MASK, PAGE_SIZE, VirtAddr};
use kilburn_mm::{FileForMap, MmapRequest};
use std::rc::Rc;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The calls implemented here.
pub(crate) const TABLE: &[Entry] = &[
    now(194, "shmget", Support::Partial("SHM_HUGETLB: as with an empty pool"), sys_shmget),
    waits!(195, "shmctl", Support::Full, sys_shmctl),
    now(196, "shmat", Support::Full, sys_shmat),
    now(197, "shmdt", Support::Full, sys_shmdt),
];

const IPC_CREAT: u32 = 0o1000;
const IPC_EXCL: u32 = 0o2000;
const SHM_HUGETLB: u32 = 0o4000;

fn seconds(task: &Task) -> u64 {
    task.kernel().realtime() / SECOND
}

fn sys_shmget(task: &Rc<Task>, args: Args) -> SysResult {
    let (key, size, flags) = (args.int(0), args.raw(1), args.uint(2));
    let segments = &task.kernel().shm;
    if key != PRIVATE {
        if let Some(found) = segments.by_key(key) {
            if flags & (IPC_CREAT | IPC_EXCL) == IPC_CREAT | IPC_EXCL {
                return Err(Errno::EEXIST.into());
            }
            if found.size < size {
                return Err(Errno::EINVAL.into());
            }
            found.check(&task.creds(), flags & 0o777)?;
            return Ok(found.id as u64);
        }
        if flags & IPC_CREAT == 0 {
            return Err(Errno::ENOENT.into());
        }
    }
    if flags & SHM_HUGETLB != 0 {
        return Err(Errno::ENOMEM.into());
    }
    let new = NewSegment { key, size, mode: flags, creator: task.tgid(), now: seconds(task) };
    Ok(segments.create(&task.kernel().memory, &task.creds(), &new)?.id as u64)
}

const SHM_RDONLY: i32 = 0o1_0000;
const SHM_RND: i32 = 0o2_0000;
const SHM_REMAP: i32 = 0o4_0000;
const SHM_EXEC: i32 = 0o10_0000;
const MAP_SHARED: u64 = 0x01;
const MAP_FIXED: u64 = 0x10;
const MAP_FIXED_NOREPLACE: u64 = 0x10_0000;

fn sys_shmat(task: &Rc<Task>, args: Args) -> SysResult {
    let (id, mut addr, flags) = (args.int(0), args.raw(1), args.int(2));
    let mut map_flags = MAP_SHARED;
    if id < 0 {
        return Err(Errno::EINVAL.into());
    }
    if addr != 0 {
        if addr & !PAGE_MASK != 0 {
            if flags & SHM_RND == 0 {
                return Err(Errno::EINVAL.into());
            }
            addr &= PAGE_MASK;
            if addr == 0 && flags & SHM_REMAP != 0 {
                return Err(Errno::EINVAL.into());
            }
        }
        map_flags |= if flags & SHM_REMAP != 0 { MAP_FIXED } else { MAP_FIXED_NOREPLACE };
    } else if flags & SHM_REMAP != 0 {
        return Err(Errno::EINVAL.into());
    }
    let read_only = flags & SHM_RDONLY != 0;
    let (mut prot, mut want) = if read_only { (1, 0o444) } else { (3, 0o666) };
    if flags & SHM_EXEC != 0 {
        prot |= 4;
        want |= 0o111;
    }
    let segment = task.kernel().shm.by_id(id)?;
    segment.check(&task.creds(), want)?;
    let file = FileForMap {
        file: segment.file(),
        readable: true,
        writable: !read_only,
        noexec: false,
        write_sealed: false,
    };
    let request = MmapRequest {
        addr,
        len: segment.size,
        prot,
        flags: map_flags,
        file: Some(file),
        offset: 0,
    };
    let mm = task.mm().ok_or(Errno::EFAULT)?;
    let at = mm
        .mmap(&task.caller(), request)
        .map_err(|errno| if errno == Errno::EEXIST { Errno::EINVAL } else { errno })?;
    segment.attached_at.set(seconds(task));
    segment.last.set(task.tgid());
    Ok(at.get())
}

fn sys_shmdt(task: &Rc<Task>, args: Args) -> SysResult {
    let addr = args.addr(0);
    if !addr.is_page_aligned() {
        return Err(Errno::EINVAL.into());
    }
    let mm = task.mm().ok_or(Errno::EFAULT)?;
    let from_here = |range: AddrRange, pgoff: u64| {
        range.start().bytes_since(addr).is_some_and(|bytes| bytes / PAGE_SIZE == pgoff)
    };
    for (_, segment) in task.kernel().shm.all() {
        let areas = mm.areas_of(&segment.memory);
        let end = addr.get().saturating_add(segment.size.next_multiple_of(PAGE_SIZE));
        let mut found = false;
        for (range, pgoff) in areas {
            if from_here(range, pgoff) && range.end().get() <= end {
                mm.munmap(range.start(), range.len())?;
                found = true;
            }
        }
        if found {
            segment.detached_at.set(seconds(task));
            segment.last.set(task.tgid());
            // It may have been the last one's hold on a removed segment.
            drop(segment);
            task.kernel().shm.all();
            return Ok(0);
        }
    }
    Err(Errno::EINVAL.into())
}

/// `struct shmid64_ds`
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct ShmidDs {
    key: i32,
    uid: u32,
    gid: u32,
    cuid: u32,
    cgid: u32,
    mode: u32,
    seq: u16,
    pad: u16,
    pad2: u32,
    unused: [u64; 2],
    segsz: u64,
    atime: u64,
    dtime: u64,
    ctime: u64,
    cpid: u32,
    lpid: u32,
    nattch: u64,
    unused2: [u64; 2],
}

impl ShmidDs {
    fn of(segment: &Segment) -> Self {
        Self {
            key: segment.key.get(),
            uid: segment.uid.get(),
            gid: segment.gid.get(),
            cuid: segment.cuid,
            cgid: segment.cgid,
            mode: segment.mode.get(),
            seq: (segment.id as u32 >> 15) as u16,
            pad: 0,
            pad2: 0,
            unused: [0; 2],
            segsz: segment.size,
            atime: segment.attached_at.get(),
            dtime: segment.detached_at.get(),
            ctime: segment.changed_at.get(),
            cpid: segment.creator,
            lpid: segment.last.get(),
            nattch: segment.attachments(),
            unused2: [0; 2],
        }
    }
}

const IPC_RMID: i32 = 0;
const IPC_SET: i32 = 1;
const IPC_STAT: i32 = 2;
const IPC_INFO: i32 = 3;
const SHM_LOCK: i32 = 11;
const SHM_UNLOCK: i32 = 12;
const SHM_STAT: i32 = 13;
const SHM_INFO: i32 = 14;
const SHM_STAT_ANY: i32 = 15;

async fn sys_shmctl(task: &Rc<Task>, args: Args) -> SysResult {
    let (id, command, buffer) = (args.int(0), args.int(1), args.addr(2));
    if id < 0 || command < 0 {
        return Err(Errno::EINVAL.into());
    }
    let segments = &task.kernel().shm;
    let creds = task.creds();
    match command {
        IPC_INFO | SHM_INFO => return info(task, command, buffer).await,
        IPC_STAT => {
            let segment = segments.by_id(id)?;
            segment.check(&creds, 0o444)?;
            task.write_struct(buffer, &ShmidDs::of(&segment)).await?;
        }
        SHM_STAT | SHM_STAT_ANY => {
            // By index; answers the id.
            let found = segments.all().into_iter().find(|(index, _)| *index == id as u32);
            let (_, segment) = found.ok_or(Errno::EINVAL)?;
            if command == SHM_STAT {
                segment.check(&creds, 0o444)?;
            }
            task.write_struct(buffer, &ShmidDs::of(&segment)).await?;
            return Ok(segment.id as u64);
        }
        IPC_SET => {
            let new: ShmidDs = task.read_struct(buffer).await?;
            let segment = segments.by_id(id)?;
            segment.check_owner(&creds)?;
            segment.uid.set(new.uid);
            segment.gid.set(new.gid);
            segment.mode.set(segment.mode.get() & !0o777 | new.mode & 0o777);
            segment.changed_at.set(seconds(task));
        }
        IPC_RMID => {
            let segment = segments.by_id(id)?;
            segment.check_owner(&creds)?;
            segments.remove(&segment);
        }
        SHM_LOCK | SHM_UNLOCK => lock(task, &*segments.by_id(id)?, command)?,
        _ => return Err(Errno::EINVAL.into()),
    }
    Ok(0)
}

fn lock(task: &Task, segment: &Segment, command: i32) -> Result<(), Errno> {
    let creds = task.creds();
    if !creds.has_cap(Capability::IpcLock) {
        let owner = creds.euid == segment.uid.get() || creds.euid == segment.cuid;
        let allowed = command == SHM_UNLOCK || task.rlimit(Resource::Memlock) != 0;
        if !owner || !allowed {
            return Err(Errno::EPERM);
        }
    }
    let mode = segment.mode.get();
    segment.mode.set(if command == SHM_LOCK { mode | LOCKED } else { mode & !LOCKED });
    Ok(())
}

async fn info(task: &Rc<Task>, command: i32, buffer: VirtAddr) -> SysResult {
    let segments = &task.kernel().shm;
    let all = segments.all();
    if command == IPC_INFO {
        let most = SEGMENTS_MAX as u64;
        let limits: [u64; 9] = [SIZE_MAX, 1, most, most, SIZE_MAX, 0, 0, 0, 0];
        task.write_struct(buffer, &limits).await?;
    } else {
        let resident: u64 = all.iter().map(|(_, segment)| segment.memory.cached_pages()).sum();
        let figures: [u64; 6] = [all.len() as u64, segments.total_pages(), resident, 0, 0, 0];
        task.write_struct(buffer, &figures).await?;
    }
    Ok(all.last().map_or(0, |(index, _)| u64::from(*index)))
}

const _: () = assert!(size_of::<ShmidDs>() == 112);
