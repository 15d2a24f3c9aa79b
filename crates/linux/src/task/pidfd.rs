//! pidfd: a descriptor for a process or a thread (Linux kernel/pid.c, fs/pidfs.c).
//!
//! [`PidFd`] keeps its target known after it was waited for, so its number can never come to mean
//! somebody else. It reads as ready once the target has ended. Neighbours: `syscall/pidfd.rs`
//! makes and uses them, [`crate::task::clone`] makes one for a child, waitid waits by one.

use crate::fs::{FdFlags, FileOps, OpenFile, OpenFlags, PollEvents};
use crate::sched::wait::WaitQueue;
use crate::task::{Resource, Task, ThreadGroup, Tid};
use kilburn_addr::Errno;
use std::any::Any;
use std::rc::{Rc, Weak};

/// What a pidfd stands for.
#[derive(Clone)]
pub(crate) enum Target {
    /// The process.
    Process,
    /// This thread of it (`PIDFD_THREAD`).
    Thread(Weak<Task>),
}

/// A descriptor for a process or thread.
#[derive(Clone)]
pub(crate) struct PidFd {
    group: Rc<ThreadGroup>,
    target: Target,
    tid: Tid,
}

impl PidFd {
    /// `PIDFD_THREAD`
    pub(crate) const THREAD: OpenFlags = OpenFlags::EXCL;

    /// A descriptor for the process of `task`, or with `THREAD` in `flags` for `task` alone.
    pub(crate) fn new(task: &Rc<Task>, flags: OpenFlags) -> Self {
        let group = Rc::clone(task.group());
        if flags.contains(Self::THREAD) {
            Self { group, target: Target::Thread(Rc::downgrade(task)), tid: task.tid() }
        } else {
            let tid = group.tgid();
            Self { group, target: Target::Process, tid }
        }
    }

    /// A descriptor for a process that may be a zombie.
    pub(crate) fn of_group(group: &Rc<ThreadGroup>) -> Self {
        Self { group: Rc::clone(group), target: Target::Process, tid: group.tgid() }
    }

    /// The process.
    pub(crate) fn group(&self) -> &Rc<ThreadGroup> {
        &self.group
    }

    /// The process or the thread.
    pub(crate) fn target(&self) -> &Target {
        &self.target
    }

    /// Its thread, or some living thread of its process.
    ///
    /// # Errors
    /// ESRCH when it has ended.
    pub(crate) fn task(&self) -> Result<Rc<Task>, Errno> {
        let task = match &self.target {
            Target::Process => self.group.first_thread(),
            Target::Thread(task) => task.upgrade().filter(|task| self.group.has_thread(task)),
        };
        task.ok_or(Errno::ESRCH)
    }

    /// Whether nothing can be sent to it any more: it was waited for, or the thread is gone.
    pub(crate) fn is_gone(&self) -> bool {
        match &self.target {
            Target::Process => self.group.is_reaped.get(),
            Target::Thread(_) => self.task().is_err(),
        }
    }

    /// The file of a descriptor; `O_NONBLOCK` and `PIDFD_THREAD` are the only flags.
    pub(crate) fn open(self, task: &Task, flags: OpenFlags) -> Rc<OpenFile> {
        let flags = flags & OpenFlags::NONBLOCK | OpenFlags::RDWR;
        task.kernel().vfs().anonymous("[pidfd]", Box::new(self), flags)
    }

    /// The pidfd behind an open file.
    ///
    /// # Errors
    /// EBADF when it is another kind of file.
    pub(crate) fn of(file: &OpenFile) -> Result<&Self, Errno> {
        file.ops_as::<Self>().ok_or(Errno::EBADF)
    }
}

impl Task {
    /// Gives `file` the lowest free descriptor, close-on-exec as all pidfds are.
    ///
    /// # Errors
    /// EMFILE.
    pub(crate) fn install_cloexec(&self, file: Rc<OpenFile>) -> Result<u64, Errno> {
        let limit = self.rlimit(Resource::Nofile);
        Ok(self.files().install(file, FdFlags::CLOEXEC, limit)? as u64)
    }
}

impl FileOps for PidFd {
    fn is_stream(&self) -> bool {
        true
    }

    fn poll(&self, _file: &OpenFile) -> PollEvents {
        let ended = match &self.target {
            Target::Process => self.group.is_zombie(),
            Target::Thread(_) => self.task().is_err(),
        };
        let mut ready = PollEvents::empty();
        if ended {
            ready |= PollEvents::READABLE;
        }
        if self.is_gone() {
            ready |= PollEvents::HUP;
        }
        ready
    }

    fn wait_queue(&self) -> Option<WaitQueue> {
        Some(self.group.thread_gone.clone())
    }

    fn fdinfo(&self) -> String {
        let pid = if self.is_gone() { -1 } else { i64::from(self.tid) };
        format!("Pid:\t{pid}\nNSpid:\t{pid}\n")
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
