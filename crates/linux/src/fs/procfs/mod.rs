//! `/proc`: the machine's state as files.
//!
//! [`Node`] names each file; a [`ProcInode`] is made when somebody looks one up and answers from
//! the kernel's state at that moment. Files are text made when read from the start
//! ([`ProcFile`]); links of a task jump ([`Target::Jump`]) to what they name.
//!
//! - [`task`], [`status`]: the text of `/proc/PID/*`; [`access`]: who may read it.
//! - [`system`]: that of everything else; [`sysctl`]: `/proc/sys`; [`sysvipc`], [`kconfig`], [`pressure`].
//!
//! Formats: Linux 6.18 fs/proc/, checked on a real riscv64 kernel. Neighbours: [`crate::kernel`].

mod access;
mod file;
mod kconfig;
mod pressure;
mod status;
mod sysctl;
mod system;
mod sysvipc;
mod task;

use crate::fs::boot::KernelLink;
use crate::fs::dentry::Path;
use crate::fs::file::{FileOps, OpenFlags};
use crate::fs::inode::{DirEntry, FileSystem, Inode, InodeRef, SetAttr, Target};
use crate::fs::stat::{Device, FileType, Kstat, Kstatfs, Timespec};
use crate::kernel::Kernel;
use crate::sched::wait::WaitQueue;
use crate::task::{Capability, Task, ThreadGroup, Tid};
use crate::time::BOOT_REALTIME;
pub(crate) use access::{Ids, may_inspect};
use file::{MemFile, PagemapFile, ProcFile, Reading};
use kilburn_addr::Errno;
use kilburn_mm::ShowFrames;
use parking_lot::Mutex;
use pressure::PressureFile;
use send_wrapper::SendWrapper;
use std::any::Any;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::{Arc, Weak};
pub(crate) use system::uuid;
pub(in crate::fs) use system::{cpu_list, cpu_mask};
use task::TaskFile;

/// Magic number of procfs.
const PROC_MAGIC: u64 = 0x9fa0;

/// One file of `/proc`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Node {
    Root,
    /// `/proc/self`
    SelfLink,
    /// `/proc/thread-self`
    ThreadSelf,
    /// `/proc/PID`, `/proc/PID/task/TID`
    Task(Owner),
    /// `/proc/PID/task`
    Threads(Tid),
    /// `/proc/PID/FILE`
    File(Owner, TaskFile),
    /// `/proc/PID/fd`
    Fds(Owner),
    /// `/proc/PID/fd/N`
    Fd(Owner, i32),
    /// `/proc/PID/fdinfo`
    FdInfos(Owner),
    /// `/proc/PID/fdinfo/N`
    FdInfo(Owner, i32),
    /// A folder of `/proc/sys`, by its place in [`system::DIRS`].
    Dir(usize),
    /// A file outside the task folders, by its number.
    System(usize),
    /// `/proc/mounts`
    MountsLink,
}

impl Node {
    /// How it is read in pieces.
    fn reading(self) -> Reading {
        match self {
            Self::System(number) => {
                system::by_number(number).map_or(Reading::Sequence, |file| file.reading)
            }
            Self::File(_, file) => file.reading(),
            _ => Reading::Sequence,
        }
    }
}

/// Whose folder: a process, or one thread in its process's folder.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Owner {
    Process(Tid),
    Thread(Tid),
}

impl Owner {
    fn tid(self) -> Tid {
        match self {
            Self::Process(tid) | Self::Thread(tid) => tid,
        }
    }
}

/// The file system.
pub(crate) struct ProcFs {
    device: Device,
    link: SendWrapper<KernelLink>,
    /// Inodes somebody holds, so that one node is one inode.
    live: Mutex<BTreeMap<Node, Weak<ProcInode>>>,
}

impl ProcFs {
    /// The root directory of a `/proc` for the kernel behind `link`.
    pub(crate) fn mount(device: Device, link: KernelLink) -> InodeRef {
        let live = Mutex::default();
        Arc::new(Self { device, link: SendWrapper::new(link), live }).inode(Node::Root)
    }

