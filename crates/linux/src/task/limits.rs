//! Resource limits (`RLIMIT_*`), one set a process.

use std::cell::Cell;

/// `RLIM_INFINITY`
pub(crate) const UNLIMITED: u64 = u64::MAX;

/// A limit's number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Resource {
    Cpu,
    Fsize,
    Data,
    Stack,
    Core,
    Rss,
    Nproc,
    Nofile,
    Memlock,
    As,
    Locks,
    Sigpending,
    Msgqueue,
    Nice,
    Rtprio,
    Rttime,
}

impl Resource {
    /// All, in order of their numbers.
    pub(crate) const ALL: [Self; 16] = [
        Self::Cpu,
        Self::Fsize,
        Self::Data,
        Self::Stack,
        Self::Core,
        Self::Rss,
        Self::Nproc,
        Self::Nofile,
        Self::Memlock,
        Self::As,
        Self::Locks,
        Self::Sigpending,
        Self::Msgqueue,
        Self::Nice,
        Self::Rtprio,
        Self::Rttime,
    ];

    /// The limit with this number.
    pub(crate) fn new(number: u32) -> Option<Self> {
        Self::ALL.get(usize::try_from(number).ok()?).copied()
    }
}

/// A soft and a hard limit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Limit {
    pub(crate) soft: u64,
    pub(crate) hard: u64,
}

/// All limits of a process.
#[derive(Clone, Debug)]
pub(crate) struct Limits([Cell<Limit>; 16]);

impl Limits {
    /// What a kernel with `memory_bytes` of memory gives its first process (Linux
    /// include/asm-generic/resource.h: `INIT_RLIMITS`; kernel/fork.c: `fork_init`).
    pub(crate) fn boot(memory_bytes: u64) -> Self {
        // fork_init: threads may take an eighth of memory, at 16 KiB of kernel stack each, and a
        // user half of them.
        let processes = (memory_bytes / (8 * 16384)).clamp(20, 1 << 22) / 2;
        Self(Resource::ALL.map(|resource| {
            let (soft, hard) = match resource {
                Resource::Stack => (8 << 20, UNLIMITED),
                Resource::Core => (0, UNLIMITED),
                Resource::Nproc | Resource::Sigpending => (processes, processes),
                Resource::Nofile => (1024, 4096),
                Resource::Memlock => (8 << 20, 8 << 20),
                Resource::Msgqueue => (819_200, 819_200),
                Resource::Nice | Resource::Rtprio => (0, 0),
                _ => (UNLIMITED, UNLIMITED),
            };
            Cell::new(Limit { soft, hard })
        }))
    }

    /// The limit of `resource`.
    pub(crate) fn get(&self, resource: Resource) -> Limit {
        self.0[resource as usize].get()
    }

    /// Changes the limit of `resource`.
    pub(crate) fn set(&self, resource: Resource, limit: Limit) {
        self.0[resource as usize].set(limit);
    }
}
