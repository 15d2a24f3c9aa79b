//! Job control: stopping and resuming a process (Linux `do_signal_stop`, `prepare_signal`).

use crate::sched::wait::{Sleep, WaitSet};
use crate::signal::Signal;
use crate::signal::action::SaFlags;
use crate::signal::info::{Payload, SigInfo, code};
use crate::task::group::{StateChange, StopState};
use crate::task::{Task, ThreadGroup};
use crate::time::to_clock_ticks;
use std::rc::Rc;

impl Task {
    /// A stop signal was taken: the whole process stops.
    pub(crate) fn begin_stop(&self, signal: Signal) {
        let group = self.group();
        if group.stop.get() != StopState::Running || group.group_exit.get().is_some() {
            return;
        }
        group.stop.set(StopState::Stopping(signal));
        for thread in group.living() {
            thread.signal_wake_up();
        }
    }

    /// Sleeps as long as the process is stopped; a killing signal ends it.
    pub(crate) async fn stay_stopped(self: &Rc<Self>) {
        let group = Rc::clone(self.group());
        while self.must_stop() && !self.fatal_signal_pending() {
            group.stopped_threads.set(group.stopped_threads.get() + 1);
            group.notice_stop();
            let mut set = WaitSet::new(self);
            set.add(&group.resumed);
            set.wait(Sleep::Killable, None).await;
            group.stopped_threads.set(group.stopped_threads.get().saturating_sub(1));
        }
        // Whoever continued the process did not wait for the parent to be told.
        if group.tell_continued.take() {
            let status = i32::from(Signal::SIGCONT.number());
            group.notify_parent(code::CLD_CONTINUED, status);
        }
    }
}

impl ThreadGroup {
    /// Tells the parent when the last thread has stopped.
    pub(crate) fn notice_stop(&self) {
        let StopState::Stopping(signal) = self.stop.get() else { return };
        if self.stopped_threads.get() < self.threads.borrow().len() {
            return;
        }
        self.stop.set(StopState::Stopped(signal));
        self.change.set(Some(StateChange::Stopped(signal)));
        self.notify_parent(code::CLD_STOPPED, i32::from(signal.number()));
    }

    /// SIGCONT was sent: stopped threads go on, whatever becomes of the signal itself.
    pub(crate) fn resume(&self) {
        match self.stop.get() {
            StopState::Running => return,
            StopState::Stopping(_) => self.change.set(None),
            StopState::Stopped(_) => {
                self.change.set(Some(StateChange::Continued));
                self.tell_continued.set(true);
            }
        }
        self.stop.set(StopState::Running);
        self.resumed.wake_all();
    }

    fn notify_parent(&self, code: i32, status: i32) {
        let Some(parent) = self.parent() else { return };
        let totals = self.totals();
        let wants = parent.first_thread().is_some_and(|task| {
            !task.sighand().get(Signal::SIGCHLD).flags.contains(SaFlags::NOCLDSTOP)
        });
        if wants {
            let payload = Payload::Child {
                pid: self.tgid(),
                uid: self.uid.get(),
                status,
                utime: to_clock_ticks(totals.user),
                stime: to_clock_ticks(totals.system),
            };
            // SIGCHLD is no real-time signal: the queue limit does not concern it.
            let _ = parent.send(SigInfo { signal: Signal::SIGCHLD, code, payload });
        }
        parent.child_changed.wake_all();
    }
}
