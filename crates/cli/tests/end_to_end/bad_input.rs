//! What must be refused, and how: one clear line and exit status 126, 127 or 2, never a panic. And
//! guests that run wild, which end by their own signal.

use crate::elf::{self, A0, A7, EBREAK, ECALL, Elf, ILLEGAL, SP, Segment, T0, TEXT};
use crate::kilburn::{Outcome, kilburn};
use std::fs;
use std::io::Read as _;
use std::path::PathBuf;

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, bytes).expect("written");
        path
    }
}

/// Runs these bytes as a program in an empty root.
fn run_bytes(bytes: &[u8]) -> Outcome {
    let folder = Folder::new();
    let path = folder.file("program", bytes);
    kilburn(&["run", path.to_str().expect("text")])
}

fn run_code(code: &[u32]) -> Outcome {
    run_bytes(&Elf::program(code).bytes())
}

/// Refused with this status and one line that has these words.
fn assert_refused(outcome: &Outcome, status: i32, words: &str) {
    assert_eq!(outcome.status, status, "{outcome:?}");
    assert_eq!(outcome.stdout, "", "{outcome:?}");
    assert!(outcome.stderr.starts_with("kilburn: "), "{outcome:?}");
    assert_eq!(outcome.stderr.trim_end().lines().count(), 1, "{outcome:?}");
    assert!(outcome.stderr.contains(words), "{words:?} in {outcome:?}");
}

#[test]
fn a_well_formed_program_runs() {
    assert_eq!(run_code(&elf::exit(42)).status, 42);
    assert_eq!(run_code(&elf::exit(300)).status, 300 & 0xff);
}

#[test]
fn what_is_no_elf_is_refused() {
    assert_refused(&run_bytes(b""), 126, "ELF");
    assert_refused(&run_bytes(b"plain text\n"), 126, "ELF");
    assert_refused(&run_bytes(&[0; 8192]), 126, "ELF");
    assert_refused(&run_bytes(b"\x7fEL"), 126, "ELF");
}

#[test]
fn a_script_whose_interpreter_is_not_there_is_not_found() {
    assert_refused(&run_bytes(b"#!/bin/nowhere -x\n"), 127, "/bin/nowhere");
}

#[test]
fn another_machine_class_or_byte_order_is_refused() {
    let good = Elf::program(&elf::exit(0));
    assert_refused(&run_bytes(&Elf { machine: 62, ..good.clone() }.bytes()), 126, "x86-64");
    assert_refused(&run_bytes(&Elf { machine: 40, ..good.clone() }.bytes()), 126, "machine");
    assert_refused(&run_bytes(&Elf { class: 1, ..good.clone() }.bytes()), 126, "class 1");
    // In a big-endian file the machine's bytes are swapped. The byte-order mark itself is not looked
    // at, as on Linux.
    assert_refused(&run_bytes(&Elf { machine: 243 << 8, ..good.clone() }.bytes()), 126, "machine");
    assert_eq!(run_bytes(&Elf { endian: 2, ..good.clone() }.bytes()).status, 0);
    assert_refused(&run_bytes(&Elf { kind: 4, ..good }.bytes()), 126, "");
    // A real one; its beginning, as all of it may be larger than the machine's memory.
    let mut own = Vec::new();
    let file = fs::File::open(env!("CARGO_BIN_EXE_kilburn")).expect("it was built");
    file.take(1 << 20).read_to_end(&mut own).expect("it can be read");
    assert_eq!(run_bytes(&own).status, 126);
}

#[test]
fn a_program_cut_anywhere_is_refused_or_dies_of_it() {
    let whole = Elf::program(&elf::exit(7)).bytes();
    for len in (0..64).chain((64..0x1000).step_by(61)) {
        let outcome = run_bytes(&whole[..len]);
        if len < 64 + 56 {
            assert_refused(&outcome, 126, "");
        } else {
            // The headers are there; the page of the code lies past the end of the file.
            assert_eq!(outcome.status, 128 + 7, "{len}: {outcome:?}");
        }
    }
    assert_eq!(run_bytes(&whole).status, 7);
}

