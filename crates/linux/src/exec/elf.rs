//! ELF headers: what a program file says about itself, checked (Linux 6.18 fs/binfmt_elf.c:
//! `load_elf_binary`, `load_elf_phdrs`).
//!
//! Nothing here touches an address space. What passes is consistent enough to try mapping it;
//! addresses are still the file's word and are judged by who maps them.

use crate::exec::ExecError;
use kilburn_addr::{Errno, PAGE_MASK, PAGE_SIZE};
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, KnownLayout};

/// The only machine that runs here.
const EM_RISCV: u16 = 243;
const ELFCLASS64: u8 = 2;
const PT_LOAD: u32 = 1;
const PT_INTERP: u32 = 3;
const PT_GNU_STACK: u32 = 0x6474_e551;
/// Most bytes of program headers Linux reads.
const PHDRS_MAX: usize = 65536;
/// Longest interpreter path, its zero included.
const PATH_MAX: u64 = 4096;
/// Bytes of a program header.
const PHDR_BYTES: usize = 56;

/// `PF_X`
pub(crate) const PF_X: u32 = 1;
/// `PF_W`
pub(crate) const PF_W: u32 = 2;
/// `PF_R`
pub(crate) const PF_R: u32 = 4;

#[derive(FromBytes, KnownLayout, Immutable)]
#[repr(C)]
struct Ehdr {
    ident: [u8; 16],
    kind: U16,
    machine: U16,
    version: U32,
    entry: U64,
    phoff: U64,
    shoff: U64,
    flags: U32,
    ehsize: U16,
    phentsize: U16,
    phnum: U16,
    shentsize: U16,
    shnum: U16,
    shstrndx: U16,
}

#[derive(FromBytes, KnownLayout, Immutable)]
#[repr(C)]
struct Phdr {
    kind: U32,
    flags: U32,
    offset: U64,
    vaddr: U64,
    paddr: U64,
    filesz: U64,
    memsz: U64,
    align: U64,
}

/// Whether a program has its own addresses or can go anywhere.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// `ET_EXEC`
    Fixed,
    /// `ET_DYN`
    Movable,
}

/// A `PT_LOAD` header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Segment {
    pub(crate) flags: u32,
    pub(crate) offset: u64,
    pub(crate) vaddr: u64,
    pub(crate) filesz: u64,
    pub(crate) memsz: u64,
    pub(crate) align: u64,
}

/// Where the interpreter's path is in the file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct InterpPath {
    pub(crate) offset: u64,
    pub(crate) bytes: u64,
}

/// What an ELF file says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Elf {
    pub(crate) kind: Kind,
    pub(crate) entry: u64,
    pub(crate) phoff: u64,
    pub(crate) phnum: u16,
    pub(crate) segments: Vec<Segment>,
    pub(crate) interp: Option<InterpPath>,
    /// `PT_GNU_STACK` asks for an executable stack.
    pub(crate) exec_stack: bool,
}

/// Reads exactly `into.len()` bytes at an offset of the file.
///
/// # Errors
/// EIO when there are fewer.
pub(crate) type ReadAt<'a> = &'a dyn Fn(u64, &mut [u8]) -> Result<(), Errno>;

fn refused(reason: String) -> ExecError {
    ExecError { errno: Errno::ENOEXEC, reason }
}

