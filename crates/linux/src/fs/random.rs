//! Random bytes for devices, from the machine's seeded generator.

use std::rc::Rc;

/// A handle on the machine's generator.
#[derive(Clone)]
pub(crate) struct Random(Rc<dyn Fn() -> u64>);

impl Random {
    /// A source that takes 64 bits at a time from `source`.
    pub(crate) fn new(source: impl Fn() -> u64 + 'static) -> Self {
        Self(Rc::new(source))
    }

    /// Fills `into`.
    pub(crate) fn fill(&self, into: &mut [u8]) {
        for chunk in into.chunks_mut(8) {
            let bytes = (self.0)().to_le_bytes();
            chunk.copy_from_slice(&bytes[..chunk.len()]);
        }
    }
}
