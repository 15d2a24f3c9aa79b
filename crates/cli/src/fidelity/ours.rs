//! Our side: the calls of a case made on `kilburn-mm`, set up as the oracle's child is.
//!
//! The address space has the layout of the kernel's, x86-64 with four levels, and is occupied but
//! for the window by two sealed areas that map a file of their own.

use super::compare::{Settings, Swap};
use super::declared;
use super::planted::Planted;
use kilburn_addr::{Access, Errno, PAGE_SHIFT, PAGE_SIZE, VirtAddr};
use kilburn_mm::layout::Arch;
use kilburn_mm::{
    AddressSpace, Caller, ExecLayout, Fault, FileForMap, FileIdentity, Host, Layout, MappedFile,
    Memory, MemoryConfig, Mm, MmapRequest, Partial, RemoteRights, SegvCode, ShowFrames, TlbFlush,
    Violation,
};
use kilburn_model::areas::lines;
use kilburn_model::call::{NO_FILE, RLIMIT_AS, RLIMIT_DATA, RLIMIT_MEMLOCK, RLIMIT_STACK};
use kilburn_model::case::stamp;
use kilburn_model::outcome::{Digest, NOT_MAPPED, digest_of, digest_of_bytes};
use kilburn_model::safe::TASK_SIZE;
use kilburn_model::{Call, Case, Counts, Kind, Outcome, Pages, Report, Stage, Step, Window};
use kilburn_paging::Sv;
use kilburn_riscv::GuestRam;
use kilburn_swap::{Compressed, Compression};
use std::sync::Arc;

/// RAM of our machines: more than four processes can fill a window with. What is checked is all
/// of it, so a narrow window has little.
const NARROW_RAM_BYTES: u64 = 8 << 20;
const WIDE_RAM_BYTES: u64 = 96 << 20;
const SWAP_SLOTS: u32 = 16 << 10;
const MAP_PRIVATE_FIXED_NORESERVE: u64 = 0x4012;

/// The machine the calls are made on.
pub(super) struct Machine {
    ram: GuestRam,
}

impl Host for Machine {
    type Mem = GuestRam;
    type Format = Sv;
    type RawMutex = parking_lot::RawMutex;
    type RawRwLock = parking_lot::RawRwLock;

    fn mem(&self) -> &GuestRam {
        &self.ram
    }
    fn format(&self) -> Sv {
        Sv::SV48
    }
    fn flush_tlb(&self, _: &TlbFlush) {}
    fn random_u64(&self) -> u64 {
        0
    }
}

/// A file in shared memory.
pub(super) struct File {
    pub(super) mapping: Arc<AddressSpace<Machine>>,
    number: u64,
}

impl MappedFile<Machine> for File {
    fn mapping(&self) -> Option<&Arc<AddressSpace<Machine>>> {
        Some(&self.mapping)
    }
    fn identity(&self) -> FileIdentity {
        FileIdentity { major: 0, minor: 1, inode: self.number + 1 }
    }
    fn path(&self) -> String {
        "/memfd:kilburn (deleted)".to_owned()
    }
}

/// Memories that cases run in, one after another; made when first used.
pub(super) struct Ours {
    settings: Settings,
    narrow: Option<World>,
    wide: Option<World>,
}

struct World {
    memory: Arc<Memory<Machine>>,
    /// Frames free between cases.
    free: u64,
}

/// A case being run.
pub(super) struct Session<'a> {
    memory: &'a Arc<Memory<Machine>>,
    window: Window,
    stage: Stage,
    /// Who each process is.
    pub(super) callers: Vec<Caller>,
    planted: Option<Planted>,
    /// Anonymous mappings made, for [`Planted::Merge`].
    pub(super) mapped: u64,
    /// By number; those that ended are gone.
    pub(super) processes: Vec<Option<Arc<Mm<Machine>>>>,
    files: Vec<Arc<File>>,
    obstacle: Arc<File>,
    counts_at_start: Counts,
}

