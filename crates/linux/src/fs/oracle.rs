//! The host's Linux as oracle: random sequences of operations on names are made in a real folder
//! and through our path walk, on a host folder and in memory; each answer must be the same.

use crate::config::StdioConfig;
use crate::fs::boot::{KernelLink, Stdio};
use crate::fs::clock::Clock;
use crate::fs::file::{OpenFile, OpenFlags};
use crate::fs::fs_struct::FsStruct;
use crate::fs::inode::{NewKind, RenameMode};
use crate::fs::names::{At, Remove, Who};
use crate::fs::open::OpenHow;
use crate::fs::page_cache::PageCaches;
use crate::fs::random::Random;
use crate::fs::vfs::{RootSource, Vfs, VfsConfig};
use crate::fs::walk::LastLink;
use crate::host::{MachineHost, Memory};
use crate::task::Creds;
use kilburn_addr::{Errno, PhysAddr};
use kilburn_mm::MemoryConfig;
use kilburn_paging::Sv;
use kilburn_riscv::GuestRam;
use proptest::prelude::*;
use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags};
use std::fmt::Write as _;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

/// A name space with nothing but its root and what the kernel mounts over it.
pub(crate) fn vfs(root: RootSource) -> Vfs {
    Vfs::new(VfsConfig {
        root,
        caches: PageCaches::new(&memory()),
        clock: Clock::new(|| 1_767_225_600_000_000_000),
        random: Random::new(|into| into.fill(4)),
        stdio: Stdio::new(&StdioConfig::Captured { stdin: Vec::new() }),
        link: KernelLink::default(),
        memory_bytes: MEMORY_BYTES,
        faults: None,
    })
    .expect("the root opens")
}

const MEMORY_BYTES: u64 = 16 << 20;

/// The memory of a small machine.
fn memory() -> Arc<Memory> {
    let ram = Arc::new(GuestRam::new(MEMORY_BYTES).expect("the host has memory"));
    let base = PhysAddr::new(0x8000_0000).pfn();
    let end = PhysAddr::new(0x8000_0000 + MEMORY_BYTES).pfn();
    let host = MachineHost::new(ram, Sv::SV39, 1);
    Memory::new(host, MemoryConfig::new(base..end)).expect("enough for a machine")
}

/// One operation.
#[derive(Clone, Debug)]
enum Op {
    Mkdir(String),
    Rmdir(String),
    Unlink(String),
    Open(String, u32),
    Write(String, u32),
    Truncate(String, u64),
    Rename(String, String, u8),
    Link(String, String, bool),
    Symlink(String, String),
    Mkfifo(String),
    Stat(String, bool),
    ReadLink(String),
    Chmod(String, u32),
    List(String),
}

/// What both sides can do.
trait Side {
    fn run(&mut self, op: &Op) -> Result<String, Errno>;
}

/// Names and types in one line; the order is each file system's own affair. What the kernel mounts
/// over our root is not in the other folder.
fn listing(names: impl Iterator<Item = (Vec<u8>, u8)>) -> String {
    let ours: [&[u8]; 5] = [b"dev", b"run", b"sys", b"tmp", b"proc"];
    let mut names: Vec<_> = names.filter(|(name, _)| !ours.contains(&&name[..])).collect();
    names.sort();
    names.iter().map(|(name, kind)| format!("{}:{kind} ", String::from_utf8_lossy(name))).collect()
}

struct Real {
    root: OwnedFd,
}

fn errno(e: rustix::io::Errno) -> Errno {
    Errno::from_number(e.raw_os_error() as u16)
}

fn text(kind: &str, mode: u32, nlink: u32, size: u64) -> String {
    format!("{kind} {mode:o} {nlink} {size}")
}

/// What a stat line shows: a directory's size is the file system's own affair.
fn shown(mode: u32, nlink: u32, size: u64) -> String {
    let is_dir = mode & 0o170_000 == 0o040_000;
    text("inode", mode, nlink, if is_dir { 0 } else { size })
}

