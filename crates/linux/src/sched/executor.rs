//! The scheduler's loop: fire timers, run the next task for a slice, or find something to wait for.

use crate::kernel::Kernel;
use crate::task::Task;
use crate::time::{Nanos, RealClock};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

/// How often an idle machine looks whether somebody asks from outside.
const CONTROL_STEP: Duration = Duration::from_millis(50);

/// Why the loop ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Ended {
    /// The condition it was to run for came true.
    Reached,
    /// Every task waits for another one; names them and what they do.
    Deadlock(String),
}

impl Kernel {
    /// Runs tasks until `reached`.
    pub(crate) fn run_until(self: &Rc<Self>, reached: impl Fn() -> bool) -> Ended {
        loop {
            self.catch_up();
            self.fire_timers();
            if let Some(control) = &self.control {
                control.serve(self);
            }
            self.vfs().network().look_outside();
            self.psi.look(self.now());
            self.wake_kernel_threads();
            if reached() {
                return Ended::Reached;
            }
            match self.ready().pop() {
                Some(waker) => {
                    // A task that ended may have left its waker in the queue, and its id to
                    // another one.
                    let task = self.task(waker.tid());
                    if let Some(task) = task.filter(|task| Arc::ptr_eq(task.waker(), &waker)) {
                        self.run_slice(&task);
                    }
                }
                None => {
                    if !self.wait_for_something() {
                        return Ended::Deadlock(self.describe_tasks());
                    }
                }
            }
        }
    }

    /// Lets no clock be behind the world's, where there is one.
    fn catch_up(&self) {
        if let Some(real) = &self.real {
            self.cpus.catch_up(real.elapsed());
        }
    }

    fn fire_timers(&self) {
        while let Some(action) = self.timers().pop_due(self.now()) {
            action(self);
        }
    }

    fn run_slice(&self, task: &Rc<Task>) {
        let Some(mut coroutine) = task.coroutine.take() else { return };
        if self.cpus.place(task) {
            let switches = &self.counters.context_switches;
            switches.set(switches.get() + 1);
        }
        // One that has given up its address space goes on where the hart is.
        task.with_mm(|mm| self.cpus.switch_mm(mm));
        if task.group().kernel_thread.get().is_some() {
            self.cpus.enter_lazy_tlb();
        }
        self.set_current(task);
        self.memory.host().set_current_memcg(task.group().memcg.get());
        self.psi.note_running(self.now(), self.ready().len() + 1);
        let mut context = Context::from_waker(Waker::noop());
        if coroutine.as_mut().poll(&mut context).is_pending() {
            task.coroutine.replace(Some(coroutine));
        }
        self.psi.note_running(self.now(), self.ready().len());
        self.cpus.leave(task);
    }

    /// No task can run: waits for the host's input or lets time pass to the next timer. Answers
    /// whether there was anything to wait for.
    fn wait_for_something(&self) -> bool {
        self.cpus.enter_lazy_tlb();
        let next = self.timers().next().into_iter().chain(self.psi.next_look()).min();
        let next = next.map(|at| at.min(self.next_flush()));
        if self.vfs().waits_for_host() {
            // What comes in decides: not how long the host takes. A person at a terminal is
            // another matter, and so is the network; there the time to the next timer passes for
            // real.
            let patience = match (next, &self.real) {
                (Some(at), Some(real)) => Some(until(at, real.elapsed())),
                (Some(at), None) if self.vfs().host_takes_its_time() => Some(until(at, self.now())),
                _ => None,
            };
            if self.wait_for_host(patience) {
                return true;
            }
        } else if let (Some(at), Some(real)) = (next, &self.real)
            && !self.sleep_until(at, real)
        {
            return true;
        }
        match next {
            Some(at) => {
                self.cpus.skip_to(at);
                true
            }
            None => false,
        }
    }

    /// Waits for a moment to come in the world, and looks after who asks from outside meanwhile.
    /// Answers whether it came, and no interrupt before it.
    fn sleep_until(&self, moment: Nanos, real: &RealClock) -> bool {
        loop {
            let left = until(moment, real.elapsed());
            if left.is_zero() {
                return true;
            }
            if self.control.as_ref().is_some_and(|control| control.serve(self)) {
                return false;
            }
            real.sleep(if self.control.is_some() { left.min(CONTROL_STEP) } else { left });
        }
    }

    /// Waits for the host's input, at most `patience`, and looks after who asks from outside
    /// meanwhile. Answers whether something came.
    fn wait_for_host(&self, patience: Option<Duration>) -> bool {
        let Some(control) = &self.control else { return self.vfs().host_wait(patience) };
        let mut left = patience;
        loop {
            let step = left.map_or(CONTROL_STEP, |left| left.min(CONTROL_STEP));
            if self.vfs().host_wait(Some(step)) || control.serve(self) {
                return true;
            }
            if let Some(left) = &mut left {
                *left = left.saturating_sub(step);
                if left.is_zero() {
                    return false;
                }
            }
        }
    }

    fn describe_tasks(&self) -> String {
        let mut text = String::new();
        for task in self.all_tasks() {
            if task.group().kernel_thread.get().is_some() {
                continue;
            }
            if !text.is_empty() {
                text.push_str(", ");
            }
            text.push_str(&format!("{} ({})", task.tid(), task.comm_text()));
        }
        text
    }
}

/// From one moment to another.
fn until(moment: Nanos, now: Nanos) -> Duration {
    Duration::from_nanos(moment.saturating_sub(now))
}
