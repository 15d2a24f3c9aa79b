//! The 3 GiB / 1 GiB picture of i386, and where Linux 6.18.44 puts mappings in it.

use kilburn_addr::{Errno, Pfn, VirtAddr};
use kilburn_mm::layout::{Arch, LayoutRequest, LegacyLayout, RLIM_INFINITY};
use kilburn_mm::testing::*;
use kilburn_mm::*;
use std::sync::Arc;

const GROWSDOWN: u64 = 0x100;

fn machine() -> Arc<Memory<TestHost>> {
    let range = Pfn::new(FIRST_FRAME)..Pfn::new(FIRST_FRAME + 64);
    let config = MemoryConfig::new(range).with_overcommit(Overcommit::Always);
    Memory::new(TestHost::new(64), config).expect("enough frames")
}

fn layout(direction: &str, stack: &str) -> Layout {
    let stack_limit_bytes = stack.parse().unwrap_or(RLIM_INFINITY);
    let legacy = match direction {
        "BottomUp" => LegacyLayout::Always,
        _ => LegacyLayout::WhereLinuxWould,
    };
    Layout::pick(Arch::I386, LayoutRequest { stack_limit_bytes, legacy, ..Default::default() })
}

fn hex(text: &str) -> u64 {
    u64::from_str_radix(text, 16).expect("a number in hex")
}

#[test]
fn mappings_go_where_linux_puts_them() {
    let memory = machine();
    let mut mm = Mm::new(&memory, Layout::fixed(Arch::I386)).expect("a root");
    let mut calls = 0;
    for line in include_str!("captured/i386.txt").lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["#", ..] => {}
            ["==", direction, stack] => {
                mm = Mm::new(&memory, layout(direction, stack)).expect("a root");
            }
            ["mmap", hint, len, flags, "->", answer] => {
                let mapped = mm.map_anon(hex(hint), hex(len), READ_WRITE, hex(flags));
                let expected = match answer.strip_prefix('-') {
                    Some(errno) => Err(Errno::from_number(hex(errno) as u16)),
                    None => Ok(VirtAddr::new(hex(answer))),
                };
                assert_eq!(mapped, expected, "{line}\n{}", mm.maps());
                memory.check(&[&mm], &[]).expect("consistent");
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
    }
    assert_eq!(calls, 57, "every call of the file was made");
}

#[test]
fn pages_can_be_used_up_to_three_gigabytes_and_no_further() {
    let memory = machine();
    let mm = Mm::new(&memory, Layout::fixed(Arch::I386)).expect("a root");
    let last = mm.map_anon(0xbfff_f000, 4096, READ_WRITE, PRIVATE_ANON | FIXED).expect("free");
    mm.poke(last.get() + 4095, 1).expect("the last byte of user space");
    assert_eq!(mm.poke(0xc000_0000, 1), Err(Fault::Segv(SegvCode::MapErr)));
    assert_eq!(mm.map_anon(0xc000_0000, 4096, 3, PRIVATE_ANON | FIXED), Err(Errno::ENOMEM));
    assert_eq!(mm.munmap(VirtAddr::new(0xbfff_f000), 8192), Err(Errno::EINVAL));
    assert!(mm.maps().starts_with("bffff000-c0000000 rw-p 00000000 00:00 0"), "{}", mm.maps());
}
