//! Restartable sequences (Linux 6.18 kernel/rseq.c): the area glibc registers for each thread.
//!
//! The kernel keeps the processor number in it and, when a task was preempted or gets a signal
//! inside a critical section, sends it to the section's abort handler.

use crate::signal::{SigInfo, Signal};
use crate::task::Task;
use kilburn_addr::{Errno, VirtAddr};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Bytes of the original `struct rseq`.
pub(crate) const ORIG_SIZE: u32 = 32;
/// Bytes of the fields in use: `AT_RSEQ_FEATURE_SIZE`.
pub(crate) const FEATURE_SIZE: u32 = 28;
/// `AT_RSEQ_ALIGN`
pub(crate) const ALIGN: u64 = 32;
/// `RSEQ_FLAG_UNREGISTER`
const UNREGISTER: i32 = 1;

/// What a thread registered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Registration {
    addr: VirtAddr,
    len: u32,
    signature: u32,
    /// The processor number that is in the area.
    cpu: u32,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct CriticalSection {
    version: u32,
    flags: u32,
    start_ip: u64,
    post_commit_offset: u64,
    abort_ip: u64,
}

impl Task {
    /// The system call.
    ///
    /// # Errors
    /// EINVAL, EPERM, EBUSY, EFAULT as Linux gives them.
    pub(crate) async fn register_rseq(
        &self,
        addr: VirtAddr,
        len: u32,
        flags: i32,
        signature: u32,
    ) -> Result<(), Errno> {
        let current = self.rseq.get();
        if flags & UNREGISTER != 0 {
            if flags & !UNREGISTER != 0 {
                return Err(Errno::EINVAL);
            }
            let Some(current) = current.filter(|r| r.addr == addr) else {
                return Err(Errno::EINVAL);
            };
            if current.len != len {
                return Err(Errno::EINVAL);
            }
            if current.signature != signature {
                return Err(Errno::EPERM);
            }
            self.write_ids(addr, 0, u32::MAX).await?;
            self.rseq.set(None);
            return Ok(());
        }
        if flags != 0 {
            return Err(Errno::EINVAL);
        }
        if let Some(current) = current {
            if current.addr != addr || current.len != len {
                return Err(Errno::EINVAL);
            }
            return Err(if current.signature == signature { Errno::EBUSY } else { Errno::EPERM });
        }
        let aligned = if len == ORIG_SIZE {
            addr.get().is_multiple_of(u64::from(ORIG_SIZE))
        } else {
            addr.get().is_multiple_of(ALIGN) && len >= FEATURE_SIZE
        };
        if len < ORIG_SIZE || !aligned {
            return Err(Errno::EINVAL);
        }
        // Must lie in user space as a whole.
        self.copy_in(addr, &mut [0; 4]).await?;
        let cpu = self.hart.get() as u32;
        self.write_ids(addr, cpu, cpu).await?;
        self.rseq.set(Some(Registration { addr, len, signature, cpu }));
        Ok(())
    }

    async fn write_ids(&self, addr: VirtAddr, start: u32, id: u32) -> Result<(), Errno> {
        // cpu_id_start, cpu_id; node_id and mm_cid (one node, ids as processors) at 20 and 24.
        let mut ids = [0; 8];
        ids[..4].copy_from_slice(&start.to_le_bytes());
        ids[4..].copy_from_slice(&id.to_le_bytes());
        self.copy_out(addr, &ids).await?;
        let cid = if id == u32::MAX { 0 } else { id };
        ids[..4].copy_from_slice(&0_u32.to_le_bytes());
        ids[4..].copy_from_slice(&cid.to_le_bytes());
        self.copy_out(addr.checked_add(20).ok_or(Errno::EFAULT)?, &ids).await
    }

    /// After the task moved to another hart: the area's processor number follows.
    pub(crate) async fn update_rseq(&self) {
        let Some(registration) = self.rseq.get() else { return };
        let cpu = self.hart.get() as u32;
        if registration.cpu == cpu {
            return;
        }
        if self.write_ids(registration.addr, cpu, cpu).await.is_err() {
            self.force(SigInfo::kernel(Signal::SIGSEGV));
        }
        self.rseq.set(Some(Registration { cpu, ..registration }));
    }

    /// Preemption or a signal inside a critical section: goes on at its abort handler. An area
    /// that makes no sense costs the task a SIGSEGV.
    pub(crate) async fn abort_rseq(&self) {
        let Some(registration) = self.rseq.get() else { return };
        if self.try_abort_rseq(registration).await.is_err() {
            self.force(SigInfo::kernel(Signal::SIGSEGV));
        }
    }

    async fn try_abort_rseq(&self, registration: Registration) -> Result<(), Errno> {
        let field = registration.addr.checked_add(8).ok_or(Errno::EFAULT)?;
        let section_addr: u64 = self.read_struct(field).await?;
        if section_addr == 0 {
            return Ok(());
        }
        let section: CriticalSection = self.read_struct(VirtAddr::new(section_addr)).await?;
        let pc = self.regs.borrow().pc;
        let inside = pc.wrapping_sub(section.start_ip) < section.post_commit_offset;
        let abort_inside =
            section.abort_ip.wrapping_sub(section.start_ip) < section.post_commit_offset;
        if section.version > 0 || section.flags != 0 || abort_inside {
            return Err(Errno::EINVAL);
        }
        if inside {
            let before = section.abort_ip.checked_sub(4).ok_or(Errno::EINVAL)?;
            let signature: u32 = self.read_struct(VirtAddr::new(before)).await?;
            if signature != registration.signature {
                return Err(Errno::EINVAL);
            }
        }
        self.write_struct(field, &0_u64).await?;
        if inside {
            self.regs.borrow_mut().pc = section.abort_ip;
        }
        Ok(())
    }
}
