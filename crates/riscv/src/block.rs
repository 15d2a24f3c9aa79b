//! From instructions to a block of operations.
//!
//! A block is a straight run of at most [`BLOCK_MAX`] instructions of one page. Forward branches do not
//! end it: they are exits on the way, and what follows is the case of not being taken. It ends with a
//! jump, a backward branch, a trap, or at the page's end. Immediates that are relative to `pc` become
//! relative to the block's first instruction, so a block runs at any virtual address.
//!
//! Neighbours: `code` asks for blocks and keeps them, `exec` has the handlers.

use crate::decode::{Insn, Kind, decode, length};
use crate::exec::flow::{self, Far, Near};
use crate::exec::system::{CsrAction, CsrOperands, csr};
use crate::exec::{float, fuse, table};
use crate::hart::CounterAccess;
use crate::op::{Count, Handler, Op, Slot};
use crate::state::{F0, SINK};
use kilburn_addr::{PAGE_SIZE, PhysAddr};

/// Instructions in a block, at most. Their length in halfwords fits [`Op::at`].
pub(crate) const BLOCK_MAX: u64 = 64;

/// Slots of a block, at most: a head, an operation and an `Ext` for each instruction, and a jump on.
pub(crate) const SLOTS_MAX: usize = 2 * BLOCK_MAX as usize + 3;

/// Whether operations may be put together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fusion {
    /// Yes: the block will run many times.
    On,
    /// No: it will run once.
    Off,
}

/// An operation of a block in the making.
#[derive(Clone, Copy)]
pub(crate) struct Part {
    pub(crate) op: Op,
    /// For fusion: what it does. `None` for what takes no part in it.
    pub(crate) kind: Option<Kind>,
    /// What the block has done when it is left here, if it can be.
    pub(crate) leaves: Option<Count>,
    /// Whether it is a jump: it leaves the block always.
    pub(crate) jump: Option<Jump>,
}

/// A jump, by how its target is found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Jump {
    /// On or elsewhere, in the page or not.
    GotoNear,
    GotoFar,
    /// A call, in the page or not.
    JalNear,
    JalFar,
    /// To where a register says.
    Jalr,
}

impl Jump {
    fn handler(self) -> Handler {
        match self {
            Self::GotoNear => flow::goto::<Near>,
            Self::GotoFar => flow::goto::<Far>,
            Self::JalNear => flow::jal::<Near>,
            Self::JalFar => flow::jal::<Far>,
            Self::Jalr => flow::jalr,
        }
    }
}

/// Makes blocks. Reused, so that making one allocates nothing.
pub(crate) struct Builder {
    parts: Vec<Part>,
    slots: Vec<Slot>,
    start: PhysAddr,
    counters: CounterAccess,
    count: Tally,
    /// Bytes from the first instruction to the one at hand.
    offset: u32,
    /// The same, from the page's start.
    page_offset: u32,
}

/// What the block has done so far.
#[derive(Clone, Copy, Default)]
struct Tally {
    instructions: u64,
    loads: u64,
    stores: u64,
}

impl Tally {
    fn count(self) -> Count {
        Count::new(self.instructions, self.loads, self.stores, 1)
    }
}

/// Whether the block goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Then {
    GoOn,
    End,
}

impl Builder {
    pub(crate) fn new(counters: CounterAccess) -> Self {
        Self {
            parts: Vec::with_capacity(SLOTS_MAX),
            slots: Vec::with_capacity(SLOTS_MAX),
            start: PhysAddr::ZERO,
            counters,
            count: Tally::default(),
            offset: 0,
            page_offset: 0,
        }
    }

    fn begin(&mut self, start: PhysAddr) {
        self.parts.clear();
        self.start = start;
        self.count = Tally::default();
        self.offset = 0;
        self.page_offset = start.page_offset() as u32;
    }

    fn finish(&mut self) -> &[Slot] {
        self.slots.clear();
        self.slots.push(Slot::head(self.start));
        for part in &self.parts {
            self.slots.push(Slot::op(part.op));
            self.slots.extend(part.leaves.map(Slot::ext));
        }
        &self.slots
    }

