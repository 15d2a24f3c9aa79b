//! execve: a program file becomes an address space (Linux fs/exec.c, fs/binfmt_elf.c,
//! fs/binfmt_script.c).
//!
//! In four steps: open and check the file and what it names ([`elf`], [`script`]); leave the old
//! program, which cannot be undone; map the new one ([`load`], [`vdso`]); build its stack
//! ([`stack`]). Until the second step everything fails with an errno; after it, with SIGSEGV.

pub(crate) mod elf;
pub(crate) mod load;
pub(crate) mod script;
pub(crate) mod stack;
pub(crate) mod vdso;

use crate::exec::elf::Elf;
use crate::exec::stack::Strings;
use crate::fs::{At, ExecFile, LastLink, Who};
use crate::signal::Signal;
use crate::task::{AltStack, Creds, Resource, Task};
use kilburn_addr::{Errno, VirtAddr};
use std::rc::Rc;

/// Bytes at the start of a file that decide what it is (`BINPRM_BUF_SIZE`).
const HEAD_BYTES: usize = 256;
/// Scripts may be interpreted by scripts this deep.
const SCRIPT_DEPTH_MAX: usize = 5;

/// Why a program cannot be executed: the errno, and words for the first program's sake.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct ExecError {
    pub(crate) errno: Errno,
    pub(crate) reason: String,
}

impl From<Errno> for ExecError {
    fn from(errno: Errno) -> Self {
        Self { errno, reason: crate::errno_text(errno) }
    }
}

/// What execve and execveat are told to execute.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct ExecPath {
    /// Where a relative path starts; `None`: the working directory.
    dirfd: Option<i32>,
    path: Vec<u8>,
    last: LastLink,
}

/// `AT_FDCWD`
const AT_FDCWD: i32 = -100;
/// `AT_EMPTY_PATH`
const AT_EMPTY_PATH: i32 = 0x1000;
/// `AT_SYMLINK_NOFOLLOW`
const AT_SYMLINK_NOFOLLOW: i32 = 0x100;

impl ExecPath {
    /// A path from the working directory.
    pub(crate) fn at_cwd(path: Vec<u8>) -> Self {
        Self { dirfd: None, path, last: LastLink::Follow }
    }

    /// The arguments of execveat.
    ///
    /// # Errors
    /// EINVAL for unknown flags, ENOENT for an empty path without `AT_EMPTY_PATH`.
    pub(crate) fn at(dirfd: i32, path: Vec<u8>, flags: i32) -> Result<Self, Errno> {
        if flags & !(AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) != 0 {
            return Err(Errno::EINVAL);
        }
        let nofollow = flags & AT_SYMLINK_NOFOLLOW != 0;
        let last = if nofollow { LastLink::Keep } else { LastLink::Follow };
        if path.is_empty() && flags & AT_EMPTY_PATH == 0 {
            return Err(Errno::ENOENT);
        }
        let dirfd = (dirfd != AT_FDCWD && !path.starts_with(b"/")).then_some(dirfd);
        Ok(Self { dirfd, path, last })
    }

    /// The path as the program sees it (Linux `alloc_bprm`).
    fn shown_path(&self) -> Vec<u8> {
        match self.dirfd {
            None => self.path.clone(),
            Some(fd) if self.path.is_empty() => format!("/dev/fd/{fd}").into_bytes(),
            Some(fd) => {
                let mut shown = format!("/dev/fd/{fd}/").into_bytes();
                shown.extend_from_slice(&self.path);
                shown
            }
        }
    }
}

/// A program that passed all checks that leave the old one alone.
pub(crate) struct Program {
    pub(crate) file: Rc<ExecFile>,
    pub(crate) elf: Elf,
    pub(crate) interp: Option<(Rc<ExecFile>, Elf)>,
    pub(crate) strings: Strings,
    pub(crate) creds: Creds,
    /// AT_SECURE
    pub(crate) secure: bool,
    /// The last component of the path that was executed.
    pub(crate) comm: Vec<u8>,
}

