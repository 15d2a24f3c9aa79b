//! The queue of tasks that can run, and the handle that puts a task into it.
//!
//! Both are `Send + Sync`, so that whatever a task waits for may hold them. Order is FIFO by time
//! of waking: part of what makes runs repeat.

use crate::task::Tid;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Tasks that can run, first come first served.
#[derive(Debug, Default)]
pub(crate) struct ReadyQueue(Mutex<VecDeque<Tid>>);

impl ReadyQueue {
    /// Takes the first task out.
    pub(crate) fn pop(&self) -> Option<Tid> {
        self.0.lock().pop_front()
    }

    /// Whether no task can run.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.lock().is_empty()
    }

    /// How many tasks can run.
    pub(crate) fn len(&self) -> usize {
        self.0.lock().len()
    }
}

/// Makes one task runnable; harmless when it already is.
#[derive(Debug)]
pub(crate) struct TaskWaker {
    tid: Tid,
    queued: AtomicBool,
    ready: Arc<ReadyQueue>,
}

impl TaskWaker {
    /// The waker of task `tid`, which is not queued yet.
    pub(crate) fn new(tid: Tid, ready: &Arc<ReadyQueue>) -> Arc<Self> {
        Arc::new(Self { tid, queued: AtomicBool::new(false), ready: Arc::clone(ready) })
    }

    /// Appends the task to the ready queue unless it stands there.
    pub(crate) fn wake(&self) {
        if !self.queued.swap(true, Ordering::Relaxed) {
            self.ready.0.lock().push_back(self.tid);
        }
    }

    /// The task was taken out of the queue: the next wake-up queues it again.
    pub(crate) fn dequeued(&self) {
        self.queued.store(false, Ordering::Relaxed);
    }
}
