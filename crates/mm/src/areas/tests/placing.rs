//! Where mappings go, with the answers that real kernels gave.

use super::host::{Bare, Kinds};
use crate::areas::place::BelowMin;
use crate::areas::{Areas, Backing, PlaceRequest, Placement, Vma, Window};
use crate::layout::{Arch, Layout, LayoutRequest, RLIM_INFINITY};
use alloc::vec::Vec;
use kilburn_addr::{AddrRange, Errno, PAGE_SIZE, VirtAddr, VmFlags};

const MIB2: u64 = 2 << 20;

fn request(addr: u64, len: u64) -> PlaceRequest {
    PlaceRequest {
        addr: VirtAddr::new(addr),
        len,
        placement: Placement::Hint,
        backing: Backing::Anonymous,
        window: Window::Default,
        min_addr: VirtAddr::new(65536),
        below_min: BelowMin::Refused,
    }
}

fn area(start: u64, end: u64, flags: VmFlags) -> Vma<Bare> {
    let mut vma = Kinds::new().area('A', 0, 1);
    vma.range = AddrRange::new(VirtAddr::new(start), VirtAddr::new(end)).expect("in order");
    vma.flags |= flags;
    vma
}

/// Places and keeps each request in turn; answers where they went.
fn place(areas: &mut Areas<Bare>, layout: &Layout, requests: &[PlaceRequest]) -> Vec<u64> {
    requests
        .iter()
        .map(|request| {
            let at = areas.get_unmapped_area(layout, request).expect("there is room");
            areas.insert(area(at.get(), at.get() + request.len, VmFlags::empty()));
            at.get()
        })
        .collect()
}

/// A static program on riscv64 6.12 and on x86-64 6.18, without ASLR, that maps one page, 2 MiB and
/// one page.
#[test]
fn three_mappings_go_where_real_kernels_put_them() {
    let three = [request(0, PAGE_SIZE), request(0, MIB2), request(0, PAGE_SIZE)];
    let seen = [
        (Arch::RiscvSv39, 8 << 20, 0x3000, [0x3f_f7ff_c000, 0x3f_f7c0_0000, 0x3f_f7ff_b000]),
        (Arch::RiscvSv48, 8 << 20, 0x3000, [0x7fff_f7ff_c000, 0x7fff_f7c0_0000, 0x7fff_f7ff_b000]),
        (Arch::RiscvSv39, 1 << 30, 0x3000, [0x3f_bfef_c000, 0x3f_bfc0_0000, 0x3f_bfef_b000]),
        (
            Arch::RiscvSv57,
            RLIM_INFINITY,
            0x3000,
            [0x2a_aaaa_e000_u64, 0x2a_aac0_0000, 0x2a_aaaa_f000],
        ),
        (Arch::X86_64, 8 << 20, 0x8000, [0x7fff_f7ff_6000, 0x7fff_f7c0_0000, 0x7fff_f7ff_5000]),
        (
            Arch::X86_64,
            RLIM_INFINITY,
            0x8000,
            [0x1555_5554_d000, 0x1555_5520_0000, 0x1555_5554_c000],
        ),
    ];
    for (arch, stack_limit_bytes, vdso, expect) in seen {
        let layout =
            Layout::pick(arch, LayoutRequest { stack_limit_bytes, ..LayoutRequest::default() });
        let mut areas = Areas::new();
        // The vdso came first, on x86 with the program's buffer of one page.
        place(&mut areas, &layout, &[request(0, vdso)]);
        assert_eq!(place(&mut areas, &layout, &three), expect, "{arch:?} {stack_limit_bytes:#x}");
    }
}

#[test]
fn hints_reach_above_the_window_where_there_are_five_levels_only() {
    let taken = [
        // Seen on riscv64 6.12.
        (Arch::RiscvSv57, 0x8000_0000_0000, true),
        (Arch::RiscvSv57, 0xff_ffff_ffff_e000, true),
        (Arch::RiscvSv57, 0x100_0000_0000_0000, false),
        (Arch::RiscvSv48, 0x7fff_c000_0000, true),
        (Arch::RiscvSv48, 0x8000_0000_0000, false),
        (Arch::RiscvSv39, 0x20_0000_0000, true),
        (Arch::RiscvSv39, 0x40_0000_0000, false),
        (Arch::X86_64, 0x7fff_ffff_f000, false),
        (Arch::X86_64, 0xffff_ffff_ffff_f000, false),
        // From the source: no machine with five levels was asked.
        (Arch::X86_64La57, 0x8000_0000_0000, true),
        (Arch::X86_64La57, 0xff_ffff_ffff_e000, true),
        (Arch::X86_64La57, 0x7fff_ffff_e000, true),
    ];
    for (arch, hint, taken) in taken {
        let layout = Layout::fixed(arch);
        let at = Areas::<Bare>::new().get_unmapped_area(&layout, &request(hint, PAGE_SIZE));
        let expect = if taken { hint } else { layout.mmap_base().get() - PAGE_SIZE };
        assert_eq!(at, Ok(VirtAddr::new(expect)), "{arch:?} {hint:#x}");
    }
}

