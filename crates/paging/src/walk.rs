//! The hardware's walk: from a virtual address to a leaf, reading tables in memory.
//!
//! RISC-V Privileged Architecture 20240411, 10.3.2; the same descent serves every format.

use crate::format::{Entry, Format, Leaf, LeafFlags};
use crate::phys_mem::PhysMem;
use kilburn_addr::{Access, Pfn, PhysAddr, VirtAddr};

/// A translation found by [`walk`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Translation {
    /// The leaf, with A and D as they are after the access.
    pub leaf: Leaf,
    /// Level the leaf was found at: 0 for 4 KiB pages.
    pub level: u8,
    /// Where the leaf entry lies.
    pub entry_at: PhysAddr,
}

/// Why there is no translation; every one becomes a page fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WalkFault {
    /// The address is not canonical.
    NotCanonical,
    /// An entry on the way is not valid to hardware, or malformed.
    NotPresent,
    /// The page is there and does not permit the access.
    Denied,
}

/// Where entry `index` of the table in `table` lies.
#[inline]
pub fn entry_addr(table: Pfn, index: usize) -> PhysAddr {
    PhysAddr::new(table.base().get() + index as u64 * 8)
}

/// Translates a user-mode `access` to `va` through the tables at `root`, setting A and D in the
/// leaf as hardware with Svadu does.
///
/// # Errors
/// [`WalkFault`] when there is no translation that permits the access; nothing was changed then.
#[inline]
pub fn walk<M: PhysMem + ?Sized, F: Format>(
    mem: &M,
    format: F,
    root: Pfn,
    va: VirtAddr,
    access: Access,
) -> Result<Translation, WalkFault> {
    if !format.is_canonical(va) {
        return Err(WalkFault::NotCanonical);
    }
    let mut table = root;
    let mut level = format.levels() - 1;
    loop {
        let entry_at = entry_addr(table, format.index(va, level));
        let raw = mem.load(entry_at);
        match format.decode(raw, level) {
            Entry::Table(next) if level > 0 => {
                table = next;
                level -= 1;
            }
            Entry::Leaf(leaf) => {
                if !leaf.flags.intersects(LeafFlags::RIGHTS) {
                    return Err(WalkFault::NotPresent);
                }
                if !leaf.flags.contains(LeafFlags::USER) || !leaf.flags.permits(access) {
                    return Err(WalkFault::Denied);
                }
                let frames = (1 << (format.span_shift(level) - format.span_shift(0))) - 1;
                if leaf.pfn.get() & frames != 0 {
                    return Err(WalkFault::NotPresent);
                }
                let used = raw | format.used_bits(access);
                if used == raw {
                    return Ok(Translation { leaf, level, entry_at });
                }
                match mem.compare_exchange(entry_at, raw, used) {
                    Ok(()) => {
                        let Entry::Leaf(leaf) = format.decode(used, level) else {
                            unreachable!("A and D do not change an entry's kind")
                        };
                        return Ok(Translation { leaf, level, entry_at });
                    }
                    // Somebody changed the entry meanwhile: start again, as hardware does.
                    Err(_) => {
                        table = root;
                        level = format.levels() - 1;
                    }
                }
            }
            _ => return Err(WalkFault::NotPresent),
        }
    }
}