impl World {
    fn new(bytes: u64, settings: Settings) -> Result<Self, String> {
        let ram = GuestRam::new(bytes).map_err(|error| error.to_string())?;
        let base = ram.base_pfn();
        let end = base.checked_add(ram.frames()).ok_or("too much memory")?;
        // What the oracle's kernel has.
        let mut config = MemoryConfig::new(base..end);
        config.mmap_min_addr = PAGE_SIZE;
        config.leasing = settings.leasing;
        Planted::configure(settings.planted, &mut config);
        let memory = Memory::new(Machine { ram }, config).map_err(|error| error.to_string())?;
        if settings.swap == Swap::Both {
            let area = Compressed::new(Compression::Lz4, SWAP_SLOTS);
            memory.swap_on("swap", Arc::new(area), None).map_err(|errno| errno.to_string())?;
        }
        let free = memory.counts().free;
        Ok(Self { memory, free })
    }

    fn check_empty(&self) -> Result<(), String> {
        let free = self.memory.counts().free;
        if free != self.free {
            return Err(format!("{} frames were not given back", self.free as i64 - free as i64));
        }
        self.memory.check(&[], &[]).map_err(|violation| format!("after all ended: {violation}"))
    }
}

impl Ours {
    /// Memories of no use yet, with a mistake if `settings` want one.
    pub(super) fn new(settings: Settings) -> Self {
        Self { settings, narrow: None, wide: None }
    }

    fn world(&mut self, window: Window) -> &mut Option<World> {
        if window.pages <= Window::NARROW.pages { &mut self.narrow } else { &mut self.wide }
    }

    /// After a case: whether every frame and promise came back.
    ///
    /// # Errors
    /// What did not, in words.
    pub(super) fn check_empty(&mut self, window: Window) -> Result<(), String> {
        self.world(window).as_ref().map_or(Ok(()), World::check_empty)
    }

    /// Sets a case's first process up.
    ///
    /// # Errors
    /// Why not, in words.
    pub(super) fn start(&mut self, case: &Case, stage: Stage) -> Result<Session<'_>, String> {
        let window = case.window;
        let narrow = window.pages <= Window::NARROW.pages;
        let settings = self.settings;
        let world = self.world(window);
        let world = match world {
            Some(world) => world,
            None => {
                let bytes = if narrow { NARROW_RAM_BYTES } else { WIDE_RAM_BYTES };
                world.insert(World::new(bytes, settings)?)
            }
        };
        let session = Session::new(&world.memory, case, stage);
        let session = session.map_err(|errno| errno.to_string())?;
        Ok(Session { planted: settings.planted, ..session })
    }
}

impl<'a> Session<'a> {
    fn new(memory: &'a Arc<Memory<Machine>>, case: &Case, stage: Stage) -> Result<Self, Errno> {
        let window = case.window;
        let layout = Layout::fixed(Arch::X86_64).with_mmap_base(VirtAddr::new(window.end()));
        let mm = Mm::new(memory, layout)?;
        let brk = VirtAddr::new(case.brk);
        mm.set_layout_fields(ExecLayout { start_brk: brk, brk, ..ExecLayout::default() });
        let file = |number, size| {
            Arc::new(File { mapping: AddressSpace::new_shmem(memory, size), number })
        };
        let mut session = Session {
            memory,
            window,
            stage,
            callers: vec![Caller::ROOT],
            planted: None,
            mapped: 0,
            processes: vec![],
            files: case.files.iter().zip(0..).map(|(&size, number)| file(number, size)).collect(),
            obstacle: file(99, 0),
            counts_at_start: Counts::default(),
        };
        for (start, end) in [(PAGE_SIZE, window.start), (window.end(), TASK_SIZE)] {
            session.occupy(&mm, start, end)?;
        }
        for file in &session.files {
            let mut page = 0;
            while page * PAGE_SIZE + 8 <= file.mapping.size() {
                let bytes = stamp(file.number, page).to_le_bytes();
                file.mapping.write_at(page * PAGE_SIZE, &bytes)?;
                page += 1;
            }
        }
        session.counts_at_start = counts(&mm);
        session.processes.push(Some(mm));
        Ok(session)
    }

    /// What the first process counted before the first step.
    pub(super) fn counts_at_start(&self) -> Counts {
        self.counts_at_start
    }

