//! How tasks come to be (Linux kernel/fork.c: `kernel_clone`, `copy_process`).

use crate::cgroup::Cgroup;
use crate::fs::{CgroupInode, OpenFlags};
use crate::sched::SysError;
use crate::sched::wait::{Sleep, WaitSet, Wake};
use crate::signal::Signal;
use crate::task::pidfd::PidFd;
use crate::task::run::task_main;
use crate::task::{AltStack, Capability, Resource, Task, TaskParts, ThreadGroup, Tid, VforkDone};
use kilburn_addr::{Errno, VirtAddr};
use kilburn_riscv::Regs;
use std::rc::Rc;

bitflags::bitflags! {
    /// `CLONE_*` (include/uapi/linux/sched.h).
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub(crate) struct CloneFlags: u64 {
        const VM = 0x100;
        const FS = 0x200;
        const FILES = 0x400;
        const SIGHAND = 0x800;
        const PIDFD = 0x1000;
        const PTRACE = 0x2000;
        const VFORK = 0x4000;
        const PARENT = 0x8000;
        const THREAD = 0x1_0000;
        const NEWNS = 0x2_0000;
        const SYSVSEM = 0x4_0000;
        const SETTLS = 0x8_0000;
        const PARENT_SETTID = 0x10_0000;
        const CHILD_CLEARTID = 0x20_0000;
        const DETACHED = 0x40_0000;
        const UNTRACED = 0x80_0000;
        const CHILD_SETTID = 0x100_0000;
        const NEWCGROUP = 0x200_0000;
        const NEWUTS = 0x400_0000;
        const NEWIPC = 0x800_0000;
        const NEWUSER = 0x1000_0000;
        const NEWPID = 0x2000_0000;
        const NEWNET = 0x4000_0000;
        const IO = 0x8000_0000;
        const CLEAR_SIGHAND = 0x1_0000_0000;
        const INTO_CGROUP = 0x2_0000_0000;
        const NEWTIME = 0x80;
    }
}

impl CloneFlags {
    /// Namespaces: there is one of each.
    pub(crate) const NAMESPACES: Self = Self::NEWNS
        .union(Self::NEWCGROUP)
        .union(Self::NEWUTS)
        .union(Self::NEWIPC)
        .union(Self::NEWUSER)
        .union(Self::NEWPID)
        .union(Self::NEWNET)
        .union(Self::NEWTIME);
}

/// What clone and clone3 ask for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct CloneArgs {
    pub(crate) flags: CloneFlags,
    pub(crate) exit_signal: Option<Signal>,
    /// The child's stack pointer; 0: the parent's.
    pub(crate) stack: u64,
    pub(crate) parent_tid: VirtAddr,
    /// Where the descriptor of `CLONE_PIDFD` goes.
    pub(crate) pidfd: VirtAddr,
    pub(crate) child_tid: VirtAddr,
    pub(crate) tls: u64,
    /// Descriptor of the folder of the control group that the child is born in.
    pub(crate) cgroup: Option<i32>,
}

impl Task {
    /// Makes a child (or a thread) and answers its id.
    ///
    /// # Errors
    /// EINVAL for combinations Linux refuses, EAGAIN at RLIMIT_NPROC, ENOMEM.
    pub(crate) async fn clone_task(self: &Rc<Self>, args: CloneArgs) -> Result<Tid, SysError> {
        check_flags(self, args.flags)?;
        let kernel = Rc::clone(self.kernel());
        let flags = args.flags;
        if kernel.user_task_count() as u64 >= self.rlimit(Resource::Nproc)
            && !self.creds().has_cap(Capability::SysResource)
        {
            return Err(Errno::EAGAIN.into());
        }
        let cgroup = args.cgroup.map(|fd| self.cgroup_behind(fd, flags)).transpose()?;
        let child = self.copy_task(args)?;
        if let Some(cgroup) = cgroup {
            kernel.enter_cgroup(child.group(), &cgroup);
            if !flags.contains(CloneFlags::VM) {
                child.with_mm(|mm| mm.set_memcg(cgroup.charged()));
            }
        }
        let tid = child.tid();
        if flags.contains(CloneFlags::PIDFD) {
            self.give_pidfd(&child, args).await?;
        }
        if flags.contains(CloneFlags::PARENT_SETTID) {
            // Linux put_user without a check: a bad address is the caller's loss.
            let _ = self.copy_out(args.parent_tid, &tid.to_le_bytes()).await;
        }
        if flags.contains(CloneFlags::CHILD_CLEARTID) {
            child.clear_child_tid.set(args.child_tid);
        }
        if flags.contains(CloneFlags::CHILD_SETTID) {
            // In Linux the child does it first thing; nobody runs in between.
            let _ = child.copy_out(args.child_tid, &tid.to_le_bytes()).await;
        }
        let vfork = flags.contains(CloneFlags::VFORK).then(Rc::<VforkDone>::default);
        child.vfork_done.replace(vfork.clone());
        kernel.adopt(&child);
        let main = task_main(Rc::clone(&child));
        child.coroutine.replace(Some(Box::pin(main)));
        child.waker().wake();
        if let Some(vfork) = vfork {
            self.wait_for_vfork(&vfork).await;
        }
        Ok(tid)
    }

