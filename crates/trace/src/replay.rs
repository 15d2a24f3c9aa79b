//! Events into models: each hart's hardware, over tables that were recorded or are managed.

use crate::event::{Event, Records, TraceError};
use crate::managed::{Managed, Unresolved};
use crate::open::Source;
use crate::recorded::Recorded;
use kilburn_addr::{Access, Errno, PAGE_SIZE, VirtAddr};
use kilburn_mm::FaultKind;
use kilburn_mmu::model::ModelFault;
use kilburn_mmu::model::config::ConfigError;
use kilburn_mmu::model::explain::ModelExplanation;
use kilburn_mmu::{Cause, Flush, Model, ModelConfig, ModelStats, Translator};
use kilburn_paging::Format as _;
use std::collections::BTreeMap;
use std::ops::ControlFlow;

/// Where translations come from.
pub enum Backing {
    /// The tables of the run that was recorded.
    Recorded(Recorded),
    /// Address spaces of the memory manager.
    Managed(Box<Managed>),
}

/// Why a replay stops.
#[derive(thiserror::Error, Debug)]
pub enum ReplayError {
    /// The trace.
    #[error(transparent)]
    Trace(#[from] TraceError),
    /// A record that the machine cannot follow.
    #[error("record {record}: {why}")]
    Machine {
        /// Which record, counted from 1.
        record: u64,
        /// What the machine lacks.
        why: String,
    },
}

/// Counts of a replay beside the models' own.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ReplayCounts {
    /// Accesses in the trace.
    pub accesses: u64,
    /// Accesses whose address no user program has; left out.
    pub outside: u64,
    /// Accesses that the program was not permitted; a signal in the program.
    pub denied: u64,
    /// Faults that the memory manager resolved, by what resolved them.
    pub faults: BTreeMap<&'static str, u64>,
    /// Events about areas that the memory manager refused.
    pub refused: u64,
}

/// Most harts that a trace may have.
const HARTS_MAX: usize = 1024;

/// A replay under way.
pub struct Replay {
    config: ModelConfig,
    harts: Vec<Hart>,
    hart: usize,
    backing: Backing,
    counts: ReplayCounts,
    /// Processes by their spaces, as far as the trace has named them.
    processes: BTreeMap<u16, u32>,
    /// A fault was announced: the run tried the access again, so the first try is left out where faults are resolved at once.
    announced: Option<VirtAddr>,
}

/// An access at a moment of a trace.
pub struct Moment {
    /// The hart whose hardware is asked.
    pub hart: usize,
    /// The address space.
    pub space: u16,
    /// Its process, if the trace says.
    pub pid: Option<u32>,
    /// Levels of its tables.
    pub levels: u8,
    /// The address.
    pub va: VirtAddr,
    /// Load, store or fetch.
    pub access: Access,
    /// What it meets.
    pub said: ModelExplanation,
}

struct Hart {
    model: Model,
    space: u16,
}

impl Replay {
    /// A replay on hardware of this shape.
    ///
    /// # Errors
    /// [`ConfigError`]
    pub fn new(config: ModelConfig, backing: Backing) -> Result<Self, ConfigError> {
        let harts = vec![Hart { model: Model::new(config.clone())?, space: 0 }];
        let counts = ReplayCounts::default();
        Ok(Self {
            config,
            harts,
            hart: 0,
            backing,
            counts,
            processes: BTreeMap::new(),
            announced: None,
        })
    }

    /// Replays all of `source`, at most `limit` accesses; the counts so far hold even after an error. `progress` is
    /// told now and then how many there were, and may end it.
    ///
    /// # Errors
    /// [`ReplayError`]
    pub fn run(
        &mut self,
        source: &mut Source,
        limit: u64,
        progress: impl FnMut(u64) -> ControlFlow<()>,
    ) -> Result<(), ReplayError> {
        // One loop for each format, so that reading and replaying a record is one piece of code.
        match source {
            Source::Lackey(reader) => self.follow(reader, limit, progress),
            Source::ChampSim(reader) => self.follow(reader, limit, progress),
            Source::Native(reader) => self.follow(&mut **reader, limit, progress),
        }
    }

    fn follow<R: Records>(
        &mut self,
        source: &mut R,
        limit: u64,
        mut progress: impl FnMut(u64) -> ControlFlow<()>,
    ) -> Result<(), ReplayError> {
        const RECORDS: u32 = 1 << 16;
        loop {
            for _ in 0..RECORDS {
                let event = if self.counts.accesses < limit { source.next_event()? } else { None };
                let followed = match event {
                    Some(Event::Access { access, va, size }) => {
                        if R::FETCHES_ARE_INSTRUCTIONS && access == Access::Exec {
                            self.harts[self.hart].model.retire(1);
                        }
                        self.access(access, va, size)
                    }
                    Some(Event::Retire(count)) => {
                        self.harts[self.hart].model.retire(count);
                        Ok(())
                    }
                    Some(other) => self.apply(&other),
                    None => {
                        let _ = progress(self.counts.accesses);
                        return Ok(());
                    }
                };
                followed.map_err(|why| ReplayError::Machine { record: source.record(), why })?;
            }
            if progress(self.counts.accesses).is_break() {
                return Ok(());
            }
        }
    }

