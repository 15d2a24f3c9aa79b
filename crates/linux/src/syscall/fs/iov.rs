//! User memory in pieces: what `readv` and its relatives work on.
//!
//! [`UserIov`] is a cursor over the pieces of one call. A single buffer is one piece. Source: Linux
//! 6.18 lib/iov_iter.c.

use crate::task::Task;
use kilburn_addr::{Errno, PAGE_SIZE, VirtAddr};
use std::rc::Rc;

/// Most pieces of one call.
const UIO_MAXIOV: u64 = 1024;
/// Most bytes one call moves (Linux `MAX_RW_COUNT`).
pub(super) const MAX_RW_COUNT: u64 = 0x7fff_f000;

/// Pieces of user memory, and how far they are used.
pub(super) struct UserIov {
    pieces: Vec<(u64, u64)>,
    at: usize,
    left: u64,
}

impl UserIov {
    /// One buffer.
    pub(super) fn buffer(addr: VirtAddr, len: u64) -> Self {
        let len = len.min(MAX_RW_COUNT);
        Self { pieces: vec![(addr.get(), len)], at: 0, left: len }
    }

    /// The `struct iovec` array at `addr` (Linux `import_iovec`).
    ///
    /// # Errors
    /// EINVAL for more than 1024 pieces or a negative length; EFAULT.
    pub(super) async fn read(task: &Rc<Task>, addr: VirtAddr, count: u64) -> Result<Self, Errno> {
        if count > UIO_MAXIOV {
            return Err(Errno::EINVAL);
        }
        let mut raw = vec![0; count as usize * 16];
        task.copy_in(addr, &mut raw).await?;
        let mut pieces = Vec::with_capacity(count as usize);
        let mut left = 0;
        for piece in raw.chunks_exact(16) {
            let (base, len) = piece.split_at(8);
            let base = u64::from_le_bytes(base.try_into().map_err(|_| Errno::EFAULT)?);
            let len = u64::from_le_bytes(len.try_into().map_err(|_| Errno::EFAULT)?);
            if i64::try_from(len).is_err() {
                return Err(Errno::EINVAL);
            }
            let len = len.min(MAX_RW_COUNT - left);
            left += len;
            pieces.push((base, len));
        }
        Ok(Self { pieces, at: 0, left })
    }

    /// Bytes not yet used.
    pub(super) fn left(&self) -> u64 {
        self.left
    }

    /// Uses at most `max` bytes of the current piece: its address and how many.
    fn front(&mut self, max: u64) -> Option<(VirtAddr, usize)> {
        while self.pieces.get(self.at).is_some_and(|piece| piece.1 == 0) {
            self.at += 1;
        }
        let (base, len) = *self.pieces.get(self.at)?;
        Some((VirtAddr::new(base), len.min(max) as usize))
    }

    fn advance(&mut self, bytes: usize) {
        let piece = &mut self.pieces[self.at];
        piece.0 = piece.0.wrapping_add(bytes as u64);
        piece.1 -= bytes as u64;
        self.left -= bytes as u64;
    }

    /// Copies the next bytes into `into`; stops at a fault. Answers how many.
    pub(super) async fn copy_in(&mut self, task: &Rc<Task>, into: &mut [u8]) -> usize {
        let mut done = 0;
        while done < into.len() {
            let Some((addr, len)) = self.front((into.len() - done) as u64) else { break };
            let got = task.copy_in_partial(addr, &mut into[done..done + len]).await;
            self.advance(got);
            done += got;
            if got < len {
                break;
            }
        }
        done
    }

    /// Copies `from` to the next bytes; stops at a fault. Answers how many.
    pub(super) async fn copy_out(&mut self, task: &Rc<Task>, from: &[u8]) -> usize {
        let mut done = 0;
        while done < from.len() {
            let Some((addr, len)) = self.front((from.len() - done) as u64) else { break };
            let put = task.copy_out_partial(addr, &from[done..done + len]).await;
            self.advance(put);
            done += put;
            if put < len {
                break;
            }
        }
        done
    }

    /// How many of the next `max` bytes can be written, without using them.
    ///
    /// What leaves a pipe cannot be put back, so the pages are faulted in first (Linux
    /// `fault_in_iov_iter_writeable`).
    pub(super) async fn writable(&self, task: &Rc<Task>, max: usize) -> usize {
        let mut usable = 0;
        for (base, len) in &self.pieces[self.at..] {
            let len = (*len).min((max - usable) as u64);
            let mut done = 0;
            while done < len {
                let addr = VirtAddr::new(base.wrapping_add(done));
                let mut byte = [0];
                if task.copy_in_partial(addr, &mut byte).await == 0
                    || task.copy_out_partial(addr, &byte).await == 0
                {
                    return usable + done as usize;
                }
                done = (done + PAGE_SIZE - addr.page_offset()).min(len);
            }
            usable += len as usize;
            if usable == max {
                break;
            }
        }
        usable
    }
}
