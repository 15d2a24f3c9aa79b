//! Who makes a call: the limits and capabilities that memory operations are judged by.
//!
//! Passed in with every call, so that nothing here reads a task's state behind its back.

/// `RLIM_INFINITY`.
pub const UNLIMITED: u64 = u64::MAX;

/// Limits and rights of the task on whose behalf a call is made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Caller {
    /// The soft limits that concern memory.
    pub rlimits: Rlimits,
    /// `CAP_IPC_LOCK`: may lock any amount of memory.
    pub can_lock: bool,
    /// `CAP_SYS_ADMIN`: may use the last few pages of the commit limit.
    pub admin: bool,
    /// `CAP_SYS_RAWIO`: may map below `vm.mmap_min_addr`.
    pub raw_io: bool,
    /// `ADDR_COMPAT_LAYOUT`, `READ_IMPLIES_EXEC` and the like: the task's personality.
    pub read_implies_exec: bool,
    /// The thread, as userfaultfd messages name it, when it can wait for a monitor to resolve its
    /// fault ([`crate::Fault::Userfault`]); without, such a fault is a bus error.
    pub userfault_thread: Option<u32>,
}

impl Caller {
    /// A task of root without limits, except Linux's default stack of 8 MiB.
    pub const ROOT: Self = Self {
        rlimits: Rlimits {
            address_space: UNLIMITED,
            data: UNLIMITED,
            data_max: UNLIMITED,
            stack: 8 << 20,
            memlock: 8 << 20,
        },
        can_lock: true,
        admin: true,
        raw_io: true,
        read_implies_exec: false,
        userfault_thread: None,
    };

    /// A task of an ordinary user, with the same limits.
    pub const USER: Self = Self { can_lock: false, admin: false, raw_io: false, ..Self::ROOT };

    /// Work of the kernel's own, on nobody's behalf.
    pub(crate) const KERNEL: Self = Self { admin: false, ..Self::ROOT };
}

/// Limits in bytes, soft ones unless said otherwise; [`UNLIMITED`] for none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rlimits {
    /// `RLIMIT_AS`
    pub address_space: u64,
    /// `RLIMIT_DATA`
    pub data: u64,
    /// The hard limit of `RLIMIT_DATA`: it counts while the soft one is 0.
    pub data_max: u64,
    /// `RLIMIT_STACK`
    pub stack: u64,
    /// `RLIMIT_MEMLOCK`
    pub memlock: u64,
}
