//! Address newtypes: virtual, physical, and page frame numbers.
//!
//! Pages are 4 KiB everywhere a guest can see them; formats with other granules translate at
//! their own edge (`kilburn-paging`). Neighbours: [`crate::range`] builds ranges of [`VirtAddr`].

use core::fmt;

/// log2 of [`PAGE_SIZE`].
pub const PAGE_SHIFT: u32 = 12;
/// Bytes in a page.
pub const PAGE_SIZE: u64 = 1 << PAGE_SHIFT;
/// Mask that keeps the page number of an address and clears the offset.
pub const PAGE_MASK: u64 = !(PAGE_SIZE - 1);

macro_rules! address {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        #[repr(transparent)]
        pub struct $name(u64);

        impl $name {
            /// Address zero.
            pub const ZERO: Self = Self(0);
            /// The highest representable address.
            pub const MAX: Self = Self(u64::MAX);

            /// Wraps a raw address.
            #[inline]
            pub const fn new(raw: u64) -> Self {
                Self(raw)
            }

            /// The raw address.
            #[inline]
            pub const fn get(self) -> u64 {
                self.0
            }

            /// Offset within the page, in bytes.
            #[inline]
            pub const fn page_offset(self) -> u64 {
                self.0 & !PAGE_MASK
            }

            /// Rounds down to the start of the page.
            #[inline]
            pub const fn page_down(self) -> Self {
                Self(self.0 & PAGE_MASK)
            }

            /// Rounds up to a page boundary; `None` when that wraps.
            #[inline]
            pub const fn page_up(self) -> Option<Self> {
                match self.0.checked_add(PAGE_SIZE - 1) {
                    Some(v) => Some(Self(v & PAGE_MASK)),
                    None => None,
                }
            }

            /// Whether this is a multiple of [`PAGE_SIZE`].
            #[inline]
            pub const fn is_page_aligned(self) -> bool {
                self.0 & !PAGE_MASK == 0
            }

            /// `self + bytes`; `None` when that wraps.
            #[inline]
            pub const fn checked_add(self, bytes: u64) -> Option<Self> {
                match self.0.checked_add(bytes) {
                    Some(v) => Some(Self(v)),
                    None => None,
                }
            }

            /// `self - bytes`; `None` when that wraps.
            #[inline]
            pub const fn checked_sub(self, bytes: u64) -> Option<Self> {
                match self.0.checked_sub(bytes) {
                    Some(v) => Some(Self(v)),
                    None => None,
                }
            }

            /// Bytes from `earlier` up to `self`; `None` when `earlier` is above `self`.
            #[inline]
            pub const fn bytes_since(self, earlier: Self) -> Option<u64> {
                self.0.checked_sub(earlier.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:#x})"), self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:#x}", self.0)
            }
        }

        impl fmt::LowerHex for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::LowerHex::fmt(&self.0, f)
            }
        }
    };
}

address! {
    /// An address in a process's virtual address space. Untrusted until looked up.
    VirtAddr
}
address! {
    /// An address in (simulated) physical memory.
    PhysAddr
}

impl VirtAddr {
    /// Virtual page number (Linux `addr >> PAGE_SHIFT`).
    #[inline]
    pub const fn vpn(self) -> u64 {
        self.0 >> PAGE_SHIFT
    }

    /// The first address of virtual page `vpn`; `None` when no address has that number.
    #[inline]
    pub const fn from_vpn(vpn: u64) -> Option<Self> {
        if vpn > u64::MAX >> PAGE_SHIFT { None } else { Some(Self(vpn << PAGE_SHIFT)) }
    }
}

impl PhysAddr {
    /// The frame this address lies in.
    #[inline]
    pub const fn pfn(self) -> Pfn {
        Pfn(self.0 >> PAGE_SHIFT)
    }
}

/// Page frame number: a physical address divided by [`PAGE_SIZE`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(transparent)]
pub struct Pfn(u64);

impl Pfn {
    /// Wraps a raw frame number.
    #[inline]
    pub const fn new(raw: u64) -> Self {
        Self(raw)
    }

    /// The raw frame number.
    #[inline]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Physical address of the frame's first byte. Frame numbers above 2^52 do not exist.
    #[inline]
    pub const fn base(self) -> PhysAddr {
        PhysAddr(self.0 << PAGE_SHIFT)
    }

    /// The frame `frames` further up; `None` when that wraps.
    #[inline]
    pub const fn checked_add(self, frames: u64) -> Option<Self> {
        match self.0.checked_add(frames) {
            Some(v) => Some(Self(v)),
            None => None,
        }
    }
}

impl fmt::Debug for Pfn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pfn({:#x})", self.0)
    }
}

impl fmt::Display for Pfn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_up_at_the_top_does_not_wrap() {
        assert_eq!(VirtAddr::new(u64::MAX).page_up(), None);
        assert_eq!(VirtAddr::new(1).page_up(), Some(VirtAddr::new(PAGE_SIZE)));
        assert_eq!(VirtAddr::new(PAGE_SIZE).page_up(), Some(VirtAddr::new(PAGE_SIZE)));
    }

    #[test]
    fn a_page_number_without_an_address_is_refused() {
        assert_eq!(VirtAddr::from_vpn(u64::MAX >> PAGE_SHIFT), Some(VirtAddr::new(PAGE_MASK)));
        assert_eq!(VirtAddr::from_vpn(1 << 52), None);
    }
}
