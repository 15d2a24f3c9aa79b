//! `/proc/sys`: settings of the kernel as files.
//!
//! [`FILES`] lists them. A number is read and written as Linux's `proc_dointvec` does, a string as
//! `proc_dostring` does; a setting that cannot be changed here is for reading only. Source: Linux
//! 6.18 kernel/sysctl.c, fs/proc/proc_sysctl.c. Neighbour: [`super::system`].

use super::file::Reading;
use super::system::{SystemFile, line, uuid};
use crate::fs::mounting::MOUNT_MAX;
use crate::kernel::Kernel;
use crate::syscall::system::{RELEASE, VERSION};
use crate::task::Capability;
use kilburn_addr::Errno;
use kilburn_mm::Sysctl;
use std::ops::RangeInclusive;
use std::str::FromStr;

const FS: &str = "sys/fs";
const KERNEL: &str = "sys/kernel";
const RANDOM: &str = "sys/kernel/random";
const VM: &str = "sys/vm";

/// Longest name of a machine or domain (`__NEW_UTS_LEN`).
const UTS_LEN: usize = 64;
/// Longest name of a core file (`CORENAME_MAX_SIZE` less its final zero).
const CORE_PATTERN_MAX: usize = 127;

type Text = fn(&Kernel) -> Result<Vec<u8>, Errno>;
type Write = fn(&Kernel, &[u8]) -> Result<(), Errno>;

/// A setting that is a number.
pub(super) const fn number(
    dir: &'static str,
    name: &'static str,
    text: Text,
    write: Option<Write>,
) -> SystemFile {
    let perm = if write.is_some() { 0o644 } else { 0o444 };
    SystemFile { dir, name, perm, reading: Reading::Number, text, write }
}

/// A setting that is text.
const fn string(
    dir: &'static str,
    name: &'static str,
    text: Text,
    write: Option<Write>,
) -> SystemFile {
    let perm = if write.is_some() { 0o644 } else { 0o444 };
    SystemFile { dir, name, perm, reading: Reading::Bytes, text, write }
}

macro_rules! fixed {
    ($dir:expr, $name:literal, $value:expr) => {
        number($dir, $name, |_| Ok(format!("{}\n", $value).into_bytes()), None)
    };
}

/// A setting of the memory manager.
macro_rules! memory {
    ($name:literal, $which:ident) => {
        number(
            VM,
            $name,
            |k| Ok(format!("{}\n", k.memory.sysctl(Sysctl::$which)).into_bytes()),
            Some(|k, text| k.memory.set_sysctl(Sysctl::$which, parse(text, 0..=u64::MAX)?)),
        )
    };
}

