//! Looking at a running machine from outside, and interrupting it.
//!
//! A [`Control`] is shared between the thread that runs the machine and others: they ask
//! [`Question`]s, which the machine answers between two slices. Answering changes nothing that the
//! guest could notice. [`Control::interrupt_flag`] is what a terminal's ^C sets: the guest's
//! foreground process group gets SIGINT.
//!
//! Neighbour: `sched::executor` serves it. [`rmap`]: files that are mapped, and the ways back from them.

pub mod rmap;

use crate::kernel::Kernel;
use crate::sched::wait::Sleep;
use crate::signal::{SigInfo, Signal};
use crate::task::ThreadGroup;
use crate::task::group::StopState;
use kilburn_addr::{Access, VirtAddr};
use kilburn_mm::Host as _;
use kilburn_paging::PhysMem;
use kilburn_riscv::Space;
use parking_lot::Mutex;
use rmap::{MappedInfo, Rmap, RmapOf};
use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// What can be asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Question {
    /// All processes and the state of memory.
    Processes,
    /// `/proc/PID/maps` of a process.
    Maps(u32),
    /// `/proc/PID/smaps` of a process.
    Smaps(u32),
    /// What an access of a process would meet.
    Translate {
        /// The process.
        pid: u32,
        /// Where.
        va: VirtAddr,
        /// Load, store or fetch.
        access: Access,
    },
    /// Which files are mapped.
    MappedFiles,
    /// From pages back to areas and processes.
    Rmap(RmapOf),
}

/// An access to be explained, and what its translation lies in.
pub struct Look<'m> {
    /// The guest's RAM.
    pub mem: &'m dyn PhysMem,
    /// The address space.
    pub space: Space,
    /// The hart that the process ran on last.
    pub hart: u32,
    /// The process.
    pub pid: u32,
    /// Where.
    pub va: VirtAddr,
    /// Load, store or fetch.
    pub access: Access,
}

/// Who knows what hardware the harts have, and says what it would do.
pub type Explainer = Box<dyn Fn(&Look<'_>) -> String + Send + Sync>;

/// The answer to a [`Question`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// To [`Question::Processes`].
    Processes(Snapshot),
    /// To [`Question::Maps`] and [`Question::Smaps`]; to [`Question::Translate`] what the [`Explainer`] said.
    Text(String),
    /// Nobody explains accesses here ([`Control::set_explainer`]).
    NoExplainer,
    /// To [`Question::MappedFiles`], by path.
    MappedFiles(Vec<MappedInfo>),
    /// To [`Question::Rmap`].
    Rmap(Box<Rmap>),
    /// There is no such process.
    NoSuchProcess,
    /// No area maps that, or nothing was ever written to it.
    NotMapped,
    /// Several files that are mapped have that path.
    SeveralFiles,
}

/// A machine at one moment.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Snapshot {
    /// Virtual time since the start, in nanoseconds.
    pub virtual_ns: u64,
    /// RAM, in KiB.
    pub memory_kib: u64,
    /// Free RAM, in KiB.
    pub free_kib: u64,
    /// RAM that holds pages of files, in KiB.
    pub cached_kib: u64,
    /// Processes, by id.
    pub processes: Vec<ProcessInfo>,
}

/// A process at one moment.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ProcessInfo {
    /// Process id.
    pub pid: u32,
    /// Process id of the parent.
    pub ppid: u32,
    /// Real user id.
    pub uid: u32,
    /// `R`, `S`, `D`, `T` or `Z`, as ps shows it.
    pub state: char,
    /// Living threads.
    pub threads: usize,
    /// Linux comm.
    pub name: String,
    /// CPU time used, in virtual nanoseconds.
    pub cpu_ns: u64,
    /// Address space, in KiB.
    pub vm_kib: u64,
    /// Resident memory, in KiB.
    pub rss_kib: u64,
    /// Resident memory, each page divided by the number of its mappings, in KiB.
    pub pss_kib: u64,
    /// Faults resolved without waiting for a store.
    pub minor_faults: u64,
    /// Faults that waited for one.
    pub major_faults: u64,
}

struct Asked {
    question: Question,
    reply: SyncSender<Answer>,
}

/// The way into a running machine.
#[derive(Default)]
pub struct Control {
    interrupt: Arc<AtomicBool>,
    has_asked: AtomicBool,
    asked: Mutex<VecDeque<Asked>>,
    explainer: OnceLock<Explainer>,
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Control")
    }
}

impl Control {
    /// A control for one machine.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Set it to send SIGINT to the guest's foreground process group.
    pub fn interrupt_flag(&self) -> &Arc<AtomicBool> {
        &self.interrupt
    }

    /// Lets `explainer` answer [`Question::Translate`]; the first one stays.
    pub fn set_explainer(&self, explainer: Explainer) {
        let _ = self.explainer.set(explainer);
    }

    /// Asks, and waits for the answer; `None` when none comes in time.
    pub fn ask(&self, question: Question, patience: Duration) -> Option<Answer> {
        let (reply, answer) = sync_channel(1);
        self.asked.lock().push_back(Asked { question, reply });
        self.has_asked.store(true, Ordering::Release);
        answer.recv_timeout(patience).ok()
    }

