//! swapon and swapoff (Linux 6.18 mm/swapfile.c), of the areas the machine was made with.

use crate::fs::LastLink;
use crate::syscall::{Args, Entry, Support, SysResult, waits};
use crate::task::{Capability, Task};
use kilburn_addr::Errno;
use std::rc::Rc;

/// The calls implemented here.
pub(crate) const TABLE: &[Entry] = &[
    waits!(
        224,
        "swapon",
        Support::Partial("areas given by --swap that were switched off; other files EINVAL"),
        sys_swapon
    ),
    waits!(225, "swapoff", Support::Full, sys_swapoff),
];

/// `SWAP_FLAG_PREFER` and the priority below it.
const PREFER: i32 = 0x8000;
const PRIORITY_MASK: i32 = 0x7fff;
/// `SWAP_FLAG_DISCARD`, `_ONCE`, `_PAGES`: slots are always given back at once.
const DISCARD_FLAGS: i32 = 0x7_0000;

/// The path argument, as the name of an area.
async fn area_name(task: &Rc<Task>, args: Args) -> Result<String, Errno> {
    task.require(Capability::SysAdmin)?;
    let path = task.read_path(args.addr(0)).await?;
    Ok(String::from_utf8_lossy(&path).into_owned())
}

/// Why a path that names no area is refused: there is nothing there, or no area.
async fn no_area(task: &Rc<Task>, args: Args) -> Errno {
    match super::place_of(task, super::AT_FDCWD, args.addr(0), 0, LastLink::Follow).await {
        Ok(_) => Errno::EINVAL,
        Err(errno) => errno,
    }
}

async fn sys_swapon(task: &Rc<Task>, args: Args) -> SysResult {
    let flags = args.int(1);
    if flags & !(PREFER | PRIORITY_MASK | DISCARD_FLAGS) != 0 {
        return Err(Errno::EINVAL.into());
    }
    let name = area_name(task, args).await?;
    let kernel = task.kernel();
    let Some(area) = kernel.swap_device(&name) else {
        return Err(no_area(task, args).await.into());
    };
    let priority = (flags & PREFER != 0).then_some((flags & PRIORITY_MASK) as i16);
    kernel.memory.swap_on(&name, area, priority)?;
    Ok(0)
}

async fn sys_swapoff(task: &Rc<Task>, args: Args) -> SysResult {
    let name = area_name(task, args).await?;
    let kernel = task.kernel();
    if kernel.swap_device(&name).is_none() {
        return Err(no_area(task, args).await.into());
    }
    kernel.memory.swap_off(&name)?;
    Ok(0)
}
