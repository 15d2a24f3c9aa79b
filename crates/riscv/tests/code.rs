//! Code that changes: what is executed is what is in memory at that moment.

mod machine;

use kilburn_addr::{AddrRange, PAGE_SIZE, VirtAddr};
use kilburn_paging::PhysMem;
use kilburn_riscv::{Hart, HartConfig, Trap};
use machine::asm::*;
use machine::*;

/// Where tests put code that may be written.
const SOFT: u64 = 0x30_0000;

fn soft_machine(code: &[u32]) -> Machine {
    let mut m = Machine::new(&[]);
    m.map(SOFT, RWX);
    m.map(SOFT + PAGE_SIZE, RWX);
    m.put_code(SOFT, code);
    m
}

#[test]
fn a_store_to_the_next_instruction_takes_effect_at_once() {
    let mut m = soft_machine(&[sw(A0, A1, 0), addi(A2, A2, 1), ECALL]);
    m.set(A1, SOFT + 4);
    m.set(A0, u64::from(addi(A2, A2, 64)));
    for round in 1..=3 {
        m.call_from(SOFT);
        assert_eq!(m.x(A2), 64 * round);
    }
    let stats = m.hart.stats();
    assert_eq!(stats.instructions, 6, "counted once each, though the block was left");
    assert_eq!(stats.stores, 3);
}

#[test]
fn code_that_rewrites_itself_in_a_loop_counts_up() {
    // The loop adds the immediate of its own addi, which it raises each time round.
    let mut m = soft_machine(&[
        lw(A3, A1, 0),
        add(A3, A3, A4),
        sw(A3, A1, 0),
        addi(A2, A2, 0),
        addi(A5, A5, -1),
        bne(A5, ZERO, -20),
        ECALL,
    ]);
    m.set(A1, SOFT + 12);
    m.set(A4, 1 << 20);
    m.set(A5, 20);
    m.call_from(SOFT);
    assert_eq!(m.x(A2), (1..=20).sum::<u64>());
    assert_eq!(m.hart.stats().frames_invalidated, 20);
}

#[test]
fn every_kind_of_store_to_code_is_seen() {
    let new = u64::from(li(A2, 2));
    let stores: [(u32, u64, u64); 5] = [
        (sd(A0, A1, 0), new | u64::from(ECALL) << 32, 8),
        (amo(1, 2, ZERO, A1, A0), new, 8),
        (sb(A0, A1, 2), new >> 16, 8),
        (sh(A0, A1, 2), new >> 16, 8),
        (sw(A0, A1, -1), new << 8 | 0x13, 8),
    ];
    for (store, value, at) in stores {
        let mut m = soft_machine(&[]);
        // Elsewhere, a store; then a jump to what was stored to.
        m.put_code(CODE, &[store, FENCE_I, jalr(ZERO, A3, 0)]);
        m.put_code(SOFT + 4, &[NOP, li(A2, 1), ECALL]);
        m.set(A1, SOFT + at);
        m.set(A3, SOFT + at);
        m.call_from(SOFT + at);
        assert_eq!(m.x(A2), 1);
        m.set(A0, value);
        m.call_from(CODE);
        assert_eq!(m.x(A2), 2, "{store:#x}");
        assert!(m.hart.stats().frames_invalidated > 0, "{store:#x}");
    }
}

#[test]
fn a_store_across_two_pages_is_seen_when_either_holds_code() {
    for (first, second) in [(true, false), (false, true), (true, true)] {
        let mut m = soft_machine(&[]);
        m.put_code(CODE, &[sd(A0, A1, 0), ECALL]);
        m.put_code(SOFT + 0xff8, &[li(A2, 1), ECALL]);
        m.put_code(SOFT + 0x1000, &[li(A3, 1), ECALL]);
        if first {
            m.call_from(SOFT + 0xff8);
        }
        if second {
            m.call_from(SOFT + 0x1000);
        }
        m.set(A0, u64::from(ECALL) | u64::from(li(A3, 2)) << 32);
        m.set(A1, SOFT + 0xffc);
        m.call_from(CODE);
        m.call_from(SOFT + 0xff8);
        m.call_from(SOFT + 0x1000);
        assert_eq!((m.x(A2), m.x(A3)), (1, 2));
    }
}

