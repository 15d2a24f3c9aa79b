//! epoll: a set of files to wait for, as a file.
//!
//! An [`Epoll`] keeps its items by descriptor; what is ready is looked up when somebody asks, from
//! the files' own poll. An edge-triggered item is reported again only after its file's wait queue
//! was woken once more ([`WaitQueue::sequence`]). An item goes when its file is closed for good:
//! it holds the open file weakly. Source: Linux 6.18 fs/eventpoll.c. Neighbours: the waiting is in
//! `syscall/fs/epoll.rs`.

use crate::fs::fd_table::Fd;
use crate::fs::file::{FileOps, OpenFile, PollEvents};
use crate::sched::wait::WaitQueue;
use bitflags::bitflags;
use kilburn_addr::Errno;
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::{Rc, Weak};

/// Deepest nesting of epoll files in one another.
const DEPTH_MAX: usize = 4;

bitflags! {
    /// How an item is reported.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub(crate) struct Mode: u32 {
        /// `EPOLLEXCLUSIVE`
        const EXCLUSIVE = 1 << 28;
        /// `EPOLLWAKEUP`: nothing to keep awake here.
        const WAKEUP = 1 << 29;
        /// `EPOLLONESHOT`
        const ONESHOT = 1 << 30;
        /// `EPOLLET`
        const EDGE = 1 << 31;
    }
}

/// What is asked of an item, and what the program wants back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Interest {
    /// Events.
    pub(crate) events: PollEvents,
    /// How they are reported.
    pub(crate) mode: Mode,
    /// The program's own word.
    pub(crate) data: u64,
}

impl Interest {
    /// From `epoll_event`'s fields.
    pub(crate) fn new(events: u32, data: u64) -> Self {
        let always = PollEvents::ERR | PollEvents::HUP;
        Self {
            events: PollEvents::from_bits_truncate(events) | always,
            mode: Mode::from_bits_truncate(events),
            data,
        }
    }
}

struct Item {
    file: Weak<OpenFile>,
    interest: Cell<Interest>,
    /// The file's wake-ups when it was last reported.
    seen: Cell<Option<u64>>,
    /// A reported `EPOLLONESHOT` item.
    disarmed: Cell<bool>,
    /// When it was last reported; those reported longest ago come first.
    turn: Cell<u64>,
}

/// An event to report.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Ready {
    /// Which events.
    pub(crate) events: u32,
    /// The program's own word.
    pub(crate) data: u64,
}

/// A set of files to wait for.
#[derive(Default)]
pub(crate) struct Epoll {
    items: RefCell<BTreeMap<(Fd, usize), Item>>,
    next_turn: Cell<u64>,
    /// Woken when items change.
    queue: WaitQueue,
}

fn key(fd: Fd, file: &Rc<OpenFile>) -> (Fd, usize) {
    (fd, Rc::as_ptr(file) as usize)
}

impl Epoll {
    /// `EPOLL_CTL_ADD`.
    ///
    /// # Errors
    /// EEXIST; EPERM for files that cannot be waited for; ELOOP for circles.
    pub(crate) fn add(&self, fd: Fd, file: &Rc<OpenFile>, interest: Interest) -> Result<(), Errno> {
        if !file.ops().can_epoll() {
            return Err(Errno::EPERM);
        }
        if let Some(other) = file.ops_as::<Self>() {
            if std::ptr::eq(other, self) {
                return Err(Errno::EINVAL);
            }
            if other.reaches(self, 0)? {
                return Err(Errno::ELOOP);
            }
        }
        self.forget_closed();
        let mut items = self.items.borrow_mut();
        if items.contains_key(&key(fd, file)) {
            return Err(Errno::EEXIST);
        }
        let turn = self.next_turn.get();
        self.next_turn.set(turn + 1);
        let item = Item {
            file: Rc::downgrade(file),
            interest: Cell::new(interest),
            seen: Cell::new(None),
            disarmed: Cell::new(false),
            turn: Cell::new(turn),
        };
        items.insert(key(fd, file), item);
        drop(items);
        self.queue.wake_all();
        Ok(())
    }