    fn occupy(&self, mm: &Mm<Machine>, start: u64, end: u64) -> Result<(), Errno> {
        let request = MmapRequest {
            addr: start,
            len: end - start,
            prot: 0,
            flags: MAP_PRIVATE_FIXED_NORESERVE,
            file: Some(Self::for_map(&self.obstacle)),
            offset: 0,
        };
        mm.mmap(&Caller::ROOT, request)?;
        match mm.mseal(VirtAddr::new(start), end - start, 0) {
            Err(Errno::ENOSYS) => Ok(()),
            sealed => sealed,
        }
    }

    fn for_map(file: &Arc<File>) -> FileForMap<Machine> {
        FileForMap {
            file: file.clone(),
            readable: true,
            writable: true,
            noexec: false,
            write_sealed: false,
        }
    }

    /// Makes a step.
    pub(super) fn step(&mut self, step: &Step) -> Report {
        let number = usize::from(step.process);
        let Some(mm) = self.processes.get(number).cloned().flatten() else {
            return Report { outcome: Outcome::Skipped, maps: None, pages: None };
        };
        let outcome = match step.call.kind {
            Kind::Fork => match mm.fork(&self.callers[number]) {
                Ok(child) => {
                    if let Some(planted) = self.planted {
                        planted.after_fork(&mm, &child);
                    }
                    self.callers.push(self.callers[number]);
                    self.processes.push(Some(child));
                    Outcome::Returned(self.processes.len() as i64 - 1)
                }
                Err(errno) => errno_outcome(errno),
            },
            Kind::Exit => {
                if number > 0 {
                    self.processes[number] = None;
                }
                Outcome::Returned(0)
            }
            _ => self
                .planted
                .and_then(|planted| planted.make(self, number, &mm, &step.call))
                .unwrap_or_else(|| self.perform(number, &mm, &step.call)),
        };
        self.report(&mm, &step.call, outcome)
    }

    /// The whole-state check.
    pub(super) fn check(&self) -> Result<(), Violation> {
        let mms: Vec<&Mm<Machine>> = self.processes.iter().flatten().map(Arc::as_ref).collect();
        let files = self.files.iter().chain([&self.obstacle]);
        let files: Vec<_> = files.map(|file| file.mapping.as_ref()).collect();
        self.memory.check(&mms, &files)
    }

    fn report(&self, mm: &Mm<Machine>, call: &Call, outcome: Outcome) -> Report {
        let maps = call.may_change_areas().then(|| text(|out| mm.write_maps(out)));
        let ended = call.kind == Kind::Exit;
        let pages = (self.stage == Stage::Two && !ended).then(|| Box::new(self.pages(mm)));
        Report { outcome, maps, pages }
    }

    fn pages(&self, mm: &Mm<Machine>) -> Pages {
        let window = self.window;
        let mut pagemap = vec![0; window.pages as usize];
        mm.pagemap(window.start >> PAGE_SHIFT, &mut pagemap, ShowFrames::No);
        let mut mincore = vec![NOT_MAPPED; window.pages as usize];
        let maps = text(|out| mm.write_maps(out));
        for area in lines(&maps, window) {
            let (start, end) = (area.start.max(window.start), area.end.min(window.end()));
            let mut resident = Vec::new();
            mm.mincore(VirtAddr::new(start), end - start, &mut resident).expect("mapped");
            let first = ((start - window.start) >> PAGE_SHIFT) as usize;
            mincore[first..first + resident.len()].copy_from_slice(&resident);
        }
        Pages { smaps: text(|out| mm.write_smaps(out)), pagemap, mincore, counts: counts(mm) }
    }