    /// Follows one event.
    ///
    /// # Errors
    /// Why it cannot be followed.
    pub fn apply(&mut self, event: &Event) -> Result<(), String> {
        let hart = self.hart;
        match *event {
            Event::Access { access, va, size } => return self.access(access, va, size),
            Event::Retire(count) => self.harts[hart].model.retire(count),
            Event::Hart(number) => return self.switch_hart(number as usize),
            Event::Space(asid) => self.harts[hart].space = asid,
            Event::Flush { what, cause } => {
                if let Backing::Recorded(tables) = &mut self.backing {
                    Translator::flush(&mut self.harts[hart].model, what, cause);
                    if let (Flush::Asid(asid), Cause::Exit) = (what, cause) {
                        tables.end(asid);
                    }
                }
            }
            Event::Map { .. } | Event::Fault { .. } => return self.tables_changed(event),
            Event::Process { pid } => {
                let space = self.harts[hart].space;
                // After exec the process has another space.
                self.processes.retain(|_, known| *known != pid);
                self.processes.insert(space, pid);
            }
            _ => self.areas_changed(event),
        }
        Ok(())
    }

    fn switch_hart(&mut self, number: usize) -> Result<(), String> {
        if number >= HARTS_MAX {
            return Err(format!("hart {number}: at most {HARTS_MAX} are possible"));
        }
        while self.harts.len() <= number {
            let model = Model::new(self.config.clone()).map_err(|error| error.to_string())?;
            self.harts.push(Hart { model, space: 0 });
        }
        self.hart = number;
        Ok(())
    }

    fn tables_changed(&mut self, event: &Event) -> Result<(), String> {
        let space = self.harts[self.hart].space;
        let fits = match (&mut self.backing, *event) {
            (Backing::Recorded(tables), Event::Map { va, level, pfn, flags }) => {
                tables.map(space, va, level, pfn, flags)
            }
            (Backing::Recorded(tables), Event::Fault { va, level }) => {
                tables.clear(space, va, level)
            }
            (Backing::Managed(_), Event::Fault { va, .. }) => {
                self.announced = Some(va);
                true
            }
            _ => true,
        };
        if fits {
            Ok(())
        } else {
            Err("no table has such an entry, or there are more than 2^20 tables".to_owned())
        }
    }

    fn areas_changed(&mut self, event: &Event) {
        let space = self.harts[self.hart].space;
        if *event == Event::Exit {
            self.processes.remove(&space);
        }
        let Backing::Managed(managed) = &mut self.backing else { return };
        let done: Result<(), Errno> = match *event {
            Event::Mmap { va, len, prot, sharing } => managed.mmap(space, (va, len), prot, sharing),
            Event::Munmap { va, len } => managed.munmap(space, va, len),
            Event::Mprotect { va, len, prot } => managed.mprotect(space, va, len, prot),
            Event::Fork { child } => managed.fork(space, child),
            Event::Exec | Event::Exit => {
                managed.end(space);
                Ok(())
            }
            _ => Ok(()),
        };
        self.counts.refused += u64::from(done.is_err());
        self.apply_flushes();
    }

    /// What the memory manager asked for reaches every hart.
    fn apply_flushes(&mut self) {
        let Backing::Managed(managed) = &self.backing else { return };
        for (what, cause) in managed.take_flushes() {
            for hart in &mut self.harts {
                Translator::flush(&mut hart.model, what, cause);
            }
        }
    }

    #[inline(always)]
    fn access(&mut self, access: Access, va: VirtAddr, size: u32) -> Result<(), String> {
        self.counts.accesses += 1;
        let size = u64::from(size.max(1));
        let in_page = PAGE_SIZE - va.page_offset();
        if size <= in_page {
            return self.access_page(access, va, size);
        }
        self.access_two_pages(access, va, in_page, size)
    }

    #[cold]
    fn access_two_pages(
        &mut self,
        access: Access,
        va: VirtAddr,
        in_page: u64,
        size: u64,
    ) -> Result<(), String> {
        self.access_page(access, va, in_page)?;
        let Some(next) = va.checked_add(in_page) else { return Ok(()) };
        self.access_page(access, next, (size - in_page).min(PAGE_SIZE))
    }

