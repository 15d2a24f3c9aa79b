//! Random streams: valid instructions on values that matter, in address ranges that exist.
//!
//! Results feed later instructions through registers, a window of memory and a digest register, so that one wrong bit
//! anywhere has a good chance to be seen at the end. What the two machines may legitimately do differently is not generated:
//! [`NOT_COMPARED`] lists it.

use super::program::{POOL_BYTES, Roles, Stream, Unit, WINDOW, WINDOW_BYTES};
use crate::encoding::{Form, Insn, OPS, Op};

/// What is left out of streams because the reference machine and the hart differ by right, and why.
pub(super) const NOT_COMPARED: &[(&str, &str)] = &[
    (
        "store between lr and sc to the reserved bytes",
        "QEMU's sc compares values instead of watching stores, so it succeeds where real reservations are lost",
    ),
    (
        "cycle, time and instret",
        "QEMU shows the host's clocks; the hart's clock goes by instructions",
    ),
    (
        "dynamic rounding with a reserved frm",
        "an illegal instruction ends the program; tables of our own cover what is illegal",
    ),
    ("misaligned atomics", "QEMU lets the host perform them; Linux delivers SIGBUS"),
];

const CSR_FFLAGS: i64 = 1;
const CSR_FRM: i64 = 2;
const CSR_FCSR: i64 = 3;

/// Bytes of four registers that belong together.
const CASE_BYTES: usize = 32;

/// SplitMix64.
pub(super) struct Random {
    state: u64,
}

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    pub(super) fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// A number in `low..=high`.
    fn between(&mut self, low: i64, high: i64) -> i64 {
        low + self.below((high - low + 1) as u64) as i64
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len() as u64) as usize]
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// An integer near a boundary, with few bits, or any.
    fn integer(&mut self) -> u64 {
        let edges = [0, 1 << 31, 1 << 32, 1 << 63, 1 << 7, 1 << 15, u64::MAX, 0xffff_ffff, 1 << 53];
        match self.below(4) {
            0 => self.pick(&edges).wrapping_add(self.below(5)).wrapping_sub(2),
            1 => (self.next() as i64 >> self.below(64)) as u64,
            2 => self.next() as i32 as u64,
            _ => self.next(),
        }
    }

    /// The bits of a number with `fraction` bits of fraction and `exponent` of exponent, special ones often.
    fn float(&mut self, exponent: u32, fraction: u32) -> u64 {
        let top = (1 << exponent) - 1;
        let bias = top >> 1;
        let field = match self.below(8) {
            0 => self.below(3),
            1 => top - self.below(3),
            2 => self.below(top),
            3 => bias + self.below(2 * u64::from(fraction)) - u64::from(fraction),
            _ => bias + self.below(8) - 4,
        };
        let ones = (1 << fraction) - 1;
        let bits = match self.below(4) {
            0 => 0,
            1 => ones - self.below(4),
            2 => 1 << self.below(u64::from(fraction)),
            _ => self.next() & ones,
        };
        (self.below(2) << exponent | field) << fraction | bits
    }

    /// Contents of a floating-point register: doubles, boxed singles, singles boxed wrongly.
    fn float_register(&mut self) -> u64 {
        match self.below(8) {
            0..=3 => self.float(11, 52),
            4..=6 => self.float(8, 23) | 0xffff_ffff_0000_0000,
            _ => self.float(8, 23) | self.next() << 32,
        }
    }

    /// Operands that belong together, in four floating-point registers: where rounding, tininess or signs are decided.
    fn float_case(&mut self) -> [u64; 4] {
        if self.one_in(2) {
            self.related(11, 52)
        } else {
            self.related(8, 23).map(|bits| bits | 0xffff_ffff_0000_0000)
        }
    }

    /// [`Self::float_case`] in one format.
    fn related(&mut self, exponent: u32, fraction: u32) -> [u64; 4] {
        let (bias, digits) = ((1 << (exponent - 1)) - 1, u64::from(fraction));
        let (any, kind) = (self.next(), self.below(6));
        let ones = (1 << fraction) - 1;
        // A sign, and a fraction that is short or one away from it.
        let mut number = |field: u64| {
            let short = *self.pick(&[
                0,
                1,
                ones,
                ones - 1,
                1 << (fraction - 1),
                3 << (fraction / 2),
                ones << (fraction / 2) & ones,
            ]);
            (self.below(2) << exponent | field) << fraction | short
        };
        match kind {
            // A sum that is a tie, or nearly: the second is half a unit of the first.
            0 => [number(bias), number(bias - digits - 1), number(bias + 1), number(bias + 2)],
            // A product on the edge of the normal numbers.
            1 => {
                let field = any & 63;
                [number(bias - field), number(field + (any >> 6 & 1)), number(field), number(2)]
            }
            // Zeros of both signs, and something small.
            2 => [
                number(0) >> fraction << fraction,
                number(0) >> fraction << fraction,
                number(1),
                number(bias),
            ],
            // Factors of half the digits, and addends that all but cancel or tie their product.
            3 => [number(bias), number(bias), number(bias), number(bias - digits)],
            // A product that is a tie, and an addend far below that breaks it.
            4 => {
                let (low, high) = (fraction.div_ceil(2), fraction - fraction.div_ceil(2) + 1);
                let tie = |bit: u32| bias << fraction | 1 << (fraction - bit);
                [tie(low), tie(high), number(bias - 2 * digits - (any & 15)), number(bias)]
            }
            // Halves of integers; ties and tiny numbers of the other format.
            _ => [
                number(bias + digits - 1),
                number(bias + any % 8),
                number(bias) ^ 1 << (fraction / 2 + 2),
                number(bias - 127 + (any & 1)),
            ],
        }
    }

    /// A pool of related operands, four to a case.
    fn pool(&mut self) -> Vec<u8> {
        (0..POOL_BYTES / CASE_BYTES)
            .flat_map(|_| {
                if self.one_in(3) {
                    std::array::from_fn(|_| self.float_register())
                } else {
                    self.float_case()
                }
            })
            .flat_map(u64::to_le_bytes)
            .collect()
    }

    /// Memory full of integers and floating-point numbers, eight bytes each.
    fn memory(&mut self, bytes: usize) -> Vec<u8> {
        let word = |random: &mut Self| match random.below(3) {
            0 => random.integer(),
            _ => random.float_register(),
        };
        (0..bytes / 8).flat_map(|_| word(self).to_le_bytes()).collect()
    }
}

