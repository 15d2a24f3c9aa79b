//! Random bytes for devices, from the machine's seeded generator.

use std::rc::Rc;

/// Fills a buffer.
type Fill = dyn Fn(&mut [u8]);

/// A handle on the machine's generator.
#[derive(Clone)]
pub(crate) struct Random(Rc<Fill>);

impl Random {
    /// A source that `fill` takes bytes from.
    pub(crate) fn new(fill: impl Fn(&mut [u8]) + 'static) -> Self {
        Self(Rc::new(fill))
    }

    /// Fills `into`.
    pub(crate) fn fill(&self, into: &mut [u8]) {
        (self.0)(into);
    }
}
