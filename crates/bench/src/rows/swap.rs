//! Pages out to compressed memory and back in: ours beside zram of the kernel underneath, the same pages both ways.
//!
//! Ours is the whole way: the policy names a page, its ways back are found, it is unmapped, compressed, let go; a store faults and
//! has it back. Zram's is `MADV_PAGEOUT` and a store, so that its kernel chooses nothing. What pages hold decides more than
//! anything else: those of real programs are taken from guests that had too little memory, just before.

use super::kernel;
use crate::Work;
use crate::contest::{Contestant, Effort, Measured, Unit, compete, timed};
use crate::machine::{READ_WRITE, machine, map};
use kilburn_addr::{PAGE_SIZE, VirtAddr};
use kilburn_mm::{Caller, SwapArea};
use kilburn_model::host::page_out;
use kilburn_swap::{Compressed, Compression};
use rustix::fs::{SeekFrom, seek};
use std::cell::Cell;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

type Page = [u8; PAGE_SIZE as usize];

/// Pages of a row.
const PAGES: usize = 2048;

/// Guests that need more than they get: memory, and the command.
const GUESTS: [(&str, &[&str]); 4] = [
    ("8M", &["python3", "-c", PYTHON]),
    ("4M", &["sqlite3", ":memory:", SQLITE]),
    (
        "4M",
        &["bash", "-c", "seq 1 150000 | sed 's/.*/line & of text, &/' | sort -S 16M -k2 | tail -1"],
    ),
    (
        "3M",
        &[
            "bash",
            "-c",
            "declare -A a; for ((i = 0; i < 20000; i++)); do a[key$i]=\"value $i $((i * i))\"; done",
        ],
    ),
];
const PYTHON: &str = "import json
d = {str(i): {'id': i, 'name': 'item %d' % i, 'tags': [i % 7, i % 11, float(i)]} for i in range(20000)}
print(sum(v['id'] for v in json.loads(json.dumps(d)).values()))";
const SQLITE: &str = "create table t(a integer primary key, b text, c real);
with recursive n(i) as (select 1 union all select i + 1 from n where i < 60000)
insert into t select i, 'row ' || i || ' ' || hex(i * 7919), i * 1.5 from n;
create index x on t(b); select count(*), max(b) from t;";

/// What the pages of a row hold.
#[derive(Clone, Copy)]
enum Content {
    /// What guests had swapped out; those of one word left out.
    Guests,
    /// 3000 bytes of pointers at random, then nothing.
    Pointers,
    /// One word, but for the last byte.
    AlmostOneWord,
    /// One word.
    OneWord,
}

const ROWS: [(&str, Content, Compression, Option<f64>); 5] = [
    (
        "a page out through lz4 and in: pages of python3, sqlite3, sort and bash",
        Content::Guests,
        Compression::Lz4,
        Some(4000.0),
    ),
    (
        "a page out through zstd and in: pages of python3, sqlite3, sort and bash",
        Content::Guests,
        Compression::Zstd,
        None,
    ),
    (
        "a page out through lz4 and in: 3000 bytes of pointers at random, then zeros",
        Content::Pointers,
        Compression::Lz4,
        None,
    ),
    (
        "a page out through lz4 and in: one word, but for a byte",
        Content::AlmostOneWord,
        Compression::Lz4,
        // What the goal was taken from: zram needs 12.5 us for pages such as these.
        Some(4000.0),
    ),
    ("a page out and in: one word", Content::OneWord, Compression::Lz4, None),
];

pub(crate) fn work() -> Vec<Work> {
    let work = |(name, content, compression, goal): (&'static str, Content, _, _)| {
        let ways = BothWays::default();
        Work::new("swap", name.to_owned(), Unit::Nanoseconds, goal, move |effort: &Effort| {
            match content.pages(effort) {
                Ok(pages) => measure(&pages, compression, &ways, effort),
                Err(why) => Measured::failed(why),
            }
        })
    };
    ROWS.into_iter().map(work).collect()
}

impl Content {
    fn pages(self, effort: &Effort) -> Result<Vec<Page>, String> {
        let made = |page: fn(u64) -> Page| Ok((0..PAGES as u64).map(page).collect());
        match self {
            Self::Guests => {
                let root = std::env::var_os("KILBURN_ROOT");
                let root = root.ok_or("KILBURN_ROOT names no folder with programs")?;
                let pages = GUESTS.iter().map(|guest| of_guest(effort, Path::new(&root), guest));
                Ok(pages.collect::<Result<Vec<_>, _>>()?.concat())
            }
            Self::Pointers => made(pointers),
            Self::AlmostOneWord => made(|number| {
                let mut page = one_word(number);
                page[PAGE_SIZE as usize - 1] ^= 1;
                page
            }),
            Self::OneWord => made(one_word),
        }
    }
}

