//! userfaultfd: page faults of a process, handed to a monitor as messages.
//!
//! [`Monitor`] is the open file; the memory manager's [`Userfaultfd`] does the work.
//! [`Userfaults`] is what the whole machine has: where tasks wait whose faults a monitor is to
//! resolve, and who may ask for faults of the kernel. Source: Linux 6.18 fs/userfaultfd.c.
//! Neighbours: `syscall/fs/userfaultfd.rs`; [`crate::user`] and [`crate::task::run`] wait.

use crate::fs::file::{FileOps, OpenFile, PollEvents};
use crate::host::{MachineHost, Mm};
use crate::sched::wait::WaitQueue;
use kilburn_addr::Errno;
use kilburn_mm::{UserfaultWatch, Userfaultfd};
use std::any::Any;
use std::cell::Cell;
use std::sync::Arc;

/// Bytes of a message (`struct uffd_msg`).
const MESSAGE_BYTES: usize = 32;

/// The machine's part of userfaultfd.
#[derive(Default)]
pub(crate) struct Userfaults {
    /// Woken when some faults are resolved.
    pub(crate) woken: WaitQueue,
    /// `vm.unprivileged_userfaultfd`: anybody may handle faults of the kernel.
    pub(crate) unprivileged: Cell<bool>,
}

struct Watch {
    messages: WaitQueue,
    woken: WaitQueue,
}

impl UserfaultWatch for Watch {
    fn readable(&self) {
        self.messages.wake_all();
    }

    fn woken(&self) {
        self.woken.wake_all();
    }
}

/// An open userfaultfd.
pub(crate) struct Monitor {
    context: Arc<Userfaultfd<MachineHost>>,
    messages: WaitQueue,
}

impl Monitor {
    /// A monitor of the faults of `mm`; `woken` is where those wait that it resolves.
    ///
    /// # Errors
    /// EINVAL for unknown flags.
    pub(crate) fn new(mm: &Mm, flags: u32, woken: &WaitQueue) -> Result<Self, Errno> {
        let messages = WaitQueue::new();
        let watch = Watch { messages: messages.clone(), woken: woken.clone() };
        Ok(Self { context: Userfaultfd::new(mm, flags, Box::new(watch))?, messages })
    }

    /// What ioctl asks.
    pub(crate) fn context(&self) -> &Arc<Userfaultfd<MachineHost>> {
        &self.context
    }
}

impl FileOps for Monitor {
    fn is_stream(&self) -> bool {
        true
    }

    fn read(&self, _file: &OpenFile, _pos: u64, into: &mut [u8]) -> Result<usize, Errno> {
        if !self.context.is_enabled() || into.len() < MESSAGE_BYTES {
            return Err(Errno::EINVAL);
        }
        let mut done = 0;
        for room in into.chunks_exact_mut(MESSAGE_BYTES) {
            let Some(message) = self.context.read_message() else { break };
            room.copy_from_slice(&message.to_bytes());
            done += MESSAGE_BYTES;
        }
        if done == 0 { Err(Errno::EAGAIN) } else { Ok(done) }
    }

    fn poll(&self, file: &OpenFile) -> PollEvents {
        // A monitor that may block in read is no use to poll: two could race for one message.
        if !self.context.is_enabled() || !file.is_nonblocking() {
            PollEvents::ERR
        } else if self.context.is_readable() {
            PollEvents::IN
        } else {
            PollEvents::empty()
        }
    }

    fn wait_queue(&self) -> Option<WaitQueue> {
        Some(self.messages.clone())
    }

    fn release(&self, _file: &OpenFile) {
        self.context.release();
    }

    fn fdinfo(&self) -> String {
        self.context.fdinfo()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// An open `/dev/userfaultfd`, which makes monitors for whoever may open it.
pub(crate) struct MonitorDevice;

impl FileOps for MonitorDevice {
    fn as_any(&self) -> &dyn Any {
        self
    }
}
