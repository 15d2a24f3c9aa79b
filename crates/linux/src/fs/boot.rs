//! The name space of a new machine: from its configuration to the first program's descriptors.
//!
//! [`Vfs::new_for_machine`] mounts the root and opens the host's standard streams;
//! [`Vfs::attach`] connects clock, random bytes and procfs to the kernel, which is made after;
//! [`Vfs::first_files`] is what the first program starts with.

use crate::config::{InitialFile, MachineConfig, MachineError, RootConfig, StdioConfig};
use crate::fs::clock::Clock;
use crate::fs::dentry::Path;
use crate::fs::fd_table::{FdFlags, FdTable};
use crate::fs::file::{FileOps, OpenFile, OpenFlags};
use crate::fs::fs_struct::FsStruct;
use crate::fs::inet::outside;
use crate::fs::inode::NewKind;
use crate::fs::names::{At, Who};
use crate::fs::open::OpenHow;
use crate::fs::page_cache::PageCaches;
use crate::fs::pseudo::StreamSource;
use crate::fs::random::Random;
use crate::fs::stat::{Device, FileType};
use crate::fs::stdio::{CapturedInput, CapturedOutput, Collected, HostInput, HostStream, Standard};
use crate::fs::tty::{Tty, TtyFile};
use crate::fs::vfs::{RootSource, Vfs, VfsConfig};
use crate::host::Memory;
use crate::kernel::Kernel;
use crate::task::Creds;
use crate::time::BOOT_REALTIME;
use kilburn_addr::Errno;
use std::cell::RefCell;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

/// Makes the seed of the faults of files another than that of swap's.
const FAULTS: u64 = 0x6669_6c65;

/// The kernel, once it is there.
#[derive(Clone, Default)]
pub(crate) struct KernelLink(Rc<RefCell<Weak<Kernel>>>);

impl KernelLink {
    /// The kernel; `None` before it is made and after it ended.
    pub(crate) fn get(&self) -> Option<Rc<Kernel>> {
        self.0.borrow().upgrade()
    }
}

/// The machine's standard streams.
pub(crate) struct Stdio {
    config: StdioConfig,
    input: Rc<HostInput>,
    tty: Option<Rc<Tty>>,
    stdout: Collected,
    stderr: Collected,
}

impl Stdio {
    /// As configured; the host's terminal, if one of its streams is one.
    pub(crate) fn new(config: &StdioConfig) -> Self {
        let terminal = match config {
            StdioConfig::Captured { .. } => None,
            StdioConfig::Host => {
                Standard::ALL.into_iter().find(|s| rustix::termios::isatty(s.host()))
            }
        };
        let input = HostInput::new(Standard::Input);
        let tty = terminal.map(|host| {
            let input =
                if host == Standard::Input { Rc::clone(&input) } else { HostInput::new(host) };
            Tty::new(host, input)
        });
        let (stdout, stderr) = (Rc::default(), Rc::default());
        Self { config: config.clone(), input, tty, stdout, stderr }
    }

    /// The terminal.
    pub(crate) fn tty(&self) -> Option<&Rc<Tty>> {
        self.tty.as_ref()
    }

    fn inputs(&self) -> impl Iterator<Item = &Rc<HostInput>> {
        let of_tty = self.tty.iter().map(|tty| tty.input());
        std::iter::once(&self.input).chain(of_tty)
    }
}