#[test]
fn what_the_kernel_writes_is_executed() {
    let mut m = soft_machine(&[li(A2, 1), ECALL]);
    m.call_from(SOFT);
    m.put_code(SOFT, &[li(A2, 2)]);
    m.call_from(SOFT);
    assert_eq!(m.x(A2), 2);
    let (frame, other) = (m.leaf(SOFT).pfn, m.new_frame());
    m.ram.zero(frame);
    m.regs.pc = SOFT;
    assert_eq!(m.run(1), Trap::Illegal { bits: 0 });
    m.ram.write(other.base(), &li(A2, 3).to_le_bytes());
    m.ram.copy(other, frame);
    m.put_code(SOFT + 4, &[ECALL]);
    m.call_from(SOFT);
    assert_eq!(m.x(A2), 3);
    m.ram.release(frame);
    m.regs.pc = SOFT;
    assert_eq!(m.run(1), Trap::Illegal { bits: 0 });
}

#[test]
fn a_frame_used_again_for_other_code_runs_the_other_code() {
    let mut m = Machine::new(&[li(A2, 1), ECALL]);
    m.call();
    let frame = m.leaf(CODE).pfn;
    m.unmap(CODE);
    m.hart.flush_range(1, AddrRange::with_len(VirtAddr::new(CODE), PAGE_SIZE).expect("a page"));
    m.ram.zero(frame);
    m.map_frame(SOFT, frame, RX);
    m.put_code(SOFT, &[li(A2, 2), ECALL]);
    m.call_from(SOFT);
    assert_eq!(m.x(A2), 2);
}

#[test]
fn one_frame_at_two_addresses_is_predecoded_once_and_invalidated_for_both() {
    let mut m = soft_machine(&[auipc(A2, 0), beq(A0, A0, 8), NOP, ECALL]);
    let frame = m.leaf(SOFT).pfn;
    let twin = SOFT + 0x10_0000;
    m.map_frame(twin, frame, RWX);
    for va in [SOFT, twin, SOFT] {
        m.call_from(va);
        assert_eq!((m.x(A2), m.regs.pc), (va, va + 12), "relative to where it runs");
    }
    assert_eq!(m.hart.stats().blocks_decoded, 2);
    // Written through one address, executed through the other.
    m.put_code(CODE, &[sw(A0, A1, 0), jalr(ZERO, A3, 0)]);
    m.set(A0, u64::from(li(A2, 5)));
    m.set(A1, SOFT);
    m.set(A3, twin);
    m.call_from(CODE);
    assert_eq!(m.x(A2), 5);
}

#[test]
fn the_second_half_of_an_instruction_can_be_changed_and_remapped() {
    let mut m = soft_machine(&[]);
    let (at, second) = (SOFT + 0xffe, SOFT + 0x1000);
    m.put_code(at, &[li(A2, 1), ECALL]);
    m.call_from(at);
    m.put(second, &li(A2, 2).to_le_bytes()[2..]);
    m.call_from(at);
    assert_eq!(m.x(A2), 2);
    // By the program.
    m.put_code(CODE, &[sh(A0, A1, 0), jalr(ZERO, A3, 0)]);
    m.set(A0, u64::from(li(A2, 3) >> 16));
    m.set(A1, second);
    m.set(A3, at);
    m.call_from(CODE);
    assert_eq!(m.x(A2), 3);
    // Remapped.
    m.map(second, RX);
    m.put(second, &li(A2, 4).to_le_bytes()[2..]);
    m.put_code(second + 2, &[ECALL]);
    m.hart.flush_asid(1);
    m.call_from(at);
    assert_eq!(m.x(A2), 4);
    assert_eq!(m.hart.stats().instructions, 2 + 1 + 3);
}

