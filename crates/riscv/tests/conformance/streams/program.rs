//! Streams laid out as one static program: units to code, data blocks, an ELF file written by hand.
//!
//! ```text
//!   CODE_BASE   stream 0: load registers, units, save registers; stream 1: ...; write(1, data); exit(0)
//!   DATA_BASE   a block for each stream
//!
//!   block       0 registers before | 1 KiB registers after | 2 KiB pool, read only | 6 KiB window, 12 KiB | 18 KiB unused
//! ```
//!
//! The program writes its data segment to stdout, so both machines hand back every register and every byte they wrote.

use crate::encoding::{Form, Insn};

pub(super) const CODE_BASE: u64 = 0x1000_0000;
pub(super) const DATA_BASE: u64 = 0x2000_0000;
/// Bytes of a stream's data block: whole pages, so that `lui` alone makes its address.
pub(super) const BLOCK: usize = 5 << 12;
pub(super) const AFTER: usize = 1 << 10;
pub(super) const POOL: usize = 2 << 10;
pub(super) const POOL_BYTES: usize = 4 << 10;
pub(super) const WINDOW: usize = 6 << 10;
pub(super) const WINDOW_BYTES: usize = 12 << 10;
/// Where in a register area the floating-point registers and `fcsr` are.
pub(super) const FLOATS: usize = 32 * 8;
pub(super) const FCSR: usize = 64 * 8;

pub(super) const SYS_WRITE: u64 = 64;
const SYS_EXIT: u64 = 93;
const CSR_FCSR: i64 = 3;

/// Registers that a stream keeps for its own purposes; instructions read but never write them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Roles {
    /// The middle of the window, aligned.
    pub(super) mem: u8,
    /// A place in the window, one of `x8` to `x15`.
    pub(super) short_mem: u8,
    /// The middle of the pool.
    pub(super) pool: u8,
    /// The block, while registers are loaded and saved.
    pub(super) block: u8,
    /// Counts loops.
    pub(super) counter: u8,
    /// A digest of results that are overwritten later.
    pub(super) digest: u8,
}

impl Roles {
    /// Whether the stream's instructions leave `register` alone.
    pub(super) fn keep(&self, register: u8) -> bool {
        let Self { mem, short_mem, pool, block, counter, digest } = *self;
        [0, 2, mem, short_mem, pool, block, counter, digest].contains(&register)
    }
}

/// The smallest piece of a stream that makes sense on its own.
#[derive(Clone, Debug)]
pub(super) enum Unit {
    /// Instructions one after the other.
    Straight(Vec<Insn>),
    /// A jump over the next `over` units of the same body, as far as there are that many and it reaches.
    ///
    /// Either its first instruction is relative to the program counter, or it is `auipc t, 0` and the next one adds.
    Skip { insns: Vec<Insn>, over: usize },
    /// `body`, `count` times.
    Loop { count: i64, body: Vec<Unit> },
}

/// One stream: the state before it, and what it executes.
#[derive(Clone, Debug)]
pub(super) struct Stream {
    pub(super) roles: Roles,
    pub(super) x: [u64; 32],
    pub(super) f: [u64; 32],
    pub(super) fcsr: u32,
    pub(super) pool: Vec<u8>,
    pub(super) window: Vec<u8>,
    pub(super) units: Vec<Unit>,
}

/// A program of streams, ready to run.
pub(super) struct Program {
    pub(super) code: Vec<u8>,
    pub(super) data: Vec<u8>,
    /// Where in the code each stream begins.
    pub(super) starts: Vec<usize>,
}

/// The address of stream `index`'s data block.
pub(super) fn block_address(index: usize) -> u64 {
    DATA_BASE + (index * BLOCK) as u64
}

fn length(insns: &[Insn]) -> i64 {
    insns.iter().map(Insn::length).sum()
}

