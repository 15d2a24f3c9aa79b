//! Guest memory as handlers see it: a host pointer that is known to be good for one access.
//!
//! # Why the `unsafe` here is sound
//!
//! A [`HostPtr`] is made by `state::Line::hit` and by the translation's slow path, from a frame of
//! the hart's own RAM, which the hart keeps alive; the offset stays in the page and is aligned to
//! the size that was asked for. It is used up before the handler goes on. All accesses are atomic,
//! so other harts and the kernel may race with them (see `ram`).

use core::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};

/// Where a guest access goes, aligned to its size.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(transparent)]
pub(crate) struct HostPtr(*mut u8);

impl HostPtr {
    /// `ptr` must be inside guest RAM for the size it will be used with, and aligned to it.
    ///
    /// # Safety
    /// See above, and the head of the file.
    #[inline(always)]
    pub(crate) unsafe fn new(ptr: *mut u8) -> Self {
        Self(ptr)
    }

    /// The address, to compare.
    pub(crate) fn addr(self) -> usize {
        self.0 as usize
    }
}

/// An integer that guest memory is accessed as.
pub(crate) trait Int: Copy + 'static {
    /// Bytes.
    const SIZE: u64;
    fn load(at: HostPtr) -> Self;
    fn store(at: HostPtr, value: Self);
    /// Replaces what is there by `change` of it; returns what was there.
    fn update(at: HostPtr, change: impl FnMut(Self) -> Self) -> Self;
    /// Stores `new` if `old` is there; whether it was.
    fn replace(at: HostPtr, old: Self, new: Self) -> bool;
    fn from_u64(value: u64) -> Self;
    /// Zero-extended.
    fn to_u64(self) -> u64;
    /// Sign-extended.
    fn sign_extend(self) -> u64;
}

macro_rules! int {
    ($int:ident, $signed:ident, $atomic:ident) => {
        impl Int for $int {
            const SIZE: u64 = size_of::<$int>() as u64;

            #[inline(always)]
            fn load(at: HostPtr) -> Self {
                // SAFETY: see the head of the file.
                unsafe { $atomic::from_ptr(at.0.cast()) }.load(Ordering::Relaxed)
            }

            #[inline(always)]
            fn store(at: HostPtr, value: Self) {
                // SAFETY: see the head of the file.
                unsafe { $atomic::from_ptr(at.0.cast()) }.store(value, Ordering::Relaxed);
            }

            #[inline(always)]
            fn update(at: HostPtr, mut change: impl FnMut(Self) -> Self) -> Self {
                // SAFETY: see the head of the file.
                let word = unsafe { $atomic::from_ptr(at.0.cast()) };
                let mut old = word.load(Ordering::Relaxed);
                loop {
                    match word.compare_exchange_weak(
                        old,
                        change(old),
                        Ordering::SeqCst,
                        Ordering::Relaxed,
                    ) {
                        Ok(old) => return old,
                        Err(now) => old = now,
                    }
                }
            }

            #[inline(always)]
            fn replace(at: HostPtr, old: Self, new: Self) -> bool {
                // SAFETY: see the head of the file.
                unsafe { $atomic::from_ptr(at.0.cast()) }
                    .compare_exchange(old, new, Ordering::SeqCst, Ordering::Relaxed)
                    .is_ok()
            }

            #[inline(always)]
            fn from_u64(value: u64) -> Self {
                value as $int
            }

            #[inline(always)]
            fn to_u64(self) -> u64 {
                u64::from(self)
            }

            #[inline(always)]
            fn sign_extend(self) -> u64 {
                self as $signed as i64 as u64
            }
        }
    };
}

int!(u8, i8, AtomicU8);
int!(u16, i16, AtomicU16);
int!(u32, i32, AtomicU32);
int!(u64, i64, AtomicU64);