#[test]
fn hostile_program_headers_are_refused() {
    let good = Elf::program(&elf::exit(0));
    let refused = |elf: &Elf| assert_refused(&run_bytes(&elf.bytes()), 126, "");
    refused(&Elf { phnum: Some(0), ..good.clone() });
    refused(&Elf { phnum: Some(u16::MAX), ..good.clone() });
    refused(&Elf { phentsize: 32, ..good.clone() });
    refused(&Elf { phoff: u64::MAX - 8, ..good.clone() });
    refused(&Elf { phoff: 1 << 40, ..good.clone() });
    let with = |change: &dyn Fn(&mut Segment)| {
        let mut elf = good.clone();
        change(&mut elf.segments[0]);
        elf
    };
    refused(&with(&|s| s.memsz = 1));
    refused(&with(&|s| s.memsz = u64::MAX));
    refused(&with(&|s| s.memsz = 1 << 62));
    refused(&with(&|s| (s.filesz, s.memsz) = (Some(u64::MAX), u64::MAX)));
    refused(&with(&|s| (s.vaddr, s.memsz) = (u64::MAX - 0xfff, 0x2000)));
    refused(&with(&|s| s.vaddr = 0xffff_ffff_8000_0000));
    refused(&with(&|s| s.vaddr = 0x7fff_ffff_f000));
}

#[test]
fn segments_that_overlap_are_loaded_as_linux_loads_them() {
    // The later one wins: its code exits with 9.
    let code: Vec<u8> = elf::exit(9).iter().flat_map(|w| w.to_le_bytes()).collect();
    let elf = Elf::program(&elf::exit(1)).with(Segment::load(TEXT, 5, code));
    assert_eq!(run_bytes(&elf.bytes()).status, 9);
}

#[test]
fn an_interpreter_that_is_not_there_or_is_none_is_refused() {
    let needs = |path: &[u8]| Elf::program(&elf::exit(0)).with(Segment::interpreter(path)).bytes();
    assert_refused(&run_bytes(&needs(b"/lib/ld-nowhere.so.1\0")), 127, "/lib/ld-nowhere.so.1");
    assert_refused(&run_bytes(&needs(b"/not-terminated")), 126, "");
    assert_refused(&run_bytes(&needs(b"")), 126, "");
    assert_refused(&run_bytes(&needs(&[b'x'; 8192])), 126, "");

    let folder = Folder::new();
    folder.file(
        "text",
        b"not an ELF at all, but long enough to have a header's worth of bytes......\n",
    );
    folder.file("program", &needs(b"/text\0"));
    let program = folder.0.path().join("program");
    let mut rights = fs::metadata(&program).expect("there").permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut rights, 0o755);
    fs::set_permissions(&program, rights).expect("set");
    let root = format!("--root={}", folder.0.path().display());
    assert_refused(&kilburn(&["run", &root, "/program"]), 126, "");
}

#[test]
fn a_program_that_is_not_there_is_not_found() {
    assert_refused(&kilburn(&["run", "/nowhere/at/all"]), 127, "/nowhere/at/all");
    let folder = Folder::new();
    let root = format!("--root={}", folder.0.path().display());
    assert_refused(&kilburn(&["run", &root, "/bin/sh"]), 127, "/bin/sh");
    assert_refused(&kilburn(&["run", &root, "sh"]), 127, "sh");
    assert_refused(&kilburn(&["run", &root, "../../../../bin/sh"]), 127, "bin/sh");
}

#[test]
fn a_program_that_may_not_be_executed_is_refused() {
    assert_refused(&kilburn(&["run", "/"]), 126, "/");
    let folder = Folder::new();
    folder.file("program", &Elf::program(&elf::exit(0)).bytes());
    let root = format!("--root={}", folder.0.path().display());
    assert_refused(&kilburn(&["run", &root, "/program"]), 126, "/program");
    assert_refused(&kilburn(&["run", &root, "/"]), 126, "/");
}

#[test]
fn a_wrong_configuration_is_status_2() {
    let folder = Folder::new();
    let file = folder.file("file", b"");
    let file = file.to_str().expect("text");
    assert_refused(&kilburn(&["run", "--root", "/nowhere/at/all", "sh"]), 2, "/nowhere/at/all");
    assert_refused(&kilburn(&["run", "--root", file, "sh"]), 2, file);
    assert_refused(&kilburn(&["run", "--memory", "16K"]), 2, "memory");
    assert_refused(&kilburn(&["run", "--memory", "0"]), 2, "memory");
    assert_refused(&kilburn(&["run", "--memory", "16777216G"]), 2, "memory");
    assert_refused(&kilburn(&["run", "--root", file]), 2, "PROGRAM");
    assert_refused(&kilburn(&["run", "--cwd", "/nowhere"]), 2, "/nowhere");
    for wrong in [["--memory", "many"], ["--harts", "0"], ["--paging", "sv32"], ["--env", "X"]] {
        let outcome = kilburn(&["run", wrong[0], wrong[1]]);
        assert_eq!(outcome.status, 2, "{outcome:?}");
        assert!(outcome.stderr.contains(wrong[0]), "{outcome:?}");
    }
}

