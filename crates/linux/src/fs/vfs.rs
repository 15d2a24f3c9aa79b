//! The machine's name space: what is mounted where, and what every file operation needs.
//!
//! [`Vfs`] is made once a machine from its root ([`VfsConfig`]). The guest sees, over its root:
//! `/proc`, `/sys`, `/dev`, `/dev/shm`, `/dev/pts`, `/run` and `/tmp`, the last three in memory,
//! so that a run leaves no trace there; a mount point that the root lacks is there all the same.
//! Operations on names are in [`crate::fs::names`], opening in [`crate::fs::open`].

use crate::config::FileFaults;
use crate::fs::boot::{KernelLink, Stdio};
use crate::fs::cgroupfs::CgroupFs;
use crate::fs::clock::Clock;
use crate::fs::dentry::{Dentry, Path};
use crate::fs::devices;
use crate::fs::file::{OpenFile, OpenFlags};
use crate::fs::hostfs::HostFs;
use crate::fs::hugetlb::{HugeFile, HugeSize};
use crate::fs::inet::Network;
use crate::fs::inode::{Inode as _, InodeRef, NewInode, NewKind};
use crate::fs::locks::LockTable;
use crate::fs::memfs::{MemFs, MemFsOptions, MemInode};
use crate::fs::mount::{Mount, MountFlags};
use crate::fs::mounting::MountTable;
use crate::fs::page_cache::PageCaches;
use crate::fs::pipe::{self, Fifo};
use crate::fs::pipe_pages::PipePages;
use crate::fs::procfs::{ProcFs, uuid};
use crate::fs::pseudo::{PseudoFs, StreamSource};
use crate::fs::random::Random;
use crate::fs::regular::RegularFile;
use crate::fs::stat::{Device, FileType};
use crate::fs::sysfs::SysFs;
use crate::fs::unix::{Address, UnixNames, UnixSocket};
use crate::fs::write_access::Writers;
use crate::task::Creds;
use kilburn_addr::Errno;
use std::cell::{Cell, OnceCell};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// Major number of anonymous devices is 0; minors below this one belong to pseudo file systems.
const FIRST_MINOR: u32 = 20;

/// Where the guest's `/` comes from.
pub(crate) enum RootSource {
    /// A host folder.
    Host(PathBuf),
    /// An empty tree in memory.
    Memory,
}

/// What a name space is made of.
pub(crate) struct VfsConfig {
    /// The root.
    pub(crate) root: RootSource,
    /// Makes page caches.
    pub(crate) caches: PageCaches,
    /// Stamps inodes.
    pub(crate) clock: Clock,
    /// Fills `/dev/urandom`.
    pub(crate) random: Random,
    /// The machine's standard streams.
    pub(crate) stdio: Stdio,
    /// The kernel, later.
    pub(crate) link: KernelLink,
    /// Bytes of guest memory; a tmpfs says it could hold half.
    pub(crate) memory_bytes: u64,
    /// Faults of the files below a host root, and the seed they are drawn from.
    pub(crate) faults: Option<(FileFaults, u64)>,
}

/// Device number of the files of huge pages.
const HUGETLB_DEVICE: Device = Device::new(0, 11);

/// The name space of a machine.
pub(crate) struct Vfs {
    root: Path,
    caches: PageCaches,
    clock: Clock,
    random: Random,
    memory_bytes: u64,
    stdio: Stdio,
    link: KernelLink,
    mounts: MountTable,
    next_minor: Cell<u32>,
    pipes: Arc<PseudoFs>,
    pipe_pages: Arc<PipePages>,
    /// Standard streams of the host.
    streams: Arc<PseudoFs>,
    sockets: Arc<PseudoFs>,
    anon: Arc<PseudoFs>,
    /// The one inode of all anonymous files.
    anon_inode: InodeRef,
    /// Files of memfd_create and shared anonymous memory.
    shm: InodeRef,
    locks: Rc<LockTable>,
    boot_id: OnceCell<Vec<u8>>,
    event_ids: Cell<u64>,
    unix: UnixNames,
    autobinds: Cell<u32>,
    writers: Writers,
    network: Rc<Network>,
}

