//! Where things go in an address space: sizes, the mmap base, the stack top, randomisation.
//!
//! A [`Layout`] is chosen at exec, as `arch_pick_mmap_layout` does, and stays with the `Mm`.
//! [`Arch`] holds what never changes for an architecture; [`LayoutRequest`] what exec knows: the
//! stack limit, the legacy switch and the source of randomness (none: `ADDR_NO_RANDOMIZE`).
//!
//! ```text
//!  task_size  +-----------------------+
//!             |  by hint only (sv57)  |
//!  stack_top  +-----------------------+      top-down            bottom-up
//!             |  stack, grows down    |
//!             |  gap: stack limit     |
//!  mmap_base  +-----------------------+  ---- first mapping
//!             |          |            |      |
//!             |          v            |      v                   ^
//!             |                       |                          |
//!  mmap_base  |                       |                     ---- first mapping
//!             |  brk, grows up        |
//!             |  program              |
//!   min_addr  +-----------------------+
//! ```
//!
//! The gap search that uses a layout is in [`crate::areas`].
//!
//! # The 32-bit picture
//!
//! Four gigabytes, the last one the kernel's. With 8 MiB of stack and nothing random:
//!
//! ```text
//!              i386, today                   i386, classic
//!  0xffffffff  +------------------------+    +------------------------+
//!              |  kernel, 1 GiB         |    |  kernel, 1 GiB         |
//!  0xc0000000  +------------------------+    +------------------------+  TASK_SIZE
//!              |  stack                 |    |  stack                 |
//!              |  128 MiB kept for it   |    |          v             |
//!  0xb8000000  +------------------------+    |                        |
//!              |  mappings, downwards   |    |          ^             |
//!              |          v             |    |  mappings, upwards     |
//!              |                        |    +------------------------+  0x40000000, a third
//!              |          ^             |    |          ^             |
//!              |  heap                  |    |  heap                  |
//!              |  program               |    |  program               |
//!  0x08048000  +------------------------+    +------------------------+
//! ```
//!
//! ```
//! use kilburn_mm::layout::{Arch, Direction, Layout, LayoutRequest, LegacyLayout};
//!
//! let today = Layout::fixed(Arch::I386);
//! assert_eq!(today.task_size().get(), 3 << 30);
//! assert_eq!(today.stack_top().get(), 3 << 30);
//! assert_eq!(today.mmap_base().get(), (3 << 30) - (128 << 20));
//! assert_eq!(today.direction(), Direction::TopDown);
//!
//! let request = LayoutRequest { legacy: LegacyLayout::Always, ..LayoutRequest::default() };
//! let classic = Layout::pick(Arch::I386, request);
//! assert_eq!(classic.mmap_base().get(), (3 << 30) / 3);
//! assert_eq!(classic.direction(), Direction::BottomUp);
//! ```

use core::fmt;
use kilburn_addr::{PAGE_SHIFT, PAGE_SIZE, VirtAddr};

/// `RLIM_INFINITY`: no stack limit.
pub const RLIM_INFINITY: u64 = u64::MAX;

/// Linux `stack_guard_gap` as booted: 256 pages.
pub const STACK_GUARD_GAP_BYTES: u64 = 256 * PAGE_SIZE;

const MIN_GAP: u64 = 128 << 20;
const GIB: u64 = 1 << 30;

/// An architecture and paging mode, as far as it shapes user address spaces.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Arch {
    /// riscv64 with three-level tables.
    RiscvSv39,
    /// riscv64 with four-level tables.
    RiscvSv48,
    /// riscv64 with five-level tables; addresses above 47 bits only by hint.
    RiscvSv57,
    /// riscv32 as a kernel of its own: user space ends where the fixmap starts.
    Riscv32,
    /// x86-64 with four-level tables.
    X86_64,
    /// x86-64 with five-level tables; addresses above 47 bits only by hint.
    X86_64La57,
    /// i386 with the 3 GiB / 1 GiB split.
    I386,
}

