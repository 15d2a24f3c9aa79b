//! Rights and flags: what a page or an area may be used for, and what is being tried.
//!
//! Bit values of [`Prot`] and [`VmFlags`] are Linux's (include/uapi/asm-generic/mman-common.h,
//! include/linux/mm.h of 6.18), so that they can be compared and printed without a table.

use bitflags::bitflags;

bitflags! {
    /// `PROT_*` of mmap and mprotect.
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
    pub struct Prot: u32 {
        /// `PROT_READ`
        const READ = 0x1;
        /// `PROT_WRITE`
        const WRITE = 0x2;
        /// `PROT_EXEC`
        const EXEC = 0x4;
        /// `PROT_SEM`: accepted and without effect, as on Linux.
        const SEM = 0x8;
        /// `PROT_GROWSDOWN`: mprotect reaches down to the start of a growing area.
        const GROWSDOWN = 0x0100_0000;
        /// `PROT_GROWSUP`
        const GROWSUP = 0x0200_0000;
    }
}

bitflags! {
    /// `VM_*`: the flags of an area.
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
    pub struct VmFlags: u64 {
        /// `VM_READ` (rd)
        const READ = 0x1;
        /// `VM_WRITE` (wr)
        const WRITE = 0x2;
        /// `VM_EXEC` (ex)
        const EXEC = 0x4;
        /// `VM_SHARED` (sh)
        const SHARED = 0x8;
        /// `VM_MAYREAD` (mr)
        const MAYREAD = 0x10;
        /// `VM_MAYWRITE` (mw)
        const MAYWRITE = 0x20;
        /// `VM_MAYEXEC` (me)
        const MAYEXEC = 0x40;
        /// `VM_MAYSHARE` (ms)
        const MAYSHARE = 0x80;
        /// `VM_GROWSDOWN` (gd)
        const GROWSDOWN = 0x100;
        /// `VM_UFFD_MISSING` (um)
        const UFFD_MISSING = 0x200;
        /// `VM_PFNMAP` (pf)
        const PFNMAP = 0x400;
        /// `VM_MAYBE_GUARD` (gu): there may be guard markers.
        const MAYBE_GUARD = 0x800;
        /// `VM_UFFD_WP` (uw)
        const UFFD_WP = 0x1000;
        /// `VM_LOCKED` (lo)
        const LOCKED = 0x2000;
        /// `VM_IO` (io)
        const IO = 0x4000;
        /// `VM_SEQ_READ` (sr)
        const SEQ_READ = 0x8000;
        /// `VM_RAND_READ` (rr)
        const RAND_READ = 0x1_0000;
        /// `VM_DONTCOPY` (dc)
        const DONTCOPY = 0x2_0000;
        /// `VM_DONTEXPAND` (de)
        const DONTEXPAND = 0x4_0000;
        /// `VM_LOCKONFAULT` (lf)
        const LOCKONFAULT = 0x8_0000;
        /// `VM_ACCOUNT` (ac)
        const ACCOUNT = 0x10_0000;
        /// `VM_NORESERVE` (nr)
        const NORESERVE = 0x20_0000;
        /// `VM_HUGETLB` (ht)
        const HUGETLB = 0x40_0000;
        /// `VM_SYNC` (sf)
        const SYNC = 0x80_0000;
        /// `VM_WIPEONFORK` (wf)
        const WIPEONFORK = 0x200_0000;
        /// `VM_DONTDUMP` (dd)
        const DONTDUMP = 0x400_0000;
        /// `VM_SOFTDIRTY` (sd)
        const SOFTDIRTY = 0x800_0000;
        /// `VM_MIXEDMAP` (mm)
        const MIXEDMAP = 0x1000_0000;
        /// `VM_HUGEPAGE` (hg)
        const HUGEPAGE = 0x2000_0000;
        /// `VM_NOHUGEPAGE` (nh)
        const NOHUGEPAGE = 0x4000_0000;
        /// `VM_MERGEABLE` (mg)
        const MERGEABLE = 0x8000_0000;
        /// `VM_UFFD_MINOR` (ui)
        const UFFD_MINOR = 1 << 41;
        /// `VM_SEALED` (sl)
        const SEALED = 1 << 42;
        /// `VM_DROPPABLE` (dp)
        const DROPPABLE = 1 << 40;

        /// Rights an access is checked against (Linux `VM_ACCESS_FLAGS`).
        const ACCESS = Self::READ.bits() | Self::WRITE.bits() | Self::EXEC.bits();
        /// Faults are somebody else's to resolve (Linux `__VM_UFFD_FLAGS`).
        const UFFD = Self::UFFD_MISSING.bits() | Self::UFFD_WP.bits() | Self::UFFD_MINOR.bits();
        /// Areas that no operation may merge or expand (Linux `VM_SPECIAL`).
        const SPECIAL = Self::IO.bits() | Self::DONTEXPAND.bits() | Self::PFNMAP.bits()
            | Self::MIXEDMAP.bits();
    }
}