/// The loop around a body: before it, and after it without the distance back.
fn loop_frame(roles: &Roles, count: i64) -> (Insn, [Insn; 2]) {
    let counter = roles.counter;
    let before = Insn::new("addi").rd(counter).imm(count);
    let after = [Insn::new("addi").rd(counter).rs1(counter).imm(-1), Insn::new("bne").rs1(counter)];
    (before, after)
}

fn unit_length(unit: &Unit, roles: &Roles) -> i64 {
    match unit {
        Unit::Straight(insns) | Unit::Skip { insns, .. } => length(insns),
        Unit::Loop { body, count } => {
            let (before, after) = loop_frame(roles, *count);
            before.length()
                + body.iter().map(|unit| unit_length(unit, roles)).sum::<i64>()
                + length(&after)
        }
    }
}

/// How far the first instruction of a jump reaches.
fn reach(insns: &[Insn]) -> i64 {
    match insns[0].op.form {
        Form::Branch => 4094,
        Form::Jal => 1 << 19,
        Form::CBranch => 254,
        _ => 2046,
    }
}

/// Resolves `unit`s into the instructions that are executed and laid out.
pub(super) fn flatten(units: &[Unit], roles: &Roles, into: &mut Vec<Insn>) {
    let lengths: Vec<_> = units.iter().map(|unit| unit_length(unit, roles)).collect();
    for (at, unit) in units.iter().enumerate() {
        match unit {
            Unit::Straight(insns) => into.extend_from_slice(insns),
            Unit::Skip { insns, over } => {
                let own = length(insns);
                let mut distance = own;
                for skipped in lengths[at + 1..].iter().take(*over) {
                    if distance + skipped > reach(insns) {
                        break;
                    }
                    distance += skipped;
                }
                let mut insns = insns.clone();
                let relative = usize::from(insns[0].op.form == Form::U);
                insns[relative].imm = distance;
                into.extend(insns);
            }
            Unit::Loop { count, body } => {
                let (before, [decrement, back]) = loop_frame(roles, *count);
                into.push(before);
                flatten(body, roles, into);
                let distance: i64 = body.iter().map(|unit| unit_length(unit, roles)).sum();
                let back = back.imm(-(distance + decrement.length()));
                into.extend([decrement, back]);
            }
        }
    }
}

/// `rd = value` for a `value` that is a multiple of 4096 and below 2^31.
fn load_upper(rd: u8, value: u64) -> Insn {
    assert!(value.is_multiple_of(4096) && value < 1 << 31);
    Insn::new("lui").rd(rd).imm(value as i64)
}

impl Stream {
    fn prologue(&self, block: u64) -> Vec<Insn> {
        let base = self.roles.block;
        let mut insns = vec![load_upper(base, block)];
        let fcsr = Insn::new("csrrw").rs1(1).imm(CSR_FCSR);
        insns.extend([Insn::new("ld").rd(1).rs1(base).imm(FCSR as i64), fcsr]);
        for register in 0..32 {
            let offset = i64::from(register) * 8;
            insns.push(Insn::new("fld").rd(register).rs1(base).imm(FLOATS as i64 + offset));
            if register != base && register != 0 {
                insns.push(Insn::new("ld").rd(register).rs1(base).imm(offset));
            }
        }
        insns
    }

    fn epilogue(&self, block: u64) -> Vec<Insn> {
        let base = self.roles.block;
        let mut insns = vec![load_upper(base, block)];
        for register in 0..32 {
            let offset = AFTER as i64 + i64::from(register) * 8;
            insns.push(Insn::new("fsd").rs2(register).rs1(base).imm(FLOATS as i64 + offset));
            if register != base {
                insns.push(Insn::new("sd").rs2(register).rs1(base).imm(offset));
            }
        }
        insns.push(Insn::new("csrrs").rd(1).imm(CSR_FCSR));
        insns.push(Insn::new("sd").rs2(1).rs1(base).imm((AFTER + FCSR) as i64));
        insns
    }