/// All files.
pub(super) const FILES: &[SystemFile] = &[
    fixed!(FS, "file-max", u64::MAX >> 1),
    fixed!(FS, "mount-max", MOUNT_MAX),
    fixed!(FS, "nr_open", crate::fs::fd_table::NR_OPEN),
    fixed!(FS, "pipe-max-size", crate::fs::pipe::PIPE_MAX_SIZE),
    number(
        FS,
        "pipe-user-pages-soft",
        |k| Ok(format!("{}\n", k.vfs().pipe_pages().soft()).into_bytes()),
        Some(|k, text| {
            k.vfs().pipe_pages().set_soft(parse(text, 0..=u64::MAX)?);
            Ok(())
        }),
    ),
    number(
        FS,
        "pipe-user-pages-hard",
        |k| Ok(format!("{}\n", k.vfs().pipe_pages().hard()).into_bytes()),
        Some(|k, text| {
            k.vfs().pipe_pages().set_hard(parse(text, 0..=u64::MAX)?);
            Ok(())
        }),
    ),
    fixed!(FS, "protected_fifos", 1),
    fixed!(FS, "protected_hardlinks", 1),
    fixed!(FS, "protected_regular", 2),
    fixed!(FS, "protected_symlinks", 1),
    fixed!(FS, "suid_dumpable", 0),
    string(KERNEL, "arch", |_| Ok(line(b"riscv64")), None),
    fixed!(KERNEL, "cap_last_cap", 40),
    string(
        KERNEL,
        "core_pattern",
        |k| Ok(line(&k.core_dumps.pattern.borrow())),
        Some(|k, text| {
            k.core_dumps.pattern.replace(up_to_line_end(text, CORE_PATTERN_MAX));
            Ok(())
        }),
    ),
    number(
        KERNEL,
        "core_uses_pid",
        |k| Ok(line(if k.core_dumps.uses_pid.get() { b"1" } else { b"0" })),
        Some(|k, text| {
            k.core_dumps.uses_pid.set(parse(text, i32::MIN..=i32::MAX)? != 0);
            Ok(())
        }),
    ),
    fixed!(KERNEL, "ngroups_max", 65536),
    string(KERNEL, "osrelease", |_| Ok(line(RELEASE.as_bytes())), None),
    string(KERNEL, "ostype", |_| Ok(line(b"Linux")), None),
    fixed!(KERNEL, "overflowgid", 65534),
    fixed!(KERNEL, "overflowuid", 65534),
    fixed!(KERNEL, "pid_max", crate::kernel::PID_MAX),
    fixed!(KERNEL, "sysctl_writes_strict", 1),
    fixed!(KERNEL, "tainted", 0),
    string(KERNEL, "version", |_| Ok(line(VERSION.as_bytes())), None),
    string(
        KERNEL,
        "domainname",
        |k| Ok(line(&k.domainname.borrow())),
        Some(|k, text| {
            k.domainname.replace(up_to_line_end(text, UTS_LEN));
            Ok(())
        }),
    ),
    string(
        KERNEL,
        "hostname",
        |k| Ok(line(&k.hostname.borrow())),
        Some(|k, text| {
            k.hostname.replace(up_to_line_end(text, UTS_LEN));
            Ok(())
        }),
    ),
    number(
        KERNEL,
        "randomize_va_space",
        |k| {
            let on = k.aslr == crate::config::Aslr::Seeded;
            Ok(line(if on { b"2" } else { b"0" }))
        },
        None,
    ),
    string(RANDOM, "boot_id", |k| Ok(k.vfs().boot_id()), None),
    string(RANDOM, "uuid", |k| Ok(uuid(k)), None),
    fixed!(RANDOM, "entropy_avail", 256),
    fixed!(RANDOM, "poolsize", 256),
    memory!("admin_reserve_kbytes", AdminReserveKbytes),
    memory!("max_map_count", MaxMapCount),
    number(
        VM,
        "mmap_min_addr",
        |k| Ok(format!("{}\n", k.memory.sysctl(Sysctl::MmapMinAddr)).into_bytes()),
        Some(|k, text| {
            let may = k.current().is_some_and(|task| task.creds().has_cap(Capability::SysRawio));
            let value = parse(text, 0..=u64::MAX)?;
            if may { k.memory.set_sysctl(Sysctl::MmapMinAddr, value) } else { Err(Errno::EPERM) }
        }),
    ),
    memory!("dirty_background_bytes", DirtyBackgroundBytes),
    memory!("dirty_background_ratio", DirtyBackgroundRatio),
    memory!("dirty_bytes", DirtyBytes),
    number(
        VM,
        "dirty_expire_centisecs",
        |k| Ok(format!("{}\n", k.kernel_threads.expire_centisecs.get()).into_bytes()),
        Some(|k, text| {
            k.kernel_threads.expire_centisecs.set(parse(text, 0..=i32::MAX)?);
            Ok(())
        }),
    ),
    memory!("dirty_ratio", DirtyRatio),
    number(
        VM,
        "dirty_writeback_centisecs",
        |k| Ok(format!("{}\n", k.kernel_threads.writeback_centisecs.get()).into_bytes()),
        Some(|k, text| {
            k.kernel_threads.writeback_centisecs.set(parse(text, i32::MIN..=i32::MAX)?);
            Ok(())
        }),
    ),
    SystemFile {
        // There is a command in it and nothing to read.
        perm: 0o200,
        ..number(VM, "drop_caches", |_| Ok(Vec::new()), Some(drop_caches))
    },
    number(
        VM,
        "nr_hugepages",
        |_| Ok(b"0\n".to_vec()),
        // As when memory is in pieces: what cannot be had is not had, without an error.
        // DIVERGENCE(hugetlb): the pool of huge pages stays empty.
        Some(|_, text| parse(text, 0..=u64::MAX).map(drop)),
    ),
    fixed!(VM, "nr_overcommit_hugepages", 0),
    memory!("overcommit_kbytes", OvercommitKbytes),
    memory!("overcommit_memory", OvercommitMemory),
    memory!("overcommit_ratio", OvercommitRatio),
    memory!("page-cluster", PageCluster),
    number(
        VM,
        "swappiness",
        |k| Ok(format!("{}\n", k.memory.swappiness()).into_bytes()),
        Some(|k, text| {
            k.memory.set_swappiness(parse(text, 0..=200)?);
            Ok(())
        }),
    ),
    number(
        VM,
        "unprivileged_userfaultfd",
        |k| Ok(format!("{}\n", u32::from(k.userfaults.unprivileged.get())).into_bytes()),
        Some(|k, text| {
            k.userfaults.unprivileged.set(parse(text, 0..=1)? == 1);
            Ok(())
        }),
    ),
    memory!("user_reserve_kbytes", UserReserveKbytes),
];

