//! Linux for user programs: ELF, tasks, scheduler, system calls, files, signals.
//!
//! A [`Machine`] is made from a [`MachineConfig`], runs its first program and everything that
//! starts, and hands back an [`ExitReport`]. One host thread runs it all; nothing depends on host
//! time (unless [`TimeConfig::Real`] asks for it) or chance, so the same configuration and input
//! give the same run, byte for byte.
//!
//! Inside, from the bottom:
//! - `host`: what the memory manager asks of us (frames, TLB flushes, random numbers).
//! - `kernel`: the state all tasks share. `task`: a thread, its process, its credentials.
//! - `sched`: which task runs where and when; wait queues. `time`: virtual time and timers.
//! - `exec`: a program file becomes an address space. `signal`: signals and their frames.
//! - `syscall`: the system call table. `fs`: everything behind a descriptor or a path.
//! - `swap`: the areas of swap, files of the machine's own among them.
//! - `ipc`: System V shared memory. `strace`: calls and signals as lines of text.
//! - `watch`: who is told what address spaces consist of.
//!
//! Each task is one coroutine (`task::run`), polled by the scheduler. Task state is `Rc`, `Cell`
//! and `RefCell`; what the memory manager holds on to (inodes, page cache) is `Arc` and locks.
#![deny(unsafe_code)]

mod cgroup;
pub mod config;
pub mod control;
mod errno_text;
mod exec;
mod fs;
mod futex;
mod host;
mod ipc;
mod kernel;
mod kernel_threads;
mod machine;
mod oom;
pub mod report;
mod sched;
mod signal;
mod strace;
mod swap;
mod syscall;
mod task;
mod time;
mod user;
mod watch;

pub use config::{
    Aslr, FileFaults, InitialFile, MachineConfig, MachineError, Net, ReclaimConfig, RootConfig,
    StdioConfig, TraceSink,
};
pub use control::rmap::{MappedInfo, Rmap, RmapOf, RmapProcess, RmapTree};
pub use control::{Answer, Control, Explainer, Look, ProcessInfo, Question, Snapshot};
use errno_text::errno_text;
pub use machine::Machine;
pub use report::{ExitReport, ExitStatus, Stats};
pub use syscall::Support;
pub use syscall::table::{SystemCall, system_calls};
pub use time::{RealTime, TimeConfig};
pub use watch::{Area, SpaceWatch};
