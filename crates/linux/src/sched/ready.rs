//! The queue of tasks that can run, and the handle that puts a task into it.
//!
//! Both are `Send + Sync`, so that whatever a task waits for may hold them. Order is FIFO by time
//! of waking: part of what makes runs repeat.

use crate::task::Tid;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// Tasks that can run, first come first served.
#[derive(Debug, Default)]
pub(crate) struct ReadyQueue(Mutex<VecDeque<Arc<TaskWaker>>>);

impl ReadyQueue {
    /// Takes the first task out.
    pub(crate) fn pop(&self) -> Option<Arc<TaskWaker>> {
        let first = self.0.lock().pop_front()?;
        first.queued.store(false, Ordering::Relaxed);
        Some(first)
    }

    /// How many tasks can run.
    pub(crate) fn len(&self) -> usize {
        self.0.lock().len()
    }

    /// Whether no task can run.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.lock().is_empty()
    }
}

/// Makes one task runnable; harmless when it already is.
#[derive(Debug)]
pub(crate) struct TaskWaker {
    tid: AtomicU32,
    queued: AtomicBool,
    ready: Arc<ReadyQueue>,
}

impl TaskWaker {
    /// The waker of task `tid`, which is not queued yet.
    pub(crate) fn new(tid: Tid, ready: &Arc<ReadyQueue>) -> Arc<Self> {
        let tid = AtomicU32::new(tid);
        Arc::new(Self { tid, queued: AtomicBool::new(false), ready: Arc::clone(ready) })
    }

    /// Appends the task to the ready queue unless it stands there.
    pub(crate) fn wake(self: &Arc<Self>) {
        if !self.queued.swap(true, Ordering::Relaxed) {
            self.ready.0.lock().push_back(Arc::clone(self));
        }
    }

    /// The task's id now.
    pub(crate) fn tid(&self) -> Tid {
        self.tid.load(Ordering::Relaxed)
    }

    /// The task has another id from now on: exec by a thread that is not the leader.
    pub(crate) fn rename(&self, tid: Tid) {
        self.tid.store(tid, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_run_in_order_of_waking_and_stand_in_the_queue_once() {
        let ready = Arc::<ReadyQueue>::default();
        let [a, b] = [7, 3].map(|tid| TaskWaker::new(tid, &ready));
        a.wake();
        b.wake();
        a.wake();
        assert_eq!(ready.pop().map(|waker| waker.tid()), Some(7));
        a.wake();
        assert_eq!(ready.pop().map(|waker| waker.tid()), Some(3));
        b.rename(9);
        assert_eq!(ready.pop().map(|waker| waker.tid()), Some(7));
        assert!(ready.is_empty());
        b.wake();
        assert_eq!(ready.pop().map(|waker| waker.tid()), Some(9));
    }
}
