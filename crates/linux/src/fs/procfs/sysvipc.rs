//! `/proc/sysvipc/shm` and the limits of System V shared memory in `/proc/sys/kernel`
//! (Linux 6.18 ipc/shm.c, ipc/ipc_sysctl.c).

use super::system::{SYS_KERNEL, SystemFile};
use crate::ipc::ids::MNI;
use crate::kernel::Kernel;
use kilburn_addr::{Errno, PAGE_SIZE};
use std::fmt::Write as _;
use std::ops::RangeInclusive;
use std::str::FromStr;

/// Largest segment in bytes.
pub(super) const SHMMAX: SystemFile = SystemFile {
    dir: SYS_KERNEL,
    name: "shmmax",
    perm: 0o644,
    text: |k| Ok(format!("{}\n", k.shm.limits.max.get()).into_bytes()),
    write: Some(|k, text| number(text, 0..=u64::MAX).map(|value| k.shm.limits.max.set(value))),
};

/// Most pages of all segments.
pub(super) const SHMALL: SystemFile = SystemFile {
    dir: SYS_KERNEL,
    name: "shmall",
    perm: 0o644,
    text: |k| Ok(format!("{}\n", k.shm.limits.all.get()).into_bytes()),
    write: Some(|k, text| number(text, 0..=u64::MAX).map(|value| k.shm.limits.all.set(value))),
};

/// Most segments.
pub(super) const SHMMNI: SystemFile = SystemFile {
    dir: SYS_KERNEL,
    name: "shmmni",
    perm: 0o644,
    text: |k| Ok(format!("{}\n", k.shm.limits.mni.get()).into_bytes()),
    write: Some(|k, text| number(text, 0..=MNI).map(|value| k.shm.limits.mni.set(value))),
};

/// The id the next segment shall get; -1 for any.
pub(super) const SHM_NEXT_ID: SystemFile = SystemFile {
    dir: SYS_KERNEL,
    name: "shm_next_id",
    perm: 0o644,
    text: |k| Ok(format!("{}\n", k.shm.next_id().unwrap_or(-1)).into_bytes()),
    write: Some(|k, text| number(text, 0..=i32::MAX).map(|value| k.shm.set_next_id(value))),
};

/// A number written to a file of `/proc/sys`.
fn number<T: FromStr + PartialOrd>(text: &[u8], range: RangeInclusive<T>) -> Result<T, Errno> {
    let text = str::from_utf8(text).map_err(|_| Errno::EINVAL)?;
    let number = text.trim_ascii().parse().map_err(|_| Errno::EINVAL)?;
    if range.contains(&number) { Ok(number) } else { Err(Errno::EINVAL) }
}

/// `/proc/sysvipc/shm` (`sysvipc_shm_proc_show`).
pub(super) fn shm(kernel: &Kernel) -> Result<Vec<u8>, Errno> {
    let mut out = String::from(
        "       key      shmid perms                  size  cpid  lpid nattch   uid   gid  cuid  \
         cgid      atime      dtime      ctime                   rss                  swap\n",
    );
    kernel.shm.for_each(|segment| {
        let perm = &segment.perm;
        let written = writeln!(
            out,
            "{:10} {:10}  {:4o} {:21} {:5} {:5}  {:5} {:5} {:5} {:5} {:5} {:10} {:10} {:10} {:21} {:21}",
            perm.key,
            perm.id,
            perm.mode,
            segment.size,
            segment.creator,
            segment.last_user,
            segment.attached,
            perm.uid,
            perm.gid,
            perm.cuid,
            perm.cgid,
            segment.attached_at,
            segment.detached_at,
            segment.changed_at,
            segment.resident() * PAGE_SIZE,
            0,
        );
        debug_assert!(written.is_ok(), "a string takes everything");
    });
    Ok(out.into_bytes())
}