impl Task {
    /// Replaces the task's program (`execve`, `execveat`).
    ///
    /// # Errors
    /// As execve(2), as long as the old program is there.
    pub(crate) async fn exec(
        self: &Rc<Self>,
        path: ExecPath,
        argv: Vec<Vec<u8>>,
        envp: Vec<Vec<u8>>,
    ) -> Result<(), ExecError> {
        let program = self.prepare_exec(path, argv, envp)?;
        self.end_other_threads().await?;
        self.begin_new_exec(&program).await;
        if let Err(error) = self.load_program(&program) {
            // Past the point of no return the caller is not there any more to be told.
            self.force_fatal(Signal::SIGSEGV);
            return Err(error);
        }
        Ok(())
    }

    /// Opens and checks everything that a failure can still be answered for.
    pub(crate) fn prepare_exec(
        &self,
        path: ExecPath,
        argv: Vec<Vec<u8>>,
        envp: Vec<Vec<u8>>,
    ) -> Result<Program, ExecError> {
        let shown = path.shown_path();
        let comm = shown.rsplit(|byte| *byte == b'/').next().unwrap_or_default().to_vec();
        let mut file = Rc::new(self.open_for_exec(&path)?);
        let creds = self.creds_after_exec(&file);
        let mut strings = Strings { file_name: shown, argv, envp };
        if strings.argv.is_empty() {
            // Linux gives a program without arguments an empty one.
            strings.argv.push(Vec::new());
        }
        strings.check(self.rlimit(Resource::Stack))?;
        let mut script_name = strings.file_name.clone();
        let mut head = read_head(&file)?;
        let mut depth = 0;
        while let Some(script) = script::parse(&head)? {
            depth += 1;
            if depth > SCRIPT_DEPTH_MAX {
                return Err(Errno::ELOOP.into());
            }
            script.rewrite(&mut strings.argv, script_name);
            strings.check(self.rlimit(Resource::Stack))?;
            script_name = script.interpreter.clone();
            let path = ExecPath::at_cwd(script.interpreter.clone());
            let opened = self.open_for_exec(&path);
            file = Rc::new(opened.map_err(|errno| missing(errno, &script.interpreter))?);
            head = read_head(&file)?;
        }
        let elf = elf::parse(&head, &|at, into| read_exact(&file, at, into))?;
        let interp = self.open_interpreter(&file, &elf)?;
        let secure = creds.uid != creds.euid || creds.gid != creds.egid;
        Ok(Program { file, elf, interp, strings, creds, secure, comm })
    }

    /// Opens a file to execute it.
    pub(crate) fn open_for_exec(&self, path: &ExecPath) -> Result<ExecFile, Errno> {
        let fs = self.fs();
        let from = match path.dirfd {
            None => fs.cwd(),
            Some(fd) => self.files().get_any(fd)?.path().clone(),
        };
        let (vfs, creds) = (self.kernel().vfs(), self.creds());
        if path.path.is_empty() && path.dirfd.is_some() {
            return vfs.exec_place(&creds, from);
        }
        vfs.open_exec(
            Who { creds: &creds, fs: &fs },
            At { from: &from, text: &path.path },
            path.last,
        )
    }

    fn open_interpreter(
        &self,
        file: &ExecFile,
        elf: &Elf,
    ) -> Result<Option<(Rc<ExecFile>, Elf)>, ExecError> {
        let Some(path) = elf.interp else { return Ok(None) };
        let mut name = vec![0; path.bytes as usize];
        read_exact(file, path.offset, &mut name)?;
        if name.pop() != Some(0) {
            let reason = "interpreter path without end".into();
            return Err(ExecError { errno: Errno::ENOEXEC, reason });
        }
        // A string of C: what follows the first zero does not count.
        name.truncate(name.iter().position(|byte| *byte == 0).unwrap_or(name.len()));
        let interp = self
            .open_for_exec(&ExecPath::at_cwd(name.clone()))
            .map_err(|errno| missing(errno, &name))?;
        let head = read_head(&interp)?;
        if head.len() < 64 {
            return Err(Errno::EIO.into());
        }
        let parsed = elf::parse(&head, &|at, into| read_exact(&interp, at, into)).map_err(
            |ExecError { reason, .. }| ExecError {
                errno: Errno::ELIBBAD,
                reason: format!("interpreter {}: {reason}", String::from_utf8_lossy(&name)),
            },
        )?;
        Ok(Some((Rc::new(interp), parsed)))
    }

