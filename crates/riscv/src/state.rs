//! What handlers work on: registers, translation lines, the state of a run.
//!
//! [`Line`] is the fast path of an access: a host pointer under a page number, for one kind of
//! access. [`JumpLine`] is the same for code: a block under a virtual address. Both are small
//! direct-mapped tables, hold only translations of the current space that permit the access, and
//! are flushed with the TLB. Neighbours: `translate` fills lines, `exec` uses them, `hart` owns all.

use crate::fp::Fflags;
use crate::hart::{CounterAccess, TimeSource};
use crate::host::{FramePtr, Line};
use crate::op::{Account, OpRef};
use crate::ram::GuestRam;
use crate::trap::Trap;
use kilburn_addr::{PAGE_MASK, VirtAddr};
use kilburn_mmu::{Mmu, Space, Translator};
use std::sync::Arc;

/// Lines for loads, and as many for stores.
pub(crate) const LINES: usize = 256;
/// Lines for code.
pub(crate) const JUMPS: usize = 4096;
/// Address bits that say which jump line, and bit 0, which is zero: a tag needs none of them.
const JUMP_LOW: u64 = 2 * JUMPS as u64 - 1;

/// Where writes to `x0` go in [`Core::r`].
pub(crate) const SINK: u8 = 32;
/// Where `f0` is in [`Core::r`].
pub(crate) const F0: u8 = 64;

/// A block under a virtual address.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct JumpLine {
    /// The address, with the generation in place of the bits that are the line's index.
    tag: u64,
    op: OpRef,
}

/// What `lr` left for `sc`. It lives until the run ends, so no other hart and no kernel has run in
/// between (docs/decisions/0004).
#[derive(Clone, Copy)]
pub(crate) struct Reservation {
    pub(crate) at: usize,
    pub(crate) size: u64,
    pub(crate) value: u64,
}

/// A hart's inside.
#[repr(C)]
pub(crate) struct Core {
    /// `x0` to `x31`, then [`SINK`], then from [`F0`] `f0` to `f31`. As long as an index can say,
    /// so that indexing needs no check.
    pub(crate) r: [u64; 256],
    pub(crate) read: [Line; LINES],
    pub(crate) write: [Line; LINES],
    pub(crate) jumps: [JumpLine; JUMPS],
    /// Jump lines with another generation are void. In 1..=[`JUMP_LOW`]-1.
    generation: u64,
    /// Where to go on, when a handler returns to the loop.
    pub(crate) pc: u64,
    /// Why to stop, if so.
    pub(crate) trap: Option<Trap>,
    /// The `Ext` that leads to `pc` and has no link yet.
    pub(crate) link: Option<OpRef>,
    pub(crate) fflags: Fflags,
    pub(crate) frm: u8,
    pub(crate) reservation: Option<Reservation>,
    pub(crate) counters: CounterAccess,
    pub(crate) time: TimeSource,
    /// Instructions retired in the slices of this run before the current one, and in earlier runs.
    pub(crate) run_retired: u64,
    pub(crate) retired_before_run: u64,
    /// Instructions the current slice started with.
    pub(crate) slice: u64,
    /// Lookups beyond one an access: those that straddle two pages.
    pub(crate) extra_loads: u64,
    pub(crate) extra_stores: u64,
    pub(crate) ram: Arc<GuestRam>,
    pub(crate) mmu: Mmu,
    /// Asked for every access instead of `mmu`, if there: no line is granted then.
    pub(crate) translator: Option<Box<dyn Translator + Send>>,
    pub(crate) space: Option<Space>,
    /// Whether lines may exist for parts of pages larger than 4 KiB.
    pub(crate) has_large: bool,
    /// Pages that jump lines of this generation were made for; see [`Core::flush_jumps_in`].
    jump_pages: Vec<u64>,
    jump_pages_complete: bool,
}

/// Pages remembered in [`Core::jump_pages`].
const JUMP_PAGES: usize = 128;

impl Core {
    pub(crate) fn new(ram: Arc<GuestRam>, mmu: Mmu, counters: CounterAccess) -> Box<Self> {
        Box::new(Self {
            r: [0; 256],
            read: [Line::EMPTY; LINES],
            write: [Line::EMPTY; LINES],
            jumps: [JumpLine { tag: 0, op: OpRef::NOWHERE }; JUMPS],
            generation: 1,
            pc: 0,
            trap: None,
            link: None,
            fflags: Fflags::empty(),
            frm: 0,
            reservation: None,
            counters,
            time: TimeSource { ticks: 0, instructions_per_tick: 0 },
            run_retired: 0,
            retired_before_run: 0,
            slice: 0,
            extra_loads: 0,
            extra_stores: 0,
            ram,
            mmu,
            translator: None,
            space: None,
            has_large: false,
            jump_pages: Vec::with_capacity(JUMP_PAGES),
            jump_pages_complete: true,
        })
    }