impl Side for Real {
    fn run(&mut self, op: &Op) -> Result<String, Errno> {
        let root = self.root.as_fd();
        let done = |result: rustix::io::Result<()>| result.map(|()| String::new()).map_err(errno);
        match op {
            Op::Mkdir(p) => done(rustix::fs::mkdirat(root, p, Mode::from_raw_mode(0o777))),
            Op::Rmdir(p) => done(rustix::fs::unlinkat(root, p, AtFlags::REMOVEDIR)),
            Op::Unlink(p) => done(rustix::fs::unlinkat(root, p, AtFlags::empty())),
            Op::Open(p, flags) => {
                let flags = OFlags::from_bits_retain(host_flags(*flags));
                let fd = rustix::fs::openat(root, p, flags, Mode::from_raw_mode(0o666));
                let stat = rustix::fs::fstat(fd.map_err(errno)?).map_err(errno)?;
                Ok(shown(stat.st_mode, stat.st_nlink as u32, stat.st_size as u64))
            }
            Op::Write(p, flags) => {
                let flags = OFlags::from_bits_retain(host_flags(*flags));
                let fd = rustix::fs::openat(root, p, flags, Mode::from_raw_mode(0o666));
                let fd = fd.map_err(errno)?;
                let written = rustix::io::write(&fd, b"hello").map_err(errno)?;
                Ok(format!("wrote {written}"))
            }
            Op::Truncate(p, size) => {
                // truncate(2) takes no directory descriptor: as open and ftruncate, in both.
                let flags = OFlags::WRONLY | OFlags::NONBLOCK;
                let fd = rustix::fs::openat(root, p, flags, Mode::empty()).map_err(errno)?;
                done(rustix::fs::ftruncate(fd, *size))
            }
            Op::Rename(a, b, mode) => {
                let flags = RenameFlags::from_bits_retain(u32::from(*mode));
                done(rustix::fs::renameat_with(root, a, root, b, flags))
            }
            Op::Link(a, b, follow) => {
                let flags = if *follow { AtFlags::SYMLINK_FOLLOW } else { AtFlags::empty() };
                done(rustix::fs::linkat(root, a, root, b, flags))
            }
            Op::Symlink(target, p) => done(rustix::fs::symlinkat(target, root, p)),
            Op::Mkfifo(p) => {
                let kind = rustix::fs::FileType::Fifo;
                done(rustix::fs::mknodat(root, p, kind, Mode::from_raw_mode(0o666), 0))
            }
            Op::Stat(p, follow) => {
                let flags = if *follow { AtFlags::empty() } else { AtFlags::SYMLINK_NOFOLLOW };
                let stat = rustix::fs::statat(root, p, flags).map_err(errno)?;
                Ok(shown(stat.st_mode, stat.st_nlink as u32, stat.st_size as u64))
            }
            Op::ReadLink(p) => {
                let text = rustix::fs::readlinkat(root, p, Vec::new()).map_err(errno)?;
                Ok(text.to_string_lossy().into_owned())
            }
            Op::List(p) => {
                let flags = OFlags::DIRECTORY | OFlags::NONBLOCK;
                let fd = rustix::fs::openat(root, p, flags, Mode::empty()).map_err(errno)?;
                let names = rustix::fs::Dir::read_from(fd).map_err(errno)?;
                Ok(listing(names.map(|entry| {
                    let entry = entry.expect("it can be read");
                    let kind = (entry.file_type().as_raw_mode() >> 12) as u8;
                    (entry.file_name().to_bytes().to_vec(), kind)
                })))
            }
            Op::Chmod(p, mode) => {
                done(rustix::fs::chmodat(root, p, Mode::from_raw_mode(*mode), AtFlags::empty()))
            }
        }
    }
}

/// Guest flags to the host's: only O_DIRECTORY and O_NOFOLLOW could differ between machines.
fn host_flags(guest: u32) -> u32 {
    let flags = OpenFlags::from_bits_retain(guest);
    let mut host = guest & 0o7777;
    for (flag, bit) in [
        (OpenFlags::DIRECTORY, OFlags::DIRECTORY),
        (OpenFlags::NOFOLLOW, OFlags::NOFOLLOW),
        (OpenFlags::PATH, OFlags::PATH),
    ] {
        if flags.contains(flag) {
            host |= bit.bits();
        }
    }
    host
}

