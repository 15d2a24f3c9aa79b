//! Files of huge pages (hugetlbfs), over a pool that is empty.
//!
//! A [`HugeFile`] can be made, sized, sealed and read, as holes; there is never a page for it, so
//! mapping it is ENOMEM and allocating ENOSPC, which is what Linux answers while nobody has put
//! pages into the pool. Source: Linux 6.18 fs/hugetlbfs/inode.c, mm/memfd.c; checked on a real
//! riscv64 kernel. Neighbour: [`crate::fs::memfs`], which keeps what such a file shares with any
//! other in memory.

use crate::fs::file::{FileOps, OpenFile, OpenFlags, Whence, seek_in};
use crate::fs::inode::{FileSystem, Inode, InodeRef, SetAttr, Touch};
use crate::fs::seals::Seals;
use crate::fs::stat::{Device, FileType, Kstat, Kstatfs};
use kilburn_addr::Errno;
use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const HUGETLBFS_MAGIC: u64 = 0x9584_58f6;

/// A size that huge pages have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum HugeSize {
    /// 2 MiB: what `Hugepagesize` of meminfo names.
    Mib2,
    /// 1 GiB.
    Gib1,
}

impl HugeSize {
    /// The sizes there are.
    pub(crate) const ALL: [Self; 2] = [Self::Gib1, Self::Mib2];

    /// The size whose log2 is `shift`; 0 names the default.
    pub(crate) fn of_shift(shift: u32) -> Option<Self> {
        match shift {
            0 | 21 => Some(Self::Mib2),
            30 => Some(Self::Gib1),
            _ => None,
        }
    }

    /// In bytes.
    pub(crate) const fn bytes(self) -> u64 {
        match self {
            Self::Mib2 => 2 << 20,
            Self::Gib1 => 1 << 30,
        }
    }
}

/// The file system of pages of one size.
struct HugeFs {
    device: Device,
    size: HugeSize,
}

impl FileSystem for HugeFs {
    fn type_name(&self) -> &'static str {
        "hugetlbfs"
    }

    fn device(&self) -> Device {
        self.device
    }

    fn statfs(&self) -> Result<Kstatfs, Errno> {
        Ok(Kstatfs { block_size: self.size.bytes(), ..Kstatfs::simple(HUGETLBFS_MAGIC) })
    }
}

/// A file without a name in any tree (`memfd_create` with `MFD_HUGETLB`).
pub(crate) struct HugeFile {
    fs: Arc<HugeFs>,
    /// A file in memory that nothing is written to: attributes and seals.
    plain: InodeRef,
    bytes: AtomicU64,
}

impl HugeFile {
    /// An empty file with the attributes and seals of `plain`.
    pub(crate) fn new(plain: InodeRef, size: HugeSize, device: Device) -> Arc<Self> {
        Arc::new(Self { fs: Arc::new(HugeFs { device, size }), plain, bytes: AtomicU64::new(0) })
    }
}

impl Inode for HugeFile {
    fn file_system(&self) -> Arc<dyn FileSystem> {
        Arc::clone(&self.fs) as Arc<dyn FileSystem>
    }

    fn kind(&self) -> FileType {
        FileType::Regular
    }

    fn stat(&self) -> Result<Kstat, Errno> {
        let size = self.bytes.load(Ordering::Relaxed);
        let blksize = self.fs.size.bytes() as u32;
        Ok(Kstat { dev: self.fs.device, size, blksize, blocks: 0, ..self.plain.stat()? })
    }

    fn set_attr(&self, change: &SetAttr) -> Result<(), Errno> {
        self.plain.set_attr(change)
    }

    fn touch(&self, times: Touch) {
        self.plain.touch(times);
    }

    fn truncate(&self, size: u64) -> Result<(), Errno> {
        if !size.is_multiple_of(self.fs.size.bytes()) {
            return Err(Errno::EINVAL);
        }
        if let Some(seals) = self.seals() {
            seals.check_resize(self.bytes.load(Ordering::Relaxed), size)?;
        }
        self.bytes.store(size, Ordering::Relaxed);
        Ok(())
    }

    fn seals(&self) -> Option<&Seals> {
        self.plain.seals()
    }

    fn open(&self, _flags: OpenFlags) -> Option<Result<Box<dyn FileOps>, Errno>> {
        Some(Ok(Box::new(HugeOps)))
    }

    fn huge_pages(&self) -> Option<HugeSize> {
        Some(self.fs.size)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Operations of an open [`HugeFile`].
struct HugeOps;

impl FileOps for HugeOps {
    fn read(&self, file: &OpenFile, pos: u64, into: &mut [u8]) -> Result<usize, Errno> {
        let left = file.inode().stat()?.size.saturating_sub(pos);
        let count = into.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        into[..count].fill(0);
        Ok(count)
    }

    fn seek(&self, file: &OpenFile, offset: i64, whence: Whence) -> Result<u64, Errno> {
        seek_in(file.position(), Some(file.inode().stat()?.size), offset, whence)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