#[test]
fn a_hint_above_the_window_opens_all_of_user_space_of_five_levels() {
    let layout = Layout::fixed(Arch::X86_64La57);
    let mut areas = Areas::<Bare>::new();
    let window = layout.default_window().get();
    assert_eq!(window, Layout::fixed(Arch::X86_64).task_size().get());
    let place = |areas: &Areas<Bare>, hint, len| {
        areas.get_unmapped_area(&layout, &request(hint, len)).map(VirtAddr::get)
    };
    let base = layout.mmap_base().get();
    // Not across the window's end; then as if there were no hint.
    assert_eq!(place(&areas, window - PAGE_SIZE, 2 * PAGE_SIZE), Ok(base - 2 * PAGE_SIZE));
    assert_eq!(place(&areas, 0, 1 << 47), Err(Errno::ENOMEM));
    let high = base + layout.task_size().get() - window;
    areas.insert(area(1 << 55, (1 << 55) + PAGE_SIZE, VmFlags::empty()));
    assert_eq!(place(&areas, 1 << 55, PAGE_SIZE), Ok(high - PAGE_SIZE));
    assert!(place(&areas, 1 << 55, 1 << 50).is_ok_and(|at| at > window));
}

#[test]
fn a_growing_stack_keeps_its_guard_gap_free() {
    let layout = Layout::fixed(Arch::RiscvSv39);
    let base = layout.mmap_base().get();
    let mut areas = Areas::<Bare>::new();
    areas.insert(area(base - PAGE_SIZE, base, VmFlags::GROWSDOWN));
    let at = areas.get_unmapped_area(&layout, &request(0, PAGE_SIZE)).expect("room");
    assert_eq!(at.get(), base - PAGE_SIZE - 256 * PAGE_SIZE - PAGE_SIZE);
    // A hint into the guard gap is no good either.
    let hint = base - 10 * PAGE_SIZE;
    let hinted = areas.get_unmapped_area(&layout, &request(hint, PAGE_SIZE));
    assert_eq!(hinted, Ok(at));
    // MAP_FIXED goes there all the same.
    let fixed = PlaceRequest { placement: Placement::Fixed, ..request(hint, PAGE_SIZE) };
    assert_eq!(areas.get_unmapped_area(&layout, &fixed), Ok(VirtAddr::new(hint)));
}

/// Seen on 6.18: the search goes on below the guard gap, and passes room that is above it but below
/// another area.
#[test]
fn a_guard_gap_lowers_the_limit_past_areas_that_lie_in_it() {
    let layout = Layout::fixed(Arch::X86_64);
    let base = layout.mmap_base().get();
    let page = |below: u64| base - below * PAGE_SIZE;
    let mut areas = Areas::<Bare>::new();
    areas.insert(area(page(10), page(0), VmFlags::GROWSDOWN));
    areas.insert(area(page(12), page(11), VmFlags::empty()));
    let at = areas.get_unmapped_area(&layout, &request(0, PAGE_SIZE));
    assert_eq!(at, Ok(VirtAddr::new(page(10 + 256 + 1))));
    // Where the gap below the growing area is too short to be looked at, it does no harm.
    let at = areas.get_unmapped_area(&layout, &request(0, 2 * PAGE_SIZE));
    assert_eq!(at, Ok(VirtAddr::new(page(14))));
}

#[test]
fn a_full_lower_part_is_left_upwards() {
    let layout = Layout::fixed(Arch::RiscvSv39);
    let base = layout.mmap_base().get();
    let mut areas = Areas::<Bare>::new();
    areas.insert(area(65536, base, VmFlags::empty()));
    let at = areas.get_unmapped_area(&layout, &request(0, PAGE_SIZE));
    assert_eq!(at, Ok(VirtAddr::new(base)));
    areas.insert(area(base, layout.task_size().get(), VmFlags::empty()));
    let at = areas.get_unmapped_area(&layout, &request(0, PAGE_SIZE));
    assert_eq!(at, Err(Errno::ENOMEM));
}

#[test]
fn bad_places_have_linuxs_errors() {
    let areas = Areas::<Bare>::new();
    let layout = Layout::fixed(Arch::RiscvSv39);
    let fixed = |addr, len| PlaceRequest { placement: Placement::Fixed, ..request(addr, len) };
    let size = layout.task_size().get();
    for (request, expect) in [
        (fixed(0x1_0001, PAGE_SIZE), Errno::EINVAL),
        (fixed(0, PAGE_SIZE), Errno::EPERM),
        (fixed(size, PAGE_SIZE), Errno::ENOMEM),
        (fixed(0u64.wrapping_sub(PAGE_SIZE), PAGE_SIZE), Errno::ENOMEM),
        // Seen on 6.18: an address that looks like an error is one.
        (fixed(u64::MAX - 1, PAGE_SIZE), Errno::ENOENT),
        (request(0, size), Errno::ENOMEM),
        (request(0, 0u64.wrapping_sub(PAGE_SIZE)), Errno::ENOMEM),
    ] {
        assert_eq!(areas.get_unmapped_area(&layout, &request), Err(expect), "{request:x?}");
    }
}

#[test]
fn files_are_aligned_for_huge_pages_by_their_offset() {
    let areas = Areas::<Bare>::new();
    let layout = Layout::fixed(Arch::X86_64);
    let file = |pgoff, len| PlaceRequest {
        backing: Backing::HugeAlignedFile { pgoff },
        ..request(0, len)
    };
    let at = areas.get_unmapped_area(&layout, &file(5, 2 * MIB2)).expect("room").get();
    assert_eq!(at % MIB2, 5 * PAGE_SIZE);
    // Too short to hold an aligned huge page: no wish.
    let at = areas.get_unmapped_area(&layout, &file(5, MIB2)).expect("room").get();
    assert_eq!(at, layout.mmap_base().get() - MIB2);
}
