//! What `stat` answers: file types, mode bits, device numbers, times, and their user-space layout.
//!
//! [`Kstat`] is Linux's `struct kstat`: what an inode knows of itself. [`Kstat::to_stat`] and
//! [`Kstat::to_statx`] lay it out as riscv64 programs read it. Neighbours: [`crate::fs::inode`].

use crate::fs::walk::NAME_MAX;
use kilburn_addr::PAGE_SIZE;

/// Set-user-ID bit of a mode.
pub(crate) const S_ISUID: u32 = 0o4000;
/// Set-group-ID bit of a mode.
pub(crate) const S_ISGID: u32 = 0o2000;
/// Sticky bit of a mode.
pub(crate) const S_ISVTX: u32 = 0o1000;
/// The type bits of a mode.
const S_IFMT: u32 = 0o170_000;

/// The type of an inode.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum FileType {
    /// Named or anonymous pipe.
    Fifo,
    /// Character device.
    CharDevice,
    /// Directory.
    Directory,
    /// Block device.
    BlockDevice,
    /// Regular file.
    Regular,
    /// Symbolic link.
    Symlink,
    /// Socket.
    Socket,
    /// No type at all: an anonymous inode (eventfd, epoll, ...).
    Anonymous,
}

impl FileType {
    /// The `S_IFMT` bits.
    pub(crate) const fn mode_bits(self) -> u32 {
        match self {
            Self::Fifo => 0o010_000,
            Self::CharDevice => 0o020_000,
            Self::Directory => 0o040_000,
            Self::BlockDevice => 0o060_000,
            Self::Regular => 0o100_000,
            Self::Symlink => 0o120_000,
            Self::Socket => 0o140_000,
            Self::Anonymous => 0,
        }
    }

    /// The type in a mode; `None` when its type bits name none.
    pub(crate) const fn from_mode(mode: u32) -> Option<Self> {
        Some(match mode & S_IFMT {
            0o010_000 => Self::Fifo,
            0o020_000 => Self::CharDevice,
            0o040_000 => Self::Directory,
            0o060_000 => Self::BlockDevice,
            0o100_000 => Self::Regular,
            0o120_000 => Self::Symlink,
            0o140_000 => Self::Socket,
            _ => return None,
        })
    }

    /// Whether its bytes are not the file system's: a read-only one may be written (Linux
    /// `special_file`).
    pub(crate) const fn is_special(self) -> bool {
        !matches!(self, Self::Regular | Self::Directory | Self::Symlink)
    }

    /// `d_type` of a directory entry (`DT_*`).
    pub(crate) const fn dirent_type(self) -> u8 {
        (self.mode_bits() >> 12) as u8
    }
}

/// A device number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub(crate) struct Device {
    /// Which driver.
    pub(crate) major: u32,
    /// Which of the driver's devices.
    pub(crate) minor: u32,
}

impl Device {
    /// The device with these numbers.
    pub(crate) const fn new(major: u32, minor: u32) -> Self {
        Self { major, minor }
    }

    /// As `stat` and `mknod` carry it (Linux include/linux/kdev_t.h: `new_encode_dev`).
    pub(crate) const fn encode(self) -> u64 {
        ((self.minor & 0xff) | ((self.major & 0xfff) << 8) | ((self.minor & !0xff) << 12)) as u64
    }

    /// The inverse of [`encode`](Self::encode).
    pub(crate) const fn decode(raw: u32) -> Self {
        Self { major: (raw >> 8) & 0xfff, minor: (raw & 0xff) | ((raw >> 12) & 0xf_ff00) }
    }
}

/// A moment in real time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub(crate) struct Timespec {
    /// Seconds since 1970-01-01 00:00:00 UTC.
    pub(crate) seconds: i64,
    /// 0 to 999,999,999.
    pub(crate) nanos: u32,
}

impl Timespec {
    /// The moment `nanos` nanoseconds after the epoch.
    pub(crate) const fn from_nanos(nanos: u64) -> Self {
        Self { seconds: (nanos / 1_000_000_000) as i64, nanos: (nanos % 1_000_000_000) as u32 }
    }
}