impl Vfs {
    /// The name space that `config` asks for.
    ///
    /// # Errors
    /// [`MachineError::Root`] when the root folder cannot be used; [`MachineError::Config`] when an
    /// initial file cannot be made.
    pub(crate) fn new_for_machine(
        config: &MachineConfig,
        memory: &Arc<Memory>,
    ) -> Result<Rc<Self>, MachineError> {
        let link = KernelLink::default();
        let (for_clock, for_random) = (link.clone(), link.clone());
        let clock = Clock::new(move || for_clock.get().map_or(BOOT_REALTIME, |k| k.realtime()));
        let random = Random::new(move |into| {
            if let Some(kernel) = for_random.get() {
                kernel.random_bytes(into);
            }
        });
        let (root, files) = match &config.root {
            RootConfig::HostDir(path) => (RootSource::Host(path.clone()), &[][..]),
            RootConfig::Memory(files) => (RootSource::Memory, &files[..]),
        };
        let vfs = Self::new(VfsConfig {
            root,
            caches: PageCaches::new(memory),
            clock,
            random,
            memory_bytes: config.memory_bytes,
            stdio: Stdio::new(&config.stdio),
            link,
            faults: config.file_faults.clone().map(|faults| (faults, config.seed ^ FAULTS)),
        });
        let vfs = vfs.map_err(|error| MachineError::Root {
            path: match &config.root {
                RootConfig::HostDir(path) => path.clone(),
                RootConfig::Memory(_) => "/".into(),
            },
            reason: host_reason(&error),
        })?;
        vfs.network().set_reach(config.net);
        for file in files {
            vfs.put(file).map_err(|errno| {
                let (path, bytes) = (String::from_utf8_lossy(&file.path), file.data.len());
                MachineError::Config(match errno {
                    Errno::ENOMEM | Errno::ENOSPC => format!(
                        "{path}: {bytes} bytes do not fit into the memory of a machine with {}: \
                         it needs more memory, or a root folder to hold its files",
                        config.memory_bytes
                    ),
                    _ => format!("{path}: {}", crate::errno_text(errno)),
                })
            })?;
        }
        Ok(Rc::new(vfs))
    }

    /// Puts a file into the root, its folders included.
    fn put(&self, file: &InitialFile) -> Result<(), Errno> {
        let creds = Creds::root();
        let fs = FsStruct::new(self.root().clone(), self.root().clone());
        let who = Who { creds: &creds, fs: &fs };
        let from = self.root();
        for (at, _) in file.path.iter().enumerate().filter(|(at, byte)| *at > 0 && **byte == b'/') {
            let at = At { from, text: &file.path[..at] };
            match self.create(who, at, NewKind::Directory, 0o755) {
                Ok(()) | Err(Errno::EEXIST) => {}
                Err(errno) => return Err(errno),
            }
        }
        let flags = OpenFlags::CREAT | OpenFlags::WRONLY | OpenFlags::TRUNC;
        let how = OpenHow::new(flags.bits(), file.mode)?;
        let open = self.open(&creds, &fs, from, &file.path, how)?;
        let mut rest = &file.data[..];
        while !rest.is_empty() {
            let done = open.write(rest)?;
            rest = &rest[done..];
        }
        self.chmod(&creds, open.path(), file.mode)
    }

    /// Connects the name space to the kernel.
    pub(crate) fn attach(&self, kernel: &Rc<Kernel>) {
        *self.kernel_link().0.borrow_mut() = Rc::downgrade(kernel);
    }

    /// Root, working directory and descriptors 0 to 2 of the first program.
    ///
    /// # Errors
    /// When `cwd` is no directory.
    pub(crate) fn first_files(&self, cwd: &[u8]) -> Result<(Rc<FsStruct>, Rc<FdTable>), Errno> {
        let creds = Creds::root();
        let fs = FsStruct::new(self.root().clone(), self.root().clone());
        let who = Who { creds: &creds, fs: &fs };
        let place = self.directory(who, At { from: self.root(), text: cwd })?;
        fs.set_cwd(place);
        let files = FdTable::new(self.locks());
        for stream in Standard::ALL {
            let file = self.standard(stream)?;
            files.install(file, FdFlags::empty(), 3)?;
        }
        Ok((fs, files))
    }

    fn standard(&self, stream: Standard) -> Result<Rc<OpenFile>, Errno> {
        let access = if stream == Standard::Input { OpenFlags::empty() } else { OpenFlags::WRONLY };
        let stdio = self.stdio();
        if let StdioConfig::Captured { stdin } = &stdio.config {
            let (kind, rdev) = (FileType::Fifo, Device::default());
            return match stream {
                Standard::Input => {
                    self.stream_file(CapturedInput::new(stdin.clone()), kind, rdev, None, access)
                }
                Standard::Output => {
                    let ops = CapturedOutput(Rc::clone(&stdio.stdout));
                    self.stream_file(ops, kind, rdev, None, access)
                }
                Standard::Error => {
                    let ops = CapturedOutput(Rc::clone(&stdio.stderr));
                    self.stream_file(ops, kind, rdev, None, access)
                }
            };
        }
        if let Some(tty) = stdio.tty()
            && rustix::termios::isatty(stream.host())
        {
            let place = self.find(b"/dev/pts/0")?;
            let ops = Box::new(TtyFile::new(tty, stream));
            return Ok(OpenFile::new(ops, place, OpenFlags::RDWR));
        }
        self.host_stream(stream, access)
    }