struct Ours {
    vfs: Vfs,
    fs: Rc<FsStruct>,
    creds: Creds,
}

impl Ours {
    fn new(root: RootSource) -> Self {
        let vfs = vfs(root);
        let fs = FsStruct::new(vfs.root().clone(), vfs.root().clone());
        Self { vfs, fs, creds: Creds::root() }
    }

    fn who(&self) -> Who<'_> {
        Who { creds: &self.creds, fs: &self.fs }
    }

    fn open(&self, path: &str, flags: u32, mode: u32) -> Result<Rc<OpenFile>, Errno> {
        let how = OpenHow::new(flags, mode)?;
        self.vfs.open(&self.creds, &self.fs, &self.fs.cwd(), path.as_bytes(), how)
    }
}

impl Side for Ours {
    fn run(&mut self, op: &Op) -> Result<String, Errno> {
        let cwd = self.fs.cwd();
        let who = self.who();
        let done = |result: Result<(), Errno>| result.map(|()| String::new());
        fn place<'a>(from: &'a crate::fs::dentry::Path, text: &'a str) -> At<'a> {
            At { from, text: text.as_bytes() }
        }
        match op {
            Op::Mkdir(p) => done(self.vfs.create(who, place(&cwd, p), NewKind::Directory, 0o777)),
            Op::Rmdir(p) => done(self.vfs.unlink(who, place(&cwd, p), Remove::Directory)),
            Op::Unlink(p) => done(self.vfs.unlink(who, place(&cwd, p), Remove::File)),
            Op::Open(p, flags) => {
                let file = self.open(p, *flags, 0o666)?;
                let stat = file.inode().stat()?;
                Ok(shown(stat.mode(), stat.nlink, stat.size))
            }
            Op::Write(p, flags) => {
                let file = self.open(p, *flags, 0o666)?;
                Ok(format!("wrote {}", file.write(b"hello")?))
            }
            Op::Truncate(p, size) => {
                let flags = OpenFlags::WRONLY | OpenFlags::NONBLOCK;
                let file = self.open(p, flags.bits(), 0)?;
                done(self.vfs.truncate(&self.creds, file.path(), *size))
            }
            Op::Rename(a, b, mode) => {
                let mode = match mode {
                    0 => RenameMode::Replace,
                    1 => RenameMode::NoReplace,
                    _ => RenameMode::Exchange,
                };
                done(self.vfs.rename(who, place(&cwd, a), place(&cwd, b), mode))
            }
            Op::Link(a, b, follow) => {
                let last = if *follow { LastLink::Follow } else { LastLink::Keep };
                let target = self.vfs.lookup(who, place(&cwd, a), last)?;
                done(self.vfs.link(who, &target, place(&cwd, b)))
            }
            Op::Symlink(target, p) => {
                let what = NewKind::Symlink(target.as_bytes());
                done(self.vfs.create(who, place(&cwd, p), what, 0o777))
            }
            Op::Mkfifo(p) => done(self.vfs.create(who, place(&cwd, p), NewKind::Fifo, 0o666)),
            Op::Stat(p, follow) => {
                let last = if *follow { LastLink::Follow } else { LastLink::Keep };
                let stat = self.vfs.lookup(who, place(&cwd, p), last)?.inode().stat()?;
                Ok(shown(stat.mode(), stat.nlink, stat.size))
            }
            Op::ReadLink(p) => {
                let link = self.vfs.lookup(who, place(&cwd, p), LastLink::Keep)?;
                let text = link.inode().read_link()?;
                Ok(String::from_utf8_lossy(&text).into_owned())
            }
            Op::List(p) => {
                let flags = OpenFlags::DIRECTORY | OpenFlags::NONBLOCK;
                let file = self.open(p, flags.bits(), 0)?;
                let mut names = Vec::new();
                file.ops().read_dir(&file, 0, &mut |entry, _| {
                    names.push((entry.name.clone(), entry.kind.dirent_type()));
                    true
                })?;
                Ok(listing(names.into_iter()))
            }
            Op::Chmod(p, mode) => {
                let place = self.vfs.lookup(who, place(&cwd, p), LastLink::Follow)?;
                done(self.vfs.chmod(&self.creds, &place, *mode))
            }
        }
    }
}