    /// `EPOLL_CTL_MOD`.
    ///
    /// # Errors
    /// ENOENT; EINVAL for exclusive items.
    pub(crate) fn modify(
        &self,
        fd: Fd,
        file: &Rc<OpenFile>,
        interest: Interest,
    ) -> Result<(), Errno> {
        let items = self.items.borrow();
        let item = items.get(&key(fd, file)).ok_or(Errno::ENOENT)?;
        if item.interest.get().mode.contains(Mode::EXCLUSIVE) {
            return Err(Errno::EINVAL);
        }
        item.interest.set(interest);
        item.seen.set(None);
        item.disarmed.set(false);
        drop(items);
        self.queue.wake_all();
        Ok(())
    }

    /// `EPOLL_CTL_DEL`.
    ///
    /// # Errors
    /// ENOENT.
    pub(crate) fn remove(&self, fd: Fd, file: &Rc<OpenFile>) -> Result<(), Errno> {
        self.items.borrow_mut().remove(&key(fd, file)).map(drop).ok_or(Errno::ENOENT)
    }

    /// Whether `target` is among the files of this set, or of sets in it.
    fn reaches(&self, target: &Self, depth: usize) -> Result<bool, Errno> {
        if depth > DEPTH_MAX {
            return Err(Errno::ELOOP);
        }
        for file in self.files() {
            if let Some(inner) = file.ops_as::<Self>()
                && (std::ptr::eq(inner, target) || inner.reaches(target, depth + 1)?)
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn files(&self) -> Vec<Rc<OpenFile>> {
        self.items.borrow().values().filter_map(|item| item.file.upgrade()).collect()
    }

    fn forget_closed(&self) {
        self.items.borrow_mut().retain(|_, item| item.file.strong_count() > 0);
    }

    /// All queues whose wake-up may make something ready, this set's own first.
    pub(crate) fn queues(&self) -> Vec<WaitQueue> {
        let mut queues = vec![self.queue.clone()];
        for file in self.files() {
            match file.ops_as::<Self>() {
                Some(inner) => queues.extend(inner.queues()),
                None => queues.extend(file.ops().wait_queue()),
            }
        }
        queues
    }

    /// What is ready now, at most `max`, in fair order. Reported items count as reported.
    pub(crate) fn take_ready(&self, max: usize) -> Vec<Ready> {
        self.forget_closed();
        let items = self.items.borrow();
        let mut by_turn: Vec<_> = items.values().collect();
        by_turn.sort_by_key(|item| item.turn.get());
        let mut ready = Vec::new();
        for item in by_turn {
            if ready.len() == max {
                break;
            }
            let Some((events, sequence)) = item.ready() else { continue };
            let interest = item.interest.get();
            ready.push(Ready { events: events.bits(), data: interest.data });
            if interest.mode.contains(Mode::ONESHOT) {
                item.disarmed.set(true);
            }
            if interest.mode.contains(Mode::EDGE) {
                item.seen.set(Some(sequence));
            }
            item.turn.set(self.next_turn.get());
            self.next_turn.set(self.next_turn.get() + 1);
        }
        ready
    }
}

impl Item {
    /// The events to report and the file's wake-ups so far; `None`: nothing to report.
    fn ready(&self) -> Option<(PollEvents, u64)> {
        if self.disarmed.get() {
            return None;
        }
        let file = self.file.upgrade()?;
        let interest = self.interest.get();
        let sequence = file.ops().wait_queue().map_or(0, |queue| queue.sequence());
        if interest.mode.contains(Mode::EDGE) && self.seen.get() == Some(sequence) {
            return None;
        }
        let events = file.ops().poll(&file) & interest.events;
        (!events.is_empty()).then_some((events, sequence))
    }
}

impl FileOps for Epoll {
    fn is_stream(&self) -> bool {
        true
    }

    fn poll(&self, _file: &OpenFile) -> PollEvents {
        let any = self.items.borrow().values().any(|item| item.ready().is_some());
        if any { PollEvents::READABLE } else { PollEvents::empty() }
    }

    fn wait_queue(&self) -> Option<WaitQueue> {
        Some(self.queue.clone())
    }

    fn wait_queues(&self) -> Vec<WaitQueue> {
        self.queues()
    }

    fn fdinfo(&self) -> String {
        let items = self.items.borrow();
        let line = |((fd, _), item): (&(Fd, usize), &Item)| {
            let interest = item.interest.get();
            let events = interest.events.bits() | interest.mode.bits();
            format!("tfd: {fd:8} events: {events:8x} data: {:16x}\n", interest.data)
        };
        items.iter().map(line).collect()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
