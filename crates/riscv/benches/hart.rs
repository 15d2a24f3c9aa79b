//! Guest programs under Sv39: instructions per second.
//!
//! `cargo bench -p kilburn-riscv --bench hart [NAME...]`. The programs are in `benches/guest`; each
//! runs three times on a fresh machine, the least processor time counts, and the result is checked.

use kilburn_addr::{PAGE_SIZE, Pfn, PhysAddr, VirtAddr};
use kilburn_paging::walk::entry_addr;
use kilburn_paging::{Entry, Format, Leaf, LeafFlags, PhysMem, Sv};
use kilburn_riscv::{GuestRam, Hart, HartConfig, Regs, Space, Trap};
use std::sync::Arc;
use std::time::Duration;

const CODE: u64 = 0x1_0000;
const HEAP: u64 = 0x1000_0000;
const HEAP_BYTES: u64 = 64 << 20;
const STACK: u64 = 0x3f_0000_0000;
/// Instructions between two returns to the kernel, as a scheduler would have it.
const QUANTUM: u64 = 100_000;

struct Program {
    name: &'static str,
    image: &'static [u8],
    result: u64,
}

macro_rules! programs {
    ($($name:literal = $result:literal),* $(,)?) => {
        &[$(Program {
            name: $name,
            image: include_bytes!(concat!("guest/", $name, ".bin")),
            result: $result,
        }),*]
    };
}

const PROGRAMS: &[Program] = programs! {
    "xorshift" = 0x1d38_fa0c_e9e7_58e1,
    "sieve" = 82025,
    "sha256" = 0x2a70_08c0_8349_516d,
    "qsort" = 0,
    "chase" = 0x2c_4ee0,
};

struct Machine {
    ram: Arc<GuestRam>,
    next: u64,
    root: Pfn,
}

impl Machine {
    fn new() -> Self {
        let ram = Arc::new(GuestRam::new(HEAP_BYTES + (8 << 20)).expect("RAM"));
        let root = ram.base_pfn();
        Self { ram, next: root.get() + 1, root }
    }

    fn frame(&mut self) -> Pfn {
        self.next += 1;
        Pfn::new(self.next - 1)
    }

    fn map(&mut self, va: u64, rights: LeafFlags) -> Pfn {
        let format = Sv::SV39;
        let mut table = self.root;
        for level in (1..format.levels()).rev() {
            let at = entry_addr(table, format.index(VirtAddr::new(va), level));
            table = match format.decode(self.ram.load(at), level) {
                Entry::Table(next) => next,
                _ => {
                    let next = self.frame();
                    self.ram.store(at, format.encode(Entry::Table(next), level));
                    next
                }
            };
        }
        let pfn = self.frame();
        let at = entry_addr(table, format.index(VirtAddr::new(va), 0));
        let leaf = Leaf { pfn, flags: rights | LeafFlags::USER };
        self.ram.store(at, format.encode(Entry::Leaf(leaf), 0));
        pfn
    }
}

/// Time this thread has spent on a processor, so that a busy host disturbs less.
fn cpu_time() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
    let nanos = text.split(' ').next().and_then(|field| field.parse().ok());
    Duration::from_nanos(nanos.expect("nanoseconds on a processor"))
}

/// Runs `program` once.
fn measure(program: &Program) -> (u64, Duration, Hart) {
    let rx = LeafFlags::READ | LeafFlags::EXEC;
    let rw = LeafFlags::READ | LeafFlags::WRITE;
    let mut machine = Machine::new();
    for (index, page) in program.image.chunks(PAGE_SIZE as usize).enumerate() {
        let pfn = machine.map(CODE + index as u64 * PAGE_SIZE, rx);
        machine.ram.write(PhysAddr::new(pfn.base().get()), page);
    }
    for page in 0..HEAP_BYTES / PAGE_SIZE {
        machine.map(HEAP + page * PAGE_SIZE, rw);
    }
    for page in 1..=16 {
        machine.map(STACK - page * PAGE_SIZE, rw);
    }
    let space = Space { root: machine.root, format: Sv::SV39, asid: 1 };
    let mut hart = Hart::new(machine.ram, HartConfig::default());
    let mut regs = Regs::new();
    regs.pc = CODE;
    regs.x[Regs::SP] = STACK;
    regs.x[Regs::A0] = HEAP;
    let start = cpu_time();
    let trap = loop {
        match hart.run(&mut regs, space, QUANTUM) {
            Trap::Quantum => {}
            trap => break trap,
        }
    };
    let time = cpu_time() - start;
    assert_eq!(trap, Trap::Syscall, "{} at {:#x}", program.name, regs.pc);
    let result = regs.x[Regs::A0];
    assert_eq!(result, program.result, "{}", program.name);
    (hart.stats().instructions, time, hart)
}

fn main() {
    let wanted: Vec<String> =
        std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    println!(
        "{:10} {:>14} {:>9} {:>7}  lookups, TLB requests, walks",
        "program", "instructions", "seconds", "MIPS"
    );
    for program in PROGRAMS {
        if !wanted.is_empty() && !wanted.iter().any(|name| name == program.name) {
            continue;
        }
        let (instructions, time, hart) =
            (0..3).map(|_| measure(program)).min_by_key(|(_, time, _)| *time).expect("three runs");
        let stats = hart.stats();
        println!(
            "{:10} {instructions:14} {:9.3} {:7.0}  {}, {}, {}",
            program.name,
            time.as_secs_f64(),
            instructions as f64 / time.as_secs_f64() / 1e6,
            stats.lookups(),
            stats.mmu.hits + stats.mmu.walks,
            stats.mmu.walks,
        );
    }
}