    /// The group that a child is to be born in (Linux `cgroup_css_set_fork`).
    ///
    /// # Errors
    /// EBADF when the descriptor is no group's folder, ENOENT when the group was removed, EACCES, EBUSY,
    /// EOPNOTSUPP for a thread that would leave its process.
    fn cgroup_behind(&self, fd: i32, flags: CloneFlags) -> Result<Rc<Cgroup>, Errno> {
        let kernel = self.kernel();
        let file = self.files().get_any(fd)?;
        let inode = file.inode().as_any().downcast_ref::<CgroupInode>();
        let cgroup = inode.and_then(CgroupInode::folder_of).ok_or(Errno::EBADF)?;
        if cgroup.is_removed() {
            return Err(Errno::ENOENT);
        }
        let own = kernel.cgroup_of(self.group());
        kernel.check_may_move(self, &own, cgroup)?;
        kernel.check_cgroup_takes(cgroup)?;
        if flags.contains(CloneFlags::THREAD) && !Rc::ptr_eq(&own, cgroup) {
            return Err(Errno::EOPNOTSUPP);
        }
        Ok(Rc::clone(cgroup))
    }

    /// Opens a pidfd for a child that nobody knows yet and tells the caller its number.
    async fn give_pidfd(&self, child: &Rc<Self>, args: CloneArgs) -> Result<(), Errno> {
        let kind = if args.flags.contains(CloneFlags::THREAD) {
            PidFd::THREAD
        } else {
            OpenFlags::empty()
        };
        let fd = self.install_cloexec(PidFd::new(child, kind).open(self, kind))?;
        let told = self.copy_out(args.pidfd, &(fd as u32).to_le_bytes()).await;
        if told.is_err() {
            let _ = self.files().close(fd as i32);
        }
        told
    }

    async fn wait_for_vfork(self: &Rc<Self>, vfork: &VforkDone) {
        while !vfork.done.get() {
            let mut set = WaitSet::new(self);
            set.add(&vfork.queue);
            if set.wait(Sleep::Killable, None).await == Wake::Interrupted {
                return;
            }
        }
    }

    fn copy_task(self: &Rc<Self>, args: CloneArgs) -> Result<Rc<Self>, Errno> {
        let flags = args.flags;
        let kernel = self.kernel();
        let files = if flags.contains(CloneFlags::FILES) {
            self.files()
        } else {
            self.files().fork_copy()?
        };
        let fs = if flags.contains(CloneFlags::FS) { self.fs() } else { self.fs().fork_copy() };
        let sighand = if flags.contains(CloneFlags::SIGHAND) {
            self.sighand()
        } else {
            let copy = self.sighand().fork_copy();
            if flags.contains(CloneFlags::CLEAR_SIGHAND) {
                copy.reset_handlers();
            }
            copy
        };
        let mm = match self.mm() {
            Some(mm) if !flags.contains(CloneFlags::VM) => {
                let copy = mm.fork(&self.caller())?;
                if let Some(watch) = &mut *kernel.watch.borrow_mut() {
                    watch.forked(kernel.cpus.current(), mm.asid(), copy.asid());
                }
                Some(copy)
            }
            mm => mm,
        };
        let tid = kernel.allocate_tid()?;
        let group = if flags.contains(CloneFlags::THREAD) {
            Rc::clone(self.group())
        } else {
            self.new_group(tid, args)
        };
        let mut regs: Box<Regs> = self.regs.borrow().clone();
        regs.x[Regs::A0] = 0;
        regs.pc = regs.pc.wrapping_add(4);
        if args.stack != 0 {
            regs.x[Regs::SP] = args.stack;
        }
        if flags.contains(CloneFlags::SETTLS) {
            regs.x[Regs::TP] = args.tls;
        }
        let parts = TaskParts {
            tid,
            group,
            regs,
            mm,
            files,
            fs,
            creds: self.creds(),
            sighand,
            comm: self.comm(),
        };
        let child = Self::new(kernel, parts);
        self.inherit(&child, flags);
        Ok(child)
    }

