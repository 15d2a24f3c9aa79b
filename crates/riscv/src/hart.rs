//! The hart: runs a task's instructions until something needs the kernel.

use crate::ram::GuestRam;
use crate::regs::Regs;
use crate::stats::HartStats;
use crate::trap::Trap;
use kilburn_addr::{Access, AddrRange, PAGE_SIZE, PhysAddr, VirtAddr};
use kilburn_mmu::{Flush, Mmu, Space, Stale, TlbGeometry};
use kilburn_paging::PhysMem;
use std::sync::Arc;

/// Which counters a user program may read (RISC-V `scounteren`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CounterAccess {
    /// `rdcycle`
    pub cycle: bool,
    /// `rdtime`
    pub time: bool,
    /// `rdinstret`
    pub instret: bool,
}

impl CounterAccess {
    /// What Linux 6.12 gives a user program: `rdtime` alone (asked on a riscv64 kernel).
    pub const LINUX: Self = Self { cycle: false, time: true, instret: false };
}

/// What `rdtime` shows: a clock that goes by instructions, so that runs repeat.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TimeSource {
    /// Value when the next [`Hart::run`] begins.
    pub ticks: u64,
    /// Instructions after which it is one more; 0 makes it stand still.
    pub instructions_per_tick: u64,
}

/// How a hart is built.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HartConfig {
    /// Shape of the TLB.
    pub tlb: TlbGeometry,
    /// Counters open to programs.
    pub counters: CounterAccess,
}

impl Default for HartConfig {
    fn default() -> Self {
        Self { tlb: TlbGeometry::DEFAULT, counters: CounterAccess::LINUX }
    }
}

/// One RV64GC processor, user mode only: the kernel is the caller.
pub struct Hart {
    ram: Arc<GuestRam>,
    mmu: Mmu,
    config: HartConfig,
    time: TimeSource,
    stats: HartStats,
}

impl Hart {
    /// A hart on `ram`. Several may share one RAM.
    pub fn new(ram: Arc<GuestRam>, config: HartConfig) -> Self {
        Self {
            ram,
            mmu: Mmu::new(config.tlb),
            config,
            time: TimeSource { ticks: 0, instructions_per_tick: 0 },
            stats: HartStats::default(),
        }
    }

    /// Sets what `rdtime` shows from now on.
    pub fn set_time(&mut self, time: TimeSource) {
        self.time = time;
    }

    /// How it was built.
    pub fn config(&self) -> HartConfig {
        self.config
    }

    /// Counts since the hart was made.
    pub fn stats(&self) -> HartStats {
        HartStats { mmu: self.mmu.stats(), ..self.stats }
    }

    /// Runs the task whose registers are `regs` in `space`, for exactly `budget` instructions
    /// unless something else ends the run.
    pub fn run(&mut self, regs: &mut Regs, space: Space, budget: u64) -> Trap {
        regs.x[0] = 0;
        regs.pc &= !1;
        for _ in 0..budget {
            if let Err(trap) = self.step(regs, space) {
                return trap;
            }
            self.stats.instructions += 1;
        }
        Trap::Quantum
    }

    fn at(&mut self, space: Space, va: u64, access: Access) -> Result<PhysAddr, Trap> {
        let addr = VirtAddr::new(va);
        match self.mmu.translate(&*self.ram, space, addr, access) {
            Ok(mapping) if self.ram.contains(mapping.pfn) => {
                Ok(PhysAddr::new(mapping.pfn.base().get() + addr.page_offset()))
            }
            Ok(_) => Err(Trap::AccessFault { addr, access }),
            Err(_) => Err(Trap::PageFault { addr, access }),
        }
    }

    fn step(&mut self, regs: &mut Regs, space: Space) -> Result<(), Trap> {
        let at = self.at(space, regs.pc, Access::Exec)?;
        let _ = PAGE_SIZE;
        let mut bytes = [0; 4];
        self.ram.read(at, &mut bytes);
        match u32::from_le_bytes(bytes) {
            0x73 => Err(Trap::Syscall),
            0x0010_0073 => Err(Trap::Breakpoint),
            bits => Err(Trap::Illegal { bits }),
        }
    }

    /// Drops cached translations.
    pub fn flush(&mut self, what: Flush) {
        self.mmu.flush(what);
    }

    /// Drops every cached translation.
    pub fn flush_all(&mut self) {
        self.flush(Flush::All);
    }

    /// Drops the cached translations of `asid`.
    pub fn flush_asid(&mut self, asid: u16) {
        self.flush(Flush::Asid(asid));
    }

    /// Drops the cached translations of `asid` for addresses in `range`.
    pub fn flush_range(&mut self, asid: u16, range: AddrRange) {
        self.flush(Flush::Range { asid, range });
    }

    /// Checks **tlb-within-tables** for everything cached of `space`.
    ///
    /// # Errors
    /// The first [`Stale`] translation.
    pub fn check_tlb(&self, space: Space) -> Result<(), Stale> {
        self.mmu.check(&*self.ram, space)
    }
}
