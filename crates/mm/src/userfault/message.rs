//! What a monitor reads (include/uapi/linux/userfaultfd.h: `struct uffd_msg`).
//!
//! ```text
//!   0      1 ..... 8      16       24
//!   event  0       flags  address  thread, or 0
//! ```

/// Size of a message.
pub const MESSAGE_BYTES: usize = 32;

const EVENT_PAGEFAULT: u8 = 0x12;

const FLAG_WRITE: u64 = 1;
const FLAG_MINOR: u64 = 4;

/// A fault that waits for its page (`UFFD_EVENT_PAGEFAULT`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Message {
    /// The address, or its page's without `UFFD_FEATURE_EXACT_ADDRESS`.
    pub address: u64,
    /// Whether it was a write (`UFFD_PAGEFAULT_FLAG_WRITE`).
    pub write: bool,
    /// Whether the page is in the page cache (`UFFD_PAGEFAULT_FLAG_MINOR`).
    pub minor: bool,
    /// The thread, with `UFFD_FEATURE_THREAD_ID`.
    pub thread: Option<u32>,
}

impl Message {
    /// As read(2) of the descriptor shows it.
    pub fn to_bytes(self) -> [u8; MESSAGE_BYTES] {
        let mut flags = 0;
        if self.write {
            flags |= FLAG_WRITE;
        }
        if self.minor {
            flags |= FLAG_MINOR;
        }
        let mut bytes = [0; MESSAGE_BYTES];
        bytes[0] = EVENT_PAGEFAULT;
        bytes[8..16].copy_from_slice(&flags.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.address.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.thread.unwrap_or(0).to_le_bytes());
        bytes
    }
}
