//! The stack a program starts with: strings, auxiliary vector, argument pointers (Linux 6.18
//! fs/exec.c: `copy_strings`; fs/binfmt_elf.c: `create_elf_tables`).
//!
//! ```text
//!   top -> 8 bytes of zero
//!          file name (AT_EXECFN)
//!          environment strings      last one highest
//!          argument strings
//!          gap: alignment, and with ASLR up to a page
//!          16 random bytes (AT_RANDOM)
//!          auxiliary vector         pairs, up to AT_NULL
//!          environment pointers, 0
//!          argument pointers, 0
//!   sp ->  argc
//! ```

use crate::task::limits::UNLIMITED;
use kilburn_addr::{Errno, VirtAddr};

/// Longest single string, its zero included (`MAX_ARG_STRLEN`).
pub(crate) const STRING_MAX: usize = 131_072;
/// Most strings in one vector (`MAX_ARG_STRINGS`).
pub(crate) const STRINGS_MAX: usize = 0x7fff_ffff;
/// Room for strings that no limit takes away (`ARG_MAX`).
const ARG_MAX: u64 = 131_072;
/// `_STK_LIM / 4 * 3`
const STRINGS_LIMIT: u64 = (8 << 20) / 4 * 3;
/// Entries of `mm->saved_auxv` that are written: all pairs, AT_NULL and one spare are zero.
const WORD: u64 = 8;

/// `AT_*` (include/uapi/linux/auxvec.h, arch/riscv/include/uapi/asm/auxvec.h).
pub(crate) mod at {
    pub(crate) const NULL: u64 = 0;
    pub(crate) const PHDR: u64 = 3;
    pub(crate) const PHENT: u64 = 4;
    pub(crate) const PHNUM: u64 = 5;
    pub(crate) const PAGESZ: u64 = 6;
    pub(crate) const BASE: u64 = 7;
    pub(crate) const FLAGS: u64 = 8;
    pub(crate) const ENTRY: u64 = 9;
    pub(crate) const UID: u64 = 11;
    pub(crate) const EUID: u64 = 12;
    pub(crate) const GID: u64 = 13;
    pub(crate) const EGID: u64 = 14;
    pub(crate) const HWCAP: u64 = 16;
    pub(crate) const CLKTCK: u64 = 17;
    pub(crate) const SECURE: u64 = 23;
    pub(crate) const RANDOM: u64 = 25;
    pub(crate) const RSEQ_FEATURE_SIZE: u64 = 27;
    pub(crate) const RSEQ_ALIGN: u64 = 28;
    pub(crate) const EXECFN: u64 = 31;
    pub(crate) const SYSINFO_EHDR: u64 = 33;
    pub(crate) const L1I_CACHESIZE: u64 = 40;
    pub(crate) const L3_CACHEGEOMETRY: u64 = 47;
    pub(crate) const MINSIGSTKSZ: u64 = 51;
}

/// Argument and environment strings, without their zeros.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Strings {
    pub(crate) file_name: Vec<u8>,
    pub(crate) argv: Vec<Vec<u8>>,
    pub(crate) envp: Vec<Vec<u8>>,
}

impl Strings {
    /// Bytes the strings take, their zeros included, without the file name.
    fn bytes(&self) -> u64 {
        self.argv.iter().chain(&self.envp).map(|s| s.len() as u64 + 1).sum()
    }

    /// Whether strings and pointers fit a stack limited to `stack_limit` (Linux
    /// `bprm_stack_limits`).
    ///
    /// # Errors
    /// E2BIG.
    pub(crate) fn check(&self, stack_limit: u64) -> Result<(), Errno> {
        let quarter = if stack_limit == UNLIMITED { UNLIMITED } else { stack_limit / 4 };
        let limit = quarter.clamp(ARG_MAX, STRINGS_LIMIT);
        let pointers = (self.argv.len().max(1) + self.envp.len()) as u64 * WORD;
        let room = limit.checked_sub(pointers).filter(|room| *room > 0).ok_or(Errno::E2BIG)?;
        if self.bytes() > room { Err(Errno::E2BIG) } else { Ok(()) }
    }
}

/// The strings laid out below a stack top.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct StringArea {
    /// Address of the first byte.
    pub(crate) start: u64,
    pub(crate) bytes: Vec<u8>,
    pub(crate) arg_start: u64,
    pub(crate) arg_end: u64,
    pub(crate) env_end: u64,
    pub(crate) file_name: u64,
}