impl VmFlags {
    /// The two letters of smaps' `VmFlags:` line, in Linux's order (6.18 fs/proc/task_mmu.c:
    /// `show_smap_vma_flags`, by bit number).
    pub const MNEMONICS: &'static [(Self, &'static str)] = &[
        (Self::READ, "rd"),
        (Self::WRITE, "wr"),
        (Self::EXEC, "ex"),
        (Self::SHARED, "sh"),
        (Self::MAYREAD, "mr"),
        (Self::MAYWRITE, "mw"),
        (Self::MAYEXEC, "me"),
        (Self::MAYSHARE, "ms"),
        (Self::GROWSDOWN, "gd"),
        (Self::UFFD_MISSING, "um"),
        (Self::PFNMAP, "pf"),
        (Self::MAYBE_GUARD, "gu"),
        (Self::UFFD_WP, "uw"),
        (Self::LOCKED, "lo"),
        (Self::IO, "io"),
        (Self::SEQ_READ, "sr"),
        (Self::RAND_READ, "rr"),
        (Self::DONTCOPY, "dc"),
        (Self::DONTEXPAND, "de"),
        (Self::LOCKONFAULT, "lf"),
        (Self::ACCOUNT, "ac"),
        (Self::NORESERVE, "nr"),
        (Self::HUGETLB, "ht"),
        (Self::SYNC, "sf"),
        (Self::WIPEONFORK, "wf"),
        (Self::DONTDUMP, "dd"),
        (Self::SOFTDIRTY, "sd"),
        (Self::MIXEDMAP, "mm"),
        (Self::HUGEPAGE, "hg"),
        (Self::NOHUGEPAGE, "nh"),
        (Self::MERGEABLE, "mg"),
        (Self::DROPPABLE, "dp"),
        (Self::UFFD_MINOR, "ui"),
        (Self::SEALED, "sl"),
    ];

    /// The area rights that correspond to `prot`.
    #[inline]
    pub fn from_prot(prot: Prot) -> Self {
        Self::from_bits_truncate(u64::from(prot.bits())) & Self::ACCESS
    }

    /// The `PROT_*` bits these area rights correspond to.
    #[inline]
    pub fn prot(self) -> Prot {
        Prot::from_bits_truncate((self & Self::ACCESS).bits() as u32)
    }

    /// Whether `access` is permitted by READ, WRITE, EXEC.
    #[inline]
    pub fn permits(self, access: Access) -> bool {
        match access {
            // Linux riscv arch/riscv/mm/fault.c: access_error: PROT_WRITE implies readable.
            Access::Read => self.intersects(Self::READ.union(Self::WRITE)),
            Access::Write => self.contains(Self::WRITE),
            Access::Exec => self.contains(Self::EXEC),
        }
    }
}

/// What an instruction tries to do with an address.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Access {
    /// Load.
    Read,
    /// Store or atomic.
    Write,
    /// Instruction fetch.
    Exec,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flag_has_one_mnemonic_and_they_come_in_bit_order_below_32() {
        let low: alloc::vec::Vec<u64> =
            VmFlags::MNEMONICS.iter().map(|(f, _)| f.bits()).filter(|b| *b < 1 << 32).collect();
        assert!(low.windows(2).all(|w| w[0] < w[1]));
        assert!(
            VmFlags::MNEMONICS
                .iter()
                .all(|(f, name)| f.bits().count_ones() == 1 && name.len() == 2)
        );
    }

    extern crate alloc;

    #[test]
    fn a_writable_area_is_readable() {
        assert!(VmFlags::WRITE.permits(Access::Read));
        assert!(!VmFlags::READ.permits(Access::Write));
        assert!(!VmFlags::EXEC.permits(Access::Read));
    }
}
