//! Translation simulated: a model of Skylake's TLBs, walk caches and caches on the memory manager's tables, beside valgrind.
//!
//! Streams of references: `local` (of 1000 references 969 go to 32 pages, 30 to 1,000 and one anywhere in 256 MiB; half of each
//! are 8 bytes further than the one before), Zipf(1.0) over 65,536 pages, and all that `ls` does, as lackey writes it down.

use super::policies::zipf;
use crate::Work;
use crate::contest::{Contestant, Effort, Measured, Unit, compete, timed};
use crate::machine::scattered;
use kilburn_addr::{Access, PAGE_SIZE, VirtAddr};
use kilburn_mmu::model::preset::Preset;
use kilburn_mmu::{Model, ModelConfig};
use kilburn_trace::managed::Managed;
use kilburn_trace::replay::Backing;
use kilburn_trace::{Event, Replay, open};
use std::collections::BTreeSet;
use std::fs::File;
use std::ops::ControlFlow;
use std::path::Path;
use std::process::{Command, Stdio};

const PAGES: u64 = 1 << 16;
const BASE: u64 = 0x7f00_0000_0000;
const REFERENCES: u64 = 4_000_000;
const MEMORY: u64 = 1 << 30;

/// What is modelled.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Hardware {
    Translation,
    WithCaches,
}

impl Hardware {
    fn config(self) -> ModelConfig {
        let full = Preset::named("skylake").expect("a preset").config();
        match self {
            Self::Translation => ModelConfig { caches: None, ..full },
            Self::WithCaches => full,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Translation => "two levels of TLBs, walk caches, tables",
            Self::WithCaches => "the same and L1, L2, L3",
        }
    }

    /// Millions of references a second.
    fn goal(self) -> f64 {
        match self {
            Self::Translation => 100.0,
            Self::WithCaches => 30.0,
        }
    }
}

#[derive(Clone, Copy)]
struct Reference {
    va: VirtAddr,
    size: u32,
    access: Access,
}

type Stream = fn(&Effort) -> Result<Vec<Reference>, String>;

pub(crate) fn work() -> Vec<Work> {
    let streams: [(&str, Stream, bool); 3] = [
        ("local stream", |effort| Ok(local(effort)), true),
        ("Zipf(1.0) over 65,536 pages", |effort| Ok(zipf_pages(effort)), false),
        ("all that `ls -l /etc` does", |_| of_program(), true),
    ];
    let mut all = Vec::new();
    for hardware in [Hardware::Translation, Hardware::WithCaches] {
        for (name, stream, has_goal) in streams {
            let name = format!("{}: {name}", hardware.name());
            let goal = has_goal.then(|| hardware.goal());
            all.push(Work::new("sim", name, Unit::MillionsPerSecond, goal, move |effort| {
                match stream(effort) {
                    Ok(references) => on_model(hardware, references, effort),
                    Err(why) => Measured::failed(why),
                }
            }));
        }
    }
    let name = "`ls -l /etc`: its trace's text read, TLBs, tables, caches".to_owned();
    all.push(Work::new("sim", name, Unit::MillionsPerSecond, None, beside_valgrind));
    all
}

fn local(_: &Effort) -> Vec<Reference> {
    let mut last = 0;
    let one = |number: u64| {
        let draw = |salt: u64, bound| scattered(number * 8 + salt, bound);
        let page = match draw(0, 1000) {
            0..969 => draw(1, 32) * 17,
            969..999 => draw(1, 1000) * 5,
            _ => draw(1, PAGES),
        };
        // A page's accesses fall on eight of its lines, as those of an object do.
        let offset = (page * 3 % 56 + draw(2, 8)) * 64 + draw(3, 8) * 8;
        let near = (last + 8) % (PAGES * PAGE_SIZE);
        last = if draw(4, 2) == 0 { near } else { page * PAGE_SIZE + offset };
        reference(last, draw(5, 4))
    };
    (0..REFERENCES).map(one).collect()
}

/// One of four is a store.
fn reference(offset: u64, draw: u64) -> Reference {
    let access = if draw == 0 { Access::Write } else { Access::Read };
    Reference { va: VirtAddr::new(BASE + offset), size: 8, access }
}

fn zipf_pages(_: &Effort) -> Vec<Reference> {
    let one = |(number, page): (u64, u32)| {
        // Neighbours in rank are no neighbours in memory.
        let page = u64::from(page).wrapping_mul(0x9e37_79b1) % PAGES;
        let offset = scattered(number * 2, PAGE_SIZE / 8) * 8;
        reference(page * PAGE_SIZE + offset, scattered(number * 2 + 1, 4))
    };
    (0..).zip(zipf(PAGES as u32, REFERENCES as u32)).map(one).collect()
}

const PROGRAM: [&str; 3] = ["ls", "-l", "/etc"];