impl Arch {
    /// `TASK_SIZE`: first address that no user mapping may reach.
    pub const fn task_size(self) -> VirtAddr {
        VirtAddr::new(match self {
            // arch/riscv/include/asm/pgtable.h: half of what the tables cover.
            Self::RiscvSv39 => 1 << 38,
            Self::RiscvSv48 => 1 << 47,
            Self::RiscvSv57 => 1 << 56,
            Self::Riscv32 => 0x9c80_0000,
            // arch/x86/include/asm/page_64_types.h: the last page stays unused.
            Self::X86_64 => (1 << 47) - PAGE_SIZE,
            Self::X86_64La57 => (1 << 56) - PAGE_SIZE,
            Self::I386 => 0xc000_0000,
        })
    }

    /// `STACK_TOP`, which is also `DEFAULT_MAP_WINDOW`: nothing is placed above it unasked.
    pub const fn stack_top(self) -> VirtAddr {
        match self {
            Self::RiscvSv57 => VirtAddr::new(1 << 47),
            Self::X86_64La57 => Self::X86_64.task_size(),
            _ => self.task_size(),
        }
    }

    /// `TASK_UNMAPPED_BASE`: where bottom-up layouts start, before randomisation.
    pub const fn unmapped_base(self) -> VirtAddr {
        let third = match self {
            // arch/riscv/include/asm/processor.h: of the smallest window, whatever the mode.
            Self::RiscvSv39 | Self::RiscvSv48 | Self::RiscvSv57 => (1 << 39) / 3,
            _ => self.stack_top().get() / 3,
        };
        VirtAddr::new(third.next_multiple_of(PAGE_SIZE))
    }

    /// `ELF_ET_DYN_BASE`, rounded down to a page: where a position-independent program goes.
    pub const fn et_dyn_base(self) -> VirtAddr {
        match self {
            Self::I386 => VirtAddr::new(0x40_0000),
            _ => VirtAddr::new(self.stack_top().get() / 3 * 2).page_down(),
        }
    }

    /// Bits of randomness in the mmap base, in pages (`/proc/sys/vm/mmap_rnd_bits` as booted).
    pub const fn mmap_rnd_bits(self) -> u32 {
        match self {
            Self::RiscvSv39 | Self::RiscvSv48 | Self::RiscvSv57 => 18,
            Self::X86_64 | Self::X86_64La57 => 28,
            Self::Riscv32 | Self::I386 => 8,
        }
    }

    /// `STACK_RND_MASK`: randomness of the stack top, in pages.
    pub const fn stack_rnd_mask_pages(self) -> u64 {
        match self {
            Self::RiscvSv39 | Self::RiscvSv48 | Self::RiscvSv57 => 0x3_ffff,
            Self::X86_64 | Self::X86_64La57 => 0x3f_ffff,
            Self::Riscv32 | Self::I386 => 0x7ff,
        }
    }

    /// How far above its natural place `brk` may start, in bytes.
    pub const fn brk_rnd_bytes(self) -> u64 {
        match self {
            Self::Riscv32 | Self::I386 => 32 << 20,
            _ => GIB,
        }
    }

    /// Whether an unlimited stack makes the layout bottom-up (mm/util.c: `mmap_is_legacy`; x86
    /// has a rule of its own, arch/x86/mm/mmap.c).
    const fn unlimited_stack_is_legacy(self) -> bool {
        !self.is_x86()
    }

    /// Whether x86's placement rules hold instead of the generic ones.
    pub const fn is_x86(self) -> bool {
        matches!(self, Self::X86_64 | Self::X86_64La57 | Self::I386)
    }

    /// Bytes in the table entry above the leaves: what huge pages are aligned to (`PMD_SIZE`).
    /// `None` where the kernel has no transparent huge pages.
    pub const fn pmd_bytes(self) -> Option<u64> {
        match self {
            Self::Riscv32 | Self::I386 => None,
            _ => Some(2 << 20),
        }
    }
}

/// Which way new mappings grow.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Direction {
    /// Down from `mmap_base` (today's layout).
    TopDown,
    /// Up from `mmap_base` (the classic layout).
    BottomUp,
}

/// Whether the classic layout is asked for (`vm.legacy_va_layout`, `ADDR_COMPAT_LAYOUT`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum LegacyLayout {
    /// Only where Linux itself chooses it: an unlimited stack on riscv.
    #[default]
    WhereLinuxWould,
    /// Always.
    Always,
}

