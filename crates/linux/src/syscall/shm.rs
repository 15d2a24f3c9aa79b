//! Calls on System V shared memory (Linux 6.18 ipc/shm.c).

use crate::ipc::ids::Perm;
use crate::ipc::shm::{MIN, Segment};
use crate::syscall::{Args, Entry, Support, SysResult, waits};
use crate::task::Task;
use kilburn_addr::{Errno, PAGE_SIZE};
use kilburn_mm::{FileForMap, MmapRequest, Occupied};
use std::rc::Rc;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The calls implemented here.
pub(crate) const TABLE: &[Entry] = &[
    waits!(194, "shmget", Support::Partial("SHM_HUGETLB: as with an empty pool"), sys_shmget),
    waits!(195, "shmctl", Support::Full, sys_shmctl),
    waits!(196, "shmat", Support::Full, sys_shmat),
    waits!(197, "shmdt", Support::Full, sys_shmdt),
];

async fn sys_shmget(task: &Rc<Task>, args: Args) -> SysResult {
    let id = task.kernel().shm.get(task, args.int(0), args.raw(1), args.int(2))?;
    Ok(id as u64)
}

/// `SHM_RDONLY`
const RDONLY: i32 = 0o1_0000;
/// `SHM_RND`
const RND: i32 = 0o2_0000;
/// `SHM_REMAP`
const REMAP: i32 = 0o4_0000;
/// `SHM_EXEC`
const EXEC: i32 = 0o10_0000;

const MAP_SHARED: u64 = 0x1;
const MAP_FIXED: u64 = 0x10;
const PROT_READ: u64 = 1;
const PROT_WRITE: u64 = 2;
const PROT_EXEC: u64 = 4;

/// Where shmat is to attach; 0 where there is room (`SHMLBA` is a page).
fn wanted_address(addr: u64, flags: i32) -> Result<u64, Errno> {
    let unaligned = !addr.is_multiple_of(PAGE_SIZE);
    if unaligned && flags & RND == 0 {
        return Err(Errno::EINVAL);
    }
    let rounded = addr - addr % PAGE_SIZE;
    if rounded == 0 && flags & REMAP != 0 { Err(Errno::EINVAL) } else { Ok(rounded) }
}

async fn sys_shmat(task: &Rc<Task>, args: Args) -> SysResult {
    let (id, flags) = (args.int(0), args.int(2));
    if id < 0 {
        return Err(Errno::EINVAL.into());
    }
    let addr = wanted_address(args.raw(1), flags)?;
    // An address below a page rounds to 0, and is asked for all the same.
    let fixed = if args.raw(1) == 0 { 0 } else { MAP_FIXED };
    let writable = flags & RDONLY == 0;
    let (mut prot, mut wanted) =
        if writable { (PROT_READ | PROT_WRITE, 0o666) } else { (PROT_READ, 0o444) };
    if flags & EXEC != 0 {
        prot |= PROT_EXEC;
        wanted |= 0o111;
    }
    let mm = task.mm().ok_or(Errno::EFAULT)?;
    let segments = &task.kernel().shm;
    let (file, len) = segments.pin(task.kernel(), &task.creds(), id, wanted)?;
    let file = FileForMap { file, readable: true, writable, noexec: false, write_sealed: false };
    let request =
        MmapRequest { addr, len, prot, flags: MAP_SHARED | fixed, file: Some(file), offset: 0 };
    // An address that rounded to 0 is not checked, as in Linux.
    let replaces = flags & REMAP != 0 || addr == 0;
    let occupied = if replaces { Occupied::Replace } else { Occupied::Refuse };
    let mapped = mm.shmat(&task.caller(), request, occupied);
    segments.unpin(id);
    Ok(mapped?.get())
}

async fn sys_shmdt(task: &Rc<Task>, args: Args) -> SysResult {
    task.mm().ok_or(Errno::EFAULT)?.shmdt(args.addr(0))?;
    Ok(0)
}

/// `struct ipc64_perm` of riscv64.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Ipc64Perm {
    key: i32,
    uid: u32,
    gid: u32,
    cuid: u32,
    cgid: u32,
    mode: u32,
    seq: u16,
    pad: [u16; 3],
    unused: [u64; 2],
}

/// `struct shmid64_ds` of riscv64.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Shmid64 {
    perm: Ipc64Perm,
    segsz: u64,
    atime: u64,
    dtime: u64,
    ctime: u64,
    cpid: u32,
    lpid: u32,
    nattch: u64,
    unused: [u64; 2],
}