/// What an inode knows of itself (Linux `struct kstat`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Kstat {
    /// Device of the file system.
    pub(crate) dev: Device,
    /// Inode number.
    pub(crate) ino: u64,
    /// Type.
    pub(crate) kind: FileType,
    /// Permission, set-ID and sticky bits; no type bits.
    pub(crate) perm: u32,
    /// Hard links.
    pub(crate) nlink: u32,
    /// Owner.
    pub(crate) uid: u32,
    /// Group.
    pub(crate) gid: u32,
    /// Device that a device node stands for.
    pub(crate) rdev: Device,
    /// Size in bytes.
    pub(crate) size: u64,
    /// Preferred I/O size in bytes.
    pub(crate) blksize: u32,
    /// Allocated, in units of 512 bytes.
    pub(crate) blocks: u64,
    /// Last read.
    pub(crate) atime: Timespec,
    /// Last change of the contents.
    pub(crate) mtime: Timespec,
    /// Last change of the inode.
    pub(crate) ctime: Timespec,
    /// Creation, where the file system keeps it.
    pub(crate) btime: Option<Timespec>,
}

impl Kstat {
    /// Type and permission bits together (`st_mode`).
    pub(crate) const fn mode(&self) -> u32 {
        self.kind.mode_bits() | self.perm
    }

    /// `struct stat` of riscv64 (include/uapi/asm-generic/stat.h), 128 bytes.
    pub(crate) fn to_stat(self) -> [u8; 128] {
        let mut out = Layout::<128>::new();
        out.u64(self.dev.encode());
        out.u64(self.ino);
        out.u32(self.mode());
        out.u32(self.nlink);
        out.u32(self.uid);
        out.u32(self.gid);
        out.u64(self.rdev.encode());
        out.u64(0);
        out.u64(self.size);
        out.u32(self.blksize);
        out.u32(0);
        out.u64(self.blocks);
        for time in [self.atime, self.mtime, self.ctime] {
            out.u64(time.seconds as u64);
            out.u64(u64::from(time.nanos));
        }
        out.bytes
    }

    /// `struct statx` (include/uapi/linux/stat.h), 256 bytes, with all basic fields filled in.
    pub(crate) fn to_statx(self, mount_id: u64, mount_root: bool) -> [u8; 256] {
        const STATX_BASIC_STATS: u32 = 0x7ff;
        const STATX_BTIME: u32 = 0x800;
        const STATX_MNT_ID: u32 = 0x1000;
        const STATX_ATTR_MOUNT_ROOT: u64 = 0x2000;
        let btime_bit = if self.btime.is_some() { STATX_BTIME } else { 0 };
        let mut out = Layout::<256>::new();
        out.u32(STATX_BASIC_STATS | STATX_MNT_ID | btime_bit);
        out.u32(self.blksize);
        out.u64(if mount_root { STATX_ATTR_MOUNT_ROOT } else { 0 });
        out.u32(self.nlink);
        out.u32(self.uid);
        out.u32(self.gid);
        out.u32(self.mode() & 0xffff);
        out.u64(self.ino);
        out.u64(self.size);
        out.u64(self.blocks);
        out.u64(STATX_ATTR_MOUNT_ROOT);
        for time in [self.atime, self.btime.unwrap_or_default(), self.ctime, self.mtime] {
            out.u64(time.seconds as u64);
            out.u32(time.nanos);
            out.u32(0);
        }
        for device in [self.rdev, self.dev] {
            out.u32(device.major);
            out.u32(device.minor);
        }
        out.u64(mount_id);
        out.bytes
    }
}

/// What `statfs` answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Kstatfs {
    /// Magic number of the file system type.
    pub(crate) magic: u64,
    /// Block size, bytes.
    pub(crate) block_size: u64,
    /// Blocks in all.
    pub(crate) blocks: u64,
    /// Free blocks.
    pub(crate) blocks_free: u64,
    /// Free blocks for other users than root.
    pub(crate) blocks_available: u64,
    /// Inodes in all.
    pub(crate) files: u64,
    /// Free inodes.
    pub(crate) files_free: u64,
    /// Longest name.
    pub(crate) name_length: u64,
    /// Mount flags (`ST_*`); `ST_VALID` is added on the way out.
    pub(crate) flags: u64,
}