/// What exec knows when it picks a layout.
pub struct LayoutRequest<'a> {
    /// `RLIMIT_STACK`, bytes; [`RLIM_INFINITY`] for none.
    pub stack_limit_bytes: u64,
    /// Linux `stack_guard_gap`, bytes.
    pub stack_guard_gap_bytes: u64,
    /// Whether the classic layout is asked for.
    pub legacy: LegacyLayout,
    /// Source of randomness; `None` is `ADDR_NO_RANDOMIZE`.
    pub random: Option<&'a mut dyn FnMut() -> u64>,
}

impl fmt::Debug for LayoutRequest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LayoutRequest")
            .field("stack_limit_bytes", &self.stack_limit_bytes)
            .field("legacy", &self.legacy)
            .field("random", &self.random.is_some())
            .finish_non_exhaustive()
    }
}

impl Default for LayoutRequest<'_> {
    /// 8 MiB of stack, nothing random.
    fn default() -> Self {
        Self {
            stack_limit_bytes: 8 << 20,
            stack_guard_gap_bytes: STACK_GUARD_GAP_BYTES,
            legacy: LegacyLayout::default(),
            random: None,
        }
    }
}

/// The layout of one address space.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Layout {
    arch: Arch,
    direction: Direction,
    mmap_base: VirtAddr,
    legacy_base: VirtAddr,
    stack_top: VirtAddr,
    et_dyn_base: VirtAddr,
    brk_offset_bytes: u64,
}

impl Layout {
    /// Picks the layout for `arch` as exec does (Linux 6.18 mm/util.c: `arch_pick_mmap_layout`;
    /// arch/x86/mm/mmap.c).
    ///
    /// Four random numbers are drawn when there is a source: mmap base, stack top, program base,
    /// brk, in this order.
    pub fn pick(arch: Arch, request: LayoutRequest<'_>) -> Self {
        let LayoutRequest { stack_limit_bytes, stack_guard_gap_bytes, legacy, random } = request;
        let randomised = random.is_some();
        let mut draw = match random {
            Some(random) => [random(), random(), random(), random()],
            None => [0; 4],
        }
        .into_iter();
        let mut next = || draw.next().unwrap_or_default();

        let rnd_mask = (1 << arch.mmap_rnd_bits()) - 1;
        let mmap_rnd = (next() & rnd_mask) << PAGE_SHIFT;
        let stack_rnd = (next() & arch.stack_rnd_mask_pages()) << PAGE_SHIFT;
        let program_rnd = (next() & rnd_mask) << PAGE_SHIFT;
        let brk_pages = arch.brk_rnd_bytes() >> PAGE_SHIFT;
        let brk_offset_bytes = if randomised { (next() % brk_pages) << PAGE_SHIFT } else { 0 };

        let mut pad = stack_guard_gap_bytes;
        if randomised {
            pad += arch.stack_rnd_mask_pages() << PAGE_SHIFT;
        }
        let gap = stack_gap(arch, stack_limit_bytes, pad);
        let top_base = (arch.stack_top().get() - gap - mmap_rnd).next_multiple_of(PAGE_SIZE);
        let legacy_base = VirtAddr::new(arch.unmapped_base().get() + mmap_rnd);
        let unlimited = stack_limit_bytes == RLIM_INFINITY && arch.unlimited_stack_is_legacy();
        let direction = match legacy {
            LegacyLayout::Always => Direction::BottomUp,
            LegacyLayout::WhereLinuxWould if unlimited => Direction::BottomUp,
            LegacyLayout::WhereLinuxWould => Direction::TopDown,
        };
        Self {
            arch,
            direction,
            mmap_base: match direction {
                Direction::TopDown => VirtAddr::new(top_base),
                Direction::BottomUp => legacy_base,
            },
            legacy_base: if arch.is_x86() { legacy_base } else { arch.unmapped_base() },
            stack_top: VirtAddr::new(arch.stack_top().get() - stack_rnd),
            et_dyn_base: VirtAddr::new(arch.et_dyn_base().get() + program_rnd),
            brk_offset_bytes,
        }
    }