#[test]
fn wild_guests_end_by_the_signal_linux_sends() {
    let signal = |number, code: &[u32]| {
        let outcome = run_code(code);
        assert_eq!(outcome.status, 128 + number, "{code:x?}: {outcome:?}");
        assert!(!outcome.stderr.contains("panicked"), "{outcome:?}");
    };
    signal(4, &[ILLEGAL]);
    signal(5, &[EBREAK]);
    // A NULL pointer; the text is not writable; nothing there to run; code that just goes on.
    signal(11, &[elf::ld(A0, 0)]);
    signal(11, &[elf::lui(T0, (TEXT >> 12) as u32), elf::sd(A0, T0, 0)]);
    signal(11, &[elf::lui(T0, 0x40), elf::jump_register(T0)]);
    signal(4, &[elf::li(A0, 1)]);
    // Stores going down from the stack without end.
    signal(11, &[elf::addi(SP, SP, -2048), elf::sd(A0, SP, 0), elf::jump_back(8)]);
    // An entry point outside every segment.
    let nowhere = Elf { entry: 0x7777_0000, ..Elf::program(&elf::exit(0)) };
    assert_eq!(run_bytes(&nowhere.bytes()).status, 128 + 11);
}

#[test]
fn a_guest_that_wants_more_memory_than_there_is_is_killed() {
    // brk(nearly all there is further up), then a store to every half page.
    let code = [
        elf::li(A0, 0),
        elf::li(A7, 214),
        ECALL,
        elf::add(T0, A0, 0),
        elf::lui(A0, 0x7fc),
        elf::add(A0, A0, T0),
        ECALL,
        elf::sd(A0, T0, 0),
        elf::addi(T0, T0, 2040),
        elf::jump_back(8),
    ];
    let folder = Folder::new();
    let path = folder.file("greedy", &Elf::program(&code).bytes());
    let path = path.to_str().expect("text");
    let outcome = kilburn(&["run", "--memory", "8M", path]);
    assert_eq!(outcome.status, 128 + 9, "killed for memory, as Linux does: {outcome:?}");
    assert!(!outcome.stderr.contains("panicked"), "{outcome:?}");
    // With enough of it, the same guest runs into the end of its heap.
    assert_eq!(kilburn(&["run", "--memory", "256M", path]).status, 128 + 11);
}

#[test]
fn unknown_system_calls_are_counted_and_named() {
    let code = [vec![elf::li(A7, 1999), ECALL, elf::li(A7, 180), ECALL], elf::exit(0)].concat();
    let folder = Folder::new();
    let path = folder.file("asks", &Elf::program(&code).bytes());
    let outcome = kilburn(&["run", "--stats", path.to_str().expect("text")]);
    assert_eq!(outcome.status, 0);
    assert!(outcome.stderr.contains("number 1999 1"), "{outcome:?}");
    assert!(outcome.stderr.contains("mq_open 1"), "{outcome:?}");
}

/// A small generator, so that a failure repeats.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }
}

#[test]
fn headers_with_random_damage_never_bring_the_machine_down() {
    let code: Vec<u8> = elf::exit(9).iter().flat_map(|w| w.to_le_bytes()).collect();
    let whole = Elf::program(&elf::exit(3)).with(Segment::load(0x2_0000, 6, code)).bytes();
    let headers = 64 + 2 * 56;
    let interesting = [0, 1, 0x7f, 0x80, 0xff];
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for round in 0..150 {
        let mut bytes = whole.clone();
        for _ in 0..=random.below(4) {
            let value = if random.below(2) == 0 {
                interesting[random.below(interesting.len())]
            } else {
                random.below(256) as u8
            };
            // Not the magic number: it is there for everything else to be looked at.
            bytes[4 + random.below(headers - 4)] = value;
        }
        let outcome = run_bytes(&bytes);
        let ended = matches!(outcome.status, 0..=9 | 126 | 127 | 128..=159);
        assert!(ended && !outcome.stderr.contains("panicked"), "round {round}: {outcome:?}");
    }
}