fn any_path() -> impl Strategy<Value = String> {
    let component = prop_oneof![
        8 => prop::sample::select(vec!["a", "b", "c", "d"]),
        1 => prop::sample::select(vec![".", ".."]),
    ];
    (prop::collection::vec(component, 1..4), prop::sample::select(vec!["", "", "", "/", "//"]))
        .prop_map(|(parts, end)| parts.join("/") + end)
        .prop_map(inside)
}

/// Never above the folder: the real side has no root there.
fn inside(path: String) -> String {
    let mut depth = 0i32;
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => depth -= 1,
            _ => depth += 1,
        }
        if depth < 0 {
            return path.replace("..", ".");
        }
    }
    path
}

fn any_target() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["a", "b", "a/b", "c/d", "d", "b/", "./c", "nowhere"])
        .prop_map(String::from)
}

fn any_flags() -> impl Strategy<Value = u32> {
    let extra = [
        OpenFlags::CREAT,
        OpenFlags::EXCL,
        OpenFlags::TRUNC,
        OpenFlags::APPEND,
        OpenFlags::DIRECTORY,
        OpenFlags::NOFOLLOW,
    ];
    (0..3u32, prop::collection::vec(prop::sample::select(extra.to_vec()), 0..4)).prop_map(
        |(access, extra)| {
            let flags = extra.into_iter().fold(OpenFlags::NONBLOCK, |all, flag| all | flag);
            access | flags.bits()
        },
    )
}

fn any_op() -> impl Strategy<Value = Op> {
    let create = OpenFlags::CREAT | OpenFlags::WRONLY | OpenFlags::NONBLOCK;
    prop_oneof![
        4 => any_path().prop_map(Op::Mkdir),
        2 => any_path().prop_map(Op::Rmdir),
        2 => any_path().prop_map(Op::Unlink),
        4 => (any_path(), any_flags()).prop_map(|(p, f)| Op::Open(p, f)),
        3 => any_path().prop_map(move |p| Op::Write(p, create.bits())),
        1 => (any_path(), 0..20_000u64).prop_map(|(p, n)| Op::Truncate(p, n)),
        4 => (any_path(), any_path(), 0..3u8).prop_map(|(a, b, m)| Op::Rename(a, b, m)),
        2 => (any_path(), any_path(), any::<bool>()).prop_map(|(a, b, f)| Op::Link(a, b, f)),
        2 => (any_target(), any_path()).prop_map(|(t, p)| Op::Symlink(t, p)),
        1 => any_path().prop_map(Op::Mkfifo),
        3 => (any_path(), any::<bool>()).prop_map(|(p, f)| Op::Stat(p, f)),
        1 => any_path().prop_map(Op::ReadLink),
        2 => any_path().prop_map(Op::List),
        1 => (any_path(), 0..0o7777u32).prop_map(|(p, m)| Op::Chmod(p, m)),
    ]
}

fn compare(ops: &[Op], mut ours: Ours) -> Result<(), String> {
    rustix::process::umask(Mode::from_raw_mode(0o022));
    let folder = tempfile::tempdir().expect("a temporary folder");
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let root = rustix::fs::open(folder.path(), flags, Mode::empty()).expect("it opens");
    let mut real = Real { root };
    let mut log = String::new();
    for op in ops {
        let (expected, got) = (real.run(op), ours.run(op));
        let _ = writeln!(log, "{op:?} -> {expected:?}");
        if expected != got {
            return Err(format!("{log}but ours: {got:?}"));
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn names_in_memory_behave_as_linux(ops in prop::collection::vec(any_op(), 1..40)) {
        compare(&ops, Ours::new(RootSource::Memory)).map_err(TestCaseError::fail)?;
    }

    #[test]
    fn names_in_a_host_folder_behave_as_linux(ops in prop::collection::vec(any_op(), 1..40)) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let root = RootSource::Host(PathBuf::from(folder.path()));
        compare(&ops, Ours::new(root)).map_err(TestCaseError::fail)?;
    }
}