    /// The layout of `arch` with an 8 MiB stack limit and nothing random.
    pub fn fixed(arch: Arch) -> Self {
        Self::pick(arch, LayoutRequest::default())
    }

    /// The architecture.
    pub const fn arch(&self) -> Arch {
        self.arch
    }

    /// Which way mappings grow.
    pub const fn direction(&self) -> Direction {
        self.direction
    }

    /// `TASK_SIZE`.
    pub const fn task_size(&self) -> VirtAddr {
        self.arch.task_size()
    }

    /// `mm->mmap_base`: where the search for a free range starts.
    pub const fn mmap_base(&self) -> VirtAddr {
        self.mmap_base
    }

    /// Where the search starts again, upwards, when nothing was free below the base
    /// (`TASK_UNMAPPED_BASE`; on x86 `mm->mmap_legacy_base`).
    pub const fn fallback_base(&self) -> VirtAddr {
        self.legacy_base
    }

    /// `DEFAULT_MAP_WINDOW`: nothing is placed above it unasked.
    pub const fn default_window(&self) -> VirtAddr {
        self.arch.stack_top()
    }

    /// Top of the stack, after randomisation (`randomize_stack_top`).
    pub const fn stack_top(&self) -> VirtAddr {
        self.stack_top
    }

    /// Where a position-independent program without interpreter constraints is loaded, after
    /// randomisation (`ELF_ET_DYN_BASE + arch_mmap_rnd()`).
    pub const fn et_dyn_base(&self) -> VirtAddr {
        self.et_dyn_base
    }

    /// `mm->start_brk` for a program whose data ends at `data_end` (`arch_randomize_brk`).
    /// `None` when that is past the address space.
    pub fn brk_start(&self, data_end: VirtAddr) -> Option<VirtAddr> {
        if self.brk_offset_bytes == 0 {
            return Some(data_end);
        }
        let start = data_end.page_up()?.checked_add(self.brk_offset_bytes)?;
        (start < self.task_size()).then_some(start)
    }

    /// The same layout with another mmap base (tests and tools that work in a window).
    #[must_use]
    pub const fn with_mmap_base(mut self, base: VirtAddr) -> Self {
        self.mmap_base = base;
        self
    }
}