    #[inline(always)]
    fn access_page(&mut self, access: Access, va: VirtAddr, size: u64) -> Result<(), String> {
        let hart = &mut self.harts[self.hart];
        match &mut self.backing {
            Backing::Recorded(tables) => {
                let space = tables.hardware(hart.space);
                // A fault is counted by the model; the run's next try is in the trace.
                let done = hart.model.access(tables.mem(), space, va, size, access);
                if done == Err(ModelFault::UsedBits) && tables.mark_used(space.asid, va, access) {
                    let _ = hart.model.access(tables.mem(), space, va, size, access);
                }
                Ok(())
            }
            Backing::Managed(_) => self.access_managed(access, va, size),
        }
    }

    fn access_managed(&mut self, access: Access, va: VirtAddr, size: u64) -> Result<(), String> {
        if self.announced.take() == Some(va) {
            return Ok(());
        }
        let number = self.harts[self.hart].space;
        // A few faults may follow each other: the zero page read, then copied; A, then D.
        for _ in 0..8 {
            let Backing::Managed(managed) = &mut self.backing else { return Ok(()) };
            let space = managed.hardware(number).map_err(|_| no_memory())?;
            let model = &mut self.harts[self.hart].model;
            if model.access(managed.mem(), space, va, size, access).is_ok() {
                return Ok(());
            }
            let resolved = managed.resolve(number, va, access);
            self.apply_flushes();
            match resolved {
                Ok(done) => *self.counts.faults.entry(fault_name(done.kind)).or_default() += 1,
                Err(Unresolved::Outside) => {
                    self.counts.outside += 1;
                    return Ok(());
                }
                Err(Unresolved::Denied) => {
                    self.counts.denied += 1;
                    return Ok(());
                }
                Err(Unresolved::NoMemory) => return Err(no_memory()),
            }
        }
        Err(format!("the access to {va} faults again and again"))
    }

    /// Follows events up to the next access, which is answered but not done; `None` at the end of the trace.
    ///
    /// # Errors
    /// [`ReplayError`]
    pub fn next_access(
        &mut self,
        source: &mut Source,
    ) -> Result<Option<(Access, VirtAddr)>, ReplayError> {
        loop {
            match source.next_event()? {
                None => return Ok(None),
                Some(Event::Access { access, va, .. }) => return Ok(Some((access, va))),
                Some(event) => self
                    .apply(&event)
                    .map_err(|why| ReplayError::Machine { record: source.record(), why })?,
            }
        }
    }

    /// What an access of process `pid` would meet now, on the hart that runs it or else on the one that runs; without a process it is
    /// the one that runs. `None` for a process that the trace has not named, or whose space has ended.
    pub fn explain(&mut self, pid: Option<u32>, va: VirtAddr, access: Access) -> Option<Moment> {
        let space = match pid {
            None => self.harts[self.hart].space,
            Some(pid) => *self.processes.iter().find(|(_, known)| **known == pid)?.0,
        };
        let runs_it = self.harts.iter().position(|hart| hart.space == space);
        let hart = if pid.is_none() { self.hart } else { runs_it.unwrap_or(self.hart) };
        let model = &self.harts[hart].model;
        let (levels, said) = match &mut self.backing {
            Backing::Recorded(tables) => {
                let hardware = tables.hardware(space);
                (hardware.format.levels(), model.explain(tables.mem(), hardware, va, access))
            }
            Backing::Managed(managed) => {
                let hardware = managed.hardware(space).ok()?;
                let levels = hardware.format.levels();
                (levels, model.explain(managed.mem(), hardware, va, access))
            }
        };
        let pid = self.processes.get(&space).copied();
        Some(Moment { hart, space, pid, levels, va, access, said })
    }

    /// Counts beside the models'.
    pub fn counts(&self) -> &ReplayCounts {
        &self.counts
    }

    /// Where translations come from.
    pub fn backing(&self) -> &Backing {
        &self.backing
    }

    /// What each hart's model counted.
    pub fn stats(&self) -> Vec<ModelStats> {
        self.harts.iter().map(|hart| hart.model.stats()).collect()
    }
}

fn no_memory() -> String {
    "the memory is used up (see --memory)".to_owned()
}

/// The figures' name of what resolved a fault.
fn fault_name(kind: FaultKind) -> &'static str {
    match kind {
        FaultKind::DemandZero => "demand_zero",
        FaultKind::ZeroPage => "zero_page",
        FaultKind::CowCopy => "cow_copy",
        FaultKind::CowReuse => "cow_reuse",
        FaultKind::Swap => "swap",
        FaultKind::Spurious => "spurious",
        _ => "other",
    }
}
