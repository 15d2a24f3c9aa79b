//! `/proc/sysvipc/shm` and the limits of System V shared memory in `/proc/sys/kernel`
//! (Linux 6.18 ipc/shm.c, ipc/ipc_sysctl.c).

use super::file::Reading;
use super::sysctl::{number, parse};
use super::system::SystemFile;
use crate::ipc::ids::MNI;
use crate::kernel::Kernel;
use kilburn_addr::{Errno, PAGE_SIZE};
use std::fmt::Write as _;

const KERNEL: &str = "sys/kernel";

/// `/proc/sysvipc`, the limits and the id the next segment shall get (-1: any).
pub(super) const FILES: &[SystemFile] = &[
    SystemFile {
        dir: "sysvipc",
        name: "shm",
        perm: 0o444,
        reading: Reading::Sequence,
        text: shm,
        write: None,
    },
    number(
        KERNEL,
        "shmall",
        |k| Ok(format!("{}\n", k.shm.limits.all.get()).into_bytes()),
        Some(|k, text| parse(text, 0..=u64::MAX).map(|value| k.shm.limits.all.set(value))),
    ),
    number(
        KERNEL,
        "shmmax",
        |k| Ok(format!("{}\n", k.shm.limits.max.get()).into_bytes()),
        Some(|k, text| parse(text, 0..=u64::MAX).map(|value| k.shm.limits.max.set(value))),
    ),
    number(
        KERNEL,
        "shmmni",
        |k| Ok(format!("{}\n", k.shm.limits.mni.get()).into_bytes()),
        Some(|k, text| parse(text, 0..=MNI).map(|value| k.shm.limits.mni.set(value))),
    ),
    number(
        KERNEL,
        "shm_next_id",
        |k| Ok(format!("{}\n", k.shm.next_id().unwrap_or(-1)).into_bytes()),
        Some(|k, text| parse(text, 0..=i32::MAX).map(|value| k.shm.set_next_id(value))),
    ),
];

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
