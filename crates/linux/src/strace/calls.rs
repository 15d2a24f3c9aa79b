//! What the arguments of each call are.

use super::flags::{self, Names};

/// How a call's answer is printed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Shown {
    Number,
    Address,
}

/// What an argument is. Those marked "after" are known only when the call has ended.
#[derive(Clone, Copy)]
pub(super) enum Arg {
    /// C `int`.
    Int,
    /// 64 bits without sign.
    Long,
    /// A descriptor, or `AT_FDCWD`.
    Dir,
    /// An address, `NULL` for 0.
    Pointer,
    /// Hexadecimal.
    Hex,
    /// Permission bits.
    Mode,
    /// A path.
    Path,
    /// Bytes handed over; their number is the next argument.
    Data,
    /// After: bytes received, as many as the call answers.
    Buffer,
    /// After: a string of so many bytes as the call answers, or up to its zero.
    Text,
    /// Flags; 0 when there is none.
    Bits(Names),
    /// Flags, with a name for none.
    BitsOr(Names, &'static str),
    /// One of several.
    One(Names, &'static str),
    /// Flags of `open`, and the mode if they make a file.
    OpenFlags,
    /// `socket`'s type.
    SocketType,
    /// All of `clone`'s.
    Clone,
    /// A futex operation.
    Futex,
    Signal,
    /// `sigset_t`.
    Set,
    /// After: likewise.
    SetBack,
    /// `struct sigaction`.
    Action,
    /// After: likewise.
    ActionBack,
    /// `struct timespec`.
    Time,
    /// After: likewise.
    TimeBack,
    /// `struct rlimit64`.
    Limit,
    /// After: likewise.
    LimitBack,
    /// After: two descriptors.
    Pair,
    /// After: a wait status.
    Status,
    /// `argv`.
    Strings,
    /// `envp`.
    Environment,
    /// `sockaddr`; its length is the next argument.
    Address,
    /// After: `struct stat` in short.
    Stat,
}

impl Arg {
    /// Whether it is known only at the end.
    pub(super) fn is_after(self) -> bool {
        matches!(
            self,
            Self::Buffer
                | Self::Text
                | Self::SetBack
                | Self::ActionBack
                | Self::TimeBack
                | Self::LimitBack
                | Self::Pair
                | Self::Status
                | Self::Stat
        )
    }
}

/// A call as it is printed.
#[derive(Clone)]
pub(super) struct Call {
    pub(super) name: String,
    pub(super) args: &'static [Arg],
    pub(super) result: Shown,
}

/// Call `number` with Linux's `name`.
pub(super) fn call(number: u64, name: Option<&'static str>) -> Call {
    let args = name.map_or(UNKNOWN, arguments);
    let result = match name {
        Some("mmap" | "brk" | "mremap" | "shmat") => Shown::Address,
        _ => Shown::Number,
    };
    let name = name.map_or_else(|| format!("syscall_{number:#x}"), str::to_owned);
    Call { name, args, result }
}

const UNKNOWN: &[Arg] = &[Arg::Hex, Arg::Hex, Arg::Hex, Arg::Hex, Arg::Hex, Arg::Hex];

fn arguments(name: &str) -> &'static [Arg] {
    of_files(name).or_else(|| of_the_rest(name)).unwrap_or(UNKNOWN)
}

/// Calls on descriptors and paths.
fn of_files(name: &str) -> Option<&'static [Arg]> {
    use Arg::*;
    Some(match name {
        "getcwd" => &[Text, Long],
        "eventfd2" => &[Int, Bits(flags::OPEN)],
        "epoll_create1" | "pidfd_open" | "dup" | "close" | "fchdir" | "fsync" | "fdatasync"
        | "exit" | "exit_group" | "umask" | "getpgid" | "getsid" | "setuid" | "setgid"
        | "syncfs" | "timer_getoverrun" | "timer_delete" => &[Int],
        "epoll_ctl" => &[Int, Int, Int, Pointer],
        "epoll_pwait" => &[Int, Pointer, Int, Int, Set, Long],
        "dup3" => &[Int, Int, Bits(flags::OPEN)],
        "fcntl" => &[Int, One(flags::FCNTL, "F_"), Hex],
        "ioctl" => &[Int, Hex, Pointer],
        "flock" | "listen" | "setpgid" | "shutdown" => &[Int, Int],
        "mkdirat" => &[Dir, Path, Mode],
        "unlinkat" => &[Dir, Path, Bits(flags::AT)],
        "symlinkat" => &[Path, Dir, Path],
        "linkat" => &[Dir, Path, Dir, Path, Bits(flags::AT)],
        "renameat2" => &[Dir, Path, Dir, Path, Hex],
        "statfs" => &[Path, Pointer],
        "truncate" => &[Path, Long],
        "ftruncate" => &[Int, Long],
        "fallocate" => &[Int, Hex, Long, Long],
        "faccessat" => &[Dir, Path, BitsOr(flags::ACCESS, "F_OK")],
        "faccessat2" => &[Dir, Path, BitsOr(flags::ACCESS, "F_OK"), Bits(flags::AT)],
        "chdir" | "chroot" | "swapoff" => &[Path],
        "swapon" => &[Path, Hex],
        "fadvise64" => &[Int, Long, Long, One(flags::FADVISE, "POSIX_FADV_")],
        "fchmod" => &[Int, Mode],
        "fchmodat" => &[Dir, Path, Mode],
        "fchownat" => &[Dir, Path, Int, Int, Bits(flags::AT)],
        "fchown" => &[Int, Int, Int],
        "openat" => &[Dir, Path, OpenFlags],
        "pipe2" => &[Pair, Bits(flags::OPEN)],
        "getdents64" => &[Int, Pointer, Long],
        "lseek" => &[Int, Long, One(flags::WHENCE, "SEEK_")],
        "read" => &[Int, Buffer, Long],
        "write" => &[Int, Data, Long],
        "readv" | "writev" => &[Int, Pointer, Int],
        "pread64" => &[Int, Buffer, Long, Long],
        "pwrite64" => &[Int, Data, Long, Long],
        "sendfile" => &[Int, Int, Pointer, Long],
        "ppoll" => &[Pointer, Int, Time, Set, Long],
        "pselect6" => &[Int, Pointer, Pointer, Pointer, Time, Pointer],
        "readlinkat" => &[Dir, Path, Text, Long],
        "newfstatat" => &[Dir, Path, Stat, Bits(flags::AT)],
        "fstat" => &[Int, Stat],
        "statx" => &[Dir, Path, Bits(flags::AT), Hex, Pointer],
        "utimensat" => &[Dir, Path, Pointer, Bits(flags::AT)],
        _ => return None,
    })
}

