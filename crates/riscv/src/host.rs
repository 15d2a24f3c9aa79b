//! Guest memory as handlers see it: host pointers that are known to be good.
//!
//! [`FramePtr`] is a frame of guest RAM, [`Line`] the way to one for one kind of access, [`HostPtr`]
//! where a single access goes. Neighbours: `ram` hands frames out, `translate` grants lines, `exec`
//! accesses.
//!
//! # Why the `unsafe` here is sound
//!
//! A [`FramePtr`] comes from [`GuestRam`](crate::GuestRam) alone and is the first byte of a frame. It
//! is good while the RAM exists; those who keep one (lines, a hart's code) are parts of a hart, which
//! owns a share of its RAM. [`Line`] and [`FramePtr::at`] make a [`HostPtr`] only for an access that
//! is aligned to its size, a power of two of at most 8 bytes, and begins in the frame, so that it ends
//! there. Accesses are atomic, so other harts and the kernel may race with them (see `ram`).
#![allow(unsafe_code, clippy::allow_attributes, reason = "handlers access guest memory in place")]

use core::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};
use kilburn_addr::{PAGE_MASK, PAGE_SIZE, VirtAddr};

/// The first byte of a frame of guest RAM.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(transparent)]
pub(crate) struct FramePtr(*mut u8);

impl FramePtr {
    /// A frame at `ptr`.
    ///
    /// # Safety
    /// `ptr` is the first byte of a frame of guest RAM; see the head of the file.
    #[inline(always)]
    pub(crate) unsafe fn new(ptr: *mut u8) -> Self {
        Self(ptr)
    }

    /// The address.
    pub(crate) fn addr(self) -> usize {
        self.0 as usize
    }

    /// Where an access of `I` goes whose address has the page offset `offset`.
    ///
    /// # Panics
    /// When the access is not aligned.
    #[inline]
    pub(crate) fn at<I: Int>(self, offset: u64) -> HostPtr {
        assert!(offset < PAGE_SIZE && offset.is_multiple_of(I::SIZE), "{offset:#x}");
        HostPtr(self.0.wrapping_add(offset as usize))
    }
}

/// A tag that equals no address in the bits compared: those of the page number and, for the
/// alignment, at most the lowest three.
const NO_PAGE: u64 = 1 << 3;

/// The way to a page for one kind of access.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Line {
    /// Address of the page, or [`NO_PAGE`].
    tag: u64,
    /// Host address that belongs to guest address 0.
    base: *mut u8,
}

impl Line {
    pub(crate) const EMPTY: Self = Self { tag: NO_PAGE, base: core::ptr::null_mut() };

    /// A line for the page at `page`, whose frame is `frame`.
    pub(crate) fn new(page: VirtAddr, frame: FramePtr) -> Self {
        debug_assert!(page.is_page_aligned());
        Self { tag: page.get(), base: frame.0.wrapping_sub(page.get() as usize) }
    }

    /// Host memory for an access of `I` at `addr`, if that is aligned and in the page.
    #[inline(always)]
    pub(crate) fn hit<I: Int>(&self, addr: u64) -> Option<HostPtr> {
        const { assert!(I::SIZE.is_power_of_two() && I::SIZE <= NO_PAGE) };
        // A page's tag has no bit below the page number, so equality says both.
        (addr & (PAGE_MASK | (I::SIZE - 1)) == self.tag)
            .then(|| HostPtr(self.base.wrapping_add(addr as usize)))
    }

    /// The page and its frame.
    pub(crate) fn page(&self) -> Option<(VirtAddr, FramePtr)> {
        (self.tag != NO_PAGE)
            .then(|| (VirtAddr::new(self.tag), FramePtr(self.base.wrapping_add(self.tag as usize))))
    }
}

/// Where a guest access goes, aligned to its size.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(transparent)]
pub(crate) struct HostPtr(*mut u8);

impl HostPtr {
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
                <$signed as Into<i64>>::into(self as $signed) as u64
            }
        }
    };
}

int!(u8, i8, AtomicU8);
int!(u16, i16, AtomicU16);
int!(u32, i32, AtomicU32);
int!(u64, i64, AtomicU64);
