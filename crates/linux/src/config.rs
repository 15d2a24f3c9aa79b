//! What a machine is made of: memory, paging mode, root, first program.
//!
//! [`MachineConfig`] is plain data; [`Machine::new`](crate::Machine::new) checks it and answers
//! [`MachineError`], one line that names what is wrong. Neighbours: [`crate::report`] is what a run hands back.

use crate::control::Control;
use crate::time::TimeConfig;
use kilburn_addr::Errno;
use kilburn_mm::policy::Builtin;
use kilburn_paging::Sv;
use kilburn_swap::{AreaSpec, Inject};
use parking_lot::Mutex;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

/// Everything a run depends on. The same value gives the same run, byte for byte, as long as the
/// files under a host root and the bytes read from the host's stdin are the same.
#[derive(Clone, Debug)]
pub struct MachineConfig {
    /// Guest RAM, in bytes; a multiple of the page size.
    pub memory_bytes: u64,
    /// Paging mode of every address space.
    pub paging: Sv,
    /// Simulated harts, 1 or more.
    pub harts: u32,
    /// Seed of every random number: ASLR, AT_RANDOM, getrandom.
    pub seed: u64,
    /// Whether exec randomises the layout (Linux `randomize_va_space`).
    pub aslr: Aslr,
    /// The tree the guest sees as `/`.
    pub root: RootConfig,
    /// Guest path of the first program; without a slash it is looked up in `PATH` of `env`.
    pub program: Vec<u8>,
    /// Arguments, `argv[0]` included.
    pub args: Vec<Vec<u8>>,
    /// Environment as `NAME=VALUE`, in order.
    pub env: Vec<Vec<u8>>,
    /// Guest path of the first working directory.
    pub cwd: Vec<u8>,
    /// What the clocks follow.
    pub time: TimeConfig,
    /// What descriptors 0, 1 and 2 are.
    pub stdio: StdioConfig,
    /// How far sockets of the internet families reach.
    pub net: Net,
    /// What happens when memory is short.
    pub reclaim: ReclaimConfig,
    /// Faults of the files below a host root, drawn from the seed.
    pub file_faults: Option<FileFaults>,
    /// Where system calls and signals are told as they happen; `None`: nowhere.
    pub strace: Option<TraceSink>,
    /// The way in for who looks at the machine while it runs.
    pub control: Option<Arc<Control>>,
}

/// Takes the lines of a system call trace.
#[derive(Clone)]
pub struct TraceSink(Arc<Mutex<dyn Write + Send>>);

impl TraceSink {
    /// Lines go to `out`.
    pub fn new(out: impl Write + Send + 'static) -> Self {
        Self(Arc::new(Mutex::new(out)))
    }

    /// Writes a line; one that cannot be written is lost, the run goes on.
    pub(crate) fn write(&self, line: &[u8]) {
        drop(self.0.lock().write_all(line));
    }
}

impl std::fmt::Debug for TraceSink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TraceSink")
    }
}

/// What happens when memory is short. The default: Linux's policy, no swap.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReclaimConfig {
    /// Who chooses the page that goes.
    pub policy: Builtin,
    /// Where anonymous pages go.
    pub swap: Vec<AreaSpec>,
    /// Faults of all areas of swap, drawn from the machine's seed.
    pub inject: Option<Inject>,
}

impl Default for ReclaimConfig {
    fn default() -> Self {
        Self { policy: Builtin::TwoList, swap: Vec::new(), inject: None }
    }
}

/// Files that fail on purpose.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FileFaults {
    /// What happens to their reads and writes.
    pub inject: Inject,
    /// Only to files below this guest path.
    pub under: PathBuf,
}

/// How far sockets of the internet families reach.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Net {
    /// A loopback inside the machine; everything else is unreachable.
    #[default]
    Loopback,
    /// Outwards over the host's network as well, as far as the host lets us. What comes from there,
    /// and when, is no part of the configuration: such runs do not repeat.
    Host,
}

/// Address space layout randomisation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Aslr {
    /// Seeded random layout (`randomize_va_space` 2).
    Seeded,
    /// Fixed layout, as `setarch -R` gives (`randomize_va_space` 0).
    Off,
}

/// The guest's root file system.
#[derive(Clone, Debug)]
pub enum RootConfig {
    /// A folder of the host; no path leads out of it.
    HostDir(PathBuf),
    /// An in-memory tree with these files and an empty `/tmp`; parents are made (0755).
    Memory(Vec<InitialFile>),
}

/// A file put into an in-memory root before the first program starts.
#[derive(Clone, Debug)]
pub struct InitialFile {
    /// Absolute guest path.
    pub path: Vec<u8>,
    /// Permission bits.
    pub mode: u32,
    /// Contents.
    pub data: Vec<u8>,
}

/// Descriptors 0, 1 and 2 of the first program.
#[derive(Clone, Debug)]
pub enum StdioConfig {
    /// The host's own.
    Host,
    /// stdin from bytes; stdout and stderr collected into [`ExitReport`](crate::ExitReport).
    Captured {
        /// What the guest reads from descriptor 0.
        stdin: Vec<u8>,
    },
}

/// Why a machine could not be made, or its first program not started.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    /// The root folder cannot be opened or is no folder (exit status 2).
    #[error("root {path}: {reason}", path = path.display())]
    Root {
        /// As configured.
        path: PathBuf,
        /// "not a directory", "No such file or directory", ...
        reason: String,
    },
    /// Too little (or more than can be reserved) guest memory (exit status 2).
    #[error("memory of {bytes} bytes: {reason}")]
    Memory {
        /// As configured.
        bytes: u64,
        /// States the bound, e.g. "at least 1 MiB is needed".
        reason: String,
    },
    /// A number out of range, or a working directory that is none (exit status 2).
    #[error("{0}")]
    Config(String),
    /// The first program could not be executed: 127 for ENOENT (also of its interpreter), else 126.
    #[error("{program}: {reason}")]
    Exec {
        /// Guest path, lossily decoded.
        program: String,
        /// What execve would have answered.
        errno: Errno,
        /// "not an ELF file", "ELF for machine 62 (x86-64), need 243 (RISC-V)",
        /// "interpreter /lib/ld-linux-riscv64-lp64d.so.1 not found", "segment 1 wraps around", ...
        reason: String,
    },
}