    /// Makes a call other than fork and exit.
    pub(super) fn perform(&mut self, process: usize, mm: &Mm<Machine>, call: &Call) -> Outcome {
        let [a, b, c, d, e, _] = call.args;
        let caller = &self.callers[process];
        let addr = VirtAddr::new(a);
        let done = |result: Result<(), Errno>| result.map(|()| 0);
        let result = match call.kind {
            Kind::Mmap => self.mmap(caller, mm, call),
            Kind::Munmap => done(mm.munmap(addr, b)),
            Kind::Mprotect => done(mm.mprotect(caller, addr, b, c)),
            Kind::Mremap => {
                mm.mremap(caller, addr, b, c, d, VirtAddr::new(e)).map(|at| at.get() as i64)
            }
            Kind::Brk => Ok(mm.brk(caller, addr).get() as i64),
            Kind::Madvise => done(mm.madvise(caller, addr, b, c as i32)),
            Kind::Msync => done(mm.msync(addr, b, c as i32)),
            Kind::Mincore => {
                let mut pages = Vec::new();
                mm.mincore(addr, b, &mut pages).map(|()| {
                    let pages: Vec<u64> = pages.iter().map(|page| u64::from(page & 1)).collect();
                    digest_of(&pages)
                })
            }
            Kind::Mlock => done(mm.mlock(caller, addr, b)),
            Kind::Mlock2 => done(mm.mlock2(caller, addr, b, c as i32)),
            Kind::Munlock => done(mm.munlock(addr, b)),
            Kind::Mlockall => done(mm.mlockall(caller, a as i32)),
            Kind::Munlockall => done(mm.munlockall()),
            Kind::Mseal => done(mm.mseal(addr, b, c)),
            Kind::RemapFilePages => done(mm.remap_file_pages(caller, addr, b, c, d, e)),
            Kind::Read => return accessed(addr, self.load(caller, mm, addr, 1)),
            Kind::Write => {
                let written = mm.write(caller, addr, &[b as u8]);
                return accessed(addr, written.map(|()| 0).map_err(|partial| partial.fault));
            }
            Kind::Sum => return self.sum(caller, mm, addr, b),
            Kind::Truncate => match self.file(a) {
                Some(file) => done(file.mapping.truncate(b)),
                None => Err(Errno::EBADF),
            },
            Kind::FileWrite => match self.file(a) {
                Some(file) => file.mapping.write_at(b, &c.to_le_bytes()).map(|count| count as i64),
                None => Err(Errno::EBADF),
            },
            Kind::FileRead => self.file_read(a, b),
            Kind::RemoteRead => self.remote_read(a, b, c),
            Kind::RemoteWrite => self.remote_write(a, b, c, d as u8),
            Kind::Rlimit => {
                self.set_limit(process, a, b);
                Ok(0)
            }
            Kind::DropIpcLock => {
                self.callers[process].can_lock = false;
                Ok(0)
            }
            Kind::Fork | Kind::Exit => Ok(0),
        };
        result.map_or_else(errno_outcome, Outcome::Returned)
    }

    fn target(&self, number: u64) -> Result<&Arc<Mm<Machine>>, Errno> {
        let target = self.processes.get(number as usize).and_then(Option::as_ref);
        target.ok_or(Errno::ESRCH)
    }

    fn remote_read(&self, target: u64, addr: u64, len: u64) -> Result<i64, Errno> {
        let mut bytes = vec![0; len as usize];
        if len == 0 {
            return Ok(digest_of_bytes(&[]));
        }
        let target = self.target(target)?;
        match target.read_remote(VirtAddr::new(addr), &mut bytes, RemoteRights::AsMapped) {
            0 => Err(Errno::EFAULT),
            count => Ok(digest_of_bytes(&bytes[..count])),
        }
    }

    fn remote_write(&self, target: u64, addr: u64, len: u64, value: u8) -> Result<i64, Errno> {
        let bytes = vec![value; len as usize];
        if len == 0 {
            return Ok(0);
        }
        let target = self.target(target)?;
        match target.write_remote(VirtAddr::new(addr), &bytes, RemoteRights::AsMapped) {
            0 => Err(Errno::EFAULT),
            count => Ok(count as i64),
        }
    }

    fn set_limit(&mut self, process: usize, resource: u64, bytes: u64) {
        let Counts { size, data, .. } = self.counts_at_start;
        let limits = &mut self.callers[process].rlimits;
        match resource {
            RLIMIT_AS => limits.address_space = (size << 10).saturating_add(bytes),
            RLIMIT_DATA => limits.data = (data << 10).saturating_add(bytes),
            RLIMIT_STACK => limits.stack = bytes,
            RLIMIT_MEMLOCK => limits.memlock = bytes,
            _ => {}
        }
    }

