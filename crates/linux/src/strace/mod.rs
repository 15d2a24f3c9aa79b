//! `--strace`: each system call and signal as a line, in strace's format.
//!
//! [`Tracer`] writes the lines: `[pid N]` once there is more than one task, `<unfinished ...>` when
//! another task gets in between. [`calls`] says what the arguments of a call are, [`args`] prints
//! them, [`flags`] has the names of bits. What nobody knows how to print is printed as a number.
//!
//! Neighbours: [`crate::task::run`] reports calls, [`crate::signal::deliver`] signals.

mod args;
mod calls;
mod flags;

use crate::config::TraceSink;
use crate::report::ExitStatus;
use crate::sched::{Restart, SysError};
use crate::signal::info::{Payload, SigInfo, code};
use crate::signal::{SigSet, Signal};
use crate::syscall::{Args, SysResult, table};
use crate::task::{Task, Tid};
use calls::{Call, Shown};
use std::cell::{Cell, RefCell};
use std::fmt::Write as _;

/// A call that has begun and not ended.
struct Pending {
    tid: Tid,
    call: Call,
    args: Args,
    /// The line so far, until it is printed.
    text: String,
    /// `<unfinished ...>` was printed.
    interrupted: bool,
}

/// Writes what tasks do.
pub(crate) struct Tracer {
    sink: TraceSink,
    pending: RefCell<Vec<Pending>>,
    /// More than one task was seen: lines say whose they are.
    many: Cell<bool>,
    first: Cell<Tid>,
}

impl Tracer {
    /// A tracer that writes to `sink`.
    pub(crate) fn new(sink: TraceSink) -> Self {
        let (many, first) = (Cell::new(false), Cell::new(0));
        Self { sink, pending: RefCell::default(), many, first }
    }

    /// Prints a whole line of task `tid`, after what others have begun.
    fn line(&self, tid: Tid, text: &str) {
        for pending in self.pending.borrow_mut().iter_mut() {
            if pending.tid != tid && !pending.interrupted {
                pending.interrupted = true;
                self.write(pending.tid, &format!("{} <unfinished ...>", pending.text));
            }
        }
        self.write(tid, text);
    }

    fn write(&self, tid: Tid, text: &str) {
        if self.first.get() == 0 {
            self.first.set(tid);
        }
        self.many.set(self.many.get() || self.first.get() != tid);
        let whose = if self.many.get() { format!("[pid {tid:5}] ") } else { String::new() };
        self.sink.write(format!("{whose}{text}\n").as_bytes());
    }

    /// `task` makes call `number`.
    pub(crate) fn enter(&self, task: &Task, number: u64, args: Args) {
        let call = calls::call(number, table::name(number));
        let mut text = format!("{}(", call.name);
        args::print_entry(task, &call, args, &mut text);
        let pending = Pending { tid: task.tid(), call, args, text, interrupted: false };
        self.pending.borrow_mut().push(pending);
        if matches!(number, 93 | 94) {
            // Nobody comes back to tell what exit answers.
            self.finish(task, "?");
        }
    }

    /// The call of `task` that has begun ends with `result`.
    pub(crate) fn leave(&self, task: &Task, result: &SysResult) {
        let shown = self.shown_result(task);
        let answer = match result {
            Ok(value) => match shown {
                Shown::Number => (*value as i64).to_string(),
                Shown::Address => format!("{value:#x}"),
            },
            Err(SysError::Errno(errno)) => {
                let name = errno.name().unwrap_or("ERRNO");
                format!("-1 {name} ({})", meaning(errno.number()))
            }
            Err(SysError::Restart(restart)) => match restart {
                Restart::Sys => "? ERESTARTSYS (To be restarted if SA_RESTART is set)".into(),
                Restart::NoHand => "? ERESTARTNOHAND (To be restarted if no handler)".into(),
                Restart::NoIntr => "? ERESTARTNOINTR (To be restarted)".into(),
                Restart::Block => "? ERESTART_RESTARTBLOCK (Interrupted by signal)".into(),
            },
        };
        self.print_rest(task, result);
        self.finish(task, &answer);
    }