/// Parses the file whose first bytes are `head`.
///
/// # Errors
/// ENOEXEC with the reason in words; EIO when the file ends inside its headers.
pub(crate) fn parse(head: &[u8], read_at: ReadAt<'_>) -> Result<Elf, ExecError> {
    let Ok((ehdr, _)) = Ehdr::read_from_prefix(head) else {
        return Err(refused("not an ELF file".into()));
    };
    if !ehdr.ident.starts_with(b"\x7fELF") {
        return Err(refused("not an ELF file".into()));
    }
    let machine = ehdr.machine.get();
    if machine != EM_RISCV {
        let known = match machine {
            3 => " (x86)",
            40 => " (ARM)",
            62 => " (x86-64)",
            183 => " (AArch64)",
            _ => "",
        };
        return Err(refused(format!("ELF for machine {machine}{known}, need 243 (RISC-V)")));
    }
    if ehdr.ident[4] != ELFCLASS64 {
        return Err(refused(format!("ELF of class {}, need 2 (64 bits)", ehdr.ident[4])));
    }
    let kind = match ehdr.kind.get() {
        2 => Kind::Fixed,
        3 => Kind::Movable,
        other => return Err(refused(format!("ELF of type {other}, need 2 or 3 (executable)"))),
    };
    let phnum = ehdr.phnum.get();
    let bytes = usize::from(phnum) * PHDR_BYTES;
    if usize::from(ehdr.phentsize.get()) != PHDR_BYTES {
        let size = ehdr.phentsize.get();
        return Err(refused(format!("program headers of {size} bytes, need {PHDR_BYTES}")));
    }
    if phnum == 0 || bytes > PHDRS_MAX {
        return Err(refused(format!("{phnum} program headers")));
    }
    let mut table = vec![0; bytes];
    read_at(ehdr.phoff.get(), &mut table)
        .map_err(|_| refused("program headers past the end of the file".into()))?;
    let mut elf = Elf {
        kind,
        entry: ehdr.entry.get(),
        phoff: ehdr.phoff.get(),
        phnum,
        segments: Vec::new(),
        interp: None,
        exec_stack: false,
    };
    for bytes in table.chunks_exact(PHDR_BYTES) {
        let phdr = Phdr::read_from_bytes(bytes).map_err(|_| refused("program header".into()))?;
        elf.take(&phdr)?;
    }
    Ok(elf)
}

impl Elf {
    fn take(&mut self, phdr: &Phdr) -> Result<(), ExecError> {
        match phdr.kind.get() {
            PT_LOAD => self.segments.push(Segment {
                flags: phdr.flags.get(),
                offset: phdr.offset.get(),
                vaddr: phdr.vaddr.get(),
                filesz: phdr.filesz.get(),
                memsz: phdr.memsz.get(),
                align: phdr.align.get(),
            }),
            // Only the first counts.
            PT_INTERP if self.interp.is_none() => {
                let bytes = phdr.filesz.get();
                if !(2..=PATH_MAX).contains(&bytes) {
                    return Err(refused(format!("interpreter path of {bytes} bytes")));
                }
                self.interp = Some(InterpPath { offset: phdr.offset.get(), bytes });
            }
            PT_GNU_STACK => self.exec_stack = phdr.flags.get() & PF_X != 0,
            _ => (),
        }
        Ok(())
    }

    /// Bytes from the first page of the lowest segment to the end of the highest (Linux
    /// `total_mapping_size`); 0 when there is no segment. May wrap, as in Linux.
    pub(crate) fn total_size(&self) -> u64 {
        let lowest = self.segments.iter().map(|s| s.vaddr & PAGE_MASK).min();
        let highest = self.segments.iter().map(|s| s.vaddr.wrapping_add(s.memsz)).max();
        match (lowest, highest) {
            (Some(lowest), Some(highest)) => highest.wrapping_sub(lowest),
            _ => 0,
        }
    }

    /// The largest alignment a segment asks for, at least a page (Linux `maximum_alignment`).
    pub(crate) fn alignment(&self) -> u64 {
        let asked = self.segments.iter().map(|s| s.align).filter(|a| a.is_power_of_two()).max();
        asked.unwrap_or(0).max(PAGE_SIZE)
    }