/// Whether a stream has `lr`.
///
/// The end of a run ends a reservation, so a stream that is to be cut into many runs has none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Reservations {
    Used,
    Absent,
}

/// Makes one stream of about `length` instructions.
pub(super) fn stream(seed: u64, length: usize, reservations: Reservations) -> Stream {
    let mut random = Random::new(seed);
    let roles = roles(&mut random);
    let mut x: [u64; 32] = std::array::from_fn(|_| random.integer());
    x[usize::from(roles.mem)] = (WINDOW + WINDOW_BYTES / 2) as u64;
    x[usize::from(roles.short_mem)] = (WINDOW + 2 * WINDOW_BYTES / 3) as u64 + random.below(64);
    x[2] = WINDOW as u64 + random.below(1024);
    x[usize::from(roles.pool)] = (super::program::POOL + POOL_BYTES / 2) as u64;
    let f = std::array::from_fn(|_| random.float_register());
    let rounding = if random.one_in(2) { 0 } else { random.below(5) };
    let fcsr = (rounding << 5 | random.below(32)) as u32;
    let (pool, window) = (random.pool(), random.memory(WINDOW_BYTES));

    let free: Vec<u8> = (0..32).filter(|&register| !roles.keep(register)).collect();
    let free_short = free.iter().copied().filter(|register| (8..16).contains(register)).collect();
    let mut generator = Generator { random, roles, reservations, free, free_short };
    let mut units = Vec::new();
    let mut made = 0;
    while made < length {
        let unit =
            if generator.random.one_in(60) { generator.repetition() } else { generator.unit() };
        made += match &unit {
            Unit::Straight(insns) | Unit::Skip { insns, .. } => insns.len(),
            Unit::Loop { body, .. } => body.len(),
        };
        units.push(unit);
    }
    Stream { roles, x, f, fcsr, pool, window, units }
}

