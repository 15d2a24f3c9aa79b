//! A hart's hardware model that also writes down what it saw.
//!
//! Every access is written. What the tables said is written when it is news: before an access, the entry that a walk would
//! find is compared with what a replay knows, unless nothing has changed since the page was last looked at (no flush, and the
//! rights were enough). So a replay with any TLB finds the entries this run's would have found.

use crate::areas::{Area, changes};
use crate::event::Event;
use crate::native::{Header, Writer};
use kilburn_addr::{Access, PAGE_SHIFT, VirtAddr};
use kilburn_mmu::model::config::AdUpdate;
use kilburn_mmu::{Cause, Flush, Mapping, Model, Space, Translator};
use kilburn_paging::hardware::{Step, WalkStart, descend};
use kilburn_paging::walk::WalkFault;
use kilburn_paging::{Format as _, LeafFlags, PhysMem};
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::io::{self, Write};
use std::sync::Arc;

/// A model that its maker keeps a hand on.
#[derive(Clone)]
pub struct SharedModel(pub Arc<Mutex<Model>>);

impl Translator for SharedModel {
    fn access(
        &mut self,
        mem: &dyn PhysMem,
        space: Space,
        va: VirtAddr,
        access: Access,
    ) -> Result<Mapping, WalkFault> {
        Translator::access(&mut *self.0.lock(), mem, space, va, access)
    }

    fn retire(&mut self, instructions: u64) {
        self.0.lock().retire(instructions);
    }

    fn flush(&mut self, what: Flush, cause: Cause) {
        Translator::flush(&mut *self.0.lock(), what, cause);
    }
}

/// What a replay's tables hold for a page.
#[derive(Clone, Copy)]
struct Known {
    level: u8,
    pfn: u64,
    flags: LeafFlags,
    /// Nothing has changed since it was looked at.
    is_fresh: bool,
}

/// What the trace has said of a space.
#[derive(Clone, Default)]
struct KnownSpace {
    pid: Option<u32>,
    areas: Vec<Area>,
}

/// A trace in the making; shared by the recorders of all harts.
pub struct Recording<W: Write> {
    writer: Writer<W>,
    ad_update: AdUpdate,
    known: HashMap<(u16, u64), Known>,
    hart: u32,
    space: Option<(u32, u16)>,
    spaces: BTreeMap<u16, KnownSpace>,
    /// The first failure of writing; nothing is written after it.
    failed: Option<io::Error>,
}

impl<W: Write> Recording<W> {
    /// A trace into `output`.
    ///
    /// # Errors
    /// Those of `output`.
    pub fn new(output: W, header: Header) -> io::Result<Arc<Mutex<Self>>> {
        let writer = Writer::new(output, header)?;
        let (known, spaces) = (HashMap::new(), BTreeMap::new());
        let ad_update = header.ad_update;
        let recording =
            Self { writer, ad_update, known, hart: 0, space: None, spaces, failed: None };
        Ok(Arc::new(Mutex::new(recording)))
    }

    /// Ends the trace; answers the output and its number of records.
    ///
    /// # Errors
    /// The first failure of writing.
    pub fn finish(self) -> io::Result<(W, u64)> {
        match self.failed {
            Some(error) => Err(error),
            None => self.writer.finish(),
        }
    }

    fn write(&mut self, event: &Event) {
        if self.failed.is_none() {
            self.failed = self.writer.write(event).err();
        }
    }

    fn on_hart(&mut self, hart: u32) {
        if self.hart != hart {
            self.hart = hart;
            self.write(&Event::Hart(hart));
        }
    }

    fn in_space(&mut self, hart: u32, asid: u16) {
        self.on_hart(hart);
        if self.space != Some((hart, asid)) {
            self.space = Some((hart, asid));
            self.write(&Event::Space(asid));
        }
    }

    /// Process `pid` is about to run on `hart` in the space `asid`, which consists of `areas`.
    pub fn enters_user(&mut self, hart: u32, pid: u32, asid: u16, areas: &[Area]) {
        let known = self.spaces.entry(asid).or_default();
        let is_new = known.pid.replace(pid) != Some(pid);
        if !is_new && known.areas == areas {
            return;
        }
        let changed = changes(&known.areas, areas);
        known.areas = areas.to_vec();
        self.in_space(hart, asid);
        if is_new {
            self.write(&Event::Process { pid });
        }
        changed.iter().for_each(|event| self.write(event));
    }

    /// A task on `hart` made `child`, a copy of `parent`.
    pub fn forked(&mut self, hart: u32, parent: u16, child: u16) {
        self.in_space(hart, parent);
        self.write(&Event::Fork { child });
        let areas = self.spaces.get(&parent).map(|known| known.areas.clone()).unwrap_or_default();
        self.spaces.insert(child, KnownSpace { pid: None, areas });
    }