    /// Does what was asked for; answers whether a task may have become runnable.
    pub(crate) fn serve(&self, kernel: &Kernel) -> bool {
        if self.has_asked.swap(false, Ordering::Acquire) {
            let asked = std::mem::take(&mut *self.asked.lock());
            for Asked { question, reply } in asked {
                // Who asked may have lost patience.
                let _ = reply.try_send(self.answer(kernel, question));
            }
        }
        if !self.interrupt.swap(false, Ordering::Acquire) {
            return false;
        }
        interrupt(kernel);
        true
    }
}

impl Control {
    fn answer(&self, kernel: &Kernel, question: Question) -> Answer {
        match question {
            Question::Translate { pid, va, access } => self.explain(kernel, pid, va, access),
            _ => answer(kernel, question),
        }
    }

    fn explain(&self, kernel: &Kernel, pid: u32, va: VirtAddr, access: Access) -> Answer {
        let Some(explainer) = self.explainer.get() else { return Answer::NoExplainer };
        let task = kernel.group(pid).and_then(|group| group.first_thread());
        let Some(task) = task else { return Answer::NoSuchProcess };
        let Some(mm) = task.mm() else { return Answer::NoSuchProcess };
        // What is still to be flushed would be taken for cached.
        kernel.apply_flushes();
        let space = Space { root: mm.root(), format: kernel.paging, asid: mm.asid() };
        let hart = task.hart.get() as u32;
        let mem = kernel.memory.host().mem();
        Answer::Text(explainer(&Look { mem, space, hart, pid, va, access }))
    }
}

/// ^C: SIGINT to the foreground process group, or to the first program's when no terminal has one.
fn interrupt(kernel: &Kernel) {
    let terminal = kernel.vfs().stdio().tty().map_or(0, |tty| tty.foreground());
    let groups = kernel.all_groups();
    let mut programs = groups.iter().filter(|group| group.kernel_thread.get().is_none());
    let mut first = || programs.next().map_or(0, |group| group.pgid.get());
    let pgid = if terminal == 0 { first() } else { terminal };
    for member in kernel.process_group(pgid) {
        // SIGINT is no real-time signal: the queue limit is not its concern.
        let _ = member.send(SigInfo::kernel(Signal::SIGINT));
    }
}

fn answer(kernel: &Kernel, question: Question) -> Answer {
    let mut text = String::new();
    let (pid, smaps) = match question {
        Question::Processes => return Answer::Processes(snapshot(kernel)),
        Question::Maps(pid) => (pid, false),
        Question::Smaps(pid) => (pid, true),
        Question::Translate { .. } => return Answer::NoExplainer,
        Question::MappedFiles => return Answer::MappedFiles(rmap::files(kernel)),
        Question::Rmap(what) => return rmap::of(kernel, &what),
    };
    let task = kernel.group(pid).and_then(|group| group.first_thread());
    let Some(mm) = task.and_then(|task| task.mm()) else { return Answer::NoSuchProcess };
    // Writing to a string cannot fail.
    let _ = if smaps { mm.write_smaps(&mut text) } else { mm.write_maps(&mut text) };
    Answer::Text(text)
}

fn snapshot(kernel: &Kernel) -> Snapshot {
    let counts = kernel.memory.counts();
    let kib = |pages: u64| pages * 4;
    Snapshot {
        virtual_ns: kernel.now(),
        memory_kib: kib(counts.total),
        free_kib: kib(counts.free),
        cached_kib: kib(counts.cached),
        processes: kernel.all_groups().iter().map(|group| process(group)).collect(),
    }
}

fn process(group: &ThreadGroup) -> ProcessInfo {
    let task = group.first_thread();
    let totals = group.totals();
    let mm = task.as_ref().and_then(|task| task.mm());
    let usage = mm.as_ref().map(|mm| mm.usage()).unwrap_or_default();
    let state = match task.as_ref().map(|task| task.sleep.get()) {
        None => 'Z',
        _ if matches!(group.stop.get(), StopState::Stopped(_)) => 'T',
        Some(None) => 'R',
        Some(Some(Sleep::Interruptible)) => 'S',
        Some(Some(Sleep::Killable)) => 'D',
        Some(Some(Sleep::Idle)) => 'I',
    };
    ProcessInfo {
        pid: group.tgid(),
        ppid: group.ppid(),
        uid: task.as_ref().map_or_else(|| group.uid.get(), |task| task.creds().uid),
        state,
        threads: group.threads.borrow().len(),
        name: task.map_or_else(|| group.name.borrow().clone(), |task| task.comm_text()),
        cpu_ns: group.cpu_time(),
        vm_kib: mm.map_or(0, |mm| mm.status().vm_size >> 10),
        rss_kib: usage.rss >> 10,
        pss_kib: usage.pss >> 10,
        minor_faults: totals.minor_faults,
        major_faults: totals.major_faults,
    }
}
