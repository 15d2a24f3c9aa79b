//! The simulated harts and their clocks; running user code on them.
//!
//! Every hart has a clock of its own that goes with the instructions it executes (one nanosecond
//! each) and with what the kernel charges. The scheduler always goes on with the hart that is
//! furthest behind, so the harts advance together, in an order that depends on nothing but the
//! run itself. What tasks see as time never goes back: [`Cpus::now`] is the highest moment shown.
//!
//! A hart that turns to work of the kernel's own, or to nothing, stays on the tables of the task
//! before (Linux `active_mm`, `enter_lazy_tlb`): if that task is next again nothing was switched, and
//! if it ends meanwhile its root table stays until the hart leaves it.

use crate::host::{MachineHost, Mm};
use crate::kernel::Kernel;
use crate::report::SpaceStats;
use crate::task::{Task, add};
use crate::time::Nanos;
use crate::watch::Area;
use kilburn_mm::{FlushReason, FlushScope, Pgd, TlbFlush};
use kilburn_riscv::{Cause, Flush, Hart, HartStats, Space, TimeSource, Translator, Trap};
use std::cell::{Cell, RefCell};
use std::sync::Arc;

/// Instructions a task runs before another gets the hart: 50 us of virtual time.
const SLICE: u64 = 50_000;
/// Virtual nanoseconds in a tick of `rdtime`: a 10 MHz timebase, as qemu's virt machine has.
const NANOS_PER_TICK: u64 = 100;

struct Cpu {
    hart: RefCell<Hart>,
    time: Cell<Nanos>,
    /// The task that ran on it last.
    last: Cell<u32>,
    busy: Cell<Nanos>,
    /// The tables it is on; `None` only before its first task.
    active: RefCell<Option<Arc<Pgd<MachineHost>>>>,
    /// Nobody uses the address space it is on.
    lazy: Cell<bool>,
}

/// All harts of the machine.
pub(crate) struct Cpus {
    cpus: Vec<Cpu>,
    /// The one that runs now.
    current: Cell<usize>,
    slice_left: Cell<u64>,
    shown: Cell<Nanos>,
    idle: Cell<Nanos>,
    switches: Cell<SpaceStats>,
}

impl Cpus {
    /// These harts, all at time 0.
    pub(crate) fn new(harts: Vec<Hart>) -> Self {
        let cpus = harts
            .into_iter()
            .map(|hart| Cpu {
                hart: RefCell::new(hart),
                time: Cell::new(0),
                last: Cell::new(0),
                busy: Cell::new(0),
                active: RefCell::default(),
                lazy: Cell::new(false),
            })
            .collect();
        Self {
            cpus,
            current: Cell::new(0),
            slice_left: Cell::new(0),
            shown: Cell::new(0),
            idle: Cell::new(0),
            switches: Cell::default(),
        }
    }

    /// Number of harts.
    pub(crate) fn count(&self) -> usize {
        self.cpus.len()
    }

    /// The present moment; never less than before.
    pub(crate) fn now(&self) -> Nanos {
        let now = self.shown.get().max(self.cpus[self.current.get()].time.get());
        self.shown.set(now);
        now
    }

    /// Number of the hart that runs now.
    pub(crate) fn current(&self) -> u32 {
        self.current.get() as u32
    }

    /// Gives hart `index` a translator.
    pub(crate) fn set_translator(&self, index: usize, translator: Box<dyn Translator + Send>) {
        self.cpus[index].hart.borrow_mut().set_translator(translator);
    }

    /// Counts of hart `index`.
    pub(crate) fn stats(&self, index: usize) -> HartStats {
        self.cpus[index].hart.borrow().stats()
    }

    /// Time hart `index` was not idle.
    pub(crate) fn busy(&self, index: usize) -> Nanos {
        self.cpus[index].busy.get()
    }

    /// Gives `task` a slice on the hart where it can go on soonest: its last one in doubt.
    /// Answers whether that hart ran another task before.
    pub(crate) fn place(&self, task: &Task) -> bool {
        let allowed = |i: &usize| task.affinity.get() >> i & 1 == 1;
        let available = task.available_at.get();
        let start = |i: usize| self.cpus[i].time.get().max(available);
        let last = task.hart.get().min(self.cpus.len() - 1);
        let chosen = (0..self.cpus.len())
            .filter(allowed)
            .min_by_key(|i| (start(*i), *i != last, *i))
            .unwrap_or(last);
        let cpu = &self.cpus[chosen];
        cpu.time.set(start(chosen));
        self.current.set(chosen);
        self.slice_left.set(SLICE);
        task.hart.set(chosen);
        cpu.last.replace(task.tid()) != task.tid()
    }

    /// The task that ran gives up its hart: it cannot go on anywhere before this moment.
    pub(crate) fn leave(&self, task: &Task) {
        task.available_at.set(self.cpus[self.current.get()].time.get());
    }

    /// Nothing can run: time passes until `moment`.
    pub(crate) fn skip_to(&self, moment: Nanos) {
        let before = self.now();
        self.idle.set(self.idle.get() + moment.saturating_sub(before));
        self.catch_up(moment);
    }

    /// The world's time went on meanwhile: no clock stays behind `moment`.
    pub(crate) fn catch_up(&self, moment: Nanos) {
        for cpu in &self.cpus {
            cpu.time.set(cpu.time.get().max(moment));
        }
    }

