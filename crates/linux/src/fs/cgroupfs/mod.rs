//! `cgroup2`: control groups as folders and files.
//!
//! [`CgroupFs`] shows the kernel's one tree of groups ([`crate::cgroup`]): a folder is a group, made and
//! removed by mkdir and rmdir; [`files`] lists what is in it. A file's text is made when it is read
//! from the start. Source: Linux 6.18 kernel/cgroup/cgroup.c, fs/kernfs/, checked on a real riscv64
//! kernel. Neighbours: [`crate::fs::sysfs`], [`crate::fs::procfs`] are the same idea.

mod files;

use crate::cgroup::Cgroup;
use crate::fs::boot::KernelLink;
use crate::fs::file::{FileOps, OpenFile, OpenFlags, Whence, seek_in};
use crate::fs::inode::{DirEntry, FileSystem, Inode, InodeRef, NewInode, NewKind, SetAttr};
use crate::fs::perm::{May, may_access};
use crate::fs::stat::{Device, FileType, Kstat, Kstatfs, Timespec};
use crate::kernel::Kernel;
use crate::task::Task;
use crate::time::BOOT_REALTIME;
use files::{FILES, GroupFile};
use kilburn_addr::{Errno, PAGE_SIZE};
use parking_lot::Mutex;
use send_wrapper::SendWrapper;
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::{Arc, Weak};

/// Magic number of cgroup2.
const CGROUP2_MAGIC: u64 = 0x6367_7270;

/// Inode numbers of a group: the folder's, and those of its files after it.
const NUMBERS: u64 = 64;

/// Owner and rights of a folder or file that somebody changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Attributes {
    perm: u32,
    uid: u32,
    gid: u32,
}

/// What of a group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Which {
    Folder,
    /// The file at this place of [`FILES`].
    File(usize),
}

impl Which {
    fn number(self) -> u64 {
        match self {
            Self::Folder => 0,
            Self::File(at) => 1 + at as u64,
        }
    }

    fn file(self) -> Option<&'static GroupFile> {
        match self {
            Self::Folder => None,
            Self::File(at) => FILES.get(at),
        }
    }
}

/// The file system.
pub(crate) struct CgroupFs {
    device: Device,
    link: SendWrapper<KernelLink>,
    /// Inodes somebody holds, by number.
    live: Mutex<BTreeMap<u64, Weak<CgroupInode>>>,
}

impl CgroupFs {
    /// The folder of the root group of the kernel behind `link`.
    ///
    /// # Errors
    /// ENODEV while there is no kernel.
    pub(crate) fn mount(device: Device, link: KernelLink) -> Result<InodeRef, Errno> {
        let link = SendWrapper::new(link);
        let fs = Arc::new(Self { device, link, live: Mutex::default() });
        let root = Rc::clone(fs.kernel()?.root_cgroup());
        Ok(fs.inode(&root, Which::Folder))
    }

    fn kernel(&self) -> Result<Rc<Kernel>, Errno> {
        self.link.get().ok_or(Errno::ENODEV)
    }

    fn inode(self: &Arc<Self>, group: &Rc<Cgroup>, which: Which) -> InodeRef {
        let number = group.id() * NUMBERS + which.number();
        let mut live = self.live.lock();
        if let Some(known) = live.get(&number).and_then(Weak::upgrade) {
            return known;
        }
        let group = SendWrapper::new(Rc::clone(group));
        let inode = Arc::new(CgroupInode { fs: Arc::clone(self), group, which });
        live.insert(number, Arc::downgrade(&inode));
        inode
    }
}

impl FileSystem for CgroupFs {
    fn type_name(&self) -> &'static str {
        "cgroup2"
    }

    fn device(&self) -> Device {
        self.device
    }

    fn statfs(&self) -> Result<Kstatfs, Errno> {
        Ok(Kstatfs::simple(CGROUP2_MAGIC))
    }
}

/// A folder or file of a group, as long as somebody holds it.
pub(crate) struct CgroupInode {
    fs: Arc<CgroupFs>,
    group: SendWrapper<Rc<Cgroup>>,
    which: Which,
}

impl CgroupInode {
    /// The group a folder stands for.
    pub(crate) fn folder_of(&self) -> Option<&Rc<Cgroup>> {
        (self.which == Which::Folder).then_some(&*self.group)
    }