impl Vfs {
    /// Mounts the root and what the kernel adds to it.
    ///
    /// # Errors
    /// When a host root cannot be opened or is no folder.
    pub(crate) fn new(config: VfsConfig) -> std::io::Result<Self> {
        let VfsConfig { root, caches, clock, random, stdio, link, memory_bytes, faults } = config;
        let numbers = Arc::new(AtomicU64::new(1));
        let pseudo = |name, minor, magic| {
            PseudoFs::new(name, Device::new(0, minor), magic, clock.clone(), &numbers)
        };
        let anon = pseudo("anon_inodefs", 15, 0x0904_1934);
        let memfs = |name, minor, perm| {
            let options = MemFsOptions { perm, ..MemFsOptions::new(memory_bytes) };
            MemFs::mount(name, Device::new(0, minor), &options, caches.clone(), clock.clone())
        };
        let (root_inode, source) = match root {
            RootSource::Host(path) => {
                let faults = faults.as_ref().map(|(faults, seed)| (faults, *seed));
                (HostFs::mount(&path, caches.clone(), clock.clone(), faults)?, b"root".as_slice())
            }
            RootSource::Memory => {
                (memfs("tmpfs", FIRST_MINOR, 0o755) as InodeRef, b"rootfs".as_slice())
            }
        };
        let root_dentry = Dentry::root(Arc::clone(&root_inode));
        let mounts = MountTable::new();
        let flags = MountFlags::default();
        let root_mount = mounts.add(Arc::clone(&root_dentry), source, flags, None);
        let vfs = Self {
            root: Path { mount: root_mount, dentry: root_dentry },
            anon_inode: anon.inode(FileType::Anonymous, 0o600, None),
            pipe_pages: PipePages::new(),
            pipes: pseudo("pipefs", 14, 0x5049_5045),
            sockets: pseudo("sockfs", 8, 0x534f_434b),
            anon,
            shm: memfs("tmpfs", 1, 0o1777),
            caches: caches.clone(),
            clock: clock.clone(),
            random,
            memory_bytes,
            stdio,
            link,
            streams: pseudo("pipefs", 13, 0x5049_5045),
            mounts,
            next_minor: Cell::new(FIRST_MINOR + 1),
            locks: Rc::default(),
            boot_id: OnceCell::new(),
            event_ids: Cell::new(0),
            unix: UnixNames::default(),
            autobinds: Cell::new(0),
            writers: Writers::default(),
            network: Rc::default(),
        };
        vfs.mount_kernel_trees();
        Ok(vfs)
    }

    fn mount_kernel_trees(&self) {
        for [path, kind, source, options] in [
            ["/proc", "proc", "proc", ""],
            ["/sys", "sysfs", "sysfs", ""],
            ["/dev", "devtmpfs", "dev", ""],
            ["/dev/pts", "devpts", "devpts", ""],
            ["/dev/shm", "tmpfs", "tmpfs", ""],
            ["/run", "tmpfs", "tmpfs", "mode=755"],
            ["/tmp", "tmpfs", "tmpfs", ""],
        ] {
            let tree = self.tree_of_type(kind.as_bytes(), options.as_bytes());
            let tree = tree.expect("these types and options are there");
            let place = self.stand_in(path.as_bytes());
            self.mounts.add(tree, source.as_bytes(), MountFlags::default(), Some(place));
        }
    }

    /// The root of a file system of type `kind`: a new one, or the only one.
    ///
    /// # Errors
    /// ENODEV for a type there is not; EINVAL for options it does not have.
    pub(crate) fn tree_of_type(&self, kind: &[u8], options: &[u8]) -> Result<Arc<Dentry>, Errno> {
        let shared = |name, make: &dyn Fn() -> InodeRef| {
            // Options of what exists already change nothing, as on Linux.
            Ok(self.mounts.shared_tree(name, || Dentry::root(make())))
        };
        match kind {
            b"tmpfs" => {
                let options = MemFsOptions::parse(options, self.memory_bytes)?;
                Ok(Dentry::root(self.memfs("tmpfs", &options)))
            }
            b"proc" => shared("proc", &|| ProcFs::mount(self.new_device(), self.link.clone())),
            b"sysfs" => shared("sysfs", &|| SysFs::mount(self.new_device(), self.link.clone())),
            // Of its options each is about what is not here.
            b"cgroup2" if !options.is_empty() => Err(Errno::EINVAL),
            b"cgroup2" => {
                let root = CgroupFs::mount(self.new_device(), self.link.clone())?;
                shared("cgroup2", &|| Arc::clone(&root))
            }
            b"devtmpfs" => shared("devtmpfs", &|| {
                let dev = self.tmpfs("devtmpfs", 0o755);
                devices::populate(&dev);
                dev
            }),
            b"devpts" => shared("devpts", &|| {
                let pts = self.tmpfs("devpts", 0o755);
                devices::populate_pts(&pts, self.stdio.tty());
                pts
            }),
            _ => Err(Errno::ENODEV),
        }
    }