    fn inode(self: &Arc<Self>, node: Node) -> InodeRef {
        let mut live = self.live.lock();
        if let Some(known) = live.get(&node).and_then(Weak::upgrade) {
            return known;
        }
        let inode = Arc::new(ProcInode { fs: Arc::clone(self), node });
        live.insert(node, Arc::downgrade(&inode));
        inode
    }

    fn kernel(&self) -> Result<Rc<Kernel>, Errno> {
        self.link.get().ok_or(Errno::ENOENT)
    }

    /// The task that a folder shows: of a process, its oldest living thread.
    fn task(&self, owner: Owner) -> Result<Rc<Task>, Errno> {
        let kernel = self.kernel()?;
        match owner {
            Owner::Thread(tid) => kernel.task(tid).ok_or(Errno::ENOENT),
            Owner::Process(tgid) => {
                let group = kernel.group(tgid).ok_or(Errno::ENOENT)?;
                group.first_thread().ok_or(Errno::ESRCH)
            }
        }
    }

    fn group(&self, owner: Owner) -> Result<Rc<ThreadGroup>, Errno> {
        let kernel = self.kernel()?;
        match owner {
            Owner::Process(tgid) => kernel.group(tgid).ok_or(Errno::ENOENT),
            Owner::Thread(tid) => Ok(Rc::clone(kernel.task(tid).ok_or(Errno::ENOENT)?.group())),
        }
    }

    /// What a file says now.
    fn text(&self, node: Node) -> Result<Vec<u8>, Errno> {
        let kernel = self.kernel()?;
        match node {
            Node::File(owner, file) => {
                let group = self.group(owner)?;
                let task = self.task(owner).ok();
                task::text(&kernel, owner, (&group, task.as_ref()), file)
            }
            Node::FdInfo(owner, fd) => {
                let task = self.task(owner)?;
                task::fdinfo(&task, fd)
            }
            Node::System(number) => (system::by_number(number)?.text)(&kernel),
            _ => Err(Errno::EISDIR),
        }
    }

    fn write(&self, node: Node, text: &[u8]) -> Result<(), Errno> {
        match node {
            Node::File(owner, file) => task::write(&*self.task(owner)?, file, text),
            Node::System(number) => {
                let write = system::by_number(number)?.write.ok_or(Errno::EIO)?;
                write(&*self.kernel()?, text)
            }
            _ => Err(Errno::EIO),
        }
    }

    /// Whether the caller may see what only a debugger sees of a task.
    ///
    /// # Errors
    /// EACCES.
    fn check_inspect(&self, task: &Task) -> Result<(), Errno> {
        if may_inspect(&*self.current()?, task, Ids::FileSystem) {
            Ok(())
        } else {
            Err(Errno::EACCES)
        }
    }

    /// How often the mount table changed.
    fn mount_changes(&self) -> u64 {
        self.kernel().map_or(0, |kernel| kernel.vfs().mount_table().changes())
    }

    /// Woken when the mount table changes.
    fn mount_queue(&self) -> Option<WaitQueue> {
        Some(self.kernel().ok()?.vfs().mount_table().queue().clone())
    }

    /// Opens a file of a task's folder.
    fn open_task_file(
        self: &Arc<Self>,
        owner: Owner,
        file: TaskFile,
    ) -> Result<Box<dyn FileOps>, Errno> {
        let node = Node::File(owner, file);
        // A zombie has the files, and nothing in those about memory.
        let task = self.task(owner).ok();
        if let Some(task) = &task
            && file.is_guarded()
        {
            self.check_inspect(task)?;
        }
        let mm = task.and_then(|task| task.mm());
        let wants_memory =
            matches!(file, TaskFile::Auxv | TaskFile::Environ | TaskFile::Mem | TaskFile::Pagemap);
        if wants_memory && self.group(owner)?.kernel_thread.get().is_some() {
            return Err(Errno::ESRCH);
        }
        match file {
            TaskFile::Mem => Ok(Box::new(MemFile::new(mm.as_ref()))),
            TaskFile::Pagemap => {
                let admin = self.current()?.creds().has_cap(Capability::SysAdmin);
                let show = if admin { ShowFrames::Yes } else { ShowFrames::No };
                Ok(Box::new(PagemapFile::new(mm.as_ref(), show)))
            }
            _ => Ok(Box::new(ProcFile::new(Arc::clone(self), node))),
        }
    }

