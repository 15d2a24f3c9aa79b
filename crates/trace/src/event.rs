//! What a trace says, whatever its format.

use kilburn_addr::{Access, VirtAddr};
use kilburn_mmu::{Cause, Flush};
use kilburn_paging::LeafFlags;

/// One thing that happened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// A program accessed memory.
    Access {
        /// Load, store or fetch.
        access: Access,
        /// First byte.
        va: VirtAddr,
        /// Bytes; 0 where the trace does not say.
        size: u32,
    },
    /// Instructions were retired.
    Retire(u64),
    /// What follows happens on this hart.
    Hart(u32),
    /// What follows happens in this address space: a context switch, if it was another before.
    Space(u16),
    /// The tables of the current space hold this page now.
    Map {
        /// First address.
        va: VirtAddr,
        /// Level of the entry, 0 for the smallest pages.
        level: u8,
        /// First frame.
        pfn: u64,
        /// Rights, A and D.
        flags: LeafFlags,
    },
    /// The access that comes next has no translation: the walk ends at this level.
    Fault {
        /// The address.
        va: VirtAddr,
        /// Level of the entry that leads no further.
        level: u8,
    },
    /// Cached translations go.
    Flush {
        /// Which.
        what: Flush,
        /// Why.
        cause: Cause,
    },
    /// The current space maps memory.
    Mmap {
        /// First address.
        va: VirtAddr,
        /// Bytes.
        len: u64,
        /// `PROT_*`
        prot: u64,
        /// Whether a child shares it or gets a copy.
        sharing: Sharing,
    },
    /// The current space unmaps memory.
    Munmap {
        /// First address.
        va: VirtAddr,
        /// Bytes.
        len: u64,
    },
    /// The current space changes rights.
    Mprotect {
        /// First address.
        va: VirtAddr,
        /// Bytes.
        len: u64,
        /// `PROT_*`
        prot: u64,
    },
    /// The current space is copied to a new one.
    Fork {
        /// The new space.
        child: u16,
    },
    /// The current space begins anew, empty.
    Exec,
    /// The current space ends.
    Exit,
    /// The current space is this process's.
    Process {
        /// Its id.
        pid: u32,
    },
}

/// Whether stores to an area are seen by others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sharing {
    /// `MAP_PRIVATE`
    Private,
    /// `MAP_SHARED`
    Shared,
}

/// Why a trace cannot be read on.
#[derive(thiserror::Error, Debug)]
#[error("record {record}: {why}")]
pub struct TraceError {
    /// Which record, counted from 1.
    pub record: u64,
    /// What is wrong with it.
    pub why: String,
}

impl TraceError {
    /// An error in record `record`.
    pub fn new(record: u64, why: impl Into<String>) -> Self {
        Self { record, why: why.into() }
    }

    /// A failure of reading in record `record`; the end of the input in the middle of one is named so.
    pub(crate) fn io(record: u64, error: &std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::UnexpectedEof => Self::new(record, "the trace is cut off here"),
            _ => Self::new(record, format!("cannot be read: {error}")),
        }
    }
}

/// What a trace is read from.
pub trait Records {
    /// Whether each fetch is one instruction retired, as the trace says nothing else of instructions.
    const FETCHES_ARE_INSTRUCTIONS: bool = false;

    /// The next event; `None` at the end.
    ///
    /// # Errors
    /// [`TraceError`], after which nothing more can be read.
    fn next_event(&mut self) -> Result<Option<Event>, TraceError>;

    /// Number of the record at hand.
    fn record(&self) -> u64;
}
