//! Makes cases from a seed: random calls that meet each other, and arguments at their extremes.
//!
//! A case is fixed before it runs, so the generator guesses: it remembers the addresses it used
//! and returns to them. Every argument is now and then 0, 1, -1, unaligned, wrapping, just past
//! the address space, or has random bits set; what could harm the child that makes the calls is
//! left out ([`crate::safe`]).

use crate::call::{
    Call, Kind, NO_FILE, REMOTE_BYTES, RLIMIT_AS, RLIMIT_DATA, RLIMIT_MEMLOCK, RLIMIT_STACK, Step,
};
use crate::case::{Case, MAX_FILES, Window};
use crate::rng::Rng;
use crate::safe::{TASK_SIZE, is_safe};
use kilburn_addr::PAGE_SIZE;

/// Steps of a case.
const STEPS: u64 = 160;
/// Processes of a case at most.
const MAX_PROCESSES: u8 = 4;

/// Locks what there is; `mlockall`.
const MCL_CURRENT: u64 = 1;
const MREMAP_FIXED: u64 = 2;
const MAP_SHARED: u64 = 0x1;
const MAP_PRIVATE: u64 = 0x2;
const MAP_SHARED_VALIDATE: u64 = 0x3;
const MAP_DROPPABLE: u64 = 0x8;
const MAP_FIXED: u64 = 0x10;
const MAP_ANONYMOUS: u64 = 0x20;
const MAP_GROWSDOWN: u64 = 0x100;
const MAP_DENYWRITE: u64 = 0x800;
const MAP_LOCKED: u64 = 0x2000;
const MAP_NORESERVE: u64 = 0x4000;
const MAP_POPULATE: u64 = 0x8000;
const MAP_NONBLOCK: u64 = 0x1_0000;
const MAP_STACK: u64 = 0x2_0000;
const MAP_FIXED_NOREPLACE: u64 = 0x10_0000;
/// `MAP_32BIT` and `MAP_ABOVE4G` concern addresses outside any window, `MAP_HUGETLB` pages that
/// are not set aside.
const MAP_NEVER: u64 = 0x40 | 0x80 | 0x4_0000;

/// Makes cases, each from the seed and its number alone: whoever runs them, in whatever order,
/// runs the same.
#[derive(Clone, Debug)]
pub struct Generator {
    seed: u64,
    kinds: Vec<(u32, Kind)>,
}

/// How often each call is made.
const WEIGHTS: [(u32, Kind); 27] = [
    (22, Kind::Mmap),
    (10, Kind::Munmap),
    (12, Kind::Mprotect),
    (9, Kind::Mremap),
    (3, Kind::Brk),
    (9, Kind::Madvise),
    (2, Kind::Msync),
    (2, Kind::Mincore),
    (3, Kind::Mlock),
    (2, Kind::Mlock2),
    (3, Kind::Munlock),
    (1, Kind::Mlockall),
    (1, Kind::Munlockall),
    (1, Kind::Mseal),
    (1, Kind::RemapFilePages),
    (10, Kind::Read),
    (18, Kind::Write),
    (8, Kind::Sum),
    (2, Kind::Truncate),
    (3, Kind::FileWrite),
    (3, Kind::FileRead),
    (2, Kind::RemoteRead),
    (2, Kind::RemoteWrite),
    (1, Kind::Rlimit),
    (1, Kind::DropIpcLock),
    (2, Kind::Fork),
    (1, Kind::Exit),
];

impl Generator {
    /// A generator of the calls in `kinds`.
    pub fn new(seed: u64, kinds: &[Kind]) -> Self {
        let kinds = WEIGHTS.into_iter().filter(|(_, kind)| kinds.contains(kind)).collect();
        Self { seed, kinds }
    }