    fn place_of(&self, owner: Owner, file: TaskFile) -> Result<Path, Errno> {
        let task = self.task(owner)?;
        self.check_inspect(&task)?;
        match file {
            TaskFile::Cwd => Ok(task.fs().cwd()),
            TaskFile::Root => Ok(task.fs().root()),
            TaskFile::Exe => {
                let exe = task.exe.borrow();
                Ok(exe.as_ref().ok_or(Errno::ENOENT)?.place().clone())
            }
            _ => Err(Errno::EINVAL),
        }
    }

    fn fd_place(&self, owner: Owner, fd: i32) -> Result<Path, Errno> {
        let files = self.task(owner)?.try_files().ok_or(Errno::ENOENT)?;
        Ok(files.get_any(fd).map_err(|_| Errno::ENOENT)?.path().clone())
    }

    /// Where a descriptor's link leads, if the caller may know.
    fn fd_target(&self, owner: Owner, fd: i32) -> Result<Path, Errno> {
        self.check_inspect(&*self.task(owner)?)?;
        self.fd_place(owner, fd)
    }

    /// A link's text, as the caller's root shows it.
    fn shown(&self, place: &Path) -> Vec<u8> {
        let root = self.kernel().ok().and_then(|kernel| kernel.current());
        let root = root.map_or_else(|| place.root_of_everything(), |task| task.fs().root());
        place.text(&root)
    }

    fn current(&self) -> Result<Rc<Task>, Errno> {
        self.kernel()?.current().ok_or(Errno::ENOENT)
    }
}

impl FileSystem for ProcFs {
    fn type_name(&self) -> &'static str {
        "proc"
    }

    fn device(&self) -> Device {
        self.device
    }

    fn statfs(&self) -> Result<Kstatfs, Errno> {
        Ok(Kstatfs::simple(PROC_MAGIC))
    }
}

/// A file of `/proc`, as long as somebody holds it.
pub(super) struct ProcInode {
    fs: Arc<ProcFs>,
    node: Node,
}

/// A number in a name, as procfs reads it: no sign, no leading zero.
fn number(name: &[u8]) -> Option<u32> {
    if name.len() > 1 && name[0] == b'0' || !name.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(name).ok()?.parse().ok()
}

impl ProcInode {
    fn child(&self, node: Node) -> InodeRef {
        self.fs.inode(node)
    }

    fn lookup_in_root(&self, name: &[u8]) -> Result<Node, Errno> {
        match name {
            b"self" => return Ok(Node::SelfLink),
            b"thread-self" => return Ok(Node::ThreadSelf),
            b"mounts" => return Ok(Node::MountsLink),
            _ => {}
        }
        if let Some(tid) = number(name) {
            let kernel = self.fs.kernel()?;
            // A thread's folder is there, though not listed.
            if kernel.group(tid).is_some() {
                return Ok(Node::Task(Owner::Process(tid)));
            }
            kernel.task(tid).ok_or(Errno::ENOENT)?;
            return Ok(Node::Task(Owner::Thread(tid)));
        }
        system::lookup(system::TOP, name).ok_or(Errno::ENOENT)
    }

    fn lookup_in_task(&self, owner: Owner, name: &[u8]) -> Result<Node, Errno> {
        self.fs.group(owner)?;
        Ok(match name {
            b"fd" => Node::Fds(owner),
            b"fdinfo" => Node::FdInfos(owner),
            b"task" if matches!(owner, Owner::Process(_)) => Node::Threads(owner.tid()),
            _ => Node::File(owner, TaskFile::named(name).ok_or(Errno::ENOENT)?),
        })
    }