    /// Address of the program headers in memory, before relocation; 0 when no segment has them.
    pub(crate) fn phdr_address(&self) -> u64 {
        let mut address = 0;
        for segment in &self.segments {
            let inside = self.phoff.wrapping_sub(segment.offset);
            if segment.offset <= self.phoff && inside < segment.filesz {
                address = inside.wrapping_add(segment.vaddr);
            }
        }
        address
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// An ELF header with these program headers right behind it.
    pub(crate) fn image(phdrs: &[[u64; 8]]) -> Vec<u8> {
        let mut file = Vec::new();
        file.extend_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
        for half in [2_u16, EM_RISCV] {
            file.extend_from_slice(&half.to_le_bytes());
        }
        file.extend_from_slice(&1_u32.to_le_bytes());
        for word in [0x1_0000_u64, 64, 0] {
            file.extend_from_slice(&word.to_le_bytes());
        }
        file.extend_from_slice(&0_u32.to_le_bytes());
        for half in [64, PHDR_BYTES as u16, phdrs.len() as u16, 0, 0, 0] {
            file.extend_from_slice(&half.to_le_bytes());
        }
        for [kind, flags, offset, vaddr, paddr, filesz, memsz, align] in phdrs {
            file.extend_from_slice(&(*kind as u32).to_le_bytes());
            file.extend_from_slice(&(*flags as u32).to_le_bytes());
            for word in [offset, vaddr, paddr, filesz, memsz, align] {
                file.extend_from_slice(&word.to_le_bytes());
            }
        }
        file
    }

    fn parse_bytes(file: &[u8]) -> Result<Elf, ExecError> {
        parse(file, &|at, into| {
            let from = usize::try_from(at).map_err(|_| Errno::EIO)?;
            let end = from.checked_add(into.len()).ok_or(Errno::EIO)?;
            into.copy_from_slice(file.get(from..end).ok_or(Errno::EIO)?);
            Ok(())
        })
    }

    #[test]
    fn a_plain_program_is_understood() {
        let file = image(&[
            [1, 5, 0, 0x1_0000, 0, 0x100, 0x2000, 0x1000],
            [0x6474_e551, 7, 0, 0, 0, 0, 0, 0],
        ]);
        let elf = parse_bytes(&file).expect("valid");
        assert_eq!(elf.kind, Kind::Fixed);
        assert_eq!(elf.segments.len(), 1);
        assert!(elf.exec_stack);
        assert_eq!(elf.total_size(), 0x2000);
        assert_eq!(elf.phdr_address(), 0x1_0040);
    }

    #[test]
    fn headers_that_lie_are_refused_with_a_reason() {
        let reason = |file: &[u8]| parse_bytes(file).expect_err("refused").reason;
        assert_eq!(reason(b"#!/bin/sh\n"), "not an ELF file");
        let mut other = image(&[[1, 5, 0, 0, 0, 0, 0, 0]]);
        other[18] = 62;
        other[19] = 0;
        assert_eq!(reason(&other), "ELF for machine 62 (x86-64), need 243 (RISC-V)");
        let mut class = image(&[[1, 5, 0, 0, 0, 0, 0, 0]]);
        class[4] = 1;
        assert_eq!(reason(&class), "ELF of class 1, need 2 (64 bits)");
        let mut entsize = image(&[[1, 5, 0, 0, 0, 0, 0, 0]]);
        entsize[54] = 0;
        assert_eq!(reason(&entsize), "program headers of 0 bytes, need 56");
        assert_eq!(reason(&image(&[])), "0 program headers");
        let mut far = image(&[[1, 5, 0, 0, 0, 0, 0, 0]]);
        far[32..40].copy_from_slice(&u64::MAX.to_le_bytes());
        assert_eq!(reason(&far), "program headers past the end of the file");
        let long = image(&[[3, 4, 0, 0, 0, 1 << 40, 0, 0]]);
        assert_eq!(reason(&long), "interpreter path of 1099511627776 bytes");
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(mut file in proptest::collection::vec(any::<u8>(), 0..400), patch in any::<bool>()) {
            if patch && file.len() >= 64 {
                let valid = image(&[[1, 5, 0, 0x1000, 0, 1, 1, 1], [3, 4, 9, 0, 0, 9, 0, 0]]);
                let keep = valid.len().min(file.len());
                file[..56].copy_from_slice(&valid[..56]);
                file[54] = PHDR_BYTES as u8;
                file[55] = 0;
                let _ = keep;
            }
            if let Ok(elf) = parse_bytes(&file) {
                let _ = (elf.total_size(), elf.alignment(), elf.phdr_address());
            }
        }
    }
}
