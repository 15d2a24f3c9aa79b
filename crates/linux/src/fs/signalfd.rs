//! signalfd: signals as bytes of a file.
//!
//! A read takes signals of the task that reads, not of the one that made the file. Source: Linux
//! 6.18 fs/signalfd.c.

use crate::fs::file::{FileOps, OpenFile, PollEvents};
use crate::kernel::Kernel;
use crate::sched::wait::WaitQueue;
use crate::signal::info::{Payload, SigInfo};
use crate::signal::{SigSet, Signal};
use kilburn_addr::Errno;
use std::any::Any;
use std::cell::Cell;
use std::rc::{Rc, Weak};

/// Bytes of `struct signalfd_siginfo`.
const RECORD_BYTES: usize = 128;

/// A file that signals of a set are read from.
pub(crate) struct SignalFd {
    kernel: Weak<Kernel>,
    set: Cell<SigSet>,
}

impl SignalFd {
    /// A file for the signals in `set`.
    pub(crate) fn new(kernel: &Rc<Kernel>, set: SigSet) -> Self {
        let own = Self { kernel: Rc::downgrade(kernel), set: Cell::default() };
        own.set(set);
        own
    }

    /// Changes the set; SIGKILL and SIGSTOP never are in it.
    pub(crate) fn set(&self, set: SigSet) {
        self.set.set(set.minus(Signal::UNBLOCKABLE));
        if let Some(queue) = self.wait_queue() {
            queue.wake_all();
        }
    }
}

impl FileOps for SignalFd {
    fn is_stream(&self) -> bool {
        true
    }

    fn read(&self, _file: &OpenFile, _pos: u64, into: &mut [u8]) -> Result<usize, Errno> {
        if into.len() < RECORD_BYTES {
            return Err(Errno::EINVAL);
        }
        let task =
            self.kernel.upgrade().and_then(|kernel| kernel.current()).ok_or(Errno::EAGAIN)?;
        let others = SigSet::ALL.minus(self.set.get());
        let mut done = 0;
        for record in into.chunks_exact_mut(RECORD_BYTES) {
            let Some(info) = task.dequeue_signal(others) else { break };
            record.copy_from_slice(&to_record(&info));
            done += RECORD_BYTES;
        }
        if done == 0 { Err(Errno::EAGAIN) } else { Ok(done) }
    }

    fn poll(&self, _file: &OpenFile) -> PollEvents {
        let task = self.kernel.upgrade().and_then(|kernel| kernel.current());
        let pending = task.map_or(SigSet::EMPTY, |task| task.all_pending());
        let ready = !pending.intersection(self.set.get()).is_empty();
        if ready { PollEvents::IN } else { PollEvents::empty() }
    }

    /// As in Linux, who watches through epoll watches the signals of who asked epoll to.
    fn wait_queue(&self) -> Option<WaitQueue> {
        let task = self.kernel.upgrade()?.current()?;
        Some(task.sighand().arrived.clone())
    }

    fn fdinfo(&self) -> String {
        format!("sigmask:\t{:016x}\n", self.set.get().bits())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// `struct signalfd_siginfo` (Linux `signalfd_copyinfo`).
fn to_record(info: &SigInfo) -> [u8; RECORD_BYTES] {
    let mut record = [0; RECORD_BYTES];
    let mut put = |at: usize, bytes: &[u8]| record[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &u32::from(info.signal.number()).to_le_bytes());
    put(8, &info.code.to_le_bytes());
    match info.payload {
        Payload::Sender { pid, uid } => {
            put(12, &pid.to_le_bytes());
            put(16, &uid.to_le_bytes());
        }
        Payload::Fault { addr } => put(72, &addr.to_le_bytes()),
        Payload::Child { pid, uid, status, utime, stime } => {
            put(12, &pid.to_le_bytes());
            put(16, &uid.to_le_bytes());
            put(40, &status.to_le_bytes());
            put(56, &utime.to_le_bytes());
            put(64, &stime.to_le_bytes());
        }
        Payload::Timer { id, overrun, value } => {
            put(24, &id.to_le_bytes());
            put(32, &overrun.to_le_bytes());
            put(44, &value.to_le_bytes()[..4]);
            put(48, &value.to_le_bytes());
        }
        Payload::Raw { errno, rest } => {
            put(4, &errno.to_le_bytes());
            put(12, &rest[..8]);
            put(44, &rest[8..12]);
            put(48, &rest[8..16]);
        }
    }
    record
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signal::info::{SIGINFO_BYTES, code};

    #[test]
    fn a_queued_value_lies_where_programs_look() {
        let mut bytes = [0; SIGINFO_BYTES];
        bytes[8..12].copy_from_slice(&(-1_i32).to_le_bytes());
        bytes[16..20].copy_from_slice(&7_u32.to_le_bytes());
        bytes[24..32].copy_from_slice(&0x1_0000_0005_u64.to_le_bytes());
        let record = to_record(&SigInfo::from_user(Signal::SIGUSR1, &bytes));
        assert_eq!(record[0], 10);
        assert_eq!(record[12], 7);
        assert_eq!(record[44], 5, "ssi_int");
        assert_eq!(record[48..56], 0x1_0000_0005_u64.to_le_bytes(), "ssi_ptr");
    }

    #[test]
    fn a_child_s_end_gives_its_status() {
        let payload = Payload::Child { pid: 9, uid: 1, status: 3, utime: 0, stime: 0 };
        let info = SigInfo { signal: Signal::SIGCHLD, code: code::CLD_EXITED, payload };
        let record = to_record(&info);
        assert_eq!((record[12], record[16], record[40]), (9, 1, 3));
    }
}
