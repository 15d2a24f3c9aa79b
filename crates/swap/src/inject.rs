//! Faults on purpose, drawn from a seed: the same run fails in the same places.
//!
//! ```text
//!   eio=P        reads and writes answer EIO
//!   enospc=P     writes answer ENOSPC
//!   short=P      writes store a part and answer EIO
//!   torn=P       writes store a part and say nothing
//!   delay=P      transfers take 20 ms longer
//!   gone=N       from the Nth transfer on everything answers EIO
//! ```

use crate::PAGE;
use kilburn_addr::Errno;
use kilburn_mm::SwapArea;
use parking_lot::Mutex;
use rand_chacha::ChaCha8Rng;
use rand_core::{RngCore as _, SeedableRng as _};
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};

/// How much longer a delayed transfer takes.
const DELAY_NS: u64 = 20_000_000;
/// Probabilities are in parts of this.
const WHOLE: u32 = 1 << 24;

/// Which faults, and how often.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Inject {
    eio: u32,
    enospc: u32,
    short: u32,
    torn: u32,
    delay: u32,
    gone_after: Option<u64>,
}

/// Why a text names no faults.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum InjectError {
    /// The name is none of a fault's.
    #[error("{0}: the faults are eio, enospc, short, torn, delay and gone")]
    Unknown(String),
    /// The number after the name is no probability.
    #[error("{0}: a fault is given as NAME=PROBABILITY, such as eio=0.01")]
    Probability(String),
    /// The number after `gone` is no count.
    #[error("{0}: gone=N counts transfers")]
    Count(String),
}

impl FromStr for Inject {
    type Err = InjectError;

    /// Reads `eio=0.01,torn=0.001,gone=5000`.
    fn from_str(text: &str) -> Result<Self, InjectError> {
        let mut inject = Self::default();
        for part in text.split(',') {
            let (name, number) = part.split_once('=').unwrap_or((part, ""));
            if name == "gone" {
                let after = number.parse().map_err(|_| InjectError::Count(part.into()))?;
                inject.gone_after = Some(after);
                continue;
            }
            let place = match name {
                "eio" => &mut inject.eio,
                "enospc" => &mut inject.enospc,
                "short" => &mut inject.short,
                "torn" => &mut inject.torn,
                "delay" => &mut inject.delay,
                _ => return Err(InjectError::Unknown(part.into())),
            };
            let share: f64 = number.parse().map_err(|_| InjectError::Probability(part.into()))?;
            if !(0.0..=1.0).contains(&share) {
                return Err(InjectError::Probability(part.into()));
            }
            *place = (share * f64::from(WHOLE)) as u32;
        }
        Ok(inject)
    }
}

/// What becomes of a write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WriteFault {
    /// It is as it should be.
    None,
    /// Nothing is written.
    Fails(Errno),
    /// So many bytes are written, and the answer is `EIO`.
    Short(usize),
    /// So many bytes are written, and nobody is told.
    Torn(usize),
}

/// Draws the faults of one store: what each transfer suffers.
pub struct Faults {
    inject: Inject,
    rng: Mutex<ChaCha8Rng>,
    transfers: AtomicU64,
    delayed_ns: AtomicU64,
}

impl Faults {
    /// Faults as drawn from `seed`.
    pub fn new(inject: Inject, seed: u64) -> Self {
        Self {
            inject,
            rng: Mutex::new(ChaCha8Rng::seed_from_u64(seed)),
            transfers: AtomicU64::new(0),
            delayed_ns: AtomicU64::new(0),
        }
    }

    fn happens(&self, probability: u32) -> bool {
        probability > 0 && self.rng.lock().next_u32() % WHOLE < probability
    }

    /// What a transfer suffers that stores nothing.
    ///
    /// # Errors
    /// `EIO`.
    pub fn on_read(&self) -> Result<(), Errno> {
        let number = self.transfers.fetch_add(1, Ordering::Relaxed);
        if self.happens(self.inject.delay) {
            self.delayed_ns.fetch_add(DELAY_NS, Ordering::Relaxed);
        }
        let gone = self.inject.gone_after.is_some_and(|after| number >= after);
        if gone || self.happens(self.inject.eio) { Err(Errno::EIO) } else { Ok(()) }
    }

    /// What a write of `len` bytes suffers.
    pub fn on_write(&self, len: usize) -> WriteFault {
        let part = || self.rng.lock().next_u32() as usize % len.max(1);
        if let Err(errno) = self.on_read() {
            WriteFault::Fails(errno)
        } else if self.happens(self.inject.enospc) {
            WriteFault::Fails(Errno::ENOSPC)
        } else if self.happens(self.inject.short) {
            WriteFault::Short(part())
        } else if self.happens(self.inject.torn) {
            WriteFault::Torn(part())
        } else {
            WriteFault::None
        }
    }

