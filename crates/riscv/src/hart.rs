//! The hart: runs a task's instructions until something needs the kernel.
//!
//! [`Hart::run`] loops over blocks: find the one at `pc`, let it run on into others, see why it
//! came back. The budget is exact: whole blocks run while the longest one still fits, and the last few
//! instructions run as a block that is cut to measure. So where a run ends depends on the
//! program alone, never on what was predecoded before.

use crate::block::{BLOCK_MAX, Builder, Fusion};
use crate::code::CodeCache;
use crate::decode::length;
use crate::exec;
use crate::fp::Fflags;
use crate::op::{Account, Arena, OpRef};
use crate::ram::{CodeEvent, GuestRam};
use crate::regs::Regs;
use crate::state::{Core, F0};
use crate::stats::HartStats;
use crate::trap::Trap;
use kilburn_addr::{Access, AddrRange, PAGE_SHIFT, PAGE_SIZE, Pfn, PhysAddr, VirtAddr};
use kilburn_mmu::mmu::check_mapping;
use kilburn_mmu::{Cause, Flush, Mapping, Mmu, Space, Stale, TlbGeometry, Translator};
use kilburn_paging::{LeafFlags, PhysMem};
use std::sync::Arc;

/// Instructions in a slice, at most. A slice ends in the loop of [`Hart::run`], whatever happens, so
/// it also bounds the host's stack where the compiler does not turn calls in tail position into jumps.
const SLICE: u64 = if cfg!(debug_assertions) { 512 } else { 8192 };

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
    core: Box<Core>,
    code: CodeCache,
    builder: Builder,
    /// Where the block that is cut to measure goes.
    scratch: Arena,
    config: HartConfig,
    /// Code events of the RAM that this hart knows of.
    events_seen: u64,
    stats: HartStats,
}

impl Hart {
    /// A hart on `ram`. Several may share one RAM.
    pub fn new(ram: Arc<GuestRam>, config: HartConfig) -> Self {
        Self {
            code: CodeCache::new(ram.base_pfn(), ram.frames()),
            builder: Builder::new(config.counters),
            scratch: Arena::new(1),
            config,
            events_seen: ram.events(),
            stats: HartStats::default(),
            core: Core::new(ram, Mmu::new(config.tlb), config.counters),
        }
    }

    /// Sets what `rdtime` shows from now on.
    pub fn set_time(&mut self, time: TimeSource) {
        self.core.time = time;
    }

    /// How it was built.
    pub fn config(&self) -> HartConfig {
        self.config
    }

    /// Counts since the hart was made.
    pub fn stats(&self) -> HartStats {
        HartStats { mmu: self.core.mmu.stats(), ..self.stats }
    }

    /// Bytes of host memory that predecoded code takes.
    pub fn code_bytes(&self) -> usize {
        self.code.bytes() + self.scratch.bytes()
    }

    /// Runs the task whose registers are `regs` in `space`, for exactly `budget` instructions
    /// unless something else ends the run.
    pub fn run(&mut self, regs: &mut Regs, space: Space, budget: u64) -> Trap {
        self.enter(regs, space);
        let mut left = budget;
        let trap = loop {
            if left == 0 {
                break Trap::Quantum;
            }
            // A translator is told of every block: they run one by one then.
            let runs_on = left >= BLOCK_MAX && self.core.translator.is_none();
            let slice = if runs_on { SLICE.min(left - BLOCK_MAX) } else { 0 };
            let max = left.min(BLOCK_MAX);
            match self.slice(slice, max) {
                Ok(retired) => left -= retired,
                Err(trap) => break trap,
            }
            if let Some(trap) = self.core.trap.take() {
                break trap;
            }
        };
        self.leave(regs);
        trap
    }

    fn enter(&mut self, regs: &Regs, space: Space) {
        self.learn_code_events();
        let core = &mut *self.core;
        if core.space != Some(space) {
            core.flush_all_lines();
            core.space = Some(space);
        }
        core.r[1..32].copy_from_slice(&regs.x[1..]);
        core.r[usize::from(F0)..][..32].copy_from_slice(&regs.f);
        core.pc = regs.pc & !1;
        core.fflags = Fflags::from_bits_truncate(regs.fcsr as u8);
        core.frm = (regs.fcsr >> 5) as u8 & 7;
        core.reservation = None;
        core.link = None;
        core.retired_before_run = self.stats.instructions;
        core.run_retired = 0;
    }

    fn leave(&mut self, regs: &mut Regs) {
        let core = &*self.core;
        regs.x[0] = 0;
        regs.x[1..].copy_from_slice(&core.r[1..32]);
        regs.f.copy_from_slice(&core.r[usize::from(F0)..][..32]);
        regs.pc = core.pc;
        regs.fcsr = u32::from(core.frm) << 5 | u32::from(core.fflags.bits());
        self.stats.instructions += core.run_retired;
    }

