//! Where real kernels put mappings: x86-64, i386 with its 3 GiB / 1 GiB picture, riscv64 in its
//! three paging modes; top-down and bottom-up.

use kilburn_addr::{Errno, Pfn, VirtAddr};
use kilburn_mm::layout::{Arch, LayoutRequest, LegacyLayout, RLIM_INFINITY};
use kilburn_mm::testing::*;
use kilburn_mm::*;
use std::sync::Arc;

const GROWSDOWN: u64 = 0x100;

/// A machine whose `vm.mmap_min_addr` is that of the kernels that were asked.
fn machine(mmap_min_addr: u64) -> Arc<Memory<TestHost>> {
    let range = Pfn::new(FIRST_FRAME)..Pfn::new(FIRST_FRAME + 64);
    let mut config = MemoryConfig::new(range).with_overcommit(Overcommit::Always);
    config.mmap_min_addr = mmap_min_addr;
    Memory::new(TestHost::new(64), config).expect("enough frames")
}

fn layout(arch: &str, direction: &str, stack: &str) -> Layout {
    let arch = match arch {
        "I386" => Arch::I386,
        "X86_64" => Arch::X86_64,
        "RiscvSv39" => Arch::RiscvSv39,
        "RiscvSv48" => Arch::RiscvSv48,
        "RiscvSv57" => Arch::RiscvSv57,
        _ => panic!("{arch} is no architecture"),
    };
    let stack_limit_bytes = stack.parse().unwrap_or(RLIM_INFINITY);
    let legacy = match direction {
        "BottomUp" if stack_limit_bytes != RLIM_INFINITY => LegacyLayout::Always,
        _ => LegacyLayout::WhereLinuxWould,
    };
    let picked =
        Layout::pick(arch, LayoutRequest { stack_limit_bytes, legacy, ..Default::default() });
    assert_eq!(format!("{:?}", picked.direction()), direction);
    picked
}

fn hex(text: &str) -> u64 {
    u64::from_str_radix(text, 16).expect("a number in hex")
}

/// Makes every call of a captured file; how many there were.
fn replay(captured: &str) -> usize {
    let mut memory = machine(65536);
    let mut mm = Mm::new(&memory, Layout::fixed(Arch::I386)).expect("a root");
    let mut calls = 0;
    let mut section = "";
    for line in captured.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["#", ..] => {}
            ["==", arch, direction, stack] => {
                section = line;
                memory = machine(if arch.starts_with("Riscv") { 32768 } else { 65536 });
                mm = Mm::new(&memory, layout(arch, direction, stack)).expect("a root");
            }
            ["mmap", hint, len, flags, "->", answer] => {
                let mapped = mm.map_anon(hex(hint), hex(len), READ_WRITE, hex(flags));
                let expected = match answer.strip_prefix('-') {
                    Some(errno) => Err(Errno::from_number(hex(errno) as u16)),
                    None => Ok(VirtAddr::new(hex(answer))),
                };
                assert_eq!(mapped, expected, "{section}: {line}\n{}", mm.maps());
                calls += 1;
            }
            [range, ..] => {
                let (start, end) = range.split_once('-').expect("an area");
                let stack = line.ends_with("[stack]");
                let flags = PRIVATE_ANON | FIXED | if stack { GROWSDOWN } else { 0 };
                let len = hex(end) - hex(start);
                mm.map_anon(hex(start), len, READ_WRITE, flags).expect("free");
            }
            [] => {}
        }
        memory.check(&[&mm], &[]).expect("consistent");
    }
    calls
}

#[test]
fn mappings_of_32_bit_programs_go_where_linux_puts_them() {
    assert_eq!(replay(include_str!("captured/i386.txt")), 57);
}

#[test]
fn mappings_of_64_bit_programs_go_where_linux_puts_them() {
    assert_eq!(replay(include_str!("captured/layouts.txt")), 630);
}

#[test]
fn pages_can_be_used_up_to_three_gigabytes_and_no_further() {
    let memory = machine(65536);
    let mm = Mm::new(&memory, Layout::fixed(Arch::I386)).expect("a root");
    let last = mm.map_anon(0xbfff_f000, 4096, READ_WRITE, PRIVATE_ANON | FIXED).expect("free");
    mm.poke(last.get() + 4095, 1).expect("the last byte of user space");
    assert_eq!(mm.poke(0xc000_0000, 1), Err(Fault::Segv(SegvCode::MapErr)));
    assert_eq!(mm.map_anon(0xc000_0000, 4096, 3, PRIVATE_ANON | FIXED), Err(Errno::ENOMEM));
    assert_eq!(mm.munmap(VirtAddr::new(0xbfff_f000), 8192), Err(Errno::EINVAL));
    assert!(mm.maps().starts_with("bffff000-c0000000 rw-p 00000000 00:00 0"), "{}", mm.maps());
}