    /// Delays since this was last asked, in nanoseconds.
    pub fn take_wait_ns(&self) -> u64 {
        self.delayed_ns.swap(0, Ordering::Relaxed)
    }
}

/// An area that fails as [`Inject`] says.
pub struct Injected<A> {
    area: A,
    faults: Faults,
}

impl<A: SwapArea> Injected<A> {
    /// Lets `area` fail, as drawn from `seed`.
    pub fn new(area: A, inject: Inject, seed: u64) -> Self {
        Self { area, faults: Faults::new(inject, seed) }
    }

    /// Stores the first part of a page over zeros.
    fn write_part(&self, slot: u32, from: &[u8; PAGE], len: usize) {
        let mut page = [0; PAGE];
        page[..len].copy_from_slice(&from[..len]);
        // Whatever comes of it: the slot is spoilt.
        let _ = self.area.write(slot, &page);
    }
}

impl<A: SwapArea> SwapArea for Injected<A> {
    fn slots(&self) -> u32 {
        self.area.slots()
    }

    fn read(&self, slot: u32, into: &mut [u8; PAGE]) -> Result<(), Errno> {
        self.faults.on_read()?;
        self.area.read(slot, into)
    }

    fn write(&self, slot: u32, from: &[u8; PAGE]) -> Result<(), Errno> {
        match self.faults.on_write(PAGE) {
            WriteFault::None => self.area.write(slot, from),
            WriteFault::Fails(errno) => Err(errno),
            WriteFault::Short(len) => {
                self.write_part(slot, from, len);
                Err(Errno::EIO)
            }
            WriteFault::Torn(len) => {
                self.write_part(slot, from, len);
                Ok(())
            }
        }
    }

    fn discard(&self, slot: u32) {
        self.area.discard(slot);
    }

    fn is_synchronous(&self) -> bool {
        self.area.is_synchronous()
    }

    fn take_wait_ns(&self) -> u64 {
        self.area.take_wait_ns() + self.faults.take_wait_ns()
    }

    fn kind(&self) -> &'static str {
        self.area.kind()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Checked, Compressed, Compression};

    fn failing(text: &str) -> Checked<Injected<Compressed>> {
        let inject = text.parse().expect("faults");
        Checked::new(Injected::new(Compressed::new(Compression::Lz4, 100), inject, 42))
    }

    /// Writes and reads pages; how many writes and reads failed. What is read must be right.
    fn failures(area: &dyn SwapArea) -> (u32, u32) {
        let (mut writes, mut reads) = (0, 0);
        for round in 0..20_u8 {
            for slot in 0..100 {
                let mut page = [round; PAGE];
                page[PAGE - 1] = slot as u8 | 1;
                if area.write(slot, &page).is_err() {
                    writes += 1;
                    continue;
                }
                let mut back = [0; PAGE];
                match area.read(slot, &mut back) {
                    Ok(()) => assert!(back == page, "wrong bytes"),
                    Err(_) => reads += 1,
                }
            }
        }
        (writes, reads)
    }

    #[test]
    fn spoilt_slots_are_errors_and_never_wrong_bytes() {
        let (writes, reads) = failures(&failing("torn=0.1"));
        assert!(writes == 0 && (120..300).contains(&reads), "{reads}");
        let (writes, reads) = failures(&failing("short=0.1"));
        assert!(reads == 0 && (120..300).contains(&writes), "{writes}");
        let (writes, reads) = failures(&failing("eio=0.1,enospc=0.1,delay=0.5"));
        assert!((250..600).contains(&writes) && (80..300).contains(&reads), "{writes} {reads}");
    }

    #[test]
    fn the_same_seed_fails_in_the_same_places() {
        assert_eq!(
            failures(&failing("eio=0.05,torn=0.03")),
            failures(&failing("eio=0.05,torn=0.03"))
        );
    }

    #[test]
    fn a_store_that_is_gone_stays_so() {
        let area = failing("gone=10");
        let answers: Vec<_> = (0..14).map(|slot| area.write(slot, &[1; PAGE]).is_ok()).collect();
        assert_eq!(answers.iter().filter(|&&ok| ok).count(), 10);
        assert_eq!(area.read(0, &mut [0; PAGE]), Err(Errno::EIO));
    }

    #[test]
    fn what_is_no_fault_is_refused_with_what_would_be() {
        for wrong in ["", "eio", "eio=2", "eio=-1", "eio=x", "gone=0.5", "fire=0.1", "eio=0.1,"] {
            assert!(wrong.parse::<Inject>().is_err(), "{wrong:?}");
        }
    }
}
