//! The state all tasks share.

use crate::sched::ready::ReadyQueue;
use crate::task::{Task, Tid};
use crate::time::{BOOT_REALTIME, Nanos, Timers};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

/// One machine's kernel.
pub(crate) struct Kernel {
    tasks: RefCell<BTreeMap<Tid, Rc<Task>>>,
    ready: Arc<ReadyQueue>,
    timers: Timers,
    clock: Cell<Nanos>,
}

impl Kernel {
    /// `CLOCK_MONOTONIC`.
    pub(crate) fn now(&self) -> Nanos {
        self.clock.get()
    }

    /// `CLOCK_REALTIME`.
    pub(crate) fn realtime(&self) -> Nanos {
        BOOT_REALTIME + self.now()
    }

    /// Things to do later.
    pub(crate) fn timers(&self) -> &Timers {
        &self.timers
    }

    /// Tasks that can run.
    pub(crate) fn ready(&self) -> &Arc<ReadyQueue> {
        &self.ready
    }

    /// The task with this id, dead leaders of living groups included.
    pub(crate) fn task(&self, tid: Tid) -> Option<Rc<Task>> {
        self.tasks.borrow().get(&tid).cloned()
    }
}
