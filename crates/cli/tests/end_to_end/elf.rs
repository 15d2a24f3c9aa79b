//! Hand-made riscv64 executables: a few instructions, and headers that can be wrong on purpose.

/// Where [`Elf::program`] puts its code.
pub(crate) const TEXT: u64 = 0x1_0000;

/// Bytes of the file header and of a program header.
const HEADER: usize = 64;
const PROGRAM_HEADER: usize = 56;

/// A program header and what the file holds for it.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    /// `PT_LOAD` 1, `PT_INTERP` 3.
    pub(crate) kind: u32,
    /// Execute 1, write 2, read 4.
    pub(crate) flags: u32,
    pub(crate) vaddr: u64,
    pub(crate) data: Vec<u8>,
    /// In memory; in the file it is what `data` has, unless [`Self::filesz`] lies.
    pub(crate) memsz: u64,
    pub(crate) filesz: Option<u64>,
    pub(crate) offset: Option<u64>,
}

/// An executable, field by field.
#[derive(Clone, Debug)]
pub(crate) struct Elf {
    /// 1: 32 bit, 2: 64 bit.
    pub(crate) class: u8,
    /// 1: little endian, 2: big endian.
    pub(crate) endian: u8,
    /// `ET_EXEC` 2, `ET_DYN` 3, `ET_CORE` 4.
    pub(crate) kind: u16,
    /// 243: RISC-V.
    pub(crate) machine: u16,
    pub(crate) entry: u64,
    pub(crate) phoff: u64,
    pub(crate) phentsize: u16,
    /// Instead of the number of `segments`.
    pub(crate) phnum: Option<u16>,
    pub(crate) segments: Vec<Segment>,
}

impl Elf {
    /// A program of these instructions.
    pub(crate) fn program(code: &[u32]) -> Self {
        let data: Vec<u8> = code.iter().flat_map(|word| word.to_le_bytes()).collect();
        Self {
            class: 2,
            endian: 1,
            kind: 2,
            machine: 243,
            entry: TEXT,
            phoff: HEADER as u64,
            phentsize: PROGRAM_HEADER as u16,
            phnum: None,
            segments: vec![Segment::load(TEXT, 5, data)],
        }
    }

    /// The same with one more segment.
    pub(crate) fn with(mut self, segment: Segment) -> Self {
        self.segments.push(segment);
        self
    }

    /// The file: headers, then each segment's data on a page of its own.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut file = b"\x7fELF".to_vec();
        file.extend([self.class, self.endian, 1, 0]);
        file.resize(16, 0);
        file.extend(self.kind.to_le_bytes());
        file.extend(self.machine.to_le_bytes());
        file.extend(1_u32.to_le_bytes());
        file.extend(self.entry.to_le_bytes());
        file.extend(self.phoff.to_le_bytes());
        file.extend(0_u64.to_le_bytes());
        // Flags: compressed instructions, double-float ABI.
        file.extend(5_u32.to_le_bytes());
        file.extend((HEADER as u16).to_le_bytes());
        file.extend(self.phentsize.to_le_bytes());
        file.extend(self.phnum.unwrap_or(self.segments.len() as u16).to_le_bytes());
        file.resize(HEADER, 0);
        for (i, segment) in self.segments.iter().enumerate() {
            let offset = segment.offset.unwrap_or(0x1000 * (i as u64 + 1) + segment.vaddr % 0x1000);
            file.extend(segment.kind.to_le_bytes());
            file.extend(segment.flags.to_le_bytes());
            let filesz = segment.filesz.unwrap_or(segment.data.len() as u64);
            for field in [offset, segment.vaddr, segment.vaddr, filesz, segment.memsz, 0x1000] {
                file.extend(field.to_le_bytes());
            }
        }
        for (i, segment) in self.segments.iter().enumerate() {
            file.resize(0x1000 * (i + 1) + (segment.vaddr % 0x1000) as usize, 0);
            file.extend(&segment.data);
        }
        file
    }
}

impl Segment {
    /// A `PT_LOAD` segment that holds `data`.
    pub(crate) fn load(vaddr: u64, flags: u32, data: Vec<u8>) -> Self {
        let memsz = data.len() as u64;
        Self { kind: 1, flags, vaddr, data, memsz, filesz: None, offset: None }
    }

    /// A `PT_INTERP` segment.
    pub(crate) fn interpreter(path: &[u8]) -> Self {
        Self { kind: 3, flags: 4, ..Self::load(0, 4, path.to_vec()) }
    }
}

/// `li register, value` for values of 12 bits.
pub(crate) const fn li(register: u32, value: i32) -> u32 {
    ((value as u32) & 0xfff) << 20 | register << 7 | 0x13
}

/// `a0`, `a1`, `a2`, `a7` and `sp`, `t0` as register numbers.
pub(crate) const A0: u32 = 10;
pub(crate) const A7: u32 = 17;
pub(crate) const SP: u32 = 2;
pub(crate) const T0: u32 = 5;

pub(crate) const ECALL: u32 = 0x0000_0073;
pub(crate) const EBREAK: u32 = 0x0010_0073;
/// Not an instruction.
pub(crate) const ILLEGAL: u32 = 0;

/// `ld rd, 0(rs)`.
pub(crate) const fn ld(rd: u32, rs: u32) -> u32 {
    rs << 15 | 3 << 12 | rd << 7 | 0x03
}

/// `sd rs2, offset(rs1)` for small offsets.
pub(crate) const fn sd(rs2: u32, rs1: u32, offset: u32) -> u32 {
    (offset >> 5) << 25 | rs2 << 20 | rs1 << 15 | 3 << 12 | (offset & 31) << 7 | 0x23
}

/// `add rd, rs1, rs2`.
pub(crate) const fn add(rd: u32, rs1: u32, rs2: u32) -> u32 {
    rs2 << 20 | rs1 << 15 | rd << 7 | 0x33
}

/// `addi rd, rs, value`.
pub(crate) const fn addi(rd: u32, rs: u32, value: i32) -> u32 {
    li(rd, value) | rs << 15
}

/// `lui rd, page`: `rd = page << 12`.
pub(crate) const fn lui(rd: u32, page: u32) -> u32 {
    page << 12 | rd << 7 | 0x37
}

/// `jalr zero, 0(rs)`.
pub(crate) const fn jump_register(rs: u32) -> u32 {
    rs << 15 | 0x67
}

/// `j` by so many bytes, backwards.
pub(crate) const fn jump_back(bytes: u32) -> u32 {
    let offset = bytes.wrapping_neg();
    (offset >> 20 & 1) << 31
        | (offset >> 1 & 0x3ff) << 21
        | (offset >> 11 & 1) << 20
        | (offset >> 12 & 0xff) << 12
        | 0x6f
}

/// `exit_group(status)`.
pub(crate) fn exit(status: i32) -> Vec<u32> {
    vec![li(A0, status), li(A7, 94), ECALL]
}