/// valgrind's `tool` on the program.
fn valgrind(options: &[String]) -> Command {
    let mut command = Command::new("valgrind");
    command.args(options).args(PROGRAM).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

fn lackey(into: &Path) -> [String; 3] {
    let log = format!("--log-file={}", into.display());
    ["--tool=lackey".to_owned(), "--trace-mem=yes".to_owned(), log]
}

/// The trace of the program, in a folder that is there as long as what is answered.
fn trace() -> Result<(tempfile::TempDir, File), String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let path = folder.path().join("trace");
    match valgrind(&lackey(&path)).status() {
        Ok(status) if status.success() => (),
        Ok(status) => return Err(format!("valgrind: {status}")),
        Err(_) => return Err("valgrind is not installed (apt install valgrind)".to_owned()),
    }
    let file = File::open(path).map_err(|error| error.to_string())?;
    Ok((folder, file))
}

fn of_program() -> Result<Vec<Reference>, String> {
    let (_folder, file) = trace()?;
    let mut source =
        open::open("lackey", Box::new(file), None).map_err(|error| error.to_string())?;
    let mut references = Vec::new();
    while let Some(event) = source.next_event().map_err(|error| error.to_string())? {
        if let Event::Access { access, va, size } = event
            && va.page_offset() + u64::from(size) <= PAGE_SIZE
        {
            references.push(Reference { va, size, access });
        }
    }
    Ok(references)
}

/// The model alone, on tables that hold all pages.
fn on_model(hardware: Hardware, references: Vec<Reference>, effort: &Effort) -> Measured {
    let mut managed = match Managed::new(MEMORY, None) {
        Ok(managed) => managed,
        Err(why) => return Measured::failed(why),
    };
    let pages: BTreeSet<u64> = references.iter().map(|one| one.va.page_down().get()).collect();
    for page in pages {
        let at = VirtAddr::new(page);
        managed.resolve(0, at, Access::Write).expect("memory for all pages");
    }
    managed.take_flushes();
    let space = managed.hardware(0).expect("it is there");
    let mut model = Model::new(hardware.config()).expect("a preset's shape");
    let mut next = 0;
    let ours = Contestant::new("ours", move |count| {
        let took = timed(|| {
            for _ in 0..count {
                let Reference { va, size, access } = references[next];
                next = if next + 1 == references.len() { 0 } else { next + 1 };
                let mapping = model.access(managed.mem(), space, va, u64::from(size), access);
                debug_assert!(mapping.is_ok(), "{va}");
            }
        });
        assert_eq!(model.stats().all().faults, 0, "all pages are there");
        (count, took)
    });
    let mut measured = compete(vec![ours], Unit::MillionsPerSecond, effort);
    measured.notes.push("ChampSim, a model of a whole core, does some 0.03".to_owned());
    measured
}

fn beside_valgrind(effort: &Effort) -> Measured {
    let (folder, file) = match trace() {
        Ok(trace) => trace,
        Err(why) => return Measured::failed(why),
    };
    drop(file);
    let path = folder.path().join("trace");
    let mut measured = Measured::default();
    let mut peers = [
        ("valgrind's cachegrind, caches alone", Vec::new()),
        ("valgrind's lackey, which wrote the trace", Vec::new()),
    ];
    let outcome =
        |name: &str| format!("--cachegrind-out-file={}", folder.path().join(name).display());
    let commands = [
        vec!["--tool=cachegrind".to_owned(), "--cache-sim=yes".to_owned(), outcome("counts")],
        lackey(&folder.path().join("again")).to_vec(),
    ];
    for _ in 0..effort.long_rounds(5) {
        let replayed = match replay(&path) {
            Ok(replayed) => replayed,
            Err(why) => return Measured::failed(why),
        };
        let (references, seconds) = replayed;
        measured.ours.push(references / seconds / 1e6);
        for ((_, turns), options) in peers.iter_mut().zip(&commands) {
            match super::hart::timed(&mut valgrind(options)) {
                Ok(seconds) => turns.push(references / seconds / 1e6),
                Err(why) => measured.notes.push(why),
            }
        }
    }
    let count = measured.ours.len();
    let whole = peers.into_iter().filter(|(_, turns)| turns.len() == count);
    measured.peers = whole.map(|(name, turns)| (name.to_owned(), turns)).collect();
    measured.notes.push("valgrind's time has running the program in it".to_owned());
    measured
}

/// `kilburn sim` of the trace; references, and seconds of processor time.
fn replay(path: &Path) -> Result<(f64, f64), String> {
    let file = File::open(path).map_err(|error| error.to_string())?;
    let mut source =
        open::open("lackey", Box::new(file), None).map_err(|error| error.to_string())?;
    let backing = Backing::Managed(Box::new(Managed::new(MEMORY, None)?));
    let mut replay =
        Replay::new(Hardware::WithCaches.config(), backing).map_err(|error| error.to_string())?;
    let mut outcome = Ok(());
    let took = timed(|| outcome = replay.run(&mut source, u64::MAX, |_| ControlFlow::Continue(())));
    outcome.map_err(|error| error.to_string())?;
    Ok((replay.counts().accesses as f64, took.as_secs_f64()))
}