/// Lays out the strings so that they end at `top`.
pub(crate) fn lay_out_strings(strings: &Strings, top: VirtAddr) -> StringArea {
    let mut bytes = Vec::new();
    let mut append = |all: &[Vec<u8>]| {
        for string in all {
            bytes.extend_from_slice(string);
            bytes.push(0);
        }
        bytes.len() as u64
    };
    let arg_bytes = append(&strings.argv);
    let env_bytes = append(&strings.envp);
    let name_bytes = append(std::slice::from_ref(&strings.file_name));
    bytes.extend_from_slice(&[0; WORD as usize]);
    let start = top.get() - name_bytes - WORD;
    StringArea {
        start,
        bytes,
        arg_start: start,
        arg_end: start + arg_bytes,
        env_end: start + env_bytes,
        file_name: start + env_bytes,
    }
}

/// What goes below the strings.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Tables {
    /// The initial stack pointer: address of the first byte.
    pub(crate) sp: u64,
    pub(crate) bytes: Vec<u8>,
    /// Type and value, alternating, AT_NULL included.
    pub(crate) auxv: Vec<u64>,
}

/// Lays out random bytes, vectors and argc below `below`; `auxv` gets AT_RANDOM and AT_EXECFN
/// filled in. `shift` is how far ASLR moves it all down.
pub(crate) fn lay_out_tables(
    strings: &Strings,
    area: &StringArea,
    mut auxv: Vec<(u64, u64)>,
    random: [u8; 16],
    shift: u64,
) -> Tables {
    let random_at = ((area.start - shift) & !0xf) - 16;
    for (kind, value) in &mut auxv {
        match *kind {
            at::RANDOM => *value = random_at,
            at::EXECFN => *value = area.file_name,
            _ => (),
        }
    }
    let mut words = vec![strings.argv.len() as u64];
    let mut at = area.start;
    for vector in [&strings.argv, &strings.envp] {
        for string in vector {
            words.push(at);
            at += string.len() as u64 + 1;
        }
        words.push(0);
    }
    let auxv: Vec<u64> = auxv.into_iter().flat_map(|(kind, value)| [kind, value]).collect();
    // Linux reserves AT_NULL's pair and counts it in.
    words.extend(&auxv);
    words.extend([at::NULL, 0]);
    let sp = (random_at - words.len() as u64 * WORD) & !0xf;
    let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    bytes.resize((random_at - sp) as usize, 0);
    bytes.extend_from_slice(&random);
    let auxv = auxv.into_iter().chain([at::NULL, 0]).collect();
    Tables { sp, bytes, auxv }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(file: &str, argv: &[&str], envp: &[&str]) -> Strings {
        let all = |list: &[&str]| list.iter().map(|s| s.as_bytes().to_vec()).collect();
        Strings { file_name: file.as_bytes().to_vec(), argv: all(argv), envp: all(envp) }
    }

    #[test]
    fn addresses_are_those_a_real_kernel_gave() {
        // riscv64 6.12, ASLR off, `./lay` with one argument and 132 bytes of environment: AT_EXECFN
        // 0x7ffffffffff2, argv[0] 0x7fffffffff66, AT_RANDOM 0x7fffffffff50.
        let env = "E".repeat(0xf2 - 0x6c - 1);
        let strings = strings("./lay", &["./lay"], &[&env]);
        let area = lay_out_strings(&strings, VirtAddr::new(0x8000_0000_0000));
        assert_eq!(area.file_name, 0x7fff_ffff_fff2);
        assert_eq!(area.arg_start, 0x7fff_ffff_ff66);
        assert_eq!(area.start + area.bytes.len() as u64, 0x8000_0000_0000);
        let auxv = vec![(at::RANDOM, 0), (at::EXECFN, 0), (at::PAGESZ, 4096)];
        let tables = lay_out_tables(&strings, &area, auxv, [7; 16], 0);
        assert_eq!(tables.auxv[..4], [25, 0x7fff_ffff_ff50, 31, 0x7fff_ffff_fff2]);
        assert_eq!(tables.sp % 16, 0);
        assert_eq!(tables.sp + tables.bytes.len() as u64, 0x7fff_ffff_ff60);
        assert_eq!(tables.bytes[..8], 1_u64.to_le_bytes());
        assert_eq!(tables.bytes[8..16], area.arg_start.to_le_bytes());
    }

    #[test]
    fn strings_may_take_a_quarter_of_the_stack_and_never_less_than_128_kib() {
        let text = strings("f", &[&"x".repeat(100_000)], &[]);
        assert_eq!(text.check(0), Ok(()));
        let long = "x".repeat(130_000);
        let text = strings("f", &[&long, &long], &[]);
        assert_eq!(text.check(0), Err(Errno::E2BIG));
        assert_eq!(text.check(8 << 20), Ok(()));
        let many = Strings { argv: vec![Vec::new(); 800_000], ..Strings::default() };
        assert_eq!(many.check(UNLIMITED), Err(Errno::E2BIG));
    }
}
