//! A memory manager so simple that it is obviously right: a map from page to its state.
//!
//! Written from the man pages and from what Linux does, page by page: no areas, no page tables,
//! no sharing of frames. A fork copies every byte. It shares no code with `kilburn-mm`, and
//! where it cannot know the answer, it says so instead of guessing: which areas merged depends on
//! history that pages do not show.
//!
//! - [`Naive`]: processes and files; [`Naive::step`] makes a step and says what must come of it.
//! - `space`: mmap, munmap, mprotect, mremap, brk: which pages there are.
//! - `advice`: madvise, mlock and others: what is known of pages.
//! - `access`: loads, stores, files, fork: what is in pages.

mod access;
mod advice;
mod space;

use crate::areas::lines;
use crate::call::{Kind, Step};
use crate::case::{Case, Window, stamp};
use crate::outcome::Outcome;
use kilburn_addr::{Errno, PAGE_MASK, PAGE_SIZE};
use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;

/// The content of a page. Clones share it until one is written: nothing but memory is saved.
type Bytes = Rc<[u8; PAGE_SIZE as usize]>;

/// What a step must have come to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Expect {
    /// This.
    Exactly(Outcome),
    /// It is done, whatever the value.
    Done,
    /// Whatever was seen: its effects have been taken over.
    Followed,
    /// It was refused, and perhaps nothing has changed; if something has, why it is not known.
    Perhaps(&'static str),
    /// It is not known, and nothing after it: why.
    Unsure(&'static str),
}

/// Where a page's content comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Source {
    /// Zeros.
    Anon,
    /// A file's page.
    File { file: usize, index: u64 },
}

/// How a page is locked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Lock {
    Not,
    Now,
    OnFault,
}

/// A page of a process.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Page {
    read: bool,
    write: bool,
    exec: bool,
    shared: bool,
    source: Source,
    /// A private page's own content, once it was written.
    copy: Option<Bytes>,
    lock: Lock,
    sealed: bool,
    grows_down: bool,
    droppable: bool,
    dont_fork: bool,
    wipe_on_fork: bool,
    guard: bool,
}

/// A page as `/proc/PID/maps` shows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shown {
    /// Its address.
    pub addr: u64,
    /// `rwxp` or the like.
    pub rights: [u8; 4],
    /// Offset in the file, in bytes; 0 without one.
    pub offset: u64,
}

#[derive(Clone)]
struct Process {
    pages: BTreeMap<u64, Page>,
    brk: u64,
    /// How new pages are locked (mlockall's `MCL_FUTURE`).
    lock: Lock,
}

#[derive(Default)]
struct File {
    size: u64,
    pages: BTreeMap<u64, Bytes>,
}

/// Processes and files of a case.
pub struct Naive {
    window: Window,
    start_brk: u64,
    /// Files of the case, then those behind shared anonymous memory.
    files: Vec<File>,
    case_files: usize,
    processes: Vec<Option<Process>>,
    /// Why what the step came to is not known after all.
    unsure: Option<&'static str>,
}

/// Why a call is not done.
enum Stop {
    Error(Errno),
    Unsure(&'static str),
}

impl From<Errno> for Stop {
    fn from(errno: Errno) -> Self {
        Self::Error(errno)
    }
}

type Done = Result<(), Stop>;

impl Naive {
    /// The state before the first step.
    pub fn new(case: &Case) -> Self {
        let files: Vec<File> =
            case.files.iter().zip(0..).map(|(&size, n)| File::new(size, n)).collect();
        let process = Process { pages: BTreeMap::new(), brk: case.brk, lock: Lock::Not };
        Self {
            window: case.window,
            start_brk: case.brk,
            case_files: files.len(),
            files,
            processes: vec![Some(process)],
            unsure: None,
        }
    }

    /// Makes a step that came to `seen` elsewhere.
    pub fn step(&mut self, step: &Step, seen: Outcome) -> Expect {
        let expect = self.make(step, seen);
        self.unsure.take().map_or(expect, Expect::Unsure)
    }