/// Calls on processes, signals, time, sockets, memory.
fn of_the_rest(name: &str) -> Option<&'static [Arg]> {
    use Arg::*;
    Some(match name {
        "set_tid_address" => &[Pointer],
        "set_robust_list" => &[Pointer, Long],
        "rseq" => &[Pointer, Hex, Hex, Hex],
        "futex" => &[Pointer, Futex, Int, Pointer, Pointer, Hex],
        "nanosleep" => &[Time, TimeBack],
        "clock_nanosleep" => &[One(flags::CLOCK, "CLOCK_"), Bits(flags::TIMER), Time, TimeBack],
        "clock_gettime" | "clock_getres" => &[One(flags::CLOCK, "CLOCK_"), TimeBack],
        "gettimeofday" => &[Pointer, Pointer],
        "kill" | "tkill" => &[Int, Signal],
        "tgkill" => &[Int, Int, Signal],
        "rt_sigaction" => &[Signal, Action, ActionBack, Long],
        "rt_sigprocmask" => &[One(flags::SIGMASK, "SIG_"), Set, SetBack, Long],
        "rt_sigsuspend" => &[Set, Long],
        "rt_sigtimedwait" => &[Set, Pointer, Time, Long],
        "rt_sigpending" => &[SetBack, Long],
        "signalfd4" => &[Int, Set, Long, Bits(flags::OPEN)],
        "sigaltstack" => &[Pointer, Pointer],
        "uname" | "sysinfo" | "times" => &[Pointer],
        "prlimit64" => &[Int, One(flags::RLIMIT, "RLIMIT_"), Limit, LimitBack],
        "getrlimit" => &[One(flags::RLIMIT, "RLIMIT_"), LimitBack],
        "setrlimit" => &[One(flags::RLIMIT, "RLIMIT_"), Limit],
        "getrusage" => &[Int, Pointer],
        "prctl" => &[Int, Hex, Hex, Hex, Hex],
        "getpid" | "getppid" | "getuid" | "geteuid" | "getgid" | "getegid" | "gettid"
        | "setsid" | "sync" | "sched_yield" | "munlockall" | "rt_sigreturn" | "restart_syscall" => {
            &[]
        }
        "socket" => &[One(flags::FAMILY, "AF_"), SocketType, Int],
        "socketpair" => &[One(flags::FAMILY, "AF_"), SocketType, Int, Pair],
        "bind" | "connect" => &[Int, Address, Int],
        "accept" | "getsockname" | "getpeername" => &[Int, Pointer, Pointer],
        "accept4" => &[Int, Pointer, Pointer, Bits(flags::OPEN)],
        "sendto" => &[Int, Data, Long, Bits(flags::MSG), Address, Int],
        "recvfrom" => &[Int, Buffer, Long, Bits(flags::MSG), Pointer, Pointer],
        "sendmsg" | "recvmsg" => &[Int, Pointer, Bits(flags::MSG)],
        "setsockopt" => &[Int, Int, Int, Pointer, Int],
        "getsockopt" => &[Int, Int, Int, Pointer, Pointer],
        "brk" => &[Pointer],
        "munmap" | "mlock" | "munlock" => &[Pointer, Long],
        "mremap" => &[Pointer, Long, Long, Bits(flags::MREMAP), Pointer],
        "clone" => &[Clone],
        "clone3" => &[Pointer, Long],
        "execve" => &[Path, Strings, Environment],
        "execveat" => &[Dir, Path, Strings, Environment, Bits(flags::AT)],
        "mmap" => &[
            Pointer,
            Long,
            BitsOr(flags::PROT, "PROT_NONE"),
            BitsOr(flags::MAP, "MAP_FILE"),
            Int,
            Hex,
        ],
        "mprotect" => &[Pointer, Long, BitsOr(flags::PROT, "PROT_NONE")],
        "msync" => &[Pointer, Long, Bits(flags::MSYNC)],
        "madvise" => &[Pointer, Long, One(flags::MADVISE, "MADV_")],
        "mincore" => &[Pointer, Long, Pointer],
        "wait4" => &[Int, Status, Bits(flags::WAIT), Pointer],
        "waitid" => &[Int, Int, Pointer, Bits(flags::WAIT), Pointer],
        "getrandom" => &[Buffer, Long, Bits(flags::RANDOM)],
        "memfd_create" => &[Path, Hex],
        "sched_getaffinity" | "sched_setaffinity" => &[Int, Long, Pointer],
        "shmget" => &[Hex, Long, Hex],
        "shmat" => &[Int, Pointer, Hex],
        "riscv_hwprobe" => &[Pointer, Long, Long, Pointer, Hex],
        _ => return None,
    })
}