    /// Makes the block of at most `max` instructions that starts at `start`. `code` is the page's
    /// bytes from there on, as many as `max` instructions may take. The first instruction must not
    /// go on in the next page. Returns the slots and the number of instructions.
    pub(crate) fn build(
        &mut self,
        start: PhysAddr,
        code: &[u8],
        max: u64,
        fusion: Fusion,
    ) -> (&[Slot], u64) {
        debug_assert!((1..=BLOCK_MAX).contains(&max));
        self.begin(start);
        loop {
            let rest = &code[self.offset as usize..];
            let is_whole = rest.len() >= 2
                && rest.len() >= usize::from(length(u16::from_le_bytes([rest[0], rest[1]])));
            if self.count.instructions == max || !is_whole {
                assert!(self.count.instructions > 0, "the first instruction is whole");
                self.go_on_at(self.offset as i32);
                break;
            }
            let mut bits = [0; 4];
            let taken = rest.len().min(4);
            bits[..taken].copy_from_slice(&rest[..taken]);
            if self.add(decode(u32::from_le_bytes(bits))) == Then::End {
                break;
            }
        }
        if fusion == Fusion::On {
            fuse::fuse(&mut self.parts);
        }
        let instructions = self.count.instructions;
        (self.finish(), instructions)
    }

    /// Makes the block of the one instruction `bits` that starts at `start` and ends in another page.
    pub(crate) fn build_straddling(&mut self, start: PhysAddr, bits: u32) -> &[Slot] {
        self.begin(start);
        if self.add(decode(bits)) == Then::GoOn {
            self.go_on_at(self.offset as i32);
        }
        self.finish()
    }

    fn push(&mut self, op: Op, kind: Option<Kind>) {
        self.parts.push(Part { op, kind, leaves: None, jump: None });
    }

    /// Whether `offset`, counted from the block's start, is in the block's page, and an instruction
    /// there is: the last halfword may begin one that ends in another page, whose block ends with that
    /// page's frame or its mapping.
    fn is_near(&self, offset: i32) -> bool {
        let at = i64::from(self.page_offset) + i64::from(offset);
        (0..PAGE_SIZE as i64 - 2).contains(&at)
    }

    /// Ends the block: the next instruction is `offset` from its start.
    fn go_on_at(&mut self, offset: i32) {
        let jump = if self.is_near(offset) { Jump::GotoNear } else { Jump::GotoFar };
        self.push_jump(
            jump,
            Op { run: jump.handler(), rd: SINK, rs1: 0, rs2: 0, at: 0, imm: offset },
        );
    }

    fn push_jump(&mut self, jump: Jump, op: Op) {
        let (leaves, jump) = (Some(self.count.count()), Some(jump));
        self.parts.push(Part { op, kind: None, leaves, jump });
    }

    fn push_leaving(&mut self, op: Op, kind: Option<Kind>) {
        self.parts.push(Part { op, kind, leaves: Some(self.count.count()), jump: None });
    }

