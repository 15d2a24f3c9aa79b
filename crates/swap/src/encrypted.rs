//! Encryption at rest: ChaCha20-Poly1305, a nonce never used twice.
//!
//! ```text
//!   nonce   | slot: 4 bytes | writes of the area so far: 8 bytes |
//! ```
//!
//! Nonces and tags stay in memory, so a slot is as large as a page, and content that was changed,
//! replayed or moved to another slot is refused.

use crate::PAGE;
use chacha20poly1305::aead::AeadInPlace as _;
use chacha20poly1305::{ChaCha20Poly1305, KeyInit as _, Nonce, Tag};
use kilburn_addr::Errno;
use kilburn_mm::SwapArea;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// An area whose content is enciphered and authenticated.
pub struct Encrypted<A> {
    area: A,
    cipher: ChaCha20Poly1305,
    seals: Mutex<Vec<Seal>>,
    writes: AtomicU64,
}

/// What is needed to open a slot.
#[derive(Clone, Copy, Default)]
struct Seal {
    write: u64,
    tag: [u8; 16],
}

impl<A: SwapArea> Encrypted<A> {
    /// Enciphers `area`, of which nothing has been written yet. No other area may have `key`.
    pub fn new(area: A, key: &[u8; 32]) -> Self {
        let seals = vec![Seal::default(); area.slots() as usize];
        Self {
            area,
            cipher: ChaCha20Poly1305::new(key.into()),
            seals: Mutex::new(seals),
            writes: AtomicU64::new(0),
        }
    }
}

fn nonce(slot: u32, write: u64) -> Nonce {
    let mut bytes = [0; 12];
    bytes[..4].copy_from_slice(&slot.to_le_bytes());
    bytes[4..].copy_from_slice(&write.to_le_bytes());
    Nonce::from(bytes)
}

impl<A: SwapArea> SwapArea for Encrypted<A> {
    fn slots(&self) -> u32 {
        self.area.slots()
    }

    fn read(&self, slot: u32, into: &mut [u8; PAGE]) -> Result<(), Errno> {
        self.area.read(slot, into)?;
        let Seal { write, tag } = self.seals.lock()[slot as usize];
        self.cipher
            .decrypt_in_place_detached(&nonce(slot, write), b"", into, &Tag::from(tag))
            .map_err(|_| Errno::EIO)
    }

    fn write(&self, slot: u32, from: &[u8; PAGE]) -> Result<(), Errno> {
        let mut page = *from;
        let write = self.writes.fetch_add(1, Ordering::Relaxed);
        let tag = self
            .cipher
            .encrypt_in_place_detached(&nonce(slot, write), b"", &mut page)
            .map_err(|_| Errno::EIO)?;
        self.area.write(slot, &page)?;
        self.seals.lock()[slot as usize] = Seal { write, tag: tag.into() };
        Ok(())
    }

    fn discard(&self, slot: u32) {
        self.area.discard(slot);
    }

    fn is_synchronous(&self) -> bool {
        self.area.is_synchronous()
    }

    fn take_wait_ns(&self) -> u64 {
        self.area.take_wait_ns()
    }

    fn kind(&self) -> &'static str {
        self.area.kind()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FileArea;

    #[test]
    fn the_store_sees_no_content_and_what_it_changes_is_refused() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("swap");
        let area = Encrypted::new(FileArea::create(&path, 4).expect("made"), &[7; 32]);
        area.write(1, &[0x61; PAGE]).expect("room");
        area.write(2, &[0x61; PAGE]).expect("room");
        let mut bytes = std::fs::read(&path).expect("there");
        assert!(!bytes.windows(8).any(|eight| eight == [0x61; 8]));
        assert_ne!(bytes[PAGE..2 * PAGE], bytes[2 * PAGE..3 * PAGE], "equal pages differ");
        let mut page = [0; PAGE];
        area.read(1, &mut page).expect("written");
        assert_eq!(page, [0x61; PAGE]);
        bytes.copy_within(2 * PAGE..3 * PAGE, PAGE);
        std::fs::write(&path, &bytes).expect("written");
        assert_eq!(area.read(1, &mut page), Err(Errno::EIO), "another slot's content");
        area.read(2, &mut page).expect("that one is as it was");
    }
}