/// Chooses distinct registers for the stream's own purposes.
fn roles(random: &mut Random) -> Roles {
    let mut take = |taken: &mut Vec<u8>, range: std::ops::Range<u64>| loop {
        let register = (range.start + random.below(range.end - range.start)) as u8;
        if !taken.contains(&register) {
            taken.push(register);
            return register;
        }
    };
    let mut taken = vec![0, 1, 2];
    Roles {
        short_mem: take(&mut taken, 8..16),
        mem: take(&mut taken, 3..32),
        pool: take(&mut taken, 3..32),
        block: take(&mut taken, 3..32),
        counter: take(&mut taken, 3..32),
        digest: take(&mut taken, 3..32),
    }
}

struct Generator {
    random: Random,
    roles: Roles,
    reservations: Reservations,
    /// Registers that may be written, and those among them that short encodings name.
    free: Vec<u8>,
    free_short: Vec<u8>,
}

impl Generator {
    fn repetition(&mut self) -> Unit {
        let body = (0..self.random.between(2, 12)).map(|_| self.unit()).collect();
        Unit::Loop { count: self.random.between(2, 6), body }
    }

    fn unit(&mut self) -> Unit {
        match self.random.below(100) {
            0..=5 => self.skip(),
            6..=7 => Unit::Straight(self.atomic()),
            8 if self.reservations == Reservations::Used => Unit::Straight(self.reservation()),
            9..=10 => Unit::Straight(self.float_state()),
            11..=14 => Unit::Straight(vec![self.reload()]),
            19..=32 => Unit::Straight(self.float_case()),
            17 if self.random.one_in(8) => Unit::Straight(self.self_modification()),
            18 => Unit::Straight(self.stack_adjustment()),
            _ => Unit::Straight(self.plain()),
        }
    }

    /// A register to write.
    fn target(&mut self) -> u8 {
        if self.random.one_in(24) { 0 } else { *self.random.pick(&self.free) }
    }

    /// A register to write that is not `x0`.
    fn scratch(&mut self) -> u8 {
        *self.random.pick(&self.free)
    }

    fn short(&mut self) -> u8 {
        *self.random.pick(&self.free_short)
    }

    fn any(&mut self) -> u8 {
        self.random.below(32) as u8
    }

    fn any_short(&mut self) -> u8 {
        self.random.between(8, 15) as u8
    }

    fn rounding(&mut self) -> u8 {
        match self.random.below(8) {
            0..=2 => 7,
            3..=4 => 0,
            _ => self.random.below(5) as u8,
        }
    }

    fn immediate(&mut self) -> i64 {
        match self.random.below(4) {
            0 => *self.random.pick(&[0, 1, -1, 2047, -2048, 31, 32, 63]),
            _ => self.random.between(-2048, 2047),
        }
    }