impl Kstatfs {
    /// That of a file system without blocks (Linux `simple_statfs`).
    pub(crate) fn simple(magic: u64) -> Self {
        Self {
            magic,
            block_size: PAGE_SIZE,
            blocks: 0,
            blocks_free: 0,
            blocks_available: 0,
            files: 0,
            files_free: 0,
            name_length: NAME_MAX as u64,
            flags: 0,
        }
    }

    /// `struct statfs` of a 64-bit machine (include/uapi/asm-generic/statfs.h), 120 bytes.
    pub(crate) fn to_statfs(self) -> [u8; 120] {
        const ST_VALID: u64 = 0x20;
        let mut out = Layout::<120>::new();
        out.u64(self.magic);
        out.u64(self.block_size);
        out.u64(self.blocks);
        out.u64(self.blocks_free);
        out.u64(self.blocks_available);
        out.u64(self.files);
        out.u64(self.files_free);
        out.u64(0);
        out.u64(self.name_length);
        out.u64(self.block_size);
        out.u64(self.flags | ST_VALID);
        out.bytes
    }
}

/// Writes the fields of a C struct one after the other, little endian.
struct Layout<const N: usize> {
    bytes: [u8; N],
    at: usize,
}

impl<const N: usize> Layout<N> {
    fn new() -> Self {
        Self { bytes: [0; N], at: 0 }
    }

    fn put(&mut self, field: &[u8]) {
        self.bytes[self.at..self.at + field.len()].copy_from_slice(field);
        self.at += field.len();
    }

    fn u32(&mut self, value: u32) {
        self.put(&value.to_le_bytes());
    }

    fn u64(&mut self, value: u64) {
        self.put(&value.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: Kstat = Kstat {
        dev: Device::new(8, 1),
        ino: 0x1122_3344_5566,
        kind: FileType::Regular,
        perm: 0o644,
        nlink: 3,
        uid: 1000,
        gid: 100,
        rdev: Device::new(0, 0),
        size: 4097,
        blksize: 4096,
        blocks: 16,
        atime: Timespec { seconds: 1, nanos: 2 },
        mtime: Timespec { seconds: 3, nanos: 4 },
        ctime: Timespec { seconds: 5, nanos: 6 },
        btime: None,
    };

    #[test]
    fn stat_fields_lie_where_riscv64_programs_look() {
        let raw = SAMPLE.to_stat();
        let word = |at: usize| u64::from_le_bytes(raw[at..at + 8].try_into().unwrap());
        let half = |at: usize| u32::from_le_bytes(raw[at..at + 4].try_into().unwrap());
        assert_eq!(word(0), 0x801);
        assert_eq!(word(8), SAMPLE.ino);
        assert_eq!((half(16), half(20), half(24), half(28)), (0o100_644, 3, 1000, 100));
        assert_eq!((word(48), half(56), word(64)), (4097, 4096, 16));
        assert_eq!((word(72), word(80), word(88), word(104)), (1, 2, 3, 5));
    }

    #[test]
    fn statx_fields_lie_where_programs_look() {
        let raw = SAMPLE.to_statx(7, true);
        let word = |at: usize| u64::from_le_bytes(raw[at..at + 8].try_into().unwrap());
        let half = |at: usize| u32::from_le_bytes(raw[at..at + 4].try_into().unwrap());
        assert_eq!(half(0), 0x17ff);
        assert_eq!((word(32), word(40), word(48)), (SAMPLE.ino, 4097, 16));
        assert_eq!((word(64), word(96), word(112)), (1, 5, 3));
        assert_eq!((half(0x88), half(0x8c), word(0x90)), (8, 1, 7));
    }

    #[test]
    fn device_numbers_survive_encoding() {
        for device in [Device::new(1, 3), Device::new(136, 300), Device::new(0xfff, 0xf_ffff)] {
            assert_eq!(Device::decode(device.encode() as u32), device);
        }
    }
}
