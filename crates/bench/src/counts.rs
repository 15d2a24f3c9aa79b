//! Hot paths, done so many times and nothing else: for counting instructions, which repeat where time does not.
//!
//! The program `counts` runs one under callgrind, once with N turns and once with twice as many: the difference is what N
//! take. `cargo xtask counts` does that and compares with crates/bench/counts.tsv.

use crate::contest::Contestant;
use crate::rows;
use kilburn_addr::{Access, PAGE_SIZE, VirtAddr};
use kilburn_mmu::model::preset::Preset;
use kilburn_mmu::{Model, ModelConfig};
use kilburn_trace::managed::Managed;
use kilburn_trace::{Event, open};
use std::hint::black_box;
use std::time::Duration;

/// A path and how it is made ready.
pub struct Path {
    /// A word for it.
    pub name: &'static str,
    /// Turns that are counted: a whole portion, where it is done in portions.
    pub times: u64,
    make: fn() -> Contestant,
}

/// Turns of most paths.
const TIMES: u64 = 20_480;

/// The first contestant of the row called `name`. What a row undoes between its turns, untimed, counts here.
macro_rules! row {
    ($path:literal, $rows:path, $name:literal) => {
        Path {
            name: $path,
            times: TIMES,
            make: || {
                let row = $rows().into_iter().find(|row| row.name == $name);
                (row.expect("a row of this name").contestants)().swap_remove(0)
            },
        }
    };
}

/// All paths.
pub const PATHS: &[Path] = &[
    row!("areas-find", rows::areas::rows, "find an area, range and rights"),
    row!("areas-split-and-join", rows::areas::rows, "split: cut a page out of an area"),
    row!("areas-gap", rows::areas::rows, "find a gap of 1 to 17 pages"),
    row!("frames-pair", rows::frames::rows, "frame: alloc + free"),
    Path {
        times: rows::tables::PAGES,
        ..row!("tables-map-and-unmap", rows::tables::rows, "map one page, in order")
    },
    Path { name: "tables-query", times: rows::tables::PAGES, make: rows::tables::queries_alone },
    row!("mm-mmap-munmap", rows::calls::rows, "mmap + munmap 4 KiB"),
    row!("mm-mmap-touch-munmap", rows::calls::rows, "mmap + touch + munmap"),
    Path { name: "mm-read-fault", times: TIMES, make: read_fault },
    Path { name: "model-hit", times: TIMES, make: || on_model(Caches::None, 16) },
    Path { name: "model-hit-with-caches", times: TIMES, make: || on_model(Caches::All, 16) },
    Path { name: "model-l2-hit", times: TIMES, make: || on_model(Caches::None, 512) },
    Path { name: "model-walk", times: TIMES, make: || on_model(Caches::None, 16_384) },
    Path { name: "lackey-line", times: TIMES, make: lackey_line },
];

/// Does the path called `name` so many times (a few more where it is done in portions); `None` when there is none.
pub fn run(name: &str, times: u64) -> Option<()> {
    let path = PATHS.iter().find(|path| path.name == name)?;
    let mut contestant = (path.make)();
    black_box((contestant.run)(times));
    Some(())
}

/// Work that is not timed.
fn untimed(mut once: impl FnMut(u64) + 'static) -> Contestant {
    Contestant::new("ours", move |count| {
        (0..count).for_each(&mut once);
        (count, Duration::ZERO)
    })
}

fn managed(pages: u64) -> Managed {
    let mut managed = Managed::new(256 << 20, None).expect("memory");
    for page in 0..pages {
        let at = VirtAddr::new(BASE + page * PAGE_SIZE);
        managed.resolve(0, at, Access::Write).expect("memory for all pages");
    }
    managed.take_flushes();
    managed
}

const BASE: u64 = 0x7f00_0000_0000;

fn read_fault() -> Contestant {
    let mut managed = managed(1);
    untimed(move |time| {
        let at = VirtAddr::new(BASE + (1 << 30) + time * PAGE_SIZE);
        black_box(managed.resolve(0, at, Access::Read).expect("the page of zeroes"));
    })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Caches {
    None,
    All,
}

/// Loads and stores on `pages` pages in turn: few hit in the first level, some hundreds in the second, more are walked for.
fn on_model(caches: Caches, pages: u64) -> Contestant {
    let full = Preset::named("skylake").expect("a preset").config();
    let config = match caches {
        Caches::None => ModelConfig { caches: None, ..full },
        Caches::All => full,
    };
    let mut managed = managed(pages);
    let space = managed.hardware(0).expect("it is there");
    let mut model = Model::new(config).expect("a preset's shape");
    untimed(move |time| {
        let at = VirtAddr::new(BASE + time % pages * PAGE_SIZE + time % 8 * 64);
        let access = if time % 4 == 0 { Access::Write } else { Access::Read };
        black_box(model.access(managed.mem(), space, at, 8, access).is_ok());
    })
}

fn lackey_line() -> Contestant {
    Contestant::new("ours", |count| {
        let text = "I  04016b80,3\n S 1ffe8008,8\n L 1ffe8010,4\n".repeat(count as usize / 3 + 1);
        let input = Box::new(std::io::Cursor::new(text.into_bytes()));
        let mut source = open::open("lackey", input, None).expect("lackey's text");
        while let Some(event) = source.next_event().expect("a good trace") {
            black_box(matches!(event, Event::Access { .. }));
        }
        (count, Duration::ZERO)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_can_be_done() {
        // Those on areas make a hundred thousand of them first.
        for path in PATHS.iter().filter(|path| !path.name.starts_with("areas")) {
            assert_eq!(run(path.name, 10), Some(()), "{}", path.name);
        }
        assert_eq!(run("no-such-path", 1), None);
    }
}
