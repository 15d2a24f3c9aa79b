//! Runs a program of streams: under QEMU, and on the hart in one of several [`Regime`]s.

use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};

use kilburn_addr::{Access, PAGE_SIZE};
use kilburn_paging::LeafFlags;
use kilburn_riscv::{Regs, Trap};

use super::generate::{Random, Reservations};
use super::program::{CODE_BASE, DATA_BASE, Program, SYS_WRITE};
use crate::bare::{CODE, DATA, Machine};

const QEMU: &str = "qemu-riscv64-static";
/// Far more than a program of so many streams executes.
const BUDGET: u64 = 20_000_000;

/// How one machine ended a program.
#[derive(Debug)]
pub(super) enum Ending {
    /// It handed back its data segment.
    Data(Vec<u8>),
    /// It did not, for the reason given; the stream is named if it is known.
    Died { why: String, stream: Option<usize> },
}

/// Whether QEMU can be started at all.
pub(super) fn has_qemu() -> bool {
    let status = Command::new(QEMU).arg("--version").stdout(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

/// Runs the program under QEMU.
pub(super) fn under_qemu(program: &Program) -> Ending {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let (elf, out) = (folder.path().join("streams"), folder.path().join("out"));
    std::fs::write(&elf, program.to_elf()).expect("the program can be written");
    make_executable(&elf);
    let status = run_qemu(&elf, &out);
    let data = std::fs::read(&out).expect("its output can be read");
    if status.success() && data.len() == program.data.len() {
        Ending::Data(data)
    } else {
        Ending::Died { why: format!("QEMU: {status}, {} bytes", data.len()), stream: None }
    }
}

fn run_qemu(elf: &Path, out: &Path) -> ExitStatus {
    Command::new(QEMU)
        .arg(elf)
        .stdin(Stdio::null())
        .stdout(std::fs::File::create(out).expect("its output can be made"))
        .stderr(Stdio::null())
        .status()
        .expect("QEMU starts")
}

fn make_executable(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::Permissions::from_mode(0o700);
    std::fs::set_permissions(path, mode).expect("the program can be made executable");
}

/// How the hart is to run a program.
#[derive(Clone, Copy, Debug)]
pub(super) enum Regime {
    /// In one go.
    Whole,
    /// In runs of few and many instructions, drawn by this seed.
    Cut(u64),
    /// As cut, while pages lose their rights and move to other frames; faults bring them back.
    Paged(u64),
}

impl Regime {
    /// The regimes take turns.
    pub(super) fn of(program: usize) -> Self {
        match program % 3 {
            0 => Self::Whole,
            1 => Self::Cut(program as u64),
            _ => Self::Paged(program as u64),
        }
    }

    pub(super) fn reservations(self) -> Reservations {
        match self {
            Self::Whole => Reservations::Used,
            Self::Cut(_) | Self::Paged(_) => Reservations::Absent,
        }
    }
}

/// Runs the program on the hart; answers with the number of instructions too.
pub(super) fn on_the_hart(program: &Program, regime: Regime) -> (Ending, u64) {
    let mut guest = Guest::new(program, regime);
    let ending = loop {
        if guest.machine.hart.stats().instructions > BUDGET {
            break guest.died("still running".into());
        }
        let step = guest.next_step();
        match guest.machine.run(&mut guest.regs, step) {
            Trap::Quantum => guest.disturb(),
            Trap::Syscall if guest.regs.x[Regs::A7] == SYS_WRITE => {
                guest.machine.check();
                break Ending::Data(guest.machine.read(DATA_BASE, program.data.len()));
            }
            Trap::PageFault { addr, access } if matches!(regime, Regime::Paged(_)) => {
                if let Err(why) = guest.resolve(addr.get(), access) {
                    break guest.died(why);
                }
            }
            trap => break guest.died(format!("{trap:x?}")),
        }
    };
    (ending, guest.machine.hart.stats().instructions)
}

/// A program on the hart.
struct Guest<'a> {
    program: &'a Program,
    regime: Regime,
    random: Random,
    machine: Machine,
    regs: Regs,
    /// The last fault, and how often it came in a row.
    fault: (u64, u64, Access),
    repeated: u32,
}

impl<'a> Guest<'a> {
    fn new(program: &'a Program, regime: Regime) -> Self {
        let mut machine = Machine::new(64 << 20);
        machine.map(CODE_BASE, program.code.len() as u64, CODE);
        machine.map(DATA_BASE, program.data.len() as u64, DATA);
        machine.write(CODE_BASE, &program.code);
        machine.write(DATA_BASE, &program.data);
        let random = Random::new(match regime {
            Regime::Whole => 0,
            Regime::Cut(seed) | Regime::Paged(seed) => seed,
        });
        let regs = Regs { pc: CODE_BASE, ..Regs::new() };
        Self { program, regime, random, machine, regs, fault: (0, 0, Access::Read), repeated: 0 }
    }

    fn next_step(&mut self) -> u64 {
        match self.regime {
            Regime::Whole => BUDGET,
            _ if self.random.below(4) == 0 => 1 + self.random.below(4_000),
            _ => 1 + self.random.below(40),
        }
    }

    /// A page of the program: near where it executes, or any.
    fn some_page(&mut self) -> u64 {
        let (code, data) = (self.program.code.len() as u64, self.program.data.len() as u64);
        match self.random.below(4) {
            0 => self.regs.pc,
            1 => CODE_BASE + self.random.below(code),
            2 => DATA_BASE + self.random.below(data),
            _ => {
                let block = super::program::block_address(self.program.stream_at(self.regs.pc));
                block + self.random.below(super::program::BLOCK as u64)
            }
        }
    }

    /// Between two runs: takes rights from pages, or moves them.
    fn disturb(&mut self) {
        if !matches!(self.regime, Regime::Paged(_)) {
            return;
        }
        for _ in 0..self.random.below(3) {
            let page = self.some_page();
            if !self.program.contains(page) {
                continue;
            }
            match self.random.below(3) {
                0 => self.machine.migrate(page),
                1 => self.restrict(page, LeafFlags::empty()),
                _ => self.restrict(page, LeafFlags::READ),
            }
        }
        self.machine.check();
    }

    fn restrict(&mut self, page: u64, rights: LeafFlags) {
        self.machine.grant(page, rights);
        self.machine.flush(page);
    }

    /// Makes a fault go away, by just the right asked for or by all that the page may have.
    ///
    /// # Errors
    /// It came back although the hart was flushed, or is not the program's to have.
    fn resolve(&mut self, addr: u64, access: Access) -> Result<(), String> {
        let fault = (self.regs.pc, addr, access);
        self.repeated = if fault == self.fault { self.repeated + 1 } else { 0 };
        self.fault = fault;
        let is_code = addr < DATA_BASE;
        let all = if is_code { CODE } else { DATA };
        if !self.program.contains(addr) || (access == Access::Exec && !is_code) {
            return Err(format!("{access:?} fault at {addr:#x}"));
        }
        let least = match access {
            Access::Read => LeafFlags::READ,
            Access::Write => DATA,
            Access::Exec => LeafFlags::READ | LeafFlags::EXEC,
        };
        let rights = if self.random.below(2) == 0 && self.repeated == 0 { least } else { all };
        self.machine.grant(addr, rights);
        // More rights need no flush, or one at most: a hart may remember that there were fewer.
        match self.repeated {
            0 => Ok(()),
            1 | 2 => {
                self.machine.flush(addr);
                Ok(())
            }
            _ => Err(format!("{access:?} fault at {addr:#x} does not go away")),
        }
    }

    fn died(&self, why: String) -> Ending {
        let pc = self.regs.pc;
        let stream = Some(self.program.stream_at(pc));
        Ending::Died { why: format!("the hart: {why} at {pc:#x}"), stream }
    }
}

impl Program {
    /// Whether `addr` is on a page of the program.
    fn contains(&self, addr: u64) -> bool {
        let is_in = |base: u64, length: usize| {
            (base..base + (length as u64).next_multiple_of(PAGE_SIZE)).contains(&addr)
        };
        is_in(CODE_BASE, self.code.len()) || is_in(DATA_BASE, self.data.len())
    }
}