    /// Puts the running hart on the tables of `mm` (Linux `switch_mm`).
    pub(crate) fn switch_mm(&self, mm: &Mm) {
        let cpu = &self.cpus[self.current.get()];
        let was_lazy = cpu.lazy.replace(false);
        let stays = cpu.active.borrow().as_ref().is_some_and(|pgd| Arc::ptr_eq(pgd, mm.pgd()));
        if stays && !was_lazy {
            return;
        }
        let mut stats = self.switches.get();
        if stays {
            stats.lazy_kept += 1;
        } else {
            stats.switches += 1;
            let left = cpu.active.replace(Some(Arc::clone(mm.pgd())));
            stats.outlived += u64::from(left.is_some_and(|pgd| pgd.is_lazy()));
        }
        self.switches.set(stats);
    }

    /// The running hart turns to a kernel thread, or idles, on the tables it is on.
    pub(crate) fn enter_lazy_tlb(&self) {
        let cpu = &self.cpus[self.current.get()];
        if cpu.active.borrow().is_some() && !cpu.lazy.replace(true) {
            let stats = self.switches.get();
            self.switches.set(SpaceStats { lazy: stats.lazy + 1, ..stats });
        }
    }

    /// No hart is on any tables any more: the machine ends.
    pub(crate) fn leave_tables(&self) {
        for cpu in &self.cpus {
            drop(cpu.active.take());
        }
    }

    /// Changes of address space.
    pub(crate) fn space_stats(&self) -> SpaceStats {
        self.switches.get()
    }

    fn pass(&self, time: Nanos) {
        let cpu = &self.cpus[self.current.get()];
        cpu.time.set(cpu.time.get() + time);
        cpu.busy.set(cpu.busy.get() + time);
        self.slice_left.set(self.slice_left.get().saturating_sub(time));
    }
}

impl Kernel {
    /// Whether the running task has used up its slice, or a timer is due.
    pub(crate) fn slice_used_up(&self) -> bool {
        self.cpus.slice_left.get() == 0 || self.timers().next().is_some_and(|at| at <= self.now())
    }

    /// Time that the kernel takes on behalf of `task`.
    pub(crate) fn charge(&self, task: &Task, time: Nanos) {
        add(&task.usage.system, time);
        self.cpus.pass(time);
    }

    /// Runs `task`'s user code until something needs the kernel, at most to the end of its slice
    /// or to the next timer.
    pub(crate) fn run_user(&self, task: &Task) -> Trap {
        self.apply_flushes();
        let cpu = &self.cpus.cpus[self.cpus.current.get()];
        let mut budget = self.cpus.slice_left.get();
        if let Some(timer) = self.timers().next() {
            budget = budget.min(timer.saturating_sub(cpu.time.get()));
        }
        let Some((root, asid)) = task.with_mm(|mm| {
            // After exec it is another one than when the hart turned to the task.
            self.cpus.switch_mm(mm);
            (mm.root(), mm.asid())
        }) else {
            unreachable!("a task in user mode has an address space");
        };
        self.tell_watch(task, asid);
        let space = Space { root, format: self.paging, asid };
        let mut hart = cpu.hart.borrow_mut();
        hart.set_time(TimeSource {
            ticks: cpu.time.get() / NANOS_PER_TICK,
            instructions_per_tick: NANOS_PER_TICK,
        });
        let before = hart.stats().instructions;
        let trap = hart.run(&mut task.regs.borrow_mut(), space, budget.max(1));
        let ran = hart.stats().instructions - before;
        drop(hart);
        add(&task.usage.instructions, ran);
        add(&task.usage.user, ran);
        self.cpus.pass(ran);
        trap
    }

    /// Tells who watches what the address space of `task` consists of.
    fn tell_watch(&self, task: &Task, asid: u16) {
        let mut watch = self.watch.borrow_mut();
        let (Some(watch), Some(mm)) = (&mut *watch, task.mm()) else { return };
        let mut areas = Vec::new();
        mm.for_each_area(|range, flags| areas.push(Area { range, flags }));
        watch.enters_user(self.cpus.current(), task.group().tgid(), asid, &areas);
    }

    /// Applies the TLB flushes that the memory manager asked for to every hart.
    pub(crate) fn apply_flushes(&self) {
        for TlbFlush { asid, what, reason } in self.host().take_flushes() {
            for cpu in &self.cpus.cpus {
                let mut hart = cpu.hart.borrow_mut();
                let what = match what {
                    FlushScope::All => Flush::Asid(asid),
                    FlushScope::Range(range) => Flush::Range { asid, range },
                };
                hart.flush_for(what, cause(reason));
            }
        }
    }
}

/// What the translation hardware calls a reason of the memory manager.
fn cause(reason: FlushReason) -> Cause {
    match reason {
        FlushReason::Unmap => Cause::Unmap,
        FlushReason::Protect => Cause::Protect,
        FlushReason::Cow => Cause::Cow,
        FlushReason::Fork => Cause::Fork,
        FlushReason::Move => Cause::Move,
        FlushReason::Truncate => Cause::Truncate,
        FlushReason::Clean => Cause::Clean,
        FlushReason::Reclaim => Cause::Reclaim,
        FlushReason::Exit => Cause::Exit,
        _ => Cause::Other,
    }
}
