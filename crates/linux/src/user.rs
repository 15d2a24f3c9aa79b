//! Copies to and from user memory.
//!
//! All are `async`: a page may have to come from swap. A fault the guest's rights or layout cause
//! is EFAULT, as in Linux (lib/usercopy.c); the guest gets no signal.

use crate::oom::NoMemory;
use crate::sched::wait::{Sleep, WaitSet, Wake};
use crate::task::Task;
use kilburn_addr::{Errno, VirtAddr};
use kilburn_mm::{Caller, Fault, Partial};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Longest path a call accepts, its final zero included.
pub(crate) const PATH_MAX: usize = 4096;

impl Task {
    /// Copies user memory at `addr` into `into`; answers how many bytes came before a fault.
    pub(crate) async fn copy_in_partial(&self, addr: VirtAddr, into: &mut [u8]) -> usize {
        let mut done = 0;
        loop {
            let at = addr.get().wrapping_add(done as u64);
            let rest = &mut into[done..];
            let stop =
                self.with_mm(|mm| mm.read(&self.waiting_caller(), VirtAddr::new(at), rest).err());
            match stop {
                None => return done,
                Some(None) => return into.len(),
                Some(Some(Partial { done: more, fault })) => {
                    done += more;
                    if !self.wait_for_monitor(fault, Sleep::Killable).await {
                        return done;
                    }
                }
            }
        }
    }

    /// Copies `from` to user memory at `addr`; answers how many bytes went before a fault.
    pub(crate) async fn copy_out_partial(&self, addr: VirtAddr, from: &[u8]) -> usize {
        let mut done = 0;
        loop {
            let at = addr.get().wrapping_add(done as u64);
            let stop = self.with_mm(|mm| {
                mm.write(&self.waiting_caller(), VirtAddr::new(at), &from[done..]).err()
            });
            match stop {
                None => return done,
                Some(None) => return from.len(),
                Some(Some(Partial { done: more, fault })) => {
                    done += more;
                    if !self.wait_for_monitor(fault, Sleep::Killable).await {
                        return done;
                    }
                }
            }
        }
    }

    /// As [`caller`](Self::caller), for an access that can wait for a userfaultfd's monitor.
    pub(crate) fn waiting_caller(&self) -> Caller {
        Caller { userfault_thread: Some(self.tid()), ..self.caller() }
    }

    /// Waits until a monitor has resolved `fault`, or there is memory again; false when it is neither's
    /// matter, or a signal ended the wait.
    pub(crate) async fn wait_for_monitor(&self, fault: Fault, sleep: Sleep) -> bool {
        if fault == Fault::Oom {
            return self.wait_for_memory().await == NoMemory::Retry;
        }
        let Fault::Userfault(wait) = fault else { return false };
        let kernel = self.kernel();
        let (Some(mm), Some(task)) = (self.mm(), kernel.task(self.tid())) else { return false };
        while mm.userfault_waits(wait) {
            let mut set = WaitSet::new(&task);
            set.add(&kernel.userfaults.woken);
            if set.wait(sleep, None).await == Wake::Interrupted {
                mm.cancel_userfault(wait);
                return false;
            }
        }
        true
    }

    /// Copies user memory at `addr` into `into`.
    ///
    /// # Errors
    /// EFAULT when not all of it can be read.
    pub(crate) async fn copy_in(&self, addr: VirtAddr, into: &mut [u8]) -> Result<(), Errno> {
        let len = into.len();
        if self.copy_in_partial(addr, into).await == len { Ok(()) } else { Err(Errno::EFAULT) }
    }

    /// Copies `from` to user memory at `addr`.
    ///
    /// # Errors
    /// EFAULT when not all of it can be written; what comes before the fault is written.
    pub(crate) async fn copy_out(&self, addr: VirtAddr, from: &[u8]) -> Result<(), Errno> {
        if self.copy_out_partial(addr, from).await == from.len() {
            Ok(())
        } else {
            Err(Errno::EFAULT)
        }
    }

    /// Reads a `T` at `addr`.
    ///
    /// # Errors
    /// EFAULT.
    pub(crate) async fn read_struct<T: FromBytes + IntoBytes>(
        &self,
        addr: VirtAddr,
    ) -> Result<T, Errno> {
        let mut value = T::new_zeroed();
        self.copy_in(addr, value.as_mut_bytes()).await?;
        Ok(value)
    }

    /// Writes `value` to `addr`.
    ///
    /// # Errors
    /// EFAULT.
    pub(crate) async fn write_struct<T: IntoBytes + Immutable>(
        &self,
        addr: VirtAddr,
        value: &T,
    ) -> Result<(), Errno> {
        self.copy_out(addr, value.as_bytes()).await
    }

    /// Reads a string of at most `max` bytes, its final zero included (Linux `strncpy_from_user`);
    /// the answer comes without the zero.
    ///
    /// # Errors
    /// EFAULT; ENAMETOOLONG when no zero comes within `max` bytes.
    pub(crate) async fn read_cstr(&self, addr: VirtAddr, max: usize) -> Result<Vec<u8>, Errno> {
        let mut text = Vec::new();
        let mut chunk = [0; 256];
        let mut at = addr;
        while text.len() < max {
            // Up to a multiple of 256: such a chunk never reaches into a page without need.
            let want = (256 - (at.get() % 256) as usize).min(max - text.len());
            let got = self.copy_in_partial(at, &mut chunk[..want]).await;
            if let Some(end) = chunk[..got].iter().position(|byte| *byte == 0) {
                text.extend_from_slice(&chunk[..end]);
                return Ok(text);
            }
            if got < want {
                return Err(Errno::EFAULT);
            }
            text.extend_from_slice(&chunk[..got]);
            at = at.checked_add(got as u64).ok_or(Errno::EFAULT)?;
        }
        Err(Errno::ENAMETOOLONG)
    }

    /// Reads a string, or its first `max` bytes when it is longer.
    ///
    /// # Errors
    /// EFAULT.
    pub(crate) async fn read_cstr_prefix(
        &self,
        addr: VirtAddr,
        max: usize,
    ) -> Result<Vec<u8>, Errno> {
        let mut bytes = vec![0; max];
        let got = self.copy_in_partial(addr, &mut bytes).await;
        bytes.truncate(got);
        match bytes.iter().position(|byte| *byte == 0) {
            Some(end) => bytes.truncate(end),
            None if got < max => return Err(Errno::EFAULT),
            None => (),
        }
        Ok(bytes)
    }

    /// Reads a path (Linux `getname`, empty paths included).
    ///
    /// # Errors
    /// EFAULT, ENAMETOOLONG.
    pub(crate) async fn read_path(&self, addr: VirtAddr) -> Result<Vec<u8>, Errno> {
        self.read_cstr(addr, PATH_MAX).await
    }
}