#[test]
fn a_jump_within_the_page_does_not_outlive_the_instruction_it_leads_to() {
    let mut m = soft_machine(&[]);
    let (at, second) = (SOFT + 0xffe, SOFT + 0x1000);
    m.put_code(SOFT, &[jal(ZERO, 0xffe)]);
    m.put_code(at, &[li(A2, 1), ECALL]);
    for _ in 0..3 {
        m.call_from(SOFT);
        assert_eq!(m.x(A2), 1);
    }
    m.put(second, &li(A2, 2).to_le_bytes()[2..]);
    m.call_from(SOFT);
    assert_eq!(m.x(A2), 2, "only the second page was written");
    m.map(second, RX);
    m.put(second, &li(A2, 3).to_le_bytes()[2..]);
    m.put_code(second + 2, &[ECALL]);
    m.hart.flush_asid(1);
    m.call_from(SOFT);
    assert_eq!(m.x(A2), 3, "only the second page was remapped");
}

#[test]
fn data_beside_code_is_written_and_read_back() {
    let mut m =
        soft_machine(&[sd(A0, A1, 0), ld(A2, A1, 0), addi(A0, A0, 1), bne(A0, A3, -12), ECALL]);
    m.set(A1, SOFT + 0x800);
    m.set(A3, 50);
    m.call_from(SOFT);
    assert_eq!((m.x(A2), m.get_u64(SOFT + 0x800)), (49, 49));
    let stats = m.hart.stats();
    assert_eq!((stats.instructions, stats.loads, stats.stores), (200, 50, 50));
}

#[test]
fn another_hart_sees_the_code_this_one_writes() {
    let mut m = soft_machine(&[li(A2, 1), ECALL]);
    let mut other = Hart::new(m.ram.clone(), HartConfig::default());
    let mut run_other = |m: &mut Machine, start: u64| {
        let mut regs = m.regs.clone();
        regs.pc = start;
        assert_eq!(other.run(&mut regs, m.space, 100), Trap::Syscall);
        other.check_tlb(m.space).expect("no stale translation");
        regs.x[A2 as usize]
    };
    // Both can write the page; then one runs it, so the other may no longer do so unseen.
    m.put_code(CODE, &[sw(A0, A1, 0), ECALL]);
    m.set(A1, SOFT + 0x100);
    m.call_from(CODE);
    run_other(&mut m, CODE);
    assert_eq!(run_other(&mut m, SOFT), 1);
    m.set(A1, SOFT);
    m.set(A0, u64::from(li(A2, 2)));
    m.call_from(CODE);
    assert_eq!(run_other(&mut m, SOFT), 2);
    m.call_from(SOFT);
    assert_eq!(m.x(A2), 2);
    m.set(A0, u64::from(li(A2, 3)));
    run_other(&mut m, CODE);
    m.call_from(SOFT);
    assert_eq!(m.x(A2), 3);
}

#[test]
fn more_code_than_the_cache_holds_runs_in_bounded_memory() {
    // Jumps to the next instruction: as many blocks as instructions.
    let pages = 1500;
    let mut m = Machine::new(&[]);
    let page: Vec<u8> = (0..1024).flat_map(|_| jal(ZERO, 4).to_le_bytes()).collect();
    let start = 0x1000_0000;
    for index in 0..pages {
        let pfn = m.map(start + index * PAGE_SIZE, RX);
        m.ram.write(pfn.base(), &page);
    }
    let end = start + pages * PAGE_SIZE;
    m.map(end, RX);
    m.put_code(end, &[ECALL]);
    for _ in 0..2 {
        m.regs.pc = start;
        let mut trap = Trap::Quantum;
        while trap == Trap::Quantum {
            trap = m.run(1_000_000);
        }
        assert_eq!((trap, m.regs.pc), (Trap::Syscall, end));
    }
    assert_eq!(m.hart.stats().instructions, 2 * pages * 1024);
    assert!(m.hart.code_bytes() < 48 << 20, "{} bytes", m.hart.code_bytes());
}
