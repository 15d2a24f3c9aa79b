//! What comes along with a signal (`siginfo_t`, include/uapi/asm-generic/siginfo.h).

use crate::signal::Signal;
use crate::task::Tid;
use crate::task::creds::Id;

/// Bytes of `siginfo_t`.
pub(crate) const SIGINFO_BYTES: usize = 128;

/// `si_code` values.
pub(crate) mod code {
    pub(crate) const SI_USER: i32 = 0;
    pub(crate) const SI_KERNEL: i32 = 0x80;
    pub(crate) const SI_TIMER: i32 = -2;
    pub(crate) const SI_TKILL: i32 = -6;
    pub(crate) const ILL_ILLOPC: i32 = 1;
    pub(crate) const SEGV_MAPERR: i32 = 1;
    pub(crate) const SEGV_ACCERR: i32 = 2;
    pub(crate) const BUS_ADRALN: i32 = 1;
    pub(crate) const BUS_ADRERR: i32 = 2;
    pub(crate) const TRAP_BRKPT: i32 = 1;
    pub(crate) const CLD_EXITED: i32 = 1;
    pub(crate) const CLD_KILLED: i32 = 2;
    pub(crate) const CLD_DUMPED: i32 = 3;
    pub(crate) const CLD_STOPPED: i32 = 5;
    pub(crate) const CLD_CONTINUED: i32 = 6;
}

/// A signal with its circumstances.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct SigInfo {
    pub(crate) signal: Signal,
    pub(crate) code: i32,
    pub(crate) payload: Payload,
}

/// The part of `siginfo_t` that depends on where the signal comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Payload {
    /// From a task, by kill or tgkill; zeros for the kernel.
    Sender { pid: Tid, uid: Id },
    /// A fault at this address.
    Fault { addr: u64 },
    /// A child changed state; times in clock ticks.
    Child { pid: Tid, uid: Id, status: i32, utime: i64, stime: i64 },
    /// A POSIX timer expired, `overrun` times more than signals were sent.
    Timer { id: i32, overrun: i32, value: u64 },
    /// As a task handed it to rt_sigqueueinfo: everything after si_code's padding.
    Raw { errno: i32, rest: [u8; SIGINFO_BYTES - 16] },
}

impl SigInfo {
    /// Sent by the kernel itself.
    pub(crate) fn kernel(signal: Signal) -> Self {
        Self { signal, code: code::SI_KERNEL, payload: Payload::Sender { pid: 0, uid: 0 } }
    }

    /// Whether it was made by a task rather than by the kernel (Linux `SI_FROMUSER`).
    pub(crate) fn is_from_user(&self) -> bool {
        self.code <= 0
    }

    /// The address of a fault.
    pub(crate) fn fault(signal: Signal, code: i32, addr: u64) -> Self {
        Self { signal, code, payload: Payload::Fault { addr } }
    }

    /// `siginfo_t` as the guest sees it.
    pub(crate) fn to_bytes(self) -> [u8; SIGINFO_BYTES] {
        let mut bytes = [0; SIGINFO_BYTES];
        let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        put(0, &i32::from(self.signal.number()).to_le_bytes());
        put(8, &self.code.to_le_bytes());
        match self.payload {
            Payload::Sender { pid, uid } => {
                put(16, &pid.to_le_bytes());
                put(20, &uid.to_le_bytes());
            }
            Payload::Fault { addr } => put(16, &addr.to_le_bytes()),
            Payload::Child { pid, uid, status, utime, stime } => {
                put(16, &pid.to_le_bytes());
                put(20, &uid.to_le_bytes());
                put(24, &status.to_le_bytes());
                put(32, &utime.to_le_bytes());
                put(40, &stime.to_le_bytes());
            }
            Payload::Timer { id, overrun, value } => {
                put(16, &id.to_le_bytes());
                put(20, &overrun.to_le_bytes());
                put(24, &value.to_le_bytes());
            }
            Payload::Raw { errno, rest } => {
                put(4, &errno.to_le_bytes());
                put(16, &rest);
            }
        }
        bytes
    }

    /// From the `siginfo_t` of rt_sigqueueinfo; the signal is the call's, not the structure's.
    pub(crate) fn from_user(signal: Signal, bytes: &[u8; SIGINFO_BYTES]) -> Self {
        let int = |at: usize| {
            i32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        let mut rest = [0; SIGINFO_BYTES - 16];
        rest.copy_from_slice(&bytes[16..]);
        Self { signal, code: int(8), payload: Payload::Raw { errno: int(4), rest } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_lie_where_the_guest_looks() {
        let bytes = SigInfo::fault(Signal::SIGSEGV, code::SEGV_ACCERR, 0x1234_5678_9abc).to_bytes();
        assert_eq!(bytes[0], 11);
        assert_eq!(bytes[8], 2);
        assert_eq!(bytes[16..24], 0x1234_5678_9abc_u64.to_le_bytes());
        let child = Payload::Child { pid: 7, uid: 0, status: 3, utime: 1, stime: 2 };
        let info = SigInfo { signal: Signal::SIGCHLD, code: code::CLD_EXITED, payload: child };
        assert_eq!(info.to_bytes()[16], 7);
        assert_eq!(info.to_bytes()[24], 3);
        assert_eq!(info.to_bytes()[40], 2);
    }

    #[test]
    fn what_a_task_queues_arrives_unchanged_but_for_the_signal() {
        let mut bytes = [0xa5; SIGINFO_BYTES];
        bytes[8..12].copy_from_slice(&(-1_i32).to_le_bytes());
        let info = SigInfo::from_user(Signal::SIGUSR1, &bytes);
        assert!(info.is_from_user());
        let out = info.to_bytes();
        assert_eq!(out[0], 10);
        assert_eq!(out[16..], bytes[16..]);
    }
}