fn pointers(number: u64) -> Page {
    let mut page = [0; PAGE_SIZE as usize];
    let mut state = number as u32 | 1;
    for word in page[..3000].as_chunks_mut::<8>().0 {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        *word = (0x3f_8000_0000_u64 + u64::from(state >> 16 & 0xfff0)).to_le_bytes();
    }
    page
}

fn one_word(number: u64) -> Page {
    let mut page = [0; PAGE_SIZE as usize];
    page.as_chunks_mut::<8>().0.fill(number.to_le_bytes());
    page
}

/// A share of the pages that a guest had swapped out, from all over the area.
fn of_guest(
    effort: &Effort,
    root: &Path,
    (memory, command): &(&str, &[&str]),
) -> Result<Vec<Page>, String> {
    let file = tempfile::NamedTempFile::new().map_err(|error| error.to_string())?;
    let area = format!("file:{}:256M", file.path().display());
    let output = Command::new(&effort.kilburn)
        .args(["run", "--no-control", "--stats=off", "--memory", memory, "--swap", &area, "--root"])
        .arg(root)
        .arg("--")
        .args(*command)
        .output()
        .map_err(|error| error.to_string())?;
    if !output.status.success() {
        return Err(format!("{}: {}", command[0], String::from_utf8_lossy(&output.stderr)));
    }
    let all = written(file.as_file()).map_err(|error| error.to_string())?;
    let share = PAGES / GUESTS.len();
    if all.len() < share / 2 {
        return Err(format!("{}: {} pages were swapped out, too few", command[0], all.len()));
    }
    Ok((0..share).map(|number| all[number * all.len() / share]).collect())
}

/// What was written to a sparse file, but for pages of one word.
fn written(file: &File) -> std::io::Result<Vec<Page>> {
    let mut pages = Vec::new();
    let mut at = 0;
    while let Ok(start) = seek(file, SeekFrom::Data(at)) {
        at = seek(file, SeekFrom::Hole(start))?;
        for offset in (start..at).step_by(PAGE_SIZE as usize) {
            let mut page = [0; PAGE_SIZE as usize];
            file.read_exact_at(&mut page, offset)?;
            let words = page.as_chunks::<8>().0;
            if words.iter().any(|word| word != &words[0]) {
                pages.push(page);
            }
        }
    }
    Ok(pages)
}

/// What went both ways.
#[derive(Clone, Copy, Default)]
struct Ways {
    pages: u64,
    out: Duration,
    back: Duration,
}

impl Ways {
    fn text(self, who: &str) -> String {
        let each = |took: Duration| took.as_nanos() as f64 / self.pages.max(1) as f64 / 1e3;
        format!("{who}: out {:.1} us, in {:.1} us", each(self.out), each(self.back))
    }
}

/// Moves pages out and in until `count` have gone; `ways` adds up what that takes.
fn moving(
    name: &'static str,
    ways: &Rc<Cell<Ways>>,
    mut out: impl FnMut() -> (u64, Duration) + 'static,
    mut back: impl FnMut() -> Duration + 'static,
) -> Contestant {
    let ways = Rc::clone(ways);
    Contestant::new(name, move |count| {
        let mut this = Ways::default();
        while this.pages < count {
            let (went, took) = out();
            this.pages += went;
            this.out += took;
            this.back += back();
        }
        let all = ways.get();
        ways.set(Ways {
            pages: all.pages + this.pages,
            out: all.out + this.out,
            back: all.back + this.back,
        });
        (this.pages, this.out + this.back)
    })
}

/// What went both ways in all passes of a row.
#[derive(Default)]
struct BothWays {
    ours: Rc<Cell<Ways>>,
    zram: Rc<Cell<Ways>>,
}

fn measure(
    pages: &[Page],
    compression: Compression,
    BothWays { ours, zram: theirs }: &BothWays,
    effort: &Effort,
) -> Measured {
    let kept = Rc::new(Cell::new(0.0));
    let mut contestants = vec![our_own(pages, compression, ours, &kept)];
    let mut notes = Vec::new();
    let zram = Zram::new(compression);
    match &zram {
        Ok(_) => contestants.push(kernels(pages, theirs)),
        Err(why) => notes.push(format!("zram: {why}")),
    }
    let mut measured = compete(contestants, Unit::Nanoseconds, effort);
    notes.push(ours.get().text("ours"));
    if zram.is_ok() {
        notes.push(theirs.get().text("zram"));
    }
    if kept.get() > 0.0 {
        notes.push(format!("kept in {:.2} of their size", kept.get()));
    }
    measured.notes.extend(notes);
    measured
}