    #[inline(always)]
    pub(crate) fn x(&self, index: u8) -> u64 {
        self.r[usize::from(index)]
    }

    #[inline(always)]
    pub(crate) fn set(&mut self, index: u8, value: u64) {
        self.r[usize::from(index)] = value;
    }

    #[inline(always)]
    pub(crate) fn read_line(&self, addr: u64) -> &Line {
        &self.read[(addr >> 12) as usize % LINES]
    }

    #[inline(always)]
    pub(crate) fn write_line(&self, addr: u64) -> &Line {
        &self.write[(addr >> 12) as usize % LINES]
    }

    /// The block known for `pc`.
    #[inline(always)]
    pub(crate) fn jump_target(&self, pc: u64) -> Option<OpRef> {
        let line = &self.jumps[(pc >> 1) as usize % JUMPS];
        (line.tag == pc & !JUMP_LOW | self.generation).then_some(line.op)
    }

    /// Makes `block` the one known for `pc`.
    pub(crate) fn set_jump(&mut self, pc: u64, block: OpRef) {
        let tag = pc & !JUMP_LOW | self.generation;
        self.jumps[(pc >> 1) as usize % JUMPS] = JumpLine { tag, op: block };
        let page = pc & PAGE_MASK;
        if self.jump_pages_complete && !self.jump_pages.contains(&page) {
            if self.jump_pages.len() < JUMP_PAGES {
                self.jump_pages.push(page);
            } else {
                self.jump_pages_complete = false;
            }
        }
    }

    /// The addresses known, with their blocks.
    pub(crate) fn known_jumps(&self) -> impl Iterator<Item = (VirtAddr, OpRef)> {
        let of_now = |line: &JumpLine| line.tag & JUMP_LOW == self.generation;
        (0_u64..)
            .zip(&self.jumps)
            .filter(move |(_, line)| of_now(line))
            .map(|(index, line)| (VirtAddr::new(line.tag & !JUMP_LOW | index << 1), line.op))
    }

    /// Forgets which addresses lead to which blocks.
    pub(crate) fn flush_jumps(&mut self) {
        self.generation += 1;
        if self.generation == JUMP_LOW {
            self.generation = 1;
            self.jumps.fill(JumpLine { tag: 0, op: OpRef::NOWHERE });
        }
        self.jump_pages.clear();
        self.jump_pages_complete = true;
    }

    /// Forgets which addresses in `first..=last` lead to which blocks.
    fn flush_jumps_in(&mut self, first: u64, last: u64) {
        let hit = |page: &u64| *page <= last && *page + !PAGE_MASK >= first;
        // A straddling instruction belongs to the page before as well.
        let before = first.saturating_sub(1) & PAGE_MASK;
        if !self.jump_pages_complete
            || self.jump_pages.iter().any(|page| hit(page) || *page == before)
        {
            self.flush_jumps();
        }
    }

    /// Forgets all lines.
    pub(crate) fn flush_all_lines(&mut self) {
        self.flush_lines();
        self.flush_jumps();
        self.has_large = false;
    }

    /// Forgets the lines of the pages that `first..=last` touches.
    pub(crate) fn flush_all_lines_in(&mut self, first: u64, last: u64) {
        if self.has_large {
            // One address of a larger page flushes all of it.
            self.flush_all_lines();
        } else {
            self.flush_lines_in(first, last);
            self.flush_jumps_in(first, last);
        }
    }

    /// Forgets the host pointers.
    pub(crate) fn flush_lines(&mut self) {
        self.read.fill(Line::EMPTY);
        self.write.fill(Line::EMPTY);
    }

    /// Forgets the host pointers of the pages that `first..=last` touches.
    fn flush_lines_in(&mut self, first: u64, last: u64) {
        let (first, last) = (first & PAGE_MASK, last & PAGE_MASK);
        if (last - first) >> 12 >= LINES as u64 {
            self.flush_lines();
            return;
        }
        let mut page = first;
        loop {
            let index = (page >> 12) as usize % LINES;
            for lines in [&mut self.read, &mut self.write] {
                if lines[index].page().is_some_and(|(at, _)| at.get() == page) {
                    lines[index] = Line::EMPTY;
                }
            }
            if page == last {
                break;
            }
            page += 1 << 12;
        }
    }

    /// Forgets the ways to write to the frame at `frame`.
    pub(crate) fn revoke_writes(&mut self, frame: FramePtr) {
        for line in &mut self.write {
            if line.page().is_some_and(|(_, at)| at == frame) {
                *line = Line::EMPTY;
            }
        }
    }

    /// Instructions retired in this run by the time an operation runs that `before` instructions
    /// of its block precede.
    pub(crate) fn retired_in_run(&self, account: Account, before: u64) -> u64 {
        self.run_retired + (self.slice as i64 - account.left()) as u64 + before
    }
}