    /// Set-user-id and set-group-id bits (Linux `bprm_fill_uid`, `cap_bprm_creds_from_file`).
    fn creds_after_exec(&self, file: &ExecFile) -> Creds {
        let mut creds = (*self.creds()).clone();
        if !creds.no_new_privs {
            let mode = file.mode();
            if mode & 0o4000 != 0 {
                creds.euid = file.uid();
            }
            if mode & 0o2010 == 0o2010 {
                creds.egid = file.gid();
            }
        }
        creds.suid = creds.euid;
        creds.fsuid = creds.euid;
        creds.sgid = creds.egid;
        creds.fsgid = creds.egid;
        creds.recompute_caps_for_exec();
        creds
    }

    /// The point of no return: what belongs to the old program goes (Linux `begin_new_exec`).
    async fn begin_new_exec(self: &Rc<Self>, program: &Program) {
        self.release_memory().await;
        self.left_futexes.set(false);
        self.finish_vfork();
        let kernel = Rc::clone(self.kernel());
        if !self.is_leader() {
            let old = self.tid();
            self.become_leader();
            kernel.rename_task(old, self);
            if let Some(tracer) = &kernel.tracer {
                tracer.rename(old, self.tid());
            }
        }
        self.group().exit_signal.set(Some(Signal::SIGCHLD));
        if Rc::strong_count(&self.sighand()) > 2 {
            // Shared with another process (CLONE_SIGHAND without CLONE_THREAD).
            let own = self.sighand().fork_copy();
            self.replace_sighand(own);
        }
        self.sighand().reset_handlers();
        self.signals.altstack.set(AltStack::NONE);
        self.rseq.set(None);
        self.restart.replace(None);
        self.group().delete_timers(&kernel);
        self.pdeath_signal.set(None);
        self.clear_child_tid.set(VirtAddr::ZERO);
        self.vdso.set(VirtAddr::ZERO);
        self.unshare_files();
        self.files().close_on_exec();
        self.set_creds(program.creds.clone());
        self.set_comm(&program.comm);
        self.group().has_execed.set(true);
        self.exe.replace(Some(Rc::clone(&program.file)));
    }

    fn unshare_files(&self) {
        let files = self.files();
        if Rc::strong_count(&files) > 2
            && let Ok(own) = files.fork_copy()
        {
            self.replace_files(Some(own));
        }
    }
}

fn missing(errno: Errno, interpreter: &[u8]) -> ExecError {
    let name = String::from_utf8_lossy(interpreter);
    let reason = if errno == Errno::ENOENT {
        format!("interpreter {name} not found")
    } else {
        format!("interpreter {name}: {}", crate::errno_text(errno))
    };
    ExecError { errno, reason }
}

fn read_head(file: &ExecFile) -> Result<Vec<u8>, Errno> {
    let mut head = vec![0; HEAD_BYTES];
    let mut got = 0;
    while got < HEAD_BYTES {
        match file.read_at(got as u64, &mut head[got..])? {
            0 => break,
            n => got += n,
        }
    }
    head.truncate(got);
    Ok(head)
}

fn read_exact(file: &ExecFile, at: u64, into: &mut [u8]) -> Result<(), Errno> {
    let mut got = 0;
    while got < into.len() {
        let from = at.checked_add(got as u64).filter(|at| *at <= i64::MAX as u64);
        match file.read_at(from.ok_or(Errno::EINVAL)?, &mut into[got..])? {
            0 => return Err(Errno::EIO),
            n => got += n,
        }
    }
    Ok(())
}