/// 1 and 3 drop clean pages of files; 2 alone, dentries and inodes, finds none that memory is
/// counted for; 4 is to be silent (Linux 6.18 fs/drop_caches.c).
fn drop_caches(kernel: &Kernel, text: &[u8]) -> Result<(), Errno> {
    let what = parse(text, 1..=4)?;
    if what & 1 != 0 {
        kernel.memory.drop_page_cache();
    }
    if what & 2 != 0 {
        kernel.memory.note_drop_slab();
    }
    Ok(())
}

/// A number written to a file of `/proc/sys`: digits, perhaps between spaces.
///
/// # Errors
/// EINVAL for anything else and outside `range`.
pub(super) fn parse<T: FromStr + PartialOrd>(
    text: &[u8],
    range: RangeInclusive<T>,
) -> Result<T, Errno> {
    let text = str::from_utf8(text).map_err(|_| Errno::EINVAL)?;
    let text = text.trim_matches(|c: char| c.is_ascii_whitespace() || c == '\0');
    // Linux reads the first number of what is written and ignores the rest of the line.
    let text = text.split_ascii_whitespace().next().ok_or(Errno::EINVAL)?;
    let number = text.parse().map_err(|_| Errno::EINVAL)?;
    if range.contains(&number) { Ok(number) } else { Err(Errno::EINVAL) }
}

/// A string as `proc_dostring` takes it: up to the end of the line, cut to what fits.
fn up_to_line_end(text: &[u8], most: usize) -> Vec<u8> {
    let end = text.iter().position(|byte| matches!(byte, b'\n' | 0)).unwrap_or(text.len());
    text[..end.min(most)].to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_takes_a_number_between_spaces_and_nothing_else() {
        assert_eq!(parse(b"12\n", 0..=20), Ok(12));
        assert_eq!(parse(b" \t12 \0", 0..=20), Ok(12));
        assert_eq!(parse(b"12 13\n", 0..=20), Ok(12));
        for bad in
            [b"" as &[u8], b"\n", b"x", b"1x", b"21", b"-1", b"\xff", b"99999999999999999999"]
        {
            assert_eq!(parse(bad, 0..=20u64), Err(Errno::EINVAL), "{bad:?}");
        }
    }
}