fn our_own(
    pages: &[Page],
    compression: Compression,
    ways: &Rc<Cell<Ways>>,
    kept: &Rc<Cell<f64>>,
) -> Contestant {
    let count = pages.len() as u64;
    let area = Arc::new(Compressed::new(compression, pages.len() as u32 * 2));
    let (memory, mm) = machine(64);
    memory.swap_on("compressed", Arc::clone(&area) as Arc<dyn SwapArea>, None).expect("an area");
    let start = map(&mm, 0, count, READ_WRITE);
    let at = move |page: usize| VirtAddr::new(start.get() + page as u64 * PAGE_SIZE);
    for (number, page) in pages.iter().enumerate() {
        mm.write(&Caller::ROOT, at(number), page).expect("mapped");
    }
    let first: Vec<u8> = pages.iter().map(|page| page[0]).collect();
    let kept = Rc::clone(kept);
    let out = move || {
        let mut went = 0;
        let took = timed(|| went = memory.reclaim_pages(count));
        assert!(went > count / 2, "{went} of {count} pages went");
        let held = area.stats();
        kept.set(held.bytes as f64 / (held.pages.max(1) * PAGE_SIZE) as f64);
        (went, took)
    };
    // The fault reads the slot; the store makes the page one that has to be written out again.
    let back = move || {
        timed(|| {
            for (number, byte) in first.iter().enumerate() {
                mm.write(&Caller::ROOT, at(number), &[*byte]).expect("mapped");
            }
        })
    };
    moving("ours", ways, out, back)
}

fn kernels(pages: &[Page], ways: &Rc<Cell<Ways>>) -> Contestant {
    let count = pages.len() as u64;
    let mut memory = kernel::map(count);
    memory.copy_from_slice(pages.as_flattened());
    let first: Vec<u8> = pages.iter().map(|page| page[0]).collect();
    let memory = Rc::new(std::cell::RefCell::new(memory));
    let shared = Rc::clone(&memory);
    let out = move || {
        let took = timed(|| page_out(&mut shared.borrow_mut()).expect("Linux 5.4"));
        let went = swapped_pages();
        assert!(went > count / 2, "{went} of {count} pages went to zram");
        (went.min(count), took)
    };
    let back = move || {
        let mut memory = memory.borrow_mut();
        timed(|| {
            for (page, byte) in memory.chunks_mut(PAGE_SIZE as usize).zip(&first) {
                page[0] = *byte;
            }
        })
    };
    moving("zram", ways, out, back)
}

/// Pages of this process's that are in swap.
fn swapped_pages() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmSwap:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.unwrap_or(0) * 1024 / PAGE_SIZE
}

/// Makes a zram device, has the kernel swap to it first, says so, and waits until the pipe closes. A signal from the terminal is
/// for the process that is served.
const SERVE: &str = r#"trap "" INT TERM HUP
number=$(cat /sys/class/zram-control/hot_add) || exit 1
settings=/sys/block/zram$number device=/dev/zram$number
echo "$1" >"$settings/comp_algorithm" && echo 256M >"$settings/disksize" &&
    mkswap -q "$device" && swapon -p 32767 "$device" && echo ready && cat >/dev/null
swapoff "$device" 2>/dev/null
echo 1 >"$settings/reset"
echo "$number" >/sys/class/zram-control/hot_remove"#;

/// A zram device that the kernel underneath swaps to.
struct Zram {
    guard: Child,
    pipe: Option<ChildStdin>,
}

impl Zram {
    fn new(compression: Compression) -> Result<Self, String> {
        let algorithm = match compression {
            Compression::Lz4 => "lz4",
            Compression::Zstd => "zstd",
        };
        let mut guard = Command::new("sh")
            .args(["-c", SERVE, "sh", algorithm])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("sh: {error}"))?;
        let pipe = guard.stdin.take();
        let told = guard.stdout.take();
        let zram = Self { guard, pipe };
        let mut line = String::new();
        if let Some(told) = told {
            let _ = BufReader::new(told).read_line(&mut line);
        }
        if line.trim() == "ready" {
            Ok(zram)
        } else {
            Err(format!("no device with {algorithm} could be made (root? a kernel with zram?)"))
        }
    }
}

impl Drop for Zram {
    fn drop(&mut self) {
        drop(self.pipe.take());
        // It ends once the device is gone.
        let _ = self.guard.wait();
    }
}
