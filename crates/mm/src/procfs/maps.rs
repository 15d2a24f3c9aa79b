//! /proc/PID/maps (Linux 6.18 fs/proc/task_mmu.c: `show_map_vma`).

use crate::mm::State;
use crate::{ExecLayout, Host, Mm, VmaName, VmaRef};
use alloc::borrow::Cow;
use alloc::format;
use alloc::string::String;
use core::fmt::{self, Write};
use kilburn_addr::{AddrRange, PAGE_SHIFT, VmFlags};

/// Width of a line before its name on a 64-bit kernel (Linux `show_vma_header_prefix`:
/// 25 + 6 pointers - 1).
const NAME_COLUMN: usize = 25 + 6 * 8 - 1;

impl<H: Host> Mm<H> {
    /// Writes /proc/PID/maps.
    ///
    /// # Errors
    /// What `out` answers.
    pub fn write_maps(&self, out: &mut dyn Write) -> fmt::Result {
        let state = self.mmap_read_lock();
        state.areas.iter().try_for_each(|vma| write_header(out, &state, vma))
    }

    /// Calls `each` with the range and flags of every area, by address.
    pub fn for_each_area(&self, mut each: impl FnMut(AddrRange, VmFlags)) {
        for vma in self.mmap_read_lock().areas.iter() {
            each(vma.range, vma.flags);
        }
    }
}

/// One area's line.
pub(super) fn write_header<H: Host>(
    out: &mut dyn Write,
    state: &State<H>,
    vma: VmaRef<'_, H>,
) -> fmt::Result {
    let special = matches!(vma.name(), VmaName::Special(_));
    let file = vma.file.filter(|_| !special);
    let identity = file.map(|file| file.identity()).unwrap_or_default();
    let right = |flag, letter| if vma.flags.contains(flag) { letter } else { '-' };
    let mut line = String::with_capacity(128);
    write!(
        line,
        "{:08x}-{:08x} {}{}{}{} {:08x} {:02x}:{:02x} {} ",
        vma.start().get(),
        vma.end().get(),
        right(VmFlags::READ, 'r'),
        right(VmFlags::WRITE, 'w'),
        right(VmFlags::EXEC, 'x'),
        if vma.flags.contains(VmFlags::MAYSHARE) { 's' } else { 'p' },
        file.map_or(0, |_| vma.pgoff << PAGE_SHIFT),
        identity.major,
        identity.minor,
        identity.inode,
    )?;
    if let Some(name) = name_of(&state.exec, vma) {
        while line.len() < NAME_COLUMN {
            line.push(' ');
        }
        line.push(' ');
        line.push_str(&name);
    }
    line.push('\n');
    out.write_str(&line)
}

/// What stands at the end of the line (Linux `get_vma_name`).
fn name_of<'a, H: Host>(exec: &ExecLayout, vma: VmaRef<'a, H>) -> Option<Cow<'a, str>> {
    match (vma.name(), &vma.file) {
        (VmaName::Special(name), _) => return Some(Cow::Borrowed(name)),
        (VmaName::Anon(name), Some(_)) => {
            return Some(Cow::Owned(format!("[anon_shmem:{name}]")));
        }
        // A new line in a path would look like another area's line.
        (VmaName::None, Some(file)) => return Some(Cow::Owned(file.path().replace('\n', "\\012"))),
        (_, None) => {}
    }
    if vma.start() < exec.brk && vma.end() > exec.start_brk {
        return Some(Cow::Borrowed("[heap]"));
    }
    if vma.start() <= exec.start_stack && vma.end() >= exec.start_stack {
        return Some(Cow::Borrowed("[stack]"));
    }
    match vma.name() {
        VmaName::Anon(name) => Some(Cow::Owned(format!("[anon:{name}]"))),
        _ => None,
    }
}