    fn inherit(&self, child: &Self, flags: CloneFlags) {
        child.signals.blocked.set(self.signals.blocked.get());
        if flags.intersects(CloneFlags::VM) && !flags.contains(CloneFlags::VFORK) {
            // Two tasks on one stack: the child starts without an alternate one.
            child.signals.altstack.set(AltStack::NONE);
        } else {
            child.signals.altstack.set(self.signals.altstack.get());
        }
        // rseq: fork keeps the registration, since the area is copied; a new thread has its own.
        if !flags.contains(CloneFlags::VM) {
            child.rseq.set(self.rseq.get());
        }
        child.exe.replace(self.exe.borrow().clone());
        child.vdso.set(self.vdso.get());
        child.affinity.set(self.affinity.get());
        child.hart.set(self.hart.get());
        child.nice.set(self.nice.get());
        child.policy.set(self.policy.get());
        child.timer_slack.set(self.timer_slack.get());
        child.default_timer_slack.set(self.timer_slack.get());
        child.personality.set(self.personality.get());
    }

    fn new_group(&self, tgid: Tid, args: CloneArgs) -> Rc<ThreadGroup> {
        let own = self.group();
        let group = ThreadGroup::new(tgid, own.limits.clone(), self.kernel().now());
        group.pgid.set(own.pgid.get());
        group.sid.set(own.sid.get());
        group.uid.set(self.creds().uid);
        group.cgroup.replace(own.cgroup.borrow().clone());
        group.memcg.set(own.memcg.get());
        if args.flags.contains(CloneFlags::VM) {
            self.with_mm(|mm| group.enter_mm(mm));
        }
        group.dumpable.set(own.dumpable.get());
        group.core_filter.set(own.core_filter.get());
        group.oom_score_adj.set(own.oom_score_adj.get());
        group.membarrier.set(own.membarrier.get());
        let (parent, thread, exit_signal) = if args.flags.contains(CloneFlags::PARENT) {
            (own.parent(), own.parent_thread.get(), own.exit_signal.get())
        } else {
            (Some(Rc::clone(own)), self.tid(), args.exit_signal)
        };
        group.parent_thread.set(thread);
        group.exit_signal.set(exit_signal);
        if let Some(parent) = parent {
            group.parent.replace(Rc::downgrade(&parent));
        }
        group
    }
}

/// Combinations `copy_process` refuses, and what there is none of here.
fn check_flags(task: &Task, flags: CloneFlags) -> Result<(), Errno> {
    if flags.intersects(CloneFlags::NAMESPACES - CloneFlags::NEWUSER) {
        task.require(Capability::SysAdmin)?;
    }
    if flags.contains(CloneFlags::NEWNS | CloneFlags::FS)
        || flags.contains(CloneFlags::NEWUSER | CloneFlags::FS)
        || flags.contains(CloneFlags::THREAD) && !flags.contains(CloneFlags::SIGHAND)
        || flags.contains(CloneFlags::SIGHAND) && !flags.contains(CloneFlags::VM)
        || flags.contains(CloneFlags::SIGHAND | CloneFlags::CLEAR_SIGHAND)
        || flags.contains(CloneFlags::PARENT) && task.group().unkillable.get()
    {
        return Err(Errno::EINVAL);
    }
    // DIVERGENCE(namespaces-absent): one namespace of each kind; EINVAL is what a kernel built
    // without them answers.
    if flags.intersects(CloneFlags::NAMESPACES) {
        return Err(Errno::EINVAL);
    }
    Ok(())
}