    /// Case `number`.
    pub fn case(&self, number: u64) -> Case {
        let mut rng = Rng::new(Rng::new(self.seed).next_u64() ^ number);
        rng = Rng::new(rng.next_u64());
        let window = if rng.percent(75) { Window::NARROW } else { Window::WIDE };
        let files = (0..rng.below(MAX_FILES as u64 + 1))
            .map(|_| rng.below(6 * PAGE_SIZE))
            .collect::<Vec<_>>();
        let brk = window.page(rng.below(window.pages)) + rng.pick(&[0, 0, 0x123]);
        // Most cases stay with few kinds of mapping, so that neighbours are alike.
        let mut maker = Maker {
            rng: &mut rng,
            window,
            files: files.len() as u64,
            brk,
            used: vec![window.start],
            value: 1,
            written: Vec::new(),
            processes: 1,
        };
        maker.used.push(brk & !(PAGE_SIZE - 1));
        let forks = maker.rng.percent(30);
        let limits = maker.rng.percent(20);
        let mut processes = vec![0];
        // Who may not lock more than its limit.
        let mut limited: Vec<u8> = Vec::new();
        let mut made = 1;
        let mut process = 0;
        let mut steps = Vec::new();
        while (steps.len() as u64) < STEPS {
            let mut kind = maker.rng.weighted(&self.kinds);
            // Where there are several processes, what they share is worth a look.
            if forks && maker.rng.percent(10) {
                kind = maker.rng.pick(&[Kind::Write, Kind::Read, Kind::Read, Kind::Fork]);
            }
            if !self.kinds.iter().any(|(_, wanted)| *wanted == kind) {
                continue;
            }
            // Whoever made the last call often makes the next: turns take time.
            if !processes.contains(&process) || maker.rng.percent(40) {
                process = maker.rng.pick(&processes);
            }
            match kind {
                Kind::Fork if !forks || made == MAX_PROCESSES => continue,
                Kind::Exit if process == 0 || processes.len() == 1 => continue,
                _ => {}
            }
            // Limits change how all that follows ends: few cases have them.
            if matches!(kind, Kind::Rlimit | Kind::DropIpcLock) && !limits {
                continue;
            }
            maker.processes = made;
            let mut call = maker.call(kind);
            if kind == Kind::Mlockall && limits && !limited.contains(&process) {
                // Locking what lies outside of the window as well makes counts that Linux, which
                // counts the pages of an area in an `int`, gets wrong: limits would mean little.
                call.args[0] &= !MCL_CURRENT;
            }
            if !is_safe(&call, window) {
                continue;
            }
            if kind == Kind::DropIpcLock {
                limited.push(process);
            }
            if kind == Kind::Fork {
                if limited.contains(&process) {
                    limited.push(made);
                }
                processes.push(made);
                made += 1;
            } else if kind == Kind::Exit {
                processes.retain(|&other| other != process);
            }
            steps.push(Step { process, call });
        }
        Case { window, brk, files, steps }
    }
}

struct Maker<'a> {
    rng: &'a mut Rng,
    window: Window,
    files: u64,
    brk: u64,
    /// Addresses used before, page-aligned.
    used: Vec<u64>,
    value: u64,
    /// Bytes written lately: what is read back shows most.
    written: Vec<u64>,
    /// Processes made so far.
    processes: u8,
}