    /// The root directory of a new file system in memory.
    fn tmpfs(&self, type_name: &'static str, perm: u32) -> InodeRef {
        self.memfs(type_name, &MemFsOptions { perm, ..MemFsOptions::new(self.memory_bytes) })
    }

    fn memfs(&self, type_name: &'static str, options: &MemFsOptions) -> InodeRef {
        let device = self.new_device();
        MemFs::mount(type_name, device, options, self.caches.clone(), self.clock.clone())
    }

    /// A device number for one more file system without a device.
    pub(crate) fn new_device(&self) -> Device {
        let minor = self.next_minor.get();
        self.next_minor.set(minor + 1);
        Device::new(0, minor)
    }

    /// The directory `path`, made of plain names, from the root, to mount on.
    fn stand_in(&self, path: &[u8]) -> Path {
        let mut place = self.root.clone();
        for name in path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
            let known = place.dentry.known_child(name);
            let dentry = known.filter(|known| known.is_mount_point()).unwrap_or_else(|| {
                let inode = place.inode().lookup(name);
                let inode = inode.ok().filter(|inode| inode.kind() == FileType::Directory);
                // The root has no such folder: a stand-in to mount on.
                let inode = inode.unwrap_or_else(|| self.tmpfs("tmpfs", 0o755));
                place.dentry.child(name, inode)
            });
            place = Path { mount: Arc::clone(&place.mount), dentry }.into_mounted();
        }
        place
    }

    /// The machine's root directory.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// All mounts, oldest first.
    pub(crate) fn mounts(&self) -> Vec<Arc<Mount>> {
        self.mounts.all()
    }

    /// What is mounted.
    pub(crate) fn mount_table(&self) -> &MountTable {
        &self.mounts
    }

    /// All locks on files.
    pub(crate) fn locks(&self) -> &Rc<LockTable> {
        &self.locks
    }

    /// What inodes are stamped with.
    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }

    /// The machine's standard streams.
    pub(crate) fn stdio(&self) -> &Stdio {
        &self.stdio
    }

    /// The kernel, once it is there.
    pub(crate) fn kernel_link(&self) -> &KernelLink {
        &self.link
    }

    /// The place of a stream that comes from outside the machine.
    ///
    /// # Errors
    /// None today.
    pub(crate) fn stream_place(&self, source: StreamSource) -> Result<Path, Errno> {
        let kind = source.kind;
        let inode = self.streams.stream_inode(source);
        let ino = inode.stat()?.ino;
        let text = match kind {
            FileType::Socket => format!("socket:[{ino}]"),
            FileType::Fifo => format!("pipe:[{ino}]"),
            _ => format!("host:[{ino}]"),
        };
        Ok(self.streams.place(inode, text.into_bytes()))
    }

    /// `/proc/sys/kernel/random/boot_id`: one UUID a machine, made when first asked for.
    pub(crate) fn boot_id(&self) -> Vec<u8> {
        self.boot_id
            .get_or_init(|| self.link.get().map(|kernel| uuid(&kernel)).unwrap_or_default())
            .clone()
    }

    /// What `/dev/urandom` reads from.
    pub(crate) fn random(&self) -> &Random {
        &self.random
    }

    /// Both ends of a new pipe; `flags` are `O_NONBLOCK` and `O_DIRECT`.
    ///
    /// # Errors
    /// ENFILE when the user has too many.
    pub(crate) fn pipe(
        &self,
        creds: &Creds,
        flags: OpenFlags,
    ) -> Result<(Rc<OpenFile>, Rc<OpenFile>), Errno> {
        let (wanted, least) = (pipe::BUFFERS as u64, pipe::BUFFERS_MIN as u64);
        let fifo = Fifo::charged(self.pipe_pages.charge(creds, wanted, least)?);
        let inode = self.pipes.inode(FileType::Fifo, 0o600, Some(fifo.clone()));
        let text = format!("pipe:[{}]", inode.stat()?.ino).into_bytes();
        let (read, write) = pipe::pipe(&fifo, &inode)?;
        let place = self.pipes.place(inode, text);
        let read = OpenFile::new(Box::new(read), place.clone(), flags);
        let write = OpenFile::new(Box::new(write), place, flags | OpenFlags::WRONLY);
        Ok((read, write))
    }

    /// An open file of the anonymous inode: `anon_inode:NAME`.
    pub(crate) fn anonymous(
        &self,
        name: &str,
        ops: Box<dyn crate::fs::file::FileOps>,
        flags: OpenFlags,
    ) -> Rc<OpenFile> {
        let text = format!("anon_inode:{name}").into_bytes();
        let place = self.anon.place(Arc::clone(&self.anon_inode), text);
        OpenFile::new(ops, place, flags)
    }

    /// An open file of a file in memory.
    pub(crate) fn open_memory(&self, place: Path, flags: OpenFlags) -> Rc<OpenFile> {
        let ops = match place.inode().open(flags) {
            Some(Ok(ops)) => ops,
            _ => Box::new(RegularFile::new(Arc::clone(place.inode()))),
        };
        OpenFile::new(ops, place, flags)
    }

    /// A number no other eventfd has.
    pub(crate) fn next_event_id(&self) -> u64 {
        self.event_ids.replace(self.event_ids.get() + 1)
    }

    /// Inodes open for writing, and those executed.
    pub(crate) fn writers(&self) -> &Writers {
        &self.writers
    }

    /// The loopback inside the machine.
    pub(crate) fn network(&self) -> &Rc<Network> {
        &self.network
    }

    /// Pages of pipes that each user has.
    pub(crate) fn pipe_pages(&self) -> &Arc<PipePages> {
        &self.pipe_pages
    }

    /// Bound sockets.
    pub(crate) fn unix(&self) -> &UnixNames {
        &self.unix
    }

    /// Binds `socket` to an abstract name of five hexadecimal digits (Linux `unix_autobind`).
    ///
    /// # Errors
    /// ENOSPC when all are taken.
    pub(crate) fn autobind(&self, socket: &Rc<UnixSocket>) -> Result<Vec<u8>, Errno> {
        for _ in 0..=0xf_ffff {
            let number = self.autobinds.replace((self.autobinds.get() + 1) & 0xf_ffff);
            let name = format!("{number:05x}").into_bytes();
            if self.unix.bind(Address::Abstract(socket.kind(), name.clone()), socket).is_ok() {
                return Ok([&[0], &name[..]].concat());
            }
        }
        Err(Errno::ENOSPC)
    }

    /// A new socket inode's place.
    ///
    /// # Errors
    /// None today.
    pub(crate) fn socket_place(&self) -> Result<Path, Errno> {
        let inode = self.sockets.inode(FileType::Socket, 0o777, None);
        let text = format!("socket:[{}]", inode.stat()?.ino).into_bytes();
        Ok(self.sockets.place(inode, text))
    }

    /// The place of a new file in memory that has no name in any tree and prints as `text`.
    ///
    /// # Errors
    /// None today.
    pub(crate) fn nameless(
        &self,
        text: Vec<u8>,
        perm: u32,
        uid: u32,
        gid: u32,
    ) -> Result<Path, Errno> {
        let new = NewInode { what: NewKind::Regular, perm, uid, gid };
        let inode = self.shm.create_nameless(&new)?;
        let dentry = Dentry::nameless(inode, text);
        let mount = Mount::pseudo(self.shm.file_system(), Arc::clone(&dentry));
        Ok(Path { mount, dentry })
    }

    /// As [`Self::nameless`], a file of huge pages.
    ///
    /// # Errors
    /// None today.
    pub(crate) fn nameless_huge(
        &self,
        text: Vec<u8>,
        perm: u32,
        (uid, gid): (u32, u32),
        size: HugeSize,
    ) -> Result<Path, Errno> {
        let new = NewInode { what: NewKind::Regular, perm, uid, gid };
        let file = HugeFile::new(self.shm.create_nameless(&new)?, size, HUGETLB_DEVICE);
        let file_system = file.file_system();
        let dentry = Dentry::nameless(file, text);
        Ok(Path { mount: Mount::pseudo(file_system, Arc::clone(&dentry)), dentry })
    }

    /// Writes back everything and waits until it is durable.
    ///
    /// # Errors
    /// The first failure; the rest is still tried.
    pub(crate) fn sync(&self) -> Result<(), Errno> {
        let mut first = Ok(());
        for mount in self.mounts() {
            first = first.and(mount.file_system.sync());
        }
        first
    }

    /// The machine ended: writes back, and gives back all memory that files hold. The host's kernel
    /// has the bytes then, as after any program's end.
    ///
    /// # Errors
    /// The first failure to write back.
    pub(crate) fn shutdown(&self) -> Result<(), Errno> {
        let mut result = Ok(());
        for mount in self.mounts() {
            result = result.and(mount.file_system.write_back());
        }
        for mount in self.mounts.clear() {
            mount.file_system.drop_caches();
        }
        if let Some(root) = self.root.inode().as_any().downcast_ref::<MemInode>() {
            root.clear();
        }
        if let Some(tty) = self.stdio.tty() {
            tty.restore();
        }
        result
    }
}