    fn make(&mut self, step: &Step, seen: Outcome) -> Expect {
        let at = usize::from(step.process);
        if self.processes.get(at).is_none_or(Option::is_none) {
            return Expect::Exactly(Outcome::Skipped);
        }
        let call = &step.call;
        let [a, b, c, ..] = call.args;
        let done = match call.kind {
            Kind::Mmap => match self.mmap(at, call) {
                Ok(addr) => return Expect::Exactly(Outcome::Returned(addr as i64)),
                Err(stop) => Err(stop),
            },
            Kind::Mremap => return self.mremap(at, call, seen),
            Kind::RemapFilePages => return self.remap_file_pages(at, call, seen),
            Kind::Brk => match self.brk(at, a) {
                Ok(brk) => return Expect::Exactly(Outcome::Returned(brk as i64)),
                Err(stop) => Err(stop),
            },
            Kind::Mincore => match self.mincore(at, a, b) {
                Ok(()) => return Expect::Done,
                Err(stop) => Err(stop),
            },
            Kind::Read => return Expect::Exactly(self.load_byte(at, a)),
            Kind::Write => return Expect::Exactly(self.store_byte(at, a, b as u8)),
            Kind::Sum => return Expect::Exactly(self.sum(at, a, b)),
            Kind::RemoteRead => return Expect::Exactly(self.remote_read(a, b, c)),
            Kind::RemoteWrite => {
                return Expect::Exactly(self.remote_write(a, b, c, call.args[3] as u8));
            }
            Kind::FileRead => return Expect::Exactly(self.file_read(a, b)),
            Kind::FileWrite => return Expect::Exactly(self.file_write(a, b, c)),
            Kind::Fork => return Expect::Exactly(self.fork(at)),
            Kind::Exit => {
                if at > 0 {
                    self.processes[at] = None;
                }
                Ok(())
            }
            Kind::Munmap => self.munmap(at, a, b),
            Kind::Mprotect => self.mprotect(at, a, b, c),
            Kind::Madvise => match self.madvise(at, a, b, c as i32) {
                Ok(expect) => return expect,
                Err(stop) => Err(stop),
            },
            Kind::Msync => self.msync(at, a, b, c as i32),
            Kind::Mlock => self.mlock(at, a, b, Lock::Now),
            Kind::Mlock2 if c & !1 != 0 => Err(Errno::EINVAL.into()),
            Kind::Mlock2 => self.mlock(at, a, b, if c == 1 { Lock::OnFault } else { Lock::Now }),
            Kind::Munlock => self.mlock(at, a, b, Lock::Not),
            Kind::Mlockall => self.mlockall(at, a),
            Kind::Munlockall => {
                self.munlockall(at);
                Ok(())
            }
            Kind::Mseal => self.mseal(at, a, b, c),
            Kind::Truncate => self.truncate(a, b),
            Kind::Rlimit | Kind::DropIpcLock => Err(Stop::Unsure("limits are not modelled")),
        };
        match done {
            Ok(()) => Expect::Exactly(Outcome::Returned(0)),
            Err(Stop::Error(errno)) => refused(errno),
            Err(Stop::Unsure(why)) => Expect::Unsure(why),
        }
    }

    /// The pages of a process in the window, as maps would show them; none when it is gone.
    pub fn shown(&self, process: u8) -> impl Iterator<Item = Shown> {
        let process = self.processes.get(usize::from(process)).and_then(Option::as_ref);
        let pages = process.into_iter().flat_map(|process| &process.pages);
        pages.map(|(addr, page)| page.shown(*addr))
    }

    fn process(&mut self, at: usize) -> &mut Process {
        self.processes[at].as_mut().expect("looked at before")
    }

    fn in_window(&self, addr: u64) -> bool {
        self.window.start <= addr && addr < self.window.end()
    }

    /// The state of the page at `addr`. All but the window is occupied by sealed pages without
    /// rights, up to the end of the address space.
    fn page(&self, at: usize, addr: u64) -> Option<Page> {
        if self.in_window(addr) {
            return self.processes[at]
                .as_ref()
                .and_then(|process| process.pages.get(&addr).cloned());
        }
        (PAGE_SIZE..space::TASK_SIZE).contains(&addr).then(Page::outside)
    }