    /// Says what the tables hold for `va`, if that is news.
    fn look(&mut self, mem: &dyn PhysMem, space: Space, va: VirtAddr, access: Access) {
        let key = (space.asid, va.vpn());
        let enough = |known: &Known| {
            known.flags.contains(LeafFlags::ACCESSED)
                && known.flags.permits(access)
                && (access != Access::Write || known.flags.contains(LeafFlags::DIRTY))
        };
        let known = self.known.get(&key).copied();
        if known.is_some_and(|known| known.is_fresh && enough(&known)) {
            return;
        }
        let format = space.format;
        if !format.is_canonical(va) {
            return;
        }
        let mut last = 0;
        let start = WalkStart::root(format, space.root);
        match descend(mem, format, start, va, |step: &Step| last = step.level) {
            Ok(found) => {
                let (level, pfn) = (found.step.level, found.leaf.pfn.get());
                let flags = found.leaf.flags;
                let same =
                    |known: Known| (known.level, known.pfn, known.flags) == (level, pfn, flags);
                if !known.is_some_and(same) {
                    let shift = format.span_shift(level);
                    let va = VirtAddr::new(va.get() >> shift << shift);
                    self.write(&Event::Map { va, level, pfn, flags });
                }
                // A walk that permits the access leaves A (and D) set, here and in a replay; where that is left to software,
                // what software did is seen when the access comes again.
                let mut flags = flags;
                if self.ad_update == AdUpdate::Hardware
                    && flags.contains(LeafFlags::USER)
                    && flags.permits(access)
                {
                    flags |= LeafFlags::ACCESSED;
                    flags.set(
                        LeafFlags::DIRTY,
                        flags.contains(LeafFlags::DIRTY) || access == Access::Write,
                    );
                }
                self.known.insert(key, Known { level, pfn, flags, is_fresh: true });
            }
            Err(_) => {
                self.write(&Event::Fault { va, level: last });
                self.forget_below(space.asid, va, format.span_shift(last));
            }
        }
    }

    /// A replay has no page left in the span of `va`.
    fn forget_below(&mut self, asid: u16, va: VirtAddr, shift: u32) {
        let first = va.get() >> shift << (shift - PAGE_SHIFT);
        let pages = 1_u64 << (shift - PAGE_SHIFT);
        if pages as usize <= self.known.len() {
            for vpn in first..first + pages {
                self.known.remove(&(asid, vpn));
            }
        } else {
            let span = first..first + pages;
            self.known.retain(|(space, vpn), _| *space != asid || !span.contains(vpn));
        }
    }

    fn access(&mut self, mem: &dyn PhysMem, hart: u32, space: Space, va: VirtAddr, access: Access) {
        self.in_space(hart, space.asid);
        self.look(mem, space, va, access);
        self.write(&Event::Access { access, va, size: 0 });
    }

    fn flush(&mut self, hart: u32, what: Flush, cause: Cause) {
        if let (Flush::Asid(asid), Cause::Exit) = (what, cause)
            && self.spaces.remove(&asid).is_some()
        {
            self.in_space(hart, asid);
            self.write(&Event::Exit);
        }
        self.on_hart(hart);
        self.write(&Event::Flush { what, cause });
        match what {
            Flush::All => self.known.values_mut().for_each(|known| known.is_fresh = false),
            Flush::Asid(asid) if cause == Cause::Exit => {
                self.known.retain(|(space, _), _| *space != asid);
                // The replay's next space of this number begins empty.
                self.space = None;
            }
            Flush::Asid(asid) => {
                let of_space = self.known.iter_mut().filter(|((space, _), _)| *space == asid);
                of_space.for_each(|(_, known)| known.is_fresh = false);
            }
            Flush::Range { range, .. } if range.is_empty() => (),
            Flush::Range { asid, range } => {
                let (first, last) = (range.start().vpn(), (range.end().get() - 1) >> PAGE_SHIFT);
                if last - first < self.known.len() as u64 {
                    for vpn in first..=last {
                        if let Some(known) = self.known.get_mut(&(asid, vpn)) {
                            known.is_fresh = false;
                        }
                    }
                } else {
                    for ((space, vpn), known) in &mut self.known {
                        if *space == asid && (first..=last).contains(vpn) {
                            known.is_fresh = false;
                        }
                    }
                }
            }
        }
    }
}

/// One hart's model and the recording it writes to.
pub struct Recorder<W: Write> {
    hart: u32,
    recording: Arc<Mutex<Recording<W>>>,
    inner: SharedModel,
}

impl<W: Write> Recorder<W> {
    /// Hart `hart`, which `inner` models, writes to `recording`.
    pub fn new(hart: u32, recording: Arc<Mutex<Recording<W>>>, inner: SharedModel) -> Self {
        Self { hart, recording, inner }
    }
}

impl<W: Write + Send> Translator for Recorder<W> {
    fn access(
        &mut self,
        mem: &dyn PhysMem,
        space: Space,
        va: VirtAddr,
        access: Access,
    ) -> Result<Mapping, WalkFault> {
        self.recording.lock().access(mem, self.hart, space, va, access);
        self.inner.access(mem, space, va, access)
    }

    fn retire(&mut self, instructions: u64) {
        let mut recording = self.recording.lock();
        recording.on_hart(self.hart);
        recording.write(&Event::Retire(instructions));
        drop(recording);
        self.inner.retire(instructions);
    }

    fn flush(&mut self, what: Flush, cause: Cause) {
        self.recording.lock().flush(self.hart, what, cause);
        self.inner.flush(what, cause);
    }
}
