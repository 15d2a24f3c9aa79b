//! Character devices: `/dev` and what opening its nodes gives.
//!
//! [`populate`] fills a `/dev`; [`open`] finds the driver of a device number. Random bytes come
//! from the machine's seeded generator. Block devices do not exist. Neighbours:
//! [`crate::fs::open`]; the terminal is [`crate::fs::tty`].

use crate::fs::file::{FileOps, OpenFile, PollEvents, Whence};
use crate::fs::inode::{InodeRef, NewInode, NewKind};
use crate::fs::random::Random;
use crate::fs::stat::{Device, FileType};
use crate::fs::stdio::Standard;
use crate::fs::tty::{Tty, TtyFile};
use crate::fs::userfaultfd::MonitorDevice;
use kilburn_addr::Errno;
use std::any::Any;
use std::rc::Rc;

/// Discards what is written, reads as empty.
pub(crate) const NULL: Device = Device::new(1, 3);
/// Reads as zeros.
pub(crate) const ZERO: Device = Device::new(1, 5);
/// Reads as zeros, refuses writes with ENOSPC.
pub(crate) const FULL: Device = Device::new(1, 7);
/// Random bytes.
pub(crate) const RANDOM: Device = Device::new(1, 8);
/// Random bytes.
pub(crate) const URANDOM: Device = Device::new(1, 9);
/// The controlling terminal.
pub(crate) const TTY: Device = Device::new(5, 0);
/// The system console.
pub(crate) const CONSOLE: Device = Device::new(5, 1);

/// Makes userfaultfds.
pub(crate) const USERFAULTFD: Device = Device::new(10, 257);

/// The terminal as a pseudo terminal.
pub(crate) const PTS_0: Device = Device::new(136, 0);

/// Makes the nodes and links of `/dev`.
pub(crate) fn populate(dev: &InodeRef) {
    let nodes: [(&[u8], Device, u32, u32); 8] = [
        (b"null", NULL, 0o666, 0),
        (b"zero", ZERO, 0o666, 0),
        (b"full", FULL, 0o666, 0),
        (b"random", RANDOM, 0o666, 0),
        (b"urandom", URANDOM, 0o666, 0),
        (b"tty", TTY, 0o666, 5),
        (b"console", CONSOLE, 0o600, 5),
        (b"userfaultfd", USERFAULTFD, 0o600, 0),
    ];
    for (name, device, perm, gid) in nodes {
        let what = NewKind::Device(FileType::CharDevice, device);
        made(dev.create(name, &NewInode { what, perm, uid: 0, gid }));
    }
    let links: [(&[u8], &[u8]); 4] = [
        (b"fd", b"/proc/self/fd"),
        (b"stdin", b"/proc/self/fd/0"),
        (b"stdout", b"/proc/self/fd/1"),
        (b"stderr", b"/proc/self/fd/2"),
    ];
    for (name, target) in links {
        let what = NewKind::Symlink(target);
        made(dev.create(name, &NewInode { what, perm: 0o777, uid: 0, gid: 0 }));
    }
    for name in [b"shm", b"pts"] {
        let what = NewKind::Directory;
        made(dev.create(name, &NewInode { what, perm: 0o755, uid: 0, gid: 0 }));
    }
}

/// Makes the nodes of `/dev/pts`: the terminal, when there is one.
pub(crate) fn populate_pts(pts: &InodeRef, tty: Option<&Rc<Tty>>) {
    if tty.is_some() {
        let what = NewKind::Device(FileType::CharDevice, PTS_0);
        made(pts.create(b"0", &NewInode { what, perm: 0o620, uid: 0, gid: 5 }));
    }
}

fn made(node: Result<InodeRef, Errno>) {
    debug_assert!(node.is_ok(), "a new /dev has room for its nodes");
}

/// The operations of a character device.
///
/// # Errors
/// ENXIO when there is no such device.
pub(crate) fn open(
    device: Device,
    random: &Random,
    tty: Option<&Rc<Tty>>,
) -> Result<Box<dyn FileOps>, Errno> {
    Ok(match device {
        NULL => Box::new(Null),
        ZERO => Box::new(Zero { writable: true }),
        FULL => Box::new(Zero { writable: false }),
        RANDOM | URANDOM => Box::new(RandomDevice(random.clone())),
        TTY | CONSOLE | PTS_0 => Box::new(TtyFile::new(tty.ok_or(Errno::ENXIO)?, Standard::Output)),
        USERFAULTFD => Box::new(MonitorDevice),
        _ => return Err(Errno::ENXIO),
    })
}

struct Null;

impl FileOps for Null {
    fn read(&self, _file: &OpenFile, _pos: u64, _into: &mut [u8]) -> Result<usize, Errno> {
        Ok(0)
    }

    fn write(&self, _file: &OpenFile, _pos: u64, from: &[u8]) -> Result<usize, Errno> {
        Ok(from.len())
    }

    /// Linux `null_lseek`: always at 0.
    fn seek(&self, _file: &OpenFile, _offset: i64, _whence: Whence) -> Result<u64, Errno> {
        Ok(0)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// `/dev/zero` and `/dev/full`.
pub(crate) struct Zero {
    writable: bool,
}

impl FileOps for Zero {
    fn read(&self, _file: &OpenFile, _pos: u64, into: &mut [u8]) -> Result<usize, Errno> {
        into.fill(0);
        Ok(into.len())
    }

    fn write(&self, _file: &OpenFile, _pos: u64, from: &[u8]) -> Result<usize, Errno> {
        if self.writable { Ok(from.len()) } else { Err(Errno::ENOSPC) }
    }

    fn seek(&self, _file: &OpenFile, _offset: i64, _whence: Whence) -> Result<u64, Errno> {
        Ok(0)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

struct RandomDevice(Random);

impl FileOps for RandomDevice {
    fn read(&self, _file: &OpenFile, _pos: u64, into: &mut [u8]) -> Result<usize, Errno> {
        self.0.fill(into);
        Ok(into.len())
    }

    /// Bytes offered as entropy are taken and change nothing: the generator is seeded.
    fn write(&self, _file: &OpenFile, _pos: u64, from: &[u8]) -> Result<usize, Errno> {
        Ok(from.len())
    }

    fn seek(&self, _file: &OpenFile, _offset: i64, _whence: Whence) -> Result<u64, Errno> {
        Ok(0)
    }

    fn poll(&self, _file: &OpenFile) -> PollEvents {
        PollEvents::ALWAYS
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