    /// A host stream that is no terminal.
    fn host_stream(&self, stream: Standard, access: OpenFlags) -> Result<Rc<OpenFile>, Errno> {
        let Ok(host) = rustix::fs::fstat(stream.host()) else {
            // Closed on the host: as good as /dev/null.
            return self.null(access);
        };
        let kind = FileType::from_mode(host.st_mode).unwrap_or(FileType::Fifo);
        let rdev = Device::new(rustix::fs::major(host.st_rdev), rustix::fs::minor(host.st_rdev));
        if kind == FileType::CharDevice && rdev == crate::fs::devices::NULL {
            return self.null(access);
        }
        let input = if stream == Standard::Input {
            Rc::clone(&self.stdio().input)
        } else {
            HostInput::new(stream)
        };
        // What the host opened for both, a guest may use for both.
        let mode = rustix::fs::fcntl_getfl(stream.host()).map_or(access, |flags| {
            OpenFlags::from_bits_truncate(flags.bits() & OpenFlags::ACCMODE)
        });
        let ops = HostStream::new(stream, kind, input);
        let file = self.stream_file(ops, kind, rdev, Some(stream), mode)?;
        if kind == FileType::Regular {
            let at = rustix::fs::tell(stream.host()).unwrap_or(0);
            file.set_position(at);
        }
        Ok(file)
    }

    fn stream_file<T: FileOps + Clone>(
        &self,
        ops: T,
        kind: FileType,
        rdev: Device,
        host: Option<Standard>,
        access: OpenFlags,
    ) -> Result<Rc<OpenFile>, Errno> {
        let again = ops.clone();
        let opener = Box::new(move || Box::new(again.clone()) as Box<dyn FileOps>);
        let place = self.stream_place(StreamSource { kind, rdev, host, opener })?;
        Ok(OpenFile::new(Box::new(ops), place, access))
    }

    fn null(&self, access: OpenFlags) -> Result<Rc<OpenFile>, Errno> {
        let how = OpenHow::new((access | OpenFlags::LARGEFILE).bits(), 0)?;
        self.open_found(&Creds::root(), self.find(b"/dev/null")?, how)
    }

    fn find(&self, path: &[u8]) -> Result<Path, Errno> {
        let creds = Creds::root();
        let fs = FsStruct::new(self.root().clone(), self.root().clone());
        let at = At { from: self.root(), text: path };
        self.lookup(Who { creds: &creds, fs: &fs }, at, crate::fs::walk::LastLink::Follow)
    }

    /// What was written to captured descriptors 1 and 2; leaves nothing.
    pub(crate) fn captured(&self) -> (Vec<u8>, Vec<u8>) {
        (self.stdio().stdout.take(), self.stdio().stderr.take())
    }

    /// Whether a task waits for the host's input.
    pub(crate) fn waits_for_host(&self) -> bool {
        self.stdio().inputs().any(|input| input.is_awaited()) || self.network().is_awaited()
    }

    /// Whether the host takes its own time, and may never answer: a terminal with a person at it, or
    /// the network.
    pub(crate) fn host_takes_its_time(&self) -> bool {
        self.stdio().tty().is_some_and(|tty| tty.input().is_awaited())
            || self.network().is_awaited()
    }

    /// Waits for the host's input, at most `patience`, and wakes who waits for it. Answers whether
    /// something came.
    pub(crate) fn host_wait(&self, patience: Option<Duration>) -> bool {
        let inputs = self.stdio().inputs().filter(|input| input.is_awaited());
        let inputs: Vec<&HostInput> = inputs.map(Rc::as_ref).collect();
        outside::wait(&self.network().awaited(), &inputs, patience)
    }
}

fn host_reason(error: &std::io::Error) -> String {
    let errno = error.raw_os_error().and_then(|raw| u16::try_from(raw).ok());
    match errno.map(Errno::from_number) {
        Some(errno) => crate::errno_text(errno).to_string(),
        None => error.to_string(),
    }
}