    fn find(&self, name: &[u8]) -> Result<Node, Errno> {
        match self.node {
            Node::Root => self.lookup_in_root(name),
            Node::Task(owner) => self.lookup_in_task(owner, name),
            Node::Threads(tgid) => {
                let tid = number(name).ok_or(Errno::ENOENT)?;
                let task = self.fs.kernel()?.task(tid).ok_or(Errno::ENOENT)?;
                if task.tgid() != tgid {
                    return Err(Errno::ENOENT);
                }
                Ok(Node::Task(Owner::Thread(tid)))
            }
            Node::Fds(owner) | Node::FdInfos(owner) => {
                let fd = number(name).and_then(|fd| i32::try_from(fd).ok()).ok_or(Errno::ENOENT)?;
                self.fs.fd_place(owner, fd)?;
                let info = matches!(self.node, Node::FdInfos(_));
                Ok(if info { Node::FdInfo(owner, fd) } else { Node::Fd(owner, fd) })
            }
            Node::Dir(index) => system::lookup(index, name).ok_or(Errno::ENOENT),
            _ => Err(Errno::ENOTDIR),
        }
    }

    fn names(&self) -> Result<Vec<(Vec<u8>, Node)>, Errno> {
        let numbered = |n: u32| n.to_string().into_bytes();
        Ok(match self.node {
            Node::Root => {
                let mut names = system::names(system::TOP);
                names.push((b"mounts".to_vec(), Node::MountsLink));
                names.push((b"self".to_vec(), Node::SelfLink));
                names.push((b"thread-self".to_vec(), Node::ThreadSelf));
                for group in self.fs.kernel()?.all_groups() {
                    names.push((numbered(group.tgid()), Node::Task(Owner::Process(group.tgid()))));
                }
                names
            }
            Node::Task(owner) => {
                let mut names: Vec<_> = TaskFile::all()
                    .map(|(name, file)| (name.as_bytes().to_vec(), Node::File(owner, file)))
                    .collect();
                names.push((b"fd".to_vec(), Node::Fds(owner)));
                names.push((b"fdinfo".to_vec(), Node::FdInfos(owner)));
                if let Owner::Process(tgid) = owner {
                    names.push((b"task".to_vec(), Node::Threads(tgid)));
                }
                names.sort();
                names
            }
            Node::Threads(tgid) => {
                let group = self.fs.group(Owner::Process(tgid))?;
                let node =
                    |task: &Rc<Task>| (numbered(task.tid()), Node::Task(Owner::Thread(task.tid())));
                group.living().iter().map(node).collect()
            }
            Node::Fds(owner) | Node::FdInfos(owner) => {
                let files = self.fs.task(owner)?.try_files().ok_or(Errno::ENOENT)?;
                let info = matches!(self.node, Node::FdInfos(_));
                let node = |(fd, _): (i32, _)| {
                    let node = if info { Node::FdInfo(owner, fd) } else { Node::Fd(owner, fd) };
                    (fd.to_string().into_bytes(), node)
                };
                files.open_fds().into_iter().map(node).collect()
            }
            Node::Dir(index) => system::names(index),
            _ => return Err(Errno::ENOTDIR),
        })
    }

    /// Permission bits.
    fn perm(&self) -> u32 {
        match self.node {
            Node::SelfLink | Node::ThreadSelf | Node::MountsLink => 0o777,
            Node::Fds(_) => 0o500,
            Node::Fd(owner, fd) => {
                let file = self.fs.task(owner).ok().and_then(|task| task.try_files());
                let flags = file.and_then(|files| files.get_any(fd).ok()).map(|file| file.flags());
                let flags = flags.unwrap_or(OpenFlags::PATH);
                (u32::from(flags.readable()) * 0o500) | (u32::from(flags.writable()) * 0o300)
            }
            Node::File(_, file) => file.perm(),
            Node::FdInfo(..) => 0o444,
            Node::System(number) => system::by_number(number).map_or(0, |file| file.perm),
            _ => 0o555,
        }
    }

