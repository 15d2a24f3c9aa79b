//! A machine for tests: RAM, one address space, a hart, and a small assembler.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::allow_attributes,
    reason = "each test file uses a part"
)]

use kilburn_addr::{PAGE_SIZE, Pfn, PhysAddr, VirtAddr};
use kilburn_paging::walk::entry_addr;
use kilburn_paging::{Entry, Format, Leaf, LeafFlags, PhysMem, Sv};
use kilburn_riscv::{GuestRam, Hart, HartConfig, Regs, Space, Trap};
use std::sync::Arc;

pub mod asm;

pub const R: LeafFlags = LeafFlags::READ.union(LeafFlags::USER);
pub const RW: LeafFlags = R.union(LeafFlags::WRITE);
pub const RX: LeafFlags = R.union(LeafFlags::EXEC);
pub const RWX: LeafFlags = RW.union(LeafFlags::EXEC);
pub const X: LeafFlags = LeafFlags::EXEC.union(LeafFlags::USER);

/// Where tests put their code.
pub const CODE: u64 = 0x1_0000;
/// Where tests put their data.
pub const DATA: u64 = 0x20_0000;

pub struct Machine {
    pub ram: Arc<GuestRam>,
    pub hart: Hart,
    pub regs: Regs,
    pub space: Space,
    next: u64,
}

impl Machine {
    /// Two pages of code at [`CODE`] that begin with `code`, and four of data at [`DATA`].
    pub fn new(code: &[u32]) -> Self {
        Self::with_format(Sv::SV39, code)
    }

    pub fn with_format(format: Sv, code: &[u32]) -> Self {
        let ram = Arc::new(GuestRam::new(8 << 20).expect("8 MiB"));
        let hart = Hart::new(ram.clone(), HartConfig::default());
        let space = Space { root: ram.base_pfn(), format, asid: 1 };
        let mut machine =
            Self { ram, hart, regs: Regs::new(), space, next: 1 + GuestRam::BASE.pfn().get() };
        for page in 0..2 {
            machine.map(CODE + page * PAGE_SIZE, RX);
        }
        for page in 0..4 {
            machine.map(DATA + page * PAGE_SIZE, RW);
        }
        machine.put_code(CODE, code);
        machine.regs.pc = CODE;
        machine
    }

    pub fn new_frame(&mut self) -> Pfn {
        self.next += 1;
        Pfn::new(self.next - 1)
    }

    /// Where the leaf entry of `va` is; makes tables on the way.
    pub fn entry_of(&mut self, root: Pfn, va: u64) -> PhysAddr {
        let format = self.space.format;
        let mut table = root;
        for level in (1..format.levels()).rev() {
            let at = entry_addr(table, format.index(VirtAddr::new(va), level));
            table = match format.decode(self.ram.load(at), level) {
                Entry::Table(next) => next,
                _ => {
                    let next = self.new_frame();
                    self.ram.store(at, format.encode(Entry::Table(next), level));
                    next
                }
            };
        }
        entry_addr(table, format.index(VirtAddr::new(va), 0))
    }

    /// Maps a fresh frame at `va`.
    pub fn map(&mut self, va: u64, flags: LeafFlags) -> Pfn {
        let pfn = self.new_frame();
        self.map_frame(va, pfn, flags);
        pfn
    }

    pub fn map_frame(&mut self, va: u64, pfn: Pfn, flags: LeafFlags) {
        let at = self.entry_of(self.space.root, va);
        self.ram.store(at, self.space.format.encode(Entry::Leaf(Leaf { pfn, flags }), 0));
    }

    pub fn unmap(&mut self, va: u64) {
        let at = self.entry_of(self.space.root, va);
        self.ram.store(at, 0);
    }

    pub fn leaf(&mut self, va: u64) -> Leaf {
        let at = self.entry_of(self.space.root, va);
        match self.space.format.decode(self.ram.load(at), 0) {
            Entry::Leaf(leaf) => leaf,
            other => panic!("{va:#x}: {other:?}"),
        }
    }

    fn phys(&mut self, va: u64) -> PhysAddr {
        let leaf = self.leaf(va);
        PhysAddr::new(leaf.pfn.base().get() + va % PAGE_SIZE)
    }

    /// Writes bytes as the kernel does.
    pub fn put(&mut self, va: u64, bytes: &[u8]) {
        for (i, byte) in bytes.iter().enumerate() {
            let at = self.phys(va + i as u64);
            self.ram.write(at, &[*byte]);
        }
    }

    pub fn get<const N: usize>(&mut self, va: u64) -> [u8; N] {
        core::array::from_fn(|i| {
            let at = self.phys(va + i as u64);
            let mut byte = [0];
            self.ram.read(at, &mut byte);
            byte[0]
        })
    }

    pub fn put_u64(&mut self, va: u64, value: u64) {
        self.put(va, &value.to_le_bytes());
    }

    pub fn get_u64(&mut self, va: u64) -> u64 {
        u64::from_le_bytes(self.get(va))
    }

    /// Writes instructions; those whose low bits are not 11 take two bytes.
    pub fn put_code(&mut self, va: u64, code: &[u32]) {
        let mut at = va;
        for word in code {
            let len = if word & 3 == 3 { 4 } else { 2 };
            self.put(at, &word.to_le_bytes()[..len]);
            at += len as u64;
        }
    }

    pub fn run(&mut self, budget: u64) -> Trap {
        let trap = self.hart.run(&mut self.regs, self.space, budget);
        self.hart.check_tlb(self.space).expect("no stale translation");
        trap
    }

    /// Runs from [`CODE`] to the next `ecall`.
    pub fn call(&mut self) {
        self.regs.pc = CODE;
        assert_eq!(self.run(100_000), Trap::Syscall, "at {:#x}", self.regs.pc);
    }

    /// Runs from `start` to the next `ecall`.
    pub fn call_from(&mut self, start: u64) {
        self.regs.pc = start;
        assert_eq!(self.run(100_000), Trap::Syscall, "at {:#x}", self.regs.pc);
    }

    /// Runs from [`CODE`] to the `ecall` at `end`.
    pub fn call_to(&mut self, end: u64) {
        self.call();
        assert_eq!(self.regs.pc, end);
    }

    pub fn x(&self, index: u32) -> u64 {
        self.regs.x[index as usize]
    }

    pub fn set(&mut self, index: u32, value: u64) {
        self.regs.x[index as usize] = value;
    }
}
