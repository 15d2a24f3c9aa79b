//! read and write through the cache (Linux 6.18 mm/filemap.c: `filemap_read`,
//! `generic_perform_write`; mm/shmem.c).

use super::{AddressSpace, Content};
use crate::Host;
use crate::policy::FirstUse;
use core::sync::atomic::Ordering;
use kilburn_addr::{Errno, PAGE_SIZE, PhysAddr};
use kilburn_paging::PhysMem;

/// Part of a transfer that lies in one page.
struct Piece {
    index: u64,
    offset: u64,
    len: usize,
}

/// The piece of `len` bytes from `pos` that lies in `pos`'s page.
fn first_piece(pos: u64, len: usize) -> Piece {
    let offset = pos % PAGE_SIZE;
    Piece { index: pos / PAGE_SIZE, offset, len: len.min((PAGE_SIZE - offset) as usize) }
}

impl<H: Host> AddressSpace<H> {
    /// Reads from `pos` through the cache; stops at the end of the file. Answers how many bytes.
    ///
    /// # Errors
    /// `EIO` when the store fails, `ENOMEM` when there is no frame; only if nothing was read.
    pub fn read_at(&self, pos: u64, into: &mut [u8]) -> Result<usize, Errno> {
        let mut done = 0;
        while done < into.len() {
            let guard = self.invalidate.read();
            let at = pos.saturating_add(done as u64);
            let left = self.size().saturating_sub(at);
            if left == 0 {
                break;
            }
            let want = (into.len() - done).min(usize::try_from(left).unwrap_or(usize::MAX));
            let piece = first_piece(at, want);
            match self.read_piece(&piece, &mut into[done..done + piece.len]) {
                Ok(()) => done += piece.len,
                Err(errno) if done == 0 => return Err(errno),
                Err(_) => break,
            }
            drop(guard);
        }
        Ok(done)
    }

    fn read_piece(&self, piece: &Piece, into: &mut [u8]) -> Result<(), Errno> {
        let page = match &self.content {
            Content::Store(_) => self.page(piece.index)?.0,
            Content::Shmem(_) => match self.existing_page(piece.index)? {
                Some(page) => page,
                // A hole reads as zeros and stays a hole.
                None => {
                    into.fill(0);
                    return Ok(());
                }
            },
        };
        self.memory.note_call_use(page.pfn());
        let from = PhysAddr::new(page.pfn().base().get() + piece.offset);
        self.memory.host().mem().read(from, into);
        Ok(())
    }

    /// Writes at `pos` through the cache; the file grows. Answers how many bytes.
    ///
    /// # Errors
    /// `ETXTBSY` for a file that swap lies in, `EFBIG` past the largest offset, `EIO` when the store fails, `ENOMEM` (`ENOSPC` for shared
    /// memory) when there is no frame; only if nothing was written.
    pub fn write_at(&self, pos: u64, from: &[u8]) -> Result<usize, Errno> {
        self.check_writable()?;
        if from.is_empty() {
            return Ok(0);
        }
        let room = (i64::MAX as u64).saturating_sub(pos);
        if room == 0 {
            return Err(Errno::EFBIG);
        }
        let from = &from[..from.len().min(usize::try_from(room).unwrap_or(usize::MAX))];
        let mut done = 0;
        while done < from.len() {
            let guard = self.invalidate.read();
            let at = pos + done as u64;
            let piece = first_piece(at, from.len() - done);
            let bytes = &from[done..done + piece.len];
            match self.check_writable().and_then(|()| self.write_piece(&piece, bytes)) {
                Ok(()) => done += piece.len,
                Err(errno) if done == 0 => return Err(errno),
                Err(_) => break,
            }
            drop(guard);
        }
        Ok(done)
    }

    fn write_piece(&self, piece: &Piece, from: &[u8]) -> Result<(), Errno> {
        let overwritten = piece.offset == 0
            && (from.len() as u64 == PAGE_SIZE || piece.index >= self.size_pages());
        let page = match self.cached_page(piece.index) {
            Some(page) => page,
            // Nothing of the old page is left: it need not be read.
            None if overwritten => self.add_page(piece.index, from, FirstUse::Call)?,
            None if piece.index >= self.size_pages() => {
                self.add_page(piece.index, &[], FirstUse::Call)?
            }
            None => self.page(piece.index)?.0,
        };
        let to = PhysAddr::new(page.pfn().base().get() + piece.offset);
        self.memory.host().mem().write(to, from);
        self.memory.note_call_use(page.pfn());
        // The file has the bytes before they are dirty: write-back leaves out what is past its end.
        let end = piece.index * PAGE_SIZE + piece.offset + from.len() as u64;
        self.size.fetch_max(end, Ordering::AcqRel);
        self.mark_dirty(piece.index);
        drop(page);
        self.write_own_if_too_many();
        Ok(())
    }
}