    fn named(&mut self, accept: impl Fn(&Op) -> bool) -> &'static Op {
        loop {
            let op = &OPS[self.random.below(OPS.len() as u64) as usize];
            if accept(op) {
                return op;
            }
        }
    }

    /// Any instruction that needs no company, and what makes its result count.
    fn plain(&mut self) -> Vec<Insn> {
        let op = self.named(|op| !needs_company(op));
        let insn = self.operands(op);
        let mut insns = vec![insn];
        self.observe(&mut insns, 2);
        insns
    }

    /// Operands that belong together, and an instruction on them.
    fn float_case(&mut self) -> Vec<Insn> {
        let op = self.named(|op| reads_float(op.form));
        let mut insn = self.operands(op);
        let cases = (POOL_BYTES / CASE_BYTES) as i64;
        let case = (self.random.below(cases as u64) as i64 - cases / 2) * CASE_BYTES as i64;
        let mut insns = Vec::new();
        for (slot, register) in
            [&mut insn.rs1, &mut insn.rs2, &mut insn.rs3].into_iter().enumerate()
        {
            *register = self.random.below(32) as u8;
            // Mostly in order; the fourth sometimes takes another's place.
            let slot = if self.random.one_in(8) { 3 } else { slot as i64 };
            insns.push(Insn::new("fld").rd(*register).rs1(self.roles.pool).imm(case + slot * 8));
        }
        insns.push(insn);
        self.observe(&mut insns, 8);
        insns
    }

    /// Appends what makes the flags and the result of the last instruction count, except one time in `n`.
    fn observe(&mut self, insns: &mut Vec<Insn>, n: u64) {
        let Some(insn) = insns.last().cloned() else { return };
        let form = insn.op.form;
        if is_float(form) && !self.random.one_in(n) {
            // Read and clear the flags, and fold them into the digest.
            let mut flags = self.scratch();
            while flags == insn.rd {
                flags = self.scratch();
            }
            insns.push(Insn::new("csrrwi").rd(flags).imm(CSR_FFLAGS));
            insns.push(self.fold(flags));
        }
        if writes_float(form) && !self.random.one_in(n) {
            let bits = self.scratch();
            insns.push(Insn::new("fmv.x.d").rd(bits).rs1(insn.rd));
            insns.push(self.fold(bits));
        } else if !writes_float(form) && self.random.one_in(2) {
            insns.push(self.fold(insn.rd));
        }
    }

    /// `digest = register - digest`: a difference in `register` stays one.
    fn fold(&self, register: u8) -> Insn {
        Insn::new("sub").rd(self.roles.digest).rs1(register).rs2(self.roles.digest)
    }

    /// Operands within what every stream may do.
    fn operands(&mut self, op: &'static Op) -> Insn {
        let mut insn = Insn::of(op);
        let (x, f) = (self.target(), self.any());
        (insn.rs1, insn.rs2, insn.rs3) = (self.any(), self.any(), self.any());
        insn.rm = self.rounding();
        insn.imm = self.immediate();
        insn.rd = if writes_float(op.form) { f } else { x };
        let mem = self.roles.mem;
        match op.form {
            Form::Shift => insn.imm &= 63,
            Form::ShiftW => insn.imm &= 31,
            Form::U => insn.imm = i64::from(self.random.next() as i32 & !0xfff),
            Form::Load | Form::Store | Form::FLoad | Form::FStore => insn.rs1 = mem,
            form => self.short_operands(form, &mut insn),
        }
        insn
    }

    fn short_operands(&mut self, form: Form, insn: &mut Insn) {
        let prime = self.short();
        let six = self.random.between(-32, 31);
        match form {
            Form::CAddi4spn => (insn.rd, insn.imm) = (prime, self.random.between(1, 255) * 4),
            Form::CLoad(width) => {
                (insn.rd, insn.rs1) = (prime, self.roles.short_mem);
                insn.imm = self.random.between(0, 31) * i64::from(width);
            }
            Form::CStore(width) => {
                (insn.rs2, insn.rs1) = (self.any_short(), self.roles.short_mem);
                insn.imm = self.random.between(0, 31) * i64::from(width);
            }
            Form::CFLoad | Form::CFStore => {
                (insn.rd, insn.rs2, insn.rs1) =
                    (self.any_short(), self.any_short(), self.roles.short_mem);
                insn.imm = self.random.between(0, 31) * 8;
            }
            Form::CI => (insn.rd, insn.imm) = (self.scratch(), six),
            Form::CLui => {
                let six = if six == 0 { 1 } else { six };
                (insn.rd, insn.imm) = (self.scratch(), six * 4096);
            }
            Form::CShift => (insn.rd, insn.imm) = (self.scratch(), self.random.between(1, 63)),
            Form::CShiftPrime => (insn.rd, insn.imm) = (prime, self.random.between(1, 63)),
            Form::CAndi => (insn.rd, insn.imm) = (prime, six),
            Form::CA => (insn.rd, insn.rs2) = (prime, self.any_short()),
            Form::CR => (insn.rd, insn.rs2) = (self.scratch(), self.random.between(1, 31) as u8),
            Form::CLoadSp(width) => {
                (insn.rd, insn.imm) =
                    (self.scratch(), self.random.between(0, 63) * i64::from(width));
            }
            Form::CStoreSp(width) => insn.imm = self.random.between(0, 63) * i64::from(width),
            Form::CFLoadSp | Form::CFStoreSp => insn.imm = self.random.between(0, 63) * 8,
            _ => {}
        }
    }

    /// A load of a fresh value from the pool.
    fn reload(&mut self) -> Insn {
        let name = *self.random.pick(&["fld", "fld", "fld", "flw", "ld", "lw", "lh", "lbu"]);
        let insn = Insn::new(name).rs1(self.roles.pool).imm(self.random.between(-256, 255) * 8);
        let rd = if name.starts_with('f') { self.any() } else { self.target() };
        insn.rd(rd)
    }

    /// A jump forward of any kind.
    fn skip(&mut self) -> Unit {
        let over = self.random.below(6) as usize;
        let (link, through) = (self.target(), self.scratch());
        let auipc = Insn::new("auipc").rd(through);
        let insns = match self.random.below(8) {
            0 => vec![Insn::new("jal").rd(link)],
            1 => vec![Insn::new("c.j")],
            2 => vec![auipc, Insn::new("jalr").rd(link).rs1(through)],
            3 => {
                let jump = if self.random.one_in(2) { "c.jr" } else { "c.jalr" };
                vec![
                    auipc,
                    Insn::new("addi").rd(through).rs1(through),
                    Insn::new(jump).rs1(through),
                ]
            }
            4 | 5 => {
                let name = if self.random.one_in(2) { "c.beqz" } else { "c.bnez" };
                vec![Insn::new(name).rs1(self.any_short())]
            }
            _ => {
                let op = self.named(|op| op.form == Form::Branch);
                vec![Insn::of(op).rs1(self.any()).rs2(self.any())]
            }
        };
        Unit::Skip { insns, over }
    }

    /// The address of aligned bytes in the window, into a fresh register.
    fn aligned_address(&mut self, width: i64) -> (Insn, u8) {
        let address = self.scratch();
        let offset = self.random.between(-2048 / width, 2047 / width) * width;
        (Insn::new("addi").rd(address).rs1(self.roles.mem).imm(offset), address)
    }

    fn atomic(&mut self) -> Vec<Insn> {
        let op = self.named(|op| op.form == Form::Amo);
        let (set, address) = self.aligned_address(width_of(op));
        let rd = self.target();
        let insn = Insn::of(op).rd(rd).rs1(address).rs2(self.any()).rm(self.random.below(4) as u8);
        // Alone, `sc` finds no reservation: every `lr` below is followed by one.
        vec![set, insn, self.fold(rd)]
    }

    /// `lr` and `sc`, sometimes with other instructions between, sometimes to different places.
    fn reservation(&mut self) -> Vec<Insn> {
        let name = *self.random.pick(&["lr.w", "lr.d"]);
        let load = Insn::new(name);
        let width = width_of(load.op);
        let (set, address) = self.aligned_address(width);
        let mut loaded = self.target();
        while loaded == address {
            loaded = self.target();
        }
        let mut insns = vec![set, load.rd(loaded).rs1(address).rm(self.random.below(4) as u8)];
        if loaded != 0 && self.random.one_in(2) {
            insns.push(Insn::new("addi").rd(loaded).rs1(loaded).imm(self.immediate()));
        }
        let mut store_to = address;
        if self.random.one_in(4) {
            while store_to == address {
                store_to = self.scratch();
            }
            // Another cache line of the window, whichever way there is room for sure.
            insns.push(Insn::new("xori").rd(store_to).rs1(address).imm(256));
        }
        let (name, status) = (if width == 4 { "sc.w" } else { "sc.d" }, self.target());
        let store =
            Insn::new(name).rd(status).rs1(store_to).rs2(self.any()).rm(self.random.below(4) as u8);
        insns.extend([store, self.fold(status)]);
        insns
    }

    /// Reads and writes of the floating-point control and status register, never to a reserved rounding mode.
    fn float_state(&mut self) -> Vec<Insn> {
        let (rd, scratch) = (self.target(), self.scratch());
        let source = self.any();
        match self.random.below(9) {
            0 => vec![
                Insn::new("csrrs").rd(rd).imm(*self.random.pick(&[CSR_FFLAGS, CSR_FRM, CSR_FCSR])),
                self.fold(rd),
            ],
            1 => vec![
                Insn::new("csrrwi").rd(rd).imm(CSR_FRM).rs1(self.random.below(5) as u8),
                self.fold(rd),
            ],
            2 => vec![Insn::new("csrrci").rd(rd).imm(CSR_FRM).rs1(self.any()), self.fold(rd)],
            3 => vec![Insn::new("csrrwi").rd(rd).imm(CSR_FCSR).rs1(self.any()), self.fold(rd)],
            4 => {
                let name = *self.random.pick(&["csrrwi", "csrrsi", "csrrci"]);
                vec![Insn::new(name).rd(rd).imm(CSR_FFLAGS).rs1(self.any()), self.fold(rd)]
            }
            5 => {
                let name = *self.random.pick(&["csrrw", "csrrs", "csrrc"]);
                vec![Insn::new(name).rd(rd).imm(CSR_FFLAGS).rs1(source), self.fold(rd)]
            }
            6 => {
                let mask = Insn::new("andi").rd(scratch).rs1(source).imm(0x9f);
                vec![mask, Insn::new("csrrw").rd(rd).imm(CSR_FCSR).rs1(scratch), self.fold(rd)]
            }
            7 => vec![Insn::new("csrrc").rd(rd).imm(CSR_FCSR).rs1(source), self.fold(rd)],
            _ => {
                let mask = Insn::new("andi").rd(scratch).rs1(source).imm(3);
                vec![mask, Insn::new("csrrw").rd(rd).imm(CSR_FRM).rs1(scratch), self.fold(rd)]
            }
        }
    }

    /// Moves the stack pointer, and back.
    fn stack_adjustment(&mut self) -> Vec<Insn> {
        let by = self.random.between(1, 31) * 16;
        vec![Insn::new("c.addi16sp").imm(by), Insn::new("c.addi16sp").imm(-by)]
    }

    /// Writes an instruction over one further on, fences, and runs into it.
    fn self_modification(&mut self) -> Vec<Insn> {
        let (at, word) = (self.scratch(), self.scratch());
        if at == word {
            return vec![Insn::new("fence.i")];
        }
        let rd = self.scratch();
        let patch = Insn::new("addi").rd(rd).rs1(rd).imm(self.immediate()).encode() as i32;
        let low = i64::from(patch) << 52 >> 52;
        let insns = vec![
            Insn::new("auipc").rd(at),
            Insn::new("lui").rd(word).imm(i64::from(patch) - low),
            Insn::new("addiw").rd(word).rs1(word).imm(low),
            Insn::new("sw").rs2(word).rs1(at).imm(20),
            Insn::new("fence.i"),
            Insn::new("addi"),
        ];
        debug_assert_eq!(insns[..5].iter().map(Insn::length).sum::<i64>(), 20);
        insns
    }
}