    fn data(&self, block: u64) -> Vec<u8> {
        let mut data = vec![0; BLOCK];
        let mut x = self.x;
        // The registers that keep an address hold it in relation to the block until its place is known.
        for register in [2, self.roles.mem, self.roles.short_mem, self.roles.pool] {
            x[usize::from(register)] = block + self.x[usize::from(register)];
        }
        for (slot, value) in x.iter().chain(&self.f).enumerate() {
            data[slot * 8..][..8].copy_from_slice(&value.to_le_bytes());
        }
        data[FCSR..][..4].copy_from_slice(&self.fcsr.to_le_bytes());
        data[POOL..][..POOL_BYTES].copy_from_slice(&self.pool);
        data[WINDOW..][..WINDOW_BYTES].copy_from_slice(&self.window);
        data
    }

    /// The instructions of the stream without those that load and save registers.
    pub(super) fn insns(&self) -> Vec<Insn> {
        let mut insns = Vec::new();
        flatten(&self.units, &self.roles, &mut insns);
        insns
    }
}

impl Program {
    pub(super) fn new(streams: &[Stream]) -> Self {
        let (mut code, mut data, mut starts) = (Vec::new(), Vec::new(), Vec::new());
        for (index, stream) in streams.iter().enumerate() {
            let block = block_address(index);
            starts.push(code.len());
            for insn in
                stream.prologue(block).iter().chain(&stream.insns()).chain(&stream.epilogue(block))
            {
                insn.assemble(&mut code);
            }
            data.extend(stream.data(block));
        }
        let (a0, a1, a2, a7) = (10, 11, 12, 17);
        let ecall = |code: &mut Vec<u8>| code.extend(0x73u32.to_le_bytes());
        for insn in [
            Insn::new("addi").rd(a0).imm(1),
            load_upper(a1, DATA_BASE),
            load_upper(a2, data.len() as u64),
            Insn::new("addi").rd(a7).imm(SYS_WRITE as i64),
        ] {
            insn.assemble(&mut code);
        }
        ecall(&mut code);
        for insn in [Insn::new("addi").rd(a0), Insn::new("addi").rd(a7).imm(SYS_EXIT as i64)] {
            insn.assemble(&mut code);
        }
        ecall(&mut code);
        Self { code, data, starts }
    }

    /// The stream that the code at `pc` belongs to.
    pub(super) fn stream_at(&self, pc: u64) -> usize {
        let offset = pc.wrapping_sub(CODE_BASE) as usize;
        self.starts.partition_point(|&start| start <= offset).saturating_sub(1)
    }

    /// The program as a static ELF file: a header, two program headers, code, data.
    pub(super) fn to_elf(&self) -> Vec<u8> {
        const PAGE: usize = 4096;
        let data_at = PAGE + self.code.len().next_multiple_of(PAGE);
        let mut elf = Vec::with_capacity(data_at + self.data.len());
        // e_ident: 64-bit, little-endian, version 1; then ET_EXEC, EM_RISCV, version 1.
        elf.extend(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
        elf.extend([2, 0, 243, 0, 1, 0, 0, 0]);
        for word in [CODE_BASE, 64, 0] {
            elf.extend(word.to_le_bytes());
        }
        // e_flags: compressed instructions, double-float ABI. Then e_ehsize, e_phentsize, e_phnum, and no sections.
        elf.extend(5u32.to_le_bytes());
        for half in [64u16, 56, 2, 64, 0, 0] {
            elf.extend(half.to_le_bytes());
        }
        let (rwx, rw) = (7u32, 6u32);
        for (flags, offset, address, bytes) in
            [(rwx, PAGE, CODE_BASE, self.code.len()), (rw, data_at, DATA_BASE, self.data.len())]
        {
            elf.extend(1u32.to_le_bytes());
            elf.extend(flags.to_le_bytes());
            for word in [offset as u64, address, address, bytes as u64, bytes as u64, PAGE as u64] {
                elf.extend(word.to_le_bytes());
            }
        }
        elf.resize(PAGE, 0);
        elf.extend(&self.code);
        elf.resize(data_at, 0);
        elf.extend(&self.data);
        elf
    }
}
