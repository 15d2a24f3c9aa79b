//! Frames handed out and taken back: one, or 512 adjacent ones, of a million.
//!
//! A thousand frames are taken and given back in random order, so that nobody hands out the frame
//! just freed; half of the million is in use.

use crate::machine::shuffled;
use crate::{Contestant, Row};
use bitmap_allocator::{BitAlloc, BitAlloc1M};
use kilburn_addr::Pfn;
use kilburn_mm::frames::Frames;
use std::hint::black_box;
use std::time::Duration;

const FRAMES: u64 = 1 << 20;
/// Frames, or blocks, held at once.
const HELD: usize = 1000;

/// The rows of this file.
pub fn rows() -> Vec<Row> {
    vec![
        Row { name: "frame: alloc + free", goal_ns: Some(10.0), contestants: || pairs(0, HELD) },
        Row {
            name: "512 adjacent frames: alloc + free",
            goal_ns: Some(40.0),
            contestants: || pairs(9, HELD / 2),
        },
    ]
}

fn contestant(
    name: &'static str,
    held: usize,
    mut alloc: impl FnMut() -> u64 + 'static,
    mut free: impl FnMut(u64) + 'static,
) -> Contestant {
    let order = shuffled(held as u64);
    let mut got = vec![0; held];
    Contestant::new(name, move |count| {
        let (mut done, mut took) = (0, Duration::ZERO);
        while done < count {
            took += crate::contest::timed(|| {
                got.iter_mut().for_each(|frame| *frame = black_box(alloc()));
                order.iter().for_each(|&at| free(got[at as usize]));
            });
            done += held as u64;
        }
        (done, took)
    })
}

fn pairs(order: usize, held: usize) -> Vec<Contestant> {
    vec![ours(order, held), bitmap(order, held), buddy_system(order, held)]
}

fn ours(order: usize, held: usize) -> Contestant {
    let frames: &'static Frames<parking_lot::RawMutex> =
        Box::leak(Box::new(Frames::new(Pfn::new(0)..Pfn::new(FRAMES), 1)));
    for _ in 0..FRAMES / 2 / 512 {
        frames.alloc_block(9, 0).expect("free");
    }
    let alloc = move || frames.alloc_block(order, 0).expect("free").get();
    contestant("ours", held, alloc, move |frame| frames.free_block(Pfn::new(frame), order, 0))
}

/// Behind a lock, as ours may be used by several threads.
fn bitmap(order: usize, held: usize) -> Contestant {
    let mut bits = BitAlloc1M::DEFAULT;
    bits.insert(FRAMES as usize / 2..FRAMES as usize);
    let bits: &'static _ = Box::leak(Box::new(parking_lot::Mutex::new(bits)));
    contestant(
        "bitmap-allocator",
        held,
        move || match order {
            0 => bits.lock().alloc().expect("free") as u64,
            _ => bits.lock().alloc_contiguous(None, 1 << order, order).expect("free") as u64,
        },
        move |frame| match order {
            0 => drop(bits.lock().dealloc(frame as usize)),
            _ => drop(bits.lock().dealloc_contiguous(frame as usize, 1 << order)),
        },
    )
}

fn buddy_system(order: usize, held: usize) -> Contestant {
    let mut frames = buddy_system_allocator::FrameAllocator::<32>::new();
    frames.add_frame(FRAMES as usize / 2, FRAMES as usize);
    let frames: &'static _ = Box::leak(Box::new(parking_lot::Mutex::new(frames)));
    contestant(
        "buddy_system_allocator",
        held,
        move || frames.lock().alloc(1 << order).expect("free") as u64,
        move |frame| frames.lock().dealloc(frame as usize, 1 << order),
    )
}