    fn shown_result(&self, task: &Task) -> Shown {
        let pending = self.pending.borrow();
        let own = pending.iter().find(|pending| pending.tid == task.tid());
        own.map_or(Shown::Number, |own| own.call.result)
    }

    fn print_rest(&self, task: &Task, result: &SysResult) {
        let mut pending = self.pending.borrow_mut();
        let Some(own) = pending.iter_mut().find(|pending| pending.tid == task.tid()) else {
            return;
        };
        if own.interrupted {
            own.text = format!("<... {} resumed>", own.call.name);
        }
        args::print_exit(task, &own.call, own.args, result, &mut own.text);
    }

    fn finish(&self, task: &Task, answer: &str) {
        let mut pending = self.pending.borrow_mut();
        let Some(at) = pending.iter().position(|pending| pending.tid == task.tid()) else { return };
        let own = pending.remove(at);
        drop(pending);
        let text = format!("{})", own.text);
        self.line(task.tid(), &format!("{text:<39} = {answer}"));
    }

    /// `task` has another id now: exec by a thread that is not the leader.
    pub(crate) fn rename(&self, old: Tid, new: Tid) {
        let mut pending = self.pending.borrow_mut();
        // What the leader was doing ended with it.
        pending.retain(|pending| pending.tid != new);
        for own in pending.iter_mut().filter(|pending| pending.tid == old) {
            own.tid = new;
        }
    }

    /// `task` takes a signal.
    pub(crate) fn signal(&self, task: &Task, info: &SigInfo) {
        let name = args::signal_name(info.signal);
        self.line(task.tid(), &format!("--- {name} {} ---", siginfo(info)));
    }

    /// `task` has ended.
    pub(crate) fn exited(&self, tid: Tid, status: ExitStatus) {
        let mut pending = self.pending.borrow_mut();
        if let Some(at) = pending.iter().position(|pending| pending.tid == tid) {
            let own = pending.remove(at);
            if !own.interrupted {
                let text = format!("{} <unfinished ...>) = ?", own.text);
                drop(pending);
                self.line(tid, &text);
            }
        } else {
            drop(pending);
        }
        let name = |number: u8| {
            Signal::new(number.into()).map_or_else(|| number.to_string(), args::signal_name)
        };
        let text = match status {
            ExitStatus::Exited(code) => format!("exited with {code}"),
            ExitStatus::Killed(number) => format!("killed by {}", name(number)),
            ExitStatus::Dumped(number) => format!("killed by {} (core dumped)", name(number)),
        };
        self.line(tid, &format!("+++ {text} +++"));
    }
}

/// What an errno means, as strace says it: in the C library's words.
fn meaning(number: u16) -> String {
    let text = std::io::Error::from_raw_os_error(number.into()).to_string();
    text.rsplit_once(" (os error").map_or(text.clone(), |(words, _)| words.to_owned())
}

/// `{si_signo=..., si_code=..., ...}`
fn siginfo(info: &SigInfo) -> String {
    let mut text = format!("{{si_signo={}, ", args::signal_name(info.signal));
    let name = code_name(info);
    let _ = match name {
        Some(name) => write!(text, "si_code={name}"),
        None => write!(text, "si_code={}", info.code),
    };
    let _ = match info.payload {
        Payload::Sender { pid: 0, uid: 0 } if info.code == code::SI_KERNEL => Ok(()),
        Payload::Sender { pid, uid } => write!(text, ", si_pid={pid}, si_uid={uid}"),
        Payload::Fault { addr: 0 } => write!(text, ", si_addr=NULL"),
        Payload::Fault { addr } => write!(text, ", si_addr={addr:#x}"),
        Payload::Child { pid, uid, status, utime, stime } => {
            let status = match info.code {
                code::CLD_EXITED => status.to_string(),
                _ => Signal::new(status).map_or_else(|| status.to_string(), args::signal_name),
            };
            write!(
                text,
                ", si_pid={pid}, si_uid={uid}, si_status={status}, si_utime={utime}, si_stime={stime}"
            )
        }
        Payload::Timer { id, overrun, value } => {
            let int = value as i32;
            write!(
                text,
                ", si_timerid={id:#x}, si_overrun={overrun}, si_value={{int={int}, ptr={value:#x}}}"
            )
        }
        Payload::Raw { rest, .. } => {
            let word = |at: usize| {
                u32::from_le_bytes([rest[at], rest[at + 1], rest[at + 2], rest[at + 3]])
            };
            let (int, high) = (word(8), u64::from(word(12)));
            let pointer = high << 32 | u64::from(int);
            let (pid, uid, int) = (word(0), word(4), int as i32);
            write!(text, ", si_pid={pid}, si_uid={uid}, si_value={{int={int}, ptr={pointer:#x}}}")
        }
    };
    text.push('}');
    text
}

