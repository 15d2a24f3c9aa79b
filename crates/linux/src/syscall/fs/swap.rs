//! swapon and swapoff (Linux 6.18 mm/swapfile.c): of areas the machine was made with, by the names
//! they have in /proc/swaps, and of files.

use super::{AT_FDCWD, Caller, PathArg};
use crate::fs::{OpenFile, OpenFlags, OpenHow};
use crate::syscall::{Args, Entry, Support, SysResult, waits};
use crate::task::{Capability, Task};
use kilburn_addr::Errno;
use std::rc::Rc;

/// The calls implemented here.
pub(crate) const TABLE: &[Entry] = &[
    waits!(224, "swapon", Support::Full, sys_swapon),
    waits!(225, "swapoff", Support::Full, sys_swapoff),
];

/// `SWAP_FLAG_PREFER` and the priority below it.
const PREFER: i32 = 0x8000;
const PRIORITY_MASK: i32 = 0x7fff;
/// `SWAP_FLAG_DISCARD`, `_ONCE`, `_PAGES`: slots are always given back at once.
const DISCARD_FLAGS: i32 = 0x7_0000;

/// What a path stands for: the name of an area the machine was made with, or a file.
enum Named {
    Device(String),
    File(Rc<OpenFile>),
}

impl Named {
    async fn by(task: &Rc<Task>, args: Args) -> Result<Self, Errno> {
        task.require(Capability::SysAdmin)?;
        let path = PathArg::read(task, AT_FDCWD, args.addr(0)).await?;
        let name = String::from_utf8_lossy(&path.text).into_owned();
        if task.kernel().swap.device(&name).is_some() {
            return Ok(Self::Device(name));
        }
        let caller = Caller::new(task);
        let how = OpenHow::new((OpenFlags::RDWR | OpenFlags::LARGEFILE).bits(), 0)?;
        let file = caller.vfs.open(&caller.creds, &caller.fs, &path.from, &path.text, how)?;
        Ok(Self::File(file))
    }
}

async fn sys_swapon(task: &Rc<Task>, args: Args) -> SysResult {
    let flags = args.int(1);
    if flags & !(PREFER | PRIORITY_MASK | DISCARD_FLAGS) != 0 {
        return Err(Errno::EINVAL.into());
    }
    let named = Named::by(task, args).await?;
    let priority = (flags & PREFER != 0).then_some((flags & PRIORITY_MASK) as i16);
    let kernel = task.kernel();
    match named {
        Named::File(file) => kernel.swap.switch_on(&kernel.memory, &file, priority)?,
        Named::Device(name) => {
            let area = kernel.swap.device(&name).ok_or(Errno::EINVAL)?;
            kernel.memory.swap_on(&name, area, priority)?;
        }
    }
    Ok(0)
}

async fn sys_swapoff(task: &Rc<Task>, args: Args) -> SysResult {
    let named = Named::by(task, args).await?;
    let kernel = task.kernel();
    match named {
        Named::File(file) => kernel.swap.switch_off(&kernel.memory, &file)?,
        Named::Device(name) => kernel.memory.swap_off(&name)?,
    }
    Ok(0)
}