impl From<&Perm> for Ipc64Perm {
    fn from(perm: &Perm) -> Self {
        Self {
            key: perm.key,
            uid: perm.uid,
            gid: perm.gid,
            cuid: perm.cuid,
            cgid: perm.cgid,
            mode: perm.mode,
            seq: perm.seq as u16,
            pad: [0; 3],
            unused: [0; 2],
        }
    }
}

impl From<&Segment> for Shmid64 {
    fn from(segment: &Segment) -> Self {
        Self {
            perm: (&segment.perm).into(),
            segsz: segment.size,
            atime: segment.attached_at,
            dtime: segment.detached_at,
            ctime: segment.changed_at,
            cpid: segment.creator,
            lpid: segment.last_user,
            nattch: segment.attached,
            unused: [0; 2],
        }
    }
}

/// shmctl's commands.
const IPC_RMID: i32 = 0;
const IPC_SET: i32 = 1;
const IPC_STAT: i32 = 2;
const IPC_INFO: i32 = 3;
const SHM_LOCK: i32 = 11;
const SHM_UNLOCK: i32 = 12;
const SHM_STAT: i32 = 13;
const SHM_INFO: i32 = 14;
const SHM_STAT_ANY: i32 = 15;

/// `S_IRUGO`
const MAY_READ: i32 = 0o444;

async fn sys_shmctl(task: &Rc<Task>, args: Args) -> SysResult {
    let (id, command, at) = (args.int(0), args.int(1), args.addr(2));
    if command < 0 || id < 0 {
        return Err(Errno::EINVAL.into());
    }
    let kernel = task.kernel();
    let segments = &kernel.shm;
    let creds = task.creds();
    match command {
        IPC_INFO => {
            let limits = &segments.limits;
            let mni = u64::from(limits.mni.get());
            let highest = segments.highest_place();
            // struct shminfo64: shmmax, shmmin, shmmni, shmseg, shmall, 4 unused
            let info = [limits.max.get(), MIN, mni, mni, limits.all.get(), 0, 0, 0, 0];
            task.write_struct(at, &info).await?;
            Ok(highest)
        }
        SHM_INFO => {
            let mut resident = 0;
            segments.for_each(|segment| resident += segment.resident());
            let highest = segments.highest_place();
            // struct shm_info: used_ids, shm_tot, shm_rss, shm_swp, 2 unused
            let info = [segments.count() as u64, segments.total_pages(), resident, 0, 0, 0];
            task.write_struct(at, &info).await?;
            Ok(highest)
        }
        IPC_STAT => {
            let stat = segments.with(id, |segment| {
                segment.perm.check(&creds, MAY_READ)?;
                Ok(Shmid64::from(segment))
            })?;
            task.write_struct(at, &stat).await?;
            Ok(0)
        }
        SHM_STAT | SHM_STAT_ANY => {
            let (stat, id) = segments.with_place(id, |segment| {
                if command == SHM_STAT {
                    segment.perm.check(&creds, MAY_READ)?;
                }
                Ok((Shmid64::from(segment), segment.perm.id))
            })?;
            task.write_struct(at, &stat).await?;
            Ok(id as u64)
        }
        IPC_SET => {
            let new: Shmid64 = task.read_struct(at).await?;
            let owner = (new.perm.uid, new.perm.gid, new.perm.mode);
            segments.set(kernel, &creds, id, owner)?;
            Ok(0)
        }
        IPC_RMID => segments.remove(&creds, id).map(|()| 0).map_err(Into::into),
        SHM_LOCK => segments.lock(task, id).map(|()| 0).map_err(Into::into),
        SHM_UNLOCK => segments.unlock(task, id).map(|()| 0).map_err(Into::into),
        _ => Err(Errno::EINVAL.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_have_linux_s_sizes() {
        assert_eq!(size_of::<Ipc64Perm>(), 48);
        assert_eq!(size_of::<Shmid64>(), 112);
    }

    #[test]
    fn an_address_is_rounded_only_when_asked_for() {
        assert_eq!(wanted_address(0x1234, 0), Err(Errno::EINVAL));
        assert_eq!(wanted_address(0x1234, RND), Ok(0x1000));
        assert_eq!(wanted_address(0x234, RND), Ok(0));
        assert_eq!(wanted_address(0x234, RND | REMAP), Err(Errno::EINVAL));
        assert_eq!(wanted_address(0, REMAP), Err(Errno::EINVAL));
    }
}