/// Room left for the stack below `STACK_TOP`: its limit and a pad, at least 128 MiB and at most
/// five sixths of the space (Linux 6.18 mm/util.c: `mmap_base`).
fn stack_gap(arch: Arch, stack_limit_bytes: u64, pad: u64) -> u64 {
    // A limit close to infinity: the pad is dropped, as Linux does.
    let wanted = stack_limit_bytes.checked_add(pad).unwrap_or(stack_limit_bytes);
    wanted.clamp(MIN_GAP, arch.stack_top().get() / 6 * 5)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pick(arch: Arch, stack_limit_bytes: u64, legacy: LegacyLayout) -> Layout {
        Layout::pick(arch, LayoutRequest { stack_limit_bytes, legacy, ..LayoutRequest::default() })
    }

    const MIB: u64 = 1 << 20;

    /// End of `[vdso]` (the first area placed) under `setarch -R` or `randomize_va_space=0`, as
    /// real kernels print it (riscv64 6.12, x86-64 6.18; i386 through `setarch i386 --3gb`).
    #[test]
    fn mmap_bases_are_what_real_kernels_show() {
        use Arch::*;
        use LegacyLayout::*;
        let seen = [
            (RiscvSv39, 8 * MIB, WhereLinuxWould, 0x3f_f800_0000_u64),
            (RiscvSv48, 8 * MIB, WhereLinuxWould, 0x7fff_f800_0000),
            (RiscvSv57, 8 * MIB, WhereLinuxWould, 0x7fff_f800_0000),
            (RiscvSv39, 1024 * MIB, WhereLinuxWould, 0x3f_bff0_0000),
            (RiscvSv48, 1024 * MIB, WhereLinuxWould, 0x7fff_bff0_0000),
            (X86_64, 8 * MIB, WhereLinuxWould, 0x7fff_f7ff_f000),
            (X86_64, 1024 * MIB, WhereLinuxWould, 0x7fff_bfef_f000),
            (X86_64, RLIM_INFINITY, WhereLinuxWould, 0x1555_5555_6000),
            (I386, 8 * MIB, WhereLinuxWould, 0xb800_0000),
        ];
        for (arch, stack, legacy, base) in seen {
            let layout = pick(arch, stack, legacy);
            assert_eq!(layout.direction(), Direction::TopDown, "{arch:?}");
            assert_eq!(layout.mmap_base().get(), base, "{arch:?} {stack:#x}");
        }
        let seen = [
            (RiscvSv39, RLIM_INFINITY, WhereLinuxWould, 0x2a_aaaa_b000_u64),
            (RiscvSv48, RLIM_INFINITY, WhereLinuxWould, 0x2a_aaaa_b000),
            (RiscvSv57, RLIM_INFINITY, WhereLinuxWould, 0x2a_aaaa_b000),
            (RiscvSv39, 8 * MIB, Always, 0x2a_aaaa_b000),
            (RiscvSv48, 8 * MIB, Always, 0x2a_aaaa_b000),
            (X86_64, 8 * MIB, Always, 0x2aaa_aaaa_b000),
            (I386, 8 * MIB, Always, 0x4000_0000),
        ];
        for (arch, stack, legacy, base) in seen {
            let layout = pick(arch, stack, legacy);
            assert_eq!(layout.direction(), Direction::BottomUp, "{arch:?}");
            assert_eq!(layout.mmap_base().get(), base, "{arch:?} {stack:#x}");
        }
    }

    #[test]
    fn stack_tops_are_what_real_kernels_show() {
        for (arch, top) in [
            (Arch::RiscvSv39, 0x40_0000_0000_u64),
            (Arch::RiscvSv48, 0x8000_0000_0000),
            (Arch::RiscvSv57, 0x8000_0000_0000),
            (Arch::X86_64, 0x7fff_ffff_f000),
            (Arch::I386, 0xc000_0000),
        ] {
            assert_eq!(Layout::fixed(arch).stack_top().get(), top, "{arch:?}");
        }
    }

    #[test]
    fn programs_without_aslr_go_where_debuggers_know_them() {
        assert_eq!(Layout::fixed(Arch::X86_64).et_dyn_base().get(), 0x5555_5555_4000);
        assert_eq!(Layout::fixed(Arch::RiscvSv39).et_dyn_base().get(), 0x2a_aaaa_a000);
        assert_eq!(Layout::fixed(Arch::RiscvSv48).et_dyn_base().get(), 0x5555_5555_5000);
        assert_eq!(Layout::fixed(Arch::I386).et_dyn_base().get(), 0x40_0000);
    }

    #[test]
    fn randomness_stays_within_its_bits_and_repeats_with_its_seed() {
        for arch in [Arch::RiscvSv39, Arch::X86_64, Arch::I386] {
            let plain = Layout::fixed(arch);
            for pattern in [0, u64::MAX, 0x0123_4567_89ab_cdef] {
                let pick = || {
                    let mut source = || pattern;
                    Layout::pick(
                        arch,
                        LayoutRequest { random: Some(&mut source), ..LayoutRequest::default() },
                    )
                };
                let layout = pick();
                assert_eq!(layout, pick());
                let slack = arch.stack_rnd_mask_pages() << PAGE_SHIFT;
                let lowest = plain.stack_top().get() - slack;
                assert!((lowest..=plain.stack_top().get()).contains(&layout.stack_top().get()));
                assert!(layout.mmap_base() <= plain.mmap_base());
                assert!(layout.mmap_base().is_page_aligned());
                let moved = plain.mmap_base().get() - layout.mmap_base().get();
                let gap = 8 * MIB + STACK_GUARD_GAP_BYTES + slack;
                assert!(moved < (1 << (arch.mmap_rnd_bits() + PAGE_SHIFT)) + gap);
                let brk = layout.brk_start(VirtAddr::new(0x7_8001)).expect("fits");
                assert!(brk.get() < 0x7_9000 + arch.brk_rnd_bytes());
            }
        }
    }
}