    /// Runs blocks from `pc` on until `slice` instructions are done: `slice` 0 runs one. No block has
    /// more than `max` instructions. Returns how many were retired.
    fn slice(&mut self, slice: u64, max: u64) -> Result<u64, Trap> {
        let link = self.core.link.take();
        let block = if max == BLOCK_MAX { self.block(link)? } else { self.cut_block(max)? };
        self.core.slice = slice;
        let pc = self.core.pc;
        let account = exec::run(&mut self.core, block, Account::start(slice), pc);
        let retired = (slice as i64 - account.left()) as u64;
        self.stats.loads += account.loads() + core::mem::take(&mut self.core.extra_loads);
        self.stats.stores += account.stores() + core::mem::take(&mut self.core.extra_stores);
        self.stats.fetches += account.fetches();
        self.core.run_retired += retired;
        if let Some(translator) = &mut self.core.translator {
            translator.retire(retired);
        }
        self.learn_code_events();
        Ok(retired)
    }

    /// The block at `pc`, which `link` leads to from a block in the same page.
    fn block(&mut self, mut link: Option<OpRef>) -> Result<OpRef, Trap> {
        let pc = self.core.pc;
        let known = if self.core.translator.is_none() { self.core.jump_target(pc) } else { None };
        let block = match known {
            Some(block) => block,
            None => {
                let at = self.fetch(pc)?;
                let block = match self.known(at) {
                    Some(block) => block,
                    None => {
                        if self.code.is_full() {
                            self.drop_blocks();
                            link = None;
                        }
                        self.predecode(at)
                    }
                };
                self.core.set_jump(pc, block);
                block
            }
        };
        // The link's slot is still its own: only a store over code ends single blocks, no link is
        // left to set after one, and only dropping all blocks reuses their slots.
        if let Some(link) = link {
            link.set_link(block);
        }
        Ok(block)
    }

    /// Translates the instruction at `pc`, and sees to it that nobody changes it unseen.
    fn fetch(&mut self, pc: u64) -> Result<Fetched, Trap> {
        let page = self.core.page(pc, Access::Exec)?;
        let start = PhysAddr::new(page.pfn.base().get() + VirtAddr::new(pc).page_offset());
        let mut second = None;
        if start.page_offset() == PAGE_SIZE - 2 {
            let mut low = [0; 2];
            self.core.ram.read(start, &mut low);
            if length(u16::from_le_bytes(low)) == 4 {
                second = Some(self.core.page(pc.wrapping_add(2), Access::Exec)?.pfn);
            }
        }
        for frame in core::iter::once(page.pfn).chain(second) {
            if self.core.ram.mark_code(frame) {
                self.learn_code_events();
            }
        }
        Ok(Fetched { start, second })
    }

    fn known(&self, at: Fetched) -> Option<OpRef> {
        match at.second {
            None => self.code.get(at.start),
            Some(second) => self.code.get_straddling(at.start, second),
        }
    }

    fn predecode(&mut self, at: Fetched) -> OpRef {
        self.stats.blocks_decoded += 1;
        match at.second {
            None => {
                let mut bytes = [0; 4 * BLOCK_MAX as usize];
                let bytes = self.read_code(at.start, &mut bytes);
                let (slots, instructions) =
                    self.builder.build(at.start, bytes, BLOCK_MAX, Fusion::On);
                self.stats.instructions_decoded += instructions;
                self.code.insert(at.start, slots)
            }
            Some(second) => {
                let bits = self.read_straddling(at.start, second);
                self.stats.instructions_decoded += 1;
                let slots = self.builder.build_straddling(at.start, bits);
                self.code.insert_straddling(at.start, second, slots)
            }
        }
    }

    /// The block at `pc`, of at most `max` instructions, to be run once.
    fn cut_block(&mut self, max: u64) -> Result<OpRef, Trap> {
        let at = self.fetch(self.core.pc)?;
        // No reference to the block cut before is left: jump lines never have one, and the link
        // that it may have left was taken.
        self.scratch.clear();
        let slots = match at.second {
            None => {
                let mut bytes = [0; 4 * BLOCK_MAX as usize];
                let bytes = self.read_code(at.start, &mut bytes);
                self.builder.build(at.start, bytes, max, Fusion::Off).0
            }
            Some(second) => {
                let bits = self.read_straddling(at.start, second);
                self.builder.build_straddling(at.start, bits)
            }
        };
        Ok(self.scratch.add(slots).0)
    }