fn code_name(info: &SigInfo) -> Option<&'static str> {
    Some(match (info.signal, info.code) {
        (_, code::SI_USER) => "SI_USER",
        (_, code::SI_KERNEL) => "SI_KERNEL",
        (_, -1) => "SI_QUEUE",
        (_, code::SI_TIMER) => "SI_TIMER",
        (_, code::SI_TKILL) => "SI_TKILL",
        (Signal::SIGSEGV, code::SEGV_MAPERR) => "SEGV_MAPERR",
        (Signal::SIGSEGV, code::SEGV_ACCERR) => "SEGV_ACCERR",
        (Signal::SIGBUS, code::BUS_ADRALN) => "BUS_ADRALN",
        (Signal::SIGBUS, code::BUS_ADRERR) => "BUS_ADRERR",
        (Signal::SIGILL, code::ILL_ILLOPC) => "ILL_ILLOPC",
        (Signal::SIGTRAP, code::TRAP_BRKPT) => "TRAP_BRKPT",
        (Signal::SIGCHLD, code::CLD_EXITED) => "CLD_EXITED",
        (Signal::SIGCHLD, code::CLD_KILLED) => "CLD_KILLED",
        (Signal::SIGCHLD, code::CLD_DUMPED) => "CLD_DUMPED",
        (Signal::SIGCHLD, code::CLD_STOPPED) => "CLD_STOPPED",
        (Signal::SIGCHLD, code::CLD_CONTINUED) => "CLD_CONTINUED",
        _ => return None,
    })
}

/// The signals of `set` as strace writes them: `[HUP INT]`, `~[KILL STOP]`, `[]`.
fn sigset(set: SigSet) -> String {
    let all = (1..=i32::from(Signal::MAX)).filter_map(Signal::new);
    let inverted = set.bits().count_ones() > 32;
    let names: Vec<String> = all
        .filter(|signal| set.contains(*signal) != inverted)
        .map(|signal| args::signal_name(signal).trim_start_matches("SIG").to_owned())
        .collect();
    format!("{}[{}]", if inverted { "~" } else { "" }, names.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_of_more_than_half_are_written_by_what_is_missing() {
        assert_eq!(sigset(SigSet::of(&[Signal::SIGHUP, Signal::SIGCHLD])), "[HUP CHLD]");
        assert_eq!(sigset(SigSet::ALL.without(Signal::SIGKILL)), "~[KILL]");
        assert_eq!(sigset(SigSet::EMPTY), "[]");
    }

    #[test]
    fn a_signal_s_circumstances_are_named() {
        let fault = SigInfo::fault(Signal::SIGSEGV, code::SEGV_MAPERR, 0x10);
        assert_eq!(siginfo(&fault), "{si_signo=SIGSEGV, si_code=SEGV_MAPERR, si_addr=0x10}");
        let payload = Payload::Child { pid: 7, uid: 0, status: 3, utime: 0, stime: 0 };
        let child = SigInfo { signal: Signal::SIGCHLD, code: code::CLD_EXITED, payload };
        assert_eq!(
            siginfo(&child),
            "{si_signo=SIGCHLD, si_code=CLD_EXITED, si_pid=7, si_uid=0, si_status=3, si_utime=0, \
             si_stime=0}"
        );
    }
}