    fn folder(&self) -> Result<&Rc<Cgroup>, Errno> {
        self.folder_of().ok_or(Errno::ENOTDIR)
    }
}

/// Attributes of a folder or file of a group, but for device and number.
fn stat_of(group: &Cgroup, which: Which) -> Kstat {
    let made = match which.file() {
        Some(file) => file.perm(),
        None if group.is_root() => 0o555,
        None => 0o755,
    };
    let made = Attributes { perm: made, uid: 0, gid: 0 };
    let now = group.attributes.borrow().get(&which.number()).copied().unwrap_or(made);
    let boot = Timespec::from_nanos(BOOT_REALTIME);
    let is_folder = which == Which::Folder;
    Kstat {
        dev: Device::default(),
        ino: group.id() * NUMBERS + which.number(),
        kind: if is_folder { FileType::Directory } else { FileType::Regular },
        perm: now.perm,
        nlink: if is_folder { 2 + group.children().len() as u32 } else { 1 },
        uid: now.uid,
        gid: now.gid,
        rdev: Device::default(),
        size: 0,
        blksize: PAGE_SIZE as u32,
        blocks: 0,
        atime: boot,
        mtime: boot,
        ctime: boot,
        btime: None,
    }
}

impl Kernel {
    /// Whether `caller` may move processes from one group to another: it needs to be able to write
    /// `cgroup.procs` of the closest group above both (Linux `cgroup_procs_write_permission`).
    ///
    /// # Errors
    /// EACCES
    pub(crate) fn check_may_move(
        &self,
        caller: &Task,
        from: &Rc<Cgroup>,
        to: &Rc<Cgroup>,
    ) -> Result<(), Errno> {
        let mut common = Rc::clone(to);
        while !from.is_within(&common) {
            let Some(parent) = common.parent().cloned() else { break };
            common = parent;
        }
        let at = FILES.iter().position(|file| file.name == "cgroup.procs").ok_or(Errno::EACCES)?;
        may_access(&caller.creds(), &stat_of(&common, Which::File(at)), May::WRITE)
    }
}

impl Inode for CgroupInode {
    fn file_system(&self) -> Arc<dyn FileSystem> {
        Arc::clone(&self.fs) as Arc<dyn FileSystem>
    }

    fn kind(&self) -> FileType {
        if self.which == Which::Folder { FileType::Directory } else { FileType::Regular }
    }

    fn stat(&self) -> Result<Kstat, Errno> {
        Ok(Kstat { dev: self.fs.device, ..stat_of(&self.group, self.which) })
    }

    fn set_attr(&self, change: &SetAttr) -> Result<(), Errno> {
        let now = stat_of(&self.group, self.which);
        let attributes = Attributes {
            perm: change.perm.unwrap_or(now.perm),
            uid: change.uid.unwrap_or(now.uid),
            gid: change.gid.unwrap_or(now.gid),
        };
        self.group.attributes.borrow_mut().insert(self.which.number(), attributes);
        Ok(())
    }

    fn truncate(&self, _size: u64) -> Result<(), Errno> {
        // Opening with O_TRUNC, as a shell's `>` does, changes nothing.
        Ok(())
    }

    fn lookup(&self, name: &[u8]) -> Result<InodeRef, Errno> {
        let group = self.folder()?;
        if let Some(child) = group.child(name) {
            return Ok(self.fs.inode(&child, Which::Folder));
        }
        let is_it = |file: &GroupFile| file.name.as_bytes() == name && file.is_in(group);
        let at = FILES.iter().position(is_it).filter(|_| !group.is_removed());
        Ok(self.fs.inode(group, Which::File(at.ok_or(Errno::ENOENT)?)))
    }

    fn read_dir(&self) -> Result<Vec<DirEntry>, Errno> {
        let group = self.folder()?;
        if group.is_removed() {
            return Ok(Vec::new());
        }
        let files = FILES.iter().enumerate().filter(|(_, file)| file.is_in(group));
        let files = files.map(|(at, file)| DirEntry {
            name: file.name.as_bytes().to_vec(),
            ino: group.id() * NUMBERS + Which::File(at).number(),
            kind: FileType::Regular,
        });
        let folders = group.children().into_iter().map(|(name, child)| DirEntry {
            name,
            ino: child.id() * NUMBERS,
            kind: FileType::Directory,
        });
        Ok(files.chain(folders).collect())
    }

