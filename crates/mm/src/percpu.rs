//! One of something for each CPU, so that two CPUs write no common cache line.
//!
//! Which CPU somebody runs on is a hint of the host ([`crate::Host::cpu`]): two threads may use one slot at
//! once, so what is in a slot is atomic or behind a lock. Linux's `DEFINE_PER_CPU` and `percpu_counter`.

use alloc::boxed::Box;
use alloc::sync::Arc;

/// Fills its cache lines alone. 128 bytes, as processors fetch lines in pairs.
#[repr(align(128))]
#[derive(Default)]
pub(crate) struct Padded<T>(pub(crate) T);

/// A slot for each CPU; their number is a power of two.
pub(crate) struct PerCpu<T>(Box<[Padded<T>]>);

/// Most slots there are, however many CPUs a host has.
const SLOTS_MAX: usize = 1024;

impl<T> PerCpu<T> {
    /// Slots for `cpus` CPUs, at least one.
    pub(crate) fn new(cpus: usize, mut make: impl FnMut() -> T) -> Self {
        let slots = cpus.clamp(1, SLOTS_MAX).next_power_of_two();
        Self((0..slots).map(|_| Padded(make())).collect())
    }

    /// The slot of `cpu`, which may be any number.
    #[inline]
    pub(crate) fn of(&self, cpu: usize) -> &T {
        &self.0[cpu & (self.0.len() - 1)].0
    }

    /// Number of slots.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// All slots, in the order of their CPUs.
    #[inline]
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter().map(|slot| &slot.0)
    }

    /// All slots from that of the CPU after `cpu` on, `cpu`'s last.
    pub(crate) fn others_first(&self, cpu: usize) -> impl Iterator<Item = &T> {
        (1..=self.len()).map(move |step| self.of(cpu.wrapping_add(step)))
    }
}

/// One thing that many keep alive, by a count of references for each CPU: two CPUs that take and drop
/// references write no common line.
pub(crate) struct Handles<T>(PerCpu<Handle<T>>);

/// A reference by way of one CPU's count.
pub(crate) type Handle<T> = Arc<Padded<T>>;

impl<T> Handles<T> {
    /// Counts for `cpus` CPUs; `make` makes a reference to the thing itself.
    pub(crate) fn new(cpus: usize, mut make: impl FnMut() -> T) -> Self {
        Self(PerCpu::new(cpus, || Arc::new(Padded(make()))))
    }

    /// A reference for somebody on `cpu`.
    #[inline]
    pub(crate) fn take(&self, cpu: usize) -> Handle<T> {
        self.0.of(cpu).clone()
    }

    /// The thing, looked at.
    #[inline]
    pub(crate) fn peek(&self) -> &T {
        &self.0.of(0).0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn every_number_has_a_slot_and_neighbours_share_no_line() {
        let mut made = 0;
        let slots = PerCpu::new(5, || {
            made += 1;
            made
        });
        assert_eq!((slots.len(), *slots.of(0), *slots.of(7), *slots.of(8)), (8, 1, 8, 1));
        assert_eq!(slots.others_first(6).copied().collect::<Vec<_>>(), [8, 1, 2, 3, 4, 5, 6, 7]);
        let (first, second): (*const i32, *const i32) = (slots.of(0), slots.of(1));
        assert!(second.addr() - first.addr() >= 128);
        assert_eq!(PerCpu::new(0, || ()).len(), 1);
    }
}