    /// The page's bytes from `start` on, as far as they fit into `bytes`.
    fn read_code<'a>(&self, start: PhysAddr, bytes: &'a mut [u8]) -> &'a [u8] {
        let len = bytes.len().min((PAGE_SIZE - start.page_offset()) as usize);
        let bytes = &mut bytes[..len];
        self.core.ram.read(start, bytes);
        bytes
    }

    fn read_straddling(&self, start: PhysAddr, second: Pfn) -> u32 {
        let mut bytes = [0; 4];
        let (low, high) = bytes.split_at_mut(2);
        self.core.ram.read(start, low);
        self.core.ram.read(second.base(), high);
        u32::from_le_bytes(bytes)
    }

    /// Takes note of what happened to code in RAM, whoever did it.
    #[inline]
    fn learn_code_events(&mut self) {
        if self.core.ram.events() != self.events_seen {
            self.learn_new_code_events();
        }
    }

    #[cold]
    fn learn_new_code_events(&mut self) {
        let (events, seen) = self.core.ram.events_since(self.events_seen);
        self.events_seen = seen;
        let Some(events) = events else {
            self.drop_blocks();
            self.core.flush_lines();
            return;
        };
        for event in events {
            match event {
                CodeEvent::Added(frame) => {
                    let ptr = self.core.ram.frame_ptr(frame).expect("the event names a frame");
                    self.core.revoke_writes(ptr);
                }
                CodeEvent::Written(frame) => {
                    self.stats.frames_invalidated += 1;
                    self.code.drop_frame(frame);
                    self.core.flush_jumps();
                    self.core.link = None;
                }
            }
        }
    }

    fn drop_blocks(&mut self) {
        self.code.clear();
        self.core.flush_jumps();
        self.core.link = None;
    }

    /// Has `translator` asked for every access from now on, instead of the hart's own TLB. Instructions are fetched by
    /// blocks of at most 64: one access for each.
    ///
    /// A hart with a translator is many times slower; without one nothing of this costs anything.
    pub fn set_translator(&mut self, translator: Box<dyn Translator + Send>) {
        self.drop_blocks();
        self.core.flush_all_lines();
        self.core.translator = Some(translator);
    }

    /// Drops cached translations.
    pub fn flush(&mut self, what: Flush) {
        self.flush_for(what, Cause::Other);
    }

    /// Drops cached translations, because of `cause`.
    pub fn flush_for(&mut self, what: Flush, cause: Cause) {
        let core = &mut *self.core;
        core.mmu.flush(what);
        if let Some(translator) = &mut core.translator {
            translator.flush(what, cause);
        }
        let Some(space) = core.space else { return };
        match what {
            Flush::All => core.flush_all_lines(),
            Flush::Asid(asid) if asid == space.asid => core.flush_all_lines(),
            Flush::Range { asid, range } if asid == space.asid && !range.is_empty() => {
                let (first, last) = (range.start().get(), range.end().get() - 1);
                core.flush_all_lines_in(first, last);
            }
            Flush::Asid(_) | Flush::Range { .. } => {}
        }
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

    /// Checks **tlb-within-tables** for everything cached of `space`: the TLB, and the host pointers
    /// and blocks in front of it.
    ///
    /// # Errors
    /// The first [`Stale`] translation.
    ///
    /// # Panics
    /// When a write could reach predecoded code unseen, which is a bug of this crate.
    pub fn check_tlb(&self, space: Space) -> Result<(), Stale> {
        let core = &*self.core;
        let ram = &*core.ram;
        core.mmu.check(ram, space)?;
        if core.space != Some(space) {
            return Ok(());
        }
        let used = LeafFlags::USER | LeafFlags::ACCESSED;
        let write = used | LeafFlags::WRITE | LeafFlags::DIRTY;
        for (lines, flags) in [(&core.read, used | LeafFlags::READ), (&core.write, write)] {
            for (va, frame) in lines.iter().filter_map(crate::host::Line::page) {
                let pfn = ram.frame_at(frame);
                check_mapping(ram, space, va, Mapping { pfn, flags, span_shift: PAGE_SHIFT })?;
                let may_write = flags.contains(LeafFlags::WRITE);
                let is_current = ram.events() == self.events_seen;
                assert!(!(may_write && is_current && ram.is_code(pfn)), "{va} leads to code");
            }
        }
        let exec = used | LeafFlags::EXEC;
        for (va, block) in core.known_jumps() {
            let pfn = block.block_start().pfn();
            check_mapping(ram, space, va, Mapping { pfn, flags: exec, span_shift: PAGE_SHIFT })?;
        }
        Ok(())
    }
}

/// Where the instruction at `pc` is.
#[derive(Clone, Copy)]
struct Fetched {
    start: PhysAddr,
    /// The frame it ends in, if that is another.
    second: Option<Pfn>,
}