    fn add(&mut self, insn: Insn) -> Then {
        let here = self.offset;
        self.offset += u32::from(insn.len);
        let after = (self.offset / 2) as u8;
        let is_access = insn.kind.loads() + insn.kind.stores() > 0;
        // A trap at this instruction is not a trap behind it: only what ends a block by being
        // executed counts itself.
        let traps = matches!(insn.kind, Kind::Ecall | Kind::Ebreak | Kind::Illegal);
        if !traps {
            self.count.instructions += 1;
            if is_access {
                self.count.loads += insn.kind.loads();
                self.count.stores += insn.kind.stores();
            }
        }
        let target = |imm: i32| (here as i32).wrapping_add(imm);
        match insn.kind {
            Kind::Ecall => self.end_with(flow::ecall, here, 0),
            Kind::Ebreak => self.end_with(flow::ebreak, here, 0),
            Kind::Illegal => self.end_with(flow::illegal, here, insn.imm),
            Kind::Fence => Then::GoOn,
            Kind::Jal if insn.rd == 0 => {
                self.go_on_at(target(insn.imm));
                Then::End
            }
            Kind::Jal => {
                let imm = target(insn.imm);
                let jump = if self.is_near(imm) { Jump::JalNear } else { Jump::JalFar };
                let op = Op { run: jump.handler(), rd: insn.rd, rs1: 0, rs2: 0, at: after, imm };
                self.push_jump(jump, op);
                Then::End
            }
            Kind::Jalr => {
                let (jump, rd, imm) = (Jump::Jalr, or_sink(insn.rd), insn.imm);
                let op = Op { run: jump.handler(), rd, rs1: insn.rs1, rs2: 0, at: after, imm };
                self.push_jump(jump, op);
                Then::End
            }
            Kind::Beq | Kind::Bne | Kind::Blt | Kind::Bge | Kind::Bltu | Kind::Bgeu => {
                self.branch(insn, target(insn.imm))
            }
            Kind::Csrrw
            | Kind::Csrrs
            | Kind::Csrrc
            | Kind::Csrrwi
            | Kind::Csrrsi
            | Kind::Csrrci => self.csr(insn, here),
            _ => {
                self.plain(insn, here);
                Then::GoOn
            }
        }
    }

    fn end_with(&mut self, run: Handler, here: u32, imm: i32) -> Then {
        let at = (here / 2) as u8;
        self.push_leaving(Op { run, rd: SINK, rs1: 0, rs2: 0, at, imm }, None);
        Then::End
    }

    fn branch(&mut self, insn: Insn, imm: i32) -> Then {
        let (run, kind) = if self.is_near(imm) {
            (table::conditional::<Near>(insn.kind), Some(insn.kind))
        } else {
            (table::conditional::<Far>(insn.kind), None)
        };
        let run = run.expect("a conditional branch");
        let (rs1, rs2) = (insn.rs1, insn.rs2);
        self.push_leaving(Op { run, rd: SINK, rs1, rs2, at: 0, imm }, kind);
        if insn.imm > 0 {
            return Then::GoOn;
        }
        self.go_on_at(self.offset as i32);
        Then::End
    }

    fn csr(&mut self, insn: Insn, here: u32) -> Then {
        let is_open = match insn.imm {
            0xc00 => self.counters.cycle,
            0xc01 => self.counters.time,
            0xc02 => self.counters.instret,
            _ => true,
        };
        if !is_open {
            self.count.instructions -= 1;
            return self.end_with(flow::illegal, here, csr_bits(insn) as i32);
        }
        let (action, is_immediate) = match insn.kind {
            Kind::Csrrw => (CsrAction::Write, false),
            Kind::Csrrs => (CsrAction::Set, false),
            Kind::Csrrc => (CsrAction::Clear, false),
            Kind::Csrrwi => (CsrAction::Write, true),
            Kind::Csrrsi => (CsrAction::Set, true),
            _ => (CsrAction::Clear, true),
        };
        let before = (self.count.instructions - 1) as u16;
        let imm = CsrOperands::new(insn.imm as u16, action, is_immediate, before).bits();
        let (rd, rs1) = (or_sink(insn.rd), insn.rs1);
        self.push(Op { run: csr, rd, rs1, rs2: 0, at: (here / 2) as u8, imm }, None);
        Then::GoOn
    }