/// Whether `op` is generated together with others only, by a function of its own.
fn needs_company(op: &Op) -> bool {
    use Form::{Amo, Branch, CAddi16sp, CBranch, CJ, CJumpReg, Csr, CsrImm, Jal, Jalr, Lr};
    let jumps = matches!(op.form, Branch | Jal | Jalr | CJ | CBranch | CJumpReg);
    let careful = matches!(op.form, Amo | Lr | Csr | CsrImm | CAddi16sp);
    jumps || careful || op.name == "fence.i"
}

fn width_of(op: &Op) -> i64 {
    if op.name.ends_with(".w") { 4 } else { 8 }
}

fn writes_float(form: Form) -> bool {
    matches!(
        form,
        Form::FLoad
            | Form::FRounded
            | Form::FExact
            | Form::FUnary
            | Form::XToF
            | Form::XToFExact
            | Form::Fused
            | Form::CFLoad
            | Form::CFLoadSp
    )
}

/// Whether an instruction of this form computes on floating-point registers.
fn reads_float(form: Form) -> bool {
    matches!(
        form,
        Form::FRounded
            | Form::FExact
            | Form::FUnary
            | Form::FToX
            | Form::FToXExact
            | Form::FCompare
            | Form::Fused
    )
}

fn is_float(form: Form) -> bool {
    writes_float(form) || reads_float(form)
}
