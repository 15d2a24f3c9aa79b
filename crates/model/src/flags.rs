//! The flags and values of calls that have a name: what coverage is counted by.

use crate::call::{Call, Kind};

/// A named flag, or value, of a call's argument.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Flag {
    /// The call.
    pub kind: Kind,
    /// As the man page names it.
    pub name: &'static str,
    argument: usize,
    is: Is,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Is {
    /// All bits of `.1` in the mask `.0` are set.
    Bits(u64, u64),
    /// It has this value.
    Value(u64),
    /// A length that is no multiple of the page size, or an address that is none.
    Unaligned,
}

use Is::{Bits, Unaligned, Value};

const fn bit(bit: u64) -> Is {
    Bits(bit, bit)
}

macro_rules! flags {
    ($($kind:ident [$argument:literal] { $($name:literal: $is:expr),* $(,)? })*) => {
        /// All of them, by call.
        pub const FLAGS: &[Flag] = &[$($(
            Flag { kind: Kind::$kind, name: $name, argument: $argument, is: $is },
        )*)*];
    };
}

flags! {
    Mmap [0] { "addr=0": Value(0), "addr unaligned": Unaligned }
    Mmap [1] { "len=0": Value(0) }
    Mmap [2] {
        "PROT_NONE": Value(0), "PROT_READ": bit(1), "PROT_WRITE": bit(2), "PROT_EXEC": bit(4),
        "PROT_GROWSDOWN": bit(0x0100_0000), "PROT_GROWSUP": bit(0x0200_0000),
    }
    Mmap [3] {
        "no map type": Bits(0xf, 0), "MAP_SHARED": Bits(0xf, 1), "MAP_PRIVATE": Bits(0xf, 2),
        "MAP_SHARED_VALIDATE": Bits(0xf, 3), "MAP_DROPPABLE": Bits(0xf, 8),
        "MAP_FIXED": bit(0x10), "MAP_ANONYMOUS": bit(0x20), "MAP_32BIT": bit(0x40),
        "MAP_ABOVE4G": bit(0x80), "MAP_GROWSDOWN": bit(0x100), "MAP_DENYWRITE": bit(0x800),
        "MAP_EXECUTABLE": bit(0x1000), "MAP_LOCKED": bit(0x2000), "MAP_NORESERVE": bit(0x4000),
        "MAP_POPULATE": bit(0x8000), "MAP_NONBLOCK": bit(0x1_0000), "MAP_STACK": bit(0x2_0000),
        "MAP_HUGETLB": bit(0x4_0000), "MAP_SYNC": bit(0x8_0000),
        "MAP_FIXED_NOREPLACE": bit(0x10_0000), "MAP_UNINITIALIZED": bit(0x400_0000),
    }
    Munmap [0] { "addr unaligned": Unaligned }
    Munmap [1] { "len=0": Value(0) }
    Mprotect [0] { "addr unaligned": Unaligned }
    Mprotect [1] { "len=0": Value(0) }
    Mprotect [2] {
        "PROT_NONE": Value(0), "PROT_READ": bit(1), "PROT_WRITE": bit(2), "PROT_EXEC": bit(4),
        "PROT_SEM": bit(8), "PROT_GROWSDOWN": bit(0x0100_0000), "PROT_GROWSUP": bit(0x0200_0000),
    }
    Mremap [0] { "old unaligned": Unaligned }
    Mremap [1] { "old_len=0": Value(0) }
    Mremap [2] { "new_len=0": Value(0) }
    Mremap [3] {
        "no flags": Value(0), "MREMAP_MAYMOVE": bit(1), "MREMAP_FIXED": bit(2),
        "MREMAP_DONTUNMAP": bit(4),
    }
    Brk [0] { "addr=0": Value(0), "addr unaligned": Unaligned }
    Madvise [0] { "addr unaligned": Unaligned }
    Madvise [1] { "len=0": Value(0) }
    Madvise [2] {
        "MADV_NORMAL": Value(0), "MADV_RANDOM": Value(1), "MADV_SEQUENTIAL": Value(2),
        "MADV_WILLNEED": Value(3), "MADV_DONTNEED": Value(4), "MADV_FREE": Value(8),
        "MADV_REMOVE": Value(9), "MADV_DONTFORK": Value(10), "MADV_DOFORK": Value(11),
        "MADV_MERGEABLE": Value(12), "MADV_UNMERGEABLE": Value(13), "MADV_HUGEPAGE": Value(14),
        "MADV_NOHUGEPAGE": Value(15), "MADV_DONTDUMP": Value(16), "MADV_DODUMP": Value(17),
        "MADV_WIPEONFORK": Value(18), "MADV_KEEPONFORK": Value(19), "MADV_COLD": Value(20),
        "MADV_PAGEOUT": Value(21), "MADV_POPULATE_READ": Value(22),
        "MADV_POPULATE_WRITE": Value(23), "MADV_DONTNEED_LOCKED": Value(24),
        "MADV_COLLAPSE": Value(25), "MADV_HWPOISON": Value(100), "MADV_SOFT_OFFLINE": Value(101),
        "MADV_GUARD_INSTALL": Value(102), "MADV_GUARD_REMOVE": Value(103),
    }
    Msync [2] { "MS_ASYNC": bit(1), "MS_INVALIDATE": bit(2), "MS_SYNC": bit(4) }
    Mincore [0] { "addr unaligned": Unaligned }
    Mlock [0] { "addr unaligned": Unaligned }
    Mlock2 [2] { "no flags": Value(0), "MLOCK_ONFAULT": bit(1) }
    Munlock [0] { "addr unaligned": Unaligned }
    Mlockall [0] { "MCL_CURRENT": bit(1), "MCL_FUTURE": bit(2), "MCL_ONFAULT": bit(4) }
    Mseal [2] { "no flags": Value(0) }
    Rlimit [0] {
        "RLIMIT_DATA": Value(2), "RLIMIT_STACK": Value(3), "RLIMIT_MEMLOCK": Value(8),
        "RLIMIT_AS": Value(9),
    }
    RemapFilePages [4] { "MAP_NONBLOCK": bit(0x1_0000) }
}

impl Flag {
    /// Whether `call` has it.
    pub fn is_in(&self, call: &Call) -> bool {
        let value = call.args[self.argument];
        self.kind == call.kind
            && match self.is {
                Bits(mask, bits) => value & mask == bits,
                Value(is) => value == is,
                Unaligned => value & 0xfff != 0,
            }
    }
}

/// The flags of `kind`, with their places in [`FLAGS`].
pub fn of(kind: Kind) -> impl Iterator<Item = (usize, &'static Flag)> {
    FLAGS.iter().enumerate().filter(move |(_, flag)| flag.kind == kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn map_types_are_values_and_flags_are_bits() {
        let call = Call::new(Kind::Mmap, &[0, 0x1000, 3, 0x22, 0, 0]);
        let names: Vec<&str> = of(Kind::Mmap)
            .filter(|(_, flag)| flag.is_in(&call))
            .map(|(_, flag)| flag.name)
            .collect();
        assert_eq!(names, ["addr=0", "PROT_READ", "PROT_WRITE", "MAP_PRIVATE", "MAP_ANONYMOUS"]);
    }
}