    fn plain(&mut self, insn: Insn, here: u32) {
        let files = Files::of(insn.kind);
        let rd = files.rd.index(insn.rd);
        let is_access = insn.kind.loads() + insn.kind.stores() > 0;
        if rd == 0 && !is_access && !files.is_float {
            // A hint. What it would compute is seen by nobody.
            return;
        }
        let mut op = Op {
            run: table::plain(insn.kind).expect("a plain instruction"),
            rd: if rd == 0 { SINK } else { rd },
            rs1: files.rs1.index(insn.rs1),
            rs2: files.rs2.index(insn.rs2),
            at: (here / 2) as u8,
            imm: insn.imm,
        };
        let mut kind = insn.kind;
        match insn.kind {
            Kind::Auipc => op.imm = op.imm.wrapping_add(here as i32),
            // `mv`
            Kind::Add if insn.rs1 == 0 || insn.rs2 == 0 => {
                kind = Kind::Addi;
                (op.rs1, op.rs2) = (op.rs1 | op.rs2, 0);
                op.run = table::plain(kind).expect("a plain instruction");
            }
            _ if files.is_float => op.imm = float::operands(insn.rs3 + F0, insn.rm),
            _ => {}
        }
        if kind == Kind::Addi && op.rs1 == 0 {
            kind = Kind::Lui;
            op.run = table::plain(kind).expect("a plain instruction");
        }
        if !self.fold(insn, op.rd) {
            self.push(op, Some(kind));
        }
    }

    /// Adds `addi` and `addiw` to the constant that the operation before puts into their register.
    fn fold(&mut self, insn: Insn, rd: u8) -> bool {
        let Some(Part { op, kind: Some(before @ (Kind::Lui | Kind::Auipc)), .. }) =
            self.parts.last_mut()
        else {
            return false;
        };
        if insn.rs1 != insn.rd || op.rd != rd {
            return false;
        }
        let sum = match (insn.kind, before) {
            (Kind::Addi, _) => op.imm.checked_add(insn.imm),
            (Kind::Addiw, Kind::Lui) => Some(op.imm.wrapping_add(insn.imm)),
            _ => None,
        };
        if let Some(sum) = sum {
            op.imm = sum;
        }
        sum.is_some()
    }
}

/// The bits of a `csrr*`, from its fields.
fn csr_bits(insn: Insn) -> u32 {
    let funct3 = match insn.kind {
        Kind::Csrrw => 1,
        Kind::Csrrs => 2,
        Kind::Csrrc => 3,
        Kind::Csrrwi => 5,
        Kind::Csrrsi => 6,
        _ => 7,
    };
    (insn.imm as u32) << 20
        | u32::from(insn.rs1) << 15
        | funct3 << 12
        | u32::from(insn.rd) << 7
        | 0x73
}

fn or_sink(rd: u8) -> u8 {
    if rd == 0 { SINK } else { rd }
}

/// Which register file a field names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum File {
    X,
    F,
}

impl File {
    fn index(self, register: u8) -> u8 {
        match self {
            Self::X => register,
            Self::F => register + F0,
        }
    }
}

/// The register files of an instruction's fields.
struct Files {
    rd: File,
    rs1: File,
    rs2: File,
    /// Whether the immediate is made of rs3 and rounding mode.
    is_float: bool,
}

impl Files {
    fn of(kind: Kind) -> Self {
        use File::{F, X};
        use Kind::*;
        let (rd, rs1, rs2, is_float) = match kind {
            Flw | Fld => (F, X, X, false),
            Fsw | Fsd => (X, X, F, false),
            FeqS | FltS | FleS | FclassS | FcvtWS | FcvtWuS | FcvtLS | FcvtLuS | FmvXW | FeqD
            | FltD | FleD | FclassD | FcvtWD | FcvtWuD | FcvtLD | FcvtLuD | FmvXD => {
                (X, F, F, true)
            }
            FcvtSW | FcvtSWu | FcvtSL | FcvtSLu | FmvWX | FcvtDW | FcvtDWu | FcvtDL | FcvtDLu
            | FmvDX => (F, X, F, true),
            FmaddS | FmsubS | FnmsubS | FnmaddS | FaddS | FsubS | FmulS | FdivS | FsqrtS
            | FsgnjS | FsgnjnS | FsgnjxS | FminS | FmaxS | FmaddD | FmsubD | FnmsubD | FnmaddD
            | FaddD | FsubD | FmulD | FdivD | FsqrtD | FsgnjD | FsgnjnD | FsgnjxD | FminD
            | FmaxD | FcvtSD | FcvtDS => (F, F, F, true),
            _ => (X, X, X, false),
        };
        Self { rd, rs1, rs2, is_float }
    }
}