impl Maker<'_> {
    fn call(&mut self, kind: Kind) -> Call {
        let args: &[u64] = match kind {
            Kind::Mmap => &self.mmap(),
            Kind::Munmap => &[self.addr(), self.len()],
            Kind::Mprotect => &[self.addr(), self.len(), self.prot()],
            Kind::Mremap => &self.mremap(),
            Kind::Brk => &[self.brk_target()],
            Kind::Madvise => &[self.addr(), self.len(), self.advice()],
            Kind::Msync => &[self.addr(), self.len(), self.bits(&[1, 2, 4], 3)],
            Kind::Mincore | Kind::Mlock | Kind::Munlock => &[self.addr(), self.len()],
            Kind::Mlock2 => &[self.addr(), self.len(), self.bits(&[1], 5)],
            Kind::Mlockall => &[self.bits(&[1, 2, 4], 5)],
            Kind::Mseal => &[self.addr(), self.len(), self.bits(&[], 5)],
            Kind::RemapFilePages => {
                let pgoff = self.rng.below(6);
                &[self.addr(), self.len(), self.bits(&[], 10), pgoff, self.bits(&[0x1_0000], 5)]
            }
            Kind::Read => &[self.byte()],
            Kind::Write => {
                self.value += 1;
                &[self.target_byte(), self.value & 0xff]
            }
            Kind::Sum => &[self.page(), 1 + self.rng.below(16)],
            Kind::Truncate => &[self.rng.below(self.files.max(1)), self.rng.below(8 * PAGE_SIZE)],
            Kind::FileWrite => {
                self.value += 1;
                let offset = self.rng.below(8) * PAGE_SIZE + self.rng.pick(&[0, 8, 4092]);
                &[self.rng.below(self.files.max(1)), offset, self.value]
            }
            Kind::FileRead => {
                let offset = self.rng.below(8) * PAGE_SIZE + self.rng.pick(&[0, 8, 4092]);
                &[self.rng.below(self.files.max(1)), offset]
            }
            Kind::RemoteRead => &[self.target(), self.byte(), self.remote_len()],
            Kind::RemoteWrite => {
                self.value += 1;
                &[self.target(), self.byte(), self.remote_len(), self.value & 0xff]
            }
            Kind::Rlimit => &self.limit(),
            Kind::Munlockall | Kind::DropIpcLock | Kind::Fork | Kind::Exit => &[],
        };
        Call::new(kind, args)
    }

    /// A page of the window, most often near one used before.
    fn page(&mut self) -> u64 {
        if let Some(byte) = self.written_byte(12) {
            return byte & !(PAGE_SIZE - 1);
        }
        if self.rng.percent(70) {
            let near = self.rng.pick(&self.used);
            let moved =
                near.wrapping_add(self.rng.below(9) * PAGE_SIZE).wrapping_sub(4 * PAGE_SIZE);
            return moved.clamp(self.window.start, self.window.end() - PAGE_SIZE);
        }
        self.window.page(self.rng.below(self.window.pages))
    }

    fn addr(&mut self) -> u64 {
        let page = self.page();
        match self.rng.below(100) {
            0 => self.extreme(),
            1 => page + self.rng.pick(&[1, 8, 0xfff]),
            2 => self.window.end() - PAGE_SIZE * self.rng.below(3),
            3 => self.window.start - PAGE_SIZE * self.rng.below(3),
            _ => {
                if self.used.len() < 24 {
                    self.used.push(page);
                } else {
                    let at = self.rng.below(24) as usize;
                    self.used[at] = page;
                }
                page
            }
        }
    }

    /// A byte written lately, if there is one, so many times of a hundred.
    fn written_byte(&mut self, percent: u64) -> Option<u64> {
        let lately = self.rng.percent(percent) && !self.written.is_empty();
        lately.then(|| self.rng.pick(&self.written))
    }

    /// The address of a byte that is written.
    fn target_byte(&mut self) -> u64 {
        let byte = self.byte();
        self.note_written(byte);
        byte
    }

    fn note_written(&mut self, byte: u64) {
        if self.written.len() == 6 {
            self.written.remove(0);
        }
        self.written.push(byte);
    }

    /// The address of a byte.
    fn byte(&mut self) -> u64 {
        if let Some(byte) = self.written_byte(45) {
            return byte;
        }
        self.page() + self.rng.pick(&[0, 0, 0, 1, 0x345, 0xfff])
    }

    fn len(&mut self) -> u64 {
        let pages = if self.rng.percent(80) { 1 + self.rng.below(6) } else { self.rng.below(40) };
        match self.rng.below(100) {
            0 => self.extreme(),
            1 => 0,
            2..5 => pages * PAGE_SIZE + self.rng.pick(&[1, 0x10, 0xfff]),
            5..8 if self.window == Window::WIDE => self.rng.pick(&[1, 2, 3]) << 21,
            _ => pages * PAGE_SIZE,
        }
    }

    fn extreme(&mut self) -> u64 {
        let page = PAGE_SIZE;
        self.rng.pick(&[
            0,
            1,
            page,
            TASK_SIZE - page,
            TASK_SIZE,
            TASK_SIZE + 1,
            TASK_SIZE + page,
            1 << 47,
            1 << 56,
            1 << 63,
            0u64.wrapping_sub(2 * page),
            0u64.wrapping_sub(page),
            u64::MAX - 1,
            u64::MAX,
        ])
    }

    fn prot(&mut self) -> u64 {
        match self.rng.below(100) {
            0 => self.rng.next_u64() & 0xffff_ffff,
            1 => 0x0100_0003,
            2 => 0x0200_0001,
            3 => 8 | 3,
            4..40 => 3,
            40..65 => 1,
            65..80 => 0,
            80..88 => 5,
            88..94 => 7,
            94..97 => 2,
            _ => 6,
        }
    }

    fn mmap(&mut self) -> [u64; 6] {
        let addr = if self.rng.percent(35) { 0 } else { self.addr() };
        let file = if self.files > 0 && self.rng.percent(40) {
            self.rng.below(self.files)
        } else {
            NO_FILE
        };
        let mut flags = self.rng.weighted(&[
            (70, MAP_PRIVATE),
            (25, MAP_SHARED),
            (2, MAP_SHARED_VALIDATE),
            (2, MAP_DROPPABLE),
            (1, 0),
        ]);
        if file == NO_FILE {
            flags |= MAP_ANONYMOUS;
        }
        if addr != 0 {
            flags |= self.rng.weighted(&[(50, MAP_FIXED), (15, MAP_FIXED_NOREPLACE), (35, 0)]);
        }
        for (percent, flag) in [
            (3, MAP_GROWSDOWN),
            (5, MAP_NORESERVE),
            (8, MAP_POPULATE),
            (2, MAP_NONBLOCK),
            (3, MAP_LOCKED),
            (3, MAP_STACK),
            (1, MAP_DENYWRITE),
        ] {
            if self.rng.percent(percent) {
                flags |= flag;
            }
        }
        if self.rng.below(200) == 0 {
            flags ^= self.rng.next_u64() & 0xffff_ffff;
        }
        let offset = match self.rng.below(50) {
            0 => self.extreme(),
            1 => 1,
            _ if file == NO_FILE => 0,
            _ => self.rng.below(6) * PAGE_SIZE,
        };
        [addr, self.len(), self.prot(), flags & !MAP_NEVER, file, offset]
    }

    fn mremap(&mut self) -> [u64; 5] {
        let old = match self.written_byte(25) {
            Some(byte) => byte & !(PAGE_SIZE - 1),
            None => self.addr(),
        };
        let old_len = if self.rng.percent(5) { 0 } else { self.len() };
        let new_len = if self.rng.percent(30) { old_len } else { self.len() };
        let flags = match self.rng.below(100) {
            0 => self.rng.below(16),
            1..15 => 0,
            15..65 => 1,
            65..90 => 3,
            90..97 => 5,
            _ => 7,
        };
        let new = self.addr();
        if flags & MREMAP_FIXED != 0 {
            // What was written goes along: it is worth a look where it went.
            let moved = |byte: u64| {
                let offset = byte.checked_sub(old).filter(|offset| *offset < old_len.min(new_len));
                offset.map(|offset| new.wrapping_add(offset))
            };
            if let Some(byte) = self.written.iter().rev().find_map(|byte| moved(*byte)) {
                self.note_written(byte);
            }
        }
        [old, old_len, new_len, flags, new]
    }

    fn brk_target(&mut self) -> u64 {
        match self.rng.below(20) {
            0 => self.extreme(),
            1 => 0,
            _ => self.brk.wrapping_add(self.rng.below(12 * PAGE_SIZE)).wrapping_sub(PAGE_SIZE),
        }
    }

    /// A process of the case, now and then one that is not there.
    fn target(&mut self) -> u64 {
        let absent = u64::from(self.rng.percent(5));
        self.rng.below(u64::from(self.processes) + absent)
    }

    fn remote_len(&mut self) -> u64 {
        self.rng.pick(&[0, 1, 8, PAGE_SIZE, PAGE_SIZE + 5, 3 * PAGE_SIZE, REMOTE_BYTES])
    }

    fn limit(&mut self) -> [u64; 2] {
        let resource = self.rng.pick(&[RLIMIT_AS, RLIMIT_DATA, RLIMIT_STACK, RLIMIT_MEMLOCK]);
        let bytes = match (self.rng.below(8), resource) {
            // Its hard limit is seldom without bound.
            (0, RLIMIT_AS | RLIMIT_DATA | RLIMIT_STACK) => u64::MAX,
            (1, RLIMIT_STACK | RLIMIT_MEMLOCK) => self.rng.pick(&[0, 1, PAGE_SIZE]),
            (_, RLIMIT_AS | RLIMIT_DATA) => (16 + self.rng.below(60)) * PAGE_SIZE + 5,
            _ => self.rng.below(24) * PAGE_SIZE,
        };
        [resource, bytes]
    }

    fn advice(&mut self) -> u64 {
        const ADVICES: [u64; 28] = [
            0, 1, 2, 3, 4, 4, 4, 4, 8, 9, 10, 11, 18, 19, 16, 17, 20, 22, 23, 102, 103, 24, 18, 10,
            12, 13, 18, 18,
        ];
        match self.rng.below(40) {
            // Poisoning frames would take memory from the machine for good.
            0 => match self.rng.below(110) {
                100 | 101 => 14,
                advice => advice,
            },
            1 => self.rng.pick(&[14, 15, 21, 25, 5, u64::MAX]),
            _ => self.rng.pick(&ADVICES),
        }
    }

    /// A combination of flags, now and then with random bits.
    fn bits(&mut self, flags: &[u64], percent_random: u64) -> u64 {
        if self.rng.percent(percent_random) {
            return self.rng.next_u64() & 0xffff_ffff;
        }
        let mut bits = 0;
        for flag in flags {
            if self.rng.percent(50) {
                bits |= flag;
            }
        }
        bits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_makes_the_same_cases_again() {
        let one = Generator::new(7, Kind::ALL);
        let two = Generator::new(7, Kind::ALL);
        for number in (0..20).rev() {
            assert_eq!(one.case(number), two.case(number));
        }
        assert_ne!(one.case(0), one.case(1));
        assert_ne!(one.case(0), Generator::new(8, Kind::ALL).case(0));
    }

    #[test]
    fn cases_survive_text_and_do_no_harm() {
        let generator = Generator::new(1, Kind::ALL);
        for number in 0..50 {
            let case = generator.case(number);
            assert_eq!(case.to_string().parse().as_ref(), Ok(&case));
            assert!(case.steps.iter().all(|step| is_safe(&step.call, case.window)));
        }
    }

    #[test]
    fn every_kind_of_call_is_made() {
        let generator = Generator::new(3, Kind::ALL);
        let cases: Vec<Case> = (0..200).map(|number| generator.case(number)).collect();
        for kind in Kind::ALL {
            let steps = cases.iter().flat_map(|case| &case.steps);
            assert!(steps.filter(|step| step.call.kind == *kind).count() > 5, "{kind:?}");
        }
    }
}