    fn create(&self, name: &[u8], new: &NewInode<'_>) -> Result<InodeRef, Errno> {
        let group = self.folder()?;
        match new.what {
            NewKind::Directory => {
                if FILES.iter().any(|file| file.name.as_bytes() == name && file.is_in(group)) {
                    return Err(Errno::EEXIST);
                }
                let child = self.fs.kernel()?.make_cgroup(group, name)?;
                let inode = self.fs.inode(&child, Which::Folder);
                let owner = SetAttr {
                    perm: Some(new.perm),
                    uid: Some(new.uid),
                    gid: Some(new.gid),
                    ..SetAttr::default()
                };
                inode.set_attr(&owner)?;
                for at in 0..FILES.len() {
                    // Files belong to who made the group, so that it can be handed to a user.
                    let made = stat_of(&child, Which::File(at));
                    let attributes = Attributes { perm: made.perm, uid: new.uid, gid: new.gid };
                    let number = Which::File(at).number();
                    child.attributes.borrow_mut().insert(number, attributes);
                }
                Ok(inode)
            }
            // Linux kernfs has no operation to create files with.
            NewKind::Regular => Err(Errno::EACCES),
            _ => Err(Errno::EPERM),
        }
    }

    fn rmdir(&self, name: &[u8]) -> Result<(), Errno> {
        let child = self.folder()?.child(name).ok_or(Errno::ENOTDIR)?;
        self.fs.kernel()?.remove_cgroup(&child)
    }

    fn open(&self, _flags: OpenFlags) -> Option<Result<Box<dyn FileOps>, Errno>> {
        let file = self.which.file()?;
        Some(Ok(Box::new(CgroupFile {
            fs: Arc::clone(&self.fs),
            group: Rc::clone(&self.group),
            file,
            text: RefCell::default(),
            next: Cell::new(0),
        })))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Drop for CgroupInode {
    fn drop(&mut self) {
        let number = self.group.id() * NUMBERS + self.which.number();
        let mut live = self.fs.live.lock();
        if live.get(&number).is_some_and(|known| known.strong_count() == 0) {
            live.remove(&number);
        }
    }
}

/// An open file of a group.
struct CgroupFile {
    fs: Arc<CgroupFs>,
    group: Rc<Cgroup>,
    file: &'static GroupFile,
    text: RefCell<String>,
    /// Where reading goes on without making the text anew; 0 at first.
    next: Cell<u64>,
}

impl CgroupFile {
    /// # Errors
    /// ENODEV when the group was removed.
    fn kernel(&self) -> Result<Rc<Kernel>, Errno> {
        let there = !self.group.is_removed() && self.file.is_in(&self.group);
        if there { self.fs.kernel() } else { Err(Errno::ENODEV) }
    }
}

impl FileOps for CgroupFile {
    fn read(&self, _file: &OpenFile, pos: u64, into: &mut [u8]) -> Result<usize, Errno> {
        let kernel = self.kernel()?;
        let mut text = self.text.borrow_mut();
        if pos == 0 || pos != self.next.get() {
            let show = self.file.show.ok_or(Errno::EINVAL)?;
            *text = show(&kernel, &self.group)?;
        }
        let from = usize::try_from(pos).unwrap_or(usize::MAX).min(text.len());
        let n = (text.len() - from).min(into.len());
        into[..n].copy_from_slice(&text.as_bytes()[from..from + n]);
        self.next.set(pos.saturating_add(n as u64));
        Ok(n)
    }

    fn write(&self, _file: &OpenFile, _pos: u64, from: &[u8]) -> Result<usize, Errno> {
        if from.is_empty() {
            return Ok(0);
        }
        let kernel = self.kernel()?;
        let store = self.file.store.ok_or(Errno::EINVAL)?;
        // Linux takes a page at most, and of that what comes before a null.
        let from = &from[..from.len().min(PAGE_SIZE as usize)];
        let end = from.iter().position(|byte| *byte == 0).unwrap_or(from.len());
        let text = str::from_utf8(&from[..end]).map_err(|_| Errno::EINVAL)?;
        store(&kernel, &self.group, text.trim())?;
        Ok(from.len())
    }

    fn seek(&self, file: &OpenFile, offset: i64, whence: Whence) -> Result<u64, Errno> {
        seek_in(file.position(), None, offset, whence)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
