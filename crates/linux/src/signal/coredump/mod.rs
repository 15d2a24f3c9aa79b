//! Core dumps (Linux fs/coredump.c: `do_coredump`): a process that a signal ends leaves its memory
//! and registers in an ELF file that debuggers open.
//!
//! [`name`] makes the file's name of the pattern; [`image`] is the file's head: segments and
//! notes. Here: whether there is to be one, and writing it. The other threads of the process stand
//! still meanwhile: nothing here waits.

mod image;
mod name;

use crate::fs::{At, OpenFile, OpenFlags, OpenHow, Remove, Who};
use crate::host::Mm;
use crate::signal::SigInfo;
use crate::task::{Resource, Task};
use image::{Image, Segment};
use kilburn_addr::{Errno, PAGE_SIZE, VirtAddr};
use kilburn_mm::{DumpExtent, RemoteRights, ShowFrames};
use std::rc::Rc;
use std::sync::Arc;

/// Smaller limits give no dump at all (`ELF_EXEC_PAGESIZE`).
const LIMIT_MIN: u64 = PAGE_SIZE;
/// Pages looked at together.
const CHUNK_PAGES: u64 = 512;
const ELF_MAGIC: &[u8] = b"\x7fELF";

impl Task {
    /// Writes a core dump of this task's process, ended by `info`; answers whether there is one.
    pub(crate) fn dump_core(self: &Rc<Self>, info: &SigInfo) -> bool {
        let limit = self.rlimit(Resource::Core);
        // DIVERGENCE(core-pipe-absent): a core_pattern that names a program (`|...`) gives no dump;
        // nothing runs such programs here.
        let Some(path) = name::expand(self, info) else { return false };
        let dumpable = self.group().dumpable.get() == 1;
        if limit < LIMIT_MIN || !dumpable || self.group().group_exit.get().is_some() {
            return false;
        }
        let Some(mm) = self.mm() else { return false };
        let Ok(file) = self.create_core(&path) else { return false };
        let (image, segments) = Image::new(self, &mm, info);
        // A full disk cuts the file short, as the limit does; the process has dumped all the same.
        let _ = write(&file, &mm, &image, &segments, limit);
        true
    }

    fn create_core(&self, path: &[u8]) -> Result<Rc<OpenFile>, Errno> {
        let (creds, fs, vfs) = (self.creds(), self.fs(), self.kernel().vfs());
        let from = fs.cwd();
        let who = Who { creds: &creds, fs: &fs };
        // What is there goes, so that nobody who has it open reads the dump.
        let _ = vfs.unlink(who, At { from: &from, text: path }, Remove::File);
        let flags = OpenFlags::CREAT | OpenFlags::EXCL | OpenFlags::RDWR | OpenFlags::NOFOLLOW;
        let how = OpenHow::new(flags.bits(), 0o600)?;
        vfs.open(&creds, &fs, &from, path, how)
    }
}

/// Appends to a file up to a limit.
struct Writer<'a> {
    file: &'a OpenFile,
    at: u64,
    limit: u64,
}

impl Writer<'_> {
    fn put(&mut self, mut bytes: &[u8]) -> Result<(), Errno> {
        while !bytes.is_empty() {
            let room = self.limit.saturating_sub(self.at).min(bytes.len() as u64) as usize;
            if room == 0 {
                return Err(Errno::EFBIG);
            }
            let done = self.file.write_at(self.at, &bytes[..room])?;
            self.at += done as u64;
            bytes = &bytes[done..];
        }
        Ok(())
    }

    /// Leaves a hole.
    fn skip(&mut self, bytes: u64) {
        self.at += bytes;
    }
}

fn write(
    file: &OpenFile,
    mm: &Arc<Mm>,
    image: &Image,
    segments: &[Segment],
    limit: u64,
) -> Result<(), Errno> {
    let mut out = Writer { file, at: 0, limit };
    out.put(&image.bytes)?;
    for segment in segments {
        dump_pages(&mut out, mm, segment)?;
    }
    if out.at <= limit {
        // The file ends where the last segment does, hole or not.
        file.inode().truncate(out.at)?;
    }
    Ok(())
}

fn dump_pages(out: &mut Writer<'_>, mm: &Arc<Mm>, segment: &Segment) -> Result<(), Errno> {
    let mut page = vec![0; PAGE_SIZE as usize];
    let mut entries = vec![0; CHUNK_PAGES as usize];
    let pages = segment.bytes / PAGE_SIZE;
    for first in (0..pages).step_by(CHUNK_PAGES as usize) {
        let count = CHUNK_PAGES.min(pages - first);
        let base = segment.start + first * PAGE_SIZE;
        let entries = &mut entries[..count as usize];
        mm.pagemap(base / PAGE_SIZE, entries, ShowFrames::No);
        for (i, entry) in entries.iter().enumerate() {
            // Anonymous memory that was never touched reads as zeros: a hole says the same.
            if segment.is_anonymous && *entry == 0 {
                out.skip(PAGE_SIZE);
                continue;
            }
            let at = VirtAddr::new(base + i as u64 * PAGE_SIZE);
            if mm.read_remote(at, &mut page, RemoteRights::Forced) == page.len() {
                out.put(&page)?;
            } else {
                out.skip(PAGE_SIZE);
            }
        }
    }
    Ok(())
}

/// How many bytes of an area go into the file.
fn bytes_of(mm: &Mm, start: VirtAddr, len: u64, extent: DumpExtent) -> u64 {
    match extent {
        DumpExtent::Nothing => 0,
        DumpExtent::Whole => len,
        DumpExtent::ElfHeader => {
            let mut magic = [0; 4];
            let got = mm.read_remote(start, &mut magic, RemoteRights::Forced);
            if got == 4 && magic == ELF_MAGIC { PAGE_SIZE } else { 0 }
        }
    }
}
