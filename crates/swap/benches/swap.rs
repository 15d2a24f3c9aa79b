//! Nanoseconds of writing a page to an area and reading it back, by area and by how well the page
//! compresses.

use kilburn_mm::SwapArea;
use kilburn_swap::{Checked, Compressed, Compression, Encrypted};
use std::hint::black_box;
use std::time::Instant;

const SLOTS: u32 = 4096;
const ROUNDS: usize = 7;

/// Like the heap of a program: pointers and small numbers, then nothing.
fn heap_like(seed: u32) -> [u8; 4096] {
    let mut page = [0; 4096];
    let mut state = seed | 1;
    for word in page[..3000].chunks_exact_mut(8) {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let value = 0x3f_8000_0000_u64 + u64::from(state >> 16 & 0xfff0);
        word.copy_from_slice(&value.to_le_bytes());
    }
    page
}

fn noise(seed: u32) -> [u8; 4096] {
    let mut page = [0; 4096];
    let mut state = seed | 1;
    for byte in &mut page {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        *byte = (state >> 24) as u8;
    }
    page
}

fn measure(name: &str, area: &dyn SwapArea, page_of: fn(u32) -> [u8; 4096]) {
    let pages: Vec<_> = (0..SLOTS).map(page_of).collect();
    let mut into = [0; 4096];
    let mut best = f64::MAX;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        for (slot, page) in (0..).zip(&pages) {
            area.write(slot, page).expect("room");
        }
        for slot in 0..SLOTS {
            area.read(slot, black_box(&mut into)).expect("written");
        }
        best = best.min(start.elapsed().as_nanos() as f64 / f64::from(SLOTS));
    }
    println!("{name:32} {best:8.0} ns a page, out and in");
}

fn main() {
    for (content, page_of) in
        [("heap", heap_like as fn(u32) -> _), ("zeros", |_| [0; 4096]), ("noise", noise)]
    {
        for (name, compression) in [("lz4", Compression::Lz4), ("zstd", Compression::Zstd)] {
            measure(&format!("{name}, {content}"), &Compressed::new(compression, SLOTS), page_of);
        }
        let lz4 = || Compressed::new(Compression::Lz4, SLOTS);
        measure(&format!("lz4 checked, {content}"), &Checked::new(lz4()), page_of);
        measure(&format!("lz4 encrypted, {content}"), &Encrypted::new(lz4(), &[1; 32]), page_of);
    }
}