    pub(super) fn file(&self, number: u64) -> Option<&Arc<File>> {
        self.files.get(usize::try_from(number).ok()?)
    }

    fn mmap(&self, caller: &Caller, mm: &Mm<Machine>, call: &Call) -> Result<i64, Errno> {
        let [addr, len, prot, flags, number, offset] = call.args;
        const MAP_ANONYMOUS: u64 = 0x20;
        let file = if flags & MAP_ANONYMOUS != 0 {
            None
        } else if offset & (PAGE_SIZE - 1) != 0 {
            // sys_mmap looks at the offset before the descriptor.
            return Err(Errno::EINVAL);
        } else {
            let file = if number == NO_FILE { None } else { self.file(number) };
            Some(Self::for_map(file.ok_or(Errno::EBADF)?))
        };
        let request = MmapRequest { addr, len, prot, flags, file, offset };
        mm.mmap(caller, request).map(|at| at.get() as i64)
    }

    /// Loads up to 8 bytes as one number.
    fn load(
        &self,
        caller: &Caller,
        mm: &Mm<Machine>,
        addr: VirtAddr,
        len: usize,
    ) -> Result<u64, Fault> {
        let mut bytes = [0; 8];
        match mm.read(caller, addr, &mut bytes[..len]) {
            Ok(()) => Ok(u64::from_le_bytes(bytes)),
            Err(Partial { fault, .. }) if fault == ACCERR && declared::EXEC_IMPLIES_READ => {
                mm.handle_fault(caller, addr, Access::Exec)?;
                let rights = RemoteRights::Forced;
                let count = mm.read_remote(addr, &mut bytes[..len], rights);
                if count == len { Ok(u64::from_le_bytes(bytes)) } else { Err(fault) }
            }
            Err(Partial { fault, .. }) => Err(fault),
        }
    }

    fn sum(&self, caller: &Caller, mm: &Mm<Machine>, addr: VirtAddr, pages: u64) -> Outcome {
        let mut digest = Digest::default();
        for page in 0..pages {
            let at = VirtAddr::new(addr.get() + page * PAGE_SIZE);
            match self.load(caller, mm, at, 8) {
                Ok(value) => digest.add(value),
                Err(fault) => return accessed(at, Err(fault)),
            }
        }
        Outcome::Returned(digest.value())
    }

    fn file_read(&self, number: u64, offset: u64) -> Result<i64, Errno> {
        let file = self.file(number).ok_or(Errno::EBADF)?;
        let mut bytes = [0; 8];
        let count = file.mapping.read_at(offset, &mut bytes)?;
        Ok(digest_of(&[count as u64, u64::from_le_bytes(bytes)]))
    }
}

fn text(write: impl FnOnce(&mut String) -> std::fmt::Result) -> String {
    let mut text = String::with_capacity(4096);
    write(&mut text).expect("a string takes everything");
    text
}

fn counts(mm: &Mm<Machine>) -> Counts {
    let status = mm.status();
    Counts {
        size: status.vm_size >> 10,
        locked: status.vm_lck >> 10,
        data: status.vm_data >> 10,
        stack: status.vm_stk >> 10,
        exec: (status.vm_exe + status.vm_lib) >> 10,
    }
}

const ACCERR: Fault = Fault::Segv(SegvCode::AccErr);

fn errno_outcome(errno: Errno) -> Outcome {
    Outcome::Returned(-i64::from(errno.number()))
}

/// What an access at `addr` shows a program.
fn accessed(addr: VirtAddr, result: Result<u64, Fault>) -> Outcome {
    let (signo, code) = match result {
        Ok(value) => return Outcome::Returned(value as i64),
        Err(Fault::Segv(SegvCode::MapErr)) => (11, 1),
        Err(Fault::Segv(SegvCode::AccErr)) => (11, 2),
        Err(Fault::Bus | Fault::Userfault(_)) => (7, 2),
        Err(Fault::Poisoned) => (7, 4),
        Err(Fault::Oom) => (9, 0),
    };
    Outcome::Signal { signo, code, addr: addr.get() }
}