    /// The pages of `start..end`, one after another, there or not. Long ranges start or end far
    /// outside the window, where everything is alike.
    fn pages_of(&self, start: u64, end: u64) -> impl Iterator<Item = u64> + use<> {
        let (low, high) = (self.window.start - MARGIN, self.window.end() + MARGIN);
        let from = if start < low { low.min(end) } else { start };
        let to = if end > high { high.max(from) } else { end };
        let first = (start < from || start >= high && start < end).then_some(start);
        let last = (to < end).then(|| end - PAGE_SIZE);
        first.into_iter().chain((from..to).step_by(PAGE_SIZE as usize)).chain(last)
    }
}

/// How far around the window single pages are looked at.
const MARGIN: u64 = 1 << 24;

fn refused(errno: Errno) -> Expect {
    Expect::Exactly(error(errno))
}

fn error(errno: Errno) -> Outcome {
    Outcome::Returned(-i64::from(errno.number()))
}

fn page_down(addr: u64) -> u64 {
    addr & PAGE_MASK
}

/// `PAGE_ALIGN`: wraps.
fn page_up(len: u64) -> u64 {
    len.wrapping_add(PAGE_SIZE - 1) & PAGE_MASK
}

fn is_aligned(addr: u64) -> bool {
    addr & !PAGE_MASK == 0
}

impl File {
    fn new(size: u64, number: u64) -> Self {
        let mut file = Self { size, pages: BTreeMap::new() };
        let mut page = 0;
        while page * PAGE_SIZE + 8 <= size {
            let bytes = stamp(number, page).to_le_bytes();
            file.page_mut(page)[..8].copy_from_slice(&bytes);
            page += 1;
        }
        file
    }

    fn page_mut(&mut self, index: u64) -> &mut [u8; PAGE_SIZE as usize] {
        Rc::make_mut(self.pages.entry(index).or_insert_with(zeros))
    }

    fn has(&self, index: u64) -> bool {
        index < self.size.div_ceil(PAGE_SIZE)
    }
}

fn zeros() -> Bytes {
    Rc::new([0; PAGE_SIZE as usize])
}

impl Page {
    fn outside() -> Self {
        Self {
            read: false,
            write: false,
            exec: false,
            shared: false,
            source: Source::File { file: usize::MAX, index: 0 },
            copy: None,
            lock: Lock::Not,
            sealed: true,
            grows_down: false,
            droppable: false,
            dont_fork: false,
            wipe_on_fork: false,
            guard: false,
        }
    }

    fn has_any_right(&self) -> bool {
        self.read || self.write || self.exec
    }

    fn is_anonymous(&self) -> bool {
        self.source == Source::Anon
    }

    fn shown(&self, addr: u64) -> Shown {
        let right = |has, letter| if has { letter } else { b'-' };
        let rights = [
            right(self.read, b'r'),
            right(self.write, b'w'),
            right(self.exec, b'x'),
            if self.shared { b's' } else { b'p' },
        ];
        let offset = match self.source {
            Source::Anon => 0,
            Source::File { index, .. } => index * PAGE_SIZE,
        };
        Shown { addr, rights, offset }
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rights: String = self.rights.iter().map(|right| char::from(*right)).collect();
        write!(f, "{:x} {rights} {:08x}", self.addr, self.offset)
    }
}

/// The pages that the lines of `maps` show in `window`.
pub fn pages_in(maps: &str, window: Window) -> impl Iterator<Item = Shown> {
    lines(maps, window).flat_map(move |area| {
        let is_file = area.name.starts_with('/');
        let (start, end) = (area.start.max(window.start), area.end.min(window.end()));
        let rights = area.rights.as_bytes().try_into().unwrap_or_default();
        (start..end).step_by(PAGE_SIZE as usize).map(move |addr| {
            let offset = if is_file { area.offset + (addr - area.start) } else { 0 };
            Shown { addr, rights, offset }
        })
    })
}