    /// Inode number: the same for the same node, whatever was looked up before.
    fn ino(&self) -> u64 {
        let of = |owner: Owner, kind: u64| {
            let thread = u64::from(matches!(owner, Owner::Thread(_)));
            1 << 32 | u64::from(owner.tid()) << 12 | thread << 11 | kind
        };
        match self.node {
            Node::Root => 1,
            Node::SelfLink => 0xf000_0002,
            Node::ThreadSelf => 0xf000_0003,
            Node::MountsLink => 0xf000_0004,
            Node::Dir(index) => 0xf000_0100 + index as u64,
            Node::System(index) => 0xf000_0200 + index as u64,
            Node::Task(owner) => of(owner, 0),
            Node::Threads(tgid) => of(Owner::Process(tgid), 1),
            Node::Fds(owner) => of(owner, 2),
            Node::FdInfos(owner) => of(owner, 3),
            Node::File(owner, file) => of(owner, 16 + file as u64),
            Node::Fd(owner, fd) => of(owner, 4) | (fd as u64 + 1) << 33,
            Node::FdInfo(owner, fd) => of(owner, 5) | (fd as u64 + 1) << 33,
        }
    }

    fn nlink(&self) -> u32 {
        match self.node {
            Node::Task(Owner::Process(_)) => 9,
            Node::Task(Owner::Thread(_)) => 7,
            Node::Threads(tgid) => {
                let threads = self.fs.group(Owner::Process(tgid)).map_or(0, |g| g.living().len());
                2 + threads as u32
            }
            Node::Root => {
                let groups = self.fs.kernel().map_or(0, |kernel| kernel.all_groups().len());
                8 + groups as u32
            }
            _ if self.kind() == FileType::Directory => 2,
            _ => 1,
        }
    }
}

impl Inode for ProcInode {
    fn file_system(&self) -> Arc<dyn FileSystem> {
        Arc::clone(&self.fs) as Arc<dyn FileSystem>
    }

    fn kind(&self) -> FileType {
        match self.node {
            Node::Root
            | Node::Task(_)
            | Node::Threads(_)
            | Node::Fds(_)
            | Node::FdInfos(_)
            | Node::Dir(_) => FileType::Directory,
            Node::SelfLink | Node::ThreadSelf | Node::MountsLink | Node::Fd(..) => {
                FileType::Symlink
            }
            Node::File(_, file) if file.is_link() => FileType::Symlink,
            Node::File(..) | Node::FdInfo(..) | Node::System(_) => FileType::Regular,
        }
    }

    fn stat(&self) -> Result<Kstat, Errno> {
        let owner = match self.node {
            Node::Task(owner)
            | Node::File(owner, _)
            | Node::Fds(owner)
            | Node::Fd(owner, _)
            | Node::FdInfos(owner)
            | Node::FdInfo(owner, _) => Some(owner),
            Node::Threads(tgid) => Some(Owner::Process(tgid)),
            _ => None,
        };
        let creds = owner.and_then(|owner| self.fs.task(owner).ok()).map(|task| task.creds());
        // What a process that its user may not debug shows belongs to root, but for its folders.
        let dumpable = owner.and_then(|owner| self.fs.group(owner).ok());
        let dumpable = dumpable.is_none_or(|group| group.dumpable.get() == access::SUID_DUMP_USER);
        let creds = creds.filter(|_| dumpable || matches!(self.node, Node::Task(_)));
        let (uid, gid) = creds.map_or((0, 0), |creds| (creds.euid, creds.egid));
        let size = match self.node {
            Node::Fd(..) => 64,
            Node::Fds(owner) => {
                let files = self.fs.task(owner).ok().and_then(|task| task.try_files());
                files.map_or(0, |files| files.open_fds().len() as u64)
            }
            _ => 0,
        };
        let now = self.fs.kernel().map_or(BOOT_REALTIME, |kernel| kernel.realtime());
        let now = Timespec::from_nanos(now);
        Ok(Kstat {
            dev: self.fs.device,
            ino: self.ino(),
            kind: self.kind(),
            perm: self.perm(),
            nlink: self.nlink(),
            uid,
            gid,
            rdev: Device::default(),
            size,
            blksize: 1024,
            blocks: 0,
            atime: now,
            mtime: now,
            ctime: now,
            btime: None,
        })
    }

    fn set_attr(&self, _change: &SetAttr) -> Result<(), Errno> {
        Err(Errno::EPERM)
    }

    fn truncate(&self, _size: u64) -> Result<(), Errno> {
        // Opening with O_TRUNC, as a shell's `>` does, changes nothing.
        Ok(())
    }

    fn lookup(&self, name: &[u8]) -> Result<InodeRef, Errno> {
        self.find(name).map(|node| self.child(node))
    }

    fn read_dir(&self) -> Result<Vec<DirEntry>, Errno> {
        let entry = |(name, node): (Vec<u8>, Node)| {
            let inode = ProcInode { fs: Arc::clone(&self.fs), node };
            DirEntry { name, ino: inode.ino(), kind: inode.kind() }
        };
        Ok(self.names()?.into_iter().map(entry).collect())
    }

    fn read_link(&self) -> Result<Vec<u8>, Errno> {
        match self.node {
            Node::SelfLink => Ok(self.fs.current()?.tgid().to_string().into_bytes()),
            Node::ThreadSelf => {
                let task = self.fs.current()?;
                Ok(format!("{}/task/{}", task.tgid(), task.tid()).into_bytes())
            }
            Node::MountsLink => Ok(b"self/mounts".to_vec()),
            Node::Fd(owner, fd) => Ok(self.fs.shown(&self.fs.fd_target(owner, fd)?)),
            Node::File(owner, file) => Ok(self.fs.shown(&self.fs.place_of(owner, file)?)),
            _ => Err(Errno::EINVAL),
        }
    }

    fn follow(&self) -> Result<Target, Errno> {
        match self.node {
            Node::Fd(owner, fd) => Ok(Target::Jump(self.fs.fd_target(owner, fd)?)),
            Node::File(owner, file) if file.is_link() => {
                Ok(Target::Jump(self.fs.place_of(owner, file)?))
            }
            _ => self.read_link().map(Target::Text),
        }
    }

    fn is_magic_link(&self) -> bool {
        matches!(self.node, Node::Fd(..) | Node::File(..))
    }

    fn open(&self, flags: OpenFlags) -> Option<Result<Box<dyn FileOps>, Errno>> {
        if self.kind() != FileType::Regular {
            return None;
        }
        Some(match self.node {
            Node::File(owner, file) => self.fs.open_task_file(owner, file),
            // Linux fs/proc/proc_sysctl.c: sysctl_perm: what cannot be written is not opened for
            // it, not even by root.
            Node::System(number)
                if flags.writable()
                    && self.perm() & 0o222 == 0
                    && system::by_number(number).is_ok_and(system::SystemFile::is_setting) =>
            {
                Err(Errno::EACCES)
            }
            Node::System(number) => {
                let fs = Arc::clone(&self.fs);
                Ok(match system::pressure_on(number) {
                    Some(resource) => Box::new(PressureFile::new(fs, self.node, resource)),
                    None => Box::new(ProcFile::new(fs, self.node)),
                })
            }
            _ => Ok(Box::new(ProcFile::new(Arc::clone(&self.fs), self.node))),
        })
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Drop for ProcInode {
    fn drop(&mut self) {
        let mut live = self.fs.live.lock();
        if live.get(&self.node).is_some_and(|known| known.strong_count() == 0) {
            live.remove(&self.node);
        }
    }
}
